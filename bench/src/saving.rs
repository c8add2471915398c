//! `ringwood-bench saving`: what BGSAVE does to a load of writes, and how much memory it takes.
//!
//! Method: SETs of random keys at a fixed rate (or as fast as they go), first without a snapshot, then from just before BGSAVE
//! until it is done, several rounds of both on one server. Server and its child share the CPUs given to the server. Latency counts from when a request was due.
//! Extra memory is what the server's resident memory is at most above that at BGSAVE, read every 20 ms, and, of a server that
//! forks, what its child had copied by the server's own count (INFO's `rdb_last_cow_size`).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;

use crate::conn::Client;
use crate::cpus::CpuArgs;
use crate::data::{Data, DataArgs};
use crate::load::{self, Bound, Plan, Report};
use crate::os;
use crate::output::{Output, OutputArgs};
use crate::peers::{self, Peer, PeerArgs, Server, Setup};
use crate::proc;
use crate::table::{Table, median, number, ratio};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    #[arg(long, default_value_t = 11)]
    key_size: usize,
    #[arg(long, default_value_t = 640)]
    value_size: usize,
    /// SETs per second; 0: as many as can be
    #[arg(long, default_value_t = 5000.0)]
    rate: f64,
    #[arg(long, default_value_t = 50)]
    connections: usize,
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    /// Measured time of each run without a snapshot
    #[arg(short, long, default_value_t = 5.0)]
    seconds: f64,
    #[arg(short, long, default_value_t = 3)]
    rounds: usize,
    /// Threads of servers that have them
    #[arg(long, default_value_t = 1)]
    shards: usize,
    #[command(flatten)]
    peers: PeerArgs,
    #[command(flatten)]
    cpus: CpuArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// One round: the load alone, and beside a snapshot.
struct Round {
    alone: Report,
    beside: Report,
    seconds: f64,
    /// Bytes above the resident memory at BGSAVE.
    grown: u64,
    /// Bytes that a child copied.
    copied: u64,
    resident: u64,
}

const WARM_UP: Duration = Duration::from_millis(500);
/// How long the load runs before BGSAVE comes, and between two looks at it.
const STEP: Duration = Duration::from_millis(20);
/// The longest snapshot that is waited for.
const PATIENCE: Duration = Duration::from_secs(300);

pub fn run(args: &Args) -> Result<()> {
    let data = DataArgs {
        keys: args.keys,
        key_size: args.key_size,
        key_prefix: None,
        value_size: args.value_size,
        zipf: None,
    };
    let data = data.check()?;
    let mut table = Table::new(&[
        "server",
        "requests/s",
        "beside",
        "p99 us",
        "beside",
        "ratio",
        "p99.9 us",
        "beside",
        "ratio",
        "CPU us/op",
        "snapshot, s",
        "resident MB",
        "extra MB",
    ]);
    let mut rows = Vec::new();
    for peer in peers::find(&args.peers)? {
        let (version, rounds) = measure(args, &data, &peer)?;
        let of = |value: &dyn Fn(&Round) -> f64| median(rounds.iter().map(value));
        let shown = |value: &dyn Fn(&Round) -> f64| number(of(value).unwrap_or(0.0));
        let percentile = |p: f64| {
            let alone = of(&|r| r.alone.latency_us(p));
            let beside = of(&|r| r.beside.latency_us(p));
            [
                number(alone.unwrap_or(0.0)),
                number(beside.unwrap_or(0.0)),
                ratio(beside, alone),
            ]
        };
        let [p99, p99_beside, p99_ratio] = percentile(99.0);
        let [p999, p999_beside, p999_ratio] = percentile(99.9);
        let extra = |r: &Round| (r.grown + r.copied) as f64;
        table.row([
            peer.title.to_string(),
            shown(&|r| r.alone.per_second()),
            shown(&|r| r.beside.per_second()),
            p99,
            p99_beside,
            p99_ratio,
            p999,
            p999_beside,
            p999_ratio,
            shown(&|r| r.alone.cpu_us().unwrap_or(0.0)),
            shown(&|r| r.seconds),
            shown(&|r| r.resident as f64 / 1e6),
            shown(&|r| extra(r) / 1e6),
        ]);
        let figures = |report: &Report| {
            json!({
                "requests_per_second": report.per_second(), "p50_us": report.latency_us(50.0), "p99_us": report.latency_us(99.0),
                "p99.9_us": report.latency_us(99.9), "longest_us": report.latency_us(100.0), "server_cpu_us_per_request": report.cpu_us(),
            })
        };
        let all: Vec<_> = rounds
            .iter()
            .map(|r| {
                json!({
                    "alone": figures(&r.alone), "beside": figures(&r.beside), "snapshot_seconds": r.seconds,
                    "grown_bytes": r.grown, "copied_bytes": r.copied, "resident_bytes": r.resident,
                })
            })
            .collect();
        rows.push(json!({ "server": peer.title, "version": version, "rounds": all }));
    }
    let mut output = Output::new("saving", &args.output);
    output.note(format!(
        "{} keys with values of {} bytes; SETs of random keys over {} connections, pipeline {}, {}; medians of {} rounds. Beside: from just before BGSAVE to its end.",
        args.keys,
        args.value_size,
        args.connections,
        args.pipeline,
        match args.rate {
            0.0 => "as many as can be".to_string(),
            rate => format!("{rate} a second"),
        },
        args.rounds
    ));
    output.table("", &table);
    output.finish(json!({
        "keys": args.keys, "value_size": args.value_size, "rate": args.rate, "connections": args.connections, "pipeline": args.pipeline,
        "rows": rows,
    }))
}

