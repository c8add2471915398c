//! PFSELFTEST: whether the registers keep what they are given, and whether estimates are as good as they should be.

use crate::collections::hll::{self, Raised, Registers};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const PFSELFTEST: Command<Handler> = command("PFSELFTEST", exactly(1), pfselftest as Handler)
    .flags(ADMIN)
    .acl(acl::HYPERLOGLOG)
    .doc("Tests the HyperLogLog code.", "N/A", "2.8.9", "hyperloglog")
    .syscmd();

/// Elements added in all: enough for every size that the estimator treats in its own way, and a few milliseconds.
const ELEMENTS: u64 = 100_000;
/// Standard deviations that an estimate may be off. Six are one run in half a billion.
const DEVIATIONS: f64 = 6.0;
/// 1.04 / sqrt(16384)
const DEVIATION: f64 = 0.008_125;

fn pfselftest(ctx: &mut Ctx<'_>, _: Args<'_>) -> CommandResult {
    let seed = ctx.shard.random();
    match registers(seed).and_then(|()| estimates(seed)) {
        Ok(()) => {
            ctx.reply.ok();
            Ok(())
        }
        Err(what) => Err(CommandError::Text(format!("TESTFAILED {what}").into())),
    }
}

fn empty_dense() -> Result<Vec<u8>, String> {
    hll::to_dense(&hll::EMPTY).map_err(|hll::Corrupt| "the empty value is corrupt".into())
}

/// Raises registers at random, and compares with bytes.
fn registers(mut state: u64) -> Result<(), String> {
    let mut dense = empty_dense()?;
    let mut model = [0u8; hll::REGISTERS];
    for _ in 0..4 * hll::REGISTERS {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let (index, rank) = (state as usize % hll::REGISTERS, (state >> 40) as u8 & 63);
        let raised = hll::dense_set(&mut dense, index, rank);
        if raised != (model[index] < rank) {
            return Err(format!("register {index}: raising it to {rank}"));
        }
        model[index] = model[index].max(rank);
    }
    let mut unpacked = Registers::default();
    let merged = unpacked.merge(&dense);
    let same = |index: usize| {
        let expected = model[index];
        hll::dense_get(&dense, index) == expected && unpacked.get(index) == expected
    };
    match (0..hll::REGISTERS).find(|index| !same(*index)) {
        _ if merged.is_err() => Err("a dense value is corrupt".into()),
        Some(index) => Err(format!("register {index} does not keep its rank")),
        None => Ok(()),
    }
}

/// Adds elements to a dense and a sparse value, and looks at the estimates on the way.
fn estimates(seed: u64) -> Result<(), String> {
    let mut dense = empty_dense()?;
    let mut sparse = hll::EMPTY.to_vec();
    let mut next = 1;
    for count in 1..=ELEMENTS {
        let element = (seed ^ count).to_le_bytes();
        let (index, rank) = hll::place(&element);
        hll::dense_set(&mut dense, index, rank);
        if hll::is_dense(&sparse) {
            hll::dense_set(&mut sparse, index, rank);
        } else {
            let from = &mut hll::From::default();
            let raised = hll::sparse_set(&mut sparse, index, rank, 3000, from);
            match raised.map_err(|hll::Corrupt| "a sparse value became corrupt")? {
                Raised::Dense(new) => sparse = new,
                Raised::Changed | Raised::Unchanged => {}
            }
        }
        if count < next {
            continue;
        }
        let estimate = |value| hll::count(value).map_err(|hll::Corrupt| "a value is corrupt");
        let (one, other) = (estimate(&dense)?, estimate(&sparse)?);
        if one != other {
            return Err(format!("{count} elements: dense {one}, sparse {other}"));
        }
        let error_max = (count as f64 * DEVIATION * DEVIATIONS).ceil() as u64;
        if one.abs_diff(count) > error_max {
            return Err(format!("{count} elements are estimated as {one}"));
        }
        next *= 10;
    }
    Ok(())
}
