//! Small collections, packed: Redis's listpack format, byte for byte, so that DUMP and RDB are a copy.
//!
//! ```text
//! | total bytes, 4 | elements, 2 | element … | 0xff |
//! ```
//! Numbers are little-endian; `elements` is 65535 where there are more than it can hold, or where that is not known: then they are
//! counted. The elements themselves: [`element`].
//!
//! A position is the byte offset of an element. An edit makes all positions behind it, and that of a deleted element, void.
//! All functions but [`validate`] expect a well-formed listpack.

pub mod element;
#[cfg(test)]
mod tests;

use crate::keyspace::EntryMut;
pub use element::{Encoded, Item, Needle, size_of};

/// A listpack without elements.
pub const EMPTY: &[u8] = &[7, 0, 0, 0, 0, 0, END];
/// Where the first element is.
pub const HEADER: usize = 6;
const END: u8 = 0xff;
const UNKNOWN: u16 = u16::MAX;
/// As in Redis: no listpack grows beyond 1 GB.
const SIZE_MAX: usize = 1 << 30;

/// Bytes that can be edited: an owned vector, or a value in its entry.
pub trait Splice {
    fn bytes(&self) -> &[u8];
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Replaces `delete` bytes at `at` by `insert`.
    fn splice(&mut self, at: usize, delete: usize, insert: &[u8]);
}

impl Splice for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
    fn splice(&mut self, at: usize, delete: usize, insert: &[u8]) {
        let (tail, old) = (at + delete, self.len());
        if insert.len() > delete {
            self.resize(old + insert.len() - delete, 0);
        }
        self.copy_within(tail..old, at + insert.len());
        self.truncate(old + insert.len() - delete);
        self[at..at + insert.len()].copy_from_slice(insert);
    }
}

impl Splice for EntryMut<'_> {
    fn bytes(&self) -> &[u8] {
        EntryMut::bytes(self)
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        EntryMut::bytes_mut(self)
    }
    fn splice(&mut self, at: usize, delete: usize, insert: &[u8]) {
        EntryMut::splice(self, at, delete, insert);
    }
}

// ---- reading ----

fn count_field(lp: &[u8]) -> u16 {
    u16::from_le_bytes([lp[4], lp[5]])
}

/// The number of elements. Walks them if there are 65535 or more, or ever were.
#[inline]
pub fn len(lp: &[u8]) -> usize {
    match count_field(lp) {
        UNKNOWN => iter(lp).count(),
        n => n as usize,
    }
}
#[inline]
pub fn is_empty(lp: &[u8]) -> bool {
    lp[HEADER] == END
}
/// The position after the last element: where [`insert`] appends.
#[inline]
pub fn end(lp: &[u8]) -> usize {
    lp.len() - 1
}
#[inline]
pub fn first(lp: &[u8]) -> Option<usize> {
    (!is_empty(lp)).then_some(HEADER)
}
#[inline]
pub fn last(lp: &[u8]) -> Option<usize> {
    prev(lp, end(lp))
}
/// The element after the one at `at`.
#[inline]
pub fn next(lp: &[u8], at: usize) -> Option<usize> {
    let next = element::skip(lp, at);
    (next < end(lp)).then_some(next)
}
/// The element before `at`, which may also be [`end`].
#[inline]
pub fn prev(lp: &[u8], at: usize) -> Option<usize> {
    (at > HEADER).then(|| element::back(lp, at))
}
/// The position of an element by its index; negative ones count from the end.
pub fn nth(lp: &[u8], index: i64) -> Option<usize> {
    let steps = usize::try_from(index.unsigned_abs()).ok()?;
    let (forward, steps) = match count_field(lp) {
        // Where the count is not known, the sign says from which end.
        UNKNOWN => (index >= 0, if index >= 0 { steps } else { steps - 1 }),
        count => {
            let count = count as usize;
            let index = if index >= 0 {
                steps
            } else {
                count.checked_sub(steps)?
            };
            if index >= count {
                return None;
            }
            if index < count / 2 {
                (true, index)
            } else {
                (false, count - 1 - index)
            }
        }
    };
    if forward {
        let mut at = first(lp)?;
        for _ in 0..steps {
            at = next(lp, at)?;
        }
        Some(at)
    } else {
        let mut at = last(lp)?;
        for _ in 0..steps {
            at = prev(lp, at)?;
        }
        Some(at)
    }
}
#[inline]
pub fn get(lp: &[u8], at: usize) -> Item<'_> {
    element::get(lp, at)
}

