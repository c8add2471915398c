//! A thin layer over a Lua state: slices instead of pointers, `Option` instead of null, and the one way to raise an error.
//!
//! Rule of this crate: a [`Lua`] exists only inside a call that Lua made (or that the [`crate::Vm`] makes on its own
//! state), so its state is alive; and whoever pushes keeps within 20 slots or asks [`Lua::room`] first. That makes the
//! methods safe to use within the crate. LuaJIT's own checks of stack and indices (`LUA_USE_APICHECK`) hold the rule in
//! a debugging build of it.

use crate::debugger::Session;
use crate::ffi;
use std::ffi::{CStr, CString, c_int};

/// A running Lua thread.
#[derive(Clone, Copy)]
pub(crate) struct Lua(pub(crate) *mut ffi::State);

/// Why a function written in Rust gives up. Returned up to [`call`], where nothing of Rust's is left to drop, and
/// raised there.
pub(crate) enum Raise {
    /// The error value is on top of the stack.
    Top,
    /// A text, preceded by the place of the Lua code that called, as `luaL_error` has it.
    Text(String),
    /// A text as it is.
    Plain(String),
    /// A wrong argument.
    Argument(c_int, String),
    /// What a script builds is larger than it may be.
    Memory,
    /// An error object with the text in the field `err`, as errors of `redis.call` are.
    Object(String),
}

pub(crate) type Returns = Result<c_int, Raise>;

