//! DEBUG LOADAOF: what the log says is what there was, and the server goes on with it.

use crate::persistence::{TemporaryFolder, info, wait_for};
use crate::server::{Client, Server};

fn digest(c: &mut Client) -> String {
    c.call("DEBUG DIGEST")
}
fn ok(c: &mut Client, line: &str) {
    assert_eq!(c.call(line), "+OK\r\n", "{line}");
}
/// A server with that folder, and save points `save`.
fn start(shards: usize, folder: &TemporaryFolder, save: &str, more: &[&str]) -> Server {
    let dir = folder.to_str().expect("a plain name");
    let options = [
        "--dir",
        dir,
        "--save",
        save,
        "--enable-debug-command",
        "yes",
    ];
    Server::start(shards, &[&options[..], more].concat())
}
const LOGGED: &[&str] = &["--appendonly", "yes"];

/// Changes of every kind, over all cores.
fn fill(c: &mut Client, round: usize) {
    for n in 0..30 {
        ok(c, &format!("SET {round}:{n} value"));
        c.call(&format!("HSET h{n} f{round} 1"));
        c.call(&format!("RPUSH l{n} a{round} b c"));
        c.call(&format!("LPOP l{n}"));
        c.call(&format!("EXPIRE {round}:{n} {}", 1000 + n));
    }
    ok(c, "MULTI");
    c.call(&format!("RENAME {round}:1 renamed"));
    c.call("INCR counter");
    assert!(c.call("EXEC").starts_with("*2"));
    ok(c, "SELECT 3");
    ok(c, &format!("SET elsewhere {round}"));
    ok(c, "SELECT 0");
    ok(c, "SWAPDB 3 4");
    ok(c, "MSET x 1 y 2 z 3");
}

#[test]
fn the_log_is_read_again_and_written_on() {
    for shards in [1, 4] {
        let folder = TemporaryFolder::new("reload");
        let server = start(shards, &folder, "", LOGGED);
        let mut c = server.client();
        fill(&mut c, 0);
        // A list that the log fills and empties: who waits for it gets nothing of that.
        assert_eq!(c.call("RPUSH q of-the-log"), ":1\r\n");
        assert_eq!(c.call("DEL q"), ":1\r\n");
        let mut waiting = server.client();
        waiting.ask(&["BLPOP", "q", "0"]);
        while !c.call("INFO clients").contains("blocked_clients:1") {
            std::thread::yield_now();
        }
        let calls = |c: &mut Client| {
            c.call("INFO commandstats")
                .contains("cmdstat_hset:calls=30,")
        };
        assert!(calls(&mut c));
        for round in 1..4 {
            let before = digest(&mut c);
            ok(&mut c, "DEBUG LOADAOF");
            assert_eq!(digest(&mut c), before, "{shards} shards");
            // The log's commands are not counted as clients'.
            assert!(round > 1 || calls(&mut c));
            fill(&mut c, round);
            if round == 2 {
                assert!(c.call("BGREWRITEAOF").starts_with('+'));
                while c
                    .call("INFO persistence")
                    .contains("aof_rewrite_in_progress:1")
                {
                    std::thread::yield_now();
                }
            }
        }
        assert_eq!(c.call("RPUSH q new"), ":1\r\n");
        assert_eq!(
            waiting.reply().expect("it was served"),
            "*2\r\n$1\r\nq\r\n$3\r\nnew\r\n"
        );
        let before = digest(&mut c);
        // Switched off, what the files say is what comes.
        ok(&mut c, "CONFIG SET appendonly no");
        while c.call("INFO persistence").contains("aof_enabled:1") {
            std::thread::yield_now();
        }
        ok(&mut c, "SET lost 1");
        ok(&mut c, "DEBUG LOADAOF");
        assert_eq!(digest(&mut c), before, "{shards} shards, switched off");
        drop(server);
        let server = start(shards, &folder, "", LOGGED);
        let mut c = server.client();
        while c.call("PING").starts_with("-LOADING") {}
        assert_eq!(digest(&mut c), before, "{shards} shards, after a start");
    }
}

