//! ACL LOG: what was refused, the newest first. The same refusal again within a minute is counted, not listed again.

use std::collections::VecDeque;

/// Entries that are alike are joined within this time.
const JOIN_MS: i64 = 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Auth,
    Command,
    Key,
    Channel,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Command => "command",
            Self::Key => "key",
            Self::Channel => "channel",
        }
    }
}

/// Where it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    TopLevel,
    Multi,
    Lua,
}

impl Context {
    pub fn name(self) -> &'static str {
        match self {
            Self::TopLevel => "toplevel",
            Self::Multi => "multi",
            Self::Lua => "lua",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Event {
    pub reason: Reason,
    pub context: Context,
    /// The command, key or channel.
    pub object: Vec<u8>,
    pub user: Vec<u8>,
    /// As CLIENT LIST shows the client.
    pub client: String,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub id: u64,
    pub count: u64,
    pub event: Event,
    /// Unix milliseconds.
    pub created: i64,
    pub updated: i64,
}

#[derive(Default)]
pub struct Log {
    entries: VecDeque<Entry>,
    next_id: u64,
    /// How many in all, by reason.
    totals: [u64; 4],
}

impl Log {
    pub fn add(&mut self, event: Event, now_ms: i64, max: usize) {
        self.totals[event.reason as usize] += 1;
        let alike = |e: &Entry| {
            let known = &e.event;
            known.reason == event.reason
                && known.context == event.context
                && now_ms - e.updated <= JOIN_MS
                && known.object == event.object
                && known.user == event.user
        };
        let at = self.entries.iter().position(alike);
        let entry = match at.and_then(|at| self.entries.remove(at)) {
            Some(mut entry) => {
                entry.count += 1;
                entry.updated = now_ms;
                entry.event.client = event.client;
                entry
            }
            None => {
                let id = self.next_id;
                self.next_id += 1;
                Entry {
                    id,
                    count: 1,
                    event,
                    created: now_ms,
                    updated: now_ms,
                }
            }
        };
        self.entries.push_front(entry);
        self.entries.truncate(max);
    }
    pub fn newest(&self, count: usize) -> Vec<Entry> {
        self.entries.iter().take(count).cloned().collect()
    }
    pub fn reset(&mut self) {
        self.entries.clear();
    }
    pub fn total(&self, reason: Reason) -> u64 {
        self.totals[reason as usize]
    }
    /// CONFIG RESETSTAT.
    pub fn reset_totals(&mut self) {
        self.totals = [0; 4];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(object: &str) -> Event {
        Event {
            reason: Reason::Command,
            context: Context::TopLevel,
            object: object.into(),
            user: b"u".to_vec(),
            client: String::new(),
        }
    }

    #[test]
    fn the_same_again_is_counted() {
        let mut log = Log::default();
        log.add(event("get"), 1000, 3);
        log.add(event("set"), 2000, 3);
        log.add(event("get"), 3000, 3);
        let entries = log.newest(10);
        assert_eq!((entries[0].id, entries[0].count), (0, 2));
        assert_eq!((entries[0].created, entries[0].updated), (1000, 3000));
        log.add(event("get"), 3001 + JOIN_MS, 3);
        assert_eq!(log.newest(1)[0].id, 2);
        log.add(event("del"), 3002 + JOIN_MS, 3);
        assert_eq!(log.newest(10).len(), 3);
        assert_eq!(log.total(Reason::Command), 5);
        log.reset();
        assert!(log.newest(10).is_empty());
    }
}
