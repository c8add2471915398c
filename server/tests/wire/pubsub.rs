//! Pub/Sub over all cores: what subscribers get, in which order, and what publishers are told.

use crate::conn::Conn;
use crate::harness::{Random, Server, setups};
use crate::ports::free_ports;
use crate::resp::{Client, Value, bulk, ok, push_request, request};
use std::collections::HashMap;
use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

fn message(channel: &str, text: &str) -> Value {
    Value::Array(vec![bulk("message"), bulk(channel), bulk(text)])
}
fn confirmation(kind: &str, name: &str, count: i64) -> Value {
    Value::Array(vec![bulk(kind), bulk(name), Value::Int(count)])
}
fn subscribed(server: &Server, channel: &str) -> Client {
    let mut client = server.connect();
    let confirmed = client.call(&["SUBSCRIBE", channel]);
    assert_eq!(confirmed, confirmation("subscribe", channel, 1));
    client
}

#[test]
fn every_subscription_is_confirmed_and_counted() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = Conn::new(server.port());
        let sub = |kind: &str, name: &str, count: u8| {
            let (kl, nl) = (kind.len(), name.len());
            format!("*3\r\n${kl}\r\n{kind}\r\n${nl}\r\n{name}\r\n:{count}\r\n")
        };
        c.check(
            "SUBSCRIBE a b a",
            &[("a", 1), ("b", 2), ("a", 2)]
                .map(|(n, c)| sub("subscribe", n, c))
                .concat(),
        );
        c.check("PSUBSCRIBE a*", &sub("psubscribe", "a*", 3));
        c.check("SSUBSCRIBE a", &sub("ssubscribe", "a", 1));
        c.check("PING", "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
        c.check("PING hi", "*2\r\n$4\r\npong\r\n$2\r\nhi\r\n");
        c.check(
            "GET x",
            "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
             context\r\n",
        );
        c.check(
            "CLIENT LIST",
            "-ERR Can't execute 'client|list': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
             this context\r\n",
        );
        let mut p = Conn::new(server.port());
        p.check("PUBLISH a 1", ":2\r\n");
        p.check("PUBLISH b 2", ":1\r\n");
        p.check("PUBLISH c 3", ":0\r\n");
        p.check("SPUBLISH a 4", ":1\r\n");
        p.check("SPUBLISH b 5", ":0\r\n");
        c.expect("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n1\r\n");
        c.expect("*4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$1\r\na\r\n$1\r\n1\r\n");
        c.expect("*3\r\n$7\r\nmessage\r\n$1\r\nb\r\n$1\r\n2\r\n");
        c.expect("*3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$1\r\n4\r\n");
        p.check(
            "PUBSUB NUMSUB a c b",
            "*6\r\n$1\r\na\r\n:1\r\n$1\r\nc\r\n:0\r\n$1\r\nb\r\n:1\r\n",
        );
        p.check("PUBSUB NUMPAT", ":1\r\n");
        p.check("PUBSUB CHANNELS [b-z]", "*1\r\n$1\r\nb\r\n");
        p.check("PUBSUB SHARDCHANNELS", "*1\r\n$1\r\na\r\n");
        p.check(
            "PUBSUB SHARDNUMSUB a b",
            "*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n:0\r\n",
        );
        let list = p.text("CLIENT LIST TYPE pubsub");
        assert!(
            list.contains(" sub=2 psub=1 ssub=1 ") && list.contains(" flags=P "),
            "{list}"
        );
        let info = p.text("INFO");
        for line in [
            "pubsub_channels:2",
            "pubsub_patterns:1",
            "pubsubshard_channels:1",
            "pubsub_clients:1",
        ] {
            assert!(info.contains(line), "{line} in {info}");
        }
        c.check("PUNSUBSCRIBE", &sub("punsubscribe", "a*", 2));
        c.check("PUNSUBSCRIBE", "*3\r\n$12\r\npunsubscribe\r\n$-1\r\n:2\r\n");
        c.check(
            "UNSUBSCRIBE x a b",
            &[("x", 2), ("a", 1), ("b", 0)]
                .map(|(n, c)| sub("unsubscribe", n, c))
                .concat(),
        );
        c.check("SUNSUBSCRIBE", &sub("sunsubscribe", "a", 0));
        c.check("GET x", "$-1\r\n");
        c.check("SUBSCRIBE a", &sub("subscribe", "a", 1));
        c.check("RESET", "+RESET\r\n");
        c.check("GET x", "$-1\r\n");
        p.check("PUBLISH a 6", ":0\r\n");
        p.check("PUBSUB CHANNELS", "*0\r\n");
        c.expect_silence();
    }
}

