//! What of the configuration concerns the shard's data.

use crate::config::Config;
use ringwood_shard::shard::Settings;

/// What of the configuration concerns the shard's data.
pub fn settings(config: &Config, old: &Settings) -> Settings {
    use crate::config::enums::MaxmemoryPolicy;
    Settings {
        databases: config.databases as usize,
        string_len_max: config.proto_max_bulk_len as usize,
        lfu: matches!(
            config.maxmemory_policy,
            MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu
        ),
        lfu_log_factor: config.lfu_log_factor,
        eviction: crate::maxmemory::rule(config),
        lfu_decay_minutes: config.lfu_decay_time,
        active_expire: old.active_expire,
        skip_checksum: old.skip_checksum,
        hash_listpack_entries_max: config.hash_max_listpack_entries as usize,
        hash_listpack_value_max: config.hash_max_listpack_value as usize,
        set_intset_entries_max: config.set_max_intset_entries as usize,
        set_listpack_entries_max: config.set_max_listpack_entries as usize,
        set_listpack_value_max: config.set_max_listpack_value as usize,
        zset_listpack_entries_max: config.zset_max_listpack_entries as usize,
        zset_listpack_value_max: config.zset_max_listpack_value as usize,
        list_listpack_size_max: config.list_max_listpack_size as i64,
        list_compress_depth: config.list_compress_depth as usize,
        stream_node_bytes_max: config.stream_node_max_bytes as usize,
        stream_node_entries_max: config.stream_node_max_entries as usize,
        hll_sparse_bytes_max: config.hll_sparse_max_bytes as usize,
        rdb_compression: config.rdbcompression,
        aside_elements_min: config.aside_elements_min as usize,
    }
}
