//! What one core says about itself, and the sum over the cores.

use crate::core::Core;
use crate::stats::{CommandStats, Histogram, Sample};
use std::collections::{BTreeMap, BTreeSet};

/// One core's state at the moment it was asked. In a sum, numbers are added and maxima are the largest.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub commands: Vec<CommandStats>,
    pub latencies: Vec<Option<Box<Histogram>>>,
    pub errors: BTreeMap<String, u64>,
    pub calls: u64,
    pub rate: Sample,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub reads: u64,
    pub writes: u64,
    pub turns: u64,
    pub turn_ns: u64,
    pub longest_turn_ns: u64,
    pub forwarded: u64,
    pub query_limit_closes: u64,
    pub output_limit_closes: u64,
    pub evicted_clients: u64,
    pub lazily_freed: u64,
    pub pubsub_clients: usize,
    pub tracking_clients: usize,
    pub tracking_keys: usize,
    pub tracking_items: usize,
    pub tracking_prefixes: BTreeSet<Box<[u8]>>,
    pub watching_clients: usize,
    pub watched_keys: usize,
    pub hits: u64,
    pub misses: u64,
    pub expired: u64,
    pub expired_fields: u64,
    pub evicted: u64,
    pub dirty: u64,
    pub clients: usize,
    pub clients_waiting: usize,
    pub blocked: usize,
    pub blocking_keys: usize,
    pub input_max: usize,
    pub output_max: usize,
    pub client_memory: usize,
    pub lua_memory: usize,
    /// Work in the core's lock queue, running and waiting.
    pub locked: usize,
    pub locks_waiting: usize,
    /// By the general allocator, counted per thread: may be below zero on one core.
    pub allocated: i64,
    /// In the data heap: bytes in use, and the pages that hold them.
    pub heap_used: usize,
    pub heap_resident: usize,
    /// Objects that wait to be freed in the background.
    pub free_pending: usize,
    pub slots: usize,
    /// By database: keys, and keys with an expiry.
    pub keys: Vec<(usize, usize)>,
    pub io: &'static str,
}

impl Report {
    pub fn of(core: &mut Core) -> Self {
        // First: the report itself does not count.
        let allocated = ringwood_shard::memory::thread_used() as i64;
        let (stats, data) = (&core.stats, &core.shard.stats);
        let keyspace = &core.shard.keyspace;
        let clients = &core.clients;
        Self {
            commands: stats.commands.clone(),
            latencies: stats.latencies.clone(),
            errors: stats.errors.iter().map(|(w, n)| (w.clone(), *n)).collect(),
            calls: stats.total_calls(),
            rate: core.meter.rate(),
            bytes_in: stats.bytes_in,
            bytes_out: stats.bytes_out,
            reads: stats.reads,
            writes: stats.writes,
            turns: stats.turns,
            turn_ns: stats.turn_ns,
            longest_turn_ns: stats.longest_turn_ns,
            forwarded: stats.forwarded,
            query_limit_closes: stats.query_limit_closes,
            output_limit_closes: stats.output_limit_closes,
            evicted_clients: stats.evicted_clients,
            lazily_freed: keyspace.lazily_freed,
            pubsub_clients: core.pubsub.clients,
            tracking_clients: core.trackers.clients,
            tracking_keys: core.shard.attention.tracking.counts().0,
            tracking_items: core.shard.attention.tracking.counts().1,
            tracking_prefixes: core.tracking_prefixes().into_iter().collect(),
            watching_clients: clients.iter().filter(|c| !c.watchers.is_empty()).count(),
            watched_keys: core.shard.attention.watched_keys(),
            hits: data.hits,
            misses: data.misses,
            expired: data.expired,
            expired_fields: data.expired_fields,
            evicted: data.evicted,
            dirty: data.dirty,
            clients: clients.len(),
            clients_waiting: clients.iter().filter(|c| c.is_waiting()).count(),
            blocked: core.blocking.clients + core.paused_clients(),
            blocking_keys: core.blocking.keys(),
            input_max: clients.iter().map(|c| c.query.len()).max().unwrap_or(0),
            output_max: clients.iter().map(|c| c.output_len()).max().unwrap_or(0),
            lua_memory: core.lua_memory(),
            client_memory: clients.iter().map(|c| c.memory()).sum(),
            locked: core.locks.len(),
            locks_waiting: core.locks.waiting(),
            allocated,
            heap_used: keyspace.heap_used(),
            heap_resident: keyspace.heap_resident(),
            free_pending: keyspace.free_pending(),
            slots: core.shard.owned.len(),
            keys: (0..keyspace.databases())
                .map(|db| (keyspace.len(db), keyspace.expiring(db)))
                .collect(),
            io: core.io.name(),
        }
    }

