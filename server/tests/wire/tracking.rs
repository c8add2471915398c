//! CLIENT TRACKING over all cores: who is told of what, and that nobody keeps a stale value.

use crate::conn::Conn;
use crate::harness::{Random, Server, setups};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A client of RESP3 that tracks.
fn tracking(server: &Server, options: &str) -> Conn {
    let mut c = Conn::new(server.port());
    c.skip_past("\r\n$7\r\nmodules\r\n*0\r\n", "HELLO 3");
    c.check(&format!("CLIENT TRACKING ON{options}"), "+OK\r\n");
    c
}
fn stale(keys: &[&str]) -> String {
    let names: String = keys
        .iter()
        .map(|k| format!("${}\r\n{k}\r\n", k.len()))
        .collect();
    format!(">2\r\n$10\r\ninvalidate\r\n*{}\r\n{names}", keys.len())
}

#[test]
fn what_was_read_is_told_when_it_changes_once() {
    for setup in setups(&[1, 3]) {
        let server = Server::start(setup);
        let mut reader = tracking(&server, "");
        let mut writer = Conn::new(server.port());
        for n in 0..12 {
            let key = format!("k{n}");
            writer.check(&format!("SET {key} 1"), "+OK\r\n");
            reader.check(&format!("GET {key}"), "$1\r\n1\r\n");
            writer.check(&format!("SET {key} 2"), "+OK\r\n");
            reader.expect(&stale(&[&key]));
            // It has forgotten it, so it is not told again.
            writer.check(&format!("SET {key} 3"), "+OK\r\n");
        }
        reader.expect_silence();
        // Whatever reads, and whatever changes.
        reader.check("MGET k1 k2 k3", "*3\r\n$1\r\n3\r\n$1\r\n3\r\n$1\r\n3\r\n");
        writer.check("DEL k1", ":1\r\n");
        reader.expect(&stale(&["k1"]));
        writer.check("RENAME k2 k1", "+OK\r\n");
        reader.expect(&stale(&["k2"]));
        writer.check("PEXPIRE k3 1", ":1\r\n");
        reader.expect(&stale(&["k3"]));
        for line in ["MULTI", "GET k4", "GET k5", "EXEC"] {
            reader.send(&[line]);
        }
        reader.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$1\r\n3\r\n$1\r\n3\r\n");
        for key in ["k4", "k5"] {
            for line in ["MULTI", &format!("APPEND {key} x"), "APPEND k6 x"] {
                writer.skip_past("\r\n", line);
            }
            writer.skip_past(":", "EXEC");
            reader.expect(&stale(&[key]));
        }
        // A blocked client takes what was read.
        reader.check("LRANGE list 0 -1", "*0\r\n");
        writer.skip_past(":1\r\n", "RPUSH list x");
        reader.expect(&stale(&["list"]));
        reader.check("GET k7", "$1\r\n3\r\n");
        writer.skip_past("+OK\r\n", "FLUSHALL");
        reader.expect(">2\r\n$10\r\ninvalidate\r\n_\r\n");
        reader.check("CLIENT TRACKING OFF", "+OK\r\n");
        reader.check("GET k7", "_\r\n");
        writer.check("SET k7 1", "+OK\r\n");
        reader.expect_silence();
    }
}

#[test]
fn own_changes_are_told_unless_not_wanted() {
    for setup in setups(&[1, 3]) {
        let server = Server::start(setup);
        let mut reader = tracking(&server, "");
        let mut alone = tracking(&server, " NOLOOP");
        for n in 0..6 {
            let key = format!("k{n}");
            for c in [&mut reader, &mut alone] {
                c.check(&format!("GET {key}"), "_\r\n");
            }
            alone.check(&format!("SET {key} 1"), "+OK\r\n");
            reader.expect(&stale(&[&key]));
            reader.check(&format!("GET {key}"), "$1\r\n1\r\n");
            reader.check(&format!("DEL {key}"), ":1\r\n");
            reader.expect(&stale(&[&key]));
        }
        alone.expect_silence();
    }
}

#[test]
fn prefixes_are_told_to_who_asked_for_them() {
    for setup in setups(&[1, 3]) {
        let server = Server::start(setup);
        let mut some = tracking(&server, " BCAST PREFIX a: PREFIX b:");
        let mut all = tracking(&server, " BCAST NOLOOP");
        let mut writer = Conn::new(server.port());
        for n in 0..6 {
            for (prefix, told) in [("a:", true), ("b:", true), ("c:", false)] {
                let key = format!("{prefix}{n}");
                writer.check(&format!("SET {key} 1"), "+OK\r\n");
                all.expect(&stale(&[&key]));
                if told {
                    some.expect(&stale(&[&key]));
                }
            }
        }
        all.check("SET a:1 2", "+OK\r\n");
        some.expect(&stale(&["a:1"]));
        all.expect_silence();
        let info = writer.text("INFO everything");
        for field in ["tracking_clients:2", "tracking_total_prefixes:3"] {
            assert!(info.contains(field), "{info}");
        }
    }
}

