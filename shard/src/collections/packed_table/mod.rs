//! A hash table of small entries packed in buckets: large sets and hashes, and the scores of large sorted sets.
//!
//! An allocation per member would cost more than most members. Here some dozens of entries share a block (`bucket.rs`): a tag and
//! a length byte for each, then their bytes. A look-up reads a directory slot or two, the block's tags, and the piece that it
//! wants.
//!
//! The directory is a trie over the hash's top bits. A node has 2^b slots, b up to 10; a bucket may lie in several slots of its node, as
//! many as its *depth* (how many hash bits all its entries share) leaves open. A full bucket is split in two by its next bit; a node
//! that is too shallow for that is doubled, and at 1024 slots a node is put below it instead. So no insert moves more than a
//! bucket and a node of 8 KB, however many entries there are. Removing works the same way back.
//!
//! Everything lies in the order of the hash's top bits, so a scan's cursor is a hash prefix: what lies below it was returned once,
//! whatever was split or merged meanwhile.
//!
//! Invariants
//! - the hashes of a bucket's entries begin with the prefix that its slots stand for;
//! - a bucket's word holds its depth and count, in all its slots;
//! - a node's word counts its children at full depth; there is at least one, and a node that is not the deepest possible has no nodes below it;
//! - `len` and `memory` equal a recount.

mod block;
mod bucket;
mod expiry;
mod piece;
#[cfg(test)]
mod tests;

use crate::keyspace::KeyHasher;
use block::{Word, size_class};
use bucket::{SPILLED, Spot};
use piece::{Form, Raw};
use std::marker::PhantomData;

/// Bits of a scan's cursor; no bucket is deeper.
const DEPTH_MAX: u32 = 48;
/// A node of this many bits gets nodes below it instead of more slots.
const BITS_MAX: u32 = 10;
/// A bucket of this many entries is split before it gets another.
const ENTRIES_MAX: usize = 48;
/// A bucket with more bytes of pieces than this is split, if it has a few entries.
const BYTES_MAX: usize = 1536;
const ENTRIES_FEW: usize = 4;
/// Two buckets are merged when they hold no more than this together.
const MERGE_ENTRIES: usize = 20;
const MERGE_BYTES: usize = 640;

/// Hashes a table's keys; with a secret seed, so that nobody can choose keys that collide.
pub trait HashBytes: Clone {
    fn hash_bytes(&self, key: &[u8]) -> u64;
}

impl HashBytes for KeyHasher {
    #[inline]
    fn hash_bytes(&self, key: &[u8]) -> u64 {
        self.hash(key)
    }
}

mod sealed {
    pub trait Sealed {
        const FORM: super::Form;
    }
}

/// What a table holds with each key: [`Members`], [`Scores`] or [`Fields`].
pub trait Kind: sealed::Sealed + 'static {
    type Value<'a>: Copy;
    /// The value as bytes, which may be written to `buffer`.
    fn bytes<'a: 'b, 'b>(value: Self::Value<'a>, buffer: &'b mut [u8; 8]) -> &'b [u8];
    fn value(bytes: &[u8]) -> Self::Value<'_>;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $value:ty, $bytes:expr, $from:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}
        impl sealed::Sealed for $name {
            const FORM: Form = Form::$name;
        }
        impl Kind for $name {
            type Value<'a> = $value;
            #[inline]
            fn bytes<'a: 'b, 'b>(value: Self::Value<'a>, buffer: &'b mut [u8; 8]) -> &'b [u8] {
                let to_bytes: fn($value, &'b mut [u8; 8]) -> &'b [u8] = $bytes;
                to_bytes(value, buffer)
            }
            #[inline]
            fn value(bytes: &[u8]) -> Self::Value<'_> {
                let from_bytes: for<'a> fn(&'a [u8]) -> $value = $from;
                from_bytes(bytes)
            }
        }
    )*};
}

kinds! {
    /// Nothing: a set's members.
    Members: (), |_, _| &[], |_| ();
    /// A number: a sorted set's scores.
    Scores: f64, |score, buffer| { *buffer = score.to_le_bytes(); buffer },
        |bytes| f64::from_le_bytes(bytes.try_into().expect("a score has eight bytes"));
    /// Bytes, and perhaps a time at which the field expires: a hash's fields.
    Fields: &'a [u8], |value, _| value, |bytes| bytes;
}

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Item<'a, V> {
    pub key: &'a [u8],
    pub value: V,
    /// Wall-clock milliseconds. Only [`Fields`] have any.
    pub expire_at: Option<i64>,
}

