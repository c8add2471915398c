//! The append-only file under faults: what was acknowledged is there after SIGKILL, transactions over several cores are whole or not
//! at all, whatever end a file has lost; damage and full disks are told, and nothing goes on as if they were not.

use crate::harness::Random;
use crate::persistence::{TemporaryFolder, info, wait_for};
use crate::server::{Client, Server};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// A folder for the log, gone at the end.
struct Folder(TemporaryFolder);

impl Folder {
    fn new() -> Self {
        Self(TemporaryFolder::new("log"))
    }
    fn options<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let dir = self.0.to_str().expect("a plain name");
        let mut options = vec!["--dir", dir, "--save", "", "--appendonly", "yes"];
        options.extend(more);
        options
    }
    /// A server that has its log here, once it has read it.
    fn server(&self, shards: usize, more: &[&str]) -> (Server, Client) {
        let server = Server::start(shards, &self.options(more));
        let client = loaded(&server);
        (server, client)
    }
    /// A server that is to end by itself instead of serving this: what it says.
    #[track_caller]
    fn refused(&self, shards: usize, more: &[&str]) -> String {
        let path = self.0.join("refused");
        let log = std::fs::File::create(&path).expect("a log file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringwood"))
            .args(["--bind", "127.0.0.1", "--port", "0", "--unixsocket"])
            .arg(self.0.join("socket"))
            .args(["--shards", &shards.to_string()])
            .args(self.options(more))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the built server starts");
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let said = std::fs::read_to_string(&path).unwrap_or_default();
            if let Some(status) = child.try_wait().expect("it can be asked") {
                assert!(!status.success(), "{said}");
                return said;
            }
            if Instant::now() > end || said.contains("Ready to accept") {
                child.kill().expect("it is ours");
                child.wait().expect("it is ours");
                panic!("it serves what it should refuse: {said}");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
    /// With the log of 40 keys, and one of its files.
    fn with_log(shards: usize) -> (Self, PathBuf) {
        let folder = Self::new();
        let (server, mut c) = folder.server(shards, &[]);
        for n in 0..40 {
            ok(&mut c, &format!("SET k{n} v"));
        }
        drop(server);
        let path = folder.log_files().pop().expect("a file of the log");
        (folder, path)
    }
    fn log_files(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.0.join("appendonlydir")).expect("a log's folder");
        let paths = files.map(|file| file.expect("a file").path());
        let mut paths: Vec<_> = paths
            .filter(|path| path.to_string_lossy().ends_with(".incr.aof"))
            .collect();
        paths.sort();
        paths
    }
}

