//! The real clocks and the real randomness of a core.
//!
//! Idea: one read of the monotonic clock a turn. Wall time is the monotonic clock plus an offset that is read anew
//! every few milliseconds, so that a step of the system's clock is followed within that time.

use super::Now;

/// How long the offset between the two clocks is trusted.
const OFFSET_TRUSTED_NS: u64 = 5_000_000;

#[derive(Debug)]
pub(super) struct Clock {
    now: Now,
    /// Wall clock minus monotonic clock, in nanoseconds.
    offset_ns: i128,
    offset_read_ns: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        let mut clock = Clock {
            now: Now::default(),
            offset_ns: 0,
            offset_read_ns: 0,
        };
        clock.read_offset(mono_ns());
        clock.tick();
        clock
    }

    fn read_offset(&mut self, mono: u64) {
        self.offset_ns = i128::from(read(libc::CLOCK_REALTIME)) - i128::from(mono);
        self.offset_read_ns = mono;
    }

    /// Reads the clocks for a new turn.
    #[inline]
    pub(super) fn tick(&mut self) {
        let mono = mono_ns();
        if mono - self.offset_read_ns > OFFSET_TRUSTED_NS {
            self.read_offset(mono);
        }
        let unix_ns = i128::from(mono) + self.offset_ns;
        self.now = Now {
            mono_ns: mono,
            unix_ms: (unix_ns / 1_000_000) as i64,
        };
    }

    #[inline]
    pub(super) fn now(&self) -> Now {
        self.now
    }
}

#[inline]
pub(super) fn mono_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

#[inline]
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the result. The two clocks named above always exist, so the call cannot
    // fail.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A fast generator (wyrand) with a seed from the system. Not for secrets.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Self {
        use std::hash::{BuildHasher, Hasher};
        // The standard library seeds its hashers from the system's entropy.
        let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
        hasher.write_u64(mono_ns());
        Random(hasher.finish())
    }

    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0xa076_1d64_78bd_642f);
        let product = u128::from(self.0) * u128::from(self.0 ^ 0xe703_7ed1_a0b4_28db);
        (product >> 64) as u64 ^ product as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clock_agrees_with_the_system() {
        let mut clock = Clock::new();
        std::thread::sleep(std::time::Duration::from_millis(12));
        let before = read(libc::CLOCK_REALTIME) / 1_000_000;
        clock.tick();
        let after = read(libc::CLOCK_REALTIME) / 1_000_000;
        let seen = clock.now().unix_ms;
        assert!(
            seen + 1 >= before as i64 && seen <= after as i64 + 1,
            "{before} <= {seen} <= {after}"
        );
    }

    #[test]
    fn random_numbers_differ() {
        let (mut a, mut b) = (Random::new(), Random::new());
        assert_ne!(a.next(), a.next());
        assert_ne!(a.next(), b.next());
    }
}
