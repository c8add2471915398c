//! A core's end of the log: what a command did, what a transaction did, and writing it down.

use super::ahead::Way;
use super::{LogFile, parts};
use crate::config::enums::AppendFsync;
use crate::core::{Core, Shared};
use crate::mailbox::Mail;
use crate::registry::Registry;
use crate::request::DataCall;
use crossbeam_channel::bounded;
use ringwood_protocol::command::{Route, WRITE};
use ringwood_shard::ctx::{Args, Log};
use ringwood_shard::log::{Owner, Record, group};
use ringwood_shard::object::Type;
use ringwood_shard::rdb::dump;
use ringwood_shard::shard::Shard;
use ringwood_shard::watch::Name;
use std::collections::{BTreeMap, VecDeque};
use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

/// How long a write waits for a sync under way, as in Redis.
const SYNC_PATIENCE_NS: u64 = 2_000_000_000;
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How soon a failed write is tried again.
const RETRY_NS: u64 = 1_000_000_000;
/// A buffer larger than this is not kept.
const SPARE_MAX: usize = 1 << 20;

/// What is to be written, in order.
#[derive(Debug)]
enum Piece {
    /// From this offset on.
    Bytes(Vec<u8>, usize),
    /// A new generation of files, which this command opens.
    Generation(Vec<u8>),
}

/// With `always`, what a core does that comes to a new generation and whose file of it is not settled yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextFile {
    /// It waits.
    Awaited,
    /// It goes on, and writes when a thread has prepared the file.
    Later,
}

/// How far that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turning {
    #[default]
    No,
    Asked,
    Prepared,
}

/// A core's file, and what does not yet stand in it.
#[derive(Debug, Default)]
pub struct CoreLog {
    pub(super) file: Option<Arc<LogFile>>,
    generation: u64,
    queue: VecDeque<Piece>,
    /// The way out of `file`, with `always`.
    turning: Turning,
    spare: Vec<u8>,
    /// The log is on, or soon will be: see [`Core::log_is_near`].
    pub(super) near: bool,
    /// Since when a write waits for a sync, or 0.
    waits_since_ns: u64,
    /// It is to wait for none.
    hurries: bool,
    failing: bool,
    retry_ns: u64,
    /// The function libraries that the log has; only core 0 writes them.
    libraries: u64,
    /// The second of the last time stamp.
    stamped: i64,
    pub(crate) flights: super::commit::Flights,
    pub(crate) answered: super::commit::Answered,
}

/// Notes what a data command did. `changed`: it said so; `ok`: it answered with no error.
pub(crate) fn note(
    shard: &mut Shard,
    call: &DataCall<'_>,
    args: Args<'_>,
    log: Log,
    changed: bool,
    ok: bool,
) {
    if matches!(call.entry.spec.route, Route::AllShards(_)) {
        // On every core, whatever each has: all begin a new file.
        if call.entry.has(WRITE) && ok {
            shard.log.mark(call.db, args);
        }
        return;
    }
    match log {
        Log::Nothing => {}
        Log::Verbatim if !changed => {}
        Log::Verbatim => append(shard, call.db, args),
        Log::As(commands) => {
            // Several are one transaction.
            let begins = commands.len() > 1 && shard.log.begin();
            for words in &commands {
                let words: Vec<&[u8]> = words.iter().map(|w| &**w).collect();
                append(shard, call.db, &words);
            }
            if begins {
                end_local_group(shard);
            }
        }
    }
}

/// Notes what became of the keys that a command changed.
pub(crate) fn note_results(shard: &mut Shard) {
    let changed = shard.log.take_changed();
    images(shard, &changed);
}
/// Changes of keys of this core that belong together are all there.
pub(crate) fn end_local_group(shard: &mut Shard) {
    let records = shard.log.end();
    shard.log.append_group(&group(&records));
}

/// Notes one command.
fn append(shard: &mut Shard, db: usize, words: Args<'_>) {
    if !shard.log.in_transaction() {
        return shard.log.append(db, words, Owner::Core(0));
    }
    let changed = shard.log.take_changed();
    let mut keys = Vec::new();
    if let Some(entry) = Registry::get().logged().resolve(words) {
        entry.key_indexes(words, &mut keys);
    }
    let mut owners = keys.iter().map(|&k| shard.log.owner_of(words[k]));
    let first = owners.next();
    if let Some(owner) = first
        && owners.all(|other| other == owner)
    {
        return shard.log.append(db, words, owner);
    }
    // Its keys are in several files: what became of those that it changed.
    images(shard, &changed);
}

