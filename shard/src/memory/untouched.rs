//! Memory that somebody has been promised and nobody has touched.

use std::ptr;

pub const HUGE_PAGE: usize = 2 << 20;

/// A huge page that will be needed soon. Its first touch takes a quarter of a millisecond, since the system clears it, and on a virtual
/// machine that gives memory back to its host many times as much: somebody else than who needs it should do that.
#[derive(Debug)]
pub struct Untouched {
    pub(crate) address: usize,
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

/// Address space for so many bytes, aligned to a power of two. It takes memory where it is touched. Allocates nothing.
pub fn reserve(bytes: usize, align: usize) -> Option<usize> {
    // SAFETY: plain anonymous mappings; the parts cut off at both ends are never used.
    unsafe {
        let raw = libc::mmap(
            ptr::null_mut(),
            bytes + align,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        );
        if raw == libc::MAP_FAILED {
            return None;
        }
        let raw = raw as usize;
        let address = raw.next_multiple_of(align);
        if address > raw {
            libc::munmap(raw as *mut _, address - raw);
        }
        libc::munmap((address + bytes) as *mut _, raw + align - address);
        Some(address)
    }
}

/// Whether the system promises no more memory than it has. Then what is only reserved counts in full. Allocates nothing.
pub fn is_overcommit_strict() -> bool {
    let mut mode = [0u8; 1];
    // SAFETY: the path ends with a zero byte; one byte is read into one byte; the file is this function's own.
    unsafe {
        let file = libc::open(c"/proc/sys/vm/overcommit_memory".as_ptr(), libc::O_RDONLY);
        if file < 0 {
            return false;
        }
        let read = libc::read(file, mode.as_mut_ptr().cast(), 1);
        libc::close(file);
        read == 1 && mode[0] == b'2'
    }
}
