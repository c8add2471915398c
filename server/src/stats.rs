//! One core's counters and rates: what INFO, CONFIG RESETSTAT and the crash report look at. Each core writes its own, INFO adds
//! them up; only what must be known while no one asks (the peak of the memory) is shared.
//!
//! Time per command: the clock is read once per group of commands (see [`crate::request`]), not twice per command. What passed
//! since the last reading, or since the turn began, is shared evenly among the group's commands. So `usec` is what a command costs
//! its cores from the received bytes to the written reply, parsing included; a slow command makes those of its group look slower
//! than they are (pipelines of different kinds of commands), and the sum is exact. A forwarded command costs on both cores.

use crate::registry::Entry;
use ringwood_protocol::error::CommandError;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// One core's part of a command's statistics.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommandStats {
    pub calls: u64,
    /// Nanoseconds.
    pub spent: u64,
    pub rejected: u64,
    pub failed: u64,
}

/// What a script that may have to start again has called until now.
#[derive(Debug, Default)]
pub struct ScriptCalls {
    /// By the registry's index.
    pub called: Vec<u32>,
    /// Which command, whether it was refused, and the error's first word.
    pub errors: Vec<(Option<u32>, bool, Box<str>)>,
}

/// One core's counters.
#[derive(Debug, Default)]
pub struct Stats {
    /// By the registry's index.
    pub commands: Vec<CommandStats>,
    /// By the registry's index: how long calls took. Made when first needed.
    pub latencies: Vec<Option<Box<Histogram>>>,
    /// By the error's first word.
    pub errors: HashMap<String, u64>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub reads: u64,
    pub writes: u64,
    /// Turns of the loop, the time that they took without their waits, and the longest of them.
    pub turns: u64,
    pub turn_ns: u64,
    pub longest_turn_ns: u64,
    pub forwarded: u64,
    /// Clients that went over `client-query-buffer-limit`.
    pub query_limit_closes: u64,
    /// Clients that went over `client-output-buffer-limit`.
    pub output_limit_closes: u64,
    /// Clients that went for `maxmemory-clients`.
    pub evicted_clients: u64,
}

impl Stats {
    pub fn new(commands: usize) -> Self {
        Self {
            commands: vec![CommandStats::default(); commands],
            latencies: (0..commands).map(|_| None).collect(),
            ..Self::default()
        }
    }
    #[inline]
    pub fn turn_done(&mut self, ns: u64) {
        self.turns += 1;
        self.turn_ns += ns;
        self.longest_turn_ns = self.longest_turn_ns.max(ns);
    }
    #[inline]
    pub fn called(&mut self, entry: &Entry) {
        self.commands[entry.index].calls += 1;
    }
    /// It has changed nothing, and runs again.
    pub fn not_called(&mut self, entry: &Entry) {
        self.commands[entry.index].calls -= 1;
    }
    /// The share of the time that each of `count` calls of a command had. `bucket` is [`Histogram::bucket`] of it, for calls that ran here.
    #[inline]
    pub fn spent(&mut self, entry: &Entry, count: u64, ns: u64, bucket: Option<usize>) {
        self.commands[entry.index].spent += ns * count;
        if let Some(bucket) = bucket {
            let histogram = &mut self.latencies[entry.index];
            if histogram.is_none() {
                *histogram = Some(Box::default());
            }
            if let Some(histogram) = histogram {
                histogram.add(bucket, count);
            }
        }
    }
    #[cold]
    pub fn error(&mut self, entry: &Entry, error: &CommandError) {
        self.commands[entry.index].failed += 1;
        self.count(error);
    }
    /// A script's error, by its first word.
    pub fn error_reply(&mut self, entry: &Entry, code: &str) {
        self.commands[entry.index].failed += 1;
        self.count_word(code);
    }
    pub fn rejected(&mut self, entry: Option<&Entry>, error: &CommandError) {
        if let Some(entry) = entry {
            self.commands[entry.index].rejected += 1;
        }
        self.count(error);
    }
    /// A command that a script may not call; by the error's first word.
    #[cold]
    pub fn refused(&mut self, entry: Option<&Entry>, code: &str) {
        if let Some(entry) = entry {
            self.commands[entry.index].rejected += 1;
        }
        self.count_word(code);
    }
    /// Takes back what a script has counted that starts again; CONFIG RESETSTAT may have come between.
    #[cold]
    pub fn take_back(&mut self, calls: &ScriptCalls) {
        for &index in &calls.called {
            let calls = &mut self.commands[index as usize].calls;
            *calls = calls.saturating_sub(1);
        }
        for (index, refused, code) in &calls.errors {
            if let Some(index) = index {
                let command = &mut self.commands[*index as usize];
                let count = match refused {
                    true => &mut command.rejected,
                    false => &mut command.failed,
                };
                *count = count.saturating_sub(1);
            }
            if let Some(count) = self.errors.get_mut(&**code) {
                *count = count.saturating_sub(1);
            }
        }
    }
    fn count(&mut self, error: &CommandError) {
        let text = error.text();
        self.count_word(text.split(' ').next().unwrap_or_default());
    }
    fn count_word(&mut self, word: &str) {
        // Words are Redis's fixed ones, except those of hostile scripts, which must not fill the memory.
        if self.errors.len() < 128 || self.errors.contains_key(word) {
            *self.errors.entry(word.to_string()).or_default() += 1;
        }
    }
    pub fn total_calls(&self) -> u64 {
        self.commands.iter().map(|c| c.calls).sum()
    }
}

