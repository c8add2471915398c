//! Snapshots on disk: RDB files, which Redis and Valkey read too and theirs are read. The format is the shard's (`ringwood_shard::rdb`);
//! here are the files, and the point in time at which all cores write.

pub mod load;
pub mod save;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};

/// What all cores know of snapshots.
#[derive(Debug, Default)]
pub struct State {
    /// One is being written.
    pub saving: AtomicBool,
    /// When the last one was finished, in seconds since 1970; 0: none was since the start.
    pub last_save: AtomicI64,
    pub saves: AtomicU64,
    /// The last one failed.
    pub failed: AtomicBool,
}
