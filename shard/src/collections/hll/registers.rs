//! The registers of a HyperLogLog unpacked, a byte each: what values are merged in.
//!
//! A dense value is unpacked, compared and packed again 32 registers at a time where the CPU has AVX2 ([`super::avx2`]), elsewhere eight
//! at a time in a word. Redis has the same for AVX2 (since 8.2), so merging without it would be slower than Redis there.
//!
//! Invariant: every register is below 64.

use super::{Corrupt, DENSE_LEN, HEADER, Histogram, REGISTERS, dense_get, each_run, estimate};
use super::{dense_set, is_dense};
use std::sync::atomic::{AtomicBool, Ordering};

/// Aligned for whole vectors.
#[derive(Clone)]
#[repr(align(64))]
pub struct Registers([u8; REGISTERS]);

impl Default for Registers {
    fn default() -> Self {
        Self([0; REGISTERS])
    }
}

/// Whether dense values are merged many registers at a time: see [`set_wide`].
static WIDE: AtomicBool = AtomicBool::new(true);

/// Whether dense values are merged many registers at a time, or one by one: a switch for comparing the two (PFDEBUG SIMD), of the
/// whole process. What comes out is the same.
pub fn set_wide(on: bool) {
    WIDE.store(on, Ordering::Relaxed);
}

/// The ways to go over dense registers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Way {
    OneByOne,
    Words,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Way {
    pub(super) fn chosen() -> Self {
        if !WIDE.load(Ordering::Relaxed) {
            return Self::OneByOne;
        }
        Self::widest()
    }
    pub(super) fn widest() -> Self {
        // The standard library asks the CPU once.
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            return Self::Avx2;
        }
        Self::Words
    }
}

