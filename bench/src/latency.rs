//! `ringwood-bench latency`: one connection that sends one request at a time.
//!
//! With `--forward`, servers that have shards run with several. One connection to the ordinary port then asks for
//! keys of each shard in turn, in short blocks: the shard that serves the connection answers at once, the others'
//! keys must be forwarded. Which is which cannot be asked of every server, so the quickest shard's figures are given
//! as the owner's and the slowest's as the forwarded ones. A connection to a shard's own port is measured beside it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use serde_json::json;

use crate::cluster::SlotMap;
use crate::cpus::CpuArgs;
use crate::data::{Data, DataArgs};
use crate::load::{Owners, Plan, new_histogram};
use crate::os;
use crate::output::{Output, OutputArgs};
use crate::peers::{self, Peer, PeerArgs, Server, Setup};
use crate::proc;
use crate::resp::Skipper;
use crate::table::{Table, known, median, number, ratio};
use crate::template::{Mix, Source};
use crate::workload;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A named workload
    #[arg(short, long, default_value = "get")]
    workload: String,
    /// Run servers that have shards with --shards of them (2 unless given): owner, forwarded, shard port
    #[arg(long)]
    forward: bool,
    /// Threads of servers that have them
    #[arg(long, default_value_t = 1)]
    shards: usize,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    peers: PeerArgs,
    #[arg(short, long, default_value_t = 3)]
    rounds: usize,
    /// Measured time of each run
    #[arg(short, long, default_value_t = 2.0)]
    seconds: f64,
    #[command(flatten)]
    cpus: CpuArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Requests in a row for keys of the same shard.
const BLOCK: usize = 500;

/// One way of one server in one round.
struct Sample {
    server: String,
    version: String,
    histogram: Histogram<u64>,
    cpu_us: f64,
}

pub fn run(args: &Args) -> Result<()> {
    let data = args.data.check()?;
    let peers = peers::find(&args.peers)?;
    let mut samples = Vec::new();
    for round in 1..=args.rounds {
        for peer in &peers {
            for sample in measure(args, &data, peer)? {
                let p50 = sample.histogram.value_at_quantile(0.5) as f64 / 1000.0;
                eprintln!(
                    "round {round}/{}: {}: p50 {} us",
                    args.rounds,
                    sample.server,
                    number(p50)
                );
                samples.push(sample);
            }
        }
    }
    let mut names: Vec<&str> = Vec::new();
    for sample in &samples {
        if !names.contains(&sample.server.as_str()) {
            names.push(&sample.server);
        }
    }
    let of = |name: &str, f: &dyn Fn(&Sample) -> f64| {
        median(samples.iter().filter(|s| s.server == name).map(f))
    };
    let quantile = |q: f64| move |s: &Sample| s.histogram.value_at_quantile(q) as f64 / 1000.0;
    let base = names
        .iter()
        .find(|n| n.starts_with("Redis 7.0"))
        .or(names.first())
        .copied()
        .context("no server")?;
    let base_p50 = of(base, &quantile(0.5));
    let mut table = Table::new(&[
        "server",
        "p50 us",
        "ratio",
        "p99 us",
        "p99.9 us",
        "server CPU us/op",
    ]);
    let mut rows = Vec::new();
    for name in &names {
        let (p50, p99, p999) = (
            of(name, &quantile(0.5)),
            of(name, &quantile(0.99)),
            of(name, &quantile(0.999)),
        );
        let cpu = of(name, &|s| s.cpu_us);
        table.row([
            name.to_string(),
            known(p50),
            ratio(p50, base_p50),
            known(p99),
            known(p999),
            known(cpu),
        ]);
        let version = samples
            .iter()
            .find(|s| s.server == *name)
            .map(|s| s.version.clone());
        rows.push(json!({
            "server": name, "version": version, "p50_us": p50, "p99_us": p99, "p99.9_us": p999,
            "server_cpu_us_per_request": cpu,
        }));
    }
    let mut output = Output::new("latency", &args.output);
    output.note(format!(
        "{}: one connection, one request at a time, median of {} rounds of {} s; ratio to {base}.",
        args.workload, args.rounds, args.seconds
    ));
    output.table("", &table);
    output.finish(json!({ "workload": args.workload, "data": args.data, "rows": rows }))
}

fn measure(args: &Args, data: &Data, peer: &Peer) -> Result<Vec<Sample>> {
    let forward = args.forward && peer.takes_shards();
    let shards = if forward {
        args.shards.max(2)
    } else {
        args.shards
    };
    let split = args
        .cpus
        .split(if peer.takes_shards() { shards } else { 1 })?;
    let shard_ports = forward && peer.takes_shard_ports();
    let setup = Setup {
        shard_ports,
        ..Setup::new(args.peers.base_port, split.server, shards)
    };
    let mut server = Server::start(peer, &setup)?;
    let outcome = os::pinned(&split.load, || {
        measure_server(args, data, peer, &server, shard_ports)
    })?;
    outcome.map_err(|e| server.explain(e))
}