/// Durations counted in buckets of an eighth of a power of two: at most 12.5% off.
#[derive(Clone, Debug)]
pub struct Histogram([u64; Self::BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; Self::BUCKETS])
    }
}

impl Histogram {
    const BUCKETS: usize = 62 * 8;

    /// The bucket of a duration in nanoseconds.
    #[inline]
    pub fn bucket(ns: u64) -> usize {
        if ns < 8 {
            return ns as usize;
        }
        let power = 63 - ns.leading_zeros() as usize;
        (power - 2) * 8 + (ns >> (power - 3) & 7) as usize
    }
    /// The longest duration of a bucket.
    fn upper(bucket: usize) -> u64 {
        if bucket < 8 {
            return bucket as u64;
        }
        let (power, eighth) = (bucket / 8 + 2, bucket as u64 % 8);
        ((8 + eighth) << (power - 3)) + ((1u64 << (power - 3)) - 1)
    }
    #[inline]
    pub fn add(&mut self, bucket: usize, count: u64) {
        self.0[bucket] += count;
    }
    pub fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a += b);
    }
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }
    /// As LATENCY HISTOGRAM shows it: for powers of two from 1024 ns on, in microseconds, how many calls took no longer. Only where that grows.
    pub fn by_powers(&self) -> Vec<(u64, u64)> {
        let mut steps = Vec::new();
        let (mut seen, mut shown) = (0, 0);
        for (bucket, count) in self.0.iter().enumerate() {
            seen += count;
            // The last bucket below a power of two.
            let power = 64 - Self::upper(bucket).leading_zeros();
            let ends = bucket % 8 == 7 && (10..64).contains(&power);
            if ends && seen > shown {
                // Redis shows the upper end of the power's own bucket, which is a 128th wide.
                let upper = (1u64 << power) + (1u64 << (power - 7)) - 1;
                steps.push((upper / 1000, seen));
                shown = seen;
            }
        }
        steps
    }
    /// The duration, in nanoseconds, that this percentage of the calls does not exceed.
    pub fn percentile(&self, percent: f64) -> u64 {
        let total: u64 = self.0.iter().sum();
        let wanted = ((total as f64 * percent / 100.0).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.0.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Self::upper(bucket);
            }
        }
        0
    }
}

/// What a [`Meter`] samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub commands: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub turns: u64,
    pub turn_ns: u64,
}

impl Sample {
    fn each(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            commands: f(self.commands, other.commands),
            bytes_in: f(self.bytes_in, other.bytes_in),
            bytes_out: f(self.bytes_out, other.bytes_out),
            turns: f(self.turns, other.turns),
            turn_ns: f(self.turn_ns, other.turn_ns),
        }
    }
}

/// Rates of the last second and a half: the mean of 16 samples, taken every 100 ms.
#[derive(Debug, Default)]
pub struct Meter {
    last: Sample,
    last_ns: u64,
    /// Per second.
    rates: [Sample; 16],
    next: usize,
}

