//! LPOP, RPOP.

use super::value::{self, View};
use crate::collections::quicklist::End;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::Type;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;

pub const LPOP: Command<Handler> = command("LPOP", at_least(2), lpop as Handler)
    .flags(WRITE | FAST)
    .acl(acl::LIST)
    .keys(&[at(1).flags(RW | ACCESS | DELETE)])
    .doc(
        "Removes and returns elements from the head of a list.",
        "O(N) where N is the number of elements returned",
        "1.0.0",
        "list",
    )
    .history(&[("6.2.0", "Argument `count`.")])
    .args(&[key("key", 0), integer("count").since("6.2.0").optional()]);

pub const RPOP: Command<Handler> = command("RPOP", at_least(2), rpop as Handler)
    .flags(WRITE | FAST)
    .acl(acl::LIST)
    .keys(&[at(1).flags(RW | ACCESS | DELETE)])
    .doc(
        "Removes and returns elements from the tail of a list.",
        "O(N) where N is the number of elements returned",
        "1.0.0",
        "list",
    )
    .history(&[("6.2.0", "Argument `count`.")])
    .args(&[key("key", 0), integer("count").since("6.2.0").optional()]);

/// So many pops take as long as a look-up elsewhere: see [`Ctx::is_long_at`].
pub const POPS_AT_ONCE: usize = 8;

fn lpop(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    pop(ctx, args, End::Front)
}
fn rpop(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    pop(ctx, args, End::Back)
}

fn pop(ctx: &mut Ctx<'_>, args: Args<'_>, end: End) -> CommandResult {
    let name = args[1];
    let count = match args {
        [_, _] => None,
        [_, _, count] => Some(
            parse_i64(count)
                .and_then(|n| usize::try_from(n).ok())
                .ok_or(CommandError::fixed(
                    "ERR value is out of range, must be positive",
                ))?,
        ),
        _ => {
            let name = String::from_utf8_lossy(value::pop_name(end)).to_lowercase();
            return Err(CommandError::WrongArity(name));
        }
    };
    if count.is_some_and(|count| ctx.is_long_at(name, count, POPS_AT_ONCE)) {
        return Ok(());
    }
    if ctx.write_typed(name, Type::List)?.is_none() {
        match count {
            Some(_) => ctx.reply.null_array(),
            None => ctx.reply.null(),
        }
        return Ok(());
    }
    match count {
        Some(0) => ctx.reply.array(0),
        Some(count) => pop_many(ctx, name, end, count),
        None => pop_one(ctx, name, end),
    }
    Ok(())
}

/// Pops an element of a list that is there, as a bulk string.
pub fn pop_one(ctx: &mut Ctx<'_>, name: &[u8], end: End) {
    let limit = value::limit(&ctx.shard.settings);
    let key = ctx.key(name);
    let Ctx {
        shard, reply, db, ..
    } = ctx;
    let Some(entry) = shard.write(*db, key) else {
        return;
    };
    let mut list = value::ListMut::new(entry, limit);
    list.pop(end, |item| item.reply(reply));
    finish(ctx, name, end);
}

/// Pops up to `count` elements of a list that is there, as an array.
pub fn pop_many(ctx: &mut Ctx<'_>, name: &[u8], end: End, count: usize) {
    let limit = value::limit(&ctx.shard.settings);
    let key = ctx.key(name);
    let Ctx {
        shard, reply, db, ..
    } = ctx;
    let Some(entry) = shard.write(*db, key) else {
        return;
    };
    let mut list = value::ListMut::new(entry, limit);
    let len = list.len();
    let count = count.min(len);
    reply.array(count);
    let index = match end {
        End::Front => 0,
        End::Back => len - count,
    };
    match (end, list.view()) {
        (End::Front, view) => view.range(index, count, |item| item.reply(reply)),
        (End::Back, view @ (View::Packed(_) | View::Large(_))) => {
            let mut left = count;
            view.walk(End::Back, |item| {
                item.reply(reply);
                left -= 1;
                left > 0
            });
        }
    }
    if let Some(rest) = list.remove_range(index, count) {
        shard.keyspace.free_later(rest);
    }
    finish(ctx, name, end);
}

fn finish(ctx: &mut Ctx<'_>, name: &[u8], end: End) {
    value::removed(ctx, name, value::pop_event(end));
}
