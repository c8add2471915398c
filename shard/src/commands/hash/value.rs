//! A hash in either of its encodings: a listpack of fields and values in turn, or a table of packed entries.

use crate::collections::listpack::{self, Item};
use crate::collections::packed_table::{Fields, PackedTable, Put};
use crate::keyspace::{EntryMut, EntryRef, Key};
use crate::object::{Body, Encoding, Object, Type};
use crate::shard::{Settings, Shard, notify};
use ringwood_protocol::error::CommandError;

pub type Table = PackedTable<Fields>;

impl Body for Table {
    fn memory(&self) -> usize {
        self.memory()
    }
    fn free_effort(&self) -> usize {
        self.free_effort()
    }
    fn free_some(&mut self, budget: usize) -> usize {
        self.free_some(budget)
    }
    fn duplicate(&self) -> Self {
        self.duplicate()
    }
}

/// A hash for reading.
#[derive(Clone, Copy)]
pub enum View<'a> {
    Packed(&'a [u8]),
    Table(&'a Table),
}

impl<'a> View<'a> {
    pub fn of(entry: EntryRef<'a>) -> Self {
        if !entry.is_object() {
            return Self::Packed(entry.bytes());
        }
        match entry.object() {
            Object::Hash(table) => Self::Table(table),
            other => unreachable!("a hash holds {other:?}"),
        }
    }
    pub fn len(self) -> usize {
        match self {
            Self::Packed(lp) => listpack::len(lp) / 2,
            Self::Table(table) => table.len(),
        }
    }
    #[inline]
    pub fn get(self, field: &[u8]) -> Option<Item<'a>> {
        match self {
            Self::Packed(lp) => {
                let at = find(lp, field)?;
                Some(listpack::get(lp, listpack::next(lp, at)?))
            }
            Self::Table(table) => table.get(field).map(Item::Bytes),
        }
    }
    /// Every field with its value.
    pub fn each(self, mut f: impl FnMut(Item<'a>, Item<'a>)) {
        match self {
            Self::Packed(lp) => {
                let mut items = listpack::iter(lp);
                while let (Some((_, field)), Some((_, value))) = (items.next(), items.next()) {
                    f(field, value);
                }
            }
            Self::Table(table) => {
                table.each(|item| f(Item::Bytes(item.key), Item::Bytes(item.value)))
            }
        }
    }
}

#[inline]
fn find(lp: &[u8], field: &[u8]) -> Option<usize> {
    listpack::find(lp, listpack::HEADER, field, 1)
}

/// The hash at a key for reading; an error for another type.
#[inline]
pub fn view<'a>(
    shard: &'a mut Shard,
    db: usize,
    key: Key<'_>,
) -> Result<Option<View<'a>>, CommandError> {
    match shard.read(db, key) {
        Some(entry) if entry.kind() != Type::Hash => Err(CommandError::WrongType),
        found => Ok(found.map(View::of)),
    }
}

/// The hash at a key for changing; an error for another type.
#[inline]
pub fn open<'a>(
    shard: &'a mut Shard,
    db: usize,
    key: Key<'_>,
) -> Result<Option<EntryMut<'a>>, CommandError> {
    match shard.write(db, key) {
        Some(entry) if entry.kind() != Type::Hash => Err(CommandError::WrongType),
        found => Ok(found),
    }
}

/// As [`open`], making an empty hash of a missing key: the caller puts something in.
pub fn open_or_make<'a>(
    shard: &'a mut Shard,
    db: usize,
    key: Key<'_>,
) -> Result<EntryMut<'a>, CommandError> {
    if open(shard, db, key)?.is_none() {
        let empty = [listpack::EMPTY];
        return Ok(shard.insert_bytes(db, key, Type::Hash, Encoding::Listpack, &empty));
    }
    Ok(open(shard, db, key)?.expect("looked up just now"))
}

/// Until when a hash stays packed.
#[derive(Clone, Copy)]
pub struct Limits {
    pub entries: usize,
    pub value: usize,
}

impl Limits {
    pub fn of(settings: &Settings) -> Self {
        Self {
            entries: settings.hash_listpack_entries_max,
            value: settings.hash_listpack_value_max,
        }
    }
}

fn table_of<'a>(entry: &'a mut EntryMut<'_>) -> &'a mut Table {
    match entry.object_mut() {
        Object::Hash(table) => table,
        other => unreachable!("a hash holds {other:?}"),
    }
}

/// Makes a table of a packed hash.
pub fn unpack(entry: &mut EntryMut<'_>, hasher: &crate::keyspace::KeyHasher) {
    if entry.is_object() {
        return;
    }
    let mut table = Table::new(hasher.clone());
    View::of(entry.get()).each(|field, value| {
        field.with_text(|field| value.with_text(|value| table.put(field, value, None)));
    });
    let object = Box::new(Object::Hash(table));
    entry.set_object(Type::Hash, Encoding::Hashtable, object);
}

/// Sets a field. True if it is new.
#[inline]
pub fn put(
    entry: &mut EntryMut<'_>,
    hasher: &crate::keyspace::KeyHasher,
    limits: Limits,
    field: &[u8],
    value: &[u8],
) -> bool {
    if !entry.is_object() {
        if field.len() <= limits.value && value.len() <= limits.value {
            let lp = entry.bytes();
            let at = find(lp, field).and_then(|at| listpack::next(lp, at));
            if let Some(at) = at {
                listpack::replace(entry, at, value);
                return false;
            }
            let end = listpack::end(lp);
            listpack::insert_all(entry, end, [Item::Bytes(field), Item::Bytes(value)]);
            if listpack::len(entry.bytes()) / 2 > limits.entries {
                unpack(entry, hasher);
            }
            return true;
        }
        unpack(entry, hasher);
    }
    table_of(entry).put(field, value, None) == Put::New
}

/// Removes a field. False if there is none. The hash may be empty then.
pub fn remove(entry: &mut EntryMut<'_>, field: &[u8]) -> bool {
    if entry.is_object() {
        return table_of(entry).remove(field);
    }
    match find(entry.bytes(), field) {
        Some(at) => {
            listpack::delete(entry, at, 2);
            true
        }
        None => false,
    }
}

/// The event classes of hashes.
pub const CLASS: u32 = notify::HASH;
