//! What `compare` prints: an overview of CPU per operation, then a table per workload and pipeline, then the ratios
//! that Ringwood's goals are stated in.

use anyhow::Result;
use serde_json::json;

use super::{Args, FLOOR, Face, Run, Variant};
use crate::output::Output;
use crate::table::{Table, median, number, rate, ratio};
use crate::workload::Workload;

/// The medians of one server under one load.
#[derive(Debug, Clone, Default)]
struct Cell {
    cpu: Option<f64>,
    per_second: Option<f64>,
    p50: Option<f64>,
    p99: Option<f64>,
    p999: Option<f64>,
    errors: u64,
    last_error: Option<String>,
}

struct Cells<'a>(&'a [Run]);

impl Cells<'_> {
    fn get(&self, server: &str, workload: &str, pipeline: usize) -> Cell {
        let runs: Vec<&Run> = self
            .0
            .iter()
            .filter(|r| r.server == server && r.workload == workload && r.pipeline == pipeline)
            .collect();
        let of = |f: &dyn Fn(&Run) -> Option<f64>| median(runs.iter().filter_map(|r| f(r)));
        Cell {
            cpu: of(&|r| r.cpu_us),
            per_second: of(&|r| Some(r.requests_per_second)),
            p50: of(&|r| Some(r.p50_us)),
            p99: of(&|r| Some(r.p99_us)),
            p999: of(&|r| Some(r.p999_us)),
            errors: runs.iter().map(|r| r.errors).sum(),
            last_error: runs.iter().find_map(|r| r.last_error.clone()),
        }
    }
}

fn show(value: Option<f64>) -> String {
    value.map_or("?".to_string(), number)
}

fn minus(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.zip(b).map(|(a, b)| a - b)
}

pub fn finish(
    args: &Args,
    workloads: &[Workload],
    variants: &[Variant],
    runs: &[Run],
) -> Result<()> {
    let cells = Cells(runs);
    let mut servers: Vec<String> = variants.iter().map(|v| v.name(args.forward)).collect();
    let base = servers[variants
        .iter()
        .position(|v| v.peer.is_ringwood())
        .unwrap_or(0)]
    .clone();
    if !args.no_floor {
        servers.push(FLOOR.to_string());
    }
    let mut output = Output::new("compare", &args.output);
    output.note(format!(
        "{} keys of {} bytes, values of {} bytes, {} connections, median of {} rounds of {} s. Server CPU time from \
         the process's CPU clock; own cost: CPU per operation above the echo floor of the same load; ratios to {base}.",
        args.data.keys, args.data.key_size, args.data.value_size, args.connections, args.rounds, args.seconds
    ));
    let busiest = runs
        .iter()
        .filter(|r| !shares_cpus(variants, args, &r.server))
        .filter_map(|r| r.waited);
    let busiest = busiest.fold(0.0, f64::max);
    if busiest > 0.02 {
        output.note(format!(
            "The machine was busy: a server waited for its CPU up to {:.0}% of a run. Throughput and latency say \
             little then; CPU time suffers from cold caches.",
            busiest * 100.0
        ));
    }
    output.table(
        "CPU per operation, us",
        &overview(args, workloads, &servers, &cells),
    );
    for workload in workloads {
        for &pipeline in &args.pipeline {
            let table = detail(&servers, &base, workload, pipeline, &cells);
            output.table(&format!("{}, pipeline {pipeline}", workload.name), &table);
        }
    }
    for server in &servers {
        for workload in workloads {
            for &pipeline in &args.pipeline {
                let cell = cells.get(server, workload.name, pipeline);
                if cell.errors > 0 {
                    output.note(format!(
                        "{server}, {} pipeline {pipeline}: {} errors, such as: {}",
                        workload.name,
                        cell.errors,
                        cell.last_error.unwrap_or_default()
                    ));
                }
            }
        }
    }
    let goals = if args.forward {
        scaling(args, workloads, variants, &cells)
    } else {
        own_costs(args, workloads, variants, &cells)
    };
    if let Some((title, table)) = goals {
        output.table(title, &table);
    }
    let programs: Vec<_> =
        variants.iter().map(|v| json!({ "server": v.name(args.forward), "program": v.peer.program(),
            "shards": v.shards, "face": v.face, "server_cpus": v.split.server, "load_cpus": v.split.load })).collect();
    output.finish(json!({
        "data": args.data,
        "connections": args.connections,
        "seconds": args.seconds,
        "servers": programs,
        "runs": runs,
    }))
}

