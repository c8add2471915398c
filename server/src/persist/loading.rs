//! Loading while the server listens: clients are told to wait (`-LOADING`), INFO tells how far it is, SHUTDOWN ends it.
//!
//! One thread, no core's, reads the file and finds the entries ([`Source::feed`]). Every core gets each piece, unpacks the entries that are its own
//! in slices of its turns ([`Core::load_slice`]) and sends the piece back; of the few pieces that there are none is filled anew before all have.
//! The checksum is at the file's end: only behind it the cores are told that this was all ([`Job::End`]), and the last one that has heard it lets
//! clients in, or has the log's commands sent behind the snapshot ([`crate::aof::replay`]). So nothing of a file that turns out to be damaged is
//! ever served. Nothing expires meanwhile and nobody hears of keys.

use super::load::{BATCH, Counts, Finder, Piece, Twice, unpack};
use crate::commands::lock;
use crate::config::Config;
use crate::core::{Core, Shared};
use crate::io::Io;
use crate::io::world::Waker;
use crate::mailbox::Ticket;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::fmt::Write;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Pieces on their way, at most.
const PIECES: usize = 6;
/// How long a core unpacks before it looks after its clients.
const SLICE: Duration = Duration::from_millis(2);
/// Between two lines in the log.
const REPORT: Duration = Duration::from_secs(5);

/// How far it is.
#[derive(Debug, Default)]
pub struct Progress {
    /// Seconds since 1970.
    began: AtomicI64,
    total: AtomicU64,
    done: AtomicU64,
    /// What the snapshot says of its server's memory.
    used_memory: AtomicU64,
    said: Mutex<Option<Instant>>,
}

impl Progress {
    /// So many bytes are to be read.
    pub fn begin(&self, total: u64) {
        self.began.store(unix_seconds(), Relaxed);
        self.total.store(total, Relaxed);
        self.done.store(0, Relaxed);
        *lock(&self.said) = Some(Instant::now());
    }
    /// So many more are done.
    pub fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Relaxed) + bytes;
        let mut said = lock(&self.said);
        if said.is_none_or(|at| at.elapsed() >= REPORT) {
            *said = Some(Instant::now());
            let (percent, seconds) = self.percent_and_seconds();
            let (done, total) = (done >> 20, self.total.load(Relaxed) >> 20);
            tracing::info!(
                "Loading: {done} of {total} MB ({percent:.0}%), about {seconds} seconds left"
            );
        }
    }
    fn percent_and_seconds(&self) -> (f64, i64) {
        let total = self.total.load(Relaxed);
        let done = self.done.load(Relaxed).min(total);
        let percent = done as f64 * 100.0 / total.max(1) as f64;
        let passed = (unix_seconds() - self.began.load(Relaxed)).max(0);
        // As Redis, a second while nothing is known.
        let left = match passed {
            0 => 1,
            passed => (passed as f64 * (total - done) as f64 / (done + 1) as f64) as i64,
        };
        (percent, left)
    }
    /// The fields of INFO persistence.
    pub(crate) fn lines(&self, out: &mut String) {
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a String cannot fail.
            let _ = write!(out, "loading_{name}:{value}\r\n");
        };
        let (percent, left) = self.percent_and_seconds();
        let total = self.total.load(Relaxed);
        line("start_time", &self.began.load(Relaxed));
        line("total_bytes", &total);
        line("rdb_used_mem", &self.used_memory.load(Relaxed));
        line("loaded_bytes", &self.done.load(Relaxed).min(total));
        line("loaded_perc", &format_args!("{percent:.2}"));
        line("eta_seconds", &left);
    }
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs() as i64)
}

/// For a core, from the thread that reads.
#[derive(Debug)]
enum Job {
    Piece(Arc<Piece>),
    /// That was all, and it is sound.
    End,
}

/// From a core: it is done with a piece, or with all.
#[derive(Debug)]
enum Done {
    Piece(Arc<Piece>, Result<(), String>),
    All(Counts),
}

/// What follows behind the snapshot.
pub enum Next {
    Serve,
    /// The log is written from there on.
    Log,
    /// The log's commands, which come from here.
    Commands(UnixStream),
}

