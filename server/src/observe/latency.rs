//! The latency monitor (`latency-monitor-threshold`): spikes by event, the newest of each kept.
//!
//! One for all cores, behind a lock: a sample is a stall of milliseconds, so taking it costs nothing beside.

use crate::commands::lock;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Mutex;

/// Samples kept of an event.
const SAMPLES: usize = 160;
/// A graph's columns and rows.
const COLUMNS: usize = 80;
const ROWS: usize = 4;

/// The events that exist here.
pub type Event = &'static str;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub unix_s: i64,
    pub ms: u64,
}

/// One event's samples, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct Series {
    pub samples: VecDeque<Sample>,
    /// Of all time, since the last reset.
    pub max_ms: u64,
}

impl Series {
    fn add(&mut self, unix_ms: i64, ms: u64) {
        self.max_ms = self.max_ms.max(ms);
        let unix_s = unix_ms / 1000;
        // A second has one sample, its worst.
        if let Some(last) = self.samples.back_mut()
            && last.unix_s == unix_s
        {
            last.ms = last.ms.max(ms);
            return;
        }
        self.samples.push_back(Sample { unix_s, ms });
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }
    pub fn last(&self) -> Sample {
        *self.samples.back().expect("a series begins with a sample")
    }
    fn extremes(&self) -> (u64, u64) {
        let all = || self.samples.iter().map(|s| s.ms);
        (all().max().unwrap_or(0), all().min().unwrap_or(0))
    }
}

/// All series, by event.
#[derive(Debug, Default)]
pub struct Latency(Mutex<BTreeMap<Event, Series>>);

impl Latency {
    pub fn add(&self, event: Event, unix_ms: i64, ms: u64) {
        lock(&self.0).entry(event).or_default().add(unix_ms, ms);
    }
    pub fn all(&self) -> Vec<(Event, Series)> {
        let all = lock(&self.0);
        all.iter().map(|(e, s)| (*e, s.clone())).collect()
    }
    pub fn get(&self, event: &[u8]) -> Option<(Event, Series)> {
        self.all().into_iter().find(|(e, _)| e.as_bytes() == event)
    }
    /// Forgets these events, or all if none is named; returns how many there were.
    pub fn reset(&self, events: &[&[u8]]) -> usize {
        let mut all = lock(&self.0);
        let before = all.len();
        all.retain(|event, _| !events.is_empty() && !events.contains(&event.as_bytes()));
        before - all.len()
    }
}

/// LATENCY GRAPH: a column a sample, how long ago it was below.
pub fn graph(event: Event, series: &Series, now_s: i64) -> String {
    let (high, low) = series.extremes();
    let mut out = format!(
        "{event} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        series.max_ms,
        "-".repeat(COLUMNS)
    );
    let samples: Vec<Sample> = series.samples.iter().copied().collect();
    for columns in samples.chunks(COLUMNS) {
        let labels: Vec<String> = columns
            .iter()
            .map(|s| match (now_s - s.unix_s).max(0) {
                s @ 0..60 => format!("{s}s"),
                s @ 60..3600 => format!("{}m", s / 60),
                s @ 3600..86_400 => format!("{}h", s / 3600),
                s => format!("{}d", s / 86_400),
            })
            .collect();
        for row in 0..ROWS {
            let below = (ROWS - 1 - row) * 3;
            let line = columns.iter().map(|s| {
                let steps = ROWS * 3;
                let height = (s.ms - low) as usize * steps / ((high - low).max(1) as usize);
                match height.min(steps - 1).checked_sub(below) {
                    None => ' ',
                    Some(0) => '_',
                    Some(1) => 'o',
                    Some(2) => '#',
                    Some(_) => '|',
                }
            });
            out.extend(line);
            out.push('\n');
        }
        let longest = labels.iter().map(String::len).max().unwrap_or(0);
        out.push('\n');
        for at in 0..longest {
            let letter = |label: &String| label.as_bytes().get(at).map_or(' ', |b| *b as char);
            out.extend(labels.iter().map(letter));
            out.push('\n');
        }
    }
    out
}

/// What the advice of LATENCY DOCTOR looks at.
pub struct Circumstances {
    pub threshold_ms: u64,
    /// Microseconds; negative: the slow log is off.
    pub slow_log_us: i64,
    pub slow_log_len: u64,
}

