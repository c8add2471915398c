//! TTL, PTTL, EXPIRETIME, PEXPIRETIME: -2 for no key, -1 for no expiry. Seconds are rounded to the nearest.

use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;

pub const TTL: Command<Handler> = command("TTL", exactly(2), ttl as Handler)
    .flags(READONLY | FAST)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc(
        "Tells how many seconds a key has left to live.",
        "O(1)",
        "1.0.0",
        "generic",
    )
    .history(&[("2.8.0", "A missing key is answered with -2.")])
    .args(&[key("key", 0)])
    .tips(&["nondeterministic_output"]);

pub const PTTL: Command<Handler> = command("PTTL", exactly(2), pttl as Handler)
    .flags(READONLY | FAST)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc(
        "Tells how many milliseconds a key has left to live.",
        "O(1)",
        "2.6.0",
        "generic",
    )
    .history(&[("2.8.0", "A missing key is answered with -2.")])
    .args(&[key("key", 0)])
    .tips(&["nondeterministic_output"]);

pub const EXPIRETIME: Command<Handler> = command("EXPIRETIME", exactly(2), expiretime as Handler)
    .flags(READONLY | FAST)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc(
        "Tells when a key expires, as Unix seconds.",
        "O(1)",
        "7.0.0",
        "generic",
    )
    .args(&[key("key", 0)]);

pub const PEXPIRETIME: Command<Handler> =
    command("PEXPIRETIME", exactly(2), pexpiretime as Handler)
        .flags(READONLY | FAST)
        .acl(acl::KEYSPACE)
        .keys(&[at(1).flags(RO | ACCESS)])
        .doc(
            "Tells when a key expires, as Unix milliseconds.",
            "O(1)",
            "7.0.0",
            "generic",
        )
        .args(&[key("key", 0)]);

fn ttl(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let now = ctx.now_ms();
    show(ctx, args, |at| to_seconds((at - now).max(0)))
}
fn pttl(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let now = ctx.now_ms();
    show(ctx, args, |at| (at - now).max(0))
}
fn expiretime(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    show(ctx, args, to_seconds)
}
fn pexpiretime(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    show(ctx, args, |at| at)
}

fn to_seconds(ms: i64) -> i64 {
    // The sum with 500 would overflow for the last representable times.
    ms / 1000 + (ms % 1000 >= 500) as i64
}

fn show(ctx: &mut Ctx<'_>, args: Args<'_>, number: impl Fn(i64) -> i64) -> CommandResult {
    let key = ctx.key(args[1]);
    let shown = match ctx.shard.read_with(ctx.db, key, false) {
        None => -2,
        Some(entry) => entry.expire_at().map_or(-1, number),
    };
    ctx.reply.integer(shown);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn missing_lasting_and_expiring_keys() {
        let mut t = Tester::new();
        for name in ["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"] {
            t.check(&format!("{name} k"), ":-2")
                .check("SET k v", "+OK")
                .check(&format!("{name} k"), ":-1")
                .check("DEL k", ":1");
        }
        t.check("SET k v", "+OK").check("PEXPIRE k 1499", ":1");
        t.check("TTL k", ":1").check("PTTL k", ":1499");
        t.check("EXPIRETIME k", ":1700000001")
            .check("PEXPIRETIME k", ":1700000001499");
        t.check("PEXPIRE k 1500", ":1")
            .check("TTL k", ":2")
            .check("EXPIRETIME k", ":1700000002");
        t.advance(1500).check("TTL k", ":-2");
    }

    #[test]
    fn looking_is_no_access() {
        let mut t = Tester::new();
        t.check("SET k v", "+OK").check("EXPIRE k 100", ":1");
        t.advance(9000)
            .check("TTL k", ":91")
            .check("PTTL k", ":91000");
        t.check("OBJECT IDLETIME k", ":9");
    }
}
