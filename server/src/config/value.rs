//! The types a directive's field can have, and how each reads and shows itself.
//!
//! Idea: what a value looks like on a configuration line, in `CONFIG GET` and after `CONFIG REWRITE` is a property of
//! its type (`Field`), narrowed by the `Limits` of its row in the table. So the table only names a type, and the code
//! that uses a setting reads an ordinary Rust value.
//!
//! Invariants: `assign` changes nothing when it fails; what `show` prints, `assign` accepts and gives the same value.

use std::fmt;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use ringwood_protocol::quote::append_repr;

/// The arguments of one directive, without its name.
pub type Args = [Vec<u8>];

/// Who assigns: some directives add to what the same file said before, but replace what was there at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A line of the start configuration; `again` when the directive has been seen before in it.
    Load { again: bool },
    /// `CONFIG SET`.
    Set,
}

/// How the number of a directive is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Count,
    /// Bytes, with the suffixes b, k, kb, m, mb, g and gb.
    Memory,
    /// Bytes as above, or `N%`, stored as a negative number.
    MemoryOrPercent,
    Octal,
}

/// Judges a raw argument.
pub type Check = fn(&[u8]) -> Result<(), String>;

/// What narrows a type for one directive.
#[derive(Clone, Copy)]
pub struct Limits {
    pub min: i128,
    pub max: i128,
    pub unit: Unit,
    /// An empty text means "not set" and leaves no line behind on CONFIG REWRITE.
    pub empty_is_unset: bool,
    /// A further check of the raw argument.
    pub check: Option<Check>,
}

/// The type's own range, no unit, no check.
pub const ANY: Limits = Limits {
    min: i128::MIN,
    max: i128::MAX,
    unit: Unit::Count,
    empty_is_unset: false,
    check: None,
};

/// A text for which empty means "not set".
pub const UNSET: Limits = Limits {
    empty_is_unset: true,
    ..ANY
};

/// A number from `min` to `max`.
pub const fn range(min: i128, max: i128) -> Limits {
    Limits { min, max, ..ANY }
}

/// A number of bytes from `min` to `max`.
pub const fn memory(min: i128, max: i128) -> Limits {
    Limits {
        min,
        max,
        unit: Unit::Memory,
        ..ANY
    }
}

impl Limits {
    pub const fn unit(self, unit: Unit) -> Limits {
        Limits { unit, ..self }
    }

    pub const fn check(self, check: Check) -> Limits {
        Limits {
            check: Some(check),
            ..self
        }
    }
}

/// One line that CONFIG REWRITE wants in the file.
pub struct Line {
    /// The text after the directive's name and a space.
    pub value: Vec<u8>,
    /// Written even if the file does not mention the directive: the value is not the default.
    pub force: bool,
}

/// A value that a directive can hold.
pub trait Field: Clone + PartialEq + Default {
    /// Takes the value that `args` say.
    fn assign(&mut self, args: &Args, limits: &Limits, source: Source) -> Result<(), String>;

    /// The value as CONFIG GET shows it.
    fn show(&self, limits: &Limits) -> Vec<u8>;

    /// The lines that CONFIG REWRITE writes; none removes the directive from the file.
    fn lines(&self, default: &Self, limits: &Limits) -> Vec<Line> {
        vec![Line {
            value: self.show(limits),
            force: self != default,
        }]
    }

    /// The built-in value. The table is ours, so a default that does not parse is a bug; a test reads them all.
    fn built_in(text: &str, limits: &Limits) -> Self {
        let mut value = Self::default();
        // CONFIG SET's way of giving several arguments: separated by spaces, one empty one for nothing.
        let args: Vec<Vec<u8>> = text
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        let unchecked = Limits {
            check: None,
            ..*limits
        };
        if let Err(reason) = value.assign(&args, &unchecked, Source::Set) {
            panic!("built-in value {text:?}: {reason}");
        }
        value
    }
}

