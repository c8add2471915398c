//! The keys of one slot: a trie of small open-addressed leaves.
//!
//! A leaf is an array of 64-byte buckets of eight words; a word is an entry's address with 16 hash bits (the tag) above
//! it. The tag alone gives the home bucket (`tag * buckets >> 16`), so a leaf grows, by a quarter, without touching an
//! entry. An entry that finds its home full goes to the next bucket with room. A leaf that reaches [`BUCKETS_MAX`] buckets and
//! would grow becomes an inner node of 16 leaves, chosen by the next four hash bits: no insert ever moves more than
//! a leaf's worth of words, however many keys a slot holds, and there is no directory to double.
//!
//! Both steps keep the order of the hash's top bits, so a SCAN cursor is a hash prefix: everything below it was
//! returned, whatever grew or shrank meanwhile.
//!
//! Invariants
//! - all buckets from an entry's home up to its place, its place excluded, are full;
//! - an inner node's `len` is the sum of its children's;
//! - at depth d the tag is hash bits `64-4d-16 .. 64-4d`.

use super::entry::Entry;
use super::heap::{BLOCK_MAX, Heap};
use std::ptr::{self, NonNull};

const WORDS: usize = 8;
/// A leaf of this many buckets splits instead of growing.
const BUCKETS_MAX: usize = 64;
const FANOUT: usize = 16;
const INNER: u64 = 0xffff;
const ADDRESS: u64 = (1 << 48) - 1;
/// Leaves at this depth grow without bound: the hash has no bits left to split by.
const DEPTH_MAX: u32 = 11;

type Bucket = [u64; WORDS];

/// A tree of entries: empty, a leaf, or 16 children. The root of a slot is one of these.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Node {
    /// Address, with the number of buckets (leaf), [`INNER`], or 0 (empty) above it.
    word: u64,
    /// Entries below.
    len: u32,
}

/// A table word that holds an entry. Valid until the table changes.
#[derive(Clone, Copy)]
pub struct Cell(NonNull<u64>);

impl Cell {
    #[inline]
    pub fn entry(self) -> Entry {
        // SAFETY: a cell points to a word of a live leaf that holds an entry; the keyspace hands it out under a borrow
        // during which the table changes only through that borrow.
        unsafe { Entry::from_ptr((self.0.as_ptr().read() & ADDRESS) as *mut u8) }
    }
    /// Puts another block in the place of the entry (same key, so the same tag).
    pub fn replace(self, entry: Entry) {
        // SAFETY: as above.
        unsafe {
            let word = self.0.as_ptr();
            word.write((word.read() & !ADDRESS) | entry.as_ptr() as u64);
        }
    }
}

/// The entry with this key, among those of a bucket.
#[inline]
fn find_in(bucket: &mut Bucket, tag: u64, key: &[u8]) -> Option<Cell> {
    let mut mask = tag_mask(bucket, tag as u16);
    while mask != 0 {
        let word = &mut bucket[mask.trailing_zeros() as usize % WORDS];
        mask &= mask - 1;
        // An empty place looks as if it had the tag 0.
        if *word != 0 {
            let cell = Cell(NonNull::from(word));
            if cell.entry().key() == key {
                return Some(cell);
            }
        }
    }
    None
}
/// A bit for each word with this tag, all eight compared at once. Empty words have the tag 0.
#[cfg(target_arch = "x86_64")]
#[inline]
fn tag_mask(bucket: &Bucket, tag: u16) -> u32 {
    use std::arch::x86_64::*;
    // SAFETY: the loads read the bucket's 64 bytes, at any alignment, and SSE2 is there on every x86-64.
    unsafe {
        // The upper half of each word, its tag moved to the low end and its sign repeated above: then packing keeps all 16 bits.
        let pair = |at: usize| {
            _mm_srai_epi32::<16>(_mm_loadu_si128(bucket.as_ptr().add(at).cast::<__m128i>()))
        };
        let four = |at: usize| {
            let (low, high) = (_mm_castsi128_ps(pair(at)), _mm_castsi128_ps(pair(at + 2)));
            _mm_castps_si128(_mm_shuffle_ps::<0b11_01_11_01>(low, high))
        };
        let tags = _mm_packs_epi32(four(0), four(4));
        let equal = _mm_cmpeq_epi16(tags, _mm_set1_epi16(tag as i16));
        _mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128())) as u32
    }
}
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn tag_mask(bucket: &Bucket, tag: u16) -> u32 {
    let bit = |(at, word): (usize, &u64)| u32::from(word >> 48 == u64::from(tag)) << at;
    bucket.iter().enumerate().map(bit).sum()
}

