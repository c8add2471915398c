//! `maxmemory`: filled far beyond it, by every policy: the memory stays within bounds, and the right keys remain.

use crate::server::{Client, Server};
use std::time::Duration;

const POLICIES: [&str; 7] = [
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
];
const LIMIT: i64 = 8 << 20;
/// What INFO, a turn's requests and their buffers may take on top, and what one core may bring while another is about to free.
const SLACK: i64 = 512 << 10;
const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";

fn info(client: &mut Client, field: &str) -> i64 {
    let text = client.call("INFO");
    let line = text.lines().find_map(|l| l.strip_prefix(field));
    let value = line.and_then(|l| l.strip_prefix(':'));
    value
        .and_then(|v| v.parse().ok())
        .expect("a number of INFO")
}

/// Sends `count` commands in pipelines, and gives the replies to `see`.
fn pipeline(
    client: &mut Client,
    count: usize,
    command: impl Fn(usize) -> Vec<String>,
    mut see: impl FnMut(usize, &str),
) {
    for first in (0..count).step_by(100) {
        let part = first..(first + 100).min(count);
        for i in part.clone() {
            let words = command(i);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            client.ask(&words);
        }
        for i in part {
            see(i, &client.reply().expect("a reply"));
        }
    }
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_string).collect()
}

#[test]
fn memory_stays_within_bounds_by_every_policy() {
    for shards in [1, 4] {
        let server = Server::start(shards, &["--save", ""]);
        let mut client = server.client();
        let base = info(&mut client, "used_memory");
        let limit = base + LIMIT;
        let value = "v".repeat(1000);
        for policy in POLICIES {
            client.call("FLUSHALL");
            client.call("CONFIG RESETSTAT");
            client.call(&format!(
                "CONFIG SET maxmemory {limit} maxmemory-policy {policy}"
            ));
            // Keys that no policy of volatile keys may touch.
            for i in 0..200 {
                assert_eq!(client.call(&format!("SET plain{i} {value}")), "+OK\r\n");
            }
            let mut most = 0;
            for round in 0..2 {
                let command =
                    |i: usize| words(&format!("SET k{round}:{i} {value} EX {}", 1000 + i));
                pipeline(&mut client, 8000, command, |i, reply| {
                    assert_eq!(reply, "+OK\r\n", "{policy}, {shards} shards, key {i}");
                });
                most = most.max(info(&mut client, "used_memory"));
            }
            assert!(
                most <= limit + SLACK,
                "{policy}: {most} of {limit}, {shards} shards"
            );
            // And it is made use of.
            assert!(
                most > limit - LIMIT / 8,
                "{policy}: {most} of {limit}, {shards} shards"
            );
            assert!(info(&mut client, "evicted_keys") > 5000);
            let plain = client.call(&format!(
                "EXISTS {}",
                (0..200)
                    .map(|i| format!("plain{i}"))
                    .collect::<Vec<_>>()
                    .join(" ")
            ));
            if policy.starts_with("volatile") {
                assert_eq!(plain, ":200\r\n", "{policy}, {shards} shards");
            }
        }
    }
}

/// Memory in use when nothing changes any more: buffers that nobody needs go by and by.
fn settled(client: &mut Client) -> i64 {
    let mut before = 0;
    for _ in 0..40 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let used = info(client, "used_memory");
        if (used - before).abs() < 4096 && info(client, "lazyfree_pending_objects") == 0 {
            return used;
        }
        before = used;
    }
    before
}

