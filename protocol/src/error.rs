//! Errors with their exact wire text.
//!
//! [`CommandError`]: a refused command; the connection goes on. [`ProtocolError`]: malformed bytes; the client is
//! told, then the connection closes.

use std::borrow::Cow;

/// Why a command was refused. One variant, one exact Redis text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    WrongType,
    Syntax,
    NotInteger,
    NotFloat,
    OutOfRange,
    NoSuchKey,
    InvalidExpire(Cow<'static, str>),
    StringTooLong,
    IncrOverflow,
    DecrOverflow,
    NanOrInfinity,
    NegativeTimeout,
    TimeoutNotFloat,
    TimeoutOutOfRange,
    InvalidDbIndex,
    DbIndexOutOfRange,
    SameObject,
    /// Command name as Redis shows it: lower case, subcommands as `config|get`.
    WrongArity(String),
    OutOfMemory,
    /// Any other text, with its code word ("ERR …").
    Text(Cow<'static, str>),
}

impl CommandError {
    /// `-ERR text`
    pub fn err(text: impl std::fmt::Display) -> Self {
        Self::Text(Cow::Owned(format!("ERR {text}")))
    }
    pub const fn fixed(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// The text as it goes over the wire, without the leading `-` and the line end.
    pub fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value",
            Self::Syntax => "ERR syntax error",
            Self::NotInteger => "ERR value is not an integer or out of range",
            Self::NotFloat => "ERR value is not a valid float",
            Self::OutOfRange => "ERR value is out of range",
            Self::NoSuchKey => "ERR no such key",
            Self::InvalidExpire(command) => {
                return Cow::Owned(format!("ERR invalid expire time in '{command}' command"));
            }
            Self::StringTooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            Self::IncrOverflow => "ERR increment or decrement would overflow",
            Self::DecrOverflow => "ERR decrement would overflow",
            Self::NanOrInfinity => "ERR increment would produce NaN or Infinity",
            Self::NegativeTimeout => "ERR timeout is negative",
            Self::TimeoutNotFloat => "ERR timeout is not a float or out of range",
            Self::TimeoutOutOfRange => "ERR timeout is out of range",
            Self::InvalidDbIndex => "ERR invalid DB index",
            Self::DbIndexOutOfRange => "ERR DB index is out of range",
            Self::SameObject => "ERR source and destination objects are the same",
            Self::WrongArity(name) => {
                return Cow::Owned(format!(
                    "ERR wrong number of arguments for '{name}' command"
                ));
            }
            Self::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
            Self::Text(text) => text,
        })
    }
}

/// Bytes that are no request. The text goes to the client as `-ERR Protocol error: …`, then the connection closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    TooBigInline,
    TooBigMultibulkHeader,
    InvalidMultibulkLength,
    UnauthenticatedMultibulkLength,
    TooBigBulkHeader,
    ExpectedDollar(u8),
    InvalidBulkLength,
    UnauthenticatedBulkLength,
    UnbalancedQuotes,
}

impl ProtocolError {
    /// The text after `-ERR Protocol error: `.
    pub fn text(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::TooBigInline => "too big inline request",
            Self::TooBigMultibulkHeader => "too big mbulk count string",
            Self::InvalidMultibulkLength => "invalid multibulk length",
            Self::UnauthenticatedMultibulkLength => "unauthenticated multibulk length",
            Self::TooBigBulkHeader => "too big bulk count string",
            Self::ExpectedDollar(got) => {
                return Cow::Owned(format!("expected '$', got '{}'", *got as char));
            }
            Self::InvalidBulkLength => "invalid bulk length",
            Self::UnauthenticatedBulkLength => "unauthenticated bulk length",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
        })
    }
}
