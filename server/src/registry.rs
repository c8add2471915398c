//! All commands by name: the shard's data commands and the server's own, joined once at start.

use crate::commands::{self, ConnHandler};
use ringwood_protocol::command::{
    BLOCKING, BeginSearch, Command, FAST, FindKeys, KeySpec, LUA, Route,
};
use ringwood_shard::ctx::Handler;
use std::num::NonZeroU64;
use std::sync::OnceLock;

/// What runs a command.
#[derive(Clone, Copy)]
pub enum Run {
    /// On the owner of its keys.
    Shard(Handler),
    /// On the core that has the connection.
    Server(ConnHandler),
}

/// Where a command's keys are, in the form that routing asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    None,
    /// One key, at this index: nearly every command.
    One(usize),
    /// From `first` to the end, every `step` words (DEL, MSET).
    Rest {
        first: usize,
        step: usize,
    },
    /// As the key specs say.
    Specs,
}

/// One command as the server uses it. Lives as long as the process.
pub struct Entry {
    /// Its place in [`Registry::entries`].
    pub index: usize,
    /// As Redis shows it: lower case, a subcommand as `config|get`.
    pub name: String,
    pub spec: Command<Run>,
    pub keys: Keys,
    pub subcommands: Vec<&'static Entry>,
    /// It may take long by its nature, or wait: it is timed by itself (see [`crate::observe`]).
    pub heavy: bool,
    /// A data command of one key that neither waits nor asks for more keys: nearly every request. See [`crate::core::Core::is_plain`].
    pub plain: bool,
    /// The container of a subcommand.
    pub parent: Option<&'static str>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Entry {
    #[inline]
    pub fn has(&self, flag: u64) -> bool {
        self.spec.flags & flag != 0
    }
    /// Whether it may learn of keys as it runs, and ask for them.
    pub fn widens(&self) -> bool {
        let unnamed = |spec: &KeySpec| spec.begin == BeginSearch::Unknown;
        self.keys == Keys::Specs && self.spec.keys.iter().any(unnamed)
    }
    /// The indexes of the keys. False when the words do not fit the specs.
    pub fn key_indexes(&self, args: &[&[u8]], found: &mut Vec<usize>) -> bool {
        match self.keys {
            Keys::None => true,
            Keys::One(at) => {
                found.push(at);
                at < args.len()
            }
            Keys::Rest { first, step } => {
                found.extend((first..args.len()).step_by(step));
                true
            }
            Keys::Specs => commands::each_key(self, args, found),
        }
    }
}

/// The table.
pub struct Registry {
    pub entries: Vec<&'static Entry>,
    /// Open addressing by a hash of the upper-case name; a power of two long, at most a quarter full.
    table: Vec<Place>,
}

/// A place of the table.
#[derive(Clone, Copy)]
struct Place {
    /// [`short_name`]: one comparison tells nearly every command.
    short: Option<NonZeroU64>,
    entry: Option<&'static Entry>,
}

/// Names are at most this long.
const NAME_MAX: usize = 32;
/// Of the table.
const PLACES: usize = 2048;

/// Up to 8 bytes as one word, with the bit cleared that tells lower case from upper. For letters nothing else is lost.
#[inline]
fn load(bytes: &[u8]) -> u64 {
    // Overlapping loads of fixed sizes: a copy of variable length would be a call.
    let word = |at: usize| {
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as u64
    };
    let byte = |at: usize| (bytes[at] as u64) << (8 * at);
    let loaded = match bytes.len() {
        0 => 0,
        n @ 1..=3 => byte(0) | byte(n / 2) | byte(n - 1),
        n => word(0) | word(n.min(8) - 4) << (8 * (n.min(8) - 4)),
    };
    loaded & 0xdfdf_dfdf_dfdf_dfdf
}

/// A name of up to 8 letters is its loaded word: comparing words compares names.
fn short_name(name: &[u8]) -> Option<NonZeroU64> {
    let is_short = name.len() <= 8 && name.iter().all(u8::is_ascii_alphabetic);
    NonZeroU64::new(load(name)).filter(|_| is_short)
}

fn name_hash(name: &[u8]) -> usize {
    let tail = match name.len() {
        0..=8 => 0,
        len => load(&name[len - 8..]),
    };
    short_hash(load(name) ^ tail.rotate_left(29), name.len())
}
/// The same for a name of up to 8 bytes, which are loaded.
#[inline]
fn short_hash(head: u64, len: usize) -> usize {
    let mixed = head ^ len as u64;
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - PLACES.ilog2())) as usize
}

fn classify(keys: &[KeySpec]) -> Keys {
    use ringwood_protocol::command::BeginSearch::Index;
    match keys {
        [] => Keys::None,
        [
            KeySpec {
                begin: Index(at),
                find: FindKeys::Range { last: 0, .. },
                ..
            },
        ] => Keys::One(*at as usize),
        [
            KeySpec {
                begin: Index(at),
                find:
                    FindKeys::Range {
                        last: -1,
                        step,
                        limit: 0 | 1,
                    },
                ..
            },
        ] => Keys::Rest {
            first: *at as usize,
            step: (*step).max(1) as usize,
        },
        _ => Keys::Specs,
    }
}

fn with_run<H: Copy>(c: &Command<H>, wrap: &dyn Fn(H) -> Run) -> Command<Run> {
    let Command {
        name,
        arity,
        flags,
        acl,
        keys,
        doc,
        args,
        tips,
        route,
        run,
        ..
    } = *c;
    Command {
        name,
        arity,
        flags,
        acl,
        keys,
        doc,
        args,
        tips,
        subcommands: &[],
        route,
        run: wrap(run),
    }
}

