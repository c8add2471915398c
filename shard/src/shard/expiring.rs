//! Keys and fields whose time is over: found by the wheel, in slices.

use super::{Shard, notify};
use crate::field_expiry;
use crate::wheel::{PREFIX_BITS, Record};

/// Records whose entries are loaded together: enough to hide the loads' latency.
const EXPIRY_BATCH: usize = 16;

impl Shard {
    /// Deletes keys and fields whose time is over, looking at up to about `budget` records and fields. True when more are due.
    pub fn expire_some(&mut self, budget: usize) -> bool {
        self.wheel.advance(self.now_ms);
        if !self.settings.active_expire || self.loading {
            return false;
        }
        let mut left = budget;
        while left > 0 && self.wheel.has_due() {
            let mut batch = [None; EXPIRY_BATCH];
            let size = left.min(EXPIRY_BATCH);
            left -= size;
            for place in &mut batch[..size] {
                *place = self.wheel.next_due();
            }
            self.prefetch(&batch);
            for record in batch.into_iter().flatten() {
                left = left.saturating_sub(self.look_at(record));
            }
        }
        if self.wants_sweep() {
            let Self {
                wheel, keyspace, ..
            } = self;
            wheel.sweep(budget, |record| {
                let db = keyspace.db_of_uid(record.db_uid());
                keyspace
                    .find_by_prefix(db, record.slot(), record.prefix(), PREFIX_BITS, |e| {
                        e.in_wheel()
                    })
                    .is_some()
            });
        }
        self.wheel.has_due() || self.wants_sweep()
    }
    fn wants_sweep(&self) -> bool {
        if !self.wheel.wants_sweep(0) {
            return false;
        }
        let dbs = 0..self.keyspace.databases();
        let expiring = dbs.map(|db| self.keyspace.expiring(db)).sum();
        self.wheel.wants_sweep(expiring)
    }
    /// Starts the loads that the batch's look-ups need, for all of it before any waits.
    fn prefetch(&self, batch: &[Option<Record>]) {
        let keyspace = &self.keyspace;
        let each = |f: &dyn Fn(usize, u16, u64)| {
            for record in batch.iter().flatten() {
                let db = keyspace.db_of_uid(record.db_uid());
                f(db, record.slot(), record.prefix() << (64 - PREFIX_BITS));
            }
        };
        each(&|db, slot, _| keyspace.prefetch_table(db, slot));
        each(&|db, slot, hash| keyspace.prefetch_bucket(db, slot, hash));
        each(&|db, slot, hash| {
            keyspace.prefetch_entry(db, slot, hash);
        });
    }

    /// Deals with a record whose time has come. Returns how many fields it removed.
    fn look_at(&mut self, record: Record) -> usize {
        let db = self.keyspace.db_of_uid(record.db_uid());
        let (slot, prefix) = (record.slot(), record.prefix());
        let found = self
            .keyspace
            .find_by_prefix(db, slot, prefix, PREFIX_BITS, |e| e.in_wheel());
        let Some(mut entry) = found else { return 0 };
        let now_ms = self.now_ms;
        match entry.get().next_time() {
            Some(at) if at > now_ms => self.wheel.insert(at, record),
            None => entry.set_in_wheel(false),
            Some(_) => {
                let heard = self.listening || self.logging || !self.attention.is_idle();
                let name = heard.then(|| entry.get().key().to_vec());
                if entry.expire_at().is_some_and(|at| at <= now_ms) {
                    entry.remove();
                    self.stats.expired += 1;
                    if let Some(name) = name {
                        self.log_lapsed(db, &name);
                        self.notify(db, &name, notify::EXPIRED, "expired", true);
                    }
                    return 0;
                }
                let visit = field_expiry::visit(entry, now_ms, self.logging);
                self.stats.expired_fields += visit.count as u64;
                // What is still due is looked at again when all else that is due had its turn.
                if let Some(at) = visit.next_time {
                    self.wheel.insert(at, record);
                }
                let count = visit.count;
                if let Some(name) = name {
                    self.fields_expired(db, &name, visit);
                }
                return count;
            }
        }
        0
    }

    /// When [`Shard::expire_some`] has something to do next, in wall-clock milliseconds.
    pub fn next_expiry(&self) -> Option<i64> {
        if !self.settings.active_expire || self.loading {
            None
        } else if self.wants_sweep() {
            Some(self.now_ms)
        } else {
            self.wheel.next_time()
        }
    }
}
