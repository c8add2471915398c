//! ZRANGE in all its forms, and ZRANGESTORE.

use super::bounds::{LexRange, Range, ScoreRange};
use super::pairs::Pairs;
use super::view::View;
use super::{edit, reply_pair, reply_pairs_head};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;

pub const ZRANGE: Command<Handler> = command("ZRANGE", at_least(4), zrange as Handler)
    .flags(READONLY)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Lists members in a range of ranks, scores or names.", "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements returned.", "1.2.0", "sorted-set")
    .history(&[("6.2.0", "Options `REV`, `BYSCORE`, `BYLEX` and `LIMIT`.")])
    .args(&[key("key", 0), string("start"), string("stop"), one_of("sortby", &[word("byscore", "BYSCORE"), word("bylex", "BYLEX")]).since("6.2.0").optional(), word("rev", "REV").since("6.2.0").optional(), block("limit", &[integer("offset"), integer("count")]).token("LIMIT").since("6.2.0").optional(), word("withscores", "WITHSCORES").optional()]);

pub const ZREVRANGE: Command<Handler> = command("ZREVRANGE", at_least(4), zrevrange as Handler)
    .flags(READONLY)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Lists members by rank, highest first.", "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements returned.", "1.2.0", "sorted-set")
    .deprecated("6.2.0", "`ZRANGE` with the `REV` argument")
    .args(&[key("key", 0), integer("start"), integer("stop"), word("withscores", "WITHSCORES").optional()]);

pub const ZRANGEBYSCORE: Command<Handler> = command("ZRANGEBYSCORE", at_least(4), zrangebyscore as Handler)
    .flags(READONLY)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Lists members whose scores lie in a range.", "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements being returned. If M is constant (e.g. always asking for the first 10 elements with LIMIT), you can consider it O(log(N)).", "1.0.5", "sorted-set")
    .deprecated("6.2.0", "`ZRANGE` with the `BYSCORE` argument")
    .history(&[("2.0.0", "Option `WITHSCORES`.")])
    .args(&[key("key", 0), double("min"), double("max"), word("withscores", "WITHSCORES").since("2.0.0").optional(), block("limit", &[integer("offset"), integer("count")]).token("LIMIT").optional()]);

pub const ZREVRANGEBYSCORE: Command<Handler> = command("ZREVRANGEBYSCORE", at_least(4), zrevrangebyscore as Handler)
    .flags(READONLY)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Lists members in a range of scores, highest first.", "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements being returned. If M is constant (e.g. always asking for the first 10 elements with LIMIT), you can consider it O(log(N)).", "2.2.0", "sorted-set")
    .deprecated("6.2.0", "`ZRANGE` with the `REV` and `BYSCORE` arguments")
    .history(&[("2.1.6", "`min` and `max` may be left out of the range.")])
    .args(&[key("key", 0), double("max"), double("min"), word("withscores", "WITHSCORES").optional(), block("limit", &[integer("offset"), integer("count")]).token("LIMIT").optional()]);

pub const ZRANGEBYLEX: Command<Handler> = command("ZRANGEBYLEX", at_least(4), zrangebylex as Handler)
    .flags(READONLY)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Lists members in a range of names.", "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements being returned. If M is constant (e.g. always asking for the first 10 elements with LIMIT), you can consider it O(log(N)).", "2.8.9", "sorted-set")
    .deprecated("6.2.0", "`ZRANGE` with the `BYLEX` argument")
    .args(&[key("key", 0), string("min"), string("max"), block("limit", &[integer("offset"), integer("count")]).token("LIMIT").optional()]);

pub const ZREVRANGEBYLEX: Command<Handler> = command("ZREVRANGEBYLEX", at_least(4), zrevrangebylex as Handler)
    .flags(READONLY)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Lists members in a range of names, last first.", "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements being returned. If M is constant (e.g. always asking for the first 10 elements with LIMIT), you can consider it O(log(N)).", "2.8.9", "sorted-set")
    .deprecated("6.2.0", "`ZRANGE` with the `REV` and `BYLEX` arguments")
    .args(&[key("key", 0), string("max"), string("min"), block("limit", &[integer("offset"), integer("count")]).token("LIMIT").optional()]);

