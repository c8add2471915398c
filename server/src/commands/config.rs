//! CONFIG: the settings in use. What a directive is and which values it takes, [`crate::config`] knows; here is what a change
//! does to the running server.
//!
//! A SET is judged on the newest snapshot, acts where a setting needs more than being read, becomes the newest snapshot, and
//! is answered when every core has taken it over. Only one SET is under way at a time: the snapshot's lock is held from
//! judging to publishing.

use super::{Answer, Call, ConnHandler, help_reply, lock};
use crate::client::Client;
use crate::config::table::PENDING;
use crate::config::{Config, Directive, Extent, Situation, log};
use crate::core::{Core, Shared};
use crate::process::{oom, title};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_shard::ctx::Args;
use std::net::SocketAddr;

pub const COMMANDS: &[Command<ConnHandler>] = &[CONFIG];

const CONFIG: Command<ConnHandler> =
    command("CONFIG", at_least(2), super::container as ConnHandler)
        .doc(
            "Commands about the server's settings.",
            "Depends on subcommand.",
            "2.0.0",
            "server",
        )
        .subcommands(&[
            CONFIG_GET,
            CONFIG_HELP,
            CONFIG_RESETSTAT,
            CONFIG_REWRITE,
            CONFIG_SET,
        ])
        .route(Route::Connection);

const CONFIG_GET: Command<ConnHandler> = command("GET", at_least(3), get as ConnHandler)
    .flags(ADMIN | NOSCRIPT | LOADING | STALE | BARRIER)
    .doc(
        "Returns settings and their values.",
        "O(N) when N is the number of configuration parameters provided",
        "2.0.0",
        "server",
    )
    .history(&[("7.0.0", "Takes several patterns.")])
    .args(&[string("parameter").multiple()])
    .route(Route::Connection);

const CONFIG_HELP: Command<ConnHandler> = command("HELP", exactly(2), help as ConnHandler)
    .flags(LOADING | STALE)
    .doc("Lists the subcommands.", "O(1)", "5.0.0", "server")
    .route(Route::Connection);

const CONFIG_RESETSTAT: Command<ConnHandler> =
    command("RESETSTAT", exactly(2), resetstat as ConnHandler)
        .flags(ADMIN | NOSCRIPT | LOADING | STALE | BARRIER)
        .doc(
            "Sets the statistics back to zero.",
            "O(1)",
            "2.0.0",
            "server",
        )
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .route(Route::Connection);

const CONFIG_REWRITE: Command<ConnHandler> = command("REWRITE", exactly(2), rewrite as ConnHandler)
    .flags(ADMIN | NOSCRIPT | LOADING | STALE | BARRIER)
    .doc(
        "Writes the settings in use to the configuration file.",
        "O(1)",
        "2.8.0",
        "server",
    )
    .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
    .route(Route::Connection);

const CONFIG_SET: Command<ConnHandler> = command("SET", at_least(4), set as ConnHandler)
    .flags(ADMIN | NOSCRIPT | LOADING | STALE | BARRIER)
    .doc(
        "Changes settings while the server runs.",
        "O(N) when N is the number of configuration parameters provided",
        "2.0.0",
        "server",
    )
    .history(&[("7.0.0", "Sets several parameters at once.")])
    .args(&[block("data", &[string("parameter"), string("value")]).multiple()])
    .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
    .route(Route::Connection);

type Result = std::result::Result<Answer, CommandError>;

fn get(call: &mut Call<'_>, args: Args<'_>) -> Result {
    let config = lock(&call.core.shared.config).clone();
    let found = config.get(&args[2..]);
    call.reply.map(found.len());
    for (name, value) in found {
        call.reply.bulk(&name);
        call.reply.bulk(&value);
    }
    Ok(Answer::Now)
}

/// The client is on this machine: over the loopback, or a Unix socket.
pub fn is_local(client: &Client) -> bool {
    client
        .peer
        .parse::<SocketAddr>()
        .map_or(true, |address| address.ip().is_loopback())
}

fn set(call: &mut Call<'_>, args: Args<'_>) -> Result {
    let (pairs, rest) = args[2..].as_chunks::<2>();
    if !rest.is_empty() {
        return Err(CommandError::Syntax);
    }
    let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|[name, value]| (*name, *value)).collect();
    let situation = Situation {
        loading: call.core.loading,
        local_client: is_local(call.client()),
    };
    let shared = call.core.shared.clone();
    let mut newest = lock(&shared.config);
    let change = newest.change(&pairs, situation)?;
    let without_effect: Vec<&str> = change
        .changed()
        .filter(|d| d.has(PENDING))
        .map(|d| d.name)
        .collect();
    let of_memory = change.changed().any(|d| d.name == "maxmemory");
    let published = change.apply(&mut |directive, config| act(&shared, directive, config))?;
    let limit = of_memory.then_some(published.maxmemory);
    *newest = published;
    if pairs
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case(b"requirepass"))
    {
        shared.acl.change(|users| {
            users.set_default_password(&newest.requirepass);
            Ok::<(), CommandError>(())
        })?;
    }
    drop(newest);
    let used = shared.memory.used();
    if let Some(limit) = limit.filter(|limit| *limit > 0 && *limit < used) {
        tracing::warn!(
            "WARNING: the new maxmemory value set via CONFIG SET ({limit}) is smaller than the current memory usage \
             ({used}). This will result in key eviction and/or the inability to accept new write commands depending \
             on the maxmemory-policy."
        );
    }
    if !without_effect.is_empty() {
        tracing::warn!(
            "CONFIG SET of directives that have no effect in Ringwood yet: {}",
            without_effect.join(", ")
        );
    }
    Ok(call.gather(Core::apply_config, |core, reply, _| {
        core.follow_appendonly();
        reply.ok();
    }))
}

