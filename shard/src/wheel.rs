//! When keys expire: a hierarchical timing wheel of small records.
//!
//! A record is one word: which database (by uid), which slot, and the first 40 bits of the key's hash. When its time comes, the
//! key is looked up by these and the entry's own expiry decides: past, it is deleted; later (the TTL was renewed), the
//! record goes back in at the new time. So renewing a TTL costs nothing here, an entry stays where it is, and a record
//! whose key is gone finds nothing.
//!
//! Four levels of 256 buckets; a tick is 128 ms. The first spans 33 s, the last 17 years. A bucket of a higher level, when reached,
//! is dealt with like a due one: every record in it is looked up and goes where the entry's expiry says.
//!
//! The same key may have several records: it was deleted and made again, or its TTL went up and down. Of equal records
//! that come to lie in one chunk, all but one are dropped when the chunk is looked at; a sweep goes round the wheel for
//! these and for records whose key is gone when there are far more records than keys.
//!
//! Invariant: an entry that has an expiry and is marked as in the wheel has a record at or before its expiry.

use std::collections::VecDeque;

const TICK_BITS: u32 = 7;
const BUCKETS: usize = 256;
const LEVELS: usize = 4;
/// Bits of the hash in a record.
pub const PREFIX_BITS: u32 = 40;

/// Where to look for a key whose time may have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record(u64);

impl Record {
    pub fn new(db_uid: u16, slot: u16, hash: u64) -> Self {
        Self((db_uid as u64) << 54 | (slot as u64) << PREFIX_BITS | hash >> (64 - PREFIX_BITS))
    }
    pub fn db_uid(self) -> u16 {
        (self.0 >> 54) as u16
    }
    pub fn slot(self) -> u16 {
        (self.0 >> PREFIX_BITS) as u16 & 0x3fff
    }
    pub fn prefix(self) -> u64 {
        self.0 & ((1 << PREFIX_BITS) - 1)
    }
}

/// Records in chunks of bounded size, so that neither growth nor moving a million of them copies them all.
/// No chunk is empty.
#[derive(Clone, Default)]
struct Pile(Vec<Vec<Record>>);

const CHUNK: usize = 512;

impl Pile {
    fn push(&mut self, record: Record) {
        match self.0.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(record),
            _ => self.0.push(vec![record]),
        }
    }
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How many records a look at the wheel is about.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// That were found where they belong.
    pub wanted: usize,
    /// In all.
    pub most: usize,
    found: usize,
    seen: usize,
}

impl Quota {
    pub fn new(wanted: usize, most: usize) -> Self {
        Self {
            wanted,
            most,
            found: 0,
            seen: 0,
        }
    }
    fn is_used_up(&self) -> bool {
        self.found >= self.wanted || self.seen >= self.most
    }
}

/// The wheel.
pub struct Wheel {
    buckets: Vec<Pile>,
    /// Everything up to this tick has been moved to `due`.
    tick: i64,
    /// Chunks in the order in which they became due. None is empty.
    due: VecDeque<Vec<Record>>,
    due_len: usize,
    len: usize,
    /// Where the sweep for stale records goes on: bucket, chunk and place.
    sweep: (usize, usize, usize),
    /// No sweep below this many records: the last round left about two thirds of it.
    sweep_above: usize,
}

/// More records than twice the keys, and this, are worth a sweep.
const SWEEP_MIN: usize = 16_384;
/// A jump of the clock by more ticks than this is not walked: all records are looked at again.
const JUMP: i64 = 1 << 16;

impl Wheel {
    pub fn new(now_ms: i64) -> Self {
        Self {
            buckets: vec![Pile::default(); BUCKETS * LEVELS],
            tick: now_ms >> TICK_BITS,
            due: VecDeque::new(),
            due_len: 0,
            len: 0,
            sweep: (0, 0, 0),
            sweep_above: 0,
        }
    }