/// Clients, scripts and transactions call renamed commands by their new names only; the log is right under these names, other
/// names and none, and where a part of it goes through another core.
#[test]
fn renamed_commands_are_logged_so_that_any_names_replay_them() {
    let long = "b840fc02d524045429941cc15f59e41cb7be6c52";
    let words = |c: &mut Client, words: &[&str]| {
        c.ask(words);
        c.reply().expect("a reply")
    };
    let folder = Folder::new();
    let renames: Vec<&str> = "--rename-command SET PutIt --rename-command INCRBYFLOAT set \
        --rename-command MULTI begin --rename-command EXEC commit --rename-command XGROUP groups \
        --rename-command FLUSHALL wipe --rename-command HINCRBYFLOAT hset2"
        .split_whitespace()
        .chain([
            "--rename-command",
            "DEL",
            "",
            "--rename-command",
            "CONFIG",
            long,
        ])
        .collect();
    let (server, mut c) = folder.server(4, &renames);
    ok(&mut c, "putit gone 1");
    ok(&mut c, "wipe");
    for n in 0..8 {
        ok(&mut c, &format!("PUTIT k{n} {n}"));
    }
    for (command, reply) in [
        (
            "DEL k0",
            "-ERR unknown command 'DEL', with args beginning with: 'k0' \r\n",
        ),
        (
            "CONFIG GET port",
            "-ERR unknown command 'CONFIG', with args beginning with: 'GET' 'port' \r\n",
        ),
        ("SET k0 0.5", "$3\r\n0.5\r\n"),
        ("HSET2 h f 2.5", "$3\r\n2.5\r\n"),
        ("groups CREATE s g $ MKSTREAM", "+OK\r\n"),
        (
            "groups NOSUCH",
            "-ERR unknown subcommand 'NOSUCH'. Try GROUPS HELP.\r\n",
        ),
        (
            "PUTIT x",
            "-ERR wrong number of arguments for 'set' command\r\n",
        ),
        ("GETEX k1 PXAT 1", "$1\r\n1\r\n"),
    ] {
        assert_eq!(c.call(command), reply, "{command}");
    }
    for commands in [
        ["PUTIT k2 two", "SET k3 1"],
        ["PUTIT {a}1 x", "PUTIT {a}2 y"],
    ] {
        ok(&mut c, "begin");
        for command in commands {
            assert_eq!(c.call(command), "+QUEUED\r\n");
        }
        assert!(c.call("commit").starts_with("*2\r\n"), "{commands:?}");
    }
    assert_eq!(
        words(
            &mut c,
            &[
                "EVAL",
                "return redis.call('putit', KEYS[1], 'made')",
                "1",
                "k4"
            ]
        ),
        "+OK\r\n"
    );
    let refused = words(
        &mut c,
        &["EVAL", "return redis.call('del', KEYS[1])", "1", "k4"],
    );
    assert!(
        refused.starts_with("-ERR Unknown Redis command called from script"),
        "{refused}"
    );
    let setting = c.call(&format!("{long} GET port"));
    assert!(setting.starts_with("*2\r\n$4\r\nport\r\n"), "{setting}");
    // With `everysec` what is written may wait for a sync that is under way, and the end is a SIGKILL.
    assert_eq!(c.call("WAITAOF 1 0 0"), "*2\r\n:1\r\n:0\r\n");
    drop((server, c));
    let other: &[&str] = &[
        "--rename-command",
        "SET",
        "",
        "--rename-command",
        "EXEC",
        "go",
    ];
    for (shards, names) in [(4, renames.as_slice()), (2, other), (1, &[])] {
        let (server, mut c) = folder.server(shards, names);
        for (command, reply) in [
            ("EXISTS gone k1", ":0\r\n"),
            (
                "MGET k0 k2 k3 k4",
                "*4\r\n$3\r\n0.5\r\n$3\r\ntwo\r\n$1\r\n4\r\n$4\r\nmade\r\n",
            ),
            ("MGET {a}1 {a}2", "*2\r\n$1\r\nx\r\n$1\r\ny\r\n"),
            ("HGET h f", "$3\r\n2.5\r\n"),
            ("XLEN s", ":0\r\n"),
            ("DBSIZE", ":11\r\n"),
        ] {
            assert_eq!(c.call(command), reply, "{command}: {}", server.log());
        }
    }
}

/// A core took the generation of a FLUSHALL that another had carried out already, some milliseconds after the start, for its first; at the next
/// start its own FLUSHALL came behind what had been written since.
#[test]
fn a_flush_right_behind_the_start_does_not_come_again() {
    for _ in 0..8 {
        let folder = Folder::new();
        let always = &["--appendfsync", "always"];
        let (server, mut c) = folder.server(4, always);
        assert_eq!(c.call("FLUSHALL"), "+OK\r\n");
        for n in 0..8 {
            assert_eq!(c.call(&format!("SET key{n} v")), "+OK\r\n");
        }
        drop((server, c));
        let (_server, mut c) = folder.server(4, always);
        assert_eq!(c.call("DBSIZE"), ":8\r\n");
    }
}

/// A client, when the server has read its log.
fn loaded(server: &Server) -> Client {
    let mut client = server.client();
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let reply = client.call("PING");
        if reply == "+PONG\r\n" {
            return client;
        }
        let waits = reply.starts_with("-LOADING") && Instant::now() < end;
        assert!(waits, "{reply}: {}", server.log());
        thread::sleep(Duration::from_millis(5));
    }
}
fn number(reply: &str) -> i64 {
    match reply {
        "$-1\r\n" => 0,
        _ => {
            let line = reply.lines().last().expect("a line");
            line.parse().unwrap_or_else(|_| panic!("a number: {reply}"))
        }
    }
}
fn get(c: &mut Client, key: &str) -> i64 {
    number(&c.call(&format!("GET {key}")))
}
#[track_caller]
fn ok(c: &mut Client, line: &str) {
    assert_eq!(c.call(line), "+OK\r\n", "{line}");
}

