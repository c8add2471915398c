//! HEXPIRE, HPEXPIRE, HEXPIREAT, HPEXPIREAT and HPERSIST.
//!
//! Logged with the absolute time and only the fields that were changed, so that a replay on another day, or a replica's
//! clock, changes nothing. A time that has come deletes the fields and is logged as that.

use super::time::{FIELDS, NO_COUNT, Unit, fields};
use super::value::{self, View};
use crate::commands::keys::EXPIRY_CONDITION;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::notify;
use ringwood_protocol::command::*;

pub const HEXPIRE: Command<Handler> = command("HEXPIRE", at_least(6), hexpire as Handler)
    .flags(WRITE | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RW | UPDATE)])
    .doc(
        "Makes hash fields expire after some seconds.",
        "O(N) where N is the number of specified fields",
        "7.4.0",
        "hash",
    )
    .args(&[key("key", 0), integer("seconds"), EXPIRY_CONDITION, FIELDS]);

pub const HPEXPIRE: Command<Handler> = command("HPEXPIRE", at_least(6), hpexpire as Handler)
    .flags(WRITE | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RW | UPDATE)])
    .doc(
        "Makes hash fields expire after some milliseconds.",
        "O(N) where N is the number of specified fields",
        "7.4.0",
        "hash",
    )
    .args(&[
        key("key", 0),
        integer("milliseconds"),
        EXPIRY_CONDITION,
        FIELDS,
    ]);

pub const HEXPIREAT: Command<Handler> = command("HEXPIREAT", at_least(6), hexpireat as Handler)
    .flags(WRITE | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RW | UPDATE)])
    .doc(
        "Makes hash fields expire at a Unix time in seconds.",
        "O(N) where N is the number of specified fields",
        "7.4.0",
        "hash",
    )
    .args(&[
        key("key", 0),
        unix_time("unix-time-seconds"),
        EXPIRY_CONDITION,
        FIELDS,
    ]);

pub const HPEXPIREAT: Command<Handler> = command("HPEXPIREAT", at_least(6), hpexpireat as Handler)
    .flags(WRITE | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RW | UPDATE)])
    .doc(
        "Makes hash fields expire at a Unix time in milliseconds.",
        "O(N) where N is the number of specified fields",
        "7.4.0",
        "hash",
    )
    .args(&[
        key("key", 0),
        unix_time("unix-time-milliseconds"),
        EXPIRY_CONDITION,
        FIELDS,
    ]);

pub const HPERSIST: Command<Handler> = command("HPERSIST", at_least(5), hpersist as Handler)
    .flags(WRITE | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RW | UPDATE)])
    .doc(
        "Makes hash fields live as long as their hash again.",
        "O(N) where N is the number of specified fields",
        "7.4.0",
        "hash",
    )
    .args(&[key("key", 0), FIELDS]);

fn hexpire(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    set_times(ctx, args, "hexpire", Unit::Ex)
}
fn hpexpire(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    set_times(ctx, args, "hpexpire", Unit::Px)
}
fn hexpireat(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    set_times(ctx, args, "hexpireat", Unit::ExAt)
}
fn hpexpireat(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    set_times(ctx, args, "hpexpireat", Unit::PxAt)
}

/// When the new time is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// NX: only where there was none.
    None,
    /// XX: only where there was one.
    Some,
    /// GT: only if later. No expiry is later than any.
    Later,
    /// LT: only if sooner.
    Sooner,
}

impl Condition {
    fn of_word(word: &[u8]) -> Option<Self> {
        [
            ("NX", Self::None),
            ("XX", Self::Some),
            ("GT", Self::Later),
            ("LT", Self::Sooner),
        ]
        .into_iter()
        .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, condition)| condition)
    }
    fn allows(self, before: Option<i64>, at: i64) -> bool {
        match (self, before) {
            (Self::None, before) => before.is_none(),
            (Self::Some, before) => before.is_some(),
            (Self::Later, before) => before.is_some_and(|before| at > before),
            (Self::Sooner, before) => before.is_none_or(|before| at < before),
        }
    }
}

