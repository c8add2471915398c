//! MULTI, EXEC, WATCH over one core and several.

use crate::harness::{Random, Server, setups};
use crate::resp::{Client, Value, bulk, ok, request};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}
fn error(text: &str) -> Value {
    Value::Error(text.to_string())
}
/// Runs the lines as a transaction: EXEC's answer.
fn exec(client: &mut Client, lines: &[&str]) -> Value {
    assert_eq!(client.call(&["MULTI"]), ok());
    for line in lines {
        assert_eq!(
            client.call(&words(line)),
            Value::Simple("QUEUED".into()),
            "{line}"
        );
    }
    client.call(&["EXEC"])
}
fn int(n: i64) -> Value {
    Value::Int(n)
}

#[test]
fn errors_are_those_of_redis() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        assert_eq!(c.call(&["EXEC"]), error("ERR EXEC without MULTI"));
        assert_eq!(c.call(&["DISCARD"]), error("ERR DISCARD without MULTI"));
        c.call(&["MULTI"]);
        assert_eq!(
            c.call(&["MULTI"]),
            error("ERR MULTI calls can not be nested")
        );
        assert_eq!(
            c.call(&["WATCH", "a"]),
            error("ERR WATCH inside MULTI is not allowed")
        );
        // Neither of these spoils the transaction.
        c.call(&["SET", "a", "1"]);
        assert_eq!(c.call(&["EXEC"]), Value::Array(vec![ok()]));
        c.call(&["MULTI"]);
        c.call(&["SET", "a"]);
        c.call(&["SET", "a", "2"]);
        let aborted = "EXECABORT Transaction discarded because of previous errors.";
        assert_eq!(c.call(&["EXEC"]), error(aborted));
        assert_eq!(c.call(&["GET", "a"]), bulk("1"));
        // An EXEC that is refused ends its transaction.
        c.call(&["MULTI"]);
        c.call(&["SET", "a", "2"]);
        let refused = "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command";
        assert_eq!(c.call(&["EXEC", "x"]), error(refused));
        assert_eq!(c.call(&["EXEC", "x"]), error(refused));
        assert_eq!(c.call(&["EXEC"]), error("ERR EXEC without MULTI"));
        c.call(&["MULTI"]);
        c.call(&["SET", "a", "3"]);
        assert_eq!(c.call(&["DISCARD"]), ok());
        assert_eq!(c.call(&["GET", "a"]), bulk("1"));
        c.call(&["MULTI"]);
        assert_eq!(c.call(&["RESET"]), Value::Simple("RESET".into()));
        assert_eq!(c.call(&["EXEC"]), error("ERR EXEC without MULTI"));
        // A command that fails as it runs does not stop the others.
        let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
        let got = exec(&mut c, &["SET b x", "LPUSH b 1", "INCR c"]);
        assert_eq!(got, Value::Array(vec![ok(), error(wrong), int(1)]));
        assert_eq!(exec(&mut c, &[]), Value::Array(vec![]));
    }
}

