//! HSCAN. A packed hash is returned whole; a table bucket by bucket, see [`crate::collections::packed_table`].

use super::value::{self, Body};
use crate::collections::listpack::Item;
use crate::commands::keys::parse_cursor;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::glob::glob_match;
use ringwood_protocol::number::parse_i64;

pub const HSCAN: Command<Handler> = command("HSCAN", at_least(3), hscan as Handler)
    .flags(READONLY)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Walks through a hash in steps.", "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.", "2.8.0", "hash")
    .args(&[key("key", 0), integer("cursor"), pattern("pattern").token("MATCH").optional(), integer("count").token("COUNT").optional(), word("novalues", "NOVALUES").optional()])
    .tips(&["nondeterministic_output"]);

fn hscan(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let mut cursor = parse_cursor(args[2]).ok_or(CommandError::fixed("ERR invalid cursor"))?;
    let (key, most) = (ctx.key(args[1]), ctx.reads_max() / 4);
    let Some(hash) = value::view(ctx.shard, ctx.db, key)? else {
        ctx.reply.array(2);
        ctx.reply.bulk(b"0");
        ctx.reply.array(0);
        return Ok(());
    };
    let (mut count, mut pattern, mut values) = (10, b"*".as_slice(), true);
    let mut words = args[3..].iter();
    while let Some(word) = words.next() {
        if word.eq_ignore_ascii_case(b"NOVALUES") {
            values = false;
        } else if word.eq_ignore_ascii_case(b"COUNT") {
            let word = words.next().ok_or(CommandError::Syntax)?;
            count = parse_i64(word).ok_or(CommandError::NotInteger)?;
            if count < 1 {
                return Err(CommandError::Syntax);
            }
        } else if word.eq_ignore_ascii_case(b"MATCH") {
            pattern = words.next().ok_or(CommandError::Syntax)?;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if let Body::Table(table) = hash.body
        && count.min(table.len()) > most
    {
        return ctx.step_aside();
    }
    let mut found = Vec::new();
    let mut give = |field, value| {
        if pattern == b"*" || Item::with_text(field, |text| glob_match(pattern, text)) {
            found.push((field, value));
        }
    };
    if let Body::Table(table) = hash.body {
        cursor = table.scan(cursor, count, |item| {
            if !hash.is_over(item.expire_at) {
                give(Item::Bytes(item.key), Item::Bytes(item.value));
            }
        });
    } else {
        cursor = 0;
        hash.each(give);
    }
    ctx.reply.array(2);
    ctx.reply.bulk_str(&cursor.to_string());
    ctx.reply.array(found.len() * (1 + values as usize));
    for (field, value) in found {
        field.reply(&mut ctx.reply);
        if values {
            value.reply(&mut ctx.reply);
        }
    }
    Ok(())
}
