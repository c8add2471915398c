//! ZUNION, ZINTER, ZDIFF, their STORE forms, and ZINTERCARD, over sorted sets and sets (whose members all have the score 1).
//!
//! Sources are taken in ascending order of size, as in Redis: sums of scores depend on the order of their terms. A large union that is
//! stored is collected in the table that becomes the stored sorted set's index, others in a plainer one.

use super::edit::{self, Limits};
use super::pairs::{Joined, Pairs};
use super::view::View;
use super::{reply_pair, reply_pairs_head};
use crate::collections::packed_table::{Members, PackedTable, Scores};
use crate::collections::sorted_set::SortedSet;
use crate::commands::set::members::SetView;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::Type;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::{parse_f64, parse_i64};
use std::ops::ControlFlow;

pub const ZUNION: Command<Handler> = command("ZUNION", at_least(3), zunion as Handler)
    .flags(READONLY | MOVABLEKEYS)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).keynum(0, 1, 1).flags(RO | ACCESS)])
    .doc("Lists the members of all the sorted sets.", "O(N)+O(M*log(M)) with N being the sum of the sizes of the input sorted sets, and M being the number of elements in the resulting sorted set.", "6.2.0", "sorted-set")
    .args(&[integer("numkeys"), key("key", 0).multiple(), integer("weight").token("WEIGHTS").optional().multiple(), one_of("aggregate", &[word("sum", "SUM"), word("min", "MIN"), word("max", "MAX")]).token("AGGREGATE").optional(), word("withscores", "WITHSCORES").optional()]);

pub const ZINTER: Command<Handler> = command("ZINTER", at_least(3), zinter as Handler)
    .flags(READONLY | MOVABLEKEYS)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).keynum(0, 1, 1).flags(RO | ACCESS)])
    .doc("Lists the members that all sorted sets share.", "O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted set, K being the number of input sorted sets and M being the number of elements in the resulting sorted set.", "6.2.0", "sorted-set")
    .args(&[integer("numkeys"), key("key", 0).multiple(), integer("weight").token("WEIGHTS").optional().multiple(), one_of("aggregate", &[word("sum", "SUM"), word("min", "MIN"), word("max", "MAX")]).token("AGGREGATE").optional(), word("withscores", "WITHSCORES").optional()]);

pub const ZDIFF: Command<Handler> = command("ZDIFF", at_least(3), zdiff as Handler)
    .flags(READONLY | MOVABLEKEYS)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).keynum(0, 1, 1).flags(RO | ACCESS)])
    .doc("Lists members of the first sorted set that the others lack.", "O(L + (N-K)log(N)) worst case where L is the total number of elements in all the sets, N is the size of the first set, and K is the size of the result set.", "6.2.0", "sorted-set")
    .args(&[integer("numkeys"), key("key", 0).multiple(), word("withscores", "WITHSCORES").optional()]);

pub const ZUNIONSTORE: Command<Handler> = command("ZUNIONSTORE", at_least(4), zunionstore as Handler)
    .flags(WRITE | DENYOOM | MOVABLEKEYS)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(OW | UPDATE), at(2).keynum(0, 1, 1).flags(RO | ACCESS)])
    .doc("Writes the union of sorted sets to a key.", "O(N)+O(M log(M)) with N being the sum of the sizes of the input sorted sets, and M being the number of elements in the resulting sorted set.", "2.0.0", "sorted-set")
    .args(&[key("destination", 0), integer("numkeys"), key("key", 1).multiple(), integer("weight").token("WEIGHTS").optional().multiple(), one_of("aggregate", &[word("sum", "SUM"), word("min", "MIN"), word("max", "MAX")]).token("AGGREGATE").optional()]);

pub const ZINTERSTORE: Command<Handler> = command("ZINTERSTORE", at_least(4), zinterstore as Handler)
    .flags(WRITE | DENYOOM | MOVABLEKEYS)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(OW | UPDATE), at(2).keynum(0, 1, 1).flags(RO | ACCESS)])
    .doc("Writes the intersection of sorted sets to a key.", "O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted set, K being the number of input sorted sets and M being the number of elements in the resulting sorted set.", "2.0.0", "sorted-set")
    .args(&[key("destination", 0), integer("numkeys"), key("key", 1).multiple(), integer("weight").token("WEIGHTS").optional().multiple(), one_of("aggregate", &[word("sum", "SUM"), word("min", "MIN"), word("max", "MAX")]).token("AGGREGATE").optional()]);

