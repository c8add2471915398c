//! How cores talk: rings for parcels and answers, inboxes for transaction parts and control messages, and waking who sleeps.
//!
//! - A ring per ordered pair of cores (one producer, one consumer) carries [`Mail`]. When a ring is full, mail waits at its
//!   sender, in order; nobody spins.
//! - An inbox per core (many producers) takes transaction parts. It is unbounded: a part must be in all inboxes before its
//!   announcement is taken back (see [`crate::sequencer`]), so putting one there may not have to wait.
//! - A control channel per core: new connections, configuration, questions to all cores.
//!
//! Waking whom a message finds asleep: see [`crate::sleeper`].

use crate::blocking::Waiter;
use crate::core::Control;
use crate::multi::Watcher;
use crate::multi::exclusive::{Under, UnderDone};
use crate::observe::command_log::Record;
use crate::registry::Entry;
use crate::scripts::Lack;
use crate::sleeper::{Sleeper, published};
use crate::transaction::{Loan, Part};
use crossbeam_channel::{Receiver, Sender};
use crossbeam_queue::SegQueue;
use ringwood_protocol::reply::Version;
use ringwood_shard::locks::Order;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::io::ConnId;

const ITSELF: &str = "a core sends itself no mail";

/// Mail that fits in a ring.
const RING: usize = 1024;

/// Which reply slot of which client an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub core: u16,
    pub conn: ConnId,
    /// The reply's place in the client's order.
    pub seq: u32,
    /// The client's id: connections' numbers are used again.
    pub client: u64,
    pub reads: Reads,
}

/// What the commands of a client leave behind at the keys that they look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// What they read is remembered for the client's cache (CLIENT TRACKING).
    pub tracked: bool,
    /// The keys do not become younger (CLIENT NO-TOUCH).
    pub untouched: bool,
}

impl Reads {
    pub const PLAIN: Self = Self {
        tracked: false,
        untouched: false,
    };
}

impl Ticket {
    /// Whose a command is, for what is noted about it; its reply has no place of its own.
    pub fn of(core: usize, conn: ConnId, client: u64, reads: Reads) -> Self {
        Self {
            core: core as u16,
            conn,
            seq: 0,
            client,
            reads,
        }
    }
    /// For answers that nobody waits for.
    pub const NOBODY: Self = Self {
        core: 0,
        conn: ConnId(u32::MAX),
        seq: 0,
        client: 0,
        reads: Reads::PLAIN,
    };
    /// For answers to the script that runs on the core that asks.
    pub const SCRIPT: Self = Self {
        core: 0,
        conn: ConnId(u32::MAX - 1),
        seq: 0,
        client: 0,
        reads: Reads::PLAIN,
    };
}

/// A command's words in one buffer, to be kept or sent: as in a [`Parcel`].
#[derive(Clone, Debug, Default)]
pub struct Words {
    bytes: Vec<u8>,
    count: usize,
}

impl Words {
    pub fn new<'a>(words: impl IntoIterator<Item = &'a [u8], IntoIter: Clone>) -> Self {
        let words = words.into_iter();
        let len = words.clone().map(|word| 4 + word.len()).sum();
        let mut new = Self {
            bytes: Vec::with_capacity(len),
            count: 0,
        };
        for word in words {
            put(&mut new.bytes, word);
            new.count += 1;
        }
        new
    }
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        (0..self.count).map(move |_| {
            let word = word(&self.bytes, at);
            at += 4 + word.len();
            word
        })
    }
    /// How many words.
    pub fn len(&self) -> usize {
        self.count
    }
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }
    pub fn slices(&self) -> Vec<&[u8]> {
        let mut slices = Vec::with_capacity(self.count);
        slices.extend(self.iter());
        slices
    }
}

/// Appends a word: its length and it.
#[inline]
fn put(bytes: &mut Vec<u8>, word: &[u8]) {
    bytes.reserve(4 + word.len());
    bytes.extend_from_slice(&(word.len() as u32).to_ne_bytes());
    bytes.extend_from_slice(word);
}
/// The word that [`put`] has appended there.
#[inline]
fn word(bytes: &[u8], at: usize) -> &[u8] {
    let (len, rest) = bytes[at..]
        .split_first_chunk::<4>()
        .expect("written by `put`");
    &rest[..u32::from_ne_bytes(*len) as usize]
}