/// The elements in order, with their positions.
#[inline]
pub fn iter(lp: &[u8]) -> Iter<'_> {
    iter_from(lp, HEADER)
}
/// The elements from the one at `at` on.
#[inline]
pub fn iter_from(lp: &[u8], at: usize) -> Iter<'_> {
    Iter { lp, at }
}

/// See [`iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    lp: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (usize, Item<'a>);
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= end(self.lp) {
            return None;
        }
        let at = self.at;
        let (item, next) = element::read(self.lp, at);
        self.at = next;
        Some((at, item))
    }
}

/// The first element from the one at `from` on whose text is `needle`, comparing one and then skipping `skip` others: with 1 and from
/// the first element, the keys of key-value pairs.
pub fn find(lp: &[u8], from: usize, needle: &[u8], skip: usize) -> Option<usize> {
    let needle = Needle::new(needle);
    let end = end(lp);
    let mut at = from;
    while at < end {
        let (item, mut next) = element::read(lp, at);
        if needle.matches(item) {
            return Some(at);
        }
        for _ in 0..skip {
            if next >= end {
                return None;
            }
            next = element::skip(lp, next);
        }
        at = next;
    }
    None
}

/// True for a well-formed listpack: every length is checked, walking forward and backward leads over the same elements, and the count is right.
/// The bytes of the strings are not looked at; the length forms of Redis and of Valkey are both accepted.
pub fn validate(lp: &[u8]) -> bool {
    if lp.len() < EMPTY.len()
        || u32::from_le_bytes([lp[0], lp[1], lp[2], lp[3]]) as usize != lp.len()
        || lp[end(lp)] != END
    {
        return false;
    }
    let inside = &lp[..end(lp)];
    let (mut at, mut count) = (HEADER, 0usize);
    while at < inside.len() {
        match element::checked_skip(inside, at) {
            Some(next) => at = next,
            None => return false,
        }
        count += 1;
    }
    match count_field(lp) {
        UNKNOWN => true,
        n => n as usize == count,
    }
}

/// True if `more` bytes of elements may be added.
pub fn has_room(lp: &[u8], more: usize) -> bool {
    lp.len() + more <= SIZE_MAX
}

// ---- editing ----

/// Sets the header after a change of the elements' number.
fn set_header(b: &mut impl Splice, count: Option<usize>) {
    let bytes = b.bytes_mut();
    let total = u32::try_from(bytes.len()).expect("a listpack has less than 4 GB");
    bytes[..4].copy_from_slice(&total.to_le_bytes());
    if let Some(count) = count {
        let count = u16::try_from(count).unwrap_or(UNKNOWN);
        bytes[4..6].copy_from_slice(&count.to_le_bytes());
    }
}
/// What the count becomes when `delete` elements go and `insert` come; `None` while it is unknown.
fn new_count(lp: &[u8], delete: usize, insert: usize) -> Option<usize> {
    match count_field(lp) {
        UNKNOWN => None,
        n => Some(n as usize - delete + insert),
    }
}

