//! Who the nodes are and which slots they have: SLOTS, SHARDS, NODES, INFO, MYID, MYSHARDID, LINKS, REPLICAS,
//! COUNT-FAILURE-REPORTS.

use super::{Answer, Args, Call, CommandError, ConnHandler, enabled};
use crate::cluster::{self, Node};
use ringwood_protocol::command::*;
use ringwood_protocol::lossless;
use std::fmt::Write;

/// The nodes as this client sees them.
fn nodes(call: &Call<'_>) -> Vec<Node> {
    cluster::nodes(&call.core.shared, &call.core.config, call.local())
}

/// The node that the words name.
fn named(call: &Call<'_>, id: &[u8]) -> Result<Node, CommandError> {
    nodes(call)
        .into_iter()
        .find(|node| node.id.as_bytes() == id)
        .ok_or_else(|| CommandError::err(format_args!("Unknown node {}", lossless::text(id))))
}

pub(super) const CLUSTER_SLOTS: Command<ConnHandler> =
    command("SLOTS", exactly(2), cluster_slots as ConnHandler)
        .flags(LOADING | STALE)
        .doc(
            "Lists ranges of slots with their nodes.",
            "O(N) where N is the total number of Cluster nodes",
            "3.0.0",
            "cluster",
        )
        .deprecated("7.0.0", "`CLUSTER SHARDS`")
        .history(&[
            ("4.0.0", "The reply has node IDs."),
            ("7.0.0", "The reply has more about each node's network."),
        ])
        .tips(&["nondeterministic_output"])
        .route(Route::Connection);

pub(super) fn cluster_slots(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    enabled(call)?;
    let nodes = nodes(call);
    let reply = &mut call.reply;
    reply.array(nodes.iter().map(|n| n.slots.len()).sum());
    for node in &nodes {
        for &(first, last) in &node.slots {
            reply.array(3);
            reply.integer(first as i64);
            reply.integer(last as i64);
            reply.array(4);
            reply.bulk_str(&node.host);
            reply.integer(node.port as i64);
            reply.bulk_str(&node.id);
            reply.array(0);
        }
    }
    Ok(Answer::Now)
}

pub(super) const CLUSTER_SHARDS: Command<ConnHandler> =
    command("SHARDS", exactly(2), cluster_shards as ConnHandler)
        .flags(LOADING | STALE)
        .doc(
            "Lists the shards with their nodes and slots.",
            "O(N) where N is the total number of cluster nodes",
            "7.0.0",
            "cluster",
        )
        .tips(&["nondeterministic_output"])
        .route(Route::Connection);

pub(super) fn cluster_shards(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    enabled(call)?;
    let nodes = nodes(call);
    let reply = &mut call.reply;
    reply.array(nodes.len());
    for node in &nodes {
        reply.map(2);
        reply.bulk_str("slots");
        reply.array(2 * node.slots.len());
        for &(first, last) in &node.slots {
            reply.integer(first as i64);
            reply.integer(last as i64);
        }
        reply.bulk_str("nodes");
        reply.array(1);
        reply.map(7);
        reply.bulk_str("id");
        reply.bulk_str(&node.id);
        reply.bulk_str("port");
        reply.integer(node.port as i64);
        for field in ["ip", "endpoint"] {
            reply.bulk_str(field);
            reply.bulk_str(&node.host);
        }
        reply.bulk_str("role");
        reply.bulk_str("master");
        // Nothing is replicated yet.
        reply.bulk_str("replication-offset");
        reply.integer(0);
        reply.bulk_str("health");
        reply.bulk_str("online");
    }
    Ok(Answer::Now)
}

pub(super) const CLUSTER_NODES: Command<ConnHandler> =
    command("NODES", exactly(2), cluster_nodes as ConnHandler)
        .flags(STALE)
        .doc(
            "Shows the nodes as this one knows them.",
            "O(N) where N is the total number of Cluster nodes",
            "3.0.0",
            "cluster",
        )
        .tips(&["nondeterministic_output"])
        .route(Route::Connection);

pub(super) fn cluster_nodes(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    enabled(call)?;
    let mut text = String::new();
    for (core, node) in nodes(call).iter().enumerate() {
        let myself = if core == call.core.id { "myself," } else { "" };
        // There is no bus: its port is 0.
        let _ = write!(
            text,
            "{} {}:{}@0 {myself}master - 0 0 {} connected",
            node.id,
            node.host,
            node.port,
            core + 1
        );
        for &(first, last) in &node.slots {
            let _ = if first == last {
                write!(text, " {first}")
            } else {
                write!(text, " {first}-{last}")
            };
        }
        text.push('\n');
    }
    call.reply.verbatim("txt", text.as_bytes());
    Ok(Answer::Now)
}

pub(super) const CLUSTER_INFO: Command<ConnHandler> =
    command("INFO", exactly(2), cluster_info as ConnHandler)
        .flags(STALE)
        .doc("Shows the cluster's state.", "O(1)", "3.0.0", "cluster")
        .tips(&["nondeterministic_output"])
        .route(Route::Connection);

