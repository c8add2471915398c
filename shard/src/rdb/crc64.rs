//! The checksum of RDB files and DUMP payloads: CRC64 with Jones's polynomial, bits reflected, starting from 0.

use crc::{CRC_64_REDIS, Crc, Table};

static CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// The checksum of what gave `crc` (0 for nothing) with `bytes` after it.
pub fn update(crc: u64, bytes: &[u8]) -> u64 {
    // The crate takes the initial value as if it were not reflected.
    let mut digest = CRC.digest_with_initial(crc.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// The checksum of what has `first` and then `len` bytes that by themselves have `second`.
///
/// A checksum from 0 is linear over bits: that of the whole is the exclusive or of `second` and of `first` moved on by `len` bytes of zeros. One
/// zero bit is a matrix; squaring it again and again gives those for 2, 4, 8 … bits.
pub fn combine(first: u64, second: u64, len: u64) -> u64 {
    const REFLECTED: u64 = CRC_64_REDIS.poly.reverse_bits();
    let mut step: [u64; 64] = std::array::from_fn(|bit| match bit {
        0 => REFLECTED,
        _ => 1 << (bit - 1),
    });
    let mut moved = first;
    // In bits; `len` has less than 2^61.
    let mut left = u128::from(len) * 8;
    while left > 0 {
        if left & 1 != 0 {
            moved = times(&step, moved);
        }
        step = std::array::from_fn(|bit| times(&step, step[bit]));
        left >>= 1;
    }
    moved ^ second
}

/// A matrix, by columns, times a vector of bits.
fn times(matrix: &[u64; 64], vector: u64) -> u64 {
    let columns = matrix.iter().enumerate();
    columns.fold(0, |sum, (bit, column)| {
        sum ^ if vector >> bit & 1 != 0 { *column } else { 0 }
    })
}

#[cfg(test)]
mod tests {
    use super::{combine, update};

    #[test]
    fn two_checksums_make_that_of_both() {
        let bytes: Vec<u8> = (0..2000u32).map(|n| (n * n % 251) as u8).collect();
        for cut in [0, 1, 9, 1000, 1999, 2000] {
            let (a, b) = bytes.split_at(cut);
            let both = combine(update(0, a), update(0, b), b.len() as u64);
            assert_eq!(both, update(0, &bytes), "{cut}");
        }
    }

    #[test]
    fn the_value_that_redis_checks_itself_with() {
        assert_eq!(update(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(update(0, b""), 0);
        assert_eq!(update(update(0, b"1234"), b"56789"), 0xe9c6_d914_c4b8_d9ca);
    }
}
