use crate::commands::testing::Tester;
use crate::shard::Settings;
use ringwood_protocol::reply::Version;

/// Packed, and as a table from the first field on.
fn encodings() -> [Tester; 2] {
    [512, 0].map(|entries| {
        Tester::with(Settings {
            hash_listpack_entries_max: entries,
            ..Settings::default()
        })
    })
}

#[test]
fn fields_are_set_read_and_removed() {
    for mut t in encodings() {
        t.listen();
        t.check("HSET h a 1", ":1").check("HSET h a 2 b x", ":1");
        t.check_new_events("new h, hset h, hset h");
        t.check("HGET h a", "$1 2")
            .check("HGET h c", "$-1")
            .check("HGET no a", "$-1");
        t.check("HLEN h", ":2")
            .check("HEXISTS h b", ":1")
            .check("HEXISTS h c", ":0");
        t.check("HSTRLEN h b", ":1").check("HSTRLEN h c", ":0");
        t.check("HMGET h b zz a", "*3 $1 x $-1 $1 2");
        t.check("HSETNX h a 9", ":0").check("HSETNX h n 9", ":1");
        t.check("HDEL h n zz", ":1").check("HDEL no a", ":0");
        t.check("HMSET h b y", "+OK").check("HGET h b", "$1 y");
        t.check_new_events("keymiss no, hset h, hdel h, hset h");
        t.check("HDEL h a b", ":2");
        t.check_new_events("hdel h, del h");
        t.check("EXISTS h", ":0").check("HGETALL h", "*0");
        t.check(
            "HSET h a",
            "-ERR wrong number of arguments for 'hset' command",
        );
        t.check(
            "HMSET h a 1 b",
            "-ERR wrong number of arguments for 'hmset' command",
        );
        t.check("SET s v", "+OK");
        for line in [
            "HSET s a 1",
            "HGET s a",
            "HGETALL s",
            "HDEL s a",
            "HINCRBY s a 1",
            "HSCAN s 0",
        ] {
            t.check(
                line,
                "-WRONGTYPE Operation against a key holding the wrong kind of value",
            );
        }
        t.shard.keyspace.check_invariants();
    }
}

#[test]
fn whole_hashes() {
    for mut t in encodings() {
        t.check("HSET h a 1", ":1");
        t.check("HGETALL h", "*2 $1 a $1 1")
            .check("HKEYS h", "*1 $1 a")
            .check("HVALS h", "*1 $1 1");
        t.check("HSCAN h 0", "*2 $1 0 *2 $1 a $1 1");
        t.check("HSCAN h 0 NOVALUES", "*2 $1 0 *1 $1 a");
        t.check("HSCAN h 0 MATCH x*", "*2 $1 0 *0");
        t.check("HRANDFIELD h", "$1 a")
            .check("HRANDFIELD h -2 WITHVALUES", "*4 $1 a $1 1 $1 a $1 1");
        t.check("HRANDFIELD h 5", "*1 $1 a")
            .check("HRANDFIELD no", "$-1")
            .check("HRANDFIELD no 1", "*0");
        t.version = Version::Resp3;
        t.check("HGETALL h", "%1 $1 a $1 1")
            .check("HRANDFIELD h 1 WITHVALUES", "*1 *2 $1 a $1 1");
        t.check("HGETALL no", "%0");
    }
}

#[test]
fn counting() {
    for mut t in encodings() {
        t.check("HINCRBY h n 5", ":5")
            .check("HINCRBY h n -7", ":-2")
            .check("HGET h n", "$2 -2");
        t.check("HINCRBYFLOAT h f 1.5", "$3 1.5")
            .check_log(&["HSET h f 1.5"]);
        t.check("HINCRBYFLOAT h n 0.5", "$4 -1.5");
        t.check("HINCRBY h n 1", "-ERR hash value is not an integer");
        t.check("HSET h s text max 9223372036854775807", ":2");
        t.check("HINCRBYFLOAT h s 1", "-ERR hash value is not a float");
        t.check(
            "HINCRBY h max 1",
            "-ERR increment or decrement would overflow",
        );
        t.check(
            "HINCRBY no n x",
            "-ERR value is not an integer or out of range",
        )
        .check("EXISTS no", ":0");
    }
}

#[test]
fn a_hash_is_unpacked_at_the_thresholds() {
    let mut t = Tester::with(Settings {
        hash_listpack_entries_max: 3,
        hash_listpack_value_max: 8,
        ..Settings::default()
    });
    t.check("HSET h a 1 b 2 c 3", ":3")
        .check_encoding("h", "listpack");
    t.check("HSET h d 4", ":1").check_encoding("h", "hashtable");
    t.check("HMGET h a b c d", "*4 $1 1 $1 2 $1 3 $1 4");
    t.check("HSET v a 123456789", ":1")
        .check_encoding("v", "hashtable");
    t.check("HSET w 123456789 a", ":1")
        .check_encoding("w", "hashtable");
    t.check("COPY h g", ":1")
        .check("HLEN g", ":4")
        .check("DEL h", ":1")
        .check("HGET g d", "$1 4");
    t.shard.keyspace.check_invariants();
}

#[test]
fn a_large_hash_is_scanned_and_chosen_from() {
    let mut t = Tester::new();
    for i in 0..2000 {
        t.run(&format!("HSET h field{i} value{i}"));
    }
    t.check("HLEN h", ":2000").check_encoding("h", "hashtable");
    let mut cursor = "0".to_string();
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let reply =
            String::from_utf8(t.run(&format!("HSCAN h {cursor} COUNT 20 NOVALUES"))).unwrap();
        let mut words = reply
            .split("\r\n")
            .filter(|w| !w.starts_with(['*', '$']) && !w.is_empty());
        cursor = words.next().unwrap().to_string();
        for field in words {
            assert!(seen.insert(field.to_string()), "{field} twice");
        }
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 2000);
    for (count, elements) in [("50", 50), ("1500", 1500), ("5000", 2000), ("-30", 30)] {
        let reply = t.run(&format!("HRANDFIELD h {count}"));
        assert!(reply.starts_with(format!("*{elements}\r\n").as_bytes()));
    }
}
