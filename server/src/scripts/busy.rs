//! Scripts that run for longer than `busy-reply-threshold`.
//!
//! The watchdog has Lua call [`ScriptHost::interrupt`](super::host::ScriptHost) every [`INTERVAL`], in compiled loops too.
//! There a script that has run too long is put into [`Busy`], which all cores see; and its core looks at the world from within
//! the script ([`Core::look_around`]): new connections, requests, mail. What such a script holds answers BUSY until it
//! ends; SCRIPT KILL, FUNCTION KILL and SHUTDOWN NOSAVE work on every core.
//!
//! A script holds its core, or all of them if it is wide. The owners of keys that it borrowed (*lenders*) answer BUSY
//! for their locked slots only. Other cores refuse what needs a held core before any of it begins, so no command over
//! several cores is done by half. What had begun before waits for the script's end, and so do requests that arrived in one
//! turn with the script on its core: they lie in buffers that frames below it have in use.
//!
//! Whether a script may be killed is one atomic state: its first write and the kill are rivals for it.

use crate::core::{Control, Core};
use crate::io::{ConnId, Event, Io, Wait};
use crate::mailbox::{Item, Mail, Parcel, Ticket};
use crate::registry::{Entry, Run};
use crate::request::{OpenParcel, cursor};
use crate::transaction::Waiting;
use ringwood_protocol::command::{ADMIN, ALLOW_BUSY, LUA, Route};
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::Reply;
use ringwood_protocol::slot::key_slot;
use ringwood_shard::ctx::Args;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How often a running script is looked at.
pub const INTERVAL: Duration = Duration::from_millis(10);

/// What a slow script is, to everybody.
#[derive(Debug)]
pub struct Slow {
    /// Called by FCALL; its name then.
    pub function: Option<String>,
    /// The command that runs it.
    pub command: Vec<Box<[u8]>>,
    pub since: Instant,
    /// [`RUNNING`], [`WROTE`] or [`KILLED`].
    state: AtomicU8,
    held: u128,
    lenders: u128,
}

const RUNNING: u8 = 0;
const WROTE: u8 = 1;
const KILLED: u8 = 2;

const EVAL_BUSY: CommandError = CommandError::fixed(
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
);
const FUNCTION_BUSY: CommandError = CommandError::fixed(
    "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
);
const UNKILLABLE: CommandError = CommandError::fixed(
    "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script \
     termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
);

impl Slow {
    pub fn new(function: Option<String>, args: Args<'_>, elapsed: Duration, wrote: bool) -> Self {
        let now = Instant::now();
        Self {
            function,
            command: args.iter().map(|word| Box::from(*word)).collect(),
            since: now.checked_sub(elapsed).unwrap_or(now),
            state: AtomicU8::new(if wrote { WROTE } else { RUNNING }),
            held: 0,
            lenders: 0,
        }
    }
    /// With the cores that it holds and those that it borrowed keys from.
    /// The cores that hear of it, but for the one that it runs on.
    pub fn concerned(&self) -> u128 {
        self.held | self.lenders
    }
    pub fn holding(self, held: u128, lenders: u128) -> Self {
        Self {
            held,
            lenders,
            ..self
        }
    }
    pub fn error(&self) -> CommandError {
        match self.function {
            Some(_) => FUNCTION_BUSY,
            None => EVAL_BUSY,
        }
    }
    pub fn is_killed(&self) -> bool {
        self.state.load(Ordering::Acquire) == KILLED
    }
    /// The script is about to write; false when it was killed before.
    pub fn may_write(&self) -> bool {
        let (done, none) = (Ordering::AcqRel, Ordering::Acquire);
        let change = self.state.compare_exchange(RUNNING, WROTE, done, none);
        change.is_ok() || change == Err(WROTE)
    }
    /// False when it has written.
    fn kill(&self) -> bool {
        let (done, none) = (Ordering::AcqRel, Ordering::Acquire);
        let change = self.state.compare_exchange(RUNNING, KILLED, done, none);
        change.is_ok() || change == Err(KILLED)
    }
}

/// A set of cores that others read at any time.
#[derive(Debug, Default)]
struct Cores([AtomicU64; 2]);

impl Cores {
    fn set(&self, cores: u128) {
        self.0[0].store(cores as u64, Ordering::Release);
        self.0[1].store((cores >> 64) as u64, Ordering::Release);
    }
    fn has(&self, core: usize) -> bool {
        self.0[core / 64].load(Ordering::Acquire) >> (core % 64) & 1 != 0
    }
}

