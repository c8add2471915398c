//! Keys of any type.

mod copy;
mod dbsize;
mod del;
mod dump;
mod exists;
mod expire;
mod find;
mod flush;
mod kind;
mod matcher;
mod memory;
pub mod migrate;
mod move_key;
mod object;
mod persist;
mod randomkey;
mod rename;
mod scan;
mod swapdb;
mod ttl;

use crate::ctx::{Args, Ctx, Handler};
use matcher::Matcher;
use ringwood_protocol::command::{Arg, Command, one_of, word};
use ringwood_protocol::error::CommandError;
use ringwood_protocol::lossless;
use ringwood_protocol::number::parse_i64;
pub use scan::LOCAL_CURSOR;
pub(super) use scan::{parse_cursor, refuse_novalues};
use std::borrow::Cow;

/// When EXPIRE, HEXPIRE and the like set a time, as they declare it.
pub(super) const EXPIRY_CONDITION: Arg = one_of(
    "condition",
    &[
        word("nx", "NX"),
        word("xx", "XX"),
        word("gt", "GT"),
        word("lt", "LT"),
    ],
)
.optional();

pub const COMMANDS: &[Command<Handler>] = &[
    del::DEL,
    del::UNLINK,
    exists::EXISTS,
    exists::TOUCH,
    kind::TYPE,
    expire::EXPIRE,
    expire::PEXPIRE,
    expire::EXPIREAT,
    expire::PEXPIREAT,
    ttl::TTL,
    ttl::PTTL,
    ttl::EXPIRETIME,
    ttl::PEXPIRETIME,
    persist::PERSIST,
    rename::RENAME,
    rename::RENAMENX,
    copy::COPY,
    dump::DUMP,
    dump::RESTORE,
    dump::RESTORE_ASKING,
    migrate::MIGRATE,
    move_key::MOVE,
    find::KEYS,
    scan::SCAN,
    randomkey::RANDOMKEY,
    object::OBJECT,
    memory::MEMORY,
    dbsize::DBSIZE,
    flush::FLUSHDB,
    flush::FLUSHALL,
    swapdb::SWAPDB,
];

/// The one text form of an integer that Redis takes.
fn number(word: &[u8]) -> Result<i64, CommandError> {
    parse_i64(word).ok_or(CommandError::NotInteger)
}

/// A database's number as the client wrote it, which need not be one that exists.
fn database_number(word: &[u8]) -> Result<i32, CommandError> {
    number(word)?.try_into().map_err(|_| {
        CommandError::fixed(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        )
    })
}

/// A database that exists.
fn database(ctx: &Ctx<'_>, word: &[u8]) -> Result<usize, CommandError> {
    usize::try_from(database_number(word)?)
        .ok()
        .filter(|&db| db < ctx.shard.keyspace.databases())
        .ok_or(CommandError::DbIndexOutOfRange)
}

/// A client's word as Redis shows it in errors: up to a zero byte.
pub(super) fn shown(word: &[u8]) -> Cow<'_, str> {
    lossless::text(word.split(|&b| b == 0).next().unwrap_or_default())
}

/// What a container answers when it is called itself.
fn unknown_subcommand(args: Args<'_>) -> CommandError {
    let name = shown(args[0]).to_uppercase();
    let sub = shown(&args[1][..args[1].len().min(128)]);
    CommandError::err(format_args!("unknown subcommand '{sub}'. Try {name} HELP."))
}
