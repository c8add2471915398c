//! The `struct` library: values packed by a format, as Roberto Ierusalimschy's library does with Redis's checks.
//!
//! `>` `<` set the byte order, `!n` the alignment; `bB hH lL T iIn` are integers of 1, 2, 8, 8 and n bytes, `f d` floats,
//! `x` a zero byte, `s` a string with a zero at its end, `cn` exactly n bytes, `c0` as many as the string has (or, when
//! reading, as the number before says).

use crate::ffi;
use crate::state::{Lua, Raise, Returns, lua_function};
use std::ffi::CStr;

const MAX_INTEGER: usize = 32;
const MAX_ALIGN: i32 = 8;

lua_function!(pack = pack_body);
lua_function!(unpack = unpack_body);
lua_function!(size = size_body);

/// Pushes the library's table.
pub(crate) fn push_module(lua: Lua) {
    lua.new_table(0, 3);
    let functions: [(&CStr, ffi::Function); 3] =
        [(c"pack", pack), (c"unpack", unpack), (c"size", size)];
    for (name, function) in functions {
        lua.push_function(function);
        lua.set_field(-2, name);
    }
}

/// Walks a format.
struct Format<'a> {
    rest: &'a [u8],
    big: bool,
    align: usize,
}

impl<'a> Format<'a> {
    fn new(format: &'a [u8]) -> Self {
        Self {
            rest: crate::error::until_nul(format),
            big: cfg!(target_endian = "big"),
            align: 1,
        }
    }

    /// The next option and its size.
    fn next(&mut self) -> Result<Option<(u8, usize)>, Raise> {
        let Some((&option, rest)) = self.rest.split_first() else {
            return Ok(None);
        };
        self.rest = rest;
        let size = match option {
            b'b' | b'B' | b'x' => 1,
            b'h' | b'H' => 2,
            b'l' | b'L' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.number(1)? as usize,
            b'i' | b'I' => {
                let size = self.number(4)?;
                if size as usize > MAX_INTEGER {
                    return Err(Raise::Text(format!(
                        "integral size {size} is larger than limit of {MAX_INTEGER}"
                    )));
                }
                size as usize
            }
            _ => 0,
        };
        Ok(Some((option, size)))
    }

    fn number(&mut self, default: i32) -> Result<i32, Raise> {
        if !self.rest.first().is_some_and(u8::is_ascii_digit) {
            return Ok(default);
        }
        let mut n: i32 = 0;
        while let Some((digit @ b'0'..=b'9', rest)) = self.rest.split_first() {
            n = n
                .checked_mul(10)
                .and_then(|n| n.checked_add((digit - b'0').into()))
                .ok_or_else(|| Raise::Text("integral size overflow".to_string()))?;
            self.rest = rest;
        }
        Ok(n)
    }

    /// Bytes to skip before a value of that size.
    fn padding(&self, at: usize, option: u8, size: usize) -> usize {
        if size == 0 || option == b'c' {
            return 0;
        }
        let size = size.min(self.align);
        // As in C, also for an alignment of zero.
        let mask = size.wrapping_sub(1);
        size.wrapping_sub(at & mask) & mask
    }

    fn control(&mut self, option: u8) -> Result<(), Raise> {
        match option {
            b' ' => {}
            b'>' => self.big = true,
            b'<' => self.big = false,
            b'!' => {
                let align = self.number(MAX_ALIGN)?;
                if align <= 0 || align & (align - 1) != 0 {
                    return Err(Raise::Text(format!(
                        "alignment {align} is not a power of 2"
                    )));
                }
                self.align = align as usize;
            }
            other => {
                return Err(Raise::Argument(
                    1,
                    format!("invalid format option '{}'", char::from(other)),
                ));
            }
        }
        Ok(())
    }
}

/// As C on x86-64 makes a 64-bit integer of a double.
fn integer_of(n: f64) -> u64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if n < 0.0 {
        if n >= -LIMIT {
            n as i64 as u64
        } else {
            i64::MIN as u64
        }
    } else if n < 2.0 * LIMIT {
        n as u64
    } else if n.is_nan() {
        1 << 63
    } else {
        0
    }
}

