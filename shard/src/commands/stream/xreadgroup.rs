//! XREADGROUP.

use super::xread::{Request, reply_key};
use super::{
    changed_group, changed_group_with, log_consumer, log_pending, log_position, parse_id, read,
    reply_entry, reply_id, shown, stream_mut, stream_of, write,
};
use crate::collections::stream::{Group, Pending, Stream, StreamId};
use crate::ctx::{Args, CommandResult, Ctx, Handler, Log, Wake};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const XREADGROUP: Command<Handler> = command("XREADGROUP", at_least(7), xreadgroup as Handler)
    .flags(WRITE | BLOCKING | MOVABLEKEYS)
    .acl(acl::STREAM)
    .keys(&[after("STREAMS", 4).range(-1, 1, 2).flags(RO | ACCESS)])
    .doc("Reads entries of streams as a member of a group, waiting if asked to.", "For each stream mentioned: O(M) with M being the number of elements returned. If M is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1). On the other side when XREADGROUP blocks, XADD will pay the O(N) time in order to serve the N clients blocked on the stream getting new data.", "5.0.0", "stream")
    .args(&[block("group-block", &[string("group"), string("consumer")]).token("GROUP"), integer("count").token("COUNT").optional(), integer("milliseconds").token("BLOCK").optional(), word("noack", "NOACK").optional(), block("streams", &[key("key", 0).multiple(), string("id").multiple()]).token("STREAMS")]);

/// What is read of one stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// `>`: what nobody has got yet.
    New,
    /// What this consumer got and has not acknowledged, from this ID on.
    History(StreamId),
}

fn xreadgroup(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let request = Request::parse(args, true, ctx.now_ms())?;
    let Some((group, consumer)) = request.group else {
        return Err(CommandError::Syntax);
    };
    let mut wanted = Vec::with_capacity(request.keys.len());
    let mut served = 0;
    // What is delivered is noted in two places besides.
    let mut left = Some((ctx.reads_max() / 8) as u64);
    for (name, id) in request.keys.iter().zip(request.ids) {
        let key = ctx.key(name);
        let stream = read(ctx.shard, ctx.db, key)?;
        let found = stream.and_then(|stream| Some((stream, stream.group(group)?)));
        let Some((stream, found)) = found else {
            let (key, group) = (shown(name), shown(group));
            let text = format!(
                "NOGROUP No such key '{key}' or consumer group '{group}' in XREADGROUP with GROUP option"
            );
            return Err(CommandError::Text(text.into()));
        };
        let what = match *id {
            b"$" | b"+" => return Err(meaningless(id)),
            id => match parse_new_or_history(id)? {
                None => {
                    served += usize::from(has_news(stream, found));
                    Wanted::New
                }
                Some(id) => {
                    served += 1;
                    Wanted::History(id.next().unwrap_or(id))
                }
            },
        };
        left = left.and_then(|left| {
            let entries = match what {
                Wanted::New => {
                    let start = found.last_id.next().unwrap_or(StreamId::MAX);
                    request.entries_within(stream, start, left)
                }
                Wanted::History(_) => {
                    let id = found.find_consumer(consumer);
                    let all = id.map_or(0, |id| found.consumer(id).pending().len());
                    Some(request.count.min(all as u64))
                }
            };
            left.checked_sub(entries?)
        });
        wanted.push(what);
    }
    if left.is_none() {
        return ctx.step_aside();
    }
    // The command itself is not logged: what it does depends on the time.
    ctx.log = Log::Nothing;
    let open = (served > 0).then(|| ctx.reply.begin_map_or_array(served));
    served = 0;
    for (name, what) in request.keys.iter().zip(wanted) {
        match what {
            Wanted::New => {
                // Asked for again: a stream may be named twice.
                if open.is_some() && group_has_news(ctx, name, group) {
                    reply_key(ctx, name);
                    deliver(ctx, name, group, consumer, &request);
                    served += 1;
                } else if see(ctx, name, group, consumer) {
                    log_consumer(ctx, name, group, consumer);
                }
            }
            Wanted::History(from) => {
                reply_key(ctx, name);
                history(ctx, name, group, consumer, from, request.count);
                served += 1;
            }
        }
    }
    match open {
        Some(open) => ctx.reply.end_array(open, served),
        None => return request.wait(ctx, Wake::Any, None),
    }
    Ok(())
}

/// Whether there are entries that nobody of the group has got.
fn has_news(stream: &Stream, group: &Group) -> bool {
    // Mostly the last ID says it: without a look at the entries.
    stream.last_id() > group.last_id
        && stream
            .last_live_id()
            .is_some_and(|last| last > group.last_id)
}
fn group_has_news(ctx: &mut Ctx<'_>, name: &[u8], group: &[u8]) -> bool {
    let key = ctx.key(name);
    let found = ctx.shard.keyspace.get(ctx.db, key);
    found.is_some_and(|entry| {
        let stream = stream_of(entry.object());
        let group = stream.group(group);
        group.is_some_and(|group| has_news(stream, group))
    })
}

