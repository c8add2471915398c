//! CONFIG, INFO, DEBUG, SHUTDOWN and the crash report.

use crate::server::{Client, Server};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

/// The value of an INFO field.
fn field(client: &mut Client, name: &str) -> String {
    let info = client.call("INFO everything");
    let start = format!("{name}:");
    let found = info.lines().find_map(|line| line.strip_prefix(&start));
    found
        .unwrap_or_else(|| panic!("no {name} in {info}"))
        .to_string()
}

fn number(client: &mut Client, name: &str) -> u64 {
    field(client, name).parse().expect(name)
}

#[test]
fn a_setting_reaches_every_core_before_it_is_answered() {
    for shards in [1, 3] {
        let server = Server::start(shards, &[]);
        let mut clients: Vec<Client> = (0..6).map(|_| server.client()).collect();
        assert_eq!(
            clients[0].call("CONFIG SET proto-max-bulk-len 1048576 timeout 300"),
            "+OK\r\n"
        );
        for client in &mut clients {
            assert_eq!(
                client.call("CONFIG GET timeout"),
                "*2\r\n$7\r\ntimeout\r\n$3\r\n300\r\n"
            );
            // Another core's limit shows whether it has the new snapshot.
            client.send(b"*2\r\n$3\r\nGET\r\n$1048577\r\n");
            assert_eq!(
                client.reply().as_deref(),
                Some("-ERR Protocol error: invalid bulk length\r\n")
            );
        }
    }
}

#[test]
fn a_refused_set_changes_nothing() {
    let server = Server::start(2, &[]);
    let mut c = server.client();
    let refused = c.call("CONFIG SET timeout 5 port x");
    assert!(
        refused.starts_with("-ERR CONFIG SET failed (possibly related to argument 'port')"),
        "{refused}"
    );
    assert_eq!(
        c.call("CONFIG GET timeout"),
        "*2\r\n$7\r\ntimeout\r\n$1\r\n0\r\n"
    );
    assert_eq!(c.call("CONFIG SET a b c"), "-ERR syntax error\r\n");
    assert!(
        c.call("CONFIG REWRITE")
            .starts_with("-ERR The server is running without a config file")
    );
}

#[test]
fn info_adds_up_what_all_cores_did() {
    let server = Server::start(3, &[]);
    let mut clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
    for n in 0..300 {
        let client = &mut clients[n % 3];
        assert_eq!(client.call(&format!("SET key:{n} value")), "+OK\r\n");
        assert_eq!(client.call(&format!("GET key:{n}")), "$5\r\nvalue\r\n");
    }
    let c = &mut clients[0];
    assert_eq!(c.call("GET nosuch"), "$-1\r\n");
    assert_eq!(
        c.call("MGET key:1 key:2 key:3"),
        "*3\r\n$5\r\nvalue\r\n$5\r\nvalue\r\n$5\r\nvalue\r\n"
    );
    assert!(c.call("SET a").starts_with("-ERR wrong number"));
    assert_eq!(number(c, "keyspace_hits"), 303);
    assert_eq!(number(c, "keyspace_misses"), 1);
    assert_eq!(field(c, "db0"), "keys=300,expires=0,avg_ttl=0");
    assert_eq!(number(c, "connected_clients"), 3);
    assert!(
        number(c, "used_memory") > 300 * 5
            && number(c, "used_memory_rss") > number(c, "used_memory")
    );
    let used = number(c, "used_memory");
    assert!(number(c, "used_memory_peak") >= used);
    // One call, though it ran on several cores; and a refused one is none.
    assert!(field(c, "cmdstat_mget").starts_with("calls=1,"));
    let set = field(c, "cmdstat_set");
    assert!(
        set.starts_with("calls=300,") && set.contains("rejected_calls=1"),
        "{set}"
    );
    let usec = set
        .split(',')
        .find_map(|f| f.strip_prefix("usec="))
        .expect("usec");
    assert!(usec.parse::<u64>().is_ok_and(|usec| usec > 0), "{set}");
    assert_eq!(field(c, "errorstat_ERR"), "count=1");
    let shards: Vec<String> = (0..3).map(|n| field(c, &format!("shard{n}"))).collect();
    let keys = |text: &str| -> usize {
        let found = text.split(',').find_map(|f| f.strip_prefix("keys="));
        found
            .and_then(|n| n.parse().ok())
            .expect("a number of keys")
    };
    assert_eq!(shards.iter().map(|s| keys(s)).sum::<usize>(), 300);
    assert!(shards.iter().all(|s| keys(s) > 50), "{shards:?}");
    assert_eq!(c.call("CONFIG RESETSTAT"), "+OK\r\n");
    assert_eq!(number(c, "keyspace_hits"), 0);
    assert_eq!(field(c, "db0"), "keys=300,expires=0,avg_ttl=0");
}

