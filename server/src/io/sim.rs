//! The simulated world: a network in memory, a clock and chance, all from one seed. The production core runs over it.
//!
//! What it does to the core: requests arrive cut anywhere, merged, or late; sends take several turns; clients vanish in the
//! middle, close one half, or never read; each core's turns come in any order and number, so mail and parts wait as long as
//! the seed says. A turn never blocks: the scheduler of `tests/sim` decides who runs next. A core that waits for others within
//! its turn, as one does that runs a script over all cores, lets the scheduler go on below it ([`Net::others`]).
//!
//! One thread runs all cores of a simulation; the network is shared between them without locks.

use super::net::Stream;
use super::slots::Slots;
use super::{CloseReason, ConnId, Event, Io, ListenerId, Now, RecvBuf, Wait};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

/// Chance from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.draw() as u128 * n as u128) >> 64) as usize
    }
    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// One simulated connection, seen from outside.
#[derive(Debug, Default)]
pub struct Pipe {
    /// Sent by the client, not yet received by the server.
    pub to_server: VecDeque<u8>,
    /// Sent by the server.
    pub to_client: Vec<u8>,
    /// The client will send no more.
    pub client_done: bool,
    /// The client is gone altogether.
    pub client_gone: bool,
    /// The client takes nothing in: sends to it do not complete.
    pub client_deaf: bool,
    pub server_closed: bool,
}

/// Lets cores other than the waiting one take a turn.
pub type Others = Rc<dyn Fn()>;

/// What all cores of a simulation share.
pub struct Net {
    pub chance: Chance,
    pub pipes: Vec<Pipe>,
    pub mono_ns: u64,
    pub unix_ms: i64,
    /// Connections that no core has accepted yet.
    pub arriving: VecDeque<usize>,
    /// A stream on its way to its core is a real socket that nobody talks to, so that the core's types need not know of the
    /// simulation; its descriptor stands for the pipe.
    tokens: HashMap<RawFd, usize>,
    /// Called, with nothing borrowed, by a core that waits within its turn.
    pub others: Option<Others>,
}

pub type SharedNet = Rc<RefCell<Net>>;

impl Net {
    pub fn shared(seed: u64) -> SharedNet {
        Rc::new(RefCell::new(Net {
            chance: Chance::new(seed),
            pipes: Vec::new(),
            mono_ns: 1_000_000_000,
            unix_ms: 1_700_000_000_000,
            arriving: VecDeque::new(),
            tokens: HashMap::new(),
            others: None,
        }))
    }
    pub fn connect(&mut self) -> usize {
        let pipe = self.pipe();
        self.arriving.push_back(pipe);
        pipe
    }
    /// A connection that arrives nowhere.
    pub fn pipe(&mut self) -> usize {
        self.pipes.push(Pipe::default());
        self.pipes.len() - 1
    }
    /// A connection for a core to adopt.
    pub fn stream(&mut self, pipe: usize) -> std::io::Result<Stream> {
        let (token, _) = UnixStream::pair()?;
        let stream = Stream::from(token);
        self.tokens.insert(stream.as_fd().as_raw_fd(), pipe);
        Ok(stream)
    }
}

#[derive(Debug)]
struct Conn {
    pipe: usize,
    sending: Option<(Vec<u8>, usize)>,
    into: Option<(Vec<u8>, usize)>,
    paused: bool,
    eof_told: bool,
    /// Closing: after the send under way if true.
    closing: Option<bool>,
}

/// One core's simulated world.
pub struct SimIo {
    net: SharedNet,
    listener: Option<ListenerId>,
    conns: Slots<Conn>,
    ids: Vec<ConnId>,
    /// Receive buffers handed out, by their id.
    buffers: Vec<Option<Box<[u8]>>>,
    now: Now,
}

impl SimIo {
    pub fn new(net: &SharedNet) -> Self {
        let (mono_ns, unix_ms) = (net.borrow().mono_ns, net.borrow().unix_ms);
        Self {
            net: net.clone(),
            listener: None,
            conns: Slots::new(),
            ids: Vec::new(),
            buffers: Vec::new(),
            now: Now { mono_ns, unix_ms },
        }
    }
    /// This core accepts what arrives.
    pub fn accept(&mut self, id: ListenerId) {
        self.listener = Some(id);
    }

    fn hand_out(&mut self, bytes: Vec<u8>) -> RecvBuf {
        let bytes = bytes.into_boxed_slice();
        let (data, len) = (bytes.as_ptr(), bytes.len() as u32);
        let free = self.buffers.iter().position(Option::is_none);
        let id = free.unwrap_or(self.buffers.len());
        if free.is_none() {
            self.buffers.push(None);
        }
        self.buffers[id] = Some(bytes);
        RecvBuf {
            data,
            len,
            id: id as u32,
        }
    }

