//! LMPOP, BLMPOP, BLPOP, BRPOP: pops from the first of several lists that has elements.

use super::pop::{POPS_AT_ONCE, pop_many, pop_one};
use super::value::{parse_end, pop_name};
use crate::collections::quicklist::End;
use crate::ctx::{Args, Block, CommandResult, Ctx, Handler, Null, Wake, timeout_ms};
use crate::object::Type;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;

pub const LMPOP: Command<Handler> = command("LMPOP", at_least(4), lmpop as Handler)
    .flags(WRITE | MOVABLEKEYS)
    .acl(acl::LIST)
    .keys(&[at(1).keynum(0, 1, 1).flags(RW | ACCESS | DELETE)])
    .doc(
        "Pops elements from the first list that has any.",
        "O(N+M) where N is the number of provided keys and M is the number of elements returned.",
        "7.0.0",
        "list",
    )
    .args(&[
        integer("numkeys"),
        key("key", 0).multiple(),
        one_of("where", &[word("left", "LEFT"), word("right", "RIGHT")]),
        integer("count").token("COUNT").optional(),
    ]);

pub const BLMPOP: Command<Handler> = command("BLMPOP", at_least(5), blmpop as Handler)
    .flags(WRITE | BLOCKING | MOVABLEKEYS)
    .acl(acl::LIST)
    .keys(&[at(2).keynum(0, 1, 1).flags(RW | ACCESS | DELETE)])
    .doc(
        "Pops from the first list that has elements, waiting if none has.",
        "O(N+M) where N is the number of provided keys and M is the number of elements returned.",
        "7.0.0",
        "list",
    )
    .args(&[
        double("timeout"),
        integer("numkeys"),
        key("key", 0).multiple(),
        one_of("where", &[word("left", "LEFT"), word("right", "RIGHT")]),
        integer("count").token("COUNT").optional(),
    ]);

pub const BLPOP: Command<Handler> = command("BLPOP", at_least(3), blpop as Handler)
    .flags(WRITE | BLOCKING)
    .acl(acl::LIST)
    .keys(&[at(1).range(-2, 1, 0).flags(RW | ACCESS | DELETE)])
    .doc(
        "Pops from the head of the first list that has elements, waiting if none has.",
        "O(N) where N is the number of provided keys.",
        "2.0.0",
        "list",
    )
    .history(&[("6.0.0", "The `timeout` may have a fraction.")])
    .args(&[key("key", 0).multiple(), double("timeout")]);

pub const BRPOP: Command<Handler> = command("BRPOP", at_least(3), brpop as Handler)
    .flags(WRITE | BLOCKING)
    .acl(acl::LIST)
    .keys(&[at(1).range(-2, 1, 0).flags(RW | ACCESS | DELETE)])
    .doc(
        "Pops from the tail of the first list that has elements, waiting if none has.",
        "O(N) where N is the number of provided keys.",
        "2.0.0",
        "list",
    )
    .history(&[("6.0.0", "The `timeout` may have a fraction.")])
    .args(&[key("key", 0).multiple(), double("timeout")]);

/// The first of the keys that is there; it must be a list.
fn first_list<'k>(ctx: &mut Ctx<'_>, keys: &[&'k [u8]]) -> Result<Option<&'k [u8]>, CommandError> {
    for &key in keys {
        if ctx.write_typed(key, Type::List)?.is_some() {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

fn wait(ctx: &mut Ctx<'_>, keys: &[&[u8]], timeout_ms: Option<u64>) -> CommandResult {
    let db = ctx.db;
    ctx.block(Block {
        db,
        keys: keys.iter().map(|&k| k.into()).collect(),
        wake: Wake::Type(Type::List),
        timeout_ms,
        null: Null::Array,
        words: None,
    })
}

fn blpop(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    blocking_pop(ctx, args, End::Front)
}
fn brpop(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    blocking_pop(ctx, args, End::Back)
}
fn blocking_pop(ctx: &mut Ctx<'_>, args: Args<'_>, end: End) -> CommandResult {
    let (keys, timeout) = (&args[1..args.len() - 1], args[args.len() - 1]);
    let timeout_ms = timeout_ms(timeout)?;
    if ctx.served_in_vain(keys, Type::List) {
        return wait(ctx, keys, timeout_ms);
    }
    let Some(key) = first_list(ctx, keys)? else {
        return wait(ctx, keys, timeout_ms);
    };
    ctx.reply.array(2);
    ctx.reply.bulk(key);
    pop_one(ctx, key, end);
    ctx.log_as(&[pop_name(end), key]);
    Ok(())
}

fn lmpop(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (keys, end, count) = parse(&args[1..])?;
    match first_list(ctx, keys)? {
        Some(key) if ctx.is_long_at(key, count, POPS_AT_ONCE) => {}
        Some(key) => pop_from(ctx, key, end, count),
        None => ctx.reply.null_array(),
    }
    Ok(())
}
fn blmpop(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (keys, end, count) = parse(&args[2..])?;
    let timeout_ms = timeout_ms(args[1])?;
    if ctx.served_in_vain(keys, Type::List) {
        return wait(ctx, keys, timeout_ms);
    }
    match first_list(ctx, keys)? {
        Some(key) if ctx.is_long_at(key, count, POPS_AT_ONCE) => {}
        Some(key) => pop_from(ctx, key, end, count),
        None => return wait(ctx, keys, timeout_ms),
    }
    Ok(())
}

fn pop_from(ctx: &mut Ctx<'_>, key: &[u8], end: End, count: usize) {
    let before = list_len(ctx, key);
    ctx.reply.array(2);
    ctx.reply.bulk(key);
    pop_many(ctx, key, end, count);
    let popped = count.min(before);
    ctx.log_as(&[pop_name(end), key, popped.to_string().as_bytes()]);
}
fn list_len(ctx: &mut Ctx<'_>, key: &[u8]) -> usize {
    let entry = ctx.write(key);
    entry.map_or(0, |e| super::value::View::new(e.get()).len())
}

/// `numkeys key … LEFT|RIGHT [COUNT count]`
fn parse<'k, 'a>(words: &'k [&'a [u8]]) -> Result<(&'k [&'a [u8]], End, usize), CommandError> {
    let positive = |word: &[u8], error: &'static str| {
        parse_i64(word)
            .filter(|&n| n > 0)
            .and_then(|n| usize::try_from(n).ok())
            .ok_or(CommandError::fixed(error))
    };
    let number = positive(words[0], "ERR numkeys should be greater than 0")?;
    let rest = &words[1..];
    if number >= rest.len() {
        return Err(CommandError::Syntax);
    }
    let (keys, rest) = rest.split_at(number);
    let end = parse_end(rest[0])?;
    let mut count = None;
    let mut options = &rest[1..];
    while let [option, value, more @ ..] = options {
        if count.is_some() || !option.eq_ignore_ascii_case(b"COUNT") {
            return Err(CommandError::Syntax);
        }
        count = Some(positive(value, "ERR count should be greater than 0")?);
        options = more;
    }
    if !options.is_empty() {
        return Err(CommandError::Syntax);
    }
    Ok((keys, end, count.unwrap_or(1)))
}
