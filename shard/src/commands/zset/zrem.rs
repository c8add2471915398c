//! ZREM and ZREMRANGEBYRANK, -SCORE, -LEX.

use super::bounds::{LexRange, Range, ScoreRange};
use super::edit;
use super::view::View;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;

pub const ZREM: Command<Handler> = command("ZREM", at_least(3), zrem as Handler)
    .flags(WRITE | FAST)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RW | DELETE)])
    .element(2)
    .doc("Removes members from a sorted set.", "O(M*log(N)) with N being the number of elements in the sorted set and M the number of elements to be removed.", "1.2.0", "sorted-set")
    .history(&[("2.4.0", "Takes any number of elements.")])
    .args(&[key("key", 0), string("member").multiple()]);

pub const ZREMRANGEBYRANK: Command<Handler> = command("ZREMRANGEBYRANK", exactly(4), zremrangebyrank as Handler)
    .flags(WRITE)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RW | DELETE)])
    .doc("Removes members by rank.", "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements removed by the operation.", "2.0.0", "sorted-set")
    .args(&[key("key", 0), integer("start"), integer("stop")]);

pub const ZREMRANGEBYSCORE: Command<Handler> = command("ZREMRANGEBYSCORE", exactly(4), zremrangebyscore as Handler)
    .flags(WRITE)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RW | DELETE)])
    .doc("Removes members in a range of scores.", "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements removed by the operation.", "1.2.0", "sorted-set")
    .args(&[key("key", 0), double("min"), double("max")]);

pub const ZREMRANGEBYLEX: Command<Handler> = command("ZREMRANGEBYLEX", exactly(4), zremrangebylex as Handler)
    .flags(WRITE)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RW | DELETE)])
    .doc("Removes members in a range of names.", "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements removed by the operation.", "2.8.9", "sorted-set")
    .args(&[key("key", 0), string("min"), string("max")]);

fn zrem(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    let (mut removed, mut empty) = (0, false);
    if let Some(mut entry) = edit::write(ctx, key)? {
        for member in &args[2..] {
            removed += edit::remove(&mut entry, member) as i64;
            empty = edit::len(&entry) == 0;
            if empty {
                break;
            }
        }
    }
    if removed > 0 {
        edit::removed(ctx, key, empty, "zrem");
    }
    ctx.reply.integer(removed);
    Ok(())
}

fn zremrangebyrank(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let rank = |word: &[u8]| parse_i64(word).ok_or(CommandError::NotInteger);
    let range = Range::Rank(rank(args[2])?, rank(args[3])?);
    remove_range(ctx, args[1], range, "zremrangebyrank")
}

fn zremrangebyscore(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let range = Range::Score(ScoreRange::parse(args[2], args[3])?);
    remove_range(ctx, args[1], range, "zremrangebyscore")
}

fn zremrangebylex(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let range = Range::Lex(LexRange::parse(args[2], args[3])?);
    remove_range(ctx, args[1], range, "zremrangebylex")
}

fn remove_range(
    ctx: &mut Ctx<'_>,
    key: &[u8],
    range: Range<'_>,
    event: &'static str,
) -> CommandResult {
    let (key, most) = (ctx.key(key), ctx.elements_max());
    let (mut count, mut empty) = (0, false);
    if let Some(mut entry) = edit::write(ctx, key)? {
        let (from, to) = View::of(entry.get()).ranks(&range, false);
        count = to - from;
        empty = count == edit::len(&entry);
        // A key that goes as a whole is freed in slices.
        if !empty {
            if count > most {
                return ctx.step_aside();
            }
            edit::remove_range(&mut entry, from, to, false, |_, _| {});
        }
    }
    if count > 0 {
        edit::removed(ctx, key, empty, event);
    }
    ctx.reply.integer(count as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::zset::tests::each_encoding;

    #[test]
    fn removing() {
        each_encoding(|t| {
            t.listen();
            t.check("ZADD z 1 a 2 b 3 c 4 d 5 e", ":5");
            t.check("ZREM z a nope a", ":1").check("ZREM nokey a", ":0");
            t.check("ZREMRANGEBYRANK z 0 0", ":1")
                .check("ZRANGE z 0 -1", "*3 $1 c $1 d $1 e");
            t.check("ZREMRANGEBYSCORE z (3 4", ":1")
                .check("ZREMRANGEBYSCORE z 9 8", ":0");
            t.check("ZREMRANGEBYLEX z [c [c", ":1")
                .check("ZREM z e x", ":1");
            t.check_new_events(
                "new z, zadd z, zrem z, zremrangebyrank z, zremrangebyscore z, zremrangebylex z, zrem z, del z",
            );
            t.check("EXISTS z", ":0");
            t.check("ZREMRANGEBYSCORE z x 1", "-ERR min or max is not a float");
            t.check(
                "ZREMRANGEBYLEX z a [b",
                "-ERR min or max not valid string range item",
            );
        });
    }
}
