//! One client thread: its connections on one ring, from the first batch to the last reply.
//!
//! A connection's life, closed loop: fill the request buffer, send, read until every reply of the batch is there,
//! again. Open loop: batches are due at fixed times, whether or not earlier ones have been answered; a due batch
//! takes the connection that has been idle longest and waits if there is none, and its latency counts from the
//! time that it was due (so a server that stalls cannot hide the requests that it kept waiting).
//!
//! Invariant: a connection sends its next batch only when the last one's send is complete and all its replies have
//! been read.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use hdrhistogram::Histogram;

use super::{Phase, Shared};
use crate::resp::Skipper;
use crate::ring::{ConnId, Event, Ops, Ring};
use crate::template::{Mix, Source};

/// Receive buffers of a thread: small enough to stay in the L2 cache.
const BUF_COUNT: u16 = 64;
const BUF_SIZE: u32 = 16 * 1024;

/// How long replies may take after the end of a run.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// A thread's work.
pub struct Task {
    /// Connected sockets with the node that each leads to.
    pub sockets: Vec<(OwnedFd, u8)>,
    /// Connections draw keys of their node only.
    pub by_node: bool,
    pub mix: Mix,
    pub source: Source,
    pub pipeline: usize,
    /// Open loop: time between two batches of this thread, and the first one's offset.
    pub schedule: Option<(Duration, Duration)>,
    pub shared: Arc<Shared>,
    pub index: usize,
}

struct Conn {
    node: u8,
    skipper: Skipper,
    /// The request buffer while it is not with the ring.
    buf: Option<Vec<u8>>,
    /// Replies that are still to come.
    awaiting: usize,
    /// Commands per request make replies; this is the batch's number of requests.
    requests: usize,
    /// When the batch was sent, or was due.
    started: Instant,
}

struct Thread {
    conns: Vec<Conn>,
    task_mix: Mix,
    source: Source,
    by_node: bool,
    pipeline: usize,
    shared: Arc<Shared>,
    index: usize,
    histogram: Histogram<u64>,
    last_error: Option<String>,
    /// Connections without a batch under way, in the order in which they became idle.
    idle: VecDeque<ConnId>,
    owners_generation: usize,
}

/// What a thread brings home.
pub struct Outcome {
    pub histogram: Histogram<u64>,
    pub last_error: Option<String>,
}

/// A histogram of nanoseconds up to a minute, three digits exact.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("constant bounds are valid")
}

/// Runs to the end of the run.
pub fn run(task: Task) -> Result<Outcome> {
    let mut ring = Ring::new(BUF_COUNT, BUF_SIZE)?;
    let mut thread = Thread {
        conns: Vec::with_capacity(task.sockets.len()),
        task_mix: task.mix,
        source: task.source,
        by_node: task.by_node,
        pipeline: task.pipeline,
        shared: task.shared,
        index: task.index,
        histogram: new_histogram(),
        last_error: None,
        idle: VecDeque::with_capacity(task.sockets.len()),
        owners_generation: 0,
    };
    thread.shared.ready.wait();
    if thread.shared.phase() == Phase::Stop {
        bail!("another thread could not start");
    }
    let start = Instant::now();
    ring.with_ops(|ops| -> io::Result<()> {
        for (fd, node) in task.sockets {
            let id = ops.adopt(fd)?;
            assert_eq!(
                id as usize,
                thread.conns.len(),
                "slots are given out in order"
            );
            thread.conns.push(Conn {
                node,
                skipper: Skipper::default(),
                buf: Some(Vec::new()),
                awaiting: 0,
                requests: 0,
                started: start,
            });
            thread.idle.push_back(id);
        }
        Ok(())
    })?;
    match task.schedule {
        None => thread.closed_loop(&mut ring)?,
        Some((interval, offset)) => thread.open_loop(&mut ring, start + offset, interval)?,
    }
    thread.drain(&mut ring)?;
    Ok(Outcome {
        histogram: thread.histogram,
        last_error: thread.last_error,
    })
}

impl Thread {
    fn closed_loop(&mut self, ring: &mut Ring) -> Result<()> {
        ring.with_ops(|ops| self.send_idle(ops))?;
        while self.shared.phase() != Phase::Stop && self.idle.len() < self.conns.len() {
            self.turn(ring, None, true)?;
        }
        Ok(())
    }

    fn open_loop(&mut self, ring: &mut Ring, mut due: Instant, interval: Duration) -> Result<()> {
        let mut exhausted = false;
        while self.shared.phase() != Phase::Stop
            && !(exhausted && self.idle.len() == self.conns.len())
        {
            let now = Instant::now();
            ring.with_ops(|ops| -> io::Result<()> {
                while due <= now && !exhausted {
                    let Some(id) = self.idle.pop_front() else {
                        break;
                    };
                    exhausted = !self.send(ops, id, due)?;
                    due += interval;
                }
                Ok(())
            })?;
            // With every connection busy only a reply can bring the next step.
            let wait = if self.idle.is_empty() || exhausted {
                Duration::from_millis(100)
            } else {
                due.saturating_duration_since(Instant::now())
            };
            self.turn(ring, Some(wait), false)?;
        }
        Ok(())
    }

