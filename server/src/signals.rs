//! SIGTERM and SIGINT.

use crate::core::Core;

pub fn received(core: &mut Core, number: i32) {
    let name = if number == libc::SIGINT {
        "SIGINT"
    } else {
        "SIGTERM"
    };
    tracing::warn!("Received {name} scheduling shutdown...");
    tracing::warn!("User requested shutdown...");
    core.stop_all();
}
