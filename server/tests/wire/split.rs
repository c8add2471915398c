//! Requests that arrive in pieces.

use crate::harness::{Server, setups};
use crate::resp::{Value, bulk, ok, push_request};
use std::thread::sleep;
use std::time::Duration;

/// Long enough that the server most likely handles the first piece alone. When it does not, the test is weaker, not wrong.
const PAUSE: Duration = Duration::from_micros(500);

/// Requests of every kind, and what they answer each time.
fn script() -> (Vec<u8>, Vec<Value>) {
    let mut bytes = Vec::new();
    let mut replies = Vec::new();
    let mut add = |words: &[&str], reply: Value| {
        push_request(&mut bytes, words);
        replies.push(reply);
    };
    add(&["SET", "one", "first\r\nvalue"], ok());
    add(&["GET", "one"], bulk("first\r\nvalue"));
    add(&["SET", "two", ""], ok());
    add(&["MGET", "one", "two", "three"], {
        Value::Array(vec![bulk("first\r\nvalue"), bulk(""), Value::Null])
    });
    add(&["ECHO", "*1\r\n$4\r\nPING\r\n"], {
        bulk("*1\r\n$4\r\nPING\r\n")
    });
    add(&["DEL", "one", "two"], Value::Int(2));
    add(&["NOSUCH", "x"], {
        Value::Error("ERR unknown command 'NOSUCH', with args beginning with: 'x' ".into())
    });
    bytes.extend_from_slice(b"PING\r\n");
    replies.push(Value::Simple("PONG".into()));
    bytes.extend_from_slice(b"  set  inline \"a \\x41\\r\" \n\r\n*0\r\nget inline\r\n");
    replies.extend([ok(), bulk("a A\r")]);
    (bytes, replies)
}

#[test]
fn a_pipeline_may_be_cut_at_every_byte() {
    let (bytes, replies) = script();
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut client = server.connect();
        for cut in 0..=bytes.len() {
            client.send(&bytes[..cut]);
            sleep(PAUSE);
            client.send(&bytes[cut..]);
            client.expect(&replies);
        }
    }
}

#[test]
fn a_pipeline_may_come_byte_by_byte() {
    let (bytes, replies) = script();
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut client = server.connect();
        for byte in &bytes {
            client.send(&[*byte]);
            sleep(PAUSE / 4);
        }
        client.expect(&replies);
    }
}

#[test]
fn inline_commands() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut client = server.connect();
        client.send(b"PING\nPING\r\n\r\n\n   \r\nSET a 'single \\' quoted'\r\nGET a\r\n");
        let pong = Value::Simple("PONG".into());
        client.expect(&[pong.clone(), pong.clone(), ok(), bulk("single ' quoted")]);
        // A pipeline that changes between both forms.
        client.send(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n*1\r\n$4\r\nPING\r\n");
        client.expect(&[bulk("single ' quoted"), pong.clone(), pong.clone()]);
        // The longest that is allowed, 64 KB.
        let word = "x".repeat((64 << 10) - 5);
        client.send(format!("ECHO {word}\n").as_bytes());
        client.expect(&[bulk(word)]);
    }
}
