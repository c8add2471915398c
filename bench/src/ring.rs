//! One thread's io_uring, as both the load generator and the raw floor use it.
//!
//! Idea: the kernel does the loop. One multishot accept per listener, one multishot receive per connection that
//! takes its memory from a shared buffer ring, at most one send per connection, and one system call per turn that
//! submits everything and waits. [`Ring::turn`] hands each completion to a closure as an [`Event`]; received bytes
//! are lent for the length of that call and their buffer goes back to the kernel afterwards.
//!
//! Invariants
//! - Bytes given to [`Ops::send`] live in the connection's slot until the kernel has reported the send complete.
//! - A slot is free again only when neither its receive nor its send is with the kernel, so a completion never
//!   names a slot that has been given to another connection.
//! - The user reads a receive buffer only between its completion and its return to the buffer ring.
//! - When the ring is dropped while the kernel still holds operations that cannot be cancelled, all memory that it
//!   could touch is leaked rather than freed.
//!
//! All `unsafe` of this crate is in this file, but for one system call in `proc`.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::mem;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue};

const SQ_ENTRIES: u32 = 4096;
const CQ_ENTRIES: u32 = 16384;
const BUF_GROUP: u16 = 0;

const OP_ACCEPT: u64 = 0;
const OP_RECV: u64 = 1;
const OP_SEND: u64 = 2;
const OP_MASK: u64 = 3;
const OP_BITS: u32 = 2;

/// A connection's slot in its ring.
pub type ConnId = u32;

/// What a completion means to the user of the ring.
#[derive(Debug)]
pub enum Event<'a> {
    /// A listener accepted a socket; nothing happens on it until [`Ops::adopt`].
    Accepted(OwnedFd),
    /// Bytes arrived; they are gone when the handler returns.
    Received(ConnId, &'a [u8]),
    /// The kernel took all bytes of the send. An owned buffer comes back for reuse.
    Sent(ConnId, Vec<u8>),
    /// The connection is over (end of stream, or the error) and its slot free.
    Closed(ConnId, Option<io::Error>),
}

/// What is being sent: bytes of the connection's own, or a fixed reply that all connections share.
enum Outgoing {
    Owned(Vec<u8>),
    Shared(Rc<[u8]>, usize),
}

impl Outgoing {
    fn bytes(&self) -> &[u8] {
        match self {
            Outgoing::Owned(buf) => buf,
            Outgoing::Shared(buf, len) => &buf[..*len],
        }
    }
}

struct Conn {
    fd: OwnedFd,
    /// The multishot receive is with the kernel.
    receiving: bool,
    /// The send under way and how much of it is done.
    sending: Option<(Outgoing, usize)>,
    /// The receive side ended with this errno (0: end of stream); the slot is freed when the send is done too.
    ended: Option<i32>,
}

/// The ring of receive buffers that the kernel picks from.
struct BufRing {
    entries: NonNull<BufRingEntry>,
    entries_layout: Layout,
    data: NonNull<u8>,
    data_layout: Layout,
    count: u16,
    size: u32,
    /// Where the next returned buffer goes; published to the kernel once per turn.
    tail: u16,
}

impl BufRing {
    fn new(uring: &IoUring, count: u16, size: u32) -> io::Result<BufRing> {
        assert!(
            count.is_power_of_two(),
            "a buffer ring's length is a power of two"
        );
        let entries_layout = Layout::array::<BufRingEntry>(usize::from(count))
            .and_then(|l| l.align_to(4096))
            .map_err(io::Error::other)?;
        let data_layout = Layout::array::<u8>(usize::from(count) * size as usize)
            .and_then(|l| l.align_to(4096))
            .map_err(io::Error::other)?;
        // SAFETY: both layouts have a size above zero.
        let (entries, data) = unsafe { (alloc_zeroed(entries_layout), alloc_zeroed(data_layout)) };
        let (Some(entries), Some(data)) = (NonNull::new(entries.cast()), NonNull::new(data)) else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        let mut ring = BufRing {
            entries,
            entries_layout,
            data,
            data_layout,
            count,
            size,
            tail: 0,
        };
        // SAFETY: `entries` is page aligned, holds `count` entries and lives until `Ring::drop` has ended or
        // leaked everything that the kernel could still touch.
        unsafe {
            uring.submitter().register_buf_ring_with_flags(
                entries.as_ptr() as u64,
                count,
                BUF_GROUP,
                0,
            )?;
        }
        for id in 0..count {
            ring.put(id);
        }
        ring.publish();
        Ok(ring)
    }

