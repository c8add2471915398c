//! Commands done beside their core: those over large sets are atomic for everyone, and lose nothing, while other clients change the same keys, scan
//! the keyspace and come and go. (`server/src/aside.rs`)

use crate::harness::{Server, setups};
use crate::persistence::TemporaryFolder;
use crate::resp::{Client, Value, bulk, ok};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

/// Commands over more elements than this go aside.
const ASIDE: [&str; 2] = ["--aside-elements-min", "100"];
const MEMBERS: usize = 4_000;
/// Members that move between two sets.
const MOVING: usize = 50;

/// Ends the other threads, also when a check fails: else nobody would hear of it.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}
fn call(client: &mut Client, line: &str) -> Value {
    client.call(&words(line))
}

fn parts(reply: Value) -> Vec<Value> {
    match reply {
        Value::Array(parts) => parts,
        other => panic!("{other:?}"),
    }
}

/// Fills `a` and `b`, whose members are shared but for the moving ones, which are all in `a`.
fn fill(client: &mut Client) {
    for from in (0..MEMBERS).step_by(2_000) {
        let members = (from..from + 2_000).map(|n| format!("member:{n}"));
        let members: Vec<String> = members.collect();
        for key in ["a", "b"] {
            let line = format!("SADD {key} {}", members.join(" "));
            assert_eq!(call(client, &line), Value::Int(2_000));
        }
    }
    for n in 0..MOVING {
        assert_eq!(call(client, &format!("SADD a moving:{n}")), Value::Int(1));
    }
}

/// Every key that a whole scan brings.
fn scan(client: &mut Client) -> BTreeSet<Vec<u8>> {
    let mut all = BTreeSet::new();
    let mut cursor = b"0".to_vec();
    loop {
        let reply = client.call(&[&b"SCAN"[..], &cursor[..], b"COUNT", b"3"]);
        let Value::Array(parts) = reply else {
            panic!("{reply:?}")
        };
        let [Value::Bulk(next), Value::Array(keys)] = &parts[..] else {
            panic!("{parts:?}")
        };
        for key in keys {
            let Value::Bulk(key) = key else {
                panic!("{key:?}")
            };
            all.insert(key.clone());
        }
        if next == b"0" {
            return all;
        }
        cursor = next.clone();
    }
}

#[test]
fn large_sets_change_as_a_whole_for_everyone() {
    for setup in setups(&[1, 2, 4]) {
        let server = Server::start_with(setup, &ASIDE);
        let mut client = server.connect();
        fill(&mut client);
        for n in 0..40 {
            assert_eq!(call(&mut client, &format!("SET other:{n} x")), ok());
        }
        let all = (MEMBERS + MOVING) as i64;
        assert_eq!(call(&mut client, "SUNIONSTORE d a b"), Value::Int(all));
        assert_eq!(call(&mut client, "SUNIONSTORE e a"), Value::Int(all));
        let stop = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _stop = StopAtEnd(stop);
            // A moving member is in one of the two sets at every moment.
            let mover = server.connect();
            scope.spawn(move || {
                let mut mover = mover;
                for round in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let (from, to) = if (round / MOVING).is_multiple_of(2) {
                        ("a", "b")
                    } else {
                        ("b", "a")
                    };
                    let member = format!("moving:{}", round % MOVING);
                    assert_eq!(call(&mut mover, "MULTI"), ok());
                    call(&mut mover, &format!("SREM {from} {member}"));
                    call(&mut mover, &format!("SADD {to} {member}"));
                    let done = Value::Array(vec![Value::Int(1), Value::Int(1)]);
                    assert_eq!(call(&mut mover, "EXEC"), done);
                }
            });
            let scanner = server.connect();
            scope.spawn(move || {
                let mut scanner = scanner;
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(scan(&mut scanner).len(), 44);
                    assert_eq!(call(&mut scanner, "DBSIZE"), Value::Int(44));
                    // Locked keys are waited for, whoever asks.
                    assert_eq!(call(&mut scanner, "EXISTS a b d other:1"), Value::Int(4));
                }
            });
            for round in 0..8 {
                assert_eq!(call(&mut client, "SUNIONSTORE d a b"), Value::Int(all));
                assert_eq!(call(&mut client, "SCARD d"), Value::Int(all));
                assert_eq!(
                    call(&mut client, "SINTERSTORE d a b"),
                    Value::Int(MEMBERS as i64)
                );
                assert_eq!(call(&mut client, "SCARD d"), Value::Int(MEMBERS as i64));
                // In one go, in a transaction; and both differences at one moment.
                for line in ["MULTI", "SDIFF a b", "SDIFF b a", "EXEC"] {
                    let reply = call(&mut client, line);
                    if let Value::Array(both) = reply {
                        let len = |v: &Value| match v {
                            Value::Array(v) => v.len(),
                            other => panic!("{other:?}"),
                        };
                        assert_eq!(both.iter().map(len).sum::<usize>(), MOVING);
                    }
                }
                // Somebody asks and goes away.
                let mut gone = server.connect();
                gone.send(&crate::resp::request(&["SUNIONSTORE", "e", "b", "a"]));
                drop(gone);
                // A pipeline behind one keeps its order.
                let mut bytes = Vec::new();
                for line in [
                    "SDIFFSTORE d a none",
                    "SCARD d",
                    "SET other:1 y",
                    "GET other:1",
                    "SCARD none",
                ] {
                    crate::resp::push_request(&mut bytes, &words(line));
                }
                client.send(&bytes);
                let Value::Int(stored) = client.read() else {
                    panic!("no number in round {round}")
                };
                client.expect(&[Value::Int(stored), ok(), bulk("y"), Value::Int(0)]);
            }
        });
    }
}

