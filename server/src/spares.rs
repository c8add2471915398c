//! Buffers and parcels that a core keeps for its next requests, rather than allocate them anew.
//!
//! What is kept counts as memory in use, and no client gains by it. So it is bounded in bytes, not by number: 256 buffers that had each
//! held a pipeline once are 16 MB, for which a server at `maxmemory` would let all its keys go and then refuse writes. All cores together
//! keep no more than a small part of the limit. And what was not needed for a while is let go: connections bring buffers that were made
//! elsewhere, so that the kept ones would become more and more, up to the limit, though a few are used.
//!
//! Invariant: `bytes` is the sum of what the kept ones take, and at most `max`. `low` is at most their number. Nobody changes one while
//! it is kept.

use crate::mailbox::{Item, Parcel};

/// What can be used again.
pub trait Reuse {
    /// Bytes that it holds.
    fn memory(&self) -> usize;
    /// Forgets what was in it.
    fn empty(&mut self);
}

impl Reuse for Vec<u8> {
    fn memory(&self) -> usize {
        self.capacity()
    }
    fn empty(&mut self) {
        self.clear();
    }
}

impl Reuse for Box<Parcel> {
    fn memory(&self) -> usize {
        let items = self.items.capacity() * size_of::<Item>();
        size_of::<Parcel>() + items + self.words.capacity() + self.replies.capacity()
    }
    fn empty(&mut self) {
        self.clear();
    }
}

/// The most that a core keeps of a kind.
const MAX: usize = 1 << 20;
/// Which part of `maxmemory` all cores together may keep.
const PART: u64 = 32;

/// How many bytes a core may keep of each of the two kinds.
pub fn limit(maxmemory: u64, cores: usize) -> usize {
    match maxmemory {
        0 => MAX,
        limit => MAX.min((limit / PART / 2 / cores.max(1) as u64) as usize),
    }
}

#[derive(Debug)]
pub struct Spares<T> {
    kept: Vec<T>,
    bytes: usize,
    max: usize,
    /// The fewest that were there since [`Spares::decay`].
    low: usize,
}

impl<T: Reuse> Spares<T> {
    pub fn new(max: usize) -> Self {
        Self {
            kept: Vec::new(),
            bytes: 0,
            max,
            low: 0,
        }
    }
    /// Keeps no more than this from now on.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
        while self.bytes > max && self.pop().is_some() {}
        self.kept.shrink_to(self.kept.len());
    }
    /// Keeps it where there is room, else frees it.
    #[inline]
    pub fn push(&mut self, mut one: T) {
        one.empty();
        let memory = one.memory();
        if memory > 0 && self.bytes + memory <= self.max {
            self.bytes += memory;
            self.kept.push(one);
        }
    }
    /// The one that was used last: it is likely in the CPU's cache.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let one = self.kept.pop()?;
        self.bytes -= one.memory();
        self.low = self.low.min(self.kept.len());
        Some(one)
    }
    /// Called now and then: lets half of those go that nobody needed since the last time, the ones used longest ago.
    pub fn decay(&mut self) {
        for one in self.kept.drain(..self.low.div_ceil(2)) {
            self.bytes -= one.memory();
        }
        self.low = self.kept.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_in_bytes() {
        let mut spares = Spares::new(10_000);
        for _ in 0..20 {
            spares.push(Vec::with_capacity(1500));
        }
        assert_eq!((spares.kept.len(), spares.bytes), (6, 9000));
        // What is too large or holds nothing is not kept; what fits still is.
        spares.push(Vec::with_capacity(1001));
        spares.push(Vec::new());
        spares.push(Vec::with_capacity(1000));
        assert_eq!((spares.kept.len(), spares.bytes), (7, 10_000));
        assert_eq!(spares.pop().map(|b| b.capacity()), Some(1000));
        spares.set_max(4000);
        assert_eq!((spares.kept.len(), spares.bytes), (2, 3000));
        while spares.pop().is_some() {}
        assert_eq!(spares.bytes, 0);
    }

    #[test]
    fn what_nobody_needs_is_let_go() {
        let mut spares = Spares::new(1 << 20);
        for size in 1..=64 {
            spares.push(Vec::with_capacity(size));
        }
        // Nothing is known of them yet.
        spares.decay();
        assert_eq!(spares.kept.len(), 64);
        for _ in 0..20 {
            // Four are in use at a time.
            let used: Vec<Vec<u8>> = (0..4).filter_map(|_| spares.pop()).collect();
            assert!(
                used.iter().all(|one| one.capacity() > 60),
                "the last ones stay"
            );
            used.into_iter().for_each(|one| spares.push(one));
            spares.decay();
            let sizes = spares.kept.iter().map(Vec::capacity);
            assert_eq!(spares.bytes, sizes.sum::<usize>());
        }
        assert_eq!(spares.kept.len(), 4);
        while spares.pop().is_some() {}
        spares.decay();
        assert_eq!((spares.bytes, spares.low), (0, 0));
    }

    #[test]
    fn parcels_are_kept_empty_and_counted() {
        let mut spares = Spares::new(200_000);
        let parcel = || {
            let mut parcel = Box::new(Parcel::default());
            parcel.words = vec![1; 40_000];
            // Not its first large use.
            parcel.clear();
            parcel.words = vec![1; 40_000];
            parcel.replies = vec![1; 100_000];
            parcel
        };
        spares.push(parcel());
        spares.push(parcel());
        // One huge answer is not kept for ever.
        assert_eq!(spares.kept.len(), 1);
        let kept = spares.pop().expect("one");
        assert!(kept.words.is_empty() && kept.replies.capacity() <= 64 << 10);
        assert_eq!(spares.bytes, 0);
    }

    #[test]
    fn all_cores_together_keep_a_small_part_of_the_limit() {
        assert_eq!(limit(0, 4), MAX);
        assert_eq!(limit(1 << 40, 4), MAX);
        for (maxmemory, cores) in [(100 << 20, 64), (8 << 20, 4), (1, 1)] {
            let all = 2 * cores as u64 * limit(maxmemory, cores) as u64;
            assert!(all <= maxmemory / PART);
        }
    }
}
