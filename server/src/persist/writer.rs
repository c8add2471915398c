//! The thread that writes snapshot files, one after the other.
//!
//! Cores send runs of whole entries, which go into the file as they come. A large entry comes in pieces, with other cores' runs between them: its
//! pieces go into a file beside, which is appended when it is whole. The file gets its name when all of it is on disk; whatever fails, the file
//! of before stays.
//!
//! The version stands first and is known last: the checksum of head and rest are combined.
//!
//! A log's base may be wanted as commands (`aof-use-rdb-preamble no`): then what comes is rewritten here, entry by entry.

use super::snapshot::{Failure, Purpose, Snapshot};
use crate::disk::{Disk, DiskFile};
use crossbeam_channel::{Receiver, Sender};
use ringwood_shard::rdb::commands::Commands;
use ringwood_shard::rdb::snapshot::{self, Checksum, Written};
use std::collections::{HashMap, VecDeque};
use std::io::{BufWriter, Read, Result, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What cores send.
pub enum Message {
    /// Whole entries.
    Run(Vec<u8>),
    /// Some of this core's large entry.
    Piece {
        core: usize,
        bytes: Vec<u8>,
        last: bool,
    },
    /// A core has sent all that it has.
    Done(Written),
    /// Nobody wants it any more.
    Cancel,
}

/// A file to be written.
pub struct Job {
    pub snapshot: Arc<Snapshot>,
    pub messages: Receiver<Message>,
    /// What becomes of the result.
    pub tell: Box<dyn FnOnce(std::result::Result<Written, Failure>) + Send>,
}

/// After so many bytes `rdb-save-incremental-fsync` has them written to the disk, so that there is not too much to write at the end.
const SYNC_EVERY: u64 = 4 << 20;
/// A large entry is copied into its place in pieces of this size.
const COPY: usize = 1 << 20;

impl super::State {
    /// Starts the thread, if it does not run yet. It may use all CPUs if a thread begins it that may.
    pub fn start_writer(&self) -> Sender<Job> {
        let start = || {
            let (sender, jobs) = crossbeam_channel::unbounded::<Job>();
            let turn = self.writers_turn.clone();
            let run = move || {
                turn.begin();
                jobs.iter().for_each(run);
            };
            let thread = std::thread::Builder::new().name("snapshot".into());
            if let Err(error) = thread.spawn(run) {
                // The channel is closed then, and every snapshot fails.
                tracing::warn!("Cannot start the thread that writes snapshots: {error}");
            }
            sender
        };
        self.writer.get_or_init(start).clone()
    }
    /// Instead of the thread: who has this writes the files.
    pub fn simulate_writer(&self) -> Receiver<Job> {
        let (sender, jobs) = crossbeam_channel::unbounded();
        let first = self.writer.set(sender);
        assert!(first.is_ok(), "the simulation begins before the thread");
        jobs
    }
}

fn run(job: Job) {
    match job.snapshot.purpose {
        Purpose::Save => job.snapshot.writers_turn.hurry(),
        Purpose::Bgsave | Purpose::AofBase => job.snapshot.writers_turn.relax(),
    }
    let messages = job.messages.clone();
    finish(job, &mut || messages.recv().ok());
}

/// For the simulation, which has no threads: a file that is written at once when all of it has come.
pub struct Collected {
    job: Job,
    messages: VecDeque<Message>,
    left: usize,
}

impl Collected {
    pub fn new(job: Job) -> Self {
        Self {
            left: job.snapshot.cores,
            messages: VecDeque::new(),
            job,
        }
    }
    /// True when all has come, or nobody wants it any more.
    pub fn is_whole(&mut self) -> bool {
        while let Ok(message) = self.job.messages.try_recv() {
            self.left -= usize::from(matches!(message, Message::Done(_)));
            self.messages.push_back(message);
        }
        self.left == 0 || self.job.snapshot.is_cancelled()
    }
    pub fn write(mut self) {
        finish(self.job, &mut || self.messages.pop_front());
    }
}

fn finish(job: Job, next: &mut dyn FnMut() -> Option<Message>) {
    let snapshot = &*job.snapshot;
    let result = match write(snapshot, next) {
        // Too late: it has its name.
        Ok(written) => Ok(written),
        Err(error) => Err(snapshot.stopped().unwrap_or(error)),
    };
    snapshot.end();
    (job.tell)(result);
}

fn write(
    snapshot: &Snapshot,
    next: &mut dyn FnMut() -> Option<Message>,
) -> std::result::Result<Written, Failure> {
    if let Some(why) = snapshot.stopped() {
        return Err(why);
    }
    let mut target = Target::create(snapshot)?;
    let mut beside = HashMap::new();
    let mut written = Written::default();
    let mut left = snapshot.cores;
    while left > 0 {
        let message = next().ok_or(Failure::Cancelled)?;
        if let Some(why) = snapshot.stopped() {
            return Err(why);
        }
        match message {
            Message::Run(bytes) => {
                target.entries(&bytes)?;
                snapshot.wrote(bytes.len());
            }
            Message::Piece { core, bytes, last } => {
                let file = match beside.remove(&core) {
                    Some(file) => file,
                    None => Beside::create(&snapshot.disk, &snapshot.temporary, core)?,
                };
                beside.insert(core, file);
                let file = beside.get_mut(&core).expect("put there just now");
                file.file.write_all(&bytes)?;
                snapshot.wrote(bytes.len());
                drop(bytes);
                if last {
                    file.append_to(&mut target)?;
                    beside.remove(&core);
                }
            }
            Message::Done(part) => {
                left -= 1;
                written.keys += part.keys;
                written.version = written.version.max(part.version);
            }
            Message::Cancel => return Err(Failure::Cancelled),
        }
    }
    // Now somebody waits for it alone.
    snapshot.writers_turn.hurry();
    target.finish(written.version)?;
    Ok(written)
}

/// The file under its temporary name. It goes with this, unless it got its name.
struct Target<'s> {
    snapshot: &'s Snapshot,
    file: DiskFile,
    checksum: Checksum,
    unsynced: u64,
    /// It is made of commands.
    commands: Option<Commands>,
}

