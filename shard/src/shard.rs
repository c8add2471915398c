//! A shard: one core's keys with what Redis's rules need around them: expiry, access clocks, statistics, random choices, and
//! the record of what changed.
//!
//! Time, randomness and settings come from outside. Nothing here blocks or does I/O.

use crate::commands::keys::migrate::Transfer;
use crate::evict::{Evictor, Rule};
use crate::field_expiry;
use crate::keyspace::entry::{Header, Parts};
use crate::keyspace::{EntryMut, EntryRef, Found, Key, KeyHasher, Keyspace};
use crate::log::Log;
use crate::object::{Encoding, Type};
use crate::slot_set::SlotSet;
use crate::watch::Attention;
use crate::wheel::{PREFIX_BITS, Record, Wheel};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What of the configuration concerns data. Replaced as a whole when CONFIG SET changes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub databases: usize,
    /// `proto-max-bulk-len`: the longest string.
    pub string_len_max: usize,
    /// Access bits hold LFU counters rather than LRU times: `maxmemory-policy` is one of the lfu ones.
    pub lfu: bool,
    pub lfu_log_factor: u32,
    pub lfu_decay_minutes: u32,
    /// Which keys go when memory is short. `None`: none does.
    pub eviction: Option<Rule>,
    /// DEBUG SET-ACTIVE-EXPIRE.
    pub active_expire: bool,
    /// DEBUG SET-SKIP-CHECKSUM-VALIDATION: RESTORE takes payloads that were changed on the way.
    pub skip_checksum: bool,
    pub hash_listpack_entries_max: usize,
    pub hash_listpack_value_max: usize,
    pub set_intset_entries_max: usize,
    pub set_listpack_entries_max: usize,
    pub set_listpack_value_max: usize,
    pub zset_listpack_entries_max: usize,
    pub zset_listpack_value_max: usize,
    /// Positive: entries; negative: Redis's size classes (-2 is 8 KB).
    pub list_listpack_size_max: i64,
    pub list_compress_depth: usize,
    pub stream_node_bytes_max: usize,
    pub stream_node_entries_max: usize,
    pub hll_sparse_bytes_max: usize,
    pub rdb_compression: bool,
    /// Commands over more elements are done beside the core: see [`crate::ctx::Ctx::is_long`].
    pub aside_elements_min: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            databases: 16,
            string_len_max: 512 << 20,
            lfu: false,
            lfu_log_factor: 10,
            lfu_decay_minutes: 1,
            eviction: None,
            active_expire: true,
            skip_checksum: false,
            hash_listpack_entries_max: 512,
            hash_listpack_value_max: 64,
            set_intset_entries_max: 512,
            set_listpack_entries_max: 128,
            set_listpack_value_max: 64,
            zset_listpack_entries_max: 128,
            zset_listpack_value_max: 64,
            list_listpack_size_max: -2,
            list_compress_depth: 0,
            stream_node_bytes_max: 4096,
            stream_node_entries_max: 100,
            hll_sparse_bytes_max: 3000,
            rdb_compression: true,
            aside_elements_min: 5000,
        }
    }
}

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

