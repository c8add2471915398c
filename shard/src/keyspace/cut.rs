//! A cut: all entries as they were at one moment, taken one by one while the keyspace goes on changing.
//!
//! Each entry has an *epoch*, the keyspace has one, and new entries get the keyspace's. A cut begins with a new epoch, so all
//! entries that are there have another: they are not taken yet. A walk over the tables takes them a few at a time; an entry that is about
//! to change or go is taken first, by whoever changes it ([`EntryMut`](super::EntryMut), [`Keyspace::free_some`]). An entry that is taken gets the
//! keyspace's epoch.
//!
//! The walk goes by the databases' uids, which stay with them through SWAPDB, and by SCAN's cursors: what is there all the
//! time comes by. A database that is flushed meanwhile is taken when its entries are freed.
//!
//! A cut that nobody wants any more still walks to its end, only to give all entries one epoch. It may be replaced before that: there are
//! eight epochs, and a new cut begins with one that no entry has.
//!
//! Invariants
//! - without a cut all entries have the keyspace's epoch;
//! - with one, those of another epoch, in tables or in databases flushed since, are what is left to be taken.

use super::entry::{EPOCH_STEP, Entry};
use super::{EntryRef, Keyspace};

/// Entries whose loads are begun together.
const BATCH: usize = 16;

/// How far an entry was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Bytes that this made, or about what it cost as much.
    pub effort: usize,
    /// False: only a part of it.
    pub whole: bool,
}

/// Takes a cut's entries.
pub trait Taker {
    /// `db`: where the entry was when the cut began. `at_once`: it is about to change, so all of it must be taken. Otherwise it may be taken
    /// by parts: it is given again, before any other that is not `at_once`, until it was taken as a whole.
    fn take(&mut self, db: usize, entry: EntryRef<'_>, at_once: bool) -> Taken;
    /// All entries were taken.
    fn finish(&mut self);
}

/// A cut that runs.
pub struct Cut {
    /// `None`: nobody wants it any more.
    taker: Option<Box<dyn Taker>>,
    /// By uid: the database's index when the cut began.
    indexes: Box<[u16]>,
    walk: Walk,
    /// Entries not taken yet.
    left: usize,
    /// One that was taken in part. It is where it was: it cannot change without being taken as a whole.
    open: Option<(u16, Entry)>,
    batch: Vec<Entry>,
    /// The walk is at its end.
    over: bool,
}

/// A place in the walk: database by uid, slot, and hash from which on.
#[derive(Clone, Copy, Default)]
struct Walk {
    uid: u16,
    slot: u16,
    from: u64,
}

impl Cut {
    pub fn left(&self) -> usize {
        self.left
    }
    pub fn is_wanted(&self) -> bool {
        self.taker.is_some()
    }
    /// What is left lies in databases that were flushed: [`Keyspace::free_some`] comes to it.
    pub fn waits(&self) -> bool {
        self.over && self.open.is_none()
    }

    /// Takes an entry that was not taken yet. Returns the effort.
    fn take(&mut self, uid: u16, entry: Entry, epoch: u8, at_once: bool) -> usize {
        let Some(taker) = &mut self.taker else {
            entry.set_epoch(epoch);
            return 16;
        };
        let db = self.indexes[uid as usize] as usize;
        let taken = taker.take(db, EntryRef::new(entry), at_once);
        debug_assert!(taken.whole || !at_once, "what is about to change is taken whole");
        if taken.whole {
            entry.set_epoch(epoch);
            self.left -= 1;
            if self.open.is_some_and(|(_, open)| open == entry) {
                self.open = None;
            }
        } else {
            self.open = Some((uid, entry));
        }
        taken.effort
    }
}

impl Keyspace {
    /// Begins a cut of all entries as they are now. One that runs ends.
    pub fn begin_cut(&mut self, taker: Box<dyn Taker>) {
        self.abandon_cut();
        if self.epochs == u8::MAX {
            // Seven cuts in a row failed, each before the last one's walk was over.
            while !self.cut_some(usize::MAX) {}
        }
        let free = self.epochs.trailing_ones() as u8;
        self.epochs |= 1 << free;
        self.heap.epoch = free * EPOCH_STEP;
        let mut indexes = vec![0; self.dbs.len()];
        for (index, db) in self.dbs.iter().enumerate() {
            indexes[db.uid as usize] = index as u16;
        }
        self.cut = Some(Box::new(Cut {
            taker: Some(taker),
            indexes: indexes.into(),
            walk: Walk::default(),
            left: self.dbs.iter().map(|db| db.len).sum(),
            open: None,
            batch: Vec::with_capacity(2 * BATCH),
            over: false,
        }));
    }

