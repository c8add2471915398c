//! SIGKILL at random moments under load, again and again on the same files: with `appendfsync always` no acknowledged change is missing, with
//! `everysec` none that is older than a second and what a write may wait for the disk; no transaction is there by half, and what is there of a
//! client's changes has no holes.
//!
//! Every client numbers its operations, so that what is found tells which were carried out (`progress`).
//! Beside the clients, one connection begins snapshots and rewrites, swaps databases, flushes and switches the log off and on ([`disturb`]). What is
//! not acknowledged may be there or not. What is lost or found at one restart stays so at the next.
//!
//! A missing reply is most likely a server that was stopped for longer than the client waits (`RINGWOOD_WIRE_PATIENCE=600`).
//!
//! A few kills by default. `RINGWOOD_KILLS=300` makes it longer, with lives of up to 3 seconds; `RINGWOOD_WIRE_SEED` repeats the choices (not the
//! moments).

use crate::harness::Random;
use crate::persistence::TemporaryFolder;
use crate::progress::{self, Expected, Flush, Found, Kind, Worker, kind};
use crate::server::{Client, Server};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

const WORKERS: usize = 16;
/// Operations that a client sends at once, at most.
const BATCH: usize = 4;
/// With `everysec`: a second until the next sync, and two that a write waits for one that is under way, as in Redis.
const BOUND: Duration = Duration::from_secs(3);

/// A client's operations, until the server is gone. Returns when they were acknowledged.
fn work(worker: &Worker, w: usize, mut c: Client, mut random: Random) -> Vec<(u64, Instant)> {
    let mut times = Vec::new();
    let mut n = worker.first;
    loop {
        let mut bytes = String::new();
        let batch = 1 + random.below(BATCH) as u64;
        let mut replies = Vec::new();
        for n in n..n + batch {
            replies.push((
                n,
                progress::operation(&mut bytes, w, n, &mut |below| random.below(below)),
            ));
        }
        worker.sent.store(n + batch - 1, SeqCst);
        if !c.try_send(bytes.as_bytes()) {
            return times;
        }
        for (n, count) in replies {
            for _ in 0..count {
                let Some(reply) = c.reply() else {
                    return times;
                };
                assert!(
                    !reply.starts_with('-') && !reply.contains("\r\n-"),
                    "operation {n}: {reply}"
                );
            }
            worker.acked.store(n, SeqCst);
            times.push((n, Instant::now()));
        }
        n += batch;
    }
}

/// What one life of the server had beside the clients.
#[derive(Default)]
struct Story {
    /// With when they were acknowledged.
    flushes: Vec<(Flush, Option<Instant>)>,
    /// While the log is off, or its first base is not there: what had been acknowledged before.
    frozen: Option<Vec<u64>>,
    /// What `side` is in both databases, and what the command under way makes of it.
    sides: [String; 2],
    under_way: Option<[String; 2]>,
}

/// Snapshots, rewrites, swaps and flushes, until the server is gone.
fn disturb(workers: &[Worker], story: &Mutex<Story>, mut c: Client, mut random: Random) {
    let all = |what: fn(&Worker) -> &AtomicU64| -> Vec<u64> {
        workers.iter().map(|w| what(w).load(SeqCst)).collect()
    };
    let story = || story.lock().expect("the story");
    // The reply, unless the server is gone.
    let mut ask = |line: &str| -> Option<String> {
        let words: Vec<&str> = line.split(' ').collect();
        c.try_ask(&words).then(|| c.reply())?
    };
    // `side` changes.
    let turn = |sides: [String; 2], ask: &mut dyn FnMut(&str) -> Option<String>, line: &str| {
        story().under_way = Some(sides.clone());
        let reply = ask(line)?;
        assert_eq!(reply, "+OK\r\n", "{line}");
        let mut story = story();
        (story.sides, story.under_way) = (sides, None);
        Some(())
    };
    let mut step = || -> Option<()> {
        thread::sleep(Duration::from_millis(random.below(25) as u64));
        match random.below(12) {
            0..=2 => drop(ask("BGSAVE")?),
            3..=5 => drop(ask("BGREWRITEAOF")?),
            6..=7 => {
                let mut sides = story().sides.clone();
                sides.swap(0, 1);
                turn(sides, &mut ask, "SWAPDB 0 1")?;
            }
            8..=9 => {
                let mut sides = story().sides.clone();
                sides[0] = random.next().to_string();
                let line = format!("SET side {}", sides[0]);
                turn(sides, &mut ask, &line)?;
            }
            10 => {
                let before = all(|w| &w.acked);
                let flush = Flush {
                    before,
                    after: None,
                };
                story().flushes.push((flush, None));
                turn(Default::default(), &mut ask, "FLUSHALL")?;
                let after = Some(all(|w| &w.sent));
                let mut story = story();
                let (flush, at) = story.flushes.last_mut().expect("pushed above");
                (flush.after, *at) = (after, Some(Instant::now()));
            }
            _ => {
                story().frozen = Some(all(|w| &w.acked));
                let changed = ask("CONFIG SET appendonly no")?;
                assert_eq!(changed, "+OK\r\n");
                thread::sleep(Duration::from_millis(random.below(15) as u64));
                while !ask("INFO persistence")?.contains("aof_enabled:0") {}
                let changed = ask("CONFIG SET appendonly yes")?;
                assert_eq!(changed, "+OK\r\n");
                loop {
                    let info = ask("INFO persistence")?;
                    let begun = info.contains("aof_enabled:1");
                    let waits = info.contains("aof_rewrite_scheduled:1");
                    if begun && !waits && info.contains("aof_rewrite_in_progress:0") {
                        assert!(info.contains("aof_last_bgrewrite_status:ok"), "{info}");
                        break;
                    }
                }
                story().frozen = None;
            }
        }
        Some(())
    };
    while step().is_some() {}
}

