//! One core's data: the keyspace, the value encodings and the commands on them. No I/O, no clock, no threads: all are passed in.

pub mod collections;
pub mod commands;
pub mod ctx;
pub mod elements;
pub mod evict;
pub mod field_expiry;
pub mod keyspace;
pub mod locks;
pub mod log;
pub mod memory;
pub mod object;
pub mod rdb;
pub mod shard;
pub mod slot_set;
pub mod tracking;
pub mod watch;
mod wheel;
