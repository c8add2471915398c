//! EVAL and its like: where a script runs, and what it may reach there.
//!
//! A script is planned and locked like a transaction of one command ([`crate::multi`]), by the keys that it declares. It
//! runs on one core's [`Vm`], synchronously. Then:
//!
//! - It reaches the declared keys, and if those are all of this core, any other of this core that nobody holds. Where it asks for other keys, its writes
//!   are undone and it starts again with these lent, too ([`scout`]).
//! - Where it asks for what is in no key (DBSIZE), it starts again *wide*, and from then on it starts so: every core is held ([`crate::multi::exclusive`]), so every key can be had at once: the owners do nothing but
//!   answer, and this core waits for each answer with the script on its stack.
//! - On one core there is nothing to tell apart.
//!
//! The scripts' texts are shared by all cores; each core compiles what it runs.

pub mod busy;
pub mod debug;
pub mod functions;
mod host;
mod memory;
mod narrow;
mod scout;
mod transaction;

use crate::core::Core;
use crate::registry::Entry;
use crate::stats::ScriptCalls;
use foldhash::quality::RandomState;
use host::{Reach, ScriptHost};
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::parse_i64;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_scripting::{Budget, Cache, Function, Origin, Script, Sha, Versions, Vm, Watchdog};
use ringwood_shard::ctx::Args;
use ringwood_shard::watch::Name;
pub use scout::Lack;
pub(crate) use scout::TRIES_MAX;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// The version that scripts are told: that of the Redis whose behaviour they get.
const VERSIONS: Versions = Versions {
    major: 8,
    minor: 2,
    patch: 3,
};

/// What all cores know of scripts.
#[derive(Default)]
pub struct Library {
    cache: Mutex<Cache>,
    /// Grows with every SCRIPT FLUSH.
    flushes: AtomicU64,
    /// For threads that are no cores.
    pub wakers: debug::Wakers,
    pub libraries: functions::Libraries,
    pub busy: busy::Busy,
    /// What Lua may hold on all cores.
    pub memory: Arc<Budget>,
    /// DEBUG SET-DISABLE-DENY-SCRIPTS: scripts may call DEBUG PROTOCOL and DEBUG SLEEP.
    pub calls_debug: AtomicBool,
    /// Long scripts are watched, from the first script on. Not in the simulation, which has no time but its own.
    is_watched: bool,
    watchdog: OnceLock<Option<Watchdog>>,
}

impl Library {
    pub fn watched() -> Self {
        Self {
            is_watched: true,
            ..Self::default()
        }
    }
    fn watchdog(&self) -> Option<&Watchdog> {
        let start = || {
            let started = self.is_watched.then(|| Watchdog::start(busy::INTERVAL))?;
            let warn = |error| tracing::warn!("Long scripts are not watched: {error}");
            started.map_err(warn).ok()
        };
        self.watchdog.get_or_init(start).as_ref()
    }
    /// How many scripts are cached, and their bytes.
    pub fn cached(&self) -> (usize, usize) {
        let cache = self.cache();
        (cache.len(), cache.bytes())
    }
    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        crate::commands::lock(&self.cache)
    }
}

/// One core's scripts.
#[derive(Default)]
pub(crate) struct Scripts {
    /// Made when the first script runs here. Taken out while one runs.
    vm: Option<Vm>,
    known: HashMap<Sha, Arc<Script>, RandomState>,
    /// The same by a hash of their texts: a SHA-1 costs more than a short script's run.
    by_text: HashMap<u64, Arc<Script>, RandomState>,
    /// Those of them that can use no keys but the declared ones.
    narrow: HashSet<Sha, RandomState>,
    /// Scripts that needed every core.
    wide: HashSet<Sha, RandomState>,
    /// The same of functions, by their names in lower case.
    wide_functions: HashSet<Vec<u8>, RandomState>,
    /// The last script's reply, kept for its capacity.
    pub(crate) reply: Vec<u8>,
    own: functions::Own,
    pub(super) asking: host::Asking,
    /// What the script that runs has called, where it may have to start again. Kept for its capacity.
    calls: ScriptCalls,
    pub(super) debug: debug::Debugging,
    /// [`Library::flushes`] when `known` was right.
    flushes: u64,
}