fn images(shard: &mut Shard, changed: &[Name]) {
    for (db, key) in changed {
        image(shard, *db, key);
    }
}

/// Notes what is at a key now.
fn image(shard: &mut Shard, db: usize, key: &[u8]) {
    let owner = shard.log.owner_of(key);
    let Some(entry) = shard.keyspace.get(db, shard.key(key)) else {
        return shard.log.append(db, &[b"DEL", key], owner);
    };
    let expire_at = entry.expire_at().map(|at| at.to_string());
    if entry.kind() == Type::String {
        let value = entry.bytes().to_vec();
        return match &expire_at {
            None => shard.log.append(db, &[b"SET", key, &value], owner),
            Some(at) => {
                let words: [&[u8]; 5] = [b"SET", key, &value, b"PXAT", at.as_bytes()];
                shard.log.append(db, &words, owner);
            }
        };
    }
    let payload = dump::dump(entry, shard.settings.rdb_compression);
    let at = expire_at.unwrap_or_else(|| "0".into());
    let words: [&[u8]; 6] = [
        b"RESTORE",
        key,
        at.as_bytes(),
        &payload,
        b"REPLACE",
        b"ABSTTL",
    ];
    shard.log.append(db, &words, owner);
}

impl Core {
    // ---- transactions ----

    /// Changes from here on belong together. False if they do already, or nobody logs.
    pub(crate) fn begin_log_group(&mut self) -> bool {
        self.shard.logging && self.shard.log.begin()
    }
    /// They are all there: each core gets its part. `number`: the transaction's, if others hold slots for it.
    pub(crate) fn end_log_group(&mut self, number: u64) {
        let records = self.shard.log.end();
        if records.iter().all(|record| record.owner != Owner::All) {
            return self.share_log(number, &records);
        }
        // It stands as a whole before all of a new generation's files. Every core is held, so none has noted anything since it began.
        let bytes = group(&records);
        for core in (0..self.cores()).filter(|&core| core != self.id) {
            self.mailbox.send(core, Mail::LogMark(bytes.clone()));
        }
        self.shard.log.mark_group(bytes);
    }

    fn share_log(&mut self, number: u64, records: &[Record]) {
        let own = self.id as u16;
        let mut by_core: BTreeMap<u16, Vec<&Record>> = BTreeMap::new();
        for record in records {
            let Owner::Core(core) = record.owner else {
                continue;
            };
            let core = if self.cores() == 1 { own } else { core };
            by_core.entry(core).or_default().push(record);
        }
        let parts: Vec<(u16, Vec<u8>)> = by_core
            .into_iter()
            .map(|(core, records)| (core, group(records)))
            .collect();
        let always = self.config.appendfsync == AppendFsync::Always;
        match parts.as_slice() {
            [] => {}
            [(core, bytes)] if *core == own => self.shard.log.append_group(bytes),
            // The reply leaves from here: with `always` it is to be on disk here first.
            [(core, _)] if !always => {
                let core = *core as usize;
                let part = parts.into_iter().next();
                let bytes = part.map_or_else(Vec::new, |(_, bytes)| bytes);
                self.mailbox.send(core, Mail::Log(bytes));
            }
            _ => {
                let mut told: Vec<u16> = parts.iter().map(|(core, _)| *core).collect();
                if !told.contains(&own) {
                    told.push(own);
                }
                for core in told {
                    let mut bytes = Vec::new();
                    parts::write(&mut bytes, number, &parts, core);
                    if core == own {
                        self.shard.log.append_group(&bytes);
                    } else {
                        self.mailbox.send(core as usize, Mail::Log(bytes));
                    }
                }
            }
        }
    }

    // ---- writing ----

    /// What changes keys of several cores is to be logged as one, so one core runs it all. That is known before the log begins: what
    /// was sent out to be run and logged by each owner for itself has numbers below that of the log's first point.
    pub(crate) fn log_is_near(&self) -> bool {
        self.log.near
    }
    pub(crate) fn log_comes_near(&mut self) {
        self.log.near = true;
        self.send_gathered();
    }
    /// This core's changes are logged from now on.
    pub fn start_logging(&mut self) {
        self.shard.loading = false;
        let generation = self.shared.aof.first_generation();
        match self.shared.aof.first_file(self.id as u16) {
            Ok(file) => self.log.file = Some(file),
            Err(error) => {
                tracing::error!("Opening the append only file: {error}");
                self.shared.aof.exit();
            }
        }
        self.log.generation = generation;
        self.log.libraries = self.shared.scripts.libraries.version();
        self.shard.log.owners = self.shared.owners.iter().copied().collect();
        self.shard.logging = true;
        self.log.near = true;
        // The turn may go on with what is logged.
        self.hold_mail();
    }

