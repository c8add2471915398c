//! Memory for entries and their tables: one heap per core, used by that core alone.
//!
//! Why not the general allocator: its size classes above 128 bytes are 12.5% and more apart, so a 275-byte entry would
//! take 320 bytes. Here classes are 8 bytes apart up to 1 KB and 64 bytes apart up to 4 KB, a block has no header, and an
//! empty page goes back to the system. Larger blocks go to the general allocator.
//!
//! Layout: 4 MB chunks, aligned to their size, cut into 64 KB pages; a page holds blocks of one class. The first page of a
//! chunk holds the descriptors of all its pages, at an offset that differs from chunk to chunk, so that descriptors
//! do not crowd into the same few cache sets.
//!
//! Pages that hold little can be emptied: see [`thin`].
//!
//! When half of its newest huge page is in use, a heap names the next one, for somebody else to touch: [`Untouched`].
//!
//! Invariants: a page is in its class's list of pages with room exactly if it has room and is not to be emptied; `live` is the sum of the
//! class sizes of all blocks handed out.

mod empty;
mod slab;
pub mod thin;

use crate::memory::untouched::{HUGE_PAGE, Untouched};
use std::alloc::Layout;
use std::ptr::{self, NonNull};

const PAGE: usize = 64 << 10;
const CHUNK: usize = 4 << 20;
const PAGES: usize = CHUNK / PAGE;
/// The pages in the middle of a chunk's huge pages.
const MIDDLES: [usize; 2] = [PAGES / 4, PAGES / 4 * 3];
/// The largest block cut from pages.
pub const BLOCK_MAX: usize = 4096;
const FINE_MAX: usize = 1024;
const CLASSES: usize = FINE_MAX / 8 + 1 + (BLOCK_MAX - FINE_MAX) / 64;

/// A page's descriptor.
#[repr(C, align(64))]
struct Page {
    /// Blocks given back, linked through their first word.
    free: *mut u8,
    prev: *mut Page,
    next: *mut Page,
    /// Bytes of the page never handed out begin here.
    fresh: u32,
    used: u32,
    class: u32,
    listed: bool,
    /// To be emptied: it is in no list.
    leaving: bool,
}

const _: () = assert!(size_of::<Page>() == 64);

/// One core's entry heap.
pub struct Heap {
    /// By class: pages with room.
    room: [*mut Page; CLASSES],
    empty: empty::EmptyPages,
    chunks: Vec<NonNull<u8>>,
    slabs: slab::Slabs,
    /// As soon as this page is used, the huge page after the newest will be needed.
    middle: *mut Page,
    untouched: Option<Untouched>,
    page_count: usize,
    live: usize,
    /// Bytes of blocks above [`BLOCK_MAX`]; they are in the general allocator's count too.
    large: usize,
    /// What every new entry has as its epoch: see [`super::cut`].
    pub epoch: u8,
    thin: Option<Box<thin::Thin>>,
    /// The waste that the last pass could not do much about, or 0.
    calm_waste: usize,
}

#[inline]
fn class_of(size: usize) -> usize {
    if size <= FINE_MAX {
        size.div_ceil(8)
    } else {
        FINE_MAX / 8 + (size - FINE_MAX).div_ceil(64)
    }
}

/// The bytes that a block of `size` takes.
#[inline]
pub fn block_size(size: usize) -> usize {
    if size <= FINE_MAX {
        size.next_multiple_of(8)
    } else if size <= BLOCK_MAX {
        size.next_multiple_of(64)
    } else {
        size.next_multiple_of(1024)
    }
}

/// Where a chunk's descriptors are: one of 16 places 4 KB apart.
#[inline]
fn descriptors(chunk: usize) -> *mut Page {
    (chunk + ((chunk / CHUNK) & 15) * 4096) as *mut Page
}

#[inline]
fn page_of(block: *mut u8) -> *mut Page {
    let address = block as usize;
    let chunk = address & !(CHUNK - 1);
    // SAFETY: computes an address inside the chunk's first page; not dereferenced here.
    unsafe { descriptors(chunk).add((address - chunk) / PAGE) }
}

