//! Every directive of Redis 7.0 and 8.2, Valkey 9.1 and Ringwood, each declared once.
//!
//! A row: name, aliases, field and type of `Config`, built-in value (Redis 8.2's), limits, flags,
//! meaning. `IGNORED` rows are accepted for the sake of existing files and do nothing here; `PENDING` ones belong to
//! what is not built yet. Both are named once in the log when they are used.

use super::checks;
use super::compound::*;
use super::enums::*;
use super::events::KeyspaceEvents;
use super::table::*;
use super::value::{ANY, Field, Text, UNSET, Unit, memory, range};

/// The largest number that Redis's 64-bit signed settings hold, and that of its ints.
const I64: i128 = i64::MAX as i128;
const INT: i128 = i32::MAX as i128;

directives! {
    // Ringwood's own.
    "shards" [] shards: u32 = "0", range(0, 128), IMMUTABLE | OURS,
        "Number of shards, one thread each; 0 for one per usable CPU.";
    "cpus" [] cpus: CpuList = "", ANY, IMMUTABLE | OURS,
        "CPUs to pin the shards' threads to, such as 0-7,9; empty for all that the process may use.";
    "shard-ports" [] shard_ports: bool = "no", ANY, IMMUTABLE | OURS,
        "Give every shard a port of its own and present the shards as nodes of a cluster.";
    "shard-port-base" [] shard_port_base: u16 = "0", ANY, IMMUTABLE | OURS,
        "Port of the first shard with shard-ports; 0 for the ordinary port plus one.";
    "io-engine" [] io_engine: IoEngine = "auto", ANY, IMMUTABLE | OURS,
        "System interface of the event loops: auto takes io_uring where the kernel allows it, else epoll.";
    "pipeline-order" [] pipeline_order: PipelineOrder = "relaxed", ANY, MUTABLE | OURS,
        "relaxed: a pipeline's commands on different keys may run in parallel; strict: one after the other.";
    "aside-elements-min" [] aside_elements_min: u64 = "5000", range(0, I64), MUTABLE | OURS,
        "Commands that work on more elements of collections than this are done beside their core.";

    // Network.
    "bind" [] bind: Bind = "* -::*", ANY, MUTABLE | MULTI, "Addresses to listen on.";
    "bind-source-addr" [] bind_source_addr: Text = "", UNSET, MUTABLE | PENDING,
        "Local address of outgoing connections.";
    "port" [] port: u16 = "6379", ANY, MUTABLE, "TCP port; 0 for none.";
    "tcp-backlog" [] tcp_backlog: u32 = "511", range(0, INT), IMMUTABLE,
        "Length of the queue of new connections.";
    "tcp-keepalive" [] tcp_keepalive: u32 = "300", range(0, INT), MUTABLE,
        "Seconds between TCP keepalive probes; 0 for none.";
    "timeout" [] timeout: u32 = "0", range(0, INT), MUTABLE,
        "Seconds after which an idle client is disconnected; 0 for never.";
    "protected-mode" [] protected_mode: bool = "yes", ANY, MUTABLE,
        "Refuse clients of other machines while there is no password and no bind.";
    "unixsocket" [] unixsocket: Text = "", UNSET, IMMUTABLE, "Path of the Unix socket.";
    "unixsocketperm" [] unixsocketperm: u32 = "0", range(0, 0o777).unit(Unit::Octal), IMMUTABLE,
        "Mode of the Unix socket; 0 for the umask's.";
    "unixsocketgroup" [] unixsocketgroup: Text = "", UNSET, IMMUTABLE, "Group of the Unix socket.";
    "maxclients" [] maxclients: u32 = "10000", range(1, u32::MAX as i128), MUTABLE,
        "Largest number of clients at once.";
    "max-new-connections-per-cycle" [] max_new_connections_per_cycle: u32 = "10",
        range(1, 1000), MUTABLE | IGNORED,
        "New connections a turn of Redis's loop takes.";
    "max-new-tls-connections-per-cycle" [] max_new_tls_connections_per_cycle: u32 = "1",
        range(1, 1000), MUTABLE | IGNORED,
        "The same for TLS.";
    "socket-mark-id" [] socket_mark_id: u32 = "0", ANY, IMMUTABLE,
        "Mark of the listening sockets for packet filters.";
    "mptcp" [] mptcp: bool = "no", ANY, IMMUTABLE, "Listen with multipath TCP.";
    "repl-mptcp" [] repl_mptcp: bool = "no", ANY, IMMUTABLE | PENDING, "Replicate over multipath TCP.";
    "io-threads" [] io_threads: u32 = "1", range(1, 256), IMMUTABLE | IGNORED,
        "Redis's helper threads; shards take their place.";
    "io-threads-do-reads" [] io_threads_do_reads: bool = "no", ANY, IMMUTABLE | IGNORED,
        "Whether Redis's helper threads read.";
    "prefetch-batch-max-size" [] prefetch_batch_max_size: u32 = "16", range(0, 128), MUTABLE | IGNORED,
        "Valkey's batch of prefetched keys.";
    "min-io-threads-avoid-copy-reply" [] min_io_threads_avoid_copy_reply: u32 = "7",
        range(0, INT), MUTABLE | HIDDEN | IGNORED,
        "Valkey's replies without copies.";
    "min-string-size-avoid-copy-reply" [] min_string_size_avoid_copy_reply: u32 = "16384",
        range(0, INT), MUTABLE | HIDDEN | IGNORED,
        "Valkey's replies without copies.";
    "min-string-size-avoid-copy-reply-threaded" [] min_string_size_avoid_copy_reply_threaded: u32 = "65536",
        range(0, INT), MUTABLE | HIDDEN | IGNORED,
        "Valkey's replies without copies.";
    "rdma-bind" [] rdma_bind: Bind = "", ANY, MUTABLE | MULTI | IGNORED, "Addresses to listen on with RDMA.";
    "rdma-port" [] rdma_port: u16 = "0", ANY, MUTABLE | IGNORED, "RDMA port.";
    "rdma-rx-size" [] rdma_rx_size: u32 = "1048576", range(64 << 10, 16 << 20), IMMUTABLE | IGNORED,
        "RDMA receive buffer.";
    "rdma-completion-vector" [] rdma_completion_vector: i32 = "-1", range(-1, 1024), IMMUTABLE | IGNORED,
        "RDMA completion vector.";
    "client-query-buffer-limit" [] client_query_buffer_limit: u64 = "1gb", memory(1 << 20, I64), MUTABLE,
        "Largest amount of unread requests a client may have.";
    "client-output-buffer-limit" [] client_output_buffer_limit: OutputBufferLimits =
        "normal 0 0 0 slave 256mb 64mb 60 pubsub 32mb 8mb 60",
        ANY, MUTABLE | MULTI,
        "By class of client: disconnect above hard bytes, or above soft bytes for so many seconds.";
    "proto-max-bulk-len" [] proto_max_bulk_len: u64 = "512mb", memory(1 << 20, I64), MUTABLE,
        "Largest argument of a command.";

    // The process.
    "daemonize" [] daemonize: bool = "no", ANY, IMMUTABLE, "Run in the background.";
    "supervised" [] supervised: Supervised = "no", ANY, IMMUTABLE, "Who is told that the server is ready.";
    "pidfile" [] pidfile: Text = "", UNSET, IMMUTABLE, "File with the process id.";
    "dir" [] dir: Directory = ".", ANY, MUTABLE | PROTECTED | DENY_LOADING,
        "Working directory, where the data files are.";
    "loglevel" [] loglevel: LogLevel = "notice", ANY, MUTABLE, "Least important messages that are logged.";
    "logfile" [] logfile: Text = "", ANY, IMMUTABLE, "Log file; empty for standard output.";
    "log-format" [] log_format: LogFormat = "legacy", ANY, MUTABLE, "Form of a log line.";
    "log-timestamp-format" [] log_timestamp_format: LogTimestampFormat = "legacy", ANY, MUTABLE,
        "Form of a log line's time.";
    "syslog-enabled" [] syslog_enabled: bool = "no", ANY, IMMUTABLE, "Log to the system log too.";
    "syslog-ident" [] syslog_ident: Text = "redis", ANY, IMMUTABLE, "Name in the system log.";
    "syslog-facility" [] syslog_facility: SyslogFacility = "local0", ANY, IMMUTABLE,
        "Facility in the system log.";
    "hide-user-data-from-log" [] hide_user_data_from_log: bool = "no", ANY, MUTABLE | IGNORED,
        "Keep keys, values and arguments out of crash reports; here they have none.";
    "crash-log-enabled" [] crash_log_enabled: bool = "yes", ANY, MUTABLE,
        "Write a report when the process crashes.";
    "crash-memcheck-enabled" [] crash_memcheck_enabled: bool = "yes", ANY, MUTABLE | IGNORED,
        "Test the memory after a crash.";
    "always-show-logo" [] always_show_logo: bool = "no", ANY, IMMUTABLE,
        "Show the banner when the log is no terminal.";
    "set-proc-title" [] set_proc_title: bool = "yes", ANY, IMMUTABLE,
        "Show the state in the process list.";
    "proc-title-template" [] proc_title_template: Text = "{title} {listen-addr} {server-mode}",
        ANY.check(checks::proc_title_template), MUTABLE,
        "What the process list shows.";
    "locale-collate" [] locale_collate: Text = "", ANY, MUTABLE | IGNORED, "Locale of SORT ALPHA's order; here that is always the bytes', as in the locale C.";
    "disable-thp" [] disable_thp: bool = "yes", ANY, IMMUTABLE | IGNORED,
        "Keep huge pages from the process, which are slow when it forks; here nothing forks, and the heap asks for them.";
    "oom-score-adj" [] oom_score_adj: OomScoreAdj = "no", ANY, MUTABLE,
        "Adjust who the kernel kills when memory ends.";
    "oom-score-adj-values" [] oom_score_adj_values: OomScoreAdjValues = "0 200 800",
        ANY, MUTABLE | MULTI,
        "The adjustment, by role.";
    "shutdown-timeout" [] shutdown_timeout: u32 = "10", range(0, INT), MUTABLE | PENDING,
        "Seconds that SHUTDOWN waits for replicas.";
    "shutdown-on-sigint" [] shutdown_on_sigint: ShutdownOnSignal = "default", ANY, MUTABLE | MULTI,
        "Options of the shutdown on SIGINT.";
    "shutdown-on-sigterm" [] shutdown_on_sigterm: ShutdownOnSignal = "default", ANY, MUTABLE | MULTI,
        "Options of the shutdown on SIGTERM.";
    "server-cpulist" ["server_cpulist"] server_cpulist: Text = "", UNSET, IMMUTABLE | IGNORED,
        "CPUs of Redis's threads; see cpus.";
    "bio-cpulist" ["bio_cpulist"] bio_cpulist: Text = "", UNSET, IMMUTABLE | IGNORED,
        "CPUs of Redis's background threads.";
    "aof-rewrite-cpulist" ["aof_rewrite_cpulist"] aof_rewrite_cpulist: Text = "", UNSET, IMMUTABLE | IGNORED,
        "CPUs of Redis's log rewriting child.";
    "bgsave-cpulist" ["bgsave_cpulist"] bgsave_cpulist: Text = "", UNSET, IMMUTABLE | IGNORED,
        "CPUs of Redis's snapshot child.";
    "ignore-warnings" [] ignore_warnings: Text = "", ANY, MUTABLE | IGNORED, "Start checks of Redis to skip.";
    "hz" [] hz: u32 = "10", range(0, INT), MUTABLE, "How often background work is looked after, per second.";
    "dynamic-hz" [] dynamic_hz: bool = "yes", ANY, MUTABLE | IGNORED, "Look more often with more clients.";
    "watchdog-period" [] watchdog_period: u32 = "0", range(0, INT), MUTABLE | HIDDEN | IGNORED,
        "Redis's software watchdog.";
    "use-exit-on-panic" [] use_exit_on_panic: bool = "no", ANY, MUTABLE | HIDDEN | IGNORED,
        "Exit rather than abort on an assertion.";
    "debug-assert-enabled" [] debug_assert_enabled: bool = "no", ANY, IMMUTABLE | HIDDEN | IGNORED,
        "Valkey's debug assertions.";
    "jemalloc-bg-thread" [] jemalloc_bg_thread: bool = "yes", ANY, MUTABLE | IGNORED,
        "jemalloc's thread; the allocator is mimalloc.";
    "hash-seed" [] hash_seed: Text = "", UNSET, IMMUTABLE | SENSITIVE | IGNORED,
        "Seed of Valkey's hash function.";
    "availability-zone" [] availability_zone: Text = "", UNSET, MUTABLE, "Zone that HELLO and INFO report.";
    "extended-redis-compatibility" [] extended_redis_compatibility: bool = "no", ANY, MUTABLE | IGNORED,
        "Valkey's claim to be Redis.";

    // Access.
    "requirepass" [] requirepass: Text = "", UNSET, MUTABLE | SENSITIVE, "Password of the default user.";
    "aclfile" [] aclfile: Text = "", ANY, IMMUTABLE, "File with the users.";
    "acl-pubsub-default" [] acl_pubsub_default: AclPubsubDefault = "resetchannels", ANY, MUTABLE,
        "Channels of a new user.";
    "acllog-max-len" [] acllog_max_len: u64 = "128", range(0, I64), MUTABLE, "Entries of ACL LOG.";
    "enable-protected-configs" [] enable_protected_configs: ProtectedAction = "no", ANY, IMMUTABLE,
        "Who may change protected directives.";
    "enable-debug-command" [] enable_debug_command: ProtectedAction = "no", ANY, IMMUTABLE,
        "Who may use DEBUG.";
    "enable-module-command" [] enable_module_command: ProtectedAction = "no", ANY, IMMUTABLE | IGNORED,
        "Who may load modules.";

    // Memory and data types.
    "databases" [] databases: u32 = "16", range(1, 1024), IMMUTABLE, "Number of databases.";
    "maxmemory" [] maxmemory: u64 = "0", memory(0, u64::MAX as i128), MUTABLE,
        "Most memory to use; 0 for no limit.";
    "maxmemory-policy" [] maxmemory_policy: MaxmemoryPolicy = "noeviction", ANY, MUTABLE,
        "What goes when the memory is used up.";
    "maxmemory-samples" [] maxmemory_samples: u32 = "5", range(1, 64), MUTABLE,
        "Keys looked at per eviction.";
    "maxmemory-eviction-tenacity" [] maxmemory_eviction_tenacity: u32 = "10", range(0, 100), MUTABLE,
        "How much time eviction may take.";
    "maxmemory-clients" [] maxmemory_clients: i64 = "0", range(-100, I64).unit(Unit::MemoryOrPercent), MUTABLE,
        "Most memory of clients' buffers, in bytes or percent of maxmemory.";
    "lfu-log-factor" [] lfu_log_factor: u32 = "10", range(0, INT), MUTABLE,
        "How slowly the counter of uses saturates.";
    "lfu-decay-time" [] lfu_decay_time: u32 = "1", range(0, INT), MUTABLE,
        "Minutes until the counter of uses falls by one.";
    "active-expire-effort" [] active_expire_effort: u32 = "1", range(1, 10), MUTABLE | IGNORED,
        "How long expired keys are searched for; here none are searched, as their times are known.";
    "activerehashing" [] activerehashing: bool = "yes", ANY, MUTABLE | IGNORED,
        "Grow tables in idle time; here growth never waits.";
    "activedefrag" [] activedefrag: bool = "no", ANY, MUTABLE | IGNORED,
        "jemalloc's defragmentation.";
    "active-defrag-ignore-bytes" [] active_defrag_ignore_bytes: u64 = "100mb",
        memory(1, I64), MUTABLE | IGNORED,
        "jemalloc's defragmentation.";
    "active-defrag-threshold-lower" [] active_defrag_threshold_lower: u32 = "10",
        range(0, 1000), MUTABLE | IGNORED,
        "jemalloc's defragmentation.";
    "active-defrag-threshold-upper" [] active_defrag_threshold_upper: u32 = "100",
        range(0, 1000), MUTABLE | IGNORED,
        "jemalloc's defragmentation.";
    "active-defrag-cycle-min" [] active_defrag_cycle_min: u32 = "1", range(1, 99), MUTABLE | IGNORED,
        "jemalloc's defragmentation.";
    "active-defrag-cycle-max" [] active_defrag_cycle_max: u32 = "25", range(1, 99), MUTABLE | IGNORED,
        "jemalloc's defragmentation.";
    "active-defrag-cycle-us" [] active_defrag_cycle_us: u32 = "500", range(0, 100_000), MUTABLE | IGNORED,
        "jemalloc's defragmentation.";
    "active-defrag-max-scan-fields" [] active_defrag_max_scan_fields: u64 = "1000",
        range(1, I64), MUTABLE | IGNORED,
        "jemalloc's defragmentation.";
    "hash-max-listpack-entries" ["hash-max-ziplist-entries"] hash_max_listpack_entries: u64 = "512",
        range(0, I64), MUTABLE,
        "Fields of the largest packed hash.";
    "hash-max-listpack-value" ["hash-max-ziplist-value"] hash_max_listpack_value: u64 = "64",
        memory(0, I64), MUTABLE,
        "Longest field or value of a packed hash.";
    "list-max-listpack-size" ["list-max-ziplist-size"] list_max_listpack_size: i32 = "-2", ANY, MUTABLE,
        "Entries, or -1 to -5 for 4 to 64 KB, of a list's packed node.";
    "list-compress-depth" [] list_compress_depth: u32 = "0", range(0, INT), MUTABLE | IGNORED,
        "Nodes at a list's ends that stay uncompressed.";
    "set-max-intset-entries" [] set_max_intset_entries: u64 = "512", range(0, I64), MUTABLE,
        "Members of the largest set of integers.";
    "set-max-listpack-entries" [] set_max_listpack_entries: u64 = "128", range(0, I64), MUTABLE,
        "Members of the largest packed set.";
    "set-max-listpack-value" [] set_max_listpack_value: u64 = "64", range(0, I64), MUTABLE,
        "Longest member of a packed set.";
    "zset-max-listpack-entries" ["zset-max-ziplist-entries"] zset_max_listpack_entries: u64 = "128",
        range(0, I64), MUTABLE,
        "Members of the largest packed sorted set.";
    "zset-max-listpack-value" ["zset-max-ziplist-value"] zset_max_listpack_value: u64 = "64",
        memory(0, I64), MUTABLE,
        "Longest member of a packed sorted set.";
    "hll-sparse-max-bytes" [] hll_sparse_max_bytes: u64 = "3000", memory(0, I64), MUTABLE,
        "Longest sparse HyperLogLog.";
    "stream-node-max-bytes" [] stream_node_max_bytes: u64 = "4096", memory(0, I64), MUTABLE,
        "Bytes of a stream's node.";
    "stream-node-max-entries" [] stream_node_max_entries: u64 = "100", range(0, I64), MUTABLE,
        "Entries of a stream's node.";
    "vset-force-single-threaded-execution" [] vset_force_single_threaded_execution: bool = "no",
        ANY, MUTABLE | IGNORED,
        "Vector sets in one thread.";
    "lazyfree-lazy-eviction" [] lazyfree_lazy_eviction: bool = "no", ANY, MUTABLE | IGNORED,
        "Free evicted values in the background.";
    "lazyfree-lazy-expire" [] lazyfree_lazy_expire: bool = "no", ANY, MUTABLE | IGNORED,
        "Free expired values in the background.";
    "lazyfree-lazy-server-del" [] lazyfree_lazy_server_del: bool = "no", ANY, MUTABLE | IGNORED,
        "Free overwritten values in the background.";
    "lazyfree-lazy-user-del" [] lazyfree_lazy_user_del: bool = "no", ANY, MUTABLE | IGNORED, "DEL works as UNLINK.";
    "lazyfree-lazy-user-flush" [] lazyfree_lazy_user_flush: bool = "no", ANY, MUTABLE | IGNORED,
        "FLUSHALL and FLUSHDB are ASYNC unless SYNC is said.";
    "notify-keyspace-events" [] notify_keyspace_events: KeyspaceEvents = "", ANY, MUTABLE,
        "Classes of events that are published.";
    "tracking-table-max-keys" [] tracking_table_max_keys: u64 = "1000000", range(0, I64), MUTABLE,
        "Keys whose readers are remembered for CLIENT TRACKING.";
    "sanitize-dump-payload" [] sanitize_dump_payload: SanitizePayload = "no", ANY, MUTABLE | IGNORED,
        "Check what RESTORE and snapshots bring; here that is always done.";
    "import-mode" [] import_mode: bool = "no", ANY, MUTABLE | PENDING,
        "Leave expired keys alone while data is imported.";

    // Scripts, slow log, latency.
    "busy-reply-threshold" ["lua-time-limit"] busy_reply_threshold: u64 = "5000", range(0, I64), MUTABLE,
        "Milliseconds after which a script makes others hear BUSY.";
    "slowlog-log-slower-than" ["commandlog-execution-slower-than"] slowlog_log_slower_than: i64 = "10000",
        range(-1, I64), MUTABLE,
        "Microseconds from which a command is slow; -1 for never.";
    "slowlog-max-len" ["commandlog-slow-execution-max-len"] slowlog_max_len: u64 = "128",
        range(0, I64), MUTABLE,
        "Entries of the slow log.";
    "commandlog-request-larger-than" [] commandlog_request_larger_than: i64 = "1048576",
        range(-1, I64), MUTABLE,
        "Bytes from which a request is logged.";
    "commandlog-large-request-max-len" [] commandlog_large_request_max_len: u64 = "128",
        range(0, I64), MUTABLE,
        "Entries of the log of large requests.";
    "commandlog-reply-larger-than" [] commandlog_reply_larger_than: i64 = "1048576",
        range(-1, I64), MUTABLE,
        "Bytes from which a reply is logged.";
    "commandlog-large-reply-max-len" [] commandlog_large_reply_max_len: u64 = "128",
        range(0, I64), MUTABLE,
        "Entries of the log of large replies.";
    "latency-monitor-threshold" [] latency_monitor_threshold: u64 = "0", range(0, I64), MUTABLE,
        "Milliseconds from which a latency event is kept; 0 for none.";
    "latency-tracking" [] latency_tracking: bool = "yes", ANY, MUTABLE,
        "Keep a latency histogram per command.";
    "latency-tracking-info-percentiles" [] latency_tracking_info_percentiles: Percentiles = "50 99 99.9",
        ANY, MUTABLE | MULTI,
        "Percentiles in INFO latencystats.";

    // Snapshots and the log.
    "save" [] save: Save = "3600 1 300 100 60 10000",
        ANY, MUTABLE | MULTI, "Take a snapshot after so many seconds with so many changes; \"\" for never.";
    "dbfilename" [] dbfilename: Text = "dump.rdb", ANY.check(checks::dbfilename), MUTABLE | PROTECTED,
        "Snapshot file.";
    "rdbcompression" [] rdbcompression: bool = "yes", ANY, MUTABLE, "Compress texts in snapshots.";
    "rdbchecksum" [] rdbchecksum: bool = "yes", ANY, IMMUTABLE, "End a snapshot with a checksum.";
    "rdb-version-check" [] rdb_version_check: RdbVersionCheck = "strict", ANY, MUTABLE | PENDING,
        "Whether snapshots of unknown versions are tried.";
    "rdb-del-sync-files" [] rdb_del_sync_files: bool = "no", ANY, MUTABLE | PENDING,
        "Remove snapshots that replication made.";
    "rdb-save-incremental-fsync" [] rdb_save_incremental_fsync: bool = "yes", ANY, MUTABLE,
        "Sync a snapshot in pieces.";
    "rdb-key-save-delay" [] rdb_key_save_delay: i32 = "0", ANY, MUTABLE | HIDDEN,
        "Microseconds to wait per saved key, for tests.";
    "key-load-delay" [] key_load_delay: i32 = "0", ANY, MUTABLE | HIDDEN,
        "Microseconds to wait per loaded key, for tests.";
    "loading-process-events-interval-bytes" [] loading_process_events_interval_bytes: u32 = "2097152",
        range(1024, INT), MUTABLE | HIDDEN | IGNORED,
        "How much is read before clients are looked after; here that goes by time.";
    "stop-writes-on-bgsave-error" [] stop_writes_on_bgsave_error: bool = "yes", ANY, MUTABLE,
        "Refuse writes after a failed snapshot.";
    "appendonly" [] appendonly: bool = "no", ANY, MUTABLE | DENY_LOADING, "Log every write.";
    "appendfilename" [] appendfilename: Text = "appendonly.aof",
        ANY.check(checks::appendfilename), IMMUTABLE,
        "Base name of the log's files.";
    "appenddirname" [] appenddirname: Text = "appendonlydir",
        ANY.check(checks::appenddirname), IMMUTABLE,
        "Directory of the log.";
    "appendfsync" [] appendfsync: AppendFsync = "everysec", ANY, MUTABLE,
        "When the log is synced to the disk.";
    "no-appendfsync-on-rewrite" [] no_appendfsync_on_rewrite: bool = "no", ANY, MUTABLE,
        "Do not sync the log while it is rewritten.";
    "auto-aof-rewrite-percentage" [] auto_aof_rewrite_percentage: u32 = "100", range(0, INT), MUTABLE,
        "Growth at which the log is rewritten.";
    "auto-aof-rewrite-min-size" [] auto_aof_rewrite_min_size: u64 = "64mb", memory(0, I64), MUTABLE,
        "Smallest log that is rewritten.";
    "aof-load-truncated" [] aof_load_truncated: bool = "yes", ANY, MUTABLE,
        "Load a log whose end is cut off.";
    "aof-use-rdb-preamble" [] aof_use_rdb_preamble: bool = "yes", ANY, MUTABLE,
        "Rewrite the log as a snapshot.";
    "aof-timestamp-enabled" [] aof_timestamp_enabled: bool = "no", ANY, MUTABLE,
        "Note times in the log.";
    "aof-rewrite-incremental-fsync" [] aof_rewrite_incremental_fsync: bool = "yes", ANY, MUTABLE,
        "Sync a rewritten log in pieces.";
    "aof-disable-auto-gc" [] aof_disable_auto_gc: bool = "no", ANY, MUTABLE,
        "Keep old files of the log.";

    // Replication.
    "replicaof" ["slaveof"] replicaof: ReplicaOf = "", ANY, IMMUTABLE | MULTI | PENDING,
        "Host and port of the primary.";
    "masterauth" ["primaryauth"] masterauth: Text = "", UNSET, MUTABLE | SENSITIVE | PENDING,
        "Password at the primary.";
    "masteruser" ["primaryuser"] masteruser: Text = "", UNSET, MUTABLE | SENSITIVE | PENDING,
        "User at the primary.";
    "replica-serve-stale-data" ["slave-serve-stale-data"] replica_serve_stale_data: bool = "yes",
        ANY, MUTABLE | PENDING,
        "Answer while the primary is away.";
    "replica-read-only" ["slave-read-only"] replica_read_only: bool = "yes", ANY, MUTABLE | PENDING,
        "Refuse writes on a replica.";
    "replica-lazy-flush" ["slave-lazy-flush"] replica_lazy_flush: bool = "no", ANY, MUTABLE | PENDING,
        "Free old data in the background at a full sync.";
    "replica-ignore-maxmemory" ["slave-ignore-maxmemory"] replica_ignore_maxmemory: bool = "yes",
        ANY, MUTABLE | PENDING,
        "Leave eviction to the primary.";
    "replica-ignore-disk-write-errors" [] replica_ignore_disk_write_errors: bool = "no", ANY, MUTABLE | PENDING,
        "Go on when a replica cannot write its log.";
    "replica-priority" ["slave-priority"] replica_priority: u32 = "100", range(0, INT), MUTABLE | PENDING,
        "Sentinel's preference; 0 for never.";
    "replica-announced" [] replica_announced: bool = "yes", ANY, MUTABLE | PENDING,
        "Show this replica in Sentinel's reports.";
    "replica-announce-ip" ["slave-announce-ip"] replica_announce_ip: Text = "", UNSET, MUTABLE | PENDING,
        "Address told to the primary.";
    "replica-announce-port" ["slave-announce-port"] replica_announce_port: u16 = "0", ANY, MUTABLE | PENDING,
        "Port told to the primary.";
    "replica-full-sync-buffer-limit" [] replica_full_sync_buffer_limit: u64 = "0",
        memory(0, I64), MUTABLE | PENDING,
        "Changes a replica holds during a full sync.";
    "min-replicas-to-write" ["min-slaves-to-write"] min_replicas_to_write: u32 = "0",
        range(0, INT), MUTABLE,
        "Replicas without which writes are refused.";
    "min-replicas-max-lag" ["min-slaves-max-lag"] min_replicas_max_lag: u32 = "10",
        range(0, INT), MUTABLE,
        "Seconds after which a replica does not count.";
    "repl-ping-replica-period" ["repl-ping-slave-period"] repl_ping_replica_period: u32 = "10",
        range(1, INT), MUTABLE | PENDING,
        "Seconds between pings to replicas.";
    "repl-timeout" [] repl_timeout: u32 = "60", range(1, INT), MUTABLE | PENDING,
        "Seconds after which a link is dead.";
    "repl-disable-tcp-nodelay" [] repl_disable_tcp_nodelay: bool = "no", ANY, MUTABLE | PENDING,
        "Fewer, larger packets to replicas.";
    "repl-diskless-sync" [] repl_diskless_sync: bool = "yes", ANY, MUTABLE | PENDING,
        "Send snapshots without a file.";
    "repl-diskless-sync-delay" [] repl_diskless_sync_delay: u32 = "5", range(0, INT), MUTABLE | PENDING,
        "Seconds to wait for more replicas.";
    "repl-diskless-sync-max-replicas" [] repl_diskless_sync_max_replicas: u32 = "0",
        range(0, INT), MUTABLE | PENDING,
        "Replicas at which waiting ends.";
    "repl-diskless-load" [] repl_diskless_load: DisklessLoad = "disabled",
        ANY, MUTABLE | DENY_LOADING | PENDING,
        "Load snapshots without a file.";
    "repl-backlog-size" [] repl_backlog_size: u64 = "1mb", memory(1, I64), MUTABLE | PENDING,
        "Changes kept for replicas that come back.";
    "repl-backlog-ttl" [] repl_backlog_ttl: u64 = "3600", range(0, I64), MUTABLE | PENDING,
        "Seconds they are kept without replicas.";
    "dual-channel-replication-enabled" [] dual_channel_replication_enabled: bool = "no", ANY, MUTABLE | IGNORED,
        "Valkey's second link at a full sync.";
    "propagation-error-behavior" [] propagation_error_behavior: PropagationError = "ignore",
        ANY, MUTABLE | PENDING,
        "What a failing replicated command does.";

    // Cluster.
    "cluster-enabled" [] cluster_enabled: bool = "no", ANY, IMMUTABLE | PENDING,
        "Join other machines with the cluster bus.";
    "cluster-config-file" [] cluster_config_file: Text = "nodes.conf",
        ANY.check(checks::cluster_config_file), IMMUTABLE | PENDING,
        "File with the cluster's state.";
    "cluster-config-save-behavior" [] cluster_config_save_behavior: ClusterConfigSave = "sync",
        ANY, MUTABLE | PENDING,
        "What a failed write of it does.";
    "cluster-port" [] cluster_port: u16 = "0", ANY, IMMUTABLE | PENDING,
        "Port of the bus; 0 for the port plus 10000.";
    "cluster-node-timeout" [] cluster_node_timeout: u64 = "15000", range(0, I64), MUTABLE | PENDING,
        "Milliseconds after which a node is failing.";
    "cluster-ping-interval" [] cluster_ping_interval: u64 = "1000", range(0, I64), MUTABLE | HIDDEN | PENDING,
        "Milliseconds between pings on the bus.";
    "cluster-announce-ip" [] cluster_announce_ip: Text = "", UNSET, MUTABLE,
        "Address that CLUSTER SLOTS tells.";
    "cluster-announce-hostname" [] cluster_announce_hostname: Text = "", UNSET.check(checks::hostname), MUTABLE | PENDING,
        "Host name that CLUSTER SLOTS tells.";
    "cluster-announce-human-nodename" [] cluster_announce_human_nodename: Text = "",
        UNSET.check(checks::node_name), MUTABLE | PENDING,
        "Name of the node in the log.";
    "cluster-announce-port" [] cluster_announce_port: u16 = "0", ANY, MUTABLE | PENDING,
        "Port told to the cluster.";
    "cluster-announce-tls-port" [] cluster_announce_tls_port: u16 = "0", ANY, MUTABLE | PENDING,
        "TLS port told to the cluster.";
    "cluster-announce-bus-port" [] cluster_announce_bus_port: u16 = "0", ANY, MUTABLE | PENDING,
        "Bus port told to the cluster.";
    "cluster-announce-client-ipv4" [] cluster_announce_client_ipv4: Text = "", UNSET, MUTABLE | PENDING,
        "IPv4 address told to clients.";
    "cluster-announce-client-ipv6" [] cluster_announce_client_ipv6: Text = "", UNSET, MUTABLE | PENDING,
        "IPv6 address told to clients.";
    "cluster-announce-client-port" [] cluster_announce_client_port: u16 = "0", ANY, MUTABLE | PENDING,
        "Port told to clients.";
    "cluster-announce-client-tls-port" [] cluster_announce_client_tls_port: u16 = "0", ANY, MUTABLE | PENDING,
        "TLS port told to clients.";
    "cluster-preferred-endpoint-type" [] cluster_preferred_endpoint_type: PreferredEndpoint = "ip",
        ANY, MUTABLE | PENDING,
        "What CLUSTER SLOTS tells first.";
    "cluster-require-full-coverage" [] cluster_require_full_coverage: bool = "yes", ANY, MUTABLE | PENDING,
        "Stop when slots have no owner.";
    "cluster-replica-validity-factor" ["cluster-slave-validity-factor"] cluster_replica_validity_factor: u32 = "10",
        range(0, INT), MUTABLE | PENDING,
        "How old a replica's data may be at a failover.";
    "cluster-replica-no-failover" ["cluster-slave-no-failover"] cluster_replica_no_failover: bool = "no",
        ANY, MUTABLE | PENDING,
        "Never fail over by itself.";
    "cluster-allow-replica-migration" [] cluster_allow_replica_migration: bool = "yes", ANY, MUTABLE | PENDING,
        "Let replicas move to primaries without one.";
    "cluster-migration-barrier" [] cluster_migration_barrier: u32 = "1", range(0, INT), MUTABLE | PENDING,
        "Replicas a primary keeps.";
    "cluster-allow-reads-when-down" [] cluster_allow_reads_when_down: bool = "no", ANY, MUTABLE | PENDING,
        "Read while the cluster is down.";
    "cluster-allow-pubsubshard-when-down" [] cluster_allow_pubsubshard_when_down: bool = "yes",
        ANY, MUTABLE | PENDING,
        "Sharded channels while the cluster is down.";
    "cluster-link-sendbuf-limit" [] cluster_link_sendbuf_limit: u64 = "0",
        memory(0, u64::MAX as i128), MUTABLE | PENDING,
        "Most memory of a bus link.";
    "cluster-slot-stats-enabled" [] cluster_slot_stats_enabled: bool = "no", ANY, MUTABLE | PENDING,
        "Count CPU time and bytes per slot.";
    "cluster-compatibility-sample-ratio" [] cluster_compatibility_sample_ratio: u32 = "0",
        range(0, 100), MUTABLE | IGNORED,
        "Percent of commands checked for use in a cluster.";
    "cluster-databases" [] cluster_databases: u32 = "1", range(1, INT), IMMUTABLE | PENDING,
        "Databases in a cluster.";
    "cluster-blacklist-ttl" [] cluster_blacklist_ttl: u64 = "60", range(0, u64::MAX as i128), MUTABLE | PENDING,
        "Seconds for which a forgotten node stays away.";
    "cluster-manual-failover-timeout" [] cluster_manual_failover_timeout: u32 = "5000",
        range(1, INT), MUTABLE | PENDING,
        "Milliseconds a manual failover may take.";
    "cluster-slot-migration-log-max-len" [] cluster_slot_migration_log_max_len: u64 = "1000",
        range(0, I64), MUTABLE | PENDING,
        "Entries of the log of moved slots.";
    "slot-migration-max-failover-repl-bytes" [] slot_migration_max_failover_repl_bytes: i64 = "0",
        range(-1, I64), MUTABLE | PENDING,
        "Bytes behind at which a moved slot switches over.";

    // TLS.
    "tls-port" [] tls_port: u16 = "0", ANY, MUTABLE | PENDING, "TLS port; 0 for none.";
    "tls-cluster" [] tls_cluster: bool = "no", ANY, MUTABLE | PENDING, "TLS on the bus.";
    "tls-replication" [] tls_replication: bool = "no", ANY, MUTABLE | PENDING, "TLS to the primary.";
    "tls-auth-clients" [] tls_auth_clients: TlsAuthClients = "yes", ANY, MUTABLE | PENDING,
        "Whether clients need a certificate.";
    "tls-auth-clients-user" [] tls_auth_clients_user: TlsAuthClientsUser = "off", ANY, MUTABLE | PENDING,
        "Field of the certificate that names the user.";
    "tls-prefer-server-ciphers" [] tls_prefer_server_ciphers: bool = "no", ANY, MUTABLE | PENDING,
        "The server's order of ciphers counts.";
    "tls-session-caching" [] tls_session_caching: bool = "yes", ANY, MUTABLE | PENDING,
        "Let clients resume sessions.";
    "tls-session-cache-size" [] tls_session_cache_size: u32 = "20480", range(0, INT), MUTABLE | PENDING,
        "Sessions kept.";
    "tls-session-cache-timeout" [] tls_session_cache_timeout: u32 = "300", range(0, INT), MUTABLE | PENDING,
        "Seconds they are kept.";
    "tls-cert-file" [] tls_cert_file: Text = "", UNSET, MUTABLE | PENDING, "Certificate.";
    "tls-key-file" [] tls_key_file: Text = "", UNSET, MUTABLE | PENDING, "Private key.";
    "tls-key-file-pass" [] tls_key_file_pass: Text = "", UNSET, MUTABLE | SENSITIVE | PENDING,
        "Password of the private key.";
    "tls-client-cert-file" [] tls_client_cert_file: Text = "", UNSET, MUTABLE | PENDING,
        "Certificate for outgoing links.";
    "tls-client-key-file" [] tls_client_key_file: Text = "", UNSET, MUTABLE | PENDING,
        "Private key for outgoing links.";
    "tls-client-key-file-pass" [] tls_client_key_file_pass: Text = "", UNSET, MUTABLE | SENSITIVE | PENDING,
        "Its password.";
    "tls-dh-params-file" [] tls_dh_params_file: Text = "", UNSET, MUTABLE | PENDING,
        "Diffie-Hellman parameters.";
    "tls-ca-cert-file" [] tls_ca_cert_file: Text = "", UNSET, MUTABLE | PENDING, "Authorities.";
    "tls-ca-cert-dir" [] tls_ca_cert_dir: Text = "", UNSET, MUTABLE | PENDING, "Directory of authorities.";
    "tls-protocols" [] tls_protocols: Text = "", UNSET, MUTABLE | PENDING, "Versions of TLS.";
    "tls-ciphers" [] tls_ciphers: Text = "", UNSET, MUTABLE | PENDING, "Ciphers of TLS 1.2.";
    "tls-ciphersuites" [] tls_ciphersuites: Text = "", UNSET, MUTABLE | PENDING, "Ciphers of TLS 1.3.";
    "tls-auto-reload-interval" [] tls_auto_reload_interval: u32 = "0", range(0, INT), MUTABLE | PENDING,
        "Seconds after which certificates are read again.";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names that the real servers show are all known and shown, and nothing else but Ringwood's own is.
    #[test]
    fn names_are_those_of_the_real_servers() {
        let known: Vec<&str> = include_str!("names.txt")
            .lines()
            .skip(1)
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert!(known.len() > 240, "{}", known.len());
        let shown = Config::default().get(&["*"]);
        let is_ours = |name: &[u8]| lookup(name).is_some_and(|directive| directive.has(OURS));
        let mut shown: Vec<&str> = shown
            .iter()
            .filter(|(name, _)| !is_ours(name))
            .map(|(name, _)| std::str::from_utf8(name).unwrap_or_default())
            .collect();
        shown.sort_unstable();
        assert_eq!(shown, known);
    }
}