/// Who waits for a group's messages is one of its consumers at once, in the log too.
#[test]
fn a_consumer_that_waits_is_in_the_log() {
    for shards in [1, 4] {
        let folder = TemporaryFolder::new("reload");
        let server = start(shards, &folder, "", LOGGED);
        let mut c = server.client();
        ok(&mut c, "XGROUP CREATE s g $ MKSTREAM");
        let mut waiting = server.client();
        let words = "XREADGROUP GROUP g reader BLOCK 0 STREAMS s >";
        waiting.ask(&words.split(' ').collect::<Vec<_>>());
        while !c.call("INFO clients").contains("blocked_clients:1") {
            std::thread::yield_now();
        }
        assert!(c.call("XINFO GROUPS s").contains("consumers\r\n:1"));
        ok(&mut c, "DEBUG LOADAOF");
        let groups = c.call("XINFO GROUPS s");
        assert!(
            groups.contains("consumers\r\n:1"),
            "{shards} shards: {groups}"
        );
    }
}

/// What cannot be read is found before anything is forgotten.
#[test]
fn a_damaged_log_changes_nothing() {
    for shards in [1, 3] {
        let folder = TemporaryFolder::new("reload");
        let server = start(shards, &folder, "", LOGGED);
        let mut c = server.client();
        fill(&mut c, 0);
        let before = digest(&mut c);
        // Nobody writes the manifest behind it: the files of what was flushed or swapped are settled.
        ok(&mut c, "DEBUG LOADAOF");
        let manifest = folder.join("appendonlydir/appendonly.aof.manifest");
        let text = std::fs::read_to_string(&manifest).expect("a manifest");
        std::fs::write(&manifest, "file nothing.aof seq 1 type b\n").expect("it can be changed");
        assert!(c.call("DEBUG LOADAOF").starts_with("-ERR"));
        assert_eq!(digest(&mut c), before);
        std::fs::write(&manifest, text).expect("it can be changed");
        ok(&mut c, "SET one more");
        let before = digest(&mut c);
        ok(&mut c, "DEBUG LOADAOF");
        assert_eq!(digest(&mut c), before);
    }
}

/// A log that is not there, or not yet, takes nothing away.
#[test]
fn without_a_log_nothing_is_forgotten() {
    for shards in [1, 4] {
        let folder = TemporaryFolder::new("reload");
        // FLUSHALL writes a snapshot, and a log that is switched on waits for its end.
        let server = start(shards, &folder, "3600 1", &[]);
        let mut c = server.client();
        fill(&mut c, 0);
        let before = digest(&mut c);
        assert!(c.call("DEBUG LOADAOF").starts_with("-ERR there is no log"));
        assert_eq!(digest(&mut c), before, "{shards} shards");
        ok(&mut c, "FLUSHALL");
        ok(&mut c, "CONFIG SET appendonly yes");
        fill(&mut c, 0);
        let before = digest(&mut c);
        c.call("DEBUG LOADAOF");
        assert_eq!(digest(&mut c), before, "{shards} shards, being switched on");
        loop {
            let info = c.call("INFO persistence");
            assert!(info.contains("aof_enabled:1"), "{info}");
            let waits = info.contains("aof_rewrite_scheduled:1");
            if !waits && info.contains("aof_rewrite_in_progress:0") {
                break;
            }
        }
        ok(&mut c, "DEBUG LOADAOF");
        assert_eq!(digest(&mut c), before, "{shards} shards, switched on");
    }
}

/// The manifest of a folder's log.
fn manifest(folder: &TemporaryFolder) -> String {
    let path = folder.join("appendonlydir/appendonly.aof.manifest");
    std::fs::read_to_string(path).expect("a manifest")
}

