//! TYPE.

use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;

pub const TYPE: Command<Handler> = command("TYPE", exactly(2), type_command as Handler)
    .flags(READONLY | FAST)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).flags(RO)])
    .doc(
        "Returns the type of a key's value.",
        "O(1)",
        "1.0.0",
        "generic",
    )
    .args(&[key("key", 0)]);

fn type_command(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    let found = ctx.shard.read_with(ctx.db, key, false);
    ctx.reply.simple(found.map_or("none", |e| e.kind().name()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn names_the_type_and_leaves_the_access_time() {
        let mut t = Tester::new();
        t.check("TYPE k", "+none")
            .check("SET k v", "+OK")
            .advance(5000);
        t.check("TYPE k", "+string")
            .check("OBJECT IDLETIME k", ":5");
        t.check("PEXPIRE k 1", ":1").advance(1);
        t.check("TYPE k", "+none").check("DBSIZE", ":0");
    }
}
