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
    /// The effort spent on entries because they were about to change.
    forced: usize,
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
    /// Bytes written of entries because they were about to change.
    pub fn forced(&self) -> usize {
        self.forced
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
        debug_assert!(
            taken.whole || !at_once,
            "what is about to change is taken whole"
        );
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
            forced: 0,
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
            cut.forced += cut.take(uid, entry, epoch, true);
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

#[cfg(test)]
mod tests {
    use super::super::entry::{Header, Parts, Value};
    use super::super::{KeyHasher, string_parts};
    use super::*;
    use crate::collections::quicklist::{End, List};
    use crate::object::{Encoding, Object, Type};
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    /// By database and key: value and expiry.
    type State = BTreeMap<(usize, Vec<u8>), (Vec<Vec<u8>>, Option<i64>)>;

    fn value(entry: EntryRef<'_>) -> (Vec<Vec<u8>>, Option<i64>) {
        let value = match entry.is_object() {
            false => vec![entry.bytes().to_vec()],
            true => match entry.object() {
                Object::List(list) => list.iter().map(|item| item.to_cow().to_vec()).collect(),
                other => panic!("{other:?}"),
            },
        };
        (value, entry.expire_at())
    }
    fn state(ks: &Keyspace) -> State {
        let mut all = State::new();
        for db in 0..ks.databases() {
            ks.each(db, |e| {
                all.insert((db, e.key().to_vec()), value(e));
            });
        }
        all
    }

    #[derive(Clone, Default)]
    struct Collected(Rc<RefCell<(State, bool)>>);
    struct Collector {
        collected: Collected,
        /// The object that was taken in part, how often, and what it was.
        open: Option<(Vec<u8>, usize, Vec<Vec<u8>>)>,
    }
    impl Taker for Collector {
        fn take(&mut self, db: usize, entry: EntryRef<'_>, at_once: bool) -> Taken {
            let now = value(entry);
            if entry.is_object() {
                let open = self.open.take().filter(|open| open.0 == entry.key());
                let (key, times, before) =
                    open.unwrap_or_else(|| (entry.key().to_vec(), 0, now.0.clone()));
                assert_eq!(before, now.0, "it does not change between two parts");
                if times < 3 && !at_once {
                    self.open = Some((key, times + 1, before));
                    return Taken {
                        effort: 100,
                        whole: false,
                    };
                }
            }
            let key = (db, entry.key().to_vec());
            let before = self.collected.0.borrow_mut().0.insert(key, now);
            assert_eq!(before, None, "taken twice");
            Taken {
                effort: 50,
                whole: true,
            }
        }
        fn finish(&mut self) {
            self.collected.0.borrow_mut().1 = true;
        }
    }

    fn header(expire_at: Option<i64>) -> Header {
        Header {
            kind: Type::String,
            encoding: Encoding::Raw,
            access: 0,
            expire_at,
        }
    }
    fn list(items: usize) -> Parts {
        let mut list = List::new(crate::commands::list::value::limit(&Default::default()));
        for n in 0..items {
            list.push(End::Back, format!("item {n}").as_bytes());
        }
        Parts {
            kind: Type::List,
            encoding: Encoding::Quicklist,
            access: 0,
            expire_at: None,
            value: Value::Object(Box::new(Object::List(list))),
        }
    }

    /// One random change.
    fn change(ks: &mut Keyspace, db: usize, n: u16, action: u8, size: usize) {
        // Half of the keys share a slot, so that its table is a tree.
        let key = match n % 2 {
            0 => format!("{{t}}{n}"),
            _ => format!("k{n}"),
        };
        let key = ks.key(key.as_bytes());
        let text = vec![b'a' + action; size];
        let expire_at = n.is_multiple_of(3).then_some(size as i64);
        match (action, ks.get_mut(db, key)) {
            (0..=3, None) => {
                ks.insert_bytes(db, key, &header(expire_at), &[&text]);
            }
            (4, None) => {
                ks.insert(db, key, list(size % 50));
            }
            (5.., None) => {}
            (0, Some(e)) => e.remove(),
            (1, Some(e)) => {
                let parts = e.take();
                let other = ks.key(b"another name");
                if let Some(e) = ks.get_mut(db, other) {
                    e.remove();
                }
                ks.insert(db, other, parts);
            }
            (2, Some(mut e)) => {
                e.set_expire_at(expire_at);
            }
            (3, Some(mut e)) => {
                e.set_bytes_and_expiry(Type::String, Encoding::Raw, &text, expire_at);
            }
            (4, Some(mut e)) if e.is_object() => match e.object_mut() {
                Object::List(list) => {
                    list.push(End::Front, b"first");
                }
                other => panic!("{other:?}"),
            },
            (5, Some(mut e)) if !e.is_object() => {
                let end = e.bytes().len();
                e.splice(end, 0, &text);
            }
            (6, Some(mut e)) if !e.is_object() => e.write_at(size, b"written"),
            (7, Some(mut e)) if !e.is_object() => e.bytes_mut().fill(b'f'),
            (8, Some(mut e)) => e.set_vector(Type::String, Encoding::Raw, text.repeat(5)),
            (9, Some(mut e)) => {
                e.set_access(7);
                e.set_in_wheel(size.is_multiple_of(2));
            }
            _ => {}
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..Default::default() })]
        /// Whatever changes meanwhile, and whether earlier cuts were abandoned half-way: what is taken is what was there.
        #[test]
        fn what_is_taken_is_what_was_there(
            steps in prop::collection::vec(
                (0u16..400, 0usize..3, 0u8..60, 0usize..1500), 400..1500),
            rounds in 1usize..12, often in 1usize..12) {
            let mut ks = Keyspace::new(3, KeyHasher::new(7));
            let each = steps.len().div_ceil(rounds);
            for (round, steps) in steps.chunks(each).enumerate() {
                let before = state(&ks);
                let collected = Collected::default();
                ks.begin_cut(Box::new(Collector { collected: collected.clone(), open: None }));
                let mut over = false;
                for (at, &(n, db, action, size)) in steps.iter().enumerate() {
                    match action {
                        57 => ks.flush(db),
                        58 => ks.swap(db, (db + 1) % 3),
                        59 => { ks.free_some(size); }
                        _ => change(&mut ks, db, n, action % 10, size),
                    }
                    if at % often == 0 {
                        over = ks.cut_some(1 + size * often / 4);
                    }
                    if at % 64 == 0 {
                        ks.check_invariants();
                    }
                }
                let half_way = round % 3 == 1 || rounds > 9 && round < 9;
                if half_way && !over {
                    ks.abandon_cut();
                    prop_assert!(!collected.0.borrow().1);
                    continue;
                }
                while !ks.cut_some(200) {
                    ks.free_some(1);
                }
                ks.check_invariants();
                let (taken, finished) = std::mem::take(&mut *collected.0.borrow_mut());
                prop_assert!(finished);
                prop_assert_eq!(taken, before);
            }
            while !ks.cut_some(200) {}
            ks.check_invariants();
        }
    }

    #[test]
    fn a_cut_of_nothing_ends() {
        let mut ks = Keyspace::new(2, KeyHasher::new(1));
        let collected = Collected::default();
        ks.begin_cut(Box::new(Collector {
            collected: collected.clone(),
            open: None,
        }));
        let key = ks.key(b"new");
        ks.insert(0, key, string_parts(b"v".to_vec(), 0, None));
        assert!(ks.cut_some(1));
        assert_eq!(*collected.0.borrow(), (State::new(), true));
        assert!(ks.cut().is_none());
        ks.check_invariants();
    }
}
