//! TRACKING, CACHING, TRACKINGINFO, GETREDIR: see [`crate::tracking`].

use super::{Answer, Args, Call, CommandError, ConnHandler, on_off};
use crate::client::{Client, Life};
use crate::core::Core;
use crate::tracking::Tracker;
use ringwood_protocol::command::*;
use ringwood_protocol::lossless;
use ringwood_protocol::number::parse_i64;
use ringwood_shard::tracking::Reader;

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

/// What the words ask for.
#[derive(Default)]
struct Wish {
    on: bool,
    redirect: Option<u64>,
    tracker: Tracker,
}

fn parse(args: Args<'_>) -> Result<Wish, CommandError> {
    let mut wish = Wish::default();
    let mut options = args[3..].iter();
    while let Some(word) = options.next() {
        match word.to_ascii_lowercase().as_slice() {
            b"redirect" => {
                let id = options.next().ok_or(CommandError::Syntax)?;
                if wish.redirect.is_some() {
                    return Err(CommandError::fixed(
                        "ERR A client can only redirect to a single other client",
                    ));
                }
                let id = parse_i64(id).ok_or(CommandError::NotInteger)?;
                // No client has the number 0.
                wish.redirect = Some(u64::try_from(id).unwrap_or(0));
            }
            b"bcast" => wish.tracker.broadcast = true,
            b"optin" => wish.tracker.opt_in = true,
            b"optout" => wish.tracker.opt_out = true,
            b"noloop" => wish.tracker.no_loop = true,
            b"prefix" => {
                let prefix = options.next().ok_or(CommandError::Syntax)?;
                wish.tracker.prefixes.push(Box::from(*prefix));
            }
            _ => return Err(CommandError::Syntax),
        }
    }
    wish.on = on_off(args[2])?;
    Ok(wish)
}

/// Whether what is asked for fits together, and what the client has already.
fn check(wanted: &Tracker, has: Option<&Tracker>) -> Result<(), CommandError> {
    if !wanted.prefixes.is_empty() && !wanted.broadcast {
        return Err(CommandError::fixed(
            "ERR PREFIX option requires BCAST mode to be enabled",
        ));
    }
    if has.is_some_and(|has| has.broadcast != wanted.broadcast) {
        return Err(CommandError::fixed(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it \
             with a different mode.",
        ));
    }
    if wanted.broadcast && (wanted.opt_in || wanted.opt_out) {
        return Err(CommandError::fixed(
            "ERR OPTIN and OPTOUT are not compatible with BCAST",
        ));
    }
    if wanted.opt_in && wanted.opt_out {
        return Err(CommandError::fixed(
            "ERR You can't specify both OPTIN mode and OPTOUT mode",
        ));
    }
    if has.is_some_and(|has| wanted.opt_in && has.opt_out || wanted.opt_out && has.opt_in) {
        return Err(CommandError::fixed(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it \
             with a different mode.",
        ));
    }
    let overlap = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
    let error = |new: &[u8], what: &str, other: &[u8]| {
        CommandError::err(format_args!(
            "Prefix '{}' overlaps with {what} prefix '{}'. Prefixes for a single client must not overlap.",
            lossless::text(new),
            lossless::text(other)
        ))
    };
    for (at, prefix) in wanted.prefixes.iter().enumerate() {
        let existing = has.map_or(&[][..], |has| &has.prefixes);
        if let Some(other) = existing.iter().find(|p| overlap(prefix, p)) {
            return Err(error(prefix, "an existing", other));
        }
        let others = &wanted.prefixes[at + 1..];
        if let Some(other) = others.iter().find(|p| overlap(prefix, p)) {
            return Err(error(prefix, "another provided", other));
        }
    }
    Ok(())
}