/// As Redis's: a log that begins with nothing says so in a base.
#[test]
fn a_new_log_has_a_base() {
    for (preamble, ending) in [("yes", "rdb"), ("no", "aof")] {
        let folder = TemporaryFolder::new("reload");
        let dir = folder.to_str().expect("a plain name");
        let options = [
            "--dir",
            dir,
            "--save",
            "",
            "--appendonly",
            "yes",
            "--aof-use-rdb-preamble",
            preamble,
        ];
        let server = Server::start(1, &options);
        ok(&mut server.client(), "SET k v");
        let files = format!(
            "file appendonly.aof.1.base.{ending} seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"
        );
        assert_eq!(manifest(&folder), files);
        drop(server);
        let server = Server::start(1, &options);
        let mut c = server.client();
        wait_for(&mut c, "loading", "0");
        assert_eq!(c.call("GET k"), "$1\r\nv\r\n");
    }
}

/// Another server's start was cut off between the manifest and moving the old log.
#[test]
fn a_log_that_was_half_taken_over_is_taken_over() {
    let folder = TemporaryFolder::new("reload");
    let dir = folder.to_str().expect("a plain name");
    std::fs::create_dir(folder.join("appendonlydir")).expect("a folder");
    let text = "file appendonly.aof seq 1 type b\n";
    std::fs::write(folder.join("appendonlydir/appendonly.aof.manifest"), text).expect("a file");
    let old = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
    std::fs::write(folder.join("appendonly.aof"), old).expect("a file");
    let server = Server::start(2, &["--dir", dir, "--save", "", "--appendonly", "yes"]);
    let mut c = server.client();
    wait_for(&mut c, "loading", "0");
    assert_eq!(c.call("GET k"), "$1\r\nv\r\n");
    assert!(!folder.join("appendonly.aof").exists());
    assert!(folder.join("appendonlydir/appendonly.aof").exists());
}

/// What fails leaves the log as it was, and after three failures nothing begins by itself.
#[test]
fn rewrites_that_fail() {
    let folder = TemporaryFolder::new("reload");
    let server = start(1, &folder, "", LOGGED);
    let mut c = server.client();
    // The cores begin with that, and so do the files.
    ok(&mut c, "SET k v");
    let base = manifest(&folder);
    assert!(c.call("DEBUG FAIL-SNAPSHOT").starts_with("-ERR"));
    ok(&mut c, "CONFIG SET rdb-key-save-delay 100000000");
    for _ in 0..3 {
        assert!(c.call("BGREWRITEAOF").starts_with('+'));
        ok(&mut c, "DEBUG FAIL-SNAPSHOT");
        wait_for(&mut c, "aof_rewrite_in_progress", "0");
        assert_eq!(info(&mut c, "aof_last_bgrewrite_status"), "err");
    }
    let files: String = (2..5)
        .map(|n| format!("file appendonly.aof.{n}.incr.aof seq {n} type i\n"))
        .collect();
    assert_eq!(manifest(&folder), base + &files);
    let set = "CONFIG SET auto-aof-rewrite-min-size 1 auto-aof-rewrite-percentage 1";
    ok(&mut c, set);
    ok(&mut c, &format!("SET k {}", "x".repeat(2000)));
    while !server.log().contains("triggered the limit") {
        std::thread::yield_now();
    }
    assert_eq!(info(&mut c, "aof_rewrite_in_progress"), "0");
    ok(
        &mut c,
        "CONFIG SET rdb-key-save-delay 0 aof-disable-auto-gc yes",
    );
    assert!(c.call("BGREWRITEAOF").starts_with('+'));
    wait_for(&mut c, "aof_rewrite_in_progress", "0");
    assert_eq!(info(&mut c, "aof_last_bgrewrite_status"), "ok");
    assert!(manifest(&folder).contains("type h"));
    ok(&mut c, "CONFIG SET aof-disable-auto-gc no");
    let files = "file appendonly.aof.2.base.rdb seq 2 type b\nfile appendonly.aof.5.incr.aof seq 5 type i\n";
    assert_eq!(manifest(&folder), files);
    assert!(
        !folder
            .join("appendonlydir/appendonly.aof.3.incr.aof")
            .exists()
    );
}

