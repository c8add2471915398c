//! INFO's sections as text. Names and order are Redis's.

use super::report::Report;
use super::system;
use crate::acl::log::Reason;
use crate::config::Config;
use crate::core::Core;
use crate::io::Io;
use crate::persist::snapshot::Purpose;
use crate::pubsub::Kind;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

/// What a section is written from.
pub struct View<'a> {
    pub core: &'a Core,
    pub config: &'a Config,
    pub all: Report,
    pub reports: &'a [Report],
    /// Whether it is told through a shard's port: such a client talks to a node of a cluster.
    pub as_node: bool,
}

pub struct Section {
    pub name: &'static str,
    pub shown: Shown,
    pub write: fn(&View<'_>, &mut String),
}

/// When a section is shown beside when it is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    ByDefault,
    /// With all the others.
    InAll,
    Never,
}
use Shown::{ByDefault, InAll, Never};

const fn section(name: &'static str, shown: Shown, write: fn(&View<'_>, &mut String)) -> Section {
    Section { name, shown, write }
}

pub const SECTIONS: &[Section] = &[
    section("Server", ByDefault, server),
    section("Clients", ByDefault, clients),
    section("Memory", ByDefault, memory),
    section("Persistence", ByDefault, persistence),
    section("Threads", ByDefault, threads),
    section("Stats", ByDefault, stats),
    section("Replication", ByDefault, replication),
    section("CPU", ByDefault, cpu),
    section("Modules", ByDefault, |_, _| ()),
    section("Commandstats", InAll, commandstats),
    section("Errorstats", ByDefault, errorstats),
    section("Latencystats", InAll, latencystats),
    section("Cluster", ByDefault, cluster),
    section("Keyspace", ByDefault, keyspace),
    section("Shards", InAll, shards),
    section("Debug", Never, debug),
];

macro_rules! line {
    ($out:expr, $name:literal, $value:expr) => {
        // Writing to a String cannot fail.
        let _ = write!($out, concat!($name, ":{}\r\n"), $value);
    };
}

/// A size as Redis shows it to people.
pub fn human(bytes: u64) -> String {
    let n = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes}B"),
        _ => {
            let units = ["K", "M", "G", "T", "P"];
            let power = ((bytes.ilog2() / 10) as usize).min(units.len());
            format!("{:.2}{}", n / 1024f64.powi(power as i32), units[power - 1])
        }
    }
}

fn server(v: &View<'_>, out: &mut String) {
    let (shared, now) = (&v.core.shared, v.core.now.unix_ms);
    let uptime = (now - shared.started_unix_ms).max(0) / 1000;
    line!(out, "redis_version", crate::commands::hello::REDIS_VERSION);
    line!(out, "redis_git_sha1", "00000000");
    line!(out, "redis_git_dirty", 0);
    line!(out, "redis_build_id", env!("CARGO_PKG_VERSION"));
    let mode = if v.as_node { "cluster" } else { "standalone" };
    line!(out, "redis_mode", mode);
    line!(out, "os", system::kernel());
    line!(out, "arch_bits", usize::BITS);
    line!(out, "monotonic_clock", "POSIX clock_gettime");
    line!(out, "multiplexing_api", v.all.io);
    line!(out, "process_id", std::process::id());
    line!(
        out,
        "process_supervised",
        crate::process::supervisor::supervisor().name()
    );
    line!(out, "run_id", shared.run_id);
    if !v.config.availability_zone.is_empty() {
        line!(
            out,
            "availability_zone",
            show(v.config, "availability-zone")
        );
    }
    line!(out, "tcp_port", v.config.port);
    line!(out, "server_time_usec", now * 1000);
    line!(out, "uptime_in_seconds", uptime);
    line!(out, "uptime_in_days", uptime / 86_400);
    line!(out, "hz", v.config.hz);
    line!(out, "configured_hz", v.config.hz);
    line!(out, "lru_clock", (now / 1000) & 0xff_ffff);
    let executable = std::env::current_exe().unwrap_or_default();
    line!(out, "executable", executable.display());
    let file = shared.loaded.file.clone().unwrap_or_default();
    line!(out, "config_file", file.display());
    line!(out, "io_threads_active", 0);
    if v.config.port > 0 {
        let bind = v
            .config
            .bind
            .addresses()
            .iter()
            .map(|a| format!("bind={}", String::from_utf8_lossy(a.as_ref())))
            .collect::<Vec<_>>()
            .join(",");
        line!(
            out,
            "listener0",
            format!("name=tcp,{bind},port={}", v.config.port)
        );
    }
    if !v.config.unixsocket.is_empty() {
        let path = show(v.config, "unixsocket");
        line!(out, "listener1", format!("name=unix,bind={path}"));
    }
    line!(out, "ringwood_version", env!("CARGO_PKG_VERSION"));
    line!(out, "ringwood_shards", v.reports.len());
}

