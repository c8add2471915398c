//! A set's members in whichever encoding, for reading ([`SetView`]) and for change ([`Home`]): the rules by which a set goes from intset
//! or listpack to hashtable are here, and only here.

use crate::collections::listpack::{self, HEADER, Item, Splice};
use crate::collections::{intset, packed_table};
use crate::ctx::Ctx;
use crate::keyspace::entry::{Parts, Value};
use crate::keyspace::{EntryMut, EntryRef, KeyHasher};
use crate::object::{Body, Encoding, Object, Type};
use crate::shard::Settings;
use ringwood_protocol::number::parse_i64;
use std::ops::ControlFlow;

/// A set's large form.
pub type MemberTable = packed_table::PackedTable<packed_table::Members>;

/// A set to look at.
#[derive(Clone, Copy)]
pub enum SetView<'a> {
    Intset(&'a [u8]),
    Listpack(&'a [u8]),
    Table(&'a MemberTable),
}

#[allow(unreachable_patterns)]
fn table_of(object: &Object) -> &MemberTable {
    match object {
        Object::Set(table) => table,
        _ => unreachable!("a set's object is a table"),
    }
}

impl<'a> SetView<'a> {
    /// Of an entry of type set.
    #[inline]
    pub fn of(entry: EntryRef<'a>) -> Self {
        match entry.encoding() {
            Encoding::Intset => Self::Intset(entry.bytes()),
            Encoding::Listpack => Self::Listpack(entry.bytes()),
            _ => Self::Table(table_of(entry.object())),
        }
    }
    #[inline]
    pub fn len(self) -> usize {
        match self {
            Self::Intset(b) => intset::len(b),
            Self::Listpack(b) => listpack::len(b),
            Self::Table(t) => t.len(),
        }
    }
    #[inline]
    pub fn has(self, text: &[u8]) -> bool {
        match self {
            Self::Intset(b) => parse_i64(text).is_some_and(|n| intset::contains(b, n)),
            Self::Listpack(b) => listpack::find(b, HEADER, text, 0).is_some(),
            Self::Table(t) => t.contains(text),
        }
    }
    #[inline]
    pub fn contains(self, member: Item<'_>) -> bool {
        match (self, member) {
            (Self::Intset(b), Item::Int(n)) => intset::contains(b, n),
            _ => member.with_text(|text| self.has(text)),
        }
    }
    /// Calls `f` with each member until it breaks.
    #[inline]
    pub fn each(self, mut f: impl FnMut(Item<'a>) -> ControlFlow<()>) -> ControlFlow<()> {
        match self {
            Self::Intset(b) => intset::iter(b).try_for_each(|n| f(Item::Int(n))),
            Self::Listpack(b) => listpack::iter(b).try_for_each(|(_, item)| f(item)),
            Self::Table(t) => t.iter().try_for_each(|entry| f(Item::Bytes(entry.key))),
        }
    }
    #[inline]
    pub fn all(self, mut f: impl FnMut(Item<'a>)) {
        let _ = self.each(|item| {
            f(item);
            ControlFlow::Continue(())
        });
    }
    /// A member by chance. `None` only of an empty set.
    pub fn random(self, below: &mut impl FnMut(usize) -> usize) -> Option<Item<'a>> {
        match self {
            Self::Intset(b) => match intset::len(b) {
                0 => None,
                n => Some(Item::Int(intset::get(b, below(n)))),
            },
            Self::Listpack(b) => match listpack::len(b) {
                0 => None,
                n => Some(listpack::get(b, listpack::nth(b, below(n) as i64)?)),
            },
            Self::Table(t) => {
                let entry = t.random(|| below(usize::MAX) as u64)?;
                Some(Item::Bytes(entry.key))
            }
        }
    }
}

impl Body for MemberTable {
    fn memory(&self) -> usize {
        self.memory()
    }
    fn free_effort(&self) -> usize {
        self.free_effort()
    }
    fn free_some(&mut self, budget: usize) -> usize {
        self.free_some(budget)
    }
    fn duplicate(&self) -> Self {
        self.duplicate()
    }
}

/// The thresholds, and what a table needs.
#[derive(Clone)]
pub struct Rules {
    intset_max: usize,
    listpack_max: usize,
    value_max: usize,
    hasher: KeyHasher,
}

impl Rules {
    pub fn of(ctx: &Ctx<'_>) -> Self {
        Self::new(&ctx.shard.settings, ctx.shard.keyspace.hasher().clone())
    }
    pub fn new(s: &Settings, hasher: KeyHasher) -> Self {
        Self {
            intset_max: s.set_intset_entries_max.min(1 << 30),
            listpack_max: s.set_listpack_entries_max,
            value_max: s.set_listpack_value_max,
            hasher,
        }
    }
}

/// Where a set lives while it changes: in its entry, or by itself ([`Owned`]).
pub trait Home: Splice {
    fn encoding(&self) -> Encoding;
    fn view(&self) -> SetView<'_>;
    fn table(&mut self) -> &mut MemberTable;
    fn put_bytes(&mut self, encoding: Encoding, bytes: Vec<u8>);
    fn put_table(&mut self, table: MemberTable);
}

impl Home for EntryMut<'_> {
    fn encoding(&self) -> Encoding {
        EntryMut::encoding(self)
    }
    fn view(&self) -> SetView<'_> {
        SetView::of(self.get())
    }
    #[allow(unreachable_patterns)]
    fn table(&mut self) -> &mut MemberTable {
        match self.object_mut() {
            Object::Set(table) => table,
            _ => unreachable!("a set's object is a table"),
        }
    }
    fn put_bytes(&mut self, encoding: Encoding, bytes: Vec<u8>) {
        self.set_vector(Type::Set, encoding, bytes);
    }
    fn put_table(&mut self, table: MemberTable) {
        self.set_object(Type::Set, Encoding::Hashtable, Box::new(Object::Set(table)));
    }
}

/// A set that no key has yet.
pub enum Owned {
    Packed(Encoding, Vec<u8>),
    Table(Box<MemberTable>),
}

impl Splice for Owned {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Packed(_, bytes) => bytes,
            Self::Table(_) => unreachable!("a table has no bytes"),
        }
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Packed(_, bytes) => bytes,
            Self::Table(_) => unreachable!("a table has no bytes"),
        }
    }
    fn splice(&mut self, at: usize, delete: usize, insert: &[u8]) {
        match self {
            Self::Packed(_, bytes) => Splice::splice(bytes, at, delete, insert),
            Self::Table(_) => unreachable!("a table has no bytes"),
        }
    }
}

