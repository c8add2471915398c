//! FCALL, FCALL_RO, FUNCTION. How functions run: [`crate::scripts`]; the libraries: [`crate::scripts::functions`].

use super::{Answer, Call, ConnHandler, container};
use crate::scripts::functions::Listed;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::glob::glob_match_ignore_case;
use ringwood_protocol::lossless;
use ringwood_protocol::reply::Reply;
use ringwood_scripting::{RestorePolicy, until_nul};
use ringwood_shard::ctx::Args;

pub const COMMANDS: &[Command<ConnHandler>] = &[FCALL, FCALL_RO, FUNCTION];

const FCALL: Command<ConnHandler> = command("FCALL", at_least(3), fcall as ConnHandler)
    .flags(NOSCRIPT | STALE | SKIP_MONITOR | MAY_REPLICATE | NO_MANDATORY_KEYS | MOVABLEKEYS | LUA)
    .acl(acl::SCRIPTING)
    .keys(&[at(2)
        .keynum(0, 1, 1)
        .flags(RW | ACCESS | UPDATE)
        .notes("We cannot tell how the keys will be used so we assume the worst, RW and UPDATE")])
    .doc(
        "Calls a function.",
        "Depends on the function that is executed.",
        "7.0.0",
        "scripting",
    )
    .args(&[
        string("function"),
        integer("numkeys"),
        key("key", 0).optional().multiple(),
        string("arg").optional().multiple(),
    ])
    .route(Route::Connection);

const FCALL_RO: Command<ConnHandler> = command("FCALL_RO", at_least(3), fcall as ConnHandler)
    .flags(READONLY | NOSCRIPT | STALE | SKIP_MONITOR | NO_MANDATORY_KEYS | MOVABLEKEYS | LUA)
    .acl(acl::SCRIPTING)
    .keys(&[at(2)
        .keynum(0, 1, 1)
        .flags(RO | ACCESS)
        .notes("We cannot tell how the keys will be used so we assume the worst, RO and ACCESS")])
    .doc(
        "Calls a function that only reads.",
        "Depends on the function that is executed.",
        "7.0.0",
        "scripting",
    )
    .args(&[
        string("function"),
        integer("numkeys"),
        key("key", 0).optional().multiple(),
        string("arg").optional().multiple(),
    ])
    .route(Route::Connection);

const FUNCTION: Command<ConnHandler> = command("FUNCTION", at_least(2), container as ConnHandler)
    .doc(
        "Commands about function libraries.",
        "Depends on subcommand.",
        "7.0.0",
        "scripting",
    )
    .subcommands(&[
        FUNCTION_DELETE,
        FUNCTION_DUMP,
        FUNCTION_FLUSH,
        FUNCTION_HELP,
        FUNCTION_KILL,
        FUNCTION_LIST,
        FUNCTION_LOAD,
        FUNCTION_RESTORE,
        FUNCTION_STATS,
    ])
    .route(Route::Connection);

const FUNCTION_DELETE: Command<ConnHandler> =
    command("DELETE", exactly(3), function_delete as ConnHandler)
        .flags(WRITE | NOSCRIPT | BARRIER)
        .acl(acl::SCRIPTING)
        .doc("Deletes a library.", "O(1)", "7.0.0", "scripting")
        .args(&[string("library-name")])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .route(Route::Connection);

const FUNCTION_DUMP: Command<ConnHandler> =
    command("DUMP", exactly(2), function_dump as ConnHandler)
        .flags(NOSCRIPT | BARRIER)
        .acl(acl::SCRIPTING)
        .doc(
            "Returns all libraries in binary form.",
            "O(N) where N is the number of functions",
            "7.0.0",
            "scripting",
        )
        .route(Route::Connection);

const FUNCTION_FLUSH: Command<ConnHandler> =
    command("FLUSH", at_least(2), function_flush as ConnHandler)
        .flags(WRITE | NOSCRIPT | BARRIER)
        .acl(acl::SCRIPTING)
        .doc(
            "Deletes all libraries.",
            "O(N) where N is the number of functions deleted",
            "7.0.0",
            "scripting",
        )
        .args(&[one_of(
            "flush-type",
            &[word("async", "ASYNC"), word("sync", "SYNC")],
        )
        .optional()])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .route(Route::Connection);

