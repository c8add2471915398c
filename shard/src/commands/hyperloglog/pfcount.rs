//! PFCOUNT.

use super::{check, make_raw};
use crate::collections::hll::{self, Registers};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::Encoding;
use crate::shard::notify;
use ringwood_protocol::command::*;

pub const PFCOUNT: Command<Handler> = command("PFCOUNT", at_least(2), pfcount as Handler)
    .flags(READONLY | MAY_REPLICATE)
    .acl(acl::HYPERLOGLOG)
    .keys(&[at(1).range(-1, 1, 0).flags(RW | ACCESS).notes("RW because it may change the internal representation of the key, and propagate to replicas")])
    .doc("Estimates how many different elements were added.", "O(1) with a very small average constant time when called with a single key. O(N) with N being the number of keys, and much bigger constant times, when called with multiple keys.", "2.8.9", "hyperloglog")
    .args(&[key("key", 0).multiple()]);

fn pfcount(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let [_, key] = args else {
        return count_all(ctx, &args[1..]);
    };
    let Some(entry) = ctx.read(key) else {
        ctx.reply.integer(0);
        return Ok(());
    };
    check(entry)?;
    let (cached, encoding) = (hll::cached(entry.bytes()), entry.encoding());
    let count = match cached {
        Some(count) => count,
        None => hll::count(entry.bytes())?,
    };
    if (cached.is_none() || encoding != Encoding::Raw)
        && let Some(mut entry) = ctx.write(key)
    {
        make_raw(&mut entry);
        if cached.is_none() {
            // A change, though the command only reads: whoever watches the key or copies it gets to know, but there is no event.
            entry.write_at(hll::CACHE_AT, &hll::cache_bytes(count));
            ctx.modified(key, notify::SILENT, "");
        }
    }
    ctx.reply.integer(count as i64);
    Ok(())
}

/// The estimate of all keys' elements taken together.
fn count_all(ctx: &mut Ctx<'_>, keys: &[&[u8]]) -> CommandResult {
    let mut registers = Registers::default();
    for key in keys {
        if let Some(entry) = ctx.read(key) {
            check(entry)?;
            registers.merge(entry.bytes())?;
        }
    }
    ctx.reply.integer(registers.count() as i64);
    Ok(())
}
