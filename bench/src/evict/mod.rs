//! `ringwood-bench evict`: how good a cache each eviction policy makes, at the same memory.
//!
//! Method: a client asks for the keys of a trace with GET, and sets what it did not find, as an application with a database behind its
//! cache does. What is measured is how often it found something, after a first part in which the cache fills. Every server gets the same
//! trace, `maxmemory` and pace (recency and frequency go by the clock). For `volatile` policies every key of the trace expires, long
//! after the end, and a tenth of the memory is taken by keys that do not, all of which have to be there at the end.
//!
//! Beside each figure stands what the exact policy reaches with as many keys as the server held at the end ([`exact`]): so the two
//! columns tell apart how much a server has room for and how well it chooses.

mod exact;
mod trace;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;

use crate::conn::{Client, Target, Value};
use crate::cpus::CpuArgs;
use crate::os;
use crate::output::{Output, OutputArgs};
use crate::peers::{self, Peer, PeerArgs, Server, Setup};
use crate::table::Table;
use exact::{By, Exact};
use trace::{Kind, Trace, ttl_seconds};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keys that come again
    #[arg(long, default_value_t = 200_000)]
    keys: u64,
    #[arg(long, default_value_t = 200)]
    value_size: usize,
    /// `maxmemory`, in MB
    #[arg(long, default_value_t = 12)]
    memory: u64,
    /// Keys asked for
    #[arg(long, default_value_t = 600_000)]
    accesses: u64,
    /// Keys asked for before counting begins
    #[arg(long, default_value_t = 150_000)]
    warm_up: u64,
    /// Keys asked for per second, at most; 0: as many as can be
    #[arg(long, default_value_t = 60_000)]
    rate: u64,
    /// GETs in one pipeline
    #[arg(long, default_value_t = 16)]
    pipeline: usize,
    #[arg(long, default_value_t = 0.99)]
    zipf: f64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, value_enum, value_delimiter = ',', default_value = "zipf,scan")]
    traces: Vec<Kind>,
    /// `maxmemory-samples`, for the policies that sample
    #[arg(long, value_delimiter = ',', default_value = "5,10")]
    samples: Vec<u32>,
    /// Policies [default: all that let keys go]
    #[arg(long, value_delimiter = ',')]
    policies: Vec<String>,
    /// Threads of servers that have them
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    shards: Vec<usize>,
    #[command(flatten)]
    peers: PeerArgs,
    #[command(flatten)]
    cpus: CpuArgs,
    #[command(flatten)]
    output: OutputArgs,
}

const POLICIES: [(&str, By); 7] = [
    ("allkeys-lru", By::Recency),
    ("volatile-lru", By::Recency),
    ("allkeys-lfu", By::Frequency),
    ("volatile-lfu", By::Frequency),
    ("allkeys-random", By::Chance),
    ("volatile-random", By::Chance),
    ("volatile-ttl", By::Expiry),
];

/// One run.
#[derive(Debug, Clone, Copy)]
struct Case {
    trace: Kind,
    policy: &'static str,
    by: By,
    samples: u32,
}

impl Case {
    fn is_volatile(&self) -> bool {
        self.policy.starts_with("volatile")
    }
}

/// What came of it.
struct Outcome {
    hits: u64,
    counted: u64,
    /// Keys of the trace that were there at the end.
    held: usize,
    used: u64,
    seconds: f64,
}

impl Outcome {
    fn ratio(&self) -> f64 {
        self.hits as f64 / self.counted.max(1) as f64
    }
}

