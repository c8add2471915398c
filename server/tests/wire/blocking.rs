//! Clients that wait for keys: served once, the longest waiting first, and nothing lost when they go.

use crate::harness::{Random, Server, setups};
use crate::resp::{Client, Value, bulk, ok, request};
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}
fn pair(key: &str, value: &str) -> Value {
    Value::Array(vec![bulk(key), bulk(value)])
}
/// Waits until so many clients are blocked.
pub fn await_blocked(client: &mut Client, count: usize) {
    let wanted = format!("\r\nblocked_clients:{count}\r\n");
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let Value::Bulk(text) = client.call(&["INFO", "clients"]) else {
            panic!("INFO answers text");
        };
        if String::from_utf8_lossy(&text).contains(&wanted) {
            return;
        }
        assert!(Instant::now() < end, "never {count} blocked clients");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_longest_waiting_client_is_served_first() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut pusher = server.connect();
        let mut waiters: Vec<Client> = Vec::new();
        for n in 0..6 {
            let mut client = server.connect();
            // Keys on several cores for every other one.
            let line = if n % 2 == 0 {
                "BLPOP q 0"
            } else {
                "BLPOP other{x} q another{y} 0"
            };
            client.send(&request(&words(line)));
            waiters.push(client);
            await_blocked(&mut pusher, n + 1);
        }
        for (n, waiter) in waiters.iter_mut().enumerate() {
            let value = format!("v{n}");
            assert_eq!(pusher.call(&["RPUSH", "q", &value]), Value::Int(1));
            assert_eq!(waiter.read(), pair("q", &value), "{setup:?}");
        }
        assert_eq!(pusher.call(&["EXISTS", "q"]), Value::Int(0));
        await_blocked(&mut pusher, 0);
    }
}

/// Who waited for keys of several cores was passed by who came later: the element that another client had pushed for the one
/// was popped by the other, or by the pusher itself.
#[test]
fn a_newcomer_does_not_overtake_who_waits_for_keys_of_several_cores() {
    for setup in setups(&[4]) {
        let server = Server::start(setup);
        let (mut waiting, mut pusher) = (server.connect(), server.connect());
        for round in 0..400 {
            // Other keys each time: of this core, of that one, of none of the two connections'.
            let (other, key) = (format!("other{round}"), format!("q{round}"));
            waiting.send(&request(&["BLPOP", &other, &key, "0"]));
            await_blocked(&mut pusher, 1);
            assert_eq!(pusher.call(&["RPUSH", &key, "v"]), Value::Int(1));
            let late = pusher.call(&["BLPOP", &key, &other, "0.001"]);
            assert_eq!(late, Value::Null, "{setup:?}, round {round}");
            assert_eq!(waiting.read(), pair(&key, "v"), "{setup:?}, round {round}");
        }
    }
}

#[test]
fn keys_are_tried_in_argument_order() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut client = server.connect();
        for key in ["c", "b", "a"] {
            client.call(&["RPUSH", key, "1"]);
        }
        for key in ["b", "c", "a"] {
            assert_eq!(client.call(&words("BLPOP b c a 0")), pair(key, "1"));
        }
        assert_eq!(client.call(&words("BLPOP b c a 0.01")), Value::Null);
    }
}

#[test]
fn replies_before_a_blocking_command_go_out_and_what_is_behind_it_waits() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let (mut client, mut pusher) = (server.connect(), server.connect());
        for key in ["k1", "k2", "k3", "k4"] {
            let mut bytes = request(&["SET", "before", "1"]);
            bytes.extend(request(&["BLPOP", key, "0"]));
            bytes.extend(request(&["SET", "behind", key]));
            bytes.extend(request(&["GET", "behind"]));
            client.send(&bytes);
            assert_eq!(client.read(), ok());
            await_blocked(&mut pusher, 1);
            assert_ne!(pusher.call(&["GET", "behind"]), bulk(key));
            pusher.call(&["RPUSH", key, "v"]);
            client.expect(&[pair(key, "v"), ok(), bulk(key)]);
        }
    }
}