/// What [`PackedTable::put`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    New,
    /// There was such a key, with this expiry.
    Replaced(Option<i64>),
}

/// A table from keys to what `K` says.
pub struct PackedTable<K: Kind, H: HashBytes = KeyHasher> {
    root: Word,
    len: usize,
    /// Bytes of blocks, nodes and what lies outside its bucket.
    memory: usize,
    hasher: H,
    kind: PhantomData<K>,
}

impl<K: Kind, H: HashBytes> std::fmt::Debug for PackedTable<K, H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedTable({} entries)", self.len)
    }
}

#[inline]
fn tag_of(hash: u64) -> u8 {
    hash as u8
}

/// The hash prefix at which a bucket begins.
#[inline]
fn start_of(hash: u64, depth: u32) -> u64 {
    if depth == 0 {
        return 0;
    }
    hash & (u64::MAX << (64 - depth))
}
/// The hash at which the bucket after it begins; `None` for the last.
#[inline]
fn end_of(hash: u64, depth: u32) -> Option<u64> {
    if depth == 0 {
        return None;
    }
    start_of(hash, depth).checked_add(1 << (64 - depth))
}

/// A bucket's place in the directory: the slots of `node` that it lies in, or `node` itself if that is the root and no node.
struct Place<'a> {
    node: &'a mut Word,
    /// Hash bits that led to the node.
    base: u32,
    index: usize,
    bucket: Word,
}

impl<'a> Place<'a> {
    #[inline]
    fn find(root: &'a mut Word, hash: u64) -> Self {
        let mut node = root;
        let mut base = 0;
        if !node.is_node() {
            let bucket = *node;
            return Self {
                node,
                base,
                index: 0,
                bucket,
            };
        }
        loop {
            let bits = node.bits();
            let index = ((hash << base) >> (64 - bits)) as usize;
            let bucket = node.slots()[index];
            if !bucket.is_node() {
                return Self {
                    node,
                    base,
                    index,
                    bucket,
                };
            }
            node = &mut node.slots_mut()[index];
            base += bits;
        }
    }

    /// The slots of the bucket: the first, and how many.
    #[inline]
    fn slots(&self) -> (usize, usize) {
        let local = self.bucket.depth() - self.base;
        let count = 1 << (self.node.bits() - local);
        (self.index & !(count - 1), count)
    }

    /// Puts another word of the same depth in the bucket's place.
    #[inline]
    fn set(&mut self, bucket: Word) {
        if bucket == self.bucket {
            return;
        }
        debug_assert!(self.bucket.is_empty() || self.bucket.depth() == bucket.depth());
        if self.node.is_node() {
            let (first, count) = self.slots();
            self.node.slots_mut()[first..first + count].fill(bucket);
        } else {
            *self.node = bucket;
        }
        self.bucket = bucket;
    }

    /// Puts the two halves of the bucket in its place. Returns the bytes by which the directory grew.
    fn split(self, left: Word, right: Word) -> usize {
        let node = self.node;
        let pair = |left, right| Word::new_node(1, 2, [left, right].into_iter());
        if !node.is_node() {
            *node = pair(left, right);
            return node_size(1);
        }
        let bits = node.bits();
        let local = self.bucket.depth() - self.base;
        if local < bits {
            let count = 1usize << (bits - local);
            let first = self.index & !(count - 1);
            let slots = &mut node.slots_mut()[first..first + count];
            let (low, high) = slots.split_at_mut(count / 2);
            low.fill(left);
            high.fill(right);
            if local + 1 == bits {
                *node = node.with_deep(node.deep() + 2);
            }
            return 0;
        }
        if bits == BITS_MAX {
            // The slot was at full depth and still is.
            node.slots_mut()[self.index] = pair(left, right);
            return node_size(1);
        }
        let old = node.slots();
        let doubled = Word::new_node(bits + 1, 2, (0..2 * old.len()).map(|i| old[i / 2]));
        doubled.slots_mut()[2 * self.index] = left;
        doubled.slots_mut()[2 * self.index + 1] = right;
        node.free_node();
        *node = doubled;
        node_size(bits + 1) - node_size(bits)
    }

