//! SSCAN. A packed set is returned whole; a table bucket by bucket, see [`crate::collections::packed_table`].

use super::members::SetView;
use crate::collections::listpack::Item;
use crate::commands::keys::{parse_cursor, refuse_novalues};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::Type;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::glob::glob_match;
use ringwood_protocol::number::parse_i64;

pub const SSCAN: Command<Handler> = command("SSCAN", at_least(3), sscan as Handler)
    .flags(READONLY)
    .acl(acl::SET)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Walks through a set in steps.", "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.", "2.8.0", "set")
    .args(&[key("key", 0), integer("cursor"), pattern("pattern").token("MATCH").optional(), integer("count").token("COUNT").optional()])
    .tips(&["nondeterministic_output"]);

fn sscan(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let mut cursor = parse_cursor(args[2]).ok_or(CommandError::fixed("ERR invalid cursor"))?;
    ctx.read_typed(args[1], Type::Set)?;
    let (key, most) = (ctx.key(args[1]), ctx.reads_max() / 4);
    let Some(set) = ctx.shard.keyspace.get(ctx.db, key).map(SetView::of) else {
        ctx.reply.array(2);
        ctx.reply.bulk(b"0");
        ctx.reply.array(0);
        return Ok(());
    };
    let (mut count, mut pattern) = (10, b"*".as_slice());
    for pair in args[3..].chunks(2) {
        refuse_novalues(pair[0])?;
        match *pair {
            [name, value] if name.eq_ignore_ascii_case(b"COUNT") => {
                count = parse_i64(value).ok_or(CommandError::NotInteger)?;
                if count < 1 {
                    return Err(CommandError::Syntax);
                }
            }
            [name, value] if name.eq_ignore_ascii_case(b"MATCH") => pattern = value,
            _ => return Err(CommandError::Syntax),
        }
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if matches!(set, SetView::Table(_)) && count.min(set.len()) > most {
        return ctx.step_aside();
    }
    let mut found = Vec::new();
    let matches = |text: &[u8]| pattern == b"*" || glob_match(pattern, text);
    if let SetView::Table(table) = set {
        cursor = table.scan(cursor, count, |entry| {
            if matches(entry.key) {
                found.push(Item::Bytes(entry.key));
            }
        });
    } else {
        cursor = 0;
        set.all(|member| {
            if member.with_text(matches) {
                found.push(member);
            }
        });
    }
    ctx.reply.array(2);
    ctx.reply.bulk_str(&cursor.to_string());
    ctx.reply.array(found.len());
    for member in found {
        member.reply(&mut ctx.reply);
    }
    Ok(())
}
