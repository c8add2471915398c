//! MONITOR.

use super::{Answer, Call, ConnHandler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_shard::ctx::Args;

pub const COMMANDS: &[Command<ConnHandler>] = &[MONITOR];

const MONITOR: Command<ConnHandler> = command("MONITOR", exactly(1), monitor as ConnHandler)
    .flags(ADMIN | NOSCRIPT | LOADING | STALE)
    .doc(
        "Shows every command that the server runs.",
        "",
        "1.0.0",
        "server",
    )
    .route(Route::Connection);

fn monitor(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    if call.core.pubsub.in_exec {
        return Err(CommandError::fixed(
            "ERR MONITOR isn't allowed for DENY BLOCKING client",
        ));
    }
    let (id, conn) = (call.client().id, call.conn);
    if call.core.monitors.has(id) {
        return Ok(Answer::Now);
    }
    let core = call.core.id;
    call.core.monitors.add(conn, id);
    // Lines come behind the reply: it has its place when the first core learns of it.
    Ok(call.gather(
        move |other| other.monitors.note(core, true),
        |_, reply, _| reply.ok(),
    ))
}