/// The memory that a descriptor describes.
#[inline]
fn memory_of(page: *mut Page) -> *mut u8 {
    let chunk = page as usize & !(CHUNK - 1);
    let index = (page as usize - descriptors(chunk) as usize) / size_of::<Page>();
    (chunk + index * PAGE) as *mut u8
}

fn large_layout(size: usize) -> Layout {
    Layout::from_size_align(block_size(size), 64).expect("entry sizes are far below isize::MAX")
}

impl Default for Heap {
    fn default() -> Self {
        Self {
            room: [ptr::null_mut(); CLASSES],
            empty: Default::default(),
            chunks: Vec::new(),
            slabs: Default::default(),
            middle: ptr::null_mut(),
            untouched: None,
            page_count: 0,
            live: 0,
            large: 0,
            epoch: 0,
            thin: None,
            calm_waste: 0,
        }
    }
}

impl Heap {
    /// Bytes handed out in blocks cut from pages.
    pub fn live(&self) -> usize {
        self.live
    }
    /// Bytes of pages that hold blocks.
    pub fn resident(&self) -> usize {
        (self.page_count - self.empty.len()) * PAGE
    }

    /// To be called ten times a second. There is a surplus to [`Self::give_back`] now, or none.
    pub fn look_for_surplus(&mut self) {
        self.empty.look();
    }
    /// Pages that were not needed for a second.
    pub fn surplus(&self) -> usize {
        self.empty.surplus()
    }
    /// Gives up to so many of them back to the system.
    pub fn give_back(&mut self, pages: usize) {
        self.empty.give_back(pages);
    }

    /// What it will need soon. It does without if nobody touches it.
    pub fn take_untouched(&mut self) -> Option<Untouched> {
        self.untouched.take()
    }

    /// A block of at least `size` bytes, aligned to 8, and to 64 if `size` is a multiple of 64.
    #[inline]
    pub fn alloc(&mut self, size: usize) -> NonNull<u8> {
        if size > BLOCK_MAX {
            return self.alloc_large(size);
        }
        let class = class_of(size);
        let bytes = block_size(size);
        let page = self.room[class];
        let page = if page.is_null() {
            self.page_for(class)
        } else {
            page
        };
        self.live += bytes;
        // SAFETY: pages in `room` are descriptors of live chunks, of this class, with a free or a fresh block.
        unsafe {
            let p = &mut *page;
            p.used += 1;
            let block = if p.free.is_null() {
                let block = memory_of(page).add(p.fresh as usize);
                p.fresh += bytes as u32;
                block
            } else {
                let block = p.free;
                p.free = block.cast::<*mut u8>().read();
                block
            };
            if p.free.is_null() && p.fresh as usize + bytes > PAGE {
                self.unlist(page);
            }
            NonNull::new_unchecked(block)
        }
    }

    /// # Safety
    /// `block` came from `alloc` of this heap with a size of the same [`block_size`], and is not used any more.
    #[inline]
    pub unsafe fn free(&mut self, block: NonNull<u8>, size: usize) {
        if size > BLOCK_MAX {
            self.large -= block_size(size);
            // SAFETY: allocated by `alloc_large` with the same layout (the caller's promise).
            unsafe { std::alloc::dealloc(block.as_ptr(), large_layout(size)) };
            return;
        }
        self.live -= block_size(size);
        let page = page_of(block.as_ptr());
        // SAFETY: the block lies in a page of this heap (the caller's promise), so its descriptor is live; a block is
        // at least 8 bytes and aligned to 8, so it can hold the link.
        unsafe {
            let p = &mut *page;
            debug_assert_eq!(p.class as usize, class_of(size));
            block.as_ptr().cast::<*mut u8>().write(p.free);
            p.free = block.as_ptr();
            p.used -= 1;
            if !p.listed {
                if p.leaving {
                    if p.used == 0 {
                        self.has_left(page);
                    }
                    return;
                }
                self.list(page);
            }
            // The last page with room of a class stays, so that one block's coming and going costs no page.
            if p.used == 0 && (!p.next.is_null() || !p.prev.is_null()) {
                self.unlist(page);
                self.empty.push(page);
            }
        }
    }

    #[cold]
    fn alloc_large(&mut self, size: usize) -> NonNull<u8> {
        self.large += block_size(size);
        let layout = large_layout(size);
        // SAFETY: the layout's size is not zero.
        let block = unsafe { std::alloc::alloc(layout) };
        NonNull::new(block).unwrap_or_else(|| std::alloc::handle_alloc_error(layout))
    }