/// One command in a parcel.
#[derive(Debug)]
pub struct Item {
    pub ticket: Ticket,
    pub entry: &'static Entry,
    pub hash: u64,
    pub slot: u16,
    pub db: u16,
    pub version: Version,
    /// Words of the command.
    pub argc: u32,
    /// Where its reply ends in `replies`. A command that had to wait has an empty one: its answer comes later by itself.
    pub reply_end: u32,
    pub deferred: bool,
    /// In a part of a transaction: a command as its client sent it, not one core's share of it.
    pub whole: bool,
}

/// Commands of one core for another, gathered over a turn; it goes back with the replies, so that its buffers are used again.
#[derive(Debug, Default)]
pub struct Parcel {
    pub items: Vec<Item>,
    /// The commands' words, in a row: length (4 bytes) and bytes.
    pub words: Vec<u8>,
    /// The slots of all keys, in a row, of commands with many keys.
    pub slots: Vec<u16>,
    pub replies: Vec<u8>,
    /// So many times in a row it was large.
    large: u8,
}

/// What a parcel keeps of a buffer for its next use: as much as most need, and more where it is used again and again.
const KEPT: usize = 4 << 10;
const KEPT_OF_LARGE: usize = 64 << 10;

impl Parcel {
    pub fn add(&mut self, item: Item, args: &[&[u8]]) {
        args.iter().for_each(|arg| self.put(arg));
        self.items.push(item);
    }
    /// Appends a word of the last command.
    #[inline]
    pub fn put(&mut self, word: &[u8]) {
        put(&mut self.words, word);
    }
    /// Appends the words of a command.
    pub fn put_all(&mut self, words: &Words) {
        self.words.extend_from_slice(&words.bytes);
    }
    /// Reads `argc` words from `at` on, into `args`; returns where the next command's words begin.
    pub fn read<'a>(words: &'a [u8], mut at: usize, argc: u32, args: &mut Vec<&'a [u8]>) -> usize {
        for _ in 0..argc {
            let word = word(words, at);
            args.push(word);
            at += 4 + word.len();
        }
        at
    }
    pub fn clear(&mut self) {
        let most = self.words.len().max(self.replies.len());
        self.large = match most > KEPT {
            true => self.large.saturating_add(1),
            false => 0,
        };
        // One huge value must not keep its memory for ever, and one large reply none at all.
        let kept = if self.large > 1 { KEPT_OF_LARGE } else { KEPT };
        self.items.clear();
        self.words.clear();
        self.slots.clear();
        self.replies.clear();
        self.words.shrink_to(kept);
        self.slots.shrink_to(4 << 10);
        self.replies.shrink_to(kept);
    }
}

/// A script that starts again, for a client of the receiver.
#[derive(Debug)]
pub struct AgainScript {
    pub ticket: Ticket,
    pub lack: Lack,
    pub entry: &'static Entry,
    pub words: Words,
    pub db: usize,
    pub version: Version,
}

/// What goes through a ring.
#[derive(Debug)]
pub enum Mail {
    /// Commands for the receiver's keys.
    Commands(Box<Parcel>),
    /// The same parcel, with replies.
    Replies(Box<Parcel>),
    /// The reply of a command that had to wait.
    Late(Ticket, Vec<u8>),
    /// The shares of commands that a part of a transaction had have run: the parcel with their replies.
    SharesDone {
        transaction: u32,
        number: u64,
        parcel: Box<Parcel>,
    },
    /// A question that was a part of a transaction: its answer.
    PartDone {
        transaction: u32,
        number: u64,
        reply: Vec<u8>,
    },
    /// The keys that a transaction borrows, taken out of their owner's keyspace. The owner keeps their slots locked.
    Lent {
        transaction: u32,
        number: u64,
        loan: Loan,
        order: Order,
    },
    /// The borrowed keys come home.
    GiveBack {
        /// `None`: the transaction goes on, and holds its slots.
        order: Option<Order>,
        loan: Loan,
        /// A client that waits for some of these keys from now on.
        waiter: Option<Arc<Waiter>>,
    },
    /// A blocked client waits no more for keys of the receiver.
    Forget(Arc<Waiter>),
    /// A message that the receiver published, under this number, is with the sender's subscribers.
    Published(u32),
    /// The waiter's command has run over all its keys again and found nothing: who is behind it is looked at.
    InVain(Arc<Waiter>),
    /// A client watches keys of the receiver; the last owner to take note answers the ticket.
    Watch(Arc<Watcher>, Ticket),
    /// A script of one of the receiver's clients needs more than its keys' owner has: it starts again there.
    Again(Box<AgainScript>),
    Unwatch(Arc<Watcher>),
    Tracking(crate::tracking::Message),
    /// A line for the receiver's monitoring clients.
    Monitor(Arc<[u8]>),
    /// A command of a client of the receiver, to be logged.
    Record(Ticket, Box<Record>),
    /// A step of a transaction that holds the receiver, and its answer.
    Under {
        transaction: u32,
        /// The time of the core that holds all: its script or transaction sees no other.
        now_ms: i64,
        under: Under,
    },
    UnderDone {
        transaction: u32,
        done: UnderDone,
        /// What was noted for the log.
        records: Vec<ringwood_shard::log::Record>,
    },
    /// The receiver's part of a transaction, for its log: ahead of whatever lets others see it.
    Log(Vec<u8>),
    /// A transaction that concerns all files: see [`ringwood_shard::log::Log::mark_group`].
    LogMark(Vec<u8>),
}

