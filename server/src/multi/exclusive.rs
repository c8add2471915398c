//! A transaction that holds every core while it runs, step by step: for commands over all keys (DBSIZE, FLUSHALL, SCAN) and
//! for those that find out on the way which keys they need (SORT BY).
//!
//! Each command is a step. Its parts run at their owners ([`Under::Run`]), or it borrows its keys for itself ([`Under::Lend`]),
//! in both cases past the owners' lock queues, for this transaction holds them all. Mail between two cores stays in order, so
//! what a step gives back is home before the next step asks for it.

use super::{Exec, Queued};
use crate::client::Wait;
use crate::core::Core;
use crate::io::Io;
use crate::mailbox::{Mail, Ticket, Words};
use crate::merge::merge_replies;
use crate::registry::{Entry, Run};
use crate::request::Mode;
use crate::request::cursor;
use crate::scripts::Access;
use crate::transaction::{Kind, Loan};
use ringwood_protocol::command::{LUA, Merge, Route};
use ringwood_protocol::reply::Version;
use ringwood_shard::ctx::Args;
use ringwood_shard::locks::Order;
use ringwood_shard::log::Record;
use ringwood_shard::watch::Name;

/// What an owner does of a step.
#[derive(Debug)]
pub enum Under {
    Run {
        /// Whose command it is.
        caller: Ticket,
        entry: &'static Entry,
        words: Words,
        db: usize,
        version: Version,
    },
    Lend(Vec<Name>),
}

/// What it answers.
#[derive(Debug)]
pub enum UnderDone {
    Reply(Vec<u8>),
    Loan(Loan),
}

/// What the current step waits for.
#[derive(Debug)]
enum Step {
    /// Nothing: the next command begins.
    Next,
    /// Replies of parts, by core. `None`: one core's reply is the reply.
    Gather {
        merge: Option<Merge>,
        replies: Vec<Option<Vec<u8>>>,
        left: usize,
    },
    Borrow {
        loans: Vec<(usize, Loan)>,
        left: usize,
        /// Keys that the command asked for when it ran before.
        extra: Vec<Box<[u8]>>,
    },
}

#[derive(Debug)]
pub struct Exclusive {
    exec: Exec,
    at: usize,
    holds: Vec<(u16, Order)>,
    own: Option<Order>,
    step: Step,
    /// The transaction's, under which it is logged.
    number: u64,
    /// What it has changed, while it waits.
    records: Vec<Record>,
}

impl Exclusive {
    pub fn new(exec: Exec) -> Self {
        Self {
            exec,
            at: 0,
            holds: Vec::new(),
            own: None,
            step: Step::Next,
            number: 0,
            records: Vec::new(),
        }
    }
    /// A core is held. The coordinator's own has its order in `own`.
    pub fn held(&mut self, core: u16, order: Order, own: bool) {
        match own {
            true => self.own = Some(order),
            false => self.holds.push((core, order)),
        }
    }
}

impl Core {
    /// Holds every core for the transaction.
    pub(crate) fn start_exclusive(&mut self, ticket: Ticket, exec: Exec) {
        if exec.bare && self.shared.scripts.busy.any() {
            // It found out on the way that it needs every core.
            let error = self.shared.scripts.busy.error(None);
            return self.answer_reply(ticket, exec.version, |r| r.command_error(&error));
        }
        let plan = self.plan(&[], exec.db, false, &exec.watchers);
        let parts = plan.into_holds(self.cores());
        let kind = Kind::Exclusive(Box::new(Exclusive::new(exec)));
        self.transact(ticket, parts.len(), kind, parts);
    }

