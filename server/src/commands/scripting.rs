//! EVAL, EVALSHA, their read-only forms, SCRIPT. How scripts run: [`crate::scripts`].

use crate::scripts::debug::Mode;

use super::{Answer, Call, ConnHandler, container, help_reply};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_shard::ctx::Args;

pub const COMMANDS: &[Command<ConnHandler>] = &[EVAL, EVAL_RO, EVALSHA, EVALSHA_RO, SCRIPT];

const EVAL: Command<ConnHandler> = command("EVAL", at_least(3), eval as ConnHandler)
    .flags(NOSCRIPT | STALE | SKIP_MONITOR | MAY_REPLICATE | NO_MANDATORY_KEYS | MOVABLEKEYS | LUA)
    .acl(acl::SCRIPTING)
    .keys(&[at(2)
        .keynum(0, 1, 1)
        .flags(RW | ACCESS | UPDATE)
        .notes("We cannot tell how the keys will be used so we assume the worst, RW and UPDATE")])
    .doc(
        "Runs a Lua script.",
        "Depends on the script that is executed.",
        "2.6.0",
        "scripting",
    )
    .args(&[
        string("script"),
        integer("numkeys"),
        key("key", 0).optional().multiple(),
        string("arg").optional().multiple(),
    ])
    .route(Route::Connection);

const EVAL_RO: Command<ConnHandler> = command("EVAL_RO", at_least(3), eval as ConnHandler)
    .flags(READONLY | NOSCRIPT | STALE | SKIP_MONITOR | NO_MANDATORY_KEYS | MOVABLEKEYS | LUA)
    .acl(acl::SCRIPTING)
    .keys(&[at(2)
        .keynum(0, 1, 1)
        .flags(RO | ACCESS)
        .notes("We cannot tell how the keys will be used so we assume the worst, RO and ACCESS")])
    .doc(
        "Runs a Lua script that only reads.",
        "Depends on the script that is executed.",
        "7.0.0",
        "scripting",
    )
    .args(&[
        string("script"),
        integer("numkeys"),
        key("key", 0).optional().multiple(),
        string("arg").optional().multiple(),
    ])
    .route(Route::Connection);

const EVALSHA: Command<ConnHandler> = command("EVALSHA", at_least(3), eval as ConnHandler)
    .flags(NOSCRIPT | STALE | SKIP_MONITOR | MAY_REPLICATE | NO_MANDATORY_KEYS | MOVABLEKEYS | LUA)
    .acl(acl::SCRIPTING)
    .keys(&[at(2).keynum(0, 1, 1).flags(RW | ACCESS | UPDATE)])
    .doc(
        "Runs a cached Lua script by its SHA1.",
        "Depends on the script that is executed.",
        "2.6.0",
        "scripting",
    )
    .args(&[
        string("sha1"),
        integer("numkeys"),
        key("key", 0).optional().multiple(),
        string("arg").optional().multiple(),
    ])
    .route(Route::Connection);

const EVALSHA_RO: Command<ConnHandler> = command("EVALSHA_RO", at_least(3), eval as ConnHandler)
    .flags(READONLY | NOSCRIPT | STALE | SKIP_MONITOR | NO_MANDATORY_KEYS | MOVABLEKEYS | LUA)
    .acl(acl::SCRIPTING)
    .keys(&[at(2).keynum(0, 1, 1).flags(RO | ACCESS)])
    .doc(
        "Runs a cached Lua script that only reads, by its SHA1.",
        "Depends on the script that is executed.",
        "7.0.0",
        "scripting",
    )
    .args(&[
        string("sha1"),
        integer("numkeys"),
        key("key", 0).optional().multiple(),
        string("arg").optional().multiple(),
    ])
    .route(Route::Connection);

const SCRIPT: Command<ConnHandler> = command("SCRIPT", at_least(2), container as ConnHandler)
    .doc(
        "Commands about Lua scripts.",
        "Depends on subcommand.",
        "2.6.0",
        "scripting",
    )
    .subcommands(&[
        SCRIPT_DEBUG,
        SCRIPT_EXISTS,
        SCRIPT_FLUSH,
        SCRIPT_HELP,
        SCRIPT_KILL,
        SCRIPT_LOAD,
        SCRIPT_SHOW,
    ])
    .route(Route::Connection);

const SCRIPT_DEBUG: Command<ConnHandler> =
    command("DEBUG", exactly(3), script_debug as ConnHandler)
        .flags(NOSCRIPT)
        .acl(acl::SCRIPTING)
        .doc(
            "Sets the debug mode of server-side Lua scripts.",
            "O(1)",
            "3.2.0",
            "scripting",
        )
        .args(&[one_of(
            "mode",
            &[word("yes", "YES"), word("sync", "SYNC"), word("no", "NO")],
        )])
        .route(Route::Connection);

const SCRIPT_EXISTS: Command<ConnHandler> = command("EXISTS", at_least(3), script_exists as ConnHandler)
    .flags(NOSCRIPT | BARRIER)
    .acl(acl::SCRIPTING)
    .doc("Tells which scripts are in the cache.", "O(N) with N being the number of scripts to check (so checking a single script is an O(1) operation).", "2.6.0", "scripting")
    .args(&[string("sha1").multiple()])
    .tips(&["request_policy:all_shards", "response_policy:agg_logical_and"])
    .route(Route::Connection);

