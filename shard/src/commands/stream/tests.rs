//! The commands together, as clients use them.

use crate::collections::stream::StreamId;
use crate::commands::testing::Tester;
use crate::ctx::{Null, Wake};
use crate::object::{Object, Type};
use crate::shard::Settings;
use ringwood_protocol::reply::Version;

fn small_blocks() -> Tester {
    Tester::with(Settings {
        stream_node_entries_max: 2,
        ..Settings::default()
    })
}

#[test]
fn ids_are_given_out_in_order() {
    let mut t = Tester::new();
    t.listen();
    t.check("XADD s * f v", "$15 1700000000000-0");
    t.check_log(&["XADD s 1700000000000-0 f v"]);
    t.check_new_events("new s, xadd s");
    t.check("XADD s * f v", "$15 1700000000000-1");
    t.check("XADD s 1700000000000-* f v", "$15 1700000000000-2");
    t.check(
        "XADD s 5-1 f v",
        "-ERR The ID specified in XADD is equal or smaller than the target stream top item",
    );
    t.check(
        "XADD s 0-0 f v",
        "-ERR The ID specified in XADD must be greater than 0-0",
    );
    t.check("XADD none NOMKSTREAM * f v", "$-1");
    t.check(
        "XADD e 18446744073709551615-18446744073709551615 f v",
        "$41 18446744073709551615-18446744073709551615",
    );
    t.check(
        "XADD e * f v",
        "-ERR The stream has exhausted the last possible ID, unable to add more items",
    );
    t.check(
        "XADD s * f",
        "-ERR wrong number of arguments for 'xadd' command",
    );
    t.check("XLEN s", ":3").check_encoding("s", "stream");
    t.check("SET k v", "+OK");
    t.check(
        "XADD k * f v",
        "-WRONGTYPE Operation against a key holding the wrong kind of value",
    );
}

#[test]
fn ranges_in_both_directions() {
    for mut t in [Tester::new(), small_blocks()] {
        for i in 1..=5 {
            t.run(&format!("XADD s {i}-0 f {i}"));
        }
        t.check(
            "XRANGE s 2 (4-0",
            "*2 *2 $3 2-0 *2 $1 f $1 2 *2 $3 3-0 *2 $1 f $1 3",
        );
        t.check("XREVRANGE s + (3 COUNT 1", "*1 *2 $3 5-0 *2 $1 f $1 5");
        t.check("XRANGE s - + COUNT 0", "*-1");
        t.check("XRANGE none - +", "*0");
        t.check("XDEL s 2-0 9-9", ":1");
        t.check("XRANGE s 2 3", "*1 *2 $3 3-0 *2 $1 f $1 3");
        t.check("XRANGE s (5 +", "*0");
        t.check("XRANGE s (5-0 +", "*0");
        t.check(
            "XRANGE s a +",
            "-ERR Invalid stream ID specified as stream command argument",
        );
    }
}

#[test]
fn approximate_trimming_removes_whole_blocks_and_is_logged_exactly() {
    let mut t = small_blocks();
    for i in 1..=7 {
        t.run(&format!("XADD s {i}-0 f v"));
    }
    t.check("XTRIM s MAXLEN ~ 4", ":2")
        .check_log(&["XTRIM s MAXLEN = 5"]);
    t.check("XTRIM s MINID ~ 4", ":0");
    t.check("XTRIM s MAXLEN 4", ":1").check_log_verbatim();
    t.check("XADD s MAXLEN ~ 1 LIMIT 2 8-* f v", "$3 8-0");
    t.check_log(&["XADD s MAXLEN = 4 8-0 f v"]);
    t.check("XTRIM s MINID = 8", ":3").check("XLEN s", ":1");
    t.check("XTRIM s MAXLEN 0", ":1").check("EXISTS s", ":1");
    t.check(
        "XTRIM s MAXLEN 1 LIMIT 3",
        "-ERR syntax error, LIMIT cannot be used without the special ~ option",
    );
}