pub const ZDIFFSTORE: Command<Handler> = command("ZDIFFSTORE", at_least(4), zdiffstore as Handler)
    .flags(WRITE | DENYOOM | MOVABLEKEYS)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(OW | UPDATE), at(2).keynum(0, 1, 1).flags(RO | ACCESS)])
    .doc("Writes the difference of sorted sets to a key.", "O(L + (N-K)log(N)) worst case where L is the total number of elements in all the sets, N is the size of the first set, and K is the size of the result set.", "6.2.0", "sorted-set")
    .args(&[key("destination", 0), integer("numkeys"), key("key", 1).multiple()]);

pub const ZINTERCARD: Command<Handler> = command("ZINTERCARD", at_least(3), zintercard as Handler)
    .flags(READONLY | MOVABLEKEYS)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).keynum(0, 1, 1).flags(RO | ACCESS)])
    .doc("Counts the members that all sorted sets share.", "O(N*K) worst case with N being the smallest input sorted set, K being the number of input sorted sets.", "7.0.0", "sorted-set")
    .args(&[integer("numkeys"), key("key", 0).multiple(), integer("limit").token("LIMIT").optional()]);

fn zunion(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    with_request(ctx, &args[1..], UNION, |request, ctx| request.reply(ctx))
}
fn zinter(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    with_request(ctx, &args[1..], INTER, |request, ctx| request.reply(ctx))
}
fn zdiff(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    with_request(ctx, &args[1..], DIFF, |request, ctx| request.reply(ctx))
}
fn zunionstore(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    with_request(ctx, &args[2..], UNION_STORE, |request, ctx| {
        request.store(ctx, args[1])
    })
}
fn zinterstore(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    with_request(ctx, &args[2..], INTER_STORE, |request, ctx| {
        request.store(ctx, args[1])
    })
}
fn zdiffstore(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    with_request(ctx, &args[2..], DIFF_STORE, |request, ctx| {
        request.store(ctx, args[1])
    })
}
fn zintercard(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    with_request(ctx, &args[1..], INTER_CARD, |request, ctx| {
        let mut count = 0;
        each_shared(&request.sources(ctx), |_, _| {
            count += 1;
            if count == request.limit {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        ctx.reply.integer(count);
        Ok(())
    })
}

/// Does a command, but at once only where others need not wait for long: see [`Ctx::is_long`].
fn with_request(
    ctx: &mut Ctx<'_>,
    words: &[&[u8]],
    form: Form,
    run: impl FnOnce(Request<'_>, &mut Ctx<'_>) -> CommandResult,
) -> CommandResult {
    if ctx.aside {
        let count = parse_i64(words[0]).and_then(|n| usize::try_from(n).ok());
        let keys = count.and_then(|n| words[1..].get(..n));
        let mut sizes = keys.unwrap_or_default().iter().map(|key| ctx.size_of(key));
        let walked = match form.operation {
            Operation::Union => sizes.sum(),
            Operation::Inter => sizes.min().unwrap_or(0),
            Operation::Diff => sizes.next().unwrap_or(0),
        };
        if ctx.is_long(walked) {
            return Ok(());
        }
    }
    let request = Request::parse(ctx, words, form)?;
    run(request, ctx)
}

#[derive(Clone, Copy, PartialEq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

/// What a command does and which options it takes besides.
#[derive(Clone, Copy)]
struct Form {
    operation: Operation,
    /// WEIGHTS and AGGREGATE.
    weighs: bool,
    with_scores: bool,
    limit: bool,
    event: &'static str,
    no_keys: &'static str,
}

macro_rules! form {
    ($operation:ident, $name:literal, $weighs:literal, $with_scores:literal, $limit:literal) => {
        Form {
            operation: Operation::$operation,
            weighs: $weighs,
            with_scores: $with_scores,
            limit: $limit,
            event: $name,
            no_keys: concat!(
                "ERR at least 1 input key is needed for '",
                $name,
                "' command"
            ),
        }
    };
}

const UNION: Form = form!(Union, "zunion", true, true, false);
const INTER: Form = form!(Inter, "zinter", true, true, false);
const DIFF: Form = form!(Diff, "zdiff", false, true, false);
const UNION_STORE: Form = form!(Union, "zunionstore", true, false, false);
const INTER_STORE: Form = form!(Inter, "zinterstore", true, false, false);
const DIFF_STORE: Form = form!(Diff, "zdiffstore", false, false, false);
const INTER_CARD: Form = form!(Inter, "zintercard", false, false, true);

#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    #[inline]
    fn join(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Sum => or_zero(a + b),
            // A NaN of b leaves a: it is 0 weighed against infinity.
            Self::Min if b < a => b,
            Self::Max if b > a => b,
            Self::Min | Self::Max => a,
        }
    }
}

/// 0 for NaN: infinity minus infinity, or times 0.
#[inline]
fn or_zero(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// One of the sets that a command reads.
#[derive(Clone, Copy)]
enum Source<'a> {
    Sorted(View<'a>),
    Set(SetView<'a>),
    Missing,
}

impl<'a> Source<'a> {
    fn len(self) -> usize {
        match self {
            Self::Sorted(view) => view.len(),
            Self::Set(set) => set.len(),
            Self::Missing => 0,
        }
    }
    #[inline]
    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Self::Sorted(view) => view.score(member),
            Self::Set(set) => set.has(member).then_some(1.0),
            Self::Missing => None,
        }
    }
    /// Calls `f` with each pair until it breaks.
    #[inline]
    fn each(self, mut f: impl FnMut(f64, &[u8]) -> ControlFlow<()>) {
        match self {
            Self::Sorted(view) => view.each(f),
            Self::Set(set) => {
                let _ = set.each(|member| member.with_text(|text| f(1.0, text)));
            }
            Self::Missing => {}
        }
    }
    #[inline]
    fn all(self, mut f: impl FnMut(f64, &[u8])) {
        self.each(|score, member| {
            f(score, member);
            ControlFlow::Continue(())
        });
    }
    /// Whether a look-up walks over everything.
    fn is_packed(self) -> bool {
        matches!(
            self,
            Self::Sorted(View::Packed(_)) | Self::Set(SetView::Listpack(_))
        )
    }
}

struct Request<'a> {
    form: Form,
    keys: &'a [&'a [u8]],
    /// One for each key, or none where all are 1.
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
    limit: i64,
}

