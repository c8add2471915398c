//! HINCRBY and HINCRBYFLOAT.

use super::lapse::lapse;
use super::value::{self, Found, Ttl};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::{LongDouble, parse_i64};

pub const HINCRBY: Command<Handler> = command("HINCRBY", exactly(4), hincrby as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RW | ACCESS | UPDATE)])
    .element(2)
    .doc("Adds to an integer in a hash.", "O(1)", "2.0.0", "hash")
    .args(&[key("key", 0), string("field"), integer("increment")]);

fn hincrby(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let by = parse_i64(args[3]).ok_or(CommandError::NotInteger)?;
    let key = ctx.key(args[1]);
    let hash = value::view_to_change(ctx.shard, ctx.db, key)?;
    let found = hash.map_or(Found::Missing, |hash| hash.find(args[2]));
    let before = match found {
        Found::Live(value) => value
            .as_int()
            .ok_or(CommandError::fixed("ERR hash value is not an integer"))?,
        Found::Expired | Found::Missing => 0,
    };
    let sum = before.checked_add(by).ok_or(CommandError::IncrOverflow)?;
    if matches!(found, Found::Expired) {
        lapse(ctx, args[1], &[args[2]]);
        ctx.log_as(args);
    }
    let mut text = itoa::Buffer::new();
    let pair = [args[2], text.format(sum).as_bytes()];
    value::set_all(ctx.shard, ctx.db, key, &pair, Ttl::Keep)?;
    ctx.modified(args[1], value::CLASS, "hincrby");
    ctx.reply.integer(sum);
    Ok(())
}

pub const HINCRBYFLOAT: Command<Handler> =
    command("HINCRBYFLOAT", exactly(4), hincrbyfloat as Handler)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::HASH)
        .keys(&[at(1).flags(RW | ACCESS | UPDATE)])
        .element(2)
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
    let hash = value::view_to_change(ctx.shard, ctx.db, key)?;
    let found = hash.map_or(Found::Missing, |hash| hash.find(args[2]));
    let before = match found {
        Found::Live(value) => value
            .with_text(LongDouble::parse)
            .ok_or(CommandError::fixed("ERR hash value is not a float"))?,
        Found::Expired | Found::Missing => LongDouble::ZERO,
    };
    let has_expired = matches!(found, Found::Expired);
    let expires = hash.is_some_and(|hash| hash.expiry(args[2]).flatten().is_some());
    let sum = before.checked_add(by).filter(|sum| !sum.is_infinite());
    let mut text = Vec::with_capacity(32);
    sum.ok_or(CommandError::NanOrInfinity)?
        .append_text(&mut text);
    if has_expired {
        lapse(ctx, args[1], &[args[2]]);
    }
    let pair = [args[2], text.as_slice()];
    value::set_all(ctx.shard, ctx.db, key, &pair, Ttl::Keep)?;
    ctx.modified(args[1], value::CLASS, "hincrbyfloat");
    // Not to depend on how another machine adds. HSET, which older servers know too, takes a field's expiry away.
    if expires {
        ctx.log_as(&[
            b"HSETEX", args[1], b"KEEPTTL", b"FIELDS", b"1", args[2], &text,
        ]);
    } else {
        ctx.log_as(&[b"HSET", args[1], args[2], &text]);
    }
    ctx.reply.bulk(&text);
    Ok(())
}