    /// The other half of what the bucket was split from, if that is a bucket of the same depth.
    fn buddy(&self) -> Option<Word> {
        if !self.node.is_node() {
            return None;
        }
        let (first, count) = self.slots();
        // A depth of no bits within the node does not occur: the node would have one child.
        let buddy = self.node.slots()[first ^ count];
        (!buddy.is_node() && buddy.depth() == self.bucket.depth()).then_some(buddy)
    }

    /// Puts the merger of the bucket and its buddy in their place. Returns the bytes by which the directory shrank.
    fn merge(self, merged: Word) -> usize {
        let (first, count) = self.slots();
        let first = first & !(2 * count - 1);
        let node = self.node;
        node.slots_mut()[first..first + 2 * count].fill(merged);
        let mut freed = 0;
        if count > 1 {
            return freed;
        }
        *node = node.with_deep(node.deep() - 2);
        while node.deep() == 0 {
            let bits = node.bits();
            let old = *node;
            freed += node_size(bits);
            if bits == 1 {
                *node = old.slots()[0];
                old.free_node();
                break;
            }
            let slots = old.slots();
            let half = Word::new_node(bits - 1, 0, slots.iter().step_by(2).copied());
            old.free_node();
            let full = self.base + bits - 1;
            let deep = half.slots().iter().filter(|w| w.depth() == full).count();
            *node = half.with_deep(deep);
            freed -= node_size(bits - 1);
        }
        freed
    }
}

fn node_size(bits: u32) -> usize {
    size_class(size_of::<Word>() << bits)
}

