//! BITCOUNT.

use super::{Unit, is_long, resolve, size_of, words};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::Type;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number;

pub const BITCOUNT: Command<Handler> = command("BITCOUNT", at_least(2), bitcount as Handler)
    .flags(READONLY)
    .acl(acl::BITMAP)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc(
        "Counts the one bits of a string.",
        "O(N)",
        "2.6.0",
        "bitmap",
    )
    .history(&[("7.0.0", "Option `BYTE|BIT`.")])
    .args(&[
        key("key", 0),
        block(
            "range",
            &[
                integer("start"),
                integer("end"),
                one_of("unit", &[word("byte", "BYTE"), word("bit", "BIT")])
                    .since("7.0.0")
                    .optional(),
            ],
        )
        .optional(),
    ]);

/// What is wrong with the words is said first, whatever the key holds, as in Redis 8.2; 7.0 looks at the key first.
fn bitcount(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let integer = |word| number::parse_i64(word).ok_or(CommandError::NotInteger);
    let range = match args[2..] {
        [] => None,
        [start, end] => Some((integer(start)?, integer(end)?, Unit::Byte)),
        [start, end, unit] => Some((integer(start)?, integer(end)?, Unit::parse(unit)?)),
        _ => return Err(CommandError::Syntax),
    };
    let len = size_of(ctx, args[1]);
    let bits = match range {
        None => 0..len as u64 * 8,
        Some((start, end, unit)) => resolve(start, end, unit, len),
    };
    if is_long(ctx, bits) {
        return Ok(());
    }
    let bytes = ctx
        .read_typed(args[1], Type::String)?
        .map_or(&[][..], |entry| entry.bytes());
    let ones = match range {
        None => words::count_ones(bytes),
        // Both negative and crossed: none, even where clamping would bring them together.
        Some((start, end, _)) if start < 0 && end < 0 && start > end => 0,
        Some((start, end, unit)) => {
            words::count_ones_in(bytes, resolve(start, end, unit, bytes.len()))
        }
    };
    ctx.reply.integer(ones as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn ranges_in_bytes_and_bits() {
        let mut t = Tester::new();
        t.check("SET s hello", "+OK");
        for (range, count) in [
            ("", ":21"),
            (" 0 -1", ":21"),
            (" 1 1 BYTE", ":4"),
            (" 0 0 bit", ":0"),
            (" 1 2 bit", ":2"),
            (" 9 30 bit", ":12"),
            (" 5 30", ":0"),
            (" 10 -1", ":0"),
            (" -3 -4 bit", ":0"),
            (" -300 -400", ":0"),
            // The end is never before the first.
            (" -400 -300", ":3"),
            (" 0 -100", ":3"),
            (" -300 400 bit", ":21"),
            (" -9223372036854775808 9223372036854775807 bit", ":21"),
        ] {
            t.check(&format!("BITCOUNT s{range}"), count);
        }
        t.check("SET i 12345", "+OK").check("BITCOUNT i", ":17");
        t.check("BITCOUNT nokey", ":0")
            .check("BITCOUNT nokey 0 -1", ":0");
        t.check("SET e \"\"", "+OK").check("BITCOUNT e", ":0");
        t.check("BITCOUNT e 0 -1", ":0")
            .check("BITCOUNT e 0 0 BIT", ":0");
    }

    #[test]
    fn errors() {
        let mut t = Tester::new();
        for (words, reply) in [
            ("0", "-ERR syntax error"),
            ("0 1 BIT x", "-ERR syntax error"),
            ("0 1 NIBBLE", "-ERR syntax error"),
            ("0 x NIBBLE", "-ERR value is not an integer or out of range"),
            ("x 0", "-ERR value is not an integer or out of range"),
        ] {
            t.check(&format!("BITCOUNT nokey {words}"), reply);
        }
    }
}
