//! RANDOMKEY. Each shard answers with its number of keys and one of them; who asked picks with the numbers as weights,
//! so that every key of the database is equally likely.

use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;

pub const RANDOMKEY: Command<Handler> = command("RANDOMKEY", exactly(1), randomkey as Handler)
    .flags(READONLY | BARRIER)
    .acl(acl::KEYSPACE)
    .doc("Returns the name of some key.", "O(1)", "1.0.0", "generic")
    .tips(&[
        "request_policy:all_shards",
        "response_policy:special",
        "nondeterministic_output",
    ])
    .route(Route::AllShards(Merge::WeightedPick));

fn randomkey(ctx: &mut Ctx<'_>, _: Args<'_>) -> CommandResult {
    let db = ctx.db;
    loop {
        let len = ctx.shard.keyspace.len(db);
        if len == 0 {
            ctx.reply.array(2);
            ctx.reply.integer(0);
            ctx.reply.null();
            return Ok(());
        }
        let n = ctx.shard.random_below(len);
        let Some(entry) = ctx.shard.keyspace.nth(db, n) else {
            unreachable!("{n} is below the number of keys");
        };
        let expired = entry.expire_at().is_some_and(|at| at <= ctx.shard.due_ms());
        if !expired {
            ctx.reply.array(2);
            ctx.reply.integer(len as i64);
            ctx.reply.bulk(entry.key());
            return Ok(());
        }
        // Ends: every round that finds an expired key deletes it.
        let name = entry.key().to_vec();
        let key = ctx.shard.key(&name);
        ctx.shard.expire_if_due(db, key);
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;
    use std::collections::BTreeMap;

    #[test]
    fn every_key_is_about_equally_likely() {
        let mut t = Tester::new();
        t.check("RANDOMKEY", "*2 :0 $-1");
        for i in 0..10 {
            t.check(&format!("SET k{i} v"), "+OK");
            t.check(&format!("SET {{tag}}{i} v"), "+OK");
        }
        let mut seen: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for _ in 0..4000 {
            *seen.entry(t.run("RANDOMKEY")).or_default() += 1;
        }
        assert_eq!(seen.len(), 20);
        // 200 each on average, standard deviation 14.
        assert!(seen.values().all(|n| (100..300).contains(n)), "{seen:?}");
    }

    #[test]
    fn expired_keys_are_passed_over_and_deleted() {
        let mut t = Tester::new();
        for i in 0..50 {
            t.check(&format!("SET k{i} v"), "+OK");
            t.check(&format!("PEXPIRE k{i} 1"), ":1");
        }
        t.check("SET stays v", "+OK").advance(1);
        for _ in 0..200 {
            let reply = t.run("RANDOMKEY");
            assert!(reply.ends_with(b"$5\r\nstays\r\n"));
        }
        t.check("DEL stays", ":1").check("RANDOMKEY", "*2 :0 $-1");
        assert_eq!(t.shard.stats.expired, 50);
    }
}