/// What a script may use beside the keys that it declares.
#[derive(Clone, Copy)]
pub(crate) enum Access<'a> {
    /// These, which are locked and here.
    Keys(&'a [Name]),
    /// All: this transaction of ours holds every core.
    All(u32),
}

/// A script's keys and arguments within the words of its command.
pub(crate) struct Parameters<'a> {
    pub keys: Args<'a>,
    pub args: Args<'a>,
}

pub(crate) fn parameters<'a>(args: Args<'a>) -> Result<Parameters<'a>, CommandError> {
    let count = parse_i64(args[2]).ok_or(CommandError::NotInteger)?;
    let rest = &args[3..];
    if count > rest.len() as i64 {
        let text = "Number of keys can't be greater than number of args";
        return Err(CommandError::err(text));
    }
    let Ok(count) = usize::try_from(count) else {
        return Err(CommandError::err("Number of keys can't be negative"));
    };
    let (keys, args) = rest.split_at(count);
    Ok(Parameters { keys, args })
}

const NO_SCRIPT: CommandError =
    CommandError::fixed("NOSCRIPT No matching script. Please use EVAL.");
/// Bytes of a script's digest.
const SHA_LEN: usize = 20;

/// What a command runs.
enum Target {
    Script(Arc<Script>),
    Function(Function),
}

impl Target {
    fn flags(&self) -> Option<ringwood_scripting::Flags> {
        match self {
            Self::Script(script) => script.flags,
            Self::Function(function) => Some(function.info().flags),
        }
    }
}

/// A script's command that may run.
struct Prepared<'a> {
    target: Target,
    parameters: Parameters<'a>,
    read_only: bool,
    no_memory: bool,
    command: Args<'a>,
}

fn is_function(entry: &Entry) -> bool {
    entry.spec.name.starts_with("FCALL")
}

fn is_by_sha(entry: &Entry) -> bool {
    entry.spec.name.starts_with("EVALSHA")
}

impl Core {
    /// Forgets what another core's SCRIPT FLUSH has flushed.
    fn follow_flushes(&mut self) {
        let flushes = self.shared.scripts.flushes.load(Ordering::Acquire);
        if self.scripts.flushes != flushes {
            self.scripts.flushes = flushes;
            self.scripts.known.clear();
            self.scripts.narrow.clear();
            self.scripts.by_text.clear();
            self.scripts.wide.clear();
            if let Some(vm) = &mut self.scripts.vm {
                vm.flush();
            }
        }
    }

    fn find_script(&mut self, entry: &Entry, word: &[u8]) -> Result<Arc<Script>, CommandError> {
        self.follow_flushes();
        let error = |text: String| CommandError::Text(one_line(&text).into());
        let by_sha = is_by_sha(entry);
        let text_hash = match by_sha {
            true => None,
            false => Some(self.shard.keyspace.hasher().hash(word)),
        };
        if let Some(script) = text_hash.and_then(|hash| self.scripts.by_text.get(&hash))
            && *script.body == *word
        {
            return Ok(script.clone());
        }
        let sha = match by_sha {
            true => Sha::parse(word),
            false => Some(Sha::of(word)),
        };
        let sha = sha.ok_or(NO_SCRIPT)?;
        if let Some(script) = self.scripts.known.get(&sha).cloned() {
            if let Some(hash) = text_hash {
                self.scripts.by_text.insert(hash, script.clone());
            }
            return Ok(script);
        }
        let shared = self.shared.clone();
        let mut cache = shared.scripts.cache();
        let origin = if by_sha { Origin::Load } else { Origin::Eval };
        let script = match by_sha {
            true => cache.get(&sha, origin).ok_or(NO_SCRIPT)?,
            false => {
                let script = cache.find_or_parse(word, origin).map_err(error)?;
                self.vm().compile(&script).map_err(error)?;
                cache.insert(script.clone(), origin);
                script
            }
        };
        if self.cores() > 1 && narrow::is_narrow(&script.body, |name| self.registry.lookup(name)) {
            self.scripts.narrow.insert(sha);
        }
        self.scripts.known.insert(sha, script.clone());
        Ok(script)
    }
    /// True for a script that never has to start again wide.
    pub(crate) fn is_narrow_script(&mut self, entry: &Entry, args: Args<'_>) -> bool {
        // What is wrong with its text it hears where it runs. One with wrong words is not even read.
        !is_function(entry)
            && parameters(args).is_ok()
            && self
                .find_script(entry, args[1])
                .is_ok_and(|script| self.scripts.narrow.contains(&script.sha))
    }

