//! The Lua machine of one core.

use crate::budget::Budget;
use crate::cache::{Script, Sha};
use crate::convert::{self, Versions as ReplyVersions};
use crate::debugger::{self, Session};
use crate::error::{self, ScriptError};
use crate::ffi;
use crate::register::Registered;
use crate::shared::{Shared, allocate};
use crate::state::{Lua, Raise};
use crate::watchdog::{Registration, WatchdogHandle};
use crate::{
    Host, Interrupt, Versions, cjson, cmsgpack, native, random, redis, register, structure,
};
use ringwood_protocol::lossless;
use ringwood_protocol::reply::Version;
use std::collections::HashMap;
use std::ffi::{CStr, c_int};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

/// Slots of the main thread's stack that hold what every run needs, so that nothing is looked up by name.
mod slot {
    use std::ffi::c_int;
    /// The plain table behind the scripts' globals.
    pub const GLOBALS: c_int = 1;
    pub const HANDLER: c_int = 2;
    pub const KEYS: c_int = 3;
    pub const ARGV: c_int = 4;
    /// Compiled scripts, by number.
    pub const COMPILED: c_int = 5;
    /// The environment of libraries, its metatable, and what its `__index` is while a library is loaded and later.
    pub const LIBRARIES: c_int = 6;
    pub const LIBRARY_META: c_int = 7;
    pub const WHILE_LOADING: c_int = 8;
    pub const WHEN_LOADED: c_int = 9;
    pub const COUNT: c_int = 9;
}

/// A library's function in Lua's registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FunctionRef(pub(crate) c_int);

/// A Lua machine with Redis's environment. It stays on its thread.
pub struct Vm {
    lua: Lua,
    shared: NonNull<Shared>,
    /// Where in `slot::COMPILED` a script's function is.
    compiled: HashMap<Sha, c_int, foldhash::quality::RandomState>,
    /// What Lua held when all garbage was collected last.
    kept: usize,
    watch: Option<Registration>,
    _stays: PhantomData<*mut ()>,
}

impl Vm {
    /// `random` is where `math.random` starts; it should differ from core to core.
    pub fn new(versions: &Versions, random: u64) -> Result<Self, String> {
        let shared = NonNull::from(Box::leak(Shared::new(random)));
        // SAFETY: the allocator's data outlives the state: `drop` closes the state first.
        let state = unsafe { ffi::lua_newstate(allocate, shared.as_ptr().cast()) };
        if state.is_null() {
            // SAFETY: it was just leaked from a box, and nobody else has it.
            drop(unsafe { Box::from_raw(shared.as_ptr()) });
            return Err("not enough memory for Lua".to_string());
        }
        let vm = Self {
            lua: Lua(state),
            shared,
            compiled: HashMap::default(),
            kept: 0,
            watch: None,
            _stays: PhantomData,
        };
        vm.prepare(versions)?;
        Ok(vm)
    }

