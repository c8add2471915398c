//! EXISTS and TOUCH: the same count; only TOUCH notes an access.

use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;

pub const EXISTS: Command<Handler> = command("EXISTS", at_least(2), exists as Handler)
    .flags(READONLY | FAST)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).range(-1, 1, 0).flags(RO)])
    .doc(
        "Counts how many of the keys exist.",
        "O(N) where N is the number of keys to check.",
        "1.0.0",
        "generic",
    )
    .history(&[("3.0.3", "Takes any number of `key` arguments.")])
    .args(&[key("key", 0).multiple()])
    .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
    .route(Route::Scatter(Merge::Sum));

pub const TOUCH: Command<Handler> = command("TOUCH", at_least(2), touch as Handler)
    .flags(READONLY | FAST)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).range(-1, 1, 0).flags(RO)])
    .doc(
        "Marks keys as just used and counts those that exist.",
        "O(N) where N is the number of keys that will be touched.",
        "3.2.1",
        "generic",
    )
    .args(&[key("key", 0).multiple()])
    .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
    .route(Route::Scatter(Merge::Sum));

fn exists(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    count(ctx, args, false)
}

fn touch(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    count(ctx, args, true)
}

fn count(ctx: &mut Ctx<'_>, args: Args<'_>, touch: bool) -> CommandResult {
    let mut found = 0;
    for word in &args[1..] {
        let key = ctx.key(word);
        found += ctx.shard.read_with(ctx.db, key, touch).is_some() as i64;
    }
    ctx.reply.integer(found);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn a_key_named_twice_counts_twice() {
        let mut t = Tester::new();
        t.check("MSET a 1 b 2", "+OK");
        for name in ["EXISTS", "TOUCH"] {
            t.check(&format!("{name} a b a nokey"), ":3")
                .check(&format!("{name} nokey"), ":0");
        }
        assert_eq!((t.shard.stats.hits, t.shard.stats.misses), (6, 4));
    }

    #[test]
    fn only_touch_notes_an_access() {
        let mut t = Tester::new();
        t.check("SET k v", "+OK").advance(100_000);
        t.check("EXISTS k", ":1").check("OBJECT IDLETIME k", ":100");
        t.check("TOUCH k", ":1").check("OBJECT IDLETIME k", ":0");
    }
}