    /// All cores are held.
    pub(crate) fn begin_exclusive(&mut self, transaction: u32) {
        let (ticket, mut all) = self.take_exclusive(transaction);
        let watchers = std::mem::take(&mut all.exec.watchers);
        self.unwatch_all(&watchers);
        let client = self.clients.get(all.exec.conn);
        if client.is_none_or(|c| c.id != all.exec.client) {
            // As if EXEC had not arrived.
            self.debugged_is_gone(all.exec.client);
            return self.end_exclusive(*all);
        }
        if watchers.iter().any(|w| w.has_changed()) {
            self.monitor_exec(all.exec.conn, &[]);
            self.answer_reply(ticket, all.exec.version, |r| r.null_array());
            return self.end_exclusive(*all);
        }
        if all.exec.bare {
            // The script's reply is the reply.
            return self.go_exclusive(transaction, ticket, all);
        }
        self.write_head(&all.exec, Some(ticket));
        if let Some(client) = self.clients.get_mut(all.exec.conn) {
            // The head's arrival let the client go.
            client.wait = Wait::Unknown;
        }
        self.go_exclusive(transaction, ticket, all);
    }

    fn take_exclusive(&mut self, transaction: u32) -> (Ticket, Box<Exclusive>) {
        let t = self.transactions.remove(&transaction);
        let t = t.expect("a transaction under way");
        let Kind::Exclusive(mut all) = t.kind else {
            panic!("a step of a transaction without steps")
        };
        // Put back by `keep_transaction`, it has no number.
        all.number = all.number.max(t.number);
        if self.shard.logging {
            self.shard.log.resume(std::mem::take(&mut all.records));
        }
        (t.ticket, all)
    }

    /// Runs commands until one has to wait for other cores.
    fn go_exclusive(&mut self, transaction: u32, ticket: Ticket, mut all: Box<Exclusive>) {
        self.acting = all.exec.user.clone();
        while let Some(Queued { entry, words, .. }) = all.exec.commands.get(all.at) {
            if self.is_forbidden_now(&all.exec, all.at) {
                all.at += 1;
                continue;
            }
            let entry: &'static Entry = entry;
            // Server commands are shown when they have run, as in any transaction.
            let shown = matches!(entry.spec.run, Run::Shard(_)) || entry.has(LUA) && !all.exec.bare;
            if shown && matches!(all.step, Step::Next) {
                self.monitor_queued(all.exec.conn, entry, words);
            }
            match (entry.spec.run, entry.spec.route) {
                (Run::Server(_), _) if all.exec.bare && self.is_debugged(all.exec.client) => {
                    if !self.debugged(transaction, all.exec.client) {
                        return self.continue_later(transaction, ticket, all);
                    }
                    all.at += 1;
                    continue;
                }
                (Run::Server(_), _) if entry.has(LUA) => {
                    let (db, version) = (all.exec.db, all.exec.version);
                    self.caller = all.exec.caller(self.id);
                    let args = words.slices();
                    let began = self.io.mono_ns();
                    let mut reply = Vec::new();
                    let access = Access::All(transaction);
                    self.run_script(entry, &args, db, version, access, &mut reply)
                        .expect("who holds every core lacks nothing");
                    self.note_nested(began, entry, &args, reply.len());
                    match all.exec.bare {
                        true => self.answer(ticket, reply),
                        false => self.write_reply(&all.exec, |r| r.raw(&reply)),
                    }
                    all.at += 1;
                    continue;
                }
                (Run::Server(_), _) => {
                    let at = all.at;
                    self.begin_exec(all.exec.conn);
                    self.run_server_command(&mut all.exec, at);
                    self.end_exec(all.exec.conn);
                    all.at += 1;
                    continue;
                }
                (_, Route::AllShards(_) | Route::Cursor) => {
                    let words = words.clone();
                    self.gather_under(transaction, &mut all, entry, words);
                }
                _ => self.borrow_under(transaction, &mut all, Vec::new()),
            }
            if !self.step_done(transaction, &mut all) {
                self.continue_later(transaction, ticket, all);
                return;
            }
        }
        if !all.exec.bare {
            self.monitor_exec(all.exec.conn, &[]);
        }
        self.end_exclusive(*all);
    }

