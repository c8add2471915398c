//! HSETEX: fields of a hash with their expiry.

use super::expire::{deleted, log_fields};
use super::lapse::lapse;
use super::time::Unit;
use super::value::{self, Found, Ttl};
use crate::commands::keys::shown;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;

pub const HSETEX: Command<Handler> = command("HSETEX", at_least(6), hsetex as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RW | UPDATE)])
    .doc(
        "Sets fields of a hash together with their expiry.",
        "O(N) where N is the number of fields being set.",
        "8.0.0",
        "hash",
    )
    .args(&[
        key("key", 0),
        one_of("key-condition", &[word("nx", "NX"), word("xx", "XX")])
            .since("9.1.0")
            .optional(),
        one_of("condition", &[word("fnx", "FNX"), word("fxx", "FXX")]).optional(),
        one_of(
            "expiration",
            &[
                integer("seconds").token("EX"),
                integer("milliseconds").token("PX"),
                unix_time("unix-time-seconds").token("EXAT"),
                unix_time("unix-time-milliseconds").token("PXAT"),
                word("keepttl", "KEEPTTL"),
            ],
        )
        .optional(),
        block(
            "fields",
            &[
                integer("numfields"),
                block("data", &[string("field"), string("value")]).multiple(),
            ],
        )
        .token("FIELDS"),
    ]);

/// Which fields must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// FNX: none.
    None,
    /// FXX: all.
    All,
}

struct Options<'a> {
    /// Valkey's NX and XX: whether there must be a hash.
    exists: Option<bool>,
    condition: Option<Condition>,
    ttl: Option<Ttl>,
    pairs: &'a [&'a [u8]],
}

fn parse<'a>(args: Args<'a>, now_ms: i64) -> Result<Options<'a>, CommandError> {
    let (mut exists, mut condition, mut ttl) = (None, None, None);
    let mut at = 2;
    loop {
        let word = *args.get(at).ok_or(arity())?;
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is("FIELDS") {
            break;
        }
        if is("NX") || is("XX") {
            if exists.replace(is("XX")).is_some_and(|old| old != is("XX")) {
                return Err(CommandError::Syntax);
            }
        } else if is("FNX") || is("FXX") {
            let new = if is("FNX") {
                Condition::None
            } else {
                Condition::All
            };
            if condition.replace(new).is_some() {
                return Err(CommandError::fixed(
                    "ERR Only one of FXX or FNX arguments can be specified",
                ));
            }
        } else if is("KEEPTTL") || Unit::of_word(word).is_some() {
            if ttl.is_some() {
                return Err(CommandError::fixed(
                    "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
                ));
            }
            ttl = Some(Ttl::Keep);
            if let Some(unit) = Unit::of_word(word) {
                at += 1;
                let time = args.get(at).ok_or(arity())?;
                ttl = Some(Ttl::At(unit.expire_at(time, now_ms, "hsetex")?));
            }
        } else {
            let word = shown(word);
            return Err(CommandError::err(format_args!("unknown argument: {word}")));
        }
        at += 1;
    }
    if args.len() < at + 4 {
        return Err(arity());
    }
    let count = parse_i64(args[at + 1]).filter(|n| (1..=i32::MAX.into()).contains(n));
    let count = count.ok_or(CommandError::fixed("ERR invalid number of fields"))?;
    let pairs = &args[at + 2..];
    if pairs.len() as i64 != 2 * count {
        return Err(arity());
    }
    Ok(Options {
        exists,
        condition,
        ttl,
        pairs,
    })
}

fn arity() -> CommandError {
    CommandError::WrongArity("hsetex".into())
}

fn hsetex(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let now_ms = ctx.now_ms();
    let Options {
        exists,
        condition,
        ttl,
        pairs,
    } = parse(args, now_ms)?;
    let fields = || pairs.iter().step_by(2).copied();
    let key = ctx.key(args[1]);
    let hash = value::view_to_change(ctx.shard, ctx.db, key)?;
    let find = |field| hash.map_or(Found::Missing, |hash| hash.find(field));
    let is_live = |field| matches!(find(field), Found::Live(_));
    let allowed = match condition {
        None => true,
        Some(Condition::None) => !fields().any(is_live),
        Some(Condition::All) => fields().all(is_live),
    };
    if !allowed || exists.is_some_and(|exists| exists != hash.is_some()) {
        ctx.reply.integer(0);
        return Ok(());
    }
    if ttl == Some(Ttl::Keep) {
        // The time of a field that has expired is not to be kept.
        let mut expired: Vec<&[u8]> = Vec::new();
        expired.extend(fields().filter(|field| matches!(find(field), Found::Expired)));
        lapse(ctx, args[1], &expired);
    }
    let ttl = ttl.unwrap_or(Ttl::Clear);
    value::set_all(ctx.shard, ctx.db, key, pairs, ttl)?;
    ctx.modified(args[1], value::CLASS, "hset");
    let (mut time, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
    let count = count.format(pairs.len() / 2).as_bytes();
    match ttl {
        Ttl::Clear => log_fields(ctx, &[b"HSETEX", args[1], b"FIELDS", count], pairs),
        Ttl::Keep => {
            let words = [b"HSETEX", args[1], b"KEEPTTL", b"FIELDS", count];
            log_fields(ctx, &words, pairs);
        }
        Ttl::At(at) if at > now_ms => {
            ctx.modified(args[1], value::CLASS, "hexpire");
            let time = time.format(at).as_bytes();
            let words = [b"HSETEX", args[1], b"PXAT", time, b"FIELDS", count];
            log_fields(ctx, &words, pairs);
        }
        Ttl::At(_) => {
            // Set and gone again.
            let mut emptied = false;
            if let Some(mut entry) = value::open(ctx.shard, ctx.db, key)? {
                for field in fields() {
                    value::remove(&mut entry, field);
                }
                emptied = value::is_empty(&entry);
                if emptied {
                    entry.remove();
                }
            }
            let fields: Vec<&[u8]> = fields().collect();
            deleted(ctx, args[1], &fields, emptied);
        }
    }
    ctx.reply.integer(1);
    Ok(())
}
