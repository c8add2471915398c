//! SINTER, SUNION, SDIFF, their STORE forms, and SINTERCARD.
//!
//! Results of the reading forms are written as they are found, into a buffer that the reply's length is put before. The union needs no set
//! of what was written: a member is new if none of the sets before has it.

use super::members::{Home, Owned, Rules, SetView, add, remove};
use crate::collections::listpack::Item;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::Type;
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;
use ringwood_protocol::reply::Reply;
use std::ops::ControlFlow;

/// From so many sets on, a union is collected in one set instead of looked up in all those before.
const UNION_LOOKUPS_MAX: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Inter,
    Union,
    Diff,
}

/// The sets at `keys`; an error if one is of another type. Missing ones are `None`.
fn sets<'c>(
    ctx: &'c mut Ctx<'_>,
    keys: &[&[u8]],
) -> Result<Vec<Option<SetView<'c>>>, CommandError> {
    for key in keys {
        ctx.read_typed(key, Type::Set)?;
    }
    let (shard, db) = (&*ctx.shard, ctx.db);
    let found = keys
        .iter()
        .map(|key| shard.keyspace.get(db, shard.key(key)));
    Ok(found.map(|entry| entry.map(SetView::of)).collect())
}

/// Calls `f` with each member of the intersection until it breaks: the smallest set is walked, the others are asked, the smaller first.
fn each_shared<'a>(sets: &[Option<SetView<'a>>], mut f: impl FnMut(Item<'a>) -> ControlFlow<()>) {
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<_>>>() else {
        return;
    };
    sets.sort_by_key(|set| set.len());
    let Some((first, others)) = sets.split_first() else {
        return;
    };
    let _ = first.each(|member| {
        if others.iter().all(|set| set.contains(member)) {
            f(member)?;
        }
        ControlFlow::Continue(())
    });
}

fn each_of_union<'a>(sets: &[Option<SetView<'a>>], rules: &Rules, mut f: impl FnMut(Item<'_>)) {
    let mut sets: Vec<_> = sets.iter().flatten().copied().collect();
    // The largest is not looked up at all.
    sets.sort_by_key(|set| std::cmp::Reverse(set.len()));
    if sets.len() > UNION_LOOKUPS_MAX {
        let mut all = Owned::intset();
        for set in &sets {
            set.all(|member| {
                if member.with_text(|text| add(&mut all, text, rules)) {
                    f(member);
                }
            });
        }
        return;
    }
    for (i, set) in sets.iter().enumerate() {
        set.all(|member| {
            if !sets[..i].iter().any(|before| before.contains(member)) {
                f(member);
            }
        });
    }
}

/// How a difference is found: as Redis chooses, because the encoding of a stored result depends on it.
fn removes_from_copy(sets: &[Option<SetView<'_>>]) -> bool {
    let first = sets[0].map_or(0, SetView::len);
    let each_looked_up: usize = sets.iter().flatten().map(|_| first).sum();
    let all: usize = sets.iter().flatten().map(|set| set.len()).sum();
    each_looked_up / 2 > all
}

/// The members of the first set that no other has. `same` says that another is the first one itself.
fn each_of_difference<'a>(sets: &[Option<SetView<'a>>], mut f: impl FnMut(Item<'a>)) {
    let Some(first) = sets[0] else { return };
    let mut others: Vec<_> = sets[1..].iter().flatten().copied().collect();
    // The larger a set, the likelier it has the member.
    others.sort_by_key(|set| std::cmp::Reverse(set.len()));
    first.all(|member| {
        if !others.iter().any(|set| set.contains(member)) {
            f(member);
        }
    });
}

