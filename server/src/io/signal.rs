//! SIGTERM and SIGINT as something that a backend can watch.
//!
//! The handlers note the signal and write to an eventfd. No thread has to block signals, and no child inherits a
//! mask. The old behaviour is back when this is dropped.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::wake::Alarm;

#[derive(Debug)]
pub(super) struct Signals {
    alarm: Alarm,
    /// A bit for each signal that came.
    pending: Arc<AtomicU64>,
    ids: Vec<signal_hook_registry::SigId>,
}

impl Signals {
    pub(super) fn new() -> io::Result<Signals> {
        let mut signals = Signals {
            alarm: Alarm::new()?,
            pending: Arc::default(),
            ids: Vec::new(),
        };
        for number in [libc::SIGTERM, libc::SIGINT] {
            let (pending, handle) = (signals.pending.clone(), signals.alarm.handle());
            let note = move || {
                pending.fetch_or(1 << number, Ordering::Relaxed);
                handle.ring();
            };
            // SAFETY: the handler does nothing but an atomic operation and `write(2)`, both safe in a handler.
            signals
                .ids
                .push(unsafe { signal_hook_registry::register(number, note) }?);
        }
        Ok(signals)
    }

    /// Hands over what came since the last call, once each.
    pub(super) fn take(&self, mut each: impl FnMut(i32)) {
        self.alarm.clear();
        let mut pending = self.pending.swap(0, Ordering::Relaxed);
        while pending != 0 {
            each(pending.trailing_zeros() as i32);
            pending &= pending - 1;
        }
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.alarm.as_raw_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            signal_hook_registry::unregister(id);
        }
    }
}
