//! The process's allocator, counted per thread.
//!
//! A core's memory is what its own thread allocated less what it freed, so the counts need no atomics on the way.
//! A block that one core allocates and another frees (a message's buffer) makes one count too high and the other too low;
//! the sum over the cores is exact. Threads that do long commands tell what they use as they go ([`begin_aside`]): nobody
//! else would know of it before they end.

pub mod arena;
pub mod untouched;

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

struct Counter {
    used: Cell<isize>,
    /// As of the last time that [`ASIDE`] was told.
    told: Cell<isize>,
    /// What there was before it was told anything.
    from: Cell<isize>,
    /// It is told of so many bytes more or less.
    step: Cell<usize>,
}

thread_local! {
    static COUNTER: Counter = const {
        Counter {
            used: Cell::new(0),
            told: Cell::new(0),
            from: Cell::new(0),
            step: Cell::new(usize::MAX),
        }
    };
}

/// What threads that are no cores have told.
static ASIDE: AtomicIsize = AtomicIsize::new(0);
/// How exactly that is.
const ASIDE_STEP: usize = 64 << 10;

impl Counter {
    #[cold]
    fn tell(&self) {
        let used = self.used.get();
        ASIDE.fetch_add(used - self.told.replace(used), Relaxed);
    }
}

/// mimalloc, with the bytes of every block (as rounded up by the allocator) counted on the calling thread.
pub struct CountingAllocator;

fn count(bytes: isize) {
    // A thread that is ending has no counter any more; what it still frees is not counted.
    let _ = COUNTER.try_with(|counter| {
        let used = counter.used.get() + bytes;
        counter.used.set(used);
        if used.abs_diff(counter.told.get()) >= counter.step.get() {
            counter.tell();
        }
    });
}

/// Bytes allocated and not freed by this thread, beside the entry heaps.
pub fn thread_used() -> isize {
    COUNTER.with(|counter| counter.used.get())
}

/// Memory that this thread took from the system by itself, or gave back.
pub fn count_mapped(bytes: isize) {
    count(bytes);
}

/// What the threads use that have called [`begin_aside`].
pub fn aside() -> isize {
    ASIDE.load(Relaxed)
}
/// From here on this thread tells what it uses more than now.
pub fn begin_aside() {
    COUNTER.with(|counter| {
        counter.told.set(counter.used.get());
        counter.from.set(counter.used.get());
        counter.step.set(ASIDE_STEP);
    });
}
/// Work that was done aside: what it used, and what of it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent(isize, isize);

/// How much more this thread uses than when it began. All of it is told, until a core takes it over.
pub fn end_aside(begun: isize) -> Spent {
    COUNTER.with(|counter| {
        counter.step.set(usize::MAX);
        counter.tell();
        let used = counter.used.get();
        Spent(used - begun, used - counter.from.get())
    })
}

/// A buffer goes to a thread that is no core's, which will free it: it no longer counts here.
pub fn hand_over(buffer: &Vec<u8>) {
    if buffer.capacity() > 0 {
        // SAFETY: a vector with a capacity has a live block of this allocator.
        let size = unsafe { libmimalloc_sys::mi_usable_size(buffer.as_ptr().cast()) };
        count(-(size as isize));
    }
}

/// A core takes over what another thread has counted.
pub fn adopt(spent: Spent) {
    count(spent.0);
    ASIDE.fetch_sub(spent.1, Relaxed);
}

/// mimalloc aligns every block like this by itself. Asked for it, it looks for more room than it needs: 1,280 bytes, which are a size
/// class, took 1,536, and so with every class from 640 bytes on.
const NATURAL: usize = size_of::<usize>();

// SAFETY: every method hands the request to mimalloc, which fulfils GlobalAlloc's contract; counting does not allocate
// (the thread-local is const-initialised and needs no destructor).
unsafe impl GlobalAlloc for CountingAllocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: size and alignment come from a valid layout; usable_size accepts null.
        unsafe {
            let p = match layout.align() {
                ..=NATURAL => libmimalloc_sys::mi_malloc(layout.size()),
                align => libmimalloc_sys::mi_malloc_aligned(layout.size(), align),
            };
            count(libmimalloc_sys::mi_usable_size(p) as isize);
            p.cast()
        }
    }
    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe {
            let p = match layout.align() {
                ..=NATURAL => libmimalloc_sys::mi_zalloc(layout.size()),
                align => libmimalloc_sys::mi_zalloc_aligned(layout.size(), align),
            };
            count(libmimalloc_sys::mi_usable_size(p) as isize);
            p.cast()
        }
    }
    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, _: Layout) {
        // SAFETY: the caller gives back a block of this allocator.
        unsafe {
            count(-(libmimalloc_sys::mi_usable_size(ptr.cast()) as isize));
            libmimalloc_sys::mi_free(ptr.cast());
        }
    }
    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller gives a block of this allocator with its layout.
        unsafe {
            let before = libmimalloc_sys::mi_usable_size(ptr.cast()) as isize;
            let shrinks = size < layout.size() && layout.align() <= NATURAL;
            if shrinks && block_of(size) < before as usize / 8 * 7 {
                // By itself it would leave a block at its place and size until half of it is not in use.
                let p = libmimalloc_sys::mi_malloc(size).cast::<u8>();
                if !p.is_null() {
                    p.copy_from_nonoverlapping(ptr, size);
                    self.dealloc(ptr, layout);
                    count(libmimalloc_sys::mi_usable_size(p.cast()) as isize);
                    return p;
                }
            }
            let p = libmimalloc_sys::mi_realloc_aligned(ptr.cast(), size, layout.align());
            if !p.is_null() {
                count(libmimalloc_sys::mi_usable_size(p) as isize - before);
            }
            p.cast()
        }
    }
}

