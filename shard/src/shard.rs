//! A shard: one core's keys with what Redis's rules need around them: expiry, access clocks, statistics, random choices, and
//! the record of what changed.
//!
//! Time, randomness and settings come from outside. Nothing here blocks or does I/O.

mod access;
mod expiring;
mod settings;

use crate::commands::keys::migrate::Transfer;
use crate::evict::Evictor;
use crate::keyspace::entry::{Header, Parts};
use crate::keyspace::{EntryMut, EntryRef, Found, Key, KeyHasher, Keyspace};
use crate::log::Log;
use crate::object::{Encoding, Type};
use crate::slot_set::SlotSet;
use crate::watch::Attention;
use crate::wheel::{Record, Wheel};
use access::{access_used, lfu_minutes, lru_clock, next_random};
pub(crate) use access::{lfu_counter, lfu_idle_minutes, lru_idle_seconds};
pub use settings::Settings;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Counters that INFO shows; one core's part of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub hits: u64,
    pub misses: u64,
    pub expired: u64,
    /// Fields of hashes.
    pub expired_fields: u64,
    pub evicted: u64,
    /// Changes since the last save.
    pub dirty: u64,
}

impl Stats {
    /// What was done elsewhere counts here.
    pub fn add(&mut self, other: &Self) {
        let Self {
            hits,
            misses,
            expired,
            expired_fields,
            evicted,
            dirty,
        } = other;
        self.hits += hits;
        self.misses += misses;
        self.expired += expired;
        self.expired_fields += expired_fields;
        self.evicted += evicted;
        self.dirty += dirty;
    }
}

/// Classes of keyspace notifications, with the letters of `notify-keyspace-events`.
pub mod notify {
    /// A change that no notification tells of. The event is empty.
    pub const SILENT: u32 = 0;
    pub const GENERIC: u32 = 1 << 2; // g
    pub const STRING: u32 = 1 << 3; // $
    pub const LIST: u32 = 1 << 4; // l
    pub const SET: u32 = 1 << 5; // s
    pub const HASH: u32 = 1 << 6; // h
    pub const ZSET: u32 = 1 << 7; // z
    pub const EXPIRED: u32 = 1 << 8; // x
    pub const EVICTED: u32 = 1 << 9; // e
    pub const STREAM: u32 = 1 << 10; // t
    pub const KEY_MISS: u32 = 1 << 11; // m
    pub const NEW: u32 = 1 << 14; // n
    pub const OVERWRITTEN: u32 = 1 << 15; // o
    pub const TYPE_CHANGED: u32 = 1 << 16; // c
    /// No notification of Redis's: any key of the database may have changed (FLUSHDB, SWAPDB). The event's key is empty.
    pub const ALL_KEYS: u32 = 1 << 31;
}

/// Something that happened to a key, for whoever listens: notifications, WATCH, blocked clients, client-side caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    pub db: usize,
    pub key: Box<[u8]>,
    /// One of [`notify`]'s classes.
    pub class: u32,
    /// As Redis names it in notifications: "set", "expired"…
    pub event: &'static str,
    /// False for events that change nothing (a key miss).
    pub modified: bool,
}

impl KeyEvent {
    #[cold]
    fn new(db: usize, key: &[u8], class: u32, event: &'static str, modified: bool) -> Self {
        Self {
            db,
            key: key.into(),
            class,
            event,
            modified,
        }
    }
}

/// What a write becomes of a key's expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    Keep,
    Clear,
    /// Wall-clock milliseconds.
    At(i64),
}

#[inline]
fn is_over(expire_at: Option<i64>, now_ms: i64) -> bool {
    expire_at.is_some_and(|at| at <= now_ms)
}

