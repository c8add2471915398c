//! With `appendfsync always`: how many requests share a sync.
//!
//! Clients that got their replies after one sync come again soon, one after the other. Whoever syncs with the first of them has the
//! others wait for a whole sync more, so clients fall apart into groups that take turns, and each sync serves half of them. So a
//! core waits a little for as many as were served lately. It waits for half of what a sync takes at most, and no longer where as
//! many do not come: what is expected shrinks with every sync.
//!
//! Only where there is one core: among several, requests on their way to others would wait too.

use crate::config::enums::AppendFsync;
use crate::core::Core;
use crate::io::Io;

/// No request waits longer for others.
const MAX_NS: u64 = 1_000_000;
/// What is not worth a wait.
const MIN_NS: u64 = 10_000;

#[derive(Debug, Default)]
pub struct Gather {
    /// Clients that were served by a sync lately.
    expected: usize,
    /// What a sync takes, roughly.
    sync_ns: u64,
    /// Until when what is there waits for more; 0 if it does not.
    until_ns: u64,
}

impl Gather {
    /// Is it to wait, with replies for so many clients?
    fn waits(&mut self, here: usize, now: u64) -> bool {
        let patience = (self.sync_ns / 2).min(MAX_NS);
        if here >= self.expected || patience < MIN_NS {
            return false;
        }
        if self.until_ns == 0 {
            self.until_ns = now + patience;
        }
        now < self.until_ns
    }
    /// What is there is written down now.
    #[inline]
    pub fn end(&mut self) {
        self.until_ns = 0;
    }
    /// A sync for so many clients took this long.
    pub fn synced(&mut self, here: usize, took_ns: u64) {
        self.expected = here.max(self.expected - self.expected.div_ceil(8));
        self.sync_ns = match self.sync_ns {
            0 => took_ns,
            known => (known * 7 + took_ns) / 8,
        };
    }
    /// How long the wait still is, if there is one.
    pub fn left(&self, now: u64) -> Option<u64> {
        (self.until_ns > 0).then(|| self.until_ns.saturating_sub(now))
    }
}

impl Core {
    /// True if what this turn brought is to wait for the requests of more clients before it is written down. Nothing of it may
    /// leave until then.
    #[inline]
    pub(crate) fn gathers(&mut self) -> bool {
        self.shard.logging && self.config.appendfsync == AppendFsync::Always && self.could_gather()
    }
    fn could_gather(&mut self) -> bool {
        let alone = self.cores() == 1 && !self.shard.log.is_empty() && !self.ending;
        let now = self.io.mono_ns();
        alone && self.log.gather.waits(self.dirty.len(), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_fell_apart_come_together() {
        let mut gather = Gather::default();
        assert!(!gather.waits(1, 0), "nothing is known");
        gather.synced(1, 400_000);
        gather.synced(49, 400_000);
        assert!(gather.waits(1, 1_000_000));
        assert_eq!(gather.left(1_050_000), Some(150_000));
        assert!(gather.waits(48, 1_199_999));
        assert!(!gather.waits(48, 1_200_000), "the time is over");
        assert!(!gather.waits(49, 1_100_000), "all are there");
        gather.end();
        gather.synced(50, 400_000);
        assert!(gather.left(0).is_none());
    }

    #[test]
    fn who_stays_away_is_not_waited_for_long() {
        let mut gather = Gather::default();
        gather.synced(50, 400_000);
        let mut waits = 0;
        for _ in 0..100 {
            waits += usize::from(gather.waits(1, 1));
            gather.end();
            gather.synced(1, 400_000);
        }
        assert!(waits < 30, "{waits} waits");
        assert_eq!(gather.expected, 1);
    }

    #[test]
    fn a_quick_disk_is_not_waited_for() {
        let mut gather = Gather::default();
        gather.synced(50, 15_000);
        assert!(!gather.waits(1, 1));
        gather.synced(50, 1 << 40);
        assert!(gather.waits(1, 1));
        assert!(!gather.waits(1, 1 + MAX_NS));
    }
}
