//! `ringwood-bench idle`: what connections cost that say nothing: CPU over some seconds, and memory.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;

use crate::cpus::CpuArgs;
use crate::os;
use crate::output::{Output, OutputArgs};
use crate::peers::{self, Peer, PeerArgs, Server, Setup};
use crate::proc;
use crate::table::{Table, number};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Numbers of connections
    #[arg(short, long, value_delimiter = ',', default_values_t = [1000, 10_000])]
    connections: Vec<usize>,
    /// How long CPU time is watched
    #[arg(short, long, default_value_t = 5.0)]
    seconds: f64,
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

/// One server with one number of idle connections.
struct Idle {
    /// Share of one core.
    cpu: f64,
    rss_per_connection: f64,
    used_per_connection: Option<f64>,
    version: String,
}

pub fn run(args: &Args) -> Result<()> {
    let limit = os::raise_file_limit()?;
    // This process and the server need a descriptor each per connection, and some more.
    if let Some(&most) = args
        .connections
        .iter()
        .max()
        .filter(|&&n| n as u64 + 100 > limit)
    {
        bail!(
            "{most} connections need more open files than the {limit} allowed: raise `ulimit -n`"
        );
    }
    let mut table = Table::new(&[
        "server",
        "connections",
        "CPU, % of a core",
        "RSS per connection, bytes",
        "used_memory per connection",
    ]);
    let mut rows = Vec::new();
    for peer in peers::find(&args.peers)? {
        for &count in &args.connections {
            let idle = match measure(args, &peer, count) {
                Ok(idle) => idle,
                // A server that refuses so many is a result too; an interrupt is not.
                Err(e) => {
                    os::check_interrupt()?;
                    eprintln!("{}, {count} connections: {e:#}", peer.title);
                    let failed = || "failed".to_string();
                    table.row([
                        peer.title.to_string(),
                        count.to_string(),
                        failed(),
                        failed(),
                        failed(),
                    ]);
                    let error = format!("{e:#}");
                    rows.push(
                        json!({ "server": peer.title, "connections": count, "error": error }),
                    );
                    continue;
                }
            };
            table.row([
                peer.title.to_string(),
                count.to_string(),
                number(idle.cpu * 100.0),
                format!("{:.0}", idle.rss_per_connection),
                idle.used_per_connection
                    .map_or("?".to_string(), |v| format!("{v:.0}")),
            ]);
            rows.push(json!({
                "server": peer.title, "version": idle.version, "connections": count,
                "cpu_share": idle.cpu, "rss_per_connection": idle.rss_per_connection,
                "used_memory_per_connection": idle.used_per_connection,
            }));
        }
    }
    let mut output = Output::new("idle", &args.output);
    output.note(format!(
        "Idle connections, each of which has said PING once; CPU over {} s, memory above that of the server without \
         them.",
        args.seconds
    ));
    output.table("", &table);
    output.finish(json!({ "seconds": args.seconds, "rows": rows }))
}

fn measure(args: &Args, peer: &Peer, count: usize) -> Result<Idle> {
    let split = args.cpus.split(args.shards)?;
    let setup = Setup::new(args.peers.base_port, split.server, args.shards);
    let mut server = Server::start(peer, &setup)?;
    let mut asking = server.client()?;
    let used_before = asking.used_memory();
    let rss_before = proc::rss(server.pid)?;
    let mut clients = Vec::with_capacity(count);
    for n in 0..count {
        let client = server.client().and_then(|mut client| {
            client.call(&["PING"])?;
            Ok(client)
        });
        clients.push(client.map_err(|e| server.explain(e.context(format!("connection {n}"))))?);
        if n % 1000 == 0 {
            os::check_interrupt()?;
        }
    }
    // What connecting left to do is not idling.
    os::sleep(Duration::from_secs(2))?;
    let before = proc::usage(server.pid)?;
    let start = Instant::now();
    os::sleep(Duration::try_from_secs_f64(args.seconds)?)?;
    let usage = proc::usage(server.pid)?.since(&before);
    let cpu = usage.cpu_ns as f64 / start.elapsed().as_nanos() as f64;
    let rss = proc::rss(server.pid)? as f64 - rss_before as f64;
    let used = asking.used_memory().zip(used_before);
    let used = used.map(|(now, before)| now as f64 - before as f64);
    eprintln!(
        "{}, {count} connections: {} % of a core",
        peer.title,
        number(cpu * 100.0)
    );
    Ok(Idle {
        cpu,
        rss_per_connection: rss / count as f64,
        used_per_connection: used.map(|u| u / count as f64),
        version: server.version.clone(),
    })
}
