//! Values between RESP and Lua.
//!
//! [`push_reply`] reads a command's reply, as Ringwood itself wrote it, straight into Lua values. [`write_value`] makes
//! a reply of what a script returns. The mapping is Redis's: integers are numbers, bulk strings strings, nulls `false`
//! (RESP2) or `nil` (RESP3); statuses, errors and RESP3's own types are tables with one telling field.

use crate::error::{self, ScriptError, one_line, until_nul};
use crate::ffi;
use crate::shared::Shared;
use crate::state::{Lua, Raise};
use ringwood_protocol::number::double_text;
use ringwood_protocol::reply::{Reply, Version, bulk_head};

/// The text of a number given to `redis.call`: whole numbers in full, others with the fewest digits that give them back.
pub(crate) fn number_argument(n: f64) -> Vec<u8> {
    const EXACT: f64 = (1i64 << 62) as f64;
    if n.abs() < EXACT && n.trunc() == n {
        itoa::Buffer::new().format(n as i64).as_bytes().to_vec()
    } else if n.is_nan() && n.is_sign_negative() {
        b"-nan".to_vec()
    } else {
        double_text(n).as_bytes().to_vec()
    }
}

/// Pushes the value of the reply at `*at` and moves `*at` behind it. Takes up to 8 slots of the stack, and sees to more.
#[inline]
pub(crate) fn push_reply(lua: Lua, bytes: &[u8], at: &mut usize) -> Result<(), Raise> {
    // Nearly all that scripts hear.
    if let Some((head, len)) = bytes.get(*at..).and_then(bulk_head) {
        let from = *at + head;
        lua.push_bytes(bytes.get(from..from + len).ok_or_else(malformed)?);
        *at = from + len + 2;
        return Ok(());
    }
    push_any(lua, bytes, at)
}

fn push_any(lua: Lua, bytes: &[u8], at: &mut usize) -> Result<(), Raise> {
    let Some((&kind, rest)) = bytes.get(*at..).and_then(<[u8]>::split_first) else {
        return Err(malformed());
    };
    let holds_others = matches!(kind, b'*' | b'>' | b'%' | b'~' | b'|');
    if holds_others && !lua.room(16) {
        return Err(Raise::Text("reply too deeply nested".to_string()));
    }
    let line = &rest[..memchr::memchr(b'\r', rest).ok_or_else(malformed)?];
    *at += line.len() + 3;
    match kind {
        b'$' => match length(line)? {
            Some(len) => {
                lua.push_bytes(bytes.get(*at..*at + len).ok_or_else(malformed)?);
                *at += len + 2;
            }
            None => lua.push_boolean(false),
        },
        b':' => lua.push_number(integer(line)? as f64),
        b'+' => push_tagged(lua, b"ok", |lua| lua.push_bytes(line)),
        b'*' | b'>' => match length(line)? {
            Some(len) => {
                // The hint trusts no more than the bytes that are there: an element takes at least three.
                lua.new_table(len.min(bytes.len() / 3), 0);
                for i in 0..len {
                    push_reply(lua, bytes, at)?;
                    lua.raw_set_index(-2, i as i32 + 1);
                }
            }
            None => lua.push_boolean(false),
        },
        b'-' => push_error(lua, line),
        b'_' => lua.push_nil(),
        b'#' => lua.push_boolean(line == b"t"),
        b',' => {
            let n = std::str::from_utf8(line).ok().and_then(|t| t.parse().ok());
            let n: f64 = n.ok_or_else(malformed)?;
            push_tagged(lua, b"double", |lua| lua.push_number(n));
        }
        b'(' => push_tagged(lua, b"big_number", |lua| lua.push_bytes(line)),
        b'=' => {
            let len = length(line)?.ok_or_else(malformed)?;
            let text = bytes.get(*at..*at + len).ok_or_else(malformed)?;
            let (format, text) = text.split_at_checked(4).ok_or_else(malformed)?;
            *at += len + 2;
            push_tagged(lua, b"verbatim_string", |lua| {
                lua.new_table(0, 2);
                lua.push_bytes(b"string");
                lua.push_bytes(text);
                lua.raw_set(-3);
                lua.push_bytes(b"format");
                lua.push_bytes(&format[..3]);
                lua.raw_set(-3);
            });
        }
        b'%' => {
            let len = length(line)?.ok_or_else(malformed)?;
            lua.new_table(0, 1);
            lua.push_bytes(b"map");
            lua.new_table(0, len.min(bytes.len() / 6));
            for _ in 0..len {
                push_reply(lua, bytes, at)?;
                push_reply(lua, bytes, at)?;
                if lua.kind(-2) == ffi::TNIL {
                    return Err(Raise::Plain("table index is nil".to_string()));
                }
                lua.raw_set(-3);
            }
            lua.raw_set(-3);
        }
        b'~' => {
            let len = length(line)?.ok_or_else(malformed)?;
            lua.new_table(0, 1);
            lua.push_bytes(b"set");
            lua.new_table(0, len.min(bytes.len() / 3));
            for _ in 0..len {
                push_reply(lua, bytes, at)?;
                if lua.kind(-1) == ffi::TNIL {
                    return Err(Raise::Plain("table index is nil".to_string()));
                }
                lua.push_boolean(true);
                lua.raw_set(-3);
            }
            lua.raw_set(-3);
        }
        b'|' => {
            // Attributes are not shown to scripts; the value follows them.
            for _ in 0..2 * length(line)?.ok_or_else(malformed)? {
                push_reply(lua, bytes, at)?;
                lua.pop(1);
            }
            push_reply(lua, bytes, at)?;
        }
        _ => return Err(malformed()),
    }
    Ok(())
}

