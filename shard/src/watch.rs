//! Who is told when keys change: clients that block on them, clients that WATCH them, and the core to which a key belongs
//! that another core has borrowed.
//!
//! Blocked clients get their keys' names queued, to be served behind the command. A WATCH sets a flag that the client's
//! core looks at in EXEC, under the locks of the watched keys.

use crate::keyspace::Key;
use crate::shard::notify;
use crate::slot_set::SlotSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A key: its database and name.
pub type Name = (usize, Box<[u8]>);

#[derive(Debug)]
struct Watched {
    changed: Arc<AtomicBool>,
    /// The key was there when WATCH was called. FLUSHALL and SWAPDB concern only keys that are there.
    existed: bool,
}

/// The keys of one core that somebody has an eye on.
#[derive(Debug, Default)]
pub struct Attention {
    /// Keys that blocked clients wait for, with how many wait.
    pub waited: HashMap<Name, usize>,
    watched: HashMap<Name, Vec<Watched>>,
    /// Keys of `waited` that changed since the server last took this.
    pub touched: Vec<Name>,
    /// While keys of other cores are here: those that changed. Their owners are told when the keys go home.
    pub guests_changed: Option<Vec<Name>>,
    /// Clients' caches.
    pub tracking: crate::tracking::Tracking,
    /// A script runs a command that it may have to take back: nobody hears of its changes before it is known that it does not.
    pub withholds: bool,
    withheld: Vec<(Name, u32)>,
}

impl Attention {
    /// True when nobody has an eye on anything.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.waited.is_empty()
            && self.watched.is_empty()
            && self.guests_changed.is_none()
            && !self.tracking.on
    }

    /// A key changed. For [`notify::ALL_KEYS`] all of the database may have; `exists` says which are there now.
    #[cold]
    pub fn changed(&mut self, db: usize, key: &[u8], class: u32, exists: impl Fn(&[u8]) -> bool) {
        if class == notify::ALL_KEYS {
            let keys = self.waited.keys().filter(|(d, _)| *d == db);
            self.touched.extend(keys.cloned());
            for ((_, key), watched) in self.watched.iter().filter(|((d, _), _)| *d == db) {
                for w in watched.iter().filter(|w| w.existed || exists(key)) {
                    w.changed.store(true, Ordering::Release);
                }
            }
            return;
        }
        let name = (db, Box::from(key));
        if self.withholds {
            return self.withheld.push((name, class));
        }
        // An expired key counts as missing: who watched none sees none go. SWAPDB can bring one.
        let gone = class == notify::EXPIRED;
        for w in self.watched.get(&name).into_iter().flatten() {
            if w.existed || !gone {
                w.changed.store(true, Ordering::Release);
            }
        }
        if let Some(changed) = &mut self.guests_changed {
            changed.push(name.clone());
        }
        if self.waited.contains_key(&name) {
            self.touched.push(name);
        }
    }

    /// What was withheld is told, but for what happened to keys that are `undone`.
    pub fn tell_withheld(&mut self, undone: impl Fn(&Name) -> bool) {
        for (name, class) in std::mem::take(&mut self.withheld) {
            if !undone(&name) {
                self.changed(name.0, &name.1, class, |_| true);
            }
        }
    }

    /// A command found a key whose time was over, and removed it.
    pub fn expired(&mut self, db: usize, key: Key<'_>, owned: &SlotSet) {
        if self.is_idle() {
            return;
        }
        // A borrowed key is told of by its owner, when it is home.
        if self.tracking.on && owned.contains(key.slot) {
            // It is nobody's doing: the reader that removed it is told too.
            let writer = std::mem::take(&mut self.tracking.writer);
            self.tracking.changed(key.bytes);
            self.tracking.writer = writer;
        }
        self.changed(db, key.bytes, notify::EXPIRED, |_| false);
    }

    /// Blocked clients look at a key again that may have changed elsewhere.
    pub fn look_again(&mut self, db: usize, key: &[u8]) {
        let name = (db, Box::from(key));
        if self.waited.contains_key(&name) {
            self.touched.push(name);
        }
    }

    pub fn watch(&mut self, name: Name, changed: Arc<AtomicBool>, existed: bool) {
        let watched = self.watched.entry(name).or_default();
        watched.push(Watched { changed, existed });
    }
    /// Ends what [`Attention::watch`] began with this flag.
    pub fn unwatch(&mut self, name: &Name, changed: &Arc<AtomicBool>) {
        if let Some(watched) = self.watched.get_mut(name) {
            watched.retain(|w| !Arc::ptr_eq(&w.changed, changed));
            if watched.is_empty() {
                self.watched.remove(name);
            }
        }
    }
    pub fn watched_keys(&self) -> usize {
        self.watched.len()
    }
}