impl Home for Owned {
    fn encoding(&self) -> Encoding {
        match self {
            Self::Packed(encoding, _) => *encoding,
            Self::Table(_) => Encoding::Hashtable,
        }
    }
    fn view(&self) -> SetView<'_> {
        match self {
            Self::Packed(Encoding::Intset, bytes) => SetView::Intset(bytes),
            Self::Packed(_, bytes) => SetView::Listpack(bytes),
            Self::Table(table) => SetView::Table(table),
        }
    }
    fn table(&mut self) -> &mut MemberTable {
        match self {
            Self::Table(table) => table,
            Self::Packed(..) => unreachable!("asked for after a look at the encoding"),
        }
    }
    fn put_bytes(&mut self, encoding: Encoding, bytes: Vec<u8>) {
        *self = Self::Packed(encoding, bytes);
    }
    fn put_table(&mut self, table: MemberTable) {
        *self = Self::Table(Box::new(table));
    }
}

impl Owned {
    pub fn intset() -> Self {
        Self::Packed(Encoding::Intset, intset::EMPTY.to_vec())
    }
    pub fn listpack() -> Self {
        Self::Packed(Encoding::Listpack, listpack::EMPTY.to_vec())
    }
    /// As a set begins whose first of `count` members is `first`.
    pub fn begin(first: &[u8], count: usize, rules: &Rules) -> Self {
        if count <= rules.intset_max && parse_i64(first).is_some() {
            Self::intset()
        } else if count <= rules.listpack_max {
            Self::listpack()
        } else {
            Self::Table(Box::new(MemberTable::new(rules.hasher.clone())))
        }
    }
    /// An intset, if all members are integers and few enough.
    pub fn intset_if_fits(self, rules: &Rules) -> Self {
        let view = self.view();
        if matches!(view, SetView::Intset(_)) || view.len() > rules.intset_max {
            return self;
        }
        let mut numbers = Vec::with_capacity(view.len());
        let ints = view.each(|item| match item.as_int() {
            Some(n) => {
                numbers.push(n);
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        });
        if ints.is_break() {
            return self;
        }
        numbers.sort_unstable();
        Self::Packed(Encoding::Intset, intset::from_sorted(&numbers))
    }
    pub fn into_value(self) -> Value {
        match self {
            Self::Packed(_, bytes) => Value::Bytes(bytes),
            Self::Table(table) => Value::Object(Box::new(Object::Set(*table))),
        }
    }
    /// As the value of `key`, which is made or replaced and loses its expiry.
    pub fn store(self, ctx: &mut Ctx<'_>, key: &[u8]) {
        let (encoding, value) = (self.encoding(), self.into_value());
        if let Some(mut entry) = ctx.write(key) {
            let before = entry.kind();
            match value {
                Value::Bytes(bytes) => entry.set_vector(Type::Set, encoding, bytes),
                Value::Object(object) => entry.set_object(Type::Set, encoding, object),
            }
            entry.set_expire_at(None);
            ctx.shard.overwritten(ctx.db, key, before, Type::Set);
            return;
        }
        let parts = Parts {
            kind: Type::Set,
            encoding,
            access: ctx.shard.access_new(),
            expire_at: None,
            value,
        };
        let key = ctx.key(key);
        ctx.shard.insert(ctx.db, key, parts);
    }
}

fn to_table(home: &mut impl Home, rules: &Rules) {
    let mut table = MemberTable::new(rules.hasher.clone());
    home.view().all(|item| {
        item.with_text(|text| table.add(text));
    });
    home.put_table(table);
}

/// Before `count` members are added: a set that may not hold them as it is becomes a table at once.
pub fn expect(home: &mut impl Home, count: usize, rules: &Rules) {
    let max = match home.encoding() {
        Encoding::Intset => rules.intset_max,
        Encoding::Listpack => rules.listpack_max,
        _ => return,
    };
    if count > max {
        to_table(home, rules);
    }
}

/// Adds a member. False when it was there.
#[inline]
pub fn add(home: &mut impl Home, text: &[u8], rules: &Rules) -> bool {
    match home.encoding() {
        Encoding::Intset => match parse_i64(text) {
            Some(n) => {
                let added = intset::add(home, n);
                if added && intset::len(home.bytes()) > rules.intset_max {
                    to_table(home, rules);
                }
                added
            }
            None => {
                add_text_to_intset(home, text, rules);
                true
            }
        },
        Encoding::Listpack => {
            let lp = home.bytes();
            if listpack::find(lp, HEADER, text, 0).is_some() {
                return false;
            }
            let members = listpack::len(lp);
            if members < rules.listpack_max
                && text.len() <= rules.value_max
                && listpack::has_room(lp, text.len() + 16)
            {
                listpack::push_back(home, text);
            } else {
                to_table(home, rules);
                home.table().add(text);
            }
            true
        }
        _ => home.table().add(text),
    }
}

fn add_text_to_intset(home: &mut impl Home, text: &[u8], rules: &Rules) {
    let bytes = home.bytes();
    let members = intset::len(bytes);
    let longest =
        intset::ends(bytes).map_or(0, |(a, b)| Item::Int(a).len().max(Item::Int(b).len()));
    if members < rules.listpack_max && text.len().max(longest) <= rules.value_max {
        let mut lp = listpack::EMPTY.to_vec();
        let end = listpack::end(&lp);
        listpack::insert_all(&mut lp, end, intset::iter(bytes).map(Item::Int));
        listpack::push_back(&mut lp, text);
        home.put_bytes(Encoding::Listpack, lp);
    } else {
        to_table(home, rules);
        home.table().add(text);
    }
}

/// Removes a member. False when it was not there. The set may be empty then.
#[inline]
pub fn remove(home: &mut impl Home, text: &[u8]) -> bool {
    match home.encoding() {
        Encoding::Intset => parse_i64(text).is_some_and(|n| intset::remove(home, n)),
        Encoding::Listpack => match listpack::find(home.bytes(), HEADER, text, 0) {
            Some(at) => {
                listpack::delete(home, at, 1);
                true
            }
            None => false,
        },
        _ => home.table().remove(text),
    }
}
