//! GET and MGET.

use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::Type;
use ringwood_protocol::command::*;

pub const GET: Command<Handler> = command("GET", exactly(2), get as Handler)
    .flags(READONLY | FAST)
    .acl(acl::STRING)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc(
        "Returns the string value of a key.",
        "O(1)",
        "1.0.0",
        "string",
    )
    .args(&[key("key", 0)]);

#[inline]
fn get(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    // Written out rather than through `read_typed`: the entry borrows the shard while the reply is written.
    let key = ctx.key(args[1]);
    match ctx.shard.read(ctx.db, key) {
        Some(entry) if entry.kind() == Type::String => ctx.reply.bulk(entry.bytes()),
        Some(_) => return Err(ringwood_protocol::error::CommandError::WrongType),
        None => ctx.reply.null(),
    }
    Ok(())
}

pub const MGET: Command<Handler> = command("MGET", at_least(2), mget as Handler)
    .flags(READONLY | FAST)
    .acl(acl::STRING)
    .keys(&[at(1).range(-1, 1, 0).flags(RO | ACCESS)])
    .doc(
        "Returns the string values of several keys.",
        "O(N) where N is the number of keys to retrieve.",
        "1.0.0",
        "string",
    )
    .args(&[key("key", 0).multiple()])
    .tips(&["request_policy:multi_shard"])
    .route(Route::Scatter(Merge::ByKey));

fn mget(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    ctx.reply.array(args.len() - 1);
    for key in &args[1..] {
        let key = ctx.key(key);
        match ctx.shard.read(ctx.db, key) {
            Some(entry) if entry.kind() == Type::String => ctx.reply.bulk(entry.bytes()),
            _ => ctx.reply.null(),
        }
    }
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
}
