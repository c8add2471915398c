//! `ringwood-bench compare`: Ringwood and its peers in turn, under the same load, in the same run.
//!
//! Idea: rounds are interleaved (every server once per round), so that a machine that gets slower slows all of them
//! down; the table shows medians over the rounds and ratios. After the servers of a round comes the echo floor under
//! the same load, with the request and reply sizes that were just seen: what a server costs above it is its *own
//! cost*.
//!
//! With `--forward` each server that has shards runs with one of them and with several, through its ordinary port
//! (where random keys must be forwarded between cores) and through a port per shard (where none need be).

mod report;
mod subscribers;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::cluster::SlotMap;
use crate::cmd_floor;
use crate::cpus::{CpuArgs, Split};
use crate::data::{self, Data, DataArgs};
use crate::floor::Kind;
use crate::load::{self, Bound, Plan, Report};
use crate::output::OutputArgs;
use crate::peers::{self, Peer, PeerArgs, Server, Setup};
use crate::table::{median, number, rate};
use crate::template::Mix;
use crate::workload::{self, Workload};
use subscribers::Subscribers;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Named workloads (`ringwood-bench workloads` lists them)
    #[arg(short, long, value_delimiter = ',', default_value = "get,set")]
    workload: Vec<String>,
    /// Pipeline depths
    #[arg(short = 'P', long, value_delimiter = ',', default_values_t = [1, 16, 100])]
    pipeline: Vec<usize>,
    #[command(flatten)]
    peers: PeerArgs,
    /// Threads of servers that have them
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// Compare one shard with --shards of them (2 unless given), through the ordinary port and through shard ports
    #[arg(long)]
    forward: bool,
    #[command(flatten)]
    data: DataArgs,
    #[arg(short, long, default_value_t = 50)]
    connections: usize,
    #[arg(short, long, default_value_t = 3)]
    rounds: usize,
    /// Measured time of each run
    #[arg(short, long, default_value_t = 2.0)]
    seconds: f64,
    /// Load threads [default: one per load CPU]
    #[arg(short, long)]
    threads: Option<usize>,
    #[command(flatten)]
    cpus: CpuArgs,
    /// Leave the floor out (and own costs with it)
    #[arg(long)]
    no_floor: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Through which port the load comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Face {
    Ordinary,
    ShardPorts,
}

/// A server in one of the ways in which it is measured.
#[derive(Debug, Clone)]
struct Variant {
    peer: Peer,
    shards: usize,
    face: Face,
    split: Split,
}

impl Variant {
    fn name(&self, with_shards: bool) -> String {
        match (with_shards && self.peer.takes_shards(), self.face) {
            (false, _) => self.peer.title.to_string(),
            (true, Face::Ordinary) if self.shards == 1 => format!("{}, 1 shard", self.peer.title),
            (true, Face::Ordinary) => format!("{}, {} shards", self.peer.title, self.shards),
            (true, Face::ShardPorts) => format!("{}, {} shard ports", self.peer.title, self.shards),
        }
    }
}

/// One run's figures.
#[derive(Debug, Clone, Serialize)]
struct Run {
    round: usize,
    /// The variant's name, or that of the floor.
    server: String,
    version: String,
    workload: String,
    pipeline: usize,
    requests: u64,
    requests_per_second: f64,
    cpu_us: Option<f64>,
    /// Share of the run in which the server wanted a CPU that something else had.
    waited: Option<f64>,
    switches_per_request: Option<f64>,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    errors: u64,
    last_error: Option<String>,
    reply_bytes: f64,
    request_bytes: f64,
}