    /// Opens the libraries and runs the prelude.
    fn prepare(&self, versions: &Versions) -> Result<(), String> {
        let lua = self.lua;
        let libraries: [(&CStr, ffi::Function); 7] = [
            (c"", ffi::luaopen_base),
            (c"table", ffi::luaopen_table),
            (c"string", ffi::luaopen_string),
            (c"math", ffi::luaopen_math),
            (c"os", ffi::luaopen_os),
            (c"bit", ffi::luaopen_bit),
            // Without it the compiler stays off. Scripts never see its table.
            (c"jit", ffi::luaopen_jit),
        ];
        for (name, open) in libraries {
            lua.push_function(open);
            lua.push_bytes(name.to_bytes());
            self.checked(lua.pcall(1, 0, 0))?;
        }
        if !lua.load(include_bytes!("prelude.lua"), error::PRELUDE) {
            return Err(self.message());
        }
        lua.push_value(ffi::GLOBALS);
        lua.new_table(0, 8);
        let natives: [(&CStr, ffi::Function); 8] = [
            (c"bad_argument", native::bad_argument),
            (c"loadstring", native::loadstring),
            (c"collectgarbage", native::collectgarbage),
            (c"error_handler", error::error_handler),
            (c"killed", native::killed),
            (c"register_function", register::register_function),
            (c"random", random::random),
            (c"randomseed", random::seed),
        ];
        for (name, function) in natives {
            lua.push_function(function);
            lua.set_field(-2, name);
        }
        lua.new_table(0, 4);
        redis::push_module(lua, versions);
        lua.set_field(-2, c"redis");
        cjson::push_module(lua);
        lua.set_field(-2, c"cjson");
        cmsgpack::push_module(lua);
        lua.set_field(-2, c"cmsgpack");
        structure::push_module(lua);
        lua.set_field(-2, c"struct");
        self.checked(lua.pcall(3, 6, 0))?;

        // Whatever is compiled from now on, by `load` too, sees the environment of scripts.
        lua.push_value(1);
        lua.replace(ffi::GLOBALS);
        // The prelude's results but the first lie where they belong when four more are between them.
        lua.push_function(error::error_handler);
        lua.insert(3);
        lua.push_bytes(b"KEYS");
        lua.insert(4);
        lua.push_bytes(b"ARGV");
        lua.insert(5);
        lua.new_table(0, 0);
        lua.insert(6);
        self.remove_first();
        for name in [slot::KEYS, slot::ARGV] {
            lua.push_value(name);
            lua.new_table(0, 0);
            lua.raw_set(slot::GLOBALS);
        }
        debug_assert_eq!(lua.top(), slot::COUNT);
        Ok(())
    }

    fn remove_first(&self) {
        // SAFETY: a live state with something on its stack.
        unsafe { ffi::lua_remove(self.lua.0, 1) }
    }

    fn checked(&self, status: c_int) -> Result<(), String> {
        if status == 0 {
            Ok(())
        } else {
            Err(self.message())
        }
    }

    /// Pops an error's text.
    fn message(&self) -> String {
        let text = self.lua.bytes(-1).unwrap_or(b"unknown error");
        let text = lossless::text(error::until_nul(text)).into_owned();
        self.lua.pop(1);
        text
    }

    /// Bytes that Lua holds now.
    pub fn used_memory(&self) -> usize {
        // SAFETY: alive as long as the Vm; only this thread touches it.
        unsafe { (*self.shared.as_ptr()).used }
    }

    /// From now on scripts fail with "not enough memory" when all Vms of this budget together would hold more.
    pub fn share_budget(&mut self, budget: &Arc<Budget>) {
        // SAFETY: alive as long as the Vm; only this thread touches it, and Lua does not run.
        let shared = unsafe { &mut *self.shared.as_ptr() };
        shared.budget.give_back(shared.taken);
        shared.budget = budget.clone();
        // In any case: no script is there to fail.
        shared.taken = budget.take(shared.used, true).unwrap_or(0);
    }

    /// From now on scripts that run long are interrupted ([`Host::interrupt`]). Call it on the thread that runs them.
    pub fn watch(&mut self, watchdog: &WatchdogHandle) {
        self.watch = Some(Registration::new(watchdog));
    }

    /// How many scripts are compiled.
    pub fn compiled(&self) -> usize {
        self.compiled.len()
    }

    /// Compiles a script, unless that was done. The error is the text of a reply.
    pub fn compile(&mut self, script: &Script) -> Result<(), String> {
        self.function(script).map(|_| ())
    }

    fn function(&mut self, script: &Script) -> Result<c_int, String> {
        if let Some(&number) = self.compiled.get(&script.sha) {
            return Ok(number);
        }
        let lua = self.lua;
        if !lua.load(script.text(), c"@user_script") {
            return Err(format!(
                "ERR Error compiling script (new function): {}",
                self.message()
            ));
        }
        // SAFETY: a live state; the table is in its slot.
        let number = unsafe { ffi::luaL_ref(lua.0, slot::COMPILED) };
        self.compiled.insert(script.sha, number);
        Ok(number)
    }

