//! Reading the log at the start. The files are looked through first, so that it is known what is whole; then each core is sent
//! the commands of its file over a socket pair, as by a client: so they take the same way as when they were new, over all cores if
//! need be, and files of other servers, or of another number of cores, need no way of their own. While that lasts nothing expires and other clients
//! are told to wait.

use super::manifest::{self, Kind, Manifest};
use super::rewrite::base_ending;
use super::scan::{Found, Scanner, Stop, Survey, survey};
use super::{Files, parts::FileHead};
use crate::config::Config;
use crate::config::enums::AppendFsync;
use crate::disk::{Disk, DiskFile};
use crate::persist::loading::Progress;
use crate::registry::{Entry, Registry};
use ringwood_protocol::error::CommandError;
use ringwood_shard::log::write_command;
use ringwood_shard::rdb::{scan as rdb, snapshot};
use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is to be read.
#[derive(Debug, Default)]
pub struct Plan {
    disk: Disk,
    /// A snapshot, to begin with.
    pub base: Option<PathBuf>,
    generations: Vec<Generation>,
}

/// Files that were written at the same time; no key is in two of them.
#[derive(Debug, Default)]
struct Generation {
    number: Option<u64>,
    sources: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    /// Where the commands begin.
    start: u64,
    survey: Survey,
    /// Parts of transactions that other files tell of and this one lacks, in order.
    missing: Vec<Vec<u8>>,
}

impl Source {
    fn head(&self) -> Option<FileHead> {
        self.survey.head
    }
}

impl Plan {
    pub fn has_commands(&self) -> bool {
        !self.generations.is_empty()
    }
    pub fn is_empty(&self) -> bool {
        self.base.is_none() && self.generations.is_empty()
    }
    /// Bytes of commands.
    pub fn size(&self) -> u64 {
        let sources = self.generations.iter().flat_map(|g| &g.sources);
        sources.map(|s| s.survey.end.saturating_sub(s.start)).sum()
    }
    /// How many there are of what is read at the same time.
    pub fn generations(&self) -> usize {
        self.generations.len()
    }
    /// The commands of a generation that concern all files: they come first.
    pub fn write_globals(&self, generation: usize, to: &mut impl Write) -> Result<(), String> {
        for source in &self.generations[generation].sources {
            if source.survey.global_end > 0 {
                write_range(
                    &self.disk,
                    source,
                    source.start,
                    source.survey.global_end,
                    to,
                )?;
            }
        }
        Ok(())
    }
    /// The commands of a generation that a core is sent.
    pub fn write_shares(
        &self,
        generation: usize,
        core: usize,
        cores: usize,
        to: &mut impl Write,
    ) -> Result<(), String> {
        for source in &self.generations[generation].sources {
            let reader = source.head().map_or(0, |head| head.core as usize % cores);
            if reader != core {
                continue;
            }
            let mut select = Vec::new();
            write_command(&mut select, &[b"SELECT", b"0"]);
            to.write_all(&select).map_err(lost)?;
            let from = source.survey.global_end.max(source.start);
            write_range(&self.disk, source, from, source.survey.end, to)?;
            for part in &source.missing {
                copy_commands(Scanner::new(part.as_slice()), part.len() as u64, source, to)?;
            }
        }
        Ok(())
    }
}

/// What a look through the files of a manifest shows.
struct Look {
    plan: Plan,
    /// The newest generation that there is a file of.
    newest: u64,
    /// Incremental files that nothing was written into.
    empty: HashSet<u64>,
    /// Files that were cut off, and where they end.
    cut_off: Vec<(PathBuf, u64)>,
}

