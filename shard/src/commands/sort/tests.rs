use crate::collections::listpack;
use crate::collections::quicklist::{Limit, List};
use crate::commands::testing::Tester;
use crate::keyspace::entry::{Parts, Value};
use crate::object::{Encoding, Object, Type};

fn packed(items: &[&str]) -> Vec<u8> {
    let mut lp = listpack::EMPTY.to_vec();
    for item in items {
        listpack::push_back(&mut lp, item.as_bytes());
    }
    lp
}

fn put(t: &mut Tester, key: &str, kind: Type, items: &[&str]) {
    let key = t.shard.key(key.as_bytes());
    t.shard.remove(0, key);
    t.shard
        .insert_bytes(0, key, kind, Encoding::Listpack, &[&packed(items)]);
}

fn put_large_list(t: &mut Tester, key: &str, items: &[&str]) {
    let key = t.shard.key(key.as_bytes());
    t.shard.remove(0, key);
    let list = List::from_listpack(&packed(items), Limit::new(2));
    let parts = Parts {
        kind: Type::List,
        encoding: Encoding::Quicklist,
        access: 0,
        expire_at: None,
        value: Value::Object(Box::new(Object::List(list))),
    };
    t.shard.insert(0, key, parts);
}

const BAD: &str = "-ERR One or more scores can't be converted into double";

#[test]
fn elements_are_sorted_as_numbers_or_texts() {
    for large in [false, true] {
        let mut t = Tester::new();
        let items = ["3", "1", "2", "10"];
        if large {
            put_large_list(&mut t, "l", &items);
        } else {
            put(&mut t, "l", Type::List, &items);
        }
        for (words, reply) in [
            ("", "1 2 3 10"),
            (" DESC", "10 3 2 1"),
            (" desc asc", "1 2 3 10"),
            (" ALPHA", "1 10 2 3"),
            (" ALPHA DESC", "3 2 10 1"),
            (" LIMIT 1 2", "2 3"),
            (" LIMIT -1 2", "1 2"),
            (" LIMIT 1 -1", "2 3 10"),
            (" LIMIT 100 2", ""),
            (" LIMIT 0 0", ""),
            (" LIMIT 1 9223372036854775807", "2 3 10"),
            (" DESC LIMIT 1 2", "3 2"),
            (" BY nosort", "3 1 2 10"),
            (" BY nosort DESC", "10 2 1 3"),
            (" BY nosort DESC LIMIT 0 1", "10"),
            (" BY nosort LIMIT 1 2", "1 2"),
            (" BY nosort BY w*", "3 1 2 10"),
            (" BY w* BY #", "3 1 2 10"),
            (" BY w*", "1 10 2 3"),
        ] {
            check(&mut t, &format!("SORT l{words}"), reply);
            check(&mut t, &format!("SORT_RO l{words}"), reply);
        }
    }
}

/// Compares an array of bulk strings; `nil` is a null.
#[track_caller]
fn check(t: &mut Tester, line: &str, items: &str) {
    let items: Vec<&str> = items.split_whitespace().collect();
    let mut expected = format!("*{}", items.len());
    for item in items {
        if item == "nil" {
            expected.push_str(" $-1");
        } else {
            expected.push_str(&format!(" ${} {item}", item.len()));
        }
    }
    t.check(line, &expected);
}

#[test]
fn by_and_get() {
    let mut t = Tester::new();
    put(&mut t, "l", Type::List, &["3", "1", "2", "10"]);
    t.check("MSET w1 30 w2 20 w3 10 w10 x", "+OK");
    for (hash, value) in [("h1", "5"), ("h2", "4"), ("h3", "3")] {
        put(&mut t, hash, Type::Hash, &["f", value]);
    }
    t.check("SORT l BY w*", BAD);
    check(&mut t, "SORT l BY w* ALPHA", "3 2 1 10");
    check(
        &mut t,
        "SORT l BY w* ALPHA GET # GET w*",
        "3 10 2 20 1 30 10 x",
    );
    check(
        &mut t,
        "SORT l BY h*->f GET h*->f GET h*->g GET h*->",
        "nil nil nil 3 nil nil 4 nil nil 5 nil nil",
    );
    check(&mut t, "SORT l GET nosuch LIMIT 0 2", "nil nil");
    check(&mut t, "SORT l GET h* LIMIT 0 1", "nil");
    check(&mut t, "SORT l GET w*->f LIMIT 0 1", "nil");
    check(&mut t, "SORT l GET w* GET w* LIMIT 0 1", "30 30");
    t.check("SET w10 inf", "+OK");
    check(&mut t, "SORT l BY w*", "3 2 1 10");
    t.check("SET w10 nan", "+OK").check("SORT l BY w*", BAD);
    t.check("SET w10 \"\"", "+OK");
    check(&mut t, "SORT l BY w*", "10 3 2 1");
    t.check("SET w1-> 9", "+OK");
    check(&mut t, "SORT l BY w*->", "10 2 3 1");
}

#[test]
fn equal_weights_are_told_apart_by_the_elements() {
    let mut t = Tester::new();
    put(&mut t, "l", Type::List, &["c", "a", "b"]);
    check(&mut t, "SORT l BY w*", "a b c");
    check(&mut t, "SORT l BY w* DESC", "c b a");
    t.check("SORT l", BAD);
    put(&mut t, "l", Type::List, &["1", "1.0", "01", "1"]);
    check(&mut t, "SORT l", "01 1 1 1.0");
}

