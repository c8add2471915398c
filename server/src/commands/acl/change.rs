//! ACL SETUSER, DELUSER, LOAD, SAVE.

use super::{Answer, Call, ConnHandler, Result};
use crate::acl::rules::join_selectors;
use crate::acl::{DEFAULT, User, Users, file};
use crate::config::enums::AclPubsubDefault;
use crate::config::system_error;
use crate::core::Core;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::lossless;
use ringwood_protocol::reply::Reply;
use ringwood_shard::ctx::Args;
use std::path::PathBuf;

/// Has all cores take the new users over, and answers.
fn publish(call: &mut Call<'_>, answer: impl FnOnce(&mut Reply<'_>) + 'static) -> Answer {
    call.gather(Core::take_users, move |_, reply, _| answer(reply))
}

fn all_channels(call: &Call<'_>) -> bool {
    call.core.config.acl_pubsub_default == AclPubsubDefault::Allchannels
}

pub(super) const ACL_SETUSER: Command<ConnHandler> =
    command("SETUSER", at_least(3), setuser as ConnHandler)
        .flags(ADMIN | NOSCRIPT | LOADING | STALE)
        .doc(
            "Makes or changes a user.",
            "O(N). Where N is the number of rules provided.",
            "6.0.0",
            "server",
        )
        .history(&[
            ("6.2.0", "Patterns for Pub/Sub channels."),
            ("7.0.0", "Selectors and permissions by key."),
        ])
        .args(&[string("username"), string("rule").optional().multiple()])
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .route(Route::Connection);

fn setuser(call: &mut Call<'_>, args: Args<'_>) -> Result {
    let name = args[2];
    if name.iter().any(|b| b.is_ascii_whitespace() || *b == 0) {
        return Err(CommandError::err(
            "Usernames can't contain spaces or null characters",
        ));
    }
    let rules = join_selectors(&args[3..]).map_err(|open| {
        let open = lossless::text(&open).into_owned();
        CommandError::err(format!(
            "Unmatched parenthesis in acl selector starting at '{open}'."
        ))
    })?;
    let all_channels = all_channels(call);
    call.core.shared.acl.change(|users| {
        let mut user = match users.get(name) {
            Some(user) => User::clone(user),
            None => User::new(name, all_channels),
        };
        for rule in &rules {
            user.apply(rule, all_channels).map_err(|refusal| {
                let rule = lossless::text(rule);
                let text = refusal.text();
                CommandError::err(format!("Error in ACL SETUSER modifier '{rule}': {text}"))
            })?;
        }
        users.put(user);
        Ok::<(), CommandError>(())
    })?;
    Ok(publish(call, |reply| reply.ok()))
}

pub(super) const ACL_DELUSER: Command<ConnHandler> =
    command("DELUSER", at_least(3), deluser as ConnHandler)
        .flags(ADMIN | NOSCRIPT | LOADING | STALE)
        .doc(
            "Deletes users and closes their connections.",
            "O(1) amortized time considering the typical user.",
            "6.0.0",
            "server",
        )
        .args(&[string("username").multiple()])
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .route(Route::Connection);

fn deluser(call: &mut Call<'_>, args: Args<'_>) -> Result {
    let names = &args[2..];
    if names.contains(&DEFAULT) {
        return Err(CommandError::err("The 'default' user cannot be removed"));
    }
    let deleted = call.core.shared.acl.change(|users| {
        let deleted = names.iter().filter(|name| users.remove(name)).count();
        Ok::<usize, CommandError>(deleted)
    })?;
    Ok(publish(call, move |reply| reply.integer(deleted as i64)))
}

fn acl_file(call: &Call<'_>) -> std::result::Result<PathBuf, CommandError> {
    if call.core.config.aclfile.is_empty() {
        return Err(CommandError::err(
            "This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER \
             command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store \
             users in the Redis configuration.",
        ));
    }
    Ok(file::path(&call.core.config))
}

pub(super) const ACL_LOAD: Command<ConnHandler> = command("LOAD", exactly(2), load as ConnHandler)
    .flags(ADMIN | NOSCRIPT | LOADING | STALE)
    .doc(
        "Reads the users from the ACL file again.",
        "O(N). Where N is the number of configured users.",
        "6.0.0",
        "server",
    )
    .route(Route::Connection);

fn load(call: &mut Call<'_>, _: Args<'_>) -> Result {
    let path = acl_file(call)?;
    let all_channels = all_channels(call);
    call.core.shared.acl.change(|users| {
        *users = file::load(&path, users, all_channels).map_err(CommandError::err)?;
        Ok::<(), CommandError>(())
    })?;
    Ok(publish(call, |reply| reply.ok()))
}

pub(super) const ACL_SAVE: Command<ConnHandler> = command("SAVE", exactly(2), save as ConnHandler)
    .flags(ADMIN | NOSCRIPT | LOADING | STALE)
    .doc(
        "Writes the users to the ACL file.",
        "O(N). Where N is the number of configured users.",
        "6.0.0",
        "server",
    )
    .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
    .route(Route::Connection);

fn save(call: &mut Call<'_>, _: Args<'_>) -> Result {
    let path = acl_file(call)?;
    let users: &Users = &call.core.shared.acl.users();
    file::save(&path, users).map_err(|error| {
        tracing::warn!("Writing the ACL file {}: {}", path.display(), system_error(&error));
        CommandError::err("There was an error trying to save the ACLs. Please check the server logs for more information")
    })?;
    call.reply.ok();
    Ok(Answer::Now)
}