const SCRIPT_FLUSH: Command<ConnHandler> =
    command("FLUSH", at_least(2), script_flush as ConnHandler)
        .flags(NOSCRIPT | BARRIER)
        .acl(acl::SCRIPTING)
        .doc(
            "Empties the script cache.",
            "O(N) with N being the number of scripts in cache",
            "2.6.0",
            "scripting",
        )
        .history(&[("6.2.0", "Options `ASYNC` and `SYNC`.")])
        .args(&[one_of(
            "flush-type",
            &[word("async", "ASYNC"), word("sync", "SYNC")],
        )
        .since("6.2.0")
        .optional()])
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .route(Route::Connection);

const SCRIPT_HELP: Command<ConnHandler> = command("HELP", exactly(2), script_help as ConnHandler)
    .flags(LOADING | STALE)
    .acl(acl::SCRIPTING)
    .doc("Lists the subcommands.", "O(1)", "5.0.0", "scripting")
    .route(Route::Connection);

const SCRIPT_KILL: Command<ConnHandler> = command("KILL", exactly(2), script_kill as ConnHandler)
    .flags(NOSCRIPT | ALLOW_BUSY)
    .acl(acl::SCRIPTING)
    .doc(
        "Stops the running script if it has written nothing.",
        "O(1)",
        "2.6.0",
        "scripting",
    )
    .tips(&["request_policy:all_shards", "response_policy:one_succeeded"])
    .route(Route::Connection);

const SCRIPT_LOAD: Command<ConnHandler> = command("LOAD", exactly(3), script_load as ConnHandler)
    .flags(NOSCRIPT | STALE)
    .acl(acl::SCRIPTING)
    .doc(
        "Puts a script into the cache.",
        "O(N) with N being the length in bytes of the script body.",
        "2.6.0",
        "scripting",
    )
    .args(&[string("script")])
    .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
    .route(Route::Connection);

const SCRIPT_SHOW: Command<ConnHandler> = command("SHOW", exactly(3), script_show as ConnHandler)
    .flags(NOSCRIPT | STALE)
    .acl(acl::SCRIPTING)
    .doc(
        "Returns a cached script's text.",
        "O(1).",
        "8.0.0",
        "scripting",
    )
    .args(&[string("sha1")])
    .route(Route::Connection);

/// [`crate::core::Core::eval`] runs it: a script's core is that of its keys.
fn eval(_: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    Err(CommandError::fixed(
        "ERR This Redis command is not allowed here",
    ))
}

fn script_debug(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let waits = call.client().is_waiting() || !call.reply.is_first();
    if waits {
        let text = "SCRIPT DEBUG must be called outside a pipeline";
        return Err(CommandError::err(text));
    }
    let mode = match args[2].to_ascii_uppercase().as_slice() {
        b"YES" => Mode::Yes,
        b"SYNC" => Mode::Sync,
        b"NO" => Mode::No,
        _ => return Err(CommandError::err("Use SCRIPT DEBUG YES/SYNC/NO")),
    };
    call.client_mut().debug.mode = mode;
    call.reply.ok();
    Ok(Answer::Now)
}

fn script_exists(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    call.reply.array(args.len() - 2);
    for word in &args[2..] {
        let found = call.core.script_exists(word);
        call.reply.integer(found as i64);
    }
    Ok(Answer::Now)
}

fn script_flush(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    match args[2..] {
        [] => {}
        [mode] if mode.eq_ignore_ascii_case(b"SYNC") || mode.eq_ignore_ascii_case(b"ASYNC") => {}
        _ => {
            let text = "SCRIPT FLUSH only support SYNC|ASYNC option";
            return Err(CommandError::err(text));
        }
    }
    call.core.script_flush();
    call.reply.ok();
    Ok(Answer::Now)
}

fn script_kill(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    call.core.shared.scripts.busy.kill(false)?;
    call.reply.ok();
    Ok(Answer::Now)
}

fn script_load(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let sha = call.core.script_load(args[2])?;
    call.reply.bulk(sha.hex().as_bytes());
    Ok(Answer::Now)
}

fn script_show(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let text = call.core.script_text(args[2]);
    let text = text.ok_or(CommandError::fixed("NOSCRIPT No matching script."))?;
    call.reply.bulk(&text);
    Ok(Answer::Now)
}

fn script_help(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    help_reply(
        &mut call.reply,
        args,
        &[
            "DEBUG (YES|SYNC|NO)",
            "    Set the debug mode for subsequent scripts executed.",
            "EXISTS <sha1> [<sha1> ...]",
            "    Return information about the existence of the scripts in the script cache.",
            "FLUSH [ASYNC|SYNC]",
            "    Flush the Lua scripts cache. Very dangerous on read-only replicas.",
            "KILL",
            "    Kill the currently executing Lua script.",
            "LOAD <script>",
            "    Load a script into the scripts cache without executing it.",
            "SHOW <sha1>",
            "    Show a script in the scripts cache.",
        ],
    );
    Ok(Answer::Now)
}
