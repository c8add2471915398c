//! BGREWRITEAOF: the log becomes short again. A snapshot of one point in the order of transactions becomes the base; at that point every core
//! begins a new file, and when the snapshot is there the files of before are given up. Nothing forks, nobody waits.
//!
//! Switching the log on goes the same way: it begins at the snapshot's point, and the manifest speaks of it when the snapshot is there.

use super::ahead::Base;
use super::errand::After;
use super::manifest::{Entry, Kind, Manifest};
use super::{Files, State};
use crate::commands::lock;
use crate::config::Config;
use crate::core::Core;
use crate::disk::Disk;
use crate::mailbox::Ticket;
use crate::persist::snapshot::{Busy, Claim, Failure, Outcome, Purpose, Snapshot};
use std::io::Result;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

/// So many rewrites that fail one after the other, and the next begins by itself only after a while: as in Redis.
const FAILURES_MAX: u32 = 3;
const RETRY: Duration = Duration::from_secs(60);

/// The same while writes are refused until one succeeds.
const MEND: Duration = Duration::from_secs(1);

/// How rewriting goes.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// One is under way.
    pub since: Option<Instant>,
    /// One begins when the snapshot that is under way has ended.
    pub scheduled: bool,
    pub last_seconds: i64,
    /// When the last one failed, by the cores' monotonic clock.
    failed: Option<u64>,
    /// How many have failed since one did not.
    pub failures: u32,
    /// The log tells that the next has to wait for that.
    told: bool,
    pub count: u64,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            since: None,
            scheduled: false,
            last_seconds: -1,
            failed: None,
            failures: 0,
            told: false,
            count: 0,
        }
    }
}

impl Status {
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }
    /// The last one failed only lately.
    fn failed_within(&self, now_ns: u64, time: Duration) -> bool {
        let since = self.failed.map(|at| now_ns.saturating_sub(at));
        since.is_some_and(|since| since <= time.as_nanos() as u64)
    }
    /// Too many have failed for the next to begin by itself now.
    fn rests(&self, now_ns: u64) -> bool {
        self.failures >= FAILURES_MAX && self.failed_within(now_ns, RETRY)
    }
}

/// More files of the log than this, for each core, are too many: every FLUSHALL and SWAPDB makes one.
const FILES_MAX: usize = 64;

/// What a new base is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The log is on, and becomes shorter.
    Shorter,
    /// The log begins with it.
    Begin,
    /// The log is off and stays so.
    Once,
}

/// How things were when a rewrite began.
#[derive(Clone, Copy)]
struct Began {
    since: Instant,
    /// [`State::spoils`]
    spoils: u64,
}

/// How far the beginning of a rewrite has come.
enum Step {
    /// All cores are asked to make ready; it begins when they are.
    Asked,
    /// It has begun, or failed.
    Done,
}

impl State {
    pub fn rewrite_status(&self) -> Status {
        *lock(&self.rewrite)
    }
    fn rewrite_begins(&self) -> Instant {
        let now = Instant::now();
        self.change_rewrite(|status| (status.since, status.scheduled) = (Some(now), false));
        now
    }
    fn change_rewrite(&self, change: impl FnOnce(&mut Status)) {
        change(&mut lock(&self.rewrite));
    }
}

impl Files {
    /// The next base file, a snapshot or commands.
    pub(super) fn next_base(&self, as_commands: bool) -> Entry {
        let last = self.manifest.base.as_ref().map_or(0, |base| base.seq);
        let seq = 1 + last + self.failed_bases;
        let ending = base_ending(as_commands);
        let name = format!("{}.{seq}.base.{ending}", self.name);
        let kind = Kind::Base;
        Entry { name, seq, kind }
    }

    /// What the manifest is to tell of with a new base: what was written before its point is given up, all that is of an earlier generation than `cut`.
    pub(super) fn with_base(&self, base: &Entry, cut: u64) -> Manifest {
        let first = self.first_seqs.get(&cut).copied().unwrap_or(u64::MAX);
        let incremental = self.manifest.incremental.iter().cloned();
        let (old, new): (Vec<Entry>, Vec<Entry>) = incremental.partition(|entry| entry.seq < first);
        let old = old.into_iter().chain(self.manifest.base.clone());
        let history = old.map(|entry| Entry {
            kind: Kind::History,
            ..entry
        });
        Manifest {
            base: Some(base.clone()),
            history: history.chain(self.manifest.history.clone()).collect(),
            incremental: new,
        }
    }
    /// The manifest on disk tells of the base, or perhaps not. What is known of the files changes only now: a full disk must not make them forgotten.
    pub(super) fn base_written(&mut self, base: &Base, written: &Result<()>) {
        if written.is_err() {
            // It may be there all the same, with files that are read behind this base: no other one may get the name.
            self.failed_bases += 1;
            return;
        }
        self.failed_bases = 0;
        self.is_announced = true;
        // Files may have been made meanwhile.
        self.manifest = self.with_base(&base.entry, base.cut);
        self.cut = base.cut;
        self.first_seqs
            .retain(|generation, _| *generation >= base.cut);
        self.rest = base.size;
        self.rewritten_size = self.size();
    }
    /// For a log that nobody writes.
    fn take_base(&mut self, base: &Base) -> Result<()> {
        let manifest = self.with_base(&base.entry, base.cut);
        let written = self.write_manifest(&manifest);
        self.base_written(base, &written);
        written?;
        if !self.keeps_history {
            let (gone, written) = self.waste().remove();
            self.forget(&gone, written);
        }
        Ok(())
    }

