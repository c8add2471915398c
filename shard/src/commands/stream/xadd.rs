//! XADD and XTRIM.

use super::options::{self, Options};
use super::{insert, reply_id, stream_mut, write};
use crate::collections::stream::{
    ENTRY_BYTES_MAX, Limits, NewId, References, Stream, StreamId, Threshold, Trim,
};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::{Object, Type};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const XADD: Command<Handler> = command("XADD", at_least(5), xadd as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::STREAM)
    .keys(&[at(1).flags(RW | UPDATE).notes("UPDATE instead of INSERT because of the optional trimming feature")])
    .doc("Appends an entry to a stream, which is made if missing.", "O(1) when adding a new entry, O(N) when trimming where N being the number of entries evicted.", "5.0.0", "stream")
    .history(&[("6.2.0", "Options `NOMKSTREAM`, `MINID` and `LIMIT`."), ("7.0.0", "IDs may be given as `<ms>-*`."), ("8.2.0", "Options `KEEPREF`, `DELREF` and `ACKED`.")])
    .args(&[key("key", 0), word("nomkstream", "NOMKSTREAM").since("6.2.0").optional(), one_of("condition", &[word("keepref", "KEEPREF"), word("delref", "DELREF"), word("acked", "ACKED")]).optional(), block("trim", &[one_of("strategy", &[word("maxlen", "MAXLEN"), word("minid", "MINID").since("6.2.0")]), one_of("operator", &[word("equal", "="), word("approximately", "~")]).optional(), string("threshold"), integer("count").token("LIMIT").since("6.2.0").optional()]).optional(), one_of("id-selector", &[word("auto-id", "*"), string("id")]), block("data", &[string("field"), string("value")]).multiple()])
    .tips(&["nondeterministic_output"]);

const ZERO: &str = "ERR The ID specified in XADD must be greater than 0-0";
const EXHAUSTED: &str =
    "ERR The stream has exhausted the last possible ID, unable to add more items";
const NOT_GREATER: &str =
    "ERR The ID specified in XADD is equal or smaller than the target stream top item";

fn xadd(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let options = options::parse(args, true, &ctx.shard.settings)?;
    let pairs = args.get(options.id_at + 1..).unwrap_or_default();
    if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity("xadd".into()));
    }
    let given = NewId::Given(StreamId::MIN);
    if options.id == given {
        return Err(CommandError::fixed(ZERO));
    }
    let limits = Limits {
        block_bytes_max: ctx.shard.settings.stream_node_bytes_max,
        block_entries_max: ctx.shard.settings.stream_node_entries_max,
    };
    let bytes: usize = pairs.iter().map(|word| word.len()).sum();
    let now_ms = ctx.now_ms() as u64;
    let add = |stream: &mut Stream| {
        if stream.last_id() == StreamId::MAX {
            return Err(CommandError::fixed(EXHAUSTED));
        }
        let id = options.id.resolve(stream.last_id(), now_ms);
        let id = id.ok_or(CommandError::fixed(NOT_GREATER))?;
        if bytes > ENTRY_BYTES_MAX {
            return Err(CommandError::fixed(
                "ERR Elements are too large to be stored",
            ));
        }
        stream.add(id, pairs, bytes, limits);
        let trimmed = options.trim.as_ref().map_or(0, |trim| stream.trim(trim));
        Ok((id, trimmed, stream.len(), stream.first_id()))
    };
    if trims_long(ctx, args[1], options.trim.as_ref()) {
        return Ok(());
    }
    let key = ctx.key(args[1]);
    let (id, trimmed, len, first) = match write(ctx.shard, ctx.db, key)? {
        Some(mut entry) => add(stream_mut(&mut entry))?,
        None if options.make => {
            let mut stream = Stream::new();
            let added = add(&mut stream)?;
            insert(ctx.shard, ctx.db, key, stream);
            added
        }
        None => {
            ctx.reply.null();
            return Ok(());
        }
    };
    ctx.modified(args[1], notify::STREAM, "xadd");
    if trimmed > 0 {
        ctx.shard
            .notify(ctx.db, args[1], notify::STREAM, "xtrim", true);
    }
    reply_id(&mut ctx.reply, id);
    if ctx.shard.logging {
        log(ctx, args, &options, Some(id), len, first);
    }
    Ok(())
}

