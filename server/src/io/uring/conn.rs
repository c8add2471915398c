//! One connection of the ring: what it receives and sends, and how it ends.

use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::{cqueue, opcode, types};

use super::buffers::GROUP;
use super::{Op, PIECE_MAX, Uring};
use crate::io::net::{self, Stream};
use crate::io::{CloseReason, ConnId, Event, RecvBuf};

/// What a receive without buffers may bring at a time.
const OWN_BUFFER: usize = 16 << 10;

pub(super) struct Conn {
    pub(super) fd: OwnedFd,
    /// Requests on this connection that have not had their last completion.
    inflight: u32,
    recv: Recv,
    pub(super) paused: bool,
    /// The peer has sent its last byte.
    pub(super) eof: bool,
    pub(super) into: Option<Box<Into>>,
    pub(super) sending: bool,
    pub(super) send: Vec<u8>,
    /// How much of `send` the kernel has taken.
    pub(super) sent: usize,
    pub(super) closing: Closing,
}

/// The receiving request, if any. See the diagram in the module above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recv {
    Idle,
    Multi,
    Into,
    /// Readiness only: there were no buffers.
    Poll,
    /// One of the three above, cancelled, whose last completion is to come.
    Cancelling(Op),
    /// In the list of those that wait for buffers.
    Starved,
}

/// A receive into the loop's memory.
pub(super) struct Into {
    pub(super) buf: Vec<u8>,
    pub(super) want: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    Open,
    /// The send under way is the last.
    Flushing(CloseReason),
    /// All requests are being cancelled.
    Cutting(CloseReason),
}

impl Conn {
    pub(super) fn new(fd: OwnedFd) -> Conn {
        Conn {
            fd,
            inflight: 0,
            recv: Recv::Idle,
            paused: false,
            eof: false,
            into: None,
            sending: false,
            send: Vec::new(),
            sent: 0,
            closing: Closing::Open,
        }
    }

    fn reads(&self) -> bool {
        self.closing == Closing::Open && !self.eof && !self.paused
    }
}

impl Uring {
    /// Starts the receive that the connection wants, if it wants one and has none.
    #[inline]
    pub(super) fn arm(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if conn.recv != Recv::Idle || !conn.reads() {
            return;
        }
        let fd = types::Fd(conn.fd.as_raw_fd());
        conn.inflight += 1;
        if let Some(into) = &mut conn.into {
            let len = (into.want - into.buf.len()).min(PIECE_MAX);
            let entry = opcode::Recv::new(
                fd,
                into.buf.spare_capacity_mut().as_mut_ptr().cast(),
                len as u32,
            );
            conn.recv = Recv::Into;
            // SAFETY: the spare capacity holds at least `want - len` bytes (`recv_into` reserved it), and the vector
            // is left alone while `recv` is `Into` or cancelled from it.
            unsafe { self.push(entry.flags(libc::MSG_WAITALL).build(), Op::Into, id.0) };
        } else {
            conn.recv = Recv::Multi;
            // SAFETY: the request takes its memory from the buffer ring, which outlives it.
            unsafe { self.push(opcode::RecvMulti::new(fd, GROUP).build(), Op::Multi, id.0) };
        }
    }
}

impl Uring {
    /// Ends the receiving request, so that `arm` can start another kind, or none.
    pub(super) fn cancel_recv(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let op = match conn.recv {
            Recv::Multi => Op::Multi,
            Recv::Into => Op::Into,
            Recv::Poll => Op::Poll,
            Recv::Idle | Recv::Cancelling(_) | Recv::Starved => return,
        };
        conn.recv = Recv::Cancelling(op);
        self.push_cancel(
            opcode::AsyncCancel::new(op.tag(id.0)).build(),
            Op::Cancel,
            id.0,
        );
    }

