//! Streams, with their groups.
//!
//! ```text
//! blocks:    (first ID, 16 bytes │ listpack)…
//! totals:    entries │ last ID │ since 7.0: first ID │ greatest deleted ID │ entries added
//! groups:    (name │ last ID │ since 7.0: entries read │ pending entries │ consumers)…
//! pending:   (ID, 16 bytes │ delivered at │ deliveries)…
//! consumers: (name │ seen at │ since 7.2: active at │ IDs pending for it)…
//! ```
//! Written in 7.0's form. That a consumer was active at another time than it was seen is lost thereby, as when a 7.0 writes it.

use super::reader::Reader;
use super::value::{Cursor, Decoded};
use super::writer::Writer;
use super::{Error, Result, kind};
use crate::collections::stream::{Block, Group, Stream, StreamId, Totals};
use crate::keyspace::entry::Value;
use crate::object::{Encoding, Object, Type};
use std::collections::BTreeMap;

/// How the number of entries read is written that is not known.
const UNKNOWN: u64 = u64::MAX;

pub fn read(of: u8, reader: &mut Reader<'_>) -> Result<Decoded> {
    let since_7_0 = of != kind::STREAM;
    let mut blocks = Vec::new();
    for _ in 0..reader.length()? {
        let first = reader.string()?;
        let first = <[u8; 16]>::try_from(&*first)
            .map_err(|_| Error::Corrupt("a stream's block without an ID"))?;
        let bytes = reader.string()?.into_owned();
        let block = Block::from_bytes(StreamId::from_bytes(first), bytes);
        blocks.push(block.ok_or(Error::Corrupt("a broken block of a stream"))?);
    }
    let entries = reader.length()?;
    let last_id = id(reader)?;
    let mut totals = Totals {
        last_id,
        max_deleted_id: StreamId::default(),
        entries_added: entries,
    };
    if since_7_0 {
        // The first entry's ID is told by the blocks.
        id(reader)?;
        totals.max_deleted_id = id(reader)?;
        totals.entries_added = count(reader)?;
    }
    let mut stream = Stream::from_blocks(blocks, totals)
        .ok_or(Error::Corrupt("a stream's entries out of order"))?;
    for _ in 0..reader.length()? {
        let name = reader.string()?;
        let last_id = id(reader)?;
        let entries_read = if since_7_0 {
            match reader.length()? {
                UNKNOWN => None,
                n => Some(in_range(n)?),
            }
        } else {
            stream.number_of(last_id)
        };
        let mut group = Group::new(last_id, entries_read);
        read_deliveries(of, reader, &mut group)?;
        if !stream.add_group(&name, group) {
            return Err(Error::Corrupt("a stream has a group twice"));
        }
    }
    Ok(Decoded {
        kind: Type::Stream,
        encoding: Encoding::Stream,
        value: Value::Object(Box::new(Object::Stream(stream))),
    })
}

/// Reads what is pending in a group, and for whom.
fn read_deliveries(of: u8, reader: &mut Reader<'_>, group: &mut Group) -> Result<()> {
    let mut unowned = BTreeMap::new();
    for _ in 0..reader.length()? {
        let entry = raw_id(reader)?;
        let delivered_at = time(reader)?;
        let deliveries = count(reader)?;
        if unowned.insert(entry, (delivered_at, deliveries)).is_some() {
            return Err(Error::Corrupt("a group has an entry pending twice"));
        }
    }
    for _ in 0..reader.length()? {
        let name = reader.string()?;
        if group.find_consumer(&name).is_some() {
            return Err(Error::Corrupt("Duplicate stream consumer detected"));
        }
        let seen_at = time(reader)?;
        let consumer = group.add_consumer(&name, seen_at);
        let active_at = if of == kind::STREAM_3 {
            Some(reader.ms()?).filter(|at| *at >= 0)
        } else {
            Some(seen_at)
        };
        group.consumer_mut(consumer).active_at = active_at;
        for _ in 0..reader.length()? {
            let entry = raw_id(reader)?;
            let (delivered_at, deliveries) = unowned.remove(&entry).ok_or(Error::Corrupt(
                "an entry is pending for a consumer, not in its group",
            ))?;
            group.deliver(entry, consumer, delivered_at, deliveries);
        }
    }
    if unowned.is_empty() {
        Ok(())
    } else {
        Err(Error::Corrupt("a group's pending entry without a consumer"))
    }
}

