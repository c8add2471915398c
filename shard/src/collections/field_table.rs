//! A large hash: a packed table of fields, and beside it the order in which they expire.
//!
//! The order is a set of (time, hash of the field): 16 bytes each, no copy of the field's name. Its first says when there is
//! something to do; the table finds the field again by the two.
//!
//! Invariant: `times` holds exactly the (time, hash) of the fields that have a time. Fields equal in both, which a good hash hardly
//! makes, share one.

use super::packed_table::{Fields, HashBytes, Item, PackedTable, Put};
use crate::keyspace::KeyHasher;
use crate::object::Body;
use std::collections::BTreeSet;

type Field<'a> = Item<'a, &'a [u8]>;

/// See the module's head.
pub struct FieldTable<H: HashBytes = KeyHasher> {
    fields: PackedTable<Fields, H>,
    times: BTreeSet<(i64, u64)>,
}

impl<H: HashBytes> std::fmt::Debug for FieldTable<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FieldTable({} fields)", self.len())
    }
}

/// About how many times lie in a block of their set.
const TIMES_PER_BLOCK: usize = 8;
/// About what one takes, as measured: nodes are two thirds full.
const TIME_BYTES: usize = 28;

impl<H: HashBytes> FieldTable<H> {
    pub fn new(hasher: H) -> Self {
        Self {
            fields: PackedTable::new(hasher),
            times: BTreeSet::new(),
        }
    }
    /// Fields, those that have expired counted.
    pub fn len(&self) -> usize {
        self.fields.len()
    }
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
    /// When the first field expires.
    #[inline]
    pub fn earliest(&self) -> Option<i64> {
        self.times.first().map(|first| first.0)
    }

    /// About how many fields have expired: those that share a time and a hash count once.
    pub fn expired_len(&self, now_ms: i64) -> usize {
        self.times.range(..=(now_ms, u64::MAX)).count()
    }

    /// Whether or not it has expired.
    #[inline]
    pub fn find(&self, field: &[u8]) -> Option<Field<'_>> {
        self.fields.find(field)
    }
    /// See [`PackedTable::prefetch_key`].
    #[inline]
    pub fn prefetch_key(&self, field: &[u8]) -> u64 {
        self.fields.prefetch_key(field)
    }
    /// See [`PackedTable::prefetch_piece`].
    #[inline]
    pub fn prefetch_piece(&self, hash: u64) {
        self.fields.prefetch_piece(hash);
    }
    pub fn each<'a>(&'a self, f: impl FnMut(Field<'a>)) {
        self.fields.each(f);
    }
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.fields.iter()
    }
    /// See [`PackedTable::scan`].
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, f: impl FnMut(Field<'a>)) -> u64 {
        self.fields.scan(cursor, count, f)
    }
    pub fn random(&self, random: impl FnMut() -> u64) -> Option<Field<'_>> {
        self.fields.random(random)
    }

    /// Adds a field or replaces the one of this name. True if it is new.
    pub fn put(&mut self, field: &[u8], value: &[u8], expire_at: Option<i64>) -> bool {
        let hash = self.fields.hash(field);
        let put = self.fields.put_hashed(hash, field, value, expire_at);
        let before = match put {
            Put::New => None,
            Put::Replaced(before) => before,
        };
        self.note(hash, before, expire_at);
        put == Put::New
    }
    /// As [`FieldTable::put`]; a field that is there keeps its time.
    pub fn put_keeping_time(&mut self, field: &[u8], value: &[u8]) -> bool {
        let hash = self.fields.hash(field);
        let found = self.fields.find_hashed(hash, field);
        let expire_at = found.and_then(|found| found.expire_at);
        self.fields.put_hashed(hash, field, value, expire_at) == Put::New
    }
    /// Gives a field another time. False if there is no such field.
    pub fn set_expiry(&mut self, field: &[u8], expire_at: Option<i64>) -> bool {
        let hash = self.fields.hash(field);
        let before = self.fields.set_expiry_hashed(hash, field, expire_at);
        if let Some(before) = before {
            self.note(hash, before, expire_at);
        }
        before.is_some()
    }
    pub fn remove(&mut self, field: &[u8]) -> bool {
        let hash = self.fields.hash(field);
        if self.times.is_empty() {
            return self.fields.remove_hashed(hash, field);
        }
        let Some(found) = self.fields.find_hashed(hash, field) else {
            return false;
        };
        let before = found.expire_at;
        self.fields.remove_hashed(hash, field);
        self.note(hash, before, None);
        true
    }

    /// A field of this hash had one time and now has another.
    #[inline]
    fn note(&mut self, hash: u64, before: Option<i64>, after: Option<i64>) {
        if before == after {
            return;
        }
        if let Some(time) = before
            && self.fields.find_by_time(hash, time).is_none()
        {
            self.times.remove(&(time, hash));
        }
        if let Some(time) = after {
            self.times.insert((time, hash));
        }
    }

    /// Removes up to `most` fields that have expired, the first first; `gone` hears of each. Returns how many.
    pub fn expire(&mut self, now_ms: i64, most: usize, mut gone: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        while count < most {
            let due = self.times.first().filter(|first| first.0 <= now_ms);
            let Some(&(time, hash)) = due else { break };
            let found = self.fields.find_by_time(hash, time);
            let field = found.expect("a time is that of a field").key.to_vec();
            gone(&field);
            self.remove(&field);
            count += 1;
        }
        count
    }

    /// Checks what the module's head promises, by a recount.
    pub fn check_invariants(&self) {
        self.fields.check_invariants();
        let mut times = BTreeSet::new();
        self.fields.each(|field| {
            if let Some(time) = field.expire_at {
                times.insert((time, self.fields.hash(field.key)));
            }
        });
        assert_eq!(self.times, times);
    }
}