/// A directive's value as CONFIG GET shows it.
fn show(config: &Config, name: &str) -> String {
    crate::config::lookup(name.as_bytes()).map_or_else(String::new, |d| {
        String::from_utf8_lossy(&d.show(config)).into_owned()
    })
}

fn clients(v: &View<'_>, out: &mut String) {
    line!(out, "connected_clients", v.all.clients);
    line!(out, "cluster_connections", 0);
    line!(out, "maxclients", v.config.maxclients);
    line!(out, "client_recent_max_input_buffer", v.all.input_max);
    line!(out, "client_recent_max_output_buffer", v.all.output_max);
    line!(out, "blocked_clients", v.all.blocked);
    line!(out, "tracking_clients", v.all.tracking_clients);
    line!(out, "pubsub_clients", v.all.pubsub_clients);
    line!(out, "watching_clients", v.all.watching_clients);
    line!(out, "clients_in_timeout_table", 0);
    line!(out, "total_watched_keys", v.all.watched_keys);
    line!(out, "total_blocking_keys", v.all.blocking_keys);
    line!(out, "total_blocking_keys_on_nokey", 0);
    line!(
        out,
        "ringwood_clients_awaiting_other_shards",
        v.all.clients_waiting.saturating_sub(1)
    );
}

/// What memory is used for; MEMORY STATS shows it too.
pub struct MemoryUse {
    pub used: u64,
    pub peak: u64,
    pub peak_unix_ms: i64,
    pub startup: u64,
    /// The server itself and its clients.
    pub overhead: u64,
    /// Everything else: keys, values, tables.
    pub dataset: u64,
    /// Of what was allocated since the start.
    pub dataset_percent: f64,
    pub allocated: u64,
    /// With the data heap's pages counted whole.
    pub active: u64,
    pub resident: system::Resident,
}

impl MemoryUse {
    pub fn of(core: &Core, all: &Report) -> Self {
        let aside = ringwood_shard::memory::aside() as i64;
        let used = (all.memory_used() + aside).max(0) as u64;
        // The cores look ten times a second; what is told now counts too.
        core.shared.memory.note_peak(used, core.now.unix_ms);
        let (peak, peak_unix_ms) = core.shared.memory.peak();
        let startup = core.shared.memory.startup();
        let overhead = startup + all.client_memory as u64;
        let dataset = used.saturating_sub(overhead);
        let grown = used.saturating_sub(startup);
        Self {
            used,
            peak,
            peak_unix_ms,
            startup,
            overhead,
            dataset,
            dataset_percent: percent(dataset, grown),
            allocated: used,
            active: all.memory_active().max(0) as u64,
            resident: system::resident(),
        }
    }
}

pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 * 100.0 / whole as f64
    }
}

pub fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

