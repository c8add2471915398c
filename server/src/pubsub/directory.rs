//! Which cores have subscribers of which names, and how many: what a publisher must know before it sends anything.
//!
//! All cores share it, under one lock: publishers read it and take their number in the global order while they do; who
//! subscribes or unsubscribes changes it and takes a number while it does. So for any message and any change of
//! subscriptions, what the publisher read and the order of their numbers say the same (see [`crate::pubsub`]).
//!
//! Readers hold it for a look-up and a few queue insertions, writers for some hash table entries, so nobody waits long.
//! Publishers on different cores do not wait for each other.

use super::Kind;
use super::names::{Name, NameMap};
use ringwood_protocol::glob::glob_match;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The subscribers of one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// Cores that have some.
    pub cores: u128,
    /// Over all cores.
    pub clients: usize,
}

/// The maps by [`Kind`].
#[derive(Default)]
pub struct Names([NameMap<Audience>; 3]);

impl Names {
    pub fn of(&self, kind: Kind) -> &NameMap<Audience> {
        &self.0[kind as usize]
    }

    /// One client more for a name.
    pub fn add(&mut self, kind: Kind, hash: u64, name: &Name, core: usize) {
        let audience = self.0[kind as usize].get_or_insert(hash, name);
        audience.clients += 1;
        audience.cores |= 1 << core;
    }
    /// One client less; `last` of its core.
    pub fn remove(&mut self, kind: Kind, hash: u64, name: &Name, core: usize, last: bool) {
        let map = &mut self.0[kind as usize];
        let audience = map
            .get_mut(hash, name)
            .expect("a subscription is in the directory until it ends");
        audience.clients -= 1;
        if last {
            audience.cores &= !(1 << core);
        }
        if audience.clients == 0 {
            debug_assert_eq!(audience.cores, 0);
            map.remove(hash, name);
        }
    }

    /// Who gets a message to this channel.
    pub fn audience(&self, kind: Kind, hash: u64, channel: &[u8]) -> Audience {
        let mut all = self
            .of(kind)
            .get(hash, channel)
            .copied()
            .unwrap_or_default();
        if kind == Kind::Channel {
            for (_, pattern, audience) in self.of(Kind::Pattern).iter() {
                if glob_match(pattern, channel) {
                    all.cores |= audience.cores;
                    all.clients += audience.clients;
                }
            }
        }
        all
    }
}

#[derive(Default)]
pub struct Directory(RwLock<Names>);

impl Directory {
    // A poisoned lock means that a core panicked, which ends the process anyway.
    pub fn read(&self) -> RwLockReadGuard<'_, Names> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
    pub fn write(&self) -> RwLockWriteGuard<'_, Names> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences_are_counted_over_cores_and_patterns() {
        let mut names = Names::default();
        let (news, all) = (Name::from(&b"news"[..]), Name::from(&b"n*"[..]));
        names.add(Kind::Channel, 1, &news, 0);
        names.add(Kind::Channel, 1, &news, 2);
        names.add(Kind::Channel, 1, &news, 2);
        names.add(Kind::Pattern, 9, &all, 5);
        names.add(Kind::Shard, 1, &news, 7);
        let audience = |names: &Names, kind, hash, name: &[u8]| {
            let a = names.audience(kind, hash, name);
            (a.cores, a.clients)
        };
        assert_eq!(audience(&names, Kind::Channel, 1, b"news"), (0b100101, 4));
        assert_eq!(audience(&names, Kind::Channel, 2, b"nil"), (0b100000, 1));
        assert_eq!(audience(&names, Kind::Shard, 1, b"news"), (1 << 7, 1));
        assert_eq!(audience(&names, Kind::Shard, 2, b"nil"), (0, 0));
        names.remove(Kind::Channel, 1, &news, 2, false);
        assert_eq!(audience(&names, Kind::Channel, 1, b"news"), (0b100101, 3));
        names.remove(Kind::Channel, 1, &news, 2, true);
        names.remove(Kind::Channel, 1, &news, 0, true);
        assert_eq!(audience(&names, Kind::Channel, 1, b"news"), (0b100000, 1));
        assert!(names.of(Kind::Channel).is_empty());
    }
}
