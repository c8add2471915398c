//! Bytes that are no request: the exact error, then the end of the connection, and nobody else notices.

use crate::harness::{Server, setups};
use crate::resp::{Value, ok, request};

/// What is sent, and the text after `-ERR Protocol error: `.
fn cases() -> Vec<(Vec<u8>, &'static str)> {
    let long = |first: &[u8]| {
        let mut bytes = first.to_vec();
        bytes.resize(first.len() + (64 << 10) + 1, b'1');
        bytes
    };
    let fixed = |bytes: &[u8]| bytes.to_vec();
    vec![
        (long(b"PING "), "too big inline request"),
        (long(b"*"), "too big mbulk count string"),
        (fixed(b"*x\r\n"), "invalid multibulk length"),
        (fixed(b"*2147483648\r\n"), "invalid multibulk length"),
        (long(b"*1\r\n$"), "too big bulk count string"),
        (fixed(b"*1\r\n!4\r\nPING\r\n"), "expected '$', got '!'"),
        (fixed(b"*1\r\n$-1\r\n"), "invalid bulk length"),
        (fixed(b"*1\r\n$536870913\r\n"), "invalid bulk length"),
        (fixed(b"SET a \"open\r\n"), "unbalanced quotes in request"),
    ]
}

fn protocol_error(text: &str) -> Value {
    Value::Error(format!("ERR Protocol error: {text}"))
}

#[test]
fn each_protocol_error_is_told_then_the_connection_closes() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut other = server.connect();
        for (bytes, text) in cases() {
            let mut client = server.connect();
            client.send(&bytes);
            client.expect(&[protocol_error(text)]);
            client.expect_end();
            assert_eq!(other.call(&["PING"]), Value::Simple("PONG".into()));
        }
    }
}

#[test]
fn requests_before_the_garbage_are_answered_and_those_behind_it_are_not_run() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut other = server.connect();
        // An endless line is none when a line end follows.
        let cases = cases().into_iter().filter(|(bytes, _)| bytes.len() < 1_000);
        for (bytes, text) in cases {
            let mut client = server.connect();
            let mut sent = Vec::new();
            // Keys of several cores, so that some of these replies come later than the error is found.
            let mut replies = Vec::new();
            for n in 0..20 {
                sent.extend(request(&["SET", &format!("before:{n}"), "x"]));
                replies.push(ok());
            }
            sent.extend(&bytes);
            sent.extend(request(&["SET", "behind", "x"]));
            replies.push(protocol_error(text));
            client.send(&sent);
            client.expect(&replies);
            client.expect_end();
            assert_eq!(other.call(&["EXISTS", "behind"]), Value::Int(0), "{text}");
        }
    }
}

#[test]
fn strangers_may_send_little() {
    for setup in setups(&[1]) {
        let server = Server::start_with(setup, &["--requirepass", "secret"]);
        for (bytes, text) in [
            (&b"*11\r\n"[..], "unauthenticated multibulk length"),
            (b"*2\r\n$4\r\nAUTH\r\n$16385\r\n", {
                "unauthenticated bulk length"
            }),
        ] {
            let mut client = server.connect();
            client.send(bytes);
            client.expect(&[protocol_error(text)]);
            client.expect_end();
        }
    }
}

/// A web page can have a browser send requests here, with commands in their bodies.
#[test]
fn a_browsers_request_ends_its_connection_before_its_body_is_run() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut other = server.connect();
        for head in [
            "POST / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nhost: example.com\r\n",
            "*1\r\n$5\r\nHost:\r\n",
            "MULTI\r\npost\r\n",
        ] {
            let mut client = server.connect();
            client.send(format!("{head}SET behind x\r\n").as_bytes());
            client.expect_end();
            assert_eq!(other.call(&["EXISTS", "behind"]), Value::Int(0), "{head}");
        }
    }
}

/// Texts of errors pass through strings on their way, where such bytes have no place of their own.
#[test]
fn errors_name_bytes_that_are_no_text_as_they_came() {
    let cases: &[(&[&[u8]], &[u8])] = &[
        (
            &[b"\xff\xfe", b"a\xc3"],
            b"-ERR unknown command '\xff\xfe', with args beginning with: 'a\xc3' \r\n",
        ),
        (
            &[b"OBJECT", b"\x80"],
            b"-ERR unknown subcommand '\x80'. Try OBJECT HELP.\r\n",
        ),
        // The key is on any core, and so is where the text is made.
        (
            &[b"XREADGROUP", b"GROUP", b"\xfd", b"c", b"STREAMS", b"s\xfc", b">"],
            b"-NOGROUP No such key 's\xfc' or consumer group '\xfd' in XREADGROUP with GROUP option\r\n",
        ),
        (
            &[b"CONFIG", b"SET", b"\xf4\x8f\xbf\xbf", b"1"],
            b"-ERR Unknown option or number of arguments for CONFIG SET - '\xf4\x8f\xbf\xbf'\r\n",
        ),
        (
            &[b"ACL", b"SETUSER", b"u", b"+\xff"],
            b"-ERR Error in ACL SETUSER modifier '+\xff': Unknown command or category name in ACL\r\n",
        ),
    ];
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut client = server.connect();
        for (words, reply) in cases {
            client.send(&request(words));
            assert_eq!(client.read_raw(reply.len()), *reply);
        }
    }
}
