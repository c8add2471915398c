//! SADD, SREM and SMOVE.

use super::members::{Owned, Rules, add, expect, remove};
use super::removed;
use crate::commands::set::members::{Home, SetView};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::Type;
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const SADD: Command<Handler> = command("SADD", at_least(3), sadd as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::SET)
    .keys(&[at(1).flags(RW | INSERT)])
    .element(2)
    .doc("Adds members to a set, which is made if missing.", "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.", "1.0.0", "set")
    .history(&[("2.4.0", "Takes any number of `member` arguments.")])
    .args(&[key("key", 0), string("member").multiple()]);

fn sadd(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let rules = Rules::of(ctx);
    let members = &args[2..];
    let added = match ctx.write_typed(args[1], Type::Set)? {
        Some(mut entry) => {
            expect(&mut entry, members.len(), &rules);
            members
                .iter()
                .filter(|m| add(&mut entry, m, &rules))
                .count()
        }
        None => {
            let mut set = Owned::begin(members[0], members.len(), &rules);
            let added = members.iter().filter(|m| add(&mut set, m, &rules)).count();
            set.store(ctx, args[1]);
            added
        }
    };
    if added > 0 {
        ctx.modified(args[1], notify::SET, "sadd");
        ctx.shard.stats.dirty += added as u64 - 1;
    }
    ctx.reply.integer(added as i64);
    Ok(())
}

pub const SREM: Command<Handler> = command("SREM", at_least(3), srem as Handler)
    .flags(WRITE | FAST)
    .acl(acl::SET)
    .keys(&[at(1).flags(RW | DELETE)])
    .element(2)
    .doc(
        "Removes members from a set.",
        "O(N) where N is the number of members to be removed.",
        "1.0.0",
        "set",
    )
    .history(&[("2.4.0", "Takes any number of `member` arguments.")])
    .args(&[key("key", 0), string("member").multiple()]);

fn srem(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let Some(mut entry) = ctx.write_typed(args[1], Type::Set)? else {
        ctx.reply.integer(0);
        return Ok(());
    };
    let (mut gone, mut empty) = (0, false);
    for member in &args[2..] {
        if remove(&mut entry, member) {
            gone += 1;
            empty = entry.view().len() == 0;
            if empty {
                break;
            }
        }
    }
    if empty {
        entry.remove();
    }
    if gone > 0 {
        removed(ctx, args[1], "srem", empty);
        ctx.shard.stats.dirty += gone - 1;
    }
    ctx.reply.integer(gone as i64);
    Ok(())
}

pub const SMOVE: Command<Handler> = command("SMOVE", exactly(4), smove as Handler)
    .flags(WRITE | FAST)
    .acl(acl::SET)
    .keys(&[at(1).flags(RW | ACCESS | DELETE), at(2).flags(RW | INSERT)])
    .element(3)
    .doc(
        "Moves a member from one set to another.",
        "O(1)",
        "1.0.0",
        "set",
    )
    .args(&[key("source", 0), key("destination", 1), string("member")]);

fn smove(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (source, destination, member) = (args[1], args[2], args[3]);
    let rules = Rules::of(ctx);
    let kind_of = |ctx: &mut Ctx<'_>, key| ctx.write(key).map(|entry| entry.kind());
    let Some(kind) = kind_of(ctx, source) else {
        ctx.reply.integer(0);
        return Ok(());
    };
    let other = kind_of(ctx, destination);
    if kind != Type::Set || other.is_some_and(|kind| kind != Type::Set) {
        return Err(CommandError::WrongType);
    }
    let Some(mut entry) = ctx.write(source) else {
        return Ok(());
    };
    if source == destination {
        let there = SetView::of(entry.get()).has(member);
        ctx.reply.integer(there as i64);
        return Ok(());
    }
    if !remove(&mut entry, member) {
        ctx.reply.integer(0);
        return Ok(());
    }
    let empty = entry.view().len() == 0;
    if empty {
        entry.remove();
    }
    removed(ctx, source, "srem", empty);
    let added = match ctx.write(destination) {
        Some(mut entry) => add(&mut entry, member, &rules),
        None => {
            let mut set = Owned::begin(member, 1, &rules);
            add(&mut set, member, &rules);
            set.store(ctx, destination);
            true
        }
    };
    if added {
        ctx.modified(destination, notify::SET, "sadd");
    }
    ctx.reply.integer(1);
    if ctx.are_logged_apart(source, destination) {
        ctx.log_as(&[b"SREM", source, member]);
        ctx.log_as(&[b"SADD", destination, member]);
    }
    Ok(())
}