fn memory(v: &View<'_>, out: &mut String) {
    let m = MemoryUse::of(v.core, &v.all);
    let total = system::total_memory();
    let difference = |a: u64, b: u64| a as i64 - b as i64;
    line!(out, "used_memory", m.used);
    line!(out, "used_memory_human", human(m.used));
    line!(out, "used_memory_rss", m.resident.all);
    line!(out, "used_memory_rss_human", human(m.resident.all));
    line!(out, "used_memory_peak", m.peak);
    line!(out, "used_memory_peak_human", human(m.peak));
    line!(out, "used_memory_peak_time", m.peak_unix_ms / 1000);
    line!(
        out,
        "used_memory_peak_perc",
        format!("{:.2}%", percent(m.used, m.peak))
    );
    line!(out, "used_memory_overhead", m.overhead);
    line!(out, "used_memory_startup", m.startup);
    line!(out, "used_memory_dataset", m.dataset);
    line!(
        out,
        "used_memory_dataset_perc",
        format!("{:.2}%", m.dataset_percent)
    );
    line!(out, "allocator_allocated", m.allocated);
    line!(out, "allocator_active", m.active);
    line!(out, "allocator_resident", m.resident.anonymous);
    line!(out, "total_system_memory", total);
    line!(out, "total_system_memory_human", human(total));
    let (scripts, script_bytes) = v.core.shared.scripts.cached();
    let libraries = v.core.function_list();
    let functions: usize = libraries.iter().map(|l| l.functions.len()).sum();
    let library_bytes: usize = libraries.iter().map(|l| l.memory()).sum();
    // One machine per core runs scripts and functions.
    let lua = v.all.lua_memory as u64;
    line!(out, "used_memory_lua", lua);
    line!(out, "used_memory_vm_eval", lua);
    line!(out, "used_memory_lua_human", human(lua));
    line!(out, "used_memory_scripts_eval", script_bytes);
    line!(out, "number_of_cached_scripts", scripts);
    line!(out, "number_of_functions", functions);
    line!(out, "number_of_libraries", libraries.len());
    line!(out, "used_memory_vm_functions", 0);
    line!(out, "used_memory_vm_total", lua);
    line!(out, "used_memory_vm_total_human", human(lua));
    line!(out, "used_memory_functions", library_bytes);
    line!(out, "used_memory_scripts", script_bytes + library_bytes);
    line!(
        out,
        "used_memory_scripts_human",
        human((script_bytes + library_bytes) as u64)
    );
    line!(out, "maxmemory", v.config.maxmemory);
    line!(out, "maxmemory_human", human(v.config.maxmemory));
    line!(out, "maxmemory_policy", show(v.config, "maxmemory-policy"));
    line!(
        out,
        "allocator_frag_ratio",
        format!("{:.2}", ratio(m.active, m.allocated))
    );
    line!(
        out,
        "allocator_frag_bytes",
        difference(m.active, m.allocated)
    );
    line!(
        out,
        "allocator_rss_ratio",
        format!("{:.2}", ratio(m.resident.anonymous, m.active))
    );
    line!(
        out,
        "allocator_rss_bytes",
        difference(m.resident.anonymous, m.active)
    );
    line!(
        out,
        "rss_overhead_ratio",
        format!("{:.2}", ratio(m.resident.all, m.resident.anonymous))
    );
    line!(
        out,
        "rss_overhead_bytes",
        difference(m.resident.all, m.resident.anonymous)
    );
    line!(
        out,
        "mem_fragmentation_ratio",
        format!("{:.2}", ratio(m.resident.all, m.used))
    );
    line!(
        out,
        "mem_fragmentation_bytes",
        difference(m.resident.all, m.used)
    );
    line!(out, "mem_not_counted_for_evict", 0);
    line!(out, "mem_replication_backlog", 0);
    line!(out, "mem_total_replication_buffers", 0);
    line!(out, "mem_clients_slaves", 0);
    line!(out, "mem_clients_normal", v.all.client_memory);
    line!(out, "mem_cluster_links", 0);
    line!(out, "mem_aof_buffer", 0);
    line!(out, "mem_allocator", "mimalloc");
    line!(out, "active_defrag_running", 0);
    line!(out, "lazyfree_pending_objects", v.all.free_pending);
    line!(out, "lazyfreed_objects", v.all.lazily_freed);
}

