//! Readers of streams that wait, alone and as members of groups, for keys of one core and of several.

use crate::blocking::{await_blocked, words};
use crate::harness::{Random, Server, setups};
use crate::resp::{Client, Value, bulk, ok, request};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const NOT_A_STREAM: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

/// What a reader of one stream gets: entries of one field `f`.
fn entries(key: &str, entries: &[(&str, &str)]) -> Value {
    let entry = |(id, value): &(&str, &str)| {
        Value::Array(vec![bulk(id), Value::Array(vec![bulk("f"), bulk(value)])])
    };
    let entries = Value::Array(entries.iter().map(entry).collect());
    Value::Array(vec![Value::Array(vec![bulk(key), entries])])
}
fn no_group(key: &str) -> Value {
    Value::Error(format!(
        "NOGROUP No such key '{key}' or consumer group 'g' in XREADGROUP with GROUP option"
    ))
}
fn waiting(server: &Server, line: &str, other: &mut Client, blocked: usize) -> Client {
    let mut client = server.connect();
    client.send(&request(&words(line)));
    await_blocked(other, blocked);
    client
}

#[test]
fn every_reader_gets_what_comes_after_it_began_to_wait() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut adder = server.connect();
        adder.call(&words("XADD s 1-1 f old"));
        let lines = [
            "XREAD BLOCK 0 STREAMS s $",
            // Keys of several cores.
            "XREAD BLOCK 0 STREAMS a b s c $ $ $ $",
            "XREAD BLOCK 0 COUNT 1 STREAMS a s 5 1-1",
        ];
        let readers: Vec<Client> = (lines.iter().zip(1..))
            .map(|(line, n)| waiting(&server, line, &mut adder, n))
            .collect();
        // Not a stream: nobody is woken.
        adder.call(&words("SET a x"));
        adder.call(&words("DEL a"));
        adder.call(&words("XADD s 2-1 f new"));
        for mut reader in readers {
            assert_eq!(reader.read(), entries("s", &[("2-1", "new")]), "{setup:?}");
        }
        await_blocked(&mut adder, 0);
        // An entry that is gone at once wakes nobody.
        let mut reader = waiting(&server, "XREAD BLOCK 0 STREAMS s $", &mut adder, 1);
        adder.call(&words("XADD s MAXLEN 0 3-1 f gone"));
        adder.call(&words("XADD s 4-1 f kept"));
        assert_eq!(reader.read(), entries("s", &[("4-1", "kept")]), "{setup:?}");
    }
}

#[test]
fn a_plus_waits_for_the_first_entry_and_gives_the_last() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut adder = server.connect();
        let mut reader = waiting(&server, "XREAD BLOCK 0 STREAMS a b c + + +", &mut adder, 1);
        adder.call(&words("XADD b 1-1 f first"));
        assert_eq!(reader.read(), entries("b", &[("1-1", "first")]));
        adder.call(&words("XADD b 2-1 f second"));
        let got = adder.call(&words("XREAD BLOCK 0 STREAMS a b c + + +"));
        assert_eq!(got, entries("b", &[("2-1", "second")]));
    }
}

#[test]
fn a_group_serves_its_longest_waiting_member_first() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut adder = server.connect();
        for key in ["s", "a", "b"] {
            adder.call(&["XGROUP", "CREATE", key, "g", "$", "MKSTREAM"]);
        }
        let lines = [
            "XREADGROUP GROUP g one BLOCK 0 STREAMS s >",
            "XREADGROUP GROUP g two BLOCK 0 STREAMS a s b > > >",
            "XREADGROUP GROUP g three BLOCK 0 COUNT 1 STREAMS s >",
            "XREADGROUP GROUP g four BLOCK 0 NOACK STREAMS s >",
        ];
        let readers: Vec<Client> = (lines.iter().zip(1..))
            .map(|(line, n)| waiting(&server, line, &mut adder, n))
            .collect();
        for (n, mut reader) in readers.into_iter().enumerate() {
            let id = format!("{}-1", n + 1);
            adder.call(&["XADD", "s", &id, "f", "v"]);
            assert_eq!(reader.read(), entries("s", &[(&id, "v")]), "{setup:?}");
        }
        await_blocked(&mut adder, 0);
        let owner = |name: &str| Value::Array(vec![bulk(name), bulk("1")]);
        assert_eq!(
            adder.call(&words("XPENDING s g")),
            Value::Array(vec![
                Value::Int(3),
                bulk("1-1"),
                bulk("3-1"),
                // In the order of their names.
                Value::Array(vec![owner("one"), owner("three"), owner("two")]),
            ])
        );
    }
}