/// Looks through what is there. What was cut off is cut off the file, files without anything are given up.
pub fn prepare(disk: &Disk, config: &Config, cores: u16) -> Result<(Plan, Files), String> {
    let dir = config.dir.path().join(config.appenddirname.as_path());
    let name = config.appendfilename.to_string();
    let io = |what: &Path, error| format!("{}: {error}", what.display());
    disk.make_folder(&dir).map_err(|e| io(&dir, e))?;
    let known = read_manifest(disk, &dir, &name)?;
    let is_new = known.is_none();
    let mut manifest = match known {
        Some(manifest) => {
            finish_adopting(disk, config, &dir, &name, &manifest)?;
            manifest
        }
        None => {
            set_aside(disk, &dir, &name)?;
            adopt(disk, config, &dir, &name)?
        }
    };
    let adopts = super::ahead::adopt(disk, &dir, &name, &mut manifest);
    let look = look(disk, config, &dir, &manifest)?;
    if is_new && manifest.base.is_none() {
        manifest.base = Some(empty_base(disk, config, &dir, &name)?);
    }
    for (path, end) in &look.cut_off {
        cut(disk, path, *end)?;
    }
    if config.appendfsync != AppendFsync::No || adopts {
        // What follows builds on it, so it must not be lost once that is on disk.
        let generations = look.plan.generations.iter();
        for source in generations.flat_map(|generation| &generation.sources) {
            let file = disk.open_to_change(&source.path);
            let synced = file.and_then(|file| file.sync_data());
            synced.map_err(|e| io(&source.path, e))?;
        }
    }
    if adopts {
        for entry in &manifest.incremental {
            let path = dir.join(&entry.name);
            let synced = disk.open_to_change(&path).and_then(|file| file.sync_all());
            synced.map_err(|e| io(&path, e))?;
        }
        let path = dir.join(format!("{name}.manifest"));
        let text = manifest.to_text();
        let settled = disk.sync_folder(&dir);
        let settled = settled.and_then(|()| crate::files::replace_on(disk, &path, text.as_bytes()));
        settled.map_err(|e| io(&path, e))?;
    }
    let last = manifest.incremental.last().map(|entry| entry.seq);
    let without = |entry: &manifest::Entry| look.empty.contains(&entry.seq);
    let mut given_up: Vec<manifest::Entry> = std::mem::take(&mut manifest.history);
    given_up.extend(manifest.incremental.iter().filter(|e| without(e)).cloned());
    // The numbers of files go on from the last.
    manifest
        .incremental
        .retain(|e| !without(e) || Some(e.seq) == last);
    given_up.retain(|e| Some(e.seq) != last || e.kind == Kind::History);
    let mut files =
        Files::new(disk, config, cores, manifest, look.newest).map_err(|e| io(&dir, e))?;
    files.measure().map_err(|e| io(&dir, e))?;
    files.given_up = given_up;
    Ok((look.plan, files))
}

/// What a manifest on disk tells of, for reading only: no file is changed.
pub fn plan(disk: &Disk, config: &Config) -> Result<Plan, String> {
    let dir = config.dir.path().join(config.appenddirname.as_path());
    let manifest = read_manifest(disk, &dir, &config.appendfilename.to_string())?;
    Ok(look(disk, config, &dir, &manifest.unwrap_or_default())?.plan)
}