const FUNCTION_HELP: Command<ConnHandler> =
    command("HELP", exactly(2), function_help as ConnHandler)
        .flags(LOADING | STALE)
        .acl(acl::SCRIPTING)
        .doc("Lists the subcommands.", "O(1)", "7.0.0", "scripting")
        .route(Route::Connection);

const FUNCTION_KILL: Command<ConnHandler> =
    command("KILL", exactly(2), function_kill as ConnHandler)
        .flags(NOSCRIPT | ALLOW_BUSY)
        .acl(acl::SCRIPTING)
        .doc(
            "Stops the running function if it has written nothing.",
            "O(1)",
            "7.0.0",
            "scripting",
        )
        .tips(&["request_policy:all_shards", "response_policy:one_succeeded"])
        .route(Route::Connection);

const FUNCTION_LIST: Command<ConnHandler> =
    command("LIST", at_least(2), function_list as ConnHandler)
        .flags(NOSCRIPT | BARRIER)
        .acl(acl::SCRIPTING)
        .doc(
            "Lists the libraries.",
            "O(N) where N is the number of functions",
            "7.0.0",
            "scripting",
        )
        .args(&[
            string("library-name-pattern")
                .token("LIBRARYNAME")
                .optional(),
            word("withcode", "WITHCODE").optional(),
        ])
        .tips(&["nondeterministic_output_order"])
        .route(Route::Connection);

const FUNCTION_LOAD: Command<ConnHandler> =
    command("LOAD", at_least(3), function_load as ConnHandler)
        .flags(WRITE | DENYOOM | NOSCRIPT | BARRIER)
        .acl(acl::SCRIPTING)
        .doc(
            "Loads a library.",
            "O(1) (considering compilation time is redundant)",
            "7.0.0",
            "scripting",
        )
        .args(&[
            word("replace", "REPLACE").optional(),
            string("function-code"),
        ])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .route(Route::Connection);

const FUNCTION_RESTORE: Command<ConnHandler> =
    command("RESTORE", at_least(3), function_restore as ConnHandler)
        .flags(WRITE | DENYOOM | NOSCRIPT | BARRIER)
        .acl(acl::SCRIPTING)
        .doc(
            "Loads the libraries that FUNCTION DUMP returned.",
            "O(N) where N is the number of functions on the payload",
            "7.0.0",
            "scripting",
        )
        .args(&[
            string("serialized-value"),
            one_of(
                "policy",
                &[
                    word("flush", "FLUSH"),
                    word("append", "APPEND"),
                    word("replace", "REPLACE"),
                ],
            )
            .optional(),
        ])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .route(Route::Connection);

const FUNCTION_STATS: Command<ConnHandler> =
    command("STATS", exactly(2), function_stats as ConnHandler)
        .flags(NOSCRIPT | ALLOW_BUSY)
        .acl(acl::SCRIPTING)
        .doc(
            "Tells which function runs and which engines there are.",
            "O(1)",
            "7.0.0",
            "scripting",
        )
        .tips(&[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ])
        .route(Route::Connection);

/// [`crate::core::Core::eval`] runs it: a function's core is that of its keys.
fn fcall(_: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    let text = "ERR This Redis command is not allowed here";
    Err(CommandError::fixed(text))
}

fn function_load(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let (code, options) = args[2..].split_last().expect("admission saw three words");
    let mut replace = false;
    for option in options {
        if !option.eq_ignore_ascii_case(b"REPLACE") {
            let option = until_nul(option);
            let option = lossless::text(option);
            return Err(CommandError::err(format_args!(
                "Unknown option given: {option}"
            )));
        }
        replace = true;
    }
    let name = call.core.function_load(code, replace)?;
    call.reply.bulk(name.as_bytes());
    Ok(Answer::Now)
}

fn function_delete(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    call.core.function_delete(args[2])?;
    call.reply.ok();
    Ok(Answer::Now)
}

fn function_flush(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    match args[2..] {
        [] => {}
        [mode] if mode.eq_ignore_ascii_case(b"SYNC") || mode.eq_ignore_ascii_case(b"ASYNC") => {}
        [_] => {
            let text = "FUNCTION FLUSH only supports SYNC|ASYNC option";
            return Err(CommandError::err(text));
        }
        _ => return Err(crate::commands::wrong_words(args)),
    }
    call.core.function_flush();
    call.reply.ok();
    Ok(Answer::Now)
}

fn function_dump(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    let payload = call.core.function_dump();
    call.reply.bulk(&payload);
    Ok(Answer::Now)
}

