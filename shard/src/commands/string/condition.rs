//! Conditions on the value before: NX, XX, IFEQ, IFNE, IFDEQ, IFDNE.

use super::digest::digest_text;
use crate::ctx::Ctx;
use crate::object::Type;
use ringwood_protocol::error::CommandError;

/// When a command may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition<'a> {
    /// NX
    Missing,
    /// XX
    Exists,
    Equals(&'a [u8]),
    Differs(&'a [u8]),
    DigestEquals(&'a [u8]),
    DigestDiffers(&'a [u8]),
}

impl<'a> Condition<'a> {
    /// One of the conditions that compare, by its word.
    pub fn comparison(word: &[u8], operand: &'a [u8]) -> Option<Self> {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        Some(if is("IFEQ") {
            Self::Equals(operand)
        } else if is("IFNE") {
            Self::Differs(operand)
        } else if is("IFDEQ") {
            Self::DigestEquals(operand)
        } else if is("IFDNE") {
            Self::DigestDiffers(operand)
        } else {
            return None;
        })
    }

    /// True when the value, `None` for a missing key, meets the condition.
    pub fn is_met_by(self, value: Option<&[u8]>) -> Result<bool, CommandError> {
        Ok(match (self, value) {
            (Self::Missing | Self::Differs(_) | Self::DigestDiffers(_), None) => true,
            (Self::Exists | Self::Equals(_) | Self::DigestEquals(_), None) => false,
            (Self::Missing, Some(_)) => false,
            (Self::Exists, Some(_)) => true,
            (Self::Equals(wanted), Some(value)) => value == wanted,
            (Self::Differs(wanted), Some(value)) => value != wanted,
            (Self::DigestEquals(wanted), Some(value)) => digest_is(value, wanted)?,
            (Self::DigestDiffers(wanted), Some(value)) => !digest_is(value, wanted)?,
        })
    }

    /// True when the key as it is now meets the condition. Those that compare are for strings only.
    pub fn is_met(self, ctx: &mut Ctx<'_>, key: &[u8]) -> Result<bool, CommandError> {
        match self {
            Self::Missing => Ok(ctx.write(key).is_none()),
            Self::Exists => Ok(ctx.write(key).is_some()),
            _ => {
                let entry = ctx.write_typed(key, Type::String)?;
                self.is_met_by(entry.as_ref().map(|e| e.bytes()))
            }
        }
    }
}

/// Any 16 bytes are taken for a digest, as in Redis: what is no hexadecimal number equals none.
fn digest_is(value: &[u8], wanted: &[u8]) -> Result<bool, CommandError> {
    if wanted.len() != 16 {
        return Err(CommandError::fixed(
            "ERR must be exactly 16 hexadecimal characters",
        ));
    }
    Ok(digest_text(value).eq_ignore_ascii_case(wanted))
}