const ACCOUNTS: usize = 24;
const WRITERS: usize = 4;

/// A client's command; nothing once the server is gone.
fn attempt(c: &mut Client, line: &str) -> Option<String> {
    let words: Vec<&str> = line.split(' ').collect();
    if !c.try_ask(&words) {
        return None;
    }
    let reply = c.reply()?;
    assert!(!reply.starts_with('-'), "{line}: {reply}");
    Some(reply)
}

/// Moves amounts between accounts until told to stop or the server is gone. Returns the last round that was wholly acknowledged.
fn move_amounts(
    c: &mut Client,
    me: usize,
    first: i64,
    random: &mut Random,
    stop: &AtomicBool,
) -> i64 {
    for round in first.. {
        if stop.load(Relaxed) {
            return round - 1;
        }
        let mut below = |n: usize| random.below(n);
        let (from, to, amount) = (below(ACCOUNTS), below(ACCOUNTS), below(50));
        for line in [
            "MULTI".to_owned(),
            format!("DECRBY account:{from} {amount}"),
            format!("INCRBY account:{to} {amount}"),
            format!("SET moved:{me} {round}"),
            "EXEC".to_owned(),
            format!("MSET a:{me} {round} b:{me} {round} c:{me} {round} d:{me} {round}"),
            format!("SET single:{me} {round}"),
        ] {
            if attempt(c, &line).is_none() {
                return round - 1;
            }
        }
    }
    unreachable!("it goes on until somebody stops it")
}

/// All acknowledged writes are there, and no transaction by half.
#[track_caller]
fn check_amounts(c: &mut Client, acknowledged: &[i64], exactly: bool) {
    let sum: i64 = (0..ACCOUNTS).map(|n| get(c, &format!("account:{n}"))).sum();
    assert_eq!(sum, 1000 * ACCOUNTS as i64, "a transaction by half");
    for (me, &last) in acknowledged.iter().enumerate() {
        let may_be = last..=last + i64::from(!exactly);
        for key in ["moved", "a", "single"] {
            let there = get(c, &format!("{key}:{me}"));
            assert!(may_be.contains(&there), "{key}:{me}: {there} of {last}");
        }
        let of_mset = ["a", "b", "c", "d"].map(|key| get(c, &format!("{key}:{me}")));
        assert!(
            of_mset.iter().all(|n| *n == of_mset[0]),
            "an MSET by half: {of_mset:?}"
        );
    }
}
/// The round that may have been under way at the end is settled: whoever gets none done in its next life has this one.
fn skip_round(c: &mut Client, rounds: &mut [i64]) {
    for (me, round) in rounds.iter_mut().enumerate() {
        *round += 1;
        for key in ["moved", "a", "b", "c", "d", "single"] {
            ok(c, &format!("SET {key}:{me} {round}"));
        }
    }
}
fn open_accounts(c: &mut Client) {
    for n in 0..ACCOUNTS {
        ok(c, &format!("SET account:{n} 1000"));
    }
}

#[test]
fn always_keeps_what_was_acknowledged_through_sigkill() {
    for shards in [1, 4] {
        let (folder, mut random) = (Folder::new(), Random::seeded());
        let always = ["--appendfsync", "always"];
        let mut rounds = vec![0; WRITERS];
        for life in 0..4 {
            // The last time with another number of cores.
            let shards = if life == 3 { 5 - shards } else { shards };
            let (server, mut c) = folder.server(shards, &always);
            match life {
                0 => open_accounts(&mut c),
                _ => {
                    check_amounts(&mut c, &rounds, false);
                    skip_round(&mut c, &mut rounds);
                }
            }
            let stop = &AtomicBool::new(false);
            rounds = thread::scope(|scope| {
                let start = |me: usize| {
                    let (mut c, mut random) = (server.client(), Random::with(random.next()));
                    let first = 1 + rounds[me];
                    scope.spawn(move || move_amounts(&mut c, me, first, &mut random, stop))
                };
                let writers: Vec<_> = (0..WRITERS).map(start).collect();
                thread::sleep(Duration::from_millis(80 + random.below(120) as u64));
                server.kill();
                let ends = writers.into_iter().map(|writer| writer.join());
                ends.map(|end| end.expect("a writer")).collect()
            });
        }
        let (_server, mut c) = folder.server(shards, &always);
        check_amounts(&mut c, &rounds, false);
    }
}

