//! SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE and their opposites.

use super::{Answer, Args, Call, CommandError, ConnHandler, check_slots};
use crate::pubsub::message::confirm;
use crate::pubsub::{Kind, Step};
use ringwood_protocol::command::*;
use ringwood_protocol::reply::Reply;

pub(super) const SUBSCRIBE: Command<ConnHandler> =
    command("SUBSCRIBE", at_least(2), subscribe as ConnHandler)
        .flags(PUBSUB | NOSCRIPT | LOADING | STALE)
        .doc(
            "Subscribes to channels.",
            "O(N) where N is the number of channels to subscribe to.",
            "2.0.0",
            "pubsub",
        )
        .args(&[string("channel").multiple()])
        .route(Route::Connection);

fn subscribe(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    Ok(begin(call, Kind::Channel, &args[1..]))
}

pub(super) const UNSUBSCRIBE: Command<ConnHandler> =
    command("UNSUBSCRIBE", at_least(1), unsubscribe as ConnHandler)
        .flags(PUBSUB | NOSCRIPT | LOADING | STALE)
        .doc(
            "Ends subscriptions to channels.",
            "O(N) where N is the number of channels to unsubscribe.",
            "2.0.0",
            "pubsub",
        )
        .args(&[string("channel").optional().multiple()])
        .route(Route::Connection);

fn unsubscribe(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    Ok(end(call, Kind::Channel, &args[1..]))
}

pub(super) const PSUBSCRIBE: Command<ConnHandler> =
    command("PSUBSCRIBE", at_least(2), psubscribe as ConnHandler)
        .flags(PUBSUB | NOSCRIPT | LOADING | STALE)
        .doc(
            "Subscribes to all channels that match patterns.",
            "O(N) where N is the number of patterns to subscribe to.",
            "2.0.0",
            "pubsub",
        )
        .args(&[pattern("pattern").multiple()])
        .route(Route::Connection);

fn psubscribe(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    Ok(begin(call, Kind::Pattern, &args[1..]))
}

pub(super) const PUNSUBSCRIBE: Command<ConnHandler> =
    command("PUNSUBSCRIBE", at_least(1), punsubscribe as ConnHandler)
        .flags(PUBSUB | NOSCRIPT | LOADING | STALE)
        .doc(
            "Ends subscriptions to patterns.",
            "O(N) where N is the number of patterns to unsubscribe.",
            "2.0.0",
            "pubsub",
        )
        .args(&[pattern("pattern").optional().multiple()])
        .route(Route::Connection);

fn punsubscribe(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    Ok(end(call, Kind::Pattern, &args[1..]))
}

pub(super) const SSUBSCRIBE: Command<ConnHandler> =
    command("SSUBSCRIBE", at_least(2), ssubscribe as ConnHandler)
        .flags(PUBSUB | NOSCRIPT | LOADING | STALE)
        .keys(&[at(1).range(-1, 1, 0).flags(NOT_KEY)])
        .doc(
            "Subscribes to shard channels.",
            "O(N) where N is the number of shard channels to subscribe to.",
            "7.0.0",
            "pubsub",
        )
        .args(&[string("shardchannel").multiple()])
        .route(Route::Connection);

fn ssubscribe(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    if call.core.pubsub.in_exec {
        return Err(CommandError::fixed(
            "ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client",
        ));
    }
    check_slots(call, &args[1..])?;
    Ok(begin(call, Kind::Shard, &args[1..]))
}

pub(super) const SUNSUBSCRIBE: Command<ConnHandler> =
    command("SUNSUBSCRIBE", at_least(1), sunsubscribe as ConnHandler)
        .flags(PUBSUB | NOSCRIPT | LOADING | STALE)
        .keys(&[at(1).range(-1, 1, 0).flags(NOT_KEY)])
        .doc(
            "Ends subscriptions to shard channels.",
            "O(N) where N is the number of shard channels to unsubscribe.",
            "7.0.0",
            "pubsub",
        )
        .args(&[string("shardchannel").optional().multiple()])
        .route(Route::Connection);

fn sunsubscribe(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    check_slots(call, &args[1..])?;
    Ok(end(call, Kind::Shard, &args[1..]))
}

fn begin(call: &mut Call<'_>, kind: Kind, names: Args<'_>) -> Answer {
    change(call, kind, true, names.iter().copied())
}

/// Without names: all that the client has.
fn end(call: &mut Call<'_>, kind: Kind, names: Args<'_>) -> Answer {
    if !names.is_empty() {
        return change(call, kind, false, names.iter().copied());
    }
    let subscriptions = call.client().subscriptions.as_ref();
    let all: Vec<_> = subscriptions.map_or(Vec::new(), |s| {
        s.of(kind).iter().map(|(_, name, _)| name.clone()).collect()
    });
    if all.is_empty() {
        let count = subscriptions.map_or(0, |s| s.count(kind));
        confirm(&mut call.reply, kind, false, None, count);
        return Answer::Now;
    }
    change(call, kind, false, all.iter().map(|name| &**name))
}

/// Confirms each name; what changes nothing is confirmed too.
fn change<'a>(
    call: &mut Call<'_>,
    kind: Kind,
    begins: bool,
    names: impl Iterator<Item = &'a [u8]>,
) -> Answer {
    let conn = call.conn;
    let mut text = Vec::new();
    let mut reply = Reply::new(&mut text, call.reply.version());
    let mut steps = Vec::new();
    call.core.edit_subscriptions(conn, |subscriptions, hasher| {
        for name in names {
            let hash = hasher.hash(name);
            let changed = if begins {
                subscriptions.begin(kind, hash, name)
            } else {
                subscriptions.end(kind, hash, name)
            };
            steps.extend(changed.map(|name| Step {
                kind,
                begins,
                hash,
                name,
            }));
            confirm(
                &mut reply,
                kind,
                begins,
                Some(name),
                subscriptions.count(kind),
            );
        }
    });
    if !steps.is_empty() && call.core.change_subscriptions(conn, steps, &text) {
        return Answer::Later;
    }
    call.reply.raw(&text);
    Answer::Now
}

/// Ends all subscriptions without confirmations (RESET). True when `reply` comes later by itself.
pub fn unsubscribe_all(call: &mut Call<'_>, reply: &[u8]) -> bool {
    let conn = call.conn;
    let mut steps = Vec::new();
    call.core.edit_subscriptions(conn, |subscriptions, _| {
        for (kind, hash, name) in subscriptions.take_all() {
            let begins = false;
            steps.push(Step {
                kind,
                begins,
                hash,
                name,
            });
        }
    });
    !steps.is_empty() && call.core.change_subscriptions(conn, steps, reply)
}
