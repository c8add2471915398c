//! Commands over several cores: the coordinator's half. The owners' half is [`ringwood_shard::locks`], the order of all
//! such work [`crate::sequencer`]'s.
//!
//! Two shapes:
//! - **Run**: each owner runs its part (shares of the keys of MGET, all of DBSIZE: see [`crate::gather`]) when the part's turn
//!   comes in the order of numbers, and answers. One round trip.
//! - **Lend**: for everything else (RENAME, COPY, MSETNX, SUNIONSTORE …). When its turn comes, each owner takes the entries of
//!   its keys out of its keyspace, sends them to the coordinator and keeps their slots locked. With all of them there, the coordinator
//!   puts them into its own keyspace, runs the command's ordinary function as if all keys were its own, takes
//!   them out again and sends them home. Large values travel as pointers.
//!
//! ```text
//! coordinator: issue number ─ parts to inboxes ─────────────── all answers there ─ merge, reply
//! owner:             inbox ─ wait for turn ─ run ─ SharesDone ┘
//! owner (lend):      inbox ─ wait for turn ─ take ─ Lent ──┐              ┌─ GiveBack ─ put back, unlock
//! coordinator:                                all there ─ put in, run, take out ─ reply
//! ```

use crate::aside::{Away, Long};
use crate::blocking::{Meanwhile, Waiter};
use crate::core::{Conclude, Core, Question};
use crate::gather::Gathered;
use crate::mailbox::{Mail, Parcel, Ticket, Words};
use crate::multi::exclusive::Exclusive;
use crate::multi::{Exec, Watcher};
use crate::pubsub::Change;
use crate::pubsub::message::OwnedMessage;
use crate::registry::Entry;
use crate::request::Mode;
use ringwood_protocol::reply::Version;
use ringwood_shard::ctx::{Args, Wants};
use ringwood_shard::keyspace::entry::Parts;
use ringwood_shard::locks::{Locks, Order, Slots};
use ringwood_shard::shard::Shard;
use ringwood_shard::tracking::Reader;
use ringwood_shard::watch::Name;
use std::sync::Arc;

/// What one owner does of a transaction.
#[derive(Debug)]
pub struct Part {
    pub number: u64,
    pub coordinator: u16,
    /// The coordinator's name for the transaction.
    pub transaction: u32,
    pub slots: Slots,
    pub work: PartWork,
}

#[derive(Debug)]
pub enum PartWork {
    /// Run these commands' shares: see [`crate::gather`].
    Run(Box<Parcel>),
    /// Give this message to the core's listeners; `tell`: and say when that is done.
    Publish {
        message: Arc<OwnedMessage>,
        tell: bool,
    },
    /// Change the subscriptions of a client of this core.
    Subscribe(Box<Change>),
    /// Answer a question about all that this core has.
    Visit(Visit),
    /// Lend these keys. For the coordinator's own core: just hold their slots.
    Lend {
        keys: Vec<Name>,
        /// Keys that an EXEC's client watches: if their time is over they go now, and EXEC learns of it.
        watched: Vec<Name>,
        /// The blocked client for whose command they are.
        waiter: Option<Arc<Waiter>>,
    },
}

/// A question that is asked at one point in the order of transactions.
pub struct Visit(Question);

impl std::fmt::Debug for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Visit")
    }
}

/// What waits in a core's lock queue.
#[derive(Debug)]
pub enum Waiting {
    /// Boxed: the queue is sorted and moved about.
    Part(Box<Part>),
    /// A command of this core alone that came while one of its slots was in use.
    Single {
        ticket: Ticket,
        entry: &'static Entry,
        words: Words,
        db: usize,
        version: Version,
    },
    /// A transaction all of whose keys are this core's.
    Exec { ticket: Ticket, exec: Box<Exec> },
    /// A WATCH of keys of this core, perhaps among others.
    Watch {
        ticket: Ticket,
        watcher: Arc<Watcher>,
    },
    /// The same from another core: see [`Core::run_unit`].
    Unit {
        ticket: Ticket,
        entry: &'static Entry,
        words: Words,
        db: usize,
        version: Version,
    },
}

