//! A block of consecutive entries: one listpack, byte for byte as Redis keeps it under a node of its radix tree.
//!
//! ```text
//! | live | deleted | n | field 1 … field n | 0 |                                      the master entry
//! | flags | ms - first.ms | seq - first.seq | value 1 … value n | elements before |   an entry with the master's fields
//! | flags | ms diff | seq diff | n | field 1 | value 1 … | elements before |          another
//! ```
//! Entries of one stream mostly have the same fields, which are then written once a block. Deleted entries stay, with a flag; a
//! block goes when its last live entry does. The last element of an entry says how many stand before it in the entry, so that entries can be
//! walked backwards.
//!
//! Invariants: `live` is not 0; `live + deleted` entries follow, with ascending IDs, none below the block's first.

use super::id::StreamId;
use crate::collections::listpack::{self, Encoded, HEADER, Item, element};

/// Flags of an entry.
const DELETED: u8 = 1;
const SAME_FIELDS: u8 = 2;

/// See the module.
#[derive(Debug)]
pub struct Block {
    first: StreamId,
    bytes: Vec<u8>,
}

/// The master entry, read.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub live: u64,
    pub deleted: u64,
    fields: usize,
    fields_at: usize,
    /// Where the first entry begins.
    pub entries_at: usize,
}

/// An entry's place in its block.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub id: StreamId,
    pub deleted: bool,
    flags_at: usize,
    same_fields: bool,
    fields: usize,
    /// The first value, or the first field where the entry has its own.
    body_at: usize,
}

/// An entry, to be read.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub id: StreamId,
    bytes: &'a [u8],
    /// Where the names are; `None`: before each value.
    names_at: Option<usize>,
    fields: usize,
    at: usize,
}

impl<'a> Entry<'a> {
    /// The number of fields.
    pub fn len(&self) -> usize {
        self.fields
    }
    pub fn is_empty(&self) -> bool {
        self.fields == 0
    }
    /// Calls `f` with each field and its value.
    #[inline]
    pub fn each(&self, mut f: impl FnMut(Item<'a>, Item<'a>)) {
        let mut at = self.at;
        match self.names_at {
            Some(mut name_at) => {
                for _ in 0..self.fields {
                    let (name, next_name) = element::read(self.bytes, name_at);
                    let (value, next) = element::read(self.bytes, at);
                    f(name, value);
                    (name_at, at) = (next_name, next);
                }
            }
            None => {
                for _ in 0..self.fields {
                    let (name, value_at) = element::read(self.bytes, at);
                    let (value, next) = element::read(self.bytes, value_at);
                    f(name, value);
                    at = next;
                }
            }
        }
    }
}

/// The integer at `at`, and what follows. Small ones are most.
#[inline]
fn int(bytes: &[u8], at: usize) -> (i64, usize) {
    if bytes[at] < 0x80 {
        return (bytes[at] as i64, at + 2);
    }
    let (item, next) = element::read(bytes, at);
    (
        item.as_int().expect("validated when it came from outside"),
        next,
    )
}

impl Block {
    /// A block without entries, made for one with these fields, which follows at once.
    pub fn new(first: StreamId, pairs: &[&[u8]], capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.extend_from_slice(&listpack::EMPTY[..HEADER]);
        let mut elements = 4;
        for n in [0, 0, pairs.len() as i64 / 2] {
            Encoded::new(n).append_to(&mut bytes);
        }
        for name in pairs.iter().step_by(2) {
            Encoded::new(*name).append_to(&mut bytes);
            elements += 1;
        }
        Encoded::new(0).append_to(&mut bytes);
        let mut block = Self { first, bytes };
        block.finish(0, elements);
        block
    }
    /// A block of bytes from outside, with the entries' IDs relative to `first`. `None` if they are not well-formed.
    pub fn from_bytes(first: StreamId, bytes: Vec<u8>) -> Option<Self> {
        let block = Self { first, bytes };
        block.is_valid().then_some(block)
    }

    pub fn first(&self) -> StreamId {
        self.first
    }
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
    /// Nothing is added any more: the memory kept for that is given back.
    pub fn close(&mut self) {
        // A shrinking reallocation leaves a block where it is, at its size: only a copy is tight.
        if self.bytes.capacity() - self.bytes.len() > self.bytes.len() / 64 {
            self.bytes = self.bytes.as_slice().to_vec();
        }
    }
    /// An independent copy, without slack.
    pub fn duplicate(&self) -> Self {
        Self {
            first: self.first,
            bytes: self.bytes.as_slice().to_vec(),
        }
    }

