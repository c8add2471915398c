//! One snapshot over all cores.
//!
//! It begins with a *visit*, a transaction that concerns all of every core: so what it holds is what was before one point in the order of
//! transactions, and a MULTI or script is in it wholly or not at all. For SAVE every core writes all that it has during the visit, and everybody
//! waits. Otherwise the visit only makes the cores' *cuts* ([`ringwood_shard::keyspace::cut`]): after it each core takes its entries in slices of
//! its turns, and those that are about to change before they do.
//!
//! What cores write goes to the writer's thread ([`super::writer`]) in buffers, whose bytes are bounded over all cores: above [`SOFT`] the slices pause,
//! above [`HARD`] a core that must take an entry waits for the disk.
//!
//! Who starts a snapshot gets its result on the core that started it. A snapshot that nobody wants any more is cancelled: its file goes, and its
//! cuts end.

use super::writer::{Job, Message};
use crate::commands::lock;
use crate::config::Config;
use crate::config::enums::MaxmemoryPolicy;
use crate::core::Core;
use crate::disk::Disk;
use crate::io::Io;
use crate::mailbox::Ticket;
use crate::process::priority::GivesWay;
use crossbeam_channel::{Receiver, Sender};
use ringwood_protocol::error::CommandError;
use ringwood_shard::rdb::snapshot::{self, Options, Output, Stream, Written};
use std::path::PathBuf;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Bytes that wait for the disk, over all cores, above which the writer no longer leaves the CPUs to the cores.
const HURRY: usize = 8 << 20;
/// Above which nothing is written that need not be.
const SOFT: usize = 32 << 20;
/// And above which what must be written waits.
const HARD: usize = 64 << 20;
/// How long a slice may be, in nanoseconds; and while there are requests.
const SLICE_NS: u64 = 200_000;
const BUSY_SLICE_NS: u64 = 100_000;
/// There are requests: this long after one; and a turn that did so much else had some.
const CALM_NS: u64 = 2_000_000;
const WORK_NS: u64 = 20_000;
/// While there are, slices rest so many times as long as they take. What is left of the CPU is for requests: a core that takes all of it waits for
/// it longer whenever it shares it with somebody.
const REST: u64 = 2;
/// Bytes that are written between looks at the clock.
const STEP: usize = 8 << 10;
/// How long a core waits before it looks again whether the writer has caught up.
const PAUSE: Duration = Duration::from_millis(1);

/// What a snapshot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// SAVE and the server's end: everybody waits.
    Save,
    Bgsave,
    /// The log's base file.
    AofBase,
}

/// Why there is no file.
#[derive(Debug)]
pub enum Failure {
    Io(std::io::Error),
    Cancelled,
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

pub type Outcome = Result<Written, Failure>;

/// Why a snapshot does not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// One for this purpose is under way.
    With(Purpose),
}

impl From<Busy> for CommandError {
    fn from(Busy::With(purpose): Busy) -> Self {
        Self::fixed(match purpose {
            Purpose::Save | Purpose::Bgsave => "ERR Background save already in progress",
            Purpose::AofBase => {
                "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to \
                 schedule a BGSAVE whenever possible."
            }
        })
    }
}

const RUNS: u8 = 0;
const CANCELLED: u8 = 1;
/// It has its name, or it failed.
const ENDED: u8 = 2;
/// It is to fail: DEBUG FAIL-SNAPSHOT.
const FAILS: u8 = 3;

/// A snapshot that is being written, as all threads see it.
#[derive(Debug)]
pub struct Snapshot {
    pub purpose: Purpose,
    pub disk: Disk,
    pub path: PathBuf,
    pub temporary: PathBuf,
    pub cores: usize,
    /// The file's first bytes; a snapshot's with an open version.
    pub head: Vec<u8>,
    /// It becomes commands: a log's base without a snapshot.
    pub as_commands: bool,
    /// `rdbchecksum`
    pub with_checksum: bool,
    /// `rdb-save-incremental-fsync`
    pub incremental_fsync: bool,
    pub begun: Instant,
    options: Options,
    /// FLUSHALL began it: any other is as good.
    after_flush: bool,
    state: AtomicU8,
    has_libraries: AtomicBool,
    keys: AtomicU64,
    keys_taken: AtomicU64,
    /// Bytes written of entries because they were about to change.
    copied: AtomicU64,
    /// By core: changes that are in this snapshot and were in none.
    changes: Mutex<Vec<(usize, u64)>>,
    messages: Sender<Message>,
    /// The writer's turn on the CPUs.
    pub(super) writers_turn: Arc<GivesWay>,
    /// Bytes on their way to the writer, and the most there were.
    pending: AtomicUsize,
    peak: AtomicUsize,
    room: Mutex<()>,
    has_room: Condvar,
}

