//! Commands that many cores have a share in: those whose keys each owner can look after by itself (MGET, MSET, DEL …), and those about
//! all keys (DBSIZE, FLUSHALL …). Every owner runs its share; the coordinator makes one reply of theirs. So it is with an EXEC each of
//! whose commands has its keys on one core ([`crate::multi`]): an owner's share are its commands.
//!
//! The first and the last kind are gathered over a turn, of all clients, and go out as one transaction: one number, one part for each core, one answer from
//! each. What a number, a part and an answer cost is thus shared by all commands of the turn; what is left of each is the way of its words there
//! and of its reply back. To the rest of the world they are one transaction, which is as atomic as each by itself.
//!
//! Until they go out nobody knows of them, so a command of this core that could overtake one of its own client sends them out first:
//! [`may_follow`], [`Gathering::uses`].

use crate::core::Core;
use crate::mailbox::{Item, Parcel, Ticket};
use crate::merge::merge_replies;
use crate::multi::{Queued, write_null};
use crate::registry::{Entry, Keys, Run};
use crate::request::{DataCall, GROUP, run};
use crate::spares::Spares;
use crate::transaction::{Coordinated, Kind, PartWork, Request};
use ringwood_protocol::command::{BLOCKING, Merge, Route};
use ringwood_protocol::reply::{Reply, Version};
use ringwood_protocol::slot::key_slot;
use ringwood_shard::ctx::Wants;
use ringwood_shard::keyspace::Key;
use ringwood_shard::locks::{Slots, bit};

/// Commands that go out together at most. More do not make each cheaper, and the other cores could have begun.
const COMMANDS_MAX: usize = 256;

/// What one turn has gathered so far.
pub(crate) struct Gathering {
    gathered: Gathered,
    /// Of an EXEC each of its commands counts.
    count: usize,
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
    /// The owners of all their keys, and of the commands of EXECs, in a row.
    owners: Vec<u16>,
    /// By core: the shares that are back.
    done: Vec<Option<Box<Parcel>>>,
}

struct Command {
    ticket: Ticket,
    /// `None`: an EXEC, whose reply is those of its commands.
    merge: Option<Merge>,
    version: Version,
    /// How many keys, or commands of an EXEC.
    keys: usize,
}

/// True for a command that may run while others are gathered: it is gathered too, looks at its one key's slot itself, or looks at none.
pub(crate) fn may_follow(entry: &Entry) -> bool {
    match (entry.spec.run, entry.spec.route) {
        (Run::Server(_), _) => entry.spec.name == "MULTI",
        (_, Route::Scatter(_)) => true,
        (_, Route::Owner) => matches!(entry.keys, Keys::One(_)) && !entry.has(BLOCKING),
        _ => false,
    }
}

impl Gathering {
    pub fn new(cores: usize) -> Self {
        Self {
            gathered: Gathered::default(),
            count: 0,
            shares: (0..cores).map(|_| None).collect(),
            own: 0,
        }
    }
    fn share(&mut self, owner: u16, spare: &mut Spares<Box<Parcel>>) -> &mut Share {
        self.gathered.owners.push(owner);
        self.shares[owner as usize].get_or_insert_with(|| Share {
            parcel: spare.pop().unwrap_or_default(),
            slots: Vec::new(),
            command: usize::MAX,
        })
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
            if owner as usize == self.id {
                self.gathering.own |= bit(slot);
            }
            let share = self.gathering.share(owner, &mut self.spare_parcels);
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
        self.add_gathered(1, ticket, Some(merge), version, keys.len());
    }