    /// Forgets one compiled script.
    pub fn forget(&mut self, sha: &Sha) {
        if let Some(number) = self.compiled.remove(sha) {
            // SAFETY: as in `function`.
            unsafe { ffi::luaL_unref(self.lua.0, slot::COMPILED, number) };
        }
    }

    /// Forgets all compiled scripts.
    pub fn flush(&mut self) {
        self.compiled.clear();
        self.lua.new_table(0, 0);
        self.lua.replace(slot::COMPILED);
        self.collect();
    }

    /// Runs a script and writes its reply in the client's version of the protocol. Returns what an error was, for
    /// statistics; the reply holds it already.
    pub fn run<K: AsRef<[u8]>, A: AsRef<[u8]>>(
        &mut self,
        script: &Script,
        keys: &[K],
        args: &[A],
        client: Version,
        host: &mut dyn Host,
        out: &mut Vec<u8>,
    ) -> Result<(), ScriptError> {
        let number = match self.function(script) {
            Ok(number) => number,
            Err(text) => {
                error::write_message(text.as_bytes(), out);
                return Err(ScriptError {
                    code: "ERR".to_string(),
                    counted: false,
                });
            }
        };
        let lua = self.lua;
        self.set_global_array(slot::KEYS, keys);
        self.set_global_array(slot::ARGV, args);
        lua.raw_get_index(slot::COMPILED, number);
        let status = self.protected(0, host);
        self.finish(status, client, || script.sha.hex(), out)
    }

    /// Runs a script under the debugger, which tells the console of the end before the reply is in `out`. The Vm should be no
    /// other script's: it is slower afterwards, and what the user evaluates may leave traces.
    #[allow(clippy::too_many_arguments)]
    pub fn debug<K: AsRef<[u8]>, A: AsRef<[u8]>>(
        &mut self,
        script: &Script,
        keys: &[K],
        args: &[A],
        client: Version,
        host: &mut dyn Host,
        console: Box<dyn debugger::Console>,
        rules: debugger::Rules,
        out: &mut Vec<u8>,
    ) -> Result<(), ScriptError> {
        let session = Session::new(&script.body, console, rules);
        session.attach(self.lua);
        let result = self.run(script, keys, args, client, host, out);
        session.detach(self.lua);
        session.end();
        result
    }

    /// Runs a library's text, for the functions that it registers. The error is the text of a reply.
    pub(crate) fn load_library(
        &mut self,
        text: &[u8],
        host: &mut dyn Host,
    ) -> Result<Registered, String> {
        let lua = self.lua;
        if !lua.load(text, c"@user_function") {
            return Err(format!("ERR Error compiling function: {}", self.message()));
        }
        lua.push_value(slot::LIBRARIES);
        // SAFETY: a live state with the function below its new environment.
        unsafe { ffi::lua_setfenv(lua.0, -2) };
        self.show_libraries(slot::WHILE_LOADING);
        // SAFETY: as in `protected`.
        unsafe { (*self.shared.as_ptr()).registered = Some(Vec::new()) };
        let status = self.protected(0, host);
        self.show_libraries(slot::WHEN_LOADED);
        // SAFETY: as in `protected`.
        let registered = unsafe { (*self.shared.as_ptr()).registered.take() }.unwrap_or_default();
        let result = if status == 0 {
            Ok(registered)
        } else {
            self.release(registered.iter().map(|(_, function)| *function));
            Err(format!(
                "ERR Error registering functions: {}",
                lossless::text(&error::text(lua))
            ))
        };
        lua.set_top(slot::COUNT);
        result
    }

