//! LSET, LINSERT, LREM.

use super::value;
use crate::collections::listpack::{self, Needle};
use crate::collections::quicklist::End;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;

pub const LSET: Command<Handler> = command("LSET", exactly(4), lset as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::LIST)
    .keys(&[at(1).flags(RW | UPDATE)])
    .doc("Replaces the element at an index.", "O(N) where N is the length of the list. Setting either the first or the last element of the list is O(1).", "1.0.0", "list")
    .args(&[key("key", 0), integer("index"), string("element")]);

pub const LINSERT: Command<Handler> = command("LINSERT", exactly(5), linsert as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::LIST)
    .keys(&[at(1).flags(RW | INSERT)])
    .doc("Puts an element before or after another one.", "O(N) where N is the number of elements to traverse before seeing the value pivot. This means that inserting somewhere on the left end on the list (head) can be considered O(1) and inserting somewhere on the right end (tail) is O(N).", "2.2.0", "list")
    .args(&[key("key", 0), one_of("where", &[word("before", "BEFORE"), word("after", "AFTER")]), string("pivot"), string("element")]);

pub const LREM: Command<Handler> = command("LREM", exactly(4), lrem as Handler)
    .flags(WRITE)
    .acl(acl::LIST)
    .keys(&[at(1).flags(RW | DELETE)])
    .doc(
        "Removes elements equal to a value.",
        "O(N+M) where N is the length of the list and M is the number of elements removed.",
        "1.0.0",
        "list",
    )
    .args(&[key("key", 0), integer("count"), string("element")]);

fn lset(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (name, new) = (args[1], args[3]);
    let Some(mut list) = value::write(ctx, name)? else {
        return Err(CommandError::NoSuchKey);
    };
    let index = parse_i64(args[2]).ok_or(CommandError::NotInteger)?;
    list.grow(new.len(), 1);
    let len = list.len();
    let index = if index < 0 { len as i64 + index } else { index };
    let index = usize::try_from(index)
        .ok()
        .filter(|&i| i < len)
        .ok_or(CommandError::fixed("ERR index out of range"))?;
    if let Some(large) = list.large_mut() {
        if let Some(place) = large.place(index) {
            large.replace(place, new);
        }
        list.shrink();
    } else if let Some(at) = listpack::nth(list.entry.bytes(), index as i64) {
        listpack::replace(&mut list.entry, at, new);
    }
    ctx.modified(name, notify::LIST, "lset");
    ctx.reply.ok();
    Ok(())
}

fn linsert(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (name, pivot, new) = (args[1], args[3], args[4]);
    let after = if args[2].eq_ignore_ascii_case(b"AFTER") {
        true
    } else if args[2].eq_ignore_ascii_case(b"BEFORE") {
        false
    } else {
        return Err(CommandError::Syntax);
    };
    if value::is_far(ctx, name, pivot, 1, End::Front) {
        return ctx.step_aside();
    }
    let Some(mut list) = value::write(ctx, name)? else {
        ctx.reply.integer(0);
        return Ok(());
    };
    list.grow(new.len(), 1);
    let inserted = if let Some(large) = list.large_mut() {
        let needle = Needle::new(pivot);
        let mut iter = large.iter();
        let place = loop {
            match iter.next_placed() {
                Some((place, item)) if needle.matches(item) => break Some(place),
                Some(_) => {}
                None => break None,
            }
        };
        place.map(|place| large.insert(place, new, after))
    } else {
        let lp = list.entry.bytes();
        let found = listpack::find(lp, listpack::HEADER, pivot, 0);
        let at = found.map(|at| {
            if after {
                listpack::next(lp, at).unwrap_or(listpack::end(lp))
            } else {
                at
            }
        });
        at.map(|at| listpack::insert(&mut list.entry, at, new))
    };
    if inserted.is_none() {
        ctx.reply.integer(-1);
        return Ok(());
    }
    let len = list.len();
    ctx.modified(name, notify::LIST, "linsert");
    ctx.reply.integer(len as i64);
    Ok(())
}

fn lrem(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (name, unwanted) = (args[1], args[3]);
    let count = parse_i64(args[2]).ok_or(CommandError::NotInteger)?;
    if count == i64::MIN {
        return Err(value::out_of_symmetric_range());
    }
    let from = if count < 0 { End::Back } else { End::Front };
    let max = match count {
        0 => usize::MAX,
        _ => usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX),
    };
    if value::is_far(ctx, name, unwanted, max, from) {
        return ctx.step_aside();
    }
    let Some(mut list) = value::write(ctx, name)? else {
        ctx.reply.integer(0);
        return Ok(());
    };
    let removed = match list.large_mut() {
        Some(large) => large.remove_equal(unwanted, max, from),
        None => remove_packed(&mut list.entry, unwanted, max, from),
    };
    if removed > 0 {
        value::removed(ctx, name, "lrem");
    }
    ctx.reply.integer(removed as i64);
    Ok(())
}

fn remove_packed(lp: &mut impl listpack::Splice, unwanted: &[u8], max: usize, from: End) -> usize {
    let needle = Needle::new(unwanted);
    let mut removed = 0;
    let mut at = match from {
        End::Front => listpack::first(lp.bytes()),
        End::Back => listpack::last(lp.bytes()),
    };
    while let Some(position) = at
        && removed < max
    {
        if !needle.matches(listpack::get(lp.bytes(), position)) {
            at = match from {
                End::Front => listpack::next(lp.bytes(), position),
                End::Back => listpack::prev(lp.bytes(), position),
            };
            continue;
        }
        listpack::delete(lp, position, 1);
        removed += 1;
        at = match from {
            End::Front => Some(position).filter(|&p| p < listpack::end(lp.bytes())),
            End::Back => listpack::prev(lp.bytes(), position),
        };
    }
    removed
}
