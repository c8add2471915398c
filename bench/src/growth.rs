//! `ringwood-bench growth`: the longest stall of an insert while a server grows to many keys.
//!
//! Method: one connection sends small batches of SETs of new keys and waits for each batch's replies. After every
//! batch the server's CPU time is read (its process's CPU clock, to the nanosecond). A batch that cost more CPU
//! than the median batch holds a stall of at most the difference: this does not depend on what else the machine does.
//! Work that a server hands to another of its threads counts as well, which errs on the strict side, and so does the
//! spinning of a server that never sleeps; and Linux brings the clock of a thread that runs on up to date at ticks only
//! (4 ms), so that single batches get what others cost. The batch's wall time is shown too, less the time in which a thread of
//! the server or the load wanted a CPU and had none. Threads that run only when nobody else does (SCHED_IDLE) want none.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use hdrhistogram::Histogram;
use serde_json::json;

use crate::cpus::CpuArgs;
use crate::data::{Data, DataArgs};
use crate::load::new_histogram;
use crate::os;
use crate::output::{Output, OutputArgs};
use crate::peers::{self, PeerArgs, Server, Setup};
use crate::proc;
use crate::resp::Skipper;
use crate::table::{Table, known, number};
use crate::template::{Keys, Mix, Source};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long, default_value_t = 20_000_000)]
    keys: u64,
    #[arg(long, default_value_t = 11)]
    key_size: usize,
    #[arg(long, default_value_t = 8)]
    value_size: usize,
    /// SETs per batch
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Put all keys into one slot, by a hash tag
    #[arg(long)]
    one_slot: bool,
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

/// A process's CPU clock, and the `schedstat` of its threads kept open.
struct Meter {
    pid: u32,
    files: Vec<File>,
}

impl Meter {
    fn open(pid: u32) -> Result<Meter> {
        let open = |dir: std::path::PathBuf| {
            File::open(dir.join("schedstat")).with_context(|| dir.display().to_string())
        };
        let works = |dir: &std::path::PathBuf| {
            let name = dir.file_name().and_then(|name| name.to_str());
            let tid = name.and_then(|name| name.parse().ok()).unwrap_or(0);
            // SAFETY: it only asks.
            unsafe { libc::sched_getscheduler(tid) != libc::SCHED_IDLE }
        };
        let threads = proc::threads(pid)?.into_iter().filter(works);
        let files = threads
            .chain(["/proc/thread-self".into()])
            .map(open)
            .collect::<Result<_>>()?;
        Ok(Meter { pid, files })
    }

    /// Nanoseconds on a CPU, and in which a thread waited for one, so far.
    fn read(&self) -> Result<(u64, u64)> {
        let mut wait = 0;
        let mut buf = [0; 96];
        for file in &self.files {
            let len = match file.read_at(&mut buf, 0) {
                Ok(len) => len,
                // The thread has ended.
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => continue,
                Err(e) => return Err(e).context("schedstat"),
            };
            let text = std::str::from_utf8(&buf[..len]).unwrap_or_default();
            let second = text
                .split_ascii_whitespace()
                .nth(1)
                .and_then(|n| n.parse::<u64>().ok());
            wait += second.ok_or_else(|| anyhow!("schedstat: {text:?}"))?;
        }
        Ok((proc::cpu_ns(self.pid)?, wait))
    }
}

/// What the batches of one server showed, in nanoseconds.
struct Growth {
    cpu: Histogram<u64>,
    wall: Histogram<u64>,
    /// The batches that cost most CPU, dearest first, with how many keys there were.
    dearest: Vec<(u64, u64)>,
    seconds: f64,
    longest_turn_us: Option<f64>,
}

const DEAREST: usize = 10;

impl Growth {
    fn record(&mut self, keys: u64, cpu: u64, wall: u64) {
        self.cpu.saturating_record(cpu.max(1));
        self.wall.saturating_record(wall.max(1));
        if self.dearest.len() < DEAREST || self.dearest.last().is_some_and(|l| l.0 < cpu) {
            let at = self.dearest.partition_point(|d| d.0 >= cpu);
            self.dearest.insert(at, (cpu, keys));
            self.dearest.truncate(DEAREST);
        }
    }

    /// CPU above the median batch, microseconds.
    fn stall_us(&self, cpu: u64) -> f64 {
        cpu.saturating_sub(self.cpu.value_at_quantile(0.5)) as f64 / 1000.0
    }
}

