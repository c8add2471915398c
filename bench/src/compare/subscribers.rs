//! Connections that listen to a channel while something is measured, and a thread that takes in what they get.
//!
//! Invariant: all of them listen from before the load to its end, or the run is an error: a server that cuts
//! listeners off would look cheap.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::conn::{Client, Greeting, Target};

const PATIENCE: Duration = Duration::from_secs(10);

pub struct Subscribers {
    stop: Arc<AtomicBool>,
    /// Bytes taken in.
    thread: Option<JoinHandle<Result<u64>>>,
}

impl Subscribers {
    /// Subscribes so many connections to `channel`.
    pub fn start(target: &Target, count: usize) -> Result<Subscribers> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut fds = Vec::new();
        for _ in 0..count {
            let mut client = Client::connect(target, &Greeting::default(), PATIENCE)?;
            client.call(&["SUBSCRIBE", "channel"])?;
            fds.push(client.into_fd()?);
        }
        let until = stop.clone();
        let listen = move || take_in(&fds, &until);
        let thread = (count > 0).then(|| std::thread::spawn(listen));
        Ok(Subscribers { stop, thread })
    }

    /// Hangs up. An error if a listener was cut off before.
    pub fn finish(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        match thread.join() {
            Ok(Ok(0)) => bail!("no listener heard anything"),
            Ok(outcome) => outcome.map(drop),
            Err(_) => Err(anyhow!("the listening thread panicked")),
        }
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn take_in(fds: &[OwnedFd], stop: &AtomicBool) -> Result<u64> {
    let mut buffer = vec![0u8; 256 << 10];
    let mut taken = 0;
    let wait = Timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };
    while !stop.load(Ordering::Acquire) {
        let mut polled: Vec<PollFd<'_>> = fds
            .iter()
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .collect();
        match poll(&mut polled, Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e).context("waiting for messages"),
        }
        for (fd, polled) in fds.iter().zip(&polled) {
            if polled.revents().is_empty() {
                continue;
            }
            match rustix::io::read(fd, &mut buffer) {
                Ok(0) => bail!("the server cut listener {} off", fd.as_raw_fd()),
                Ok(n) => taken += n as u64,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e).context("a listener"),
            }
        }
    }
    Ok(taken)
}
