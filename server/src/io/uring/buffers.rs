//! The buffers that multishot receives pick from: a ring of free buffers, shared with the kernel.
//!
//! Two modes. *Incremental* (Linux 6.12): the kernel fills a buffer piece by piece, each receive taking up only what
//! it got, so that the many small requests of a turn lie close together. *Whole*: each receive takes a buffer.
//!
//! Idea: only `target` buffers are in the ring at a time, the rest waits in a stack, so that the same few, still in
//! the CPU's cache, are used over and over. When a receive finds the ring empty, the target doubles, up to a limit;
//! a quiet time halves it, and memory is given back as the buffers come out of the ring. When the limit is reached,
//! [`Buffers::own`] makes buffers outside the ring, so that a loop that holds all of them still gets on.
//!
//! Invariants
//! - A buffer is in the ring, or has pieces out, or both (incremental), or is spare. It becomes spare when the
//!   kernel is done with it and the last piece was released.
//! - The memory of buffers never moves, and is freed only while spare.

use std::alloc::Layout;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{Submitter, cqueue};

use super::Options;
use crate::io::RecvBuf;

/// The one buffer group of a core.
pub(super) const GROUP: u16 = 0;

/// Marks a [`RecvBuf::id`] as one of `own`.
const OWN: u32 = 1 << 31;

/// Value of the kernel's `IOU_PBUF_RING_INC`.
const INCREMENTAL: u16 = 2;

const PAGE: usize = 4096;

pub(super) struct Buffers {
    ring: NonNull<BufRingEntry>,
    ring_layout: Layout,
    leak_ring: bool,
    mask: u16,
    /// Where the next buffer goes in the ring.
    tail: u16,
    size: usize,
    pub(super) incremental: bool,
    buffers: Vec<Buffer>,
    spare: Vec<u16>,
    /// Ids whose memory was given back.
    empty: Vec<u16>,
    /// How many buffers are in the ring.
    published: usize,
    target: usize,
    target_min: usize,
    limit: usize,
    /// The fewest buffers that were in the ring before a top-up since the last decay.
    low: usize,
    /// Buffers outside the ring, by index; `None` is a free place.
    own: Vec<Option<Box<[u8]>>>,
    own_free: Vec<u32>,
}

struct Buffer {
    data: *mut u8,
    /// Up to where the kernel has filled it (incremental).
    used: usize,
    /// Pieces that the loop holds.
    pieces: u32,
    /// In the ring: the kernel may write to it.
    published: bool,
}

impl Buffers {
    /// Makes the ring and registers it.
    pub(super) fn new(submitter: &Submitter<'_>, options: &Options) -> io::Result<Buffers> {
        // The ring's own size must be known before the mode is; incremental buffers are larger, hence fewer.
        let entries = options.memory_max / options.buffer_size.max(64) as usize;
        let entries = entries.next_power_of_two().clamp(2, 1 << 15);
        let bad = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let ring_layout = Layout::array::<BufRingEntry>(entries)
            .and_then(|l| l.align_to(PAGE))
            .map_err(bad)?;
        // SAFETY: the layout is not empty, because `entries` is at least 2.
        let ring = unsafe { std::alloc::alloc_zeroed(ring_layout) };
        let Some(ring) = NonNull::new(ring.cast::<BufRingEntry>()) else {
            std::alloc::handle_alloc_error(ring_layout)
        };
        let register = |flags| {
            // SAFETY: the ring has `entries` entries. `Buffers` lives as long as the kernel's use of it: `Uring` frees
            // it only after all requests that select buffers are over.
            unsafe {
                submitter.register_buf_ring_with_flags(
                    ring.as_ptr() as u64,
                    entries as u16,
                    GROUP,
                    flags,
                )
            }
        };
        let incremental = !options.plain && register(INCREMENTAL).is_ok();
        if !incremental && let Err(error) = register(0) {
            // SAFETY: allocated above with this layout, and the kernel did not take it.
            unsafe { std::alloc::dealloc(ring.as_ptr().cast(), ring_layout) };
            return Err(super::ring::unsupported(
                "registering a buffer ring",
                &error,
            ));
        }
        let (size, target) = if incremental {
            (
                options.incremental_size,
                usize::from(options.incremental_count),
            )
        } else {
            (options.buffer_size, usize::from(options.buffer_count))
        };
        let size = (size as usize).max(64);
        let limit = (options.memory_max / size).clamp(2, entries);
        let target = target.clamp(1, limit);
        let mut buffers = Buffers {
            ring,
            ring_layout,
            leak_ring: false,
            mask: (entries - 1) as u16,
            tail: 0,
            size,
            incremental,
            buffers: Vec::new(),
            spare: Vec::new(),
            empty: Vec::new(),
            published: 0,
            target,
            target_min: target,
            limit,
            low: usize::MAX,
            own: Vec::new(),
            own_free: Vec::new(),
        };
        buffers.top_up();
        Ok(buffers)
    }

    /// The piece of a buffer that a completion names, if it names one.
    #[inline]
    pub(super) fn take(&mut self, flags: u32, len: usize) -> Option<RecvBuf> {
        let id = cqueue::buffer_select(flags)?;
        let buffer = &mut self.buffers[usize::from(id)];
        debug_assert!(
            buffer.published,
            "the kernel used a buffer that it was not given"
        );
        debug_assert!(buffer.used + len <= self.size);
        // SAFETY: the kernel filled `len` bytes from `used` on, within the buffer.
        let data = unsafe { buffer.data.add(buffer.used) };
        buffer.pieces += 1;
        buffer.used += len;
        if !(self.incremental && cqueue::buffer_more(flags)) {
            buffer.published = false;
            self.published -= 1;
        }
        Some(RecvBuf {
            data,
            len: len as u32,
            id: u32::from(id),
        })
    }