/// The only argument of a directive that takes one. The callers check the count for directives of one argument; this
/// is for those that may take several.
pub fn single(args: &Args) -> Result<&[u8], String> {
    match args {
        [one] => Ok(one),
        _ => Err("wrong number of arguments".into()),
    }
}

fn run_check(limits: &Limits, argument: &[u8]) -> Result<(), String> {
    limits.check.map_or(Ok(()), |check| check(argument))
}

/// `bytes` as one word of a configuration line.
pub fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    append_repr(&mut text, bytes);
    text
}

impl Field for bool {
    fn assign(&mut self, args: &Args, limits: &Limits, _: Source) -> Result<(), String> {
        let argument = single(args)?;
        let value = if argument.eq_ignore_ascii_case(b"yes") {
            true
        } else if argument.eq_ignore_ascii_case(b"no") {
            false
        } else {
            return Err("argument must be 'yes' or 'no'".into());
        };
        run_check(limits, argument)?;
        *self = value;
        Ok(())
    }

    fn show(&self, _: &Limits) -> Vec<u8> {
        if *self {
            b"yes".to_vec()
        } else {
            b"no".to_vec()
        }
    }
}

/// A decimal number in its shortest form, as Redis wants it: no sign but `-`, no leading zero, no space.
pub fn decimal(text: &[u8]) -> Option<i128> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [] => false,
        [b'0'] => digits.len() == text.len(),
        [b'0', ..] => false,
        _ => digits.len() <= 20 && digits.iter().all(u8::is_ascii_digit),
    };
    if !canonical {
        return None;
    }
    let value: i128 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (i128::from(i64::MIN)..=i128::from(i64::MAX))
        .contains(&value)
        .then_some(value)
}

