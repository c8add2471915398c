//! XGROUP.

use super::{
    changed_group_with, insert, is_word, no_group, parse_id, parse_integer, stream_mut, write,
};
use crate::collections::stream::{Group, Stream, StreamId};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::keyspace::EntryMut;
use crate::object::Object;
use crate::shard::{Shard, notify};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const XGROUP: Command<Handler> = command("XGROUP", at_least(2), xgroup as Handler)
    .doc(
        "Commands about consumer groups.",
        "Depends on subcommand.",
        "5.0.0",
        "stream",
    )
    .subcommands(&[
        XGROUP_CREATE,
        XGROUP_CREATECONSUMER,
        XGROUP_DELCONSUMER,
        XGROUP_DESTROY,
        XGROUP_HELP,
        XGROUP_SETID,
    ]);

const XGROUP_CREATE: Command<Handler> = command("CREATE", at_least(5), xgroup_create as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::STREAM)
    .keys(&[at(2).flags(RW | INSERT)])
    .doc("Makes a group.", "O(1)", "5.0.0", "stream")
    .history(&[("7.0.0", "Argument `entries_read`.")])
    .args(&[
        key("key", 0),
        string("group"),
        one_of("id-selector", &[string("id"), word("new-id", "$")]),
        word("mkstream", "MKSTREAM").optional(),
        integer("entriesread")
            .token("ENTRIESREAD")
            .display("entries-read")
            .optional(),
    ]);

const XGROUP_CREATECONSUMER: Command<Handler> = command(
    "CREATECONSUMER",
    exactly(5),
    xgroup_createconsumer as Handler,
)
.flags(WRITE | DENYOOM)
.acl(acl::STREAM)
.keys(&[at(2).flags(RW | INSERT)])
.doc("Adds a consumer to a group.", "O(1)", "6.2.0", "stream")
.args(&[key("key", 0), string("group"), string("consumer")]);

const XGROUP_DELCONSUMER: Command<Handler> =
    command("DELCONSUMER", exactly(5), xgroup_delconsumer as Handler)
        .flags(WRITE)
        .acl(acl::STREAM)
        .keys(&[at(2).flags(RW | DELETE)])
        .doc(
            "Removes a consumer from its group.",
            "O(1)",
            "5.0.0",
            "stream",
        )
        .args(&[key("key", 0), string("group"), string("consumer")]);

const XGROUP_DESTROY: Command<Handler> = command("DESTROY", exactly(4), xgroup_destroy as Handler)
    .flags(WRITE)
    .acl(acl::STREAM)
    .keys(&[at(2).flags(RW | DELETE)])
    .doc(
        "Deletes a group.",
        "O(N) where N is the number of entries in the group's pending entries list (PEL).",
        "5.0.0",
        "stream",
    )
    .args(&[key("key", 0), string("group")]);

const XGROUP_HELP: Command<Handler> = command("HELP", exactly(2), xgroup_help as Handler)
    .flags(LOADING | STALE)
    .acl(acl::STREAM)
    .doc("Lists the subcommands.", "O(1)", "5.0.0", "stream");

const XGROUP_SETID: Command<Handler> = command("SETID", at_least(5), xgroup_setid as Handler)
    .flags(WRITE)
    .acl(acl::STREAM)
    .keys(&[at(2).flags(RW | UPDATE)])
    .doc("Sets where a group reads on.", "O(1)", "5.0.0", "stream")
    .history(&[("7.0.0", "Argument `entries_read`.")])
    .args(&[
        key("key", 0),
        string("group"),
        one_of("id-selector", &[string("id"), word("new-id", "$")]),
        integer("entriesread")
            .token("ENTRIESREAD")
            .display("entries-read")
            .optional(),
    ]);

fn xgroup(_: &mut Ctx<'_>, _: Args<'_>) -> CommandResult {
    Err(CommandError::WrongArity("xgroup".into()))
}

const NO_KEY: &str = "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.";
const BUSY: &str = "BUSYGROUP Consumer Group name already exists";

/// MKSTREAM, and ENTRIESREAD.
fn parse_options(args: Args<'_>, creates: bool) -> Result<(bool, Option<u64>), CommandError> {
    let (mut make, mut read) = (false, None);
    let mut at = 5;
    while let Some(&word) = args.get(at) {
        if creates && is_word(word, "MKSTREAM") {
            make = true;
        } else if is_word(word, "ENTRIESREAD") && at + 1 < args.len() {
            at += 1;
            read = match parse_integer(args[at])? {
                -1 => None,
                n => Some(u64::try_from(n).map_err(|_| {
                    CommandError::fixed("ERR value for ENTRIESREAD must be positive or -1")
                })?),
            };
        } else {
            return Err(unknown(args[1]));
        }
        at += 1;
    }
    Ok((make, read))
}
fn unknown(subcommand: &[u8]) -> CommandError {
    CommandError::err(format!(
        "unknown subcommand or wrong number of arguments for '{}'. Try XGROUP HELP.",
        super::shown(subcommand)
    ))
}
/// The entry of a stream that has to be there.
fn existing<'a>(
    shard: &'a mut Shard,
    db: usize,
    key: crate::keyspace::Key<'_>,
) -> Result<EntryMut<'a>, CommandError> {
    write(shard, db, key)?.ok_or(CommandError::fixed(NO_KEY))
}

