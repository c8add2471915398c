//! DEBUG: tools for tests and for finding faults, behind `enable-debug-command`.
//!
//! Knobs of structures that Redis has and Ringwood has not (quicklist nodes, reply buffers that shrink, hash tables that
//! resize in steps) are checked like Redis's and then have nothing to turn: the suites set them to reach cases of Redis's code.

mod digest;
mod reload;

use super::config::{is_local, rewrite_file};
use super::{Answer, Call, ConnHandler};
use crate::config::Extent;
use crate::core::Core;
use digest::Digest;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::glob::glob_match;
use ringwood_protocol::lossless;
use ringwood_protocol::number::parse_i64;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_shard::ctx::Args;
use ringwood_shard::rdb::dump;
use ringwood_shard::shard::{Expiry, Settings};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub const COMMANDS: &[Command<ConnHandler>] = &[DEBUG];

const DEBUG: Command<ConnHandler> = command("DEBUG", at_least(2), debug as ConnHandler)
    .flags(ADMIN | NOSCRIPT | LOADING | STALE | BARRIER)
    .doc(
        "Tools for tests and for finding faults.",
        "Depends on subcommand.",
        "1.0.0",
        "server",
    )
    .syscmd()
    .route(Route::Connection);

type Result = std::result::Result<Answer, CommandError>;

const REFUSED: CommandError = CommandError::fixed(
    "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a \
     local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
);

/// They see or change keys, which are not all there while they are loaded.
const CONCERN_KEYS: [&[u8]; 8] = [
    b"OBJECT",
    b"LISTPACK",
    b"DIGEST",
    b"DIGEST-VALUE",
    b"POPULATE",
    b"HTSTATS",
    b"RELOAD",
    b"LOADAOF",
];

fn debug(call: &mut Call<'_>, args: Args<'_>) -> Result {
    if !call
        .core
        .config
        .enable_debug_command
        .allows(is_local(call.client()))
    {
        return Err(REFUSED);
    }
    let name = args[1].to_ascii_uppercase();
    if call.core.loading && CONCERN_KEYS.contains(&name.as_slice()) {
        return Err(crate::request::IS_LOADING);
    }
    match (name.as_slice(), &args[2..]) {
        (b"SLEEP", [seconds]) => sleep(call, seconds),
        (b"SET-ACTIVE-EXPIRE", [on]) => {
            set_debug_setting(call, on, |settings, on| settings.active_expire = on)
        }
        (b"OBJECT", [key, ..]) => object(call, key),
        (b"LISTPACK", [key]) => listpack(call, key),
        (b"DIGEST", []) => whole_digest(call),
        (b"DIGEST-VALUE", keys) => value_digests(call, keys),
        (b"POPULATE", [count, rest @ ..]) if rest.len() <= 2 => populate(call, count, rest),
        (b"HTSTATS", [db, ..]) => table_statistics(call, db),
        (b"STRINGMATCH-LEN", [len, pattern]) => {
            let len = parse_i64(len)
                .and_then(|n| usize::try_from(n).ok())
                .filter(|n| *n <= 1 << 30)
                .ok_or(CommandError::NotInteger)?;
            let found = glob_match(pattern, &vec![b'a'; len]);
            call.reply.integer(found.into());
            Ok(Answer::Now)
        }
        (b"PROTOCOL", [kind]) => protocol(&mut call.reply, kind),
        (b"ERROR", [text]) => {
            call.reply.error(&lossless::text(text));
            Ok(Answer::Now)
        }
        (b"LOG", [text]) => {
            tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(text));
            ok(call)
        }
        (b"QUICKLIST-PACKED-THRESHOLD", [size]) => {
            packed_threshold(size)?;
            ok(call)
        }
        (b"REPLYBUFFER", [what, _])
            if [&b"PEAK-RESET-TIME"[..], b"RESIZING"]
                .iter()
                .any(|w| what.eq_ignore_ascii_case(w)) =>
        {
            ok(call)
        }
        (b"DICT-RESIZING", [_]) => ok(call),
        (b"SET-DISABLE-DENY-SCRIPTS", [on]) => {
            let on = parse_i64(on).ok_or(CommandError::NotInteger)? != 0;
            let scripts = &call.core.shared.scripts;
            scripts.calls_debug.store(on, Ordering::Release);
            ok(call)
        }
        (b"PAUSE-CRON", [on]) => {
            let on = parse_i64(on).ok_or(CommandError::NotInteger)? != 0;
            call.core.shared.cron_pauses.store(on, Ordering::Release);
            ok(call)
        }
        (b"RELOAD", words) => reload::reload(call, words),
        (b"CONFIG-REWRITE-FORCE-ALL", []) => rewrite_file(call, Extent::All),
        (b"LOADAOF", []) => crate::aof::reload::reload(call),
        (b"SET-SKIP-CHECKSUM-VALIDATION", [on]) => {
            set_debug_setting(call, on, |settings, on| settings.skip_checksum = on)
        }
        (b"FAIL-SNAPSHOT", []) => fail_snapshot(call),
        (b"CHANGE-REPL-ID" | b"REPLICATE", _) => Err(CommandError::err(format!(
            "DEBUG {} needs replication, which Ringwood does not have yet",
            lossless::text(&name)
        ))),
        (b"SEGFAULT", []) => {
            // SAFETY: none: the fault is what was asked for, to see what the process makes of it.
            unsafe { std::ptr::null_mut::<u8>().write_volatile(1) };
            ok(call)
        }
        (b"PANIC", []) => panic!("called by DEBUG PANIC"),
        (b"ASSERT", []) => {
            let asked_for = args.len() == 2;
            assert!(!asked_for, "called by DEBUG ASSERT");
            ok(call)
        }
        (b"HELP", []) => help(call, args),
        _ => Err(crate::commands::wrong_words(args)),
    }
}