    /// A cancellation was carried out a turn ago. Where it has not ended what it should have, it is repeated.
    pub(super) fn cancel_again(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if let Closing::Cutting(reason) = conn.closing {
            self.cut(id, reason);
        } else if let Recv::Cancelling(op) = conn.recv {
            self.push_cancel(
                opcode::AsyncCancel::new(op.tag(id.0)).build(),
                Op::Cancel,
                id.0,
            );
        }
    }

    /// A completion of the multishot receive.
    #[inline]
    pub(super) fn received(
        &mut self,
        id: ConnId,
        result: i32,
        flags: u32,
        events: &mut Vec<Event<Stream>>,
    ) {
        let piece = self.buffers.take(flags, result.max(0) as usize);
        let Some(conn) = self.conns.get_mut(id) else {
            debug_assert!(false, "a completion without its connection");
            return;
        };
        let more = cqueue::more(flags);
        if !more {
            conn.inflight -= 1;
            conn.recv = Recv::Idle;
        }
        match piece {
            Some(piece) if result > 0 && conn.closing == Closing::Open => {
                if conn.into.is_none() {
                    events.push(Event::Received {
                        conn: id,
                        buf: piece,
                    });
                } else {
                    self.copy_into(id, piece, events);
                }
            }
            Some(piece) => self.buffers.release(piece),
            None => {}
        }
        if !more {
            self.receive_ended(id, result, events);
        }
    }

    /// Bytes that came in a buffer while the loop wants them in its own memory.
    fn copy_into(&mut self, id: ConnId, mut piece: RecvBuf, events: &mut Vec<Event<Stream>>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let Some(mut into) = conn.into.take() else {
            return;
        };
        let count = piece.len().min(into.want - into.buf.len());
        into.buf.extend_from_slice(&piece[..count]);
        if into.buf.len() < into.want {
            conn.into = Some(into);
            self.buffers.release(piece);
            return;
        }
        events.push(Event::Filled {
            conn: id,
            buf: into.buf,
        });
        if count == piece.len() {
            self.buffers.release(piece);
            return;
        }
        // SAFETY: `count` is less than the piece's length.
        piece.data = unsafe { piece.data.add(count) };
        piece.len -= count as u32;
        events.push(Event::Received {
            conn: id,
            buf: piece,
        });
    }

