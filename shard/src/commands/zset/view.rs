//! A sorted set for reading, whatever its encoding: packed as (member, score) pairs in order, or an object.

use crate::collections::listpack::{self, Item};
use crate::collections::ranked_tree::Bound;
use crate::collections::sorted_set::SortedSet;
use crate::keyspace::EntryRef;
use crate::object::{Object, Type};
use crate::shard::Shard;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number;

use std::ops::ControlFlow;

use super::bounds::{Edge, LexRange, Range, ScoreRange};

/// A key's sorted set is never empty.
#[allow(clippy::len_without_is_empty)]
#[derive(Clone, Copy)]
pub enum View<'a> {
    Packed(&'a [u8]),
    Large(&'a SortedSet),
}

/// A packed score's value.
fn packed_score(item: Item<'_>) -> f64 {
    match item {
        Item::Int(n) => n as f64,
        // Only texts of numbers are ever stored.
        Item::Bytes(text) => number::parse_f64(text).unwrap_or_default(),
    }
}

/// The score of the member at `at`.
#[inline]
pub(super) fn packed_score_after(lp: &[u8], at: usize) -> f64 {
    listpack::next(lp, at).map_or(0.0, |at| packed_score(listpack::get(lp, at)))
}

/// The pairs of a packed sorted set, with the position of the member.
pub(super) fn packed_pairs(lp: &[u8]) -> impl Iterator<Item = (usize, Item<'_>, f64)> {
    let mut items = listpack::iter(lp);
    std::iter::from_fn(move || {
        let (at, member) = items.next()?;
        let (_, score) = items.next()?;
        Some((at, member, packed_score(score)))
    })
}

#[allow(clippy::len_without_is_empty)]
impl<'a> View<'a> {
    pub fn of(entry: EntryRef<'a>) -> Self {
        if !entry.is_object() {
            return Self::Packed(entry.bytes());
        }
        match entry.object() {
            Object::SortedSet(set) => Self::Large(set),
            #[allow(unreachable_patterns)]
            _ => unreachable!("a sorted set's object is a SortedSet"),
        }
    }
    /// The sorted set of a key, if there is one; an error for another type.
    #[inline]
    pub fn read(shard: &'a mut Shard, db: usize, key: &[u8]) -> Result<Option<Self>, CommandError> {
        let key = shard.key(key);
        Self::read_key(shard, db, key)
    }
    #[inline]
    pub fn read_key(
        shard: &'a mut Shard,
        db: usize,
        key: crate::keyspace::Key<'_>,
    ) -> Result<Option<Self>, CommandError> {
        match shard.read(db, key) {
            Some(entry) if entry.kind() == Type::ZSet => Ok(Some(Self::of(entry))),
            Some(_) => Err(CommandError::WrongType),
            None => Ok(None),
        }
    }

    #[inline]
    pub fn len(self) -> usize {
        match self {
            Self::Packed(lp) => listpack::len(lp) / 2,
            Self::Large(set) => set.len(),
        }
    }
    #[inline]
    pub fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Self::Packed(lp) => {
                let at = listpack::find(lp, listpack::HEADER, member, 1)?;
                Some(packed_score_after(lp, at))
            }
            Self::Large(set) => set.score(member),
        }
    }
    /// Rank and score of a member.
    pub fn rank(self, member: &[u8]) -> Option<(usize, f64)> {
        match self {
            Self::Packed(lp) => {
                let needle = listpack::Needle::new(member);
                packed_pairs(lp)
                    .enumerate()
                    .find(|(_, (_, item, _))| needle.matches(*item))
                    .map(|(rank, (_, _, score))| (rank, score))
            }
            Self::Large(set) => {
                let score = set.score(member)?;
                Some((set.rank(score, member), score))
            }
        }
    }
    /// Calls `f` with the pairs of ranks `from` to before `to`, from the last to the first if `rev` is set.
    #[inline]
    pub fn visit(self, from: usize, to: usize, rev: bool, mut f: impl FnMut(f64, &[u8])) {
        match self {
            Self::Packed(lp) => {
                let to = to.min(self.len());
                if from >= to {
                    return;
                }
                let start = if rev { to - 1 } else { from };
                let mut at = listpack::nth(lp, 2 * start as i64);
                for _ in from..to {
                    let Some(here) = at else { return };
                    let score = packed_score_after(lp, here);
                    listpack::get(lp, here).with_text(|text| f(score, text));
                    at = if rev {
                        listpack::prev(lp, here).and_then(|at| listpack::prev(lp, at))
                    } else {
                        listpack::next(lp, here).and_then(|at| listpack::next(lp, at))
                    };
                }
            }
            Self::Large(set) if rev => set.tree().visit_back(from, to, f),
            Self::Large(set) => set.tree().visit(from, to, f),
        }
    }

    /// Calls `f` with all pairs, in order, until it breaks.
    #[inline]
    pub fn each(self, mut f: impl FnMut(f64, &[u8]) -> ControlFlow<()>) {
        match self {
            Self::Packed(lp) => {
                let _ = packed_pairs(lp)
                    .try_for_each(|(_, member, score)| member.with_text(|text| f(score, text)));
            }
            Self::Large(set) => each_of_tree(set, 0, set.len(), f),
        }
    }
    /// Calls `f` with the pairs with scores from `first` to below `end`, in order, until it breaks.
    #[inline]
    pub fn each_of_scores(
        self,
        first: f64,
        end: f64,
        mut f: impl FnMut(f64, &[u8]) -> ControlFlow<()>,
    ) {
        match self {
            Self::Packed(lp) => {
                let _ = packed_pairs(lp)
                    .skip_while(|(_, _, score)| *score < first)
                    .take_while(|(_, _, score)| *score < end)
                    .try_for_each(|(_, member, score)| member.with_text(|text| f(score, text)));
            }
            Self::Large(set) => {
                let place = |score| set.tree().rank(&Bound::Score { score, with: false });
                each_of_tree(set, place(first), place(end), f);
            }
        }
    }

    /// The ranks of a range, the first and one behind the last. `rev`: how it will be walked, which matters only for ranges of
    /// members where scores differ: there each encoding and direction finds what Redis's walk would.
    pub fn ranks(self, range: &Range<'_>, rev: bool) -> (usize, usize) {
        let (from, to) = match range {
            Range::Rank(first, last) => return rank_window(*first, *last, self.len(), rev),
            Range::Score(range) if range.is_empty() => (0, 0),
            Range::Score(range) => self.score_ranks(range),
            Range::Lex(range) if range.is_empty() => (0, 0),
            Range::Lex(range) => match self {
                Self::Packed(lp) => packed_lex_ranks(lp, range, rev),
                Self::Large(set) => {
                    let place = |edge: Edge<'_>, last: bool| match edge {
                        Edge::Least => 0,
                        Edge::Greatest => set.len(),
                        Edge::Member(member, excluded) => set.tree().rank(&Bound::Member {
                            member,
                            with: excluded != last,
                        }),
                    };
                    (place(range.min, false), place(range.max, true))
                }
            },
        };
        (from, to.max(from))
    }
    fn score_ranks(self, range: &ScoreRange) -> (usize, usize) {
        match self {
            Self::Packed(lp) => {
                let (mut from, mut to) = (0, 0);
                for (_, _, score) in packed_pairs(lp) {
                    if !range.over_min(score) {
                        from += 1;
                    }
                    if !range.under_max(score) {
                        break;
                    }
                    to += 1;
                }
                (from, to)
            }
            Self::Large(set) => {
                let place = |score, with| set.tree().rank(&Bound::Score { score, with });
                (
                    if range.min == f64::NEG_INFINITY && !range.min_excluded {
                        0
                    } else {
                        place(range.min, range.min_excluded)
                    },
                    if range.max == f64::INFINITY && !range.max_excluded {
                        set.len()
                    } else {
                        place(range.max, !range.max_excluded)
                    },
                )
            }
        }
    }
}