/// One core's data.
pub struct Shard {
    pub keyspace: Keyspace,
    pub settings: Arc<Settings>,
    pub stats: Stats,
    /// Wall clock of this turn, milliseconds.
    pub now_ms: i64,
    /// Somebody wants [`Shard::events`].
    pub listening: bool,
    /// What happened to keys since the listener last took this; empty unless `listening`.
    pub events: Vec<KeyEvent>,
    /// Keys that blocked clients wait for, that clients watch.
    pub attention: Attention,
    /// Keys lent by other cores to the command that runs.
    pub guests: HashSet<(usize, Box<[u8]>)>,
    /// This core's keys may be with others, or be changed by what comes later in the order of transactions: a command that finds out
    /// as it runs which keys it needs may use none but [`Shard::guests`].
    pub guests_only: bool,
    /// A snapshot or the log is being read: nothing expires. The log itself says what did and when.
    pub loading: bool,
    /// Somebody takes [`crate::ctx::Ctx::log`]: while nobody does, commands do not write down what they are logged as.
    pub logging: bool,
    /// A script's commands run: what it sees of a set that it has sorted shall not depend on chance.
    pub in_script: bool,
    /// All databases were emptied by a command since somebody looked.
    pub flushed_all: bool,
    /// What RESTORE found wrong with a payload, for the server's log.
    pub refused_payload: Option<Box<str>>,
    /// What has changed, filled while [`Shard::logging`].
    pub log: Log,
    /// The slots whose owner this core is.
    pub owned: SlotSet,
    /// The slot of each key that is out of the keyspace for now and comes back: SCAN waits for them.
    away: Vec<u16>,
    /// CLIENT PAUSE: a read leaves an expired key where it is, and answers as if it were gone.
    pub keep_expired: bool,
    /// What runs leaves the age of keys as it is (CLIENT NO-TOUCH).
    pub keep_access: bool,
    /// The way to other servers (MIGRATE), where there is one.
    pub transfer: Option<Arc<dyn Transfer>>,
    pub(crate) wheel: Wheel,
    pub(crate) evictor: Evictor,
    random: u64,
}

impl Shard {
    pub fn new(settings: Arc<Settings>, hasher: KeyHasher, now_ms: i64, seed: u64) -> Self {
        Self {
            keyspace: Keyspace::new(settings.databases, hasher),
            settings,
            stats: Stats::default(),
            now_ms,
            listening: false,
            events: Vec::new(),
            attention: Attention::default(),
            guests: HashSet::new(),
            guests_only: false,
            loading: false,
            logging: false,
            in_script: false,
            refused_payload: None,
            flushed_all: false,
            log: Log::default(),
            owned: SlotSet::from_slots(0..16384),
            away: Vec::new(),
            keep_expired: false,
            keep_access: false,
            transfer: None,
            wheel: Wheel::new(now_ms),
            evictor: Evictor::default(),
            random: seed | 1,
        }
    }

    /// A random number for choices that clients see (xorshift64*; not for secrets).
    pub fn random(&mut self) -> u64 {
        next_random(&mut self.random)
    }
    /// A random number below `n`, which is not 0.
    pub fn random_below(&mut self, n: usize) -> usize {
        ((self.random() as u128 * n as u128) >> 64) as usize
    }

    /// Bytes of data on this core, beside what the general allocator counts per thread.
    pub fn heap_used(&self) -> usize {
        self.keyspace.heap_used()
    }

