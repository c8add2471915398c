//! XSETID.

use super::{is_word, parse_id, parse_integer, stream_mut, write};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const XSETID: Command<Handler> = command("XSETID", at_least(3), xsetid as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::STREAM)
    .keys(&[at(1).flags(RW | UPDATE)])
    .doc("Sets a stream's last ID.", "O(1)", "5.0.0", "stream")
    .history(&[(
        "7.0.0",
        "Arguments `entries_added` and `max_deleted_entry_id`.",
    )])
    .args(&[
        key("key", 0),
        string("last-id"),
        integer("entries-added")
            .token("ENTRIESADDED")
            .since("7.0.0")
            .optional(),
        string("max-deleted-id")
            .token("MAXDELETEDID")
            .since("7.0.0")
            .optional(),
    ]);

const BELOW_GIVEN: &str =
    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id";
const BELOW_DELETED: &str =
    "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id";
const BELOW_TOP: &str = "ERR The ID specified in XSETID is smaller than the target stream top item";
const TOO_FEW: &str =
    "ERR The entries_added specified in XSETID is smaller than the target stream length";

fn xsetid(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let id = parse_id(args[2], 0)?;
    let (mut added, mut max_deleted) = (None, None);
    let mut options = args[3..].chunks_exact(2);
    for option in &mut options {
        if is_word(option[0], "ENTRIESADDED") {
            let n = u64::try_from(parse_integer(option[1])?)
                .map_err(|_| CommandError::fixed("ERR entries_added must be positive"))?;
            added = Some(n);
        } else if is_word(option[0], "MAXDELETEDID") {
            let deleted = parse_id(option[1], 0)?;
            if id < deleted {
                return Err(CommandError::fixed(BELOW_GIVEN));
            }
            max_deleted = Some(deleted).filter(|id| !id.is_zero());
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if !options.remainder().is_empty() {
        return Err(CommandError::Syntax);
    }
    let key = ctx.key(args[1]);
    let Some(mut entry) = write(ctx.shard, ctx.db, key)? else {
        return Err(CommandError::NoSuchKey);
    };
    let stream = stream_mut(&mut entry);
    if id < stream.max_deleted_id() {
        return Err(CommandError::fixed(BELOW_DELETED));
    }
    if let Some(last) = stream.last_live_id() {
        if id < last {
            return Err(CommandError::fixed(BELOW_TOP));
        }
        if added.is_some_and(|added| added < stream.len()) {
            return Err(CommandError::fixed(TOO_FEW));
        }
    }
    stream.set_last_id(id, added, max_deleted);
    ctx.modified(args[1], notify::STREAM, "xsetid");
    ctx.reply.ok();
    Ok(())
}
