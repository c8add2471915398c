//! Hashes. Those with fields that expire have forms of their own, which Redis (since 7.4) and Valkey (since 9.0) made differently:
//! ```text
//! Redis, packed:  first time, 8 bytes │ listpack of field, value, time; in the order of times, 0 for none, those last
//! Redis, large:   first time, 8 bytes │ n │ (0, or time - first time + 1 │ field │ value)…
//! Valkey:         n │ (field │ value │ time or -1, 8 bytes)…
//! ```
//! Before their release Redis's two had no first time, and the second plain times. Where no field expires the older forms are written.

use super::reader::Reader;
use super::set::SCAN;
use super::value::{Cursor, Decoded};
use super::writer::Writer;
use super::{Dialect, Error, Result, Rules, kind, packed, ziplist, zipmap};
use crate::collections::field_table::FieldTable;
use crate::collections::listpack::{self, Item};
use crate::collections::timed_listpack;
use crate::keyspace::entry::Value;
use crate::keyspace::{EntryRef, KeyHasher};
use crate::object::{Encoding, Object, Type};

/// No field expires later; Redis keeps times in 48 bits.
const TIME_MAX: u64 = (1 << 48) - 1;

/// A hash that is read field by field.
struct Builder<'a> {
    packed: Vec<u8>,
    /// While the table is not made yet, the fields' times.
    times: Vec<Option<i64>>,
    table: Option<FieldTable>,
    entries_max: usize,
    value_max: usize,
    hasher: &'a KeyHasher,
    /// Whether it is of a form with times, even if no field has one.
    timed: bool,
}

impl<'a> Builder<'a> {
    fn new(rules: &Rules<'a>, timed: bool) -> Self {
        Self {
            packed: listpack::EMPTY.to_vec(),
            times: Vec::new(),
            table: None,
            entries_max: rules.settings.hash_listpack_entries_max,
            value_max: rules.settings.hash_listpack_value_max,
            hasher: rules.hasher,
            timed,
        }
    }

    fn add(&mut self, field: Item<'_>, value: Item<'_>, expire_at: Option<i64>) -> Result<()> {
        if self.table.is_none() {
            let bytes = field.len() + value.len();
            if self.times.len() < self.entries_max
                && field.len().max(value.len()) <= self.value_max
                && listpack::has_room(&self.packed, bytes + 32)
            {
                listpack::push_items(&mut self.packed, [field, value]);
                self.times.push(expire_at);
                return Ok(());
            }
            let pairs = pairs(&self.packed).zip(&self.times);
            let triples = pairs.map(|((field, value), time)| (field, value, *time));
            self.table = Some(table_of(triples, self.hasher)?);
        }
        match &mut self.table {
            Some(table) => put(table, field, value, expire_at),
            None => Ok(()),
        }
    }

    fn finish(self) -> Result<Decoded> {
        if let Some(table) = self.table {
            return Ok(large(table));
        }
        packed::check(&self.packed, 2, self.hasher)?;
        if !self.timed {
            return Ok(small(Encoding::Listpack, self.packed));
        }
        let mut triples: Vec<_> = pairs(&self.packed).zip(self.times).collect();
        triples.sort_by_key(|(_, time)| time.unwrap_or(i64::MAX));
        let mut lp = Vec::with_capacity(self.packed.len() * 3 / 2);
        lp.extend_from_slice(listpack::EMPTY);
        for ((field, value), time) in triples {
            listpack::push_items(&mut lp, [field, value, Item::Int(time.unwrap_or(0))]);
        }
        Ok(small(Encoding::ListpackEx, lp))
    }
}

fn pairs(lp: &[u8]) -> impl Iterator<Item = (Item<'_>, Item<'_>)> {
    let mut items = listpack::iter(lp).map(|(_, item)| item);
    std::iter::from_fn(move || Some((items.next()?, items.next()?)))
}

fn put(
    table: &mut FieldTable,
    field: Item<'_>,
    value: Item<'_>,
    expire_at: Option<i64>,
) -> Result<()> {
    let is_new =
        field.with_text(|field| value.with_text(|value| table.put(field, value, expire_at)));
    if is_new {
        Ok(())
    } else {
        Err(Error::Corrupt("a hash has a field twice"))
    }
}

