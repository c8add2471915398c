//! Emptying pages that hold little.
//!
//! After many deletions nearly every page holds a few blocks, and none can go back to the system. The pages of a class with `used` blocks
//! need not be more than `used` divided by what a page holds. So the rest of them, those with the fewest blocks, are marked to be *left*: they
//! give out no more blocks, and whoever knows where blocks are used ([`Keyspace`](crate::keyspace::Keyspace), by its walk over the tables) moves
//! theirs to the others, whose free places are just enough for them. So a pass takes no memory of its own. A page without blocks goes back to the
//! system, as always.
//!
//! ```text
//! none -> Counting (by class: pages by how full they are) -> Marking -> Moving (the keyspace's walk) -> Ending (marks of what did not empty) -> none
//! ```
//!
//! Pages are looked at a few chunks at a time, so the counts are those of several moments; a page too many or too few is marked then.

use super::{BLOCK_MAX, CHUNK, CLASSES, FINE_MAX, Heap, PAGE, PAGES, Page, descriptors};
use std::collections::HashMap;

/// Steps of fullness.
const BINS: usize = 16;
/// Chunks that are looked at in one step.
const CHUNKS: usize = 16;
/// Less than this is not worth a walk over all keys.
const WASTE_MIN: usize = 4 << 20;

/// A pass.
pub struct Thin {
    phase: Phase,
    classes: Box<[Class; CLASSES]>,
    /// By address of a chunk: which of its pages are to be left, a bit for each.
    leaving: HashMap<usize, u64, foldhash::fast::FixedState>,
    marked: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// From this chunk on.
    Counting(usize),
    Marking(usize),
    Moving,
    Ending(usize),
}

#[derive(Clone, Copy, Default)]
struct Class {
    used: usize,
    /// Pages by fullness; once all are counted, how many of each are to be left.
    bins: [u32; BINS],
}

/// What a pass wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another step.
    Step,
    /// Everything is to be moved that [`Heap::is_leaving`]; then [`Heap::all_moved`].
    Move,
    /// Nothing more.
    Done,
}

/// How many blocks of a class a page holds.
fn capacity(class: usize) -> usize {
    let bytes = match class <= FINE_MAX / 8 {
        true => class * 8,
        false => FINE_MAX + (class - FINE_MAX / 8) * 64,
    };
    PAGE / bytes
}
fn bin(page: &Page) -> usize {
    (page.used as usize * BINS / capacity(page.class as usize)).min(BINS - 1)
}

impl Class {
    /// Says how many pages of each bin are to be left. Returns how many those are.
    fn plan(&mut self, class: usize) -> usize {
        let pages: usize = self.bins.iter().map(|n| *n as usize).sum();
        let kept = self.used.div_ceil(capacity(class)) + 1;
        let mut left = pages.saturating_sub(kept);
        for bin in &mut self.bins {
            *bin = (*bin).min(left as u32);
            left -= *bin as usize;
        }
        pages.saturating_sub(kept) - left
    }
}

impl Heap {
    /// Bytes of pages that are not in use as blocks.
    pub fn waste(&self) -> usize {
        self.resident().saturating_sub(self.live)
    }
    /// Begins a pass where enough can be gained by it.
    pub fn begin_thinning(&mut self) {
        let enough = WASTE_MIN.max(self.resident() / 8);
        // What the last pass saw and could not do much about.
        let calm = self.calm_waste + WASTE_MIN + self.resident() / 16;
        if self.waste() < self.calm_waste {
            self.calm_waste = self.waste();
        }
        if self.thin.is_none()
            && self.waste() > enough
            && (self.calm_waste == 0 || self.waste() > calm)
        {
            self.thin = Some(Box::new(Thin {
                phase: Phase::Counting(0),
                classes: Box::new([Class::default(); CLASSES]),
                leaving: HashMap::default(),
                marked: 0,
            }));
        }
    }
    pub fn is_thinning(&self) -> bool {
        self.thin.is_some()
    }

