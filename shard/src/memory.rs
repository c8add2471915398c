//! The process's allocator, counted per thread.
//!
//! A core's memory is what its own thread allocated less what it freed, so the counts need no atomics on the way.
//! A block that one core allocates and another frees (a message's buffer) makes one count too high and the other too low;
//! the sum over the cores is exact.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

thread_local! {
    static USED: Cell<isize> = const { Cell::new(0) };
}

/// mimalloc, with the bytes of every block (as rounded up by the allocator) counted on the calling thread.
pub struct CountingAllocator;

fn count(bytes: isize) {
    // A thread that is ending has no counter any more; what it still frees is not counted.
    let _ = USED.try_with(|used| used.set(used.get() + bytes));
}

/// Bytes allocated and not freed by this thread, beside the entry heaps.
pub fn thread_used() -> isize {
    USED.with(Cell::get)
}

/// A buffer goes to a thread that is no core's, which will free it: it no longer counts here.
pub fn hand_over(buffer: &Vec<u8>) {
    if buffer.capacity() > 0 {
        // SAFETY: a vector with a capacity has a live block of this allocator.
        let size = unsafe { libmimalloc_sys::mi_usable_size(buffer.as_ptr().cast()) };
        count(-(size as isize));
    }
}

/// Takes over what another thread that is about to end has counted.
pub fn adopt(bytes: isize) {
    count(bytes);
}

// SAFETY: every method hands the request to mimalloc, which fulfils GlobalAlloc's contract; counting does not allocate
// (the thread-local is const-initialised and needs no destructor).
unsafe impl GlobalAlloc for CountingAllocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: size and alignment come from a valid layout; usable_size accepts null.
        unsafe {
            let p = libmimalloc_sys::mi_malloc_aligned(layout.size(), layout.align());
            count(libmimalloc_sys::mi_usable_size(p) as isize);
            p.cast()
        }
    }
    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe {
            let p = libmimalloc_sys::mi_zalloc_aligned(layout.size(), layout.align());
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
            let p = libmimalloc_sys::mi_realloc_aligned(ptr.cast(), size, layout.align());
            if !p.is_null() {
                count(libmimalloc_sys::mi_usable_size(p) as isize - before);
            }
            p.cast()
        }
    }
}

/// Gives what the allocator holds in reserve back to the system (MEMORY PURGE).
pub fn purge() {
    // SAFETY: mi_collect may be called at any time from any thread.
    unsafe { libmimalloc_sys::mi_collect(true) }
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
