//! The data commands, a folder a family. A family's `mod.rs` lists its declarations; each stands beside its code.

pub mod bitmap;
pub mod geo;
pub mod hash;
pub mod hyperloglog;
pub mod keys;
pub mod list;
mod repeats;
pub mod set;
pub mod sort;
pub mod stream;
pub mod string;
pub mod zset;

use crate::ctx::Handler;
use ringwood_protocol::command::Command;

/// Every data command.
pub const FAMILIES: &[&[Command<Handler>]] = &[
    string::COMMANDS,
    keys::COMMANDS,
    bitmap::COMMANDS,
    list::COMMANDS,
    hash::COMMANDS,
    hyperloglog::COMMANDS,
    set::COMMANDS,
    stream::COMMANDS,
    sort::COMMANDS,
    zset::COMMANDS,
    geo::COMMANDS,
];

#[cfg(test)]
pub mod testing;
