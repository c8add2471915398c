//! `ringwood-bench load`: load on a server that already runs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::json;

use crate::cluster::SlotMap;
use crate::conn::{Client, Greeting, Target};
use crate::data::{self, Data, DataArgs};
use crate::load::{self, Bound, Plan, Report};
use crate::table::{Table, known, number, rate};
use crate::template::Mix;
use crate::workload::{self, Workload};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    #[arg(short, long, default_value_t = 6379)]
    port: u16,
    /// Connect to this unix socket instead
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "port"])]
    unix_socket: Option<PathBuf>,
    #[arg(long)]
    user: Option<String>,
    #[arg(long)]
    password: Option<String>,
    /// Database number
    #[arg(long, default_value_t = 0)]
    database: u32,
    /// Speak RESP3
    #[arg(long)]
    resp3: bool,
    /// Ask for CLUSTER SLOTS and send every key to its owner
    #[arg(long)]
    cluster: bool,

    /// Named workloads to run one after the other (`ringwood-bench workloads` lists them)
    #[arg(short, long, value_delimiter = ',', default_value = "get", conflicts_with_all = ["command", "reads"])]
    workload: Vec<String>,
    /// A command of your own, such as "SET __key__ __data__"; given several times: an equal mix
    #[arg(long, conflicts_with = "reads")]
    command: Vec<String>,
    /// A mix of GET and SET with this share of reads, 0 to 1
    #[arg(long, value_name = "SHARE")]
    reads: Option<f64>,
    /// With --reads: the share of commands that are MGET or MSET instead
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, requires = "reads")]
    multi_share: f64,
    /// Keys of each such MGET or MSET
    #[arg(long, default_value_t = 10)]
    multi_keys: usize,
    #[command(flatten)]
    data: DataArgs,

    #[arg(short, long, default_value_t = 50)]
    connections: usize,
    #[arg(short, long, default_value_t = 1)]
    threads: usize,
    /// Requests that a connection sends before it waits for their replies
    #[arg(short = 'P', long, default_value_t = 1)]
    pipeline: usize,
    /// Open loop: this many requests per second in all, latency counted from when each was due
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Measured time of a run
    #[arg(short, long, default_value_t = 5.0)]
    seconds: f64,
    /// Time before the measured time
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Stop after this many requests instead, without warm-up
    #[arg(short = 'n', long)]
    requests: Option<u64>,
    /// CPUs for the load's threads, such as 2,3
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<usize>,

    /// FLUSHALL first
    #[arg(long)]
    flush: bool,
    /// Leave out what a workload would load first
    #[arg(long)]
    no_preload: bool,
    /// The server's process, to show its CPU time [default: asked of a server on this machine]
    #[arg(long)]
    pid: Option<u32>,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
    /// No progress on standard error
    #[arg(short, long)]
    quiet: bool,
}

/// Something to run: a name, what to load, what to send.
struct Job {
    name: String,
    workload: Option<Workload>,
    mix: Mix,
}

pub fn run(args: &Args) -> Result<()> {
    let data = args.data.check()?;
    let plan = plan(args, &data)?;
    let mut results = Vec::new();
    for job in jobs(args, &data)? {
        if args.flush {
            data::flush(&plan.targets, &plan.greeting)?;
        }
        let mut bound = plan.bound.clone();
        if let (Some(most), Bound::Time(_)) = (job.workload.and_then(|w| w.most), &bound) {
            bound = Bound::Requests(most);
        }
        let requests = if let Bound::Requests(n) = bound { n } else { 0 };
        match &job.workload {
            Some(workload) if !args.no_preload => data.preload(workload, requests, &plan)?,
            _ => {}
        }
        if !args.quiet {
            eprintln!("{}", job.name);
        }
        let report = load::run(&Plan {
            mix: job.mix,
            bound,
            ..plan.clone()
        })?;
        results.push((job.name, report));
    }
    if args.json {
        let runs: Vec<_> = results
            .iter()
            .map(|(name, report)| to_json(name, report))
            .collect();
        println!(
            "{}",
            serde_json::to_string_pretty(&json!({ "data": args.data, "runs": runs }))?
        );
    } else {
        print!("{}", table(&results));
        for (name, report) in results.iter().filter(|(_, r)| r.errors + r.moved > 0) {
            println!(
                "{name}: {} errors, {} redirections; the last: {}",
                report.errors,
                report.moved,
                report.last_error.as_deref().unwrap_or("unknown")
            );
        }
    }
    Ok(())
}

