//! Redis's snapshot format, RDB: values as bytes. DUMP and RESTORE use it for one value, snapshot files for all.
//!
//! Source: what Redis 7.0 and 8.2 and Valkey 9.1 write and take, with which `server/tests/wire/dump.rs` compares; the type numbers of older versions
//! are in their `rdb.h`.
//!
//! ```text
//! file:   "REDIS0010" │ aux… │ (SELECTDB n │ RESIZEDB n n │ entry…)… │ EOF │ CRC64
//! entry:  [expiry] [idle time or frequency] │ type │ key │ value
//! DUMP:   type │ value │ version, 2 bytes │ CRC64 of all before
//! ```
//!
//! - [`reader`], [`writer`]: lengths, strings, numbers. [`lzf`], [`crc64`]: compression and checksum.
//! - [`ziplist`], [`zipmap`]: packed forms of old versions, for reading only.
//! - [`string`], [`list`], [`set`], [`zset`], [`hash`], [`stream`]: a type's values, both ways. [`value`] picks among them. [`module`]: stepped over.
//! - [`stored`]: what is kept as it lies in a file.
//! - [`scan`], [`snapshot`]: files, read and written.
//! - [`commands`]: entries as commands, for a log without snapshots.
//! - [`dump`]: what DUMP answers and RESTORE takes.
//!
//! **Nothing that is read is trusted.** Payloads come from clients. Reading checks every length against what is there before it is used,
//! makes nothing larger than the bytes at hand justify, and checks packed collections element by element, duplicates included, since
//! the code that works on them later relies on that. The fuzz target `rdb` and a property test with mutated payloads hold this.
//!
//! What is written loads in Redis 7.0 ([`VERSION`]), so sets never use 7.2's packed form (Redis packs them again when it loads them). A value that
//! only a newer version knows carries that version.

pub mod commands;
pub mod crc64;
pub mod dump;
mod hash;
mod list;
pub mod lzf;
mod module;
mod packed;
pub mod reader;
pub mod scan;
mod set;
pub mod snapshot;
mod stored;
mod stream;
mod string;
#[cfg(test)]
mod tests;
pub mod value;
pub mod writer;
mod ziplist;
mod zipmap;
mod zset;

use crate::keyspace::KeyHasher;
use crate::shard::Settings;

/// The version of what we write: Redis 7.0's.
pub const VERSION: u16 = 10;
/// The newest of Redis's that we read: 8.2's.
const REDIS_NEWEST: u16 = 12;
/// Valkey's since its versions parted from Redis's: 9.0 and 9.1.
const VALKEY_OLDEST: u16 = 80;
const VALKEY_NEWEST: u16 = 80;

/// Whose version a payload has. From Redis's version 12 on the two use the same type numbers for different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Redis,
    Valkey,
}

impl Dialect {
    /// `None` for versions that we do not read.
    pub fn of_version(version: u16) -> Option<Self> {
        match version {
            1..=REDIS_NEWEST => Some(Self::Redis),
            VALKEY_OLDEST..=VALKEY_NEWEST => Some(Self::Valkey),
            _ => None,
        }
    }
}

/// The numbers of value types.
pub mod kind {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const ZSET: u8 = 3;
    pub const HASH: u8 = 4;
    pub const ZSET_2: u8 = 5;
    pub const MODULE: u8 = 7;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const ZSET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const LIST_QUICKLIST: u8 = 14;
    pub const STREAM: u8 = 15;
    pub const HASH_LISTPACK: u8 = 16;
    pub const ZSET_LISTPACK: u8 = 17;
    pub const LIST_QUICKLIST_2: u8 = 18;
    pub const STREAM_2: u8 = 19;
    pub const SET_LISTPACK: u8 = 20;
    pub const STREAM_3: u8 = 21;
    /// The one number that means one thing in Redis and another in Valkey.
    pub const HASH_TIMED_OLD: u8 = 22;
    pub const VALKEY_HASH_TIMED: u8 = 22;
    pub const HASH_LISTPACK_TIMED_OLD: u8 = 23;
    pub const HASH_TIMED: u8 = 24;
    pub const HASH_LISTPACK_TIMED: u8 = 25;
}

/// Why bytes are no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// They end too early.
    Short,
    Corrupt(&'static str),
    /// A collection without elements, which no key may hold. Redis drops such keys from files.
    Empty,
    UnknownType(u8),
    /// A module's value, with the module type's name.
    Module(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short => f.write_str("the data ends too early"),
            Self::Corrupt(what) => f.write_str(what),
            Self::Empty => f.write_str("a collection without elements"),
            Self::UnknownType(n) => write!(f, "unknown value type {n}"),
            Self::Module(name) => write!(f, "a value of the module type '{name}'"),
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// What decides into which encoding a value is read.
pub struct Rules<'a> {
    pub settings: &'a Settings,
    pub hasher: &'a KeyHasher,
    pub dialect: Dialect,
}