/// Puts a part into the lock queue.
pub(crate) fn hold(locks: &mut Locks<Waiting>, mut part: Part) {
    let slots = std::mem::replace(&mut part.slots, Slots::none());
    locks.insert(part.number, slots, Waiting::Part(Box::new(part)));
}

/// Entries on their way: database, key, and what is stored there.
#[derive(Debug, Default)]
pub struct Loan {
    pub entries: Vec<(usize, Box<[u8]>, Option<Parts>)>,
    /// On the way home: which of them changed.
    pub changed: Vec<Name>,
    /// And who has read which for a cache, and who has changed them.
    pub readers: Vec<(Box<[u8]>, Reader)>,
    pub writer: u64,
    /// Somebody who has waited longer than the client for which it is comes first.
    pub yields: bool,
}

/// A transaction that this core coordinates.
pub struct Coordinated {
    pub(crate) number: u64,
    pub(crate) ticket: Ticket,
    /// Parts that have not answered.
    left: usize,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    Gather(Gathered),
    Borrow {
        entry: &'static Entry,
        words: Words,
        db: usize,
        version: Version,
        borrowed: Borrowed,
        /// Keys that the command asked for when it ran before: see [`Wants::Keys`].
        extra: Vec<Box<[u8]>>,
        /// The blocked client whose command this is, claimed.
        waiter: Option<Arc<Waiter>>,
    },
    Visit {
        /// By core.
        answers: Vec<Option<Vec<u8>>>,
        conclude: Conclude,
    },
    /// An EXEC that borrows its keys.
    Exec(Box<Exec>, Borrowed),
    /// An EXEC that holds every core.
    Exclusive(Box<Exclusive>),
    /// A command that a thread does.
    Aside(Away),
}

/// What a transaction has borrowed so far.
#[derive(Default)]
pub(crate) struct Borrowed {
    loans: Vec<(u16, Loan, Order)>,
    /// The coordinator's own locks.
    own: Option<Order>,
    /// The command does not run: see [`Loan::yields`].
    yields: bool,
}

impl Borrowed {
    /// What a command of one core holds.
    fn nothing(own: Order) -> Self {
        Self {
            own: Some(own),
            ..Self::default()
        }
    }
    pub fn loans_mut(&mut self) -> impl Iterator<Item = &mut Loan> {
        self.loans.iter_mut().map(|(_, loan, _)| loan)
    }
    pub fn take_own(&mut self) -> Option<Order> {
        self.own.take()
    }
}

/// Puts borrowed keys into a keyspace; `guests`: and notes that they are here, for commands that ask.
pub(crate) fn bring_in(shard: &mut Shard, loan: &mut Loan, guests: bool) {
    shard.attention.guests_changed.get_or_insert_default();
    for (db, key, parts) in &mut loan.entries {
        if let Some(parts) = parts.take() {
            shard.restore(*db, key, parts);
        }
        if guests {
            shard.guests.insert((*db, key.clone()));
        }
    }
}
/// Takes borrowed keys out again. What `writer` changed of them goes home with them.
pub(crate) fn take_out(shard: &mut Shard, loan: &mut Loan, writer: u64) {
    for (db, key, parts) in &mut loan.entries {
        *parts = shard.lend(*db, key);
    }
    let changed = shard.attention.guests_changed.iter().flatten();
    let ours = |name: &&Name| {
        loan.entries
            .iter()
            .any(|(db, key, _)| *db == name.0 && *key == name.1)
    };
    loan.changed = changed.filter(ours).cloned().collect();
    let away = &mut shard.attention.tracking.away;
    if !away.is_empty() {
        let read =
            |(key, _): &mut (Box<[u8]>, Reader)| loan.entries.iter().any(|(_, k, _)| k == key);
        loan.readers = away.extract_if(.., read).collect();
    }
    loan.writer = writer;
}

/// A command that concerns several cores, and where its reply goes.
pub(crate) struct Request<'a> {
    pub ticket: Ticket,
    pub entry: &'static Entry,
    pub args: Args<'a>,
    pub db: usize,
    pub version: Version,
}

