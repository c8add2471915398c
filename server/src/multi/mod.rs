//! MULTI, EXEC, WATCH: transactions of a client's choosing.
//!
//! Between MULTI and EXEC commands are queued in the client ([`Multi`]). EXEC plans where they run ([`plan`]) and takes the
//! cheapest way:
//!
//! | keys | way |
//! |---|---|
//! | on this core | run here, one after the other; behind locks if their slots are in use |
//! | on one other core, data commands only | forwarded like any command, run there ([`Core::run_unit`]) |
//! | on several cores, each command's on one | gathered with others like MGET: each owner runs its commands ([`spread`]) |
//! | on several cores, or others' keys are watched | one transaction borrows all keys, then they run here ([`Core::run_exec_borrowed`]) |
//! | all of them (DBSIZE, FLUSHALL, SCAN), or only known on the way (SORT BY) | every core is held, then step by step ([`exclusive`]) |
//!
//! With scripts in it, all of its commands are one attempt, whose replies are written when it stands ([`Core::run_scripted`]): a script may turn out to
//! need more keys, and then the whole starts again.
//!
//! EXEC's reply is an array's header and the commands' replies behind it, each in its ordinary place of the client's order.
//! So the server's own commands work in a transaction as they are, those too whose answers come later. Nothing that the client
//! sent behind EXEC runs before the last of them has ([`Wait::Unknown`]).
//!
//! WATCH puts a flag at the keys' owners ([`Watcher`]); EXEC looks at it when it holds the watched keys' slots. An owner takes note
//! of a WATCH when it would run a GET of the key: behind the parts that have come and behind what holds the slot. What was
//! done before WATCH is then done there too, and does not look like a change behind it.

mod eval;
pub mod exclusive;
mod plan;
mod run;
mod spread;
mod unit;
mod watch;

pub use watch::Watcher;

use crate::acl::User;
use crate::client::Wait;
use crate::cluster::CROSS_SLOT;
use crate::core::Core;
use crate::io::ConnId;
use crate::mailbox::{Reads, Ticket, Words};
use crate::registry::{Entry, Run};
use crate::request::{Flow, Paused};
use crate::scripts::{Lack, TRIES_MAX};
use crate::transaction::{Borrowed, Kind, Waiting};
pub(crate) use plan::Plan;
use ringwood_protocol::command::{LUA, NO_MULTI};
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_shard::ctx::{Args, Null};
use ringwood_shard::keyspace::Key;
use ringwood_shard::locks::Slots;
use ringwood_shard::watch::Name;
use std::sync::Arc;

/// A command that waits for EXEC.
#[derive(Debug)]
pub struct Queued {
    pub entry: &'static Entry,
    pub words: Words,
    /// Slot and hash of the first key, of commands that have it at a fixed place.
    pub key: Option<(u16, u64)>,
}

impl Queued {
    /// A script.
    pub(crate) fn script(entry: &'static Entry, words: Words) -> Self {
        Self {
            entry,
            words,
            key: None,
        }
    }
    /// Neither a data command nor a script.
    fn is_servers_own(&self) -> bool {
        matches!(self.entry.spec.run, Run::Server(_)) && !self.entry.has(LUA)
    }
}

/// A client's open transaction.
#[derive(Debug, Default)]
pub struct Multi {
    pub commands: Vec<Queued>,
    /// A command could not be queued: EXEC refuses.
    pub aborted: bool,
    /// Bytes of the commands' words.
    words_memory: usize,
}

impl Multi {
    fn push(&mut self, command: Queued) {
        if self.commands.capacity() == 0 {
            self.commands.reserve(8);
        }
        self.words_memory += command.words.memory();
        self.commands.push(command);
    }
    pub fn memory(&self) -> usize {
        self.words_memory + self.commands.capacity() * size_of::<Queued>()
    }
}

