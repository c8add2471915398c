//! All commands by name: the shard's data commands and the server's own, joined once at start.
//!
//! `rename-command` changes the names that clients and scripts call commands by ([`Registry::names`]), and nothing else: a command
//! is declared, shown and allowed (ACL) by its own name, as in Redis. The log is written in the commands' own names and read by
//! them ([`Registry::logged`]), so that a log outlives a change of names.

use crate::commands::{self, ConnHandler};
use ringwood_protocol::command::{
    BLOCKING, BeginSearch, Command, FAST, FindKeys, KeySpec, LUA, NOT_IN_CLUSTER, Route, WRITE, acl,
};
use ringwood_shard::ctx::Handler;
use std::collections::BTreeMap;
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
    /// It may put something where somebody waits for it.
    pub wakes: bool,
    /// The container of a subcommand.
    pub parent: Option<&'static str>,
    /// Clients call it, or its container, by another name, or cannot call it.
    pub renamed: bool,
    /// Clients cannot call it.
    pub hidden: bool,
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

/// All commands.
pub struct Registry {
    pub entries: Vec<&'static Entry>,
    /// What clients and scripts call them.
    pub names: Names,
    /// With commands renamed: each by its own name, and by its new one where that is nobody's own.
    logged: Option<Names>,
}

/// Commands by name, in any case.
pub struct Names {
    /// Open addressing by a hash of the upper-case name; a power of two long, at most a quarter full.
    table: Vec<Place>,
    /// The names of the places.
    names: Vec<Box<[u8]>>,
    /// The length of the longest name.
    longest: usize,
}

/// What `rename-command` says: the new names of commands, each upper case, and the commands' own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renames {
    /// Every name there is. Empty: nothing is renamed.
    names: BTreeMap<Vec<u8>, &'static str>,
}

impl Renames {
    /// One directive. With no new name nobody can call the command.
    pub fn add(&mut self, old: &[u8], new: &[u8]) -> Result<(), &'static str> {
        if self.names.is_empty() {
            let data = ringwood_shard::commands::FAMILIES.iter();
            let data = data.flat_map(|family| family.iter().map(|c| c.name));
            let own = commands::FAMILIES.iter();
            let own = own.flat_map(|family| family.iter().map(|c| c.name));
            let every = data
                .chain(own)
                .map(|name| (name.to_ascii_uppercase().into(), name));
            self.names = every.collect();
        }
        let command = self.names.remove(&old.to_ascii_uppercase());
        let command = command.ok_or("No such command in rename-command")?;
        if new.is_empty() {
            return Ok(());
        }
        match self.names.insert(new.to_ascii_uppercase(), command) {
            None => Ok(()),
            Some(_) => Err("Target command name already exists"),
        }
    }
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
    fn is_own(&self, name: &str) -> bool {
        let known = self.names.get(&name.to_ascii_uppercase().into_bytes());
        self.is_empty() || known == Some(&name)
    }
    fn is_hidden(&self, name: &str) -> bool {
        !self.is_empty() && !self.names.values().any(|known| *known == name)
    }
}

/// A place of the table.
#[derive(Clone, Copy)]
struct Place {
    /// [`short_name`]: one comparison tells nearly every command.
    short: Option<NonZeroU64>,
    entry: Option<&'static Entry>,
}

/// Made once, see [`Registry::start`].
static REGISTRY: OnceLock<Registry> = OnceLock::new();

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
        element,
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
        element,
        run: wrap(run),
    }
}

impl Registry {
    /// The one registry of the process.
    pub fn get() -> &'static Registry {
        REGISTRY.get_or_init(|| Registry::build(&Renames::default()))
    }
    /// Makes it, before anybody looks something up. False if somebody has.
    pub fn start(renames: &Renames) -> bool {
        renames.is_empty() || REGISTRY.set(Registry::build(renames)).is_ok()
    }

    fn build(renames: &Renames) -> Self {
        let mut registry = Self {
            entries: Vec::new(),
            names: Names::new(),
            logged: None,
        };
        for family in ringwood_shard::commands::FAMILIES {
            for c in *family {
                registry.add(c, &Run::Shard, renames);
            }
        }
        for family in commands::FAMILIES {
            for c in *family {
                registry.add(c, &Run::Server, renames);
            }
        }
        if !renames.is_empty() {
            let mut logged = std::mem::replace(&mut registry.names, Names::new());
            for (name, command) in &renames.names {
                let entry = logged.lookup(command.as_bytes()).expect("added above");
                registry.names.add(name, entry);
            }
            for (name, command) in &renames.names {
                if logged.lookup(name).is_none() {
                    let entry = logged.lookup(command.as_bytes()).expect("added above");
                    logged.add(name, entry);
                }
            }
            registry.logged = Some(logged);
        }
        registry
    }

    /// By the commands' own names: what the server itself calls, rules of users, and what logs say.
    pub fn logged(&self) -> &Names {
        self.logged.as_ref().unwrap_or(&self.names)
    }

    fn add<H: Copy>(&mut self, command: &Command<H>, wrap: &dyn Fn(H) -> Run, renames: &Renames) {
        let name = command.name.to_ascii_lowercase();
        let mut subcommands = Vec::new();
        for sub in command.subcommands {
            let full = format!("{name}|{}", sub.name.to_ascii_lowercase());
            let spec = with_run(sub, wrap);
            subcommands.push(self.entry(full, spec, Vec::new(), Some(command.name), renames));
        }
        for (_, more) in commands::SUBCOMMANDS
            .iter()
            .filter(|(container, _)| *container == command.name)
        {
            for sub in *more {
                let full = format!("{name}|{}", sub.name.to_ascii_lowercase());
                let spec = with_run(sub, &Run::Server);
                subcommands.push(self.entry(full, spec, Vec::new(), Some(command.name), renames));
            }
        }
        let entry = self.entry(name, with_run(command, wrap), subcommands, None, renames);
        self.names.add(command.name.as_bytes(), entry);
    }

    fn entry(
        &mut self,
        name: String,
        spec: Command<Run>,
        subcommands: Vec<&'static Entry>,
        parent: Option<&'static str>,
        renames: &Renames,
    ) -> &'static Entry {
        let called = parent.unwrap_or(spec.name);
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
            && spec.flags & (BLOCKING | LUA | NOT_IN_CLUSTER) == 0
            && subcommands.is_empty();
        let waited_for = acl::LIST | acl::SORTEDSET | acl::STREAM | acl::GEO;
        let only_ends = matches!(
            spec.name,
            "DEL" | "UNLINK" | "EXPIRE" | "PEXPIRE" | "EXPIREAT" | "PEXPIREAT" | "PERSIST"
        );
        let wakes = spec.flags & WRITE != 0
            && (spec.acl & waited_for != 0 || spec.acl & acl::KEYSPACE != 0 && !only_ends);
        let entry: &'static Entry = Box::leak(Box::new(Entry {
            index,
            heavy,
            plain,
            wakes,
            name,
            spec,
            keys,
            subcommands,
            parent,
            renamed: !renames.is_own(called),
            hidden: renames.is_hidden(called),
        }));
        self.entries.push(entry);
        entry
    }

    /// The subcommand that the words name.
    pub fn subcommand(entry: &'static Entry, args: &[&[u8]]) -> Option<&'static Entry> {
        let sub = args.get(1)?;
        entry
            .subcommands
            .iter()
            .copied()
            .find(|e| e.spec.name.as_bytes().eq_ignore_ascii_case(sub))
    }
    /// See [`Names::lookup`].
    pub fn lookup(&self, name: &[u8]) -> Option<&'static Entry> {
        self.names.lookup(name)
    }
    /// See [`Names::resolve`].
    #[inline(always)]
    pub fn resolve(&self, args: &[&[u8]]) -> Option<&'static Entry> {
        self.names.resolve(args)
    }
}