impl<H: HashBytes> Body for FieldTable<H> {
    fn memory(&self) -> usize {
        self.fields.memory() + TIME_BYTES * self.times.len()
    }
    fn free_effort(&self) -> usize {
        self.fields.free_effort() + self.times.len() / TIMES_PER_BLOCK
    }
    fn free_some(&mut self, budget: usize) -> usize {
        let mut freed = 0;
        while freed < budget && !self.times.is_empty() {
            for _ in 0..TIMES_PER_BLOCK {
                self.times.pop_first();
            }
            freed += 1;
        }
        if freed < budget {
            freed += self.fields.free_some(budget - freed);
        }
        freed
    }
    fn duplicate(&self) -> Self {
        Self {
            fields: self.fields.duplicate(),
            times: self.times.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Hashes that collide now and then, or all the time.
    #[derive(Clone, Debug)]
    struct Few(u64);
    impl HashBytes for Few {
        fn hash_bytes(&self, key: &[u8]) -> u64 {
            (KeyHasher::new(7).hash(key) % self.0).wrapping_mul(0x0123_4567_89ab_cdef)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..Default::default() })]
        #[test]
        fn it_behaves_like_a_map(hashes in prop_oneof![Just(1u64), Just(7), Just(1 << 40)],
            steps in prop::collection::vec((0u16..300, 0u8..8, 0i64..40), 1..1500)) {
            let mut table = FieldTable::new(Few(hashes));
            let mut model: BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)> = BTreeMap::new();
            for (n, action, time) in steps {
                let mut field = format!("field{n}").into_bytes();
                // Names and values of every way to lie in the table.
                field.resize(field.len() + [0, 60, 150, 240, 300][n as usize % 5], b'x');
                let value = vec![n as u8; [3, 80, 97, 400][time as usize % 4]];
                let expire_at = (time > 8).then_some(time);
                match action {
                    0..=2 => {
                        let new = table.put(&field, &value, expire_at);
                        prop_assert_eq!(new, model.insert(field, (value, expire_at)).is_none());
                    }
                    3 => {
                        let new = table.put_keeping_time(&field, &value);
                        let kept = model.get(&field).and_then(|v| v.1);
                        prop_assert_eq!(new, model.insert(field, (value, kept)).is_none());
                    }
                    4 | 5 => {
                        let found = table.set_expiry(&field, expire_at);
                        prop_assert_eq!(found, model.contains_key(&field));
                        model.entry(field).and_modify(|v| v.1 = expire_at);
                    }
                    6 => prop_assert_eq!(table.remove(&field), model.remove(&field).is_some()),
                    _ => {
                        let mut gone = Vec::new();
                        table.expire(time, 5, |field| gone.push(field.to_vec()));
                        let due = model.values().filter(|v| v.1.is_some_and(|at| at <= time)).count();
                        prop_assert_eq!(gone.len(), due.min(5));
                        for field in gone {
                            prop_assert!(model.remove(&field).unwrap().1.is_some_and(|at| at <= time));
                        }
                    }
                }
                prop_assert_eq!(table.earliest(), model.values().filter_map(|v| v.1).min());
            }
            let copy = table.duplicate();
            for table in [&table, &copy] {
                table.check_invariants();
                let found: BTreeMap<_, _> = table.iter()
                    .map(|f| (f.key.to_vec(), (f.value.to_vec(), f.expire_at)))
                    .collect();
                prop_assert_eq!(&found, &model);
            }
            while table.free_some(3) >= 3 {}
            prop_assert_eq!((table.memory(), copy.len()), (0, model.len()));
        }
    }
}
