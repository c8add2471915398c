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
//! Invariant: an entry that has an expiry and is marked as in the wheel has a record at or before its expiry.

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

/// The wheel.
pub struct Wheel {
    buckets: Vec<Vec<Record>>,
    /// Everything up to this tick has been moved to `due`.
    tick: i64,
    due: Vec<Record>,
    len: usize,
    /// Where the sweep for stale records goes on: bucket and place.
    sweep: (usize, usize),
}

impl Wheel {
    pub fn new(now_ms: i64) -> Self {
        Self {
            buckets: vec![Vec::new(); BUCKETS * LEVELS],
            tick: now_ms >> TICK_BITS,
            due: Vec::new(),
            len: 0,
            sweep: (0, 0),
        }
    }

    /// Records in the wheel, stale ones counted.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn insert(&mut self, expire_at: i64, record: Record) {
        self.len += 1;
        // One tick later, so that the time is past for certain when the record is looked at.
        let tick = (expire_at >> TICK_BITS).saturating_add(1);
        let ahead = tick.saturating_sub(self.tick);
        if ahead <= 0 {
            self.due.push(record);
            return;
        }
        let ahead = ahead.min((1 << (8 * LEVELS)) - 1);
        let level = (63 - (ahead as u64).leading_zeros()) as usize / 8;
        let place = ((self.tick + ahead) >> (8 * level)) as usize % BUCKETS;
        self.buckets[level * BUCKETS + place].push(record);
    }

    /// Makes due what time has reached.
    pub fn advance(&mut self, now_ms: i64) {
        let to = now_ms >> TICK_BITS;
        if self.len == self.due.len() {
            self.tick = self.tick.max(to);
            return;
        }
        while self.tick < to {
            self.tick += 1;
            for level in 0..LEVELS {
                let place = (self.tick >> (8 * level)) as usize % BUCKETS;
                self.due.append(&mut self.buckets[level * BUCKETS + place]);
                if place != 0 {
                    break;
                }
            }
        }
    }

    pub fn next_due(&mut self) -> Option<Record> {
        let record = self.due.pop()?;
        self.len -= 1;
        Some(record)
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

    /// Drops records that `alive` denies, looking at `budget` of them, going round the wheel call by call. For when keys
    /// come and go with their TTLs far faster than these run out.
    pub fn sweep(&mut self, budget: usize, mut alive: impl FnMut(Record) -> bool) {
        let (mut bucket, mut place) = self.sweep;
        for _ in 0..budget {
            match self.buckets[bucket].get(place) {
                Some(&record) if alive(record) => place += 1,
                Some(_) => {
                    self.buckets[bucket].swap_remove(place);
                    self.len -= 1;
                }
                None => {
                    if self.buckets[bucket].capacity() > 4 * self.buckets[bucket].len() {
                        self.buckets[bucket].shrink_to_fit();
                    }
                    (bucket, place) = ((bucket + 1) % self.buckets.len(), 0);
                }
            }
        }
        self.sweep = (bucket, place);
    }
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
    fn a_record_keeps_its_parts() {
        let r = Record::new(1023, 16383, u64::MAX);
        assert_eq!(
            (r.db_uid(), r.slot(), r.prefix()),
            (1023, 16383, (1 << 40) - 1)
        );
    }
}
