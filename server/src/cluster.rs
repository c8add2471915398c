//! The cores as nodes of a cluster: with `shard-ports` each has a port of its own, and a cluster client talks to owners only.

use crate::config::Config;
use crate::core::Shared;
use ringwood_protocol::error::CommandError;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What a cluster's client is told that names keys of several slots.
pub const CROSS_SLOT: CommandError =
    CommandError::fixed("CROSSSLOT Keys in request don't hash to the same slot");

/// One core as clients of the cluster see it.
#[derive(Clone, Debug)]
pub struct Node {
    pub id: String,
    pub host: String,
    pub port: u16,
    /// Ranges, both ends included.
    pub slots: Vec<(u16, u16)>,
}

/// All cores in order, for a client that is connected to the address `local`.
pub fn nodes(shared: &Shared, config: &Config, local: &str) -> Vec<Node> {
    let host = host(config, local);
    let mut nodes: Vec<Node> = (0..shared.clients.len())
        .map(|core| Node {
            id: node_id(&shared.run_id, core),
            host: host.clone(),
            port: port(config, core),
            slots: Vec::new(),
        })
        .collect();
    let mut first = 0;
    for same in shared.owners.chunk_by(|a, b| a == b) {
        let last = first + same.len() as u16 - 1;
        nodes[same[0] as usize].slots.push((first, last));
        first = last.wrapping_add(1);
    }
    nodes
}

/// 40 hexadecimal digits that stay the same while the process lives.
pub fn node_id(run_id: &str, core: usize) -> String {
    id("node", run_id, core)
}
/// As [`node_id`], for the shard that the node is the only member of.
pub fn shard_id(run_id: &str, core: usize) -> String {
    id("shard", run_id, core)
}

fn id(what: &str, run_id: &str, core: usize) -> String {
    let word = |n: u8| {
        let mut hasher = DefaultHasher::new();
        (n, what, run_id, core).hash(&mut hasher);
        hasher.finish()
    };
    format!("{:016x}{:016x}{:08x}", word(0), word(1), word(2) as u32)
}

/// The port of a core.
pub fn port(config: &Config, core: usize) -> u16 {
    let base = if config.shard_port_base > 0 {
        config.shard_port_base
    } else {
        config.port.saturating_add(1)
    };
    base.saturating_add(core as u16)
}

/// A core's address for redirections.
pub fn address(config: &Config, local: &str, core: usize) -> String {
    format!("{}:{}", host(config, local), port(config, core))
}

/// The host that a client is told: what was configured, or the one that it reached already.
fn host(config: &Config, local: &str) -> String {
    if !config.cluster_announce_ip.is_empty() {
        return String::from_utf8_lossy(config.cluster_announce_ip.as_ref()).into_owned();
    }
    match local.rsplit_once(':') {
        // A unix socket's client: some address that is listened on.
        Some((_, "0")) | None => bound(config),
        Some((host, _)) => host.trim_matches(['[', ']']).to_string(),
    }
}

fn bound(config: &Config) -> String {
    config
        .bind
        .addresses()
        .iter()
        .map(|a| {
            String::from_utf8_lossy(a.as_ref())
                .trim_start_matches('-')
                .to_string()
        })
        .find(|a| !a.contains(['*', ':']) && a != "0.0.0.0")
        .unwrap_or_else(|| "127.0.0.1".to_string())
}

/// Slots to cores at start: contiguous ranges.
pub fn first_owners(cores: usize) -> Box<[u16]> {
    let slots = ringwood_protocol::slot::SLOT_COUNT as usize;
    (0..slots)
        .map(|slot| (slot * cores / slots) as u16)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_forty_digits_and_all_different() {
        let mut ids: Vec<String> = (0..100)
            .flat_map(|core| [node_id("r", core), shard_id("r", core), node_id("s", core)])
            .collect();
        assert!(ids.iter().all(|id| id.len() == 40));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 300);
    }

    #[test]
    fn clients_are_told_the_host_they_reached() {
        let mut config = Config::default();
        assert_eq!(host(&config, "10.1.2.3:6379"), "10.1.2.3");
        assert_eq!(host(&config, "[::1]:6379"), "::1");
        assert_eq!(host(&config, "/run/ringwood.sock:0"), "127.0.0.1");
        config.cluster_announce_ip = b"192.0.2.1"[..].into();
        assert_eq!(host(&config, "10.1.2.3:6379"), "192.0.2.1");
    }

    #[test]
    fn slots_are_spread_evenly() {
        for cores in [1, 2, 3, 7, 16, 100] {
            let owners = super::first_owners(cores);
            let mut counts = vec![0; cores];
            owners.iter().for_each(|&o| counts[o as usize] += 1);
            assert!(owners.is_sorted());
            assert!(
                counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1,
                "{cores}"
            );
        }
    }
}
