//! LZF, the compression of RDB's strings.
//!
//! Source of the format: Marc Lehmann's LibLZF (oldhome.schmorp.de/marc/liblzf.html). A block is a run of
//! ```text
//! 000lllll  l + 1 bytes        these bytes
//! lllooooo  oooooooo           l + 2 bytes (l: 1..=6) that were written o + 1 bytes before
//! 111ooooo  llllllll oooooooo  the same with l + 9 bytes
//! ```
//! A copy may overlap what it writes.

/// No block makes more of a byte than this: a copy of 264 bytes takes 3.
const RATIO_MAX: usize = 88;

/// `len` bytes, or `None` if the block does not hold exactly that.
pub fn decompress(block: &[u8], len: usize) -> Option<Vec<u8>> {
    if len > block.len().saturating_mul(RATIO_MAX) {
        return None;
    }
    let mut out = Vec::with_capacity(len);
    let mut rest = block.iter().as_slice();
    while let Some((&control, after)) = rest.split_first() {
        rest = after;
        if control < 32 {
            let count = control as usize + 1;
            let (literal, after) = rest.split_at_checked(count)?;
            if out.len() + count > len {
                return None;
            }
            out.extend_from_slice(literal);
            rest = after;
            continue;
        }
        let mut count = (control >> 5) as usize + 2;
        if count == 9 {
            let (&more, after) = rest.split_first()?;
            count += more as usize;
            rest = after;
        }
        let (&low, after) = rest.split_first()?;
        rest = after;
        let back = (((control & 0x1f) as usize) << 8 | low as usize) + 1;
        let from = out.len().checked_sub(back)?;
        if out.len() + count > len {
            return None;
        }
        if back >= count {
            out.extend_from_within(from..from + count);
        } else {
            for i in from..from + count {
                out.push(out[i]);
            }
        }
    }
    (out.len() == len).then_some(out)
}

const HASH_BITS: u32 = 13;
const LITERAL_MAX: usize = 32;
const COPY_MAX: usize = 264;
const BACK_MAX: usize = 1 << 13;

/// Compresses. Holds a table of where three bytes were seen last; clearing it for every string would cost more than the strings, so
/// places count on from string to string, and those before `base` are void.
pub struct Compressor {
    places: Box<[u32]>,
    base: u32,
}

impl Default for Compressor {
    fn default() -> Self {
        Self {
            places: vec![0; 1 << HASH_BITS].into_boxed_slice(),
            base: 1,
        }
    }
}

impl Compressor {
    /// Appends the block to `out` if it is shorter than the bytes by more than `gain`. Returns its length.
    pub fn compress(&mut self, bytes: &[u8], gain: usize, out: &mut Vec<u8>) -> Option<usize> {
        let most = bytes.len().checked_sub(gain + 1)?;
        let size = u32::try_from(bytes.len()).ok()?;
        if self.base.checked_add(size).is_none() {
            self.places.fill(0);
            self.base = 1;
        }
        self.base.checked_add(size)?;
        let begin = out.len();
        let done = self.write(bytes, begin + most, out);
        self.base += size;
        if !done {
            out.truncate(begin);
            return None;
        }
        Some(out.len() - begin)
    }

    /// False when `out` would grow beyond `limit`.
    fn write(&mut self, bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
        let (mut at, mut literals) = (0, 0);
        while at + 2 < bytes.len() {
            let place = self.note(bytes, at);
            let Some(from) = place.filter(|&from| {
                at - from <= BACK_MAX && bytes[from..from + 3] == bytes[at..at + 3]
            }) else {
                at += 1;
                continue;
            };
            if !write_literals(&bytes[literals..at], limit, out) || out.len() + 3 > limit {
                return false;
            }
            let longest = COPY_MAX.min(bytes.len() - at);
            let more = bytes[from + 3..]
                .iter()
                .zip(&bytes[at + 3..at + longest])
                .take_while(|(a, b)| a == b);
            let count = 3 + more.count();
            let back = at - from - 1;
            let high = (back >> 8) as u8;
            if count < 9 {
                out.push(((count - 2) as u8) << 5 | high);
            } else {
                out.extend([0xe0 | high, (count - 9) as u8]);
            }
            out.push(back as u8);
            // The copy's last two places are noted, as in LibLZF: what repeats is found again from there.
            at += count;
            for seen in at - 2..at {
                if seen + 2 < bytes.len() {
                    self.note(bytes, seen);
                }
            }
            literals = at;
        }
        write_literals(&bytes[literals..], limit, out)
    }

