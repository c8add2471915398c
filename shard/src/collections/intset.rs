//! Small sets of integers, in Redis's format byte for byte, so that RDB and DUMP are a copy.
//!
//! ```text
//! | width, 4 bytes | count, 4 bytes | count numbers of `width` bytes, ascending, each once |
//! ```
//! All little-endian; `width` is 2, 4 or 8, wide enough for every number there was, and never goes back down.
//!
//! Reading functions trust the bytes to be an intset: bytes from outside go through [`validate`] first. On others they give
//! wrong answers or panic, never worse.

use super::listpack::Splice;

const HEADER: usize = 8;

/// The empty set.
pub const EMPTY: [u8; HEADER] = [2, 0, 0, 0, 0, 0, 0, 0];

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn width(bytes: &[u8]) -> usize {
    word(bytes, 0) as usize
}

/// How many members.
#[inline]
pub fn len(bytes: &[u8]) -> usize {
    word(bytes, 4) as usize
}

/// The width that a number needs.
fn width_of(value: i64) -> usize {
    if i16::try_from(value).is_ok() {
        2
    } else if i32::try_from(value).is_ok() {
        4
    } else {
        8
    }
}

#[inline]
fn number<const N: usize>(bytes: &[u8; N]) -> i64 {
    // The sign is in the last byte: shifted up to the top and back down.
    let mut wide = [0; 8];
    wide[8 - N..].copy_from_slice(bytes);
    i64::from_le_bytes(wide) >> (64 - 8 * N)
}

/// The `i`-th smallest member; `i` is below [`len`].
#[inline]
pub fn get(bytes: &[u8], i: usize) -> i64 {
    fn at<const N: usize>(numbers: &[u8], i: usize) -> i64 {
        number(&numbers.as_chunks::<N>().0[i])
    }
    let numbers = &bytes[HEADER..];
    match width(bytes) {
        2 => at::<2>(numbers, i),
        4 => at::<4>(numbers, i),
        _ => at::<8>(numbers, i),
    }
}

/// The members, ascending.
pub fn iter(bytes: &[u8]) -> impl Iterator<Item = i64> + '_ {
    (0..len(bytes)).map(|i| get(bytes, i))
}

/// The member's index, or the index at which it would be inserted.
#[inline]
pub fn find(bytes: &[u8], value: i64) -> Result<usize, usize> {
    fn search<const N: usize>(numbers: &[u8], value: i64) -> Result<usize, usize> {
        let numbers = numbers.as_chunks::<N>().0;
        // Sets are often filled in ascending order.
        match numbers.last() {
            Some(last) if value <= number(last) => {}
            _ => return Err(numbers.len()),
        }
        numbers.binary_search_by(|n| number(n).cmp(&value))
    }
    let numbers = &bytes[HEADER..];
    match width(bytes) {
        2 => search::<2>(numbers, value),
        4 => search::<4>(numbers, value),
        _ => search::<8>(numbers, value),
    }
}

#[inline]
pub fn contains(bytes: &[u8], value: i64) -> bool {
    find(bytes, value).is_ok()
}

fn set_len(b: &mut impl Splice, len: usize) {
    b.bytes_mut()[4..8].copy_from_slice(&(len as u32).to_le_bytes());
}

/// Adds a member. False when it was there.
pub fn add(b: &mut impl Splice, value: i64) -> bool {
    let (len, width) = (len(b.bytes()), width(b.bytes()));
    let needed = width_of(value);
    if needed > width {
        // A number that did not fit is below or above all that did.
        let numbers = iter(b.bytes());
        let widened = if value < 0 {
            encode(needed, std::iter::once(value).chain(numbers))
        } else {
            encode(needed, numbers.chain(std::iter::once(value)))
        };
        let old = b.bytes().len();
        b.splice(0, old, &widened);
        return true;
    }
    let Err(i) = find(b.bytes(), value) else {
        return false;
    };
    b.splice(HEADER + i * width, 0, &value.to_le_bytes()[..width]);
    set_len(b, len + 1);
    true
}

/// Removes a member. False when it was not there.
pub fn remove(b: &mut impl Splice, value: i64) -> bool {
    match find(b.bytes(), value) {
        Ok(i) => {
            remove_range(b, i, 1);
            true
        }
        Err(_) => false,
    }
}

/// Removes `count` members from the `i`-th smallest on.
pub fn remove_range(b: &mut impl Splice, i: usize, count: usize) {
    let (len, width) = (len(b.bytes()), width(b.bytes()));
    assert!(i + count <= len, "a range outside the set");
    b.splice(HEADER + i * width, count * width, &[]);
    set_len(b, len - count);
}

