//! WAITAOF: who waits until the log has what was written before, on disk.

use super::LogFile;
use crate::core::Core;
use crate::mailbox::Ticket;
use ringwood_protocol::reply::{Reply, Version};
use std::sync::atomic::Ordering::Acquire;
use std::sync::{Arc, Mutex};

/// A core's file, and how far it is to be on disk.
pub type Target = (Arc<LogFile>, u64);

pub struct Waiting {
    ticket: Ticket,
    version: Version,
    targets: Vec<Target>,
    /// Monotonic nanoseconds.
    until: u64,
}

impl Core {
    /// Answers `ticket` when every core's log is on disk as far as it goes by now, or when `timeout_ms` (0: none) are over.
    pub(crate) fn wait_for_log(&mut self, ticket: Ticket, version: Version, timeout_ms: u64) {
        let until = match timeout_ms {
            0 => u64::MAX,
            ms => self
                .now
                .mono_ns
                .saturating_add(ms.saturating_mul(1_000_000)),
        };
        let targets: Arc<Mutex<Vec<Target>>> = Arc::default();
        let told = targets.clone();
        let ask = move |core: &mut Core| {
            core.commit_log_at_once();
            crate::commands::lock(&told).extend(core.log.target());
            Vec::new()
        };
        let conclude = move |core: &mut Core, ticket: Ticket, _: Vec<Vec<u8>>| {
            let targets = std::mem::take(&mut *crate::commands::lock(&targets));
            core.log_waiters.push(Waiting {
                ticket,
                version,
                targets,
                until,
            });
            core.look_at_log_waiters();
        };
        self.ask_all(ticket, Arc::new(ask), Box::new(conclude));
    }

    pub(crate) fn look_at_log_waiters(&mut self) {
        let now = self.now.mono_ns;
        for waiting in std::mem::take(&mut self.log_waiters) {
            let is_there = |(file, to): &Target| file.synced.load(Acquire) >= *to;
            let done = waiting.targets.iter().all(is_there);
            if !done && now < waiting.until {
                self.log_waiters.push(waiting);
                continue;
            }
            let mut out = Vec::new();
            let mut reply = Reply::new(&mut out, waiting.version);
            reply.array(2);
            reply.integer(done.into());
            reply.integer(0);
            self.answer(waiting.ticket, out);
        }
    }
}
