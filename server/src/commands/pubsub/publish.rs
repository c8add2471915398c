//! PUBLISH, SPUBLISH.

use super::{Answer, Args, Call, CommandError, ConnHandler, check_slots};
use crate::pubsub::Kind;
use ringwood_protocol::command::*;

pub(super) const PUBLISH: Command<ConnHandler> =
    command("PUBLISH", exactly(3), publish as ConnHandler)
        .flags(PUBSUB | LOADING | STALE | FAST | MAY_REPLICATE)
        .doc(
            "Sends a message to a channel.",
            "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total number of \
             subscribed patterns (by any client).",
            "2.0.0",
            "pubsub",
        )
        .args(&[string("channel"), string("message")])
        .route(Route::Connection);

fn publish(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    Ok(send(call, Kind::Channel, args))
}

pub(super) const SPUBLISH: Command<ConnHandler> =
    command("SPUBLISH", exactly(3), spublish as ConnHandler)
        .flags(PUBSUB | LOADING | STALE | FAST | MAY_REPLICATE)
        .keys(&[at(1).flags(NOT_KEY)])
        .doc(
            "Sends a message to a shard channel.",
            "O(N) where N is the number of clients subscribed to the receiving shard channel.",
            "7.0.0",
            "pubsub",
        )
        .args(&[string("shardchannel"), string("message")])
        .route(Route::Connection);

fn spublish(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    check_slots(call, &args[1..2])?;
    Ok(send(call, Kind::Shard, args))
}

fn send(call: &mut Call<'_>, kind: Kind, args: Args<'_>) -> Answer {
    let conn = call.conn;
    let count = call
        .core
        .publish_and_wait(kind, args[1], args[2], |core| core.ticket(conn));
    match count {
        Some(count) => {
            call.reply.integer(count as i64);
            Answer::Now
        }
        None => {
            let client = call.client_mut();
            // Its own message comes right behind the answer, before the replies to what it sent next.
            client.alone |= client.subscriptions.is_some();
            Answer::Later
        }
    }
}