/// All slow scripts.
#[derive(Debug, Default)]
pub struct Busy {
    /// How many: read for every command.
    count: AtomicUsize,
    held: Cores,
    lenders: Cores,
    scripts: Mutex<Vec<Arc<Slow>>>,
}

impl Busy {
    #[inline]
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }
    fn scripts(&self) -> MutexGuard<'_, Vec<Arc<Slow>>> {
        crate::commands::lock(&self.scripts)
    }
    fn changed(&self, scripts: &[Arc<Slow>]) {
        self.held.set(scripts.iter().fold(0, |all, s| all | s.held));
        self.lenders
            .set(scripts.iter().fold(0, |all, s| all | s.lenders));
        self.count.store(scripts.len(), Ordering::Release);
    }
    pub fn begin(&self, script: Arc<Slow>) {
        let mut scripts = self.scripts();
        scripts.push(script);
        self.changed(&scripts);
    }
    pub fn end(&self, script: &Arc<Slow>) {
        let mut scripts = self.scripts();
        scripts.retain(|s| !Arc::ptr_eq(s, script));
        self.changed(&scripts);
    }

    pub fn holds(&self, core: usize) -> bool {
        self.any() && self.held.has(core)
    }
    /// What a command is told that needs what a script has.
    pub fn error(&self, core: Option<usize>) -> CommandError {
        let scripts = self.scripts();
        let at = |s: &&Arc<Slow>| core.is_none_or(|c| (s.held | s.lenders) >> c & 1 != 0);
        let script = scripts.iter().find(at).or(scripts.first());
        script.map_or(EVAL_BUSY, |s| s.error())
    }
    /// The function that runs, for FUNCTION STATS.
    pub fn function(&self) -> Result<Option<Arc<Slow>>, CommandError> {
        let scripts = self.scripts();
        match scripts.iter().find(|s| s.function.is_some()) {
            None if !scripts.is_empty() => Err(EVAL_BUSY),
            found => Ok(found.cloned()),
        }
    }

    /// SCRIPT KILL and FUNCTION KILL: every script of that kind that can be killed is.
    pub fn kill(&self, function: bool) -> Result<(), CommandError> {
        let mut result = Err(CommandError::fixed(
            "NOTBUSY No scripts in execution right now.",
        ));
        for script in self.scripts().iter() {
            let fate = match script.function.is_some() == function {
                _ if script.state.load(Ordering::Acquire) == WROTE => Err(UNKILLABLE),
                false => Err(script.error()),
                true if script.kill() => Ok(()),
                true => Err(UNKILLABLE),
            };
            if result.is_err() {
                result = fate;
            }
        }
        result
    }
}

/// What a core needs to look at the world while frames below it are in the midst of a turn.
#[derive(Debug)]
pub(crate) struct Within {
    /// It does so now.
    now: bool,
    /// Whose script of another core's client runs.
    runner: Ticket,
    /// Connections that ended meanwhile, with requests in those frames. Their numbers may be others' by the time these go on.
    gone: Vec<ConnId>,
}

impl Default for Within {
    fn default() -> Self {
        Self {
            now: false,
            runner: Ticket::NOBODY,
            gone: Vec::new(),
        }
    }
}

impl Within {
    pub fn is_now(&self) -> bool {
        self.now
    }
    /// A script or transaction of another core's client begins, or none any more.
    pub fn runs_for(&mut self, ticket: Ticket) {
        self.runner = ticket;
    }
    /// A command comes from the client whose script runs: it waits for the script, as it would behind it.
    fn is_behind(&self, ticket: Ticket) -> bool {
        let of = |t: Ticket| (t.core, t.conn, t.client);
        of(ticket) == of(self.runner)
    }
    /// For a frame that is about to go on with a connection's requests: it is not that connection any more.
    #[inline]
    pub fn is_gone(&self, conn: ConnId) -> bool {
        !self.gone.is_empty() && !self.now && self.gone.contains(&conn)
    }
    /// A connection has ended, which a frame is `serving` or not.
    pub fn ended(&mut self, conn: ConnId, serving: bool) {
        if self.now && serving {
            self.gone.push(conn);
        }
    }
    /// A turn begins: no frame is left.
    pub fn clear(&mut self) {
        self.gone.clear();
    }
}