fn plan(args: &Args, data: &Data) -> Result<Plan> {
    let seconds = |s: f64| Duration::try_from_secs_f64(s).map_err(anyhow::Error::from);
    let greeting = Greeting {
        resp3: args.resp3,
        user: args.user.clone(),
        password: args.password.clone(),
        database: args.database,
    };
    let target = match &args.unix_socket {
        Some(path) => Target::Unix(path.clone()),
        None => Target::resolve(&args.host, args.port)?,
    };
    let mut client = Client::connect(&target, &greeting, data::PATIENCE)?;
    let mut targets = vec![target];
    let mut owners = None;
    if args.cluster {
        let slots = SlotMap::fetch(&mut client)?;
        owners = Some(data.owners(&slots)?);
        targets = slots.nodes;
    }
    Ok(Plan {
        pid: args.pid.or_else(|| local_pid(&mut client)),
        targets,
        owners,
        greeting,
        threads: args.threads,
        connections: args.connections,
        pipeline: args.pipeline,
        mix: Mix::one(data.template("PING")?),
        keys: data.random_keys(),
        rate: args.rate,
        warmup: seconds(args.warmup)?,
        bound: match args.requests {
            Some(n) => Bound::Requests(n),
            None => Bound::Time(seconds(args.seconds)?),
        },
        cpus: args.cpus.clone(),
        progress: !args.quiet,
    })
}

/// The server's process, if it runs here: its own word, checked against what listens in `/proc`.
fn local_pid(client: &mut Client) -> Option<u32> {
    let local = match client.target() {
        Target::Tcp(addr) => addr.ip().is_loopback(),
        Target::Unix(_) => true,
    };
    let pid = client.info("server", "process_id").ok()??.parse().ok()?;
    (local && crate::proc::usage(pid).is_ok()).then_some(pid)
}

fn jobs(args: &Args, data: &Data) -> Result<Vec<Job>> {
    if let Some(reads) = args.reads {
        return Ok(vec![read_write_mix(args, data, reads)?]);
    }
    if !args.command.is_empty() {
        let parts: Vec<_> = args
            .command
            .iter()
            .map(|c| Ok((data.template(c)?, 1.0)))
            .collect::<Result<_>>()?;
        let job = Job {
            name: args.command.join(" | "),
            workload: None,
            mix: Mix::weighted(parts)?,
        };
        return Ok(vec![job]);
    }
    let job = |name: &String| {
        let workload = workload::find(name)?;
        let mix = Mix::one(data.template(workload.command)?);
        Ok(Job {
            name: name.clone(),
            workload: Some(workload),
            mix,
        })
    };
    args.workload.iter().map(job).collect()
}

fn read_write_mix(args: &Args, data: &Data, reads: f64) -> Result<Job> {
    let share = |name: &str, value: f64| {
        if (0.0..=1.0).contains(&value) {
            Ok(value)
        } else {
            bail!("{name} must be between 0 and 1, not {value}")
        }
    };
    let (reads, multi) = (
        share("--reads", reads)?,
        share("--multi-share", args.multi_share)?,
    );
    if args.multi_keys == 0 {
        bail!("--multi-keys must be at least 1");
    }
    let mget = format!("MGET{}", " __key__".repeat(args.multi_keys));
    let mset = format!("MSET{}", " __key__ __data__".repeat(args.multi_keys));
    let parts = [
        ("GET __key__", reads * (1.0 - multi)),
        ("SET __key__ __data__", (1.0 - reads) * (1.0 - multi)),
        (mget.as_str(), reads * multi),
        (mset.as_str(), (1.0 - reads) * multi),
    ];
    let parts = parts
        .iter()
        .map(|(text, weight)| Ok((data.template(text)?, *weight)))
        .collect::<Result<_>>()?;
    Ok(Job {
        name: format!(
            "{:.0}% reads, {:.0}% multi-key",
            reads * 100.0,
            multi * 100.0
        ),
        workload: Some(workload::find("get")?),
        mix: Mix::weighted(parts)?,
    })
}

fn table(results: &[(String, Report)]) -> Table {
    let mut table = Table::new(&[
        "workload",
        "requests/s",
        "server CPU us/op",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "max us",
        "errors",
    ]);
    for (name, r) in results {
        table.row([
            name.clone(),
            rate(r.per_second()),
            known(r.cpu_us()),
            number(r.latency_us(50.0)),
            number(r.latency_us(99.0)),
            number(r.latency_us(99.9)),
            number(r.latency.max() as f64 / 1000.0),
            (r.errors + r.moved).to_string(),
        ]);
    }
    table
}

fn to_json(name: &str, r: &Report) -> serde_json::Value {
    json!({
        "workload": name,
        "requests": r.requests,
        "seconds": r.seconds,
        "requests_per_second": r.per_second(),
        "server_cpu_us_per_request": r.cpu_us(),
        "server": r.usage,
        "latency_us": {
            "min": r.latency.min() as f64 / 1000.0,
            "mean": r.latency.mean() / 1000.0,
            "p50": r.latency_us(50.0),
            "p90": r.latency_us(90.0),
            "p99": r.latency_us(99.0),
            "p99.9": r.latency_us(99.9),
            "p99.99": r.latency_us(99.99),
            "max": r.latency.max() as f64 / 1000.0,
        },
        "errors": r.errors,
        "redirections": r.moved,
        "last_error": r.last_error,
        "bytes_in": r.bytes_in,
        "bytes_out": r.bytes_out,
    })
}
