//! Stops scripts that run too long, also inside compiled loops and without any cost to the others.
//!
//! A thread looks at all [`crate::Vm`]s every now and then. Where it finds the same run as the last time, it sends that
//! thread a signal, whose handler sets a Lua hook: the one thing that Lua's C interface allows at such a moment. Compiled
//! code checks for hooks once per iteration (LuaJIT's option LUAJIT_ENABLE_CHECKHOOK) and leaves for the interpreter, which
//! calls the hook before its next instruction. The hook asks the host ([`crate::Host::interrupt`]), which may serve others
//! meanwhile; then it goes, and compiled code runs on until the watchdog's next look.
//!
//! A run that ends between two looks costs two stores. What runs inside one C function (`string.find` with a cruel
//! pattern, say) is only stopped when that returns; so it is in Redis.

use crate::ffi;
use std::cell::Cell;
use std::io;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The signal. Real-time ones are nobody's by default; the C library keeps the first few for itself.
fn signal() -> libc::c_int {
    libc::SIGRTMIN() + 5
}

thread_local! {
    /// The Lua state that runs a script on this thread. Read by the signal's handler: constant initialisation and no
    /// destructor, so that reading is a plain load.
    static RUNNING: Cell<*mut ffi::State> = const { Cell::new(null_mut()) };
    /// A hook was set since `begin`.
    static SIGNALLED: Cell<bool> = const { Cell::new(false) };
}

/// One Vm, seen from the watchdog.
pub(crate) struct Watched {
    /// Counts starts and ends: odd while a script runs.
    run: AtomicU64,
    thread: libc::pthread_t,
    /// When the watchdog first saw the present run, in microseconds since its start.
    since_us: AtomicU64,
}

#[derive(Default)]
struct List {
    vms: Vec<Arc<Watched>>,
    stop: bool,
}

struct Common {
    list: Mutex<List>,
    wake: Condvar,
    start: Instant,
}

impl Common {
    fn lock(&self) -> MutexGuard<'_, List> {
        // The list is whole at all times.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that watches. One for the process; dropping it ends it.
pub struct Watchdog {
    common: Arc<Common>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Looks every `interval`: a script is interrupted after one to two of them, and again after each.
    pub fn start(interval: Duration) -> io::Result<Self> {
        install_handler()?;
        let common = Arc::new(Common {
            list: Mutex::default(),
            wake: Condvar::new(),
            start: Instant::now(),
        });
        let theirs = common.clone();
        let thread = std::thread::Builder::new()
            .name("script-watchdog".to_string())
            .spawn(move || watch(&theirs, interval))?;
        Ok(Self {
            common,
            thread: Some(thread),
        })
    }

    /// For [`crate::Vm::watch`]. Cheap to hand to every core.
    pub fn handle(&self) -> WatchdogHandle {
        WatchdogHandle {
            common: self.common.clone(),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.common.lock().stop = true;
        self.common.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // It can only have ended by a panic, which was reported then.
            let _ = thread.join();
        }
    }
}

/// Lets Vms register.
#[derive(Clone)]
pub struct WatchdogHandle {
    common: Arc<Common>,
}

/// A Vm's registration; it must stay on the thread where it was made.
pub(crate) struct Registration {
    watched: Arc<Watched>,
    common: Arc<Common>,
}

impl Registration {
    pub(crate) fn new(handle: &WatchdogHandle) -> Self {
        let watched = Arc::new(Watched {
            run: AtomicU64::new(0),
            // SAFETY: no conditions.
            thread: unsafe { libc::pthread_self() },
            since_us: AtomicU64::new(0),
        });
        handle.common.lock().vms.push(watched.clone());
        Self {
            watched,
            common: handle.common.clone(),
        }
    }

    /// A script starts on this thread.
    #[inline]
    pub(crate) fn begin(&self, state: *mut ffi::State) {
        SIGNALLED.set(false);
        RUNNING.set(state);
        let run = self.watched.run.load(Ordering::Relaxed);
        self.watched.run.store(run + 1, Ordering::Release);
    }

    /// The script has ended. A signal that comes after this finds nothing to do.
    #[inline]
    pub(crate) fn end(&self) {
        let run = self.watched.run.load(Ordering::Relaxed);
        self.watched.run.store(run + 1, Ordering::Release);
        RUNNING.set(null_mut());
    }

    /// True if the watchdog has struck since `begin`.
    #[inline]
    pub(crate) fn signalled(&self) -> bool {
        SIGNALLED.get()
    }

    /// How long the present script has run, counted from the watchdog's first look at it.
    pub(crate) fn elapsed(&self) -> Duration {
        let since = Duration::from_micros(self.watched.since_us.load(Ordering::Relaxed));
        self.common.start.elapsed().saturating_sub(since)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Under the lock: the watchdog sends no signal to a thread that may end after this.
        self.common
            .lock()
            .vms
            .retain(|vm| !Arc::ptr_eq(vm, &self.watched));
    }
}

/// The watchdog's thread.
fn watch(common: &Common, interval: Duration) {
    // What each Vm's run was at the last look.
    let mut last: Vec<(Arc<Watched>, u64)> = Vec::new();
    let mut list = common.lock();
    while !list.stop {
        list = match common.wake.wait_timeout(list, interval) {
            Ok((list, _)) => list,
            Err(poisoned) => poisoned.into_inner().0,
        };
        let mut now = Vec::with_capacity(list.vms.len());
        for vm in &list.vms {
            let run = vm.run.load(Ordering::Acquire);
            let seen = last
                .iter()
                .any(|(known, r)| Arc::ptr_eq(known, vm) && *r == run);
            if run % 2 == 1 {
                if seen {
                    // SAFETY: the thread is alive: its registration would be gone from the list otherwise.
                    unsafe { libc::pthread_kill(vm.thread, signal()) };
                } else {
                    let micros = common.start.elapsed().as_micros() as u64;
                    vm.since_us.store(micros, Ordering::Relaxed);
                }
            }
            now.push((vm.clone(), run));
        }
        last = now;
    }
}

fn install_handler() -> io::Result<()> {
    // SAFETY: all zeros is a valid sigaction; the handler does only what a handler may (see there).
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
        // What the thread waits for goes on where the kernel can do that.
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(signal(), &action, null_mut())
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

extern "C" fn on_signal(_: libc::c_int) {
    // A thread that is ending has no such variable any more.
    let state = RUNNING.try_with(Cell::get).unwrap_or(null_mut());
    if !state.is_null() {
        SIGNALLED.set(true);
        // SAFETY: a state between `begin` and `end` of this very thread, which is interrupted. Lua allows setting hooks
        // then. First none, then ours: if the signal came amid a change of the dispatch table, the next one repairs it.
        unsafe {
            ffi::lua_sethook(state, None, 0, 0);
            ffi::lua_sethook(state, Some(crate::vm::on_hook), ffi::MASK_COUNT, 1);
        }
    }
}