impl Snapshot {
    fn new(core: &Core, purpose: Purpose, path: PathBuf) -> (Self, Receiver<Message>) {
        let config = &core.config;
        let ctime = (core.now.unix_ms / 1000).to_string();
        let memory = core.shared.memory.used().to_string();
        let base = if purpose == Purpose::AofBase {
            "1"
        } else {
            "0"
        };
        let as_commands = purpose == Purpose::AofBase && !config.aof_use_rdb_preamble;
        let head = match as_commands {
            true if config.aof_timestamp_enabled => format!("#TS:{ctime}\r\n").into_bytes(),
            true => Vec::new(),
            false => snapshot::begin(&[
                ("redis-ver", crate::commands::hello::REDIS_VERSION),
                ("redis-bits", "64"),
                ("ctime", &ctime),
                ("used-mem", &memory),
                ("aof-base", base),
            ]),
        };
        // One at a time has it: the writer does one after the other, and a cancelled one's is gone when the next is claimed.
        let name = format!("temp-{}.rdb", std::process::id());
        let (messages, receiver) = crossbeam_channel::unbounded();
        let new = Self {
            purpose,
            disk: core.shared.aof.disk.clone(),
            temporary: path.with_file_name(name),
            path,
            cores: core.cores(),
            head,
            as_commands,
            with_checksum: config.rdbchecksum,
            incremental_fsync: match purpose {
                Purpose::AofBase => config.aof_rewrite_incremental_fsync,
                Purpose::Save | Purpose::Bgsave => config.rdb_save_incremental_fsync,
            },
            begun: Instant::now(),
            options: options(config),
            after_flush: false,
            state: AtomicU8::new(RUNS),
            has_libraries: AtomicBool::new(false),
            keys: AtomicU64::new(0),
            keys_taken: AtomicU64::new(0),
            copied: AtomicU64::new(0),
            changes: Mutex::default(),
            messages,
            writers_turn: core.shared.persistence.writers_turn.clone(),
            pending: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            room: Mutex::new(()),
            has_room: Condvar::new(),
        };
        (new, receiver)
    }

    pub fn is_cancelled(&self) -> bool {
        self.state.load(Acquire) == CANCELLED
    }
    fn has_ended(&self) -> bool {
        self.state.load(Acquire) == ENDED
    }
    fn is_over(&self) -> bool {
        self.state.load(Acquire) != RUNS
    }
    /// It keeps others from saving.
    pub fn is_in_the_way(&self) -> bool {
        !self.is_cancelled() && !self.after_flush
    }
    /// Nobody wants it any more. Its temporary file is gone when this returns.
    pub fn cancel(&self) {
        let before = self
            .state
            .compare_exchange(RUNS, CANCELLED, Release, Relaxed);
        if before.is_ok() {
            self.remove_temporary();
            // It need not be there any more.
            let _ = self.messages.send(Message::Cancel);
            self.wake();
        }
    }
    /// It ends as if the disk had failed. False if it has ended already.
    pub fn fail(&self) -> bool {
        let before = self.state.compare_exchange(RUNS, FAILS, Release, Relaxed);
        if before.is_ok() {
            let _ = self.messages.send(Message::Cancel);
            self.wake();
        }
        before.is_ok()
    }
    /// Why the writer is to stop.
    pub(super) fn stopped(&self) -> Option<Failure> {
        match self.state.load(Acquire) {
            CANCELLED => Some(Failure::Cancelled),
            FAILS => Some(std::io::Error::other("DEBUG FAIL-SNAPSHOT").into()),
            _ => None,
        }
    }
    /// The writer is done with it.
    pub(super) fn end(&self) {
        // Who cancelled it may not wait for this.
        let _ = self.state.compare_exchange(RUNS, ENDED, Release, Relaxed);
        let _ = self.state.compare_exchange(FAILS, ENDED, Release, Relaxed);
        self.wake();
    }
    pub(super) fn remove_temporary(&self) {
        // It is gone already if it has got its name.
        let _ = self.disk.remove(&self.temporary);
    }
    fn wake(&self) {
        let _room = lock(&self.room);
        self.has_room.notify_all();
    }