#[test]
fn timeouts_are_kept_in_fractions_of_a_second() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut client = server.connect();
        for line in [
            "BLPOP a b c d 0.15",
            "BRPOPLPUSH a b 0.15",
            "BLMOVE a b LEFT RIGHT 0.15",
            "BLMPOP 0.15 3 a b c LEFT",
        ] {
            let begin = Instant::now();
            assert_eq!(client.call(&words(line)), Value::Null, "{line}");
            assert!(begin.elapsed() >= Duration::from_millis(150), "{line}");
        }
        for (line, error) in [
            ("BLPOP a -1", "ERR timeout is negative"),
            ("BLPOP a x", "ERR timeout is not a float or out of range"),
        ] {
            assert_eq!(client.call(&words(line)), Value::Error(error.into()));
        }
        await_blocked(&mut client, 0);
    }
}

#[test]
fn client_unblock_ends_a_wait() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut other = server.connect();
        for key in ["a", "b", "c"] {
            let mut client = server.connect();
            let Value::Int(id) = client.call(&["CLIENT", "ID"]) else {
                panic!("CLIENT ID is a number");
            };
            let id = id.to_string();
            assert_eq!(other.call(&["CLIENT", "UNBLOCK", &id]), Value::Int(0));
            for (how, reply) in [
                ("TIMEOUT", Value::Null),
                (
                    "ERROR",
                    Value::Error("UNBLOCKED client unblocked via CLIENT UNBLOCK".into()),
                ),
            ] {
                client.send(&request(&["BLPOP", key, "z", "0"]));
                await_blocked(&mut other, 1);
                assert_eq!(other.call(&["CLIENT", "UNBLOCK", &id, how]), Value::Int(1));
                assert_eq!(client.read(), reply);
            }
            // It takes nothing any more.
            assert_eq!(other.call(&["RPUSH", key, "v"]), Value::Int(1));
            assert_eq!(other.call(&["LLEN", key]), Value::Int(1));
        }
    }
}

#[test]
fn nothing_is_taken_for_a_client_that_is_gone() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut other = server.connect();
        for key in ["a", "b", "c", "d"] {
            let mut gone = server.connect();
            gone.send(&request(&["BLPOP", "x", key, "y", "0"]));
            await_blocked(&mut other, 1);
            drop(gone);
            await_blocked(&mut other, 0);
            assert_eq!(other.call(&["RPUSH", key, "v"]), Value::Int(1));
            assert_eq!(
                other.call(&["LRANGE", key, "0", "-1"]),
                Value::Array(vec![bulk("v")])
            );
        }
    }
}

#[test]
fn blmove_serves_across_cores_and_wakes_who_waits_for_its_destination() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut pusher = server.connect();
        for n in 0..8 {
            let (from, to) = (format!("from{n}"), format!("to{n}"));
            let (mut mover, mut taker) = (server.connect(), server.connect());
            mover.send(&request(&["BLMOVE", &from, &to, "RIGHT", "LEFT", "0"]));
            await_blocked(&mut pusher, 1);
            taker.send(&request(&["BLPOP", &to, "0"]));
            await_blocked(&mut pusher, 2);
            pusher.call(&["RPUSH", &from, "v"]);
            assert_eq!(mover.read(), bulk("v"));
            assert_eq!(taker.read(), pair(&to, "v"));
            assert_eq!(pusher.call(&["EXISTS", &from, &to]), Value::Int(0));
        }
    }
}

/// Producers and consumers over many keys and cores: every element comes out exactly once.
#[test]
fn every_element_comes_out_once() {
    const KEYS: usize = 12;
    const EACH: usize = 400;
    const PRODUCERS: usize = 4;
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let taken = AtomicUsize::new(0);
        let seen = Mutex::new(HashSet::new());
        let mut seeds = Random::seeded();
        thread::scope(|scope| {
            for producer in 0..PRODUCERS {
                let (mut client, mut random) = (server.connect(), Random::with(seeds.next()));
                scope.spawn(move || {
                    for n in 0..EACH {
                        let key = format!("q{}", random.below(KEYS));
                        let value = format!("{producer}-{n}");
                        let side = ["LPUSH", "RPUSH"][random.below(2)];
                        assert!(matches!(client.call(&[side, &key, &value]), Value::Int(_)));
                    }
                });
            }
            for _ in 0..8 {
                let (mut client, mut random) = (server.connect(), Random::with(seeds.next()));
                let (taken, seen) = (&taken, &seen);
                scope.spawn(move || {
                    while taken.load(Ordering::Relaxed) < PRODUCERS * EACH {
                        let from = random.below(KEYS);
                        let keys: Vec<String> = (0..KEYS)
                            .map(|k| format!("q{}", (from + k) % KEYS))
                            .collect();
                        let got = match random.below(3) {
                            0 => {
                                let mut line = vec!["BLPOP"];
                                line.extend(keys.iter().map(String::as_str));
                                line.push("0.05");
                                client.call(&line)
                            }
                            1 => client.call(&["BRPOP", &keys[0], &keys[1], "0.05"]),
                            _ => match client
                                .call(&["BLMOVE", &keys[0], &keys[1], "LEFT", "RIGHT", "0.02"])
                            {
                                Value::Bulk(_) | Value::Null => continue,
                                other => panic!("BLMOVE answered {other:?}"),
                            },
                        };
                        match got {
                            Value::Array(items) => {
                                let value = items.into_iter().nth(1).expect("a key and a value");
                                let Value::Bulk(value) = value else {
                                    panic!("a value")
                                };
                                assert!(
                                    seen.lock().unwrap().insert(value),
                                    "an element came twice"
                                );
                                taken.fetch_add(1, Ordering::Relaxed);
                            }
                            Value::Null => {}
                            other => panic!("a pop answered {other:?}"),
                        }
                    }
                });
            }
        });
        assert_eq!(seen.lock().unwrap().len(), PRODUCERS * EACH, "{setup:?}");
        let mut client = server.connect();
        assert_eq!(client.call(&["DBSIZE"]), Value::Int(0));
        await_blocked(&mut client, 0);
    }
}

