//! List commands in both encodings.

use crate::commands::testing::Tester;
use crate::ctx::{Null, Wake};
use crate::object::Type;
use crate::shard::Settings;
use ringwood_protocol::reply::Version;

/// With limits at which everything is packed, something is, and nothing is.
fn each_encoding(test: impl Fn(&mut Tester)) {
    for list_listpack_size_max in [-2, 128, 3, 1] {
        test(&mut Tester::with(Settings {
            list_listpack_size_max,
            ..Settings::default()
        }));
    }
}

#[test]
fn pushes_and_pops() {
    each_encoding(|t| {
        t.check("RPUSH l a b", ":2").check("LPUSH l x y", ":4");
        t.check("LRANGE l 0 -1", "*4 $1 y $1 x $1 a $1 b");
        t.check("LPOP l", "$1 y").check("RPOP l", "$1 b");
        t.check("LPUSHX l 12", ":3").check("RPUSHX l -5", ":4");
        t.check("LPOP l 2", "*2 $2 12 $1 x")
            .check("RPOP l 5", "*2 $2 -5 $1 a");
        t.check("LLEN l", ":0").check("LPUSHX l a", ":0");
        t.check("LPOP l", "$-1").check("LPOP l 1", "*-1");
        t.check("LPOP l -1", "-ERR value is out of range, must be positive");
        t.check(
            "LPOP l 1 2",
            "-ERR wrong number of arguments for 'lpop' command",
        );
    });
}

#[test]
fn ranges_and_indexes() {
    each_encoding(|t| {
        t.check("RPUSH l 0 1 2 3 4", ":5");
        t.check("LRANGE l -2 -1", "*2 $1 3 $1 4")
            .check("LRANGE l 3 100", "*2 $1 3 $1 4");
        t.check("LRANGE l -100 0", "*1 $1 0")
            .check("LRANGE l 3 2", "*0");
        t.check("LRANGE l 5 9", "*0").check("LRANGE l -9 -8", "*0");
        t.check("LINDEX l -1", "$1 4")
            .check("LINDEX l 5", "$-1")
            .check("LINDEX l -6", "$-1");
        t.check("LINDEX none x", "$-1")
            .check("LINDEX l x", "-ERR value is not an integer or out of range");
        t.check("LTRIM l 1 -2", "+OK")
            .check("LRANGE l 0 -1", "*3 $1 1 $1 2 $1 3");
        t.check_events("LTRIM l 5 6", &["ltrim l", "del l"]);
        t.check("LTRIM l 0 0", "+OK");
    });
}

#[test]
fn edits() {
    each_encoding(|t| {
        t.check("RPUSH l a b c a b a", ":6");
        t.check("LSET l 1 B", "+OK")
            .check("LSET l -7 x", "-ERR index out of range");
        t.check("LSET none 0 x", "-ERR no such key");
        t.check("LINSERT l BEFORE c 1", ":7")
            .check("LINSERT l after c 2", ":8");
        t.check("LINSERT l BEFORE zz 1", ":-1")
            .check("LINSERT none BEFORE a 1", ":0");
        t.check("LINSERT l at a 1", "-ERR syntax error");
        t.check(
            "LRANGE l 0 -1",
            "*8 $1 a $1 B $1 1 $1 c $1 2 $1 a $1 b $1 a",
        );
        t.check("LREM l -2 a", ":2")
            .check("LRANGE l 0 -1", "*6 $1 a $1 B $1 1 $1 c $1 2 $1 b");
        t.check("LREM l 1 a", ":1").check("LREM l 0 zz", ":0");
        t.check("LREM l -9223372036854775808 a", "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807");
        t.check("DEL l", ":1").check("RPUSH l x x", ":2");
        t.check_events("LREM l 0 x", &["lrem l", "del l"]);
    });
}

#[test]
fn positions() {
    each_encoding(|t| {
        t.check("RPUSH l a b c 1 2 3 c c", ":8");
        t.check("LPOS l c", ":2")
            .check("LPOS l c RANK 2", ":6")
            .check("LPOS l c RANK -1", ":7");
        t.check("LPOS l c COUNT 2", "*2 :2 :6")
            .check("LPOS l c COUNT 0 RANK -2", "*2 :6 :2");
        t.check("LPOS l 3", ":5")
            .check("LPOS l c MAXLEN 2", "$-1")
            .check("LPOS l c COUNT 0 MAXLEN 3", "*1 :2");
        t.check("LPOS l zz", "$-1")
            .check("LPOS l zz COUNT 0", "*0")
            .check("LPOS none zz COUNT 0", "*0");
        t.check("LPOS l a COUNT -1", "-ERR COUNT can't be negative");
        t.check("LPOS l a MAXLEN x", "-ERR MAXLEN can't be negative");
        t.check("LPOS l a RANK", "-ERR syntax error")
            .check("LPOS l a OTHER 1", "-ERR syntax error");
    });
}

#[test]
fn moves() {
    each_encoding(|t| {
        t.check("RPUSH a 1 2 3", ":3");
        t.check_events("LMOVE a b LEFT RIGHT", &["new b", "rpush b", "lpop a"]);
        t.check("RPOPLPUSH a b", "$1 3")
            .check("LRANGE b 0 -1", "*2 $1 3 $1 1");
        t.check("RPOPLPUSH b b", "$1 1")
            .check("LRANGE b 0 -1", "*2 $1 1 $1 3");
        t.check_events("LMOVE a a LEFT LEFT", &["lpush a", "lpop a"]);
        t.check_events("LMOVE a b LEFT LEFT", &["lpush b", "lpop a", "del a"]);
        t.check("LMOVE a b LEFT LEFT", "$-1")
            .check("LMOVE a b x LEFT", "-ERR syntax error");
        t.check("SET s v", "+OK").check(
            "LMOVE b s LEFT LEFT",
            "-WRONGTYPE Operation against a key holding the wrong kind of value",
        );
        t.check("LLEN b", ":3")
            .check("LMOVE none s LEFT LEFT", "$-1");
    });
}