/// Which core gets which share of a command.
struct Share {
    core: u16,
    slots: Vec<u16>,
    /// Indexes of the keys' words.
    keys: Vec<usize>,
}

impl Core {
    /// Who owns which of these words.
    fn shares(&self, words: &[&[u8]], keys: &[usize]) -> Vec<Share> {
        let mut shares: Vec<Share> = Vec::new();
        for &index in keys {
            let slot = ringwood_protocol::slot::key_slot(words[index]);
            let core = self.owner(slot);
            let place = shares.iter().position(|s| s.core == core);
            let place = place.unwrap_or_else(|| {
                shares.push(Share {
                    core,
                    slots: Vec::new(),
                    keys: Vec::new(),
                });
                shares.len() - 1
            });
            shares[place].slots.push(slot);
            shares[place].keys.push(index);
        }
        shares
    }

    /// Gives each part to its owner under one number.
    fn issue(&mut self, transaction: u32, parts: Vec<(u16, Slots, PartWork)>) -> u64 {
        // What was gathered before comes first in the order.
        self.send_gathered();
        let Core {
            id,
            shared,
            mailbox,
            locks,
            own_parts,
            ..
        } = self;
        shared.sequencer.issue(*id, |number| {
            for (core, slots, work) in parts {
                let part = Part {
                    number,
                    coordinator: *id as u16,
                    transaction,
                    slots,
                    work,
                };
                if core as usize == *id {
                    *own_parts = true;
                    hold(locks, part);
                } else {
                    mailbox.send_part(core as usize, part);
                }
            }
            number
        })
    }

    /// Runs a command on this core with all its keys, wherever they are, and the `extra` ones; for a blocked client with its
    /// `waiter`.
    pub(crate) fn borrow(
        &mut self,
        request: &Request<'_>,
        keys: &[usize],
        extra: Vec<Box<[u8]>>,
        waiter: Option<Arc<Waiter>>,
    ) {
        let &Request {
            ticket,
            entry,
            args,
            db,
            version,
        } = request;
        // A key named twice is lent once.
        let mut named: Vec<&[u8]> = keys
            .iter()
            .map(|&k| args[k])
            .chain(extra.iter().map(|k| &**k))
            .collect();
        named.sort_unstable();
        named.dedup();
        let all: Vec<usize> = (0..named.len()).collect();
        let shares = self.shares(&named, &all);
        let left = shares.len();
        // COPY's destination may be in another database; both keys are lent from both.
        let dbs = [
            Some(db),
            other_database(entry, args, db, self.shard.keyspace.databases()),
        ];
        let parts = shares
            .into_iter()
            .map(|share| {
                let keys = share.keys.iter().flat_map(|&key| {
                    let dbs = dbs.iter().flatten();
                    dbs.map(move |&db| (db, key))
                });
                let keys = keys.map(|(db, key)| (db, Box::from(named[key]))).collect();
                let slots = Slots::of(share.slots);
                let work = PartWork::Lend {
                    keys,
                    watched: Vec::new(),
                    waiter: waiter.clone(),
                };
                (share.core, slots, work)
            })
            .collect();
        let words = Words::new(args.iter().copied());
        let kind = Kind::Borrow {
            entry,
            words,
            db,
            version,
            borrowed: Borrowed::default(),
            extra,
            waiter,
        };
        self.transact(ticket, left, kind, parts);
    }

