//! Where a transaction's keys are.

use super::{Queued, Watcher};
use crate::core::Core;
use crate::transaction::PartWork;
use ringwood_protocol::command::{LUA, Route, WRITE};
use ringwood_protocol::number::parse_i64;
use ringwood_protocol::slot::key_slot;
use ringwood_shard::locks::Slots;
use ringwood_shard::watch::Name;
use std::sync::Arc;

/// One core's share.
struct Share {
    core: u16,
    slots: Vec<u16>,
    keys: Vec<Name>,
    watched: Vec<Name>,
}

/// What a transaction needs.
pub struct Plan {
    shares: Vec<Share>,
    /// All keys of all cores, or keys that only its commands can name.
    pub everything: bool,
    /// No command of the server's own.
    pub only_data: bool,
}

impl Core {
    pub(crate) fn plan(
        &self,
        commands: &[Queued],
        mut db: usize,
        cluster: bool,
        watchers: &[Arc<Watcher>],
    ) -> Plan {
        let mut plan = Plan {
            shares: Vec::new(),
            everything: false,
            only_data: true,
        };
        if self.cores() == 1 && !cluster && self.locks.is_empty() && !self.shared.scripts.busy.any()
        {
            // One core has everything and nothing is in use: which keys these are does not matter.
            plan.only_data = commands.iter().all(|c| !c.is_servers_own());
            return plan;
        }
        let many = self.cores() > 1 && !cluster;
        let databases = self.shard.keyspace.databases();
        let database = |word: &[u8]| {
            let n = usize::try_from(parse_i64(word)?).ok()?;
            (n < databases).then_some(n)
        };
        for command in commands {
            let Queued { entry, words, .. } = command;
            let args = words.slices();
            let name = entry.spec.name;
            let script = entry.has(LUA);
            if command.is_servers_own() {
                plan.only_data = false;
                // Libraries are all cores'; a transaction that changes them and calls their functions is one step for all.
                plan.everything |= many && entry.has(WRITE) && entry.parent.is_some();
                if name == "SELECT" {
                    db = database(args[1]).unwrap_or(db);
                }
                continue;
            }
            let patterns = !script && entry.widens() && args.len() > 2;
            let all = matches!(entry.spec.route, Route::AllShards(_) | Route::Cursor);
            plan.everything |= many && (patterns || all);
            for name in self.key_names(entry, &args, db) {
                plan.share(self, &name.1).keys.push(name);
            }
        }
        for name in watchers.iter().flat_map(|w| &w.keys) {
            plan.share(self, &name.1).watched.push(name.clone());
        }
        plan.tidy();
        plan
    }
}

impl Plan {
    /// These keys too.
    pub fn add(&mut self, core: &Core, names: &[Name]) {
        for name in names {
            self.share(core, &name.1).keys.push(name.clone());
        }
        self.tidy();
    }
    fn tidy(&mut self) {
        for share in &mut self.shares {
            share.slots.sort_unstable();
            share.slots.dedup();
            share.keys.sort_unstable();
            share.keys.dedup();
        }
    }
    /// The share of a key's owner, with the key's slot in it.
    fn share(&mut self, core: &Core, key: &[u8]) -> &mut Share {
        let slot = key_slot(key);
        let owner = core.owner(slot);
        let place = self.shares.iter().position(|s| s.core == owner);
        let place = place.unwrap_or_else(|| {
            self.shares.push(Share {
                core: owner,
                slots: Vec::new(),
                keys: Vec::new(),
                watched: Vec::new(),
            });
            self.shares.len() - 1
        });
        let share = &mut self.shares[place];
        share.slots.push(slot);
        share
    }

    /// True when this core has all that it needs.
    pub fn is_here(&self, core: usize) -> bool {
        !self.everything && self.shares.iter().all(|s| s.core as usize == core)
    }
    /// The core that has all keys, if it is another.
    pub fn one_other_core(&self, here: usize) -> Option<u16> {
        match &self.shares[..] {
            [share] if !self.everything && share.core as usize != here => Some(share.core),
            _ => None,
        }
    }
    pub fn slots(&self, core: usize) -> &[u16] {
        let share = self.shares.iter().find(|s| s.core as usize == core);
        share.map_or(&[], |s| &s.slots)
    }
    pub fn concerns(&self, core: usize) -> bool {
        self.shares.iter().any(|s| s.core as usize == core)
    }
    pub fn crosses_slots(&self) -> bool {
        self.shares.iter().map(|s| s.slots.len()).sum::<usize>() > 1
    }

    /// The parts of a transaction that borrows all keys.
    pub fn into_parts(self) -> Vec<(u16, Slots, PartWork)> {
        let part = |s: Share| {
            let work = PartWork::Lend {
                keys: s.keys,
                watched: s.watched,
                waiter: None,
            };
            (s.core, Slots::of(s.slots), work)
        };
        self.shares.into_iter().map(part).collect()
    }
    /// The parts of one that holds every core.
    pub fn into_holds(mut self, cores: usize) -> Vec<(u16, Slots, PartWork)> {
        let part = |core: u16| {
            let share = self.shares.iter_mut().find(|s| s.core == core);
            let watched = share.map_or_else(Vec::new, |s| std::mem::take(&mut s.watched));
            let keys = Vec::new();
            let work = PartWork::Lend {
                keys,
                watched,
                waiter: None,
            };
            (core, Slots::All, work)
        };
        (0..cores as u16).map(part).collect()
    }
}
