//! SCRIPT DEBUG: scripts under the debugger of [`ringwood_scripting::debugger`].
//!
//! A debugged script runs on a thread of its own with a Lua machine of its own ([`session`]), so that its user may take minutes at a
//! line while the cores go on. The client's core stands between the two: what the client sends goes to the thread as it comes, what the
//! thread says goes to the client, and when the script has ended the client gets its reply and is cut off, as in Redis.
//!
//! - *YES*: the script runs in a keyspace of its own ([`private`]), into which each key is copied by its owner at the script's first touch.
//!   What it writes is nobody's, and goes when it ends. Redis forks for this.
//! - *SYNC*: a transaction holds every core ([`crate::multi::exclusive`]) for as long as the session lasts, and the commands run at
//!   the client's core as those of any script that holds all. Whoever needs a key waits; so it is in Redis.
//!
//! A session's end without its client: in YES the thread ends the script at once; in SYNC the script runs to its end, for what it has written
//! stays.

mod private;
mod protocol;
mod session;

use crate::core::{Control, Core};
use crate::io::ConnId;
use crate::io::world::Waker;
use crate::mailbox::{Inboxes, Ticket, Words};
use crate::multi::{Exec, Queued};
use crate::registry::Entry;
use crate::request::Flow;
use crate::scripts::host::{Reach, ScriptHost};
use crossbeam_channel::{Receiver, Sender};
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_protocol::slot::key_slot;
use ringwood_scripting::Host;
use ringwood_shard::ctx::Args;
use ringwood_shard::keyspace::entry::Parts;
use ringwood_shard::memory::Spent;
use ringwood_shard::watch::Name;
use session::Setup;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// What SCRIPT DEBUG said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    No,
    /// The script's writes go when it ends.
    Yes,
    /// They stay, and everybody waits.
    Sync,
}

/// A client's part.
#[derive(Debug, Default)]
pub struct Debug {
    pub mode: Mode,
    /// A session is under way: where what the client sends goes. The session hears of the client's end by this end's.
    pub input: Option<Sender<Vec<u8>>>,
}

/// From a session to a core.
pub enum Message {
    Output {
        conn: ConnId,
        client: u64,
        bytes: Vec<u8>,
    },
    End {
        client: u64,
        reply: Vec<u8>,
        /// The reply is an error that was not counted yet: its first word.
        failed: Option<String>,
        /// What the thread uses at its end; see [`ringwood_shard::memory`].
        memory: Option<Spent>,
    },
    /// SYNC: runs a command.
    Call {
        client: u64,
        words: Words,
        version: Version,
        read_only: bool,
        to: Sender<Called>,
    },
    /// YES: copies of keys of the receiver.
    Copy {
        names: Vec<Name>,
        to: Sender<Copies>,
    },
    /// YES: the names of all keys of a database; an error's text where there are too many.
    Names {
        client: u64,
        db: usize,
        to: Sender<Names>,
    },
    /// YES: one of the server's own commands that changes nothing.
    Server {
        client: u64,
        words: Words,
        version: Version,
        to: Sender<Called>,
    },
}

/// An error's text where there are too many.
pub type Names = Result<Vec<Box<[u8]>>, String>;
pub type Copies = Vec<(Name, Option<Parts>)>;

/// What became of a command.
pub struct Called {
    reply: Vec<u8>,
    refused: bool,
}

/// A session, at its client's core.
struct Running {
    ticket: Ticket,
    entry: &'static Entry,
    /// What its thread needs; taken when that starts.
    setup: Option<Box<Setup>>,
    db: usize,
    user: Option<Arc<crate::acl::User>>,
    no_memory: bool,
    /// SYNC: it holds every core.
    transaction: Option<u32>,
    /// YES: a transaction for this is under way.
    names: Option<(usize, Sender<Names>)>,
}