impl Core {
    /// Looks at the world from within a slow script that holds this core. Nothing that is taken in touches keys.
    pub(super) fn look_around(&mut self) -> std::io::Result<()> {
        self.within.now = true;
        let mut events = std::mem::take(&mut self.events);
        let result = self.io.turn(Wait::Poll, &mut events);
        self.take_events(&mut events);
        self.events = events;
        self.refuse_mail();
        self.refuse_waiting();
        for conn in std::mem::take(&mut self.going_on) {
            if let Some(client) = self.clients.get_mut(conn)
                && client.stalled
                && !client.is_waiting()
            {
                client.script_next = false;
                client.stalled = false;
                self.queue_query(conn);
            }
        }
        // Who was to run a script after this one.
        for conn in std::mem::take(&mut self.script_conns) {
            self.begin_script_of(conn);
        }
        let mut chunks = std::mem::take(&mut self.chunks);
        self.serve(&mut chunks);
        self.chunks = chunks;
        self.commit_log();
        self.mailbox.retry();
        self.send_parcels();
        self.send_replies();
        self.hold_mail();
        self.within.now = false;
        result
    }

    fn refuse_mail(&mut self) {
        let mut mail = std::mem::take(&mut self.early);
        self.mailbox.receive(|from, m| mail.push((from, m)));
        for (from, m) in mail {
            match m {
                Mail::Commands(parcel) => self.parcels.push_back((from, parcel)),
                Mail::Replies(parcel) => self.take_replies(parcel),
                Mail::Late(ticket, reply) => self.answer_with(ticket, &reply),
                Mail::Watch(watcher, ticket) => self.watches.push((watcher, ticket)),
                Mail::Unwatch(watcher) => self.unwatch_here(&watcher),
                other => self.early.push((from, other)),
            }
        }
        self.serve_watches();
        self.refuse_parcels();
        while let Some(message) = self.mailbox.next_control() {
            match message {
                Control::Adopt { .. } | Control::Slow | Control::Stop => self.control(message),
                other => self.early_control.push(other),
            }
        }
    }

    /// Answers a parcel, from its first command that has not run on. Those of the script's own client come back to be served.
    fn refuse_parcel(&mut self, mut open: OpenParcel) -> Option<Box<Parcel>> {
        let error = self.shared.scripts.busy.error(Some(self.id));
        let mut behind = None;
        let Parcel {
            items,
            words,
            replies,
            ..
        } = &mut *open.parcel;
        let mut args = Vec::new();
        for item in &mut items[open.next..] {
            args.clear();
            open.words_at = Parcel::read(words, open.words_at, item.argc, &mut args);
            if self.within.is_behind(item.ticket) {
                let behind: &mut Box<Parcel> = behind.get_or_insert_default();
                behind.add(Item { ..*item }, &args);
                item.deferred = true;
            } else {
                Reply::new(replies, item.version).command_error(&error);
                self.stats.rejected(Some(item.entry), &error);
            }
            item.reply_end = replies.len() as u32;
        }
        self.mailbox.send(open.from, Mail::Replies(open.parcel));
        behind
    }
    /// Answers all commands of other cores that wait here.
    fn refuse_parcels(&mut self) {
        let mut left = VecDeque::new();
        if let Some(mut open) = self.open_parcel.take() {
            let (from, at) = (open.from, open.next - 1);
            // The script's own answer comes by itself.
            open.parcel.items[at].deferred = true;
            open.parcel.items[at].reply_end = open.parcel.replies.len() as u32;
            left.extend(self.refuse_parcel(open).map(|parcel| (from, parcel)));
        }
        for (from, parcel) in std::mem::take(&mut self.parcels) {
            let open = OpenParcel {
                from,
                parcel,
                next: 0,
                words_at: 0,
            };
            left.extend(self.refuse_parcel(open).map(|parcel| (from, parcel)));
        }
        self.parcels = left;
    }