/// Where the last transaction over several cores begins in a file.
fn last_transaction(bytes: &[u8]) -> Option<usize> {
    let mark = b"#RW:tx ";
    (0..bytes.len()).rfind(|&at| bytes[at..].starts_with(mark))
}
fn cut(path: &Path, at: usize) {
    let file = std::fs::OpenOptions::new().write(true).open(path);
    let cut = file.and_then(|file| file.set_len(at as u64));
    cut.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

#[test]
fn a_transaction_that_one_file_has_is_completed() {
    const KEYS: usize = 16;
    let folder = Folder::new();
    let (server, mut c) = folder.server(4, &[]);
    for n in 0..KEYS {
        ok(&mut c, &format!("SET k{n} old"));
    }
    for line in ["MULTI".to_owned()]
        .into_iter()
        .chain((0..KEYS).map(|n| format!("SET k{n} new")))
        .chain(["EXEC".to_owned()])
    {
        c.call(&line);
    }
    // All cores have written their part when each has answered to something later.
    for n in 0..KEYS {
        ok(&mut c, &format!("SET later{n} x"));
    }
    server.kill();
    drop(server);
    let files = folder.log_files();
    let whole: Vec<Vec<u8>> = files
        .iter()
        .map(|path| std::fs::read(path).expect("a file of the log"))
        .collect();
    let begins: Vec<usize> = whole
        .iter()
        .map(|bytes| last_transaction(bytes).expect("the transaction is in each file"))
        .collect();
    let restore = || {
        // What the last life has begun is not to be read.
        let _ = std::fs::remove_dir_all(folder.0.join("appendonlydir"));
        std::fs::create_dir_all(folder.0.join("appendonlydir")).expect("a folder");
        let mut manifest = String::new();
        for (n, (path, bytes)) in files.iter().zip(&whole).enumerate() {
            std::fs::write(path, bytes).expect("a file");
            let name = path.file_name().expect("a name").to_string_lossy();
            manifest.push_str(&format!("file {name} seq {} type i\n", n + 1));
        }
        let path = folder.0.join("appendonlydir/appendonly.aof.manifest");
        std::fs::write(path, manifest).expect("the manifest");
    };
    // (shards, files that are cut, within the transaction instead of before it, what is there)
    let cases: [(usize, &[usize], bool, &str); 6] = [
        (4, &[0], false, "new"),
        (4, &[3], true, "new"),
        (4, &[0, 1, 2], false, "new"),
        (1, &[1, 2, 3], true, "new"),
        (4, &[0, 1, 2, 3], true, "old"),
        (1, &[0, 1, 2, 3], false, "old"),
    ];
    for (shards, files_cut, within, value) in cases {
        restore();
        for &n in files_cut {
            cut(&files[n], begins[n] + if within { 150 } else { 0 });
        }
        // What a restart has completed the next one completes again.
        for _ in 0..2 {
            let (server, mut c) = folder.server(shards, &[]);
            for n in 0..KEYS {
                assert_eq!(
                    c.call(&format!("GET k{n}")),
                    format!("$3\r\n{value}\r\n"),
                    "k{n}, {files_cut:?} cut: {}",
                    server.log()
                );
            }
        }
    }
}

#[test]
fn a_damaged_file_is_refused_and_named() {
    for shards in [1, 4] {
        let (folder, path) = Folder::with_log(shards);
        let name = path.file_name().expect("a name").to_string_lossy();
        let bytes = std::fs::read(&path).expect("a file of the log");
        let command = b"*3\r\n$3\r\nSET";
        let second = (1..bytes.len())
            .filter(|&at| bytes[at..].starts_with(command))
            .nth(1)
            .expect("commands");
        // Over a command, and behind the last.
        for (at, garbage) in [(second, "garbage!"), (bytes.len(), "\0\0\0\0\0\0")] {
            let mut damaged = bytes.clone();
            let to = (at + garbage.len()).min(damaged.len());
            damaged.splice(at..to, garbage.bytes());
            std::fs::write(&path, &damaged).expect("a file");
            let said = folder.refused(shards, &[]);
            for part in ["Bad file format", &name, &format!("offset {at}")] {
                assert!(said.contains(part), "no {part} in {said}");
            }
        }
        // A command that there is none of.
        let unknown = b"*3\r\n$3\r\nSEX";
        let mut damaged = bytes.clone();
        damaged[second..second + unknown.len()].copy_from_slice(unknown);
        std::fs::write(&path, &damaged).expect("a file");
        let said = folder.refused(shards, &[]);
        // Nothing goes on behind it: no core takes the end of what it was sent for the end of the log.
        let last = said.trim_end().lines().last().unwrap_or_default();
        assert!(last.contains("Unknown command 'SEX'"), "{said}");
        assert!(last.contains(&*name), "{said}");
        std::fs::write(&path, &bytes).expect("a file");
        let (_server, mut c) = folder.server(shards, &[]);
        assert_eq!(c.call("DBSIZE"), ":40\r\n");
    }
}

/// Redis begins an empty log then, too, and writes over the files.
#[test]
fn without_a_manifest_files_are_neither_read_nor_lost() {
    for shards in [1, 4] {
        let (folder, path) = Folder::with_log(shards);
        let bytes = std::fs::read(&path).expect("a file of the log");
        let dir = folder.0.join("appendonlydir");
        let remove = || std::fs::remove_file(dir.join("appendonly.aof.manifest"));
        remove().expect("the manifest");
        let (server, mut c) = folder.server(shards, &[]);
        assert_eq!(c.call("DBSIZE"), ":0\r\n");
        ok(&mut c, "SET k v");
        drop(server);
        let name = path.file_name().expect("a name").to_string_lossy();
        let kept = dir.join(format!("{name}.unnamed-1"));
        assert_eq!(std::fs::read(&kept).expect("the file"), bytes);
        remove().expect("the manifest");
        let (server, _c) = folder.server(shards, &[]);
        drop(server);
        assert_eq!(std::fs::read(&kept).expect("the file"), bytes);
        assert!(dir.join(format!("{name}.unnamed-2")).exists());
        // What the new server writes is read again.
        let (_server, mut c) = folder.server(shards, &[]);
        assert_eq!(c.call("DBSIZE"), ":0\r\n");
    }
}

#[test]
fn a_file_that_was_cut_off_is_read_if_that_is_wanted() {
    for shards in [1, 4] {
        let (folder, path) = Folder::with_log(shards);
        let name = path.file_name().expect("a name").to_string_lossy();
        let len = std::fs::metadata(&path).expect("a file of the log").len();
        cut(&path, len as usize - 3);
        let said = folder.refused(shards, &["--aof-load-truncated", "no"]);
        assert!(said.contains("Unexpected end of file"), "{said}");
        assert!(said.contains(&*name), "{said}");
        let cut_off = std::fs::metadata(&path).expect("a file of the log").len();
        assert_eq!(cut_off, len - 3, "what is refused is left as it is");
        // The next start goes on behind what was whole.
        for size in [39, 40] {
            let (_server, mut c) = folder.server(shards, &[]);
            assert_eq!(c.call("DBSIZE"), format!(":{size}\r\n"));
            ok(&mut c, "SET later v");
        }
    }
}

#[test]
fn a_log_of_before_redis_7_is_taken_over() {
    let commands = |lines: &[&str]| -> Vec<u8> {
        let mut out = Vec::new();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
            for word in words {
                out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
            }
        }
        out
    };
    let old = commands(&[
        "SELECT 0",
        "SET plain 1",
        "MULTI",
        "RPUSH list a b",
        "INCR plain",
        "EXEC",
        "SELECT 3",
        "HSET hash f v",
        "SET gone x",
        "PEXPIREAT gone 1",
    ]);
    for shards in [1, 4] {
        for with_snapshot in [false, true] {
            let folder = Folder::new();
            let mut file = Vec::new();
            if with_snapshot {
                let options = folder.options(&["--appendonly", "no"]);
                let server = Server::start(shards, &options);
                let mut c = server.client();
                ok(&mut c, "SET before 7");
                ok(&mut c, "SAVE");
                let path = folder.0.join("dump.rdb");
                file = std::fs::read(&path).expect("a snapshot");
                std::fs::remove_file(path).expect("a snapshot");
            }
            file.extend_from_slice(&old);
            std::fs::write(folder.0.join("appendonly.aof"), &file).expect("a file");
            for life in 0..3 {
                let (_server, mut c) = folder.server(shards, &[]);
                assert_eq!(get(&mut c, "before"), if with_snapshot { 7 } else { 0 });
                assert_eq!(get(&mut c, "plain"), 2 + life);
                assert_eq!(c.call("LRANGE list 0 -1"), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
                assert_eq!(c.call("INCR plain"), format!(":{}\r\n", 3 + life));
                ok(&mut c, "SELECT 3");
                assert_eq!(c.call("HGET hash f"), "$1\r\nv\r\n");
                assert_eq!(c.call("DBSIZE"), ":1\r\n");
            }
            assert!(
                !folder.0.join("appendonly.aof").exists(),
                "it lies among the others now"
            );
        }
    }
}

#[test]
fn switched_on_and_off_under_load_it_has_everything() {
    for shards in [1, 4] {
        let (folder, mut random) = (Folder::new(), Random::seeded());
        let (server, mut c) = folder.server(shards, &["--appendonly", "no"]);
        open_accounts(&mut c);
        let stop = &AtomicBool::new(false);
        let rounds: Vec<i64> = thread::scope(|scope| {
            let start = |me: usize| {
                let (mut c, mut random) = (server.client(), Random::with(random.next()));
                scope.spawn(move || move_amounts(&mut c, me, 1, &mut random, stop))
            };
            let writers: Vec<_> = (0..WRITERS).map(start).collect();
            for _ in 0..2 {
                ok(&mut c, "CONFIG SET appendonly yes");
                wait_for(&mut c, "aof_rewrite_in_progress", "0");
                for _ in 0..2 {
                    let begun = c.call("BGREWRITEAOF");
                    assert!(begun.starts_with("+Background append only"), "{begun}");
                    wait_for(&mut c, "aof_rewrite_in_progress", "0");
                    assert_eq!(info(&mut c, "aof_last_bgrewrite_status"), "ok");
                }
                assert_eq!(info(&mut c, "aof_enabled"), "1");
                ok(&mut c, "CONFIG SET appendonly no");
                wait_for(&mut c, "aof_enabled", "0");
            }
            ok(&mut c, "CONFIG SET appendonly yes");
            wait_for(&mut c, "aof_rewrite_in_progress", "0");
            thread::sleep(Duration::from_millis(50));
            stop.store(true, Relaxed);
            let ends = writers.into_iter().map(|writer| writer.join());
            ends.map(|end| end.expect("a writer")).collect()
        });
        assert_eq!(info(&mut c, "aof_enabled"), "1");
        // On every core behind what the writers did.
        for n in 0..ACCOUNTS {
            c.call(&format!("INCRBY account:{n} 0"));
        }
        assert_eq!(c.call("WAITAOF 1 0 0"), "*2\r\n:1\r\n:0\r\n");
        server.kill();
        drop(server);
        let (_server, mut c) = folder.server(shards, &[]);
        check_amounts(&mut c, &rounds, true);
    }
}

/// Before and behind it are keys of all cores. Redis reads it so too.
#[test]
fn a_transaction_or_script_with_a_flush_stands_in_the_log_as_a_whole() {
    let transaction = &[
        "MULTI",
        "MSET a 2 b 2 c 2",
        "SWAPDB 0 1",
        "FLUSHDB",
        "MSET d 3 e 3 f 3",
        "EXEC",
    ][..];
    let script = &[
        "EVAL redis.call('MSET','a',2,'b',2,'c',2);redis.call('SWAPDB',0,1);redis.call('FLUSHDB');redis.call('MSET','d',3,'e',3,'f',3) 0",
    ];
    for shards in [1, 4] {
        for what in [transaction, script] {
            let folder = Folder::new();
            let (server, mut c) = folder.server(shards, &["--appendfsync", "always"]);
            ok(&mut c, "MSET old 1 a 1 b 1");
            for line in what {
                let reply = c.call(line);
                assert!(!reply.starts_with('-'), "{reply}");
            }
            let files = std::fs::read_dir(folder.0.join("appendonlydir")).expect("a log's folder");
            let texts = files.map(|file| std::fs::read(file.expect("a file").path()));
            let texts =
                texts.map(|text| String::from_utf8_lossy(&text.expect("text")).into_owned());
            let whole: Vec<String> = texts.filter(|text| text.contains("#RW:global")).collect();
            let [whole] = &whole[..] else {
                panic!("{shards}: one file begins with it: {whole:?}")
            };
            let words = [
                "MULTI",
                "\r\na\r\n",
                "SWAPDB",
                "FLUSHDB",
                "\r\nf\r\n",
                "EXEC",
            ];
            let places = words.map(|word| whole.find(word));
            assert!(places.is_sorted() && places[0].is_some(), "{whole}");
            server.kill();
            drop(server);
            let (_server, mut c) = folder.server(shards, &[]);
            assert_eq!(c.call("EXISTS old a b c d e f"), ":3\r\n");
            assert_eq!(c.call("EXISTS d e f"), ":3\r\n");
            ok(&mut c, "SELECT 1");
            assert_eq!(c.call("EXISTS old a b c d e f"), ":4\r\n");
        }
    }
}

/// The thread that does so was started only where there was a log at the start.
#[test]
fn a_log_that_is_switched_on_is_synced() {
    let folder = Folder::new();
    let (_server, mut c) = folder.server(2, &["--appendonly", "no"]);
    ok(&mut c, "CONFIG SET appendonly yes");
    wait_for(&mut c, "aof_rewrite_in_progress", "0");
    ok(&mut c, "SET k v");
    assert_eq!(c.call("WAITAOF 1 0 0"), "*2\r\n:1\r\n:0\r\n");
}

#[test]
fn waitaof_waits_for_the_disk() {
    for shards in [1, 4] {
        let folder = Folder::new();
        let (_server, mut c) = folder.server(shards, &["--appendfsync", "no"]);
        ok(&mut c, "SET k v");
        // Nothing syncs it.
        assert_eq!(c.call("WAITAOF 1 0 50"), "*2\r\n:0\r\n:0\r\n");
        assert_eq!(c.call("WAITAOF 0 0 0"), "*2\r\n:0\r\n:0\r\n");
        for policy in ["everysec", "always"] {
            ok(&mut c, &format!("CONFIG SET appendfsync {policy}"));
            for n in 0..8 {
                ok(&mut c, &format!("SET k{n} v"));
            }
            assert_eq!(c.call("WAITAOF 1 0 0"), "*2\r\n:1\r\n:0\r\n", "{policy}");
            assert_eq!(c.call("WAITAOF 0 0 0"), "*2\r\n:1\r\n:0\r\n", "{policy}");
            // The disk has it, replicas have not.
            assert_eq!(c.call("WAITAOF 1 1 50"), "*2\r\n:1\r\n:0\r\n", "{policy}");
        }
        ok(&mut c, "CONFIG SET appendonly no");
        wait_for(&mut c, "aof_enabled", "0");
        let refused = c.call("WAITAOF 1 0 0");
        assert_eq!(
            refused,
            "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n"
        );
    }
}

/// In a transaction or script WAITAOF waits for nothing, and says of the own log what Redis says. It said 0.
#[test]
fn waitaof_where_nothing_may_wait_says_what_is_on_disk() {
    let (there, not_there) = ("*2\r\n:1\r\n:0\r\n", "*2\r\n:0\r\n:0\r\n");
    for shards in [1, 4] {
        let folder = Folder::new();
        let (_server, mut c) = folder.server(shards, &["--appendfsync", "no"]);
        let script = "EVAL return(redis.call('WAITAOF',0,0,0)) 0";
        let in_multi = |c: &mut Client| {
            ok(c, "MULTI");
            assert_eq!(c.call("WAITAOF 0 0 0"), "+QUEUED\r\n");
            let reply = c.call("EXEC");
            reply.strip_prefix("*1\r\n").expect("one reply").to_string()
        };
        ok(&mut c, "SET k v");
        assert_eq!(in_multi(&mut c), not_there, "nothing syncs it");
        assert_eq!(c.call(script), there, "it is no client's");
        ok(&mut c, "CONFIG SET appendfsync everysec");
        ok(&mut c, "SET k v");
        assert_eq!(c.call("WAITAOF 1 0 0"), there);
        assert_eq!(in_multi(&mut c), there);
        ok(&mut c, "CONFIG SET appendfsync always");
        ok(&mut c, "SET k w");
        assert_eq!(in_multi(&mut c), there);
        ok(&mut c, "CONFIG SET appendonly no");
        wait_for(&mut c, "aof_enabled", "0");
        assert_eq!(in_multi(&mut c), not_there);
        assert_eq!(c.call(script), not_there);
    }
}

/// Bytes that a file of the server may have, from now on.
fn allow(pid: u32, limit: &str) {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &pid.to_string(), &format!("--fsize={limit}:")]);
    assert!(command.status().expect("prlimit(1) runs").success());
}

