//! Snapshots that are written while the server works: what they hold is what was there at one moment, over all keys and cores.

use crate::harness::Random;
use crate::persistence::{TemporaryFolder, info, wait_for};
use crate::server::{Client, Server};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// A folder for snapshots.
struct Folder(TemporaryFolder);

impl Folder {
    fn new() -> Self {
        Self(TemporaryFolder::new("snapshots"))
    }
    /// A server that has its snapshots here, with these save points.
    fn server(&self, shards: usize, save: &str) -> Server {
        let dir = self.0.to_str().expect("a plain name");
        Server::start(shards, &["--dir", dir, "--save", save])
    }
    fn files(&self) -> Vec<String> {
        let files = std::fs::read_dir(&*self.0).expect("the folder");
        let name = |file: std::io::Result<std::fs::DirEntry>| {
            let name = file.expect("a file").file_name();
            name.to_string_lossy().into_owned()
        };
        let mut names: Vec<_> = files.map(name).collect();
        names.sort();
        names
    }
}

fn bgsave(c: &mut Client) {
    assert_eq!(c.call("BGSAVE"), "+Background saving started\r\n");
}
fn number(reply: &str) -> i64 {
    let line = reply.lines().last().expect("a line");
    line.parse().unwrap_or_else(|_| panic!("a number: {reply}"))
}
/// Sends commands in one piece.
fn pipeline(c: &mut Client, lines: impl Iterator<Item = String>) {
    let (mut bytes, mut count) = (String::new(), 0);
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        bytes.push_str(&format!("*{}\r\n", words.len()));
        for word in words {
            bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        count += 1;
    }
    c.send(bytes.as_bytes());
    for _ in 0..count {
        let reply = c.reply().expect("a reply");
        assert!(!reply.starts_with('-'), "{reply}");
    }
}

const ACCOUNTS: usize = 60;
const WRITERS: usize = 4;
const STILL: usize = 4000;

/// Moves money between accounts, in transactions; counts two counters up, one after the other; makes, changes and deletes other keys.
fn write(c: &mut Client, me: usize, random: &mut Random, stop: &AtomicBool) {
    let mut round = 0;
    while !stop.load(Relaxed) {
        round += 1;
        let mut below = |n: usize| random.below(n);
        let (from, to, sum) = (below(ACCOUNTS), below(ACCOUNTS), below(50));
        for line in [
            "MULTI".to_owned(),
            format!("DECRBY account:{from} {sum}"),
            format!("INCRBY account:{to} {sum}"),
        ] {
            c.call(&line);
        }
        let done = c.call("EXEC");
        assert!(done.starts_with("*2\r\n"), "{done}");
        assert_eq!(c.call(&format!("SET first:{me} {round}")), "+OK\r\n");
        assert_eq!(c.call(&format!("SET second:{me} {round}")), "+OK\r\n");
        let n = below(300);
        let text = "x".repeat(below(6000));
        for line in [
            format!("APPEND text:{n} {round}"),
            format!("SET large:{n} {text}v"),
            format!("RENAME large:{n} other:{n}"),
            format!("HSET hash field:{n} {round}"),
            format!("LPUSH list {round}"),
            format!("SADD set member{n}"),
            format!("DEL set other:{n}"),
        ] {
            let reply = c.call(&line);
            // Another writer may have been faster.
            assert!(
                !reply.starts_with('-') || line.starts_with("RENAME"),
                "{line}: {reply}"
            );
        }
    }
}