/// Whether a server and its load are on the same CPUs on purpose, where waiting is part of the picture.
fn shares_cpus(variants: &[Variant], args: &Args, server: &str) -> bool {
    let found = variants.iter().find(|v| v.name(args.forward) == server);
    found.is_some_and(|v| v.split.load.iter().any(|c| v.split.server.contains(c)))
}

fn overview(args: &Args, workloads: &[Workload], servers: &[String], cells: &Cells<'_>) -> Table {
    let mut header = vec!["server".to_string()];
    for workload in workloads {
        header.extend(
            args.pipeline
                .iter()
                .map(|p| format!("{} P{p}", workload.name)),
        );
    }
    let mut table = Table::new(&header);
    for server in servers {
        let mut row = vec![server.clone()];
        for workload in workloads {
            for &pipeline in &args.pipeline {
                let cell = cells.get(server, workload.name, pipeline);
                row.push(if cell.errors > 0 {
                    "error".to_string()
                } else {
                    show(cell.cpu)
                });
            }
        }
        table.row(row);
    }
    table
}

fn detail(
    servers: &[String],
    base: &str,
    workload: &Workload,
    pipeline: usize,
    cells: &Cells<'_>,
) -> Table {
    let mut table = Table::new(&[
        "server",
        "CPU us/op",
        "ratio",
        "own us/op",
        "ratio",
        "requests/s",
        "ratio",
        "p50 us",
        "p99 us",
        "p99.9 us",
    ]);
    let floor = cells.get(FLOOR, workload.name, pipeline).cpu;
    let base = cells.get(base, workload.name, pipeline);
    for server in servers {
        let cell = cells.get(server, workload.name, pipeline);
        if cell.cpu.is_none() && cell.per_second.is_none() {
            continue;
        }
        let own = minus(cell.cpu, floor);
        let base_own = minus(base.cpu, floor).filter(|o| *o > 0.0);
        let is_floor = server == FLOOR;
        table.row([
            server.clone(),
            show(cell.cpu),
            ratio(cell.cpu, base.cpu),
            if is_floor { "-".to_string() } else { show(own) },
            if is_floor {
                "-".to_string()
            } else {
                ratio(own, base_own)
            },
            cell.per_second.map_or("?".to_string(), rate),
            ratio(cell.per_second, base.per_second),
            show(cell.p50),
            show(cell.p99),
            show(cell.p999),
        ]);
    }
    table
}

/// Ringwood against the floor and the best peer.
fn own_costs(
    args: &Args,
    workloads: &[Workload],
    variants: &[Variant],
    cells: &Cells<'_>,
) -> Option<(&'static str, Table)> {
    let ringwood = variants.iter().find(|v| v.peer.is_ringwood())?.name(false);
    let peers: Vec<String> = variants
        .iter()
        .filter(|v| !v.peer.is_ringwood())
        .map(|v| v.name(false))
        .collect();
    let mut table = Table::new(&[
        "Ringwood",
        "CPU us/op",
        "to the floor",
        "own us/op",
        "best peer's own",
        "own to the best's",
        "CPU to the best's",
        "best peer",
    ]);
    for workload in workloads {
        for &pipeline in &args.pipeline {
            let floor = cells.get(FLOOR, workload.name, pipeline).cpu;
            let cpu = cells.get(&ringwood, workload.name, pipeline).cpu;
            let best = peers
                .iter()
                .map(|p| (p, cells.get(p, workload.name, pipeline)))
                .filter(|(_, cell)| cell.errors == 0)
                .filter_map(|(p, cell)| Some((p, cell.cpu?)))
                .min_by(|a, b| a.1.total_cmp(&b.1));
            let best_cpu = best.map(|b| b.1);
            let (own, best_own) = (minus(cpu, floor), minus(best_cpu, floor));
            table.row([
                format!("{}, pipeline {pipeline}", workload.name),
                show(cpu),
                ratio(cpu, floor),
                show(own),
                show(best_own),
                ratio(own, best_own.filter(|o| *o > 0.0)),
                ratio(cpu, best_cpu),
                best.map_or("?".to_string(), |b| b.0.clone()),
            ]);
        }
    }
    Some(("Ringwood, the floor and the best peer", table))
}