impl Run {
    fn new(
        round: usize,
        server: &str,
        version: &str,
        workload: &str,
        pipeline: usize,
        report: &Report,
    ) -> Run {
        let requests = report.requests.max(1) as f64;
        Run {
            round,
            server: server.to_string(),
            version: version.to_string(),
            workload: workload.to_string(),
            pipeline,
            requests: report.requests,
            requests_per_second: report.per_second(),
            cpu_us: report.cpu_us(),
            waited: report
                .usage
                .map(|u| u.wait_ns as f64 / 1e9 / report.seconds),
            switches_per_request: report
                .usage
                .map(|u| (u.voluntary_switches + u.involuntary_switches) as f64 / requests),
            p50_us: report.latency_us(50.0),
            p99_us: report.latency_us(99.0),
            p999_us: report.latency_us(99.9),
            errors: report.errors + report.moved,
            last_error: report.last_error.clone(),
            reply_bytes: report.bytes_in as f64 / requests,
            request_bytes: report.bytes_out as f64 / requests,
        }
    }
}

const FLOOR: &str = "echo floor";

pub fn run(args: &Args) -> Result<()> {
    let data = args.data.check()?;
    if args.rounds == 0 || args.shards == 0 {
        bail!("--rounds and --shards must be at least 1");
    }
    let workloads: Vec<Workload> = args
        .workload
        .iter()
        .map(|w| workload::find(w))
        .collect::<Result<_>>()?;
    let variants = variants(args)?;
    let mut runs = Vec::new();
    for round in 1..=args.rounds {
        for variant in &variants {
            measure_server(args, &data, &workloads, variant, round, &mut runs)?;
        }
        if !args.no_floor {
            measure_floor(args, &data, &workloads, round, &mut runs)?;
        }
    }
    report::finish(args, &workloads, &variants, &runs)
}

fn variants(args: &Args) -> Result<Vec<Variant>> {
    let many = if args.forward {
        args.shards.max(2)
    } else {
        args.shards
    };
    let mut variants = Vec::new();
    for peer in peers::find(&args.peers)? {
        let mut add = |shards, face| -> Result<()> {
            variants.push(Variant {
                peer: peer.clone(),
                shards,
                face,
                split: args.cpus.split(shards)?,
            });
            Ok(())
        };
        match (args.forward, peer.takes_shards()) {
            (_, false) => add(1, Face::Ordinary)?,
            (false, true) => add(many, Face::Ordinary)?,
            (true, true) => {
                add(1, Face::Ordinary)?;
                add(many, Face::Ordinary)?;
                if peer.takes_shard_ports() {
                    add(many, Face::ShardPorts)?;
                }
            }
        }
    }
    Ok(variants)
}

fn base_plan(args: &Args, data: &Data, split: &Split) -> Result<Plan> {
    Ok(Plan {
        targets: Vec::new(),
        owners: None,
        greeting: Default::default(),
        threads: args.threads.unwrap_or(split.load.len()),
        connections: args.connections,
        pipeline: 1,
        mix: Mix::one(data.template("PING")?),
        keys: data.random_keys(),
        rate: None,
        warmup: Duration::from_millis(300),
        bound: Bound::Time(Duration::try_from_secs_f64(args.seconds)?),
        cpus: split.load.clone(),
        pid: None,
        progress: false,
    })
}

