//! What a running script reaches: `redis.call` and the rest of [`Host`].

mod own;
mod wide;

use super::busy::Slow;
use super::scout::{Course, Lack};
use super::{Parameters, Prepared, Target};
use crate::core::{Control, Core};
use crate::io::ConnId;
use crate::mailbox::Words;
use crate::pubsub::Counted;
use crate::registry::{Entry, Keys, Run};
use ringwood_protocol::command::{DENYOOM, MAY_REPLICATE, NOSCRIPT, Route, WRITE};
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_protocol::slot::key_slot;
use ringwood_scripting::{Host, Interrupt, LogLevel, Replication, Vm};
use ringwood_shard::ctx::Args;
use ringwood_shard::keyspace::entry::Parts;
use ringwood_shard::shard::KeyEvent;
use ringwood_shard::watch::Name;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
pub(crate) use wide::Asking;

/// What a script's commands are told when the server ends meanwhile.
pub(super) const ENDING: &str = "ERR the server ends";
/// What a write is told in a script that is killed.
const KILLED: &str = "ERR Script killed by user with SCRIPT KILL...";

/// A key as it was before a script wrote it.
pub(super) struct Before {
    name: Name,
    parts: Option<Parts>,
}

/// Which keys a script may use.
pub(super) enum Reach {
    /// One core has them all.
    Everything,
    /// All: this transaction of ours holds every core.
    Held(u32),
    /// Those of these slots that are here, and any other of this core that nobody holds, if it is alone.
    Declared {
        slots: Vec<u16>,
        /// All declared keys are this core's: the script is one moment of this core. With keys of others it has a place in the order of
        /// transactions, and what it has not locked may have been changed by later ones.
        alone: bool,
        /// What to put back if the script must start again. Its key events wait until it is known that it need not.
        undo: Vec<Before>,
        /// Keys that it used though it did not declare them. When it starts again they are to be locked too.
        strays: HashSet<Name>,
        /// What it has published: sent when it is known that it need not start again.
        messages: Vec<Counted>,
    },
}

pub(super) struct ScriptHost<'a> {
    core: &'a mut Core,
    db: usize,
    reach: Reach,
    read_only: bool,
    /// What it called, for MONITOR.
    called: Vec<Called>,
    /// Commands that need memory are refused, until the script has written something: then it may not be stopped half-way.
    no_memory: bool,
    course: Course,
    /// What it wrote into the server's log, shown when it is known that it need not start again.
    lines: Vec<(LogLevel, Box<[u8]>)>,
    /// It has called a command that writes.
    wrote: bool,
    /// What all cores know of it once it has run for long.
    slow: Option<Arc<Slow>>,
    function: Option<Box<str>>,
    command: Args<'a>,
    /// The last call was refused before it ran.
    refused: bool,
    /// Where its changes begin in the log's transaction.
    logged: usize,
    /// What it does from now on is logged: `redis.set_repl`.
    logs: bool,
}

/// A call that MONITOR is shown when the script stands.
struct Called {
    db: usize,
    /// The client whose own command it is.
    by: Option<ConnId>,
    entry: &'static Entry,
    words: Words,
}

impl Core {
    /// Shows MONITOR what a script called.
    fn monitor_calls(&mut self, called: Vec<Called>) {
        for Called {
            db,
            by,
            entry,
            words,
        } in called
        {
            match by {
                Some(conn) => self.monitor_command(conn, entry, &words.slices()),
                None => self.monitor(db, "lua", entry, &words.slices()),
            }
        }
    }
}

impl<'a> ScriptHost<'a> {
    pub fn new(core: &'a mut Core, db: usize, reach: Reach) -> Self {
        core.scripts.calls.called.clear();
        core.scripts.calls.errors.clear();
        let logged = core.shard.log.position();
        Self {
            core,
            db,
            reach,
            read_only: true,
            called: Vec::new(),
            no_memory: false,
            course: Course::Sound,
            lines: Vec::new(),
            wrote: false,
            slow: None,
            function: None,
            command: &[],
            refused: false,
            logged,
            logs: true,
        }
    }

