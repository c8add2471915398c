//! All keys of one core: per database and slot a table of entries.
//!
//! This is the safe face over [`heap`], [`entry`] and [`table`]. It knows nothing of expiry rules, statistics or commands; that
//! is [`crate::shard::Shard`]'s.
//!
//! Invariants
//! - `len`, `expiring` and the slot group counts of a database equal a recount;
//! - every entry's block belongs to this keyspace's heap;
//! - `used_memory` equals a recount;
//! - whatever changes or frees an entry passes [`EntryMut::changing`] or [`Keyspace::free_some`], where a running cut takes it first ([`cut`]).

pub mod cut;
pub mod entry;
pub mod heap;
mod open;
mod roots;
pub mod table;
mod thin;

use crate::memory::untouched::Untouched;
use crate::object::{Encoding, Object, Type};
use crate::slot_set::SlotSet;
use cut::Cut;
use entry::{Entry, Header, Parts, Value};
use foldhash::quality::SeedableRandomState;
use heap::Heap;
pub use open::{EntryMut, EntryRef, Found};
use ringwood_protocol::slot::{SLOT_COUNT, key_slot};
use roots::{Pages, Roots};
use std::hash::{BuildHasher, Hasher};
use table::{Cell, Node};

const SLOTS: usize = SLOT_COUNT as usize;
/// Slots are counted in groups, so that picking the n-th key need not walk all slots.
const GROUP: usize = 128;

/// Hashes keys. One seed for all cores, secret and random, so that nobody can choose colliding keys.
#[derive(Clone)]
pub struct KeyHasher(SeedableRandomState);

impl KeyHasher {
    pub fn new(seed: u64) -> Self {
        Self(SeedableRandomState::with_seed(
            seed,
            foldhash::SharedSeed::global_fixed(),
        ))
    }
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(key);
        hasher.finish()
    }
}

/// A key with its slot and hash, computed once a request.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    pub bytes: &'a [u8],
    pub hash: u64,
    pub slot: u16,
}

/// One database of one core.
struct Db {
    /// By slot; made when the database gets its first key.
    tables: Option<Roots>,
    len: usize,
    expiring: usize,
    groups: [u32; SLOTS / GROUP],
    /// Stays with the database through SWAPDB; the expiry wheel knows it by this.
    uid: u16,
}

impl Db {
    fn new(uid: u16) -> Self {
        Self {
            tables: None,
            len: 0,
            expiring: 0,
            groups: [0; SLOTS / GROUP],
            uid,
        }
    }
}

/// Values whose freeing may take long, and tables of flushed databases: freed in slices.
#[derive(Default)]
struct Graveyard {
    /// Boxed as they were in their entries: moving the contents out would be the work that is put off.
    #[allow(clippy::vec_box)]
    objects: Vec<Box<Object>>,
    tables: Vec<Flushed>,
}

/// The tables of a flushed database, freed from the first slot on.
struct Flushed {
    tables: Roots,
    /// Entries in each group of slots, so that a small database is freed without a look at every slot.
    groups: [u32; SLOTS / GROUP],
    next: usize,
    /// Entries not freed yet; not 0.
    len: usize,
    /// The database's, if entries of it may belong to the cut that runs.
    cut: Option<u16>,
}

/// The keys of a core.
pub struct Keyspace {
    dbs: Vec<Db>,
    /// By uid: the database's index.
    by_uid: Vec<u16>,
    /// Of the core's own slots.
    own: Pages,
    heap: Heap,
    hasher: KeyHasher,
    graveyard: Graveyard,
    /// Values and flushed entries freed in slices since somebody set this to 0 (INFO's lazyfreed_objects).
    pub lazily_freed: u64,
    cut: Option<Box<Cut>>,
    /// The epochs that entries may have, a bit for each.
    epochs: u8,
    /// Where the walk is that moves entries out of pages that hold little.
    thinned: thin::Walk,
}

impl Keyspace {
    pub fn new(databases: usize, hasher: KeyHasher) -> Self {
        assert!(
            databases <= 1 << 10,
            "the expiry wheel numbers databases with 10 bits"
        );
        Self {
            dbs: (0..databases).map(|i| Db::new(i as u16)).collect(),
            by_uid: (0..databases as u16).collect(),
            own: Pages::default(),
            heap: Heap::default(),
            hasher,
            graveyard: Graveyard::default(),
            lazily_freed: 0,
            cut: None,
            epochs: 1,
            thinned: thin::Walk::default(),
        }
    }

