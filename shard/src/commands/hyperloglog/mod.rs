//! HyperLogLogs: strings in the format of [`crate::collections::hll`], which also says what they are.
//!
//! As in Redis a client may read and write these strings with any other command of strings, so each command here first looks whether
//! a string is one at all, and one that turns out to be corrupt is an error.

mod pfadd;
mod pfcount;
mod pfdebug;
mod pfmerge;
mod pfselftest;
#[cfg(test)]
mod tests;

use crate::collections::hll;
use crate::ctx::Handler;
use crate::keyspace::{EntryMut, EntryRef};
use crate::object::{Encoding, Type};
use ringwood_protocol::command::Command;
use ringwood_protocol::error::CommandError;

pub const COMMANDS: &[Command<Handler>] = &[
    pfadd::PFADD,
    pfcount::PFCOUNT,
    pfdebug::PFDEBUG,
    pfmerge::PFMERGE,
    pfselftest::PFSELFTEST,
];

const CORRUPT: CommandError = CommandError::fixed("INVALIDOBJ Corrupted HLL object detected");

impl From<hll::Corrupt> for CommandError {
    fn from(_: hll::Corrupt) -> Self {
        CORRUPT
    }
}

/// Refuses what is no HyperLogLog by its header and length.
fn check(entry: EntryRef<'_>) -> Result<(), CommandError> {
    if entry.kind() != Type::String {
        return Err(CommandError::WrongType);
    }
    // Integers are kept as text: no need to ask for the encoding.
    if hll::is_hll(entry.bytes()) {
        Ok(())
    } else {
        Err(CommandError::fixed(
            "WRONGTYPE Key is not a valid HyperLogLog string value.",
        ))
    }
}

/// What these commands touch has the encoding `raw` from then on, as in Redis, whatever SET gave it.
fn make_raw(entry: &mut EntryMut<'_>) {
    if entry.encoding() != Encoding::Raw {
        entry.set_encoding(Encoding::Raw);
    }
}
