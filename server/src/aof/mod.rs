//! The append-only file: every change, written down so that it outlives the process. Redis's directory and manifest, with commands
//! as Redis writes them; a stock Redis can load it.
//!
//! - The shard gathers what changed (`ringwood_shard::log`), at the end of every turn the core writes it ([`log`]): before any
//!   reply of the turn leaves. With `appendfsync always` replies and mail wait until it is on disk ([`commit`]).
//! - Each core has a file of its own. A key's changes are all in one core's file, so the files can be read one after the other (Redis) or at the
//!   same time (Ringwood). What changes keys in all files (FLUSHALL, SWAPDB) begins a new *generation* of files and stands once, before
//!   all of it; a transaction with such a command inside stands there as a whole. No core waits for the disk on its way there: see [`ahead`].
//! - A transaction over several cores is in each of their files, with copies: see [`parts`].
//! - A snapshot makes it short again: see [`rewrite`].
//! - At the start the files are looked through, then each core is sent the commands of a file as by a client ([`replay`]); [`reload`] does it once more.

pub mod ahead;
pub mod commit;
pub mod errand;
pub mod info;
pub mod log;
pub mod manifest;
pub mod parts;
pub mod reload;
pub mod replay;
pub mod rewrite;
pub mod scan;
pub mod wait;

use crate::config::Config;
use crate::disk::{Disk, DiskFile};
use manifest::{Entry, Kind, Manifest};
use parts::FileHead;
use std::collections::{BTreeMap, HashMap};
use std::io::{Result, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A file that a core writes.
#[derive(Debug)]
pub struct LogFile {
    file: DiskFile,
    generation: u64,
    /// Bytes that are whole commands.
    pub written: AtomicU64,
    /// How many of them are on disk.
    pub synced: AtomicU64,
    /// It is being synced in the background: a write might have to wait for that.
    pub syncing: AtomicBool,
    /// The manifest on disk tells of it, or needs not to.
    settled: AtomicBool,
    /// A sync failed, and nobody has taken that up.
    spoiled: AtomicBool,
    /// One at a time through [`LogFile::file`]: the kernel tells of a failure once only, and each sync has to know.
    turn: Mutex<()>,
    /// The file opened more often, for syncs at the same time.
    seats: [Mutex<Option<DiskFile>>; commit::FLIGHTS],
}

impl LogFile {
    /// `settled`: it is on disk, and the manifest will be.
    fn new(file: DiskFile, generation: u64, written: u64, settled: bool) -> Self {
        Self {
            file,
            generation,
            written: written.into(),
            synced: if settled { written } else { 0 }.into(),
            syncing: AtomicBool::new(false),
            settled: settled.into(),
            spoiled: AtomicBool::new(false),
            turn: Mutex::default(),
            seats: Default::default(),
        }
    }
    pub fn sync(&self) -> Result<()> {
        let written = self.written.load(Ordering::Acquire);
        let _turn = crate::commands::lock(&self.turn);
        self.sync_through(&self.file, written)
    }
    /// The same while others sync. Each `seat` is used by one at a time.
    pub fn sync_beside(&self, seat: usize) -> Result<()> {
        let written = self.written.load(Ordering::Acquire);
        let mut seat = crate::commands::lock(&self.seats[seat]);
        if seat.is_none() {
            *seat = self.file.again().ok();
        }
        match &*seat {
            Some(file) => self.sync_through(file, written),
            None => self.sync(),
        }
    }
    fn sync_through(&self, file: &DiskFile, written: u64) -> Result<()> {
        if self.synced.load(Ordering::Relaxed) < written {
            self.sync_bytes(file)?;
            self.synced.fetch_max(written, Ordering::Release);
        }
        Ok(())
    }
    fn sync_bytes(&self, file: &DiskFile) -> Result<()> {
        if self.spoiled.load(Ordering::Acquire) {
            return Err(std::io::Error::other("an earlier sync failed"));
        }
        let synced = file.sync_data();
        if synced.is_err() {
            self.spoiled.store(true, Ordering::Release);
        }
        synced
    }
    /// The same, but while the manifest does not tell of the file nothing in it counts as being on disk.
    fn sync_in_order(&self) -> Result<()> {
        if self.is_settled() {
            return self.sync();
        }
        let _turn = crate::commands::lock(&self.turn);
        self.sync_bytes(&self.file)
    }
    fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }
    /// Something that was written may not be on disk.
    pub fn is_behind(&self) -> bool {
        self.synced.load(Ordering::Acquire) < self.written.load(Ordering::Relaxed)
    }
    fn take_spoiled(&self) -> bool {
        self.spoiled.swap(false, Ordering::AcqRel)
    }
}