    /// For who calls without [`ScriptHost::run`].
    pub fn reading(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }
    pub fn without_memory(mut self, no_memory: bool) -> Self {
        self.no_memory = no_memory;
        self
    }

    /// Runs a script; its reply goes to the end of `out`.
    pub fn run(
        &mut self,
        vm: &mut Vm,
        prepared: &Prepared<'a>,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Result<(), ringwood_scripting::ScriptError> {
        let Parameters { keys, args } = prepared.parameters;
        self.function = match &prepared.target {
            Target::Script(_) => None,
            Target::Function(f) => Some(f.info().name.as_str().into()),
        };
        self.command = prepared.command;
        self.read_only = prepared.read_only;
        self.no_memory = prepared.no_memory;
        (self.wrote, self.logs) = (false, true);
        let result = match &prepared.target {
            Target::Script(script) => vm.run(script, keys, args, version, self, out),
            Target::Function(f) => vm.call_function(f, keys, args, version, self, out),
        };
        if let Some(slow) = self.slow.take() {
            self.core.shared.scripts.busy.end(&slow);
        }
        result
    }

    pub fn db(&self) -> usize {
        self.db
    }
    /// Commands that need memory are still refused.
    pub fn lacks_memory(&self) -> bool {
        self.no_memory
    }
    pub fn was_refused(&self) -> bool {
        self.refused
    }

    /// The script has ended. What it lacked, if it must start again; then its writes are undone.
    pub fn finish(mut self) -> Option<Lack> {
        let Reach::Declared {
            messages, strays, ..
        } = &mut self.reach
        else {
            self.end();
            return None;
        };
        if self.course == Course::Sound
            && !messages.is_empty()
            && !self.core.publish_counted(messages)
        {
            self.course.lacks_everything();
        }
        let lack = std::mem::take(&mut self.course).lack(strays);
        match lack {
            None => self.end(),
            Some(_) => self.undo(),
        }
        lack
    }
    fn end(self) {
        let Self {
            core,
            called,
            lines,
            ..
        } = self;
        for (level, text) in lines {
            log(level, &text);
        }
        core.shard.attention.tell_withheld(|_| false);
        core.monitor_calls(called);
        core.send_events();
    }
    /// Takes back what the script has done.
    fn undo(self) {
        let Self {
            core,
            reach: Reach::Declared { undo, .. },
            logged,
            ..
        } = self
        else {
            panic!("a script that has everything does not start again")
        };
        core.stats.take_back(&core.scripts.calls);
        // What was not undone (a key that was read, and whose time was over) stays told.
        let undone = |e: &KeyEvent| undo.iter().any(|b| b.name.0 == e.db && b.name.1 == e.key);
        core.shard.events.retain(|e| e.modified && !undone(e));
        core.shard.log.undo(logged);
        let is_undone = |name: &Name| undo.iter().any(|b| b.name == *name);
        core.shard.attention.tell_withheld(is_undone);
        for Before {
            name: (db, key),
            parts,
        } in undo.into_iter().rev()
        {
            core.shard.undo(db, &key, parts);
        }
        core.send_events();
    }

