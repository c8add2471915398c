//! SIGTERM and SIGINT: the end, after a snapshot if there are save points. As in Redis, the server goes on when that fails.

use crate::core::Core;

pub fn received(core: &mut Core, number: i32) {
    let name = if number == libc::SIGINT {
        "SIGINT"
    } else {
        "SIGTERM"
    };
    tracing::warn!("Received {name} scheduling shutdown...");
    tracing::warn!("User requested shutdown...");
    if core.loading || core.config.save.points().is_empty() {
        return core.stop_all();
    }
    tracing::info!("Saving the final RDB snapshot before exiting.");
    let failed = || {
        tracing::warn!("Error trying to save the DB, can't exit.");
        tracing::warn!("Errors trying to shut down the server. Check logs.");
    };
    match core.claim_last_save() {
        Ok(claim) => core.save_and_end(claim, false, move |_| failed()),
        Err(_) => failed(),
    }
}
