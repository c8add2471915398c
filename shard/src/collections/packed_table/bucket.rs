//! A bucket's body: tags, lengths and packed pieces.
//!
//! ```text
//! count u16 | slots u16 | spilled u8 | 0 | used u32 | tags: slots bytes | lengths: slots bytes | pieces: used bytes | free
//! ```
//! A *piece* is what one entry takes: its key and value in the table's form (`piece.rs`). Entry i has tag i (8 bits of the hash, compared
//! eight at a time), length i, and begins at the sum of the lengths before it. Length [`SPILLED`] says that the whole piece lies outside
//! and its place holds only the pointer; `spilled` is set if there may be any such in the bucket.
//!
//! Everything here is safe code over the body's bytes.

use super::block::{SIZE_FIELD, SPILL, Word, prefetch, size_class};

const HEADER: usize = 10;
/// The length of a piece that lies outside.
pub const SPILLED: u8 = 255;
/// The longest piece that lies in its bucket.
pub const PIECE_MAX: usize = 254;

/// The smallest block: tags are read eight at a time, which must stay within it.
const BLOCK_MIN: usize = 32;

#[inline]
fn u16_at(body: &[u8], at: usize) -> usize {
    u16::from_le_bytes([body[at], body[at + 1]]) as usize
}
fn set_u16(body: &mut [u8], at: usize, value: usize) {
    body[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
}
#[inline]
pub fn count(body: &[u8]) -> usize {
    u16_at(body, 0)
}
#[inline]
fn slots(body: &[u8]) -> usize {
    u16_at(body, 2)
}
#[inline]
fn has_spilled(body: &[u8]) -> bool {
    body[4] != 0
}
/// Bytes of all pieces.
pub fn used(body: &[u8]) -> usize {
    u32::from_le_bytes([body[6], body[7], body[8], body[9]]) as usize
}
fn set_used(body: &mut [u8], value: usize) {
    body[6..10].copy_from_slice(&(value as u32).to_le_bytes());
}
#[inline]
fn pieces_at(body: &[u8]) -> usize {
    HEADER + 2 * slots(body)
}
/// The bytes that a length says.
#[inline]
pub fn piece_len(length: u8) -> usize {
    if length == SPILLED {
        SPILL
    } else {
        length as usize
    }
}
fn lengths(body: &[u8]) -> &[u8] {
    let at = HEADER + slots(body);
    &body[at..at + count(body)]
}
pub fn tag(body: &[u8], index: usize) -> u8 {
    body[HEADER + index]
}

/// One entry's place in its bucket.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    pub index: usize,
    /// Where the piece begins in the body.
    pub at: usize,
    pub length: u8,
}

impl Spot {
    #[inline]
    pub fn piece<'a>(&self, body: &'a [u8]) -> &'a [u8] {
        &body[self.at..self.at + piece_len(self.length)]
    }
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;
const EVEN: u64 = 0x00ff_00ff_00ff_00ff;

#[inline]
fn word_at(body: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(body[at..at + 8].try_into().expect("eight bytes were cut"))
}

/// The sum of the first `index` lengths.
#[inline]
fn offset(body: &[u8], index: usize) -> usize {
    let at = HEADER + slots(body);
    if has_spilled(body) {
        return body[at..at + index].iter().map(|l| piece_len(*l)).sum();
    }
    let mut sum = 0;
    let whole = index / 8;
    for i in 0..whole {
        let word = word_at(body, at + 8 * i);
        // Two sums of four bytes in 16-bit lanes, then across the lanes: at most 8 * 254.
        let lanes = (word & EVEN) + (word >> 8 & EVEN);
        sum += (lanes.wrapping_mul(0x0001_0001_0001_0001) >> 48) as usize;
    }
    for length in &body[at + 8 * whole..at + index] {
        sum += *length as usize;
    }
    sum
}

#[inline]
pub fn spot(body: &[u8], index: usize) -> Spot {
    Spot {
        index,
        at: pieces_at(body) + offset(body, index),
        length: body[HEADER + slots(body) + index],
    }
}