    /// One step of a pass.
    pub fn thin(&mut self) -> Next {
        let Some(mut thin) = self.thin.take() else {
            return Next::Done;
        };
        let step = |from: usize, chunks: usize| from..(from + CHUNKS).min(chunks);
        let next = match thin.phase {
            Phase::Counting(from) => {
                let some = step(from, self.chunks.len());
                thin.phase = Phase::Counting(some.end);
                for at in some {
                    self.each_page(at, |_, page| {
                        let class = &mut thin.classes[page.class as usize];
                        class.used += page.used as usize;
                        class.bins[bin(page)] += 1;
                    });
                }
                match thin.phase {
                    Phase::Counting(at) if at < self.chunks.len() => Next::Step,
                    _ => self.plan(&mut thin),
                }
            }
            Phase::Marking(from) => {
                let some = step(from, self.chunks.len());
                thin.phase = Phase::Marking(some.end);
                for at in some {
                    self.mark(at, &mut thin);
                }
                if thin.phase == Phase::Marking(self.chunks.len()) {
                    thin.phase = Phase::Moving;
                }
                Next::Step
            }
            Phase::Moving => Next::Move,
            Phase::Ending(from) => {
                let some = step(from, self.chunks.len());
                thin.phase = Phase::Ending(some.end);
                for at in some {
                    self.unmark(at);
                }
                match thin.phase {
                    Phase::Ending(at) if at < self.chunks.len() => Next::Step,
                    _ => Next::Done,
                }
            }
        };
        if next != Next::Done {
            self.thin = Some(thin);
        }
        next
    }
    fn plan(&mut self, thin: &mut Thin) -> Next {
        let classes = thin.classes.iter_mut().enumerate().skip(1);
        let pages: usize = classes.map(|(at, class)| class.plan(at)).sum();
        self.calm_waste = 0;
        if pages * PAGE < WASTE_MIN.max(self.resident() / 16) {
            self.calm_waste = self.waste();
            return Next::Done;
        }
        thin.phase = Phase::Marking(0);
        Next::Step
    }

    /// Whether a block, of at most [`BLOCK_MAX`] bytes or not of this heap's pages, should be moved.
    #[inline]
    pub fn is_leaving(&self, block: *const u8) -> bool {
        let chunk = block as usize & !(CHUNK - 1);
        let Some(thin) = &self.thin else { return false };
        let pages = thin.leaving.get(&chunk);
        pages.is_some_and(|pages| pages >> ((block as usize - chunk) / PAGE) & 1 != 0)
    }
    /// Moves the bytes of a block that [`Heap::is_leaving`] to a new one, and frees it.
    ///
    /// # Safety
    /// As for [`Heap::free`]: nothing may point to the old block afterwards.
    pub unsafe fn relocate(&mut self, block: *mut u8, size: usize) -> *mut u8 {
        debug_assert!(size <= BLOCK_MAX);
        let new = self.alloc(size);
        // SAFETY: both blocks have `size` bytes, and a new block is no part of one that is in use; the rest is the caller's promise.
        unsafe {
            std::ptr::copy_nonoverlapping(block, new.as_ptr(), size);
            self.free(std::ptr::NonNull::new_unchecked(block), size);
        }
        new.as_ptr()
    }
    /// Whoever uses blocks has moved all that were to be.
    pub fn all_moved(&mut self) {
        if let Some(thin) = &mut self.thin {
            thin.leaving = HashMap::default();
            thin.phase = Phase::Ending(0);
        }
    }

