//! The words after key and value that SET, GETEX and MSETEX share: conditions, GET, expiry.
//!
//! Every command takes its own subset ([`Allowed`]); what may stand together, and that a repeated option counts once with its
//! last value, is the same for all. Syntax comes first: a time is looked at only when all words are known to fit.

use super::condition::Condition;
use super::parse_integer;
use ringwood_protocol::error::CommandError;

/// Which options a command takes.
#[derive(Clone, Copy, Default)]
pub(super) struct Allowed {
    /// NX and XX.
    pub existence: bool,
    /// IFEQ, IFNE, IFDEQ and IFDNE.
    pub comparison: bool,
    pub get: bool,
    pub keep_ttl: bool,
    pub persist: bool,
}

/// What the words ask for.
#[derive(Default)]
pub(super) struct Options<'a> {
    pub condition: Option<Condition<'a>>,
    pub get: bool,
    pub keep_ttl: bool,
    pub persist: bool,
    expiry: Option<(TimeUnit, &'a [u8])>,
}

/// How an expiry is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeUnit {
    Ex,
    Px,
    ExAt,
    PxAt,
}

impl TimeUnit {
    fn of_word(word: &[u8]) -> Option<Self> {
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
    fn is_absolute(self) -> bool {
        matches!(self, Self::ExAt | Self::PxAt)
    }

    /// Wall-clock milliseconds of the time that `text` gives. `command`: its name in the error.
    pub fn expire_at(
        self,
        text: &[u8],
        now_ms: i64,
        command: &'static str,
    ) -> Result<i64, CommandError> {
        let number = parse_integer(text)?;
        let scale = match self {
            Self::Ex | Self::ExAt => 1000,
            Self::Px | Self::PxAt => 1,
        };
        let base = if self.is_absolute() { 0 } else { now_ms };
        Some(number)
            .filter(|&n| n > 0)
            .and_then(|n| n.checked_mul(scale))
            .and_then(|n| n.checked_add(base))
            .ok_or(CommandError::InvalidExpire(command.into()))
    }
}

impl<'a> Options<'a> {
    pub fn parse(words: &[&'a [u8]], allowed: Allowed) -> Result<Self, CommandError> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            if allowed.get && is("GET") {
                options.get = true;
            } else if allowed.keep_ttl
                && is("KEEPTTL")
                && options.expiry.is_none()
                && !options.persist
            {
                options.keep_ttl = true;
            } else if allowed.persist
                && is("PERSIST")
                && options.expiry.is_none()
                && !options.keep_ttl
            {
                options.persist = true;
            } else if let Some(unit) = TimeUnit::of_word(word) {
                let other = options.expiry.is_some_and(|(before, _)| before != unit);
                if other || options.keep_ttl || options.persist {
                    return Err(CommandError::Syntax);
                }
                let time = words.next().ok_or(CommandError::Syntax)?;
                options.expiry = Some((unit, time));
            } else if allowed.existence && (is("NX") || is("XX")) {
                let condition = if is("NX") {
                    Condition::Missing
                } else {
                    Condition::Exists
                };
                match options.condition {
                    Some(before) if before != condition => return Err(CommandError::Syntax),
                    _ => options.condition = Some(condition),
                }
            } else if allowed.comparison && options.condition.is_none() {
                let operand = words.next().ok_or(CommandError::Syntax)?;
                let condition = Condition::comparison(word, operand);
                options.condition = Some(condition.ok_or(CommandError::Syntax)?);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    /// When the key is to expire, in wall-clock milliseconds. `command`: its name in the error.
    pub fn expire_at(
        &self,
        now_ms: i64,
        command: &'static str,
    ) -> Result<Option<i64>, CommandError> {
        self.expiry
            .map(|(unit, text)| unit.expire_at(text, now_ms, command))
            .transpose()
    }
}
