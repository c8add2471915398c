//! Hashes.

mod expire;
#[cfg(test)]
mod expiry_tests;
mod get;
mod getex;
mod hscan;
mod incr;
mod lapse;
mod random;
mod set;
mod setex;
#[cfg(test)]
mod tests;
mod time;
mod ttl;
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
    expire::HEXPIRE,
    expire::HPEXPIRE,
    expire::HEXPIREAT,
    expire::HPEXPIREAT,
    expire::HPERSIST,
    ttl::HTTL,
    ttl::HPTTL,
    ttl::HEXPIRETIME,
    ttl::HPEXPIRETIME,
    getex::HGETEX,
    getex::HGETDEL,
    setex::HSETEX,
];
