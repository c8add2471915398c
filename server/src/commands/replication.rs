//! ROLE, WAIT and WAITAOF, as a primary without replicas answers them.

use super::{Answer, Call, ConnHandler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;
use ringwood_shard::ctx::Args;

pub const COMMANDS: &[Command<ConnHandler>] = &[ROLE, WAIT, WAITAOF];

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

const WAITAOF: Command<ConnHandler> = command("WAITAOF", exactly(4), waitaof as ConnHandler)
    .flags(BLOCKING)
    .acl(acl::CONNECTION)
    .doc(
        "Waits until the log has this connection's writes, on disk.",
        "O(1)",
        "7.2.0",
        "generic",
    )
    .args(&[
        integer("numlocal"),
        integer("numreplicas"),
        integer("timeout"),
    ])
    .tips(&["request_policy:all_shards", "response_policy:agg_min"])
    .route(Route::Connection);

fn waitaof(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let range = CommandError::fixed("ERR value is out of range, must be positive");
    let local = parse_i64(args[1]).ok_or(CommandError::NotInteger)?;
    if !(0..=1).contains(&local) {
        let text = "ERR value is out of range, value must between 0 and 1";
        return Err(CommandError::fixed(text));
    }
    let replicas = parse_i64(args[2]).ok_or(CommandError::NotInteger)?;
    if replicas < 0 {
        return Err(range);
    }
    let timeout = parse_i64(args[3]).ok_or(CommandError::fixed(
        "ERR timeout is not an integer or out of range",
    ))?;
    let timeout = u64::try_from(timeout).map_err(|_| CommandError::NegativeTimeout)?;
    if local > 0 && !call.core.config.appendonly {
        let text = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
        return Err(CommandError::fixed(text));
    }
    let in_exec = call.core.pubsub.in_exec;
    if local == 0 || in_exec {
        // There are no replicas to wait for, and a transaction waits for nothing.
        call.reply.array(2);
        call.reply.integer(0);
        call.reply.integer(0);
        return Ok(Answer::Now);
    }
    let version = call.reply.version();
    let ticket = call.later();
    call.core.wait_for_log(ticket, version, timeout);
    Ok(Answer::Later)
}
