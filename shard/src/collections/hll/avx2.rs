//! Dense registers 32 at a time, for CPUs with AVX2.
//!
//! 24 packed bytes are 32 registers: each half of a vector takes 12 of them, each of its four words 3, which are four registers of six
//! bits, the lowest first. The first two of the three bytes and the last two make lanes of two registers each ([`spread`]). The way back
//! is a multiplication that adds neighbours.
//!
//! Everything here is safe to call: the functions with `target_feature` are called behind a check of the CPU, and what is loaded or
//! stored is an array of the vector's size.

use super::{DENSE_LEN, HEADER, Histogram, REGISTERS};
use std::arch::x86_64::*;

/// Registers in a vector, and the bytes that they take in a dense value.
const LANES: usize = 32;
const PACKED: usize = LANES * 6 / 8;

/// Raises each register to that of a dense value, where that is higher.
pub(super) fn merge(registers: &mut [u8; REGISTERS], hll: &[u8; DENSE_LEN]) {
    assert!(is_x86_feature_detected!("avx2"));
    // SAFETY: the CPU has AVX2.
    unsafe { merge_avx2(registers, hll) }
}
/// As [`merge`], into another dense value, whose header stays: without a way over bytes.
pub(super) fn merge_packed(into: &mut [u8; DENSE_LEN], hll: &[u8; DENSE_LEN]) {
    assert!(is_x86_feature_detected!("avx2"));
    // SAFETY: the CPU has AVX2.
    unsafe { merge_packed_avx2(into, hll) }
}
/// Writes the registers, which are below 64, into a dense value.
pub(super) fn write(registers: &[u8; REGISTERS], hll: &mut [u8; DENSE_LEN]) {
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

/// 32 packed registers, two to a lane of 16 bits: one in the upper six bits, one in the six below. The lowest four say nothing.
///
/// No load touches a neighbour's bytes: where those have just been stored it would have to wait for that.
#[inline]
#[target_feature(enable = "avx2")]
fn spread(packed: &[u8; PACKED]) -> __m256i {
    // The first 12 bytes of one half, the last 12 of the other. Of three bytes the first two, which begin with a register, and the last
    // two, which end with one.
    let lanes = _mm256_setr_epi8(
        0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 7, 8, 9, 10, 10, 11, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11, 12,
        13, 14, 14, 15,
    );
    let (low, _) = packed.split_first_chunk().expect("16 of 24 bytes");
    let (_, high) = packed.split_last_chunk().expect("16 of 24 bytes");
    let bytes = _mm256_set_m128i(load_half(high), load_half(low));
    // The first two move to the same place in their lane as the others.
    _mm256_mullo_epi16(
        _mm256_shuffle_epi8(bytes, lanes),
        _mm256_set1_epi32(1 << 16 | 16),
    )
}
/// Stores 32 registers, of which four lie in the lowest 24 bits of each word.
#[inline]
#[target_feature(enable = "avx2")]
fn store_packed(to: &mut [u8; PACKED], fours: __m256i) {
    let close = both(_mm_setr_epi8(
        0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1,
    ));
    let join = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 7, 7);
    let packed = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(fours, close), join);
    let (low, high) = to.split_at_mut(16);
    // SAFETY: writes 16 bytes, the length of `low`, and 8, that of `high`, for an array has 24; they need not be aligned.
    unsafe {
        _mm_storeu_si128(low.as_mut_ptr().cast(), _mm256_castsi256_si128(packed));
        _mm_storel_epi64(
            high.as_mut_ptr().cast(),
            _mm256_extracti128_si256::<1>(packed),
        );
    }
}

/// The registers of a dense value, 32 at a time.
#[inline]
fn chunks(hll: &[u8; DENSE_LEN]) -> &[[u8; PACKED]] {
    hll[HEADER..].as_chunks().0
}
#[inline]
fn chunks_mut(hll: &mut [u8; DENSE_LEN]) -> &mut [[u8; PACKED]] {
    hll[HEADER..].as_chunks_mut().0
}

#[target_feature(enable = "avx2")]
fn merge_avx2(registers: &mut [u8; REGISTERS], hll: &[u8; DENSE_LEN]) {
    for (to, packed) in registers.as_chunks_mut().0.iter_mut().zip(chunks(hll)) {
        let lanes = spread(packed);
        let apart = _mm256_or_si256(
            _mm256_and_si256(_mm256_srli_epi16::<4>(lanes), _mm256_set1_epi16(0x3f)),
            _mm256_and_si256(_mm256_srli_epi16::<2>(lanes), _mm256_set1_epi16(0x3f00)),
        );
        let old = load(to);
        store(to, _mm256_max_epu8(old, apart));
    }
}

#[target_feature(enable = "avx2")]
fn merge_packed_avx2(into: &mut [u8; DENSE_LEN], hll: &[u8; DENSE_LEN]) {
    let upper = _mm256_set1_epi16(0xfc00_u16 as i16);
    let lower = _mm256_set1_epi16(0x03f0);
    for (to, packed) in chunks_mut(into).iter_mut().zip(chunks(hll)) {
        let (a, b) = (spread(to), spread(packed));
        // Each register by itself in its lane: the larger lane is the larger register.
        let larger = _mm256_or_si256(
            _mm256_max_epu16(_mm256_and_si256(a, upper), _mm256_and_si256(b, upper)),
            _mm256_max_epu16(_mm256_and_si256(a, lower), _mm256_and_si256(b, lower)),
        );
        let fours = _mm256_madd_epi16(
            _mm256_srli_epi16::<4>(larger),
            _mm256_set1_epi32(1 | 4096 << 16),
        );
        store_packed(to, fours);
    }
}

#[target_feature(enable = "avx2")]
fn write_avx2(registers: &[u8; REGISTERS], hll: &mut [u8; DENSE_LEN]) {
    let packed = chunks_mut(hll).iter_mut();
    for (to, from) in packed.zip(registers.as_chunks::<LANES>().0) {
        // Two registers to 12 bits, four to 24.
        let pairs = _mm256_maddubs_epi16(load(from), _mm256_set1_epi16(1 | 64 << 8));
        let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(1 | 4096 << 16));
        store_packed(to, fours);
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
