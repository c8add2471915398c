//! Pub/Sub's commands. How messages get to their subscribers over all cores: [`crate::pubsub`].

mod inspect;
mod publish;
mod subscribe;

use super::{Answer, Call, ConnHandler};
use ringwood_protocol::command::Command;
use ringwood_protocol::error::CommandError;
use ringwood_shard::ctx::Args;

pub(super) use subscribe::unsubscribe_all;

pub const COMMANDS: &[Command<ConnHandler>] = &[
    subscribe::SUBSCRIBE,
    subscribe::UNSUBSCRIBE,
    subscribe::PSUBSCRIBE,
    subscribe::PUNSUBSCRIBE,
    subscribe::SSUBSCRIBE,
    subscribe::SUNSUBSCRIBE,
    publish::PUBLISH,
    publish::SPUBLISH,
    inspect::PUBSUB_COMMAND,
];

/// On a core's own port shard channels belong to the nodes of their slots.
fn check_slots(call: &Call<'_>, channels: Args<'_>) -> Result<(), CommandError> {
    if !call.client().cluster {
        return Ok(());
    }
    let mut slots = channels
        .iter()
        .map(|c| ringwood_protocol::slot::key_slot(c));
    let Some(slot) = slots.next() else {
        return Ok(());
    };
    if slots.any(|other| other != slot) {
        return Err(crate::cluster::CROSS_SLOT);
    }
    let owner = call.core.owner(slot);
    if owner as usize != call.core.id {
        return Err(call.core.moved(call.conn, slot, owner));
    }
    Ok(())
}