/// What a block for so many bytes takes: 16 bytes apart to 128, then four sizes to each doubling; above half a megabyte slices of
/// 64 KB, roughly.
#[inline]
pub fn block_of(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=8 => 8,
        9..=128 => bytes.next_multiple_of(16),
        129..=LARGE => bytes.next_multiple_of(1 << ((bytes - 1).ilog2() - 2)),
        _ => match bytes.div_ceil(SLICE) {
            few @ ..=32 => few * SLICE,
            many => many.next_multiple_of((1 << ((many - 1).ilog2() - 4)).max(4)) * SLICE,
        },
    }
}
const LARGE: usize = 512 << 10;
const SLICE: usize = 64 << 10;
/// The same for a vector's buffer.
#[inline]
pub fn block_of_vec<T>(vec: &Vec<T>) -> usize {
    block_of(vec.capacity() * size_of::<T>())
}

/// Gives what the allocator holds in reserve back to the system (MEMORY PURGE).
pub fn purge() {
    // SAFETY: mi_collect may be called at any time from any thread.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Gives back what all threads have freed more than a second ago. To be called by one that has next to nothing itself: its own part is
/// looked through.
pub fn give_back() {
    // SAFETY: both may be called at any time from any thread.
    unsafe {
        libmimalloc_sys::mi_thread_init();
        libmimalloc_sys::mi_collect(false);
    }
}

/// What the allocator says about itself, for people (MEMORY MALLOC-STATS).
pub fn statistics() -> String {
    unsafe extern "C" fn collect(text: *const std::ffi::c_char, into: *mut std::ffi::c_void) {
        // SAFETY: mimalloc passes a string that ends with a zero byte, and the pointer that it was given below.
        unsafe {
            let into = &mut *into.cast::<Vec<u8>>();
            into.extend_from_slice(std::ffi::CStr::from_ptr(text).to_bytes());
        }
    }
    let mut text: Vec<u8> = Vec::with_capacity(16 << 10);
    // SAFETY: `collect` is called only during this call, so the pointer to `text` lives long enough and is not shared.
    unsafe { libmimalloc_sys::mi_stats_print_out(Some(collect), (&raw mut text).cast()) };
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where mimalloc is asked without an alignment.
    #[test]
    fn blocks_are_the_allocators() {
        let larger = (70_000..520_000).step_by(777);
        let largest = (530_000..12_000_000).step_by(87_654);
        for bytes in (1..70_000).chain(larger).chain(largest) {
            // SAFETY: the block is looked at and freed.
            let (p, usable) = unsafe {
                let p = libmimalloc_sys::mi_malloc(bytes);
                let usable = libmimalloc_sys::mi_usable_size(p);
                libmimalloc_sys::mi_free(p);
                (p as usize, usable)
            };
            match bytes {
                ..=LARGE => assert_eq!(block_of(bytes), usable, "{bytes}"),
                _ => assert!(block_of(bytes).abs_diff(usable) <= usable / 8, "{bytes}"),
            }
            assert_eq!(p % NATURAL, 0, "{bytes}");
        }
    }

    #[test]
    fn a_block_that_shrinks_by_a_class_is_given_back() {
        let layout = Layout::from_size_align(4096, 1).unwrap();
        // SAFETY: the block is used within its size, and freed with the layout that it has by then.
        unsafe {
            let p = CountingAllocator.alloc(layout);
            p.write_bytes(7, 4096);
            let p = CountingAllocator.realloc(p, layout, 2100);
            assert_eq!(libmimalloc_sys::mi_usable_size(p.cast()), 2560);
            assert!(std::slice::from_raw_parts(p, 2100).iter().all(|b| *b == 7));
            CountingAllocator.dealloc(p, Layout::from_size_align(2100, 1).unwrap());
        }
    }

    /// One test, since others of this process have no part in what is told.
    #[test]
    fn what_is_used_aside_is_known_meanwhile() {
        let told = |counter: &Counter| counter.told.get();
        let before = aside();
        let begun = thread_used();
        count(1000);
        begin_aside();
        assert_eq!(aside(), before);
        count(ASIDE_STEP as isize - 1);
        assert_eq!(aside(), before);
        count(1);
        assert_eq!(aside(), before + ASIDE_STEP as isize);
        count(-5);
        let at = COUNTER.with(told);
        let spent = end_aside(begun);
        let told_now = ASIDE_STEP as isize - 5;
        assert_eq!(spent, Spent(told_now + 1000, told_now));
        assert_eq!(COUNTER.with(told), at - 5);
        assert_eq!(aside(), before + ASIDE_STEP as isize - 5);
        // The core that takes it over is this thread itself.
        adopt(spent);
        assert_eq!(aside(), before);
        // A core tells nothing.
        count(1 << 20);
        assert_eq!(aside(), before);
        count(-(1 << 20) - 2 * spent.0);
        assert_eq!(thread_used(), begun);
    }
}
