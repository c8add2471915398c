//! HGETEX and HGETDEL: fields of a hash, and a change of their expiry, or their end.

use super::expire::{deleted, log_persist, log_times};
use super::lapse::lapse;
use super::time::{FIELDS, NO_COUNT, Unit, fields};
use super::value::{self, Found, View};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const HGETEX: Command<Handler> = command("HGETEX", at_least(5), hgetex as Handler)
    .flags(WRITE | FAST)
    .acl(acl::HASH)
    .keys(&[at(1)
        .flags(RW | ACCESS | UPDATE)
        .notes("RW and UPDATE because it changes the TTL")])
    .doc(
        "Returns fields of a hash and changes their expiry.",
        "O(N) where N is the number of specified fields",
        "8.0.0",
        "hash",
    )
    .args(&[
        key("key", 0),
        one_of(
            "expiration",
            &[
                integer("seconds").token("EX"),
                integer("milliseconds").token("PX"),
                unix_time("unix-time-seconds").token("EXAT"),
                unix_time("unix-time-milliseconds").token("PXAT"),
                word("persist", "PERSIST"),
            ],
        )
        .optional(),
        FIELDS,
    ]);

pub const HGETDEL: Command<Handler> = command("HGETDEL", at_least(5), hgetdel as Handler)
    .flags(WRITE | FAST)
    .acl(acl::HASH)
    .keys(&[at(1).flags(RW | ACCESS | DELETE)])
    .doc(
        "Returns fields of a hash and deletes them.",
        "O(N) where N is the number of specified fields",
        "8.0.0",
        "hash",
    )
    .args(&[key("key", 0), FIELDS]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Nothing,
    Persist,
    Time(i64),
    Delete,
}

fn hgetex(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    value::open(ctx.shard, ctx.db, key)?;
    let (change, from) = if args[2].eq_ignore_ascii_case(b"PERSIST") {
        (Change::Persist, 3)
    } else if let Some(unit) = Unit::of_word(args[2]) {
        let at = unit.expire_at(args[3], ctx.now_ms(), "hgetex")?;
        if args.len() < 6 {
            return Err(CommandError::WrongArity("hgetex".into()));
        }
        (Change::Time(at), 4)
    } else {
        (Change::Nothing, 2)
    };
    let fields = fields(args, from, NO_COUNT)?;
    get_and(ctx, args[1], fields, change)
}

fn hgetdel(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    value::open(ctx.shard, ctx.db, key)?;
    let fields = fields(args, 2, NO_COUNT)?;
    get_and(ctx, args[1], fields, Change::Delete)
}

/// Answers with the fields' values and changes each that is there.
fn get_and(ctx: &mut Ctx<'_>, key: &[u8], fields: &[&[u8]], change: Change) -> CommandResult {
    let now_ms = ctx.now_ms();
    let found = ctx.key(key);
    let entry = value::open(ctx.shard, ctx.db, found)?;
    ctx.reply.array(fields.len());
    let Some(mut entry) = entry else {
        fields.iter().for_each(|_| ctx.reply.null());
        return Ok(());
    };
    let before = entry.get().next_time();
    if matches!(change, Change::Time(_) | Change::Persist) {
        value::make_timed(&mut entry);
    }
    let mut expired = Vec::new();
    let mut changed = Vec::new();
    for &field in fields {
        let hash = View::of(entry.get(), now_ms);
        match hash.find(field) {
            Found::Missing => ctx.reply.null(),
            Found::Expired => {
                ctx.reply.null();
                expired.push(field);
            }
            Found::Live(value) => {
                value.reply(&mut ctx.reply);
                let has_changed = match change {
                    Change::Nothing => false,
                    Change::Persist => {
                        let expires = hash.expiry(field).flatten().is_some();
                        expires && value::set_expiry(&mut entry, field, None)
                    }
                    Change::Time(at) if at > now_ms => {
                        value::set_expiry(&mut entry, field, Some(at))
                    }
                    Change::Time(_) | Change::Delete => value::remove(&mut entry, field),
                };
                if has_changed {
                    changed.push(field);
                }
            }
        }
    }
    let wants_record = value::wants_record(&entry, before);
    let emptied = value::is_empty(&entry);
    if emptied {
        entry.remove();
    }
    match change {
        _ if changed.is_empty() => {}
        Change::Nothing => {}
        Change::Persist => {
            ctx.modified(key, value::CLASS, "hpersist");
            log_persist(ctx, key, &changed);
        }
        Change::Time(at) if at > now_ms => {
            if wants_record {
                ctx.shard.rearm(ctx.db, found, before);
            }
            ctx.modified(key, value::CLASS, "hexpire");
            log_times(ctx, key, at, &changed);
        }
        Change::Time(_) | Change::Delete => deleted(ctx, key, &changed, emptied),
    }
    lapse(ctx, key, &expired);
    Ok(())
}
