//! What the system says about the process: memory and CPU time.

use std::fs;

/// Bytes, from /proc/self/statm.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resident {
    pub all: u64,
    /// Without the pages of files (the binary, libraries).
    pub anonymous: u64,
}

pub fn resident() -> Resident {
    // Where /proc is not mounted, zeros say that nothing is known.
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut fields = text
        .split(' ')
        .map(|n| n.trim().parse::<u64>().unwrap_or(0));
    let page = page_size();
    let all = fields.nth(1).unwrap_or(0) * page;
    let shared = fields.next().unwrap_or(0) * page;
    Resident {
        all,
        anonymous: all.saturating_sub(shared),
    }
}

fn page_size() -> u64 {
    // SAFETY: sysconf takes no pointers.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// The machine's memory.
pub fn total_memory() -> u64 {
    // SAFETY: sysconf takes no pointers.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) }).unwrap_or(0) * page_size()
}

/// Seconds of CPU time: in the system, in user space.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime {
    pub system: f64,
    pub user: f64,
}

/// Of the whole process, of its children, of the calling thread.
pub fn cpu_times() -> [CpuTime; 3] {
    [
        libc::RUSAGE_SELF,
        libc::RUSAGE_CHILDREN,
        libc::RUSAGE_THREAD,
    ]
    .map(|who| {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the pointer is to a local of the right type, for which zeros are valid too.
        let usage = unsafe {
            libc::getrusage(who, usage.as_mut_ptr());
            usage.assume_init()
        };
        let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
        CpuTime {
            system: seconds(usage.ru_stime),
            user: seconds(usage.ru_utime),
        }
    })
}

/// "Linux 6.18.0 x86_64".
pub fn kernel() -> String {
    let read =
        |file: &str| fs::read_to_string(format!("/proc/sys/kernel/{file}")).unwrap_or_default();
    format!(
        "{} {} {}",
        read("ostype").trim(),
        read("osrelease").trim(),
        std::env::consts::ARCH
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_asked() {
        let r = resident();
        assert!(r.all > 1 << 20 && r.anonymous <= r.all && r.all < total_memory());
        assert!(cpu_times()[0].user >= 0.0);
        assert!(kernel().starts_with("Linux "));
    }
}