    #[inline]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        self.keyspace.key(bytes)
    }

    /// Records that something happened to a key.
    #[inline]
    pub fn notify(
        &mut self,
        db: usize,
        key: &[u8],
        class: u32,
        event: &'static str,
        modified: bool,
    ) {
        if self.listening {
            self.events
                .push(KeyEvent::new(db, key, class, event, modified));
        }
        if modified && self.logging {
            self.log.changed(db, key);
        }
        if modified && !self.attention.is_idle() {
            // A borrowed key is told of by its owner, when it is home.
            if self.attention.tracking.on
                && class != notify::ALL_KEYS
                && self.owned.contains(ringwood_protocol::slot::key_slot(key))
            {
                self.attention.tracking.changed(key);
            }
            let (keyspace, now_ms) = (&self.keyspace, self.due_ms());
            self.attention.changed(db, key, class, |key| {
                let live = |at: Option<i64>| at.is_none_or(|at| at > now_ms);
                let found = keyspace.get(db, keyspace.key(key));
                found.is_some_and(|e| live(e.expire_at()))
            });
        }
    }

    /// A client watches a key from now on; `changed` is set when it changes. `away`: the key may be lent to another core.
    pub fn watch(&mut self, db: usize, key: &[u8], changed: Arc<AtomicBool>, away: bool) {
        let name = self.key(key);
        self.expire_if_due(db, name);
        let existed = away || self.exists(db, name);
        self.attention.watch((db, key.into()), changed, existed);
    }

    /// True for a key of this core, or one that is held for the command.
    pub fn reaches(&self, db: usize, key: &[u8]) -> bool {
        !self.guests_only && self.owns(key) || self.guests.contains(&(db, Box::from(key)))
    }
    pub fn owns(&self, key: &[u8]) -> bool {
        self.owned.contains(ringwood_protocol::slot::key_slot(key))
    }

    /// Access bits of an entry that is made now.
    #[inline]
    pub fn access_new(&self) -> u32 {
        if self.settings.lfu {
            lfu_minutes(self.now_ms) << 8 | 5
        } else {
            lru_clock(self.now_ms)
        }
    }
    /// Access bits of an entry that comes from elsewhere: with the seconds since its last use or its LFU counter, whichever
    /// `maxmemory-policy` makes use of.
    pub fn access_of(&self, idle_seconds: Option<i64>, frequency: Option<i64>) -> u32 {
        match (self.settings.lfu, idle_seconds, frequency) {
            (true, _, Some(frequency)) => lfu_minutes(self.now_ms) << 8 | (frequency as u32 & 0xff),
            (false, Some(idle), _) => lru_clock(self.now_ms).wrapping_sub(idle as u32) & 0xff_ffff,
            _ => self.access_new(),
        }
    }
    /// The LFU counter as it is now, decayed.
    pub fn lfu_counter(&self, access: u32) -> u32 {
        lfu_counter(&self.settings, self.now_ms, access)
    }
    pub fn idle_seconds(&self, access: u32) -> u32 {
        lru_idle_seconds(self.now_ms, access)
    }

    // ---- looking up ----

    #[inline]
    fn is_expired(&self, expire_at: Option<i64>) -> bool {
        is_over(expire_at, self.due_ms())
    }
    /// The time by which keys and fields expire.
    #[inline]
    pub fn due_ms(&self) -> i64 {
        if self.loading { 0 } else { self.now_ms }
    }

    /// The entry as a read command sees it: counted as hit or miss, its access noted. An expired one is deleted.
    #[inline]
    pub fn read(&mut self, db: usize, key: Key<'_>) -> Option<EntryRef<'_>> {
        self.read_with(db, key, true)
    }
    /// As [`Shard::read`], without noting the access when `touch` is false (TTL, TYPE, OBJECT).
    #[inline]
    pub fn read_with(&mut self, db: usize, key: Key<'_>, touch: bool) -> Option<EntryRef<'_>> {
        let due_ms = self.due_ms();
        // The parts of the shard by themselves: the entry borrows the keyspace.
        let Self {
            keyspace,
            settings,
            stats,
            now_ms,
            random,
            events,
            listening,
            attention,
            owned,
            keep_expired,
            keep_access,
            logging,
            log,
            ..
        } = self;
        let expires_until = if *keep_expired { i64::MIN } else { due_ms };
        match keyspace.find_live(db, key, expires_until) {
            Found::Live(entry) if *keep_expired && is_over(entry.expire_at(), due_ms) => {}
            Found::Live(mut entry) => {
                stats.hits += 1;
                if touch {
                    let access = entry.access();
                    let used = access_used(settings, *now_ms, random, access);
                    if used != access && !*keep_access {
                        entry.set_access(used);
                    }
                }
                return Some(entry.into_ref());
            }
            Found::Expired => {
                stats.expired += 1;
                if *logging {
                    log.lapsed(db, &[b"DEL", key.bytes]);
                }
                if *listening {
                    let event = KeyEvent::new(db, key.bytes, notify::EXPIRED, "expired", true);
                    events.push(event);
                }
                attention.expired(db, key, owned);
            }
            Found::Missing => {}
        }
        stats.misses += 1;
        if *listening {
            let event = KeyEvent::new(db, key.bytes, notify::KEY_MISS, "keymiss", false);
            events.push(event);
        }
        None
    }
    /// The entry as a write command sees it. An expired one is deleted first.
    #[inline]
    pub fn write(&mut self, db: usize, key: Key<'_>) -> Option<EntryMut<'_>> {
        match self.keyspace.find_live(db, key, self.due_ms()) {
            Found::Live(mut entry) => {
                let access = entry.access();
                let used = access_used(&self.settings, self.now_ms, &mut self.random, access);
                if used != access && !self.keep_access {
                    entry.set_access(used);
                }
                Some(entry)
            }
            Found::Expired => {
                self.stats.expired += 1;
                if self.logging {
                    self.log.lapsed(db, &[b"DEL", key.bytes]);
                }
                if self.listening {
                    let event = KeyEvent::new(db, key.bytes, notify::EXPIRED, "expired", true);
                    self.events.push(event);
                }
                self.attention.expired(db, key, &self.owned);
                None
            }
            Found::Missing => None,
        }
    }
    /// True for a key that is there and not expired. Counts nothing.
    pub fn exists(&self, db: usize, key: Key<'_>) -> bool {
        self.keyspace
            .get(db, key)
            .is_some_and(|e| !self.is_expired(e.expire_at()))
    }

    /// Deletes the key if its time is over. True when it did.
    pub fn expire_if_due(&mut self, db: usize, key: Key<'_>) -> bool {
        let due = self
            .keyspace
            .get(db, key)
            .is_some_and(|e| self.is_expired(e.expire_at()));
        if due {
            self.expire(db, key);
        }
        due
    }

    fn expire(&mut self, db: usize, key: Key<'_>) {
        if let Some(entry) = self.keyspace.get_mut(db, key) {
            entry.remove();
            self.stats.expired += 1;
            self.log_lapsed(db, key.bytes);
            self.notify(db, key.bytes, notify::EXPIRED, "expired", true);
        }
    }

    /// Logs that a key is gone because its time was over, or to make room. Whoever reads the log lets nothing expire meanwhile.
    #[inline]
    pub(crate) fn log_lapsed(&mut self, db: usize, key: &[u8]) {
        if self.logging {
            self.log.lapsed(db, &[b"DEL", key]);
        }
    }

    // ---- changing ----

    /// Records that a key's value was replaced as a whole. Only notifications tell of it: what was done to the key has an
    /// event of its own.
    #[inline]
    pub fn overwritten(&mut self, db: usize, key: &[u8], before: Type, now: Type) {
        if self.listening {
            self.notify(db, key, notify::OVERWRITTEN, "overwritten", false);
            if before != now {
                self.notify(db, key, notify::TYPE_CHANGED, "type_changed", false);
            }
        }
    }

    /// Sets a string, making or replacing the key whatever its type was.
    #[inline]
    pub fn set_string(&mut self, db: usize, key: Key<'_>, value: &[u8], expiry: Expiry) {
        let encoding = Encoding::of_string(value);
        if let Some(mut entry) = self.write(db, key) {
            let kind = entry.kind();
            let at = match expiry {
                Expiry::Keep => {
                    entry.set_bytes(Type::String, encoding, value);
                    self.overwritten(db, key.bytes, kind, Type::String);
                    return;
                }
                Expiry::Clear => None,
                Expiry::At(at) => Some(at),
            };
            let before = entry.set_bytes_and_expiry(Type::String, encoding, value, at);
            if let Some(at) = at
                && needs_record(&mut entry, before, at)
            {
                self.arm(db, key, at);
            }
            self.overwritten(db, key.bytes, kind, Type::String);
            return;
        }
        let expire_at = if let Expiry::At(at) = expiry {
            Some(at)
        } else {
            None
        };
        let header = Header {
            kind: Type::String,
            encoding,
            access: self.access_new(),
            expire_at,
        };
        let mut entry = self.keyspace.insert_bytes(db, key, &header, &[value]);
        if let Some(at) = expire_at {
            entry.set_in_wheel(true);
            self.arm(db, key, at);
        }
        self.notify(db, key.bytes, notify::NEW, "new", false);
    }

    /// Adds a key that is not there, with a packed value (a string or a small collection) of these parts.
    pub fn insert_bytes(
        &mut self,
        db: usize,
        key: Key<'_>,
        kind: Type,
        encoding: Encoding,
        parts: &[&[u8]],
    ) -> EntryMut<'_> {
        let header = Header {
            kind,
            encoding,
            access: self.access_new(),
            expire_at: None,
        };
        self.notify(db, key.bytes, notify::NEW, "new", false);
        self.keyspace.insert_bytes(db, key, &header, parts)
    }
    /// Adds a key that is not there. The parts' expiry is kept.
    pub fn insert(&mut self, db: usize, key: Key<'_>, parts: Parts) {
        self.load(db, key, parts);
        self.notify(db, key.bytes, notify::NEW, "new", false);
    }

    /// Adds a key of a snapshot that is read. Nobody hears of it.
    pub fn load(&mut self, db: usize, key: Key<'_>, parts: Parts) {
        let mut entry = self.keyspace.insert(db, key, parts);
        if let Some(at) = entry.get().next_time() {
            entry.set_in_wheel(true);
            self.arm(db, key, at);
        }
    }

    /// The same of a string or a packed collection whose bytes are kept as they are.
    pub fn load_bytes(&mut self, db: usize, key: Key<'_>, header: &Header, bytes: &[u8]) {
        let mut entry = self.keyspace.insert_bytes(db, key, header, &[bytes]);
        if let Some(at) = header.expire_at {
            entry.set_in_wheel(true);
            self.arm(db, key, at);
        }
    }

    fn arm(&mut self, db: usize, key: Key<'_>, at: i64) {
        self.wheel
            .insert(at, Record::new(self.keyspace.uid(db), key.slot, key.hash));
    }

    /// Makes sure of a record for what time changes next about a key. `before`: what that was until now.
    pub fn rearm(&mut self, db: usize, key: Key<'_>, before: Option<i64>) {
        if let Some(mut entry) = self.keyspace.get_mut(db, key)
            && let Some(at) = entry.get().next_time()
            && needs_record(&mut entry, before, at)
        {
            self.arm(db, key, at);
        }
    }

    /// Sets or clears a key's expiry. False when there is no such key.
    pub fn set_expiry(&mut self, db: usize, key: Key<'_>, expiry: Expiry) -> bool {
        let Some(mut entry) = self.keyspace.get_mut(db, key) else {
            return false;
        };
        match expiry {
            Expiry::Keep => {}
            Expiry::Clear => {
                entry.set_expire_at(None);
            }
            Expiry::At(at) => {
                let before = entry.set_expire_at(Some(at));
                if needs_record(&mut entry, before, at) {
                    self.arm(db, key, at);
                }
            }
        }
        true
    }

    /// Deletes a key. False when there is none, or only an expired one.
    pub fn remove(&mut self, db: usize, key: Key<'_>) -> bool {
        match self.write(db, key) {
            Some(entry) => {
                entry.remove();
                true
            }
            None => false,
        }
    }
    /// Takes a key with its value out.
    pub fn take(&mut self, db: usize, key: Key<'_>) -> Option<Parts> {
        self.write(db, key).map(EntryMut::take)
    }

    /// Takes a key's entry out for another core, or to bring it home again: no event, no statistics.
    pub fn lend(&mut self, db: usize, key: &[u8]) -> Option<Parts> {
        let key = self.key(key);
        if self.is_expired(self.keyspace.get(db, key)?.expire_at()) {
            self.expire(db, key);
            return None;
        }
        Some(self.keyspace.get_mut(db, key)?.take())
    }
    /// Puts in an entry that [`Shard::lend`] took out, here or elsewhere.
    pub fn restore(&mut self, db: usize, key: &[u8], parts: Parts) {
        let key = self.key(key);
        let mut entry = self.keyspace.insert(db, key, parts);
        if let Some(at) = entry.get().next_time() {
            entry.set_in_wheel(true);
            self.arm(db, key, at);
        }
    }

    /// This key is out of the keyspace until [`Shard::note_home`]; its slot is locked.
    pub fn note_away(&mut self, key: &[u8]) {
        self.away.push(ringwood_protocol::slot::key_slot(key));
    }
    pub fn note_home(&mut self, key: &[u8]) {
        let slot = ringwood_protocol::slot::key_slot(key);
        if let Some(at) = self.away.iter().position(|away| *away == slot) {
            self.away.swap_remove(at);
        }
    }
    /// The first slot from `from` on that has keys which are out of the keyspace.
    pub fn first_away(&self, from: u16) -> Option<u16> {
        self.away.iter().copied().filter(|slot| *slot >= from).min()
    }

    /// A copy of what is stored at a key: no event, no statistics.
    pub fn duplicate(&self, db: usize, key: &[u8]) -> Option<Parts> {
        let entry = self.keyspace.get(db, self.key(key))?;
        Some(entry.duplicate())
    }
    /// Puts back what [`Shard::duplicate`] gave, in place of whatever is there.
    pub fn undo(&mut self, db: usize, key: &[u8], before: Option<Parts>) {
        let name = self.key(key);
        if let Some(entry) = self.keyspace.get_mut(db, name) {
            entry.remove();
        }
        if let Some(parts) = before {
            self.restore(db, key, parts);
        }
    }
}

/// True when the wheel needs a record for an entry that now expires at `at`, which the entry then counts on.
fn needs_record(entry: &mut EntryMut<'_>, before: Option<i64>, at: i64) -> bool {
    // A record at or before the new time is enough: it finds the new time when it fires.
    let armed = entry.in_wheel() && before.is_some_and(|b| b <= at);
    if !armed {
        entry.set_in_wheel(true);
    }
    !armed
}

#[cfg(test)]
mod tests;