/// Several shards against one, for every server that has shards.
fn scaling(
    args: &Args,
    workloads: &[Workload],
    variants: &[Variant],
    cells: &Cells<'_>,
) -> Option<(&'static str, Table)> {
    let mut table = Table::new(&[
        "several shards to one",
        "CPU us/op",
        "CPU ratio",
        "requests/s",
        "requests/s ratio",
        "p50 ratio",
    ]);
    let mut any = false;
    for variant in variants.iter().filter(|v| v.shards > 1) {
        let one = variants
            .iter()
            .find(|v| v.peer.id == variant.peer.id && v.shards == 1 && v.face == Face::Ordinary)?
            .name(true);
        for workload in workloads {
            for &pipeline in &args.pipeline {
                let cell = cells.get(&variant.name(true), workload.name, pipeline);
                let base = cells.get(&one, workload.name, pipeline);
                if cell.per_second.is_none() {
                    continue;
                }
                any = true;
                table.row([
                    format!(
                        "{}: {}, pipeline {pipeline}",
                        variant.name(true),
                        workload.name
                    ),
                    format!("{} -> {}", show(base.cpu), show(cell.cpu)),
                    ratio(cell.cpu, base.cpu),
                    format!(
                        "{} -> {}",
                        base.per_second.map_or("?".to_string(), rate),
                        cell.per_second.map_or("?".to_string(), rate)
                    ),
                    ratio(cell.per_second, base.per_second),
                    ratio(cell.p50, base.p50),
                ]);
            }
        }
    }
    any.then_some(("Several shards to one", table))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(server: &str, round: usize, cpu_us: f64) -> Run {
        Run {
            round,
            server: server.into(),
            version: String::new(),
            workload: "get".into(),
            pipeline: 16,
            requests: 1,
            requests_per_second: 1e6 / cpu_us,
            cpu_us: Some(cpu_us),
            waited: None,
            switches_per_request: None,
            p50_us: 1.0,
            p99_us: 2.0,
            p999_us: 3.0,
            errors: 0,
            last_error: None,
            reply_bytes: 71.0,
            request_bytes: 31.0,
        }
    }

    #[test]
    fn details_hold_medians_own_costs_and_ratios() {
        let runs: Vec<Run> = [1.0, 5.0, 2.0]
            .iter()
            .enumerate()
            .flat_map(|(i, &f)| {
                [
                    run("A", i, 0.5 * f),
                    run("B", i, 1.0 * f),
                    run(FLOOR, i, 0.4 * f),
                ]
            })
            .collect();
        let servers = ["A".to_string(), "B".to_string(), FLOOR.to_string()];
        let workload = crate::workload::find("get").unwrap();
        let text = detail(&servers, "A", &workload, 16, &Cells(&runs)).to_string();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|l| l.split('|').map(str::trim).collect())
            .collect();
        // Medians: A 1.0, B 2.0, the floor 0.8; own costs 0.2 and 1.2.
        assert_eq!(rows[2][1..6], ["A", "1.00", "1.00x", "0.200", "1.00x"]);
        assert_eq!(
            rows[3][1..8],
            ["B", "2.00", "2.00x", "1.20", "6.00x", "500K", "0.50x"]
        );
        assert_eq!(rows[4][1..6], [FLOOR, "0.800", "0.80x", "-", "-"]);
    }
}
