//! SLOWLOG, COMMANDLOG, LATENCY: what commands leave behind, whichever core ran them.

use crate::harness::{Server, setups};
use crate::resp::{Client, Value, bulk, ok, request};
use std::thread::sleep;
use std::time::{Duration, Instant};

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        other => panic!("{other:?} is no array"),
    }
}
fn text(value: &Value) -> String {
    match value {
        Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("{other:?} is no text"),
    }
}
fn is_error(value: &Value) -> bool {
    matches!(value, Value::Error(_))
}
fn number(value: &Value) -> i64 {
    match value {
        Value::Int(n) => *n,
        other => panic!("{other:?} is no number"),
    }
}

/// The logged commands' words, the newest first.
fn logged(client: &mut Client, command: &[&str]) -> Vec<String> {
    let entries = list(client.call(command));
    let words = |entry: Value| {
        let words: Vec<String> = list(list(entry)[3].clone()).iter().map(text).collect();
        words.join(" ")
    };
    entries.into_iter().map(words).collect()
}

#[test]
fn the_slow_log_has_the_commands_of_all_cores_in_order() {
    for setup in setups(&[1, 3]) {
        let server = Server::start_with(setup, &["--slowlog-max-len", "1000"]);
        let mut c = server.connect();
        assert_eq!(c.call(&["CLIENT", "SETNAME", "me"]), ok());
        assert_eq!(
            c.call(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]),
            ok()
        );
        assert_eq!(c.call(&["SLOWLOG", "RESET"]), ok());
        let mut expected = vec!["SLOWLOG RESET".to_string()];
        // Keys of all cores, one after the other.
        for n in 0..20 {
            let key = format!("k{n}");
            assert_eq!(c.call(&["SET", &key, "v"]), ok());
            assert_eq!(c.call(&["GET", &key]), bulk("v"));
            expected.extend([format!("SET {key} v"), format!("GET {key}")]);
        }
        assert_eq!(c.call(&["MULTI"]), ok());
        c.call(&["SET", "k1", "w"]);
        c.call(&["GET", "k2"]);
        c.call(&["EXEC"]);
        // EXEC itself is not logged.
        expected.extend(["MULTI", "SET k1 w", "GET k2"].map(String::from));
        c.call(&["EVAL", "return redis.call('GET', KEYS[1])", "1", "k3"]);
        expected.extend([
            "GET k3".to_string(),
            "EVAL return redis.call('GET', KEYS[1]) 1 k3".to_string(),
        ]);
        assert!(is_error(&c.call(&["AUTH", "secret"])));
        expected.push("AUTH (redacted)".to_string());
        expected.reverse();
        assert_eq!(logged(&mut c, &["SLOWLOG", "GET", "-1"]), expected);

        let entries = list(c.call(&["SLOWLOG", "GET", "3"]));
        let ids: Vec<i64> = entries
            .iter()
            .map(|e| number(&list(e.clone())[0]))
            .collect();
        assert_eq!(ids, [ids[0], ids[0] - 1, ids[0] - 2]);
        for entry in entries {
            let entry = list(entry);
            assert!(text(&entry[4]).starts_with("127.0.0.1:"), "{entry:?}");
            assert_eq!(text(&entry[5]), "me");
        }
        assert_eq!(c.call(&["CONFIG", "SET", "slowlog-max-len", "1"]), ok());
        assert_eq!(c.call(&["GET", "k9"]), bulk("v"));
        assert_eq!(
            c.call(&["CONFIG", "SET", "slowlog-log-slower-than", "-1"]),
            ok()
        );
        assert_eq!(c.call(&["SLOWLOG", "LEN"]), Value::Int(1));
    }
}

