//! HyperLogLog, in Redis's format byte for byte: estimates how many different elements were added, in at most 12,304 bytes.
//!
//! An element's hash chooses one of 16,384 registers (14 bits) and a rank: the place of the first one bit in the other 50. A register
//! keeps the highest rank it saw. Many elements give high ranks, and [`estimate`] turns the counts of ranks into a number.
//!
//! ```text
//! | HYLL | 0 dense, 1 sparse | 0 0 0 | estimate, 8 bytes, little-endian; top bit: out of date | registers |
//! dense:   6 bits a register, the lowest bits first
//! sparse:  runs, which together cover all registers:
//!          00llllll             l + 1 registers with 0
//!          01llllll llllllll    l + 1 registers with 0
//!          1rrrrrll             l + 1 registers with r + 1
//! ```
//! Invariants of what this writes, not of what a client may have put there: runs cover 16,384 registers exactly, and no sparse value
//! is longer than the limit it was made with. Clients can write any bytes (SETRANGE), so every function that walks runs says
//! [`Corrupt`] where they are wrong; [`is_hll`] is asked first.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod registers;

pub use registers::{Registers, Union, set_wide};

use super::listpack::Splice;

pub const REGISTERS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 14;
/// Bits of the hash after those of the index.
const RANK_BITS: u32 = 64 - INDEX_BITS;
const HEADER: usize = 16;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
/// A dense value's length.
pub const DENSE_LEN: usize = HEADER + REGISTERS * 6 / 8;
/// The highest rank that a run can hold.
const RUN_RANK_MAX: u8 = 32;
const RUN_MAX: usize = 4;
const ZERO_RUN_MAX: usize = 64;
/// In the last byte of the estimate.
const OUT_OF_DATE: u8 = 0x80;

/// A sparse value without elements.
pub const EMPTY: [u8; 18] = [
    b'H', b'Y', b'L', b'L', SPARSE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff,
];

/// The runs of a sparse value do not cover the registers exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// Whether a string is a HyperLogLog by its header and length.
pub fn is_hll(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER
        && bytes.starts_with(b"HYLL")
        && (bytes[4] == SPARSE || bytes[4] == DENSE && bytes.len() == DENSE_LEN)
}

#[inline]
pub fn is_dense(hll: &[u8]) -> bool {
    hll[4] == DENSE
}

/// MurmurHash64A with Redis's seed.
#[inline]
fn hash(bytes: &[u8]) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mut h = 0xadc8_3b19 ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut k = u64::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 47;
        h = (h ^ k.wrapping_mul(M)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        h = (h ^ u64::from_le_bytes(last)).wrapping_mul(M);
    }
    h ^= h >> 47;
    h = h.wrapping_mul(M);
    h ^ (h >> 47)
}

/// The register that an element belongs to, and its rank.
#[inline]
pub fn place(element: &[u8]) -> (usize, u8) {
    let hash = hash(element);
    let rest = hash >> INDEX_BITS | 1 << RANK_BITS;
    (hash as usize % REGISTERS, rest.trailing_zeros() as u8 + 1)
}

// ---- dense ----

/// The first byte of a register in a dense value, and the bit in it where the register begins.
#[inline]
fn dense_at(index: usize) -> (usize, u32) {
    (HEADER + index * 6 / 8, (index * 6 % 8) as u32)
}

/// A register of a dense value.
#[inline]
pub fn dense_get(hll: &[u8], index: usize) -> u8 {
    let (at, bit) = dense_at(index);
    // The last register ends with its byte.
    let next = hll.get(at + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([hll[at], next]) >> bit) as u8 & 63
}

/// Raises a register of a dense value to `rank`. True when it was lower.
#[inline]
pub fn dense_set(hll: &mut [u8], index: usize, rank: u8) -> bool {
    let old = dense_get(hll, index);
    if old >= rank {
        return false;
    }
    let (at, bit) = dense_at(index);
    let change = (((old ^ rank) as u16) << bit).to_le_bytes();
    hll[at] ^= change[0];
    if change[1] != 0 {
        hll[at + 1] ^= change[1];
    }
    true
}

// ---- sparse ----

/// Registers with the same rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub rank: u8,
    pub len: usize,
    /// Written in two bytes.
    pub long: bool,
}

impl Run {
    /// The run at the start of `bytes`; `None` at their end, or where half of one stands.
    #[inline]
    fn read(bytes: &[u8]) -> Option<Self> {
        Some(match *bytes {
            [b, ..] if b & 0x80 != 0 => Self {
                rank: (b >> 2 & 31) + 1,
                len: (b & 3) as usize + 1,
                long: false,
            },
            [b, ..] if b & 0x40 == 0 => Self {
                rank: 0,
                len: b as usize + 1,
                long: false,
            },
            [a, b, ..] => Self {
                rank: 0,
                len: u16::from_be_bytes([a & 0x3f, b]) as usize + 1,
                long: true,
            },
            _ => return None,
        })
    }
    fn size(self) -> usize {
        1 + self.long as usize
    }
}

/// A few runs to be written.
#[derive(Default)]
struct Runs {
    bytes: [u8; 5],
    len: usize,
}

