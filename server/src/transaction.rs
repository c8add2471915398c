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

mod loan;
mod names;

pub use loan::Loan;
pub(crate) use loan::{Borrowed, bring_in, take_out};
pub(crate) use names::names_of;
use names::other_database;

use crate::aside::{Away, Long};
use crate::blocking::Waiter;
use crate::core::{Conclude, Core, Question};
use crate::gather::Gathered;
use crate::mailbox::{AgainScript, Mail, Parcel, Ticket, Words};
use crate::multi::exclusive::Exclusive;
use crate::multi::{Exec, Watcher};
use crate::pubsub::Change;
use crate::pubsub::message::OwnedMessage;
use crate::registry::Entry;
use crate::request::Mode;
use ringwood_protocol::reply::Version;
use ringwood_shard::ctx::{Args, Wants};
use ringwood_shard::locks::{Locks, Slots};
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
                        Ok(()) => self.answer(ticket, reply),
                        Err(lack) => self.send_again(AgainScript {
                            ticket,
                            lack,
                            entry,
                            words,
                            db,
                            version,
                        }),
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
                    self.bring_in(loan, exec.has_scripts());
                }
                self.begin_log_group();
                let again = self.run_exec_borrowed(t.ticket, *exec);
                self.shard.guests.clear();
                self.end_log_group(t.number);
                self.give_back(borrowed, None);
                if let Some((exec, lack)) = again {
                    self.start_again(t.ticket, exec, lack);
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
}