    /// Notes that the three bytes at `at` are there; returns where they, or others of their hash, were before.
    #[inline]
    fn note(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        let word = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], 0]);
        let hash = word.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS);
        let place = &mut self.places[hash as usize];
        let before = place.checked_sub(self.base);
        *place = self.base + at as u32;
        before.map(|from| from as usize)
    }
}

fn write_literals(literals: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
    if out.len() + literals.len() + literals.len().div_ceil(LITERAL_MAX) > limit {
        return false;
    }
    for run in literals.chunks(LITERAL_MAX) {
        out.push((run.len() - 1) as u8);
        out.extend_from_slice(run);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(compressor: &mut Compressor, bytes: &[u8]) -> Option<usize> {
        let mut out = vec![7; 3];
        let size = compressor.compress(bytes, 4, &mut out);
        assert_eq!(out[..3], [7; 3]);
        assert_eq!(out.len(), 3 + size.unwrap_or(0));
        if let Some(size) = size {
            assert!(size + 4 < bytes.len());
            assert_eq!(decompress(&out[3..], bytes.len()).as_deref(), Some(bytes));
            assert_eq!(decompress(&out[3..], bytes.len() - 1), None);
            assert_eq!(decompress(&out[3..], bytes.len() + 1), None);
        }
        size
    }

    #[test]
    fn as_redis_writes_it() {
        let block = [1, b'a', b'a', 0xe0, 0x57, 0, 1, b'a', b'a'];
        assert_eq!(decompress(&block, 100), Some(vec![b'a'; 100]));
    }

    #[test]
    fn what_repeats_gets_shorter_and_the_rest_is_left_alone() {
        let mut c = Compressor::default();
        assert!(check(&mut c, &[b'x'; 1000]).is_some_and(|n| n < 20));
        let lines = "the same line again\n".repeat(5000);
        assert!(check(&mut c, lines.as_bytes()).is_some_and(|n| n < 2000));
        let mut random = 5_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 56) as u8
        })
        .take(5000)
        .collect();
        assert_eq!(check(&mut c, &noise), None);
        for short in [&b""[..], b"a", b"aaaa", b"aaaaa"] {
            assert_eq!(check(&mut c, short), None);
        }
    }

    /// Places of earlier strings do not come up in later ones, also when the count of places starts again.
    #[test]
    fn strings_do_not_see_each_other() {
        let mut c = Compressor::default();
        for _ in 0..3 {
            assert!(check(&mut c, &b"abcdefgh".repeat(9)).is_some());
            assert_eq!(check(&mut c, b"abcdefghijklmnopqrstuvwxyz"), None);
            c.base = u32::MAX - 90;
        }
    }

    proptest! {
        #[test]
        fn round_trip(parts in prop::collection::vec((prop::collection::vec(0u8..4, 0..40), 1usize..30), 0..40)) {
            let bytes: Vec<u8> = parts.into_iter().flat_map(|(part, times)| part.repeat(times)).collect();
            check(&mut Compressor::default(), &bytes);
        }
        #[test]
        fn any_bytes_are_taken(block in prop::collection::vec(any::<u8>(), 0..200), len in 0usize..20_000) {
            if let Some(out) = decompress(&block, len) {
                prop_assert_eq!(out.len(), len);
            }
        }
    }
}