    #[inline]
    pub fn counts(&self) -> (u64, u64) {
        let (live, at) = int(&self.bytes, HEADER);
        let (deleted, _) = int(&self.bytes, at);
        (live as u64, deleted as u64)
    }
    #[inline]
    pub fn head(&self) -> Head {
        let bytes = &self.bytes;
        let (live, at) = int(bytes, HEADER);
        let (deleted, at) = int(bytes, at);
        let (fields, fields_at) = int(bytes, at);
        let mut at = fields_at;
        for _ in 0..fields {
            at = element::skip(bytes, at);
        }
        Head {
            live: live as u64,
            deleted: deleted as u64,
            fields: fields as usize,
            fields_at,
            entries_at: element::skip(bytes, at),
        }
    }
    /// Where the last entry ends.
    #[inline]
    pub fn end(&self) -> usize {
        self.bytes.len() - 1
    }

    // ---- reading ----

    /// Reads an entry's beginning.
    #[inline]
    pub fn at(&self, head: &Head, at: usize) -> Found {
        let bytes = &self.bytes;
        let flags = bytes[at];
        let (ms, next) = int(bytes, at + 2);
        let (seq, mut body_at) = int(bytes, next);
        let same_fields = flags & SAME_FIELDS != 0;
        let fields = if same_fields {
            head.fields
        } else {
            let (n, next) = int(bytes, body_at);
            body_at = next;
            n as usize
        };
        Found {
            id: StreamId {
                ms: self.first.ms.wrapping_add(ms as u64),
                seq: self.first.seq.wrapping_add(seq as u64),
            },
            deleted: flags & DELETED != 0,
            flags_at: at,
            same_fields,
            fields,
            body_at,
        }
    }
    /// Where the entry after this one begins.
    #[inline]
    pub fn after(&self, found: &Found) -> usize {
        let elements = found.fields * if found.same_fields { 1 } else { 2 };
        let mut at = found.body_at;
        for _ in 0..=elements {
            at = element::skip(&self.bytes, at);
        }
        at
    }
    /// Where the entry begins that ends at `end`; `None` before the first.
    #[inline]
    pub fn before(&self, head: &Head, end: usize) -> Option<usize> {
        if end <= head.entries_at {
            return None;
        }
        let mut at = element::back(&self.bytes, end);
        let (elements, _) = int(&self.bytes, at);
        for _ in 0..elements {
            at = element::back(&self.bytes, at);
        }
        Some(at)
    }
    #[inline]
    pub fn entry(&self, head: &Head, found: &Found) -> Entry<'_> {
        Entry {
            id: found.id,
            bytes: &self.bytes,
            names_at: found.same_fields.then_some(head.fields_at),
            fields: found.fields,
            at: found.body_at,
        }
    }
    /// The entry of this ID, if it is there and not deleted.
    pub fn find(&self, head: &Head, id: StreamId) -> Option<Found> {
        let mut at = head.entries_at;
        while at < self.end() {
            let found = self.at(head, at);
            if found.id >= id && !found.deleted {
                return (found.id == id).then_some(found);
            }
            at = self.after(&found);
        }
        None
    }
    /// The ID of the last entry, deleted or not.
    pub fn last(&self) -> StreamId {
        let head = self.head();
        match self.before(&head, self.end()) {
            Some(at) => self.at(&head, at).id,
            None => self.first,
        }
    }

    /// The ID of the last entry that is not deleted.
    pub fn last_live(&self) -> Option<StreamId> {
        let head = self.head();
        let mut end = self.end();
        while let Some(at) = self.before(&head, end) {
            let found = self.at(&head, at);
            if !found.deleted {
                return Some(found.id);
            }
            end = at;
        }
        None
    }

    // ---- changing ----

    /// Adds an entry, whose ID is above all live ones', of fields and values in turn.
    #[inline]
    pub fn append(&mut self, id: StreamId, pairs: &[&[u8]], room: usize) {
        let fields = pairs.len() / 2;
        let same_fields = self.has_fields(pairs);
        self.bytes.pop();
        if self.bytes.capacity() - self.bytes.len() < room {
            let more = (self.bytes.len() / 2).max(room);
            self.bytes.reserve_exact(more);
        }
        let bytes = &mut self.bytes;
        let flags = if same_fields { SAME_FIELDS } else { 0 };
        bytes.extend_from_slice(&[flags, 1]);
        Encoded::new(id.ms.wrapping_sub(self.first.ms) as i64).append_to(bytes);
        Encoded::new(id.seq.wrapping_sub(self.first.seq) as i64).append_to(bytes);
        let elements = if same_fields {
            for value in pairs.iter().skip(1).step_by(2) {
                Encoded::new(*value).append_to(bytes);
            }
            3 + fields
        } else {
            Encoded::new(fields as i64).append_to(bytes);
            for word in pairs {
                Encoded::new(*word).append_to(bytes);
            }
            4 + pairs.len()
        };
        Encoded::new(elements as i64).append_to(bytes);
        let before = u16::from_le_bytes([bytes[4], bytes[5]]) as usize;
        self.finish(before, elements + 1);
        if self.bytes[HEADER] < 0x7f {
            self.bytes[HEADER] += 1;
        } else {
            let (live, _) = self.counts();
            listpack::replace(&mut self.bytes, HEADER, live as i64 + 1);
        }
    }
    /// Whether an entry with these fields would have the master's.
    #[inline]
    fn has_fields(&self, pairs: &[&[u8]]) -> bool {
        let bytes = &self.bytes;
        let at = element::skip(bytes, element::skip(bytes, HEADER));
        let (fields, mut at) = int(bytes, at);
        if fields as usize != pairs.len() / 2 {
            return false;
        }
        for name in pairs.iter().step_by(2) {
            let (item, next) = element::read(bytes, at);
            if !item.equals(name) {
                return false;
            }
            at = next;
        }
        true
    }
    /// Ends the listpack, and writes its header.
    #[inline]
    fn finish(&mut self, elements: usize, more: usize) {
        self.bytes.push(0xff);
        let total = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&total.to_le_bytes());
        // 65535 says that they have to be counted.
        let count = if elements == 0xffff {
            0xffff
        } else {
            (elements + more).min(0xffff) as u16
        };
        self.bytes[4..6].copy_from_slice(&count.to_le_bytes());
    }
    /// Marks an entry as deleted; the counts in the head are not touched.
    pub fn mark_deleted(&mut self, found: &Found) {
        self.bytes[found.flags_at] |= DELETED;
    }
    /// Moves `n` entries from the live to the deleted in the head. Positions in the block are void afterwards.
    pub fn count_deleted(&mut self, n: u64) {
        let (live, deleted) = self.counts();
        listpack::replace(&mut self.bytes, HEADER, (live - n) as i64);
        let at = element::skip(&self.bytes, HEADER);
        listpack::replace(&mut self.bytes, at, (deleted + n) as i64);
    }

    /// Checks bytes from outside: the listpack, and then that its elements form entries as the module's head says.
    fn is_valid(&self) -> bool {
        listpack::validate(&self.bytes) && self.entries_valid().is_some()
    }
    fn entries_valid(&self) -> Option<()> {
        let end = self.end();
        let number = |at: usize| {
            if at >= end {
                return None;
            }
            match element::read(&self.bytes, at) {
                (Item::Int(n), next) => Some((n, next)),
                _ => None,
            }
        };
        let skip = |mut at: usize, count: i64| {
            for _ in 0..count {
                if at >= end {
                    return None;
                }
                at = element::skip(&self.bytes, at);
            }
            Some(at)
        };
        let natural = |(n, at): (i64, usize)| (n >= 0).then_some((n, at));
        let (live, at) = natural(number(HEADER)?)?;
        let (deleted, at) = natural(number(at)?)?;
        let (master_fields, at) = natural(number(at)?)?;
        let (zero, mut at) = number(skip(at, master_fields)?)?;
        if zero != 0 || live == 0 {
            return None;
        }
        let (mut lives, mut entries, mut last) = (0, 0, None);
        while at < end {
            let (flags, next) = number(at)?;
            // They are read and changed as the byte that they are.
            if next != at + 2 {
                return None;
            }
            let (ms, next) = number(next)?;
            let (seq, next) = number(next)?;
            let id = StreamId {
                ms: self.first.ms.wrapping_add(ms as u64),
                seq: self.first.seq.wrapping_add(seq as u64),
            };
            let deleted = flags as u8 & DELETED != 0;
            let in_order = deleted || last.is_none_or(|last| id > last);
            if !(0..4).contains(&flags) || !in_order || id < self.first {
                return None;
            }
            if !deleted {
                last = Some(id);
            }
            let (elements, next) = if flags as u8 & SAME_FIELDS != 0 {
                (3 + master_fields, skip(next, master_fields)?)
            } else {
                let (fields, next) = natural(number(next)?)?;
                let words = fields.checked_mul(2)?;
                (words.checked_add(4)?, skip(next, words)?)
            };
            let (count, next) = number(next)?;
            if count != elements {
                return None;
            }
            lives += i64::from(!deleted);
            entries += 1;
            at = next;
        }
        (lives == live && Some(entries) == live.checked_add(deleted)).then_some(())
    }

    /// Checks what the module's head promises.
    pub fn check_invariants(&self) {
        assert!(self.is_valid(), "a malformed block {self:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(entries: &[(StreamId, &[&[u8]])]) -> Block {
        let mut block = Block::new(entries[0].0, entries[0].1, 0);
        for (id, pairs) in entries {
            block.append(*id, pairs, 100);
        }
        block.check_invariants();
        block
    }

    /// Their distance does not fit a signed number, and wraps.
    #[test]
    fn ids_far_apart_come_back() {
        let ids = [StreamId::new(6, 5), StreamId::new(u64::MAX, u64::MAX)];
        let fields: &[&[u8]] = &[b"f", b"v"];
        let made = block(&ids.map(|id| (id, fields)));
        assert!(Block::from_bytes(ids[0], made.bytes().to_vec()).is_some());
    }

    /// Taken from Redis 8.2.3: DUMP of a stream with these three entries.
    #[test]
    fn bytes_are_those_of_redis() {
        let id = StreamId::new;
        let block = block(&[
            (id(5, 1), &[b"f", b"1", b"g", b"x"]),
            (id(5, 2), &[b"f", b"-2", b"g", b"y"]),
            (id(300, 0), &[b"other", b"300"]),
        ]);
        let expected: &[u8] = &[
            0x46, 0, 0, 0, 0x19, 0, // header
            3, 1, 0, 1, 2, 1, 0x81, b'f', 2, 0x81, b'g', 2, 0, 1, // master
            2, 1, 0, 1, 0, 1, 1, 1, 0x81, b'x', 2, 5, 1, //
            2, 1, 0, 1, 1, 1, 0xdf, 0xfe, 2, 0x81, b'y', 2, 5, 1, //
            0, 1, 0xc1, 0x27, 2, 0xdf, 0xff, 2, 1, 1, 0x85, b'o', b't', b'h', b'e', b'r', 6, 0xc1,
            0x2c, 2, 6, 1, 0xff,
        ];
        assert_eq!(block.bytes(), expected);
    }

    #[test]
    fn more_entries_and_elements_than_small_numbers_hold() {
        let id = StreamId::new;
        let mut block = Block::new(id(1, 0), &[b"f", b"v"], 0);
        for i in 0..12_000 {
            block.append(id(1, i), &[b"f", b"v"], 20);
        }
        block.check_invariants();
        let head = block.head();
        assert_eq!((head.live, head.deleted), (12_000, 0));
        for (i, gone) in (0..12_000).step_by(50).enumerate() {
            let head = block.head();
            let found = block.find(&head, id(1, gone)).unwrap();
            block.mark_deleted(&found);
            block.count_deleted(1);
            assert_eq!(block.counts(), (11_999 - i as u64, i as u64 + 1));
        }
        block.check_invariants();
        assert!(block.find(&block.head(), id(1, 100)).is_none());
        assert!(block.find(&block.head(), id(1, 101)).is_some());
        assert_eq!(block.last(), id(1, 11_999));
    }

    #[test]
    fn bytes_from_outside_are_checked() {
        let id = StreamId::new;
        let good = block(&[
            (id(5, 1), &[b"f", b"1"]),
            (id(5, 2), &[b"f", b"2"]),
            (id(6, 0), &[b"other", b"300"]),
        ]);
        assert!(Block::from_bytes(id(5, 1), good.bytes().to_vec()).is_some());
        for len in 0..good.bytes().len() {
            assert!(Block::from_bytes(id(5, 1), good.bytes()[..len].to_vec()).is_none());
        }
        // Whatever is changed: an answer, and if it is yes, all can be read.
        for at in 0..good.bytes().len() {
            for bit in 0..8 {
                let mut bytes = good.bytes().to_vec();
                bytes[at] ^= 1 << bit;
                let Some(block) = Block::from_bytes(id(5, 1), bytes) else {
                    continue;
                };
                let head = block.head();
                let (mut at, mut n) = (head.entries_at, 0);
                while at < block.end() {
                    let found = block.at(&head, at);
                    block.entry(&head, &found).each(|_, _| n += 1);
                    at = block.after(&found);
                }
                assert_eq!(n, 3);
            }
        }
    }
}