#[test]
fn what_is_saved_under_load_was_there_at_one_moment() {
    for shards in [1, 4] {
        let (folder, mut random) = (Folder::new(), Random::seeded());
        let server = folder.server(shards, "");
        let mut c = server.client();
        let still = (0..STILL).map(|n| format!("SET still:{n} value:{n}"));
        let accounts = (0..ACCOUNTS).map(|n| format!("SET account:{n} 1000"));
        let fields = (0..3000).map(|n| format!("HSET fields f{n} v{n}"));
        let members = (0..3000).map(|n| format!("ZADD scores {n} member{n}"));
        pipeline(&mut c, still.chain(accounts).chain(fields).chain(members));
        // Slow enough that what is written falls into it.
        c.call("CONFIG SET rdb-key-save-delay 20");
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for me in 0..WRITERS {
                let (mut c, mut random) = (server.client(), Random::with(random.next()));
                let stop = &stop;
                scope.spawn(move || write(&mut c, me, &mut random, stop));
            }
            for _ in 0..2 {
                thread::sleep(Duration::from_millis(50));
                bgsave(&mut c);
                wait_for(&mut c, "rdb_bgsave_in_progress", "0");
            }
            stop.store(true, Relaxed);
        });
        assert_eq!(info(&mut c, "rdb_last_bgsave_status"), "ok");
        assert_eq!(folder.files(), ["dump.rdb"]);

        let again = folder.server(shards, "");
        let mut c = again.client();
        let sum: i64 = (0..ACCOUNTS)
            .map(|n| number(&c.call(&format!("GET account:{n}"))))
            .sum();
        assert_eq!(
            sum,
            1000 * ACCOUNTS as i64,
            "a transaction is in it by half"
        );
        for me in 0..WRITERS {
            let first = number(&c.call(&format!("GET first:{me}")));
            let second = number(&c.call(&format!("GET second:{me}")));
            assert!(
                first == second || first == second + 1,
                "{first} was written, then {second}"
            );
        }
        for n in 0..STILL {
            let value = format!("value:{n}");
            let reply = format!("${}\r\n{value}\r\n", value.len());
            assert_eq!(c.call(&format!("GET still:{n}")), reply);
        }
        assert_eq!(c.call("HLEN fields"), ":3000\r\n");
        assert_eq!(c.call("HGET fields f2999"), "$5\r\nv2999\r\n");
        assert_eq!(c.call("ZCARD scores"), ":3000\r\n");
        assert_eq!(c.call("ZRANK scores member77"), ":77\r\n");
    }
}

#[test]
fn flushes_and_swaps_leave_it_alone() {
    for shards in [1, 4] {
        let folder = Folder::new();
        let server = folder.server(shards, "");
        let mut c = server.client();
        for db in 0..3 {
            c.call(&format!("SELECT {db}"));
            pipeline(&mut c, (0..500).map(|n| format!("SET k{n} {db}")));
        }
        c.call("CONFIG SET rdb-key-save-delay 1000");
        bgsave(&mut c);
        assert_eq!(c.call("FLUSHDB"), "+OK\r\n");
        assert_eq!(c.call("SWAPDB 0 1"), "+OK\r\n");
        assert_eq!(c.call("SWAPDB 1 2"), "+OK\r\n");
        pipeline(&mut c, (0..900).map(|n| format!("SET k{n} new")));
        assert_eq!(c.call("SELECT 0"), "+OK\r\n");
        pipeline(&mut c, (0..250).map(|n| format!("DEL k{n} k{}", n + 250)));
        c.call("CONFIG SET rdb-key-save-delay 0");
        wait_for(&mut c, "rdb_bgsave_in_progress", "0");
        assert_eq!(info(&mut c, "rdb_last_bgsave_status"), "ok");
        let again = folder.server(shards, "");
        let mut c = again.client();
        for db in 0..3 {
            c.call(&format!("SELECT {db}"));
            assert_eq!(c.call("DBSIZE"), ":500\r\n", "database {db}");
            for n in 0..500 {
                assert_eq!(c.call(&format!("GET k{n}")), format!("$1\r\n{db}\r\n"));
            }
        }
    }
}