    /// Begins a transaction of these parts, `left` of which answer.
    pub(crate) fn transact(
        &mut self,
        ticket: Ticket,
        mut left: usize,
        kind: Kind,
        mut parts: Vec<(u16, Slots, PartWork)>,
    ) {
        let own = self.id as u16;
        let borrows = matches!(kind, Kind::Borrow { .. } | Kind::Exec(..));
        if borrows && parts.iter().all(|(core, ..)| *core != own) {
            // It runs here, and is noted in this core's log: before what concerns all keys if its number is smaller. Otherwise
            // the log would have it behind a FLUSHALL, or a rewrite's point, that its owners have it before.
            let work = PartWork::Lend {
                keys: Vec::new(),
                watched: Vec::new(),
                waiter: None,
            };
            parts.push((own, Slots::Presence, work));
            left += 1;
        }
        let transaction = self.name_transaction();
        let number = self.issue(transaction, parts);
        let begun = Coordinated {
            number,
            ticket,
            left,
            kind,
        };
        self.transactions.insert(transaction, begun);
    }
    pub(crate) fn name_transaction(&mut self) -> u32 {
        let transaction = self.next_transaction;
        self.next_transaction = self.next_transaction.wrapping_add(1);
        transaction
    }
    /// Puts a transaction back that was taken out to be worked on.
    pub(crate) fn keep_transaction(&mut self, transaction: u32, ticket: Ticket, kind: Kind) {
        let kept = Coordinated {
            number: 0,
            ticket,
            left: 0,
            kind,
        };
        self.transactions.insert(transaction, kept);
    }

    /// Takes new parts in and runs everything whose turn has come.
    pub(crate) fn run_parts(&mut self) {
        if !self.mailbox.has_parts() && self.locks.is_empty() {
            return;
        }
        // The order matters: the frontier first, then the inbox (see the sequencer's proof).
        let frontier = self.shared.sequencer.frontier();
        while let Some(part) = self.mailbox.next_part() {
            hold(&mut self.locks, part);
        }
        self.locks.advance(frontier);
        self.run_unlocked();
    }

    /// Runs what waits in the lock queue and may start.
    pub(crate) fn run_unlocked(&mut self) {
        while !self.ending {
            // Who waits for what the last work changed comes before the next work, which may take it.
            if !self.shard.attention.touched.is_empty() {
                self.serve_blocked();
            }
            let Some((order, work)) = self.locks.start_next() else {
                break;
            };
            match work {
                Waiting::Single {
                    ticket,
                    entry,
                    words,
                    db,
                    version,
                } => {
                    let mut reply = Vec::new();
                    self.caller = ticket;
                    self.shard.guests_only = entry.widens();
                    let wants = self.run_owned(entry, &words, db, version, Mode::ASIDE, &mut reply);
                    self.shard.guests_only = false;
                    if wants.as_deref() == Some(&Wants::Aside) {
                        // Its locks stay: what the client sent after it is behind them.
                        self.begin_aside(Long {
                            ticket,
                            entry,
                            words,
                            db,
                            version,
                            number: 0,
                            borrowed: Borrowed::nothing(order),
                        });
                        continue;
                    }
                    self.stats.called(entry);
                    self.locks.release(order);
                    match wants {
                        None => self.answer(ticket, reply),
                        Some(wants) => {
                            let args = words.slices();
                            let request = Request {
                                ticket,
                                entry,
                                args: &args,
                                db,
                                version,
                            };
                            self.widen(&request, *wants);
                        }
                    }
                }
                Waiting::Exec { ticket, exec } => {
                    self.run_exec(*exec, Some(ticket));
                    self.locks.release(order);
                }
                Waiting::Watch { ticket, watcher } => {
                    self.locks.release(order);
                    self.watch_now(&watcher, ticket);
                }
                Waiting::Unit {
                    ticket,
                    entry,
                    words,
                    db,
                    version,
                } => {
                    let mut reply = Vec::new();
                    self.within.runs_for(ticket);
                    let args = words.slices();
                    let done = self.run_unit(ticket, entry, &args, db, version, &mut reply);
                    self.within.runs_for(Ticket::NOBODY);
                    self.locks.release(order);
                    match done {
                        true => self.answer(ticket, reply),
                        false => self.send_wide(ticket, entry, words, db, version),
                    }
                }
                Waiting::Part(part) => {
                    let Part {
                        coordinator,
                        transaction,
                        number,
                        work,
                        ..
                    } = *part;
                    match work {
                        PartWork::Run(mut parcel) => {
                            self.run_shares(&mut parcel);
                            self.locks.release(order);
                            if coordinator as usize == self.id {
                                self.shares_done(self.id, transaction, number, parcel);
                            } else {
                                let mail = Mail::SharesDone {
                                    transaction,
                                    number,
                                    parcel,
                                };
                                self.mailbox.send(coordinator as usize, mail);
                            }
                        }
                        PartWork::Publish { message, tell } => {
                            self.locks.release(order);
                            self.run_publish(coordinator as usize, transaction, &message, tell);
                        }
                        PartWork::Subscribe(change) => {
                            self.locks.release(order);
                            self.run_change(&change);
                        }
                        PartWork::Visit(Visit(ask)) => {
                            let answer = ask(self);
                            self.locks.release(order);
                            if coordinator as usize == self.id {
                                self.part_done(self.id, transaction, number, answer);
                            } else {
                                self.mailbox.send(
                                    coordinator as usize,
                                    Mail::PartDone {
                                        transaction,
                                        number,
                                        reply: answer,
                                    },
                                );
                            }
                        }
                        PartWork::Lend { waiter, .. } if coordinator as usize == self.id => {
                            let loan = Loan {
                                yields: waiter.is_some_and(|w| self.blocking.yields(&w)),
                                ..Loan::default()
                            };
                            self.lent(self.id, transaction, number, loan, order);
                        }
                        PartWork::Lend {
                            keys,
                            watched,
                            waiter,
                        } => {
                            for (db, key) in watched {
                                let key = self.shard.key(&key);
                                self.shard.expire_if_due(db, key);
                            }
                            let mut loan = self.lend_keys(keys);
                            loan.yields = waiter.is_some_and(|w| self.blocking.yields(&w));
                            self.mailbox.send(
                                coordinator as usize,
                                Mail::Lent {
                                    transaction,
                                    number,
                                    loan,
                                    order,
                                },
                            );
                        }
                    }
                }
            }
        }
    }

