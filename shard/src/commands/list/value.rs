//! A list's value, packed or large: how commands read and change it without knowing which. Conversions happen here, where Redis makes them.

use crate::collections::listpack::{self, Encoded, Item, Needle};
use crate::collections::quicklist::{self, End, Limit};
use crate::ctx::Ctx;
use crate::keyspace::entry::{Parts, Value};
use crate::keyspace::{EntryMut, EntryRef};
use crate::object::{Encoding, Object, Type};
use crate::shard::{Settings, notify};
use ringwood_protocol::error::CommandError;

/// `LEFT` or `RIGHT`.
pub fn parse_end(word: &[u8]) -> Result<End, CommandError> {
    if word.eq_ignore_ascii_case(b"LEFT") {
        Ok(End::Front)
    } else if word.eq_ignore_ascii_case(b"RIGHT") {
        Ok(End::Back)
    } else {
        Err(CommandError::Syntax)
    }
}
pub fn limit(settings: &Settings) -> Limit {
    Limit::new(settings.list_listpack_size_max)
}
pub fn push_event(end: End) -> &'static str {
    match end {
        End::Front => "lpush",
        End::Back => "rpush",
    }
}
pub fn pop_event(end: End) -> &'static str {
    match end {
        End::Front => "lpop",
        End::Back => "rpop",
    }
}
/// The command that pops there, as it is logged.
pub fn pop_name(end: End) -> &'static [u8] {
    match end {
        End::Front => b"LPOP",
        End::Back => b"RPOP",
    }
}
pub fn push_name(end: End) -> &'static [u8] {
    match end {
        End::Front => b"LPUSH",
        End::Back => b"RPUSH",
    }
}
pub fn end_word(end: End) -> &'static [u8] {
    match end {
        End::Front => b"left",
        End::Back => b"right",
    }
}