    /// The writer has written so much.
    pub(super) fn wrote(&self, bytes: usize) {
        let before = self.pending.fetch_sub(bytes, Relaxed);
        if before > HURRY / 2 && before - bytes <= HURRY / 2 && self.purpose != Purpose::Save {
            self.writers_turn.relax();
        }
        if before > HARD && before - bytes <= HARD {
            self.wake();
        }
    }
    fn is_full(&self) -> bool {
        self.pending.load(Relaxed) > SOFT
    }
    /// Sends bytes to the writer, and waits if there are too many under way.
    fn send(&self, bytes: Vec<u8>, message: impl FnOnce(Vec<u8>) -> Message) {
        if self.is_over() || bytes.is_empty() {
            return;
        }
        let len = bytes.len();
        ringwood_shard::memory::hand_over(&bytes);
        let pending = self.pending.fetch_add(len, Relaxed) + len;
        self.peak.fetch_max(pending, Relaxed);
        if self.messages.send(message(bytes)).is_err() {
            // The writer ended just now; the cut will be.
            return;
        }
        if pending > HURRY {
            self.writers_turn.hurry();
        }
        if pending > HARD {
            let mut room = lock(&self.room);
            while self.pending.load(Relaxed) > HARD && !self.is_over() {
                let waited = self.has_room.wait_timeout(room, Duration::from_millis(100));
                room = waited.unwrap_or_else(|e| e.into_inner()).0;
            }
        }
    }

    /// Keys that were there, and how many of them were taken.
    pub fn progress(&self) -> (u64, u64) {
        (self.keys.load(Relaxed), self.keys_taken.load(Relaxed))
    }
    /// Bytes written of entries because they were about to change: what a fork would have copied, but by pages.
    pub fn copied(&self) -> u64 {
        self.copied.load(Relaxed)
    }
    /// The most bytes that lay in memory for it.
    pub fn peak(&self) -> u64 {
        self.peak.load(Relaxed) as u64
    }
    /// What a core had changed by the cut.
    pub(super) fn changes_of(&self, core: usize) -> u64 {
        let changes = lock(&self.changes);
        let own = changes.iter().filter(|(id, _)| *id == core);
        own.map(|(_, changes)| changes).sum()
    }
}

/// A core's way to the writer.
struct ToWriter {
    snapshot: Arc<Snapshot>,
    core: usize,
}