    /// Puts everything on disk and notes nothing more, until [`Core::resume_logging`]. False if something could not be written.
    pub(crate) fn pause_logging(&mut self) -> bool {
        if !self.shard.logging {
            return true;
        }
        self.end_log();
        self.shard.logging = false;
        self.log.queue.is_empty() && !self.shared.aof.refuses_writes()
    }
    /// Goes on in the same file. What happened meanwhile came from there.
    pub(crate) fn resume_logging(&mut self) {
        self.shard.log.forget_selection();
        self.log.libraries = self.shared.scripts.libraries.version();
        self.shard.logging = self.log.file.is_some();
        self.hold_mail();
    }

    /// Writes down what has changed, before anybody hears of it; with `always`, to the disk.
    #[inline]
    pub(crate) fn commit_log(&mut self) {
        if self.shard.logging {
            self.write_noted(NextFile::Awaited);
            if self.config.appendfsync == AppendFsync::Always || self.log.flights.are_under_way() {
                self.sync_log();
            }
        }
        self.log.flights.end();
        self.mailbox.release();
    }
    /// Writes down what has changed.
    #[inline]
    pub(super) fn write_noted(&mut self, next: NextFile) {
        if self.id == 0 && self.log.libraries != self.shared.scripts.libraries.version() {
            self.log_libraries();
        }
        if !self.shard.log.is_empty() || !self.log.queue.is_empty() {
            self.write_log(next);
        }
    }
    /// The same without waiting for a sync that is under way: afterwards all of it stands in one file, unless the disk fails.
    pub(crate) fn commit_log_at_once(&mut self) {
        self.log.hurries = true;
        self.commit_log();
        self.log.hurries = false;
    }
    /// With `always`, mail that leaves before the log is on disk is held back.
    pub(crate) fn hold_mail(&mut self) {
        if self.shard.logging && self.config.appendfsync == AppendFsync::Always {
            self.mailbox.hold();
        }
    }

    #[cold]
    fn log_libraries(&mut self) {
        self.log.libraries = self.shared.scripts.libraries.version();
        let payload = self.function_dump();
        let words: [&[u8]; 4] = [b"FUNCTION", b"RESTORE", &payload, b"FLUSH"];
        self.shard.log.append(0, &words, Owner::Core(0));
    }

    fn write_log(&mut self, next: NextFile) {
        if self.config.aof_timestamp_enabled {
            self.log.stamp(self.now.unix_ms / 1000);
        }
        let spare = std::mem::take(&mut self.log.spare);
        let taken = self.shard.log.take(spare);
        self.log.queue_up(taken.bytes, taken.marks);
        let now = self.now.mono_ns;
        if self.log.failing && now < self.log.retry_ns {
            return;
        }
        let always = self.config.appendfsync == AppendFsync::Always;
        if !always && self.log.must_wait(&self.shared, now) {
            return;
        }
        let spared = self.config.no_appendfsync_on_rewrite;
        let ordered = match self.config.appendfsync {
            AppendFsync::Always => true,
            AppendFsync::Everysec => !spared,
            AppendFsync::No => false,
        };
        let way = Way {
            strict: always,
            ordered,
        };
        let aside = always && next == NextFile::Later;
        match self.log.write(&self.shared, self.id as u16, way, aside) {
            Ok(()) if aside => self.ask_for_next_file(),
            Ok(()) if self.log.failing => {
                self.log.failing = false;
                self.shared.aof.failing.fetch_sub(1, Relaxed);
                tracing::warn!("AOF write error looks solved. The server can write again.");
            }
            Ok(()) => {}
            Err(error) if always => self.cannot_sync(&error),
            Err(error) => {
                tracing::warn!("Error writing to the AOF file: {error}");
                if self
                    .log
                    .file
                    .as_ref()
                    .is_some_and(|file| file.take_spoiled())
                {
                    self.shared.aof.spoil();
                }
                self.log.retry_ns = now + RETRY_NS;
                *crate::commands::lock(&self.shared.aof.error) = cause(&error);
                if !std::mem::replace(&mut self.log.failing, true) {
                    self.shared.aof.failing.fetch_add(1, Relaxed);
                }
            }
        }
    }

