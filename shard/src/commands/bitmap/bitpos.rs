//! BITPOS.

use super::{Unit, is_long, resolve, size_of, words};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::Type;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number;

pub const BITPOS: Command<Handler> = command("BITPOS", at_least(3), bitpos as Handler)
    .flags(READONLY)
    .acl(acl::BITMAP)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc(
        "Finds the first bit that is one or zero.",
        "O(N)",
        "2.8.7",
        "bitmap",
    )
    .history(&[("7.0.0", "Option `BYTE|BIT`.")])
    .args(&[
        key("key", 0),
        integer("bit"),
        block(
            "range",
            &[
                integer("start"),
                block(
                    "end-unit-block",
                    &[
                        integer("end"),
                        one_of("unit", &[word("byte", "BYTE"), word("bit", "BIT")])
                            .since("7.0.0")
                            .optional(),
                    ],
                )
                .optional(),
            ],
        )
        .optional(),
    ]);

/// What is wrong with the words is said first, whatever the key holds, as in Redis 8.2; 7.0 looks at the key first.
fn bitpos(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let integer = |word| number::parse_i64(word).ok_or(CommandError::NotInteger);
    let bit = match integer(args[2])? {
        0 => false,
        1 => true,
        _ => {
            return Err(CommandError::fixed("ERR The bit argument must be 1 or 0."));
        }
    };
    let (start, end, unit) = match args[3..] {
        [] => (0, None, Unit::Byte),
        [start] => (integer(start)?, None, Unit::Byte),
        [start, end] => (integer(start)?, Some(integer(end)?), Unit::Byte),
        [start, end, unit] => {
            let start = integer(start)?;
            let unit = Unit::parse(unit)?;
            (start, Some(integer(end)?), unit)
        }
        _ => return Err(CommandError::Syntax),
    };
    // Where the search ends is not known before.
    let len = size_of(ctx, args[1]);
    if is_long(ctx, resolve(start, end.unwrap_or(-1), unit, len)) {
        return Ok(());
    }
    let Some(entry) = ctx.read_typed(args[1], Type::String)? else {
        // Zeros without end.
        ctx.reply.integer(if bit { -1 } else { 0 });
        return Ok(());
    };
    let bytes = entry.bytes();
    let range = resolve(start, end.unwrap_or(-1), unit, bytes.len());
    let position = match words::position(bytes, bit, range.clone()) {
        Some(at) => at as i64,
        // A string is followed by zeros, unless the range has an end.
        None if !bit && end.is_none() && !range.is_empty() => range.end as i64,
        None => -1,
    };
    ctx.reply.integer(position);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn positions() {
        let mut t = Tester::new();
        t.check("SET s hello", "+OK").check("SET e \"\"", "+OK");
        t.run_words(&[b"SET", b"f", b"\xff\xff\xff"]);
        t.check("SETBIT h 100 1", ":0");
        for (words, position) in [
            ("nokey 1", ":-1"),
            ("nokey 0", ":0"),
            ("nokey 0 5 6", ":0"),
            ("e 1", ":-1"),
            ("e 0", ":-1"),
            ("e 0 0", ":-1"),
            ("s 1", ":1"),
            ("s 0", ":0"),
            ("s 1 9", ":-1"),
            ("s 0 9", ":-1"),
            ("s 1 3 2", ":-1"),
            ("s 0 3 2", ":-1"),
            ("f 0", ":24"),
            ("f 0 0", ":24"),
            ("f 0 2", ":24"),
            ("f 0 -1", ":24"),
            ("f 0 3", ":-1"),
            ("f 0 0 -1", ":-1"),
            ("f 0 8 15 BIT", ":-1"),
            ("f 1 9 15 BIT", ":9"),
            ("f 1 -1 -1 bit", ":23"),
            ("h 1 3 -1 BIT", ":100"),
            ("h 1 100 100 BIT", ":100"),
            ("h 1 101 -1 BIT", ":-1"),
            ("h 1 0 99 BIT", ":-1"),
            ("h 0 100 103 BIT", ":101"),
            ("h 0 -500", ":0"),
        ] {
            t.check(&format!("BITPOS {words}"), position);
        }
    }

    #[test]
    fn errors() {
        let mut t = Tester::new();
        for (words, reply) in [
            ("2", "-ERR The bit argument must be 1 or 0."),
            ("x", "-ERR value is not an integer or out of range"),
            ("0 a", "-ERR value is not an integer or out of range"),
            ("0 0 0 nib", "-ERR syntax error"),
            ("0 0 y nib", "-ERR syntax error"),
            ("0 x y nib", "-ERR value is not an integer or out of range"),
            ("0 0 0 bit x", "-ERR syntax error"),
        ] {
            t.check(&format!("BITPOS nokey {words}"), reply);
        }
    }
}