impl<K: Kind, H: HashBytes> PackedTable<K, H> {
    pub fn new(hasher: H) -> Self {
        Self {
            root: Word::EMPTY,
            len: 0,
            memory: 0,
            hasher,
            kind: PhantomData,
        }
    }
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    pub fn hasher(&self) -> &H {
        &self.hasher
    }
    /// For the methods that end in `_hashed`, where one key is used several times.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_bytes(key)
    }
    /// Bytes of everything, as the allocator rounds them. Takes no time.
    pub fn memory(&self) -> usize {
        self.memory
    }

    #[inline]
    fn bucket(&self, hash: u64) -> Word {
        let mut word = self.root;
        let mut base = 0;
        while word.is_node() {
            let bits = word.bits();
            word = word.slots()[((hash << base) >> (64 - bits)) as usize];
            base += bits;
        }
        word
    }

    #[inline]
    fn spot(bucket: Word, hash: u64, key: &[u8]) -> Option<Spot> {
        if bucket.is_empty() {
            return None;
        }
        bucket::find(bucket.body(), tag_of(hash), |piece, outside| {
            piece::read(K::FORM, piece, outside).key == key
        })
    }

    #[inline]
    fn raw<'a>(body: &'a [u8], spot: &Spot) -> Raw<'a> {
        piece::read(K::FORM, spot.piece(body), spot.length == SPILLED)
    }
    #[inline]
    fn item<'a>(body: &'a [u8], spot: &Spot) -> Item<'a, K::Value<'a>> {
        let raw = Self::raw(body, spot);
        Item {
            key: raw.key,
            value: K::value(raw.value),
            expire_at: raw.expire_at,
        }
    }

    // ---- looking up ----

    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<K::Value<'_>> {
        self.get_hashed(self.hash(key), key)
    }
    #[inline]
    pub fn get_hashed(&self, hash: u64, key: &[u8]) -> Option<K::Value<'_>> {
        Some(self.find_hashed(hash, key)?.value)
    }
    #[inline]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.contains_hashed(self.hash(key), key)
    }
    #[inline]
    pub fn contains_hashed(&self, hash: u64, key: &[u8]) -> bool {
        Self::spot(self.bucket(hash), hash, key).is_some()
    }
    /// The whole entry, its key as the table holds it.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<Item<'_, K::Value<'_>>> {
        self.find_hashed(self.hash(key), key)
    }
    #[inline]
    pub fn find_hashed(&self, hash: u64, key: &[u8]) -> Option<Item<'_, K::Value<'_>>> {
        let bucket = self.bucket(hash);
        let spot = Self::spot(bucket, hash, key)?;
        Some(Self::item(bucket.body(), &spot))
    }
    /// Asks the CPU for what a look-up of this hash reads first. For loops over many keys: a few keys ahead.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let bucket = self.bucket(hash);
        if !bucket.is_empty() {
            bucket.prefetch();
        }
    }

    /// As [`PackedTable::prefetch`], of a key; returns its hash.
    #[inline]
    pub fn prefetch_key(&self, key: &[u8]) -> u64 {
        let hash = self.hash(key);
        self.prefetch(hash);
        hash
    }
    /// When what [`PackedTable::prefetch`] asked for is there: asks for the entry that a look-up will compare, or, if there
    /// is none, for where one would be put.
    #[inline]
    pub fn prefetch_piece(&self, hash: u64) {
        let bucket = self.bucket(hash);
        if !bucket.is_empty() {
            bucket::prefetch_piece(bucket.body(), tag_of(hash));
        }
    }

    // ---- changing ----

    /// Adds the entry or replaces the one with this key, expiry and all.
    pub fn put(&mut self, key: &[u8], value: K::Value<'_>, expire_at: Option<i64>) -> Put {
        self.put_hashed(self.hash(key), key, value, expire_at)
    }
    pub fn put_hashed(
        &mut self,
        hash: u64,
        key: &[u8],
        value: K::Value<'_>,
        expire_at: Option<i64>,
    ) -> Put {
        let mut buffer = [0; 8];
        let raw = Raw {
            key,
            value: K::bytes(value, &mut buffer),
            expire_at,
        };
        let length = piece::length(K::FORM, &raw);
        let bytes = bucket::piece_len(length);
        loop {
            let mut place = Place::find(&mut self.root, hash);
            if place.bucket.is_empty() {
                let bucket = bucket::new(1, bytes, 0);
                self.memory += bucket.block_size();
                place.set(bucket);
            }
            let bucket = place.bucket;
            let block_size = bucket.block_size();
            let body = bucket.body();
            let found = Self::spot(bucket, hash, key);
            let used = bucket::used(body) + bytes;
            let count = bucket::count(body) + found.is_none() as usize;
            let large = used > BYTES_MAX && count > ENTRIES_FEW;
            if (count > ENTRIES_MAX || large) && bucket.depth() < DEPTH_MAX {
                // A replaced piece counts twice in `used` here: a bucket near the limit is split a little early.
                self.split(hash);
                continue;
            }
            let mut outside = size_class_or_0(piece::outside(K::FORM, &raw));
            let (bucket, to, put) = match found {
                Some(spot) => {
                    let before = Self::raw(body, &spot).expire_at;
                    let gone =
                        piece::free_outside(K::FORM, spot.piece(body), spot.length == SPILLED);
                    self.memory -= gone.map_or(0, size_class_or_0);
                    let (bucket, to) = bucket::replace(bucket, spot, length);
                    (bucket, to, Put::Replaced(before))
                }
                None => {
                    let (bucket, to) = bucket::append(bucket, tag_of(hash), length);
                    self.len += 1;
                    (bucket, to, Put::New)
                }
            };
            piece::write(K::FORM, &raw, to);
            place.set(bucket);
            outside += bucket.block_size();
            self.memory = self.memory + outside - block_size;
            return put;
        }
    }

    /// Splits the bucket of a hash in two.
    #[cold]
    fn split(&mut self, hash: u64) {
        let place = Place::find(&mut self.root, hash);
        let old = place.bucket;
        let depth = old.depth();
        let body = old.body();
        let mut sides = Vec::with_capacity(bucket::count(body));
        let (mut counts, mut used) = ([0; 2], [0; 2]);
        for spot in bucket::spots(body) {
            let hash = self.hasher.hash_bytes(Self::raw(body, &spot).key);
            let side = (hash >> (63 - depth)) as usize & 1;
            counts[side] += 1;
            used[side] += bucket::piece_len(spot.length);
            sides.push(side);
        }
        let mut halves = [0, 1].map(|side| bucket::new(counts[side], used[side], depth + 1));
        for (spot, side) in bucket::spots(body).zip(sides) {
            let tag = bucket::tag(body, spot.index);
            let (half, to) = bucket::append(halves[side], tag, spot.length);
            to.copy_from_slice(spot.piece(body));
            halves[side] = half;
        }
        self.memory += halves[0].block_size() + halves[1].block_size();
        self.memory += place.split(halves[0], halves[1]);
        self.memory -= old.block_size();
        old.free_bucket();
    }

    /// Removes a key. False if there is none.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.remove_hashed(self.hash(key), key)
    }
    pub fn remove_hashed(&mut self, hash: u64, key: &[u8]) -> bool {
        let Some(spot) = Self::spot(self.bucket(hash), hash, key) else {
            return false;
        };
        self.remove_spot(hash, spot);
        true
    }

    fn remove_spot(&mut self, hash: u64, spot: Spot) {
        let mut place = Place::find(&mut self.root, hash);
        let old = place.bucket;
        let gone = piece::free_outside(K::FORM, spot.piece(old.body()), spot.length == SPILLED);
        self.memory -= gone.map_or(0, size_class_or_0) + old.block_size();
        let bucket = bucket::remove(old, spot);
        self.memory += bucket.block_size();
        place.set(bucket);
        self.len -= 1;
        if bucket.count() <= MERGE_ENTRIES / 2 {
            self.shrink(hash);
        }
    }

    /// Merges the bucket of a hash with its other half, and these again, as long as they hold little.
    fn shrink(&mut self, hash: u64) {
        loop {
            let place = Place::find(&mut self.root, hash);
            let Some(buddy) = place.buddy() else { break };
            let bucket = place.bucket;
            let (body, other) = (bucket.body(), buddy.body());
            if bucket::count(body) + bucket::count(other) > MERGE_ENTRIES
                || bucket::used(body) + bucket::used(other) > MERGE_BYTES
            {
                return;
            }
            // The buddy's pieces go to the bucket, whose block often has the room.
            let mut merged = bucket;
            self.memory -= bucket.block_size() + buddy.block_size();
            for spot in bucket::spots(other) {
                let tag = bucket::tag(other, spot.index);
                let (word, to) = bucket::append(merged, tag, spot.length);
                to.copy_from_slice(spot.piece(other));
                merged = word;
            }
            let merged = merged.with_depth(bucket.depth() - 1);
            self.memory += merged.block_size();
            self.memory -= place.merge(merged);
            buddy.free_bucket();
        }
        if self.len == 0 && !self.root.is_empty() && !self.root.is_node() {
            self.memory -= self.root.block_size();
            self.root.free_bucket();
            self.root = Word::EMPTY;
        }
    }

    // ---- walking ----

    /// All entries, in the order of their hashes' top bits.
    pub fn iter(&self) -> Iter<'_, K, H> {
        Iter {
            table: self,
            body: &[],
            spots: bucket::spots(&[0; 16]),
            next: Some(0),
        }
    }
    pub fn each<'a>(&'a self, mut f: impl FnMut(Item<'a, K::Value<'a>>)) {
        let mut from = Some(0);
        while let Some(hash) = from {
            let bucket = self.bucket(hash);
            if bucket.is_empty() {
                return;
            }
            let body = bucket.body();
            for spot in bucket::spots(body) {
                f(Self::item(body, &spot));
            }
            from = end_of(hash, bucket.depth());
            if let Some(hash) = from {
                self.prefetch(hash);
            }
        }
    }

    /// Goes on with a scan, from cursor 0 on, until `count` entries or more were given to `f`; returns the next cursor, 0 at the end.
    /// What is there all the time is given exactly once, whatever else is added or removed between the steps.
    pub fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        mut f: impl FnMut(Item<'a, K::Value<'a>>),
    ) -> u64 {
        if cursor >= 1 << DEPTH_MAX {
            return 0;
        }
        let mut from = cursor << (64 - DEPTH_MAX);
        let mut given = 0;
        loop {
            let bucket = self.bucket(from);
            if bucket.is_empty() {
                return 0;
            }
            let body = bucket.body();
            // A bucket that was merged since the last step holds entries that were given then.
            let merged = start_of(from, bucket.depth()) < from;
            for spot in bucket::spots(body) {
                let item = Self::item(body, &spot);
                if merged && self.hash(item.key) < from {
                    continue;
                }
                given += 1;
                f(item);
            }
            match end_of(from, bucket.depth()) {
                None => return 0,
                Some(end) if given >= count => return end >> (64 - DEPTH_MAX),
                Some(end) => from = end,
            }
        }
    }

    /// A random entry, each with the same chance. `random` gives 64 random bits.
    pub fn random(&self, mut random: impl FnMut() -> u64) -> Option<Item<'_, K::Value<'_>>> {
        if self.len == 0 {
            return None;
        }
        // How much fuller than the average a bucket's part of the hash space can be. Beyond it entries would come up too
        // seldom; with at least some ten entries in a bucket on average that does not happen.
        const DENSITY_MAX: f64 = 3.0;
        let scale = DENSITY_MAX * self.len as f64 / (1u64 << 32) as f64;
        let mut hash = random();
        for _ in 0..100 {
            let bucket = self.bucket(hash);
            let dice = random();
            let density = bucket.count() as f64 * (1u64 << bucket.depth()) as f64;
            // Everything in one bucket needs no dice.
            if bucket.depth() == 0 || (dice >> 32) as f64 * scale < density {
                let body = bucket.body();
                let index = ((dice & 0xffff_ffff) as usize * bucket::count(body)) >> 32;
                if index < bucket::count(body) {
                    return Some(Self::item(body, &bucket::spot(body, index)));
                }
            }
            hash = random();
        }
        // Nearly everything lies in a small part of the hash space: the next entry from here on.
        let after = (Some(hash), self.len);
        self.iter_from(after.0)
            .next()
            .or_else(|| self.iter().next())
    }
    fn iter_from(&self, next: Option<u64>) -> Iter<'_, K, H> {
        Iter {
            next,
            ..self.iter()
        }
    }

    // ---- as a whole ----

    /// How many blocks there are about: what [`PackedTable::free_some`] has to do.
    pub fn free_effort(&self) -> usize {
        self.len.div_ceil(ENTRIES_MAX / 2)
    }
    /// Frees about `budget` blocks, the last first; returns how many. Nothing else may be done with the table from then on.
    pub fn free_some(&mut self, budget: usize) -> usize {
        let freed = free_some(K::FORM, &mut self.root, 0, budget);
        if self.root.is_empty() {
            (self.len, self.memory) = (0, 0);
        }
        freed
    }

    pub fn duplicate(&self) -> Self {
        Self {
            root: duplicate(K::FORM, self.root),
            len: self.len,
            memory: self.memory,
            hasher: self.hasher.clone(),
            kind: PhantomData,
        }
    }

    /// Checks what the module's head promises, by a recount.
    pub fn check_invariants(&self) {
        let mut found = (0, 0);
        self.check_word(self.root, 0, 0, &mut found);
        assert_eq!((self.len, self.memory), found, "entries and bytes");
    }
    fn check_word(&self, word: Word, prefix: u64, base: u32, found: &mut (usize, usize)) {
        if word.is_empty() {
            assert_eq!(base, 0, "only the root may be empty");
            return;
        }
        if !word.is_node() {
            let body = word.body();
            let count = bucket::check_invariants(word);
            assert_eq!(word.count(), count.min(block::COUNT_MAX));
            found.0 += count;
            found.1 += word.block_size();
            for spot in bucket::spots(body) {
                let raw = Self::raw(body, &spot);
                let hash = self.hash(raw.key);
                assert_eq!(start_of(hash, word.depth()), prefix, "an entry's prefix");
                assert_eq!(bucket::tag(body, spot.index), tag_of(hash));
                found.1 += size_class_or_0(piece::outside(K::FORM, &raw));
            }
            return;
        }
        let bits = word.bits();
        found.1 += node_size(bits);
        let (mut index, mut deep) = (0, 0);
        while index < 1 << bits {
            let child = word.slots()[index];
            let prefix = prefix | (index as u64) << (64 - bits - base);
            assert!(!child.is_empty());
            if child.is_node() {
                assert_eq!(bits, BITS_MAX, "a node below one that could be doubled");
                deep += 1;
                self.check_word(child, prefix, base + bits, found);
                index += 1;
                continue;
            }
            let local = child.depth() - base;
            assert!((1..=bits).contains(&local));
            deep += (local == bits) as usize;
            let copies = 1 << (bits - local);
            assert!(
                word.slots()[index..index + copies]
                    .iter()
                    .all(|w| *w == child)
            );
            self.check_word(child, prefix, base + bits, found);
            index += copies;
        }
        assert_eq!(word.deep(), deep);
        assert!(deep > 0, "a node that could be halved");
    }
}