/// A core's side.
pub struct Share {
    jobs: Receiver<Job>,
    done: Sender<Done>,
    piece: Option<Arc<Piece>>,
    /// The next of its entries.
    at: usize,
    counts: Counts,
    /// Cores that have not loaded all of theirs.
    left: Arc<AtomicUsize>,
    next: Next,
}

/// The reading thread's side.
pub struct Source {
    jobs: Vec<Sender<Job>>,
    done: Receiver<Done>,
    /// To be filled.
    free: Vec<Piece>,
}

/// Why loading ended early.
#[derive(Debug)]
pub enum Stopped {
    /// The server ends.
    Ending,
    Broken(String),
}

/// Both sides.
pub fn begin(cores: usize) -> (Source, Vec<Share>) {
    // Never full: no core waits to give a piece back.
    let (back, done) = bounded((PIECES + 1) * cores);
    let left = Arc::new(AtomicUsize::new(cores));
    let mut jobs = Vec::new();
    let shares = (0..cores).map(|_| {
        let (sender, receiver) = bounded(PIECES + 1);
        jobs.push(sender);
        Share {
            jobs: receiver,
            done: back.clone(),
            piece: None,
            at: 0,
            counts: Counts::default(),
            left: left.clone(),
            next: Next::Serve,
        }
    });
    let shares = shares.collect();
    let free = (0..PIECES).map(|_| Piece::new(cores)).collect();
    (Source { jobs, done, free }, shares)
}

impl Source {
    /// Reads a snapshot for all cores. Returns when all have loaded what is theirs.
    pub fn feed(
        mut self,
        file: impl Read,
        shared: &Shared,
        config: &Config,
        wakers: &[Waker],
    ) -> Result<(), Stopped> {
        let begun = Instant::now();
        let state = &shared.persistence;
        let owner = |slot: u16| Some(shared.owners[slot as usize] as usize);
        let mut finder = Finder::new(file, config.databases as usize, true, owner);
        if !config.rdbchecksum {
            finder.skip_checksum();
        }
        loop {
            let mut piece = match self.free.pop() {
                Some(piece) => piece,
                None => self.wait_for_one(state)?,
            };
            if !finder.next(&mut piece).map_err(Stopped::Broken)? {
                break;
            }
            state
                .progress
                .used_memory
                .store(finder.remarks.used_memory, Relaxed);
            let piece = Arc::new(piece);
            self.send(wakers, || Job::Piece(piece.clone()))?;
        }
        let libraries = &shared.scripts.libraries;
        libraries
            .load(&finder.remarks.libraries)
            .map_err(|e| Stopped::Broken(format!("Failed loading a function library: {e}")))?;
        self.send(wakers, || Job::End)?;
        let mut counts = Counts::default();
        for _ in 0..self.jobs.len() {
            counts += loop {
                if let Some(counts) = self.receive(state)? {
                    break counts;
                }
            };
        }
        tell(counts, finder.remarks.passed_over, begun.elapsed());
        Ok(())
    }

    fn send(&self, wakers: &[Waker], job: impl Fn() -> Job) -> Result<(), Stopped> {
        for (core, waker) in self.jobs.iter().zip(wakers) {
            core.send(job()).map_err(|_| Stopped::Ending)?;
            waker.wake();
        }
        Ok(())
    }
    fn wait_for_one(&mut self, state: &super::State) -> Result<Piece, Stopped> {
        loop {
            self.receive(state)?;
            if let Some(piece) = self.free.pop() {
                return Ok(piece);
            }
        }
    }
    /// Takes a piece back, which is free when the last core has given it; or what a core has loaded in all.
    fn receive(&mut self, state: &super::State) -> Result<Option<Counts>, Stopped> {
        match self.done.recv() {
            Err(_) => Err(Stopped::Ending),
            Ok(Done::All(counts)) => Ok(Some(counts)),
            Ok(Done::Piece(_, Err(error))) => Err(Stopped::Broken(error)),
            Ok(Done::Piece(piece, Ok(()))) => {
                if let Ok(piece) = Arc::try_unwrap(piece) {
                    state.progress.advance(piece.size());
                    self.free.push(piece);
                }
                Ok(None)
            }
        }
    }
}

