//! XPENDING.

use super::{is_word, no_key_or_group, parse_end, parse_integer, parse_start, read, reply_id};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const XPENDING: Command<Handler> = command("XPENDING", at_least(3), xpending as Handler)
    .flags(READONLY)
    .acl(acl::STREAM)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Shows entries delivered to a group and not yet acknowledged.", "O(N) with N being the number of elements returned, so asking for a small fixed number of entries per call is O(1). O(M), where M is the total number of entries scanned when used with the IDLE filter. When the command returns just the summary and the list of consumers is small, it runs in O(1) time; otherwise, an additional O(N) time for iterating every consumer.", "5.0.0", "stream")
    .history(&[("6.2.0", "Option `IDLE`, and ranges without their ends.")])
    .args(&[key("key", 0), string("group"), block("filters", &[integer("min-idle-time").token("IDLE").since("6.2.0").optional(), string("start"), string("end"), integer("count"), string("consumer").optional()]).optional()])
    .tips(&["nondeterministic_output"]);

fn xpending(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    match args.len() {
        3 => summary(ctx, args),
        6..=9 => list(ctx, args),
        _ => Err(CommandError::Syntax),
    }
}

/// How much is pending, from where to where, and for whom.
fn summary(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    let group = read(ctx.shard, ctx.db, key)?.and_then(|stream| stream.group(args[2]));
    let Some(group) = group else {
        return Err(no_key_or_group(args[1], args[2]));
    };
    let reply = &mut ctx.reply;
    let pending = group.pending();
    reply.array(4);
    reply.integer(pending.len() as i64);
    let (Some((first, _)), Some((last, _))) = (pending.first_key_value(), pending.last_key_value())
    else {
        reply.null();
        reply.null();
        reply.null_array();
        return Ok(());
    };
    reply_id(reply, *first);
    reply_id(reply, *last);
    let busy = || group.consumers().filter(|c| !c.pending().is_empty());
    reply.array(busy().count());
    for consumer in busy() {
        reply.array(2);
        reply.bulk(&consumer.name);
        reply.bulk_integer(consumer.pending().len() as i64);
    }
    Ok(())
}

/// Pending entries one by one.
fn list(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (mut at, mut idle_min) = (3, 0);
    if is_word(args[3], "IDLE") {
        idle_min = parse_integer(args[4])?;
        if args.len() < 8 {
            return Err(CommandError::Syntax);
        }
        at = 5;
    }
    let count = u64::try_from(parse_integer(args[at + 2])?).unwrap_or(0);
    let (start, end) = (parse_start(args[at])?, parse_end(args[at + 1])?);
    let consumer = args.get(at + 3);
    let (now_ms, most) = (ctx.now_ms(), ctx.reads_max() / 4);
    let key = ctx.key(args[1]);
    let group = read(ctx.shard, ctx.db, key)?.and_then(|stream| stream.group(args[2]));
    let Some(group) = group else {
        return Err(no_key_or_group(args[1], args[2]));
    };
    // Who asks for idle ones may look at all to find a few.
    let looks = match idle_min > 0 {
        true => group.pending().len() / 4,
        false => group
            .pending()
            .len()
            .min(usize::try_from(count).unwrap_or(usize::MAX)),
    };
    if looks > most {
        return ctx.step_aside();
    }
    let reply = &mut ctx.reply;
    let consumer = match consumer.map(|name| group.find_consumer(name)) {
        None => None,
        Some(Some(id)) => Some(group.consumer(id)),
        Some(None) => {
            reply.array(0);
            return Ok(());
        }
    };
    if start > end || count == 0 {
        reply.array(0);
        return Ok(());
    }
    let open = reply.begin_array(count.min(group.pending().len() as u64) as usize);
    let mut written = 0;
    let mut write = |id, pending: &crate::collections::stream::Pending| {
        let idle = now_ms.saturating_sub(pending.delivered_at);
        if idle_min != 0 && idle < idle_min {
            return true;
        }
        reply.array(4);
        reply_id(reply, id);
        reply.bulk(&group.consumer(pending.consumer).name);
        reply.integer(idle.max(0));
        reply.integer(pending.deliveries as i64);
        written += 1;
        written < count
    };
    match consumer {
        Some(consumer) => {
            for id in consumer.pending().range(start..=end) {
                if let Some(pending) = group.pending().get(id)
                    && !write(*id, pending)
                {
                    break;
                }
            }
        }
        None => {
            for (id, pending) in group.pending().range(start..=end) {
                if !write(*id, pending) {
                    break;
                }
            }
        }
    }
    reply.end_array(open, written as usize);
    Ok(())
}
