//! The io_uring backend: one ring a core.
//!
//! A turn: hand over what was queued (sends, new receives, wakes) and wait, in one call; then walk through the
//! completions. Receiving is multishot: one request a connection, which reports each arrival in a buffer of
//! [`buffers`]. Connections are small state machines ([`conn`]); every completion names its connection and what it
//! was for.
//!
//! ```text
//! Recv:  Idle -> Multi -> Idle            ended by the kernel (end of stream, error, no buffers): see `arm`
//!                  |
//!                  v  (cancel: pause, recv_into, close)
//!               Cancelling -> Idle
//!        Idle -> Into -> Idle             straight into the caller's memory
//!        Idle -> Starved -> Multi | Poll  no buffers: as soon as there are some, else by readiness into own memory
//! ```
//!
//! Invariants
//! - A request that names memory of a connection is counted in `inflight`; the connection's table entry, with that
//!   memory and the descriptor, goes only when the count is 0.
//! - The backend is dropped only after all requests are over; if the kernel does not let go in time, the memory is
//!   leaked rather than freed under it.

mod buffers;
mod conn;
mod listen;
mod ring;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::{cqueue, opcode, squeue, types};

use self::buffers::Buffers;
use self::conn::{Closing, Conn, Into};
pub use self::ring::Features;
use self::ring::Ring;
use super::accept::{Acceptor, Acceptors};
use super::clock::{self, Clock, Limit, Random, Timer};
use super::net::{self, Listener, Stream};
use super::signal::Signals;
use super::slots::Slots;
use super::wake::Alarm;
use super::{CloseReason, ConnId, Event, Io, ListenerId, Now, Wait};

/// Sizes of a core's ring and buffers.
#[derive(Clone, Debug)]
pub struct Options {
    /// Requests that fit in the submission queue; the completion queue has room for four times as many.
    pub entries: u32,
    /// Without incremental buffers (before Linux 6.12): the size of a receive buffer, and how many are ready at first.
    pub buffer_size: u32,
    pub buffer_count: u16,
    /// With them: the same, for the large buffers that receives share.
    pub incremental_size: u32,
    pub incremental_count: u16,
    /// Up to how many bytes of receive buffers are made where many connections send at once. Beyond it receiving goes
    /// on, less efficiently.
    pub memory_max: usize,
    /// Does without everything that is newer than Linux 6.0, so that the tests reach those paths.
    pub plain: bool,
}

impl Options {
    /// For one of so many cores: what is ready at first is there however small the server's limit of memory is, so together they have no more than
    /// one core, roughly.
    pub fn of_cores(cores: usize) -> Self {
        let Self {
            buffer_count,
            incremental_count,
            ..
        } = Self::default();
        let cores = u16::try_from(cores).unwrap_or(u16::MAX).max(1);
        Self {
            buffer_count: (buffer_count / cores).max(8),
            incremental_count: (incremental_count / cores).max(1),
            ..Self::default()
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            entries: 1024,
            buffer_size: 16 << 10,
            buffer_count: 64,
            incremental_size: 64 << 10,
            incremental_count: 4,
            memory_max: 16 << 20,
            plain: false,
        }
    }
}

/// What a completion is for: the low byte of its user data. The rest is the number of the connection or listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Op {
    Multi = 1,
    Into,
    Poll,
    Send,
    Accept,
    /// Our own alarm, and those of other cores.
    Alarm,
    Signal,
    /// A cancellation for a connection, or for a listener.
    Cancel,
    CancelAccept,
    /// The timer that ends waits.
    Timer,
    /// A wake-up for another core that could not be delivered.
    Wake,
    /// Nothing to be done: a wake-up from another core.
    Ignored,
}

impl Op {
    #[inline]
    fn tag(self, index: u32) -> u64 {
        u64::from(index) << 8 | self as u64
    }

    #[inline]
    fn of(user_data: u64) -> Op {
        match user_data as u8 {
            1 => Op::Multi,
            2 => Op::Into,
            3 => Op::Poll,
            4 => Op::Send,
            5 => Op::Accept,
            6 => Op::Alarm,
            7 => Op::Signal,
            8 => Op::Cancel,
            9 => Op::CancelAccept,
            10 => Op::Timer,
            11 => Op::Wake,
            _ => Op::Ignored,
        }
    }
}

/// One `send` or `recv` moves no more than this, far below what the kernel's 32-bit results can say.
const PIECE_MAX: usize = 1 << 30;

/// What is left of a large value is received straight into place only if it is at least this much: below that,
/// cancelling and starting again costs more than copying.
const DIRECT_MIN: usize = 32 << 10;

/// How often buffers that are not needed are given back.
const DECAY_NS: u64 = 1_000_000_000;

/// When so many connections at a time find no buffer, more buffers are kept ready. A few are bulk senders, for which
/// memory that stays in the cache is better than more of it.
const CROWD: usize = 4;

