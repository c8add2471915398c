//! Changing a sorted set, whatever its encoding, and going from the packed one to the large one at the thresholds.

use crate::collections::listpack::{self, Item};
use crate::collections::sorted_set::SortedSet;
use crate::ctx::Ctx;
use crate::keyspace::entry::{Parts, Value};
use crate::keyspace::{EntryMut, Key, KeyHasher};
use crate::object::{Encoding, Object, Type};
use crate::shard::{Shard, notify};
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number::double_text;

use super::pairs::Pairs;
use super::view::{View, packed_pairs, packed_score_after};

/// When a packed sorted set becomes a large one, and what that needs.
pub struct Limits {
    entries_max: usize,
    value_max: usize,
    hasher: KeyHasher,
}

impl Limits {
    pub fn of(shard: &Shard) -> Self {
        Self {
            entries_max: shard.settings.zset_listpack_entries_max,
            value_max: shard.settings.zset_listpack_value_max,
            hasher: shard.keyspace.hasher().clone(),
        }
    }
    /// Whether so many members, the longest of this length, may lie packed.
    pub fn fit(&self, entries: usize, longest: usize) -> bool {
        entries <= self.entries_max && longest <= self.value_max
    }
}

/// What ZADD's options say about members that are there, and that are not.
#[derive(Clone, Copy, Default)]
pub struct Conditions {
    pub nx: bool,
    pub xx: bool,
    pub gt: bool,
    pub lt: bool,
    pub incr: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    Added(f64),
    Changed(f64),
    /// It has the score already.
    Same(f64),
    /// A condition did not hold.
    Refused,
}

impl Conditions {
    /// The new score of a member that has `old`, or `None` if a condition does not hold.
    fn changed(&self, old: f64, score: f64) -> Result<Option<f64>, CommandError> {
        if self.nx {
            return Ok(None);
        }
        let new = if self.incr { old + score } else { score };
        if new.is_nan() {
            return Err(CommandError::fixed(
                "ERR resulting score is not a number (NaN)",
            ));
        }
        if (self.gt && new <= old) || (self.lt && new >= old) {
            return Ok(None);
        }
        Ok(Some(new))
    }
}

/// A score as an element of a listpack: integers as such, where Redis stores them so.
pub(crate) fn with_packed_score<R>(score: f64, f: impl FnOnce(Item<'_>) -> R) -> R {
    const LIMIT: f64 = (i64::MAX / 2) as f64;
    if (-LIMIT..=LIMIT).contains(&score) && score as i64 as f64 == score {
        return f(Item::Int(score as i64));
    }
    f(Item::Bytes(double_text(score).as_bytes()))
}

/// Where a pair belongs in a packed sorted set: the position of the first pair behind it.
fn packed_place(lp: &[u8], score: f64, member: &[u8]) -> usize {
    packed_pairs(lp)
        .find(|(_, m, s)| *s > score || (*s == score && m.with_text(|text| text > member)))
        .map_or(listpack::end(lp), |(at, _, _)| at)
}

fn packed_insert(b: &mut impl listpack::Splice, score: f64, member: &[u8]) {
    let at = packed_place(b.bytes(), score, member);
    with_packed_score(score, |score| {
        listpack::insert_all(b, at, [Item::Bytes(member), score]);
    });
}

/// A large sorted set with the pairs of a packed one.
pub(super) fn unpack(lp: &[u8], hasher: &KeyHasher) -> SortedSet {
    let mut set = SortedSet::new(hasher.clone());
    for (_, member, score) in packed_pairs(lp) {
        member.with_text(|text| set.insert(score, text));
    }
    set
}

pub(super) fn make_large(entry: &mut EntryMut<'_>, limits: &Limits) {
    let set = unpack(entry.bytes(), &limits.hasher);
    entry.set_object(
        Type::ZSet,
        Encoding::Skiplist,
        Box::new(Object::SortedSet(set)),
    );
}

/// A packed sorted set becomes a large one whatever its size, as Redis has it where SORT reads one.
pub fn unpack_key(ctx: &mut Ctx<'_>, key: &[u8]) {
    let limits = Limits::of(ctx.shard);
    let key = ctx.key(key);
    if let Some(mut entry) = ctx.shard.keyspace.get_mut(ctx.db, key) {
        make_large(&mut entry, &limits);
    }
}

fn large<'e>(entry: &'e mut EntryMut<'_>) -> &'e mut SortedSet {
    match entry.object_mut() {
        Object::SortedSet(set) => set,
        #[allow(unreachable_patterns)]
        _ => unreachable!("a sorted set's object is a SortedSet"),
    }
}

/// Adds a member or changes its score, as the conditions allow.
pub fn put(
    entry: &mut EntryMut<'_>,
    limits: &Limits,
    score: f64,
    member: &[u8],
    conditions: Conditions,
) -> Result<Outcome, CommandError> {
    if !entry.is_object() {
        let lp = entry.bytes();
        if let Some(at) = listpack::find(lp, listpack::HEADER, member, 1) {
            let old = packed_score_after(lp, at);
            let Some(new) = conditions.changed(old, score)? else {
                return Ok(Outcome::Refused);
            };
            if new == old {
                return Ok(Outcome::Same(new));
            }
            listpack::delete(entry, at, 2);
            packed_insert(entry, new, member);
            return Ok(Outcome::Changed(new));
        }
        if conditions.xx {
            return Ok(Outcome::Refused);
        }
        let fits = limits.fit(listpack::len(lp) / 2 + 1, member.len())
            && listpack::has_room(lp, member.len());
        if fits {
            packed_insert(entry, score, member);
            return Ok(Outcome::Added(score));
        }
        make_large(entry, limits);
    }
    put_large(large(entry), score, member, conditions)
}

fn put_large(
    set: &mut SortedSet,
    score: f64,
    member: &[u8],
    conditions: Conditions,
) -> Result<Outcome, CommandError> {
    let hash = set.hash(member);
    let Some(old) = set.score_hashed(hash, member) else {
        if conditions.xx {
            return Ok(Outcome::Refused);
        }
        set.insert_hashed(hash, score, member);
        return Ok(Outcome::Added(score));
    };
    let Some(new) = conditions.changed(old, score)? else {
        return Ok(Outcome::Refused);
    };
    if new == old {
        return Ok(Outcome::Same(new));
    }
    set.change_hashed(hash, old, member, new);
    Ok(Outcome::Changed(new))
}

/// Takes a member out. False when it is not there.
pub fn remove(entry: &mut EntryMut<'_>, member: &[u8]) -> bool {
    if entry.is_object() {
        return large(entry).remove(member).is_some();
    }
    match listpack::find(entry.bytes(), listpack::HEADER, member, 1) {
        Some(at) => {
            listpack::delete(entry, at, 2);
            true
        }
        None => false,
    }
}

/// Takes out the pairs of ranks `from` to before `to`, each shown to `f` first, the highest first if `rev` is set.
pub fn remove_range(
    entry: &mut EntryMut<'_>,
    from: usize,
    to: usize,
    rev: bool,
    mut f: impl FnMut(f64, &[u8]),
) {
    if from >= to {
        return;
    }
    if entry.is_object() {
        let set = large(entry);
        if rev {
            set.tree().visit_back(from, to, f);
            set.remove_range(from, to, |_, _| {});
        } else {
            set.remove_range(from, to, f);
        }
        return;
    }
    let lp = entry.bytes();
    View::Packed(lp).visit(from, to, rev, &mut f);
    if let Some(at) = listpack::nth(lp, 2 * from as i64) {
        listpack::delete(entry, at, 2 * (to - from));
    }
}

/// Asks for the memory that the next pop will need: mostly another one follows.
pub fn prefetch_end(entry: &mut EntryMut<'_>, max: bool) {
    if entry.is_object() {
        large(entry).prefetch_end(max);
    }
}

pub fn len(entry: &EntryMut<'_>) -> usize {
    View::of(entry.get()).len()
}

/// The sorted set of a key for changing it; an error for another type.
#[inline]
pub fn write<'a>(ctx: &'a mut Ctx<'_>, key: Key<'_>) -> Result<Option<EntryMut<'a>>, CommandError> {
    match ctx.shard.write(ctx.db, key) {
        Some(entry) if entry.kind() != Type::ZSet => Err(CommandError::WrongType),
        found => Ok(found),
    }
}

