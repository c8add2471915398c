//! Ringwood's DUMP payloads and snapshot files in real servers, and theirs in Ringwood: what one wrote the other reads, key by key and element by
//! element. `redis-check-rdb` passes on the files.
//!
//! The data is random, of all types, in sizes on both sides of every threshold. A failure shows the seed; RINGWOOD_SNAPSHOT_SEED repeats it.
//! Settings otherwise as in the differential test: RINGWOOD_BIN, RINGWOOD_PEERS, RINGWOOD_REQUIRE_PEERS.

mod data;
mod logs;
#[path = "../ports/mod.rs"]
mod ports;
#[allow(dead_code)]
#[path = "../differential/resp.rs"]
mod resp;
#[allow(dead_code)]
#[path = "../differential/server.rs"]
mod server;

use data::{Random, fill, show};
use resp::{Client, Value, shown};
use server::Server;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The real servers, and whether they know fields that expire.
const PEERS: [(&str, Option<Times>); 3] = [
    ("redis-server-7.0", None),
    ("redis-server-8.2", Some(Times::Redis)),
    ("valkey-server-9.1", Some(Times::Valkey)),
];

/// Whose form of fields that expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    Redis,
    Valkey,
}

fn ringwood() -> PathBuf {
    env::var_os("RINGWOOD_BIN").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_ringwood")),
        |path| Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path),
    )
}

/// The peers that are there. Where they must be, a missing one is a failure.
fn peers() -> Vec<(PathBuf, Option<Times>)> {
    let required = env::var_os("RINGWOOD_REQUIRE_PEERS").is_some() || env::var_os("CI").is_some();
    let all = PEERS.map(|(file, times)| (server::peers().join("bin").join(file), times));
    all.into_iter()
        .filter(|(path, _)| {
            let there = path.exists();
            assert!(
                there || !required,
                "{} is missing: bench/peers.sh installs it",
                path.display()
            );
            if !there {
                println!("not run: {} is missing", path.display());
            }
            there
        })
        .collect()
}

fn seed() -> u64 {
    let from_clock = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |now| now.subsec_nanos().into())
    };
    let seed = env::var("RINGWOOD_SNAPSHOT_SEED").ok();
    let seed = seed
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(from_clock);
    println!("RINGWOOD_SNAPSHOT_SEED={seed}");
    seed
}

fn client(server: &Server) -> Client {
    Client::connect(server.port).expect("a connection")
}
fn ok(client: &mut Client, words: &[&str]) {
    let reply = client.call(words).expect("a reply");
    assert!(!reply.is_error(), "{words:?}: {}", reply.shown());
}
fn keys(client: &mut Client) -> Vec<Vec<u8>> {
    let reply = client.call(&["KEYS", "*"]).expect("the keys");
    let Value::Array(items) = reply.value else {
        panic!("KEYS: {}", reply.shown())
    };
    let mut keys: Vec<_> = items
        .into_iter()
        .map(|item| match item {
            Value::Bulk(key) => key,
            other => panic!("a key: {other:?}"),
        })
        .collect();
    keys.sort();
    keys
}

/// Low and high thresholds, so that the same data has other encodings on the two sides.
fn turn(client: &mut Client, low: bool) {
    let size = if low { "3" } else { "500" };
    for name in [
        "hash-max-listpack-entries",
        "zset-max-listpack-entries",
        "set-max-intset-entries",
        "list-max-listpack-size",
        "stream-node-max-entries",
    ] {
        ok(client, &["CONFIG", "SET", name, size]);
    }
    let compress = if low { "yes" } else { "no" };
    ok(client, &["CONFIG", "SET", "rdbcompression", compress]);
}

