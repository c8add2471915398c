//! When snapshots are made, and what becomes of them: SAVE, BGSAVE, save points, the server's end.

use super::snapshot::{Busy, Claim, Failure, Outcome, Purpose, Snapshot};
use crate::commands::lock;
use crate::core::Core;
use crate::mailbox::Ticket;
use ringwood_protocol::error::CommandError;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Seconds after which a snapshot in the background is tried again that failed.
const RETRY: i64 = 5;

/// What writes are refused with when snapshots fail.
const NOREPLICAS: &str = "NOREPLICAS Not enough good replicas to write.";
const MISCONF: &str = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. \
    Commands that may modify the data set are disabled, because this instance is configured to report errors during writes if \
    RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.";

impl Core {
    pub(crate) fn snapshot_path(&self) -> PathBuf {
        let dir = self.config.dir.path();
        dir.join(self.config.dbfilename.as_path())
    }

    /// Makes sure of a snapshot for which everybody waits. [`Core::save`] must follow.
    pub(crate) fn claim_save(&mut self) -> Result<Claim, Busy> {
        let path = self.snapshot_path();
        self.claim_snapshot(Purpose::Save, path)
    }
    /// As [`Core::claim_save`], for the server's end: a snapshot that runs in the background is ended.
    pub(crate) fn claim_last_save(&mut self) -> Result<Claim, Busy> {
        self.cancel_snapshot();
        self.claim_save()
    }
    /// Writes a snapshot while everybody waits; `visit` runs on every core right after it has written what it has. Then goes on with `then`.
    pub(crate) fn save(
        &mut self,
        claim: Claim,
        visit: impl Fn(&mut Core) + Send + Sync + 'static,
        then: impl FnOnce(&mut Core, Result<(), Failure>) + 'static,
    ) {
        let done = |core: &mut Core, snapshot: &Snapshot, outcome: Outcome| {
            let state = &core.shared.persistence;
            state.saves.fetch_add(1, Relaxed);
            match outcome {
                Ok(written) => {
                    core.saved(snapshot, written.keys, |core| then(core, Ok(())));
                }
                Err(failure) => {
                    tracing::warn!("Error saving DB on disk: {failure}");
                    then(core, Err(failure));
                }
            }
        };
        self.begin_snapshot(claim, visit, |_| {}, done);
    }
    /// Writes the last snapshot: nothing that could change anything runs on a core behind its visit, so nothing is answered that is not in
    /// it. With `force` the server ends even if that fails; otherwise all goes on, and `failed` follows.
    pub(crate) fn save_and_end(
        &mut self,
        claim: Claim,
        force: bool,
        failed: impl FnOnce(&mut Core) + 'static,
    ) {
        let given_up = Arc::new(AtomicBool::new(false));
        let seen = given_up.clone();
        let then = move |core: &mut Core, result: Result<(), Failure>| {
            if result.is_ok() || force {
                return core.stop_all();
            }
            // It may have failed before other cores come to their visit, which ends nothing then.
            given_up.store(true, Release);
            let go_on = |core: &mut Core| {
                core.ending = false;
                Vec::new()
            };
            let failed = |core: &mut Core, _: Ticket, _: Vec<Vec<u8>>| failed(core);
            core.ask_all(Ticket::NOBODY, Arc::new(go_on), Box::new(failed));
        };
        let visit = move |core: &mut Core| core.ending = !seen.load(Acquire);
        self.save(claim, visit, then);
    }

    /// Ends what is written in the background.
    pub(crate) fn cancel_snapshot(&mut self) {
        let running = self.shared.persistence.running();
        let Some(snapshot) = running.filter(|s| s.purpose != Purpose::Save) else {
            return;
        };
        match snapshot.purpose {
            Purpose::AofBase => {
                tracing::warn!("There is a background AOF rewrite. Ending it!");
            }
            _ => tracing::warn!("There is a background save. Ending it!"),
        }
        self.shared.persistence.cancel(&snapshot);
    }

    /// Makes sure of a snapshot in the background. [`Core::save_in_background`] must follow.
    pub(crate) fn claim_background(&mut self) -> Result<Claim, Busy> {
        let path = self.snapshot_path();
        self.claim_snapshot(Purpose::Bgsave, path)
    }
    /// Begins a snapshot in the background; `begun` when all cores are past the point that it is of.
    pub(crate) fn save_in_background(
        &mut self,
        claim: Claim,
        begun: impl FnOnce(&mut Core) + 'static,
    ) {
        self.begin_snapshot(claim, |_| {}, begun, Self::saved_in_background);
        let state = &self.shared.persistence;
        state.saves.fetch_add(1, Relaxed);
        state.scheduled.store(false, Relaxed);
        state.flush_waits.store(false, Relaxed);
        state.last_try.store(self.now.unix_ms / 1000, Relaxed);
        tracing::info!("Background saving started");
    }
    /// As soon as that is possible.
    fn save_soon(&mut self) {
        match self.claim_background() {
            Ok(claim) => self.save_in_background(claim, |_| {}),
            Err(_) => self.shared.persistence.scheduled.store(true, Relaxed),
        }
    }
    fn saved_in_background(&mut self, snapshot: &Snapshot, outcome: Outcome) {
        let state = &self.shared.persistence;
        let seconds = snapshot.begun.elapsed().as_secs();
        state.last_seconds.store(seconds as i64 + 1, Relaxed);
        state.last_copied.store(snapshot.copied(), Relaxed);
        match outcome {
            Ok(written) => {
                tracing::debug!(
                    "Snapshot: {} bytes written of keys about to change, at most {} waited for the disk",
                    snapshot.copied(),
                    snapshot.peak()
                );
                self.saved(snapshot, written.keys, |_| {
                    tracing::info!("Background saving terminated with success");
                });
            }
            Err(Failure::Cancelled) => {
                tracing::warn!("Background saving terminated: nobody wants it any more");
            }
            Err(failure) => {
                state.failed.store(true, Relaxed);
                tracing::warn!("Error saving DB on disk: {failure}");
                tracing::warn!("Background saving error");
            }
        }
    }

