//! HINCRBY and HINCRBYFLOAT.

use super::value::{self, Limits, View};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::{LongDouble, parse_i64};

pub const HINCRBY: Command<Handler> = command("HINCRBY", exactly(4), hincrby as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RW | ACCESS | UPDATE)])
    .doc("Adds to an integer in a hash.", "O(1)", "2.0.0", "hash")
    .args(&[key("key", 0), string("field"), integer("increment")]);

fn hincrby(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let by = parse_i64(args[3]).ok_or(CommandError::NotInteger)?;
    let key = ctx.key(args[1]);
    let entry = value::open(ctx.shard, ctx.db, key)?;
    let before = match entry.as_ref().and_then(|e| View::of(e.get()).get(args[2])) {
        Some(value) => value
            .as_int()
            .ok_or(CommandError::fixed("ERR hash value is not an integer"))?,
        None => 0,
    };
    let sum = before.checked_add(by).ok_or(CommandError::IncrOverflow)?;
    store(ctx, args, itoa::Buffer::new().format(sum).as_bytes())?;
    ctx.modified(args[1], value::CLASS, "hincrby");
    ctx.reply.integer(sum);
    Ok(())
}

pub const HINCRBYFLOAT: Command<Handler> =
    command("HINCRBYFLOAT", exactly(4), hincrbyfloat as Handler)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::HASH)
        .keys(&[at(1).flags(RW | ACCESS | UPDATE)])
        .doc(
            "Adds to a floating-point number in a hash.",
            "O(1)",
            "2.6.0",
            "hash",
        )
        .args(&[key("key", 0), string("field"), double("increment")]);

fn hincrbyfloat(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let by = LongDouble::parse(args[3]).ok_or(CommandError::NotFloat)?;
    if by.is_infinite() {
        return Err(CommandError::fixed("ERR value is NaN or Infinity"));
    }
    let key = ctx.key(args[1]);
    let entry = value::open(ctx.shard, ctx.db, key)?;
    let before = match entry.as_ref().and_then(|e| View::of(e.get()).get(args[2])) {
        Some(value) => value
            .with_text(LongDouble::parse)
            .ok_or(CommandError::fixed("ERR hash value is not a float"))?,
        None => LongDouble::ZERO,
    };
    let sum = before.checked_add(by).filter(|sum| !sum.is_infinite());
    let mut text = Vec::with_capacity(32);
    sum.ok_or(CommandError::NanOrInfinity)?
        .append_text(&mut text);
    store(ctx, args, &text)?;
    ctx.modified(args[1], value::CLASS, "hincrbyfloat");
    // Not to depend on how another machine adds.
    ctx.log_as(&[b"HSET", args[1], args[2], &text]);
    ctx.reply.bulk(&text);
    Ok(())
}

fn store(ctx: &mut Ctx<'_>, args: Args<'_>, value: &[u8]) -> CommandResult {
    let key = ctx.key(args[1]);
    let limits = Limits::of(&ctx.shard.settings);
    let hasher = ctx.shard.keyspace.hasher().clone();
    let mut entry = value::open_or_make(ctx.shard, ctx.db, key)?;
    value::put(&mut entry, &hasher, limits, args[2], value);
    Ok(())
}
