//! SET, and its old forms SETNX, SETEX and PSETEX.

use super::get::reply_value;
use super::options::{Allowed, Options, TimeUnit};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::{Expiry, notify};
use ringwood_protocol::command::*;

pub const SET: Command<Handler> = command("SET", at_least(3), set as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::STRING)
    .keys(&[at(1)
        .flags(RW | ACCESS | UPDATE | VARIABLE_FLAGS)
        .notes("RW and ACCESS due to the optional `GET` argument")])
    .doc(
        "Sets a key to a string, whatever it held before.",
        "O(1)",
        "1.0.0",
        "string",
    )
    .history(&[
        ("2.6.12", "Options `EX`, `PX`, `NX` and `XX`."),
        ("6.0.0", "Option `KEEPTTL`."),
        ("6.2.0", "Options `GET`, `EXAT` and `PXAT`."),
        ("7.0.0", "`NX` and `GET` may go together."),
        ("8.4.0", "Options `IFEQ`, `IFNE`, `IFDEQ` and `IFDNE`."),
    ])
    .args(&[
        key("key", 0),
        string("value"),
        one_of(
            "condition",
            &[
                word("nx", "NX"),
                word("xx", "XX"),
                string("ifeq-value").token("IFEQ").since("8.4.0"),
                string("ifne-value").token("IFNE").since("8.4.0"),
                string("ifdeq-digest").token("IFDEQ").since("8.4.0"),
                string("ifdne-digest").token("IFDNE").since("8.4.0"),
            ],
        )
        .since("2.6.12")
        .optional(),
        word("get", "GET").since("6.2.0").optional(),
        one_of(
            "expiration",
            &[
                integer("seconds").token("EX").since("2.6.12"),
                integer("milliseconds").token("PX").since("2.6.12"),
                unix_time("unix-time-seconds").token("EXAT").since("6.2.0"),
                unix_time("unix-time-milliseconds")
                    .token("PXAT")
                    .since("6.2.0"),
                word("keepttl", "KEEPTTL").since("6.0.0"),
            ],
        )
        .optional(),
    ]);

#[inline]
fn set(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    if args.len() > 3 {
        return set_with_options(ctx, args);
    }
    ctx.set_string(args[1], args[2], Expiry::Clear);
    ctx.modified(args[1], notify::STRING, "set");
    ctx.reply.ok();
    Ok(())
}

const SET_OPTIONS: Allowed = Allowed {
    existence: true,
    comparison: true,
    get: true,
    keep_ttl: true,
    persist: false,
};

fn set_with_options(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (key, value) = (args[1], args[2]);
    let options = Options::parse(&args[3..], SET_OPTIONS)?;
    let expire_at = options.expire_at(ctx.now_ms(), "set")?;
    if options.get {
        reply_value(ctx, key)?;
    }
    if let Some(condition) = options.condition
        && !condition.is_met(ctx, key)?
    {
        if !options.get {
            ctx.reply.null();
        }
        return Ok(());
    }
    match expire_at {
        Some(at) => set_expiring(ctx, key, value, at),
        None => {
            let expiry = if options.keep_ttl {
                Expiry::Keep
            } else {
                Expiry::Clear
            };
            ctx.set_string(key, value, expiry);
            ctx.modified(key, notify::STRING, "set");
            if options.keep_ttl {
                ctx.log_as(&[b"SET", key, value, b"KEEPTTL"]);
            } else {
                ctx.log_as(&[b"SET", key, value]);
            }
        }
    }
    if !options.get {
        ctx.reply.ok();
    }
    Ok(())
}

fn set_expiring(ctx: &mut Ctx<'_>, key: &[u8], value: &[u8], at: i64) {
    ctx.set_string(key, value, Expiry::At(at));
    ctx.modified(key, notify::STRING, "set");
    // The same change as "set": counted once.
    ctx.shard
        .notify(ctx.db, key, notify::GENERIC, "expire", true);
    let at = itoa::Buffer::new().format(at).to_owned();
    ctx.log_as(&[b"SET", key, value, b"PXAT", at.as_bytes()]);
}