fn ok(call: &mut Call<'_>) -> Result {
    call.reply.ok();
    Ok(Answer::Now)
}

pub(crate) fn seconds(text: &[u8]) -> std::result::Result<Duration, CommandError> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.parse::<f64>().ok())
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .ok_or(CommandError::NotFloat)
}

/// All cores sleep, as the whole of Redis does.
fn sleep(call: &mut Call<'_>, seconds: &[u8]) -> Result {
    let seconds = self::seconds(seconds)?;
    Ok(call.gather(
        move |_| std::thread::sleep(seconds),
        |_, reply, _| reply.ok(),
    ))
}

/// What is being written in the background ends as if the disk had failed: nothing forks, so there is no child that could be killed.
fn fail_snapshot(call: &mut Call<'_>) -> Result {
    match call.core.shared.persistence.running() {
        Some(snapshot) if snapshot.fail() => ok(call),
        _ => Err(CommandError::err("nothing is written in the background")),
    }
}

fn set_debug_setting(call: &mut Call<'_>, on: &[u8], set: fn(&mut Settings, bool)) -> Result {
    let on = parse_i64(on).ok_or(CommandError::NotInteger)? != 0;
    Ok(call.gather(
        move |core| {
            let mut settings = (*core.shard.settings).clone();
            set(&mut settings, on);
            core.shard.settings = Arc::new(settings);
        },
        |_, reply, _| reply.ok(),
    ))
}

/// Asks the owner of a key; the others answer nothing.
fn ask_owner<T: Send + 'static>(
    call: &mut Call<'_>,
    key: &[u8],
    ask: impl Fn(&mut Core, usize, &[u8]) -> T + Send + Sync + 'static,
    conclude: impl FnOnce(&mut Reply<'_>, T) + 'static,
) -> Result {
    let (db, key) = (call.client().db, key.to_vec());
    Ok(call.gather(
        move |core| {
            let slot = ringwood_protocol::slot::key_slot(&key);
            (core.owner(slot) as usize == core.id).then(|| ask(core, db, &key))
        },
        |_, reply, answers| {
            let answer = answers.into_iter().flatten().next();
            conclude(reply, answer.expect("every slot has an owner"));
        },
    ))
}

