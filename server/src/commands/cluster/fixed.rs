//! What would change the cluster, and is refused: the nodes are this process's cores, their slots are fixed.

use super::{Answer, Args, Call, CommandError, ConnHandler, enabled};
use ringwood_protocol::command::*;

pub(super) fn refused(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    enabled(call)?;
    Err(CommandError::fixed(
        "ERR the nodes are the cores of one process, their slots cannot be changed",
    ))
}

pub(super) const CLUSTER_ADDSLOTS: Command<ConnHandler> =
    command("ADDSLOTS", at_least(3), refused as ConnHandler)
        .flags(ADMIN | STALE | NO_ASYNC_LOADING)
        .doc(
            "Gives slots to this node.",
            "O(N) where N is the total number of hash slot arguments",
            "3.0.0",
            "cluster",
        )
        .args(&[integer("slot").multiple()])
        .route(Route::Connection);

pub(super) const CLUSTER_ADDSLOTSRANGE: Command<ConnHandler> = command(
    "ADDSLOTSRANGE",
    at_least(4),
    refused as ConnHandler,
)
.flags(ADMIN | STALE | NO_ASYNC_LOADING)
.doc(
    "Gives ranges of slots to this node.",
    "O(N) where N is the total number of the slots between the start slot and end slot arguments.",
    "7.0.0",
    "cluster",
)
.args(&[block("range", &[integer("start-slot"), integer("end-slot")]).multiple()])
.route(Route::Connection);

pub(super) const CLUSTER_BUMPEPOCH: Command<ConnHandler> =
    command("BUMPEPOCH", exactly(2), refused as ConnHandler)
        .flags(ADMIN | STALE | NO_ASYNC_LOADING)
        .doc(
            "Raises the configuration epoch.",
            "O(1)",
            "3.0.0",
            "cluster",
        )
        .tips(&["nondeterministic_output"])
        .route(Route::Connection);

pub(super) const CLUSTER_DELSLOTS: Command<ConnHandler> =
    command("DELSLOTS", at_least(3), refused as ConnHandler)
        .flags(ADMIN | STALE | NO_ASYNC_LOADING)
        .doc(
            "Makes slots unowned for this node.",
            "O(N) where N is the total number of hash slot arguments",
            "3.0.0",
            "cluster",
        )
        .args(&[integer("slot").multiple()])
        .route(Route::Connection);

pub(super) const CLUSTER_DELSLOTSRANGE: Command<ConnHandler> = command(
    "DELSLOTSRANGE",
    at_least(4),
    refused as ConnHandler,
)
.flags(ADMIN | STALE | NO_ASYNC_LOADING)
.doc(
    "Makes ranges of slots unowned for this node.",
    "O(N) where N is the total number of the slots between the start slot and end slot arguments.",
    "7.0.0",
    "cluster",
)
.args(&[block("range", &[integer("start-slot"), integer("end-slot")]).multiple()])
.route(Route::Connection);

pub(super) const CLUSTER_FAILOVER: Command<ConnHandler> =
    command("FAILOVER", at_least(2), refused as ConnHandler)
        .flags(ADMIN | STALE | NO_ASYNC_LOADING)
        .doc(
            "Makes this replica take its primary's place.",
            "O(1)",
            "3.0.0",
            "cluster",
        )
        .args(&[one_of(
            "options",
            &[word("force", "FORCE"), word("takeover", "TAKEOVER")],
        )
        .optional()])
        .route(Route::Connection);

pub(super) const CLUSTER_FLUSHSLOTS: Command<ConnHandler> =
    command("FLUSHSLOTS", exactly(2), refused as ConnHandler)
        .flags(ADMIN | STALE | NO_ASYNC_LOADING)
        .doc(
            "Makes all slots unowned for this node.",
            "O(1)",
            "3.0.0",
            "cluster",
        )
        .route(Route::Connection);

pub(super) const CLUSTER_FORGET: Command<ConnHandler> =
    command("FORGET", exactly(3), refused as ConnHandler)
        .flags(ADMIN | STALE | NO_ASYNC_LOADING)
        .doc(
            "Removes a node from this one's table.",
            "O(1)",
            "3.0.0",
            "cluster",
        )
        .args(&[string("node-id")])
        .route(Route::Connection);

pub(super) const CLUSTER_MEET: Command<ConnHandler> =
    command("MEET", at_least(4), refused as ConnHandler)
        .flags(ADMIN | STALE | NO_ASYNC_LOADING)
        .doc(
            "Introduces another node to the cluster.",
            "O(1)",
            "3.0.0",
            "cluster",
        )
        .history(&[("4.0.0", "Argument `cluster_bus_port`.")])
        .args(&[
            string("ip"),
            integer("port"),
            integer("cluster-bus-port").since("4.0.0").optional(),
        ])
        .route(Route::Connection);

pub(super) const CLUSTER_REPLICATE: Command<ConnHandler> =
    command("REPLICATE", exactly(3), refused as ConnHandler)
        .flags(ADMIN | STALE | NO_ASYNC_LOADING)
        .doc(
            "Makes this node a replica of another.",
            "O(1)",
            "3.0.0",
            "cluster",
        )
        .args(&[string("node-id")])
        .route(Route::Connection);

pub(super) const CLUSTER_RESET: Command<ConnHandler> = command("RESET", at_least(2), refused as ConnHandler)
    .flags(ADMIN | NOSCRIPT | STALE)
    .doc("Makes this node forget the cluster.", "O(N) where N is the number of known nodes. The command may execute a FLUSHALL as a side effect.", "3.0.0", "cluster")
    .args(&[one_of("reset-type", &[word("hard", "HARD"), word("soft", "SOFT")]).optional()]).route(Route::Connection);

pub(super) const CLUSTER_SAVECONFIG: Command<ConnHandler> =
    command("SAVECONFIG", exactly(2), refused as ConnHandler)
        .flags(ADMIN | STALE | NO_ASYNC_LOADING)
        .doc(
            "Writes the cluster state to disk.",
            "O(1)",
            "3.0.0",
            "cluster",
        )
        .route(Route::Connection);

pub(super) const CLUSTER_SET_CONFIG_EPOCH: Command<ConnHandler> =
    command("SET-CONFIG-EPOCH", exactly(3), refused as ConnHandler)
        .flags(ADMIN | STALE | NO_ASYNC_LOADING)
        .doc(
            "Sets a fresh node's configuration epoch.",
            "O(1)",
            "3.0.0",
            "cluster",
        )
        .args(&[integer("config-epoch")])
        .route(Route::Connection);

pub(super) const CLUSTER_SETSLOT: Command<ConnHandler> =
    command("SETSLOT", at_least(4), refused as ConnHandler)
        .flags(ADMIN | STALE | NO_ASYNC_LOADING)
        .doc(
            "Sets a slot's owner or its migration state.",
            "O(1)",
            "3.0.0",
            "cluster",
        )
        .args(&[
            integer("slot"),
            one_of(
                "subcommand",
                &[
                    string("importing").token("IMPORTING").display("node-id"),
                    string("migrating").token("MIGRATING").display("node-id"),
                    string("node").token("NODE").display("node-id"),
                    word("stable", "STABLE"),
                ],
            ),
        ])
        .route(Route::Connection);
