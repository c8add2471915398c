//! Scripts by their SHA1, as data: what `SCRIPT LOAD`, `EXISTS`, `FLUSH` and `EVALSHA` need to know. Every core may keep
//! one, or all share one behind a lock; compiled functions are each [`crate::Vm`]'s own affair.
//!
//! As in Redis: scripts that came with `EVAL` are forgotten, the least recently used first, when there are more than
//! 500; those from `SCRIPT LOAD` (or run by `EVALSHA`) stay until `SCRIPT FLUSH`.

use crate::shebang::{self, Flags};
use sha1::{Digest, Sha1};
use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

/// A script's name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha(pub(crate) [u8; 20]);

impl Sha {
    pub fn of(body: &[u8]) -> Self {
        Self(Sha1::digest(body).into())
    }

    /// From 40 hexadecimal digits, of either case.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != 40 {
            return None;
        }
        let mut sha = [0; 20];
        for (byte, digits) in sha.iter_mut().zip(text.chunks_exact(2)) {
            let high = (digits[0] as char).to_digit(16)?;
            let low = (digits[1] as char).to_digit(16)?;
            *byte = (high << 4 | low) as u8;
        }
        Some(Self(sha))
    }

    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(40);
        for byte in self.0 {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from(b"0123456789abcdef"[digit as usize]));
            }
        }
        text
    }
}

impl fmt::Debug for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

/// A script's text with what its first line says.
#[derive(Debug)]
pub struct Script {
    pub sha: Sha,
    pub body: Box<[u8]>,
    /// None without a `#!` line: then Redis's older rules hold (the script may do anything its commands may).
    pub flags: Option<Flags>,
    /// Where Lua's text begins: at the end of the `#!` line, so that lines keep their numbers.
    pub(crate) start: usize,
}

impl Script {
    /// Reads the first line. The error is the text of a reply, with its code.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        Self::with_sha(Sha::of(body), body)
    }

    fn with_sha(sha: Sha, body: &[u8]) -> Result<Self, String> {
        let (flags, start) = shebang::of_script(body)?;
        Ok(Self {
            sha,
            body: body.into(),
            flags,
            start,
        })
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.body[self.start..]
    }
}

/// How a script came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `EVAL`: may be forgotten.
    Eval,
    /// `SCRIPT LOAD`, `EVALSHA`: stays.
    Load,
}

struct Known {
    script: Arc<Script>,
    origin: Origin,
    /// When it was last used, on `Cache::clock`.
    used: u64,
}

/// The known scripts.
#[derive(Default)]
pub struct Cache {
    scripts: HashMap<Sha, Known, foldhash::quality::RandomState>,
    /// By a quick hash of their texts, so that EVAL need not compute a SHA1 of what it knows. The newest of those that share
    /// a hash; the texts are compared.
    by_text: HashMap<u64, Sha, foldhash::quality::RandomState>,
    /// How many of them came with EVAL.
    forgettable: usize,
    clock: u64,
    bytes: usize,
    evicted: u64,
}

/// Scripts of EVAL that are remembered.
pub const EVAL_SCRIPTS_MAX: usize = 500;

impl Cache {
    pub fn new() -> Self {
        Self::default()
    }

    /// The script with that text, new or known. Compile a new one (`Vm::compile`) before [`Cache::insert`].
    pub fn find_or_parse(&mut self, body: &[u8], origin: Origin) -> Result<Arc<Script>, String> {
        let text_hash = self.scripts.hasher().hash_one(body);
        let known = self.by_text.get(&text_hash).copied();
        let known = known.filter(|sha| {
            let script = self.scripts.get(sha);
            script.is_some_and(|known| *known.script.body == *body)
        });
        let sha = known.unwrap_or_else(|| Sha::of(body));
        match self.get(&sha, origin) {
            Some(script) => Ok(script),
            None => Script::with_sha(sha, body).map(Arc::new),
        }
    }

    /// Remembers a script. One that is known stays as it is, or becomes one that stays.
    pub fn insert(&mut self, script: Arc<Script>, origin: Origin) {
        let sha = script.sha;
        if self.get(&sha, origin).is_some() {
            return;
        }
        let text_hash = self.scripts.hasher().hash_one(&*script.body);
        self.by_text.insert(text_hash, sha);
        self.bytes += footprint(&script);
        let known = Known {
            script,
            origin,
            used: self.clock,
        };
        self.scripts.insert(sha, known);
        self.forgettable += usize::from(origin == Origin::Eval);
        if self.forgettable > EVAL_SCRIPTS_MAX {
            self.forget_oldest();
        }
    }

