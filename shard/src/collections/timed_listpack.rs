//! A small hash some of whose fields expire: a listpack of triples, field, value and time, as in Redis's `listpackex`, so that
//! DUMP and RDB are a copy.
//!
//! The time is in wall-clock milliseconds, or 0 for a field that does not expire. The triples lie in the order of their times, those
//! without one last: the first says when there is something to do, and what has expired is a prefix.
//!
//! Positions are those of the field in its triple.

use super::listpack::{self, HEADER, Item, Splice};

/// A listpack of fields and values with room for times.
pub fn from_pairs(pairs: &[u8]) -> Vec<u8> {
    let count = listpack::len(pairs) / 2;
    let mut lp = Vec::with_capacity(pairs.len() + 2 * count);
    lp.extend_from_slice(listpack::EMPTY);
    let items = listpack::iter(pairs).enumerate();
    let end = listpack::end;
    let triples = items.flat_map(|(i, (_, item))| {
        let time = (i % 2 == 1).then_some(Item::Int(0));
        [Some(item), time].into_iter().flatten()
    });
    let at = end(&lp);
    listpack::insert_all(&mut lp, at, triples);
    lp
}

pub fn len(lp: &[u8]) -> usize {
    listpack::len(lp) / 3
}

/// A field with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Triple<'a> {
    pub at: usize,
    pub field: Item<'a>,
    pub value: Item<'a>,
    pub expire_at: Option<i64>,
}

/// The fields from the one at `from` on.
pub fn iter_from(lp: &[u8], from: usize) -> impl Iterator<Item = Triple<'_>> {
    let mut items = listpack::iter_from(lp, from);
    std::iter::from_fn(move || {
        let (at, field) = items.next()?;
        let (_, value) = items.next()?;
        let (_, time) = items.next()?;
        let expire_at = time.as_int().filter(|&time| time != 0);
        Some(Triple {
            at,
            field,
            value,
            expire_at,
        })
    })
}

/// The field at `at`.
pub fn get(lp: &[u8], at: usize) -> Option<Triple<'_>> {
    iter_from(lp, at).next()
}

/// When the first field expires.
pub fn earliest(lp: &[u8]) -> Option<i64> {
    get(lp, HEADER)?.expire_at
}

/// The position of the first field that has not expired, or the end.
pub fn live_from(lp: &[u8], now_ms: i64) -> usize {
    iter_from(lp, HEADER)
        .find(|triple| triple.expire_at.is_none_or(|at| at > now_ms))
        .map_or(listpack::end(lp), |triple| triple.at)
}

#[inline]
pub fn find(lp: &[u8], from: usize, field: &[u8]) -> Option<usize> {
    listpack::find(lp, from, field, 2)
}

/// Where a field with this time belongs: before all that do not expire sooner.
fn place(lp: &[u8], expire_at: Option<i64>) -> usize {
    let end = listpack::end(lp);
    let Some(time) = expire_at else { return end };
    iter_from(lp, HEADER)
        .find(|triple| triple.expire_at.is_none_or(|at| at >= time))
        .map_or(end, |triple| triple.at)
}

/// Adds a field that is not there.
pub fn insert(b: &mut impl Splice, field: Item<'_>, value: Item<'_>, expire_at: Option<i64>) {
    let at = place(b.bytes(), expire_at);
    let time = Item::Int(expire_at.unwrap_or(0));
    listpack::insert_group(b, at, [field, value, time]);
}

/// Replaces the value of the field at `at`.
pub fn set_value(b: &mut impl Splice, at: usize, value: &[u8]) {
    if let Some(at) = listpack::next(b.bytes(), at) {
        listpack::replace(b, at, value);
    }
}

/// Gives the field at `at` another time, and moves it to where it then belongs.
pub fn set_expiry(b: &mut impl Splice, at: usize, expire_at: Option<i64>) {
    let lp = b.bytes();
    let time = listpack::next(lp, at).and_then(|at| listpack::next(lp, at));
    let Some(time_at) = time else { return };
    listpack::replace(b, time_at, expire_at.unwrap_or(0));
    let lp = b.bytes();
    let after = listpack::next(lp, time_at).unwrap_or(listpack::end(lp));
    let end = listpack::end(lp);
    let to = expire_at.map_or(end, |time| {
        iter_from(lp, HEADER)
            .find(|other| other.at != at && other.expire_at.is_none_or(|at| at >= time))
            .map_or(end, |other| other.at)
    });
    // An element means the same wherever it lies.
    let len = after - at;
    if to < at {
        b.bytes_mut()[to..after].rotate_right(len);
    } else if to > after {
        b.bytes_mut()[at..to].rotate_left(len);
    }
}

pub fn remove(b: &mut impl Splice, at: usize) {
    listpack::delete(b, at, 3);
}

