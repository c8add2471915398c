//! No lost wake-up: a core's announcement that it sleeps, and how senders look at it.
//!
//! A core about to sleep says so, then looks once more at all its sources; a sender puts its message in place, then looks whether
//! the receiver sleeps. With a full fence on both sides between the two steps, one of them sees the other. `tests/loom.rs`
//! has the machine check it.

use crate::sync::{AtomicBool, Ordering, fence};

/// One core's announcement, alone in its cache line.
#[repr(align(128))]
pub struct Sleeper(AtomicBool);

/// Proof that a sender's messages are in place for whoever falls asleep from now on. One does for many receivers.
pub struct Published(());

/// Called by a sender between putting messages in place and looking who sleeps.
pub fn published() -> Published {
    fence(Ordering::SeqCst);
    Published(())
}

impl Sleeper {
    pub fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// The core announces sleep. False when `anything` has come meanwhile: do not sleep.
    pub fn fall_asleep(&self, anything: impl FnOnce() -> bool) -> bool {
        // A swap, though a store would do: that an earlier sender's swap comes before it in the modification order is something
        // that loom cannot conclude for a store. Next to the sleep itself it costs nothing.
        self.0.swap(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if anything() {
            self.wake_up();
            return false;
        }
        true
    }

    /// The core is awake, and will look at all its sources before it sleeps again.
    pub fn wake_up(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// True when the core sleeps and the caller is the one to wake it.
    pub fn must_wake(&self, _: &Published) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

impl Default for Sleeper {
    fn default() -> Self {
        Self::new()
    }
}
