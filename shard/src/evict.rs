//! Eviction: which key goes when memory is short.
//!
//! As in Redis, keys are sampled, and the best candidates seen so far are kept in a small pool; the best of them goes. A sample is a run of
//! neighbours in the tables from a random place on: their order is the hash's, which knows nothing of their use, and one run costs few cache
//! misses. Where few keys have an expiry, the volatile policies take theirs from the expiry wheel instead, so that their cost does not depend
//! on how rare such keys are; `volatile-ttl` begins at the wheel's next buckets, which makes it nearly exact.
//!
//! A candidate's [`rank`](Rule::rank) says how dispensable it is, in terms that are the same on every core, so that cores can compare their
//! best candidates. Other than in Redis, a candidate is looked at again before it goes: if it was used since it got into the pool, it stays.

use crate::keyspace::entry::Entry;
use crate::keyspace::{EntryRef, Keyspace};
use crate::shard::{Settings, Shard, lfu_counter, lfu_idle_minutes, lru_idle_seconds, notify};
use crate::wheel::{PREFIX_BITS, Quota, Record};

/// What makes a key dispensable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    LeastRecent,
    LeastFrequent,
    Random,
    SoonestExpiry,
}

/// `maxmemory-policy`, where it lets keys go, with `maxmemory-samples`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub by: By,
    /// Only keys with an expiry.
    pub volatile: bool,
    pub samples: usize,
}

/// What [`Shard::evict_one`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicted {
    One,
    /// There are keys that could go, but they are in use just now.
    NotNow,
    /// No key may go.
    Nothing,
}

impl Rule {
    /// How dispensable: the lowest goes first. For recency the time of the last use, for expiry the time of it; so ranks keep their
    /// meaning as time passes.
    fn rank(&self, settings: &Settings, now_ms: i64, entry: EntryRef<'_>) -> u64 {
        let access = entry.access();
        match self.by {
            By::Random => 0,
            By::LeastRecent => {
                let idle = lru_idle_seconds(now_ms, access);
                (now_ms / 1000).saturating_sub(idle.into()).max(0) as u64
            }
            By::LeastFrequent => {
                // Of equally frequent ones the one that was counted less lately.
                let fresh = 0xffff - lfu_idle_minutes(now_ms, access);
                u64::from(lfu_counter(settings, now_ms, access)) << 16 | u64::from(fresh)
            }
            By::SoonestExpiry => entry.expire_at().map_or(u64::MAX, |at| at.max(0) as u64),
        }
    }
    /// True when a candidate of rank `theirs` is so much better than one of `ours` that it is worth asking another core for it.
    pub fn is_far_better(&self, theirs: u64, ours: u64) -> bool {
        let step = match self.by {
            By::LeastRecent => 1,
            By::LeastFrequent => 1 << 15,
            By::SoonestExpiry => 1000,
            By::Random => return false,
        };
        theirs.saturating_add(step) < ours
    }
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    rank: u64,
    hash: u64,
    slot: u16,
    db_uid: u16,
}

/// Candidates that are kept, as in Redis.
const POOL: usize = 16;
/// Samples without one candidate, after which it is given up for now.
const TRIES: usize = 64;

/// The best candidates seen so far.
#[derive(Default)]
pub struct Evictor {
    pool: Vec<Candidate>,
    rule: Option<Rule>,
}

impl Evictor {
    fn offer(&mut self, candidate: Candidate) {
        let name = |c: &Candidate| (c.hash, c.slot, c.db_uid);
        if let Some(known) = self.pool.iter_mut().find(|c| name(c) == name(&candidate)) {
            known.rank = candidate.rank;
        } else if self.pool.len() < POOL {
            self.pool.push(candidate);
        } else if let Some(worst) = self.pool.iter_mut().max_by_key(|c| c.rank)
            && candidate.rank < worst.rank
        {
            *worst = candidate;
        }
    }
    /// From which rank on a candidate has no place.
    fn too_high(&self) -> u64 {
        match self.pool.len() {
            0..POOL => u64::MAX,
            _ => self.pool.iter().map(|c| c.rank).max().unwrap_or(u64::MAX),
        }
    }
    fn take_best(&mut self) -> Option<Candidate> {
        let at = (0..self.pool.len()).min_by_key(|&at| self.pool[at].rank)?;
        Some(self.pool.swap_remove(at))
    }
}

/// Entries of one sample; their headers are asked for together.
struct Sample {
    entries: [Option<Entry>; SAMPLE_MAX],
    len: usize,
}

/// The most that `maxmemory-samples` can be.
const SAMPLE_MAX: usize = 64;