    /// What is given up, and may be deleted.
    pub(super) fn waste(&self) -> Waste {
        Waste {
            disk: self.disk.clone(),
            dir: self.dir.clone(),
            path: self.manifest_path(),
            manifest: self.settled_part(&self.manifest),
        }
    }
    /// What cannot be deleted stays named history, until the next rewrite.
    pub(super) fn forget(&mut self, gone: &[Entry], written: Result<()>) {
        self.manifest.history.retain(|entry| !gone.contains(entry));
        if let Err(error) = written {
            // It names history that is gone, which nobody misses; the next one does not.
            tracing::warn!("Error writing the manifest of the append-only file: {error}");
        }
    }

    /// The log ends before it had a base: no manifest tells of its files.
    fn remove_unannounced(&self) {
        let Some(first) = self
            .first_seqs
            .values()
            .min()
            // One that could not be written to the end may be there all the same.
            .filter(|_| !self.is_announced && self.failed_bases == 0)
        else {
            return;
        };
        for entry in self.manifest.incremental.iter().filter(|e| e.seq >= *first) {
            tracing::info!("Removing the temp incr aof file {}", entry.name);
            self.delete(entry);
        }
    }

    /// Deletes a file. False if it may still be there.
    pub(super) fn delete(&self, entry: &Entry) -> bool {
        delete(&self.disk, &self.dir.join(&entry.name))
    }
}

fn delete(disk: &Disk, path: &Path) -> bool {
    match disk.remove(path) {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => {
            tracing::warn!("Error deleting {}: {error}", path.display());
            false
        }
    }
}

/// The manifest's history.
pub(super) struct Waste {
    disk: Disk,
    dir: PathBuf,
    path: PathBuf,
    manifest: Manifest,
}

impl Waste {
    /// Deletes it: what is gone, and whether the manifest could be made not to name it.
    pub(super) fn remove(mut self) -> (Vec<Entry>, Result<()>) {
        let history = std::mem::take(&mut self.manifest.history);
        let is_gone = |entry: &Entry| delete(&self.disk, &self.dir.join(&entry.name));
        let (gone, left) = history.into_iter().partition(is_gone);
        self.manifest.history = left;
        let text = self.manifest.to_text();
        let written = crate::files::replace_on(&self.disk, &self.path, text.as_bytes());
        (gone, written)
    }
}

impl State {
    /// Where the new base goes.
    fn prepare_base(&self, why: Why, config: &Config, cores: u16) -> Result<PathBuf> {
        let as_commands = !config.aof_use_rdb_preamble;
        let path = |files: &Files| files.dir.join(files.next_base(as_commands).name);
        if let Some(files) = &*self.files() {
            return Ok(path(files));
        }
        let files = Files::anew(&self.disk, config, cores)?;
        let path = path(&files);
        if why == Why::Begin {
            self.start(files)?;
        }
        Ok(path)
    }
    /// The manifest comes to tell of a base that was written there.
    fn give_up_old_files(
        &self,
        why: Why,
        path: &Path,
        as_commands: bool,
        config: &Config,
        cores: u16,
    ) -> std::result::Result<(), Failure> {
        let size = self.disk.size(path)?;
        if why == Why::Once {
            let mut files = Files::anew(&self.disk, config, cores)?;
            let (entry, cut) = (files.next_base(as_commands), u64::MAX);
            return Ok(files.take_base(&Base { entry, cut, size })?);
        }
        let cut = self.cut.load(Acquire);
        let settled = self.settle_base(|files| {
            files.keeps_history = config.aof_disable_auto_gc;
            let entry = files.next_base(as_commands);
            Base { entry, cut, size }
        });
        Ok(settled?)
    }

