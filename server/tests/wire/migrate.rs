//! MIGRATE: a key is always on one of two servers at least, nobody changes it on the way, and its core serves others meanwhile.
//!
//! Most targets here are played by the test itself, which so decides when the target answers, and what.

use crate::harness::{Server, Setup, setups};
use crate::resp::{Client, Value, bulk, ok, request};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

/// A target that does as it is told.
struct Target {
    listener: TcpListener,
    port: String,
}

/// The target's end of a connection.
struct Peer(BufReader<TcpStream>);

impl Target {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        Self {
            listener,
            port: port.to_string(),
        }
    }
    fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().expect("a connection");
        Peer(BufReader::new(stream))
    }
}

impl Peer {
    /// The next command's words, or nothing at the connection's end.
    fn command(&mut self) -> Option<Vec<Vec<u8>>> {
        let mut line = String::new();
        if self.0.read_line(&mut line).expect("a line") == 0 {
            return None;
        }
        let number = |line: &str| line[1..].trim_end().parse().expect("a number");
        let count: usize = number(&line);
        let word = |_| {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("a line");
            let mut word = vec![0; number(&line) + 2];
            self.0.read_exact(&mut word).expect("a word");
            word.truncate(word.len() - 2);
            word
        };
        Some((0..count).map(word).collect())
    }
    fn expect(&mut self, name: &str) -> Vec<Vec<u8>> {
        let words = self.command().expect("a command");
        assert_eq!(String::from_utf8_lossy(&words[0]), name);
        words
    }
    fn answer(&mut self, lines: &str) {
        let stream = self.0.get_mut();
        stream.write_all(lines.as_bytes()).expect("it is read");
    }
}

fn call(client: &mut Client, line: &str) -> Value {
    let words: Vec<&str> = line.split(' ').collect();
    client.call(&words)
}
fn ask(client: &mut Client, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    client.send(&request(&words));
}
fn error(text: &str) -> Value {
    Value::Error(text.into())
}
/// Keys of every core.
fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("key:{n}")).collect()
}
fn migrate<'a>(port: &'a str, options: &[&'a str], keys: &'a [String]) -> Vec<&'a str> {
    let mut words = vec!["MIGRATE", "127.0.0.1", port, "", "0", "20000"];
    words.extend(options);
    words.push("KEYS");
    words.extend(keys.iter().map(String::as_str));
    words
}

#[test]
fn a_key_is_held_until_the_target_has_it() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let (mut a, mut b, mut c) = (server.connect(), server.connect(), server.connect());
        let target = Target::new();
        let keys = names(9);
        for key in &keys {
            assert_eq!(a.call(&["SET", key, "v"]), ok());
        }
        a.send(&request(&migrate(&target.port, &[], &keys)));
        let mut peer = target.accept();
        assert_eq!(peer.expect("SELECT")[1], b"0");
        for key in &keys {
            let words = peer.expect("RESTORE");
            assert_eq!((&*words[1], &*words[2]), (key.as_bytes(), &b"0"[..]));
        }
        // Who wants one of them waits; everyone else does not, though every core has keys on the way.
        ask(&mut b, "INCR key:0");
        for n in 0..100 {
            assert_eq!(call(&mut c, &format!("SET other:{n} x")), ok());
        }
        assert_eq!(call(&mut c, "GET other:7"), bulk("x"));
        peer.answer(&"+OK\r\n".repeat(1 + keys.len()));
        assert_eq!(a.read(), ok());
        assert_eq!(b.read(), Value::Int(1));
        assert_eq!(call(&mut a, "DBSIZE"), Value::Int(101));
        // The connection is used again, with its database.
        assert_eq!(call(&mut a, "SET {key:0}x y"), ok());
        ask(
            &mut a,
            &format!(
                "MIGRATE 127.0.0.1 {} {{key:0}}x 0 20000 COPY REPLACE",
                target.port
            ),
        );
        let words = peer.expect("RESTORE");
        assert_eq!(words[4], b"REPLACE");
        peer.answer("+OK\r\n");
        assert_eq!(a.read(), ok());
        assert_eq!(call(&mut a, "GET {key:0}x"), bulk("y"));
    }
}