impl Shard {
    /// The rank of the best candidate here, as far as is known. `None`: no key may go.
    pub fn eviction_rank(&mut self) -> Option<u64> {
        let rule = self.settings.eviction?;
        self.follow_rule(rule);
        if self.evictor.pool.is_empty() {
            self.sample(rule);
        }
        self.evictor.pool.iter().map(|c| c.rank).min()
    }
    /// Looks for better candidates.
    pub fn look_for_candidates(&mut self) {
        if let Some(rule) = self.settings.eviction {
            self.follow_rule(rule);
            self.sample(rule);
        }
    }
    fn follow_rule(&mut self, rule: Rule) {
        let old = self.evictor.rule.replace(rule);
        if old.is_none_or(|old| (old.by, old.volatile) != (rule.by, rule.volatile)) {
            self.evictor.pool.clear();
        }
    }
    /// Keys that may go.
    pub fn evictable(&self, rule: Rule) -> usize {
        let dbs = 0..self.keyspace.databases();
        dbs.map(|db| match rule.volatile {
            true => self.keyspace.expiring(db),
            false => self.keyspace.len(db),
        })
        .sum()
    }

    /// Lets the most dispensable key go, of those whose slots are not `held`.
    pub fn evict_one(&mut self, held: impl Fn(u16) -> bool) -> Evicted {
        let Some(rule) = self.settings.eviction else {
            return Evicted::Nothing;
        };
        self.follow_rule(rule);
        if self.evictable(rule) == 0 {
            return Evicted::Nothing;
        }
        for _ in 0..TRIES {
            self.sample(rule);
            while let Some(candidate) = self.evictor.take_best() {
                if held(candidate.slot) {
                    continue;
                }
                let db = self.keyspace.db_of_uid(candidate.db_uid);
                let (settings, now_ms) = (&self.settings, self.now_ms);
                let found =
                    self.keyspace
                        .find_by_prefix(db, candidate.slot, candidate.hash, 64, |entry| {
                            (!rule.volatile || entry.expire_at().is_some())
                                && rule.rank(settings, now_ms, entry) <= candidate.rank
                        });
                let Some(entry) = found else { continue };
                let heard = self.listening || self.logging || !self.attention.is_idle();
                let name = heard.then(|| entry.get().key().to_vec());
                entry.remove();
                self.stats.evicted += 1;
                if let Some(name) = name {
                    self.log_lapsed(db, &name);
                    self.notify(db, &name, notify::EVICTED, "evicted", true);
                }
                return Evicted::One;
            }
        }
        Evicted::NotNow
    }