/// True where others should not wait for the trimming: see [`Ctx::is_long`].
fn trims_long(ctx: &mut Ctx<'_>, key: &[u8], trim: Option<&Trim>) -> bool {
    let Some(trim) = trim.filter(|_| ctx.aside) else {
        return false;
    };
    let key = ctx.key(key);
    let Some(Object::Stream(stream)) = (ctx.shard.keyspace.get(ctx.db, key))
        .filter(|entry| entry.kind() == Type::Stream)
        .map(|entry| entry.object())
    else {
        return false;
    };
    // Whole blocks go at once, unless every entry is looked up.
    let speed = match trim.references {
        References::Keep => 16,
        _ => 1,
    };
    let most = ctx.elements_max().saturating_mul(speed);
    stream.trims_more_than(trim, most as u64) && ctx.step_aside().is_ok()
}

/// Logs the command with the ID that it gave, and with an exact threshold where it was approximate.
fn log(
    ctx: &mut Ctx<'_>,
    args: Args<'_>,
    options: &Options,
    id: Option<StreamId>,
    len: u64,
    first: StreamId,
) {
    let mut words = args.to_vec();
    let id_text = id.map(StreamId::text);
    if let Some(text) = &id_text {
        words[options.id_at] = text;
    }
    let threshold;
    if let Some(trim) = options.trim.filter(|trim| trim.approximate) {
        threshold = match trim.threshold {
            Threshold::Length(_) => len.to_string().into_bytes(),
            // An emptied stream has no first entry; what was removed is below this ID in any case.
            Threshold::Id(_) if len == 0 => StreamId::MAX.text().to_vec(),
            Threshold::Id(_) => first.text().to_vec(),
        };
        words[options.threshold_at] = &threshold;
        words[options.threshold_at - 1] = b"=";
        // LIMIT goes with `~` only.
        let end = if id.is_some() {
            options.id_at
        } else {
            words.len()
        };
        if let Some(at) = (2..end).find(|&at| super::is_word(words[at], "LIMIT")) {
            words.drain(at..at + 2);
        }
    }
    ctx.log_as(&words);
}

pub const XTRIM: Command<Handler> = command("XTRIM", at_least(4), xtrim as Handler)
    .flags(WRITE)
    .acl(acl::STREAM)
    .keys(&[at(1).flags(RW | DELETE)])
    .doc("Removes the oldest entries of a stream.", "O(N), with N being the number of evicted entries. Constant times are very small however, since entries are organized in macro nodes containing multiple entries that can be released with a single deallocation.", "5.0.0", "stream")
    .history(&[("6.2.0", "Options `MINID` and `LIMIT`."), ("8.2.0", "Options `KEEPREF`, `DELREF` and `ACKED`.")])
    .args(&[key("key", 0), block("trim", &[one_of("strategy", &[word("maxlen", "MAXLEN"), word("minid", "MINID").since("6.2.0")]), one_of("operator", &[word("equal", "="), word("approximately", "~")]).optional(), string("threshold"), integer("count").token("LIMIT").since("6.2.0").optional(), one_of("condition", &[word("keepref", "KEEPREF"), word("delref", "DELREF"), word("acked", "ACKED")]).optional()])])
    .tips(&["nondeterministic_output"]);

fn xtrim(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let options = options::parse(args, false, &ctx.shard.settings)?;
    if trims_long(ctx, args[1], options.trim.as_ref()) {
        return Ok(());
    }
    let key = ctx.key(args[1]);
    let mut removed = 0;
    if let Some(mut entry) = write(ctx.shard, ctx.db, key)?
        && let Some(trim) = &options.trim
    {
        let stream = stream_mut(&mut entry);
        removed = stream.trim(trim);
        let (len, first) = (stream.len(), stream.first_id());
        if removed > 0 {
            ctx.modified(args[1], notify::STREAM, "xtrim");
            ctx.shard.stats.dirty += removed - 1;
            if trim.approximate && ctx.shard.logging {
                log(ctx, args, &options, None, len, first);
            }
        }
    }
    ctx.reply.integer(removed as i64);
    Ok(())
}
