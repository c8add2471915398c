//! All set commands in each encoding.

use crate::commands::testing::Tester;
use crate::shard::Settings;

/// Thresholds that make `a b c` a listpack, or a table.
fn testers() -> [(Tester, &'static str, &'static str); 2] {
    let large = Settings {
        set_intset_entries_max: 0,
        set_listpack_entries_max: 0,
        ..Settings::default()
    };
    [
        (Tester::new(), "intset", "listpack"),
        (Tester::with(large), "hashtable", "hashtable"),
    ]
}

#[test]
fn members_come_and_go() {
    for (mut t, ints, texts) in testers() {
        t.check("SADD n 1 2 3 2", ":3").check_encoding("n", ints);
        t.check("SADD t a 1 b", ":3").check_encoding("t", texts);
        t.check("SADD n 3", ":0")
            .check("SCARD n", ":3")
            .check("SCARD no", ":0");
        t.check("SISMEMBER n 2", ":1").check("SISMEMBER n 02", ":0");
        t.check("SMISMEMBER t a x 1", "*3 :1 :0 :1")
            .check("SMISMEMBER no a", "*1 :0");
        t.check("SREM n 2 9 1", ":2").check("SMEMBERS n", "*1 $1 3");
        t.check_events("SREM n 3 4", &["srem n", "del n"]);
        t.check("EXISTS n", ":0")
            .check("SREM n 1", ":0")
            .check("SMEMBERS n", "*0");
        t.check_events("SADD m 5", &["new m", "sadd m"]);
        t.check_events("SMOVE t m a", &["srem t", "sadd m"]);
        t.check("SMOVE t m x", ":0")
            .check("SMOVE no m x", ":0")
            .check("SMOVE m m a", ":1");
        t.check_events("SMOVE m q a", &["srem m", "new q", "sadd q"]);
        t.check("SET s v", "+OK");
        for line in [
            "SADD s a",
            "SREM s a",
            "SMOVE t s 1",
            "SMEMBERS s",
            "SPOP s",
            "SINTER no s",
            "SSCAN s 0",
        ] {
            t.check(
                line,
                "-WRONGTYPE Operation against a key holding the wrong kind of value",
            );
        }
    }
}

#[test]
fn encodings_change_as_in_redis() {
    let mut t = Tester::with(Settings {
        set_intset_entries_max: 4,
        set_listpack_entries_max: 3,
        set_listpack_value_max: 5,
        ..Settings::default()
    });
    t.check("SADD a 1 2 3 4", ":4")
        .check_encoding("a", "intset");
    t.check("SADD a 5", ":1").check_encoding("a", "hashtable");
    t.check("SADD b 1 2", ":2")
        .check("SADD b x", ":1")
        .check_encoding("b", "listpack");
    t.check("SADD b y", ":1").check_encoding("b", "hashtable");
    t.check("SADD c 1 2 3", ":3")
        .check("SADD c x", ":1")
        .check_encoding("c", "hashtable");
    t.check("SADD d x", ":1")
        .check("SADD d 123456", ":1")
        .check_encoding("d", "hashtable");
    t.check("SADD e x x x x", ":1")
        .check_encoding("e", "hashtable");
    t.check("SADD f 123456", ":1")
        .check("SADD f x", ":1")
        .check_encoding("f", "hashtable");
}

#[test]
fn set_algebra() {
    for (mut t, ints, _) in testers() {
        for version in [
            ringwood_protocol::reply::Version::Resp2,
            ringwood_protocol::reply::Version::Resp3,
        ] {
            t.version = version;
            let set = if t.version == ringwood_protocol::reply::Version::Resp2 {
                '*'
            } else {
                '~'
            };
            t.run("DEL a b c d");
            t.check("SADD a 1 2 3", ":3")
                .check("SADD b 3 4", ":2")
                .check("SADD c 3", ":1");
            t.check("SINTER a b c", &format!("{set}1 $1 3"));
            t.check("SINTER a no", &format!("{set}0"));
            t.check("SDIFF a b", &format!("{set}2 $1 1 $1 2"));
            t.check("SDIFF a a", &format!("{set}0"));
            t.check("SUNIONSTORE d a b c", ":4").check("SCARD d", ":4");
            t.check("SDIFFSTORE d a c", ":2")
                .check("SMEMBERS d", &format!("{set}2 $1 1 $1 2"));
            t.check("EXPIRE d 100", ":1")
                .check("SINTERSTORE d a b", ":1")
                .check("TTL d", ":-1");
            t.check_events("SINTERSTORE d a no", &["keymiss no", "del d"]);
            t.check("SINTERCARD 2 a b", ":1")
                .check("SINTERCARD 1 a LIMIT 2", ":2");
            t.check("SINTERCARD 1 a LIMIT -1", "-ERR LIMIT can't be negative");
            t.check("SINTERCARD 0 a", "-ERR numkeys should be greater than 0");
            t.check(
                "SINTERCARD 2 a",
                "-ERR Number of keys can't be greater than number of args",
            );
            let union = String::from_utf8(t.run("SUNION a b c no a b")).unwrap();
            assert!(union.starts_with(&format!("{set}4\r\n")), "{union}");
            t.check("SUNIONSTORE d a", ":3").check_encoding("d", ints);
        }
    }
}

#[test]
fn random_members() {
    for (mut t, ..) in testers() {
        t.check("SADD a x", ":1")
            .check("SRANDMEMBER a", "$1 x")
            .check("SRANDMEMBER a -2", "*2 $1 x $1 x");
        t.check("SPOP a", "$1 x").check_log(&["SREM a x"]);
        t.check("SPOP a", "$-1")
            .check("SPOP a 2", "*0")
            .check("SRANDMEMBER a", "$-1")
            .check("SRANDMEMBER a 3", "*0");
        t.check("SPOP a -1", "-ERR value is out of range, must be positive");
        for count in [3, 18] {
            let all: String = (0..20).map(|i| format!(" m{i}")).collect();
            t.check(&format!("SADD b{all}"), ":20");
            let reply = String::from_utf8(t.run(&format!("SRANDMEMBER b {count}"))).unwrap();
            let mut seen: Vec<_> = reply.lines().filter(|l| l.starts_with('m')).collect();
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), count);
            let reply = String::from_utf8(t.run(&format!("SPOP b {count}"))).unwrap();
            for member in reply.lines().filter(|l| l.starts_with('m')) {
                t.check(&format!("SISMEMBER b {member}"), ":0");
            }
            t.check("SCARD b", &format!(":{}", 20 - count));
            t.check_events("SPOP b 99", &["spop b", "del b"])
                .check_log(&["DEL b"]);
        }
    }
}

#[test]
fn scanning() {
    for (mut t, ..) in testers() {
        for i in 0..100 {
            t.check(&format!("SADD a m{i}"), ":1");
        }
        let (mut cursor, mut seen) = ("0".to_string(), 0);
        loop {
            let reply = String::from_utf8(t.run(&format!("SSCAN a {cursor} COUNT 5"))).unwrap();
            seen += reply.lines().filter(|l| l.starts_with('m')).count();
            cursor = reply.lines().nth(2).unwrap().to_string();
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen, 100);
        t.check("SSCAN a 0 MATCH m7 COUNT 1000", "*2 $1 0 *1 $2 m7");
        t.check("SSCAN no 0 foo", "*2 $1 0 *0")
            .check("SSCAN a x", "-ERR invalid cursor");
        t.check("SSCAN a 0 COUNT 0", "-ERR syntax error");
    }
}