    /// Records in the wheel, stale ones counted.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn insert(&mut self, expire_at: i64, record: Record) {
        self.len += 1;
        match self.place(expire_at) {
            Some(bucket) => self.buckets[bucket].push(record),
            None => {
                self.due_len += 1;
                match self.due.back_mut() {
                    Some(chunk) if chunk.len() < CHUNK => chunk.push(record),
                    _ => self.due.push_back(vec![record]),
                }
            }
        }
    }
    /// The bucket for a time; `None`: it is due.
    fn place(&self, expire_at: i64) -> Option<usize> {
        // One tick later, so that the time is past for certain when the record is looked at.
        let tick = (expire_at >> TICK_BITS).saturating_add(1);
        let ahead = tick.saturating_sub(self.tick);
        if ahead <= 0 {
            return None;
        }
        let ahead = ahead.min((1 << (8 * LEVELS)) - 1);
        let level = (63 - (ahead as u64).leading_zeros()) as usize / 8;
        let place = ((self.tick + ahead) >> (8 * level)) as usize % BUCKETS;
        Some(level * BUCKETS + place)
    }

    /// Makes due what time has reached.
    pub fn advance(&mut self, now_ms: i64) {
        let to = now_ms >> TICK_BITS;
        if self.len == self.due_len {
            self.tick = self.tick.max(to);
            return;
        }
        if to - self.tick > JUMP {
            self.tick = to;
            for bucket in 0..self.buckets.len() {
                self.make_due(bucket);
            }
        }
        while self.tick < to {
            self.tick += 1;
            for level in 0..LEVELS {
                let place = (self.tick >> (8 * level)) as usize % BUCKETS;
                self.make_due(level * BUCKETS + place);
                if place != 0 {
                    break;
                }
            }
        }
    }

    fn make_due(&mut self, bucket: usize) {
        let pile = std::mem::take(&mut self.buckets[bucket]);
        for mut chunk in pile.0 {
            self.len -= drop_equal(&mut chunk);
            self.due_len += chunk.len();
            self.due.push_back(chunk);
        }
    }

    pub fn next_due(&mut self) -> Option<Record> {
        let chunk = self.due.front_mut()?;
        let record = chunk.pop();
        if chunk.is_empty() {
            self.due.pop_front();
        }
        self.due_len -= 1;
        self.len -= 1;
        record
    }
    pub fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// When there is something to do next, in wall-clock milliseconds.
    pub fn next_time(&self) -> Option<i64> {
        if self.has_due() {
            return Some(self.tick << TICK_BITS);
        }
        if self.len == 0 {
            return None;
        }
        // The first level is looked at bucket by bucket; anything further is worth one look at its next turn.
        (1..=BUCKETS as i64)
            .map(|ahead| self.tick + ahead)
            .find(|&tick| {
                !self.buckets[tick as usize % BUCKETS].is_empty()
                    || (tick as usize).is_multiple_of(BUCKETS)
            })
            .map(|tick| tick << TICK_BITS)
    }

    /// True when there are far more records than the `keys` that need one.
    pub fn wants_sweep(&self, keys: usize) -> bool {
        self.len > (2 * keys + SWEEP_MIN).max(self.sweep_above)
    }

    /// Shows records from the soonest on, roughly in order, until `quota` is used up. `look` says when time changes something next about
    /// what the record is for; `None`: nothing any more, then the record goes. A record that is too early (the TTL was renewed) goes where it belongs and does
    /// not count.
    pub fn first(&mut self, mut quota: Quota, look: &mut impl FnMut(Record) -> Option<i64>) {
        for level in 0..LEVELS {
            let here = self.tick >> (8 * level);
            for ahead in 1..=BUCKETS as i64 {
                let bucket = level * BUCKETS + (here + ahead) as usize % BUCKETS;
                if !self.buckets[bucket].is_empty() {
                    self.visit(bucket, 0, 0, &mut quota, look);
                }
                if quota.is_used_up() {
                    return;
                }
            }
        }
    }
    /// As [`Wheel::first`], from a random place on, in one bucket.
    pub fn from(
        &mut self,
        random: u64,
        mut quota: Quota,
        look: &mut impl FnMut(Record) -> Option<i64>,
    ) {
        let start = (random >> 32) as usize % self.buckets.len();
        let mut buckets = (0..self.buckets.len()).map(|n| (start + n) % self.buckets.len());
        let Some(bucket) = buckets.find(|bucket| !self.buckets[*bucket].is_empty()) else {
            return;
        };
        let chunks = &self.buckets[bucket].0;
        let chunk = random as u32 as usize % chunks.len();
        let place = (random >> 16) as usize % chunks[chunk].len();
        self.visit(bucket, chunk, place, &mut quota, look);
        self.visit(bucket, 0, 0, &mut quota, look);
    }

    /// True when a record for this time is not too early in a bucket. As the wheel turns, a time's bucket moves to lower levels; who lies in
    /// the higher one will be moved when that is reached.
    fn belongs(&self, bucket: usize, at: i64) -> bool {
        let level = bucket / BUCKETS;
        let tick = (at >> TICK_BITS).saturating_add(1);
        let ahead = tick.saturating_sub(self.tick);
        (tick >> (8 * level)) as usize % BUCKETS == bucket % BUCKETS
            && ahead < 1 << (8 * (level as i64 + 1))
            || self.place(at).is_none_or(|other| other / BUCKETS < level)
    }

    fn visit(
        &mut self,
        bucket: usize,
        mut chunk: usize,
        mut place: usize,
        quota: &mut Quota,
        look: &mut impl FnMut(Record) -> Option<i64>,
    ) {
        let mut moved = Vec::new();
        while !quota.is_used_up() {
            let Some(records) = self.buckets[bucket].0.get_mut(chunk) else {
                break;
            };
            let Some(&record) = records.get(place) else {
                (chunk, place) = (chunk + 1, 0);
                continue;
            };
            quota.seen += 1;
            let at = look(record);
            let stays = at.is_some_and(|at| self.belongs(bucket, at));
            if stays {
                quota.found += 1;
                place += 1;
                continue;
            }
            let records = &mut self.buckets[bucket].0[chunk];
            records.swap_remove(place);
            self.len -= 1;
            if records.is_empty() {
                self.buckets[bucket].0.swap_remove(chunk);
                place = 0;
            }
            moved.extend(at.map(|at| (at, record)));
        }
        for (at, record) in moved {
            self.insert(at, record);
        }
    }

    /// Drops records that `alive` denies, looking at `budget` of them, going round the wheel call by call. For when keys
    /// come and go with their TTLs far faster than these run out.
    pub fn sweep(&mut self, budget: usize, mut alive: impl FnMut(Record) -> bool) {
        let (mut bucket, mut chunk, mut place) = self.sweep;
        let mut left = budget;
        while left > 0 {
            left -= 1;
            let chunks = &mut self.buckets[bucket].0;
            let Some(records) = chunks.get_mut(chunk) else {
                (bucket, chunk, place) = (bucket + 1, 0, 0);
                if bucket == self.buckets.len() {
                    // A round that leaves too many is not begun again before there are more still.
                    bucket = 0;
                    self.sweep_above = self.len + self.len / 2;
                }
                continue;
            };
            if place == 0 {
                self.len -= drop_equal(records);
            }
            match records.get(place) {
                Some(&record) if alive(record) => place += 1,
                Some(_) => {
                    records.swap_remove(place);
                    self.len -= 1;
                }
                None => {
                    if records.is_empty() {
                        chunks.swap_remove(chunk);
                    } else {
                        records.shrink_to_fit();
                        chunk += 1;
                    }
                    place = 0;
                }
            }
        }
        // An emptied chunk must not stay behind: it would be taken for records that are due.
        let chunks = &mut self.buckets[bucket].0;
        if chunks.get(chunk).is_some_and(Vec::is_empty) {
            chunks.swap_remove(chunk);
            place = 0;
        }
        self.sweep = (bucket, chunk, place);
    }
}