/// How long dropping the backend waits for the kernel to let go of its memory.
const DROP_WAIT: Duration = Duration::from_secs(2);

/// One core's io_uring.
pub struct Uring {
    // Dropped in this order: the ring ends before what it refers to.
    ring: Ring,
    buffers: Buffers,
    conns: Slots<Conn>,
    acceptors: Acceptors,
    alarm: Alarm,
    peers: Vec<Waker>,
    signals: Option<Signals>,
    clock: Clock,
    timer: Timer,
    /// Where the kernel reads the timer's moment from when it takes the request.
    timer_time: Box<types::Timespec>,
    random: Random,
    /// Connections that found no buffer.
    starved: Vec<ConnId>,
    /// Connections for which a cancellation was carried out; see `push_cancel`.
    cancelled: Vec<ConnId>,
    /// Ended since the last turn, to be reported at the end of this one.
    closed: Vec<(ConnId, CloseReason)>,
    /// Requests that have not had their last completion: what dropping must wait for.
    inflight: usize,
    decayed_ns: u64,
    /// The kernel refused requests: the backend cannot go on, as the next turn says.
    broken: Option<io::Error>,
}

/// What it takes to wake a core of this backend.
#[derive(Clone, Debug)]
pub struct Waker {
    /// The ring, where it can be written to. It stays open while a waker exists, so the number cannot come to mean
    /// another file; a message to a ring whose core has ended is lost, as it should be.
    ring: Option<std::sync::Arc<OwnedFd>>,
    alarm: super::wake::AlarmHandle,
}

impl Waker {
    /// Wakes the core from any thread, with a system call of its own.
    pub fn wake(&self) {
        self.alarm.ring();
    }
}

impl Uring {
    /// Sets up the ring on the thread that will use it. An error of kind `Unsupported` says why this machine does
    /// not have what it takes; another backend should be used then.
    pub fn new(options: &Options) -> io::Result<Uring> {
        let mut ring = Ring::new(options)?;
        let buffers = Buffers::new(ring.submitter(), options)?;
        ring.features.incremental_buffers = buffers.incremental;
        let mut uring = Uring {
            ring,
            buffers,
            conns: Slots::new(),
            acceptors: Acceptors::default(),
            alarm: Alarm::new()?,
            peers: Vec::new(),
            signals: None,
            clock: Clock::new(),
            timer: Timer::default(),
            timer_time: Box::default(),
            random: Random::new(),
            starved: Vec::new(),
            cancelled: Vec::new(),
            closed: Vec::new(),
            inflight: 0,
            decayed_ns: 0,
            broken: None,
        };
        uring.watch(uring.alarm.as_raw_fd(), Op::Alarm);
        Ok(uring)
    }

    /// What the kernel offered.
    pub fn features(&self) -> Features {
        self.ring.features
    }

    /// Bytes of receive buffers at the moment.
    pub fn buffer_memory(&self) -> usize {
        self.buffers.memory()
    }

    /// Connections served.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Queues a request that will have completions, the last of which is counted.
    ///
    /// # Safety
    /// Memory that the request names must stay valid until its last completion.
    #[inline]
    unsafe fn push(&mut self, entry: squeue::Entry, op: Op, index: u32) {
        self.inflight += 1;
        // SAFETY: passed on to the caller.
        if let Err(error) = unsafe { self.ring.push(&entry.user_data(op.tag(index))) } {
            self.inflight -= 1;
            self.broken.get_or_insert(error);
        }
    }

    /// Queues a cancellation. What it should have hit can, for a moment, be where the kernel does not look for it:
    /// so once it is done, a later turn looks whether it has to be repeated.
    fn push_cancel(&mut self, entry: squeue::Entry, op: Op, index: u32) {
        // SAFETY: such a request names no memory.
        unsafe { self.push(entry, op, index) };
    }

