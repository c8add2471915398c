//! Payloads of every type and encoding: as they are, and with bytes changed, cut out and put in. Whatever RESTORE takes must work with the
//! commands afterwards; whatever else is refused.

use super::reader::Reader;
use super::writer::Writer;
use super::ziplist::tests::build as ziplist;
use super::{Dialect, Error, crc64, kind, value};
use crate::collections::intset;
use crate::collections::listpack::{self, Item};
use crate::commands::testing::Tester;
use crate::object::Object;
use crate::shard::Settings;
use proptest::prelude::*;
use std::sync::LazyLock;

/// A body without its footer: type and value.
type Body = Vec<u8>;

fn sealed(body: &[u8], version: u16) -> Vec<u8> {
    let mut payload = body.to_vec();
    payload.extend(version.to_le_bytes());
    let checksum = crc64::update(0, &payload);
    payload.extend(checksum.to_le_bytes());
    payload
}

fn bulk(reply: &[u8]) -> &[u8] {
    let start = reply.iter().position(|&b| b == b'\n').unwrap() + 1;
    &reply[start..reply.len() - 2]
}

fn body(of: u8, write: impl FnOnce(&mut Writer)) -> Body {
    let mut writer = Writer::new(false);
    writer.u8(of);
    write(&mut writer);
    writer.finish()
}

/// Values that lie in old forms, which we never write.
fn old_bodies() -> Vec<Body> {
    let items = [
        Item::Bytes(b"one"),
        Item::Int(1),
        Item::Bytes(b"two"),
        Item::Int(200_000),
        Item::Int(-3),
        Item::Bytes(b"3.5"),
    ];
    let zl = ziplist(&items);
    let mut lp = listpack::EMPTY.to_vec();
    let end = listpack::end(&lp);
    listpack::insert_all(&mut lp, end, items);
    let mut triples = listpack::EMPTY.to_vec();
    for (field, time) in [("a", 1_900_000_000_000), ("b", 1_900_000_001_000), ("c", 0)] {
        let field = Item::Bytes(field.as_bytes());
        listpack::push_items(&mut triples, [field, Item::Int(5), Item::Int(time)]);
    }
    vec![
        body(kind::LIST, |w| {
            w.count(6);
            items.iter().for_each(|&item| w.item(item));
        }),
        body(kind::LIST_ZIPLIST, |w| w.block(&zl)),
        body(kind::LIST_QUICKLIST, |w| {
            w.count(2);
            w.block(&zl);
            w.block(&zl);
        }),
        body(kind::LIST_QUICKLIST_2, |w| {
            w.count(3);
            w.count(2);
            w.block(&lp);
            w.count(1);
            w.string(b"plain");
            w.count(2);
            w.block(&lp);
        }),
        body(kind::SET, |w| {
            w.count(6);
            items.iter().for_each(|&item| w.item(item));
        }),
        body(kind::SET_INTSET, |w| {
            w.block(&intset::from_sorted(&[-70_000, 1, 5, i64::MAX]));
        }),
        body(kind::SET_LISTPACK, |w| w.block(&lp)),
        body(kind::ZSET, |w| {
            w.count(4);
            for (member, score) in [
                ("a", &b"\x031.5"[..]),
                ("b", b"\xfe"),
                ("c", b"\xff"),
                ("d", b"\x02-7"),
            ] {
                w.string(member.as_bytes());
                w.raw(score);
            }
        }),
        body(kind::ZSET_2, |w| {
            w.count(3);
            for (member, score) in [("a", 1.5), ("b", f64::INFINITY), ("c", -0.0)] {
                w.string(member.as_bytes());
                w.f64(score);
            }
        }),
        body(kind::ZSET_ZIPLIST, |w| w.block(&zl)),
        body(kind::ZSET_LISTPACK, |w| w.block(&lp)),
        body(kind::HASH, |w| {
            w.count(3);
            items.iter().for_each(|&item| w.item(item));
        }),
        body(kind::HASH_ZIPMAP, |w| {
            w.block(b"\x02\x03foo\x03\x00bar\x05hello\x05\x02world..\xff");
        }),
        body(kind::HASH_ZIPLIST, |w| w.block(&zl)),
        body(kind::HASH_LISTPACK, |w| w.block(&lp)),
        body(kind::HASH_TIMED_OLD, |w| {
            w.count(2);
            for (time, field) in [(0, "a"), (1_900_000_000_000, "b")] {
                w.length(time);
                w.string(field.as_bytes());
                w.string(b"v");
            }
        }),
        body(kind::HASH_LISTPACK_TIMED_OLD, |w| w.block(&triples)),
        body(kind::HASH_TIMED, |w| {
            w.ms(1_900_000_000_000);
            w.count(3);
            for (time, field) in [(0, "a"), (1, "b"), (1001, "c")] {
                w.length(time);
                w.string(field.as_bytes());
                w.string(b"v");
            }
        }),
        body(kind::HASH_LISTPACK_TIMED, |w| {
            w.ms(1_900_000_000_000);
            w.block(&triples);
        }),
        body(kind::STREAM, |w| stream(w, 1)),
        body(kind::STREAM_2, |w| stream(w, 2)),
        body(kind::STREAM_3, |w| stream(w, 3)),
        body(kind::MODULE, |w| {
            w.length(0x1234_5678_9abc_def0);
            w.raw(b"\x01\x05\x05\x03abc\x00");
        }),
    ]
}

