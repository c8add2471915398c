//! XINFO.

use super::{is_word, no_group, parse_integer, read, reply_entries, reply_entry, reply_id};
use crate::collections::stream::{Group, Stream, StreamId};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::Reply;

pub const XINFO: Command<Handler> = command("XINFO", at_least(2), xinfo as Handler)
    .doc(
        "Describes streams and their groups.",
        "Depends on subcommand.",
        "5.0.0",
        "stream",
    )
    .subcommands(&[XINFO_CONSUMERS, XINFO_GROUPS, XINFO_HELP, XINFO_STREAM]);

const XINFO_CONSUMERS: Command<Handler> =
    command("CONSUMERS", exactly(4), xinfo_consumers as Handler)
        .flags(READONLY)
        .acl(acl::STREAM)
        .keys(&[at(2).flags(RO | ACCESS)])
        .doc("Describes a group's consumers.", "O(1)", "5.0.0", "stream")
        .history(&[("7.2.0", "Field `inactive`; `idle` means something else.")])
        .args(&[key("key", 0), string("group")])
        .tips(&["nondeterministic_output"]);

const XINFO_GROUPS: Command<Handler> = command("GROUPS", exactly(3), xinfo_groups as Handler)
    .flags(READONLY)
    .acl(acl::STREAM)
    .keys(&[at(2).flags(RO | ACCESS)])
    .doc("Describes a stream's groups.", "O(1)", "5.0.0", "stream")
    .history(&[("7.0.0", "Fields `entries-read` and `lag`.")])
    .args(&[key("key", 0)]);

const XINFO_HELP: Command<Handler> = command("HELP", exactly(2), xinfo_help as Handler)
    .flags(LOADING | STALE)
    .acl(acl::STREAM)
    .doc("Lists the subcommands.", "O(1)", "5.0.0", "stream");

const XINFO_STREAM: Command<Handler> = command("STREAM", at_least(3), xinfo_stream as Handler)
    .flags(READONLY)
    .acl(acl::STREAM)
    .keys(&[at(2).flags(RO | ACCESS)])
    .doc("Describes a stream.", "O(1)", "5.0.0", "stream")
    .history(&[("6.0.0", "Option `FULL`."), ("7.0.0", "Fields `max-deleted-entry-id`, `entries-added`, `recorded-first-entry-id`, `entries-read` and `lag`."), ("7.2.0", "Field `active-time`; `seen-time` means something else.")])
    .args(&[key("key", 0), block("full-block", &[word("full", "FULL"), integer("count").token("COUNT").optional()]).optional()]);

fn xinfo(_: &mut Ctx<'_>, _: Args<'_>) -> CommandResult {
    Err(CommandError::WrongArity("xinfo".into()))
}

fn reply_optional(reply: &mut Reply<'_>, n: Option<i64>) {
    match n {
        Some(n) => reply.integer(n),
        None => reply.null(),
    }
}

fn xinfo_consumers(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let now_ms = ctx.now_ms();
    let key = ctx.key(args[2]);
    let stream = read(ctx.shard, ctx.db, key)?.ok_or(CommandError::NoSuchKey)?;
    let Some(group) = stream.group(args[3]) else {
        return Err(no_group(args[2], args[3]));
    };
    let reply = &mut ctx.reply;
    reply.array(group.consumers().len());
    for consumer in group.consumers() {
        reply.map(4);
        reply.bulk_str("name");
        reply.bulk(&consumer.name);
        reply.bulk_str("pending");
        reply.integer(consumer.pending().len() as i64);
        reply.bulk_str("idle");
        reply.integer(now_ms.saturating_sub(consumer.seen_at).max(0));
        reply.bulk_str("inactive");
        reply.integer(
            consumer
                .active_at
                .map_or(-1, |at| now_ms.saturating_sub(at)),
        );
    }
    Ok(())
}

fn xinfo_groups(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[2]);
    let stream = read(ctx.shard, ctx.db, key)?.ok_or(CommandError::NoSuchKey)?;
    let reply = &mut ctx.reply;
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(6);
        reply.bulk_str("name");
        reply.bulk(name);
        reply.bulk_str("consumers");
        reply.integer(group.consumers().len() as i64);
        reply.bulk_str("pending");
        reply.integer(group.pending().len() as i64);
        reply_position(reply, stream, group);
    }
    Ok(())
}

fn reply_position(reply: &mut Reply<'_>, stream: &Stream, group: &Group) {
    reply.bulk_str("last-delivered-id");
    reply_id(reply, group.last_id);
    reply.bulk_str("entries-read");
    reply_optional(reply, group.entries_read.map(|n| n as i64));
    reply.bulk_str("lag");
    reply_optional(reply, stream.lag(group));
}