/// What must be there: all that was acknowledged, or what was so before `bound` when the server was killed.
fn expected<'s>(
    workers: &[Worker],
    times: &[Vec<(u64, Instant)>],
    story: &'s Story,
    bound: Duration,
    killed: Instant,
) -> Expected<'s> {
    let is_old = |at: Instant| bound.is_zero() || killed.saturating_duration_since(at) > bound;
    let is_certain = |(_, at): &&(Flush, Option<Instant>)| at.is_some_and(is_old);
    let open = story.flushes.last().is_some_and(|last| !is_certain(&last));
    let must = workers
        .iter()
        .zip(times)
        .enumerate()
        .map(|(w, (worker, times))| {
            let last = times
                .iter()
                .rfind(|(_, at)| is_old(*at))
                .map_or(0, |(n, _)| *n);
            let acked = if bound.is_zero() {
                worker.acked.load(SeqCst)
            } else {
                last
            };
            story
                .frozen
                .as_ref()
                .map_or(acked, |frozen| acked.min(frozen[w]))
        });
    Expected {
        must: must.collect(),
        flushed: story
            .flushes
            .iter()
            .rfind(is_certain)
            .map(|(flush, _)| flush),
        open,
        exact: true,
    }
}
/// Whether operation `n` was carried out, as far as that can be seen, if nothing was flushed.
fn has(found: &Found, n: u64) -> bool {
    match kind(n) {
        Kind::Multi => found.lists[0].binary_search(&n).is_ok(),
        Kind::Eval => found.lists[1].binary_search(&n).is_ok(),
        Kind::Push => found.lists[2].binary_search(&n).is_ok(),
        Kind::Set => n <= found.last[0],
        Kind::Mset => n <= found.last[1],
        Kind::Incr => true,
    }
}
/// The age of the oldest acknowledged operation that is missing.
fn oldest_missing(found: &[Found], times: &[Vec<(u64, Instant)>], killed: Instant) -> Duration {
    let clients = found.iter().zip(times);
    let missing = clients.filter_map(|(found, times)| times.iter().find(|(n, _)| !has(found, *n)));
    let ages = missing.map(|(_, at)| killed.saturating_duration_since(*at));
    ages.max().unwrap_or_default()
}

/// How long this process, and most likely the server, was stopped or kept from running: what the machine does is not the server's delay.
fn pauses(over: &AtomicBool) -> Duration {
    let (mut last, mut sum) = (Instant::now(), Duration::ZERO);
    while !over.load(SeqCst) {
        thread::sleep(Duration::from_millis(10));
        let took = last.elapsed();
        last = Instant::now();
        if took > Duration::from_millis(100) {
            sum += took;
        }
    }
    sum
}

fn options(folder: &TemporaryFolder, policy: &str, small: bool) -> Vec<String> {
    let dir = folder.to_str().expect("a plain name");
    let min = if small { "20kb" } else { "64mb" };
    let words = ["--dir", dir, "--save", "", "--appendonly", "yes"];
    let more = ["--appendfsync", policy, "--auto-aof-rewrite-min-size", min];
    words
        .iter()
        .chain(&more)
        .map(|word| word.to_string())
        .collect()
}
fn start(options: &[String], shards: usize) -> Server {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Server::start(shards, &options)
}
fn loaded(server: &Server) -> Client {
    let mut c = server.client();
    loop {
        let reply = match c.try_ask(&["PING"]) {
            true => c.reply().unwrap_or_default(),
            false => String::new(),
        };
        if reply == "+PONG\r\n" {
            return c;
        }
        assert!(reply.starts_with("-LOADING"), "{reply}: {}", server.log());
        thread::sleep(Duration::from_millis(2));
    }
}

/// The snapshot that is there, if any, is of one moment too.
fn check_snapshot(folder: &TemporaryFolder, shards: usize) {
    if !folder.join("dump.rdb").exists() {
        return;
    }
    let mut options = options(folder, "no", false);
    options.extend(["--appendonly".to_owned(), "no".to_owned()]);
    let server = start(&options, shards);
    let mut c = loaded(&server);
    progress::find(&mut |line| c.call(line), &mut Found::of(WORKERS));
}

/// One life of the server, when it is over.
struct Life {
    story: Story,
    times: Vec<Vec<(u64, Instant)>>,
    killed: Instant,
    paused: Duration,
}

