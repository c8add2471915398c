//! The real clocks and the real randomness of a core.
//!
//! Idea: one read of the monotonic clock a turn. Wall time is the monotonic clock plus an offset that is read anew
//! every few milliseconds, so that a step of the system's clock is followed within that time.

use std::time::Duration;

use super::Now;

/// How long the offset between the two clocks is trusted.
const OFFSET_TRUSTED_NS: u64 = 5_000_000;

#[derive(Debug)]
pub(super) struct Clock {
    now: Now,
    /// Wall clock minus monotonic clock, in nanoseconds.
    offset_ns: i64,
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
        self.offset_ns = read(libc::CLOCK_REALTIME) as i64 - mono as i64;
        self.offset_read_ns = mono;
    }

    /// Reads the clocks for a new turn.
    #[inline]
    pub(super) fn tick(&mut self) {
        let mono = mono_ns();
        if mono - self.offset_read_ns > OFFSET_TRUSTED_NS {
            self.read_offset(mono);
        }
        let unix_ns = mono as i64 + self.offset_ns;
        self.now = Now {
            mono_ns: mono,
            unix_ms: unix_ns / 1_000_000,
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

/// The kernel timer that ends waits.
///
/// Idea: giving each wait a time limit of its own makes the kernel start and stop a timer each time, which costs as
/// much as a tenth of a request. So one timer is left running over many turns, and only when it has fired is it set
/// again. It may end a wait early, which is harmless.
#[derive(Debug, Default)]
pub(super) struct Timer {
    fires_ns: Option<u64>,
}

/// How a wait gets its limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// The timer that is running fires in time.
    Running,
    /// The timer is to be set to this moment of the monotonic clock.
    Set(u64),
    /// The wait needs a limit of its own.
    Own(Duration),
}

/// Shorter waits are too rare and too short to be worth the timer.
const TIMER_MIN: Duration = Duration::from_millis(1);
/// A timer set farther ahead would be of no use to shorter waits for long.
const TIMER_MAX: Duration = Duration::from_secs(1);

impl Timer {
    #[inline]
    pub(super) fn limit(&mut self, now_ns: u64, time: Duration) -> Limit {
        let capped = time.min(TIMER_MAX);
        let until_ns = now_ns + capped.as_nanos() as u64;
        match self.fires_ns {
            Some(fires_ns) if fires_ns <= until_ns => Limit::Running,
            None if time >= TIMER_MIN => {
                self.fires_ns = Some(until_ns);
                Limit::Set(until_ns)
            }
            _ => Limit::Own(time),
        }
    }

    pub(super) fn fired(&mut self) {
        self.fires_ns = None;
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

    #[test]
    fn one_timer_serves_many_waits() {
        let (mut timer, ms) = (Timer::default(), Duration::from_millis);
        assert_eq!(
            timer.limit(5_000_000, Duration::from_micros(50)),
            Limit::Own(Duration::from_micros(50))
        );
        assert_eq!(timer.limit(5_000_000, ms(100)), Limit::Set(105_000_000));
        assert_eq!(timer.limit(6_000_000, ms(100)), Limit::Running);
        assert_eq!(timer.limit(6_000_000, ms(99)), Limit::Running);
        assert_eq!(timer.limit(6_000_000, ms(98)), Limit::Own(ms(98)));
        timer.fired();
        assert_eq!(
            timer.limit(106_000_000, Duration::from_secs(3600)),
            Limit::Set(1_106_000_000)
        );
        assert_eq!(
            timer.limit(106_000_000, Duration::from_secs(3600)),
            Limit::Running
        );
    }
}
