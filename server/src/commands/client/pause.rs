//! PAUSE, UNPAUSE: commands wait on every core until a time.

use super::{Answer, Args, Call, CommandError, ConnHandler};
use crate::core::Core;
use crate::request::Paused;
use ringwood_protocol::command::*;
use ringwood_protocol::number::parse_i64;

pub(super) const CLIENT_PAUSE: Command<ConnHandler> =
    command("PAUSE", at_least(3), client_pause as ConnHandler)
        .flags(ADMIN | NOSCRIPT | LOADING | STALE)
        .acl(acl::CONNECTION)
        .doc(
            "Holds back clients' commands for a while.",
            "O(1)",
            "3.0.0",
            "connection",
        )
        .history(&[("6.2.0", "Option `mode`, with the mode `WRITE`.")])
        .args(&[
            integer("timeout"),
            one_of("mode", &[word("write", "WRITE"), word("all", "ALL")])
                .since("6.2.0")
                .optional(),
        ])
        .route(Route::Connection);

pub(super) fn client_pause(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let mode = match args {
        [_, _, _] => Paused::All,
        [_, _, _, mode] if mode.eq_ignore_ascii_case(b"WRITE") => Paused::Writes,
        [_, _, _, mode] if mode.eq_ignore_ascii_case(b"ALL") => Paused::All,
        [_, _, _, _] => {
            return Err(CommandError::fixed(
                "ERR CLIENT PAUSE mode must be WRITE or ALL",
            ));
        }
        _ => return Err(crate::commands::wrong_words(args)),
    };
    let timeout_ms = parse_i64(args[2]).ok_or(CommandError::fixed(
        "ERR timeout is not an integer or out of range",
    ))?;
    if timeout_ms < 0 {
        return Err(CommandError::NegativeTimeout);
    }
    if timeout_ms.checked_add(call.core.now.unix_ms).is_none() {
        return Err(CommandError::TimeoutOutOfRange);
    }
    // On this core at once: it holds for the caller's next command.
    Ok(call.gather(
        move |core| core.pause(mode, timeout_ms as u64),
        |_, reply, _| reply.ok(),
    ))
}

pub(super) const CLIENT_UNPAUSE: Command<ConnHandler> =
    command("UNPAUSE", exactly(2), client_unpause as ConnHandler)
        .flags(ADMIN | NOSCRIPT | LOADING | STALE)
        .acl(acl::CONNECTION)
        .doc(
            "Lets paused clients go on.",
            "O(N) Where N is the number of paused clients",
            "6.2.0",
            "connection",
        )
        .route(Route::Connection);

pub(super) fn client_unpause(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    Ok(call.gather(Core::unpause, |_, reply, _| reply.ok()))
}