    /// The process as a whole.
    pub fn sum(reports: &[Self]) -> Self {
        let mut all = Self::default();
        for r in reports {
            all.add(r);
        }
        all
    }

    fn add(&mut self, r: &Self) {
        self.commands
            .resize(r.commands.len(), CommandStats::default());
        for (a, b) in self.commands.iter_mut().zip(&r.commands) {
            a.calls += b.calls;
            a.spent += b.spent;
            a.rejected += b.rejected;
            a.failed += b.failed;
        }
        self.latencies.resize(r.latencies.len(), None);
        for (a, b) in self.latencies.iter_mut().zip(&r.latencies) {
            if let Some(b) = b {
                a.get_or_insert_default().merge(b);
            }
        }
        for (word, n) in &r.errors {
            *self.errors.entry(word.clone()).or_default() += n;
        }
        self.rate.commands += r.rate.commands;
        self.rate.bytes_in += r.rate.bytes_in;
        self.rate.bytes_out += r.rate.bytes_out;
        self.rate.turns += r.rate.turns;
        self.rate.turn_ns += r.rate.turn_ns;
        self.longest_turn_ns = self.longest_turn_ns.max(r.longest_turn_ns);
        let counters: [(&mut u64, u64); 18] = [
            (&mut self.calls, r.calls),
            (&mut self.bytes_in, r.bytes_in),
            (&mut self.bytes_out, r.bytes_out),
            (&mut self.reads, r.reads),
            (&mut self.writes, r.writes),
            (&mut self.turns, r.turns),
            (&mut self.turn_ns, r.turn_ns),
            (&mut self.forwarded, r.forwarded),
            (&mut self.query_limit_closes, r.query_limit_closes),
            (&mut self.output_limit_closes, r.output_limit_closes),
            (&mut self.evicted_clients, r.evicted_clients),
            (&mut self.lazily_freed, r.lazily_freed),
            (&mut self.hits, r.hits),
            (&mut self.misses, r.misses),
            (&mut self.expired, r.expired),
            (&mut self.expired_fields, r.expired_fields),
            (&mut self.evicted, r.evicted),
            (&mut self.dirty, r.dirty),
        ];
        counters.into_iter().for_each(|(sum, n)| *sum += n);
        let sizes: [(&mut usize, usize); 18] = [
            (&mut self.clients, r.clients),
            (&mut self.clients_waiting, r.clients_waiting),
            (&mut self.blocked, r.blocked),
            (&mut self.pubsub_clients, r.pubsub_clients),
            (&mut self.tracking_clients, r.tracking_clients),
            (&mut self.tracking_keys, r.tracking_keys),
            (&mut self.tracking_items, r.tracking_items),
            (&mut self.watching_clients, r.watching_clients),
            (&mut self.watched_keys, r.watched_keys),
            (&mut self.blocking_keys, r.blocking_keys),
            (&mut self.client_memory, r.client_memory),
            (&mut self.lua_memory, r.lua_memory),
            (&mut self.locked, r.locked),
            (&mut self.locks_waiting, r.locks_waiting),
            (&mut self.heap_used, r.heap_used),
            (&mut self.heap_resident, r.heap_resident),
            (&mut self.free_pending, r.free_pending),
            (&mut self.slots, r.slots),
        ];
        sizes.into_iter().for_each(|(sum, n)| *sum += n);
        self.allocated += r.allocated;
        let prefixes = r.tracking_prefixes.iter().cloned();
        self.tracking_prefixes.extend(prefixes);
        self.input_max = self.input_max.max(r.input_max);
        self.output_max = self.output_max.max(r.output_max);
        self.keys.resize(r.keys.len(), (0, 0));
        for (a, b) in self.keys.iter_mut().zip(&r.keys) {
            a.0 += b.0;
            a.1 += b.1;
        }
        self.io = r.io;
    }

    /// Bytes in use: what `maxmemory` is about.
    pub fn memory_used(&self) -> i64 {
        self.allocated + self.heap_used as i64
    }
    /// The same with the data heap's pages counted whole.
    pub fn memory_active(&self) -> i64 {
        self.allocated + self.heap_resident as i64
    }
    pub fn all_keys(&self) -> usize {
        self.keys.iter().map(|(keys, _)| keys).sum()
    }
}