    #[inline]
    pub(super) fn release(&mut self, buf: RecvBuf) {
        if buf.id & OWN != 0 {
            let index = buf.id & !OWN;
            self.own[index as usize] = None;
            self.own_free.push(index);
            return;
        }
        let buffer = &mut self.buffers[buf.id as usize];
        buffer.pieces -= 1;
        if buffer.pieces == 0 && !buffer.published {
            buffer.used = 0;
            self.spare.push(buf.id as u16);
        }
    }

    /// Fills the ring up to the target. Gives the number of buffers in it then.
    #[inline]
    pub(super) fn top_up(&mut self) -> usize {
        self.low = self.low.min(self.published);
        if self.published < self.target {
            self.publish();
        }
        self.published
    }

    fn publish(&mut self) {
        while self.published < self.target {
            let Some(id) = self.spare.pop().or_else(|| self.allocate()) else {
                break;
            };
            let buffer = &mut self.buffers[usize::from(id)];
            buffer.published = true;
            // SAFETY: the index is within the ring. The kernel reads entries only between its head and the tail,
            // and at most `limit` are in there, so this place is ours. Only addr, len and bid are written: the first
            // entry's last field is the tail.
            unsafe {
                let entry = &mut *self.ring.as_ptr().add(usize::from(self.tail & self.mask));
                entry.set_addr(buffer.data as u64);
                entry.set_len(self.size as u32);
                entry.set_bid(id);
            }
            self.tail = self.tail.wrapping_add(1);
            self.published += 1;
        }
        // SAFETY: the ring's first entry holds the tail, which the kernel reads; it is aligned, and written only here.
        let tail =
            unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.ring.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    fn layout(&self) -> Layout {
        // Cannot fail: the size comes from a u32, the alignment is a power of two.
        Layout::from_size_align(self.size, PAGE)
            .unwrap_or_else(|_| unreachable!("a u32 and a page"))
    }

    fn allocate(&mut self) -> Option<u16> {
        if self.buffers.len() - self.empty.len() >= self.limit {
            return None;
        }
        // SAFETY: the size is not 0 (`Options` is checked).
        let data = unsafe { std::alloc::alloc(self.layout()) };
        if data.is_null() {
            return None;
        }
        let buffer = Buffer {
            data,
            used: 0,
            pieces: 0,
            published: false,
        };
        if let Some(id) = self.empty.pop() {
            self.buffers[usize::from(id)] = buffer;
            return Some(id);
        }
        self.buffers.push(buffer);
        Some((self.buffers.len() - 1) as u16)
    }

    /// A receive found the ring empty.
    #[cold]
    pub(super) fn ran_dry(&mut self) {
        self.target = (self.target * 2).min(self.limit);
    }

    /// Called now and then: where the ring never ran low, keeps fewer buffers in it, and gives back the memory of
    /// those that are not needed.
    pub(super) fn decay(&mut self) {
        if self.low != usize::MAX && self.low > self.target / 2 {
            self.target = (self.target / 2).max(self.target_min);
        }
        self.low = usize::MAX;
        while self.spare.len() > self.target
            && let Some(id) = self.spare.pop()
        {
            // SAFETY: a spare buffer is neither in the ring nor has pieces out, so nobody refers to its memory, which
            // came from `allocate` with this layout.
            unsafe { std::alloc::dealloc(self.buffers[usize::from(id)].data, self.layout()) };
            self.buffers[usize::from(id)].data = std::ptr::null_mut();
            self.empty.push(id);
        }
    }

    /// Makes a buffer outside the ring of bytes received otherwise.
    pub(super) fn own(&mut self, bytes: Box<[u8]>) -> RecvBuf {
        let (data, len) = (bytes.as_ptr(), bytes.len() as u32);
        let index = self.own_free.pop().unwrap_or_else(|| {
            self.own.push(None);
            (self.own.len() - 1) as u32
        });
        self.own[index as usize] = Some(bytes);
        RecvBuf {
            data,
            len,
            id: index | OWN,
        }
    }

    /// Forgets all memory without freeing it: the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        for buffer in &mut self.buffers {
            buffer.data = std::ptr::null_mut();
        }
        self.leak_ring = true;
    }

    /// Bytes held in buffers.
    pub(super) fn memory(&self) -> usize {
        let own: usize = self.own.iter().flatten().map(|bytes| bytes.len()).sum();
        (self.buffers.len() - self.empty.len()) * self.size + own + self.ring_layout.size()
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        let layout = self.layout();
        let free = |buffer: &&Buffer| buffer.pieces == 0 && !buffer.data.is_null();
        // SAFETY: `Uring` drops its buffers only when no request is left that could write to them. Those of which
        // the loop still holds pieces are left alone, for good. Each came from an allocation with its layout.
        unsafe {
            for buffer in self.buffers.iter().filter(free) {
                std::alloc::dealloc(buffer.data, layout);
            }
            if !self.leak_ring {
                std::alloc::dealloc(self.ring.as_ptr().cast(), self.ring_layout);
            }
        }
        self.own.drain(..).for_each(std::mem::forget);
    }
}
