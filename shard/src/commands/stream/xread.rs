//! XREAD, and what it shares with XREADGROUP.

use super::{is_word, parse_id, parse_integer, read, reply_entries, stream_of};
use crate::collections::stream::{Stream, StreamId};
use crate::ctx::{Args, Block, CommandResult, Ctx, Handler, Null, Wake};
use crate::object::Type;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const XREAD: Command<Handler> = command("XREAD", at_least(4), xread as Handler)
    .flags(READONLY | BLOCKING | MOVABLEKEYS)
    .acl(acl::STREAM)
    .keys(&[after("STREAMS", 1).range(-1, 1, 2).flags(RO | ACCESS)])
    .doc(
        "Reads entries of streams after given IDs, waiting if asked to.",
        "",
        "5.0.0",
        "stream",
    )
    .args(&[
        integer("count").token("COUNT").optional(),
        integer("milliseconds").token("BLOCK").optional(),
        block(
            "streams",
            &[key("key", 0).multiple(), string("id").multiple()],
        )
        .token("STREAMS"),
    ]);

/// The words of XREAD or XREADGROUP, taken apart.
pub struct Request<'a, 'b> {
    /// Group and consumer.
    pub group: Option<(&'b [u8], &'b [u8])>,
    pub no_ack: bool,
    /// Most entries of each stream.
    pub count: u64,
    /// `Some`: to wait so long, `Some(None)` for ever.
    pub block: Option<Option<u64>>,
    pub keys: &'a [&'b [u8]],
    pub ids: &'a [&'b [u8]],
}

impl<'a, 'b> Request<'a, 'b> {
    pub fn parse(args: &'a [&'b [u8]], of_group: bool, now_ms: i64) -> Result<Self, CommandError> {
        let mut request = Self {
            group: None,
            no_ack: false,
            count: u64::MAX,
            block: None,
            keys: &[],
            ids: &[],
        };
        let mut at = 1;
        while let Some(&word) = args.get(at) {
            let more = args.len() - at - 1;
            if is_word(word, "BLOCK") && more > 0 {
                at += 1;
                request.block = Some(parse_timeout(args[at], now_ms)?);
            } else if is_word(word, "COUNT") && more > 0 {
                at += 1;
                // Nothing and less stand for everything.
                let count = u64::try_from(parse_integer(args[at])?).unwrap_or(0);
                request.count = if count == 0 { u64::MAX } else { count };
            } else if is_word(word, "STREAMS") && more > 0 {
                let words = &args[at + 1..];
                if !words.len().is_multiple_of(2) {
                    return Err(unbalanced(of_group));
                }
                (request.keys, request.ids) = words.split_at(words.len() / 2);
                break;
            } else if is_word(word, "GROUP") && more >= 2 {
                if !of_group {
                    return Err(only_with_group("GROUP"));
                }
                request.group = Some((args[at + 1], args[at + 2]));
                at += 2;
            } else if is_word(word, "NOACK") {
                if !of_group {
                    return Err(only_with_group("NOACK"));
                }
                request.no_ack = true;
            } else {
                return Err(CommandError::Syntax);
            }
            at += 1;
        }
        if request.keys.is_empty() {
            return Err(CommandError::Syntax);
        }
        if of_group && request.group.is_none() {
            return Err(CommandError::fixed(
                "ERR Missing GROUP option for XREADGROUP",
            ));
        }
        Ok(request)
    }

    /// About how many entries from an ID on are asked for, `None` if more than `most`.
    pub fn entries_within(&self, stream: &Stream, start: StreamId, most: u64) -> Option<u64> {
        match stream.range_len_within(start, StreamId::MAX, most) {
            Some(entries) => Some(entries.min(self.count)),
            None => Some(self.count).filter(|count| *count <= most),
        }
    }

    /// Nothing was there: waits if asked to, with these words if they are to be others than the client's.
    pub fn wait(
        &self,
        ctx: &mut Ctx<'_>,
        wake: Wake,
        words: Option<Vec<Vec<u8>>>,
    ) -> CommandResult {
        let Some(timeout_ms) = self.block else {
            ctx.reply.null_array();
            return Ok(());
        };
        ctx.block(Block {
            db: ctx.db,
            keys: self.keys.iter().map(|key| Box::from(*key)).collect(),
            wake,
            timeout_ms,
            null: Null::Array,
            words,
        })
    }
}