impl Output for ToWriter {
    fn run(&mut self, bytes: Vec<u8>) {
        self.snapshot.send(bytes, Message::Run);
    }
    fn piece(&mut self, bytes: Vec<u8>, last: bool) {
        let core = self.core;
        self.snapshot
            .send(bytes, |bytes| Message::Piece { core, bytes, last });
    }
    fn finish(&mut self, written: Written) {
        // An error means that the snapshot ended before.
        let _ = self.snapshot.messages.send(Message::Done(written));
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

/// What a core has to do with snapshots.
#[derive(Default)]
pub struct Snapshots {
    /// Those that it began.
    begun: Vec<Begun>,
    /// The last one of which it made a cut.
    cut: Option<Arc<Snapshot>>,
    /// Waits for the disk.
    paused: bool,
    /// What INFO was told of the cut: entries that are left, bytes copied.
    told: (usize, usize),
    /// Receives as of the last turn, and until when there are requests because of them.
    reads: u64,
    busy_until_ns: u64,
    /// When the next slice may begin.
    next_slice_ns: u64,
    /// `rdb-key-save-delay`: when the next key may be taken.
    next_key_ns: u64,
}

struct Begun {
    snapshot: Arc<Snapshot>,
    outcome: Receiver<Outcome>,
    then: Then,
}
type Then = Box<dyn FnOnce(&mut Core, &Snapshot, Outcome)>;

/// A snapshot that may begin.
#[must_use = "no other snapshot begins until this one was"]
pub struct Claim {
    snapshot: Arc<Snapshot>,
    messages: Receiver<Message>,
}

impl Core {
    /// Makes sure of a snapshot into this file: no other begins until it is over. [`Core::begin_snapshot`] must follow.
    pub(crate) fn claim_snapshot(
        &mut self,
        purpose: Purpose,
        path: PathBuf,
    ) -> Result<Claim, Busy> {
        self.claim(purpose, path, false)
    }
    /// The same for what FLUSHALL saves.
    pub(crate) fn claim_after_flush(&mut self, path: PathBuf) -> Result<Claim, Busy> {
        self.claim(Purpose::Bgsave, path, true)
    }
    fn claim(&mut self, purpose: Purpose, path: PathBuf, after_flush: bool) -> Result<Claim, Busy> {
        let mut running = lock(&self.shared.persistence.running);
        if let Some(running) = running.as_ref()
            && purpose != Purpose::AofBase
            && running.after_flush
        {
            // Redis has saved when it answers FLUSHALL; nobody is to be told to wait for that.
            running.cancel();
        }
        // One of FLUSHALL's that has its name already is in nobody's way either: only its core has not heard yet.
        let is_none = |s: &Snapshot| s.is_cancelled() || s.after_flush && s.has_ended();
        if let Some(running) = running.as_ref().filter(|s| !is_none(s)) {
            return Err(Busy::With(running.purpose));
        }
        let (mut snapshot, messages) = Snapshot::new(self, purpose, path);
        snapshot.after_flush = after_flush;
        let snapshot = Arc::new(snapshot);
        *running = Some(snapshot.clone());
        Ok(Claim { snapshot, messages })
    }

    /// Begins a snapshot. `at_cut` runs on every core at the point that the snapshot is of; `begun` on this core when all are past it; `then` on this
    /// core when the file is there, or will not be.
    pub(crate) fn begin_snapshot(
        &mut self,
        claim: Claim,
        at_cut: impl Fn(&mut Core) + Send + Sync + 'static,
        begun: impl FnOnce(&mut Core) + 'static,
        then: impl FnOnce(&mut Core, &Snapshot, Outcome) + 'static,
    ) {
        let Claim { snapshot, messages } = claim;
        let (sender, outcome) = crossbeam_channel::bounded(1);
        let waker = self.io.waker();
        let tell = move |result| {
            // Nobody waits for it when the server ends.
            let _ = sender.send(result);
            waker.wake();
        };
        self.snapshots.begun.push(Begun {
            snapshot: snapshot.clone(),
            outcome,
            then: Box::new(then),
        });
        let job = Job {
            snapshot: snapshot.clone(),
            messages,
            tell: Box::new(tell),
        };
        // Without a writer the job goes, and with it the other end of `outcome`.
        let _ = self.shared.persistence.start_writer().send(job);
        let visit = move |core: &mut Core| {
            core.cut(&snapshot);
            at_cut(core);
            Vec::new()
        };
        let conclude = move |core: &mut Core, _: Ticket, _: Vec<Vec<u8>>| begun(core);
        self.visit_all(Ticket::NOBODY, Arc::new(visit), Box::new(conclude));
    }

    /// At a snapshot's point in the order of transactions: writes all that this core has, or begins to.
    fn cut(&mut self, snapshot: &Arc<Snapshot>) {
        self.look_for_flush();
        let mut output = ToWriter {
            snapshot: snapshot.clone(),
            core: self.id,
        };
        // Who loads a library after this comes after the visits of all cores with whatever else it does.
        if !snapshot.has_libraries.swap(true, Relaxed) {
            for library in self.function_list() {
                output.run(snapshot::function(&library.code, snapshot.options.compress));
            }
        }
        let keyspace = &self.shard.keyspace;
        let keys: usize = (0..keyspace.databases()).map(|db| keyspace.len(db)).sum();
        snapshot.keys.fetch_add(keys as u64, Relaxed);
        lock(&snapshot.changes).push((self.id, self.shard.stats.dirty));
        let output = Box::new(output);
        if snapshot.purpose == Purpose::Save {
            snapshot::write(&self.shard, snapshot.options, output);
            snapshot.keys_taken.fetch_add(keys as u64, Relaxed);
            return;
        }
        let stream = Stream::new(&self.shard, snapshot.options, output);
        self.shard.keyspace.begin_cut(Box::new(stream));
        self.snapshots.cut = Some(snapshot.clone());
        self.snapshots.next_key_ns = 0;
        self.snapshots.told = (keys, 0);
    }

    /// A turn's slice of the cut that runs, and what has become of snapshots begun here.
    pub(crate) fn snapshot_slice(&mut self) {
        if self.shard.keyspace.cut().is_some() {
            self.take_entries();
        }
        if !self.snapshots.begun.is_empty() {
            self.take_outcomes();
        }
    }
    fn take_entries(&mut self) {
        let Some(snapshot) = self.snapshots.cut.clone() else {
            return;
        };
        if snapshot.is_over() {
            self.shard.keyspace.abandon_cut();
        }
        let wanted = self.shard.keyspace.cut().is_some_and(|c| c.is_wanted());
        self.snapshots.paused = wanted && snapshot.is_full();
        if self.snapshots.paused {
            return;
        }
        let begun = self.io.mono_ns();
        let reads = std::mem::replace(&mut self.snapshots.reads, self.stats.reads);
        if reads != self.stats.reads || begun.saturating_sub(self.now.mono_ns) > WORK_NS {
            self.snapshots.busy_until_ns = begun + CALM_NS;
        }
        let busy = begun < self.snapshots.busy_until_ns;
        if busy && begun < self.snapshots.next_slice_ns {
            return;
        }
        let delay = u64::try_from(self.config.rdb_key_save_delay).unwrap_or(0) * 1000;
        if delay > 0 && wanted {
            if begun >= self.snapshots.next_key_ns {
                self.shard.keyspace.cut_some(1);
                self.snapshots.next_key_ns = begun + delay;
            }
        } else {
            while !self.shard.keyspace.cut_some(STEP) {
                let now = self.io.mono_ns();
                let spent = now.saturating_sub(begun);
                self.snapshots.next_slice_ns = now + REST * spent;
                if spent >= SLICE_NS || busy && spent >= BUSY_SLICE_NS || self.io.ready() {
                    break;
                }
                if self.shard.keyspace.cut().is_some_and(|c| c.waits()) {
                    break;
                }
            }
        }
        self.tell_progress(&snapshot);
    }
    /// INFO shows what all cores have told.
    fn tell_progress(&mut self, snapshot: &Snapshot) {
        let (left, forced) = match self.shard.keyspace.cut() {
            Some(cut) => (cut.left(), cut.forced()),
            None => (0, self.snapshots.told.1),
        };
        let (left_before, forced_before) = self.snapshots.told;
        self.snapshots.told = (left, forced);
        let taken = left_before.saturating_sub(left) as u64;
        snapshot.keys_taken.fetch_add(taken, Relaxed);
        let copied = forced.saturating_sub(forced_before) as u64;
        snapshot.copied.fetch_add(copied, Relaxed);
    }
    /// How long this core may sleep for the sake of its cut.
    pub(crate) fn until_snapshot(&self) -> Duration {
        let Some(cut) = self.shard.keyspace.cut() else {
            return Duration::MAX;
        };
        if self.snapshots.paused || cut.waits() {
            return PAUSE;
        }
        let now = self.io.mono_ns();
        let mut next = self.snapshots.next_key_ns;
        if now < self.snapshots.busy_until_ns {
            next = next.max(self.snapshots.next_slice_ns);
        }
        let left = next.saturating_sub(now);
        Duration::from_nanos(left)
    }
    /// The cut waits for the disk: nothing should be freed that it would have to take first.
    pub(crate) fn snapshot_waits(&self) -> bool {
        self.snapshots.paused
    }

    fn take_outcomes(&mut self) {
        let mut at = 0;
        while at < self.snapshots.begun.len() {
            let outcome = match self.snapshots.begun[at].outcome.try_recv() {
                Ok(outcome) => outcome,
                Err(crossbeam_channel::TryRecvError::Empty) => {
                    at += 1;
                    continue;
                }
                Err(crossbeam_channel::TryRecvError::Disconnected) => {
                    let text = "the thread that writes snapshots does not run";
                    self.snapshots.begun[at].snapshot.end();
                    Err(std::io::Error::other(text).into())
                }
            };
            let Begun { snapshot, then, .. } = self.snapshots.begun.remove(at);
            let mut running = lock(&self.shared.persistence.running);
            if running.as_ref().is_some_and(|s| Arc::ptr_eq(s, &snapshot)) {
                *running = None;
            }
            drop(running);
            then(self, &snapshot, outcome);
        }
    }

    /// FLUSHALL ends a snapshot in the background of what was there before.
    pub(crate) fn look_for_flush(&mut self) {
        if !std::mem::take(&mut self.shard.flushed_all) {
            return;
        }
        let cut = self.snapshots.cut.as_ref();
        if let Some(snapshot) = cut.filter(|s| s.purpose == Purpose::Bgsave) {
            self.shared.persistence.cancel(snapshot);
            self.shard.keyspace.abandon_cut();
        }
        if self.id == 0 {
            self.save_after_flush();
        }
    }
}
