//! `ringwood-bench members`: what a member of a collection costs in memory, everything counted, its own bytes too.
//!
//! A fresh server per collection: memory that an earlier one left behind would be counted otherwise.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;

use crate::conn::Client;
use crate::cpus::CpuArgs;
use crate::data::DataArgs;
use crate::load::Plan;
use crate::os;
use crate::output::{Output, OutputArgs};
use crate::peers::{self, Peer, PeerArgs, Server, Setup};
use crate::proc;
use crate::table::Table;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    peers: PeerArgs,
    #[command(flatten)]
    cpus: CpuArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Name, members, what adds one, and the goal in bytes.
const CASES: &[(&str, u64, &str, f64)] = &[
    (
        "hash of 4 small fields",
        200_000,
        "HSET __key__ f1 value__d3__ f2 value__d3__ f3 value__d3__ f4 value__d3__",
        122.0,
    ),
    (
        "sorted set of 1M",
        1_000_000,
        "ZADD big __d6__ m:__n__",
        55.0,
    ),
    ("set of 1M", 1_000_000, "SADD big m:__n__", 24.0),
    (
        "list of 1M elements of 16 bytes",
        1_000_000,
        "RPUSH big element-__d8__",
        18.0,
    ),
    (
        "stream of 200K entries of 3 fields",
        200_000,
        "XADD big * f1 v1 f2 __d8__ f3 v3",
        30.0,
    ),
];

#[derive(Debug, Serialize)]
struct Row {
    server: &'static str,
    version: String,
    collection: &'static str,
    members: u64,
    used: f64,
    resident: f64,
}

pub fn run(args: &Args) -> Result<()> {
    let peers = peers::find(&args.peers)?;
    let mut rows = Vec::new();
    for case in CASES {
        for peer in &peers {
            let row = measure(args, peer, case)?;
            eprintln!("{}, {}: {:.2}", row.collection, row.server, row.used);
            rows.push(row);
        }
    }
    let mut header = vec!["bytes per member, all counted".to_string()];
    header.extend(peers.iter().map(|p| p.title.to_string()));
    header.extend(peers.iter().map(|p| format!("{}, RSS", p.title)));
    header.extend(["goal", "to the best peer's"].map(str::to_string));
    let mut table = Table::new(&header);
    for (name, _, _, goal) in CASES {
        let of = |peer: &Peer| {
            let mut found = rows.iter();
            found
                .find(|r| r.server == peer.title && r.collection == *name)
                .with_context(|| format!("{name}: not measured on {}", peer.title))
        };
        let mut cells = vec![name.to_string()];
        for peer in &peers {
            cells.push(format!("{:.2}", of(peer)?.used));
        }
        for peer in &peers {
            cells.push(format!("{:.1}", of(peer)?.resident));
        }
        cells.push(goal.to_string());
        let (mut own, mut best) = (None, f64::INFINITY);
        for peer in &peers {
            let used = of(peer)?.used;
            match peer.is_ringwood() {
                true => own = Some(used),
                false => best = best.min(used),
            }
        }
        cells.push(own.map_or("?".to_string(), |own| format!("{:.2}x", own / best)));
        table.row(cells);
    }
    let mut output = Output::new("members", &args.output);
    output.note(
        "Growth of used_memory (INFO) and of resident memory by member, the member's own bytes included; for the hash, by \
         hash with its key of 11 bytes."
            .to_string(),
    );
    output.table("", &table);
    output.finish(json!({ "rows": rows }))
}

fn measure(
    args: &Args,
    peer: &Peer,
    &(collection, members, fill, _): &(&'static str, u64, &str, f64),
) -> Result<Row> {
    let data = DataArgs {
        keys: members,
        key_size: 11,
        key_prefix: None,
        value_size: 8,
        zipf: None,
    };
    let data = data.check()?;
    let split = args.cpus.split(1)?;
    let setup = Setup::new(args.peers.base_port, split.server, 1);
    let mut server = Server::start(peer, &setup)?;
    let mut client = server.client()?;
    let template = data.template(fill)?;
    let (target, keys) = (server.target.clone(), data.random_keys());
    let plan = Plan::of_data(target, template.clone(), keys, split.load);
    // Buffers and tables that the first requests make belong to the server, whatever they bring.
    data.fill(&template, members / 20, &plan)
        .map_err(|e| server.explain(e))?;
    client.call(&["FLUSHALL"])?;
    let empty = read(&mut client, server.pid)?;
    data.fill(&template, members, &plan)
        .map_err(|e| server.explain(e))?;
    let filled = read(&mut client, server.pid)?;
    Ok(Row {
        server: peer.title,
        version: server.version.clone(),
        collection,
        members,
        used: (filled.0 - empty.0) / members as f64,
        resident: (filled.1 - empty.1) / members as f64,
    })
}

/// Used and resident bytes, once things have settled.
fn read(client: &mut Client, pid: u32) -> Result<(f64, f64)> {
    // Buffers of connections that have just closed are let go meanwhile, and counts are brought up to date.
    os::sleep(Duration::from_millis(1000))?;
    let used = client
        .used_memory()
        .context("the server does not count its memory")?;
    Ok((used as f64, proc::rss(pid)? as f64))
}
