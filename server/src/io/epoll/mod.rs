//! The epoll backend, for machines where io_uring is missing or forbidden.
//!
//! Idea: every socket is registered once, edge-triggered, for both directions. A turn writes what the loop sent,
//! waits, and reads from whatever became readable, until a short read or a budget ends it: the connections whose
//! budget ended go to the back of the queue `ready`, and the next turn does not wait.
//!
//! Invariants
//! - A connection that may have unread bytes (`readable`) and wants to read is in `ready`: with edges, the kernel
//!   does not say it again.
//! - No system call is under way between turns, so a connection ends at once, and only `Closed` waits for the turn.

mod conn;
mod pool;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use self::conn::{Conn, Into};
use self::pool::Pool;
use super::accept::{Acceptor, Acceptors};
use super::clock::{self, Clock, Limit, Random, Timer};
use super::net::{self, Listener, Stream};
use super::signal::Signals;
use super::slots::Slots;
use super::wake::{Alarm, AlarmHandle};
use super::{CloseReason, ConnId, Event, Io, ListenerId, Now, RecvBuf, Wait};

/// Sockets that may be accepted from one listener in a turn.
const ACCEPT_BUDGET: usize = 64;

/// What the kernel reports at most at a time.
const EVENTS: usize = 512;

/// Registered user data: a kind in the upper half, a number in the lower.
const CONN: u64 = 0;
const ACCEPTOR: u64 = 1 << 32;
const ALARM: u64 = 2 << 32;
const SIGNAL: u64 = 3 << 32;
const TIMER: u64 = 4 << 32;

/// One core's epoll.
pub struct Epoll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
    conns: Slots<Conn>,
    pool: Pool,
    ready: VecDeque<ConnId>,
    /// Sends that the next turn begins.
    to_send: Vec<ConnId>,
    /// Ended since the last turn, to be reported at the end of this one.
    closed: Vec<(ConnId, CloseReason)>,
    acceptors: Acceptors,
    alarm: Alarm,
    peers: Vec<Waker>,
    signals: Option<Signals>,
    clock: Clock,
    timer: Timer,
    timer_fd: OwnedFd,
    random: Random,
    /// The kernel lacks `epoll_pwait2` (Linux 5.11), or a filter forbids it: waits are whole milliseconds.
    coarse: bool,
    /// Registering failed: the backend cannot go on, as the next turn says.
    broken: Option<io::Error>,
}

/// What it takes to wake a core of this backend.
#[derive(Clone, Debug)]
pub struct Waker(AlarmHandle);

impl Waker {
    /// Wakes the core from any thread.
    pub fn wake(&self) {
        self.0.ring();
    }
}

