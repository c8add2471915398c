//! Reading JSON. Positions in errors count from 1 and are lua-cjson's: of the token, or of the byte in a string that is
//! wrong.

use super::{DEPTH_MAX, settings};
use crate::state::{Lua, Raise, Returns};

pub(super) fn body(lua: Lua) -> Returns {
    if lua.top() != 1 {
        return Err(Raise::Argument(1, "expected 1 argument".to_string()));
    }
    let text = lua.check_bytes(1);
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err(Raise::Text(
            "JSON parser does not support UTF-16 or UTF-32".to_string(),
        ));
    }
    let mut decoder = Decoder {
        lua,
        text,
        at: 0,
        token_at: 0,
        depth: 0,
        max_depth: settings(lua).decode_max_depth.min(DEPTH_MAX),
        invalid_numbers: settings(lua).decode_invalid,
        string: Vec::new(),
    };
    let first = decoder.next();
    decoder.value(first)?;
    match decoder.next() {
        Token::End => Ok(1),
        other => Err(decoder.expected("the end", other)),
    }
}

#[derive(Clone, Copy)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    /// In `Decoder::string`.
    String,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

impl Token {
    fn name(self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::String => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Error(what) => what,
        }
    }
}

struct Decoder<'a> {
    lua: Lua,
    text: &'a [u8],
    at: usize,
    token_at: usize,
    depth: i32,
    max_depth: i32,
    invalid_numbers: bool,
    string: Vec<u8>,
}

