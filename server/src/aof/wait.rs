//! WAITAOF: who waits until the log has what was written before, on disk.

use super::LogFile;
use crate::blocking::{InVain, Waiter};
use crate::core::Core;
use crate::mailbox::Ticket;
use crate::registry::Entry;
use ringwood_protocol::reply::Version;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex};

/// A core's file, and how far it is to be on disk.
pub type Target = (Arc<LogFile>, u64);

/// What a client waits for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub local: bool,
    /// None can be connected, so whoever wants one waits for the timeout.
    pub replicas: bool,
    /// `None`: for good.
    pub timeout_ms: Option<u64>,
}

pub struct Waiting {
    waiter: Arc<Waiter>,
    wanted: Wanted,
    targets: Vec<Target>,
    /// There is a log.
    is_logged: bool,
    /// For who ends the wait.
    synced: Arc<AtomicBool>,
}

impl Core {
    /// The client of WAITAOF waits until every core's log is on disk as far as it goes by now.
    pub(crate) fn wait_for_log(
        &mut self,
        ticket: Ticket,
        entry: &'static Entry,
        version: Version,
        wanted: Wanted,
    ) {
        let synced: Arc<AtomicBool> = Arc::default();
        let in_vain = InVain::Log(synced.clone());
        let waiter = self.begin_keyless_wait(ticket, entry, version, wanted.timeout_ms, in_vain);
        let targets: Arc<Mutex<Vec<Target>>> = Arc::default();
        let told = targets.clone();
        let ask = move |core: &mut Core| {
            core.commit_log_at_once();
            crate::commands::lock(&told).extend(core.log.target());
            Vec::new()
        };
        let conclude = move |core: &mut Core, _: Ticket, _: Vec<Vec<u8>>| {
            let targets = std::mem::take(&mut *crate::commands::lock(&targets));
            core.log_waiters.push(Waiting {
                waiter,
                wanted,
                targets,
                is_logged: core.config.appendonly,
                synced,
            });
            core.look_at_log_waiters();
        };
        self.ask_all(Ticket::NOBODY, Arc::new(ask), Box::new(conclude));
    }

    /// Whether all that this core has noted is on disk.
    pub(crate) fn is_log_on_disk(&self) -> bool {
        let target = self.log.target();
        let is_there = target.is_none_or(|(file, to)| file.synced.load(Acquire) >= to);
        is_there && self.shard.log.is_empty()
    }

    pub(crate) fn look_at_log_waiters(&mut self) {
        for waiting in std::mem::take(&mut self.log_waiters) {
            if waiting.waiter.is_over() {
                continue;
            }
            let is_there = |(file, to): &Target| file.synced.load(Acquire) >= *to;
            let synced = waiting.is_logged && waiting.targets.iter().all(is_there);
            waiting.synced.store(synced, Release);
            if waiting.wanted.replicas || waiting.wanted.local && !synced {
                self.log_waiters.push(waiting);
                continue;
            }
            let conn = waiting.waiter.ticket.conn;
            self.end_wait(conn, |reply, in_vain| in_vain.write(reply));
        }
    }
}
