//! MOVE. Value, expiry and access bits go with the key.

use super::database;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const MOVE: Command<Handler> = command("MOVE", exactly(3), move_command as Handler)
    .flags(WRITE | FAST | NOT_IN_CLUSTER)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).flags(RW | ACCESS | UPDATE)])
    .doc(
        "Moves a key to another database.",
        "O(1)",
        "1.0.0",
        "generic",
    )
    .args(&[key("key", 0), integer("db")]);

fn move_command(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let word = args[1];
    let to_db = database(ctx, args[2])?;
    if to_db == ctx.db {
        return Err(CommandError::SameObject);
    }
    let key = ctx.key(word);
    if ctx.shard.write(ctx.db, key).is_none() || ctx.shard.write(to_db, key).is_some() {
        ctx.reply.integer(0);
        return Ok(());
    }
    if let Some(parts) = ctx.shard.take(ctx.db, key) {
        ctx.shard.insert(to_db, key, parts);
    }
    ctx.modified(word, notify::GENERIC, "move_from");
    ctx.shard
        .notify(to_db, word, notify::GENERIC, "move_to", true);
    ctx.reply.integer(1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn moves_unless_the_name_is_taken() {
        let mut t = Tester::new();
        t.check("SET k v", "+OK").check("EXPIRE k 10", ":1");
        t.check("MOVE nokey 1", ":0");
        t.check_events("MOVE k 1", &["1:new k", "move_from k", "1:move_to k"]);
        t.check("DBSIZE", ":0")
            .check("SET k w", "+OK")
            .check("MOVE k 1", ":0");
        t.db = 1;
        t.check("GET k", "$1 v").check("TTL k", ":10");
        t.advance(10_000);
        t.db = 0;
        t.check("MOVE k 1", ":1");
        t.db = 1;
        t.check("GET k", "$1 w").check("TTL k", ":-1");
    }

    #[test]
    fn errors() {
        let mut t = Tester::new();
        for (db, text) in [
            ("0", "source and destination objects are the same"),
            ("16", "DB index is out of range"),
            ("-1", "DB index is out of range"),
            ("x", "value is not an integer or out of range"),
            (
                "9999999999",
                "value is out of range, value must between -2147483648 and 2147483647",
            ),
        ] {
            t.check(&format!("MOVE nokey {db}"), &format!("-ERR {text}"));
        }
    }
}
