//! The `redis` table: `redis.call` and its kin.
//!
//! `redis.call` is where scripts spend their time. Its arguments go to the host as slices of Lua's own strings, the
//! reply comes back in one buffer that is kept, and is read from there into Lua values.

use crate::convert;
use crate::debugger::Session;
use crate::error::until_nul;
use crate::ffi;
use crate::shared::Shared;
use crate::state::{Lua, Raise, Returns, lua_function};
use crate::{Host, LogLevel, Replication, Versions};
use ringwood_protocol::reply::Version;
use sha1::{Digest, Sha1};
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

lua_function!(call = call_body);
lua_function!(pcall = pcall_body);
lua_function!(log = log_body);
lua_function!(sha1hex = sha1hex_body);
lua_function!(error_reply = error_reply_body);
lua_function!(status_reply = status_reply_body);
lua_function!(setresp = setresp_body);
lua_function!(set_repl = set_repl_body);
lua_function!(breakpoint = breakpoint_body);
lua_function!(debug = debug_body);
lua_function!(replicate_commands = replicate_commands_body);
lua_function!(acl_check_cmd = acl_check_cmd_body);

/// Pushes the table.
pub(crate) fn push_module(lua: Lua, versions: &Versions) {
    lua.new_table(0, 32);
    let functions: [(&CStr, ffi::Function); 12] = [
        (c"call", call),
        (c"pcall", pcall),
        (c"log", log),
        (c"sha1hex", sha1hex),
        (c"error_reply", error_reply),
        (c"status_reply", status_reply),
        (c"setresp", setresp),
        (c"set_repl", set_repl),
        (c"breakpoint", breakpoint),
        (c"debug", debug),
        (c"replicate_commands", replicate_commands),
        (c"acl_check_cmd", acl_check_cmd),
    ];
    for (name, function) in functions {
        lua.push_function(function);
        lua.set_field(-2, name);
    }
    let numbers: [(&CStr, u32); 10] = [
        (c"LOG_DEBUG", 0),
        (c"LOG_VERBOSE", 1),
        (c"LOG_NOTICE", 2),
        (c"LOG_WARNING", 3),
        (c"REPL_NONE", 0),
        (c"REPL_AOF", 1),
        (c"REPL_SLAVE", 2),
        (c"REPL_REPLICA", 2),
        (c"REPL_ALL", 3),
        (c"REDIS_VERSION_NUM", versions.number()),
    ];
    for (name, n) in numbers {
        lua.push_number(n.into());
        lua.set_field(-2, name);
    }
    lua.push_bytes(versions.text().as_bytes());
    lua.set_field(-2, c"REDIS_VERSION");
}

#[inline]
fn call_body(lua: Lua) -> Returns {
    if command(lua)? {
        Err(Raise::Top)
    } else {
        Ok(1)
    }
}

fn pcall_body(lua: Lua) -> Returns {
    match command(lua) {
        Ok(_) => Ok(1),
        Err(Raise::Object(text)) => {
            if let Some(session) = Session::of(lua) {
                session.failed(text.as_bytes());
            }
            lua.push_error_object(&text);
            Ok(1)
        }
        Err(raise) => Err(raise),
    }
}

/// Arguments up to this count need no allocation.
const FEW: usize = 16;

