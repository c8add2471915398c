//! HRANDFIELD.

use super::value::{self, Body, View};
use crate::collections::listpack::{self, Item};
use crate::collections::timed_listpack;
use crate::commands::repeats;
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
    if count.is_some_and(|count| ctx.is_long_by_chance(args[1], count)) {
        return Ok(());
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
        match hash.and_then(|hash| Picker::new(hash).pick(&mut random)) {
            Some((field, _)) => field.reply(reply),
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
    let mut picker = Picker::new(hash);
    if count < 0 {
        // The same field may come up again.
        let Some(first) = picker.pick(&mut random) else {
            reply.array(0);
            return Ok(());
        };
        let wanted = repeats::number(count)?;
        let mark = reply.mark();
        head(reply, wanted);
        give(reply, first);
        return repeats::write(reply, mark, wanted.saturating_sub(1), |reply| {
            if let Some(pair) = picker.pick(&mut random) {
                give(reply, pair);
            }
        });
    } else if !hash.any_expired() && wanted >= hash.len() {
        head(reply, hash.len());
        hash.each(|field, value| give(reply, (field, value)));
    } else if let (Body::Table(_), true) = (hash.body, wanted < picker.len / 3) {
        let (mut seen, mut chosen) = (HashSet::new(), Vec::with_capacity(wanted));
        // At least every third is a new one: so many tries never fall short.
        for _ in 0..100 * wanted {
            if chosen.len() == wanted {
                break;
            }
            if let Some(pair) = picker.pick(&mut random)
                && let Item::Bytes(field) = pair.0
                && seen.insert(field)
            {
                chosen.push(pair);
            }
        }
        head(reply, chosen.len());
        chosen.into_iter().for_each(|pair| give(reply, pair));
    } else {
        let mut all = live(hash);
        let wanted = wanted.min(all.len());
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

/// All fields that have not expired.
fn live(hash: View<'_>) -> Vec<Pair<'_>> {
    let mut all = Vec::with_capacity(hash.len());
    hash.each(|field, value| all.push((field, value)));
    all
}

/// Picks fields at random, some perhaps several times.
struct Picker<'a> {
    hash: View<'a>,
    /// How many fields there are to pick from: exactly in a packed hash, about in a table.
    len: usize,
    /// All of them, where chance finds them too seldom.
    live: Option<Vec<Pair<'a>>>,
}

impl<'a> Picker<'a> {
    fn new(hash: View<'a>) -> Self {
        let len = match hash.body {
            Body::Timed(lp, first) => timed_listpack::iter_from(lp, first).count(),
            Body::Table(table) => hash.len() - table.expired_len(hash.now_ms()),
            Body::Packed(_) => hash.len(),
        };
        let live = None;
        Self { hash, len, live }
    }

    /// `None` if there are none.
    fn pick(&mut self, random: &mut impl FnMut() -> u64) -> Option<Pair<'a>> {
        let below = |n: usize, random: u64| ((random as u128 * n as u128) >> 64) as usize;
        let hash = self.hash;
        match hash.body {
            _ if self.len == 0 => None,
            Body::Packed(lp) => {
                let at = listpack::nth(lp, 2 * below(self.len, random()) as i64)?;
                let value = listpack::next(lp, at)?;
                Some((listpack::get(lp, at), listpack::get(lp, value)))
            }
            Body::Timed(lp, _) => {
                let skipped = timed_listpack::len(lp) - self.len;
                let at = listpack::nth(lp, 3 * (skipped + below(self.len, random())) as i64)?;
                let triple = timed_listpack::get(lp, at)?;
                Some((triple.field, triple.value))
            }
            Body::Table(table) => {
                // Where nearly all have expired and were not removed yet, chance is given up.
                const TRIES: usize = 100;
                if self.live.is_none() {
                    for _ in 0..TRIES {
                        let found = table.random(&mut *random)?;
                        if !hash.is_over(found.expire_at) {
                            return Some((Item::Bytes(found.key), Item::Bytes(found.value)));
                        }
                    }
                }
                let live = self.live.get_or_insert_with(|| live(hash));
                live.get(below(live.len(), random())).copied()
            }
        }
    }
}
