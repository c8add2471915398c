//! Patterns of BY and GET: `weight_*` names a string by the element in the star's place, `object_*->field` a hash's field, and `#` is the
//! element itself.

use crate::commands::hash::value::View;
use crate::keyspace::EntryRef;
use crate::object::Type;
use crate::shard::Shard;
use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern<'a> {
    /// `#`
    Element,
    /// Without a star: names nothing.
    Nothing,
    Key {
        prefix: &'a [u8],
        postfix: &'a [u8],
        field: Option<&'a [u8]>,
    },
}

impl<'a> Pattern<'a> {
    pub fn new(text: &'a [u8]) -> Self {
        if text == b"#" {
            return Self::Element;
        }
        let Some(star) = text.iter().position(|b| *b == b'*') else {
            return Self::Nothing;
        };
        let (prefix, after) = (&text[..star], &text[star + 1..]);
        // An arrow with nothing behind it is a part of the key.
        let arrow = after.windows(2).position(|pair| pair == b"->");
        match arrow {
            Some(at) if at + 2 < after.len() => Self::Key {
                prefix,
                postfix: &after[..at],
                field: Some(&after[at + 2..]),
            },
            _ => Self::Key {
                prefix,
                postfix: after,
                field: None,
            },
        }
    }

    /// The key of an element, in place of what `to` held. False if there is none.
    pub fn key(&self, element: &[u8], to: &mut Vec<u8>) -> bool {
        let Self::Key {
            prefix, postfix, ..
        } = self
        else {
            return false;
        };
        to.clear();
        for part in [prefix, element, postfix] {
            to.extend_from_slice(part);
        }
        true
    }

    /// What the pattern says of an element. `key` is room to write its key into.
    pub fn value<'s>(
        &self,
        shard: &'s mut Shard,
        db: usize,
        element: &'s [u8],
        key: &mut Vec<u8>,
    ) -> Option<Cow<'s, [u8]>> {
        if *self == Self::Element {
            return Some(Cow::Borrowed(element));
        }
        if !self.key(element, key) {
            return None;
        }
        let now_ms = shard.due_ms();
        let key = shard.key(key);
        let entry = shard.read(db, key)?;
        match self {
            Self::Key {
                field: Some(field), ..
            } if entry.kind() == Type::Hash => hash_field(entry, field, now_ms),
            Self::Key { field: None, .. } if entry.kind() == Type::String => {
                Some(Cow::Borrowed(entry.bytes()))
            }
            _ => None,
        }
    }
}

fn hash_field<'a>(entry: EntryRef<'a>, field: &[u8], now_ms: i64) -> Option<Cow<'a, [u8]>> {
    Some(View::of(entry, now_ms).get(field)?.to_cow())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_taken_apart() {
        let key = |prefix: &'static str, postfix: &'static str, field: Option<&'static str>| {
            Pattern::Key {
                prefix: prefix.as_bytes(),
                postfix: postfix.as_bytes(),
                field: field.map(str::as_bytes),
            }
        };
        for (text, expected) in [
            ("#", Pattern::Element),
            ("", Pattern::Nothing),
            ("nosort", Pattern::Nothing),
            ("h->f", Pattern::Nothing),
            ("w_*", key("w_", "", None)),
            ("*", key("", "", None)),
            ("a*b*", key("a", "b*", None)),
            ("h_*->f", key("h_", "", Some("f"))),
            ("h_*_x->f->g", key("h_", "_x", Some("f->g"))),
            ("h_*->", key("h_", "->", None)),
            ("h->f*", key("h->f", "", None)),
        ] {
            assert_eq!(Pattern::new(text.as_bytes()), expected, "{text}");
        }
    }
}
