//! Parts of strings: GETRANGE, its old name SUBSTR, and SETRANGE.

use super::{check_length, parse_integer};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::{Encoding, Type};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use std::ops::Range;

pub const GETRANGE: Command<Handler> = command("GETRANGE", exactly(4), getrange as Handler)
    .flags(READONLY)
    .acl(acl::STRING)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Returns a part of a string.", "O(N) where N is the length of the returned string. The complexity is ultimately determined by the returned length, but because creating a substring from an existing string is very cheap, it can be considered O(1) for small strings.", "2.4.0", "string")
    .args(&[key("key", 0), integer("start"), integer("end")]);

pub const SUBSTR: Command<Handler> = command("SUBSTR", exactly(4), substr as Handler)
    .flags(READONLY)
    .acl(acl::STRING)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Returns a part of a string; the old name.", "O(N) where N is the length of the returned string. The complexity is ultimately determined by the returned length, but because creating a substring from an existing string is very cheap, it can be considered O(1) for small strings.", "1.0.0", "string")
    .deprecated("2.0.0", "`GETRANGE`")
    .args(&[key("key", 0), integer("start"), integer("end")]);

fn substr(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    getrange(ctx, args)
}

fn getrange(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (start, end) = (parse_integer(args[2])?, parse_integer(args[3])?);
    let key = ctx.key(args[1]);
    let part = match ctx.shard.read(ctx.db, key) {
        Some(entry) if entry.kind() != Type::String => return Err(CommandError::WrongType),
        Some(entry) => {
            let bytes = entry.bytes();
            &bytes[resolve(start, end, bytes.len())]
        }
        None => &[],
    };
    ctx.reply.bulk(part);
    Ok(())
}

/// The places that `start` and `end` (which is included) mean in a string of `len` bytes; negative ones count from its end.
fn resolve(start: i64, end: i64, len: usize) -> Range<usize> {
    // Both negative and crossed: empty, even where clamping would bring them together.
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let len = len as i64;
    let from_start = |at: i64| if at < 0 { (at + len).max(0) } else { at };
    let (start, end) = (from_start(start), from_start(end).min(len - 1));
    if start > end {
        return 0..0;
    }
    start as usize..end as usize + 1
}

pub const SETRANGE: Command<Handler> = command("SETRANGE", exactly(4), setrange as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::STRING)
    .keys(&[at(1).flags(RW | UPDATE)])
    .doc("Overwrites a part of a string.", "O(1), not counting the time taken to copy the new string in place. Usually, this string is very small so the amortized complexity is O(1). Otherwise, complexity is O(M) with M being the length of the value argument.", "2.2.0", "string")
    .args(&[key("key", 0), integer("offset"), string("value")]);

fn setrange(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (offset, value) = (parse_integer(args[2])?, args[3]);
    let Ok(offset) = usize::try_from(offset) else {
        return Err(CommandError::fixed("ERR offset is out of range"));
    };
    let limit = ctx.shard.settings.string_len_max;
    let key = ctx.key(args[1]);
    let len = match ctx.shard.write(ctx.db, key) {
        Some(entry) if entry.kind() != Type::String => return Err(CommandError::WrongType),
        Some(entry) if value.is_empty() => {
            ctx.reply.integer(entry.bytes().len() as i64);
            return Ok(());
        }
        Some(mut entry) => {
            check_length(offset, value.len(), limit)?;
            entry.write_at(offset, value);
            entry.set_encoding(Encoding::Raw);
            entry.bytes().len()
        }
        None if value.is_empty() => {
            ctx.reply.integer(0);
            return Ok(());
        }
        None => {
            check_length(offset, value.len(), limit)?;
            let mut entry = ctx
                .shard
                .insert_bytes(ctx.db, key, Type::String, Encoding::Raw, &[]);
            entry.write_at(offset, value);
            offset + value.len()
        }
    };
    ctx.modified(args[1], notify::STRING, "setrange");
    ctx.reply.integer(len as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn getrange() {
        let mut t = Tester::new();
        t.check("SET k hello", "+OK");
        for (start, end, part) in [
            ("0", "0", "$1 h"),
            ("0", "-1", "$5 hello"),
            ("1", "3", "$3 ell"),
            ("-3", "-2", "$2 ll"),
            ("-100", "100", "$5 hello"),
            ("-100", "-50", "$1 h"),
            ("-2", "-3", "$0"),
            ("-50", "-100", "$0"),
            ("3", "1", "$0"),
            ("5", "9", "$0"),
            ("4", "9", "$1 o"),
            ("0", "-6", "$1 h"),
            ("9223372036854775807", "9223372036854775807", "$0"),
            ("-9223372036854775808", "9223372036854775807", "$5 hello"),
        ] {
            t.check(&format!("GETRANGE k {start} {end}"), part);
            t.check(&format!("SUBSTR k {start} {end}"), part);
        }
        t.check("GETRANGE nokey 0 -1", "$0");
        t.check("SET e \"\"", "+OK").check("GETRANGE e 0 -1", "$0");
        t.check(
            "GETRANGE k a 0",
            "-ERR value is not an integer or out of range",
        );
    }

    #[test]
    fn setrange_on_a_missing_key() {
        let mut t = Tester::new();
        t.listen();
        t.check("SETRANGE k 5 \"\"", ":0").check("EXISTS k", ":0");
        t.check("SETRANGE k 2 x", ":3").check("GET k", "$3 \0\0x");
        t.check_encoding("k", "raw");
        t.check_new_events("keymiss k, new k, setrange k");
    }

    #[test]
    fn setrange_on_a_value() {
        let mut t = Tester::new();
        t.check("SET k 1234", "+OK")
            .check("SETRANGE k 0 \"\"", ":4");
        t.check_encoding("k", "int");
        t.check("SETRANGE k 1 99", ":4").check("GET k", "$4 1994");
        t.check_encoding("k", "raw");
        t.check("SETRANGE k 3 56", ":5").check("GET k", "$5 19956");
        t.check("SETRANGE k 6 z", ":7")
            .check("GET k", "$7 19956\0z");
        t.check("SETRANGE k -1 z", "-ERR offset is out of range");
        t.check(
            "SETRANGE k 9223372036854775808 z",
            "-ERR value is not an integer or out of range",
        );
        let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
        t.check("SETRANGE k 536870912 z", too_long);
        t.check("SETRANGE k 9223372036854775807 z", too_long);
        t.check("SETRANGE k 536870912 \"\"", ":7")
            .check("STRLEN k", ":7");
    }

    #[test]
    fn setrange_in_large_values() {
        let mut t = Tester::new();
        t.check("SETRANGE k 10000 end", ":10003")
            .check("STRLEN k", ":10003");
        t.check("SETRANGE k 5000 mid", ":10003")
            .check("SETRANGE k 20000 more", ":20004");
        t.check("GETRANGE k 4999 5003", "$5 \0mid\0");
        t.check("GETRANGE k 9999 10003", "$5 \0end\0");
        t.check("GETRANGE k 19999 20004", "$5 \0more");
    }
}
