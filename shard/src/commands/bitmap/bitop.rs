//! BITOP.

use super::words::{self, Operation};
use super::{is_long, size_of};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::keyspace::entry::{Parts, Value};
use crate::object::{Encoding, Type};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const BITOP: Command<Handler> = command("BITOP", at_least(4), bitop as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::BITMAP)
    .keys(&[
        at(2).flags(OW | UPDATE),
        at(3).range(-1, 1, 0).flags(RO | ACCESS),
    ])
    .doc(
        "Combines strings bit by bit and stores the result.",
        "O(N)",
        "2.6.0",
        "bitmap",
    )
    .args(&[
        one_of(
            "operation",
            &[
                word("and", "AND"),
                word("or", "OR"),
                word("xor", "XOR"),
                word("not", "NOT"),
                word("diff", "DIFF"),
                word("diff1", "DIFF1"),
                word("andor", "ANDOR"),
                word("one", "ONE"),
            ],
        ),
        key("destkey", 0),
        key("key", 1).multiple(),
    ]);

const OPERATIONS: [(&str, Operation); 8] = [
    ("AND", Operation::And),
    ("OR", Operation::Or),
    ("XOR", Operation::Xor),
    ("NOT", Operation::Not),
    ("DIFF", Operation::Diff),
    ("DIFF1", Operation::Diff1),
    ("ANDOR", Operation::AndOr),
    ("ONE", Operation::One),
];

