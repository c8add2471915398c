//! The report of a crash: a failed assertion on any core, or a signal that only a fault raises, is described in the log, and the
//! whole process ends. A core that went on alone would lack the keys of the others.
//!
//! Each core's thread notes the command under way: one store of a few words per command.

use crate::config::SharedConfig;
use crate::registry::Entry;
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::fmt::Write;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// What a thread was doing.
#[derive(Clone, Copy)]
struct Doing {
    core: Option<usize>,
    /// The command last begun, and its client's id (0: not known here).
    command: Option<(&'static Entry, u64)>,
}

thread_local! {
    static DOING: Cell<Doing> = const { Cell::new(Doing { core: None, command: None }) };
}

/// This thread is a core's.
pub fn note_core(core: usize) {
    DOING.set(Doing {
        core: Some(core),
        ..DOING.get()
    });
}
/// This thread begins a command.
#[inline]
pub fn note_command(entry: &'static Entry, client: u64) {
    DOING.set(Doing {
        command: Some((entry, client)),
        ..DOING.get()
    });
}

type NewestConfig = Box<dyn Fn() -> Option<SharedConfig> + Send + Sync>;
static CONFIG: OnceLock<NewestConfig> = OnceLock::new();
/// Only the first of several crashes is reported.
static REPORTING: AtomicBool = AtomicBool::new(false);

/// From now on a panic of any thread, and a fault, ends the process with a report. `newest` gives the configuration, or nothing where
/// it cannot be had without waiting.
pub fn install(newest: impl Fn() -> Option<SharedConfig> + Send + Sync + 'static) {
    // Installed twice (tests): the first stays.
    let _ = CONFIG.set(Box::new(newest));
    std::panic::set_hook(Box::new(|info| {
        report(&panic_headline(info));
        std::process::abort();
    }));
    for signal in FAULTS {
        // SAFETY: the action is fully set up, and the handler has the signature of a plain handler. It does more than is safe in a
        // handler (it allocates and locks), which after a fault risks nothing but a hang, and `alarm` bounds that.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = fault as extern "C" fn(libc::c_int) as libc::sighandler_t;
            // A second fault, within the handler, ends the process at once.
            action.sa_flags = libc::SA_RESETHAND | libc::SA_NODEFER;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

const FAULTS: [libc::c_int; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];

extern "C" fn fault(signal: libc::c_int) {
    // SAFETY: both take plain numbers. The alarm's default action ends a process that hangs in its report.
    unsafe { libc::alarm(10) };
    report(&format!(
        "Ringwood {} crashed by signal: {signal}",
        env!("CARGO_PKG_VERSION")
    ));
    // SAFETY: as above; the default action is back (SA_RESETHAND), so this ends the process as the fault would have.
    unsafe { libc::raise(signal) };
}

fn panic_headline(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)");
    let place = info
        .location()
        .map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
    format!("=== ASSERTION FAILED === ==> {place} '{message}' is not true")
}

/// Writes the report, once per process.
fn report(headline: &str) {
    if REPORTING.swap(true, Ordering::SeqCst) {
        // Another thread is at it and will end the process; this one waits for that.
        loop {
            std::thread::park();
        }
    }
    let config = CONFIG.get().and_then(|newest| newest());
    if config.as_ref().is_some_and(|c| !c.crash_log_enabled) {
        tracing::error!("{headline}");
        return;
    }
    let text = compose(
        headline,
        DOING.get(),
        config.as_ref(),
        &Backtrace::force_capture(),
    );
    tracing::error!(target: crate::config::log::RAW, "{text}");
}

fn compose(
    headline: &str,
    doing: Doing,
    config: Option<&SharedConfig>,
    stack: &dyn std::fmt::Display,
) -> String {
    let mut out = String::new();
    let thread = std::thread::current();
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "\n=== RINGWOOD BUG REPORT START: Cut & paste starting from here ===\n{headline}\n\
         \n------ VERSION ------\nringwood {} {} pid {}\n\
         \n------ THREAD ------\n{}{}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        std::process::id(),
        thread.name().unwrap_or("unnamed"),
        doing
            .core
            .map_or_else(String::new, |core| format!(" (core {core})")),
    );
    let _ = match doing.command {
        Some((entry, client)) => write!(
            out,
            "\n------ LAST COMMAND OF THE THREAD ------\n{} client id {client}\n",
            entry.name
        ),
        None => write!(out, "\n------ NO COMMAND YET ------\n"),
    };
    let _ = write!(out, "\n------ STACK TRACE ------\n{stack}\n");
    if let Some(config) = config {
        out.push_str("\n------ CONFIGURATION THAT DIFFERS ------\n");
        let built_in = crate::config::Config::default();
        for directive in crate::config::DIRECTIVES {
            if directive.has(crate::config::table::SENSITIVE) || directive.same(config, &built_in) {
                continue;
            }
            let value = String::from_utf8_lossy(&directive.show(config)).into_owned();
            let _ = writeln!(out, "{} {value}", directive.name);
        }
    }
    out.push_str(
        "\n=== RINGWOOD BUG REPORT END. Please file this text with the steps that led to it. ===\n",
    );
    out
}

/// The newest configuration, unless its lock is held right now (by the thread that crashed, say).
pub fn newest_of(shared: &Arc<crate::core::Shared>) -> Option<SharedConfig> {
    match shared.config.try_lock() {
        Ok(config) => Some(config.clone()),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::registry::Registry;

    #[test]
    fn the_report_says_what_was_going_on_and_keeps_secrets() {
        let mut config = Config::default();
        config.set(b"requirepass", b"s3cret").unwrap();
        config.set(b"timeout", b"77").unwrap();
        let doing = Doing {
            core: Some(3),
            command: Registry::get().lookup(b"get").map(|entry| (entry, 42)),
        };
        let text = compose("headline", doing, Some(&Arc::new(config)), &"a stack");
        for part in [
            "headline",
            "(core 3)",
            "get client id 42",
            "a stack",
            "timeout 77",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("s3cret"));
    }
}
