//! Writing JSON.

use super::{DEPTH_MAX, Invalid, Settings, settings};
use crate::ffi;
use crate::shared::Shared;
use crate::state::{Lua, Raise, Returns};

pub(super) fn body(lua: Lua) -> Returns {
    if lua.top() != 1 {
        return Err(Raise::Argument(1, "expected 1 argument".to_string()));
    }
    let mut encoder = Encoder {
        lua,
        // A copy, with the buffer: nothing shared is borrowed while tables are walked.
        settings: Settings {
            buffer: std::mem::take(&mut settings(lua).buffer),
            ..*settings(lua)
        },
        depth: 0,
        max: Shared::room(lua),
    };
    encoder.settings.buffer.clear();
    encoder.value()?;
    lua.push_bytes(&encoder.settings.buffer);
    // One large document must not be kept for ever.
    if encoder.settings.buffer.capacity() <= 1 << 16 {
        settings(lua).buffer = encoder.settings.buffer;
    }
    Ok(1)
}

struct Encoder {
    lua: Lua,
    settings: Settings,
    depth: i32,
    /// How long the text may become: few tables that hold each other often can stand for any number of bytes.
    max: usize,
}

impl Encoder {
    /// The value on top, which stays.
    fn value(&mut self) -> Result<(), Raise> {
        let lua = self.lua;
        if self.settings.buffer.len() > self.max {
            return Err(Raise::Memory);
        }
        match lua.kind(-1) {
            ffi::TSTRING => self.string(lua.bytes(-1).unwrap_or_default()),
            ffi::TNUMBER => self.number(lua.number(-1))?,
            ffi::TBOOLEAN if lua.boolean(-1) => self.write(b"true"),
            ffi::TBOOLEAN => self.write(b"false"),
            ffi::TTABLE => self.table()?,
            ffi::TNIL => self.write(b"null"),
            ffi::TLIGHTUSERDATA if lua.user_data(-1).is_null() => self.write(b"null"),
            kind => return Err(self.refuse(kind, "type not supported")),
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) {
        self.settings.buffer.extend_from_slice(bytes);
    }

    #[cold]
    fn refuse(&self, kind: i32, reason: &str) -> Raise {
        Raise::Text(format!(
            "Cannot serialise {}: {reason}",
            self.lua.kind_name(kind)
        ))
    }

    fn table(&mut self) -> Result<(), Raise> {
        self.depth += 1;
        if self.depth > self.settings.encode_max_depth.min(DEPTH_MAX) || !self.lua.room(6) {
            return Err(Raise::Text(format!(
                "Cannot serialise, excessive nesting ({})",
                self.depth
            )));
        }
        match self.array_len()? {
            Some(len) => self.array(len)?,
            None => self.object()?,
        }
        self.depth -= 1;
        Ok(())
    }

    /// The length of a table whose keys are all positive whole numbers; none for what is written as an object.
    fn array_len(&self) -> Result<Option<i32>, Raise> {
        let lua = self.lua;
        let (mut max, mut items) = (0i32, 0i32);
        lua.push_nil();
        while lua.next(-2) {
            lua.pop(1);
            let key = match lua.kind(-1) {
                ffi::TNUMBER => lua.number(-1),
                _ => 0.0,
            };
            if key < 1.0 || key.floor() != key {
                lua.pop(1);
                return Ok(None);
            }
            if key > f64::from(max) {
                // As C converts to int: what does not fit becomes the smallest, and then no array.
                max = if key <= f64::from(i32::MAX) {
                    key as i32
                } else {
                    i32::MIN
                };
            }
            items = items.wrapping_add(1);
        }
        let (ratio, safe) = (self.settings.sparse_ratio, self.settings.sparse_safe);
        if ratio > 0 && max > items.wrapping_mul(ratio) && max > safe {
            if !self.settings.sparse_convert {
                return Err(self.refuse(ffi::TTABLE, "excessively sparse array"));
            }
            return Ok(None);
        }
        Ok((max > 0).then_some(max))
    }

    fn array(&mut self, len: i32) -> Result<(), Raise> {
        self.write(b"[");
        for i in 1..=len {
            if i > 1 {
                self.write(b",");
            }
            self.lua.raw_get_index(-1, i);
            self.value()?;
            self.lua.pop(1);
        }
        self.write(b"]");
        Ok(())
    }

    fn object(&mut self) -> Result<(), Raise> {
        let lua = self.lua;
        self.write(b"{");
        let mut first = true;
        lua.push_nil();
        while lua.next(-2) {
            if !first {
                self.write(b",");
            }
            first = false;
            match lua.kind(-2) {
                ffi::TNUMBER => {
                    self.write(b"\"");
                    self.number(lua.number(-2))?;
                    self.write(b"\":");
                }
                ffi::TSTRING => {
                    self.string(lua.bytes(-2).unwrap_or_default());
                    self.write(b":");
                }
                kind => return Err(self.refuse(kind, "table key must be a number or string")),
            }
            self.value()?;
            lua.pop(1);
        }
        self.write(b"}");
        Ok(())
    }

    fn number(&mut self, n: f64) -> Result<(), Raise> {
        if !n.is_finite() {
            match self.settings.encode_invalid {
                Invalid::Off => {
                    return Err(self.refuse(ffi::TNUMBER, "must not be NaN or Inf"));
                }
                Invalid::Null => self.write(b"null"),
                Invalid::On if n.is_nan() => self.write(b"nan"),
                Invalid::On if n > 0.0 => self.write(b"inf"),
                Invalid::On => self.write(b"-inf"),
            }
            return Ok(());
        }
        // Whole numbers within the precision need no formatting.
        if self.settings.precision == 14
            && n.abs() < 1e14
            && n.trunc() == n
            && (n != 0.0 || n.is_sign_positive())
        {
            let mut text = itoa::Buffer::new();
            self.write(text.format(n as i64).as_bytes());
            return Ok(());
        }
        let mut text = [0u8; 32];
        // SAFETY: at most 14 digits, a sign, a point and an exponent of five: within 32 bytes, terminated.
        let len = unsafe {
            libc::snprintf(
                text.as_mut_ptr().cast(),
                text.len(),
                c"%.*g".as_ptr(),
                self.settings.precision,
                n,
            )
        };
        self.write(&text[..(len.max(0) as usize).min(text.len())]);
        Ok(())
    }

    fn string(&mut self, text: &[u8]) {
        let out = &mut self.settings.buffer;
        out.reserve(text.len() + 2);
        out.push(b'"');
        // Runs of plain bytes are copied at once.
        let mut from = 0;
        for (i, &b) in text.iter().enumerate() {
            let short = match b {
                b'"' | b'\\' | b'/' => b,
                0x08 => b'b',
                b'\t' => b't',
                b'\n' => b'n',
                0x0c => b'f',
                b'\r' => b'r',
                0..0x20 | 0x7f => 0,
                _ => continue,
            };
            out.extend_from_slice(&text[from..i]);
            from = i + 1;
            out.push(b'\\');
            if short != 0 {
                out.push(short);
            } else {
                let hex = |n: u8| b"0123456789abcdef"[usize::from(n)];
                out.extend_from_slice(&[b'u', b'0', b'0', hex(b >> 4), hex(b & 15)]);
            }
        }
        out.extend_from_slice(&text[from..]);
        out.push(b'"');
    }
}
