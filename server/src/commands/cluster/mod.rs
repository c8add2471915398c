//! CLUSTER, READONLY, READWRITE, ASKING: with `shard-ports` every core is a node, with its own port and slots.
//!
//! The slots stay where they are for the process's life, there are no replicas and no bus between nodes, so what changes the
//! cluster is refused. Without `shard-ports` everything here is, as by a Redis without cluster support.

mod fixed;
mod nodes;
mod slots;

use super::{Answer, Call, ConnHandler, container};
use fixed::*;
use nodes::*;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_shard::ctx::Args;
use slots::*;

pub const COMMANDS: &[Command<ConnHandler>] =
    &[CLUSTER, READONLY_COMMAND, READWRITE, ASKING_COMMAND];

const CLUSTER: Command<ConnHandler> = command("CLUSTER", at_least(2), container as ConnHandler)
    .doc(
        "Commands about the cluster.",
        "Depends on subcommand.",
        "3.0.0",
        "cluster",
    )
    .subcommands(&[
        CLUSTER_ADDSLOTS,
        CLUSTER_ADDSLOTSRANGE,
        CLUSTER_BUMPEPOCH,
        CLUSTER_COUNT_FAILURE_REPORTS,
        CLUSTER_COUNTKEYSINSLOT,
        CLUSTER_DELSLOTS,
        CLUSTER_DELSLOTSRANGE,
        CLUSTER_FAILOVER,
        CLUSTER_FLUSHSLOTS,
        CLUSTER_FORGET,
        CLUSTER_GETKEYSINSLOT,
        CLUSTER_HELP,
        CLUSTER_INFO,
        CLUSTER_KEYSLOT,
        CLUSTER_LINKS,
        CLUSTER_MEET,
        CLUSTER_MYID,
        CLUSTER_MYSHARDID,
        CLUSTER_NODES,
        CLUSTER_REPLICAS,
        CLUSTER_REPLICATE,
        CLUSTER_RESET,
        CLUSTER_SAVECONFIG,
        CLUSTER_SET_CONFIG_EPOCH,
        CLUSTER_SETSLOT,
        CLUSTER_SHARDS,
        CLUSTER_SLAVES,
        CLUSTER_SLOT_STATS,
        CLUSTER_SLOTS,
    ])
    .route(Route::Connection);

/// Every handler's first step.
fn enabled(call: &Call<'_>) -> Result<(), CommandError> {
    if call.core.config.shard_ports {
        return Ok(());
    }
    Err(CommandError::fixed(
        "ERR This instance has cluster support disabled",
    ))
}

const CLUSTER_HELP: Command<ConnHandler> = command("HELP", exactly(2), cluster_help as ConnHandler)
    .flags(LOADING | STALE)
    .doc("Lists the subcommands.", "O(1)", "5.0.0", "cluster")
    .route(Route::Connection);

fn cluster_help(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    enabled(call)?;
    super::help_reply(
        &mut call.reply,
        args,
        &[
            "COUNTKEYSINSLOT <slot>",
            "    Counts the keys of a slot.",
            "COUNT-FAILURE-REPORTS <node-id>",
            "    Counts who takes a node for failed.",
            "GETKEYSINSLOT <slot> <count>",
            "    Returns keys of a slot, at most so many.",
            "INFO",
            "    Describes the state of the cluster.",
            "KEYSLOT <key>",
            "    Returns the slot that a key belongs to.",
            "LINKS",
            "    Describes the links of the cluster bus, of which there are none.",
            "MYID",
            "    Returns this node's ID.",
            "MYSHARDID",
            "    Returns the ID of this node's shard.",
            "NODES",
            "    Describes the nodes, a line each:",
            "    <id> <ip:port@bus-port> <flags> <master> <pings> <pongs> <epoch> <link> <slot> ...",
            "REPLICAS <node-id>",
            "    Describes a node's replicas.",
            "SHARDS",
            "    Describes shards, each with its slots and nodes.",
            "SLOTS",
            "    Describes ranges of slots: first, last, and the node that has them.",
            "SLOT-STATS (SLOTSRANGE <start> <end> | ORDERBY KEY-COUNT [LIMIT <n>] [ASC|DESC])",
            "    Counts the keys of this node's slots.",
        ],
    );
    Ok(Answer::Now)
}

const READONLY_COMMAND: Command<ConnHandler> =
    command("READONLY", exactly(1), readonly as ConnHandler)
        .flags(LOADING | STALE | FAST)
        .acl(acl::CONNECTION)
        .doc(
            "Allows reads on a cluster replica through this connection.",
            "O(1)",
            "3.0.0",
            "cluster",
        )
        .route(Route::Connection);

/// There are no replicas to read from, so these two change nothing; no slot moves, so nothing is asked either.
fn readonly(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    enabled(call)?;
    call.reply.ok();
    Ok(Answer::Now)
}

const READWRITE: Command<ConnHandler> = command("READWRITE", exactly(1), readwrite as ConnHandler)
    .flags(LOADING | STALE | FAST)
    .acl(acl::CONNECTION)
    .doc("Ends what READONLY began.", "O(1)", "3.0.0", "cluster")
    .route(Route::Connection);

fn readwrite(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    readonly(call, args)
}

const ASKING_COMMAND: Command<ConnHandler> = command("ASKING", exactly(1), asking as ConnHandler)
    .flags(FAST)
    .acl(acl::CONNECTION)
    .doc(
        "Lets the next command through to a slot that is being imported.",
        "O(1)",
        "3.0.0",
        "cluster",
    )
    .route(Route::Connection);

fn asking(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    readonly(call, args)
}
