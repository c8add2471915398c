//! HRANDFIELD.

use super::value::{self, Body, View};
use crate::collections::listpack::{self, Item};
use crate::collections::timed_listpack;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;
use ringwood_protocol::reply::Reply;
use std::collections::HashSet;

pub const HRANDFIELD: Command<Handler> = command("HRANDFIELD", at_least(2), hrandfield as Handler)
    .flags(READONLY)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc(
        "Returns random fields of a hash.",
        "O(N) where N is the number of fields returned",
        "6.2.0",
        "hash",
    )
    .args(&[
        key("key", 0),
        block(
            "options",
            &[
                integer("count"),
                word("withvalues", "WITHVALUES").optional(),
            ],
        )
        .optional(),
    ])
    .tips(&["nondeterministic_output"]);

type Pair<'a> = (Item<'a>, Item<'a>);

fn hrandfield(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let mut with_values = false;
    let mut count = None;
    if let Some(word) = args.get(2) {
        let n = parse_i64(word).ok_or(CommandError::NotInteger)?;
        if n == i64::MIN {
            return Err(CommandError::fixed(
                "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
            ));
        }
        with_values = match &args[3..] {
            [] => false,
            [word] if word.eq_ignore_ascii_case(b"WITHVALUES") => true,
            _ => return Err(CommandError::Syntax),
        };
        if with_values && n.unsigned_abs() > i64::MAX as u64 / 2 {
            return Err(CommandError::OutOfRange);
        }
        count = Some(n);
    }
    let key = ctx.key(args[1]);
    let mut state = ctx.shard.random() | 1;
    // The shard's own generator is not at hand while the hash is looked at.
    let mut random = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    let hash = value::view(ctx.shard, ctx.db, key)?;
    let reply = &mut ctx.reply;
    let (Some(hash), Some(count)) = (hash, count) else {
        match hash {
            Some(hash) => match pick(hash, hash.live_len(), &mut random) {
                Some((field, _)) => field.reply(reply),
                None => reply.null(),
            },
            None if count.is_some() => reply.array(0),
            None => reply.null(),
        }
        return Ok(());
    };
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let nested = with_values && reply.is_resp3();
    let head = |reply: &mut Reply<'_>, len: usize| {
        reply.array(if with_values && !nested { 2 * len } else { len });
    };
    let give = |reply: &mut Reply<'_>, (field, value): Pair<'_>| {
        if nested {
            reply.array(2);
        }
        field.reply(reply);
        if with_values {
            value.reply(reply);
        }
    };
    let len = hash.live_len();
    if len == 0 {
        reply.array(0);
    } else if count < 0 {
        // The same field may come up again.
        head(reply, wanted);
        for _ in 0..wanted {
            if let Some(pair) = pick(hash, len, &mut random) {
                give(reply, pair);
            }
        }
    } else if wanted >= len {
        head(reply, len);
        hash.each(|field, value| give(reply, (field, value)));
    } else if let (Body::Table(_), true) = (hash.body, wanted < len / 3) {
        let mut seen = HashSet::new();
        head(reply, wanted);
        while seen.len() < wanted {
            if let Some(pair) = pick(hash, len, &mut random)
                && let Item::Bytes(field) = pair.0
                && seen.insert(field)
            {
                give(reply, pair);
            }
        }
    } else {
        let mut all = Vec::with_capacity(len);
        hash.each(|field, value| all.push((field, value)));
        head(reply, wanted);
        for i in 0..wanted {
            let left = (all.len() - i) as u128;
            let other = i + ((random() as u128 * left) >> 64) as usize;
            all.swap(i, other);
            give(reply, all[i]);
        }
    }
    Ok(())
}

/// One of the `len` fields that have not expired, with its value; `None` if there is none.
fn pick<'a>(hash: View<'a>, len: usize, random: &mut impl FnMut() -> u64) -> Option<Pair<'a>> {
    if len == 0 {
        return None;
    }
    let index = |random: &mut dyn FnMut() -> u64| ((random() as u128 * len as u128) >> 64) as usize;
    match hash.body {
        Body::Packed(lp) => {
            let at = listpack::nth(lp, 2 * index(random) as i64)?;
            Some((
                listpack::get(lp, at),
                listpack::get(lp, listpack::next(lp, at)?),
            ))
        }
        Body::Timed(lp, _) => {
            let skipped = timed_listpack::len(lp) - len;
            let at = listpack::nth(lp, 3 * (skipped + index(random)) as i64)?;
            let triple = timed_listpack::get(lp, at)?;
            Some((triple.field, triple.value))
        }
        Body::Table(table) => {
            let mut found = table.random(&mut *random)?;
            // Where most have expired and were not removed yet, chance is given up for a walk.
            let mut tries = 0;
            while hash.is_over(found.expire_at) {
                if tries == 100 {
                    let mut live = table.iter().filter(|item| !hash.is_over(item.expire_at));
                    found = live.nth(index(random))?;
                    break;
                }
                found = table.random(&mut *random)?;
                tries += 1;
            }
            Some((Item::Bytes(found.key), Item::Bytes(found.value)))
        }
    }
}