fn persistence(v: &View<'_>, out: &mut String) {
    let loading = v.core.shared.aof.loading.load(Relaxed);
    line!(out, "loading", u8::from(loading));
    line!(out, "async_loading", 0);
    let state = &v.core.shared.persistence;
    let running = state.running();
    let saves = running.as_ref().filter(|s| s.purpose == Purpose::Bgsave);
    let (total, done) = running.as_ref().map_or((0, 0), |s| s.progress());
    let copied = running.as_ref().map_or(0, |s| s.copied());
    line!(out, "current_cow_peak", copied);
    line!(out, "current_cow_size", copied);
    line!(out, "current_cow_size_age", 0);
    let percent = done as f64 * 100.0 / total.max(1) as f64;
    line!(out, "current_fork_perc", format!("{percent:.2}"));
    line!(out, "current_save_keys_processed", done);
    line!(out, "current_save_keys_total", total);
    line!(out, "rdb_changes_since_last_save", v.all.dirty);
    line!(out, "rdb_bgsave_in_progress", saves.is_some() as u8);
    line!(
        out,
        "rdb_last_save_time",
        crate::commands::save::last_save(v.core)
    );
    let failed = state.failed.load(Relaxed);
    line!(
        out,
        "rdb_last_bgsave_status",
        if failed { "err" } else { "ok" }
    );
    line!(out, "rdb_last_bgsave_time_sec", state.last_seconds());
    let seconds = saves.map_or(-1, |s| s.begun.elapsed().as_secs() as i64);
    line!(out, "rdb_current_bgsave_time_sec", seconds);
    line!(out, "rdb_saves", state.saves.load(Relaxed));
    line!(out, "rdb_last_cow_size", state.last_copied.load(Relaxed));
    line!(
        out,
        "rdb_last_load_keys_expired",
        state.loaded_expired.load(Relaxed)
    );
    line!(out, "rdb_last_load_keys_loaded", state.loaded.load(Relaxed));
    crate::aof::info::lines(v.core, out);
    if loading {
        state.progress.lines(out);
    }
}

/// What Redis says of its io threads: here each of them is a shard.
fn threads(v: &View<'_>, out: &mut String) {
    for (id, r) in v.reports.iter().enumerate() {
        let _ = write!(
            out,
            "io_thread_{id}:clients={},reads={},writes={}\r\n",
            r.clients, r.reads, r.writes
        );
    }
}