    /// Deletes what is given up, but for what `aof-disable-auto-gc` keeps. Only for who has the turn.
    pub(super) fn remove_waste(&self) {
        let waste = |files: &Files| (!files.keeps_history).then(|| files.waste());
        let Some(waste) = self.files().as_ref().and_then(waste) else {
            return;
        };
        if waste.manifest.history.is_empty() {
            return;
        }
        let (gone, written) = waste.remove();
        if let Some(files) = self.files().as_mut() {
            files.forget(&gone, written);
        }
    }
}

impl Core {
    /// Begins BGREWRITEAOF.
    pub(crate) fn rewrite_log(&mut self) -> std::result::Result<(), Busy> {
        if self.shared.aof.switching.swap(true, AcqRel) {
            return Err(Busy::With(Purpose::AofBase));
        }
        let begun = self.begin_rewrite();
        if !matches!(begun, Ok(Step::Asked)) {
            self.shared.aof.switching.store(false, Release);
        }
        begun.map(|_| ())
    }
    fn begin_rewrite(&mut self) -> std::result::Result<Step, Busy> {
        let aof = &self.shared.aof;
        let why = match (aof.is_on(), self.config.appendonly) {
            (true, _) => Why::Shorter,
            (false, true) => Why::Begin,
            (false, false) => Why::Once,
        };
        if let Some(running) = self
            .shared
            .persistence
            .running()
            .filter(|s| !s.is_cancelled())
        {
            return Err(Busy::With(running.purpose));
        }
        if why == Why::Begin {
            let since = aof.rewrite_begins();
            let (config, cores) = (self.config.clone(), self.cores() as u16);
            self.send_errand(move |aof| {
                let prepared = aof.prepare_base(why, &config, cores);
                Box::new(move |core| core.begin_log(since, prepared))
            });
            return Ok(Step::Asked);
        }
        let prepared = aof.prepare_base(why, &self.config, self.cores() as u16);
        let Some(path) = self.prepared_base(prepared) else {
            return Ok(Step::Done);
        };
        let claim = self.claim_snapshot(Purpose::AofBase, path)?;
        let since = self.shared.aof.rewrite_begins();
        tracing::info!("Background append only file rewriting started");
        self.begin_base(why, since, claim);
        Ok(Step::Done)
    }
    /// The log begins with a base, for which there are files now.
    fn begin_log(&mut self, since: Instant, prepared: Result<PathBuf>) {
        let path = self.prepared_base(prepared);
        let claim = path.map(|path| self.claim_snapshot(Purpose::AofBase, path));
        let Some(Ok(claim)) = claim else {
            let was_busy = claim.is_some();
            self.shared.aof.change_rewrite(|status| {
                (status.since, status.scheduled) = (None, was_busy);
            });
            return self.send_errand(|aof| {
                drop(aof.end());
                aof.switching.store(false, Release);
                Box::new(|_| {})
            });
        };
        tracing::info!("Background append only file rewriting started");
        let ask = |core: &mut Core| {
            core.log_comes_near();
            Vec::new()
        };
        let conclude = move |core: &mut Core, _: Ticket, _: Vec<Vec<u8>>| {
            core.begin_base(Why::Begin, since, claim);
            core.shared.aof.switching.store(false, Release);
        };
        self.ask_all(Ticket::NOBODY, Arc::new(ask), Box::new(conclude));
    }
    fn begin_base(&mut self, why: Why, since: Instant, claim: Claim) {
        let at_cut = move |core: &mut Core| match why {
            Why::Shorter => core.begin_next_file(),
            Why::Begin => {
                core.start_logging();
                core.note_cut();
            }
            Why::Once => {}
        };
        let began = Began {
            since,
            spoils: self.shared.aof.spoils.load(Acquire),
        };
        let then = move |core: &mut Core, snapshot: &Snapshot, outcome: Outcome| {
            core.base_written(why, began, snapshot, outcome);
        };
        self.begin_snapshot(claim, at_cut, |_| {}, then);
    }
    fn prepared_base(&mut self, prepared: Result<PathBuf>) -> Option<PathBuf> {
        if let Err(error) = &prepared {
            tracing::warn!("Can't open the append-only file: {error}");
            self.rewrite_failed();
        }
        prepared.ok()
    }