#[test]
fn pops_from_the_first_of_many() {
    each_encoding(|t| {
        t.check("RPUSH b 1 2 3", ":3");
        t.check("LMPOP 2 a b RIGHT COUNT 2", "*2 $1 b *2 $1 3 $1 2")
            .check_log(&["RPOP b 2"]);
        t.check("LMPOP 2 a b LEFT COUNT 9", "*2 $1 b *1 $1 1")
            .check_log(&["LPOP b 1"]);
        t.check("LMPOP 2 a b LEFT", "*-1")
            .check("LMPOP 0 a LEFT", "-ERR numkeys should be greater than 0");
        t.check("LMPOP 2 a LEFT", "-ERR syntax error").check(
            "LMPOP 1 a LEFT COUNT 0",
            "-ERR count should be greater than 0",
        );
        t.check("LMPOP 1 a LEFT COUNT 1 COUNT 1", "-ERR syntax error");
        t.version = Version::Resp3;
        t.check("LMPOP 1 a LEFT", "_");
    });
}

#[test]
fn blocking_forms() {
    each_encoding(|t| {
        t.check("BLPOP a b 1.5", "");
        let block = t.block.take().expect("it waits");
        assert_eq!(
            (block.timeout_ms, block.null, block.wake),
            (Some(1500), Null::Array, Wake::Type(Type::List))
        );
        assert_eq!(block.keys, [Box::from(&b"a"[..]), Box::from(&b"b"[..])]);
        t.check("BLMOVE a b LEFT RIGHT 0", "");
        let block = t.block.take().expect("it waits");
        assert_eq!(
            (block.timeout_ms, block.keys),
            (None, vec![Box::from(&b"a"[..])])
        );
        t.check("BLMPOP 1 2 a b LEFT", "");
        assert_eq!(t.block.take().expect("it waits").keys.len(), 2);
        t.check("RPUSH b 1 2 3 4 5", ":5");
        t.check("BLPOP a b 1", "*2 $1 b $1 1")
            .check_log(&["LPOP b"]);
        t.check("BRPOP a b 1", "*2 $1 b $1 5")
            .check_log(&["RPOP b"]);
        t.check("BLMOVE b c LEFT RIGHT 0", "$1 2")
            .check_log(&["LMOVE b c left right"]);
        t.check("BRPOPLPUSH b c 0", "$1 4")
            .check_log(&["RPOPLPUSH b c"]);
        t.check("BLMPOP 0 2 a b LEFT COUNT 3", "*2 $1 b *1 $1 3")
            .check_log(&["LPOP b 1"]);
        t.check("BLPOP a -1", "-ERR timeout is negative")
            .check("BLPOP a x", "-ERR timeout is not a float or out of range");
        t.check("SET s v", "+OK").check(
            "BLPOP s c 0",
            "-WRONGTYPE Operation against a key holding the wrong kind of value",
        );
    });
}

#[test]
fn encodings_change_as_in_redis() {
    let mut t = Tester::with(Settings {
        list_listpack_size_max: 4,
        ..Settings::default()
    });
    t.check("RPUSH l 1 2 3 4", ":4")
        .check_encoding("l", "listpack");
    t.check("RPUSH l 5", ":5").check_encoding("l", "quicklist");
    t.check("LPOP l 2", "*2 $1 1 $1 2")
        .check_encoding("l", "quicklist");
    t.check("RPOP l", "$1 5").check_encoding("l", "listpack");
    t.check("RPUSH m 1 2 3 4 5", ":5")
        .check_encoding("m", "quicklist");
    t.check("LTRIM m 0 1", "+OK")
        .check_encoding("m", "listpack");
    t.check("RPUSH o 1 2 3 4", ":4")
        .check("LINSERT o BEFORE zz 1", ":-1");
    t.check_encoding("o", "quicklist");
    let mut t = Tester::new();
    let big = vec![b'x'; 9000];
    assert_eq!(t.run_words(&[b"RPUSH", b"l", b"a"]), b":1\r\n");
    assert_eq!(t.run_words(&[b"LSET", b"l", b"0", &big]), b"+OK\r\n");
    t.check_encoding("l", "quicklist");
    t.check("LSET l 0 b", "+OK").check_encoding("l", "listpack");
    t.check("LRANGE l 0 -1", "*1 $1 b");
}

/// What a client was to be served from may be gone again when its turn comes: that its other key got another type is then no matter.
#[test]
fn served_in_vain() {
    let mut t = Tester::new();
    t.serving = true;
    for (pop, kind) in [
        ("BLPOP a b 0", "list"),
        ("BLMPOP 0 2 a b LEFT", "list"),
        ("BZPOPMIN a b 0", "zset"),
        ("BZMPOP 0 2 a b MIN", "zset"),
    ] {
        t.run("DEL b");
        t.run("SET a string");
        t.check(pop, "");
        assert_eq!(t.block.take().expect("it goes on waiting").keys.len(), 2);
        t.run(if kind == "list" {
            "RPUSH b 1"
        } else {
            "ZADD b 1 1"
        });
        t.check(
            pop,
            "-WRONGTYPE Operation against a key holding the wrong kind of value",
        );
    }
}
