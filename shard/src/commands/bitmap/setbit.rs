//! SETBIT and GETBIT.

use super::{ZEROS, bit_offset, grow};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::{Encoding, Type};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const SETBIT: Command<Handler> = command("SETBIT", exactly(4), setbit as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::BITMAP)
    .keys(&[at(1).flags(RW | ACCESS | UPDATE)])
    .doc(
        "Sets one bit of a string and returns what it was.",
        "O(1)",
        "2.2.0",
        "bitmap",
    )
    .args(&[key("key", 0), integer("offset"), integer("value")]);

/// The byte of a bit, and the bit in it.
#[inline]
fn place(offset: u64) -> (usize, u8) {
    ((offset / 8) as usize, 0x80 >> (offset % 8))
}

fn setbit(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let offset = bit_offset(args[2], &ctx.shard.settings)?;
    let on = match args[3] {
        b"0" => false,
        b"1" => true,
        _ => {
            return Err(CommandError::fixed(
                "ERR bit is not an integer or out of range",
            ));
        }
    };
    let (at, mask) = place(offset);
    let key = ctx.key(args[1]);
    let (before, changed) = match ctx.shard.write(ctx.db, key) {
        Some(entry) if entry.kind() != Type::String => return Err(CommandError::WrongType),
        Some(mut entry) => {
            if entry.encoding() != Encoding::Raw {
                entry.set_encoding(Encoding::Raw);
            }
            let grown = grow(&mut entry, at + 1);
            let byte = &mut entry.bytes_mut()[at];
            let before = *byte & mask != 0;
            if before != on {
                *byte ^= mask;
            }
            (before, grown || before != on)
        }
        None => {
            let last = [if on { mask } else { 0 }];
            let (kind, encoding) = (Type::String, Encoding::Raw);
            if let Some(zeros) = ZEROS.get(..at) {
                ctx.shard
                    .insert_bytes(ctx.db, key, kind, encoding, &[zeros, &last]);
            } else {
                let mut entry = ctx.shard.insert_bytes(ctx.db, key, kind, encoding, &[]);
                grow(&mut entry, at + 1);
                entry.bytes_mut()[at] = last[0];
            }
            (false, true)
        }
    };
    if changed {
        ctx.modified(args[1], notify::STRING, "setbit");
    }
    ctx.reply.integer(before.into());
    Ok(())
}

pub const GETBIT: Command<Handler> = command("GETBIT", exactly(3), getbit as Handler)
    .flags(READONLY | FAST)
    .acl(acl::BITMAP)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Returns one bit of a string.", "O(1)", "2.2.0", "bitmap")
    .args(&[key("key", 0), integer("offset")]);

fn getbit(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (at, mask) = place(bit_offset(args[2], &ctx.shard.settings)?);
    let byte = ctx
        .read_typed(args[1], Type::String)?
        .and_then(|entry| entry.bytes().get(at).copied())
        .unwrap_or(0);
    ctx.reply.integer((byte & mask != 0).into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;
    use crate::shard::Settings;

    #[test]
    fn bits_are_set_and_read() {
        let mut t = Tester::new();
        t.listen();
        t.check("SETBIT k 7 1", ":0").check("GET k", "$1 \u{1}");
        t.check_new_events("new k, setbit k");
        t.check("SETBIT k 7 1", ":1");
        t.check_new_events("");
        t.check("SETBIT k 100 0", ":0").check("STRLEN k", ":13");
        t.check_new_events("setbit k");
        t.check("SETBIT k 100 0", ":0").check("SETBIT k 7 0", ":1");
        t.check_new_events("setbit k");
        t.check("GETBIT k 7", ":0")
            .check("GETBIT k 4294967295", ":0");
        t.check("GETBIT nokey 0", ":0");
        t.check_encoding("k", "raw");
    }

    #[test]
    fn a_value_of_another_encoding_becomes_raw_though_no_bit_changes() {
        let mut t = Tester::new();
        t.check("SET i 12", "+OK").check("SETBIT i 0 0", ":0");
        t.check_encoding("i", "raw").check("GET i", "$2 12");
        t.check("INCR i", ":13").check("SETBIT i 6 0", ":0");
        t.check("SETBIT i 7 0", ":1").check("GET i", "$2 03");
    }

    #[test]
    fn growth_keeps_the_bits_and_the_expiry() {
        for step in [1, 700, 9000, 100_000, 1_000_000] {
            let mut t = Tester::new();
            t.check("SETBIT k 3 1", ":0").check("EXPIRE k 100", ":1");
            for round in 1..20_u64 {
                let at = round * step;
                t.check(
                    &format!("SETBIT k {at} 1"),
                    if at == 3 { ":1" } else { ":0" },
                );
                t.check("STRLEN k", &format!(":{}", at / 8 + 1));
            }
            for round in 1..20 {
                t.check(&format!("GETBIT k {}", round * step), ":1");
            }
            t.check("GETBIT k 3", ":1");
            t.check("BITCOUNT k", if step == 1 { ":19" } else { ":20" });
            assert_eq!(t.expire_at("k"), Some(1_700_000_100_000));
        }
    }

    #[test]
    fn far_bits_of_new_keys() {
        let mut t = Tester::new();
        for at in [0, 8191, 8192, 8200, 100_000, 4_294_967_295_u64] {
            t.check("DEL k", if at == 0 { ":0" } else { ":1" });
            t.check(&format!("SETBIT k {at} 1"), ":0");
            t.check("STRLEN k", &format!(":{}", at / 8 + 1));
            t.check(&format!("GETBIT k {at}"), ":1");
        }
    }

    #[test]
    fn errors() {
        let mut t = Tester::with(Settings {
            string_len_max: 1 << 20,
            ..Settings::default()
        });
        let offset = "-ERR bit offset is not an integer or out of range";
        let value = "-ERR bit is not an integer or out of range";
        for (line, reply) in [
            ("SETBIT k 8388608 1", offset),
            ("SETBIT k -1 1", offset),
            ("SETBIT k x 2", offset),
            ("SETBIT k 01 1", offset),
            ("SETBIT k 9223372036854775808 1", offset),
            ("SETBIT k 0 2", value),
            ("SETBIT k 0 -1", value),
            ("SETBIT k 0 01", value),
            ("SETBIT k 0 \"\"", value),
            ("GETBIT k 8388608", offset),
            ("GETBIT k -1", offset),
            ("EXISTS k", ":0"),
            ("SETBIT k 8388607 1", ":0"),
        ] {
            t.check(line, reply);
        }
    }
}
