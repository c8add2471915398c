//! An entry open for reading or for change.

use super::entry::{self, Entry, Header, Parts, Value};
use super::heap::Heap;
use super::{Cell, Keyspace};
use crate::collections::timed_listpack;
use crate::object::{Encoding, Object, Type};

/// A look at an entry.
#[derive(Clone, Copy)]
pub struct EntryRef<'a> {
    pub(super) entry: Entry,
    _keyspace: std::marker::PhantomData<&'a Keyspace>,
}

impl<'a> EntryRef<'a> {
    pub(super) fn new(entry: Entry) -> Self {
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
    /// The object, if the value is one, of which the CPU is asked for the part that a look-up reads first.
    #[inline]
    pub fn prefetch_object(&self) -> Option<&'a Object> {
        let object = self.is_object().then(|| self.object())?;
        super::table::prefetch(std::ptr::from_ref(object).cast());
        Some(object)
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
    pub(super) keyspace: &'a mut Keyspace,
    pub(super) db: usize,
    pub(super) cell: Cell,
    pub(super) slot: u16,
    pub(super) hash: u64,
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
                // The system's zeros, where there are many: nothing is written into the gap.
                let mut value = vec![0; end];
                value[..len].copy_from_slice(self.bytes());
                value[at..].copy_from_slice(bytes);
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
