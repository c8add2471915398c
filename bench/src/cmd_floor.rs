//! `ringwood-bench floor`: what receiving and answering alone costs, on each foundation.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::cpus::CpuArgs;
use crate::data::DataArgs;
use crate::floor::Kind;
use crate::load::{self, Bound, Plan, Report};
use crate::output::{Output, OutputArgs};
use crate::peers::{Server, Setup};
use crate::table::{Table, known, median, number, rate};
use crate::template::Mix;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Foundations to measure [default: all that this build has]
    #[arg(long, value_enum, value_delimiter = ',')]
    kind: Vec<Kind>,
    /// Pipeline depths
    #[arg(short = 'P', long, value_delimiter = ',', default_values_t = [1, 16, 100])]
    pipeline: Vec<usize>,
    /// The request, as for `load`
    #[arg(long, default_value = "GET __key__")]
    command: String,
    /// Bytes of a reply [default: those of a value as a bulk string]
    #[arg(long)]
    reply_size: Option<usize>,
    #[command(flatten)]
    data: DataArgs,
    #[arg(short, long, default_value_t = 50)]
    connections: usize,
    #[arg(short, long, default_value_t = 3)]
    rounds: usize,
    /// Measured time of each run
    #[arg(short, long, default_value_t = 2.0)]
    seconds: f64,
    #[arg(long, default_value_t = 22000)]
    base_port: u16,
    #[command(flatten)]
    cpus: CpuArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// A floor under one load: a process for the length of the run.
pub fn measure(kind: Kind, reply_size: usize, setup: &Setup, plan: &Plan) -> Result<Report> {
    let mut server = Server::start_floor(kind, reply_size, plan.mix.request_len(), setup)?;
    let plan = Plan {
        targets: vec![server.target.clone()],
        owners: None,
        pid: Some(server.pid),
        ..plan.clone()
    };
    load::run(&plan).map_err(|e| server.explain(e))
}

pub fn run(args: &Args) -> Result<()> {
    let data = args.data.check()?;
    let split = args.cpus.split(1)?;
    let kinds = if args.kind.is_empty() {
        Kind::available()
    } else {
        args.kind.clone()
    };
    let value_reply = data.value_size + data.value_size.to_string().len() + 5;
    let reply_size = args.reply_size.unwrap_or(value_reply);
    let setup = Setup::new(args.base_port, split.server, 1);
    let plan = Plan {
        targets: Vec::new(),
        owners: None,
        greeting: Default::default(),
        threads: split.load.len(),
        connections: args.connections,
        pipeline: 1,
        mix: Mix::one(data.template(&args.command)?),
        keys: data.random_keys(),
        rate: None,
        warmup: Duration::from_millis(300),
        bound: Bound::Time(Duration::try_from_secs_f64(args.seconds)?),
        cpus: split.load,
        pid: None,
        progress: false,
    };
    let mut results = Vec::new();
    for round in 1..=args.rounds {
        for &kind in &kinds {
            for &pipeline in &args.pipeline {
                let report = measure(
                    kind,
                    reply_size,
                    &setup,
                    &Plan {
                        pipeline,
                        ..plan.clone()
                    },
                )?;
                let cpu = known(report.cpu_us());
                eprintln!(
                    "round {round}: {}, pipeline {pipeline}: {cpu} us/op",
                    kind.name()
                );
                results.push((kind, pipeline, report));
            }
        }
    }
    let mut table = Table::new(&[
        "floor",
        "pipeline",
        "CPU us/op",
        "requests/s",
        "p50 us",
        "p99 us",
    ]);
    let mut rows = Vec::new();
    for &kind in &kinds {
        for &pipeline in &args.pipeline {
            let of = |f: &dyn Fn(&Report) -> Option<f64>| {
                median(
                    results
                        .iter()
                        .filter(|r| r.0 == kind && r.1 == pipeline)
                        .filter_map(|r| f(&r.2)),
                )
            };
            let show =
                |value: Option<f64>, write: fn(f64) -> String| value.map_or("?".to_string(), write);
            let (cpu, per_second) = (of(&|r| r.cpu_us()), of(&|r| Some(r.per_second())));
            let (p50, p99) = (
                of(&|r| Some(r.latency_us(50.0))),
                of(&|r| Some(r.latency_us(99.0))),
            );
            table.row([
                kind.name().to_string(),
                pipeline.to_string(),
                show(cpu, number),
                show(per_second, rate),
                show(p50, number),
                show(p99, number),
            ]);
            rows.push(json!({
                "floor": kind.name(), "pipeline": pipeline, "cpu_us_per_request": cpu,
                "requests_per_second": per_second, "p50_us": p50, "p99_us": p99,
            }));
        }
    }
    let mut output = Output::new("floor", &args.output);
    output.note(format!(
        "Replies of {reply_size} bytes, {} connections, median of {} rounds.",
        args.connections, args.rounds
    ));
    output.table("", &table);
    output.finish(
        json!({ "reply_size": reply_size, "connections": args.connections, "floors": rows }),
    )
}