fn tell(counts: Counts, passed_over: u64, took: Duration) {
    let Counts {
        keys,
        expired,
        empty,
    } = counts;
    let skipped = match empty {
        0 => String::new(),
        empty => format!(", empty keys skipped: {empty}"),
    };
    tracing::info!("Done loading RDB, keys loaded: {keys}, keys expired: {expired}{skipped}.");
    if passed_over + empty > 0 {
        let count = passed_over + empty;
        tracing::warn!("{count} keys of the snapshot were passed over");
    }
    tracing::info!("DB loaded from disk: {:.3} seconds", took.as_secs_f64());
}

impl Core {
    /// A snapshot is read first.
    pub fn begin_loading(&mut self, mut share: Share, next: Next) {
        (self.loading, self.shard.loading) = (true, true);
        share.next = next;
        self.share = Some(Box::new(share));
    }
    /// There is something to unpack.
    pub(crate) fn has_to_load(&self) -> bool {
        let share = self.share.as_ref();
        share.is_some_and(|share| share.piece.is_some() || !share.jobs.is_empty())
    }

    /// Unpacks some of what is this core's.
    pub(crate) fn load_slice(&mut self) {
        let Some(mut share) = self.share.take() else {
            return;
        };
        let until = self.io.mono_ns() + SLICE.as_nanos() as u64;
        while self.io.mono_ns() < until {
            if share.piece.is_none() {
                match share.jobs.try_recv() {
                    Ok(Job::Piece(piece)) => (share.piece, share.at) = (Some(piece), 0),
                    Ok(Job::End) => return self.loaded(*share),
                    // Nothing yet; or nothing more, since the file is damaged: then the server ends.
                    Err(_) => break,
                }
            }
            self.load_batch(&mut share);
        }
        self.share = Some(share);
    }
    fn load_batch(&mut self, share: &mut Share) {
        let Some(piece) = share.piece.take() else {
            return;
        };
        // The log says itself what expired.
        let due_ms = match share.next {
            Next::Commands(_) => 0,
            Next::Serve | Next::Log => self.shard.now_ms,
        };
        let places = &piece.places(self.id)[share.at..];
        let batch = &places[..places.len().min(BATCH)];
        let result = unpack(
            &piece,
            batch,
            &mut self.shard,
            due_ms,
            Twice::Refused,
            &mut share.counts,
        );
        share.at += batch.len();
        if self.config.key_load_delay != 0 {
            delay(self.config.key_load_delay, batch.len());
        }
        let is_done = batch.len() == places.len() || result.is_err();
        match is_done {
            // Nobody takes it when the server ends.
            true => drop(share.done.send(Done::Piece(piece, result))),
            false => share.piece = Some(piece),
        }
    }

    /// This core has all that is its own. With the last, clients are let in, or the log's commands come.
    fn loaded(&mut self, share: Share) {
        let Share {
            counts,
            done,
            left,
            next,
            ..
        } = share;
        let state = &self.shared.persistence;
        state.loaded.fetch_add(counts.keys, Relaxed);
        state.loaded_expired.fetch_add(counts.expired, Relaxed);
        let (is_last, logs) = (left.fetch_sub(1, AcqRel) == 1, matches!(next, Next::Log));
        if let Next::Commands(stream) = next {
            self.adopt_loader(stream.into());
        } else if is_last {
            let ask = move |core: &mut Core| {
                core.shard.loading = false;
                if logs {
                    core.start_logging();
                }
                Vec::new()
            };
            let conclude = |core: &mut Core, _: Ticket, _: Vec<Vec<u8>>| {
                core.shared.aof.loading.store(false, Release);
            };
            self.ask_all(Ticket::NOBODY, Arc::new(ask), Box::new(conclude));
        }
        drop(done.send(Done::All(counts)));
    }
}

/// `key-load-delay`: so many microseconds for each key; a negative one is a microsecond for so many keys.
fn delay(per_key: i32, keys: usize) {
    let keys = keys as u64;
    let micros = match u64::try_from(per_key) {
        Ok(micros) => keys * micros,
        Err(_) => keys / u64::from(per_key.unsigned_abs()),
    };
    if micros > 0 {
        std::thread::sleep(Duration::from_micros(micros));
    }
}