    /// Runs a data command.
    fn data(&mut self, entry: &'static Entry, args: Args<'_>, version: Version, out: &mut Vec<u8>) {
        let all = matches!(entry.spec.route, Route::AllShards(_) | Route::Cursor);
        // What MIGRATE has moved nobody takes back.
        let unnamed = entry.widens() && args.len() > 2 || entry.spec.name == "MIGRATE";
        let logged = self.core.shard.log.position();
        let mut is_missing = false;
        match &mut self.reach {
            Reach::Everything => {
                self.core.run_data(entry, args, self.db, version, out);
            }
            Reach::Held(transaction) => {
                let transaction = *transaction;
                match all {
                    true => self.everywhere(transaction, entry, args, version, out),
                    false => self.borrowing(transaction, entry, args, version, out),
                }
            }
            Reach::Declared {
                slots,
                alone,
                undo,
                strays,
                ..
            } => {
                let core = &*self.core;
                let mut mine = |slot: u16, key: &[u8]| {
                    if slots.contains(&slot) {
                        return true;
                    }
                    let is_free = *alone && !core.locks.in_use(slot);
                    if is_free {
                        strays.insert((self.db, key.into()));
                    }
                    is_free
                };
                // One that reads one key of this core: nearly every call.
                let plainly = match (entry.keys, all || unnamed || entry.has(WRITE)) {
                    (Keys::One(at), false) => args.get(at).is_some_and(|key| {
                        let slot = key_slot(key);
                        core.owner(slot) as usize == core.id && mine(slot, key)
                    }),
                    _ => false,
                };
                if !plainly {
                    let mut names = core.key_names(entry, args, self.db);
                    let mut has = |(db, key): &Name| {
                        let slot = key_slot(key);
                        match core.owner(slot) as usize == core.id {
                            true => mine(slot, key),
                            false => core.shard.guests.contains(&(*db, key.clone())),
                        }
                    };
                    if all || unnamed {
                        return self.course.lacks_everything();
                    }
                    let missing: Vec<Name> =
                        names.iter().filter(|name| !has(name)).cloned().collect();
                    if !missing.is_empty() {
                        self.course.misses(missing);
                        is_missing = true;
                    }
                    if self.course.is_over() {
                        return;
                    }
                    if entry.has(WRITE) {
                        names.retain(|name| !undo.iter().any(|b| b.name == *name));
                        for name in names {
                            let parts = self.core.shard.duplicate(name.0, &name.1);
                            undo.push(Before { name, parts });
                        }
                    }
                }
                let core = &mut *self.core;
                core.shard.attention.withholds = true;
                match is_missing {
                    false => core.run_data_quietly(entry, args, self.db, version, out),
                    true => core.scout_data(entry, args, self.db, version, out),
                }
                core.shard.attention.withholds = false;
            }
        }
        // What concerns all keys is logged in any case.
        if !self.logs && !all {
            self.core.shard.log.undo(logged);
        }
    }

    /// Tells all cores that this script is slow, and what it holds.
    fn begin_slow(&mut self, elapsed: Duration) {
        // Who wonders what it does reads the log.
        for (level, text) in std::mem::take(&mut self.lines) {
            log(level, &text);
        }
        let id = self.core.id;
        let (held, lenders) = match &self.reach {
            Reach::Held(_) => (u128::MAX, 0),
            Reach::Everything => (1 << id, 0),
            Reach::Declared { slots, .. } => {
                let owners = slots.iter().map(|slot| self.core.owner(*slot) as usize);
                let all = owners.fold(0u128, |all, owner| all | 1 << owner);
                (1 << id, all & !(1 << id))
            }
        };
        let name = match &self.function {
            Some(name) => name.to_string(),
            None => "script".to_string(),
        };
        tracing::warn!(
            "Slow script detected: still in execution after {} milliseconds. You can try killing the script using the {} \
             command. Script name is: {name}.",
            elapsed.as_millis(),
            if self.function.is_some() {
                "FUNCTION KILL"
            } else {
                "SCRIPT KILL"
            },
        );
        let function = self.function.as_deref().map(str::to_string);
        let slow = Slow::new(function, self.command, elapsed, self.wrote).holding(held, lenders);
        let slow = Arc::new(slow);
        self.core.shared.scripts.busy.begin(slow.clone());
        for core in (0..self.core.cores()).filter(|&core| core != id) {
            if slow.concerned() >> core & 1 != 0 {
                self.core.mailbox.send_control(core, Control::Slow);
            }
        }
        self.slow = Some(slow);
    }

