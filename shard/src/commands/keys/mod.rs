//! Keys of any type.

mod del;

use crate::ctx::Handler;
use ringwood_protocol::command::Command;

pub const COMMANDS: &[Command<Handler>] = &[del::DEL, del::EXISTS, del::DBSIZE, del::FLUSHALL];