    /// Sets what the libraries' environment reads from.
    fn show_libraries(&self, what: c_int) {
        self.lua.push_bytes(b"__index");
        self.lua.push_value(what);
        self.lua.raw_set(slot::LIBRARY_META);
    }

    /// Lets go of functions that nobody will call again.
    pub(crate) fn release(&mut self, functions: impl IntoIterator<Item = FunctionRef>) {
        for function in functions {
            // SAFETY: a live state; the reference came from `luaL_ref` and is given up once.
            unsafe { ffi::luaL_unref(self.lua.0, ffi::REGISTRY, function.0) };
        }
    }

    /// Calls a registered function.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn call_ref<K: AsRef<[u8]>, A: AsRef<[u8]>>(
        &mut self,
        function: FunctionRef,
        name: &str,
        keys: &[K],
        args: &[A],
        client: Version,
        host: &mut dyn Host,
        out: &mut Vec<u8>,
    ) -> Result<(), ScriptError> {
        self.lua.raw_get_index(ffi::REGISTRY, function.0);
        self.push_array(keys);
        self.push_array(args);
        let status = self.protected(2, host);
        self.finish(status, client, || name.to_string(), out)
    }

    fn set_global_array<T: AsRef<[u8]>>(&self, name: c_int, items: &[T]) {
        self.lua.push_value(name);
        self.push_array(items);
        self.lua.raw_set(slot::GLOBALS);
    }

    fn push_array<T: AsRef<[u8]>>(&self, items: &[T]) {
        self.lua.new_table(items.len(), 0);
        for (i, item) in items.iter().enumerate() {
            self.lua.push_bytes(item.as_ref());
            self.lua.raw_set_index(-2, i as c_int + 1);
        }
    }

    /// Calls the function below `args` arguments for one result or an error object, with the host in reach.
    fn protected(&mut self, args: c_int, host: &mut dyn Host) -> c_int {
        let shared = self.shared.as_ptr();
        let host: NonNull<dyn Host + '_> = NonNull::from(host);
        // SAFETY: only the lifetime changes. The pointer is cleared below, before the borrow of the host ends; nothing
        // between can leave this function early (Lua's errors end in pcall, panics of the host wait in `Shared::panic`).
        let host: NonNull<dyn Host + 'static> = unsafe { std::mem::transmute(host) };
        // SAFETY: alive as long as the Vm, and only this thread touches it; no reference stays while Lua runs.
        unsafe {
            (*shared).host = Some(host);
            (*shared).version = Version::Resp2;
            (*shared).random.forget_seed();
            (*shared).json.renew();
            (*shared).may_fail = true;
        }
        self.lua.push_value(slot::HANDLER);
        self.lua.insert(-2 - args);
        let handler = self.lua.top() - 1 - args;
        if let Some(watch) = &self.watch {
            // SAFETY: as above; the registration does not move while it is borrowed here.
            unsafe { (*shared).watch = Some(NonNull::from(watch)) };
            watch.begin(self.lua.0);
        }
        let status = self.lua.pcall(args, 1, handler);
        let mut signalled = false;
        if let Some(watch) = &self.watch {
            watch.end();
            signalled = watch.signalled();
        }
        // SAFETY: as above; a hook that was set and not called yet, or that kills, ends here.
        unsafe {
            if (*shared).killed || signalled {
                ffi::lua_sethook(self.lua.0, None, 0, 0);
            }
            (*shared).killed = false;
            (*shared).watch = None;
        }
        // SAFETY: as above.
        let panic = unsafe {
            (*shared).host = None;
            (*shared).may_fail = false;
            (*shared).panic.take()
        };
        if status == ffi::ERRMEM {
            // What the script left must not make the next one fail; compiled code can hold tables too.
            // SAFETY: as above.
            unsafe { ffi::luaJIT_setmode(self.lua.0, 0, ffi::MODE_FLUSH) };
            self.collect();
        }
        if let Some(panic) = panic {
            self.lua.set_top(slot::COUNT);
            std::panic::resume_unwind(panic);
        }
        status
    }

    /// Writes the result or error on top of the stack as the reply.
    fn finish(
        &mut self,
        status: c_int,
        client: Version,
        name: impl FnOnce() -> String,
        out: &mut Vec<u8>,
    ) -> Result<(), ScriptError> {
        let failure = if status == 0 {
            // SAFETY: as in `protected`.
            let script = unsafe { (*self.shared.as_ptr()).version };
            convert::write_value(self.lua, ReplyVersions { client, script }, out)
        } else {
            Some(error::write(self.lua, &name(), out))
        };
        self.lua.set_top(slot::COUNT);
        if self.used_memory() > self.kept.saturating_mul(2).saturating_add(GARBAGE_MAX) {
            self.collect();
        }
        // SAFETY: as in `protected`; Lua does not run.
        unsafe { (*self.shared.as_ptr()).give_back() };
        failure.map_or(Ok(()), Err)
    }

    /// Collects all garbage.
    fn collect(&mut self) {
        self.lua.collect(ffi::GC_COLLECT, 0);
        self.kept = self.used_memory();
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // SAFETY: the state is alive until here and not used again; its last frees reach `shared`, which goes after it.
        unsafe {
            ffi::lua_close(self.lua.0);
            let mut shared = Box::from_raw(self.shared.as_ptr());
            shared.give_back();
        }
    }
}

