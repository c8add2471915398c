//! XDEL, and its forms that mind the groups: XDELEX and XACKDEL.

use super::options::parse_references;
use super::{changed_group, is_word, parse_ids, parse_integer, stream_mut, write, write_groups};
use crate::collections::stream::{Deletion, References, StreamId};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const XDEL: Command<Handler> = command("XDEL", at_least(3), xdel as Handler)
    .flags(WRITE | FAST)
    .acl(acl::STREAM)
    .keys(&[at(1).flags(RW | DELETE)])
    .doc(
        "Deletes entries of a stream.",
        "O(1) for each single item to delete in the stream, regardless of the stream size.",
        "5.0.0",
        "stream",
    )
    .args(&[key("key", 0), string("id").multiple()]);

fn xdel(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    let mut deleted = 0;
    if let Some(mut entry) = write(ctx.shard, ctx.db, key)? {
        let ids = parse_ids(&args[2..])?;
        let stream = stream_mut(&mut entry);
        deleted = ids.iter().filter(|id| stream.delete(**id)).count();
        stream.settle();
    }
    note_deleted(ctx, args[1], deleted);
    ctx.reply.integer(deleted as i64);
    Ok(())
}

fn note_deleted(ctx: &mut Ctx<'_>, key: &[u8], deleted: usize) {
    if deleted > 0 {
        ctx.modified(key, notify::STREAM, "xdel");
        ctx.shard.stats.dirty += deleted as u64 - 1;
    }
}

/// KEEPREF, DELREF or ACKED, and IDS with a count and so many IDs, in any order; of several IDS the last counts.
fn parse<'a, 'b>(words: Args<'a>) -> Result<(References, &'a [&'b [u8]]), CommandError>
where
    'a: 'b,
{
    let (mut references, mut ids) = (None, None);
    let mut at = 0;
    while let Some(&word) = words.get(at) {
        if let Some(found) = parse_references(word).filter(|_| references.is_none()) {
            references = Some(found);
        } else if is_word(word, "IDS") && at + 1 < words.len() {
            let count = parse_integer(words[at + 1])
                .ok()
                .and_then(|n| usize::try_from(n).ok())
                .filter(|&n| n > 0);
            let Some(count) = count else {
                return Err(CommandError::fixed(
                    "ERR Number of IDs must be a positive integer",
                ));
            };
            if count > words.len() - at - 2 {
                return Err(CommandError::fixed(
                    "ERR The `numids` parameter must match the number of arguments",
                ));
            }
            ids = Some(&words[at + 2..at + 2 + count]);
            at += 1 + count;
        } else {
            return Err(CommandError::Syntax);
        }
        at += 1;
    }
    Ok((
        references.unwrap_or_default(),
        ids.ok_or(CommandError::Syntax)?,
    ))
}

fn code(deletion: Deletion) -> i64 {
    match deletion {
        Deletion::Missing => -1,
        Deletion::Done => 1,
        Deletion::Referenced => 2,
    }
}

pub const XDELEX: Command<Handler> = command("XDELEX", at_least(5), xdelex as Handler)
    .flags(WRITE | FAST)
    .acl(acl::STREAM)
    .keys(&[at(1).flags(RW | DELETE)])
    .doc(
        "Deletes entries of a stream and says how to treat groups' references.",
        "O(1) for each single item to delete in the stream, regardless of the stream size.",
        "8.2.0",
        "stream",
    )
    .args(&[
        key("key", 0),
        one_of(
            "condition",
            &[
                word("keepref", "KEEPREF"),
                word("delref", "DELREF"),
                word("acked", "ACKED"),
            ],
        )
        .optional(),
        block("ids", &[integer("numids"), string("id").multiple()]).token("IDS"),
    ]);

fn xdelex(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    // The type is looked at before the words are, as in Redis.
    let entry = write(ctx.shard, ctx.db, key)?;
    let (references, ids) = parse(&args[2..])?;
    let (mut deleted, mut missing) = (0, 0);
    match entry {
        None => reply_missing(ctx, ids.len()),
        Some(mut entry) => {
            let ids = parse_ids(ids)?;
            let stream = stream_mut(&mut entry);
            ctx.reply.array(ids.len());
            for id in ids {
                let deletion = stream.delete_with(id, references);
                deleted += usize::from(deletion == Deletion::Done);
                missing += usize::from(deletion == Deletion::Missing);
                ctx.reply.integer(code(deletion));
            }
            stream.settle();
        }
    }
    if missing > 0 && references == References::Delete {
        // Groups may have had references to entries that were deleted before.
        changed_group(ctx);
    }
    note_deleted(ctx, args[1], deleted);
    Ok(())
}

fn reply_missing(ctx: &mut Ctx<'_>, count: usize) {
    ctx.reply.array(count);
    for _ in 0..count {
        ctx.reply.integer(-1);
    }
}

pub const XACKDEL: Command<Handler> = command("XACKDEL", at_least(6), xackdel as Handler)
    .flags(WRITE | FAST)
    .acl(acl::STREAM)
    .keys(&[at(1).flags(RW | UPDATE | DELETE)])
    .doc(
        "Acknowledges entries and deletes them.",
        "O(1) for each message ID processed.",
        "8.2.0",
        "stream",
    )
    .args(&[
        key("key", 0),
        string("group"),
        one_of(
            "condition",
            &[
                word("keepref", "KEEPREF"),
                word("delref", "DELREF"),
                word("acked", "ACKED"),
            ],
        )
        .optional(),
        block("ids", &[integer("numids"), string("id").multiple()]).token("IDS"),
    ]);

fn xackdel(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    // The type is looked at before the words are, as in Redis.
    let entry = write_groups(ctx.shard, ctx.db, key)?;
    let (references, ids) = parse(&args[3..])?;
    let Some(mut entry) = entry else {
        reply_missing(ctx, ids.len());
        return Ok(());
    };
    let stream = stream_mut(&mut entry);
    if stream.group(args[2]).is_none() {
        reply_missing(ctx, ids.len());
        return Ok(());
    }
    let ids: Vec<StreamId> = parse_ids(ids)?;
    let (mut acknowledged, mut deleted) = (false, 0);
    ctx.reply.array(ids.len());
    for id in ids {
        let group = stream.group_mut(args[2]);
        if group.and_then(|group| group.acknowledge(id)).is_none() {
            ctx.reply.integer(-1);
            continue;
        }
        acknowledged = true;
        let deletion = stream.delete_with(id, references);
        deleted += usize::from(deletion == Deletion::Done);
        // An entry that was deleted before is as good as deleted now.
        ctx.reply.integer(code(deletion).abs());
    }
    stream.settle();
    if acknowledged {
        changed_group(ctx);
    }
    note_deleted(ctx, args[1], deleted);
    Ok(())
}
