//! LPOS.

use super::value::{self, View};
use crate::collections::listpack::Needle;
use crate::collections::quicklist::End;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::Type;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;

pub const LPOS: Command<Handler> = command("LPOS", at_least(3), lpos as Handler)
    .flags(READONLY)
    .acl(acl::LIST)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Finds an element's positions in a list.", "O(N) where N is the number of elements in the list, for the average case. When searching for elements near the head or the tail of the list, or when the MAXLEN option is provided, the command may run in constant time.", "6.0.6", "list")
    .args(&[key("key", 0), string("element"), integer("rank").token("RANK").optional(), integer("num-matches").token("COUNT").optional(), integer("len").token("MAXLEN").optional()]);

fn lpos(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (mut rank, mut count, mut len_max) = (1, None, 0);
    let mut options = &args[3..];
    while let [option, rest @ ..] = options {
        let [word, rest @ ..] = rest else {
            return Err(CommandError::Syntax);
        };
        let not_negative = |error| {
            parse_i64(word)
                .and_then(|n| usize::try_from(n).ok())
                .ok_or(CommandError::fixed(error))
        };
        if option.eq_ignore_ascii_case(b"RANK") {
            rank = parse_i64(word).ok_or(CommandError::NotInteger)?;
            if rank == i64::MIN {
                return Err(value::out_of_symmetric_range());
            }
            if rank == 0 {
                return Err(CommandError::fixed(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
                ));
            }
        } else if option.eq_ignore_ascii_case(b"COUNT") {
            count = Some(not_negative("ERR COUNT can't be negative")?);
        } else if option.eq_ignore_ascii_case(b"MAXLEN") {
            len_max = not_negative("ERR MAXLEN can't be negative")?;
        } else {
            return Err(CommandError::Syntax);
        }
        options = rest;
    }

    let mut found: Vec<usize> = Vec::new();
    let (from, skip) = (
        if rank > 0 { End::Front } else { End::Back },
        usize::try_from(rank.unsigned_abs() - 1).unwrap_or(usize::MAX),
    );
    let wanted = match count {
        None => 1,
        Some(0) => usize::MAX,
        Some(n) => n,
    };
    // 0 is without a limit.
    let is_short = (1..=ctx.elements_max()).contains(&len_max);
    if !is_short && value::is_far(ctx, args[1], args[2], skip.saturating_add(wanted), from) {
        return ctx.step_aside();
    }
    if let Some(entry) = ctx.read_typed(args[1], Type::List)? {
        let list = View::new(entry);
        let needle = Needle::new(args[2]);
        let last = list.len() - 1;
        let (mut index, mut matches) = (0, 0);
        list.walk(from, |item| {
            if needle.matches(item) {
                matches += 1;
                if matches > skip {
                    found.push(if rank > 0 { index } else { last - index });
                }
            }
            index += 1;
            found.len() < wanted && index != len_max
        });
    }
    match (count, found.first()) {
        (None, None) => ctx.reply.null(),
        (None, Some(&index)) => ctx.reply.integer(index as i64),
        (Some(_), _) => {
            ctx.reply.array(found.len());
            for index in found {
                ctx.reply.integer(index as i64);
            }
        }
    }
    Ok(())
}
