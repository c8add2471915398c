//! Commands that are there together run together: looked up, asked for ahead, carried out, accounted.

use super::ahead::Ahead;
use super::{Flow, ServeState};
use crate::client::Wait;
use crate::core::Core;
use crate::io::{ConnId, Io};
use crate::mailbox::{Reads, Ticket};
use crate::registry::{Entry, Keys};
use crate::stats::Histogram;
use ringwood_protocol::command::{BLOCKING, LUA, Route};
use ringwood_protocol::slot::key_slot;
use ringwood_shard::keyspace::Key;

/// Commands looked up together.
pub(crate) const GROUP: usize = 16;

/// One parsed command.
pub(super) struct Request<'a> {
    pub(super) chunk: usize,
    pub(super) conn: ConnId,
    /// Where it begins in its chunk.
    pub(super) start: usize,
    /// Its bytes.
    pub(super) len: usize,
    pub(super) args: (usize, usize),
    pub(super) entry: Option<&'static Entry>,
    pub(super) key: Option<Key<'a>>,
    /// The client's database when it was parsed: what is asked for ahead.
    pub(super) db: usize,
    /// A plain command ([`Entry::plain`]) that fits and has its key on this core: see [`super::plain`].
    pub(super) plain: bool,
    /// Timed by itself: see `observe`.
    pub(super) alone: bool,
    /// Which of its words is looked up in the collection at its key, and is there; 0 if none is.
    pub(super) element: usize,
}

/// Commands that run together.
#[derive(Default)]
pub(super) struct Batch<'a> {
    pub(super) args: Vec<&'a [u8]>,
    pub(super) requests: Vec<Request<'a>>,
}

/// The allocations of a batch between turns.
#[derive(Default)]
pub(crate) struct BatchStore {
    args: Vec<&'static [u8]>,
    requests: Vec<Request<'static>>,
}

/// Room for more words than this is not kept: one command of a million words would have it taken for ever.
const BATCH_KEPT: usize = 16 << 10;

/// An empty vector of another lifetime with the same allocation.
fn recycle<A, B>(mut v: Vec<A>) -> Vec<B> {
    v.clear();
    v.shrink_to(BATCH_KEPT);
    v.into_iter()
        .map(|_| unreachable!("the vector is empty"))
        .collect()
}

impl<'a> Batch<'a> {
    pub(super) fn from_store(store: BatchStore) -> Self {
        Self {
            args: recycle(store.args),
            requests: recycle(store.requests),
        }
    }
    pub(super) fn into_store(self) -> BatchStore {
        BatchStore {
            args: recycle(self.args),
            requests: recycle(self.requests),
        }
    }
}

