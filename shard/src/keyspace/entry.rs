//! One key with its value, in one block of the core's heap.
//!
//! ```text
//! 0        3            4      5     6      8            16
//! | access | type, enc. | form | klen | vlen | [expiry ms] | [klen, 4 bytes] | key | value |
//! ```
//! - access: 24 bits for LRU or LFU; type and encoding: 4 bits each, with Redis's meaning;
//! - form: has an expiry, is in the expiry wheel, has a long key, how the value is held, and its epoch (3 bits: [`super::cut`]);
//! - klen: 255 means that the length follows in 4 bytes;
//! - value: `vlen` bytes in place; or the (pointer, length, capacity) of a byte vector; or a pointer to an [`Object`].
//!
//! Invariants: `form` and the lengths alone give the block's size; a block is owned by exactly one table word.

use super::heap::{Heap, block_size};
use crate::object::{Encoding, Object, Type};
use std::ptr::NonNull;

/// The largest value kept in its entry's own block, in bytes.
pub const INLINE_MAX: usize = 3072;

const EXPIRY: u8 = 1;
const IN_WHEEL: u8 = 2;
const LONG_KEY: u8 = 4;
const FORM: u8 = 0b1_1000;
const INLINE: u8 = 0;
const VECTOR: u8 = 0b0_1000;
const OBJECT: u8 = 0b1_0000;
const EPOCH: u8 = 0b1110_0000;
/// The distance between two epochs, of which there are eight.
pub const EPOCH_STEP: u8 = 0b10_0000;

/// How a value is held.
#[derive(Debug)]
pub enum Value {
    Bytes(Vec<u8>),
    Object(Box<Object>),
}

/// A pointer to an entry. Copyable: whoever holds the keyspace borrowed may look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry(NonNull<u8>);

/// What an entry is made of, taken out of any heap: how entries travel between cores, databases and names.
#[derive(Debug)]
pub struct Parts {
    pub kind: Type,
    pub encoding: Encoding,
    pub access: u32,
    pub expire_at: Option<i64>,
    pub value: Value,
}

/// What `Entry::create` needs to know.
pub struct Header {
    pub kind: Type,
    pub encoding: Encoding,
    pub access: u32,
    pub expire_at: Option<i64>,
}

struct Layout {
    key_at: usize,
    value_at: usize,
    size: usize,
}

fn layout(expiry: bool, key_len: usize, value_len: usize) -> Layout {
    let key_at = 8 + if expiry { 8 } else { 0 } + if key_len >= 255 { 4 } else { 0 };
    Layout {
        key_at,
        value_at: key_at + key_len,
        size: key_at + key_len + value_len,
    }
}

