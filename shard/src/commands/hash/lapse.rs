//! What a command does about a field that it finds expired before the expiry wheel came by: it removes it, as Redis does.

use super::expire::log_fields;
use super::value;
use crate::ctx::Ctx;
use crate::shard::notify;

/// Removes fields that have expired, and the key with the last one. The log says so in a command of its own: a replica lets nothing
/// expire by itself. A command that goes on to change something logs that too.
pub fn lapse(ctx: &mut Ctx<'_>, key: &[u8], fields: &[&[u8]]) {
    if fields.is_empty() {
        return;
    }
    let found = ctx.key(key);
    let Ok(Some(mut entry)) = value::open(ctx.shard, ctx.db, found) else {
        return;
    };
    let mut gone = 0;
    let mut emptied = false;
    for field in fields {
        if !emptied && value::remove(&mut entry, field) {
            gone += 1;
            emptied = value::is_empty(&entry);
        }
    }
    if emptied {
        entry.remove();
    }
    ctx.shard.stats.expired_fields += gone;
    ctx.modified(key, value::CLASS, "hexpired");
    if emptied {
        ctx.modified(key, notify::GENERIC, "del");
    }
    log_fields(ctx, &[b"HDEL", key], fields);
}
