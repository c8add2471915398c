//! DEL, EXISTS, DBSIZE, FLUSHALL.

use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::notify;
use ringwood_protocol::command::*;

pub const DEL: Command<Handler> = command("DEL", at_least(2), del as Handler)
    .flags(WRITE)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).range(-1, 1, 0).flags(RM | DELETE)])
    .doc("Deletes keys.", "O(N)", "1.0.0", "generic")
    .args(&[key("key", 0).multiple()])
    .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
    .route(Route::Scatter(Merge::Sum));

fn del(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let mut deleted = 0;
    for key in &args[1..] {
        if ctx.remove(key) {
            deleted += 1;
            ctx.modified(key, notify::GENERIC, "del");
        }
    }
    ctx.reply.integer(deleted);
    Ok(())
}

pub const EXISTS: Command<Handler> = command("EXISTS", at_least(2), exists as Handler)
    .flags(READONLY | FAST)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).range(-1, 1, 0).flags(RO)])
    .doc(
        "Counts how many of the keys exist.",
        "O(N)",
        "1.0.0",
        "generic",
    )
    .args(&[key("key", 0).multiple()])
    .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
    .route(Route::Scatter(Merge::Sum));

fn exists(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let count = args[1..]
        .iter()
        .filter(|key| ctx.read(key).is_some())
        .count();
    ctx.reply.integer(count as i64);
    Ok(())
}

pub const DBSIZE: Command<Handler> = command("DBSIZE", exactly(1), dbsize as Handler)
    .flags(READONLY | FAST | BARRIER)
    .acl(acl::KEYSPACE)
    .doc(
        "Returns the number of keys in the database.",
        "O(1)",
        "1.0.0",
        "server",
    )
    .tips(&["request_policy:all_shards", "response_policy:agg_sum"])
    .route(Route::AllShards(Merge::Sum));

fn dbsize(ctx: &mut Ctx<'_>, _: Args<'_>) -> CommandResult {
    ctx.reply.integer(ctx.shard.keyspace.len(ctx.db) as i64);
    Ok(())
}

pub const FLUSHALL: Command<Handler> = command("FLUSHALL", at_least(1), flushall as Handler)
    .flags(WRITE | BARRIER)
    .acl(acl::KEYSPACE | acl::DANGEROUS)
    .doc(
        "Deletes all keys of all databases.",
        "O(N)",
        "1.0.0",
        "server",
    )
    .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
    .route(Route::AllShards(Merge::Ok));

fn flushall(ctx: &mut Ctx<'_>, _: Args<'_>) -> CommandResult {
    for db in 0..ctx.shard.keyspace.databases() {
        ctx.shard.stats.dirty += ctx.shard.keyspace.len(db) as u64;
        ctx.shard.keyspace.flush(db);
    }
    ctx.reply.ok();
    Ok(())
}
