//! The roots of a database's tables: a node for each slot, those of other cores' slots too, since their keys may be borrowed.
//!
//! A core owns some of the slots and seldom sees others, so the nodes lie in a mapping of their own, which takes memory where it is written to.
//! What counts as used are the pages that the core's own slots need, from the beginning, and those of others from their first key on.
//! So cores together take for an empty database what one core takes.
//!
//! Invariant: every page with a node that is not empty is in `used`, whose pages the thread's counter has.

use super::SLOTS;
use super::table::Node;
use crate::memory::{count_mapped, untouched::reserve};
use crate::slot_set::SlotSet;
use std::alloc::Layout;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

const PAGE: usize = 4096;
const PER_PAGE: usize = PAGE / size_of::<Node>();
const BYTES: usize = SLOTS * size_of::<Node>();

/// A bit for each page of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages(u64);

const _: () =
    assert!(PER_PAGE * size_of::<Node>() == PAGE && SLOTS / PER_PAGE == u64::BITS as usize);

impl Pages {
    /// Those that have a node of one of these slots.
    pub fn of(slots: &SlotSet) -> Self {
        let mut pages = Self::default();
        for slot in (0..SLOTS).filter(|slot| slots.contains(*slot as u16)) {
            pages.insert(slot);
        }
        pages
    }
    fn insert(&mut self, slot: usize) {
        self.0 |= 1 << (slot / PER_PAGE);
    }
    fn bytes(self) -> isize {
        self.0.count_ones() as isize * PAGE as isize
    }
}

pub struct Roots {
    nodes: NonNull<[Node; SLOTS]>,
    used: Pages,
}

impl Roots {
    pub fn new(own: Pages) -> Self {
        let address = reserve(BYTES, PAGE).and_then(|at| NonNull::new(at as *mut _));
        let Some(nodes) = address else {
            std::alloc::handle_alloc_error(Layout::new::<[Node; SLOTS]>())
        };
        count_mapped(own.bytes());
        Self { nodes, used: own }
    }
    /// A first key comes near this slot.
    #[cold]
    pub fn use_slot(&mut self, slot: usize) {
        let before = self.used.bytes();
        self.used.insert(slot);
        count_mapped(self.used.bytes() - before);
    }
    /// What is used in any case.
    pub fn set_own(&mut self, own: Pages) {
        let before = self.used.bytes();
        self.used.0 |= own.0;
        count_mapped(self.used.bytes() - before);
    }
}

// SAFETY: the mapping is this value's alone, and its nodes are plain words; who holds a keyspace's tables says what their addresses mean.
unsafe impl Send for Roots {}

impl Deref for Roots {
    type Target = [Node; SLOTS];

    #[inline]
    fn deref(&self) -> &Self::Target {
        // SAFETY: a mapping of this size and alignment, which lives as long as this; its zero bytes are empty nodes.
        unsafe { self.nodes.as_ref() }
    }
}

impl DerefMut for Roots {
    #[inline]
    fn deref_mut(&mut self) -> &mut Self::Target {
        // SAFETY: as above, and nobody else has it.
        unsafe { self.nodes.as_mut() }
    }
}

impl Drop for Roots {
    fn drop(&mut self) {
        count_mapped(-self.used.bytes());
        // SAFETY: mapped by `new` with this size, and nothing refers to it any more.
        unsafe { libc::munmap(self.nodes.as_ptr().cast(), BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::{KeyHasher, Keyspace, string_parts};
    use crate::memory::thread_used;

    #[test]
    fn a_database_counts_what_its_slots_need() {
        let mut keyspace = Keyspace::new(4, KeyHasher::new(1));
        let before = thread_used();
        keyspace.set_own_slots(&SlotSet::from_slots(0..4096));
        assert_eq!(
            thread_used() - before,
            BYTES as isize / 4,
            "the first one is there"
        );
        let insert = |keyspace: &mut Keyspace, db, bytes: &[u8]| {
            let key = keyspace.key(bytes);
            let before = thread_used();
            keyspace.insert(db, key, string_parts(b"v".to_vec(), 0, None));
            (key.slot as usize, thread_used() - before)
        };
        let pages = |n: usize| (n * PAGE) as isize;
        // "bar" has slot 5061, "hello" 866.
        assert_eq!(insert(&mut keyspace, 0, b"hello"), (866, 0));
        assert_eq!(insert(&mut keyspace, 0, b"bar"), (5061, pages(1)));
        assert_eq!(insert(&mut keyspace, 0, b"x{bar}"), (5061, 0));
        assert_eq!(insert(&mut keyspace, 2, b"bar"), (5061, pages(17)));
        keyspace.flush(2);
        keyspace.flush(0);
        assert_eq!(
            thread_used() - before,
            pages(2 * 16 + 2 * 17),
            "until they are freed"
        );
        while !keyspace.free_some(100) {}
        let bytes = thread_used() - before;
        assert!((pages(32)..pages(33)).contains(&bytes), "{bytes}");
        drop(keyspace);
        assert!(thread_used() <= before);
    }
}
