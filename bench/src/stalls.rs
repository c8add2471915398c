//! `ringwood-bench stalls`: the longest time that a core works without looking at its clients while a large collection grows
//! and goes: by DEL, UNLINK, expiry and FLUSHALL.
//!
//! Method: one connection fills a collection member by member, a small batch at a time; then it asks PING after PING while
//! the collection goes. After every reply the server's CPU time is read (its process's CPU clock, to the nanosecond). What
//! one request cost above the median one is a stall, at most: several turns of a core that has work left count as one where
//! the client was slow to ask again, and Linux brings the clock of a thread that runs on up to date at ticks only (4 ms).
//! So this figure is an upper bound, and a rough one. The server's own says more on a machine that does nothing else: the longest
//! turn of its loop by the wall clock (INFO's `eventloop_duration_max`).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use serde_json::json;

use crate::conn::Value;
use crate::cpus::CpuArgs;
use crate::data::{Data, DataArgs};
use crate::load::new_histogram;
use crate::os;
use crate::output::{Output, OutputArgs};
use crate::peers::{self, PeerArgs, Server, Setup};
use crate::proc;
use crate::resp::Skipper;
use crate::table::{Table, known, number};
use crate::template::{Keys, Mix, Source};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Members of the collection
    #[arg(long, default_value_t = 10_000_000)]
    members: u64,
    /// Types of collections
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "set,hash,zset,list,stream"
    )]
    types: Vec<String>,
    /// How it goes
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "del,unlink,expiry,flushall"
    )]
    ways: Vec<String>,
    /// Commands per batch while it grows
    #[arg(long, default_value_t = 16)]
    batch: usize,
    #[command(flatten)]
    peers: PeerArgs,
    #[command(flatten)]
    cpus: CpuArgs,
    #[command(flatten)]
    output: OutputArgs,
}

const FILLS: &[(&str, &str)] = &[
    ("set", "SADD big m:__n__"),
    ("hash", "HSET big f:__n__ value-__d8__"),
    ("zset", "ZADD big __d8__ m:__n__"),
    ("list", "RPUSH big element-__d8__"),
    ("stream", "XADD big * f1 v1 f2 __d8__ f3 v3"),
];

const WAYS: &[(&str, &[&str])] = &[
    ("del", &["DEL", "big"]),
    ("unlink", &["UNLINK", "big"]),
    ("expiry", &["PEXPIRE", "big", "50"]),
    ("flushall", &["FLUSHALL"]),
];

/// What single requests cost, in nanoseconds of the server's CPU.
struct Costs {
    all: Histogram<u64>,
    last: u64,
    longest_turn_us: Option<f64>,
}

impl Costs {
    fn new(server: &Server) -> Result<Costs> {
        Ok(Costs {
            all: new_histogram(),
            last: proc::cpu_ns(server.pid)?,
            longest_turn_us: None,
        })
    }

    fn note(&mut self, server: &Server) -> Result<()> {
        let now = proc::cpu_ns(server.pid)?;
        self.all.saturating_record((now - self.last).max(1));
        self.last = now;
        Ok(())
    }

    /// CPU above the median, in microseconds.
    fn above_median(&self, quantile: f64) -> f64 {
        let median = self.all.value_at_quantile(0.5);
        let cost = match quantile {
            1.0 => self.all.max(),
            q => self.all.value_at_quantile(q),
        };
        cost.saturating_sub(median) as f64 / 1000.0
    }
}

struct Asker {
    stream: TcpStream,
    skipper: Skipper,
    reply: Vec<u8>,
}

impl Asker {
    fn new(server: &Server) -> Result<Asker> {
        Ok(Asker {
            stream: TcpStream::from(server.client()?.into_fd()?),
            skipper: Skipper::default(),
            reply: vec![0; 4096],
        })
    }

    fn ask(&mut self, request: &[u8], mut replies: usize) -> Result<()> {
        self.stream.write_all(request)?;
        while replies > 0 {
            let len = self.stream.read(&mut self.reply)?;
            if len == 0 {
                bail!("the server closed the connection");
            }
            let skipped = self.skipper.feed(&self.reply[..len])?;
            if skipped.errors > 0 {
                bail!("{}", self.skipper.take_error().unwrap_or_default());
            }
            replies = replies
                .checked_sub(skipped.replies)
                .context("more replies than requests")?;
        }
        Ok(())
    }
}

