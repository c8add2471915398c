//! The part of Lua 5.1's C interface, as LuaJIT offers it, that this crate uses.
//!
//! `C-unwind`: an error raised by Lua unwinds through Rust frames as a foreign exception (LuaJIT is built with external
//! unwinding), and runs their destructors; it is never caught in Rust.

use std::ffi::{c_char, c_int, c_void};

#[repr(C)]
pub struct State {
    _opaque: [u8; 0],
}

pub type Alloc =
    unsafe extern "C" fn(data: *mut c_void, at: *mut c_void, old: usize, new: usize) -> *mut c_void;
pub type Function = unsafe extern "C-unwind" fn(*mut State) -> c_int;
pub type Hook = unsafe extern "C-unwind" fn(*mut State, *mut Debug);

/// What `lua_getinfo` fills in.
#[repr(C)]
pub struct Debug {
    pub event: c_int,
    pub name: *const c_char,
    pub namewhat: *const c_char,
    pub what: *const c_char,
    pub source: *const c_char,
    pub currentline: c_int,
    pub nups: c_int,
    pub linedefined: c_int,
    pub lastlinedefined: c_int,
    pub short_src: [c_char; 60],
    pub i_ci: c_int,
}

pub const REGISTRY: c_int = -10000;
pub const GLOBALS: c_int = -10002;

pub const TNONE: c_int = -1;
pub const TNIL: c_int = 0;
pub const TBOOLEAN: c_int = 1;
pub const TLIGHTUSERDATA: c_int = 2;
pub const TNUMBER: c_int = 3;
pub const TSTRING: c_int = 4;
pub const TTABLE: c_int = 5;
pub const TFUNCTION: c_int = 6;

pub const ERRMEM: c_int = 4;

pub const GC_COLLECT: c_int = 2;
pub const GC_COUNT: c_int = 3;
pub const GC_COUNTB: c_int = 4;
pub const GC_STEP: c_int = 5;

/// The whole engine: throw all compiled code away.
pub const MODE_FLUSH: c_int = 0x0200;

/// The whole engine: compile nothing, or what is worth it.
pub const MODE_ENGINE_OFF: c_int = 0;
pub const MODE_ENGINE_ON: c_int = 0x0100;

pub const HOOK_COUNT: c_int = 3;
pub const MASK_LINE: c_int = 4;
pub const MASK_COUNT: c_int = 8;

unsafe extern "C-unwind" {
    pub fn lua_newstate(alloc: Alloc, data: *mut c_void) -> *mut State;
    pub fn lua_close(l: *mut State);
    pub fn lua_getallocf(l: *mut State, data: *mut *mut c_void) -> Alloc;

    pub fn lua_gettop(l: *mut State) -> c_int;
    pub fn lua_settop(l: *mut State, index: c_int);
    pub fn lua_pushvalue(l: *mut State, index: c_int);
    pub fn lua_remove(l: *mut State, index: c_int);
    pub fn lua_insert(l: *mut State, index: c_int);
    pub fn lua_replace(l: *mut State, index: c_int);
    pub fn lua_checkstack(l: *mut State, extra: c_int) -> c_int;

    pub fn lua_type(l: *mut State, index: c_int) -> c_int;
    pub fn lua_typename(l: *mut State, kind: c_int) -> *const c_char;
    pub fn lua_isnumber(l: *mut State, index: c_int) -> c_int;
    pub fn lua_tonumber(l: *mut State, index: c_int) -> f64;
    pub fn lua_toboolean(l: *mut State, index: c_int) -> c_int;
    pub fn lua_tolstring(l: *mut State, index: c_int, len: *mut usize) -> *const c_char;
    pub fn lua_objlen(l: *mut State, index: c_int) -> usize;
    pub fn lua_touserdata(l: *mut State, index: c_int) -> *mut c_void;

    pub fn lua_pushnil(l: *mut State);
    pub fn lua_pushnumber(l: *mut State, n: f64);
    pub fn lua_pushlstring(l: *mut State, s: *const c_char, len: usize);
    pub fn lua_pushcclosure(l: *mut State, f: Function, upvalues: c_int);
    pub fn lua_pushboolean(l: *mut State, b: c_int);
    pub fn lua_pushlightuserdata(l: *mut State, p: *mut c_void);

    pub fn lua_rawget(l: *mut State, index: c_int);
    pub fn lua_rawgeti(l: *mut State, index: c_int, n: c_int);
    pub fn lua_createtable(l: *mut State, array: c_int, hash: c_int);
    pub fn lua_setfield(l: *mut State, index: c_int, key: *const c_char);
    pub fn lua_rawset(l: *mut State, index: c_int);
    pub fn lua_rawseti(l: *mut State, index: c_int, n: c_int);

    pub fn lua_setfenv(l: *mut State, index: c_int) -> c_int;

    pub fn lua_pcall(l: *mut State, args: c_int, results: c_int, handler: c_int) -> c_int;
    pub fn lua_error(l: *mut State) -> c_int;
    pub fn lua_next(l: *mut State, index: c_int) -> c_int;
    pub fn lua_gc(l: *mut State, what: c_int, data: c_int) -> c_int;

    pub fn lua_getstack(l: *mut State, level: c_int, ar: *mut Debug) -> c_int;
    pub fn lua_getinfo(l: *mut State, what: *const c_char, ar: *mut Debug) -> c_int;
    pub fn lua_getlocal(l: *mut State, ar: *const Debug, n: c_int) -> *const c_char;
    pub fn lua_topointer(l: *mut State, index: c_int) -> *const c_void;
    pub fn lua_gettable(l: *mut State, index: c_int);
    pub fn lua_sethook(l: *mut State, f: Option<Hook>, mask: c_int, count: c_int) -> c_int;

    pub fn luaJIT_setmode(l: *mut State, index: c_int, mode: c_int) -> c_int;

    pub fn luaL_loadbufferx(
        l: *mut State,
        text: *const c_char,
        len: usize,
        name: *const c_char,
        mode: *const c_char,
    ) -> c_int;
    pub fn luaL_where(l: *mut State, level: c_int);
    pub fn luaL_argerror(l: *mut State, arg: c_int, message: *const c_char) -> c_int;
    pub fn luaL_checklstring(l: *mut State, arg: c_int, len: *mut usize) -> *const c_char;
    pub fn luaL_checknumber(l: *mut State, arg: c_int) -> f64;
    pub fn luaL_ref(l: *mut State, table: c_int) -> c_int;
    pub fn luaL_unref(l: *mut State, table: c_int, reference: c_int);

    pub fn luaopen_base(l: *mut State) -> c_int;
    pub fn luaopen_table(l: *mut State) -> c_int;
    pub fn luaopen_string(l: *mut State) -> c_int;
    pub fn luaopen_math(l: *mut State) -> c_int;
    pub fn luaopen_os(l: *mut State) -> c_int;
    pub fn luaopen_bit(l: *mut State) -> c_int;
    pub fn luaopen_jit(l: *mut State) -> c_int;
}