#[test]
fn members_learn_that_group_or_stream_are_gone() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut other = server.connect();
        let wrong_type = || Value::Error(NOT_A_STREAM.into());
        for (line, reply) in [
            ("XGROUP DESTROY s g", no_group("s")),
            ("DEL s", no_group("s")),
            ("UNLINK s", no_group("s")),
            ("PEXPIRE s -1", no_group("s")),
            ("RENAME s t", no_group("s")),
            ("FLUSHDB", no_group("s")),
            ("FLUSHALL", no_group("s")),
            ("SET s x", wrong_type()),
            ("RENAME l s", wrong_type()),
            // A stream without the group.
            ("RENAME u s", no_group("s")),
        ] {
            other.call(&["FLUSHALL"]);
            for key in ["s", "a", "b"] {
                other.call(&["XGROUP", "CREATE", key, "g", "$", "MKSTREAM"]);
            }
            other.call(&words("RPUSH l x"));
            other.call(&words("XADD u 9-9 f v"));
            let alone = "XREADGROUP GROUP g one BLOCK 0 STREAMS s >";
            let several = "XREADGROUP GROUP g two BLOCK 0 STREAMS s a b > > >";
            let mut alone = waiting(&server, alone, &mut other, 1);
            let mut several = waiting(&server, several, &mut other, 2);
            let plain = "XREAD BLOCK 0 STREAMS s a $ $";
            let mut plain = waiting(&server, plain, &mut other, 3);
            other.call(&words(line));
            assert_eq!(alone.read(), reply, "{line} {setup:?}");
            // Whoever waits for several keys may be told of another that went with it.
            match several.read() {
                Value::Error(text) => {
                    assert!(
                        text.starts_with("NOGROUP") || text == NOT_A_STREAM,
                        "{text}"
                    )
                }
                reply => panic!("{reply:?}"),
            }
            // Without a group one goes on waiting, unless the stream that came has something new.
            if line != "RENAME u s" {
                await_blocked(&mut other, 1);
                other.call(&["FLUSHALL"]);
                other.call(&words("XADD s 10-1 f v"));
                assert_eq!(plain.read(), entries("s", &[("10-1", "v")]), "{line}");
            } else {
                assert_eq!(plain.read(), entries("s", &[("9-9", "v")]), "{line}");
            }
            await_blocked(&mut other, 0);
        }
    }
}

#[test]
fn a_wait_ends_by_timeout_and_by_client_unblock() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut other = server.connect();
        for key in ["s", "a"] {
            other.call(&["XGROUP", "CREATE", key, "g", "$", "MKSTREAM"]);
        }
        for line in [
            "XREAD BLOCK 0 STREAMS s a $ $",
            "XREADGROUP GROUP g c BLOCK 0 STREAMS s a > >",
        ] {
            let mut client = server.connect();
            let short = line.replace("BLOCK 0", "BLOCK 20");
            assert_eq!(client.call(&words(&short)), Value::Null);
            let Value::Int(id) = client.call(&["CLIENT", "ID"]) else {
                panic!("CLIENT ID is a number");
            };
            let id = id.to_string();
            let error = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
            for (how, reply) in [
                ("TIMEOUT", Value::Null),
                ("ERROR", Value::Error(error.into())),
            ] {
                client.send(&request(&words(line)));
                await_blocked(&mut other, 1);
                assert_eq!(other.call(&["CLIENT", "UNBLOCK", &id, how]), Value::Int(1));
                assert_eq!(client.read(), reply);
            }
            // Who is gone gets nothing: the entry is there for others.
            client.send(&request(&words(line)));
            await_blocked(&mut other, 1);
            drop(client);
            await_blocked(&mut other, 0);
        }
        other.call(&words("XADD s 1-1 f v"));
        let read = other.call(&words("XREADGROUP GROUP g d STREAMS s >"));
        assert_eq!(read, entries("s", &[("1-1", "v")]));
    }
}