/// Whether a log can be begun at all, for who asks for one.
pub fn try_folder(disk: &Disk, config: &Config) -> Result<()> {
    let dir = config.dir.path().join(config.appenddirname.as_path());
    disk.make_folder(&dir)?;
    let path = dir.join(format!("temp-{}.incr", config.appendfilename));
    disk.create(&path)?;
    disk.remove(&path)
}

/// What all cores know of the log.
#[derive(Default)]
pub struct State {
    /// Where it lies.
    pub disk: Disk,
    /// Who holds it does not wait for the disk for the sake of `everysec`.
    files: Mutex<Option<Files>>,
    /// Who writes the manifest has this, and takes it before `files`.
    turn: Mutex<()>,
    /// To whom settles what cores have made ahead of the disk; in the simulation there is nobody.
    settler: std::sync::OnceLock<crossbeam_channel::Sender<()>>,
    /// That failed.
    unsettled: AtomicBool,
    /// The log is being read: clients are told so.
    pub loading: AtomicBool,
    /// Cores that have not read all of theirs.
    pub readers: AtomicUsize,
    /// It is read once more, by DEBUG LOADAOF: the cores go on with what they were writing.
    pub reloading: AtomicBool,
    /// Cores whose last write failed, and why.
    pub failing: AtomicUsize,
    /// A file lacks what a failed sync was to bring to the disk.
    pub sync_failed: AtomicBool,
    /// How often that happened.
    spoils: AtomicU64,
    pub error: Mutex<String>,
    /// Who syncs for each core; nobody does in the simulation, which has no threads.
    syncers: std::sync::OnceLock<commit::Syncers>,
    /// Writes that waited for the disk because a sync was under way.
    pub delayed: AtomicU64,
    rewrite: Mutex<rewrite::Status>,
    /// Some core is switching the log on or off.
    switching: AtomicBool,
    /// The generation that began at the point of the last rewrite's snapshot.
    cut: AtomicU64,
}

/// The files, and what the manifest says of them.
pub struct Files {
    disk: Disk,
    dir: PathBuf,
    /// `appendfilename`
    name: String,
    cores: u16,
    pub manifest: Manifest,
    /// The newest.
    generation: u64,
    /// The one with which all cores begin.
    first: u64,
    /// Made, and not yet taken by their cores.
    ready: HashMap<(u64, u16), Arc<LogFile>>,
    /// Those that may have to be synced.
    open: Vec<Arc<LogFile>>,
    /// By generation: the number of its first file.
    first_seqs: BTreeMap<u64, u64>,
    /// Bytes of files that are no longer open.
    rest: u64,
    /// Bytes of all files when the log was last short.
    rewritten_size: u64,
    /// The manifest tells of the files. Not before there is a base, if the log did not begin with the server.
    is_announced: bool,
    /// `aof-disable-auto-gc`: files that are given up stay.
    keeps_history: bool,
    /// The last incremental file that was made.
    last_made: u64,
    /// The last of which the manifest on disk tells, and its generation.
    settled_seq: u64,
    settled: u64,
    /// Up to this generation the manifest is to tell, now or soon: who goes on in one of them syncs what he leaves.
    settling: u64,
    /// What is left has to be on disk before the manifest tells of what follows.
    is_ordered: bool,
    /// Who makes these files.
    life: Option<String>,
    /// Files that the manifest on disk may name, and the next one does not: they go when that is there.
    given_up: Vec<Entry>,
    /// The generation with which what the base lacks begins. Cores that could not write may have earlier ones still before them.
    cut: u64,
    /// The same of the base of which the manifest is being made to tell; before that generation is there nobody could adopt what is made ahead of the disk.
    coming_cut: u64,
    /// Bases since the last one of which the manifest could not be made to tell.
    failed_bases: u64,
}

