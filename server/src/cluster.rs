//! The cores as nodes of a cluster: with `shard-ports` each has a port of its own, and a cluster client talks to owners only.

use crate::config::Config;

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
pub fn address(config: &Config, core: usize) -> String {
    format!("{}:{}", host(config), port(config, core))
}

/// The address that clients are told.
pub fn host(config: &Config) -> String {
    if !config.cluster_announce_ip.is_empty() {
        return String::from_utf8_lossy(config.cluster_announce_ip.as_ref()).into_owned();
    }
    config
        .bind
        .addresses()
        .iter()
        .map(|a| {
            String::from_utf8_lossy(a.as_ref())
                .trim_start_matches('-')
                .to_string()
        })
        .find(|a| !a.contains(['*', ':']))
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