    /// The pages of a chunk that hold blocks.
    fn each_page(&self, chunk: usize, mut f: impl FnMut(usize, &mut Page)) {
        let chunk = self.chunks[chunk].as_ptr() as usize;
        for index in 1..PAGES {
            // SAFETY: descriptors 1..PAGES of a live chunk, to which no other reference is alive.
            let page = unsafe { &mut *descriptors(chunk).add(index) };
            if page.used > 0 {
                f(index, page);
            }
        }
    }
    fn mark(&mut self, at: usize, thin: &mut Thin) {
        let chunk = self.chunks[at].as_ptr() as usize;
        let (mut bits, mut listed) = (0u64, Vec::new());
        self.each_page(at, |index, page| {
            let quota = &mut thin.classes[page.class as usize].bins[bin(page)];
            if *quota > 0 {
                *quota -= 1;
                thin.marked += 1;
                page.leaving = true;
                bits |= 1 << index;
                if page.listed {
                    listed.push(std::ptr::from_mut(page));
                }
            }
        });
        for page in listed {
            // SAFETY: `listed` says so.
            unsafe { self.unlist(page) };
        }
        if bits != 0 {
            thin.leaving.insert(chunk, bits);
        }
    }
    /// What could not be emptied serves again.
    fn unmark(&mut self, at: usize) {
        let mut room = Vec::new();
        self.each_page(at, |_, page| {
            if std::mem::take(&mut page.leaving)
                && (page.used as usize) < capacity(page.class as usize)
            {
                room.push(std::ptr::from_mut(page));
            }
        });
        for page in room {
            // SAFETY: a marked page is in no list.
            unsafe { self.list(page) };
        }
    }
    /// A marked page is empty.
    pub(super) fn has_left(&mut self, page: *mut Page) {
        let chunk = page as usize & !(CHUNK - 1);
        let index = (page as usize - descriptors(chunk) as usize) / size_of::<Page>();
        // The page may serve another class from now on.
        if let Some(thin) = &mut self.thin
            && let Some(pages) = thin.leaving.get_mut(&chunk)
        {
            *pages &= !(1 << index);
        }
        // SAFETY: the page is a live descriptor, in no list, and none of its blocks is in use (the caller's).
        unsafe {
            (*page).leaving = false;
            self.empty.push(page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ptr::NonNull;

    /// All of a pass, with whoever holds blocks moving them.
    fn pass(heap: &mut Heap, held: &mut [(NonNull<u8>, usize, u8)]) {
        heap.begin_thinning();
        loop {
            match heap.thin() {
                Next::Step => {}
                Next::Done => return,
                Next::Move => {
                    for (block, size, _) in held.iter_mut() {
                        if *size <= BLOCK_MAX && heap.is_leaving(block.as_ptr()) {
                            // SAFETY: the block is ours, and its one owner learns of the new place.
                            let moved = unsafe { heap.relocate(block.as_ptr(), *size) };
                            *block = NonNull::new(moved).expect("a block");
                        }
                    }
                    heap.all_moved();
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..Default::default() })]
        /// Blocks keep their bytes, and hardly more pages are left than are needed.
        #[test]
        fn what_is_thin_goes(sizes in prop::collection::vec(8usize..3000, 1..4), keep in 1usize..6, seed: u64) {
            let mut heap = Heap::default();
            let mut held = Vec::new();
            let mut random = seed | 1;
            while heap.resident() < 24 << 20 {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let size = sizes[(random >> 33) as usize % sizes.len()];
                let fill = (random >> 50) as u8;
                let block = heap.alloc(size);
                // SAFETY: the block has so many bytes.
                unsafe { std::ptr::write_bytes(block.as_ptr(), fill, size) };
                held.push((block, size, fill));
            }
            held.retain(|&(block, size, _)| {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let stays = (random >> 33) as usize % 10 < keep;
                if !stays {
                    // SAFETY: ours, and not used any more.
                    unsafe { heap.free(block, size) };
                }
                stays
            });
            let live = heap.live();
            let chunks = heap.chunks.len();
            pass(&mut heap, &mut held);
            prop_assert_eq!(heap.live(), live);
            prop_assert_eq!(heap.chunks.len(), chunks, "a pass takes no memory");
            // Blocks do not fill their pages to the end, and each class keeps a page in reserve.
            let most = live + live / 10 + 3 * PAGE * sizes.len() + WASTE_MIN;
            prop_assert!(heap.resident() < most, "{} of {live}", heap.resident());
            // It goes on as a heap does.
            for _ in 0..1000 {
                let size = sizes[0];
                let block = heap.alloc(size);
                // SAFETY: as above.
                unsafe { std::ptr::write_bytes(block.as_ptr(), 7, size) };
                held.push((block, size, 7));
            }
            for &(block, size, fill) in &held {
                // SAFETY: ours, with so many bytes.
                unsafe {
                    let bytes = std::slice::from_raw_parts(block.as_ptr(), size);
                    prop_assert!(bytes.iter().all(|&b| b == fill));
                    heap.free(block, size);
                }
            }
            prop_assert_eq!(heap.live(), 0);
        }
    }

    #[test]
    fn a_heap_that_is_full_is_left_alone() {
        let mut heap = Heap::default();
        let blocks: Vec<_> = (0..100_000).map(|_| heap.alloc(100)).collect();
        heap.begin_thinning();
        assert!(!heap.is_thinning());
        for block in blocks {
            // SAFETY: ours, and not used any more.
            unsafe { heap.free(block, 100) };
        }
    }
}
