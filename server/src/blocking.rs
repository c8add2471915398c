//! Clients that wait for keys: BLPOP, XREAD BLOCK and their like.
//!
//! A blocking command first runs as any other, over all its keys. When it finds nothing, it says what it waits for
//! ([`ringwood_shard::ctx::Wants::Change`]), and a [`Waiter`] is put into a queue per key on every owner of such a key,
//! before the command's locks are given up. A change of a key has its owner run the commands of the key's queue again,
//! oldest first, right after the command that changed it and before any other.
//!
//! ```text
//! Waiting ── owner: claim ──► Taken ── served ──────────────► Done
//!    ▲                          │  └── another owner: key changed ──► TakenAgain
//!    │◄──── nothing there ──────┘◄──────────────────────────────┘ (and the keys are looked at again)
//!    └────── timeout, UNBLOCK, the client is gone ───────────► Done
//! ```
//! - Served once: only who moves the state from `Waiting` to `Taken` may run the command.
//! - Nothing is taken for a client that is gone: its core moves the state to `Done`, and a claim fails from then on.
//! - An owner serves with its own keys alone (`ctx.serving`), so only a command all of whose keys are its own. Any other
//!   goes back to the client's core, which runs it again over all its keys; younger waiters of the key wait for that.
//!   An owner cannot know whether a key of another core that comes earlier in the command has something by now.

use crate::client::{Life, Wait};
use crate::core::Core;
use crate::io::ConnId;
use crate::mailbox::{Mail, Ticket, Words};
use crate::registry::Entry;
use crate::request::{DataCall, run};
use ringwood_protocol::command::BLOCKING;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_shard::ctx::{Args, Block, Null, Wake, Wants};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const TAKEN_AGAIN: u8 = 2;
const DONE: u8 = 3;

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Mine,
    /// Another core is at it; it will look at our keys again if it finds nothing.
    Others,
    Over,
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
    pub null: Null,
    wake: Wake,
    /// What it waits for: keys of `block_db`.
    keys: Vec<Box<[u8]>>,
    block_db: usize,
    /// The cores that own `keys`.
    owners: Vec<u16>,
    /// The command's keys have several owners.
    crosses: bool,
}

impl Waiter {
    fn change(&self, from: u8, to: u8) -> Result<u8, u8> {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
    }
    fn claim(&self) -> Claim {
        loop {
            match self.change(WAITING, TAKEN) {
                Ok(_) => return Claim::Mine,
                Err(DONE) => return Claim::Over,
                // So that the taker, if it finds nothing, has our keys looked at.
                Err(TAKEN) if self.change(TAKEN, TAKEN_AGAIN).is_ok() => return Claim::Others,
                Err(TAKEN_AGAIN) => return Claim::Others,
                Err(_) => {}
            }
        }
    }
    /// The taker has served it. False when the client has gone meanwhile.
    fn served(&self) -> bool {
        self.state.swap(DONE, Ordering::AcqRel) != DONE
    }
    /// The taker found nothing. True when the keys must be looked at again.
    fn release(&self) -> bool {
        loop {
            match self.change(TAKEN, WAITING) {
                Ok(_) | Err(DONE) => return false,
                Err(_) => {}
            }
            if self.change(TAKEN_AGAIN, WAITING).is_ok() {
                return true;
            }
        }
    }
    /// The client's core ends the wait. False while an owner is serving it.
    fn cancel(&self) -> bool {
        self.change(WAITING, DONE).is_ok()
    }
    fn is_over(&self) -> bool {
        self.state.load(Ordering::Acquire) == DONE
    }
}

/// A key: its database and name.
type Name = (usize, Box<[u8]>);

/// A core's blocked clients and the queues of its keys.
#[derive(Default)]
pub(crate) struct Blocking {
    /// By key, in the order in which they began to wait.
    queues: HashMap<Name, VecDeque<Arc<Waiter>>>,
    /// This core's clients: when they have waited long enough (monotonic nanoseconds), the waiter's number, the connection.
    timers: BinaryHeap<Reverse<(u64, u64, u32)>>,
    next_id: u64,
    /// This core's clients that wait.
    pub clients: usize,
}