/// LATENCY DOCTOR: what the samples say, in words.
pub fn doctor(all: &[(Event, Series)], circumstances: &Circumstances) -> String {
    let &Circumstances {
        threshold_ms,
        slow_log_us,
        slow_log_len,
    } = circumstances;
    if threshold_ms == 0 {
        return "Latency monitoring is off. 'CONFIG SET latency-monitor-threshold <milliseconds>' turns it on.\n"
            .to_string();
    }
    if all.is_empty() {
        return format!(
            "No latency spike of {threshold_ms} ms or more has been seen since the monitor was last reset.\n"
        );
    }
    let mut out = String::from("Latency spikes have been seen:\n\n");
    for (n, (event, series)) in all.iter().enumerate() {
        let count = series.samples.len() as u64;
        let sum: u64 = series.samples.iter().map(|s| s.ms).sum();
        let mean = sum / count;
        let deviation: u64 = series.samples.iter().map(|s| s.ms.abs_diff(mean)).sum();
        let first = series.samples.front().map_or(0, |s| s.unix_s);
        let period = (series.last().unix_s - first) as f64 / count as f64;
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{}. {event}: {count} spikes (average {mean} ms, mean deviation {} ms, one in {period:.2} s). Worst of all time: {} ms.",
            n + 1,
            deviation / count,
            series.max_ms
        );
    }
    let seen = |names: &[&str]| all.iter().any(|(event, _)| names.contains(event));
    let mut advice: Vec<String> = Vec::new();
    if seen(&["command", "fast-command"]) {
        let log_ms = slow_log_us / 1000;
        if slow_log_us < 0 || slow_log_len == 0 {
            advice.push(format!(
                "The slow log is off. 'CONFIG SET slowlog-log-slower-than {}' (and slowlog-max-len above 0) has it name the commands.",
                threshold_ms * 1000
            ));
        } else if log_ms > threshold_ms as i64 {
            advice.push(format!(
                "The slow log begins at {log_ms} ms, above the monitor's {threshold_ms} ms: \
                 'CONFIG SET slowlog-log-slower-than {}'.",
                threshold_ms * 1000
            ));
        } else {
            advice.push("SLOWLOG GET names the commands that were slow.".to_string());
        }
    }
    if seen(&["command"]) {
        advice.push(
            "Commands over whole large values (KEYS, SORT, SMEMBERS, LRANGE 0 -1, set operations) take their core for as long \
             as they run: use the SCAN family, ranges, or smaller values."
                .to_string(),
        );
    }
    if seen(&["fast-command"]) {
        advice.push(
            "Commands of constant cost were slow: look for swapping, other processes on the same cores, or huge single values."
                .to_string(),
        );
    }
    if seen(&["expire-cycle"]) {
        advice.push(
            "Many keys expire at the same moment: add some randomness to their times to live."
                .to_string(),
        );
    }
    out.push_str("\nAdvice:\n\n");
    for line in advice {
        let _ = writeln!(out, "- {line}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_keeps_its_worst_and_old_samples_go() {
        let latency = Latency::default();
        for (ms, long) in [(1000, 5), (1900, 9), (1999, 3)] {
            latency.add("command", ms, long);
        }
        let (_, series) = latency.get(b"command").expect("it is there");
        assert_eq!(series.samples, [Sample { unix_s: 1, ms: 9 }]);
        for s in 2..500 {
            latency.add("command", s * 1000, 1);
        }
        let (_, series) = latency.get(b"command").expect("it is there");
        assert_eq!((series.samples.len(), series.max_ms), (SAMPLES, 9));
        assert_eq!(series.last().unix_s, 499);
        latency.add("fast-command", 0, 1);
        assert_eq!(latency.reset(&[b"nosuch", b"command"]), 1);
        assert_eq!(latency.reset(&[]), 1);
        assert!(latency.get(b"fast-command").is_none());
    }

    #[test]
    fn a_graph_is_drawn_as_redis_draws_it() {
        let mut series = Series::default();
        series.add(10_000, 10);
        series.add(11_000, 21);
        let drawn = graph("command", &series, 11);
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(
            lines[0],
            "command - high 21 ms, low 10 ms (all time high 21 ms)"
        );
        assert_eq!(lines[1].len(), 80);
        assert_eq!(lines[2..], [" #", " |", " |", "_|", "", "10", "ss"]);
    }
}
