//! Clients that wait: for keys, as BLPOP and XREAD BLOCK do, and for what is no key ([`Core::begin_keyless_wait`]), as WAIT does.
//!
//! A blocking command first runs as any other, over all its keys. When it finds nothing, it says what it waits for
//! ([`ringwood_shard::ctx::Wants::Change`]), and a [`Waiter`] is put into a queue per key on every owner of such a key,
//! before the command's locks are given up. A change of a key has its owner run the commands of the key's queue again,
//! oldest first, right after the command that changed it and before any other.
//!
//! ```text
//! Waiting ── owner: claim ──► Taken ── served ──────────────► Done
//!    ▲                          │
//!    │◄──── nothing there ──────┘
//!    └────── timeout, UNBLOCK, the client is gone ───────────► Done
//! ```
//! - Served once: only who moves the state from `Waiting` to `Taken` may run the command.
//! - Nothing is taken for a client that is gone: its core moves the state to `Done`, and a claim fails from then on.
//! - An owner serves at once only a command all of whose keys are its own, and not held by other work. Any other it runs as a transaction over
//!   all the command's keys: it cannot know whether a key of another core that comes earlier in the command has something by now.
//!   That transaction has its number, and holds the key that has changed, before the change is answered, so that nobody who comes
//!   later finds the key sooner. A queue stands still at such a waiter; if it finds nothing, those behind it are looked at.
//! - No change is missed while a waiter is taken: its keys are lent to the core that took it until it is free again, and what changed before
//!   they were lent is seen there.
//! - Longest waiting first: who was taken when an older waiter of the key had nothing to do yields to it when the key has changed since.
//! - A key that is lent has no queue: to who waits for any change it would look deleted. The core that has it says whether
//!   it changed there, and its queue is served when it is home.

use crate::client::{Client, Life, Wait};
use crate::core::Core;
use crate::io::{ConnId, Io};
use crate::mailbox::{Mail, Ticket, Words};
use crate::registry::Entry;
use crate::request::{DataCall, run};
use ringwood_protocol::command::BLOCKING;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_shard::ctx::{Args, Block, Null, Wake, Wants};
use ringwood_shard::shard::Shard;
use ringwood_shard::watch::Name;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const DONE: u8 = 2;

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Mine,
    /// Another owner was first.
    Others,
    Over,
}

/// What a wait answers that ends with nothing.
#[derive(Clone, Debug)]
pub enum InVain {
    Null(Null),
    /// How many replicas have what the client wrote: none can be connected.
    Replicas,
    /// Whether the log has it on disk, and the same of replicas.
    Log(Arc<AtomicBool>),
}

impl InVain {
    pub fn write(&self, reply: &mut Reply<'_>) {
        match self {
            Self::Null(null) => null.write(reply),
            Self::Replicas => reply.integer(0),
            Self::Log(synced) => {
                reply.array(2);
                reply.integer(synced.load(Ordering::Acquire).into());
                reply.integer(0);
            }
        }
    }
}

/// A blocked client's command, shared by the owners of its keys and the client's core.
#[derive(Debug)]
pub struct Waiter {
    state: AtomicU8,
    /// Its core's number for it.
    id: u64,
    pub ticket: Ticket,
    pub entry: &'static Entry,
    pub words: Words,
    pub db: usize,
    pub version: Version,
    in_vain: InVain,
    wake: Wake,
    /// What it waits for: keys of `block_db`.
    keys: Vec<Box<[u8]>>,
    block_db: usize,
    /// The cores that own `keys`.
    owners: Vec<u16>,
    /// The command's keys have several owners.
    crosses: bool,
    /// The slots of all its keys: of those that it waits for, and of those that it only writes.
    slots: Vec<u16>,
}