impl Mail {
    /// Clients' requests: they tell of nothing that this core has done.
    fn passes(&self) -> bool {
        matches!(self, Self::Commands(_) | Self::Watch(..) | Self::Unwatch(_))
    }
    /// A request may come before it: it is a result, or brings what is locked until it is there.
    fn lets_pass(&self) -> bool {
        self.passes()
            || matches!(
                self,
                Self::Replies(_)
                    | Self::Late(..)
                    | Self::SharesDone { .. }
                    | Self::PartDone { .. }
                    | Self::Lent { .. }
                    | Self::GiveBack { .. }
                    | Self::Log(_)
                    | Self::LogMark(_)
                    | Self::Record(..)
                    | Self::Monitor(_)
            )
    }
    /// Clients that it has replies for, roughly.
    fn replies(&self) -> usize {
        match self {
            Self::Replies(parcel) => parcel.items.len(),
            Self::Late(..) | Self::SharesDone { .. } => 1,
            _ => 0,
        }
    }
}

/// What all cores share of the mail.
pub struct Inboxes {
    parts: Box<[SegQueue<Part>]>,
    control: Box<[Sender<Control>]>,
    sleepers: Box<[Sleeper]>,
}

/// One core's ends of all rings and inboxes.
pub struct Mailbox {
    core: usize,
    out: Vec<Option<rtrb::Producer<Mail>>>,
    /// Mail that found its ring full.
    backlog: Vec<VecDeque<Mail>>,
    incoming: Vec<Option<rtrb::Consumer<Mail>>>,
    control: Receiver<Control>,
    shared: Arc<Inboxes>,
    /// Cores that got something since the last wake-up round.
    touched: u128,
    /// Nothing leaves: see [`Mailbox::hold`].
    held: bool,
    /// By core: the number of its backlog's front, and of the first mail that may not leave.
    front: Vec<u64>,
    opened: Vec<u64>,
}

/// How much of the mail for each core there was at a moment: see [`Mailbox::seal`].
pub type Seal = Box<[u64]>;

/// As many as a mailbox has bits for.
pub const CORES_MAX: usize = u128::BITS as usize;

/// Makes the mailboxes of `cores` cores.
pub fn mailboxes(cores: usize) -> (Arc<Inboxes>, Vec<Mailbox>) {
    assert!(cores <= CORES_MAX, "more than 128 shards");
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..cores).map(|_| crossbeam_channel::unbounded()).unzip();
    let shared = Arc::new(Inboxes {
        parts: (0..cores).map(|_| SegQueue::new()).collect(),
        control: senders.into_boxed_slice(),
        sleepers: (0..cores).map(|_| Sleeper::new()).collect(),
    });
    let mut boxes: Vec<Mailbox> = receivers
        .into_iter()
        .enumerate()
        .map(|(core, control)| Mailbox {
            core,
            out: (0..cores).map(|_| None).collect(),
            backlog: (0..cores).map(|_| VecDeque::new()).collect(),
            incoming: (0..cores).map(|_| None).collect(),
            control,
            shared: shared.clone(),
            touched: 0,
            held: false,
            front: vec![1 << 32; cores],
            opened: vec![1 << 32; cores],
        })
        .collect();
    for from in 0..cores {
        for to in 0..cores {
            if from != to {
                let (producer, consumer) = rtrb::RingBuffer::new(RING);
                boxes[from].out[to] = Some(producer);
                boxes[to].incoming[from] = Some(consumer);
            }
        }
    }
    (shared, boxes)
}