impl Entry {
    /// # Safety
    /// `pointer` came from [`Entry::as_ptr`] of an entry that still lives.
    #[inline]
    pub unsafe fn from_ptr(pointer: *mut u8) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { NonNull::new_unchecked(pointer) })
    }
    #[inline]
    pub fn as_ptr(self) -> *mut u8 {
        self.0.as_ptr()
    }

    // The accessors below read and write the block. An `Entry` value is only made from a live block and is handed out
    // by the keyspace under a borrow of it, during which no block is freed except through that borrow.

    #[inline]
    fn byte(self, at: usize) -> u8 {
        // SAFETY: every entry has 8 header bytes.
        unsafe { self.as_ptr().add(at).read() }
    }
    #[inline]
    fn set_byte(self, at: usize, b: u8) {
        // SAFETY: as above; the core that owns the heap is the only one to write.
        unsafe { self.as_ptr().add(at).write(b) }
    }
    #[inline]
    fn form(self) -> u8 {
        self.byte(4)
    }
    #[inline]
    pub fn kind(self) -> Type {
        Type::from_bits(self.byte(3) >> 4)
    }
    #[inline]
    pub fn encoding(self) -> Encoding {
        Encoding::from_bits(self.byte(3) & 15)
    }
    pub fn set_encoding(self, kind: Type, encoding: Encoding) {
        self.set_byte(3, (kind as u8) << 4 | encoding as u8);
    }
    #[inline]
    pub fn access(self) -> u32 {
        // SAFETY: the header's first word.
        u32::from_le(unsafe { self.as_ptr().cast::<u32>().read() }) & 0xff_ffff
    }
    #[inline]
    pub fn set_access(self, access: u32) {
        // SAFETY: the header's first word.
        unsafe {
            let word = self.as_ptr().cast::<u32>();
            let old = u32::from_le(word.read());
            word.write(((old & 0xff00_0000) | (access & 0xff_ffff)).to_le());
        }
    }
    #[inline]
    pub fn expire_at(self) -> Option<i64> {
        if self.form() & EXPIRY == 0 {
            return None;
        }
        // SAFETY: the form says that the 8 bytes after the header hold the expiry.
        Some(i64::from_le(unsafe {
            self.as_ptr().add(8).cast::<i64>().read()
        }))
    }
    /// Overwrites the expiry of an entry that has one.
    pub fn overwrite_expiry(self, at: i64) {
        assert!(
            self.form() & EXPIRY != 0,
            "the entry has no room for an expiry"
        );
        // SAFETY: checked above.
        unsafe { self.as_ptr().add(8).cast::<i64>().write(at.to_le()) }
    }
    pub fn in_wheel(self) -> bool {
        self.form() & IN_WHEEL != 0
    }
    pub fn set_in_wheel(self, on: bool) {
        self.set_byte(
            4,
            if on {
                self.form() | IN_WHEEL
            } else {
                self.form() & !IN_WHEEL
            },
        );
    }
    /// See [`super::cut`].
    #[inline]
    pub fn epoch(self) -> u8 {
        self.form() & EPOCH
    }
    pub fn set_epoch(self, epoch: u8) {
        self.set_byte(4, self.form() & !EPOCH | epoch);
    }
    #[inline]
    fn key_len(self) -> usize {
        if self.form() & LONG_KEY == 0 {
            return self.byte(5) as usize;
        }
        let at = if self.form() & EXPIRY != 0 { 16 } else { 8 };
        // SAFETY: the form says that the length is there.
        u32::from_le(unsafe { self.as_ptr().add(at).cast::<u32>().read_unaligned() }) as usize
    }
    #[inline]
    fn inline_len(self) -> usize {
        u16::from_le_bytes([self.byte(6), self.byte(7)]) as usize
    }
    #[inline]
    fn layout(self) -> Layout {
        let value_len = match self.form() & FORM {
            INLINE => self.inline_len(),
            VECTOR => 24,
            _ => 8,
        };
        layout(self.form() & EXPIRY != 0, self.key_len(), value_len)
    }
    /// The bytes of the block, as the heap rounds them up.
    pub fn block_size(self) -> usize {
        block_size(self.layout().size)
    }
    #[inline]
    pub fn key<'a>(self) -> &'a [u8] {
        let layout = self.layout();
        // SAFETY: the key's bytes are initialised when the entry is created and never written again. The lifetime is
        // the keyspace borrow under which the entry was handed out; callers in this module's parent tie it down.
        unsafe { std::slice::from_raw_parts(self.as_ptr().add(layout.key_at), self.key_len()) }
    }
    #[inline]
    pub fn is_object(self) -> bool {
        self.form() & FORM == OBJECT
    }
    #[inline]
    pub fn is_inline(self) -> bool {
        self.form() & FORM == INLINE
    }

    fn value_ptr(self) -> *mut u8 {
        // SAFETY: inside the block.
        unsafe { self.as_ptr().add(self.layout().value_at) }
    }
    fn vector_parts(self) -> [usize; 3] {
        debug_assert_eq!(self.form() & FORM, VECTOR);
        // SAFETY: a VECTOR entry holds three words there, unaligned.
        unsafe { self.value_ptr().cast::<[usize; 3]>().read_unaligned() }
    }

    /// The value's bytes, of a string or a packed collection.
    #[inline]
    pub fn bytes<'a>(self) -> &'a [u8] {
        match self.form() & FORM {
            // SAFETY: `vlen` initialised bytes follow the key.
            INLINE => unsafe { std::slice::from_raw_parts(self.value_ptr(), self.inline_len()) },
            VECTOR => {
                let [data, len, _] = self.vector_parts();
                // SAFETY: the words are those of a vector that the entry owns.
                unsafe { std::slice::from_raw_parts(data as *const u8, len) }
            }
            _ => panic!(
                "an entry of type {:?} holds an object, not bytes",
                self.kind()
            ),
        }
    }
    /// The value's bytes for writing in place.
    ///
    /// # Safety
    /// The caller holds the keyspace mutably for `'a`, and no other reference into this value is alive.
    #[inline]
    pub unsafe fn bytes_mut<'a>(self) -> &'a mut [u8] {
        let bytes = self.bytes::<'a>();
        // SAFETY: the caller's promise makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_ptr().cast_mut(), bytes.len()) }
    }
    #[inline]
    pub fn object<'a>(self) -> &'a Object {
        assert!(
            self.is_object(),
            "an entry of type {:?} holds bytes, not an object",
            self.kind()
        );
        // SAFETY: an OBJECT entry holds the pointer of a box that it owns.
        unsafe { &*(self.value_ptr().cast::<*mut Object>().read_unaligned()) }
    }
    /// # Safety
    /// The caller holds the keyspace mutably for `'a`, and no other reference into this value is alive.
    #[inline]
    pub unsafe fn object_mut<'a>(self) -> &'a mut Object {
        assert!(
            self.is_object(),
            "an entry of type {:?} holds bytes, not an object",
            self.kind()
        );
        // SAFETY: as in `object`; the caller's promise makes this the only reference.
        unsafe { &mut *(self.value_ptr().cast::<*mut Object>().read_unaligned()) }
    }

    /// Takes the vector out for a change; [`Entry::put_vector`] must follow.
    fn take_vector(self) -> Vec<u8> {
        let [data, len, capacity] = self.vector_parts();
        // SAFETY: the words came from a vector's parts in `put_vector`; ownership passes to the caller, who puts a
        // vector back or frees the entry without touching the value.
        unsafe { Vec::from_raw_parts(data as *mut u8, len, capacity) }
    }
    fn put_vector(self, bytes: Vec<u8>) {
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        let parts = [bytes.as_mut_ptr() as usize, bytes.len(), bytes.capacity()];
        // SAFETY: a VECTOR entry has 24 bytes there.
        unsafe { self.value_ptr().cast::<[usize; 3]>().write_unaligned(parts) }
    }
    /// Changes the bytes of a value that is held as a vector.
    pub fn with_vector<R>(self, change: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let mut bytes = self.take_vector();
        let result = change(&mut bytes);
        self.put_vector(bytes);
        result
    }

    fn allocate(heap: &mut Heap, header: &Header, key: &[u8], form: u8, value_len: usize) -> Self {
        let layout = layout(header.expire_at.is_some(), key.len(), value_len);
        let entry = Self(heap.alloc(layout.size));
        let long = key.len() >= 255;
        let form =
            form | if header.expire_at.is_some() {
                EXPIRY
            } else {
                0
            } | if long { LONG_KEY } else { 0 }
                | heap.epoch;
        let kind = (header.kind as u8) << 4 | header.encoding as u8;
        let vlen = if form & FORM == INLINE {
            value_len as u16
        } else {
            0
        };
        let word = (header.access & 0xff_ffff) as u64
            | (kind as u64) << 24
            | (form as u64) << 32
            | (if long { 255 } else { key.len() as u64 }) << 40
            | (vlen as u64) << 48;
        // SAFETY: the block has `layout.size` bytes, and all writes below lie within the parts that `layout` counts.
        unsafe {
            let p = entry.as_ptr();
            p.cast::<u64>().write(word.to_le());
            let mut at = 8;
            if let Some(expire_at) = header.expire_at {
                p.add(at).cast::<i64>().write(expire_at.to_le());
                at += 8;
            }
            if long {
                p.add(at)
                    .cast::<u32>()
                    .write_unaligned((key.len() as u32).to_le());
            }
            p.add(layout.key_at)
                .copy_from_nonoverlapping(key.as_ptr(), key.len());
        }
        entry
    }

    /// A new entry whose value is the concatenation of `parts`.
    pub fn with_bytes(heap: &mut Heap, header: &Header, key: &[u8], parts: &[&[u8]]) -> Self {
        let len: usize = parts.iter().map(|p| p.len()).sum();
        if len > INLINE_MAX {
            return Self::with_vector_value(heap, header, key, parts.concat());
        }
        let entry = Self::allocate(heap, header, key, INLINE, len);
        let mut at = entry.value_ptr();
        for part in parts {
            // SAFETY: the block has room for `len` value bytes.
            unsafe {
                at.copy_from_nonoverlapping(part.as_ptr(), part.len());
                at = at.add(part.len());
            }
        }
        entry
    }
    pub fn with_vector_value(heap: &mut Heap, header: &Header, key: &[u8], bytes: Vec<u8>) -> Self {
        if bytes.len() <= INLINE_MAX {
            return Self::with_bytes(heap, header, key, &[&bytes]);
        }
        let entry = Self::allocate(heap, header, key, VECTOR, 24);
        entry.put_vector(bytes);
        entry
    }
    pub fn with_object(heap: &mut Heap, header: &Header, key: &[u8], object: Box<Object>) -> Self {
        let entry = Self::allocate(heap, header, key, OBJECT, 8);
        // SAFETY: an OBJECT entry has 8 bytes there.
        unsafe {
            entry
                .value_ptr()
                .cast::<*mut Object>()
                .write_unaligned(Box::into_raw(object))
        };
        entry
    }
    pub fn from_parts(heap: &mut Heap, key: &[u8], parts: Parts) -> Self {
        let Parts {
            kind,
            encoding,
            access,
            expire_at,
            value,
        } = parts;
        let header = Header {
            kind,
            encoding,
            access,
            expire_at,
        };
        match value {
            Value::Bytes(bytes) => Self::with_vector_value(heap, &header, key, bytes),
            Value::Object(object) => Self::with_object(heap, &header, key, object),
        }
    }

    /// Overwrites an inline value by one that fits the same block. False, and nothing done, when it does not.
    #[inline]
    pub fn overwrite_inline(self, kind: Type, encoding: Encoding, value: &[u8]) -> bool {
        if self.form() & FORM != INLINE || value.len() > INLINE_MAX {
            return false;
        }
        let layout = self.layout();
        if block_size(layout.value_at + value.len()) != block_size(layout.size) {
            return false;
        }
        self.set_encoding(kind, encoding);
        let len = (value.len() as u16).to_le_bytes();
        self.set_byte(6, len[0]);
        self.set_byte(7, len[1]);
        // SAFETY: the block is large enough, as compared above.
        unsafe {
            self.as_ptr()
                .add(layout.value_at)
                .copy_from_nonoverlapping(value.as_ptr(), value.len())
        };
        true
    }

    /// Overwrites a vector by a value that belongs in one, in the same memory if that fits without much waste. False, and
    /// nothing done, when the value is held otherwise or belongs inline.
    pub fn overwrite_vector(self, kind: Type, encoding: Encoding, value: &[u8]) -> bool {
        if self.form() & FORM != VECTOR || value.len() <= INLINE_MAX {
            return false;
        }
        self.set_encoding(kind, encoding);
        self.with_vector(|bytes| {
            let room = bytes.capacity();
            if (value.len()..=value.len() + value.len() / 4).contains(&room) {
                bytes.clear();
                bytes.extend_from_slice(value);
            } else {
                *bytes = value.to_vec();
            }
        });
        true
    }

    /// Replaces `delete` bytes at `at` of an inline value by `insert`, if the result fits the same block. False, and nothing
    /// done, when it does not.
    pub fn splice_inline(self, at: usize, delete: usize, insert: &[u8]) -> bool {
        if self.form() & FORM != INLINE {
            return false;
        }
        let layout = self.layout();
        let old_len = layout.size - layout.value_at;
        assert!(at + delete <= old_len, "a splice outside the value");
        let len = old_len - delete + insert.len();
        if len > INLINE_MAX || block_size(layout.value_at + len) != block_size(layout.size) {
            return false;
        }
        // SAFETY: the block has room for `value_at + len` bytes, as compared above; the tail moves within the old and the
        // new length, and `insert` is no part of this block, which nobody else may borrow during a change.
        unsafe {
            let value = self.as_ptr().add(layout.value_at);
            let tail = value.add(at + delete);
            tail.copy_to(value.add(at + insert.len()), old_len - at - delete);
            value
                .add(at)
                .copy_from_nonoverlapping(insert.as_ptr(), insert.len());
        }
        let len = (len as u16).to_le_bytes();
        self.set_byte(6, len[0]);
        self.set_byte(7, len[1]);
        true
    }

    /// The same entry with or without room for an expiry, in a new block; the old block is freed.
    ///
    /// # Safety
    /// No other copy of this `Entry` is used afterwards: the caller replaces the table's word.
    pub unsafe fn with_expiry(self, heap: &mut Heap, expire_at: Option<i64>) -> Self {
        let header = Header {
            kind: self.kind(),
            encoding: self.encoding(),
            access: self.access(),
            expire_at,
        };
        let new = match self.form() & FORM {
            INLINE => Self::with_bytes(heap, &header, self.key(), &[self.bytes()]),
            VECTOR => {
                let new = Self::allocate(heap, &header, self.key(), VECTOR, 24);
                new.put_vector(self.take_vector());
                new
            }
            _ => {
                let new = Self::allocate(heap, &header, self.key(), OBJECT, 8);
                // SAFETY: the box's pointer moves from one entry to the other.
                unsafe {
                    let object = self.value_ptr().cast::<*mut Object>().read_unaligned();
                    new.value_ptr()
                        .cast::<*mut Object>()
                        .write_unaligned(object);
                }
                new
            }
        };
        new.set_in_wheel(self.in_wheel());
        // SAFETY: the value has moved; only the block is left.
        unsafe { self.free_block(heap) };
        new
    }

    /// Frees the block alone.
    ///
    /// # Safety
    /// The value was moved out, or lies inside the block; the entry is not used afterwards.
    unsafe fn free_block(self, heap: &mut Heap) {
        // SAFETY: every entry's block came from the core's heap with this size.
        unsafe { heap.free(self.0, self.layout().size) }
    }

    /// Takes the value out and frees the block.
    ///
    /// # Safety
    /// No copy of this `Entry` is used afterwards: the caller has removed the table's word.
    pub unsafe fn into_parts(self, heap: &mut Heap) -> Parts {
        let value = match self.form() & FORM {
            INLINE => Value::Bytes(self.bytes().to_vec()),
            VECTOR => Value::Bytes(self.take_vector()),
            // SAFETY: the entry owns the box; its block is freed below and the pointer is not read again.
            _ => Value::Object(unsafe {
                Box::from_raw(self.value_ptr().cast::<*mut Object>().read_unaligned())
            }),
        };
        let parts = Parts {
            kind: self.kind(),
            encoding: self.encoding(),
            access: self.access(),
            expire_at: self.expire_at(),
            value,
        };
        // SAFETY: the value has been moved or copied out.
        unsafe { self.free_block(heap) };
        parts
    }

    /// Frees the entry; the value of one that holds an object comes back, since freeing that may take long.
    ///
    /// # Safety
    /// As for [`Entry::into_parts`].
    #[inline]
    pub unsafe fn free(self, heap: &mut Heap) -> Option<Box<Object>> {
        if self.form() & FORM == INLINE {
            // SAFETY: the value lies inside the block.
            unsafe { self.free_block(heap) };
            return None;
        }
        // SAFETY: the caller's promise.
        match unsafe { self.into_parts(heap) }.value {
            Value::Object(object) => Some(object),
            Value::Bytes(_) => None,
        }
    }

    /// Bytes that the value takes outside the block.
    pub fn outside(self) -> usize {
        match self.form() & FORM {
            INLINE => 0,
            VECTOR => crate::memory::block_of(self.vector_parts()[2]),
            _ => self.object().memory(),
        }
    }
}