#[test]
fn opting_in_and_out_is_for_one_command() {
    for setup in setups(&[1, 3]) {
        let server = Server::start(setup);
        let mut opt_in = tracking(&server, " OPTIN");
        let mut opt_out = tracking(&server, " OPTOUT");
        let mut writer = Conn::new(server.port());
        for (a, b) in [("k1", "k2"), ("k3", "k4"), ("k5", "k6")] {
            opt_in.check("CLIENT CACHING YES", "+OK\r\n");
            opt_out.check("CLIENT CACHING NO", "+OK\r\n");
            for c in [&mut opt_in, &mut opt_out] {
                c.check(&format!("GET {a}"), "_\r\n");
                c.check(&format!("GET {b}"), "_\r\n");
            }
            writer.check(&format!("SET {a} 1"), "+OK\r\n");
            writer.check(&format!("SET {b} 1"), "+OK\r\n");
            opt_in.expect(&stale(&[a]));
            opt_out.expect(&stale(&[b]));
        }
        opt_in.expect_silence();
        opt_out.expect_silence();
    }
}

#[test]
fn another_connection_listens_for_clients_of_resp2() {
    for setup in setups(&[1, 3]) {
        let server = Server::start(setup);
        let mut listener = Conn::new(server.port());
        listener.send(&["CLIENT ID"]);
        let id = {
            let info = Conn::new(server.port()).text("CLIENT LIST");
            let address = format!("addr={} ", listener.address());
            let line = info
                .lines()
                .find(|l| l.contains(&address))
                .expect("it is there");
            line["id=".len()..]
                .split(' ')
                .next()
                .expect("an id")
                .to_string()
        };
        listener.expect(&format!(":{id}\r\n"));
        let channel = "$20\r\n__redis__:invalidate\r\n";
        listener.check(
            "SUBSCRIBE __redis__:invalidate",
            &format!("*3\r\n$9\r\nsubscribe\r\n{channel}:1\r\n"),
        );
        let mut reader = Conn::new(server.port());
        reader.check(
            "CLIENT TRACKING ON REDIRECT 123456",
            "-ERR The client ID you want redirect to does not exist\r\n",
        );
        reader.check(&format!("CLIENT TRACKING ON REDIRECT {id}"), "+OK\r\n");
        reader.check("CLIENT GETREDIR", &format!(":{id}\r\n"));
        let mut writer = Conn::new(server.port());
        for n in 0..6 {
            reader.check(&format!("GET k{n}"), "$-1\r\n");
            writer.check(&format!("SET k{n} 1"), "+OK\r\n");
            listener.expect(&format!(
                "*3\r\n$7\r\nmessage\r\n{channel}*1\r\n$2\r\nk{n}\r\n"
            ));
        }
        writer.check("FLUSHALL", "+OK\r\n");
        listener.expect(&format!("*3\r\n$7\r\nmessage\r\n{channel}$-1\r\n"));
        // The listener goes; who speaks RESP3 hears of that.
        reader.skip_past("\r\n$7\r\nmodules\r\n*0\r\n", "HELLO 3");
        reader.check("GET k1", "_\r\n");
        drop(listener);
        while writer.text("CLIENT LIST").contains(&format!("id={id} ")) {}
        writer.check("SET k1 1", "+OK\r\n");
        reader.expect(&format!(">2\r\n$21\r\ntracking-redir-broken\r\n:{id}\r\n"));
    }
}

#[test]
fn the_table_keeps_to_its_limit() {
    for setup in setups(&[1, 3]) {
        let server = Server::start_with(setup, &["--tracking-table-max-keys", "30"]);
        let mut reader = tracking(&server, "");
        for n in 0..600 {
            reader.send(&[&format!("GET k{n}")]);
        }
        let mut c = Conn::new(server.port());
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let info = c.text("INFO stats");
            let at = info.find("tracking_total_keys:").expect("the field") + 20;
            let keys: String = info[at..]
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            let keys: usize = keys.parse().expect("a number");
            if keys > 0 && keys <= 30 {
                break;
            }
            assert!(Instant::now() < end, "{keys} keys");
        }
        reader.skip_past(&stale(&["k1"])[..20], "PING");
    }
}