    /// Reports when `fd` becomes readable, again and again.
    fn watch(&mut self, fd: RawFd, op: Op) {
        let entry = opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32)
            .multi(true)
            .build();
        // SAFETY: the request names no memory.
        unsafe { self.push(entry, op, 0) };
    }

    fn complete(&mut self, entry: &cqueue::Entry, events: &mut Vec<Event<Stream>>) {
        let (user_data, result, flags) = (entry.user_data(), entry.result(), entry.flags());
        let op = Op::of(user_data);
        match op {
            Op::Ignored => return,
            Op::Wake => {
                // A wake-up must not be lost, whatever kept the ring from taking the message.
                if let Some(waker) = self.peers.get((user_data >> 8) as usize) {
                    waker.wake();
                }
                return;
            }
            _ => {}
        }
        let more = cqueue::more(flags);
        if !more {
            self.inflight -= 1;
        }
        let index = (user_data >> 8) as u32;
        let id = ConnId(index);
        match op {
            Op::Multi => self.received(id, result, flags, events),
            Op::Send => self.sent(id, result, events),
            Op::Into => self.received_into(id, result, events),
            Op::Poll => self.readable(id, events),
            Op::Accept => self.accepted(index as usize, result, more, events),
            Op::Alarm => {
                self.alarm.clear();
                if !more {
                    self.watch(self.alarm.as_raw_fd(), Op::Alarm);
                }
            }
            Op::Signal => {
                let Some(signals) = &self.signals else { return };
                let fd = signals.as_raw_fd();
                signals.take(|number| events.push(Event::Signal { number }));
                if !more {
                    self.watch(fd, Op::Signal);
                }
            }
            Op::Cancel => self.cancelled.push(id),
            Op::CancelAccept => {
                if self
                    .acceptors
                    .get(index as usize)
                    .is_some_and(|acceptor| acceptor.closing && acceptor.armed)
                {
                    self.cancel_accept(index as usize);
                }
            }
            Op::Timer => self.timer.fired(),
            Op::Wake | Op::Ignored => {}
        }
    }

    /// Sees to it that a wait of now ends after `time`. Gives the limit that it needs itself, if it does.
    fn limit(&mut self, time: Duration) -> Option<Duration> {
        match self.timer.limit(self.clock.now().mono_ns, time) {
            Limit::Running => None,
            Limit::Own(time) => Some(time),
            Limit::Set(until_ns) => {
                let until = Duration::from_nanos(until_ns);
                // Not read by the kernel any more: a timer is set only when the last one has fired.
                *self.timer_time = types::Timespec::from(until);
                let entry = opcode::Timeout::new(&raw const *self.timer_time)
                    .flags(types::TimeoutFlags::ABS)
                    .build();
                // SAFETY: the box lives as long as the ring, and is left alone until the timer has fired.
                unsafe { self.push(entry, Op::Timer, 0) };
                None
            }
        }
    }

    /// What must happen before each entry into the kernel.
    fn prepare(&mut self) {
        if !self.cancelled.is_empty() {
            for id in std::mem::take(&mut self.cancelled) {
                self.cancel_again(id);
            }
        }
        if self.starved.len() >= CROWD {
            self.buffers.ran_dry();
        }
        let ready = self.buffers.top_up();
        if !self.starved.is_empty() {
            // More receives than buffers would only fail again; the others wait for readiness.
            for (index, id) in std::mem::take(&mut self.starved).into_iter().enumerate() {
                self.feed(id, index < ready);
            }
        }
        if self.acceptors.any_waiting() {
            let now = clock::mono_ns();
            while let Some(index) = self.acceptors.due(now) {
                self.accept(index);
            }
        }
        let now = self.clock.now().mono_ns;
        if now - self.decayed_ns > DECAY_NS {
            self.decayed_ns = now;
            self.buffers.decay();
        }
    }
}

impl Io for Uring {
    type Stream = Stream;
    type Listener = Listener;
    type Waker = Waker;

    #[inline]
    fn now(&self) -> Now {
        self.clock.now()
    }

    #[inline]
    fn mono_ns(&self) -> u64 {
        clock::mono_ns()
    }

    #[inline]
    fn random(&mut self) -> u64 {
        self.random.next()
    }

    fn waker(&self) -> Waker {
        let ring = if self.ring.features.msg_ring {
            super::wake::duplicate(self.ring.as_raw_fd())
                .ok()
                .map(std::sync::Arc::new)
        } else {
            None
        };
        Waker {
            ring,
            alarm: self.alarm.handle(),
        }
    }

    fn connect(&mut self, wakers: Vec<Waker>) {
        self.peers = wakers;
    }

    fn wake(&mut self, core: usize) {
        let Some(waker) = self.peers.get(core) else {
            return;
        };
        match &waker.ring {
            Some(ring) => {
                let fd = types::Fd(ring.as_raw_fd());
                // The other ring sees a completion of an ignored request, which is all it takes.
                let entry = opcode::MsgRingData::new(fd, 0, Op::Ignored.tag(0), None).build();
                let entry = entry
                    .flags(squeue::Flags::SKIP_SUCCESS)
                    .user_data(Op::Wake.tag(core as u32));
                // SAFETY: the request names no memory.
                if let Err(error) = unsafe { self.ring.push(&entry) } {
                    self.broken.get_or_insert(error);
                }
            }
            None => waker.wake(),
        }
    }

    fn push_wakes(&mut self) {
        if self.ring.has_queued()
            && let Err(error) = self.ring.enter(0, None)
        {
            self.broken.get_or_insert(error);
        }
    }

    fn watch_signals(&mut self) -> io::Result<()> {
        let signals = Signals::new()?;
        self.watch(signals.as_raw_fd(), Op::Signal);
        self.signals = Some(signals);
        Ok(())
    }

