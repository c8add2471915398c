//! Checks of packed collections from outside, beyond their being well-formed.

use super::{Error, Result};
use crate::collections::listpack::{self, Item};
use crate::keyspace::KeyHasher;

/// Checks a listpack of groups of `group` elements, whose first ones differ. Returns how many groups there are, at least one.
pub fn check(lp: &[u8], group: usize, hasher: &KeyHasher) -> Result<usize> {
    if !listpack::validate(lp) {
        return Err(Error::Corrupt("a broken listpack"));
    }
    let count = listpack::len(lp);
    if count == 0 {
        return Err(Error::Empty);
    }
    if !count.is_multiple_of(group) {
        return Err(Error::Corrupt("a listpack with a part of an entry"));
    }
    let firsts = listpack::iter(lp).step_by(group).map(|(_, item)| item);
    if !distinct(firsts, count / group, hasher) {
        return Err(Error::Corrupt("listpack with dup elements"));
    }
    Ok(count / group)
}

/// Whether no two of the items have the same text.
fn distinct<'a>(items: impl Iterator<Item = Item<'a>>, count: usize, hasher: &KeyHasher) -> bool {
    // Comparing each with each is the fastest for a few, hashes for more.
    const FEW: usize = 8;
    if count <= FEW {
        let mut seen = [Item::Int(0); FEW];
        for (n, item) in items.enumerate() {
            if seen[..n].iter().any(|&other| same(other, item)) {
                return false;
            }
            seen[n] = item;
        }
        return true;
    }
    let mut hashed: Vec<_> = items
        .map(|item| (item.with_text(|text| hasher.hash(text)), item))
        .collect();
    hashed.sort_unstable_by_key(|&(hash, _)| hash);
    // Different texts share a hash by chance once in 2^64 pairs: comparing the whole group costs nothing.
    hashed.chunk_by(|a, b| a.0 == b.0).all(|group| {
        let pairs = group.iter().enumerate();
        pairs.fold(true, |distinct, (n, (_, item))| {
            distinct && group[..n].iter().all(|&(_, other)| !same(other, *item))
        })
    })
}

fn same(a: Item<'_>, b: Item<'_>) -> bool {
    match (a, b) {
        (Item::Int(a), Item::Int(b)) => a == b,
        (Item::Bytes(a), Item::Bytes(b)) => a == b,
        // A text of a number that is not stored as one.
        (Item::Int(n), Item::Bytes(text)) | (Item::Bytes(text), Item::Int(n)) => {
            Item::Int(n).equals(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed<'a>(items: impl IntoIterator<Item = Item<'a>>) -> Vec<u8> {
        let mut lp = listpack::EMPTY.to_vec();
        let end = listpack::end(&lp);
        listpack::insert_all(&mut lp, end, items);
        lp
    }

    #[test]
    fn groups_and_duplicates() {
        let hasher = KeyHasher::new(1);
        let twice = Err(Error::Corrupt("listpack with dup elements"));
        for count in [3, 8, 9, 40, 300] {
            let numbers = || (0..count).map(Item::Int);
            assert_eq!(check(&packed(numbers()), 1, &hasher), Ok(count as usize));
            for again in [0, 1, count - 1] {
                let lp = packed(numbers().chain([Item::Int(again)]));
                assert_eq!(check(&lp, 1, &hasher), twice);
            }
            // Values may repeat.
            let pairs = packed(numbers().flat_map(|n| [n, Item::Bytes(b"v")]));
            assert_eq!(check(&pairs, 2, &hasher), Ok(count as usize));
        }
        assert_eq!(check(listpack::EMPTY, 1, &hasher), Err(Error::Empty));
        assert!(check(&packed((0..3).map(Item::Int)), 2, &hasher).is_err());
        assert!(check(b"", 1, &hasher).is_err());
        // The text "12" stored as a string, beside the number.
        let odd = [13, 0, 0, 0, 2, 0, 12, 1, 0x82, b'1', b'2', 3, 0xff];
        assert_eq!(check(&odd, 1, &hasher), twice);
    }
}
