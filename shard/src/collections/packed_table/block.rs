//! Blocks and the words that point to them: all of the table's unsafe code.
//!
//! A [`Word`] is an address with 16 bits about what lies there:
//!
//! ```text
//! bucket   0 | depth, 6 bits | count, 9 bits          | address, 48 bits
//! node     1 | bits, 4 bits  | full-depth slots, 11 bits | address
//! empty    0
//! ```
//! A bucket's block begins with its size in units of 8 bytes (2 bytes, written here and nowhere else); the rest, its *body*, belongs
//! to `bucket.rs`. A node's block is `1 << bits` words.
//!
//! Contract of this module's safe functions, which `mod.rs` keeps: a word other than [`Word::EMPTY`] is used only while its block
//! lives; a block is owned by one tree (several words of one node may point to it) and reached only through a borrow of the
//! table that owns the tree, a mutable borrow for `&mut` results; `free` and `unspill` are called once.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};

const ADDRESS: u64 = (1 << 48) - 1;
const NODE: u64 = 1 << 63;
/// The count of a word goes no further; the bucket's own does.
pub const COUNT_MAX: usize = 511;
/// The largest block of a bucket.
pub const BLOCK_MAX: usize = 0xffff * 8;
/// Bytes of a block that are not its body.
pub const SIZE_FIELD: usize = 2;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Word(u64);

/// The allocator's size class for a block: 16 bytes apart to 128, then four to each doubling.
pub fn size_class(bytes: usize) -> usize {
    if bytes <= 128 {
        return bytes.next_multiple_of(16);
    }
    let step = 1 << ((bytes - 1).ilog2() - 2);
    bytes.next_multiple_of(step)
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 8).expect("sizes are bounded by BLOCK_MAX and BITS_MAX")
}

impl Word {
    pub const EMPTY: Self = Self(0);

    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    #[inline]
    pub fn is_node(self) -> bool {
        self.0 & NODE != 0
    }
    #[inline]
    fn address(self) -> *mut u8 {
        (self.0 & ADDRESS) as *mut u8
    }

    // ---- buckets ----

    /// A new bucket whose body is all zeros.
    pub fn new_bucket(block_size: usize, depth: u32) -> Self {
        assert!((16..=BLOCK_MAX).contains(&block_size) && block_size.is_multiple_of(8));
        let layout = layout(block_size);
        // SAFETY: the layout's size is not 0.
        let block = unsafe { alloc_zeroed(layout) };
        if block.is_null() {
            handle_alloc_error(layout);
        }
        // SAFETY: the block has at least 2 bytes.
        unsafe {
            block
                .cast::<[u8; 2]>()
                .write(((block_size / 8) as u16).to_le_bytes())
        };
        Self(block as u64).with_depth(depth)
    }
    #[inline]
    pub fn count(self) -> usize {
        (self.0 >> 48) as usize & COUNT_MAX
    }
    #[inline]
    pub fn depth(self) -> u32 {
        (self.0 >> 57) as u32 & 63
    }
    #[inline]
    pub fn with_count(self, count: usize) -> Self {
        let count = count.min(COUNT_MAX) as u64;
        Self(self.0 & !((COUNT_MAX as u64) << 48) | count << 48)
    }
    pub fn with_depth(self, depth: u32) -> Self {
        debug_assert!(depth < 64);
        Self(self.0 & !(63 << 57) | (depth as u64) << 57)
    }
    #[inline]
    pub fn block_size(self) -> usize {
        debug_assert!(!self.is_empty() && !self.is_node());
        // SAFETY: a bucket's block begins with its size.
        let size = unsafe { self.address().cast::<[u8; 2]>().read() };
        u16::from_le_bytes(size) as usize * 8
    }
    #[inline]
    pub fn body<'a>(self) -> &'a [u8] {
        // SAFETY: the block has that many bytes, all initialised; the contract above makes the lifetime good.
        unsafe {
            std::slice::from_raw_parts(
                self.address().add(SIZE_FIELD),
                self.block_size() - SIZE_FIELD,
            )
        }
    }
    #[inline]
    pub fn body_mut<'a>(self) -> &'a mut [u8] {
        // SAFETY: as above; by the contract this is the only reference.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.address().add(SIZE_FIELD),
                self.block_size() - SIZE_FIELD,
            )
        }
    }
    /// Frees a bucket's block. What its pieces own outside is the caller's.
    pub fn free_bucket(self) {
        let layout = layout(self.block_size());
        // SAFETY: allocated in `new_bucket` with this layout; the contract says that it is freed once.
        unsafe { dealloc(self.address(), layout) }
    }
    /// Asks the CPU for the part of a bucket that a look-up reads first.
    #[inline]
    pub fn prefetch(self) {
        prefetch_at(self.address());
        prefetch_at(self.address().wrapping_add(64));
    }

    // ---- nodes ----

    pub fn new_node(bits: u32, deep: usize, slots: impl Iterator<Item = Word>) -> Self {
        let count = 1usize << bits;
        let layout = layout(count * size_of::<Word>());
        // SAFETY: the layout's size is not 0.
        let block = unsafe { alloc(layout) };
        if block.is_null() {
            handle_alloc_error(layout);
        }
        let mut filled = 0;
        for (index, word) in slots.take(count).enumerate() {
            // SAFETY: `index` is below `count`, for which the block has room.
            unsafe { block.cast::<Word>().add(index).write(word) };
            filled += 1;
        }
        assert_eq!(filled, count, "a node gets as many words as it has slots");
        Self(NODE | (bits as u64) << 59 | block as u64).with_deep(deep)
    }
    #[inline]
    pub fn bits(self) -> u32 {
        (self.0 >> 59) as u32 & 15
    }
    /// How many distinct children lie at the node's full depth: a node without any can be halved.
    pub fn deep(self) -> usize {
        (self.0 >> 48) as usize & 0x7ff
    }
    pub fn with_deep(self, deep: usize) -> Self {
        debug_assert!(deep <= 1 << self.bits());
        Self(self.0 & !(0x7ff << 48) | (deep as u64) << 48)
    }
    #[inline]
    pub fn slots<'a>(self) -> &'a [Word] {
        debug_assert!(self.is_node());
        // SAFETY: a node's block holds that many words.
        unsafe { std::slice::from_raw_parts(self.address().cast(), 1 << self.bits()) }
    }
    #[inline]
    pub fn slots_mut<'a>(self) -> &'a mut [Word] {
        debug_assert!(self.is_node());
        // SAFETY: as above; by the contract this is the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.address().cast(), 1 << self.bits()) }
    }
    /// Frees a node's block. Its children are the caller's.
    pub fn free_node(self) {
        let layout = layout(size_of::<Word>() << self.bits());
        // SAFETY: allocated in `new_node` with this layout; the contract says that it is freed once.
        unsafe { dealloc(self.address(), layout) }
    }
}