pub const SETNX: Command<Handler> = command("SETNX", exactly(3), setnx as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::STRING)
    .keys(&[at(1).flags(OW | INSERT)])
    .doc(
        "Sets a string if the key is missing.",
        "O(1)",
        "1.0.0",
        "string",
    )
    .deprecated("2.6.12", "`SET` with the `NX` argument")
    .args(&[key("key", 0), string("value")]);

fn setnx(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let free = ctx.write(args[1]).is_none();
    if free {
        ctx.set_string(args[1], args[2], Expiry::Clear);
        ctx.modified(args[1], notify::STRING, "set");
    }
    ctx.reply.integer(free as i64);
    Ok(())
}

pub const SETEX: Command<Handler> = command("SETEX", exactly(4), setex as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::STRING)
    .keys(&[at(1).flags(OW | UPDATE)])
    .doc(
        "Sets a string that expires after some seconds.",
        "O(1)",
        "2.0.0",
        "string",
    )
    .deprecated("2.6.12", "`SET` with the `EX` argument")
    .args(&[key("key", 0), integer("seconds"), string("value")]);

fn setex(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let at = TimeUnit::Ex.expire_at(args[2], ctx.now_ms(), "setex")?;
    set_expiring(ctx, args[1], args[3], at);
    ctx.reply.ok();
    Ok(())
}

pub const PSETEX: Command<Handler> = command("PSETEX", exactly(4), psetex as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::STRING)
    .keys(&[at(1).flags(OW | UPDATE)])
    .doc(
        "Sets a string that expires after some milliseconds.",
        "O(1)",
        "2.6.0",
        "string",
    )
    .deprecated("2.6.12", "`SET` with the `PX` argument")
    .args(&[key("key", 0), integer("milliseconds"), string("value")]);

