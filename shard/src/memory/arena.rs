//! The address space from which the allocator serves a server, prepared before it serves anything.
//!
//! Left to itself mimalloc takes huge pages throughout. Most of what a server needs in any case lies far apart, so that each core of an
//! idle one held some six megabytes for half a megabyte in use; and whoever came to a new huge page waited for its clearing. So here the
//! beginning comes in small pages, and when half of a huge page is promised, the next one is named for somebody else to touch
//! ([`take_untouched`]).
//!
//! The space is not promised to the allocator as a whole, but piece by piece: that is how this module hears how far it has come.
//! What does not fit any more it finds for itself, as it would without this.

use super::untouched::{HUGE_PAGE, Untouched, is_overcommit_strict, reserve};
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// As much as mimalloc can keep book of in one piece.
const SPACE: usize = 8 << 30;
const HUGE_PAGES: usize = SPACE / HUGE_PAGE;
/// Memory in small pages: for what there is once, and for each core. Collections that lie there are slower by a tenth or more, so it is
/// not all that cores touch.
const SMALL: usize = 8 << 20;
const SMALL_OF_CORE: usize = 8 << 20;

/// Where the space begins, or 0.
static SPACE_AT: AtomicUsize = AtomicUsize::new(0);
/// The number of the first huge page; those before it come in small pages.
static FIRST: AtomicUsize = AtomicUsize::new(0);
/// Bytes for the allocator's own book.
static BOOK: AtomicUsize = AtomicUsize::new(0);
/// By huge page: in use, or named as untouched.
static KNOWN: [AtomicU64; HUGE_PAGES / 64] = [const { AtomicU64::new(0) }; HUGE_PAGES / 64];

thread_local! {
    /// The address of a huge page that this thread will need, or 0.
    static NEXT: Cell<usize> = const { Cell::new(0) };
}

type Commit = extern "C" fn(bool, *mut c_void, usize, *mut bool, *mut c_void) -> bool;

unsafe extern "C" {
    fn mi_process_init();
    fn mi_manage_memory(
        start: *mut c_void,
        size: usize,
        is_committed: bool,
        is_pinned: bool,
        is_zero: bool,
        numa_node: i32,
        exclusive: bool,
        commit: Commit,
        argument: *mut c_void,
        arena: *mut *mut c_void,
    ) -> bool;
}

/// To be called before the process allocates anything.
pub fn prepare() {
    if is_overcommit_strict() {
        return;
    }
    let Some(space) = reserve(SPACE, HUGE_PAGE) else {
        return;
    };
    SPACE_AT.store(space, Relaxed);
    FIRST.store(HUGE_PAGES, Relaxed);
    // SAFETY: the space is the allocator's from here on, as long as the process lives; if it does not want it, nobody's.
    unsafe {
        mi_process_init();
        let is_managed = mi_manage_memory(
            space as *mut _,
            SPACE,
            false,
            false,
            true,
            -1,
            false,
            commit,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        );
        if !is_managed {
            SPACE_AT.store(0, Relaxed);
            libc::munmap(space as *mut _, SPACE);
            return;
        }
    }
    use_small_pages(1);
}

/// The beginning of the space comes in small pages, as much as so many idle cores need; the rest in huge ones.
pub fn use_small_pages(cores: usize) {
    let space = SPACE_AT.load(Relaxed);
    if space == 0 {
        return;
    }
    // The book is of the whole space, and mostly empty.
    let small = BOOK.load(Relaxed) + SMALL + cores * SMALL_OF_CORE;
    let small = small.next_multiple_of(HUGE_PAGE).min(SPACE);
    FIRST.store(small / HUGE_PAGE, Relaxed);
    // SAFETY: this changes no byte of memory. It is advice, so a failure is none.
    unsafe {
        libc::madvise(space as *mut _, small, libc::MADV_NOHUGEPAGE);
        libc::madvise(
            (space + small) as *mut _,
            SPACE - small,
            libc::MADV_HUGEPAGE,
        );
    }
}

/// A huge page that this thread will need soon. It does without if nobody touches it.
pub fn take_untouched() -> Option<Untouched> {
    match NEXT.replace(0) {
        0 => None,
        address => Some(Untouched { address }),
    }
}

/// The allocator is about to use a piece of the space, or has no use for it any more. It must not be called from here.
extern "C" fn commit(
    wanted: bool,
    start: *mut c_void,
    size: usize,
    is_zero: *mut bool,
    _: *mut c_void,
) -> bool {
    if !wanted {
        // SAFETY: the allocator says that nothing there is in use; it will ask before it uses it again.
        return unsafe { libc::madvise(start, size, libc::MADV_DONTNEED) } == 0;
    }
    if !is_zero.is_null() {
        // SAFETY: the allocator's own variable. What was given back may have been kept by the system's refusal.
        unsafe { is_zero.write(false) };
    }
    let from = start as usize - SPACE_AT.load(Relaxed);
    if from == 0 {
        BOOK.store(size, Relaxed);
    }
    note(from, from + size);
    true
}

fn note(from: usize, to: usize) {
    let first = FIRST.load(Relaxed);
    let last = (to - 1) / HUGE_PAGE;
    for page in (from / HUGE_PAGE).max(first)..=last {
        make_known(page);
    }
    let is_half = (to - 1) % HUGE_PAGE >= HUGE_PAGE / 2;
    let next = last + 1;
    if is_half && next >= first && next < HUGE_PAGES && make_known(next) {
        NEXT.set(SPACE_AT.load(Relaxed) + next * HUGE_PAGE);
    }
}
/// False if it was before.
fn make_known(page: usize) -> bool {
    let bit = 1 << (page % 64);
    KNOWN[page / 64].fetch_or(bit, Relaxed) & bit == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, since what is known is the process's.
    #[test]
    fn the_next_huge_page_is_named_once() {
        let named = || take_untouched().map(|untouched| untouched.address / HUGE_PAGE);
        let first = 10;
        FIRST.store(first, Relaxed);
        let at = |pages: f64| (pages * HUGE_PAGE as f64) as usize;
        note(at(9.0), at(9.4));
        assert_eq!(named(), None, "half of it is not in use");
        note(at(9.4), at(9.6));
        assert_eq!(named(), Some(10));
        assert_eq!(named(), None);
        note(at(9.6), at(9.7));
        assert_eq!(named(), None, "it was named before");
        note(at(10.0), at(12.7));
        assert_eq!(named(), Some(13));
        note(at(11.0), at(11.6));
        assert_eq!(named(), None, "the one after it is in use");
        note(at(2.0), at(3.0));
        assert_eq!(named(), None, "small pages");
        note(at(HUGE_PAGES as f64 - 0.2), SPACE);
        assert_eq!(named(), None, "the end");
    }
}