/// Records whose entries are loaded together: enough to hide the loads' latency.
const EXPIRY_BATCH: usize = 16;

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

    // ---- background ----

    /// Deletes keys and fields whose time is over, looking at up to about `budget` records and fields. True when more are due.
    pub fn expire_some(&mut self, budget: usize) -> bool {
        self.wheel.advance(self.now_ms);
        if !self.settings.active_expire || self.loading {
            return false;
        }
        let mut left = budget;
        while left > 0 && self.wheel.has_due() {
            let mut batch = [None; EXPIRY_BATCH];
            let size = left.min(EXPIRY_BATCH);
            left -= size;
            for place in &mut batch[..size] {
                *place = self.wheel.next_due();
            }
            self.prefetch(&batch);
            for record in batch.into_iter().flatten() {
                left = left.saturating_sub(self.look_at(record));
            }
        }
        if self.wants_sweep() {
            let Self {
                wheel, keyspace, ..
            } = self;
            wheel.sweep(budget, |record| {
                let db = keyspace.db_of_uid(record.db_uid());
                keyspace
                    .find_by_prefix(db, record.slot(), record.prefix(), PREFIX_BITS, |e| {
                        e.in_wheel()
                    })
                    .is_some()
            });
        }
        self.wheel.has_due() || self.wants_sweep()
    }
    fn wants_sweep(&self) -> bool {
        if !self.wheel.wants_sweep(0) {
            return false;
        }
        let dbs = 0..self.keyspace.databases();
        let expiring = dbs.map(|db| self.keyspace.expiring(db)).sum();
        self.wheel.wants_sweep(expiring)
    }
    /// Starts the loads that the batch's look-ups need, for all of it before any waits.
    fn prefetch(&self, batch: &[Option<Record>]) {
        let keyspace = &self.keyspace;
        let each = |f: &dyn Fn(usize, u16, u64)| {
            for record in batch.iter().flatten() {
                let db = keyspace.db_of_uid(record.db_uid());
                f(db, record.slot(), record.prefix() << (64 - PREFIX_BITS));
            }
        };
        each(&|db, slot, _| keyspace.prefetch_table(db, slot));
        each(&|db, slot, hash| keyspace.prefetch_bucket(db, slot, hash));
        each(&|db, slot, hash| keyspace.prefetch_entry(db, slot, hash));
    }

    /// Deals with a record whose time has come. Returns how many fields it removed.
    fn look_at(&mut self, record: Record) -> usize {
        let db = self.keyspace.db_of_uid(record.db_uid());
        let (slot, prefix) = (record.slot(), record.prefix());
        let found = self
            .keyspace
            .find_by_prefix(db, slot, prefix, PREFIX_BITS, |e| e.in_wheel());
        let Some(mut entry) = found else { return 0 };
        let now_ms = self.now_ms;
        match entry.get().next_time() {
            Some(at) if at > now_ms => self.wheel.insert(at, record),
            None => entry.set_in_wheel(false),
            Some(_) => {
                let heard = self.listening || self.logging || !self.attention.is_idle();
                let name = heard.then(|| entry.get().key().to_vec());
                if entry.expire_at().is_some_and(|at| at <= now_ms) {
                    entry.remove();
                    self.stats.expired += 1;
                    if let Some(name) = name {
                        self.log_lapsed(db, &name);
                        self.notify(db, &name, notify::EXPIRED, "expired", true);
                    }
                    return 0;
                }
                let visit = field_expiry::visit(entry, now_ms, self.logging);
                self.stats.expired_fields += visit.count as u64;
                // What is still due is looked at again when all else that is due had its turn.
                if let Some(at) = visit.next_time {
                    self.wheel.insert(at, record);
                }
                let count = visit.count;
                if let Some(name) = name {
                    self.fields_expired(db, &name, visit);
                }
                return count;
            }
        }
        0
    }

    /// When [`Shard::expire_some`] has something to do next, in wall-clock milliseconds.
    pub fn next_expiry(&self) -> Option<i64> {
        if !self.settings.active_expire || self.loading {
            None
        } else if self.wants_sweep() {
            Some(self.now_ms)
        } else {
            self.wheel.next_time()
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

// ---- access bits: seconds for LRU; for LFU minutes and a counter that decays ----

fn lru_clock(now_ms: i64) -> u32 {
    (now_ms / 1000) as u32 & 0xff_ffff
}
fn lfu_minutes(now_ms: i64) -> u32 {
    (now_ms / 60_000) as u32 & 0xffff
}
pub(crate) fn lru_idle_seconds(now_ms: i64, access: u32) -> u32 {
    lru_clock(now_ms).wrapping_sub(access) & 0xff_ffff
}
/// Minutes since the counter was last changed.
pub(crate) fn lfu_idle_minutes(now_ms: i64, access: u32) -> u32 {
    lfu_minutes(now_ms).wrapping_sub(access >> 8) & 0xffff
}
pub(crate) fn lfu_counter(settings: &Settings, now_ms: i64, access: u32) -> u32 {
    let passed = lfu_idle_minutes(now_ms, access);
    let decay = passed.checked_div(settings.lfu_decay_minutes).unwrap_or(0);
    (access & 0xff).saturating_sub(decay)
}
/// The access bits of an entry that is used now. `random` is the shard's generator.
#[inline]
fn access_used(settings: &Settings, now_ms: i64, random: &mut u64, access: u32) -> u32 {
    if !settings.lfu {
        return lru_clock(now_ms);
    }
    let mut counter = lfu_counter(settings, now_ms, access);
    if counter < 255 {
        let base = counter.saturating_sub(5) as f64;
        let chance = 1.0 / (base * settings.lfu_log_factor as f64 + 1.0);
        if (next_random(random) >> 11) as f64 / ((1u64 << 53) as f64) < chance {
            counter += 1;
        }
    }
    lfu_minutes(now_ms) << 8 | counter
}

/// xorshift64*
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard() -> Shard {
        Shard::new(
            Arc::new(Settings::default()),
            KeyHasher::new(1),
            1_700_000_000_000,
            9,
        )
    }

    #[test]
    fn expired_keys_go_without_being_asked_for() {
        let mut s = shard();
        for i in 0..10_000 {
            let name = format!("k{i}").into_bytes();
            let key = s.key(&name);
            let at = s.now_ms + 1000 + i % 5000;
            s.set_string(0, key, b"v", Expiry::At(at));
        }
        s.now_ms += 3000;
        while s.expire_some(100) {}
        assert!(
            (5900..=6400).contains(&s.keyspace.len(0)),
            "{}",
            s.keyspace.len(0)
        );
        s.now_ms += 3300;
        while s.expire_some(100) {}
        assert_eq!(s.keyspace.len(0), 0);
        assert_eq!(s.stats.expired, 10_000);
        assert!(s.next_expiry().is_none());
    }

    #[test]
    fn renewed_ttls_add_no_records_and_hold() {
        let mut s = shard();
        let key = s.key(b"k");
        for i in 0..1000 {
            let at = s.now_ms + 10_000 + i;
            s.set_string(0, key, b"v", Expiry::At(at));
        }
        assert_eq!(s.wheel.len(), 1);
        s.now_ms += 10_500;
        while s.expire_some(10) {}
        assert!(s.exists(0, key));
        s.now_ms += 1000;
        while s.expire_some(10) {}
        assert!(!s.exists(0, key));
        assert_eq!(s.keyspace.len(0), 0);
    }

    #[test]
    fn stale_records_are_swept() {
        let mut s = shard();
        for i in 0..200_000 {
            let name = format!("k{}", i % 10).into_bytes();
            let key = s.key(&name);
            let at = s.now_ms + 3_600_000;
            s.set_string(0, key, b"v", Expiry::At(at));
            s.remove(0, key);
            if i % 10 == 0 {
                s.expire_some(100);
            }
        }
        assert!(s.wheel.len() < 40_000, "{}", s.wheel.len());
    }

    /// A TTL that goes up and down adds records; they do not outlive the key's next look.
    #[test]
    fn a_ttl_that_goes_up_and_down_leaves_few_records() {
        let mut s = shard();
        let key = s.key(b"k");
        for round in 0..20_000 {
            for ms in [100_000, 10_000] {
                let at = s.now_ms + ms;
                s.set_string(0, key, b"v", Expiry::At(at));
            }
            if round % 100 == 0 {
                s.now_ms += 1000;
                while s.expire_some(100) {}
            }
        }
        assert!(s.wheel.len() < 3000, "{}", s.wheel.len());
        s.now_ms += 120_000;
        while s.expire_some(100) {}
        assert_eq!((s.keyspace.len(0), s.wheel.len()), (0, 0));
    }

    /// A lock that is taken and given back all the time, and held when the sweep comes by.
    #[test]
    fn a_key_made_again_and_again_leaves_few_records() {
        let mut s = shard();
        let key = s.key(b"lock");
        for i in 0..300_000 {
            let at = s.now_ms + 3_600_000;
            s.set_string(0, key, b"v", Expiry::At(at));
            if i % 50 == 0 {
                s.expire_some(100);
            }
            s.remove(0, key);
        }
        assert!(s.wheel.len() < 40_000, "{}", s.wheel.len());
    }

    #[test]
    fn a_swapped_database_still_expires() {
        let mut s = shard();
        let key = s.key(b"k");
        let at = s.now_ms + 1000;
        s.set_string(0, key, b"v", Expiry::At(at));
        s.keyspace.swap(0, 3);
        s.now_ms += 2000;
        while s.expire_some(10) {}
        assert_eq!(s.keyspace.len(3), 0);
    }

    #[test]
    fn a_read_that_finds_a_key_expired_tells_the_caches() {
        let mut s = shard();
        s.attention.tracking.set(true, false);
        s.attention.tracking.writer = 7;
        for (n, name) in [&b"read"[..], b"written"].into_iter().enumerate() {
            let key = s.key(name);
            let at = s.now_ms + 1000;
            s.set_string(0, key, b"v", Expiry::At(at));
            let reader = crate::tracking::Reader {
                core: 0,
                conn: 1,
                client: 7,
            };
            s.attention.tracking.remember(name, reader);
            s.now_ms += 2000;
            match n {
                0 => assert!(s.read(0, key).is_none()),
                _ => assert!(s.write(0, key).is_none()),
            }
            // Nobody's doing: the reader itself is told, also with NOLOOP.
            let told = crate::tracking::Stale::Read {
                key: name.into(),
                readers: vec![reader],
                writer: 0,
            };
            assert_eq!(s.attention.tracking.stale.pop(), Some(told));
        }
        assert_eq!(s.attention.tracking.writer, 7);
    }

    #[test]
    fn a_pause_leaves_expired_keys_where_they_are() {
        let mut s = shard();
        let key = s.key(b"k");
        let at = s.now_ms + 1000;
        s.set_string(0, key, b"v", Expiry::At(at));
        s.keep_expired = true;
        assert!(s.read(0, key).is_some());
        s.now_ms += 2000;
        assert!(s.read(0, key).is_none());
        assert_eq!((s.keyspace.len(0), s.stats.expired), (1, 0));
        assert_eq!((s.stats.hits, s.stats.misses), (1, 1));
        s.keep_expired = false;
        assert!(s.read(0, key).is_none());
        assert_eq!((s.keyspace.len(0), s.stats.expired), (0, 1));
    }

    #[test]
    fn who_watches_a_missing_key_sees_no_expiry_of_one() {
        let mut s = shard();
        let key = s.key(b"k");
        let at = s.now_ms + 1000;
        s.set_string(1, key, b"v", Expiry::At(at));
        s.now_ms += 2000;
        let changed = Arc::new(AtomicBool::new(false));
        s.watch(0, b"k", changed.clone(), false);
        // As SWAPDB does: the expired key is in the watched database now.
        s.keyspace.swap(0, 1);
        s.notify(0, b"", notify::ALL_KEYS, "swapdb", true);
        assert!(s.expire_if_due(0, key));
        assert!(!changed.load(std::sync::atomic::Ordering::Relaxed));
        s.set_string(0, key, b"v", Expiry::Clear);
        s.notify(0, b"k", notify::STRING, "set", true);
        assert!(changed.load(std::sync::atomic::Ordering::Relaxed));
    }
}
