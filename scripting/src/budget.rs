//! What all Vms of a process may hold together.
//!
//! A Vm takes memory from the budget in large pieces, so that its allocator compares two numbers of its own most of the time, and gives
//! back what it no longer holds when a script ends. Between scripts a Vm takes what it needs: a limit there would end the
//! server, since no script is there to fail.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Shared by the Vms: see [`crate::Vm::share_budget`].
#[derive(Debug)]
pub struct Budget {
    limit: AtomicUsize,
    taken: AtomicUsize,
}

/// What a Vm takes at a time.
const PIECE: usize = 1 << 20;

impl Default for Budget {
    /// Without a limit.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Budget {
    pub fn new(limit: usize) -> Self {
        Self {
            limit: AtomicUsize::new(limit),
            taken: AtomicUsize::new(0),
        }
    }

    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Holds for what is taken from now on.
    pub fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// What the Vms have taken: somewhat more than they hold.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// What is left.
    pub(crate) fn left(&self) -> usize {
        self.limit().saturating_sub(self.taken())
    }

    /// Takes at least `bytes`; returns how many, or none where they are not to be had. `must`: they are taken in any case.
    pub(crate) fn take(&self, bytes: usize, must: bool) -> Option<usize> {
        let limit = self.limit();
        // A whole piece where there is one, else just what is asked for.
        for wanted in [bytes.max(PIECE), bytes] {
            let add = |taken: usize| {
                taken
                    .checked_add(wanted)
                    .filter(|all| must || *all <= limit)
            };
            let added = self
                .taken
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
            if added.is_ok() {
                return Some(wanted);
            }
        }
        None
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_until_the_limit() {
        let budget = Budget::new(PIECE + 1000);
        assert_eq!(budget.take(10, false), Some(PIECE));
        assert_eq!(budget.take(10, false), Some(10));
        assert_eq!(budget.left(), 990);
        assert_eq!(budget.take(991, false), None);
        assert_eq!(budget.take(991, true), Some(PIECE));
        assert_eq!((budget.left(), budget.take(1, false)), (0, None));
        budget.give_back(2 * PIECE + 10);
        assert_eq!(budget.taken(), 0);
        budget.set_limit(0);
        assert_eq!(budget.take(1, false), None);
    }
}
