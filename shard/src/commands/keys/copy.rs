//! COPY. The expiry is copied with the value.

use super::database;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const COPY: Command<Handler> = command("COPY", at_least(3), copy as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).flags(RO | ACCESS), at(2).flags(OW | UPDATE)])
    .doc(
        "Copies a key's value to another key.",
        "O(N) worst case for collections, where N is the number of nested items. O(1) for \
             string values.",
        "6.2.0",
        "generic",
    )
    .args(&[
        key("source", 0),
        key("destination", 1),
        integer("destination-db").token("DB").optional(),
        word("replace", "REPLACE").optional(),
    ]);

fn copy(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (from, to) = (args[1], args[2]);
    let mut to_db = ctx.db;
    let mut replace = false;
    let mut words = args[3..].iter();
    while let Some(word) = words.next() {
        if word.eq_ignore_ascii_case(b"REPLACE") {
            replace = true;
        } else if word.eq_ignore_ascii_case(b"DB") {
            to_db = database(ctx, words.next().ok_or(CommandError::Syntax)?)?;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if from == to && to_db == ctx.db {
        return Err(CommandError::SameObject);
    }
    if ctx.is_long_at(from, usize::MAX, 4) || ctx.is_long_string(from, 1024) {
        return Ok(());
    }
    let to_key = ctx.key(to);
    let Some(mut parts) = ctx.read(from).map(|entry| entry.duplicate()) else {
        ctx.reply.integer(0);
        return Ok(());
    };
    let before = ctx.shard.write(to_db, to_key).map(|entry| entry.kind());
    if before.is_some() {
        if !replace {
            ctx.reply.integer(0);
            return Ok(());
        }
        ctx.shard.remove(to_db, to_key);
    }
    parts.access = ctx.shard.access_new();
    let kind = parts.kind;
    ctx.shard.insert(to_db, to_key, parts);
    ctx.modified_in(to_db, to, notify::GENERIC, "copy_to");
    if let Some(before) = before {
        ctx.shard.overwritten(to_db, to, before, kind);
    }
    ctx.reply.integer(1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn copies_are_independent_and_keep_the_expiry() {
        let mut t = Tester::new();
        let long = "x".repeat(5000);
        for value in ["1", "text", long.as_str()] {
            t.check(&format!("SET a {value}"), "+OK")
                .check("EXPIRE a 10", ":1");
            t.check_events("COPY a b", &["new b", "copy_to b"])
                .check("TTL b", ":10")
                .check("DEL a", ":1")
                .check("GET b", &format!("${} {value}", value.len()))
                .check("DEL b", ":1");
        }
    }

    #[test]
    fn options() {
        let mut t = Tester::new();
        t.check("MSET a 1 b 2", "+OK");
        t.check("COPY a b", ":0")
            .check("COPY nokey b REPLACE", ":0");
        t.check("GET b", "$1 2")
            .check("COPY a b replace", ":1")
            .check("GET b", "$1 1");
        t.check("COPY a a db 3", ":1").check("COPY a a DB 3", ":0");
        t.check("COPY a a REPLACE DB 3", ":1");
        t.check("COPY a c db 1 db 2 replace replace", ":1");
        t.db = 2;
        t.check("GET c", "$1 1");
        t.db = 3;
        t.check("GET a", "$1 1").check("DBSIZE", ":1");
    }

    #[test]
    fn errors() {
        let mut t = Tester::new();
        let same = "-ERR source and destination objects are the same";
        for (line, reply) in [
            ("COPY k k", same),
            ("COPY k k DB 0", same),
            ("COPY k k DB 99", "-ERR DB index is out of range"),
            ("COPY k j DB -1", "-ERR DB index is out of range"),
            ("COPY k j DB", "-ERR syntax error"),
            ("COPY k j foo", "-ERR syntax error"),
            (
                "COPY k j DB x",
                "-ERR value is not an integer or out of range",
            ),
            (
                "COPY k j DB 99999999999",
                "-ERR value is out of range, value must between -2147483648 and 2147483647",
            ),
        ] {
            t.check(line, reply);
        }
    }
}