/// Lives and kills on one folder.
fn lives(
    policy: &str,
    first_shards: usize,
    kills: usize,
    max_ms: usize,
    random: &mut Random,
) -> Duration {
    let folder = TemporaryFolder::new("kills");
    let mut workers: Vec<Worker> = Vec::new();
    workers.resize_with(WORKERS, Worker::new);
    let bound = if policy == "always" {
        Duration::ZERO
    } else {
        BOUND
    };
    let (mut shards, mut lost) = (first_shards, Duration::ZERO);
    let mut last: Option<Life> = None;
    for life in 0..=kills {
        let words = options(&folder, policy, random.below(3) == 0);
        if life > 0 && random.below(4) == 0 {
            // It is killed while it starts.
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let server = Server::start_loading(&[], shards, &words);
            thread::sleep(Duration::from_millis(random.below(40) as u64));
            server.kill();
        }
        let server = start(&words, shards);
        let mut found = Found::of(WORKERS);
        let what = format!("{policy}, {shards} shards, life {life}");
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut c = loaded(&server);
            progress::find(&mut |line| c.call(line), &mut found);
            let Some(Life {
                story,
                times,
                killed,
                paused,
            }) = last.take()
            else {
                return c;
            };
            let bound = if bound.is_zero() {
                bound
            } else {
                bound + paused
            };
            let expected = expected(&workers, &times, &story, bound, killed);
            progress::check(&mut workers, &found, &expected);
            if story.frozen.is_none() && story.flushes.is_empty() {
                lost = lost.max(oldest_missing(&found, &times, killed));
            }
            if bound.is_zero() && story.frozen.is_none() {
                let sides = progress::sides(&mut |line| c.call(line));
                let fits = sides == story.sides || Some(&sides) == story.under_way.as_ref();
                assert!(
                    fits,
                    "sides are {sides:?}, not {:?} or {:?}",
                    story.sides, story.under_way
                );
            }
            c
        }));
        let Ok(mut c) = checked else {
            let kept = std::env::temp_dir().join(format!("ringwood-kills-{}", std::process::id()));
            let copied = std::process::Command::new("cp")
                .arg("-r")
                .arg(&*folder)
                .arg(&kept)
                .status();
            panic!(
                "{what}: see above; the files are in {} ({copied:?})\n{}",
                kept.display(),
                server.log()
            );
        };
        if life == kills {
            break;
        }
        let story = Mutex::new(Story {
            sides: progress::sides(&mut |line| c.call(line)),
            ..Story::default()
        });
        assert_eq!(c.call("SELECT 0"), "+OK\r\n");
        let over = AtomicBool::new(false);
        let ms = 20 + random.below(max_ms);
        let (killed, paused, times) = thread::scope(|scope| {
            let begin = |(w, worker)| {
                Worker::begin(worker);
                let (c, random) = (server.client(), Random::with(random.next()));
                scope.spawn(move || work(worker, w, c, random))
            };
            let clients: Vec<_> = workers.iter().enumerate().map(begin).collect();
            let (workers, story, random) = (&workers, &story, Random::with(random.next()));
            scope.spawn(move || disturb(workers, story, c, random));
            let watch = scope.spawn(|| pauses(&over));
            thread::sleep(Duration::from_millis(ms as u64));
            let killed = Instant::now();
            server.kill();
            over.store(true, SeqCst);
            let times = clients
                .into_iter()
                .map(|client| client.join().expect("a client"));
            let times: Vec<_> = times.collect();
            (killed, watch.join().expect("it only sleeps"), times)
        });
        drop(server);
        let story = story.into_inner().expect("the story");
        last = Some(Life {
            story,
            times,
            killed,
            paused,
        });
        if random.below(4) == 0 {
            check_snapshot(&folder, shards);
        }
        if random.below(3) == 0 {
            shards = [1, 2, 4][random.below(3)];
        }
    }
    lost
}

#[test]
fn what_was_acknowledged_outlives_sigkill() {
    let kills = std::env::var("RINGWOOD_KILLS").ok();
    let kills: Option<usize> = kills.map(|text| text.parse().expect("a number of kills"));
    let mut random = Random::seeded();
    let (mut done, mut lost) = (0, [Duration::ZERO; 2]);
    // On one folder; the long form goes on until there were enough.
    let (each, max_ms) = if kills.is_some() {
        (10, 3000)
    } else {
        (2, 150)
    };
    loop {
        for shards in [1, 2, 4] {
            for (at, policy) in ["always", "everysec"].into_iter().enumerate() {
                // A life need not be long to be hard; some are.
                let max_ms = if random.below(3) == 0 {
                    max_ms
                } else {
                    max_ms.min(400)
                };
                let missing = lives(policy, shards, each, max_ms, &mut random);
                lost[at] = lost[at].max(missing);
                done += each;
            }
        }
        if kills.is_none_or(|kills| done >= kills) {
            break;
        }
    }
    println!("{done} kills; the oldest that is missing: {lost:?} (always, everysec)");
    assert!(lost[0].is_zero(), "{lost:?}");
}