fn id(reader: &mut Reader<'_>) -> Result<StreamId> {
    Ok(StreamId {
        ms: reader.length()?,
        seq: reader.length()?,
    })
}
fn raw_id(reader: &mut Reader<'_>) -> Result<StreamId> {
    let bytes = reader.take(16)?.try_into().map_err(|_| Error::Short)?;
    Ok(StreamId::from_bytes(bytes))
}
/// Before 1970 there were no streams.
fn time(reader: &mut Reader<'_>) -> Result<i64> {
    Ok(reader.ms()?.max(0))
}
/// A count that can be counted on from.
fn count(reader: &mut Reader<'_>) -> Result<u64> {
    in_range(reader.length()?)
}
fn in_range(n: u64) -> Result<u64> {
    if i64::try_from(n).is_ok() {
        Ok(n)
    } else {
        Err(Error::Corrupt("a stream's count is too large"))
    }
}

pub fn skip(of: u8, reader: &mut Reader<'_>) -> Result<()> {
    let since_7_0 = of != kind::STREAM;
    for _ in 0..reader.length()? {
        reader.skip_string()?;
        reader.skip_string()?;
    }
    for _ in 0..if since_7_0 { 8 } else { 3 } {
        reader.length()?;
    }
    for _ in 0..reader.length()? {
        reader.skip_string()?;
        for _ in 0..if since_7_0 { 3 } else { 2 } {
            reader.length()?;
        }
        for _ in 0..reader.length()? {
            reader.take(16 + 8)?;
            reader.length()?;
        }
        for _ in 0..reader.length()? {
            reader.skip_string()?;
            reader.take(if of == kind::STREAM_3 { 16 } else { 8 })?;
            for _ in 0..reader.length()? {
                reader.take(16)?;
            }
        }
    }
    Ok(())
}

pub fn kind_of() -> u8 {
    kind::STREAM_2
}

/// See [`super::list::write_part`]. The groups are one part.
pub fn write_part(w: &mut Writer, stream: &Stream, cursor: &mut Cursor, end: usize) -> bool {
    if !std::mem::replace(&mut cursor.begun, true) {
        w.count(stream.block_count());
    }
    for block in stream.blocks().skip(cursor.at as usize) {
        if w.work() >= end {
            return false;
        }
        w.block(&block.first().to_bytes());
        w.block(block.bytes());
        cursor.at += 1;
    }
    w.length(stream.len());
    write_id(w, stream.last_id());
    write_id(w, stream.first_id());
    write_id(w, stream.max_deleted_id());
    w.length(stream.entries_added());
    w.count(stream.groups().len());
    for (name, group) in stream.groups() {
        w.string(name);
        write_id(w, group.last_id);
        w.length(group.entries_read.unwrap_or(UNKNOWN));
        w.count(group.pending().len());
        for (id, pending) in group.pending() {
            w.raw(&id.to_bytes());
            w.ms(pending.delivered_at);
            w.length(pending.deliveries);
        }
        w.count(group.consumers().len());
        for consumer in group.consumers() {
            w.string(&consumer.name);
            w.ms(consumer.seen_at);
            w.count(consumer.pending().len());
            for id in consumer.pending() {
                w.raw(&id.to_bytes());
            }
        }
    }
    true
}

fn write_id(w: &mut Writer, id: StreamId) {
    w.length(id.ms);
    w.length(id.seq);
}
