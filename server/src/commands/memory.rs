//! MEMORY, without USAGE, which concerns a key: that and the container are the shard's (`keys/memory.rs`).

use super::info::report::Report;
use super::info::text::{MemoryUse, human, percent, ratio};
use super::{Answer, Call, ConnHandler, help_reply};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::Reply;
use ringwood_shard::ctx::Args;

/// Beside those of the shard's container.
pub const SUBCOMMANDS: &[Command<ConnHandler>] = &[
    MEMORY_DOCTOR,
    MEMORY_HELP,
    MEMORY_MALLOC_STATS,
    MEMORY_PURGE,
    MEMORY_STATS,
];

const MEMORY_DOCTOR: Command<ConnHandler> = command("DOCTOR", exactly(2), doctor as ConnHandler)
    .doc(
        "Reports problems with memory use.",
        "O(1)",
        "4.0.0",
        "server",
    )
    .tips(&[
        "nondeterministic_output",
        "request_policy:all_shards",
        "response_policy:special",
    ])
    .route(Route::Connection);

const MEMORY_HELP: Command<ConnHandler> = command("HELP", exactly(2), help as ConnHandler)
    .flags(LOADING | STALE)
    .doc("Lists the subcommands.", "O(1)", "4.0.0", "server")
    .route(Route::Connection);

const MEMORY_MALLOC_STATS: Command<ConnHandler> =
    command("MALLOC-STATS", exactly(2), malloc_stats as ConnHandler)
        .doc(
            "Shows the allocator's own statistics.",
            "Depends on how much memory is allocated, could be slow",
            "4.0.0",
            "server",
        )
        .tips(&[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ])
        .route(Route::Connection);

const MEMORY_PURGE: Command<ConnHandler> = command("PURGE", exactly(2), purge as ConnHandler)
    .doc(
        "Asks the allocator to give memory back.",
        "Depends on how much memory is allocated, could be slow",
        "4.0.0",
        "server",
    )
    .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
    .route(Route::Connection);

const MEMORY_STATS: Command<ConnHandler> = command("STATS", exactly(2), stats as ConnHandler)
    .doc("Shows where memory goes.", "O(1)", "4.0.0", "server")
    .tips(&[
        "nondeterministic_output",
        "request_policy:all_shards",
        "response_policy:special",
    ])
    .route(Route::Connection);

type Result = std::result::Result<Answer, CommandError>;

fn stats(call: &mut Call<'_>, _: Args<'_>) -> Result {
    Ok(call.gather(Report::of, |core, reply, reports| {
        let all = Report::sum(&reports);
        let m = MemoryUse::of(core, &all);
        write_stats(reply, &m, &all);
    }))
}

fn write_stats(reply: &mut Reply<'_>, m: &MemoryUse, all: &Report) {
    let keys = all.all_keys() as u64;
    let integers = [
        ("peak.allocated", m.peak as i64),
        ("total.allocated", m.used as i64),
        ("startup.allocated", m.startup as i64),
        ("replication.backlog", 0),
        ("clients.slaves", 0),
        ("clients.normal", all.client_memory as i64),
        ("cluster.links", 0),
        ("aof.buffer", 0),
        ("overhead.total", m.overhead as i64),
        ("keys.count", keys as i64),
        (
            "keys.bytes-per-key",
            m.used
                .saturating_sub(m.startup)
                .checked_div(keys)
                .unwrap_or(0) as i64,
        ),
        ("dataset.bytes", m.dataset as i64),
        ("allocator.allocated", m.allocated as i64),
        ("allocator.active", m.active as i64),
        ("allocator.resident", m.resident.anonymous as i64),
        (
            "allocator-fragmentation.bytes",
            m.active as i64 - m.allocated as i64,
        ),
        (
            "allocator-rss.bytes",
            m.resident.anonymous as i64 - m.active as i64,
        ),
        (
            "rss-overhead.bytes",
            m.resident.all as i64 - m.resident.anonymous as i64,
        ),
        ("fragmentation.bytes", m.resident.all as i64 - m.used as i64),
    ];
    let doubles = [
        ("dataset.percentage", m.dataset_percent),
        ("peak.percentage", percent(m.used, m.peak)),
        (
            "allocator-fragmentation.ratio",
            ratio(m.active, m.allocated),
        ),
        ("allocator-rss.ratio", ratio(m.resident.anonymous, m.active)),
        (
            "rss-overhead.ratio",
            ratio(m.resident.all, m.resident.anonymous),
        ),
        ("fragmentation", ratio(m.resident.all, m.used)),
    ];
    reply.map(integers.len() + doubles.len());
    for (name, value) in integers {
        reply.bulk_str(name);
        reply.integer(value);
    }
    for (name, value) in doubles {
        reply.bulk_str(name);
        reply.double_text(&value.to_string());
    }
}