#[test]
fn reading_waits_from_the_last_entry_on() {
    let mut t = Tester::new();
    t.run("XADD s 1-0 f v");
    t.check("XREAD STREAMS s 0", "*1 *2 $1 s *1 *2 $3 1-0 *2 $1 f $1 v");
    t.version = Version::Resp3;
    t.check(
        "XREAD STREAMS none s 0 +",
        "%1 $1 s *1 *2 $3 1-0 *2 $1 f $1 v",
    );
    t.check("XREAD STREAMS s $", "_");
    t.version = Version::Resp2;
    t.check("XREAD STREAMS s $", "*-1");
    t.check("XREAD BLOCK 100 STREAMS s none $ $", "");
    let block = t.block.clone().expect("it waits");
    assert_eq!(block.wake, Wake::Type(Type::Stream));
    assert_eq!((block.timeout_ms, block.null), (Some(100), Null::Array));
    let words: Vec<_> = block.words.unwrap();
    assert_eq!(
        words.join(&b" "[..]),
        b"XREAD BLOCK 100 STREAMS s none 1-0 0-0"
    );
    t.check("XREAD BLOCK -1 STREAMS s $", "-ERR timeout is negative");
}

#[test]
fn a_group_hands_out_each_entry_once() {
    for mut t in [Tester::new(), small_blocks()] {
        for i in 1..=3 {
            t.run(&format!("XADD s {i}-0 f v"));
        }
        t.check("XGROUP CREATE s g 0", "+OK");
        t.check(
            "XGROUP CREATE s g 0",
            "-BUSYGROUP Consumer Group name already exists",
        );
        t.check(
            "XREADGROUP GROUP g a COUNT 2 STREAMS s >",
            "*1 *2 $1 s *2 *2 $3 1-0 *2 $1 f $1 v *2 $3 2-0 *2 $1 f $1 v",
        );
        t.check_log(&[
            "XCLAIM s g a 0 1-0 TIME 1700000000000 RETRYCOUNT 1 FORCE JUSTID LASTID 1-0",
            "XCLAIM s g a 0 2-0 TIME 1700000000000 RETRYCOUNT 1 FORCE JUSTID LASTID 2-0",
            "XGROUP SETID s g 2-0 ENTRIESREAD 2",
        ]);
        t.check(
            "XREADGROUP GROUP g b STREAMS s >",
            "*1 *2 $1 s *1 *2 $3 3-0 *2 $1 f $1 v",
        );
        t.check("XREADGROUP GROUP g b STREAMS s >", "*-1");
        t.check(
            "XPENDING s g",
            "*4 :3 $3 1-0 $3 3-0 *2 *2 $1 a $1 2 *2 $1 b $1 1",
        );
        t.check("XACK s g 1-0 1-0", ":1");
        t.check("XDEL s 2-0", ":1");
        t.check(
            "XREADGROUP GROUP g a STREAMS s 0",
            "*1 *2 $1 s *1 *2 $3 2-0 *-1",
        );
        t.advance(50);
        t.check(
            "XPENDING s g IDLE 50 - + 9",
            "*2 *4 $3 2-0 $1 a :50 :1 *4 $3 3-0 $1 b :50 :1",
        );
        t.check("XPENDING s g IDLE 51 - + 9", "*0");
        t.check(
            "XAUTOCLAIM s g c 50 0",
            "*3 $3 0-0 *1 *2 $3 3-0 *2 $1 f $1 v *1 $3 2-0",
        );
        t.check_log(&[
            "XCLAIM s g a 0 2-0 TIME 1700000000000 RETRYCOUNT 1 FORCE JUSTID LASTID 3-0",
            "XCLAIM s g c 0 3-0 TIME 1700000000050 RETRYCOUNT 2 FORCE JUSTID LASTID 3-0",
        ]);
        t.check(
            "XCLAIM s g a 0 1-0 3-0 FORCE JUSTID RETRYCOUNT 7",
            "*2 $3 1-0 $3 3-0",
        );
        t.check(
            "XPENDING s g - + 9 a",
            "*2 *4 $3 1-0 $1 a :0 :7 *4 $3 3-0 $1 a :0 :7",
        );
        t.check("XGROUP DELCONSUMER s g a", ":2")
            .check("XGROUP DESTROY s g", ":1");
        t.check(
            "XREADGROUP GROUP g a STREAMS s >",
            "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option",
        );
    }
}

#[test]
fn members_wait_for_any_change_and_no_ack_leaves_nothing_pending() {
    let mut t = Tester::new();
    t.check("XGROUP CREATE s g $ MKSTREAM", "+OK");
    t.check("XREADGROUP GROUP g a BLOCK 0 STREAMS s >", "");
    let block = t.block.clone().expect("it waits");
    assert_eq!((block.wake, block.timeout_ms), (Wake::Any, None));
    t.run("XADD s 1-0 f v");
    t.check(
        "XREADGROUP GROUP g b NOACK STREAMS s >",
        "*1 *2 $1 s *1 *2 $3 1-0 *2 $1 f $1 v",
    );
    t.check_log(&[
        "XGROUP CREATECONSUMER s g b",
        "XGROUP SETID s g 1-0 ENTRIESREAD 1",
    ]);
    t.check("XPENDING s g", "*4 :0 $-1 $-1 *-1");
}

