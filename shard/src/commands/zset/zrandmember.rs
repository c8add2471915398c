//! ZRANDMEMBER.

use super::view::View;
use super::{reply_pair, reply_pairs_head};
use crate::commands::repeats;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::Shard;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;
use std::collections::HashSet;

pub const ZRANDMEMBER: Command<Handler> =
    command("ZRANDMEMBER", at_least(2), zrandmember as Handler)
        .flags(READONLY)
        .acl(acl::SORTEDSET)
        .keys(&[at(1).flags(RO | ACCESS)])
        .doc(
            "Returns random members of a sorted set.",
            "O(N) where N is the number of members returned",
            "6.2.0",
            "sorted-set",
        )
        .args(&[
            key("key", 0),
            block(
                "options",
                &[
                    integer("count"),
                    word("withscores", "WITHSCORES").optional(),
                ],
            )
            .optional(),
        ])
        .tips(&["nondeterministic_output"]);

fn zrandmember(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let [_, key, options @ ..] = args else {
        return Err(CommandError::Syntax);
    };
    let key = ctx.key(key);
    let [count, with_scores @ ..] = options else {
        let len = View::read_key(ctx.shard, ctx.db, key)?.map_or(0, View::len);
        if len == 0 {
            ctx.reply.null();
            return Ok(());
        }
        let rank = ctx.shard.random_below(len);
        let view = View::read_key(ctx.shard, ctx.db, key)?;
        let reply = &mut ctx.reply;
        if let Some(view) = view {
            view.visit(rank, rank + 1, false, |_, member| reply.bulk(member));
        }
        return Ok(());
    };
    let count = parse_i64(count).ok_or(CommandError::NotInteger)?;
    if count == i64::MIN {
        return Err(CommandError::fixed(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    let with_scores = match with_scores {
        [] => false,
        [word] if word.eq_ignore_ascii_case(b"WITHSCORES") => {
            if count.unsigned_abs() > i64::MAX as u64 / 2 {
                return Err(CommandError::OutOfRange);
            }
            true
        }
        _ => return Err(CommandError::Syntax),
    };
    if ctx.is_long_by_chance(args[1], count) {
        return Ok(());
    }
    let len = View::read_key(ctx.shard, ctx.db, key)?.map_or(0, View::len);
    if len == 0 || count == 0 {
        ctx.reply.array(0);
        return Ok(());
    }
    let wanted = count.unsigned_abs() as usize;
    let show = |ctx: &mut Ctx<'_>, ranks: &[usize]| {
        let (shard, reply) = (&ctx.shard, &mut ctx.reply);
        let Some(entry) = shard.keyspace.get(ctx.db, key) else {
            return;
        };
        let view = View::of(entry);
        for &rank in ranks {
            view.visit(rank, rank + 1, false, |score, member| {
                if with_scores {
                    reply_pair(reply, member, score);
                } else {
                    reply.bulk(member);
                }
            });
        }
    };
    let replied = match count {
        1.. => wanted.min(len),
        _ => repeats::number(count)?,
    };
    let mark = ctx.reply.mark();
    if with_scores {
        reply_pairs_head(&mut ctx.reply, replied);
    } else {
        ctx.reply.array(replied);
    }
    if count > 0 {
        let ranks = distinct_ranks(ctx.shard, len, replied);
        show(ctx, &ranks);
        return Ok(());
    }
    // With repetitions; in pieces, so that the ranks of a large count take little memory.
    let mut left = replied;
    while left > 0 {
        let piece = left.min(1000);
        let ranks: Vec<usize> = (0..piece).map(|_| ctx.shard.random_below(len)).collect();
        show(ctx, &ranks);
        repeats::check(&ctx.reply, mark)?;
        left -= piece;
    }
    Ok(())
}

/// `count` different ranks below `len`, every choice equally likely.
fn distinct_ranks(shard: &mut Shard, len: usize, count: usize) -> Vec<usize> {
    if count >= len {
        return (0..len).collect();
    }
    if count * 3 > len {
        // Each in turn is taken with the probability that is left for it.
        let mut ranks = Vec::with_capacity(count);
        for rank in 0..len {
            if shard.random_below(len - rank) < count - ranks.len() {
                ranks.push(rank);
            }
        }
        return ranks;
    }
    // Robert Floyd's way: no rank is drawn twice in vain.
    let mut seen = HashSet::with_capacity(count);
    let mut ranks = Vec::with_capacity(count);
    for last in len - count..len {
        let drawn = shard.random_below(last + 1);
        let rank = if seen.insert(drawn) { drawn } else { last };
        if rank == last {
            seen.insert(last);
        }
        ranks.push(rank);
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::zset::tests::each_encoding;

    #[test]
    fn members_by_chance() {
        each_encoding(|t| {
            t.check("ZRANDMEMBER n", "$-1")
                .check("ZRANDMEMBER n 5", "*0");
            t.check("ZADD z 1 a", ":1")
                .check("ZRANDMEMBER z", "$1 a")
                .check("ZRANDMEMBER z 0", "*0");
            t.check("ZRANDMEMBER z 5 WITHSCORES", "*2 $1 a $1 1")
                .check("ZRANDMEMBER z -2", "*2 $1 a $1 a");
            t.check("ZRANDMEMBER z 1 nope", "-ERR syntax error");
            t.check(
                "ZRANDMEMBER z x",
                "-ERR value is not an integer or out of range",
            );
        });
    }

    #[test]
    fn ranks_are_distinct_and_fair() {
        let mut t = crate::commands::testing::Tester::new();
        let mut drawn = [0; 20];
        for count in [3, 10, 20] {
            for _ in 0..2000 {
                let ranks = distinct_ranks(&mut t.shard, 20, count);
                let distinct: HashSet<_> = ranks.iter().copied().collect();
                assert_eq!((ranks.len(), distinct.len()), (count, count));
                ranks.iter().for_each(|rank| drawn[*rank] += 1);
            }
        }
        // 2000 * 33 / 20 each.
        assert!(drawn.iter().all(|n| (3000..3600).contains(n)), "{drawn:?}");
    }
}
