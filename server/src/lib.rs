//! The server: one thread per core, each with its own event loop and shard.

pub mod config;
pub mod io;