pub fn run(args: &Args) -> Result<()> {
    let mut data = DataArgs {
        keys: args.keys,
        key_size: args.key_size,
        key_prefix: None,
        value_size: args.value_size,
        zipf: None,
    };
    if args.one_slot {
        data.key_prefix = Some("{s}".into());
    }
    let data = data.check()?;
    if args.batch == 0 {
        bail!("--batch must be at least 1");
    }
    let mut table = Table::new(&[
        "server",
        "longest turn, us",
        "longest stall, CPU us",
        "at keys",
        "99.99% stall us",
        "longest batch, wall us",
        "median batch, CPU us",
        "seconds",
    ]);
    let mut rows = Vec::new();
    for peer in peers::find(&args.peers)? {
        let split = args.cpus.split(args.shards)?;
        let setup = Setup::new(args.peers.base_port, split.server, args.shards);
        let mut server = Server::start(&peer, &setup)?;
        let growth = os::pinned(&split.load, || grow(args, &data, &server))?
            .map_err(|e| server.explain(e))?;
        let (longest, at) = growth.dearest.first().copied().unwrap_or_default();
        let q = |h: &Histogram<u64>, q: f64| h.value_at_quantile(q);
        eprintln!(
            "{}: longest stall {} us, at {at} keys",
            peer.title,
            number(growth.stall_us(longest))
        );
        table.row([
            peer.title.to_string(),
            known(growth.longest_turn_us),
            number(growth.stall_us(longest)),
            at.to_string(),
            number(growth.stall_us(q(&growth.cpu, 0.9999))),
            number(growth.wall.max() as f64 / 1000.0),
            number(q(&growth.cpu, 0.5) as f64 / 1000.0),
            number(growth.seconds),
        ]);
        let dearest: Vec<_> = growth
            .dearest
            .iter()
            .map(|d| json!({ "stall_us": growth.stall_us(d.0), "keys": d.1 }))
            .collect();
        rows.push(json!({
            "server": peer.title,
            "version": server.version,
            "longest_turn_us": growth.longest_turn_us,
            "longest_stalls": dearest,
            "batch_cpu_us": { "p50": q(&growth.cpu, 0.5) as f64 / 1e3, "p99.99": q(&growth.cpu, 0.9999) as f64 / 1e3 },
            "batch_wall_us": {
                "p50": q(&growth.wall, 0.5) as f64 / 1e3,
                "p99.99": q(&growth.wall, 0.9999) as f64 / 1e3,
                "max": growth.wall.max() as f64 / 1e3,
            },
            "seconds": growth.seconds,
        }));
    }
    let mut output = Output::new("growth", &args.output);
    output.note(format!(
        "Growth to {} keys of {} bytes with values of {} bytes, in batches of {} SETs on one connection. Turns: the server's \
         own figure, wall time. A stall is what a batch cost in server CPU above the median batch; wall time is less \
         waits for a CPU.",
        args.keys, args.key_size, args.value_size, args.batch
    ));
    output.table("", &table);
    output.finish(json!({ "keys": args.keys, "batch": args.batch, "one_slot": args.one_slot, "servers": rows }))
}

fn grow(args: &Args, data: &Data, server: &Server) -> Result<Growth> {
    let mut stream = TcpStream::from(server.client()?.into_fd()?);
    let mut client = server.client()?;
    client.call(&["CONFIG", "RESETSTAT"])?;
    let mix = Mix::one(data.template("SET __key__ __data__")?);
    let mut source = Source {
        keys: Keys::Sequence(Arc::default()),
        rng: fastrand::Rng::with_seed(1),
        only: None,
    };
    let meter = Meter::open(server.pid)?;
    let mut skipper = Skipper::default();
    let (mut request, mut reply) = (Vec::new(), vec![0; 4096]);
    let mut growth = Growth {
        cpu: new_histogram(),
        wall: new_histogram(),
        dearest: Vec::new(),
        seconds: 0.0,
        longest_turn_us: None,
    };
    let start = Instant::now();
    let mut shown = start;
    let mut keys = 0;
    let mut before = meter.read()?;
    while keys < args.keys {
        let sent = Instant::now();
        let batch = args
            .batch
            .min(usize::try_from(args.keys - keys).unwrap_or(args.batch));
        let mut awaiting = mix.fill(&mut request, batch, &mut source);
        stream.write_all(&request)?;
        while awaiting > 0 {
            let len = stream.read(&mut reply)?;
            if len == 0 {
                bail!("the server closed the connection after {keys} keys");
            }
            let skipped = skipper.feed(&reply[..len])?;
            if skipped.errors > 0 {
                bail!(
                    "after {keys} keys: {}",
                    skipper.take_error().unwrap_or_default()
                );
            }
            awaiting = awaiting
                .checked_sub(skipped.replies)
                .context("more replies than requests")?;
        }
        let wall = sent.elapsed();
        let after = meter.read()?;
        let waited = Duration::from_nanos(after.1.saturating_sub(before.1));
        keys += batch as u64;
        growth.record(
            keys,
            after.0 - before.0,
            wall.saturating_sub(waited).as_nanos() as u64,
        );
        before = after;
        if shown.elapsed() > Duration::from_secs(5) {
            os::check_interrupt()?;
            eprintln!("  {keys} keys after {:.0} s", start.elapsed().as_secs_f64());
            shown = Instant::now();
        }
    }
    growth.longest_turn_us = client.longest_turn_us();
    growth.seconds = start.elapsed().as_secs_f64();
    Ok(growth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_dearest_batches() {
        let mut growth = Growth {
            cpu: new_histogram(),
            wall: new_histogram(),
            dearest: Vec::new(),
            seconds: 0.0,
            longest_turn_us: None,
        };
        for n in 0..1000u64 {
            growth.record(n, if n % 100 == 50 { 100_000 + n } else { 1_000 }, 2_000);
        }
        assert_eq!(growth.dearest.len(), DEAREST);
        assert_eq!(growth.dearest[0], (100_950, 950));
        assert!(growth.dearest.windows(2).all(|w| w[0].0 >= w[1].0));
        let stall = growth.stall_us(growth.dearest[0].0);
        assert!((99.9..100.0).contains(&stall), "{stall}");
    }

    #[test]
    fn the_meter_sees_work() {
        let busy = crate::proc::tests::Busy::start();
        let meter = Meter::open(busy.pid()).unwrap();
        let before = meter.read().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while meter.read().unwrap().0 < before.0 + 5_000_000 {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(busy);
        assert!(meter.read().is_err());
    }
}
