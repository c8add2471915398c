//! Writing a snapshot while everybody waits (SAVE, SHUTDOWN).
//!
//! Every core visits the file at its turn of one transaction: so all write what was before it and nothing that came after, and a MULTI is in it
//! wholly or not at all. They write at the same time, runs of whole entries one behind the other as they are ready, into a temporary
//! file; it gets its name when it is complete and on disk. Whatever fails, the file of before stays.

use crate::config::Config;
use crate::config::enums::MaxmemoryPolicy;
use crate::core::Core;
use crate::mailbox::Ticket;
use ringwood_protocol::error::CommandError;
use ringwood_shard::rdb::snapshot::{self, Checksum, Options, Output, Written};
use ringwood_shard::rdb::writer::Sink;
use std::fs::File;
use std::io::{Result, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// A snapshot that is being written.
pub struct Saving {
    path: PathBuf,
    temporary: PathBuf,
    options: Options,
    /// `rdbchecksum`
    with_checksum: bool,
    target: Mutex<Target>,
    begun: Instant,
}

struct Target {
    file: File,
    checksum: Checksum,
    written: Written,
    has_libraries: bool,
    /// By core: changes that are in this snapshot and were in none.
    changes: Vec<(usize, u64)>,
    /// The first error; nothing is written after it.
    result: Result<()>,
}

impl Target {
    fn write(&mut self, bytes: &[u8]) {
        if self.result.is_ok() {
            self.checksum.add(bytes);
            self.result = self.file.write_all(bytes);
        }
    }
}

/// A core's hand on the file.
struct Hand<'s>(&'s Saving);

impl Output for Hand<'_> {
    fn run(&mut self, bytes: &[u8]) {
        self.0.target().write(bytes);
    }
    fn large(&mut self, write: &mut dyn FnMut(Sink<'_>)) {
        let mut target = self.0.target();
        write(&mut |bytes| target.write(bytes));
    }
}

/// How a snapshot is written with this configuration.
pub fn options(config: &Config) -> Options {
    use MaxmemoryPolicy::{AllkeysLfu, AllkeysLru, VolatileLfu, VolatileLru};
    Options {
        compress: config.rdbcompression,
        idle: matches!(config.maxmemory_policy, AllkeysLru | VolatileLru),
        frequency: matches!(config.maxmemory_policy, AllkeysLfu | VolatileLfu),
    }
}

impl Saving {
    fn begin(config: &Config, now_ms: i64, used_memory: u64) -> Result<Self> {
        let dir = config.dir.path();
        let temporary = dir.join(format!("temp-{}.rdb", std::process::id()));
        let mut file = File::create(&temporary)?;
        let (ctime, memory) = ((now_ms / 1000).to_string(), used_memory.to_string());
        let head = snapshot::begin(&[
            ("redis-ver", crate::commands::hello::REDIS_VERSION),
            ("redis-bits", "64"),
            ("ctime", &ctime),
            ("used-mem", &memory),
            ("aof-base", "0"),
        ]);
        let version = snapshot::magic(0).len();
        let mut checksum = Checksum::default();
        checksum.add(&head[version..]);
        let result = file.write_all(&head);
        Ok(Self {
            path: dir.join(config.dbfilename.as_path()),
            temporary,
            options: options(config),
            with_checksum: config.rdbchecksum,
            target: Mutex::new(Target {
                file,
                checksum,
                written: Written::default(),
                has_libraries: false,
                changes: Vec::new(),
                result,
            }),
            begun: Instant::now(),
        })
    }