    /// The bytes that the kernel reported in buffer `id`.
    ///
    /// # Safety
    /// The kernel has reported `len` bytes in `id`, and `put(id)` is not called while the slice lives.
    unsafe fn bytes<'a>(&self, id: u16, len: usize) -> &'a [u8] {
        assert!(id < self.count && len <= self.size as usize);
        // SAFETY: inside the allocation by the assertion; the kernel does not write to a buffer that it handed
        // out, by the caller's promise.
        unsafe {
            let start = self.data.as_ptr().add(usize::from(id) * self.size as usize);
            std::slice::from_raw_parts(start, len)
        }
    }

    /// Gives buffer `id` back; the kernel sees it after [`BufRing::publish`].
    fn put(&mut self, id: u16) {
        debug_assert!(id < self.count);
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: `index < count`, and the kernel reads an entry only once the tail has passed it.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(index);
            entry.set_addr(self.data.as_ptr().add(usize::from(id) * self.size as usize) as u64);
            entry.set_len(self.size);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the tail lives in the first entry, aligned to two bytes; the kernel only reads it, so writing it
        // as an atomic, with release order after the entries, is sound.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr())
                .cast_mut()
                .cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    fn free(&mut self) {
        // SAFETY: allocated in `new` with these layouts; called once, after the kernel has let go.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), self.entries_layout);
            dealloc(self.data.as_ptr(), self.data_layout);
        }
    }
}

/// Everything but the kernel's queues, so that both can be borrowed at once.
struct State {
    conns: Vec<Option<Conn>>,
    free: Vec<ConnId>,
    listeners: Vec<TcpListener>,
    bufs: BufRing,
    /// Operations that the kernel will still complete.
    in_flight: usize,
}

/// A thread's ring.
pub struct Ring {
    uring: IoUring,
    state: State,
}

/// What may be asked for while completions are handled; submitted at the next turn.
pub struct Ops<'a, 'q> {
    state: &'a mut State,
    submitter: &'a Submitter<'q>,
    queue: &'a mut SubmissionQueue<'q>,
}

impl Ops<'_, '_> {
    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        push(self.submitter, self.queue, self.state, entry)
    }

    /// Serves a connected socket: receiving starts.
    pub fn adopt(&mut self, fd: OwnedFd) -> io::Result<ConnId> {
        let id = self
            .state
            .free
            .pop()
            .unwrap_or(self.state.conns.len() as ConnId);
        let raw = fd.as_raw_fd();
        let conn = Conn {
            fd,
            receiving: true,
            sending: None,
            ended: None,
        };
        if id as usize == self.state.conns.len() {
            self.state.conns.push(Some(conn));
        } else {
            self.state.conns[id as usize] = Some(conn);
        }
        self.push(recv_entry(raw, id))?;
        Ok(id)
    }

    /// Sends all of `buf`; [`Event::Sent`] brings it back. One send at a time on a connection.
    pub fn send(&mut self, id: ConnId, buf: Vec<u8>) -> io::Result<()> {
        self.start_send(id, Outgoing::Owned(buf))
    }

    /// Sends the first `len` bytes of a reply that many connections share.
    pub fn send_shared(&mut self, id: ConnId, buf: &Rc<[u8]>, len: usize) -> io::Result<()> {
        assert!(len <= buf.len());
        self.start_send(id, Outgoing::Shared(Rc::clone(buf), len))
    }

    fn start_send(&mut self, id: ConnId, out: Outgoing) -> io::Result<()> {
        let conn = self.state.conns[id as usize]
            .as_mut()
            .expect("send on a free slot");
        assert!(conn.sending.is_none(), "one send at a time");
        let conn_sending = conn.sending.insert((out, 0));
        let entry = send_entry(conn.fd.as_raw_fd(), id, conn_sending.0.bytes());
        self.push(entry)
    }

    /// Ends a connection; [`Event::Closed`] follows.
    pub fn close(&mut self, id: ConnId) {
        if let Some(conn) = &self.state.conns[id as usize] {
            // Both halves end: the receive completes with end of stream. An error means that it has already.
            let _ = rustix::net::shutdown(&conn.fd, rustix::net::Shutdown::Both);
        }
    }
}