/// An EXEC under way: the commands of its transaction and whose they are.
#[derive(Debug)]
pub struct Exec {
    pub commands: Vec<Queued>,
    pub watchers: Vec<Arc<Watcher>>,
    pub conn: ConnId,
    /// The client's id: connections' numbers are used again.
    client: u64,
    pub db: usize,
    pub version: Version,
    reads: Reads,
    /// No transaction, but one script: its reply is the reply.
    bare: bool,
    /// Whose it is, if there is something that they may not do.
    pub user: Option<Arc<User>>,
    /// Keys beside those that it declares which a script turned out to need, and how often it has started again with more of them.
    pub found: Vec<Name>,
    tries: u32,
}

impl Exec {
    /// One script, or a session that debugs one.
    pub(crate) fn of_script(
        script: Queued,
        ticket: Ticket,
        db: usize,
        version: Version,
        user: Option<Arc<User>>,
    ) -> Self {
        let reads = Reads {
            tracked: false,
            ..ticket.reads
        };
        let caller = Ticket { reads, ..ticket };
        Self::bare(vec![script], caller, db, version, user)
    }
    /// One script of the caller's.
    fn bare(
        commands: Vec<Queued>,
        caller: Ticket,
        db: usize,
        version: Version,
        user: Option<Arc<User>>,
    ) -> Self {
        Self {
            commands,
            watchers: Vec::new(),
            conn: caller.conn,
            client: caller.client,
            db,
            version,
            reads: caller.reads,
            bare: true,
            user,
            found: Vec::new(),
            tries: 0,
        }
    }
    /// A script, or a transaction with scripts in it.
    pub fn has_scripts(&self) -> bool {
        self.bare || self.commands.iter().any(|c| c.entry.has(LUA))
    }
    /// Whose it is; `core`: that client's core.
    fn caller(&self, core: usize) -> Ticket {
        Ticket::of(core, self.conn, self.client, self.reads)
    }
}

/// A blocking command's answer where it may not wait. For these two it is not that of a timeout, in Redis too.
pub(crate) fn write_null(reply: &mut Reply<'_>, entry: &Entry, null: Null) {
    match null {
        _ if matches!(entry.spec.name, "BLMOVE" | "BRPOPLPUSH") => reply.null(),
        null => null.write(reply),
    }
}

// ---- queueing ----

impl Core {
    /// A command of a client in MULTI: queued, or `None` for those that run at once.
    #[cold]
    pub(crate) fn in_multi(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        args: Args<'_>,
        key: Option<Key<'_>>,
    ) -> Option<Flow> {
        match entry.spec.name {
            "EXEC" if entry.parent.is_none() => return Some(self.exec(conn)),
            "MULTI" | "DISCARD" | "WATCH" | "QUIT" | "RESET" if entry.parent.is_none() => {
                self.send_gathered();
                return None;
            }
            _ => {}
        }
        if entry.has(NO_MULTI) {
            let text = "ERR Command not allowed inside a transaction";
            return Some(self.refuse(conn, Some(entry), CommandError::fixed(text)));
        }
        let client = self.clients.get_mut(conn).expect("looked up by the caller");
        if client.cluster {
            let mut keys = Vec::new();
            entry.key_indexes(args, &mut keys);
            for key in keys {
                let slot = ringwood_protocol::slot::key_slot(args[key]);
                let owner = self.owner(slot);
                if owner as usize != self.id {
                    let error = self.moved(conn, slot, owner);
                    return Some(self.refuse(conn, Some(entry), error));
                }
            }
        }
        let client = self.clients.get_mut(conn).expect("looked up above");
        let multi = client.multi.as_mut().expect("the caller's");
        let words = Words::new(args.iter().copied());
        let key = key.map(|key| (key.slot, key.hash));
        multi.push(Queued { entry, words, key });
        self.uncounted = true;
        self.reply_now(conn, |reply| reply.simple("QUEUED"));
        Some(Flow::Next)
    }

    // ---- EXEC ----

