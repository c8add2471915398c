//! SISMEMBER, SMISMEMBER, SCARD and SMEMBERS.

use super::members::SetView;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::Type;
use ringwood_protocol::command::*;

pub const SISMEMBER: Command<Handler> = command("SISMEMBER", exactly(3), sismember as Handler)
    .flags(READONLY | FAST)
    .acl(acl::SET)
    .keys(&[at(1).flags(RO)])
    .element(2)
    .doc("Tells whether a set has a member.", "O(1)", "1.0.0", "set")
    .args(&[key("key", 0), string("member")]);

fn sismember(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let set = ctx.read_typed(args[1], Type::Set)?;
    let there = set.is_some_and(|entry| SetView::of(entry).has(args[2]));
    ctx.reply.integer(there as i64);
    Ok(())
}

pub const SMISMEMBER: Command<Handler> = command("SMISMEMBER", at_least(3), smismember as Handler)
    .flags(READONLY | FAST)
    .acl(acl::SET)
    .keys(&[at(1).flags(RO | ACCESS)])
    .element(2)
    .doc(
        "Tells which members a set has.",
        "O(N) where N is the number of elements being checked for membership",
        "6.2.0",
        "set",
    )
    .args(&[key("key", 0), string("member").multiple()]);

fn smismember(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    ctx.read_typed(args[1], Type::Set)?;
    let key = ctx.key(args[1]);
    let set = ctx.shard.keyspace.get(ctx.db, key).map(SetView::of);
    ctx.reply.array(args.len() - 2);
    for member in &args[2..] {
        ctx.reply
            .integer(set.is_some_and(|set| set.has(member)) as i64);
    }
    Ok(())
}

pub const SCARD: Command<Handler> = command("SCARD", exactly(2), scard as Handler)
    .flags(READONLY | FAST)
    .acl(acl::SET)
    .keys(&[at(1).flags(RO)])
    .doc("Counts the members of a set.", "O(1)", "1.0.0", "set")
    .args(&[key("key", 0)]);

fn scard(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let set = ctx.read_typed(args[1], Type::Set)?;
    let len = set.map_or(0, |entry| SetView::of(entry).len());
    ctx.reply.integer(len as i64);
    Ok(())
}

pub const SMEMBERS: Command<Handler> = command("SMEMBERS", exactly(2), smembers as Handler)
    .flags(READONLY)
    .acl(acl::SET)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc(
        "Lists the members of a set.",
        "O(N) where N is the set cardinality.",
        "1.0.0",
        "set",
    )
    .args(&[key("key", 0)])
    .tips(&["nondeterministic_output_order"]);

fn smembers(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    ctx.read_typed(args[1], Type::Set)?;
    let key = ctx.key(args[1]);
    let Some(set) = ctx.shard.keyspace.get(ctx.db, key).map(SetView::of) else {
        ctx.reply.set(0);
        return Ok(());
    };
    if set.len() > ctx.reads_max() {
        return ctx.step_aside();
    }
    ctx.reply.set(set.len());
    set.all(|member| member.reply(&mut ctx.reply));
    Ok(())
}
