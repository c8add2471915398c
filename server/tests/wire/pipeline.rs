//! Long pipelines: every reply is right and in its place.

use crate::harness::{Random, Server, Setup, setups};
use crate::resp::{Value, bulk, bulk_or_null, ok, push_request, request};
use std::collections::HashMap;
use std::io::Write;
use std::thread;

const KEYS: usize = 300;

/// What the server should hold, and so answer.
#[derive(Default)]
struct Model {
    dbs: [HashMap<String, String>; 3],
    db: usize,
}

impl Model {
    fn run(&mut self, words: &[String]) -> Value {
        let db = &mut self.dbs[self.db];
        let args = &words[1..];
        match words[0].as_str() {
            "GET" => bulk_or_null(db.get(&args[0])),
            "SET" => {
                db.insert(args[0].clone(), args[1].clone());
                ok()
            }
            "APPEND" => {
                let value = db.entry(args[0].clone()).or_default();
                value.push_str(&args[1]);
                Value::Int(value.len() as i64)
            }
            "STRLEN" => Value::Int(db.get(&args[0]).map_or(0, String::len) as i64),
            "MGET" => Value::Array(args.iter().map(|k| bulk_or_null(db.get(k))).collect()),
            "MSET" => {
                for pair in args.chunks(2) {
                    db.insert(pair[0].clone(), pair[1].clone());
                }
                ok()
            }
            "DEL" => Value::Int(args.iter().filter(|k| db.remove(*k).is_some()).count() as i64),
            "EXISTS" => Value::Int(args.iter().filter(|k| db.contains_key(*k)).count() as i64),
            "RENAME" => match db.remove(&args[0]) {
                None => Value::Error("ERR no such key".into()),
                Some(value) => {
                    db.insert(args[1].clone(), value);
                    ok()
                }
            },
            "COPY" => match db.get(&args[0]).cloned() {
                Some(value) if !db.contains_key(&args[1]) => {
                    db.insert(args[1].clone(), value);
                    Value::Int(1)
                }
                _ => Value::Int(0),
            },
            "MSETNX" => {
                let free = args.chunks(2).all(|pair| !db.contains_key(&pair[0]));
                for pair in args.chunks(2).filter(|_| free) {
                    db.insert(pair[0].clone(), pair[1].clone());
                }
                Value::Int(free as i64)
            }
            "DBSIZE" => Value::Int(db.len() as i64),
            "ECHO" => bulk(&args[0]),
            "SELECT" => match args[0].parse() {
                Ok(db) if db < self.dbs.len() => {
                    self.db = db;
                    ok()
                }
                _ => Value::Error("ERR DB index is out of range".into()),
            },
            other => panic!("{other} is not in the model"),
        }
    }
}

/// COPY of a key onto itself is an error that the model does not know, so two keys are two different ones.
fn two_keys(random: &mut Random) -> [String; 2] {
    let first = random.below(KEYS);
    let second = (first + 1 + random.below(KEYS - 1)) % KEYS;
    [format!("key:{first}"), format!("key:{second}")]
}

fn single(random: &mut Random) -> Vec<String> {
    let key = format!("key:{}", random.below(KEYS));
    let value = format!("{:x}", random.next());
    match random.below(10) {
        0..4 => vec!["GET".into(), key],
        4..8 => vec!["SET".into(), key, value],
        8 => vec!["STRLEN".into(), key],
        _ => vec!["APPEND".into(), key, value],
    }
}

fn multi(name: &str, values: bool, random: &mut Random) -> Vec<String> {
    let mut words = vec![name.to_string()];
    // Upwards, so that no key comes twice and what DEL counts is not in question.
    let mut key = random.below(KEYS / 2);
    for _ in 0..1 + random.below(6) {
        words.push(format!("key:{key}"));
        if values {
            words.push(format!("{:x}", random.next()));
        }
        key += 1 + random.below(KEYS / 12);
    }
    words
}

fn any(random: &mut Random) -> Vec<String> {
    let pair = |name: &str, random: &mut Random| {
        let [from, to] = two_keys(random);
        vec![name.to_string(), from, to]
    };
    match random.below(24) {
        0 => multi("MGET", false, random),
        1 => multi("MSET", true, random),
        2 => multi("DEL", false, random),
        3 => multi("EXISTS", false, random),
        4 => multi("MSETNX", true, random),
        5 => pair("RENAME", random),
        6 => pair("COPY", random),
        7 => vec!["ECHO".into(), random.next().to_string()],
        8 => vec!["DBSIZE".into()],
        9 => vec!["SELECT".into(), random.below(3).to_string()],
        10 => vec!["SELECT".into(), "99".into()],
        _ => single(random),
    }
}

fn play(server: &Server, commands: &[Vec<String>]) {
    let mut model = Model::default();
    let mut bytes = Vec::new();
    let mut replies = Vec::new();
    for words in commands {
        push_request(&mut bytes, words);
        replies.push(model.run(words));
    }
    let mut client = server.connect();
    let mut writer = client.writer();
    let sender = thread::spawn(move || writer.write_all(&bytes).expect("the server reads"));
    for (n, (words, reply)) in commands.iter().zip(&replies).enumerate() {
        assert_eq!(&client.read(), reply, "command {n}: {words:?}");
    }
    sender.join().expect("all is sent");
}

#[test]
fn ten_thousand_commands_over_random_keys() {
    let mut random = Random::seeded();
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let commands: Vec<_> = (0..10_000).map(|_| single(&mut random)).collect();
        play(&server, &commands);
    }
}

