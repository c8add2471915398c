//! PERSIST.

use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::{Expiry, notify};
use ringwood_protocol::command::*;

pub const PERSIST: Command<Handler> = command("PERSIST", exactly(2), persist as Handler)
    .flags(WRITE | FAST)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).flags(RW | UPDATE)])
    .doc(
        "Makes a key live forever again.",
        "O(1)",
        "2.2.0",
        "generic",
    )
    .args(&[key("key", 0)]);

fn persist(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let expires = ctx
        .write(args[1])
        .is_some_and(|entry| entry.expire_at().is_some());
    if expires {
        ctx.set_expiry(args[1], Expiry::Clear);
        ctx.modified(args[1], notify::GENERIC, "persist");
    }
    ctx.reply.integer(expires as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn only_an_expiring_key_is_changed() {
        let mut t = Tester::new();
        t.check("PERSIST k", ":0").check("SET k v", "+OK");
        t.check_events("PERSIST k", &[])
            .check("EXPIRE k 10", ":1")
            .check_events("PERSIST k", &["persist k"])
            .check("TTL k", ":-1");
        t.advance(11_000).check("GET k", "$1 v");
    }
}