impl Blocking {
    /// Keys that somebody waits for (INFO's total_blocking_keys).
    pub fn keys(&self) -> usize {
        self.queues.len()
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
        let crosses = owners.len() > 1
            || indexes.iter().any(|&i| {
                let owner = self.owner(ringwood_protocol::slot::key_slot(slices[i]));
                owners.iter().any(|&o| o != owner)
            });
        self.blocking.next_id += 1;
        let id = self.blocking.next_id;
        let waiter = Arc::new(Waiter {
            state: AtomicU8::new(WAITING),
            id,
            ticket,
            entry,
            words,
            db,
            version,
            null: block.null,
            wake: block.wake,
            keys: block.keys,
            block_db: block.db,
            owners,
            crosses,
        });
        if let Some(ms) = block.timeout_ms {
            let at = self
                .now
                .mono_ns
                .saturating_add(ms.saturating_mul(1_000_000));
            self.blocking.timers.push(Reverse((at, id, ticket.conn.0)));
        }
        self.blocking.clients += 1;
        let client = self.clients.get_mut(ticket.conn).expect("looked at above");
        client.wait = Wait::Keys(waiter.clone());
        client.push_late();
        self.mark_dirty(ticket.conn);
        self.enqueue(&waiter);
        Some(waiter)
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
            let before = queue.len();
            queue.retain(|w| !Arc::ptr_eq(w, waiter));
            let gone = before - queue.len();
            if queue.is_empty() {
                self.blocking.queues.remove(&name);
            } else if gone > 0 && waiter.crosses {
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
        while !self.shard.attention.touched.is_empty() {
            for name in std::mem::take(&mut self.shard.attention.touched) {
                self.serve_queue(&name);
            }
        }
    }

    /// Runs the commands that wait for a key, oldest first.
    fn serve_queue(&mut self, name: &Name) {
        let mut at = 0;
        loop {
            let Some(waiter) = self.blocking.queues.get(name).and_then(|q| q.get(at)) else {
                return;
            };
            let waiter = waiter.clone();
            if let Wake::Type(kind) = waiter.wake {
                let key = self.shard.key(&name.1);
                let found = self.shard.keyspace.get(name.0, key);
                let live = found.filter(|e| e.expire_at().is_none_or(|at| at > self.shard.now_ms));
                if live.is_none_or(|e| e.kind() != kind) {
                    at += 1;
                    continue;
                }
            }
            match waiter.claim() {
                Claim::Mine => {}
                // It is being moved by its client's core: what is behind it in the queue comes after it.
                Claim::Others if waiter.crosses => return,
                Claim::Others => {
                    at += 1;
                    continue;
                }
                Claim::Over => {
                    // Its core tells us to forget it; until then it is stepped over.
                    at += 1;
                    continue;
                }
            }
            if waiter.crosses {
                let core = waiter.ticket.core as usize;
                if core == self.id {
                    self.retry_wait(waiter);
                } else {
                    self.mailbox.send(core, Mail::Retry(waiter));
                }
                return;
            }
            let mut reply = Vec::new();
            if !self.run_serving(&waiter, &mut reply) {
                at += 1;
                if waiter.release() {
                    self.look_again(&waiter);
                }
                continue;
            }
            self.conclude(&waiter, &reply);
        }
    }

    /// The command of a waiter has run, or will not run any more: the reply goes out and it leaves all queues.
    fn conclude(&mut self, waiter: &Arc<Waiter>, reply: &[u8]) {
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
            first_key: None,
            serving: true,
        };
        let wants = run(
            &mut self.shard,
            &mut self.stats,
            &serving,
            &waiter.words.slices(),
            reply,
        );
        if !self.shard.events.is_empty() {
            self.publish_events();
        }
        match wants.map(|w| *w) {
            None => true,
            Some(Wants::Change(_)) => false,
            Some(Wants::Keys(keys)) => panic!(
                "{} blocks and widens ({} keys)",
                waiter.entry.name,
                keys.len()
            ),
        }
    }

    /// Other owners' keys have changed while a waiter was taken in vain.
    fn look_again(&mut self, waiter: &Arc<Waiter>) {
        for &owner in &waiter.owners {
            if owner as usize == self.id {
                self.touch_keys(waiter);
            } else {
                self.mailbox
                    .send(owner as usize, Mail::LookAgain(waiter.clone()));
            }
        }
    }
    pub(crate) fn touch_keys(&mut self, waiter: &Arc<Waiter>) {
        for key in &waiter.keys {
            self.shard.attention.look_again(waiter.block_db, key);
        }
    }

    /// Runs the command of a waiter over all its keys again; the client's core does this, with the waiter claimed.
    pub(crate) fn retry_wait(&mut self, waiter: Arc<Waiter>) {
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
    /// What became of [`Core::retry_wait`].
    pub(crate) fn retried(&mut self, waiter: &Arc<Waiter>, reply: Option<&[u8]>) {
        match reply {
            Some(reply) => self.conclude(waiter, reply),
            None => {
                if waiter.release() {
                    self.look_again(waiter);
                }
            }
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
    pub fn end_wait(&mut self, conn: ConnId, write: impl FnOnce(&mut Reply<'_>, Null)) -> bool {
        let Some(waiter) = self.clients.get(conn).and_then(|c| c.waiter()).cloned() else {
            return false;
        };
        if !waiter.cancel() {
            return false;
        }
        let mut reply = Vec::new();
        write(&mut Reply::new(&mut reply, waiter.version), waiter.null);
        self.forget_everywhere(&waiter);
        self.answer(waiter.ticket, reply);
        true
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
            let ended = self.end_wait(ConnId(conn), |reply, null| match null {
                Null::Bulk => reply.null(),
                Null::Array => reply.null_array(),
            });
            if !ended {
                // An owner is at it: it is served or free again in a moment.
                self.blocking
                    .timers
                    .push(Reverse((self.now.mono_ns + 1_000_000, id, conn)));
            }
        }
    }
}
