//! What INFO tells of the log.

use super::log::CoreLog;
use crate::core::Core;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

/// The fields of INFO persistence.
pub(crate) fn lines(core: &Core, out: &mut String) {
    let state = &core.shared.aof;
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{name}:{value}\r\n");
    };
    let sizes = state.sizes();
    let rewrite = state.rewrite_status();
    // Also while it cannot be written, and so waits for its beginning.
    let enabled = sizes.is_some() || core.config.appendonly;
    line("aof_enabled", &u8::from(enabled));
    line(
        "aof_rewrite_in_progress",
        &u8::from(rewrite.since.is_some()),
    );
    // A log that is wanted begins with one, once no other snapshot is written.
    let begins = core.config.appendonly && !state.is_announced() && rewrite.since.is_none();
    line(
        "aof_rewrite_scheduled",
        &u8::from(rewrite.scheduled || begins),
    );
    line("aof_last_rewrite_time_sec", &rewrite.last_seconds);
    let current = rewrite
        .since
        .map_or(-1, |since| since.elapsed().as_secs() as i64);
    line("aof_current_rewrite_time_sec", &current);
    line(
        "aof_last_bgrewrite_status",
        &if rewrite.has_failed() { "err" } else { "ok" },
    );
    line("aof_rewrites", &rewrite.count);
    line("aof_rewrites_consecutive_failures", &rewrite.failures);
    let write_status = if state.refuses_writes() { "err" } else { "ok" };
    line("aof_last_write_status", &write_status);
    if let Some((current, base)) = sizes {
        line("aof_current_size", &current);
        line("aof_base_size", &base);
        line("aof_pending_rewrite", &0);
        line(
            "aof_buffer_length",
            &(CoreLog::waiting(&core.log) + core.shard.log.len()),
        );
        line("aof_pending_bio_fsync", &state.syncs_under_way());
        line("aof_delayed_fsync", &state.delayed.load(Relaxed));
    }
}