#[test]
fn more_commands_than_may_be_outstanding() {
    // 40,000 in one piece: beyond what a connection may have outstanding, so the rest must wait and go on.
    let mut random = Random::seeded();
    for setup in setups(&[4]) {
        let server = Server::start(setup);
        let commands: Vec<_> = (0..40_000).map(|_| single(&mut random)).collect();
        play(&server, &commands);
    }
}

#[test]
fn local_remote_multi_key_and_connection_commands_mixed() {
    let mut random = Random::seeded();
    for setup in setups(&[1, 2, 4]) {
        let server = Server::start(setup);
        let commands: Vec<_> = (0..10_000).map(|_| any(&mut random)).collect();
        play(&server, &commands);
    }
}

#[test]
fn strict_order() {
    let mut random = Random::seeded();
    for setup in setups(&[1, 4]) {
        let server = Server::start_with(setup, &["--pipeline-order", "strict"]);
        let commands: Vec<_> = (0..5_000).map(|_| any(&mut random)).collect();
        play(&server, &commands);
    }
}

#[test]
fn strict_order_is_seen_by_other_clients() {
    // A writes a, then b, again and again, in one pipeline; who sees b's n-th value must see at least a's n-th.
    for setup in setups(&[4]) {
        let server = Server::start_with(setup, &["--pipeline-order", "strict"]);
        let rounds = 5_000;
        let mut pipeline = Vec::new();
        for n in 1..=rounds {
            push_request(&mut pipeline, &["SET", "first", &n.to_string()]);
            push_request(&mut pipeline, &["SET", "second", &n.to_string()]);
        }
        let mut writer = server.connect();
        let mut reader = server.connect();
        let number = |value: Value| match value {
            Value::Bulk(bytes) => String::from_utf8_lossy(&bytes).parse::<u64>().unwrap(),
            Value::Null => 0,
            other => panic!("GET answered {other:?}"),
        };
        let watch = thread::spawn(move || {
            loop {
                let second = number(reader.call(&["GET", "second"]));
                let first = number(reader.call(&["GET", "first"]));
                assert!(first >= second, "second was {second}, then first {first}");
                if second == rounds {
                    return;
                }
            }
        });
        writer.send(&pipeline);
        writer.expect(&vec![ok(); 2 * rounds as usize]);
        watch.join().expect("the order held");
    }
}

#[test]
fn what_follows_quit_is_not_run() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut client = server.connect();
        let mut bytes = Vec::new();
        for n in 0..100 {
            push_request(&mut bytes, &["SET", &format!("q:{n}"), "x"]);
        }
        push_request(&mut bytes, &["QUIT"]);
        for n in 0..100 {
            push_request(&mut bytes, &["SET", &format!("after:{n}"), "x"]);
        }
        client.send(&bytes);
        client.expect(&vec![ok(); 101]);
        client.expect_end();
        assert_eq!(server.connect().call(&["DBSIZE"]), Value::Int(100));
    }
}

/// Sends a pipeline and the end of our direction at once.
fn half_closed(setup: Setup, bytes: &[u8], replies: &[Value]) {
    let server = Server::start(setup);
    for _ in 0..20 {
        let mut client = server.connect();
        client.send(bytes);
        client.finish();
        client.expect(replies);
        client.expect_end();
    }
}

#[test]
fn a_half_closed_socket_gets_all_replies() {
    for setup in setups(&[1, 4]) {
        let mut bytes = Vec::new();
        let mut replies = Vec::new();
        for n in 0..200 {
            let key = format!("half:{n}");
            push_request(&mut bytes, &["SET", &key, "x"]);
            push_request(&mut bytes, &["GET", &key]);
            // Has the rest wait until it is answered.
            push_request(&mut bytes, &["MGET", &key, "half:0"]);
            replies.extend([ok(), bulk("x"), Value::Array(vec![bulk("x"); 2])]);
        }
        half_closed(setup, &bytes, &replies);
        // Half a request at the end is no reason to forget the others.
        bytes.extend(&request(&["GET", "half:0"])[..10]);
        half_closed(setup, &bytes, &replies);
    }
}

#[test]
fn requests_that_wait_do_not_pile_up_in_the_server() {
    // Each DBSIZE has what follows wait. All of it taken in at once would be moved each time, which grows with the square.
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let rounds = 20_000;
        let mut pipeline = Vec::new();
        for n in 0..rounds {
            let key = format!("pile:{}", n % 50);
            push_request(&mut pipeline, &["SET", &key, &"v".repeat(100)]);
            push_request(&mut pipeline, &["DBSIZE"]);
        }
        let mut client = server.connect();
        let mut writer = client.writer();
        let mut watcher = server.connect();
        thread::scope(|scope| {
            scope.spawn(move || writer.write_all(&pipeline).expect("the server reads"));
            let reader = scope.spawn(move || {
                for n in 0..rounds {
                    assert_eq!(client.read(), ok());
                    assert_eq!(client.read(), Value::Int(50.min(n + 1)), "round {n}");
                }
            });
            while !reader.is_finished() {
                let Value::Bulk(list) = watcher.call(&["CLIENT", "LIST"]) else {
                    panic!("CLIENT LIST answered no bulk string")
                };
                let list = String::from_utf8_lossy(&list).into_owned();
                let most = list
                    .split(' ')
                    .filter_map(|field| field.strip_prefix("qbuf=")?.parse::<usize>().ok())
                    .max()
                    .expect("CLIENT LIST has qbuf");
                assert!(most < 512 << 10, "{setup:?}: {most} bytes wait");
                thread::sleep(std::time::Duration::from_millis(5));
            }
        });
    }
}