/// One core's part.
#[derive(Default)]
pub(crate) struct Debugging {
    /// By client.
    sessions: HashMap<u64, Running>,
    /// Copies that wait for their slots.
    copies: Vec<(Vec<Name>, Sender<Copies>)>,
}

/// A database with more keys is not copied whole.
const KEYS_MAX: i64 = 1_000_000;

/// Sends to cores from threads that are none.
#[derive(Clone)]
pub(crate) struct Post {
    pub inboxes: Arc<Inboxes>,
    pub shared: Arc<crate::core::Shared>,
}

impl Post {
    pub fn send(&self, core: usize, message: Message) {
        self.control(core, Control::Debug(Box::new(message)));
    }
    pub fn control(&self, core: usize, message: Control) {
        self.inboxes.control(core, message);
        if self.inboxes.must_wake(core)
            && let Some(wakers) = self.shared.scripts.wakers.get()
        {
            wakers[core].wake();
        }
    }
}

/// The wakers of all cores; empty in the simulation, which has no threads.
pub type Wakers = OnceLock<Vec<Waker>>;

impl Core {
    /// EVAL and its like of a client that debugs; none for what is not debugged.
    #[cold]
    pub(crate) fn eval_debugged(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        args: Args<'_>,
    ) -> Option<Flow> {
        if !entry.spec.name.starts_with("EVAL") {
            return None;
        }
        if entry.spec.name.starts_with("EVALSHA") {
            if args[1].len() != 40 {
                return None;
            }
            let text = "Please use EVAL instead of EVALSHA for debugging";
            return Some(self.refuse(conn, Some(entry), CommandError::err(text)));
        }
        let client = self.clients.get(conn).expect("looked up by the caller");
        if client.is_waiting() {
            return Some(Flow::Stall);
        }
        if self.shared.scripts.wakers.get().is_none() {
            let error = CommandError::err("there are no threads to debug on");
            return Some(self.refuse(conn, Some(entry), error));
        }
        if self.monitors.any() {
            self.monitor_command(conn, entry, args);
        }
        let ticket = self.ticket(conn);
        let (from_client, input) = crossbeam_channel::unbounded();
        let client = self.clients.get_mut(conn).expect("looked up above");
        client.alone = true;
        client.debug.input = Some(from_client);
        let (mode, db, version) = (client.debug.mode, client.db, client.version);
        let user = client.restricted.then(|| client.user.clone());
        self.stats.called(entry);
        let words = Words::new(args.iter().copied());
        let setup = Setup {
            home: self.id,
            conn,
            client: ticket.client,
            words: words.clone(),
            read_only: entry.spec.name.ends_with("_RO"),
            sync: mode == Mode::Sync,
            db,
            version,
            user: user.clone(),
            no_memory: self.room.is_out(),
            patience_ms: match self.config.busy_reply_threshold {
                0 => 5000,
                ms => ms,
            },
            settings: self.shard.settings.clone(),
            hasher: self.shard.keyspace.hasher().clone(),
            databases: self.shard.keyspace.databases(),
            seed: self.shard.random(),
            registry: self.registry,
            post: Post {
                inboxes: self.mailbox.inboxes(),
                shared: self.shared.clone(),
            },
            input,
        };
        let running = Running {
            ticket,
            entry,
            setup: Some(Box::new(setup)),
            db,
            user,
            no_memory: self.room.is_out(),
            transaction: None,
            names: None,
        };
        self.scripts.debug.sessions.insert(ticket.client, running);
        match mode {
            Mode::Sync => self.hold_for_session(ticket.client, words),
            _ => self.start_session(ticket.client),
        }
        Some(Flow::Next)
    }

    /// Has a transaction hold every core; [`Core::debugged`] goes on then.
    fn hold_for_session(&mut self, client: u64, words: Words) {
        let Some(running) = self.scripts.debug.sessions.get(&client) else {
            return;
        };
        let (ticket, entry) = (running.ticket, running.entry);
        let exec = Exec::of_script(
            Queued::script(entry, words),
            ticket,
            running.db,
            Version::Resp2,
            running.user.clone(),
        );
        self.start_exclusive(ticket, exec);
    }