    /// The core's slots: what their tables need is there before the first key, in the first database from now on.
    pub fn set_own_slots(&mut self, slots: &SlotSet) {
        let own = Pages::of(slots);
        self.own = own;
        if let Some(first) = self.dbs.first_mut() {
            let tables = first.tables.get_or_insert_with(|| Roots::new(own));
            tables.set_own(own);
        }
    }
    pub fn databases(&self) -> usize {
        self.dbs.len()
    }
    pub fn len(&self, db: usize) -> usize {
        self.dbs[db].len
    }
    pub fn is_empty(&self) -> bool {
        self.dbs.iter().all(|db| db.len == 0)
    }
    /// Keys with an expiry.
    pub fn expiring(&self, db: usize) -> usize {
        self.dbs[db].expiring
    }
    pub fn slot_len(&self, db: usize, slot: u16) -> usize {
        self.dbs[db]
            .tables
            .as_ref()
            .map_or(0, |t| t[slot as usize].len())
    }
    /// Bytes of entries and tables cut from the heap's pages. Larger blocks count in [`crate::memory::thread_used`].
    pub fn heap_used(&self) -> usize {
        self.heap.live()
    }
    /// A huge page that will be needed soon.
    pub fn take_untouched(&mut self) -> Option<Untouched> {
        self.heap.take_untouched()
    }
    pub fn heap_resident(&self) -> usize {
        self.heap.resident()
    }
    pub fn uid(&self, db: usize) -> u16 {
        self.dbs[db].uid
    }
    pub fn db_of_uid(&self, uid: u16) -> usize {
        self.by_uid[uid as usize] as usize
    }

