//! One connection of the epoll backend: what it reads and writes, and how it ends.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::Epoll;
use crate::io::net::{self, Stream};
use crate::io::{CloseReason, ConnId, Event};

/// How many bytes one connection may bring in a turn while others wait.
const READ_BUDGET: usize = 256 << 10;

pub(super) struct Conn {
    pub(super) fd: OwnedFd,
    pub(super) paused: bool,
    pub(super) eof: bool,
    /// The kernel may have bytes, or an end, for us.
    pub(super) readable: bool,
    /// The end of the stream is in sight: read on after a short read.
    pub(super) ending: bool,
    /// In `ready`.
    pub(super) queued: bool,
    pub(super) into: Option<Box<Into>>,
    pub(super) send: Vec<u8>,
    pub(super) sent: usize,
    pub(super) sending: bool,
    /// After this send the connection ends.
    pub(super) flushing: bool,
}

pub(super) struct Into {
    pub(super) buf: Vec<u8>,
    pub(super) want: usize,
}

impl Conn {
    fn reads(&self) -> bool {
        !self.eof && !self.paused && !self.flushing
    }
}

/// How a look at a socket ended.
enum Read {
    /// Nothing is left in the socket.
    Drained,
    /// The budget is used up.
    More,
    End,
    Failed(i32),
}

impl Epoll {
    /// Puts a connection in the queue of those to be read, if there may be something and it wants it.
    #[inline]
    pub(super) fn enqueue(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && conn.readable
            && !conn.queued
            && conn.reads()
        {
            conn.queued = true;
            self.ready.push_back(id);
        }
    }

    pub(super) fn read_ready(&mut self, events: &mut Vec<Event<Stream>>) {
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else {
                return;
            };
            let Some(conn) = self.conns.get_mut(id) else {
                continue;
            };
            conn.queued = false;
            if !conn.reads() {
                continue;
            }
            match self.read(id, events) {
                Read::Drained => {
                    if let Some(conn) = self.conns.get_mut(id) {
                        conn.readable = false;
                    }
                }
                Read::More => self.enqueue(id),
                Read::End => {
                    if let Some(conn) = self.conns.get_mut(id) {
                        conn.eof = true;
                        conn.into = None;
                        events.push(Event::Eof { conn: id });
                    }
                }
                Read::Failed(errno) => self.finish(id, CloseReason::Error(errno)),
            }
        }
    }

    fn read(&mut self, id: ConnId, events: &mut Vec<Event<Stream>>) -> Read {
        let Some(conn) = self.conns.get_mut(id) else {
            return Read::Drained;
        };
        let fd = conn.fd.as_raw_fd();
        let mut budget = READ_BUDGET;
        while budget > 0 {
            let (result, room) = match &mut conn.into {
                Some(into) => {
                    let room = into.want - into.buf.len();
                    (net::recv_append(fd, &mut into.buf, room), room)
                }
                None => {
                    let space = self.pool.room();
                    let room = space.len();
                    (net::recv_now(fd, space), room)
                }
            };
            let count = match result {
                Ok(0) => return Read::End,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Read::Drained,
                Err(error) => return Read::Failed(error.raw_os_error().unwrap_or(libc::EIO)),
            };
            match &conn.into {
                None => events.push(Event::Received {
                    conn: id,
                    buf: self.pool.take(count),
                }),
                Some(into) if into.buf.len() < into.want => {}
                Some(_) => {
                    if let Some(into) = conn.into.take() {
                        events.push(Event::Filled {
                            conn: id,
                            buf: into.buf,
                        });
                    }
                    // What follows may be in the socket, however little was asked for.
                    budget = budget.saturating_sub(count);
                    continue;
                }
            }
            if count < room && !conn.ending {
                return Read::Drained;
            }
            budget = budget.saturating_sub(count);
        }
        Read::More
    }

    /// Writes what is left of a connection's send.
    pub(super) fn write(&mut self, id: ConnId, events: &mut Vec<Event<Stream>>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if !conn.sending {
            return;
        }
        while conn.sent < conn.send.len() {
            match net::send_now(conn.fd.as_raw_fd(), &conn.send[conn.sent..]) {
                Ok(count) => conn.sent += count,
                // The kernel says when there is room again.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    return self.finish(
                        id,
                        CloseReason::Error(error.raw_os_error().unwrap_or(libc::EIO)),
                    );
                }
            }
        }
        conn.sending = false;
        if conn.flushing {
            return self.finish(id, CloseReason::Asked);
        }
        let mut buf = std::mem::take(&mut conn.send);
        buf.clear();
        events.push(Event::Sent { conn: id, buf });
    }

    pub(super) fn finish(&mut self, id: ConnId, reason: CloseReason) {
        // Dropping it closes the descriptor, which unregisters it.
        if self.conns.remove(id).is_some() {
            self.closed.push((id, reason));
        }
    }
}
