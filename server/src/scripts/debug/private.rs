//! YES: a script's own keyspace.
//!
//! A shard that belongs to the session. Before a command runs, the owners of its keys copy those that the session does not know yet; then it
//! runs here like on any core. So the script sees each key as it was at its first touch, with its own writes, whatever others do.
//! A command over all keys first takes over all keys of its database; FLUSHALL and FLUSHDB need none of them.

use super::session::{Setup, acl_check, ask};
use super::{Called, Message};
use crate::acl::check::Denied;
use crate::mailbox::{Ticket, Words};
use crate::merge::merge_replies;
use crate::multi::write_null;
use crate::registry::{Entry, Run};
use crate::request::{DataCall, run};
use crate::scripts::host::{self, refusal};
use crate::stats::Stats;
use crate::transaction::names_of;
use ringwood_protocol::command::{ADMIN, DENYOOM, MAY_REPLICATE, Route, WRITE};
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_protocol::slot::key_slot;
use ringwood_scripting::{Host, LogLevel, Replication};
use ringwood_shard::ctx::Wants;
use ringwood_shard::shard::Shard;
use ringwood_shard::slot_set::SlotSet;
use ringwood_shard::watch::Name;
use std::collections::HashSet;

pub(super) struct PrivateHost<'a> {
    setup: &'a Setup,
    shard: Shard,
    stats: Stats,
    db: usize,
    read_only: bool,
    /// Commands that need memory are refused, until the script has written something.
    no_memory: bool,
    /// Keys that are as the session has them, there or not.
    known: HashSet<Name>,
    /// Databases of which that is so of all keys.
    whole: Vec<bool>,
    refused: bool,
}

/// Keys that are asked for at a time.
const COPIED: usize = 1000;

impl<'a> PrivateHost<'a> {
    pub fn new(setup: &'a Setup, read_only: bool) -> Self {
        let (settings, hasher) = (setup.settings.clone(), setup.hasher.clone());
        let mut shard = Shard::new(settings, hasher, now_ms(), setup.seed);
        shard.in_script = true;
        Self {
            setup,
            shard,
            stats: Stats::new(setup.registry.entries.len()),
            db: setup.db,
            read_only,
            no_memory: setup.no_memory,
            known: HashSet::new(),
            whole: vec![false; setup.databases],
            refused: false,
        }
    }

    /// Sees to it that these keys are here.
    fn bring(&mut self, names: Vec<Name>) -> Result<(), CommandError> {
        let shared = &self.setup.post.shared;
        let cores = self.setup.post.inboxes.cores();
        let mut wanted: Vec<Vec<Name>> = vec![Vec::new(); cores];
        for name in names {
            if self.whole[name.0] {
                self.known.insert(name);
            } else if !self.known.contains(&name) {
                let owner = shared.owners[key_slot(&name.1) as usize];
                wanted[owner as usize].push(name);
            }
        }
        for (core, mut names) in wanted.into_iter().enumerate() {
            names.sort_unstable();
            names.dedup();
            for names in names.chunks(COPIED) {
                let names = names.to_vec();
                let copies = ask(&self.setup.post, core, |to| Message::Copy { names, to });
                let copies = copies.ok_or(CommandError::fixed(host::ENDING))?;
                for (name, parts) in copies {
                    if let Some(parts) = parts {
                        self.shard.undo(name.0, &name.1, Some(parts));
                    }
                    self.known.insert(name);
                }
            }
        }
        Ok(())
    }

    /// Sees to it that all keys of a database are here.
    fn bring_all(&mut self, db: usize) -> Result<(), CommandError> {
        if self.whole[db] {
            return Ok(());
        }
        let setup = self.setup;
        let client = setup.client;
        let names = ask(&setup.post, setup.home, |to| Message::Names {
            client,
            db,
            to,
        });
        let names = names.ok_or(CommandError::fixed(host::ENDING))?;
        let names = names.map_err(|text| CommandError::Text(format!("ERR {text}").into()))?;
        self.bring(names.into_iter().map(|key| (db, key)).collect())?;
        self.whole[db] = true;
        Ok(())
    }

    /// Brings what a command reaches.
    fn prepare(&mut self, entry: &'static Entry, args: &[&[u8]]) -> Result<(), CommandError> {
        let database = |word: Option<&&[u8]>| {
            let db: Option<usize> = std::str::from_utf8(word?).ok()?.parse().ok();
            db.filter(|db| *db < self.setup.databases)
        };
        match entry.spec.name {
            "FLUSHALL" => self.whole.fill(true),
            "FLUSHDB" => self.whole[self.db] = true,
            "SWAPDB" => {
                let dbs = [database(args.get(1)), database(args.get(2))];
                for db in dbs.into_iter().flatten() {
                    self.bring_all(db)?;
                }
            }
            _ if matches!(entry.spec.route, Route::AllShards(_) | Route::Cursor) => {
                self.bring_all(self.db)?;
            }
            _ => {
                let databases = self.setup.databases;
                self.bring(names_of(entry, args, self.db, databases))?;
            }
        }
        Ok(())
    }