impl Registry {
    /// The one registry of the process.
    pub fn get() -> &'static Registry {
        static REGISTRY: OnceLock<Registry> = OnceLock::new();
        REGISTRY.get_or_init(Registry::build)
    }

    fn build() -> Self {
        let mut registry = Self {
            entries: Vec::new(),
            table: vec![
                Place {
                    short: None,
                    entry: None
                };
                PLACES
            ],
        };
        for family in ringwood_shard::commands::FAMILIES {
            for c in *family {
                registry.add(c, &Run::Shard);
            }
        }
        for family in commands::FAMILIES {
            for c in *family {
                registry.add(c, &Run::Server);
            }
        }
        registry
    }

    fn add<H: Copy>(&mut self, command: &Command<H>, wrap: &dyn Fn(H) -> Run) {
        let name = command.name.to_ascii_lowercase();
        let mut subcommands = Vec::new();
        for sub in command.subcommands {
            let full = format!("{name}|{}", sub.name.to_ascii_lowercase());
            subcommands.push(self.entry(full, with_run(sub, wrap), Vec::new(), Some(command.name)));
        }
        for (_, more) in commands::SUBCOMMANDS
            .iter()
            .filter(|(container, _)| *container == command.name)
        {
            for sub in *more {
                let full = format!("{name}|{}", sub.name.to_ascii_lowercase());
                let spec = with_run(sub, &Run::Server);
                subcommands.push(self.entry(full, spec, Vec::new(), Some(command.name)));
            }
        }
        let entry = self.entry(name, with_run(command, wrap), subcommands, None);
        let bytes = command.name.as_bytes();
        let mut at = name_hash(bytes);
        while let Some(other) = self.table[at].entry {
            assert_ne!(other.spec.name, command.name, "a command declared twice");
            at = (at + 1) % PLACES;
        }
        self.table[at] = Place {
            short: short_name(bytes),
            entry: Some(entry),
        };
    }

    fn entry(
        &mut self,
        name: String,
        spec: Command<Run>,
        subcommands: Vec<&'static Entry>,
        parent: Option<&'static str>,
    ) -> &'static Entry {
        assert!(name.len() <= NAME_MAX);
        let index = self.entries.len();
        let keys = classify(spec.keys);
        // Not marked as fast, but what these cost is bounded by their request and reply.
        let bounded = matches!(
            spec.name,
            "SET"
                | "SETEX"
                | "PSETEX"
                | "MSET"
                | "MSETNX"
                | "DEL"
                | "GETRANGE"
                | "SUBSTR"
                | "SETRANGE"
        );
        let light = spec.flags & FAST != 0 || bounded;
        let heavy = !light || spec.flags & BLOCKING != 0;
        let plain = matches!((&spec.run, keys), (Run::Shard(_), Keys::One(_)))
            && spec.route == Route::Owner
            && spec.flags & (BLOCKING | LUA) == 0
            && subcommands.is_empty();
        let entry: &'static Entry = Box::leak(Box::new(Entry {
            index,
            heavy,
            plain,
            name,
            spec,
            keys,
            subcommands,
            parent,
        }));
        self.entries.push(entry);
        entry
    }

    /// The command of this name, in any case.
    #[inline(always)]
    pub fn lookup(&self, name: &[u8]) -> Option<&'static Entry> {
        if name.len() <= 8 {
            let head = load(name);
            let place = self.table[short_hash(head, name.len())];
            if place.short.is_some_and(|short| short.get() == head) {
                return place.entry;
            }
        }
        self.search(name)
    }
    fn search(&self, name: &[u8]) -> Option<&'static Entry> {
        if name.is_empty() || name.len() > NAME_MAX {
            return None;
        }
        let mut at = name_hash(name);
        loop {
            let entry = self.table[at].entry?;
            if entry.spec.name.as_bytes().eq_ignore_ascii_case(name) {
                return Some(entry);
            }
            at = (at + 1) % PLACES;
        }
    }

    /// The command or subcommand that the words name.
    #[inline(always)]
    pub fn resolve(&self, args: &[&[u8]]) -> Option<&'static Entry> {
        let entry = self.lookup(args[0])?;
        if entry.subcommands.is_empty() {
            return Some(entry);
        }
        Some(Self::subcommand(entry, args).unwrap_or(entry))
    }

    pub fn subcommand(entry: &'static Entry, args: &[&[u8]]) -> Option<&'static Entry> {
        let sub = args.get(1)?;
        entry
            .subcommands
            .iter()
            .copied()
            .find(|e| e.spec.name.as_bytes().eq_ignore_ascii_case(sub))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringwood_protocol::command::Route;

    #[test]
    fn every_command_is_found_in_any_case() {
        let registry = Registry::get();
        for entry in registry.entries.iter().filter(|e| e.parent.is_none()) {
            let found = registry.lookup(entry.name.as_bytes()).expect("found");
            assert_eq!(found.name, entry.name);
            assert!(registry.lookup(entry.spec.name.as_bytes()).is_some());
        }
        assert!(registry.lookup(b"NOSUCH").is_none());
        assert!(registry.lookup(&[b'X'; 40]).is_none());
    }

    /// What routing relies on: keys lie within the arity, scattered commands have their keys at the end.
    #[test]
    fn declarations_are_sound() {
        for entry in &Registry::get().entries {
            if let Keys::One(at) = entry.keys {
                assert!(
                    at < entry.spec.arity.unsigned_abs() as usize,
                    "{}",
                    entry.name
                );
            }
            if matches!(entry.spec.route, Route::Scatter(_)) {
                assert!(matches!(entry.keys, Keys::Rest { .. }), "{}", entry.name);
            }
            if matches!(entry.spec.run, Run::Server(_)) {
                assert_eq!(entry.spec.route, Route::Connection, "{}", entry.name);
            }
        }
    }
}
