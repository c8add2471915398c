//! Hashes. Field expiry (HEXPIRE and its relatives) is not here yet.

mod get;
mod hscan;
mod incr;
mod random;
mod set;
#[cfg(test)]
mod tests;
pub mod value;

use crate::ctx::Handler;
use ringwood_protocol::command::Command;

pub const COMMANDS: &[Command<Handler>] = &[
    set::HSET,
    set::HMSET,
    set::HSETNX,
    set::HDEL,
    get::HGET,
    get::HMGET,
    get::HGETALL,
    get::HKEYS,
    get::HVALS,
    get::HEXISTS,
    get::HLEN,
    get::HSTRLEN,
    incr::HINCRBY,
    incr::HINCRBYFLOAT,
    random::HRANDFIELD,
    hscan::HSCAN,
];