/// MEMORY USAGE of a large value is what memory in use grows by.
#[test]
fn usage_is_what_a_value_takes() {
    type Make = fn(usize) -> String;
    let commands: [(&str, Make); 9] = [
        ("string", |i| {
            format!("SETRANGE k {} {}", i * 100, "v".repeat(100))
        }),
        ("list", |i| format!("RPUSH k element{i:09}")),
        ("hash", |i| format!("HSET k field{i} {i}")),
        ("times", |i| {
            format!("HSETEX k EX 100000 FIELDS 1 f{i} v{i}")
        }),
        ("set", |i| format!("SADD k member{i:09}")),
        ("integers", |i| format!("SADD k {}", i * 7)),
        ("zset", |i| {
            format!("ZADD k {} member{i:09}", i * 7919 % 100000)
        }),
        ("stream", |i| format!("XADD k * field v{i}")),
        ("large", |i| {
            format!("HSET k f{} {}", i / 100, "v".repeat(900))
        }),
    ];
    let server = Server::start(1, &["--save", ""]);
    let mut client = server.client();
    for (name, command) in commands {
        // Buffers that are kept are there before.
        for key in ["before", "k"] {
            let begun = settled(&mut client);
            pipeline(
                &mut client,
                100_000,
                |i| words(&command(i)),
                |_, reply| {
                    assert!(!reply.starts_with('-'), "{name}: {reply}");
                },
            );
            let grown = settled(&mut client) - begun;
            let reply = client.call("MEMORY USAGE k");
            let usage: i64 = reply[1..].trim_end().parse().expect("a number");
            if key == "k" && (grown - usage).abs() > grown / 16 + (64 << 10) {
                panic!("{name}: {usage} of {grown}");
            }
            client.call("DEL k");
        }
    }
}