    /// The completion of a receive into the loop's memory.
    pub(super) fn received_into(
        &mut self,
        id: ConnId,
        result: i32,
        events: &mut Vec<Event<Stream>>,
    ) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.inflight -= 1;
        conn.recv = Recv::Idle;
        if result > 0
            && let Some(mut into) = conn.into.take()
        {
            // SAFETY: the kernel wrote `result` bytes from the vector's length on, within what `arm` offered.
            unsafe { into.buf.set_len(into.buf.len() + result as usize) };
            if into.buf.len() < into.want {
                conn.into = Some(into);
            } else if conn.closing == Closing::Open {
                events.push(Event::Filled {
                    conn: id,
                    buf: into.buf,
                });
            }
        }
        self.receive_ended(id, result, events);
    }

    /// There was something to receive, but no buffer in the ring.
    pub(super) fn readable(&mut self, id: ConnId, events: &mut Vec<Event<Stream>>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.inflight -= 1;
        conn.recv = Recv::Idle;
        if !conn.reads() {
            return self.receive_ended(id, -libc::ECANCELED, events);
        }
        if conn.into.is_some() {
            return self.arm(id);
        }
        let mut space = vec![0; OWN_BUFFER];
        match net::recv_now(conn.fd.as_raw_fd(), &mut space) {
            Ok(0) => self.receive_ended(id, 0, events),
            Ok(count) => {
                space.truncate(count);
                events.push(Event::Received {
                    conn: id,
                    buf: self.buffers.own(space.into_boxed_slice()),
                });
                self.starve(id);
            }
            Err(error) => {
                self.receive_ended(id, -error.raw_os_error().unwrap_or(libc::EIO), events)
            }
        }
    }

    /// A receive is over, with its last result: what follows?
    fn receive_ended(&mut self, id: ConnId, result: i32, events: &mut Vec<Event<Stream>>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        match conn.closing {
            Closing::Open => {}
            Closing::Flushing(_) => return,
            Closing::Cutting(reason) => {
                if conn.inflight == 0 {
                    self.finish(id, reason);
                }
                return;
            }
        }
        match -result {
            0 => {
                conn.eof = true;
                conn.into = None;
                events.push(Event::Eof { conn: id });
            }
            libc::ENOBUFS => self.starve(id),
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => self.arm(id),
            errno if errno > 0 => self.close_for(id, false, CloseReason::Error(errno)),
            _ => self.arm(id),
        }
    }

    /// Puts a connection on the list of those that wait for a buffer, which the next turn looks through.
    fn starve(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && conn.recv == Recv::Idle
        {
            conn.recv = Recv::Starved;
            self.starved.push(id);
        }
    }

    /// Takes a connection off that list: there are buffers now, or it has to do without.
    pub(super) fn feed(&mut self, id: ConnId, buffers: bool) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if conn.recv != Recv::Starved {
            return;
        }
        conn.recv = Recv::Idle;
        if buffers || conn.into.is_some() {
            self.arm(id);
        } else if conn.reads() {
            let entry =
                opcode::PollAdd::new(types::Fd(conn.fd.as_raw_fd()), libc::POLLIN as u32).build();
            conn.inflight += 1;
            conn.recv = Recv::Poll;
            // SAFETY: the request names no memory.
            unsafe { self.push(entry, Op::Poll, id.0) };
        }
    }

    /// Hands what is left of the connection's send to the kernel.
    #[inline]
    pub(super) fn push_send(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let rest = &conn.send[conn.sent..];
        let len = rest.len().min(PIECE_MAX) as u32;
        let entry = opcode::Send::new(types::Fd(conn.fd.as_raw_fd()), rest.as_ptr(), len)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        conn.inflight += 1;
        // SAFETY: `send` is left alone until the completion.
        unsafe { self.push(entry, Op::Send, id.0) };
    }

    /// The completion of a send.
    #[inline]
    pub(super) fn sent(&mut self, id: ConnId, result: i32, events: &mut Vec<Event<Stream>>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.inflight -= 1;
        conn.sending = false;
        if let Closing::Cutting(reason) = conn.closing {
            if conn.inflight == 0 {
                self.finish(id, reason);
            }
            return;
        }
        if result >= 0 {
            conn.sent += result as usize;
        } else if !matches!(-result, libc::EINTR | libc::EAGAIN) {
            return self.close_for(id, false, CloseReason::Error(-result));
        }
        if conn.sent < conn.send.len() {
            conn.sending = true;
            return self.push_send(id);
        }
        match conn.closing {
            Closing::Flushing(reason) => self.cut(id, reason),
            _ => {
                let mut buf = std::mem::take(&mut conn.send);
                buf.clear();
                events.push(Event::Sent { conn: id, buf });
            }
        }
    }

    /// Starts the end of a connection.
    pub(super) fn close_for(&mut self, id: ConnId, flush: bool, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        match conn.closing {
            Closing::Cutting(_) => {}
            Closing::Open if flush && conn.sending => {
                conn.closing = Closing::Flushing(reason);
                self.cancel_recv(id);
            }
            Closing::Flushing(_) if flush => {}
            Closing::Open | Closing::Flushing(_) => self.cut(id, reason),
        }
    }

    /// Cancels whatever is under way; the last completion ends the connection.
    fn cut(&mut self, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.closing = Closing::Cutting(reason);
        if conn.inflight == 0 {
            return self.finish(id, reason);
        }
        let all = types::CancelBuilder::fd(types::Fd(conn.fd.as_raw_fd())).all();
        self.push_cancel(opcode::AsyncCancel2::new(all).build(), Op::Cancel, id.0);
    }

    fn finish(&mut self, id: ConnId, reason: CloseReason) {
        // Dropping it closes the descriptor. A place in the list of the starved is skipped when it is reached.
        if self.conns.remove(id).is_some() {
            self.closed.push((id, reason));
        }
    }
}
