//! The ring itself: set-up with what the kernel offers, queueing requests, entering the kernel.
//!
//! Idea: requests are queued in user space and go to the kernel with the next [`Ring::enter`], which also waits. A
//! full submission queue is handed over at once and refilled.
//!
//! Invariants
//! - Only the thread that made the ring uses it (`SINGLE_ISSUER`); the type is not `Send`.
//! - The kernel's completion queue is emptied before it can refuse submissions: completions that must make room are
//!   kept in `backlog`, in order, and come out first.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{
    CompletionQueue, EnterFlags, IoUring, Probe, SubmissionQueue, Submitter, cqueue, opcode, squeue,
};

use super::Options;

/// What this kernel can do, found out when the ring is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Completions are worked out only when this thread asks (6.1).
    pub defer_taskrun: bool,
    /// The ring's descriptor is registered, which saves a look-up with each call (5.18).
    pub registered_ring: bool,
    /// Small receives share a buffer (6.12).
    pub incremental_buffers: bool,
    /// Waiting for requests does not count as waiting for a disk, which would make an idle server look busy (6.15).
    pub no_iowait: bool,
    /// Other cores are woken through their ring (5.18).
    pub msg_ring: bool,
}

pub(super) struct Ring {
    // The three borrow from `*ring`; `Drop` ends them first.
    submitter: ManuallyDrop<Submitter<'static>>,
    sq: ManuallyDrop<SubmissionQueue<'static>>,
    cq: ManuallyDrop<CompletionQueue<'static>>,
    ring: *mut IoUring,
    backlog: VecDeque<cqueue::Entry>,
    enter_flags: EnterFlags,
    pub(super) features: Features,
    /// `SINGLE_ISSUER`: never to be moved to another thread.
    _not_send: PhantomData<*mut ()>,
}

impl Ring {
    /// Makes a ring, or says why this machine cannot.
    pub(super) fn new(options: &Options) -> io::Result<Ring> {
        let (ring, defer_taskrun) = build(options)?;
        let mut probe = Probe::new();
        ring.submitter()
            .register_probe(&mut probe)
            .map_err(|error| unsupported("probing io_uring", &error))?;
        // Multishot receive came with 6.0 and cannot be probed for; zero-copy send came with it, and can.
        if !probe.is_supported(opcode::SendZc::CODE) {
            let message = "this kernel's io_uring has no multishot receive (Linux 6.0 has it)";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        let params = ring.params();
        if !params.is_feature_ext_arg() || !params.is_feature_nodrop() {
            let message =
                "this kernel's io_uring cannot wait with a time limit or drops completions";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        let no_iowait = params.is_feature_no_iowait() && !options.plain;
        let msg_ring = probe.is_supported(opcode::MsgRingData::CODE) && !options.plain;
        let ring = Box::into_raw(Box::new(ring));
        // SAFETY: the box is freed only in `Drop`, after the three parts, and nothing else refers to it; so the
        // reference is unique and outlives them.
        let (mut submitter, sq, cq) = unsafe { &mut *ring }.split();
        let registered_ring = !options.plain && submitter.register_ring_fd().is_ok();
        Ok(Ring {
            submitter: ManuallyDrop::new(submitter),
            sq: ManuallyDrop::new(sq),
            cq: ManuallyDrop::new(cq),
            ring,
            backlog: VecDeque::new(),
            enter_flags: if no_iowait {
                EnterFlags::GETEVENTS | EnterFlags::NO_IOWAIT
            } else {
                EnterFlags::GETEVENTS
            },
            features: Features {
                defer_taskrun,
                registered_ring,
                incremental_buffers: false,
                no_iowait,
                msg_ring,
            },
            _not_send: PhantomData,
        })
    }

    pub(super) fn submitter(&self) -> &Submitter<'static> {
        &self.submitter
    }

    /// Queues a request. The error is the kernel's refusal to take earlier ones, with which the ring cannot go on.
    ///
    /// # Safety
    /// Memory that the request names must stay valid until its last completion.
    #[inline]
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: passed on to the caller.
            if unsafe { self.sq.push(entry) }.is_ok() {
                return Ok(());
            }
            self.make_room()?;
        }
    }

    #[cold]
    fn make_room(&mut self) -> io::Result<()> {
        self.sq.sync();
        if !self.sq.is_full() {
            return Ok(());
        }
        let result = self.call(0, EnterFlags::empty(), None);
        self.sq.sync();
        match result {
            Err(error) if is_busy(&error) => {
                // It wants completions to be taken first.
                self.call(0, EnterFlags::GETEVENTS, None)
                    .or_else(unless_busy)?;
                self.cq.sync();
                self.backlog.extend(self.cq.by_ref());
                self.cq.sync();
                Ok(())
            }
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => Ok(()),
            result => result.map(drop),
        }
    }

    #[inline]
    fn call(&self, want: u32, flags: EnterFlags, timeout: Option<Duration>) -> io::Result<usize> {
        let queued = self.sq.len() as u32;
        let Some(timeout) = timeout else {
            // SAFETY: without EXT_ARG the argument is a signal mask, and may be missing.
            return unsafe {
                self.submitter
                    .enter::<libc::sigset_t>(queued, want, flags.bits(), None)
            };
        };
        let flags = flags | EnterFlags::EXT_ARG;
        let time = Timespec::from(timeout);
        let args = SubmitArgs::new().timespec(&time);
        // SAFETY: `args` is the argument that EXT_ARG announces, and lives during the call.
        unsafe {
            self.submitter
                .enter(queued, want, flags.bits(), Some(&args))
        }
    }

    /// Hands over what is queued and takes in completions, of which it waits for `want`, but no longer than `timeout`.
    #[inline]
    pub(super) fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        self.sq.sync();
        let want = if self.backlog.is_empty() { want } else { 0 };
        let result = self.call(want, self.enter_flags, timeout);
        self.sq.sync();
        self.cq.sync();
        match result {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => Ok(()),
            // Completions are in the way, and are about to be taken; or memory is short for a moment.
            Err(error) => unless_busy(error).map(drop),
            Ok(_) => Ok(()),
        }
    }

    /// Whether requests wait for the next [`Ring::enter`].
    #[inline]
    pub(super) fn has_queued(&self) -> bool {
        !self.sq.is_empty()
    }

    /// The next completion of those that `enter` took in.
    #[inline]
    pub(super) fn next(&mut self) -> Option<cqueue::Entry> {
        if !self.backlog.is_empty() {
            return self.backlog.pop_front();
        }
        self.cq.next()
    }

    /// Tells the kernel what was taken, and looks for more that came meanwhile.
    #[inline]
    pub(super) fn sync_completions(&mut self) {
        self.cq.sync();
    }

    /// Whether an `enter` would find something, seen without a call.
    #[inline]
    pub(super) fn has_completions(&self) -> bool {
        if !self.backlog.is_empty() || self.sq.taskrun() || self.sq.cq_overflow() {
            return true;
        }
        // SAFETY: `cq` is the only other view of the queue; both are on this thread, and this one only reads and is
        // forgotten before that one is used again.
        let queue = ManuallyDrop::new(unsafe { (*self.ring).completion_shared() });
        !queue.is_empty()
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        // SAFETY: the box lives until `Drop`, and the descriptor is never changed.
        unsafe { &*self.ring }.as_raw_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.features.registered_ring {
            // The thread may go on and make other rings; the kernel keeps a few such places a thread.
            let _ = self.submitter.unregister_ring_fd();
        }
        // SAFETY: each part is dropped once, here, before the box that it borrows from; the box came from
        // `Box::into_raw` in `new`.
        unsafe {
            ManuallyDrop::drop(&mut self.submitter);
            ManuallyDrop::drop(&mut self.sq);
            ManuallyDrop::drop(&mut self.cq);
            drop(Box::from_raw(self.ring));
        }
    }
}