impl Inboxes {
    /// Sends a control message from any thread. The receiver must be woken with what [`Inboxes::must_wake`] says.
    pub fn control(&self, core: usize, message: Control) {
        // The receiver lives as long as its core; a message to a core that has ended has no one to act on it.
        let _ = self.control[core].send(message);
    }
    pub fn cores(&self) -> usize {
        self.control.len()
    }
    /// True when `core` sleeps and the caller is the one to wake it.
    pub fn must_wake(&self, core: usize) -> bool {
        self.sleepers[core].must_wake(&published())
    }
}

impl Mailbox {
    pub fn cores(&self) -> usize {
        self.out.len()
    }

    /// For threads that are no cores.
    pub fn inboxes(&self) -> Arc<Inboxes> {
        self.shared.clone()
    }

    /// Sends mail to another core; it is woken by the next [`Mailbox::to_wake`].
    pub fn send(&mut self, core: usize, mail: Mail) {
        self.touched |= 1 << core;
        let passes = self.held && mail.passes() && self.backlog[core].iter().all(Mail::lets_pass);
        let (at, leaves) = match passes {
            true => (self.free(core), true),
            false => (self.backlog[core].len(), !self.held),
        };
        let mail = match leaves && at == 0 {
            true => match self.out[core].as_mut().expect(ITSELF).push(mail) {
                Ok(()) => return,
                Err(rtrb::PushError::Full(mail)) => mail,
            },
            false => mail,
        };
        if passes {
            // Behind what may leave: what comes after it keeps its number.
            self.front[core] -= 1;
        }
        self.backlog[core].insert(at, mail);
    }
    /// How much of a core's backlog may leave though mail is held.
    fn free(&self, core: usize) -> usize {
        let free = self.opened[core].saturating_sub(self.front[core]);
        (free as usize).min(self.backlog[core].len())
    }
    /// What tells of changes waits, in order, for [`Mailbox::release`] or [`Mailbox::open`]; requests of clients do not.
    pub fn hold(&mut self) {
        self.held = true;
    }
    #[inline]
    pub fn release(&mut self) {
        if std::mem::take(&mut self.held) {
            self.retry();
        }
    }
    /// What waits now.
    pub fn seal(&self) -> Seal {
        let backlogs = self.front.iter().zip(&self.backlog);
        backlogs
            .map(|(front, backlog)| front + backlog.len() as u64)
            .collect()
    }
    /// What waited then may leave.
    pub fn open(&mut self, seal: &Seal) {
        for (opened, sealed) in self.opened.iter_mut().zip(seal) {
            *opened = (*opened).max(*sealed);
        }
        self.retry();
    }
    /// Replies that wait and did not then.
    pub fn replies_since(&self, seal: Option<&Seal>) -> usize {
        let backlogs = self.backlog.iter().zip(&self.front).enumerate();
        let replies = backlogs.flat_map(|(core, (backlog, front))| {
            let sealed = seal.map_or(0, |seal| seal[core].saturating_sub(*front));
            backlog.iter().skip(sealed as usize).map(Mail::replies)
        });
        replies.sum()
    }
    /// Moves waiting mail into rings that have room again. True when some still waits for room.
    pub fn retry(&mut self) -> bool {
        let mut left = false;
        for core in 0..self.backlog.len() {
            while !self.held || self.front[core] < self.opened[core] {
                let Some(mail) = self.backlog[core].pop_front() else {
                    break;
                };
                if let Err(rtrb::PushError::Full(mail)) =
                    self.out[core].as_mut().expect(ITSELF).push(mail)
                {
                    self.backlog[core].push_front(mail);
                    left = true;
                    break;
                }
                self.front[core] += 1;
                self.touched |= 1 << core;
            }
        }
        left
    }
    pub fn send_part(&mut self, core: usize, part: Part) {
        self.touched |= 1 << core;
        self.shared.parts[core].push(part);
    }
    pub fn send_control(&mut self, core: usize, message: Control) {
        self.touched |= 1 << core;
        self.shared.control(core, message);
    }

    /// Takes all mail that is there, with its sender.
    pub fn receive(&mut self, mut f: impl FnMut(usize, Mail)) {
        for (core, ring) in self.incoming.iter_mut().enumerate() {
            if let Some(ring) = ring {
                while let Ok(mail) = ring.pop() {
                    f(core, mail);
                }
            }
        }
    }
    pub fn has_parts(&self) -> bool {
        !self.shared.parts[self.core].is_empty()
    }
    pub fn next_part(&self) -> Option<Part> {
        self.shared.parts[self.core].pop()
    }
    pub fn next_control(&self) -> Option<Control> {
        self.control.try_recv().ok()
    }

