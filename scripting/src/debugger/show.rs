//! How the debugger writes Lua values and replies.

use crate::ffi;
use crate::state::Lua;
use ringwood_protocol::quote::append_repr;

/// Tables nested deeper are not shown.
const DEPTH_MAX: usize = 10;
/// Few tables that hold each other often can stand for any number of bytes: so many are enough for anybody.
const BYTES_MAX: usize = 1 << 20;

/// Writes the value on top of the stack, which stays.
pub(super) fn value(lua: Lua, out: &mut Vec<u8>) {
    value_at(lua, out, 0, &mut { BYTES_MAX });
}

/// `left`: bytes that may still be written, in all buffers together.
fn value_at(lua: Lua, out: &mut Vec<u8>, depth: usize, left: &mut usize) {
    if depth == DEPTH_MAX || !lua.room(8) {
        out.extend_from_slice(b"<max recursion level reached! Nested table?>");
        return;
    }
    if *left == 0 {
        return;
    }
    let from = out.len();
    match lua.kind(-1) {
        ffi::TSTRING => append_repr(out, lua.bytes(-1).unwrap_or_default()),
        ffi::TBOOLEAN if lua.boolean(-1) => out.extend_from_slice(b"true"),
        ffi::TBOOLEAN => out.extend_from_slice(b"false"),
        ffi::TNUMBER => out.extend_from_slice(&number(lua.number(-1))),
        ffi::TNIL => out.extend_from_slice(b"nil"),
        ffi::TTABLE => return table(lua, out, depth + 1, left),
        kind => {
            let name = match kind {
                ffi::TFUNCTION => "function",
                ffi::TLIGHTUSERDATA => "light-userdata",
                kind => lua.kind_name(kind),
            };
            let at = lua.pointer(-1);
            let at = match at.is_null() {
                true => "(nil)".to_string(),
                false => format!("{at:p}"),
            };
            out.extend_from_slice(format!("\"{name}@{at}\"").as_bytes());
        }
    }
    *left = left.saturating_sub(out.len() - from);
}

/// As C's `%g` has it.
fn number(n: f64) -> Vec<u8> {
    let mut text = [0u8; 32];
    // SAFETY: six digits, a sign, a point and an exponent of five: within 32 bytes, terminated.
    let len = unsafe { libc::snprintf(text.as_mut_ptr().cast(), text.len(), c"%g".as_ptr(), n) };
    text[..(len.max(0) as usize).min(text.len())].to_vec()
}

/// As a list, if its keys are 1, 2, 3 in this order; else with the keys.
fn table(lua: Lua, out: &mut Vec<u8>, depth: usize, left: &mut usize) {
    *left = left.saturating_sub(2);
    let mut list = b"{".to_vec();
    let mut map = b"{".to_vec();
    let mut next = Some(1.0);
    lua.push_nil();
    while lua.next(-2) {
        if *left == 0 {
            lua.pop(2);
            break;
        }
        if next.is_some_and(|n| lua.kind(-2) != ffi::TNUMBER || lua.number(-2) != n) {
            next = None;
        }
        let mut item = Vec::new();
        value_at(lua, &mut item, depth, left);
        lua.pop(1);
        if let Some(n) = &mut next {
            *n += 1.0;
            list.extend_from_slice(&item);
            list.extend_from_slice(b"; ");
        }
        map.push(b'[');
        value_at(lua, &mut map, depth, left);
        map.extend_from_slice(b"]=");
        map.extend_from_slice(&item);
        map.extend_from_slice(b"; ");
    }
    let text = if next.is_some() { list } else { map };
    out.extend_from_slice(text.strip_suffix(b"; ").unwrap_or(&text));
    out.push(b'}');
}

/// Writes a reply of a command.
pub(super) fn reply(reply: &[u8], out: &mut Vec<u8>) {
    // The server sends whole replies only.
    let _ = one(&mut &*reply, out);
}

/// Writes one value and moves on behind it. None where the bytes are no reply, which the server does not send.
fn one(rest: &mut &[u8], out: &mut Vec<u8>) -> Option<()> {
    let end = rest.windows(2).position(|w| w == b"\r\n")?;
    let (line, after) = (&rest[..end], &rest[end + 2..]);
    *rest = after;
    let (&kind, text) = line.split_first()?;
    let count = || std::str::from_utf8(text).ok()?.parse::<i64>().ok();
    match kind {
        b':' => out.extend_from_slice(text),
        b'+' | b'-' => append_repr(out, line),
        b'$' | b'=' => match usize::try_from(count()?) {
            Ok(len) => {
                let bytes = rest.get(..len)?;
                // A verbatim text has its format before it.
                let shown = if kind == b'=' { bytes.get(4..)? } else { bytes };
                append_repr(out, shown);
                *rest = rest.get(len + 2..)?;
            }
            Err(_) => out.extend_from_slice(b"NULL"),
        },
        b'*' => match usize::try_from(count()?) {
            Ok(len) => items(rest, out, len, (b"[", b"]"))?,
            Err(_) => out.extend_from_slice(b"NULL"),
        },
        b'~' => items(rest, out, usize::try_from(count()?).ok()?, (b"~(", b")"))?,
        b'%' => {
            out.push(b'{');
            for i in 0..count()? {
                if i > 0 {
                    out.push(b',');
                }
                one(rest, out)?;
                out.extend_from_slice(b" => ");
                one(rest, out)?;
            }
            out.push(b'}');
        }
        b'_' => out.extend_from_slice(b"(null)"),
        b'#' => out.extend_from_slice(if text == b"t" { b"#true" } else { b"#false" }),
        b',' => {
            out.extend_from_slice(b"(double) ");
            out.extend_from_slice(text);
        }
        b'(' => out.extend_from_slice(text),
        _ => return None,
    }
    Some(())
}

fn items(
    rest: &mut &[u8],
    out: &mut Vec<u8>,
    len: usize,
    (open, close): (&[u8], &[u8]),
) -> Option<()> {
    out.extend_from_slice(open);
    for i in 0..len {
        if i > 0 {
            out.push(b',');
        }
        one(rest, out)?;
    }
    out.extend_from_slice(close);
    Some(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn replies() {
        for (reply, text) in [
            (":5\r\n", "5"),
            ("+OK\r\n", "\"+OK\""),
            ("-ERR x\r\n", "\"-ERR x\""),
            ("$3\r\na\r\n\r\n", "\"a\\r\\n\""),
            ("$-1\r\n", "NULL"),
            ("*-1\r\n", "NULL"),
            ("*2\r\n:1\r\n*1\r\n$1\r\na\r\n", "[1,[\"a\"]]"),
            (
                "%2\r\n+a\r\n:1\r\n+b\r\n:2\r\n",
                "{\"+a\" => 1,\"+b\" => 2}",
            ),
            ("~2\r\n:1\r\n:2\r\n", "~(1,2)"),
            ("_\r\n", "(null)"),
            ("#t\r\n", "#true"),
            (",1.5\r\n", "(double) 1.5"),
            ("=5\r\ntxt:a\r\n", "\"a\""),
        ] {
            let mut out = Vec::new();
            super::reply(reply.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), text);
        }
        // Not sent by the server; it ends.
        for broken in ["", "$5\r\na", "*3\r\n:1\r\n", "?x\r\n", "%9\r\n"] {
            super::reply(broken.as_bytes(), &mut Vec::new());
        }
    }
}