    /// A walk over all: only a client that sends ever new scripts pays it, once per script that it has compiled.
    fn forget_oldest(&mut self) {
        let oldest = self
            .scripts
            .values()
            .filter(|known| known.origin == Origin::Eval)
            .min_by_key(|known| known.used)
            .map(|known| known.script.sha);
        if let Some(known) = oldest.and_then(|sha| self.scripts.remove(&sha)) {
            let text_hash = self.scripts.hasher().hash_one(&*known.script.body);
            self.by_text.remove(&text_hash);
            self.bytes -= footprint(&known.script);
            self.forgettable -= 1;
            self.evicted += 1;
        }
    }

    /// The script for EVAL or EVALSHA; the latter makes it stay, as in Redis.
    pub fn get(&mut self, sha: &Sha, origin: Origin) -> Option<Arc<Script>> {
        self.clock += 1;
        let known = self.scripts.get_mut(sha)?;
        known.used = self.clock;
        if origin == Origin::Load && known.origin == Origin::Eval {
            known.origin = Origin::Load;
            self.forgettable -= 1;
        }
        Some(known.script.clone())
    }

    pub fn exists(&self, sha: &Sha) -> bool {
        self.scripts.contains_key(sha)
    }

    /// `SCRIPT FLUSH`. The Vms must be told too: [`crate::Vm::flush`].
    pub fn flush(&mut self) {
        *self = Self {
            evicted: self.evicted,
            ..Self::default()
        };
    }

    pub fn len(&self) -> usize {
        self.scripts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.scripts.is_empty()
    }

    /// Bytes of the texts and the table, for INFO.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many scripts were forgotten, for INFO (`evicted_scripts`).
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

fn footprint(script: &Script) -> usize {
    size_of::<(u64, Sha)>()
        + size_of::<Known>()
        + size_of::<Script>()
        + size_of::<Sha>()
        + script.body.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_texts() {
        let sha = Sha::of(b"return 1");
        assert_eq!(sha.hex(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert_eq!(Sha::parse(sha.hex().as_bytes()), Some(sha));
        assert_eq!(Sha::parse(sha.hex().to_uppercase().as_bytes()), Some(sha));
        assert_eq!(Sha::parse(b"e0e1"), None);
        assert_eq!(Sha::parse(&[b'x'; 40]), None);
    }

    #[test]
    fn known_texts_are_found() {
        let mut cache = Cache::new();
        for _ in 0..2 {
            for i in 0..100 {
                let body = format!("return {i}");
                let script = cache.find_or_parse(body.as_bytes(), Origin::Eval).unwrap();
                assert_eq!(script.sha, Sha::of(body.as_bytes()));
                assert_eq!(*script.body, *body.as_bytes());
                cache.insert(script, Origin::Eval);
            }
        }
        assert_eq!(cache.len(), 100);
        assert!(cache.find_or_parse(b"#!lux\n", Origin::Eval).is_err());
        cache.flush();
        let script = cache.find_or_parse(b"return 1", Origin::Load).unwrap();
        assert!(!cache.exists(&script.sha));
    }

    #[test]
    fn eval_scripts_are_forgotten_loaded_ones_stay() {
        let mut cache = Cache::new();
        let script = |i: usize| Arc::new(Script::parse(format!("return {i}").as_bytes()).unwrap());
        cache.insert(script(0), Origin::Load);
        // Not undone by a later EVAL.
        cache.insert(script(0), Origin::Eval);
        for i in 1..=EVAL_SCRIPTS_MAX {
            cache.insert(script(i), Origin::Eval);
        }
        // The first one is used again; the second becomes one that stays.
        assert!(cache.get(&script(1).sha, Origin::Eval).is_some());
        assert!(cache.get(&script(2).sha, Origin::Load).is_some());
        for i in 1000..1002 {
            cache.insert(script(i), Origin::Eval);
        }
        assert!(cache.exists(&script(0).sha));
        assert!(cache.exists(&script(1).sha));
        assert!(cache.exists(&script(2).sha));
        assert!(!cache.exists(&script(3).sha));
        assert_eq!(cache.evicted(), 1);
        assert_eq!(cache.len(), 502);
        cache.flush();
        assert!(cache.is_empty());
        assert_eq!(cache.bytes(), 0);
    }
}
