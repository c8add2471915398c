//! A transaction runs: its keys are all here and its slots locked.

use super::{Exec, Queued, write_null};
use crate::core::Core;
use crate::io::{ConnId, Io};
use crate::mailbox::{Mail, Ticket, Words};
use crate::merge::merge_replies;
use crate::registry::{Entry, Run};
use crate::request::{DataCall, Flow, run};
use crate::scripts::{Access, Lack};
use crate::transaction::Loan;
use ringwood_protocol::command::{LUA, Route};
use ringwood_protocol::reply::{Reply, Version};
use ringwood_shard::ctx::{Args, Wants};

impl Core {
    /// Runs a whole transaction whose keys are all here. With a ticket, EXEC's reply has a place already.
    pub(crate) fn run_exec(&mut self, exec: Exec, ticket: Option<Ticket>) {
        let begins = self.begin_log_group();
        self.run_commands(exec, ticket);
        if begins {
            self.end_log_group(0);
        }
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

    /// Runs one of the server's own commands in a transaction. A client that is gone has no connection to run it on.
    pub(super) fn run_server_command(&mut self, exec: &mut Exec, at: usize) {
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

    pub(crate) fn send_events(&mut self) {
        if !self.shard.events.is_empty() {
            self.publish_events();
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

    /// A command of a transaction runs: MONITOR.
    pub(super) fn monitor_queued(&mut self, conn: ConnId, entry: &'static Entry, words: &Words) {
        if self.monitors.any() {
            self.monitor_command(conn, entry, &words.slices());
        }
    }

    /// A transaction of these commands has run, or is on its way to another core. Redis shows EXEC behind them.
    pub(super) fn monitor_exec(&mut self, conn: ConnId, commands: &[Queued]) {
        if self.monitors.any() {
            for Queued { entry, words, .. } in commands {
                self.monitor_queued(conn, entry, words);
            }
            let entry = self.registry.logged().lookup(b"EXEC").expect("declared");
            self.monitor_command(conn, entry, &[b"exec"]);
        }
    }

    /// The header of EXEC's reply.
    pub(super) fn write_head(&mut self, exec: &Exec, ticket: Option<Ticket>) {
        let count = exec.commands.len();
        match ticket {
            Some(ticket) => self.answer_reply(ticket, exec.version, |r| r.array(count)),
            None => self.write_reply(exec, |reply| reply.array(count)),
        }
    }

    /// A reply of a transaction, in its place; into nothing when the client is gone.
    pub(super) fn write_reply(&mut self, exec: &Exec, write: impl FnOnce(&mut Reply<'_>)) {
        let client = self.clients.get(exec.conn);
        if client.is_some_and(|c| c.id == exec.client) {
            self.reply_now(exec.conn, write);
        }
    }

    fn write_stale(&mut self, exec: &Exec) {
        self.write_reply(exec, |reply| reply.null_array());
    }

    pub(super) fn answer_reply(
        &mut self,
        ticket: Ticket,
        version: Version,
        write: impl FnOnce(&mut Reply<'_>),
    ) {
        let mut out = Vec::new();
        write(&mut Reply::new(&mut out, version));
        self.answer(ticket, out);
    }
}
