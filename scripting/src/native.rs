//! The functions behind the prelude that cannot be written in Lua.

use crate::ffi;
use crate::state::{Lua, Raise, Returns, lua_function};
use std::ffi::CString;

lua_function! {
    /// `bad_argument(n, function, expected, value)`: the error of a builtin, told where the prelude's caller is.
    bad_argument = bad_argument_body
}
lua_function! {
    /// `loadstring(text, name)`: text only, never bytecode.
    loadstring = loadstring_body
}
lua_function! {
    /// Scripts may look and collect; they may not stop the collector for those after them.
    collectgarbage = collectgarbage_body
}

lua_function! {
    /// True once the running script is to end: no handler of its own is asked any more.
    killed = killed_body
}

fn killed_body(lua: Lua) -> Returns {
    // SAFETY: the Vm's shared state; no reference stays.
    lua.push_boolean(unsafe { (*crate::shared::Shared::of(lua)).killed });
    Ok(1)
}

fn bad_argument_body(lua: Lua) -> Returns {
    let text = |i| String::from_utf8_lossy(lua.bytes(i).unwrap_or_default()).into_owned();
    let mut message = format!("bad argument #{} to '{}' ({}", text(1), text(2), text(3));
    if lua.top() > 3 {
        message.push_str(" expected, got ");
        message.push_str(lua.kind_name(lua.kind(4)));
    } else {
        message.push_str(" expected");
    }
    message.push(')');
    // Level 1 is the prelude's function.
    lua.where_(2);
    let mut whole = lua.bytes(-1).unwrap_or_default().to_vec();
    whole.extend_from_slice(message.as_bytes());
    lua.push_bytes(&whole);
    Err(Raise::Top)
}

fn loadstring_body(lua: Lua) -> Returns {
    let text = lua.check_bytes(1);
    let name = match lua.kind(2) {
        ffi::TNONE | ffi::TNIL => text,
        _ => lua.check_bytes(2),
    };
    let name = CString::new(crate::error::until_nul(name)).unwrap_or_default();
    if lua.load(text, &name) {
        return Ok(1);
    }
    lua.push_nil();
    lua.insert(-2);
    Ok(2)
}

fn collectgarbage_body(lua: Lua) -> Returns {
    let option = match lua.kind(1) {
        ffi::TNONE | ffi::TNIL => b"collect",
        _ => lua.check_bytes(1),
    };
    let answer = match option {
        b"collect" => f64::from(lua.collect(ffi::GC_COLLECT, 0)),
        b"count" => {
            f64::from(lua.collect(ffi::GC_COUNT, 0))
                + f64::from(lua.collect(ffi::GC_COUNTB, 0)) / 1024.0
        }
        b"step" => {
            let size = if lua.top() > 1 { lua.check_int(2) } else { 0 };
            let done = lua.collect(ffi::GC_STEP, size) != 0;
            lua.push_boolean(done);
            return Ok(1);
        }
        b"stop" | b"restart" => 0.0,
        b"setpause" | b"setstepmul" => 200.0,
        other => {
            return Err(Raise::Argument(
                1,
                format!("invalid option '{}'", String::from_utf8_lossy(other)),
            ));
        }
    };
    lua.push_number(answer);
    Ok(1)
}