fn psetex(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let at = TimeUnit::Px.expire_at(args[2], ctx.now_ms(), "psetex")?;
    set_expiring(ctx, args[1], args[3], at);
    ctx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn set_replaces_value_and_expiry() {
        let mut t = Tester::new();
        t.listen();
        t.check("SET k v", "+OK")
            .check_new_events("new k, set k")
            .check_log_verbatim();
        t.check("SET k 12 EX 10", "+OK")
            .check_new_events("set k, expire k")
            .check_log(&["SET k 12 PXAT 1700000010000"])
            .check_encoding("k", "int");
        assert_eq!(t.expire_at("k"), Some(1_700_000_010_000));
        t.check("SET k v keepttl", "+OK")
            .check_log(&["SET k v KEEPTTL"])
            .check_encoding("k", "embstr");
        assert_eq!(t.expire_at("k"), Some(1_700_000_010_000));
        t.check("SET k w", "+OK").check_new_events("set k, set k");
        assert_eq!(t.expire_at("k"), None);
        let long = "x".repeat(45);
        t.check(&format!("SET k {long}"), "+OK")
            .check_encoding("k", "raw");
    }

    #[test]
    fn expiry_units() {
        let mut t = Tester::new();
        for (line, at) in [
            ("SET k v EX 5", 1_700_000_005_000),
            ("SET k v px 5", 1_700_000_000_005),
            ("SET k v ExAt 1700000009", 1_700_000_009_000),
            ("SET k v PXAT 1700000000009", 1_700_000_000_009),
            ("SET k v EX 1 EX 2", 1_700_000_002_000),
            ("SETEX k 5 v", 1_700_000_005_000),
            ("PSETEX k 5 v", 1_700_000_000_005),
            ("SET k v PXAT 9223372036854775807", i64::MAX),
        ] {
            t.check(line, "+OK")
                .check_log(&[&format!("SET k v PXAT {at}")]);
            assert_eq!(t.expire_at("k"), Some(at), "{line}");
        }
        t.check("SET k v PXAT 1", "+OK").check("GET k", "$-1");
    }

    #[test]
    fn conditions_on_existence() {
        let mut t = Tester::new();
        t.listen();
        t.check("SET k v XX", "$-1")
            .check("SET k v NX", "+OK")
            .check_log(&["SET k v"]);
        t.check_new_events("new k, set k");
        t.check("SET k w NX", "$-1")
            .check_log_verbatim()
            .check_new_events("");
        t.check("SET k w XX XX", "+OK").check("GET k", "$1 w");
        t.check("SETNX k x", ":0")
            .check("SETNX n x", ":1")
            .check("MGET k n", "*2 $1 w $1 x");
        t.check("SET k x PX 5 XX", "+OK")
            .advance(5)
            .check("SET k y XX", "$-1");
        t.check("SETNX k z", ":1");
    }

    #[test]
    fn get_answers_with_the_old_value() {
        let mut t = Tester::new();
        t.check("SET k 1 GET", "$-1").check_log(&["SET k 1"]);
        t.check("SET k 2 GET XX EX 9", "$1 1")
            .check_log(&["SET k 2 PXAT 1700000009000"]);
        t.check("SET k 3 NX GET", "$1 2").check("GET k", "$1 2");
        t.check("SET n 3 XX GET", "$-1").check("EXISTS n", ":0");
        t.check("SET k 5 GET KEEPTTL", "$1 2")
            .check_log(&["SET k 5 KEEPTTL"]);
    }

    #[test]
    fn conditions_on_the_value() {
        let mut t = Tester::new();
        t.check("SET k v IFEQ v", "$-1")
            .check("SET k v IFDEQ short", "$-1");
        t.check("SET k v IFNE x", "+OK").check_log(&["SET k v"]);
        t.check("SET k w IFEQ x", "$-1")
            .check("SET k w IFNE v", "$-1");
        t.check("SET k w ifeq v", "+OK")
            .check("SET k v8 IFEQ v GET", "$1 w")
            .check("GET k", "$1 w");
        t.check("SET k v8 IFEQ w GET", "$1 w")
            .check("GET k", "$2 v8");
        t.check("SET k x IFDEQ 0cc76dbb41381410", "$-1")
            .check("SET k x IFDNE 0cc76dbb41381419", "$-1");
        t.check(
            "SET k x IFDEQ short",
            "-ERR must be exactly 16 hexadecimal characters",
        );
        t.check("SET k x IFDEQ 0CC76DBB41381419 EX 1", "+OK")
            .check_log(&["SET k x PXAT 1700000001000"]);
        t.check("SET k y IFDNE 0000000000000000", "+OK")
            .check("SET n y IFDNE 0", "+OK");
    }

    #[test]
    fn refused_words() {
        let mut t = Tester::new();
        t.check("SET k", "-ERR wrong number of arguments for 'set' command");
        for options in [
            "foo",
            "NX XX",
            "XX NX",
            "EX",
            "EX 1 PX 1",
            "EXAT 1 PXAT 1",
            "KEEPTTL EX 1",
            "EX 1 KEEPTTL",
            "PERSIST",
            "EX abc foo",
            "IFEQ",
            "IFEQ v NX",
            "NX IFEQ v",
            "IFEQ v IFEQ v",
            "IFEQ v IFNE w",
            "IFDEQ",
        ] {
            t.check(&format!("SET k v {options}"), "-ERR syntax error");
        }
        t.check(
            "SET k v EX abc",
            "-ERR value is not an integer or out of range",
        );
        for time in [
            "EX 0",
            "PX -5",
            "EXAT 0",
            "PXAT -1",
            "EX 9223372036854775807",
            "EX 9223372036854775",
            "EXAT 9223372036854775807",
            "PX 9223372036854775807",
        ] {
            t.check(
                &format!("SET k v {time}"),
                "-ERR invalid expire time in 'set' command",
            );
        }
        t.check("SETEX k 0 v", "-ERR invalid expire time in 'setex' command");
        t.check(
            "SETEX k 9223372036854775807 v",
            "-ERR invalid expire time in 'setex' command",
        );
        t.check(
            "PSETEX k -1 v",
            "-ERR invalid expire time in 'psetex' command",
        );
        t.check(
            "SETEX k abc v",
            "-ERR value is not an integer or out of range",
        );
        t.check("EXISTS k", ":0");
    }
}