#[test]
fn every_kind_of_command_runs_in_a_transaction() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        let lines = [
            "SET x 1",
            "SET y 2",
            "MGET x y z",
            "DBSIZE",
            "RENAME x w",
            "EXISTS w x",
        ];
        let mget = Value::Array(vec![bulk("1"), bulk("2"), Value::Null]);
        let want = vec![ok(), ok(), mget, int(2), ok(), int(1)];
        assert_eq!(exec(&mut c, &lines), Value::Array(want), "{setup:?}");
        // The server's own commands, and a database chosen on the way.
        let lines = [
            "PING",
            "SELECT 3",
            "SET x 3",
            "COPY x q DB 0",
            "DBSIZE",
            "SELECT 0",
            "GET q",
        ];
        let pong = Value::Simple("PONG".into());
        let want = vec![pong, ok(), ok(), int(1), int(1), ok(), bulk("3")];
        assert_eq!(exec(&mut c, &lines), Value::Array(want), "{setup:?}");
        // A key that goes to another database where every core is held: it stays with its owner.
        for key in ["m1", "m2", "m3", "m4", "m5"] {
            let (set, moved) = (format!("SET {key} v"), format!("MOVE {key} 5"));
            let got = exec(&mut c, &[&set, &moved, "KEYS none"]);
            let want = vec![ok(), int(1), Value::Array(vec![])];
            assert_eq!(got, Value::Array(want), "{setup:?}");
            c.call(&["SELECT", "5"]);
            assert_eq!(c.call(&["GET", key]), bulk("v"), "{setup:?} {key}");
            c.call(&["SELECT", "0"]);
        }
        // Nobody waits in a transaction.
        let lines = [
            "BLPOP no1 no2 0",
            "BLMOVE no1 no2 LEFT LEFT 0",
            "RPUSH no1 a",
            "BLPOP no2 no1 0",
        ];
        let popped = Value::Array(vec![bulk("no1"), bulk("a")]);
        let want = vec![Value::Null, Value::Null, int(1), popped];
        assert_eq!(exec(&mut c, &lines), Value::Array(want), "{setup:?}");
        // In RESP2 two kinds of nothing: BLPOP's and BLMOVE's.
        c.send(&request(&["MULTI"]));
        c.send(&request(&words("BLPOP none 0")));
        c.send(&request(&words("BLMOVE none no2 LEFT LEFT 0")));
        c.send(&request(&["EXEC"]));
        for _ in 0..3 {
            c.read();
        }
        assert_eq!(c.read_raw(14), b"*2\r\n*-1\r\n$-1\r\n", "{setup:?}");
        // Keys that only the command can name.
        let lines = [
            "RPUSH l 1 2 3",
            "MSET w1 3 w2 2 w3 1 v1 a v2 b v3 c",
            "SORT l BY w* GET v*",
            "SORT l BY w* STORE sorted",
            "LRANGE sorted 0 -1",
            "FLUSHALL",
            "KEYS *",
        ];
        let sorted = |all: [&str; 3]| Value::Array(all.iter().map(bulk).collect());
        let (by, stored) = (sorted(["c", "b", "a"]), sorted(["3", "2", "1"]));
        let want = vec![int(3), ok(), by, int(3), stored, ok(), Value::Array(vec![])];
        assert_eq!(exec(&mut c, &lines), Value::Array(want), "{setup:?}");
    }
}

#[test]
fn replies_keep_their_order_around_transactions() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        let mut bytes = Vec::new();
        for n in 0..200 {
            let (a, b) = (format!("a{}", n % 7), format!("b{}", n % 5));
            let number = n.to_string();
            bytes.extend(request(&["SET", &a, &number]));
            bytes.extend(request(&["MULTI"]));
            bytes.extend(request(&["GET", &a]));
            if n % 3 > 0 {
                bytes.extend(request(&["SET", &b, &number]));
            }
            if n % 10 == 9 {
                bytes.extend(request(&["DBSIZE"]));
                bytes.extend(request(&["CONFIG", "GET", "port"]));
            }
            bytes.extend(request(&["EXEC"]));
            bytes.extend(request(&["GET", &a]));
            bytes.extend(request(&["ECHO", &number]));
        }
        c.send(&bytes);
        for n in 0..200 {
            let number = n.to_string();
            let queued = 1 + (n % 3 > 0) as usize + 2 * (n % 10 == 9) as usize;
            assert_eq!(c.read(), ok());
            assert_eq!(c.read(), ok());
            for _ in 0..queued {
                assert_eq!(c.read(), Value::Simple("QUEUED".into()), "{setup:?} {n}");
            }
            let Value::Array(replies) = c.read() else {
                panic!("EXEC answers an array")
            };
            assert_eq!(replies.len(), queued);
            assert_eq!(replies[0], bulk(&number), "{setup:?}");
            assert_eq!(c.read(), bulk(&number));
            assert_eq!(c.read(), bulk(&number));
        }
    }
}

