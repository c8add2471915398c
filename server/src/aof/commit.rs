//! With `appendfsync always`: nobody hears of what is not on disk, and no core stands still for that.
//!
//! At the end of a turn the core writes what it has noted into its file, and has a thread sync it: a *flight*. Replies and mail of the turn
//! wait for its landing. Meanwhile the core goes on: what it does is written too, and its replies and mail, also of reads, which may have
//! seen what is not on disk, wait for the next flight.
//!
//! - Disks do several syncs in little more time than one, so there are up to [`FLIGHTS`] at a time. They land in order. Each has the file
//!   opened for itself: the kernel tells each that a write failed.
//! - Clients' requests for other cores' keys leave at once: they tell of nothing.
//! - Replies of another core are on disk there. Those that come alone leave at once too.
//! - A new generation's files are made and settled by a thread ([`Core::ask_for_next_file`]). What is noted meanwhile waits in memory, and whatever leaves
//!   waits for it: it may tell of the FLUSHALL that began the generation.
//! - Who cannot go on without the disk (a script that asks other cores, WAITAOF, the end) uses [`Core::commit_log`]: it syncs itself, and
//!   the flights under way no longer matter.
//!
//! In the simulation, which has no threads, a flight takes some turns, and the core syncs itself when it lands.

use super::errand::Work;
use super::log::NextFile;
use super::{LogFile, State};
use crate::config::enums::AppendFsync;
use crate::core::{Control, Core};
use crate::io::{ConnId, Io};
use crate::mailbox::Seal;
use crate::scripts::debug::Post;
use crossbeam_channel::{Sender, unbounded};
use std::collections::VecDeque;
use std::io::Result;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Syncs of one core at a time.
pub const FLIGHTS: usize = 4;
/// They begin at least this far apart: what comes in between shares one.
const APART_NS: u64 = 100_000;

/// What a core's threads do.
pub(super) enum Job {
    Sync { file: Arc<LogFile>, flight: u64 },
    Errand(Work),
}

impl Job {
    /// Does it, and tells the core.
    fn carry_out(self, post: &Post, core: usize) {
        let state = &post.shared.aof;
        match self {
            Self::Sync { file, flight } => {
                let began = Instant::now();
                let result = sync(state, &file, flight);
                let took_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
                let synced = Synced {
                    flight,
                    result,
                    took_ns,
                };
                post.control(core, Control::Synced(synced));
            }
            Self::Errand(work) => post.control(core, Control::Errand(work(state))),
        }
    }
}

fn sync(state: &State, file: &LogFile, flight: u64) -> Result<()> {
    state.settle_file(file)?;
    file.sync_beside(flight as usize % FLIGHTS)
}

/// How it ended.
pub struct Synced {
    flight: u64,
    result: Result<()>,
    took_ns: u64,
}

/// A client, and up to where it may be sent what there is for it, counted from its first byte.
#[derive(Debug)]
pub struct Waits {
    pub conn: ConnId,
    client: u64,
    to: u64,
}

#[derive(Debug)]
struct Flight {
    number: u64,
    file: Arc<LogFile>,
    /// The file's end then.
    written: u64,
    has_landed: bool,
    clients: Vec<Waits>,
    mail: Seal,
    /// In the simulation: how many turns it still takes.
    simulated: Option<u64>,
}

impl Flight {
    /// It brings all of a file to the disk: another one may have the same length.
    fn brings(&self, file: &Arc<LogFile>, written: u64) -> bool {
        Arc::ptr_eq(&self.file, file) && self.written == written
    }
}

/// The syncs under way, and who waits for them.
#[derive(Debug, Default)]
pub struct Flights {
    last: u64,
    /// When that began, and what one takes, roughly.
    began_ns: u64,
    takes_ns: u64,
    /// What waits for the next one.
    waits: bool,
    under_way: VecDeque<Flight>,
    /// Who waits no more.
    landed: Vec<Waits>,
    pub(super) errands: super::errand::Simulated,
}

/// Clients that other cores have answered, and nobody else in this turn.
#[derive(Debug, Default)]
pub struct Answered {
    /// What is answered now comes from another core, and others' replies wait.
    pub by_other: bool,
    pub conns: Vec<ConnId>,
}

impl Flights {
    #[inline]
    pub fn are_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }
    /// One may begin while others are under way, but not at once: what comes soon is to be served by it too. So they are spread over
    /// the time that one takes, and with a disk that does one after the other, for which each takes longer, they are fewer.
    fn may_begin(&self, now: u64) -> bool {
        match self.under_way.len() {
            0 => true,
            n => n < FLIGHTS && now >= self.begins_at(),
        }
    }
    fn begins_at(&self) -> u64 {
        self.began_ns + (self.takes_ns / FLIGHTS as u64).max(APART_NS)
    }
    /// In how many nanoseconds the next one may begin, if something waits for that.
    pub fn next(&self, now: u64) -> Option<u64> {
        let may = self.waits && self.under_way.len() < FLIGHTS;
        may.then(|| self.begins_at().saturating_sub(now))
    }
    pub fn have_to_poll(&self) -> bool {
        self.errands.is_any() || self.under_way.iter().any(|f| f.simulated.is_some())
    }
    /// All is on disk by now.
    #[inline]
    pub fn end(&mut self) {
        for flight in self.under_way.drain(..) {
            self.landed.extend(flight.clients);
        }
    }
    #[inline]
    pub fn take_landed(&mut self) -> Vec<Waits> {
        std::mem::take(&mut self.landed)
    }
}

