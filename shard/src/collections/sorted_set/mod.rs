//! A large sorted set: the order of its pairs, and an index from members to scores.
//!
//! Invariant: tree and index hold the same pairs, bit for bit.

use super::packed_table::{PackedTable, Scores};
use super::ranked_tree::{Bound, RankedTree};
use crate::keyspace::KeyHasher;
use crate::object::Body;
use std::cmp::Ordering;

#[derive(Debug)]
pub struct SortedSet {
    tree: RankedTree,
    index: PackedTable<Scores>,
}

impl SortedSet {
    /// `hasher` has a secret seed.
    pub fn new(hasher: KeyHasher) -> Self {
        Self {
            tree: RankedTree::default(),
            index: PackedTable::new(hasher),
        }
    }
    /// Of an index that holds all pairs.
    pub fn from_index(index: PackedTable<Scores>) -> Self {
        let mut pairs: Vec<(f64, &[u8])> = Vec::with_capacity(index.len());
        index.each(|item| pairs.push((item.value, item.key)));
        // Not by total_cmp: 0 and -0 are equal.
        let by_score = |a: f64, b: f64| a.partial_cmp(&b).unwrap_or(Ordering::Equal);
        pairs.sort_unstable_by(|a, b| by_score(a.0, b.0).then_with(|| a.1.cmp(b.1)));
        let mut tree = RankedTree::default();
        for (score, member) in pairs {
            tree.insert(score, member);
        }
        Self { tree, index }
    }
    #[inline]
    pub fn len(&self) -> usize {
        self.tree.len()
    }
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }
    pub fn tree(&self) -> &RankedTree {
        &self.tree
    }
    #[inline]
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        self.index.get(member)
    }
    /// The rank of a pair that is there.
    #[inline]
    pub fn rank(&self, score: f64, member: &[u8]) -> usize {
        self.tree.rank(&Bound::Pair {
            score,
            member,
            with: false,
        })
    }
    /// For the methods that end in `_hashed`, where one member is used several times.
    #[inline]
    pub fn hash(&self, member: &[u8]) -> u64 {
        self.index.hash(member)
    }
    #[inline]
    pub fn score_hashed(&self, hash: u64, member: &[u8]) -> Option<f64> {
        self.index.get_hashed(hash, member)
    }
    /// Puts in a member that is not there.
    pub fn insert(&mut self, score: f64, member: &[u8]) {
        self.insert_hashed(self.hash(member), score, member);
    }
    pub fn insert_hashed(&mut self, hash: u64, score: f64, member: &[u8]) {
        self.index.put_hashed(hash, member, score, None);
        self.tree.insert(score, member);
    }
    /// Gives a member that is there, with the score `old`, another one.
    pub fn change(&mut self, old: f64, member: &[u8], new: f64) {
        self.change_hashed(self.hash(member), old, member, new);
    }
    pub fn change_hashed(&mut self, hash: u64, old: f64, member: &[u8], new: f64) {
        self.index.put_hashed(hash, member, new, None);
        let found = self.tree.change_score(old, member, new);
        debug_assert!(found, "the index has a member that the tree lacks");
    }
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let hash = self.index.hash(member);
        let score = self.index.get_hashed(hash, member)?;
        self.index.remove_hashed(hash, member);
        let found = self.tree.remove(score, member);
        debug_assert!(found, "the index has a member that the tree lacks");
        Some(score)
    }
    /// Takes out the pairs of ranks `from` to before `to`, each shown to `f`, in order.
    pub fn remove_range(&mut self, from: usize, to: usize, mut f: impl FnMut(f64, &[u8])) {
        let Self { tree, index } = self;
        tree.remove_range(from, to, |score, member| {
            f(score, member);
            index.remove(member);
        });
    }
    /// See [`PackedTable::prefetch_key`].
    #[inline]
    pub fn prefetch_key(&self, member: &[u8]) -> u64 {
        self.index.prefetch_key(member)
    }
    /// See [`PackedTable::prefetch_piece`].
    #[inline]
    pub fn prefetch_piece(&self, hash: u64) {
        self.index.prefetch_piece(hash);
    }
    /// Asks for the memory that popping the first or the last pair will need.
    #[inline]
    pub fn prefetch_end(&self, last: bool) {
        let pair = if last {
            self.tree.last()
        } else {
            self.tree.first()
        };
        if let Some((_, member)) = pair {
            self.index.prefetch(self.index.hash(member));
        }
    }
    /// One step of a scan: calls `f` with `count` pairs or some more and returns where to go on; 0 is the end. Pairs that are there from
    /// the scan's first step to its last are shown once.
    pub fn scan(&self, cursor: u64, count: usize, mut f: impl FnMut(&[u8], f64)) -> u64 {
        self.index
            .scan(cursor, count, |item| f(item.key, item.value))
    }

    pub fn check_invariants(&self) {
        self.tree.check_invariants();
        self.index.check_invariants();
        assert_eq!(self.tree.len(), self.index.len());
        self.tree.visit(0, self.tree.len(), |score, member| {
            assert_eq!(
                self.index.get(member).map(f64::to_bits),
                Some(score.to_bits())
            );
        });
    }
}

