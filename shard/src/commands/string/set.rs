//! SET.

use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::shard::{Expiry, notify};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const SET: Command<Handler> = command("SET", at_least(3), set as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::STRING)
    .keys(&[at(1).flags(RW | ACCESS | UPDATE | VARIABLE_FLAGS)])
    .doc("Sets the string value of a key.", "O(1)", "1.0.0", "string")
    .args(&[key("key", 0), string("value")]);

#[inline]
fn set(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    if args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    ctx.set_string(args[1], args[2], Expiry::Clear);
    ctx.modified(args[1], notify::STRING, "set");
    ctx.reply.ok();
    Ok(())
}
