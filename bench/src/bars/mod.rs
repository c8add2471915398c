//! `ringwood-bench bars`: the commands of all data types, by the size of the collections, beside the best peer.
//!
//! For every family of commands and every size each server is started anew, filled and asked, one after the other; behind
//! them comes the echo floor with the requests and replies of the same sizes. The table says for every command what the
//! goals ask for: own cost (CPU per request above the floor) or CPU in all, to the best peer's, and whether that is reached.
//! A goal that nothing is set for is 1: no command may be slower than the best peer.

mod cases;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::json;

use self::cases::{Bar, Case, FAMILIES, Family, Run};
use crate::cmd_floor;
use crate::cpus::CpuArgs;
use crate::data::{Data, DataArgs};
use crate::floor::Kind;
use crate::load::{self, Bound, Plan};
use crate::output::{Output, OutputArgs};
use crate::peers::{self, Peer, PeerArgs, Server, Setup};
use crate::table::{Table, median, number};
use crate::template::Mix;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only families or commands whose name holds one of these words [default: all]
    #[arg(short, long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these sizes of collections: 10, 1000, 100000, 1000000
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<u64>,
    #[arg(short = 'P', long, default_value_t = 16)]
    pipeline: usize,
    #[command(flatten)]
    peers: PeerArgs,
    #[arg(short, long, default_value_t = 50)]
    connections: usize,
    #[arg(short, long, default_value_t = 1)]
    rounds: usize,
    /// Measured time of a run that is not bounded otherwise
    #[arg(short, long, default_value_t = 0.4)]
    seconds: f64,
    #[command(flatten)]
    cpus: CpuArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// One run's figures.
#[derive(Debug, Clone, Serialize)]
struct Row {
    round: usize,
    family: &'static str,
    command: &'static str,
    size: u64,
    server: String,
    cpu_us: f64,
    requests: u64,
    errors: u64,
    reply_bytes: f64,
}

const FLOOR: &str = "echo floor";

/// Floors by sizes of request and reply, and by how the load comes.
type Floors = HashMap<(usize, usize, usize, usize), f64>;

struct Bench<'a> {
    args: &'a Args,
    data: Data,
    peers: Vec<Peer>,
    plan: Plan,
    setup: Setup,
}

pub fn run(args: &Args) -> Result<()> {
    let data = DataArgs {
        keys: 1_000_000,
        key_size: 11,
        key_prefix: None,
        value_size: 64,
        zipf: None,
    };
    let data = data.check()?;
    let split = args.cpus.split(1)?;
    let bench = Bench {
        args,
        peers: peers::find(&args.peers)?,
        plan: Plan {
            targets: Vec::new(),
            owners: None,
            greeting: Default::default(),
            threads: split.load.len(),
            connections: args.connections,
            pipeline: args.pipeline,
            mix: Mix::one(data.template("PING")?),
            keys: data.random_keys(),
            rate: None,
            warmup: Duration::from_millis(100),
            bound: Bound::Time(Duration::try_from_secs_f64(args.seconds)?),
            cpus: split.load,
            pid: None,
            progress: false,
        },
        setup: Setup::new(args.peers.base_port, split.server, 1),
        data,
    };
    let mut rows = Vec::new();
    let mut chosen = Vec::new();
    for family in FAMILIES {
        for &size in family.sizes {
            let members = 10u64.pow(size);
            if !args.sizes.is_empty() && !args.sizes.contains(&members) {
                continue;
            }
            let cases: Vec<&Case> = family
                .cases
                .iter()
                .filter(|c| c.sizes.is_empty() || c.sizes.contains(&size))
                .filter(|c| is_wanted(args, family, c))
                .collect();
            if cases.is_empty() {
                continue;
            }
            let mut floors = Floors::new();
            for round in 1..=args.rounds {
                for peer in &bench.peers {
                    bench.server(family, size, &cases, round, peer, &mut rows)?;
                }
                bench.floor(family, size, &cases, round, &mut floors, &mut rows)?;
                floors.clear();
            }
            chosen.extend(cases.into_iter().map(|case| (family, case, members)));
        }
    }
    if chosen.is_empty() {
        bail!("nothing is called that; `--only` takes words of the table's first column");
    }
    report(&bench, &chosen, &rows)
}