/// An error of a command: `{err = "CODE text", ignore_error_stats_update = true}`.
fn push_error(lua: Lua, line: &[u8]) {
    lua.new_table(0, 4);
    lua.push_bytes(b"err");
    if line.contains(&b' ') {
        lua.push_bytes(line);
    } else {
        lua.push_bytes(&[b"ERR ", line].concat());
    }
    lua.raw_set(-3);
    lua.push_bytes(b"ignore_error_stats_update");
    lua.push_boolean(true);
    lua.raw_set(-3);
}

fn push_tagged(lua: Lua, tag: &[u8], value: impl FnOnce(Lua)) {
    lua.new_table(0, 1);
    lua.push_bytes(tag);
    value(lua);
    lua.raw_set(-3);
}

#[cold]
fn malformed() -> Raise {
    Raise::Object("ERR malformed reply inside the server".to_string())
}

#[inline]
fn integer(line: &[u8]) -> Result<i64, Raise> {
    let (negative, digits) = match line {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return Err(malformed());
    }
    let mut n: i64 = 0;
    for &b in digits {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return Err(malformed());
        }
        // Wraps only for the smallest integer, whose negation is itself.
        n = n.wrapping_mul(10).wrapping_add(digit.into());
    }
    Ok(if negative { n.wrapping_neg() } else { n })
}

/// A length, or none for -1.
#[inline]
fn length(line: &[u8]) -> Result<Option<usize>, Raise> {
    match integer(line)? {
        -1 => Ok(None),
        n => usize::try_from(n).map(Some).map_err(|_| malformed()),
    }
}

/// Who reads the reply of a script, and what the script chose.
#[derive(Clone, Copy)]
pub(crate) struct Versions {
    pub(crate) client: Version,
    /// `redis.setresp`.
    pub(crate) script: Version,
}

/// A table that is being written. It is on Lua's stack, with the key it has come to above it for the last two kinds.
enum Open {
    Array {
        next: i32,
        len: i32,
    },
    /// The key was written, its value comes.
    MapValue,
    MapNext,
    SetNext,
}

/// Writes the value on top of the stack as a reply, and pops it. An error object at the top level is told to the caller.
/// Not recursive: scripts can nest tables deeper than a thread's stack would bear.
pub(crate) fn write_value(lua: Lua, versions: Versions, out: &mut Vec<u8>) -> Option<ScriptError> {
    let mut open = Vec::new();
    let (start, depth) = (out.len(), lua.top());
    // Few tables that hold each other often can stand for any number of bytes.
    let max = start.saturating_add(Shared::room(lua));
    let failure = write_one(lua, versions, out, &mut open);
    while let Some(table) = open.last_mut() {
        if out.len() > max {
            out.truncate(start);
            error::write_message(b"ERR not enough memory", out);
            lua.set_top(depth - 1);
            return Some(ScriptError {
                code: "ERR".to_string(),
                counted: false,
            });
        }
        match table {
            Open::Array { next, len } => {
                if *next > *len {
                    open.pop();
                    lua.pop(1);
                    continue;
                }
                lua.raw_get_index(-1, *next);
                *next += 1;
            }
            Open::MapNext => {
                if !lua.next(-2) {
                    open.pop();
                    // The map and the table around it.
                    lua.pop(2);
                    continue;
                }
                // Key and value are there; the key is needed again for the next step.
                *table = Open::MapValue;
                lua.push_value(-2);
            }
            Open::MapValue => *table = Open::MapNext,
            Open::SetNext => {
                if !lua.next(-2) {
                    open.pop();
                    lua.pop(2);
                    continue;
                }
                lua.pop(1);
                lua.push_value(-1);
            }
        }
        write_one(lua, versions, out, &mut open);
    }
    failure
}

