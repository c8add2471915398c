//! A run of load: threads with connections, a warm-up, a measured window, and what it showed.
//!
//! Idea: the threads count; this side watches. It takes the counters and the server's CPU time at the same two
//! moments, so that CPU per operation is exact for the window whatever happened before and after.

mod client;
#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use hdrhistogram::Histogram;

pub use client::new_histogram;

use crate::cluster::{OwnerMap, SlotMap};
use crate::conn::{Client, Greeting, Target};
use crate::keys::KeyShape;
use crate::os;
use crate::proc::{self, Usage};
use crate::template::{Keys, Mix, Source, Template};

/// When a run ends.
#[derive(Debug, Clone)]
pub enum Bound {
    Time(Duration),
    /// No warm-up: every request counts.
    Requests(u64),
    /// Whoever measures says when.
    Until(Arc<AtomicBool>),
}

/// A run, described.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server, or one address per cluster node.
    pub targets: Vec<Target>,
    /// Keys per node: connections keep to the keys of their node (`nodes` says which).
    pub owners: Option<Owners>,
    pub greeting: Greeting,
    pub threads: usize,
    pub connections: usize,
    pub pipeline: usize,
    pub mix: Mix,
    pub keys: Keys,
    /// Requests per second in all: open loop.
    pub rate: Option<f64>,
    pub warmup: Duration,
    pub bound: Bound,
    /// CPUs that the threads may use; empty: all.
    pub cpus: Vec<usize>,
    /// The server's process, for its CPU time.
    pub pid: Option<u32>,
    /// A line per second on standard error.
    pub progress: bool,
}

impl Plan {
    /// For one server's data: what is not given, [`crate::data::Data::fill`] decides.
    pub fn of_data(target: Target, template: Template, keys: Keys, cpus: Vec<usize>) -> Self {
        Self {
            targets: vec![target],
            owners: None,
            greeting: Default::default(),
            threads: 1,
            connections: 4,
            pipeline: 64,
            mix: Mix::one(template),
            keys,
            rate: None,
            warmup: Duration::ZERO,
            bound: Bound::Requests(0),
            cpus,
            pid: None,
            progress: false,
        }
    }
}

/// Which connection uses whose keys.
#[derive(Debug, Clone)]
pub struct Owners {
    pub map: Arc<OwnerMap>,
    pub shape: KeyShape,
    pub key_count: u64,
    /// All connections draw the keys of this node; otherwise each those of the node that it leads to.
    pub fixed: Option<u8>,
}

/// What a run showed.
#[derive(Debug, Clone)]
pub struct Report {
    pub requests: u64,
    pub seconds: f64,
    pub errors: u64,
    pub moved: u64,
    pub last_error: Option<String>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Nanoseconds per request.
    pub latency: Histogram<u64>,
    /// What the server used meanwhile.
    pub usage: Option<Usage>,
}

impl Report {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// Microseconds of the server's CPU per request.
    pub fn cpu_us(&self) -> Option<f64> {
        self.usage
            .map(|u| u.cpu_ns as f64 / 1000.0 / self.requests.max(1) as f64)
    }

    pub fn latency_us(&self, percentile: f64) -> f64 {
        self.latency.value_at_percentile(percentile) as f64 / 1000.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Run,
    Stop,
}

/// One thread's counters; only that thread writes, so plain loads and stores do.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counters {
    requests: AtomicU64,
    errors: AtomicU64,
    moved: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// What the threads and the watching side share.
#[derive(Debug)]
struct Shared {
    phase: AtomicU8,
    /// Nanoseconds after `epoch` from which latencies count.
    record_from: AtomicU64,
    epoch: Instant,
    counters: Vec<Counters>,
    /// Requests that may still be sent, for a bounded number of requests.
    left: Option<AtomicU64>,
    ready: Barrier,
    owners: Mutex<Option<Arc<OwnerMap>>>,
    owners_generation: AtomicUsize,
}

impl Shared {
    #[inline]
    fn phase(&self) -> Phase {
        if self.phase.load(Acquire) == Phase::Run as u8 {
            Phase::Run
        } else {
            Phase::Stop
        }
    }

    fn stop(&self) {
        self.phase.store(Phase::Stop as u8, Release);
    }

    #[inline]
    fn recording_since(&self) -> Instant {
        self.epoch + Duration::from_nanos(self.record_from.load(Relaxed))
    }

    /// Up to `want` requests of those that are left.
    #[inline]
    fn take(&self, want: usize) -> usize {
        let Some(left) = &self.left else { return want };
        let want = want as u64;
        let had = left
            .fetch_update(Relaxed, Relaxed, |l| Some(l.saturating_sub(want)))
            .unwrap_or(0);
        had.min(want) as usize
    }