fn pack_body(lua: Lua) -> Returns {
    let mut format = Format::new(lua.check_bytes(1));
    // A missing argument is reported as nil, as by the original, which marks the arguments' end so.
    lua.push_nil();
    let mut out = Vec::new();
    let mut arg = 2;
    while let Some((option, mut size)) = format.next()? {
        let padding = format.padding(out.len(), option, size);
        out.resize(out.len() + padding, 0);
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let value = integer_of(lua.check_number(arg));
                arg += 1;
                let mut bytes = [0; MAX_INTEGER];
                bytes[..8].copy_from_slice(&value.to_le_bytes());
                if format.big {
                    out.extend(bytes[..size].iter().rev());
                } else {
                    out.extend_from_slice(&bytes[..size]);
                }
            }
            b'x' => out.push(0),
            b'f' => {
                let n = lua.check_number(arg) as f32;
                arg += 1;
                out.extend_from_slice(&if format.big {
                    n.to_be_bytes()
                } else {
                    n.to_le_bytes()
                });
            }
            b'd' => {
                let n = lua.check_number(arg);
                arg += 1;
                out.extend_from_slice(&if format.big {
                    n.to_be_bytes()
                } else {
                    n.to_le_bytes()
                });
            }
            b'c' | b's' => {
                let bytes = lua.check_bytes(arg);
                arg += 1;
                if size == 0 {
                    size = bytes.len();
                }
                let Some(bytes) = bytes.get(..size) else {
                    return Err(Raise::Argument(arg, "string too short".to_string()));
                };
                out.extend_from_slice(bytes);
                if option == b's' {
                    out.push(0);
                }
            }
            _ => format.control(option)?,
        }
    }
    lua.push_bytes(&out);
    Ok(1)
}

fn unpack_body(lua: Lua) -> Returns {
    let mut format = Format::new(lua.check_bytes(1));
    let data = lua.check_bytes(2);
    let start = match lua.kind(3) {
        ffi::TNONE | ffi::TNIL => 1,
        _ => lua.check_number(3) as i64,
    };
    if start == 0 {
        return Err(Raise::Argument(
            3,
            "offset must be 1 or greater".to_string(),
        ));
    }
    // A negative one becomes a huge one, as in C, and is then found too large.
    let mut at = (start as usize).wrapping_sub(1);
    let mut count = 0;
    let short = || Raise::Argument(2, "data string too short".to_string());
    while let Some((option, mut size)) = format.next()? {
        at = at.wrapping_add(format.padding(at, option, size));
        let fits = |at: usize, size: usize| size <= data.len() && at <= data.len() - size;
        if !fits(at, size) {
            return Err(short());
        }
        if !lua.room(2) {
            return Err(Raise::Text("stack overflow (too many results)".to_string()));
        }
        let bytes = &data[at..at + size];
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                lua.push_number(integer(bytes, format.big, option.is_ascii_lowercase()));
                count += 1;
            }
            b'x' => {}
            b'f' => {
                let mut raw = [0; 4];
                raw.copy_from_slice(bytes);
                let n = if format.big {
                    f32::from_be_bytes(raw)
                } else {
                    f32::from_le_bytes(raw)
                };
                lua.push_number(n.into());
                count += 1;
            }
            b'd' => {
                let mut raw = [0; 8];
                raw.copy_from_slice(bytes);
                lua.push_number(if format.big {
                    f64::from_be_bytes(raw)
                } else {
                    f64::from_le_bytes(raw)
                });
                count += 1;
            }
            b'c' => {
                if size == 0 {
                    if count == 0 || !lua.is_number(-1) {
                        return Err(Raise::Text("format 'c0' needs a previous size".to_string()));
                    }
                    size = integer_of(lua.number(-1)) as usize;
                    lua.pop(1);
                    count -= 1;
                    if !fits(at, size) {
                        return Err(short());
                    }
                }
                lua.push_bytes(&data[at..at + size]);
                count += 1;
            }
            b's' => {
                let Some(len) = memchr::memchr(0, &data[at..]) else {
                    return Err(Raise::Text("unfinished string in data".to_string()));
                };
                lua.push_bytes(&data[at..at + len]);
                size = len + 1;
                count += 1;
            }
            _ => format.control(option)?,
        }
        at += size;
    }
    lua.push_number(at.wrapping_add(1) as i64 as f64);
    Ok(count + 1)
}

/// An integer of up to 32 bytes, of which the lowest eight count.
fn integer(bytes: &[u8], big: bool, signed: bool) -> f64 {
    let add = |n: u64, b: &u8| n << 8 | u64::from(*b);
    let mut n = if big {
        bytes.iter().fold(0, add)
    } else {
        bytes.iter().rev().fold(0, add)
    };
    if !signed {
        return n as f64;
    }
    // The shift wraps for more than eight bytes, as x86-64 does it.
    let mask = u64::MAX.wrapping_shl((bytes.len() as u32).wrapping_mul(8).wrapping_sub(1));
    if n & mask != 0 {
        n |= mask;
    }
    n as i64 as f64
}

fn size_body(lua: Lua) -> Returns {
    let mut format = Format::new(lua.check_bytes(1));
    let mut total = 0usize;
    while let Some((option, size)) = format.next()? {
        total += format.padding(total, option, size);
        match option {
            b's' => {
                return Err(Raise::Argument(
                    1,
                    "option 's' has no fixed size".to_string(),
                ));
            }
            b'c' if size == 0 => {
                return Err(Raise::Argument(
                    1,
                    "option 'c0' has no fixed size".to_string(),
                ));
            }
            option if !option.is_ascii_alphanumeric() => format.control(option)?,
            _ => {}
        }
        total += size;
    }
    lua.push_number(total as f64);
    Ok(1)
}
