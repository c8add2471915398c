//! HGET, HMGET, HGETALL, HKEYS, HVALS, HEXISTS, HLEN and HSTRLEN.

use super::value;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;

pub const HGET: Command<Handler> = command("HGET", exactly(3), hget as Handler)
    .flags(READONLY | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Returns a field of a hash.", "O(1)", "2.0.0", "hash")
    .args(&[key("key", 0), string("field")]);

fn hget(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    let hash = value::view(ctx.shard, ctx.db, key)?;
    match hash.and_then(|hash| hash.get(args[2])) {
        Some(value) => value.reply(&mut ctx.reply),
        None => ctx.reply.null(),
    }
    Ok(())
}

pub const HMGET: Command<Handler> = command("HMGET", at_least(3), hmget as Handler)
    .flags(READONLY | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RO | ACCESS)])
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
    for field in &args[2..] {
        match hash.and_then(|hash| hash.get(field)) {
            Some(value) => value.reply(&mut ctx.reply),
            None => ctx.reply.null(),
        }
    }
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
    let key = ctx.key(args[1]);
    let hash = value::view(ctx.shard, ctx.db, key)?;
    match hash {
        Some(hash) => {
            ctx.reply.map(hash.len());
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
    let key = ctx.key(args[1]);
    let hash = value::view(ctx.shard, ctx.db, key)?;
    match hash {
        Some(hash) => {
            ctx.reply.array(hash.len());
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
    let key = ctx.key(args[1]);
    let hash = value::view(ctx.shard, ctx.db, key)?;
    match hash {
        Some(hash) => {
            ctx.reply.array(hash.len());
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
    .doc("Tells whether a hash has a field.", "O(1)", "2.0.0", "hash")
    .args(&[key("key", 0), string("field")]);

fn hexists(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    let hash = value::view(ctx.shard, ctx.db, key)?;
    let found = hash.and_then(|hash| hash.get(args[2])).is_some();
    ctx.reply.integer(found as i64);
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
    let len = hash.map_or(0, |hash| hash.len());
    ctx.reply.integer(len as i64);
    Ok(())
}

pub const HSTRLEN: Command<Handler> = command("HSTRLEN", exactly(3), hstrlen as Handler)
    .flags(READONLY | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RO)])
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
    let len = hash
        .and_then(|hash| hash.get(args[2]))
        .map_or(0, |v| v.len());
    ctx.reply.integer(len as i64);
    Ok(())
}