/// Writes the value on top, and pops it unless it is a table with contents to come, which is then in `open`.
fn write_one(
    lua: Lua,
    versions: Versions,
    out: &mut Vec<u8>,
    open: &mut Vec<Open>,
) -> Option<ScriptError> {
    if !lua.room(8) {
        lua.pop(1);
        error::write_message(b"ERR reached lua stack limit", out);
        return None;
    }
    let mut failure = None;
    match lua.kind(-1) {
        ffi::TSTRING => {
            let bytes = lua.bytes(-1).unwrap_or_default();
            Reply::new(out, versions.client).bulk(bytes);
        }
        ffi::TNUMBER => Reply::new(out, versions.client).integer(truncated(lua.number(-1))),
        ffi::TBOOLEAN => {
            let b = lua.boolean(-1);
            let mut reply = Reply::new(out, versions.client);
            match (versions.script, b) {
                (Version::Resp3, b) => reply.boolean(b),
                (Version::Resp2, true) => reply.integer(1),
                (Version::Resp2, false) => reply.null(),
            }
        }
        ffi::TTABLE => {
            let before = open.len();
            failure = write_table(lua, versions, out, open);
            if open.len() > before {
                return None;
            }
        }
        _ => Reply::new(out, versions.client).null(),
    }
    lua.pop(1);
    failure
}

/// As C on x86-64 converts a double to a 64-bit integer.
fn truncated(n: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&n) {
        n as i64
    } else {
        i64::MIN
    }
}

/// Writes the table on top, which stays, or its head, when its contents are to come.
fn write_table(
    lua: Lua,
    versions: Versions,
    out: &mut Vec<u8>,
    open: &mut Vec<Open>,
) -> Option<ScriptError> {
    // A table without a hash part, as arrays are, has none of the fields.
    lua.push_nil();
    if !lua.next(-2) {
        Reply::new(out, versions.client).array(0);
        return None;
    }
    lua.pop(2);
    if field(lua, b"err", ffi::TSTRING) {
        lua.pop(1);
        return Some(error::write_returned(lua, out));
    }
    if field(lua, b"ok", ffi::TSTRING) {
        out.push(b'+');
        out.extend(one_line(until_nul(lua.bytes(-1).unwrap_or_default())));
        out.extend_from_slice(b"\r\n");
        lua.pop(1);
        return None;
    }
    if field(lua, b"double", ffi::TNUMBER) {
        Reply::new(out, versions.client).double_text(double_text(lua.number(-1)).as_str());
        lua.pop(1);
        return None;
    }
    if field(lua, b"big_number", ffi::TSTRING) {
        let digits: Vec<u8> = one_line(lua.bytes(-1).unwrap_or_default()).collect();
        match versions.client {
            Version::Resp2 => Reply::new(out, versions.client).bulk(&digits),
            Version::Resp3 => {
                out.push(b'(');
                out.extend_from_slice(&digits);
                out.extend_from_slice(b"\r\n");
            }
        }
        lua.pop(1);
        return None;
    }
    if field(lua, b"verbatim_string", ffi::TTABLE) {
        let written = write_verbatim(lua, versions, out);
        lua.pop(1);
        if written {
            return None;
        }
    }
    if field(lua, b"map", ffi::TTABLE) {
        Reply::new(out, versions.client).map(count(lua));
        lua.push_nil();
        open.push(Open::MapNext);
        return None;
    }
    if field(lua, b"set", ffi::TTABLE) {
        Reply::new(out, versions.client).set(count(lua));
        lua.push_nil();
        open.push(Open::SetNext);
        return None;
    }
    let mut len = 0;
    loop {
        lua.raw_get_index(-1, len + 1);
        let end = lua.kind(-1) == ffi::TNIL;
        lua.pop(1);
        if end {
            break;
        }
        len += 1;
    }
    Reply::new(out, versions.client).array(len as usize);
    if len > 0 {
        open.push(Open::Array { next: 1, len });
    }
    None
}

/// Leaves the field on the stack where it has that type.
fn field(lua: Lua, name: &[u8], kind: i32) -> bool {
    lua.push_bytes(name);
    lua.raw_get(-2);
    let found = lua.kind(-1) == kind;
    if !found {
        lua.pop(1);
    }
    found
}

/// The pairs of the table on top.
fn count(lua: Lua) -> usize {
    let mut pairs = 0;
    lua.push_nil();
    while lua.next(-2) {
        lua.pop(1);
        pairs += 1;
    }
    pairs
}

/// Writes the table on top as a verbatim string if it has the two fields.
fn write_verbatim(lua: Lua, versions: Versions, out: &mut Vec<u8>) -> bool {
    if !field(lua, b"format", ffi::TSTRING) {
        return false;
    }
    let mut format = [b' '; 3];
    let given = until_nul(lua.bytes(-1).unwrap_or_default());
    let len = given.len().min(3);
    format[..len].copy_from_slice(&given[..len]);
    lua.pop(1);
    if !field(lua, b"string", ffi::TSTRING) {
        return false;
    }
    let text = lua.bytes(-1).unwrap_or_default();
    match versions.client {
        Version::Resp2 => Reply::new(out, versions.client).bulk(text),
        Version::Resp3 => {
            out.push(b'=');
            out.extend_from_slice(itoa::Buffer::new().format(text.len() + 4).as_bytes());
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(&format);
            out.push(b':');
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
    }
    lua.pop(1);
    true
}
