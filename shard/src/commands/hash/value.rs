//! A hash in one of its three encodings: a listpack of fields and values in turn; a listpack of fields, values and times, from the
//! first HEXPIRE on ([`timed_listpack`]); or a table ([`FieldTable`]).
//!
//! A field whose time is over is there until the expiry wheel or a command removes it. It counts in HLEN, and writing it again
//! is no new field, as in Redis; but no command shows its value.

use crate::collections::field_table::FieldTable;
use crate::collections::listpack::{self, HEADER, Item, Splice};
use crate::collections::timed_listpack;
use crate::keyspace::entry::{Parts, Value};
use crate::keyspace::{EntryMut, EntryRef, Key, KeyHasher};
use crate::object::{Encoding, Object, Type};
use crate::shard::{Settings, Shard, notify};
use ringwood_protocol::error::CommandError;

/// The event class of hashes.
pub const CLASS: u32 = notify::HASH;

// ---- reading ----

/// A hash for reading.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub body: Body<'a>,
    /// Fields of a table that expire by then have expired; where there are none, the beginning of time, so that nobody compares.
    now_ms: i64,
}

#[derive(Clone, Copy)]
pub enum Body<'a> {
    Packed(&'a [u8]),
    /// With the position of the first field that has not expired.
    Timed(&'a [u8], usize),
    Table(&'a FieldTable),
}

/// What became of a field.
#[derive(Clone, Copy)]
pub enum Found<'a> {
    Missing,
    /// Its time is over, but it has not been removed yet.
    Expired,
    Live(Item<'a>),
}

impl<'a> View<'a> {
    #[inline]
    pub fn of(entry: EntryRef<'a>, now_ms: i64) -> Self {
        if !entry.is_object() {
            let lp = entry.bytes();
            let body = if entry.encoding() == Encoding::ListpackEx {
                Body::Timed(lp, timed_listpack::live_from(lp, now_ms))
            } else {
                Body::Packed(lp)
            };
            return Self { body, now_ms };
        }
        let Object::Hash(table) = entry.object() else {
            unreachable!("a hash holds {:?}", entry.object());
        };
        let due = table.earliest().is_some_and(|at| at <= now_ms);
        Self {
            body: Body::Table(table),
            now_ms: if due { now_ms } else { i64::MIN },
        }
    }
    /// How many fields there are, those counted that have expired and were not removed yet.
    pub fn len(self) -> usize {
        match self.body {
            Body::Packed(lp) => listpack::len(lp) / 2,
            Body::Timed(lp, _) => timed_listpack::len(lp),
            Body::Table(table) => table.len(),
        }
    }
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
    /// True if there may be fields that have expired.
    pub fn any_expired(self) -> bool {
        match self.body {
            Body::Packed(_) => false,
            Body::Timed(_, live) => live > HEADER,
            Body::Table(_) => self.now_ms != i64::MIN,
        }
    }
    /// How many fields [`View::each`] gives.
    pub fn live_len(self) -> usize {
        if !self.any_expired() {
            return self.len();
        }
        let mut count = 0;
        self.each(|_, _| count += 1);
        count
    }
    #[inline]
    pub fn find(self, field: &[u8]) -> Found<'a> {
        match self.body {
            Body::Packed(lp) => match find(lp, field).and_then(|at| listpack::next(lp, at)) {
                Some(at) => Found::Live(listpack::get(lp, at)),
                None => Found::Missing,
            },
            Body::Timed(lp, live) => match timed_listpack::find(lp, HEADER, field) {
                Some(at) if at < live => Found::Expired,
                Some(at) => {
                    timed_listpack::get(lp, at).map_or(Found::Missing, |t| Found::Live(t.value))
                }
                None => Found::Missing,
            },
            Body::Table(table) => match table.find(field) {
                Some(found) if self.is_over(found.expire_at) => Found::Expired,
                Some(found) => Found::Live(Item::Bytes(found.value)),
                None => Found::Missing,
            },
        }
    }
    #[inline]
    pub fn get(self, field: &[u8]) -> Option<Item<'a>> {
        match self.find(field) {
            Found::Live(value) => Some(value),
            Found::Missing | Found::Expired => None,
        }
    }
    /// When a field expires, if it does; `None` if there is no such field, or no more.
    pub fn expiry(self, field: &[u8]) -> Option<Option<i64>> {
        match self.body {
            Body::Packed(lp) => find(lp, field).map(|_| None),
            Body::Timed(lp, live) => {
                let at = timed_listpack::find(lp, live, field)?;
                Some(timed_listpack::get(lp, at)?.expire_at)
            }
            Body::Table(table) => {
                let at = table.find(field)?.expire_at;
                (!self.is_over(at)).then_some(at)
            }
        }
    }
    /// The time by which fields have expired.
    pub fn now_ms(self) -> i64 {
        self.now_ms
    }
    #[inline]
    pub fn is_over(self, expire_at: Option<i64>) -> bool {
        expire_at.is_some_and(|at| at <= self.now_ms)
    }
    /// Every field that has not expired, with its value.
    pub fn each(self, mut f: impl FnMut(Item<'a>, Item<'a>)) {
        match self.body {
            Body::Packed(lp) => {
                let mut items = listpack::iter(lp);
                while let (Some((_, field)), Some((_, value))) = (items.next(), items.next()) {
                    f(field, value);
                }
            }
            Body::Timed(lp, live) => {
                timed_listpack::iter_from(lp, live).for_each(|t| f(t.field, t.value));
            }
            Body::Table(table) => table.each(|item| {
                if !self.is_over(item.expire_at) {
                    f(Item::Bytes(item.key), Item::Bytes(item.value));
                }
            }),
        }
    }
}

