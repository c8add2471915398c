//! Looking at members, ranks and counts.

use super::bounds::{LexRange, Range, ScoreRange};
use super::reply_score;
use super::view::View;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const ZSCORE: Command<Handler> = command("ZSCORE", exactly(3), zscore as Handler)
    .flags(READONLY | FAST)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RO | ACCESS)])
    .element(2)
    .doc("Returns a member's score.", "O(1)", "1.2.0", "sorted-set")
    .args(&[key("key", 0), string("member")]);

pub const ZMSCORE: Command<Handler> = command("ZMSCORE", at_least(3), zmscore as Handler)
    .flags(READONLY | FAST)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RO | ACCESS)])
    .element(2)
    .doc(
        "Returns the scores of several members.",
        "O(N) where N is the number of members being requested.",
        "6.2.0",
        "sorted-set",
    )
    .args(&[key("key", 0), string("member").multiple()]);

pub const ZCARD: Command<Handler> = command("ZCARD", exactly(2), zcard as Handler)
    .flags(READONLY | FAST)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RO)])
    .doc(
        "Counts the members of a sorted set.",
        "O(1)",
        "1.2.0",
        "sorted-set",
    )
    .args(&[key("key", 0)]);

pub const ZRANK: Command<Handler> = command("ZRANK", at_least(3), zrank as Handler)
    .flags(READONLY | FAST)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RO | ACCESS)])
    .element(2)
    .doc(
        "Returns a member's rank, lowest score first.",
        "O(log(N))",
        "2.0.0",
        "sorted-set",
    )
    .history(&[("7.2.0", "Argument `WITHSCORE`.")])
    .args(&[
        key("key", 0),
        string("member"),
        word("withscore", "WITHSCORE").optional(),
    ]);

pub const ZREVRANK: Command<Handler> = command("ZREVRANK", at_least(3), zrevrank as Handler)
    .flags(READONLY | FAST)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RO | ACCESS)])
    .element(2)
    .doc(
        "Returns a member's rank, highest score first.",
        "O(log(N))",
        "2.0.0",
        "sorted-set",
    )
    .history(&[("7.2.0", "Argument `WITHSCORE`.")])
    .args(&[
        key("key", 0),
        string("member"),
        word("withscore", "WITHSCORE").optional(),
    ]);

pub const ZCOUNT: Command<Handler> = command("ZCOUNT", exactly(4), zcount as Handler)
    .flags(READONLY | FAST)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc(
        "Counts members in a range of scores.",
        "O(log(N)) with N being the number of elements in the sorted set.",
        "2.0.0",
        "sorted-set",
    )
    .args(&[key("key", 0), double("min"), double("max")]);

pub const ZLEXCOUNT: Command<Handler> = command("ZLEXCOUNT", exactly(4), zlexcount as Handler)
    .flags(READONLY | FAST)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc(
        "Counts members in a range of names.",
        "O(log(N)) with N being the number of elements in the sorted set.",
        "2.8.9",
        "sorted-set",
    )
    .args(&[key("key", 0), string("min"), string("max")]);

fn zscore(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    let view = View::read_key(ctx.shard, ctx.db, key)?;
    match view.and_then(|view| view.score(args[2])) {
        Some(score) => reply_score(&mut ctx.reply, score),
        None => ctx.reply.null(),
    }
    Ok(())
}

fn zmscore(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let view = View::read(ctx.shard, ctx.db, args[1])?;
    ctx.reply.array(args.len() - 2);
    for member in &args[2..] {
        match view.and_then(|view| view.score(member)) {
            Some(score) => reply_score(&mut ctx.reply, score),
            None => ctx.reply.null(),
        }
    }
    Ok(())
}

fn zcard(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let view = View::read(ctx.shard, ctx.db, args[1])?;
    ctx.reply.integer(view.map_or(0, View::len) as i64);
    Ok(())
}

fn zrank(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    rank(ctx, args, false)
}

fn zrevrank(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    rank(ctx, args, true)
}

fn rank(ctx: &mut Ctx<'_>, args: Args<'_>, rev: bool) -> CommandResult {
    let with_score = match args[3..] {
        [] => false,
        [word] if word.eq_ignore_ascii_case(b"WITHSCORE") => true,
        [_] => return Err(CommandError::Syntax),
        _ => {
            let name = if rev { "zrevrank" } else { "zrank" };
            return Err(CommandError::WrongArity(name.into()));
        }
    };
    let key = ctx.key(args[1]);
    let view = View::read_key(ctx.shard, ctx.db, key)?;
    let found = view.and_then(|view| {
        let (rank, score) = view.rank(args[2])?;
        Some((if rev { view.len() - 1 - rank } else { rank }, score))
    });
    match found {
        Some((rank, score)) if with_score => {
            ctx.reply.array(2);
            ctx.reply.integer(rank as i64);
            reply_score(&mut ctx.reply, score);
        }
        Some((rank, _)) => ctx.reply.integer(rank as i64),
        None if with_score => ctx.reply.null_array(),
        None => ctx.reply.null(),
    }
    Ok(())
}

fn zcount(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let range = Range::Score(ScoreRange::parse(args[2], args[3])?);
    count(ctx, args[1], range)
}

fn zlexcount(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let range = Range::Lex(LexRange::parse(args[2], args[3])?);
    count(ctx, args[1], range)
}

fn count(ctx: &mut Ctx<'_>, key: &[u8], range: Range<'_>) -> CommandResult {
    let view = View::read(ctx.shard, ctx.db, key)?;
    let (from, to) = view.map_or((0, 0), |view| view.ranks(&range, false));
    ctx.reply.integer((to - from) as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::zset::tests::each_encoding;
    use ringwood_protocol::reply::Version;

    #[test]
    fn looking() {
        each_encoding(|t| {
            t.check("ZADD z 1 a 2.5 b 2.5 c inf d", ":4");
            t.check("ZSCORE z b", "$3 2.5")
                .check("ZSCORE z x", "$-1")
                .check("ZSCORE n x", "$-1");
            t.check("ZMSCORE z d x a", "*3 $3 inf $-1 $1 1");
            t.check("ZCARD z", ":4").check("ZCARD n", ":0");
            t.check("ZRANK z c", ":2")
                .check("ZREVRANK z c", ":1")
                .check("ZRANK z x", "$-1");
            t.check("ZRANK z c WITHSCORE", "*2 :2 $3 2.5")
                .check("ZRANK z x WITHSCORE", "*-1");
            t.check("ZRANK z x nope", "-ERR syntax error");
            t.check("ZCOUNT z 1 2.5", ":3")
                .check("ZCOUNT z (1 (inf", ":2")
                .check("ZCOUNT z 3 1", ":0");
            t.version = Version::Resp3;
            t.check("ZSCORE z b", ",2.5")
                .check("ZRANK z c WITHSCORE", "*2 :2 ,2.5");
            t.check("ZMSCORE z d x", "*2 ,inf _");
        });
    }

    #[test]
    fn counting_members() {
        each_encoding(|t| {
            t.check("ZADD z 0 a 0 b 0 c", ":3");
            t.check("ZLEXCOUNT z - +", ":3")
                .check("ZLEXCOUNT z [b +", ":2");
            t.check("ZLEXCOUNT z (b +", ":1")
                .check("ZLEXCOUNT z + -", ":0")
                .check("ZLEXCOUNT z [c (c", ":0");
        });
    }
}