/// In a transaction everything is done at once.
#[test]
fn what_is_found_aside_is_what_is_found_at_once() {
    for setup in setups(&[1, 4]) {
        let server = Server::start_with(setup, &ASIDE);
        let mut client = server.connect();
        let mut bytes = Vec::new();
        const ENTRIES: i64 = 2000;
        for n in 0..ENTRIES {
            for line in [
                format!("XADD x {}-1 field {n}", n + 1),
                format!("GEOADD g 13.{:04} 52.{:04} place:{n}", n * 7 % 10_000, n),
                format!("RPUSH l {}", n * 31 % ENTRIES),
                format!("SADD m member:{n}"),
                format!("HSET h field:{n} {n}"),
            ] {
                crate::resp::push_request(&mut bytes, &words(&line));
            }
        }
        client.send(&bytes);
        for n in 0..ENTRIES {
            let id = format!("{}-1", n + 1);
            let new = Value::Int(1);
            client.expect(&[bulk(&id), new.clone(), Value::Int(n + 1), new.clone(), new]);
        }
        assert_eq!(call(&mut client, "SETBIT bits 800000 1"), Value::Int(0));
        assert_eq!(call(&mut client, "XGROUP CREATE x g 0"), ok());
        for (line, count) in [
            ("SRANDMEMBER m -3000", 3_000),
            ("SRANDMEMBER m 1900", 1_900),
            ("SRANDMEMBER m 3000", 2_000),
            ("HRANDFIELD h -3000 WITHVALUES", 6_000),
            ("HRANDFIELD h 1900", 1_900),
            ("ZRANDMEMBER g -3000", 3_000),
            ("ZRANDMEMBER g 1900 WITHSCORES", 3_800),
            ("SRANDMEMBER missing -3000", 0),
        ] {
            assert_eq!(parts(call(&mut client, line)).len(), count, "{line}");
        }
        // What is new to the group is told once.
        let new = parts(call(
            &mut client,
            "XREADGROUP GROUP g c COUNT 1500 STREAMS x >",
        ));
        let entries = call(&mut client, "XRANGE x - + COUNT 1500");
        assert_eq!(new, [Value::Array(vec![bulk("x"), entries])]);
        let pending = parts(call(&mut client, "XPENDING x g"));
        let span = [Value::Int(1500), bulk("1-1"), bulk("1500-1")];
        assert_eq!(pending[..3], span);
        for line in [
            "XREAD STREAMS x 0",
            "XREAD STREAMS x y x 1990-1 0 100-1",
            "XREAD COUNT 600 BLOCK 0 STREAMS x x 5 1500-1",
            "XREADGROUP GROUP g c STREAMS x 0",
            "XREADGROUP GROUP g c COUNT 1400 STREAMS x 7",
            "SSCAN m 0 COUNT 3000",
            "HSCAN h 0 COUNT 3000",
            "HSCAN h 0 COUNT 3000 NOVALUES",
            "ZSCAN g 0 COUNT 3000",
            "ZSCAN g 0 COUNT 600 NOSCORES",
            "BITOP NOT inverse bits",
            "BITCOUNT inverse",
            "BITCOUNT inverse 5 90000",
            "BITPOS inverse 0",
            "BITPOS bits 1 60000 -1",
            "BITOP XOR all bits nothing inverse",
            "BITCOUNT all",
            "DUMP bits",
            "COPY bits copy REPLACE",
            "GETRANGE copy 99990 -1",
            "XRANGE x - +",
            "XRANGE x 900-1 1400 COUNT 500",
            "XREVRANGE x 1900 30",
            "GEOSEARCH g FROMLONLAT 13.5 52.1 BYRADIUS 100 km ASC WITHDIST",
            "GEOSEARCH g FROMLONLAT 13.5 52.1 BYBOX 90 90 km DESC COUNT 900",
            "GEOSEARCHSTORE d g FROMLONLAT 13.5 52.1 BYRADIUS 30 km",
            "ZCARD d",
            "SORT l STORE d",
            "LRANGE d 0 -1",
            "SORT l ALPHA DESC",
            "LPOS l 31",
            "LPOS l 1969",
            "LPOS l 31 RANK -1 COUNT 0",
            "LPOS l 31 RANK -1 MAXLEN 50",
            "LPOS l none",
            "LINSERT l AFTER none x",
        ] {
            let aside = call(&mut client, line);
            assert!(!matches!(aside, Value::Error(_)), "{line}: {aside:?}");
            assert_eq!(call(&mut client, "MULTI"), ok());
            call(&mut client, line);
            let at_once = call(&mut client, "EXEC");
            assert_eq!(at_once, Value::Array(vec![aside]), "{line}");
        }
        for (line, reply) in [
            ("LINSERT l AFTER 31 near", ENTRIES + 1),
            ("LINSERT l BEFORE 1969 far", ENTRIES + 2),
            ("LREM l 1 near", 1),
            ("LREM l -1 near", 0),
            ("LREM l -1 far", 1),
            ("LREM l 0 31", 1),
            ("LLEN l", ENTRIES - 1),
        ] {
            assert_eq!(call(&mut client, line), Value::Int(reply), "{line}");
        }
    }
}

