//! What a script lacks that reached for more than it has, and how it finds out.
//!
//! A key that the script did not declare, and that is not here, or in somebody else's use, is *missing*. Nothing of such a run will remain; but it goes on
//! for a while as if missing keys were empty, to learn which others it wants (it *scouts*). Then it starts again with all of them locked. Which keys
//! it wants may depend on what is in them, so that may happen several times ([`TRIES_MAX`]). This is Calvin's optimistic lock location prediction
//! (Thomson and others, SIGMOD 2012, section 3.2.1), with the run itself as reconnaissance.

use crate::core::Core;
use crate::mailbox::Ticket;
use crate::registry::{Entry, Run};
use ringwood_protocol::reply::Version;
use ringwood_shard::ctx::Args;
use ringwood_shard::watch::Name;
use std::collections::HashSet;

/// So often a script starts again with more keys; then with every core held.
pub const TRIES_MAX: u32 = 8;
/// A script that misses more keys than this needs every core.
const MISSING_MAX: usize = 512;
/// So many calls are scouted: a script that waits for a key to be there would go on for ever.
const CALLS_MAX: usize = 4096;

/// What a script must have when it starts again. Nothing of it has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    Keys(Vec<Name>),
    /// Every core.
    Everything,
}

/// How it goes with a script.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Course {
    /// It had all that it reached for.
    #[default]
    Sound,
    /// These keys were missing; `calls` it has made since.
    Scouts {
        missing: HashSet<Name>,
        calls: usize,
    },
    /// It makes no more calls.
    Over(Lack),
}

impl Course {
    /// What it lacked when it came to its end, if anything. `strays`: keys that it had, though nobody has locked them for it.
    pub fn lack(self, strays: &HashSet<Name>) -> Option<Lack> {
        let mut keys = match self {
            Self::Sound => return None,
            Self::Over(Lack::Everything) => return Some(Lack::Everything),
            Self::Over(Lack::Keys(keys)) => keys,
            Self::Scouts { missing, .. } => Vec::from_iter(missing),
        };
        keys.extend(strays.iter().cloned());
        match keys.len() > MISSING_MAX {
            true => Some(Lack::Everything),
            false => Some(Lack::Keys(keys)),
        }
    }
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Over(_))
    }
    /// It calls for something that only one who holds every core can give. Who scouts may do so for what it has read of empty keys, and is asked
    /// again when it has them.
    pub fn lacks_everything(&mut self) {
        match self {
            Self::Sound => *self = Self::Over(Lack::Everything),
            Self::Scouts { .. } | Self::Over(_) => self.end(),
        }
    }
    pub fn misses(&mut self, names: Vec<Name>) {
        match self {
            Self::Sound => {
                *self = Self::Scouts {
                    missing: names.into_iter().collect(),
                    calls: 0,
                }
            }
            Self::Scouts { missing, .. } => missing.extend(names),
            Self::Over(_) => panic!("a call of a script whose calls are over"),
        }
        let Self::Scouts { missing, .. } = self else {
            return;
        };
        if missing.len() > MISSING_MAX {
            *self = Self::Over(Lack::Everything);
        }
    }
    /// It makes this call.
    pub fn calls(&mut self, entry: &Entry) {
        let Self::Scouts { calls, .. } = self else {
            return;
        };
        *calls += 1;
        // Nobody takes back what others of the server's own commands do.
        let harmless = ["PING", "ECHO", "TIME", "SELECT", "PUBLISH", "SPUBLISH"];
        let is_other =
            matches!(entry.spec.run, Run::Server(_)) && !harmless.contains(&entry.spec.name);
        if *calls > CALLS_MAX || is_other {
            self.end();
        }
    }
    /// What it has learnt is enough.
    pub fn end(&mut self) {
        *self = match std::mem::take(self) {
            Self::Scouts { missing, .. } => Self::Over(Lack::Keys(Vec::from_iter(missing))),
            Self::Sound => panic!("a script that lacks nothing"),
            over @ Self::Over(_) => over,
        };
    }
}

impl Core {
    /// A scouting script's command with missing keys runs here as if they were empty (or, if they are here after all, with what they hold now).
    /// The caller takes back what it writes.
    pub(super) fn scout_data(
        &mut self,
        entry: &'static Entry,
        args: Args<'_>,
        db: usize,
        version: Version,
        out: &mut Vec<u8>,
    ) {
        let stats = &self.shard.stats;
        let (hits, misses) = (stats.hits, stats.misses);
        let caller = std::mem::replace(&mut self.caller, Ticket::SCRIPT);
        self.run_data_quietly(entry, args, db, version, out);
        self.caller = caller;
        (self.shard.stats.hits, self.shard.stats.misses) = (hits, misses);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(keys: &[&str]) -> Vec<Name> {
        let name = |key: &&str| (0, Box::from(key.as_bytes()));
        keys.iter().map(name).collect()
    }

    #[test]
    fn each_missing_key_is_asked_for_once() {
        let mut course = Course::Sound;
        for keys in [&["a", "b"][..], &["b", "c"], &["a"]] {
            course.misses(names(keys));
        }
        let strays = HashSet::from_iter(names(&["d"]));
        let Some(Lack::Keys(mut keys)) = course.lack(&strays) else {
            panic!("keys")
        };
        keys.sort();
        assert_eq!(keys, names(&["a", "b", "c", "d"]));
        assert_eq!(Course::Sound.lack(&strays), None);
    }

    #[test]
    fn who_scouts_does_not_know_yet_that_it_needs_everything() {
        let mut course = Course::Sound;
        course.misses(names(&["a"]));
        course.lacks_everything();
        assert!(course.is_over());
        assert_eq!(
            course.lack(&HashSet::new()),
            Some(Lack::Keys(names(&["a"])))
        );

        let mut course = Course::Sound;
        course.lacks_everything();
        assert_eq!(course.lack(&HashSet::new()), Some(Lack::Everything));
    }

    #[test]
    fn who_misses_very_many_keys_needs_everything() {
        let mut course = Course::Sound;
        for n in 0..=MISSING_MAX {
            assert!(!course.is_over());
            course.misses(names(&[&n.to_string()]));
        }
        assert_eq!(course.lack(&HashSet::new()), Some(Lack::Everything));
    }
}