#[test]
fn resp3_clients_get_pushes_between_replies() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = Conn::new(server.port());
        c.send(&["HELLO 3"]);
        let mut p = server.connect();
        // Who has said HELLO is not read here; the confirmation comes behind it.
        c.skip_past(">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", "SUBSCRIBE a");
        c.check("SET k v", "+OK\r\n");
        assert_eq!(p.call(&["PUBLISH", "a", "hi"]), Value::Int(1));
        c.expect(">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n");
        // To itself: behind the reply.
        c.check(
            "PUBLISH a me",
            ":1\r\n>3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nme\r\n",
        );
        c.check("PING", "+PONG\r\n");
        c.check(
            "UNSUBSCRIBE",
            ">3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n",
        );
        c.check("UNSUBSCRIBE", ">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n");
        // Messages come whatever CLIENT REPLY says, and while the client waits for a key.
        c.send(&[
            "CLIENT REPLY OFF",
            "SUBSCRIBE a",
            "PUBLISH a 1",
            "PING",
            "CLIENT REPLY ON",
        ]);
        c.expect(">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n>3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n1\r\n+OK\r\n");
        for key in ["w1", "w2", "w3", "w4"] {
            c.send(&[&format!("BLPOP {key} w5 0")]);
            wait_until_blocked(&mut p);
            assert_eq!(p.call(&["PUBLISH", "a", "hi"]), Value::Int(1));
            c.expect(">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n");
            assert_eq!(p.call(&["RPUSH", key, "x"]), Value::Int(1));
            c.expect(&format!("*2\r\n$2\r\n{key}\r\n$1\r\nx\r\n"));
        }
    }
}

fn wait_until_blocked(p: &mut Client) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let Value::Bulk(info) = p.call(&["INFO", "clients"]) else {
            panic!("INFO answered no bulk string")
        };
        if String::from_utf8_lossy(&info).contains("blocked_clients:1\r\n") {
            return;
        }
        assert!(Instant::now() < end, "nobody blocks");
        sleep(Duration::from_millis(1));
    }
}

