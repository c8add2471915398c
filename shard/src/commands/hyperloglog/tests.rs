//! The HyperLogLog commands as clients see them. The bytes and figures are Redis 8.2.3's.

use crate::collections::hll;
use crate::commands::testing::Tester;
use crate::ctx::Log;
use crate::shard::Settings;

const NOT_HLL: &str = "-WRONGTYPE Key is not a valid HyperLogLog string value.";
const CORRUPT: &str = "-INVALIDOBJ Corrupted HLL object detected";
const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

fn limited(sparse_bytes_max: usize) -> Tester {
    Tester::with(Settings {
        hll_sparse_bytes_max: sparse_bytes_max,
        ..Settings::default()
    })
}

fn add_range(t: &mut Tester, key: &str, range: std::ops::Range<u32>) {
    for n in range {
        t.run(&format!("PFADD {key} {n}"));
    }
}

#[test]
fn elements_are_added_and_counted() {
    for limit in [0, 20, 3000, 100_000] {
        let mut t = limited(limit);
        t.check("PFADD k", ":1").check("PFADD k", ":0");
        t.check_encoding("k", "raw");
        t.check("PFCOUNT k", ":0");
        t.check("PFADD k a b c", ":1").check("PFADD k a b c", ":0");
        t.check("PFCOUNT k", ":3").check("PFCOUNT k k nokey", ":3");
        t.check("PFADD new a a a", ":1").check("PFCOUNT new", ":1");
        t.check("PFCOUNT nokey", ":0")
            .check("PFCOUNT no keys", ":0");
        let encoding = if limit < 100 { "+dense" } else { "+sparse" };
        t.check("PFDEBUG ENCODING k", encoding);
    }
}

#[test]
fn a_value_becomes_dense_at_the_limit() {
    let mut t = limited(100);
    add_range(&mut t, "k", 0..10);
    t.check("PFDEBUG ENCODING k", "+sparse");
    add_range(&mut t, "k", 10..100);
    t.check("PFDEBUG ENCODING k", "+dense")
        .check("STRLEN k", ":12304")
        .check("PFCOUNT k", ":100");
    t.check_encoding("k", "raw");
    let mut t = Tester::new();
    t.check("PFADD k a", ":1").check("PFDEBUG TODENSE k", ":1");
    t.check("PFDEBUG TODENSE k", ":0").check("PFCOUNT k", ":1");
}

#[test]
fn only_changes_are_told() {
    let mut t = Tester::new();
    t.check_events("PFADD k", &["new k", "pfadd k"]);
    t.check_events("PFADD k", &[]);
    t.check_events("PFADD k a", &["pfadd k"]);
    t.check_events("PFADD k a", &[]);
    // The estimate that it keeps is a change without a name, once.
    t.check_events("PFCOUNT k", &[" k"]);
    t.check_events("PFCOUNT k", &[]);
    t.check_events("PFCOUNT k k", &[]);
    t.check_events("PFMERGE k", &["pfadd k"]);
    t.check_events("PFMERGE d k", &["keymiss d", "new d", "pfadd d"]);
    t.check_events("PFDEBUG DECODE k", &[]);
    t.check_events("PFDEBUG TODENSE k", &[" k"]);
    t.check_events("PFDEBUG TODENSE k", &[]);
    let before = t.shard.stats.dirty;
    t.check("PFADD more a b c a", ":1");
    assert_eq!(
        t.shard.stats.dirty - before,
        4,
        "a new key and three elements"
    );
    assert!(matches!(t.log, Log::Verbatim));
}

#[test]
fn the_expiry_stays() {
    let mut t = Tester::new();
    t.check("PFADD k a", ":1").check("PEXPIRE k 100000", ":1");
    add_range(&mut t, "k", 0..3000);
    t.check("PFDEBUG ENCODING k", "+dense")
        .check("PTTL k", ":100000");
    t.check("PFMERGE k k", "+OK").check("PTTL k", ":100000");
}

#[test]
fn merging() {
    for limit in [0, 60, 3000] {
        let mut t = limited(limit);
        t.check("PFADD a 1 2 3", ":1").check("PFADD b 3 4", ":1");
        t.check("PFCOUNT a b", ":4")
            .check("PFCOUNT a nokey b a", ":4");
        t.check("PFMERGE d a b nokey", "+OK")
            .check("PFCOUNT d", ":4");
        t.check("PFMERGE a b", "+OK").check("PFCOUNT a", ":4");
        t.check("PFADD all 1 2 3 4", ":1")
            .check("PFCOUNT all", ":4");
        let (merged, added) = (t.run("PFDEBUG GETREG d"), t.run("PFDEBUG GETREG all"));
        assert_eq!(merged, added);
        t.check("PFMERGE new", "+OK").check("PFCOUNT new", ":0");
    }
}

#[test]
fn a_dense_source_makes_the_destination_dense() {
    let mut t = Tester::new();
    t.check("PFADD a 1", ":1").check("PFADD b 2", ":1");
    t.check("PFDEBUG TODENSE b", ":1")
        .check("PFMERGE a b", "+OK");
    t.check("PFDEBUG ENCODING a", "+dense")
        .check("PFCOUNT a", ":2");
    t.check("PFADD c 3", ":1").check("PFMERGE b c", "+OK");
    t.check("PFCOUNT b", ":2")
        .check("PFDEBUG ENCODING b", "+dense");
}