/// A stream of three entries in two blocks, the second deleted; a group in which the first is pending. As a form's number has it.
fn stream(w: &mut Writer, form: u8) {
    let block = |entries: &[(i64, i64, i64)]| {
        let live = entries.iter().filter(|e| e.0 == 2).count() as i64;
        let deleted = entries.len() as i64 - live;
        let mut items = [live, deleted, 1].map(Item::Int).to_vec();
        items.extend([Item::Bytes(b"field"), Item::Int(0)]);
        for &(flags, ms, seq) in entries {
            items.extend([flags, ms, seq].map(Item::Int));
            items.extend([Item::Bytes(b"value"), Item::Int(4)]);
        }
        let mut lp = listpack::EMPTY.to_vec();
        let end = listpack::end(&lp);
        listpack::insert_all(&mut lp, end, items);
        lp
    };
    let id = |ms: u64, seq: u64| [ms.to_be_bytes(), seq.to_be_bytes()].concat();
    w.count(2);
    w.block(&id(1, 1));
    w.block(&block(&[(2, 0, 0), (3, 0, 1)]));
    w.block(&id(2, 1));
    w.block(&block(&[(2, 0, 0)]));
    for n in [2, 2, 1] {
        w.length(n);
    }
    if form > 1 {
        for n in [1, 1, 1, 2, 3] {
            w.length(n);
        }
    }
    w.count(1);
    w.string(b"g");
    w.length(1);
    w.length(2);
    if form > 1 {
        w.length(u64::MAX);
    }
    w.count(1);
    w.raw(&id(1, 1));
    w.ms(1_600_000_000_000);
    w.count(3);
    w.count(2);
    for (name, pending) in [("c", 1), ("d", 0)] {
        w.string(name.as_bytes());
        w.ms(1_600_000_000_000);
        if form > 2 {
            w.ms(-1);
        }
        w.count(pending);
        if pending > 0 {
            w.raw(&id(1, 1));
        }
    }
}

/// What DUMP answers for values of every type and encoding.
fn dumped_bodies() -> Vec<Body> {
    let many: String = (0..40).map(|n| format!(" {n} value{n}")).collect();
    let long = "the same again ".repeat(30).replace(' ', "_");
    let mut bodies = Vec::new();
    for compress in [true, false] {
        for make in [
            "SET k hello",
            "SET k -123456",
            &*format!("SET k {long}"),
            "RPUSH k a 1 b 70000 c",
            &*format!("RPUSH k a{many} {long}{many}"),
            "SADD k 1 2 3",
            "SADD k a b 3",
            &*format!("SADD k{many} {long}"),
            "HSET k f v 1 2",
            &*format!("HSET k{many} f {long}"),
            "HSET k f v 1 2 g w|HPEXPIREAT k 1900000000000 FIELDS 2 f 1|HPEXPIREAT k 1900000009000 FIELDS 1 g",
            "HSET k f v|HPEXPIREAT k 1900000000000 FIELDS 1 f|HPERSIST k FIELDS 1 f",
            &*format!(
                "HSET k{many}|HPEXPIREAT k 1900000000000 FIELDS 2 3 4|HPEXPIREAT k 1900000009000 FIELDS 1 5"
            ),
            "ZADD k 1 a 2.5 b -inf c",
            &*format!("ZADD k{many}"),
            "XADD k 1-1 f v|XADD k 1-2 f w|XADD k 2-1 g 1 f 2|XADD k 3-0 f long_value_70000|XADD k 3-1 f x|XDEL k 2-1|\
             XGROUP CREATE k g 0|XREADGROUP GROUP g c COUNT 2 STREAMS k >|XREADGROUP GROUP g d COUNT 1 STREAMS k >|\
             XGROUP CREATECONSUMER k g idle|XGROUP CREATE k g2 $",
        ] {
            let mut t = Tester::with(Settings {
                rdb_compression: compress,
                ..low()
            });
            for line in make.split('|') {
                t.run(line);
            }
            let payload = t.run("DUMP k");
            let payload = bulk(&payload);
            bodies.push(payload[..payload.len() - 10].to_vec());
        }
    }
    bodies
}

