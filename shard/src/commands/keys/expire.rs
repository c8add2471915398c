//! EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT.
//!
//! One rule for the four: they differ in the unit, and in whether the number counts from now. They are logged with the
//! absolute time, so that a replay on another day or a replica's clock changes nothing; a time that has come deletes
//! the key and is logged as that.

use super::{EXPIRY_CONDITION, number, shown};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::{Expiry, notify};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const EXPIRE: Command<Handler> = command("EXPIRE", at_least(3), expire as Handler)
    .flags(WRITE | FAST)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).flags(RW | UPDATE)])
    .doc(
        "Makes a key expire after some seconds.",
        "O(1)",
        "1.0.0",
        "generic",
    )
    .history(&[("7.0.0", "Options `NX`, `XX`, `GT` and `LT`.")])
    .args(&[
        key("key", 0),
        integer("seconds"),
        EXPIRY_CONDITION.since("7.0.0"),
    ]);

pub const PEXPIRE: Command<Handler> = command("PEXPIRE", at_least(3), pexpire as Handler)
    .flags(WRITE | FAST)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).flags(RW | UPDATE)])
    .doc(
        "Makes a key expire after some milliseconds.",
        "O(1)",
        "2.6.0",
        "generic",
    )
    .history(&[("7.0.0", "Options `NX`, `XX`, `GT` and `LT`.")])
    .args(&[
        key("key", 0),
        integer("milliseconds"),
        EXPIRY_CONDITION.since("7.0.0"),
    ]);

pub const EXPIREAT: Command<Handler> = command("EXPIREAT", at_least(3), expireat as Handler)
    .flags(WRITE | FAST)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).flags(RW | UPDATE)])
    .doc(
        "Makes a key expire at a Unix time in seconds.",
        "O(1)",
        "1.2.0",
        "generic",
    )
    .history(&[("7.0.0", "Options `NX`, `XX`, `GT` and `LT`.")])
    .args(&[
        key("key", 0),
        unix_time("unix-time-seconds"),
        EXPIRY_CONDITION.since("7.0.0"),
    ]);

pub const PEXPIREAT: Command<Handler> = command("PEXPIREAT", at_least(3), pexpireat as Handler)
    .flags(WRITE | FAST)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).flags(RW | UPDATE)])
    .doc(
        "Makes a key expire at a Unix time in milliseconds.",
        "O(1)",
        "2.6.0",
        "generic",
    )
    .history(&[("7.0.0", "Options `NX`, `XX`, `GT` and `LT`.")])
    .args(&[
        key("key", 0),
        unix_time("unix-time-milliseconds"),
        EXPIRY_CONDITION.since("7.0.0"),
    ]);

fn expire(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let now = ctx.now_ms();
    set_time(ctx, args, "expire", 1000, now)
}
fn pexpire(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let now = ctx.now_ms();
    set_time(ctx, args, "pexpire", 1, now)
}
fn expireat(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    set_time(ctx, args, "expireat", 1000, 0)
}
fn pexpireat(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    set_time(ctx, args, "pexpireat", 1, 0)
}

/// When the new time is taken over.
#[derive(Default)]
struct Conditions {
    /// NX: only where there was none.
    none: bool,
    /// XX: only where there was one.
    some: bool,
    /// GT: only if later. No expiry is later than any.
    later: bool,
    /// LT: only if sooner.
    sooner: bool,
}

