//! SPOP and SRANDMEMBER.

use super::members::{Home, Owned, Rules, SetView, add, remove};
use super::removed;
use crate::collections::listpack::Item;
use crate::commands::repeats;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::Type;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;
use std::collections::HashSet;

/// A set of which less than one member in so many stays after SPOP is made anew from what stays.
const REMAKE: usize = 5;
/// Members to a logged SREM.
const LOG_BATCH: usize = 1024;

pub const SPOP: Command<Handler> = command("SPOP", at_least(2), spop as Handler)
    .flags(WRITE | FAST)
    .acl(acl::SET)
    .keys(&[at(1).flags(RW | ACCESS | DELETE)])
    .doc(
        "Removes and returns random members of a set.",
        "Without the count argument O(1), otherwise O(N) where N is the value of the passed count.",
        "1.0.0",
        "set",
    )
    .history(&[("3.2.0", "Argument `count`.")])
    .args(&[key("key", 0), integer("count").since("3.2.0").optional()])
    .tips(&["nondeterministic_output"]);

fn spop(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    if args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    let count = args.get(2).map(|word| positive(word)).transpose()?;
    if count.is_some_and(|count| ctx.is_long_at(args[1], count, 1)) {
        return Ok(());
    }
    let Some(entry) = ctx.write_typed(args[1], Type::Set)? else {
        match count {
            Some(_) => ctx.reply.set(0),
            None => ctx.reply.null(),
        }
        return Ok(());
    };
    let size = entry.view().len();
    match count {
        None => pop_one(ctx, args[1], size),
        Some(0) => ctx.reply.set(0),
        Some(count) if count >= size => {
            let key = ctx.key(args[1]);
            if let Some(entry) = ctx.shard.keyspace.get(ctx.db, key) {
                ctx.reply.set(size);
                SetView::of(entry).all(|member| member.reply(&mut ctx.reply));
            }
            ctx.remove(args[1]);
            removed(ctx, args[1], "spop", true);
            ctx.shard.stats.dirty += size as u64 - 1;
            ctx.log_as(&[b"DEL", args[1]]);
        }
        Some(count) => pop_some(ctx, args[1], size, count),
    }
    Ok(())
}

fn pop_one(ctx: &mut Ctx<'_>, key: &[u8], size: usize) {
    let at = ctx.shard.random();
    let mut random = Chance(at | 1);
    let Some(mut entry) = ctx.write(key) else {
        return;
    };
    let Some(member) = entry.view().random(&mut |n| random.below(n)) else {
        return;
    };
    let member = member.to_vec();
    remove(&mut entry, &member);
    if size == 1 {
        entry.remove();
    }
    removed(ctx, key, "spop", size == 1);
    ctx.log_as(&[b"SREM", key, &member]);
    ctx.reply.bulk(&member);
}

fn pop_some(ctx: &mut Ctx<'_>, key: &[u8], size: usize, count: usize) {
    let rules = Rules::of(ctx);
    let mut random = Chance(ctx.shard.random() | 1);
    let remaining = size - count;
    let mut popped: Vec<Vec<u8>> = Vec::with_capacity(count);
    if let Some(mut entry) = ctx.write(key) {
        if entry.encoding() != crate::object::Encoding::Hashtable || remaining * REMAKE <= count {
            // In one pass: of those left to see, so many are still to be taken.
            let intset = matches!(entry.view(), SetView::Intset(_));
            let mut rest = if intset {
                Owned::intset()
            } else {
                Owned::listpack()
            };
            let (mut left, mut wanted) = (size, count);
            entry.view().all(|member| {
                if random.below(left) < wanted {
                    wanted -= 1;
                    popped.push(member.to_vec());
                } else {
                    member.with_text(|text| add(&mut rest, text, &rules));
                }
                left -= 1;
            });
            match rest {
                Owned::Packed(encoding, bytes) => entry.put_bytes(encoding, bytes),
                Owned::Table(table) => entry.put_table(*table),
            }
        } else {
            while popped.len() < count {
                let Some(member) = entry.view().random(&mut |n| random.below(n)) else {
                    break;
                };
                let member = member.to_vec();
                remove(&mut entry, &member);
                popped.push(member);
            }
        }
    }
    removed(ctx, key, "spop", false);
    ctx.shard.stats.dirty += count as u64 - 1;
    ctx.reply.set(popped.len());
    for member in &popped {
        ctx.reply.bulk(member);
    }
    if ctx.shard.logging {
        for batch in popped.chunks(LOG_BATCH) {
            let mut words: Vec<&[u8]> = vec![b"SREM", key];
            words.extend(batch.iter().map(Vec::as_slice));
            ctx.log_as(&words);
        }
    }
}