fn unbalanced(of_group: bool) -> CommandError {
    CommandError::fixed(if of_group {
        "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be specified."
    } else {
        "ERR Unbalanced 'xread' list of streams: for each stream key an ID, '+', or '$' must be specified."
    })
}
fn only_with_group(option: &str) -> CommandError {
    CommandError::err(format!(
        "The {option} option is only supported by XREADGROUP. You called XREAD instead."
    ))
}

/// A timeout in milliseconds; `None` for 0, which is no timeout.
fn parse_timeout(word: &[u8], now_ms: i64) -> Result<Option<u64>, CommandError> {
    let ms = parse_integer(word)
        .map_err(|_| CommandError::fixed("ERR timeout is not an integer or out of range"))?;
    if ms < 0 {
        return Err(CommandError::NegativeTimeout);
    }
    // Redis adds it to the time of day.
    if ms.checked_add(now_ms).is_none() {
        return Err(CommandError::TimeoutOutOfRange);
    }
    Ok((ms > 0).then_some(ms as u64))
}

/// Begins one stream's part of the reply, which is an array of (key, entries), or in RESP3 a map.
pub fn reply_key(ctx: &mut Ctx<'_>, key: &[u8]) {
    if !ctx.reply.is_resp3() {
        ctx.reply.array(2);
    }
    ctx.reply.bulk(key);
}

fn xread(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let request = Request::parse(args, false, ctx.now_ms())?;
    // The IDs to read after, and which streams have such entries.
    let mut after = Vec::with_capacity(request.keys.len());
    let mut found = Vec::with_capacity(request.keys.len());
    let mut wrong_type = false;
    for (at, (key, id)) in request.keys.iter().zip(request.ids).enumerate() {
        let key = ctx.key(key);
        let stream = match read(ctx.shard, ctx.db, key) {
            // Who waits for another stream is told when that one has something new.
            Err(CommandError::WrongType) if ctx.serving => {
                wrong_type = true;
                None
            }
            read => read?,
        };
        let last = stream.and_then(|stream| stream.last_live_id());
        let id = match *id {
            b"$" => stream.map_or(StreamId::MIN, |stream| stream.last_id()),
            b"+" => last.and_then(StreamId::prev).unwrap_or(StreamId::MIN),
            b">" => {
                return Err(CommandError::fixed(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
                ));
            }
            id => parse_id(id, 0)?,
        };
        after.push(id);
        if last.is_some_and(|last| last > id) {
            found.push(at);
        }
    }
    if found.is_empty() {
        let words = request.ids.contains(&b"$".as_slice()).then(|| {
            // From now on `$` means the entries that come.
            let mut words: Vec<Vec<u8>> = args.iter().map(|word| word.to_vec()).collect();
            let ids = args.len() - after.len();
            for (word, id) in words[ids..].iter_mut().zip(&after) {
                if word == b"$" {
                    *word = id.text().to_vec();
                }
            }
            words
        });
        return request.wait(ctx, Wake::Type(Type::Stream), words);
    }
    if wrong_type {
        return Err(CommandError::WrongType);
    }
    // As with XRANGE.
    let mut left = (ctx.reads_max() / 4) as u64;
    if request.count > left / found.len() as u64 {
        for &at in &found {
            let key = ctx.key(request.keys[at]);
            let entry = ctx.shard.keyspace.get(ctx.db, key);
            let entries = entry.map_or(Some(0), |entry| {
                let start = after[at].next().unwrap_or(StreamId::MAX);
                request.entries_within(stream_of(entry.object()), start, left)
            });
            match entries {
                Some(entries) => left -= entries,
                None => return ctx.step_aside(),
            }
        }
    }
    let open = ctx.reply.begin_map_or_array(found.len());
    let count = found.len();
    for at in found {
        reply_key(ctx, request.keys[at]);
        let key = ctx.key(request.keys[at]);
        if let Some(entry) = ctx.shard.keyspace.get(ctx.db, key) {
            let stream = stream_of(entry.object());
            // There is an entry above it, so there is an ID too.
            let start = after[at].next().unwrap_or(StreamId::MAX);
            let entries = stream.range(start, StreamId::MAX, false);
            let guess = if request.count == u64::MAX {
                1
            } else {
                request.count
            };
            reply_entries(
                &mut ctx.reply,
                entries,
                request.count,
                guess.min(stream.len()),
            );
        }
    }
    ctx.reply.end_array(open, count);
    Ok(())
}