pub fn run(args: &Args) -> Result<()> {
    if args.warm_up >= args.accesses || args.pipeline == 0 || args.keys == 0 {
        bail!("--warm-up must be below --accesses, --pipeline and --keys at least 1");
    }
    let known = |policy: &&String| POLICIES.iter().any(|(name, _)| name == policy);
    if let Some(unknown) = args.policies.iter().find(|policy| !known(policy)) {
        bail!("there is no policy {unknown:?}");
    }
    let peers = peers::find(&args.peers)?;
    let mut output = Output::new("evict", &args.output);
    output.note(format!(
        "{} accesses to {} keys (Zipf {}), values of {} bytes, maxmemory {} MB, at most {} accesses per second, seed {}. \
         Hits: of the accesses behind the first {}. Exact: what the exact policy hits with as many keys as were held at the end.",
        args.accesses, args.keys, args.zipf, args.value_size, args.memory, args.rate, args.seed, args.warm_up
    ));
    let mut rows = Vec::new();
    for &trace in &args.traces {
        let mut table = Table::new(&[
            "policy",
            "samples",
            "server",
            "hits %",
            "keys held",
            "exact %",
            "of exact %",
        ]);
        for (policy, by) in POLICIES {
            if !args.policies.is_empty() && !args.policies.iter().any(|p| p == policy) {
                continue;
            }
            let samples = match by {
                By::Chance => &[5][..],
                _ => &args.samples,
            };
            for &samples in samples {
                let case = Case {
                    trace,
                    policy,
                    by,
                    samples,
                };
                for peer in &peers {
                    let shards = match peer.takes_shards() {
                        true => &args.shards[..],
                        false => &[1],
                    };
                    for &shards in shards {
                        let (outcome, version) = measure(args, case, peer, shards)?;
                        let exact = exact_ratio(args, case, outcome.held)?;
                        let title = match peer.takes_shards() {
                            true => format!("{}, {shards} shards", peer.title),
                            false => peer.title.to_string(),
                        };
                        let (hits, of) = (outcome.ratio() * 100.0, outcome.ratio() / exact * 100.0);
                        eprintln!(
                            "{}: {policy}, {samples} samples, {title}: {hits:.2}% ({of:.2}% of exact), {:.0} s",
                            trace.name(),
                            outcome.seconds
                        );
                        table.row([
                            policy.to_string(),
                            samples.to_string(),
                            title.clone(),
                            format!("{hits:.2}"),
                            outcome.held.to_string(),
                            format!("{:.2}", exact * 100.0),
                            format!("{of:.2}"),
                        ]);
                        rows.push(json!({
                            "trace": trace.name(), "policy": policy, "samples": samples, "server": title,
                            "version": version, "hit_ratio": outcome.ratio(), "keys_held": outcome.held,
                            "exact_hit_ratio": exact, "used_memory": outcome.used, "seconds": outcome.seconds,
                        }));
                    }
                }
            }
        }
        output.table(trace.name(), &table);
    }
    output.finish(rows.into())
}

/// What the exact policy hits.
fn exact_ratio(args: &Args, case: Case, capacity: usize) -> Result<f64> {
    let mut trace = Trace::new(case.trace, args.zipf, args.keys, args.seed)?;
    let mut exact = Exact::new(case.by, capacity.max(1), args.seed);
    let mut hits = 0u64;
    for at in 0..args.accesses {
        let hit = exact.access(trace.next());
        hits += u64::from(hit && at >= args.warm_up);
    }
    Ok(hits as f64 / (args.accesses - args.warm_up) as f64)
}

fn measure(args: &Args, case: Case, peer: &Peer, shards: usize) -> Result<(Outcome, String)> {
    let split = args.cpus.split(shards)?;
    let setup = Setup::new(args.peers.base_port, split.server, shards);
    let mut server = Server::start(peer, &setup)?;
    let outcome = os::pinned(&split.load, || play(args, case, &server))?;
    let outcome = outcome.map_err(|e| server.explain(e))?;
    Ok((outcome, server.version.clone()))
}

