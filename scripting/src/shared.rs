//! What a Vm's C functions can reach: found through the allocator's data pointer, which every Lua thread shares.

use crate::Host;
use crate::cjson::Settings;
use crate::ffi;
use crate::random::Random;
use crate::register::Registered;
use crate::state::Lua;
use crate::watchdog::Registration;
use ringwood_protocol::reply::Version;
use std::alloc::Layout;
use std::any::Any;
use std::ffi::c_void;
use std::ptr::NonNull;

/// Lives in a box of its own, at one address for the Vm's life. C functions reach it through [`Shared::of`]; no
/// reference to it is kept across a call into Lua or into the host.
pub(crate) struct Shared {
    /// Bytes that Lua holds.
    pub(crate) used: usize,
    /// What it may hold while a script runs.
    pub(crate) limit: usize,
    /// Set while a script runs. The lifetime is erased: `Running` clears it before the borrow ends.
    pub(crate) host: Option<NonNull<dyn Host>>,
    /// `redis.setresp`.
    pub(crate) version: Version,
    /// The buffer of command replies, kept for its capacity.
    pub(crate) reply: Vec<u8>,
    pub(crate) random: Random,
    pub(crate) json: Settings,
    /// Set while a script runs that is watched. Cleared like `host`.
    pub(crate) watch: Option<NonNull<Registration>>,
    /// The running script shall end.
    pub(crate) killed: bool,
    /// What the library that is being loaded has registered; none at other times.
    pub(crate) registered: Option<Registered>,
    /// A panic of the host. It waits here until no frame of Lua is left, and goes on then.
    pub(crate) panic: Option<Box<dyn Any + Send>>,
}

impl Shared {
    pub(crate) fn new(random: u64) -> Box<Self> {
        Box::new(Self {
            used: 0,
            limit: usize::MAX,
            host: None,
            version: Version::Resp2,
            reply: Vec::new(),
            random: Random::new(random),
            json: Settings::default(),
            watch: None,
            killed: false,
            registered: None,
            panic: None,
        })
    }

    /// The Vm's shared state.
    #[inline]
    pub(crate) fn of(lua: Lua) -> *mut Shared {
        let mut data: *mut c_void = std::ptr::null_mut();
        // SAFETY: a live state (see `state.rs`).
        unsafe { ffi::lua_getallocf(lua.0, &mut data) };
        data.cast()
    }
}

/// Everything that Lua holds is asked for here. Lua aligns to 16 at most.
const ALIGN: usize = 16;

/// Lua's allocator: counts, and refuses above the limit, which Lua reports as "not enough memory".
pub(crate) unsafe extern "C" fn allocate(
    data: *mut c_void,
    at: *mut c_void,
    old: usize,
    new: usize,
) -> *mut c_void {
    let shared: *mut Shared = data.cast();
    let layout = |size| {
        // SAFETY: sizes come from Lua, far below isize::MAX; 16 is a power of two.
        unsafe { Layout::from_size_align_unchecked(size, ALIGN) }
    };
    // SAFETY: Lua passes back what it got from here with its size; `data` is the Vm's `Shared`, which outlives the state,
    // and no reference to it is alive while Lua runs.
    unsafe {
        let old = if at.is_null() { 0 } else { old };
        if new == 0 {
            if old != 0 {
                std::alloc::dealloc(at.cast(), layout(old));
                (*shared).used -= old;
            }
            return std::ptr::null_mut();
        }
        if new > old && (*shared).used + (new - old) > (*shared).limit {
            return std::ptr::null_mut();
        }
        let got = if old == 0 {
            std::alloc::alloc(layout(new))
        } else {
            std::alloc::realloc(at.cast(), layout(old), new)
        };
        if !got.is_null() {
            (*shared).used = (*shared).used - old + new;
        }
        got.cast()
    }
}
