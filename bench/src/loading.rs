//! `ringwood-bench loading`: how long a server reads a snapshot of many keys before it serves them.
//!
//! Method: an RDB file of string keys is written, without a checksum, and put where the server looks for it. Its time is from the start of
//! the process to the first PONG (asked 50 times a second), its CPU all of the process until then. Per core: keys to the CPU second,
//! whoever of the process's threads used it. A server that does not hold all keys then is an error. Rounds go through all servers in turn.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::conn::Value;
use crate::cpus::CpuArgs;
use crate::os;
use crate::output::{Output, OutputArgs};
use crate::peers::{self, Peer, PeerArgs, Server, Setup};
use crate::proc;
use crate::table::{Table, median, number};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long, default_value_t = 10_000_000)]
    keys: u64,
    #[arg(long, default_value_t = 16)]
    value_size: usize,
    /// Threads of servers that have them
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    shards: Vec<usize>,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[command(flatten)]
    peers: PeerArgs,
    #[command(flatten)]
    cpus: CpuArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// The longest start that is waited for.
const PATIENCE: Duration = Duration::from_secs(600);

/// One server's starts.
struct Starts {
    peer: Peer,
    shards: usize,
    version: String,
    seconds: Vec<f64>,
    cpu: Vec<f64>,
}

pub fn run(args: &Args) -> Result<()> {
    let snapshot = Snapshot::write(args.keys, args.value_size)?;
    let mut all = Vec::new();
    for peer in peers::find(&args.peers)? {
        let shards = match peer.takes_shards() {
            true => args.shards.clone(),
            false => vec![1],
        };
        all.extend(shards.into_iter().map(|shards| Starts {
            peer: peer.clone(),
            shards,
            version: String::new(),
            seconds: Vec::new(),
            cpu: Vec::new(),
        }));
    }
    for round in 0..args.rounds.max(1) {
        for starts in &mut all {
            start(args, &snapshot.0, starts)
                .with_context(|| format!("{}, round {}", starts.peer.title, round + 1))?;
        }
    }
    let mut table = Table::new(&[
        "server",
        "shards",
        "seconds",
        "CPU seconds",
        "keys per CPU s",
    ]);
    let mut rows = Vec::new();
    for starts in &all {
        let of = |values: &[f64]| median(values.iter().copied()).unwrap_or(0.0);
        let (seconds, cpu) = (of(&starts.seconds), of(&starts.cpu));
        table.row([
            starts.peer.title.to_string(),
            starts.shards.to_string(),
            number(seconds),
            number(cpu),
            format!("{:.0}", args.keys as f64 / cpu),
        ]);
        rows.push(json!({
            "server": starts.peer.title, "version": starts.version, "shards": starts.shards,
            "seconds": starts.seconds, "cpu_seconds": starts.cpu,
        }));
    }
    let mut output = Output::new("loading", &args.output);
    output.note(format!(
        "From the start of the process to the first PONG with a snapshot of {} keys, values of {} bytes; medians of {} rounds. A CPU for each shard.",
        args.keys, args.value_size, args.rounds
    ));
    output.table("", &table);
    output.finish(json!({ "keys": args.keys, "value_size": args.value_size, "rows": rows }))
}

fn start(args: &Args, snapshot: &Path, starts: &mut Starts) -> Result<()> {
    let split = args.cpus.split(starts.shards)?;
    let mut setup = Setup::new(args.peers.base_port, split.server, starts.shards);
    setup.snapshot = Some((snapshot.to_path_buf(), PATIENCE));
    let began = Instant::now();
    let server = Server::start(&starts.peer, &setup)?;
    let seconds = began.elapsed().as_secs_f64();
    let cpu = proc::usage(server.pid)?.cpu_ns as f64 / 1e9;
    match server.client()?.call(&["DBSIZE"])? {
        Value::Integer(keys) if keys as u64 == args.keys => {}
        other => bail!("it holds {other:?}, not {} keys", args.keys),
    }
    eprintln!(
        "{}, {} shards: {} s, {} s of CPU",
        starts.peer.title,
        starts.shards,
        number(seconds),
        number(cpu)
    );
    starts.version.clone_from(&server.version);
    starts.seconds.push(seconds);
    starts.cpu.push(cpu);
    os::check_interrupt()
}

/// A file in Redis's format that goes at the end.
struct Snapshot(PathBuf);

impl Snapshot {
    fn write(keys: u64, value_size: usize) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("ringwood-bench-{}.rdb", std::process::id()));
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        let snapshot = Self(path);
        write_keys(BufWriter::new(file), keys, value_size).context("writing the snapshot")?;
        Ok(snapshot)
    }
}
impl Drop for Snapshot {
    fn drop(&mut self) {
        // It may not be there any more.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// RDB version 9, which Redis 5 and all since read: <https://rdb.fnordig.de/file_format.html>.
fn write_keys(mut out: impl Write, keys: u64, value_size: usize) -> Result<()> {
    out.write_all(b"REDIS0009")?;
    out.write_all(&[0xfe, 0, 0xfb])?;
    write_length(&mut out, keys)?;
    write_length(&mut out, 0)?;
    let mut random = fastrand::Rng::with_seed(1);
    let mut value = vec![0; value_size];
    for n in 0..keys {
        let key = format!("key:{n}");
        value.fill_with(|| random.alphanumeric() as u8);
        out.write_all(&[0])?;
        for text in [key.as_bytes(), &value] {
            write_length(&mut out, text.len() as u64)?;
            out.write_all(text)?;
        }
    }
    out.write_all(&[0xff])?;
    // No checksum.
    out.write_all(&[0; 8])?;
    Ok(out.flush()?)
}

fn write_length(out: &mut impl Write, length: u64) -> Result<()> {
    match length {
        0..64 => out.write_all(&[length as u8])?,
        64..16_384 => out.write_all(&[0x40 | (length >> 8) as u8, length as u8])?,
        _ => {
            out.write_all(&[0x81])?;
            out.write_all(&length.to_be_bytes())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_format() {
        let bytes = |length| {
            let mut out = Vec::new();
            write_length(&mut out, length).unwrap();
            out
        };
        assert_eq!(bytes(63), [63]);
        assert_eq!(bytes(64), [0x40, 64]);
        assert_eq!(bytes(16_383), [0x7f, 0xff]);
        assert_eq!(bytes(16_384), [0x81, 0, 0, 0, 0, 0, 0, 0x40, 0]);
    }

    #[test]
    fn a_snapshot_has_its_keys() {
        let mut out = Vec::new();
        write_keys(&mut out, 2, 3).unwrap();
        assert!(out.starts_with(b"REDIS0009\xfe\x00\xfb\x02\x00\x00\x05key:0\x03"));
        assert!(out.ends_with(b"\xff\0\0\0\0\0\0\0\0"));
        assert_eq!(out.len(), 14 + 2 * (1 + 1 + 5 + 1 + 3) + 9);
    }
}
