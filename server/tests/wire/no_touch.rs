//! CLIENT NO-TOUCH: what such a client does leaves the age of keys as it is, on its own core and on others, alone, in transactions
//! and in scripts.

use crate::server::{Client, Server};

/// With this factor every access counts, so that nothing depends on chance.
const COUNTING: [&str; 6] = [
    "--maxmemory-policy",
    "allkeys-lfu",
    "--lfu-log-factor",
    "0",
    "--lfu-decay-time",
    "0",
];

fn key(n: usize) -> String {
    format!("key{n}")
}

#[track_caller]
fn check_all(c: &mut Client, frequency: usize, when: &str) {
    for n in 0..8 {
        let reply = c.call(&format!("OBJECT FREQ {}", key(n)));
        assert_eq!(reply, format!(":{frequency}\r\n"), "{} {when}", key(n));
    }
}

fn words(c: &mut Client, words: &[&str]) -> String {
    c.ask(words);
    c.reply().expect("a reply")
}

#[test]
fn a_client_that_does_not_touch_leaves_keys_their_age() {
    for shards in [1, 4] {
        let server = Server::start(shards, &COUNTING);
        let (mut c, mut other) = (server.client(), server.client());
        for n in 0..8 {
            assert_eq!(c.call(&format!("SET {} value", key(n))), "+OK\r\n");
        }
        check_all(&mut other, 5, "when made");
        assert_eq!(c.call("CLIENT NO-TOUCH ON"), "+OK\r\n");
        for n in 0..8 {
            let key = key(n);
            assert_eq!(c.call(&format!("GET {key}")), "$5\r\nvalue\r\n");
            assert_eq!(c.call(&format!("APPEND {key} ''")), ":7\r\n");
            assert_eq!(c.call(&format!("SETRANGE {key} 0 value")), ":7\r\n");
            let script = ["EVAL", "return redis.call('strlen', KEYS[1])", "1", &key];
            assert_eq!(words(&mut c, &script), ":7\r\n");
            assert_eq!(c.call("MULTI"), "+OK\r\n");
            assert_eq!(c.call(&format!("STRLEN {key}")), "+QUEUED\r\n");
            assert_eq!(c.call("EXEC"), "*1\r\n:7\r\n");
        }
        let all: Vec<String> = (0..8).map(key).collect();
        let all = all.join(" ");
        assert!(c.call(&format!("MGET {all}")).starts_with("*8\r\n"));
        assert_eq!(c.call("MULTI"), "+OK\r\n");
        assert_eq!(c.call(&format!("MGET {all}")), "+QUEUED\r\n");
        assert!(c.call("EXEC").starts_with("*1\r\n*8\r\n"));
        check_all(&mut other, 5, "after another client's reads");

        assert_eq!(c.call(&format!("TOUCH {all}")), ":8\r\n");
        check_all(&mut other, 6, "after TOUCH");
        for n in 0..8 {
            let script = ["EVAL", "return redis.call('touch', KEYS[1])", "1", &key(n)];
            assert_eq!(words(&mut c, &script), ":1\r\n");
        }
        check_all(&mut other, 7, "after TOUCH in a script");
        assert!(other.call(&format!("MGET {all}")).starts_with("*8\r\n"));
        check_all(&mut c, 8, "after a plain client's reads");
        assert_eq!(c.call("CLIENT NO-TOUCH OFF"), "+OK\r\n");
        for n in 0..8 {
            assert!(c.call(&format!("GET {}", key(n))).starts_with("$7\r\n"));
        }
        check_all(&mut other, 9, "when it touches again");
    }
}
