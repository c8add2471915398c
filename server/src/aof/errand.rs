//! What a core has done elsewhere because it has to wait for the disk: one of the core's threads that sync ([`super::commit`]) does it, and what is
//! to be done with the result comes back to the core.
//!
//! In the simulation, which has no threads, the core does it itself, some turns later.

use super::State;
use super::commit::Job;
use crate::core::Core;

/// What is done on the core when it is done.
pub type After = Box<dyn FnOnce(&mut Core) + Send>;
pub type Work = Box<dyn FnOnce(&State) -> After + Send>;

/// Of the simulation: those under way, and how many turns each still takes.
#[derive(Default)]
pub(super) struct Simulated(Vec<(u64, Work)>);

impl Simulated {
    pub fn is_any(&self) -> bool {
        !self.0.is_empty()
    }
    fn take_due(&mut self) -> Vec<Work> {
        self.0
            .iter_mut()
            .for_each(|(turns, _)| *turns = turns.saturating_sub(1));
        let due = self.0.extract_if(.., |(turns, _)| *turns == 0);
        due.map(|(_, work)| work).collect()
    }
}

impl std::fmt::Debug for Simulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} errands", self.0.len())
    }
}

impl Core {
    /// Has `work` done while this core goes on; what it answers is done here.
    pub(crate) fn send_errand(&mut self, work: impl FnOnce(&State) -> After + Send + 'static) {
        let work = Box::new(work);
        match self.shared.aof.syncers.get() {
            Some(syncers) => syncers.give(self.id, Job::Errand(work)),
            None => {
                let turns = 2 + self.turn_number() % 5;
                self.log.flights.errands.0.push((turns, work));
            }
        }
    }
    pub(super) fn do_simulated_errands(&mut self) {
        for work in self.log.flights.errands.take_due() {
            let after = work(&self.shared.aof);
            after(self);
        }
    }
}