impl Registers {
    #[inline]
    pub fn get(&self, index: usize) -> u8 {
        self.0[index]
    }
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.iter().copied()
    }
    /// The registers above 0, upwards, with their numbers.
    pub fn raised(&self) -> impl Iterator<Item = (usize, u8)> + '_ {
        // Merged small values have few of them.
        let words = self.0.as_chunks::<16>().0.iter().enumerate();
        words
            .filter(|(_, word)| u128::from_ne_bytes(**word) != 0)
            .flat_map(|(at, word)| word.iter().enumerate().map(move |(i, r)| (at * 16 + i, *r)))
            .filter(|(_, rank)| *rank > 0)
    }

    /// Raises each register to that of `hll`, where that is higher.
    pub fn merge(&mut self, hll: &[u8]) -> Result<(), Corrupt> {
        if is_dense(hll) {
            self.merge_dense(hll, Way::chosen());
            return Ok(());
        }
        each_run(hll, |first, run| {
            if run.rank > 0 {
                for register in &mut self.0[first..first + run.len] {
                    *register = run.rank.max(*register);
                }
            }
        })
    }
    pub(super) fn merge_dense(&mut self, hll: &[u8], way: Way) {
        match way {
            Way::OneByOne => {
                for (index, register) in self.0.iter_mut().enumerate() {
                    *register = dense_get(hll, index).max(*register);
                }
            }
            Way::Words => {
                let packed = hll[HEADER..DENSE_LEN].as_chunks::<6>().0;
                for (eight, six) in self.0.as_chunks_mut::<8>().0.iter_mut().zip(packed) {
                    let [a, b, c, d, e, f] = *six;
                    let new = unpack(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]));
                    for (register, new) in eight.iter_mut().zip(new.to_le_bytes()) {
                        *register = new.max(*register);
                    }
                }
            }
            #[cfg(target_arch = "x86_64")]
            Way::Avx2 => {
                if let Some(hll) = hll.first_chunk() {
                    super::avx2::merge(&mut self.0, hll);
                }
            }
        }
    }
    /// Writes them into a dense value.
    pub fn write_dense(&self, hll: &mut [u8]) {
        self.write_dense_by(hll, Way::chosen());
    }
    pub(super) fn write_dense_by(&self, hll: &mut [u8], way: Way) {
        match way {
            Way::OneByOne => {
                hll[HEADER..DENSE_LEN].fill(0);
                for (index, rank) in self.iter().enumerate() {
                    dense_set(hll, index, rank);
                }
            }
            Way::Words => {
                let packed = hll[HEADER..DENSE_LEN].as_chunks_mut::<6>().0;
                for (eight, six) in self.0.as_chunks::<8>().0.iter().zip(packed) {
                    six.copy_from_slice(&pack(u64::from_le_bytes(*eight)).to_le_bytes()[..6]);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Way::Avx2 => {
                if let Some(hll) = hll.first_chunk_mut() {
                    super::avx2::write(&self.0, hll);
                }
            }
        }
    }

    pub fn count(&self) -> u64 {
        estimate(&self.histogram(Way::widest()))
    }
    pub(super) fn histogram(&self, way: Way) -> Histogram {
        match way {
            #[cfg(target_arch = "x86_64")]
            Way::Avx2 => super::avx2::histogram(&self.0),
            _ => self.histogram_by_word(),
        }
    }
    fn histogram_by_word(&self) -> Histogram {
        // Several tables: a counter that is raised twice in a row would wait for itself.
        let mut tables = [[0_u32; 64]; 4];
        for word in self.0.as_chunks::<8>().0 {
            if *word == [0; 8] {
                tables[0][0] += 8;
                continue;
            }
            let [a, b, c, d, e, f, g, h] = *word;
            for (table, pair) in tables.iter_mut().zip([[a, e], [b, f], [c, g], [d, h]]) {
                table[pair[0] as usize % 64] += 1;
                table[pair[1] as usize % 64] += 1;
            }
        }
        std::array::from_fn(|rank| tables.iter().map(|t| t[rank]).sum())
    }
}

/// Raises each register of a dense value to that of another one, where that is higher.
pub(super) fn merge_packed(into: &mut [u8], hll: &[u8], way: Way) {
    match way {
        Way::OneByOne => {
            for index in 0..REGISTERS {
                dense_set(into, index, dense_get(hll, index));
            }
        }
        Way::Words => {
            let mut registers = Registers::default();
            registers.merge_dense(into, way);
            registers.merge_dense(hll, way);
            registers.write_dense_by(into, way);
        }
        #[cfg(target_arch = "x86_64")]
        Way::Avx2 => {
            if let (Some(into), Some(hll)) = (into.first_chunk_mut(), hll.first_chunk()) {
                super::avx2::merge_packed(into, hll);
            }
        }
    }
}

/// All that values have together. While all of them are dense it is dense too, and what is not needed is not unpacked.
#[derive(Default)]
pub struct Union {
    /// Empty, or a dense value.
    dense: Vec<u8>,
    /// From the first sparse value on: everything.
    registers: Option<Box<Registers>>,
}

impl Union {
    pub fn add(&mut self, hll: &[u8]) -> Result<(), Corrupt> {
        if let Some(registers) = &mut self.registers {
            return registers.merge(hll);
        }
        if is_dense(hll) {
            if self.dense.is_empty() {
                self.dense.extend_from_slice(hll);
            } else {
                merge_packed(&mut self.dense, hll, Way::chosen());
            }
            return Ok(());
        }
        let registers = self.registers.insert(Box::default());
        if !self.dense.is_empty() {
            registers.merge(&self.dense)?;
        }
        registers.merge(hll)
    }
    /// The registers, if there were sparse values; otherwise a dense value, of the first one's header, or nothing if there was none.
    pub fn into_parts(self) -> Result<Box<Registers>, Vec<u8>> {
        self.registers.ok_or(self.dense)
    }
}

/// Six bytes, eight registers of six bits, to eight bytes: halves, quarters and eighths move apart.
#[inline]
fn unpack(bits: u64) -> u64 {
    let x = (bits & 0xff_ffff) | (bits & (0xff_ffff << 24)) << 8;
    let x = (x & 0x0000_0fff_0000_0fff) | (x & 0x00ff_f000_00ff_f000) << 4;
    (x & 0x003f_003f_003f_003f) | (x & 0x0fc0_0fc0_0fc0_0fc0) << 2
}
#[inline]
fn pack(x: u64) -> u64 {
    let x = (x & 0x003f_003f_003f_003f) | (x & 0x3f00_3f00_3f00_3f00) >> 2;
    let x = (x & 0x0000_0fff_0000_0fff) | (x & 0x0fff_0000_0fff_0000) >> 4;
    (x & 0xff_ffff) | (x & (0xff_ffff << 32)) >> 8
}