#[inline]
fn find(lp: &[u8], field: &[u8]) -> Option<usize> {
    listpack::find(lp, HEADER, field, 1)
}

/// The hash at a key for reading; an error for another type.
#[inline]
pub fn view<'a>(
    shard: &'a mut Shard,
    db: usize,
    key: Key<'_>,
) -> Result<Option<View<'a>>, CommandError> {
    let now_ms = shard.due_ms();
    match shard.read(db, key) {
        Some(entry) if entry.kind() != Type::Hash => Err(CommandError::WrongType),
        found => Ok(found.map(|entry| View::of(entry, now_ms))),
    }
}

/// As [`view`], for a command that changes it afterwards: that misses nothing where there is no key.
#[inline]
pub fn view_to_change<'a>(
    shard: &'a mut Shard,
    db: usize,
    key: Key<'_>,
) -> Result<Option<View<'a>>, CommandError> {
    let now_ms = shard.due_ms();
    let entry = open(shard, db, key)?;
    Ok(entry.map(|entry| View::of(entry.into_ref(), now_ms)))
}

/// The hash at a key for changing; an error for another type.
#[inline]
pub fn open<'a>(
    shard: &'a mut Shard,
    db: usize,
    key: Key<'_>,
) -> Result<Option<EntryMut<'a>>, CommandError> {
    match shard.write(db, key) {
        Some(entry) if entry.kind() != Type::Hash => Err(CommandError::WrongType),
        found => Ok(found),
    }
}

// ---- changing ----

/// What becomes of the expiry of a field that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    Clear,
    Keep,
    /// Wall-clock milliseconds.
    At(i64),
}

/// Until when a hash stays packed.
#[derive(Clone, Copy)]
struct Limits {
    entries: usize,
    value: usize,
}

impl Limits {
    fn of(settings: &Settings) -> Self {
        Self {
            entries: settings.hash_listpack_entries_max,
            value: settings.hash_listpack_value_max,
        }
    }
    fn allow(self, pairs: &[&[u8]]) -> bool {
        pairs.len() / 2 <= self.entries && pairs.iter().all(|word| word.len() <= self.value)
    }
}

fn table_of<'a>(entry: &'a mut EntryMut<'_>) -> &'a mut FieldTable {
    match entry.object_mut() {
        Object::Hash(table) => table,
        other => unreachable!("a hash holds {other:?}"),
    }
}

