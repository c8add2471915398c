//! GEOADD.

use super::parse_place;
use crate::commands::zset::edit::Conditions;
use crate::commands::zset::zadd;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const GEOADD: Command<Handler> = command("GEOADD", at_least(5), geoadd as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::GEO)
    .keys(&[at(1).flags(RW | UPDATE)])
    .doc(
        "Adds places to a geo index, or moves them.",
        "O(log(N)) for each item added, where N is the number of elements in the sorted set.",
        "3.2.0",
        "geo",
    )
    .history(&[("6.2.0", "Options `CH`, `NX` and `XX`.")])
    .args(&[
        key("key", 0),
        one_of("condition", &[word("nx", "NX"), word("xx", "XX")])
            .since("6.2.0")
            .optional(),
        word("change", "CH").since("6.2.0").optional(),
        block(
            "data",
            &[double("longitude"), double("latitude"), string("member")],
        )
        .multiple(),
    ]);

fn geoadd(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let mut conditions = Conditions::default();
    let mut change = false;
    let mut first = 2;
    while let Some(word) = args.get(first) {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is("NX") {
            conditions.nx = true;
        } else if is("XX") {
            conditions.xx = true;
        } else if is("CH") {
            change = true;
        } else {
            break;
        }
        first += 1;
    }
    let words = &args[first..];
    if words.is_empty() || !words.len().is_multiple_of(3) || (conditions.nx && conditions.xx) {
        return Err(CommandError::Syntax);
    }
    let scores = words
        .chunks_exact(3)
        .map(|words| Ok(parse_place(words[0], words[1])?.score()))
        .collect::<Result<Vec<_>, CommandError>>()?;
    let member = |i: usize| words[3 * i + 2];
    zadd::add_scored(ctx, args[1], &scores, member, conditions, change)
}
