//! OBJECT: how a value is kept and when it was used. Looking is no access.

use super::unknown_subcommand;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::keyspace::EntryRef;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const OBJECT: Command<Handler> = command("OBJECT", at_least(2), object as Handler)
    .doc(
        "Describes how values are kept.",
        "Depends on subcommand.",
        "2.2.3",
        "generic",
    )
    .subcommands(&[
        OBJECT_ENCODING,
        OBJECT_FREQ,
        OBJECT_HELP,
        OBJECT_IDLETIME,
        OBJECT_REFCOUNT,
    ])
    .route(Route::Connection);

const OBJECT_ENCODING: Command<Handler> =
    command("ENCODING", exactly(3), object_encoding as Handler)
        .flags(READONLY)
        .acl(acl::KEYSPACE)
        .keys(&[at(2).flags(RO)])
        .doc("Names the encoding of a value.", "O(1)", "2.2.3", "generic")
        .args(&[key("key", 0)])
        .tips(&["nondeterministic_output"]);

const OBJECT_FREQ: Command<Handler> = command("FREQ", exactly(3), object_freq as Handler)
    .flags(READONLY)
    .acl(acl::KEYSPACE)
    .keys(&[at(2).flags(RO)])
    .doc(
        "Returns a key's access frequency counter.",
        "O(1)",
        "4.0.0",
        "generic",
    )
    .args(&[key("key", 0)])
    .tips(&["nondeterministic_output"]);

const OBJECT_HELP: Command<Handler> = command("HELP", exactly(2), object_help as Handler)
    .flags(LOADING | STALE)
    .acl(acl::KEYSPACE)
    .doc("Lists the subcommands.", "O(1)", "6.2.0", "generic")
    .route(Route::Connection);

const OBJECT_IDLETIME: Command<Handler> =
    command("IDLETIME", exactly(3), object_idletime as Handler)
        .flags(READONLY)
        .acl(acl::KEYSPACE)
        .keys(&[at(2).flags(RO)])
        .doc(
            "Tells how long a key has not been used.",
            "O(1)",
            "2.2.3",
            "generic",
        )
        .args(&[key("key", 0)])
        .tips(&["nondeterministic_output"]);

const OBJECT_REFCOUNT: Command<Handler> =
    command("REFCOUNT", exactly(3), object_refcount as Handler)
        .flags(READONLY)
        .acl(acl::KEYSPACE)
        .keys(&[at(2).flags(RO)])
        .doc(
            "Returns the number of references to a value.",
            "O(1)",
            "2.2.3",
            "generic",
        )
        .args(&[key("key", 0)])
        .tips(&["nondeterministic_output"]);

fn object(_: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    Err(unknown_subcommand(args))
}

fn object_encoding(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    match look(ctx, args[2]) {
        Some(entry) => {
            let name = entry.encoding().name();
            ctx.reply.bulk_str(name);
        }
        None => ctx.reply.null(),
    }
    Ok(())
}

fn object_refcount(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    match look(ctx, args[2]) {
        // Values are not shared between keys.
        Some(_) => ctx.reply.integer(1),
        None => ctx.reply.null(),
    }
    Ok(())
}