    fn data(
        &mut self,
        entry: &'static Entry,
        args: &[&[u8]],
        version: Version,
        out: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        self.shard.now_ms = now_ms();
        self.prepare(entry, args)?;
        if entry.has(DENYOOM) {
            let used = ringwood_shard::memory::thread_used() + self.shard.heap_used() as isize;
            let limit = self.setup.post.shared.scripts.memory.limit();
            if usize::try_from(used).unwrap_or(0) > limit {
                return Err(CommandError::OutOfMemory);
            }
        }
        let call = DataCall {
            entry,
            db: self.db,
            version,
            keys: &[],
            serving: false,
            aside: false,
            caller: Ticket::NOBODY,
        };
        loop {
            let mut reply = Vec::new();
            if entry.widens() {
                // It asks for what it finds missing here only where it might be elsewhere.
                self.shard.owned = SlotSet::from_slots([]);
                self.shard.guests = self.known.clone();
            }
            let wants = run(&mut self.shard, &mut self.stats, &call, args, &mut reply);
            if entry.widens() {
                self.shard.owned = SlotSet::from_slots(0..16384);
                self.shard.guests.clear();
            }
            match wants.map(|wants| *wants) {
                None => {
                    if let Route::AllShards(merge) = entry.spec.route {
                        let random = self.shard.random();
                        merge_replies(merge, &[&reply], &[], version, random, out);
                    } else {
                        out.extend_from_slice(&reply);
                    }
                    return Ok(());
                }
                Some(Wants::Change(block)) => {
                    write_null(&mut Reply::new(out, version), entry, block.null);
                    return Ok(());
                }
                Some(Wants::Aside) => unreachable!("it must not ask for that"),
                Some(Wants::Keys(keys)) => {
                    let db = self.db;
                    self.bring(keys.into_iter().map(|key| (db, key)).collect())?;
                }
            }
        }
    }

    /// The server's own commands.
    fn server(
        &mut self,
        entry: &'static Entry,
        args: &[&[u8]],
        version: Version,
        out: &mut Vec<u8>,
    ) -> Result<(), CommandError> {
        match entry.spec.name {
            "SELECT" => {
                let index = std::str::from_utf8(args[1]).ok();
                match index.and_then(|n| n.parse().ok()) {
                    Some(db) if db < self.setup.databases => {
                        self.db = db;
                        Reply::new(out, version).ok();
                    }
                    Some(_) => return Err(CommandError::fixed("ERR DB index is out of range")),
                    None => return Err(CommandError::NotInteger),
                }
            }
            // Nobody hears of what is to be forgotten.
            "PUBLISH" | "SPUBLISH" => Reply::new(out, version).integer(0),
            name if entry.has(WRITE | MAY_REPLICATE | ADMIN) && name != "WAIT" => {
                let text =
                    "this command is not available in a debugging session that leaves no trace";
                return Err(CommandError::err(text));
            }
            _ => {
                let client = self.setup.client;
                let words = Words::new(args.iter().copied());
                let called = ask(&self.setup.post, self.setup.home, |to| Message::Server {
                    client,
                    words,
                    version,
                    to,
                });
                let Called { reply, refused } = called.ok_or(CommandError::fixed(host::ENDING))?;
                self.refused = refused;
                out.extend_from_slice(&reply);
            }
        }
        Ok(())
    }

    /// Why the script's user may not run that command.
    fn forbidden(&self, entry: &'static Entry, args: &[&[u8]]) -> Option<String> {
        let user = self.setup.user.as_deref()?;
        let denied = user.check(entry, args).err()?;
        let text = denied.text(user, entry, args, false);
        Some(match denied {
            Denied::Pattern(_) => format!("ERR {text}"),
            _ => format!("NOPERM ACL failure in script: {text}"),
        })
    }

    fn refuse(&mut self, text: &str, version: Version, reply: &mut Vec<u8>) {
        self.refused = true;
        Reply::new(reply, version).error(text);
    }
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_millis() as i64
}

impl Host for PrivateHost<'_> {
    fn call(&mut self, args: &[&[u8]], version: Version, reply: &mut Vec<u8>) {
        self.refused = false;
        let entry = self.setup.registry.resolve(args);
        if let Some(text) = refusal(entry, args, self.read_only) {
            return self.refuse(text, version, reply);
        }
        let entry = entry.expect("not refused");
        if let Some(text) = self.forbidden(entry, args) {
            return self.refuse(&text, version, reply);
        }
        if self.no_memory && entry.has(DENYOOM) {
            return Reply::new(reply, version).command_error(&CommandError::OutOfMemory);
        }
        self.no_memory &= !entry.has(WRITE);
        let from = reply.len();
        let done = match entry.spec.run {
            Run::Server(_) => self.server(entry, args, version, reply),
            Run::Shard(_) => self.data(entry, args, version, reply),
        };
        if let Err(error) = done {
            reply.truncate(from);
            Reply::new(reply, version).command_error(&error);
        }
    }
    fn log(&mut self, level: LogLevel, message: &[u8]) {
        host::log(level, message);
    }
    fn set_repl(&mut self, _: Replication) {}
    fn acl_check(&mut self, args: &[&[u8]]) -> Option<bool> {
        acl_check(self.setup, args)
    }
    fn refused(&self) -> bool {
        self.refused
    }
}
