//! What modules of other servers wrote: read only to step over it.
//!
//! A module's data is a run of (opcode, value) that an opcode 0 ends. Its type is a number of 64 bits: nine letters of 6 bits each
//! and a version of 10 bits.

use super::reader::Reader;
use super::{Error, Result};

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The name in a module type's number.
pub fn name(id: u64) -> String {
    (0..9)
        .map(|i| LETTERS[(id >> (58 - 6 * i) & 63) as usize] as char)
        .collect()
}

/// Steps over a module's data.
pub fn skip(reader: &mut Reader<'_>) -> Result<()> {
    loop {
        match reader.length()? {
            0 => return Ok(()),
            1 | 2 => drop(reader.length()?),
            3 => drop(reader.take(4)?),
            4 => drop(reader.take(8)?),
            5 => reader.skip_string()?,
            _ => return Err(Error::Corrupt("a module's data with an unknown opcode")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_extents() {
        // The number of ReJSON's type, version 3.
        let id = b"ReJSON-RL".iter().fold(0, |id: u64, letter| {
            id << 6 | LETTERS.iter().position(|l| l == letter).unwrap_or(0) as u64
        }) << 10
            | 3;
        assert_eq!(name(id), "ReJSON-RL");
        let data = b"\x01\x05\x02\x40\x40\x03abcd\x04abcdefgh\x05\x03abc\x00rest";
        let mut reader = Reader::new(data);
        assert_eq!(skip(&mut reader), Ok(()));
        assert_eq!(reader.rest(), b"rest");
        for end in 0..data.len() - 4 {
            assert_eq!(skip(&mut Reader::new(&data[..end])), Err(Error::Short));
        }
        assert!(matches!(
            skip(&mut Reader::new(b"\x06")),
            Err(Error::Corrupt(_))
        ));
    }
}
