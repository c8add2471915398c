//! An eventfd that any thread can use to wake a core.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// The receiving end, which a backend watches.
#[derive(Debug)]
pub(super) struct Alarm(Arc<OwnedFd>);

/// The sending end. It keeps the eventfd open, so that its number cannot come to mean another file.
#[derive(Clone, Debug)]
pub(super) struct AlarmHandle(Arc<OwnedFd>);

impl Alarm {
    pub(super) fn new() -> io::Result<Alarm> {
        // SAFETY: takes no memory; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor, which belongs to nobody yet.
        Ok(Alarm(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    pub(super) fn handle(&self) -> AlarmHandle {
        AlarmHandle(self.0.clone())
    }

    /// Makes it silent until the next `ring`.
    pub(super) fn clear(&self) {
        let mut count = 0_u64;
        // SAFETY: an eventfd gives 8 bytes, for which `count` has room. It does not block; where there is nothing to
        // read, nothing is to be done.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) };
    }
}

impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AlarmHandle {
    /// Wakes the watcher. Safe in a signal handler.
    pub(super) fn ring(&self) {
        let one = 1_u64;
        // SAFETY: an eventfd takes 8 bytes. It fails only when the counter is full, and then the watcher wakes anyway.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }
}

/// A second descriptor for the same file.
pub(super) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the caller's descriptor is open during the call.
    unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()
}
