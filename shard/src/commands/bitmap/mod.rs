//! Bitmaps: strings seen as bits. Bit 0 is the highest of byte 0.

mod bitcount;
mod bitfield;
mod bitop;
mod bitpos;
mod setbit;
mod words;

use crate::ctx::{Ctx, Handler};
use crate::keyspace::EntryMut;
use crate::object::Type;
use crate::shard::Settings;
use ringwood_protocol::command::Command;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number;
use std::ops::Range;

pub const COMMANDS: &[Command<Handler>] = &[
    bitcount::BITCOUNT,
    bitfield::BITFIELD,
    bitfield::BITFIELD_RO,
    bitop::BITOP,
    bitpos::BITPOS,
    setbit::GETBIT,
    setbit::SETBIT,
];

const BAD_OFFSET: CommandError =
    CommandError::fixed("ERR bit offset is not an integer or out of range");

/// A bit's number in a string as long as strings may be.
#[inline]
fn bit_offset(text: &[u8], settings: &Settings) -> Result<u64, CommandError> {
    match number::parse_i64(text) {
        Some(offset) if offset >= 0 && (offset as u64 / 8) < settings.string_len_max as u64 => {
            Ok(offset as u64)
        }
        _ => Err(BAD_OFFSET),
    }
}

/// The bytes of a string, for [`is_long`]: 0 for what is none. Counts nothing as read.
fn size_of(ctx: &Ctx<'_>, name: &[u8]) -> usize {
    let entry = ctx.shard.keyspace.get(ctx.db, ctx.key(name));
    let string = entry.filter(|entry| entry.kind() == Type::String);
    string.map_or(0, |entry| entry.bytes().len())
}

/// True for so many bits to look at that others should not wait for it: see [`Ctx::is_long`].
fn is_long(ctx: &mut Ctx<'_>, bits: Range<u64>) -> bool {
    const AS_LONG_AS_AN_ELEMENT: u64 = 512 * 8;
    ctx.is_long(((bits.end - bits.start) / AS_LONG_AS_AN_ELEMENT) as usize)
}

static ZEROS: [u8; 1024] = [0; 1024];

/// Lengthens a string by zeros to `len` bytes. False when it is that long already.
#[inline]
fn grow(entry: &mut EntryMut<'_>, len: usize) -> bool {
    let old = entry.bytes().len();
    if old >= len {
        return false;
    }
    lengthen(entry, old, len);
    true
}

#[cold]
fn lengthen(entry: &mut EntryMut<'_>, old: usize, len: usize) {
    if let Some(zeros) = ZEROS.get(..len - old) {
        entry.splice(old, 0, zeros);
    } else if len / 4 > old {
        // Mostly new: zeroed memory costs nothing until it is used, however much it is.
        let mut bytes = vec![0; len];
        bytes[..old].copy_from_slice(entry.bytes());
        entry.set_vector(entry.kind(), entry.encoding(), bytes);
    } else {
        entry.write_at(len - 1, &[0]);
    }
}

/// What the ends of a range count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Byte,
    Bit,
}

impl Unit {
    fn parse(word: &[u8]) -> Result<Self, CommandError> {
        if word.eq_ignore_ascii_case(b"BYTE") {
            Ok(Self::Byte)
        } else if word.eq_ignore_ascii_case(b"BIT") {
            Ok(Self::Bit)
        } else {
            Err(CommandError::Syntax)
        }
    }
}

/// The bits that `start` and `end` (which is included) mean in a string of `len` bytes; negative ones count from its end.
fn resolve(start: i64, end: i64, unit: Unit, len: usize) -> Range<u64> {
    let (total, unit_bits) = match unit {
        Unit::Byte => (len as i64, 8),
        Unit::Bit => (len as i64 * 8, 1),
    };
    let from_start = |at: i64| if at < 0 { (at + total).max(0) } else { at };
    let (start, end) = (from_start(start), from_start(end).min(total - 1));
    if start > end {
        return 0..0;
    }
    start as u64 * unit_bits..(end as u64 + 1) * unit_bits
}
