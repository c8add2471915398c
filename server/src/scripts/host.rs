//! What a running script reaches: `redis.call` and the rest of [`Host`].

use crate::core::Core;
use crate::mailbox::Words;
use crate::multi::exclusive::{Under, UnderDone};
use crate::pubsub::Kind;
use crate::registry::{Entry, Run};
use crate::transaction::Loan;
use ringwood_protocol::command::{MAY_REPLICATE, NOSCRIPT, Route, WRITE};
use ringwood_protocol::reply::{Reply, Version};
use ringwood_protocol::slot::key_slot;
use ringwood_scripting::{Host, LogLevel, Replication};
use ringwood_shard::ctx::Args;
use ringwood_shard::keyspace::entry::Parts;
use ringwood_shard::shard::KeyEvent;
use ringwood_shard::watch::Name;

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
    /// Those of these slots that are here, and any other of this core that nobody holds.
    Declared {
        slots: Vec<u16>,
        /// What to put back if the script must start again. Its key events wait until it is known that it need not.
        undo: Vec<Before>,
    },
}

pub(super) struct ScriptHost<'a> {
    core: &'a mut Core,
    db: usize,
    reach: Reach,
    read_only: bool,
    /// What it called, for MONITOR.
    called: Vec<(usize, &'static Entry, Words)>,
    /// It reached for more: nothing that it does from now on counts.
    wide: bool,
}

impl<'a> ScriptHost<'a> {
    pub fn new(core: &'a mut Core, db: usize, reach: Reach, read_only: bool) -> Self {
        Self {
            core,
            db,
            reach,
            read_only,
            called: Vec::new(),
            wide: false,
        }
    }

    /// The script has ended. True when it must start again with every core held; then its writes are undone.
    pub fn finish(self) -> bool {
        let Self {
            core,
            reach,
            wide,
            called,
            ..
        } = self;
        for (db, entry, words) in called.iter().filter(|_| !wide) {
            core.monitor(*db, "lua", entry, &words.slices());
        }
        let Reach::Declared { undo, .. } = reach else {
            return wide;
        };
        if wide {
            // What was not undone (a key that was read, and whose time was over) stays told.
            let undone = |e: &KeyEvent| undo.iter().any(|b| b.name.0 == e.db && b.name.1 == e.key);
            core.shard.events.retain(|e| e.modified && !undone(e));
            for Before {
                name: (db, key),
                parts,
            } in undo.into_iter().rev()
            {
                core.shard.undo(db, &key, parts);
            }
        }
        core.send_events();
        wide
    }

    /// Runs a data command.
    fn data(&mut self, entry: &'static Entry, args: Args<'_>, version: Version, out: &mut Vec<u8>) {
        let all = matches!(entry.spec.route, Route::AllShards(_) | Route::Cursor);
        let unnamed = entry.widens() && args.len() > 2;
        let mut names = self.core.key_names(entry, args, self.db);
        match &mut self.reach {
            Reach::Everything => {
                let data = self.core.run_data(entry, args, self.db, version);
                out.extend_from_slice(&data);
            }
            Reach::Held(transaction) => {
                let transaction = *transaction;
                match all {
                    true => self.everywhere(transaction, entry, args, version, out),
                    false => self.borrowing(transaction, entry, args, version, out),
                }
            }
            Reach::Declared { slots, undo, .. } => {
                let core = &*self.core;
                let has = |(db, key): &Name| {
                    let slot = key_slot(key);
                    match core.owner(slot) as usize == core.id {
                        true => slots.contains(&slot) || !core.locks.in_use(slot),
                        false => core.shard.guests.contains(&(*db, key.clone())),
                    }
                };
                if all || unnamed || !names.iter().all(has) {
                    self.wide = true;
                    return;
                }
                if entry.has(WRITE) {
                    names.retain(|name| !undo.iter().any(|b| b.name == *name));
                    for name in names {
                        let parts = self.core.shard.duplicate(name.0, &name.1);
                        undo.push(Before { name, parts });
                    }
                }
                let core = &mut *self.core;
                let data = core.run_data_quietly(entry, args, self.db, version);
                out.extend_from_slice(&data);
            }
        }
    }

