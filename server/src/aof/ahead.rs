//! New files without waiting for the disk. With `always` the manifest tells of a generation before anybody writes into it, and what was left is on
//! disk: a thread sees to that ([`State::prepare_generation`]), and what cores note waits in memory, as do its replies. Otherwise cores go *ahead*: the first makes the files and all write on at once, so what they acknowledge is in the system's
//! hands. A thread *settles* that behind them: it syncs what was left and what is new, then the manifest, in this order.
//!
//! - The process is killed before that: the next start finds the files behind the last that the manifest names, by their names and heads,
//!   and adopts them ([`adopt`]). Their heads say who made them, and since when the machine runs ([`life`]).
//! - The machine fails before that: it has started anew since, so they are passed over. What was left may have lost its end, on which they build.
//! - A core that comes to a generation which is being settled, or is, syncs what it leaves before it goes on, for nobody else will.
//! - Nothing in a file counts as being on disk before the file is settled. Who needs that (the end of the log, `always`, WAITAOF) settles or waits.

use super::manifest::{Entry, Kind, Manifest};
use super::parts::{self, FileHead, Line};
use super::scan::{Found, Scanner};
use super::{Files, LogFile, State, is_off};
use crate::commands::lock;
use crate::disk::Disk;
use std::io::{BufReader, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, MutexGuard};

/// So many generations may be made ahead of the disk: who sends nothing but FLUSHALL waits for it after all.
const AHEAD_MAX: u64 = 64;

const LINE: &str = "#RW:life ";

/// Whose files these are: when the machine started, and a number. `None` where nobody could tell whether they are whole.
pub(super) fn life(disk: &Disk) -> Option<String> {
    Some(format!("{} {:016x}", disk.boot()?, disk.unique()))
}
/// `rest`: bytes of the head behind this line.
pub(super) fn life_line(life: &str, rest: usize) -> String {
    format!("{LINE}{life} {rest}\r\n")
}

/// How a core goes on in its next file.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// With `always`.
    pub strict: bool,
    /// Nothing of a generation may be on disk without what was before it. A file that a failing machine cut short would otherwise lack changes on
    /// which those in the next one build.
    pub ordered: bool,
}

/// What is to be settled.
struct Settlement {
    disk: Disk,
    dir: PathBuf,
    path: PathBuf,
    generation: u64,
    left: Vec<Arc<LogFile>>,
    new: Vec<Arc<LogFile>>,
    /// How far the new files went before they were synced.
    written: Vec<u64>,
    manifest: Manifest,
    last_seq: u64,
    given_up: Vec<Entry>,
}

impl Settlement {
    fn files(&self) -> impl Iterator<Item = &Arc<LogFile>> {
        self.left.iter().chain(&self.new)
    }
    fn spoiled(&self) -> usize {
        let files = self.files();
        files.filter(|file| file.spoiled.load(Relaxed)).count()
    }
    /// All but the manifest. A file whose sync fails keeps it from ever succeeding: what it lacks no later sync brings. Then only a
    /// new base helps, for which the file does not matter.
    fn sync(&self) -> Result<()> {
        let files: Vec<_> = self.files().collect();
        self.disk
            .at_once(files.len(), |at| files[at].sync_in_order())?;
        // A manifest must not be there after a crash without the files that it names.
        self.disk.sync_folder(&self.dir)
    }
    fn carry_out(&self) -> Result<()> {
        self.sync()?;
        crate::files::replace_on(&self.disk, &self.path, self.manifest.to_text().as_bytes())
    }
}