fn stats(v: &View<'_>, out: &mut String) {
    let (all, shared) = (&v.all, &v.core.shared);
    let spent: u64 = all.commands.iter().map(|c| c.spent).sum();
    let kilobytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    line!(
        out,
        "total_connections_received",
        shared.total_connections.load(Relaxed)
    );
    line!(out, "total_commands_processed", all.calls);
    line!(out, "instantaneous_ops_per_sec", all.rate.commands);
    line!(out, "total_net_input_bytes", all.bytes_in);
    line!(out, "total_net_output_bytes", all.bytes_out);
    line!(out, "total_net_repl_input_bytes", 0);
    line!(out, "total_net_repl_output_bytes", 0);
    line!(
        out,
        "instantaneous_input_kbps",
        kilobytes(all.rate.bytes_in)
    );
    line!(
        out,
        "instantaneous_output_kbps",
        kilobytes(all.rate.bytes_out)
    );
    line!(out, "instantaneous_input_repl_kbps", kilobytes(0));
    line!(out, "instantaneous_output_repl_kbps", kilobytes(0));
    line!(
        out,
        "rejected_connections",
        shared.rejected_connections.load(Relaxed)
    );
    line!(out, "sync_full", 0);
    line!(out, "sync_partial_ok", 0);
    line!(out, "sync_partial_err", 0);
    line!(out, "expired_keys", all.expired);
    line!(out, "expired_subkeys", all.expired_fields);
    // The wheel knows what is due: nothing is looked for by chance, and no time limit ends it early.
    line!(out, "expired_stale_perc", "0.00");
    line!(out, "expired_time_cap_reached_count", 0);
    line!(out, "evicted_keys", all.evicted);
    line!(out, "evicted_clients", all.evicted_clients);
    line!(out, "evicted_scripts", 0);
    let (over, over_now) = shared.memory.time_over_limit(v.core.io.mono_ns());
    line!(out, "total_eviction_exceeded_time", over);
    line!(out, "current_eviction_exceeded_time", over_now);
    line!(out, "keyspace_hits", all.hits);
    line!(out, "keyspace_misses", all.misses);
    // A snapshot is made by the process itself.
    line!(out, "latest_fork_usec", 0);
    line!(out, "total_forks", 0);
    let names = shared.directory.read();
    let refused = v.core.shared.acl.log();
    line!(out, "acl_access_denied_auth", refused.total(Reason::Auth));
    line!(out, "acl_access_denied_cmd", refused.total(Reason::Command));
    line!(out, "acl_access_denied_key", refused.total(Reason::Key));
    line!(
        out,
        "acl_access_denied_channel",
        refused.total(Reason::Channel)
    );
    drop(refused);
    line!(out, "pubsub_channels", names.of(Kind::Channel).len());
    line!(out, "pubsub_patterns", names.of(Kind::Pattern).len());
    line!(out, "pubsubshard_channels", names.of(Kind::Shard).len());
    drop(names);
    let links = v.core.shared.helpers.links.get();
    line!(
        out,
        "migrate_cached_sockets",
        links.map_or(0, |links| links.count())
    );
    line!(out, "slave_expires_tracked_keys", 0);
    line!(out, "active_defrag_hits", 0);
    line!(out, "active_defrag_misses", 0);
    line!(out, "active_defrag_key_hits", 0);
    line!(out, "active_defrag_key_misses", 0);
    line!(out, "total_active_defrag_time", 0);
    line!(out, "current_active_defrag_time", 0);
    line!(out, "tracking_total_keys", v.all.tracking_keys);
    line!(out, "tracking_total_items", v.all.tracking_items);
    line!(
        out,
        "tracking_total_prefixes",
        v.all.tracking_prefixes.len()
    );
    line!(out, "unexpected_error_replies", 0);
    line!(out, "total_error_replies", all.errors.values().sum::<u64>());
    line!(out, "total_reads_processed", all.reads);
    line!(out, "total_writes_processed", all.writes);
    line!(
        out,
        "client_query_buffer_limit_disconnections",
        all.query_limit_closes
    );
    line!(
        out,
        "client_output_buffer_limit_disconnections",
        all.output_limit_closes
    );
    line!(out, "eventloop_cycles", all.turns);
    line!(out, "eventloop_duration_sum", all.turn_ns / 1000);
    line!(out, "eventloop_duration_cmd_sum", spent / 1000);
    line!(
        out,
        "instantaneous_eventloop_cycles_per_sec",
        all.rate.turns
    );
    line!(
        out,
        "instantaneous_eventloop_duration_usec",
        (all.rate.turn_ns / 1000)
            .checked_div(all.rate.turns)
            .unwrap_or(0)
    );
    line!(out, "ringwood_forwarded_commands", all.forwarded);
}

fn replication(v: &View<'_>, out: &mut String) {
    line!(out, "role", "master");
    line!(out, "connected_slaves", 0);
    line!(out, "master_failover_state", "no-failover");
    line!(out, "master_replid", v.core.shared.run_id);
    line!(out, "master_replid2", "0".repeat(40));
    line!(out, "master_repl_offset", 0);
    line!(out, "second_repl_offset", -1);
    line!(out, "repl_backlog_active", 0);
    line!(out, "repl_backlog_size", v.config.repl_backlog_size);
    line!(out, "repl_backlog_first_byte_offset", 0);
    line!(out, "repl_backlog_histlen", 0);
}

