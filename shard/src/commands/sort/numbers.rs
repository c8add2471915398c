//! Elements that are all integers, as they mostly are where SORT sorts by number: taken out, sorted and answered as such, without
//! their texts.

use super::source::integers;
use crate::collections::listpack::{self, Item};
use crate::keyspace::EntryRef;
use crate::object::{Encoding, Object, Type};
use std::ops::Range;

/// Redis compares numbers as floats, and texts where those are equal: up to here different integers are different floats.
const EXACT_MAX: u64 = 1 << 53;

/// The elements of a list or set, if all are integers that are kept as such.
pub fn load(entry: EntryRef<'_>, len: usize) -> Option<Vec<i64>> {
    let mut all = Vec::with_capacity(len);
    let exact = |n: i64| (n.unsigned_abs() <= EXACT_MAX).then_some(n);
    let integer = |item: Item<'_>| match item {
        Item::Int(n) => exact(n),
        Item::Bytes(_) => None,
    };
    if entry.is_object() {
        let Object::List(list) = entry.object() else {
            return None;
        };
        for item in list.iter() {
            all.push(integer(item)?);
        }
    } else if entry.encoding() == Encoding::Intset {
        for n in integers(entry.bytes()) {
            all.push(exact(n)?);
        }
    } else {
        let step = if entry.kind() == Type::ZSet { 2 } else { 1 };
        for (_, item) in listpack::iter(entry.bytes()).step_by(step) {
            all.push(integer(item)?);
        }
    }
    Some(all)
}

/// The part `range` of them in order.
pub fn sorted_part(mut all: Vec<i64>, range: Range<usize>, descending: bool) -> Vec<i64> {
    if descending {
        // The bits of a number the other way round are in the other order.
        all.iter_mut().for_each(|n| *n = !*n);
    }
    if range.end < all.len() {
        // Only the first ones are wanted: the others need no order.
        all.select_nth_unstable(range.end);
        all.truncate(range.end);
    }
    all.sort_unstable();
    all.drain(..range.start);
    if descending {
        all.iter_mut().for_each(|n| *n = !*n);
    }
    all
}