    /// Puts a page in front of its class's list.
    ///
    /// # Safety
    /// `page` is a live descriptor that is in no list.
    unsafe fn list(&mut self, page: *mut Page) {
        // SAFETY: the caller's promise; list neighbours are live descriptors.
        unsafe {
            let class = (*page).class as usize;
            let head = self.room[class];
            (*page).prev = ptr::null_mut();
            (*page).next = head;
            (*page).listed = true;
            if !head.is_null() {
                (*head).prev = page;
            }
            self.room[class] = page;
        }
    }

    /// # Safety
    /// `page` is in its class's list.
    unsafe fn unlist(&mut self, page: *mut Page) {
        // SAFETY: the caller's promise; list neighbours are live descriptors.
        unsafe {
            let (prev, next) = ((*page).prev, (*page).next);
            if prev.is_null() {
                self.room[(*page).class as usize] = next;
            } else {
                (*prev).next = next;
            }
            if !next.is_null() {
                (*next).prev = prev;
            }
            (*page).prev = ptr::null_mut();
            (*page).next = ptr::null_mut();
            (*page).listed = false;
        }
    }

    #[cold]
    fn page_for(&mut self, class: usize) -> *mut Page {
        let page = loop {
            if let Some(page) = self.empty.pop() {
                break page;
            }
            self.add_chunk();
        };
        if page == self.middle {
            self.ask();
        }
        // SAFETY: what was empty is a live descriptor of a page without blocks, and is in no list now.
        unsafe {
            page.write(Page {
                free: ptr::null_mut(),
                prev: ptr::null_mut(),
                next: ptr::null_mut(),
                fresh: 0,
                used: 0,
                class: class as u32,
                listed: false,
                leaving: false,
            });
            self.list(page);
        }
        page
    }

    /// Half of the newest huge page is in use.
    fn ask(&mut self) {
        let chunk = memory_of(self.middle) as usize & !(CHUNK - 1);
        let descriptors = descriptors(chunk);
        // SAFETY: computes addresses of descriptors of this chunk.
        let [first, second] = MIDDLES.map(|index| unsafe { descriptors.add(index) });
        let address = if self.middle == first {
            self.middle = second;
            chunk + HUGE_PAGE
        } else {
            self.middle = ptr::null_mut();
            self.slabs.next()
        };
        self.untouched = Some(Untouched { address });
    }

    fn add_chunk(&mut self) {
        let memory = self.slabs.take();
        let chunk = memory.as_ptr() as usize;
        let first = descriptors(chunk);
        for index in (1..PAGES).rev() {
            // SAFETY: descriptors 1..PAGES lie in the chunk's first page, fresh zeroed memory (all-zero is a valid
            // `Page`).
            unsafe { self.empty.push_cold(first.add(index)) };
        }
        self.page_count += PAGES - 1;
        // SAFETY: as above.
        self.middle = unsafe { first.add(MIDDLES[0]) };
        self.chunks.push(memory);
    }
}