/// Pops of many from the first key that has any, and consumers with much that is pending.
#[test]
fn what_is_taken_out_aside_is_taken_out_once() {
    const ALL: i64 = 2000;
    for setup in setups(&[1, 4]) {
        let server = Server::start_with(setup, &ASIDE);
        let mut client = server.connect();
        for n in 1..=ALL {
            call(&mut client, &format!("RPUSH l {n}"));
            call(&mut client, &format!("ZADD z {n} m:{n}"));
            call(&mut client, &format!("XADD x {n}-1 f v"));
        }
        for (line, key, left) in [
            ("LMPOP 2 none l LEFT COUNT 900", "LLEN l", ALL - 900),
            ("BLMPOP 0 2 none l RIGHT COUNT 5000", "LLEN l", 0),
            ("ZMPOP 2 none z MIN COUNT 900", "ZCARD z", ALL - 900),
            ("BZMPOP 0 2 none z MAX COUNT 5000", "ZCARD z", 0),
        ] {
            let before = match call(&mut client, key) {
                Value::Int(count) => count,
                other => panic!("{other:?}"),
            };
            let popped = parts(call(&mut client, line));
            let [name, elements] = &popped[..] else {
                panic!("{line}: {popped:?}")
            };
            assert_eq!(*name, bulk(key.split(' ').nth(1).expect("a key")));
            let count = parts(elements.clone()).len() as i64;
            assert_eq!(count, before - left, "{line}");
            assert_eq!(call(&mut client, key), Value::Int(left), "{line}");
        }
        for group in ["g", "h"] {
            let line = format!("XGROUP CREATE x {group} 0");
            assert_eq!(call(&mut client, &line), ok());
            let line = format!("XREADGROUP GROUP {group} c COUNT 1500 STREAMS x >");
            assert_eq!(parts(call(&mut client, &line)).len(), 1);
        }
        for (line, reply) in [
            ("XGROUP DELCONSUMER x g c", 1500),
            ("XGROUP DELCONSUMER x g c", 0),
            ("XGROUP DESTROY x h", 1),
            ("XGROUP DESTROY x h", 0),
            ("XGROUP DESTROY x g", 1),
        ] {
            assert_eq!(call(&mut client, line), Value::Int(reply), "{line}");
        }
        // What the group held is freed behind the reply.
        let pending = |client: &mut Client| match call(client, "INFO memory") {
            Value::Bulk(text) => String::from_utf8_lossy(&text).into_owned(),
            other => panic!("{other:?}"),
        };
        while !pending(&mut client).contains("lazyfree_pending_objects:0") {}
    }
}

