//! `ringwood-bench memory`: what a key costs beyond its own bytes, by the server's count and by the kernel's.
//!
//! A fresh server per value size: memory that an earlier filling left behind would be counted otherwise.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::json;

use crate::conn::{Client, Value};
use crate::cpus::CpuArgs;
use crate::data::DataArgs;
use crate::load::Plan;
use crate::os;
use crate::output::{Output, OutputArgs};
use crate::peers::{self, Peer, PeerArgs, Server, Setup};
use crate::proc;
use crate::table::{Table, known, number};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of keys
    #[arg(long, default_value_t = 4_000_000)]
    keys: u64,
    /// Bytes of a key
    #[arg(long, default_value_t = 11)]
    key_size: usize,
    /// Bytes of a value, one filling each
    #[arg(long, value_delimiter = ',', default_values_t = [8, 64, 256])]
    value_sizes: Vec<usize>,
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

/// Memory of a server at one moment.
#[derive(Debug, Clone, Copy, Serialize)]
struct Memory {
    /// By INFO; not every server counts.
    used: Option<u64>,
    rss: u64,
}

impl Memory {
    fn of(server: &Server, client: &mut Client) -> Result<Memory> {
        let used = client.used_memory();
        Ok(Memory {
            used,
            rss: proc::rss(server.pid)?,
        })
    }
}

#[derive(Debug, Serialize)]
struct Row {
    server: String,
    version: String,
    value_size: usize,
    empty: Memory,
    filled: Memory,
    /// Bytes per key beyond those of key and value.
    used_beyond: Option<f64>,
    rss_beyond: f64,
    rss_to_used: Option<f64>,
}

/// Bytes per key beyond `own`, from the memory of an empty and a filled server.
fn beyond(empty: u64, filled: u64, keys: u64, own: usize) -> f64 {
    (filled as f64 - empty as f64) / keys as f64 - own as f64
}

pub fn run(args: &Args) -> Result<()> {
    let peers = peers::find(&args.peers)?;
    let mut rows = Vec::new();
    for &value_size in &args.value_sizes {
        for peer in &peers {
            let row = measure(args, peer, value_size)?;
            eprintln!(
                "{}, values of {value_size}: {} B per key beyond its bytes, RSS {} B",
                peer.title,
                known(row.used_beyond),
                number(row.rss_beyond)
            );
            rows.push(row);
        }
    }
    let mut header = vec!["bytes per key beyond key and value".to_string()];
    for size in &args.value_sizes {
        header.extend([
            format!("{size} B"),
            format!("{size} B, RSS"),
            "RSS / used".to_string(),
        ]);
    }
    let mut table = Table::new(&header);
    for peer in &peers {
        let mut cells = vec![peer.title.to_string()];
        for size in &args.value_sizes {
            let row = rows
                .iter()
                .find(|r| r.server == peer.title && r.value_size == *size);
            let row = row.context("every server has every size")?;
            cells.push(
                row.used_beyond
                    .map_or("?".to_string(), |v| format!("{v:.1}")),
            );
            cells.push(format!("{:.1}", row.rss_beyond));
            cells.push(
                row.rss_to_used
                    .map_or("?".to_string(), |v| format!("{v:.3}")),
            );
        }
        table.row(cells);
    }
    let mut output = Output::new("memory", &args.output);
    output.note(format!(
        "{} keys of {} bytes. Per key: growth of used_memory (INFO) and of resident memory, less the bytes of key \
         and value.",
        args.keys, args.key_size
    ));
    output.table("", &table);
    output.finish(json!({ "keys": args.keys, "key_size": args.key_size, "rows": rows }))
}

fn measure(args: &Args, peer: &Peer, value_size: usize) -> Result<Row> {
    let data = DataArgs {
        keys: args.keys,
        key_size: args.key_size,
        key_prefix: None,
        value_size,
        zipf: None,
    };
    let data = data.check()?;
    let split = args.cpus.split(args.shards)?;
    let setup = Setup::new(args.peers.base_port, split.server, args.shards);
    let mut server = Server::start(peer, &setup)?;
    let mut client = server.client()?;
    let empty = Memory::of(&server, &mut client)?;
    let template = data.template("SET __key__ __data__")?;
    let (target, keys) = (server.target.clone(), data.random_keys());
    let plan = Plan::of_data(target, template.clone(), keys, split.load);
    data.fill(&template, args.keys, &plan)
        .map_err(|e| server.explain(e))?;
    match client.call(&["DBSIZE"])? {
        Value::Integer(n) if u64::try_from(n) == Ok(args.keys) => {}
        other => bail!(
            "{}: {} keys were set, DBSIZE answers {other:?}",
            peer.title,
            args.keys
        ),
    }
    // Buffers of the connections that have just closed are let go, and tables may still grow.
    os::sleep(Duration::from_millis(1500))?;
    let filled = Memory::of(&server, &mut client)?;
    let own = args.key_size + value_size;
    Ok(Row {
        server: peer.title.to_string(),
        version: server.version.clone(),
        value_size,
        empty,
        filled,
        used_beyond: empty
            .used
            .zip(filled.used)
            .map(|(e, f)| beyond(e, f, args.keys, own)),
        rss_beyond: beyond(empty.rss, filled.rss, args.keys, own),
        rss_to_used: filled.used.map(|used| filled.rss as f64 / used as f64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_beyond() {
        assert_eq!(beyond(1000, 1000 + 100 * 99, 100, 75), 24.0);
        assert_eq!(beyond(1000, 900, 100, 1), -2.0);
    }
}
