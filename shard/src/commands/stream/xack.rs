//! XACK.

use super::{parse_ids, stream_mut, write_groups};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;

pub const XACK: Command<Handler> = command("XACK", at_least(4), xack as Handler)
    .flags(WRITE | FAST)
    .acl(acl::STREAM)
    .keys(&[at(1).flags(RW | UPDATE)])
    .doc(
        "Marks entries as handled by their group.",
        "O(1) for each message ID processed.",
        "5.0.0",
        "stream",
    )
    .args(&[key("key", 0), string("group"), string("id").multiple()]);

fn xack(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let key = ctx.key(args[1]);
    let mut acknowledged = 0;
    if let Some(mut entry) = write_groups(ctx.shard, ctx.db, key)?
        && let Some(group) = stream_mut(&mut entry).group_mut(args[2])
    {
        for id in parse_ids(&args[3..])? {
            acknowledged += u64::from(group.acknowledge(id).is_some());
        }
    }
    ctx.shard.stats.dirty += acknowledged;
    ctx.reply.integer(acknowledged as i64);
    Ok(())
}