/// Settings that make large values of small ones.
fn low() -> Settings {
    Settings {
        hash_listpack_entries_max: 8,
        set_intset_entries_max: 4,
        set_listpack_entries_max: 8,
        zset_listpack_entries_max: 8,
        list_listpack_size_max: 4,
        stream_node_entries_max: 2,
        ..Settings::default()
    }
}

static BODIES: LazyLock<Vec<Body>> = LazyLock::new(|| [old_bodies(), dumped_bodies()].concat());

/// Commands that read and change all of a value, with every kind of edit.
const LIST: &str = "LRANGE k 0 -1|LLEN k|LINDEX k -1|LPOS k one|LINSERT k BEFORE one x|LINSERT k AFTER 1 y|LSET k 0 longer_than_it_was|\
    LSET k -1 7|LREM k 1 two|LPUSH k l|RPUSH k r|LMOVE k k LEFT RIGHT|LTRIM k 1 -2|LPOP k|RPOP k|LRANGE k 0 -1";
const SET: &str = "SMEMBERS k|SCARD k|SRANDMEMBER k -5|SISMEMBER k one|SADD k new 17 -9999999999|SREM k one 1 a|SMOVE k j two|\
    SSCAN k 0 COUNT 100|SINTER k k|SPOP k|SMEMBERS k";
const ZSET: &str = "ZRANGE k 0 -1 WITHSCORES|ZCARD k|ZRANGE k -inf +inf BYSCORE|ZRANGE k - + BYLEX REV LIMIT 0 5|ZRANK k a|ZSCORE k one|\
    ZADD k 1 new 2 a|ZINCRBY k 3 one|ZREM k two|ZRANDMEMBER k -3|ZSCAN k 0|ZPOPMIN k|ZREMRANGEBYRANK k 0 0|ZRANGE k 0 -1";
const HASH: &str = "HGETALL k|HLEN k|HGET k one|HSET k one changed new v|HSETNX k f v|HINCRBY k counter 3|HDEL k two f|HRANDFIELD k -3|\
    HSCAN k 0|HPTTL k FIELDS 3 a b f|HEXPIRE k 100 FIELDS 2 a c|HPERSIST k FIELDS 1 b|HKEYS k|HGETALL k";
const STREAM: &str = "XRANGE k - +|XREVRANGE k + - COUNT 3|XLEN k|XINFO STREAM k FULL|XINFO GROUPS k|XINFO CONSUMERS k g|XPENDING k g|\
    XPENDING k g - + 10|XADD k * f v|XADD k * f v g w|XREADGROUP GROUP g c COUNT 2 STREAMS k >|XREADGROUP GROUP g new STREAMS k 0|\
    XACK k g 1-1|XCLAIM k g new 0 1-2 2-1|XAUTOCLAIM k g c 0 - COUNT 2|XDEL k 1-2|XGROUP CREATECONSUMER k g other|\
    XGROUP DELCONSUMER k g c|XGROUP CREATE k h 0|XTRIM k MAXLEN 2|XSETID k 99999999999999-1|XRANGE k - +|XGROUP DESTROY k g|XTRIM k MAXLEN 0";
const STRING: &str = "GET k|STRLEN k|APPEND k x|GETRANGE k 0 3|SETRANGE k 2 abc|GET k";
const ANY: &str = "OBJECT ENCODING k|MEMORY USAGE k|COPY k copy|DUMP k|DEL copy";

fn check_object(t: &Tester) {
    let Some(entry) = t.shard.keyspace.get(0, t.shard.key(b"k")) else {
        return;
    };
    if !entry.is_object() {
        return;
    }
    match entry.object() {
        Object::List(list) => list.check_invariants(),
        Object::Hash(table) => table.check_invariants(),
        Object::Set(table) => table.check_invariants(),
        Object::SortedSet(set) => set.check_invariants(),
        Object::Stream(stream) => stream.check_invariants(),
    }
}

/// Restores a payload, and works with the value if it was taken. Returns whether it was.
fn work(settings: Settings, payload: &[u8]) -> bool {
    let mut t = Tester::with(settings);
    let reply = t.run_words(&[b"RESTORE", b"k", b"0", payload]);
    if reply.starts_with(b"-") {
        t.check("EXISTS k", ":0");
        return false;
    }
    check_object(&t);
    let kind = String::from_utf8(t.run("TYPE k")).unwrap();
    let again = t.run("DUMP k");
    let reply = t.run_words(&[b"RESTORE", b"again", b"0", bulk(&again)]);
    assert_eq!(reply, b"+OK\r\n", "what we dump we restore");
    let commands = match kind.trim_end() {
        "+list" => LIST,
        "+set" => SET,
        "+zset" => ZSET,
        "+hash" => HASH,
        "+stream" => STREAM,
        _ => STRING,
    };
    for command in ANY.split('|').chain(commands.split('|')) {
        t.run(command);
        check_object(&t);
    }
    true
}