impl<H: HashBytes> PackedTable<Members, H> {
    /// Adds a member. False if it was there.
    #[inline]
    pub fn add(&mut self, key: &[u8]) -> bool {
        self.add_hashed(self.hash(key), key)
    }
    #[inline]
    pub fn add_hashed(&mut self, hash: u64, key: &[u8]) -> bool {
        self.put_hashed(hash, key, (), None) == Put::New
    }
}

impl<K: Kind, H: HashBytes> Drop for PackedTable<K, H> {
    fn drop(&mut self) {
        self.free_some(usize::MAX);
    }
}

fn size_class_or_0(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { size_class(bytes) }
}

/// Frees the tree below a word from its end; the word is empty when all is freed. Returns how many blocks were freed.
fn free_some(form: Form, word: &mut Word, base: u32, budget: usize) -> usize {
    if word.is_empty() {
        return 0;
    }
    if !word.is_node() {
        let body = word.body();
        let mut freed = 1;
        for spot in bucket::spots(body) {
            let outside = spot.length == SPILLED;
            freed += piece::free_outside(form, spot.piece(body), outside).is_some() as usize;
        }
        word.free_bucket();
        *word = Word::EMPTY;
        return freed;
    }
    // How far it got is where the slots are empty from.
    let bits = word.bits();
    let slots = word.slots_mut();
    let mut end = slots.partition_point(|w| !w.is_empty());
    let mut freed = 0;
    while end > 0 && freed < budget {
        let last = &mut slots[end - 1];
        if last.is_node() {
            freed += free_some(form, last, base + bits, budget - freed);
            if !slots[end - 1].is_empty() {
                return freed;
            }
            end -= 1;
            continue;
        }
        let copies = 1 << (bits - (last.depth() - base));
        let mut bucket = *last;
        freed += free_some(form, &mut bucket, 0, budget);
        slots[end - copies..end].fill(Word::EMPTY);
        end -= copies;
    }
    if end == 0 {
        word.free_node();
        *word = Word::EMPTY;
        freed += 1;
    }
    freed
}

