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
pub mod table;
mod thin;

use crate::collections::timed_listpack;
use crate::object::{Encoding, Object, Type};
use cut::Cut;
use entry::{Entry, Header, Parts, Value};
use foldhash::quality::SeedableRandomState;
use heap::Heap;
use ringwood_protocol::slot::{SLOT_COUNT, key_slot};
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
    tables: Option<Box<[Node; SLOTS]>>,
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

fn new_tables() -> Box<[Node; SLOTS]> {
    let nodes: Box<[Node]> = vec![Node::default(); SLOTS].into_boxed_slice();
    nodes
        .try_into()
        .unwrap_or_else(|_| unreachable!("made with this length"))
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
    tables: Box<[Node; SLOTS]>,
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

/// A look at an entry.
#[derive(Clone, Copy)]
pub struct EntryRef<'a> {
    entry: Entry,
    _keyspace: std::marker::PhantomData<&'a Keyspace>,
}

impl<'a> EntryRef<'a> {
    fn new(entry: Entry) -> Self {
        Self {
            entry,
            _keyspace: std::marker::PhantomData,
        }
    }
    /// Tells it from all others that are there, until it changes.
    pub fn address(&self) -> usize {
        self.entry.as_ptr() as usize
    }
    pub fn kind(&self) -> Type {
        self.entry.kind()
    }
    pub fn encoding(&self) -> Encoding {
        self.entry.encoding()
    }
    pub fn key(&self) -> &'a [u8] {
        self.entry.key()
    }
    /// The value's bytes, of a string or a packed collection.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.entry.bytes()
    }
    pub fn is_object(&self) -> bool {
        self.entry.is_object()
    }
    pub fn object(&self) -> &'a Object {
        self.entry.object()
    }
    #[inline]
    pub fn expire_at(&self) -> Option<i64> {
        self.entry.expire_at()
    }
    /// When a field of a hash expires first.
    #[inline]
    pub fn earliest_field(&self) -> Option<i64> {
        if self.encoding() == Encoding::ListpackEx {
            timed_listpack::earliest(self.bytes())
        } else if self.is_object()
            && let Object::Hash(table) = self.object()
        {
            table.earliest()
        } else {
            None
        }
    }
    /// When time changes something here first: the key expires, or a field of it.
    pub fn next_time(&self) -> Option<i64> {
        let times = [self.expire_at(), self.earliest_field()];
        times.into_iter().flatten().min()
    }
    pub fn access(&self) -> u32 {
        self.entry.access()
    }
    pub fn in_wheel(&self) -> bool {
        self.entry.in_wheel()
    }
    /// An independent copy of what the entry is made of.
    pub fn duplicate(&self) -> Parts {
        Parts {
            kind: self.kind(),
            encoding: self.encoding(),
            access: self.access(),
            expire_at: self.expire_at(),
            value: if self.is_object() {
                Value::Object(self.object().duplicate())
            } else {
                Value::Bytes(self.bytes().to_vec())
            },
        }
    }
    /// Bytes of the entry with its value and its share of the table.
    pub fn memory(&self) -> usize {
        self.entry.block_size() + self.entry.outside() + 10
    }
}

/// What a look-up that knows the time found.
pub enum Found<E> {
    Live(E),
    /// It was there, but its time was over: it is deleted now.
    Expired,
    Missing,
}

/// An entry open for change.
pub struct EntryMut<'a> {
    keyspace: &'a mut Keyspace,
    db: usize,
    cell: Cell,
    slot: u16,
    hash: u64,
}

