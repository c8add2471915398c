//! `maxmemory`: one budget for all cores.
//!
//! Each core counts its own memory exactly and publishes the count in every turn ([`CoreMemory`]). What counts is the sum, so a core that holds the
//! hot half of the data may use more than its part. Before a core runs the commands of a turn, and between groups of them, it looks at the
//! sum ([`Core::make_room`]). If that is over the limit, somebody must let keys go:
//!
//! - Cores publish the rank of their best candidate and how many keys may go. The core whose candidate is the best is asked to free the
//!   bytes (`owed`), so that the server as a whole lets go what one LRU over all keys would; among equals it is drawn by their numbers of
//!   keys. It does so in its next turn. What a core owes is bounded ([`OWED_MAX`]), and what is missing beyond that is freed here at once: so the sum exceeds the
//!   limit by no more than what a turn brought and these bounds.
//! - Otherwise, and always for what it owes, a core lets its own keys go, for as long as `maxmemory-eviction-tenacity` allows in a turn. If that
//!   is not enough, commands go on as in Redis, and so does eviction in the next turn.
//! - Commands that need memory are refused ([`Room::is_out`]) where nothing can be done: no core has a key that may go, none has anything
//!   deleted that is not freed yet (FLUSHALL, large values), and none owes anything. A core that has either is asked first.
//! - Where clients together hold more than `maxmemory-clients`, the largest are closed first, and what other cores are about to close is awaited
//!   ([`crate::client_limit`]).
//! - What counts has to be somebody's: data, clients, scripts. What cores keep in reserve for themselves is bounded to a small part of the limit
//!   ([`crate::spares`]), for keys should not go for it.

use crate::core::{Control, Core};
use crate::io::Io;
use crate::stats::CoreMemory;
use ringwood_shard::evict::{Evicted, Rule};
use std::sync::atomic::Ordering::Relaxed;

/// What a core knows of the budget.
#[derive(Debug, Default)]
pub struct Room {
    /// The other cores' memory, as of this turn's beginning.
    others: i64,
    /// Commands that need memory are refused.
    out: bool,
    /// There is more to let go than a turn allows.
    pub busy: bool,
}

impl Room {
    pub fn is_out(&self) -> bool {
        self.out
    }
}

/// A core that owes more, or more than a 128th of the limit, is not asked for more.
const OWED_MAX: u64 = 256 << 10;
/// Keys are let go in runs of this many between looks at the clock.
const RUN: usize = 16;
/// Entries of what was deleted that are freed between looks.
const FREE_RUN: usize = 2000;

/// How long a turn may spend on eviction, as in Redis: 0 to 10 are 50 us each, 11 to 99 grow by 15% each, 100 is without end.
fn budget_ns(tenacity: u32) -> u64 {
    match tenacity {
        0..=10 => u64::from(tenacity) * 50_000,
        11..=99 => (500_000.0 * 1.15f64.powi(tenacity as i32 - 10)) as u64,
        _ => u64::MAX,
    }
}

impl Core {
    /// At the beginning of a turn: what do the others use?
    #[inline]
    pub(crate) fn look_at_memory(&mut self) {
        if self.config.maxmemory > 0 {
            self.look_at_others();
            // Without commands to run there is no hurry: what is over now may be an answer that its receiver is about to free.
            let owed = self.shared.memory.cores[self.id].owed.load(Relaxed);
            if self.room.busy || owed > 0 || ringwood_shard::memory::aside() > 0 {
                self.make_room();
            }
        }
    }
    fn look_at_others(&mut self) {
        let all = self.shared.memory.cores.iter().enumerate();
        let others = all.filter(|(core, _)| *core != self.id);
        self.room.others = others.map(|(_, c)| c.used.load(Relaxed)).sum();
    }
    /// Publishes what this core uses: before its answers leave, so that whoever sees an answer knows of the memory too.
    #[inline]
    pub(crate) fn publish_memory(&mut self) {
        if self.config.maxmemory > 0 {
            let used = self.memory_used();
            let rule = self.shard.settings.eviction;
            let evictable = rule.map_or(0, |rule| self.shard.evictable(rule));
            let mine = &self.shared.memory.cores[self.id];
            mine.used.store(used, Relaxed);
            mine.evictable.store(evictable as u64, Relaxed);
            let pending = self.shard.keyspace.free_pending();
            mine.pending.store(pending as u64, Relaxed);
        }
    }