#[test]
fn a_source_whose_time_is_over_meanwhile_counts_whole() {
    for setup in setups(&[1, 4]) {
        let server = Server::start_with(setup, &ASIDE);
        let mut client = server.connect();
        fill(&mut client);
        let (all, none) = (Value::Int((MEMBERS + MOVING) as i64), Value::Int(0));
        for ttl in 1..30 {
            call(&mut client, "DEL c d");
            assert_eq!(call(&mut client, "COPY a c"), Value::Int(1));
            assert_eq!(
                call(&mut client, &format!("PEXPIRE c {ttl}")),
                Value::Int(1)
            );
            let stored = call(&mut client, "SUNIONSTORE d c");
            assert!(stored == all || stored == none, "{stored:?} with {ttl} ms");
            assert_eq!(call(&mut client, "SCARD d"), stored);
        }
        assert_eq!(call(&mut client, "FLUSHALL"), ok());
        assert_eq!(call(&mut client, "DBSIZE"), none);
    }
}

/// What watches keys, waits for them or caches them hears of what is done to them aside.
#[test]
fn who_has_an_eye_on_a_key_hears_of_it() {
    for setup in setups(&[1, 4]) {
        let server = Server::start_with(setup, &ASIDE);
        let (mut client, mut other) = (server.connect(), server.connect());
        fill(&mut client);
        for line in ["ZUNIONSTORE z 1 a", "ZUNIONSTORE y 1 b"] {
            assert!(matches!(call(&mut client, line), Value::Int(_)));
        }
        for (line, changes) in [
            ("SUNIONSTORE d a b", true),
            ("SUNIONSTORE e a b", false),
            ("SINTERCARD 2 a d", false),
            ("ZDIFFSTORE d 2 z y", true),
        ] {
            assert_eq!(call(&mut client, "WATCH d"), ok());
            assert!(!matches!(call(&mut other, line), Value::Error(_)), "{line}");
            assert_eq!(call(&mut client, "MULTI"), ok());
            call(&mut client, "PING");
            let nothing = call(&mut client, "EXEC") == Value::Null;
            assert_eq!(nothing, changes, "{line}");
        }
        // A blocked client is served from what was stored.
        client.send(&crate::resp::request(&["BZPOPMIN", "waited", "0"]));
        while !matches!(call(&mut other, "INFO clients"), Value::Bulk(text) if String::from_utf8_lossy(&text).contains("blocked_clients:1"))
        {
        }
        let stored = call(&mut other, "ZUNIONSTORE waited 2 z y");
        assert_eq!(stored, Value::Int((MEMBERS + MOVING) as i64));
        assert_eq!(parts(client.read())[0], bulk("waited"));
        assert_eq!(
            call(&mut other, "ZCARD waited"),
            Value::Int((MEMBERS + MOVING - 1) as i64)
        );
        // A caching client: what it has read aside, and what was changed aside.
        call(&mut client, "HELLO 3");
        assert_eq!(call(&mut client, "CLIENT TRACKING ON"), ok());
        call(&mut client, "SINTERCARD 2 a b");
        assert_eq!(call(&mut other, "SADD a new"), Value::Int(1));
        let told = client.read();
        assert_eq!(parts(told)[1], Value::Array(vec![bulk("a")]));
    }
}