impl<'s> Target<'s> {
    fn create(snapshot: &'s Snapshot) -> Result<Self> {
        let mut target = Self {
            snapshot,
            file: snapshot.disk.create(&snapshot.temporary)?,
            checksum: Checksum::default(),
            unsynced: 0,
            commands: snapshot.as_commands.then(Commands::default),
        };
        if target.commands.is_none() {
            // What is written of it goes on behind the version.
            let (version, rest) = snapshot.head.split_at(snapshot::magic(0).len());
            target.file.write_all(version)?;
            target.put(rest)?;
        } else {
            target.put(&snapshot.head)?;
        }
        Ok(target)
    }
    /// Takes whole entries.
    fn entries(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(mut commands) = self.commands.take() else {
            return self.put(bytes);
        };
        let mut out = BufWriter::with_capacity(COPY, &mut *self);
        let written = commands.write(bytes, &mut out).and_then(|()| out.flush());
        drop(out);
        self.commands = Some(commands);
        written
    }
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.checksum.add(bytes);
        self.file.write_all(bytes)?;
        self.unsynced += bytes.len() as u64;
        if self.snapshot.incremental_fsync && self.unsynced >= SYNC_EVERY {
            self.unsynced = 0;
            self.file.sync_data()?;
        }
        Ok(())
    }
    /// Ends the file and gives it its name.
    fn finish(mut self, version: u16) -> Result<()> {
        if self.commands.is_none() {
            self.put(&[snapshot::END])?;
            let checksum = match self.snapshot.with_checksum {
                true => self.checksum.of_file(version),
                false => 0,
            };
            self.file.write_all(&checksum.to_le_bytes())?;
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&snapshot::magic(version))?;
        }
        self.file.sync_all()?;
        if self.snapshot.is_cancelled() {
            return Err(std::io::Error::other("cancelled"));
        }
        let Snapshot {
            disk,
            temporary,
            path,
            ..
        } = self.snapshot;
        disk.rename(temporary, path)?;
        disk.sync_folder_of(path)
    }
}

impl Write for Target<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.put(bytes).map(|()| bytes.len())
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Drop for Target<'_> {
    fn drop(&mut self) {
        self.snapshot.remove_temporary();
    }
}

/// A large entry on its way.
struct Beside {
    disk: Disk,
    file: DiskFile,
    path: PathBuf,
}

impl Beside {
    fn create(disk: &Disk, temporary: &Path, core: usize) -> Result<Self> {
        let path = temporary.with_extension(format!("{core}.part"));
        let file = disk.create(&path)?;
        let disk = disk.clone();
        Ok(Self { disk, file, path })
    }
    fn append_to(&mut self, target: &mut Target<'_>) -> Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        if target.commands.is_some() {
            // Its length stands at its beginning, but what it is made of may be cut anywhere.
            let mut whole = Vec::new();
            self.file.read_to_end(&mut whole)?;
            return target.entries(&whole);
        }
        let mut bytes = Vec::with_capacity(COPY);
        loop {
            bytes.clear();
            let piece = (&mut self.file).take(COPY as u64);
            if { piece }.read_to_end(&mut bytes)? == 0 {
                return Ok(());
            }
            target.put(&bytes)?;
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Err(error) = self.disk.remove(&self.path) {
            tracing::warn!("Cannot remove {}: {error}", self.path.display());
        }
    }
}