/// It was twice where its keys were another core's: by the client's core too.
#[test]
fn a_command_of_any_cores_keys_is_logged_once() {
    for setup in setups(&[1, 3]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        c.call(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
        for n in 0..6 {
            let (one, other) = (format!("a{n}"), format!("b{n}"));
            for words in [
                vec!["SORT", &one],
                vec!["SINTER", &one, &other],
                vec!["RENAME", &one, &other],
                vec!["EVAL", "return 1", "1", &one],
                vec!["MIGRATE", "127.0.0.1", "1", &one, "0", "1"],
            ] {
                c.call(&["SLOWLOG", "RESET"]);
                c.call(&words);
                let logged = logged(&mut c, &["SLOWLOG", "GET", "-1"]);
                assert_eq!(logged, [words.join(" "), "SLOWLOG RESET".into()]);
            }
        }
    }
}

#[test]
fn a_command_that_waits_is_logged_when_it_is_served() {
    for setup in setups(&[1, 3]) {
        let server = Server::start(setup);
        let (mut c, mut waits) = (server.connect(), server.connect());
        waits.send(&request(&["BLPOP", "list", "0"]));
        while !text(&c.call(&["INFO", "clients"])).contains("blocked_clients:1\r\n") {
            sleep(Duration::from_millis(1));
        }
        c.call(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
        c.call(&["SLOWLOG", "RESET"]);
        let has = |c: &mut Client| {
            let logged = logged(c, &["SLOWLOG", "GET", "-1"]);
            logged.contains(&"BLPOP list 0".to_string())
        };
        assert!(!has(&mut c));
        c.call(&["RPUSH", "list", "x"]);
        assert_eq!(waits.read(), Value::Array(vec![bulk("list"), bulk("x")]));
        let end = Instant::now() + Duration::from_secs(10);
        while !has(&mut c) {
            assert!(Instant::now() < end, "BLPOP was not logged");
        }
    }
}

#[test]
fn large_requests_and_replies_are_logged() {
    for setup in setups(&[1, 3]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        for (name, value) in [
            ("commandlog-request-larger-than", "100000"),
            ("commandlog-reply-larger-than", "50000"),
        ] {
            assert_eq!(c.call(&["CONFIG", "SET", name, value]), ok());
        }
        let (small, large) = ("s".repeat(60_000), "l".repeat(120_000));
        for n in 0..6 {
            let key = format!("k{n}");
            assert_eq!(c.call(&["SET", &key, "short"]), ok());
            assert_eq!(c.call(&["SET", &key, &small]), ok());
            assert_eq!(c.call(&["SET", &key, &large]), ok());
            assert_eq!(c.call(&["GETRANGE", &key, "0", "9"]), bulk("llllllllll"));
            assert_eq!(c.call(&["GET", &key]), bulk(&large));
        }
        let get = |c: &mut Client, which: &str| logged(c, &["COMMANDLOG", "GET", "-1", which]);
        let requests = get(&mut c, "large-request");
        assert_eq!(requests.len(), 6, "{requests:?}");
        assert!(requests[0].starts_with("SET k5 lll"));
        assert!(requests[0].ends_with("... (119872 more bytes)"));
        let replies = get(&mut c, "large-reply");
        let expected: Vec<String> = (0..6).rev().map(|n| format!("GET k{n}")).collect();
        assert_eq!(replies, expected);
        let sizes: Vec<i64> = list(c.call(&["COMMANDLOG", "GET", "2", "large-reply"]))
            .into_iter()
            .map(|e| number(&list(e)[2]))
            .collect();
        assert_eq!(sizes, [120_011, 120_011]);
        // The server's own commands too.
        assert_eq!(c.call(&["ECHO", &small]), bulk(&small));
        assert_eq!(c.call(&["COMMANDLOG", "LEN", "large-reply"]), Value::Int(7));
        assert_eq!(c.call(&["COMMANDLOG", "RESET", "LARGE-REPLY"]), ok());
        assert_eq!(c.call(&["COMMANDLOG", "LEN", "large-reply"]), Value::Int(0));
        assert_eq!(
            c.call(&["COMMANDLOG", "LEN", "large-request"]),
            Value::Int(6)
        );
    }
}

#[test]
fn spikes_and_histograms() {
    for setup in setups(&[1, 3]) {
        let server = Server::start_with(setup, &["--enable-debug-command", "yes"]);
        let mut c = server.connect();
        assert_eq!(c.call(&["LATENCY", "LATEST"]), Value::Array(Vec::new()));
        assert_eq!(
            c.call(&["CONFIG", "SET", "latency-monitor-threshold", "20"]),
            ok()
        );
        assert_eq!(c.call(&["DEBUG", "SLEEP", "0.05"]), ok());
        let latest = list(c.call(&["LATENCY", "LATEST"]));
        let event = list(latest[0].clone());
        assert_eq!(event[0], bulk("command"));
        assert!(
            number(&event[2]) >= 50 && number(&event[3]) >= 50,
            "{event:?}"
        );
        let history = list(c.call(&["LATENCY", "HISTORY", "command"]));
        assert!(!history.is_empty());
        let graph = text(&c.call(&["LATENCY", "GRAPH", "command"]));
        assert!(graph.starts_with("command - high "), "{graph}");
        assert!(is_error(&c.call(&["LATENCY", "GRAPH", "nosuch"])));
        let report = text(&c.call(&["LATENCY", "DOCTOR"]));
        assert!(report.contains("1. command: "), "{report}");
        assert_eq!(c.call(&["LATENCY", "RESET", "command"]), Value::Int(1));
        assert_eq!(c.call(&["LATENCY", "RESET"]), Value::Int(0));

        c.call(&["CONFIG", "RESETSTAT"]);
        for n in 0..30 {
            c.call(&["SET", &format!("k{n}"), "v"]);
        }
        let histograms = list(c.call(&["LATENCY", "HISTOGRAM", "set", "nosuch"]));
        assert_eq!(histograms.len(), 2);
        let of_set = list(histograms[1].clone());
        assert_eq!((text(&of_set[0]), number(&of_set[1])), ("calls".into(), 30));
        let steps = list(of_set[3].clone());
        assert_eq!(steps.last().map(number), Some(30), "{steps:?}");
    }
}

/// The next line of MONITOR, without its time and the client's port.
fn monitored(client: &mut Client) -> String {
    let Value::Simple(line) = client.read() else {
        panic!("no line of MONITOR")
    };
    let (time, rest) = line.split_once(' ').expect("a time");
    assert!(time.parse::<f64>().is_ok_and(|t| t > 1.7e9), "{line}");
    let (head, words) = rest.split_once("] ").expect("a client");
    let head = head.split(':').next().unwrap_or_default();
    format!("{head}] {words}")
}

#[test]
fn monitor_shows_commands_of_all_cores_transactions_and_scripts() {
    for setup in setups(&[1, 3]) {
        let server = Server::start(setup);
        let (mut m, mut c) = (server.connect(), server.connect());
        assert_eq!(m.call(&["MONITOR"]), ok());
        let mut expected = Vec::new();
        for n in 0..9 {
            let key = format!("k{n}");
            c.call(&["set", &key, "a\n\"b"]);
            expected.push(format!(r#"[0 127.0.0.1] "set" "{key}" "a\n\"b""#));
        }
        c.call(&["SELECT", "3"]);
        c.call(&["AUTH", "x"]);
        c.call(&["CONFIG", "GET", "maxmemory"]);
        c.call(&["NOSUCH"]);
        c.call(&["MULTI"]);
        c.call(&["GET", "k1"]);
        c.call(&["GET", "k2"]);
        c.call(&["EXEC"]);
        c.call(&["EVAL", "redis.call('set', KEYS[1], 1) return 2", "1", "k4"]);
        expected.extend(
            [
                r#"[3 127.0.0.1] "SELECT" "3""#,
                r#"[3 127.0.0.1] "AUTH" "(redacted)""#,
                r#"[3 127.0.0.1] "MULTI""#,
                r#"[3 127.0.0.1] "GET" "k1""#,
                r#"[3 127.0.0.1] "GET" "k2""#,
                r#"[3 127.0.0.1] "exec""#,
                r#"[3 127.0.0.1] "EVAL" "redis.call('set', KEYS[1], 1) return 2" "1" "k4""#,
                r#"[3 lua] "set" "k4" "1""#,
            ]
            .map(String::from),
        );
        for line in expected {
            assert_eq!(monitored(&mut m), line);
        }
        // It ends with RESET; whoever else monitors goes on.
        let mut other = server.connect();
        assert_eq!(other.call(&["MONITOR"]), ok());
        assert_eq!(m.call(&["RESET"]), Value::Simple("RESET".into()));
        c.call(&["PING"]);
        assert_eq!(monitored(&mut other), r#"[0 127.0.0.1] "RESET""#);
        assert_eq!(monitored(&mut other), r#"[3 127.0.0.1] "PING""#);
        assert_eq!(m.call(&["GET", "nosuch"]), Value::Null);
    }
}
