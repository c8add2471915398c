//! PUBSUB: who listens to what, over all cores.

use super::{Answer, Args, Call, CommandError, ConnHandler};
use crate::commands::{container, help_reply};
use crate::pubsub::Kind;
use ringwood_protocol::command::*;
use ringwood_protocol::glob::glob_match;

pub(super) const PUBSUB_COMMAND: Command<ConnHandler> =
    command("PUBSUB", at_least(2), container as ConnHandler)
        .doc(
            "Describes the state of Pub/Sub.",
            "Depends on subcommand.",
            "2.8.0",
            "pubsub",
        )
        .subcommands(&[
            PUBSUB_CHANNELS,
            PUBSUB_HELP,
            PUBSUB_NUMPAT,
            PUBSUB_NUMSUB,
            PUBSUB_SHARDCHANNELS,
            PUBSUB_SHARDNUMSUB,
        ])
        .route(Route::Connection);

const PUBSUB_CHANNELS: Command<ConnHandler> =
    command("CHANNELS", at_least(2), channels as ConnHandler)
        .flags(PUBSUB | LOADING | STALE)
        .doc(
            "Lists the channels that have subscribers.",
            "O(N) where N is the number of active channels, and assuming constant time pattern matching (relatively short \
             channels and patterns)",
            "2.8.0",
            "pubsub",
        )
        .args(&[pattern("pattern").optional()])
        .route(Route::Connection);

fn channels(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    list(call, Kind::Channel, args)
}

const PUBSUB_SHARDCHANNELS: Command<ConnHandler> =
    command("SHARDCHANNELS", at_least(2), shard_channels as ConnHandler)
        .flags(PUBSUB | LOADING | STALE)
        .doc(
            "Lists the shard channels that have subscribers.",
            "O(N) where N is the number of active shard channels, and assuming constant time pattern matching (relatively short \
             shard channels).",
            "7.0.0",
            "pubsub",
        )
        .args(&[pattern("pattern").optional()])
        .route(Route::Connection);

fn shard_channels(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    list(call, Kind::Shard, args)
}

fn list(call: &mut Call<'_>, kind: Kind, args: Args<'_>) -> Result<Answer, CommandError> {
    let pattern = match args {
        [_, _] => None,
        [_, _, pattern] => Some(*pattern),
        _ => return Err(crate::commands::wrong_words(args)),
    };
    let names = call.core.shared.directory.read();
    let found: Vec<_> = names
        .of(kind)
        .iter()
        .filter(|(_, name, _)| pattern.is_none_or(|p| glob_match(p, name)))
        .map(|(_, name, _)| name)
        .collect();
    call.reply.bulks(&found);
    Ok(Answer::Now)
}

const PUBSUB_NUMPAT: Command<ConnHandler> =
    command("NUMPAT", exactly(2), pattern_count as ConnHandler)
        .flags(PUBSUB | LOADING | STALE)
        .doc(
            "Counts the patterns that have subscribers.",
            "O(1)",
            "2.8.0",
            "pubsub",
        )
        .route(Route::Connection);

fn pattern_count(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    let count = call.core.shared.directory.read().of(Kind::Pattern).len();
    call.reply.integer(count as i64);
    Ok(Answer::Now)
}

const PUBSUB_NUMSUB: Command<ConnHandler> =
    command("NUMSUB", at_least(2), channel_counts as ConnHandler)
        .flags(PUBSUB | LOADING | STALE)
        .doc(
            "Counts the subscribers of channels.",
            "O(N) for the NUMSUB subcommand, where N is the number of requested channels",
            "2.8.0",
            "pubsub",
        )
        .args(&[string("channel").optional().multiple()])
        .route(Route::Connection);

fn channel_counts(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    counts(call, Kind::Channel, &args[2..])
}

const PUBSUB_SHARDNUMSUB: Command<ConnHandler> = command(
    "SHARDNUMSUB",
    at_least(2),
    shard_counts as ConnHandler,
)
.flags(PUBSUB | LOADING | STALE)
.doc(
    "Counts the subscribers of shard channels.",
    "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels",
    "7.0.0",
    "pubsub",
)
.args(&[string("shardchannel").optional().multiple()])
.route(Route::Connection);

fn shard_counts(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    counts(call, Kind::Shard, &args[2..])
}

/// Without what patterns add.
fn counts(call: &mut Call<'_>, kind: Kind, channels: Args<'_>) -> Result<Answer, CommandError> {
    let names = call.core.shared.directory.read();
    let hasher = call.core.shard.keyspace.hasher();
    call.reply.array(2 * channels.len());
    for channel in channels {
        let audience = names.of(kind).get(hasher.hash(channel), channel);
        call.reply.bulk(channel);
        call.reply.integer(audience.map_or(0, |a| a.clients as i64));
    }
    Ok(Answer::Now)
}

const PUBSUB_HELP: Command<ConnHandler> = command("HELP", exactly(2), help as ConnHandler)
    .flags(LOADING | STALE)
    .doc("Lists the subcommands.", "O(1)", "6.2.0", "pubsub")
    .route(Route::Connection);

fn help(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let lines = [
        "CHANNELS [<pattern>]",
        "    List the channels with subscribers whose names match the pattern (default: '*').",
        "NUMPAT",
        "    Count the patterns with subscribers.",
        "NUMSUB [<channel> ...]",
        "    Count the subscribers of each channel, without those of patterns.",
        "SHARDCHANNELS [<pattern>]",
        "    List the shard channels with subscribers whose names match the pattern (default: '*').",
        "SHARDNUMSUB [<shardchannel> ...]",
        "    Count the subscribers of each shard channel.",
    ];
    help_reply(&mut call.reply, args, &lines);
    Ok(Answer::Now)
}
