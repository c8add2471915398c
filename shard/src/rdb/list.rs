//! Lists. Written as a quicklist's nodes, which we have too: a node is a listpack, or one long element by itself.

use super::reader::Reader;
use super::value::{Cursor, Decoded};
use super::writer::Writer;
use super::{Error, Result, Rules, kind, ziplist};
use crate::collections::listpack;
use crate::collections::listpack::Item;
use crate::collections::quicklist::{End, Limit, List, NodeRef};
use crate::commands::list::value::limit;
use crate::keyspace::EntryRef;
use crate::keyspace::entry::Value;
use crate::object::{Encoding, Object, Type};
use crate::shard::Settings;

const PLAIN: u64 = 1;
pub const PACKED: u64 = 2;
/// What a node takes in one piece, at the least.
const SMALL_MAX: usize = 32 << 10;

pub fn read(of: u8, reader: &mut Reader<'_>, rules: &Rules<'_>) -> Result<Decoded> {
    let mut list = List::new(limit(rules.settings));
    match of {
        kind::LIST => {
            for _ in 0..reader.length()? {
                list.push(End::Back, &reader.string()?);
            }
        }
        kind::LIST_ZIPLIST => push_ziplist(&mut list, &reader.string()?)?,
        kind::LIST_QUICKLIST => {
            for _ in 0..reader.length()? {
                push_ziplist(&mut list, &reader.string()?)?;
            }
        }
        _ => {
            for _ in 0..reader.length()? {
                let form = reader.length()?;
                let node = reader.string()?;
                match form {
                    PLAIN if !node.is_empty() => list.append_plain(&node),
                    PACKED if listpack::validate(&node) => list.append_listpack(&node),
                    _ => return Err(Error::Corrupt("a broken quicklist node")),
                }
            }
        }
    }
    if list.is_empty() {
        return Err(Error::Empty);
    }
    let (encoding, value) = match list.to_listpack(limit(rules.settings), false) {
        Some(lp) => (Encoding::Listpack, Value::Bytes(lp)),
        None => (
            Encoding::Quicklist,
            Value::Object(Box::new(Object::List(list))),
        ),
    };
    Ok(Decoded {
        kind: Type::List,
        encoding,
        value,
    })
}

/// True for a list of one node that is kept packed in its entry.
pub fn is_small(lp: &[u8], settings: &Settings) -> bool {
    let count = listpack::len(lp);
    let fits = match limit(settings) {
        Limit::Bytes(max) => lp.len() <= max,
        Limit::Count(max) => count <= max,
    };
    count > 0 && fits && lp.len() <= SMALL_MAX
}

fn push_ziplist(list: &mut List, zl: &[u8]) -> Result<()> {
    for item in ziplist::items(zl)? {
        item.with_text(|text| list.push(End::Back, text));
    }
    Ok(())
}

pub fn skip(of: u8, reader: &mut Reader<'_>) -> Result<()> {
    if of == kind::LIST_ZIPLIST {
        return reader.skip_string();
    }
    for _ in 0..reader.length()? {
        if of == kind::LIST_QUICKLIST_2 {
            reader.length()?;
        }
        reader.skip_string()?;
    }
    Ok(())
}

pub fn kind_of() -> u8 {
    kind::LIST_QUICKLIST_2
}

/// Writes a packed one.
pub fn write(w: &mut Writer, entry: EntryRef<'_>) {
    w.count(1);
    w.length(PACKED);
    w.block(entry.bytes());
}

/// Writes a large one from the cursor on, until the writer has done `end` bytes' work. True when that was all.
pub fn write_part(w: &mut Writer, list: &List, cursor: &mut Cursor, end: usize) -> bool {
    if !std::mem::replace(&mut cursor.begun, true) {
        w.count(list.node_count());
    }
    let mut lp = Vec::new();
    for node in list.nodes_from(cursor.at as usize) {
        if w.work() >= end {
            return false;
        }
        match node {
            NodeRef::Plain(bytes) => {
                w.length(PLAIN);
                w.item(Item::Bytes(bytes));
            }
            NodeRef::Packed(node) => {
                w.length(PACKED);
                lp.clear();
                node.append_listpack(&mut lp);
                w.block(&lp);
            }
        }
        cursor.at += 1;
    }
    true
}
