//! SWAPDB.

use super::database_number;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const SWAPDB: Command<Handler> = command("SWAPDB", exactly(3), swapdb as Handler)
    .flags(WRITE | FAST | BARRIER | NOT_IN_CLUSTER)
    .acl(acl::KEYSPACE | acl::DANGEROUS)
    .doc(
        "Exchanges two databases.",
        "O(N) where N is the count of clients watching or blocking on keys from both \
             databases.",
        "4.0.0",
        "server",
    )
    .args(&[integer("index1"), integer("index2")])
    .route(Route::AllShards(Merge::Ok));

fn swapdb(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let parse = |word, refusal| database_number(word).map_err(|_| CommandError::fixed(refusal));
    let first = parse(args[1], "ERR invalid first DB index")?;
    let second = parse(args[2], "ERR invalid second DB index")?;
    let in_range = |n: i32| {
        usize::try_from(n)
            .ok()
            .filter(|&db| db < ctx.shard.keyspace.databases())
            .ok_or(CommandError::DbIndexOutOfRange)
    };
    let (a, b) = (in_range(first)?, in_range(second)?);
    if a != b {
        ctx.shard.keyspace.swap(a, b);
        for db in [a, b] {
            ctx.shard.notify(db, b"", notify::ALL_KEYS, "swapdb", true);
        }
    }
    ctx.shard.stats.dirty += 1;
    ctx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn exchanges_keys_and_expiries() {
        let mut t = Tester::new();
        t.check("MSET a 1 b 2", "+OK").check("EXPIRE a 10", ":1");
        t.check("SWAPDB 0 5", "+OK").check("DBSIZE", ":0");
        t.check("SET c 3", "+OK").check("SWAPDB 5 5", "+OK");
        t.db = 5;
        t.check("TTL a", ":10").advance(10_500);
        while t.shard.expire_some(10) {}
        t.check("DBSIZE", ":1").check("SWAPDB 5 0", "+OK");
        t.check("GET c", "$1 3");
    }

    #[test]
    fn errors() {
        let mut t = Tester::new();
        for (words, text) in [
            ("x x", "invalid first DB index"),
            ("99999999999 0", "invalid first DB index"),
            ("99 x", "invalid second DB index"),
            ("99 0", "DB index is out of range"),
            ("0 -1", "DB index is out of range"),
        ] {
            t.check(&format!("SWAPDB {words}"), &format!("-ERR {text}"));
        }
    }
}
