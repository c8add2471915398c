//! ZADD and ZINCRBY.

use super::edit::{self, Conditions, Limits, Outcome};
use super::reply_score;
use crate::collections::listpack;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::{Encoding, Type};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_f64;

pub const ZADD: Command<Handler> = command("ZADD", at_least(4), zadd as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RW | UPDATE)])
    .element(3)
    .doc(
        "Adds members to a sorted set or changes their scores.",
        "O(log(N)) for each item added, where N is the number of elements in the sorted set.",
        "1.2.0",
        "sorted-set",
    )
    .history(&[
        ("2.4.0", "Takes any number of elements."),
        ("3.0.2", "Options `XX`, `NX`, `CH` and `INCR`."),
        ("6.2.0", "Options `GT` and `LT`."),
    ])
    .args(&[
        key("key", 0),
        one_of("condition", &[word("nx", "NX"), word("xx", "XX")])
            .since("3.0.2")
            .optional(),
        one_of("comparison", &[word("gt", "GT"), word("lt", "LT")])
            .since("6.2.0")
            .optional(),
        word("change", "CH").since("3.0.2").optional(),
        word("increment", "INCR").since("3.0.2").optional(),
        block("data", &[double("score"), string("member")]).multiple(),
    ]);

pub const ZINCRBY: Command<Handler> = command("ZINCRBY", exactly(4), zincrby as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RW | ACCESS | UPDATE)])
    .element(3)
    .doc(
        "Adds to a member's score.",
        "O(log(N)) where N is the number of elements in the sorted set.",
        "1.2.0",
        "sorted-set",
    )
    .args(&[key("key", 0), integer("increment"), string("member")]);

fn zadd(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let mut conditions = Conditions::default();
    let mut change = false;
    let mut first = 2;
    while let Some(word) = args.get(first) {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        // Most often there is none: a number's first byte is no option's.
        if word.first().is_none_or(|b| !b.is_ascii_alphabetic()) {
            break;
        } else if is("NX") {
            conditions.nx = true;
        } else if is("XX") {
            conditions.xx = true;
        } else if is("GT") {
            conditions.gt = true;
        } else if is("LT") {
            conditions.lt = true;
        } else if is("CH") {
            change = true;
        } else if is("INCR") {
            conditions.incr = true;
        } else {
            break;
        }
        first += 1;
    }
    let words = &args[first..];
    if words.is_empty() || !words.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    let Conditions { nx, xx, gt, lt, .. } = conditions;
    if nx && xx {
        return Err(CommandError::fixed(
            "ERR XX and NX options at the same time are not compatible",
        ));
    }
    if (nx && (gt || lt)) || (gt && lt) {
        return Err(CommandError::fixed(
            "ERR GT, LT, and/or NX options at the same time are not compatible",
        ));
    }
    if conditions.incr && words.len() > 2 {
        return Err(CommandError::fixed(
            "ERR INCR option supports a single increment-element pair",
        ));
    }
    add(ctx, args[1], words, conditions, change)
}