    fn exec(&mut self, conn: ConnId) -> Flow {
        if self.shared.scripts.busy.any() {
            self.send_gathered();
        }
        let client = self.clients.get(conn).expect("looked up by the caller");
        let multi = client.multi.as_ref().expect("the caller's");
        if multi.aborted {
            self.end_multi(conn);
            self.monitor_exec(conn, &[]);
            let text = "EXECABORT Transaction discarded because of previous errors.";
            let error = CommandError::fixed(text);
            // As in Redis, EXEC has run, and failed.
            let entry = self.registry.logged().lookup(b"EXEC").expect("declared");
            self.stats.called(entry);
            self.stats.error(entry, &error);
            self.reply_now(conn, |reply| reply.command_error(&error));
            return Flow::Next;
        }
        if self.shared.scripts.busy.any() {
            let watchers = client.watchers.clone();
            let plan = self.plan(&multi.commands, client.db, client.cluster, &watchers);
            let scripts = multi.commands.iter().any(|c| c.entry.has(LUA));
            if let Some(error) = self.busy_plan(&plan, scripts && self.cores() > 1) {
                return self.abort_busy(conn, error);
            }
        }
        if self.paused == Paused::Writes && self.has_paused(conn) {
            self.hold_for_pause(conn);
            return Flow::Stall;
        }
        let client = self.clients.get(conn).expect("looked up by the caller");
        if let Some(spread) = self.spread(client) {
            return self.exec_spread(conn, &spread);
        }
        self.send_gathered();
        let client = self.clients.get(conn).expect("looked up by the caller");
        let multi = client.multi.as_ref().expect("the caller's");
        let mut plan = self.plan(&multi.commands, client.db, client.cluster, &client.watchers);
        let mut scripts = multi
            .commands
            .iter()
            .filter(|c| c.entry.has(LUA))
            .peekable();
        let has_scripts = self.cores() > 1 && scripts.peek().is_some();
        // Others beside data commands cannot be taken back if a script starts again.
        plan.everything |= has_scripts
            && (!plan.only_data
                || scripts.any(|c| self.is_wide_script(c.entry, &c.words.slices())));
        let waiting = client.is_waiting();
        let other = plan.one_other_core(self.id);
        let movable = plan.only_data
            && !has_scripts
            && client.watchers.is_empty()
            && !client.cluster
            && !client.restricted;
        // Only what goes the way of single commands, at once, may go while others of this client are under way: their
        // answers would let a client go that is held for EXEC.
        let at_once = plan.is_here(self.id) && !self.is_busy(&plan) || movable && other.is_some();
        let behind = waiting && (self.strict || !plan.only_data || !at_once || has_scripts);
        if behind {
            return Flow::Stall;
        }
        if client.cluster && plan.crosses_slots() {
            self.end_multi(conn);
            return self.refuse(conn, None, CROSS_SLOT);
        }
        self.stats
            .called(self.registry.logged().lookup(b"EXEC").expect("declared"));
        if let Some(owner) = other.filter(|_| movable) {
            return self.forward_unit(conn, owner, &plan);
        }
        let exec = self.take_exec(conn);
        self.start_exec(exec, plan);
        Flow::Next
    }

    /// True if CLIENT PAUSE holds back a command of the transaction: then it holds EXEC.
    #[cold]
    fn has_paused(&mut self, conn: ConnId) -> bool {
        let multi = self.clients.get_mut(conn).and_then(|c| c.multi.as_mut());
        let Some(commands) = multi.map(|m| std::mem::take(&mut m.commands)) else {
            return false;
        };
        let held = |c: &Queued| self.is_paused(c.entry, &c.words.slices());
        let any = commands.iter().any(held);
        if let Some(multi) = self.clients.get_mut(conn).and_then(|c| c.multi.as_mut()) {
            multi.commands = commands;
        }
        any
    }

    /// Ends a transaction whose EXEC came while a slow script has what it needs.
    #[cold]
    pub(crate) fn abort_busy(&mut self, conn: ConnId, error: CommandError) -> Flow {
        self.end_multi(conn);
        let text = format!(
            "EXECABORT Transaction discarded because of: {}",
            error.text()
        );
        self.refuse(conn, None, CommandError::Text(text.into()))
    }
    /// The same for one that waits for slots.
    pub(crate) fn refuse_exec(&mut self, ticket: Ticket, exec: Exec, error: &CommandError) {
        self.unwatch_all(&exec.watchers);
        let text = match exec.bare {
            true => error.text().into_owned(),
            false => format!(
                "EXECABORT Transaction discarded because of: {}",
                error.text()
            ),
        };
        self.answer_reply(ticket, exec.version, |r| r.error(&text));
    }
    /// What a transaction is told that needs what a slow script has; `everything`: or it may need any core.
    fn busy_plan(&self, plan: &Plan, everything: bool) -> Option<CommandError> {
        let busy = &self.shared.scripts.busy;
        let held = (0..self.cores()).find(|&c| busy.holds(c) && plan.concerns(c));
        let needed = held.is_some() || plan.everything || everything;
        needed.then(|| busy.error(held))
    }