impl Runs {
    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }
    fn zeros(&mut self, len: usize) {
        if len > ZERO_RUN_MAX {
            let [a, b] = (len as u16 - 1).to_be_bytes();
            self.push(a | 0x40);
            self.push(b);
        } else if len > 0 {
            self.push(len as u8 - 1);
        }
    }
    fn ranks(&mut self, rank: u8, len: usize) {
        if len > 0 {
            self.push(run_of(rank, len));
        }
    }
}

fn run_of(rank: u8, len: usize) -> u8 {
    0x80 | (rank - 1) << 2 | (len as u8 - 1)
}

/// The runs of a sparse value: where they are, and what they say. Ends early where half a run stands.
pub fn runs(hll: &[u8]) -> impl Iterator<Item = Run> + '_ {
    let mut rest = &hll[HEADER..];
    std::iter::from_fn(move || {
        let run = Run::read(rest)?;
        rest = &rest[run.size()..];
        Some(run)
    })
}

/// Calls `f` with the first register and the run, for every run of a sparse value.
fn each_run(hll: &[u8], mut f: impl FnMut(usize, Run)) -> Result<(), Corrupt> {
    let mut first = 0;
    for run in runs(hll) {
        if first + run.len > REGISTERS {
            return Err(Corrupt);
        }
        f(first, run);
        first += run.len;
    }
    if first == REGISTERS {
        Ok(())
    } else {
        Err(Corrupt)
    }
}

/// What raising a register of a sparse value came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Raised {
    Unchanged,
    Changed,
    /// It has to be dense from now on: this is the value, with the change. The caller puts it in place of the old one.
    Dense(Vec<u8>),
}

/// A place in a sparse value from which runs are looked for: where a run begins, and its first register. For a search that goes on
/// upwards from the last one; the default is the first run.
#[derive(Clone, Copy)]
pub struct From {
    at: usize,
    first: usize,
}

impl Default for From {
    fn default() -> Self {
        Self {
            at: HEADER,
            first: 0,
        }
    }
}

/// Raises a register of a sparse value that may become `limit` bytes long. `from` is where the search for the register begins: a
/// default one, or as this left it for a lower register of the same value.
pub fn sparse_set(
    b: &mut impl Splice,
    index: usize,
    rank: u8,
    limit: usize,
    from: &mut From,
) -> Result<Raised, Corrupt> {
    let hll = b.bytes();
    if rank > RUN_RANK_MAX {
        return promoted(hll, index, rank);
    }
    let found = find_run(hll, index, *from).ok_or(Corrupt)?;
    *from = found.back;
    let (at, run) = (found.at, found.run);
    if run.rank >= rank {
        return Ok(Raised::Unchanged);
    }
    let before = index - found.first;
    let after = run.len - 1 - before;
    let mut new = Runs::default();
    if run.rank == 0 {
        new.zeros(before);
        new.ranks(rank, 1);
        new.zeros(after);
    } else {
        new.ranks(run.rank, before);
        new.ranks(rank, 1);
        new.ranks(run.rank, after);
    }
    let longer = new.len.saturating_sub(run.size());
    if longer > 0 && hll.len() + longer > limit {
        return promoted(hll, index, rank);
    }
    b.splice(at, run.size(), &new.bytes[..new.len]);
    join_runs(b, found.previous.at);
    Ok(Raised::Changed)
}

fn promoted(hll: &[u8], index: usize, rank: u8) -> Result<Raised, Corrupt> {
    let mut dense = to_dense(hll)?;
    Ok(if dense_set(&mut dense, index, rank) {
        Raised::Dense(dense)
    } else {
        Raised::Unchanged
    })
}

struct FoundRun {
    at: usize,
    run: Run,
    /// The run's first register.
    first: usize,
    /// The run before this one, and the one before that: from there a search finds the same two runs again, whatever became of the
    /// runs from `previous` on. At the first run both are that.
    previous: From,
    back: From,
}

/// The run that a register lies in.
fn find_run(hll: &[u8], index: usize, from: From) -> Option<FoundRun> {
    /// In a value that is shorter, most blocks have a run of two bytes.
    const BLOCKS_FROM: usize = 512;
    let by_blocks = hll.len() >= BLOCKS_FROM && index - from.first.min(index) >= ZERO_RUN_MAX;
    let (mut back, mut previous, mut here) = (from, from, from);
    loop {
        if by_blocks && let Some(last) = skip_blocks(hll, index, &mut here) {
            // Runs of a byte each: the two before.
            let [.., b, a] = last;
            previous = From {
                at: here.at - 1,
                first: here.first - short_len(a),
            };
            back = From {
                at: here.at - 2,
                first: previous.first - short_len(b),
            };
        }
        // One at a time, to the end or behind a run of two bytes, with which a block ends early.
        loop {
            let run = Run::read(&hll[here.at..])?;
            if index < here.first + run.len {
                return Some(FoundRun {
                    at: here.at,
                    run,
                    first: here.first,
                    previous,
                    back,
                });
            }
            back = previous;
            previous = here;
            here.at += run.size();
            here.first += run.len;
            if by_blocks && run.long {
                break;
            }
        }
    }
}