fn table_of<'i>(
    fields: impl Iterator<Item = (Item<'i>, Item<'i>, Option<i64>)>,
    hasher: &KeyHasher,
) -> Result<FieldTable> {
    let mut table = FieldTable::new(hasher.clone());
    for (field, value, expire_at) in fields {
        put(&mut table, field, value, expire_at)?;
    }
    Ok(table)
}

fn small(encoding: Encoding, lp: Vec<u8>) -> Decoded {
    Decoded {
        kind: Type::Hash,
        encoding,
        value: Value::Bytes(lp),
    }
}
fn large(table: FieldTable) -> Decoded {
    Decoded {
        kind: Type::Hash,
        encoding: Encoding::Hashtable,
        value: Value::Object(Box::new(Object::Hash(table))),
    }
}

pub fn read(of: u8, reader: &mut Reader<'_>, rules: &Rules<'_>) -> Result<Decoded> {
    match (of, rules.dialect) {
        (kind::HASH_LISTPACK, _) => return packed_pairs(reader, rules),
        (kind::HASH_LISTPACK_TIMED, _) => {
            reader.ms()?;
            return packed_triples(reader, rules);
        }
        (kind::HASH_LISTPACK_TIMED_OLD, _) => return packed_triples(reader, rules),
        _ => {}
    }
    let timed = of >= kind::VALKEY_HASH_TIMED;
    let mut hash = Builder::new(rules, timed);
    let mut count = 0;
    match (of, rules.dialect) {
        (kind::HASH_ZIPMAP, _) => {
            for [field, value] in zipmap::texts(&reader.string()?)?.as_chunks().0 {
                hash.add(Item::Bytes(field), Item::Bytes(value), None)?;
                count += 1;
            }
        }
        (kind::HASH_ZIPLIST, _) => {
            let zl = reader.string()?;
            let items = ziplist::items(&zl)?;
            let (pairs, rest) = items.as_chunks();
            if !rest.is_empty() {
                return Err(Error::Corrupt("a hash's ziplist with half a pair"));
            }
            for &[field, value] in pairs {
                hash.add(field, value, None)?;
                count += 1;
            }
        }
        (kind::VALKEY_HASH_TIMED, Dialect::Valkey) => {
            count = reader.length()?;
            for _ in 0..count {
                let field = reader.string()?;
                let value = reader.string()?;
                let time = u64::try_from(reader.ms()?).ok();
                let time = time.map(|time| time.min(TIME_MAX) as i64);
                hash.add(Item::Bytes(&field), Item::Bytes(&value), time)?;
            }
        }
        (kind::HASH_TIMED | kind::HASH_TIMED_OLD, _) => {
            let first = if of == kind::HASH_TIMED {
                reader.u64_le()?
            } else {
                1
            };
            count = reader.length()?;
            for _ in 0..count {
                let time = match reader.length()? {
                    0 => None,
                    n => Some(time(first.checked_add(n - 1))?),
                };
                let field = reader.string()?;
                let value = reader.string()?;
                hash.add(Item::Bytes(&field), Item::Bytes(&value), time)?;
            }
        }
        _ => {
            count = reader.length()?;
            for _ in 0..count {
                let field = reader.string()?;
                let value = reader.string()?;
                hash.add(Item::Bytes(&field), Item::Bytes(&value), None)?;
            }
        }
    }
    if count == 0 {
        return Err(Error::Empty);
    }
    hash.finish()
}

/// A field's time, which is none of the far future.
fn time(n: Option<u64>) -> Result<i64> {
    match n {
        Some(n) if n <= TIME_MAX => Ok(n as i64),
        _ => Err(Error::Corrupt("a hash's field has an impossible time")),
    }
}

fn packed_pairs(reader: &mut Reader<'_>, rules: &Rules<'_>) -> Result<Decoded> {
    let lp = reader.string()?;
    let count = packed::check(&lp, 2, rules.hasher)?;
    if count <= rules.settings.hash_listpack_entries_max {
        return Ok(small(Encoding::Listpack, lp.into_owned()));
    }
    let triples = pairs(&lp).map(|(field, value)| (field, value, None));
    Ok(large(table_of(triples, rules.hasher)?))
}

