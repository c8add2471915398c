//! The thread that writes snapshot files, one after the other.
//!
//! Cores send runs of whole entries, which go into the file as they come. A large entry comes in pieces, with other cores' runs between them: its
//! pieces go into a file beside, which is appended when it is whole. The file gets its name when all of it is on disk; whatever fails, the file
//! of before stays.
//!
//! The version stands first and is known last: the checksum of head and rest are combined.

use super::snapshot::{Failure, Snapshot};
use crossbeam_channel::{Receiver, Sender};
use ringwood_shard::rdb::snapshot::{self, Checksum, Written};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom, Write};
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
            let run = move || jobs.iter().for_each(run);
            let thread = std::thread::Builder::new().name("snapshot".into());
            if let Err(error) = thread.spawn(run) {
                // The channel is closed then, and every snapshot fails.
                tracing::warn!("Cannot start the thread that writes snapshots: {error}");
            }
            sender
        };
        self.writer.get_or_init(start).clone()
    }
}

fn run(job: Job) {
    let snapshot = &*job.snapshot;
    let result = match write(snapshot, &job.messages) {
        // Too late: it has its name.
        Ok(written) => Ok(written),
        Err(error) => Err(snapshot.stopped().unwrap_or(error)),
    };
    snapshot.end();
    (job.tell)(result);
}

fn write(
    snapshot: &Snapshot,
    messages: &Receiver<Message>,
) -> std::result::Result<Written, Failure> {
    if let Some(why) = snapshot.stopped() {
        return Err(why);
    }
    let mut target = Target::create(snapshot)?;
    target.write(&snapshot.head[snapshot::magic(0).len()..])?;
    let mut beside = HashMap::new();
    let mut written = Written::default();
    let mut left = snapshot.cores;
    while left > 0 {
        let message = messages.recv().map_err(|_| Failure::Cancelled)?;
        if let Some(why) = snapshot.stopped() {
            return Err(why);
        }
        match message {
            Message::Run(bytes) => {
                target.write(&bytes)?;
                snapshot.wrote(bytes.len());
            }
            Message::Piece { core, bytes, last } => {
                let file = match beside.remove(&core) {
                    Some(file) => file,
                    None => Beside::create(&snapshot.temporary, core)?,
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
    target.write(&[snapshot::END])?;
    target.finish(written.version)?;
    Ok(written)
}

/// The file under its temporary name. It goes with this, unless it got its name.
struct Target<'s> {
    snapshot: &'s Snapshot,
    file: File,
    checksum: Checksum,
    unsynced: u64,
}

impl<'s> Target<'s> {
    fn create(snapshot: &'s Snapshot) -> Result<Self> {
        let mut file = File::create(&snapshot.temporary)?;
        let version = snapshot::magic(0).len();
        // What is written of it goes on behind the version.
        let written = file.write_all(&snapshot.head[..version]);
        let target = Self {
            snapshot,
            file,
            checksum: Checksum::default(),
            unsynced: 0,
        };
        written.map(|()| target)
    }
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
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
        let checksum = match self.snapshot.with_checksum {
            true => self.checksum.of_file(version),
            false => 0,
        };
        self.file.write_all(&checksum.to_le_bytes())?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&snapshot::magic(version))?;
        self.file.sync_all()?;
        if self.snapshot.is_cancelled() {
            return Err(std::io::Error::other("cancelled"));
        }
        std::fs::rename(&self.snapshot.temporary, &self.snapshot.path)?;
        crate::files::sync_folder_of(&self.snapshot.path)
    }
}

impl Drop for Target<'_> {
    fn drop(&mut self) {
        self.snapshot.remove_temporary();
    }
}

/// A large entry on its way.
struct Beside {
    file: File,
    path: PathBuf,
}

impl Beside {
    fn create(temporary: &Path, core: usize) -> Result<Self> {
        let path = temporary.with_extension(format!("{core}.part"));
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        Ok(Self { file, path })
    }
    fn append_to(&mut self, target: &mut Target<'_>) -> Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::with_capacity(COPY);
        loop {
            bytes.clear();
            let piece = (&mut self.file).take(COPY as u64);
            if { piece }.read_to_end(&mut bytes)? == 0 {
                return Ok(());
            }
            target.write(&bytes)?;
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("Cannot remove {}: {error}", self.path.display());
        }
    }
}