fn measure_server(
    args: &Args,
    data: &Data,
    peer: &Peer,
    server: &Server,
    shard_ports: bool,
) -> Result<Vec<Sample>> {
    let workload = workload::find(&args.workload)?;
    let template = data.template(workload.command)?;
    let mix = Mix::one(template.clone());
    let (target, keys) = (server.target.clone(), data.random_keys());
    let plan = Plan::of_data(target, template, keys, Vec::new());
    data.preload(&workload, 0, &plan)?;
    let time = Duration::try_from_secs_f64(args.seconds)?;
    let sample = |way: &str, histogram, cpu_us| Sample {
        server: format!("{}{way}", peer.title),
        version: server.version.clone(),
        histogram,
        cpu_us,
    };
    let slots = match shard_ports
        .then(|| SlotMap::fetch(&mut server.client()?))
        .transpose()
    {
        Ok(slots) => slots,
        Err(e) => {
            eprintln!("{}: its shards cannot be told apart ({e:#})", peer.title);
            None
        }
    };
    let Some(slots) = slots else {
        let stream = TcpStream::from(server.client()?.into_fd()?);
        let (mut histograms, cpu) = ask(stream, &mix, vec![source(data, None)], time, server.pid)?;
        return Ok(vec![sample("", histograms.remove(0), cpu)]);
    };
    let owners = data.owners(&slots)?;
    let sources: Vec<Source> = (0..slots.nodes.len())
        .map(|node| Ok(source(data, Some((&owners, u8::try_from(node)?)))))
        .collect::<Result<_>>()?;
    let stream = TcpStream::from(server.client()?.into_fd()?);
    let (mut histograms, cpu) = ask(stream, &mix, sources, time * 2, server.pid)?;
    histograms.sort_by_key(|h| h.value_at_quantile(0.5));
    let forwarded = histograms.pop().context("a node")?;
    let local = histograms.into_iter().next().context("a second node")?;
    let client =
        crate::conn::Client::connect(&slots.nodes[0], &Default::default(), crate::data::PATIENCE)?;
    let stream = TcpStream::from(client.into_fd()?);
    let (mut direct, direct_cpu) = ask(
        stream,
        &mix,
        vec![source(data, Some((&owners, 0)))],
        time,
        server.pid,
    )?;
    Ok(vec![
        sample(", on the owner", local, cpu),
        sample(", forwarded", forwarded, cpu),
        sample(", shard port", direct.remove(0), direct_cpu),
    ])
}

fn source(data: &Data, only: Option<(&Owners, u8)>) -> Source {
    let only = only.map(|(owners, node)| (std::sync::Arc::clone(&owners.map), node));
    Source {
        keys: data.random_keys(),
        rng: fastrand::Rng::with_seed(3),
        only,
    }
}

/// One request at a time for `time`, the sources in turn; a histogram per source, and the server's CPU per request.
fn ask(
    mut stream: TcpStream,
    mix: &Mix,
    mut sources: Vec<Source>,
    time: Duration,
    pid: u32,
) -> Result<(Vec<Histogram<u64>>, f64)> {
    let mut histograms: Vec<_> = sources.iter().map(|_| new_histogram()).collect();
    let mut skipper = Skipper::default();
    let (mut request, mut reply) = (Vec::new(), vec![0; 64 * 1024]);
    // One block of each is the warm-up.
    let mut warm = false;
    let mut start = Instant::now();
    let mut before = proc::usage(pid)?;
    let mut requests = 0u64;
    while !warm || start.elapsed() < time {
        os::check_interrupt()?;
        for (source, histogram) in sources.iter_mut().zip(&mut histograms) {
            for _ in 0..BLOCK {
                let mut awaiting = mix.fill(&mut request, 1, source);
                let sent = Instant::now();
                stream.write_all(&request)?;
                while awaiting > 0 {
                    let len = stream.read(&mut reply)?;
                    if len == 0 {
                        bail!("the server closed the connection");
                    }
                    let skipped = skipper.feed(&reply[..len])?;
                    if skipped.errors > 0 {
                        bail!("error reply: {}", skipper.take_error().unwrap_or_default());
                    }
                    awaiting = awaiting
                        .checked_sub(skipped.replies)
                        .context("more replies than requests")?;
                }
                if warm {
                    histogram.saturating_record((sent.elapsed().as_nanos() as u64).max(1));
                    requests += 1;
                }
            }
        }
        if !warm {
            warm = true;
            start = Instant::now();
            before = proc::usage(pid)?;
        }
    }
    let usage = proc::usage(pid)?.since(&before);
    Ok((
        histograms,
        usage.cpu_ns as f64 / 1000.0 / requests.max(1) as f64,
    ))
}