    /// Has the file prepared for which what is noted waits, if there is any.
    fn ask_for_next_file(&mut self) {
        let Some(Piece::Generation(global)) = self.log.queue.front() else {
            return;
        };
        if self.log.turning == Turning::Asked {
            return;
        }
        let left = self.log.file.clone().expect("opened when logging began");
        let (generation, global) = (self.log.generation + 1, global.clone());
        self.log.turning = Turning::Asked;
        self.send_errand(move |state| {
            let prepared = state.prepare_generation(generation, &global, &left);
            Box::new(move |core| core.next_file_is_prepared(&left, prepared))
        });
    }
    fn next_file_is_prepared(&mut self, left: &Arc<LogFile>, prepared: Result<()>) {
        let file = self.log.file.as_ref();
        if !file.is_some_and(|file| Arc::ptr_eq(file, left)) {
            // It could not wait for that.
            return;
        }
        match prepared {
            // The turn's end goes on in it.
            Ok(()) => self.log.turning = Turning::Prepared,
            Err(error) => self.cannot_sync(&error),
        }
    }

    /// What was promised cannot be kept: as in Redis, this is the end.
    #[cold]
    pub(super) fn cannot_sync(&self, error: &Error) -> ! {
        tracing::error!(
            "Can't recover from AOF write error when the AOF fsync policy is 'always': {error}. Exiting..."
        );
        self.shared.aof.exit()
    }

    fn sync_log(&mut self) {
        let sync = |file: &Arc<LogFile>| {
            self.shared.aof.settle_file(file)?;
            file.sync()
        };
        let synced = self.log.file.as_ref().map_or(Ok(()), sync);
        if let Err(error) = synced {
            self.cannot_sync(&error);
        }
    }

    /// The core ends: what it has written is to be on disk.
    pub(crate) fn end_log(&mut self) {
        if !self.shard.logging {
            return;
        }
        self.log.retry_ns = 0;
        self.log.hurries = true;
        self.write_log(NextFile::Awaited);
        self.log.hurries = false;
        if !self.log.queue.is_empty() {
            tracing::error!("The log ends without its last changes: they could not be written");
        }
        let settled = self.shared.aof.settle();
        if let Some(file) = &self.log.file
            && let Err(error) = settled.and_then(|()| file.sync())
        {
            tracing::error!("Fail to fsync the AOF file: {error}");
        }
    }
}

impl Core {
    /// Bytes that do not yet stand in this core's file.
    pub fn log_waits(&self) -> usize {
        self.log.waiting() + self.shard.log.len()
    }
    /// The log is switched off.
    pub(crate) fn stop_logging(&mut self) {
        self.end_log();
        self.shard.logging = false;
        self.shard.log = Default::default();
        let ended = std::mem::take(&mut self.log);
        // Clients wait for it.
        (self.log.flights, self.log.answered) = (ended.flights, ended.answered);
        self.log.flights.end();
        if ended.failing {
            // Writes are refused for its sake no more.
            self.shared.aof.failing.fetch_sub(1, Relaxed);
        }
    }
}

/// An error as clients are told it: without the number.
pub(super) fn cause(error: &Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}

impl CoreLog {
    /// The generation in which what is logged next will stand.
    pub fn generation_after(&self, log: &ringwood_shard::log::Log) -> u64 {
        let queued = self
            .queue
            .iter()
            .filter(|p| matches!(p, Piece::Generation(_)));
        self.generation + (queued.count() + log.marks()) as u64
    }
    /// What is noted waits for the next file.
    pub fn is_turning(&self) -> bool {
        self.turning == Turning::Asked
    }
    /// Bytes that do not yet stand in the file.
    pub fn waiting(&self) -> usize {
        let bytes = |piece: &Piece| match piece {
            Piece::Bytes(bytes, from) => bytes.len() - from,
            Piece::Generation(bytes) => bytes.len(),
        };
        self.queue.iter().map(bytes).sum()
    }

    /// The file, and where it will end when all is written.
    pub fn target(&self) -> Option<super::wait::Target> {
        let file = self.file.clone()?;
        let to = file.written.load(Acquire) + self.waiting() as u64;
        Some((file, to))
    }
    fn queue_up(&mut self, bytes: Vec<u8>, marks: Vec<(usize, Vec<u8>)>) {
        let mut from = 0;
        for (at, command) in marks {
            if at > from {
                self.queue
                    .push_back(Piece::Bytes(bytes[from..at].to_vec(), 0));
            }
            self.queue.push_back(Piece::Generation(command));
            from = at;
        }
        if bytes.len() > from {
            self.queue.push_back(Piece::Bytes(bytes, from));
        } else {
            self.keep(bytes);
        }
    }
    /// `aof-timestamp-enabled`: a line that says when what follows was written.
    fn stamp(&mut self, seconds: i64) {
        if self.stamped != seconds {
            self.stamped = seconds;
            let line = format!("#TS:{seconds}\r\n");
            self.queue.push_back(Piece::Bytes(line.into_bytes(), 0));
        }
    }
    fn keep(&mut self, mut bytes: Vec<u8>) {
        if bytes.capacity() <= SPARE_MAX {
            bytes.clear();
            self.spare = bytes;
        }
    }