/// Defines the C function `$name` around the Rust function `$body: fn(Lua) -> Returns`.
macro_rules! lua_function {
    ($(#[$doc:meta])* $name:ident = $body:path) => {
        $(#[$doc])*
        pub(crate) unsafe extern "C-unwind" fn $name(l: *mut $crate::ffi::State) -> std::ffi::c_int {
            $crate::state::call($crate::state::Lua(l), $body)
        }
    };
}
pub(crate) use lua_function;

#[inline(always)]
pub(crate) fn call(lua: Lua, body: impl FnOnce(Lua) -> Returns) -> c_int {
    match body(lua) {
        Ok(results) => results,
        Err(raise) => lua.raise(raise),
    }
}

impl Lua {
    #[cold]
    fn raise(self, raise: Raise) -> c_int {
        match raise {
            Raise::Top => {}
            Raise::Text(text) => {
                self.where_(1);
                self.push_bytes(text.as_bytes());
                // Joined here and not by lua_concat, which would look at metatables.
                let mut whole = self.bytes(-2).unwrap_or_default().to_vec();
                whole.extend_from_slice(text.as_bytes());
                self.push_bytes(&whole);
            }
            Raise::Memory => self.push_bytes(b"not enough memory"),
            Raise::Plain(text) => self.push_bytes(text.as_bytes()),
            Raise::Argument(n, text) => {
                let text = CString::new(text).unwrap_or_default();
                // SAFETY: a live state (see the module) and a terminated text. It raises; `text` is dropped as the
                // error unwinds through this frame.
                unsafe { ffi::luaL_argerror(self.0, n, text.as_ptr()) };
            }
            Raise::Object(text) => {
                if let Some(session) = Session::of(self) {
                    session.failed(text.as_bytes());
                }
                self.push_error_object(&text);
            }
        }
        // SAFETY: a live state with the error value on top. All of Rust's values were moved into the arms and dropped.
        unsafe { ffi::lua_error(self.0) }
    }

    /// An error object: `{err = text}`.
    pub(crate) fn push_error_object(self, text: &str) {
        self.new_table(0, 1);
        self.push_bytes(b"err");
        self.push_bytes(text.as_bytes());
        self.raw_set(-3);
    }

    #[inline]
    pub(crate) fn top(self) -> c_int {
        // SAFETY: a live state, see the module. So in every method below.
        unsafe { ffi::lua_gettop(self.0) }
    }
    #[inline]
    pub(crate) fn set_top(self, index: c_int) {
        // SAFETY: as above; callers lower the top or ask for slots within their room.
        unsafe { ffi::lua_settop(self.0, index) }
    }
    #[inline]
    pub(crate) fn pop(self, count: c_int) {
        self.set_top(-count - 1);
    }
    /// Makes room for `extra` more values; false where Lua's stack would become too large.
    #[inline]
    pub(crate) fn room(self, extra: c_int) -> bool {
        // SAFETY: as above.
        unsafe { ffi::lua_checkstack(self.0, extra) != 0 }
    }
    #[inline]
    pub(crate) fn push_value(self, index: c_int) {
        // SAFETY: as above.
        unsafe { ffi::lua_pushvalue(self.0, index) }
    }
    pub(crate) fn insert(self, index: c_int) {
        // SAFETY: as above.
        unsafe { ffi::lua_insert(self.0, index) }
    }
    pub(crate) fn replace(self, index: c_int) {
        // SAFETY: as above.
        unsafe { ffi::lua_replace(self.0, index) }
    }
    #[inline]
    pub(crate) fn kind(self, index: c_int) -> c_int {
        // SAFETY: as above; an index beyond the top gives TNONE.
        unsafe { ffi::lua_type(self.0, index) }
    }
    pub(crate) fn kind_name(self, kind: c_int) -> &'static str {
        // SAFETY: as above; the names are constants of LuaJIT, in ASCII.
        let name = unsafe { CStr::from_ptr(ffi::lua_typename(self.0, kind)) };
        name.to_str().unwrap_or_default()
    }
    /// The bytes of a string, or of a number, which becomes a string in place. They live while the value is on the
    /// stack; the caller sees to that.
    #[inline]
    pub(crate) fn bytes<'a>(self, index: c_int) -> Option<&'a [u8]> {
        let mut len = 0;
        // SAFETY: as above; Lua gives null or `len` bytes that live as long as the string is reachable.
        unsafe {
            let at = ffi::lua_tolstring(self.0, index, &mut len);
            (!at.is_null()).then(|| std::slice::from_raw_parts(at.cast(), len))
        }
    }
    /// The bytes of a string argument, or Lua's error about it.
    pub(crate) fn check_bytes<'a>(self, arg: c_int) -> &'a [u8] {
        let mut len = 0;
        // SAFETY: as above; where there is no string it raises, which drops what callers hold (see `ffi.rs`).
        unsafe {
            let at = ffi::luaL_checklstring(self.0, arg, &mut len);
            std::slice::from_raw_parts(at.cast(), len)
        }
    }
    pub(crate) fn check_number(self, arg: c_int) -> f64 {
        // SAFETY: as for `check_bytes`.
        unsafe { ffi::luaL_checknumber(self.0, arg) }
    }
    /// An `int` argument as C converts it.
    pub(crate) fn check_int(self, arg: c_int) -> i32 {
        self.check_number(arg) as i64 as i32
    }
    #[inline]
    pub(crate) fn number(self, index: c_int) -> f64 {
        // SAFETY: as above.
        unsafe { ffi::lua_tonumber(self.0, index) }
    }
    pub(crate) fn is_number(self, index: c_int) -> bool {
        // SAFETY: as above.
        unsafe { ffi::lua_isnumber(self.0, index) != 0 }
    }
    #[inline]
    pub(crate) fn boolean(self, index: c_int) -> bool {
        // SAFETY: as above.
        unsafe { ffi::lua_toboolean(self.0, index) != 0 }
    }
    pub(crate) fn user_data(self, index: c_int) -> *mut std::ffi::c_void {
        // SAFETY: as above.
        unsafe { ffi::lua_touserdata(self.0, index) }
    }
    pub(crate) fn pointer(self, index: c_int) -> *const std::ffi::c_void {
        // SAFETY: as above.
        unsafe { ffi::lua_topointer(self.0, index) }
    }
    /// Replaces the key on top by the table's value, which metatables may give.
    pub(crate) fn get_table(self, table: c_int) {
        // SAFETY: as for `raw_get`.
        unsafe { ffi::lua_gettable(self.0, table) }
    }
    #[inline]
    pub(crate) fn push_nil(self) {
        // SAFETY: as above.
        unsafe { ffi::lua_pushnil(self.0) }
    }
    #[inline]
    pub(crate) fn push_boolean(self, b: bool) {
        // SAFETY: as above.
        unsafe { ffi::lua_pushboolean(self.0, b.into()) }
    }
    #[inline]
    pub(crate) fn push_number(self, n: f64) {
        // SAFETY: as above.
        unsafe { ffi::lua_pushnumber(self.0, n) }
    }
    /// A string. Raises where memory is out, as everything that makes a value does.
    #[inline]
    pub(crate) fn push_bytes(self, bytes: &[u8]) {
        // SAFETY: as above; Lua copies the bytes.
        unsafe { ffi::lua_pushlstring(self.0, bytes.as_ptr().cast(), bytes.len()) }
    }
    pub(crate) fn push_function(self, f: ffi::Function) {
        // SAFETY: as above.
        unsafe { ffi::lua_pushcclosure(self.0, f, 0) }
    }
    pub(crate) fn push_null(self) {
        // SAFETY: as above.
        unsafe { ffi::lua_pushlightuserdata(self.0, std::ptr::null_mut()) }
    }
    #[inline]
    pub(crate) fn new_table(self, array: usize, hash: usize) {
        // A hint only, so a wrong one for absurd sizes is harmless.
        let hint = |n: usize| n.min(1 << 20) as c_int;
        // SAFETY: as above.
        unsafe { ffi::lua_createtable(self.0, hint(array), hint(hash)) }
    }
    #[inline]
    pub(crate) fn raw_get(self, table: c_int) {
        // SAFETY: as above; the callers know that a table is there. So for the next ones.
        unsafe { ffi::lua_rawget(self.0, table) }
    }
    #[inline]
    pub(crate) fn raw_get_index(self, table: c_int, n: c_int) {
        // SAFETY: as above.
        unsafe { ffi::lua_rawgeti(self.0, table, n) }
    }
    #[inline]
    pub(crate) fn raw_set(self, table: c_int) {
        // SAFETY: as above.
        unsafe { ffi::lua_rawset(self.0, table) }
    }
    #[inline]
    pub(crate) fn raw_set_index(self, table: c_int, n: c_int) {
        // SAFETY: as above.
        unsafe { ffi::lua_rawseti(self.0, table, n) }
    }
    /// `table[key] = top`, which is popped.
    pub(crate) fn set_field(self, table: c_int, key: &CStr) {
        // SAFETY: as above.
        unsafe { ffi::lua_setfield(self.0, table, key.as_ptr()) }
    }
    /// Pops a key and pushes the next pair; false at the end.
    pub(crate) fn next(self, table: c_int) -> bool {
        // SAFETY: as above.
        unsafe { ffi::lua_next(self.0, table) != 0 }
    }
    pub(crate) fn len(self, index: c_int) -> usize {
        // SAFETY: as above.
        unsafe { ffi::lua_objlen(self.0, index) }
    }
    pub(crate) fn collect(self, what: c_int, data: c_int) -> c_int {
        // SAFETY: as above.
        unsafe { ffi::lua_gc(self.0, what, data) }
    }
    /// Pushes `source:line: ` of the function at `level`, or an empty string.
    pub(crate) fn where_(self, level: c_int) {
        // SAFETY: as above.
        unsafe { ffi::luaL_where(self.0, level) }
    }
    /// Compiles a chunk of text (never bytecode). False leaves the error's text instead of the function.
    pub(crate) fn load(self, text: &[u8], name: &CStr) -> bool {
        // SAFETY: as above.
        let status = unsafe {
            ffi::luaL_loadbufferx(
                self.0,
                text.as_ptr().cast(),
                text.len(),
                name.as_ptr(),
                c"t".as_ptr(),
            )
        };
        status == 0
    }
    /// Calls what lies below `args` arguments. The status is Lua's.
    pub(crate) fn pcall(self, args: c_int, results: c_int, handler: c_int) -> c_int {
        // SAFETY: as above.
        unsafe { ffi::lua_pcall(self.0, args, results, handler) }
    }
}
