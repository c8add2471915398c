//! Accepting on the ring: one multishot request a listener.

use std::os::fd::{FromRawFd, OwnedFd};

use io_uring::{opcode, types};

use super::{Op, Uring};
use crate::io::net::Stream;
use crate::io::{Event, clock};

impl Uring {
    pub(super) fn accept(&mut self, index: usize) {
        let Some(acceptor) = self.acceptors.get(index) else {
            return;
        };
        let entry = opcode::AcceptMulti::new(types::Fd(acceptor.fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build();
        acceptor.armed = true;
        // SAFETY: the request names no memory.
        unsafe { self.push(entry, Op::Accept, index as u32) };
    }

    pub(super) fn cancel_accept(&mut self, index: usize) {
        let entry = opcode::AsyncCancel::new(Op::Accept.tag(index as u32)).build();
        self.push_cancel(entry, Op::CancelAccept, index as u32);
    }

    pub(super) fn accepted(
        &mut self,
        index: usize,
        result: i32,
        more: bool,
        events: &mut Vec<Event<Stream>>,
    ) {
        let Some(acceptor) = self.acceptors.get(index) else {
            return;
        };
        let (listener, closing) = (acceptor.id, acceptor.closing);
        if !more {
            acceptor.armed = false;
        }
        if result >= 0 {
            // SAFETY: a successful accept gives a descriptor that belongs to nobody yet.
            let fd = unsafe { OwnedFd::from_raw_fd(result) };
            if !closing {
                let stream = Stream::accepted(fd);
                let (peer, local) = stream.addresses();
                events.push(Event::Accepted {
                    listener,
                    stream,
                    peer,
                    local,
                });
            }
        }
        if closing {
            if !more {
                self.acceptors.remove(index);
            }
            return;
        }
        match -result {
            // The kernel ended a multishot, or the peer was gone before it could be accepted.
            _ if result >= 0 => {}
            libc::ECONNABORTED | libc::EINTR | libc::EAGAIN | libc::EPROTO | libc::ECANCELED => {}
            errno => {
                events.push(Event::AcceptFailed { listener, errno });
                self.acceptors.retry_later(index, clock::mono_ns());
                return;
            }
        }
        if !more {
            self.accept(index);
        }
    }
}
