//! `redis.register_function`, which a library calls while it is loaded.

use crate::ffi;
use crate::function::FunctionInfo;
use crate::shared::Shared;
use crate::shebang::{self, Flags};
use crate::state::{Lua, Raise, Returns, lua_function};
use crate::vm::FunctionRef;

lua_function!(register_function = body);

/// What a library has registered so far.
pub(crate) type Registered = Vec<(FunctionInfo, FunctionRef)>;

fn body(lua: Lua) -> Returns {
    // SAFETY: the Vm's shared state; no reference stays across calls into Lua.
    if unsafe { (*Shared::of(lua)).registered.is_none() } {
        return refuse("redis.register_function can only be called on FUNCTION LOAD command");
    }
    let info = match lua.top() {
        1 => named(lua)?,
        2 => positional(lua)?,
        _ => return refuse("wrong number of arguments to redis.register_function"),
    };
    // The callback is on top now.
    if !shebang::is_name(info.name.as_bytes()) {
        return refuse(shebang::NAME_RULE);
    }
    // SAFETY: as above.
    let known = unsafe {
        (*Shared::of(lua)).registered.as_ref().is_some_and(|all| {
            all.iter()
                .any(|(other, _)| other.name.eq_ignore_ascii_case(&info.name))
        })
    };
    if known {
        return refuse("Function already exists in the library");
    }
    // SAFETY: a live state; the function on top is popped into the registry.
    let function = FunctionRef(unsafe { ffi::luaL_ref(lua.0, ffi::REGISTRY) });
    // SAFETY: as above.
    unsafe {
        if let Some(all) = (*Shared::of(lua)).registered.as_mut() {
            all.push((info, function));
        }
    }
    Ok(0)
}

fn refuse<T>(text: &str) -> Result<T, Raise> {
    Err(Raise::Object(format!("ERR {text}")))
}

/// A name as text; what is no UTF-8 is no name either.
fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn positional(lua: Lua) -> Result<FunctionInfo, Raise> {
    let Some(given) = lua.bytes(1) else {
        return refuse("first argument to redis.register_function must be a string");
    };
    if lua.kind(2) != ffi::TFUNCTION {
        return refuse("second argument to redis.register_function must be a function");
    }
    Ok(FunctionInfo {
        name: name(given),
        description: None,
        flags: Flags::default(),
    })
}

/// From a table of named arguments; the callback is left on top.
fn named(lua: Lua) -> Result<FunctionInfo, Raise> {
    if lua.kind(1) != ffi::TTABLE {
        return refuse(
            "calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).",
        );
    }
    let (mut function_name, mut description, mut flags) = (None, None, Flags::default());
    // Slot 2 is the callback's.
    lua.push_nil();
    lua.push_nil();
    while lua.next(1) {
        // A number as key would be changed by a look at its text; and is no argument's name in any case.
        let key = match lua.kind(-2) {
            ffi::TSTRING => lua.bytes(-2).unwrap_or_default().to_ascii_lowercase(),
            ffi::TNUMBER => Vec::new(),
            _ => {
                return refuse(
                    "named argument key given to redis.register_function is not a string",
                );
            }
        };
        match key.as_slice() {
            b"function_name" => match lua.bytes(-1) {
                Some(given) => function_name = Some(name(given)),
                None => {
                    return refuse(
                        "function_name argument given to redis.register_function must be a string",
                    );
                }
            },
            b"description" => match lua.bytes(-1) {
                Some(given) => description = Some(given.to_vec()),
                None => {
                    return refuse(
                        "description argument given to redis.register_function must be a string",
                    );
                }
            },
            b"callback" => {
                if lua.kind(-1) != ffi::TFUNCTION {
                    return refuse(
                        "callback argument given to redis.register_function must be a function",
                    );
                }
                lua.push_value(-1);
                lua.replace(2);
            }
            b"flags" => {
                if lua.kind(-1) != ffi::TTABLE {
                    return refuse(
                        "flags argument to redis.register_function must be a table representing function flags",
                    );
                }
                flags = read_flags(lua)?;
            }
            _ => return refuse("unknown argument given to redis.register_function"),
        }
        lua.pop(1);
    }
    let Some(name) = function_name else {
        return refuse("redis.register_function must get a function name argument");
    };
    if lua.kind(2) != ffi::TFUNCTION {
        return refuse("redis.register_function must get a callback argument");
    }
    lua.set_top(2);
    Ok(FunctionInfo {
        name,
        description,
        flags,
    })
}

/// The flags in the array on top.
fn read_flags(lua: Lua) -> Result<Flags, Raise> {
    let mut flags = Flags::default();
    for i in 1.. {
        lua.raw_get_index(-1, i);
        if lua.kind(-1) == ffi::TNIL {
            lua.pop(1);
            break;
        }
        let known = lua
            .bytes(-1)
            .is_some_and(|name| flags.set(&name.to_ascii_lowercase()));
        if !known {
            return refuse("unknown flag given");
        }
        lua.pop(1);
    }
    Ok(flags)
}
