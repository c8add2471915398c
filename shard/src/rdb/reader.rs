//! Reading the format's pieces from bytes that nobody vouches for.
//!
//! A length is one byte or more, told apart by the first one's top bits:
//! ```text
//! 00llllll                  up to 63
//! 01llllll llllllll         up to 16383
//! 10000000 + 4 bytes        big-endian
//! 10000001 + 8 bytes        big-endian
//! 11xxxxxx                  no length: a string in a special form
//! ```
//! A string is a length and as many bytes, or one of the special forms: an integer of 1, 2 or 4 bytes, or LZF's
//! (compressed length, length, block).

use super::{Error, Result, lzf};
use std::borrow::Cow;

/// A place in bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A length, or a string's special form.
enum Length {
    Plain(u64),
    Special(u8),
}

/// A string as it lies there.
enum Form<'a> {
    Bytes(&'a [u8]),
    Int(i32),
    Lzf(&'a [u8], usize),
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
    /// How far it has read.
    pub fn position(&self) -> usize {
        self.at
    }
    /// The bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let taken = self.rest().get(..count).ok_or(Error::Short)?;
        self.at += count;
        Ok(taken)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (array, _) = self.rest().split_first_chunk().ok_or(Error::Short)?;
        self.at += N;
        Ok(*array)
    }
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }
    pub fn u32_le(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }
    pub fn u64_le(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }
    /// A time in milliseconds.
    pub fn ms(&mut self) -> Result<i64> {
        self.array().map(i64::from_le_bytes)
    }
    pub fn f64_le(&mut self) -> Result<f64> {
        self.array().map(f64::from_le_bytes)
    }

    fn any_length(&mut self) -> Result<Length> {
        let first = self.u8()?;
        Ok(match (first >> 6, first) {
            (0, _) => Length::Plain(first.into()),
            (1, _) => Length::Plain(u64::from(first & 0x3f) << 8 | u64::from(self.u8()?)),
            (_, 0x80) => Length::Plain(u32::from_be_bytes(self.array()?).into()),
            (_, 0x81) => Length::Plain(u64::from_be_bytes(self.array()?)),
            (3, _) => Length::Special(first & 0x3f),
            _ => return Err(Error::Corrupt("a length in an unknown form")),
        })
    }
    pub fn length(&mut self) -> Result<u64> {
        match self.any_length()? {
            Length::Plain(length) => Ok(length),
            Length::Special(_) => Err(Error::Corrupt("a string where a length is expected")),
        }
    }
    /// A length of bytes that follow.
    fn size(&mut self) -> Result<usize> {
        usize::try_from(self.length()?).map_err(|_| Error::Short)
    }

    fn form(&mut self) -> Result<Form<'a>> {
        Ok(match self.any_length()? {
            Length::Plain(length) => {
                let length = usize::try_from(length).map_err(|_| Error::Short)?;
                Form::Bytes(self.take(length)?)
            }
            Length::Special(0) => Form::Int(i8::from_le_bytes(self.array()?).into()),
            Length::Special(1) => Form::Int(i16::from_le_bytes(self.array()?).into()),
            Length::Special(2) => Form::Int(i32::from_le_bytes(self.array()?)),
            Length::Special(3) => {
                let compressed = self.size()?;
                let length = self.size()?;
                Form::Lzf(self.take(compressed)?, length)
            }
            Length::Special(_) => return Err(Error::Corrupt("a string in an unknown form")),
        })
    }
    pub fn string(&mut self) -> Result<Cow<'a, [u8]>> {
        Ok(match self.form()? {
            Form::Bytes(bytes) => Cow::Borrowed(bytes),
            Form::Int(n) => Cow::Owned(itoa::Buffer::new().format(n).as_bytes().to_vec()),
            Form::Lzf(block, length) => Cow::Owned(
                lzf::decompress(block, length).ok_or(Error::Corrupt("a broken LZF block"))?,
            ),
        })
    }
    /// Steps over a string without unpacking it.
    pub fn skip_string(&mut self) -> Result<()> {
        self.form().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for (bytes, length) in [
            (&[0x3f][..], Ok(63)),
            (&[0x40, 0x40], Ok(64)),
            (&[0x7f, 0xff], Ok(16383)),
            (&[0x80, 0, 0, 0x40, 0], Ok(16384)),
            (&[0x81, 0, 0, 0, 1, 0, 0, 0, 0], Ok(1 << 32)),
            (&[0x80, 0, 0, 0], Err(Error::Short)),
            (&[0x40], Err(Error::Short)),
            (&[], Err(Error::Short)),
            (&[0x82], Err(Error::Corrupt("a length in an unknown form"))),
            (
                &[0xc0, 1],
                Err(Error::Corrupt("a string where a length is expected")),
            ),
        ] {
            assert_eq!(Reader::new(bytes).length(), length, "{bytes:?}");
        }
    }

    #[test]
    fn strings() {
        for (bytes, text) in [
            (&b"\x05hello"[..], &b"hello"[..]),
            (b"\x00", b""),
            (b"\xc0\x0c", b"12"),
            (b"\xc1\x00\x80", b"-32768"),
            (b"\xc2\x60\x79\xfe\xff", b"-100000"),
        ] {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.string().as_deref(), Ok(text));
            assert!(reader.rest().is_empty());
            let mut skipping = Reader::new(bytes);
            assert_eq!(skipping.skip_string(), Ok(()));
            assert!(skipping.rest().is_empty());
            for end in 0..bytes.len() {
                assert_eq!(Reader::new(&bytes[..end]).string(), Err(Error::Short));
            }
        }
        let mut lzf = Reader::new(b"\xc3\t@d\x01aa\xe0W\x00\x01aa");
        assert_eq!(lzf.string().as_deref(), Ok(&[b'a'; 100][..]));
        assert!(lzf.rest().is_empty());
        for corrupt in [
            &b"\xc4"[..],
            b"\xc3\t@e\x01aa\xe0W\x00\x01aa",
            b"\xc3\x01\x81\xff\xff\xff\xff\xff\xff\xff\xff\x00",
        ] {
            assert!(matches!(
                Reader::new(corrupt).string(),
                Err(Error::Corrupt(_))
            ));
        }
        // A length that nothing is behind is not made room for.
        let huge = b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(Reader::new(huge).string(), Err(Error::Short));
    }
}