impl Epoll {
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: takes no memory; the result is checked.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let epoll = Epoll {
            // SAFETY: a new descriptor, which belongs to nobody yet.
            epoll: unsafe { OwnedFd::from_raw_fd(fd) },
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS],
            conns: Slots::new(),
            pool: Pool::new(),
            ready: VecDeque::new(),
            to_send: Vec::new(),
            closed: Vec::new(),
            acceptors: Acceptors::default(),
            alarm: Alarm::new()?,
            peers: Vec::new(),
            signals: None,
            clock: Clock::new(),
            timer: Timer::default(),
            timer_fd: timer_fd()?,
            random: Random::new(),
            coarse: false,
            broken: None,
        };
        // Edge-triggered: each ring is an event, and the counter never needs to be read.
        epoll.register(
            epoll.alarm.as_raw_fd(),
            libc::EPOLLIN | libc::EPOLLET,
            ALARM,
        )?;
        // Likewise: each firing is an event.
        epoll.register(
            epoll.timer_fd.as_raw_fd(),
            libc::EPOLLIN | libc::EPOLLET,
            TIMER,
        )?;
        Ok(epoll)
    }

    /// Bytes of receive buffers at the moment.
    pub fn buffer_memory(&self) -> usize {
        self.pool.memory()
    }

    /// Connections served.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    fn register(&self, fd: RawFd, interest: i32, data: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: interest as u32,
            u64: data,
        };
        // SAFETY: `event` is read during the call only.
        let result =
            unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    fn unregister(&self, fd: RawFd) {
        // It fails only for what is not registered, which is what is wanted.
        // SAFETY: EPOLL_CTL_DEL takes no event.
        unsafe {
            libc::epoll_ctl(
                self.epoll.as_raw_fd(),
                libc::EPOLL_CTL_DEL,
                fd,
                std::ptr::null_mut(),
            )
        };
    }

    fn start_accepting(&mut self, index: usize) {
        let Some(acceptor) = self.acceptors.get(index) else {
            return;
        };
        let fd = acceptor.fd();
        // Of the cores that share a socket, one is enough to wake.
        match self.register(
            fd,
            libc::EPOLLIN | libc::EPOLLEXCLUSIVE,
            ACCEPTOR | index as u64,
        ) {
            Ok(()) => {
                if let Some(acceptor) = self.acceptors.get(index) {
                    acceptor.armed = true;
                }
            }
            Err(error) => self.broken = Some(error),
        }
    }

    fn accept(&mut self, index: usize, events: &mut Vec<Event<Stream>>) {
        let Some(acceptor) = self.acceptors.get(index) else {
            return;
        };
        let (fd, listener) = (acceptor.fd(), acceptor.id);
        for _ in 0..ACCEPT_BUDGET {
            // SAFETY: the address is not asked for.
            let result = unsafe {
                libc::accept4(
                    fd,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    libc::SOCK_CLOEXEC,
                )
            };
            if result >= 0 {
                // SAFETY: a successful accept gives a descriptor that belongs to nobody yet.
                let stream = Stream::accepted(unsafe { OwnedFd::from_raw_fd(result) });
                let (peer, local) = stream.addresses();
                events.push(Event::Accepted {
                    listener,
                    stream,
                    peer,
                    local,
                });
                continue;
            }
            match io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EIO)
            {
                libc::EAGAIN => return,
                libc::ECONNABORTED | libc::EINTR | libc::EPROTO => {}
                errno => {
                    events.push(Event::AcceptFailed { listener, errno });
                    self.unregister(fd);
                    self.acceptors.retry_later(index, clock::mono_ns());
                    return;
                }
            }
        }
    }

    /// Sees to it that a wait of now ends after `time`. Gives the limit that it needs itself, if it does.
    fn limit(&mut self, time: Duration) -> io::Result<Option<Duration>> {
        match self.timer.limit(self.clock.now().mono_ns, time) {
            Limit::Running => Ok(None),
            Limit::Own(time) => Ok(Some(time)),
            Limit::Set(until_ns) => {
                let until = timespec(Duration::from_nanos(until_ns));
                let no_interval = libc::timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                };
                let setting = libc::itimerspec {
                    it_interval: no_interval,
                    it_value: until,
                };
                let fd = self.timer_fd.as_raw_fd();
                // SAFETY: the setting is read during the call only, and the old one is not asked for.
                let result = unsafe {
                    libc::timerfd_settime(
                        fd,
                        libc::TFD_TIMER_ABSTIME,
                        &setting,
                        std::ptr::null_mut(),
                    )
                };
                if result < 0 {
                    Err(io::Error::last_os_error())
                } else {
                    Ok(None)
                }
            }
        }
    }

    /// Waits, and gives the number of events.
    fn wait(&mut self, time: Option<Duration>) -> io::Result<usize> {
        let (fd, list, room) = (
            self.epoll.as_raw_fd(),
            self.events.as_mut_ptr(),
            self.events.len() as i32,
        );
        let millis = match time {
            None => Some(-1),
            Some(time) if time.is_zero() => Some(0),
            Some(time) if self.coarse => {
                Some(i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX))
            }
            Some(_) => None,
        };
        let result = if let Some(millis) = millis {
            // SAFETY: `list` has room for `room` events.
            unsafe { libc::epoll_wait(fd, list, room, millis) }
        } else {
            let time = timespec(time.unwrap_or_default());
            let no_mask = std::ptr::null::<libc::sigset_t>();
            // SAFETY: `list` has room for `room` events, `time` lives during the call. By number, because the C
            // library may be older than the call.
            unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    fd,
                    list,
                    room,
                    &raw const time,
                    no_mask,
                    0,
                ) as i32
            }
        };
        if result >= 0 {
            return Ok(result as usize);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => Ok(0),
            Some(libc::ENOSYS | libc::EPERM) if !self.coarse => {
                self.coarse = true;
                self.wait(time)
            }
            _ => Err(error),
        }
    }

    fn handle(&mut self, event: libc::epoll_event, events: &mut Vec<Event<Stream>>) {
        let (flags, data) = (event.events as i32, event.u64);
        let number = data as u32;
        match data & !u64::from(u32::MAX) {
            CONN => {
                let id = ConnId(number);
                let Some(conn) = self.conns.get_mut(id) else {
                    return;
                };
                if flags & (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0
                {
                    conn.readable = true;
                    conn.ending |=
                        flags & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0;
                    self.enqueue(id);
                }
                if flags & (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) != 0 {
                    self.write(id, events);
                }
            }
            ACCEPTOR => self.accept(number as usize, events),
            SIGNAL => {
                if let Some(signals) = &self.signals {
                    signals.take(|number| events.push(Event::Signal { number }));
                }
            }
            TIMER => self.timer.fired(),
            // An alarm: that the wait is over is all it is for.
            _ => {}
        }
    }
}

