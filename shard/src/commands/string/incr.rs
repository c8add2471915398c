//! INCR, DECR, INCRBY and DECRBY.

use super::parse_integer;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::{Encoding, Type};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const INCR: Command<Handler> = command("INCR", exactly(2), incr as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::STRING)
    .keys(&[at(1).flags(RW | ACCESS | UPDATE)])
    .doc("Adds one to an integer.", "O(1)", "1.0.0", "string")
    .args(&[key("key", 0)]);

fn incr(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    add(ctx, args[1], 1)
}

pub const DECR: Command<Handler> = command("DECR", exactly(2), decr as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::STRING)
    .keys(&[at(1).flags(RW | ACCESS | UPDATE)])
    .doc("Subtracts one from an integer.", "O(1)", "1.0.0", "string")
    .args(&[key("key", 0)]);

fn decr(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    add(ctx, args[1], -1)
}

pub const INCRBY: Command<Handler> = command("INCRBY", exactly(3), incrby as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::STRING)
    .keys(&[at(1).flags(RW | ACCESS | UPDATE)])
    .doc("Adds to an integer.", "O(1)", "1.0.0", "string")
    .args(&[key("key", 0), integer("increment")]);

fn incrby(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    add(ctx, args[1], parse_integer(args[2])?)
}

pub const DECRBY: Command<Handler> = command("DECRBY", exactly(3), decrby as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::STRING)
    .keys(&[at(1).flags(RW | ACCESS | UPDATE)])
    .doc("Subtracts from an integer.", "O(1)", "1.0.0", "string")
    .args(&[key("key", 0), integer("decrement")]);

fn decrby(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let by = parse_integer(args[2])?.checked_neg();
    add(ctx, args[1], by.ok_or(CommandError::DecrOverflow)?)
}

#[inline]
fn add(ctx: &mut Ctx<'_>, name: &[u8], by: i64) -> CommandResult {
    let key = ctx.key(name);
    let mut text = itoa::Buffer::new();
    let sum = match ctx.shard.write(ctx.db, key) {
        Some(entry) if entry.kind() != Type::String => return Err(CommandError::WrongType),
        Some(mut entry) => {
            let sum = parse_integer(entry.bytes())?
                .checked_add(by)
                .ok_or(CommandError::IncrOverflow)?;
            // Digits of the same count, or nearly, go into the same block.
            entry.set_bytes(Type::String, Encoding::Int, text.format(sum).as_bytes());
            sum
        }
        None => {
            let value = text.format(by).as_bytes();
            ctx.shard
                .insert_bytes(ctx.db, key, Type::String, Encoding::Int, &[value]);
            by
        }
    };
    ctx.modified(name, notify::STRING, "incrby");
    ctx.reply.integer(sum);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    const OVERFLOW: &str = "-ERR increment or decrement would overflow";
    const NOT_INTEGER: &str = "-ERR value is not an integer or out of range";

    #[test]
    fn counting() {
        let mut t = Tester::new();
        t.listen();
        t.check("INCR k", ":1")
            .check("INCR k", ":2")
            .check("DECR k", ":1");
        t.check("INCRBY k 41", ":42").check("DECRBY k 50", ":-8");
        t.check("GET k", "$2 -8").check_encoding("k", "int");
        t.check("DECR n", ":-1")
            .check("INCRBY m -5", ":-5")
            .check("DECRBY o -5", ":5");
        t.check_new_events("new k, incrby k, incrby k, incrby k, incrby k, incrby k, new n, incrby n, new m, incrby m, new o, incrby o");
        t.check_log_verbatim();
    }

    #[test]
    fn digits_grow_and_shrink_and_the_expiry_stays() {
        let mut t = Tester::new();
        t.check("SET k 1 EX 100", "+OK");
        t.check("INCRBY k 9223372036854775806", ":9223372036854775807");
        t.check("INCR k", OVERFLOW)
            .check("DECRBY k 9223372036854775807", ":0");
        t.check("GET k", "$1 0");
        assert_eq!(t.expire_at("k"), Some(1_700_000_100_000));
    }

    #[test]
    fn bounds() {
        let mut t = Tester::new();
        t.check("SET k 9223372036854775807", "+OK");
        t.check("DECRBY k -1", OVERFLOW)
            .check(
                "DECRBY k -9223372036854775808",
                "-ERR decrement would overflow",
            )
            .check(
                "DECRBY nokey -9223372036854775808",
                "-ERR decrement would overflow",
            );
        t.check("SET k -9223372036854775808", "+OK");
        t.check("DECR k", OVERFLOW)
            .check("INCRBY k 9223372036854775807", ":-1");
        t.check("INCRBY k 9223372036854775808", NOT_INTEGER);
        t.check("INCRBY n -9223372036854775808", ":-9223372036854775808");
    }

    #[test]
    fn what_is_no_integer() {
        let mut t = Tester::new();
        for value in [
            "007",
            "-0",
            "+1",
            "1.0",
            "0x10",
            "\"\"",
            "9223372036854775808",
            "a",
        ] {
            t.check(&format!("SET k {value}"), "+OK")
                .check("INCR k", NOT_INTEGER);
            t.check(&format!("INCRBY n {value}"), NOT_INTEGER);
        }
        t.check("EXISTS n", ":0");
        t.run_words(&[b"SET", b"k", b" 1"]);
        t.check("INCR k", NOT_INTEGER);
    }

    #[test]
    fn an_integer_in_a_raw_string_counts() {
        let mut t = Tester::new();
        t.check("SET k 1", "+OK")
            .check("APPEND k 2", ":2")
            .check_encoding("k", "raw");
        t.check("INCR k", ":13").check_encoding("k", "int");
    }
}
