//! MIGRATE: moves keys to another server.
//!
//! The keys' values go there as RESTORE commands, and a key is removed here when the target has said that it has it: so at every moment at
//! least one of the two has it, and nobody can change it between. For that its slot is held until the answer is there. The connection
//! is not the shard's ([`Transfer`]), and the wait for it is not the core's: the command steps aside first, as a long one does. Only in
//! transactions and scripts, whose commands may not wait, it is done at once.

use super::number;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::log::write_command;
use crate::rdb::dump;
use crate::shard::notify;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use std::ops::Range;

pub const MIGRATE: Command<Handler> = command("MIGRATE", at_least(6), migrate as Handler)
    .flags(WRITE | MOVABLEKEYS)
    .acl(acl::KEYSPACE | acl::DANGEROUS)
    .keys(&[
        at(KEY as u16).flags(RW | ACCESS | DELETE).exactly(key_by_place),
        after("KEYS", -2)
            .range(-1, 1, 0)
            .flags(RW | ACCESS | DELETE | INCOMPLETE)
            .exactly(keys_by_option),
    ])
    .doc(
        "Moves keys to another server.",
        "This command actually executes a DUMP+DEL in the source instance, and a RESTORE in the target instance. See the pages of \
             these commands for time complexity. Also an O(N) data transfer between the two instances is performed.",
        "2.6.0",
        "generic",
    )
    .history(&[
        ("3.0.0", "Options `COPY` and `REPLACE`."),
        ("3.0.6", "Option `KEYS`."),
        ("4.0.7", "Option `AUTH`."),
        ("6.0.0", "Option `AUTH2`."),
    ])
    .args(&[
        string("host"),
        integer("port"),
        one_of("key-selector", &[key("key", 0), word("empty-string", "")]),
        integer("destination-db"),
        integer("timeout"),
        word("copy", "COPY").since("3.0.0").optional(),
        word("replace", "REPLACE").since("3.0.0").optional(),
        one_of(
            "authentication",
            &[
                string("auth")
                    .token("AUTH")
                    .display("password")
                    .since("4.0.7"),
                block("auth2", &[string("username"), string("password")])
                    .token("AUTH2")
                    .since("6.0.0"),
            ],
        )
        .optional(),
        key("keys", 1)
            .token("KEYS")
            .display("key")
            .since("3.0.6")
            .optional()
            .multiple(),
    ])
    .tips(&["nondeterministic_output"]);

/// The index of the one key; empty where KEYS names them.
const KEY: usize = 3;
/// What no timeout, or a negative one, means.
const TIMEOUT_MS: u64 = 1000;

/// The way to other servers.
pub trait Transfer: Send + Sync {
    /// Sends commands to a target, and waits for an answer to each.
    fn send(&self, migration: &Migration<'_>) -> Outcome;
}

/// What is to be sent where.
pub struct Migration<'a> {
    pub host: &'a [u8],
    pub port: &'a [u8],
    /// For each step on the network.
    pub timeout_ms: u64,
    /// A user's name, if it is not the default one, and the password.
    pub login: Option<(Option<&'a [u8]>, &'a [u8])>,
    pub db: i64,
    /// How many commands there are.
    pub count: usize,
    /// Appends one of the commands.
    pub write: &'a dyn Fn(usize, &mut Vec<u8>),
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Of each answer that came, in order, whether it was good.
    pub done: Vec<bool>,
    /// The first error that the target answered, without its dash.
    pub refused: Option<String>,
    pub failed: Option<Failed>,
}

/// Where a transfer ended before all answers were there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    Connecting,
    Writing,
    Reading,
}

impl Failed {
    /// As Redis words it.
    fn text(self) -> &'static str {
        match self {
            Self::Connecting => "IOERR error or timeout connecting to the client",
            Self::Writing => "IOERR error or timeout writing to target instance",
            Self::Reading => "IOERR error or timeout reading to target instance",
        }
    }
}

/// The words behind KEYS, if it is there where an option may be.
fn after_keys(args: &[&[u8]]) -> Option<Range<usize>> {
    let mut at = 6;
    while at < args.len() {
        let is = |word: &str| args[at].eq_ignore_ascii_case(word.as_bytes());
        if is("KEYS") {
            return Some(at + 1..args.len());
        }
        at += match () {
            () if is("AUTH") => 2,
            () if is("AUTH2") => 3,
            () => 1,
        };
    }
    None
}
fn key_by_place(args: &[&[u8]]) -> Option<Range<usize>> {
    match after_keys(args) {
        Some(_) if args[KEY].is_empty() => Some(KEY..KEY),
        Some(_) => None,
        None => Some(KEY..KEY + 1),
    }
}
fn keys_by_option(args: &[&[u8]]) -> Option<Range<usize>> {
    match after_keys(args) {
        Some(keys) => args[KEY].is_empty().then_some(keys),
        None => Some(KEY..KEY),
    }
}