impl State {
    fn files(&self) -> std::sync::MutexGuard<'_, Option<Files>> {
        crate::commands::lock(&self.files)
    }
    pub fn is_on(&self) -> bool {
        self.files().is_some()
    }
    /// Writes are refused: the log cannot be written.
    #[inline]
    pub fn refuses_writes(&self) -> bool {
        self.failing.load(Ordering::Relaxed) > 0
            || self.sync_failed.load(Ordering::Relaxed)
            || self.unsettled.load(Ordering::Relaxed)
    }
    /// On this disk.
    pub fn on(disk: Disk) -> Self {
        Self {
            disk,
            ..Self::default()
        }
    }
    /// The server cannot go on.
    fn exit(&self) -> ! {
        match self.disk {
            Disk::Real => std::process::exit(1),
            Disk::Simulated(_) => std::panic::resume_unwind(Box::new("exit")),
        }
    }
    /// A sync failed.
    fn spoil(&self) {
        self.spoils.fetch_add(1, Ordering::AcqRel);
        self.sync_failed.store(true, Ordering::Release);
    }
    /// There is a new base; a sync may have failed since it began, when there had been so many that did.
    fn mend(&self, spoils: u64) {
        if self.spoils.load(Ordering::Acquire) == spoils {
            self.sync_failed.store(false, Ordering::Release);
        }
    }

    /// The file with which a core begins.
    fn first_file(&self, core: u16) -> Result<Arc<LogFile>> {
        let mut files = self.files();
        let files = files.as_mut().ok_or_else(is_off)?;
        files.take(files.first, core)
    }
    /// Begins to log: the generation that the cores take their first files from.
    pub fn start(&self, mut files: Files) -> Result<()> {
        let _turn = self.turn();
        files.begin_generation(&[])?;
        files.first = files.generation;
        *self.files() = Some(files);
        Ok(())
    }
    /// Bytes of all files, and as many as they were when the log was last short.
    pub fn sizes(&self) -> Option<(u64, u64)> {
        let files = self.files();
        files.as_ref().map(|f| (f.size(), f.rewritten_size))
    }
    /// The manifest tells of a log that goes on: what is in memory stands there.
    pub fn is_announced(&self) -> bool {
        self.files().as_ref().is_some_and(|f| f.is_announced)
    }
    pub fn syncs_under_way(&self) -> usize {
        let files = self.files();
        let open = files.iter().flat_map(|files| &files.open);
        open.filter(|file| file.syncing.load(Ordering::Relaxed))
            .count()
    }
    /// The generation with which cores begin to log, whatever those that began before have done since.
    fn first_generation(&self) -> u64 {
        self.files().as_ref().map_or(0, |files| files.first)
    }
    /// Files that have something to be synced; those that are no longer written are forgotten once that is done.
    pub fn open_files(&self) -> Vec<Arc<LogFile>> {
        let mut files = self.files();
        let Some(files) = files.as_mut() else {
            return Vec::new();
        };
        let mut closed = 0;
        files.open.retain(|file| {
            let written = file.written.load(Ordering::Acquire);
            let is_open =
                Arc::strong_count(file) > 1 || file.synced.load(Ordering::Acquire) < written;
            closed += if is_open { 0 } else { written };
            is_open
        });
        files.rest += closed;
        files.open.clone()
    }
}

fn is_off() -> std::io::Error {
    std::io::Error::other("the log is off")
}

/// Files of a generation that nobody knows yet.
struct Made {
    manifest: Manifest,
    files: Vec<Arc<LogFile>>,
    last: u64,
}

impl Files {
    pub fn new(
        disk: &Disk,
        config: &Config,
        cores: u16,
        manifest: Manifest,
        generation: u64,
    ) -> Result<Self> {
        let dir = config.dir.path().join(config.appenddirname.as_path());
        disk.make_folder(&dir)?;
        Ok(Self {
            disk: disk.clone(),
            last_made: 0,
            settled_seq: manifest.last_seq(),
            settled: generation,
            settling: generation,
            is_ordered: false,
            life: ahead::life(disk),
            given_up: Vec::new(),
            failed_bases: 0,
            cut: 0,
            coming_cut: 0,
            dir,
            name: config.appendfilename.to_string(),
            cores,
            manifest,
            generation,
            first: generation,
            ready: HashMap::new(),
            open: Vec::new(),
            first_seqs: BTreeMap::new(),
            rest: 0,
            rewritten_size: 0,
            is_announced: true,
            keeps_history: config.aof_disable_auto_gc,
        })
    }

