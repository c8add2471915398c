//! DUMP, and RESTORE of what it answered, also by a Redis or Valkey.

use super::number;
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::rdb::dump::{self, Refused};
use crate::rdb::value;
use crate::shard::{Shard, notify};
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;

pub const DUMP: Command<Handler> = command("DUMP", exactly(2), dump as Handler)
    .flags(READONLY)
    .acl(acl::KEYSPACE)
    .keys(&[at(1).flags(RO | ACCESS)])
    .doc(
        "Returns a key's value in RDB form.",
        "O(1) to access the key and additional O(N*M) to serialize it, where N is the number of \
             Redis objects composing the value and M their average size. For small string values \
             the time complexity is thus O(1)+O(1*M) where M is small, so simply O(1).",
        "2.6.0",
        "generic",
    )
    .args(&[key("key", 0)])
    .tips(&["nondeterministic_output"]);

fn dump(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    // Strings are compressed.
    if ctx.is_long_at(args[1], usize::MAX, 4) || ctx.is_long_string(args[1], 64) {
        return Ok(());
    }
    let compress = ctx.shard.settings.rdb_compression;
    match ctx.read(args[1]).map(|entry| dump::dump(entry, compress)) {
        Some(payload) => ctx.reply.bulk(&payload),
        None => ctx.reply.null(),
    }
    Ok(())
}

const RESTORE_ARGS: &[Arg] = &[
    key("key", 0),
    integer("ttl"),
    string("serialized-value"),
    word("replace", "REPLACE").since("3.0.0").optional(),
    word("absttl", "ABSTTL").since("5.0.0").optional(),
    integer("seconds")
        .token("IDLETIME")
        .since("5.0.0")
        .optional(),
    integer("frequency").token("FREQ").since("5.0.0").optional(),
];
const RESTORE_HISTORY: &[(&str, &str)] = &[
    ("3.0.0", "Option `REPLACE`."),
    ("5.0.0", "Option `ABSTTL`."),
    ("5.0.0", "Options `IDLETIME` and `FREQ`."),
];
const RESTORE_COST: &str = "O(1) to create the new key and additional O(N*M) to reconstruct the serialized value, where N is the number of Redis \
     objects composing the value and M their average size. For small string values the time complexity is thus O(1)+O(1*M) where M \
     is small, so simply O(1). However for sorted set values the complexity is O(N*M*log(N)) because inserting values into sorted \
     sets is O(log(N)).";

pub const RESTORE: Command<Handler> = command("RESTORE", at_least(4), restore as Handler)
    .flags(WRITE | DENYOOM)
    .acl(acl::KEYSPACE | acl::DANGEROUS)
    .keys(&[at(1).flags(OW | UPDATE)])
    .doc(
        "Makes a key from what DUMP returned.",
        RESTORE_COST,
        "2.6.0",
        "generic",
    )
    .history(RESTORE_HISTORY)
    .args(RESTORE_ARGS);

pub const RESTORE_ASKING: Command<Handler> =
    command("RESTORE-ASKING", at_least(4), restore as Handler)
        .flags(WRITE | DENYOOM | ASKING)
        .acl(acl::KEYSPACE | acl::DANGEROUS)
        .keys(&[at(1).flags(OW | UPDATE)])
        .doc(
            "RESTORE into a slot that is being imported.",
            RESTORE_COST,
            "3.0.0",
            "server",
        )
        .history(RESTORE_HISTORY)
        .syscmd()
        .args(RESTORE_ARGS);

#[derive(Default)]
struct Options {
    replace: bool,
    absolute: bool,
    idle_seconds: Option<i64>,
    frequency: Option<i64>,
}

