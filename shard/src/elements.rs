//! A value taken apart, whatever its encoding: for those who compare values (DEBUG DIGEST).

use crate::collections::quicklist::End;
use crate::collections::stream::StreamId;
use crate::collections::timed_listpack;
use crate::commands::hash::value::{Body, View as HashView};
use crate::commands::list::value::View as ListView;
use crate::commands::set::members::SetView;
use crate::commands::zset::view::View as SortedSetView;
use crate::keyspace::EntryRef;
use crate::object::{Object, Type};
use std::ops::ControlFlow;

/// A part of a value. Those of lists, sorted sets and streams come in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Element<'a> {
    /// A string, a list's element, a set's member.
    One(&'a [u8]),
    Field {
        name: &'a [u8],
        value: &'a [u8],
        expires: bool,
    },
    Scored(&'a [u8], f64),
    /// A stream's entry begins; its fields follow, none of which expires.
    Id(StreamId),
}

/// How many elements a value has; a string counts as one.
pub fn count(entry: EntryRef<'_>) -> usize {
    match entry.kind() {
        Type::String => 1,
        Type::List => ListView::new(entry).len(),
        Type::Set => SetView::of(entry).len(),
        Type::ZSet => SortedSetView::of(entry).len(),
        Type::Hash => HashView::of(entry, i64::MIN).len(),
        Type::Stream => match entry.object() {
            Object::Stream(stream) => usize::try_from(stream.len()).unwrap_or(usize::MAX),
            _ => 0,
        },
    }
}

/// Calls `f` with every part of a value, also with fields whose time is over and which are still there.
pub fn each(entry: EntryRef<'_>, mut f: impl FnMut(Element<'_>)) {
    match entry.kind() {
        Type::String => f(Element::One(entry.bytes())),
        Type::List => ListView::new(entry).walk(End::Front, |item| {
            item.with_text(|text| f(Element::One(text)));
            true
        }),
        Type::Set => {
            let _ = SetView::of(entry).each(|item| {
                item.with_text(|text| f(Element::One(text)));
                ControlFlow::Continue(())
            });
        }
        Type::ZSet => SortedSetView::of(entry).each(|score, member| {
            f(Element::Scored(member, score));
            ControlFlow::Continue(())
        }),
        Type::Hash => each_field(entry, f),
        Type::Stream => {
            let Object::Stream(stream) = entry.object() else {
                unreachable!("a stream holds {:?}", entry.object());
            };
            for entry in stream.range(StreamId::MIN, StreamId::MAX, false) {
                f(Element::Id(entry.id));
                entry.each(|name, value| {
                    let mut field = |name: &[u8], value: &[u8]| {
                        f(Element::Field {
                            name,
                            value,
                            expires: false,
                        });
                    };
                    name.with_text(|name| value.with_text(|value| field(name, value)));
                });
            }
        }
    }
}

fn each_field(entry: EntryRef<'_>, mut f: impl FnMut(Element<'_>)) {
    // Nothing is over at the beginning of time.
    let view = HashView::of(entry, i64::MIN);
    match view.body {
        Body::Timed(lp, from) => {
            for field in timed_listpack::iter_from(lp, from) {
                let expires = field.expire_at.is_some();
                field.field.with_text(|name| {
                    field.value.with_text(|value| {
                        f(Element::Field {
                            name,
                            value,
                            expires,
                        });
                    });
                });
            }
        }
        Body::Table(table) => table.each(|field| {
            f(Element::Field {
                name: field.key,
                value: field.value,
                expires: field.expire_at.is_some(),
            });
        }),
        Body::Packed(_) => view.each(|name, value| {
            name.with_text(|name| {
                value.with_text(|value| {
                    f(Element::Field {
                        name,
                        value,
                        expires: false,
                    });
                });
            });
        }),
    }
}
