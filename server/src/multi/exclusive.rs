//! A transaction that holds every core while it runs, step by step: for commands over all keys (DBSIZE, FLUSHALL, SCAN) and
//! for those that find out on the way which keys they need (SORT BY).
//!
//! Each command is a step. Its parts run at their owners ([`Under::Run`]), or it borrows its keys for itself ([`Under::Lend`]),
//! in both cases past the owners' lock queues, for this transaction holds them all. Mail between two cores stays in order, so
//! what a step gives back is home before the next step asks for it.

use super::{Exec, Queued, write_null};
use crate::client::Wait;
use crate::core::Core;
use crate::mailbox::{Mail, Ticket, Words};
use crate::registry::{Entry, Run};
use crate::request::{DataCall, run};
use crate::transaction::{Kind, Loan, copy_db, merge_replies};
use ringwood_protocol::command::{LUA, Merge, Route};
use ringwood_protocol::reply::{Reply, Version};
use ringwood_protocol::slot::key_slot;
use ringwood_shard::ctx::Wants;
use ringwood_shard::locks::Order;
use ringwood_shard::watch::Name;

/// What an owner does of a step.
#[derive(Debug)]
pub enum Under {
    Run {
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
        loans: Vec<(u16, Loan)>,
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
}

impl Exclusive {
    pub fn new(exec: Exec) -> Self {
        Self {
            exec,
            at: 0,
            holds: Vec::new(),
            own: None,
            step: Step::Next,
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
    pub(crate) fn start_exclusive(&mut self, ticket: Ticket, exec: Exec) {
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
            return self.end_exclusive(*all);
        }
        if watchers.iter().any(|w| w.has_changed()) {
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
        let Kind::Exclusive(all) = t.kind else {
            panic!("a step of a transaction without steps")
        };
        (t.ticket, all)
    }

    /// Runs commands until one has to wait for other cores.
    fn go_exclusive(&mut self, transaction: u32, ticket: Ticket, mut all: Box<Exclusive>) {
        while let Some(Queued { entry, words }) = all.exec.commands.get(all.at) {
            let entry: &'static Entry = entry;
            match (entry.spec.run, entry.spec.route) {
                (Run::Server(_), _) if entry.has(LUA) => {
                    let (db, version) = (all.exec.db, all.exec.version);
                    let reply = self
                        .run_script(entry, &words.slices(), db, version, Some(transaction))
                        .expect("nothing is wider than every core");
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
                (_, Route::AllShards(merge)) => {
                    let cores = (0..self.cores()).collect();
                    let words = words.clone();
                    self.gather_under(transaction, &mut all, entry, words, cores, Some(merge));
                }
                (_, Route::Cursor) => {
                    let cursor = words
                        .iter()
                        .nth(1)
                        .and_then(|c| std::str::from_utf8(c).ok());
                    let cursor: Option<u64> = cursor.and_then(|c| c.parse().ok());
                    let owner = cursor.map_or(self.id as u16, |c| self.owner((c & 0x3fff) as u16));
                    let words = words.clone();
                    let cores = vec![owner as usize];
                    self.gather_under(transaction, &mut all, entry, words, cores, None);
                }
                _ => self.borrow_under(transaction, &mut all, Vec::new()),
            }
            if !self.step_done(transaction, &mut all) {
                self.continue_later(transaction, ticket, all);
                return;
            }
        }
        self.end_exclusive(*all);
    }

    fn continue_later(&mut self, transaction: u32, ticket: Ticket, all: Box<Exclusive>) {
        self.keep_transaction(transaction, ticket, Kind::Exclusive(all));
    }

    fn gather_under(
        &mut self,
        transaction: u32,
        all: &mut Exclusive,
        entry: &'static Entry,
        words: Words,
        cores: Vec<usize>,
        merge: Option<Merge>,
    ) {
        let (db, version) = (all.exec.db, all.exec.version);
        let mut replies: Vec<Option<Vec<u8>>> = (0..self.cores()).map(|_| None).collect();
        let mut left = 0;
        self.stats.called(entry);
        for core in cores {
            if core == self.id {
                let mut out = Vec::new();
                self.run_owned(entry, &words, db, version, false, &mut out);
                replies[core] = Some(out);
                continue;
            }
            left += 1;
            let words = words.clone();
            let under = Under::Run {
                entry,
                words,
                db,
                version,
            };
            self.mailbox.send(core, Mail::Under { transaction, under });
        }
        all.step = Step::Gather {
            merge,
            replies,
            left,
        };
    }

    /// Asks for the keys of the current command, and the `extra` ones, that are not here.
    fn borrow_under(&mut self, transaction: u32, all: &mut Exclusive, extra: Vec<Box<[u8]>>) {
        let Queued { entry, words } = &all.exec.commands[all.at];
        let args = words.slices();
        let mut found = Vec::new();
        entry.key_indexes(&args, &mut found);
        let databases = self.shard.keyspace.databases();
        let other = (entry.spec.name == "COPY")
            .then(|| copy_db(&args))
            .flatten();
        let other = other.filter(|&o| o != all.exec.db && o < databases);
        let mut wanted: Vec<Vec<Name>> = vec![Vec::new(); self.cores()];
        let keys = found.iter().filter_map(|&at| args.get(at).copied());
        for key in keys.chain(extra.iter().map(|k| &**k)) {
            let owner = self.owner(key_slot(key)) as usize;
            if owner != self.id {
                let dbs = std::iter::once(all.exec.db).chain(other);
                wanted[owner].extend(dbs.map(|db| (db, Box::from(key))));
            }
        }
        let mut left = 0;
        for (core, mut keys) in wanted.into_iter().enumerate() {
            if !keys.is_empty() {
                // A key named twice is lent once.
                keys.sort_unstable();
                keys.dedup();
                left += 1;
                let under = Under::Lend(keys);
                self.mailbox.send(core, Mail::Under { transaction, under });
            }
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
                let version = all.exec.version;
                let reply = match merge {
                    Some(merge) => {
                        let random = self.shard.random();
                        merge_replies(merge, replies, &[], version, random)
                    }
                    None => replies.into_iter().flatten().next().unwrap_or_default(),
                };
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
        mut loans: Vec<(u16, Loan)>,
        mut extra: Vec<Box<[u8]>>,
    ) -> bool {
        for (_, loan) in &mut loans {
            self.bring_in(loan, true);
        }
        let Queued { entry, words } = &all.exec.commands[all.at];
        let (entry, db, version): (&'static Entry, _, _) = (entry, all.exec.db, all.exec.version);
        let mut out = Vec::new();
        let call = DataCall {
            entry,
            db,
            version,
            first_key: None,
            serving: false,
        };
        let wants = run(
            &mut self.shard,
            &mut self.stats,
            &call,
            &words.slices(),
            &mut out,
        );
        if !self.shard.events.is_empty() {
            self.publish_events();
        }
        self.shard.guests.clear();
        for (core, mut loan) in loans {
            self.take_out(&mut loan);
            let back = Mail::GiveBack {
                order: None,
                loan,
                waiter: None,
            };
            self.mailbox.send(core as usize, back);
        }
        self.shard.attention.guests_changed = None;
        match wants.map(|w| *w) {
            None => {}
            Some(Wants::Change(block)) => {
                out.clear();
                write_null(&mut Reply::new(&mut out, version), entry, block.null);
            }
            Some(Wants::Keys(keys)) => {
                extra.extend(keys);
                self.borrow_under(transaction, all, extra);
                return self.step_done(transaction, all);
            }
        }
        self.stats.called(entry);
        self.write_reply(&all.exec, |r| r.raw(&out));
        all.at += 1;
        true
    }

    /// The owner's half of a step.
    pub(crate) fn under(&mut self, from: usize, transaction: u32, under: Under) {
        let done = match under {
            Under::Run {
                entry,
                words,
                db,
                version,
            } => {
                let mut out = Vec::new();
                self.run_owned(entry, &words, db, version, false, &mut out);
                UnderDone::Reply(out)
            }
            Under::Lend(keys) => UnderDone::Loan(self.lend_keys(keys)),
        };
        self.mailbox
            .send(from, Mail::UnderDone { transaction, done });
    }

    pub(crate) fn under_done(&mut self, from: usize, transaction: u32, done: UnderDone) {
        let (ticket, mut all) = self.take_exclusive(transaction);
        match (&mut all.step, done) {
            (Step::Gather { replies, left, .. }, UnderDone::Reply(reply)) => {
                replies[from] = Some(reply);
                *left -= 1;
            }
            (Step::Borrow { loans, left, .. }, UnderDone::Loan(loan)) => {
                loans.push((from as u16, loan));
                *left -= 1;
            }
            (step, done) => panic!("{done:?} for {step:?}"),
        }
        match self.step_done(transaction, &mut all) {
            true => self.go_exclusive(transaction, ticket, all),
            false => self.continue_later(transaction, ticket, all),
        }
    }

    /// Lets all cores go, and the client.
    fn end_exclusive(&mut self, all: Exclusive) {
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
