//! One node of a quicklist: elements as a listpack has them, without its header, in a buffer with room at both ends; or one
//! large element by itself, as it is.
//!
//! ```text
//! buffer: | gap | element … | gap |        a packed node
//!         | the element's bytes   |        a plain node
//! ```
//! The gap at the front makes a push or pop at the head as cheap as one at the tail. Offsets into a node count from its first element.
//!
//! Invariants: `start + len` lies within the buffer; `count` elements lie in it; a plain node's buffer has just its element's size.

use crate::collections::listpack::element::{self, Encoded, Item};

/// What a listpack has beside its elements: sizes are compared with limits as if nodes were listpacks, as in Redis.
pub const LISTPACK_OVERHEAD: usize = 7;
/// The bytes of elements that a packed node holds at most: its largest limit. Longer elements are plain.
pub const PACKED_MAX: usize = (64 << 10) - LISTPACK_OVERHEAD;
/// What Redis estimates that an element takes beside its text.
const ELEMENT_OVERHEAD: usize = 8;
/// With a limit by number, a node's bytes are limited still.
const SAFE_BYTES: usize = 8192;

/// `list-max-listpack-size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Count(usize),
    Bytes(usize),
}

impl Limit {
    pub fn new(setting: i64) -> Self {
        match setting {
            0.. => Self::Count(setting.clamp(1, 32767) as usize),
            _ => Self::Bytes(4096 << (-1 - setting.max(-5))),
        }
    }
    /// True if a node of `bytes`, a listpack's overhead included, with `count` elements is too large.
    #[inline]
    pub fn is_exceeded(self, bytes: usize, count: usize) -> bool {
        match self {
            Self::Count(max) => bytes > SAFE_BYTES || count > max,
            Self::Bytes(max) => bytes > max,
        }
    }
    /// True if an element of `len` bytes may be added to a packed node of `bytes` with `count` elements.
    #[inline]
    pub fn has_room(self, bytes: usize, count: usize, len: usize) -> bool {
        !self.is_large(len) && !self.is_exceeded(bytes + len + ELEMENT_OVERHEAD, count + 1)
    }
    /// True for an element that gets a node of its own.
    #[inline]
    pub fn is_large(self, len: usize) -> bool {
        match self {
            Self::Count(_) => len > SAFE_BYTES,
            Self::Bytes(max) => len > max || len + ELEMENT_OVERHEAD > PACKED_MAX,
        }
    }
    /// The buffer's size of a node that is going to be filled.
    fn target(self) -> usize {
        match self {
            Self::Count(max) => (max * 16).clamp(128, SAFE_BYTES),
            Self::Bytes(max) => max,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Front,
    Back,
}

#[derive(Clone, Debug)]
pub struct Node {
    buffer: Box<[u8]>,
    start: u16,
    len: u16,
    count: u16,
    plain: bool,
}

/// A node's contents.
#[derive(Clone, Copy)]
pub enum NodeRef<'a> {
    /// One long element.
    Plain(&'a [u8]),
    Packed(PackedNode<'a>),
}

/// The elements of a packed node.
#[derive(Clone, Copy)]
pub struct PackedNode<'a> {
    data: &'a [u8],
    count: u16,
}

impl PackedNode<'_> {
    /// Appends a listpack of the elements.
    pub fn append_listpack(self, out: &mut Vec<u8>) {
        let size = self.data.len() + LISTPACK_OVERHEAD;
        out.extend_from_slice(&(size as u32).to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(self.data);
        out.push(0xff);
    }
}

impl Node {
    pub fn to_ref(&self) -> NodeRef<'_> {
        if self.plain {
            NodeRef::Plain(&self.buffer)
        } else {
            NodeRef::Packed(PackedNode {
                data: self.data(),
                count: self.count,
            })
        }
    }
    pub fn append_listpack(&self, out: &mut Vec<u8>) {
        if let NodeRef::Packed(node) = self.to_ref() {
            node.append_listpack(out);
        }
    }
    /// An empty packed node that is going to be filled from the end that is not `from`.
    pub fn new(limit: Limit, from: End) -> Self {
        let size = limit.target();
        Self {
            buffer: vec![0; size].into_boxed_slice(),
            start: match from {
                End::Front => 0,
                End::Back => size.min(u16::MAX as usize) as u16,
            },
            len: 0,
            count: 0,
            plain: false,
        }
    }
    pub fn plain(value: &[u8]) -> Self {
        Self {
            buffer: value.into(),
            start: 0,
            len: 0,
            count: 1,
            plain: true,
        }
    }
    /// A node of just these elements, of which there are `count`.
    pub fn packed(elements: &[u8], count: usize) -> Self {
        assert!(elements.len() <= PACKED_MAX, "too much for a packed node");
        let mut buffer = vec![0; class_size(elements.len())].into_boxed_slice();
        buffer[..elements.len()].copy_from_slice(elements);
        Self {
            buffer,
            start: 0,
            len: elements.len() as u16,
            count: count as u16,
            plain: false,
        }
    }

    #[inline]
    pub fn is_plain(&self) -> bool {
        self.plain
    }
    #[inline]
    pub fn count(&self) -> usize {
        self.count as usize
    }
    /// The elements of a packed node.
    #[inline]
    pub fn data(&self) -> &[u8] {
        debug_assert!(!self.plain);
        let start = self.start as usize;
        &self.buffer[start..start + self.len as usize]
    }
    /// Where an iteration ends: one past the last offset.
    #[inline]
    pub fn end(&self) -> usize {
        if self.plain { 1 } else { self.len as usize }
    }
    /// The element at an offset, and the next offset.
    #[inline]
    pub fn read(&self, at: usize) -> (Item<'_>, usize) {
        if self.plain {
            return (Item::Bytes(&self.buffer), 1);
        }
        element::read(self.data(), at)
    }
    /// The offset of the element before an offset, which is not 0.
    #[inline]
    pub fn before(&self, at: usize) -> usize {
        if self.plain {
            return 0;
        }
        element::back(self.data(), at)
    }
    /// The offset of an element by its index in the node; [`Node::end`] for its count.
    pub fn offset(&self, index: usize) -> usize {
        let count = self.count();
        debug_assert!(index <= count);
        if self.plain {
            return index;
        }
        let data = self.data();
        if index <= count / 2 {
            (0..index).fold(0, |at, _| element::skip(data, at))
        } else {
            (index..count).fold(data.len(), |at, _| element::back(data, at))
        }
    }
    /// Bytes as Redis counts them for its limits.
    #[inline]
    pub fn counted_bytes(&self) -> usize {
        if self.plain {
            self.buffer.len()
        } else {
            self.len as usize + LISTPACK_OVERHEAD
        }
    }
    /// Bytes of its buffer.
    pub fn memory(&self) -> usize {
        crate::memory::block_of(self.buffer.len())
    }

    /// True if a value of `len` bytes may be added.
    #[inline]
    pub fn has_room(&self, limit: Limit, len: usize) -> bool {
        !self.plain && limit.has_room(self.counted_bytes(), self.count(), len)
    }
    /// True if both together would be no larger than a node may be.
    pub fn may_merge(&self, other: &Self, limit: Limit) -> bool {
        !self.plain
            && !other.plain
            && !limit.is_exceeded(
                self.counted_bytes() + other.len as usize,
                self.count() + other.count(),
            )
    }

    /// Makes a gap of `need` bytes at that end.
    #[inline]
    fn make_room(&mut self, end: End, need: usize) {
        let gap = match end {
            End::Front => self.start as usize,
            End::Back => self.buffer.len() - self.start as usize - self.len as usize,
        };
        if gap < need {
            self.move_data(end, need);
        }
    }
    #[cold]
    fn move_data(&mut self, end: End, need: usize) {
        let (start, len, size) = (self.start as usize, self.len as usize, self.buffer.len());
        let total = len + need;
        // Sliding within the buffer pays when it gains some room, so that it is seldom.
        let fits = total <= size && size - total >= len / 8;
        let new_size = if fits {
            size
        } else {
            class_size(total + total / 4).min(u16::MAX as usize)
        };
        let to = match end {
            End::Front => new_size - len,
            End::Back => 0,
        };
        if fits {
            self.buffer.copy_within(start..start + len, to);
        } else {
            let mut buffer = vec![0; new_size].into_boxed_slice();
            buffer[to..to + len].copy_from_slice(&self.buffer[start..start + len]);
            self.buffer = buffer;
        }
        self.start = to as u16;
    }

    #[inline]
    pub fn push(&mut self, end: End, element: &Encoded<'_>) {
        let size = element.size();
        self.make_room(end, size);
        if end == End::Front {
            self.start -= size as u16;
        }
        let at = match end {
            End::Front => self.start as usize,
            End::Back => self.start as usize + self.len as usize,
        };
        element.copy_to(&mut self.buffer[at..]);
        self.len += size as u16;
        self.count += 1;
    }
    /// Replaces `deleted` elements, `delete` bytes at `at`, by `insert`, moving the shorter side.
    pub fn splice(
        &mut self,
        at: usize,
        delete: usize,
        deleted: usize,
        insert: Option<&Encoded<'_>>,
    ) {
        debug_assert!(!self.plain);
        let size = insert.map_or(0, Encoded::size);
        let (len, tail) = (self.len as usize, at + delete);
        assert!(len - delete + size <= PACKED_MAX, "a node without room");
        if size > delete {
            let more = size - delete;
            let front = self.start as usize;
            let back = self.buffer.len() - front - len;
            // The shorter side moves, if there is room for it or nowhere else either.
            let end = if at < len - tail && (front >= more || back < more) {
                End::Front
            } else {
                End::Back
            };
            self.make_room(end, more);
            let start = self.start as usize;
            match end {
                End::Front => {
                    self.buffer.copy_within(start..start + at, start - more);
                    self.start -= more as u16;
                }
                End::Back => {
                    self.buffer
                        .copy_within(start + tail..start + len, start + tail + more);
                }
            }
        } else {
            let less = delete - size;
            let start = self.start as usize;
            if at < len - tail {
                self.buffer.copy_within(start..start + at, start + less);
                self.start += less as u16;
            } else {
                self.buffer
                    .copy_within(start + tail..start + len, start + tail - less);
            }
        }
        self.len = (len - delete + size) as u16;
        if let Some(element) = insert {
            let at = self.start as usize + at;
            element.copy_to(&mut self.buffer[at..at + size]);
        }
        self.count = (self.count() - deleted + usize::from(insert.is_some())) as u16;
    }
    /// Drops the elements before `at`, of which there are `count`; the first element's place does not move.
    #[inline]
    pub fn drop_front(&mut self, at: usize, count: usize) {
        self.start += at as u16;
        self.len -= at as u16;
        self.count -= count as u16;
    }
    /// Drops the elements from `at` on, of which there are `count`.
    #[inline]
    pub fn drop_back(&mut self, at: usize, count: usize) {
        self.len = at as u16;
        self.count -= count as u16;
    }
    /// Cuts the node in two; `index` elements, up to `at`, stay.
    pub fn split_off(&mut self, at: usize, index: usize) -> Self {
        let right = Self::packed(&self.data()[at..], self.count() - index);
        self.drop_back(at, right.count());
        right
    }
    /// Appends another node's elements.
    pub fn append(&mut self, other: &Self) {
        let data = other.data();
        self.make_room(End::Back, data.len());
        let at = self.start as usize + self.len as usize;
        self.buffer[at..at + data.len()].copy_from_slice(data);
        self.len += data.len() as u16;
        self.count += other.count;
    }
    /// Gives back what a node does not use that will hardly grow again.
    pub fn shrink(&mut self) {
        let (start, len) = (self.start as usize, self.len as usize);
        if !self.plain && class_size(len) < self.buffer.len() {
            let mut buffer = vec![0; class_size(len)].into_boxed_slice();
            buffer[..len].copy_from_slice(&self.buffer[start..start + len]);
            self.buffer = buffer;
            self.start = 0;
        }
    }

    pub fn check_invariants(&self) {
        if self.plain {
            assert_eq!((self.start, self.len, self.count), (0, 0, 1));
            return;
        }
        assert!(self.start as usize + self.len as usize <= self.buffer.len());
        let (mut at, mut count) = (0, 0);
        while at < self.end() {
            at = element::checked_skip(self.data(), at).expect("a well-formed element");
            count += 1;
        }
        assert_eq!((at, count), (self.end(), self.count()));
    }
}

/// The allocator's block size for a request: four sizes to each doubling.
fn class_size(size: usize) -> usize {
    match size {
        0..=64 => size.next_multiple_of(16).max(16),
        _ => size.next_multiple_of(size.next_power_of_two() / 8),
    }
}