    /// Takes one sample, and what of it is worth it into the pool.
    fn sample(&mut self, rule: Rule) {
        if self.evictable(rule) == 0 {
            return;
        }
        let samples = match rule.by {
            By::Random => 1,
            _ => rule.samples.clamp(1, SAMPLE_MAX),
        };
        let many = |keyspace: &Keyspace, db| 4 * keyspace.expiring(db) >= keyspace.len(db);
        let count = |keyspace: &Keyspace, db| match rule.volatile {
            true => keyspace.expiring(db),
            false => keyspace.len(db),
        };
        // A random key's database.
        let mut nth = self.random_below(self.evictable(rule));
        let dbs = 0..self.keyspace.databases();
        let db = dbs
            .into_iter()
            .find(|&db| {
                let here = nth < count(&self.keyspace, db);
                if !here {
                    nth -= count(&self.keyspace, db);
                }
                here
            })
            .expect("below the sum of these");
        let random = self.random();
        let Self {
            keyspace,
            evictor,
            settings,
            now_ms,
            wheel,
            ..
        } = self;
        // The closure below may not borrow the keyspace, which is looked up in meanwhile; the hasher is a seed.
        let hasher = keyspace.hasher().clone();
        let mut consider = |db_uid: u16, slot: u16, entry: EntryRef<'_>| {
            if rule.volatile && entry.expire_at().is_none() {
                return;
            }
            let rank = rule.rank(settings, *now_ms, entry);
            if rank < evictor.too_high() {
                let hash = hasher.hash(entry.key());
                evictor.offer(Candidate {
                    rank,
                    hash,
                    slot,
                    db_uid,
                });
            }
        };
        if rule.volatile && (rule.by == By::SoonestExpiry || !many(keyspace, db)) {
            let mut look = |record: Record| {
                let db = keyspace.db_of_uid(record.db_uid());
                let (slot, prefix) = (record.slot(), record.prefix());
                let mut entry =
                    keyspace.find_by_prefix(db, slot, prefix, PREFIX_BITS, |e| e.in_wheel())?;
                let time = entry.get().next_time();
                if time.is_none() {
                    entry.set_in_wheel(false);
                }
                consider(record.db_uid(), slot, entry.get());
                time
            };
            let quota = Quota::new(samples, 16 * samples);
            match rule.by {
                By::SoonestExpiry => wheel.first(quota, &mut look),
                _ => wheel.from(random, quota, &mut look),
            }
            return;
        }
        let mut sample = Sample {
            entries: [None; SAMPLE_MAX],
            len: 0,
        };
        let nth = (((random >> 1) as u128 * keyspace.len(db) as u128) >> 63) as usize;
        if rule.by == By::Random {
            // One run after another would find new entries more often than old ones: they take the places of those that went.
            if let Some(entry) = keyspace.nth(db, nth) {
                let slot = ringwood_protocol::slot::key_slot(entry.key());
                consider(keyspace.uid(db), slot, entry);
            }
            return;
        }
        let mut slots = [0u16; SAMPLE_MAX];
        keyspace.sample(db, nth, samples, |slot, entry| {
            slots[sample.len] = slot;
            sample.entries[sample.len] = Some(entry);
            sample.len += 1;
        });
        let uid = keyspace.uid(db);
        for (entry, slot) in sample.entries.iter().flatten().zip(slots) {
            consider(uid, slot, keyspace.look(*entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::KeyHasher;
    use crate::shard::Expiry;
    use std::sync::Arc;

    const NOW: i64 = 1_700_000_000_000;

    fn shard(by: By, volatile: bool) -> Shard {
        let settings = Settings {
            lfu: by == By::LeastFrequent,
            eviction: Some(Rule {
                by,
                volatile,
                samples: 5,
            }),
            ..Settings::default()
        };
        Shard::new(Arc::new(settings), KeyHasher::new(1), NOW, 9)
    }
    fn name(i: i64) -> Vec<u8> {
        format!("k{i}").into_bytes()
    }
    fn set(s: &mut Shard, i: i64, expiry: Expiry) {
        let name = name(i);
        let key = s.key(&name);
        s.set_string(0, key, b"v", expiry);
    }
    fn left(s: &Shard, keys: std::ops::Range<i64>) -> usize {
        keys.filter(|&i| s.exists(0, s.key(&name(i)))).count()
    }
    fn evict(s: &mut Shard, count: usize) {
        for _ in 0..count {
            assert_eq!(s.evict_one(|_| false), Evicted::One);
        }
        s.keyspace.check_invariants();
    }

    #[test]
    fn the_least_recently_used_go() {
        let mut s = shard(By::LeastRecent, false);
        for i in 0..10_000 {
            s.now_ms = NOW + i * 100;
            set(&mut s, i, Expiry::Clear);
        }
        evict(&mut s, 5000);
        // Exact would be none of the first half; Redis with five samples leaves about as many.
        let (old, new) = (left(&s, 0..5000), left(&s, 5000..10_000));
        assert_eq!(old + new, 5000);
        assert!(old < 600, "{old}");
        assert_eq!(s.stats.evicted, 5000);
    }

    #[test]
    fn who_was_used_meanwhile_stays() {
        let mut s = shard(By::LeastRecent, false);
        for i in 0..16 {
            set(&mut s, i, Expiry::Clear);
        }
        s.now_ms += 100_000;
        for _ in 0..20 {
            s.look_for_candidates();
        }
        s.now_ms += 100_000;
        for i in 0..15 {
            let name = name(i);
            let key = s.key(&name);
            assert!(s.read(0, key).is_some());
        }
        evict(&mut s, 1);
        assert_eq!((left(&s, 0..15), left(&s, 15..16)), (15, 0));
    }

    #[test]
    fn the_least_frequently_used_go() {
        let mut s = shard(By::LeastFrequent, false);
        for i in 0..2000 {
            set(&mut s, i, Expiry::Clear);
        }
        for i in 0..1000 {
            let name = name(i);
            for _ in 0..100 {
                let key = s.key(&name);
                s.read(0, key);
            }
        }
        evict(&mut s, 800);
        assert!(left(&s, 0..1000) > 980, "{}", left(&s, 0..1000));
    }

    #[test]
    fn only_keys_that_expire_go() {
        for by in [
            By::LeastRecent,
            By::LeastFrequent,
            By::Random,
            By::SoonestExpiry,
        ] {
            // Few and many of them.
            for every in [100, 2] {
                let mut s = shard(by, true);
                for i in 0..5000 {
                    let expiry = match i % every {
                        0 => Expiry::At(NOW + 100_000 + i * 1000),
                        _ => Expiry::Clear,
                    };
                    set(&mut s, i, expiry);
                }
                let count = 5000 / every as usize;
                evict(&mut s, count / 2);
                if by == By::SoonestExpiry {
                    // Those of the wheel's finer levels are in order.
                    let half = left(&s, 0..2500);
                    assert!(half < 2500 - count / 2 + count / 10, "{half}");
                }
                evict(&mut s, count - count / 2);
                assert_eq!(s.evict_one(|_| false), Evicted::Nothing, "{by:?} {every}");
                assert_eq!(left(&s, 0..5000), 5000 - count);
            }
        }
    }

    #[test]
    fn keys_in_use_stay() {
        let mut s = shard(By::Random, false);
        for i in 0..100 {
            set(&mut s, i, Expiry::Clear);
        }
        let held = s.key(b"k7").slot;
        while s.evict_one(|slot| slot == held) == Evicted::One {}
        assert_eq!(left(&s, 0..100), 1);
        assert_eq!(s.evict_one(|slot| slot == held), Evicted::NotNow);
    }

    #[test]
    fn random_keys_of_all_databases_go() {
        let mut s = shard(By::Random, false);
        for i in 0..2000 {
            let name = name(i);
            let key = s.key(&name);
            s.set_string(i as usize % 2 * 3, key, b"v", Expiry::Clear);
        }
        evict(&mut s, 1000);
        assert!(
            (400..600).contains(&s.keyspace.len(0)),
            "{}",
            s.keyspace.len(0)
        );
        s.keyspace.swap(0, 3);
        evict(&mut s, 1000);
        assert!(s.keyspace.is_empty());
    }
}
