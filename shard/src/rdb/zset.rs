//! Sorted sets.

use super::reader::Reader;
use super::set::SCAN;
use super::value::{Cursor, Decoded};
use super::writer::Writer;
use super::{Error, Result, Rules, kind, packed, ziplist};
use crate::collections::listpack::{self, Item};
use crate::collections::sorted_set::SortedSet;
use crate::commands::zset::edit::with_packed_score;
use crate::commands::zset::view::View;
use crate::keyspace::EntryRef;
use crate::keyspace::entry::Value;
use crate::object::{Encoding, Object, Type};
use ringwood_protocol::number::parse_f64;

pub fn read(of: u8, reader: &mut Reader<'_>, rules: &Rules<'_>) -> Result<Decoded> {
    let mut set = SortedSet::new(rules.hasher.clone());
    let mut longest = 0;
    let mut add = |score: f64, member: &[u8]| {
        longest = longest.max(member.len());
        if score.is_nan() {
            return Err(Error::Corrupt("a sorted set has a score that is no number"));
        }
        if set.score(member).is_some() {
            return Err(Error::Corrupt("a sorted set has a member twice"));
        }
        set.insert(score, member);
        Ok(())
    };
    match of {
        kind::ZSET | kind::ZSET_2 => {
            for _ in 0..reader.length()? {
                let member = reader.string()?;
                let score = if of == kind::ZSET {
                    old_score(reader)?
                } else {
                    reader.f64_le()?
                };
                add(score, &member)?;
            }
        }
        kind::ZSET_ZIPLIST => {
            let zl = reader.string()?;
            let items = ziplist::items(&zl)?;
            let (pairs, rest) = items.as_chunks();
            if !rest.is_empty() {
                return Err(Error::Corrupt("a sorted set's ziplist with half a pair"));
            }
            for &[member, score] in pairs {
                let score = packed_score(score)?;
                member.with_text(|member| add(score, member))?;
            }
        }
        _ => {
            let lp = reader.string()?;
            let count = packed::check(&lp, 2, rules.hasher)?;
            if count <= rules.settings.zset_listpack_entries_max && is_ordered(&lp)? {
                return Ok(packed_set(lp.into_owned()));
            }
            let mut items = listpack::iter(&lp);
            while let (Some((_, member)), Some((_, score))) = (items.next(), items.next()) {
                let score = packed_score(score)?;
                member.with_text(|member| add(score, member))?;
            }
        }
    }
    if set.is_empty() {
        return Err(Error::Empty);
    }
    // What was written packed and is short enough comes back packed, whatever its members' lengths, as in Redis.
    let settings = rules.settings;
    let fits = set.len() <= settings.zset_listpack_entries_max
        && (longest <= settings.zset_listpack_value_max || of > kind::ZSET_2);
    if fits && set.len().saturating_mul(longest + 32) < 1 << 30 {
        let mut lp = listpack::EMPTY.to_vec();
        set.tree().visit(0, set.len(), |score, member| {
            with_packed_score(score, |score| {
                listpack::push_items(&mut lp, [Item::Bytes(member), score]);
            });
        });
        return Ok(packed_set(lp));
    }
    Ok(Decoded {
        kind: Type::ZSet,
        encoding: Encoding::Skiplist,
        value: Value::Object(Box::new(Object::SortedSet(set))),
    })
}

fn packed_set(lp: Vec<u8>) -> Decoded {
    Decoded {
        kind: Type::ZSet,
        encoding: Encoding::Listpack,
        value: Value::Bytes(lp),
    }
}

/// A score as text, or one of three numbers in place of the text's length.
fn old_score(reader: &mut Reader<'_>) -> Result<f64> {
    match reader.u8()? {
        253 => Ok(f64::NAN),
        254 => Ok(f64::INFINITY),
        255 => Ok(f64::NEG_INFINITY),
        length => {
            let text = reader.take(length.into())?;
            parse_f64(text).ok_or(Error::Corrupt("a sorted set has a score that is no number"))
        }
    }
}

fn packed_score(item: Item<'_>) -> Result<f64> {
    match item {
        Item::Int(n) => Some(n as f64),
        Item::Bytes(text) => parse_f64(text).filter(|score| !score.is_nan()),
    }
    .ok_or(Error::Corrupt("a sorted set has a score that is no number"))
}

/// Whether the pairs are in order, which the commands on packed sets rely on. All scores are numbers then.
pub fn is_ordered(lp: &[u8]) -> Result<bool> {
    let mut items = listpack::iter(lp);
    let mut before: Option<(f64, Item<'_>)> = None;
    while let (Some((_, member)), Some((_, score))) = (items.next(), items.next()) {
        let score = packed_score(score)?;
        if let Some((lower, smaller)) = before
            && (lower > score
                || lower == score
                    && smaller.with_text(|smaller| member.with_text(|text| smaller > text)))
        {
            return Ok(false);
        }
        before = Some((score, member));
    }
    Ok(true)
}

pub fn skip(of: u8, reader: &mut Reader<'_>) -> Result<()> {
    if of > kind::ZSET_2 {
        return reader.skip_string();
    }
    for _ in 0..reader.length()? {
        reader.skip_string()?;
        if of == kind::ZSET {
            old_score(reader)?;
        } else {
            reader.f64_le()?;
        }
    }
    Ok(())
}

pub fn kind_of(entry: EntryRef<'_>) -> u8 {
    match View::of(entry) {
        View::Packed(_) => kind::ZSET_LISTPACK,
        View::Large(_) => kind::ZSET_2,
    }
}

/// Writes a packed one.
pub fn write(w: &mut Writer, entry: EntryRef<'_>) {
    w.block(entry.bytes());
}

/// See [`super::list::write_part`].
pub fn write_part(w: &mut Writer, set: &SortedSet, cursor: &mut Cursor, end: usize) -> bool {
    if !std::mem::replace(&mut cursor.begun, true) {
        w.count(set.len());
    }
    loop {
        // The greatest first, as Redis does: what it reads then always goes to its list's head.
        let to = set.len() - cursor.at as usize;
        let from = to.saturating_sub(SCAN);
        set.tree().visit_back(from, to, |score, member| {
            w.string(member);
            w.f64(score);
        });
        cursor.at += (to - from) as u64;
        if from == 0 || w.work() >= end {
            return from == 0;
        }
    }
}