    fn listen(&mut self, listener: Listener, id: ListenerId) {
        let index = self.acceptors.insert(Acceptor::new(listener, id));
        self.accept(index);
    }

    fn unlisten(&mut self, id: ListenerId) {
        for index in self.acceptors.find(id) {
            let Some(acceptor) = self.acceptors.get(index) else {
                continue;
            };
            acceptor.closing = true;
            if acceptor.armed {
                self.cancel_accept(index);
            } else {
                self.acceptors.remove(index);
            }
        }
    }

    fn adopt(&mut self, stream: Stream) -> ConnId {
        let id = self.conns.insert(Conn::new(stream.into_served()));
        self.arm(id);
        id
    }

    fn send(&mut self, conn: ConnId, buf: Vec<u8>) {
        let Some(state) = self.conns.get_mut(conn) else {
            return;
        };
        if state.closing != Closing::Open {
            return;
        }
        assert!(!state.sending, "one send of a connection at a time");
        state.sending = true;
        state.send = buf;
        state.sent = 0;
        self.push_send(conn);
    }

    #[inline]
    fn release(&mut self, buf: super::RecvBuf) {
        self.buffers.release(buf);
    }

    fn recv_into(&mut self, conn: ConnId, mut buf: Vec<u8>, want: usize) {
        let Some(state) = self.conns.get_mut(conn) else {
            return;
        };
        if state.closing != Closing::Open || state.eof {
            return;
        }
        assert!(
            state.into.is_none() && buf.len() < want,
            "one receive of a connection at a time, of something"
        );
        let missing = want - buf.len();
        buf.reserve_exact(missing);
        state.into = Some(Box::new(Into { buf, want }));
        if missing >= DIRECT_MIN {
            self.cancel_recv(conn);
        }
        self.arm(conn);
    }

    fn received_into(&self, conn: ConnId) -> usize {
        let into = self.conns.get(conn).and_then(|c| c.into.as_ref());
        into.map_or(0, |into| into.buf.len())
    }

    fn pause(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get_mut(conn) else {
            return;
        };
        state.paused = true;
        self.cancel_recv(conn);
    }

    fn resume(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get_mut(conn) else {
            return;
        };
        state.paused = false;
        self.arm(conn);
    }

    fn close(&mut self, conn: ConnId, flush: bool) {
        self.close_for(conn, flush, CloseReason::Asked);
    }

    fn keepalive(&mut self, conn: ConnId, seconds: u32) {
        let Some(state) = self.conns.get(conn) else {
            return;
        };
        // Fails only where the connection is broken, which receiving reports.
        let _ = net::keepalive(state.fd.as_raw_fd(), seconds);
    }

    #[inline]
    fn ready(&self) -> bool {
        self.ring.has_queued() || self.ring.has_completions() || !self.closed.is_empty()
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event<Stream>>) -> io::Result<()> {
        self.conns.cool();
        self.prepare();
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        match wait {
            Wait::AtMost(time) if !time.is_zero() && self.closed.is_empty() => {
                let time = self.acceptors.limit_wait(time);
                let own = self.limit(time);
                self.ring.enter(1, own)?;
            }
            _ => {
                if self.ring.has_queued() || self.ring.has_completions() {
                    self.ring.enter(0, None)?;
                }
            }
        }
        self.clock.tick();
        while let Some(entry) = self.ring.next() {
            self.complete(&entry, events);
        }
        self.ring.sync_completions();
        if !self.closed.is_empty() {
            events.extend(
                self.closed
                    .drain(..)
                    .map(|(conn, reason)| Event::Closed { conn, reason }),
            );
            self.conns.reported();
        }
        Ok(())
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        let everything = || opcode::AsyncCancel2::new(types::CancelBuilder::any().all()).build();
        self.push_cancel(everything(), Op::Cancel, 0);
        let started = clock::mono_ns();
        let time = Duration::from_millis(100);
        while self.inflight > 0 && clock::mono_ns() - started < DROP_WAIT.as_nanos() as u64 {
            if self.ring.enter(1, Some(time)).is_err() {
                break;
            }
            let mut done = false;
            while let Some(entry) = self.ring.next() {
                let op = Op::of(entry.user_data());
                if !matches!(op, Op::Ignored | Op::Wake) && !cqueue::more(entry.flags()) {
                    self.inflight -= 1;
                }
                done |= op == Op::Cancel;
            }
            self.ring.sync_completions();
            if done && self.inflight > 0 {
                self.push_cancel(everything(), Op::Cancel, 0);
            }
        }
        if self.inflight > 0 {
            // The kernel may still write to this memory.
            std::mem::forget(std::mem::replace(&mut self.conns, Slots::new()));
            self.buffers.leak();
        }
    }
}
