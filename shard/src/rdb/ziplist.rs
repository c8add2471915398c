//! Ziplists: the packed collections of Redis before 7.0. For reading only; what comes out is a listpack.
//!
//! ```text
//! | total bytes, 4 | offset of the last entry, 4 | entries, 2 | entry … | 0xff |
//! entry: size of the one before (1 byte, or 0xfe and 4 bytes) │ kind and length │ payload
//!   00llllll                  string of up to 63 bytes
//!   01llllll llllllll         string of up to 16383 bytes
//!   10------ + 4 bytes        string, length big-endian
//!   11000000 11010000 11100000   integer of 16, 32, 64 bits
//!   11110000 11111110            integer of 24, 8 bits
//!   11110001 … 11111101          0 … 12
//! ```

use super::{Error, Result};
use crate::collections::listpack::Item;

const HEADER: usize = 10;
const END: u8 = 0xff;
/// The count where there are more entries than it can hold.
const UNKNOWN: u16 = u16::MAX;

/// The entries of a ziplist, all of it checked.
pub fn items(zl: &[u8]) -> Result<Vec<Item<'_>>> {
    parse(zl).ok_or(Error::Corrupt("a broken ziplist"))
}

fn parse(zl: &[u8]) -> Option<Vec<Item<'_>>> {
    let word = |at: usize| Some(u32::from_le_bytes(zl.get(at..at + 4)?.try_into().ok()?) as usize);
    let (total, tail) = (word(0)?, word(4)?);
    let count = u16::from_le_bytes(zl.get(8..HEADER)?.try_into().ok()?);
    if total != zl.len() || *zl.get(HEADER..)?.last()? != END {
        return None;
    }
    let entries = &zl[..zl.len() - 1];
    let mut items = Vec::new();
    let (mut at, mut before, mut last) = (HEADER, 0, HEADER);
    while at < entries.len() {
        let (item, size_before, next) = entry(entries, at)?;
        if size_before != before {
            return None;
        }
        items.push(item);
        (before, last, at) = (next - at, at, next);
    }
    let counted = count == UNKNOWN || count as usize == items.len();
    (counted && tail == last).then_some(items)
}

/// The entry at `at`: its value, what it says the size of the one before is, and where the next begins.
fn entry(bytes: &[u8], at: usize) -> Option<(Item<'_>, usize, usize)> {
    let mut rest = bytes.get(at..)?;
    let mut take = |count: usize| {
        let (taken, after) = rest.split_at_checked(count)?;
        rest = after;
        Some(taken)
    };
    let before = match take(1)?[0] {
        0xff => return None,
        0xfe => u32::from_le_bytes(take(4)?.try_into().ok()?) as usize,
        n => n as usize,
    };
    let kind = take(1)?[0];
    let int = |le: &[u8]| {
        let mut wide = [0; 8];
        wide[8 - le.len()..].copy_from_slice(le);
        Item::Int(i64::from_le_bytes(wide) >> (64 - 8 * le.len()))
    };
    let item = match kind {
        0..=0x3f => Item::Bytes(take(kind as usize)?),
        0x40..=0x7f => {
            let low = take(1)?[0];
            Item::Bytes(take(((kind & 0x3f) as usize) << 8 | low as usize)?)
        }
        0x80..=0xbf => {
            let len = u32::from_be_bytes(take(4)?.try_into().ok()?);
            Item::Bytes(take(len as usize)?)
        }
        0xc0 => int(take(2)?),
        0xd0 => int(take(4)?),
        0xe0 => int(take(8)?),
        0xf0 => int(take(3)?),
        0xfe => int(take(1)?),
        0xf1..=0xfd => Item::Int(i64::from(kind & 0x0f) - 1),
        _ => return None,
    };
    Some((item, before, bytes.len() - rest.len()))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A ziplist as Redis would have written it.
    pub fn build(items: &[Item<'_>]) -> Vec<u8> {
        let mut zl = vec![0; HEADER];
        let (mut before, mut last) = (0, HEADER);
        for item in items {
            last = zl.len();
            if before < 254 {
                zl.push(before as u8);
            } else {
                zl.push(0xfe);
                zl.extend((before as u32).to_le_bytes());
            }
            match *item {
                Item::Int(n) => {
                    let le = n.to_le_bytes();
                    match n {
                        0..=12 => zl.push(0xf1 + n as u8),
                        -0x80..=0x7f => zl.extend([0xfe, le[0]]),
                        -0x8000..=0x7fff => {
                            zl.push(0xc0);
                            zl.extend(&le[..2]);
                        }
                        -0x80_0000..=0x7f_ffff => {
                            zl.push(0xf0);
                            zl.extend(&le[..3]);
                        }
                        -0x8000_0000..=0x7fff_ffff => {
                            zl.push(0xd0);
                            zl.extend(&le[..4]);
                        }
                        _ => {
                            zl.push(0xe0);
                            zl.extend(le);
                        }
                    }
                }
                Item::Bytes(b) => {
                    match b.len() {
                        n @ 0..64 => zl.push(n as u8),
                        n @ 64..16384 => zl.extend([0x40 | (n >> 8) as u8, n as u8]),
                        n => {
                            zl.push(0x80);
                            zl.extend((n as u32).to_be_bytes());
                        }
                    }
                    zl.extend(b);
                }
            }
            before = zl.len() - last;
        }
        zl.push(END);
        let total = zl.len() as u32;
        zl[..4].copy_from_slice(&total.to_le_bytes());
        zl[4..8].copy_from_slice(&(last as u32).to_le_bytes());
        zl[8..10].copy_from_slice(&(items.len() as u16).to_le_bytes());
        zl
    }

    #[test]
    fn every_kind_of_entry() {
        let texts = [
            vec![b'a'; 63],
            vec![b'b'; 64],
            vec![b'c'; 300],
            vec![b'd'; 16384],
        ];
        let mut items: Vec<Item<'_>> = texts.iter().map(Item::from).collect();
        for n in [
            0,
            12,
            13,
            -1,
            127,
            -128,
            128,
            32767,
            -32768,
            32768,
            8388607,
            -8388608,
            8388608,
            i64::from(i32::MIN),
            1 << 31,
            i64::MIN,
            i64::MAX,
        ] {
            items.push(Item::Int(n));
        }
        assert_eq!(super::items(&build(&items)), Ok(items));
        assert_eq!(super::items(&build(&[])), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(mut bytes in prop::collection::vec(any::<u8>(), 0..80), whole in any::<bool>()) {
            if whole && bytes.len() > HEADER {
                let total = bytes.len() as u32;
                bytes[..4].copy_from_slice(&total.to_le_bytes());
                bytes[total as usize - 1] = END;
            }
            let _ = super::items(&bytes);
        }
        #[test]
        fn a_changed_byte_never_panics(at in 0usize..60, to in any::<u8>()) {
            let text = [b'x'; 20];
            let mut zl = build(&[Item::Bytes(&text), Item::Int(5), Item::Int(70_000), Item::Bytes(b"")]);
            let at = at % zl.len();
            zl[at] = to;
            let _ = super::items(&zl);
        }
    }
}
