//! The backend in use, chosen at start: the loop is written against this one type.

use super::net::{Listener, Stream};
use super::{ConnId, Event, Io, ListenerId, Now, RecvBuf, Wait, epoll, sim, uring};
use crate::config::enums::IoEngine;

/// io_uring, epoll, or the simulation.
#[allow(clippy::large_enum_variant)]
pub enum World {
    Uring(uring::Uring),
    Epoll(epoll::Epoll),
    Sim(sim::SimIo),
}

/// How to wake a core.
#[derive(Clone)]
pub enum Waker {
    Uring(uring::Waker),
    Epoll(epoll::Waker),
    Sim,
}

impl Waker {
    /// Wakes the core from any thread; in the simulation all look by themselves.
    pub fn wake(&self) {
        match self {
            Self::Uring(waker) => waker.wake(),
            Self::Epoll(waker) => waker.wake(),
            Self::Sim => {}
        }
    }
}

impl World {
    /// Decides once for all cores, which wake each other by the backend's own means: `auto` becomes io_uring where it can be
    /// had, else epoll.
    pub fn choose(engine: IoEngine) -> IoEngine {
        if engine != IoEngine::Auto {
            return engine;
        }
        match uring::Uring::new(&uring::Options::default()) {
            Ok(_) => IoEngine::Uring,
            Err(error) => {
                tracing::warn!("io_uring is not available ({error}); using epoll");
                IoEngine::Epoll
            }
        }
    }
    /// Opens the backend that [`World::choose`] chose, on the thread of one of so many cores.
    pub fn start(engine: IoEngine, cores: usize) -> std::io::Result<Self> {
        match engine {
            IoEngine::Epoll => Ok(Self::Epoll(epoll::Epoll::new()?)),
            IoEngine::Uring | IoEngine::Auto => {
                let options = uring::Options::of_cores(cores);
                Ok(Self::Uring(uring::Uring::new(&options)?))
            }
        }
    }
    /// In the simulation, this core accepts what arrives; real listeners go through [`Io::listen`].
    pub fn listen_simulated(&mut self, id: ListenerId) {
        match self {
            Self::Sim(io) => io.accept(id),
            _ => panic!("a simulated listener in the real world"),
        }
    }
    /// As INFO names it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Uring(_) => "io_uring",
            Self::Epoll(_) => "epoll",
            Self::Sim(_) => "simulation",
        }
    }
}

macro_rules! each {
    ($world:expr, $io:ident => $call:expr) => {
        match $world {
            World::Uring($io) => $call,
            World::Epoll($io) => $call,
            World::Sim($io) => $call,
        }
    };
}

impl Io for World {
    type Stream = Stream;
    type Listener = Listener;
    type Waker = Waker;

    #[inline]
    fn now(&self) -> Now {
        each!(self, io => io.now())
    }
    #[inline]
    fn mono_ns(&self) -> u64 {
        each!(self, io => io.mono_ns())
    }
    fn random(&mut self) -> u64 {
        each!(self, io => io.random())
    }
    fn waker(&self) -> Waker {
        match self {
            Self::Uring(io) => Waker::Uring(io.waker()),
            Self::Epoll(io) => Waker::Epoll(io.waker()),
            Self::Sim(_) => Waker::Sim,
        }
    }
    fn connect(&mut self, wakers: Vec<Waker>) {
        // All cores decide alike, so all wakers are of one kind; one that is not could never be used.
        match self {
            Self::Uring(io) => io.connect(
                wakers
                    .into_iter()
                    .map(|w| match w {
                        Waker::Uring(w) => w,
                        _ => panic!("cores on different backends"),
                    })
                    .collect(),
            ),
            Self::Epoll(io) => io.connect(
                wakers
                    .into_iter()
                    .map(|w| match w {
                        Waker::Epoll(w) => w,
                        _ => panic!("cores on different backends"),
                    })
                    .collect(),
            ),
            Self::Sim(_) => {}
        }
    }
    fn wake(&mut self, core: usize) {
        each!(self, io => io.wake(core))
    }
    fn yield_now(&self) {
        each!(self, io => io.yield_now())
    }
    fn push_wakes(&mut self) {
        each!(self, io => io.push_wakes())
    }
    fn listen(&mut self, listener: Listener, id: ListenerId) {
        match self {
            Self::Uring(io) => io.listen(listener, id),
            Self::Epoll(io) => io.listen(listener, id),
            Self::Sim(_) => panic!("a real listener in a simulation"),
        }
    }
    fn unlisten(&mut self, id: ListenerId) {
        each!(self, io => io.unlisten(id))
    }
    fn adopt(&mut self, stream: Stream) -> ConnId {
        each!(self, io => io.adopt(stream))
    }
    #[inline]
    fn send(&mut self, conn: ConnId, buf: Vec<u8>) {
        each!(self, io => io.send(conn, buf))
    }
    #[inline]
    fn release(&mut self, buf: RecvBuf) {
        each!(self, io => io.release(buf))
    }
    fn recv_into(&mut self, conn: ConnId, buf: Vec<u8>, want: usize) {
        each!(self, io => io.recv_into(conn, buf, want))
    }
    fn received_into(&self, conn: ConnId) -> usize {
        each!(self, io => io.received_into(conn))
    }
    fn pause(&mut self, conn: ConnId) {
        each!(self, io => io.pause(conn))
    }
    fn resume(&mut self, conn: ConnId) {
        each!(self, io => io.resume(conn))
    }
    fn close(&mut self, conn: ConnId, flush: bool) {
        each!(self, io => io.close(conn, flush))
    }
    fn keepalive(&mut self, conn: ConnId, seconds: u32) {
        each!(self, io => io.keepalive(conn, seconds))
    }
    fn watch_signals(&mut self) -> std::io::Result<()> {
        each!(self, io => io.watch_signals())
    }
    #[inline]
    fn ready(&self) -> bool {
        each!(self, io => io.ready())
    }
    #[inline]
    fn turn(&mut self, wait: Wait, events: &mut Vec<Event<Stream>>) -> std::io::Result<()> {
        each!(self, io => io.turn(wait, events))
    }
}
