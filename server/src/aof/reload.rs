//! DEBUG LOADAOF: the log is put on disk, all keys are forgotten, and the log is read as at a start ([`super::replay`]). It shows that what stands there is what
//! there was.
//!
//! 1. Every core is told that the log is being read, so clients are refused from here on;
//! 2. behind everything that was let in before, each core writes and syncs what it has, and notes nothing more;
//! 3. the files are looked through: what cannot be read is found while all keys are still there;
//! 4. each core forgets its keys, loads the base and takes its part of the log's commands;
//! 5. with the last of them all go on in the files that they were writing.
//!
//! With the log switched off, or waiting for a snapshot's end to begin, the files that the manifest names are read all the same; where there are none,
//! or the log is only just being switched on, nothing is read and nothing forgotten.

use super::replay::{self, Plan};
use crate::commands::{Answer, Call, lock};
use crate::core::Core;
use crate::mailbox::Ticket;
use crate::persist::load::{self, Twice};
use crate::persist::snapshot::Purpose;
use crate::stats::Stats;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_shard::shard::Stats as DataStats;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Who waits for the end.
pub struct Asker {
    ticket: Ticket,
    version: Version,
    begun: Instant,
    failed: Option<CommandError>,
}

/// What a core counted until then: the commands of the log are not those of clients.
pub struct Counts(Stats, DataStats);

pub fn reload(call: &mut Call<'_>) -> Result<Answer, CommandError> {
    let core = &mut *call.core;
    let aof = &core.shared.aof;
    if core.shared.persistence.runs(Purpose::AofBase) || aof.loading.load(Acquire) {
        let text = "ERR Background append only file rewriting already in progress";
        return Err(CommandError::fixed(text));
    }
    if aof.refuses_writes() {
        return Err(core.write_error());
    }
    if aof.is_on() && !aof.is_announced() {
        // The files say nothing of what is there now. (One that only waits for its beginning has none yet: those of before are read.)
        return Err(CommandError::err("the log is being switched on"));
    }
    if aof.switching.swap(true, AcqRel) {
        return Err(CommandError::err("the log is being switched on or off"));
    }
    aof.reloading.store(true, Release);
    aof.loading.store(true, Release);
    let version = call.reply.version();
    let ticket = call.later();
    call.core.reload = Some(Asker {
        ticket,
        version,
        begun: Instant::now(),
        failed: None,
    });
    let ask = |core: &mut Core| {
        core.loading = true;
        Vec::new()
    };
    let conclude = |core: &mut Core, _: Ticket, _: Vec<Vec<u8>>| core.pause_logs();
    let ask = Arc::new(ask);
    call.core.ask_all(Ticket::NOBODY, ask, Box::new(conclude));
    Ok(Answer::Later)
}

impl Core {
    /// Behind all that clients were let do before.
    fn pause_logs(&mut self) {
        let ask = |core: &mut Core| {
            core.shard.loading = true;
            let whole = core.pause_logging();
            vec![u8::from(whole)]
        };
        let conclude = |core: &mut Core, _: Ticket, answers: Vec<Vec<u8>>| {
            if answers.iter().any(|whole| whole[..] != [1]) {
                return core.reload_failed(core.write_error());
            }
            match replay::plan(&core.shared.aof.disk, &core.config) {
                Ok(plan) if plan.is_empty() && !core.shared.aof.is_announced() => {
                    let text = "there is no log, and what is in memory would be lost";
                    core.reload_failed(CommandError::err(text));
                }
                Ok(plan) => core.read_log_again(plan),
                Err(error) => {
                    tracing::error!("{error}");
                    let text = "ERR Error trying to load the AOF files, check server logs";
                    core.reload_failed(CommandError::fixed(text));
                }
            }
        };
        self.visit_all(Ticket::NOBODY, Arc::new(ask), Box::new(conclude));
    }
    fn reload_failed(&mut self, error: CommandError) {
        if let Some(asker) = &mut self.reload {
            asker.failed = Some(error);
        }
        self.end_reload();
    }