    pub fn options(&self) -> Options {
        self.options
    }
    fn target(&self) -> MutexGuard<'_, Target> {
        crate::commands::lock(&self.target)
    }

    /// Writes a core's entries. The first core writes the function libraries: who loads one after this comes after the
    /// visits of all cores with whatever else it does.
    pub fn visit(&self, core: &mut Core) {
        let mut target = self.target();
        if !std::mem::replace(&mut target.has_libraries, true) {
            for library in core.function_list() {
                target.write(&snapshot::function(&library.code, self.options.compress));
            }
        }
        drop(target);
        let written = snapshot::write(&core.shard, self.options, &mut Hand(self));
        let changes = std::mem::take(&mut core.shard.stats.dirty);
        let mut target = self.target();
        target.written.keys += written.keys;
        target.written.version = target.written.version.max(written.version);
        target.changes.push((core.id, changes));
    }

    /// After all visits: ends the file, and notes how it went.
    pub fn conclude(&self, core: &mut Core) -> Result<()> {
        let result = self.finish();
        let shared = core.shared.clone();
        let state = &shared.persistence;
        state.saving.store(false, Relaxed);
        state.failed.store(result.is_err(), Relaxed);
        match result {
            Ok(written) => {
                state.last_save.store(core.now.unix_ms / 1000, Relaxed);
                state.saves.fetch_add(1, Relaxed);
                tracing::info!(
                    "DB saved on disk: {} keys in {:.3} seconds",
                    written.keys,
                    self.begun.elapsed().as_secs_f64()
                );
                Ok(())
            }
            Err(error) => {
                tracing::warn!("Error saving DB on disk: {error}");
                self.count_again(core);
                Err(error)
            }
        }
    }
    /// The changes since the last snapshot are still that.
    fn count_again(&self, core: &mut Core) {
        let changes = std::mem::take(&mut self.target().changes);
        let ask = move |core: &mut Core| {
            let own = changes.iter().filter(|(id, _)| *id == core.id);
            core.shard.stats.dirty += own.map(|(_, changes)| changes).sum::<u64>();
            Vec::new()
        };
        core.ask_all(Ticket::NOBODY, Arc::new(ask), Box::new(|_, _, _| {}));
    }

    /// All cores have written: ends the file and gives it its name.
    fn finish(&self) -> Result<Written> {
        let mut target = self.target();
        target.write(&[snapshot::END]);
        std::mem::replace(&mut target.result, Ok(()))?;
        let written = target.written;
        let checksum = match self.with_checksum {
            true => target.checksum.of_file(written.version),
            false => 0,
        };
        let file = &mut target.file;
        file.write_all(&checksum.to_le_bytes())?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&snapshot::magic(written.version))?;
        file.sync_all()?;
        std::fs::rename(&self.temporary, &self.path)?;
        sync_folder(&self.path)?;
        Ok(written)
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        // It is gone already if it has got its name.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// A new name is on disk when its folder is.
fn sync_folder(path: &Path) -> Result<()> {
    match path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        Some(dir) => File::open(dir)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

/// Why a snapshot does not begin.
#[derive(Debug)]
pub enum SaveError {
    /// There is one under way.
    UnderWay,
    Io(std::io::Error),
}

impl From<SaveError> for CommandError {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::UnderWay => Self::fixed("ERR Background save already in progress"),
            SaveError::Io(error) => Self::err(format_args!("saving failed: {error}")),
        }
    }
}

impl Core {
    /// Opens the file of a snapshot. [`Core::save`] has to follow, or visits and [`Saving::conclude`].
    pub(crate) fn begin_save(&mut self) -> std::result::Result<Arc<Saving>, SaveError> {
        let state = &self.shared.persistence;
        if state.saving.swap(true, Relaxed) {
            return Err(SaveError::UnderWay);
        }
        let used = self.shared.memory.used();
        Saving::begin(&self.config, self.now.unix_ms, used)
            .map(Arc::new)
            .map_err(|error| {
                state.saving.store(false, Relaxed);
                state.failed.store(true, Relaxed);
                tracing::warn!("Failed opening the temp RDB file for saving: {error}");
                SaveError::Io(error)
            })
    }

    /// Writes a snapshot, then goes on with `then`.
    pub(crate) fn save(
        &mut self,
        ticket: Ticket,
        saving: Arc<Saving>,
        then: impl FnOnce(&mut Core, Ticket, Result<()>) + 'static,
    ) {
        let visited = saving.clone();
        let ask = move |core: &mut Core| {
            visited.visit(core);
            Vec::new()
        };
        let conclude = move |core: &mut Core, ticket: Ticket, _: Vec<Vec<u8>>| {
            let result = saving.conclude(core);
            then(core, ticket, result);
        };
        self.visit_all(ticket, Arc::new(ask), Box::new(conclude));
    }
}
