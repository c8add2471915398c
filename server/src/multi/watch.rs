//! WATCH: what a transaction is carried out on condition of.

use crate::core::Core;
use crate::io::ConnId;
use crate::mailbox::{Mail, Ticket};
use crate::transaction::Waiting;
use ringwood_shard::locks::Slots;
use ringwood_shard::watch::Name;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// One WATCH.
#[derive(Debug)]
pub struct Watcher {
    pub keys: Vec<Name>,
    /// One of the keys changed. Set by their owners.
    changed: Arc<AtomicBool>,
    /// Owners that have not taken note of it.
    left: AtomicUsize,
    /// The client watches no more: an owner that has not taken note of it yet does not.
    over: AtomicBool,
}

impl Watcher {
    fn memory(&self) -> usize {
        let names = self.keys.iter().map(|(_, key)| key.len());
        size_of::<Self>() + self.keys.len() * size_of::<Name>() + names.sum::<usize>()
    }
    pub fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }
}

impl Core {
    /// WATCH: the owners of the keys take note of it, then the reply comes. True when all are of this core.
    pub(crate) fn watch(&mut self, conn: ConnId, keys: Vec<Name>) -> bool {
        let mut owners: Vec<u16> = keys
            .iter()
            .map(|(_, key)| self.owner(ringwood_protocol::slot::key_slot(key)))
            .collect();
        owners.sort_unstable();
        owners.dedup();
        let watcher = Arc::new(Watcher {
            keys,
            changed: Arc::default(),
            left: AtomicUsize::new(owners.len()),
            over: AtomicBool::new(false),
        });
        let client = self.clients.get_mut(conn).expect("looked up by the caller");
        if client.watchers.is_empty() {
            client.watch_memory = 0;
        }
        client.watch_memory += watcher.memory();
        client.watchers.push(watcher.clone());
        if *owners == [self.id as u16] && self.slots_in_use(&watcher).is_none() {
            self.take_note(&watcher);
            return true;
        }
        // Parts overtake mail: what comes behind and may change one of the keys waits until the owners have taken note.
        let slots = watcher
            .keys
            .iter()
            .map(|(_, key)| ringwood_protocol::slot::key_slot(key));
        let bits = slots.fold(0, |bits, slot| bits | ringwood_shard::locks::bit(slot));
        let client = self.clients.get_mut(conn).expect("looked up by the caller");
        client.outstanding |= bits;
        let ticket = self.ticket(conn);
        // This core first: were it the last of them, it would answer a client whose command has not returned yet.
        if owners.contains(&(self.id as u16)) {
            self.watch_here(watcher.clone(), ticket);
        }
        for owner in owners.into_iter().map(usize::from) {
            if owner != self.id {
                let watcher = watcher.clone();
                self.mailbox.send(owner, Mail::Watch(watcher, ticket));
            }
        }
        false
    }

    /// The slots of this core's keys of a WATCH, if one of them is in use.
    pub(super) fn slots_in_use(&self, watcher: &Watcher) -> Option<Slots> {
        let slots = watcher
            .keys
            .iter()
            .map(|(_, key)| ringwood_protocol::slot::key_slot(key));
        let slots: Vec<u16> = slots
            .filter(|&slot| self.owner(slot) as usize == self.id)
            .collect();
        let in_use = slots.iter().any(|&slot| self.locks.in_use(slot));
        in_use.then(|| Slots::of(slots))
    }

    /// Sets the flag at this core's keys of a WATCH.
    pub(super) fn take_note(&mut self, watcher: &Arc<Watcher>) {
        if watcher.over.load(Ordering::Acquire) {
            return;
        }
        for (db, key) in &watcher.keys {
            let slot = ringwood_protocol::slot::key_slot(key);
            if self.owner(slot) as usize == self.id {
                // Only for a slow script is it lent.
                let away = self.locks.in_use(slot);
                self.shard.watch(*db, key, watcher.changed.clone(), away);
            }
        }
    }

    /// WATCHes of other cores' clients: behind the transaction parts that have come, since who sent them may know of what those do.
    pub(crate) fn serve_watches(&mut self) {
        for (watcher, ticket) in std::mem::take(&mut self.watches) {
            self.watch_here(watcher, ticket);
        }
    }

    /// One of several owners takes note, when the keys' slots are free; the last has WATCH answered.
    pub(super) fn watch_here(&mut self, watcher: Arc<Watcher>, ticket: Ticket) {
        // A slow script makes nobody wait for WATCH.
        match self.slots_in_use(&watcher) {
            Some(slots) if self.locked_error().is_none() => {
                let work = Waiting::Watch { ticket, watcher };
                self.locks.defer(slots, work);
            }
            _ => self.watch_now(&watcher, ticket),
        }
    }

    pub(crate) fn watch_now(&mut self, watcher: &Arc<Watcher>, ticket: Ticket) {
        self.take_note(watcher);
        if watcher.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.answer(ticket, b"+OK\r\n".to_vec());
        }
    }

    /// Ends all of a client's watches.
    pub(crate) fn unwatch(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(conn) {
            let watchers = std::mem::take(&mut client.watchers);
            self.unwatch_all(&watchers);
        }
    }

    pub(super) fn unwatch_all(&mut self, watchers: &[Arc<Watcher>]) {
        for watcher in watchers {
            watcher.over.store(true, Ordering::Release);
            let mut told = 0u128;
            for (_, key) in &watcher.keys {
                let owner = self.owner(ringwood_protocol::slot::key_slot(key)) as usize;
                if told >> owner & 1 != 0 {
                    continue;
                }
                told |= 1 << owner;
                if owner == self.id {
                    self.unwatch_here(watcher);
                } else {
                    self.mailbox.send(owner, Mail::Unwatch(watcher.clone()));
                }
            }
        }
    }

    pub(crate) fn unwatch_here(&mut self, watcher: &Arc<Watcher>) {
        for name in &watcher.keys {
            self.shard.attention.unwatch(name, &watcher.changed);
        }
    }
}