    /// A snapshot is on disk: what it holds is no longer a change. Then goes on with `then`.
    fn saved(&mut self, snapshot: &Snapshot, keys: u64, then: impl FnOnce(&mut Core) + 'static) {
        let state = &self.shared.persistence;
        state.failed.store(false, Relaxed);
        state.last_save.store(self.now.unix_ms / 1000, Relaxed);
        tracing::info!(
            "DB saved on disk: {keys} keys in {:.3} seconds",
            snapshot.begun.elapsed().as_secs_f64()
        );
        let counts: Vec<u64> = (0..self.cores()).map(|c| snapshot.changes_of(c)).collect();
        let ask = move |core: &mut Core| {
            let dirty = &mut core.shard.stats.dirty;
            *dirty = dirty.saturating_sub(counts[core.id]);
            let dirty = *dirty;
            core.shared.persistence.tell_changes(core.id, dirty);
            Vec::new()
        };
        let then = move |core: &mut Core, _: Ticket, _: Vec<Vec<u8>>| then(core);
        self.ask_all(Ticket::NOBODY, Arc::new(ask), Box::new(then));
    }

    /// Ten times a second: is it time for a snapshot?
    pub(crate) fn save_cron(&mut self) {
        let state = &self.shared.persistence;
        let changes = state.tell_changes(self.id, self.shard.stats.dirty);
        if self.id != 0 || self.loading || state.running().is_some() {
            return;
        }
        let now = self.now.unix_ms / 1000;
        if state.failed.load(Relaxed) && now - state.last_try.load(Relaxed) <= RETRY {
            return;
        }
        let since = now - crate::commands::save::last_save(self);
        let points = self.config.save.points();
        let due = points
            .iter()
            .find(|p| changes >= p.changes && since > p.seconds as i64);
        if let Some(point) = due {
            let (changes, seconds) = (point.changes, point.seconds);
            tracing::info!("{changes} changes in {seconds} seconds. Saving...");
        }
        if due.is_some() || state.scheduled.load(Relaxed) {
            self.save_soon();
        } else if state.flush_waits.load(Relaxed) {
            self.save_after_flush();
        }
    }

    /// FLUSHALL came: with save points the empty state is saved.
    pub(super) fn save_after_flush(&mut self) {
        if self.config.save.points().is_empty() {
            return;
        }
        let path = self.snapshot_path();
        match self.claim_after_flush(path) {
            Ok(claim) => self.save_in_background(claim, |_| {}),
            Err(_) => self.shared.persistence.flush_waits.store(true, Relaxed),
        }
    }

    /// Snapshots fail or the log cannot be written.
    #[inline]
    pub(crate) fn is_disk_bad(&self) -> bool {
        self.are_snapshots_failing() || self.shared.aof.refuses_writes()
    }
    /// Writes are refused: for the disk, or for want of replicas. What the log brings was written before.
    #[inline]
    pub(crate) fn is_write_refused(&self) -> bool {
        self.is_disk_bad() || self.lacks_replicas()
    }
    /// There are no replicas yet, so any number that shall be there is more than there are.
    fn lacks_replicas(&self) -> bool {
        self.config.min_replicas_to_write > 0
            && self.config.min_replicas_max_lag > 0
            && !self.loading
    }
    /// What they are told.
    #[cold]
    pub(crate) fn write_error(&self) -> CommandError {
        match self.is_disk_bad() {
            true => self.disk_error(),
            false => CommandError::fixed(NOREPLICAS),
        }
    }
    #[cold]
    pub(crate) fn disk_error(&self) -> CommandError {
        if self.are_snapshots_failing() {
            return CommandError::fixed(MISCONF);
        }
        let cause = lock(&self.shared.aof.error).clone();
        CommandError::Text(format!("MISCONF Errors writing to the AOF file: {cause}").into())
    }
    fn are_snapshots_failing(&self) -> bool {
        self.shared.persistence.failed.load(Relaxed)
            && self.config.stop_writes_on_bgsave_error
            && !self.config.save.points().is_empty()
    }
}