    /// The transaction whose part a core has done, if that was the last one.
    pub(crate) fn part_of(
        &mut self,
        transaction: u32,
        number: u64,
        note: impl FnOnce(&mut Kind),
    ) -> Option<Coordinated> {
        let t = self
            .transactions
            .get_mut(&transaction)
            .expect("a part answers a transaction under way");
        assert_eq!(t.number, number, "a part answers its own transaction");
        note(&mut t.kind);
        t.left -= 1;
        if t.left > 0 {
            return None;
        }
        self.transactions.remove(&transaction)
    }
    /// A core has answered a question.
    pub(crate) fn part_done(&mut self, from: usize, transaction: u32, number: u64, reply: Vec<u8>) {
        let t = self.part_of(transaction, number, |kind| match kind {
            Kind::Visit { answers, .. } => answers[from] = Some(reply),
            _ => panic!("an answer to what was no question"),
        });
        if let Some(Coordinated {
            ticket,
            kind: Kind::Visit { answers, conclude },
            ..
        }) = t
        {
            conclude(self, ticket, answers.into_iter().flatten().collect());
        }
    }

    /// Has every core answer a question, as [`Core::ask_all`], but all of them at one point in the order of transactions: what is done by then every
    /// answer knows of, and none of what comes after.
    pub(crate) fn visit_all(&mut self, ticket: Ticket, ask: Question, conclude: Conclude) {
        let cores = 0..self.cores() as u16;
        let parts: Vec<_> = cores
            .map(|core| (core, Slots::All, PartWork::Visit(Visit(ask.clone()))))
            .collect();
        let answers = parts.iter().map(|_| None).collect();
        let kind = Kind::Visit { answers, conclude };
        self.transact(ticket, parts.len(), kind, parts);
    }