fn object(call: &mut Call<'_>, key: &[u8]) -> Result {
    ask_owner(
        call,
        key,
        |core, db, key| {
            let key = core.shard.key(key);
            let entry = core.shard.keyspace.get(db, key)?;
            // Values have no header of their own: what is shown as the address is the key's.
            Some(format!(
                "Value at:{:p} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}",
                entry.key().as_ptr(),
                entry.encoding().name(),
                dump::value_len(entry, core.shard.settings.rdb_compression),
                entry.access(),
                core.shard.idle_seconds(entry.access()),
            ))
        },
        |reply, text| match text {
            Some(text) => reply.simple(&text),
            None => reply.command_error(&CommandError::NoSuchKey),
        },
    )
}

fn listpack(call: &mut Call<'_>, key: &[u8]) -> Result {
    ask_owner(
        call,
        key,
        |core, db, key| {
            let key = core.shard.key(key);
            let entry = core.shard.keyspace.get(db, key)?;
            Some((entry.encoding().name(), entry.memory()))
        },
        |reply, found| match found {
            None => reply.command_error(&CommandError::NoSuchKey),
            Some((encoding, memory)) if encoding.starts_with("listpack") => {
                reply.simple(&format!("{encoding} of {memory} bytes, its key included"));
            }
            Some(_) => reply.error("ERR Not a listpack encoded object."),
        },
    )
}

fn whole_digest(call: &mut Call<'_>) -> Result {
    Ok(call.gather(digest::of_databases, |_, reply, parts| {
        reply.simple(&digest::of_all(parts).hex())
    }))
}

fn value_digests(call: &mut Call<'_>, keys: &[&[u8]]) -> Result {
    let db = call.client().db;
    let keys: Vec<Vec<u8>> = keys.iter().map(|k| k.to_vec()).collect();
    let count = keys.len();
    Ok(call.gather(
        move |core| {
            let mine = |key: &Vec<u8>| {
                let key = core.shard.key(key);
                (core.owner(key.slot) as usize == core.id).then(|| {
                    core.shard
                        .keyspace
                        .get(db, key)
                        .map_or_else(Digest::default, digest::of_value)
                })
            };
            keys.iter().map(mine).collect::<Vec<_>>()
        },
        move |_, reply, parts| {
            reply.array(count);
            for index in 0..count {
                let digest = parts.iter().find_map(|part| part[index]);
                reply.simple(&digest.expect("every slot has an owner").hex());
            }
        },
    ))
}

fn populate(call: &mut Call<'_>, count: &[u8], rest: &[&[u8]]) -> Result {
    let number = |word: &[u8]| {
        parse_i64(word)
            .and_then(|n| usize::try_from(n).ok())
            .ok_or(CommandError::fixed(
                "ERR value is out of range, must be positive",
            ))
    };
    let count = number(count)?;
    let prefix = rest.first().map_or(b"key".to_vec(), |p| p.to_vec());
    let size = match rest.get(1) {
        Some(size) => number(size)?,
        None => 0,
    };
    if size > call.core.shard.settings.string_len_max {
        return Err(CommandError::StringTooLong);
    }
    let db = call.client().db;
    Ok(call.gather(
        move |core| populate_core(core, db, count, &prefix, size),
        |_, reply, done| {
            if done.iter().all(|done| *done) {
                reply.ok();
            } else {
                reply.error("ERR DEBUG POPULATE while a transaction is under way: try again");
            }
        },
    ))
}