pub(super) fn cluster_info(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    enabled(call)?;
    let nodes = nodes(call);
    let slots: usize = nodes
        .iter()
        .flat_map(|n| &n.slots)
        .map(|(first, last)| (last - first) as usize + 1)
        .sum();
    let size = nodes.iter().filter(|n| !n.slots.is_empty()).count();
    // Nodes of one process see one another or are gone together.
    let text = format!(
        "cluster_state:ok\r\ncluster_slots_assigned:{slots}\r\ncluster_slots_ok:{slots}\r\ncluster_slots_pfail:0\r\n\
         cluster_slots_fail:0\r\ncluster_known_nodes:{}\r\ncluster_size:{size}\r\ncluster_current_epoch:{}\r\n\
         cluster_my_epoch:{}\r\ncluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n\
         total_cluster_links_buffer_limit_exceeded:0\r\n",
        nodes.len(),
        nodes.len(),
        call.core.id + 1,
    );
    call.reply.verbatim("txt", text.as_bytes());
    Ok(Answer::Now)
}

pub(super) const CLUSTER_MYID: Command<ConnHandler> =
    command("MYID", exactly(2), cluster_myid as ConnHandler)
        .flags(STALE)
        .doc("Returns this node's ID.", "O(1)", "3.0.0", "cluster")
        .route(Route::Connection);

pub(super) fn cluster_myid(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    enabled(call)?;
    let id = cluster::node_id(&call.core.shared.run_id, call.core.id);
    call.reply.bulk_str(&id);
    Ok(Answer::Now)
}

pub(super) const CLUSTER_MYSHARDID: Command<ConnHandler> =
    command("MYSHARDID", exactly(2), cluster_myshardid as ConnHandler)
        .flags(STALE)
        .doc(
            "Returns the ID of this node's shard.",
            "O(1)",
            "7.2.0",
            "cluster",
        )
        .tips(&["nondeterministic_output"])
        .route(Route::Connection);

pub(super) fn cluster_myshardid(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    enabled(call)?;
    let id = cluster::shard_id(&call.core.shared.run_id, call.core.id);
    call.reply.bulk_str(&id);
    Ok(Answer::Now)
}

pub(super) const CLUSTER_LINKS: Command<ConnHandler> =
    command("LINKS", exactly(2), cluster_links as ConnHandler)
        .flags(STALE)
        .doc(
            "Lists the links to the other nodes.",
            "O(N) where N is the total number of Cluster nodes",
            "7.0.0",
            "cluster",
        )
        .tips(&["nondeterministic_output"])
        .route(Route::Connection);

/// Cores talk by memory.
pub(super) fn cluster_links(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    enabled(call)?;
    call.reply.array(0);
    Ok(Answer::Now)
}

pub(super) const CLUSTER_REPLICAS: Command<ConnHandler> =
    command("REPLICAS", exactly(3), cluster_replicas as ConnHandler)
        .flags(ADMIN | STALE)
        .doc(
            "Lists a primary's replicas.",
            "O(N) where N is the number of replicas.",
            "5.0.0",
            "cluster",
        )
        .args(&[string("node-id")])
        .tips(&["nondeterministic_output"])
        .route(Route::Connection);

pub(super) fn cluster_replicas(
    call: &mut Call<'_>,
    args: Args<'_>,
) -> Result<Answer, CommandError> {
    enabled(call)?;
    named(call, args[2])?;
    call.reply.array(0);
    Ok(Answer::Now)
}

pub(super) const CLUSTER_SLAVES: Command<ConnHandler> =
    command("SLAVES", exactly(3), cluster_slaves as ConnHandler)
        .flags(ADMIN | STALE)
        .doc(
            "Lists a primary's replicas; the old name.",
            "O(N) where N is the number of replicas.",
            "3.0.0",
            "cluster",
        )
        .deprecated("5.0.0", "`CLUSTER REPLICAS`")
        .args(&[string("node-id")])
        .tips(&["nondeterministic_output"])
        .route(Route::Connection);

pub(super) fn cluster_slaves(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    cluster_replicas(call, args)
}

pub(super) const CLUSTER_COUNT_FAILURE_REPORTS: Command<ConnHandler> = command(
    "COUNT-FAILURE-REPORTS",
    exactly(3),
    cluster_count_failure_reports as ConnHandler,
)
.flags(ADMIN | STALE)
.doc(
    "Counts the nodes that report a node as failing.",
    "O(N) where N is the number of failure reports",
    "3.0.0",
    "cluster",
)
.args(&[string("node-id")])
.tips(&["nondeterministic_output"])
.route(Route::Connection);

pub(super) fn cluster_count_failure_reports(
    call: &mut Call<'_>,
    args: Args<'_>,
) -> Result<Answer, CommandError> {
    enabled(call)?;
    named(call, args[2])?;
    call.reply.integer(0);
    Ok(Answer::Now)
}
