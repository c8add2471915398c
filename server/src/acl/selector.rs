//! One set of permissions: commands, keys and channels that go together.

use crate::registry::{Entry, Registry};
use ringwood_protocol::glob::glob_match;
use std::collections::BTreeMap;

pub const READ: u8 = 1;
pub const WRITE: u8 = 2;

/// `~pattern`, `%R~pattern`, `%W~pattern`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPattern {
    /// [`READ`], [`WRITE`] or both.
    pub access: u8,
    pub pattern: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// A bit for each command and subcommand, by its place in the registry.
    allowed: Vec<u64>,
    /// Nothing has been taken away since `+@all`.
    all_commands: bool,
    /// Whether commands that come with later versions are allowed: `+@all` or `-@all` at the head of the description.
    later: bool,
    /// `+select|0`: the first arguments with which a command is allowed that is not.
    first_args: BTreeMap<usize, Vec<Vec<u8>>>,
    /// The rules for commands that still say something, as given.
    rules: Vec<String>,
    pub all_keys: bool,
    pub keys: Vec<KeyPattern>,
    pub all_channels: bool,
    pub channels: Vec<Vec<u8>>,
}

impl Selector {
    /// Nothing, but channels where `acl-pubsub-default` says so.
    pub fn new(all_channels: bool) -> Self {
        Self {
            allowed: vec![0; Registry::get().entries.len().div_ceil(64)],
            all_commands: false,
            later: false,
            first_args: BTreeMap::new(),
            rules: Vec::new(),
            all_keys: false,
            keys: Vec::new(),
            all_channels,
            channels: Vec::new(),
        }
    }
    pub fn everything() -> Self {
        let mut all = Self::new(true);
        all.set_all_commands(true);
        all.all_keys = true;
        all
    }
    pub fn is_everything(&self) -> bool {
        self.all_commands && self.all_keys && self.all_channels
    }

    // ---- commands ----

    pub fn set_all_commands(&mut self, allow: bool) {
        self.allowed.fill(if allow { u64::MAX } else { 0 });
        self.all_commands = allow;
        self.later = allow;
        self.first_args.clear();
        self.rules.clear();
    }
    /// A command with its subcommands.
    fn set(&mut self, entry: &Entry, allow: bool) {
        let (word, bit) = (entry.index / 64, 1 << (entry.index % 64));
        if allow {
            self.allowed[word] |= bit;
        } else {
            self.allowed[word] &= !bit;
            self.all_commands = false;
        }
        self.first_args.remove(&entry.index);
        for sub in &entry.subcommands {
            self.set(sub, allow);
        }
    }
    pub fn set_command(&mut self, entry: &Entry, allow: bool) {
        self.set(entry, allow);
        self.note_rule(&entry.name, allow);
    }
    /// `name` is the category's, `category` its bit.
    pub fn set_category(&mut self, name: &str, category: u32, allow: bool) {
        for entry in &Registry::get().entries {
            if entry.spec.acl_categories() & category != 0 {
                self.set(entry, allow);
            }
        }
        self.note_rule(&format!("@{name}"), allow);
    }
    pub fn allow_first_arg(&mut self, entry: &Entry, arg: &[u8]) {
        let args = self.first_args.entry(entry.index).or_default();
        if !args.iter().any(|a| a.eq_ignore_ascii_case(arg)) {
            args.push(arg.to_vec());
        }
        self.note_rule(
            &format!("{}|{}", entry.name, String::from_utf8_lossy(arg)),
            true,
        );
    }
    /// A rule replaces what was said before of the same command, and of its subcommands.
    fn note_rule(&mut self, rule: &str, allow: bool) {
        let rule = rule.to_ascii_lowercase();
        self.rules.retain(|old| match old[1..].strip_prefix(&rule) {
            Some(rest) => !(rest.is_empty() || rest.starts_with('|')),
            None => true,
        });
        self.rules
            .push(format!("{}{rule}", if allow { '+' } else { '-' }));
    }
    pub fn allows_command(&self, entry: &Entry, args: &[&[u8]]) -> bool {
        if self.all_commands || self.allowed[entry.index / 64] >> (entry.index % 64) & 1 != 0 {
            return true;
        }
        self.first_args.get(&entry.index).is_some_and(|allowed| {
            let arg = args.get(1);
            arg.is_some_and(|arg| allowed.iter().any(|a| a.eq_ignore_ascii_case(arg)))
        })
    }

    // ---- keys and channels ----

    pub fn add_key_pattern(&mut self, access: u8, pattern: &[u8]) {
        match self.keys.iter_mut().find(|k| k.pattern == pattern) {
            Some(known) => known.access |= access,
            None => self.keys.push(KeyPattern {
                access,
                pattern: pattern.to_vec(),
            }),
        }
    }
    pub fn add_channel(&mut self, pattern: &[u8]) {
        if !self.channels.iter().any(|c| c == pattern) {
            self.channels.push(pattern.to_vec());
        }
    }
    pub fn allows_key(&self, key: &[u8], access: u8) -> bool {
        self.all_keys
            || self
                .keys
                .iter()
                .any(|k| k.access & access == access && glob_match(&k.pattern, key))
    }
    /// Every key there is, in that way.
    pub fn allows_every_key(&self, access: u8) -> bool {
        self.all_keys
            || self
                .keys
                .iter()
                .any(|k| k.access & access == access && k.pattern == b"*")
    }
    /// A channel; or a pattern of them, which has to be named as it is.
    pub fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.all_channels
            || self.channels.iter().any(|c| match is_pattern {
                true => c == channel,
                false => glob_match(c, channel),
            })
    }

    // ---- as text ----

    pub fn describe_commands(&self) -> String {
        let head = if self.later { "+@all" } else { "-@all" };
        let rules = self.rules.iter().map(String::as_str);
        std::iter::once(head)
            .chain(rules)
            .collect::<Vec<_>>()
            .join(" ")
    }
    /// The patterns, each behind its mark; `*` for all.
    pub fn describe_keys(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let one = |k: &KeyPattern| {
            let mark: &[u8] = match k.access {
                READ => b"%R~",
                WRITE => b"%W~",
                _ => b"~",
            };
            [mark, &k.pattern].concat()
        };
        self.keys.iter().map(one).collect::<Vec<_>>().join(&b' ')
    }
    pub fn describe_channels(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        let one = |c: &Vec<u8>| [b"&", &c[..]].concat();
        self.channels
            .iter()
            .map(one)
            .collect::<Vec<_>>()
            .join(&b' ')
    }
    pub fn describe(&self, out: &mut Vec<u8>) {
        let keys = self.describe_keys();
        out.extend_from_slice(&keys);
        if !keys.is_empty() {
            out.push(b' ');
        }
        if !self.all_channels {
            out.extend_from_slice(b"resetchannels ");
        }
        let channels = self.describe_channels();
        out.extend_from_slice(&channels);
        if !channels.is_empty() {
            out.push(b' ');
        }
        out.extend_from_slice(self.describe_commands().as_bytes());
    }
}