/// Drops all but one of equal records. Returns how many.
fn drop_equal(chunk: &mut Vec<Record>) -> usize {
    let before = chunk.len();
    chunk.sort_unstable_by_key(|r| r.0);
    chunk.dedup();
    before - chunk.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Nothing is lost, nothing comes late by more than a tick when records are put back as the shard does.
        #[test]
        fn records_come_in_time(delays in prop::collection::vec(0i64..40_000_000, 1..50), start in 0i64..1 << 41) {
            let mut wheel = Wheel::new(start);
            let at = |r: Record| start + delays[r.prefix() as usize];
            for (i, delay) in delays.iter().enumerate() {
                wheel.insert(start + delay, Record::new(0, 5, (i as u64) << 24));
            }
            let mut now = start;
            let mut done = 0;
            while let Some(next) = wheel.next_time() {
                prop_assert!(next <= now.max(start) + (1 << 20) * 128);
                now = now.max(next);
                wheel.advance(now);
                let mut back = Vec::new();
                while let Some(r) = wheel.next_due() {
                    if at(r) <= now {
                        prop_assert!(now - at(r) <= 2 * 128 + 1);
                        done += 1;
                    } else {
                        back.push(r);
                    }
                }
                for r in back {
                    wheel.insert(at(r), r);
                }
            }
            prop_assert_eq!(done, delays.len());
        }
    }

    #[test]
    fn equal_records_are_dropped() {
        let mut wheel = Wheel::new(0);
        for _ in 0..100 {
            wheel.insert(60_000, Record::new(0, 5, 1 << 24));
            wheel.insert(60_000, Record::new(0, 5, 2 << 24));
        }
        assert_eq!(wheel.len(), 200);
        wheel.advance(61_000);
        assert_eq!(wheel.len(), 2);
        assert_eq!(
            [wheel.next_due(), wheel.next_due()]
                .iter()
                .flatten()
                .count(),
            2
        );
        assert_eq!((wheel.next_due(), wheel.len()), (None, 0));
    }

    #[test]
    fn a_clock_that_jumps_makes_everything_due() {
        let mut wheel = Wheel::new(0);
        for i in 0..2000 {
            wheel.insert(i * 1_000_000, Record::new(0, 5, (i as u64) << 24));
        }
        wheel.advance(1 << 60);
        let mut due = 0;
        while wheel.next_due().is_some() {
            due += 1;
        }
        assert_eq!((due, wheel.len()), (2000, 0));
    }

    #[test]
    fn a_sweep_that_finds_nothing_stale_ends() {
        let mut wheel = Wheel::new(0);
        for i in 0..100_000u64 {
            wheel.insert(1_000_000, Record::new(0, 5, i << 24));
        }
        let mut calls = 0;
        while wheel.wants_sweep(10) {
            wheel.sweep(1000, |_| true);
            calls += 1;
        }
        assert!((100..110).contains(&calls), "{calls}");
        assert_eq!(wheel.len(), 100_000);
    }

    #[test]
    fn a_record_keeps_its_parts() {
        let r = Record::new(1023, 16383, u64::MAX);
        assert_eq!(
            (r.db_uid(), r.slot(), r.prefix()),
            (1023, 16383, (1 << 40) - 1)
        );
    }
}
