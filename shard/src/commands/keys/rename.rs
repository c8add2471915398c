//! RENAME and RENAMENX. Value, expiry and access bits go with the key.

use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const RENAME: Command<Handler> = command("RENAME", exactly(3), rename as Handler)
    .flags(WRITE)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).flags(RW | ACCESS | DELETE), at(2).flags(OW | UPDATE)])
    .doc(
        "Gives a key a new name, replacing what has that name.",
        "O(1)",
        "1.0.0",
        "generic",
    )
    .args(&[key("key", 0), key("newkey", 1)]);

pub const RENAMENX: Command<Handler> = command("RENAMENX", exactly(3), renamenx as Handler)
    .flags(WRITE | FAST)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).flags(RW | ACCESS | DELETE), at(2).flags(OW | INSERT)])
    .doc(
        "Renames a key if the new name is free.",
        "O(1)",
        "1.0.0",
        "generic",
    )
    .history(&[("3.2.0", "Equal names are no error any more.")])
    .args(&[key("key", 0), key("newkey", 1)]);

fn rename(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    rename_to(ctx, args[1], args[2], true)?;
    ctx.reply.ok();
    Ok(())
}

fn renamenx(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let renamed = rename_to(ctx, args[1], args[2], false)?;
    ctx.reply.integer(renamed as i64);
    Ok(())
}

/// False when the new name was taken and may not be replaced.
fn rename_to(
    ctx: &mut Ctx<'_>,
    from: &[u8],
    to: &[u8],
    replace: bool,
) -> Result<bool, CommandError> {
    if ctx.write(from).is_none() {
        return Err(CommandError::NoSuchKey);
    }
    if from == to {
        return Ok(false);
    }
    let before = ctx.write(to).map(|entry| entry.kind());
    if before.is_some() {
        if !replace {
            return Ok(false);
        }
        ctx.remove(to);
    }
    let (db, from_key, to_key) = (ctx.db, ctx.key(from), ctx.key(to));
    let parts = ctx
        .shard
        .take(db, from_key)
        .ok_or(CommandError::NoSuchKey)?;
    let kind = parts.kind;
    ctx.shard.insert(db, to_key, parts);
    ctx.modified(from, notify::GENERIC, "rename_from");
    // One change for the count of changes since the last save, two events.
    ctx.shard.notify(db, to, notify::GENERIC, "rename_to", true);
    if let Some(before) = before {
        ctx.shard.overwritten(db, to, before, kind);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn value_and_expiry_go_along() {
        let mut t = Tester::new();
        t.check("SET a 1", "+OK").check("EXPIRE a 10", ":1");
        t.check_events("RENAME a b", &["new b", "rename_from a", "rename_to b"]);
        t.check("MGET a b", "*2 $-1 $1 1").check("TTL b", ":10");
        t.check("SET c 3", "+OK").check("RENAME c b", "+OK");
        t.check("GET b", "$1 3").check("TTL b", ":-1");
        t.check("EXPIRE b 10", ":1")
            .check("RENAME b c", "+OK")
            .advance(10_500);
        while t.shard.expire_some(10) {}
        t.check("DBSIZE", ":0");
    }

    #[test]
    fn renamenx_leaves_a_taken_name_alone() {
        let mut t = Tester::new();
        t.check("MSET a 1 b 2", "+OK");
        t.check_events("RENAMENX a b", &[])
            .check("RENAMENX a b", ":0");
        t.check("RENAMENX a c", ":1")
            .check("MGET a b c", "*3 $-1 $1 2 $1 1");
        t.check("PEXPIRE b 1", ":1").advance(1);
        t.check("RENAMENX c b", ":1").check("GET b", "$1 1");
    }

    #[test]
    fn a_name_to_itself() {
        let mut t = Tester::new();
        let none = "-ERR no such key";
        t.check("RENAME k k", none).check("RENAMENX k k", none);
        t.check("RENAME k j", none).check("RENAMENX k j", none);
        t.check("SET k v", "+OK");
        let dirty = t.shard.stats.dirty;
        t.check("RENAME k k", "+OK").check("RENAMENX k k", ":0");
        assert_eq!(t.shard.stats.dirty, dirty);
    }
}