/// Makes a table of a packed hash.
fn unpack(entry: &mut EntryMut<'_>, hasher: &KeyHasher) {
    if entry.is_object() {
        return;
    }
    let mut table = FieldTable::new(hasher.clone());
    let mut put = |field: Item<'_>, value: Item<'_>, expire_at| {
        field.with_text(|field| value.with_text(|value| table.put(field, value, expire_at)));
    };
    let lp = entry.bytes();
    if entry.encoding() == Encoding::ListpackEx {
        let triples = timed_listpack::iter_from(lp, HEADER);
        triples.for_each(|t| put(t.field, t.value, t.expire_at));
    } else {
        let mut items = listpack::iter(lp);
        while let (Some((_, field)), Some((_, value))) = (items.next(), items.next()) {
            put(field, value, None);
        }
    }
    let object = Box::new(Object::Hash(table));
    entry.set_object(Type::Hash, Encoding::Hashtable, object);
}

/// Makes room for the fields' times. Redis does so for every command that could set one, also if then it does not.
pub fn make_timed(entry: &mut EntryMut<'_>) {
    if entry.encoding() == Encoding::Listpack {
        let lp = timed_listpack::from_pairs(entry.bytes());
        entry.set_vector(Type::Hash, Encoding::ListpackEx, lp);
    }
}

/// Sets a field of a listpack of pairs. True if it is new.
#[inline]
fn put_pair(b: &mut impl Splice, field: &[u8], value: &[u8]) -> bool {
    let lp = b.bytes();
    let at = find(lp, field).and_then(|at| listpack::next(lp, at));
    if let Some(at) = at {
        listpack::replace(b, at, value);
        return false;
    }
    let end = listpack::end(lp);
    listpack::insert_group(b, end, [Item::Bytes(field), Item::Bytes(value)]);
    true
}

/// Sets a field of a listpack of triples. True if it is new.
fn put_triple(b: &mut impl Splice, field: &[u8], value: &[u8], ttl: Ttl) -> bool {
    let found = timed_listpack::find(b.bytes(), HEADER, field);
    let expire_at = match ttl {
        Ttl::At(at) => Some(at),
        Ttl::Keep | Ttl::Clear => None,
    };
    let Some(at) = found else {
        timed_listpack::insert(b, Item::Bytes(field), Item::Bytes(value), expire_at);
        return true;
    };
    timed_listpack::set_value(b, at, value);
    let before = timed_listpack::get(b.bytes(), at).and_then(|t| t.expire_at);
    if ttl != Ttl::Keep && before != expire_at {
        timed_listpack::set_expiry(b, at, expire_at);
    }
    false
}

/// Sets a field. True if it is new. The key's record in the expiry wheel is the caller's to see to, if `ttl` is a time.
#[inline]
fn put(
    entry: &mut EntryMut<'_>,
    hasher: &KeyHasher,
    limits: Limits,
    pair: [&[u8]; 2],
    ttl: Ttl,
) -> bool {
    let [field, value] = pair;
    if !entry.is_object() {
        let more = field.len() + value.len() + 64;
        if limits.allow(&pair) && listpack::has_room(entry.bytes(), more) {
            let new = if entry.encoding() == Encoding::ListpackEx {
                put_triple(entry, field, value, ttl)
            } else {
                put_pair(entry, field, value)
            };
            if new && packed_len(entry) > limits.entries {
                unpack(entry, hasher);
            }
            return new;
        }
        unpack(entry, hasher);
    }
    match ttl {
        Ttl::Clear => table_of(entry).put(field, value, None),
        Ttl::Keep => table_of(entry).put_keeping_time(field, value),
        Ttl::At(at) => table_of(entry).put(field, value, Some(at)),
    }
}

fn packed_len(entry: &EntryMut<'_>) -> usize {
    let step = if entry.encoding() == Encoding::ListpackEx {
        3
    } else {
        2
    };
    listpack::len(entry.bytes()) / step
}