fn encode(width: usize, numbers: impl Iterator<Item = i64>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + numbers.size_hint().0 * width);
    bytes.extend_from_slice(&(width as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    let mut count: u32 = 0;
    for n in numbers {
        bytes.extend_from_slice(&n.to_le_bytes()[..width]);
        count += 1;
    }
    bytes[4..8].copy_from_slice(&count.to_le_bytes());
    bytes
}

/// The set of these numbers, which are ascending, each once.
pub fn from_sorted(numbers: &[i64]) -> Vec<u8> {
    debug_assert!(numbers.is_sorted_by(|a, b| a < b));
    let ends = [numbers.first(), numbers.last()];
    let width = ends.into_iter().flatten().map(|&n| width_of(n)).max();
    encode(width.unwrap_or(2), numbers.iter().copied())
}

/// The smallest and the largest member.
pub fn ends(bytes: &[u8]) -> Option<(i64, i64)> {
    let last = len(bytes).checked_sub(1)?;
    Some((get(bytes, 0), get(bytes, last)))
}

/// Whether bytes from outside are an intset that the other functions may be used on. As Redis, it lets an empty set pass; a caller
/// for which that is no value checks [`len`].
pub fn validate(bytes: &[u8]) -> bool {
    if bytes.len() < HEADER || !matches!(width(bytes), 2 | 4 | 8) {
        return false;
    }
    let numbers = bytes.len() - HEADER;
    if len(bytes).checked_mul(width(bytes)) != Some(numbers) {
        return false;
    }
    iter(bytes).zip(iter(bytes).skip(1)).all(|(a, b)| a < b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Everything that holds of an intset, checked the plain way.
    fn check_invariants(bytes: &[u8], model: &BTreeSet<i64>) {
        assert!(validate(bytes));
        assert_eq!(len(bytes), model.len());
        assert!(iter(bytes).eq(model.iter().copied()));
        let needed = model.iter().map(|&n| width_of(n)).max().unwrap_or(2);
        assert!(width(bytes) >= needed);
        assert_eq!(
            ends(bytes),
            model.first().map(|&a| (a, model.last().copied().unwrap()))
        );
    }

    #[test]
    fn bytes_as_redis_writes_them() {
        let mut b = EMPTY.to_vec();
        assert!(add(&mut b, 5) && add(&mut b, -1) && !add(&mut b, 5));
        assert_eq!(b, [2, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 5, 0]);
        assert!(add(&mut b, 32768));
        assert_eq!(
            b,
            [
                4, 0, 0, 0, 3, 0, 0, 0, 255, 255, 255, 255, 5, 0, 0, 0, 0, 128, 0, 0
            ]
        );
        assert!(add(&mut b, i64::MIN));
        assert_eq!(b[..16], [8, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128]);
        assert!(remove(&mut b, i64::MIN) && !remove(&mut b, i64::MIN));
        assert_eq!((width(&b), len(&b)), (8, 3));
    }

    /// Random adds and removes of numbers about the borders of the widths, against a BTreeSet.
    #[test]
    fn behaves_as_a_sorted_set() {
        let mut random = 7_u64;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        for round in 0..60 {
            let (mut b, mut model) = (EMPTY.to_vec(), BTreeSet::new());
            for _ in 0..400 {
                let near = [0, 0, i16::MAX as i64, i32::MIN as i64, i64::MAX];
                let base = near[next() as usize % (1 + round % near.len())];
                let n = base.wrapping_add(next() as i64 % 60 - 30);
                match next() % 3 {
                    0 => assert_eq!(remove(&mut b, n), model.remove(&n)),
                    1 => assert_eq!(contains(&b, n), model.contains(&n)),
                    _ => assert_eq!(add(&mut b, n), model.insert(n)),
                }
            }
            check_invariants(&b, &model);
            let sorted: Vec<i64> = model.iter().copied().collect();
            check_invariants(&from_sorted(&sorted), &model);
            if len(&b) > 4 {
                remove_range(&mut b, 1, 3);
                for n in &sorted[1..4] {
                    model.remove(n);
                }
                check_invariants(&b, &model);
            }
        }
    }

    #[test]
    fn bytes_from_outside() {
        assert!(validate(&EMPTY));
        assert!(validate(&from_sorted(&[-70000, 1, 1 << 40])));
        let good = from_sorted(&[1, 2, 3]);
        for bad in [
            &good[..7],
            &good[..good.len() - 1],
            &[&good[..], &[0]].concat(),
            // A width that is none, numbers out of order, one twice, a count that overflows.
            &[3, 0, 0, 0, 0, 0, 0, 0],
            &[0; 8],
            &[2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 1, 0],
            &[2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 1, 0],
            &[8, 0, 0, 0, 255, 255, 255, 255],
        ] {
            assert!(!validate(bad), "{bad:?}");
        }
    }
}