    /// True while a sync is under way that a write might have to wait for, up to a limit.
    fn must_wait(&mut self, shared: &Shared, now: u64) -> bool {
        let syncing = self.file.as_ref().is_some_and(|f| f.syncing.load(Acquire));
        match (syncing && !self.hurries, self.waits_since_ns) {
            (true, 0) => self.waits_since_ns = now,
            (true, since) if now < since + SYNC_PATIENCE_NS => {}
            (still, _) => {
                self.waits_since_ns = 0;
                if still {
                    tracing::info!(
                        "Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF buffer without waiting for fsync to complete, this may slow down Redis."
                    );
                    shared.aof.delayed.fetch_add(1, Relaxed);
                }
                return false;
            }
        }
        true
    }

    /// `aside`: not beyond where the next file has yet to be prepared.
    fn write(&mut self, shared: &Shared, core: u16, way: Way, aside: bool) -> Result<()> {
        while let Some(piece) = self.queue.front_mut() {
            match piece {
                Piece::Generation(command) => {
                    let next = self.generation + 1;
                    let file = match (self.turning, aside) {
                        (Turning::Prepared, _) => shared.aof.prepared_file(next, core)?,
                        (_, true) => return Ok(()),
                        (_, false) => {
                            let old = self.file.as_ref();
                            shared.aof.next_file(next, core, command, old, way)?
                        }
                    };
                    self.file = Some(file);
                    self.generation = next;
                    self.turning = Turning::No;
                }
                Piece::Bytes(bytes, from) => {
                    let file = self.file.as_ref().expect("opened when logging began");
                    while *from < bytes.len() {
                        match file.file.append(&bytes[*from..]) {
                            Ok(0) => return Err(ErrorKind::WriteZero.into()),
                            Ok(written) => {
                                *from += written;
                                file.written.fetch_add(written as u64, Release);
                            }
                            Err(error) if error.kind() == ErrorKind::Interrupted => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
            }
            if let Some(Piece::Bytes(bytes, _)) = self.queue.pop_front() {
                self.keep(bytes);
            }
        }
        Ok(())
    }
}

/// Syncs the files about once a second, for `appendfsync everysec`, and settles what cores have made ahead of the disk.
pub fn start_syncing(shared: &Arc<Shared>) -> Result<()> {
    let shared = shared.clone();
    let (settler, asked) = bounded(1);
    // Done once.
    let _ = shared.aof.settler.set(settler);
    let sync = move || {
        let mut due = Instant::now() + SYNC_EVERY;
        while !shared.stopping.load(Acquire) {
            let is_due = asked.recv_deadline(due).is_err();
            // What goes wrong is in the log and in the clients' errors.
            let _ = shared.aof.settle();
            if !is_due {
                continue;
            }
            due = Instant::now() + SYNC_EVERY;
            let config = crate::commands::lock(&shared.config).clone();
            let spared = config.no_appendfsync_on_rewrite && shared.persistence.running().is_some();
            if config.appendfsync == AppendFsync::Everysec && !spared {
                sync_all(&shared);
            }
        }
    };
    std::thread::Builder::new()
        .name("aof-fsync".into())
        .spawn(sync)
        .map(|_| ())
}

/// Syncs every file. What a sync did not bring to the disk no later one does (Linux takes it for written), so after one that failed writes are
/// refused until the log was rewritten, which does not need those files.
pub fn sync_all(shared: &Shared) {
    if shared.aof.settle().is_err() {
        return;
    }
    let files = shared.aof.open_files();
    for file in files.into_iter().filter(|file| file.is_settled()) {
        file.syncing.store(true, Release);
        let result = file.sync();
        file.syncing.store(false, Release);
        match result {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!("Fail to fsync the AOF file: {error}");
                *crate::commands::lock(&shared.aof.error) = cause(&error);
                file.take_spoiled();
                shared.aof.spoil();
                return;
            }
        }
    }
}