fn zincrby(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let conditions = Conditions {
        incr: true,
        ..Conditions::default()
    };
    // ZADD's options are none of its own, and leave no pair.
    let options: [&[u8]; 6] = [b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"];
    if options
        .iter()
        .any(|name| args[2].eq_ignore_ascii_case(name))
    {
        return Err(CommandError::Syntax);
    }
    add(ctx, args[1], &args[2..], conditions, false)
}

/// Adds score-member pairs, and answers.
fn add(
    ctx: &mut Ctx<'_>,
    key: &[u8],
    words: &[&[u8]],
    conditions: Conditions,
    change: bool,
) -> CommandResult {
    let score = |word: &[u8]| parse_f64(word).ok_or(CommandError::NotFloat);
    // All scores are looked at before anything is changed. A single pair, the common case, needs no memory for that.
    let one = [score(words[0])?];
    let many;
    let scores: &[f64] = if words.len() == 2 {
        &one
    } else {
        many = words
            .chunks_exact(2)
            .map(|pair| score(pair[0]))
            .collect::<Result<Vec<_>, _>>()?;
        &many
    };
    add_scored(ctx, key, scores, |i| words[2 * i + 1], conditions, change)
}

/// Adds members with these scores, and answers.
pub fn add_scored<'m>(
    ctx: &mut Ctx<'_>,
    key: &[u8],
    scores: &[f64],
    member: impl Fn(usize) -> &'m [u8],
    conditions: Conditions,
    change: bool,
) -> CommandResult {
    let name = ctx.key(key);
    let Ctx { shard, reply, .. } = ctx;
    let limits = Limits::of(shard);
    let found = shard.write(ctx.db, name);
    let mut entry = match found {
        Some(entry) if entry.kind() != Type::ZSet => return Err(CommandError::WrongType),
        Some(entry) => entry,
        None if conditions.xx => {
            if conditions.incr {
                reply.null();
            } else {
                reply.integer(0);
            }
            return Ok(());
        }
        None => {
            let empty = listpack::EMPTY;
            let (kind, encoding) = (Type::ZSet, Encoding::Listpack);
            let mut entry = shard.insert_bytes(ctx.db, name, kind, encoding, &[empty]);
            // As in Redis, only the first member's length counts here; one can tell by a score of -0.
            if !limits.fit(1, member(0).len()) {
                edit::make_large(&mut entry, &limits);
            }
            entry
        }
    };
    if !limits.fit(scores.len(), 0) && !entry.is_object() {
        edit::make_large(&mut entry, &limits);
    }
    let (mut added, mut changed) = (0, 0);
    let mut last = Outcome::Refused;
    for (i, score) in scores.iter().enumerate() {
        last = edit::put(&mut entry, &limits, *score, member(i), conditions)?;
        match last {
            Outcome::Added(_) => added += 1,
            Outcome::Changed(_) => changed += 1,
            Outcome::Same(_) | Outcome::Refused => {}
        }
    }
    if conditions.incr {
        match last {
            Outcome::Added(score) | Outcome::Changed(score) | Outcome::Same(score) => {
                reply_score(reply, score);
            }
            Outcome::Refused => reply.null(),
        }
    } else {
        reply.integer(if change { added + changed } else { added });
    }
    if added + changed > 0 {
        let event = if conditions.incr { "zincr" } else { "zadd" };
        ctx.modified(key, notify::ZSET, event);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::zset::tests::each_encoding;

    #[test]
    fn adding() {
        each_encoding(|t| {
            t.listen();
            t.check("ZADD z 1 a 2 b", ":2")
                .check_new_events("new z, zadd z");
            t.check("ZADD z 3 a 2 b 4 c", ":1")
                .check("ZADD z CH 5 a 2 b 1 d", ":2");
            t.check(
                "ZRANGE z 0 -1 WITHSCORES",
                "*8 $1 d $1 1 $1 b $1 2 $1 c $1 4 $1 a $1 5",
            );
            t.check("ZADD z NX 9 a", ":0")
                .check("ZADD z XX 9 nope", ":0");
            t.check("ZADD z GT CH 4 a", ":0")
                .check("ZADD z LT CH 4 a", ":1");
            t.check("ZADD z INCR 1.5 a", "$3 5.5")
                .check("ZADD z NX INCR 1 a", "$-1");
            t.check("ZADD z INCR inf a", "$3 inf");
            let nan = "-ERR resulting score is not a number (NaN)";
            t.check("ZADD z INCR -inf a", nan)
                .check("ZINCRBY z -inf a", nan);
            t.check("ZINCRBY z 2 b", "$1 4")
                .check("ZINCRBY n 2.5 b", "$3 2.5");
            t.check("ZADD x XX 1 a", ":0")
                .check("ZADD x XX INCR 1 a", "$-1");
            t.check("EXISTS x", ":0");
        });
    }

    #[test]
    fn what_is_refused() {
        each_encoding(|t| {
            t.check(
                "ZADD z 1",
                "-ERR wrong number of arguments for 'zadd' command",
            );
            t.check("ZADD z NX 1", "-ERR syntax error")
                .check("ZADD z 1 a 2", "-ERR syntax error");
            t.check("ZINCRBY z nx a", "-ERR syntax error");
            t.check("ZADD z 1 a x b", "-ERR value is not a valid float");
            t.check("ZADD z nan b", "-ERR value is not a valid float");
            t.check("EXISTS z", ":0");
            t.check("SET s v", "+OK");
            t.check(
                "ZADD s 1 a",
                "-WRONGTYPE Operation against a key holding the wrong kind of value",
            );
        });
    }
}
