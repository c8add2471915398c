//! Strings.

mod get;
mod mset;
mod set;

use crate::ctx::Handler;
use ringwood_protocol::command::Command;

pub const COMMANDS: &[Command<Handler>] = &[get::GET, get::MGET, set::SET, mset::MSET];