#[inline]
fn tag_of(hash: u64, depth: u32) -> u64 {
    (hash << (4 * depth)) >> 48
}
#[inline]
fn child_of(hash: u64, depth: u32) -> usize {
    ((hash << (4 * depth)) >> 60) as usize
}
#[inline]
fn home_of(tag: u64, buckets: usize) -> usize {
    (tag as usize * buckets) >> 16
}

/// What a leaf of `buckets` may hold before it grows: seven eighths.
fn room(buckets: usize) -> usize {
    buckets * (WORDS - 1)
}

impl Node {
    pub fn len(&self) -> usize {
        self.len as usize
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    fn is_inner(&self) -> bool {
        self.word >> 48 == INNER
    }
    #[inline]
    fn buckets(&self) -> usize {
        (self.word >> 48) as usize
    }
    #[inline]
    fn data(&self) -> *mut Bucket {
        (self.word & ADDRESS) as *mut Bucket
    }
    fn children(&self) -> *mut Node {
        (self.word & ADDRESS) as *mut Node
    }

    /// The leaf for a hash, and its depth.
    #[inline]
    fn leaf(&self, hash: u64) -> (&Node, u32) {
        let mut node = self;
        let mut depth = 0;
        while node.is_inner() {
            // SAFETY: an inner node's address is that of its 16 live children.
            node = unsafe { &*node.children().add(child_of(hash, depth)) };
            depth += 1;
        }
        (node, depth)
    }

    /// Asks the CPU for the bucket that a lookup will read first.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        let (leaf, depth) = self.leaf(hash);
        if leaf.word != 0 {
            prefetch(
                leaf.data()
                    .wrapping_add(home_of(tag_of(hash, depth), leaf.buckets()))
                    .cast(),
            );
        }
    }