/// `None` for new entries: `>`, or the greatest ID, which Redis takes for the same.
fn parse_new_or_history(id: &[u8]) -> Result<Option<StreamId>, CommandError> {
    if id == b">" {
        return Ok(None);
    }
    Ok(Some(parse_id(id, 0)?).filter(|id| *id != StreamId::MAX))
}

fn meaningless(id: &[u8]) -> CommandError {
    let id = shown(id);
    CommandError::err(format!(
        "The {id} ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The {id} ID would just return an empty result set."
    ))
}

/// Notes that the consumer was here. True: it is new.
fn see(ctx: &mut Ctx<'_>, name: &[u8], group: &[u8], consumer: &[u8]) -> bool {
    let now_ms = ctx.now_ms();
    let key = ctx.key(name);
    let Ok(Some(mut entry)) = write(ctx.shard, ctx.db, key) else {
        return false;
    };
    let Some(group) = stream_mut(&mut entry).group_mut(group) else {
        return false;
    };
    match group.find_consumer(consumer) {
        Some(id) => {
            group.consumer_mut(id).seen_at = now_ms;
            false
        }
        None => {
            group.add_consumer(consumer, now_ms);
            changed_group_with(ctx, name, "xgroup-createconsumer");
            true
        }
    }
}

/// Gives the consumer what nobody has got yet.
fn deliver(
    ctx: &mut Ctx<'_>,
    name: &[u8],
    group_name: &[u8],
    consumer: &[u8],
    request: &Request<'_, '_>,
) {
    let is_new = see(ctx, name, group_name, consumer);
    if is_new && request.no_ack {
        log_consumer(ctx, name, group_name, consumer);
    }
    let now_ms = ctx.now_ms();
    let logging = ctx.shard.logging;
    let key = ctx.key(name);
    let Ok(Some(mut entry)) = write(ctx.shard, ctx.db, key) else {
        return;
    };
    let stream = stream_mut(&mut entry);
    // The group by itself, so that the entries can be read meanwhile.
    let Some(mut group) = stream.group_mut(group_name).map(std::mem::take) else {
        return;
    };
    let id = group.find_consumer(consumer);
    let guess = if request.count == u64::MAX {
        1
    } else {
        request.count
    };
    let open = ctx.reply.begin_array(guess.min(stream.len()) as usize);
    let mut delivered = 0;
    let mut to_log = Vec::new();
    let start = group.last_id.next().unwrap_or(StreamId::MAX);
    for entry in stream.range(start, StreamId::MAX, false) {
        group.entries_read = stream.entries_read_after(&group, entry.id);
        group.last_id = entry.id;
        reply_entry(&mut ctx.reply, &entry);
        if let Some(id) = id.filter(|_| !request.no_ack) {
            group.deliver(entry.id, id, now_ms, 1);
            group.consumer_mut(id).active_at = Some(now_ms);
            if logging {
                to_log.push(entry.id);
            }
        }
        delivered += 1;
        if delivered == request.count {
            break;
        }
    }
    ctx.reply.end_array(open, delivered as usize);
    let (last_id, entries_read) = (group.last_id, group.entries_read);
    if let Some(place) = stream.group_mut(group_name) {
        *place = group;
    }
    if delivered == 0 {
        return;
    }
    changed_group(ctx);
    if let Some(consumer_id) = id {
        for id in to_log {
            let pending = Pending {
                delivered_at: now_ms,
                deliveries: 1,
                consumer: consumer_id,
            };
            // At that moment the group had read so far.
            log_pending(ctx, [name, group_name, consumer], id, &pending, id);
        }
    }
    log_position(ctx, name, group_name, last_id, entries_read);
}

/// Gives the consumer once more what it has not acknowledged.
fn history(
    ctx: &mut Ctx<'_>,
    name: &[u8],
    group_name: &[u8],
    consumer: &[u8],
    from: StreamId,
    count: u64,
) {
    if see(ctx, name, group_name, consumer) {
        log_consumer(ctx, name, group_name, consumer);
    }
    let now_ms = ctx.now_ms();
    let key = ctx.key(name);
    let Ok(Some(mut entry)) = write(ctx.shard, ctx.db, key) else {
        ctx.reply.array(0);
        return;
    };
    let stream = stream_mut(&mut entry);
    let mut ids = Vec::new();
    if let Some(group) = stream.group(group_name)
        && let Some(id) = group.find_consumer(consumer)
    {
        let pending = group.consumer(id).pending().range(from..);
        ids.extend(pending.take(usize::try_from(count).unwrap_or(usize::MAX)));
    }
    ctx.reply.array(ids.len());
    for id in ids {
        let Some(entry) = stream.entry(id) else {
            // Deleted since.
            ctx.reply.array(2);
            reply_id(&mut ctx.reply, id);
            ctx.reply.null_array();
            continue;
        };
        reply_entry(&mut ctx.reply, &entry);
        if let Some(group) = stream.group_mut(group_name)
            && let Some(pending) = group.pending().get(&id).copied()
        {
            let deliveries = pending.deliveries.wrapping_add(1);
            group.deliver(id, pending.consumer, now_ms, deliveries);
        }
    }
}