#[test]
fn one_at_a_time_and_flushall_ends_it() {
    for shards in [1, 4] {
        let folder = Folder::new();
        let mut server = folder.server(shards, "");
        let mut c = server.client();
        pipeline(&mut c, (0..100).map(|n| format!("SET k{n} v")));
        c.call("CONFIG SET rdb-key-save-delay 10000000");
        bgsave(&mut c);
        for line in ["BGSAVE", "BGSAVE SCHEDULE", "SAVE"] {
            let reply = c.call(line);
            assert_eq!(
                reply, "-ERR Background save already in progress\r\n",
                "{line}"
            );
        }
        assert_eq!(c.call("BGSAVE NOW"), "-ERR syntax error\r\n");
        assert_eq!(info(&mut c, "rdb_bgsave_in_progress"), "1");
        assert_eq!(c.call("FLUSHALL"), "+OK\r\n");
        wait_for(&mut c, "rdb_bgsave_in_progress", "0");
        assert_eq!(info(&mut c, "rdb_last_bgsave_status"), "ok");
        assert!(folder.files().is_empty(), "{:?}", folder.files());
        // What is half marked from the last one does no harm.
        pipeline(&mut c, (0..100).map(|n| format!("SET k{n} v")));
        bgsave(&mut c);
        for line in ["MULTI", "BGSAVE"] {
            c.call(line);
        }
        assert_eq!(
            c.call("EXEC"),
            "*1\r\n-ERR Background save already in progress\r\n"
        );
        // The end ends it too.
        c.ask(&["SHUTDOWN", "NOSAVE"]);
        assert_eq!(c.reply(), None);
        assert!(server.ended().success());
        assert!(folder.files().is_empty(), "{:?}", folder.files());
    }
}

#[test]
fn shutdown_saves_what_is_there_though_one_is_under_way() {
    for shards in [1, 4] {
        let folder = Folder::new();
        let mut server = folder.server(shards, "");
        let mut c = server.client();
        pipeline(&mut c, (0..100).map(|n| format!("SET k{n} old")));
        c.call("CONFIG SET rdb-key-save-delay 10000000");
        bgsave(&mut c);
        pipeline(&mut c, (0..100).map(|n| format!("SET k{n} new")));
        c.ask(&["SHUTDOWN", "SAVE"]);
        assert_eq!(c.reply(), None);
        assert!(server.ended().success());
        assert_eq!(folder.files(), ["dump.rdb"]);
        let again = folder.server(shards, "");
        let mut c = again.client();
        assert_eq!(c.call("DBSIZE"), ":100\r\n");
        assert_eq!(c.call("GET k7"), "$3\r\nnew\r\n");
    }
}

/// What was answered before the end is there after it.
#[test]
fn the_end_loses_nothing_that_was_answered() {
    /// Writes until the server is gone. The last round of which all was answered.
    fn write(mut c: Client, me: usize) -> i64 {
        for round in 1.. {
            for line in [
                format!("SET s:{me} {round}"),
                format!("MSET a:{me} {round} b:{me} {round} c:{me} {round}"),
            ] {
                let words: Vec<&str> = line.split(' ').collect();
                let there = c.try_ask(&words);
                match c.reply().filter(|_| there) {
                    Some(reply) => assert_eq!(reply, "+OK\r\n"),
                    None => return round - 1,
                }
            }
        }
        unreachable!("it writes until the end")
    }
    for shards in [1, 4] {
        let folder = Folder::new();
        let mut server = folder.server(shards, "3600 1000000");
        let answered: Vec<i64> = thread::scope(|scope| {
            let start = |me: usize| {
                let c = server.client();
                scope.spawn(move || write(c, me))
            };
            let threads: Vec<_> = (0..8).map(start).collect();
            thread::sleep(Duration::from_millis(200));
            let mut c = server.client();
            c.ask(&["SHUTDOWN"]);
            assert_eq!(c.reply(), None);
            let ends = threads.into_iter().map(|t| t.join());
            ends.map(|end| end.expect("a client")).collect()
        });
        assert!(server.ended().success());
        let again = folder.server(shards, "");
        let mut c = again.client();
        for (me, &answered) in answered.iter().enumerate() {
            for key in ["s", "a", "b", "c"] {
                let there = number(&c.call(&format!("GET {key}:{me}")));
                let may_be = answered..=answered + 1;
                assert!(may_be.contains(&there), "{key}:{me}: {there} of {answered}");
            }
        }
    }
}