/// Nothing if there is none.
fn read_manifest(disk: &Disk, dir: &Path, name: &str) -> Result<Option<Manifest>, String> {
    let path = dir.join(format!("{name}.manifest"));
    match disk.read(&path) {
        Ok(text) => Manifest::parse(&text)
            .map(Some)
            .map_err(|broken| broken.to_string()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}

fn look(disk: &Disk, config: &Config, dir: &Path, manifest: &Manifest) -> Result<Look, String> {
    let io = |what: &Path, error| format!("{}: {error}", what.display());
    let mut plan = Plan {
        disk: disk.clone(),
        ..Plan::default()
    };
    if let Some(base) = &manifest.base {
        let path = dir.join(&base.name);
        let start = snapshot_end(disk, &path).map_err(|e| unreadable(&path, e))?;
        if start > 0 {
            plan.base = Some(path.clone());
        }
        let len = disk.size(&path).map_err(|e| io(&path, e))?;
        if len > start {
            let survey = look_through(disk, &path, start, config)?;
            plan.generations.push(Generation {
                number: None,
                sources: vec![Source {
                    path,
                    start,
                    survey,
                    missing: Vec::new(),
                }],
            });
        }
    }
    let mut empty = HashSet::new();
    let mut cut_off = Vec::new();
    let mut heads = Vec::new();
    for entry in &manifest.incremental {
        let path = dir.join(&entry.name);
        let survey = look_through(disk, &path, 0, config)?;
        heads.push((entry, path, survey));
    }
    let generation = |survey: &Survey| survey.head.map_or(0, |head| head.generation);
    let newest = heads.iter().map(|(.., survey)| generation(survey)).max();
    let newest = newest.unwrap_or(0);
    for at in 0..heads.len() {
        let (_, path, survey) = &heads[at];
        if !matches!(survey.stop, Some(Stop::CutOff)) {
            continue;
        }
        let mut later = heads[at + 1..].iter().map(|(.., survey)| survey);
        if later.any(|later| comes_behind(survey, later)) {
            let text = "the truncated file is not the last file";
            return Err(format!("{}: {text}", path.display()));
        }
        cut_off.push((path.clone(), survey.end));
    }
    let mut seqs = BTreeMap::new();
    for (entry, path, survey) in heads {
        seqs.insert(path.clone(), entry.seq);
        let number = survey.head.map(|head| head.generation);
        let source = Source {
            path,
            start: 0,
            survey,
            missing: Vec::new(),
        };
        match plan.generations.last_mut() {
            Some(g) if number.is_some() && g.number == number => g.sources.push(source),
            _ => plan.generations.push(Generation {
                number,
                sources: vec![source],
            }),
        }
    }
    for generation in &mut plan.generations {
        generation.find_missing();
        // One that has nothing by itself may have to take a part of a transaction that another tells of.
        generation.sources.retain(|source| {
            let needed = source.survey.has_something() || !source.missing.is_empty();
            if !needed {
                empty.extend(seqs.get(&source.path).copied());
            }
            needed
        });
    }
    plan.generations.retain(|g| !g.sources.is_empty());
    Ok(Look {
        plan,
        newest,
        empty,
        cut_off,
    })
}

/// True if `later`, a file behind `survey`'s in the manifest, has what builds on the latter's end. Files of one life of the server may differ in how far
/// they were on disk, but for those of one core: before it went on in the next, the one before was synced.
fn comes_behind(survey: &Survey, later: &Survey) -> bool {
    match (survey.head, later.head) {
        (Some(a), Some(b)) if a.cores == b.cores => a.core == b.core && later.has_own(),
        _ => later.has_something(),
    }
}

/// Without a manifest nobody knows what files are worth, and new ones would take their names: they get others.
fn set_aside(disk: &Disk, dir: &Path, name: &str) -> Result<(), String> {
    let names = disk.foreign_names(dir);
    for file in names.map_err(|e| format!("{}: {e}", dir.display()))? {
        let rest = file
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('.'));
        let Some((seq, kind)) = rest.and_then(|rest| rest.split_once('.')) else {
            continue;
        };
        let is_ours = matches!(kind, "base.rdb" | "base.aof" | "incr.aof");
        if !is_ours || seq.parse::<u64>().is_err() {
            continue;
        }
        let mut copies = (1..).map(|nth| dir.join(format!("{file}.unnamed-{nth}")));
        let Some(to) = copies.find(|path| !path.exists()) else {
            continue;
        };
        tracing::warn!(
            "There is no manifest that names {file}: it is not read, and moved to {}",
            to.display()
        );
        let path = dir.join(&file);
        disk.rename(&path, &to)
            .map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

/// A log of before Redis 7, which was one file, becomes the base.
fn adopt(disk: &Disk, config: &Config, dir: &Path, name: &str) -> Result<Manifest, String> {
    let mut manifest = Manifest::default();
    let (old, new) = (config.dir.path().join(name), dir.join(name));
    // A crash may have left it among the others, with no manifest that names it.
    if disk.is_file(&old) {
        move_old(disk, &old, &new)?;
    } else if !disk.is_file(&new) {
        return Ok(manifest);
    }
    manifest.base = Some(manifest::Entry {
        name: name.to_owned(),
        seq: 1,
        kind: Kind::Base,
    });
    let text = manifest.to_text();
    let path = dir.join(format!("{name}.manifest"));
    crate::files::replace_on(disk, &path, text.as_bytes())
        .map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(manifest)
}

fn move_old(disk: &Disk, old: &Path, new: &Path) -> Result<(), String> {
    let moved = disk.rename(old, new).and_then(|()| {
        disk.sync_folder_of(new)?;
        disk.sync_folder_of(old)
    });
    moved.map_err(|e| format!("{}: {e}", old.display()))?;
    tracing::info!("Successfully migrated an old-style AOF: it is the base file from now on");
    Ok(())
}

/// Another server wrote a manifest of such a log, and ended before it moved the file.
fn finish_adopting(
    disk: &Disk,
    config: &Config,
    dir: &Path,
    name: &str,
    manifest: &Manifest,
) -> Result<(), String> {
    let (old, new) = (config.dir.path().join(name), dir.join(name));
    let is_old = manifest.base.as_ref().is_some_and(|base| base.name == name);
    let is_all = manifest.incremental.is_empty() && manifest.history.is_empty();
    if is_old && is_all && !disk.is_file(&new) && disk.is_file(&old) {
        move_old(disk, &old, &new)?;
    }
    Ok(())
}

/// A log that begins with nothing has a base that says so, as Redis's has.
fn empty_base(
    disk: &Disk,
    config: &Config,
    dir: &Path,
    name: &str,
) -> Result<manifest::Entry, String> {
    let bytes = match config.aof_use_rdb_preamble {
        true => snapshot::empty(&[("aof-base", "1")]),
        false => Vec::new(),
    };
    let ending = base_ending(!config.aof_use_rdb_preamble);
    let entry = manifest::Entry {
        name: format!("{name}.1.base.{ending}"),
        seq: 1,
        kind: Kind::Base,
    };
    let path = dir.join(&entry.name);
    crate::files::replace_on(disk, &path, &bytes)
        .map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(entry)
}

/// Where the snapshot ends with which a file begins; 0 if it begins with none.
fn snapshot_end(disk: &Disk, path: &Path) -> Result<u64, String> {
    let mut file = disk.open(path).map_err(|e| e.to_string())?;
    let mut magic = [0; 5];
    match file.read_exact(&mut magic) {
        Ok(()) if magic == *b"REDIS" => {}
        _ => return Ok(0),
    }
    if path.extension().is_some_and(|extension| extension == "rdb") {
        return file.size().map_err(|e| e.to_string());
    }
    file.rewind().map_err(|e| e.to_string())?;
    let mut scanner = rdb::Scanner::new(1024);
    scanner.skip_checksum();
    let (mut bytes, mut wanted) = (Vec::new(), 8 << 20);
    loop {
        let before = bytes.len();
        let read = (&mut file).take(wanted as u64).read_to_end(&mut bytes);
        read.map_err(|e| format!("cannot read: {e}"))?;
        let progress = scanner.scan(&bytes, |_| {}).map_err(|e| e.to_string())?;
        if progress.done {
            return Ok(scanner.offset());
        }
        if bytes.len() - before < wanted {
            return Err("the snapshot at its beginning is cut off".into());
        }
        bytes.drain(..progress.consumed);
        wanted = if progress.consumed == 0 {
            bytes.len().max(8 << 20)
        } else {
            8 << 20
        };
    }
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> String {
    format!(
        "The append only file {} cannot be read: {error}",
        path.display()
    )
}

fn open_at(disk: &Disk, path: &Path, start: u64) -> std::io::Result<Scanner<BufReader<DiskFile>>> {
    let mut file = disk.open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut scanner = Scanner::new(BufReader::with_capacity(1 << 20, file));
    scanner.offset = start;
    Ok(scanner)
}

fn look_through(disk: &Disk, path: &Path, start: u64, config: &Config) -> Result<Survey, String> {
    let shown = path.display();
    let mut scanner = open_at(disk, path, start).map_err(|e| unreadable(path, e))?;
    let mut found = survey(&mut scanner);
    found.end = found.end.max(start);
    match &found.stop {
        None => {}
        Some(Stop::Io(error)) => {
            return Err(format!(
                "Unrecoverable error reading the append only file {shown}: {error}"
            ));
        }
        Some(Stop::Format) => {
            return Err(format!(
                "Bad file format reading the append only file {shown}, at offset {}: make a backup of your AOF file, then use \
                 redis-check-aof --fix <filename.manifest>",
                scanner.offset
            ));
        }
        Some(Stop::CutOff) if !config.aof_load_truncated => {
            return Err(format!(
                "Unexpected end of file reading the append only file {shown}. You can: 1) Make a backup of your AOF file, then \
                 use redis-check-aof --fix <filename.manifest>. 2) Alternatively you can set the 'aof-load-truncated' configuration option \
                 to yes and restart the server."
            ));
        }
        Some(Stop::CutOff) => {}
    }
    Ok(found)
}

fn cut(disk: &Disk, path: &Path, end: u64) -> Result<(), String> {
    let shown = path.display();
    tracing::warn!("!!! Warning: short read while loading the AOF file {shown}!!!");
    tracing::warn!("Truncating the AOF {shown} at offset {end}");
    let file = disk.open_to_change(path);
    file.and_then(|file| {
        file.set_len(end)?;
        file.sync_all()
    })
    .map_err(|e| format!("Error truncating the AOF file {shown}: {e}"))?;
    tracing::warn!("AOF {shown} loaded anyway because aof-load-truncated is enabled");
    Ok(())
}

impl Generation {
    /// Parts that a file lacks of transactions of which another tells.
    fn find_missing(&mut self) {
        let mut told: BTreeMap<u64, BTreeMap<u16, Vec<u8>>> = BTreeMap::new();
        for source in &self.sources {
            for parts in &source.survey.transactions {
                let known = told.entry(parts.number).or_default();
                known.extend(parts.others.iter().cloned());
            }
        }
        for source in &mut self.sources {
            let Some(head) = source.head() else { continue };
            let has: HashSet<u64> = source
                .survey
                .transactions
                .iter()
                .map(|t| t.number)
                .collect();
            let lacks = told.iter().filter(|(number, _)| !has.contains(number));
            let missing = lacks.filter_map(|(_, parts)| parts.get(&head.core).cloned());
            source.missing = missing.collect();
            if !source.missing.is_empty() {
                tracing::warn!(
                    "{} lacks the end of {} transactions, which other files have",
                    source.path.display(),
                    source.missing.len()
                );
            }
        }
    }
}

/// Sends everything to the cores: `sockets` by core. Returns when all of it has been carried out.
pub fn feed(plan: &Plan, sockets: Vec<UnixStream>, progress: &Progress) -> Result<(), String> {
    let barrier = Barrier::new(sockets.len());
    let cores = sockets.len();
    let mut feeders: Vec<Feeder<'_>> = sockets
        .into_iter()
        .map(|socket| Feeder::new(socket, progress))
        .collect();
    let results: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = feeders
            .iter_mut()
            .enumerate()
            .map(|(core, feeder)| {
                let barrier = &barrier;
                scope.spawn(move || feeder.feed(plan, core, cores, barrier))
            })
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|_| Err("a reader of the log panicked".into()))
        };
        threads.into_iter().map(join).collect()
    });
    let result: Result<(), String> = results.into_iter().collect();
    if result.is_err() {
        // A core takes the end of its connection for the end of its part, and begins to write. The process ends now.
        std::mem::forget(feeders);
    }
    result
}

