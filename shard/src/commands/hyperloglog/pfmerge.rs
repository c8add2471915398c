//! PFMERGE.

use super::{check, make_raw};
use crate::collections::hll::{self, Raised, Registers, Union};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::{Encoding, Type};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const PFMERGE: Command<Handler> = command("PFMERGE", at_least(2), pfmerge as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::HYPERLOGLOG)
    .keys(&[
        at(1).flags(RW | ACCESS | INSERT),
        at(2).range(-1, 1, 0).flags(RO | ACCESS),
    ])
    .doc(
        "Merges HyperLogLogs into one.",
        "O(N) to merge N HyperLogLogs, but with high constant times.",
        "2.8.9",
        "hyperloglog",
    )
    .args(&[key("destkey", 0), key("sourcekey", 1).optional().multiple()]);

fn pfmerge(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let limit = ctx.shard.settings.hll_sparse_bytes_max;
    let mut union = Union::default();
    let mut dense = false;
    // The destination is one of the sources.
    for key in &args[1..] {
        if let Some(entry) = ctx.read(key) {
            check(entry)?;
            dense |= hll::is_dense(entry.bytes());
            union.add(entry.bytes())?;
        }
    }
    let key = ctx.key(args[1]);
    let mut entry = match ctx.shard.write(ctx.db, key) {
        Some(mut entry) => {
            make_raw(&mut entry);
            entry
        }
        None => {
            let parts = &[hll::EMPTY.as_slice()];
            ctx.shard
                .insert_bytes(ctx.db, key, Type::String, Encoding::Raw, parts)
        }
    };
    match union.into_parts() {
        Ok(registers) if hll::is_dense(entry.bytes()) => registers.write_dense(entry.bytes_mut()),
        Ok(registers) => {
            let merged = merged(entry.bytes(), &registers, dense, limit)?;
            if merged.len() == hll::DENSE_LEN {
                entry.set_vector(Type::String, Encoding::Raw, merged);
            } else {
                entry.set_bytes(Type::String, Encoding::Raw, &merged);
            }
        }
        // There was nothing to merge.
        Err(merged) if merged.is_empty() => {}
        Err(merged) if hll::is_dense(entry.bytes()) => {
            hll::copy_registers(entry.bytes_mut(), &merged);
        }
        Err(mut merged) => {
            hll::copy_header(&mut merged, entry.bytes());
            entry.set_vector(Type::String, Encoding::Raw, merged);
        }
    }
    hll::outdate(entry.bytes_mut());
    // For the world it is an addition of many elements.
    ctx.modified(args[1], notify::STRING, "pfadd");
    ctx.reply.ok();
    Ok(())
}

/// A sparse value with its registers raised to these.
fn merged(
    sparse: &[u8],
    registers: &Registers,
    dense: bool,
    limit: usize,
) -> Result<Vec<u8>, CommandError> {
    let written = |mut dense: Vec<u8>| {
        registers.write_dense(&mut dense);
        dense
    };
    if dense {
        return Ok(written(hll::to_dense(sparse)?));
    }
    let mut value = sparse.to_vec();
    let mut from = hll::From::default();
    for (index, rank) in registers.raised() {
        if let Raised::Dense(dense) = hll::sparse_set(&mut value, index, rank, limit, &mut from)? {
            return Ok(written(dense));
        }
    }
    Ok(value)
}