/// Removes up to `most` fields that have expired, the first first; `gone` hears of each. Returns how many.
pub fn expire(
    b: &mut impl Splice,
    now_ms: i64,
    most: usize,
    mut gone: impl FnMut(Item<'_>),
) -> usize {
    let count = iter_from(b.bytes(), HEADER)
        .take(most)
        .take_while(|triple| triple.expire_at.is_some_and(|at| at <= now_ms))
        .map(|triple| gone(triple.field))
        .count();
    if count > 0 {
        listpack::delete(b, HEADER, 3 * count);
    }
    count
}

/// True for a well-formed listpack of triples in their order.
pub fn validate(lp: &[u8]) -> bool {
    let is_time = |(_, item): (usize, Item<'_>)| matches!(item, Item::Int(time) if time >= 0);
    listpack::validate(lp)
        && listpack::len(lp).is_multiple_of(3)
        && listpack::iter(lp).skip(2).step_by(3).all(is_time)
        && iter_from(lp, HEADER).is_sorted_by_key(|triple| triple.expire_at.unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn fields(lp: &[u8]) -> String {
        let names: Vec<String> = iter_from(lp, HEADER)
            .map(|t| String::from_utf8(t.field.to_vec()).unwrap())
            .collect();
        names.join(" ")
    }

    #[test]
    fn fields_lie_in_the_order_of_their_times() {
        let mut pairs = listpack::EMPTY.to_vec();
        for word in [b"a", b"1", b"b", b"2", b"c", b"3", b"d", b"4"] {
            listpack::push_back(&mut pairs, word);
        }
        let mut lp = from_pairs(&pairs);
        // As a real server orders them.
        for (field, time, order) in [
            (b"a", Some(40), "a b c d"),
            (b"b", Some(40), "b a c d"),
            (b"c", Some(40), "c b a d"),
            (b"d", Some(30), "d c b a"),
            (b"c", None, "d b a c"),
            (b"b", None, "d a c b"),
        ] {
            let at = find(&lp, HEADER, field).unwrap();
            set_expiry(&mut lp, at, time);
            assert_eq!(fields(&lp), order);
            assert!(validate(&lp));
        }
        assert_eq!(earliest(&lp), Some(30));
        assert_eq!(expire(&mut lp, 29, 9, |_| ()), 0);
        assert_eq!(expire(&mut lp, 40, 1, |_| ()), 1);
        assert_eq!(fields(&lp), "a c b");
        assert_eq!(live_from(&lp, 40), find(&lp, HEADER, b"c").unwrap());
        assert_eq!(expire(&mut lp, 40, 9, |_| ()), 1);
        assert_eq!((earliest(&lp), fields(&lp)), (None, "c b".to_string()));
    }

    #[test]
    fn what_is_no_listpack_of_triples_is_refused() {
        let pack = |words: &[&str]| {
            let mut lp = listpack::EMPTY.to_vec();
            words
                .iter()
                .for_each(|word| listpack::push_back(&mut lp, word.as_bytes()));
            lp
        };
        assert!(validate(&pack(&[
            "a", "1", "5", "b", "2", "7", "c", "3", "0"
        ])));
        for words in [
            &["a", "1"][..],
            &["a", "1", "x"],
            &["a", "1", "-5"],
            &["a", "1", "7", "b", "2", "5"],
            &["a", "1", "0", "b", "2", "5"],
        ] {
            assert!(!validate(&pack(words)), "{words:?}");
        }
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_map(steps in prop::collection::vec((0u8..20, 0u8..6, 0i64..30), 1..200)) {
            let mut lp = listpack::EMPTY.to_vec();
            let mut model: BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)> = BTreeMap::new();
            for (n, action, time) in steps {
                let field = if n % 2 == 0 { format!("f{n}") } else { n.to_string() }.into_bytes();
                let value = vec![n; time as usize * 3];
                let expire_at = (time > 10).then_some(time);
                let at = find(&lp, HEADER, &field);
                prop_assert_eq!(at.is_some(), model.contains_key(&field));
                match (action, at) {
                    (0 | 1, None) => {
                        insert(&mut lp, Item::from(&field), Item::from(&value), expire_at);
                        model.insert(field, (value, expire_at));
                    }
                    (0, Some(at)) => {
                        set_value(&mut lp, at, &value);
                        model.get_mut(&field).unwrap().0 = value;
                    }
                    (1 | 2, Some(at)) => {
                        set_expiry(&mut lp, at, expire_at);
                        model.get_mut(&field).unwrap().1 = expire_at;
                    }
                    (3, Some(at)) => {
                        remove(&mut lp, at);
                        model.remove(&field);
                    }
                    (4, _) => {
                        let mut gone = Vec::new();
                        let count = expire(&mut lp, time, 3, |field| gone.push(field.to_vec()));
                        prop_assert_eq!(count, gone.len());
                        let due = model.values().filter(|v| v.1.is_some_and(|at| at <= time)).count();
                        prop_assert_eq!(count, due.min(3));
                        for field in gone {
                            let (_, at) = model.remove(&field).unwrap();
                            prop_assert!(at.is_some_and(|at| at <= time));
                        }
                    }
                    _ => {}
                }
                prop_assert!(validate(&lp));
                prop_assert_eq!(len(&lp), model.len());
                prop_assert_eq!(earliest(&lp), model.values().filter_map(|v| v.1).min());
                let found: BTreeMap<_, _> = iter_from(&lp, HEADER)
                    .map(|t| (t.field.to_vec(), (t.value.to_vec(), t.expire_at)))
                    .collect();
                prop_assert_eq!(&found, &model);
            }
        }
    }
}
