//! Loops over the bits of large values.
//!
//! Written over machine words or in shapes that the compiler turns into vector code; each is compiled for several
//! instruction sets, and the best that the processor has is chosen when it runs.
//!
//! Bits are numbered as in Redis: bit 0 is the highest of byte 0.

use multiversion::multiversion;
use std::ops::Range;

/// The one bits.
pub fn count_ones(bytes: &[u8]) -> u64 {
    // Choosing the version costs more than counting a few bytes.
    if bytes.len() <= 64 {
        return ones(bytes);
    }
    count_many(bytes)
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512vpopcntdq",
    "x86_64+avx2+popcnt",
    "x86_64+popcnt"
))]
fn count_many(bytes: &[u8]) -> u64 {
    ones(bytes)
}

#[inline(always)]
fn ones(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words: u64 = words
        .iter()
        .map(|word| u64::from(u64::from_ne_bytes(*word).count_ones()))
        .sum();
    words + rest.iter().map(|b| u64::from(b.count_ones())).sum::<u64>()
}

/// The one bits among those of a range.
pub fn count_ones_in(bytes: &[u8], bits: Range<u64>) -> u64 {
    if bits.is_empty() {
        return 0;
    }
    let part = &bytes[(bits.start / 8) as usize..bits.end.div_ceil(8) as usize];
    let (head, tail) = outside(&bits);
    let ones_outside = (part[0] & head).count_ones() + (part[part.len() - 1] & tail).count_ones();
    count_ones(part) - u64::from(ones_outside)
}

/// The bits of a range's first and last byte that lie outside the range.
fn outside(bits: &Range<u64>) -> (u8, u8) {
    let after = match bits.end % 8 {
        0 => 0,
        used => 0xff >> used,
    };
    (!(0xff >> (bits.start % 8)), after)
}

/// The first bit of a range that is `bit`.
pub fn position(bytes: &[u8], bit: bool, bits: Range<u64>) -> Option<u64> {
    if bits.is_empty() {
        return None;
    }
    // The bytes with none of the bits looked for.
    let skip = if bit { 0 } else { 0xff };
    let (first, end) = ((bits.start / 8) as usize, bits.end.div_ceil(8) as usize);
    let (head, _) = outside(&bits);
    let found = (bytes[first] ^ skip) & !head;
    let at = if found != 0 {
        first as u64 * 8 + u64::from(found.leading_zeros())
    } else {
        let at = first + 1 + first_other(&bytes[first + 1..end], skip)?;
        at as u64 * 8 + u64::from((bytes[at] ^ skip).leading_zeros())
    };
    (at < bits.end).then_some(at)
}

/// Where the first byte is that is not `skip`, which is all ones or all zeros.
fn first_other(bytes: &[u8], skip: u8) -> Option<usize> {
    let near = bytes.len().min(64);
    if let Some(at) = bytes[..near].iter().position(|b| *b != skip) {
        return Some(at);
    }
    let mut from = near + same_blocks::<1024>(&bytes[near..], skip);
    from += same_blocks::<64>(&bytes[from..], skip);
    let at = bytes[from..].iter().position(|b| *b != skip)?;
    Some(from + at)
}

/// How many bytes at the start, in whole blocks, are all `skip`. Comparing memory is what the C library does best.
fn same_blocks<const N: usize>(bytes: &[u8], skip: u8) -> usize {
    let like = if skip == 0 { &[0; N] } else { &[0xff; N] };
    let (blocks, _) = bytes.as_chunks::<N>();
    let same = blocks.iter().position(|block| block != like);
    same.unwrap_or(blocks.len()) * N
}

/// What BITOP does with its sources' bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    And,
    Or,
    Xor,
    /// Of one source.
    Not,
    /// In the first, but in none of the others.
    Diff,
    /// In one of the others, but not in the first.
    Diff1,
    /// In the first and in one of the others.
    AndOr,
    /// In exactly one.
    One,
}

/// Combines the sources, of which there is one at least; shorter ones count as filled up with zeros. `out` is all zero, and as
/// long as the longest.
pub fn combine(operation: Operation, sources: &[&[u8]], out: &mut [u8]) {
    // In blocks that stay in the nearest cache while all sources go over them.
    for (index, block) in out.chunks_mut(BLOCK).enumerate() {
        combine_block(operation, sources, index * BLOCK, block);
    }
}

const BLOCK: usize = 8192;