/// Publishers with pipelines, subscribers that come and go: everybody sees each publisher's messages in order and without a
/// gap, all who hear two messages hear them in one order, and the sum of what publishers were told is what was received.
#[test]
fn one_order_for_everybody() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut random = Random::seeded();
        const PUBLISHERS: usize = 6;
        const SUBSCRIBERS: usize = 12;
        const MESSAGES: usize = 400;
        // Half by channel, half by pattern; all hear all.
        let mut subscribers: Vec<Client> = (0..SUBSCRIBERS)
            .map(|n| {
                let mut client = server.connect();
                if n % 2 == 0 {
                    client.send(&request(&["SUBSCRIBE", "x", "y"]));
                    client.expect(&[
                        confirmation("subscribe", "x", 1),
                        confirmation("subscribe", "y", 2),
                    ]);
                } else {
                    client.send(&request(&["PSUBSCRIBE", "?"]));
                    client.expect(&[confirmation("psubscribe", "?", 1)]);
                }
                client
            })
            .collect();
        let seeds: Vec<u64> = (0..PUBLISHERS).map(|_| random.next()).collect();
        let heard: Vec<Vec<String>> = std::thread::scope(|scope| {
            for (publisher, seed) in seeds.into_iter().enumerate() {
                let mut client = server.connect();
                scope.spawn(move || {
                    let mut random = Random::with(seed);
                    let mut n = 0;
                    while n < MESSAGES {
                        let count = (1 + random.below(20)).min(MESSAGES - n);
                        let mut pipeline = Vec::new();
                        for i in n..n + count {
                            let channel = ["x", "y"][random.below(2)];
                            push_request(
                                &mut pipeline,
                                &["PUBLISH", channel, &format!("{publisher}:{i}")],
                            );
                        }
                        client.send(&pipeline);
                        client.expect(&vec![Value::Int(SUBSCRIBERS as i64); count]);
                        n += count;
                    }
                });
            }
            let threads: Vec<_> = subscribers
                .iter_mut()
                .map(|client| {
                    scope.spawn(move || {
                        (0..PUBLISHERS * MESSAGES)
                            .map(|_| {
                                let Value::Array(words) = client.read() else {
                                    panic!("a message is an array")
                                };
                                let Some(Value::Bulk(text)) = words.last() else {
                                    panic!("a message has a text")
                                };
                                String::from_utf8(text.clone()).expect("our own text")
                            })
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|t| t.join().expect("a subscriber"))
                .collect()
        });
        let mut next: HashMap<&str, usize> = HashMap::new();
        for text in &heard[0] {
            let (publisher, n) = text.split_once(':').expect("our own text");
            let next = next.entry(publisher).or_default();
            assert_eq!(n.parse(), Ok(*next), "{publisher}");
            *next += 1;
        }
        for other in &heard[1..] {
            assert_eq!(
                other, &heard[0],
                "{setup:?}: two subscribers heard different orders"
            );
        }
    }
}

/// Subscribers come and go while messages are published: what they get between the two confirmations is a run of messages
/// without a gap, and the publishers' counts add up to what was received.
#[test]
fn counts_are_right_while_subscribers_come_and_go() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let (told, received) = std::thread::scope(|scope| {
            let subscribers: Vec<_> = (0..8)
                .map(|n| {
                    let mut client = server.connect();
                    scope.spawn(move || {
                        let mut received = 0u64;
                        let mut last = 0;
                        for round in 0..60 {
                            let (kind, end, name) = match (n + round) % 3 {
                                0 => ("SUBSCRIBE", "UNSUBSCRIBE", "ch"),
                                1 => ("PSUBSCRIBE", "PUNSUBSCRIBE", "c*"),
                                _ => ("SUBSCRIBE", "UNSUBSCRIBE", "ch"),
                            };
                            assert_eq!(
                                client.call(&[kind, name]),
                                confirmation(&kind.to_lowercase(), name, 1)
                            );
                            sleep(Duration::from_micros(500 * (round % 5)));
                            client.send(&request(&[end, name]));
                            let mut run = None;
                            loop {
                                let got = client.read();
                                if got == confirmation(&end.to_lowercase(), name, 0) {
                                    break;
                                }
                                let Value::Array(words) = got else {
                                    panic!("a message is an array")
                                };
                                let Some(Value::Bulk(text)) = words.last() else {
                                    panic!("a message has a text")
                                };
                                let n: u64 =
                                    String::from_utf8_lossy(text).parse().expect("a number");
                                assert!(
                                    n > last && run.is_none_or(|r| n == r + 1),
                                    "{n} after {run:?}, {last}"
                                );
                                (run, last) = (Some(n), n);
                                received += 1;
                            }
                        }
                        received
                    })
                })
                .collect();
            let mut publisher = server.connect();
            let mut told = 0;
            let mut n = 0;
            while n < 2_000 || subscribers.iter().any(|s| !s.is_finished()) {
                let mut pipeline = Vec::new();
                for _ in 0..10 {
                    n += 1;
                    push_request(&mut pipeline, &["PUBLISH", "ch", &n.to_string()]);
                }
                publisher.send(&pipeline);
                for _ in 0..10 {
                    let Value::Int(count) = publisher.read() else {
                        panic!("PUBLISH answers a number")
                    };
                    told += count as u64;
                }
            }
            let received = subscribers
                .into_iter()
                .map(|s| s.join().expect("a subscriber"));
            (told, received.sum::<u64>())
        });
        assert_eq!(told, received, "{setup:?}");
        assert!(received > 0);
        let mut p = server.connect();
        assert_eq!(p.call(&["PUBSUB", "CHANNELS"]), Value::Array(vec![]));
        assert_eq!(p.call(&["PUBSUB", "NUMPAT"]), Value::Int(0));
    }
}

/// What a client did before it published is done when the message is there.
#[test]
fn a_message_comes_after_what_its_publisher_did_before() {
    for setup in setups(&[4]) {
        let server = Server::start(setup);
        let mut subscriber = subscribed(&server, "done");
        let mut reader = server.connect();
        let mut publisher = server.connect();
        for round in 0..300 {
            let key = format!("k{round}");
            let mut pipeline = Vec::new();
            push_request(&mut pipeline, &["SET", &key, "1"]);
            push_request(
                &mut pipeline,
                &["MSET", "{a}k", &key, "{b}k", &key, "{c}k", &key],
            );
            push_request(&mut pipeline, &["PUBLISH", "done", &key]);
            publisher.send(&pipeline);
            assert_eq!(subscriber.read(), message("done", &key));
            assert_eq!(reader.call(&["GET", &key]), bulk("1"));
            let all = Value::Array(vec![bulk(&key); 3]);
            assert_eq!(reader.call(&["MGET", "{a}k", "{b}k", "{c}k"]), all);
            publisher.expect(&[ok(), ok(), Value::Int(1)]);
        }
    }
}

