//! Which of the 16,384 hash slots a key belongs to.
//!
//! The slot is the CRC16 of the key (the XMODEM variant: polynomial 0x1021, initial value 0, no reflection) modulo 16,384. If the key
//! has a hash tag, a non-empty text between the first `{` and the first `}` after it, then only the tag is hashed, so that a user can
//! place keys together. Clients compute the same number: every detail here is part of the wire contract of Redis Cluster.
//!
//! The CRC takes eight bytes per step, with one table for each byte's distance from the end of its step ("slicing"): the look-ups of
//! a step do not depend on one another, where the plain table makes every byte wait for the one before. Zero bytes in front do not
//! change a CRC that starts at 0, so what is more than whole steps goes first, as a step filled up with zeros: no branch depends on the
//! length.

#[cfg(target_arch = "x86_64")]
mod multiply;

/// How many hash slots there are. Fixed by the Redis Cluster protocol.
pub const SLOT_COUNT: u16 = 16384;

/// The hash slot of `key`: below [`SLOT_COUNT`].
#[inline]
pub fn key_slot(key: &[u8]) -> u16 {
    // SLOT_COUNT is a power of two, so this is one AND.
    crc16(hash_tag(key).unwrap_or(key)) % SLOT_COUNT
}

/// The part of `key` that alone decides its slot, if the key has one.
#[inline]
pub fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    if contains_open_brace(key) {
        tag_after_brace(key)
    } else {
        None
    }
}

#[inline(never)]
fn tag_after_brace(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|&byte| byte == b'{')?;
    let rest = &key[open + 1..];
    let close = rest.iter().position(|&byte| byte == b'}')?;
    // An empty tag does not count, and only the first `{` is ever looked at.
    (close > 0).then(|| &rest[..close])
}

/// Nearly every key has no tag, and finding that out must not cost more than the CRC itself: eight bytes per step.
#[inline]
fn contains_open_brace(key: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    const BRACES: u64 = u64::from_ne_bytes([b'{'; 8]);
    let in_word = |word: &[u8; 8]| {
        // A byte that equals `{` becomes zero, and this is non-zero exactly if some byte is zero.
        let word = u64::from_ne_bytes(*word) ^ BRACES;
        word.wrapping_sub(ONES) & !word & HIGHS != 0
    };
    let (words, rest) = key.as_chunks::<8>();
    words.iter().any(in_word)
        || match key.last_chunk::<8>() {
            // Reading some bytes twice is cheaper than a loop over the remainder.
            Some(word) if !rest.is_empty() => in_word(word),
            Some(_) => false,
            None => rest.contains(&b'{'),
        }
}

/// CRC16/XMODEM.
#[inline]
pub fn crc16(bytes: &[u8]) -> u16 {
    #[cfg(target_arch = "x86_64")]
    if let Some(crc) = multiply::crc16(bytes) {
        return crc;
    }
    crc16_by_tables(bytes)
}

fn crc16_by_tables(bytes: &[u8]) -> u16 {
    // The first step takes one to eight bytes.
    let len = bytes.len().wrapping_sub(1) % STEP + 1;
    let mut crc = step(0, first_step(bytes, len));
    for &bytes in bytes.get(len..).unwrap_or_default().as_chunks().0 {
        crc = step(crc, bytes);
    }
    crc
}

/// The first `len` of these bytes, behind zeros: a step's or fewer.
#[inline]
fn first_step(bytes: &[u8], len: usize) -> [u8; STEP] {
    if let Some(&first) = bytes.first_chunk::<STEP>() {
        let bits = 8 * (STEP - len) as u32;
        return (u64::from_be_bytes(first) >> bits).to_be_bytes();
    }
    let mut step = [0; STEP];
    for (to, from) in step[STEP - len..].iter_mut().zip(bytes) {
        *to = *from;
    }
    step
}

/// Eight bytes more.
#[inline]
fn step(crc: u16, bytes: [u8; STEP]) -> u16 {
    let look_up = |distance: usize, byte: u8| TABLES[distance][usize::from(byte)];
    let [a, b, c, d, e, f, g, h] = bytes;
    let [high, low] = u16::to_be_bytes(crc);
    look_up(7, a ^ high)
        ^ look_up(6, b ^ low)
        ^ look_up(5, c)
        ^ look_up(4, d)
        ^ look_up(3, e)
        ^ look_up(2, f)
        ^ look_up(1, g)
        ^ look_up(0, h)
}

const POLYNOMIAL: u16 = 0x1021;
const STEP: usize = 8;

/// `TABLES[n][byte]`: what `byte` contributes to the CRC when `n` more bytes of its step follow it. 4 KB.
static TABLES: [[u16; 256]; STEP] = build_tables();

const fn build_tables() -> [[u16; 256]; STEP] {
    let mut tables = [[0u16; 256]; STEP];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 {
                (crc << 1) ^ POLYNOMIAL
            } else {
                crc << 1
            };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut distance = 1;
    while distance < STEP {
        let mut byte = 0;
        while byte < 256 {
            // One more byte that is zero shifts a contribution by one byte.
            let previous = tables[distance - 1][byte];
            tables[distance][byte] = (previous << 8) ^ tables[0][(previous >> 8) as usize];
            byte += 1;
        }
        distance += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, bit by bit.
    fn crc16_bitwise(bytes: &[u8]) -> u16 {
        bytes.iter().fold(0, |crc, &byte| {
            (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
                if crc & 0x8000 != 0 {
                    (crc << 1) ^ POLYNOMIAL
                } else {
                    crc << 1
                }
            })
        })
    }

    #[test]
    fn the_published_check_value() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
    }

    /// What CLUSTER KEYSLOT of Redis 7.0.15 answers.
    #[test]
    fn slots_as_redis_answers() {
        for (key, slot) in [
            (&b""[..], 0),
            (b"foo", 12182),
            (b"bar", 5061),
            (b"key:0000001", 13151),
            (b"foo{hash_tag}", 2515),
            (b"bar{hash_tag}", 2515),
            (b"{hash_tag}", 2515),
            (b"hash_tag", 2515),
            (b"foo{}{bar}", 8363),
            (b"foo{{bar}}zap", 4015),
            (b"foo{bar}{zap}", 5061),
            (b"{", 4092),
            (b"{}", 15257),
            (b"}{", 12793),
            (b"a}b{c}d", 7365),
        ] {
            assert_eq!(key_slot(key), slot, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_tag_is_found_at_every_offset() {
        for length in 3..40 {
            for open in 0..length - 2 {
                let mut key = vec![b'x'; length];
                key[open] = b'{';
                assert_eq!(hash_tag(&key), None);
                key[length - 1] = b'}';
                assert_eq!(hash_tag(&key), Some(&key[open + 1..length - 1]));
            }
        }
    }

    proptest! {
        #[test]
        fn crc_equals_the_bitwise_definition(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(crc16(&bytes), crc16_bitwise(&bytes));
            prop_assert_eq!(crc16_by_tables(&bytes), crc16_bitwise(&bytes));
        }

        #[test]
        fn tags_equal_the_definition(key in "[a{}\u{7f}\u{80}|~z]{0,40}") {
            let expected = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag).filter(|tag| !tag.is_empty());
            prop_assert_eq!(hash_tag(key.as_bytes()), expected.map(str::as_bytes));
            prop_assert!(key_slot(key.as_bytes()) < SLOT_COUNT);
        }
    }
}