#[test]
fn what_the_target_has_not_acknowledged_stays() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut a = server.connect();
        let target = Target::new();
        let keys = names(6);
        for key in &keys {
            assert_eq!(a.call(&["SET", key, "v"]), ok());
        }
        // The target refuses one key, and then closes the connection in the midst.
        a.send(&request(&migrate(&target.port, &[], &keys)));
        let mut peer = target.accept();
        peer.expect("SELECT");
        for _ in &keys {
            peer.expect("RESTORE");
        }
        peer.answer("+OK\r\n-BUSYKEY no\r\n+OK\r\n-ERR later\r\n");
        drop(peer);
        let refused = "ERR Target instance replied with error: BUSYKEY no";
        assert_eq!(a.read(), error(refused));
        let left: Vec<_> = keys.iter().map(|key| a.call(&["EXISTS", key])).collect();
        assert_eq!(left, [1, 0, 1, 1, 1, 1].map(Value::Int));
        // It closes it before any answer, twice: a connection that was kept might have been closed long ago.
        a.send(&request(&migrate(&target.port, &[], &keys)));
        for _ in 0..2 {
            let mut peer = target.accept();
            peer.expect("SELECT");
            peer.expect("RESTORE");
        }
        let reading = "IOERR error or timeout reading to target instance";
        assert_eq!(a.read(), error(reading));
        // After the first answer it is not tried again.
        a.send(&request(&migrate(&target.port, &[], &keys)));
        let mut peer = target.accept();
        peer.expect("SELECT");
        for _ in 0..5 {
            peer.expect("RESTORE");
        }
        peer.answer("+OK\r\n+OK\r\n");
        drop(peer);
        assert_eq!(a.read(), error(reading));
        assert_eq!(call(&mut a, "DBSIZE"), Value::Int(4));
        // It never answers.
        let line = format!("MIGRATE 127.0.0.1 {} key:2 0 50", target.port);
        ask(&mut a, &line);
        let mut peer = target.accept();
        peer.expect("SELECT");
        assert_eq!(a.read(), error(reading));
        assert_eq!(call(&mut a, "GET key:2"), bulk("v"));
        // Nor does this one, which wants a password.
        ask(&mut a, &format!("{line} AUTH2 me secret"));
        let mut peer = target.accept();
        assert_eq!(
            peer.expect("AUTH")[1..],
            [b"me".to_vec(), b"secret".to_vec()]
        );
        peer.expect("SELECT");
        peer.answer("-WRONGPASS no\r\n+OK\r\n+OK\r\n");
        let refused = "ERR Target instance replied with error: WRONGPASS no";
        assert_eq!(a.read(), error(refused));
        assert_eq!(call(&mut a, "DBSIZE"), Value::Int(4));
    }
}

#[test]
fn keys_move_to_another_ringwood_and_stay_moved() {
    for shards in [1, 4] {
        let setup = Setup {
            engine: "uring",
            shards,
        };
        let options = ["--appendonly", "yes", "--enable-debug-command", "yes"];
        let from = Server::start_with(setup, &options);
        let to = Server::start(Setup {
            shards: 5 - shards,
            ..setup
        });
        let port = to.port().to_string();
        let (mut a, mut b, mut watcher) = (from.connect(), to.connect(), from.connect());
        let keys = names(40);
        for key in &keys {
            assert_eq!(a.call(&["RPUSH", key, "1", key]), Value::Int(2));
            assert_eq!(a.call(&["PEXPIREAT", key, "9999999999999"]), Value::Int(1));
        }
        assert_eq!(call(&mut watcher, "WATCH key:3"), ok());
        assert_eq!(call(&mut watcher, "MULTI"), ok());
        assert_eq!(call(&mut watcher, "PING"), Value::Simple("QUEUED".into()));
        assert_eq!(a.call(&migrate(&port, &["COPY"], &keys[..10])), ok());
        let busy =
            "ERR Target instance replied with error: BUSYKEY Target key name already exists.";
        assert_eq!(a.call(&migrate(&port, &[], &keys[..10])), error(busy));
        assert_eq!(a.call(&migrate(&port, &["REPLACE"], &keys[..20])), ok());
        assert_eq!(call(&mut watcher, "EXEC"), Value::Null);
        // In a transaction and in a script, of one core and of several.
        for line in ["MULTI", "INCR n"] {
            call(&mut a, line);
        }
        a.call(&migrate(&port, &[], &keys[20..30]));
        call(&mut a, "EXISTS key:20 key:30");
        let done = vec![Value::Int(1), ok(), Value::Int(1)];
        assert_eq!(call(&mut a, "EXEC"), Value::Array(done));
        let script = "return redis.call('MIGRATE', '127.0.0.1', ARGV[1], '', 0, 20000, 'KEYS', unpack(KEYS))";
        let mut words = vec!["EVAL", script, "10"];
        words.extend(keys[30..].iter().map(String::as_str));
        words.push(&port);
        assert_eq!(a.call(&words), ok());
        assert_eq!(a.call(&words), Value::Simple("NOKEY".into()));
        for key in &keys {
            let both = Value::Array(vec![bulk("1"), bulk(key)]);
            assert_eq!(b.call(&["LRANGE", key, "0", "-1"]), both);
            let Value::Int(left) = b.call(&["PTTL", key]) else {
                panic!("no time of {key}")
            };
            // What the way took is lost of it, as in Redis.
            assert!(left > 1_000_000_000, "{key}: {left}");
        }
        // The log says so too.
        assert_eq!(call(&mut a, "DEBUG LOADAOF"), ok());
        assert_eq!(call(&mut a, "KEYS *"), Value::Array(vec![bulk("n")]));
    }
}
