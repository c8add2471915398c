//! TIME.

use super::{Answer, Call, ConnHandler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_shard::ctx::Args;
use std::time::{SystemTime, UNIX_EPOCH};

pub const COMMANDS: &[Command<ConnHandler>] = &[TIME];

const TIME: Command<ConnHandler> = command("TIME", exactly(1), time as ConnHandler)
    .flags(LOADING | STALE | FAST)
    .doc("Returns the server's clock.", "O(1)", "2.6.0", "server")
    .tips(&["nondeterministic_output"])
    .route(Route::Connection);

fn time(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    // The turn's clock has milliseconds; this command is asked for microseconds.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    call.reply.array(2);
    call.reply.bulk_integer(now.as_secs() as i64);
    call.reply.bulk_integer(now.subsec_micros().into());
    Ok(Answer::Now)
}