/// Dumps every key of one server and restores it in the other.
fn carry(from: &mut Client, to: &mut Client, times: bool) -> usize {
    let keys = keys(from);
    for key in &keys {
        let dumped = from
            .command(&[b"DUMP".to_vec(), key.clone()])
            .expect("a payload");
        let Value::Bulk(payload) = dumped.value else {
            panic!("DUMP: {}", dumped.shown())
        };
        let asked = [b"PEXPIRETIME".to_vec(), key.clone()];
        let time = from.command(&asked).expect("a time");
        let Value::Integer(time) = time.value else {
            panic!("PEXPIRETIME: {}", time.shown())
        };
        // Without one, 0 says so.
        let time = time.max(0).to_string().into_bytes();
        let restore = [
            b"RESTORE".to_vec(),
            key.clone(),
            time,
            payload.clone(),
            b"ABSTTL".to_vec(),
        ];
        let reply = to.command(&restore).expect("a reply");
        assert_eq!(
            reply.raw,
            b"+OK\r\n",
            "{} of {}: {}",
            shown(key, 80),
            shown(&payload, 600),
            reply.shown()
        );
        assert_eq!(
            show(from, key, times),
            show(to, key, times),
            "{}",
            shown(key, 80)
        );
    }
    keys.len()
}

#[test]
fn payloads_go_both_ways() {
    let seed = seed();
    for (round, (path, times)) in peers().into_iter().enumerate() {
        let ours = Server::start(&ringwood(), Some(1 + 3 * (round % 2))).expect("Ringwood");
        let theirs = Server::start(&path, None).expect("a real server");
        let (mut a, mut b) = (client(&ours), client(&theirs));
        for (step, (low_a, low_b)) in [(false, false), (true, false), (false, true)]
            .into_iter()
            .enumerate()
        {
            let mut random = Random::new(seed ^ (round * 3 + step) as u64);
            turn(&mut a, low_a);
            turn(&mut b, low_b);
            // Valkey does not read Redis's form of fields that expire.
            fill(&mut a, &mut random, times == Some(Times::Redis));
            let there = carry(&mut a, &mut b, times == Some(Times::Redis));
            ok(&mut a, &["FLUSHALL"]);
            ok(&mut b, &["FLUSHALL"]);
            fill(&mut b, &mut random, times.is_some());
            let back = carry(&mut b, &mut a, times.is_some());
            println!("{}: {there} keys there, {back} back", path.display());
            ok(&mut a, &["FLUSHALL"]);
            ok(&mut b, &["FLUSHALL"]);
        }
    }
}

/// Moves all keys with MIGRATE, and asks both how they look: it is the source's copy that is compared, which goes last.
fn migrate(from: &mut Client, to: &mut Client, port: u16, times: bool) -> usize {
    let keys = keys(from);
    let words = |options: &[&str]| {
        let port = port.to_string();
        let head = ["MIGRATE", "127.0.0.1", &port, "", "0", "20000"];
        let head = head.iter().chain(options).chain(&["KEYS"]);
        let head = head.map(|word| word.as_bytes().to_vec());
        head.chain(keys.iter().cloned()).collect::<Vec<_>>()
    };
    let reply = from.command(&words(&["COPY"])).expect("a reply");
    assert_eq!(reply.raw, b"+OK\r\n", "{}", reply.shown());
    for key in &keys {
        // The time goes as what is left of it, and the way takes some.
        for client in [&mut *from, &mut *to] {
            let persist = [b"PERSIST".to_vec(), key.clone()];
            client.command(&persist).expect("a reply");
        }
        let (here, there) = (show(from, key, times), show(to, key, times));
        assert_eq!(here, there, "{}", shown(key, 80));
    }
    let reply = from.command(&words(&["REPLACE"])).expect("a reply");
    assert_eq!(reply.raw, b"+OK\r\n", "{}", reply.shown());
    assert_eq!(self::keys(from), Vec::<Vec<u8>>::new());
    assert_eq!(self::keys(to), keys);
    keys.len()
}

