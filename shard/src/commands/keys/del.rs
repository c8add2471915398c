//! DEL and UNLINK. Both free large values in slices, in the background.

use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::notify;
use ringwood_protocol::command::*;

pub const DEL: Command<Handler> = command("DEL", at_least(2), del as Handler)
    .flags(WRITE)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).range(-1, 1, 0).flags(RM | DELETE)])
    .doc(
        "Deletes keys.",
        "O(N) where N is the number of keys that will be removed. When a key to remove \
         holds a value other than a string, the individual complexity for this key is \
         O(M) where M is the number of elements in the list, set, sorted set or hash. \
         Removing a single key that holds a string value is O(1).",
        "1.0.0",
        "generic",
    )
    .args(&[key("key", 0).multiple()])
    .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
    .route(Route::Scatter(Merge::Sum));

pub const UNLINK: Command<Handler> = command("UNLINK", at_least(2), unlink as Handler)
    .flags(WRITE | FAST)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).range(-1, 1, 0).flags(RM | DELETE)])
    .doc(
        "Deletes keys and frees their memory in the background.",
        "O(1) for each key removed regardless of its size. Then the command does O(N) \
         work in a different thread in order to reclaim memory, where N is the number of \
         allocations the deleted objects where composed of.",
        "4.0.0",
        "generic",
    )
    .args(&[key("key", 0).multiple()])
    .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
    .route(Route::Scatter(Merge::Sum));

fn del(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let mut deleted = 0;
    for key in &args[1..] {
        if ctx.remove(key) {
            deleted += 1;
            ctx.modified(key, notify::GENERIC, "del");
        }
    }
    ctx.reply.integer(deleted);
    Ok(())
}

fn unlink(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    del(ctx, args)
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn both_count_what_they_delete() {
        let mut t = Tester::new();
        for name in ["DEL", "UNLINK"] {
            t.check("MSET a 1 b 2 c 3", "+OK");
            t.check(&format!("{name} a nokey a b"), ":2");
            t.check("EXISTS a b c", ":1");
            t.check_events(&format!("{name} c c"), &["del c"]);
            t.check(
                name,
                &format!(
                    "-ERR wrong number of arguments for '{}' command",
                    name.to_lowercase()
                ),
            );
        }
    }

    #[test]
    fn an_expired_key_does_not_count() {
        let mut t = Tester::new();
        t.check("SET k v", "+OK").check("PEXPIRE k 10", ":1");
        t.advance(10);
        t.check_events("DEL k", &["expired k"]).check("DEL k", ":0");
        assert_eq!((t.shard.stats.expired, t.shard.stats.dirty), (1, 2));
    }
}