impl Waiter {
    fn change(&self, from: u8, to: u8) -> Result<u8, u8> {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
    }
    fn claim(&self) -> Claim {
        match self.change(WAITING, TAKEN) {
            Ok(_) => Claim::Mine,
            Err(DONE) => Claim::Over,
            Err(_) => Claim::Others,
        }
    }
    /// The taker has served it. False when the client has gone meanwhile.
    fn served(&self) -> bool {
        self.state.swap(DONE, Ordering::AcqRel) != DONE
    }
    /// The taker found nothing. If the client has gone meanwhile, it stays over.
    pub(crate) fn release(&self) {
        let _ = self.change(TAKEN, WAITING);
    }
    /// The client's core ends the wait. False while an owner is serving it.
    fn cancel(&self) -> bool {
        self.change(WAITING, DONE).is_ok()
    }
    fn is_taken(&self) -> bool {
        self.state.load(Ordering::Acquire) == TAKEN
    }
    pub(crate) fn is_over(&self) -> bool {
        self.state.load(Ordering::Acquire) == DONE
    }
}

/// What is to be done about the queue of a key that is lent when the key is back.
#[derive(Debug)]
pub(crate) enum Meanwhile {
    Nothing,
    /// It goes on behind this waiter.
    InVain(Arc<Waiter>),
    /// It is served from its beginning.
    Touched,
}

/// A core's blocked clients and the queues of its keys.
#[derive(Default)]
pub(crate) struct Blocking {
    /// By key, in the order in which they began to wait.
    queues: HashMap<Name, VecDeque<Arc<Waiter>>>,
    /// This core's clients: when they have waited long enough (monotonic nanoseconds), the waiter's number, the connection.
    timers: BinaryHeap<Reverse<(u64, u64, u32)>>,
    next_id: u64,
    /// Keys waited for that are with another core just now.
    lent: HashMap<Name, Meanwhile>,
    /// Queues that stand still, and at whom.
    stopped: HashMap<Name, Arc<Waiter>>,
    /// This core's clients that wait.
    pub clients: usize,
}

impl Blocking {
    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
    /// Keys that somebody waits for (INFO's total_blocking_keys).
    pub fn keys(&self) -> usize {
        self.queues.len()
    }
    /// Keys go to another core.
    pub fn note_lent<T>(&mut self, shard: &Shard, entries: &[(usize, Box<[u8]>, T)]) {
        if shard.attention.waited.is_empty() {
            return;
        }
        for (db, key, _) in entries {
            let name = (*db, key.clone());
            if shard.attention.waited.contains_key(&name) {
                self.lent.insert(name, Meanwhile::Nothing);
            }
        }
    }
    /// True if somebody who has waited longer for one of the waiter's keys is being looked at: then that one comes first, also where this
    /// one was taken before the key changed.
    pub fn yields(&self, waiter: &Arc<Waiter>) -> bool {
        waiter.keys.iter().any(|key| {
            let name = (waiter.block_db, key.clone());
            let (Some(queue), Some(first)) = (self.queues.get(&name), self.stopped.get(&name))
            else {
                return false;
            };
            let mut queue = queue.iter();
            let first_of_both = queue.find(|w| Arc::ptr_eq(w, first) || Arc::ptr_eq(w, waiter));
            !Arc::ptr_eq(first, waiter) && first_of_both.is_some_and(|w| Arc::ptr_eq(w, first))
        })
    }
    /// One is back.
    pub fn note_returned(&mut self, db: usize, key: &[u8]) -> Option<Meanwhile> {
        if self.lent.is_empty() {
            return None;
        }
        self.lent.remove(&(db, Box::from(key)))
    }
    /// Nanoseconds of the next timeout.
    pub fn next_timer(&self) -> Option<u64> {
        self.timers.peek().map(|Reverse((at, ..))| *at)
    }
}

/// True for a command that may have to wait, as these words have it.
pub(crate) fn may_block(entry: &Entry, args: Args<'_>) -> bool {
    // XREAD and XREADGROUP only where they say so.
    entry.has(BLOCKING)
        && (!entry.spec.name.starts_with('X')
            || args
                .iter()
                .skip(1)
                .any(|w| w.eq_ignore_ascii_case(b"BLOCK")))
}

