//! Fields that expire: the commands, in each encoding, and all of them against a plain model while time passes.

use crate::commands::testing::Tester;
use crate::object::Object;
use crate::shard::Settings;
use proptest::prelude::*;
use std::collections::BTreeMap;

const NOW: i64 = 1_700_000_000_000;

/// Packed, and as a table from the first field on.
fn encodings() -> [(Tester, &'static str); 2] {
    [(512, "listpackex"), (0, "hashtable")].map(|(entries, name)| {
        let settings = Settings {
            hash_listpack_entries_max: entries,
            ..Settings::default()
        };
        (Tester::with(settings), name)
    })
}

fn run_timer(t: &mut Tester) {
    while t.shard.expire_some(10) {}
}

#[test]
fn fields_expire_one_by_one_and_the_key_with_the_last() {
    for (mut t, encoding) in encodings() {
        t.check("HSET h a 1 b 2 c 3", ":3");
        t.check_events("HPEXPIRE h 1000 FIELDS 2 a zz", &["hexpire h"])
            .check_log(&[&format!("HPEXPIREAT h {} FIELDS 1 a", NOW + 1000)])
            .check_encoding("h", encoding);
        t.check("HEXPIRE h 5 FIELDS 1 b", "*1 :1");
        t.check("HPTTL h FIELDS 4 a b c zz", "*4 :1000 :5000 :-1 :-2")
            .check("HTTL h FIELDS 1 a", "*1 :1");
        t.check("HPEXPIRETIME h FIELDS 1 a", &format!("*1 :{}", NOW + 1000));
        t.check(
            "HEXPIRETIME h FIELDS 1 a",
            &format!("*1 :{}", NOW / 1000 + 1),
        );
        t.advance(1400).listen();
        run_timer(&mut t);
        t.check_new_events("hexpired h");
        let logged = t.shard.log.take(Vec::new()).bytes;
        let expected = "*2 $6 SELECT $1 0 *3 $4 HDEL $1 h $1 a ";
        assert_eq!(
            String::from_utf8_lossy(&logged).replace("\r\n", " "),
            expected
        );
        t.check("HLEN h", ":2").check("HGET h a", "$-1");
        t.check("HDEL h c", ":1").check_new_events("hdel h");
        t.advance(4000);
        run_timer(&mut t);
        t.check_new_events("hexpired h, del h");
        t.check("EXISTS h", ":0");
        assert_eq!(t.shard.stats.expired_fields, 2);
        assert!(t.shard.next_expiry().is_none());
    }
}

#[test]
fn conditions_and_times_that_have_come() {
    for (mut t, _) in encodings() {
        t.check("HSET h a 1 b 2 c 3", ":3");
        t.check("HEXPIRE h 100 FIELDS 2 a a", "*2 :1 :1")
            .check("HEXPIRE h 100 NX FIELDS 2 a b", "*2 :0 :1")
            .check("HEXPIRE h 50 GT FIELDS 3 a b c", "*3 :0 :0 :0")
            .check("HEXPIRE h 50 lt FIELDS 3 a b c", "*3 :1 :1 :1")
            .check("HEXPIRE h 50 XX FIELDS 3 a b zz", "*3 :1 :1 :-2")
            .check("HEXPIRE h 51 GT FIELDS 1 a", "*1 :1");
        t.check("HPERSIST h FIELDS 2 a zz", "*2 :1 :-2")
            .check_log(&["HPERSIST h FIELDS 1 a"])
            .check("HPERSIST h FIELDS 1 a", "*1 :-1");
        t.check_events("HEXPIREAT h 1 FIELDS 2 a a", &["hdel h"])
            .check_log(&["HDEL h a"]);
        t.check("HPEXPIREAT h 0 NX FIELDS 1 b", "*1 :0");
        t.check_events("HPEXPIRE h 0 FIELDS 2 b c", &["hdel h", "del h"])
            .check_log(&["HDEL h b c"])
            .check("EXISTS h", ":0");
        t.check("HEXPIRE h 10 FIELDS 2 a b", "*2 :-2 :-2");
    }
}

#[test]
fn getting_with_a_change() {
    for (mut t, _) in encodings() {
        t.check("HSET h a 1 b 2 c 3", ":3");
        t.check("HGETEX h FIELDS 2 a zz", "*2 $1 1 $-1");
        t.check("HGETEX h EX 10 FIELDS 2 a zz", "*2 $1 1 $-1")
            .check_log(&[&format!("HPEXPIREAT h {} FIELDS 1 a", NOW + 10_000)]);
        t.check("HTTL h FIELDS 2 a b", "*2 :10 :-1");
        t.check_events("HGETEX h PERSIST FIELDS 2 a b", &["hpersist h"])
            .check_log(&["HPERSIST h FIELDS 1 a"]);
        t.check_events("HGETEX h PXAT 1 FIELDS 1 a", &["hdel h"])
            .check_log(&["HDEL h a"]);
        t.check("HGETDEL h FIELDS 3 b b c", "*3 $1 2 $-1 $1 3")
            .check_log(&["HDEL h b c"])
            .check("EXISTS h", ":0");
        t.check("HGETDEL h FIELDS 1 a", "*1 $-1")
            .check("HGETEX h EX 5 FIELDS 1 a", "*1 $-1");
    }
}

#[test]
fn setting_with_an_expiry() {
    for (mut t, encoding) in encodings() {
        t.check_events(
            "HSETEX h PX 5000 FIELDS 2 a 1 b 2",
            &["new h", "hset h", "hexpire h"],
        )
        .check_log(&[&format!("HSETEX h PXAT {} FIELDS 2 a 1 b 2", NOW + 5000)])
        .check_encoding("h", encoding);
        t.check("HSETEX h FNX FIELDS 2 a 1 c 2", ":0")
            .check("HSETEX h FXX FIELDS 2 a 1 c 2", ":0")
            .check("HSETEX h FXX KEEPTTL FIELDS 1 a 3", ":1")
            .check("HPTTL h FIELDS 1 a", "*1 :5000")
            .check("HINCRBY h a 4", ":7")
            .check("HINCRBYFLOAT h a 0.5", "$3 7.5")
            .check_log(&["HSETEX h KEEPTTL FIELDS 1 a 7.5"])
            .check("HPTTL h FIELDS 1 a", "*1 :5000");
        t.check("HSETEX h FIELDS 1 a 3", ":1")
            .check("HPTTL h FIELDS 2 a b", "*2 :-1 :5000")
            .check("HSET h b 4", ":0")
            .check("HPTTL h FIELDS 1 b", "*1 :-1");
        t.check_events(
            "HSETEX h PXAT 1 FIELDS 2 a 1 b 2",
            &["hset h", "hdel h", "del h"],
        )
        .check_log(&["HDEL h a b"])
        .check("EXISTS h", ":0");
    }
}

/// What commands do in the time between a field's end and the timer's coming by.
#[test]
fn expired_fields_are_not_seen() {
    for (mut t, _) in encodings() {
        let make = |t: &mut Tester| {
            t.check("DEL h", ":1").check("HSET h x 1 y 2", ":2");
            t.check("HPEXPIRE h 100 FIELDS 1 x", "*1 :1").advance(100);
        };
        t.check("SET h v", "+OK");
        make(&mut t);
        t.check("HGETALL h", "*2 $1 y $1 2")
            .check("HKEYS h", "*1 $1 y")
            .check("HVALS h", "*1 $1 2")
            .check("HSCAN h 0", "*2 $1 0 *2 $1 y $1 2")
            .check("HRANDFIELD h", "$1 y")
            .check("HRANDFIELD h 2", "*1 $1 y")
            .check("HRANDFIELD h -2", "*2 $1 y $1 y")
            .check("HTTL h FIELDS 1 x", "*1 :-2")
            .check("HPERSIST h FIELDS 1 x", "*1 :-2")
            .check("HEXPIRE h 10 FIELDS 1 x", "*1 :-2")
            .check("RPUSH l h", ":1")
            .check("SORT l BY nosort GET *->x GET *->y", "*2 $-1 $1 2")
            .check("HLEN h", ":2");
        for (line, reply) in [
            ("HGET h x", "$-1"),
            ("HMGET h x y x", "*3 $-1 $1 2 $-1"),
            ("HEXISTS h x", ":0"),
            ("HSTRLEN h x", ":0"),
            ("HGETDEL h FIELDS 1 x", "*1 $-1"),
            ("HGETEX h EX 5 FIELDS 1 x", "*1 $-1"),
        ] {
            make(&mut t);
            t.listen().check(line, reply).check_new_events("hexpired h");
            t.shard.listening = false;
            t.check("HLEN h", ":1");
        }
        make(&mut t);
        t.check("HGET h x", "$-1").check_log(&["HDEL h x"]);
        make(&mut t);
        t.check_events("HINCRBY h x 5", &["hexpired h", "hincrby h"])
            .check_log(&["HDEL h x", "HINCRBY h x 5"])
            .check("HTTL h FIELDS 1 x", "*1 :-1");
        make(&mut t);
        t.check("HINCRBYFLOAT h x 5", "$1 5")
            .check_log(&["HDEL h x", "HSET h x 5"]);
        make(&mut t);
        t.check_events("HSETNX h x 5", &["hexpired h", "hset h"])
            .check_log(&["HDEL h x", "HSETNX h x 5"]);
        make(&mut t);
        t.check("HSETEX h FXX FIELDS 1 x 5", ":0")
            .check("HSETEX h KEEPTTL FIELDS 1 x 5", ":1")
            .check_log(&["HDEL h x", "HSETEX h KEEPTTL FIELDS 1 x 5"])
            .check("HGET h x", "$1 5");
        make(&mut t);
        t.check("HDEL h x", ":1").check("HLEN h", ":1");
        make(&mut t);
        t.check("HDEL h y", ":1")
            .check_events("HGET h x", &["hexpired h", "del h"]);
        t.check("SET h v", "+OK");
    }
}

#[test]
fn times_go_along_with_the_value() {
    for (mut t, _) in encodings() {
        t.check("HSET h a 1 b 2", ":2")
            .check("HPEXPIRE h 5000 FIELDS 1 a", "*1 :1");
        t.check("COPY h copy", ":1")
            .check("RENAME h g", "+OK")
            .check("MOVE g 1", ":1");
        t.check("HPTTL copy FIELDS 2 a b", "*2 :5000 :-1");
        let parts = t.shard.lend(0, b"copy").expect("it is there");
        t.shard.restore(0, b"lent", parts);
        t.check("PEXPIRE lent 9000", ":1")
            .check("PERSIST lent", ":1");
        t.advance(6000);
        run_timer(&mut t);
        t.check("HLEN lent", ":1");
        t.db = 1;
        t.check("HLEN g", ":1").check("HGETALL g", "*2 $1 b $1 2");
    }
}

#[test]
fn many_fields_that_expire_at_once_go_in_small_steps() {
    for (mut t, _) in encodings() {
        for i in 0..200 {
            t.run(&format!("HSETEX h PX 100 FIELDS 1 field{i} value"));
        }
        t.run("HSET h stays 1");
        t.advance(400);
        t.shard.expire_some(1);
        assert_eq!(t.shard.stats.expired_fields, 16);
        t.check("HLEN h", ":185")
            .check("HGETALL h", "*2 $5 stays $1 1");
        run_timer(&mut t);
        t.check("HLEN h", ":1");
        assert!(t.shard.next_expiry().is_none());
    }
}

#[test]
fn random_fields_are_found_among_many_expired_ones() {
    for (mut t, _) in encodings() {
        for i in 0..300 {
            t.run(&format!("HSETEX h PX 100 FIELDS 1 field{i} {i}"));
        }
        t.check("HSET h a 1 b 2", ":2").advance(100);
        let words = |t: &mut Tester, line: &str| {
            let reply = String::from_utf8(t.run(line)).unwrap();
            let mut words: Vec<String> = reply
                .split("\r\n")
                .filter(|w| !w.starts_with(['*', '$']) && !w.is_empty())
                .map(str::to_string)
                .collect();
            words.sort();
            words.join(" ")
        };
        let both = ["a b", "a a", "b b"];
        for _ in 0..20 {
            assert!(["a", "b"].contains(&words(&mut t, "HRANDFIELD h").as_str()));
            assert!(both.contains(&words(&mut t, "HRANDFIELD h -2").as_str()));
            assert!(["a", "b"].contains(&words(&mut t, "HRANDFIELD h 1").as_str()));
        }
        t.check("HLEN h", ":302");
        assert_eq!(words(&mut t, "HRANDFIELD h 2"), "a b");
        assert_eq!(words(&mut t, "HRANDFIELD h 500 WITHVALUES"), "1 2 a b");
        t.check("HDEL h a b", ":2")
            .check("HRANDFIELD h", "$-1")
            .check("HRANDFIELD h 5", "*0")
            .check("HRANDFIELD h -5", "*0");
    }
}

#[test]
fn errors_come_in_redis_order() {
    let mut t = Tester::new();
    t.check("HSET h a 1", ":1").check("SET s v", "+OK");
    let fields = "-ERR Mandatory argument FIELDS is missing or not at the right position";
    let matching = "-ERR The `numfields` parameter must match the number of arguments";
    let positive = "-ERR Number of fields must be a positive integer";
    let number = "-ERR value is not an integer or out of range";
    let negative = "-ERR invalid expire time, must be >= 0";
    let kind = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    let one_ttl = "-ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified";
    let one_condition = "-ERR Only one of FXX or FNX arguments can be specified";
    let arity = "-ERR wrong number of arguments for 'hsetex' command";
    for (line, reply) in [
        ("HEXPIRE s x y z w", kind),
        ("HEXPIRE h x NX XX 1 a", number),
        ("HEXPIRE no -1 FIELDS 1 a", negative),
        ("HEXPIRE h 10 NX XX FIELDS 1 a", fields),
        ("HEXPIRE no 10 FIELDS 2 a", matching),
        (
            "HEXPIRE h 10 FIELDS 0 a",
            "-ERR Parameter `numFields` should be greater than 0",
        ),
        (
            "HEXPIRE h 70368744177 FIELDS 1 a",
            "-ERR invalid expire time in 'hexpire' command",
        ),
        (
            "HPEXPIREAT h 70368744177664 FIELDS 1 a",
            "-ERR invalid expire time in 'hpexpireat' command",
        ),
        ("HPEXPIREAT h 70368744177663 FIELDS 1 a", "*1 :1"),
        ("HTTL s FOO 0 a", kind),
        ("HTTL h FOO 0 a", fields),
        ("HTTL h FIELDS 01 a", positive),
        ("HPERSIST h FIELDS 1 a a", matching),
        ("HGETEX s FOO 0 a", kind),
        ("HGETEX h EX x FIELDS 1 a", number),
        (
            "HGETEX h EX 10 FIELDS",
            "-ERR wrong number of arguments for 'hgetex' command",
        ),
        ("HGETEX h EX 10 FIELDS 1", matching),
        ("HGETEX h EX 10 PX 10 FIELDS 1 a", fields),
        ("HGETDEL h FIELDS x a", positive),
        ("HSETEX s FOO 0 a b", "-ERR unknown argument: FOO"),
        ("HSETEX s FIELDS 1 a b", kind),
        ("HSETEX h FNX EX 10 FIELDS 1 a", arity),
        ("HSETEX h FIELDS 0 a 1", "-ERR invalid number of fields"),
        ("HSETEX h FIELDS 2 a 1 b", arity),
        ("HSETEX h EX 10 KEEPTTL FIELDS 1 a 1", one_ttl),
        ("HSETEX h FNX FNX FIELDS 1 a 1", one_condition),
        ("HSETEX h EX -1 FIELDS 1 a 1", negative),
    ] {
        t.check(line, reply);
    }
}

/// A field as the model has it.
type Model = BTreeMap<String, (i64, Option<i64>)>;

fn alive(model: &Model, field: &str, now: i64) -> bool {
    model
        .get(field)
        .is_some_and(|f| f.1.is_none_or(|at| at > now))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..Default::default() })]
    /// All that can change fields and times, while the clock goes on and the timer runs now and then.
    #[test]
    fn hashes_behave_like_a_map_with_times(
        entries in prop_oneof![Just(0usize), Just(6), Just(512)],
        steps in prop::collection::vec((0u8..14, 0u8..12, 0i64..3000), 1..250),
    ) {
        let mut t = Tester::with(Settings { hash_listpack_entries_max: entries, ..Settings::default() });
        let mut model = Model::new();
        for (action, n, x) in steps {
            let now = t.shard.now_ms;
            let field = format!("f{n}");
            let live = alive(&model, &field, now);
            let nil = "$-1".to_string();
            let bulk = |v: i64| format!("${} {v}", v.to_string().len());
            match action {
                0 | 1 => {
                    // Writing a field that has expired and is still there makes no new one.
                    let new = !model.contains_key(&field);
                    t.check(&format!("HSET h {field} {x}"), &format!(":{}", new as u8));
                    model.insert(field, (x, None));
                }
                2 => {
                    t.check(&format!("HSETEX h PX {} FIELDS 1 {field} {x}", x + 1), ":1");
                    model.insert(field, (x, Some(now + x + 1)));
                }
                3 | 4 => {
                    let reply = if !live { "*1 :-2" } else { "*1 :1" };
                    t.check(&format!("HPEXPIRE h {} FIELDS 1 {field}", x + 1), reply);
                    if live {
                        model.entry(field).and_modify(|f| f.1 = Some(now + x + 1));
                    }
                }
                5 => {
                    let had = live && model[&field].1.is_some();
                    let reply = if !live { "*1 :-2" } else if had { "*1 :1" } else { "*1 :-1" };
                    t.check(&format!("HPERSIST h FIELDS 1 {field}"), reply);
                    if live {
                        model.entry(field).and_modify(|f| f.1 = None);
                    }
                }
                6 => {
                    let sum = if live { model[&field].0 } else { 0 } + x;
                    t.check(&format!("HINCRBY h {field} {x}"), &format!(":{sum}"));
                    let at = if live { model[&field].1 } else { None };
                    model.insert(field, (sum, at));
                }
                7 => {
                    let there = model.remove(&field).is_some();
                    t.check(&format!("HDEL h {field}"), &format!(":{}", there as u8));
                }
                8 => {
                    let value = if live { bulk(model[&field].0) } else { nil };
                    t.check(&format!("HGETDEL h FIELDS 1 {field}"), &format!("*1 {value}"));
                    model.remove(&field);
                }
                9 | 10 => {
                    let value = if live { bulk(model[&field].0) } else { nil };
                    t.check(&format!("HGET h {field}"), &value);
                    if !live {
                        model.remove(&field);
                    }
                }
                11 => {
                    t.advance(x);
                }
                12 => {
                    t.advance(x);
                    run_timer(&mut t);
                    // The timer may be late by two of its ticks.
                    let now = t.shard.now_ms;
                    let key = t.shard.key(b"h");
                    let left = t.shard.keyspace.get(0, key).map_or(0, |e| super::value::View::of(e, i64::MIN).len());
                    let due = |f: &(i64, Option<i64>), by: i64| f.1.is_some_and(|at| at <= by);
                    let least = model.values().filter(|f| !due(f, now)).count();
                    let most = model.values().filter(|f| !due(f, now - 256)).count();
                    prop_assert!((least..=most).contains(&left), "{least} {left} {most}");
                    // Which of those that are due went is the timer's affair: all of them are taken out here.
                    let over: Vec<String> = model.iter().filter(|f| due(f.1, now)).map(|f| f.0.clone()).collect();
                    for field in over {
                        t.run(&format!("HDEL h {field}"));
                        model.remove(&field);
                    }
                }
                _ => {
                    t.run("RENAME h g");
                    t.run("COPY g h REPLACE");
                    t.run("DEL g");
                }
            }
            let now = t.shard.now_ms;
            t.check("HLEN h", &format!(":{}", model.len()));
            let reply = String::from_utf8(t.run("HGETALL h")).unwrap().replace("\r\n", " ");
            let words: Vec<&str> = reply.split(' ').filter(|w| !w.starts_with(['*', '$']) && !w.is_empty()).collect();
            let found: BTreeMap<String, i64> = words.chunks(2).map(|p| (p[0].to_string(), p[1].parse().unwrap())).collect();
            let expected: BTreeMap<String, i64> = model.iter().filter(|f| alive(&model, f.0, now)).map(|f| (f.0.clone(), f.1.0)).collect();
            prop_assert_eq!(found, expected);
            for field in model.keys() {
                let left = match model[field].1 {
                    None => -1,
                    Some(at) if at <= now => -2,
                    Some(at) => at - now,
                };
                t.check(&format!("HPTTL h FIELDS 1 {field}"), &format!("*1 :{left}"));
            }
            let key = t.shard.key(b"h");
            if let Some(entry) = t.shard.keyspace.get(0, key) {
                // What the timer needs to know.
                prop_assert_eq!(entry.earliest_field(), model.values().filter_map(|f| f.1).min());
                prop_assert!(entry.next_time().is_none() || entry.in_wheel());
                if entry.is_object() && let Object::Hash(table) = entry.object() {
                    table.check_invariants();
                }
            }
        }
        // In the end all that expires is gone.
        t.advance(10_000);
        run_timer(&mut t);
        let lasting = model.values().filter(|f| f.1.is_none()).count();
        t.check("HLEN h", &format!(":{lasting}"));
        t.check("EXISTS h", &format!(":{}", (lasting > 0) as u8));
    }
}

/// Conditions on the key are Valkey's; with those on fields both must hold.
#[test]
fn hsetex_asks_whether_there_is_a_hash() {
    for (mut t, _) in encodings() {
        t.check("HSETEX h XX FIELDS 1 a 1", ":0")
            .check("EXISTS h", ":0")
            .check("HSETEX h NX NX EX 10 FIELDS 1 a 1", ":1")
            .check("HSETEX h NX FIELDS 1 b 1", ":0")
            .check("HSETEX h XX FNX FIELDS 1 a 2", ":0")
            .check("HSETEX h FNX XX FIELDS 1 b 2", ":1")
            .check("HSETEX h NX XX FIELDS 1 c 1", "-ERR syntax error");
        t.check("HMGET h a b c", "*3 $1 1 $1 2 $-1");
    }
}
