//! Sets.

mod algebra;
pub(crate) mod members;
mod sadd;
mod sismember;
mod spop;
mod sscan;
#[cfg(test)]
mod tests;

use crate::ctx::{Ctx, Handler};
use crate::shard::notify;
use ringwood_protocol::command::Command;

pub const COMMANDS: &[Command<Handler>] = &[
    sadd::SADD,
    sismember::SCARD,
    algebra::SDIFF,
    algebra::SDIFFSTORE,
    algebra::SINTER,
    algebra::SINTERCARD,
    algebra::SINTERSTORE,
    sismember::SISMEMBER,
    sismember::SMEMBERS,
    sismember::SMISMEMBER,
    sadd::SMOVE,
    spop::SPOP,
    spop::SRANDMEMBER,
    sadd::SREM,
    sscan::SSCAN,
    algebra::SUNION,
    algebra::SUNIONSTORE,
];

/// Says that members went from a set, and with the last one the key.
fn removed(ctx: &mut Ctx<'_>, key: &[u8], event: &'static str, emptied: bool) {
    ctx.modified(key, notify::SET, event);
    if emptied {
        let dirty = ctx.shard.stats.dirty;
        ctx.modified(key, notify::GENERIC, "del");
        // One change, two events.
        ctx.shard.stats.dirty = dirty;
    }
}