    /// True when anything waits to be received.
    pub fn has_any(&self) -> bool {
        self.has_parts()
            || !self.control.is_empty()
            || self.incoming.iter().flatten().any(|ring| !ring.is_empty())
    }

    /// Calls `wake` for every core that got something since the last time and sleeps.
    pub fn to_wake(&mut self, mut wake: impl FnMut(usize)) {
        if self.touched == 0 {
            return;
        }
        let published = published();
        let mut touched = std::mem::take(&mut self.touched);
        while touched != 0 {
            let core = touched.trailing_zeros() as usize;
            touched &= touched - 1;
            if core != self.core && self.shared.sleepers[core].must_wake(&published) {
                wake(core);
            }
        }
    }

    /// Announces sleep. False when something has come meanwhile: do not sleep.
    pub fn fall_asleep(&self) -> bool {
        self.shared.sleepers[self.core].fall_asleep(|| self.has_any())
    }
    pub fn wake_up(&self) {
        self.shared.sleepers[self.core].wake_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracking::Message;

    fn late(seq: u32) -> Mail {
        Mail::Late(
            Ticket {
                seq,
                ..Ticket::NOBODY
            },
            Vec::new(),
        )
    }
    /// What has come: replies' numbers, `c` for commands, `t` for messages.
    fn come(mailbox: &mut Mailbox) -> String {
        let mut all = String::new();
        mailbox.receive(|_, mail| match mail {
            Mail::Late(ticket, _) => all.push_str(&ticket.seq.to_string()),
            Mail::Commands(_) => all.push('c'),
            _ => all.push('t'),
        });
        all
    }

    #[test]
    fn a_parcel_keeps_a_large_buffer_when_it_needs_one_again() {
        let mut parcel = Parcel::default();
        let mut used = |len: usize| {
            parcel.replies.resize(len, 0);
            parcel.clear();
            parcel.replies.capacity()
        };
        assert!(used(150_000) <= KEPT);
        assert!(used(20_000) >= 20_000);
        assert!((20_000..=KEPT_OF_LARGE).contains(&used(150_000)));
        assert!(used(100) <= KEPT);
    }

    #[test]
    fn what_is_held_leaves_as_far_as_it_was_sealed_and_requests_pass_it() {
        let (_, mut boxes) = mailboxes(2);
        let (mut to, mut from) = (boxes.pop().unwrap(), boxes.pop().unwrap());
        from.hold();
        from.send(1, late(1));
        let first = from.seal();
        from.send(1, late(2));
        from.send(1, Mail::Commands(Box::default()));
        assert_eq!(come(&mut to), "c");
        from.send(1, late(3));
        let second = from.seal();
        from.send(1, late(4));
        assert_eq!(from.replies_since(Some(&first)), 3);
        assert!(!from.retry() && come(&mut to).is_empty());
        from.open(&first);
        assert_eq!(come(&mut to), "1");
        from.send(1, Mail::Tracking(Message::Stale(Vec::new())));
        from.send(1, Mail::Commands(Box::default()));
        assert_eq!(come(&mut to), "", "it stays behind messages");
        from.open(&second);
        assert_eq!(come(&mut to), "23");
        from.release();
        assert_eq!(come(&mut to), "4tc");
    }

    #[test]
    fn requests_that_find_the_ring_full_come_behind_what_may_leave() {
        let (_, mut boxes) = mailboxes(2);
        let (mut to, mut from) = (boxes.pop().unwrap(), boxes.pop().unwrap());
        from.hold();
        for _ in 0..RING {
            from.send(1, Mail::Commands(Box::default()));
        }
        from.send(1, late(1));
        let seal = from.seal();
        from.open(&seal);
        from.send(1, late(2));
        let seal = from.seal();
        from.send(1, Mail::Commands(Box::default()));
        from.send(1, late(3));
        assert!(from.retry(), "there is no room");
        assert_eq!(come(&mut to).len(), RING);
        assert!(!from.retry());
        assert_eq!(come(&mut to), "1c");
        from.open(&seal);
        assert_eq!(come(&mut to), "2");
        from.release();
        assert_eq!(come(&mut to), "3");
    }
}
