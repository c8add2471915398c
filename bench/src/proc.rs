//! A process's use of the machine, from `/proc`: CPU time to the nanosecond, context switches, memory.
//!
//! CPU time is that of the process's CPU clock: the same sum over all threads (io_uring's workers among them) that
//! `schedstat` shows, but up to date for a thread that runs at the moment, where `schedstat` lags by up to a tick,
//! and with what threads that have ended used.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use serde::Serialize;

/// Counters since the process's start, or their difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub cpu_ns: u64,
    /// Time in which a thread could have run but the CPU was taken: noise of the machine, not the server's work.
    pub wait_ns: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
}

impl Usage {
    pub fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            wait_ns: self.wait_ns.saturating_sub(earlier.wait_ns),
            voluntary_switches: self
                .voluntary_switches
                .saturating_sub(earlier.voluntary_switches),
            involuntary_switches: self
                .involuntary_switches
                .saturating_sub(earlier.involuntary_switches),
        }
    }

    fn add_thread(&mut self, schedstat: &str, status: &str) -> Result<()> {
        let mut numbers = schedstat.split_ascii_whitespace().map(str::parse::<u64>);
        let (Some(Ok(_)), Some(Ok(wait))) = (numbers.next(), numbers.next()) else {
            return Err(anyhow!("schedstat: {schedstat:?}"));
        };
        self.wait_ns += wait;
        self.voluntary_switches += status_field(status, "voluntary_ctxt_switches").unwrap_or(0);
        self.involuntary_switches +=
            status_field(status, "nonvoluntary_ctxt_switches").unwrap_or(0);
        Ok(())
    }
}

/// The first number of a `Name:  value` line.
fn status_field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        value.split_ascii_whitespace().next()?.parse().ok()
    })
}

/// The directories of a process's threads.
pub fn threads(pid: u32) -> Result<Vec<PathBuf>> {
    let dir = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&dir).with_context(|| dir.clone())?;
    entries
        .map(|e| Ok(e.with_context(|| dir.clone())?.path()))
        .collect()
}

/// Nanoseconds that all threads of the process have spent on a CPU, up to this moment.
pub fn cpu_ns(pid: u32) -> Result<u64> {
    // The kernel's name for a process's CPU clock (what clock_getcpuclockid(3) answers): the complement of the
    // process id, above three bits that say which clock of it; 2 is the scheduler's.
    let clock = (!(pid as libc::clockid_t)) << 3 | 2;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the answer; a clock that does not exist is an error, not undefined.
    let failed = unsafe { libc::clock_gettime(clock, &mut time) } != 0;
    if failed {
        return Err(std::io::Error::last_os_error())
            .with_context(|| format!("CPU clock of process {pid}"));
    }
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// What the process has used so far.
pub fn usage(pid: u32) -> Result<Usage> {
    let mut usage = Usage {
        cpu_ns: cpu_ns(pid)?,
        ..Usage::default()
    };
    for thread in threads(pid)? {
        let read = |file| fs::read_to_string(thread.join(file));
        match read("schedstat").and_then(|schedstat| Ok((schedstat, read("status")?))) {
            Ok((schedstat, status)) => usage.add_thread(&schedstat, &status)?,
            // The thread ended between the listing and the reading.
            Err(e) if e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH) => {}
            Err(e) => return Err(e).with_context(|| thread.display().to_string()),
        }
    }
    Ok(usage)
}

/// Resident memory in bytes, without holding the process up while its pages are counted: the kernel's counters, off by some pages per thread.
pub fn rss_quick(pid: u32) -> Result<u64> {
    let file = format!("/proc/{pid}/statm");
    let text = fs::read_to_string(&file).with_context(|| file.clone())?;
    let pages = text
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .with_context(|| format!("{file}: {text:?}"))?;
    // SAFETY: it only asks.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Ok(pages * u64::try_from(page)?)
}

/// Resident memory in bytes.
pub fn rss(pid: u32) -> Result<u64> {
    // The roll-up is exact; `status` may lag behind by some pages per thread.
    for (file, field) in [("smaps_rollup", "Rss"), ("status", "VmRSS")] {
        if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/{file}"))
            && let Some(kib) = status_field(&text, field)
        {
            return Ok(kib * 1024);
        }
    }
    Err(anyhow!(
        "process {pid} has no resident memory to be read in /proc"
    ))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A process that does nothing but work, ended with the test.
    pub struct Busy(std::process::Child);

    impl Busy {
        pub fn start() -> Busy {
            Busy(
                std::process::Command::new("/bin/sh")
                    .args(["-c", "while :; do :; done"])
                    .spawn()
                    .unwrap(),
            )
        }

        pub fn pid(&self) -> u32 {
            self.0.id()
        }
    }

    impl Drop for Busy {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn reads_a_process() {
        let busy = Busy::start();
        let before = usage(busy.pid()).unwrap();
        // It works as soon as this busy machine lets it.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while usage(busy.pid()).unwrap().since(&before).cpu_ns < 5_000_000 {
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(rss(busy.pid()).unwrap() > 100_000);
        assert_eq!(threads(busy.pid()).unwrap().len(), 1);
    }

    #[test]
    fn a_missing_process_is_an_error() {
        assert!(usage(u32::MAX / 2).is_err());
        assert!(usage(u32::MAX).is_err());
        assert!(rss(u32::MAX).is_err());
    }

    #[test]
    fn adds_threads() {
        let mut usage = Usage {
            cpu_ns: 7,
            ..Usage::default()
        };
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t3\nnonvoluntary_ctxt_switches:\t4\n";
        usage.add_thread("100 20 5\n", status).unwrap();
        usage.add_thread("1 2 3\n", status).unwrap();
        let expect = Usage {
            cpu_ns: 7,
            wait_ns: 22,
            voluntary_switches: 6,
            involuntary_switches: 8,
        };
        assert_eq!(usage, expect);
        assert!(usage.add_thread("x", status).is_err());
    }
}
