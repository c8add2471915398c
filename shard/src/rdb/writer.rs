//! Writing the format's pieces. Their form: [`super::reader`].

use super::lzf::Compressor;
use crate::collections::listpack::Item;

/// Shorter strings are not compressed; a compressed string has to be shorter by more than this.
const COMPRESS_MIN: usize = 20;
const COMPRESS_GAIN: usize = 4;

/// Gathers bytes.
#[derive(Default)]
pub struct Writer {
    out: Vec<u8>,
    compressor: Option<Compressor>,
    work: usize,
}

impl Writer {
    /// `compress`: `rdbcompression`.
    pub fn new(compress: bool) -> Self {
        Self {
            out: Vec::new(),
            compressor: compress.then(Compressor::default),
            work: 0,
        }
    }
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
    /// Takes what has gathered, and has room for as much again.
    pub fn take(&mut self) -> Vec<u8> {
        let next = Vec::with_capacity(self.out.capacity());
        std::mem::replace(&mut self.out, next)
    }
    /// Bytes that were written, or that it was tried to compress: about what all of it cost.
    pub fn work(&self) -> usize {
        self.work
    }
    pub fn len(&self) -> usize {
        self.out.len()
    }
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.work += bytes.len();
        self.out.extend_from_slice(bytes);
    }
    pub fn u8(&mut self, byte: u8) {
        self.out.push(byte);
    }
    /// A time in milliseconds.
    pub fn ms(&mut self, ms: i64) {
        self.raw(&ms.to_le_bytes());
    }
    pub fn f64(&mut self, n: f64) {
        self.raw(&n.to_le_bytes());
    }
    pub fn length(&mut self, length: u64) {
        match length {
            0..64 => self.u8(length as u8),
            64..16384 => self.raw(&[0x40 | (length >> 8) as u8, length as u8]),
            16384..=0xffff_ffff => {
                self.u8(0x80);
                self.raw(&(length as u32).to_be_bytes());
            }
            _ => {
                self.u8(0x81);
                self.raw(&length.to_be_bytes());
            }
        }
    }
    /// A count of elements or bytes.
    pub fn count(&mut self, count: usize) {
        self.length(count as u64);
    }

    /// A string that may be short for an integer, or be compressed.
    pub fn string(&mut self, bytes: &[u8]) {
        if let Some(n) = short_int(bytes) {
            return self.int(n);
        }
        self.block(bytes);
    }
    /// A string that is no integer, or may not be taken for one: a packed collection.
    pub fn block(&mut self, bytes: &[u8]) {
        if bytes.len() > COMPRESS_MIN
            && let Some(compressor) = &mut self.compressor
        {
            self.work += bytes.len();
            let mut packed = Vec::new();
            if compressor
                .compress(bytes, COMPRESS_GAIN, &mut packed)
                .is_some()
            {
                self.u8(0xc3);
                self.count(packed.len());
                self.count(bytes.len());
                return self.raw(&packed);
            }
        }
        self.count(bytes.len());
        self.raw(bytes);
    }
    fn int(&mut self, n: i32) {
        let le = n.to_le_bytes();
        let (form, size) = match n {
            -0x80..=0x7f => (0xc0, 1),
            -0x8000..=0x7fff => (0xc1, 2),
            _ => (0xc2, 4),
        };
        self.u8(form);
        self.raw(&le[..size]);
    }
    pub fn item(&mut self, item: Item<'_>) {
        match item {
            Item::Int(n) => match i32::try_from(n) {
                Ok(n) => self.int(n),
                Err(_) => item.with_text(|text| self.block(text)),
            },
            Item::Bytes(bytes) => self.string(bytes),
        }
    }
}

/// The number, if the bytes are its one text form and it has 32 bits.
fn short_int(bytes: &[u8]) -> Option<i32> {
    match bytes {
        [b'0'..=b'9' | b'-', ..] if bytes.len() <= 11 => {
            i32::try_from(ringwood_protocol::number::parse_i64(bytes)?).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader::Reader;
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let texts: Vec<Vec<u8>> = [
            "",
            "0",
            "-1",
            "127",
            "128",
            "-128",
            "-129",
            "32767",
            "32768",
            "-32769",
            "2147483647",
            "2147483648",
            "-2147483648",
            "-2147483649",
            "007",
            "-0",
            "9223372036854775807",
        ]
        .iter()
        .map(|t| t.as_bytes().to_vec())
        .chain([
            vec![b'x'; 63],
            vec![0xff; 64],
            b"ab".repeat(9000),
            (0..=255).collect(),
        ])
        .collect();
        for compress in [false, true] {
            let mut writer = Writer::new(compress);
            for text in &texts {
                writer.string(text);
                writer.block(text);
                writer.item(Item::Bytes(text));
            }
            for n in [i64::MIN, -70000, 0, 70000, i64::MAX] {
                writer.item(Item::Int(n));
                writer.length(n as u64);
            }
            let bytes = writer.finish();
            let mut reader = Reader::new(&bytes);
            for text in &texts {
                for _ in 0..3 {
                    assert_eq!(reader.string().as_deref(), Ok(&text[..]));
                }
            }
            for n in [i64::MIN, -70000, 0, 70000, i64::MAX] {
                assert_eq!(reader.string().as_deref(), Ok(n.to_string().as_bytes()));
                assert_eq!(reader.length(), Ok(n as u64));
            }
            assert!(reader.rest().is_empty());
        }
    }
}
