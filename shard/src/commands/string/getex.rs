//! GETEX.

use super::get::reply_value;
use super::options::{Allowed, Options};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::{Expiry, notify};
use ringwood_protocol::command::*;

pub const GETEX: Command<Handler> = command("GETEX", at_least(2), getex as Handler)
    .flags(WRITE | FAST)
    .acl(acl::STRING)
    .keys(&[at(1)
        .flags(RW | ACCESS | UPDATE)
        .notes("RW and UPDATE because it changes the TTL")])
    .doc(
        "Returns a string and changes its expiry.",
        "O(1)",
        "6.2.0",
        "string",
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
    ]);

const GETEX_OPTIONS: Allowed = Allowed {
    existence: false,
    comparison: false,
    get: false,
    keep_ttl: false,
    persist: true,
};

fn getex(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = args[1];
    let options = Options::parse(&args[2..], GETEX_OPTIONS)?;
    if !reply_value(ctx, key)? {
        return Ok(());
    }
    // A wrong time is an error only for a key that is there: the error takes the place of the value.
    match options.expire_at(ctx.now_ms(), "getex")? {
        Some(at) if at <= ctx.now_ms() => {
            ctx.remove(key);
            ctx.modified(key, notify::GENERIC, "del");
            ctx.log_as(&[b"DEL", key]);
        }
        Some(at) => {
            ctx.set_expiry(key, Expiry::At(at));
            ctx.modified(key, notify::GENERIC, "expire");
            ctx.log_as(&[b"PEXPIREAT", key, itoa::Buffer::new().format(at).as_bytes()]);
        }
        None if options.persist && ctx.clear_expiry(key) => {
            ctx.modified(key, notify::GENERIC, "persist");
            ctx.log_as(&[b"PERSIST", key]);
        }
        None => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn expiries_are_set_and_cleared() {
        let mut t = Tester::new();
        t.listen();
        t.check("GETEX k EX 10", "$-1").check("SET k v", "+OK");
        t.check_new_events("keymiss k, new k, set k");
        t.check("GETEX k EX 10", "$1 v")
            .check_log(&["PEXPIREAT k 1700000010000"])
            .check_new_events("expire k");
        t.check("GETEX k PX 10", "$1 v")
            .check_log(&["PEXPIREAT k 1700000000010"]);
        t.check("GETEX k exat 1700000001", "$1 v")
            .check_log(&["PEXPIREAT k 1700000001000"]);
        t.check("GETEX k PXAT 1700000000001", "$1 v")
            .check_log(&["PEXPIREAT k 1700000000001"])
            .check_new_events("expire k, expire k, expire k");
        assert_eq!(t.expire_at("k"), Some(1_700_000_000_001));
        t.check("GETEX k", "$1 v")
            .check_new_events("")
            .check_log_verbatim();
        t.check("GETEX k PERSIST", "$1 v").check_log(&["PERSIST k"]);
        t.check("GETEX k PERSIST", "$1 v")
            .check_new_events("persist k")
            .check_log_verbatim();
        assert_eq!(t.expire_at("k"), None);
    }

    #[test]
    fn a_time_in_the_past_deletes() {
        let mut t = Tester::new();
        t.listen();
        t.check("SET k v", "+OK").check_new_events("new k, set k");
        t.check("GETEX k PXAT 1700000000000", "$1 v")
            .check_log(&["DEL k"]);
        t.check("EXISTS k", ":0")
            .check_new_events("del k, keymiss k");
    }

    #[test]
    fn refused_words() {
        let mut t = Tester::new();
        t.check("SET k v", "+OK");
        for line in [
            "GETEX k EX",
            "GETEX k EX 10 PERSIST",
            "GETEX k PERSIST EX 10",
            "GETEX k EX 10 PX 10",
            "GETEX k KEEPTTL",
            "GETEX k NX",
            "GETEX k GET",
            "GETEX k foo",
        ] {
            t.check(line, "-ERR syntax error");
        }
        t.check(
            "GETEX k EX 0",
            "-ERR invalid expire time in 'getex' command",
        );
        t.check(
            "GETEX k EX abc",
            "-ERR value is not an integer or out of range",
        );
        t.check("GETEX nokey EX 0", "$-1")
            .check("GETEX nokey EX abc", "$-1");
        t.check("GETEX k PERSIST PERSIST", "$1 v")
            .check("GETEX k EX 1 EX 2", "$1 v");
        assert_eq!(t.expire_at("k"), Some(1_700_000_002_000));
    }
}