fn is_busy(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBUSY | libc::EAGAIN | libc::ENOMEM)
    )
}

fn unless_busy(error: io::Error) -> io::Result<usize> {
    if is_busy(&error) { Ok(0) } else { Err(error) }
}

/// The ring with the best flags that the kernel takes, and whether `DEFER_TASKRUN` is among them.
fn build(options: &Options) -> io::Result<(IoUring, bool)> {
    let mut builder = IoUring::builder();
    builder
        .setup_cqsize(options.entries.saturating_mul(4))
        .setup_clamp()
        .setup_submit_all()
        .dontfork();
    let mut best = builder.clone();
    best.setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag();
    if !options.plain {
        match best.build(options.entries) {
            Ok(ring) => return Ok((ring, true)),
            // An unknown flag: an older kernel.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(unsupported("setting up io_uring", &error)),
        }
    }
    builder.setup_coop_taskrun().setup_taskrun_flag();
    let ring = builder
        .build(options.entries)
        .map_err(|error| unsupported("setting up io_uring", &error))?;
    Ok((ring, false))
}

/// The error of a machine without io_uring, in words for the log.
pub(super) fn unsupported(what: &str, error: &io::Error) -> io::Error {
    let reason = match error.raw_os_error() {
        Some(libc::ENOSYS) => {
            "the kernel has no io_uring, or a container's seccomp filter hides it"
        }
        Some(libc::EPERM | libc::EACCES) => {
            "it is forbidden here (a seccomp filter, or the sysctl kernel.io_uring_disabled)"
        }
        Some(libc::EINVAL) => "the kernel is too old (Linux 6.0 is needed)",
        Some(libc::ENOMEM) => "the limit on locked memory is too low, or memory is short",
        Some(libc::EMFILE | libc::ENFILE) => "no file descriptors are left",
        _ => "it failed",
    };
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!("{what}: {reason}: {error}"),
    )
}
