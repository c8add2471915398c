//! MSETEX: many strings, one condition, one expiry.

use super::condition::Condition;
use super::options::{Allowed, Options};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::{Expiry, notify};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const MSETEX: Command<Handler> = command("MSETEX", at_least(4), msetex as Handler)
    .flags(WRITE | DENYOOM | MOVABLEKEYS)
    .acl(acl::STRING)
    .keys(&[at(1).keynum(0, 1, 2).flags(OW | UPDATE)])
    .doc(
        "Sets many strings with one expiry and an optional condition.",
        "O(N) where N is the number of keys to set.",
        "8.4.0",
        "string",
    )
    .args(&[
        integer("numkeys"),
        block("data", &[key("key", 0), string("value")]).multiple(),
        one_of("condition", &[word("nx", "NX"), word("xx", "XX")]).optional(),
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
    ])
    .tips(&[
        "request_policy:multi_shard",
        "response_policy:all_succeeded",
    ]);

const MSETEX_OPTIONS: Allowed = Allowed {
    existence: true,
    comparison: false,
    get: false,
    keep_ttl: true,
    persist: false,
};

fn msetex(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let count = super::parse_integer(args[1])
        .ok()
        .filter(|n| (1..=i32::MAX as i64).contains(n))
        .ok_or(CommandError::fixed("ERR invalid numkeys value"))? as usize;
    let pairs_end = 2 + 2 * count;
    if args.len() < pairs_end {
        return Err(CommandError::fixed("ERR wrong number of key-value pairs"));
    }
    let pairs = &args[2..pairs_end];
    let options = Options::parse(&args[pairs_end..], MSETEX_OPTIONS)?;
    let expire_at = options.expire_at(ctx.now_ms(), "msetex")?;

    let met = match options.condition {
        Some(Condition::Missing) => pairs.chunks(2).all(|p| ctx.write(p[0]).is_none()),
        Some(Condition::Exists) => pairs.chunks(2).all(|p| ctx.write(p[0]).is_some()),
        _ => true,
    };
    if met {
        let expiry = match expire_at {
            Some(at) => Expiry::At(at),
            None if options.keep_ttl => Expiry::Keep,
            None => Expiry::Clear,
        };
        for pair in pairs.chunks(2) {
            ctx.set_string(pair[0], pair[1], expiry);
            ctx.modified(pair[0], notify::STRING, "set");
            if expire_at.is_some() {
                ctx.shard
                    .notify(ctx.db, pair[0], notify::GENERIC, "expire", true);
            }
        }
        log(ctx, args[1], pairs, expiry);
    }
    ctx.reply.integer(met as i64);
    Ok(())
}

/// Logged without the condition, which was met, and with a point in time for the expiry.
fn log(ctx: &mut Ctx<'_>, count: &[u8], pairs: Args<'_>, expiry: Expiry) {
    let mut number = itoa::Buffer::new();
    let mut words: Vec<&[u8]> = vec![b"MSETEX", count];
    words.extend_from_slice(pairs);
    match expiry {
        Expiry::At(at) => words.extend([b"PXAT".as_slice(), number.format(at).as_bytes()]),
        Expiry::Keep => words.push(b"KEEPTTL"),
        Expiry::Clear => {}
    }
    ctx.log_as(&words);
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn sets_all_or_none() {
        let mut t = Tester::new();
        t.listen();
        t.check("MSETEX 2 a 1 b 2 EX 10", ":1")
            .check_log(&["MSETEX 2 a 1 b 2 PXAT 1700000010000"])
            .check_new_events("new a, set a, expire a, new b, set b, expire b");
        assert_eq!(t.expire_at("b"), Some(1_700_000_010_000));
        t.check("MSETEX 2 b 3 c 3 NX", ":0")
            .check_log_verbatim()
            .check_new_events("");
        t.check("MSETEX 2 b 3 c 3 XX", ":0").check("EXISTS c", ":0");
        t.check("MSETEX 2 a 3 b 3 KEEPTTL XX", ":1")
            .check_log(&["MSETEX 2 a 3 b 3 KEEPTTL"]);
        assert_eq!(t.expire_at("b"), Some(1_700_000_010_000));
        t.check("MSETEX 1 b 4", ":1").check_log(&["MSETEX 1 b 4"]);
        assert_eq!(t.expire_at("b"), None);
        t.check("MSETEX 1 d 4 PXAT 1", ":1").check("GET d", "$-1");
        t.check("MSETEX 2 e 1 e 2 NX", ":1").check("GET e", "$1 2");
    }

    #[test]
    fn refused_words() {
        let mut t = Tester::new();
        t.check(
            "MSETEX 1 a",
            "-ERR wrong number of arguments for 'msetex' command",
        );
        for count in ["0", "-1", "a", "2147483648", "01"] {
            t.check(&format!("MSETEX {count} a 1"), "-ERR invalid numkeys value");
        }
        t.check("MSETEX 2 a 1", "-ERR wrong number of key-value pairs")
            .check("MSETEX 2 a 1 b", "-ERR wrong number of key-value pairs");
        for options in [
            "x",
            "EX",
            "NX XX",
            "EX 1 PX 1",
            "EX 1 KEEPTTL",
            "KEEPTTL EX 1",
            "GET",
            "PERSIST",
            "IFEQ 1",
        ] {
            t.check(&format!("MSETEX 1 a 1 {options}"), "-ERR syntax error");
        }
        t.check(
            "MSETEX 1 a 1 EX b",
            "-ERR value is not an integer or out of range",
        );
        for time in [
            "EX 0",
            "PX -1",
            "EX 9223372036854775807",
            "PX 9223372036854775807",
        ] {
            t.check(
                &format!("MSETEX 1 a 1 {time}"),
                "-ERR invalid expire time in 'msetex' command",
            );
        }
        t.check("EXISTS a", ":0");
    }
}
