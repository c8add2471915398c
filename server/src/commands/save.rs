//! SAVE and LASTSAVE.

use super::{Answer, Call, ConnHandler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::Reply;
use ringwood_shard::ctx::Args;
use std::sync::atomic::Ordering::Relaxed;

pub const COMMANDS: &[Command<ConnHandler>] = &[SAVE, LASTSAVE];

const SAVE: Command<ConnHandler> = command("SAVE", exactly(1), save as ConnHandler)
    .flags(ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI | BARRIER)
    .doc(
        "Writes a snapshot and waits for it.",
        "O(N) where N is the total number of keys in all databases",
        "1.0.0",
        "server",
    )
    .route(Route::Connection);

fn save(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    let saving = call.core.begin_save()?;
    let version = call.reply.version();
    let ticket = call.later();
    call.core.save(ticket, saving, move |core, ticket, result| {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, version);
        match result {
            Ok(()) => reply.ok(),
            Err(error) => {
                reply.command_error(&CommandError::err(format_args!("saving failed: {error}")));
            }
        }
        core.answer(ticket, out);
    });
    Ok(Answer::Later)
}

const LASTSAVE: Command<ConnHandler> = command("LASTSAVE", exactly(1), lastsave as ConnHandler)
    .flags(LOADING | STALE | FAST)
    .acl(acl::ADMIN | acl::DANGEROUS)
    .doc(
        "Tells when the last snapshot was written.",
        "O(1)",
        "1.0.0",
        "server",
    )
    .tips(&["nondeterministic_output"])
    .route(Route::Connection);

fn lastsave(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    let time = last_save(call.core);
    call.reply.integer(time);
    Ok(Answer::Now)
}

/// When the last snapshot was written, in seconds since 1970; the start until there is one.
pub fn last_save(core: &crate::core::Core) -> i64 {
    match core.shared.persistence.last_save.load(Relaxed) {
        0 => core.shared.started_unix_ms / 1000,
        time => time,
    }
}