fn push(
    submitter: &Submitter<'_>,
    queue: &mut SubmissionQueue<'_>,
    state: &mut State,
    entry: squeue::Entry,
) -> io::Result<()> {
    if queue.is_full() {
        queue.sync();
        submitter.submit()?;
        queue.sync();
    }
    // SAFETY: the descriptors and memory that the entry names belong to `State`, which outlives the operation
    // (the invariants above).
    unsafe { queue.push(&entry) }
        .map_err(|_| io::Error::other("the submission queue stays full"))?;
    state.in_flight += 1;
    Ok(())
}

fn recv_entry(fd: i32, id: ConnId) -> squeue::Entry {
    opcode::RecvMulti::new(Fd(fd), BUF_GROUP)
        .build()
        .user_data(u64::from(id) << OP_BITS | OP_RECV)
}

fn send_entry(fd: i32, id: ConnId, bytes: &[u8]) -> squeue::Entry {
    opcode::Send::new(Fd(fd), bytes.as_ptr(), bytes.len() as u32)
        .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
        .build()
        .user_data(u64::from(id) << OP_BITS | OP_SEND)
}

impl Ring {
    /// A ring with `buf_count` (a power of two) receive buffers of `buf_size` bytes, for this thread only.
    pub fn new(buf_count: u16, buf_size: u32) -> io::Result<Ring> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(CQ_ENTRIES)
            .build(SQ_ENTRIES)
            .map_err(|e| {
                io::Error::new(
                    e.kind(),
                    format!("io_uring with SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1): {e}"),
                )
            })?;
        let bufs = BufRing::new(&uring, buf_count, buf_size)?;
        // Saves a descriptor look-up per system call; kernels without it work all the same.
        let _ = uring.submitter().register_ring_fd();
        let state = State {
            conns: Vec::new(),
            free: Vec::new(),
            listeners: Vec::new(),
            bufs,
            in_flight: 0,
        };
        Ok(Ring { uring, state })
    }

    /// Accepts on `listener` from now on.
    pub fn listen(&mut self, listener: TcpListener) -> io::Result<()> {
        let index = self.state.listeners.len() as u64;
        let entry = accept_entry(listener.as_raw_fd(), index);
        self.state.listeners.push(listener);
        let (submitter, mut queue, _) = self.uring.split();
        push(&submitter, &mut queue, &mut self.state, entry)
    }

    /// Asks for operations outside a turn.
    pub fn with_ops<R>(&mut self, f: impl FnOnce(&mut Ops<'_, '_>) -> R) -> R {
        let (submitter, mut queue, _) = self.uring.split();
        f(&mut Ops {
            state: &mut self.state,
            submitter: &submitter,
            queue: &mut queue,
        })
    }

    /// Submits what was asked for, waits for at least one completion (or until `wait` is over, if given), and hands
    /// every completion to `handler`.
    pub fn turn(
        &mut self,
        wait: Option<Duration>,
        mut handler: impl FnMut(&mut Ops<'_, '_>, Event<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let waited = match wait {
            None => self.uring.submit_and_wait(1),
            Some(limit) => {
                let limit = Timespec::from(limit);
                self.uring
                    .submitter()
                    .submit_with_args(1, &SubmitArgs::new().timespec(&limit))
            }
        };
        match waited {
            Ok(_) => {}
            // EBUSY: completions must be taken before more can be submitted, which is what follows.
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY)
                ) => {}
            Err(e) => return Err(e),
        }
        let (submitter, mut queue, completions) = self.uring.split();
        let state = &mut self.state;
        for cqe in completions {
            if !cqueue::more(cqe.flags()) {
                state.in_flight -= 1;
            }
            let mut ops = Ops {
                state,
                submitter: &submitter,
                queue: &mut queue,
            };
            complete(&mut ops, &cqe, &mut handler)?;
        }
        drop(queue);
        state.bufs.publish();
        Ok(())
    }
}

