//! APPEND and STRLEN.

use super::check_length;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::{Encoding, Type};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const APPEND: Command<Handler> = command("APPEND", exactly(3), append as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::STRING)
    .keys(&[at(1).flags(RW | INSERT)])
    .doc("Appends to a string, which is made if missing.", "O(1). The amortized time complexity is O(1) assuming the appended value is small and the already present value is of any size, since the dynamic string library used by Redis will double the free space available on every reallocation.", "2.0.0", "string")
    .args(&[key("key", 0), string("value")]);

fn append(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let value = args[2];
    let limit = ctx.shard.settings.string_len_max;
    let key = ctx.key(args[1]);
    let len = match ctx.shard.write(ctx.db, key) {
        Some(entry) if entry.kind() != Type::String => return Err(CommandError::WrongType),
        Some(mut entry) => {
            let len = entry.bytes().len();
            check_length(len, value.len(), limit)?;
            entry.splice(len, 0, value);
            entry.set_encoding(Encoding::Raw);
            len + value.len()
        }
        None => {
            let encoding = Encoding::of_string(value);
            ctx.shard
                .insert_bytes(ctx.db, key, Type::String, encoding, &[value]);
            value.len()
        }
    };
    ctx.modified(args[1], notify::STRING, "append");
    ctx.reply.integer(len as i64);
    Ok(())
}

pub const STRLEN: Command<Handler> = command("STRLEN", exactly(2), strlen as Handler)
    .flags(READONLY | FAST)
    .acl(acl::STRING)
    .keys(&[at(1).flags(RO)])
    .doc("Returns the length of a string.", "O(1)", "2.2.0", "string")
    .args(&[key("key", 0)]);

fn strlen(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let len = ctx
        .read_typed(args[1], Type::String)?
        .map_or(0, |entry| entry.bytes().len());
    ctx.reply.integer(len as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;
    use crate::shard::Settings;

    #[test]
    fn append_makes_and_lengthens() {
        let mut t = Tester::new();
        t.listen();
        t.check("APPEND k 12", ":2").check_encoding("k", "int");
        t.check("APPEND k 34", ":4").check_encoding("k", "raw");
        t.check("GET k", "$4 1234").check("STRLEN k", ":4");
        t.check_new_events("new k, append k, append k");
        t.check("INCR k", ":1235").check_encoding("k", "int");
        t.check("APPEND k \"\"", ":4").check_encoding("k", "raw");
        t.check("APPEND e \"\"", ":0").check_encoding("e", "embstr");
        t.check("STRLEN e", ":0").check("STRLEN nokey", ":0");
    }

    #[test]
    fn an_appended_value_grows_through_all_sizes() {
        let mut t = Tester::new();
        let mut expected = Vec::new();
        t.check("SET k \"\" EX 100", "+OK");
        for round in 0..400_usize {
            let piece = vec![b'a' + (round % 26) as u8; round % 90];
            expected.extend_from_slice(&piece);
            let reply = t.run_words(&[b"APPEND", b"k", &piece]);
            assert_eq!(reply, format!(":{}\r\n", expected.len()).into_bytes());
        }
        let reply = t.run("GET k");
        assert!(reply.windows(expected.len()).any(|w| w == expected));
        assert_eq!(t.expire_at("k"), Some(1_700_000_100_000));
    }

    #[test]
    fn the_longest_string() {
        let mut t = Tester::with(Settings {
            string_len_max: 8,
            ..Settings::default()
        });
        t.check("SET k 12345", "+OK").check("APPEND k 678", ":8");
        t.check(
            "APPEND k 9",
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        );
        t.check("GET k", "$8 12345678");
    }
}
