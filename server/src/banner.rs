//! What the log shows at start.

use crate::config::{Loaded, log};
use std::io::IsTerminal;

/// Name, version, shards, port and process, in the manner of Redis's banner. Redis's test suite looks for `PID:`.
pub fn greet(loaded: &Loaded, shards: usize) {
    let config = &loaded.config;
    let version = env!("CARGO_PKG_VERSION");
    let pid = std::process::id();
    tracing::warn!("oO0OoO0OoO0Oo Ringwood is starting oO0OoO0OoO0Oo");
    tracing::warn!("Ringwood version={version}, bits=64, pid={pid}, just started");
    match &loaded.file {
        Some(_) => tracing::warn!("Configuration loaded"),
        None => tracing::warn!("Warning: no config file specified, using the default config."),
    }
    if let Some(message) = loaded.without_effect_message() {
        tracing::info!("{message}");
    }
    let mode = if config.shard_ports {
        "cluster"
    } else {
        "standalone"
    };
    let terminal =
        config.logfile.is_empty() && !config.daemonize && std::io::stdout().is_terminal();
    if config.always_show_logo || terminal {
        let facts = [
            format!("Ringwood {version} (64 bit)"),
            format!("Running in {mode} mode, {shards} shards"),
            format!("Port: {}", config.port),
            format!("PID: {pid}"),
        ];
        tracing::info!(target: log::RAW, "{}", logo(&facts));
    } else {
        tracing::info!(
            "Running mode={mode}, port={}, shards={shards}.",
            config.port
        );
    }
}

/// A tree trunk's rings, with a line of text beside each row in the middle.
fn logo(facts: &[String; 4]) -> String {
    const ROWS: [&str; 8] = [
        "      .-\"\"\"\"\"-.",
        "    .'  .---.  '.",
        "   /  .' .-. '.  \\",
        "  |  /  / _ \\  \\  |",
        "  |  \\  \\_./  /  |",
        "   \\  '.___.'  /",
        "    '.       .'",
        "      '-...-'",
    ];
    let mut text = String::from("\n");
    for (n, row) in ROWS.iter().enumerate() {
        match n.checked_sub(2).and_then(|n| facts.get(n)) {
            Some(fact) => text.push_str(&format!("{row:<24} {fact}\n")),
            None => text.push_str(&format!("{row}\n")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_logo_shows_every_fact_in_a_line_of_its_own() {
        let facts = ["a1", "b2", "c3", " PID: 4"].map(String::from);
        let logo = super::logo(&facts);
        for fact in &facts {
            let lines = logo.lines().filter(|l| l.ends_with(fact.as_str()));
            assert_eq!(lines.count(), 1, "{fact}");
        }
    }
}
