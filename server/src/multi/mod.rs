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
mod spread;
mod unit;
mod watch;

pub use watch::Watcher;

use crate::acl::User;
use crate::client::Wait;
use crate::cluster::CROSS_SLOT;
use crate::core::Core;
use crate::io::{ConnId, Io};
use crate::mailbox::{Mail, Reads, Ticket, Words};
use crate::merge::merge_replies;
use crate::registry::{Entry, Run};
use crate::request::{DataCall, Flow, Paused, run};
use crate::scripts::{Access, Lack, TRIES_MAX};
use crate::transaction::{Borrowed, Kind, Loan, Waiting};
pub(crate) use plan::Plan;
use ringwood_protocol::command::{LUA, NO_MULTI, Route};
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_shard::ctx::{Args, Null, Wants};
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

    /// A reply of a transaction, in its place; into nothing when the client is gone.
    fn write_reply(&mut self, exec: &Exec, write: impl FnOnce(&mut Reply<'_>)) {
        let client = self.clients.get(exec.conn);
        if client.is_some_and(|c| c.id == exec.client) {
            self.reply_now(exec.conn, write);
        }
    }
    fn write_stale(&mut self, exec: &Exec) {
        self.write_reply(exec, |reply| reply.null_array());
    }

    /// A script, or a transaction with scripts in it: it comes back if it must start again.
    fn run_attempt(&mut self, mut exec: Exec, ticket: Option<Ticket>) -> Option<(Exec, Lack)> {
        self.caller = exec.caller(self.id);
        self.acting = exec.user.clone();
        if exec.bare {
            return self.run_bare(exec, ticket);
        }
        let mut out = Vec::new();
        let stands = !self.is_stale(&exec);
        if stands {
            self.begin_exec(exec.conn);
            Reply::new(&mut out, exec.version).array(exec.commands.len());
            if let Some(lack) = self.run_scripted(&exec, &mut out) {
                self.end_exec(exec.conn);
                return Some((exec, lack));
            }
        } else {
            Reply::new(&mut out, exec.version).null_array();
        }
        let watchers = std::mem::take(&mut exec.watchers);
        self.unwatch_all(&watchers);
        self.monitor_exec(exec.conn, &[]);
        match ticket {
            Some(ticket) => self.answer(ticket, out),
            None => self.write_reply(&exec, |r| r.raw(&out)),
        }
        if stands {
            self.end_exec(exec.conn);
        }
        if !self.shard.attention.touched.is_empty() {
            self.serve_blocked();
        }
        None
    }
    /// True if something of what its client watches has changed.
    fn is_stale(&mut self, exec: &Exec) -> bool {
        for name in exec.watchers.iter().flat_map(|w| &w.keys) {
            let key = self.shard.key(&name.1);
            self.shard.expire_if_due(name.0, key);
        }
        exec.watchers.iter().any(|w| w.has_changed())
    }

    /// Runs a whole transaction whose keys are all here. With a ticket, EXEC's reply has a place already.
    pub(crate) fn run_exec(&mut self, exec: Exec, ticket: Option<Ticket>) {
        let begins = self.begin_log_group();
        self.run_commands(exec, ticket);
        if begins {
            self.end_log_group(0);
        }
    }
    fn run_commands(&mut self, mut exec: Exec, ticket: Option<Ticket>) {
        if exec.bare || self.cores() > 1 && exec.has_scripts() {
            if let Some((exec, lack)) = self.run_attempt(exec, ticket) {
                let conn = exec.conn;
                if self.clients.get(conn).is_none_or(|c| c.id != exec.client) {
                    return self.unwatch_all(&exec.watchers);
                }
                let ticket = ticket.unwrap_or_else(|| self.hold_client(conn));
                self.start_again(ticket, exec, lack);
            }
            return;
        }
        self.caller = exec.caller(self.id);
        self.acting = exec.user.clone();
        let is_stale = self.is_stale(&exec);
        let watchers = std::mem::take(&mut exec.watchers);
        self.unwatch_all(&watchers);
        if is_stale {
            self.monitor_exec(exec.conn, &[]);
            match ticket {
                Some(ticket) => self.answer_reply(ticket, exec.version, |r| r.null_array()),
                None => self.write_stale(&exec),
            }
            return;
        }
        self.write_head(&exec, ticket);
        self.begin_exec(exec.conn);
        let mut out = Vec::new();
        for at in 0..exec.commands.len() {
            let Queued { entry, words, .. } = &exec.commands[at];
            if self.is_forbidden_now(&exec, at) {
                continue;
            }
            match entry.spec.run {
                Run::Server(_) if entry.has(LUA) => {
                    self.monitor_queued(exec.conn, entry, words);
                    out.clear();
                    let words = words.slices();
                    let access = Access::Keys(&[]);
                    self.run_script(entry, &words, exec.db, exec.version, access, &mut out)
                        .expect("one core has everything");
                    self.write_reply(&exec, |r| r.raw(&out));
                }
                Run::Server(_) => self.run_server_command(&mut exec, at),
                Run::Shard(_) => {
                    out.clear();
                    self.run_data(entry, &words.slices(), exec.db, exec.version, &mut out);
                    self.monitor_queued(exec.conn, entry, words);
                    self.write_reply(&exec, |reply| reply.raw(&out));
                }
            }
        }
        self.monitor_exec(exec.conn, &[]);
        self.end_exec(exec.conn);
        if !self.shard.attention.touched.is_empty() {
            self.serve_blocked();
        }
    }

    /// A command of a transaction runs: MONITOR.
    fn monitor_queued(&mut self, conn: ConnId, entry: &'static Entry, words: &Words) {
        if self.monitors.any() {
            self.monitor_command(conn, entry, &words.slices());
        }
    }
    /// A transaction of these commands has run, or is on its way to another core. Redis shows EXEC behind them.
    fn monitor_exec(&mut self, conn: ConnId, commands: &[Queued]) {
        if self.monitors.any() {
            for Queued { entry, words, .. } in commands {
                self.monitor_queued(conn, entry, words);
            }
            let entry = self.registry.logged().lookup(b"EXEC").expect("declared");
            self.monitor_command(conn, entry, &[b"exec"]);
        }
    }
    /// True if a command may not run by now; its error is written.
    pub(crate) fn is_forbidden_now(&mut self, exec: &Exec, at: usize) -> bool {
        let Some(user) = exec.user.as_ref().filter(|_| !exec.bare) else {
            return false;
        };
        let Queued { entry, words, .. } = &exec.commands[at];
        let error = self.forbidden_by_now(exec.conn, user, entry, &words.slices());
        if let Some(error) = &error {
            self.write_reply(exec, |reply| reply.error(error));
        }
        error.is_some()
    }

    fn answer_reply(
        &mut self,
        ticket: Ticket,
        version: Version,
        write: impl FnOnce(&mut Reply<'_>),
    ) {
        let mut out = Vec::new();
        write(&mut Reply::new(&mut out, version));
        self.answer(ticket, out);
    }

    /// The header of EXEC's reply.
    fn write_head(&mut self, exec: &Exec, ticket: Option<Ticket>) {
        let count = exec.commands.len();
        match ticket {
            Some(ticket) => self.answer_reply(ticket, exec.version, |r| r.array(count)),
            None => self.write_reply(exec, |reply| reply.array(count)),
        }
    }

    /// Runs one of the server's own commands in a transaction. A client that is gone has no connection to run it on.
    fn run_server_command(&mut self, exec: &mut Exec, at: usize) {
        let Queued { entry, words, .. } = &exec.commands[at];
        let Run::Server(handler) = entry.spec.run else {
            panic!("{} is a data command", entry.name)
        };
        let there = self
            .clients
            .get(exec.conn)
            .is_some_and(|c| c.id == exec.client);
        if !there {
            return;
        }
        let args = words.slices();
        let began = self.io.mono_ns();
        let flow = self.call(exec.conn, entry, &args, handler);
        self.monitor_queued(exec.conn, entry, words);
        if flow == Flow::Next {
            self.note_nested(began, entry, &args, 0);
        }
        // SELECT and HELLO.
        if let Some(client) = self.clients.get(exec.conn) {
            (exec.db, exec.version) = (client.db, client.version);
        }
    }

    /// Runs a data command all of whose keys are here; its reply goes to the end of `out`. Where it would wait it answers
    /// with nothing. `Err`: it asks for these keys too.
    fn run_now(
        &mut self,
        entry: &'static Entry,
        args: Args<'_>,
        db: usize,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Result<(), Vec<Box<[u8]>>> {
        crate::crash::note_command(entry, 0);
        let from = out.len();
        let call = DataCall {
            entry,
            db,
            version,
            keys: &[],
            serving: false,
            aside: false,
            caller: self.caller,
        };
        let began = self
            .thresholds
            .times_nested(entry)
            .then(|| self.io.mono_ns());
        let wants = run(&mut self.shard, &mut self.stats, &call, args, out);
        if let Some(began) = began {
            self.note_nested(began, entry, args, out.len() - from);
        }
        match wants.map(|w| *w) {
            None => {}
            Some(Wants::Change(block)) => {
                out.truncate(from);
                write_null(&mut Reply::new(out, version), entry, block.null);
            }
            Some(Wants::Keys(keys)) => return Err(keys),
            Some(Wants::Aside) => panic!("{} must not ask for that", entry.name),
        }
        self.stats.called(entry);
        Ok(())
    }

    /// As [`Core::run_now`], for a command whose keys were all known. Who calls sends its key events.
    pub(crate) fn run_data_quietly(
        &mut self,
        entry: &'static Entry,
        args: Args<'_>,
        db: usize,
        version: Version,
        out: &mut Vec<u8>,
    ) {
        let from = out.len();
        if self.run_now(entry, args, db, version, out).is_err() {
            panic!("{} asks for keys that were planned for", entry.name);
        }
        if let Route::AllShards(merge) = entry.spec.route {
            // On one core: its part is all there is, in the form of a part.
            let part = out.split_off(from);
            let random = self.shard.random();
            merge_replies(merge, &[&part], &[], version, random, out);
        }
    }
    pub(crate) fn run_data(
        &mut self,
        entry: &'static Entry,
        args: Args<'_>,
        db: usize,
        version: Version,
        out: &mut Vec<u8>,
    ) {
        self.run_data_quietly(entry, args, db, version, out);
        self.send_events();
    }
    pub(crate) fn send_events(&mut self) {
        if !self.shard.events.is_empty() {
            self.publish_events();
        }
    }

    /// Runs a data command with keys of other cores that a transaction holds; they go home at once. `Err`: it asks for
    /// these keys too.
    pub(crate) fn run_lent(
        &mut self,
        entry: &'static Entry,
        args: Args<'_>,
        db: usize,
        version: Version,
        mut loans: Vec<(usize, Loan)>,
    ) -> Result<Vec<u8>, Vec<Box<[u8]>>> {
        for (_, loan) in &mut loans {
            self.bring_in(loan, true);
        }
        let mut reply = Vec::new();
        let result = self.run_now(entry, args, db, version, &mut reply);
        self.send_events();
        self.shard.guests.clear();
        for (core, mut loan) in loans {
            self.take_out(&mut loan);
            let back = Mail::GiveBack {
                order: None,
                loan,
                waiter: None,
            };
            self.mailbox.send(core, back);
        }
        self.shard.attention.guests_changed = None;
        result.map(|()| reply)
    }

    // ---- on several cores ----

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

    /// All keys are here and all slots are locked.
    /// A script that needs more comes back.
    pub(crate) fn run_exec_borrowed(&mut self, ticket: Ticket, exec: Exec) -> Option<(Exec, Lack)> {
        let client = self.clients.get(exec.conn);
        if client.is_none_or(|c| c.id != exec.client) {
            // As if EXEC had not arrived: nothing of it has happened yet.
            self.unwatch_all(&exec.watchers);
            return None;
        }
        if exec.has_scripts() {
            return self.run_attempt(exec, Some(ticket));
        }
        self.run_exec(exec, Some(ticket));
        None
    }
}