    fn sum(&self, field: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.counters.iter().map(|c| field(c).load(Relaxed)).sum()
    }
}

/// Counters and the server's usage at one moment.
struct Moment {
    at: Instant,
    requests: u64,
    errors: u64,
    moved: u64,
    bytes_in: u64,
    bytes_out: u64,
    usage: Option<Usage>,
}

fn moment(shared: &Shared, pid: Option<u32>) -> Result<Moment> {
    Ok(Moment {
        usage: pid.map(proc::usage).transpose()?,
        at: Instant::now(),
        requests: shared.sum(|c| &c.requests),
        errors: shared.sum(|c| &c.errors),
        moved: shared.sum(|c| &c.moved),
        bytes_in: shared.sum(|c| &c.bytes_in),
        bytes_out: shared.sum(|c| &c.bytes_out),
    })
}

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Connects, runs, reports.
pub fn run(plan: &Plan) -> Result<Report> {
    check(plan)?;
    let threads = plan.threads.min(plan.connections);
    let shared = Arc::new(Shared {
        phase: AtomicU8::new(Phase::Run as u8),
        record_from: AtomicU64::new(u64::MAX / 2),
        epoch: Instant::now(),
        counters: (0..threads).map(|_| Counters::default()).collect(),
        left: match plan.bound {
            Bound::Time(_) | Bound::Until(_) => None,
            Bound::Requests(n) => Some(AtomicU64::new(n)),
        },
        ready: Barrier::new(threads + 1),
        owners: Mutex::new(plan.owners.as_ref().map(|o| Arc::clone(&o.map))),
        owners_generation: AtomicUsize::new(0),
    });
    let mut sockets: Vec<Vec<_>> = (0..threads).map(|_| Vec::new()).collect();
    for n in 0..plan.connections {
        let node = n % plan.targets.len();
        let fd =
            Client::connect(&plan.targets[node], &plan.greeting, CONNECT_PATIENCE)?.into_fd()?;
        let node = plan
            .owners
            .as_ref()
            .and_then(|o| o.fixed)
            .unwrap_or(u8::try_from(node)?);
        // Whole rounds over the nodes go to the same thread, so that every thread serves every node.
        sockets[n / plan.targets.len() % threads].push((fd, node));
    }
    let outcomes = std::thread::scope(|scope| -> Result<_> {
        let workers: Vec<_> = sockets
            .into_iter()
            .enumerate()
            .map(|(index, sockets)| {
                let task = client::Task {
                    sockets,
                    by_node: plan.owners.is_some(),
                    mix: plan.mix.clone(),
                    source: Source {
                        keys: plan.keys.clone(),
                        rng: fastrand::Rng::with_seed(0x5eed + index as u64),
                        only: None,
                    },
                    pipeline: plan.pipeline,
                    schedule: plan.rate.map(|rate| {
                        let interval =
                            Duration::from_secs_f64(plan.pipeline as f64 * threads as f64 / rate);
                        (interval, interval.mul_f64(index as f64 / threads as f64))
                    }),
                    shared: Arc::clone(&shared),
                    index,
                };
                let cpus = plan.cpus.clone();
                scope.spawn(move || {
                    let shared = Arc::clone(&task.shared);
                    let pinned = os::pin(&cpus);
                    if pinned.is_err() {
                        // The others wait for this one at the barrier.
                        shared.stop();
                        shared.ready.wait();
                    }
                    let outcome = pinned.and_then(|()| client::run(task));
                    if outcome.is_err() {
                        shared.stop();
                    }
                    outcome
                })
            })
            .collect();
        let watched = watch(plan, &shared, || workers.iter().all(|w| w.is_finished()));
        shared.stop();
        let mut outcomes = Vec::new();
        let mut failure = None;
        for worker in workers {
            match worker
                .join()
                .map_err(|_| anyhow!("a load thread panicked"))
                .and_then(|o| o)
            {
                Ok(outcome) => outcomes.push(outcome),
                Err(e) => failure = failure.or(Some(e)),
            }
        }
        match failure {
            Some(e) => Err(e),
            None => Ok((outcomes, watched?)),
        }
    });
    let (outcomes, (from, to)) = outcomes?;
    let mut latency = new_histogram();
    let mut last_error = None;
    for outcome in outcomes {
        latency
            .add(&outcome.histogram)
            .context("merging latencies")?;
        last_error = last_error.or(outcome.last_error);
    }
    Ok(Report {
        requests: to.requests - from.requests,
        seconds: (to.at - from.at).as_secs_f64(),
        errors: to.errors - from.errors,
        moved: to.moved - from.moved,
        last_error,
        bytes_in: to.bytes_in - from.bytes_in,
        bytes_out: to.bytes_out - from.bytes_out,
        latency,
        usage: to.usage.zip(from.usage).map(|(to, from)| to.since(&from)),
    })
}

fn check(plan: &Plan) -> Result<()> {
    if plan.threads == 0 || plan.connections == 0 || plan.pipeline == 0 {
        bail!("threads, connections and pipeline must be at least 1");
    }
    if plan.connections < plan.targets.len() {
        bail!(
            "{} connections cannot reach {} nodes",
            plan.connections,
            plan.targets.len()
        );
    }
    if plan.rate.is_some_and(|r| !r.is_finite() || r <= 0.0) {
        bail!("the rate must be above 0");
    }
    if plan.targets.len() > 1 && plan.mix.templates().iter().any(|t| t.keys != 1) {
        bail!("in cluster mode a command needs exactly one __key__, which says where it goes");
    }
    Ok(())
}

/// Waits for the run's end and takes the two moments that it is measured by.
fn watch(plan: &Plan, shared: &Shared, done: impl Fn() -> bool) -> Result<(Moment, Moment)> {
    let warmup = match plan.bound {
        Bound::Time(_) | Bound::Until(_) => plan.warmup,
        Bound::Requests(_) => Duration::ZERO,
    };
    let record_from = |at: Instant| {
        let ns = at.saturating_duration_since(shared.epoch).as_nanos() as u64;
        shared.record_from.store(ns, Relaxed);
    };
    let mut from = None;
    if warmup.is_zero() {
        from = Some(moment(shared, plan.pid)?);
        record_from(shared.epoch);
    }
    shared.ready.wait();
    let start = Instant::now();
    if let Some(from) = &mut from {
        from.at = start;
    }
    let mut progress = Progress {
        at: start,
        requests: 0,
    };
    loop {
        let elapsed = start.elapsed();
        if from.is_none() && elapsed >= warmup {
            let now = moment(shared, plan.pid)?;
            record_from(now.at);
            from = Some(now);
        }
        let over = match &plan.bound {
            Bound::Time(limit) => elapsed >= warmup + *limit,
            Bound::Requests(_) => false,
            Bound::Until(over) => over.load(Relaxed),
        };
        if let Some(from) = from.take_if(|_| over || done() || shared.phase() == Phase::Stop) {
            return Ok((from, moment(shared, plan.pid)?));
        }
        if done() || shared.phase() == Phase::Stop {
            bail!("the load ended during the warm-up");
        }
        os::check_interrupt()?;
        if shared.sum(|c| &c.moved) > 0 {
            follow_moved(plan, shared)?;
        }
        if plan.progress {
            progress.show(plan, shared, start);
        }
        let next = match &plan.bound {
            Bound::Time(limit) => (warmup + *limit)
                .saturating_sub(elapsed)
                .min(Duration::from_millis(10)),
            Bound::Requests(_) | Bound::Until(_) => Duration::from_millis(1),
        };
        let to_record = warmup
            .checked_sub(elapsed)
            .filter(|d| !d.is_zero())
            .unwrap_or(next);
        std::thread::sleep(next.min(to_record));
    }
}

/// Keys moved: take the new map. The counter keeps what was seen; the map is asked for again until it has settled.
fn follow_moved(plan: &Plan, shared: &Shared) -> Result<()> {
    let Some(owners) = plan.owners.as_ref().filter(|o| o.fixed.is_none()) else {
        return Ok(());
    };
    let mut client = Client::connect(&plan.targets[0], &plan.greeting, CONNECT_PATIENCE)?;
    let slots = SlotMap::fetch(&mut client)?.in_order_of(&plan.targets)?;
    let map = OwnerMap::new(&slots, &owners.shape, owners.key_count)?;
    *shared.owners.lock().map_err(|e| anyhow!("{e}"))? = Some(Arc::new(map));
    shared.owners_generation.fetch_add(1, Relaxed);
    std::thread::sleep(Duration::from_millis(100));
    Ok(())
}

struct Progress {
    at: Instant,
    requests: u64,
}

impl Progress {
    fn show(&mut self, plan: &Plan, shared: &Shared, start: Instant) {
        let now = Instant::now();
        let passed = now.duration_since(self.at).as_secs_f64();
        if passed < 1.0 {
            return;
        }
        let requests = shared.sum(|c| &c.requests);
        let rate = (requests - self.requests) as f64 / passed;
        let done = match &plan.bound {
            Bound::Time(limit) => format!("of {:.0} s", (plan.warmup + *limit).as_secs_f64()),
            Bound::Requests(n) => {
                format!(
                    "{:.0}% of {n} requests",
                    requests as f64 * 100.0 / *n as f64
                )
            }
            Bound::Until(_) => "without an end".to_string(),
        };
        eprintln!(
            "  {:5.1} s {done}: {rate:.0} requests/s, {} errors",
            now.duration_since(start).as_secs_f64(),
            shared.sum(|c| &c.errors)
        );
        (self.at, self.requests) = (now, requests);
    }
}