    fn start_session(&mut self, client: u64) {
        let running = self.scripts.debug.sessions.get_mut(&client);
        let Some(setup) = running.and_then(|r| r.setup.take()) else {
            return;
        };
        let post = setup.post.clone();
        let home = self.id;
        let thread = std::thread::Builder::new().name("script-debugger".to_string());
        if let Err(error) = thread.spawn(move || session::run(&setup)) {
            let text = format!("ERR can't run EVAL in debugging mode: {error}");
            let mut reply = Vec::new();
            Reply::new(&mut reply, Version::Resp2).error(&text);
            let failed = Some("ERR".to_string());
            let memory = None;
            let end = Message::End {
                client,
                reply,
                failed,
                memory,
            };
            post.send(home, end);
        }
    }

    pub(crate) fn is_debugged(&self, client: u64) -> bool {
        self.scripts.debug.sessions.contains_key(&client)
    }
    /// Every core is held for a session. False: until the session has ended.
    pub(crate) fn debugged(&mut self, transaction: u32, client: u64) -> bool {
        let Some(running) = self.scripts.debug.sessions.get_mut(&client) else {
            return true;
        };
        if let Some((db, to)) = running.names.take() {
            let names = self.names_of_all(transaction, db);
            // A session that is gone asks for nothing any more.
            let _ = to.send(names);
            return true;
        }
        running.transaction = Some(transaction);
        self.start_session(client);
        false
    }
    /// The client of a session was gone before every core was held.
    pub(crate) fn debugged_is_gone(&mut self, client: u64) {
        let running = self.scripts.debug.sessions.get_mut(&client);
        if running.is_some_and(|r| r.names.take().is_none()) {
            self.scripts.debug.sessions.remove(&client);
        }
    }

    /// Runs a command over all keys, with every core held.
    fn run_everywhere(&mut self, transaction: u32, db: usize, words: &[&[u8]]) -> Vec<u8> {
        let reach = self.reach_of_all(transaction);
        let mut reply = Vec::new();
        self.acting = None;
        let mut host = ScriptHost::new(self, db, reach);
        host.call(words, Version::Resp2, &mut reply);
        host.finish();
        reply
    }
    fn reach_of_all(&self, transaction: u32) -> Reach {
        match self.cores() {
            1 => Reach::Everything,
            _ => Reach::Held(transaction),
        }
    }
    fn names_of_all(&mut self, transaction: u32, db: usize) -> Names {
        let count = self.run_everywhere(transaction, db, &[b"DBSIZE"]);
        let count = protocol::integer(&count).ok_or("the number of keys is unknown")?;
        if count > KEYS_MAX {
            return Err(format!(
                "{count} keys are too many for a debugging session that has to copy them; SCRIPT DEBUG SYNC copies none"
            ));
        }
        let names = self.run_everywhere(transaction, db, &[b"KEYS", b"*"]);
        protocol::bulks(&names).ok_or_else(|| "the names of keys are unknown".to_string())
    }

