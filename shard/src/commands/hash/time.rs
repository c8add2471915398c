//! The words that the commands of field expiry share: times, and `FIELDS count field …`.

use crate::ctx::Args;
use ringwood_protocol::command::{Arg, block, integer, string};
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;

/// `FIELDS numfields field…`, as the commands about fields' times declare it.
pub(super) const FIELDS: Arg = block(
    "fields",
    &[integer("numfields"), string("field").multiple()],
)
.token("FIELDS");

/// The last time a field can expire at, in wall-clock milliseconds: Redis keeps 46 bits.
const TIME_MAX: i64 = (1 << 46) - 1;

/// How a time is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Ex,
    Px,
    ExAt,
    PxAt,
}

impl Unit {
    pub fn of_word(word: &[u8]) -> Option<Self> {
        [
            ("EX", Self::Ex),
            ("PX", Self::Px),
            ("EXAT", Self::ExAt),
            ("PXAT", Self::PxAt),
        ]
        .into_iter()
        .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, unit)| unit)
    }

    /// Wall-clock milliseconds of the time that `word` gives. `command`: its name in the error.
    pub fn expire_at(
        self,
        word: &[u8],
        now_ms: i64,
        command: &'static str,
    ) -> Result<i64, CommandError> {
        let number = parse_i64(word).ok_or(CommandError::NotInteger)?;
        if number < 0 {
            return Err(CommandError::fixed("ERR invalid expire time, must be >= 0"));
        }
        let (scale, base) = match self {
            Self::Ex => (1000, now_ms),
            Self::Px => (1, now_ms),
            Self::ExAt => (1000, 0),
            Self::PxAt => (1, 0),
        };
        number
            .checked_mul(scale)
            .and_then(|ms| ms.checked_add(base))
            .filter(|&at| at <= TIME_MAX)
            .ok_or(CommandError::InvalidExpire(command.into()))
    }
}

/// The fields of `FIELDS count field …`, which begins at `at` and ends the command. `count_error` is for a count that is none.
pub fn fields<'a>(
    args: Args<'a>,
    at: usize,
    count_error: &'static str,
) -> Result<&'a [&'a [u8]], CommandError> {
    let is_there = args
        .get(at)
        .is_some_and(|word| word.eq_ignore_ascii_case(b"FIELDS"));
    if !is_there {
        return Err(CommandError::fixed(
            "ERR Mandatory argument FIELDS is missing or not at the right position",
        ));
    }
    let count = args.get(at + 1).and_then(|word| parse_i64(word));
    let count = count
        .filter(|&n| n > 0)
        .ok_or(CommandError::fixed(count_error))?;
    let fields = &args[at + 2..];
    if usize::try_from(count) != Ok(fields.len()) {
        return Err(CommandError::fixed(
            "ERR The `numfields` parameter must match the number of arguments",
        ));
    }
    Ok(fields)
}

/// What most commands say of a count that is none.
pub const NO_COUNT: &str = "ERR Number of fields must be a positive integer";