    pub(crate) fn lent(
        &mut self,
        from: usize,
        transaction: u32,
        number: u64,
        loan: Loan,
        order: Order,
    ) {
        let t = self
            .transactions
            .get_mut(&transaction)
            .expect("a loan is for a transaction under way");
        assert_eq!(t.number, number, "a loan is for its own transaction");
        match &mut t.kind {
            Kind::Borrow { borrowed, .. } | Kind::Exec(_, borrowed) if from == self.id => {
                borrowed.yields |= loan.yields;
                borrowed.own = Some(order);
            }
            Kind::Borrow { borrowed, .. } | Kind::Exec(_, borrowed) => {
                borrowed.yields |= loan.yields;
                borrowed.loans.push((from as u16, loan, order));
            }
            Kind::Exclusive(all) => all.held(from as u16, order, from == self.id),
            Kind::Gather(_) | Kind::Visit { .. } | Kind::Aside(_) => {
                panic!("a loan for a transaction of parts")
            }
        }
        t.left -= 1;
        if t.left > 0 {
            return;
        }
        match t.kind {
            Kind::Exclusive(_) => self.begin_exclusive(transaction),
            _ => self.run_borrowed(transaction),
        }
    }

    /// Takes keys out for another core.
    pub(crate) fn lend_keys(&mut self, keys: Vec<Name>) -> Loan {
        let lend = |(db, key): Name| {
            let parts = self.shard.lend(db, &key);
            self.shard.note_away(&key);
            (db, key, parts)
        };
        let entries: Vec<_> = keys.into_iter().map(lend).collect();
        self.blocking.note_lent(&self.shard, &entries);
        Loan {
            entries,
            ..Loan::default()
        }
    }
    pub(crate) fn bring_in(&mut self, loan: &mut Loan, guests: bool) {
        bring_in(&mut self.shard, loan, guests);
    }
    pub(crate) fn take_out(&mut self, loan: &mut Loan) {
        take_out(&mut self.shard, loan, self.caller.client);
    }

    /// All locks are held and all foreign entries are here: runs the command and sends the entries home.
    fn run_borrowed(&mut self, transaction: u32) {
        let t = self
            .transactions
            .remove(&transaction)
            .expect("called with a transaction under way");
        let (entry, words, db, version, mut borrowed, mut extra, waiter) = match t.kind {
            Kind::Borrow {
                entry,
                words,
                db,
                version,
                borrowed,
                extra,
                waiter,
            } => (entry, words, db, version, borrowed, extra, waiter),
            Kind::Exec(exec, mut borrowed) => {
                for (_, loan, _) in &mut borrowed.loans {
                    // A script asks what it reaches.
                    self.bring_in(loan, exec.is_script());
                }
                self.begin_log_group();
                let again = self.run_exec_borrowed(t.ticket, *exec);
                self.shard.guests.clear();
                self.end_log_group(t.number);
                self.give_back(borrowed, None);
                if let Some(exec) = again {
                    self.start_exclusive(t.ticket, exec);
                }
                return;
            }
            _ => unreachable!("the caller's"),
        };
        if let Some(waiter) = waiter.as_ref().filter(|_| borrowed.yields) {
            // Its queues stand still until who comes first has run; then its turn comes again.
            waiter.release();
            return self.send_home(borrowed, None);
        }
        for (_, loan, _) in &mut borrowed.loans {
            // Only commands that may ask for more ask what they reach.
            self.bring_in(loan, entry.widens());
        }
        if entry.widens() {
            // This core's own are held if they were asked for.
            let named = self.key_names(entry, &words.slices(), db);
            let extra = extra.iter().map(|key| (db, key.clone()));
            self.shard.guests.extend(named.into_iter().chain(extra));
            self.shard.guests_only = true;
        }
        let mut reply = Vec::new();
        let serving = waiter.is_some();
        self.caller = t.ticket;
        self.begin_log_group();
        let how = match serving {
            true => Mode::SERVING,
            false => Mode::ASIDE,
        };
        let wants = self.run_owned(entry, &words, db, version, how, &mut reply);
        self.end_log_group(t.number);
        self.shard.guests.clear();
        self.shard.guests_only = false;
        if wants.as_deref() == Some(&Wants::Aside) {
            for (_, loan, _) in &mut borrowed.loans {
                self.take_out(loan);
            }
            self.shard.attention.guests_changed = None;
            return self.begin_aside(Long {
                ticket: t.ticket,
                entry,
                words,
                db,
                version,
                number: t.number,
                borrowed,
            });
        }
        if waiter.is_none() {
            self.stats.called(entry);
        }
        let (block, wider) = match wants.map(|w| *w) {
            None => (None, None),
            Some(Wants::Change(block)) => (Some(block), None),
            Some(Wants::Keys(keys)) => (None, Some(keys)),
            Some(Wants::Aside) => unreachable!("looked at above"),
        };
        let mut in_vain = false;
        let begun = match (block, &waiter) {
            (Some(block), None) => {
                let begun = self.begin_wait(t.ticket, entry, words.clone(), db, version, block);
                reply.clear();
                begun
            }
            (Some(_), Some(waiter)) => {
                waiter.release();
                in_vain = true;
                None
            }
            (None, Some(waiter)) => {
                self.conclude(waiter, &reply);
                None
            }
            (None, None) => {
                match wider {
                    None => self.answer(t.ticket, reply),
                    Some(keys) => {
                        // Before the entries go home: nothing was changed, and what is issued now comes later anyway.
                        let args = words.slices();
                        let mut own_keys = Vec::new();
                        entry.key_indexes(&args, &mut own_keys);
                        extra.extend(keys);
                        let request = Request {
                            ticket: t.ticket,
                            entry,
                            args: &args,
                            db,
                            version,
                        };
                        self.borrow(&request, &own_keys, extra, None);
                    }
                }
                None
            }
        };
        self.give_back(borrowed, begun);
        if let Some(waiter) = waiter.filter(|_| in_vain) {
            // The mail brings the entries first.
            self.retried_in_vain(&waiter);
        }
    }

