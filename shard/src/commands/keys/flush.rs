//! FLUSHDB and FLUSHALL: the keys are gone at once. Their memory is freed in slices after the reply; with SYNC,
//! before it.

use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const FLUSHDB: Command<Handler> = command("FLUSHDB", at_least(1), flushdb as Handler)
    .flags(WRITE | BARRIER)
    .acl(acl::KEYSPACE | acl::DANGEROUS)
    .doc(
        "Empties the selected database.",
        "O(N) where N is the number of keys in the selected database",
        "1.0.0",
        "server",
    )
    .history(&[("4.0.0", "Option `ASYNC`."), ("6.2.0", "Option `SYNC`.")])
    .args(&[one_of(
        "flush-type",
        &[
            word("async", "ASYNC").since("4.0.0"),
            word("sync", "SYNC").since("6.2.0"),
        ],
    )
    .optional()])
    .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
    .route(Route::AllShards(Merge::Ok));

pub const FLUSHALL: Command<Handler> = command("FLUSHALL", at_least(1), flushall as Handler)
    .flags(WRITE | BARRIER)
    .acl(acl::KEYSPACE | acl::DANGEROUS)
    .doc(
        "Empties every database.",
        "O(N) where N is the total number of keys in all databases",
        "1.0.0",
        "server",
    )
    .history(&[("4.0.0", "Option `ASYNC`."), ("6.2.0", "Option `SYNC`.")])
    .args(&[one_of(
        "flush-type",
        &[
            word("async", "ASYNC").since("4.0.0"),
            word("sync", "SYNC").since("6.2.0"),
        ],
    )
    .optional()])
    .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
    .route(Route::AllShards(Merge::Ok));

fn flushdb(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let db = ctx.db;
    flush(ctx, args, db..db + 1)
}

fn flushall(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let all = 0..ctx.shard.keyspace.databases();
    flush(ctx, args, all)?;
    ctx.shard.flushed_all = true;
    Ok(())
}

fn flush(ctx: &mut Ctx<'_>, args: Args<'_>, dbs: std::ops::Range<usize>) -> CommandResult {
    let sync = match &args[1..] {
        [] => false,
        [word] if word.eq_ignore_ascii_case(b"ASYNC") => false,
        [word] if word.eq_ignore_ascii_case(b"SYNC") => true,
        _ => return Err(CommandError::Syntax),
    };
    for db in dbs {
        let len = ctx.shard.keyspace.len(db);
        if len > 0 {
            ctx.shard.stats.dirty += len as u64;
            ctx.shard.keyspace.flush(db);
            ctx.shard.notify(db, b"", notify::ALL_KEYS, "flushdb", true);
        }
    }
    ctx.shard.attention.tracking.flushed();
    if sync {
        while !ctx.shard.keyspace.free_some(usize::MAX) {}
    }
    // Counted as a change even if there was nothing: it goes into the log as in Redis.
    ctx.shard.stats.dirty += 1;
    ctx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    fn filled() -> Tester {
        let mut t = Tester::new();
        for db in 0..3 {
            t.db = db;
            t.check("MSET a 1 b 2", "+OK").check("EXPIRE a 100", ":1");
        }
        t
    }

    #[test]
    fn one_database_or_all() {
        for option in ["", " SYNC", " async"] {
            let mut t = filled();
            t.check_events(&format!("FLUSHDB{option}"), &["flushdb "]);
            assert_eq!(t.shard.keyspace.len(2), 0);
            assert_eq!(t.shard.keyspace.len(1), 2);
            t.check(&format!("FLUSHALL{option}"), "+OK");
            assert!(t.shard.keyspace.is_empty());
            assert_eq!(t.shard.keyspace.free_pending() == 0, option == " SYNC");
            t.check("SET a 3", "+OK").check("GET a", "$1 3");
            t.advance(200_000);
            while t.shard.expire_some(100) {}
            t.check("GET a", "$1 3");
        }
    }

    #[test]
    fn errors_flush_nothing() {
        let mut t = filled();
        for line in ["FLUSHDB foo", "FLUSHALL async sync", "FLUSHALL SYNC SYNC"] {
            t.check(line, "-ERR syntax error");
        }
        t.check("DBSIZE", ":2");
    }
}