/// Runs the command on the stack and pushes its reply; true for an error.
#[inline]
fn command(lua: Lua) -> Result<bool, Raise> {
    let shared = Shared::of(lua);
    // SAFETY: the Vm's shared state; copied out, no reference stays.
    let (host, version, debugged) = unsafe {
        (
            (*shared).host,
            (*shared).version,
            (*shared).debugger.is_some(),
        )
    };
    let Some(host) = host else {
        return Err(Raise::Object(
            "ERR redis.call/pcall can only be called inside a script invocation".to_string(),
        ));
    };
    let count = lua.top();
    let mut few: [&[u8]; FEW] = [&[]; FEW];
    let many: Vec<&[u8]>;
    let args: &[&[u8]] = if count as usize <= FEW {
        for i in 0..count {
            few[i as usize] = argument(lua, i + 1)?;
        }
        &few[..count as usize]
    } else {
        many = (1..=count)
            .map(|i| argument(lua, i))
            .collect::<Result<_, _>>()?;
        &many
    };
    if args.is_empty() {
        return Err(Raise::Object(
            "ERR Please specify at least one argument for this redis lib call".to_string(),
        ));
    }
    let session = if debugged { Session::of(lua) } else { None };
    if let Some(session) = &session {
        session.calls(args);
    }
    // SAFETY: as above. The buffer is taken, so that a host that panics or an error while the reply is read leaves nothing
    // half borrowed; then it is only lost.
    let mut reply = unsafe { std::mem::take(&mut (*shared).reply) };
    reply.clear();
    // SAFETY: set by `Vm::run` for the time of this script, whose caller holds the host exclusively and lends it to nobody
    // else; commands do not call into this Vm again.
    let result = catch_unwind(AssertUnwindSafe(|| unsafe {
        (*host.as_ptr()).call(args, version, &mut reply);
    }));
    if let Err(panic) = result {
        // SAFETY: as above.
        unsafe { (*shared).panic = Some(panic) };
        return Err(Raise::Object("ERR internal error".to_string()));
    }
    let failed = reply.first() == Some(&b'-');
    // SAFETY: as above.
    if failed && unsafe { (*host.as_ptr()).abandons() } {
        crate::vm::kill(lua);
    }
    if let Some(session) = session {
        // SAFETY: as above.
        let refused = unsafe { (*host.as_ptr()).refused() };
        session.called(&reply, refused);
    }
    // The arguments may fill the stack that the reply needs; nobody looks at them any more.
    lua.set_top(0);
    convert::push_reply(lua, &reply, &mut 0)?;
    // One large reply must not be kept for ever.
    if reply.capacity() <= 1 << 20 {
        // SAFETY: as above.
        unsafe { (*shared).reply = reply };
    }
    Ok(failed)
}

/// An argument of `redis.call`; a number becomes its text in place, which keeps it alive.
#[inline]
fn argument<'a>(lua: Lua, i: i32) -> Result<&'a [u8], Raise> {
    match lua.kind(i) {
        ffi::TSTRING => {}
        ffi::TNUMBER => {
            let text = convert::number_argument(lua.number(i));
            lua.push_bytes(&text);
            lua.replace(i);
        }
        _ => {
            return Err(Raise::Object(
                "ERR Lua redis lib command arguments must be strings or integers".to_string(),
            ));
        }
    }
    Ok(lua.bytes(i).unwrap_or_default())
}

/// The host, for the rarer functions. `name` is for the error outside of a script.
fn host<'a>(lua: Lua, name: &str) -> Result<&'a mut dyn Host, Raise> {
    // SAFETY: as in `command`; the reference is used for one call.
    unsafe { (*Shared::of(lua)).host.map(|host| &mut *host.as_ptr()) }.ok_or_else(|| {
        Raise::Object(format!(
            "ERR redis.{name} can only be called inside a script invocation"
        ))
    })
}

fn log_body(lua: Lua) -> Returns {
    let count = lua.top();
    if count < 2 {
        return object("ERR redis.log() requires two arguments or more.");
    }
    if !lua.is_number(1) {
        return object("ERR First argument must be a number (log level).");
    }
    let level = match lua.number(1) as i32 {
        0 => LogLevel::Debug,
        1 => LogLevel::Verbose,
        2 => LogLevel::Notice,
        3 => LogLevel::Warning,
        _ => return object("ERR Invalid log level."),
    };
    let mut line = Vec::new();
    for i in 2..=count {
        if let Some(text) = lua.bytes(i) {
            if i > 2 {
                line.push(b' ');
            }
            line.extend_from_slice(text);
        }
    }
    // Libraries log while they are loaded, outside of any script: then there may be no host.
    if let Ok(host) = host(lua, "log") {
        host.log(level, &line);
    }
    Ok(0)
}

fn sha1hex_body(lua: Lua) -> Returns {
    if lua.top() != 1 {
        return object("ERR wrong number of arguments");
    }
    let digest = Sha1::digest(lua.bytes(1).unwrap_or_default());
    lua.push_bytes(crate::cache::Sha(digest.into()).hex().as_bytes());
    Ok(1)
}