/// After members were taken out: says so, and removes the key if it is `empty`.
pub fn removed(ctx: &mut Ctx<'_>, key: Key<'_>, empty: bool, event: &'static str) {
    ctx.modified(key.bytes, notify::ZSET, event);
    if empty {
        ctx.shard.remove(ctx.db, key);
        ctx.modified(key.bytes, notify::GENERIC, "del");
    }
}

/// Writes a result to a key in place of whatever it holds; an empty result deletes it. `pairs` are in order.
pub fn store(ctx: &mut Ctx<'_>, key: &[u8], pairs: &Pairs, event: &'static str) {
    let limits = Limits::of(ctx.shard);
    if pairs.is_empty() {
        if ctx.remove(key) {
            ctx.modified(key, notify::GENERIC, "del");
        }
        return;
    }
    if limits.fit(pairs.len(), pairs.longest()) {
        let mut lp = listpack::Builder::default();
        // A member takes two bytes more than its text, or a few more; a score mostly up to 5.
        lp.reserve(pairs.text_len() + 8 * pairs.len());
        for (score, member) in pairs.iter() {
            lp.push(Item::Bytes(member));
            with_packed_score(score, |score| lp.push(score));
        }
        let lp = lp.finish();
        replace(ctx, key, event, |ctx, key| {
            ctx.shard
                .insert_bytes(ctx.db, key, Type::ZSet, Encoding::Listpack, &[&lp]);
        });
    } else {
        let mut set = SortedSet::new(limits.hasher);
        for (score, member) in pairs.iter() {
            set.insert(score, member);
        }
        store_large(ctx, key, set, event);
    }
}

/// As [`store`], a result that is too large to be packed.
pub fn store_large(ctx: &mut Ctx<'_>, key: &[u8], set: SortedSet, event: &'static str) {
    replace(ctx, key, event, |ctx, key| insert_large(ctx, key, set));
}

/// Makes a key with `insert` in place of whatever it holds, and tells of it.
fn replace(
    ctx: &mut Ctx<'_>,
    key: &[u8],
    event: &'static str,
    insert: impl FnOnce(&mut Ctx<'_>, Key<'_>),
) {
    let name = ctx.key(key);
    let before = ctx.shard.write(ctx.db, name).map(|entry| {
        let kind = entry.kind();
        entry.remove();
        kind
    });
    let events = ctx.shard.events.len();
    insert(ctx, name);
    if let Some(before) = before {
        // A key that was there is not new.
        ctx.shard.events.truncate(events);
        ctx.shard.overwritten(ctx.db, key, before, Type::ZSet);
    }
    ctx.modified(key, notify::ZSET, event);
}

pub fn insert_large(ctx: &mut Ctx<'_>, key: Key<'_>, set: SortedSet) {
    let access = ctx.shard.access_new();
    ctx.shard.insert(
        ctx.db,
        key,
        Parts {
            kind: Type::ZSet,
            encoding: Encoding::Skiplist,
            access,
            expire_at: None,
            value: Value::Object(Box::new(Object::SortedSet(set))),
        },
    );
}
