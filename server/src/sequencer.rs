//! One order for all work that touches several cores, without a lock and without a second round trip.
//!
//! A core that issues such work announces that it is about to, takes the next number, puts the parts into the owners'
//! inboxes, and takes the announcement back. An owner may run a part as soon as its number is below the *frontier*: the
//! smallest announced number, or the next one where nobody announces. Then everything older is in its inbox already.
//!
//! Why that holds: let `f` be the frontier that an owner computes, reading first the counter and then the announcements,
//! and let some core have taken `m < f`. It announced a number of at most `m` before it took `m`; it took `m` before the owner read
//! the counter (or `f` would be at most `m`); so the owner's look at that core's announcement comes after it was made
//! (taking a number releases, reading the counter acquires). What the owner read there was above `m`, hence written after the parts of `m` were
//! in the inboxes, and the owner, which empties its inbox after this, finds them. `tests/loom.rs` has the machine check it.
//!
//! A core is between announcement and withdrawal for well under a microsecond. If it loses its CPU just there, parts
//! with higher numbers wait for it; other work does not.
//!
//! Single-core work needs no number, but must come after any numbered work that it could know of: a client that saw a
//! part's effect on one core must see the whole everywhere. When a part has run anywhere, all its parts are in their
//! inboxes; so a core that empties its inbox *after* taking requests in and *before* running them is on the safe side. What it
//! finds and cannot run yet (the frontier) holds its slots, and the requests wait behind it.

use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// Nothing announced.
const NONE: u64 = u64::MAX;

/// An atomic alone in its cache line.
#[repr(align(128))]
struct Padded(AtomicU64);

/// The global counter and the cores' announcements.
pub struct Sequencer {
    next: Padded,
    announced: Box<[Padded]>,
}

impl Sequencer {
    pub fn new(cores: usize) -> Self {
        Self {
            next: Padded(AtomicU64::new(1)),
            announced: (0..cores).map(|_| Padded(AtomicU64::new(NONE))).collect(),
        }
    }

    /// Takes a number and runs `publish` with it, which puts all parts into the owners' inboxes.
    pub fn issue<R>(&self, core: usize, publish: impl FnOnce(u64) -> R) -> R {
        let announced = &self.announced[core].0;
        // Any earlier value will do: it is at most the number taken below.
        announced.store(self.next.0.load(Relaxed), Release);
        let number = self.next.0.fetch_add(1, AcqRel);
        let result = publish(number);
        announced.store(NONE, Release);
        result
    }

    /// Everything below the returned number that concerns the caller is in its inbox, if the caller looks there after this.
    pub fn frontier(&self) -> u64 {
        let next = self.next.0.load(Acquire);
        self.announced
            .iter()
            .map(|a| a.0.load(Acquire))
            .fold(next, u64::min)
    }
}
