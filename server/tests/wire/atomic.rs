//! Commands over several cores, under contention from many connections: all or nothing, for every observer.

use crate::harness::{Random, Server, setups};
use crate::resp::{Client, Value, ok};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const CONNECTIONS: usize = 20;
const KEYS: usize = 8;

fn keys(prefix: &str) -> Vec<String> {
    (0..KEYS).map(|n| format!("{prefix}:{n}")).collect()
}
fn with<'a>(name: &'a str, words: &'a [String]) -> Vec<&'a str> {
    std::iter::once(name)
        .chain(words.iter().map(String::as_str))
        .collect()
}

/// Runs `f` on so many connections at once, each with its number and its own random numbers.
fn contend(server: &Server, f: impl Fn(usize, &mut Client, &mut Random) + Sync) {
    let mut seeds = Random::seeded();
    thread::scope(|scope| {
        for n in 0..CONNECTIONS {
            let mut random = Random::with(seeds.next());
            let mut client = server.connect();
            let f = &f;
            scope.spawn(move || f(n, &mut client, &mut random));
        }
    });
}

#[test]
fn all_keys_of_one_mset_are_equal_in_every_mget() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let keys = keys("same");
        contend(&server, |n, client, random| {
            for round in 0..400 {
                // Keys in any order: the order of words may not matter.
                let from = random.below(KEYS);
                let turned: Vec<String> =
                    (0..KEYS).map(|k| keys[(from + k) % KEYS].clone()).collect();
                match random.below(10) {
                    0..4 => {
                        let value = format!("{n}-{round}");
                        let mut words = vec!["MSET"];
                        turned.iter().for_each(|k| words.extend([k, &value[..]]));
                        assert_eq!(client.call(&words), ok());
                    }
                    4 => match client.call(&with("DEL", &turned)) {
                        Value::Int(count) => assert!(
                            count == 0 || count == KEYS as i64,
                            "DEL found {count} of {KEYS}"
                        ),
                        other => panic!("DEL answered {other:?}"),
                    },
                    5 => match client.call(&with("EXISTS", &turned)) {
                        Value::Int(count) => assert!(
                            count == 0 || count == KEYS as i64,
                            "EXISTS found {count} of {KEYS}"
                        ),
                        other => panic!("EXISTS answered {other:?}"),
                    },
                    6 => match client.call(&["DBSIZE"]) {
                        Value::Int(count) => assert!(
                            count == 0 || count == KEYS as i64,
                            "DBSIZE counted {count} of {KEYS}"
                        ),
                        other => panic!("DBSIZE answered {other:?}"),
                    },
                    _ => match client.call(&with("MGET", &turned)) {
                        Value::Array(values) => {
                            assert!(values.iter().all(|v| *v == values[0]), "{values:?}")
                        }
                        other => panic!("MGET answered {other:?}"),
                    },
                }
            }
        });
    }
}

#[test]
fn rename_neither_loses_nor_doubles_a_value() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let keys = keys("ball");
        assert_eq!(server.connect().call(&["SET", &keys[0], "ball"]), ok());
        let held = |values: &[Value]| values.iter().filter(|v| **v != Value::Null).count();
        contend(&server, |_, client, random| {
            for _ in 0..300 {
                let from = random.below(KEYS);
                let to = (from + 1 + random.below(KEYS - 1)) % KEYS;
                match random.below(4) {
                    0 => match client.call(&with("MGET", &keys)) {
                        Value::Array(values) => assert_eq!(held(&values), 1, "{values:?}"),
                        other => panic!("MGET answered {other:?}"),
                    },
                    1 => assert_eq!(client.call(&["DBSIZE"]), Value::Int(1)),
                    2 => {
                        // RENAMENX finds no key, or the other one free: there is only one.
                        let reply = client.call(&["RENAMENX", &keys[from], &keys[to]]);
                        let none = Value::Error("ERR no such key".into());
                        assert!(reply == Value::Int(1) || reply == none, "{reply:?}");
                    }
                    _ => {
                        let reply = client.call(&["RENAME", &keys[from], &keys[to]]);
                        let none = Value::Error("ERR no such key".into());
                        assert!(reply == ok() || reply == none, "{reply:?}");
                    }
                }
            }
        });
        assert_eq!(server.connect().call(&["DBSIZE"]), Value::Int(1));
    }
}

#[test]
fn copies_are_whole_and_msetnx_sets_all_or_nothing() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let keys = keys("nx");
        let wins = AtomicBool::new(false);
        contend(&server, |n, client, random| {
            for round in 0..300 {
                match random.below(5) {
                    0 | 1 => {
                        let value = format!("{n}-{round}");
                        let mut words = vec!["MSETNX"];
                        keys.iter().for_each(|k| words.extend([k, &value[..]]));
                        match client.call(&words) {
                            Value::Int(1) => wins.store(true, Ordering::Relaxed),
                            Value::Int(0) => {}
                            other => panic!("MSETNX answered {other:?}"),
                        }
                    }
                    2 => {
                        client.call(&with("DEL", &keys));
                    }
                    3 => {
                        // All keys are equal, so a copy from one over the other changes nothing.
                        let (from, to) = (random.below(KEYS), random.below(KEYS));
                        if from != to {
                            let words = ["COPY", &keys[from], &keys[to], "REPLACE"];
                            let reply = client.call(&words);
                            assert!(matches!(reply, Value::Int(0 | 1)), "{reply:?}");
                        }
                    }
                    _ => match client.call(&with("MGET", &keys)) {
                        Value::Array(values) => {
                            assert!(values.iter().all(|v| *v == values[0]), "{values:?}")
                        }
                        other => panic!("MGET answered {other:?}"),
                    },
                }
            }
        });
        assert!(wins.load(Ordering::Relaxed), "MSETNX never found all free");
    }
}

#[test]
fn who_saw_a_part_sees_the_whole() {
    // One connection writes both keys at once; others read one key, then the other, by single commands.
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let number = |value: Value| match value {
            Value::Bulk(text) => String::from_utf8_lossy(&text).parse::<u64>().unwrap(),
            Value::Null => 0,
            other => panic!("GET answered {other:?}"),
        };
        let keys = keys("seen");
        contend(&server, |n, client, random| {
            for round in 1..=500 {
                if n == 0 {
                    let value = round.to_string();
                    let mut words = vec!["MSET"];
                    keys.iter().for_each(|k| words.extend([k, &value[..]]));
                    assert_eq!(client.call(&words), ok());
                    continue;
                }
                let (one, two) = (random.below(KEYS), random.below(KEYS));
                let first = number(client.call(&["GET", &keys[one]]));
                let second = number(client.call(&["GET", &keys[two]]));
                assert!(
                    second >= first,
                    "{} of {} was seen, then {second} of {}",
                    first,
                    keys[one],
                    keys[two]
                );
            }
        });
    }
}
