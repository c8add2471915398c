//! ZSCAN.

use super::view::{View, packed_pairs};
use crate::commands::keys::refuse_novalues;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::glob::glob_match;
use ringwood_protocol::number::{double_text, parse_i64, parse_u64};

pub const ZSCAN: Command<Handler> = command("ZSCAN", at_least(3), zscan as Handler)
    .flags(READONLY)
    .acl(acl::SORTEDSET)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Walks through a sorted set in steps.", "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.", "2.8.0", "sorted-set")
    .args(&[key("key", 0), integer("cursor"), pattern("pattern").token("MATCH").optional(), integer("count").token("COUNT").optional(), word("noscores", "NOSCORES").since("9.1.0").optional()])
    .tips(&["nondeterministic_output"]);

fn zscan(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let mut cursor = parse_u64(args[2]).ok_or(CommandError::fixed("ERR invalid cursor"))?;
    let (mut pattern, mut count, mut with_scores): (Option<&[u8]>, _, _) = (None, 10, true);
    let (key, most) = (ctx.key(args[1]), ctx.reads_max() / 4);
    let view = View::read_key(ctx.shard, ctx.db, key)?;
    let mut rest = &args[3..];
    if view.is_some() {
        while let Some(word) = rest.first() {
            refuse_novalues(word)?;
            match rest {
                [word, more @ ..] if word.eq_ignore_ascii_case(b"NOSCORES") => {
                    with_scores = false;
                    rest = more;
                }
                [word, number, more @ ..] if word.eq_ignore_ascii_case(b"COUNT") => {
                    count = parse_i64(number).ok_or(CommandError::NotInteger)?;
                    if count < 1 {
                        return Err(CommandError::Syntax);
                    }
                    rest = more;
                }
                [word, text, more @ ..] if word.eq_ignore_ascii_case(b"MATCH") => {
                    pattern = Some(text);
                    rest = more;
                }
                _ => return Err(CommandError::Syntax),
            }
        }
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if let Some(View::Large(set)) = view
        && count.min(set.len()) > most
    {
        return ctx.step_aside();
    }
    let pattern = pattern.filter(|p| *p != b"*");
    let wanted = |member: &[u8]| pattern.is_none_or(|p| glob_match(p, member));
    let mut found: Vec<u8> = Vec::new();
    let mut shown = 0;
    {
        let mut reply = ringwood_protocol::reply::Reply::new(&mut found, ctx.reply.version());
        match view {
            None => cursor = 0,
            Some(View::Packed(lp)) => {
                for (_, member, score) in packed_pairs(lp) {
                    member.with_text(|text| {
                        if wanted(text) {
                            reply.bulk(text);
                            shown += 1;
                            if with_scores {
                                reply.bulk(double_text(score).as_bytes());
                                shown += 1;
                            }
                        }
                    });
                }
                cursor = 0;
            }
            Some(View::Large(set)) => {
                cursor = set.scan(cursor, count, |member, score| {
                    if wanted(member) {
                        reply.bulk(member);
                        shown += 1;
                        if with_scores {
                            reply.bulk(general_text(score).as_bytes());
                            shown += 1;
                        }
                    }
                });
            }
        }
    }
    ctx.reply.array(2);
    ctx.reply.bulk_str(&cursor.to_string());
    ctx.reply.array(shown);
    ctx.reply.raw(&found);
    Ok(())
}

/// A score as C's `%.17g` prints it: ZSCAN of a large sorted set does, unlike everything else.
fn general_text(score: f64) -> String {
    const DIGITS: usize = 17;
    if score.is_infinite() {
        return if score > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{score:.*e}", DIGITS - 1);
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let trim = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    if (-4..DIGITS as i32).contains(&exponent) {
        let places = (DIGITS as i32 - 1 - exponent) as usize;
        return trim(&format!("{score:.places$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(digits), exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::zset::tests::each_encoding;

    #[test]
    fn scanning() {
        each_encoding(|t| {
            t.check("ZSCAN n 0", "*2 $1 0 *0").check("ZADD z 1 a", ":1");
            t.check("ZSCAN z 0", "*2 $1 0 *2 $1 a $1 1")
                .check("ZSCAN z 0 MATCH b*", "*2 $1 0 *0");
            t.check("ZSCAN z x", "-ERR invalid cursor")
                .check("ZSCAN z 0 COUNT 0", "-ERR syntax error");
            t.check("ZSCAN z 0 NOSCORES MATCH a", "*2 $1 0 *1 $1 a")
                .check(
                    "ZSCAN z 0 NOVALUES",
                    "-ERR NOVALUES option can only be used in HSCAN",
                );
        });
    }

    /// printf of glibc.
    #[test]
    fn general_form() {
        for (score, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.10000000000000001"),
            (-2.5, "-2.5"),
            (1e17, "1e+17"),
            (12345678901234567.0, "12345678901234568"),
            (1e-5, "1.0000000000000001e-05"),
            (0.0001, "0.0001"),
            (1.5e300, "1.5000000000000001e+300"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(general_text(score), text);
        }
    }
}
