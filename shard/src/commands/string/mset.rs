//! MSET and MSETNX.

use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::{Expiry, notify};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const MSET: Command<Handler> = command("MSET", at_least(3), mset as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::STRING)
    .keys(&[at(1).range(-1, 2, 0).flags(OW | UPDATE)])
    .doc(
        "Sets many strings at once.",
        "O(N) where N is the number of keys to set.",
        "1.0.1",
        "string",
    )
    .args(&[block("data", &[key("key", 0), string("value")]).multiple()])
    .tips(&[
        "request_policy:multi_shard",
        "response_policy:all_succeeded",
    ])
    .route(Route::Scatter(Merge::Ok));

fn mset(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    set_pairs(ctx, args, "mset")?;
    ctx.reply.ok();
    Ok(())
}

#[inline]
fn set_pairs(ctx: &mut Ctx<'_>, args: Args<'_>, command: &str) -> CommandResult {
    if args.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity(command.into()));
    }
    ctx.each_key(
        args.len() / 2,
        |i| args[2 * i + 1],
        |ctx, i, key| {
            ctx.shard
                .set_string(ctx.db, key, args[2 * i + 2], Expiry::Clear);
            ctx.modified(key.bytes, notify::STRING, "set");
        },
    );
    Ok(())
}

pub const MSETNX: Command<Handler> = command("MSETNX", at_least(3), msetnx as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::STRING)
    .keys(&[at(1).range(-1, 2, 0).flags(OW | INSERT)])
    .doc(
        "Sets many strings, if none of the keys exists.",
        "O(N) where N is the number of keys to set.",
        "1.0.1",
        "string",
    )
    .args(&[block("data", &[key("key", 0), string("value")]).multiple()]);

fn msetnx(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let pairs = args[1..].chunks_exact(2);
    let free =
        !pairs.remainder().is_empty() || pairs.into_iter().all(|pair| ctx.write(pair[0]).is_none());
    if free {
        set_pairs(ctx, args, "msetnx")?;
    }
    ctx.reply.integer(free as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn mset_sets_all() {
        let mut t = Tester::new();
        t.listen();
        t.check("SET a x EX 10", "+OK")
            .check("MSET a 1 b 2 a 3", "+OK");
        t.check("MGET a b", "*2 $1 3 $1 2");
        assert_eq!(t.expire_at("a"), None);
        t.check_new_events("new a, set a, expire a, set a, new b, set b, set a");
        t.check(
            "MSET a",
            "-ERR wrong number of arguments for 'mset' command",
        )
        .check(
            "MSET a 1 b",
            "-ERR wrong number of arguments for 'mset' command",
        );
    }

    #[test]
    fn many_keys() {
        let mut t = Tester::new();
        let names: Vec<String> = (0..50).map(|i| format!("k{i}")).collect();
        let pairs: Vec<String> = names.iter().map(|n| format!("{n} v{n}")).collect();
        t.check(&format!("MSET {}", pairs.join(" ")), "+OK");
        let values: Vec<String> = names
            .iter()
            .map(|n| format!("${} v{n}", n.len() + 1))
            .collect();
        t.check(
            &format!("MGET {}", names.join(" ")),
            &format!("*50 {}", values.join(" ")),
        );
    }

    #[test]
    fn msetnx_sets_all_or_none() {
        let mut t = Tester::new();
        t.check("MSETNX a 1 a 2 b 3", ":1")
            .check("MGET a b", "*2 $1 2 $1 3");
        t.check("MSETNX c 1 b 2", ":0").check("EXISTS c", ":0");
        t.check(
            "MSETNX a 1 b",
            "-ERR wrong number of arguments for 'msetnx' command",
        );
        t.check(
            "MSETNX c 1 b",
            "-ERR wrong number of arguments for 'msetnx' command",
        );
        t.check("SET e x PX 5", "+OK")
            .advance(5)
            .check("MSETNX e 1", ":1");
    }
}