#[inline]
fn prefetch_at(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address is harmless.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
/// Asks the CPU for the bytes at `at`.
#[inline]
pub fn prefetch(bytes: &[u8], at: usize) {
    prefetch_at(bytes.as_ptr().wrapping_add(at));
}

/// Bytes outside their bucket, as a bucket holds them: address and length.
pub const SPILL: usize = 16;

pub fn spill(bytes: Box<[u8]>) -> [u8; SPILL] {
    let len = bytes.len() as u64;
    let address = Box::into_raw(bytes).cast::<u8>() as u64;
    let mut out = [0; SPILL];
    out[..8].copy_from_slice(&address.to_le_bytes());
    out[8..].copy_from_slice(&len.to_le_bytes());
    out
}
fn spill_parts(piece: &[u8]) -> (*mut u8, usize) {
    let word =
        |at: usize| u64::from_le_bytes(piece[at..at + 8].try_into().expect("eight bytes were cut"));
    (word(0) as *mut u8, word(8) as usize)
}
/// `piece` is what [`spill`] gave.
pub fn spilled<'a>(piece: &[u8]) -> &'a [u8] {
    let (data, len) = spill_parts(piece);
    // SAFETY: address and length of a box that the bucket owns.
    unsafe { std::slice::from_raw_parts(data, len) }
}
/// Takes the bytes back out.
pub fn unspill(piece: &[u8]) -> Box<[u8]> {
    let (data, len) = spill_parts(piece);
    // SAFETY: `spill` made the parts from a box; the contract says that this happens once.
    unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(data, len)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_are_the_allocators() {
        for bytes in 9..20_000 {
            // SAFETY: a question about a number.
            let good = unsafe { libmimalloc_sys::mi_good_size(bytes) };
            assert_eq!(size_class(bytes), good, "{bytes}");
        }
    }

    #[test]
    fn a_word_keeps_its_parts() {
        let word = Word::new_bucket(64, 48).with_count(511);
        assert_eq!(
            (word.depth(), word.count(), word.block_size()),
            (48, 511, 64)
        );
        let word = word.with_depth(3).with_count(1000);
        assert_eq!((word.depth(), word.count()), (3, COUNT_MAX));
        assert!(word.body().iter().all(|b| *b == 0) && word.body().len() == 62);
        let node = Word::new_node(10, 1024, std::iter::repeat(word));
        assert!(node.is_node() && !word.is_node());
        assert_eq!(
            (node.bits(), node.deep(), node.slots().len()),
            (10, 1024, 1024)
        );
        node.free_node();
        word.free_bucket();
    }

    #[test]
    fn spilled_bytes_come_back() {
        let piece = spill(b"hello".as_slice().into());
        assert_eq!(spilled(&piece), b"hello");
        assert_eq!(&*unspill(&piece), b"hello");
    }
}