    /// Takes borrowed keys out and sends them home, and unlocks everything; `waiter` waits for some of them from now on.
    fn give_back(&mut self, mut borrowed: Borrowed, waiter: Option<Arc<Waiter>>) {
        for (_, loan, _) in &mut borrowed.loans {
            self.take_out(loan);
        }
        self.shard.attention.guests_changed = None;
        self.send_home(borrowed, waiter);
        if !self.shard.attention.touched.is_empty() {
            self.serve_blocked();
        }
    }
    pub(crate) fn send_home(&mut self, borrowed: Borrowed, waiter: Option<Arc<Waiter>>) {
        for (core, loan, order) in borrowed.loans {
            let back = Mail::GiveBack {
                order: Some(order),
                loan,
                waiter: waiter.clone(),
            };
            self.mailbox.send(core as usize, back);
        }
        if let Some(order) = borrowed.own {
            self.locks.release(order);
        }
        // Called from within `run_unlocked` or from the mail; what waited for our own slots goes on in the next round.
        self.unlocked = true;
    }

    /// A command that ran on its owner wants more keys: it runs again with all of them.
    pub(crate) fn widen(&mut self, request: &Request<'_>, wants: Wants) {
        let mut keys = Vec::new();
        request.entry.key_indexes(request.args, &mut keys);
        let extra = match wants {
            Wants::Keys(extra) => extra,
            Wants::Aside => return self.wait_for_locks(request, &keys),
            Wants::Change(_) => panic!(
                "{} waits on a path for commands that do not block",
                request.entry.name
            ),
        };
        self.borrow(request, &keys, extra, None);
    }

    /// A long command of this core alone: it waits for its slots, though they are free now, and holds them then.
    fn wait_for_locks(&mut self, request: &Request<'_>, keys: &[usize]) {
        let &Request {
            ticket,
            entry,
            args,
            db,
            version,
        } = request;
        let slots = keys
            .iter()
            .map(|&k| ringwood_protocol::slot::key_slot(args[k]));
        let work = Waiting::Single {
            ticket,
            entry,
            words: Words::new(args.iter().copied()),
            db,
            version,
        };
        // It is counted when it is done.
        self.stats.not_called(entry);
        self.locks.defer(Slots::of(slots.collect()), work);
        self.unlocked = true;
    }