struct Options<'a> {
    copy: bool,
    replace: bool,
    login: Option<(Option<&'a [u8]>, &'a [u8])>,
    keys: Range<usize>,
    timeout_ms: u64,
    db: i64,
}

impl<'a> Options<'a> {
    fn parse(args: Args<'a>) -> Result<Self, CommandError> {
        let mut options = Self {
            copy: false,
            replace: false,
            login: None,
            keys: KEY..KEY + 1,
            timeout_ms: TIMEOUT_MS,
            db: 0,
        };
        let mut words = args.iter().enumerate().skip(6);
        while let Some((at, word)) = words.next() {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            let mut value = || words.next().map(|(_, w)| *w).ok_or(CommandError::Syntax);
            if is("COPY") {
                options.copy = true;
            } else if is("REPLACE") {
                options.replace = true;
            } else if is("AUTH") {
                options.login = Some((None, value()?));
            } else if is("AUTH2") {
                options.login = Some((Some(value()?), value()?));
            } else if is("KEYS") {
                if !args[KEY].is_empty() {
                    return Err(CommandError::fixed(
                        "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                    ));
                }
                options.keys = at + 1..args.len();
                break;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if let Ok(timeout @ 1..) = u64::try_from(number(args[5])?) {
            options.timeout_ms = timeout;
        }
        options.db = number(args[4])?;
        Ok(options)
    }
}

/// A key that is here, with what is left of its time.
struct Moving<'a> {
    name: &'a [u8],
    ttl_ms: i64,
    payload: Vec<u8>,
}

fn migrate(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let options = Options::parse(args)?;
    let names = &args[options.keys.clone()];
    let is_there = |name: &&[u8]| ctx.shard.keyspace.get(ctx.db, ctx.key(name)).is_some();
    if ctx.aside && names.iter().any(is_there) {
        return ctx.step_aside();
    }
    let (now_ms, compress) = (ctx.now_ms(), ctx.shard.settings.rdb_compression);
    let mut moving = Vec::new();
    for &name in names {
        if let Some(entry) = ctx.read(name) {
            let left = entry.expire_at().map(|at| at.saturating_sub(now_ms).max(1));
            moving.push(Moving {
                name,
                ttl_ms: left.unwrap_or(0),
                payload: dump::dump(entry, compress),
            });
        }
    }
    if moving.is_empty() {
        ctx.reply.simple("NOKEY");
        return Ok(());
    }
    let write = |at: usize, out: &mut Vec<u8>| {
        let Moving {
            name,
            ttl_ms,
            payload,
        } = &moving[at];
        let mut ttl = itoa::Buffer::new();
        let words = [
            b"RESTORE",
            *name,
            ttl.format(*ttl_ms).as_bytes(),
            payload,
            b"REPLACE",
        ];
        write_command(out, &words[..4 + usize::from(options.replace)]);
    };
    let migration = Migration {
        host: args[1],
        port: args[2],
        timeout_ms: options.timeout_ms,
        login: options.login,
        db: options.db,
        count: moving.len(),
        write: &write,
    };
    let outcome = match ctx.shard.transfer.clone() {
        Some(transfer) => transfer.send(&migration),
        // Nobody can be reached from here.
        None => Outcome {
            failed: Some(Failed::Connecting),
            ..Outcome::default()
        },
    };
    if !options.copy {
        let mut removed = vec![&b"DEL"[..]];
        for (key, _) in moving.iter().zip(&outcome.done).filter(|(_, done)| **done) {
            if ctx.remove(key.name) {
                ctx.modified(key.name, notify::GENERIC, "del");
                removed.push(key.name);
            }
        }
        if removed.len() > 1 {
            ctx.log_as(&removed);
        }
    }
    match (outcome.refused, outcome.failed) {
        (Some(error), _) => Err(CommandError::err(format_args!(
            "Target instance replied with error: {error}"
        ))),
        (None, Some(failed)) => Err(CommandError::fixed(failed.text())),
        (None, None) => {
            ctx.reply.ok();
            Ok(())
        }
    }
}