fn measure(args: &Args, data: &Data, peer: &Peer) -> Result<(String, Vec<Round>)> {
    let shards = if peer.takes_shards() { args.shards } else { 1 };
    let split = args.cpus.split(shards)?;
    let setup = Setup::new(args.peers.base_port, split.server, shards);
    let mut server = Server::start(peer, &setup)?;
    let template = data.template("SET __key__ __data__")?;
    let mut plan = Plan {
        connections: args.connections,
        pipeline: args.pipeline,
        rate: (args.rate > 0.0).then_some(args.rate),
        warmup: WARM_UP,
        bound: Bound::Time(Duration::try_from_secs_f64(args.seconds)?),
        pid: Some(server.pid),
        ..Plan::of_data(
            server.target.clone(),
            template.clone(),
            data.random_keys(),
            split.load,
        )
    };
    let outcome = data.fill(&template, data.count, &plan).and_then(|()| {
        (0..args.rounds.max(1))
            .map(|_| round(&mut plan, &server))
            .collect::<Result<Vec<_>>>()
    });
    let rounds = outcome.map_err(|e| server.explain(e))?;
    Ok((server.version.clone(), rounds))
}

fn round(plan: &mut Plan, server: &Server) -> Result<Round> {
    let alone = load::run(plan)?;
    let over = Arc::new(AtomicBool::new(false));
    let beside = Plan {
        bound: Bound::Until(Arc::clone(&over)),
        ..plan.clone()
    };
    let mut client = server.client()?;
    let (beside, saved) = std::thread::scope(|scope| {
        let load = scope.spawn(|| load::run(&beside));
        let saved = save(&mut client, server.pid, || load.is_finished());
        over.store(true, Relaxed);
        let report = load.join().map_err(|_| anyhow!("the load panicked"));
        (report, saved)
    });
    let beside = beside??;
    let (seconds, resident, grown) = saved?;
    for report in [&alone, &beside] {
        if report.errors > 0 {
            bail!("{}", report.last_error.clone().unwrap_or_default());
        }
    }
    let copied = match server_forks(&mut client)? {
        true => field(&mut client, "rdb_last_cow_size")?,
        false => 0,
    };
    let round = Round {
        alone,
        beside,
        seconds,
        grown,
        copied,
        resident,
    };
    eprintln!(
        "{}: p99 {} us alone, {} beside a snapshot of {} s",
        server.version,
        number(round.alone.latency_us(99.0)),
        number(round.beside.latency_us(99.0)),
        number(seconds)
    );
    Ok(round)
}

/// BGSAVE once the load has warmed up: its seconds, resident memory at its begin, and the most that this grew by.
fn save(
    client: &mut Client,
    pid: u32,
    load_has_ended: impl Fn() -> bool,
) -> Result<(f64, u64, u64)> {
    os::sleep(WARM_UP + STEP)?;
    let resident = proc::rss_quick(pid)?;
    let mut most = resident;
    let start = Instant::now();
    client.call(&["BGSAVE"])?;
    while field(client, "rdb_bgsave_in_progress")? != 0 {
        most = most.max(proc::rss_quick(pid)?);
        if load_has_ended() {
            bail!("the load ended during the snapshot");
        }
        if start.elapsed() > PATIENCE {
            bail!("the snapshot is not done after {} s", PATIENCE.as_secs());
        }
        os::sleep(STEP)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let status = client.info("persistence", "rdb_last_bgsave_status")?;
    if status.as_deref() != Some("ok") {
        bail!("BGSAVE failed");
    }
    Ok((seconds, resident, most - resident))
}

/// Whether a child saves. Ringwood's `rdb_last_cow_size` is of the same process, whose growth is counted already.
fn server_forks(client: &mut Client) -> Result<bool> {
    Ok(client.info("server", "ringwood_version")?.is_none())
}

fn field(client: &mut Client, name: &str) -> Result<u64> {
    let text = client.info("persistence", name)?;
    text.and_then(|text| text.parse().ok())
        .with_context(|| format!("INFO has no {name}"))
}