    fn vm(&mut self) -> &mut Vm {
        let seed = self.shard.random();
        let (shared, maxmemory) = (&self.shared, self.config.maxmemory);
        self.scripts.vm.get_or_insert_with(|| {
            let mut vm = Vm::new(&VERSIONS, seed).expect("memory for a Lua machine");
            shared.scripts.limit_memory(maxmemory);
            vm.share_budget(&shared.scripts.memory);
            if let Some(watchdog) = shared.scripts.watchdog() {
                vm.watch(&watchdog.handle());
            }
            vm
        })
    }

    /// True for a script or function that says of itself that it does not write. One that is not known does not say so.
    pub(crate) fn script_only_reads(&mut self, entry: &Entry, args: Args<'_>) -> bool {
        let flags = match is_function(entry) {
            true => self.find_function(args[1]).ok().map(|f| f.info().flags),
            false => self.find_script(entry, args[1]).ok().and_then(|s| s.flags),
        };
        flags.is_some_and(|f| f.no_writes)
    }

    /// True when the script of this command has needed every core.
    pub(crate) fn is_wide_script(&self, entry: &Entry, args: Args<'_>) -> bool {
        if self.cores() == 1 {
            return false;
        }
        if is_function(entry) {
            return self.is_wide_function(args[1]);
        }
        if self.scripts.wide.is_empty() {
            return false;
        }
        let sha = match is_by_sha(entry) {
            true => Sha::parse(args[1]),
            false => Some(Sha::of(args[1])),
        };
        sha.is_some_and(|sha| self.scripts.wide.contains(&sha))
    }

