//! Commands that many cores have a share in: those whose keys each owner can look after by itself (MGET, MSET, DEL …), and those about
//! all keys (DBSIZE, FLUSHALL …). Every owner runs its share; the coordinator makes one reply of theirs.
//!
//! The first kind is gathered over a turn, of all clients, and goes out as one transaction: one number, one part for each core, one answer from
//! each. What a number, a part and an answer cost is thus shared by all commands of the turn; what is left of each is the way of its words there
//! and of its reply back. To the rest of the world they are one transaction, which is as atomic as each by itself.
//!
//! Until they go out nobody knows of them, so a command of this core that could overtake one of its own client sends them out first:
//! [`may_follow`], [`Gathering::uses`].

use crate::core::Core;
use crate::mailbox::{Item, Parcel, Ticket};
use crate::merge::merge_replies;
use crate::registry::{Entry, Keys, Run};
use crate::request::{DataCall, run};
use crate::transaction::{Coordinated, Kind, PartWork, Request};
use ringwood_protocol::command::{BLOCKING, Merge, Route};
use ringwood_protocol::reply::Version;
use ringwood_shard::keyspace::Key;
use ringwood_shard::locks::{Slots, bit};

/// Commands that go out together at most. More do not make each cheaper, and the other cores could have begun.
const COMMANDS_MAX: usize = 256;

/// What one turn has gathered so far.
pub(crate) struct Gathering {
    gathered: Gathered,
    /// By core.
    shares: Vec<Option<Share>>,
    /// Of the slots of this core among them.
    own: u64,
}

/// One core's share.
struct Share {
    parcel: Box<Parcel>,
    slots: Vec<u16>,
    /// Which of the gathered commands its last item is a share of.
    command: usize,
}

/// Commands whose shares are with their owners.
#[derive(Default)]
pub(crate) struct Gathered {
    commands: Vec<Command>,
    /// The owners of all their keys, in a row.
    owners: Vec<u16>,
    /// By core: the shares that are back.
    done: Vec<Option<Box<Parcel>>>,
}

struct Command {
    ticket: Ticket,
    merge: Merge,
    version: Version,
    keys: usize,
}

/// True for a command that may run while others are gathered: it is gathered too, or looks at its one key's slot itself.
pub(crate) fn may_follow(entry: &Entry) -> bool {
    matches!(entry.spec.run, Run::Shard(_))
        && match entry.spec.route {
            Route::Scatter(_) => true,
            Route::Owner => matches!(entry.keys, Keys::One(_)) && !entry.has(BLOCKING),
            _ => false,
        }
}

impl Gathering {
    pub fn new(cores: usize) -> Self {
        Self {
            gathered: Gathered::default(),
            shares: (0..cores).map(|_| None).collect(),
            own: 0,
        }
    }
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.gathered.commands.is_empty()
    }
    /// True if a key of this core in that slot may be among them.
    #[inline]
    pub fn uses(&self, slot: u16) -> bool {
        self.own & bit(slot) != 0
    }
}

impl Core {
    /// Adds a command with its keys' indexes and slots to what this turn gathers.
    pub(crate) fn gather(
        &mut self,
        request: &Request<'_>,
        merge: Merge,
        keys: &[usize],
        slots: &[u16],
    ) {
        let &Request {
            ticket,
            entry,
            args,
            version,
            ..
        } = request;
        // One call, however many shares.
        self.stats.called(entry);
        let step = step(entry);
        let command = self.gathering.gathered.commands.len();
        for (&at, &slot) in keys.iter().zip(slots) {
            let owner = self.owner(slot);
            let Gathering {
                gathered,
                shares,
                own,
            } = &mut self.gathering;
            gathered.owners.push(owner);
            if owner as usize == self.id {
                *own |= bit(slot);
            }
            let share = shares[owner as usize].get_or_insert_with(|| Share {
                parcel: self.spare_parcels.pop().unwrap_or_default(),
                slots: Vec::new(),
                command: usize::MAX,
            });
            share.slots.push(slot);
            let parcel = &mut *share.parcel;
            if share.command != command {
                share.command = command;
                parcel.add(item(request, slot), &args[..1]);
            }
            parcel.slots.push(slot);
            let words = &args[at..at + step];
            words.iter().for_each(|word| parcel.put(word));
            parcel.items.last_mut().expect("there or just added").argc += step as u32;
        }
        let commands = &mut self.gathering.gathered.commands;
        commands.push(Command {
            ticket,
            merge,
            version,
            keys: keys.len(),
        });
        if commands.len() >= COMMANDS_MAX {
            self.send_gathered();
        }
    }

    /// Sends out what has been gathered.
    pub(crate) fn send_gathered(&mut self) {
        if self.gathering.is_empty() {
            return;
        }
        let gathered = std::mem::take(&mut self.gathering.gathered);
        self.gathering.own = 0;
        let shares = self.gathering.shares.iter_mut().enumerate();
        let parts = shares.filter_map(|(core, share)| {
            let Share { parcel, slots, .. } = share.take()?;
            Some((core as u16, Slots::of(slots), PartWork::Run(parcel)))
        });
        let parts = parts.collect();
        self.share_out(gathered, parts);
    }

