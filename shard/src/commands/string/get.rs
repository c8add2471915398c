//! GET and MGET.

use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::Type;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const GET: Command<Handler> = command("GET", exactly(2), get as Handler)
    .flags(READONLY | FAST)
    .acl(acl::STRING)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc("Returns a string.", "O(1)", "1.0.0", "string")
    .args(&[key("key", 0)]);

#[inline]
fn get(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    reply_value(ctx, args[1]).map(|_| ())
}

/// Answers with a key's value, or null. True when there is one.
#[inline]
pub(super) fn reply_value(ctx: &mut Ctx<'_>, key: &[u8]) -> Result<bool, CommandError> {
    // Written out rather than through `read_typed`: the entry borrows the shard while the reply is written.
    let key = ctx.key(key);
    match ctx.shard.read(ctx.db, key) {
        Some(entry) if entry.kind() == Type::String => {
            ctx.reply.bulk(entry.bytes());
            Ok(true)
        }
        Some(_) => Err(CommandError::WrongType),
        None => {
            ctx.reply.null();
            Ok(false)
        }
    }
}

pub const MGET: Command<Handler> = command("MGET", at_least(2), mget as Handler)
    .flags(READONLY | FAST)
    .acl(acl::STRING)
    .keys(&[at(1).range(-1, 1, 0).flags(RO | ACCESS)])
    .doc(
        "Returns many strings.",
        "O(N) where N is the number of keys to retrieve.",
        "1.0.0",
        "string",
    )
    .args(&[key("key", 0).multiple()])
    .tips(&["request_policy:multi_shard"])
    .route(Route::Scatter(Merge::ByKey));

fn mget(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    ctx.reply.array(args.len() - 1);
    ctx.each_key(
        args.len() - 1,
        |i| args[i + 1],
        |ctx, _, key| match ctx.shard.read(ctx.db, key) {
            Some(entry) if entry.kind() == Type::String => ctx.reply.bulk(entry.bytes()),
            _ => ctx.reply.null(),
        },
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;

    #[test]
    fn get_and_mget() {
        let mut t = Tester::new();
        t.check("GET k", "$-1")
            .check("SET k v", "+OK")
            .check("GET k", "$1 v");
        t.check("MGET k nokey k", "*3 $1 v $-1 $1 v");
        t.check("GET", "-ERR wrong number of arguments for 'get' command");
    }

    #[test]
    fn an_expired_value_is_not_there() {
        let mut t = Tester::new();
        t.listen();
        t.check("SET k v PX 10", "+OK").check("GET k", "$1 v");
        t.advance(10)
            .check("GET k", "$-1")
            .check("MGET k", "*1 $-1");
        t.check_new_events("new k, set k, expire k, expired k, keymiss k, keymiss k");
    }
}