pub fn run(args: &Args) -> Result<()> {
    let data = DataArgs {
        keys: args.members,
        key_size: 12,
        key_prefix: None,
        value_size: 8,
        zipf: None,
    };
    let data = data.check()?;
    if args.batch == 0 {
        bail!("--batch must be at least 1");
    }
    let split = args.cpus.split(1)?;
    let setup = Setup::new(args.peers.base_port, split.server, 1);
    let mut table = Table::new(&[
        "server, type, what happens",
        "longest turn, us",
        "longest stall, CPU us",
        "99.9% us",
        "median request, CPU us",
        "requests",
    ]);
    let mut rows = Vec::new();
    for peer in peers::find(&args.peers)? {
        for kind in &args.types {
            let (_, fill) = FILLS
                .iter()
                .find(|(name, _)| name == kind)
                .with_context(|| format!("there is no type {kind:?}"))?;
            for (index, way) in args.ways.iter().enumerate() {
                let (_, words) = WAYS
                    .iter()
                    .find(|(name, _)| name == way)
                    .with_context(|| format!("there is no way {way:?}"))?;
                let mut server = Server::start(&peer, &setup)?;
                let outcome = os::pinned(&split.load, || -> Result<_> {
                    let grown = grow(args, &data, fill, &server)?;
                    Ok((grown, go(words, &server)?))
                })?;
                let (grown, gone) = outcome.map_err(|e| server.explain(e))?;
                // All ways have the same growth before them.
                let mut add = |what: &str, costs: &Costs| {
                    let name = format!("{}, {kind}, {what}", peer.title);
                    let turn = known(costs.longest_turn_us);
                    eprintln!("{name}: longest turn {turn} us");
                    table.row([
                        name,
                        turn,
                        number(costs.above_median(1.0)),
                        number(costs.above_median(0.999)),
                        number(costs.all.value_at_quantile(0.5) as f64 / 1000.0),
                        costs.all.len().to_string(),
                    ]);
                    rows.push(json!({
                        "server": peer.title, "version": server.version, "type": kind, "what": what,
                        "longest_turn_us": costs.longest_turn_us,
                        "longest_us": costs.above_median(1.0), "p99.9_us": costs.above_median(0.999),
                        "requests": costs.all.len(),
                    }));
                };
                if index == 0 {
                    add("growth", &grown);
                }
                add(way, &gone);
            }
        }
    }
    let mut output = Output::new("stalls", &args.output);
    output.note(format!(
        "Collections of {} members, one shard. Turns: the server's own figure, wall time. A stall is what one request cost \
         in server CPU above the median one, with an error of a tick: while it grows, of batches of {} commands that add one \
         member each; while it goes, of single PINGs.",
        args.members, args.batch
    ));
    output.table("", &table);
    output.finish(json!({ "members": args.members, "batch": args.batch, "rows": rows }))
}

fn grow(args: &Args, data: &Data, fill: &str, server: &Server) -> Result<Costs> {
    let mix = Mix::one(data.template(fill)?);
    let mut source = Source {
        keys: Keys::Sequence(Arc::default()),
        rng: fastrand::Rng::with_seed(1),
        only: None,
    };
    let mut client = server.client()?;
    client.call(&["CONFIG", "RESETSTAT"])?;
    let mut asker = Asker::new(server)?;
    let mut costs = Costs::new(server)?;
    let mut request = Vec::new();
    let mut members = 0;
    while members < args.members {
        let batch = args.batch.min(usize::try_from(args.members - members)?);
        let replies = mix.fill(&mut request, batch, &mut source);
        asker.ask(&request, replies)?;
        costs.note(server)?;
        members += batch as u64;
        if members.is_multiple_of(1 << 20) {
            os::check_interrupt()?;
        }
    }
    costs.longest_turn_us = client.longest_turn_us();
    Ok(costs)
}

/// How long nothing may be left to do before it counts as gone.
const SETTLING: Duration = Duration::from_secs(1);

fn go(words: &[&str], server: &Server) -> Result<Costs> {
    const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
    let mut client = server.client()?;
    let mut asker = Asker::new(server)?;
    for _ in 0..1000 {
        asker.ask(PING, 1)?;
    }
    let request: String = words
        .iter()
        .map(|w| format!("${}\r\n{w}\r\n", w.len()))
        .collect();
    let request = format!("*{}\r\n{request}", words.len());
    client.call(&["CONFIG", "RESETSTAT"])?;
    let mut costs = Costs::new(server)?;
    asker.ask(request.as_bytes(), 1)?;
    costs.note(server)?;
    let start = Instant::now();
    loop {
        let began = Instant::now();
        while began.elapsed() < SETTLING {
            asker.ask(PING, 1)?;
            costs.note(server)?;
        }
        let pending = client.info("memory", "lazyfree_pending_objects")?;
        let is_there = client.call(&["EXISTS", "big"])? != Value::Integer(0);
        if !is_there && pending.is_none_or(|p| p.trim() == "0") {
            costs.longest_turn_us = client.longest_turn_us();
            return Ok(costs);
        }
        costs.last = proc::cpu_ns(server.pid)?;
        if start.elapsed() > Duration::from_secs(60) {
            bail!("the collection is still there after a minute");
        }
    }
}
