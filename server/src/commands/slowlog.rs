//! SLOWLOG, COMMANDLOG: the logs of slow and large commands.

use super::{Answer, Call, ConnHandler, container, help_reply};
use crate::observe::command_log::Which;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;
use ringwood_shard::ctx::Args;

pub const COMMANDS: &[Command<ConnHandler>] = &[SLOWLOG, COMMANDLOG];

const SLOWLOG: Command<ConnHandler> = command("SLOWLOG", at_least(2), container as ConnHandler)
    .doc(
        "Commands about the slow log.",
        "Depends on subcommand.",
        "2.2.12",
        "server",
    )
    .subcommands(&[SLOWLOG_GET, SLOWLOG_HELP, SLOWLOG_LEN, SLOWLOG_RESET])
    .route(Route::Connection);

const SLOWLOG_GET: Command<ConnHandler> = command("GET", at_least(2), slowlog_get as ConnHandler)
    .flags(ADMIN | LOADING | STALE)
    .doc(
        "Lists entries of the slow log.",
        "O(N) where N is the number of entries returned",
        "2.2.12",
        "server",
    )
    .history(&[("4.0.0", "Entries name the client and its address.")])
    .args(&[integer("count").optional()])
    .tips(&["request_policy:all_nodes", "nondeterministic_output"])
    .route(Route::Connection);

const SLOWLOG_HELP: Command<ConnHandler> = command("HELP", exactly(2), slowlog_help as ConnHandler)
    .flags(LOADING | STALE)
    .doc("Lists the subcommands.", "O(1)", "6.2.0", "server")
    .route(Route::Connection);

const SLOWLOG_LEN: Command<ConnHandler> = command("LEN", exactly(2), slowlog_len as ConnHandler)
    .flags(ADMIN | LOADING | STALE)
    .doc("Counts the slow log's entries.", "O(1)", "2.2.12", "server")
    .tips(&[
        "request_policy:all_nodes",
        "response_policy:agg_sum",
        "nondeterministic_output",
    ])
    .route(Route::Connection);

const SLOWLOG_RESET: Command<ConnHandler> =
    command("RESET", exactly(2), slowlog_reset as ConnHandler)
        .flags(ADMIN | LOADING | STALE)
        .doc(
            "Empties the slow log.",
            "O(N) where N is the number of entries in the slowlog",
            "2.2.12",
            "server",
        )
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .route(Route::Connection);

const COMMANDLOG: Command<ConnHandler> =
    command("COMMANDLOG", at_least(2), container as ConnHandler)
        .doc(
            "Commands about slow, large-request and large-reply logs.",
            "Depends on subcommand.",
            "8.1.0",
            "server",
        )
        .subcommands(&[
            COMMANDLOG_GET,
            COMMANDLOG_HELP,
            COMMANDLOG_LEN,
            COMMANDLOG_RESET,
        ])
        .route(Route::Connection);

const COMMANDLOG_GET: Command<ConnHandler> =
    command("GET", exactly(4), commandlog_get as ConnHandler)
        .flags(ADMIN | LOADING | STALE)
        .doc(
            "Lists entries of a log.",
            "O(N) where N is the number of entries returned",
            "8.1.0",
            "server",
        )
        .args(&[
            integer("count"),
            one_of(
                "type",
                &[
                    word("slow", "SLOW"),
                    word("large-request", "LARGE-REQUEST"),
                    word("large-reply", "LARGE-REPLY"),
                ],
            ),
        ])
        .tips(&["request_policy:all_nodes", "nondeterministic_output"])
        .route(Route::Connection);

const COMMANDLOG_HELP: Command<ConnHandler> =
    command("HELP", exactly(2), commandlog_help as ConnHandler)
        .flags(LOADING | STALE)
        .doc("Lists the subcommands.", "O(1)", "8.1.0", "server")
        .route(Route::Connection);

const COMMANDLOG_LEN: Command<ConnHandler> =
    command("LEN", exactly(3), commandlog_len as ConnHandler)
        .flags(ADMIN | LOADING | STALE)
        .doc("Counts a log's entries.", "O(1)", "8.1.0", "server")
        .args(&[one_of(
            "type",
            &[
                word("slow", "SLOW"),
                word("large-request", "LARGE-REQUEST"),
                word("large-reply", "LARGE-REPLY"),
            ],
        )])
        .tips(&[
            "request_policy:all_nodes",
            "response_policy:agg_sum",
            "nondeterministic_output",
        ])
        .route(Route::Connection);

