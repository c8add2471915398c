//! LATENCY: spikes by event, and histograms of commands' durations.

use super::info::report::Report;
use super::{Answer, Call, ConnHandler, container, help_reply, lock};
use crate::observe::latency::{self, Circumstances};
use crate::registry::{Entry, Registry};
use crate::stats::Histogram;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::lossless;
use ringwood_protocol::reply::Reply;
use ringwood_shard::ctx::Args;

pub const COMMANDS: &[Command<ConnHandler>] = &[LATENCY];

const LATENCY: Command<ConnHandler> = command("LATENCY", at_least(2), container as ConnHandler)
    .doc(
        "Commands about latency spikes.",
        "Depends on subcommand.",
        "2.8.13",
        "server",
    )
    .subcommands(&[
        LATENCY_DOCTOR,
        LATENCY_GRAPH,
        LATENCY_HELP,
        LATENCY_HISTOGRAM,
        LATENCY_HISTORY,
        LATENCY_LATEST,
        LATENCY_RESET,
    ])
    .route(Route::Connection);

const LATENCY_DOCTOR: Command<ConnHandler> =
    command("DOCTOR", exactly(2), latency_doctor as ConnHandler)
        .flags(ADMIN | NOSCRIPT | LOADING | STALE)
        .doc("Reports on latency in words.", "O(1)", "2.8.13", "server")
        .tips(&[
            "nondeterministic_output",
            "request_policy:all_nodes",
            "response_policy:special",
        ])
        .route(Route::Connection);

const LATENCY_GRAPH: Command<ConnHandler> =
    command("GRAPH", exactly(3), latency_graph as ConnHandler)
        .flags(ADMIN | NOSCRIPT | LOADING | STALE)
        .doc("Draws an event's samples.", "O(1)", "2.8.13", "server")
        .args(&[string("event")])
        .tips(&[
            "nondeterministic_output",
            "request_policy:all_nodes",
            "response_policy:special",
        ])
        .route(Route::Connection);

const LATENCY_HELP: Command<ConnHandler> = command("HELP", exactly(2), latency_help as ConnHandler)
    .flags(LOADING | STALE)
    .doc("Lists the subcommands.", "O(1)", "2.8.13", "server")
    .route(Route::Connection);

const LATENCY_HISTOGRAM: Command<ConnHandler> =
    command("HISTOGRAM", at_least(2), latency_histogram as ConnHandler)
        .flags(ADMIN | NOSCRIPT | LOADING | STALE)
        .doc(
            "Shows how long commands take, as histograms.",
            "O(N) where N is the number of commands with latency information being retrieved.",
            "7.0.0",
            "server",
        )
        .args(&[string("command").optional().multiple()])
        .tips(&[
            "nondeterministic_output",
            "request_policy:all_nodes",
            "response_policy:special",
        ])
        .route(Route::Connection);

const LATENCY_HISTORY: Command<ConnHandler> =
    command("HISTORY", exactly(3), latency_history as ConnHandler)
        .flags(ADMIN | NOSCRIPT | LOADING | STALE)
        .doc(
            "Shows an event's samples over time.",
            "O(1)",
            "2.8.13",
            "server",
        )
        .args(&[string("event")])
        .tips(&[
            "nondeterministic_output",
            "request_policy:all_nodes",
            "response_policy:special",
        ])
        .route(Route::Connection);

const LATENCY_LATEST: Command<ConnHandler> =
    command("LATEST", exactly(2), latency_latest as ConnHandler)
        .flags(ADMIN | NOSCRIPT | LOADING | STALE)
        .doc(
            "Shows the last sample of every event.",
            "O(1)",
            "2.8.13",
            "server",
        )
        .tips(&[
            "nondeterministic_output",
            "request_policy:all_nodes",
            "response_policy:special",
        ])
        .route(Route::Connection);

const LATENCY_RESET: Command<ConnHandler> =
    command("RESET", at_least(2), latency_reset as ConnHandler)
        .flags(ADMIN | NOSCRIPT | LOADING | STALE)
        .doc("Forgets the samples of events.", "O(1)", "2.8.13", "server")
        .args(&[string("event").optional().multiple()])
        .tips(&["request_policy:all_nodes", "response_policy:agg_sum"])
        .route(Route::Connection);