fn xgroup_create(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (make, read) = parse_options(args, true)?;
    let key = ctx.key(args[2]);
    let id = |last: StreamId| match args[4] {
        b"$" => Ok(last),
        id => parse_id(id, 0),
    };
    let found = write(ctx.shard, ctx.db, key)?;
    if found.is_none() && !make {
        return Err(CommandError::fixed(NO_KEY));
    }
    if args.len() > 8 {
        return Err(unknown(args[1]));
    }
    match found {
        Some(mut entry) => {
            let stream = stream_mut(&mut entry);
            let read = read.map(|read| read.min(stream.entries_added()));
            let group = Group::new(id(stream.last_id())?, read);
            if !stream.add_group(args[3], group) {
                return Err(CommandError::fixed(BUSY));
            }
            changed_group_with(ctx, args[2], "xgroup-create");
        }
        None => {
            let mut stream = Stream::new();
            stream.add_group(args[3], Group::new(id(StreamId::MIN)?, read.map(|_| 0)));
            insert(ctx.shard, ctx.db, key, stream);
            ctx.modified(args[2], notify::STREAM, "xgroup-create");
        }
    }
    ctx.reply.ok();
    Ok(())
}

fn xgroup_setid(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (_, read) = parse_options(args, false)?;
    let key = ctx.key(args[2]);
    let mut entry = existing(ctx.shard, ctx.db, key)?;
    let stream = stream_mut(&mut entry);
    let (last, added) = (stream.last_id(), stream.entries_added());
    let Some(group) = stream.group_mut(args[3]) else {
        return Err(no_group(args[2], args[3]));
    };
    if args.len() > 7 {
        return Err(unknown(args[1]));
    }
    group.last_id = match args[4] {
        b"$" => last,
        id => StreamId::parse_bound(id, 0).ok_or(super::INVALID_ID)?,
    };
    group.entries_read = read.map(|read| read.min(added));
    changed_group_with(ctx, args[2], "xgroup-setid");
    ctx.reply.ok();
    Ok(())
}

fn xgroup_destroy(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[2]);
    let mut entry = existing(ctx.shard, ctx.db, key)?;
    let group = stream_mut(&mut entry).remove_group(args[3]);
    let removed = group.is_some();
    // What is pending in it may take long to free.
    if let Some(group) = group.filter(|group| group.free_effort() > 64) {
        let mut rest = Stream::new();
        rest.add_group(args[3], group);
        ctx.shard
            .keyspace
            .free_later(Box::new(Object::Stream(rest)));
    }
    if removed {
        changed_group_with(ctx, args[2], "xgroup-destroy");
        if !ctx.shard.attention.waited.is_empty() {
            // Those who wait as members of the group are told.
            ctx.shard.attention.look_again(ctx.db, args[2]);
        }
    }
    ctx.reply.integer(i64::from(removed));
    Ok(())
}

fn xgroup_createconsumer(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let now_ms = ctx.now_ms();
    let key = ctx.key(args[2]);
    let mut entry = existing(ctx.shard, ctx.db, key)?;
    let Some(group) = stream_mut(&mut entry).group_mut(args[3]) else {
        return Err(no_group(args[2], args[3]));
    };
    let is_new = group.find_consumer(args[4]).is_none();
    if is_new {
        group.add_consumer(args[4], now_ms);
        changed_group_with(ctx, args[2], "xgroup-createconsumer");
    }
    ctx.reply.integer(i64::from(is_new));
    Ok(())
}

fn xgroup_delconsumer(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[2]);
    let most = ctx.elements_max();
    let mut entry = existing(ctx.shard, ctx.db, key)?;
    let Some(group) = stream_mut(&mut entry).group_mut(args[3]) else {
        return Err(no_group(args[2], args[3]));
    };
    let found = group.find_consumer(args[4]);
    if found.is_some_and(|found| group.consumer(found).pending().len() > most) {
        return ctx.step_aside();
    }
    let removed = group.remove_consumer(args[4]);
    if removed.is_some() {
        changed_group_with(ctx, args[2], "xgroup-delconsumer");
    }
    ctx.reply.integer(removed.unwrap_or(0) as i64);
    Ok(())
}

fn xgroup_help(ctx: &mut Ctx<'_>, _: Args<'_>) -> CommandResult {
    let lines = [
        "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CREATE <key> <groupname> <id|$> [option]",
        "    Add a group. Options are:",
        "    * MKSTREAM",
        "      Make the stream if it does not exist, without entries.",
        "    * ENTRIESREAD entries_read",
        "      Set how many entries the group has read.",
        "CREATECONSUMER <key> <groupname> <consumer>",
        "    Add a consumer to a group.",
        "DELCONSUMER <key> <groupname> <consumer>",
        "    Remove a consumer from its group.",
        "DESTROY <key> <groupname>",
        "    Remove a group.",
        "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
        "    Set where a group reads on, and how many entries it has read.",
        "HELP",
        "    Print this help.",
    ];
    super::reply_help(ctx, &lines);
    Ok(())
}
