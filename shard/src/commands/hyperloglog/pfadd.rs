//! PFADD.

use super::{CORRUPT, check, make_raw};
use crate::collections::hll::{self, Raised};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::keyspace::EntryMut;
use crate::object::{Encoding, Type};
use crate::shard::notify;
use ringwood_protocol::command::*;

pub const PFADD: Command<Handler> = command("PFADD", at_least(2), pfadd as Handler)
    .flags(WRITE | DENYOOM | FAST)
    .acl(acl::HYPERLOGLOG)
    .keys(&[at(1).flags(RW | INSERT)])
    .doc(
        "Adds elements to a HyperLogLog, which is made if missing.",
        "O(1) to add every element.",
        "2.8.9",
        "hyperloglog",
    )
    .args(&[key("key", 0), string("element").optional().multiple()]);

fn pfadd(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let limit = ctx.shard.settings.hll_sparse_bytes_max;
    let key = ctx.key(args[1]);
    // Redis counts a new key and each element that changed something.
    let mut changes = 0;
    let mut entry = match ctx.shard.write(ctx.db, key) {
        Some(mut entry) => {
            check(entry.get())?;
            make_raw(&mut entry);
            entry
        }
        None => {
            changes += 1;
            let parts = &[hll::EMPTY.as_slice()];
            ctx.shard
                .insert_bytes(ctx.db, key, Type::String, Encoding::Raw, parts)
        }
    };
    let mut corrupt = false;
    for element in &args[2..] {
        match add(&mut entry, element, limit) {
            Ok(changed) => changes += u64::from(changed),
            Err(hll::Corrupt) => {
                corrupt = true;
                break;
            }
        }
    }
    if changes > 0 {
        hll::outdate(entry.bytes_mut());
        ctx.modified(args[1], notify::STRING, "pfadd");
        ctx.shard.stats.dirty += changes - 1;
    }
    if corrupt {
        // What was added before it was noticed stays, and was reported.
        return Err(CORRUPT);
    }
    ctx.reply.integer((changes > 0).into());
    Ok(())
}

/// Adds one element. True if that changed the value.
#[inline]
fn add(entry: &mut EntryMut<'_>, element: &[u8], limit: usize) -> Result<bool, hll::Corrupt> {
    let (index, rank) = hll::place(element);
    if hll::is_dense(entry.bytes()) {
        return Ok(hll::dense_set(entry.bytes_mut(), index, rank));
    }
    let raised = hll::sparse_set(entry, index, rank, limit, &mut hll::From::default())?;
    Ok(match raised {
        Raised::Unchanged => false,
        Raised::Changed => true,
        Raised::Dense(dense) => {
            entry.set_vector(Type::String, Encoding::Raw, dense);
            true
        }
    })
}
