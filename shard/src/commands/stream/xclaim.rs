//! XCLAIM and XAUTOCLAIM.

use super::{
    changed_group, changed_group_with, is_word, log_consumer, log_pending, log_position,
    no_key_or_group, parse_id, parse_integer, parse_start, reply_entry, reply_id, stream_mut,
    stream_of, write_groups,
};
use crate::collections::stream::{ConsumerId, Group, Pending, Stream, StreamId};
use crate::ctx::{Args, CommandResult, Ctx, Handler, Log};
use crate::object::Type;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number;

pub const XCLAIM: Command<Handler> = command("XCLAIM", at_least(6), xclaim as Handler)
    .flags(WRITE | FAST)
    .acl(acl::STREAM)
    .keys(&[at(1).flags(RW | UPDATE)])
    .doc(
        "Takes pending entries over for another consumer.",
        "O(log N) with N being the number of messages in the PEL of the consumer group.",
        "5.0.0",
        "stream",
    )
    .args(&[
        key("key", 0),
        string("group"),
        string("consumer"),
        string("min-idle-time"),
        string("id").multiple(),
        integer("ms").token("IDLE").optional(),
        unix_time("unix-time-milliseconds").token("TIME").optional(),
        integer("count").token("RETRYCOUNT").optional(),
        word("force", "FORCE").optional(),
        word("justid", "JUSTID").optional(),
        string("lastid").token("LASTID").optional(),
    ])
    .tips(&["nondeterministic_output"]);

/// Options of XCLAIM.
#[derive(Default)]
struct Options {
    force: bool,
    just_id: bool,
    delivered_at: Option<i64>,
    deliveries: Option<u64>,
    last_id: StreamId,
}

fn parse_options(words: Args<'_>, now_ms: i64) -> Result<Options, CommandError> {
    let mut options = Options::default();
    let integer = |word: &[u8], option: &str| {
        number::parse_i64(word).ok_or_else(|| {
            CommandError::err(format!("Invalid {option} option argument for XCLAIM"))
        })
    };
    let mut at = 0;
    while let Some(&word) = words.get(at) {
        let value = words.get(at + 1);
        match value {
            _ if is_word(word, "FORCE") => options.force = true,
            _ if is_word(word, "JUSTID") => options.just_id = true,
            Some(value) if is_word(word, "IDLE") => {
                let idle = integer(value, "IDLE")?;
                options.delivered_at = Some(now_ms.wrapping_sub(idle));
                at += 1;
            }
            Some(value) if is_word(word, "TIME") => {
                options.delivered_at = Some(integer(value, "TIME")?);
                at += 1;
            }
            Some(value) if is_word(word, "RETRYCOUNT") => {
                // Below 0 it is as if it was not given.
                options.deliveries = u64::try_from(integer(value, "RETRYCOUNT")?).ok();
                at += 1;
            }
            Some(value) if is_word(word, "LASTID") => {
                options.last_id = parse_id(value, 0)?;
                at += 1;
            }
            _ => {
                return Err(CommandError::err(format!(
                    "Unrecognized XCLAIM option '{}'",
                    super::shown(word)
                )));
            }
        }
        at += 1;
    }
    Ok(options)
}

/// What claiming did, to be counted and logged when the stream is not borrowed any more.
struct Changes {
    new_consumer: bool,
    entries: Vec<Change>,
}

struct Change {
    id: StreamId,
    pending: Pending,
    /// `None`: it was claimed. The owner of one that is gone from the stream.
    owner: Option<Box<[u8]>>,
}

/// The consumer, made if it is not there.
fn consumer_of(group: &mut Group, name: &[u8], now_ms: i64) -> (ConsumerId, bool) {
    match group.find_consumer(name) {
        Some(id) => {
            group.consumer_mut(id).seen_at = now_ms;
            (id, false)
        }
        None => (group.add_consumer(name, now_ms), true),
    }
}

/// Counts and logs what was done.
fn note(
    ctx: &mut Ctx<'_>,
    [key, group, consumer]: [&[u8]; 3],
    changes: Changes,
    last_id: StreamId,
) {
    // The command itself is not logged: what it does depends on the time.
    ctx.log = Log::Nothing;
    if changes.new_consumer {
        changed_group_with(ctx, key, "xgroup-createconsumer");
        if changes.entries.is_empty() {
            log_consumer(ctx, key, group, consumer);
        }
    }
    for change in changes.entries {
        changed_group(ctx);
        let owner = change.owner.as_deref().unwrap_or(consumer);
        log_pending(
            ctx,
            [key, group, owner],
            change.id,
            &change.pending,
            last_id,
        );
    }
}