    /// Nobody wants the rest of the cut that runs, if one does.
    pub fn abandon_cut(&mut self) {
        if let Some(cut) = &mut self.cut {
            cut.taker = None;
            cut.open = None;
            for flushed in &mut self.graveyard.tables {
                flushed.cut = None;
            }
        }
    }

    /// The cut that runs.
    pub fn cut(&self) -> Option<&Cut> {
        self.cut.as_deref()
    }

    /// An entry is about to change: it is taken first if it was not yet.
    #[cold]
    #[inline(never)]
    pub(super) fn take_first(&mut self, uid: u16, entry: Entry) {
        let epoch = self.heap.epoch;
        if entry.epoch() != epoch
            && let Some(cut) = &mut self.cut
        {
            cut.take(uid, entry, epoch, true);
        }
    }

    /// Takes entries of the cut that runs, with about so much effort. True when none runs any more.
    pub fn cut_some(&mut self, effort: usize) -> bool {
        let Some(mut cut) = self.cut.take() else {
            return true;
        };
        let epoch = self.heap.epoch;
        let mut spent = 0;
        'walk: while spent < effort {
            if let Some((uid, entry)) = cut.open {
                spent += cut.take(uid, entry, epoch, false);
                continue;
            }
            if cut.is_wanted() && cut.left == 0 {
                cut.over = true;
                break;
            }
            let before = cut.walk;
            let mut batch = std::mem::take(&mut cut.batch);
            batch.clear();
            let uid = self.next_batch(&mut cut.walk, &mut batch);
            cut.over = batch.is_empty();
            for &entry in &batch {
                if spent >= effort || cut.open.is_some() {
                    // The rest comes by again, and what was taken is passed over.
                    cut.walk = before;
                    cut.batch = batch;
                    continue 'walk;
                }
                if entry.epoch() != epoch {
                    spent = spent.saturating_add(64 + cut.take(uid, entry, epoch, false));
                }
            }
            cut.batch = batch;
            // Looking at what is taken already costs something too.
            spent = spent.saturating_add(64);
            if cut.over {
                break;
            }
        }
        if !cut.over || cut.is_wanted() && cut.left > 0 {
            self.cut = Some(cut);
            return false;
        }
        if let Some(mut taker) = cut.taker {
            taker.finish();
        }
        for flushed in &mut self.graveyard.tables {
            flushed.cut = None;
        }
        self.epochs = 1 << (epoch / EPOCH_STEP);
        true
    }

    /// The next entries of one database, their loads begun. None at the walk's end.
    fn next_batch(&self, walk: &mut Walk, batch: &mut Vec<Entry>) -> u16 {
        while (walk.uid as usize) < self.dbs.len() {
            let db = self.db_of_uid(walk.uid);
            let Some(slot) = self.next_slot(db, walk.slot) else {
                if !batch.is_empty() {
                    return walk.uid;
                }
                *walk = Walk {
                    uid: walk.uid + 1,
                    ..Walk::default()
                };
                continue;
            };
            if slot != walk.slot {
                (walk.slot, walk.from) = (slot, 0);
            }
            let next = self.scan_slot(db, slot, walk.from, |entry| {
                super::table::prefetch_entry(entry.entry);
                batch.push(entry.entry);
            });
            match next {
                Some(next) => walk.from = next,
                None => (walk.slot, walk.from) = (slot + 1, 0),
            }
            if batch.len() >= BATCH {
                return walk.uid;
            }
        }
        0
    }
}