#[test]
fn writes_are_refused_while_snapshots_fail() {
    for shards in [1, 4] {
        let folder = Folder::new();
        let server = folder.server(shards, "3600 100000");
        let mut c = server.client();
        assert_eq!(c.call("SET k v"), "+OK\r\n");
        std::fs::remove_dir_all(&*folder.0).expect("it is ours");
        bgsave(&mut c);
        wait_for(&mut c, "rdb_last_bgsave_status", "err");
        let refused = |reply: String| {
            assert!(
                reply.contains("MISCONF Redis is configured to save RDB"),
                "{reply}"
            );
        };
        // Every core hears of it in its next turn.
        for n in 0..20 {
            refused(c.call(&format!("SET k{n} v")));
        }
        refused(c.call("PING"));
        refused(c.call("EVAL return{redis.call('set',KEYS[1],1)} 1 k"));
        assert_eq!(c.call("GET k"), "$1\r\nv\r\n");
        assert_eq!(
            c.call("EVAL return{redis.call('get',KEYS[1])} 1 k"),
            "*1\r\n$1\r\nv\r\n"
        );
        c.call("MULTI");
        refused(c.call("SET k w"));
        assert!(c.call("EXEC").starts_with("-EXECABORT"));
        c.call("CONFIG SET stop-writes-on-bgsave-error no");
        assert_eq!(c.call("SET k w"), "+OK\r\n");
        c.call("CONFIG SET stop-writes-on-bgsave-error yes");
        refused(c.call("SET k x"));
        std::fs::create_dir_all(&*folder.0).expect("a folder");
        bgsave(&mut c);
        wait_for(&mut c, "rdb_last_bgsave_status", "ok");
        assert_eq!(c.call("SET k x"), "+OK\r\n");
        assert_eq!(folder.files(), ["dump.rdb"]);
    }
}

#[test]
fn save_points_save() {
    for shards in [1, 4] {
        let folder = Folder::new();
        let server = folder.server(shards, "1 30");
        let mut c = server.client();
        pipeline(&mut c, (0..29).map(|n| format!("SET k{n} v")));
        thread::sleep(Duration::from_millis(1500));
        assert!(folder.files().is_empty(), "{:?}", folder.files());
        assert_eq!(info(&mut c, "rdb_changes_since_last_save"), "29");
        assert_eq!(c.call("SET k30 v"), "+OK\r\n");
        wait_for(&mut c, "rdb_changes_since_last_save", "0");
        assert_eq!(folder.files(), ["dump.rdb"]);
        // FLUSHALL saves the empty state at once.
        assert_eq!(c.call("FLUSHALL"), "+OK\r\n");
        wait_for(&mut c, "rdb_saves", "2");
        wait_for(&mut c, "rdb_bgsave_in_progress", "0");
        let again = folder.server(shards, "");
        assert_eq!(again.client().call("DBSIZE"), ":0\r\n");
    }
}

/// FLUSHALL saves the empty state in the background; Redis has saved when it answers, so SAVE and BGSAVE behind it were refused at times.
#[test]
fn what_flushall_saves_keeps_nobody_from_saving() {
    for shards in [1, 4] {
        let folder = Folder::new();
        let server = folder.server(shards, "3600 1000000");
        let mut c = server.client();
        for round in 0..20 {
            c.send(
                format!(
                    "SET k {round}\r\nFLUSHALL\r\nSAVE\r\nSET k {round}\r\nFLUSHALL\r\nBGSAVE\r\n"
                )
                .as_bytes(),
            );
            for reply in [
                "+OK",
                "+OK",
                "+OK",
                "+OK",
                "+OK",
                "+Background saving started",
            ] {
                let said = c.reply().expect("an answer");
                assert_eq!(said.trim_end(), reply, "{shards} shards, round {round}");
            }
            wait_for(&mut c, "rdb_bgsave_in_progress", "0");
            assert_eq!(info(&mut c, "rdb_last_bgsave_status"), "ok");
        }
        assert_eq!(c.call("SET kept 1"), "+OK\r\n");
        assert_eq!(c.call("SAVE"), "+OK\r\n");
        server.kill();
        drop(server);
        assert_eq!(folder.files(), ["dump.rdb"]);
        let server = folder.server(shards, "");
        assert_eq!(server.client().call("DBSIZE"), ":1\r\n");
    }
}