impl Core {
    /// The first key with its hash, for the commands that have one.
    #[inline]
    pub(super) fn first_key<'a>(
        &self,
        entry: Option<&'static Entry>,
        args: &[&'a [u8]],
    ) -> Option<Key<'a>> {
        let at = match entry?.keys {
            Keys::One(at) => at,
            Keys::Rest { first, .. } => first,
            _ => return None,
        };
        args.get(at).map(|key| self.shard.key(key))
    }

    pub(super) fn run_batch(&mut self, batch: &mut Batch<'_>, taken: &mut [ServeState]) {
        if batch.requests.len() > 1 {
            self.prefetch(&batch.requests, &batch.args);
        }
        self.make_room();
        let (requests, args) = (&mut batch.requests, &batch.args);
        // Where the lap begins; see `observe`.
        let mut lap = 0;
        let mut at = 0;
        while at < requests.len() {
            let r = &mut requests[at];
            if self.within.is_gone(r.conn) {
                (taken[r.chunk].0.bytes, taken[r.chunk].0.stopped) = (usize::MAX, true);
                r.entry = None;
                at += 1;
                continue;
            }
            let state = &mut taken[r.chunk].0;
            if state.stopped {
                // What has not run is not counted.
                r.entry = None;
                at += 1;
                continue;
            }
            let (plain, alone) = (r.plain, r.alone);
            if alone && at > lap {
                self.account(&requests[lap..at], args);
                lap = at;
            }
            if plain {
                let ran = self.run_plain(&requests[at..], args);
                at += ran;
                if std::mem::take(&mut self.lap) || (alone && ran > 0) {
                    self.account(&requests[lap..at], args);
                    lap = at;
                }
                if ran > 0 {
                    continue;
                }
            }
            let r = &requests[at];
            let (conn, entry, words, key) = (r.conn, r.entry, r.args, r.key);
            match self.execute(conn, entry, &args[words.0..words.1], key) {
                Flow::Next => {}
                Flow::Stall => {
                    (state.bytes, state.stopped) = (requests[at].start, true);
                    requests[at].entry = None;
                }
                Flow::Stop => (state.bytes, state.stopped) = (usize::MAX, true),
            }
            at += 1;
            if self.uncounted {
                self.uncounted = false;
                requests[at - 1].entry = None;
            } else if alone || self.lap {
                self.lap = false;
                self.account(&requests[lap..at], args);
                lap = at;
            }
        }
        self.account(&requests[lap..], args);
        batch.requests.clear();
        batch.args.clear();
    }

    /// Nanoseconds that each of `count` commands took of the time since the last call.
    #[inline]
    pub(crate) fn share(&mut self, count: usize) -> u64 {
        let now = self.io.mono_ns();
        let passed = now.saturating_sub(std::mem::replace(&mut self.accounted_ns, now));
        passed / count.max(1) as u64
    }

    /// Shares the time of a lap out; see [`crate::stats`].
    #[inline]
    pub(super) fn account(&mut self, requests: &[Request<'_>], args: &[&[u8]]) {
        let Some(last) = requests.last() else {
            return;
        };
        let ns = self.share(requests.len());
        let whole = ns * requests.len() as u64;
        if whole >= self.thresholds.slow_ns || last.len >= self.thresholds.request {
            self.note_lap(last, args, whole);
        }
        let bucket = self.config.latency_tracking.then(|| Histogram::bucket(ns));
        let is_alike = |a: &Request<'_>, b: &Request<'_>| {
            a.plain == b.plain && a.entry.map(std::ptr::from_ref) == b.entry.map(std::ptr::from_ref)
        };
        for alike in requests.chunk_by(|a, b| a.plain && is_alike(a, b)) {
            let r = &alike[0];
            // What went to another core is counted there.
            let ran = r.plain || r.key.is_none_or(|key| self.is_own(&key));
            if let Some(entry) = r.entry {
                let count = alike.len() as u64;
                self.stats.spent(entry, count, ns, bucket.filter(|_| ran));
            }
        }
    }

    /// A lap took long, or its last command was large.
    #[cold]
    fn note_lap(&mut self, last: &Request<'_>, args: &[&[u8]], ns: u64) {
        let (Some(entry), Some(client)) = (last.entry, self.clients.get(last.conn)) else {
            return;
        };
        let caller = Ticket::of(self.id, last.conn, client.id, Reads::PLAIN);
        let args = &args[last.args.0..last.args.1];
        // One that waits is noted when it has been served; one with keys of another core where it runs.
        let waits = entry.has(BLOCKING) && !matches!(client.wait, Wait::No);
        let is_foreign = |slot| self.owner(slot) as usize != self.id;
        let elsewhere = match (entry.keys, last.key) {
            (Keys::One(_), Some(key)) => is_foreign(key.slot),
            _ if (entry.spec.route == Route::Owner || entry.has(LUA))
                && entry.spec.arity_fits(args.len()) =>
            {
                let mut keys = Vec::new();
                entry.key_indexes(args, &mut keys);
                keys.iter()
                    .any(|&at| args.get(at).is_some_and(|key| is_foreign(key_slot(key))))
            }
            _ => false,
        };
        if ns >= self.thresholds.slow_ns && !waits && !elsewhere {
            self.note_slow(caller, entry, args, ns);
        }
        if last.len >= self.thresholds.request {
            self.note_request(caller, entry, args);
        }
    }

    /// Starts the loads of everything that a group will look at; see the module's head.
    #[inline]
    fn prefetch(&self, requests: &[Request<'_>], args: &[&[u8]]) {
        let keyspace = &self.shard.keyspace;
        let keyed = || requests.iter().filter_map(|r| Some((r, r.key?)));
        for (r, key) in keyed() {
            keyspace.prefetch_bucket(r.db, key.slot, key.hash);
        }
        let mut ahead = Ahead::default();
        for (r, key) in keyed() {
            let entry = keyspace.prefetch_entry(r.db, key.slot, key.hash);
            if r.element != 0
                && let Some(entry) = entry
            {
                ahead.add(entry, args[r.args.0 + r.element]);
            }
        }
        ahead.ask();
    }
}