/// The threads that sync. Those of a core begin when it first needs them: most servers never do.
pub struct Syncers {
    by_core: Vec<OnceLock<Sender<Job>>>,
    /// To the thread that starts them.
    starter: Sender<(usize, Job)>,
}

impl Syncers {
    pub(super) fn give(&self, core: usize, job: Job) {
        // All of them wait as long as there are cores.
        match self.by_core[core].get() {
            Some(sender) => {
                let _ = sender.send(job);
            }
            None => {
                let _ = self.starter.send((core, job));
            }
        }
    }
}

/// Called by a thread that is bound to no CPU; those that are started later are not bound either.
pub(crate) fn prepare_syncers(post: Post, cores: usize) -> Result<()> {
    let (starter, first_jobs) = unbounded();
    let by_core = (0..cores).map(|_| OnceLock::new()).collect();
    let shared = post.shared.clone();
    // Done once.
    let _ = shared.aof.syncers.set(Syncers { by_core, starter });
    let work = move || {
        let Some(syncers) = shared.aof.syncers.get() else {
            return;
        };
        for (core, job) in first_jobs {
            let of_core = &syncers.by_core[core];
            if of_core.get().is_none()
                && let Some(sender) = start_syncers(&post, core)
            {
                let _ = of_core.set(sender);
            }
            match of_core.get() {
                Some(sender) => {
                    let _ = sender.send(job);
                }
                None => job.carry_out(&post, core),
            }
        }
    };
    let thread = std::thread::Builder::new().name("syncs".into());
    thread.spawn(work).map(drop)
}

/// A core's threads, or `None` if not one can be had.
fn start_syncers(post: &Post, core: usize) -> Option<Sender<Job>> {
    let (sender, jobs) = unbounded::<Job>();
    let start = || {
        let (post, jobs) = (post.clone(), jobs.clone());
        let work = move || jobs.iter().for_each(|job| job.carry_out(&post, core));
        let thread = std::thread::Builder::new().name(format!("sync-{core}"));
        let started = thread.spawn(work);
        if let Err(error) = &started {
            tracing::warn!("Cannot start a thread that syncs the log: {error}");
        }
        started.is_ok()
    };
    let started = (0..FLIGHTS).filter(|_| start()).count();
    (started > 0).then_some(sender)
}

impl Core {
    /// What this turn brings is written down while the core goes on.
    #[inline]
    pub(crate) fn commits_aside(&self) -> bool {
        self.shard.logging
            && self.config.appendfsync == AppendFsync::Always
            && !self.stopping
            && !self.ending
    }

    pub(crate) fn end_turn_aside(&mut self) {
        self.send_parcels();
        if std::mem::take(&mut self.own_parts) {
            self.run_parts();
            self.send_parcels();
        }
        if !self.shard.attention.tracking.stale.is_empty() {
            self.send_stale();
        }
        self.write_noted(NextFile::Later);
        self.send_answered();
        // Something may have needed the disk at once.
        self.send_landed();
        self.begin_flight();
    }

    fn begin_flight(&mut self) {
        self.log.flights.waits = false;
        if self.log.is_turning() {
            // What there is tells of what is in no file yet.
            return;
        }
        let behind = self.log.file.as_ref().filter(|file| file.is_behind());
        let Some(file) = behind.cloned() else {
            self.log.flights.end();
            self.mailbox.release();
            return self.send_replies();
        };
        let written = file.written.load(Relaxed);
        let under_way = &self.log.flights.under_way;
        if let Some(last) = under_way.back()
            && last.brings(&file, written)
        {
            // There is nothing new to be synced: what was read waits for the last one.
            let clients = self.seal_replies();
            let mail = self.mailbox.seal();
            if let Some(last) = self.log.flights.under_way.back_mut() {
                last.clients.extend(clients);
                last.mail = mail;
            }
            return;
        }
        let now = self.io.mono_ns();
        let flights = &mut self.log.flights;
        flights.waits = !flights.may_begin(now);
        if flights.waits {
            return;
        }
        flights.began_ns = now;
        let clients = self.seal_replies();
        self.log.flights.last += 1;
        let mut flight = Flight {
            number: self.log.flights.last,
            file: file.clone(),
            written,
            has_landed: false,
            clients,
            mail: self.mailbox.seal(),
            simulated: None,
        };
        let job = Job::Sync {
            file,
            flight: flight.number,
        };
        match self.shared.aof.syncers.get() {
            None => flight.simulated = Some(self.turn_number() % 3),
            Some(syncers) => syncers.give(self.id, job),
        }
        self.log.flights.under_way.push_back(flight);
    }