#[test]
fn info_answers_in_its_place_of_a_pipeline() {
    for shards in [1, 2] {
        let server = Server::start(shards, &[]);
        let mut c = server.client();
        c.send(b"SET a 1\r\nINFO keyspace\r\nGET a\r\nPING\r\n");
        assert_eq!(c.reply().as_deref(), Some("+OK\r\n"));
        assert!(c.reply().is_some_and(|info| info.contains("db0:keys=1")));
        assert_eq!(c.reply().as_deref(), Some("$1\r\n1\r\n"));
        assert_eq!(c.reply().as_deref(), Some("+PONG\r\n"));
    }
}

#[test]
fn debug_needs_permission() {
    let server = Server::start(1, &[]);
    assert!(
        server
            .client()
            .call("DEBUG SLEEP 0")
            .starts_with("-ERR DEBUG command not allowed.")
    );
}

/// A failed assertion on one core ends the process, also the other cores, with a report.
#[test]
fn a_crash_is_reported_and_ends_the_process() {
    for (command, signal, said) in [
        ("DEBUG PANIC", libc::SIGABRT, "called by DEBUG PANIC"),
        ("DEBUG ASSERT", libc::SIGABRT, "ASSERTION FAILED"),
        ("DEBUG SEGFAULT", libc::SIGSEGV, "crashed by signal: 11"),
    ] {
        let options = ["--enable-debug-command", "yes", "--requirepass", "s3cret"];
        let mut server = Server::start(2, &options);
        let mut c = server.client();
        assert_eq!(c.call("AUTH s3cret"), "+OK\r\n");
        c.ask(&command.split(' ').collect::<Vec<_>>());
        assert_eq!(c.reply(), None, "{command}");
        assert_eq!(server.ended().signal(), Some(signal), "{command}");
        let log = server.log();
        for part in [
            "BUG REPORT START",
            said,
            "debug client id",
            "STACK TRACE",
            "enable-debug-command yes",
        ] {
            assert!(log.contains(part), "{command}: no {part:?} in {log}");
        }
        assert!(!log.contains("s3cret"));
    }
}

#[test]
fn shutdown_ends_the_process_without_an_error() {
    let mut server = Server::start(2, &[]);
    let mut c = server.client();
    assert_eq!(
        c.call("SHUTDOWN ABORT"),
        "-ERR No shutdown in progress.\r\n"
    );
    c.ask(&["SHUTDOWN", "NOSAVE"]);
    assert_eq!(c.reply(), None);
    assert!(server.ended().success(), "{}", server.log());
}

#[test]
fn the_rate_of_commands_is_measured() {
    let server = Server::start(2, &[]);
    let mut c = server.client();
    let begin = std::time::Instant::now();
    let mut calls = 0;
    // The rate is a mean over samples of a tenth of a second; the first calls lie in one that is not over yet.
    while number(&mut c, "instantaneous_ops_per_sec") == 0 {
        (0..100).for_each(|_| drop(c.call("GET a")));
        calls += 100;
        assert!(begin.elapsed() < Duration::from_secs(20), "no rate");
    }
    // It falls to zero when nothing comes but what asks for it.
    while number(&mut c, "instantaneous_ops_per_sec") > 50 {
        std::thread::sleep(Duration::from_millis(100));
        assert!(
            begin.elapsed() < Duration::from_secs(40),
            "after {calls} calls"
        );
    }
}

/// Taken from Redis 8.2.3 after the same commands.
#[test]
fn debug_digest_is_that_of_redis() {
    for shards in [1, 4] {
        let server = Server::start(shards, &["--enable-debug-command", "yes"]);
        let mut client = server.client();
        for line in [
            "SET a 1",
            "RPUSH l 1 b 3",
            "SADD s x y 3",
            "ZADD z 1 a 0.1 b 1e30 c -inf d inf e 1e-7 f 123456.789 g 12345678901234567 h",
            "HSET h f v g w",
            "HEXPIRE h 1000 FIELDS 1 f",
            "XADD st 1-1 f v g w",
            "XADD st 2-1 x y",
            "SET e x EX 1000",
            "CONFIG SET zset-max-listpack-entries 2",
            "ZADD z2 0.3 a 2.5 b 3 c",
            "CONFIG SET hash-max-listpack-entries 1",
            "HSET h2 a b c d",
            "HEXPIRE h2 1000 FIELDS 1 a",
        ] {
            let reply = client.call(line);
            assert!(!reply.starts_with('-'), "{line}: {reply}");
        }
        let digest = client.call("DEBUG DIGEST");
        assert_eq!(digest, "+80624ba4a5a8004deb4ae5ff1811c97f606fe711\r\n");
    }
}