fn is_wanted(args: &Args, family: &Family, case: &Case) -> bool {
    let holds = |text: &str, word: &String| text.to_lowercase().contains(&word.to_lowercase());
    args.only.is_empty()
        || args
            .only
            .iter()
            .any(|word| family.name == word || holds(case.name, word))
}

impl Bench<'_> {
    /// How a command's load comes: what reads whole large collections would otherwise ask for gigabytes at once.
    fn load(&self, case: &Case, family: &Family, size: u32, text: &str) -> Result<Plan> {
        let mut plan = Plan {
            mix: Mix::one(self.data.template(text)?),
            ..self.plan.clone()
        };
        match case.run {
            Run::Timed => {}
            Run::Changes(thousandths) => {
                plan.bound = Bound::Requests(10u64.pow(family.digits) / 1000 * thousandths);
            }
            Run::Whole(millions) => {
                let requests = millions * 1_000_000 / 10u64.pow(size);
                plan.bound = Bound::Requests(requests.clamp(8, 200_000));
                if size >= 3 {
                    plan.connections = plan.connections.min(8);
                }
                if size >= 5 {
                    (plan.connections, plan.pipeline) = (1, 1);
                }
            }
        }
        Ok(plan)
    }

    fn server(
        &self,
        family: &'static Family,
        size: u32,
        cases: &[&'static Case],
        round: usize,
        peer: &Peer,
        rows: &mut Vec<Row>,
    ) -> Result<()> {
        let mut server: Option<Server> = None;
        for case in cases {
            if case.fresh || server.is_none() {
                // The old one ends before the new one takes its port.
                drop(server.take());
                server = Some(self.filled(family, size, peer)?);
            }
            let Some(server) = &mut server else { continue };
            let text = cases::expand(case.command, family.digits, size);
            let plan = Plan {
                targets: vec![server.target.clone()],
                pid: Some(server.pid),
                ..self.load(case, family, size, &text)?
            };
            let report = load::run(&plan).map_err(|e| server.explain(e))?;
            let cpu_us = report.cpu_us().unwrap_or_default();
            let row = Row {
                round,
                family: family.name,
                command: case.name,
                size: 10u64.pow(size),
                server: peer.title.to_string(),
                cpu_us,
                requests: report.requests,
                errors: report.errors,
                reply_bytes: report.bytes_in as f64 / report.requests.max(1) as f64,
            };
            if row.errors > 0 {
                bail!(
                    "{}: {text}: {} of {} requests failed: {}",
                    peer.title,
                    row.errors,
                    row.requests,
                    report.last_error.unwrap_or_default()
                );
            }
            eprintln!(
                "{} of {}: {}, {} us",
                row.command,
                row.size,
                row.server,
                number(cpu_us)
            );
            rows.push(row);
        }
        Ok(())
    }

    /// A server with the family's world in it.
    fn filled(&self, family: &Family, size: u32, peer: &Peer) -> Result<Server> {
        let mut server = Server::start(peer, &self.setup)?;
        let text = cases::expand(family.fill, family.digits, size);
        let plan = Plan {
            targets: vec![server.target.clone()],
            ..self.plan.clone()
        };
        self.data
            .fill(&self.data.template(&text)?, 10u64.pow(family.digits), &plan)
            .map_err(|e| server.explain(e))?;
        Ok(server)
    }

    fn floor(
        &self,
        family: &'static Family,
        size: u32,
        cases: &[&'static Case],
        round: usize,
        known: &mut Floors,
        rows: &mut Vec<Row>,
    ) -> Result<()> {
        for case in cases {
            let members = 10u64.pow(size);
            let reply = median(
                rows.iter()
                    .filter(|r| (r.family, r.command) == (family.name, case.name))
                    .filter(|r| r.size == members && r.server != FLOOR)
                    .map(|r| r.reply_bytes),
            );
            let reply = (reply.unwrap_or_default().round() as usize).max(4);
            let text = cases::expand(case.command, family.digits, size);
            let plan = self.load(case, family, size, &text)?;
            let request = plan.mix.request_len().unwrap_or_default();
            // Floors of nearly the same sizes are one.
            let key = (
                request / 8,
                ((reply as f64).ln() * 16.0) as usize,
                plan.pipeline,
                plan.connections,
            );
            let cpu_us = match known.get(&key) {
                Some(cpu_us) => *cpu_us,
                None => {
                    let plan = Plan {
                        mix: plan.mix.clone().into_one_command(),
                        bound: self.plan.bound.clone(),
                        ..plan
                    };
                    let report = cmd_floor::measure(Kind::Raw, reply, &self.setup, &plan)?;
                    let cpu_us = report.cpu_us().unwrap_or_default();
                    known.insert(key, cpu_us);
                    cpu_us
                }
            };
            rows.push(Row {
                round,
                family: family.name,
                command: case.name,
                size: members,
                server: FLOOR.to_string(),
                cpu_us,
                requests: 0,
                errors: 0,
                reply_bytes: reply as f64,
            });
        }
        Ok(())
    }
}

fn report(bench: &Bench<'_>, chosen: &[(&Family, &Case, u64)], rows: &[Row]) -> Result<()> {
    let mut output = Output::new("bars", &bench.args.output);
    output.note(format!(
        "us of server CPU per request (a request of several commands is one), one shard, pipeline {}, {} connections, \
         median of {} rounds. Worlds of a million members (two sets, two sorted sets, sorting: 100,000), in as many \
         collections as the size makes. What reads whole collections of 1,000 comes from 8 connections, of 100,000 and more \
         from one, without pipelining. Own: above the echo floor. `own` and `all` are to the best peer's.",
        bench.args.pipeline, bench.args.connections, bench.args.rounds
    ));
    let mut header = vec!["command".to_string(), "size".to_string()];
    header.extend(bench.peers.iter().map(|p| p.title.to_string()));
    header.extend(["floor", "own", "all", "goal", ""].map(str::to_string));
    let mut table = Table::new(&header);
    let (mut missed, mut slower) = (0, 0);
    for (family, case, size) in chosen {
        let of = |server: &str| {
            median(
                rows.iter()
                    .filter(|r| (r.family, r.command) == (family.name, case.name))
                    .filter(|r| r.size == *size && r.server == server)
                    .map(|r| r.cpu_us),
            )
        };
        let ringwood = bench
            .peers
            .iter()
            .find(|p| p.is_ringwood())
            .and_then(|p| of(p.title));
        let best = bench
            .peers
            .iter()
            .filter(|p| !p.is_ringwood())
            .filter_map(|p| of(p.title))
            .min_by(f64::total_cmp);
        let floor = of(FLOOR).unwrap_or_default();
        let mut cells = vec![format!("{}: {}", family.name, case.name), size.to_string()];
        let show = |v: Option<f64>| v.map_or("?".to_string(), number);
        cells.extend(bench.peers.iter().map(|p| show(of(p.title))));
        cells.push(number(floor));
        let (own, all) = match (ringwood, best) {
            (Some(r), Some(b)) => ((r - floor) / (b - floor).max(0.001), r / b),
            _ => (f64::NAN, f64::NAN),
        };
        let (goal, is_met) = match case.bar {
            Bar::Own(most) => (format!("own {most}"), own <= most && all <= 1.0),
            Bar::All(most) => (format!("all {most}"), all <= most),
            Bar::NotSlower => ("all 1".to_string(), all <= 1.0),
        };
        let verdict = match (is_met, all > 1.0) {
            _ if all.is_nan() => "",
            (true, _) => "met",
            (false, true) => "slower",
            (false, false) => "missed",
        };
        missed += usize::from(verdict == "missed");
        slower += usize::from(verdict == "slower");
        cells.extend([
            format!("{own:.2}"),
            format!("{all:.2}"),
            goal,
            verdict.to_string(),
        ]);
        table.row(cells);
    }
    output.table("", &table);
    output.note(format!(
        "\n{} lines; {missed} goals missed by commands that are faster than the best peer, {slower} commands slower than it.",
        chosen.len()
    ));
    output.finish(json!({ "rows": rows, "pipeline": bench.args.pipeline }))
}