impl Core {
    /// A command has found nothing to do: its client waits. Who calls has made sure that the keys cannot change until the
    /// waiter is in the queues of all owners: those of other cores get it with the keys that they lent.
    pub(crate) fn begin_wait(
        &mut self,
        ticket: Ticket,
        entry: &'static Entry,
        words: Words,
        db: usize,
        version: Version,
        block: Block,
    ) -> Option<Arc<Waiter>> {
        let client = self
            .clients
            .get(ticket.conn)
            .filter(|c| c.id == ticket.client)?;
        if client.life != Life::Open {
            // Nobody is left to wait.
            self.close(ticket.conn);
            return None;
        }
        let words = match &block.words {
            Some(changed) => Words::new(changed.iter().map(Vec::as_slice)),
            None => words,
        };
        let mut owners: Vec<u16> = Vec::new();
        for key in &block.keys {
            let owner = self.owner(ringwood_protocol::slot::key_slot(key));
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
        let mut indexes = Vec::new();
        let slices = words.slices();
        entry.key_indexes(&slices, &mut indexes);
        // Those that it waits for, and those that it writes (BLMOVE's second).
        let slot = |&i: &usize| ringwood_protocol::slot::key_slot(slices[i]);
        let slots: Vec<u16> = indexes.iter().map(slot).collect();
        let mut all = slots.iter().map(|&slot| self.owner(slot));
        let crosses = owners.len() > 1 || all.any(|owner| owners.iter().any(|&o| o != owner));
        let waiter = Arc::new(Waiter {
            state: AtomicU8::new(WAITING),
            id: self.blocking.new_id(),
            ticket,
            entry,
            words,
            db,
            version,
            in_vain: InVain::Null(block.null),
            wake: block.wake,
            keys: block.keys,
            block_db: block.db,
            owners,
            crosses,
            slots,
        });
        self.block(&waiter, block.timeout_ms);
        self.enqueue(&waiter);
        Some(waiter)
    }

    /// The client of a command that runs waits for what is no key. It is in no queue: whoever sees that what it waits for is there ends the wait
    /// with [`Core::end_wait`].
    pub(crate) fn begin_keyless_wait(
        &mut self,
        ticket: Ticket,
        entry: &'static Entry,
        version: Version,
        timeout_ms: Option<u64>,
        in_vain: InVain,
    ) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter {
            state: AtomicU8::new(WAITING),
            id: self.blocking.new_id(),
            ticket,
            entry,
            words: Words::default(),
            db: 0,
            version,
            in_vain,
            wake: Wake::Any,
            keys: Vec::new(),
            block_db: 0,
            owners: Vec::new(),
            crosses: false,
            slots: Vec::new(),
        });
        self.block(&waiter, timeout_ms);
        waiter
    }

    /// From now on the client, which the caller has looked up, waits.
    fn block(&mut self, waiter: &Arc<Waiter>, timeout_ms: Option<u64>) {
        let conn = waiter.ticket.conn;
        if let Some(ms) = timeout_ms {
            let at = self
                .now
                .mono_ns
                .saturating_add(ms.saturating_mul(1_000_000));
            self.blocking.timers.push(Reverse((at, waiter.id, conn.0)));
        }
        self.blocking.clients += 1;
        let client = self.clients.get_mut(conn).expect("the caller saw it");
        client.wait = Wait::Keys(waiter.clone());
        client.push_late();
        self.mark_dirty(conn);
    }

    /// Puts a waiter into the queues of this core's keys.
    pub(crate) fn enqueue(&mut self, waiter: &Arc<Waiter>) {
        if waiter.is_over() {
            return;
        }
        for key in &waiter.keys {
            if self.owner(ringwood_protocol::slot::key_slot(key)) as usize != self.id {
                continue;
            }
            let name = (waiter.block_db, key.clone());
            let queue = self.blocking.queues.entry(name.clone()).or_default();
            // BLPOP k k waits for k once.
            if !queue.iter().any(|w| Arc::ptr_eq(w, waiter)) {
                queue.push_back(waiter.clone());
                *self.shard.attention.waited.entry(name).or_default() += 1;
            }
        }
    }

    /// Takes a waiter that is over out of the queues of this core's keys.
    pub(crate) fn dequeue(&mut self, waiter: &Arc<Waiter>) {
        for key in &waiter.keys {
            let name = (waiter.block_db, key.clone());
            let Some(queue) = self.blocking.queues.get_mut(&name) else {
                continue;
            };
            let stood = self.blocking.stopped.get(&name);
            let stood = stood.is_some_and(|at| Arc::ptr_eq(at, waiter));
            let before = queue.len();
            queue.retain(|w| !Arc::ptr_eq(w, waiter));
            let gone = before - queue.len();
            if queue.is_empty() {
                self.blocking.queues.remove(&name);
                self.blocking.stopped.remove(&name);
            } else if gone > 0 && (waiter.crosses || stood) {
                // Who was behind it has waited for what becomes of it.
                self.shard.attention.look_again(name.0, &name.1);
            }
            if gone > 0
                && let Some(count) = self.shard.attention.waited.get_mut(&name)
            {
                *count -= gone;
                if *count == 0 {
                    self.shard.attention.waited.remove(&name);
                }
            }
        }
    }

    /// Serves blocked clients whose keys have changed, until nothing changes any more.
    #[cold]
    pub(crate) fn serve_blocked(&mut self) {
        if self.locks.held_whole() || self.shard.loading {
            // A transaction that holds every core is between two of its steps: nobody may see what it has done so far. Nor may anybody
            // take of what is only half read from the log.
            return;
        }
        while !self.shard.attention.touched.is_empty() {
            for name in std::mem::take(&mut self.shard.attention.touched) {
                self.serve_queue(&name, 0);
            }
        }
    }

    /// Runs the commands that wait for a key, oldest first, from a place in its queue on.
    fn serve_queue(&mut self, name: &Name, from: usize) {
        if let Some(meanwhile) = self.blocking.lent.get_mut(name) {
            *meanwhile = Meanwhile::Touched;
            return;
        }
        self.blocking.stopped.remove(name);
        let mut at = from;
        loop {
            let Some(waiter) = self.blocking.queues.get(name).and_then(|q| q.get(at)) else {
                return;
            };
            let waiter = waiter.clone();
            if let Wake::Type(kind) = waiter.wake {
                let key = self.shard.key(&name.1);
                let found = self.shard.keyspace.get(name.0, key);
                let live =
                    found.filter(|e| e.expire_at().is_none_or(|at| at > self.shard.due_ms()));
                if live.is_none_or(|e| e.kind() != kind) {
                    at += 1;
                    continue;
                }
            }
            let claim = waiter.claim();
            if claim == Claim::Over {
                // Its core tells us to forget it; until then it is stepped over.
                at += 1;
                continue;
            }
            // BLMOVE's destination may be with another core just now: then it goes the way of those that cross, and waits for it.
            if waiter.crosses || claim == Claim::Others || self.is_hindered(&waiter, name) {
                self.blocking.stopped.insert(name.clone(), waiter.clone());
                if claim == Claim::Mine {
                    self.retry_wait(waiter);
                }
                return;
            }
            let mut reply = Vec::new();
            if !self.run_serving(&waiter, &mut reply) {
                at += 1;
                waiter.release();
                continue;
            }
            self.conclude(&waiter, &reply);
        }
    }

    /// True if other work holds a key of the waiter's command, this one aside, which has just changed. A command all of whose keys
    /// are here and free is run at once.
    fn is_hindered(&self, waiter: &Waiter, name: &Name) -> bool {
        let own = ringwood_protocol::slot::key_slot(&name.1);
        let mut slots = waiter.slots.iter();
        self.cores() > 1 && slots.any(|&slot| slot != own && self.locks.in_use(slot))
    }

    /// The command of a waiter has run, or will not run any more: the reply goes out and it leaves all queues.
    pub(crate) fn conclude(&mut self, waiter: &Arc<Waiter>, reply: &[u8]) {
        let there = waiter.served();
        for &owner in &waiter.owners {
            if owner as usize == self.id {
                self.dequeue(waiter);
            } else {
                self.mailbox
                    .send(owner as usize, Mail::Forget(waiter.clone()));
            }
        }
        if there {
            self.answer(waiter.ticket, reply.to_vec());
        }
    }

    /// Runs a waiter's command with this core's keys alone. False when it still finds nothing.
    fn run_serving(&mut self, waiter: &Waiter, reply: &mut Vec<u8>) -> bool {
        let serving = DataCall {
            entry: waiter.entry,
            db: waiter.db,
            version: waiter.version,
            keys: &[],
            serving: true,
            aside: false,
            caller: waiter.ticket,
        };
        let args = waiter.words.slices();
        let began = self.io.mono_ns();
        let wants = run(&mut self.shard, &mut self.stats, &serving, &args, reply);
        if !self.shard.events.is_empty() {
            self.publish_events();
        }
        match wants.map(|w| *w) {
            None => {
                self.caller = waiter.ticket;
                self.note_nested(began, waiter.entry, &args, reply.len());
                true
            }
            Some(Wants::Change(_)) => false,
            Some(Wants::Keys(keys)) => panic!(
                "{} blocks and widens ({} keys)",
                waiter.entry.name,
                keys.len()
            ),
            Some(Wants::Aside) => panic!("{} must not ask for that", waiter.entry.name),
        }
    }

    /// The queues of a waiter's keys on this core are served again.
    pub(crate) fn touch_keys(&mut self, waiter: &Arc<Waiter>) {
        for key in &waiter.keys {
            self.shard.attention.look_again(waiter.block_db, key);
        }
    }

    /// Runs the command of a waiter over all its keys again; the core that has claimed it does this.
    fn retry_wait(&mut self, waiter: Arc<Waiter>) {
        let words = waiter.words.clone();
        let args = words.slices();
        let mut keys = Vec::new();
        waiter.entry.key_indexes(&args, &mut keys);
        let request = crate::transaction::Request {
            ticket: waiter.ticket,
            entry: waiter.entry,
            args: &args,
            db: waiter.db,
            version: waiter.version,
        };
        self.borrow(&request, &keys, Vec::new(), Some(waiter));
    }
    /// [`Core::retry_wait`] has found nothing, and the waiter is free again: all owners look at who is behind it.
    pub(crate) fn retried_in_vain(&mut self, waiter: &Arc<Waiter>) {
        for &owner in &waiter.owners {
            if owner as usize == self.id {
                self.serve_behind(waiter);
            } else {
                self.mailbox
                    .send(owner as usize, Mail::InVain(waiter.clone()));
            }
        }
    }
    /// Serves the queues of this core's keys that stand still at this waiter.
    pub(crate) fn serve_behind(&mut self, waiter: &Arc<Waiter>) {
        for key in &waiter.keys {
            let name = (waiter.block_db, key.clone());
            let stopped = self.blocking.stopped.get(&name);
            // Taken once more meanwhile: there will be another message.
            if stopped.is_none_or(|at| !Arc::ptr_eq(at, waiter)) || waiter.is_taken() {
                continue;
            }
            if let Some(meanwhile) = self.blocking.lent.get_mut(&name) {
                if !matches!(meanwhile, Meanwhile::Touched) {
                    *meanwhile = Meanwhile::InVain(waiter.clone());
                }
                continue;
            }
            let queue = self.blocking.queues.get(&name);
            let place = queue.and_then(|q| q.iter().position(|w| Arc::ptr_eq(w, waiter)));
            if let Some(place) = place {
                self.serve_queue(&name, place + 1);
            }
        }
        if !self.shard.attention.touched.is_empty() {
            self.serve_blocked();
        }
    }

    /// A client's wait is over: what the client sent behind its command goes on.
    pub(crate) fn unblocked(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(conn)
            && let Wait::Keys(_) = std::mem::take(&mut client.wait)
        {
            self.blocking.clients -= 1;
        }
    }

    /// Ends a client's wait with this reply. False when it does not wait, or is being served just now.
    pub fn end_wait(&mut self, conn: ConnId, write: impl FnOnce(&mut Reply<'_>, &InVain)) -> bool {
        let Some(waiter) = self.clients.get(conn).and_then(|c| c.waiter()).cloned() else {
            return false;
        };
        if !waiter.cancel() {
            return false;
        }
        let mut reply = Vec::new();
        write(&mut Reply::new(&mut reply, waiter.version), &waiter.in_vain);
        self.forget_everywhere(&waiter);
        self.answer(waiter.ticket, reply);
        true
    }
    /// The same with an error, which counts as the command's.
    pub fn fail_wait(&mut self, conn: ConnId, error: &CommandError) -> bool {
        let waiter = self.clients.get(conn).and_then(|c| c.waiter());
        let Some(entry) = waiter.map(|waiter| waiter.entry) else {
            return false;
        };
        let ended = self.end_wait(conn, |reply, _| reply.command_error(error));
        if ended {
            self.stats.error(entry, error);
        }
        ended
    }
    /// Ends the waits of clients that may no longer run what they wait with. Redis tells them when there is something for
    /// them; owners, who would find that out here, know nothing of users.
    pub(crate) fn end_forbidden_waits(&mut self) {
        let restricted = |client: &&Client| client.restricted;
        let waits = self.clients.iter().filter(restricted).filter_map(|client| {
            let waiter = client.waiter().filter(|waiter| !waiter.keys.is_empty())?;
            Some((client.conn, waiter.clone()))
        });
        for (conn, waiter) in waits.collect::<Vec<_>>() {
            if let Some(error) = self.forbidden(conn, waiter.entry, &waiter.words.slices()) {
                self.fail_wait(conn, &error);
            }
        }
    }
    fn forget_everywhere(&mut self, waiter: &Arc<Waiter>) {
        for &owner in &waiter.owners {
            if owner as usize == self.id {
                self.dequeue(waiter);
            } else {
                self.mailbox
                    .send(owner as usize, Mail::Forget(waiter.clone()));
            }
        }
    }

    /// The client is going away: nothing may be taken for it any more. What an owner has taken already is lost with it, as
    /// a reply in its socket would be.
    pub(crate) fn abandon_wait(&mut self, conn: ConnId) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        let Wait::Keys(waiter) = std::mem::take(&mut client.wait) else {
            return;
        };
        self.blocking.clients -= 1;
        waiter.served();
        self.forget_everywhere(&waiter);
    }

    /// Answers the clients that have waited long enough.
    pub(crate) fn end_overdue_waits(&mut self) {
        while let Some(&Reverse((at, id, conn))) = self.blocking.timers.peek() {
            if at > self.now.mono_ns {
                return;
            }
            self.blocking.timers.pop();
            let blocked = self.clients.get(ConnId(conn)).and_then(|c| c.waiter());
            if blocked.is_none_or(|b| b.id != id) {
                // That wait ended before its time.
                continue;
            }
            let ended = self.end_wait(ConnId(conn), |reply, in_vain| in_vain.write(reply));
            if !ended {
                // An owner is at it: it is served or free again in a moment.
                self.blocking
                    .timers
                    .push(Reverse((self.now.mono_ns + 1_000_000, id, conn)));
            }
        }
    }
}
