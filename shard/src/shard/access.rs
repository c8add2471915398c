//! Access bits of entries: seconds for LRU; for LFU minutes and a counter that decays.

use super::Settings;

pub(super) fn lru_clock(now_ms: i64) -> u32 {
    (now_ms / 1000) as u32 & 0xff_ffff
}
pub(super) fn lfu_minutes(now_ms: i64) -> u32 {
    (now_ms / 60_000) as u32 & 0xffff
}
pub(crate) fn lru_idle_seconds(now_ms: i64, access: u32) -> u32 {
    lru_clock(now_ms).wrapping_sub(access) & 0xff_ffff
}
/// Minutes since the counter was last changed.
pub(crate) fn lfu_idle_minutes(now_ms: i64, access: u32) -> u32 {
    lfu_minutes(now_ms).wrapping_sub(access >> 8) & 0xffff
}
pub(crate) fn lfu_counter(settings: &Settings, now_ms: i64, access: u32) -> u32 {
    let passed = lfu_idle_minutes(now_ms, access);
    let decay = passed.checked_div(settings.lfu_decay_minutes).unwrap_or(0);
    (access & 0xff).saturating_sub(decay)
}
/// The access bits of an entry that is used now. `random` is the shard's generator.
#[inline]
pub(super) fn access_used(settings: &Settings, now_ms: i64, random: &mut u64, access: u32) -> u32 {
    if !settings.lfu {
        return lru_clock(now_ms);
    }
    let mut counter = lfu_counter(settings, now_ms, access);
    if counter < 255 {
        let base = counter.saturating_sub(5) as f64;
        let chance = 1.0 / (base * settings.lfu_log_factor as f64 + 1.0);
        if (next_random(random) >> 11) as f64 / ((1u64 << 53) as f64) < chance {
            counter += 1;
        }
    }
    lfu_minutes(now_ms) << 8 | counter
}

/// xorshift64*
pub(super) fn next_random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}