/// Does what a new value asks for beyond being read: must fail without effect, or be undone by a call with the old value.
fn act(shared: &Shared, directive: &Directive, config: &Config) -> std::result::Result<(), String> {
    match directive.name {
        "loglevel" => log::set_level(config.loglevel),
        "log-format" | "log-timestamp-format" => log::set_form(config),
        "proc-title-template" => title::follow(config, shared.loaded.file.as_deref()),
        "oom-score-adj" | "oom-score-adj-values" => oom::follow(config).map_err(|error| {
            tracing::warn!("Unable to write oom_score_adj: {error}");
            "Failed to apply new oom_score_adj configuration, check server logs."
        })?,
        "appendonly" if config.appendonly && !shared.aof.is_on() => {
            crate::aof::try_folder(&shared.aof.disk, config).map_err(|error| {
                tracing::warn!("Can't open the append-only file: {error}");
                "Unable to turn on AOF. Check server logs."
            })?;
        }
        "maxclients" => raise_descriptor_limit(config.maxclients)?,
        "port" | "bind" => {
            let moved = lock(&shared.listening).follow(config);
            moved.map_err(|error| {
                tracing::warn!("{error}");
                match directive.name {
                    "port" => "Unable to listen on this port. Check server logs.",
                    _ => "Failed to bind to specified addresses.",
                }
            })?;
        }
        _ => {}
    }
    Ok(())
}

/// Descriptors that the process uses beside those of clients: listeners, rings, the log, data files.
const RESERVED_DESCRIPTORS: u64 = 64;

/// Makes the process's limit of open files large enough for so many clients.
fn raise_descriptor_limit(clients: u32) -> std::result::Result<(), String> {
    let wanted = u64::from(clients) + RESERVED_DESCRIPTORS;
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a local that is large enough.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(std::io::Error::last_os_error().to_string());
    }
    if limit.rlim_cur >= wanted {
        return Ok(());
    }
    let raised = libc::rlimit {
        rlim_cur: wanted,
        rlim_max: limit.rlim_max.max(wanted),
    };
    let within = libc::rlimit {
        rlim_cur: wanted.min(limit.rlim_max),
        ..limit
    };
    // Beyond the hard limit only with the privilege to raise that too.
    // SAFETY: both point to locals that are only read.
    let done = unsafe {
        libc::setrlimit(libc::RLIMIT_NOFILE, &raised) == 0
            || (within.rlim_cur == wanted && libc::setrlimit(libc::RLIMIT_NOFILE, &within) == 0)
    };
    if done {
        return Ok(());
    }
    Err(format!(
        "The operating system is not able to handle the specified number of clients, try with {}",
        limit.rlim_cur.saturating_sub(RESERVED_DESCRIPTORS)
    ))
}

fn rewrite(call: &mut Call<'_>, _: Args<'_>) -> Result {
    rewrite_file(call, Extent::Changed)
}
/// For DEBUG too, which wants every directive in the file.
pub fn rewrite_file(call: &mut Call<'_>, extent: Extent) -> Result {
    let shared = &call.core.shared;
    let config = lock(&shared.config).clone();
    // With an ACL file the users are there.
    let users: Option<Vec<Vec<u8>>> = config.aclfile.is_empty().then(|| {
        let users = shared.acl.users();
        users.iter().map(|user| user.describe()).collect()
    });
    let file = shared.loaded.file.as_deref();
    match crate::config::rewrite(file, &config, users.as_deref(), extent) {
        Ok(()) => {
            tracing::info!("CONFIG REWRITE executed with success.");
            call.reply.ok();
            Ok(Answer::Now)
        }
        Err(error) => {
            tracing::warn!("CONFIG REWRITE failed: {error}");
            Err(error.into())
        }
    }
}

fn resetstat(call: &mut Call<'_>, _: Args<'_>) -> Result {
    Ok(call.gather(Core::reset_stats, |_, reply, _| reply.ok()))
}

fn help(call: &mut Call<'_>, args: Args<'_>) -> Result {
    help_reply(
        &mut call.reply,
        args,
        &[
            "GET <pattern> [<pattern> ...]",
            "    Shows the settings whose names match.",
            "SET <directive> <value> [<directive> <value> ...]",
            "    Changes settings, all or none.",
            "RESETSTAT",
            "    Sets INFO's statistics back to zero.",
            "REWRITE",
            "    Writes the settings in use to the configuration file.",
        ],
    );
    Ok(Answer::Now)
}
