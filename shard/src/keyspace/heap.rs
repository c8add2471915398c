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
//! The first touch of a huge page takes a quarter of a millisecond, since the system clears it, and on a virtual machine that gives
//! memory back to its host many times as much. So a heap that grows asks for its next huge pages before it needs them, for somebody
//! else to touch: [`Untouched`].
//!
//! Invariants: a page is in its class's list of pages with room exactly if it has room and is not to be emptied; `live` is the sum of the
//! class sizes of all blocks handed out.

pub mod thin;

use std::alloc::Layout;
use std::ptr::{self, NonNull};

const PAGE: usize = 64 << 10;
const CHUNK: usize = 4 << 20;
const PAGES: usize = CHUNK / PAGE;
const HUGE_PAGE: usize = 2 << 20;
/// Smaller heaps ask for nothing beforehand: they would hold much more memory than they use.
const AHEAD_MIN: usize = 16;
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
    /// Pages without blocks, linked through `next`.
    empty: *mut Page,
    empty_count: usize,
    chunks: Vec<NonNull<u8>>,
    /// The next chunk.
    ahead: Option<NonNull<u8>>,
    untouched: Vec<Untouched>,
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

/// A huge page that a heap will need soon.
#[derive(Debug)]
pub struct Untouched {
    address: usize,
}

impl Untouched {
    /// Has the system find memory for it. Takes a while, on any thread.
    pub fn touch(self) -> std::io::Result<()> {
        // SAFETY: this changes no byte of memory, whatever is at the address by now, and gives back none. Where nothing is any more it fails.
        let result =
            unsafe { libc::madvise(self.address as *mut _, HUGE_PAGE, libc::MADV_POPULATE_WRITE) };
        match result {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
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
            empty: ptr::null_mut(),
            empty_count: 0,
            chunks: Vec::new(),
            ahead: None,
            untouched: Vec::new(),
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
        (self.page_count - self.empty_count) * PAGE
    }

    /// What it will need soon. It does without if nobody touches it.
    pub fn take_untouched(&mut self) -> Option<Untouched> {
        self.untouched.pop()
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
                self.retire(page);
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

    /// Keeps an empty page for any class; beyond a few, its memory goes back to the system.
    ///
    /// # Safety
    /// `page` is a live descriptor, in no list, and none of its blocks is in use.
    unsafe fn retire(&mut self, page: *mut Page) {
        // SAFETY: the page's memory holds nothing in use (the caller's promise); MADV_DONTNEED on private anonymous
        // memory gives zero pages at the next touch.
        unsafe {
            if self.empty_count >= 16 {
                libc::madvise(memory_of(page).cast(), PAGE, libc::MADV_DONTNEED);
            }
            (*page).next = self.empty;
        }
        self.empty = page;
        self.empty_count += 1;
    }

    #[cold]
    fn page_for(&mut self, class: usize) -> *mut Page {
        if self.empty.is_null() {
            self.add_chunk();
        }
        let page = self.empty;
        // SAFETY: `empty` links live descriptors of pages without blocks.
        unsafe {
            self.empty = (*page).next;
            self.empty_count -= 1;
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

    /// The address of a new chunk.
    fn map_chunk() -> NonNull<u8> {
        // SAFETY: plain anonymous mappings; the parts cut off at both ends are never used.
        let chunk = unsafe {
            let raw = libc::mmap(
                ptr::null_mut(),
                2 * CHUNK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            );
            if raw == libc::MAP_FAILED {
                std::alloc::handle_alloc_error(Layout::new::<[u8; CHUNK]>());
            }
            let raw = raw as usize;
            let chunk = raw.next_multiple_of(CHUNK);
            if chunk > raw {
                libc::munmap(raw as *mut _, chunk - raw);
            }
            libc::munmap((chunk + CHUNK) as *mut _, raw + CHUNK - chunk);
            // Look-ups jump about in memory: with small pages much of their time goes to address translation. Redis must
            // avoid huge pages because a fork would copy them; nothing forks here. It is only advice, so a failure is none.
            libc::madvise(chunk as *mut _, CHUNK, libc::MADV_HUGEPAGE);
            chunk
        };
        NonNull::new(chunk as *mut u8).expect("mmap gives no null")
    }

    fn add_chunk(&mut self) {
        let mapped = self.ahead.take().unwrap_or_else(Self::map_chunk);
        let chunk = mapped.as_ptr() as usize;
        if self.chunks.len() >= AHEAD_MIN {
            let ahead = Self::map_chunk();
            self.ahead = Some(ahead);
            // The last one is taken first, and needed first.
            self.untouched.clear();
            for address in [ahead.as_ptr() as usize, chunk + HUGE_PAGE] {
                self.untouched.push(Untouched { address });
            }
        }
        let first = descriptors(chunk);
        for index in (1..PAGES).rev() {
            // SAFETY: descriptors 1..PAGES lie in the chunk's first page, fresh zeroed memory (all-zero is a valid
            // `Page`).
            unsafe {
                let page = first.add(index);
                (*page).next = self.empty;
                self.empty = page;
            }
        }
        self.empty_count += PAGES - 1;
        self.page_count += PAGES - 1;
        self.chunks.push(mapped);
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        for chunk in self.chunks.iter().chain(&self.ahead) {
            // SAFETY: each chunk was mapped by `map_chunk` with this size; whoever drops the heap has dropped
            // everything in it.
            unsafe { libc::munmap(chunk.as_ptr().cast(), CHUNK) };
        }
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

    /// A large heap says what it will need, and uses it. Touching what is gone meanwhile does nothing.
    #[test]
    fn the_next_huge_pages_are_named() {
        let mut heap = Heap::default();
        let mut named = Vec::new();
        let mut touched = 0;
        for n in 0..(AHEAD_MIN + 4) * CHUNK / 4096 {
            let block = heap.alloc(4096);
            // SAFETY: just allocated.
            unsafe { block.as_ptr().cast::<usize>().write(n) };
            while let Some(untouched) = heap.take_untouched() {
                assert!(heap.chunks.len() > AHEAD_MIN);
                named.push(untouched.address);
                touched += u32::from(untouched.touch().is_ok());
                // SAFETY: as above.
                assert_eq!(unsafe { block.as_ptr().cast::<usize>().read() }, n);
            }
        }
        assert!(named.len() >= 6 && touched as usize == named.len());
        let used: Vec<usize> = heap.chunks.iter().map(|c| c.as_ptr() as usize).collect();
        let is_used = |a: &&usize| used.iter().any(|c| (*c..*c + CHUNK).contains(a));
        assert_eq!(named.iter().filter(is_used).count(), named.len() - 1);
        assert!(heap.ahead.is_some());
        drop(heap);
        // Whatever it says.
        let _ = Untouched { address: named[0] }.touch();
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
