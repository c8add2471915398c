//! How a script's failure becomes a reply.
//!
//! Lua's message handler turns whatever was raised into an error object `{err, source, line}`; [`write`] makes the
//! reply of it: `-<err> script: <sha>, on <source>:<line>.`

use crate::ffi;
use crate::state::{Lua, Returns, lua_function};
use std::ffi::CStr;

/// The chunk name of the prelude. Its functions stand for C functions of Redis's Lua: nobody is told of their lines.
pub(crate) const PRELUDE: &CStr = c"=prelude";

lua_function! {
    /// The message handler, which scripts can also call as `__redis__err__handler`.
    error_handler = handler
}

fn handler(lua: Lua) -> Returns {
    lua.set_top(1);
    if lua.kind(1) != ffi::TTABLE {
        let text = match lua.kind(1) {
            ffi::TSTRING | ffi::TNUMBER => lua.bytes(1).unwrap_or_default().to_vec(),
            ffi::TBOOLEAN if lua.boolean(1) => b"true".to_vec(),
            ffi::TBOOLEAN => b"false".to_vec(),
            ffi::TNIL => b"nil".to_vec(),
            kind => lua.kind_name(kind).as_bytes().to_vec(),
        };
        lua.new_table(0, 3);
        lua.push_bytes(b"err");
        lua.push_bytes(&[b"ERR ", text.as_slice()].concat());
        lua.raw_set(-3);
        lua.replace(1);
    }
    if let Some((source, line)) = origin(lua) {
        lua.push_bytes(b"source");
        lua.push_bytes(&source);
        lua.raw_set(1);
        lua.push_bytes(b"line");
        lua.push_number(line.into());
        lua.raw_set(1);
    }
    Ok(1)
}

/// Source and line of the function that raised, or of its caller where that is a C function.
fn origin(lua: Lua) -> Option<(Vec<u8>, i32)> {
    let mut skipped = false;
    // Level 0 is the handler.
    for level in 1.. {
        // SAFETY: all zeros is a valid Debug (null pointers, which Lua replaces).
        let mut ar: ffi::Debug = unsafe { std::mem::zeroed() };
        // SAFETY: a live state; what lua_getstack found is what lua_getinfo describes.
        let found = unsafe {
            ffi::lua_getstack(lua.0, level, &mut ar) != 0
                && ffi::lua_getinfo(lua.0, c"Sl".as_ptr(), &mut ar) != 0
        };
        if !found {
            return None;
        }
        // SAFETY: filled in by lua_getinfo: terminated strings that live as long as the function on the stack.
        let (what, source) = unsafe { (CStr::from_ptr(ar.what), CStr::from_ptr(ar.source)) };
        // LuaJIT has some builtins in bytecode, without lines.
        let ours = source == PRELUDE || (what != c"C" && ar.currentline <= 0);
        if ours || (what == c"C" && !skipped) {
            skipped = true;
        } else {
            return Some((source.to_bytes().to_vec(), ar.currentline));
        }
    }
    None
}

/// What the caller may want to count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScriptError {
    /// The error's first word, as error statistics want it: `ERR`, `WRONGTYPE`.
    pub code: String,
    /// The error came from a command and was counted when that failed.
    pub counted: bool,
}

/// Writes the error object on top of the stack as a reply. `name` is the script's hash or the function's name.
pub(crate) fn write(lua: Lua, name: &str, out: &mut Vec<u8>) -> ScriptError {
    let mut counted = false;
    let message = if lua.kind(-1) == ffi::TTABLE {
        let text = field(lua, b"err").unwrap_or_else(|| b"ERR unknown error".to_vec());
        let mut message = until_nul(&text).to_vec();
        if let (Some(source), Some(line)) = (field(lua, b"source"), field(lua, b"line")) {
            message.extend_from_slice(b" script: ");
            message.extend_from_slice(name.as_bytes());
            message.extend_from_slice(b", on ");
            message.extend_from_slice(until_nul(&source));
            message.push(b':');
            message.extend_from_slice(until_nul(&line));
            message.push(b'.');
        }
        counted = was_counted(lua);
        message
    } else {
        let text = match lua.kind(-1) {
            ffi::TSTRING => lua.bytes(-1).unwrap_or_default().to_vec(),
            _ => b"execution failure".to_vec(),
        };
        let text = until_nul(&text);
        [
            b"ERR Error running script ",
            name.as_bytes(),
            b", ",
            &text[..text.len().min(100)],
        ]
        .concat()
    };
    write_message(&message, out);
    ScriptError {
        code: code(&message),
        counted,
    }
}

/// The reply for an error object that a script returned.
pub(crate) fn write_returned(lua: Lua, out: &mut Vec<u8>) -> ScriptError {
    let message = field(lua, b"err").unwrap_or_default();
    let message = until_nul(&message);
    write_message(message, out);
    ScriptError {
        code: code(message),
        counted: was_counted(lua),
    }
}

/// The text of the error object on top.
pub(crate) fn text(lua: Lua) -> Vec<u8> {
    let text = match lua.kind(-1) {
        ffi::TTABLE => field(lua, b"err"),
        _ => lua.bytes(-1).map(<[u8]>::to_vec),
    };
    until_nul(&text.unwrap_or_else(|| b"ERR unknown error".to_vec())).to_vec()
}

fn was_counted(lua: Lua) -> bool {
    lua.push_bytes(b"ignore_error_stats_update");
    lua.raw_get(-2);
    let counted = lua.boolean(-1);
    lua.pop(1);
    counted
}

fn code(message: &[u8]) -> String {
    let word = message.split(|&b| b == b' ').next().unwrap_or_default();
    String::from_utf8_lossy(word).into_owned()
}

/// `-message`, on one line.
pub(crate) fn write_message(message: &[u8], out: &mut Vec<u8>) {
    let end = message
        .iter()
        .rposition(|b| !matches!(b, b'\r' | b'\n'))
        .map_or(0, |last| last + 1);
    out.push(b'-');
    out.extend(one_line(&message[..end]));
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn one_line(text: &[u8]) -> impl Iterator<Item = u8> + '_ {
    text.iter().map(|&b| match b {
        b'\r' | b'\n' => b' ',
        b => b,
    })
}

/// The text up to a zero byte: Redis takes such texts as C strings.
pub fn until_nul(text: &[u8]) -> &[u8] {
    &text[..memchr::memchr(0, text).unwrap_or(text.len())]
}

/// A string (or number) field of the table on top.
fn field(lua: Lua, name: &[u8]) -> Option<Vec<u8>> {
    lua.push_bytes(name);
    lua.raw_get(-2);
    let value = match lua.kind(-1) {
        ffi::TSTRING | ffi::TNUMBER => lua.bytes(-1).map(<[u8]>::to_vec),
        _ => None,
    };
    lua.pop(1);
    value
}
