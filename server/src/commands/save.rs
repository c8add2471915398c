//! SAVE, BGSAVE, BGREWRITEAOF and LASTSAVE.

use super::{Answer, Call, ConnHandler};
use crate::core::Core;
use crate::persist::snapshot::{Busy, Failure, Purpose};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::Reply;
use ringwood_shard::ctx::Args;
use std::sync::atomic::Ordering::Relaxed;

pub const COMMANDS: &[Command<ConnHandler>] = &[SAVE, BGSAVE, BGREWRITEAOF, LASTSAVE];

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
    let claim = call.core.claim_save()?;
    let version = call.reply.version();
    let ticket = call.later();
    let then = move |core: &mut Core, result: Result<(), Failure>| {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, version);
        match result {
            Ok(()) => reply.ok(),
            Err(failure) => {
                reply.command_error(&CommandError::err(format_args!("saving failed: {failure}")));
            }
        }
        core.answer(ticket, out);
    };
    call.core.save(claim, |_| {}, then);
    Ok(Answer::Later)
}

const BGSAVE: Command<ConnHandler> = command("BGSAVE", at_least(1), bgsave as ConnHandler)
    .flags(ADMIN | NOSCRIPT | NO_ASYNC_LOADING | BARRIER)
    .doc(
        "Writes a snapshot in the background.",
        "O(1)",
        "1.0.0",
        "server",
    )
    .history(&[("3.2.2", "Option `SCHEDULE`.")])
    .args(&[word("schedule", "SCHEDULE").since("3.2.2").optional()])
    .route(Route::Connection);

fn bgsave(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let schedule = match &args[1..] {
        [] => false,
        [word] if word.eq_ignore_ascii_case(b"SCHEDULE") => true,
        _ => return Err(CommandError::Syntax),
    };
    let state = &call.core.shared.persistence;
    let in_exec = call.core.pubsub.in_exec;
    let running = state.running().filter(|s| s.is_in_the_way());
    let purpose = running.map(|s| s.purpose);
    let rewrite = purpose == Some(Purpose::AofBase);
    if let Some(purpose) = purpose.filter(|_| !rewrite) {
        return Err(Busy::With(purpose).into());
    }
    if in_exec || schedule && rewrite {
        state.scheduled.store(true, Relaxed);
        call.reply.simple("Background saving scheduled");
        return Ok(Answer::Now);
    }
    let claim = call.core.claim_background()?;
    // The reply comes when all cores are past the point that the snapshot is of: what the client sends next is not in it.
    let version = call.reply.version();
    let ticket = call.later();
    call.core.save_in_background(claim, move |core| {
        let mut out = Vec::new();
        Reply::new(&mut out, version).simple("Background saving started");
        core.answer(ticket, out);
    });
    Ok(Answer::Later)
}

const BGREWRITEAOF: Command<ConnHandler> =
    command("BGREWRITEAOF", exactly(1), bgrewriteaof as ConnHandler)
        .flags(ADMIN | NOSCRIPT | NO_ASYNC_LOADING | BARRIER)
        .doc(
            "Makes the append-only file short again, in the background.",
            "O(1)",
            "1.0.0",
            "server",
        )
        .route(Route::Connection);

fn bgrewriteaof(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    let running = call.core.shared.persistence.running();
    let running = running.filter(|s| !s.is_cancelled()).map(|s| s.purpose);
    let scheduled = match running {
        Some(Purpose::AofBase) => {
            return Err(CommandError::fixed(
                "ERR Background append only file rewriting already in progress",
            ));
        }
        Some(_) => true,
        None => call.core.pubsub.in_exec || call.core.rewrite_log().is_err(),
    };
    if scheduled {
        call.core.schedule_rewrite();
        call.reply
            .simple("Background append only file rewriting scheduled");
    } else {
        call.reply
            .simple("Background append only file rewriting started");
    }
    Ok(Answer::Now)
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
pub fn last_save(core: &Core) -> i64 {
    match core.shared.persistence.last_save.load(Relaxed) {
        0 => core.shared.started_unix_ms / 1000,
        time => time,
    }
}