pub const SRANDMEMBER: Command<Handler> = command("SRANDMEMBER", at_least(2), srandmember as Handler)
    .flags(READONLY)
    .acl(acl::SET)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Returns random members of a set.", "Without the count argument O(1), otherwise O(N) where N is the absolute value of the passed count.", "1.0.0", "set")
    .history(&[("2.6.0", "Argument `count`.")])
    .args(&[key("key", 0), integer("count").since("2.6.0").optional()])
    .tips(&["nondeterministic_output"]);

fn srandmember(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    if args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    let count = args.get(2).map(|word| any_count(word)).transpose()?;
    if count.is_some_and(|count| ctx.is_long_by_chance(args[1], count)) {
        return Ok(());
    }
    let mut random = Chance(ctx.shard.random() | 1);
    let mut below = |n| random.below(n);
    ctx.read_typed(args[1], Type::Set)?;
    let key = ctx.key(args[1]);
    let Some(set) = ctx.shard.keyspace.get(ctx.db, key).map(SetView::of) else {
        match count {
            Some(_) => ctx.reply.array(0),
            None => ctx.reply.null(),
        }
        return Ok(());
    };
    let Some(count) = count else {
        if let Some(member) = set.random(&mut below) {
            member.reply(&mut ctx.reply);
        }
        return Ok(());
    };
    let size = set.len();
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 {
        let wanted = repeats::number(count)?;
        let mark = ctx.reply.mark();
        ctx.reply.array(wanted);
        return repeats::write(&mut ctx.reply, mark, wanted, |reply| {
            if let Some(member) = set.random(&mut below) {
                member.reply(reply);
            }
        });
    }
    let mut wanted = wanted.min(size);
    ctx.reply.array(wanted);
    if matches!(set, SetView::Table(_)) && wanted * 3 < size {
        let mut seen: HashSet<Vec<u8>> = HashSet::with_capacity(wanted);
        while seen.len() < wanted {
            let Some(member) = set.random(&mut below).map(Item::to_vec) else {
                break;
            };
            if !seen.contains(&member) {
                ctx.reply.bulk(&member);
                seen.insert(member);
            }
        }
        return Ok(());
    }
    let mut left = size;
    set.all(|member| {
        if wanted > 0 && below(left) < wanted {
            wanted -= 1;
            member.reply(&mut ctx.reply);
        }
        left -= 1;
    });
    Ok(())
}

/// Random numbers from a seed that the shard gave: for use while the shard's keys are borrowed (splitmix64).
struct Chance(u64);

impl Chance {
    #[inline]
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) as u128 * n as u128) >> 64) as usize
    }
}

fn positive(word: &[u8]) -> Result<usize, CommandError> {
    let n = parse_i64(word).and_then(|n| usize::try_from(n).ok());
    n.ok_or(CommandError::fixed(
        "ERR value is out of range, must be positive",
    ))
}

fn any_count(word: &[u8]) -> Result<i64, CommandError> {
    match parse_i64(word).ok_or(CommandError::NotInteger)? {
        i64::MIN => Err(CommandError::fixed(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        )),
        n => Ok(n),
    }
}
