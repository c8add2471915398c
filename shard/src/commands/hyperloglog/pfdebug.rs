//! PFDEBUG.

use super::{check, make_raw};
use crate::collections::hll;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::object::{Encoding, Type};
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::lossless;
use std::fmt::Write;

pub const PFDEBUG: Command<Handler> = command("PFDEBUG", exactly(3), pfdebug as Handler)
    .flags(WRITE | DENYOOM | ADMIN)
    .acl(acl::HYPERLOGLOG)
    .keys(&[at(2).flags(RW | ACCESS)])
    .doc(
        "Shows the insides of a HyperLogLog.",
        "N/A",
        "2.8.9",
        "hyperloglog",
    )
    .syscmd()
    .args(&[string("subcommand"), key("key", 0)]);

fn pfdebug(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let (what, key) = (args[1], args[2]);
    let is = |name: &str| what.eq_ignore_ascii_case(name.as_bytes());
    if is("SIMD") {
        return simd(ctx, key);
    }
    let Some(mut entry) = ctx.write(key) else {
        return Err(CommandError::fixed("ERR The specified key does not exist"));
    };
    check(entry.get())?;
    make_raw(&mut entry);
    if is("GETREG") {
        to_dense(ctx, key)?;
        let Some(entry) = ctx.write(key) else {
            return Err(CommandError::NoSuchKey);
        };
        let registers: Vec<u8> = (0..hll::REGISTERS)
            .map(|index| hll::dense_get(entry.bytes(), index))
            .collect();
        ctx.reply.array(registers.len());
        for register in registers {
            ctx.reply.integer(register.into());
        }
    } else if is("DECODE") {
        if hll::is_dense(entry.bytes()) {
            return Err(CommandError::fixed("ERR HLL encoding is not sparse"));
        }
        let text = decoded(entry.bytes());
        ctx.reply.bulk_str(&text);
    } else if is("ENCODING") {
        let dense = hll::is_dense(entry.bytes());
        ctx.reply.simple(if dense { "dense" } else { "sparse" });
    } else if is("TODENSE") {
        let converted = to_dense(ctx, key)?;
        ctx.reply.integer(converted.into());
    } else {
        // Redis shows a text up to its first NUL.
        let shown = what.split(|byte| *byte == 0).next().unwrap_or_default();
        return Err(CommandError::err(format_args!(
            "Unknown PFDEBUG subcommand '{}'",
            lossless::text(shown)
        )));
    }
    Ok(())
}

/// Makes a value dense. False if it was.
fn to_dense(ctx: &mut Ctx<'_>, key: &[u8]) -> Result<bool, CommandError> {
    let Some(mut entry) = ctx.write(key) else {
        return Ok(false);
    };
    if hll::is_dense(entry.bytes()) {
        return Ok(false);
    }
    let dense = hll::to_dense(entry.bytes())?;
    entry.set_vector(Type::String, Encoding::Raw, dense);
    ctx.modified(key, notify::SILENT, "");
    Ok(true)
}

/// The runs of a sparse value as text: `Z:16000 v:1,2 z:10`.
fn decoded(hll: &[u8]) -> String {
    let mut text = String::new();
    for run in hll::runs(hll) {
        if !text.is_empty() {
            text.push(' ');
        }
        let written = match (run.rank, run.long) {
            (0, false) => write!(text, "z:{}", run.len),
            (0, true) => write!(text, "Z:{}", run.len),
            (rank, _) => write!(text, "v:{rank},{}", run.len),
        };
        written.expect("a string takes all text");
    }
    text
}

/// Chooses between the two ways of merging registers: eight at a time, or one after the other.
fn simd(ctx: &mut Ctx<'_>, word: &[u8]) -> CommandResult {
    let on = word.eq_ignore_ascii_case(b"ON");
    if !on && !word.eq_ignore_ascii_case(b"OFF") {
        return Err(CommandError::fixed("ERR Argument must be ON or OFF"));
    }
    hll::set_wide(on);
    ctx.reply.simple(if on { "enabled" } else { "disabled" });
    Ok(())
}