/// Drops an entry that is pending but gone from the stream.
fn drop_gone(group: &mut Group, id: StreamId, changes: &mut Changes) -> bool {
    let Some(pending) = group.pending().get(&id).copied() else {
        return false;
    };
    let owner = group.consumer(pending.consumer).name.clone();
    group.acknowledge(id);
    changes.entries.push(Change {
        id,
        pending,
        owner: Some(owner),
    });
    true
}

fn xclaim(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let now_ms = ctx.now_ms();
    let key = ctx.key(args[1]);
    let entry = write_groups(ctx.shard, ctx.db, key)?;
    let missing = || no_key_or_group(args[1], args[2]);
    let mut entry = entry.ok_or_else(missing)?;
    let stream = stream_mut(&mut entry);
    if stream.group(args[2]).is_none() {
        return Err(missing());
    }
    let idle_min = number::parse_i64(args[4])
        .ok_or(CommandError::fixed(
            "ERR Invalid min-idle-time argument for XCLAIM",
        ))?
        .max(0);
    // The IDs end where something is none.
    let ids: Vec<StreamId> = args[5..]
        .iter()
        .map_while(|word| StreamId::parse(word, 0))
        .collect();
    let options = parse_options(&args[5 + ids.len()..], now_ms)?;
    let Some(mut group) = stream.group_mut(args[2]).map(std::mem::take) else {
        return Err(missing());
    };
    let moved = options.last_id > group.last_id;
    if moved {
        group.last_id = options.last_id;
    }
    let (consumer, new_consumer) = consumer_of(&mut group, args[3], now_ms);
    let mut changes = Changes {
        new_consumer,
        entries: Vec::new(),
    };
    let at = options.delivered_at.filter(|at| (0..=now_ms).contains(at));
    let at = at.unwrap_or(now_ms);
    let open = ctx.reply.begin_array(ids.len());
    let mut claimed = 0;
    for id in ids {
        let Some(entry) = stream.entry(id) else {
            drop_gone(&mut group, id, &mut changes);
            continue;
        };
        let before = group.pending().get(&id).copied();
        match before {
            None if !options.force => continue,
            Some(pending) if idle_min > 0 && now_ms - pending.delivered_at < idle_min => continue,
            _ => {}
        }
        // One that is forced counts as delivered once before it is claimed.
        let deliveries = before.map_or(1, |pending| pending.deliveries);
        let deliveries = match options.deliveries {
            Some(given) => given,
            None => deliveries.wrapping_add(u64::from(!options.just_id)),
        };
        claim(&mut group, id, consumer, at, deliveries, &mut changes);
        group.consumer_mut(consumer).active_at = Some(now_ms);
        if options.just_id {
            reply_id(&mut ctx.reply, id);
        } else {
            reply_entry(&mut ctx.reply, &entry);
        }
        claimed += 1;
    }
    ctx.reply.end_array(open, claimed);
    let (last_id, entries_read) = (group.last_id, group.entries_read);
    give_back(stream, args[2], group);
    let logged = !changes.entries.is_empty();
    note(ctx, [args[1], args[2], args[3]], changes, last_id);
    if moved && !logged {
        changed_group(ctx);
        log_position(ctx, args[1], args[2], last_id, entries_read);
    }
    Ok(())
}

fn give_back(stream: &mut Stream, name: &[u8], group: Group) {
    if let Some(place) = stream.group_mut(name) {
        *place = group;
    }
}

/// Makes an entry pending for the consumer.
fn claim(
    group: &mut Group,
    id: StreamId,
    consumer: ConsumerId,
    at: i64,
    deliveries: u64,
    changes: &mut Changes,
) {
    group.deliver(id, consumer, at, deliveries);
    let pending = Pending {
        delivered_at: at,
        deliveries,
        consumer,
    };
    changes.entries.push(Change {
        id,
        pending,
        owner: None,
    });
}