impl Decoder<'_> {
    /// The byte at an offset from here; zero behind the end, as in the C string that this once was.
    #[inline]
    fn peek(&self, offset: usize) -> u8 {
        self.text.get(self.at + offset).copied().unwrap_or(0)
    }

    #[cold]
    fn expected(&self, what: &str, found: Token) -> Raise {
        Raise::Text(format!(
            "Expected {what} but found {} at character {}",
            found.name(),
            self.token_at + 1
        ))
    }

    fn value(&mut self, token: Token) -> Result<(), Raise> {
        match token {
            Token::String => self.lua.push_bytes(&self.string),
            Token::Number(n) => self.lua.push_number(n),
            Token::Boolean(b) => self.lua.push_boolean(b),
            Token::ObjectBegin => self.object()?,
            Token::ArrayBegin => self.array()?,
            Token::Null => self.lua.push_null(),
            other => return Err(self.expected("value", other)),
        }
        Ok(())
    }

    fn descend(&mut self) -> Result<(), Raise> {
        self.depth += 1;
        if self.depth > self.max_depth || !self.lua.room(4) {
            return Err(Raise::Text(format!(
                "Found too many nested data structures ({}) at character {}",
                self.depth, self.at
            )));
        }
        self.lua.new_table(0, 0);
        Ok(())
    }

    fn object(&mut self) -> Result<(), Raise> {
        self.descend()?;
        let mut token = self.next();
        if matches!(token, Token::ObjectEnd) {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            let Token::String = token else {
                return Err(self.expected("object key string", token));
            };
            self.lua.push_bytes(&self.string);
            match self.next() {
                Token::Colon => {}
                other => return Err(self.expected("colon", other)),
            }
            let value = self.next();
            self.value(value)?;
            self.lua.raw_set(-3);
            match self.next() {
                Token::ObjectEnd => break,
                Token::Comma => token = self.next(),
                other => return Err(self.expected("comma or object end", other)),
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self) -> Result<(), Raise> {
        self.descend()?;
        let mut token = self.next();
        if matches!(token, Token::ArrayEnd) {
            self.depth -= 1;
            return Ok(());
        }
        for i in 1.. {
            self.value(token)?;
            self.lua.raw_set_index(-2, i);
            match self.next() {
                Token::ArrayEnd => break,
                Token::Comma => token = self.next(),
                other => return Err(self.expected("comma or array end", other)),
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn next(&mut self) -> Token {
        while matches!(self.peek(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        self.token_at = self.at;
        let single = match self.peek(0) {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b':' => Token::Colon,
            b',' => Token::Comma,
            0 => return Token::End,
            b'"' => return self.quoted(),
            b'-' | b'0'..=b'9' => {
                if !self.invalid_numbers && self.is_invalid_number() {
                    return self.error("invalid number");
                }
                return self.number();
            }
            b't' if self.text[self.at..].starts_with(b"true") => {
                self.at += 4;
                return Token::Boolean(true);
            }
            b'f' if self.text[self.at..].starts_with(b"false") => {
                self.at += 5;
                return Token::Boolean(false);
            }
            b'n' if self.text[self.at..].starts_with(b"null") => {
                self.at += 4;
                return Token::Null;
            }
            b'+' | b'f' | b'i' | b'I' | b'n' | b'N' | b't'
                if self.invalid_numbers && self.is_invalid_number() =>
            {
                return self.number();
            }
            _ => return self.error("invalid token"),
        };
        self.at += 1;
        single
    }

    fn error(&mut self, what: &'static str) -> Token {
        self.token_at = self.at;
        Token::Error(what)
    }

    /// A number that C reads and JSON does not know.
    fn is_invalid_number(&self) -> bool {
        if self.peek(0) == b'+' {
            return true;
        }
        let sign = usize::from(self.peek(0) == b'-');
        match self.peek(sign) {
            b'0' => matches!(self.peek(sign + 1), b'x' | b'X' | b'0'..=b'9'),
            0..=b'9' => false,
            _ => {
                let word = self.text.get(self.at + sign..self.at + sign + 3);
                word.is_some_and(|w| {
                    w.eq_ignore_ascii_case(b"inf") || w.eq_ignore_ascii_case(b"nan")
                })
            }
        }
    }

    fn number(&mut self) -> Token {
        // Plain integers, the common case, up to what a double holds exactly.
        let digits = self.text[self.at..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
        if (1..=15).contains(&digits)
            && !matches!(self.peek(digits), b'.' | b'e' | b'E' | b'x' | b'X')
        {
            let text = &self.text[self.at..self.at + digits];
            let n = text.iter().fold(0u64, |n, b| n * 10 + u64::from(b - b'0'));
            self.at += digits;
            return Token::Number(n as f64);
        }
        let start = self.text[self.at..].as_ptr().cast();
        let mut end = std::ptr::null_mut();
        // SAFETY: Lua ends its strings with a zero byte, where strtod stops at the latest.
        let n = unsafe { libc::strtod(start, &mut end) };
        let len = end as usize - start as usize;
        if len == 0 {
            return self.error("invalid number");
        }
        self.at += len;
        Token::Number(n)
    }

    fn quoted(&mut self) -> Token {
        self.at += 1;
        self.string.clear();
        loop {
            // Runs of plain bytes are copied at once.
            let rest = &self.text[self.at..];
            let run = rest
                .iter()
                .position(|b| matches!(b, b'"' | b'\\' | 0))
                .unwrap_or(rest.len());
            self.string.extend_from_slice(&rest[..run]);
            self.at += run;
            match self.peek(0) {
                b'"' => break,
                b'\\' => {}
                _ => return self.error("unexpected end of string"),
            }
            let byte = match self.peek(1) {
                b @ (b'"' | b'\\' | b'/') => b,
                b'b' => 0x08,
                b't' => b'\t',
                b'n' => b'\n',
                b'f' => 0x0c,
                b'r' => b'\r',
                b'u' => {
                    let Some((c, len)) = self.unicode() else {
                        return self.error("invalid unicode escape code");
                    };
                    self.push_utf8(c);
                    self.at += len;
                    continue;
                }
                _ => return self.error("invalid escape code"),
            };
            self.string.push(byte);
            self.at += 2;
        }
        self.at += 1;
        Token::String
    }

    /// The code point of `\uXXXX`, or of two that make a pair, and the length of the escape.
    fn unicode(&self) -> Option<(u32, usize)> {
        let high = self.hex4(2)?;
        if high & 0xf800 != 0xd800 {
            return Some((high, 6));
        }
        if high & 0x400 != 0 || self.peek(6) != b'\\' || self.peek(7) != b'u' {
            return None;
        }
        let low = self.hex4(8)?;
        if low & 0xfc00 != 0xdc00 {
            return None;
        }
        Some((((high & 0x3ff) << 10 | low & 0x3ff) + 0x10000, 12))
    }

    fn hex4(&self, offset: usize) -> Option<u32> {
        (0..4).try_fold(0, |n, i| {
            let digit = char::from(self.peek(offset + i)).to_digit(16)?;
            Some(n << 4 | digit)
        })
    }

    fn push_utf8(&mut self, c: u32) {
        // Surrogates were taken care of, and the largest pair is the largest code point.
        let c = char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER);
        self.string
            .extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}