fn function_restore(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let policy = match args[3..] {
        [] => RestorePolicy::Append,
        [word] => match word.to_ascii_uppercase().as_slice() {
            b"FLUSH" => RestorePolicy::Flush,
            b"APPEND" => RestorePolicy::Append,
            b"REPLACE" => RestorePolicy::Replace,
            _ => {
                let text =
                    "Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.";
                return Err(CommandError::err(text));
            }
        },
        _ => return Err(crate::commands::wrong_words(args)),
    };
    call.core.function_restore(args[2], policy)?;
    call.reply.ok();
    Ok(Answer::Now)
}

fn function_list(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let (mut pattern, mut with_code) = (None, false);
    let mut words = args[2..].iter();
    while let Some(word) = words.next() {
        if !with_code && word.eq_ignore_ascii_case(b"WITHCODE") {
            with_code = true;
        } else if pattern.is_none() && word.eq_ignore_ascii_case(b"LIBRARYNAME") {
            let text = "library name argument was not given";
            pattern = Some(*words.next().ok_or(CommandError::err(text))?);
        } else {
            let word = until_nul(word);
            let word = lossless::text(word);
            return Err(CommandError::err(format_args!("Unknown argument {word}")));
        }
    }
    let mut libraries = call.core.function_list();
    if let Some(pattern) = pattern {
        libraries.retain(|l| glob_match_ignore_case(pattern, l.name.as_bytes()));
    }
    call.reply.array(libraries.len());
    for library in &libraries {
        write_library(&mut call.reply, library, with_code);
    }
    Ok(Answer::Now)
}

fn write_library(reply: &mut Reply<'_>, library: &Listed, with_code: bool) {
    reply.map(if with_code { 4 } else { 3 });
    reply.bulk(b"library_name");
    reply.bulk(library.name.as_bytes());
    reply.bulk(b"engine");
    reply.bulk(b"LUA");
    reply.bulk(b"functions");
    reply.array(library.functions.len());
    for function in library.functions.iter() {
        reply.map(3);
        reply.bulk(b"name");
        reply.bulk(function.name.as_bytes());
        reply.bulk(b"description");
        match &function.description {
            Some(text) => reply.bulk(text),
            None => reply.null(),
        }
        reply.bulk(b"flags");
        let flags: Vec<_> = function.flags.names().collect();
        reply.set(flags.len());
        for flag in flags {
            reply.simple(flag);
        }
    }
    if with_code {
        reply.bulk(b"library_code");
        reply.bulk(&library.code);
    }
}

fn function_stats(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    let running = call.core.shared.scripts.busy.function()?;
    let libraries = call.core.function_list();
    let functions: usize = libraries.iter().map(|l| l.functions.len()).sum();
    let reply = &mut call.reply;
    reply.map(2);
    reply.bulk(b"running_script");
    match &running {
        None => reply.null(),
        Some(run) => {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk_str(run.function.as_deref().unwrap_or_default());
            reply.bulk(b"command");
            reply.bulks(&run.command);
            reply.bulk(b"duration_ms");
            reply.integer(run.since.elapsed().as_millis() as i64);
        }
    }
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.integer(libraries.len() as i64);
    reply.bulk(b"functions_count");
    reply.integer(functions as i64);
    Ok(Answer::Now)
}

fn function_kill(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    call.core.shared.scripts.busy.kill(true)?;
    call.reply.ok();
    Ok(Answer::Now)
}

fn function_help(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    super::help_reply(
        &mut call.reply,
        args,
        &[
            "LOAD [REPLACE] <FUNCTION CODE>",
            "    Makes a library of the code.",
            "DELETE <LIBRARY NAME>",
            "    Deletes a library.",
            "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
            "    Lists the libraries: name, engine, functions, and the code if asked for.",
            "    LIBRARYNAME shows those whose names fit a pattern.",
            "STATS",
            "    Shows the function that runs (its name, its command, for how many milliseconds)",
            "    or null, and the engines.",
            "KILL",
            "    Stops the function that runs.",
            "FLUSH [ASYNC|SYNC]",
            "    Deletes all libraries.",
            "DUMP",
            "    Returns all libraries as a payload for FUNCTION RESTORE.",
            "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
            "    Loads the libraries of a payload. With APPEND (the default) none may be there,",
            "    with REPLACE they take the place of their namesakes, with FLUSH of all.",
        ],
    );
    Ok(Answer::Now)
}
