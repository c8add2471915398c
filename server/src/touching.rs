//! A thread that has the system find memory for the cores before they need it (see [`Untouched`]), and gives back what they have
//! not used for a while.
//!
//! The allocator keeps what is freed for a second, and looks at it only when somebody frees or needs more: a server that became idle
//! behind a burst of large replies kept their memory for ever.

use crate::process::priority;
use ringwood_shard::memory::{self, untouched::Untouched};
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// The way to it. In the simulation there is none, and nothing is touched beforehand.
#[derive(Default)]
pub struct Touching(OnceLock<SyncSender<Untouched>>);

/// So much may wait. What is more the cores touch themselves.
const WAITING_MAX: usize = 64;

/// How often memory is given back.
const GIVE_BACK: Duration = Duration::from_secs(1);

impl Touching {
    /// Called by a thread that is bound to no CPU; the new one is not bound either.
    pub fn start(&self) -> std::io::Result<()> {
        let (sender, receiver) = sync_channel::<Untouched>(WAITING_MAX);
        let work = move || {
            // It is there to spare the cores' time, not to take it. Where that is refused, they wait a little at worst.
            let _ = priority::give_way();
            let mut due = Instant::now() + GIVE_BACK;
            loop {
                match receiver.recv_timeout(due.saturating_duration_since(Instant::now())) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                    Ok(untouched) => {
                        if let Err(error) = untouched.touch() {
                            // Before Linux 5.14. The cores go on as if nobody had promised anything.
                            tracing::debug!("Memory is not made ready beforehand: {error}");
                        }
                    }
                }
                if Instant::now() >= due {
                    memory::give_back();
                    due = Instant::now() + GIVE_BACK;
                }
            }
        };
        std::thread::Builder::new()
            .name("touching".into())
            .spawn(work)?;
        // Started once.
        let _ = self.0.set(sender);
        Ok(())
    }

    pub fn ask(&self, untouched: Untouched) {
        if let Some(sender) = self.0.get() {
            // Full, or ended: then the core does it.
            let _ = sender.try_send(untouched);
        }
    }
}
