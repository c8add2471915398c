//! The server: one thread per core, each with its own event loop and shard.

mod banner;
pub mod blocking;
pub mod client;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod core;
pub mod crash;
pub mod gather;
pub mod io;
pub mod mailbox;
mod merge;
pub mod multi;
pub mod observe;
mod output_limit;
pub mod persist;
pub mod pubsub;
pub mod registry;
pub mod request;
pub mod scripts;
pub mod sequencer;
mod signals;
pub mod sleeper;
pub mod start;
pub mod stats;
mod sync;
pub mod transaction;