pub const ZRANGESTORE: Command<Handler> = command("ZRANGESTORE", at_least(5), zrangestore as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(OW | UPDATE), at(2).flags(RO | ACCESS)])
    .doc("Writes a range of a sorted set to a key.", "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements stored into the destination key.", "6.2.0", "sorted-set")
    .args(&[key("dst", 0), key("src", 1), string("min"), string("max"), one_of("sortby", &[word("byscore", "BYSCORE"), word("bylex", "BYLEX")]).optional(), word("rev", "REV").optional(), block("limit", &[integer("offset"), integer("count")]).token("LIMIT").optional()]);

/// What the range is over.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// A range as asked for.
struct Query<'a> {
    key: &'a [u8],
    range: Range<'a>,
    rev: bool,
    offset: i64,
    limit: i64,
    with_scores: bool,
}

fn zrange(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let query = Query::parse(&args[1..], None, None, false)?;
    query.reply(ctx)
}
fn zrevrange(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let query = Query::parse(&args[1..], Some(By::Rank), Some(true), false)?;
    query.reply(ctx)
}
fn zrangebyscore(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let query = Query::parse(&args[1..], Some(By::Score), Some(false), false)?;
    query.reply(ctx)
}
fn zrevrangebyscore(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let query = Query::parse(&args[1..], Some(By::Score), Some(true), false)?;
    query.reply(ctx)
}
fn zrangebylex(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let query = Query::parse(&args[1..], Some(By::Lex), Some(false), false)?;
    query.reply(ctx)
}
fn zrevrangebylex(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let query = Query::parse(&args[1..], Some(By::Lex), Some(true), false)?;
    query.reply(ctx)
}

fn zrangestore(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let query = Query::parse(&args[2..], None, None, true)?;
    let (mut pairs, most) = (Pairs::default(), ctx.elements_max());
    if let Some(view) = View::read(ctx.shard, ctx.db, query.key)? {
        let (from, to) = query.ranks(view);
        if to - from > most {
            return ctx.step_aside();
        }
        pairs.reserve(to - from);
        view.visit(from, to, false, |score, member| pairs.push(score, member));
    }
    edit::store(ctx, args[1], &pairs, "zrangestore");
    ctx.reply.integer(pairs.len() as i64);
    Ok(())
}