/// A large script's garbage is collected when it ends, so that the budget has it again; that of small ones waits for Lua's own pace.
const GARBAGE_MAX: usize = 16 << 20;

/// How long a library may take to load.
const LOAD_TIME_MAX: Duration = Duration::from_millis(500);

/// The hook that the watchdog's signal sets.
pub(crate) unsafe extern "C-unwind" fn on_hook(l: *mut ffi::State, _: *mut ffi::Debug) {
    if !interrupted(Lua(l)) {
        crate::state::call(Lua(l), |lua| {
            // SAFETY: the Vm's shared state; no reference stays.
            let loading = unsafe { (*Shared::of(lua)).registered.is_some() };
            let text = if loading {
                "ERR FUNCTION LOAD timeout"
            } else {
                "ERR Script killed by user with SCRIPT KILL..."
            };
            Err(Raise::Object(text.to_string()))
        });
    }
}

/// Ends the running script at its next instruction, and at every one from then on, so that no `pcall` in it keeps it alive.
#[cold]
pub(crate) fn kill(lua: Lua) {
    // SAFETY: the Vm's shared state; no reference stays. `protected` takes the hook away.
    unsafe {
        (*Shared::of(lua)).killed = true;
        ffi::lua_sethook(lua.0, Some(on_hook), ffi::MASK_LINE | ffi::MASK_COUNT, 1);
    }
}

/// Asks the host; true if the script goes on.
fn interrupted(lua: Lua) -> bool {
    let shared = Shared::of(lua);
    // SAFETY: the Vm's shared state, set up by `protected`, during which alone hooks are called; no reference stays. Scripts
    // are interrupted between their instructions, so the host is not in a call of theirs.
    unsafe {
        if (*shared).killed {
            return false;
        }
        ffi::lua_sethook(lua.0, None, 0, 0);
        let (Some(host), Some(watch)) = ((*shared).host, (*shared).watch) else {
            return true;
        };
        let elapsed = watch.as_ref().elapsed();
        let killed = if (*shared).registered.is_some() {
            // A library has only to register its functions; nobody is asked.
            elapsed > LOAD_TIME_MAX
        } else {
            match catch_unwind(AssertUnwindSafe(|| (*host.as_ptr()).interrupt(elapsed))) {
                Ok(answer) => answer == Interrupt::Kill,
                Err(panic) => {
                    (*shared).panic = Some(panic);
                    true
                }
            }
        };
        if killed {
            kill(lua);
        }
        !killed
    }
}