    /// Keys come home. Without an order the transaction goes on, and their slots stay locked.
    pub(crate) fn given_back(
        &mut self,
        order: Option<Order>,
        loan: Loan,
        waiter: Option<Arc<Waiter>>,
    ) {
        let mut in_vain = Vec::new();
        for (db, key, parts) in loan.entries {
            if let Some(parts) = parts {
                self.shard.restore(db, &key, parts);
            }
            self.shard.note_home(&key);
            match self.blocking.note_returned(db, &key) {
                Some(Meanwhile::Touched) => self.shard.attention.look_again(db, &key),
                Some(Meanwhile::InVain(waiter)) => in_vain.push(waiter),
                Some(Meanwhile::Nothing) | None => {}
            }
        }
        // First the readers: who read it may have done so before it changed.
        for (key, reader) in loan.readers {
            self.shard.attention.tracking.remember(&key, reader);
        }
        self.shard.attention.tracking.writer = loan.writer;
        for (db, key) in loan.changed {
            if self.shard.attention.tracking.on {
                self.shard.attention.tracking.changed(&key);
            }
            self.shard.attention.changed(db, &key, 0, |_| false);
        }
        self.shard.attention.tracking.writer = 0;
        if let Some(waiter) = waiter {
            self.enqueue(&waiter);
        }
        let Some(order) = order else {
            for waiter in in_vain {
                self.touch_keys(&waiter);
            }
            return;
        };
        self.locks.release(order);
        for waiter in in_vain {
            self.serve_behind(&waiter);
        }
        if !self.shard.attention.touched.is_empty() {
            self.serve_blocked();
        }
        self.unlocked = true;
    }
}

/// The database that COPY's DB option names; of several the last counts.
fn copy_db<'a>(args: Args<'a>) -> Option<&'a [u8]> {
    let options = args.get(3..)?;
    let at = options
        .iter()
        .rposition(|word| word.eq_ignore_ascii_case(b"DB"))?;
    options.get(at + 1).copied()
}

/// The database into which a command reaches besides the client's: COPY and MOVE do.
fn other_database(entry: &Entry, args: Args<'_>, db: usize, databases: usize) -> Option<usize> {
    let word = match entry.spec.name {
        "COPY" => copy_db(args),
        "MOVE" => args.get(2).copied(),
        _ => None,
    };
    let other: usize = std::str::from_utf8(word?).ok()?.parse().ok()?;
    (other != db && other < databases).then_some(other)
}

/// The keys of a command, in each database in which it may look for them.
pub(crate) fn names_of(entry: &Entry, args: Args<'_>, db: usize, databases: usize) -> Vec<Name> {
    let mut found = Vec::new();
    entry.key_indexes(args, &mut found);
    let other = other_database(entry, args, db, databases);
    let keys = found.iter().filter_map(|&at| args.get(at).copied());
    let each = |key: &[u8]| {
        let dbs = std::iter::once(db).chain(other);
        dbs.map(|db| (db, Box::from(key))).collect::<Vec<Name>>()
    };
    keys.flat_map(each).collect()
}

impl Core {
    /// The keys of a command, in each database in which it may look for them.
    pub(crate) fn key_names(&self, entry: &Entry, args: Args<'_>, db: usize) -> Vec<Name> {
        names_of(entry, args, db, self.shard.keyspace.databases())
    }

    /// Those of the keys that other cores own, by owner; a key named twice is there once.
    pub(crate) fn elsewhere(&self, names: &[Name]) -> Vec<(usize, Vec<Name>)> {
        let mut by_core: Vec<Vec<Name>> = vec![Vec::new(); self.cores()];
        for name in names {
            let owner = self.owner(ringwood_protocol::slot::key_slot(&name.1)) as usize;
            if owner != self.id {
                by_core[owner].push(name.clone());
            }
        }
        for names in &mut by_core {
            names.sort_unstable();
            names.dedup();
        }
        let shares = by_core.into_iter().enumerate();
        shares.filter(|(_, names)| !names.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_database_of_a_copy_counts() {
        let db = |line: &str| {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            copy_db(&words).map(<[u8]>::to_vec)
        };
        assert_eq!(db("COPY a b DB 15 REPLACE dB 5"), Some(b"5".to_vec()));
        assert_eq!(db("COPY a DB DB 3"), Some(b"3".to_vec()));
        assert_eq!((db("COPY a b DB"), db("COPY a b")), (None, None));
    }
}
