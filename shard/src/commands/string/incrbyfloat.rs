//! INCRBYFLOAT, in the precision of C's long double, as Redis counts.

use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::{Encoding, Type};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::LongDouble;

pub const INCRBYFLOAT: Command<Handler> =
    command("INCRBYFLOAT", exactly(3), incrbyfloat as Handler)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::STRING)
        .keys(&[at(1).flags(RW | ACCESS | UPDATE)])
        .doc(
            "Adds to a floating-point number.",
            "O(1)",
            "2.6.0",
            "string",
        )
        .args(&[key("key", 0), double("increment")]);

fn incrbyfloat(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    let mut text = Vec::with_capacity(32);
    let number = |text| LongDouble::parse(text).ok_or(CommandError::NotFloat);
    let sum = |value: LongDouble| -> Result<LongDouble, CommandError> {
        value
            .checked_add(number(args[2])?)
            .filter(|sum| !sum.is_infinite())
            .ok_or(CommandError::NanOrInfinity)
    };
    match ctx.shard.write(ctx.db, key) {
        Some(entry) if entry.kind() != Type::String => return Err(CommandError::WrongType),
        Some(mut entry) => {
            sum(number(entry.bytes())?)?.append_text(&mut text);
            entry.set_bytes(Type::String, encoding(&text), &text);
        }
        None => {
            sum(LongDouble::ZERO)?.append_text(&mut text);
            ctx.shard
                .insert_bytes(ctx.db, key, Type::String, encoding(&text), &[&text]);
        }
    }
    ctx.modified(args[1], notify::STRING, "incrbyfloat");
    // Not to depend on how another machine adds.
    ctx.log_as(&[b"SET", args[1], &text, b"KEEPTTL"]);
    ctx.reply.bulk(&text);
    Ok(())
}

/// A sum is kept as text, even a whole number.
fn encoding(text: &[u8]) -> Encoding {
    match Encoding::of_string(text) {
        Encoding::Int => Encoding::Embstr,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn adding() {
        let mut t = Tester::new();
        t.listen();
        t.check("INCRBYFLOAT k 1.5", "$3 1.5")
            .check_log(&["SET k 1.5 KEEPTTL"]);
        t.check("INCRBYFLOAT k 0.5", "$1 2")
            .check_encoding("k", "embstr");
        t.check_new_events("new k, incrbyfloat k, incrbyfloat k");
        t.check("SET k 10.50", "+OK")
            .check("INCRBYFLOAT k 0.1", "$4 10.6");
        t.check("SET k 5.0e3", "+OK")
            .check("INCRBYFLOAT k 2.0e2", "$4 5200");
        t.check("SET k 0x10", "+OK")
            .check("INCRBYFLOAT k 0x1p3", "$2 24");
        t.check("SET k 3", "+OK").check(
            "INCRBYFLOAT k 1.000000000000000005",
            "$19 4.00000000000000001",
        );
        t.check("INCRBYFLOAT k -1.1", "$19 2.90000000000000001")
            .check("INCRBYFLOAT k 1e15", "$30 1000000000000002.9000244140625");
        t.check("SET k 1 EX 9", "+OK")
            .check("INCRBYFLOAT k 1", "$1 2");
        assert_eq!(t.expire_at("k"), Some(1_700_000_009_000));
    }

    #[test]
    fn what_is_refused() {
        let mut t = Tester::new();
        let not_float = "-ERR value is not a valid float";
        for text in ["abc", "nan", "1e5000", "\"\"", "1.0x", "1e-5000"] {
            t.check(&format!("SET k {text}"), "+OK");
            t.check("INCRBYFLOAT k 1", not_float);
            t.check(&format!("INCRBYFLOAT n {text}"), not_float);
        }
        t.run_words(&[b"SET", b"k", b" 1"]);
        t.check("INCRBYFLOAT k 1", not_float);
        t.check("SET k 1", "+OK");
        t.check(
            "INCRBYFLOAT k inf",
            "-ERR increment would produce NaN or Infinity",
        );
        t.check(
            "INCRBYFLOAT k -inf",
            "-ERR increment would produce NaN or Infinity",
        );
        t.check("EXISTS n", ":0");
    }
}