impl Files {
    fn may_go_ahead(&self) -> bool {
        // What is adopted follows a file of ours that the manifest names, and a base that lacks it.
        let last = self.manifest.incremental.last();
        self.is_announced
            && self.life.is_some()
            && last.is_some_and(|entry| entry.seq == self.last_made)
            && self.generation + 1 >= self.cut
            && self.generation >= self.coming_cut
            && self.generation - self.settled < AHEAD_MAX
    }
    pub(super) fn is_settled(&self) -> bool {
        self.settled == self.generation
    }
    /// What of the manifest may be on disk.
    pub(super) fn settled_part(&self, manifest: &Manifest) -> Manifest {
        let mut part = manifest.clone();
        part.incremental
            .retain(|entry| entry.seq <= self.settled_seq);
        part
    }
    /// Of generations from `from` on.
    fn settlement(&mut self, from: u64) -> Option<Settlement> {
        if self.is_settled() {
            return None;
        }
        self.settling = self.generation;
        let files = self.open.iter().filter(|file| file.generation >= from);
        let (mut left, new): (Vec<_>, Vec<_>) = files.cloned().partition(|f| f.is_settled());
        if !std::mem::take(&mut self.is_ordered) {
            left.clear();
        }
        let written = new.iter().map(|file| file.written.load(Acquire));
        Some(Settlement {
            written: written.collect(),
            disk: self.disk.clone(),
            dir: self.dir.clone(),
            path: self.manifest_path(),
            generation: self.generation,
            left,
            new,
            manifest: self.manifest.clone(),
            last_seq: self.manifest.last_seq(),
            given_up: std::mem::take(&mut self.given_up),
        })
    }
    fn end_settlement(&mut self, settlement: Settlement, succeeded: bool) {
        if !succeeded {
            self.is_ordered |= !settlement.left.is_empty();
            self.given_up.extend(settlement.given_up);
            return;
        }
        self.settled = settlement.generation;
        self.settled_seq = settlement.last_seq;
        for (file, written) in settlement.new.iter().zip(&settlement.written) {
            file.settled.store(true, Release);
            file.synced.fetch_max(*written, Release);
        }
        self.delete_unnamed(&self.manifest, settlement.given_up);
    }
}

/// A snapshot that becomes the base.
pub(super) struct Base {
    pub entry: Entry,
    /// The generation with which what it lacks begins.
    pub cut: u64,
    pub size: u64,
}