/// Per field: -2 if it is missing, 0 if the condition forbids it, 1 if it has the time now, 2 if the time has come and it was deleted.
fn set_times(ctx: &mut Ctx<'_>, args: Args<'_>, name: &'static str, unit: Unit) -> CommandResult {
    let now_ms = ctx.now_ms();
    let key = ctx.key(args[1]);
    let entry = value::open(ctx.shard, ctx.db, key)?;
    let at = unit.expire_at(args[2], now_ms, name)?;
    let condition = Condition::of_word(args[3]);
    let from = 3 + condition.is_some() as usize;
    let fields = fields(
        args,
        from,
        "ERR Parameter `numFields` should be greater than 0",
    )?;
    ctx.reply.array(fields.len());
    let Some(mut entry) = entry else {
        fields.iter().for_each(|_| ctx.reply.integer(-2));
        return Ok(());
    };
    let before = entry.get().next_time();
    value::make_timed(&mut entry);
    let mut changed = Vec::with_capacity(fields.len());
    for &field in fields {
        let result = match View::of(entry.get(), now_ms).expiry(field) {
            None => -2,
            Some(old) if condition.is_some_and(|c| !c.allows(old, at)) => 0,
            Some(_) => {
                changed.push(field);
                if at <= now_ms {
                    value::remove(&mut entry, field);
                    2
                } else {
                    value::set_expiry(&mut entry, field, Some(at));
                    1
                }
            }
        };
        ctx.reply.integer(result);
    }
    let wants_record = value::wants_record(&entry, before);
    let emptied = value::is_empty(&entry);
    if emptied {
        entry.remove();
    }
    if changed.is_empty() {
        return Ok(());
    }
    if at <= now_ms {
        deleted(ctx, args[1], &changed, emptied);
    } else {
        if wants_record {
            ctx.shard.rearm(ctx.db, key, before);
        }
        ctx.modified(args[1], value::CLASS, "hexpire");
        log_times(ctx, args[1], at, &changed);
    }
    Ok(())
}

/// Tells and logs that fields were deleted, and with them perhaps the key.
pub(super) fn deleted(ctx: &mut Ctx<'_>, key: &[u8], fields: &[&[u8]], emptied: bool) {
    ctx.modified(key, value::CLASS, "hdel");
    if emptied {
        ctx.modified(key, notify::GENERIC, "del");
    }
    log_fields(ctx, &[b"HDEL", key], fields);
}

pub(super) fn log_times(ctx: &mut Ctx<'_>, key: &[u8], at: i64, fields: &[&[u8]]) {
    let (mut time, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
    let time = time.format(at).as_bytes();
    let count = count.format(fields.len()).as_bytes();
    log_fields(ctx, &[b"HPEXPIREAT", key, time, b"FIELDS", count], fields);
}

pub(super) fn log_persist(ctx: &mut Ctx<'_>, key: &[u8], fields: &[&[u8]]) {
    let mut count = itoa::Buffer::new();
    let count = count.format(fields.len()).as_bytes();
    log_fields(ctx, &[b"HPERSIST", key, b"FIELDS", count], fields);
}

/// Logs a command that ends with these fields.
pub(super) fn log_fields(ctx: &mut Ctx<'_>, words: &[&[u8]], fields: &[&[u8]]) {
    if ctx.shard.logging {
        ctx.log_as(&[words, fields].concat());
    }
}

/// Per field: -2 if it is missing, -1 if it does not expire, 1 if it did until now.
fn hpersist(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let now_ms = ctx.now_ms();
    let key = ctx.key(args[1]);
    let mut entry = value::open(ctx.shard, ctx.db, key)?;
    let fields = fields(args, 2, NO_COUNT)?;
    ctx.reply.array(fields.len());
    let mut changed = Vec::new();
    for &field in fields {
        let expiry = entry
            .as_ref()
            .and_then(|entry| View::of(entry.get(), now_ms).expiry(field));
        ctx.reply.integer(match (expiry, &mut entry) {
            (Some(Some(_)), Some(entry)) => {
                value::set_expiry(entry, field, None);
                changed.push(field);
                1
            }
            (Some(_), _) => -1,
            (None, _) => -2,
        });
    }
    if !changed.is_empty() {
        ctx.modified(args[1], value::CLASS, "hpersist");
        log_persist(ctx, args[1], &changed);
    }
    Ok(())
}
