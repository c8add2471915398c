//! Strings.

mod append;
mod condition;
mod delex;
mod digest;
mod get;
mod getdel;
mod getex;
mod getset;
mod incr;
mod incrbyfloat;
mod lcs;
mod mset;
mod msetex;
mod options;
mod range;
mod set;

use crate::ctx::Handler;
use ringwood_protocol::command::Command;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number;

pub const COMMANDS: &[Command<Handler>] = &[
    append::APPEND,
    append::STRLEN,
    delex::DELEX,
    delex::DELIFEQ,
    digest::DIGEST,
    get::GET,
    get::MGET,
    getdel::GETDEL,
    getex::GETEX,
    getset::GETSET,
    incr::DECR,
    incr::DECRBY,
    incr::INCR,
    incr::INCRBY,
    incrbyfloat::INCRBYFLOAT,
    lcs::LCS,
    mset::MSET,
    mset::MSETNX,
    msetex::MSETEX,
    range::GETRANGE,
    range::SETRANGE,
    range::SUBSTR,
    set::PSETEX,
    set::SET,
    set::SETEX,
    set::SETNX,
];

/// Refuses a string that would be longer than `proto-max-bulk-len` allows.
fn check_length(len: usize, more: usize, limit: usize) -> Result<(), CommandError> {
    match len.checked_add(more) {
        Some(total) if total <= limit => Ok(()),
        _ => Err(CommandError::StringTooLong),
    }
}

/// An integer in its one text form, as arguments and values of counters have to be.
#[inline]
fn parse_integer(text: &[u8]) -> Result<i64, CommandError> {
    number::parse_i64(text).ok_or(CommandError::NotInteger)
}
