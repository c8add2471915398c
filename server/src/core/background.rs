//! What a core does when it has served everybody, and every tenth of a second.

use super::Core;
use crate::io::{ConnId, Io};
use crate::request::Paused;
use crate::stats::Sample;
use ringwood_shard::memory;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often clients and statistics are looked after.
const CRON: Duration = Duration::from_millis(100);

/// How long entries are moved in one turn ([`Core::thin_slice`]), and words of tables between looks at the clock.
const THIN_SLICE_NS: u64 = 200_000;

const THIN_STEP: usize = 500;

/// What is freed goes on in the next turn after so long.
const FREE_SLICE_NS: u64 = 200_000;

const FREE_STEP: usize = 50;

const FREE_STEPS_MAX: usize = 10;

impl Core {
    pub(super) fn background(&mut self) {
        if self.ending || self.locks.held_whole() {
            // What expires now is in the last snapshot, or may have been seen by a transaction that is not over.
        } else if self.paused == Paused::No {
            let timed = self.thresholds.watches_latency();
            let began = timed.then(|| self.io.mono_ns());
            self.shard.expire_some(200);
            if let Some(began) = began {
                self.note_latency("expire-cycle", began);
            }
            if !self.shard.events.is_empty() {
                self.publish_events();
            }
        } else if self.now.mono_ns >= self.paused_until_ns {
            self.unpause();
        }
        self.look_for_flush();
        if !self.snapshot_waits() {
            self.free_slice();
        }
        self.snapshot_slice();
        self.thin_slice();
        self.shard.keyspace.give_back_some();
        let untouched = self.shard.keyspace.take_untouched();
        for untouched in untouched.into_iter().chain(memory::arena::take_untouched()) {
            self.shared.touching.ask(untouched);
        }
        self.leave(1000);
        if self.share.is_some() {
            self.load_slice();
        }
        if self.now.mono_ns >= self.next_cron_ns {
            self.next_cron_ns = self.now.mono_ns + CRON.as_nanos() as u64;
            self.cron();
        }
        self.publish_memory();
    }

    /// Frees some of what was deleted. How long a block takes depends on what lies in it and on where its neighbours are, so it is time
    /// that bounds it, and a number only where there is no time to see (the simulation's stands still).
    fn free_slice(&mut self) {
        let begun = self.io.mono_ns();
        for _ in 0..FREE_STEPS_MAX {
            let all = self.shard.keyspace.free_some(FREE_STEP);
            if all || self.io.mono_ns().saturating_sub(begun) >= FREE_SLICE_NS {
                return;
            }
        }
    }

    /// Moves entries out of pages that hold little, with a quarter of this core's time at most.
    pub(super) fn thin_slice(&mut self) {
        if !self.shard.keyspace.is_thinning() || self.until_thinning() > Duration::ZERO {
            return;
        }
        let begun = self.io.mono_ns();
        loop {
            let more = self.shard.keyspace.thin_some(THIN_STEP);
            let spent = self.io.mono_ns().saturating_sub(begun);
            if !more || spent >= THIN_SLICE_NS || self.io.ready() {
                self.next_thin_ns = begun + 4 * spent;
                return;
            }
        }
    }

    pub(super) fn until_thinning(&self) -> Duration {
        match self.shard.keyspace.is_thinning() {
            true => Duration::from_nanos(self.next_thin_ns.saturating_sub(self.io.mono_ns())),
            false => Duration::MAX,
        }
    }

    /// Bytes of memory that this core holds.
    pub fn memory_used(&self) -> i64 {
        ringwood_shard::memory::thread_used() as i64 + self.shard.heap_used() as i64
    }

    pub(super) fn cron(&mut self) {
        if self.shared.cron_pauses.load(Ordering::Acquire) {
            return;
        }
        let sample = Sample {
            commands: self.stats.total_calls(),
            bytes_in: self.stats.bytes_in,
            bytes_out: self.stats.bytes_out,
            turns: self.stats.turns,
            turn_ns: self.stats.turn_ns,
        };
        self.meter.take(self.now.mono_ns, sample);
        self.shared
            .memory
            .tell(self.id, self.memory_used(), self.now.unix_ms);
        self.buffers.decay();
        self.spare_parcels.decay();
        self.memory_cron();
        self.shard.keyspace.look_for_waste();
        if let Some(links) = self.shared.helpers.links.get().filter(|_| self.id == 0) {
            links.close_idle();
        }
        self.save_cron();
        self.log_cron();
        self.look_at_log_waiters();
        self.check_soft_limits();
        self.client_limit_cron();
        self.limit_tracking();
        let timeout_ns = self.config.timeout as u64 * 1_000_000_000;
        if timeout_ns > 0 {
            let now = self.now.mono_ns;
            let idle: Vec<ConnId> = self
                .clients
                .iter()
                .filter(|c| now.saturating_sub(c.last_active) > timeout_ns && !c.is_waiting())
                .filter(|c| !c.loads)
                // Who listens need not speak.
                .filter(|c| c.subscriptions.is_none() && !self.monitors.has(c.id))
                .map(|c| c.conn)
                .collect();
            for conn in idle {
                tracing::debug!("Closing idle client");
                self.close(conn);
            }
        }
    }
}
