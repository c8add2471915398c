//! Address space for chunks, taken 16 gigabytes at a time: a thread that maps memory waits while another one touches some.

use super::CHUNK;
use crate::memory::untouched::{HUGE_PAGE, is_overcommit_strict, reserve};
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::OnceLock;

const SLAB: usize = 1 << 34;

/// Memory in chunks, and room for more.
#[derive(Default)]
pub struct Slabs {
    /// The last one has room, unless there is none.
    slabs: Vec<Slab>,
}

struct Slab {
    address: usize,
    bytes: usize,
    /// Bytes of chunks that are in use.
    used: usize,
}

fn slab_bytes() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| if is_overcommit_strict() { CHUNK } else { SLAB })
}

impl Slab {
    fn map(bytes: usize) -> Option<Self> {
        let address = reserve(bytes, CHUNK)?;
        // Look-ups jump about in memory: with small pages much of their time goes to address translation. Redis must
        // avoid huge pages because a fork would copy them; nothing forks here. It is only advice, so a failure is none.
        // SAFETY: the memory was mapped just now.
        unsafe { libc::madvise(address as *mut _, bytes, libc::MADV_HUGEPAGE) };
        Some(Self {
            address,
            bytes,
            used: 0,
        })
    }
}

impl Slabs {
    /// The address of the chunk that [`Self::take`] gives next.
    pub fn next(&mut self) -> usize {
        if let Some(slab) = self.slabs.last()
            && slab.used < slab.bytes
        {
            return slab.address + slab.used;
        }
        let slab = Slab::map(slab_bytes()).or_else(|| Slab::map(CHUNK));
        let Some(slab) = slab else {
            std::alloc::handle_alloc_error(Layout::new::<[u8; CHUNK]>())
        };
        let address = slab.address;
        if self.slabs.is_empty() {
            // A core that stores next to nothing holds next to nothing, and nobody waits for the first huge page.
            // SAFETY: the memory was mapped just now. Advice, as above.
            unsafe { libc::madvise(address as *mut _, HUGE_PAGE, libc::MADV_NOHUGEPAGE) };
        }
        self.slabs.push(slab);
        address
    }

    /// A chunk of zeroed memory, aligned to its size.
    pub fn take(&mut self) -> NonNull<u8> {
        let chunk = self.next();
        if let Some(slab) = self.slabs.last_mut() {
            slab.used += CHUNK;
        }
        NonNull::new(chunk as *mut u8).expect("mmap gives no null")
    }
}

impl Drop for Slabs {
    fn drop(&mut self) {
        for slab in &self.slabs {
            // SAFETY: each was mapped with this size; whoever drops the heap has dropped everything in it.
            unsafe { libc::munmap(slab.address as *mut _, slab.bytes) };
        }
    }
}
