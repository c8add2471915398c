//! One suite for every real backend: what the core loop relies on, over real sockets.
//!
//! [`World`] is the smallest loop: it runs turns and hands out events one by one. Each test is a generic function
//! over [`Io`]; `suite!` at the end runs all of them on each backend, and on io_uring also without what is newer than
//! Linux 6.0, and with a ring and buffers so small that everything runs out all the time.

mod ends;
mod many;
mod receive;
mod sockets;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::epoll::Epoll;
use super::net::{Listener, Stream};
use super::uring::{Options, Uring};
use super::*;

/// What a test needs of a backend.
trait Backend: Io<Stream = Stream, Listener = Listener> + 'static {}
impl<I: Io<Stream = Stream, Listener = Listener> + 'static> Backend for I {}

/// Nothing in these tests takes longer, unless an event was lost.
const PATIENCE: Duration = Duration::from_secs(20);

struct World<I: Backend> {
    io: I,
    addr: SocketAddr,
    queue: VecDeque<Event<Stream>>,
    /// Connections whose `Closed` came, to see that it is the last event and comes once.
    closed: Vec<ConnId>,
}

impl<I: Backend> World<I> {
    fn new(mut io: I) -> World<I> {
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap(), 511).unwrap();
        let addr = listener.tcp_addr().unwrap();
        io.listen(listener, ListenerId(1));
        World {
            io,
            addr,
            queue: VecDeque::new(),
            closed: Vec::new(),
        }
    }

    /// One turn that waits no longer than `wait`.
    fn turn(&mut self, wait: Duration) {
        let mut events = Vec::new();
        self.io.turn(Wait::AtMost(wait), &mut events).unwrap();
        for event in &events {
            let conn = match event {
                Event::Received { conn, .. }
                | Event::Filled { conn, .. }
                | Event::Eof { conn }
                | Event::Sent { conn, .. }
                | Event::Closed { conn, .. } => *conn,
                Event::Accepted { .. } | Event::AcceptFailed { .. } | Event::Signal { .. } => {
                    continue;
                }
            };
            assert!(!self.closed.contains(&conn), "{event:?} after Closed");
            if matches!(event, Event::Closed { .. }) {
                self.closed.push(conn);
            }
        }
        self.queue.extend(events);
    }

    fn next(&mut self) -> Event<Stream> {
        let start = Instant::now();
        loop {
            if let Some(event) = self.queue.pop_front() {
                return event;
            }
            assert!(start.elapsed() < PATIENCE, "an event is missing");
            self.turn(Duration::from_millis(100));
        }
    }

    /// Runs turns for a while, and asserts that nothing happens.
    fn silence(&mut self) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(60) {
            self.turn(Duration::from_millis(20));
            assert!(self.queue.is_empty(), "unexpected {:?}", self.queue);
        }
    }

    /// A client of this world, and its connection here.
    fn client(&mut self) -> (TcpStream, ConnId) {
        let client = TcpStream::connect(self.addr).unwrap();
        let conn = self.adopt_next();
        (client, conn)
    }

    fn adopt_next(&mut self) -> ConnId {
        match self.next() {
            Event::Accepted { stream, .. } => {
                let conn = self.io.adopt(stream);
                // A new life of an old number.
                self.closed.retain(|&old| old != conn);
                conn
            }
            event => panic!("unexpected {event:?}"),
        }
    }

    /// The next `count` bytes of one connection, in however many events; all other events are unexpected.
    fn receive(&mut self, conn: ConnId, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            match self.next() {
                Event::Received { conn: from, buf } if from == conn => {
                    bytes.extend_from_slice(&buf);
                    self.io.release(buf);
                }
                event => panic!("unexpected {event:?}"),
            }
        }
        assert_eq!(bytes.len(), count, "more than was sent");
        bytes
    }

    fn sent(&mut self, conn: ConnId) -> Vec<u8> {
        match self.next() {
            Event::Sent { conn: from, buf } if from == conn => buf,
            event => panic!("unexpected {event:?}"),
        }
    }

    fn close_and_wait(&mut self, conn: ConnId, flush: bool) {
        self.io.close(conn, flush);
        match self.next() {
            Event::Closed { conn: from, reason } => {
                assert_eq!((from, reason), (conn, CloseReason::Asked))
            }
            event => panic!("unexpected {event:?}"),
        }
    }
}

/// Bytes that are wrong wherever one is lost, doubled or out of place.
fn pattern(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(step).collect()
}

macro_rules! suite {
    ($($name:ident: $type:ty = $make:expr;)*) => {$(
        mod $name {
            use super::*;
            fn make() -> $type {
                ($make).unwrap()
            }
            tests! {
                receive: echo echo_of_many_small_writes buffers_run_out recv_into_with_every_split
                    recv_into_again_and_again recv_into_is_cut_short close_during_recv_into pause_and_resume
                    pause_in_full_flow stopped_at_once;
                ends: half_close a_client_that_never_reads close_without_flush_cuts_a_send
                    close_with_flush_ends_the_send a_flush_can_be_cut calls_after_close
                    numbers_are_not_reused_too_early dying_clients dropped_in_full_flow;
                sockets: unix_socket addresses_and_options unlisten waits_are_kept ready_sees_arrivals;
                many: ten_thousand_connections;
            }
            #[test]
            fn adopted_elsewhere() {
                super::sockets::adopted_elsewhere(make(), make);
            }
            #[test]
            fn no_wake_up_is_lost() {
                super::sockets::no_wake_up_is_lost(make(), make);
            }
            #[test]
            fn wakes_can_be_pushed() {
                super::sockets::wakes_can_be_pushed(make(), make);
            }
        }
    )*};
}

macro_rules! tests {
    ($($module:ident: $($test:ident)*;)*) => {$($(
        #[test]
        fn $test() {
            super::$module::$test(make());
        }
    )*)*};
}

fn small() -> Options {
    Options {
        entries: 8,
        buffer_size: 512,
        buffer_count: 2,
        incremental_size: 512,
        incremental_count: 2,
        memory_max: 2048,
        plain: false,
    }
}

suite! {
    epoll: Epoll = Epoll::new();
    uring: Uring = Uring::new(&Options::default());
    uring_plain: Uring = Uring::new(&Options { plain: true, ..Options::default() });
    uring_small: Uring = Uring::new(&small());
    uring_small_plain: Uring = Uring::new(&Options { plain: true, ..small() });
}