impl Meter {
    pub fn take(&mut self, now_ns: u64, now: Sample) {
        let passed = now_ns.saturating_sub(self.last_ns);
        if self.last_ns > 0 && passed > 0 {
            let per_second = |now: u64, last: u64| {
                (u128::from(now.saturating_sub(last)) * 1_000_000_000 / u128::from(passed)) as u64
            };
            self.rates[self.next % 16] = now.each(self.last, per_second);
            self.next += 1;
        }
        (self.last, self.last_ns) = (now, now_ns);
    }
    pub fn rate(&self) -> Sample {
        let sum = self
            .rates
            .iter()
            .fold(Sample::default(), |sum, rate| sum.each(*rate, |a, b| a + b));
        sum.each(Sample::default(), |sum, _| sum / self.rates.len() as u64)
    }
}

/// What a core tells the others about its memory. Alone in its cache line: others read it every turn.
#[derive(Debug)]
#[repr(align(128))]
pub struct CoreMemory {
    pub used: AtomicI64,
    /// The rank of its best candidate for eviction ([`ringwood_shard::evict`]); [`CoreMemory::NONE`]: no key may go.
    pub rank: AtomicU64,
    /// Keys that may go.
    pub evictable: AtomicU64,
    /// Entries that are deleted and not freed yet.
    pub pending: AtomicU64,
    /// Bytes that other cores asked it to free, and that are not freed yet.
    pub owed: AtomicU64,
    /// Bytes of its clients, and the class of the largest: see [`crate::client_limit`].
    pub clients: AtomicU64,
    pub largest_client: AtomicU64,
}

impl CoreMemory {
    pub const NONE: u64 = u64::MAX;

    fn new() -> Self {
        Self {
            used: AtomicI64::new(0),
            rank: AtomicU64::new(Self::NONE),
            evictable: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            owed: AtomicU64::new(0),
            clients: AtomicU64::new(0),
            largest_client: AtomicU64::new(0),
        }
    }
    /// True when it can free something.
    pub fn is_able(&self) -> bool {
        self.evictable.load(Ordering::Relaxed) > 0 || self.pending.load(Ordering::Relaxed) > 0
    }
}

/// The memory in use, by core, as of each core's last look; and the most there has been.
#[derive(Debug)]
pub struct MemoryGauge {
    pub cores: Box<[CoreMemory]>,
    startup: Box<[AtomicI64]>,
    peak: AtomicU64,
    peak_unix_ms: AtomicI64,
    /// Since when more is in use than `maxmemory` allows (monotonic nanoseconds), or 0; and for how long there was before.
    over_since_ns: AtomicU64,
    over_ns: AtomicU64,
}