impl Io for Epoll {
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
        Waker(self.alarm.handle())
    }

    fn connect(&mut self, wakers: Vec<Waker>) {
        self.peers = wakers;
    }

    fn wake(&mut self, core: usize) {
        if let Some(waker) = self.peers.get(core) {
            waker.wake();
        }
    }

    fn listen(&mut self, listener: Listener, id: ListenerId) {
        if let Err(error) = listener.set_nonblocking() {
            self.broken = Some(error);
            return;
        }
        let index = self.acceptors.insert(Acceptor::new(listener, id));
        self.start_accepting(index);
    }

    fn unlisten(&mut self, id: ListenerId) {
        for index in self.acceptors.find(id) {
            // Another core may have the same socket open, so closing ours does not unregister it.
            if let Some(acceptor) = self.acceptors.get(index) {
                let fd = acceptor.fd();
                self.unregister(fd);
            }
            self.acceptors.remove(index);
        }
    }

    fn adopt(&mut self, stream: Stream) -> ConnId {
        let fd = stream.into_served();
        let raw = fd.as_raw_fd();
        let id = self.conns.insert(Conn {
            fd,
            paused: false,
            eof: false,
            readable: false,
            ending: false,
            queued: false,
            into: None,
            send: Vec::new(),
            sent: 0,
            sending: false,
            flushing: false,
        });
        let interest = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        if let Err(error) = self.register(raw, interest, CONN | u64::from(id.0)) {
            // Out of memory or of watches: this connection cannot be served.
            self.finish(
                id,
                CloseReason::Error(error.raw_os_error().unwrap_or(libc::EIO)),
            );
        }
        id
    }

    fn send(&mut self, conn: ConnId, buf: Vec<u8>) {
        let Some(state) = self.conns.get_mut(conn) else {
            return;
        };
        if state.flushing {
            return;
        }
        assert!(!state.sending, "one send of a connection at a time");
        state.sending = true;
        state.send = buf;
        state.sent = 0;
        self.to_send.push(conn);
    }

    #[inline]
    fn release(&mut self, buf: RecvBuf) {
        self.pool.release(buf);
    }

    fn recv_into(&mut self, conn: ConnId, mut buf: Vec<u8>, want: usize) {
        let Some(state) = self.conns.get_mut(conn) else {
            return;
        };
        if state.flushing || state.eof {
            return;
        }
        assert!(
            state.into.is_none() && buf.len() < want,
            "one receive of a connection at a time, of something"
        );
        buf.reserve_exact(want - buf.len());
        state.into = Some(Box::new(Into { buf, want }));
        self.enqueue(conn);
    }

    fn received_into(&self, conn: ConnId) -> usize {
        let into = self.conns.get(conn).and_then(|c| c.into.as_ref());
        into.map_or(0, |into| into.buf.len())
    }

    fn pause(&mut self, conn: ConnId) {
        if let Some(state) = self.conns.get_mut(conn) {
            state.paused = true;
        }
    }

    fn resume(&mut self, conn: ConnId) {
        if let Some(state) = self.conns.get_mut(conn) {
            state.paused = false;
            self.enqueue(conn);
        }
    }

    fn close(&mut self, conn: ConnId, flush: bool) {
        let Some(state) = self.conns.get_mut(conn) else {
            return;
        };
        if flush && state.sending {
            state.flushing = true;
        } else {
            self.finish(conn, CloseReason::Asked);
        }
    }

    fn keepalive(&mut self, conn: ConnId, seconds: u32) {
        let Some(state) = self.conns.get(conn) else {
            return;
        };
        // Fails only where the connection is broken, which receiving reports.
        let _ = net::keepalive(state.fd.as_raw_fd(), seconds);
    }

    fn watch_signals(&mut self) -> io::Result<()> {
        let signals = Signals::new()?;
        self.register(signals.as_raw_fd(), libc::EPOLLIN | libc::EPOLLET, SIGNAL)?;
        self.signals = Some(signals);
        Ok(())
    }

    fn ready(&self) -> bool {
        if !self.ready.is_empty() || !self.to_send.is_empty() || !self.closed.is_empty() {
            return true;
        }
        // An epoll descriptor is readable when it has events.
        let mut poll = libc::pollfd {
            fd: self.epoll.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one entry, which lives during the call.
        unsafe { libc::poll(&mut poll, 1, 0) > 0 }
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event<Stream>>) -> io::Result<()> {
        self.conns.cool();
        let mut to_send = std::mem::take(&mut self.to_send);
        for id in to_send.drain(..) {
            self.write(id, events);
        }
        self.to_send = to_send;
        if self.acceptors.any_waiting() {
            let now = clock::mono_ns();
            while let Some(index) = self.acceptors.due(now) {
                self.start_accepting(index);
            }
        }
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        let time = match wait {
            Wait::AtMost(time)
                if self.ready.is_empty() && self.closed.is_empty() && events.is_empty() =>
            {
                self.limit(self.acceptors.limit_wait(time))?
            }
            _ => Some(Duration::ZERO),
        };
        let count = self.wait(time)?;
        self.clock.tick();
        for index in 0..count {
            self.handle(self.events[index], events);
        }
        self.read_ready(events);
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

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(time.subsec_nanos() as i32),
    }
}

fn timer_fd() -> io::Result<OwnedFd> {
    // SAFETY: takes no memory; the result is checked.
    let fd = unsafe {
        libc::timerfd_create(
            libc::CLOCK_MONOTONIC,
            libc::TFD_CLOEXEC | libc::TFD_NONBLOCK,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor, which belongs to nobody yet.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