/// Producers and groups' members over many streams and cores: every group gets every entry exactly once.
#[test]
fn every_group_gets_every_entry_once() {
    const KEYS: usize = 8;
    const EACH: usize = 300;
    const PRODUCERS: usize = 3;
    const GROUPS: [&str; 2] = ["g", "h"];
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut client = server.connect();
        let keys: Vec<String> = (0..KEYS).map(|n| format!("s{n}")).collect();
        for key in &keys {
            for group in GROUPS {
                assert_eq!(
                    client.call(&["XGROUP", "CREATE", key, group, "0", "MKSTREAM"]),
                    ok()
                );
            }
        }
        let taken = GROUPS.map(|_| AtomicUsize::new(0));
        let seen = GROUPS.map(|_| Mutex::new(HashMap::<Vec<u8>, usize>::new()));
        let mut seeds = Random::seeded();
        thread::scope(|scope| {
            for producer in 0..PRODUCERS {
                let (mut client, mut random) = (server.connect(), Random::with(seeds.next()));
                let keys = &keys;
                scope.spawn(move || {
                    for n in 0..EACH {
                        let key = &keys[random.below(KEYS)];
                        let value = format!("{producer}-{n}");
                        let id = client.call(&["XADD", key, "*", "f", &value]);
                        assert!(matches!(id, Value::Bulk(_)), "{id:?}");
                    }
                });
            }
            for member in 0..8 {
                let (mut client, mut random) = (server.connect(), Random::with(seeds.next()));
                let (taken, seen) = (&taken[member % 2], &seen[member % 2]);
                let keys = &keys;
                scope.spawn(move || {
                    let name = format!("member{member}");
                    while taken.load(Ordering::Relaxed) < PRODUCERS * EACH {
                        let count = random.below(3).to_string();
                        let mut line = vec![
                            "XREADGROUP",
                            "GROUP",
                            GROUPS[member % 2],
                            &name,
                            "COUNT",
                            &count,
                        ];
                        line.extend(["BLOCK", "30", "STREAMS"]);
                        let (from, some) = (random.below(KEYS), 1 + random.below(KEYS));
                        line.extend((0..some).map(|n| keys[(from + n) % KEYS].as_str()));
                        line.extend(vec![">"; some]);
                        for value in values(client.call(&line)) {
                            *seen.lock().unwrap().entry(value).or_default() += 1;
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        for seen in &seen {
            let seen = seen.lock().unwrap();
            assert_eq!(seen.len(), PRODUCERS * EACH, "{setup:?}");
            assert!(seen.values().all(|&times| times == 1), "{setup:?}");
        }
        await_blocked(&mut client, 0);
        // All of them are pending, each for one member.
        for group in GROUPS {
            let pending = keys
                .iter()
                .map(|key| match client.call(&["XPENDING", key, group]) {
                    Value::Array(items) => items.into_iter().next(),
                    other => panic!("{other:?}"),
                });
            let all: i64 = pending
                .map(|n| match n {
                    Some(Value::Int(n)) => n,
                    other => panic!("{other:?}"),
                })
                .sum();
            assert_eq!(all as usize, PRODUCERS * EACH);
        }
    }
}

/// The values of all entries that XREADGROUP gave.
fn values(reply: Value) -> Vec<Vec<u8>> {
    fn items(value: Value) -> Vec<Value> {
        match value {
            Value::Array(items) => items,
            other => panic!("not an array: {other:?}"),
        }
    }
    if reply == Value::Null {
        return Vec::new();
    }
    let mut all = Vec::new();
    for stream in items(reply) {
        for entry in items(items(stream).remove(1)) {
            match items(items(entry).remove(1)).remove(1) {
                Value::Bulk(value) => all.push(value),
                other => panic!("not a value: {other:?}"),
            }
        }
    }
    all
}