impl MemoryGauge {
    pub fn new(cores: usize) -> Self {
        let zeros = || (0..cores).map(|_| AtomicI64::new(0)).collect();
        Self {
            cores: (0..cores).map(|_| CoreMemory::new()).collect(),
            startup: zeros(),
            peak: AtomicU64::new(0),
            peak_unix_ms: AtomicI64::new(0),
            over_since_ns: AtomicU64::new(0),
            over_ns: AtomicU64::new(0),
        }
    }
    /// A core has seen whether more is in use than is allowed, and could not make it less at once.
    pub fn note_limit(&self, is_over: bool, now_ns: u64) {
        let since = self.over_since_ns.load(Ordering::Relaxed);
        if is_over == (since > 0) {
            return;
        }
        let next = if is_over { now_ns.max(1) } else { 0 };
        let known = &self.over_since_ns;
        let changed = known.compare_exchange(since, next, Ordering::Relaxed, Ordering::Relaxed);
        if changed.is_ok() && !is_over {
            let ns = now_ns.saturating_sub(since);
            self.over_ns.fetch_add(ns, Ordering::Relaxed);
        }
    }
    /// For how many milliseconds more has been in use than is allowed: in all, and this time.
    pub fn time_over_limit(&self, now_ns: u64) -> (u64, u64) {
        let current = match self.over_since_ns.load(Ordering::Relaxed) {
            0 => 0,
            since => now_ns.saturating_sub(since),
        };
        let before = self.over_ns.load(Ordering::Relaxed);
        ((before + current) / 1_000_000, current / 1_000_000)
    }
    pub fn reset_time_over_limit(&self) {
        self.over_since_ns.store(0, Ordering::Relaxed);
        self.over_ns.store(0, Ordering::Relaxed);
    }
    fn sum(values: &[AtomicI64]) -> u64 {
        let sum: i64 = values.iter().map(|v| v.load(Ordering::Relaxed)).sum();
        sum.max(0) as u64
    }
    /// A core tells what it uses now. The first time is what it uses without data.
    pub fn tell(&self, core: usize, used: i64, now_ms: i64) {
        self.cores[core].used.store(used, Ordering::Relaxed);
        if self.startup[core].load(Ordering::Relaxed) == 0 {
            self.startup[core].store(used, Ordering::Relaxed);
        }
        self.note_peak(self.used(), now_ms);
    }
    /// So much is in use now.
    pub fn note_peak(&self, all: u64, now_ms: i64) {
        if self.peak.fetch_max(all, Ordering::Relaxed) < all {
            self.peak_unix_ms.store(now_ms, Ordering::Relaxed);
        }
    }
    pub fn used(&self) -> u64 {
        let used = self.cores.iter().map(|c| c.used.load(Ordering::Relaxed));
        (used.sum::<i64>() + ringwood_shard::memory::aside() as i64).max(0) as u64
    }
    pub fn startup(&self) -> u64 {
        Self::sum(&self.startup)
    }
    /// The most there has been at any look, and when.
    pub fn peak(&self) -> (u64, i64) {
        (
            self.peak.load(Ordering::Relaxed),
            self.peak_unix_ms.load(Ordering::Relaxed),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_their_durations() {
        let mut last = 0;
        for ns in (0..100_000u64).chain((17..64).map(|p| (1u64 << p) - 1)) {
            let bucket = Histogram::bucket(ns);
            assert!(bucket >= last && bucket < Histogram::BUCKETS, "{ns}");
            last = bucket;
            let upper = Histogram::upper(bucket);
            assert!(upper >= ns && upper - ns <= ns / 8, "{ns} {upper}");
        }
        assert!(Histogram::bucket(u64::MAX) < Histogram::BUCKETS);
    }

    #[test]
    fn percentiles_come_from_the_counts() {
        let mut h = Histogram::default();
        for ns in 1..=1000 {
            h.add(Histogram::bucket(ns * 1000), 1);
        }
        for (percent, ns) in [(50.0, 500_000), (99.0, 990_000), (100.0, 1_000_000)] {
            let got = h.percentile(percent);
            assert!(got >= ns && got <= ns + ns / 8, "{percent} {got}");
        }
        assert_eq!(Histogram::default().percentile(50.0), 0);
    }

    #[test]
    fn powers_are_cumulative() {
        let mut h = Histogram::default();
        for us in [0, 1, 5, 30, 31, 60, 60, 900] {
            h.add(Histogram::bucket(us * 1000), 1);
        }
        // As Redis 8.2 names the steps.
        let steps = [(1, 2), (8, 3), (33, 5), (66, 7), (1056, 8)];
        assert_eq!(h.by_powers(), steps);
        assert_eq!(h.count(), 8);
    }

    #[test]
    fn rates_are_per_second() {
        let mut meter = Meter::default();
        let mut now = Sample::default();
        for tick in 1..=20 {
            now.commands += 100;
            now.bytes_in += 10;
            meter.take(tick * 100_000_000, now);
        }
        assert_eq!(meter.rate().commands, 1000);
        assert_eq!(meter.rate().bytes_in, 100);
        // CONFIG RESETSTAT: the counter falls; that is no rate.
        meter.take(2_100_000_000, Sample::default());
        assert!(meter.rate().commands < 1000);
    }

    #[test]
    fn time_over_the_limit_is_counted_once_for_all_cores() {
        let gauge = MemoryGauge::new(2);
        let ms = |ms: u64| ms * 1_000_000;
        gauge.note_limit(false, ms(5));
        gauge.note_limit(true, ms(10));
        gauge.note_limit(true, ms(12));
        assert_eq!(gauge.time_over_limit(ms(15)), (5, 5));
        gauge.note_limit(false, ms(20));
        gauge.note_limit(false, ms(25));
        assert_eq!(gauge.time_over_limit(ms(30)), (10, 0));
        gauge.note_limit(true, ms(40));
        assert_eq!(gauge.time_over_limit(ms(41)), (11, 1));
        gauge.reset_time_over_limit();
        assert_eq!(gauge.time_over_limit(ms(50)), (0, 0));
    }

    #[test]
    fn the_peak_is_of_all_cores_together() {
        let gauge = MemoryGauge::new(2);
        gauge.tell(0, 100, 1);
        gauge.tell(1, 50, 2);
        gauge.tell(0, 20, 3);
        assert_eq!(gauge.used(), 70);
        assert_eq!(gauge.startup(), 150);
        assert_eq!(gauge.peak(), (150, 2));
        // What one core allocates another may free.
        gauge.tell(1, -10, 4);
        assert_eq!(gauge.used(), 10);
    }
}