impl<'a> Query<'a> {
    /// `words`: key, two ends, options. `by` and `rev` where the command's name says them.
    fn parse(
        words: &[&'a [u8]],
        by: Option<By>,
        rev: Option<bool>,
        store: bool,
    ) -> Result<Self, CommandError> {
        let integer = |word: &[u8]| parse_i64(word).ok_or(CommandError::NotInteger);
        let (mut asked_by, mut asked_rev) = (by, rev);
        let (mut offset, mut limit, mut with_scores) = (0, -1, false);
        let mut rest = &words[3..];
        while let Some((word, more)) = rest.split_first() {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            rest = more;
            if !store && is("WITHSCORES") {
                with_scores = true;
            } else if is("LIMIT") && more.len() >= 2 {
                offset = integer(more[0])?;
                limit = integer(more[1])?;
                rest = &more[2..];
            } else if rev.is_none() && asked_rev.is_none() && is("REV") {
                asked_rev = Some(true);
            } else if asked_by.is_none() && is("BYLEX") {
                asked_by = Some(By::Lex);
            } else if asked_by.is_none() && is("BYSCORE") {
                asked_by = Some(By::Score);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        let by = asked_by.unwrap_or(By::Rank);
        let rev = asked_rev.unwrap_or(false);
        if limit != -1 && by == By::Rank {
            return Err(CommandError::fixed(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(CommandError::fixed(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let (min, max) = if rev && by != By::Rank {
            (words[2], words[1])
        } else {
            (words[1], words[2])
        };
        let range = match by {
            By::Rank => Range::Rank(integer(min)?, integer(max)?),
            By::Score => Range::Score(ScoreRange::parse(min, max)?),
            By::Lex => Range::Lex(LexRange::parse(min, max)?),
        };
        Ok(Self {
            key: words[0],
            range,
            rev,
            offset,
            limit,
            with_scores,
        })
    }

    /// The ranks asked for, LIMIT applied.
    fn ranks(&self, view: View<'_>) -> (usize, usize) {
        let (from, to) = view.ranks(&self.range, self.rev);
        if matches!(self.range, Range::Rank(..)) || (self.offset == 0 && self.limit < 0) {
            return (from, to);
        }
        let count = to - from;
        // A negative offset skips everything.
        let skip = usize::try_from(self.offset).map_or(count, |offset| offset.min(count));
        let take =
            usize::try_from(self.limit).map_or(count - skip, |limit| limit.min(count - skip));
        if self.rev {
            (to - skip - take, to - skip)
        } else {
            (from + skip, from + skip + take)
        }
    }
    fn reply(&self, ctx: &mut Ctx<'_>) -> CommandResult {
        let (key, most) = (ctx.key(self.key), ctx.reads_max());
        let Some(view) = View::read_key(ctx.shard, ctx.db, key)? else {
            ctx.reply.array(0);
            return Ok(());
        };
        let (from, to) = self.ranks(view);
        if to - from > most {
            return ctx.step_aside();
        }
        let reply = &mut ctx.reply;
        if self.with_scores {
            reply_pairs_head(reply, to - from);
            view.visit(from, to, self.rev, |score, member| {
                reply_pair(reply, member, score);
            });
        } else {
            reply.array(to - from);
            view.visit(from, to, self.rev, |_, member| reply.bulk(member));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::zset::tests::each_encoding;
    use ringwood_protocol::reply::Version;

    #[test]
    fn ranges() {
        each_encoding(|t| {
            t.check("ZADD z 1 a 2 b 2 c 3 d 4 e", ":5");
            t.check("ZRANGE z 1 2", "*2 $1 b $1 c")
                .check("ZRANGE z -2 -1", "*2 $1 d $1 e");
            t.check("ZRANGE z 0 1 REV", "*2 $1 e $1 d")
                .check("ZREVRANGE z 0 0 WITHSCORES", "*2 $1 e $1 4");
            t.check("ZRANGE z 3 1", "*0")
                .check("ZRANGE z 9 12", "*0")
                .check("ZRANGE n 0 -1", "*0");
            t.check("ZRANGE z (1 3 BYSCORE", "*3 $1 b $1 c $1 d");
            t.check("ZRANGE z 3 (1 BYSCORE REV LIMIT 1 1", "*1 $1 c");
            t.check("ZRANGEBYSCORE z -inf +inf LIMIT 1 2", "*2 $1 b $1 c");
            t.check("ZRANGEBYSCORE z -inf +inf LIMIT -1 2", "*0");
            t.check(
                "ZREVRANGEBYSCORE z 2 2 WITHSCORES",
                "*4 $1 c $1 2 $1 b $1 2",
            );
            t.check("ZRANGESTORE to z 2 3", ":2")
                .check("ZRANGE to 0 -1 WITHSCORES", "*4 $1 c $1 2 $1 d $1 3");
            t.check("ZRANGESTORE to z 9 9", ":0")
                .check("EXISTS to", ":0");
            t.version = Version::Resp3;
            t.check("ZRANGE z 0 1 WITHSCORES", "*2 *2 $1 a ,1 *2 $1 b ,2");
        });
    }

    #[test]
    fn ranges_of_members() {
        each_encoding(|t| {
            t.check("ZADD z 0 a 0 b 0 c 0 d", ":4");
            t.check("ZRANGEBYLEX z [b (d", "*2 $1 b $1 c")
                .check("ZREVRANGEBYLEX z + (b", "*2 $1 d $1 c");
            t.check("ZRANGE z - + BYLEX LIMIT 1 2", "*2 $1 b $1 c");
            t.check("ZRANGE z [c - BYLEX REV", "*3 $1 c $1 b $1 a");
        });
    }

    #[test]
    fn what_is_refused() {
        each_encoding(|t| {
            t.check("ZRANGE z 0 1 LIMIT 0 1", "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX");
            t.check(
                "ZRANGE z - + BYLEX WITHSCORES",
                "-ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            );
            t.check(
                "ZRANGE z a 1",
                "-ERR value is not an integer or out of range",
            );
            t.check("ZREVRANGE z 0 1 REV", "-ERR syntax error")
                .check("ZRANGE z 0 1 LIMIT 1", "-ERR syntax error");
            t.check("ZRANGESTORE to z 0 1 WITHSCORES", "-ERR syntax error");
        });
    }
}
