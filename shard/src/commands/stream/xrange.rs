//! XRANGE, XREVRANGE and XLEN.

use super::{is_word, parse_end, parse_integer, parse_start, read, reply_entries};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const XRANGE: Command<Handler> = command("XRANGE", at_least(4), xrange as Handler)
    .flags(READONLY)
    .acl(acl::STREAM)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Lists entries in a range of IDs.", "O(N) with N being the number of elements being returned. If N is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1).", "5.0.0", "stream")
    .history(&[("6.2.0", "Ranges may leave out their ends.")])
    .args(&[key("key", 0), string("start"), string("end"), integer("count").token("COUNT").optional()]);

fn xrange(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    range(ctx, args, false)
}

pub const XREVRANGE: Command<Handler> = command("XREVRANGE", at_least(4), xrevrange as Handler)
    .flags(READONLY)
    .acl(acl::STREAM)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Lists entries in a range of IDs, newest first.", "O(N) with N being the number of elements returned. If N is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1).", "5.0.0", "stream")
    .history(&[("6.2.0", "Ranges may leave out their ends.")])
    .args(&[key("key", 0), string("end"), string("start"), integer("count").token("COUNT").optional()]);

fn xrevrange(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    range(ctx, args, true)
}

fn range(ctx: &mut Ctx<'_>, args: Args<'_>, reverse: bool) -> CommandResult {
    let (start, end) = if reverse {
        (args[3], args[2])
    } else {
        (args[2], args[3])
    };
    let (start, end) = (parse_start(start)?, parse_end(end)?);
    let mut count = u64::MAX;
    let mut options = args[4..].chunks_exact(2);
    for option in &mut options {
        if !is_word(option[0], "COUNT") {
            return Err(CommandError::Syntax);
        }
        count = u64::try_from(parse_integer(option[1])?).unwrap_or(0);
    }
    if !options.remainder().is_empty() {
        return Err(CommandError::Syntax);
    }
    let key = ctx.key(args[1]);
    // A reply of entries takes longer than one of single elements.
    let most = (ctx.reads_max() / 4) as u64;
    match read(ctx.shard, ctx.db, key)? {
        None => ctx.reply.array(0),
        Some(_) if count == 0 => ctx.reply.null_array(),
        Some(stream) if count > most && stream.range_exceeds(start, end, most) => {
            return ctx.step_aside();
        }
        Some(stream) => {
            let entries = stream.range(start, end, reverse);
            reply_entries(&mut ctx.reply, entries, count, stream.len());
        }
    }
    Ok(())
}

pub const XLEN: Command<Handler> = command("XLEN", exactly(2), xlen as Handler)
    .flags(READONLY | FAST)
    .acl(acl::STREAM)
    .keys(&[at(1).flags(RO)])
    .doc("Counts the entries of a stream.", "O(1)", "5.0.0", "stream")
    .args(&[key("key", 0)]);

fn xlen(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    let len = read(ctx.shard, ctx.db, key)?.map_or(0, |stream| stream.len());
    ctx.reply.integer(len as i64);
    Ok(())
}