#[test]
fn sorted_sets_have_their_order_and_sets_none() {
    let mut t = Tester::new();
    put(&mut t, "z", Type::ZSet, &["b", "1", "a", "2", "c", "3"]);
    t.check_encoding("z", "listpack");
    check(&mut t, "SORT z BY nosort", "b a c");
    // As Redis leaves it, which shows in its scores' texts (ZSCAN's).
    t.check_encoding("z", "skiplist");
    check(&mut t, "SORT z BY nosort DESC LIMIT 1 1", "a");
    check(&mut t, "SORT z BY nosort LIMIT 2 -1", "c");
    check(&mut t, "SORT z ALPHA", "a b c");
    put(&mut t, "s", Type::Set, &["b", "1", "a"]);
    check(&mut t, "SORT s ALPHA DESC", "b a 1");
    t.check("SORT s BY nosort STORE d", ":3");
    check(&mut t, "SORT d BY nosort", "1 a b");
    // What a script sees does not depend on the set's order either, whatever it asks for.
    t.check("DEL s", ":1");
    put(&mut t, "s", Type::Set, &["c", "10", "a", "9", "zz", "b"]);
    t.shard.in_script = true;
    check(&mut t, "SORT s BY const", "10 9 a b c zz");
    check(&mut t, "SORT s BY const DESC LIMIT 1 2", "c b");
    check(&mut t, "SORT s BY const GET # LIMIT 0 2", "10 9");
    check(&mut t, "SORT_RO s BY nosort", "10 9 a b c zz");
    check(&mut t, "SORT z BY nosort", "b a c");
}

#[test]
fn store() {
    let mut t = Tester::new();
    t.listen();
    put(&mut t, "l", Type::List, &["3", "1", "2", "10"]);
    t.check_new_events("new l");
    t.check("SORT l STORE d", ":4")
        .check_encoding("d", "listpack");
    t.check_new_events("new d, sortstore d");
    check(&mut t, "SORT d BY nosort", "1 2 3 10");
    let dirty = t.shard.stats.dirty;
    t.check("EXPIRE d 100", ":1")
        .check("SORT l DESC STORE d", ":4");
    assert_eq!(t.expire_at("d"), None);
    assert_eq!(t.shard.stats.dirty, dirty + 5);
    t.check_new_events("expire d, sortstore d");
    t.check("SORT l STORE l", ":4");
    check(&mut t, "SORT l BY nosort", "1 2 3 10");
    t.check("SORT l GET x* LIMIT 0 2 STORE d", ":2");
    t.check("SORT d BY nosort", "*2 $0  $0");
    t.check_new_events("sortstore l, keymiss x1, keymiss x2, sortstore d");
    t.check("SORT nokey STORE d", ":0").check("EXISTS d", ":0");
    t.check("SORT nokey STORE d", ":0");
    t.check_new_events("keymiss nokey, del d, keymiss d, keymiss nokey");
    let many: Vec<String> = (0..5000).map(|i| i.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    put_large_list(&mut t, "many", &many);
    t.check("SORT many DESC STORE d", ":5000");
    t.check_encoding("d", "quicklist");
    check(&mut t, "SORT d BY nosort LIMIT 4998 5", "1 0");
    check(&mut t, "SORT d LIMIT 1000 2", "1000 1001");
}

#[test]
fn keys_of_other_cores_are_asked_for() {
    use crate::ctx::{Ctx, Wants};
    use ringwood_protocol::reply::{Reply, Version};
    let mut t = Tester::new();
    put(&mut t, "l", Type::List, &["2", "1", "2"]);
    for slot in ["w1", "w2", "g1", "d"] {
        t.shard
            .owned
            .remove(ringwood_protocol::slot::key_slot(slot.as_bytes()));
    }
    let run = |t: &mut Tester, line: &str| {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut out = Vec::new();
        let reply = Reply::new(&mut out, Version::Resp2);
        let mut ctx = Ctx::new(&mut t.shard, 0, reply, &[]);
        super::sort(&mut ctx, &words).expect("no error");
        let wants = ctx.wants.take();
        (wants, out)
    };
    let keys = |names: &[&str]| -> Vec<Box<[u8]>> {
        names.iter().map(|name| name.as_bytes().into()).collect()
    };
    let (wants, out) = run(&mut t, "SORT l BY w* GET g* STORE d");
    assert!(matches!(wants.as_deref(), Some(Wants::Keys(k)) if *k == keys(&["d", "w1", "w2"])));
    assert!(out.is_empty());
    for key in keys(&["d", "w1", "w2"]) {
        t.shard.guests.insert((0, key));
    }
    let (wants, out) = run(&mut t, "SORT l BY w* GET g* STORE d");
    // And with it what is here, to be held too.
    assert!(matches!(wants.as_deref(), Some(Wants::Keys(k)) if *k == keys(&["g1", "g2"])));
    assert!(out.is_empty());
    t.shard.guests.insert((0, b"g1".as_slice().into()));
    let (wants, out) = run(&mut t, "SORT l BY w* GET g* STORE d");
    assert!(wants.is_none());
    assert_eq!(out, b":3\r\n");
}

#[test]
fn errors() {
    let mut t = Tester::new();
    t.check("SET str 1", "+OK");
    let syntax = "-ERR syntax error";
    for (line, reply) in [
        ("SORT nokey", "*0"),
        ("SORT nokey STORE d", ":0"),
        ("SORT_RO nokey STORE d", syntax),
        ("SORT nokey BY", syntax),
        ("SORT nokey GET", syntax),
        ("SORT nokey STORE", syntax),
        ("SORT nokey LIMIT 1", syntax),
        ("SORT nokey WHAT", syntax),
        ("SORT str WHAT", syntax),
        (
            "SORT str LIMIT x 1",
            "-ERR value is not an integer or out of range",
        ),
        (
            "SORT str",
            "-WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
    ] {
        t.check(line, reply);
    }
}