/// The commands of a part of a file.
fn write_range(
    disk: &Disk,
    source: &Source,
    from: u64,
    to: u64,
    out: &mut impl Write,
) -> Result<(), String> {
    let shown = source.path.display();
    let scanner = open_at(disk, &source.path, from).map_err(|e| format!("{shown}: {e}"))?;
    copy_commands(scanner, to, source, out)
}

fn copy_commands(
    mut scanner: Scanner<impl BufRead>,
    to: u64,
    source: &Source,
    out: &mut impl Write,
) -> Result<(), String> {
    let shown = source.path.display();
    let names = Registry::get().logged();
    while scanner.offset < to {
        match scanner.advance() {
            Ok(Found::Command) => {}
            Ok(Found::Annotation) => continue,
            Ok(Found::End) | Err(_) => {
                return Err(format!("{shown} has changed while it was read"));
            }
        }
        let words: Vec<&[u8]> = scanner.words().collect();
        if names.resolve(&words).is_none() {
            return Err(format!(
                "Unknown command '{}' reading the append only file {shown}",
                words[0].escape_ascii()
            ));
        }
        out.write_all(&scanner.raw).map_err(lost)?;
    }
    Ok(())
}

struct Feeder<'p> {
    to: BufWriter<Counted<'p>>,
}