    /// Why a command cannot run now, if a slow script has what it needs.
    #[cold]
    pub(crate) fn busy_error(
        &mut self,
        entry: &'static Entry,
        args: Args<'_>,
    ) -> Option<CommandError> {
        let shared = self.shared.clone();
        let busy = &shared.scripts.busy;
        let error = |core| Some(busy.error(core));
        if entry.has(ALLOW_BUSY) {
            let nosave = |word: &&[u8]| word.eq_ignore_ascii_case(b"NOSAVE");
            let save = entry.spec.name == "SHUTDOWN" && !args.iter().any(nosave);
            return if save { error(None) } else { None };
        }
        if busy.holds(self.id) {
            return error(Some(self.id));
        }
        if let Run::Server(_) = entry.spec.run
            && !entry.has(LUA)
        {
            // What concerns all cores and does not say so by gathering answers.
            let all = entry.has(ADMIN) || matches!(entry.spec.name, "PUBLISH" | "SPUBLISH");
            return if all { error(None) } else { None };
        }
        let keys = match entry.spec.route {
            Route::AllShards(_) => return error(None),
            Route::Cursor => {
                let slot = cursor(args).map_or(0, |c| (c & 0x3fff) as u16);
                let owner = self.owner(slot) as usize;
                return if busy.holds(owner) {
                    error(Some(owner))
                } else {
                    None
                };
            }
            _ => self.key_names(entry, args, 0),
        };
        let mut owners = keys
            .iter()
            .map(|(_, key)| self.owner(key_slot(key)) as usize);
        let held = owners.find(|&owner| busy.holds(owner));
        match held {
            Some(core) => error(Some(core)),
            None if entry.has(LUA) && self.is_wide_script(entry, args) => error(None),
            None => None,
        }
    }

    /// The same for a command whose slots here are locked: a slow script elsewhere may have borrowed them.
    pub(crate) fn locked_error(&self) -> Option<CommandError> {
        let busy = &self.shared.scripts.busy;
        let concerned = busy.any() && (busy.lenders.has(self.id) || busy.held.has(self.id));
        concerned.then(|| busy.error(Some(self.id)))
    }
    /// A script that holds this core, or has borrowed keys of it, has become slow: what waits for slots is told.
    pub(crate) fn refuse_waiting(&mut self) {
        let Some(error) = self.locked_error() else {
            return;
        };
        let within = &self.within;
        let others = |work: &Waiting| match work {
            Waiting::Part(_) => false,
            Waiting::Watch { .. } => true,
            Waiting::Single { ticket, .. }
            | Waiting::Unit { ticket, .. }
            | Waiting::Exec { ticket, .. } => !within.is_behind(*ticket),
        };
        for work in self.locks.take_waiting(others) {
            match work {
                Waiting::Part(_) => panic!("not asked for"),
                Waiting::Exec { ticket, exec } => self.refuse_exec(ticket, *exec, &error),
                // It may run at any time.
                Waiting::Watch { ticket, watcher } => self.watch_now(&watcher, ticket),
                Waiting::Single {
                    ticket,
                    entry,
                    version,
                    ..
                }
                | Waiting::Unit {
                    ticket,
                    entry,
                    version,
                    ..
                } => {
                    let mut reply = Vec::new();
                    Reply::new(&mut reply, version).command_error(&error);
                    self.stats.rejected(Some(entry), &error);
                    self.answer(ticket, reply);
                }
            }
        }
    }

    /// Signals wait: they may begin a snapshot.
    pub(crate) fn waits_for_script(&self, event: &Event<crate::core::Stream>) -> bool {
        self.within.now && matches!(event, Event::Signal { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(function: Option<&str>, held: u128) -> Arc<Slow> {
        let function = function.map(str::to_string);
        let slow = Slow::new(function, &[b"EVAL", b"x"], Duration::ZERO, false);
        Arc::new(slow.holding(held, 0))
    }

    #[test]
    fn a_kill_and_the_first_write_are_rivals() {
        let (busy, script) = (Busy::default(), slow(None, 1));
        assert!(busy.kill(false).unwrap_err().text().starts_with("NOTBUSY"));
        busy.begin(script.clone());
        assert!(busy.holds(0) && !busy.holds(1) && !busy.holds(100));
        assert_eq!(busy.kill(true), Err(EVAL_BUSY));
        assert_eq!(busy.kill(false), Ok(()));
        assert!(script.is_killed() && !script.may_write());
        assert_eq!(busy.kill(false), Ok(()));
        busy.end(&script);
        assert!(!busy.any() && !busy.holds(0));
        let writer = slow(Some("f"), 1 << 100);
        busy.begin(writer.clone());
        assert!(busy.holds(100) && writer.may_write() && writer.may_write());
        assert_eq!(busy.kill(true), Err(UNKILLABLE));
        assert_eq!(busy.kill(false), Err(UNKILLABLE));
        // One of two can be killed.
        let other = slow(Some("g"), 2);
        busy.begin(other.clone());
        assert_eq!(busy.kill(true), Ok(()));
        assert!(other.is_killed() && !writer.is_killed());
    }
}