    /// Reads what is still on its way, so that the next run does not meet this one's leftovers.
    fn drain(&mut self, ring: &mut Ring) -> Result<()> {
        let deadline = Instant::now() + DRAIN_LIMIT;
        while self.idle.len() < self.conns.len() {
            if Instant::now() > deadline {
                bail!(
                    "{} connections still had no reply {} s after the end",
                    self.conns.len() - self.idle.len(),
                    DRAIN_LIMIT.as_secs()
                );
            }
            self.turn(ring, Some(Duration::from_millis(10)), false)?;
        }
        Ok(())
    }

    fn turn(&mut self, ring: &mut Ring, wait: Option<Duration>, again: bool) -> Result<()> {
        ring.turn(wait, |ops, event| match event {
            Event::Received(id, bytes) => self.received(ops, id, bytes, again),
            Event::Sent(id, buf) => {
                self.conns[id as usize].buf = Some(buf);
                self.finished(ops, id, again)
            }
            Event::Closed(id, error) => {
                let cause = error.map_or("closed by the server".to_string(), |e| e.to_string());
                let said = self
                    .last_error
                    .as_ref()
                    .map_or(String::new(), |e| format!(" (last error reply: {e})"));
                Err(io::Error::other(format!("connection {id}: {cause}{said}")))
            }
            Event::Accepted(_) => Ok(()),
        })
        .context("load thread")
    }

    fn send_idle(&mut self, ops: &mut Ops<'_, '_>) -> io::Result<()> {
        let now = Instant::now();
        for _ in 0..self.idle.len() {
            let Some(id) = self.idle.pop_front() else {
                break;
            };
            if !self.send(ops, id, now)? {
                break;
            }
        }
        Ok(())
    }

    #[inline]
    fn received(
        &mut self,
        ops: &mut Ops<'_, '_>,
        id: ConnId,
        bytes: &[u8],
        again: bool,
    ) -> io::Result<()> {
        let counters = &self.shared.counters[self.index];
        counters.bytes_in.store(
            counters.bytes_in.load(Relaxed) + bytes.len() as u64,
            Relaxed,
        );
        let conn = &mut self.conns[id as usize];
        let skipped = conn.skipper.feed(bytes).map_err(io::Error::other)?;
        if skipped.errors > 0 {
            let text = conn.skipper.take_error();
            let moved = text.as_ref().is_some_and(|t| t.starts_with("MOVED "));
            let counter = if moved {
                &counters.moved
            } else {
                &counters.errors
            };
            counter.fetch_add(skipped.errors as u64, Relaxed);
            self.last_error = text;
        }
        let Some(left) = conn.awaiting.checked_sub(skipped.replies) else {
            return Err(io::Error::other(format!(
                "{} replies more than requests",
                skipped.replies - conn.awaiting
            )));
        };
        conn.awaiting = left;
        self.finished(ops, id, again)
    }

    /// After a reply or the end of a send: is the batch over, and what next?
    #[inline]
    fn finished(&mut self, ops: &mut Ops<'_, '_>, id: ConnId, again: bool) -> io::Result<()> {
        let conn = &mut self.conns[id as usize];
        if conn.awaiting > 0 || conn.buf.is_none() || conn.requests == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let counters = &self.shared.counters[self.index];
        counters.requests.store(
            counters.requests.load(Relaxed) + conn.requests as u64,
            Relaxed,
        );
        if conn.started >= self.shared.recording_since() {
            let ns = now.duration_since(conn.started).as_nanos() as u64;
            self.histogram
                .saturating_record_n(ns.max(1), conn.requests as u64);
        }
        conn.requests = 0;
        if again && self.shared.phase() != Phase::Stop {
            self.send(ops, id, now)?;
        } else {
            self.idle.push_back(id);
        }
        Ok(())
    }

    /// Sends the next batch; false (and the connection idle) when the run's number of requests is used up.
    #[inline]
    fn send(&mut self, ops: &mut Ops<'_, '_>, id: ConnId, started: Instant) -> io::Result<bool> {
        let requests = self.shared.take(self.pipeline);
        if requests == 0 {
            self.idle.push_back(id);
            return Ok(false);
        }
        if self.by_node {
            self.follow_owners(id)?;
        }
        let conn = &mut self.conns[id as usize];
        let mut buf = conn
            .buf
            .take()
            .ok_or_else(|| io::Error::other("the last send is not complete"))?;
        conn.awaiting = self.task_mix.fill(&mut buf, requests, &mut self.source);
        conn.requests = requests;
        conn.started = started;
        let counters = &self.shared.counters[self.index];
        counters
            .bytes_out
            .store(counters.bytes_out.load(Relaxed) + buf.len() as u64, Relaxed);
        ops.send(id, buf)?;
        Ok(true)
    }

    /// Keys of the connection's own node, by the newest map.
    fn follow_owners(&mut self, id: ConnId) -> io::Result<()> {
        let node = self.conns[id as usize].node;
        let generation = self.shared.owners_generation.load(Relaxed);
        if self.owners_generation != generation || self.source.only.is_none() {
            let map = self
                .shared
                .owners
                .lock()
                .map_err(|e| io::Error::other(anyhow!("{e}")))?
                .clone();
            self.source.only = map.map(|m| (m, node));
            self.owners_generation = generation;
        }
        if let Some((_, only)) = &mut self.source.only {
            *only = node;
        }
        Ok(())
    }
}