#[test]
fn the_insides_are_shown() {
    let mut t = Tester::new();
    t.check("PFADD k", ":1")
        .check("PFDEBUG DECODE k", "$7 Z:16384");
    // Registers 12711 and 5938, both with rank 2.
    t.run_words(&[b"PFADD", b"k", b"a", b""]);
    t.check("PFDEBUG DECODE k", "$32 Z:5938 v:2,1 Z:6772 v:2,1 Z:3672");
    t.check(
        "PFDEBUG decode nokey",
        "-ERR The specified key does not exist",
    );
    t.check("PFDEBUG TODENSE k", ":1");
    t.check("PFDEBUG DECODE k", "-ERR HLL encoding is not sparse");
    t.check("PFDEBUG foo k", "-ERR Unknown PFDEBUG subcommand 'foo'");
    t.check("PFDEBUG foo nokey", "-ERR The specified key does not exist");
    let registers = String::from_utf8(t.run("PFDEBUG GETREG k")).expect("numbers");
    let lines: Vec<&str> = registers.split("\r\n").collect();
    assert_eq!(lines[0], "*16384");
    let set = |index: &usize| lines[index + 1] != ":0";
    assert_eq!((0..16384).filter(set).collect::<Vec<_>>(), [5938, 12711]);
}

#[test]
fn merging_one_by_one_gives_the_same() {
    let mut t = Tester::new();
    add_range(&mut t, "a", 0..4000);
    add_range(&mut t, "b", 2000..6000);
    let together = t.run("PFCOUNT a b");
    t.check("PFDEBUG SIMD off", "+disabled");
    assert_eq!(t.run("PFCOUNT a b"), together);
    t.check("PFDEBUG simd ON", "+enabled");
    t.check("PFDEBUG SIMD x", "-ERR Argument must be ON or OFF");
}

#[test]
fn the_self_test_passes() {
    Tester::new().check("PFSELFTEST", "+OK");
}

#[test]
fn other_values_are_refused() {
    let mut t = Tester::new();
    t.check("PFADD h a", ":1").check("RPUSH l a", ":1");
    t.check("SET short HYLL", "+OK").check("SET n 12", "+OK");
    let head = b"HYLL\x02\0\0\0\0\0\0\0\0\0\0\0\x7f\xff";
    t.run_words(&[b"SET", b"kind", head]);
    t.run_words(&[b"SET", b"dense", b"HYLL\0\0\0\0\0\0\0\0\0\0\0\0"]);
    for key in ["short", "n", "kind", "dense", "l"] {
        let error = if key == "l" { WRONG_TYPE } else { NOT_HLL };
        t.check(&format!("PFADD {key} a"), error)
            .check(&format!("PFADD {key}"), error)
            .check(&format!("PFCOUNT {key}"), error)
            .check(&format!("PFCOUNT h {key}"), error)
            .check(&format!("PFMERGE {key} h"), error)
            .check(&format!("PFMERGE d {key}"), error)
            .check(&format!("PFDEBUG DECODE {key}"), error);
    }
    t.check("EXISTS d", ":0");
}

#[test]
fn corrupt_values_are_errors() {
    let sparse = |runs: &[u8]| [b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80", runs].concat();
    for runs in [
        b"".as_slice(),
        b"\0",
        b"\x7f",
        b"\x7f\xff\0",
        b"\x7f\xff\x80",
        b"\x7f\xfe",
        b"\x40\0\x40",
    ] {
        let mut t = Tester::new();
        t.check("PFADD h a", ":1");
        t.run_words(&[b"SET", b"k", &sparse(runs)]);
        t.check("PFCOUNT k", CORRUPT).check("PFCOUNT h k", CORRUPT);
        t.check("PFMERGE d k", CORRUPT)
            .check("PFMERGE k h", CORRUPT);
        t.check("PFDEBUG TODENSE k", CORRUPT)
            .check("PFDEBUG GETREG k", CORRUPT);
        t.check("EXISTS d", ":0");
    }
    // Runs that end before the element's register: what was added before stays, and is told.
    let mut t = Tester::new();
    t.run_words(&[b"SET", b"k", &sparse(b"\x60\0")]);
    t.listen();
    t.check("PFADD k a", CORRUPT).check_new_events("");
    // "" has register 5938, "a" 12711.
    let reply = t.run_words(&[b"PFADD", b"k", b"", b"a"]);
    assert!(reply.starts_with(CORRUPT.as_bytes()));
    t.check_new_events("pfadd k");
    t.check("PFDEBUG DECODE k", "$19 Z:5938 v:2,1 Z:2254");
}

#[test]
fn another_encoding_becomes_raw() {
    let mut t = Tester::new();
    t.run_words(&[b"SET", b"k", &hll::EMPTY]);
    t.check_encoding("k", "embstr");
    t.check("PFCOUNT k", ":0").check_encoding("k", "raw");
    t.run_words(&[b"SET", b"k", &hll::EMPTY]);
    t.check("PFADD k", ":0").check_encoding("k", "raw");
}