/// Below this much, nothing can be said.
const DOCTOR_MIN: u64 = 5 << 20;

fn doctor(call: &mut Call<'_>, _: Args<'_>) -> Result {
    Ok(call.gather(Report::of, |core, reply, reports| {
        let all = Report::sum(&reports);
        let text = diagnosis(&MemoryUse::of(core, &all), &all);
        reply.verbatim("txt", text.as_bytes());
    }))
}

fn diagnosis(m: &MemoryUse, all: &Report) -> String {
    if m.used < DOCTOR_MIN {
        return "This instance is empty or nearly so: there is too little memory in use to judge.\n".into();
    }
    let mut found = Vec::new();
    if m.peak as f64 / m.used as f64 > 1.5 {
        found.push(format!(
            "Peak: memory use was {} once, and is {} now. What the process does not give back to the system serves for later growth; \
             MEMORY PURGE gives back what can be.",
            human(m.peak),
            human(m.used)
        ));
    }
    if ratio(m.active, m.allocated) > 1.1 && m.active - m.allocated > 10 << 20 {
        found.push(format!(
            "Fragmentation: pages of the data heap are partly empty ({} in pages, {} in use), mostly after many deletions.",
            human(m.active),
            human(m.allocated)
        ));
    }
    if ratio(m.resident.anonymous, m.active) > 1.4 && m.resident.anonymous - m.active > 10 << 20 {
        found.push(format!(
            "Reserve: the process holds {} of memory, of which {} are in use. MEMORY PURGE gives back what can be.",
            human(m.resident.anonymous),
            human(m.active)
        ));
    }
    if all.clients > 0 && all.client_memory as u64 / all.clients as u64 > 200 << 10 {
        found.push(format!(
            "Clients: their buffers take {}, more than 200 KB each. CLIENT LIST shows whose are large.",
            human(all.client_memory as u64)
        ));
    }
    if found.is_empty() {
        return "No problem with memory use was found.\n".into();
    }
    let mut text = String::from("Found:\n");
    for problem in found {
        text.push_str(&format!("\n * {problem}\n"));
    }
    text
}

fn purge(call: &mut Call<'_>, _: Args<'_>) -> Result {
    // Each thread has a heap of its own in the allocator.
    Ok(call.gather(
        |_| ringwood_shard::memory::purge(),
        |_, reply, _| reply.ok(),
    ))
}

fn malloc_stats(call: &mut Call<'_>, _: Args<'_>) -> Result {
    let text = ringwood_shard::memory::statistics();
    call.reply.verbatim("txt", text.as_bytes());
    Ok(Answer::Now)
}

fn help(call: &mut Call<'_>, args: Args<'_>) -> Result {
    help_reply(
        &mut call.reply,
        args,
        &[
            "DOCTOR",
            "    Reports problems with memory use.",
            "MALLOC-STATS",
            "    Shows the allocator's own statistics.",
            "PURGE",
            "    Has the allocator give memory back to the system.",
            "STATS",
            "    Shows where memory goes.",
            "USAGE <key> [SAMPLES <count>]",
            "    Shows the memory that a key and its value take. It is counted, so samples do not matter.",
        ],
    );
    Ok(Answer::Now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(used: u64, peak: u64, active: u64, anonymous: u64) -> MemoryUse {
        MemoryUse {
            used,
            peak,
            peak_unix_ms: 0,
            startup: 0,
            overhead: 0,
            dataset: used,
            dataset_percent: 100.0,
            allocated: used,
            active,
            resident: super::super::info::system::Resident {
                all: anonymous,
                anonymous,
            },
        }
    }

    #[test]
    fn the_doctor_finds_what_is_there() {
        let m = 1 << 20;
        let said = |usage: MemoryUse| diagnosis(&usage, &Report::default());
        assert!(said(usage(m, m, m, m)).contains("too little"));
        assert!(said(usage(100 * m, 100 * m, 101 * m, 110 * m)).contains("No problem"));
        let all = said(usage(100 * m, 200 * m, 150 * m, 300 * m));
        for word in ["Peak:", "Fragmentation:", "Reserve:"] {
            assert!(all.contains(word), "{all}");
        }
    }
}