/// DEBUG RELOAD's options, as redis-server 8.2.3 answers. (A key that is there twice, which stops it, is refused here.)
#[test]
fn a_snapshot_is_read_again_with_every_option() {
    const NOT_LOADED: &str = "-ERR Error trying to load the RDB dump, check server logs.\r\n";
    let library = |name: &str| {
        format!("#!lua name={name}\nredis.register_function('{name}', function() return 1 end)")
    };
    for shards in [1, 2, 4] {
        let folder = TemporaryFolder::new("reload");
        let server = start(shards, &folder, "", &[]);
        let mut c = server.client();
        let refused = "-ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.\r\n";
        assert_eq!(c.call("DEBUG RELOAD NOSAVE MAYBE"), refused);
        // There is no file.
        ok(&mut c, "SET k0 only");
        assert_eq!(c.call("DEBUG RELOAD NOSAVE"), NOT_LOADED);
        assert_eq!(c.call("GET k0"), "$4\r\nonly\r\n");
        for n in 0..20 {
            ok(&mut c, &format!("SET k{n} saved"));
        }
        c.ask(&["FUNCTION", "LOAD", &library("one")]);
        c.reply().expect("it is loaded");
        let saved = digest(&mut c);
        // What is there already, in the file and here.
        assert_eq!(c.call("DEBUG RELOAD NOFLUSH"), NOT_LOADED);
        ok(&mut c, "DEBUG RELOAD NOFLUSH MERGE");
        assert_eq!(digest(&mut c), saved);
        ok(&mut c, "FUNCTION FLUSH");
        assert_eq!(c.call("DEBUG RELOAD NOFLUSH"), NOT_LOADED);
        assert_eq!(digest(&mut c), saved);
        c.ask(&["FUNCTION", "LOAD", &library("one")]);
        c.reply().expect("it is loaded");
        ok(&mut c, "DEBUG RELOAD");

        // The file's keys and libraries take the place of ours; the others stay.
        c.ask(&["FUNCTION", "LOAD", &library("two")]);
        c.reply().expect("it is loaded");
        for n in 10..30 {
            ok(&mut c, &format!("SET k{n} newer"));
        }
        let (mut watching, mut waiting) = (server.client(), server.client());
        ok(&mut watching, "WATCH k15");
        ok(&mut watching, "MULTI");
        assert_eq!(watching.call("GET k15"), "+QUEUED\r\n");
        c.call("RPUSH list in-the-file");
        ok(&mut c, "SAVE");
        c.call("DEL list");
        waiting.ask(&["BLPOP", "list", "0"]);
        while !c.call("INFO clients").contains("blocked_clients:1") {
            std::thread::yield_now();
        }
        ok(&mut c, "SET k15 newest");
        ok(&mut c, "SET k40 newest");
        ok(&mut c, "DEBUG RELOAD NOSAVE NOFLUSH MERGE");
        assert_eq!(
            waiting.reply().expect("it was served"),
            "*2\r\n$4\r\nlist\r\n$11\r\nin-the-file\r\n"
        );
        assert_eq!(watching.call("EXEC"), "*-1\r\n");
        for (key, value) in [("k5", "saved"), ("k15", "newer"), ("k40", "newest")] {
            let reply = format!("${}\r\n{value}\r\n", value.len());
            assert_eq!(c.call(&format!("GET {key}")), reply, "{shards} shards");
        }
        assert_eq!(c.call("DBSIZE"), ":31\r\n");
        assert_eq!(c.call("FCALL one 0"), ":1\r\n");
        assert_eq!(c.call("FCALL two 0"), ":1\r\n");
        assert_eq!(c.call("DEBUG RELOAD NOSAVE NOFLUSH"), NOT_LOADED);

        // Without NOFLUSH nothing but the file's stays.
        c.ask(&["FUNCTION", "LOAD", &library("three")]);
        c.reply().expect("it is loaded");
        ok(&mut c, "DEBUG RELOAD NOSAVE");
        assert_eq!(c.call("DBSIZE"), ":31\r\n");
        assert_eq!(c.call("EXISTS k40 list"), ":1\r\n");
        assert_eq!(c.call("FCALL three 0"), "-ERR Function not found\r\n");
    }
}

