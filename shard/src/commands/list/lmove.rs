//! LMOVE, RPOPLPUSH, BLMOVE, BRPOPLPUSH.

use super::value::{self, ListMut, end_word, parse_end};
use crate::collections::quicklist::End;
use crate::ctx::{Args, Block, CommandResult, Ctx, Handler, Null, Wake, timeout_ms};
use crate::object::Type;
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::number::parse_i64;

pub const LMOVE: Command<Handler> = command("LMOVE", exactly(5), lmove as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::LIST)
    .keys(&[at(1).flags(RW | ACCESS | DELETE), at(2).flags(RW | INSERT)])
    .doc(
        "Moves an element from one list to another.",
        "O(1)",
        "6.2.0",
        "list",
    )
    .args(&[
        key("source", 0),
        key("destination", 1),
        one_of("wherefrom", &[word("left", "LEFT"), word("right", "RIGHT")]),
        one_of("whereto", &[word("left", "LEFT"), word("right", "RIGHT")]),
    ]);

pub const RPOPLPUSH: Command<Handler> = command("RPOPLPUSH", exactly(3), rpoplpush as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::LIST)
    .keys(&[at(1).flags(RW | ACCESS | DELETE), at(2).flags(RW | INSERT)])
    .doc(
        "Moves the tail of one list to the head of another.",
        "O(1)",
        "1.2.0",
        "list",
    )
    .deprecated("6.2.0", "`LMOVE` with the `RIGHT` and `LEFT` arguments")
    .args(&[key("source", 0), key("destination", 1)]);

pub const BLMOVE: Command<Handler> = command("BLMOVE", exactly(6), blmove as Handler)
    .flags(WRITE | DENYOOM | BLOCKING)
    .acl(acl::LIST)
    .keys(&[at(1).flags(RW | ACCESS | DELETE), at(2).flags(RW | INSERT)])
    .doc(
        "Moves an element between lists, waiting for one to come.",
        "O(1)",
        "6.2.0",
        "list",
    )
    .args(&[
        key("source", 0),
        key("destination", 1),
        one_of("wherefrom", &[word("left", "LEFT"), word("right", "RIGHT")]),
        one_of("whereto", &[word("left", "LEFT"), word("right", "RIGHT")]),
        double("timeout"),
    ]);

pub const BRPOPLPUSH: Command<Handler> = command("BRPOPLPUSH", exactly(4), brpoplpush as Handler)
    .flags(WRITE | DENYOOM | BLOCKING)
    .acl(acl::LIST)
    .keys(&[at(1).flags(RW | ACCESS | DELETE), at(2).flags(RW | INSERT)])
    .doc(
        "Moves the tail of one list to the head of another, waiting if it is empty.",
        "O(1)",
        "2.2.0",
        "list",
    )
    .deprecated("6.2.0", "`BLMOVE` with the `RIGHT` and `LEFT` arguments")
    .history(&[("6.0.0", "The `timeout` may have a fraction.")])
    .args(&[key("source", 0), key("destination", 1), double("timeout")]);

fn lmove(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (from, to) = (parse_end(args[3])?, parse_end(args[4])?);
    if !move_element(ctx, args[1], args[2], from, to)? {
        ctx.reply.null();
    }
    Ok(())
}
fn rpoplpush(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    if !move_element(ctx, args[1], args[2], End::Back, End::Front)? {
        ctx.reply.null();
    }
    Ok(())
}
fn blmove(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (from, to) = (parse_end(args[3])?, parse_end(args[4])?);
    let timeout_ms = timeout_ms(args[5])?;
    if !move_element(ctx, args[1], args[2], from, to)? {
        return wait(ctx, args[1], timeout_ms);
    }
    if !ctx.are_logged_apart(args[1], args[2]) {
        ctx.log_as(&[b"LMOVE", args[1], args[2], end_word(from), end_word(to)]);
    }
    Ok(())
}
fn brpoplpush(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let timeout_ms = timeout_ms(args[3])?;
    if !move_element(ctx, args[1], args[2], End::Back, End::Front)? {
        return wait(ctx, args[1], timeout_ms);
    }
    if !ctx.are_logged_apart(args[1], args[2]) {
        ctx.log_as(&[b"RPOPLPUSH", args[1], args[2]]);
    }
    Ok(())
}

/// Waits for the source alone: a change of the destination gives nothing to move.
fn wait(ctx: &mut Ctx<'_>, source: &[u8], timeout_ms: Option<u64>) -> CommandResult {
    let db = ctx.db;
    ctx.block(Block {
        db,
        keys: vec![source.into()],
        wake: Wake::Type(Type::List),
        timeout_ms,
        null: Null::Array,
        words: None,
    })
}

/// Moves one element and replies it. False, and nothing done, when there is no source.
fn move_element(
    ctx: &mut Ctx<'_>,
    source: &[u8],
    destination: &[u8],
    from: End,
    to: End,
) -> Result<bool, ringwood_protocol::error::CommandError> {
    if ctx.write_typed(source, Type::List)?.is_none() {
        return Ok(false);
    }
    let there = ctx.write_typed(destination, Type::List)?.is_some();
    let limit = value::limit(&ctx.shard.settings);
    let mut element = Vec::new();
    if let Some(entry) = ctx.write(source) {
        // The source stays for now even if it is empty: it may be the destination too.
        ListMut::new(entry, limit).pop(from, |item| item.append_to(&mut element));
    }
    // Redis counts no bytes for an integer when it asks whether the list still fits.
    let counted = if parse_i64(&element).is_some() {
        0
    } else {
        element.len()
    };
    if !there {
        value::create(ctx, destination, to, &[&element], counted);
    } else if let Some(entry) = ctx.write(destination) {
        let mut list = ListMut::new(entry, limit);
        list.grow(counted, 1);
        list.push_grown(to, &[&element]);
    }
    ctx.modified(destination, notify::LIST, value::push_event(to));
    value::removed(ctx, source, value::pop_event(from));
    ctx.reply.bulk(&element);
    if ctx.are_logged_apart(source, destination) {
        ctx.log_as(&[value::pop_name(from), source]);
        ctx.log_as(&[value::push_name(to), destination, &element]);
    }
    Ok(true)
}
