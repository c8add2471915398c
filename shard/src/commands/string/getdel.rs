//! GETDEL.

use super::get::reply_value;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::notify;
use ringwood_protocol::command::*;

pub const GETDEL: Command<Handler> = command("GETDEL", exactly(2), getdel as Handler)
    .flags(WRITE | FAST)
    .acl(acl::STRING)
    .keys(&[at(1).flags(RW | ACCESS | DELETE)])
    .doc(
        "Returns a string and deletes the key.",
        "O(1)",
        "6.2.0",
        "string",
    )
    .args(&[key("key", 0)]);

fn getdel(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    if reply_value(ctx, args[1])? {
        ctx.remove(args[1]);
        ctx.modified(args[1], notify::GENERIC, "del");
        ctx.log_as(&[b"DEL", args[1]]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn getdel_takes_the_value_away() {
        let mut t = Tester::new();
        t.listen();
        t.check("GETDEL k", "$-1").check_new_events("keymiss k");
        t.check_log_verbatim();
        t.check("SET k v EX 10", "+OK")
            .check_new_events("new k, set k, expire k");
        t.check("GETDEL k", "$1 v").check_log(&["DEL k"]);
        t.check("GETDEL k", "$-1")
            .check_new_events("del k, keymiss k");
    }
}