fn bitop(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (to, sources) = (args[2], &args[3..]);
    let (name, operation) = OPERATIONS
        .into_iter()
        .find(|(name, _)| args[1].eq_ignore_ascii_case(name.as_bytes()))
        .ok_or(CommandError::Syntax)?;
    let needs_others = matches!(
        operation,
        Operation::Diff | Operation::Diff1 | Operation::AndOr
    );
    if operation == Operation::Not && sources.len() != 1 {
        return Err(CommandError::fixed(
            "ERR BITOP NOT must be called with a single source key.",
        ));
    }
    if needs_others && sources.len() < 2 {
        return Err(CommandError::err(format_args!(
            "BITOP {name} must be called with at least two source keys."
        )));
    }
    let bytes: usize = sources.iter().map(|source| size_of(ctx, source)).sum();
    if is_long(ctx, 0..bytes as u64 * 8) {
        return Ok(());
    }
    // First each as a read counts it, which may delete it; then all of them together.
    let mut keys = Vec::with_capacity(sources.len());
    let mut len = 0;
    for source in sources {
        let key = ctx.key(source);
        match ctx.shard.read(ctx.db, key) {
            Some(entry) if entry.kind() != Type::String => return Err(CommandError::WrongType),
            Some(entry) => len = len.max(entry.bytes().len()),
            None => {}
        }
        keys.push(key);
    }
    if len == 0 {
        if ctx.remove(to) {
            ctx.modified(to, notify::GENERIC, "del");
        }
        ctx.reply.integer(0);
        return Ok(());
    }
    let keyspace = &ctx.shard.keyspace;
    let views: Vec<&[u8]> = keys
        .iter()
        .map(|key| keyspace.get(ctx.db, *key).map_or(&[][..], |e| e.bytes()))
        .collect();
    let mut result = vec![0; len];
    words::combine(operation, &views, &mut result);

    let key = ctx.key(to);
    if let Some(mut entry) = ctx.shard.write(ctx.db, key) {
        let before = entry.kind();
        entry.set_expire_at(None);
        entry.set_vector(Type::String, Encoding::Raw, result);
        ctx.shard.overwritten(ctx.db, to, before, Type::String);
    } else {
        let parts = Parts {
            kind: Type::String,
            encoding: Encoding::Raw,
            access: ctx.shard.access_new(),
            expire_at: None,
            value: Value::Bytes(result),
        };
        ctx.shard.insert(ctx.db, key, parts);
    }
    ctx.modified(to, notify::STRING, "set");
    ctx.reply.integer(len as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    fn get(t: &mut Tester, key: &str) -> Vec<u8> {
        let reply = t.run(&format!("GET {key}"));
        let head = reply.iter().position(|b| *b == b'\n').expect("a bulk") + 1;
        reply[head..reply.len() - 2].to_vec()
    }

    #[test]
    fn all_operations() {
        let mut t = Tester::new();
        for (key, value) in [
            (b"a", b"\x0f\xff".as_slice()),
            (b"b", b"\x33"),
            (b"c", b"\x55\x01\x02"),
        ] {
            t.run_words(&[b"SET", key, value]);
        }
        for (words, expected) in [
            ("AND d a b c", b"\x01\0\0".as_slice()),
            ("OR d a b c", b"\x7f\xff\x02"),
            ("XOR d a b c", b"\x69\xfe\x02"),
            ("NOT d c", b"\xaa\xfe\xfd"),
            ("DIFF d a b c", b"\x08\xfe\0"),
            ("DIFF1 d a b c", b"p\0\x02"),
            ("ANDOR d a b c", b"\x07\x01\0"),
            ("ONE d a b c", b"h\xfe\x02"),
            ("one d a", b"\x0f\xff"),
            ("DIFF d nokey a", b"\0\0"),
            ("DIFF1 d nokey a", b"\x0f\xff"),
            ("ANDOR d nokey a", b"\0\0"),
            ("ONE d a a a", b"\0\0"),
            ("ONE d a b a b", b"\0\0"),
            ("AND d a nokey", b"\0\0"),
            ("DIFF d a nokey", b"\x0f\xff"),
        ] {
            t.check(&format!("BITOP {words}"), &format!(":{}", expected.len()));
            assert_eq!(get(&mut t, "d"), expected, "{words}");
            t.check_encoding("d", "raw");
        }
        t.check("BITOP XOR a a c", ":3");
        assert_eq!(get(&mut t, "a"), b"\x5a\xfe\x02");
    }

    #[test]
    fn the_target_is_replaced_whatever_it_was() {
        let mut t = Tester::new();
        t.listen();
        t.check("SET s hello EX 100", "+OK").check("SET i 7", "+OK");
        t.check_new_events("new s, set s, expire s, new i, set i");
        t.check("BITOP OR s i", ":1").check("TTL s", ":-1");
        t.check_new_events("set s");
        t.check("BITOP OR i i", ":1").check_encoding("i", "raw");
        t.check("BITOP NOT n s", ":1")
            .check("BITOP XOR n nokey", ":0");
        t.check_new_events("set i, new n, set n, keymiss nokey, del n");
        t.check("BITOP XOR n nokey", ":0").check("EXISTS n", ":0");
        t.check_new_events("keymiss nokey, keymiss n");
        t.check("SET e \"\"", "+OK").check("BITOP OR s e", ":0");
        t.check("EXISTS s", ":0");
    }

    #[test]
    fn long_values() {
        let mut t = Tester::new();
        t.check("SETBIT a 800000 1", ":0")
            .check("SETBIT b 3 1", ":0");
        t.check("BITOP OR d a b", ":100001")
            .check("BITCOUNT d", ":2");
        t.check("BITOP NOT d d", ":100001")
            .check("BITPOS d 0", ":3");
        t.check("BITPOS d 0 1", ":800000");
        t.check("BITOP AND d d b", ":100001")
            .check("BITCOUNT d", ":0");
    }

    #[test]
    fn errors() {
        let mut t = Tester::new();
        t.check("SET s 1", "+OK");
        for (words, reply) in [
            ("XXX d s", "-ERR syntax error"),
            (
                "NOT d s s",
                "-ERR BITOP NOT must be called with a single source key.",
            ),
            (
                "diff d s",
                "-ERR BITOP DIFF must be called with at least two source keys.",
            ),
            (
                "DIFF1 d s",
                "-ERR BITOP DIFF1 must be called with at least two source keys.",
            ),
            (
                "ANDOR d s",
                "-ERR BITOP ANDOR must be called with at least two source keys.",
            ),
        ] {
            t.check(&format!("BITOP {words}"), reply);
        }
    }
}