    /// For a log that begins while the server runs: what a manifest tells of is given up when the new one has a base.
    fn anew(disk: &Disk, config: &Config, cores: u16) -> Result<Self> {
        let mut files = Self::new(disk, config, cores, Manifest::default(), 0)?;
        let path = files.dir.join(format!("{}.manifest", files.name));
        match disk.read(&path) {
            Ok(text) => match Manifest::parse(&text) {
                Ok(manifest) => {
                    files.settled_seq = manifest.last_seq();
                    files.manifest = manifest;
                }
                Err(broken) => return Err(std::io::Error::other(broken.to_string())),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        files.is_announced = false;
        Ok(files)
    }

    /// Bytes of all files.
    fn size(&self) -> u64 {
        let written = self
            .open
            .iter()
            .map(|file| file.written.load(Ordering::Acquire));
        self.rest + written.sum::<u64>()
    }
    /// The log begins with files of this size.
    fn measure(&mut self) -> Result<()> {
        let entries = self.manifest.base.iter().chain(&self.manifest.incremental);
        let sizes = entries.map(|entry| self.disk.size(&self.dir.join(&entry.name)));
        self.rest = sizes.sum::<Result<u64>>()?;
        self.rewritten_size = self.rest;
        Ok(())
    }

    fn take(&mut self, generation: u64, core: u16) -> Result<Arc<LogFile>> {
        let file = self.ready.remove(&(generation, core));
        file.ok_or_else(|| std::io::Error::other("a core's file of the log is not there"))
    }
    /// Makes the next file of every core, and says so in the manifest before anything is written into them. All before them are settled.
    fn begin_generation(&mut self, global: &[u8]) -> Result<()> {
        let made = self.make_files(global, true)?;
        if self.is_announced {
            // A manifest must not be there after a crash without the files that it names.
            self.disk.sync_folder(&self.dir)?;
            self.write_manifest(&made.manifest)?;
            let given_up = std::mem::take(&mut self.given_up);
            self.delete_unnamed(&made.manifest, given_up);
        }
        self.settled_seq = made.last;
        self.add_generation(made);
        (self.settled, self.settling) = (self.generation, self.generation);
        Ok(())
    }
    /// Makes the next file of every core, on disk if `settled`.
    fn make_files(&self, global: &[u8], settled: bool) -> Result<Made> {
        let generation = self.generation + 1;
        let mut manifest = self.manifest.clone();
        let mut made = Vec::new();
        let mut last = 0;
        for core in 0..self.cores {
            let seq = manifest.next_seq();
            let name = format!("{}.{seq}.incr.aof", self.name);
            let path = self.dir.join(&name);
            let mut file = self.disk.create(&path)?;
            let head = FileHead {
                generation,
                core,
                cores: self.cores,
            };
            let mut rest = Vec::new();
            if core == 0 && !global.is_empty() {
                rest.extend_from_slice(parts::global_line(global.len()).as_bytes());
                rest.extend_from_slice(global);
            }
            let mut bytes = head.to_line().into_bytes();
            if let Some(life) = &self.life {
                bytes.extend_from_slice(ahead::life_line(life, rest.len()).as_bytes());
            }
            bytes.append(&mut rest);
            file.write_all(&bytes)?;
            last = seq;
            made.push(Arc::new(LogFile::new(
                file,
                generation,
                bytes.len() as u64,
                settled,
            )));
            if generation < self.cut {
                // The base has what comes in here: it must not be read behind it.
                let kind = Kind::History;
                manifest.history.push(Entry { name, seq, kind });
            } else {
                let kind = Kind::Incremental;
                manifest.incremental.push(Entry { name, seq, kind });
            }
        }
        let files = made;
        if settled {
            self.disk
                .at_once(files.len(), |at| files[at].file.sync_data())?;
        }
        Ok(Made {
            manifest,
            files,
            last,
        })
    }
    fn add_generation(&mut self, made: Made) {
        self.generation += 1;
        let generation = self.generation;
        self.first_seqs.insert(generation, self.manifest.next_seq());
        (self.manifest, self.last_made) = (made.manifest, made.last);
        for (core, file) in made.files.into_iter().enumerate() {
            self.open.push(file.clone());
            self.ready.insert((generation, core as u16), file);
        }
    }

    /// What stays is passed over: no manifest names it. A name may have been taken again.
    fn delete_unnamed(&self, manifest: &Manifest, given_up: Vec<Entry>) {
        for entry in given_up {
            let named = &manifest.incremental;
            if named.iter().all(|new| new.name != entry.name) {
                self.delete(&entry);
            }
        }
    }

    fn manifest_path(&self) -> PathBuf {
        self.dir.join(format!("{}.manifest", self.name))
    }
    fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        crate::files::replace_on(
            &self.disk,
            &self.manifest_path(),
            manifest.to_text().as_bytes(),
        )
    }
}