impl<'a> Request<'a> {
    /// `words`: the count of keys, the keys, options.
    fn parse(ctx: &mut Ctx<'_>, words: &'a [&'a [u8]], form: Form) -> Result<Self, CommandError> {
        let numkeys = parse_i64(words[0]).ok_or(CommandError::NotInteger)?;
        if numkeys < 1 {
            return Err(CommandError::fixed(form.no_keys));
        }
        let numkeys = usize::try_from(numkeys).unwrap_or(usize::MAX);
        let Some((keys, mut rest)) = words[1..].split_at_checked(numkeys) else {
            return Err(CommandError::Syntax);
        };
        for key in keys {
            if let Some(entry) = ctx.read(key)
                && !matches!(entry.kind(), Type::ZSet | Type::Set)
            {
                return Err(CommandError::WrongType);
            }
        }
        let mut request = Self {
            form,
            keys,
            weights: Vec::new(),
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: 0,
        };
        while let Some((word, more)) = rest.split_first() {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            rest = more;
            if form.weighs && more.len() >= numkeys && is("WEIGHTS") {
                let (weights, more) = more.split_at(numkeys);
                let weight = |word: &&[u8]| {
                    parse_f64(word).ok_or(CommandError::fixed("ERR weight value is not a float"))
                };
                request.weights = weights.iter().map(weight).collect::<Result<_, _>>()?;
                rest = more;
            } else if form.weighs && !more.is_empty() && is("AGGREGATE") {
                let is = |name: &str| more[0].eq_ignore_ascii_case(name.as_bytes());
                request.aggregate = if is("SUM") {
                    Aggregate::Sum
                } else if is("MIN") {
                    Aggregate::Min
                } else if is("MAX") {
                    Aggregate::Max
                } else {
                    return Err(CommandError::Syntax);
                };
                rest = &more[1..];
            } else if form.with_scores && is("WITHSCORES") {
                request.with_scores = true;
            } else if form.limit && !more.is_empty() && is("LIMIT") {
                request.limit = parse_i64(more[0])
                    .filter(|limit| *limit >= 0)
                    .ok_or(CommandError::fixed("ERR LIMIT can't be negative"))?;
                rest = &more[1..];
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(request)
    }

    /// The sources with their weights, in the order in which scores are joined.
    fn sources<'c>(&self, ctx: &'c Ctx<'_>) -> Vec<(Source<'c>, f64)> {
        let (shard, db) = (&*ctx.shard, ctx.db);
        let source = |(i, key): (usize, &&[u8])| {
            let source = match shard.keyspace.get(db, shard.key(key)) {
                Some(entry) if entry.kind() == Type::Set => Source::Set(SetView::of(entry)),
                Some(entry) => Source::Sorted(View::of(entry)),
                None => Source::Missing,
            };
            (source, self.weights.get(i).copied().unwrap_or(1.0))
        };
        let mut sources: Vec<_> = self.keys.iter().enumerate().map(source).collect();
        if self.form.operation != Operation::Diff {
            sources.sort_by_key(|(source, _)| source.len());
        }
        sources
    }

    /// The result, in no order.
    fn found(&self, ctx: &Ctx<'_>) -> Pairs {
        let sources = self.sources(ctx);
        let mut pairs = Pairs::default();
        match self.form.operation {
            Operation::Union => {
                let most = sources.iter().map(|(source, _)| source.len()).sum();
                let mut joined = Joined::new(most, ctx.shard.keyspace.hasher());
                for (source, weight) in sources {
                    source.all(|score, member| {
                        let score = or_zero(score * weight);
                        joined.add(score, member, |a, b| self.aggregate.join(a, b));
                    });
                }
                pairs = joined.into_pairs();
            }
            Operation::Inter => each_shared(&sources, |scores, member| {
                let score = match scores {
                    [(first, weight), others @ ..] => others
                        .iter()
                        .fold(or_zero(first * weight), |sum, (score, weight)| {
                            self.aggregate.join(sum, score * weight)
                        }),
                    [] => 0.0,
                };
                pairs.push(score, member);
                ControlFlow::Continue(())
            }),
            Operation::Diff => each_of_difference(&sources, ctx, |score, member| {
                pairs.push(score, member);
            }),
        }
        pairs
    }
    /// A union as a sorted set's index.
    fn union(&self, ctx: &Ctx<'_>) -> PackedTable<Scores> {
        let mut table = PackedTable::<Scores>::new(ctx.shard.keyspace.hasher().clone());
        for (source, weight) in self.sources(ctx) {
            source.all(|score, member| {
                let hash = table.hash(member);
                let score = or_zero(score * weight);
                match table.get_hashed(hash, member) {
                    None => {
                        table.put_hashed(hash, member, score, None);
                    }
                    Some(sum) => {
                        let joined = self.aggregate.join(sum, score);
                        // Bit for bit, for the sign of 0.
                        if joined.to_bits() != sum.to_bits() {
                            table.put_hashed(hash, member, joined, None);
                        }
                    }
                }
            });
        }
        table
    }

    fn reply(&self, ctx: &mut Ctx<'_>) -> CommandResult {
        let mut pairs = self.found(ctx);
        pairs.sort();
        let reply = &mut ctx.reply;
        if self.with_scores {
            reply_pairs_head(reply, pairs.len());
            for (score, member) in pairs.iter() {
                reply_pair(reply, member, score);
            }
        } else {
            reply.array(pairs.len());
            for (_, member) in pairs.iter() {
                reply.bulk(member);
            }
        }
        Ok(())
    }
    fn store(&self, ctx: &mut Ctx<'_>, destination: &[u8]) -> CommandResult {
        /// As many members are rather put into an index once more than that of a set to be packed is made for nothing.
        const FEW: usize = 512;
        let mut pairs = if self.form.operation == Operation::Union
            && self.sources(ctx).iter().map(|s| s.0.len()).sum::<usize>() > FEW
        {
            let table = self.union(ctx);
            let mut longest = 0;
            table.each(|item| longest = longest.max(item.key.len()));
            if !Limits::of(ctx.shard).fit(table.len(), longest) {
                let set = SortedSet::from_index(table);
                ctx.reply.integer(set.len() as i64);
                edit::store_large(ctx, destination, set, self.form.event);
                return Ok(());
            }
            let mut pairs = Pairs::default();
            pairs.reserve(table.len());
            table.each(|item| pairs.push(item.value, item.key));
            pairs
        } else {
            self.found(ctx)
        };
        pairs.sort();
        edit::store(ctx, destination, &pairs, self.form.event);
        ctx.reply.integer(pairs.len() as i64);
        Ok(())
    }
}

/// Calls `f` with each member that all sources share, and its scores with their weights, until it breaks: the first source, the smallest,
/// is walked, the others are asked.
fn each_shared(
    sources: &[(Source<'_>, f64)],
    mut f: impl FnMut(&[(f64, f64)], &[u8]) -> ControlFlow<()>,
) {
    let Some(((first, weight), others)) = sources.split_first() else {
        return;
    };
    let mut scores = Vec::with_capacity(sources.len());
    first.each(|score, member| {
        scores.clear();
        scores.push((score, *weight));
        for (source, weight) in others {
            match source.score(member) {
                Some(score) => scores.push((score, *weight)),
                None => return ControlFlow::Continue(()),
            }
        }
        f(&scores, member)
    });
}

/// Calls `f` with each pair of the first source whose member no other has.
fn each_of_difference(sources: &[(Source<'_>, f64)], ctx: &Ctx<'_>, mut f: impl FnMut(f64, &[u8])) {
    /// From so many look-ups on, members of packed sources are put into a table first.
    const LOOKUPS: usize = 16;
    let Some(((first, _), others)) = sources.split_first() else {
        return;
    };
    let mut packed = PackedTable::<Members>::new(ctx.shard.keyspace.hasher().clone());
    let mut asked = Vec::with_capacity(others.len());
    for (source, _) in others {
        if source.is_packed() && first.len() >= LOOKUPS {
            source.all(|_, member| {
                packed.add(member);
            });
        } else {
            asked.push(*source);
        }
    }
    // The larger a source, the likelier it has the member.
    asked.sort_by_key(|source| std::cmp::Reverse(source.len()));
    first.all(|score, member| {
        let excluded = (!packed.is_empty() && packed.contains(member))
            || asked.iter().any(|source| source.score(member).is_some());
        if !excluded {
            f(score, member);
        }
    });
}

#[cfg(test)]
mod tests {
    use crate::commands::zset::tests::each_encoding;
    use ringwood_protocol::reply::Version;

    #[test]
    fn unions() {
        each_encoding(|t| {
            t.check("ZADD a 1 x 2 y 3 z", ":3")
                .check("ZADD b 10 y 20 z 30 w", ":3")
                .check("SADD s x w q", ":3");
            t.check("ZUNION 2 a b", "*4 $1 x $1 y $1 z $1 w");
            t.check(
                "ZUNION 2 a b WEIGHTS 2 3 AGGREGATE MAX WITHSCORES",
                "*8 $1 x $1 2 $1 y $2 30 $1 z $2 60 $1 w $2 90",
            );
            t.check(
                "ZUNION 3 s a n WITHSCORES AGGREGATE MIN",
                "*10 $1 q $1 1 $1 w $1 1 $1 x $1 1 $1 y $1 2 $1 z $1 3",
            );
            t.listen();
            t.check("ZUNIONSTORE d 2 s s", ":3").check(
                "ZRANGE d 0 -1 WITHSCORES",
                "*6 $1 q $1 2 $1 w $1 2 $1 x $1 2",
            );
            t.check("ZUNIONSTORE d 1 n", ":0").check("EXISTS d", ":0");
            t.check("ZUNIONSTORE a 2 a b", ":4")
                .check("ZSCORE a y", "$2 12");
            t.check("ZADD i inf x -inf y", ":2")
                .check("ZADD j -inf x -inf y", ":2")
                .check("ZUNION 2 i j WITHSCORES", "*4 $1 y $4 -inf $1 x $1 0")
                .check("ZUNION 1 i WEIGHTS 0 WITHSCORES", "*4 $1 x $1 0 $1 y $1 0");
            t.version = Version::Resp3;
            t.check(
                "ZUNION 1 b WITHSCORES",
                "*3 *2 $1 y ,10 *2 $1 z ,20 *2 $1 w ,30",
            );
        });
    }

    #[test]
    fn intersections_and_differences() {
        each_encoding(|t| {
            t.check("ZADD a 1 x 2 y 3 z", ":3")
                .check("ZADD b 10 y 20 z 30 w", ":3")
                .check("SADD s x w q", ":3");
            t.check("ZINTER 2 a b WITHSCORES", "*4 $1 y $2 12 $1 z $2 23")
                .check("ZINTER 2 a n", "*0");
            t.check("ZINTERSTORE d 2 a s WEIGHTS 2 3", ":1")
                .check("ZRANGE d 0 -1 WITHSCORES", "*2 $1 x $1 5");
            t.check("ZINTERCARD 2 a b", ":2")
                .check("ZINTERCARD 2 a b LIMIT 1", ":1")
                .check("ZINTERCARD 2 a b LIMIT 0", ":2");
            t.check("ZDIFF 2 a b WITHSCORES", "*2 $1 x $1 1")
                .check("ZDIFF 2 s a WITHSCORES", "*4 $1 q $1 1 $1 w $1 1")
                .check("ZDIFF 2 a a", "*0");
            t.check_events("ZDIFFSTORE d 2 a s", &["zdiffstore d"])
                .check("ZRANGE d 0 -1", "*2 $1 y $1 z");
            t.check("ZDIFFSTORE d 2 n a", ":0").check("EXISTS d", ":0");
            let many: String = (0..40).map(|i| format!(" {i} m{i:02}")).collect();
            t.check(&format!("ZADD big{many}"), ":40")
                .check("ZADD small 1 m00 1 m39", ":2");
            t.check("ZDIFFSTORE d 3 big small n", ":38")
                .check("ZRANGE d 0 0", "*1 $3 m01");
            t.check("ZADD c1 0.1 x", ":1")
                .check("ZADD c2 0.2 x", ":1")
                .check("ZADD c3 0.3 x", ":1");
            t.check(
                "ZINTER 3 c1 c2 c3 WITHSCORES",
                "*2 $1 x $18 0.6000000000000001",
            )
            .check("ZINTER 3 c3 c2 c1 WITHSCORES", "*2 $1 x $3 0.6");
        });
    }

    #[test]
    fn what_is_refused() {
        each_encoding(|t| {
            t.check("SET str v", "+OK").check("ZADD a 1 x", ":1");
            let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value";
            t.check("ZUNION 2 a str FOO", wrong_type)
                .check("ZINTER 2 n str", wrong_type)
                .check("ZINTERCARD 1 str", wrong_type);
            t.check(
                "ZUNION 0 a",
                "-ERR at least 1 input key is needed for 'zunion' command",
            )
            .check(
                "ZINTERCARD -1 a",
                "-ERR at least 1 input key is needed for 'zintercard' command",
            );
            t.check("ZUNION x a", "-ERR value is not an integer or out of range");
            for line in [
                "ZUNION 3 a a",
                "ZUNION 2 a a WEIGHTS 1",
                "ZUNION 1 a AGGREGATE AVG",
                "ZUNION 1 a AGGREGATE",
                "ZUNIONSTORE d 1 a WITHSCORES",
                "ZDIFF 1 a WEIGHTS 1",
                "ZINTERCARD 1 a LIMIT",
                "ZINTERCARD 1 a WEIGHTS 1",
            ] {
                t.check(line, "-ERR syntax error");
            }
            t.check("ZUNION 1 a WEIGHTS nan", "-ERR weight value is not a float");
            t.check("ZINTERCARD 1 a LIMIT -1", "-ERR LIMIT can't be negative");
        });
    }
}
