//! KEYS.

use super::Matcher;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::keyspace::EntryRef;
use ringwood_protocol::command::*;

pub const KEYS: Command<Handler> = command("KEYS", exactly(2), keys as Handler)
    .flags(READONLY | BARRIER)
    .acl(acl::KEYSPACE | acl::DANGEROUS)
    .doc(
        "Lists the keys that match a pattern.",
        "O(N) with N being the number of keys in the database, under the assumption that\
          the key names in the database and the given pattern have limited length.",
        "1.0.0",
        "generic",
    )
    .args(&[pattern("pattern")])
    .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
    .route(Route::AllShards(Merge::Concat));

fn keys(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let matcher = Matcher::new(args[1]);
    let (db, now) = (ctx.db, ctx.shard.due_ms());
    let mut found: Vec<&[u8]> = Vec::new();
    let look = |entry: EntryRef<'_>| {
        // An expired key is not shown, and left for the background to delete: this may see millions.
        let live = entry.expire_at().is_none_or(|at| at > now);
        live && matcher.matches(entry.key())
    };
    let keyspace = &ctx.shard.keyspace;
    match matcher.slot() {
        Some(slot) => keyspace.each_in_slot(db, slot, |e| {
            if look(e) {
                found.push(e.key());
            }
        }),
        None => keyspace.each(db, |e| {
            if look(e) {
                found.push(e.key());
            }
        }),
    }
    ctx.reply.bulks(&found);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    fn sorted(t: &mut Tester, line: &str) -> Vec<String> {
        let reply = String::from_utf8(t.run(line)).unwrap();
        let mut lines: Vec<_> = reply.split("\r\n").skip(1).map(String::from).collect();
        lines.retain(|l| !l.is_empty() && !l.starts_with('$'));
        lines.sort();
        lines
    }

    #[test]
    fn patterns() {
        let mut t = Tester::new();
        t.check("MSET foo_a 1 foo_b 2 key_x 3 {t}1 4 {t}2 5", "+OK");
        assert_eq!(sorted(&mut t, "KEYS foo*"), ["foo_a", "foo_b"]);
        assert_eq!(sorted(&mut t, "KEYS *").len(), 5);
        assert_eq!(sorted(&mut t, "KEYS *_[ax]"), ["foo_a", "key_x"]);
        assert_eq!(sorted(&mut t, "KEYS {t}*"), ["{t}1", "{t}2"]);
        assert_eq!(sorted(&mut t, "KEYS {t}?"), ["{t}1", "{t}2"]);
        assert_eq!(sorted(&mut t, "KEYS key_x"), ["key_x"]);
        t.check("KEYS nokey", "*0").check("KEYS k[", "*0");
        t.check("PEXPIRE key_x 1", ":1").advance(1);
        t.check("KEYS key*", "*0").check("DBSIZE", ":5");
    }
}