    /// Has all cores run a command about all keys.
    pub(crate) fn gather_all(&mut self, request: &Request<'_>, merge: Merge) {
        let &Request {
            ticket,
            entry,
            args,
            version,
            ..
        } = request;
        self.stats.called(entry);
        // A node of a cluster speaks for itself; the client asks the others too.
        let cores = match self.clients.get(ticket.conn) {
            Some(client) if client.cluster => self.id as u16..self.id as u16 + 1,
            _ => 0..self.cores() as u16,
        };
        let parts = cores.map(|core| {
            let mut parcel = self.spare_parcels.pop().unwrap_or_default();
            let mut item = item(request, 0);
            item.argc = args.len() as u32;
            parcel.add(item, args);
            (core, Slots::All, PartWork::Run(parcel))
        });
        let parts = parts.collect();
        let command = Command {
            ticket,
            merge,
            version,
            keys: 0,
        };
        let gathered = Gathered {
            commands: vec![command],
            ..Gathered::default()
        };
        self.share_out(gathered, parts);
    }

    fn share_out(&mut self, mut gathered: Gathered, parts: Vec<(u16, Slots, PartWork)>) {
        gathered.done.resize_with(self.cores(), || None);
        self.transact(Ticket::NOBODY, parts.len(), Kind::Gather(gathered), parts);
    }

    /// The owner's half: runs this core's shares.
    pub(crate) fn run_shares(&mut self, parcel: &mut Parcel) {
        let Parcel {
            items,
            words,
            slots,
            replies,
        } = parcel;
        let (mut args, mut keys, mut at) = (Vec::new(), Vec::new(), 0);
        let mut slots = slots.iter();
        // Where the lap begins: see `observe`.
        let mut lap = 0;
        for i in 0..items.len() {
            args.clear();
            let (begin, from) = (at, replies.len());
            at = Parcel::read(words, at, items[i].argc, &mut args);
            let entry = items[i].entry;
            keys.clear();
            // A command about all keys has no slots.
            let hasher = self.shard.keyspace.hasher();
            for (&bytes, &slot) in args[1..].iter().step_by(step(entry)).zip(&mut slots) {
                let hash = hasher.hash(bytes);
                keys.push(Key { bytes, hash, slot });
            }
            let alone = entry.heavy || at - begin >= self.thresholds.alone;
            if alone && i > lap {
                // Put down to the last of them if they took long, without its words.
                let name = items[i - 1].entry.name.as_bytes();
                self.account_items(&items[lap..i], &[name]);
                lap = i;
            }
            let item = &mut items[i];
            crate::crash::note_command(entry, item.ticket.client);
            let call = DataCall {
                entry,
                db: item.db as usize,
                version: item.version,
                keys: &keys,
                serving: false,
                aside: false,
                caller: item.ticket,
            };
            let wants = run(&mut self.shard, &mut self.stats, &call, &args, replies);
            assert!(wants.is_none(), "{} wants more than its share", entry.name);
            item.reply_end = replies.len() as u32;
            let len = replies.len() - from;
            if len >= self.thresholds.lap_reply {
                self.note_reply(item.ticket, entry, &args, len);
            }
            if !self.shard.events.is_empty() {
                self.publish_events();
            }
            if self.lap || alone {
                self.lap = false;
                self.account_items(&items[lap..=i], &args);
                lap = i + 1;
            }
        }
        self.account_items(&items[lap..], &args);
    }

    /// A core's shares are back, with their replies.
    pub(crate) fn shares_done(
        &mut self,
        from: usize,
        transaction: u32,
        number: u64,
        parcel: Box<Parcel>,
    ) {
        let t = self.part_of(transaction, number, |kind| match kind {
            Kind::Gather(gathered) => gathered.done[from] = Some(parcel),
            _ => panic!("shares of a transaction that has none"),
        });
        if let Some(Coordinated {
            kind: Kind::Gather(gathered),
            ..
        }) = t
        {
            self.answer_gathered(gathered);
        }
    }

    /// All shares are back: every command gets its reply.
    fn answer_gathered(&mut self, gathered: Gathered) {
        let Gathered {
            commands,
            owners,
            done,
        } = gathered;
        // By core: the next share, and where its reply begins.
        let mut next = vec![(0usize, 0usize); done.len()];
        let mut parts: Vec<&[u8]> = Vec::with_capacity(done.len());
        let mut key = 0;
        for command in &commands {
            parts.clear();
            for (parcel, (item, from)) in done.iter().zip(&mut next) {
                let share = parcel
                    .as_deref()
                    .and_then(|p| Some((p, p.items.get(*item)?)));
                parts.push(match share {
                    Some((parcel, share)) if share.ticket == command.ticket => {
                        let to = share.reply_end as usize;
                        let part = &parcel.replies[*from..to];
                        (*item, *from) = (*item + 1, to);
                        part
                    }
                    _ => &[],
                });
            }
            let owners = &owners[key..key + command.keys];
            key += command.keys;
            let random = match command.merge {
                Merge::WeightedPick => self.shard.random(),
                _ => 0,
            };
            let &Command {
                ticket,
                merge,
                version,
                ..
            } = command;
            self.answer_by(ticket, |out| {
                merge_replies(merge, &parts, owners, version, random, out);
            });
        }
        for parcel in done.into_iter().flatten() {
            self.spare_parcel(parcel);
        }
    }
}

/// How far apart the keys are among the words.
fn step(entry: &Entry) -> usize {
    match entry.keys {
        Keys::Rest { step, .. } => step,
        _ => 1,
    }
}

/// A share of a command, with its name for now.
fn item(request: &Request<'_>, slot: u16) -> Item {
    Item {
        ticket: request.ticket,
        entry: request.entry,
        hash: 0,
        slot,
        db: request.db as u16,
        version: request.version,
        argc: 1,
        reply_end: 0,
        deferred: false,
    }
}