fn duplicate(form: Form, word: Word) -> Word {
    if word.is_empty() {
        return word;
    }
    if !word.is_node() {
        let copy = Word::new_bucket(word.block_size(), word.depth()).with_count(word.count());
        copy.body_mut().copy_from_slice(word.body());
        for spot in bucket::spots(word.body()) {
            let piece = &mut copy.body_mut()[spot.at..spot.at + bucket::piece_len(spot.length)];
            piece::copy_outside(form, piece, spot.length == SPILLED);
        }
        return copy;
    }
    let bits = word.bits();
    let (mut source, mut copy) = (Word::EMPTY, Word::EMPTY);
    let slots = word.slots().iter().map(|slot| {
        // A bucket's copies lie side by side.
        if *slot != source {
            (source, copy) = (*slot, duplicate(form, *slot));
        }
        copy
    });
    Word::new_node(bits, word.deep(), slots)
}

/// See [`PackedTable::iter`].
pub struct Iter<'a, K: Kind, H: HashBytes> {
    table: &'a PackedTable<K, H>,
    body: &'a [u8],
    spots: bucket::Spots<'a>,
    /// Where the next bucket begins.
    next: Option<u64>,
}

impl<'a, K: Kind, H: HashBytes> Iterator for Iter<'a, K, H> {
    type Item = Item<'a, K::Value<'a>>;
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(spot) = self.spots.next() {
                return Some(PackedTable::<K, H>::item(self.body, &spot));
            }
            let bucket = self.table.bucket(self.next?);
            if bucket.is_empty() {
                self.next = None;
                return None;
            }
            self.next = end_of(self.next?, bucket.depth());
            self.body = bucket.body();
            self.spots = bucket::spots(self.body);
            if let Some(hash) = self.next {
                self.table.prefetch(hash);
            }
        }
    }
}