#[test]
fn keys_migrate_both_ways() {
    let seed = seed();
    for (round, (path, times)) in peers().into_iter().enumerate() {
        let ours = Server::start(&ringwood(), Some(4 - 3 * (round % 2))).expect("Ringwood");
        let theirs = Server::start(&path, None).expect("a real server");
        let (mut a, mut b) = (client(&ours), client(&theirs));
        let mut random = Random::new(seed ^ round as u64);
        let fields = times == Some(Times::Redis);
        fill(&mut a, &mut random, fields);
        let there = migrate(&mut a, &mut b, theirs.port, fields);
        ok(&mut b, &["FLUSHALL"]);
        fill(&mut b, &mut random, times.is_some());
        let back = migrate(&mut b, &mut a, ours.port, times.is_some());
        println!("{}: {there} keys there, {back} back", path.display());
    }
}

/// Moves a snapshot from one server to another, which is started anew with it, and compares all of both.
/// `background`: as BGSAVE writes it.
fn move_file(from: &mut Server, to: &mut Server, times: bool, background: bool) -> usize {
    let mut source = client(from);
    let code = "#!lua name=moved\nredis.register_function('moved', function() return 7 end)";
    ok(&mut source, &["FUNCTION", "LOAD", "REPLACE", code]);
    if background {
        ok(&mut source, &["BGSAVE"]);
        let mut runs = || {
            let info = source.call(&["INFO", "persistence"]).expect("a reply");
            String::from_utf8_lossy(&info.raw).contains("rdb_bgsave_in_progress:1")
        };
        while runs() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    } else {
        ok(&mut source, &["SAVE"]);
    }
    let file = from.dir().join("dump.rdb");
    let check = Command::new(server::peers().join("bin/redis-server-8.2"))
        .arg0("redis-check-rdb")
        .arg(&file)
        .output()
        .expect("redis-check-rdb runs");
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    let magic = fs::read(&file).expect("the file")[..6].to_vec();
    if magic != b"VALKEY" {
        assert!(
            check.status.success() && text.contains("RDB looks OK"),
            "{text}"
        );
    }
    fs::copy(&file, to.dir().join("dump.rdb")).expect("a copy");
    to.restart().expect("it starts with the file");
    let mut target = client(to);
    // A real server answers while it loads.
    while target.call(&["PING"]).expect("a reply").is_error() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let got = target.call(&["FCALL", "moved", "0"]).expect("a reply");
    assert!(matches!(got.value, Value::Integer(7)), "{}", got.shown());
    compare(&mut source, &mut target, times)
}

/// All keys of both are equal. How many there are.
fn compare(source: &mut Client, target: &mut Client, times: bool) -> usize {
    let mut count = 0;
    for db in ["0", "9"] {
        ok(source, &["SELECT", db]);
        ok(target, &["SELECT", db]);
        let names = keys(source);
        assert_eq!(names, keys(target), "the keys of database {db}");
        for key in &names {
            assert_eq!(
                show(source, key, times),
                show(target, key, times),
                "{}",
                shown(key, 80)
            );
        }
        count += names.len();
    }
    count
}

#[test]
fn files_go_both_ways() {
    let seed = seed();
    for (round, (path, times)) in peers().into_iter().enumerate() {
        let mut ours = Server::start(&ringwood(), Some(1 + 3 * (round % 2))).expect("Ringwood");
        let mut theirs = Server::start(&path, None).expect("a real server");
        let mut random = Random::new(seed ^ round as u64);
        for step in 0..2 {
            let (mut a, mut b) = (client(&ours), client(&theirs));
            turn(&mut a, step == 0);
            turn(&mut b, step == 1);
            for client in [&mut a, &mut b] {
                ok(client, &["FLUSHALL"]);
            }
            let fields = times == Some(Times::Redis);
            fill(&mut a, &mut random, fields);
            ok(&mut a, &["SELECT", "9"]);
            fill(&mut a, &mut random, fields);
            let there = move_file(&mut ours, &mut theirs, fields, step == 1);
            let mut b = client(&theirs);
            ok(&mut b, &["FLUSHALL"]);
            fill(&mut b, &mut random, times.is_some());
            ok(&mut b, &["SELECT", "9"]);
            fill(&mut b, &mut random, times.is_some());
            let back = move_file(&mut theirs, &mut ours, times.is_some(), false);
            println!("{}: {there} keys there, {back} back", path.display());
        }
    }
}

