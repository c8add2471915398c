//! TRACKING, CACHING, TRACKINGINFO, GETREDIR. Tracking cannot be turned on yet: what they answer is that it is off.

use super::{Answer, Args, Call, CommandError, ConnHandler, on_off};
use ringwood_protocol::command::*;

pub(super) const CLIENT_TRACKING: Command<ConnHandler> =
    command("TRACKING", at_least(3), client_tracking as ConnHandler)
        .flags(NOSCRIPT | LOADING | STALE)
        .acl(acl::CONNECTION)
        .doc(
            "Turns client-side caching on or off.",
            "O(1). Some options may introduce additional complexity.",
            "6.0.0",
            "connection",
        )
        .args(&[
            one_of("status", &[word("on", "ON"), word("off", "OFF")]),
            integer("client-id").token("REDIRECT").optional(),
            string("prefix")
                .token("PREFIX")
                .optional()
                .multiple()
                .multiple_token(),
            word("bcast", "BCAST").optional(),
            word("optin", "OPTIN").optional(),
            word("optout", "OPTOUT").optional(),
            word("noloop", "NOLOOP").optional(),
        ])
        .route(Route::Connection);

pub(super) fn client_tracking(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    if on_off(args[2])? {
        return Err(CommandError::fixed(
            "ERR client-side caching is not supported by this server",
        ));
    }
    if args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    call.reply.ok();
    Ok(Answer::Now)
}

pub(super) const CLIENT_CACHING: Command<ConnHandler> =
    command("CACHING", exactly(3), client_caching as ConnHandler)
        .flags(NOSCRIPT | LOADING | STALE)
        .acl(acl::CONNECTION)
        .doc(
            "Says whether the next command's keys are tracked.",
            "O(1)",
            "6.0.0",
            "connection",
        )
        .args(&[one_of("mode", &[word("yes", "YES"), word("no", "NO")])])
        .route(Route::Connection);

pub(super) fn client_caching(_: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    Err(CommandError::fixed(
        "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
    ))
}

pub(super) const CLIENT_GETREDIR: Command<ConnHandler> =
    command("GETREDIR", exactly(2), client_getredir as ConnHandler)
        .flags(NOSCRIPT | LOADING | STALE)
        .acl(acl::CONNECTION)
        .doc(
            "Tells which connection gets this one's invalidation messages.",
            "O(1)",
            "6.0.0",
            "connection",
        )
        .route(Route::Connection);

pub(super) fn client_getredir(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    call.reply.integer(-1);
    Ok(Answer::Now)
}

pub(super) const CLIENT_TRACKINGINFO: Command<ConnHandler> = command(
    "TRACKINGINFO",
    exactly(2),
    client_trackinginfo as ConnHandler,
)
.flags(NOSCRIPT | LOADING | STALE)
.acl(acl::CONNECTION)
.doc(
    "Tells how client-side caching is set up on this connection.",
    "O(1)",
    "6.2.0",
    "connection",
)
.route(Route::Connection);

pub(super) fn client_trackinginfo(
    call: &mut Call<'_>,
    _: Args<'_>,
) -> Result<Answer, CommandError> {
    call.reply.map(3);
    call.reply.bulk_str("flags");
    call.reply.set(1);
    call.reply.bulk_str("off");
    call.reply.bulk_str("redirect");
    call.reply.integer(-1);
    call.reply.bulk_str("prefixes");
    call.reply.array(0);
    Ok(Answer::Now)
}
