//! Any bytes as a `str`, and back.
//!
//! Texts of errors are strings here, but name what clients sent, which may be any bytes, and Redis sends those back
//! as they came. So a byte that is no UTF-8 stands in the text as a character of its own at the end of the last
//! private plane (U+10FF80 to U+10FFFF), and whoever writes the text to a client writes the byte. Where these characters
//! come from a client themselves, each of their four bytes is kept in the same way, so nothing is mistaken for another.

use std::borrow::Cow;

/// The character for byte 0 would be this; only bytes from 0x80 on need one.
const FIRST: u32 = 0x10_FF00;

/// Whether a character stands for a byte.
fn byte_of(c: char) -> Option<u8> {
    let byte = u32::from(c).checked_sub(FIRST)?;
    u8::try_from(byte).ok().filter(|byte| *byte >= 0x80)
}

/// Bytes as text, from which [`extend`] makes the same bytes.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(|c| byte_of(c).is_some())
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() * 2);
    let keep = |out: &mut String, bytes: &[u8]| {
        let chars = bytes.iter().map(|&byte| FIRST + u32::from(byte));
        out.extend(chars.filter_map(char::from_u32));
    };
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let mut buffer = [0; 4];
            let encoded = c.encode_utf8(&mut buffer);
            match byte_of(c) {
                Some(_) => keep(&mut out, encoded.as_bytes()),
                None => out.push(c),
            }
        }
        keep(&mut out, chunk.invalid());
    }
    Cow::Owned(out)
}

/// The bytes of a text that [`text`] made, or of any other.
pub fn extend(out: &mut Vec<u8>, text: &str) {
    // All these characters begin with this byte in UTF-8, and hardly a text has it.
    if memchr::memchr(0xF4, text.as_bytes()).is_none() {
        return out.extend_from_slice(text.as_bytes());
    }
    for c in text.chars() {
        match byte_of(c) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn back(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        extend(&mut out, &text(bytes));
        out
    }

    #[test]
    fn ordinary_text_is_itself() {
        assert!(matches!(text("größe".as_bytes()), Cow::Borrowed("größe")));
        assert_eq!(text(b"a\xffb"), "a\u{10FFFF}b");
        let private = "\u{10FF80}\u{10FFFF}\u{10FF7F}".as_bytes();
        assert_eq!(back(private), private);
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes in any::<Vec<u8>>()) {
            prop_assert_eq!(back(&bytes), bytes);
        }
    }
}