pub(super) fn client_tracking(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let Wish {
        on,
        redirect,
        mut tracker,
    } = parse(args)?;
    let conn = call.conn;
    if on {
        check(&tracker, call.client().tracker.as_deref())?;
        let given = tracker.prefixes.len();
        if let Some(has) = call.client().tracker.as_deref() {
            tracker.prefixes.splice(..0, has.prefixes.iter().cloned());
        }
        if tracker.broadcast && given == 0 {
            // All keys.
            let all: Box<[u8]> = Box::default();
            if !tracker.prefixes.contains(&all) {
                tracker.prefixes.push(all);
            }
        }
    } else if redirect.is_none() {
        call.core.end_tracking(conn);
        call.reply.ok();
        return Ok(Answer::Now);
    }
    let (core, id) = (call.core.id, call.client().id);
    let (any, broadcast) = match on {
        true => call.core.tracker_needs(tracker.broadcast),
        false => (false, false),
    };
    // What follows in the pipeline is read with tracking on, on every core.
    call.client_mut().alone = true;
    let ask = move |other: &mut Core| {
        if any {
            other.note_trackers(core, any, broadcast);
        }
        let found = redirect.and_then(|id| other.clients.iter().find(|c| c.id == id));
        found.map(|c| Reader {
            core: other.id as u16,
            conn: c.conn.0,
            client: c.id,
        })
    };
    Ok(call.gather(ask, move |core, reply, found| {
        tracker.redirect = found.into_iter().flatten().next();
        let there = core
            .clients
            .get(conn)
            .is_some_and(|c| c.id == id && c.life == Life::Open);
        if redirect.is_some() && tracker.redirect.is_none() {
            reply.error("ERR The client ID you want redirect to does not exist");
        } else {
            if on && there {
                core.set_tracker(conn, tracker);
            } else if !on {
                core.end_tracking(conn);
            }
            reply.ok();
        }
        // If the others were told in vain, they hear that.
        core.tell_trackers();
    }))
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

pub(super) fn client_caching(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let tracker = call.client_mut().tracker.as_mut();
    let Some(tracker) = tracker.filter(|t| t.opt_in || t.opt_out) else {
        return Err(CommandError::fixed(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    };
    if args[2].eq_ignore_ascii_case(b"YES") {
        if !tracker.opt_in {
            return Err(CommandError::fixed(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            ));
        }
    } else if args[2].eq_ignore_ascii_case(b"NO") {
        if !tracker.opt_out {
            return Err(CommandError::fixed(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            ));
        }
    } else {
        return Err(CommandError::Syntax);
    }
    tracker.caching = true;
    call.reply.ok();
    Ok(Answer::Now)
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
    let redirect = redirection(call.client());
    call.reply.integer(redirect);
    Ok(Answer::Now)
}

/// As CLIENT LIST, GETREDIR and TRACKINGINFO show it: -1 without tracking, 0 without redirection.
pub(super) fn redirection(client: &Client) -> i64 {
    match &client.tracker {
        None => -1,
        Some(tracker) => tracker.redirect.map_or(0, |r| r.client as i64),
    }
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
    let redirect = redirection(call.client());
    let tracker = call.client().tracker.as_deref().cloned();
    let mut flags = vec![if tracker.is_some() { "on" } else { "off" }];
    let tracker = tracker.unwrap_or_default();
    let mut add = |set: bool, name| {
        if set {
            flags.push(name);
        }
    };
    add(tracker.broadcast, "bcast");
    add(tracker.opt_in, "optin");
    add(tracker.opt_in && tracker.caching, "caching-yes");
    add(tracker.opt_out, "optout");
    add(tracker.opt_out && tracker.caching, "caching-no");
    add(tracker.no_loop, "noloop");
    add(tracker.broken, "broken_redirect");
    call.reply.map(3);
    call.reply.bulk_str("flags");
    call.reply.set(flags.len());
    for flag in flags {
        call.reply.bulk_str(flag);
    }
    call.reply.bulk_str("redirect");
    call.reply.integer(redirect);
    call.reply.bulk_str("prefixes");
    call.reply.bulks(&tracker.prefixes);
    Ok(Answer::Now)
}
