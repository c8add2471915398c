//! The log begins while clients change keys of several cores.

use crate::harness::Random;
use crate::persistence::{TemporaryFolder, wait_for};
use crate::server::{Client, Server};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;
/// Keys of a transaction: some on each core.
const KEYS: usize = 8;
const ENOUGH: Duration = Duration::from_secs(20);

/// Clients end with the test, also when it fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Transactions of both kinds, several at a time.
fn change(c: &mut Client, random: &mut Random, stop: &AtomicBool) {
    let mut value = 0;
    while !stop.load(Relaxed) {
        let count = 1 + random.below(20);
        let mut lines = Vec::new();
        for _ in 0..count {
            value += 1;
            let sets = (0..KEYS).map(|n| format!("SET multi:{n} {value}"));
            let pairs: Vec<String> = (0..KEYS).map(|n| format!("mset:{n} {value}")).collect();
            lines.push("MULTI".to_owned());
            lines.extend(sets);
            lines.extend(["EXEC".to_owned(), format!("MSET {}", pairs.join(" "))]);
        }
        let bytes: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        assert!(c.try_send(bytes.as_bytes()));
        for _ in &lines {
            let reply = c.reply().expect("a reply");
            assert!(!reply.starts_with('-'), "{reply}");
        }
    }
}

/// Commands of a transaction that a file of the log has outside of one.
fn alone(path: &Path) -> Vec<String> {
    let bytes = std::fs::read(path).expect("a file of the log");
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.split("\r\n");
    let (mut alone, mut in_multi) = (Vec::new(), false);
    while let Some(line) = lines.next() {
        let Some(count) = line.strip_prefix('*') else {
            continue;
        };
        let count: usize = count.parse().expect("a number of words");
        let words: Vec<&str> = lines.by_ref().take(2 * count).skip(1).step_by(2).collect();
        match words[0] {
            "MULTI" => in_multi = true,
            "EXEC" => in_multi = false,
            "SELECT" => {}
            _ if in_multi => {}
            _ => alone.push(words.join(" ")),
        }
    }
    alone
}

/// A core that had not yet begun to log sent out shares of what came behind the log's first point. Each owner logged its own as if there was nothing
/// else, and a kill could leave half of the transaction.
#[test]
fn what_several_cores_change_while_the_log_begins_is_logged_as_one() {
    let folder = TemporaryFolder::new("log-begins");
    let dir = folder.to_str().expect("a plain name");
    let server = Server::start(4, &["--dir", dir, "--save", "", "--appendonly", "no"]);
    let stop = &AtomicBool::new(false);
    let mut random = Random::seeded();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let (mut c, mut random) = (server.client(), Random::with(random.next()));
            scope.spawn(move || change(&mut c, &mut random, stop));
        }
        let mut c = server.client();
        let _stop = StopAtEnd(stop);
        let mut found = Vec::new();
        let began = Instant::now();
        for round in 0..100 {
            // Where syncs take long, fewer have to do.
            if round >= 5 && began.elapsed() > ENOUGH {
                break;
            }
            assert_eq!(c.call("CONFIG SET appendonly yes"), "+OK\r\n");
            wait_for(&mut c, "aof_rewrite_in_progress", "0");
            assert_eq!(c.call("CONFIG SET appendonly no"), "+OK\r\n");
            wait_for(&mut c, "aof_enabled", "0");
            for file in std::fs::read_dir(folder.join("appendonlydir")).expect("a log's folder") {
                let path = file.expect("a file").path();
                if path.to_string_lossy().ends_with(".incr.aof") {
                    found.extend(alone(&path));
                    std::fs::remove_file(path).expect("the log is off");
                }
            }
        }
        assert!(
            found.is_empty(),
            "{} commands: {:?}",
            found.len(),
            &found[..4.min(found.len())]
        );
    });
}
