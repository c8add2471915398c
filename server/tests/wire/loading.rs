//! While a snapshot is loaded: clients are answered, told to wait, and never see a part of it.

use crate::persistence::{TemporaryFolder, info, wait_for};
use crate::server::{Client, Server};
use std::fs;

/// Keys of 3000 bytes: more than the reading thread has on its way at once.
const KEYS: usize = 3000;

fn options(folder: &TemporaryFolder, more: &[&'static str]) -> Vec<String> {
    let dir = folder.to_str().expect("a plain name");
    let mut options = vec!["--dir", dir, "--save", "", "--rdbcompression", "no"];
    options.extend(["--enable-debug-command", "yes"]);
    options.extend(["--enable-protected-configs", "yes"]);
    options.extend(more);
    options.into_iter().map(str::to_owned).collect()
}
fn start(shards: usize, options: &[String]) -> Server {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Server::start_loading(&[], shards, &options)
}
/// Has a server leave a file.
fn fill(folder: &TemporaryFolder, more: &[&'static str]) {
    let mut server = start(2, &options(folder, more));
    let mut c = server.client();
    wait_for(&mut c, "loading", "0");
    let library = "#!lua name=lib\nredis.register_function('seven', function() return 7 end)";
    c.ask(&["FUNCTION", "LOAD", library]);
    assert_eq!(c.reply().as_deref(), Some("$3\r\nlib\r\n"));
    let populate = format!("DEBUG POPULATE {KEYS} key 3000");
    assert_eq!(c.call(&populate), "+OK\r\n");
    assert_eq!(c.call("PEXPIRE key:1 60000000"), ":1\r\n");
    assert_eq!(c.call("RPUSH list a b c"), ":3\r\n");
    if more.contains(&"--appendonly") {
        // What DEBUG POPULATE makes is not logged.
        let begun = c.call("BGREWRITEAOF");
        assert!(begun.starts_with('+'), "{begun}");
        wait_for(&mut c, "aof_rewrite_in_progress", "0");
    }
    c.ask(&["SHUTDOWN", "SAVE"]);
    assert_eq!(c.reply(), None);
    assert!(server.ended().success());
}
fn all_is_there(c: &mut Client) {
    wait_for(c, "loading", "0");
    assert!(!c.call("INFO persistence").contains("loading_start_time"));
    assert_eq!(c.call("DBSIZE"), format!(":{}\r\n", KEYS + 1));
    assert!(c.call("GET key:7").starts_with("$3000\r\nvalue:7"));
    assert_eq!(c.call("LRANGE list 0 0"), "*1\r\n$1\r\na\r\n");
    assert!(c.call("PTTL key:1").starts_with(":5"));
    assert_eq!(c.call("FCALL seven 0"), ":7\r\n");
}

/// More than a second for each thousand keys of a core.
const SLOWLY: [&str; 2] = ["--key-load-delay", "1000"];

#[test]
fn clients_wait_and_are_told_how_far_it_is() {
    let folder = TemporaryFolder::new("loading");
    fill(&folder, &[]);
    let before = fs::read(folder.join("dump.rdb")).expect("the file");
    for shards in [1, 3] {
        let mut server = start(shards, &options(&folder, &SLOWLY));
        let mut c = server.client();
        assert_eq!(info(&mut c, "loading"), "1");
        assert_eq!(info(&mut c, "async_loading"), "0");
        let size = before.len().to_string();
        assert_eq!(info(&mut c, "loading_total_bytes"), size);
        for field in ["start_time", "loaded_bytes", "eta_seconds", "rdb_used_mem"] {
            let value = info(&mut c, &format!("loading_{field}"));
            assert!(value.parse::<u64>().is_ok(), "{field}: {value}");
        }
        let percent = info(&mut c, "loading_loaded_perc");
        assert!(percent.parse::<f64>().is_ok_and(|p| p <= 100.0));
        let refused = "-LOADING Redis is loading the dataset in memory\r\n";
        for line in [
            "PING",
            "GET key:1",
            "SET a b",
            "DBSIZE",
            "KEYS *",
            "FLUSHALL",
            "SAVE",
            "BGSAVE",
            "EVAL return 0",
            "DEBUG DIGEST",
            "DEBUG RELOAD",
            "DEBUG OBJECT key:1",
        ] {
            assert_eq!(c.call(line), refused, "{line}");
        }
        assert!(c.call("CONFIG SET dir .").starts_with("-LOADING"));
        assert_eq!(c.call("CONFIG SET loglevel notice"), "+OK\r\n");
        assert_eq!(c.call("MULTI"), "+OK\r\n");
        assert_eq!(c.call("GET key:1"), refused);
        assert!(c.call("EXEC").starts_with("-EXECABORT"));
        // It ends without writing half of the data over the whole.
        c.ask(&["SHUTDOWN", "SAVE"]);
        assert_eq!(c.reply(), None);
        assert!(server.ended().success(), "{}", server.log());
        assert_eq!(fs::read(folder.join("dump.rdb")).expect("the file"), before);
    }
    for shards in [1, 3] {
        let server = start(shards, &options(&folder, &[]));
        let mut c = server.client();
        all_is_there(&mut c);
        let loaded = info(&mut c, "rdb_last_load_keys_loaded");
        assert_eq!(loaded, (KEYS + 1).to_string());
    }
}

/// The log goes on behind its base, and is read behind it.
#[test]
fn a_log_follows_its_base() {
    let logs = ["--appendonly", "yes"];
    let folder = TemporaryFolder::new("loading");
    fill(&folder, &logs);
    for shards in [1, 3] {
        let server = start(shards, &options(&folder, &logs));
        let mut c = server.client();
        all_is_there(&mut c);
        let begun = c.call("BGREWRITEAOF");
        assert!(begun.starts_with('+'), "{begun}");
        wait_for(&mut c, "aof_rewrite_in_progress", "0");
        assert_eq!(c.call(&format!("SET list:{shards} 1")), "+OK\r\n");
        assert_eq!(c.call("DEL list"), ":1\r\n");
        drop(server);
        let server = start(shards, &options(&folder, &[&logs[..], &SLOWLY].concat()));
        let mut c = server.client();
        assert_eq!(info(&mut c, "loading"), "1");
        assert!(c.call("GET list").starts_with("-LOADING"));
        drop(server);
        let server = start(shards + 1, &options(&folder, &logs));
        let mut c = server.client();
        wait_for(&mut c, "loading", "0");
        assert_eq!(c.call("EXISTS list"), ":0\r\n");
        assert_eq!(c.call(&format!("GETDEL list:{shards}")), "$1\r\n1\r\n");
        assert_eq!(c.call("RPUSH list a b c"), ":3\r\n");
    }
}

/// What is wrong may come to light only at the end: nobody has seen anything of it by then.
#[test]
fn of_a_damaged_file_nothing_is_served() {
    let folder = TemporaryFolder::new("loading");
    fill(&folder, &[]);
    let path = folder.join("dump.rdb");
    let good = fs::read(&path).expect("the file");
    let mut damaged = good.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    for (bad, word) in [
        (&damaged[..], "CRC"),
        (&good[..good.len() - 20], "too early"),
    ] {
        fs::write(&path, bad).expect("a damaged file");
        let mut server = start(2, &options(&folder, &["--key-load-delay", "300"]));
        // On a busy machine it may have ended before anybody can ask.
        if let Some(mut c) = server.try_client() {
            while c.try_ask(&["GET", "key:7"])
                && let Some(reply) = c.reply()
            {
                assert!(reply.starts_with("-LOADING"), "{reply}");
            }
        }
        assert!(!server.ended().success());
        let log = server.log();
        assert!(log.contains("Fatal error loading the DB"), "{log}");
        assert!(log.contains("offset") && log.contains(word), "{log}");
        assert_eq!(fs::read(&path).expect("the file"), bad);
    }
    // Who wants no checksums can read a file that is otherwise whole.
    fs::write(&path, &damaged).expect("a damaged file");
    let server = start(2, &options(&folder, &["--rdbchecksum", "no"]));
    all_is_there(&mut server.client());
}
