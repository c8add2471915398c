//! HTTL, HPTTL, HEXPIRETIME and HPEXPIRETIME: per field -2 if it is missing, -1 if it does not expire, or its time.

use super::time::{FIELDS, NO_COUNT, fields};
use super::value;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;

pub const HTTL: Command<Handler> = command("HTTL", at_least(5), httl as Handler)
    .flags(READONLY | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc(
        "Tells how many seconds hash fields have left.",
        "O(N) where N is the number of specified fields",
        "7.4.0",
        "hash",
    )
    .args(&[key("key", 0), FIELDS])
    .tips(&["nondeterministic_output"]);

pub const HPTTL: Command<Handler> = command("HPTTL", at_least(5), hpttl as Handler)
    .flags(READONLY | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc(
        "Tells how many milliseconds hash fields have left.",
        "O(N) where N is the number of specified fields",
        "7.4.0",
        "hash",
    )
    .args(&[key("key", 0), FIELDS])
    .tips(&["nondeterministic_output"]);

pub const HEXPIRETIME: Command<Handler> =
    command("HEXPIRETIME", at_least(5), hexpiretime as Handler)
        .flags(READONLY | FAST)
        .acl(acl::HASH)
        .keys(&[at(1).flags(RO | ACCESS)])
        .doc(
            "Tells when hash fields expire, as Unix seconds.",
            "O(N) where N is the number of specified fields",
            "7.4.0",
            "hash",
        )
        .args(&[key("key", 0), FIELDS]);

pub const HPEXPIRETIME: Command<Handler> =
    command("HPEXPIRETIME", at_least(5), hpexpiretime as Handler)
        .flags(READONLY | FAST)
        .acl(acl::HASH)
        .keys(&[at(1).flags(RO | ACCESS)])
        .doc(
            "Tells when hash fields expire, as Unix milliseconds.",
            "O(N) where N is the number of specified fields",
            "7.4.0",
            "hash",
        )
        .args(&[key("key", 0), FIELDS]);

fn httl(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let now = ctx.now_ms();
    times(ctx, args, |at| seconds(at - now))
}
fn hpttl(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let now = ctx.now_ms();
    times(ctx, args, |at| at - now)
}
fn hexpiretime(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    times(ctx, args, seconds)
}
fn hpexpiretime(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    times(ctx, args, |at| at)
}

/// Rounded up, as Redis does.
fn seconds(ms: i64) -> i64 {
    (ms + 999) / 1000
}

fn times(ctx: &mut Ctx<'_>, args: Args<'_>, shown: impl Fn(i64) -> i64) -> CommandResult {
    let key = ctx.key(args[1]);
    let hash = value::view(ctx.shard, ctx.db, key)?;
    let fields = fields(args, 2, NO_COUNT)?;
    ctx.reply.array(fields.len());
    for field in fields {
        ctx.reply
            .integer(match hash.and_then(|hash| hash.expiry(field)) {
                None => -2,
                Some(None) => -1,
                Some(Some(at)) => shown(at),
            });
    }
    Ok(())
}