    /// Runs a command that the script may call.
    fn carry_out(
        &mut self,
        entry: Option<&'static Entry>,
        args: Args<'_>,
        version: Version,
        reply: &mut Vec<u8>,
    ) {
        self.refused = true;
        if let Some(text) = refusal(entry, args, self.read_only)
            && !self.is_for_debugging(entry, args)
        {
            Reply::new(reply, version).error(text);
            return;
        }
        let entry = entry.expect("not refused");
        if let Some(error) = self.core.forbidden_in_script(entry, args) {
            Reply::new(reply, version).error(&error);
            return;
        }
        if self.no_memory && entry.has(DENYOOM) {
            Reply::new(reply, version).command_error(&CommandError::OutOfMemory);
            return;
        }
        if entry.has(WRITE) && self.core.refuses_writes && !self.wrote {
            Reply::new(reply, version).command_error(&self.core.write_error());
            return;
        }
        self.refused = false;
        self.no_memory &= !entry.has(WRITE);
        if entry.has(WRITE) {
            self.wrote = true;
            if self.slow.as_ref().is_some_and(|slow| !slow.may_write()) {
                // The next look at it ends it.
                self.refused = true;
                return Reply::new(reply, version).error(KILLED);
            }
        }
        self.course.calls(entry);
        if !self.course.is_over() {
            match entry.spec.run {
                Run::Server(handler) => {
                    self.server(entry, handler, args, &mut Reply::new(reply, version));
                }
                Run::Shard(_) => self.data(entry, args, version, reply),
            }
        }
        if self.core.monitors.any() && self.course == Course::Sound {
            self.note_called(None, entry, args);
        }
    }
    fn note_called(&mut self, by: Option<ConnId>, entry: &'static Entry, args: Args<'_>) {
        self.called.push(Called {
            db: self.db,
            by,
            entry,
            words: Words::new(args.iter().copied()),
        });
    }
    /// A command of the transaction that the script is in, before it runs.
    pub fn shows(&mut self, conn: ConnId, entry: &'static Entry, args: Args<'_>) {
        if self.core.monitors.any() {
            self.note_called(Some(conn), entry, args);
        }
    }
    pub fn core(&mut self) -> &mut Core {
        self.core
    }
    pub fn is_over(&self) -> bool {
        self.course.is_over()
    }
    /// A data command of the transaction that the script is in.
    pub fn plain(
        &mut self,
        entry: &'static Entry,
        args: Args<'_>,
        version: Version,
        out: &mut Vec<u8>,
    ) {
        let from = out.len();
        (self.refused, self.logs) = (false, true);
        self.course.calls(entry);
        if self.course.is_over() {
            return;
        }
        self.data(entry, args, version, out);
        self.count(Some(entry), &out[from..]);
    }
    /// A script's command of the transaction.
    pub fn counts(&mut self, entry: &'static Entry) {
        self.core.stats.called(entry);
        self.core.scripts.calls.called.push(entry.index as u32);
    }
    pub fn selects(&mut self, db: usize) {
        self.db = db;
    }

    /// DEBUG PROTOCOL and DEBUG SLEEP, where they were allowed.
    #[cold]
    fn is_for_debugging(&self, entry: Option<&Entry>, args: Args<'_>) -> bool {
        let allowed = &self.core.shared.scripts.calls_debug;
        allowed.load(Ordering::Acquire)
            && entry.is_some_and(|e| e.name == "debug")
            && args.len() == 3
            && [&b"PROTOCOL"[..], b"SLEEP"]
                .iter()
                .any(|name| args[1].eq_ignore_ascii_case(name))
    }