/// Pairs of ranks `from` to before `to`, in pieces, so that who breaks early does not walk over everything.
#[inline]
fn each_of_tree(
    set: &SortedSet,
    from: usize,
    to: usize,
    mut f: impl FnMut(f64, &[u8]) -> ControlFlow<()>,
) {
    const PIECE: usize = 256;
    let mut flow = ControlFlow::Continue(());
    let mut from = from;
    while from < to && flow.is_continue() {
        let next = (from + PIECE).min(to);
        set.tree().visit(from, next, |score, member| {
            if flow.is_continue() {
                flow = f(score, member);
            }
        });
        from = next;
    }
}

/// First and last rank, negative ones counted from the end, as a window that lies within `len`.
pub(super) fn rank_window(first: i64, last: i64, len: usize, rev: bool) -> (usize, usize) {
    let len = len as i64;
    let first = if first < 0 {
        first.saturating_add(len).max(0)
    } else {
        first
    };
    let last = if last < 0 {
        last.saturating_add(len)
    } else {
        last.min(len - 1)
    };
    if first > last || first >= len {
        return (0, 0);
    }
    let (from, to) = (first as usize, last as usize + 1);
    if rev {
        (len as usize - to, len as usize - from)
    } else {
        (from, to)
    }
}

/// As Redis walks: from the end at which it begins to the first member in the range, then on while they are in it.
fn packed_lex_ranks(lp: &[u8], range: &LexRange<'_>, rev: bool) -> (usize, usize) {
    let members: Vec<_> = packed_pairs(lp).map(|(_, m, _)| m.to_cow()).collect();
    let (Some(first), Some(last)) = (members.first(), members.last()) else {
        return (0, 0);
    };
    if !range.over_min(last) || !range.under_max(first) {
        return (0, 0);
    }
    if rev {
        let to = members
            .iter()
            .rposition(|m| range.under_max(m))
            .map_or(0, |at| at + 1);
        let inside = members[..to].iter().rev();
        (to - inside.take_while(|m| range.over_min(m)).count(), to)
    } else {
        let from = members.iter().position(|m| range.over_min(m));
        let from = from.unwrap_or(members.len());
        let inside = members[from..].iter();
        (
            from,
            from + inside.take_while(|m| range.under_max(m)).count(),
        )
    }
}