#[test]
fn others_see_all_of_a_transaction_or_nothing() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let keys: Vec<String> = (0..8).map(|n| format!("account{n}")).collect();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for seed in 1..4 {
                let (keys, over, mut c) = (&keys, &over, server.connect());
                scope.spawn(move || {
                    let mut random = Random::with(seed);
                    while !over.load(Ordering::Relaxed) {
                        let (a, b) = (random.below(8), random.below(8));
                        let (from, to) = (&keys[a], &keys[b]);
                        let mut lines = vec![format!("DECRBY {from} 5"), format!("INCRBY {to} 5")];
                        if random.below(10) == 0 {
                            lines.push("DBSIZE".into());
                        }
                        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                        exec(&mut c, &lines);
                    }
                });
            }
            let mut c = server.connect();
            let mut all = vec!["MGET"];
            all.extend(keys.iter().map(String::as_str));
            for round in 0..600 {
                let Value::Array(values) = (if round % 2 == 0 {
                    c.call(&all)
                } else {
                    let gets: Vec<String> = keys.iter().map(|k| format!("GET {k}")).collect();
                    exec(&mut c, &gets.iter().map(String::as_str).collect::<Vec<_>>())
                }) else {
                    panic!("an array")
                };
                let sum: i64 = values
                    .iter()
                    .map(|v| match v {
                        Value::Bulk(text) => std::str::from_utf8(text).unwrap().parse().unwrap(),
                        _ => 0,
                    })
                    .sum();
                assert_eq!(sum, 0, "{setup:?}");
            }
            over.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn watch_notices_every_change() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let (mut c, mut other) = (server.connect(), server.connect());
        let run = |c: &mut Client, other: &mut Client, watched: &str, change: &[&str]| {
            c.call(&["FLUSHALL"]);
            c.call(&["SET", "here", "1"]);
            c.call(&["SET", "there", "1"]);
            c.call(&["RPUSH", "list", "1"]);
            let mut watch = vec!["WATCH"];
            watch.extend(words(watched));
            assert_eq!(c.call(&watch), ok());
            for line in change {
                other.call(&words(line));
            }
            exec(c, &["SET here 2", "SET there 2"]) == Value::Null
        };
        let mut spoilt = |watched, change: &[&str]| run(&mut c, &mut other, watched, change);
        assert!(!spoilt("here there", &[]), "{setup:?}");
        assert!(!spoilt("here", &["GET here", "SET elsewhere 1"]));
        assert!(spoilt("here", &["SET here 1"]));
        assert!(spoilt("here there", &["APPEND there x"]));
        assert!(spoilt("none", &["SET none 1"]));
        assert!(spoilt("here", &["DEL here"]));
        assert!(spoilt("there none", &["RENAME there none"]));
        assert!(spoilt("none", &["RENAME there none"]));
        assert!(spoilt("here", &["MSET there 2 here 3 k 4"]));
        assert!(spoilt("list", &["LMOVE list other{a} LEFT LEFT"]));
        assert!(spoilt("there", &["FLUSHALL"]));
        assert!(!spoilt("none", &["FLUSHALL"]));
        assert!(spoilt("there", &["SWAPDB 0 1"]));
        assert!(!spoilt("none", &["SWAPDB 0 1"]));
        assert!(spoilt("there", &["PEXPIRE there 1000"]));
        assert!(spoilt(
            "none",
            &["MULTI", "SET none 1", "SET here 1", "EXEC"]
        ));
        // Reading commands in another's transaction change nothing.
        assert!(!spoilt(
            "here there",
            &["MULTI", "GET here", "GET there", "EXEC"]
        ));
        assert!(!spoilt(
            "here there",
            &["MGET here there none", "COPY none there"]
        ));
    }
}

#[test]
fn watched_keys_that_expire_count_as_changed() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        c.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
        for key in ["k1", "k2", "k3", "k4"] {
            // It lives long enough to be there when WATCH comes, however slow the machine is.
            let mut life = 40;
            loop {
                c.call(&["SET", key, "1", "PX", &life.to_string()]);
                c.call(&["WATCH", key]);
                if c.call(&["EXISTS", key]) == Value::Int(1) {
                    break;
                }
                c.call(&["UNWATCH"]);
                life *= 2;
            }
            thread::sleep(Duration::from_millis(life + 20));
            assert_eq!(exec(&mut c, &["SET x 1"]), Value::Null, "{setup:?}");
            // It was gone when WATCH came.
            c.call(&["SET", key, "1", "PX", "1"]);
            thread::sleep(Duration::from_millis(10));
            c.call(&["WATCH", key]);
            assert_eq!(
                exec(&mut c, &["SET x 1"]),
                Value::Array(vec![ok()]),
                "{setup:?}"
            );
        }
    }
}

