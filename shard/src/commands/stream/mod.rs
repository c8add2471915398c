//! Streams.

mod options;
#[cfg(test)]
mod tests;
mod xack;
mod xadd;
mod xclaim;
mod xdel;
mod xgroup;
mod xinfo;
mod xpending;
mod xrange;
mod xread;
mod xreadgroup;
mod xsetid;

use crate::collections::stream::{Entry, Pending, Stream, StreamId};
use crate::ctx::{Ctx, Handler};
use crate::keyspace::entry::{Parts, Value};
use crate::keyspace::{EntryMut, Key};
use crate::object::{Encoding, Object, Type};
use crate::shard::Shard;
use ringwood_protocol::command::Command;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::lossless;
use ringwood_protocol::number;
use ringwood_protocol::reply::Reply;

pub const COMMANDS: &[Command<Handler>] = &[
    xack::XACK,
    xdel::XACKDEL,
    xadd::XADD,
    xclaim::XAUTOCLAIM,
    xclaim::XCLAIM,
    xdel::XDEL,
    xdel::XDELEX,
    xgroup::XGROUP,
    xinfo::XINFO,
    xrange::XLEN,
    xpending::XPENDING,
    xrange::XRANGE,
    xread::XREAD,
    xreadgroup::XREADGROUP,
    xrange::XREVRANGE,
    xsetid::XSETID,
    xadd::XTRIM,
];

const INVALID_ID: CommandError =
    CommandError::fixed("ERR Invalid stream ID specified as stream command argument");

// ---- finding streams ----

#[inline]
fn stream_of(object: &Object) -> &Stream {
    match object {
        Object::Stream(stream) => stream,
        #[allow(unreachable_patterns)]
        other => unreachable!("an entry of type stream holds {other:?}"),
    }
}
#[inline]
fn stream_mut<'a>(entry: &'a mut EntryMut<'_>) -> &'a mut Stream {
    match entry.object_mut() {
        Object::Stream(stream) => stream,
        #[allow(unreachable_patterns)]
        other => unreachable!("an entry of type stream holds {other:?}"),
    }
}
/// The stream for reading.
#[inline]
fn read<'a>(
    shard: &'a mut Shard,
    db: usize,
    key: Key<'_>,
) -> Result<Option<&'a Stream>, CommandError> {
    match shard.read(db, key) {
        Some(entry) if entry.kind() != Type::Stream => Err(CommandError::WrongType),
        Some(entry) => Ok(Some(stream_of(entry.object()))),
        None => Ok(None),
    }
}
/// The stream's entry for changing.
#[inline]
fn write<'a>(
    shard: &'a mut Shard,
    db: usize,
    key: Key<'_>,
) -> Result<Option<EntryMut<'a>>, CommandError> {
    match shard.write(db, key) {
        Some(entry) if entry.kind() != Type::Stream => Err(CommandError::WrongType),
        found => Ok(found),
    }
}
/// As [`write`], for commands that change groups only: to Redis they are readers, which count hits and misses.
fn write_groups<'a>(
    shard: &'a mut Shard,
    db: usize,
    key: Key<'_>,
) -> Result<Option<EntryMut<'a>>, CommandError> {
    read(shard, db, key)?;
    write(shard, db, key)
}
/// Adds a key that is not there.
fn insert(shard: &mut Shard, db: usize, key: Key<'_>, stream: Stream) {
    let parts = Parts {
        kind: Type::Stream,
        encoding: Encoding::Stream,
        access: shard.access_new(),
        expire_at: None,
        value: Value::Object(Box::new(Object::Stream(stream))),
    };
    shard.insert(db, key, parts);
}

// ---- arguments ----