/// Makes this core's keys of the row. Not while slots are locked: their keys may be on loan.
fn populate_core(core: &mut Core, db: usize, count: usize, prefix: &[u8], size: usize) -> bool {
    if !core.locks.is_empty() {
        return false;
    }
    for n in 0..count {
        let mut name = prefix.to_vec();
        name.extend_from_slice(format!(":{n}").as_bytes());
        let key = core.shard.key(&name);
        if core.owner(key.slot) as usize != core.id || core.shard.keyspace.get(db, key).is_some() {
            continue;
        }
        let mut value = format!("value:{n}").into_bytes();
        if size > 0 {
            value.resize(size, 0);
        }
        core.shard.set_string(db, key, &value, Expiry::Clear);
        core.shard.stats.dirty += 1;
    }
    true
}

fn table_statistics(call: &mut Call<'_>, db: &[u8]) -> Result {
    let db = parse_i64(db).ok_or(CommandError::NotInteger)?;
    let db = usize::try_from(db)
        .ok()
        .filter(|db| *db < call.core.shard.keyspace.databases())
        .ok_or(CommandError::fixed("ERR Out of range database"))?;
    Ok(call.gather(
        move |core| {
            let keyspace = &core.shard.keyspace;
            let sizes: Vec<usize> = (0..ringwood_protocol::slot::SLOT_COUNT)
                .map(|slot| keyspace.slot_len(db, slot))
                .filter(|len| *len > 0)
                .collect();
            (keyspace.len(db), keyspace.expiring(db), sizes)
        },
        |_, reply, cores| {
            let mut text = String::from("[Tables: one per hash slot]\n");
            for (id, (keys, expiring, sizes)) in cores.iter().enumerate() {
                text.push_str(&format!(
                    "shard{id}: {keys} keys, {expiring} with expiry, {} tables in use, the largest of {} keys\n",
                    sizes.len(),
                    sizes.iter().max().unwrap_or(&0)
                ));
            }
            reply.verbatim("txt", text.as_bytes());
        },
    ))
}

fn packed_threshold(size: &[u8]) -> std::result::Result<(), CommandError> {
    let wrong = CommandError::fixed(
        "ERR argument must be a memory value bigger than 1 and smaller than 4gb",
    );
    let text = String::from_utf8_lossy(size).to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return Err(wrong),
    };
    let fits = digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(unit))
        .is_some_and(|n| n < 4 << 30);
    if fits { Ok(()) } else { Err(wrong) }
}