/// A limit of the size of files stands for a disk that is full: writes end in the middle of a command, then fail.
#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    for shards in [1, 4] {
        let folder = Folder::new();
        // Such a write is to fail only, not to end the process too.
        let through = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];
        let server = Server::start_through(&through, shards, &folder.options(&[]));
        let mut c = loaded(&server);
        ok(&mut c, "SET k v");
        let value = "x".repeat(10_000);
        allow(server.pid(), "100000");
        let mut written = 0;
        let end = Instant::now() + Duration::from_secs(20);
        let refused = loop {
            let reply = c.call(&format!("SET k{written} {value}"));
            if reply != "+OK\r\n" {
                break reply;
            }
            written += 1;
            assert!(Instant::now() < end, "no write was refused");
        };
        assert!(
            refused.starts_with("-MISCONF Errors writing to the AOF file: File too large"),
            "{refused}"
        );
        assert_eq!(info(&mut c, "aof_last_write_status"), "err");
        for n in 0..20 {
            let reply = c.call(&format!("SET k{n} other"));
            assert!(reply.starts_with("-MISCONF"), "{reply}");
        }
        assert_eq!(c.call("GET k"), "$1\r\nv\r\n");
        allow(server.pid(), "unlimited");
        wait_for(&mut c, "aof_last_write_status", "ok");
        ok(&mut c, "SET k w");
        // With `everysec` a write may wait for a sync that is under way.
        assert_eq!(c.call("WAITAOF 1 0 0"), "*2\r\n:1\r\n:0\r\n");
        server.kill();
        drop(server);
        let (_server, mut c) = folder.server(shards, &[]);
        assert_eq!(c.call("GET k"), "$1\r\nw\r\n");
        assert_eq!(c.call("DBSIZE"), format!(":{}\r\n", written + 1));
        for n in 0..written {
            assert_eq!(c.call(&format!("STRLEN k{n}")), ":10000\r\n");
        }
    }
}

