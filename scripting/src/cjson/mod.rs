//! The `cjson` library: JSON as lua-cjson 2.1 reads and writes it, which is a little more than JSON when reading
//! (hexadecimal, `nan`, `inf`) and has its own rules for which tables are arrays when writing.
//!
//! Settings that a script changes hold until it ends. (In Redis they stay for all scripts after it, by accident; here
//! scripts run on many cores, and none should depend on which scripts ran before on its core.)

mod decode;
mod encode;

use crate::ffi;
use crate::shared::Shared;
use crate::state::{Lua, Raise, Returns, lua_function};
use std::ffi::CStr;

/// Nesting beyond this is refused whatever the settings allow: reading and writing recur, and a thread's stack has an end.
const DEPTH_MAX: i32 = 2000;

/// How JSON is read and written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    sparse_convert: bool,
    sparse_ratio: i32,
    sparse_safe: i32,
    encode_max_depth: i32,
    decode_max_depth: i32,
    encode_invalid: Invalid,
    decode_invalid: bool,
    keep_buffer: bool,
    precision: i32,
    changed: bool,
    /// Reused by `encode`.
    buffer: Vec<u8>,
}

/// What becomes of infinities and NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Invalid {
    Off,
    On,
    Null,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_max_depth: 1000,
            decode_max_depth: 1000,
            encode_invalid: Invalid::Off,
            decode_invalid: true,
            keep_buffer: true,
            precision: 14,
            changed: false,
            buffer: Vec::new(),
        }
    }
}

impl Settings {
    /// Back to the defaults, before the next script.
    #[inline]
    pub(crate) fn renew(&mut self) {
        if self.changed {
            *self = Self::default();
        }
    }
}

lua_function!(encode = encode::body);
lua_function!(decode = decode::body);
lua_function!(new = new_body);
lua_function!(encode_sparse_array = encode_sparse_array_body);
lua_function!(encode_max_depth = encode_max_depth_body);
lua_function!(decode_max_depth = decode_max_depth_body);
lua_function!(encode_number_precision = encode_number_precision_body);
lua_function!(encode_keep_buffer = encode_keep_buffer_body);
lua_function!(encode_invalid_numbers = encode_invalid_numbers_body);
lua_function!(decode_invalid_numbers = decode_invalid_numbers_body);

/// Pushes the library's table.
pub(crate) fn push_module(lua: Lua) {
    lua.new_table(0, 16);
    let functions: [(&CStr, ffi::Function); 10] = [
        (c"encode", encode),
        (c"decode", decode),
        (c"new", new),
        (c"encode_sparse_array", encode_sparse_array),
        (c"encode_max_depth", encode_max_depth),
        (c"decode_max_depth", decode_max_depth),
        (c"encode_number_precision", encode_number_precision),
        (c"encode_keep_buffer", encode_keep_buffer),
        (c"encode_invalid_numbers", encode_invalid_numbers),
        (c"decode_invalid_numbers", decode_invalid_numbers),
    ];
    for (name, function) in functions {
        lua.push_function(function);
        lua.set_field(-2, name);
    }
    lua.push_null();
    lua.set_field(-2, c"null");
    lua.push_bytes(b"cjson");
    lua.set_field(-2, c"_NAME");
    lua.push_bytes(b"2.1.0");
    lua.set_field(-2, c"_VERSION");
}

/// The settings of the Vm. The reference must not live across a call that can raise into Lua code.
fn settings<'a>(lua: Lua) -> &'a mut Settings {
    // SAFETY: the Vm's shared state, alive while Lua runs; see the rule above, kept by this module's few users.
    unsafe { &mut (*Shared::of(lua)).json }
}

/// A table of the same functions. It shares this one's settings, which last for a script only.
fn new_body(lua: Lua) -> Returns {
    push_module(lua);
    Ok(1)
}

