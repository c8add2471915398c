//! What the operating system is asked for: pinning, interrupts, limits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Keeps the calling thread, and what it starts from now on, on these CPUs (none given: leaves it where it is).
pub fn pin(cpus: &[usize]) -> Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if cpu >= CpuSet::MAX_CPU {
            bail!("there is no CPU {cpu}");
        }
        set.set(cpu);
    }
    sched_setaffinity(None, &set).with_context(|| format!("pinning to the CPUs {cpus:?}"))
}

/// The CPUs that this thread may use.
pub fn usable_cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None).context("asking for the usable CPUs")?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect())
}

/// Runs `f` on these CPUs, then goes back to where the thread was.
pub fn pinned<R>(cpus: &[usize], f: impl FnOnce() -> R) -> Result<R> {
    let before = sched_getaffinity(None).context("asking for the usable CPUs")?;
    pin(cpus)?;
    let result = f();
    sched_setaffinity(None, &before).context("going back to the former CPUs")?;
    Ok(result)
}

/// As many open files as the hard limit allows; says how many those are.
pub fn raise_file_limit() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("raising the limit of open files")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// SIGINT and SIGTERM set a flag, so that servers are stopped on the way out; a second one ends at once.
pub fn handle_interrupts() -> Result<()> {
    let flag = Arc::clone(INTERRUPTED.get_or_init(Arc::default));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))?;
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(())
}

/// This process is killed when the thread that started it ends.
pub fn end_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("asking to end with the parent")
}

/// An error once the user has asked to stop.
pub fn check_interrupt() -> Result<()> {
    if INTERRUPTED.get().is_some_and(|f| f.load(Ordering::Relaxed)) {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleeps, but not through an interrupt.
pub fn sleep(time: std::time::Duration) -> Result<()> {
    let end = std::time::Instant::now() + time;
    loop {
        check_interrupt()?;
        let left = end.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(std::time::Duration::from_millis(50)));
    }
}