/// Sets fields, one after the other, making the hash if there is none. Returns how many are new. An error for another type.
pub fn set_all(
    shard: &mut Shard,
    db: usize,
    key: Key<'_>,
    pairs: &[&[u8]],
    ttl: Ttl,
) -> Result<usize, CommandError> {
    let limits = Limits::of(&shard.settings);
    let hasher = shard.keyspace.hasher().clone();
    let fits = limits.allow(pairs);
    let mut added = 0;
    if let Some(mut entry) = open(shard, db, key)? {
        let times = matches!(ttl, Ttl::At(_));
        let before = if times { entry.get().next_time() } else { None };
        // What may not stay packed is not packed first.
        if !fits {
            unpack(&mut entry, &hasher);
        }
        if times {
            make_timed(&mut entry);
        }
        for words in pairs.chunks_exact(2) {
            added += put(&mut entry, &hasher, limits, [words[0], words[1]], ttl) as usize;
        }
        if times && wants_record(&entry, before) {
            shard.rearm(db, key, before);
        }
        return Ok(added);
    }
    let expire_at = match ttl {
        Ttl::At(at) => Some(at),
        Ttl::Clear | Ttl::Keep => None,
    };
    if fits {
        // Made as a whole: an entry that grew field by field would move each time.
        let bytes: usize = pairs.iter().map(|word| word.len() + 3).sum();
        let mut lp = Vec::with_capacity(listpack::EMPTY.len() + bytes + 5 * pairs.len());
        lp.extend_from_slice(listpack::EMPTY);
        for words in pairs.chunks_exact(2) {
            added += match expire_at {
                Some(_) => put_triple(&mut lp, words[0], words[1], ttl),
                None => put_pair(&mut lp, words[0], words[1]),
            } as usize;
        }
        let encoding = match expire_at {
            Some(_) => Encoding::ListpackEx,
            None => Encoding::Listpack,
        };
        shard.insert_bytes(db, key, Type::Hash, encoding, &[&lp]);
    } else {
        let mut table = FieldTable::new(hasher);
        for words in pairs.chunks_exact(2) {
            added += table.put(words[0], words[1], expire_at) as usize;
        }
        let parts = Parts {
            kind: Type::Hash,
            encoding: Encoding::Hashtable,
            access: shard.access_new(),
            expire_at: None,
            value: Value::Object(Box::new(Object::Hash(table))),
        };
        shard.insert(db, key, parts);
    }
    if expire_at.is_some() {
        shard.rearm(db, key, None);
    }
    Ok(added)
}

/// True if the expiry wheel may have no record for what time changes next about the key; `before`: what that was until now.
pub fn wants_record(entry: &EntryMut<'_>, before: Option<i64>) -> bool {
    let has_one_by = before.filter(|_| entry.in_wheel());
    let next = entry.get().next_time();
    next.is_some_and(|at| has_one_by.is_none_or(|by| by > at))
}

/// Gives a field another time, in a hash that has room for times. False if there is no such field.
pub fn set_expiry(entry: &mut EntryMut<'_>, field: &[u8], expire_at: Option<i64>) -> bool {
    if entry.is_object() {
        return table_of(entry).set_expiry(field, expire_at);
    }
    debug_assert_eq!(entry.encoding(), Encoding::ListpackEx);
    match timed_listpack::find(entry.bytes(), HEADER, field) {
        Some(at) => {
            timed_listpack::set_expiry(entry, at, expire_at);
            true
        }
        None => false,
    }
}

/// Removes a field. False if there is none. The hash may be empty then.
pub fn remove(entry: &mut EntryMut<'_>, field: &[u8]) -> bool {
    if entry.is_object() {
        return table_of(entry).remove(field);
    }
    let (at, count) = match entry.encoding() {
        Encoding::ListpackEx => (timed_listpack::find(entry.bytes(), HEADER, field), 3),
        _ => (find(entry.bytes(), field), 2),
    };
    match at {
        Some(at) => {
            listpack::delete(entry, at, count);
            true
        }
        None => false,
    }
}

/// True when no field is left: the key goes then.
pub fn is_empty(entry: &EntryMut<'_>) -> bool {
    View::of(entry.get(), i64::MIN).is_empty()
}