const BLOCK: usize = 8;

/// Goes on over blocks that consist of runs of one byte, all below a register. Returns the last block, if there was one.
#[inline]
fn skip_blocks(hll: &[u8], index: usize, here: &mut From) -> Option<[u8; BLOCK]> {
    let mut last = None;
    for block in hll[here.at..].as_chunks::<BLOCK>().0 {
        let Some(len) = short_runs(*block).filter(|len| here.first + len <= index) else {
            break;
        };
        here.at += BLOCK;
        here.first += len;
        last = Some(*block);
    }
    last
}
/// The registers of a run of one byte.
fn short_len(byte: u8) -> usize {
    1 + (byte & if byte & 0x80 != 0 { 3 } else { 63 }) as usize
}
/// The registers of a block of runs of one byte; `None` if it has a longer one.
#[inline]
fn short_runs(block: [u8; BLOCK]) -> Option<usize> {
    const fn all(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; BLOCK])
    }
    let bytes = u64::from_le_bytes(block);
    if bytes & !(bytes >> 1) & all(0x40) != 0 {
        return None;
    }
    // Two bits of a run of a rank, six of one of zeros: a top bit, moved to the four bits between, takes those away.
    let ranks = bytes >> 7 & all(1);
    let lens = bytes & all(0x3f) & !(ranks * 0x3c);
    let pairs = (lens & 0x00ff_00ff_00ff_00ff) + (lens >> 8 & 0x00ff_00ff_00ff_00ff);
    Some((pairs.wrapping_mul(0x0001_0001_0001_0001) >> 48) as usize + BLOCK)
}

/// Joins runs of the same rank about a change, as far as Redis does, so that the bytes are the same.
fn join_runs(b: &mut impl Splice, mut at: usize) {
    for _ in 0..5 {
        let hll = b.bytes();
        let Some(run) = hll.get(at..).and_then(Run::read) else {
            return;
        };
        if run.rank > 0
            && let Some(next) = Run::read(&hll[at + 1..])
            && next.rank == run.rank
            && run.len + next.len <= RUN_MAX
        {
            b.splice(at, 2, &[run_of(run.rank, run.len + next.len)]);
        } else {
            at += run.size();
        }
    }
}

/// Writes the registers of a dense value into another one.
pub fn copy_registers(to: &mut [u8], from: &[u8]) {
    to[HEADER..DENSE_LEN].copy_from_slice(&from[HEADER..DENSE_LEN]);
}
/// Gives a dense value the header of another value. The estimate is the other one's then.
pub fn copy_header(to: &mut [u8], from: &[u8]) {
    to[..HEADER].copy_from_slice(&from[..HEADER]);
    to[4] = DENSE;
}

/// A sparse value as a dense one. The estimate stays.
pub fn to_dense(hll: &[u8]) -> Result<Vec<u8>, Corrupt> {
    let mut dense = vec![0; DENSE_LEN];
    copy_header(&mut dense, hll);
    each_run(hll, |first, run| {
        if run.rank > 0 {
            for index in first..first + run.len {
                dense_set(&mut dense, index, run.rank);
            }
        }
    })?;
    Ok(dense)
}

// ---- the estimate ----

/// The estimate kept in the value, if it is not out of date.
pub fn cached(hll: &[u8]) -> Option<u64> {
    let mut word = [0; 8];
    word.copy_from_slice(&hll[8..HEADER]);
    (word[7] & OUT_OF_DATE == 0).then(|| u64::from_le_bytes(word))
}
/// The estimate as it is kept at [`CACHE_AT`] in the value.
pub fn cache_bytes(estimate: u64) -> [u8; 8] {
    estimate.to_le_bytes()
}
/// Where [`cache_bytes`] stand.
pub const CACHE_AT: usize = 8;

/// Marks the estimate as out of date.
pub fn outdate(hll: &mut [u8]) {
    hll[HEADER - 1] |= OUT_OF_DATE;
}

/// How many registers have each rank. Ranks above 51 come only from corrupt values.
type Histogram = [u32; 64];

/// The estimate, computed.
pub fn count(hll: &[u8]) -> Result<u64, Corrupt> {
    if is_dense(hll) {
        let mut registers = Registers::default();
        registers.merge(hll)?;
        return Ok(registers.count());
    }
    let mut histogram = [0; 64];
    each_run(hll, |_, run| {
        histogram[run.rank as usize] += run.len as u32;
    })?;
    Ok(estimate(&histogram))
}

/// Otmar Ertl's estimator ("New cardinality estimation algorithms for HyperLogLog sketches", algorithm 6), with the operations in
/// Redis's order, so that the last digit is the same.
fn estimate(histogram: &Histogram) -> u64 {
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let m = REGISTERS as f64;
    let last = RANK_BITS as usize + 1;
    let mut z = m * tau((m - histogram[last] as f64) / m);
    for &registers in histogram[1..last].iter().rev() {
        z += registers as f64;
        z *= 0.5;
    }
    z += m * sigma(histogram[0] as f64 / m);
    (ALPHA * m * m / z).round() as u64
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

#[cfg(test)]
mod tests;
