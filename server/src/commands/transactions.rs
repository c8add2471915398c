//! MULTI, EXEC, DISCARD, WATCH, UNWATCH. How they work: [`crate::multi`].

use super::{Answer, Call, ConnHandler};
use crate::multi::Multi;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_shard::ctx::Args;

pub const COMMANDS: &[Command<ConnHandler>] = &[MULTI, EXEC, DISCARD, WATCH, UNWATCH];

const MULTI: Command<ConnHandler> = command("MULTI", exactly(1), multi as ConnHandler)
    .flags(NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY)
    .acl(acl::TRANSACTION)
    .doc("Opens a transaction.", "O(1)", "1.2.0", "transactions")
    .route(Route::Connection);

fn multi(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    let client = call.client_mut();
    if client.multi.is_some() {
        return Err(CommandError::err("MULTI calls can not be nested"));
    }
    client.multi = Some(Box::<Multi>::default());
    call.reply.ok();
    Ok(Answer::Now)
}

const EXEC: Command<ConnHandler> = command("EXEC", exactly(1), exec as ConnHandler)
    .flags(NOSCRIPT | LOADING | STALE | SKIP_SLOWLOG)
    .acl(acl::TRANSACTION)
    .doc(
        "Runs the commands of the transaction.",
        "Depends on commands in the transaction",
        "1.2.0",
        "transactions",
    )
    .route(Route::Connection);

/// In a transaction [`crate::core::Core::in_multi`] sees it first.
fn exec(_: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    Err(CommandError::err("EXEC without MULTI"))
}

const DISCARD: Command<ConnHandler> = command("DISCARD", exactly(1), discard as ConnHandler)
    .flags(NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY)
    .acl(acl::TRANSACTION)
    .doc(
        "Drops the open transaction.",
        "O(N), when N is the number of queued commands",
        "2.0.0",
        "transactions",
    )
    .route(Route::Connection);

fn discard(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    if call.client().multi.is_none() {
        return Err(CommandError::err("DISCARD without MULTI"));
    }
    call.core.end_multi(call.conn);
    call.reply.ok();
    Ok(Answer::Now)
}

// What this connection sent before must have happened before, or it would count as a change.
const WATCH: Command<ConnHandler> = command("WATCH", at_least(2), watch as ConnHandler)
    .flags(NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY | BARRIER)
    .acl(acl::TRANSACTION)
    .keys(&[at(1).range(-1, 1, 0).flags(RO)])
    .doc(
        "Makes the next EXEC fail if one of the keys changes before it.",
        "O(1) for every key.",
        "2.2.0",
        "transactions",
    )
    .args(&[key("key", 0).multiple()])
    .route(Route::Connection);

fn watch(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let client = call.client();
    if client.multi.is_some() {
        return Err(CommandError::err("WATCH inside MULTI is not allowed"));
    }
    let (cluster, db) = (client.cluster, client.db);
    if cluster {
        let slots: Vec<u16> = args[1..]
            .iter()
            .map(|k| ringwood_protocol::slot::key_slot(k))
            .collect();
        if slots.iter().any(|s| *s != slots[0]) {
            return Err(crate::cluster::CROSS_SLOT);
        }
        let owner = call.core.owner(slots[0]);
        if owner as usize != call.core.id {
            return Err(call.core.moved(call.conn, slots[0], owner));
        }
    }
    let keys = args[1..].iter().map(|k| (db, Box::from(*k))).collect();
    if call.core.watch(call.conn, keys) {
        call.reply.ok();
        return Ok(Answer::Now);
    }
    Ok(Answer::Later)
}

const UNWATCH: Command<ConnHandler> = command("UNWATCH", exactly(1), unwatch as ConnHandler)
    .flags(NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY)
    .acl(acl::TRANSACTION)
    .doc("Forgets the watched keys.", "O(1)", "2.2.0", "transactions")
    .route(Route::Connection);

fn unwatch(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    call.core.unwatch(call.conn);
    call.reply.ok();
    Ok(Answer::Now)
}
