//! MONITOR: every command that runs, as a line to every client that asked for it.
//!
//! A line is made by the client's core when the command has run there or has been sent to its keys' owner, so a client's commands are
//! in its order, those of clients of different cores as they come. What scripts call is shown by the core that runs them, when it
//! is known that they need not start again. While nobody monitors, the cost is one look at a flag.

use super::command_log::is_secret;
use crate::client::Life;
use crate::core::Core;
use crate::io::{ConnId, Io};
use crate::mailbox::{Mail, Ticket};
use crate::registry::Entry;
use ringwood_protocol::command::{ADMIN, LUA, SKIP_MONITOR};
use ringwood_protocol::quote::append_repr;
use ringwood_shard::ctx::Args;
use std::sync::Arc;

/// What a core knows of monitoring clients.
#[derive(Debug, Default)]
pub struct Monitors {
    /// The cores that have any.
    cores: u128,
    /// This core's: connection and id.
    own: Vec<(ConnId, u64)>,
}

impl Monitors {
    #[inline]
    pub fn any(&self) -> bool {
        self.cores != 0
    }
    pub fn has(&self, client: u64) -> bool {
        self.own.iter().any(|(_, id)| *id == client)
    }
    /// Another core, or this one, has monitoring clients from now on, or none any more.
    pub fn note(&mut self, core: usize, any: bool) {
        match any {
            true => self.cores |= 1 << core,
            false => self.cores &= !(1 << core),
        }
    }
    pub fn add(&mut self, conn: ConnId, client: u64) {
        self.own.push((conn, client));
    }
}

impl Core {
    /// A command of a client has run, or is on its way.
    #[cold]
    pub(crate) fn monitor_command(&mut self, conn: ConnId, entry: &'static Entry, args: Args<'_>) {
        let Some(client) = self.clients.get(conn) else {
            return;
        };
        let who = match client.peer.strip_suffix(":0") {
            Some(path) if client.is_unix() => format!("unix:{path}"),
            _ => client.peer.clone(),
        };
        let db = client.db;
        self.monitor(db, &who, entry, args);
    }
    #[cold]
    pub(crate) fn monitor(&mut self, db: usize, who: &str, entry: &'static Entry, args: Args<'_>) {
        // Scripts are skipped by Redis's rule only to be shown before what they call.
        if entry.has(ADMIN) || entry.has(SKIP_MONITOR) && !entry.has(LUA) {
            return;
        }
        let passed_us = self.io.mono_ns().saturating_sub(self.now.mono_ns) / 1000;
        let us = self.now.unix_ms as u64 * 1000 + passed_us;
        let head = format!("+{}.{:06} [{db} {who}]", us / 1_000_000, us % 1_000_000);
        let mut line = head.into_bytes();
        for at in 0..args.len() {
            line.push(b' ');
            match is_secret(entry, args, at) {
                true => line.extend_from_slice(b"\"(redacted)\""),
                false => append_repr(&mut line, args[at]),
            }
        }
        line.extend_from_slice(b"\r\n");
        self.send_monitor_line(line.into());
    }

    /// Sends a line to all monitoring clients.
    pub(crate) fn send_monitor_line(&mut self, line: Arc<[u8]>) {
        let mut cores = self.monitors.cores & !(1 << self.id);
        while cores != 0 {
            let core = cores.trailing_zeros() as usize;
            cores &= cores - 1;
            self.mailbox.send(core, Mail::Monitor(line.clone()));
        }
        self.take_monitor_line(&line);
    }
    pub(crate) fn take_monitor_line(&mut self, line: &[u8]) {
        for at in 0..self.monitors.own.len() {
            let (conn, id) = self.monitors.own[at];
            self.push_to(conn, id, line);
        }
    }

    /// Sends a client what is no reply; behind the reply of its command that just runs.
    pub(crate) fn push_to(&mut self, conn: ConnId, id: u64, bytes: &[u8]) {
        let client = self.clients.get_mut(conn);
        let Some(client) = client.filter(|c| c.id == id && c.life == Life::Open) else {
            return;
        };
        if self.pubsub.is_executing(conn) {
            self.pubsub.push_behind(bytes);
            return;
        }
        client.push(bytes);
        self.mark_dirty(conn);
    }

    /// The client monitors no more: RESET, or it is gone.
    pub(crate) fn end_monitor(&mut self, conn: ConnId) {
        if self.monitors.own.is_empty() {
            return;
        }
        self.monitors.own.retain(|(c, _)| *c != conn);
        if self.monitors.own.is_empty() {
            let core = self.id;
            let tell = move |other: &mut Core| {
                other.monitors.note(core, false);
                Vec::new()
            };
            self.ask_all(Ticket::NOBODY, Arc::new(tell), Box::new(|_, _, _| ()));
        }
    }
}
