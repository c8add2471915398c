//! What a Vm's C functions can reach: found through the allocator's data pointer, which every Lua thread shares.

use crate::Host;
use crate::budget::Budget;
use crate::cjson::Settings;
use crate::debugger::Session;
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
use std::sync::Arc;

/// Lives in a box of its own, at one address for the Vm's life. C functions reach it through [`Shared::of`]; no
/// reference to it is kept across a call into Lua or into the host.
pub(crate) struct Shared {
    /// Bytes that Lua holds.
    pub(crate) used: usize,
    /// What it has taken of the budget: it holds no more than that.
    pub(crate) taken: usize,
    pub(crate) budget: Arc<Budget>,
    /// Lua runs a script, which can fail where memory is out.
    pub(crate) may_fail: bool,
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
    /// The running script is debugged.
    pub(crate) debugger: Option<Session>,
    /// A panic of the host. It waits here until no frame of Lua is left, and goes on then.
    pub(crate) panic: Option<Box<dyn Any + Send>>,
}

impl Shared {
    pub(crate) fn new(random: u64) -> Box<Self> {
        Box::new(Self {
            used: 0,
            taken: 0,
            budget: Arc::default(),
            may_fail: false,
            host: None,
            version: Version::Resp2,
            reply: Vec::new(),
            random: Random::new(random),
            json: Settings::default(),
            watch: None,
            killed: false,
            registered: None,
            debugger: None,
            panic: None,
        })
    }

    /// Bytes that a script may still ask for: what is built outside of Lua's heap must stay below.
    pub(crate) fn room(lua: Lua) -> usize {
        let shared = Self::of(lua);
        // SAFETY: the Vm's shared state; no reference stays.
        unsafe {
            let own = (*shared).taken.saturating_sub((*shared).used);
            own.saturating_add((*shared).budget.left())
        }
    }

    /// Takes more of the budget, so that Lua may hold `bytes`; false where it may not.
    #[cold]
    fn take(&mut self, bytes: usize) -> bool {
        let got = self.budget.take(bytes - self.taken, !self.may_fail);
        self.taken += got.unwrap_or(0);
        got.is_some()
    }

    /// Gives back what Lua does not hold.
    pub(crate) fn give_back(&mut self) {
        self.budget.give_back(self.taken - self.used);
        self.taken = self.used;
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

/// Lua's allocator: counts, and refuses what the budget does not have, which Lua reports as "not enough memory".
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
        if new > old {
            let bytes = (*shared).used + (new - old);
            if bytes > (*shared).taken && !(*shared).take(bytes) {
                return std::ptr::null_mut();
            }
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