/// How far two addresses are from being in the same cache set does not matter to correctness, only the count does.
#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Blocks never overlap, keep their bytes, and the count equals a recount.
        #[test]
        fn blocks_are_disjoint(steps in prop::collection::vec((1usize..6000, any::<bool>()), 1..600)) {
            let mut heap = Heap::default();
            let mut held: Vec<(NonNull<u8>, usize, u8)> = Vec::new();
            for (i, &(size, give_back)) in steps.iter().enumerate() {
                if give_back && !held.is_empty() {
                    let (block, size, fill) = held.swap_remove(size % held.len());
                    // SAFETY: the block is ours and `size` bytes long.
                    unsafe {
                        let bytes = std::slice::from_raw_parts(block.as_ptr(), size);
                        prop_assert!(bytes.iter().all(|&b| b == fill));
                        heap.free(block, size);
                    }
                } else {
                    let block = heap.alloc(size);
                    prop_assert_eq!(block.as_ptr() as usize % if size % 64 == 0 { 64 } else { 8 }, 0);
                    // SAFETY: as above.
                    unsafe { ptr::write_bytes(block.as_ptr(), i as u8, size) };
                    held.push((block, size, i as u8));
                }
                let live: usize = held.iter().filter(|h| h.1 <= BLOCK_MAX).map(|h| block_size(h.1)).sum();
                prop_assert_eq!(heap.live(), live);
            }
            for (block, size, _) in held {
                // SAFETY: as above.
                unsafe { heap.free(block, size) };
            }
            prop_assert_eq!(heap.live(), 0);
        }
    }

    /// A heap says what it will need, once each, and then uses it. Touching what is gone meanwhile does nothing.
    #[test]
    fn the_next_huge_page_is_named() {
        const CHUNKS: usize = 5;
        let mut heap = Heap::default();
        let mut named = Vec::new();
        let fill = |heap: &mut Heap, named: &mut Vec<usize>| {
            let mut blocks = Vec::new();
            while heap.chunks.len() < CHUNKS || heap.empty.len() > 0 {
                let block = heap.alloc(4096);
                // SAFETY: just allocated.
                unsafe { block.as_ptr().cast::<usize>().write(blocks.len()) };
                if let Some(untouched) = heap.take_untouched() {
                    named.push(untouched.address);
                    untouched.touch().expect("memory of the heap");
                    // SAFETY: as above.
                    let number = unsafe { block.as_ptr().cast::<usize>().read() };
                    assert_eq!(number, blocks.len());
                }
                blocks.push(block);
            }
            blocks
        };
        let blocks = fill(&mut heap, &mut named);
        assert_eq!(named.len(), 2 * CHUNKS);
        let chunk_of = |address: &usize| address & !(CHUNK - 1);
        let used: Vec<usize> = heap.chunks.iter().map(|c| c.as_ptr() as usize).collect();
        let first = std::iter::once(used[0]);
        let both = used[1..].iter().flat_map(|chunk| [*chunk, *chunk]);
        let next = heap.slabs.next();
        let expected: Vec<usize> = first.chain(both).chain([next]).collect();
        assert_eq!(named.iter().map(chunk_of).collect::<Vec<_>>(), expected);
        for block in blocks {
            // SAFETY: allocated above.
            unsafe { heap.free(block, 4096) };
        }
        fill(&mut heap, &mut named);
        assert_eq!(named.len(), 2 * CHUNKS, "what was used before is not named");
        drop(heap);
        // Whatever it says.
        let _ = Untouched { address: named[0] }.touch();
    }

    #[test]
    fn what_is_left_over_for_a_second_goes_back() {
        let mut heap = Heap::default();
        let blocks: Vec<_> = (0..200 * PAGE / 4096).map(|_| heap.alloc(4096)).collect();
        for b in &blocks {
            // SAFETY: allocated just above with this size.
            unsafe { heap.free(*b, 4096) };
        }
        let second = |heap: &mut Heap| (0..10).for_each(|_| heap.look_for_surplus());
        second(&mut heap);
        assert_eq!(heap.surplus(), 0, "they were in use just now");
        second(&mut heap);
        let surplus = heap.surplus();
        assert!((150..200).contains(&surplus), "{surplus}");
        heap.give_back(10);
        assert_eq!(heap.surplus(), surplus - 10);
        heap.give_back(1000);
        assert_eq!(heap.surplus(), 0);
        second(&mut heap);
        assert_eq!(heap.surplus(), 0);
        let chunks = heap.chunks.len();
        for _ in &blocks {
            let block = heap.alloc(4096);
            // SAFETY: allocated just now, of this size.
            unsafe { block.as_ptr().write_bytes(7, 4096) };
        }
        assert_eq!(heap.chunks.len(), chunks);
    }

    #[test]
    fn empty_pages_serve_other_classes() {
        let mut heap = Heap::default();
        let blocks: Vec<_> = (0..40_000).map(|_| heap.alloc(100)).collect();
        let chunks = heap.chunks.len();
        for b in blocks {
            // SAFETY: allocated just above with this size.
            unsafe { heap.free(b, 100) };
        }
        let blocks: Vec<_> = (0..20_000).map(|_| heap.alloc(200)).collect();
        assert_eq!(heap.chunks.len(), chunks);
        for b in blocks {
            // SAFETY: as above.
            unsafe { heap.free(b, 200) };
        }
    }
}
