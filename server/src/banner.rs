//! What the log shows at start.

use crate::config::Loaded;

/// Name, version, shards, port and process, in the manner of Redis's banner.
pub fn greet(loaded: &Loaded, shards: usize) {
    let config = &loaded.config;
    tracing::warn!("oO0OoO0OoO0Oo Ringwood is starting oO0OoO0OoO0Oo");
    tracing::warn!(
        "Ringwood version={}, bits=64, pid={}, just started",
        env!("CARGO_PKG_VERSION"),
        std::process::id()
    );
    match &loaded.file {
        Some(_) => tracing::warn!("Configuration loaded"),
        None => tracing::warn!("Warning: no config file specified, using the default config."),
    }
    if let Some(message) = loaded.without_effect_message() {
        tracing::info!("{message}");
    }
    tracing::info!("Running with {shards} shard(s), port {}", config.port);
}
