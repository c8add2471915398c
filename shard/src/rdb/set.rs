//! Sets. Packed ones are written member by member: Redis 7.0 has no packed sets but those of integers.

use super::reader::Reader;
use super::value::{Cursor, Decoded};
use super::writer::Writer;
use super::{Error, Result, Rules, kind, packed};
use crate::collections::packed_table::{Members, PackedTable};
use crate::collections::{intset, listpack};
use crate::commands::set::members::{self, Home, Owned, SetView};
use crate::keyspace::EntryRef;
use crate::object::{Encoding, Type};

/// Elements that are written between looks at how many bytes that made.
pub const SCAN: usize = 32;

pub fn read(of: u8, reader: &mut Reader<'_>, rules: &Rules<'_>) -> Result<Decoded> {
    let limits = members::Rules::new(rules.settings, rules.hasher.clone());
    let set = match of {
        kind::SET => plain(reader, &limits)?,
        kind::SET_INTSET => {
            let bytes = reader.string()?;
            if !intset::validate(&bytes) {
                return Err(Error::Corrupt("a broken intset"));
            }
            let count = intset::len(&bytes);
            if count == 0 {
                return Err(Error::Empty);
            }
            let mut set = Owned::Packed(Encoding::Intset, bytes.into_owned());
            members::expect(&mut set, count, &limits);
            set
        }
        _ => {
            let bytes = reader.string()?;
            let count = packed::check(&bytes, 1, rules.hasher)?;
            let mut set = Owned::Packed(Encoding::Listpack, bytes.into_owned());
            members::expect(&mut set, count, &limits);
            set
        }
    };
    let encoding = set.encoding();
    Ok(Decoded {
        kind: Type::Set,
        encoding,
        value: set.into_value(),
    })
}

fn plain(reader: &mut Reader<'_>, limits: &members::Rules) -> Result<Owned> {
    let count = reader.length()?;
    if count == 0 {
        return Err(Error::Empty);
    }
    let mut set = Owned::intset();
    // The number is only a hint here: a large set begins as a table.
    members::expect(
        &mut set,
        usize::try_from(count).unwrap_or(usize::MAX),
        limits,
    );
    for _ in 0..count {
        if !members::add(&mut set, &reader.string()?, limits) {
            return Err(Error::Corrupt("a set has a member twice"));
        }
    }
    Ok(set)
}

pub fn skip(of: u8, reader: &mut Reader<'_>) -> Result<()> {
    let count = if of == kind::SET { reader.length()? } else { 1 };
    (0..count).try_for_each(|_| reader.skip_string())
}

pub fn kind_of(entry: EntryRef<'_>) -> u8 {
    match entry.encoding() {
        Encoding::Intset => kind::SET_INTSET,
        _ => kind::SET,
    }
}

pub fn write(w: &mut Writer, entry: EntryRef<'_>) {
    match SetView::of(entry) {
        SetView::Intset(bytes) => w.block(bytes),
        SetView::Listpack(lp) => {
            w.count(listpack::len(lp));
            for (_, item) in listpack::iter(lp) {
                w.item(item);
            }
        }
        SetView::Table(_) => unreachable!("an object is written in parts"),
    }
}

/// See [`super::list::write_part`].
pub fn write_part(
    w: &mut Writer,
    table: &PackedTable<Members>,
    cursor: &mut Cursor,
    end: usize,
) -> bool {
    if !std::mem::replace(&mut cursor.begun, true) {
        w.count(table.len());
    }
    loop {
        cursor.at = table.scan(cursor.at, SCAN, |item| w.string(item.key));
        if cursor.at == 0 || w.work() >= end {
            return cursor.at == 0;
        }
    }
}