impl State {
    /// The manifest tells of a new base: it, which all before `cut` is in, and what follows.
    pub(super) fn settle_base(&self, prepare: impl Fn(&mut Files) -> Base) -> Result<()> {
        let _turn = self.turn();
        loop {
            let mut files = self.files();
            let known = files.as_mut().ok_or_else(is_off)?;
            let cut = prepare(known).cut;
            let settlement = known.settlement(cut);
            drop(files);
            let synced = settlement.as_ref().map_or(Ok(()), |settlement| {
                self.note_failure(settlement, Settlement::sync)
            });
            let mut files = self.files();
            let known = files.as_mut().ok_or_else(is_off)?;
            if let Err(error) = synced {
                if let Some(settlement) = settlement {
                    known.end_settlement(settlement, false);
                }
                return Err(error);
            }
            let generation = settlement.as_ref().map_or(known.settled, |s| s.generation);
            // Without its first files the base would stand alone: nobody could adopt what follows.
            if generation < cut && cut <= known.generation {
                if let Some(settlement) = settlement {
                    known.end_settlement(settlement, false);
                }
                continue;
            }
            let base = prepare(known);
            drop(files);
            return self.announce_base(&base, settlement);
        }
    }
    /// What follows the base is synced.
    fn announce_base(&self, base: &Base, settlement: Option<Settlement>) -> Result<()> {
        let mut files = self.files();
        let known = files.as_mut().ok_or_else(is_off)?;
        let last = settlement
            .as_ref()
            .map_or(known.settled_seq, |s| s.last_seq);
        let mut manifest = known.with_base(&base.entry, base.cut);
        manifest.incremental.retain(|entry| entry.seq <= last);
        known.coming_cut = base.cut;
        let path = known.manifest_path();
        drop(files);
        let written = crate::files::replace_on(&self.disk, &path, manifest.to_text().as_bytes());
        let mut files = self.files();
        let known = files.as_mut().ok_or_else(is_off)?;
        known.coming_cut = 0;
        known.base_written(base, &written);
        if written.is_ok() {
            // What they lack the base has.
            for file in known.open.iter().filter(|f| f.generation < base.cut) {
                file.take_spoiled();
                file.settled.store(true, Release);
            }
        }
        if let Some(settlement) = settlement {
            known.end_settlement(settlement, written.is_ok());
        }
        drop(files);
        written?;
        self.remove_waste();
        Ok(())
    }
    /// What fails is told to all, once for each file.
    fn note_failure(
        &self,
        settlement: &Settlement,
        work: impl Fn(&Settlement) -> Result<()>,
    ) -> Result<()> {
        let spoiled = settlement.spoiled();
        let done = work(settlement);
        if let Err(error) = &done {
            tracing::warn!("Error going on in new files of the append-only file: {error}");
            *lock(&self.error) = super::log::cause(error);
            if settlement.spoiled() > spoiled {
                self.spoil();
            }
        }
        done
    }

    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.turn)
    }

    /// The file in which a core goes on from `old`. The first core that comes makes the generation, with `global` before all else.
    pub(super) fn next_file(
        &self,
        generation: u64,
        core: u16,
        global: &[u8],
        old: Option<&Arc<LogFile>>,
        way: Way,
    ) -> Result<Arc<LogFile>> {
        let mut old = old.filter(|_| way.ordered);
        loop {
            let mut files = self.files();
            let known = files.as_mut().ok_or_else(is_off)?;
            let is_new = known.generation < generation;
            let must_wait = way.strict || is_new && !known.may_go_ahead();
            if (must_wait || known.settling >= generation)
                && let Some(file) = old.take()
            {
                drop(files);
                file.sync_in_order()?;
                continue;
            }
            if must_wait {
                drop(files);
                return self.settled_file(generation, core, global);
            }
            if is_new {
                let made = known.make_files(global, false)?;
                known.add_generation(made);
            }
            known.is_ordered |= way.ordered;
            let file = known.take(generation, core)?;
            if known.ready.is_empty()
                && !known.is_settled()
                && let Some(settler) = self.settler.get()
            {
                // One word is enough.
                let _ = settler.try_send(());
            }
            return Ok(file);
        }
    }
    fn settled_file(&self, generation: u64, core: u16, global: &[u8]) -> Result<Arc<LogFile>> {
        let _turn = self.turn();
        self.settle_generation(generation, global)?;
        self.prepared_file(generation, core)
    }
    /// The manifest comes to tell of this generation; who comes first makes it.
    fn settle_generation(&self, generation: u64, global: &[u8]) -> Result<()> {
        loop {
            self.settle_in_turn()?;
            let mut files = self.files();
            let known = files.as_mut().ok_or_else(is_off)?;
            if known.settled >= generation {
                return Ok(());
            }
            if known.generation >= generation || known.generation > known.settled {
                continue;
            }
            if known.may_go_ahead() {
                // Nobody waits for the disk who only wants to know how things are.
                let made = known.make_files(global, false)?;
                known.add_generation(made);
            } else {
                known.begin_generation(global)?;
            }
        }
    }
    /// With `always`, for a core that does not wait for that itself: what it leaves comes to be on disk, and then the files in which it goes on.
    pub(super) fn prepare_generation(
        &self,
        generation: u64,
        global: &[u8],
        left: &Arc<LogFile>,
    ) -> Result<()> {
        left.sync_in_order()?;
        let _turn = self.turn();
        let is_known = |files: &Files| files.open.iter().any(|file| Arc::ptr_eq(file, left));
        if !self.files().as_ref().is_some_and(is_known) {
            // That log has ended, and the core knows.
            return Ok(());
        }
        self.settle_generation(generation, global)
    }
    pub(super) fn prepared_file(&self, generation: u64, core: u16) -> Result<Arc<LogFile>> {
        let mut files = self.files();
        let known = files.as_mut().ok_or_else(is_off)?;
        known.take(generation, core)
    }

    /// The manifest comes to tell of all files; if it cannot, writes are refused until it does.
    pub fn settle(&self) -> Result<()> {
        let _turn = self.turn();
        self.settle_in_turn()
    }
    pub(super) fn settle_in_turn(&self) -> Result<()> {
        let settlement = self.files().as_mut().and_then(|files| files.settlement(0));
        let Some(settlement) = settlement else {
            self.unsettled.store(false, Relaxed);
            return Ok(());
        };
        let settled = self.note_failure(&settlement, Settlement::carry_out);
        self.unsettled.store(settled.is_err(), Relaxed);
        if let Some(files) = self.files().as_mut() {
            files.end_settlement(settlement, settled.is_ok());
        }
        settled
    }
    /// Before it is said that something in a file is on disk.
    pub(super) fn settle_file(&self, file: &LogFile) -> Result<()> {
        match file.is_settled() {
            true => Ok(()),
            false => self.settle(),
        }
    }
}