/// Tells how far it is.
struct Counted<'p> {
    socket: UnixStream,
    progress: &'p Progress,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.socket.write(bytes)?;
        self.progress.advance(written as u64);
        Ok(written)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.socket.flush()
    }
}

impl<'p> Feeder<'p> {
    fn new(socket: UnixStream, progress: &'p Progress) -> Self {
        Self {
            to: BufWriter::with_capacity(256 << 10, Counted { socket, progress }),
        }
    }

    fn feed(
        &mut self,
        plan: &Plan,
        core: usize,
        cores: usize,
        barrier: &Barrier,
    ) -> Result<(), String> {
        // The others must not wait for one that has failed.
        let mut result = self.send(&[b"CLIENT", b"REPLY", b"OFF"]);
        for generation in 0..plan.generations() {
            if core == 0 && result.is_ok() {
                result = self.globals(plan, generation);
            }
            barrier.wait();
            if result.is_ok() {
                result = self.shares(plan, generation, core, cores);
            }
            barrier.wait();
        }
        result
    }

    /// What concerns all files of the generation.
    fn globals(&mut self, plan: &Plan, generation: usize) -> Result<(), String> {
        plan.write_globals(generation, &mut self.to)?;
        self.settle()
    }
    fn shares(
        &mut self,
        plan: &Plan,
        generation: usize,
        core: usize,
        cores: usize,
    ) -> Result<(), String> {
        plan.write_shares(generation, core, cores, &mut self.to)?;
        self.settle()
    }

