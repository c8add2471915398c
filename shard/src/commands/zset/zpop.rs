//! Popping from either end, also from the first of several keys, also waiting for one.

use super::edit;
use super::reply_score;
use crate::ctx::{Args, Block, CommandResult, Ctx, Handler, Null, Wake, timeout_ms};
use crate::keyspace::Key;
use crate::object::Type;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;

pub const ZPOPMIN: Command<Handler> = command("ZPOPMIN", at_least(2), zpopmin as Handler)
    .flags(WRITE | FAST)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RW | ACCESS | DELETE)])
    .doc("Removes and returns the members with the lowest scores.", "O(log(N)*M) with N being the number of elements in the sorted set, and M being the number of elements popped.", "5.0.0", "sorted-set")
    .args(&[key("key", 0), integer("count").optional()]);

pub const ZPOPMAX: Command<Handler> = command("ZPOPMAX", at_least(2), zpopmax as Handler)
    .flags(WRITE | FAST)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RW | ACCESS | DELETE)])
    .doc("Removes and returns the members with the highest scores.", "O(log(N)*M) with N being the number of elements in the sorted set, and M being the number of elements popped.", "5.0.0", "sorted-set")
    .args(&[key("key", 0), integer("count").optional()]);

pub const ZMPOP: Command<Handler> = command("ZMPOP", at_least(4), zmpop as Handler)
    .flags(WRITE | MOVABLEKEYS)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).keynum(0, 1, 1).flags(RW | ACCESS | DELETE)])
    .doc("Pops members from the first sorted set that has any.", "O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of elements in the sorted set, and M being the number of elements popped.", "7.0.0", "sorted-set")
    .args(&[integer("numkeys"), key("key", 0).multiple(), one_of("where", &[word("min", "MIN"), word("max", "MAX")]), integer("count").token("COUNT").optional()]);

pub const BZPOPMIN: Command<Handler> = command("BZPOPMIN", at_least(3), bzpopmin as Handler)
    .flags(WRITE | BLOCKING | FAST)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).range(-2, 1, 0).flags(RW | ACCESS | DELETE)])
    .doc(
        "Pops the lowest member of the first sorted set that has any, waiting if none has.",
        "O(log(N)) with N being the number of elements in the sorted set.",
        "5.0.0",
        "sorted-set",
    )
    .history(&[("6.0.0", "The `timeout` may have a fraction.")])
    .args(&[key("key", 0).multiple(), double("timeout")]);

pub const BZPOPMAX: Command<Handler> = command("BZPOPMAX", at_least(3), bzpopmax as Handler)
    .flags(WRITE | BLOCKING | FAST)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).range(-2, 1, 0).flags(RW | ACCESS | DELETE)])
    .doc(
        "Pops the highest member of the first sorted set that has any, waiting if none has.",
        "O(log(N)) with N being the number of elements in the sorted set.",
        "5.0.0",
        "sorted-set",
    )
    .history(&[("6.0.0", "The `timeout` may have a fraction.")])
    .args(&[key("key", 0).multiple(), double("timeout")]);

pub const BZMPOP: Command<Handler> = command("BZMPOP", at_least(5), bzmpop as Handler)
    .flags(WRITE | BLOCKING | MOVABLEKEYS)
    .acl(acl::SORTEDSET)
    .keys(&[at(2).keynum(0, 1, 1).flags(RW | ACCESS | DELETE)])
    .doc("Pops from the first sorted set that has members, waiting if none has.", "O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of elements in the sorted set, and M being the number of elements popped.", "7.0.0", "sorted-set")
    .args(&[double("timeout"), integer("numkeys"), key("key", 0).multiple(), one_of("where", &[word("min", "MIN"), word("max", "MAX")]), integer("count").token("COUNT").optional()]);

/// How popped pairs are shown.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// `[member, score, ...]`
    Flat,
    /// `[[member, score], ...]`
    Pairs,
    /// `[key, member, score]`
    KeyFlat,
    /// `[key, [[member, score], ...]]`
    KeyPairs,
}

fn zpopmin(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    pop(ctx, args, false)
}
fn zpopmax(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    pop(ctx, args, true)
}

