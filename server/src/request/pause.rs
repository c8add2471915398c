//! CLIENT PAUSE.

use crate::core::Core;
use crate::io::ConnId;
use crate::registry::Entry;
use ringwood_protocol::command::{LUA, MAY_REPLICATE, WRITE};
use ringwood_shard::ctx::Args;

/// CLIENT PAUSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Paused {
    No,
    Writes,
    All,
}

impl Core {
    /// True for a command that CLIENT PAUSE holds back: one that may write, where writes wait.
    pub(crate) fn is_paused(&mut self, entry: &Entry, args: Args<'_>) -> bool {
        match self.paused {
            Paused::No => false,
            Paused::All => true,
            Paused::Writes if !entry.has(WRITE | MAY_REPLICATE) => false,
            Paused::Writes => !entry.has(LUA) || !self.script_only_reads(entry, args),
        }
    }
    pub(crate) fn hold_for_pause(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(conn) {
            client.paused = true;
        }
    }
    /// Holds commands back. Of two pauses the longer time and the stricter mode hold.
    pub fn pause(&mut self, mode: Paused, timeout_ms: u64) {
        let until = self
            .now
            .mono_ns
            .saturating_add(timeout_ms.saturating_mul(1_000_000));
        self.paused = self.paused.max(mode);
        self.shard.keep_expired = true;
        self.paused_until_ns = self.paused_until_ns.max(until);
    }
    pub fn unpause(&mut self) {
        self.paused = Paused::No;
        self.paused_until_ns = 0;
        self.shard.keep_expired = false;
        for conn in std::mem::take(&mut self.held) {
            if let Some(client) = self.clients.get_mut(conn) {
                client.paused = false;
            }
            self.go_on(conn);
        }
    }
    /// Clients that the pause holds: each waits as a blocked one does.
    pub fn paused_clients(&self) -> usize {
        let mut held = self.held.clone();
        held.sort_unstable();
        // One that sent more meanwhile is in it again; one that is gone is in it still.
        held.dedup();
        held.retain(|conn| self.clients.get(*conn).is_some_and(|c| c.paused));
        held.len()
    }
}
