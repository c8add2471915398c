//! LLEN, LINDEX, LRANGE, LTRIM.

use super::value::{self, View, resolve_range};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::Type;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;

pub const LLEN: Command<Handler> = command("LLEN", exactly(2), llen as Handler)
    .flags(READONLY | FAST)
    .acl(acl::LIST)
    .keys(&[at(1).flags(RO)])
    .doc("Counts the elements of a list.", "O(1)", "1.0.0", "list")
    .args(&[key("key", 0)]);

pub const LINDEX: Command<Handler> = command("LINDEX", exactly(3), lindex as Handler)
    .flags(READONLY)
    .acl(acl::LIST)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Returns the element at an index.", "O(N) where N is the number of elements to traverse to get to the element at index. This makes asking for the first or the last element of the list O(1).", "1.0.0", "list")
    .args(&[key("key", 0), integer("index")]);

pub const LRANGE: Command<Handler> = command("LRANGE", exactly(4), lrange as Handler)
    .flags(READONLY)
    .acl(acl::LIST)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Lists elements between two indexes.", "O(S+N) where S is the distance of start offset from HEAD for small lists, from nearest end (HEAD or TAIL) for large lists; and N is the number of elements in the specified range.", "1.0.0", "list")
    .args(&[key("key", 0), integer("start"), integer("stop")]);

pub const LTRIM: Command<Handler> = command("LTRIM", exactly(4), ltrim as Handler)
    .flags(WRITE)
    .acl(acl::LIST)
    .keys(&[at(1).flags(RW | DELETE)])
    .doc(
        "Keeps only a range of a list.",
        "O(N) where N is the number of elements to be removed by the operation.",
        "1.0.0",
        "list",
    )
    .args(&[key("key", 0), integer("start"), integer("stop")]);

fn llen(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let entry = ctx.read_typed(args[1], Type::List)?;
    let len = entry.map_or(0, |entry| View::new(entry).len());
    ctx.reply.integer(len as i64);
    Ok(())
}

fn lindex(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    let Ctx {
        shard, reply, db, ..
    } = ctx;
    let Some(entry) = shard.read(*db, key) else {
        reply.null();
        return Ok(());
    };
    if entry.kind() != Type::List {
        return Err(CommandError::WrongType);
    }
    let index = parse_i64(args[2]).ok_or(CommandError::NotInteger)?;
    let list = View::new(entry);
    let index = if index < 0 {
        list.len() as i64 + index
    } else {
        index
    };
    let item = usize::try_from(index).ok().and_then(|i| list.get(i));
    match item {
        Some(item) => item.reply(reply),
        None => reply.null(),
    }
    Ok(())
}

fn lrange(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let start = parse_i64(args[2]).ok_or(CommandError::NotInteger)?;
    let stop = parse_i64(args[3]).ok_or(CommandError::NotInteger)?;
    let (key, most) = (ctx.key(args[1]), ctx.reads_max());
    let Ctx {
        shard, reply, db, ..
    } = ctx;
    let Some(entry) = shard.read(*db, key) else {
        reply.array(0);
        return Ok(());
    };
    if entry.kind() != Type::List {
        return Err(CommandError::WrongType);
    }
    let list = View::new(entry);
    let (from, count) = resolve_range(start, stop, list.len());
    if count > most {
        return ctx.step_aside();
    }
    reply.array(count);
    list.range(from, count, |item| item.reply(reply));
    Ok(())
}

fn ltrim(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let start = parse_i64(args[2]).ok_or(CommandError::NotInteger)?;
    let stop = parse_i64(args[3]).ok_or(CommandError::NotInteger)?;
    let Some(mut list) = value::write(ctx, args[1])? else {
        ctx.reply.ok();
        return Ok(());
    };
    let len = list.len();
    let (from, count) = resolve_range(start, stop, len);
    let tail = list.remove_range(from + count, len - from - count);
    let head = list.remove_range(0, from);
    for rest in [tail, head].into_iter().flatten() {
        ctx.shard.keyspace.free_later(rest);
    }
    value::removed(ctx, args[1], "ltrim");
    ctx.reply.ok();
    Ok(())
}