/// An example of each type of reply. What [`Reply`] has no form for, as no command uses it, is written out.
pub(crate) fn protocol(reply: &mut Reply<'_>, kind: &[u8]) -> Result {
    let resp3 = reply.version() == Version::Resp3;
    let three = |reply: &mut Reply<'_>| (0..3).for_each(|n| reply.integer(n));
    match kind.to_ascii_lowercase().as_slice() {
        b"string" => reply.bulk_str("Hello World"),
        b"integer" => reply.integer(12345),
        b"double" => reply.double_text("3.141"),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            three(reply);
        }
        b"set" => {
            reply.set(3);
            three(reply);
        }
        b"map" => {
            reply.map(3);
            for n in 0..3 {
                reply.integer(n);
                reply.boolean(n == 1);
            }
        }
        b"attrib" => {
            if resp3 {
                reply.raw(b"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n");
            }
            reply.bulk_str("Some real reply following the attribute");
        }
        b"push" => {
            if !resp3 {
                return Err(CommandError::err("RESP2 is not supported by this command"));
            }
            reply.push(2);
            reply.bulk_str("server-cpu-usage");
            reply.integer(42);
            reply.bulk_str("Some real reply following the push reply");
        }
        b"bignum" => {
            let digits = "1234567999999999999999999999999999999";
            if resp3 {
                reply.raw(format!("({digits}\r\n").as_bytes());
            } else {
                reply.bulk_str(digits);
            }
        }
        b"true" => reply.boolean(true),
        b"false" => reply.boolean(false),
        b"verbatim" => reply.verbatim("txt", b"This is a verbatim\nstring"),
        _ => {
            return Err(CommandError::fixed(
                "ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|\
                 set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(Answer::Now)
}

fn help(call: &mut Call<'_>, args: Args<'_>) -> Result {
    super::help_reply(
        &mut call.reply,
        args,
        &[
            "ASSERT",
            "    Crashes with a failed assertion.",
            "DICT-RESIZING <0|1>",
            "    Has nothing to turn here.",
            "DIGEST",
            "    Shows a hash of the whole data set, equal to Redis's for equal data.",
            "CONFIG-REWRITE-FORCE-ALL",
            "    Rewrites the configuration file with all directives, also those that have their built-in values.",
            "DIGEST-VALUE <key> [<key> ...]",
            "    Shows a hash of each value.",
            "ERROR <string>",
            "    Answers this error.",
            "FAIL-SNAPSHOT",
            "    What is written in the background fails, as with a full disk.",
            "HTSTATS <dbid> [full]",
            "    Shows the use of the tables.",
            "LISTPACK <key>",
            "    Shows the size of a packed value.",
            "LOADAOF",
            "    Puts the append only file on disk, forgets all keys and reads it.",
            "LOG <message>",
            "    Writes to the server's log.",
            "OBJECT <key>",
            "    Shows how a value is stored.",
            "PANIC",
            "    Crashes with a panic.",
            "PAUSE-CRON <0|1>",
            "    Stops what is done at intervals, but for what clients wait for.",
            "POPULATE <count> [<prefix>] [<size>]",
            "    Makes strings named key:0, key:1 and so on.",
            "PROTOCOL <type>",
            "    Answers a value of this type: string, integer, double, bignum, null, array, set, map, attrib, push, verbatim, true or false.",
            "QUICKLIST-PACKED-THRESHOLD <size>",
            "    Has nothing to turn here.",
            "REPLYBUFFER <PEAK-RESET-TIME|RESIZING> <value>",
            "    Has nothing to turn here.",
            "SEGFAULT",
            "    Crashes with a fault.",
            "SET-ACTIVE-EXPIRE <0|1>",
            "    Turns off or on that expired keys are deleted unasked.",
            "SET-SKIP-CHECKSUM-VALIDATION <0|1>",
            "    RESTORE does not look at checksums.",
            "SET-DISABLE-DENY-SCRIPTS <0|1>",
            "    Lets scripts call DEBUG PROTOCOL and DEBUG SLEEP, which stops the script's core only.",
            "SLEEP <seconds>",
            "    Stops all cores for so long.",
            "STRINGMATCH-LEN <len> <pattern>",
            "    Matches a pattern against so many a's.",
        ],
    );
    Ok(Answer::Now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_as_memory() {
        for good in ["100b", "1", "4k", "3gb", "0"] {
            assert_eq!(packed_threshold(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in ["5gb", "x", "4gb", "-1", "1t", "99999999999999999999g"] {
            assert!(packed_threshold(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    /// As redis-server 8.2.3 answers.
    #[test]
    fn every_type_of_reply_has_an_example() {
        let said = |kind: &str, version| {
            let mut out = Vec::new();
            protocol(&mut Reply::new(&mut out, version), kind.as_bytes())
                .map(|_| String::from_utf8(out).unwrap())
        };
        assert_eq!(
            said("map", Version::Resp3).unwrap(),
            "%3\r\n:0\r\n#f\r\n:1\r\n#t\r\n:2\r\n#f\r\n"
        );
        assert_eq!(
            said("map", Version::Resp2).unwrap(),
            "*6\r\n:0\r\n:0\r\n:1\r\n:1\r\n:2\r\n:0\r\n"
        );
        assert_eq!(said("double", Version::Resp3).unwrap(), ",3.141\r\n");
        assert_eq!(
            said("verbatim", Version::Resp3).unwrap(),
            "=29\r\ntxt:This is a verbatim\nstring\r\n"
        );
        assert!(said("push", Version::Resp2).is_err() && said("foo", Version::Resp3).is_err());
    }
}