    /// One connection's share of a turn. True when it has ended.
    fn step(&mut self, id: ConnId, events: &mut Vec<Event<Stream>>) -> bool {
        let net = self.net.clone();
        let mut net = net.borrow_mut();
        let Net { chance, pipes, .. } = &mut *net;
        let Some(conn) = self.conns.get_mut(id) else {
            return true;
        };
        let pipe = &mut pipes[conn.pipe];
        if let Some(flush) = conn.closing
            && (!flush || conn.sending.is_none() || pipe.client_gone)
        {
            pipe.server_closed = true;
            events.push(Event::Closed {
                conn: id,
                reason: CloseReason::Asked,
            });
            return true;
        }
        if pipe.client_gone && chance.one_in(3) {
            pipe.server_closed = true;
            events.push(Event::Closed {
                conn: id,
                reason: CloseReason::Error(libc::ECONNRESET),
            });
            return true;
        }
        if let Some((buf, at)) = &mut conn.sending
            && !pipe.client_deaf
            && !pipe.client_gone
            && !chance.one_in(4)
        {
            let left = buf.len() - *at;
            let piece = if chance.one_in(3) {
                chance.below(left) + 1
            } else {
                left
            };
            pipe.to_client.extend_from_slice(&buf[*at..*at + piece]);
            *at += piece;
            if *at == buf.len() {
                let (mut buf, _) = conn.sending.take().expect("matched above");
                buf.clear();
                events.push(Event::Sent { conn: id, buf });
            }
        }
        if conn.paused || conn.closing.is_some() || pipe.client_gone {
            return false;
        }
        if !pipe.to_server.is_empty() && !chance.one_in(4) {
            let all = pipe.to_server.len().min(16 << 10);
            let piece = if chance.one_in(2) {
                chance.below(all) + 1
            } else {
                all
            };
            if let Some((buf, want)) = &mut conn.into {
                let piece = piece.min(*want - buf.len());
                buf.extend(pipe.to_server.drain(..piece));
                if buf.len() == *want {
                    let (buf, _) = conn.into.take().expect("matched above");
                    events.push(Event::Filled { conn: id, buf });
                }
                return false;
            }
            let bytes: Vec<u8> = pipe.to_server.drain(..piece).collect();
            drop(net);
            let buf = self.hand_out(bytes);
            events.push(Event::Received { conn: id, buf });
        } else if pipe.client_done && pipe.to_server.is_empty() && !conn.eof_told {
            conn.eof_told = true;
            events.push(Event::Eof { conn: id });
        }
        false
    }
}

impl Io for SimIo {
    type Stream = Stream;
    type Listener = ();
    type Waker = ();

    fn now(&self) -> Now {
        self.now
    }
    fn mono_ns(&self) -> u64 {
        self.net.borrow().mono_ns
    }
    fn random(&mut self) -> u64 {
        self.net.borrow_mut().chance.draw()
    }
    fn waker(&self) {}
    fn connect(&mut self, _: Vec<()>) {}
    fn wake(&mut self, _: usize) {}
    fn yield_now(&self) {
        let others = self.net.borrow().others.clone();
        others.expect("a simulation in which cores may wait")();
    }
    fn listen(&mut self, _: (), id: ListenerId) {
        self.accept(id);
    }
    fn unlisten(&mut self, _: ListenerId) {
        self.listener = None;
    }
    fn adopt(&mut self, stream: Stream) -> ConnId {
        let token = stream.as_fd().as_raw_fd();
        let pipe = self
            .net
            .borrow_mut()
            .tokens
            .remove(&token)
            .expect("a stream of this simulation");
        let conn = Conn {
            pipe,
            sending: None,
            into: None,
            paused: false,
            eof_told: false,
            closing: None,
        };
        let id = self.conns.insert(conn);
        self.ids.push(id);
        id
    }
    fn send(&mut self, conn: ConnId, buf: Vec<u8>) {
        if let Some(conn) = self.conns.get_mut(conn) {
            assert!(conn.sending.is_none(), "a second send of a connection");
            assert!(!buf.is_empty(), "a send of nothing");
            conn.sending = Some((buf, 0));
        }
    }
    fn release(&mut self, buf: RecvBuf) {
        let buffer = self.buffers[buf.id as usize].take();
        assert!(
            buffer.is_some_and(|b| b.as_ptr() == buf.data),
            "a receive buffer released twice"
        );
    }
    fn recv_into(&mut self, conn: ConnId, buf: Vec<u8>, want: usize) {
        assert!(buf.len() < want, "nothing is missing");
        if let Some(conn) = self.conns.get_mut(conn) {
            assert!(conn.into.is_none(), "a second target");
            conn.into = Some((buf, want));
        }
    }
    fn received_into(&self, conn: ConnId) -> usize {
        let into = self.conns.get(conn).and_then(|c| c.into.as_ref());
        into.map_or(0, |(buf, _)| buf.len())
    }
    fn pause(&mut self, conn: ConnId) {
        if let Some(conn) = self.conns.get_mut(conn) {
            conn.paused = true;
        }
    }
    fn resume(&mut self, conn: ConnId) {
        if let Some(conn) = self.conns.get_mut(conn) {
            conn.paused = false;
        }
    }
    fn close(&mut self, conn: ConnId, flush: bool) {
        if let Some(conn) = self.conns.get_mut(conn) {
            conn.closing = Some(flush && conn.closing != Some(false));
        }
    }
    fn keepalive(&mut self, _: ConnId, _: u32) {}
    fn ready(&self) -> bool {
        false
    }
    fn turn(&mut self, _: Wait, events: &mut Vec<Event<Stream>>) -> std::io::Result<()> {
        self.conns.cool();
        {
            let net = self.net.borrow();
            self.now = Now {
                mono_ns: net.mono_ns,
                unix_ms: net.unix_ms,
            };
        }
        if let Some(listener) = self.listener {
            loop {
                let Some(pipe) = self.net.borrow_mut().arriving.pop_front() else {
                    break;
                };
                let (peer, local) = (
                    format!("127.0.0.1:{}", pipe + 1024),
                    "127.0.0.1:6379".to_string(),
                );
                let stream = self.net.borrow_mut().stream(pipe)?;
                events.push(Event::Accepted {
                    listener,
                    stream,
                    peer,
                    local,
                });
            }
        }
        for id in std::mem::take(&mut self.ids) {
            if self.step(id, events) {
                self.conns.remove(id);
            } else {
                self.ids.push(id);
            }
        }
        self.conns.reported();
        Ok(())
    }
}