impl Conditions {
    fn parse(words: Args<'_>) -> Result<Self, CommandError> {
        let mut c = Self::default();
        for word in words {
            let flag = match word.to_ascii_uppercase().as_slice() {
                b"NX" => &mut c.none,
                b"XX" => &mut c.some,
                b"GT" => &mut c.later,
                b"LT" => &mut c.sooner,
                _ => {
                    let word = shown(word);
                    return Err(CommandError::err(format_args!("Unsupported option {word}")));
                }
            };
            *flag = true;
        }
        if c.none && (c.some || c.later || c.sooner) {
            return Err(CommandError::fixed(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if c.later && c.sooner {
            return Err(CommandError::fixed(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(c)
    }

    fn allow(&self, before: Option<i64>, at: i64) -> bool {
        match before {
            None => !self.some && !self.later,
            Some(before) => {
                !self.none && (!self.later || at > before) && (!self.sooner || at < before)
            }
        }
    }
}

fn set_time(
    ctx: &mut Ctx<'_>,
    args: Args<'_>,
    name: &'static str,
    unit_ms: i64,
    from: i64,
) -> CommandResult {
    let conditions = Conditions::parse(&args[3..])?;
    let at = number(args[2])?
        .checked_mul(unit_ms)
        .and_then(|ms| ms.checked_add(from))
        .ok_or(CommandError::InvalidExpire(name.into()))?;
    let Some(before) = ctx.write(args[1]).map(|e| e.expire_at()) else {
        ctx.reply.integer(0);
        return Ok(());
    };
    if !conditions.allow(before, at) {
        ctx.reply.integer(0);
        return Ok(());
    }
    if at <= ctx.now_ms() {
        ctx.remove(args[1]);
        ctx.modified(args[1], notify::GENERIC, "del");
        ctx.log_as(&[b"DEL", args[1]]);
    } else {
        ctx.set_expiry(args[1], Expiry::At(at));
        ctx.modified(args[1], notify::GENERIC, "expire");
        ctx.log_as(&[
            b"PEXPIREAT",
            args[1],
            itoa::Buffer::new().format(at).as_bytes(),
        ]);
    }
    ctx.reply.integer(1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    const NOW: i64 = 1_700_000_000_000;

    #[test]
    fn the_four_differ_in_unit_and_origin() {
        let mut t = Tester::new();
        for (line, at) in [
            ("EXPIRE k 100".to_string(), NOW + 100_000),
            ("PEXPIRE k 100".to_string(), NOW + 100),
            ("EXPIREAT k 1800000000".to_string(), 1_800_000_000_000),
            (format!("PEXPIREAT k {}", NOW + 7), NOW + 7),
        ] {
            t.check(&line, ":0")
                .check("SET k v", "+OK")
                .check_events(&line, &["expire k"])
                .check_log(&[&format!("PEXPIREAT k {at}")])
                .check("PEXPIRETIME k", &format!(":{at}"))
                .check("DEL k", ":1");
        }
    }

    #[test]
    fn a_time_that_has_come_deletes() {
        let mut t = Tester::new();
        for line in [
            "EXPIRE k 0".to_string(),
            "EXPIRE k -1".to_string(),
            "EXPIRE k -9223372036854775".to_string(),
            "PEXPIRE k 0".to_string(),
            "EXPIREAT k 1".to_string(),
            "PEXPIREAT k -9223372036854775808".to_string(),
            format!("PEXPIREAT k {NOW}"),
        ] {
            t.check("SET k v", "+OK")
                .check_events(&line, &["del k"])
                .check_log(&["DEL k"])
                .check("DBSIZE", ":0");
        }
        assert_eq!(t.shard.stats.expired, 0);
    }

    #[test]
    fn conditions() {
        let mut t = Tester::new();
        t.check("SET k v", "+OK");
        for (line, reply) in [
            ("EXPIRE k 100 XX", ":0"),
            ("EXPIRE k 100 GT", ":0"),
            ("EXPIRE k 100 xx lt", ":0"),
            ("EXPIRE k 100 LT", ":1"),
            ("EXPIRE k 100 NX", ":0"),
            ("EXPIRE k 100 GT", ":0"),
            ("EXPIRE k 100 LT", ":0"),
            ("EXPIRE k 101 XX GT", ":1"),
            ("EXPIRE k 102 LT", ":0"),
            ("EXPIRE k 99 lt LT xx", ":1"),
            ("EXPIRE k -1 GT", ":0"),
            ("EXPIRE k 0 NX", ":0"),
            ("EXISTS k", ":1"),
            ("PERSIST k", ":1"),
            ("EXPIRE k 50 NX NX", ":1"),
            ("TTL k", ":50"),
            ("EXPIRE k 0 LT", ":1"),
            ("EXISTS k", ":0"),
        ] {
            t.check(line, reply);
        }
    }

    #[test]
    fn errors_come_in_redis_order() {
        let mut t = Tester::new();
        t.check("SET k v", "+OK");
        let nx = "-ERR NX and XX, GT or LT options at the same time are not compatible";
        let number = "-ERR value is not an integer or out of range";
        for (line, reply) in [
            ("EXPIRE k x foo", "-ERR Unsupported option foo"),
            ("EXPIRE k x NX XX", nx),
            ("EXPIRE k 1 NX GT", nx),
            ("EXPIRE k 1 NX LT", nx),
            (
                "EXPIRE k 1 XX GT LT",
                "-ERR GT and LT options at the same time are not compatible",
            ),
            ("EXPIRE k x", number),
            ("EXPIRE k +5", number),
            ("EXPIRE k 05", number),
            ("EXPIRE nokey 1.5", number),
            (
                "EXPIRE nokey 9223372036854776",
                "-ERR invalid expire time in 'expire' command",
            ),
            (
                "EXPIRE k -9223372036854776",
                "-ERR invalid expire time in 'expire' command",
            ),
            (
                "EXPIRE k 9223372036854775",
                "-ERR invalid expire time in 'expire' command",
            ),
            (
                "PEXPIRE k 9223372036854775807",
                "-ERR invalid expire time in 'pexpire' command",
            ),
            (
                "EXPIREAT k 9223372036854776",
                "-ERR invalid expire time in 'expireat' command",
            ),
            ("PEXPIREAT k 9223372036854775807", ":1"),
            ("PEXPIRETIME k", ":9223372036854775807"),
            ("EXPIRETIME k", ":9223372036854776"),
        ] {
            t.check(line, reply);
        }
    }
}