impl<'a> EntryMut<'a> {
    fn entry(&self) -> Entry {
        self.cell.entry()
    }
    pub fn get(&self) -> EntryRef<'_> {
        EntryRef::new(self.entry())
    }
    /// Closes the entry for change: it can be read for as long as it could have been changed.
    #[inline]
    pub fn into_ref(self) -> EntryRef<'a> {
        EntryRef::new(self.entry())
    }
    pub fn kind(&self) -> Type {
        self.entry().kind()
    }
    pub fn encoding(&self) -> Encoding {
        self.entry().encoding()
    }
    pub fn is_object(&self) -> bool {
        self.entry().is_object()
    }
    pub fn bytes(&self) -> &[u8] {
        self.entry().bytes()
    }
    /// Called before every change but those of the access bits and the place in the wheel.
    #[inline]
    fn changing(&mut self) {
        if self.keyspace.cut.is_some() {
            let uid = self.keyspace.dbs[self.db].uid;
            self.keyspace.take_first(uid, self.cell.entry());
        }
    }
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.changing();
        // SAFETY: `self` borrows the keyspace mutably, and the result borrows `self` mutably.
        unsafe { self.entry().bytes_mut() }
    }
    pub fn object_mut(&mut self) -> &mut Object {
        self.changing();
        // SAFETY: as above.
        unsafe { self.entry().object_mut() }
    }
    pub fn access(&self) -> u32 {
        self.entry().access()
    }
    pub fn set_access(&mut self, access: u32) {
        self.entry().set_access(access);
    }
    pub fn set_encoding(&mut self, encoding: Encoding) {
        self.changing();
        let entry = self.entry();
        entry.set_encoding(entry.kind(), encoding);
    }
    pub fn expire_at(&self) -> Option<i64> {
        self.entry().expire_at()
    }
    pub fn in_wheel(&self) -> bool {
        self.entry().in_wheel()
    }
    pub fn set_in_wheel(&mut self, on: bool) {
        self.entry().set_in_wheel(on);
    }

    /// Replaces the whole value by bytes; type and encoding too. The expiry stays.
    #[inline]
    pub fn set_bytes(&mut self, kind: Type, encoding: Encoding, value: &[u8]) {
        self.changing();
        self.overwrite(kind, encoding, value);
    }
    #[inline]
    fn overwrite(&mut self, kind: Type, encoding: Encoding, value: &[u8]) {
        let entry = self.entry();
        if entry.overwrite_inline(kind, encoding, value)
            || entry.overwrite_vector(kind, encoding, value)
        {
            return;
        }
        self.rebuild(kind, encoding, entry.expire_at(), |heap, header, key| {
            Entry::with_bytes(heap, header, key, &[value])
        });
    }
    /// As [`EntryMut::set_bytes`], with a new expiry, in one step. Returns what the expiry was.
    #[inline]
    pub fn set_bytes_and_expiry(
        &mut self,
        kind: Type,
        encoding: Encoding,
        value: &[u8],
        expire_at: Option<i64>,
    ) -> Option<i64> {
        self.changing();
        let before = self.entry().expire_at();
        match (before, expire_at) {
            (None, None) => self.overwrite(kind, encoding, value),
            (Some(_), Some(at)) => {
                self.entry().overwrite_expiry(at);
                self.overwrite(kind, encoding, value);
            }
            _ => {
                self.rebuild(kind, encoding, expire_at, |heap, header, key| {
                    Entry::with_bytes(heap, header, key, &[value])
                });
                self.count_expiring(expire_at.is_some());
            }
        }
        before
    }
    /// As [`EntryMut::set_bytes`], taking over a vector.
    pub fn set_vector(&mut self, kind: Type, encoding: Encoding, value: Vec<u8>) {
        self.changing();
        let expire_at = self.expire_at();
        self.rebuild(kind, encoding, expire_at, |heap, header, key| {
            Entry::with_vector_value(heap, header, key, value)
        });
    }
    /// Replaces the value by an object. The expiry stays.
    pub fn set_object(&mut self, kind: Type, encoding: Encoding, object: Box<Object>) {
        self.changing();
        let expire_at = self.expire_at();
        self.rebuild(kind, encoding, expire_at, |heap, header, key| {
            Entry::with_object(heap, header, key, object)
        });
    }

    fn rebuild(
        &mut self,
        kind: Type,
        encoding: Encoding,
        expire_at: Option<i64>,
        make: impl FnOnce(&mut Heap, &Header, &[u8]) -> Entry,
    ) {
        let old = self.entry();
        let header = Header {
            kind,
            encoding,
            access: old.access(),
            expire_at,
        };
        let new = make(&mut self.keyspace.heap, &header, old.key());
        new.set_in_wheel(old.in_wheel());
        self.cell.replace(new);
        self.keyspace.free_entry(old);
    }

    /// Replaces `delete` bytes at `at` by `insert`, which may lengthen or shorten the value. Type and encoding stay.
    pub fn splice(&mut self, at: usize, delete: usize, insert: &[u8]) {
        self.changing();
        let entry = self.entry();
        let (kind, encoding) = (entry.kind(), entry.encoding());
        let old = entry.bytes();
        assert!(at + delete <= old.len(), "a splice outside the value");
        if delete == insert.len() {
            self.bytes_mut()[at..at + delete].copy_from_slice(insert);
            return;
        }
        let len = old.len() - delete + insert.len();
        if entry.splice_inline(at, delete, insert) {
            return;
        }
        if !entry.is_inline() && len > entry::INLINE_MAX {
            entry.with_vector(|bytes| {
                make_room(bytes, len);
                if at == bytes.len() {
                    bytes.extend_from_slice(insert);
                } else {
                    bytes.splice(at..at + delete, insert.iter().copied());
                }
            });
            return;
        }
        let (head, tail) = (&old[..at], &old[at + delete..]);
        let expire_at = self.expire_at();
        self.rebuild(kind, encoding, expire_at, |heap, header, key| {
            if len > entry::INLINE_MAX {
                // A value that has begun to grow this far will often grow on: leave room.
                let mut bytes = Vec::with_capacity(len + len / 4);
                bytes.extend_from_slice(head);
                bytes.extend_from_slice(insert);
                bytes.extend_from_slice(tail);
                Entry::with_vector_value(heap, header, key, bytes)
            } else {
                Entry::with_bytes(heap, header, key, &[head, insert, tail])
            }
        });
    }

    /// Writes `bytes` at `at` over the value, which grows as needed; zeros fill a gap. Type and encoding stay.
    pub fn write_at(&mut self, at: usize, bytes: &[u8]) {
        self.changing();
        let len = self.bytes().len();
        let end = at + bytes.len();
        if end <= len {
            self.bytes_mut()[at..end].copy_from_slice(bytes);
            return;
        }
        if at <= len {
            self.splice(at, len - at, bytes);
            return;
        }
        if end > entry::INLINE_MAX {
            // In one step, without a second block of zeros.
            if self.entry().is_inline() {
                let mut value = Vec::with_capacity(end);
                value.extend_from_slice(self.bytes());
                value.resize(at, 0);
                value.extend_from_slice(bytes);
                self.set_vector(self.kind(), self.encoding(), value);
            } else {
                self.entry().with_vector(|value| {
                    make_room(value, end);
                    value.resize(at, 0);
                    value.extend_from_slice(bytes);
                });
            }
            return;
        }
        let mut tail = [0; entry::INLINE_MAX];
        tail[at - len..end - len].copy_from_slice(bytes);
        self.splice(len, 0, &tail[..end - len]);
    }

    /// Sets or clears the expiry. Returns what it was.
    pub fn set_expire_at(&mut self, expire_at: Option<i64>) -> Option<i64> {
        self.changing();
        let entry = self.entry();
        let before = entry.expire_at();
        match (before, expire_at) {
            (Some(_), Some(at)) => entry.overwrite_expiry(at),
            (None, None) => {}
            _ => {
                // SAFETY: the cell, the one owner, is set to the new block.
                let new = unsafe { entry.with_expiry(&mut self.keyspace.heap, expire_at) };
                self.cell.replace(new);
                self.count_expiring(expire_at.is_some());
            }
        }
        before
    }
    /// The entry got an expiry, or lost the one that it had.
    fn count_expiring(&mut self, more: bool) {
        let expiring = &mut self.keyspace.dbs[self.db].expiring;
        if more { *expiring += 1 } else { *expiring -= 1 }
    }

    /// Takes the entry out of the keyspace.
    pub fn take(mut self) -> Parts {
        self.changing();
        let entry = self
            .keyspace
            .unlink(self.db, self.slot, self.hash, self.cell);
        // SAFETY: unlinked just now.
        unsafe { entry.into_parts(&mut self.keyspace.heap) }
    }
    /// Deletes the entry.
    pub fn remove(mut self) {
        self.changing();
        let entry = self
            .keyspace
            .unlink(self.db, self.slot, self.hash, self.cell);
        self.keyspace.free_entry(entry);
    }
}