    #[inline]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        Key {
            bytes,
            hash: self.hasher.hash(bytes),
            slot: key_slot(bytes),
        }
    }
    pub fn hasher(&self) -> &KeyHasher {
        &self.hasher
    }

    #[inline]
    fn table(&self, db: usize, slot: u16) -> Option<&Node> {
        // Slots are below SLOT_COUNT by construction; the check costs less than a proof would.
        self.dbs[db].tables.as_ref()?.get(slot as usize)
    }

    // Stages to have a batch's entries in the cache before they are used: each stage starts the loads that the
    // next one needs, for all keys of the batch.
    #[inline]
    pub fn prefetch_table(&self, db: usize, slot: u16) {
        if let Some(node) = self.table(db, slot) {
            table::prefetch_node(node);
        }
    }
    #[inline]
    pub fn prefetch_bucket(&self, db: usize, slot: u16, hash: u64) {
        if let Some(node) = self.table(db, slot) {
            node.prefetch_bucket(hash);
        }
    }
    /// The entry that a look-up will nearly always find, if it finds any: for what is asked for next.
    #[inline]
    pub fn prefetch_entry(&self, db: usize, slot: u16, hash: u64) -> Option<EntryRef<'_>> {
        let entry = self.table(db, slot)?.prefetch_entry(hash)?;
        Some(EntryRef::new(entry))
    }

    #[inline(always)]
    fn find(&self, db: usize, key: Key<'_>) -> Option<Cell> {
        self.table(db, key.slot)?.find(key.hash, key.bytes)
    }
    #[inline]
    pub fn get(&self, db: usize, key: Key<'_>) -> Option<EntryRef<'_>> {
        Some(EntryRef::new(self.find(db, key)?.entry()))
    }
    #[inline]
    pub fn get_mut(&mut self, db: usize, key: Key<'_>) -> Option<EntryMut<'_>> {
        let cell = self.find(db, key)?;
        Some(EntryMut {
            keyspace: self,
            db,
            cell,
            slot: key.slot,
            hash: key.hash,
        })
    }
    /// The entry, unless its time is over at `now_ms`: then it is deleted. One search of the table for all of it.
    #[inline]
    pub fn find_live(&mut self, db: usize, key: Key<'_>, now_ms: i64) -> Found<EntryMut<'_>> {
        let Some(cell) = self.find(db, key) else {
            return Found::Missing;
        };
        let expired = cell.entry().expire_at().is_some_and(|at| at <= now_ms);
        let entry = EntryMut {
            keyspace: self,
            db,
            cell,
            slot: key.slot,
            hash: key.hash,
        };
        if expired {
            entry.remove();
            return Found::Expired;
        }
        Found::Live(entry)
    }

    fn link(&mut self, db: usize, key: Key<'_>, entry: Entry) -> EntryMut<'_> {
        let Self {
            dbs,
            own,
            heap,
            hasher,
            ..
        } = self;
        let database = &mut dbs[db];
        let tables = database.tables.get_or_insert_with(|| Roots::new(*own));
        let cell = tables[key.slot as usize].insert(heap, key.hash, entry, &|k| hasher.hash(k));
        database.len += 1;
        let group = &mut database.groups[key.slot as usize / GROUP];
        *group += 1;
        if *group == 1 {
            tables.use_slot(key.slot as usize);
        }
        database.expiring += entry.expire_at().is_some() as usize;
        EntryMut {
            keyspace: self,
            db,
            cell,
            slot: key.slot,
            hash: key.hash,
        }
    }

    /// Adds a key that is not there yet, with a value of bytes.
    pub fn insert_bytes(
        &mut self,
        db: usize,
        key: Key<'_>,
        header: &Header,
        parts: &[&[u8]],
    ) -> EntryMut<'_> {
        debug_assert!(self.find(db, key).is_none());
        let entry = Entry::with_bytes(&mut self.heap, header, key.bytes, parts);
        self.link(db, key, entry)
    }
    /// Adds a key that is not there yet.
    pub fn insert(&mut self, db: usize, key: Key<'_>, parts: Parts) -> EntryMut<'_> {
        debug_assert!(self.find(db, key).is_none());
        let entry = Entry::from_parts(&mut self.heap, key.bytes, parts);
        self.link(db, key, entry)
    }

    fn unlink(&mut self, db: usize, slot: u16, hash: u64, cell: Cell) -> Entry {
        let Self {
            dbs, heap, hasher, ..
        } = self;
        let database = &mut dbs[db];
        let entry = cell.entry();
        database.len -= 1;
        database.groups[slot as usize / GROUP] -= 1;
        database.expiring -= entry.expire_at().is_some() as usize;
        let tables = database.tables.as_mut().expect("a cell lies in a table");
        tables[slot as usize].remove(heap, hash, cell, &|k| hasher.hash(k));
        entry
    }

    fn free_entry(&mut self, entry: Entry) {
        // SAFETY: called with entries that no table word points to any more.
        if let Some(object) = unsafe { entry.free(&mut self.heap) }
            && object.free_effort() > 64
        {
            self.graveyard.objects.push(object);
        }
    }

    /// Frees in slices what was taken out of a value.
    pub fn free_later(&mut self, object: Box<Object>) {
        self.graveyard.objects.push(object);
    }

    /// Finds the key whose hash begins with these bits and which `wanted` accepts (the expiry wheel's way back).
    pub fn find_by_prefix(
        &mut self,
        db: usize,
        slot: u16,
        prefix: u64,
        bits: u32,
        wanted: impl Fn(EntryRef<'_>) -> bool,
    ) -> Option<EntryMut<'_>> {
        let mut hash = 0;
        let hasher = &self.hasher;
        let cell =
            self.table(db, slot)?
                .find_by_prefix(prefix << (64 - bits), bits, &mut |entry| {
                    hash = hasher.hash(entry.key());
                    hash >> (64 - bits) == prefix && wanted(EntryRef::new(entry))
                })?;
        Some(EntryMut {
            keyspace: self,
            db,
            cell,
            slot,
            hash,
        })
    }

    /// One step of a scan over a slot: the keys of one bucket from a hash prefix on. `None`: the slot is done.
    pub fn scan_slot<'a>(
        &'a self,
        db: usize,
        slot: u16,
        from: u64,
        mut f: impl FnMut(EntryRef<'a>),
    ) -> Option<u64> {
        self.table(db, slot)?
            .scan(from, &mut |entry| f(EntryRef::new(entry)))
    }
    /// The first slot from `from` on that holds keys.
    pub fn next_slot(&self, db: usize, from: u16) -> Option<u16> {
        let database = &self.dbs[db];
        let tables = database.tables.as_ref()?;
        let mut slot = from as usize;
        while slot < SLOTS {
            if slot.is_multiple_of(GROUP) && database.groups[slot / GROUP] == 0 {
                slot += GROUP;
            } else if !tables[slot].is_empty() {
                return Some(slot as u16);
            } else {
                slot += 1;
            }
        }
        None
    }
    pub fn each<'a>(&'a self, db: usize, mut f: impl FnMut(EntryRef<'a>)) {
        if let Some(tables) = &self.dbs[db].tables {
            for node in tables.iter() {
                node.each(&mut |entry| f(EntryRef::new(entry)));
            }
        }
    }
    pub fn each_in_slot<'a>(&'a self, db: usize, slot: u16, mut f: impl FnMut(EntryRef<'a>)) {
        if let Some(node) = self.table(db, slot) {
            node.each(&mut |entry| f(EntryRef::new(entry)));
        }
    }

    /// The `n`-th key of a database in slot order, for a random `n` below its length a fair choice.
    pub fn nth(&self, db: usize, n: usize) -> Option<EntryRef<'_>> {
        let database = &self.dbs[db];
        let tables = database.tables.as_ref()?;
        let mut left = n;
        let mut slot = 0;
        while slot < SLOTS {
            let group = database.groups[slot / GROUP] as usize;
            if left >= group {
                left -= group;
                slot += GROUP;
                continue;
            }
            for node in &tables[slot..slot + GROUP] {
                if left < node.len() {
                    return node.nth(left).map(EntryRef::new);
                }
                left -= node.len();
            }
            unreachable!("a group's count is the sum of its slots'");
        }
        None
    }

    /// Calls `f` for `count` entries in a row, with their slots, from about the `n`-th on, round to the first and on; an entry may come twice
    /// where there are not so many.
    pub(crate) fn sample(&self, db: usize, n: usize, count: usize, mut f: impl FnMut(u16, Entry)) {
        let database = &self.dbs[db];
        let Some(tables) = database.tables.as_ref().filter(|_| database.len > 0) else {
            return;
        };
        let mut n = n % database.len;
        let mut slot = 0;
        while n >= database.groups[slot / GROUP] as usize {
            n -= database.groups[slot / GROUP] as usize;
            slot += GROUP;
        }
        while n >= tables[slot].len() {
            n -= tables[slot].len();
            slot += 1;
        }
        let mut left = count;
        // From the second slot on, each gives at least one.
        while left > 0 {
            tables[slot].sample(n, &mut left, &mut |entry| f(slot as u16, entry));
            n = 0;
            let next = self.next_slot(db, slot as u16 + 1);
            let Some(next) = next.or_else(|| self.next_slot(db, 0)) else {
                return;
            };
            slot = next as usize;
        }
    }
    /// A look at an entry that [`Keyspace::sample`] gave, while nothing has changed.
    pub(crate) fn look(&self, entry: Entry) -> EntryRef<'_> {
        EntryRef::new(entry)
    }

    pub fn swap(&mut self, a: usize, b: usize) {
        self.dbs.swap(a, b);
        for db in [a, b] {
            self.by_uid[self.dbs[db].uid as usize] = db as u16;
        }
    }

    /// Empties a database at once; the memory is freed by [`Keyspace::free_some`].
    pub fn flush(&mut self, db: usize) {
        let uid = self.dbs[db].uid;
        let mut new = Db::new(uid);
        // A database that had tables will need them again: their memory is the server's, not the first key's.
        new.tables = match self.dbs[db].len {
            0 => self.dbs[db].tables.take(),
            _ => Some(Roots::new(self.own)),
        };
        let old = std::mem::replace(&mut self.dbs[db], new);
        if let Some(tables) = old.tables.filter(|_| old.len > 0) {
            self.graveyard.tables.push(Flushed {
                tables,
                groups: old.groups,
                next: 0,
                len: old.len,
                cut: self.cut.is_some().then_some(uid),
            });
        }
    }
    /// Empties one slot of a database at once.
    pub fn flush_slot(&mut self, db: usize, slot: u16) {
        let mut keys = Vec::new();
        self.each_in_slot(db, slot, |e| keys.push(e.key().to_vec()));
        for key in keys {
            let key = self.key(&key);
            if let Some(entry) = self.get_mut(db, key) {
                entry.remove();
            }
        }
    }

    /// Frees about `budget` entries of what was deleted or flushed. True when nothing is left.
    pub fn free_some(&mut self, budget: usize) -> bool {
        let mut left = budget;
        while left > 0 {
            if let Some(object) = self.graveyard.objects.last_mut() {
                let freed = object.free_some(left);
                if freed < left {
                    self.graveyard.objects.pop();
                    self.lazily_freed += 1;
                }
                left = left.saturating_sub(freed.max(1));
                continue;
            }
            let Some(flushed) = self.graveyard.tables.last_mut() else {
                return true;
            };
            if flushed.next.is_multiple_of(GROUP) && flushed.groups[flushed.next / GROUP] == 0 {
                flushed.next += GROUP;
                continue;
            }
            let node = &mut flushed.tables[flushed.next];
            flushed.next += 1;
            flushed.len -= node.len();
            if node.is_empty() {
                // It holds no memory.
                continue;
            }
            let mut entries = Vec::with_capacity(node.len());
            node.each(&mut |entry| entries.push(entry));
            node.free_nodes(&mut self.heap);
            let cut = flushed.cut;
            if flushed.len == 0 {
                self.graveyard.tables.pop();
            }
            left = left.saturating_sub(entries.len());
            self.lazily_freed += entries.len() as u64;
            for entry in entries {
                if let Some(uid) = cut {
                    self.take_first(uid, entry);
                }
                self.free_entry(entry);
            }
        }
        self.graveyard.objects.is_empty() && self.graveyard.tables.is_empty()
    }
    /// Entries that wait to be freed (INFO's lazyfree_pending_objects).
    pub fn free_pending(&self) -> usize {
        let flushed: usize = self.graveyard.tables.iter().map(|f| f.len).sum();
        self.graveyard.objects.len() + flushed
    }

    /// Checks what the module's head promises, by a recount.
    pub fn check_invariants(&self) {
        let mut live = 0;
        let mut untaken = 0;
        for (index, db) in self.dbs.iter().enumerate() {
            assert_eq!(self.by_uid[db.uid as usize] as usize, index);
            let Some(tables) = &db.tables else {
                assert_eq!((db.len, db.expiring), (0, 0));
                continue;
            };
            let (mut len, mut expiring) = (0, 0);
            for (slot, node) in tables.iter().enumerate() {
                node.check_invariants(&|k| self.hasher.hash(k));
                live += node.memory();
                node.each(&mut |entry| {
                    len += 1;
                    expiring += entry.expire_at().is_some() as usize;
                    untaken += (entry.epoch() != self.heap.epoch) as usize;
                    assert_eq!(
                        key_slot(entry.key()) as usize,
                        slot,
                        "a key in a slot not its own"
                    );
                    live += heap_part(entry.block_size());
                });
            }
            assert_eq!(
                (db.len, db.expiring),
                (len, expiring),
                "counts of database {index}"
            );
            assert_eq!(db.groups.iter().sum::<u32>() as usize, len);
        }
        for flushed in self.graveyard.tables.iter().filter(|f| f.cut.is_some()) {
            for node in &flushed.tables[flushed.next..] {
                let untaken = &mut untaken;
                node.each(&mut |entry| *untaken += (entry.epoch() != self.heap.epoch) as usize);
            }
        }
        match &self.cut {
            Some(cut) if cut.is_wanted() => assert_eq!(cut.left(), untaken, "the cut's rest"),
            Some(_) => {}
            None => assert_eq!((untaken, self.epochs.count_ones()), (0, 1), "epochs"),
        }
        if self.graveyard.tables.is_empty() {
            assert_eq!(self.heap.live(), live, "used_memory");
        }
    }
}

fn heap_part(bytes: usize) -> usize {
    // Blocks above the heap's limit are counted by the general allocator.
    if bytes > heap::BLOCK_MAX { 0 } else { bytes }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        self.cut = None;
        for db in 0..self.dbs.len() {
            self.flush(db);
        }
        while !self.free_some(usize::MAX) {}
    }
}

/// A value's parts for a plain string.
pub fn string_parts(value: Vec<u8>, access: u32, expire_at: Option<i64>) -> Parts {
    Parts {
        kind: Type::String,
        encoding: Encoding::of_string(&value),
        access,
        expire_at,
        value: Value::Bytes(value),
    }
}

#[cfg(test)]
mod tests;
