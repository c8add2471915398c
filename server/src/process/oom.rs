//! `oom-score-adj` and its values: whom the kernel ends first when memory is used up.
//!
//! Relative values are added to what the process was started with (systemd's OOMScoreAdjust), which `no` brings back.

use crate::commands::lock;
use crate::config::Config;
use crate::config::enums::OomScoreAdj;
use std::io::{Error, ErrorKind, Result};
use std::sync::Mutex;

const FILE: &str = "/proc/self/oom_score_adj";
/// What it was before it was changed for the first time; nothing while it is not changed.
static BEFORE: Mutex<Option<i32>> = Mutex::new(None);

/// Makes the process's value that of the configuration.
pub fn follow(config: &Config) -> Result<()> {
    let mut before = lock(&BEFORE);
    let (value, then) = match (config.oom_score_adj, *before) {
        (OomScoreAdj::No, None) => return Ok(()),
        (OomScoreAdj::No, Some(base)) => (base, None),
        (mode, base) => {
            let base = base.map_or_else(read, Ok)?;
            let [of_primary, ..] = config.oom_score_adj_values.0;
            (adjusted(mode, of_primary, base), Some(base))
        }
    };
    std::fs::write(FILE, value.to_string())?;
    *before = then;
    Ok(())
}

fn read() -> Result<i32> {
    let text = std::fs::read_to_string(FILE)?;
    let number = text.trim().parse();
    number.map_err(|_| Error::new(ErrorKind::InvalidData, text))
}

fn adjusted(mode: OomScoreAdj, value: i32, base: i32) -> i32 {
    let value = match mode {
        OomScoreAdj::Absolute => value,
        _ => base + value,
    };
    value.clamp(-1000, 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_relative_unless_said_otherwise_and_within_what_the_kernel_takes() {
        assert_eq!(adjusted(OomScoreAdj::Yes, 200, 100), 300);
        assert_eq!(adjusted(OomScoreAdj::Relative, 2000, 100), 1000);
        assert_eq!(adjusted(OomScoreAdj::Absolute, 200, 100), 200);
        assert_eq!(adjusted(OomScoreAdj::Absolute, -2000, 100), -1000);
    }
}