#[test]
fn deletion_minds_groups_when_told_to() {
    let mut t = Tester::new();
    for i in 1..=5 {
        t.run(&format!("XADD s {i}-0 f v"));
    }
    t.run("XGROUP CREATE s g 0");
    t.run("XGROUP CREATE s h 0");
    t.run("XREADGROUP GROUP g c COUNT 3 STREAMS s >");
    t.run("XREADGROUP GROUP h c COUNT 2 STREAMS s >");
    t.check("XDELEX s ACKED IDS 2 1-0 9-9", "*2 :2 :2");
    t.check("XACKDEL s g ACKED IDS 3 1-0 3-0 7-7", "*3 :2 :2 :-1");
    t.check("XACKDEL s h ACKED IDS 1 1-0", "*1 :1");
    t.check("XDELEX s IDS 1 2-0", "*1 :1").check("XLEN s", ":3");
    t.check("XDELEX s DELREF IDS 1 2-0", "*1 :-1");
    t.check("XPENDING s g", "*4 :0 $-1 $-1 *-1");
    t.check(
        "XDELEX s IDS 2 2-0",
        "-ERR The `numids` parameter must match the number of arguments",
    );
    t.check(
        "XDELEX s IDS 0 2-0",
        "-ERR Number of IDs must be a positive integer",
    );
    // A wrong type comes before wrong words.
    t.run("SET string x");
    for words in ["IDS 2 2-0", "IDS 0 2-0", "IDS 1 2-0 BAD", "IDS 1 x"] {
        for line in [
            format!("XDELEX string {words}"),
            format!("XACKDEL string g {words}"),
        ] {
            let reply = t.run(&line);
            assert!(reply.starts_with(b"-WRONGTYPE"), "{line}");
        }
    }
}

#[test]
fn lag_is_known_where_redis_knows_it() {
    let mut t = Tester::new();
    for i in 1..=5 {
        t.run(&format!("XADD s {i}-0 f v"));
    }
    let groups = |read: &str, last: &str, lag: &str| {
        format!(
            "*1 *12 $4 name $1 g $9 consumers :1 $7 pending :0 $17 last-delivered-id $3 {last} $12 entries-read {read} $3 lag {lag}"
        )
    };
    t.run("XGROUP CREATE s g 0");
    t.run("XGROUP CREATECONSUMER s g c");
    t.check("XINFO GROUPS s", &groups("$-1", "0-0", ":5"));
    t.run("XREADGROUP GROUP g c COUNT 2 NOACK STREAMS s >");
    t.check("XINFO GROUPS s", &groups(":2", "2-0", ":3"));
    t.run("XDEL s 4-0");
    t.check("XINFO GROUPS s", &groups(":2", "2-0", "$-1"));
    t.run("XREADGROUP GROUP g c NOACK STREAMS s >");
    t.check("XINFO GROUPS s", &groups(":5", "5-0", ":0"));
}

/// With full blocks, that is; what is beside the entries' bytes.
#[test]
fn an_entry_costs_little() {
    let mut t = Tester::new();
    const ENTRIES: usize = 100_000;
    for i in 0..ENTRIES {
        let value = i.to_string();
        let words: [&[u8]; 9] = [
            b"XADD",
            b"s",
            b"*",
            b"a",
            value.as_bytes(),
            b"b",
            b"xy",
            b"c",
            b"12",
        ];
        // Without the check of all invariants after every command.
        let key = t.shard.key(b"s");
        if let Some(mut entry) = t.shard.write(0, key)
            && let Object::Stream(stream) = entry.object_mut()
        {
            let id = StreamId::new(1_700_000_000_000 + i as u64, 0);
            let limits = crate::collections::stream::Limits {
                block_bytes_max: 4096,
                block_entries_max: 100,
            };
            stream.add(id, &words[3..], 20, limits);
        } else {
            t.run_words(&words);
        }
    }
    let key = t.shard.key(b"s");
    let bytes = t.shard.keyspace.get(0, key).unwrap().memory();
    assert!(bytes / ENTRIES < 27, "{} bytes an entry", bytes / ENTRIES);
}
