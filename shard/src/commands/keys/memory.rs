//! MEMORY USAGE. MEMORY's other subcommands concern no key and are the server's.

use super::{number, unknown_subcommand};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const MEMORY: Command<Handler> = command("MEMORY", at_least(2), memory as Handler)
    .doc(
        "Commands about memory use.",
        "Depends on subcommand.",
        "4.0.0",
        "server",
    )
    .subcommands(&[MEMORY_USAGE])
    .route(Route::Connection);

const MEMORY_USAGE: Command<Handler> = command("USAGE", at_least(3), memory_usage as Handler)
    .flags(READONLY)
    .keys(&[at(2).flags(RO)])
    .doc(
        "Estimates the memory that a key takes.",
        "O(N) where N is the number of samples.",
        "4.0.0",
        "server",
    )
    .args(&[key("key", 0), integer("count").token("SAMPLES").optional()]);

fn memory(_: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    Err(unknown_subcommand(args))
}

fn memory_usage(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    // The number of samples is checked and then of no use: sizes are counted exactly as values change.
    for pair in args[3..].chunks(2) {
        match pair {
            [name, samples] if name.eq_ignore_ascii_case(b"SAMPLES") => {
                if number(samples)? < 0 {
                    return Err(CommandError::Syntax);
                }
            }
            _ => return Err(CommandError::Syntax),
        }
    }
    let key = ctx.key(args[2]);
    ctx.shard.expire_if_due(ctx.db, key);
    match ctx.shard.keyspace.get(ctx.db, key) {
        Some(entry) => ctx.reply.integer(entry.memory() as i64),
        None => ctx.reply.null(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    fn usage(t: &mut Tester, key: &str) -> usize {
        let reply = String::from_utf8(t.run(&format!("MEMORY USAGE {key}"))).unwrap();
        reply[1..].trim_end().parse().unwrap()
    }

    #[test]
    fn grows_with_key_and_value() {
        let mut t = Tester::new();
        for len in [1, 100, 3000, 5000, 100_000] {
            t.check(&format!("SET k {}", "x".repeat(len)), "+OK");
            let bytes = usage(&mut t, "k");
            assert!(
                (len + 1..len + len / 4 + 64).contains(&bytes),
                "{len}: {bytes}"
            );
        }
        let long = "k".repeat(1000);
        t.check(&format!("SET {long} v"), "+OK");
        assert!((1000..1300).contains(&usage(&mut t, &long)));
        t.check("MEMORY USAGE nokey", "$-1");
    }

    #[test]
    fn samples() {
        let mut t = Tester::new();
        t.check("SET k v", "+OK");
        let plain = usage(&mut t, "k");
        for options in ["SAMPLES 0", "samples 5", "SAMPLES 1 SAMPLES 2"] {
            t.check(&format!("MEMORY USAGE k {options}"), &format!(":{plain}"));
        }
        for options in ["SAMPLES -1", "SAMPLES", "foo 1", "SAMPLES 1 foo"] {
            t.check(
                &format!("MEMORY USAGE nokey {options}"),
                "-ERR syntax error",
            );
        }
        t.check(
            "MEMORY USAGE nokey SAMPLES x",
            "-ERR value is not an integer or out of range",
        );
    }
}