    fn continue_later(&mut self, transaction: u32, ticket: Ticket, mut all: Box<Exclusive>) {
        all.records = self.shard.log.end();
        self.keep_transaction(transaction, ticket, Kind::Exclusive(all));
    }

    fn gather_under(
        &mut self,
        transaction: u32,
        all: &mut Exclusive,
        entry: &'static Entry,
        words: Words,
    ) {
        let (cores, merge) = self.cores_of(entry, &words.slices());
        let (db, version) = (all.exec.db, all.exec.version);
        let mut replies: Vec<Option<Vec<u8>>> = (0..self.cores()).map(|_| None).collect();
        let mut left = 0;
        self.stats.called(entry);
        for core in cores {
            if core == self.id {
                let mut out = Vec::new();
                let caller = all.exec.caller(self.id);
                self.caller = caller;
                self.run_owned(entry, &words, db, version, Mode::AT_ONCE, &mut out);
                replies[core] = Some(out);
                continue;
            }
            left += 1;
            let words = words.clone();
            let under = Under::Run {
                caller: all.exec.caller(self.id),
                entry,
                words,
                db,
                version,
            };
            self.send_under(core, transaction, under);
        }
        all.step = Step::Gather {
            merge,
            replies,
            left,
        };
    }

    /// Asks for the keys of the current command, and the `extra` ones, that are not here.
    fn borrow_under(&mut self, transaction: u32, all: &mut Exclusive, extra: Vec<Box<[u8]>>) {
        let Queued { entry, words, .. } = &all.exec.commands[all.at];
        let db = all.exec.db;
        let mut names = self.key_names(entry, &words.slices(), db);
        names.extend(extra.iter().map(|key| (db, key.clone())));
        let wanted = self.elsewhere(&names);
        let left = wanted.len();
        for (core, keys) in wanted {
            let under = Under::Lend(keys);
            self.send_under(core, transaction, under);
        }
        all.step = Step::Borrow {
            loans: Vec::new(),
            left,
            extra,
        };
    }

    /// Concludes the current command if all it waits for is there. False when it still waits.
    fn step_done(&mut self, transaction: u32, all: &mut Exclusive) -> bool {
        match std::mem::replace(&mut all.step, Step::Next) {
            Step::Next => true,
            Step::Gather {
                merge,
                replies,
                left: 0,
            } => {
                let reply = self.one_reply(merge, replies, all.exec.version);
                self.write_reply(&all.exec, |r| r.raw(&reply));
                all.at += 1;
                true
            }
            Step::Borrow {
                loans,
                left: 0,
                extra,
            } => self.run_step(transaction, all, loans, extra),
            waiting => {
                all.step = waiting;
                false
            }
        }
    }

    /// Runs the current command, all of whose keys are here. False when it asks for more.
    fn run_step(
        &mut self,
        transaction: u32,
        all: &mut Exclusive,
        loans: Vec<(usize, Loan)>,
        mut extra: Vec<Box<[u8]>>,
    ) -> bool {
        let Queued { entry, words, .. } = &all.exec.commands[all.at];
        let (db, version) = (all.exec.db, all.exec.version);
        self.caller = all.exec.caller(self.id);
        match self.run_lent(entry, &words.slices(), db, version, loans) {
            Ok(reply) => {
                self.write_reply(&all.exec, |r| r.raw(&reply));
                all.at += 1;
                true
            }
            Err(keys) => {
                extra.extend(keys);
                self.borrow_under(transaction, all, extra);
                self.step_done(transaction, all)
            }
        }
    }

