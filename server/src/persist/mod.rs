//! Snapshots on disk: RDB files, which Redis and Valkey read too and theirs are read. The format is the shard's (`ringwood_shard::rdb`).
//!
//! - [`snapshot`] is one snapshot, over all cores: at which point in the order of transactions, and how the cores come to write it.
//! - [`writer`] is the thread that writes files. Cores do no file I/O.
//! - [`save`] says when snapshots are made, and what becomes of their results: SAVE, BGSAVE, save points, the end of the server.
//! - [`load`] reads them; [`loading`] while the server listens.

pub mod load;
pub mod loading;
pub mod save;
pub mod snapshot;
pub mod writer;

use crate::commands::lock;
use crate::process::priority::GivesWay;
use snapshot::{Purpose, Snapshot};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock};

/// What all cores know of snapshots.
#[derive(Debug, Default)]
pub struct State {
    /// The one that is being written.
    running: Mutex<Option<Arc<Snapshot>>>,
    /// When the last one was finished, in seconds since 1970; 0: none was since the start.
    pub last_save: AtomicI64,
    pub saves: AtomicU64,
    /// The last one in the background failed.
    pub failed: AtomicBool,
    /// When the last one in the background was begun, in seconds since 1970.
    pub last_try: AtomicI64,
    /// How many seconds the last one in the background took, and one; 0: there was none.
    pub last_seconds: AtomicI64,
    /// Bytes that were written for it of keys about to change.
    pub last_copied: AtomicU64,
    /// Keys that were read at the start, and those among them whose time was over.
    pub loaded: AtomicU64,
    pub loaded_expired: AtomicU64,
    pub progress: loading::Progress,
    /// One is to be begun as soon as that is possible.
    pub scheduled: AtomicBool,
    /// FLUSHALL came while another snapshot was under way.
    pub flush_waits: AtomicBool,
    /// By core: changes since the last save, as of its last look.
    changes: Mutex<Vec<u64>>,
    writer: OnceLock<crossbeam_channel::Sender<writer::Job>>,
    writers_turn: Arc<GivesWay>,
}

impl State {
    pub fn running(&self) -> Option<Arc<Snapshot>> {
        lock(&self.running).clone()
    }
    /// Ends a snapshot. Nobody begins the next meanwhile: its file has the same temporary name, and would be removed.
    pub fn cancel(&self, snapshot: &Snapshot) {
        let _running = lock(&self.running);
        snapshot.cancel();
    }
    pub fn runs(&self, purpose: Purpose) -> bool {
        self.running().is_some_and(|s| s.purpose == purpose)
    }
    /// Tells what has changed on a core. Returns the sum of all.
    fn tell_changes(&self, core: usize, count: u64) -> u64 {
        let mut changes = lock(&self.changes);
        if changes.len() <= core {
            changes.resize(core + 1, 0);
        }
        changes[core] = count;
        changes.iter().sum()
    }
    /// Seconds that the last snapshot in the background took.
    pub fn last_seconds(&self) -> i64 {
        self.last_seconds.load(Relaxed) - 1
    }
}
