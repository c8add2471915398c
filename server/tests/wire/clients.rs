//! Clients that are slow, dead or many.

use crate::harness::{Server, setups};
use crate::resp::{Client, Value, bulk, ok, push_request};
use std::io::{Read, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

#[test]
fn a_slow_reader_gets_everything_and_holds_nobody_up() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut other = server.connect();
        let values: Vec<Vec<u8>> = (0..10u8).map(|n| vec![b'a' + n; 100_000]).collect();
        for (n, value) in values.iter().enumerate() {
            let key = format!("slow:{n}");
            assert_eq!(other.call(&[b"SET", key.as_bytes(), value]), ok());
        }
        // 50 MB of replies.
        let mut pipeline = Vec::new();
        for n in 0..500 {
            push_request(&mut pipeline, &["GET", &format!("slow:{}", n % 10)]);
        }
        let mut slow = server.connect();
        slow.send(&pipeline);
        for n in 0..500 {
            if n % 20 == 0 {
                sleep(Duration::from_millis(10));
                for m in 0..4 {
                    let key = format!("other:{m}");
                    assert_eq!(other.call(&["SET", &key, "x"]), ok());
                }
            }
            assert_eq!(slow.read(), bulk(&values[n % 10]), "reply {n}");
        }
        assert_eq!(slow.call(&["PING"]), Value::Simple("PONG".into()));
    }
}

#[test]
fn a_client_that_never_reads_and_dies() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut other = server.connect();
        let value = vec![b'x'; 100_000];
        for n in 0..4 {
            let key = format!("never:{n}");
            assert_eq!(other.call(&[b"SET", key.as_bytes(), &value]), ok());
        }
        let mut pipeline = Vec::new();
        for n in 0..500 {
            push_request(&mut pipeline, &["GET", &format!("never:{}", n % 4)]);
        }
        let before = used_memory(&mut other);
        for round in 0..10 {
            let mut dead = server.connect();
            dead.send(&pipeline);
            // Half of them die with requests under way, half with replies waiting.
            if round % 2 == 0 {
                sleep(Duration::from_millis(100));
            }
            drop(dead);
            assert_eq!(other.call(&["PING"]), Value::Simple("PONG".into()));
        }
        // 500 MB of replies were made; what was held for the dead is given back.
        let end = Instant::now() + Duration::from_secs(20);
        while used_memory(&mut other) > before + (4 << 20) {
            assert!(
                Instant::now() < end,
                "{setup:?}: {before} bytes before, {} after",
                used_memory(&mut other)
            );
            sleep(Duration::from_millis(50));
        }
    }
}

/// Bytes in use, all cores together, as the server counts them.
fn used_memory(client: &mut Client) -> u64 {
    let Value::Bulk(info) = client.call(&["INFO", "memory"]) else {
        panic!("INFO answered no bulk string")
    };
    let info = String::from_utf8(info).expect("INFO is text");
    info.lines()
        .find_map(|line| line.strip_prefix("used_memory:")?.parse().ok())
        .expect("INFO memory has used_memory")
}

/// As many connections as the descriptors allow, up to 6,000.
fn most() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("our own limits");
    let open: usize = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .and_then(|line| line.split_whitespace().nth(3))
        .and_then(|soft| soft.parse().ok())
        .expect("the line for open files");
    // Other tests run beside this one in the same process.
    open.saturating_sub(500).min(6_000)
}

#[test]
fn thousands_of_connections_are_all_answered() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let count = most();
        let mut streams: Vec<_> = (0..count).map(|_| server.stream()).collect();
        for round in 0..2 {
            for (n, stream) in streams.iter_mut().enumerate() {
                let mut bytes = Vec::new();
                push_request(&mut bytes, &["ECHO", &format!("{n:05}")]);
                push_request(&mut bytes, &["INCR", &format!("count:{}", n % 100)]);
                stream.write_all(&bytes).expect("the server reads");
            }
            for (n, stream) in streams.iter_mut().enumerate() {
                stream
                    .set_read_timeout(Some(Duration::from_secs(60)))
                    .expect("a timeout");
                let mut reply = [0; 11];
                stream.read_exact(&mut reply).expect("an answer");
                assert_eq!(reply[..], format!("$5\r\n{n:05}\r\n").as_bytes()[..11]);
                let mut rest = vec![0; 256];
                let mut got = 0;
                while got < 2 || &rest[got - 2..got] != b"\r\n" {
                    let more = stream.read(&mut rest[got..]).expect("an answer");
                    assert!(more > 0, "connection {n} ended in round {round}");
                    got += more;
                }
                assert_eq!(rest[0], b':', "connection {n}");
            }
        }
        let total: i64 = (0..100)
            .map(
                |n| match server.connect().call(&["GET", &format!("count:{n}")]) {
                    Value::Bulk(text) => String::from_utf8_lossy(&text).parse::<i64>().unwrap(),
                    other => panic!("GET answered {other:?}"),
                },
            )
            .sum();
        assert_eq!(total, 2 * count as i64);
    }
}