/// Files that a server which was killed had made ahead of the disk become part of the manifest. True if there are any.
pub(super) fn adopt(disk: &Disk, dir: &Path, name: &str, manifest: &mut Manifest) -> bool {
    let Some(boot) = disk.boot() else {
        return false;
    };
    let last = manifest.incremental.last();
    let head = last.and_then(|last| read_head(disk, &dir.join(&last.name)));
    let Some((mut head, life)) = head else {
        return false;
    };
    if life.split(' ').next() != Some(&boot) {
        return false;
    }
    let mut is_any = false;
    loop {
        head.generation += 1;
        let first = manifest.next_seq();
        let mut entries = Vec::new();
        for core in 0..head.cores {
            let seq = first + u64::from(core);
            let name = format!("{name}.{seq}.incr.aof");
            let wanted = FileHead { core, ..head };
            if read_head(disk, &dir.join(&name)) != Some((wanted, life.clone())) {
                return is_any;
            }
            let kind = Kind::Incremental;
            entries.push(Entry { name, seq, kind });
        }
        tracing::info!("Taking over {} files that no manifest names", entries.len());
        manifest.incremental.extend(entries);
        is_any = true;
    }
}

/// What the head of a file says, if it is whole.
fn read_head(disk: &Disk, path: &Path) -> Option<(FileHead, String)> {
    let file = disk.open(path).ok()?;
    let size = file.size().ok()?;
    let mut scanner = Scanner::new(BufReader::new(file));
    let mut line = || match scanner.advance() {
        Ok(Found::Annotation) => {
            let line = scanner.raw.strip_suffix(b"\r")?;
            Some((line.to_vec(), scanner.offset))
        }
        _ => None,
    };
    let (first, _) = line()?;
    let Some(Line::File(head)) = parts::read(&first) else {
        return None;
    };
    let (second, offset) = line()?;
    let text = String::from_utf8(second).ok()?;
    let (life, rest) = text.strip_prefix(LINE)?.rsplit_once(' ')?;
    let rest: u64 = rest.parse().ok()?;
    (offset.checked_add(rest)? <= size).then(|| (head, life.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::disk::sim::{Faults, Loss, SimDisk};

    const AHEAD: Way = Way {
        strict: false,
        ordered: true,
    };

    /// A log of two cores on a disk, with the files of the first generation taken.
    fn log(disk: &SimDisk) -> (State, Vec<Arc<LogFile>>) {
        let config = Config {
            appenddirname: b"/disk/log".as_slice().into(),
            ..Config::default()
        };
        let on = Disk::Simulated(disk.clone());
        let state = State::on(on.clone());
        let files = Files::new(&on, &config, 2, Manifest::default(), 0).unwrap();
        state.start(files).unwrap();
        let files = (0..2).map(|core| state.first_file(core).unwrap());
        let files = files.collect();
        (state, files)
    }
    fn manifest(disk: &SimDisk) -> Manifest {
        let on = Disk::Simulated(disk.clone());
        let text = on.read(Path::new("/disk/log/appendonly.aof.manifest"));
        Manifest::parse(&text.unwrap()).unwrap()
    }
    fn adopted(disk: &SimDisk) -> Vec<u64> {
        let mut manifest = manifest(disk);
        let on = Disk::Simulated(disk.clone());
        adopt(&on, Path::new("/disk/log"), "appendonly.aof", &mut manifest);
        manifest.incremental.iter().map(|entry| entry.seq).collect()
    }

    #[test]
    fn what_was_made_ahead_outlives_the_process_and_not_the_machine() {
        for (dies, seqs) in [(false, &[1, 2, 3, 4, 5, 6][..]), (true, &[1, 2])] {
            let disk = SimDisk::new(1);
            let (state, first) = log(&disk);
            for generation in [2, 3] {
                let file = state.next_file(generation, 0, b"FLUSHALL", Some(&first[0]), AHEAD);
                assert!(file.unwrap().is_behind());
            }
            assert_eq!(manifest(&disk).last_seq(), 2, "nobody has waited");
            match dies {
                true => disk.crash(Loss::Torn),
                false => disk.kill(),
            }
            assert_eq!(adopted(&disk), seqs);
        }
    }

    #[test]
    fn what_is_settled_is_on_disk_in_order() {
        let disk = SimDisk::new(1);
        let (state, first) = log(&disk);
        let (left, late) = (&first[0], &first[1]);
        let write = |file: &LogFile| {
            file.file.append(b"*1\r\n$4\r\nPING\r\n").unwrap();
            file.written.fetch_add(14, Relaxed);
        };
        write(left);
        let next = state.next_file(2, 0, b"", Some(left), AHEAD).unwrap();
        write(&next);
        next.sync_in_order().unwrap();
        assert!(next.is_behind(), "the manifest does not tell of it");
        state.settle().unwrap();
        assert!(!left.is_behind() && manifest(&disk).last_seq() == 4);
        next.sync().unwrap();
        assert!(!next.is_behind());
        // Who comes later has nobody who syncs what is left.
        write(late);
        state.next_file(2, 1, b"", Some(late), AHEAD).unwrap();
        assert!(!late.is_behind());
        disk.crash(Loss::Torn);
        assert_eq!(adopted(&disk), [1, 2, 3, 4]);
    }

    /// Simulated disk, seed 44046: the sync after the one that failed brought nothing, and the manifest told of a file without its FLUSHALL.
    #[test]
    fn a_failed_sync_is_not_made_good_by_the_next() {
        let disk = SimDisk::new(1);
        let (state, first) = log(&disk);
        let next = |generation| {
            let file = state.next_file(generation, 0, b"FLUSHALL", Some(&first[0]), AHEAD);
            file.unwrap();
        };
        next(2);
        disk.set_faults(Faults {
            sync_fails: true,
            ..Faults::default()
        });
        assert!(state.settle().is_err());
        disk.set_faults(Faults::default());
        assert!(state.settle().is_err() && state.refuses_writes());
        assert_eq!(manifest(&disk).last_seq(), 2);
        // A base makes up for it.
        next(3);
        let base = |files: &mut Files| Base {
            entry: files.next_base(false),
            cut: 3,
            size: 0,
        };
        state.settle_base(base).unwrap();
        let seqs = manifest(&disk)
            .incremental
            .iter()
            .map(|e| e.seq)
            .collect::<Vec<_>>();
        assert_eq!(seqs, [5, 6]);
        state.settle().unwrap();
    }

    #[test]
    fn a_generation_without_all_of_its_files_is_passed_over() {
        let disk = SimDisk::new(1);
        let (state, first) = log(&disk);
        state
            .next_file(2, 0, b"FLUSHALL", Some(&first[0]), AHEAD)
            .unwrap();
        disk.kill();
        let on = Disk::Simulated(disk.clone());
        let path = Path::new("/disk/log/appendonly.aof.3.incr.aof");
        let len = on.size(path).unwrap();
        on.open_to_change(path).unwrap().set_len(len - 1).unwrap();
        assert_eq!(adopted(&disk), [1, 2], "half a FLUSHALL");
    }
}