fn packed_triples(reader: &mut Reader<'_>, rules: &Rules<'_>) -> Result<Decoded> {
    let lp = reader.string()?;
    let count = packed::check(&lp, 3, rules.hasher)?;
    let mut before = 0;
    for (_, item) in listpack::iter(&lp).skip(2).step_by(3) {
        let Item::Int(n) = item else {
            return Err(Error::Corrupt("a hash's field has an impossible time"));
        };
        let time = time(u64::try_from(n).ok())?;
        let place = if time == 0 { i64::MAX } else { time };
        if place < before {
            return Err(Error::Corrupt("a hash's fields out of their times' order"));
        }
        before = place;
    }
    if count <= rules.settings.hash_listpack_entries_max {
        return Ok(small(Encoding::ListpackEx, lp.into_owned()));
    }
    let triples = timed_listpack::iter_from(&lp, listpack::HEADER);
    let triples = triples.map(|t| (t.field, t.value, t.expire_at));
    Ok(large(table_of(triples, rules.hasher)?))
}

pub fn skip(of: u8, reader: &mut Reader<'_>, dialect: Dialect) -> Result<()> {
    match of {
        kind::HASH | kind::VALKEY_HASH_TIMED | kind::HASH_TIMED => {
            let valkey = of == kind::VALKEY_HASH_TIMED && dialect == Dialect::Valkey;
            let before = of != kind::HASH && !valkey;
            if of == kind::HASH_TIMED {
                reader.take(8)?;
            }
            for _ in 0..reader.length()? {
                if before {
                    reader.length()?;
                }
                reader.skip_string()?;
                reader.skip_string()?;
                if valkey {
                    reader.take(8)?;
                }
            }
            Ok(())
        }
        kind::HASH_LISTPACK_TIMED => {
            reader.take(8)?;
            reader.skip_string()
        }
        _ => reader.skip_string(),
    }
}

/// A hash as it lies in its entry.
enum Form<'a> {
    Pairs(&'a [u8]),
    Triples(&'a [u8]),
    Table,
}

fn form(entry: EntryRef<'_>) -> Form<'_> {
    match entry.encoding() {
        Encoding::Listpack => Form::Pairs(entry.bytes()),
        Encoding::ListpackEx => Form::Triples(entry.bytes()),
        _ => Form::Table,
    }
}

pub fn kind_of(entry: EntryRef<'_>) -> u8 {
    let timed = entry.earliest_field().is_some();
    match form(entry) {
        Form::Pairs(_) => kind::HASH_LISTPACK,
        Form::Triples(_) if timed => kind::HASH_LISTPACK_TIMED,
        Form::Table if timed => kind::HASH_TIMED,
        Form::Triples(_) | Form::Table => kind::HASH,
    }
}

pub fn write(w: &mut Writer, entry: EntryRef<'_>) {
    let first = entry.earliest_field();
    match form(entry) {
        Form::Pairs(lp) => w.block(lp),
        Form::Triples(lp) => match first {
            Some(first) => {
                w.ms(first);
                w.block(lp);
            }
            None => {
                w.count(timed_listpack::len(lp));
                for triple in timed_listpack::iter_from(lp, listpack::HEADER) {
                    w.item(triple.field);
                    w.item(triple.value);
                }
            }
        },
        Form::Table => unreachable!("an object is written in parts"),
    }
}

/// See [`super::list::write_part`].
pub fn write_part(w: &mut Writer, table: &FieldTable, cursor: &mut Cursor, end: usize) -> bool {
    let first = table.earliest();
    if !std::mem::replace(&mut cursor.begun, true) {
        if let Some(first) = first {
            w.ms(first);
        }
        w.count(table.len());
    }
    loop {
        cursor.at = table.scan(cursor.at, SCAN, |item| {
            if let Some(first) = first {
                w.length(item.expire_at.map_or(0, |at| (at - first) as u64 + 1));
            }
            w.string(item.key);
            w.string(item.value);
        });
        if cursor.at == 0 || w.work() >= end {
            return cursor.at == 0;
        }
    }
}