    /// Counts a call by what it answered. Data commands count themselves; where the script may have to start again, that is
    /// noted.
    fn count(&mut self, entry: Option<&'static Entry>, reply: &[u8]) {
        let core = &mut *self.core;
        let error = reply.strip_prefix(b"-").map(|text| {
            let word = text.split(u8::is_ascii_whitespace).next();
            String::from_utf8_lossy(word.unwrap_or_default())
        });
        let server = entry.is_some_and(|e| matches!(e.spec.run, Run::Server(_)));
        match (&error, entry) {
            (Some(code), _) if self.refused => core.stats.refused(entry, code),
            (Some(code), Some(entry)) if server => core.stats.error_reply(entry, code),
            _ => {}
        }
        if let Some(entry) = entry.filter(|_| server && !self.refused) {
            core.stats.called(entry);
        }
        if let Reach::Declared { .. } = self.reach {
            let calls = &mut core.scripts.calls;
            let index = entry.map(|e| e.index as u32);
            if !self.refused {
                calls.called.extend(index);
            }
            if let Some(code) = error {
                calls.errors.push((index, self.refused, code.into()));
            }
        }
    }
}

/// Why a script may not run a command, if so.
pub(super) fn refusal(
    entry: Option<&Entry>,
    args: Args<'_>,
    read_only: bool,
) -> Option<&'static str> {
    let Some(entry) = entry else {
        return Some("ERR Unknown Redis command called from script");
    };
    if !entry.spec.arity_fits(args.len()) {
        return Some("ERR Wrong number of args calling Redis command from script");
    }
    if !entry.subcommands.is_empty() && args.len() > 1 {
        return Some("ERR Unknown Redis command called from script");
    }
    if entry.has(NOSCRIPT) {
        return Some("ERR This Redis command is not allowed from script");
    }
    if read_only && entry.has(WRITE | MAY_REPLICATE) {
        return Some("ERR Write commands are not allowed from read-only scripts.");
    }
    None
}

/// `redis.log`
pub(super) fn log(level: LogLevel, message: &[u8]) {
    let message = String::from_utf8_lossy(message);
    match level {
        LogLevel::Debug => tracing::trace!("{message}"),
        LogLevel::Verbose => tracing::debug!("{message}"),
        LogLevel::Notice => tracing::info!("{message}"),
        LogLevel::Warning => tracing::warn!("{message}"),
    }
}

impl Host for ScriptHost<'_> {
    fn call(&mut self, args: &[&[u8]], version: Version, reply: &mut Vec<u8>) {
        let from = reply.len();
        let entry = self.core.registry.resolve(args);
        self.core.shard.in_script = true;
        self.carry_out(entry, args, version, reply);
        self.core.shard.in_script = false;
        if self.course.is_over() {
            reply.truncate(from);
            return Reply::new(reply, version).error("ERR the script starts again");
        }
        self.count(entry, &reply[from..]);
    }

    fn abandons(&self) -> bool {
        self.course.is_over()
    }

    fn log(&mut self, level: LogLevel, message: &[u8]) {
        match self.reach {
            Reach::Declared { .. } if self.slow.is_none() => {
                self.lines.push((level, message.into()));
            }
            _ => log(level, message),
        }
    }

    fn interrupt(&mut self, elapsed: Duration) -> Interrupt {
        if self.course != Course::Sound {
            // It knows more than it will by waiting for a key that it cannot see.
            self.course.end();
            return Interrupt::Kill;
        }
        let threshold = self.core.config.busy_reply_threshold;
        if threshold == 0 || elapsed < Duration::from_millis(threshold) {
            return Interrupt::Continue;
        }
        if self.slow.is_none() {
            self.begin_slow(elapsed);
        }
        if let Err(error) = self.core.look_around() {
            tracing::warn!("A script cannot look around: {error}");
        }
        let killed = self.slow.as_ref().is_some_and(|slow| slow.is_killed());
        match killed || self.core.stopping {
            true => {
                tracing::info!("Lua script killed by user with SCRIPT KILL.");
                Interrupt::Kill
            }
            false => Interrupt::Continue,
        }
    }

    fn set_repl(&mut self, replication: Replication) {
        self.logs = replication.log;
    }

    fn acl_check(&mut self, args: &[&[u8]]) -> Option<bool> {
        let entry = self.core.registry.resolve(args)?;
        let user = self.core.acting.as_deref();
        Some(user.is_none_or(|user| user.check(entry, args).is_ok()))
    }
}