#[test]
fn optimistic_counters_lose_nothing() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        thread::scope(|scope| {
            for client in 0..4 {
                let mut c = server.connect();
                scope.spawn(move || {
                    // Two counters on different cores that always go together.
                    let mut done = 0;
                    while done < 50 {
                        c.call(&["WATCH", "counter", "shadow"]);
                        let number = |v| match v {
                            Value::Bulk(text) => String::from_utf8(text).unwrap().parse().unwrap(),
                            _ => 0i64,
                        };
                        let (a, b) = (
                            number(c.call(&["GET", "counter"])),
                            number(c.call(&["GET", "shadow"])),
                        );
                        let set = [
                            format!("SET counter {}", a + 1),
                            format!("SET shadow {}", b + 1),
                        ];
                        let both = client % 2 == 0;
                        let lines: Vec<&str> = set
                            .iter()
                            .map(String::as_str)
                            .take(1 + both as usize)
                            .collect();
                        if exec(&mut c, &lines) != Value::Null {
                            done += 1;
                        }
                    }
                });
            }
        });
        let mut c = server.connect();
        assert_eq!(c.call(&["GET", "counter"]), bulk("200"), "{setup:?}");
        assert_eq!(c.call(&["GET", "shadow"]), bulk("100"), "{setup:?}");
    }
}

/// EXECs that go out together are one after the other all the same, also for who waits for a key; and a command of one fails by itself.
#[test]
fn pipelined_transactions_over_cores_are_as_one_after_the_other() {
    for setup in setups(&[1, 2, 4]) {
        let server = Server::start(setup);
        let (mut c, mut waiting) = (server.connect(), server.connect());
        for round in 0..20 {
            let (q, s, n) = (
                format!("q{round}"),
                format!("s{round}"),
                format!("n{round}"),
            );
            waiting.send(&request(&["BLPOP", &q, "0"]));
            crate::blocking::await_blocked(&mut c, 1);
            let execs: [&[String]; 4] = [
                &[
                    format!("SET {s} 1"),
                    format!("RPUSH {q} v"),
                    format!("LLEN {q}"),
                ],
                &[
                    format!("LPOP {q}"),
                    format!("INCR {s}"),
                    format!("LPUSH {s} x"),
                ],
                &[
                    format!("BLPOP {q} 0"),
                    format!("MSET {n} 1 {s}"),
                    format!("INCR {n}"),
                ],
                &[
                    format!("GET {s}"),
                    format!("DEL {s}"),
                    format!("EXISTS {q} {q}"),
                    format!("GET {n}"),
                ],
            ];
            let mut bytes = Vec::new();
            for commands in execs {
                bytes.extend(request(&["MULTI"]));
                commands
                    .iter()
                    .for_each(|line| bytes.extend(request(&words(line))));
                bytes.extend(request(&["EXEC"]));
                bytes.extend(request(&["GET", &s]));
            }
            c.send(&bytes);
            let wrong = error("WRONGTYPE Operation against a key holding the wrong kind of value");
            let arity = error("ERR wrong number of arguments for 'mset' command");
            let replies = [
                (vec![ok(), int(1), int(1)], bulk("1")),
                (vec![Value::Null, int(2), wrong], bulk("2")),
                (vec![Value::Null, arity, int(1)], bulk("2")),
                (vec![bulk("2"), int(1), int(0), bulk("1")], Value::Null),
            ];
            for (commands, (replies, then)) in execs.iter().zip(replies) {
                assert_eq!(c.read(), ok(), "{setup:?}");
                for _ in *commands {
                    assert_eq!(c.read(), Value::Simple("QUEUED".into()), "{setup:?}");
                }
                assert_eq!(c.read(), Value::Array(replies), "{setup:?}");
                assert_eq!(c.read(), then, "{setup:?}");
            }
            let served = Value::Array(vec![bulk(&q), bulk("v")]);
            assert_eq!(waiting.read(), served, "{setup:?}");
        }
    }
}