    /// Starts a transaction on this core, in one of the ways that the module's head lists.
    fn start_exec(&mut self, exec: Exec, plan: Plan) {
        let conn = exec.conn;
        if plan.everything {
            let ticket = self.hold_client(conn);
            self.start_exclusive(ticket, exec);
        } else if !plan.is_here(self.id) {
            let ticket = self.hold_client(conn);
            self.borrow_for_exec(ticket, exec, plan);
        } else if self.is_busy(&plan) {
            let ticket = self.hold_client(conn);
            self.defer_exec(ticket, exec, &plan);
        } else {
            self.run_exec(exec, None);
        }
    }
    fn defer_exec(&mut self, ticket: Ticket, exec: Exec, plan: &Plan) {
        let slots = Slots::of(plan.slots(self.id).to_vec());
        let exec = Box::new(exec);
        self.locks.defer(slots, Waiting::Exec { ticket, exec });
    }
    /// A script starts again with what it lacked.
    pub(crate) fn start_again(&mut self, ticket: Ticket, mut exec: Exec, lack: Lack) {
        let Lack::Keys(names) = lack else {
            return self.start_exclusive(ticket, exec);
        };
        exec.tries += 1;
        if exec.tries > TRIES_MAX {
            // Others change what it finds its keys by.
            return self.start_exclusive(ticket, exec);
        }
        exec.found.extend(names);
        let mut plan = self.plan(&exec.commands, exec.db, false, &exec.watchers);
        plan.add(self, &exec.found);
        if self.shared.scripts.busy.any()
            && let Some(error) = self.busy_plan(&plan, false)
        {
            return self.refuse_exec(ticket, exec, &error);
        }
        match plan.is_here(self.id) {
            false => self.borrow_for_exec(ticket, exec, plan),
            // Its core has them: they were in use.
            true => self.defer_exec(ticket, exec, &plan),
        }
    }
    /// True when a slot that is here and in the plan is in use.
    fn is_busy(&self, plan: &Plan) -> bool {
        plan.slots(self.id).iter().any(|s| self.locks.in_use(*s))
    }

    /// Takes the transaction out of the client, and its watches with it.
    fn take_exec(&mut self, conn: ConnId) -> Exec {
        let client = self.clients.get_mut(conn).expect("looked up by the caller");
        let multi = client.multi.take().expect("the caller's");
        let (id, db, version) = (client.id, client.db, client.version);
        let user = client.restricted.then(|| client.user.clone());
        let reads = client.reads();
        // They stay in force until the transaction runs.
        let watchers = std::mem::take(&mut client.watchers);
        Exec {
            commands: multi.commands,
            watchers,
            conn,
            client: id,
            db,
            version,
            reads,
            bare: false,
            user,
            found: Vec::new(),
            tries: 0,
        }
    }
    /// DISCARD, and whatever else ends a transaction without running it.
    pub(crate) fn end_multi(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(conn) {
            client.multi = None;
        }
        self.unwatch(conn);
    }
    /// A place for EXEC's reply; the client waits until it is there.
    fn hold_client(&mut self, conn: ConnId) -> Ticket {
        let ticket = self.ticket(conn);
        let client = self.clients.get_mut(conn).expect("looked up by the caller");
        client.wait = Wait::Unknown;
        ticket
    }

    fn borrow_for_exec(&mut self, ticket: Ticket, exec: Exec, plan: Plan) {
        let parts = plan.into_parts();
        let left = parts.len();
        self.transact(
            ticket,
            left,
            Kind::Exec(Box::new(exec), Borrowed::default()),
            parts,
        );
    }
}