/// The first entry with this tag whose piece `matches`.
#[inline]
pub fn find<'a>(
    body: &'a [u8],
    tag: u8,
    mut matches: impl FnMut(&'a [u8], bool) -> bool,
) -> Option<Spot> {
    let count = count(body);
    let wanted = LOW.wrapping_mul(tag as u64);
    let mut first = 0;
    while first < count {
        let word = word_at(body, HEADER + first) ^ wanted;
        // The lowest byte set here is a zero byte of `word`; those above it may be false, which the look at the piece settles.
        let mut zeros = word.wrapping_sub(LOW) & !word & HIGH;
        while zeros != 0 {
            let index = first + zeros.trailing_zeros() as usize / 8;
            if index >= count {
                return None;
            }
            let spot = spot(body, index);
            if matches(spot.piece(body), spot.length == SPILLED) {
                return Some(spot);
            }
            zeros &= zeros - 1;
        }
        first += 8;
    }
    None
}

/// Asks the CPU for the piece of the first entry with this tag, or for where another would begin.
#[inline]
pub fn prefetch_piece(body: &[u8], tag: u8) {
    let mut at = pieces_at(body) + used(body);
    find(body, tag, |piece, _| {
        at = piece.as_ptr().addr() - body.as_ptr().addr();
        true
    });
    prefetch(body, at);
}

/// All entries in order, from the `index`-th, which begins at `at`.
#[derive(Clone)]
pub struct Spots<'a> {
    body: &'a [u8],
    index: usize,
    at: usize,
}

pub fn spots(body: &[u8]) -> Spots<'_> {
    Spots {
        body,
        index: 0,
        at: pieces_at(body),
    }
}

impl Iterator for Spots<'_> {
    type Item = Spot;
    #[inline]
    fn next(&mut self) -> Option<Spot> {
        if self.index >= count(self.body) {
            return None;
        }
        let spot = Spot {
            index: self.index,
            at: self.at,
            length: self.body[HEADER + slots(self.body) + self.index],
        };
        self.index += 1;
        self.at += piece_len(spot.length);
        Some(spot)
    }
}

/// A block's size for this many entries and bytes of pieces, and how many slots it then gets: the room that the size
/// class leaves is shared out as the entries so far suggest.
fn size_for(count: usize, used: usize) -> (usize, usize) {
    let need = SIZE_FIELD + HEADER + 2 * count + used;
    let block = size_class(need.max(BLOCK_MIN));
    let each = 2 + used.div_ceil(count.max(1));
    (block, count + (block - need) / each)
}

/// An empty bucket with room for this many entries and bytes of pieces.
pub fn new(count: usize, used: usize, depth: u32) -> Word {
    let (block, slots) = size_for(count, used);
    let word = Word::new_bucket(block, depth);
    set_u16(word.body_mut(), 2, slots);
    word
}

/// Moves a bucket's entries to a block of the size that they, with `more` entries and `bytes` bytes, ask for; the old block is freed.
pub fn resize(word: Word, more: usize, bytes: usize) -> Word {
    let old = word.body();
    let (count, used) = (count(old), used(old));
    let new = new(count + more, used + bytes, word.depth()).with_count(word.count());
    let body = new.body_mut();
    set_u16(body, 0, count);
    body[4] = old[4];
    set_used(body, used);
    body[HEADER..HEADER + count].copy_from_slice(&old[HEADER..HEADER + count]);
    let at = HEADER + slots(body);
    body[at..at + count].copy_from_slice(lengths(old));
    let (from, to) = (pieces_at(old), pieces_at(body));
    body[to..to + used].copy_from_slice(&old[from..from + used]);
    word.free_bucket();
    new
}

