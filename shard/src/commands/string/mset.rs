//! MSET.

use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::{Expiry, notify};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const MSET: Command<Handler> = command("MSET", at_least(3), mset as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::STRING)
    .keys(&[at(1).range(-1, 2, 0).flags(OW | UPDATE)])
    .doc(
        "Sets the string values of several keys.",
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
    if args.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity("mset".into()));
    }
    for pair in args[1..].chunks_exact(2) {
        ctx.set_string(pair[0], pair[1], Expiry::Clear);
        ctx.modified(pair[0], notify::STRING, "set");
    }
    ctx.reply.ok();
    Ok(())
}