impl Options {
    fn parse(words: Args<'_>) -> Result<Self, CommandError> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word.eq_ignore_ascii_case(b"REPLACE") {
                options.replace = true;
            } else if word.eq_ignore_ascii_case(b"ABSTTL") {
                options.absolute = true;
            } else if word.eq_ignore_ascii_case(b"IDLETIME") && options.frequency.is_none() {
                let seconds = number(words.next().ok_or(CommandError::Syntax)?)?;
                if seconds < 0 {
                    return Err(CommandError::fixed(
                        "ERR Invalid IDLETIME value, must be >= 0",
                    ));
                }
                options.idle_seconds = Some(seconds);
            } else if word.eq_ignore_ascii_case(b"FREQ") && options.idle_seconds.is_none() {
                let frequency = number(words.next().ok_or(CommandError::Syntax)?)?;
                if !(0..=255).contains(&frequency) {
                    return Err(CommandError::fixed(
                        "ERR Invalid FREQ value, must be >= 0 and <= 255",
                    ));
                }
                options.frequency = Some(frequency);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    fn access(&self, shard: &Shard) -> u32 {
        shard.access_of(self.idle_seconds, self.frequency)
    }
}

fn restore(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let name = args[1];
    let options = Options::parse(&args[4..])?;
    if !options.replace && ctx.write(name).is_some() {
        return Err(CommandError::fixed(
            "BUSYKEY Target key name already exists.",
        ));
    }
    let ttl = number(args[2])?;
    if ttl < 0 {
        return Err(CommandError::fixed("ERR Invalid TTL value, must be >= 0"));
    }
    // At some ten bytes for an element of a collection, and few for one in a table.
    if ctx.is_long(args[3].len() / 32) {
        return Ok(());
    }
    let hasher = ctx.shard.keyspace.hasher();
    let decoded = match dump::restore(args[3], &ctx.shard.settings, hasher) {
        Ok(decoded) => decoded,
        Err(Refused::Footer) => {
            return Err(CommandError::fixed(
                "ERR DUMP payload version or checksum are wrong",
            ));
        }
        Err(Refused::Value(error)) => {
            let kind = args[3]
                .first()
                .map_or("value", |kind| value::name_of(*kind));
            let text = format!("{kind} integrity check failed: {error}");
            ctx.shard.refused_payload = Some(text.into());
            return Err(CommandError::fixed("ERR Bad data format"));
        }
    };
    let before = ctx.write(name).map(|entry| entry.kind());
    let replaced = options.replace && ctx.remove(name);
    let expire_at = match ttl {
        0 => None,
        _ if options.absolute => Some(ttl),
        // A time beyond all times is one in the past, as in Redis.
        _ => Some(ctx.now_ms().wrapping_add(ttl)),
    };
    ctx.reply.ok();
    if expire_at.is_some_and(|at| at <= ctx.now_ms()) {
        if replaced {
            ctx.modified(name, notify::GENERIC, "del");
            ctx.log_as(&[b"DEL", name]);
        }
        return Ok(());
    }
    let parts = decoded.into_parts(options.access(ctx.shard), expire_at);
    let key = ctx.key(name);
    let kind = parts.kind;
    ctx.shard.insert(ctx.db, key, parts);
    ctx.modified(name, notify::GENERIC, "restore");
    if let Some(before) = before.filter(|_| replaced) {
        ctx.shard.overwritten(ctx.db, name, before, kind);
    }
    if let Some(at) = expire_at
        && !options.absolute
    {
        let mut words = args.to_vec();
        let mut text = itoa::Buffer::new();
        words[2] = text.format(at).as_bytes();
        words.push(b"ABSTTL");
        ctx.log_as(&words);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Tester;
    use crate::rdb::crc64;
    use crate::shard::Settings;

    /// What a bulk reply holds.
    fn bulk(reply: &[u8]) -> Vec<u8> {
        let start = reply.iter().position(|&b| b == b'\n').unwrap() + 1;
        reply[start..reply.len() - 2].to_vec()
    }
    fn dump(t: &mut Tester, key: &str) -> Vec<u8> {
        bulk(&t.run(&format!("DUMP {key}")))
    }
    fn restore(t: &mut Tester, key: &str, payload: &[u8], options: &str) -> String {
        let ttl_and_options: Vec<&[u8]> = options.split(' ').map(str::as_bytes).collect();
        let mut words = vec![&b"RESTORE"[..], key.as_bytes(), ttl_and_options[0], payload];
        words.extend(&ttl_and_options[1..]);
        String::from_utf8_lossy(&t.run_words(&words))
            .trim_end()
            .into()
    }
    fn sealed(mut body: Vec<u8>, version: u16) -> Vec<u8> {
        body.extend(version.to_le_bytes());
        body.extend(crc64::update(0, &body).to_le_bytes());
        body
    }

    /// The same bytes as Redis 7.0.15's.
    #[test]
    fn bytes_as_redis_writes_them() {
        let mut t = Tester::new();
        t.run("MSET s hello i 12 b -100000");
        t.run("RPUSH l a 1 ccc");
        t.run("HSET h f v");
        t.run("ZADD z 1.5 a");
        t.run("SADD n 1 2");
        for (key, payload) in [
            ("s", &b"\x00\x05hello\n\x00cr\xdfve4 \n"[..]),
            ("i", b"\x00\xc0\x0c\n\x00<*\xf8Q\\\x04\xbc\xd5"),
            ("b", b"\x00\xc2`y\xfe\xff\n\x00\xa1\xca\x84p\xcc!m\x9d"),
            (
                "l",
                b"\x12\x01\x02\x11\x11\x00\x00\x00\x03\x00\x81a\x02\x01\x01\x83ccc\x04\xff\n\x001\xa4B\xaaA\xdaCg",
            ),
            (
                "h",
                b"\x10\r\r\x00\x00\x00\x02\x00\x81f\x02\x81v\x02\xff\n\x00 \xf1=D#T\x08\x9d",
            ),
            (
                "z",
                b"\x11\x0f\x0f\x00\x00\x00\x02\x00\x81a\x02\x831.5\x04\xff\n\x00\x08\x0cn\x19\x80\x8e}\x98",
            ),
            (
                "n",
                b"\x0b\x0c\x02\x00\x00\x00\x02\x00\x00\x00\x01\x00\x02\x00\n\x00oy8\xb14\xeb .",
            ),
        ] {
            assert_eq!(dump(&mut t, key), payload, "{key}");
        }
        t.check("DUMP none", "$-1");
    }

    #[test]
    fn every_type_comes_back() {
        let long = "x".repeat(5000);
        let many: String = (0..300).map(|n| format!(" {n} v{n}")).collect();
        for settings in [
            Settings::default(),
            Settings {
                rdb_compression: false,
                hash_listpack_entries_max: 1,
                set_intset_entries_max: 1,
                set_listpack_entries_max: 1,
                zset_listpack_entries_max: 1,
                list_listpack_size_max: 2,
                ..Settings::default()
            },
        ] {
            for (make, read) in [
                ("SET k 1", "GET k"),
                (&*format!("SET k {long}"), "GET k"),
                ("RPUSH k a 1 b", "LRANGE k 0 -1"),
                (&*format!("RPUSH k a{many} {long}"), "LRANGE k 0 -1"),
                ("SADD k 1 2 70000", "SORT k"),
                ("SADD k a 2 70000", "SORT k ALPHA"),
                (&*format!("SADD k{many} {long}"), "SORT k ALPHA"),
                ("HSET k f v 1 2", "HGETALL k"),
                ("ZADD k 1 a -inf b 2.25 c", "ZRANGE k 0 -1 WITHSCORES"),
                (&*format!("ZADD k{many}"), "ZRANGE k 0 -1 WITHSCORES"),
            ] {
                let mut t = Tester::with(settings.clone());
                t.run(make);
                let before = t.run(read);
                let encoding = t.run("OBJECT ENCODING k");
                let payload = dump(&mut t, "k");
                assert_eq!(
                    restore(&mut t, "k", &payload, "0"),
                    "-BUSYKEY Target key name already exists."
                );
                assert_eq!(restore(&mut t, "k", &payload, "0 REPLACE"), "+OK");
                assert_eq!(t.run(read), before, "{make}");
                assert_eq!(t.run("OBJECT ENCODING k"), encoding, "{make}");
                t.run("DEL k");
                assert_eq!(restore(&mut t, "k", &payload, "100"), "+OK");
                t.check("PTTL k", ":100");
            }
        }
    }

    #[test]
    fn options() {
        let mut t = Tester::new();
        t.run("SET s v");
        let payload = dump(&mut t, "s");
        let at = t.shard.now_ms + 5000;
        for (options, reply) in [
            ("0", "+OK"),
            ("0 replace idletime 100", "+OK"),
            ("5000 REPLACE", "+OK"),
            (&*format!("{at} REPLACE ABSTTL"), "+OK"),
            ("-1 REPLACE", "-ERR Invalid TTL value, must be >= 0"),
            ("x REPLACE", "-ERR value is not an integer or out of range"),
            (
                "0 REPLACE FREQ 256",
                "-ERR Invalid FREQ value, must be >= 0 and <= 255",
            ),
            (
                "0 REPLACE FREQ -1",
                "-ERR Invalid FREQ value, must be >= 0 and <= 255",
            ),
            (
                "0 REPLACE IDLETIME -1",
                "-ERR Invalid IDLETIME value, must be >= 0",
            ),
            (
                "0 REPLACE IDLETIME x",
                "-ERR value is not an integer or out of range",
            ),
            ("0 REPLACE IDLETIME 1 FREQ 1", "-ERR syntax error"),
            ("0 REPLACE FREQ 1 IDLETIME 1", "-ERR syntax error"),
            ("0 REPLACE IDLETIME", "-ERR syntax error"),
            ("0 REPLACE foo", "-ERR syntax error"),
            ("-1", "-BUSYKEY Target key name already exists."),
        ] {
            assert_eq!(restore(&mut t, "k", &payload, options), reply, "{options}");
        }
        assert_eq!(t.expire_at("k"), Some(at));
        t.check("GET k", "$1 v");
        assert_eq!(
            restore(&mut t, "k", &payload, "0 REPLACE IDLETIME 100"),
            "+OK"
        );
        t.check("OBJECT IDLETIME k", ":100");
    }

    #[test]
    fn events_and_log() {
        let mut t = Tester::new();
        t.run("SET s v");
        let payload = dump(&mut t, "s");
        t.listen();
        restore(&mut t, "k", &payload, "0");
        t.check_log_verbatim().check_new_events("new k, restore k");
        // A time in the past deletes what was there, and makes nothing.
        restore(&mut t, "k", &payload, "1 REPLACE ABSTTL");
        t.check_log(&["DEL k"]).check_new_events("del k");
        restore(&mut t, "k", &payload, "1 REPLACE ABSTTL");
        t.check_new_events("").check("EXISTS k", ":0");
        restore(&mut t, "k", &payload, "500");
        let log = format!("{:?}", t.log);
        let (begin, end) = ("1700000000500".as_bytes(), "ABSTTL".as_bytes());
        assert!(log.contains(&format!("{begin:?}")) && log.contains(&format!("{end:?}")));
        restore(&mut t, "k", &payload, "9223372036854775807 REPLACE");
        t.check("EXISTS k", ":0");
    }

    #[test]
    fn frequencies() {
        let mut t = Tester::with(Settings {
            lfu: true,
            ..Settings::default()
        });
        t.run("SET s v");
        let payload = dump(&mut t, "s");
        restore(&mut t, "k", &payload, "0 FREQ 200");
        t.check("OBJECT FREQ k", ":200");
        // A time without use says nothing here.
        restore(&mut t, "k", &payload, "0 REPLACE IDLETIME 200");
        t.check("OBJECT FREQ k", ":5");
    }

    /// DEBUG SET-SKIP-CHECKSUM-VALIDATION: what is behind the checksum is checked all the same, and the server is told what was wrong.
    #[test]
    fn without_checksums_values_are_checked() {
        let mut t = Tester::with(Settings {
            skip_checksum: true,
            ..Settings::default()
        });
        t.run("RPUSH l a b");
        let mut good = dump(&mut t, "l");
        *good.last_mut().unwrap() ^= 1;
        assert_eq!(restore(&mut t, "k", &good, "0"), "+OK");
        assert_eq!(t.run("LRANGE k 0 -1"), t.run("LRANGE l 0 -1"));
        let mut broken = good.clone();
        // The listpack's length.
        broken[4] ^= 1;
        assert_eq!(restore(&mut t, "b", &broken, "0"), "-ERR Bad data format");
        let told = t.shard.refused_payload.take().unwrap();
        assert!(
            told.contains("List quicklist integrity check failed"),
            "{told}"
        );
    }

    #[test]
    fn refused_payloads() {
        let mut t = Tester::new();
        t.run("SET s hello");
        let footer = "-ERR DUMP payload version or checksum are wrong";
        let good = dump(&mut t, "s");
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert_eq!(restore(&mut t, "k", &changed, "0"), footer);
            assert_eq!(restore(&mut t, "k", &good[..at], "0"), footer);
        }
        for version in [1, 5, 9, 10, 11, 12, 80] {
            assert_eq!(
                restore(
                    &mut t,
                    "k",
                    &sealed(b"\x00\x01a".to_vec(), version),
                    "0 REPLACE"
                ),
                "+OK"
            );
        }
        for version in [0, 13, 79, 81, 65535] {
            assert_eq!(
                restore(
                    &mut t,
                    "k",
                    &sealed(b"\x00\x01a".to_vec(), version),
                    "0 REPLACE"
                ),
                footer
            );
        }
        for body in [
            &b""[..],
            b"\x00",
            b"\x00\x05ab",
            b"\x01\x00",
            b"\x02\x00",
            b"\x04\x00",
            b"\x05\x00",
            b"\x0b\x08\x02\x00\x00\x00\x00\x00\x00\x00",
            b"\x06\x00",
            b"\x07\x00\x00",
            b"\x08",
            b"\xff",
        ] {
            let payload = sealed(body.to_vec(), 10);
            assert_eq!(
                restore(&mut t, "n", &payload, "0"),
                "-ERR Bad data format",
                "{body:?}"
            );
        }
        t.check("EXISTS n", ":0").check("GET k", "$1 a");
    }
}