fn play(args: &Args, case: Case, server: &Server) -> Result<Outcome> {
    let mut client = server.client()?;
    let memory = args.memory << 20;
    for (name, value) in [
        ("maxmemory", memory.to_string()),
        ("maxmemory-policy", case.policy.to_string()),
        ("maxmemory-samples", case.samples.to_string()),
    ] {
        client.call(&["CONFIG", "SET", name, &value])?;
    }
    let value = vec![b'v'; args.value_size];
    let mut load = Load::connect(&server.target, value)?;
    let mut kept = 0;
    if case.is_volatile() {
        kept = memory / 10 / (args.value_size as u64 + 64);
        for n in 0..kept {
            load.set(&format!("kept:{n}"), None);
            if n % 64 == 63 || n + 1 == kept {
                load.finish_sets()?;
            }
        }
    }
    let mut trace = Trace::new(case.trace, args.zipf, args.keys, args.seed)?;
    let mut outcome = Outcome {
        hits: 0,
        counted: args.accesses - args.warm_up,
        held: 0,
        used: 0,
        seconds: 0.0,
    };
    let begun = Instant::now();
    let mut keys = Vec::new();
    let mut at = 0;
    while at < args.accesses {
        keys.clear();
        while keys.len() < args.pipeline && at + (keys.len() as u64) < args.accesses {
            keys.push(trace.next());
        }
        let found = load.get(&keys)?;
        for (key, found) in keys.iter().zip(&found) {
            outcome.hits += u64::from(*found && at >= args.warm_up);
            at += 1;
            if !found {
                let ttl = case.is_volatile().then(|| ttl_seconds(*key, args.seed));
                load.set(&key_name(*key), ttl);
            }
        }
        load.finish_sets()?;
        if args.rate > 0 {
            let due = Duration::from_secs_f64(at as f64 / args.rate as f64);
            let early = due.saturating_sub(begun.elapsed());
            if early > Duration::from_millis(1) {
                os::sleep(early)?;
            }
        }
    }
    outcome.seconds = begun.elapsed().as_secs_f64();
    let Value::Integer(held) = client.call(&["DBSIZE"])? else {
        bail!("DBSIZE is no number");
    };
    for n in 0..kept {
        if client.call(&["EXISTS", &format!("kept:{n}")])? != Value::Integer(1) {
            bail!("{} let a key go that does not expire", case.policy);
        }
    }
    outcome.held = usize::try_from(held)?.saturating_sub(kept as usize);
    outcome.used = used_memory(&mut client)?;
    Ok(outcome)
}

fn used_memory(client: &mut Client) -> Result<u64> {
    let used = client.used_memory();
    used.ok_or_else(|| anyhow!("the server does not say how much memory it uses"))
}

fn key_name(key: u64) -> String {
    format!("key:{key:010}")
}

/// Pipelines over one connection.
struct Load {
    stream: BufReader<TcpStream>,
    value: Vec<u8>,
    out: Vec<u8>,
    sets: usize,
}

impl Load {
    fn connect(target: &Target, value: Vec<u8>) -> Result<Load> {
        let Target::Tcp(address) = target else {
            bail!("{target}: no TCP port");
        };
        let stream = TcpStream::connect(address).with_context(|| target.to_string())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(crate::data::PATIENCE))?;
        Ok(Load {
            stream: BufReader::with_capacity(64 << 10, stream),
            value,
            out: Vec::new(),
            sets: 0,
        })
    }

    fn push(&mut self, words: &[&[u8]]) {
        self.out.extend(format!("*{}\r\n", words.len()).bytes());
        for word in words {
            self.out.extend(format!("${}\r\n", word.len()).bytes());
            self.out.extend_from_slice(word);
            self.out.extend_from_slice(b"\r\n");
        }
    }
    fn flush(&mut self) -> Result<()> {
        self.stream.get_mut().write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_string()),
            None => bail!("the server closed the connection"),
        }
    }

    /// Which of these keys are there.
    fn get(&mut self, keys: &[u64]) -> Result<Vec<bool>> {
        for key in keys {
            self.push(&[b"GET", key_name(*key).as_bytes()]);
        }
        self.flush()?;
        let mut found = Vec::with_capacity(keys.len());
        let mut value = vec![0; self.value.len() + 2];
        for _ in keys {
            let line = self.line()?;
            match line.strip_prefix('$').map(str::parse::<i64>) {
                Some(Ok(-1)) => found.push(false),
                Some(Ok(len)) if len as usize == self.value.len() => {
                    self.stream.read_exact(&mut value)?;
                    found.push(true);
                }
                _ => bail!("GET: {line}"),
            }
        }
        Ok(found)
    }

    fn set(&mut self, key: &str, ttl_seconds: Option<u64>) {
        let value = std::mem::take(&mut self.value);
        match ttl_seconds {
            None => self.push(&[b"SET", key.as_bytes(), &value]),
            Some(ttl) => {
                let ttl = ttl.to_string();
                self.push(&[b"SET", key.as_bytes(), &value, b"EX", ttl.as_bytes()]);
            }
        }
        self.value = value;
        self.sets += 1;
    }
    /// Sends what was to be set, and waits until it is.
    fn finish_sets(&mut self) -> Result<()> {
        self.flush()?;
        for _ in 0..std::mem::take(&mut self.sets) {
            let line = self.line()?;
            if line != "+OK" {
                bail!("SET: {line}");
            }
        }
        Ok(())
    }
}
