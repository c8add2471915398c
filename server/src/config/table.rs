//! What a row of the directive table says, and the macro that makes the typed `Config` out of the rows.
//!
//! Idea: one row is the only place that names a directive. From it come the field that the code reads, the parsing,
//! CONFIG GET, SET and REWRITE, the command line, the help text and the list of directives without effect.

use std::collections::HashMap;
use std::sync::LazyLock;

use ringwood_protocol::quote::split_words;

use super::directives::{Config, DIRECTIVES};
use super::value::{Args, Limits, Line, Source};

/// May be changed by CONFIG SET.
pub const MUTABLE: u16 = 0;
/// Fixed at start.
pub const IMMUTABLE: u16 = 1;
/// CONFIG SET needs `enable-protected-configs`.
pub const PROTECTED: u16 = 1 << 1;
/// Never shown in the log.
pub const SENSITIVE: u16 = 1 << 2;
/// CONFIG GET shows it only to who asks by its full name.
pub const HIDDEN: u16 = 1 << 3;
/// Not to be changed while the data set loads.
pub const DENY_LOADING: u16 = 1 << 4;
/// Takes any number of words.
pub const MULTI: u16 = 1 << 5;
/// Accepted, and without a meaning here.
pub const IGNORED: u16 = 1 << 6;
/// Accepted, and part of what Ringwood does not do yet.
pub const PENDING: u16 = 1 << 7;
/// Ringwood's own.
pub const OURS: u16 = 1 << 8;

/// One row of the table.
pub struct Directive {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    /// The name of `Config`'s field.
    pub field: &'static str,
    /// The built-in value, as it would be written in a file.
    pub default: &'static str,
    pub limits: Limits,
    pub flags: u16,
    pub doc: &'static str,
    pub(super) assign: fn(&mut Config, &Args, &Limits, Source) -> Result<(), String>,
    pub(super) show: fn(&Config, &Limits) -> Vec<u8>,
    pub(super) lines: fn(&Config, &Config, &Limits) -> Vec<Line>,
    pub(super) same: fn(&Config, &Config) -> bool,
}

impl Directive {
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Whether setting it changes what Ringwood does.
    pub fn has_effect(&self) -> bool {
        !self.has(IGNORED | PENDING)
    }

    pub fn is_sensitive(&self) -> bool {
        self.has(SENSITIVE)
    }

    /// The value as CONFIG GET shows it.
    pub fn show(&self, config: &Config) -> Vec<u8> {
        (self.show)(config, &self.limits)
    }

    /// Whether two configurations agree on it.
    pub fn same(&self, a: &Config, b: &Config) -> bool {
        (self.same)(a, b)
    }

    /// Takes the words of a configuration line. A single word of a directive of several is taken apart once more.
    pub(super) fn assign_line(
        &self,
        config: &mut Config,
        args: &Args,
        source: Source,
    ) -> Result<(), String> {
        match args {
            [one] if self.has(MULTI) && !one.is_empty() => {
                let words = split_words(one).ok_or("Unbalanced quotes in configuration line")?;
                (self.assign)(config, &words, &self.limits, source)
            }
            [_] => (self.assign)(config, args, &self.limits, source),
            _ if self.has(MULTI) => (self.assign)(config, args, &self.limits, source),
            _ => Err("wrong number of arguments".into()),
        }
    }

    /// Takes the value of CONFIG SET, which for a directive of several words has them separated by single spaces.
    pub(super) fn assign_value(&self, config: &mut Config, value: &[u8]) -> Result<(), String> {
        let words: Vec<Vec<u8>> = if !self.has(MULTI) {
            vec![value.to_vec()]
        } else if value.is_empty() {
            Vec::new()
        } else {
            value
                .split(|byte| *byte == b' ')
                .map(<[u8]>::to_vec)
                .collect()
        };
        (self.assign)(config, &words, &self.limits, Source::Set)
    }

    /// What CONFIG REWRITE writes for it.
    pub fn lines(&self, config: &Config, default: &Config) -> Vec<Line> {
        (self.lines)(config, default, &self.limits)
    }
}

/// The directive of this name or alias, in any case of letters.
pub fn lookup(name: &[u8]) -> Option<&'static Directive> {
    static BY_NAME: LazyLock<HashMap<&'static [u8], &'static Directive>> = LazyLock::new(|| {
        let names = |directive: &'static Directive| {
            let aliases = directive
                .aliases
                .iter()
                .map(move |alias| (alias.as_bytes(), directive));
            aliases.chain([(directive.name.as_bytes(), directive)])
        };
        DIRECTIVES.iter().flat_map(names).collect()
    });
    BY_NAME.get(name.to_ascii_lowercase().as_slice()).copied()
}

/// Makes `Config`, its built-in values and `DIRECTIVES` from rows of the form
/// `"name" ["alias", ...] field: Type = "default", limits, flags, "what it does";`
macro_rules! directives {
    ($(
        $name:literal [$($alias:literal),*] $field:ident: $ty:ty = $default:literal,
        $limits:expr, $flags:expr, $doc:literal;
    )*) => {
        /// Every setting, by its directive's name with underscores. A running server shares one snapshot per change.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $(#[doc = $doc] pub $field: $ty,)*
        }

        impl Config {
            /// The built-in values, read from the rows.
            pub(super) fn built_in() -> Config {
                Config { $($field: <$ty as Field>::built_in($default, &$limits),)* }
            }
        }

        /// The table, in the order in which it is declared.
        pub static DIRECTIVES: &[Directive] = &[
            $(Directive {
                name: $name,
                aliases: &[$($alias),*],
                field: stringify!($field),
                default: $default,
                limits: $limits,
                flags: $flags,
                doc: $doc,
                assign: |config, args, limits, source| config.$field.assign(args, limits, source),
                show: |config, limits| config.$field.show(limits),
                lines: |config, default, limits| config.$field.lines(&default.$field, limits),
                same: |a, b| a.$field == b.$field,
            },)*
        ];
    };
}
pub(crate) use directives;
