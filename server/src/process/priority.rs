//! Threads that leave the CPUs to the cores: SCHED_IDLE (sched(7)). What wakes up beside such a thread need not wait for the end of its time slice.

use std::io;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::Relaxed;

/// The thread that calls works where nobody else wants the CPU.
pub fn give_way() -> io::Result<()> {
    schedule(0, libc::SCHED_IDLE)
}

/// `thread`: 0 is the one that calls.
fn schedule(thread: libc::pid_t, policy: libc::c_int) -> io::Result<()> {
    // SAFETY: a `sched_param` of zeros is valid, and is only read.
    let failed = unsafe {
        let parameters: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(thread, policy, &raw const parameters) != 0
    };
    match failed {
        true => Err(io::Error::last_os_error()),
        false => Ok(()),
    }
}

/// True if a thread that gave way may be told not to. Without CAP_SYS_NICE it may where RLIMIT_NICE allows 20.
fn may_return() -> bool {
    let tried = std::thread::spawn(|| {
        give_way()?;
        schedule(0, libc::SCHED_OTHER)
    });
    tried.join().is_ok_and(|tried| tried.is_ok())
}

/// A thread that gives way until somebody waits for it: a machine whose cores all have enough to do would never come to it.
///
/// What is said last holds, and nothing is locked: a thread that gives way may be stopped for long wherever it is, and nobody may wait for it there.
#[derive(Debug, Default)]
pub struct GivesWay {
    /// Its id once it does; 0 before.
    thread: AtomicI32,
}

impl GivesWay {
    /// The thread that calls is this one.
    pub fn begin(&self) {
        if may_return() && give_way().is_ok() {
            // SAFETY: it only asks.
            self.thread.store(unsafe { libc::gettid() }, Relaxed);
        }
    }
    /// It takes its turn like everybody.
    pub fn hurry(&self) {
        self.schedule(libc::SCHED_OTHER);
    }
    /// It gives way again.
    pub fn relax(&self) {
        self.schedule(libc::SCHED_IDLE);
    }
    fn schedule(&self, policy: libc::c_int) {
        let thread = self.thread.load(Relaxed);
        if thread != 0 {
            // It was tried at the beginning. Where it is refused now, somebody waits longer.
            let _ = schedule(thread, policy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> libc::c_int {
        // SAFETY: it only asks.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn a_thread_gives_way_until_it_is_waited_for() {
        if !may_return() {
            eprintln!("left out: this user may not give a thread its turn back");
            return;
        }
        std::thread::spawn(|| {
            let writer = GivesWay::default();
            writer.hurry();
            assert_eq!(policy(), libc::SCHED_OTHER, "nobody began yet");
            writer.begin();
            assert_eq!(policy(), libc::SCHED_IDLE);
            writer.hurry();
            writer.hurry();
            assert_eq!(policy(), libc::SCHED_OTHER);
            writer.relax();
            assert_eq!(policy(), libc::SCHED_IDLE);
        })
        .join()
        .unwrap();
    }
}
