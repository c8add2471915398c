//! The elements that SORT sorts, taken out of a list, set or sorted set.

use crate::collections::listpack::{self, Item};
use crate::keyspace::EntryRef;
use crate::object::{Encoding, Object, Type};
use ringwood_protocol::error::CommandError;
use std::ops::Range;

/// Elements, one after the other in one block of memory.
#[derive(Debug, Default)]
pub struct Elements {
    text: Vec<u8>,
    places: Vec<Place>,
}

/// An element's place in the text, and what it is sorted by.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub at: usize,
    pub len: usize,
}

impl Elements {
    pub fn places(&self) -> &[Place] {
        &self.places
    }
    pub fn get(&self, place: Place) -> &[u8] {
        &self.text[place.at..place.at + place.len]
    }
    pub fn reverse(&mut self) {
        self.places.reverse();
    }
    fn push(&mut self, item: Item<'_>) {
        let at = self.text.len();
        item.append_to(&mut self.text);
        let len = self.text.len() - at;
        self.places.push(Place { at, len });
    }
}

/// How many elements there are; an error for a type that SORT knows no elements of.
pub fn len(entry: EntryRef<'_>) -> Result<usize, CommandError> {
    match entry.kind() {
        Type::List | Type::Set | Type::ZSet => {}
        _ => return Err(CommandError::WrongType),
    }
    Ok(if entry.is_object() {
        match entry.object() {
            Object::List(list) => list.len(),
            Object::Set(set) => set.len(),
            Object::SortedSet(set) => set.len(),
            Object::Hash(_) | Object::Stream(_) => return Err(CommandError::WrongType),
        }
    } else {
        match (entry.kind(), entry.encoding()) {
            (Type::ZSet, _) => listpack::len(entry.bytes()) / 2,
            (_, Encoding::Intset) => integers(entry.bytes()).count(),
            _ => listpack::len(entry.bytes()),
        }
    })
}

/// The elements of a range of places, in the value's own order: that of a list, or of the scores.
pub fn load(entry: EntryRef<'_>, range: Range<usize>) -> Elements {
    let (from, count) = (range.start, range.len());
    let mut elements = Elements {
        text: Vec::with_capacity(8 * count),
        places: Vec::with_capacity(count),
    };
    if entry.is_object() {
        match entry.object() {
            Object::List(list) => list
                .iter_from(from)
                .take(count)
                .for_each(|item| elements.push(item)),
            Object::Set(set) => set
                .iter()
                .skip(from)
                .take(count)
                .for_each(|item| elements.push(Item::Bytes(item.key))),
            Object::SortedSet(set) => set.tree().visit(range.start, range.end, |_, member| {
                elements.push(Item::Bytes(member));
            }),
            Object::Hash(_) | Object::Stream(_) => unreachable!("SORT refuses hashes and streams"),
        }
    } else if entry.encoding() == Encoding::Intset {
        integers(entry.bytes())
            .skip(from)
            .take(count)
            .for_each(|n| elements.push(Item::Int(n)));
    } else {
        let step = if entry.kind() == Type::ZSet { 2 } else { 1 };
        let items = listpack::iter(entry.bytes()).step_by(step);
        items
            .skip(from)
            .take(count)
            .for_each(|(_, item)| elements.push(item));
    }
    elements
}

/// The numbers of an intset: after the width of each and their count, 4 bytes each, they follow in order.
pub fn integers(bytes: &[u8]) -> impl Iterator<Item = i64> + '_ {
    let (head, numbers) = bytes.split_at(8);
    numbers
        .chunks_exact(usize::from(head[0]))
        .map(|number| match *number {
            [a, b] => i16::from_le_bytes([a, b]).into(),
            [a, b, c, d] => i32::from_le_bytes([a, b, c, d]).into(),
            _ => number.try_into().map_or(0, i64::from_le_bytes),
        })
}