/// Inserts a value before the element at `at`, or at the [`end`].
#[inline]
pub fn insert<'v>(b: &mut impl Splice, at: usize, value: impl Into<Item<'v>>) {
    splice_elements(b, at, 0, 0, &Encoded::new(value));
}
#[inline]
pub fn push_back<'v>(b: &mut impl Splice, value: impl Into<Item<'v>>) {
    let at = end(b.bytes());
    insert(b, at, value);
}
#[inline]
pub fn push_front<'v>(b: &mut impl Splice, value: impl Into<Item<'v>>) {
    insert(b, HEADER, value);
}
/// Inserts values before the element at `at`, or at the [`end`], in one move of what lies behind.
pub fn insert_all<'v>(b: &mut impl Splice, at: usize, values: impl IntoIterator<Item = Item<'v>>) {
    let mut packed = Vec::new();
    let mut inserted = 0;
    for value in values {
        Encoded::new(value).append_to(&mut packed);
        inserted += 1;
    }
    let count = new_count(b.bytes(), 0, inserted);
    b.splice(at, 0, &packed);
    set_header(b, count);
}
/// As [`insert_all`], for a few short values, which then need no memory on the way.
#[inline]
pub fn insert_group<const N: usize>(b: &mut impl Splice, at: usize, values: [Item<'_>; N]) {
    let mut packed = [0; 256];
    let encoded = values.map(Encoded::new);
    if encoded.iter().map(Encoded::size).sum::<usize>() > packed.len() {
        return insert_all(b, at, values);
    }
    let mut len = 0;
    for piece in encoded.iter().flat_map(Encoded::pieces) {
        packed[len..len + piece.len()].copy_from_slice(piece);
        len += piece.len();
    }
    let count = new_count(b.bytes(), 0, N);
    b.splice(at, 0, &packed[..len]);
    set_header(b, count);
}
/// A listpack that is being made, of elements in order.
pub struct Builder {
    lp: Vec<u8>,
    count: usize,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            lp: EMPTY[..HEADER].to_vec(),
            count: 0,
        }
    }
}

impl Builder {
    #[inline]
    pub fn push<'v>(&mut self, value: impl Into<Item<'v>>) {
        Encoded::new(value).append_to(&mut self.lp);
        self.count += 1;
    }
    pub fn reserve(&mut self, bytes: usize) {
        self.lp.reserve(bytes);
    }
    /// The number of elements.
    pub fn len(&self) -> usize {
        self.count
    }
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    /// The length that the listpack has as it is now.
    pub fn size(&self) -> usize {
        self.lp.len() + 1
    }
    pub fn finish(mut self) -> Vec<u8> {
        self.lp.push(END);
        set_header(&mut self.lp, Some(self.count));
        self.lp
    }
}

/// Appends values to a listpack that is being made.
pub fn push_items<'v, const N: usize>(lp: &mut Vec<u8>, values: [Item<'v>; N]) {
    let count = new_count(lp, 0, N);
    lp.pop();
    for value in values {
        Encoded::new(value).append_to(lp);
    }
    lp.push(END);
    set_header(lp, count);
}
/// Replaces the element at `at`.
#[inline]
pub fn replace<'v>(b: &mut impl Splice, at: usize, value: impl Into<Item<'v>>) {
    let size = element::skip(b.bytes(), at) - at;
    splice_elements(b, at, size, 1, &Encoded::new(value));
}
fn splice_elements(b: &mut impl Splice, at: usize, size: usize, delete: usize, new: &Encoded<'_>) {
    let count = new_count(b.bytes(), delete, 1);
    new.with_bytes(|new| b.splice(at, size, new));
    set_header(b, count);
}
/// Deletes up to `count` elements from the one at `at` on. What follows them is then at `at`.
pub fn delete(b: &mut impl Splice, at: usize, count: usize) {
    let lp = b.bytes();
    let end = end(lp);
    let (mut to, mut deleted) = (at, 0);
    while deleted < count && to < end {
        to = element::skip(lp, to);
        deleted += 1;
    }
    let count = new_count(lp, deleted, 0);
    b.splice(at, to - at, &[]);
    set_header(b, count);
}
