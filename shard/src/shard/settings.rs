//! What of the configuration concerns data.

use crate::evict::Rule;

/// Replaced as a whole when CONFIG SET changes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub databases: usize,
    /// `proto-max-bulk-len`: the longest string.
    pub string_len_max: usize,
    /// Access bits hold LFU counters rather than LRU times: `maxmemory-policy` is one of the lfu ones.
    pub lfu: bool,
    pub lfu_log_factor: u32,
    pub lfu_decay_minutes: u32,
    /// Which keys go when memory is short. `None`: none does.
    pub eviction: Option<Rule>,
    /// DEBUG SET-ACTIVE-EXPIRE.
    pub active_expire: bool,
    /// DEBUG SET-SKIP-CHECKSUM-VALIDATION: RESTORE takes payloads that were changed on the way.
    pub skip_checksum: bool,
    pub hash_listpack_entries_max: usize,
    pub hash_listpack_value_max: usize,
    pub set_intset_entries_max: usize,
    pub set_listpack_entries_max: usize,
    pub set_listpack_value_max: usize,
    pub zset_listpack_entries_max: usize,
    pub zset_listpack_value_max: usize,
    /// Positive: entries; negative: Redis's size classes (-2 is 8 KB).
    pub list_listpack_size_max: i64,
    pub list_compress_depth: usize,
    pub stream_node_bytes_max: usize,
    pub stream_node_entries_max: usize,
    pub hll_sparse_bytes_max: usize,
    pub rdb_compression: bool,
    /// Commands over more elements are done beside the core: see [`crate::ctx::Ctx::is_long`].
    pub aside_elements_min: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            databases: 16,
            string_len_max: 512 << 20,
            lfu: false,
            lfu_log_factor: 10,
            lfu_decay_minutes: 1,
            eviction: None,
            active_expire: true,
            skip_checksum: false,
            hash_listpack_entries_max: 512,
            hash_listpack_value_max: 64,
            set_intset_entries_max: 512,
            set_listpack_entries_max: 128,
            set_listpack_value_max: 64,
            zset_listpack_entries_max: 128,
            zset_listpack_value_max: 64,
            list_listpack_size_max: -2,
            list_compress_depth: 0,
            stream_node_bytes_max: 4096,
            stream_node_entries_max: 100,
            hll_sparse_bytes_max: 3000,
            rdb_compression: true,
            aside_elements_min: 5000,
        }
    }
}