fn latency_latest(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    let all = call.core.shared.latency.all();
    call.reply.array(all.len());
    for (event, series) in all {
        let last = series.last();
        call.reply.array(4);
        call.reply.bulk_str(event);
        call.reply.integer(last.unix_s);
        call.reply.integer(last.ms as i64);
        call.reply.integer(series.max_ms as i64);
    }
    Ok(Answer::Now)
}

fn latency_history(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let found = call.core.shared.latency.get(args[2]);
    let samples = found.map_or_else(Default::default, |(_, series)| series.samples);
    call.reply.array(samples.len());
    for sample in samples {
        call.reply.array(2);
        call.reply.integer(sample.unix_s);
        call.reply.integer(sample.ms as i64);
    }
    Ok(Answer::Now)
}

fn latency_graph(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let Some((event, series)) = call.core.shared.latency.get(args[2]) else {
        return Err(CommandError::err(format_args!(
            "No samples available for event '{}'",
            lossless::text(args[2])
        )));
    };
    let drawn = latency::graph(event, &series, call.core.now.unix_ms / 1000);
    call.reply.verbatim("txt", drawn.as_bytes());
    Ok(Answer::Now)
}

fn latency_doctor(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    let config = lock(&call.core.shared.config).clone();
    let circumstances = Circumstances {
        threshold_ms: config.latency_monitor_threshold,
        slow_log_us: config.slowlog_log_slower_than,
        slow_log_len: config.slowlog_max_len,
    };
    let report = latency::doctor(&call.core.shared.latency.all(), &circumstances);
    call.reply.verbatim("txt", report.as_bytes());
    Ok(Answer::Now)
}

fn latency_reset(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let reset = call.core.shared.latency.reset(&args[2..]);
    call.reply.integer(reset as i64);
    Ok(Answer::Now)
}

/// The commands that a word of LATENCY HISTOGRAM means: of a container all subcommands too.
fn named(word: &[u8]) -> Vec<&'static Entry> {
    let Some(entry) = super::command::by_name(word) else {
        return Vec::new();
    };
    let mut all = vec![entry];
    all.extend(entry.subcommands.iter().copied());
    all
}

fn latency_histogram(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    let wanted: Vec<&'static Entry> = match &args[2..] {
        [] => Registry::get().entries.clone(),
        words => words.iter().flat_map(|w| named(w)).collect(),
    };
    Ok(call.gather(Report::of, move |_, reply, reports| {
        let all = Report::sum(&reports).latencies;
        let found: Vec<(&Entry, &Histogram)> = wanted
            .iter()
            .filter_map(|e| Some((*e, all.get(e.index)?.as_deref()?)))
            .collect();
        reply.map(found.len());
        for (entry, histogram) in found {
            write_histogram(reply, entry, histogram);
        }
    }))
}

fn write_histogram(reply: &mut Reply<'_>, entry: &Entry, histogram: &Histogram) {
    reply.bulk_str(&entry.name);
    reply.map(2);
    reply.bulk_str("calls");
    reply.integer(histogram.count() as i64);
    reply.bulk_str("histogram_usec");
    let steps = histogram.by_powers();
    reply.map(steps.len());
    for (usec, calls) in steps {
        reply.integer(usec as i64);
        reply.integer(calls as i64);
    }
}

fn latency_help(call: &mut Call<'_>, args: Args<'_>) -> Result<Answer, CommandError> {
    help_reply(
        &mut call.reply,
        args,
        &[
            "DOCTOR",
            "    Reports on latency in words.",
            "GRAPH <event>",
            "    Draws an event's samples.",
            "HISTOGRAM [<command> ...]",
            "    Shows how long commands take, as cumulative histograms: these, or all.",
            "HISTORY <event>",
            "    Shows an event's samples over time.",
            "LATEST",
            "    Shows the last sample of every event.",
            "RESET [<event> ...]",
            "    Forgets the samples of these events, or of all.",
        ],
    );
    Ok(Answer::Now)
}