#[test]
fn every_form_is_read() {
    for body in BODIES.iter() {
        for settings in [Settings::default(), low()] {
            for version in [10, 12] {
                let taken = work(settings.clone(), &sealed(body, version));
                assert_eq!(taken, body[0] != kind::MODULE, "{body:?}");
            }
            let taken = work(settings.clone(), &sealed(body, 80));
            // From here on Valkey's numbers mean something else, or nothing.
            let redis_only = body[0] >= kind::HASH_TIMED_OLD;
            assert_eq!(taken, body[0] != kind::MODULE && !redis_only, "{body:?}");
        }
    }
}

#[test]
fn valkeys_hash_with_times() {
    for count in [3, 20] {
        let payload = body(kind::VALKEY_HASH_TIMED, |w| {
            w.count(count);
            for n in 0..count {
                w.string(format!("f{n}").as_bytes());
                w.string(b"v");
                w.ms(if n == 1 { 1_900_000_000_000 } else { -1 });
            }
        });
        let mut reader = Reader::new(&payload[1..]);
        assert_eq!(
            value::skip(payload[0], &mut reader, Dialect::Valkey),
            Ok(())
        );
        assert!(reader.rest().is_empty());
        assert!(work(low(), &sealed(&payload, 80)));
        assert!(!work(low(), &sealed(&payload, 12)));
        let mut t = Tester::with(low());
        t.run_words(&[b"RESTORE", b"k", b"0", &sealed(&payload, 80)]);
        t.check("HPEXPIRETIME k FIELDS 2 f0 f1", "*2 :-1 :1900000000000");
        let encoding = if count == 3 {
            "listpackex"
        } else {
            "hashtable"
        };
        t.check_encoding("k", encoding);
        t.advance(200_000_000_000);
        while t.shard.expire_some(100) {}
        t.check("HLEN k", &format!(":{}", count - 1));
    }
}

/// Stepping over a value ends where reading it does, and nowhere sooner when it is cut.
#[test]
fn values_are_stepped_over() {
    for body in BODIES.iter() {
        let (of, value) = (body[0], &body[1..]);
        let mut more = value.to_vec();
        more.extend(b"more");
        let mut reader = Reader::new(&more);
        assert_eq!(value::skip(of, &mut reader, Dialect::Redis), Ok(()));
        assert_eq!(reader.rest(), b"more", "{body:?}");
        for end in 0..value.len() {
            let cut = value::skip(of, &mut Reader::new(&value[..end]), Dialect::Redis);
            assert_eq!(cut, Err(Error::Short), "{body:?} at {end}");
        }
    }
}

/// What is done to a body's bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Add(usize, i8),
    Cut(usize, usize),
    Insert(usize, Vec<u8>),
    Copy(usize, usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let byte = prop_oneof![Just(0u8), Just(0xff), Just(0x80), Just(0x81), any::<u8>()];
    let at = any::<usize>();
    prop_oneof![
        4 => (at, byte).prop_map(|(at, b)| Change::Set(at, b)),
        4 => (at, -2i8..=2).prop_map(|(at, n)| Change::Add(at, n)),
        1 => (at, 1usize..9).prop_map(|(at, n)| Change::Cut(at, n)),
        1 => (at, prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, b)| Change::Insert(at, b)),
        1 => (at, any::<usize>(), 1usize..20).prop_map(|(a, b, n)| Change::Copy(a, b, n)),
    ]
}

fn apply(body: &mut Body, change: &Change) {
    if body.is_empty() {
        return;
    }
    let len = body.len();
    match *change {
        Change::Set(at, b) => body[at % len] = b,
        Change::Add(at, n) => body[at % len] = body[at % len].wrapping_add_signed(n),
        Change::Cut(at, n) => drop(body.drain(at % len..(at % len + n).min(len))),
        Change::Insert(at, ref b) => {
            body.splice(at % len..at % len, b.iter().copied());
        }
        Change::Copy(from, to, n) => {
            let from = from % len;
            let part = body[from..(from + n).min(len)].to_vec();
            body.splice(to % len..to % len, part);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..Default::default() })]
    #[test]
    fn changed_payloads(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec(change(), 1..4),
        version in prop::sample::select(&[6u16, 10, 12, 80][..]),
        low_settings in any::<bool>(),
    ) {
        let mut body = BODIES[which.index(BODIES.len())].clone();
        for change in &changes {
            apply(&mut body, change);
        }
        let settings = if low_settings { low() } else { Settings::default() };
        work(settings, &sealed(&body, version));
    }

    #[test]
    fn any_bytes(of in 0u8..30, rest in prop::collection::vec(any::<u8>(), 0..60)) {
        let body = [&[of][..], &rest].concat();
        work(Settings::default(), &sealed(&body, 10));
    }
}