pub const XAUTOCLAIM: Command<Handler> = command("XAUTOCLAIM", at_least(6), xautoclaim as Handler)
    .flags(WRITE | FAST)
    .acl(acl::STREAM)
    .keys(&[at(1).flags(RW | DELETE)])
    .doc(
        "Takes over entries that have been pending for long.",
        "O(1) if COUNT is small.",
        "6.2.0",
        "stream",
    )
    .history(&[(
        "7.0.0",
        "The reply lists deleted entries that were taken off the PEL.",
    )])
    .args(&[
        key("key", 0),
        string("group"),
        string("consumer"),
        string("min-idle-time"),
        string("start"),
        integer("count").token("COUNT").optional(),
        word("justid", "JUSTID").optional(),
    ])
    .tips(&["nondeterministic_output"]);

/// How many entries are looked at for each that may be claimed.
const ATTEMPTS: i64 = 10;

fn xautoclaim(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let now_ms = ctx.now_ms();
    let idle_min = number::parse_i64(args[4])
        .ok_or(CommandError::fixed(
            "ERR Invalid min-idle-time argument for XAUTOCLAIM",
        ))?
        .max(0);
    let start = parse_start(args[5])?;
    let (mut count, mut just_id) = (100, false);
    let mut at = 6;
    while let Some(&word) = args.get(at) {
        if is_word(word, "COUNT") && at + 1 < args.len() {
            at += 1;
            count = parse_integer(args[at])
                .ok()
                .filter(|n| (1..=i64::MAX / 16).contains(n))
                .ok_or(CommandError::fixed("ERR COUNT must be > 0"))?;
        } else if is_word(word, "JUSTID") {
            just_id = true;
        } else {
            return Err(CommandError::Syntax);
        }
        at += 1;
    }
    let key = ctx.key(args[1]);
    let count_max = usize::try_from(count).unwrap_or(usize::MAX);
    let there = ctx.shard.keyspace.get(ctx.db, key);
    let there = there.filter(|entry| entry.kind() == Type::Stream);
    let group = there.and_then(|entry| stream_of(entry.object()).group(args[2]));
    let claims = group.map_or(0, |group| group.pending().len().min(count_max));
    if ctx.is_long(claims) {
        return Ok(());
    }
    let entry = write_groups(ctx.shard, ctx.db, key)?;
    let missing = || no_key_or_group(args[1], args[2]);
    let mut entry = entry.ok_or_else(missing)?;
    let stream = stream_mut(&mut entry);
    let Some(mut group) = stream.group_mut(args[2]).map(std::mem::take) else {
        return Err(missing());
    };
    let (consumer, new_consumer) = consumer_of(&mut group, args[3], now_ms);
    let mut changes = Changes {
        new_consumer,
        entries: Vec::new(),
    };
    let mut gone = Vec::new();
    let mut claimed = Vec::new();
    let mut attempts = count.saturating_mul(ATTEMPTS);
    let mut next = Some(start);
    let mut end = None;
    while let Some(from) = next {
        let found = group.pending().range(from..).next();
        let Some((id, pending)) = found.map(|(id, pending)| (*id, *pending)) else {
            break;
        };
        if attempts == 0 || count == 0 {
            end = Some(id);
            break;
        }
        attempts -= 1;
        next = id.next();
        if !stream.contains(id) {
            drop_gone(&mut group, id, &mut changes);
            gone.push(id);
            count -= 1;
            continue;
        }
        if idle_min > 0 && now_ms - pending.delivered_at < idle_min {
            continue;
        }
        let deliveries = pending.deliveries.wrapping_add(u64::from(!just_id));
        claim(&mut group, id, consumer, now_ms, deliveries, &mut changes);
        group.consumer_mut(consumer).active_at = Some(now_ms);
        claimed.push(id);
        count -= 1;
    }
    let reply = &mut ctx.reply;
    reply.array(3);
    reply_id(reply, end.unwrap_or(StreamId::MIN));
    reply.array(claimed.len());
    for id in claimed {
        match stream.entry(id).filter(|_| !just_id) {
            Some(entry) => reply_entry(reply, &entry),
            None => reply_id(reply, id),
        }
    }
    reply.array(gone.len());
    for id in gone {
        reply_id(reply, id);
    }
    let last_id = group.last_id;
    give_back(stream, args[2], group);
    note(ctx, [args[1], args[2], args[3]], changes, last_id);
    Ok(())
}