const COMMANDLOG_RESET: Command<ConnHandler> =
    command("RESET", exactly(3), commandlog_reset as ConnHandler)
        .flags(ADMIN | LOADING | STALE)
        .doc(
            "Empties a log.",
            "O(N) where N is the number of entries in the commandlog",
            "8.1.0",
            "server",
        )
        .args(&[one_of(
            "type",
            &[
                word("slow", "SLOW"),
                word("large-request", "LARGE-REQUEST"),
                word("large-reply", "LARGE-REPLY"),
            ],
        )])
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .route(Route::Connection);

/// A count of entries; `None`: all.
fn parse_count(word: &[u8]) -> Result<usize, CommandError> {
    const BAD: CommandError =
        CommandError::fixed("ERR count should be greater than or equal to -1");
    match parse_i64(word) {
        Some(-1) => Ok(usize::MAX),
        Some(count) => usize::try_from(count).map_err(|_| BAD),
        None => Err(BAD),
    }
}

fn parse_which(word: &[u8]) -> Result<Which, CommandError> {
    match word.to_ascii_lowercase().as_slice() {
        b"slow" => Ok(Which::Slow),
        b"large-request" => Ok(Which::LargeRequest),
        b"large-reply" => Ok(Which::LargeReply),
        _ => Err(CommandError::fixed(
            "ERR type should be one of the following: slow, large-request, large-reply",
        )),
    }
}

fn write_entries(call: &mut Call<'_>, which: Which, count: usize) {
    let entries = call.core.shared.command_logs.newest(which, count);
    call.reply.array(entries.len());
    for entry in entries {
        call.reply.array(6);
        call.reply.integer(entry.id as i64);
        call.reply.integer(entry.unix_s);
        call.reply.integer(entry.value as i64);
        call.reply.array(entry.args.len());
        for word in &entry.args {
            call.reply.bulk(word);
        }
        call.reply.bulk_str(&entry.peer);
        call.reply.bulk(&entry.name);
    }
}

fn slowlog_get(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let count = match args {
        [_, _] => 10,
        [_, _, count] => parse_count(count)?,
        _ => return Err(crate::commands::wrong_words(args)),
    };
    write_entries(call, Which::Slow, count);
    Ok(Answer::Now)
}

fn slowlog_len(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    let len = call.core.shared.command_logs.len(Which::Slow);
    call.reply.integer(len as i64);
    Ok(Answer::Now)
}

fn slowlog_reset(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    call.core.shared.command_logs.reset(Which::Slow);
    call.reply.ok();
    Ok(Answer::Now)
}

fn slowlog_help(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    help_reply(
        &mut call.reply,
        args,
        &[
            "GET [<count>]",
            "    Lists the newest entries (default: 10, -1 for all). An entry is its id, the time,",
            "    the microseconds that the command took, its words, the client's address and name.",
            "LEN",
            "    Counts the entries.",
            "RESET",
            "    Forgets them.",
        ],
    );
    Ok(Answer::Now)
}

fn commandlog_get(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let which = parse_which(args[3])?;
    let count = parse_count(args[2])?;
    write_entries(call, which, count);
    Ok(Answer::Now)
}

fn commandlog_len(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let len = call.core.shared.command_logs.len(parse_which(args[2])?);
    call.reply.integer(len as i64);
    Ok(Answer::Now)
}

fn commandlog_reset(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    call.core.shared.command_logs.reset(parse_which(args[2])?);
    call.reply.ok();
    Ok(Answer::Now)
}

fn commandlog_help(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    help_reply(
        &mut call.reply,
        args,
        &[
            "GET <count> <type>",
            "    Lists the newest entries of this type (-1 for all). An entry is its id, the time,",
            "    microseconds (slow) or bytes (large-request, large-reply), the command's words,",
            "    the client's address and name.",
            "LEN <type>",
            "    Counts the entries of this type.",
            "RESET <type>",
            "    Forgets them.",
        ],
    );
    Ok(Answer::Now)
}
