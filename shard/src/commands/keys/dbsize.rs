//! DBSIZE.

use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;

pub const DBSIZE: Command<Handler> = command("DBSIZE", exactly(1), dbsize as Handler)
    .flags(READONLY | FAST | BARRIER)
    .acl(acl::KEYSPACE)
    .doc(
        "Counts the keys of the selected database.",
        "O(1)",
        "1.0.0",
        "server",
    )
    .tips(&["request_policy:all_shards", "response_policy:agg_sum"])
    .route(Route::AllShards(Merge::Sum));

fn dbsize(ctx: &mut Ctx<'_>, _: Args<'_>) -> CommandResult {
    ctx.reply.integer(ctx.shard.keyspace.len(ctx.db) as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn counts_the_selected_database() {
        let mut t = Tester::new();
        t.check("DBSIZE", ":0").check("MSET a 1 b 2", "+OK");
        t.check("DBSIZE", ":2");
        t.db = 1;
        t.check("DBSIZE", ":0");
    }
}
