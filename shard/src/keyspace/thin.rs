//! The walk that empties pages which hold little: see [`super::heap::thin`].
//!
//! It goes over the tables leaf by leaf, in the order of databases, slots and hashes, and moves entries, leaves and inner nodes. What changes
//! meanwhile does no harm: new blocks are never put into a page that is to be left, so one walk comes by all that are there.
//! It rests while a cut runs, which remembers where entries lie. What was flushed and is not freed yet is not moved; its pages empty as
//! it is freed.

use super::Keyspace;
use super::heap::thin::Next;

/// A place in the walk: a database's index, a slot, and the hash from which on.
#[derive(Clone, Copy, Default)]
pub(super) struct Walk {
    db: usize,
    slot: u16,
    from: u64,
}

/// What a look at a chunk's pages costs, in words of tables.
const STEP: usize = 1000;
/// Pages given back at a time: each may break up a huge page, which takes tens of microseconds.
const GIVEN_BACK: usize = 4;

impl Keyspace {
    /// To be called ten times a second: begins to give memory back where much of it lies idle between entries.
    pub fn look_for_waste(&mut self) {
        self.heap.begin_thinning();
        self.heap.look_for_surplus();
    }
    /// There is something for [`Keyspace::give_back_some`].
    pub fn has_surplus(&self) -> bool {
        self.heap.surplus() > 0
    }
    /// Gives some memory back to the system that lies idle.
    pub fn give_back_some(&mut self) {
        self.heap.give_back(GIVEN_BACK);
    }
    /// There is work for [`Keyspace::thin_some`].
    pub fn is_thinning(&self) -> bool {
        self.heap.is_thinning() && self.cut.is_none()
    }
    /// Does some of it: looks at about so many words of tables. False when there is no more.
    pub fn thin_some(&mut self, effort: usize) -> bool {
        let mut left = effort;
        while self.is_thinning() {
            let spent = match self.heap.thin() {
                Next::Step => STEP,
                Next::Done => return false,
                Next::Move => self.move_some(),
            };
            if left <= spent {
                return self.is_thinning();
            }
            left -= spent;
        }
        false
    }
    /// One leaf.
    fn move_some(&mut self) -> usize {
        let Walk { db, slot, from } = self.thinned;
        if db >= self.dbs.len() {
            self.thinned = Walk::default();
            self.heap.all_moved();
            return 1;
        }
        let Some(there) = self.next_slot(db, slot) else {
            self.thinned = Walk {
                db: db + 1,
                ..Walk::default()
            };
            return SLOTS_LOOKED_AT;
        };
        let from = if there == slot { from } else { 0 };
        let Self { dbs, heap, .. } = self;
        let tables = dbs[db].tables.as_mut().expect("a slot with keys");
        let (next, words) = tables[there as usize].relocate(heap, from);
        self.thinned = match next {
            Some(from) => Walk {
                db,
                slot: there,
                from,
            },
            None => Walk {
                db,
                slot: there + 1,
                from: 0,
            },
        };
        8 + words
    }
}

/// What a look for the next slot with keys costs that finds none, about.
const SLOTS_LOOKED_AT: usize = 128;

#[cfg(test)]
mod tests {
    use super::super::entry::Header;
    use super::super::{KeyHasher, Keyspace};
    use crate::object::{Encoding, Type};

    /// Random keys go, others come and change while the rest is moved: nothing is lost, and the memory goes.
    #[test]
    fn memory_goes_with_random_keys() {
        // Many slots; and one slot with an inner node, and long keys beside.
        for tag in ["", "{t}"] {
            let mut ks = Keyspace::new(2, KeyHasher::new(7));
            let header = Header {
                kind: Type::String,
                encoding: Encoding::Raw,
                access: 0,
                expire_at: None,
            };
            let name = |n: usize| match n % 1000 {
                0 => format!("{tag}{n}{}", "x".repeat(3000)).into_bytes(),
                _ => format!("{tag}{n}").into_bytes(),
            };
            let value = |n: usize| vec![n as u8; 100 + n % 150];
            let count = 200_000;
            let add = |ks: &mut Keyspace, db, n| {
                let name = name(n);
                let key = ks.key(&name);
                ks.insert_bytes(db, key, &header, &[&value(n)]);
            };
            let stays = |n: usize| (n * 7919 / 13).wrapping_mul(2654435761) >> 7 & 15 < 5;
            for n in 0..count {
                add(&mut ks, n % 2, n);
            }
            for n in (0..count).filter(|n| !stays(*n)) {
                let name = name(n);
                let key = ks.key(&name);
                ks.get_mut(n % 2, key).expect("it is there").remove();
            }
            let before = ks.heap_resident();
            assert!(before > 2 * ks.heap_used(), "{before}");
            ks.look_for_waste();
            let mut steps = 0;
            while ks.thin_some(2000) {
                let n = count + steps;
                add(&mut ks, steps % 2, n);
                steps += 1;
                if steps.is_multiple_of(200) {
                    ks.check_invariants();
                }
            }
            assert!(steps > 10, "{steps}");
            ks.check_invariants();
            let (used, now) = (ks.heap_used(), ks.heap_resident());
            // A page of each of some forty classes is kept, and what a page's end holds.
            assert!(now < used + used / 8 + (4 << 20), "{now} of {used}");
            for n in (0..count).filter(|n| stays(*n)).chain(count..count + steps) {
                let name = name(n);
                let db = match n < count {
                    true => n % 2,
                    false => (n - count) % 2,
                };
                let entry = ks.get(db, ks.key(&name)).expect("it stayed");
                assert_eq!(entry.bytes(), value(n));
            }
            // There is no more to gain, and it ends.
            ks.look_for_waste();
            while ks.thin_some(2000) {}
            ks.check_invariants();
            assert!(ks.heap_resident() <= now);
        }
    }
}
