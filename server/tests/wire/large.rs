//! Large values and odd keys, on every core, in awkward pieces.

use crate::harness::{Random, Server, setups};
use crate::resp::{Value, bulk, ok, push_request, request};
use std::thread::sleep;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(2);

fn bytes(random: &mut Random, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

#[test]
fn values_of_all_sizes_on_all_cores() {
    let mut random = Random::seeded();
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut client = server.connect();
        for len in [0, 1, 16 << 10, 64 << 10, 1 << 20, 20 << 20] {
            let value = bytes(&mut random, len);
            // Enough keys that some are this connection's core's and some are not; fewer of the largest.
            let keys = if len > 1 << 20 { 4 } else { 12 };
            for n in 0..keys {
                let key = format!("size:{n}");
                assert_eq!(client.call(&[b"SET", key.as_bytes(), &value]), ok());
                assert_eq!(client.call(&["STRLEN", &key]), Value::Int(len as i64));
                assert_eq!(client.call(&["GET", &key]), bulk(&value));
            }
        }
    }
}

#[test]
fn large_requests_cut_at_awkward_places_with_more_behind_them() {
    let mut random = Random::seeded();
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut client = server.connect();
        for len in [16 << 10, 70_000, 300_000, 1 << 20] {
            for n in 0..4 {
                let key = format!("cut:{n}");
                let value = bytes(&mut random, len);
                let head = request(&[b"SET", key.as_bytes(), &value]);
                let mut all = Vec::new();
                push_request(&mut all, &["ECHO", "before"]);
                let begin = all.len();
                all.extend_from_slice(&head);
                let end = all.len();
                push_request(&mut all, &["GET", &key]);
                push_request(&mut all, &["ECHO", "behind"]);
                let replies = [bulk("before"), ok(), bulk(&value), bulk("behind")];
                let data = end - 2 - len;
                let mut cuts = vec![
                    begin,
                    begin + 1,
                    // Within the value's length, at its line end, at the value's first bytes.
                    data - 3,
                    data - 1,
                    data,
                    data + 1,
                    // Around the last bytes and the line end behind them.
                    end - 3,
                    end - 2,
                    end - 1,
                    end,
                    end + 1,
                    end + 20,
                ];
                cuts.extend((0..4).map(|_| data + random.below(len)));
                for cut in cuts {
                    client.send(&all[..cut]);
                    sleep(PAUSE);
                    client.send(&all[cut..]);
                    client.expect(&replies);
                    // In three pieces.
                    let second = cut + random.below(all.len() - cut);
                    client.send(&all[..cut]);
                    sleep(PAUSE);
                    client.send(&all[cut..second]);
                    sleep(PAUSE);
                    client.send(&all[second..]);
                    client.expect(&replies);
                }
            }
        }
    }
}

#[test]
fn a_large_request_of_many_words_in_small_pieces() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut client = server.connect();
        let mut words = vec!["MSET".to_string()];
        for n in 0..20_000 {
            words.extend([format!("word:{n}"), n.to_string()]);
        }
        let mut all = request(&words);
        push_request(&mut all, &["MGET", "word:0", "word:19999"]);
        for piece in all.chunks(5_000) {
            client.send(piece);
        }
        client.expect(&[ok(), Value::Array(vec![bulk("0"), bulk("19999")])]);
        assert_eq!(client.call(&["DBSIZE"]), Value::Int(20_000));
    }
}

#[test]
fn keys_of_all_lengths() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut client = server.connect();
        let lengths = [0, 1, 254, 255, 256, 257, 65_535, 65_536, 70_000];
        for len in lengths {
            // Several of each length, so that they fall on several cores; of length 0 there is one.
            for letter in (b'a'..=b'h').take(if len == 0 { 1 } else { 8 }) {
                let key = vec![letter; len];
                let value = format!("{len} {letter}");
                assert_eq!(client.call(&[b"SET", &key[..], value.as_bytes()]), ok());
            }
        }
        for len in lengths {
            for letter in (b'a'..=b'h').take(if len == 0 { 1 } else { 8 }) {
                let key = vec![letter; len];
                let value = format!("{len} {letter}");
                assert_eq!(client.call(&[b"GET", &key[..]]), bulk(&value));
                let mut to = key.clone();
                to.push(b'!');
                assert_eq!(client.call(&[b"RENAME", &key[..], &to]), ok());
                assert_eq!(client.call(&[b"EXISTS", &key[..]]), Value::Int(0));
                let both = Value::Array(vec![bulk(&value), Value::Null]);
                assert_eq!(client.call(&[b"MGET", &to[..], &key]), both);
                assert_eq!(client.call(&[b"DEL", &to[..], &key]), Value::Int(1));
            }
        }
        assert_eq!(client.call(&["DBSIZE"]), Value::Int(0));
    }
}

#[test]
fn a_client_that_dies_in_the_middle_of_a_large_value() {
    let mut random = Random::seeded();
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut other = server.connect();
        let value = bytes(&mut random, 3 << 20);
        for n in 0..40 {
            let all = request(&[b"SET", format!("dead:{}", n % 8).as_bytes(), &value]);
            let mut client = server.connect();
            client.send(&all[..random.below(all.len())]);
            if n % 2 == 0 {
                client.finish();
                client.expect_end();
            }
            drop(client);
            assert_eq!(other.call(&["PING"]), Value::Simple("PONG".into()));
        }
        assert_eq!(other.call(&["DBSIZE"]), Value::Int(0));
        // The connections' numbers are used again; nothing of their former owners may show.
        for n in 0..20 {
            let mut client = server.connect();
            let key = format!("alive:{n}");
            assert_eq!(client.call(&["SET", &key, "v"]), ok());
            assert_eq!(client.call(&["GET", &key]), bulk("v"));
        }
    }
}

#[test]
fn a_request_beyond_the_query_buffer_limit_ends_its_client_only() {
    for setup in setups(&[1, 4]) {
        let server = Server::start_with(setup, &["--client-query-buffer-limit", "1mb"]);
        let mut other = server.connect();
        let value = vec![b'x'; 8 << 20];
        let mut client = server.connect();
        // The server may close before it has everything: then writing fails, which is as good.
        let mut writer = client.writer();
        let _ = std::io::Write::write_all(&mut writer, &request(&[b"SET", &b"big"[..], &value]));
        client.expect_end();
        assert_eq!(other.call(&["EXISTS", "big"]), Value::Int(0));
        let small = vec![b'x'; 512 << 10];
        assert_eq!(other.call(&[b"SET", &b"small"[..], &small]), ok());
    }
}
