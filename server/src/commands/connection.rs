//! PING, ECHO, SELECT, QUIT.

use super::{Answer, Call, ConnHandler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_shard::ctx::Args;

pub const COMMANDS: &[Command<ConnHandler>] = &[PING, ECHO, SELECT, QUIT];

const PING: Command<ConnHandler> = command("PING", at_least(1), ping as ConnHandler)
    .flags(FAST)
    .acl(acl::CONNECTION)
    .doc(
        "Answers PONG, or the message.",
        "O(1)",
        "1.0.0",
        "connection",
    )
    .args(&[string("message").optional()])
    .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
    .route(Route::Connection);

fn ping(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    match args.len() {
        1 => call.reply.simple("PONG"),
        2 => call.reply.bulk(args[1]),
        _ => return Err(CommandError::WrongArity("ping".into())),
    }
    Ok(Answer::Now)
}

const ECHO: Command<ConnHandler> = command("ECHO", exactly(2), echo as ConnHandler)
    .flags(LOADING | STALE | FAST)
    .acl(acl::CONNECTION)
    .doc("Answers the message.", "O(1)", "1.0.0", "connection")
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
        "Changes the connection's database.",
        "O(1)",
        "1.0.0",
        "connection",
    )
    .args(&[integer("index")])
    .route(Route::Connection);

fn select(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let index: i64 = std::str::from_utf8(args[1])
        .ok()
        .and_then(|t| t.parse().ok())
        .ok_or(CommandError::InvalidDbIndex)?;
    match usize::try_from(index) {
        Ok(db) if db < call.core.shard.keyspace.databases() => call.client_mut().db = db,
        _ => return Err(CommandError::DbIndexOutOfRange),
    }
    call.reply.ok();
    Ok(Answer::Now)
}

const QUIT: Command<ConnHandler> = command("QUIT", at_least(1), quit as ConnHandler)
    .flags(ALLOW_BUSY | NOSCRIPT | LOADING | STALE | FAST | NO_AUTH)
    .acl(acl::CONNECTION)
    .doc("Closes the connection.", "O(1)", "1.0.0", "connection")
    .deprecated("7.2.0", "just closing the connection")
    .route(Route::Connection);

fn quit(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    call.reply.ok();
    let conn = call.conn;
    call.core.end(conn);
    Ok(Answer::Now)
}
