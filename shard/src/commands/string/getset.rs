//! GETSET.

use super::get::reply_value;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::{Expiry, notify};
use ringwood_protocol::command::*;

pub const GETSET: Command<Handler> = command("GETSET", exactly(3), getset as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::STRING)
    .keys(&[at(1).flags(RW | ACCESS | UPDATE)])
    .doc(
        "Sets a string and returns the old one.",
        "O(1)",
        "1.0.0",
        "string",
    )
    .deprecated("6.2.0", "`SET` with the `!GET` argument")
    .args(&[key("key", 0), string("value")]);

fn getset(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    reply_value(ctx, args[1])?;
    ctx.set_string(args[1], args[2], Expiry::Clear);
    ctx.modified(args[1], notify::STRING, "set");
    ctx.log_as(&[b"SET", args[1], args[2]]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn getset_swaps_the_value_and_clears_the_expiry() {
        let mut t = Tester::new();
        t.listen();
        t.check("GETSET k 1", "$-1");
        t.check_new_events("keymiss k, new k, set k");
        t.check_log(&["SET k 1"]);
        t.check("SET k v EX 10", "+OK").check("GETSET k w", "$1 v");
        assert_eq!(t.expire_at("k"), None);
        t.check("GET k", "$1 w");
    }
}
