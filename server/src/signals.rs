//! SIGTERM and SIGINT: the end, after a snapshot if there are save points or `shutdown-on-sigterm` and `shutdown-on-sigint` want one. As in Redis, the
//! server goes on when that fails, unless they say `force`.

use crate::core::Core;

pub fn received(core: &mut Core, number: i32) {
    let name = if number == libc::SIGINT {
        "SIGINT"
    } else {
        "SIGTERM"
    };
    tracing::warn!("Received {name} scheduling shutdown...");
    tracing::warn!("User requested shutdown...");
    let options = match number {
        libc::SIGINT => core.config.shutdown_on_sigint,
        _ => core.config.shutdown_on_sigterm,
    };
    let saves = options.save || !options.nosave && !core.config.save.points().is_empty();
    if core.loading || !saves {
        return core.stop_all();
    }
    tracing::info!("Saving the final RDB snapshot before exiting.");
    let failed = || {
        tracing::warn!("Error trying to save the DB, can't exit.");
        tracing::warn!("Errors trying to shut down the server. Check logs.");
    };
    match core.claim_last_save() {
        Ok(claim) => core.save_and_end(claim, options.force, move |_| failed()),
        Err(_) if options.force => core.stop_all(),
        Err(_) => failed(),
    }
}