    fn base_written(&mut self, why: Why, began: Began, snapshot: &Snapshot, outcome: Outcome) {
        let (path, as_commands) = (snapshot.path.clone(), snapshot.as_commands);
        let (config, cores) = (self.config.clone(), self.cores() as u16);
        // Meanwhile no other one begins, and the log does not end.
        let alone = !self.shared.aof.switching.swap(true, AcqRel);
        let work = move |aof: &State| -> After {
            let given_up = match outcome {
                Ok(_) => aof.give_up_old_files(why, &path, as_commands, &config, cores),
                Err(failure) => {
                    // The files of its point stay. What goes wrong is in the log and in the clients' errors.
                    let _ = aof.settle();
                    Err(failure)
                }
            };
            Box::new(move |core: &mut Core| {
                if alone {
                    core.shared.aof.switching.store(false, Release);
                }
                core.base_settled(why, began, given_up);
            })
        };
        match alone {
            true => self.send_errand(work),
            // The log ends: who sees to that does not wait.
            false => work(&self.shared.aof)(self),
        }
    }
    fn base_settled(&mut self, why: Why, began: Began, written: std::result::Result<(), Failure>) {
        let aof = &self.shared.aof;
        aof.change_rewrite(|status| {
            // The next may have begun.
            status.since = status.since.filter(|since| *since != began.since);
            status.last_seconds = began.since.elapsed().as_secs() as i64;
        });
        match written {
            Ok(()) => {
                aof.mend(began.spoils);
                aof.change_rewrite(|status| {
                    (status.failed, status.failures) = (None, 0);
                    status.count += 1;
                });
                tracing::info!("Background AOF rewrite terminated with success");
                return;
            }
            Err(Failure::Cancelled) => {
                // By who switches the log off, or ends the server.
                tracing::warn!("Background AOF rewrite terminated: nobody wants it any more");
                return;
            }
            Err(failure) => {
                tracing::warn!("Background AOF rewrite terminated with error: {failure}");
                self.rewrite_failed();
            }
        }
        if why == Why::Begin && self.shared.aof.is_on() {
            // Without its base it is no log.
            self.stop_log();
        }
    }
    fn rewrite_failed(&self) {
        let now = self.now.mono_ns;
        self.shared.aof.change_rewrite(|status| {
            (status.failed, status.told) = (Some(now), false);
            status.failures += 1;
        });
    }
    /// The snapshot's point: what comes from here on stands in files that outlive the rewrite.
    fn begin_next_file(&mut self) {
        self.shard.log.mark_cut();
        self.note_cut();
    }
    fn note_cut(&self) {
        let generation = self.log.generation_after(&self.shard.log);
        self.shared.aof.cut.store(generation, Release);
    }

    /// `aof-disable-auto-gc` may have changed: what it kept is deleted.
    pub(crate) fn follow_auto_gc(&mut self) {
        if self.id != 0 || self.config.aof_disable_auto_gc {
            return;
        }
        let aof = &self.shared.aof;
        if !aof
            .files()
            .as_ref()
            .is_some_and(|files| files.keeps_history)
        {
            return;
        }
        // CONFIG SET answers when they are gone, so this core waits.
        let _turn = aof.turn();
        if let Some(files) = aof.files().as_mut() {
            files.keeps_history = false;
        }
        aof.remove_waste();
    }

    /// `appendonly` may have changed.
    pub(crate) fn follow_appendonly(&mut self) {
        let aof = &self.shared.aof;
        if aof.loading.load(Acquire) {
            return;
        }
        let status = aof.rewrite_status();
        match (self.config.appendonly, aof.is_on()) {
            (true, false) if status.rests(self.now.mono_ns) => {}
            (true, false) => match self.rewrite_log() {
                Ok(()) => {}
                Err(_) => self.schedule_rewrite(),
            },
            (false, true) => self.stop_log(),
            _ => {}
        }
    }

    fn stop_log(&mut self) {
        if self.shared.aof.switching.swap(true, AcqRel) {
            // It is tried again by and by.
            return;
        }
        if self.shared.persistence.runs(Purpose::AofBase) {
            tracing::info!("Killing the running AOF rewrite (no child: its snapshot is given up)");
            self.cancel_snapshot();
        }
        let ask = |core: &mut Core| {
            core.stop_logging();
            Vec::new()
        };
        let conclude = |core: &mut Core, _: Ticket, _: Vec<Vec<u8>>| {
            let _off = core.shared.aof.end();
            // Whoever sees that the log is off may switch it on.
            core.shared.aof.switching.store(false, Release);
        };
        self.visit_all(Ticket::NOBODY, Arc::new(ask), Box::new(conclude));
    }