/// Brings the arguments to `count`.
fn arguments(lua: Lua, count: i32) -> Result<(), Raise> {
    if lua.top() > count {
        return Err(Raise::Argument(
            count + 1,
            "found too many arguments".to_string(),
        ));
    }
    lua.set_top(count);
    Ok(())
}

fn integer(
    lua: Lua,
    arg: i32,
    setting: fn(&mut Settings) -> &mut i32,
    min: i32,
    max: i32,
) -> Result<(), Raise> {
    if lua.kind(arg) != ffi::TNIL {
        let n = lua.check_int(arg);
        if !(min..=max).contains(&n) {
            return Err(Raise::Argument(
                1,
                format!("expected integer between {min} and {max}"),
            ));
        }
        let settings = settings(lua);
        *setting(settings) = n;
        settings.changed = true;
    }
    lua.push_number((*setting(settings(lua))).into());
    Ok(())
}

/// The number of the option given as a boolean or by name; none for nil.
fn option(lua: Lua, arg: i32, names: &[&str]) -> Result<Option<usize>, Raise> {
    match lua.kind(arg) {
        ffi::TNIL => Ok(None),
        ffi::TBOOLEAN => Ok(Some(lua.boolean(arg).into())),
        _ => {
            let given = lua.check_bytes(arg);
            let found = names.iter().position(|name| name.as_bytes() == given);
            found.map(Some).ok_or_else(|| {
                Raise::Argument(
                    arg,
                    format!("invalid option '{}'", String::from_utf8_lossy(given)),
                )
            })
        }
    }
}

fn switch(lua: Lua, arg: i32, setting: fn(&mut Settings) -> &mut bool) -> Result<(), Raise> {
    if let Some(on) = option(lua, arg, &["off", "on"])? {
        let settings = settings(lua);
        *setting(settings) = on == 1;
        settings.changed = true;
    }
    lua.push_boolean(*setting(settings(lua)));
    Ok(())
}

fn encode_sparse_array_body(lua: Lua) -> Returns {
    arguments(lua, 3)?;
    switch(lua, 1, |s| &mut s.sparse_convert)?;
    integer(lua, 2, |s| &mut s.sparse_ratio, 0, i32::MAX)?;
    integer(lua, 3, |s| &mut s.sparse_safe, 0, i32::MAX)?;
    Ok(3)
}

fn encode_max_depth_body(lua: Lua) -> Returns {
    arguments(lua, 1)?;
    integer(lua, 1, |s| &mut s.encode_max_depth, 1, i32::MAX)?;
    Ok(1)
}

fn decode_max_depth_body(lua: Lua) -> Returns {
    arguments(lua, 1)?;
    integer(lua, 1, |s| &mut s.decode_max_depth, 1, i32::MAX)?;
    Ok(1)
}

fn encode_number_precision_body(lua: Lua) -> Returns {
    arguments(lua, 1)?;
    integer(lua, 1, |s| &mut s.precision, 1, 14)?;
    Ok(1)
}

/// The buffer is always kept; the switch is only remembered.
fn encode_keep_buffer_body(lua: Lua) -> Returns {
    arguments(lua, 1)?;
    switch(lua, 1, |s| &mut s.keep_buffer)?;
    Ok(1)
}

fn encode_invalid_numbers_body(lua: Lua) -> Returns {
    arguments(lua, 1)?;
    if let Some(choice) = option(lua, 1, &["off", "on", "null"])? {
        let settings = settings(lua);
        settings.encode_invalid = [Invalid::Off, Invalid::On, Invalid::Null][choice];
        settings.changed = true;
    }
    match settings(lua).encode_invalid {
        Invalid::Off => lua.push_boolean(false),
        Invalid::On => lua.push_boolean(true),
        Invalid::Null => lua.push_bytes(b"null"),
    }
    Ok(1)
}

fn decode_invalid_numbers_body(lua: Lua) -> Returns {
    arguments(lua, 1)?;
    switch(lua, 1, |s| &mut s.decode_invalid)?;
    Ok(1)
}