/// With the log on, it says what came with the file.
#[test]
fn what_came_with_a_snapshot_is_in_the_log() {
    for shards in [1, 4] {
        let folder = TemporaryFolder::new("reload");
        let server = start(shards, &folder, "", LOGGED);
        let mut c = server.client();
        ok(&mut c, "MSET a 1 b 2 c 3 d 4");
        let saved = digest(&mut c);
        ok(&mut c, "SAVE");
        ok(&mut c, "FLUSHALL");
        ok(&mut c, "SET e 5");
        ok(&mut c, "DEBUG RELOAD NOSAVE");
        assert_eq!(digest(&mut c), saved);
        wait_for(&mut c, "aof_rewrite_in_progress", "0");
        ok(&mut c, "DEBUG LOADAOF");
        assert_eq!(digest(&mut c), saved, "{shards} shards");
    }
}

/// FLUSHALL saves the empty state in the background, which DEBUG RELOAD took for a reason to fail.
#[test]
fn a_snapshot_in_the_background_keeps_nobody_from_reloading() {
    for shards in [1, 4] {
        let folder = TemporaryFolder::new("reload");
        let server = start(shards, &folder, "3600 1", &[]);
        let mut c = server.client();
        for _ in 0..20 {
            c.send(b"FLUSHALL\r\nSET k v\r\nDEBUG RELOAD\r\nGET k\r\n");
            for reply in ["+OK\r\n", "+OK\r\n", "+OK\r\n", "$1\r\nv\r\n"] {
                assert_eq!(c.reply().as_deref(), Some(reply), "{shards} shards");
            }
        }
    }
}

/// A log that waits for a snapshot's end to begin: what is read is what the files of before say, as in Redis.
#[test]
fn a_log_that_waits_for_a_snapshot_is_that_of_before() {
    for shards in [1, 4] {
        let folder = TemporaryFolder::new("reload");
        let server = start(shards, &folder, "", LOGGED);
        let mut c = server.client();
        ok(&mut c, "SET kept 1");
        ok(&mut c, "CONFIG SET appendonly no");
        wait_for(&mut c, "aof_enabled", "0");
        ok(&mut c, "CONFIG SET rdb-key-save-delay 10000000");
        ok(&mut c, "SET k1 1");
        assert!(c.call("BGSAVE").starts_with('+'));
        ok(&mut c, "CONFIG SET appendonly yes");
        assert_eq!(info(&mut c, "aof_rewrite_scheduled"), "1");
        ok(&mut c, "SET k2 1");
        ok(&mut c, "DEBUG LOADAOF");
        assert_eq!(c.call("EXISTS k1 k2"), ":0\r\n", "{shards} shards");
        assert_eq!(c.call("GET kept"), "$1\r\n1\r\n", "{shards} shards");
        assert_eq!(info(&mut c, "rdb_bgsave_in_progress"), "1");
        ok(&mut c, "CONFIG SET rdb-key-save-delay 0");
        wait_for(&mut c, "aof_rewrite_scheduled", "0");
        wait_for(&mut c, "aof_rewrite_in_progress", "0");
        ok(&mut c, "SET k3 1");
        ok(&mut c, "DEBUG LOADAOF");
        assert_eq!(c.call("EXISTS kept k3"), ":2\r\n", "{shards} shards");
    }
}
