//! Dense registers 32 at a time, for CPUs with AVX2.
//!
//! 24 packed bytes are 32 registers: each half of a vector takes 12 of them, each of its four words 3, which are four registers of six
//! bits, the lowest first; moved apart they are the word's four bytes. The way back is two multiplications that add neighbours.
//!
//! Everything here is safe to call: the functions with `target_feature` are called behind a check of the CPU, and what is loaded or
//! stored is an array of the vector's size.

use super::{DENSE_LEN, HEADER, Histogram, REGISTERS};
use std::arch::x86_64::*;

/// Registers in a vector, and the bytes that they take in a dense value.
const LANES: usize = 32;
const PACKED: usize = LANES * 6 / 8;
/// A half's loads begin so many bytes ahead of its registers, so that the last one ends with the value. Before the first there is the
/// header.
const AHEAD: usize = 4;

/// Raises each register to that of a dense value, where that is higher.
pub(super) fn merge(registers: &mut [u8; REGISTERS], hll: &[u8]) {
    assert!(is_x86_feature_detected!("avx2"));
    // SAFETY: the CPU has AVX2.
    unsafe { merge_avx2(registers, hll) }
}
/// Writes the registers, which are below 64, into a dense value.
pub(super) fn write(registers: &[u8; REGISTERS], hll: &mut [u8]) {
    assert!(is_x86_feature_detected!("avx2"));
    // SAFETY: the CPU has AVX2.
    unsafe { write_avx2(registers, hll) }
}
/// How many registers have each rank. They are below 64.
pub(super) fn histogram(registers: &[u8; REGISTERS]) -> Histogram {
    assert!(is_x86_feature_detected!("avx2"));
    // SAFETY: the CPU has AVX2.
    unsafe { histogram_avx2(registers) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; LANES]) -> __m256i {
    // SAFETY: reads the array's 32 bytes; it need not be aligned.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}
#[inline]
#[target_feature(enable = "avx2")]
fn store(bytes: &mut [u8; LANES], vector: __m256i) {
    // SAFETY: writes the array's 32 bytes; it need not be aligned.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
}
#[inline]
#[target_feature(enable = "avx2")]
fn load_half(bytes: &[u8; LANES / 2]) -> __m128i {
    // SAFETY: reads the array's 16 bytes; it need not be aligned.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn merge_avx2(registers: &mut [u8; REGISTERS], hll: &[u8]) {
    // Three bytes to each word, from behind the four ahead.
    let spread = both(_mm_setr_epi8(
        4, 5, 6, -1, 7, 8, 9, -1, 10, 11, 12, -1, 13, 14, 15, -1,
    ));
    let packed = &hll[HEADER - AHEAD..DENSE_LEN];
    let windows = packed.windows(PACKED + AHEAD).step_by(PACKED);
    for (to, from) in registers.as_chunks_mut::<LANES>().0.iter_mut().zip(windows) {
        let (Some(low), Some(high)) = (from.first_chunk(), from.last_chunk()) else {
            return;
        };
        let words = _mm256_shuffle_epi8(_mm256_set_m128i(load_half(high), load_half(low)), spread);
        let bits = |n: i32| _mm256_set1_epi32(n);
        let apart = _mm256_or_si256(
            _mm256_or_si256(
                _mm256_and_si256(words, bits(0x3f)),
                _mm256_and_si256(_mm256_slli_epi32(words, 2), bits(0x3f00)),
            ),
            _mm256_or_si256(
                _mm256_and_si256(_mm256_slli_epi32(words, 4), bits(0x3f_0000)),
                _mm256_and_si256(_mm256_slli_epi32(words, 6), bits(0x3f00_0000)),
            ),
        );
        let old = load(to);
        store(to, _mm256_max_epu8(old, apart));
    }
}

#[target_feature(enable = "avx2")]
fn write_avx2(registers: &[u8; REGISTERS], hll: &mut [u8]) {
    let close = both(_mm_setr_epi8(
        0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1,
    ));
    let join = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 7, 7);
    let packed = hll[HEADER..DENSE_LEN].as_chunks_mut::<PACKED>().0;
    for (to, from) in packed.iter_mut().zip(registers.as_chunks::<LANES>().0) {
        // Two registers to 12 bits, four to 24.
        let pairs = _mm256_maddubs_epi16(load(from), _mm256_set1_epi16(1 | 64 << 8));
        let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(1 | 4096 << 16));
        let halves = _mm256_shuffle_epi8(fours, close);
        let mut bytes = [0; LANES];
        store(&mut bytes, _mm256_permutevar8x32_epi32(halves, join));
        to.copy_from_slice(&bytes[..PACKED]);
    }
}

/// Four ranks at a time: ranks of a value lie close together, so a few rounds find all registers.
#[target_feature(enable = "avx2")]
fn histogram_avx2(registers: &[u8; REGISTERS]) -> Histogram {
    const RANKS: usize = 4;
    /// Vectors after which a sum in a byte is added up elsewhere. At most 255, and a divisor of the number of vectors.
    const RUN: usize = 128;
    let mut histogram: Histogram = [0; 64];
    let mut found = 0;
    for (round, counts) in histogram.as_chunks_mut::<RANKS>().0.iter_mut().enumerate() {
        let ranks = [0, 1, 2, 3].map(|i| _mm256_set1_epi8((round * RANKS + i) as i8));
        for run in registers.as_chunks::<{ RUN * LANES }>().0 {
            let mut sums = [_mm256_setzero_si256(); RANKS];
            for vector in run.as_chunks::<LANES>().0 {
                let vector = load(vector);
                for (sum, rank) in sums.iter_mut().zip(ranks) {
                    // What is equal is -1.
                    *sum = _mm256_sub_epi8(*sum, _mm256_cmpeq_epi8(vector, rank));
                }
            }
            for (count, sum) in counts.iter_mut().zip(sums) {
                let words = _mm256_sad_epu8(sum, _mm256_setzero_si256());
                let sum = _mm256_extract_epi64::<0>(words)
                    + _mm256_extract_epi64::<1>(words)
                    + _mm256_extract_epi64::<2>(words)
                    + _mm256_extract_epi64::<3>(words);
                *count += sum as u32;
            }
        }
        found += counts.iter().sum::<u32>();
        if found == REGISTERS as u32 {
            break;
        }
    }
    histogram
}

#[inline]
#[target_feature(enable = "avx2")]
fn both(half: __m128i) -> __m256i {
    _mm256_broadcastsi128_si256(half)
}