    /// Sees to it that there is room for the commands that run next.
    #[inline]
    pub(crate) fn make_room(&mut self) {
        if self.config.maxmemory == 0 || self.shard.loading {
            return;
        }
        let over = self.over();
        let mine = &self.shared.memory.cores[self.id];
        if over > 0 || mine.owed.load(Relaxed) > 0 {
            self.let_go();
        } else {
            (self.room.out, self.room.busy) = (false, false);
            if over > -(self.config.maxmemory as i64 / 16)
                && mine.rank.load(Relaxed) == CoreMemory::NONE
            {
                self.publish_candidates();
            }
        }
    }
    /// Bytes above the limit.
    fn over(&self) -> i64 {
        let limit = i64::try_from(self.config.maxmemory).unwrap_or(i64::MAX);
        let aside = ringwood_shard::memory::aside() as i64;
        (self.memory_used() + self.room.others + aside).saturating_sub(limit)
    }

    #[cold]
    fn let_go(&mut self) {
        self.room.busy = false;
        self.look_at_others();
        // Clients that hold too much go before any key does.
        self.limit_clients_now();
        let begun = self.io.mono_ns();
        let budget = budget_ns(self.config.maxmemory_eviction_tenacity);
        let owed = self.shared.memory.cores[self.id].owed.load(Relaxed);
        self.room.out = self.free_memory(owed, begun, budget);
        self.note_limit();
        self.publish_memory();
        self.publish_candidates();
        // With the memory published, so that nobody sees it neither freed nor owed.
        self.shared.memory.cores[self.id]
            .owed
            .fetch_sub(owed, Relaxed);
        if !self.shard.events.is_empty() {
            self.publish_events();
        }
    }

    /// True when it is over the limit and nobody can do anything about it.
    fn free_memory(&mut self, owed: u64, begun: u64, budget: u64) -> bool {
        let before = self.memory_used();
        loop {
            let over = self.over();
            if over <= 0 {
                return false;
            }
            // What others were asked for they will free.
            let cores = self.shared.memory.cores.iter().enumerate();
            let theirs = cores.filter(|(core, _)| *core != self.id);
            let owed_by_others: u64 = theirs.map(|(_, c)| c.owed.load(Relaxed)).sum();
            let awaited = owed_by_others + self.clients_excess();
            let freed = (before - self.memory_used()).max(0) as u64;
            let owing = freed < owed;
            let missing = over - awaited.min(i64::MAX as u64) as i64;
            if missing <= 0 && !owing {
                return false;
            }
            if self.io.mono_ns().saturating_sub(begun) > budget {
                self.room.busy = true;
                return false;
            }
            if self.shard.keyspace.free_pending() > 0 {
                self.shard.keyspace.free_some(FREE_RUN);
                continue;
            }
            if !owing
                && let Some(rule) = self.shard.settings.eviction
                && let Some(core) = self.better_core(rule)
            {
                self.ask_to_free(core, missing as u64);
                continue;
            }
            let evicted = match self.shard.settings.eviction {
                Some(_) => self.evict_run(),
                None => Evicted::Nothing,
            };
            match evicted {
                Evicted::One => {}
                Evicted::NotNow => {
                    self.room.busy = true;
                    return false;
                }
                Evicted::Nothing => {
                    // Whoever has something is asked; where that is under way already it will come.
                    let others = self.shared.memory.cores.iter().enumerate();
                    let mut able = others.filter(|(core, c)| *core != self.id && c.is_able());
                    let Some((core, _)) = able.find(|(_, c)| c.owed.load(Relaxed) == 0) else {
                        return awaited == 0;
                    };
                    self.ask_to_free(core, missing.max(1) as u64);
                }
            }
        }
    }

    fn note_limit(&self) {
        let is_over = self.config.maxmemory > 0 && self.over() > 0;
        self.shared.memory.note_limit(is_over, self.io.mono_ns());
    }

