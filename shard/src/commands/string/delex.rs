//! DELEX and DELIFEQ: deletion on a condition.

use super::condition::Condition;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::Type;
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const DELEX: Command<Handler> = command("DELEX", at_least(2), delex as Handler)
    .flags(WRITE | FAST)
    .acl(acl::STRING)
    .keys(&[at(1).flags(RM | DELETE | VARIABLE_FLAGS)])
    .doc(
        "Deletes a key if its value or digest meets a condition.",
        "O(1) for IFEQ/IFNE, O(N) for IFDEQ/IFDNE where N is the length of the string value.",
        "8.4.0",
        "string",
    )
    .args(&[
        key("key", 0),
        one_of(
            "condition",
            &[
                string("ifeq-value").token("IFEQ"),
                string("ifne-value").token("IFNE"),
                string("ifdeq-digest").token("IFDEQ"),
                string("ifdne-digest").token("IFDNE"),
            ],
        )
        .optional(),
    ]);

fn delex(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = args[1];
    let met = match args.len() {
        2 => true,
        4 => match ctx.write(key) {
            // For a missing key not even the words are looked at.
            None => false,
            Some(entry) if entry.kind() != Type::String => {
                return Err(CommandError::fixed(
                    "ERR Key should be of string type if conditions are specified",
                ));
            }
            Some(entry) => Condition::comparison(args[2], args[3])
                .ok_or(CommandError::fixed(
                    "ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE",
                ))?
                .is_met_by(Some(entry.bytes()))?,
        },
        _ => return Err(CommandError::WrongArity("delex".into())),
    };
    delete(ctx, key, met)
}

pub const DELIFEQ: Command<Handler> = command("DELIFEQ", exactly(3), delifeq as Handler)
    .flags(WRITE | FAST)
    .acl(acl::STRING)
    .keys(&[at(1).flags(RM | DELETE)])
    .doc(
        "Deletes a key if it holds this string.",
        "O(1)",
        "9.0.0",
        "string",
    )
    .args(&[key("key", 0), string("value")]);

fn delifeq(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let met = Condition::Equals(args[2]).is_met(ctx, args[1])?;
    delete(ctx, args[1], met)
}

fn delete(ctx: &mut Ctx<'_>, key: &[u8], met: bool) -> CommandResult {
    let deleted = met && ctx.remove(key);
    if deleted {
        ctx.modified(key, notify::GENERIC, "del");
        ctx.log_as(&[b"DEL", key]);
    }
    ctx.reply.integer(deleted as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn delifeq() {
        let mut t = Tester::new();
        t.listen();
        t.check("DELIFEQ k v", ":0").check("SET k v", "+OK");
        t.check_new_events("new k, set k");
        t.check("DELIFEQ k w", ":0").check_log_verbatim();
        t.check("DELIFEQ k v", ":1")
            .check_log(&["DEL k"])
            .check_new_events("del k");
        t.check("GET k", "$-1");
    }

    #[test]
    fn delex_by_value() {
        let mut t = Tester::new();
        t.check("SET k v", "+OK");
        t.check("DELEX k IFEQ w", ":0")
            .check("DELEX k IFNE v", ":0");
        t.check("DELEX k ifeq v", ":1").check_log(&["DEL k"]);
        t.check("SET k v", "+OK").check("DELEX k IFNE w", ":1");
        t.check("SET k v", "+OK")
            .check("DELEX k", ":1")
            .check("DELEX k", ":0");
        t.check("DELEX k IFNE w", ":0");
    }

    #[test]
    fn delex_by_digest() {
        let mut t = Tester::new();
        t.check("SET k v8", "+OK");
        t.check("DELEX k IFDEQ 0cc76dbb41381418", ":0");
        t.check("DELEX k IFDNE 0cc76dbb41381419", ":0");
        t.check("DELEX k IFDEQ 0CC76dbb41381419", ":1");
        t.check("SET k v8", "+OK")
            .check("DELEX k IFDNE zzzzzzzzzzzzzzzz", ":1");
        t.check("SET k v8", "+OK");
        t.check(
            "DELEX k IFDEQ cc76dbb41381419",
            "-ERR must be exactly 16 hexadecimal characters",
        );
    }

    #[test]
    fn what_delex_refuses() {
        let mut t = Tester::new();
        let words = "-ERR wrong number of arguments for 'delex' command";
        t.check("DELEX k IFEQ", words)
            .check("DELEX k IFEQ v v", words);
        t.check("DELEX k foo bar", ":0")
            .check("DELEX k IFDEQ short", ":0");
        t.check("SET k v", "+OK");
        t.check(
            "DELEX k foo v",
            "-ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE",
        );
    }
}