/// A store is logged once, and wholly; in a transaction and in a script too.
#[test]
fn what_is_done_aside_is_logged() {
    for shards in [1, 4] {
        let folder = TemporaryFolder::new("aside");
        let dir = folder.to_str().expect("a plain name");
        let mut options = vec!["--dir", dir, "--save", "", "--appendonly", "yes"];
        options.extend(ASIDE);
        options.extend(["--enable-debug-command", "yes"]);
        let start = || {
            let server = crate::server::Server::start(shards, &options);
            let mut client = server.client();
            while client.call("PING").starts_with("-LOADING") {}
            (server, client)
        };
        let digests = |client: &mut crate::server::Client| {
            let keys = ["a", "b", "d", "e", "z", "y", "w"];
            keys.map(|key| client.call(&format!("DEBUG DIGEST-VALUE {key}")))
        };
        let (server, mut client) = start();
        for (key, from) in [("a", 0), ("b", 300)] {
            let members = (from..from + 600).map(|n| format!(" member:{n}"));
            client.call(&format!("SADD {key}{}", members.collect::<String>()));
        }
        for line in [
            "SUNIONSTORE d a b",
            "ZUNIONSTORE z 2 a b WEIGHTS 2 3",
            "MULTI",
            "SDIFFSTORE e a b",
            "EXEC",
            "EVAL redis.call('ZUNIONSTORE','w',2,'a','z') 0",
            "ZDIFFSTORE y 2 z e",
            "SREM a member:0",
        ] {
            let reply = client.call(line);
            assert!(!reply.starts_with('-'), "{line}: {reply}");
        }
        let before = digests(&mut client);
        assert!(
            !before.iter().any(|d| d.contains("000000000000")),
            "{before:?}"
        );
        drop((client, server));
        let mut log = Vec::new();
        for file in std::fs::read_dir(folder.join("appendonlydir")).expect("the log's folder") {
            log.extend(std::fs::read(file.expect("a file").path()).expect("a file of the log"));
        }
        let log = String::from_utf8_lossy(&log);
        for name in ["SUNIONSTORE", "SDIFFSTORE", "ZDIFFSTORE"] {
            // Where its keys are in several files, a command is logged by what it made.
            let times = log.matches(name).count();
            assert!(times == 1 || times == 0 && shards > 1, "{name}: {times}");
        }
        let (_server, mut client) = start();
        assert_eq!(digests(&mut client), before, "{shards} shards");
    }
}

/// Snapshots, the log's rewriting, other databases' exchange, less memory and the end of everything wait for what is aside, and lose nothing of it.
#[test]
fn what_concerns_all_keys_waits_for_what_is_aside() {
    for shards in [1, 4] {
        for (save, end) in [("", "TERM"), ("3600 1000000", "TERM"), ("", "INT")] {
            let folder = TemporaryFolder::new("aside");
            let dir = folder.to_str().expect("a plain name");
            let logged = if save.is_empty() { "yes" } else { "no" };
            let mut options = vec!["--dir", dir, "--save", save, "--appendonly", logged];
            options.extend(ASIDE);
            let start = || {
                let server = crate::server::Server::start(shards, &options);
                let mut client = server.client();
                while client.call("PING").starts_with("-LOADING") {}
                (server, client)
            };
            let (mut server, mut client) = start();
            for (key, from) in [("a", 0), ("b", 3_000)] {
                let members = (from..from + 6_000).map(|n| format!(" member:{n}"));
                client.call(&format!("SADD {key}{}", members.collect::<String>()));
            }
            let mut long = server.client();
            for line in [
                "BGSAVE",
                "BGREWRITEAOF",
                "CONFIG SET maxmemory 1gb",
                "SWAPDB 0 1",
                "SWAPDB 0 1",
                "DBSIZE",
            ] {
                long.ask(&["SUNIONSTORE", "d", "a", "b"]);
                let reply = client.call(line);
                assert!(!reply.starts_with("-ERR unknown"), "{line}: {reply}");
                let stored = long.reply();
                // The other database has no such keys.
                let known = [Some(":9000\r\n".to_owned()), Some(":0\r\n".to_owned())];
                assert!(known.contains(&stored), "{line}: {stored:?}");
            }
            // Nobody reads this answer, and the next thing is the end.
            let mut gone = server.client();
            gone.ask(&["SUNIONSTORE", "gone", "b", "a"]);
            drop(gone);
            assert_eq!(client.call("SUNIONSTORE e a b"), ":9000\r\n");
            long.ask(&["SUNIONSTORE", "f", "a", "b"]);
            let pid = server.pid().to_string();
            let mut kill = std::process::Command::new("kill");
            let sent = kill.args(["-s", end, &pid]).status();
            assert!(sent.expect("kill(1) runs").success());
            let answered = long.reply();
            assert!(server.ended().success());
            let (_server, mut client) = start();
            assert_eq!(client.call("SCARD e"), ":9000\r\n", "{shards} {save} {end}");
            let there = client.call("SCARD f");
            match answered {
                Some(_) => assert_eq!(there, ":9000\r\n", "{shards} {save} {end}"),
                None => assert!(there == ":9000\r\n" || there == ":0\r\n", "{there}"),
            }
            assert_eq!(client.call("SCARD a"), ":6000\r\n");
            assert_eq!(client.call("SCARD b"), ":6000\r\n");
            // As a whole or not at all.
            let gone = client.call("SCARD gone");
            assert!(gone == ":9000\r\n" || gone == ":0\r\n", "{gone}");
        }
    }
}