impl Body for SortedSet {
    fn memory(&self) -> usize {
        self.tree.memory() + self.index.memory()
    }
    fn free_effort(&self) -> usize {
        self.tree.blocks() + self.index.free_effort()
    }
    fn free_some(&mut self, budget: usize) -> usize {
        let freed = self.tree.free_some(budget);
        if freed < budget {
            return freed + self.index.free_some(budget - freed);
        }
        freed
    }
    fn duplicate(&self) -> Self {
        Self {
            tree: self.tree.clone(),
            index: self.index.duplicate(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..Default::default() })]
        /// Any run of changes leaves what a plain map would hold.
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec((0u8..7, 0u32..2000, -9i32..9), 1..1500)) {
            let mut set = SortedSet::new(KeyHasher::new(9));
            let mut model: BTreeMap<Vec<u8>, f64> = BTreeMap::new();
            for (action, n, score) in steps {
                let (member, score) = (format!("m:{n}").into_bytes(), f64::from(score) / 2.0);
                match (action, set.score(&member)) {
                    (0..=3, None) => {
                        set.insert(score, &member);
                        model.insert(member, score);
                    }
                    (0..=3, Some(old)) => {
                        prop_assert_eq!(model.insert(member.clone(), score), Some(old));
                        set.change(old, &member, score);
                    }
                    (4 | 5, found) => {
                        prop_assert_eq!(set.remove(&member), found);
                        prop_assert_eq!(model.remove(&member), found);
                    }
                    _ => {
                        let from = n as usize % (set.len() + 1);
                        set.remove_range(from, from + 20, |_, member| {
                            model.remove(member);
                        });
                    }
                }
            }
            set.check_invariants();
            set.duplicate().check_invariants();
            SortedSet::from_index(set.duplicate().index).check_invariants();
            prop_assert_eq!(set.len(), model.len());
            let mut scanned = BTreeMap::new();
            let mut cursor = 0;
            loop {
                cursor = set.scan(cursor, 7, |member, score| {
                    scanned.insert(member.to_vec(), score);
                });
                if cursor == 0 { break; }
            }
            prop_assert_eq!(scanned, model);
        }
    }

    #[test]
    fn bytes_per_member() {
        let mut set = SortedSet::new(KeyHasher::new(9));
        let mut seed = 1u64;
        for i in 0..1_000_000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
            let score = (seed >> 33) % 1_000_000;
            set.insert(score as f64, format!("m:{i:06}").as_bytes());
        }
        let bytes = set.memory() as f64 / 1e6;
        assert!(bytes < 48.0, "{bytes}");
    }
}
