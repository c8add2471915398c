//! Directories of the append-only file: what Ringwood wrote loads in real servers, and theirs in Ringwood. `redis-check-aof` passes on them.

use crate::data::{Random, fill};
use crate::server::{self, Server};
use crate::{Times, client, compare, ok, peers, ringwood, seed, turn};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Changes of every type, with a base of part of them; transactions over several cores among them.
fn change(server: &Server, random: &mut Random, fields: bool) {
    let mut c = client(server);
    turn(&mut c, false);
    let code = "#!lua name=logged\nredis.register_function('logged', function() return 7 end)";
    ok(&mut c, &["FUNCTION", "LOAD", "REPLACE", code]);
    fill(&mut c, random, fields);
    // Large enough to be written piece by piece.
    for from in (0..4000).step_by(100) {
        let fields = (from..from + 100).flat_map(|n| [format!("field{n}"), "v".repeat(n % 300)]);
        let words: Vec<String> = fields.collect();
        let mut command = vec!["HSET", "large:hash"];
        command.extend(words.iter().map(String::as_str));
        ok(&mut c, &command);
    }
    ok(&mut c, &["BGREWRITEAOF"]);
    loop {
        let info = c.call(&["INFO", "persistence"]).expect("a reply").raw;
        let info = String::from_utf8_lossy(&info).into_owned();
        if info.contains("aof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0") {
            assert!(info.contains("aof_last_bgrewrite_status:ok"), "{info}");
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    ok(&mut c, &["SELECT", "9"]);
    fill(&mut c, random, fields);
    ok(&mut c, &["MULTI"]);
    for n in 0..16 {
        ok(&mut c, &["SET", &format!("of:multi:{n}"), "v\r\n\\"]);
    }
    ok(&mut c, &["SELECT", "0"]);
    ok(&mut c, &["RPUSH", "list:of:multi", "a", "b"]);
    ok(&mut c, &["RPOPLPUSH", "list:of:multi", "other:of:multi"]);
    ok(&mut c, &["EXEC"]);
    ok(&mut c, &["SELECT", "3"]);
    ok(&mut c, &["SET", "gone", "v"]);
    ok(&mut c, &["FLUSHDB"]);
    ok(&mut c, &["SWAPDB", "0", "9"]);
    ok(&mut c, &["DEL", "of:multi:0"]);
    let script = "redis.call('SET', 'a:script', ARGV[1]) return redis.call('SPOP', 'no:set')";
    ok(&mut c, &["EVAL", script, "0", "1"]);
    // SWAPDB began new files, and the manifest tells of them only when they are on disk. Redis 7.0 has no such command, and no need of it.
    c.call(&["WAITAOF", "1", "0", "0"]).expect("a reply");
}

/// The log of one server, copied to another that starts with it: all of both is equal.
fn move_log(from: &Server, to: &mut Server, fields: bool) -> usize {
    let folder = from.dir().join("appendonlydir");
    let check = Command::new(server::peers().join("bin/redis-server-8.2"))
        .arg0("redis-check-aof")
        .arg(folder.join("appendonly.aof.manifest"))
        .output()
        .expect("redis-check-aof runs");
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.success(), "{text}");
    let into = to.dir().join("appendonlydir");
    fs::remove_dir_all(&into).expect("its log");
    copy(&folder, &into);
    to.restart().expect("it starts with the log");
    let (mut source, mut target) = (client(from), client(to));
    ok(&mut target, &["FCALL", "logged", "0"]);
    compare(&mut source, &mut target, fields)
}
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for file in fs::read_dir(from).expect("the log") {
        let file = file.expect("a file");
        fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
    }
}

#[test]
fn logs_go_both_ways() {
    go_both_ways(&["--appendonly", "yes"]);
}

/// Bases of commands, with the time when they were written.
#[test]
fn logs_without_snapshots_go_both_ways() {
    let options = "--appendonly yes --aof-use-rdb-preamble no --aof-timestamp-enabled yes";
    go_both_ways(&options.split(' ').collect::<Vec<_>>());
}

fn go_both_ways(options: &[&str]) {
    let seed = seed();
    let commands = options.contains(&"no");
    for (round, (path, times)) in peers().into_iter().enumerate() {
        let shards = Some(4 - 3 * (round % 2));
        // Valkey does not know all of Redis's fields that expire.
        let fields = times == Some(Times::Redis);
        let mut random = Random::new(seed ^ round as u64);
        let start = |path: &Path, shards| Server::start_with(path, shards, options);
        let mut ours = start(&ringwood(), shards).expect("Ringwood");
        let mut theirs = start(&path, None).expect("a real server");
        change(&ours, &mut random, fields);
        let there = move_log(&ours, &mut theirs, fields);
        drop(theirs);
        let mut theirs = start(&path, None).expect("a real server");
        change(&theirs, &mut random, fields);
        // Not all that a real server knows is in its log (Redis 7.0 forgets what a group has read): it is to read it itself too.
        theirs.restart().expect("it reads its own log");
        let back = match path.file_name().and_then(|name| name.to_str()) {
            // Its snapshots have its own form.
            Some("valkey-server-9.1") if !commands => 0,
            // Newer versions make the consumer of an XCLAIM whose entries are gone, so they read more in its commands than it did.
            Some("redis-server-7.0") if commands => 0,
            _ => move_log(&theirs, &mut ours, fields),
        };
        println!("{}: {there} keys there, {back} back", path.display());
        assert!(there > 50, "{there} keys");
    }
}