#[inline]
fn parse_integer(text: &[u8]) -> Result<i64, CommandError> {
    number::parse_i64(text).ok_or(CommandError::NotInteger)
}
fn parse_id(text: &[u8], missing_seq: u64) -> Result<StreamId, CommandError> {
    StreamId::parse(text, missing_seq).ok_or(INVALID_ID)
}
fn parse_ids(words: &[&[u8]]) -> Result<Vec<StreamId>, CommandError> {
    words.iter().map(|word| parse_id(word, 0)).collect()
}
/// The lower end of a range: an ID, `-`, `+`, or `(ID` for what is above it.
fn parse_start(text: &[u8]) -> Result<StreamId, CommandError> {
    match text.strip_prefix(b"(").filter(|id| !id.is_empty()) {
        Some(id) => parse_id(id, 0)?
            .next()
            .ok_or(CommandError::fixed("ERR invalid start ID for the interval")),
        None => StreamId::parse_bound(text, 0).ok_or(INVALID_ID),
    }
}
/// The upper end of a range.
fn parse_end(text: &[u8]) -> Result<StreamId, CommandError> {
    match text.strip_prefix(b"(").filter(|id| !id.is_empty()) {
        Some(id) => parse_id(id, u64::MAX)?
            .prev()
            .ok_or(CommandError::fixed("ERR invalid end ID for the interval")),
        None => StreamId::parse_bound(text, u64::MAX).ok_or(INVALID_ID),
    }
}
fn is_word(text: &[u8], word: &str) -> bool {
    text.eq_ignore_ascii_case(word.as_bytes())
}
/// A name in an error's text, which Redis ends at a zero byte.
fn shown(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    let end = bytes.iter().position(|&b| b == 0);
    lossless::text(&bytes[..end.unwrap_or(bytes.len())])
}
/// What most commands say when key or group is missing.
fn no_key_or_group(key: &[u8], group: &[u8]) -> CommandError {
    let (key, group) = (shown(key), shown(group));
    CommandError::Text(format!("NOGROUP No such key '{key}' or consumer group '{group}'").into())
}
/// What the others say when the group is missing.
fn no_group(key: &[u8], group: &[u8]) -> CommandError {
    let (key, group) = (shown(key), shown(group));
    CommandError::Text(
        format!("NOGROUP No such consumer group '{group}' for key name '{key}'").into(),
    )
}

// ---- replies ----

fn reply_id(reply: &mut Reply<'_>, id: StreamId) {
    reply.bulk(&id.text());
}
/// An entry: its ID, and its fields and values.
#[inline]
fn reply_entry(reply: &mut Reply<'_>, entry: &Entry<'_>) {
    reply.array(2);
    reply_id(reply, entry.id);
    reply.array(2 * entry.len());
    entry.each(|name, value| {
        name.reply(reply);
        value.reply(reply);
    });
}
fn reply_help(ctx: &mut Ctx<'_>, lines: &[&str]) {
    ctx.reply.array(lines.len());
    for line in lines {
        ctx.reply.simple(line);
    }
}
/// Up to `count` entries as an array.
#[inline]
fn reply_entries<'a>(
    reply: &mut Reply<'_>,
    entries: impl Iterator<Item = Entry<'a>>,
    count: u64,
    guess: u64,
) {
    let open = reply.begin_array(guess.min(count) as usize);
    let mut written = 0;
    for entry in entries {
        reply_entry(reply, &entry);
        written += 1;
        if written == count {
            break;
        }
    }
    reply.end_array(open, written as usize);
}

// ---- logging and events ----

/// Notes a change of a group: it counts as one, but to WATCH and to blocked clients the stream is the same.
fn changed_group(ctx: &mut Ctx<'_>) {
    ctx.shard.stats.dirty += 1;
}
/// As [`changed_group`], with an event.
fn changed_group_with(ctx: &mut Ctx<'_>, key: &[u8], event: &'static str) {
    ctx.shard.stats.dirty += 1;
    let class = crate::shard::notify::STREAM;
    ctx.shard.notify(ctx.db, key, class, event, false);
}
/// Logs a delivery, or what is left of it, as the XCLAIM that gives the same state wherever it is run.
fn log_pending(
    ctx: &mut Ctx<'_>,
    [key, group, consumer]: [&[u8]; 3],
    id: StreamId,
    pending: &Pending,
    last_id: StreamId,
) {
    if !ctx.shard.logging {
        return;
    }
    ctx.log_as(&[
        b"XCLAIM",
        key,
        group,
        consumer,
        b"0",
        &id.text(),
        b"TIME",
        pending.delivered_at.to_string().as_bytes(),
        b"RETRYCOUNT",
        pending.deliveries.to_string().as_bytes(),
        b"FORCE",
        b"JUSTID",
        b"LASTID",
        &last_id.text(),
    ]);
}
/// Logs where a group reads on.
fn log_position(
    ctx: &mut Ctx<'_>,
    key: &[u8],
    group: &[u8],
    last_id: StreamId,
    entries_read: Option<u64>,
) {
    if !ctx.shard.logging {
        return;
    }
    let read = entries_read.map_or("-1".to_owned(), |read| read.to_string());
    ctx.log_as(&[
        b"XGROUP",
        b"SETID",
        key,
        group,
        &last_id.text(),
        b"ENTRIESREAD",
        read.as_bytes(),
    ]);
}
fn log_consumer(ctx: &mut Ctx<'_>, key: &[u8], group: &[u8], consumer: &[u8]) {
    ctx.log_as(&[b"XGROUP", b"CREATECONSUMER", key, group, consumer]);
}