/// Not more for each core: what one of them keeps the others may not.
#[test]
fn the_table_of_all_cores_keeps_to_a_small_limit() {
    for setup in setups(&[1, 3]) {
        let server = Server::start_with(setup, &["--enable-debug-command", "yes"]);
        let mut c = Conn::new(server.port());
        // The limit holds when it is set, not some time later.
        c.check("DEBUG PAUSE-CRON 1", "+OK\r\n");
        let mut reader = tracking(&server, "");
        for n in 0..100 {
            reader.check(&format!("GET k{n}"), "_\r\n");
        }
        let kept = |c: &mut Conn| {
            let info = c.text("INFO stats");
            let line = info.lines().find(|l| l.starts_with("tracking_total_keys:"));
            line.expect("the field")[20..]
                .parse::<u64>()
                .expect("a number")
        };
        assert_eq!(kept(&mut c), 100, "{setup:?}");
        for most in [0, 50, 7, 1] {
            c.check(
                &format!("CONFIG SET tracking-table-max-keys {most}"),
                "+OK\r\n",
            );
            // A core that took its share when it did not know of the others' keys yet is told by the next look.
            let end = Instant::now() + Duration::from_secs(10);
            let want = if most == 0 { 100 } else { most };
            while kept(&mut c) != want {
                assert!(Instant::now() < end, "{setup:?} {most}");
                c.check("DEBUG PAUSE-CRON 0", "+OK\r\n");
            }
        }
    }
}

/// A caching client reads at random while others write: when all is quiet, what it has kept is what is there.
#[test]
fn no_cache_keeps_a_stale_value() {
    use crate::resp::{Client, Value, request};
    for setup in setups(&[1, 3]) {
        let server = Server::start(setup);
        let mut random = Random::seeded();
        let mut reader: Client = server.connect();
        reader.call(&["HELLO", "3"]);
        assert_eq!(
            reader.call(&["CLIENT", "TRACKING", "ON"]),
            crate::resp::ok()
        );
        let mut writers: Vec<Client> = (0..3).map(|_| server.connect()).collect();
        let mut cache: HashMap<String, Value> = HashMap::new();
        let mut asked: std::collections::VecDeque<Vec<String>> = Default::default();
        let take = |cache: &mut HashMap<String, Value>,
                    asked: &mut std::collections::VecDeque<Vec<String>>,
                    value: Value| {
            match value {
                Value::Array(items) if items.first() == Some(&crate::resp::bulk("invalidate")) => {
                    let Value::Array(keys) = &items[1] else {
                        panic!("{items:?}")
                    };
                    for key in keys {
                        let Value::Bulk(key) = key else {
                            panic!("{key:?}")
                        };
                        cache.remove(&String::from_utf8_lossy(key).into_owned());
                    }
                }
                Value::Array(items) => {
                    let keys = asked.pop_front().expect("a question");
                    for (key, value) in keys.into_iter().zip(items) {
                        cache.insert(key, value);
                    }
                }
                other => panic!("{other:?}"),
            }
        };
        for round in 0..400 {
            for _ in 0..3 {
                let keys: Vec<String> = (0..1 + random.below(3))
                    .map(|_| format!("k{}", random.below(20)))
                    .collect();
                let mut words = vec!["MGET".to_string()];
                words.extend(keys.iter().cloned());
                reader.send(&request(&words));
                asked.push_back(keys);
            }
            let writer = random.below(3);
            let (a, b) = (random.below(20), random.below(20));
            let (a, b, v) = (format!("k{a}"), format!("k{b}"), round.to_string());
            let words: Vec<&str> = match random.below(3) {
                0 => vec!["SET", &a, &v],
                1 => vec!["MSET", &a, &v, &b, &v],
                _ => vec!["EVAL", "redis.call('SET', KEYS[1], ARGV[1])", "1", &a, &v],
            };
            writers[writer].call(&words);
            while asked.len() > 10 {
                let value = reader.read();
                take(&mut cache, &mut asked, value);
            }
        }
        while !asked.is_empty() {
            let value = reader.read();
            take(&mut cache, &mut asked, value);
        }
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let now: HashMap<String, Value> = cache
                .keys()
                .map(|key| (key.clone(), writers[0].call(&["GET", key])))
                .collect();
            if cache == now {
                break;
            }
            assert!(Instant::now() < end, "{cache:?} is not {now:?}");
            let value = reader.read();
            take(&mut cache, &mut asked, value);
        }
    }
}
