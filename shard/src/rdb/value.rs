//! A key's value, whatever its type.

use super::reader::Reader;
use super::writer::Writer;
use super::{
    Dialect, Error, REDIS_NEWEST, Result, Rules, VERSION, hash, kind, list, set, stream, string,
    zset,
};
use crate::keyspace::EntryRef;
use crate::keyspace::entry::{Parts, Value};
use crate::object::{Encoding, Object, Type};

/// What a value became.
#[derive(Debug)]
pub struct Decoded {
    pub kind: Type,
    pub encoding: Encoding,
    pub value: Value,
}

impl Decoded {
    pub fn into_parts(self, access: u32, expire_at: Option<i64>) -> Parts {
        Parts {
            kind: self.kind,
            encoding: self.encoding,
            access,
            expire_at,
            value: self.value,
        }
    }
}

/// Reads a value of type `of`.
pub fn read(of: u8, reader: &mut Reader<'_>, rules: &Rules<'_>) -> Result<Decoded> {
    use kind::*;
    match of {
        STRING => string::read(reader),
        LIST | LIST_ZIPLIST | LIST_QUICKLIST | LIST_QUICKLIST_2 => list::read(of, reader, rules),
        SET | SET_INTSET | SET_LISTPACK => set::read(of, reader, rules),
        ZSET | ZSET_2 | ZSET_ZIPLIST | ZSET_LISTPACK => zset::read(of, reader, rules),
        HASH | HASH_ZIPMAP | HASH_ZIPLIST | HASH_LISTPACK | HASH_TIMED_OLD => {
            hash::read(of, reader, rules)
        }
        HASH_LISTPACK_TIMED_OLD | HASH_TIMED | HASH_LISTPACK_TIMED
            if rules.dialect == Dialect::Redis =>
        {
            hash::read(of, reader, rules)
        }
        STREAM | STREAM_2 | STREAM_3 => stream::read(of, reader),
        MODULE => Err(Error::Module(super::module::name(reader.length()?))),
        _ => Err(Error::UnknownType(of)),
    }
}

/// Steps over a value of type `of`, checking no more than where it ends.
pub fn skip(of: u8, reader: &mut Reader<'_>, dialect: Dialect) -> Result<()> {
    use kind::*;
    match of {
        STRING => reader.skip_string(),
        LIST | LIST_ZIPLIST | LIST_QUICKLIST | LIST_QUICKLIST_2 => list::skip(of, reader),
        SET | SET_INTSET | SET_LISTPACK => set::skip(of, reader),
        ZSET | ZSET_2 | ZSET_ZIPLIST | ZSET_LISTPACK => zset::skip(of, reader),
        HASH | HASH_ZIPMAP | HASH_ZIPLIST | HASH_LISTPACK | HASH_TIMED_OLD => {
            hash::skip(of, reader, dialect)
        }
        HASH_LISTPACK_TIMED_OLD | HASH_TIMED | HASH_LISTPACK_TIMED if dialect == Dialect::Redis => {
            hash::skip(of, reader, dialect)
        }
        STREAM | STREAM_2 | STREAM_3 => stream::skip(of, reader),
        MODULE => {
            reader.length()?;
            super::module::skip(reader)
        }
        _ => Err(Error::UnknownType(of)),
    }
}

/// The type number that an entry's value is written with.
pub fn kind_of(entry: EntryRef<'_>) -> u8 {
    match entry.kind() {
        Type::String => string::kind_of(),
        Type::List => list::kind_of(),
        Type::Set => set::kind_of(entry),
        Type::ZSet => zset::kind_of(entry),
        Type::Hash => hash::kind_of(entry),
        Type::Stream => stream::kind_of(),
    }
}

/// What values of a type are, for messages.
pub fn name_of(of: u8) -> &'static str {
    match of {
        kind::STRING => "String",
        kind::LIST | kind::LIST_QUICKLIST | kind::LIST_QUICKLIST_2 => "List quicklist",
        kind::LIST_ZIPLIST => "List ziplist",
        kind::SET => "Set",
        kind::SET_INTSET => "Intset",
        kind::SET_LISTPACK => "Set listpack",
        kind::ZSET | kind::ZSET_2 => "Zset",
        kind::ZSET_ZIPLIST => "Zset ziplist",
        kind::ZSET_LISTPACK => "Zset listpack",
        kind::HASH | kind::HASH_TIMED => "Hash",
        kind::HASH_ZIPMAP => "Zipmap",
        kind::HASH_ZIPLIST => "Hash ziplist",
        kind::HASH_LISTPACK | kind::HASH_LISTPACK_TIMED => "Hash listpack",
        kind::STREAM | kind::STREAM_2 | kind::STREAM_3 => "Stream listpack",
        _ => "Value",
    }
}

/// The first version whose readers know the type.
pub fn version_of(of: u8) -> u16 {
    match of {
        kind::HASH_TIMED | kind::HASH_LISTPACK_TIMED => REDIS_NEWEST,
        _ => VERSION,
    }
}

/// Writes an entry's value.
pub fn write(w: &mut Writer, entry: EntryRef<'_>) {
    if entry.is_object() {
        write_part(w, entry, &mut Cursor::default(), usize::MAX);
        return;
    }
    match entry.kind() {
        Type::String => string::write(w, entry),
        Type::List => list::write(w, entry),
        Type::Set => set::write(w, entry),
        Type::ZSet => zset::write(w, entry),
        Type::Hash => hash::write(w, entry),
        Type::Stream => unreachable!("streams are objects"),
    }
}

/// How far a large value was written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    pub begun: bool,
    /// As its type counts: elements, nodes, or what a table's scan gave.
    pub at: u64,
}

/// Whether writing the object takes so long that it is better done in parts.
pub fn is_large(entry: EntryRef<'_>) -> bool {
    const LARGE: usize = 64 << 10;
    match entry.object() {
        // Their memory is not known without a look at every node.
        Object::List(list) => list.node_count() > 8,
        Object::Stream(stream) => stream.block_count() > 16,
        object => object.memory() > LARGE,
    }
}

/// Does about `limit` bytes' work ([`Writer::work`]) of writing an object from the cursor on; it may not have changed since the last part. True when that was all.
pub fn write_part(w: &mut Writer, entry: EntryRef<'_>, cursor: &mut Cursor, limit: usize) -> bool {
    let end = w.work().saturating_add(limit);
    match entry.object() {
        Object::List(list) => list::write_part(w, list, cursor, end),
        Object::Set(table) => set::write_part(w, table, cursor, end),
        Object::SortedSet(set) => zset::write_part(w, set, cursor, end),
        Object::Hash(table) => hash::write_part(w, table, cursor, end),
        Object::Stream(stream) => stream::write_part(w, stream, cursor, end),
    }
}
