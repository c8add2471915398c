//! Strings.

use super::reader::Reader;
use super::value::Decoded;
use super::writer::Writer;
use super::{Result, kind};
use crate::keyspace::EntryRef;
use crate::keyspace::entry::Value;
use crate::object::{Encoding, Type};

pub fn read(reader: &mut Reader<'_>) -> Result<Decoded> {
    let value = reader.string()?.into_owned();
    Ok(Decoded {
        kind: Type::String,
        encoding: Encoding::of_string(&value),
        value: Value::Bytes(value),
    })
}

pub fn kind_of() -> u8 {
    kind::STRING
}
pub fn write(w: &mut Writer, entry: EntryRef<'_>) {
    w.string(entry.bytes());
}