/// Gives the body another number of slots, for which it has the room.
fn set_slots(body: &mut [u8], to: usize) {
    let (count, used, from) = (count(body), used(body), slots(body));
    let lengths = HEADER + from..HEADER + from + count;
    let pieces = HEADER + 2 * from..HEADER + 2 * from + used;
    // What moves first must not land on what moves second.
    if to > from {
        body.copy_within(pieces, HEADER + 2 * to);
        body.copy_within(lengths, HEADER + to);
    } else {
        body.copy_within(lengths, HEADER + to);
        body.copy_within(pieces, HEADER + 2 * to);
    }
    set_u16(body, 2, to);
}

/// Adds an entry and hands out the place of its piece, for the caller to fill. The bucket may move to a larger block.
pub fn append<'a>(word: Word, tag: u8, length: u8) -> (Word, &'a mut [u8]) {
    let len = piece_len(length);
    let mut word = word;
    let body = word.body_mut();
    let (count, used) = (count(body), used(body));
    let room = body.len().checked_sub(HEADER + used + len);
    if !room.is_some_and(|room| count < slots(body) && 2 * slots(body) <= room) {
        match room.and_then(|room| room.checked_sub(2 * (count + 1))) {
            // The block has the room, but shared out between slots and pieces in another way.
            Some(spare) => {
                let each = 2 + (used + len).div_ceil(count + 1);
                set_slots(body, count + 1 + spare / each);
            }
            None => word = resize(word, 1, len),
        }
    }
    let body = word.body_mut();
    set_u16(body, 0, count + 1);
    body[HEADER + count] = tag;
    let at = HEADER + slots(body) + count;
    body[at] = length;
    if length == SPILLED {
        body[4] = 1;
    }
    set_used(body, used + len);
    let at = pieces_at(body) + used;
    (word.with_count(count + 1), &mut body[at..at + len])
}

/// Gives the entry's piece another length and hands out its place, whose bytes are then no piece: the caller fills it.
pub fn replace<'a>(word: Word, spot: Spot, length: u8) -> (Word, &'a mut [u8]) {
    let (mut word, mut spot) = (word, spot);
    let (old, new) = (piece_len(spot.length), piece_len(length));
    if pieces_at(word.body()) + used(word.body()) + new > word.body().len() + old {
        let offset = spot.at - pieces_at(word.body());
        word = resize(word, 0, new - old);
        spot.at = pieces_at(word.body()) + offset;
    }
    let body = word.body_mut();
    if new != old {
        let used = used(body);
        let end = pieces_at(body) + used;
        body.copy_within(spot.at + old..end, spot.at + new);
        set_used(body, used - old + new);
    }
    let at = HEADER + slots(body) + spot.index;
    body[at] = length;
    if length == SPILLED {
        body[4] = 1;
    }
    (word, &mut body[spot.at..spot.at + new])
}

/// Takes an entry out. The block may become a smaller one.
pub fn remove(word: Word, spot: Spot) -> Word {
    let body = word.body_mut();
    let (count, used, slots) = (count(body), used(body), slots(body));
    let len = piece_len(spot.length);
    let end = pieces_at(body) + used;
    body.copy_within(spot.at + len..end, spot.at);
    for first in [HEADER, HEADER + slots] {
        body.copy_within(first + spot.index + 1..first + count, first + spot.index);
    }
    set_u16(body, 0, count - 1);
    set_used(body, used - len);
    let word = word.with_count(count - 1);
    let (block, _) = size_for(count - 1, used - len);
    // Two size classes and more: entries that come and go do not make the block move.
    if block + block / 2 <= word.block_size() {
        return resize(word, 0, 0);
    }
    word
}

/// Checks the body; returns the number of entries.
pub fn check_invariants(word: Word) -> usize {
    let body = word.body();
    let total: usize = lengths(body).iter().map(|l| piece_len(*l)).sum();
    assert_eq!(used(body), total, "the sum of the lengths");
    assert!(count(body) <= slots(body));
    assert!(pieces_at(body) + used(body) <= body.len());
    assert!(has_spilled(body) || !lengths(body).contains(&SPILLED));
    count(body)
}
