//! HSET, HMSET, HSETNX and HDEL.

use super::lapse::lapse;
use super::value::{self, Found, Ttl};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const HSET: Command<Handler> = command("HSET", at_least(4), hset as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RW | UPDATE)])
    .element(2)
    .doc("Sets fields of a hash, which is made if missing.", "O(1) for each field/value pair added, so O(N) to add N field/value pairs when the command is called with multiple field/value pairs.", "2.0.0", "hash")
    .history(&[("4.0.0", "Takes any number of fields and values.")])
    .args(&[key("key", 0), block("data", &[string("field"), string("value")]).multiple()]);

fn hset(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let added = set(ctx, args, "hset")?;
    ctx.reply.integer(added as i64);
    Ok(())
}

pub const HMSET: Command<Handler> = command("HMSET", at_least(4), hmset as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RW | UPDATE)])
    .element(2)
    .doc(
        "Sets fields of a hash.",
        "O(N) where N is the number of fields being set.",
        "2.0.0",
        "hash",
    )
    .deprecated("4.0.0", "`HSET` with multiple field-value pairs")
    .args(&[
        key("key", 0),
        block("data", &[string("field"), string("value")]).multiple(),
    ]);

fn hmset(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    set(ctx, args, "hmset")?;
    ctx.reply.ok();
    Ok(())
}

fn set(ctx: &mut Ctx<'_>, args: Args<'_>, name: &str) -> Result<usize, CommandError> {
    let pairs = &args[2..];
    if !pairs.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity(name.into()));
    }
    let key = ctx.key(args[1]);
    let added = value::set_all(ctx.shard, ctx.db, key, pairs, Ttl::Clear)?;
    ctx.modified(args[1], value::CLASS, "hset");
    Ok(added)
}

pub const HSETNX: Command<Handler> = command("HSETNX", exactly(4), hsetnx as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RW | INSERT)])
    .element(2)
    .doc(
        "Sets a field of a hash if it is missing.",
        "O(1)",
        "2.0.0",
        "hash",
    )
    .args(&[key("key", 0), string("field"), string("value")]);

fn hsetnx(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    let found = value::view_to_change(ctx.shard, ctx.db, key)?;
    match found.map_or(Found::Missing, |hash| hash.find(args[2])) {
        Found::Live(_) => {
            ctx.reply.integer(0);
            return Ok(());
        }
        Found::Expired => {
            lapse(ctx, args[1], &[args[2]]);
            ctx.log_as(args);
        }
        Found::Missing => {}
    }
    value::set_all(ctx.shard, ctx.db, key, &args[2..], Ttl::Clear)?;
    ctx.modified(args[1], value::CLASS, "hset");
    ctx.reply.integer(1);
    Ok(())
}

pub const HDEL: Command<Handler> = command("HDEL", at_least(3), hdel as Handler)
    .flags(WRITE | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RW | DELETE)])
    .element(2)
    .doc(
        "Deletes fields of a hash.",
        "O(N) where N is the number of fields to be removed.",
        "2.0.0",
        "hash",
    )
    .history(&[("2.4.0", "Takes any number of `field` arguments.")])
    .args(&[key("key", 0), string("field").multiple()]);

fn hdel(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    let Some(mut entry) = value::open(ctx.shard, ctx.db, key)? else {
        ctx.reply.integer(0);
        return Ok(());
    };
    let mut removed = 0;
    let mut empty = false;
    for field in &args[2..] {
        if value::remove(&mut entry, field) {
            removed += 1;
            empty = value::is_empty(&entry);
            if empty {
                break;
            }
        }
    }
    if empty {
        entry.remove();
    }
    if removed > 0 {
        ctx.modified(args[1], value::CLASS, "hdel");
    }
    if empty {
        ctx.modified(args[1], notify::GENERIC, "del");
    }
    ctx.reply.integer(removed);
    Ok(())
}