/// As redis-server 8.2.3 counts them.
#[test]
fn what_fails_late_counts_as_a_failed_call() {
    let server = Server::start(2, &[]);
    let (mut c, mut waiting) = (server.client(), server.client());
    assert_eq!(c.call("MULTI"), "+OK\r\n");
    assert!(c.call("SET").starts_with("-ERR"));
    assert!(c.call("EXEC").starts_with("-EXECABORT"));
    let id = waiting.call("CLIENT ID");
    waiting.ask(&["BLPOP", "list", "0"]);
    while !c.call("INFO clients").contains("blocked_clients:1") {
        std::thread::yield_now();
    }
    let id = id.trim_start_matches(':').trim_end();
    assert_eq!(c.call(&format!("CLIENT UNBLOCK {id} ERROR")), ":1\r\n");
    for command in ["exec", "blpop"] {
        let stat = field(&mut c, &format!("cmdstat_{command}"));
        assert!(stat.starts_with("calls=1,"), "{stat}");
        assert!(stat.ends_with("rejected_calls=0,failed_calls=1"), "{stat}");
    }
    assert_eq!(field(&mut c, "errorstat_EXECABORT"), "count=1");
    assert_eq!(field(&mut c, "errorstat_UNBLOCKED"), "count=1");
    assert_eq!(number(&mut c, "total_error_replies"), 3);
}

/// The longest turn is shown where it is asked for.
#[test]
fn turns_are_measured() {
    let server = Server::start(2, &["--enable-debug-command", "local"]);
    let mut client = server.client();
    assert_eq!(client.call("DEBUG SLEEP 0.05"), "+OK\r\n");
    assert!(number(&mut client, "eventloop_duration_sum") >= 50_000);
    let longest = |client: &mut Client| -> u64 {
        let debug = client.call("INFO debug");
        let (_, longest) = debug.split_once("eventloop_duration_max:").expect("there");
        longest.trim().parse().expect("a number")
    };
    assert!(longest(&mut client) >= 50_000);
    assert!(!client.call("INFO all").contains("eventloop_duration_max"));
}

/// As redis-server 8.2.3 counts them: no time, no latency, and what is no command at all is nobody's.
#[test]
fn what_is_refused_took_no_time() {
    let server = Server::start(2, &[]);
    let mut c = server.client();
    for refused in ["ECHO", "MEMORY", "MEMORY NOSUCH", "NOSUCH", "MULTI", "ECHO"] {
        c.call(refused);
    }
    c.call("DISCARD");
    let info = c.call("INFO all");
    let stat = |name: &str| info.lines().find(|l| l.starts_with(name));
    let refused =
        |n| format!("calls=0,usec=0,usec_per_call=0.00,rejected_calls={n},failed_calls=0");
    assert_eq!(
        stat("cmdstat_echo"),
        Some(format!("cmdstat_echo:{}", refused(2)).as_str())
    );
    assert_eq!(
        stat("cmdstat_memory"),
        Some(format!("cmdstat_memory:{}", refused(1)).as_str())
    );
    assert_eq!(stat("latency_percentiles_usec_echo"), None);
    assert!(stat("latency_percentiles_usec_multi").is_some());
    assert_eq!(stat("errorstat_ERR"), Some("errorstat_ERR:count=5"));
}

/// Lengths are those that Redis 8.2.3 says.
#[test]
fn debug_object_says_how_long_a_value_is_in_a_file() {
    for shards in [1, 4] {
        let server = Server::start(shards, &["--enable-debug-command", "yes"]);
        let mut client = server.client();
        for (line, key, len) in [
            ("SET s abc", "s", 4),
            ("SET i 5", "i", 2),
            ("RPUSH l a b c", "l", 19),
            ("HSET h a 1", "h", 13),
            ("SADD n 1", "n", 11),
        ] {
            client.call(line);
            let text = client.call(&format!("DEBUG OBJECT {key}"));
            let wanted = format!(" serializedlength:{len} ");
            assert!(text.contains(&wanted), "{line}: {text}");
        }
    }
}
