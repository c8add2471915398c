//! Consumer groups: what was delivered to whom and is not acknowledged yet.
//!
//! A group's pending entries are in one ordered map with all about each delivery; every consumer has the ordered set of its own IDs beside it.
//! A delivery names its consumer by a small number, the consumer's place in the group.
//!
//! Invariants: an ID is in the group's map if and only if it is in the set of exactly the consumer named there.

use super::id::StreamId;
use std::collections::{BTreeMap, BTreeSet};

/// A consumer's number in its group. It stays while the consumer lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerId(u32);

/// An entry that was delivered and is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Wall-clock milliseconds.
    pub delivered_at: i64,
    pub deliveries: u64,
    pub consumer: ConsumerId,
}

/// One reader of a group.
#[derive(Clone, Debug)]
pub struct Consumer {
    pub name: Box<[u8]>,
    /// When it last tried to read or claim anything.
    pub seen_at: i64,
    /// When it last got anything; `None`: never.
    pub active_at: Option<i64>,
    pending: BTreeSet<StreamId>,
}

impl Consumer {
    /// The IDs pending for it.
    pub fn pending(&self) -> &BTreeSet<StreamId> {
        &self.pending
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The last entry delivered to anybody.
    pub last_id: StreamId,
    /// How many entries the stream ever had up to `last_id`, if that is known.
    pub entries_read: Option<u64>,
    pending: BTreeMap<StreamId, Pending>,
    consumers: Vec<Option<Consumer>>,
    /// Places of `consumers` without one.
    free: Vec<u32>,
    /// Ordered, as they are listed.
    names: BTreeMap<Box<[u8]>, ConsumerId>,
}

impl Group {
    pub fn new(last_id: StreamId, entries_read: Option<u64>) -> Self {
        Self {
            last_id,
            entries_read,
            ..Self::default()
        }
    }

    // ---- consumers ----

    pub fn find_consumer(&self, name: &[u8]) -> Option<ConsumerId> {
        self.names.get(name).copied()
    }
    /// Adds a consumer of a new name.
    pub fn add_consumer(&mut self, name: &[u8], now_ms: i64) -> ConsumerId {
        let consumer = Consumer {
            name: name.into(),
            seen_at: now_ms,
            active_at: None,
            pending: BTreeSet::new(),
        };
        let id = ConsumerId(match self.free.pop() {
            Some(place) => {
                self.consumers[place as usize] = Some(consumer);
                place
            }
            None => {
                self.consumers.push(Some(consumer));
                (self.consumers.len() - 1) as u32
            }
        });
        let before = self.names.insert(name.into(), id);
        debug_assert!(before.is_none());
        id
    }
    /// Removes a consumer and all that is pending for it; returns how much that was.
    pub fn remove_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let id = self.names.remove(name)?;
        let consumer = self.consumers[id.0 as usize].take()?;
        self.free.push(id.0);
        for entry in &consumer.pending {
            self.pending.remove(entry);
        }
        Some(consumer.pending.len())
    }
    pub fn consumer(&self, id: ConsumerId) -> &Consumer {
        self.consumers[id.0 as usize]
            .as_ref()
            .expect("a consumer's number is dropped with it")
    }
    pub fn consumer_mut(&mut self, id: ConsumerId) -> &mut Consumer {
        self.consumers[id.0 as usize]
            .as_mut()
            .expect("a consumer's number is dropped with it")
    }
    /// The consumers by name.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = &Consumer> {
        self.names.values().map(|id| self.consumer(*id))
    }

    // ---- pending entries ----

    pub fn pending(&self) -> &BTreeMap<StreamId, Pending> {
        &self.pending
    }
    /// Notes a delivery to `consumer`, the first or one more. The caller says how often it was delivered in all.
    pub fn deliver(&mut self, id: StreamId, consumer: ConsumerId, at: i64, deliveries: u64) {
        let new = Pending {
            delivered_at: at,
            deliveries,
            consumer,
        };
        match self.pending.insert(id, new) {
            Some(before) if before.consumer == consumer => return,
            Some(before) => {
                self.consumer_mut(before.consumer).pending.remove(&id);
            }
            None => {}
        }
        self.consumer_mut(consumer).pending.insert(id);
    }
    /// Takes an entry off the pending ones. `None`: it was none.
    pub fn acknowledge(&mut self, id: StreamId) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        self.consumer_mut(pending.consumer).pending.remove(&id);
        Some(pending)
    }

    // ---- memory ----

    /// Drops up to `budget` pending entries; returns how many. Until all are gone nothing else is done with the group.
    pub fn free_some(&mut self, budget: usize) -> usize {
        let mut freed = 0;
        while freed < budget && self.pending.pop_first().is_some() {
            freed += 1;
        }
        for consumer in self.consumers.iter_mut().flatten() {
            while freed < budget && consumer.pending.pop_first().is_some() {
                freed += 1;
            }
        }
        freed
    }
    /// Steps of [`Group::free_some`].
    pub fn free_effort(&self) -> usize {
        2 * self.pending.len() + self.consumers.len()
    }
    /// About the bytes beside its own, as measured: maps that were filled in order have nodes that are half full.
    pub fn memory(&self) -> usize {
        let entry = size_of::<(StreamId, Pending)>() + size_of::<StreamId>();
        let names: usize = self.names.keys().map(|name| 2 * name.len() + 48).sum();
        self.pending.len() * entry * 11 / 5
            + names
            + self.consumers.capacity() * size_of::<Option<Consumer>>()
    }

    /// Checks what the module's head promises.
    pub fn check_invariants(&self) {
        let mut all = 0;
        for (name, id) in &self.names {
            let consumer = self.consumer(*id);
            assert_eq!(*name, consumer.name);
            all += consumer.pending.len();
            for entry in &consumer.pending {
                assert_eq!(self.pending.get(entry).map(|p| p.consumer), Some(*id));
            }
        }
        assert_eq!(all, self.pending.len());
        assert_eq!(self.names.len(), self.consumers.iter().flatten().count());
    }
}