/// A list for reading.
#[derive(Clone, Copy)]
pub enum View<'a> {
    Packed(&'a [u8]),
    Large(&'a quicklist::List),
}

#[allow(unreachable_patterns)]
fn large(object: &Object) -> &quicklist::List {
    match object {
        Object::List(list) => list,
        _ => panic!("a list's object is a quicklist"),
    }
}
#[allow(unreachable_patterns)]
fn large_mut(object: &mut Object) -> &mut quicklist::List {
    match object {
        Object::List(list) => list,
        _ => panic!("a list's object is a quicklist"),
    }
}

impl<'a> View<'a> {
    pub fn new(entry: EntryRef<'a>) -> Self {
        if entry.is_object() {
            Self::Large(large(entry.object()))
        } else {
            Self::Packed(entry.bytes())
        }
    }
    pub fn len(self) -> usize {
        match self {
            Self::Packed(lp) => listpack::len(lp),
            Self::Large(list) => list.len(),
        }
    }
    pub fn get(self, index: usize) -> Option<Item<'a>> {
        match self {
            Self::Packed(lp) => {
                let at = listpack::nth(lp, i64::try_from(index).ok()?)?;
                Some(listpack::get(lp, at))
            }
            Self::Large(list) => list.get(index),
        }
    }
    /// Calls `f` with the elements from one end, until it returns false.
    pub fn walk(self, from: End, mut f: impl FnMut(Item<'a>) -> bool) {
        match (self, from) {
            (Self::Packed(lp), End::Front) => {
                for (_, item) in listpack::iter(lp) {
                    if !f(item) {
                        return;
                    }
                }
            }
            (Self::Packed(lp), End::Back) => {
                let mut at = listpack::last(lp);
                while let Some(position) = at {
                    if !f(listpack::get(lp, position)) {
                        return;
                    }
                    at = listpack::prev(lp, position);
                }
            }
            (Self::Large(list), End::Front) => {
                for item in list.iter() {
                    if !f(item) {
                        return;
                    }
                }
            }
            (Self::Large(list), End::Back) => {
                for item in list.iter_back_from(list.len() - 1) {
                    if !f(item) {
                        return;
                    }
                }
            }
        }
    }
    /// Calls `f` with `count` elements from an index on, which are there.
    #[inline]
    pub fn range(self, index: usize, count: usize, mut f: impl FnMut(Item<'a>)) {
        if count == 0 {
            return;
        }
        match self {
            Self::Packed(lp) => {
                if let Some(at) = listpack::nth(lp, index as i64) {
                    for (_, item) in listpack::iter_from(lp, at).take(count) {
                        f(item);
                    }
                }
            }
            Self::Large(list) => list.iter_from(index).take(count).for_each(f),
        }
    }
}

/// A list for changing. What a change does to the encoding is done by it, but not the removal of an empty list.
pub struct ListMut<'a> {
    pub entry: EntryMut<'a>,
    limit: Limit,
}

impl<'a> ListMut<'a> {
    pub fn new(entry: EntryMut<'a>, limit: Limit) -> Self {
        Self { entry, limit }
    }
    pub fn view(&self) -> View<'_> {
        View::new(self.entry.get())
    }
    pub fn len(&self) -> usize {
        self.view().len()
    }
    pub fn large_mut(&mut self) -> Option<&mut quicklist::List> {
        self.entry
            .is_object()
            .then(|| large_mut(self.entry.object_mut()))
    }

    /// Makes a packed list large if `count` more elements, of `bytes` in all, would not fit.
    pub fn grow(&mut self, bytes: usize, count: usize) {
        if self.entry.is_object() {
            return;
        }
        let lp = self.entry.bytes();
        if self
            .limit
            .is_exceeded(lp.len() + bytes, listpack::len(lp) + count)
        {
            let list = quicklist::List::from_listpack(lp, self.limit);
            self.entry.set_object(
                Type::List,
                Encoding::Quicklist,
                Box::new(Object::List(list)),
            );
        }
    }
    /// Packs a large list again that has become small: half of what makes it large.
    #[inline]
    pub fn shrink(&mut self) {
        let limit = self.limit;
        if let Some(list) = self.large_mut()
            && let Some(lp) = list.to_listpack(limit, true)
        {
            self.entry.set_vector(Type::List, Encoding::Listpack, lp);
        }
    }

    /// Adds elements at one end, one after the other.
    pub fn push(&mut self, end: End, values: &[&[u8]]) {
        self.grow(values.iter().map(|v| v.len()).sum(), values.len());
        self.push_grown(end, values);
    }
    /// As [`ListMut::push`], for values that [`ListMut::grow`] was asked for.
    pub fn push_grown(&mut self, end: End, values: &[&[u8]]) {
        if let Some(list) = self.large_mut() {
            for value in values {
                list.push(end, value);
            }
            return;
        }
        match (values, end) {
            ([value], End::Front) => listpack::push_front(&mut self.entry, *value),
            ([value], End::Back) => listpack::push_back(&mut self.entry, *value),
            (_, End::Front) => {
                let values = values.iter().rev().map(|v| Item::Bytes(v));
                listpack::insert_all(&mut self.entry, listpack::HEADER, values);
            }
            (_, End::Back) => {
                let at = listpack::end(self.entry.bytes());
                listpack::insert_all(&mut self.entry, at, values.iter().map(|v| Item::Bytes(v)));
            }
        }
    }
    /// Removes the element at one end, which `f` sees first. The list may be empty then, and is not packed yet.
    #[inline]
    pub fn pop(&mut self, end: End, f: impl FnOnce(Item<'_>)) {
        if let Some(list) = self.large_mut() {
            list.pop(end, f);
            return;
        }
        let lp = self.entry.bytes();
        let at = match end {
            End::Front => listpack::first(lp),
            End::Back => listpack::last(lp),
        };
        if let Some(at) = at {
            f(listpack::get(lp, at));
            listpack::delete(&mut self.entry, at, 1);
        }
    }
    /// Removes elements by index. What comes back is freed in slices.
    pub fn remove_range(&mut self, index: usize, count: usize) -> Option<Box<Object>> {
        if count == 0 {
            return None;
        }
        if let Some(list) = self.large_mut() {
            let removed = list.remove_range(index, count);
            return removed.map(|list| Box::new(Object::List(*list)));
        }
        if let Some(at) = listpack::nth(self.entry.bytes(), index as i64) {
            listpack::delete(&mut self.entry, at, count);
        }
        None
    }
}

/// The list at a key for changing; an error for another type.
pub fn write<'c>(ctx: &'c mut Ctx<'_>, name: &[u8]) -> Result<Option<ListMut<'c>>, CommandError> {
    let limit = limit(&ctx.shard.settings);
    let entry = ctx.write_typed(name, Type::List)?;
    Ok(entry.map(|entry| ListMut::new(entry, limit)))
}

/// Makes a list of these elements at a key that is not there.
pub fn create(ctx: &mut Ctx<'_>, name: &[u8], end: End, values: &[&[u8]], counted_bytes: usize) {
    let limit = limit(&ctx.shard.settings);
    let key = ctx.key(name);
    if limit.is_exceeded(listpack::EMPTY.len() + counted_bytes, values.len()) {
        let mut list = quicklist::List::new(limit);
        for value in values {
            list.push(end, value);
        }
        let parts = Parts {
            kind: Type::List,
            encoding: Encoding::Quicklist,
            access: ctx.shard.access_new(),
            expire_at: None,
            value: Value::Object(Box::new(Object::List(list))),
        };
        ctx.shard.insert(ctx.db, key, parts);
        return;
    }
    if let [value] = values {
        // In place, without a copy.
        let element = Encoded::new(*value);
        let total = (listpack::EMPTY.len() + element.size()) as u32;
        let mut header = [0, 0, 0, 0, 1, 0];
        header[..4].copy_from_slice(&total.to_le_bytes());
        let [head, body, back] = element.pieces();
        let parts = [&header[..], head, body, back, &[0xff]];
        ctx.shard
            .insert_bytes(ctx.db, key, Type::List, Encoding::Listpack, &parts);
        return;
    }
    let mut lp = listpack::EMPTY.to_vec();
    let items = values.iter().map(|v| Item::Bytes(v));
    match end {
        End::Front => listpack::insert_all(&mut lp, listpack::HEADER, items.rev()),
        End::Back => listpack::insert_all(&mut lp, listpack::HEADER, items),
    }
    ctx.shard
        .insert_bytes(ctx.db, key, Type::List, Encoding::Listpack, &[&lp]);
}

/// True where others should not wait until a command has found `count` elements like this from one end: see [`Ctx::is_long`]. A search
/// that ends soon is no long one however much list there is behind, and most do: queues are emptied near their ends.
pub fn is_far(ctx: &mut Ctx<'_>, name: &[u8], value: &[u8], count: usize, from: End) -> bool {
    // Comparing is fast.
    let most = ctx.elements_max().saturating_mul(8);
    if most == usize::MAX {
        return false;
    }
    let len = ctx.size_of(name);
    if len <= most || count > len {
        // All of it is walked.
        return len > most;
    }
    let Some(entry) = (ctx.shard.keyspace)
        .get(ctx.db, ctx.key(name))
        .filter(|entry| entry.kind() == Type::List)
    else {
        return false;
    };
    let needle = Needle::new(value);
    let (mut walked, mut matches) = (0, 0);
    View::new(entry).walk(from, |item| {
        walked += 1;
        matches += usize::from(needle.matches(item));
        matches < count && walked < most
    });
    matches < count
}

/// After elements were removed: the event, and the list packed again or, if it is empty, removed.
pub fn removed(ctx: &mut Ctx<'_>, name: &[u8], event: &'static str) {
    let limit = limit(&ctx.shard.settings);
    let empty = match ctx.write(name) {
        Some(entry) => {
            let mut list = ListMut::new(entry, limit);
            let empty = list.len() == 0;
            if !empty {
                list.shrink();
            }
            empty
        }
        None => false,
    };
    ctx.modified(name, notify::LIST, event);
    if empty {
        ctx.remove(name);
        ctx.modified(name, notify::GENERIC, "del");
    }
}

/// What Redis says about the one integer that cannot be negated.
pub fn out_of_symmetric_range() -> CommandError {
    CommandError::fixed(
        "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
    )
}

/// Where a range of indexes, negative ones counting from the end, begins in a list, and how many elements it has.
pub fn resolve_range(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let len = len as i64;
    let from_end = |i: i64| if i < 0 { (len + i).max(-1) } else { i };
    let (start, stop) = (from_end(start).max(0), from_end(stop).min(len - 1));
    if start > stop || start >= len {
        return (0, 0);
    }
    (start as usize, (stop - start + 1) as usize)
}