/// Room for `len` bytes in a vector that grows: half as much again while it is small, an eighth more when large, so that growth
/// by small pieces costs little and a large value wastes little.
fn make_room(bytes: &mut Vec<u8>, len: usize) {
    if len > bytes.capacity() {
        let spare = if len < 1 << 20 { len / 2 } else { len / 8 };
        bytes.reserve_exact(len + spare - bytes.len());
    }
}

impl Keyspace {
    pub fn new(databases: usize, hasher: KeyHasher) -> Self {
        assert!(
            databases <= 1 << 10,
            "the expiry wheel numbers databases with 10 bits"
        );
        let mut dbs: Vec<Db> = (0..databases).map(|i| Db::new(i as u16)).collect();
        if let Some(first) = dbs.first_mut() {
            first.tables = Some(new_tables());
        }
        Self {
            dbs,
            by_uid: (0..databases as u16).collect(),
            heap: Heap::default(),
            hasher,
            graveyard: Graveyard::default(),
            lazily_freed: 0,
            cut: None,
            epochs: 1,
            thinned: thin::Walk::default(),
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

    // Three stages to have a batch's entries in the cache before they are used: each stage starts the loads that the
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
    #[inline]
    pub fn prefetch_entry(&self, db: usize, slot: u16, hash: u64) {
        if let Some(node) = self.table(db, slot) {
            node.prefetch_entry(hash);
        }
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
            dbs, heap, hasher, ..
        } = self;
        let database = &mut dbs[db];
        let tables = database.tables.get_or_insert_with(new_tables);
        let cell = tables[key.slot as usize].insert(heap, key.hash, entry, &|k| hasher.hash(k));
        database.len += 1;
        database.groups[key.slot as usize / GROUP] += 1;
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
            _ => Some(new_tables()),
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn header() -> Header {
        Header {
            kind: Type::String,
            encoding: Encoding::Raw,
            access: 0,
            expire_at: None,
        }
    }
    fn keyspace() -> Keyspace {
        Keyspace::new(2, KeyHasher::new(7))
    }
    fn set(ks: &mut Keyspace, key: &[u8], value: &[u8]) {
        let k = ks.key(key);
        match ks.get_mut(0, k) {
            Some(mut e) => e.set_bytes(Type::String, Encoding::Raw, value),
            None => {
                ks.insert_bytes(0, k, &header(), &[value]);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..Default::default() })]
        /// Any run of changes leaves what a plain map would hold.
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec(
            (0u16..300, 0u8..9, prop::collection::vec(any::<u8>(), 0..300)), 1..800)) {
            let mut ks = keyspace();
            let mut model: BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)> = BTreeMap::new();
            for (n, action, value) in steps {
                // One hash tag, so that one table gets all the keys; some keys are long.
                let mut key = format!("{{t}}{n}").into_bytes();
                if n % 7 == 0 {
                    key.resize(300, b'x');
                }
                let k = ks.key(&key);
                match action {
                    0 | 1 => {
                        set(&mut ks, &key, &value);
                        model.entry(key).or_default().0 = value;
                    }
                    2 => {
                        let there = ks.get_mut(0, k).map(EntryMut::remove).is_some();
                        prop_assert_eq!(there, model.remove(&key).is_some());
                    }
                    3 => if let Some(mut e) = ks.get_mut(0, k) {
                        let at = value.len() as i64;
                        let to = (at % 2 == 0).then_some(at);
                        e.set_expire_at(to);
                        model.get_mut(&key).unwrap().1 = to;
                    }
                    4 => if let Some(mut e) = ks.get_mut(0, k) {
                        let end = e.bytes().len();
                        let big = value.repeat(20);
                        e.splice(end, 0, &big);
                        model.get_mut(&key).unwrap().0.extend_from_slice(&big);
                    }
                    5 => if let Some(mut e) = ks.get_mut(0, k) {
                        let at = value.len() * 23;
                        e.write_at(at, &value);
                        let model = &mut model.get_mut(&key).unwrap().0;
                        let end = at + value.len();
                        if model.len() < end {
                            model.resize(end, 0);
                        }
                        model[at..end].copy_from_slice(&value);
                    }
                    6 | 7 => if let Some(mut e) = ks.get_mut(0, k) {
                        let value = value.repeat(1 + 30 * (action as usize - 6));
                        let to = (n % 2 == 0).then_some(n as i64);
                        let before = e.set_bytes_and_expiry(Type::String, Encoding::Raw, &value, to);
                        let model = model.get_mut(&key).unwrap();
                        prop_assert_eq!(before, model.1);
                        *model = (value, to);
                    }
                    _ => if let Some(mut e) = ks.get_mut(0, k) {
                        let len = e.bytes().len();
                        let (at, delete) = (len / 3, len / 2);
                        e.splice(at, delete, &value);
                        model.get_mut(&key).unwrap().0.splice(at..at + delete, value);
                    }
                }
            }
            ks.check_invariants();
            prop_assert_eq!(ks.len(0), model.len());
            for (key, (value, expire_at)) in &model {
                let e = ks.get(0, ks.key(key)).unwrap();
                prop_assert_eq!(e.bytes(), &value[..]);
                prop_assert_eq!(e.expire_at(), *expire_at);
            }
        }
    }

    /// A key that is there from the first step of a scan to its last is returned, whatever grows or shrinks meanwhile.
    #[test]
    fn scan_keeps_its_promise_while_tables_grow_and_shrink() {
        for (stay, churn) in [(40, 5_000), (3_000, 20_000), (500, 100)] {
            let mut ks = keyspace();
            let stays: BTreeSet<Vec<u8>> = (0..stay)
                .map(|i| format!("{{t}}stay{i}").into_bytes())
                .collect();
            for key in &stays {
                set(&mut ks, key, b"v");
            }
            let slot = key_slot(b"{t}");
            let mut seen = BTreeSet::new();
            let mut from = Some(0);
            let mut step = 0;
            while let Some(at) = from {
                from = ks.scan_slot(0, slot, at, |e| {
                    seen.insert(e.key().to_vec());
                });
                step += 1;
                for i in 0..50 {
                    let n = (step * 50 + i) % churn;
                    let key = format!("{{t}}churn{n}").into_bytes();
                    let k = ks.key(&key);
                    if step % 400 < 200 {
                        set(&mut ks, &key, b"w");
                    } else if let Some(e) = ks.get_mut(0, k) {
                        e.remove();
                    }
                }
            }
            ks.check_invariants();
            assert!(stays.is_subset(&seen));
        }
    }

    #[test]
    fn flush_empties_at_once_and_frees_in_slices() {
        let mut ks = keyspace();
        for i in 0..20_000 {
            set(&mut ks, format!("k{i}").as_bytes(), &[b'v'; 100]);
        }
        ks.flush(0);
        assert_eq!(ks.len(0), 0);
        assert!(ks.heap_used() > 20_000 * 100);
        let mut slices = 0;
        while !ks.free_some(500) {
            slices += 1;
        }
        assert!(slices > 30);
        assert_eq!(ks.heap_used(), 0);
        ks.check_invariants();
    }

    /// A server that is flushed all the time, as by a test suite, keeps up with the freeing.
    #[test]
    fn a_small_flushed_database_is_freed_in_one_slice() {
        let mut ks = keyspace();
        for round in 0..200 {
            for i in 0..20 {
                set(&mut ks, format!("k{round}-{i}").as_bytes(), b"v");
            }
            ks.flush(0);
            assert_eq!(ks.free_pending(), 20);
            assert!(ks.free_some(20));
            assert_eq!((ks.free_pending(), ks.heap_used()), (0, 0));
        }
    }

    #[test]
    fn every_key_is_some_nth() {
        let mut ks = keyspace();
        let keys: BTreeSet<Vec<u8>> = (0..1000).map(|i| format!("k{i}").into_bytes()).collect();
        for key in &keys {
            set(&mut ks, key, b"v");
        }
        let found: BTreeSet<Vec<u8>> = (0..1000)
            .map(|n| ks.nth(0, n).unwrap().key().to_vec())
            .collect();
        assert_eq!(found, keys);
        assert!(ks.nth(0, 1000).is_none());
    }

    #[test]
    fn swapped_databases_keep_their_uid() {
        let mut ks = keyspace();
        set(&mut ks, b"a", b"1");
        ks.swap(0, 1);
        assert_eq!((ks.len(0), ks.len(1)), (0, 1));
        assert_eq!(ks.db_of_uid(0), 1);
        ks.check_invariants();
    }
}