/// Entries, and pending ones of groups and of their consumers. `count`: 0 for all.
fn shown_in_full(stream: &Stream, count: u64) -> u64 {
    let most = if count == 0 { u64::MAX } else { count };
    let pending = |(_, group): (_, &Group)| 2 * most.min(group.pending().len() as u64);
    most.min(stream.len()) + stream.groups().map(pending).sum::<u64>()
}

fn xinfo_stream(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (key, most) = (ctx.key(args[2]), (ctx.reads_max() / 4) as u64);
    let stream = read(ctx.shard, ctx.db, key)?.ok_or(CommandError::NoSuchKey)?;
    let full = match &args[3..] {
        [] => None,
        [full] if is_word(full, "FULL") => Some(10),
        [full, word, count] if is_word(full, "FULL") && is_word(word, "COUNT") => {
            Some(u64::try_from(parse_integer(count)?).unwrap_or(10))
        }
        _ => {
            return Err(CommandError::err(format!(
                "unknown subcommand or wrong number of arguments for '{}'. Try XINFO HELP.",
                super::shown(args[1])
            )));
        }
    };
    if full.is_some_and(|count| shown_in_full(stream, count) > most) {
        return ctx.step_aside();
    }
    let reply = &mut ctx.reply;
    reply.map(if full.is_some() { 9 } else { 10 });
    reply.bulk_str("length");
    reply.integer(stream.len() as i64);
    let blocks = stream.block_count() as i64;
    reply.bulk_str("radix-tree-keys");
    reply.integer(blocks);
    // There is no tree here; in one there is the root beside each block's node.
    reply.bulk_str("radix-tree-nodes");
    reply.integer(blocks + 1);
    reply.bulk_str("last-generated-id");
    reply_id(reply, stream.last_id());
    reply.bulk_str("max-deleted-entry-id");
    reply_id(reply, stream.max_deleted_id());
    reply.bulk_str("entries-added");
    reply.integer(stream.entries_added() as i64);
    reply.bulk_str("recorded-first-entry-id");
    reply_id(reply, stream.first_id());
    let Some(count) = full else {
        reply.bulk_str("groups");
        reply.integer(stream.groups().len() as i64);
        for (name, reverse) in [("first-entry", false), ("last-entry", true)] {
            reply.bulk_str(name);
            match stream.range(StreamId::MIN, StreamId::MAX, reverse).next() {
                Some(entry) => reply_entry(reply, &entry),
                None => reply.null(),
            }
        }
        return Ok(());
    };
    // Nothing stands for everything.
    let count = if count == 0 { u64::MAX } else { count };
    reply.bulk_str("entries");
    let entries = stream.range(StreamId::MIN, StreamId::MAX, false);
    reply_entries(reply, entries, count, stream.len());
    reply.bulk_str("groups");
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply_group(reply, stream, name, group, count);
    }
    Ok(())
}

/// A group with everything in it, of pending entries up to `count`.
fn reply_group(reply: &mut Reply<'_>, stream: &Stream, name: &[u8], group: &Group, count: u64) {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    reply.map(7);
    reply.bulk_str("name");
    reply.bulk(name);
    reply_position(reply, stream, group);
    reply.bulk_str("pel-count");
    reply.integer(group.pending().len() as i64);
    reply.bulk_str("pending");
    reply.array(group.pending().len().min(count));
    for (id, pending) in group.pending().iter().take(count) {
        reply.array(4);
        reply_id(reply, *id);
        reply.bulk(&group.consumer(pending.consumer).name);
        reply.integer(pending.delivered_at);
        reply.integer(pending.deliveries as i64);
    }
    reply.bulk_str("consumers");
    reply.array(group.consumers().len());
    for consumer in group.consumers() {
        reply.map(5);
        reply.bulk_str("name");
        reply.bulk(&consumer.name);
        reply.bulk_str("seen-time");
        reply.integer(consumer.seen_at);
        reply.bulk_str("active-time");
        reply.integer(consumer.active_at.unwrap_or(-1));
        reply.bulk_str("pel-count");
        reply.integer(consumer.pending().len() as i64);
        reply.bulk_str("pending");
        reply.array(consumer.pending().len().min(count));
        for id in consumer.pending().iter().take(count) {
            let pending = group.pending().get(id);
            reply.array(3);
            reply_id(reply, *id);
            reply.integer(pending.map_or(0, |p| p.delivered_at));
            reply.integer(pending.map_or(0, |p| p.deliveries as i64));
        }
    }
}

fn xinfo_help(ctx: &mut Ctx<'_>, _: Args<'_>) -> CommandResult {
    let lines = [
        "XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CONSUMERS <key> <groupname>",
        "    Describe a group's consumers.",
        "GROUPS <key>",
        "    Describe a stream's groups.",
        "STREAM <key> [FULL [COUNT <count>]",
        "    Describe a stream.",
        "HELP",
        "    Print this help.",
    ];
    super::reply_help(ctx, &lines);
    Ok(())
}
