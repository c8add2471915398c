//! The world as one core's loop sees it: sockets, clock, randomness and wake-ups, behind one trait.
//!
//! Real: [`uring`](self) and `epoll`. Simulated: `sim`, driven by a seed. The loop is generic over [`Io`], so
//! the simulation runs the production loop.
//!
//! Shape: completion based. The loop asks (`send`, `adopt`, `close` …), then calls [`Io::turn`], which hands the
//! whole batch of requests to the kernel at once and returns what has completed as [`Event`]s.
//!
//! Invariants
//! - A buffer given to the backend (a send buffer, a receive target) lives until its completion is reported.
//! - A [`ConnId`] is used again only after [`Event::Closed`] was reported for it, which is the last event of a
//!   connection and comes exactly once, whoever closed it.
//! - At most one `send` of a connection is under way; the loop gathers replies meanwhile.

mod accept;
mod clock;
pub mod epoll;
pub mod net;
mod signal;
pub mod sim;
mod slots;
#[cfg(test)]
mod tests;
pub mod uring;
mod wake;
pub mod world;

use std::time::Duration;

pub use world::World;

/// A connection's place in its core's tables: small, dense, reused after [`Event::Closed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u32);

/// Which listener a connection came through; chosen by the caller of [`Io::listen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u32);

/// Both clocks, read once a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic nanoseconds, for intervals.
    pub mono_ns: u64,
    /// Wall clock, milliseconds since 1970, for expiry.
    pub unix_ms: i64,
}

/// How long a turn may wait when nothing has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Submit what is queued, take what is there, return.
    Poll,
    /// Sleep until something completes, a wake-up comes, or the time is over; now and then it ends early, with nothing.
    AtMost(Duration),
}

/// Received bytes in a buffer that belongs to the backend. Must go back with [`Io::release`].
///
/// It dereferences to the bytes. The memory stays valid and unchanged until it is released.
#[derive(Debug)]
#[must_use = "a receive buffer must be released"]
pub struct RecvBuf {
    pub(crate) data: *const u8,
    pub(crate) len: u32,
    /// The backend's name for the buffer.
    pub(crate) id: u32,
}

impl std::ops::Deref for RecvBuf {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: a backend makes a `RecvBuf` only over `len` initialised bytes that it neither moves nor writes
        // to until `Io::release` takes the handle by value.
        unsafe { std::slice::from_raw_parts(self.data, self.len as usize) }
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The loop called [`Io::close`].
    Asked,
    /// The peer is gone, or the socket failed with this errno.
    Error(i32),
}

/// What happened since the last turn.
#[derive(Debug)]
pub enum Event<S> {
    /// A listener accepted a socket. It is not served until some core adopts it.
    Accepted {
        listener: ListenerId,
        stream: S,
        peer: String,
        local: String,
    },
    /// Accepting failed (out of descriptors, say); the backend tries again by itself after a pause.
    AcceptFailed { listener: ListenerId, errno: i32 },
    /// Bytes arrived.
    Received { conn: ConnId, buf: RecvBuf },
    /// The receive asked for by [`Io::recv_into`] is complete: `buf.len()` has reached the wanted length.
    Filled { conn: ConnId, buf: Vec<u8> },
    /// The peer will send no more. It may still read: the loop answers what it has, then closes.
    Eof { conn: ConnId },
    /// All of a send's bytes were taken by the kernel; the buffer comes back, cleared, for reuse.
    Sent { conn: ConnId, buf: Vec<u8> },
    /// The last event of a connection. Its descriptor is closed, no buffer of it is in use.
    Closed { conn: ConnId, reason: CloseReason },
    /// A process signal (SIGTERM, SIGINT), only on the core that asked for them.
    Signal { number: i32 },
}

/// One core's world. Created on the thread that uses it; not `Send`.
pub trait Io: Sized {
    /// An accepted socket on its way to the core that will serve it.
    type Stream: Send + std::fmt::Debug + 'static;
    /// A bound socket, made before the cores start so that an error stops the start.
    type Listener: Send + 'static;
    /// What another core needs to wake this one.
    type Waker: Clone + Send + Sync + 'static;

    /// The clocks as read at the start of the current turn.
    fn now(&self) -> Now;
    /// The monotonic clock as it is at this moment, in nanoseconds, for timing what happens within a turn.
    fn mono_ns(&self) -> u64;
    /// A random number; from the seed in the simulation.
    fn random(&mut self) -> u64;

    /// This core's waker, given to the others before any of them runs.
    fn waker(&self) -> Self::Waker;
    /// The wakers of all cores, by core number (its own included).
    fn connect(&mut self, wakers: Vec<Self::Waker>);
    /// Makes `core`'s current or next waiting `turn` return. Takes effect at the latest in this core's next `turn`.
    /// The caller has checked that the other sleeps; a spurious wake-up is harmless, a lost one is not.
    fn wake(&mut self, core: usize);
    /// All of that takes effect now: for a core that waits for another one within its turn.
    fn push_wakes(&mut self) {}
    /// Lets other cores go on, for one that waits for them within its turn.
    fn yield_now(&self) {
        std::thread::yield_now();
    }

    /// Accepts on `listener` from now on.
    fn listen(&mut self, listener: Self::Listener, id: ListenerId);
    /// Stops accepting and closes the listener.
    fn unlisten(&mut self, id: ListenerId);
    /// Serves an accepted socket: receiving starts.
    fn adopt(&mut self, stream: Self::Stream) -> ConnId;
    /// Sends all of `buf`. At most one send a connection: the next only after [`Event::Sent`].
    /// After a failure no `Sent` comes, but `Closed`.
    fn send(&mut self, conn: ConnId, buf: Vec<u8>);
    /// Gives a receive buffer back.
    fn release(&mut self, buf: RecvBuf);
    /// The next bytes of the connection go straight to the end of `buf` until it holds `want` bytes in all:
    /// for values larger than a receive buffer. Then [`Event::Filled`], and ordinary receiving goes on.
    /// Bytes already received by the backend, and not yet reported, are copied into it first; those of events that
    /// the loop has yet to look at are not, so it takes them all before it calls this.
    /// If the peer ends first, there is [`Event::Eof`] or [`Event::Closed`], no `Filled`, and `buf` is dropped.
    fn recv_into(&mut self, conn: ConnId, buf: Vec<u8>, want: usize);
    /// How many bytes the buffer of [`Io::recv_into`] holds by now; 0 if there is none.
    fn received_into(&self, conn: ConnId) -> usize;
    /// Stops reading from a client whose replies or requests pile up; what has already arrived is still reported.
    fn pause(&mut self, conn: ConnId);
    /// Reads again.
    fn resume(&mut self, conn: ConnId);
    /// Ends a connection; [`Event::Closed`] follows. A send under way is cut off, unless `flush`, which lets it end.
    fn close(&mut self, conn: ConnId, flush: bool);
    /// Sets SO_KEEPALIVE with this interval in seconds (0: off).
    fn keepalive(&mut self, conn: ConnId, seconds: u32);

    /// Delivers SIGTERM and SIGINT as [`Event::Signal`] from now on, instead of ending the process.
    /// One core of a process asks for this.
    fn watch_signals(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    /// True when `turn(Poll)` has something to do: a cheap look from user space, for spinning.
    fn ready(&self) -> bool;
    /// Hands everything asked for to the kernel and appends what has completed to `events`.
    /// EINTR and a timeout are not errors. An error means that the backend cannot go on.
    fn turn(&mut self, wait: Wait, events: &mut Vec<Event<Self::Stream>>) -> std::io::Result<()>;
}
