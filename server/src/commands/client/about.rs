//! What a connection says about itself: ID, SETNAME, GETNAME, SETINFO, REPLY, NO-EVICT, NO-TOUCH.

use super::{Answer, Args, Call, CommandError, ConnHandler, on_off};
use crate::client::ReplyMode;
use ringwood_protocol::command::*;
use ringwood_protocol::lossless;

pub(super) const CLIENT_ID: Command<ConnHandler> =
    command("ID", exactly(2), client_id as ConnHandler)
        .flags(NOSCRIPT | LOADING | STALE)
        .acl(acl::CONNECTION)
        .doc(
            "Returns this connection's ID.",
            "O(1)",
            "5.0.0",
            "connection",
        )
        .route(Route::Connection);

pub(super) fn client_id(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    let id = call.client().id;
    call.reply.integer(id as i64);
    Ok(Answer::Now)
}

/// Names and library attributes stand in CLIENT LIST, whose fields end at a space and whose lines at a newline.
pub fn check_attribute(what: &str, value: &[u8]) -> Result<(), CommandError> {
    if value.iter().all(u8::is_ascii_graphic) {
        return Ok(());
    }
    Err(CommandError::err(format_args!(
        "{what} cannot contain spaces, newlines or special characters."
    )))
}

pub(super) const CLIENT_SETNAME: Command<ConnHandler> =
    command("SETNAME", exactly(3), client_setname as ConnHandler)
        .flags(NOSCRIPT | LOADING | STALE)
        .acl(acl::CONNECTION)
        .doc("Names this connection.", "O(1)", "2.6.9", "connection")
        .args(&[string("connection-name")])
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .route(Route::Connection);

pub(super) fn client_setname(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    check_attribute("Client names", args[2])?;
    call.client_mut().name = args[2].to_vec();
    call.reply.ok();
    Ok(Answer::Now)
}

pub(super) const CLIENT_GETNAME: Command<ConnHandler> =
    command("GETNAME", exactly(2), client_getname as ConnHandler)
        .flags(NOSCRIPT | LOADING | STALE)
        .acl(acl::CONNECTION)
        .doc(
            "Returns this connection's name.",
            "O(1)",
            "2.6.9",
            "connection",
        )
        .route(Route::Connection);

pub(super) fn client_getname(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    let name = call.client().name.clone();
    if name.is_empty() {
        call.reply.null();
    } else {
        call.reply.bulk(&name);
    }
    Ok(Answer::Now)
}

pub(super) const CLIENT_SETINFO: Command<ConnHandler> =
    command("SETINFO", exactly(4), client_setinfo as ConnHandler)
        .flags(NOSCRIPT | LOADING | STALE)
        .acl(acl::CONNECTION)
        .doc(
            "Records the name or version of the client library.",
            "O(1)",
            "7.2.0",
            "connection",
        )
        .args(&[one_of(
            "attr",
            &[
                string("libname").token("LIB-NAME"),
                string("libver").token("LIB-VER"),
            ],
        )])
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .route(Route::Connection);

pub(super) fn client_setinfo(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let value = args[3].to_vec();
    if args[2].eq_ignore_ascii_case(b"LIB-NAME") {
        check_attribute(&lossless::text(args[2]), &value)?;
        call.client_mut().lib_name = value;
    } else if args[2].eq_ignore_ascii_case(b"LIB-VER") {
        check_attribute(&lossless::text(args[2]), &value)?;
        call.client_mut().lib_version = value;
    } else {
        return Err(CommandError::err(format_args!(
            "Unrecognized option '{}'",
            lossless::text(args[2])
        )));
    }
    call.reply.ok();
    Ok(Answer::Now)
}

pub(super) const CLIENT_REPLY: Command<ConnHandler> =
    command("REPLY", exactly(3), client_reply as ConnHandler)
        .flags(NOSCRIPT | LOADING | STALE)
        .acl(acl::CONNECTION)
        .doc(
            "Turns replies on or off, or skips one.",
            "O(1)",
            "3.2.0",
            "connection",
        )
        .args(&[one_of(
            "action",
            &[word("on", "ON"), word("off", "OFF"), word("skip", "SKIP")],
        )])
        .route(Route::Connection);

/// The mode holds for this command already: only ON is answered.
pub(super) fn client_reply(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let client = call.client_mut();
    if args[2].eq_ignore_ascii_case(b"ON") {
        client.reply_mode = ReplyMode::On;
        call.reply.ok();
    } else if args[2].eq_ignore_ascii_case(b"OFF") {
        client.reply_mode = ReplyMode::Off;
    } else if args[2].eq_ignore_ascii_case(b"SKIP") {
        if client.reply_mode != ReplyMode::Off {
            client.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(CommandError::Syntax);
    }
    Ok(Answer::Now)
}

pub(super) const CLIENT_NO_EVICT: Command<ConnHandler> =
    command("NO-EVICT", exactly(3), client_no_evict as ConnHandler)
        .flags(ADMIN | NOSCRIPT | LOADING | STALE)
        .acl(acl::CONNECTION)
        .doc(
            "Exempts this connection from client eviction.",
            "O(1)",
            "7.0.0",
            "connection",
        )
        .args(&[one_of("enabled", &[word("on", "ON"), word("off", "OFF")])])
        .route(Route::Connection);

pub(super) fn client_no_evict(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    call.client_mut().no_evict = on_off(args[2])?;
    call.reply.ok();
    Ok(Answer::Now)
}

pub(super) const CLIENT_NO_TOUCH: Command<ConnHandler> =
    command("NO-TOUCH", exactly(3), client_no_touch as ConnHandler)
        .flags(NOSCRIPT | LOADING | STALE)
        .acl(acl::CONNECTION)
        .doc(
            "Stops this client's commands from refreshing keys' last access.",
            "O(1)",
            "7.2.0",
            "connection",
        )
        .args(&[one_of("enabled", &[word("on", "ON"), word("off", "OFF")])])
        .route(Route::Connection);

pub(super) fn client_no_touch(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    call.client_mut().no_touch = on_off(args[2])?;
    call.reply.ok();
    Ok(Answer::Now)
}
