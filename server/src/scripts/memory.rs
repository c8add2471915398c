//! How much memory scripts may use: all Lua machines of the server together.
//!
//! The rule: `maxmemory` where it is set, else a quarter of the memory that this process may use; never less than [`LEAST`], so that a
//! tiny `maxmemory` does not keep small scripts from running. Garbage that is not collected yet counts. A script that wants more
//! fails with Lua's "not enough memory"; what it holds is part of `used_memory` like everything else.

use super::Library;
use crate::commands::info::system;
use std::sync::OnceLock;

/// What scripts may use under any `maxmemory`.
const LEAST: u64 = 64 << 20;

fn limit(maxmemory: u64, machine: u64) -> usize {
    let limit = match maxmemory {
        0 => machine / 4,
        max => max,
    };
    usize::try_from(limit.max(LEAST)).unwrap_or(usize::MAX)
}

/// The machine's memory, or less where the control group has less.
fn usable_memory() -> u64 {
    static USABLE: OnceLock<u64> = OnceLock::new();
    *USABLE.get_or_init(|| {
        let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
        let group = group.and_then(|text| text.trim().parse().ok());
        system::total_memory().min(group.unwrap_or(u64::MAX))
    })
}

impl Library {
    /// Follows the setting.
    pub(crate) fn limit_memory(&self, maxmemory: u64) {
        self.memory.set_limit(limit(maxmemory, usable_memory()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule() {
        assert_eq!(limit(0, 8 << 30), 2 << 30);
        assert_eq!(limit(1 << 30, 8 << 30), 1 << 30);
        assert_eq!(limit(1000, 8 << 30), 64 << 20);
        assert_eq!(limit(0, 0), 64 << 20);
        assert!(usable_memory() > 0);
    }
}