/// All workloads and pipelines on one server.
fn measure_server(
    args: &Args,
    data: &Data,
    workloads: &[Workload],
    variant: &Variant,
    round: usize,
    runs: &mut Vec<Run>,
) -> Result<()> {
    let name = variant.name(args.forward);
    let cpus = variant.split.server.clone();
    let setup = Setup {
        shard_ports: variant.face == Face::ShardPorts,
        ..Setup::new(args.peers.base_port, cpus, variant.shards)
    };
    let mut server = Server::start(&variant.peer, &setup)?;
    let mut plan = base_plan(args, data, &variant.split)?;
    plan.targets = vec![server.target.clone()];
    plan.pid = Some(server.pid);
    if variant.face == Face::ShardPorts {
        let slots = match SlotMap::fetch(&mut server.client()?) {
            Ok(slots) => slots,
            Err(e) => {
                eprintln!("left out: {name} ({e:#})");
                return Ok(());
            }
        };
        plan.owners = Some(data.owners(&slots)?);
        plan.targets = slots.nodes;
    }
    for workload in workloads {
        plan.mix = Mix::one(data.template(workload.command)?);
        if plan.targets.len() > 1 && plan.mix.templates().iter().any(|t| t.keys != 1) {
            continue;
        }
        for (index, &pipeline) in args.pipeline.iter().enumerate() {
            let bound = bound(workload, pipeline, plan.bound.clone());
            let requests = if let Bound::Requests(n) = bound { n } else { 0 };
            let outcome = (|| {
                // What a run uses up or lets grow is made anew for each; the rest once.
                if index == 0 || workload.most.is_some() {
                    data::flush(&plan.targets, &plan.greeting)?;
                    data.preload(workload, requests, &plan)?;
                }
                let listening = Subscribers::start(&server.target, workload.subscribers)?;
                let report = load::run(&Plan {
                    pipeline,
                    bound,
                    ..plan.clone()
                })?;
                listening.finish()?;
                Ok(report)
            })();
            let report = outcome.map_err(|e| server.explain(e))?;
            let run = Run::new(
                round,
                &name,
                &server.version,
                workload.name,
                pipeline,
                &report,
            );
            progress(&run, args.rounds);
            runs.push(run);
        }
    }
    Ok(())
}

/// Fewer requests where each takes longer, so that a bounded run lasts about as long as the others.
fn bound(workload: &Workload, pipeline: usize, otherwise: Bound) -> Bound {
    match workload.most {
        Some(most) if pipeline < 8 => Bound::Requests(most / 5),
        Some(most) => Bound::Requests(most),
        None => otherwise,
    }
}

/// The floor under the loads that the servers of this round have just seen.
fn measure_floor(
    args: &Args,
    data: &Data,
    workloads: &[Workload],
    round: usize,
    runs: &mut Vec<Run>,
) -> Result<()> {
    let split = args.cpus.split(1)?;
    let plan = base_plan(args, data, &split)?;
    let setup = Setup::new(args.peers.base_port, split.server, 1);
    let mut known: HashMap<(usize, usize, usize), Report> = HashMap::new();
    for workload in workloads {
        let mix = Mix::one(data.template(workload.command)?);
        for &pipeline in &args.pipeline {
            let seen = runs
                .iter()
                .filter(|r| r.workload == workload.name && r.pipeline == pipeline);
            let Some(reply) = median(seen.filter(|r| r.errors == 0).map(|r| r.reply_bytes)) else {
                continue;
            };
            // What a workload writes per request is one request to the floor, however many commands it holds.
            let reply = (reply.round() as usize).max(4);
            let request = mix.request_len().unwrap_or(0);
            let report = match known.get(&(request, reply, pipeline)) {
                Some(report) => report.clone(),
                None => {
                    let plan = Plan {
                        pipeline,
                        mix: mix.clone().into_one_command(),
                        ..plan.clone()
                    };
                    let report = cmd_floor::measure(Kind::Raw, reply, &setup, &plan)?;
                    known.insert((request, reply, pipeline), report.clone());
                    report
                }
            };
            let run = Run::new(
                round,
                FLOOR,
                "raw io_uring",
                workload.name,
                pipeline,
                &report,
            );
            progress(&run, args.rounds);
            runs.push(run);
        }
    }
    Ok(())
}

fn progress(run: &Run, rounds: usize) {
    let cpu = run.cpu_us.map_or("?".to_string(), number);
    let errors = match (&run.last_error, run.errors) {
        (Some(error), n) if n > 0 => format!(", {n} errors ({error})"),
        _ => String::new(),
    };
    eprintln!(
        "round {}/{rounds}: {}, {} pipeline {}: {cpu} us/op, {}/s{errors}",
        run.round,
        run.server,
        run.workload,
        run.pipeline,
        rate(run.requests_per_second),
    );
}