    fn evict_run(&mut self) -> Evicted {
        if self.locks.holds_all() {
            return Evicted::NotNow;
        }
        let locks = &self.locks;
        let none = locks.is_empty();
        for done in 0..RUN {
            match self.shard.evict_one(|slot| !none && locks.in_use(slot)) {
                Evicted::One => {}
                _ if done > 0 => return Evicted::One,
                other => return other,
            }
            // Large values are counted when they are freed.
            let limit = self.config.maxmemory as i64;
            let used = ringwood_shard::memory::thread_used() as i64 + self.shard.heap_used() as i64;
            let others = self.room.others + ringwood_shard::memory::aside() as i64;
            if self.shard.keyspace.free_pending() > 0 || used + others <= limit {
                break;
            }
        }
        Evicted::One
    }

    /// The core whose keys are to go rather than ours. Of those whose best candidates are about equal one is drawn by its number of keys, as
    /// it would be if all keys were in one place. One that owes much already (it does not get to run) is passed over for the next best.
    fn better_core(&mut self, rule: Rule) -> Option<usize> {
        if self.cores() == 1 {
            return None;
        }
        let own = self.shard.eviction_rank().unwrap_or(CoreMemory::NONE);
        let random = self.shard.random();
        let cores = &self.shared.memory.cores;
        let patience = (self.config.maxmemory / 128).min(OWED_MAX);
        let rank = |core: usize| match core == self.id {
            true => own,
            false if cores[core].owed.load(Relaxed) > patience => CoreMemory::NONE,
            false => cores[core].rank.load(Relaxed),
        };
        let best = (0..cores.len()).map(rank).min()?;
        let keys = |core: usize| match core == self.id {
            _ if rank(core) == CoreMemory::NONE || rule.is_far_better(best, rank(core)) => 0,
            true => self.shard.evictable(rule) as u64,
            false => cores[core].evictable.load(Relaxed),
        };
        let all: u64 = (0..cores.len()).map(keys).sum();
        let mut nth = ((u128::from(random) * u128::from(all)) >> 64) as u64;
        let chosen = (0..cores.len()).find(|&core| {
            let here = nth < keys(core);
            nth = nth.saturating_sub(keys(core));
            here
        })?;
        (chosen != self.id).then_some(chosen)
    }

    fn ask_to_free(&mut self, core: usize, bytes: u64) {
        self.shared.memory.cores[core]
            .owed
            .fetch_add(bytes, Relaxed);
        // Nothing but a reason to take a turn.
        self.mailbox.send_control(core, Control::MakeRoom);
    }

    /// Tells the others what could go here.
    pub(crate) fn publish_candidates(&mut self) {
        let rank = self.shard.eviction_rank().unwrap_or(CoreMemory::NONE);
        self.shared.memory.cores[self.id].rank.store(rank, Relaxed);
    }
    /// Ten times a second: candidates that are better than those known, while there is little room.
    pub(crate) fn memory_cron(&mut self) {
        let limit = self.config.maxmemory;
        if limit == 0 {
            self.note_limit();
            return;
        }
        self.look_at_others();
        if self.over() > -(limit.min(i64::MAX as u64) as i64 / 16) {
            self.shard.look_for_candidates();
            self.publish_candidates();
        }
        self.make_room();
        self.note_limit();
    }
}

/// What of the configuration says which keys go.
pub fn rule(config: &crate::config::Config) -> Option<Rule> {
    use crate::config::enums::MaxmemoryPolicy as Policy;
    use ringwood_shard::evict::By;
    let (volatile, by) = match config.maxmemory_policy {
        Policy::NoEviction => return None,
        Policy::VolatileLru => (true, By::LeastRecent),
        Policy::VolatileLfu => (true, By::LeastFrequent),
        Policy::VolatileRandom => (true, By::Random),
        Policy::VolatileTtl => (true, By::SoonestExpiry),
        Policy::AllkeysLru => (false, By::LeastRecent),
        Policy::AllkeysLfu => (false, By::LeastFrequent),
        Policy::AllkeysRandom => (false, By::Random),
    };
    let samples = config.maxmemory_samples as usize;
    Some(Rule {
        by,
        volatile,
        samples,
    })
}

#[cfg(test)]
mod tests {
    use super::budget_ns;

    #[test]
    fn tenacity_grows_to_no_end() {
        let us = [0, 1, 10, 11, 99, 100].map(|t| budget_ns(t) / 1000);
        assert_eq!(us[..4], [0, 50, 500, 575]);
        assert!(us[4] > 100_000_000 && us[5] == u64::MAX / 1000);
    }
}