    /// What there is for clients waits.
    fn seal_replies(&mut self) -> Vec<Waits> {
        let mut dirty = std::mem::take(&mut self.dirty);
        if self.client_limit.is_on() {
            self.client_limit.note_all(&dirty);
        }
        let mut sealed = Vec::with_capacity(dirty.len());
        for conn in dirty.drain(..) {
            let Some(client) = self.clients.get_mut(conn) else {
                continue;
            };
            client.push_late();
            if client.out.is_empty() {
                self.send_reply(conn, usize::MAX);
                continue;
            }
            client.dirty = false;
            sealed.push(Waits {
                conn,
                client: client.id,
                to: client.bytes_out + client.out.len() as u64,
            });
        }
        self.dirty = dirty;
        sealed
    }
    fn send_landed(&mut self) {
        for waits in self.log.flights.take_landed() {
            // The number may be another client's by now.
            let client = self.clients.get_mut(waits.conn);
            let sealed = client
                .filter(|client| client.id == waits.client)
                .map_or(0, |client| waits.to.saturating_sub(client.bytes_out));
            if sealed > 0 {
                self.send_reply(waits.conn, sealed as usize);
            }
        }
    }
    /// What other cores have answered is on disk there.
    fn send_answered(&mut self) {
        let mut conns = std::mem::take(&mut self.log.answered.conns);
        for conn in conns.drain(..) {
            if self.clients.get(conn).is_some_and(|client| !client.dirty) {
                self.send_reply(conn, usize::MAX);
            }
        }
        self.log.answered.conns = conns;
    }

    /// A sync is done.
    pub(crate) fn synced(&mut self, synced: Synced) {
        let Synced {
            flight,
            result,
            took_ns,
        } = synced;
        if let Err(error) = result {
            self.cannot_sync(&error);
        }
        let mut under_way = self.log.flights.under_way.iter_mut();
        // If it is not there, whoever waited for it did not wait for so long.
        if let Some(flight) = under_way.find(|f| f.number == flight) {
            flight.has_landed = true;
            let known = &mut self.log.flights.takes_ns;
            *known = match *known {
                0 => took_ns,
                ns => (ns * 7 + took_ns) / 8,
            };
        }
        let flights = &mut self.log.flights;
        while flights.under_way.front().is_some_and(|f| f.has_landed)
            && let Some(flight) = flights.under_way.pop_front()
        {
            self.mailbox.open(&flight.mail);
            flights.landed.extend(flight.clients);
        }
        self.send_landed();
    }
    pub(crate) fn sync_simulated(&mut self) {
        let mut landed = Vec::new();
        for flight in &mut self.log.flights.under_way {
            match &mut flight.simulated {
                Some(turns) if *turns > 0 => *turns -= 1,
                Some(_) if !flight.has_landed => {
                    landed.push((flight.file.clone(), flight.number));
                }
                _ => {}
            }
        }
        for (file, flight) in landed {
            let synced = Synced {
                flight,
                result: sync(&self.shared.aof, &file, flight),
                took_ns: 0,
            };
            self.synced(synced);
        }
        self.do_simulated_errands();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, sim::SimDisk};
    use std::path::Path;

    #[test]
    fn a_flight_of_the_old_file_is_none_of_the_new_one() {
        let flights = flights(1);
        let flight = &flights.under_way[0];
        assert!(flight.brings(&flight.file, 0));
        assert!(!flight.brings(&flight.file, 1) && !flight.brings(&file(), 0));
    }

    fn file() -> Arc<LogFile> {
        let disk = Disk::Simulated(SimDisk::new(1));
        let file = disk.create(Path::new("/log")).expect("there is room");
        Arc::new(LogFile::new(file, 1, 0, true))
    }
    fn flights(count: u64) -> Flights {
        let file = file();
        let flight = |number| Flight {
            number,
            file: file.clone(),
            written: 0,
            has_landed: false,
            clients: Vec::new(),
            mail: Box::default(),
            simulated: None,
        };
        Flights {
            last: count,
            began_ns: 1_000_000,
            takes_ns: 800_000,
            waits: true,
            under_way: (1..=count).map(flight).collect(),
            landed: Vec::new(),
            errands: Default::default(),
        }
    }

    #[test]
    fn flights_are_spread_over_the_time_that_one_takes() {
        assert!(flights(0).may_begin(1_000_000), "nobody shares it");
        let some = flights(2);
        assert!(!some.may_begin(1_199_999) && some.may_begin(1_200_000));
        assert_eq!(some.next(1_150_000), Some(50_000));
        let quick = Flights {
            takes_ns: 10_000,
            ..flights(1)
        };
        assert_eq!(quick.next(1_000_000), Some(APART_NS));
        let all = flights(FLIGHTS as u64);
        assert!(!all.may_begin(u64::MAX));
        assert_eq!(all.next(1_000_000), None, "a landing wakes the core");
    }
}