fn object_freq(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let Some(access) = look(ctx, args[2]).map(|e| e.access()) else {
        ctx.reply.null();
        return Ok(());
    };
    if !ctx.shard.settings.lfu {
        return Err(CommandError::fixed(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
             switching between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    let counter = ctx.shard.lfu_counter(access);
    ctx.reply.integer(counter as i64);
    Ok(())
}

fn object_idletime(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let Some(access) = look(ctx, args[2]).map(|e| e.access()) else {
        ctx.reply.null();
        return Ok(());
    };
    if ctx.shard.settings.lfu {
        return Err(CommandError::fixed(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
             between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    let seconds = ctx.shard.idle_seconds(access);
    ctx.reply.integer(seconds as i64);
    Ok(())
}

fn object_help(ctx: &mut Ctx<'_>, _: Args<'_>) -> CommandResult {
    let lines = [
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    Names the internal encoding of the key's value.",
        "FREQ <key>",
        "    Shows the key's access frequency counter, which grows with the logarithm",
        "    of the accesses and decays with time.",
        "IDLETIME <key>",
        "    Shows the seconds since the key was last accessed.",
        "REFCOUNT <key>",
        "    Shows how many references the key's value has.",
        "HELP",
        "    Prints this help.",
    ];
    ctx.reply.array(lines.len());
    for line in lines {
        ctx.reply.simple(line);
    }
    Ok(())
}

/// The entry, without noting an access; a missing key counts as a miss, but no event tells of it.
fn look<'a>(ctx: &'a mut Ctx<'_>, word: &[u8]) -> Option<EntryRef<'a>> {
    let key = ctx.key(word);
    ctx.shard.expire_if_due(ctx.db, key);
    if !ctx.shard.exists(ctx.db, key) {
        ctx.shard.stats.misses += 1;
        return None;
    }
    ctx.shard.read_with(ctx.db, key, false)
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;
    use crate::shard::Settings;

    #[test]
    fn encodings_of_strings() {
        let mut t = Tester::new();
        t.check("OBJECT ENCODING nokey", "$-1");
        for (value, encoding) in [
            ("1".to_string(), "int"),
            ("-9223372036854775808".to_string(), "int"),
            ("9223372036854775808".to_string(), "embstr"),
            ("007".to_string(), "embstr"),
            ("x".repeat(44), "embstr"),
            ("x".repeat(45), "raw"),
        ] {
            t.check(&format!("SET k {value}"), "+OK").check(
                "OBJECT ENCODING k",
                &format!("${} {encoding}", encoding.len()),
            );
        }
        t.check("OBJECT REFCOUNT k", ":1")
            .check("OBJECT refcount nokey", "$-1");
    }

    #[test]
    fn idle_time_and_frequency_need_their_policy() {
        let lru = "-ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
                   switching between policies at runtime LRU and LFU data will take some time to adjust.";
        let lfu = "-ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
                   between policies at runtime LRU and LFU data will take some time to adjust.";
        let mut t = Tester::new();
        t.check("OBJECT FREQ nokey", "$-1")
            .check("OBJECT IDLETIME nokey", "$-1");
        t.check("SET k v", "+OK").advance(12_000);
        t.check("OBJECT FREQ k", lru)
            .check("OBJECT IDLETIME k", ":12");
        t.check("GET k", "$1 v").check("OBJECT IDLETIME k", ":0");
        let mut t = Tester::with(Settings {
            lfu: true,
            ..Default::default()
        });
        t.check("OBJECT FREQ nokey", "$-1").check("SET k v", "+OK");
        t.check("OBJECT FREQ k", ":5")
            .check("OBJECT IDLETIME k", lfu);
        t.advance(180_000)
            .check("OBJECT FREQ k", ":2")
            .check("OBJECT FREQ k", ":2");
    }

    #[test]
    fn a_miss_is_counted_and_not_told() {
        let mut t = Tester::new();
        t.check_events("OBJECT ENCODING nokey", &[]);
        assert_eq!(t.shard.stats.misses, 1);
        t.check("SET k v", "+OK")
            .check("PEXPIRE k 1", ":1")
            .advance(1);
        t.check_events("OBJECT ENCODING k", &["expired k"]);
    }

    #[test]
    fn the_container_and_its_arities() {
        let mut t = Tester::new();
        t.check(
            "OBJECT foo",
            "-ERR unknown subcommand 'foo'. Try OBJECT HELP.",
        );
        t.check(
            "OBJECT ENCODING",
            "-ERR wrong number of arguments for 'object|encoding' command",
        );
        t.check(
            "OBJECT",
            "-ERR wrong number of arguments for 'object' command",
        );
        assert!(
            t.run("OBJECT HELP")
                .starts_with(b"*12\r\n+OBJECT <subcommand>")
        );
    }
}