/// The id of the one client that waits.
fn blocked_id(client: &mut Client) -> String {
    await_blocked(client, 1);
    let Value::Bulk(text) = client.call(&["CLIENT", "LIST"]) else {
        panic!("CLIENT LIST answers text");
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find(|line| line.contains(" flags=b "));
    let line = line.unwrap_or_else(|| panic!("nobody waits: {text}"));
    line["id=".len()..]
        .split(' ')
        .next()
        .expect("a number")
        .to_owned()
}

/// WAIT answered 0 at once, WAITAOF did so where only replicas were wanted.
#[test]
fn who_wants_replicas_waits_for_them() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let (mut c, mut other) = (server.connect(), server.connect());
        let none = Value::Array(vec![Value::Int(0), Value::Int(0)]);
        assert_eq!(c.call(&["WAIT", "0", "0"]), Value::Int(0));
        assert_eq!(c.call(&["WAIT", "-1", "0"]), Value::Int(0));
        for (words, reply) in [
            (&["WAIT", "1", "50"][..], Value::Int(0)),
            (&["WAITAOF", "0", "1", "50"], none.clone()),
        ] {
            let begun = Instant::now();
            // What a pipeline has behind it waits too.
            c.send(
                &[
                    request(&["SET", "k", "v"]),
                    request(words),
                    request(&["GET", "k"]),
                ]
                .concat(),
            );
            assert_eq!(c.read(), ok());
            assert_eq!(c.read(), reply, "{setup:?} {words:?}");
            assert!(begun.elapsed() >= Duration::from_millis(49), "{words:?}");
            assert_eq!(c.read(), bulk("v"));
            // Others do not.
            assert_eq!(other.call(&["GET", "k"]), bulk("v"));
        }
        for (words, reply) in [
            (&["WAIT", "1", "0"][..], Value::Int(0)),
            (&["WAITAOF", "0", "1", "0"], none.clone()),
        ] {
            c.send(&request(words));
            let id = blocked_id(&mut other);
            assert_eq!(other.call(&["CLIENT", "UNBLOCK", &id]), Value::Int(1));
            assert_eq!(c.read(), reply);
            c.send(&request(words));
            assert_eq!(blocked_id(&mut other), id);
            assert_eq!(
                other.call(&["CLIENT", "UNBLOCK", &id, "ERROR"]),
                Value::Int(1)
            );
            let told = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
            assert_eq!(c.read(), Value::Error(told.into()));
            await_blocked(&mut other, 0);
            assert_eq!(other.call(&["CLIENT", "UNBLOCK", &id]), Value::Int(0));
            // A transaction and a script wait for nothing.
            c.call(&["MULTI"]);
            c.call(words);
            assert_eq!(c.call(&["EXEC"]), Value::Array(vec![reply.clone()]));
            let script = "return redis.call(unpack(ARGV))";
            let call = [&["EVAL", script, "0"], words].concat();
            assert_eq!(c.call(&call), reply);
            let mut gone = server.connect();
            gone.send(&request(words));
            await_blocked(&mut other, 1);
            drop(gone);
            await_blocked(&mut other, 0);
        }
    }
}