    fn read_log_again(&mut self, plan: Plan) {
        let is_read = plan.has_commands();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        if is_read {
            for _ in 0..self.cores() {
                match UnixStream::pair() {
                    Ok((one, other)) => {
                        ours.push(one);
                        theirs.push(Some(other));
                    }
                    Err(error) => return self.reload_failed(CommandError::err(error)),
                }
            }
            self.shared.aof.readers.store(self.cores(), Release);
        }
        self.function_flush();
        let theirs = Mutex::new(theirs);
        let base = plan.base.clone();
        let ask = move |core: &mut Core| {
            let counts = Counts(
                std::mem::take(&mut core.stats),
                std::mem::take(&mut core.shard.stats),
            );
            core.stats = Stats::new(core.registry.entries.len());
            core.counts_before_reload = Some(Box::new(counts));
            for db in 0..core.shard.keyspace.databases() {
                core.shard.keyspace.flush(db);
            }
            let loaded = base.as_ref().map_or(Ok(()), |path| {
                let disk = &core.shared.aof.disk;
                let first = core.id == 0;
                let libraries = load::load(disk, path, &mut core.shard, Twice::Refused, first)?;
                core.shared.scripts.libraries.load(&libraries)
            });
            if let Err(error) = loaded {
                // The keys are gone: as in Redis, this is the end.
                tracing::error!("Fatal error loading the DB, check server logs. Exiting. {error}");
                std::process::exit(1);
            }
            if let Some(stream) = lock(&theirs).get_mut(core.id).and_then(Option::take) {
                core.adopt_loader(stream.into());
            }
            Vec::new()
        };
        let conclude = move |core: &mut Core, _: Ticket, _: Vec<Vec<u8>>| {
            if !is_read {
                return core.end_reload();
            }
            let shared = core.shared.clone();
            shared.persistence.progress.begin(plan.size());
            let feed = move || {
                if let Err(error) = replay::feed(&plan, ours, &shared.persistence.progress) {
                    tracing::error!("{error}");
                    std::process::exit(1);
                }
            };
            let thread = std::thread::Builder::new().name("aof-load".into());
            if let Err(error) = thread.spawn(feed) {
                tracing::error!("The log cannot be read: {error}");
                std::process::exit(1);
            }
        };
        self.ask_all(Ticket::NOBODY, Arc::new(ask), Box::new(conclude));
    }

    /// All of it is carried out, or nothing is.
    pub(crate) fn end_reload(&mut self) {
        let ask = |core: &mut Core| {
            core.shard.loading = false;
            core.resume_logging();
            if let Some(counts) = core.counts_before_reload.take() {
                (core.stats, core.shard.stats) = (counts.0, counts.1);
                core.shard.stats.dirty = 0;
            }
            Vec::new()
        };
        let conclude = |core: &mut Core, _: Ticket, _: Vec<Vec<u8>>| {
            let aof = &core.shared.aof;
            aof.reloading.store(false, Release);
            aof.switching.store(false, Release);
            aof.loading.store(false, Release);
            // The one that was asked answers when it sees that.
            let ask = |_: &mut Core| Vec::new();
            core.ask_all(Ticket::NOBODY, Arc::new(ask), Box::new(|_, _, _| {}));
        };
        self.ask_all(Ticket::NOBODY, Arc::new(ask), Box::new(conclude));
    }

    /// The log has been read.
    #[cold]
    pub(crate) fn reloaded(&mut self) {
        let Some(asker) = self.reload.take() else {
            return;
        };
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, asker.version);
        match &asker.failed {
            Some(error) => reply.command_error(error),
            None => {
                tracing::info!(
                    "Append Only File loaded by DEBUG LOADAOF: {:.3} seconds",
                    asker.begun.elapsed().as_secs_f64()
                );
                reply.ok();
            }
        }
        self.answer(asker.ticket, out);
    }
}