    /// Which cores have a part in a command over all keys, or in a SCAN, and how their replies become one (`None`: there
    /// is only one).
    pub(crate) fn cores_of(&self, entry: &Entry, args: Args<'_>) -> (Vec<usize>, Option<Merge>) {
        if let Route::AllShards(merge) = entry.spec.route {
            return ((0..self.cores()).collect(), Some(merge));
        }
        let owner = cursor(args).map_or(self.id, |c| self.owner((c & 0x3fff) as u16) as usize);
        (vec![owner], None)
    }
    /// The reply of a command that ran where [`Core::cores_of`] says.
    pub(crate) fn one_reply(
        &mut self,
        merge: Option<Merge>,
        replies: Vec<Option<Vec<u8>>>,
        version: Version,
    ) -> Vec<u8> {
        match merge {
            Some(merge) => {
                let parts = replies.iter().map(|r| r.as_deref().unwrap_or_default());
                let parts: Vec<&[u8]> = parts.collect();
                let mut reply = Vec::new();
                merge_replies(merge, &parts, &[], version, self.shard.random(), &mut reply);
                reply
            }
            None => replies.into_iter().flatten().next().unwrap_or_default(),
        }
    }

    pub(crate) fn send_under(&mut self, core: usize, transaction: u32, under: Under) {
        let mail = Mail::Under {
            transaction,
            now_ms: self.shard.now_ms,
            under,
        };
        self.mailbox.send(core, mail);
    }
    /// The owner's half of a step.
    pub(crate) fn under(&mut self, from: usize, transaction: u32, now_ms: i64, under: Under) {
        let own = std::mem::replace(&mut self.shard.now_ms, now_ms);
        // It is logged with the transaction, by the core whose that is.
        let logs = self.begin_log_group();
        let done = match under {
            Under::Run {
                caller,
                entry,
                words,
                db,
                version,
            } => {
                let mut out = Vec::new();
                self.caller = caller;
                self.run_owned(entry, &words, db, version, Mode::AT_ONCE, &mut out);
                UnderDone::Reply(out)
            }
            Under::Lend(keys) => UnderDone::Loan(self.lend_keys(keys)),
        };
        self.shard.now_ms = own;
        let records = match logs {
            true => self.shard.log.end(),
            false => Vec::new(),
        };
        let done = Mail::UnderDone {
            transaction,
            done,
            records,
        };
        self.mailbox.send(from, done);
    }

    pub(crate) fn under_done(
        &mut self,
        from: usize,
        transaction: u32,
        done: UnderDone,
        records: Vec<Record>,
    ) {
        let (ticket, mut all) = self.take_exclusive(transaction);
        self.shard.log.add(records);
        match (&mut all.step, done) {
            (Step::Gather { replies, left, .. }, UnderDone::Reply(reply)) => {
                replies[from] = Some(reply);
                *left -= 1;
            }
            (Step::Borrow { loans, left, .. }, UnderDone::Loan(loan)) => {
                loans.push((from, loan));
                *left -= 1;
            }
            (step, done) => panic!("{done:?} for {step:?}"),
        }
        match self.step_done(transaction, &mut all) {
            true => self.go_exclusive(transaction, ticket, all),
            false => self.continue_later(transaction, ticket, all),
        }
    }

    /// A session that held every core has ended.
    pub(crate) fn end_exclusive_of_session(&mut self, transaction: u32) {
        let (_, all) = self.take_exclusive(transaction);
        self.end_exclusive(*all);
    }

    /// Lets all cores go, and the client.
    fn end_exclusive(&mut self, all: Exclusive) {
        self.end_log_group(all.number);
        for (core, order) in all.holds {
            let back = Mail::GiveBack {
                order: Some(order),
                loan: Loan::default(),
                waiter: None,
            };
            self.mailbox.send(core as usize, back);
        }
        if let Some(order) = all.own {
            self.locks.release(order);
        }
        if !self.shard.attention.touched.is_empty() {
            self.serve_blocked();
        }
        self.unlocked = true;
        let client = self.clients.get_mut(all.exec.conn);
        if let Some(client) = client.filter(|c| c.id == all.exec.client && !all.exec.bare) {
            client.wait = Wait::No;
            if client.stalled && !client.is_waiting() {
                self.go_on(all.exec.conn);
            }
            // For messages that waited for its end.
            self.mark_dirty(all.exec.conn);
        }
    }
}
