//! What watches commands run: the logs of slow and large ones, the latency monitor, MONITOR.
//!
//! Time per command without reading the clock for each: the clock is read once per group of commands ([`crate::request`]). Groups are
//! cut into *laps*: a command that may take long by its nature ([`crate::registry::Entry::heavy`]), one with a large
//! request and one with a large reply end a lap, and a heavy one begins its own. So what takes long is timed by itself, and the
//! small commands, most of all in pipelines, share one reading. A lap of small ones that took long (the machine was
//! busy elsewhere) is put down to its last. With a threshold below [`EACH_NS`] a lap is one command, as in Redis.

pub mod command_log;
pub mod latency;
pub mod monitor;

use crate::config::Config;
use crate::core::Core;
use crate::io::Io;
use crate::mailbox::{Mail, Ticket};
use crate::registry::Entry;
use crate::stats::Histogram;
use command_log::{Record, Which, loggable_words};
use ringwood_protocol::command::{FAST, SKIP_SLOWLOG};
use ringwood_shard::ctx::Args;

/// Thresholds below this can only be told by timing every command.
const EACH_NS: u64 = 1_000_000;
/// Requests and replies of so many bytes end a lap.
const LARGE: usize = 16 << 10;

/// From when on commands are looked at; from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Nanoseconds: the smaller of the two below.
    pub slow_ns: u64,
    log_ns: u64,
    latency_ns: u64,
    /// A request of so many bytes is a lap of its own; 0: every one.
    pub alone: usize,
    pub request: usize,
    /// A reply of so many bytes ends a lap.
    pub lap_reply: usize,
    reply: usize,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            slow_ns: u64::MAX,
            log_ns: u64::MAX,
            latency_ns: u64::MAX,
            alone: LARGE,
            request: usize::MAX,
            lap_reply: LARGE,
            reply: usize::MAX,
        }
    }
}

impl Thresholds {
    pub fn new(config: &Config) -> Self {
        // -1: never.
        let from = |setting: i64| u64::try_from(setting).unwrap_or(u64::MAX);
        let log_ns = from(config.slowlog_log_slower_than).saturating_mul(1000);
        let latency_ns = match config.latency_monitor_threshold {
            0 => u64::MAX,
            ms => ms.saturating_mul(1_000_000),
        };
        let slow_ns = log_ns.min(latency_ns);
        let request = from(config.commandlog_request_larger_than) as usize;
        let reply = from(config.commandlog_reply_larger_than) as usize;
        Self {
            slow_ns,
            log_ns,
            latency_ns,
            alone: match slow_ns < EACH_NS {
                true => 0,
                false => LARGE.min(request),
            },
            request,
            lap_reply: LARGE.min(reply),
            reply,
        }
    }
    pub fn watches_latency(&self) -> bool {
        self.latency_ns != u64::MAX
    }
    /// Every command is timed by itself.
    pub fn times_all(&self) -> bool {
        self.alone == 0
    }
    /// True when a command within a transaction or a script is timed.
    pub fn times_nested(&self, entry: &Entry) -> bool {
        self.times_all() || entry.heavy
    }
}

/// A request's bytes on the wire.
fn request_len(args: Args<'_>) -> usize {
    let header = |n: usize| 3 + n.checked_ilog10().unwrap_or(0) as usize + 1;
    let words: usize = args.iter().map(|w| header(w.len()) + w.len() + 2).sum();
    header(args.len()) + words
}

