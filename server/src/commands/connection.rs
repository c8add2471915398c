//! PING, ECHO, SELECT, RESET, QUIT.

use super::{Answer, Call, ConnHandler};
use crate::client::ReplyMode;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;
use ringwood_protocol::reply::Version;
use ringwood_shard::ctx::Args;

pub const COMMANDS: &[Command<ConnHandler>] = &[PING, ECHO, SELECT, RESET, QUIT];

const PING: Command<ConnHandler> = command("PING", at_least(1), ping as ConnHandler)
    .flags(FAST)
    .acl(acl::CONNECTION)
    .doc(
        "Answers PONG or the given text.",
        "O(1)",
        "1.0.0",
        "connection",
    )
    .args(&[string("message").optional()])
    .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
    .route(Route::Connection);

fn ping(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let client = call.client();
    let listens = client.subscriptions.is_some() && client.version == Version::Resp2;
    match args.len() {
        // A subscriber gets nothing but arrays in RESP2.
        1 | 2 if listens => {
            call.reply.array(2);
            call.reply.bulk_str("pong");
            call.reply.bulk(args.get(1).copied().unwrap_or_default());
        }
        1 => call.reply.simple("PONG"),
        2 => call.reply.bulk(args[1]),
        _ => return Err(CommandError::WrongArity("ping".into())),
    }
    Ok(Answer::Now)
}

const ECHO: Command<ConnHandler> = command("ECHO", exactly(2), echo as ConnHandler)
    .flags(LOADING | STALE | FAST)
    .acl(acl::CONNECTION)
    .doc("Returns its argument.", "O(1)", "1.0.0", "connection")
    .args(&[string("message")])
    .route(Route::Connection);

fn echo(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    call.reply.bulk(args[1]);
    Ok(Answer::Now)
}

const SELECT: Command<ConnHandler> = command("SELECT", exactly(2), select as ConnHandler)
    .flags(LOADING | STALE | FAST)
    .acl(acl::CONNECTION)
    .doc(
        "Chooses the connection's database.",
        "O(1)",
        "1.0.0",
        "connection",
    )
    .args(&[integer("index")])
    .route(Route::Connection);

fn select(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let index = parse_i64(args[1]).ok_or(CommandError::NotInteger)?;
    let index = i32::try_from(index).map_err(|_| {
        CommandError::fixed(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        )
    })?;
    if call.client().cluster && index != 0 {
        return Err(CommandError::fixed(
            "ERR SELECT is not allowed in cluster mode",
        ));
    }
    match usize::try_from(index) {
        Ok(db) if db < call.core.shard.keyspace.databases() => call.client_mut().db = db,
        _ => return Err(CommandError::DbIndexOutOfRange),
    }
    call.reply.ok();
    Ok(Answer::Now)
}

const RESET: Command<ConnHandler> = command("RESET", exactly(1), reset as ConnHandler)
    .flags(NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY)
    .acl(acl::CONNECTION)
    .doc(
        "Puts the connection back into its first state.",
        "O(1)",
        "6.2.0",
        "connection",
    )
    .route(Route::Connection);

fn reset(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    let user = call.core.users.default_user().clone();
    call.core.end_multi(call.conn);
    call.core.end_monitor(call.conn);
    call.core.end_tracking(call.conn);
    let client = call.client_mut();
    client.db = 0;
    client.version = Version::Resp2;
    client.authenticated = user.is_open();
    client.act_as(user);
    client.name.clear();
    client.reply_mode = ReplyMode::On;
    client.no_evict = false;
    client.no_touch = false;
    if super::pubsub::unsubscribe_all(call, b"+RESET\r\n") {
        return Ok(Answer::Later);
    }
    call.reply.simple("RESET");
    Ok(Answer::Now)
}

const QUIT: Command<ConnHandler> = command("QUIT", at_least(1), quit as ConnHandler)
    .flags(NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY)
    .acl(acl::CONNECTION)
    .doc(
        "Closes the connection after an OK.",
        "O(1)",
        "1.0.0",
        "connection",
    )
    .deprecated("7.2.0", "just closing the connection")
    .route(Route::Connection);

fn quit(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    call.reply.ok();
    let conn = call.conn;
    call.core.end(conn);
    Ok(Answer::Now)
}
