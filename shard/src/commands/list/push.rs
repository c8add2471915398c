//! LPUSH, RPUSH, LPUSHX, RPUSHX.

use super::value::{self, ListMut, push_event};
use crate::collections::quicklist::End;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::Type;
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const LPUSH: Command<Handler> = command("LPUSH", at_least(3), lpush as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::LIST)
    .keys(&[at(1).flags(RW | INSERT)])
    .doc("Adds elements at the head of a list, which is made if missing.", "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.", "1.0.0", "list")
    .history(&[("2.4.0", "Takes any number of `element` arguments.")])
    .args(&[key("key", 0), string("element").multiple()]);

pub const RPUSH: Command<Handler> = command("RPUSH", at_least(3), rpush as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::LIST)
    .keys(&[at(1).flags(RW | INSERT)])
    .doc("Adds elements at the tail of a list, which is made if missing.", "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.", "1.0.0", "list")
    .history(&[("2.4.0", "Takes any number of `element` arguments.")])
    .args(&[key("key", 0), string("element").multiple()]);

pub const LPUSHX: Command<Handler> = command("LPUSHX", at_least(3), lpushx as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::LIST)
    .keys(&[at(1).flags(RW | INSERT)])
    .doc("Adds elements at the head of a list that exists.", "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.", "2.2.0", "list")
    .history(&[("4.0.0", "Takes any number of `element` arguments.")])
    .args(&[key("key", 0), string("element").multiple()]);

pub const RPUSHX: Command<Handler> = command("RPUSHX", at_least(3), rpushx as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::LIST)
    .keys(&[at(1).flags(RW | INSERT)])
    .doc("Adds elements at the tail of a list that exists.", "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.", "2.2.0", "list")
    .history(&[("4.0.0", "Takes any number of `element` arguments.")])
    .args(&[key("key", 0), string("element").multiple()]);

fn lpush(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    push(ctx, args, End::Front, true)
}
fn rpush(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    push(ctx, args, End::Back, true)
}
fn lpushx(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    push(ctx, args, End::Front, false)
}
fn rpushx(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    push(ctx, args, End::Back, false)
}

fn push(ctx: &mut Ctx<'_>, args: Args<'_>, end: End, create: bool) -> CommandResult {
    let (name, values) = (args[1], &args[2..]);
    let limit = value::limit(&ctx.shard.settings);
    let len = match ctx.write(name) {
        Some(entry) if entry.kind() != Type::List => return Err(CommandError::WrongType),
        Some(entry) => {
            let mut list = ListMut::new(entry, limit);
            list.push(end, values);
            list.len()
        }
        None if !create => {
            ctx.reply.integer(0);
            return Ok(());
        }
        None => {
            let bytes = values.iter().map(|v| v.len()).sum();
            value::create(ctx, name, end, values, bytes);
            values.len()
        }
    };
    ctx.modified(name, notify::LIST, push_event(end));
    ctx.reply.integer(len as i64);
    Ok(())
}