impl Core {
    /// A command, or the lap that it ended, took long.
    #[cold]
    pub(crate) fn note_slow(
        &mut self,
        caller: Ticket,
        entry: &'static Entry,
        args: Args<'_>,
        ns: u64,
    ) {
        let at = self.thresholds;
        if ns >= at.log_ns {
            self.record(Which::Slow, caller, entry, args, ns / 1000);
        }
        if ns >= at.latency_ns {
            let event = match entry.has(FAST) {
                true => "fast-command",
                false => "command",
            };
            self.shared
                .latency
                .add(event, self.now.unix_ms, ns / 1_000_000);
        }
    }
    /// Something else that holds up commands has been done.
    pub(crate) fn note_latency(&mut self, event: latency::Event, began_ns: u64) {
        let ns = self.io.mono_ns().saturating_sub(began_ns);
        if ns >= self.thresholds.latency_ns {
            let ms = ns / 1_000_000;
            self.shared.latency.add(event, self.now.unix_ms, ms);
        }
    }
    #[cold]
    pub(crate) fn note_request(&mut self, caller: Ticket, entry: &'static Entry, args: Args<'_>) {
        let len = request_len(args);
        if len >= self.thresholds.request {
            self.record(Which::LargeRequest, caller, entry, args, len as u64);
        }
    }
    /// A command's reply ends the lap.
    #[cold]
    pub(crate) fn note_reply(
        &mut self,
        caller: Ticket,
        entry: &'static Entry,
        args: Args<'_>,
        len: usize,
    ) {
        self.lap = true;
        if len >= self.thresholds.reply {
            self.record(Which::LargeReply, caller, entry, args, len as u64);
        }
    }

    /// A command that was timed by itself has run.
    #[inline]
    pub(crate) fn note_done(
        &mut self,
        caller: Ticket,
        entry: &'static Entry,
        args: Args<'_>,
        ns: u64,
        reply_len: usize,
    ) {
        if ns >= self.thresholds.slow_ns {
            self.note_slow(caller, entry, args, ns);
        }
        if reply_len >= self.thresholds.lap_reply {
            self.note_reply(caller, entry, args, reply_len);
            self.lap = false;
        }
    }

    /// A command within a transaction or a script has run, or one that had to wait for its turn.
    pub(crate) fn note_nested(
        &mut self,
        began_ns: u64,
        entry: &'static Entry,
        args: Args<'_>,
        reply_len: usize,
    ) {
        let ns = self.io.mono_ns().saturating_sub(began_ns);
        let bucket = self.config.latency_tracking.then(|| Histogram::bucket(ns));
        self.stats.spent(entry, 1, ns, bucket);
        self.note_done(self.caller, entry, args, ns, reply_len);
    }

    /// Logs a command. Only the client's core knows its name and address.
    fn record(
        &mut self,
        which: Which,
        caller: Ticket,
        entry: &'static Entry,
        args: Args<'_>,
        value: u64,
    ) {
        if entry.has(SKIP_SLOWLOG) {
            return;
        }
        let record = Record {
            which,
            value,
            unix_s: self.now.unix_ms / 1000,
            args: loggable_words(entry, args),
        };
        if caller.core as usize == self.id {
            self.take_record(caller, record);
        } else {
            // Before the command's reply, which takes the same way.
            let mail = Mail::Record(caller, Box::new(record));
            self.mailbox.send(caller.core as usize, mail);
        }
    }
    pub(crate) fn take_record(&mut self, caller: Ticket, record: Record) {
        let client = self.clients.get(caller.conn);
        let client = client.filter(|c| c.id == caller.client);
        let (peer, name) = match client {
            Some(client) => (client.peer.clone(), client.name.clone()),
            None => ("?:0".to_string(), Vec::new()),
        };
        let most = match record.which {
            Which::Slow => self.config.slowlog_max_len,
            Which::LargeRequest => self.config.commandlog_large_request_max_len,
            Which::LargeReply => self.config.commandlog_large_reply_max_len,
        };
        self.shared.command_logs.add(record, peer, name, most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_as_it_is_sent() {
        let args: Vec<&[u8]> = vec![b"SET", b"k", b"0123456789"];
        assert_eq!(
            request_len(&args),
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\n0123456789\r\n".len()
        );
        assert_eq!(request_len(&[&b""[..]]), b"*1\r\n$0\r\n\r\n".len());
    }
}