fn cpu(_: &View<'_>, out: &mut String) {
    let [all, children, thread] = system::cpu_times();
    let seconds = |t: f64| format!("{t:.6}");
    line!(out, "used_cpu_sys", seconds(all.system));
    line!(out, "used_cpu_user", seconds(all.user));
    line!(out, "used_cpu_sys_children", seconds(children.system));
    line!(out, "used_cpu_user_children", seconds(children.user));
    line!(out, "used_cpu_sys_main_thread", seconds(thread.system));
    line!(out, "used_cpu_user_main_thread", seconds(thread.user));
}

fn commandstats(v: &View<'_>, out: &mut String) {
    for (entry, c) in v.core.registry.entries.iter().zip(&v.all.commands) {
        if c.calls == 0 && c.rejected == 0 && c.failed == 0 {
            continue;
        }
        let usec = c.spent as f64 / 1000.0;
        let per_call = if c.calls == 0 {
            0.0
        } else {
            usec / c.calls as f64
        };
        let _ = write!(
            out,
            "cmdstat_{}:calls={},usec={},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}\r\n",
            entry.name,
            c.calls,
            c.spent / 1000,
            c.rejected,
            c.failed
        );
    }
}

fn errorstats(v: &View<'_>, out: &mut String) {
    for (word, n) in &v.all.errors {
        // A word may come from a script: it must not break the line.
        let word = word.replace([':', '\r', '\n', ','], "_");
        let _ = write!(out, "errorstat_{word}:count={n}\r\n");
    }
}

fn latencystats(v: &View<'_>, out: &mut String) {
    if !v.config.latency_tracking {
        return;
    }
    for (entry, histogram) in v.core.registry.entries.iter().zip(&v.all.latencies) {
        let Some(histogram) = histogram else { continue };
        let values: Vec<String> = v
            .config
            .latency_tracking_info_percentiles
            .values()
            .iter()
            .map(|p| format!("p{p}={:.3}", histogram.percentile(*p) as f64 / 1000.0))
            .collect();
        let _ = write!(
            out,
            "latency_percentiles_usec_{}:{}\r\n",
            entry.name,
            values.join(",")
        );
    }
}

fn cluster(v: &View<'_>, out: &mut String) {
    line!(out, "cluster_enabled", u8::from(v.as_node));
}

/// As in Redis before its first look at a database, `avg_ttl=0` says that the mean is not known.
fn keyspace(v: &View<'_>, out: &mut String) {
    for (db, (keys, expires)) in v.all.keys.iter().enumerate().filter(|(_, k)| k.0 > 0) {
        let _ = write!(out, "db{db}:keys={keys},expires={expires},avg_ttl=0\r\n");
    }
}

fn shards(v: &View<'_>, out: &mut String) {
    for (id, r) in v.reports.iter().enumerate() {
        let _ = write!(
            out,
            "shard{id}:slots={},keys={},clients={},used_memory={},commands={},ops_per_sec={},forwarded={},turns={},\
             locks_held={},locks_waiting={},io={}\r\n",
            r.slots,
            r.all_keys(),
            r.clients,
            r.memory_used(),
            r.calls,
            r.rate.commands,
            r.forwarded,
            r.turns,
            r.locked.saturating_sub(r.locks_waiting),
            r.locks_waiting,
            r.io
        );
    }
}

fn debug(v: &View<'_>, out: &mut String) {
    line!(out, "eventloop_duration_max", v.all.longest_turn_ns / 1000);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        let shown = [0, 1023, 1024, 693_992, 25_276_514_304, 1 << 60].map(human);
        assert_eq!(
            shown,
            ["0B", "1023B", "1.00K", "677.73K", "23.54G", "1024.00P"]
        );
    }
}
