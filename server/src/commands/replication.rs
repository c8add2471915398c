//! ROLE and WAIT, as a primary without replicas answers them.

use super::{Answer, Call, ConnHandler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;
use ringwood_shard::ctx::Args;

pub const COMMANDS: &[Command<ConnHandler>] = &[ROLE, WAIT];

const ROLE: Command<ConnHandler> = command("ROLE", exactly(1), role as ConnHandler)
    .flags(NOSCRIPT | LOADING | STALE | FAST)
    .acl(acl::ADMIN | acl::DANGEROUS)
    .doc(
        "Tells the server's role in replication.",
        "O(1)",
        "2.8.12",
        "server",
    )
    .route(Route::Connection);

fn role(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    call.reply.array(3);
    call.reply.bulk_str("master");
    call.reply.integer(0);
    call.reply.array(0);
    Ok(Answer::Now)
}

const WAIT: Command<ConnHandler> = command("WAIT", exactly(3), wait as ConnHandler)
    .flags(BLOCKING)
    .acl(acl::CONNECTION)
    .doc(
        "Waits until replicas have this connection's writes.",
        "O(1)",
        "3.0.0",
        "generic",
    )
    .args(&[integer("numreplicas"), integer("timeout")])
    .tips(&["request_policy:all_shards", "response_policy:agg_min"])
    .route(Route::Connection);

/// No replica can be connected, so the number that has the writes is known to be 0 whatever the timeout: it is answered at once.
fn wait(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    parse_i64(args[1]).ok_or(CommandError::NotInteger)?;
    let timeout = parse_i64(args[2]).ok_or(CommandError::fixed(
        "ERR timeout is not an integer or out of range",
    ))?;
    if timeout < 0 {
        return Err(CommandError::NegativeTimeout);
    }
    call.reply.integer(0);
    Ok(Answer::Now)
}