#[test]
fn subscribers_that_die_are_counted_no_more() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut p = server.connect();
        for round in 0..5 {
            let mut clients: Vec<Client> = (0..40).map(|_| subscribed(&server, "ch")).collect();
            let mut crowd = server.connect();
            // One with many channels, which are given up in pieces.
            let mut names: Vec<String> = (0..10_000).map(|n| format!("many:{n}")).collect();
            names.insert(0, "SUBSCRIBE".into());
            crowd.send(&request(&names));
            for n in 0..10_000 {
                let confirmed = confirmation("subscribe", &format!("many:{n}"), n + 1);
                assert_eq!(crowd.read(), confirmed);
            }
            assert_eq!(p.call(&["PUBLISH", "ch", "x"]), Value::Int(40));
            for client in &mut clients {
                assert_eq!(client.read(), message("ch", "x"));
            }
            match round {
                // They vanish, with messages on their way.
                0 | 1 => drop(clients),
                2 => {
                    for client in &mut clients {
                        assert_eq!(client.call(&["QUIT"]), ok());
                    }
                }
                _ => {
                    let killed = p.call(&["CLIENT", "KILL", "TYPE", "pubsub"]);
                    assert_eq!(killed, Value::Int(41));
                    assert_eq!(p.call(&["PUBLISH", "ch", "x"]), Value::Int(0));
                }
            }
            drop(crowd);
            let end = Instant::now() + Duration::from_secs(20);
            while p.call(&["PUBLISH", "ch", "x"]) != Value::Int(0)
                || p.call(&["PUBSUB", "CHANNELS"]) != Value::Array(vec![])
            {
                assert!(Instant::now() < end, "{setup:?}: they are still there");
                sleep(Duration::from_millis(2));
            }
        }
    }
}

#[test]
fn slow_subscribers_are_cut_off() {
    for setup in setups(&[1, 4]) {
        let limits = "pubsub 8mb 2mb 1";
        let server = Server::start_with(setup, &["--client-output-buffer-limit", limits]);
        let mut p = server.connect();
        let text = vec![b'x'; 100_000];
        // Neither of them reads; a socket takes some megabytes by itself.
        let hard = subscribed(&server, "hard");
        let mut sent = 0;
        while p.call(&[b"PUBLISH", &b"hard"[..], &text]) == Value::Int(1) {
            sent += text.len();
            assert!(sent < 200 << 20, "{setup:?}: nobody is cut off");
        }
        assert!(sent >= 8 << 20, "{sent}");
        assert_eq!(closes(&mut p), 1);
        drop(hard);
        let soft = subscribed(&server, "soft");
        let omem = |p: &mut Client| -> usize {
            let Value::Bulk(list) = p.call(&["CLIENT", "LIST", "TYPE", "pubsub"]) else {
                panic!("CLIENT LIST answers a text")
            };
            let list = String::from_utf8_lossy(&list).into_owned();
            let field = |name| {
                let value = list.split(name).nth(1)?.split(' ').next()?;
                value.parse::<usize>().ok()
            };
            field(" omem=").unwrap_or(0)
        };
        while omem(&mut p) < 2 << 20 {
            assert_eq!(p.call(&[b"PUBLISH", &b"soft"[..], &text]), Value::Int(1));
        }
        let begin = Instant::now();
        while p.call(&["PUBSUB", "CHANNELS"]) != Value::Array(vec![]) {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "{setup:?}: it is still there"
            );
            sleep(Duration::from_millis(10));
        }
        assert!(
            begin.elapsed() > Duration::from_millis(800),
            "{setup:?}: too soon"
        );
        assert_eq!(closes(&mut p), 2);
        drop(soft);
    }
}

fn closes(p: &mut Client) -> u64 {
    let Value::Bulk(info) = p.call(&["INFO", "stats"]) else {
        panic!("INFO answers a text")
    };
    let info = String::from_utf8_lossy(&info).into_owned();
    let line = info
        .lines()
        .find_map(|l| l.strip_prefix("client_output_buffer_limit_disconnections:"));
    line.expect("the field").parse().expect("a number")
}

/// A client that has subscribed to many channels by a pipeline of commands hears each of them.
#[test]
fn many_subscriptions_in_a_pipeline() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        let mut writer = c.writer();
        const CHANNELS: i64 = 3_000;
        let mut pipeline = Vec::new();
        for n in 0..CHANNELS {
            push_request(&mut pipeline, &["SUBSCRIBE", &format!("c{n}")]);
        }
        push_request(&mut pipeline, &["PING"]);
        let thread = std::thread::spawn(move || writer.write_all(&pipeline));
        for n in 0..CHANNELS {
            assert_eq!(c.read(), confirmation("subscribe", &format!("c{n}"), n + 1));
        }
        assert_eq!(c.read(), Value::Array(vec![bulk("pong"), bulk("")]));
        thread.join().expect("a writer").expect("the server reads");
        let mut p = server.connect();
        for n in (0..CHANNELS).step_by(97) {
            let channel = format!("c{n}");
            assert_eq!(p.call(&["PUBLISH", &channel, "x"]), Value::Int(1));
            assert_eq!(c.read(), message(&channel, "x"));
        }
    }
}