/// Ringwood's own file, with other shards than it was written with; a damaged one is refused; DEBUG RELOAD changes nothing.
#[test]
fn ringwood_reads_what_it_wrote() {
    let mut random = Random::new(seed());
    let mut one = Server::start(&ringwood(), Some(1)).expect("Ringwood");
    let mut four = Server::start(&ringwood(), Some(4)).expect("Ringwood");
    let mut c = client(&four);
    fill(&mut c, &mut random, true);
    ok(&mut c, &["SELECT", "9"]);
    fill(&mut c, &mut random, true);
    let count = move_file(&mut four, &mut one, true, true);
    assert!(count > 50, "{count} keys");
    let before: Vec<String> = keys(&mut c)
        .iter()
        .map(|key| show(&mut c, key, true))
        .collect();
    ok(&mut c, &["DEBUG", "RELOAD"]);
    let after: Vec<String> = keys(&mut c)
        .iter()
        .map(|key| show(&mut c, key, true))
        .collect();
    assert_eq!(before, after);

    let path = one.dir().join("dump.rdb");
    let good = fs::read(&path).expect("the file");
    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    for bad in [
        &damaged[..],
        &good[..middle],
        b"REDIS0010",
        b"something else",
    ] {
        fs::write(&path, bad).expect("a damaged file");
        let error = one.restart().expect_err("a damaged file").to_string();
        assert!(error.contains("Fatal error loading the DB"), "{error}");
        assert!(error.contains("offset"), "{error}");
    }
    fs::write(&path, &good).expect("the good file");
    one.restart().expect("it starts again");
    ok(&mut client(&one), &["PING"]);
}

/// A file that cannot be written is an error, and the one of before stays.
#[test]
fn a_snapshot_that_fails_leaves_the_old_one() {
    let server = Server::start(&ringwood(), Some(2)).expect("Ringwood");
    let mut c = client(&server);
    ok(&mut c, &["SET", "k", "v"]);
    ok(&mut c, &["SAVE"]);
    let file = fs::read(server.dir().join("dump.rdb")).expect("the file");
    // The name of the temporary file is taken by a folder.
    let pid = c.call(&["INFO", "server"]).expect("INFO").raw;
    let pid = String::from_utf8_lossy(&pid);
    let pid = pid
        .split("process_id:")
        .nth(1)
        .and_then(|text| text.lines().next());
    let taken = server
        .dir()
        .join(format!("temp-{}.rdb", pid.expect("the process")));
    fs::create_dir(&taken).expect("a folder");
    ok(&mut c, &["SET", "k", "w"]);
    let reply = c.call(&["SAVE"]).expect("a reply");
    assert!(reply.is_error(), "{}", reply.shown());
    let info = c.call(&["INFO", "persistence"]).expect("INFO").raw;
    let info = String::from_utf8_lossy(&info).into_owned();
    // As in Redis, the status is of those in the background only.
    assert!(
        info.contains("rdb_last_bgsave_status:ok")
            && info.contains("rdb_changes_since_last_save:1\r"),
        "{info}"
    );
    assert_eq!(
        fs::read(server.dir().join("dump.rdb")).expect("the file"),
        file
    );
    fs::remove_dir(&taken).expect("an empty folder");
    ok(&mut c, &["SAVE"]);
    let info = c.call(&["INFO", "persistence"]).expect("INFO").raw;
    let info = String::from_utf8_lossy(&info).into_owned();
    assert!(
        info.contains("rdb_last_bgsave_status:ok")
            && info.contains("rdb_changes_since_last_save:0\r"),
        "{info}"
    );
    assert_ne!(
        fs::read(server.dir().join("dump.rdb")).expect("the file"),
        file
    );
}