impl Names {
    fn new() -> Self {
        let none = Place {
            short: None,
            entry: None,
        };
        Self {
            table: vec![none; PLACES],
            names: vec![Box::default(); PLACES],
            longest: 0,
        }
    }

    fn add(&mut self, name: &[u8], entry: &'static Entry) {
        let mut at = name_hash(name);
        while self.table[at].entry.is_some() {
            let is_same = self.names[at].eq_ignore_ascii_case(name);
            assert!(!is_same, "a command declared twice: {entry:?}");
            at = (at + 1) % PLACES;
        }
        self.table[at] = Place {
            short: short_name(name),
            entry: Some(entry),
        };
        self.names[at] = name.into();
        self.longest = self.longest.max(name.len());
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
        if name.is_empty() || name.len() > self.longest {
            return None;
        }
        let mut at = name_hash(name);
        loop {
            let entry = self.table[at].entry?;
            if self.names[at].eq_ignore_ascii_case(name) {
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
        Some(Registry::subcommand(entry, args).unwrap_or(entry))
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

    /// The new names lead to the commands, the old ones nowhere; what the server itself calls keeps its name.
    #[test]
    fn renamed_commands_are_found_by_their_new_names_only() {
        let long = b"b840fc02d524045429941cc15f59e41cb7be6c52";
        let mut renames = Renames::default();
        for (old, new) in [
            ("set", "PutIt"),
            ("GET", ""),
            ("DEL", "set"),
            ("putit", "put two"),
        ] {
            assert_eq!(renames.add(old.as_bytes(), new.as_bytes()), Ok(()));
        }
        assert_eq!(renames.add(b"config", long), Ok(()));
        let registry = Registry::build(&renames);
        let found = |name: &[u8]| registry.lookup(name).map(|e| e.name.as_str());
        assert_eq!(found(b"SET"), Some("del"));
        assert_eq!(found(b"Put Two"), Some("set"));
        assert_eq!(found(&long.to_ascii_uppercase()), Some("config"));
        assert_eq!(found(b"incr"), Some("incr"));
        for gone in [&b"get"[..], b"del", b"putit", b"config", b""] {
            assert_eq!(found(gone), None);
        }
        let words: [&[u8]; 2] = [long, b"GET"];
        let entry = registry.resolve(&words).expect("found");
        assert_eq!(
            (entry.name.as_str(), entry.renamed, entry.hidden),
            ("config|get", true, false)
        );
        let logged = |name: &[u8]| registry.logged().lookup(name).map(|e| e.name.as_str());
        assert_eq!(logged(b"SET"), Some("set"));
        assert_eq!(logged(b"get"), Some("get"));
        assert_eq!(logged(b"PUT TWO"), Some("set"));
        assert_eq!(logged(b"nosuch"), None);
        let flags = |name: &[u8]| {
            registry
                .logged()
                .lookup(name)
                .map(|e| (e.renamed, e.hidden))
        };
        assert_eq!(flags(b"GET"), Some((true, true)));
        assert_eq!(flags(b"SET"), Some((true, false)));
        assert_eq!(flags(b"INCR"), Some((false, false)));
    }

    #[test]
    fn names_that_are_not_there_or_taken_are_refused() {
        let mut renames = Renames::default();
        let none = Err("No such command in rename-command");
        assert_eq!(renames.add(b"nosuch", b"x"), none);
        assert_eq!(renames.add(b"config|get", b"x"), none);
        assert_eq!(renames.add(b"get", b""), Ok(()));
        assert_eq!(renames.add(b"GET", b"x"), none);
        let taken = Err("Target command name already exists");
        assert_eq!(renames.add(b"set", b"Incr"), taken);
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
