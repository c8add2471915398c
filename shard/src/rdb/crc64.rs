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

#[cfg(test)]
mod tests {
    use super::update;

    #[test]
    fn the_value_that_redis_checks_itself_with() {
        assert_eq!(update(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(update(0, b""), 0);
        assert_eq!(update(update(0, b"1234"), b"56789"), 0xe9c6_d914_c4b8_d9ca);
    }
}