#[test]
fn shard_channels_belong_to_nodes() {
    let port = free_ports(3);
    let base = port.to_string();
    let options = ["--shard-ports", "yes", "--shard-port-base", &base];
    let server = crate::server::Server::start(3, &options);
    let mut nodes: Vec<Conn> = (0..3).map(|i| Conn::new(port + i)).collect();
    let moved = |slot: u16, node: u16| format!("-MOVED {slot} 127.0.0.1:{}\r\n", port + node);
    nodes[0].check("SSUBSCRIBE foo", &moved(12182, 2));
    nodes[1].check("SPUBLISH foo x", &moved(12182, 2));
    nodes[1].check("SUNSUBSCRIBE foo", &moved(12182, 2));
    let cross = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";
    nodes[0].check("SSUBSCRIBE foo bar", cross);
    nodes[2].check(
        "SSUBSCRIBE foo",
        "*3\r\n$10\r\nssubscribe\r\n$3\r\nfoo\r\n:1\r\n",
    );
    // Ordinary channels are everywhere.
    nodes[1].check(
        "SUBSCRIBE foo",
        "*3\r\n$9\r\nsubscribe\r\n$3\r\nfoo\r\n:1\r\n",
    );
    nodes[0].check("PUBLISH foo y", ":1\r\n");
    nodes[1].expect("*3\r\n$7\r\nmessage\r\n$3\r\nfoo\r\n$1\r\ny\r\n");
    // The common port knows no nodes.
    let mut common = Conn::new(server.port);
    common.check("SPUBLISH foo x", ":1\r\n");
    nodes[2].expect("*3\r\n$8\r\nsmessage\r\n$3\r\nfoo\r\n$1\r\nx\r\n");
    common.check(
        "SSUBSCRIBE foo bar",
        "*3\r\n$10\r\nssubscribe\r\n$3\r\nfoo\r\n:1\r\n*3\r\n$10\r\nssubscribe\r\n$3\r\nbar\r\n:2\r\n",
    );
}

/// What a transaction publishes to its own client comes behind its reply, what others publish not in its midst either.
#[test]
fn messages_never_come_between_the_replies_of_a_transaction() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = Conn::new(server.port());
        c.send(&["HELLO 3"]);
        c.skip_past(">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", "SUBSCRIBE a");
        let queued = |n| "+OK\r\n".to_string() + &"+QUEUED\r\n".repeat(n);
        let message = |text: &str| format!(">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n{text}\r\n");
        c.send(&[
            "MULTI",
            "PUBLISH a 1",
            "SET k v",
            "SUBSCRIBE b",
            "GET k",
            "SSUBSCRIBE c",
            "EXEC",
            "PING",
        ]);
        c.expect(&queued(5));
        c.expect("*5\r\n:1\r\n+OK\r\n>3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n$1\r\nv\r\n");
        c.expect("-ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client\r\n");
        c.expect(&message("1"));
        c.expect("+PONG\r\n");
        // With keys on all cores, and over all keys, while another client publishes.
        let mut p = server.connect();
        std::thread::scope(|scope| {
            let publisher = scope.spawn(move || {
                for n in 0..300 {
                    let count = p.call(&["PUBLISH", "a", &(n % 10).to_string()]);
                    assert_eq!(count, Value::Int(1));
                }
            });
            let mut heard = 0;
            let mut rounds = 0;
            while heard < 300 || rounds < 100 {
                rounds += 1;
                let all = if rounds % 2 == 0 { "DBSIZE" } else { "GET k4" };
                c.send(&[
                    "MULTI", "SET k1 x", "SET k2 x", "SET k3 x", all, "EXEC", "ECHO end",
                ]);
                c.skip_messages("a", &mut heard, "+OK\r\n");
                for _ in 0..4 {
                    c.skip_messages("a", &mut heard, "+QUEUED\r\n");
                }
                let last = if rounds % 2 == 0 { ":4\r\n" } else { "_\r\n" };
                c.skip_messages(
                    "a",
                    &mut heard,
                    &format!("*4\r\n+OK\r\n+OK\r\n+OK\r\n{last}"),
                );
                c.skip_messages("a", &mut heard, "$3\r\nend\r\n");
            }
            publisher.join().expect("a publisher");
            assert_eq!(heard, 300);
        });
    }
}