#[test]
fn a_log_that_cannot_be_written_can_be_switched_off() {
    for shards in [1, 4] {
        let folder = Folder::new();
        let through = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];
        let server = Server::start_through(&through, shards, &folder.options(&[]));
        let mut c = loaded(&server);
        allow(server.pid(), "100");
        let end = Instant::now() + Duration::from_secs(20);
        while c.call("SET k v") == "+OK\r\n" {
            assert!(Instant::now() < end, "no write was refused");
        }
        ok(&mut c, "CONFIG SET appendonly no");
        wait_for(&mut c, "aof_enabled", "0");
        ok(&mut c, "SET k w");
    }
}

/// As Redis answers, rather than to say OK and have no log.
#[test]
fn a_log_that_cannot_begin_is_not_switched_on() {
    let folder = TemporaryFolder::new("log");
    let dir = folder.to_str().expect("a plain name");
    // A file is where the log's folder would be.
    let in_the_way = folder.join("appendonlydir");
    std::fs::write(&in_the_way, "x").expect("a file");
    let server = Server::start(2, &["--dir", dir, "--save", ""]);
    let mut c = server.client();
    let refused = c.call("CONFIG SET appendonly yes");
    assert!(
        refused.contains("Unable to turn on AOF. Check server logs."),
        "{refused}"
    );
    assert_eq!(
        c.call("CONFIG GET appendonly"),
        "*2\r\n$10\r\nappendonly\r\n$2\r\nno\r\n"
    );
    wait_for(&mut c, "aof_enabled", "0");
    std::fs::remove_file(&in_the_way).expect("the file");
    ok(&mut c, "CONFIG SET appendonly yes");
    wait_for(&mut c, "aof_enabled", "1");
}