    /// Asks the CPU for the entries that a lookup will compare, looking at the home bucket only. One of them: nearly always the only one.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) -> Option<Entry> {
        let (leaf, depth) = self.leaf(hash);
        if leaf.word == 0 {
            return None;
        }
        let tag = tag_of(hash, depth);
        // SAFETY: the home bucket lies in the leaf's array.
        let bucket = unsafe { &*leaf.data().add(home_of(tag, leaf.buckets())) };
        let mut mask = tag_mask(bucket, tag as u16);
        let mut entry = None;
        while mask != 0 {
            let word = bucket[mask.trailing_zeros() as usize % WORDS];
            mask &= mask - 1;
            let address = (word & ADDRESS) as *mut u8;
            // SAFETY: words of a live leaf hold live entries, but for 0, which a tag of 0 finds.
            let found = (address as usize != 0).then(|| unsafe { Entry::from_ptr(address) });
            prefetch(address);
            prefetch(address.wrapping_add(64));
            entry = found.or(entry);
        }
        entry
    }

    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<Cell> {
        let (leaf, depth) = self.leaf(hash);
        if leaf.word == 0 {
            return None;
        }
        let tag = tag_of(hash, depth);
        let home = home_of(tag, leaf.buckets());
        // SAFETY: the home bucket lies in the leaf's array.
        let bucket = unsafe { &mut *leaf.data().add(home) };
        find_in(bucket, tag, key).or_else(|| leaf.find_beyond(home, tag, key))
    }
    /// The entry, where its home bucket has it not.
    #[inline(never)]
    fn find_beyond(&self, home: usize, tag: u64, key: &[u8]) -> Option<Cell> {
        let buckets = self.buckets();
        let mut index = home;
        loop {
            // SAFETY: `index` is below the leaf's number of buckets.
            if unsafe { &*self.data().add(index) }.contains(&0) {
                return None;
            }
            index = if index + 1 == buckets { 0 } else { index + 1 };
            if index == home {
                return None;
            }
            // SAFETY: as above.
            let found = find_in(unsafe { &mut *self.data().add(index) }, tag, key);
            if found.is_some() {
                return found;
            }
        }
    }

    /// Adds an entry whose key is not in the table.
    pub fn insert(
        &mut self,
        heap: &mut Heap,
        hash: u64,
        entry: Entry,
        hash_of: &impl Fn(&[u8]) -> u64,
    ) -> Cell {
        let mut node = self;
        let mut depth = 0;
        loop {
            if node.is_inner() {
                node.len += 1;
                // SAFETY: as in `leaf`; the tree is borrowed mutably.
                node = unsafe { &mut *node.children().add(child_of(hash, depth)) };
                depth += 1;
                continue;
            }
            let buckets = node.buckets();
            if node.len as usize >= room(buckets) {
                if buckets >= BUCKETS_MAX && depth < DEPTH_MAX {
                    node.split(heap, depth, hash_of);
                    continue;
                }
                node.rebuild(
                    heap,
                    (buckets + (buckets / 4).max(1)).min(BUCKETS_MAX.max(buckets + 1)),
                );
            }
            node.len += 1;
            let tag = tag_of(hash, depth);
            return node.place(tag << 48 | entry.as_ptr() as u64);
        }
    }

    /// Puts a word in the first free place from its home on. There is one.
    #[inline]
    fn place(&mut self, word: u64) -> Cell {
        let buckets = self.buckets();
        let mut index = home_of(word >> 48, buckets);
        loop {
            // SAFETY: `index` is below the number of buckets; the leaf is borrowed mutably.
            let bucket = unsafe { &mut *self.data().add(index) };
            if let Some(free) = bucket.iter_mut().find(|w| **w == 0) {
                *free = word;
                return Cell(NonNull::from(free));
            }
            index = if index + 1 == buckets { 0 } else { index + 1 };
        }
    }

    fn allocate(heap: &mut Heap, buckets: usize) -> u64 {
        assert!(
            buckets < INNER as usize,
            "a leaf at the last depth outgrew its word"
        );
        let block = heap.alloc(buckets * size_of::<Bucket>());
        // SAFETY: the block has that many bytes.
        unsafe { ptr::write_bytes(block.as_ptr(), 0, buckets * size_of::<Bucket>()) };
        (buckets as u64) << 48 | block.as_ptr() as u64
    }

    /// Gives the leaf another number of buckets. Touches no entry.
    fn rebuild(&mut self, heap: &mut Heap, buckets: usize) {
        let old = *self;
        self.word = Self::allocate(heap, buckets);
        old.each_word(|word| {
            self.place(word);
        });
        old.free_leaf(heap);
    }

    fn free_leaf(self, heap: &mut Heap) {
        if let Some(data) = NonNull::new(self.data()) {
            // SAFETY: the leaf's array came from this heap with this size, and the node that owned it is gone.
            unsafe { heap.free(data.cast(), self.buckets() * size_of::<Bucket>()) };
        }
    }

    fn each_word(&self, mut f: impl FnMut(u64)) {
        for index in 0..self.buckets() {
            // SAFETY: within the leaf's array.
            for &word in unsafe { &*self.data().add(index) } {
                if word != 0 {
                    f(word);
                }
            }
        }
    }

    /// Makes 16 leaves of a full leaf.
    fn split(&mut self, heap: &mut Heap, depth: u32, hash_of: &impl Fn(&[u8]) -> u64) {
        let old = *self;
        // The new tags need four hash bits that the words do not hold, so the keys are hashed again, first asking the
        // CPU for all entries at once.
        old.each_word(|word| prefetch((word & ADDRESS) as *const u8));
        let mut hashed = Vec::with_capacity(old.len as usize);
        old.each_word(|word| {
            let address = word & ADDRESS;
            // SAFETY: words of a live leaf hold live entries.
            let entry = unsafe { Entry::from_ptr(address as *mut u8) };
            hashed.push((hash_of(entry.key()), address));
        });
        let mut counts = [0usize; FANOUT];
        for &(hash, _) in &hashed {
            counts[child_of(hash, depth)] += 1;
        }
        let block = heap.alloc(FANOUT * size_of::<Node>()).cast::<Node>();
        for (i, &count) in counts.iter().enumerate() {
            let word = if count == 0 {
                0
            } else {
                Self::allocate(heap, (count + 1).div_ceil(6))
            };
            // SAFETY: the block has room for 16 nodes.
            unsafe {
                block.as_ptr().add(i).write(Node {
                    word,
                    len: count as u32,
                })
            };
        }
        for (hash, address) in hashed {
            // SAFETY: initialised just above.
            let child = unsafe { &mut *block.as_ptr().add(child_of(hash, depth)) };
            child.place(tag_of(hash, depth + 1) << 48 | address);
        }
        self.word = INNER << 48 | block.as_ptr() as u64;
        old.free_leaf(heap);
    }

    /// Takes the entry of a cell out of the table.
    pub fn remove(
        &mut self,
        heap: &mut Heap,
        hash: u64,
        cell: Cell,
        hash_of: &impl Fn(&[u8]) -> u64,
    ) {
        self.remove_at(heap, hash, cell, 0, hash_of);
    }

    fn remove_at(
        &mut self,
        heap: &mut Heap,
        hash: u64,
        cell: Cell,
        depth: u32,
        hash_of: &impl Fn(&[u8]) -> u64,
    ) {
        self.len -= 1;
        if self.is_inner() {
            // SAFETY: as in `leaf`; the tree is borrowed mutably.
            let child = unsafe { &mut *self.children().add(child_of(hash, depth)) };
            child.remove_at(heap, hash, cell, depth + 1, hash_of);
            if (self.len as usize) < room(BUCKETS_MAX) / 4 {
                self.merge(heap, depth, hash_of);
            }
            return;
        }
        if self.len == 0 {
            self.free_leaf(heap);
            self.word = 0;
            return;
        }
        let buckets = self.buckets();
        let offset = cell.0.as_ptr() as usize - self.data() as usize;
        self.close_gap(offset / size_of::<Bucket>(), offset / 8 % WORDS);
        if buckets > 1 && (self.len as usize) * 3 < buckets * WORDS {
            self.rebuild(heap, (self.len as usize).div_ceil(6));
        }
    }

    /// Empties a place and, as long as its bucket was full, moves an entry back into it that had to go further from home.
    fn close_gap(&mut self, mut index: usize, mut place: usize) {
        let buckets = self.buckets();
        loop {
            // SAFETY: `index` is below the number of buckets; the leaf is borrowed mutably.
            let bucket = unsafe { &mut *self.data().add(index) };
            let was_full = bucket.iter().all(|&w| w != 0);
            bucket[place] = 0;
            if !was_full {
                return;
            }
            // Look ahead for an entry whose way from home leads through `index`.
            let mut from = index;
            let moved = loop {
                from = if from + 1 == buckets { 0 } else { from + 1 };
                if from == index {
                    break None;
                }
                // SAFETY: as above.
                let next = unsafe { &mut *self.data().add(from) };
                let candidate = next.iter().position(|&w| {
                    let home = home_of(w >> 48, buckets);
                    let way = |to: usize| (to + buckets - home) % buckets;
                    w != 0 && way(index) < way(from)
                });
                if let Some(p) = candidate {
                    break Some((from, p, next[p]));
                }
                if next.contains(&0) {
                    break None;
                }
            };
            let Some((from, from_place, word)) = moved else {
                return;
            };
            // SAFETY: as above.
            unsafe { (*self.data().add(index))[place] = word };
            (index, place) = (from, from_place);
        }
    }

    /// Makes one leaf of an inner node with few entries.
    fn merge(&mut self, heap: &mut Heap, depth: u32, hash_of: &impl Fn(&[u8]) -> u64) {
        let mut addresses = Vec::with_capacity(self.len as usize);
        self.each(&mut |entry| addresses.push(entry.as_ptr() as u64));
        self.free_nodes(heap);
        *self = Node::default();
        if addresses.is_empty() {
            return;
        }
        self.word = Self::allocate(heap, (addresses.len() + 1).div_ceil(6));
        self.len = addresses.len() as u32;
        for address in addresses {
            // SAFETY: addresses of live entries, just collected.
            let entry = unsafe { Entry::from_ptr(address as *mut u8) };
            self.place(tag_of(hash_of(entry.key()), depth) << 48 | address);
        }
    }

    /// Every entry, in no particular order.
    pub fn each(&self, f: &mut impl FnMut(Entry)) {
        if self.is_inner() {
            for i in 0..FANOUT {
                // SAFETY: 16 live children.
                unsafe { (*self.children().add(i)).each(f) };
            }
        } else {
            // SAFETY: words of a live leaf hold live entries.
            self.each_word(|word| f(unsafe { Entry::from_ptr((word & ADDRESS) as *mut u8) }));
        }
    }

    /// The entry whose hash begins with the first `bits` bits of `hash` and which `wanted` accepts. Entries are looked at only
    /// where the tags agree as far as they are known.
    pub fn find_by_prefix(
        &self,
        hash: u64,
        bits: u32,
        wanted: &mut impl FnMut(Entry) -> bool,
    ) -> Option<Cell> {
        let mut node = self;
        let mut depth = 0;
        while node.is_inner() {
            if 4 * (depth + 1) > bits {
                // The prefix ends here: any child may have it.
                // SAFETY: 16 live children.
                let mut children = (0..FANOUT).map(|i| unsafe { &*node.children().add(i) });
                return children.find_map(|child| child.find_below(wanted));
            }
            // SAFETY: as in `leaf`.
            node = unsafe { &*node.children().add(child_of(hash, depth)) };
            depth += 1;
        }
        let known = (bits - 4 * depth).min(16);
        if known < 16 {
            return node.find_below(wanted);
        }
        let buckets = node.buckets();
        if buckets == 0 {
            return None;
        }
        let tag = tag_of(hash, depth);
        let mut index = home_of(tag, buckets);
        for _ in 0..buckets {
            // SAFETY: `index` is below the leaf's number of buckets.
            let bucket = unsafe { &mut *node.data().add(index) };
            let mut full = true;
            for word in bucket {
                full &= *word != 0;
                if *word >> 48 == tag && *word != 0 {
                    let cell = Cell(NonNull::from(word));
                    if wanted(cell.entry()) {
                        return Some(cell);
                    }
                }
            }
            if !full {
                return None;
            }
            index = if index + 1 == buckets { 0 } else { index + 1 };
        }
        None
    }

    fn find_below(&self, wanted: &mut impl FnMut(Entry) -> bool) -> Option<Cell> {
        if self.is_inner() {
            // SAFETY: 16 live children.
            let mut children = (0..FANOUT).map(|i| unsafe { &*self.children().add(i) });
            return children.find_map(|child| child.find_below(wanted));
        }
        (0..self.buckets()).find_map(|index| {
            // SAFETY: below the number of buckets.
            let bucket = unsafe { &mut *self.data().add(index) };
            bucket.iter_mut().find_map(|word| {
                let cell = (*word != 0).then(|| Cell(NonNull::from(word)))?;
                wanted(cell.entry()).then_some(cell)
            })
        })
    }

    /// The `n`-th entry in the order of [`Node::each`], without walking over those before it.
    pub fn nth(&self, n: usize) -> Option<Entry> {
        let mut node = self;
        let mut left = n;
        while node.is_inner() {
            // SAFETY: 16 live children.
            let mut children = (0..FANOUT).map(|i| unsafe { &*node.children().add(i) });
            node = children.find(|child| {
                let here = left < child.len();
                if !here {
                    left -= child.len();
                }
                here
            })?;
        }
        let mut found = None;
        node.each(&mut |entry| {
            if left == 0 {
                found = Some(entry);
            }
            left = left.wrapping_sub(1);
        });
        found
    }

    /// Calls `f` for up to `left` entries in a row, from about the `n`-th on, and counts `left` down. Their headers are on their way into the cache.
    pub fn sample(&self, n: usize, left: &mut usize, f: &mut impl FnMut(Entry)) {
        if self.is_inner() {
            let mut n = n;
            for i in 0..FANOUT {
                // SAFETY: 16 live children.
                let child = unsafe { &*self.children().add(i) };
                if n >= child.len() {
                    n -= child.len();
                } else if *left > 0 {
                    child.sample(n, left, f);
                    n = 0;
                }
            }
            return;
        }
        let buckets = self.buckets();
        let first = n * buckets / self.len().max(1);
        for index in first..buckets {
            // SAFETY: below the number of buckets.
            for &word in unsafe { &*self.data().add(index) } {
                if word != 0 && *left > 0 {
                    *left -= 1;
                    let address = (word & ADDRESS) as *mut u8;
                    prefetch(address);
                    // SAFETY: words of a live leaf hold live entries.
                    f(unsafe { Entry::from_ptr(address) });
                }
            }
            if *left == 0 {
                return;
            }
        }
    }

    /// Frees leaves and inner nodes, not the entries.
    pub fn free_nodes(&mut self, heap: &mut Heap) {
        if self.is_inner() {
            for i in 0..FANOUT {
                // SAFETY: 16 live children, not used afterwards.
                unsafe { (*self.children().add(i)).free_nodes(heap) };
            }
            let block = NonNull::new(self.children())
                .expect("an inner node has children")
                .cast();
            // SAFETY: allocated by `split` with this size.
            unsafe { heap.free(block, FANOUT * size_of::<Node>()) };
        } else {
            self.free_leaf(heap);
        }
        *self = Node::default();
    }

    /// Moves what the heap wants to be moved of one leaf, the one for the hash `from`: its entries, itself, and the nodes above it. Returns the
    /// first hash of the next leaf, `None` at the end, and how many words it has looked at.
    pub fn relocate(&mut self, heap: &mut Heap, from: u64) -> (Option<u64>, usize) {
        let mut node = self;
        let mut depth = 0;
        while node.is_inner() {
            if heap.is_leaving(node.children().cast()) {
                let bytes = FANOUT * size_of::<Node>();
                // SAFETY: the children's block has this size, and the word below is all that points to it.
                let block = unsafe { heap.relocate(node.children().cast(), bytes) };
                node.word = INNER << 48 | block as u64;
            }
            // SAFETY: as in `leaf`; the tree is borrowed mutably.
            node = unsafe { &mut *node.children().add(child_of(from, depth)) };
            depth += 1;
        }
        let buckets = node.buckets();
        let bytes = buckets * size_of::<Bucket>();
        if bytes <= BLOCK_MAX && heap.is_leaving(node.data().cast()) {
            // SAFETY: the leaf's array has this size, and the word below is all that points to it.
            let block = unsafe { heap.relocate(node.data().cast(), bytes) };
            node.word = (buckets as u64) << 48 | block as u64;
        }
        for index in 0..buckets {
            // SAFETY: below the number of buckets; the leaf is borrowed mutably.
            for word in unsafe { &mut *node.data().add(index) } {
                let address = (*word & ADDRESS) as *mut u8;
                if *word != 0 && heap.is_leaving(address) {
                    // SAFETY: words of a live leaf hold live entries, and nothing else points to them; a page that is to be left holds no
                    // blocks above its heap's limit.
                    let block = unsafe {
                        let size = Entry::from_ptr(address).block_size();
                        heap.relocate(address, size)
                    };
                    *word = (*word & !ADDRESS) | block as u64;
                }
            }
        }
        let span = 64 - 4 * depth;
        let next = from.checked_shr(span).unwrap_or(0) + 1;
        let next = (next >> (4 * depth) == 0).then(|| next << span);
        (next, buckets * WORDS)
    }

    /// Calls `f` for the entries of one home bucket: the first with hashes of `from` or above. Returns the hash from which
    /// the next step goes on, `None` at the end.
    pub fn scan(&self, from: u64, f: &mut impl FnMut(Entry)) -> Option<u64> {
        self.scan_at(from, 0, f)
    }

    fn scan_at(&self, from: u64, depth: u32, f: &mut impl FnMut(Entry)) -> Option<u64> {
        let span = 64 - 4 * depth;
        let prefix = from
            .checked_shr(span)
            .unwrap_or(0)
            .checked_shl(span)
            .unwrap_or(0);
        let end = |part: u64, width: u32| {
            // The hash after this part of the node's range; `None` when the range ends there.
            let next = part << (span - width);
            if part >> width != 0 {
                None
            } else {
                Some(prefix | next)
            }
        };
        if self.is_inner() {
            let mut child = child_of(from, depth);
            let mut from = from;
            loop {
                // SAFETY: 16 live children.
                let node = unsafe { &*self.children().add(child) };
                if node.len > 0
                    && let Some(next) = node.scan_at(from, depth + 1, f)
                {
                    return Some(next);
                }
                child += 1;
                from = end(child as u64, 4)?;
                if node.len > 0 {
                    return Some(from);
                }
            }
        }
        if self.word == 0 {
            return None;
        }
        let buckets = self.buckets();
        let home = home_of(tag_of(from, depth), buckets);
        let mut index = home;
        for _ in 0..buckets {
            // SAFETY: below the number of buckets.
            let bucket = unsafe { &*self.data().add(index) };
            for &word in bucket {
                if word != 0 && home_of(word >> 48, buckets) == home {
                    // SAFETY: words of a live leaf hold live entries.
                    f(unsafe { Entry::from_ptr((word & ADDRESS) as *mut u8) });
                }
            }
            if bucket.contains(&0) {
                break;
            }
            index = if index + 1 == buckets { 0 } else { index + 1 };
        }
        // The first tag of the next home bucket.
        end((((home + 1) << 16).div_ceil(buckets)) as u64, 16)
    }

    /// Bytes of leaves and inner nodes.
    pub fn memory(&self) -> usize {
        if self.is_inner() {
            // SAFETY: 16 live children.
            (0..FANOUT)
                .map(|i| unsafe { (*self.children().add(i)).memory() })
                .sum::<usize>()
                + FANOUT * size_of::<Node>()
        } else {
            self.buckets() * size_of::<Bucket>()
        }
    }

    /// Checks everything that the module's head promises.
    pub fn check_invariants(&self, hash_of: &impl Fn(&[u8]) -> u64) {
        self.check_at(0, 0, hash_of);
    }

    fn check_at(&self, depth: u32, prefix: u64, hash_of: &impl Fn(&[u8]) -> u64) {
        if self.is_inner() {
            let mut sum = 0;
            for i in 0..FANOUT {
                // SAFETY: 16 live children.
                let child = unsafe { &*self.children().add(i) };
                child.check_at(depth + 1, prefix << 4 | i as u64, hash_of);
                sum += child.len;
            }
            assert_eq!(sum, self.len, "an inner node's count");
            return;
        }
        let buckets = self.buckets();
        let mut count = 0;
        for index in 0..buckets {
            // SAFETY: below the number of buckets.
            for &word in unsafe { &*self.data().add(index) } {
                if word == 0 {
                    continue;
                }
                count += 1;
                // SAFETY: words of a live leaf hold live entries.
                let hash = hash_of(unsafe { Entry::from_ptr((word & ADDRESS) as *mut u8) }.key());
                assert_eq!(tag_of(hash, depth), word >> 48, "a tag");
                assert_eq!(
                    hash.checked_shr(64 - 4 * depth).unwrap_or(0),
                    prefix,
                    "a path"
                );
                let mut way = home_of(word >> 48, buckets);
                while way != index {
                    // SAFETY: below the number of buckets.
                    let bucket = unsafe { &*self.data().add(way) };
                    assert!(!bucket.contains(&0), "a gap on an entry's way from home");
                    way = (way + 1) % buckets;
                }
            }
        }
        assert_eq!(count, self.len, "a leaf's count");
    }
}

#[inline]
pub fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it does not fault on any address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast())
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[inline]
pub fn prefetch_node(node: *const Node) {
    prefetch(node.cast());
}
/// Both cache lines that an entry's head and most values lie in.
#[inline]
pub fn prefetch_entry(entry: Entry) {
    prefetch(entry.as_ptr());
    prefetch(entry.as_ptr().wrapping_add(64));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tags_are_found_as_one_by_one(tags in prop::array::uniform8(prop::sample::select(vec![0u64, 1, 0x7fff, 0x8000, 0xffff])), tag: u16, low: u32) {
            let bucket = tags.map(|tag| tag << 48 | u64::from(low));
            for tag in [tag, 0, 1, 0x7fff, 0x8000, 0xffff] {
                let bit = |(at, word): (usize, &u64)| u32::from(word >> 48 == u64::from(tag)) << at;
                let expected: u32 = bucket.iter().enumerate().map(bit).sum();
                prop_assert_eq!(tag_mask(&bucket, tag), expected);
            }
        }
    }
}
