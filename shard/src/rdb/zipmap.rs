//! Zipmaps: the small hashes of Redis before 2.6. For reading only.
//!
//! ```text
//! | pairs, 1 byte | (length │ key │ length │ unused bytes, 1 │ value │ unused) … | 0xff |
//! ```
//! A length is one byte, or 0xfe and 4 bytes. The count is 254 where it is not known.

use super::{Error, Result};

const END: u8 = 0xff;
const LONG: u8 = 0xfe;

/// Keys and values in turn, all of it checked.
pub fn texts(zm: &[u8]) -> Result<Vec<&[u8]>> {
    parse(zm).ok_or(Error::Corrupt("a broken zipmap"))
}

fn parse(zm: &[u8]) -> Option<Vec<&[u8]>> {
    let (&count, mut rest) = zm.split_first()?;
    let mut texts = Vec::new();
    while *rest.first()? != END {
        for is_value in [false, true] {
            let length = match take(&mut rest, 1)?[0] {
                END => return None,
                LONG => u32::from_le_bytes(take(&mut rest, 4)?.try_into().ok()?) as usize,
                n => n as usize,
            };
            let unused = if is_value { take(&mut rest, 1)?[0] } else { 0 };
            texts.push(take(&mut rest, length)?);
            take(&mut rest, unused as usize)?;
        }
    }
    let counted = count >= LONG || count as usize == texts.len() / 2;
    (rest.len() == 1 && counted).then_some(texts)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs() {
        assert_eq!(texts(b"\x00\xff"), Ok(vec![]));
        assert_eq!(
            texts(b"\x02\x03foo\x03\x00bar\x05hello\x05\x02world..\xff"),
            Ok(vec![&b"foo"[..], b"bar", b"hello", b"world"])
        );
        let long = [
            &b"\x01\x01k\xfe\x2c\x01\x00\x00\x00"[..],
            &[b'v'; 300],
            b"\xff",
        ]
        .concat();
        assert_eq!(texts(&long).map(|t| t[1].len()), Ok(300));
        for broken in [
            &b""[..],
            b"\x00",
            b"\x01\xff",
            b"\x01\x03foo\xff",
            b"\x01\x03foo\x03\x00bar",
            b"\x01\x03foo\x03\x01bar\xff",
            b"\x00\xff\xff",
            b"\x01\xfe\xff\xff\xff\xff",
        ] {
            assert!(texts(broken).is_err(), "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(prop_oneof![Just(END), 0u8..6, any::<u8>()], 0..40)) {
            let _ = texts(&bytes);
        }
    }
}
