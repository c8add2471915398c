//! Sorted sets.

mod algebra;
mod bounds;
pub mod edit;
pub mod pairs;
pub mod view;
pub mod zadd;
mod zpop;
mod zrandmember;
mod zrange;
mod zrem;
mod zscan;
mod zscore;

use crate::ctx::Handler;
use ringwood_protocol::command::Command;
use ringwood_protocol::number::double_text;
use ringwood_protocol::reply::Reply;

pub const COMMANDS: &[Command<Handler>] = &[
    algebra::ZDIFF,
    algebra::ZDIFFSTORE,
    algebra::ZINTER,
    algebra::ZINTERCARD,
    algebra::ZINTERSTORE,
    algebra::ZUNION,
    algebra::ZUNIONSTORE,
    zadd::ZADD,
    zadd::ZINCRBY,
    zpop::BZMPOP,
    zpop::BZPOPMAX,
    zpop::BZPOPMIN,
    zpop::ZMPOP,
    zpop::ZPOPMAX,
    zpop::ZPOPMIN,
    zrandmember::ZRANDMEMBER,
    zrange::ZRANGE,
    zrange::ZRANGEBYLEX,
    zrange::ZRANGEBYSCORE,
    zrange::ZRANGESTORE,
    zrange::ZREVRANGE,
    zrange::ZREVRANGEBYLEX,
    zrange::ZREVRANGEBYSCORE,
    zrem::ZREM,
    zrem::ZREMRANGEBYLEX,
    zrem::ZREMRANGEBYRANK,
    zrem::ZREMRANGEBYSCORE,
    zscan::ZSCAN,
    zscore::ZCARD,
    zscore::ZCOUNT,
    zscore::ZLEXCOUNT,
    zscore::ZMSCORE,
    zscore::ZRANK,
    zscore::ZREVRANK,
    zscore::ZSCORE,
];

/// A score: a double, or in RESP2 its text.
#[inline]
pub fn reply_score(reply: &mut Reply<'_>, score: f64) {
    // Most scores are integers of moderate size, which need none of the rules for doubles. -0 does.
    let whole = score as i64;
    if !reply.is_resp3()
        && whole as f64 == score
        && whole.unsigned_abs() < 1 << 53
        && (whole != 0 || score.is_sign_positive())
    {
        reply.bulk_integer(whole);
        return;
    }
    reply.double_text(double_text(score).as_str());
}
/// The head of `count` member-score pairs: a flat array in RESP2.
pub fn reply_pairs_head(reply: &mut Reply<'_>, count: usize) {
    reply.array(if reply.is_resp3() { count } else { 2 * count });
}
#[inline]
pub fn reply_pair(reply: &mut Reply<'_>, member: &[u8], score: f64) {
    if reply.is_resp3() {
        reply.array(2);
    }
    reply.bulk(member);
    reply_score(reply, score);
}

#[cfg(test)]
pub mod tests {
    use crate::commands::testing::Tester;
    use crate::shard::Settings;

    /// Runs a test with every encoding: packed, large, and changing between them.
    pub fn each_encoding(test: impl Fn(&mut Tester)) {
        for entries in [128, 0, 2] {
            test(&mut Tester::with(Settings {
                zset_listpack_entries_max: entries,
                ..Settings::default()
            }));
        }
    }

    #[test]
    fn thresholds() {
        let mut t = Tester::new();
        for i in 0..128 {
            t.check(&format!("ZADD z {i} m{i}"), ":1");
        }
        t.check_encoding("z", "listpack");
        t.check("ZADD z 1 more", ":1")
            .check_encoding("z", "skiplist");
        t.check(&format!("ZADD l 1 {}", "x".repeat(64)), ":1")
            .check_encoding("l", "listpack");
        t.check(&format!("ZADD l 1 {}", "x".repeat(65)), ":1")
            .check_encoding("l", "skiplist");
        t.check("ZREM l x", ":0").check_encoding("l", "skiplist");
        // Packed, a score of -0 is the integer 0.
        t.check("ZADD p -0 a", ":1").check("ZSCORE p a", "$1 0");
        t.check("ZADD z -0 a", ":1").check("ZSCORE z a", "$2 -0");
    }
}