/// The one string argument of `error_reply` and `status_reply`.
fn only_text<'a>(lua: Lua) -> Option<&'a [u8]> {
    if lua.top() == 1 && lua.kind(1) == ffi::TSTRING {
        return lua.bytes(1);
    }
    const TEXT: &str = "ERR wrong number or type of arguments";
    if let Some(session) = Session::of(lua) {
        session.failed(TEXT.as_bytes());
    }
    lua.push_error_object(TEXT);
    None
}

fn error_reply_body(lua: Lua) -> Returns {
    let Some(text) = only_text(lua) else {
        return Ok(1);
    };
    let text = until_nul(text);
    if let Some(session) = Session::of(lua) {
        session.made_error(text);
    }
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let (code, message) = match memchr::memchr(b' ', text) {
        Some(space) => (&text[..space], &text[space + 1..]),
        None => (b"ERR".as_slice(), text),
    };
    let ends = |b: &u8| matches!(b, b'\r' | b'\n');
    let start = message
        .iter()
        .position(|b| !ends(b))
        .unwrap_or(message.len());
    let end = message
        .iter()
        .rposition(|b| !ends(b))
        .map_or(start, |i| i + 1);
    lua.new_table(0, 1);
    lua.push_bytes(b"err");
    lua.push_bytes(&[code, b" ", &message[start..end]].concat());
    lua.raw_set(-3);
    Ok(1)
}

fn status_reply_body(lua: Lua) -> Returns {
    if only_text(lua).is_some() {
        lua.new_table(0, 1);
        lua.push_bytes(b"ok");
        lua.push_value(1);
        lua.raw_set(-3);
    }
    Ok(1)
}

fn setresp_body(lua: Lua) -> Returns {
    host(lua, "setresp")?;
    if lua.top() != 1 {
        return object("ERR redis.setresp() requires one argument.");
    }
    let version = match lua.number(1) as i32 {
        2 => Version::Resp2,
        3 => Version::Resp3,
        _ => return object("ERR RESP version must be 2 or 3."),
    };
    // SAFETY: the Vm's shared state; no reference stays.
    unsafe { (*Shared::of(lua)).version = version };
    Ok(0)
}

fn set_repl_body(lua: Lua) -> Returns {
    let host = host(lua, "set_repl")?;
    if lua.top() != 1 {
        return object("ERR redis.set_repl() requires one argument.");
    }
    let flags = lua.number(1) as i32;
    if flags & !3 != 0 {
        return object(
            "ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
        );
    }
    host.set_repl(Replication {
        log: flags & 1 != 0,
        replicas: flags & 2 != 0,
    });
    Ok(0)
}

fn acl_check_cmd_body(lua: Lua) -> Returns {
    let host = host(lua, "acl_check_cmd")?;
    let args: Vec<&[u8]> = (1..=lua.top())
        .map(|i| argument(lua, i))
        .collect::<Result<_, _>>()?;
    if args.is_empty() {
        return object("ERR Please specify at least one argument for this redis lib call");
    }
    match host.acl_check(&args) {
        Some(allowed) => lua.push_boolean(allowed),
        None => return object("ERR Invalid command passed to redis.acl_check_cmd()"),
    }
    Ok(1)
}

/// Whether a debugger stops at the next line.
fn breakpoint_body(lua: Lua) -> Returns {
    let session = Session::of(lua);
    if let Some(session) = &session {
        session.stop_at_next_line();
    }
    lua.push_boolean(session.is_some());
    Ok(1)
}

/// For the debugger: outside of it Redis prints nothing, and neither do we.
fn debug_body(lua: Lua) -> Returns {
    if let Some(session) = Session::of(lua) {
        session.print(lua);
    }
    Ok(0)
}

fn replicate_commands_body(lua: Lua) -> Returns {
    lua.push_boolean(true);
    Ok(1)
}

fn object(text: &str) -> Returns {
    Err(Raise::Object(text.to_string()))
}