    pub(crate) fn debug_message(&mut self, message: Message) {
        match message {
            Message::Output {
                conn,
                client,
                bytes,
            } => {
                let found = self.clients.get_mut(conn).filter(|c| c.id == client);
                if let Some(found) = found {
                    // All that came before is answered: the session's place is the first.
                    found.out.extend_from_slice(&bytes);
                    self.mark_dirty(conn);
                }
            }
            Message::End {
                client,
                reply,
                failed,
                memory,
            } => self.end_session(client, &reply, failed, memory),
            Message::Call {
                client,
                words,
                version,
                read_only,
                to,
            } => {
                let called = self.call_for_session(client, &words, version, read_only);
                if let Some(called) = called {
                    let _ = to.send(called);
                }
            }
            Message::Copy { names, to } => {
                self.scripts.debug.copies.push((names, to));
                self.copy_for_sessions();
            }
            Message::Names { client, db, to } => {
                let Some(running) = self.scripts.debug.sessions.get_mut(&client) else {
                    return;
                };
                running.names = Some((db, to));
                self.hold_for_session(client, Words::new([b"EVAL".as_slice()]));
            }
            Message::Server {
                client,
                words,
                version,
                to,
            } => {
                let Some(running) = self.scripts.debug.sessions.get(&client) else {
                    return;
                };
                let (db, user) = (running.db, running.user.clone());
                self.acting = user;
                let reach = match self.cores() {
                    1 => Reach::Everything,
                    _ => self.reach(std::iter::empty()),
                };
                let mut reply = Vec::new();
                let mut host = ScriptHost::new(self, db, reach);
                host.call(&words.slices(), version, &mut reply);
                let refused = host.was_refused();
                if host.finish().is_some() {
                    reply.clear();
                    let text =
                        "ERR a debugging session cannot ask all shards; SCRIPT DEBUG SYNC can";
                    Reply::new(&mut reply, version).error(text);
                }
                let _ = to.send(Called { reply, refused });
            }
        }
    }

    /// SYNC: every core is held.
    fn call_for_session(
        &mut self,
        client: u64,
        words: &Words,
        version: Version,
        read_only: bool,
    ) -> Option<Called> {
        let running = self.scripts.debug.sessions.get(&client)?;
        let (db, no_memory) = (running.db, running.no_memory);
        let reach = self.reach_of_all(running.transaction?);
        self.acting = running.user.clone();
        self.caller = running.ticket;
        let mut reply = Vec::new();
        let mut host = ScriptHost::new(self, db, reach)
            .reading(read_only)
            .without_memory(no_memory);
        host.call(&words.slices(), version, &mut reply);
        let (refused, db, no_memory) = (host.was_refused(), host.db(), host.lacks_memory());
        host.finish();
        let running = self.scripts.debug.sessions.get_mut(&client)?;
        (running.db, running.no_memory) = (db, no_memory);
        Some(Called { reply, refused })
    }

    /// Makes the copies whose slots nobody holds.
    pub(crate) fn copy_for_sessions(&mut self) {
        let waiting = std::mem::take(&mut self.scripts.debug.copies);
        for (names, to) in waiting {
            if names
                .iter()
                .any(|(_, key)| self.locks.in_use(key_slot(key)))
            {
                self.scripts.debug.copies.push((names, to));
                continue;
            }
            let copy = |name: Name| {
                let parts = self.shard.duplicate(name.0, &name.1);
                (name, parts)
            };
            // A session that is gone asks for nothing any more.
            let _ = to.send(names.into_iter().map(copy).collect());
        }
    }
    pub(crate) fn owes_copies(&self) -> bool {
        !self.scripts.debug.copies.is_empty()
    }

    fn end_session(
        &mut self,
        client: u64,
        reply: &[u8],
        failed: Option<String>,
        memory: Option<Spent>,
    ) {
        if let Some(spent) = memory {
            ringwood_shard::memory::adopt(spent);
        }
        let Some(running) = self.scripts.debug.sessions.remove(&client) else {
            return;
        };
        if let Some(code) = failed {
            self.stats.error_reply(running.entry, &code);
        }
        if let Some(transaction) = running.transaction {
            self.end_exclusive_of_session(transaction);
        }
        let conn = running.ticket.conn;
        if let Some(found) = self.clients.get_mut(conn).filter(|c| c.id == client) {
            found.debug.input = None;
            self.answer_with(running.ticket, reply);
            self.end(conn);
        }
    }
}

/// What the client has sent, for the session.
pub(crate) fn take_input(debug: &Debug, bytes: &[u8]) -> bool {
    let Some(input) = &debug.input else {
        return false;
    };
    // One that has ended has said so, and the client is about to be cut off.
    let _ = input.send(bytes.to_vec());
    true
}

type Input = Receiver<Vec<u8>>;