fn pop(ctx: &mut Ctx<'_>, args: Args<'_>, max: bool) -> CommandResult {
    let (count, shape) = match args[2..] {
        [] => (1, Shape::Flat),
        [word] => {
            let count = parse_i64(word)
                .and_then(|n| usize::try_from(n).ok())
                .ok_or(CommandError::fixed(
                    "ERR value is out of range, must be positive",
                ))?;
            let nested = ctx.reply.is_resp3();
            (count, if nested { Shape::Pairs } else { Shape::Flat })
        }
        _ => return Err(CommandError::Syntax),
    };
    if ctx.is_long_at(args[1], count, 1) {
        return Ok(());
    }
    let key = ctx.key(args[1]);
    if !pop_from(ctx, key, max, count, shape)? {
        ctx.reply.array(0);
    }
    Ok(())
}

/// Pops up to `count` pairs and answers with them. False, and nothing written, when the key is not there or `count` is 0.
fn pop_from(
    ctx: &mut Ctx<'_>,
    key: Key<'_>,
    max: bool,
    count: usize,
    shape: Shape,
) -> Result<bool, CommandError> {
    let Ctx { shard, reply, .. } = ctx;
    let mut entry = match shard.write(ctx.db, key) {
        Some(entry) if entry.kind() == Type::ZSet => entry,
        Some(_) => return Err(CommandError::WrongType),
        None => return Ok(false),
    };
    let len = edit::len(&entry);
    let count = count.min(len);
    if count == 0 {
        return Ok(false);
    }
    match shape {
        Shape::Flat => reply.array(2 * count),
        Shape::Pairs => reply.array(count),
        Shape::KeyFlat => {
            reply.array(3);
            reply.bulk(key.bytes);
        }
        Shape::KeyPairs => {
            reply.array(2);
            reply.bulk(key.bytes);
            reply.array(count);
        }
    }
    let (from, to) = if max { (len - count, len) } else { (0, count) };
    let nested = matches!(shape, Shape::Pairs | Shape::KeyPairs);
    edit::remove_range(&mut entry, from, to, max, |score, member| {
        if nested {
            reply.array(2);
        }
        reply.bulk(member);
        reply_score(reply, score);
    });
    edit::prefetch_end(&mut entry, max);
    let event = if max { "zpopmax" } else { "zpopmin" };
    edit::removed(ctx, key, count == len, event);
    Ok(true)
}

/// The words after the count of keys: keys, MIN or MAX, COUNT.
struct Choice<'a> {
    keys: &'a [&'a [u8]],
    max: bool,
    count: usize,
}