/// The difference by removing the other sets' members from a copy of the first.
fn copy_without(sets: &[Option<SetView<'_>>], rules: &Rules) -> Owned {
    let mut copy = Owned::intset();
    if let Some(first) = sets[0] {
        first.all(|member| {
            member.with_text(|text| add(&mut copy, text, rules));
        });
    }
    for set in sets[1..].iter().flatten() {
        let _ = set.each(|member| {
            member.with_text(|text| remove(&mut copy, text));
            if copy.view().len() == 0 {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
    }
    copy
}

/// True where others should not wait for so much: see [`Ctx::is_long`].
fn is_long(ctx: &mut Ctx<'_>, keys: &[&[u8]], operation: Operation) -> bool {
    if !ctx.aside {
        return false;
    }
    let mut sizes = keys.iter().map(|key| ctx.size_of(key));
    let walked = match operation {
        Operation::Union => sizes.sum(),
        Operation::Inter => sizes.min().unwrap_or(0),
        Operation::Diff => {
            // Either the first is walked, or all are.
            let first = sizes.next().unwrap_or(0);
            first
                .saturating_mul(2)
                .min(first.saturating_add(sizes.sum()))
        }
    };
    ctx.is_long(walked)
}

fn reply(ctx: &mut Ctx<'_>, keys: &[&[u8]], operation: Operation) -> CommandResult {
    if is_long(ctx, keys, operation) {
        return Ok(());
    }
    let rules = Rules::of(ctx);
    let version = ctx.reply.version();
    let mut found = Vec::new();
    let mut count = 0;
    let mut out = Reply::new(&mut found, version);
    let sets = sets(ctx, keys)?;
    let mut write = |member: Item<'_>| {
        count += 1;
        member.reply(&mut out);
    };
    match operation {
        Operation::Inter => each_shared(&sets, |member| {
            write(member);
            ControlFlow::Continue(())
        }),
        Operation::Union => each_of_union(&sets, &rules, write),
        Operation::Diff if keys[1..].contains(&keys[0]) => {}
        Operation::Diff if removes_from_copy(&sets) => {
            copy_without(&sets, &rules).view().all(write)
        }
        Operation::Diff => each_of_difference(&sets, write),
    }
    ctx.reply.set(count);
    ctx.reply.raw(&found);
    Ok(())
}

fn store(
    ctx: &mut Ctx<'_>,
    args: Args<'_>,
    operation: Operation,
    event: &'static str,
) -> CommandResult {
    let (destination, keys) = (args[1], &args[2..]);
    if is_long(ctx, keys, operation) {
        return Ok(());
    }
    let rules = Rules::of(ctx);
    let sets = sets(ctx, keys)?;
    let mut result = Owned::intset();
    let mut keep = |member: Item<'_>| {
        member.with_text(|text| add(&mut result, text, &rules));
    };
    match operation {
        Operation::Inter => {
            let mut ordered: Vec<_> = sets.iter().flatten().copied().collect();
            ordered.sort_by_key(|set| set.len());
            if !matches!(ordered.first(), Some(SetView::Intset(_))) {
                result = Owned::listpack();
            }
            each_shared(&sets, |member| {
                member.with_text(|text| add(&mut result, text, &rules));
                ControlFlow::Continue(())
            });
            result = result.intset_if_fits(&rules);
        }
        Operation::Union => sets.iter().flatten().for_each(|set| set.all(&mut keep)),
        Operation::Diff if keys[1..].contains(&keys[0]) => {}
        Operation::Diff if removes_from_copy(&sets) => result = copy_without(&sets, &rules),
        Operation::Diff => each_of_difference(&sets, keep),
    }
    let len = result.view().len();
    if len > 0 {
        result.store(ctx, destination);
        ctx.modified(destination, notify::SET, event);
    } else if ctx.remove(destination) {
        ctx.modified(destination, notify::GENERIC, "del");
    }
    ctx.reply.integer(len as i64);
    Ok(())
}

pub const SINTER: Command<Handler> = command("SINTER", at_least(2), sinter as Handler)
    .flags(READONLY)
    .acl(acl::SET)
    .keys(&[at(1).range(-1, 1, 0).flags(RO | ACCESS)])
    .doc("Lists the members that all sets share.", "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.", "1.0.0", "set")
    .args(&[key("key", 0).multiple()])
    .tips(&["nondeterministic_output_order"]);

fn sinter(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    reply(ctx, &args[1..], Operation::Inter)
}

pub const SUNION: Command<Handler> = command("SUNION", at_least(2), sunion as Handler)
    .flags(READONLY)
    .acl(acl::SET)
    .keys(&[at(1).range(-1, 1, 0).flags(RO | ACCESS)])
    .doc(
        "Lists the members of all the sets.",
        "O(N) where N is the total number of elements in all given sets.",
        "1.0.0",
        "set",
    )
    .args(&[key("key", 0).multiple()])
    .tips(&["nondeterministic_output_order"]);

fn sunion(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    reply(ctx, &args[1..], Operation::Union)
}

pub const SDIFF: Command<Handler> = command("SDIFF", at_least(2), sdiff as Handler)
    .flags(READONLY)
    .acl(acl::SET)
    .keys(&[at(1).range(-1, 1, 0).flags(RO | ACCESS)])
    .doc(
        "Lists members of the first set that the others lack.",
        "O(N) where N is the total number of elements in all given sets.",
        "1.0.0",
        "set",
    )
    .args(&[key("key", 0).multiple()])
    .tips(&["nondeterministic_output_order"]);

fn sdiff(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    reply(ctx, &args[1..], Operation::Diff)
}

pub const SINTERSTORE: Command<Handler> = command(
    "SINTERSTORE",
    at_least(3),
    sinterstore as Handler,
)
.flags(WRITE | DENYOOM)
.acl(acl::SET)
.keys(&[
    at(1).flags(OW | UPDATE),
    at(2).range(-1, 1, 0).flags(RO | ACCESS),
])
.doc(
    "Writes the intersection of sets to a key.",
    "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
    "1.0.0",
    "set",
)
.args(&[key("destination", 0), key("key", 1).multiple()]);

fn sinterstore(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    store(ctx, args, Operation::Inter, "sinterstore")
}

pub const SUNIONSTORE: Command<Handler> =
    command("SUNIONSTORE", at_least(3), sunionstore as Handler)
        .flags(WRITE | DENYOOM)
        .acl(acl::SET)
        .keys(&[
            at(1).flags(OW | UPDATE),
            at(2).range(-1, 1, 0).flags(RO | ACCESS),
        ])
        .doc(
            "Writes the union of sets to a key.",
            "O(N) where N is the total number of elements in all given sets.",
            "1.0.0",
            "set",
        )
        .args(&[key("destination", 0), key("key", 1).multiple()]);

fn sunionstore(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    store(ctx, args, Operation::Union, "sunionstore")
}

pub const SDIFFSTORE: Command<Handler> = command("SDIFFSTORE", at_least(3), sdiffstore as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::SET)
    .keys(&[
        at(1).flags(OW | UPDATE),
        at(2).range(-1, 1, 0).flags(RO | ACCESS),
    ])
    .doc(
        "Writes the difference of sets to a key.",
        "O(N) where N is the total number of elements in all given sets.",
        "1.0.0",
        "set",
    )
    .args(&[key("destination", 0), key("key", 1).multiple()]);

fn sdiffstore(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    store(ctx, args, Operation::Diff, "sdiffstore")
}

pub const SINTERCARD: Command<Handler> = command("SINTERCARD", at_least(3), sintercard as Handler)
    .flags(READONLY | MOVABLEKEYS)
    .acl(acl::SET)
    .keys(&[at(1).keynum(0, 1, 1).flags(RO | ACCESS)])
    .doc("Counts the members that all sets share.", "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.", "7.0.0", "set")
    .args(&[integer("numkeys"), key("key", 0).multiple(), integer("limit").token("LIMIT").optional()]);

fn sintercard(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let count = parse_i64(args[1]).filter(|&n| n > 0);
    let count = count.ok_or(CommandError::fixed("ERR numkeys should be greater than 0"))?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > args.len() - 2 {
        return Err(CommandError::fixed(
            "ERR Number of keys can't be greater than number of args",
        ));
    }
    let (keys, options) = args[2..].split_at(count);
    let mut limit = 0;
    for pair in options.chunks(2) {
        match *pair {
            [name, value] if name.eq_ignore_ascii_case(b"LIMIT") => {
                limit = (parse_i64(value).filter(|&n| n >= 0))
                    .ok_or(CommandError::fixed("ERR LIMIT can't be negative"))?;
            }
            _ => return Err(CommandError::Syntax),
        }
    }
    if is_long(ctx, keys, Operation::Inter) {
        return Ok(());
    }
    let mut shared = 0;
    each_shared(&sets(ctx, keys)?, |_| {
        shared += 1;
        if shared == limit {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    ctx.reply.integer(shared);
    Ok(())
}
