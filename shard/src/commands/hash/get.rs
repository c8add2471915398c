//! HGET, HMGET, HGETALL, HKEYS, HVALS, HEXISTS, HLEN and HSTRLEN.

use super::lapse::lapse;
use super::value::{self, Found};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;

pub const HGET: Command<Handler> = command("HGET", exactly(3), hget as Handler)
    .flags(READONLY | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RO | ACCESS)])
    .element(2)
    .doc("Returns a field of a hash.", "O(1)", "2.0.0", "hash")
    .args(&[key("key", 0), string("field")]);

fn hget(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    let hash = value::view(ctx.shard, ctx.db, key)?;
    match hash.map_or(Found::Missing, |hash| hash.find(args[2])) {
        Found::Live(value) => value.reply(&mut ctx.reply),
        Found::Missing => ctx.reply.null(),
        Found::Expired => {
            ctx.reply.null();
            lapse(ctx, args[1], &args[2..]);
        }
    }
    Ok(())
}

pub const HMGET: Command<Handler> = command("HMGET", at_least(3), hmget as Handler)
    .flags(READONLY | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RO | ACCESS)])
    .element(2)
    .doc(
        "Returns several fields of a hash.",
        "O(N) where N is the number of fields being requested.",
        "2.0.0",
        "hash",
    )
    .args(&[key("key", 0), string("field").multiple()]);

fn hmget(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    let hash = value::view(ctx.shard, ctx.db, key)?;
    ctx.reply.array(args.len() - 2);
    let mut expired = Vec::new();
    for &field in &args[2..] {
        match hash.map_or(Found::Missing, |hash| hash.find(field)) {
            Found::Live(value) => value.reply(&mut ctx.reply),
            Found::Missing => ctx.reply.null(),
            Found::Expired => {
                ctx.reply.null();
                expired.push(field);
            }
        }
    }
    lapse(ctx, args[1], &expired);
    Ok(())
}

pub const HGETALL: Command<Handler> = command("HGETALL", exactly(2), hgetall as Handler)
    .flags(READONLY)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc(
        "Lists the fields and values of a hash.",
        "O(N) where N is the size of the hash.",
        "2.0.0",
        "hash",
    )
    .args(&[key("key", 0)])
    .tips(&["nondeterministic_output_order"]);

fn hgetall(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let most = ctx.reads_max();
    let key = ctx.key(args[1]);
    let hash = value::view(ctx.shard, ctx.db, key)?;
    match hash {
        Some(hash) if hash.len() > most => return ctx.step_aside(),
        Some(hash) => {
            ctx.reply.map(hash.live_len());
            let reply = &mut ctx.reply;
            hash.each(|field, value| {
                field.reply(reply);
                value.reply(reply);
            });
        }
        None => ctx.reply.map(0),
    }
    Ok(())
}

pub const HKEYS: Command<Handler> = command("HKEYS", exactly(2), hkeys as Handler)
    .flags(READONLY)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc(
        "Lists the fields of a hash.",
        "O(N) where N is the size of the hash.",
        "2.0.0",
        "hash",
    )
    .args(&[key("key", 0)])
    .tips(&["nondeterministic_output_order"]);

fn hkeys(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let most = ctx.reads_max();
    let key = ctx.key(args[1]);
    let hash = value::view(ctx.shard, ctx.db, key)?;
    match hash {
        Some(hash) if hash.len() > most => return ctx.step_aside(),
        Some(hash) => {
            ctx.reply.array(hash.live_len());
            let reply = &mut ctx.reply;
            hash.each(|field, _| field.reply(reply));
        }
        None => ctx.reply.array(0),
    }
    Ok(())
}

pub const HVALS: Command<Handler> = command("HVALS", exactly(2), hvals as Handler)
    .flags(READONLY)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc(
        "Lists the values of a hash.",
        "O(N) where N is the size of the hash.",
        "2.0.0",
        "hash",
    )
    .args(&[key("key", 0)])
    .tips(&["nondeterministic_output_order"]);

fn hvals(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let most = ctx.reads_max();
    let key = ctx.key(args[1]);
    let hash = value::view(ctx.shard, ctx.db, key)?;
    match hash {
        Some(hash) if hash.len() > most => return ctx.step_aside(),
        Some(hash) => {
            ctx.reply.array(hash.live_len());
            let reply = &mut ctx.reply;
            hash.each(|_, value| value.reply(reply));
        }
        None => ctx.reply.array(0),
    }
    Ok(())
}

pub const HEXISTS: Command<Handler> = command("HEXISTS", exactly(3), hexists as Handler)
    .flags(READONLY | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RO)])
    .element(2)
    .doc("Tells whether a hash has a field.", "O(1)", "2.0.0", "hash")
    .args(&[key("key", 0), string("field")]);

fn hexists(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    let hash = value::view(ctx.shard, ctx.db, key)?;
    let found = hash.map_or(Found::Missing, |hash| hash.find(args[2]));
    ctx.reply.integer(matches!(found, Found::Live(_)) as i64);
    if matches!(found, Found::Expired) {
        lapse(ctx, args[1], &args[2..]);
    }
    Ok(())
}

pub const HLEN: Command<Handler> = command("HLEN", exactly(2), hlen as Handler)
    .flags(READONLY | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RO)])
    .doc("Counts the fields of a hash.", "O(1)", "2.0.0", "hash")
    .args(&[key("key", 0)]);

fn hlen(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    let hash = value::view(ctx.shard, ctx.db, key)?;
    // Those that have expired and are still there count, as in Redis: not to count them would take a look at each.
    let len = hash.map_or(0, |hash| hash.len());
    ctx.reply.integer(len as i64);
    Ok(())
}

pub const HSTRLEN: Command<Handler> = command("HSTRLEN", exactly(3), hstrlen as Handler)
    .flags(READONLY | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RO)])
    .element(2)
    .doc(
        "Returns the length of a field's value.",
        "O(1)",
        "3.2.0",
        "hash",
    )
    .args(&[key("key", 0), string("field")]);

fn hstrlen(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    let hash = value::view(ctx.shard, ctx.db, key)?;
    match hash.map_or(Found::Missing, |hash| hash.find(args[2])) {
        Found::Live(value) => ctx.reply.integer(value.len() as i64),
        Found::Missing => ctx.reply.integer(0),
        Found::Expired => {
            ctx.reply.integer(0);
            lapse(ctx, args[1], &args[2..]);
        }
    }
    Ok(())
}