    /// Runs a script's command; its reply goes to the end of `out`. `Err`: it must start again, with what it lacks.
    pub(crate) fn run_script(
        &mut self,
        entry: &'static Entry,
        args: Args<'_>,
        db: usize,
        version: Version,
        access: Access<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Lack> {
        let from = out.len();
        self.stats.called(entry);
        crate::crash::note_command(entry, 0);
        // Looking up a key is three loads one after the other, and each waits for memory. Most scripts call for their first key first: what is
        // done until then hides them.
        let first = match args {
            [_, _, count, key, ..] if *count != b"0" => Some(self.shard.key(key)),
            _ => None,
        };
        if let Some(key) = first {
            self.shard.keyspace.prefetch_table(db, key.slot);
        }
        let Some(prepared) = self.prepare(entry, args, version, out) else {
            return Ok(());
        };
        if let Some(key) = first {
            self.shard.keyspace.prefetch_bucket(db, key.slot, key.hash);
        }
        let mut vm = self.take_vm();
        let reach = match access {
            _ if self.cores() == 1 => Reach::Everything,
            Access::All(transaction) => Reach::Held(transaction),
            Access::Keys(found) => {
                let found = found.iter().map(|(_, key)| &**key);
                self.reach(prepared.parameters.keys.iter().copied().chain(found))
            }
        };
        if let Some(key) = first {
            self.shard.keyspace.prefetch_entry(db, key.slot, key.hash);
        }
        let mut host = ScriptHost::new(self, db, reach);
        let result = host.run(&mut vm, &prepared, version, out);
        let lack = host.finish();
        self.scripts.vm = Some(vm);
        if let Some(lack) = lack {
            out.truncate(from);
            // It is counted when it runs again.
            let calls = &mut self.stats.commands[entry.index].calls;
            *calls = calls.saturating_sub(1);
            match (&lack, &prepared.target) {
                (Lack::Keys(_), _) => false,
                (Lack::Everything, Target::Script(script)) => self.scripts.wide.insert(script.sha),
                (Lack::Everything, Target::Function(_)) => {
                    let name = args[1].to_ascii_lowercase();
                    self.scripts.wide_functions.insert(name)
                }
            };
            return Err(lack);
        }
        if let Err(error) = result {
            self.count_failed(entry, &error);
        }
        Ok(())
    }

    /// What a script with these keys may use, on one of several cores.
    fn reach<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Reach {
        let slots: Vec<u16> = keys.map(ringwood_protocol::slot::key_slot).collect();
        Reach::Declared {
            alone: slots.iter().all(|s| self.owner(*s) as usize == self.id),
            slots,
            undo: Vec::new(),
            strays: HashSet::default(),
            messages: Vec::new(),
        }
    }

    fn take_vm(&mut self) -> Vm {
        self.vm();
        self.scripts.vm.take().expect("made just now")
    }

    fn count_failed(&mut self, entry: &Entry, error: &ringwood_scripting::ScriptError) {
        match error.counted {
            true => self.stats.commands[entry.index].failed += 1,
            false => self.stats.error_reply(entry, &error.code),
        }
    }

    /// Finds what a script's command runs. `None`: it may not run now; its reply is written.
    fn prepare<'a>(
        &mut self,
        entry: &'static Entry,
        args: Args<'a>,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Option<Prepared<'a>> {
        let found = match is_function(entry) {
            true => self.find_function(args[1]).and_then(|function| {
                let parameters = functions::parameters(args)?;
                Ok((Target::Function(function), parameters))
            }),
            // What is too long or too short for a digest is named first.
            false if is_by_sha(entry) && args[1].len() != 2 * SHA_LEN => Err(NO_SCRIPT),
            false => parameters(args).and_then(|parameters| {
                let script = self.find_script(entry, args[1])?;
                Ok((Target::Script(script), parameters))
            }),
        };
        let found = found.and_then(|(target, parameters)| {
            let flags = target.flags();
            let ro = entry.spec.name.ends_with("_RO");
            functions::check_flags(flags, ro)?;
            Ok((target, parameters, ro || flags.is_some_and(|f| f.no_writes)))
        });
        let (target, parameters, read_only) = match found {
            Ok(found) => found,
            Err(error) => {
                Reply::new(out, version).command_error(&error);
                self.stats.error(entry, &error);
                return None;
            }
        };
        let flags = target.flags();
        let no_memory = self.room.is_out() && !flags.is_some_and(|f| f.allow_oom);
        let refused = if no_memory && flags.is_some_and(|f| !f.no_writes) {
            // A script that says what it does is not begun.
            CommandError::OutOfMemory
        } else if self.refuses_writes && flags.is_some_and(|f| !f.no_writes) {
            self.write_error()
        } else {
            return Some(Prepared {
                target,
                parameters,
                read_only,
                no_memory,
                command: args,
            });
        };
        Reply::new(out, version).command_error(&refused);
        self.stats.rejected(Some(entry), &refused);
        None
    }

    /// Bytes that Lua holds here.
    pub(crate) fn lua_memory(&self) -> usize {
        self.scripts.vm.as_ref().map_or(0, Vm::used_memory)
    }

    // ---- SCRIPT ----

    pub(crate) fn script_load(&mut self, body: &[u8]) -> Result<Sha, CommandError> {
        self.follow_flushes();
        let shared = self.shared.clone();
        let mut cache = shared.scripts.cache();
        let fail = |text: String| CommandError::Text(one_line(&text).into());
        let script = cache.find_or_parse(body, Origin::Load).map_err(fail)?;
        self.vm().compile(&script).map_err(fail)?;
        let sha = script.sha;
        cache.insert(script, Origin::Load);
        Ok(sha)
    }
    pub(crate) fn script_exists(&self, word: &[u8]) -> bool {
        let cache = self.shared.scripts.cache();
        Sha::parse(word).is_some_and(|sha| cache.exists(&sha))
    }
    pub(crate) fn script_text(&self, word: &[u8]) -> Option<Box<[u8]>> {
        let mut cache = self.shared.scripts.cache();
        let script = cache.get(&Sha::parse(word)?, Origin::Load)?;
        Some(script.body.clone())
    }
    pub(crate) fn script_flush(&mut self) {
        self.shared.scripts.cache().flush();
        self.shared.scripts.flushes.fetch_add(1, Ordering::AcqRel);
        self.follow_flushes();
    }
}

/// An error's text may not have line ends.
fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}