    /// Ten times a second, on one core: is there something to rewrite?
    pub(crate) fn log_cron(&mut self) {
        if self.id != 0 || self.loading {
            return;
        }
        self.follow_appendonly();
        let (aof, config) = (&self.shared.aof, &self.config);
        let status = aof.rewrite_status();
        if self.shared.persistence.running().is_some() || status.since.is_some() {
            return;
        }
        let mut wanted = status.scheduled;
        if aof.sync_failed.load(Acquire) && !status.failed_within(self.now.mono_ns, MEND) {
            tracing::info!("Rewriting the AOF, since a sync failed");
            wanted = true;
        }
        let percentage = u64::from(config.auto_aof_rewrite_percentage);
        let by_itself = percentage > 0 && !status.rests(self.now.mono_ns);
        if let Some((size, base)) = aof.sizes()
            && percentage > 0
            && size > config.auto_aof_rewrite_min_size
        {
            let growth = (size * 100 / base.max(1)).saturating_sub(100);
            if growth >= percentage && by_itself {
                tracing::info!("Starting automatic rewriting of AOF on {growth}% growth");
                wanted = true;
            } else if growth >= percentage && !status.told {
                tracing::warn!(
                    "Background AOF rewrite has repeatedly failed and triggered the limit, it is tried again after a minute"
                );
                aof.change_rewrite(|status| status.told = true);
            }
        }
        let files = aof
            .files()
            .as_ref()
            .map_or(0, |f| f.manifest.incremental.len());
        if by_itself && files > FILES_MAX * self.cores() {
            tracing::info!("Starting automatic rewriting of AOF of {files} files");
            wanted = true;
        }
        if wanted && self.rewrite_log().is_err() {
            self.schedule_rewrite();
        }
    }

    /// BGREWRITEAOF has to wait for a snapshot.
    pub(crate) fn schedule_rewrite(&self) {
        self.shared
            .aof
            .change_rewrite(|status| status.scheduled = true);
    }
}

impl State {
    /// The log is off; nobody sees that before the guard goes.
    fn end(&self) -> MutexGuard<'_, Option<Files>> {
        let _turn = self.turn();
        let mut files = self.files();
        if let Some(old) = files.take() {
            old.remove_unannounced();
        }
        self.sync_failed.store(false, Relaxed);
        self.unsettled.store(false, Relaxed);
        files
    }
}

/// What a base file's name ends with, as Redis names them.
pub(super) fn base_ending(as_commands: bool) -> &'static str {
    match as_commands {
        true => "aof",
        false => "rdb",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Faults, SimDisk};

    fn base(entry: Entry, cut: u64) -> Base {
        let size = 0;
        Base { entry, cut, size }
    }

    /// A manifest gets its name though the sync behind it fails: then no other base may get the name of the one in it.
    #[test]
    fn a_base_that_a_manifest_may_name_is_not_written_again() {
        let disk = SimDisk::new(1);
        let config = Config {
            appenddirname: b"/disk/log".as_slice().into(),
            ..Config::default()
        };
        let on = Disk::Simulated(disk.clone());
        let mut files = Files::new(&on, &config, 2, Manifest::default(), 0).unwrap();
        files.begin_generation(&[]).unwrap();
        let first = files.next_base(false);
        disk.set_faults(Faults {
            sync_fails: true,
            ..Faults::default()
        });
        assert!(files.take_base(&base(first.clone(), 1)).is_err());
        disk.set_faults(Faults::default());
        let second = files.next_base(false);
        assert_ne!(second.name, first.name);
        files.take_base(&base(second.clone(), 1)).unwrap();
        assert_eq!(files.manifest.base, Some(second.clone()));
        assert_eq!(files.next_base(true).seq, second.seq + 1);
    }

    /// A disk that is full when the base is announced: the next manifest still tells of all files.
    #[test]
    fn files_are_not_forgotten_when_the_manifest_cannot_be_written() {
        let name = format!("ringwood-aof-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let log = dir.join("log").to_str().unwrap().to_owned();
        // An absolute path, so that it does not count from where the tests run.
        let config = Config {
            appenddirname: log.as_bytes().into(),
            ..Config::default()
        };
        let mut files = Files::new(&Disk::Real, &config, 2, Manifest::default(), 0).unwrap();
        files.begin_generation(&[]).unwrap();
        files.begin_generation(&[]).unwrap();
        let known = files.manifest.clone();
        assert_eq!(known.incremental.len(), 4);
        std::fs::rename(&files.dir, dir.join("gone")).unwrap();
        assert!(files.take_base(&base(files.next_base(false), 2)).is_err());
        assert_eq!(files.manifest, known);
        std::fs::rename(dir.join("gone"), &files.dir).unwrap();
        files.take_base(&base(files.next_base(false), 2)).unwrap();
        let seqs: Vec<u64> = files.manifest.incremental.iter().map(|e| e.seq).collect();
        assert_eq!(seqs, [3, 4]);
        assert!(files.manifest.history.is_empty());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