    fn send(&mut self, words: &[&[u8]]) -> Result<(), String> {
        let mut bytes = Vec::new();
        write_command(&mut bytes, words);
        self.to.write_all(&bytes).map_err(lost)
    }

    /// Waits until all that was sent is done. DBSIZE concerns all keys, so it waits for everything before it.
    fn settle(&mut self) -> Result<(), String> {
        self.send(&[b"CLIENT", b"REPLY", b"ON"])?;
        self.send(&[b"DBSIZE"])?;
        self.send(&[b"CLIENT", b"REPLY", b"OFF"])?;
        self.to.flush().map_err(lost)?;
        let (mut socket, mut byte, mut lines) = (&self.to.get_ref().socket, [0], 0);
        while lines < 2 {
            socket.read_exact(&mut byte).map_err(lost)?;
            lines += usize::from(byte[0] == b'\n');
        }
        Ok(())
    }
}

/// A command of the log answered with an error. As in Redis, reading goes on: it may have done so when it was new.
#[cold]
pub(crate) fn failed(entry: Option<&Entry>, error: &CommandError) {
    // What is wrong is seen from a few.
    if FAILED.fetch_add(1, Ordering::Relaxed) < 20 {
        let name = entry.map_or("a command", |entry| &entry.name);
        let text = error.text();
        tracing::warn!("{name} of the append only file answered with an error: {text}");
    }
}
/// How many did.
pub(crate) static FAILED: AtomicU64 = AtomicU64::new(0);

fn lost(error: std::io::Error) -> String {
    format!("a core has ended while it read the log: {error}")
}