/// Bytes with an optional unit; a number that does not fit 64 bits counts as the largest, as in Redis.
pub fn memory_size(text: &[u8]) -> Option<u64> {
    let split = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    let number = digits.iter().fold(0u64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    Some(number.saturating_mul(factor))
}

/// Bytes in the largest unit that loses nothing, as CONFIG REWRITE writes them.
pub fn memory_text(bytes: i128) -> String {
    for (size, unit) in [(1i128 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")] {
        if bytes > 0 && bytes % size == 0 {
            return format!("{}{unit}", bytes / size);
        }
    }
    bytes.to_string()
}

fn number(
    argument: &[u8],
    limits: &Limits,
    type_min: i128,
    type_max: i128,
) -> Result<i128, String> {
    let (min, max) = (limits.min.max(type_min), limits.max.min(type_max));
    let value = match limits.unit {
        Unit::Count => decimal(argument).ok_or("argument couldn't be parsed into an integer")?,
        Unit::Memory => memory_size(argument)
            .map(i128::from)
            .ok_or("argument must be a memory value")?,
        Unit::MemoryOrPercent => match argument
            .strip_suffix(b"%")
            .map(|number| (number, decimal(number)))
        {
            Some((_, Some(percent))) if percent >= 0 => {
                if -percent < min {
                    return Err(format!(
                        "percentage argument must be less or equal to {}",
                        -min
                    ));
                }
                return Ok(-percent);
            }
            Some(_) => return Err("argument must be a memory or percent value".into()),
            None => memory_size(argument)
                .map(i128::from)
                .ok_or("argument must be a memory or percent value")?,
        },
        Unit::Octal => std::str::from_utf8(argument)
            .ok()
            .and_then(|text| i128::from_str_radix(text, 8).ok())
            .ok_or("argument couldn't be parsed as an octal number")?,
    };
    // Redis takes what does not fit 63 bits for a negative number.
    let is_large = value > i128::from(i64::MAX);
    if is_large && limits.unit == Unit::Memory {
        Err("argument must be greater or equal to 0".into())
    } else if is_large && limits.unit == Unit::MemoryOrPercent {
        Err(format!(
            "percentage argument must be less or equal to {}",
            -min
        ))
    } else if (min..=max).contains(&value) {
        Ok(value)
    } else if limits.unit == Unit::Octal {
        Err(format!(
            "argument must be between {min:o} and {max:o} inclusive"
        ))
    } else {
        Err(format!(
            "argument must be between {min} and {max} inclusive"
        ))
    }
}

fn number_text(value: i128, unit: Unit) -> String {
    match unit {
        Unit::MemoryOrPercent if value < 0 => format!("{}%", -value),
        Unit::Octal => format!("{value:o}"),
        _ => value.to_string(),
    }
}

macro_rules! number_field {
    ($($number:ty),*) => { $(
        impl Field for $number {
            fn assign(&mut self, args: &Args, limits: &Limits, _: Source) -> Result<(), String> {
                let argument = single(args)?;
                let value = number(argument, limits, i128::from(<$number>::MIN), i128::from(<$number>::MAX))?;
                let value = <$number>::try_from(value).map_err(|_| "argument is out of range".to_string())?;
                run_check(limits, argument)?;
                *self = value;
                Ok(())
            }

            fn show(&self, limits: &Limits) -> Vec<u8> {
                number_text(i128::from(*self), limits.unit).into_bytes()
            }

            fn lines(&self, default: &Self, limits: &Limits) -> Vec<Line> {
                let value = i128::from(*self);
                let text = match limits.unit {
                    Unit::Memory | Unit::MemoryOrPercent if value >= 0 => memory_text(value),
                    unit => number_text(value, unit),
                };
                vec![Line { value: text.into_bytes(), force: self != default }]
            }
        }
    )* };
}

number_field!(u16, u32, i32, u64, i64);

/// A text of any bytes: a name, a path, a password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Text(Arc<[u8]>);

impl Text {
    pub fn as_path(&self) -> &Path {
        Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }
}

impl Default for Text {
    fn default() -> Self {
        Text(Arc::from(&[][..]))
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Text(Arc::from(bytes))
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl Field for Text {
    fn assign(&mut self, args: &Args, limits: &Limits, _: Source) -> Result<(), String> {
        let argument = single(args)?;
        run_check(limits, argument)?;
        *self = Text::from(argument);
        Ok(())
    }

    fn show(&self, _: &Limits) -> Vec<u8> {
        self.to_vec()
    }

    fn lines(&self, default: &Self, limits: &Limits) -> Vec<Line> {
        if self.is_empty() && limits.empty_is_unset {
            return Vec::new();
        }
        vec![Line {
            value: quoted(self),
            force: self != default,
        }]
    }

    fn built_in(text: &str, _: &Limits) -> Self {
        Text::from(text.as_bytes())
    }
}

/// Declares an enum whose variants are the words a directive accepts.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name {
            #[default]
            $($variant),+
        }

        impl $name {
            /// The words and their meaning, in the order in which Redis lists them.
            pub const ALL: &'static [(&'static str, $name)] = &[$(($word, $name::$variant)),+];

            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl $crate::config::value::Field for $name {
            fn assign(
                &mut self,
                args: &$crate::config::value::Args,
                _: &$crate::config::value::Limits,
                _: $crate::config::value::Source,
            ) -> Result<(), String> {
                let found = match args {
                    [argument] => Self::ALL.iter().find(|(word, _)| argument.eq_ignore_ascii_case(word.as_bytes())),
                    _ => None,
                };
                let Some((_, value)) = found else {
                    let words: Vec<&str> = Self::ALL.iter().map(|(word, _)| *word).collect();
                    return Err(format!("argument(s) must be one of the following: {}", words.join(", ")));
                };
                *self = *value;
                Ok(())
            }

            fn show(&self, _: &$crate::config::value::Limits) -> Vec<u8> {
                self.as_str().as_bytes().to_vec()
            }
        }
    };
}
pub(crate) use words;