    /// A command over all keys, or a SCAN, with every core held.
    fn everywhere(
        &mut self,
        transaction: u32,
        entry: &'static Entry,
        args: Args<'_>,
        version: Version,
        out: &mut Vec<u8>,
    ) {
        let core = &mut *self.core;
        let (cores, merge) = core.cores_of(entry, args);
        let words = Words::new(args.iter().copied());
        let mut replies: Vec<Option<Vec<u8>>> = (0..core.cores()).map(|_| None).collect();
        core.stats.called(entry);
        for at in cores {
            let mut reply = Vec::new();
            if at == core.id {
                core.run_owned(entry, &words, self.db, version, false, &mut reply);
            } else {
                let under = Under::Run {
                    caller: core.caller,
                    entry,
                    words: words.clone(),
                    db: self.db,
                    version,
                };
                let UnderDone::Reply(theirs) = core.under_now(at, transaction, under) else {
                    panic!("a loan for a command")
                };
                reply = theirs;
            }
            replies[at] = Some(reply);
        }
        let reply = core.one_reply(merge, replies, version);
        out.extend_from_slice(&reply);
    }

    /// A command with keys, with every core held: what is elsewhere is fetched, and goes home again at once.
    fn borrowing(
        &mut self,
        transaction: u32,
        entry: &'static Entry,
        args: Args<'_>,
        version: Version,
        out: &mut Vec<u8>,
    ) {
        let core = &mut *self.core;
        let mut names = core.key_names(entry, args, self.db);
        loop {
            let mut loans: Vec<(usize, Loan)> = Vec::new();
            for (owner, keys) in core.elsewhere(&names) {
                let UnderDone::Loan(loan) = core.under_now(owner, transaction, Under::Lend(keys))
                else {
                    panic!("a reply for a loan")
                };
                loans.push((owner, loan));
            }
            match core.run_lent(entry, args, self.db, version, loans) {
                Ok(reply) => return out.extend_from_slice(&reply),
                Err(keys) => names.extend(keys.into_iter().map(|key| (self.db, key))),
            }
        }
    }

    /// The server's own commands that make sense without a connection.
    fn server(&mut self, entry: &'static Entry, args: Args<'_>, reply: &mut Reply<'_>) {
        match entry.spec.name {
            "PING" if args.len() == 1 => reply.simple("PONG"),
            "PING" | "ECHO" => reply.bulk(args[1]),
            "TIME" => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                let now = now.unwrap_or_default();
                reply.array(2);
                reply.bulk(now.as_secs().to_string().as_bytes());
                reply.bulk(now.subsec_micros().to_string().as_bytes());
            }
            "PUBLISH" | "SPUBLISH" => {
                if let Reach::Declared { .. } = self.reach {
                    // A message cannot be called back if the script has to start again.
                    self.wide = true;
                    return;
                }
                let kind = match entry.spec.name {
                    "PUBLISH" => Kind::Channel,
                    _ => Kind::Shard,
                };
                let receivers = self.core.publish(kind, args[1], args[2]);
                reply.integer(receivers as i64);
            }
            "SELECT" => {
                let databases = self.core.shard.keyspace.databases();
                let index = std::str::from_utf8(args[1])
                    .ok()
                    .and_then(|n| n.parse().ok());
                match index {
                    Some(db) if db < databases => {
                        self.db = db;
                        reply.ok();
                    }
                    Some(_) => reply.error("ERR DB index is out of range"),
                    None => reply.error("ERR value is not an integer or out of range"),
                }
            }
            _ => reply.error("ERR This Redis command is not allowed from script"),
        }
    }

    /// Why a command may not run, if so.
    fn refusal(&self, entry: Option<&Entry>, args: Args<'_>) -> Option<&'static str> {
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
        if self.read_only && entry.has(WRITE | MAY_REPLICATE) {
            return Some("ERR Write commands are not allowed from read-only scripts.");
        }
        None
    }
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
        if let Some(text) = self.refusal(entry, args) {
            Reply::new(reply, version).error(text);
            return;
        }
        let entry = entry.expect("not refused");
        if !self.wide {
            match entry.spec.run {
                Run::Server(_) => self.server(entry, args, &mut Reply::new(reply, version)),
                Run::Shard(_) => self.data(entry, args, version, reply),
            }
        }
        if self.core.monitors.any() && !self.wide {
            let words = Words::new(args.iter().copied());
            self.called.push((self.db, entry, words));
        }
        if self.wide {
            reply.truncate(from);
            Reply::new(reply, version).error("ERR the script starts again");
        }
    }

    fn log(&mut self, level: LogLevel, message: &[u8]) {
        log(level, message);
    }

    /// There is neither log nor replica yet.
    fn set_repl(&mut self, _: Replication) {}

    fn acl_check(&mut self, args: &[&[u8]]) -> Option<bool> {
        self.core.registry.resolve(args).map(|_| true)
    }
}
