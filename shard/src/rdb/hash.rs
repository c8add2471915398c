//! Hashes without field expiry.

use super::reader::Reader;
use super::value::Decoded;
use super::writer::Writer;
use super::{Error, Result, Rules, kind, packed, ziplist, zipmap};
use crate::collections::listpack::{self, Item};
use crate::collections::packed_table::Put;
use crate::commands::hash::value::{Limits, Table, View};
use crate::keyspace::entry::Value;
use crate::keyspace::{EntryRef, KeyHasher};
use crate::object::{Encoding, Object, Type};

/// A hash that is read field by field.
enum Building {
    Packed(Vec<u8>),
    Table(Table),
}

struct Builder<'a> {
    hash: Building,
    limits: Limits,
    hasher: &'a KeyHasher,
    count: usize,
}

impl<'a> Builder<'a> {
    fn new(rules: &Rules<'a>) -> Self {
        Self {
            hash: Building::Packed(listpack::EMPTY.to_vec()),
            limits: Limits::of(rules.settings),
            hasher: rules.hasher,
            count: 0,
        }
    }

    fn add(&mut self, field: Item<'_>, value: Item<'_>) -> Result<()> {
        self.count += 1;
        if let Building::Packed(lp) = &mut self.hash {
            let bytes = field.len() + value.len();
            if self.count <= self.limits.entries
                && field.len().max(value.len()) <= self.limits.value
                && listpack::has_room(lp, bytes + 32)
            {
                listpack::push_items(lp, [field, value]);
                return Ok(());
            }
            self.hash = Building::Table(table_of(lp, self.hasher)?);
        }
        if let Building::Table(table) = &mut self.hash {
            put(table, field, value)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Decoded> {
        match self.hash {
            Building::Packed(lp) => {
                packed::check(&lp, 2, self.hasher)?;
                Ok(packed_hash(lp))
            }
            Building::Table(table) => Ok(large_hash(table)),
        }
    }
}

fn put(table: &mut Table, field: Item<'_>, value: Item<'_>) -> Result<()> {
    let put = field.with_text(|field| value.with_text(|value| table.put(field, value, None)));
    if put == Put::New {
        Ok(())
    } else {
        Err(Error::Corrupt("a hash has a field twice"))
    }
}

fn table_of(lp: &[u8], hasher: &KeyHasher) -> Result<Table> {
    let mut table = Table::new(hasher.clone());
    let mut items = listpack::iter(lp);
    while let (Some((_, field)), Some((_, value))) = (items.next(), items.next()) {
        put(&mut table, field, value)?;
    }
    Ok(table)
}

fn packed_hash(lp: Vec<u8>) -> Decoded {
    Decoded {
        kind: Type::Hash,
        encoding: Encoding::Listpack,
        value: Value::Bytes(lp),
    }
}
fn large_hash(table: Table) -> Decoded {
    Decoded {
        kind: Type::Hash,
        encoding: Encoding::Hashtable,
        value: Value::Object(Box::new(Object::Hash(table))),
    }
}

pub fn read(of: u8, reader: &mut Reader<'_>, rules: &Rules<'_>) -> Result<Decoded> {
    if of == kind::HASH_LISTPACK {
        let lp = reader.string()?;
        let count = packed::check(&lp, 2, rules.hasher)?;
        return Ok(if count > Limits::of(rules.settings).entries {
            large_hash(table_of(&lp, rules.hasher)?)
        } else {
            packed_hash(lp.into_owned())
        });
    }
    let mut hash = Builder::new(rules);
    match of {
        kind::HASH => {
            for _ in 0..reader.length()? {
                let field = reader.string()?;
                let value = reader.string()?;
                hash.add(Item::Bytes(&field), Item::Bytes(&value))?;
            }
        }
        kind::HASH_ZIPMAP => {
            for pair in zipmap::texts(&reader.string()?)?.as_chunks().0 {
                let [field, value] = *pair;
                hash.add(Item::Bytes(field), Item::Bytes(value))?;
            }
        }
        _ => {
            let zl = reader.string()?;
            let items = ziplist::items(&zl)?;
            let (pairs, rest) = items.as_chunks();
            if !rest.is_empty() {
                return Err(Error::Corrupt("a hash's ziplist with half a pair"));
            }
            for &[field, value] in pairs {
                hash.add(field, value)?;
            }
        }
    }
    if hash.count == 0 {
        return Err(Error::Empty);
    }
    hash.finish()
}

pub fn skip(of: u8, reader: &mut Reader<'_>) -> Result<()> {
    let count = if of == kind::HASH {
        reader.length()?
    } else {
        0
    };
    if of != kind::HASH {
        return reader.skip_string();
    }
    (0..count).try_for_each(|_| reader.skip_string().and_then(|()| reader.skip_string()))
}

pub fn kind_of(entry: EntryRef<'_>) -> u8 {
    match View::of(entry) {
        View::Packed(_) => kind::HASH_LISTPACK,
        View::Table(_) => kind::HASH,
    }
}

pub fn write(w: &mut Writer<'_>, entry: EntryRef<'_>) {
    match View::of(entry) {
        View::Packed(lp) => w.block(lp),
        View::Table(table) => {
            w.count(table.len());
            table.each(|item| {
                w.string(item.key);
                w.string(item.value);
            });
        }
    }
}