fn accept_entry(fd: i32, index: u64) -> squeue::Entry {
    opcode::AcceptMulti::new(Fd(fd))
        .build()
        .user_data(index << OP_BITS | OP_ACCEPT)
}

fn complete(
    ops: &mut Ops<'_, '_>,
    cqe: &cqueue::Entry,
    handler: &mut impl FnMut(&mut Ops<'_, '_>, Event<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let id = (cqe.user_data() >> OP_BITS) as ConnId;
    match cqe.user_data() & OP_MASK {
        OP_RECV => received(ops, cqe, id, handler),
        OP_SEND => sent(ops, cqe, id, handler),
        _ => accepted(ops, cqe, id, handler),
    }
}

fn accepted(
    ops: &mut Ops<'_, '_>,
    cqe: &cqueue::Entry,
    index: u32,
    handler: &mut impl FnMut(&mut Ops<'_, '_>, Event<'_>) -> io::Result<()>,
) -> io::Result<()> {
    if !cqueue::more(cqe.flags()) {
        let fd = ops.state.listeners[index as usize].as_raw_fd();
        ops.push(accept_entry(fd, u64::from(index)))?;
    }
    if cqe.result() < 0 {
        return Err(io::Error::from_raw_os_error(-cqe.result()));
    }
    // SAFETY: the kernel made this descriptor for us and nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(cqe.result()) };
    handler(ops, Event::Accepted(fd))
}

fn received(
    ops: &mut Ops<'_, '_>,
    cqe: &cqueue::Entry,
    id: ConnId,
    handler: &mut impl FnMut(&mut Ops<'_, '_>, Event<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let result = cqe.result();
    let more = cqueue::more(cqe.flags());
    let buffer = cqueue::buffer_select(cqe.flags());
    let mut outcome = Ok(());
    if let (Some(buffer), true) = (buffer, result > 0) {
        // SAFETY: this completion hands out `buffer` with `result` bytes; it is put back below, after the call.
        let bytes = unsafe { ops.state.bufs.bytes(buffer, result as usize) };
        outcome = handler(ops, Event::Received(id, bytes));
    }
    if let Some(buffer) = buffer {
        ops.state.bufs.put(buffer);
    }
    outcome?;
    if more {
        return Ok(());
    }
    let conn = ops.state.conns[id as usize]
        .as_mut()
        .expect("a completion names a live slot");
    // The buffer ring ran dry, or the kernel ended the multishot for its own reasons: ask again. The buffers of
    // this turn are back by the time that the request is submitted.
    if result > 0 || result == -libc::ENOBUFS || result == -libc::EINTR {
        let fd = conn.fd.as_raw_fd();
        return ops.push(recv_entry(fd, id));
    }
    conn.receiving = false;
    conn.ended = Some(-result);
    if conn.sending.is_some() {
        // The peer will not read what is still being sent; the send must end for the slot to be free. An error
        // says that the socket is down already.
        let _ = rustix::net::shutdown(&conn.fd, rustix::net::Shutdown::Both);
        return Ok(());
    }
    closed(ops, id, handler)
}

fn sent(
    ops: &mut Ops<'_, '_>,
    cqe: &cqueue::Entry,
    id: ConnId,
    handler: &mut impl FnMut(&mut Ops<'_, '_>, Event<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let conn = ops.state.conns[id as usize]
        .as_mut()
        .expect("a completion names a live slot");
    let (out, done) = conn.sending.as_mut().expect("a send completes once");
    if cqe.result() > 0 {
        *done += cqe.result() as usize;
        if *done < out.bytes().len() && conn.ended.is_none() {
            let entry = send_entry(conn.fd.as_raw_fd(), id, &out.bytes()[*done..]);
            return ops.push(entry);
        }
    }
    let failed = cqe.result() <= 0;
    let (out, _) = conn.sending.take().expect("checked above");
    if conn.ended.is_some() {
        return closed(ops, id, handler);
    }
    if failed {
        // The receive side reports the end of the connection.
        ops.close(id);
        return Ok(());
    }
    let buf = match out {
        Outgoing::Owned(buf) => buf,
        Outgoing::Shared(..) => Vec::new(),
    };
    handler(ops, Event::Sent(id, buf))
}

fn closed(
    ops: &mut Ops<'_, '_>,
    id: ConnId,
    handler: &mut impl FnMut(&mut Ops<'_, '_>, Event<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let conn = ops.state.conns[id as usize].take().expect("closed once");
    ops.state.free.push(id);
    let error = match conn.ended {
        Some(0) | None => None,
        Some(errno) => Some(io::Error::from_raw_os_error(errno)),
    };
    handler(ops, Event::Closed(id, error))
}

impl Drop for Ring {
    fn drop(&mut self) {
        // What is queued goes to the kernel first: only submitted operations can be cancelled.
        let _ = self.uring.submit();
        let limit = Timespec::from(Duration::from_secs(1));
        let _ = self
            .uring
            .submitter()
            .register_sync_cancel(Some(limit), CancelBuilder::any());
        for _ in 0..100 {
            if self.state.in_flight == 0 {
                break;
            }
            let pause = Timespec::from(Duration::from_millis(10));
            let _ = self
                .uring
                .submitter()
                .submit_with_args(1, &SubmitArgs::new().timespec(&pause));
            for cqe in self.uring.completion() {
                if !cqueue::more(cqe.flags()) {
                    self.state.in_flight -= 1;
                }
            }
        }
        if self.state.in_flight == 0 {
            // Unregistered first, so that the kernel forgets the memory before it is freed.
            if self
                .uring
                .submitter()
                .unregister_buf_ring(BUF_GROUP)
                .is_ok()
            {
                self.state.bufs.free();
            }
        } else {
            // The kernel may still read a send's bytes or write to a receive buffer: leak both.
            mem::forget(mem::take(&mut self.state.conns));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    /// An echo over the ring returns every byte in order, also when it is larger than all buffers together.
    #[test]
    fn echoes_more_than_the_buffers_hold() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let sent: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        let expect = sent.clone();
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(addr).unwrap();
            let mut writer = stream.try_clone().unwrap();
            let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
            let mut back = vec![0; 300_000];
            stream.read_exact(&mut back).unwrap();
            writing.join().unwrap();
            back
        });
        let mut ring = Ring::new(4, 1024).unwrap();
        ring.listen(listener).unwrap();
        let mut pending: Vec<u8> = Vec::new();
        let (mut conn, mut sending, mut ended) = (None, false, false);
        while !ended {
            ring.turn(None, |ops, event| {
                match event {
                    Event::Accepted(fd) => conn = Some(ops.adopt(fd)?),
                    Event::Received(_, bytes) => pending.extend_from_slice(bytes),
                    Event::Sent(..) => sending = false,
                    Event::Closed(..) => ended = true,
                }
                if let (Some(id), false, false, false) = (conn, sending, ended, pending.is_empty())
                {
                    ops.send(id, mem::take(&mut pending))?;
                    sending = true;
                }
                Ok(())
            })
            .unwrap();
        }
        drop(ring);
        assert_eq!(client.join().unwrap(), expect);
    }
}
