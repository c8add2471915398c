//! ACL GETUSER, DRYRUN, LOG.

use super::{Answer, Call, ConnHandler, Result};
use crate::acl::hex;
use crate::acl::selector::Selector;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::lossless;
use ringwood_protocol::number::parse_i64;
use ringwood_protocol::reply::Reply;
use ringwood_shard::ctx::Args;

pub(super) const ACL_GETUSER: Command<ConnHandler> =
    command("GETUSER", exactly(3), getuser as ConnHandler)
        .flags(ADMIN | NOSCRIPT | LOADING | STALE)
        .doc(
            "Shows one user's rules.",
            "O(N). Where N is the number of password, command and pattern rules that the user has.",
            "6.0.0",
            "server",
        )
        .history(&[
            ("6.2.0", "Patterns for Pub/Sub channels."),
            (
                "7.0.0",
                "Selectors; patterns of keys and channels are shown as rules, no longer as lists.",
            ),
        ])
        .args(&[string("username")])
        .route(Route::Connection);

fn getuser(call: &mut Call<'_>, args: Args<'_>) -> Result {
    let users = call.core.shared.acl.users();
    let reply = &mut call.reply;
    let Some(user) = users.get(args[2]) else {
        reply.null();
        return Ok(Answer::Now);
    };
    reply.map(6);
    reply.bulk_str("flags");
    let flags = user.flags();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk_str(flag));
    reply.bulk_str("passwords");
    reply.array(user.passwords.len());
    user.passwords.iter().for_each(|p| reply.bulk_str(&hex(p)));
    write_selector(reply, &user.root);
    reply.bulk_str("selectors");
    reply.array(user.selectors.len());
    for selector in &user.selectors {
        reply.map(3);
        write_selector(reply, selector);
    }
    Ok(Answer::Now)
}

fn write_selector(reply: &mut Reply<'_>, selector: &Selector) {
    reply.bulk_str("commands");
    reply.bulk_str(&selector.describe_commands());
    reply.bulk_str("keys");
    reply.bulk(&selector.describe_keys());
    reply.bulk_str("channels");
    reply.bulk(&selector.describe_channels());
}

pub(super) const ACL_DRYRUN: Command<ConnHandler> =
    command("DRYRUN", at_least(4), dryrun as ConnHandler)
        .flags(ADMIN | NOSCRIPT | LOADING | STALE)
        .doc(
            "Tells whether a user could run a command, without running it.",
            "O(1).",
            "7.0.0",
            "server",
        )
        .args(&[
            string("username"),
            string("command"),
            string("arg").optional().multiple(),
        ])
        .route(Route::Connection);

fn dryrun(call: &mut Call<'_>, args: Args<'_>) -> Result {
    let users = call.core.shared.acl.users();
    let shown = |word: &[u8]| lossless::text(word).into_owned();
    let user = users
        .get(args[2])
        .ok_or_else(|| CommandError::err(format!("User '{}' not found", shown(args[2]))))?;
    let words = &args[3..];
    let entry = call
        .core
        .registry
        .resolve(words)
        .ok_or_else(|| CommandError::err(format!("Command '{}' not found", shown(words[0]))))?;
    if !entry.spec.arity_fits(words.len()) {
        return Err(CommandError::WrongArity(entry.name.clone()));
    }
    match user.check(entry, words) {
        Ok(()) => call.reply.ok(),
        Err(denied) => {
            let mut text = Vec::new();
            lossless::extend(&mut text, &denied.text(user, entry, words, true));
            call.reply.bulk(&text);
        }
    }
    Ok(Answer::Now)
}

pub(super) const ACL_LOG: Command<ConnHandler> = command("LOG", at_least(2), log as ConnHandler)
    .flags(ADMIN | NOSCRIPT | LOADING | STALE)
    .doc(
        "Lists refused commands and failed logins.",
        "O(N) with N being the number of entries shown.",
        "6.0.0",
        "server",
    )
    .history(&[(
        "7.2.0",
        "Entries have an ID and the times of creation and last update.",
    )])
    .args(&[one_of("operation", &[integer("count"), word("reset", "RESET")]).optional()])
    .route(Route::Connection);

/// Entries shown where no number is asked for.
const SHOWN: usize = 10;

fn log(call: &mut Call<'_>, args: Args<'_>) -> Result {
    let count = match args {
        [_, _] => SHOWN,
        [_, _, word] if word.eq_ignore_ascii_case(b"RESET") => {
            call.core.shared.acl.log().reset();
            call.reply.ok();
            return Ok(Answer::Now);
        }
        [_, _, count] => {
            let count = parse_i64(count).ok_or(CommandError::NotInteger)?;
            usize::try_from(count).unwrap_or(0)
        }
        _ => return Err(crate::commands::wrong_words(args)),
    };
    let entries = call.core.shared.acl.log().newest(count);
    let now_ms = call.core.now.unix_ms;
    let reply = &mut call.reply;
    reply.array(entries.len());
    for entry in entries {
        reply.map(10);
        reply.bulk_str("count");
        reply.integer(entry.count as i64);
        for (field, value) in [
            ("reason", entry.event.reason.name().as_bytes()),
            ("context", entry.event.context.name().as_bytes()),
            ("object", &entry.event.object),
            ("username", &entry.event.user),
        ] {
            reply.bulk_str(field);
            reply.bulk(value);
        }
        reply.bulk_str("age-seconds");
        reply.double_text(&((now_ms - entry.created) as f64 / 1000.0).to_string());
        reply.bulk_str("client-info");
        reply.bulk_str(&entry.event.client);
        for (field, value) in [
            ("entry-id", entry.id as i64),
            ("timestamp-created", entry.created),
            ("timestamp-last-updated", entry.updated),
        ] {
            reply.bulk_str(field);
            reply.integer(value);
        }
    }
    Ok(Answer::Now)
}