/// What is read all the time stays while several times the memory of other keys goes through.
#[test]
fn what_is_used_stays() {
    let cases = [
        ("allkeys-lru", 1),
        ("allkeys-lru", 4),
        ("allkeys-lfu", 1),
        ("allkeys-lfu", 4),
    ];
    for (policy, shards) in cases {
        let server = Server::start(shards, &["--save", "", "--maxmemory-policy", policy]);
        let mut client = server.client();
        let limit = info(&mut client, "used_memory") + LIMIT;
        client.call(&format!("CONFIG SET maxmemory {limit}"));
        let value = "v".repeat(1000);
        let hot = |i: usize| words(&format!("GET hot{}", i % 500));
        pipeline(
            &mut client,
            500,
            |i| words(&format!("SET hot{i} {value}")),
            |_, _| (),
        );
        for _ in 0..40 {
            pipeline(&mut client, 500, hot, |_, _| ());
        }
        if policy == "allkeys-lru" {
            // Its clock has a resolution of a second.
            std::thread::sleep(std::time::Duration::from_millis(2100));
            pipeline(&mut client, 500, hot, |_, _| ());
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let mut lost = 0;
        for round in 0..20 {
            let command = |i: usize| words(&format!("SET cold{round}:{i} {value}"));
            pipeline(&mut client, 1000, command, |_, _| ());
            lost = 0;
            pipeline(&mut client, 500, hot, |_, reply| {
                lost += usize::from(reply == "$-1\r\n")
            });
        }
        // With more shards than CPUs a core that does not get to run frees nothing, and the others free more of their own: how much is up to
        // the scheduler.
        if policy == "allkeys-lfu" && shards == 1 {
            assert!(lost <= 5, "{lost} of 500 lost, {policy}, {shards} shards");
        }
        assert!(info(&mut client, "evicted_keys") > 10_000);
    }
}

#[test]
fn without_a_policy_writes_are_refused() {
    for shards in [1, 4] {
        let server = Server::start(shards, &["--save", ""]);
        let mut client = server.client();
        assert_eq!(client.call("SET a 1"), "+OK\r\n");
        assert_eq!(client.call("MULTI"), "+OK\r\n");
        assert_eq!(client.call("SET a 2"), "+QUEUED\r\n");
        let mut other = server.client();
        assert_eq!(other.call("CONFIG SET maxmemory 100000"), "+OK\r\n");
        let aborted = "-EXECABORT Transaction discarded because of: OOM command not allowed when used memory > \
                       'maxmemory'.\r\n";
        assert_eq!(client.call("EXEC"), aborted);
        // As Redis 8.2 answers.
        let script = |client: &mut Client, text: &str| {
            client.ask(&["EVAL", text, "0"]);
            client.reply().expect("a reply")
        };
        assert_eq!(client.call("SET b 1"), OOM);
        assert_eq!(client.call("GET a"), "$1\r\n1\r\n");
        while info(&mut client, "current_eviction_exceeded_time") < 2 {}
        assert_eq!(client.call("MULTI"), "+OK\r\n");
        // The queue itself may grow, since 7.2.
        assert_eq!(client.call("GET a"), "+QUEUED\r\n");
        assert_eq!(client.call("PING"), "+QUEUED\r\n");
        assert_eq!(client.call("EXEC"), "*2\r\n$1\r\n1\r\n+PONG\r\n");
        assert_eq!(client.call("MULTI"), "+OK\r\n");
        assert_eq!(client.call("SET a 1"), OOM);
        assert_eq!(
            client.call("EXEC"),
            "-EXECABORT Transaction discarded because of previous errors.\r\n"
        );
        let refused = script(&mut client, "return redis.call('set', 'x', 'y')");
        assert!(refused.starts_with(OOM.trim_end()), "{refused}");
        assert_eq!(
            script(&mut client, "return redis.pcall('set', 'x', 'y')"),
            OOM
        );
        assert_eq!(
            script(&mut client, "return redis.call('get', 'a')"),
            "$1\r\n1\r\n"
        );
        assert_eq!(script(&mut client, "#!lua\nreturn 1"), OOM);
        assert_eq!(
            script(&mut client, "#!lua flags=no-writes\nreturn 1"),
            ":1\r\n"
        );
        let allowed = "#!lua flags=allow-oom\nreturn redis.call('set', 'x', 'y')";
        assert_eq!(script(&mut client, allowed), "+OK\r\n");
        // What has written something may not be stopped half-way.
        let begun = "redis.call('del', 'x') return redis.call('set', 'x', 'z')";
        assert_eq!(script(&mut client, begun), "+OK\r\n");
        assert_eq!(client.call("DEL a"), ":1\r\n");
        assert_eq!(other.call("CONFIG SET maxmemory 0"), "+OK\r\n");
        assert_eq!(client.call("SET b 1"), "+OK\r\n");
        while info(&mut client, "current_eviction_exceeded_time") > 0 {}
        assert!(info(&mut client, "total_eviction_exceeded_time") >= 2);
        // Large values are counted until they are freed, and the freeing is waited for.
        assert_eq!(info(&mut client, "evicted_keys"), 0);
    }
}

#[test]
fn evictions_are_told() {
    for shards in [1, 4] {
        let server = Server::start(shards, &["--save", "", "--notify-keyspace-events", "Ee"]);
        let mut listener = server.client();
        listener.call("SUBSCRIBE __keyevent@0__:evicted");
        let mut client = server.client();
        client.call("SET k v");
        let used = info(&mut client, "used_memory");
        client.call(&format!(
            "CONFIG SET maxmemory-policy allkeys-lru maxmemory {}",
            used / 2
        ));
        let told = listener.reply().expect("a message");
        assert!(told.ends_with("$1\r\nk\r\n"), "{told}");
    }
}

/// The pairs of MEMORY STATS that are whole numbers.
fn memory_stats(client: &mut Client) -> std::collections::HashMap<String, i64> {
    let reply = client.call("MEMORY STATS");
    let lines: Vec<&str> = reply.lines().collect();
    let number = |line: &str| line.strip_prefix(':').and_then(|n| n.parse().ok());
    let pairs = lines.windows(2);
    let pairs = pairs.filter_map(|pair| Some((pair[0].to_string(), number(pair[1])?)));
    pairs.collect()
}

/// What INFO and MEMORY STATS say is the same, its parts make the whole, and what came with the keys is what MEMORY USAGE says of them.
#[test]
fn what_is_said_of_memory_agrees_with_a_recount() {
    for shards in [1, 4] {
        let server = Server::start(shards, &["--save", ""]);
        let mut client = server.client();
        let check = |client: &mut Client| {
            // What INFO's own text takes is not in both; and spare buffers may be let go between the two.
            let agree = |told: i64, used: i64| (told - used).abs() < 64 << 10;
            let mut looks = (0..50).map(|look| {
                if look > 0 {
                    std::thread::sleep(Duration::from_millis(20));
                }
                let stats = memory_stats(client);
                let told = info(client, "used_memory");
                (stats, told)
            });
            let found = looks.find(|(stats, told)| agree(*told, stats["total.allocated"]));
            let (stats, told) = found.unwrap_or_else(|| {
                panic!(
                    "used_memory is not total.allocated: {:?}",
                    memory_stats(client)
                )
            });
            let used = stats["total.allocated"];
            // Without keys less may be in use than at the start.
            let rest = (used - stats["overhead.total"]).max(0);
            assert_eq!(stats["dataset.bytes"], rest);
            assert!(
                stats["overhead.total"] >= stats["startup.allocated"] + stats["clients.normal"]
            );
            assert!(stats["peak.allocated"] >= used);
            assert_eq!(
                client.call("DBSIZE"),
                format!(":{}\r\n", stats["keys.count"])
            );
            let peak = info(client, "used_memory_peak");
            assert!(peak >= told, "{peak} and {told}");
            used
        };
        let base = check(&mut client);
        let mut random = 7u64;
        let mut below = |n: u64| {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (random >> 33) % n
        };
        let mut names = Vec::new();
        for i in 0..3000 {
            let len = [3, 20, 300, 2900, 4000, 20_000][below(6) as usize] + below(100) as usize;
            let text = "x".repeat(len);
            let count = 1 + below(40) * below(40);
            let members = (0..count).map(|n| format!("{n}:{i}")).collect::<Vec<_>>();
            let (name, line) = match i % 30 {
                0 => (
                    format!("set:{i}"),
                    format!("SADD set:{i} {}", members.join(" ")),
                ),
                1 => (
                    format!("list:{i}"),
                    format!("RPUSH list:{i} {}", members.join(" ")),
                ),
                2 => (
                    format!("hash:{i}"),
                    format!("HSET hash:{i} {0} {0}", members.join(" v ")),
                ),
                3 => (
                    format!("zset:{i}"),
                    format!("ZADD zset:{i} 1 {}", members.join(" 2 ")),
                ),
                n => {
                    let expiry = if n % 2 == 0 { " EX 1000" } else { "" };
                    (format!("text:{i}"), format!("SET text:{i} {text}{expiry}"))
                }
            };
            let reply = client.call(&line);
            assert!(!reply.starts_with('-'), "{line}: {reply}");
            names.push(name);
        }
        let grown = check(&mut client) - base;
        let mut sum = 0;
        pipeline(
            &mut client,
            names.len(),
            |i| words(&format!("MEMORY USAGE {}", names[i])),
            |_, reply| sum += reply[1..].trim_end().parse::<i64>().expect("a number"),
        );
        // The allocator rounds up, tables have free places, and a slot with few keys has a table of its own: 14 % were seen.
        let off = (grown - sum).abs();
        assert!(
            off < grown / 5 + (256 << 10),
            "{sum} of {grown}, {shards} shards"
        );
        // What is not yet a request counts while its client is there.
        let mut other = server.client();
        other.send(
            format!(
                "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8000000\r\n{}",
                "x".repeat(4_000_000)
            )
            .as_bytes(),
        );
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
        // It moves meanwhile, so what is asked at two moments does not agree.
        while info(&mut client, "used_memory") - base - grown < 4_000_000 {
            assert!(
                std::time::Instant::now() < patience,
                "a client's bytes do not count"
            );
        }
        drop(other);
        while info(&mut client, "used_memory") - base - grown > 1_000_000 {
            assert!(
                std::time::Instant::now() < patience,
                "a client's bytes still count"
            );
        }
        // And everything goes with the keys.
        assert_eq!(client.call("FLUSHALL"), "+OK\r\n");
        while info(&mut client, "used_memory") - base > 2 << 20 {
            assert!(
                std::time::Instant::now() < patience,
                "the keys are gone and their memory is not"
            );
        }
    }
}

/// Also when nobody asks for anything any more.
#[test]
fn what_large_replies_took_is_given_back() {
    let server = Server::start(2, &[]);
    let status = format!("/proc/{}/status", server.pid());
    let resident = || -> u64 {
        let text = std::fs::read_to_string(&status).expect("a running process");
        let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kb = line.and_then(|l| l.trim().strip_suffix(" kB"));
        kb.and_then(|kb| kb.parse().ok()).expect("a size")
    };
    let mut client = server.client();
    assert_eq!(client.call("SETRANGE large 999999 x"), ":1000000\r\n");
    let mut reader = server.client();
    reader.send("GET large\r\n".repeat(100).as_bytes());
    client.call("PING");
    let begun = std::time::Instant::now();
    while resident() < 100_000 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", resident());
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(reader);
    while resident() > 40_000 {
        assert!(begun.elapsed() < Duration::from_secs(120), "{}", resident());
        std::thread::sleep(Duration::from_millis(50));
    }
}