impl<'a> Choice<'a> {
    fn parse(words: &'a [&'a [u8]]) -> Result<Self, CommandError> {
        let positive = |word: &[u8], error: &'static str| {
            parse_i64(word)
                .and_then(|n| usize::try_from(n).ok())
                .filter(|n| *n > 0)
                .ok_or(CommandError::fixed(error))
        };
        let numkeys = positive(words[0], "ERR numkeys should be greater than 0")?;
        let Some((keys, rest)) = words[1..].split_at_checked(numkeys) else {
            return Err(CommandError::Syntax);
        };
        let (end, mut rest) = rest.split_first().ok_or(CommandError::Syntax)?;
        let max = if end.eq_ignore_ascii_case(b"MIN") {
            false
        } else if end.eq_ignore_ascii_case(b"MAX") {
            true
        } else {
            return Err(CommandError::Syntax);
        };
        let mut count = None;
        while !rest.is_empty() {
            match rest {
                [word, number, more @ ..]
                    if count.is_none() && word.eq_ignore_ascii_case(b"COUNT") =>
                {
                    count = Some(positive(number, "ERR count should be greater than 0")?);
                    rest = more;
                }
                _ => return Err(CommandError::Syntax),
            }
        }
        Ok(Self {
            keys,
            max,
            count: count.unwrap_or(1),
        })
    }
    /// Pops from the first key that is there, or steps aside. False when none is.
    fn pop(&self, ctx: &mut Ctx<'_>) -> Result<bool, CommandError> {
        for key in self.keys {
            if ctx.is_long_at(key, self.count, 1) {
                return Ok(true);
            }
            let name = ctx.key(key);
            if pop_from(ctx, name, self.max, self.count, Shape::KeyPairs)? {
                let count = self.count.to_string();
                ctx.log_as(&[log_name(self.max), key, count.as_bytes()]);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn log_name(max: bool) -> &'static [u8] {
    if max { b"ZPOPMAX" } else { b"ZPOPMIN" }
}

fn zmpop(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    if !Choice::parse(&args[1..])?.pop(ctx)? {
        ctx.reply.null_array();
    }
    Ok(())
}

fn bzmpop(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let choice = Choice::parse(&args[2..])?;
    let timeout_ms = timeout_ms(args[1])?;
    if !ctx.served_in_vain(choice.keys, Type::ZSet) && choice.pop(ctx)? {
        return Ok(());
    }
    wait(ctx, choice.keys, timeout_ms)
}

fn bzpopmin(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    pop_or_wait(ctx, args, false)
}
fn bzpopmax(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    pop_or_wait(ctx, args, true)
}

fn pop_or_wait(ctx: &mut Ctx<'_>, args: Args<'_>, max: bool) -> CommandResult {
    let keys = &args[1..args.len() - 1];
    let timeout_ms = timeout_ms(args[args.len() - 1])?;
    if ctx.served_in_vain(keys, Type::ZSet) {
        return wait(ctx, keys, timeout_ms);
    }
    for key in keys {
        let name = ctx.key(key);
        if pop_from(ctx, name, max, 1, Shape::KeyFlat)? {
            ctx.log_as(&[log_name(max), key]);
            return Ok(());
        }
    }
    wait(ctx, keys, timeout_ms)
}

fn wait(ctx: &mut Ctx<'_>, keys: &[&[u8]], timeout_ms: Option<u64>) -> CommandResult {
    let db = ctx.db;
    ctx.block(Block {
        db,
        keys: keys.iter().map(|key| Box::from(*key)).collect(),
        wake: Wake::Type(Type::ZSet),
        timeout_ms,
        null: Null::Array,
        words: None,
    })
}

#[cfg(test)]
mod tests {
    use crate::commands::zset::tests::each_encoding;
    use crate::ctx::{Null, Wake};
    use crate::object::Type;
    use ringwood_protocol::reply::Version;

    #[test]
    fn popping() {
        each_encoding(|t| {
            t.listen();
            t.check("ZADD z 1 a 2 b 3 c 4 d 5 e", ":5")
                .check("ZPOPMIN z", "*2 $1 a $1 1");
            t.check("ZPOPMAX z 2", "*4 $1 e $1 5 $1 d $1 4")
                .check("ZPOPMIN z 0", "*0");
            t.check(
                "ZPOPMIN z -1",
                "-ERR value is out of range, must be positive",
            );
            t.check("ZPOPMIN z 9", "*4 $1 b $1 2 $1 c $1 3")
                .check("ZPOPMIN z", "*0");
            t.check_new_events("new z, zadd z, zpopmin z, zpopmax z, zpopmin z, del z");
            t.check("ZADD z 1 a 2 b 3 c", ":3")
                .check("ZMPOP 2 n z MIN", "*2 $1 z *1 *2 $1 a $1 1");
            t.check_log(&["ZPOPMIN z 1"]);
            t.check(
                "ZMPOP 1 z MAX COUNT 9",
                "*2 $1 z *2 *2 $1 c $1 3 *2 $1 b $1 2",
            )
            .check("ZMPOP 1 z MAX", "*-1");
            t.version = Version::Resp3;
            t.check("ZADD z 1 a 2 b", ":2")
                .check("ZPOPMIN z", "*2 $1 a ,1")
                .check("ZPOPMIN z 1", "*1 *2 $1 b ,2");
        });
    }

    #[test]
    fn waiting() {
        each_encoding(|t| {
            t.check("ZADD z 1 a 2 b", ":2")
                .check("BZPOPMIN n z 0", "*3 $1 z $1 a $1 1");
            t.check_log(&["ZPOPMIN z"]);
            t.check("BZMPOP 0 1 z MAX", "*2 $1 z *1 *2 $1 b $1 2");
            assert!(t.block.is_none());
            t.check("BZPOPMAX n z 0.5", "");
            let block = t.block.take().expect("it waits");
            assert_eq!((block.timeout_ms, block.null), (Some(500), Null::Array));
            assert_eq!(block.wake, Wake::Type(Type::ZSet));
            assert_eq!(
                block.keys,
                [Box::from(b"n".as_slice()), Box::from(b"z".as_slice())]
            );
            t.check("BZPOPMIN z -1", "-ERR timeout is negative");
            t.check("BZMPOP 0 0 z MIN", "-ERR numkeys should be greater than 0");
            t.check(
                "BZMPOP 0 1 z MIN COUNT 0",
                "-ERR count should be greater than 0",
            );
            t.check("BZMPOP 0 2 z MIN", "-ERR syntax error");
            t.check("BZMPOP x 1 z MIN COUNT", "-ERR syntax error");
            t.check(
                "BZMPOP x 1 z MIN",
                "-ERR timeout is not a float or out of range",
            );
        });
    }
}