    /// Adds an EXEC with its commands' owners to what this turn gathers.
    pub(crate) fn gather_exec(
        &mut self,
        ticket: Ticket,
        db: usize,
        version: Version,
        commands: &[Queued],
        owners: &[u16],
    ) {
        let mut keys = Vec::new();
        for (Queued { entry, words, key }, &owner) in commands.iter().zip(owners) {
            // One call, wherever it runs.
            self.stats.called(entry);
            let is_own = owner as usize == self.id;
            let share = self.gathering.share(owner, &mut self.spare_parcels);
            let mut own = 0;
            let mut add = |slot| {
                share.slots.push(slot);
                own |= bit(slot);
            };
            let (slot, hash) = key.unwrap_or_default();
            match entry.keys {
                Keys::One(_) => add(slot),
                _ => {
                    let args = words.slices();
                    keys.clear();
                    entry.key_indexes(&args, &mut keys);
                    keys.iter().for_each(|&at| add(key_slot(args[at])));
                }
            }
            share.parcel.items.push(Item {
                ticket,
                entry,
                hash,
                slot,
                db: db as u16,
                version,
                argc: words.len() as u32,
                reply_end: 0,
                deferred: false,
                whole: true,
            });
            share.parcel.put_all(words);
            if is_own {
                self.gathering.own |= own;
            }
        }
        self.add_gathered(commands.len(), ticket, None, version, commands.len());
    }

    fn add_gathered(
        &mut self,
        count: usize,
        ticket: Ticket,
        merge: Option<Merge>,
        version: Version,
        keys: usize,
    ) {
        self.gathering.gathered.commands.push(Command {
            ticket,
            merge,
            version,
            keys,
        });
        self.gathering.count += count;
        if self.gathering.count >= COMMANDS_MAX {
            self.send_gathered();
        }
    }

    /// Sends out what has been gathered.
    pub(crate) fn send_gathered(&mut self) {
        if self.gathering.is_empty() {
            return;
        }
        let gathered = std::mem::take(&mut self.gathering.gathered);
        (self.gathering.own, self.gathering.count) = (0, 0);
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
            merge: Some(merge),
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
            ..
        } = parcel;
        let (mut args, mut keys, mut at) = (Vec::new(), Vec::new(), 0);
        let mut slots = slots.iter();
        // Where the lap begins: see `observe`.
        let mut lap = 0;
        for i in 0..items.len() {
            if i.is_multiple_of(GROUP) {
                self.prefetch_whole(&items[i..items.len().min(i + GROUP)]);
            }
            args.clear();
            let (begin, from) = (at, replies.len());
            at = Parcel::read(words, at, items[i].argc, &mut args);
            let Item {
                entry,
                whole,
                hash,
                slot,
                ..
            } = items[i];
            keys.clear();
            match (whole, entry.keys) {
                (true, Keys::One(at)) => {
                    keys.extend(args.get(at).map(|bytes| Key { bytes, hash, slot }))
                }
                (true, _) => {}
                (false, _) => {
                    // A command about all keys has no slots.
                    let hasher = self.shard.keyspace.hasher();
                    for (&bytes, &slot) in args[1..].iter().step_by(step(entry)).zip(&mut slots) {
                        let hash = hasher.hash(bytes);
                        keys.push(Key { bytes, hash, slot });
                    }
                }
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
            match wants.as_deref() {
                None => {}
                // It may not wait in a transaction.
                Some(Wants::Change(block)) if whole => {
                    replies.truncate(from);
                    write_null(&mut Reply::new(replies, item.version), entry, block.null);
                }
                Some(_) => panic!("{} wants more than its share", entry.name),
            }
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

    #[inline]
    fn prefetch_whole(&self, items: &[Item]) {
        let keyspace = &self.shard.keyspace;
        let items = || items.iter().filter(|i| i.whole);
        for i in items() {
            keyspace.prefetch_bucket(i.db as usize, i.slot, i.hash);
        }
        for i in items() {
            keyspace.prefetch_entry(i.db as usize, i.slot, i.hash);
        }
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
            let owners = &owners[key..key + command.keys];
            key += command.keys;
            let &Command {
                ticket,
                merge,
                version,
                ..
            } = command;
            parts.clear();
            let Some(merge) = merge else {
                for &owner in owners {
                    let parcel = done[owner as usize].as_ref().expect("its commands ran");
                    let (item, from) = &mut next[owner as usize];
                    let to = parcel.items[*item].reply_end as usize;
                    parts.push(&parcel.replies[*from..to]);
                    (*item, *from) = (*item + 1, to);
                }
                self.answer_by(ticket, |out| {
                    Reply::new(out, version).array(parts.len());
                    parts.iter().for_each(|part| out.extend_from_slice(part));
                });
                continue;
            };
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
            let random = match merge {
                Merge::WeightedPick => self.shard.random(),
                _ => 0,
            };
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
        whole: false,
    }
}
