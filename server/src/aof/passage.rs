//! A core's way into the next generation's file. A thread that syncs ([`super::commit`]) brings the old file to the disk and takes the new
//! one, or makes it for all cores; what the core notes meanwhile stays in its queue.
//!
//! - With `always` replies and mail wait: no flight begins before the queue is written.
//! - Otherwise they leave, so the queue is what a killed process loses. Therefore the core waits after all where it has waited for so long that
//!   a write would go ahead of a sync, or where more than [`AHEAD_MAX`] files are to come: who sends nothing but FLUSHALL would be ever
//!   further ahead of the disk.
//! - Who needs everything written (the end of the log, [`crate::core::Core::commit_log`] with `always`) waits for it.
//!
//! In the simulation, which has no threads, it takes some turns.

use super::commit::Job;
use super::log::SYNC_PATIENCE_NS;
use super::{LogFile, State};
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use std::io::{Error, Result};
use std::sync::Arc;

/// So many new files may be to come while the core goes on.
const AHEAD_MAX: usize = 8;

/// What is to be done for it.
#[derive(Debug)]
pub struct Work {
    pub core: u16,
    pub generation: u64,
    /// What the generation begins with.
    pub command: Vec<u8>,
    /// To be synced first, if the order on disk matters: a file that a failing machine cut short would otherwise lack changes on which those in
    /// the next one build.
    pub old: Option<Arc<LogFile>>,
}

impl Work {
    fn take(&self, state: &State) -> Result<Arc<LogFile>> {
        if let Some(old) = &self.old {
            old.sync()?;
        }
        state.take_file(self.generation, self.core, &self.command)
    }
}

/// The work, and who waits for the new file.
#[derive(Debug)]
pub struct Errand {
    work: Work,
    tell: Sender<Result<Arc<LogFile>>>,
}

impl Errand {
    pub fn carry_out(self, state: &State) {
        // A core that has ended waits for nothing.
        let _ = self.tell.send(self.work.take(state));
    }
}

/// One under way.
#[derive(Debug)]
pub struct Passage {
    taken: Receiver<Result<Arc<LogFile>>>,
    /// It began with `always`: replies wait for it.
    pub strict: bool,
    /// In the simulation: what is to be done, and how many turns that still takes.
    simulated: Option<(Errand, u64)>,
}

/// How long the core has been on its way, and how many files are still to come.
#[derive(Clone, Copy, Debug)]
pub struct Behind {
    pub waited_ns: u64,
    pub files: usize,
}

impl Behind {
    /// It must not get further behind. With `always` (`strict`) nobody hears of what is not on disk, so time does not matter.
    pub fn is_far(self, strict: bool) -> bool {
        self.files > AHEAD_MAX || !strict && self.waited_ns >= SYNC_PATIENCE_NS
    }
}

impl Passage {
    pub fn begin(state: &State, work: Work, strict: bool) -> Self {
        let (tell, taken) = bounded(1);
        let (core, turns) = (work.core as usize, work.generation % 7);
        let errand = Errand { work, tell };
        let simulated = match state.syncers.get() {
            Some(syncers) => {
                syncers.give(core, Job::Pass(errand));
                None
            }
            None => Some((errand, turns)),
        };
        Self {
            taken,
            strict,
            simulated,
        }
    }
    /// The new file, if it is there.
    pub fn poll(&self) -> Option<Result<Arc<LogFile>>> {
        match self.taken.try_recv() {
            Ok(taken) => Some(taken),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(nobody())),
        }
    }
    pub fn wait(&mut self, state: &State) -> Result<Arc<LogFile>> {
        if let Some((errand, _)) = self.simulated.take() {
            errand.carry_out(state);
        }
        self.taken.recv().unwrap_or_else(|_| Err(nobody()))
    }
    pub fn is_simulated(&self) -> bool {
        self.simulated.is_some()
    }
    /// A turn of the simulation.
    pub fn simulate(&mut self, state: &State) {
        match &mut self.simulated {
            Some((_, turns)) if *turns > 0 => *turns -= 1,
            _ => {
                if let Some((errand, _)) = self.simulated.take() {
                    errand.carry_out(state);
                }
            }
        }
    }
}

fn nobody() -> Error {
    Error::other("the thread that was to take the next file has ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_waits_where_it_is_far_behind() {
        let behind = |waited_ns, files| Behind { waited_ns, files };
        assert!(!behind(0, AHEAD_MAX).is_far(false));
        assert!(behind(0, AHEAD_MAX + 1).is_far(false) && behind(0, AHEAD_MAX + 1).is_far(true));
        assert!(behind(SYNC_PATIENCE_NS, 1).is_far(false));
        assert!(
            !behind(SYNC_PATIENCE_NS, 1).is_far(true),
            "nobody hears of it"
        );
    }
}