/// The part of the result that begins at `at`.
fn combine_block(operation: Operation, sources: &[&[u8]], at: usize, out: &mut [u8]) {
    let end = at + out.len();
    let part = |source: &&'_ [u8]| -> Range<usize> { at.min(source.len())..end.min(source.len()) };
    let Some((first, others)) = sources.split_first() else {
        return;
    };
    let first = &first[part(first)];
    let others = others.iter().map(|source| &source[part(source)]);
    match operation {
        Operation::And => {
            out[..first.len()].copy_from_slice(first);
            others.for_each(|other| and(out, other));
        }
        Operation::Or => {
            out[..first.len()].copy_from_slice(first);
            others.for_each(|other| or(out, other));
        }
        Operation::Xor => {
            out[..first.len()].copy_from_slice(first);
            others.for_each(|other| xor(out, other));
        }
        Operation::Not => {
            out[..first.len()].copy_from_slice(first);
            out.iter_mut().for_each(|b| *b = !*b);
        }
        Operation::Diff => {
            out[..first.len()].copy_from_slice(first);
            others.for_each(|other| and_not(out, other));
        }
        Operation::Diff1 => {
            others.for_each(|other| or(out, other));
            and_not(out, first);
        }
        Operation::AndOr => {
            others.for_each(|other| or(out, other));
            and(out, first);
        }
        Operation::One => {
            out[..first.len()].copy_from_slice(first);
            let mut many = [0; BLOCK];
            others.for_each(|other| one(out, &mut many, other));
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn and(out: &mut [u8], other: &[u8]) {
    let (both, rest) = out.split_at_mut(other.len());
    both.iter_mut().zip(other).for_each(|(a, b)| *a &= b);
    rest.fill(0);
}
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn or(out: &mut [u8], other: &[u8]) {
    out.iter_mut().zip(other).for_each(|(a, b)| *a |= b);
}
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn xor(out: &mut [u8], other: &[u8]) {
    out.iter_mut().zip(other).for_each(|(a, b)| *a ^= b);
}
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn and_not(out: &mut [u8], other: &[u8]) {
    out.iter_mut().zip(other).for_each(|(a, b)| *a &= !b);
}
/// `out` has the bits seen once so far, `many` those seen more often.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn one(out: &mut [u8], many: &mut [u8], other: &[u8]) {
    for ((one, many), b) in out.iter_mut().zip(many).zip(other) {
        *many |= *one & b;
        *one = (*one ^ b) & !*many;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bit(bytes: &[u8], at: u64) -> bool {
        let byte = bytes.get((at / 8) as usize).copied().unwrap_or(0);
        byte >> (7 - at % 8) & 1 != 0
    }

    /// Bytes as they are in bitmaps: long runs of zeros and ones, and noise.
    fn runs() -> impl Strategy<Value = Vec<u8>> {
        let run = (
            prop_oneof![Just(0u8), Just(0xff), any::<u8>()],
            1..300_usize,
        );
        prop::collection::vec(run, 0..6).prop_map(|runs| {
            runs.into_iter()
                .flat_map(|(byte, len)| std::iter::repeat_n(byte, len))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn counts_and_positions_are_those_of_a_walk(
            bytes in runs(),
            ends in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let bits = bytes.len() as u64 * 8;
            let (a, b) = (ends.0.index(bits as usize + 1) as u64, ends.1.index(bits as usize + 1) as u64);
            let range = a.min(b)..a.max(b);
            let ones = range.clone().filter(|at| bit(&bytes, *at)).count() as u64;
            prop_assert_eq!(count_ones_in(&bytes, range.clone()), ones);
            prop_assert_eq!(count_ones_in(&bytes, 0..bits), count_ones(&bytes));
            for wanted in [false, true] {
                let first = range.clone().find(|at| bit(&bytes, *at) == wanted);
                prop_assert_eq!(position(&bytes, wanted, range.clone()), first);
            }
        }

        #[test]
        fn combinations_are_those_of_single_bits(
            sources in prop::collection::vec(runs(), 1..5),
            long in any::<bool>(),
        ) {
            let mut sources = sources;
            if long {
                // More than a block.
                for source in &mut sources {
                    let len = source.len();
                    source.resize(len + BLOCK, 0x5a);
                    source.rotate_right(len / 2);
                }
            }
            let views: Vec<&[u8]> = sources.iter().map(Vec::as_slice).collect();
            let len = views.iter().map(|s| s.len()).max().unwrap_or(0);
            for operation in [
                Operation::And, Operation::Or, Operation::Xor, Operation::Not, Operation::Diff,
                Operation::Diff1, Operation::AndOr, Operation::One,
            ] {
                let views = if operation == Operation::Not { &views[..1] } else { &views[..] };
                let len = if operation == Operation::Not { views[0].len() } else { len };
                let mut out = vec![0; len];
                combine(operation, views, &mut out);
                for at in 0..len as u64 * 8 {
                    let first = bit(views[0], at);
                    let others = views[1..].iter().filter(|s| bit(s, at)).count();
                    let all = others + usize::from(first);
                    let expected = match operation {
                        Operation::And => all == views.len(),
                        Operation::Or => all > 0,
                        Operation::Xor => all % 2 == 1,
                        Operation::Not => !first,
                        Operation::Diff => first && others == 0,
                        Operation::Diff1 => !first && others > 0,
                        Operation::AndOr => first && others > 0,
                        Operation::One => all == 1,
                    };
                    prop_assert_eq!(bit(&out, at), expected, "{:?} at {}", operation, at);
                }
            }
        }
    }
}
