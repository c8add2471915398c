//! Inner nodes of the tree: children, how many pairs each holds, and what separates them.
//!
//! A separator stands between two children: everything left of it is smaller, everything right of it is not. It is as short as it can
//! be: where the scores on its sides differ, a score with no member.
//!
//! Buffers of leaves are as long as their content, so a leaf that is not full wastes little, and pairs need not be moved between
//! neighbours to keep leaves full ("borrowing"): two neighbours that fit well into one are merged, and that is all.
//!
//! Invariants: as many counts as children, one separator less; no child is empty; counts are the children's own. A leaf with long
//! members may be larger than [`LEAF_BYTES`]; each insertion into it splits it once more, until every such pair is alone.

use super::Bound;
use super::run::Run;
use crate::memory::block_of_vec;

/// A leaf above this size is split, if it holds more than one pair.
const LEAF_BYTES: usize = 2048;
/// Two leaves that together are below this become one.
const LEAF_MERGED: usize = LEAF_BYTES * 3 / 4;
const CHILDREN_MAX: usize = 64;
const CHILDREN_MERGED: usize = CHILDREN_MAX * 3 / 4;
/// Separators above this size split a node with fewer children too: members that are long and equal for long.
const SEPARATORS_BYTES: usize = 16 << 10;

#[derive(Clone, Debug)]
pub(super) enum Children {
    Leaves(Vec<Run>),
    Inners(Vec<Inner>),
}

#[derive(Clone, Debug)]
pub(super) struct Inner {
    separators: Run,
    counts: Vec<usize>,
    pub children: Children,
}

/// A node that was split: the separator and the new node right of it.
pub(super) struct Split<N> {
    score: f64,
    member: Vec<u8>,
    right: N,
}

/// On which edges of the whole tree a node lies: where pairs come in order, leaves there are not halved but left full.
#[derive(Clone, Copy)]
pub(super) struct Edges {
    pub first: bool,
    pub last: bool,
}

impl Children {
    fn len(&self) -> usize {
        match self {
            Self::Leaves(leaves) => leaves.len(),
            Self::Inners(inners) => inners.len(),
        }
    }
}

/// Splits a leaf that a pair was put into at `at`, if it has to be.
pub(super) fn split_leaf(leaf: &mut Run, at: usize, edges: Edges) -> Option<Split<Run>> {
    if leaf.bytes() <= LEAF_BYTES || leaf.len() < 2 {
        return None;
    }
    let at = if edges.last && at == leaf.len() - 1 {
        at
    } else if edges.first && at == 0 {
        1
    } else {
        leaf.middle()
    };
    let right = leaf.split_off(at);
    let (left_score, left_member) = leaf.last()?;
    let (score, member) = right.first()?;
    let member = if left_score < score {
        Vec::new()
    } else {
        let equal = left_member.iter().zip(member).take_while(|(a, b)| a == b);
        member[..equal.count() + 1].to_vec()
    };
    Some(Split {
        score,
        member,
        right,
    })
}

impl Inner {
    /// The node above a root that was split.
    pub fn above<N>(
        left: N,
        split: Split<N>,
        len: impl Fn(&N) -> usize,
        wrap: impl Fn(Vec<N>) -> Children,
    ) -> Self {
        let mut separators = Run::default();
        separators.push(split.score, &split.member);
        Self {
            separators,
            counts: vec![len(&left), len(&split.right)],
            children: wrap(vec![left, split.right]),
        }
    }
    /// Pairs below this node.
    pub fn len(&self) -> usize {
        self.counts.iter().sum()
    }
    pub fn first(&self) -> Option<(f64, &[u8])> {
        match &self.children {
            Children::Leaves(leaves) => leaves.first()?.first(),
            Children::Inners(inners) => inners.first()?.first(),
        }
    }
    pub fn last(&self) -> Option<(f64, &[u8])> {
        match &self.children {
            Children::Leaves(leaves) => leaves.last()?.last(),
            Children::Inners(inners) => inners.last()?.last(),
        }
    }
    /// The only child of a node that has one, for the tree to drop this node.
    pub fn only_child(&self) -> bool {
        self.children.len() == 1
    }

    /// The child in which the pair is, or would be.
    #[inline]
    fn child_of(&self, score: f64, member: &[u8]) -> usize {
        self.separators.below(score, member, true)
    }
    /// How many pairs come before a bound.
    pub fn rank(&self, bound: &Bound<'_>) -> usize {
        let mut node = self;
        let mut rank = 0;
        loop {
            let j = match *bound {
                Bound::Score { score, with: false } => node.separators.below_score(score),
                Bound::Score { score, with: true } => node.separators.up_to_score(score),
                Bound::Pair { score, member, .. } => node.child_of(score, member),
                Bound::Member { member, .. } => {
                    node.separators
                        .below_member(0, node.separators.len(), member, true)
                }
            };
            rank += node.counts[..j].iter().sum::<usize>();
            match &node.children {
                Children::Leaves(leaves) => return rank + bound.in_run(&leaves[j]),
                Children::Inners(inners) => node = &inners[j],
            }
        }
    }
    /// The leaf with the pair of a rank below `len`, and the pair's place in it.
    pub fn nth(&self, rank: usize) -> (&Run, usize) {
        let (mut node, mut rank) = (self, rank);
        loop {
            let j = node.child_at(&mut rank);
            match &node.children {
                Children::Leaves(leaves) => return (&leaves[j], rank),
                Children::Inners(inners) => node = &inners[j],
            }
        }
    }
    /// The child with the pair of a rank, which becomes the rank in the child.
    #[inline]
    fn child_at(&self, rank: &mut usize) -> usize {
        for (j, &count) in self.counts.iter().enumerate() {
            if *rank < count {
                return j;
            }
            *rank -= count;
        }
        panic!("a rank that is not below the node's count");
    }

    /// Calls `f` with the pairs of ranks `from` to before `to`.
    pub fn visit(&self, from: usize, to: usize, f: &mut impl FnMut(f64, &[u8])) {
        let mut first = from;
        let start = self.child_at(&mut first);
        let mut base = from - first;
        for (j, &count) in self.counts.iter().enumerate().skip(start) {
            if base >= to {
                break;
            }
            let (low, high) = (from.saturating_sub(base), count.min(to - base));
            match &self.children {
                Children::Leaves(leaves) => leaves[j].visit(low, high, f),
                Children::Inners(inners) => inners[j].visit(low, high, f),
            }
            base += count;
        }
    }
    /// As [`Inner::visit`], from the last to the first.
    pub fn visit_back(&self, from: usize, to: usize, f: &mut impl FnMut(f64, &[u8])) {
        let mut last = to - 1;
        let end = self.child_at(&mut last);
        // Where child `end` begins.
        let mut base = to - 1 - last;
        for j in (0..=end).rev() {
            let count = self.counts[j];
            let (low, high) = (from.saturating_sub(base), count.min(to - base));
            match &self.children {
                Children::Leaves(leaves) => leaves[j].visit_back(low, high, f),
                Children::Inners(inners) => inners[j].visit_back(low, high, f),
            }
            if base <= from || j == 0 {
                break;
            }
            base -= self.counts[j - 1];
        }
    }

    /// Puts in a pair that is not there.
    pub fn insert(&mut self, score: f64, member: &[u8], edges: Edges) {
        let j = self.child_of(score, member);
        self.counts[j] += 1;
        let edges = Edges {
            first: edges.first && j == 0,
            last: edges.last && j + 1 == self.counts.len(),
        };
        match &mut self.children {
            Children::Leaves(leaves) => {
                let leaf = &mut leaves[j];
                let at = leaf.below(score, member, false);
                leaf.insert(at, score, member);
                if let Some(split) = split_leaf(leaf, at, edges) {
                    self.counts[j] = leaf.len();
                    self.counts.insert(j + 1, split.right.len());
                    self.separators.insert(j, split.score, &split.member);
                    make_room(leaves);
                    leaves.insert(j + 1, split.right);
                }
            }
            Children::Inners(inners) => {
                let inner = &mut inners[j];
                inner.insert(score, member, edges);
                if let Some(split) = inner.split(edges) {
                    let right = split.right.len();
                    self.counts[j] -= right;
                    self.counts.insert(j + 1, right);
                    self.separators.insert(j, split.score, &split.member);
                    make_room(inners);
                    inners.insert(j + 1, split.right);
                }
            }
        }
    }
    /// Splits the node if it has to be.
    pub fn split(&mut self, edges: Edges) -> Option<Split<Self>> {
        let n = self.counts.len();
        if n <= CHILDREN_MAX && (n < 8 || self.separators.bytes() <= SEPARATORS_BYTES) {
            return None;
        }
        let at = if edges.last {
            n - 2
        } else if edges.first {
            2
        } else {
            n / 2
        };
        let (score, member) = self.separators.get(at - 1);
        let member = member.to_vec();
        let separators = self.separators.split_off(at);
        self.separators.remove(at - 1, at, false);
        let right = Self {
            separators,
            counts: self.counts.split_off(at),
            children: match &mut self.children {
                Children::Leaves(leaves) => Children::Leaves(leaves.split_off(at)),
                Children::Inners(inners) => Children::Inners(inners.split_off(at)),
            },
        };
        Some(Split {
            score,
            member,
            right,
        })
    }

    /// Takes a pair out. False when it is not there.
    pub fn remove(&mut self, score: f64, member: &[u8]) -> bool {
        let j = self.child_of(score, member);
        let found = match &mut self.children {
            Children::Leaves(leaves) => match leaves[j].find(score, member) {
                Some(at) => {
                    leaves[j].remove(at, at + 1, false);
                    true
                }
                None => false,
            },
            Children::Inners(inners) => inners[j].remove(score, member),
        };
        if found {
            self.counts[j] -= 1;
            self.settle(j);
        }
        found
    }
    /// Gives a pair another score if it then stays in its leaf. `None`: it is not there; false: nothing done, it has to be taken out and
    /// put in again.
    pub fn change_score(&mut self, old: f64, member: &[u8], new: f64) -> Option<bool> {
        let j = self.child_of(old, member);
        match &mut self.children {
            Children::Leaves(leaves) => change_score_in(&mut leaves[j], old, member, new, false),
            Children::Inners(inners) => inners[j].change_score(old, member, new),
        }
    }

    /// Takes out the pairs of ranks `from` to before `to`, each shown to `f` first.
    pub fn remove_range(&mut self, from: usize, to: usize, f: &mut impl FnMut(f64, &[u8])) {
        let mut first = from;
        let start = self.child_at(&mut first);
        let mut base = from - first;
        let mut end = start;
        while end < self.counts.len() && base < to {
            let count = self.counts[end];
            let (low, high) = (from.saturating_sub(base), count.min(to - base));
            match &mut self.children {
                Children::Leaves(leaves) => {
                    leaves[end].visit(low, high, f);
                    leaves[end].remove(low, high, false);
                }
                Children::Inners(inners) => inners[end].remove_range(low, high, f),
            }
            self.counts[end] -= high - low;
            base += count;
            end += 1;
        }
        // Of the children from `start` to before `end` all but the first and the last are empty, and these may be.
        let empty_from = start + (self.counts[start] > 0) as usize;
        let empty_to = end - (self.counts[end - 1] > 0) as usize;
        if empty_from < empty_to {
            self.drop_children(empty_from, empty_to);
            end = empty_from + 1;
        }
        for j in [end - 1, start] {
            if j < self.counts.len() && self.counts.len() > 1 {
                self.settle(j);
            }
        }
    }
    /// Drops empty children. What is left needs one separator between any two.
    fn drop_children(&mut self, from: usize, to: usize) {
        self.counts.drain(from..to);
        match &mut self.children {
            Children::Leaves(leaves) => drop(leaves.drain(from..to)),
            Children::Inners(inners) => drop(inners.drain(from..to)),
        }
        let separators = self.separators.len();
        if to <= separators {
            self.separators.remove(from, to, false);
        } else {
            self.separators
                .remove(from.saturating_sub(1), separators, false);
        }
    }
    /// After pairs were taken out of child `j`: drops it if it is empty, merges it with a neighbour if both fit well into one.
    fn settle(&mut self, j: usize) {
        if self.counts[j] == 0 {
            if self.counts.len() > 1 {
                self.drop_children(j, j + 1);
            }
            return;
        }
        let fits = |a: usize, b: usize| match &self.children {
            Children::Leaves(leaves) => leaves[a].bytes() + leaves[b].bytes() <= LEAF_MERGED,
            Children::Inners(inners) => {
                let (a, b) = (&inners[a], &inners[b]);
                a.counts.len() + b.counts.len() <= CHILDREN_MERGED
                    && a.separators.bytes() + b.separators.bytes() <= SEPARATORS_BYTES / 2
            }
        };
        let left = if j + 1 < self.counts.len() && fits(j, j + 1) {
            j
        } else if j > 0 && fits(j - 1, j) {
            j - 1
        } else {
            return;
        };
        self.counts[left] += self.counts.remove(left + 1);
        match &mut self.children {
            Children::Leaves(leaves) => {
                let right = leaves.remove(left + 1);
                leaves[left].append(&right, 0);
            }
            Children::Inners(inners) => {
                let right = inners.remove(left + 1);
                let (score, member) = self.separators.get(left);
                inners[left].append(score, member, right);
            }
        }
        self.separators.remove(left, left + 1, false);
    }
    /// Adds the children of `right`; the separator stands between.
    fn append(&mut self, score: f64, member: &[u8], right: Self) {
        self.separators.push(score, member);
        self.separators.append(&right.separators, 0);
        self.counts.extend(right.counts);
        match (&mut self.children, right.children) {
            (Children::Leaves(a), Children::Leaves(b)) => a.extend(b),
            (Children::Inners(a), Children::Inners(b)) => a.extend(b),
            _ => unreachable!("neighbours have the same height"),
        }
    }

    // ---- the whole node ----

    /// Blocks that it and all below it take.
    pub fn blocks(&self) -> usize {
        3 + match &self.children {
            Children::Leaves(leaves) => leaves.len(),
            Children::Inners(inners) => inners.iter().map(Self::blocks).sum(),
        }
    }
    /// Bytes outside the node itself.
    pub fn memory(&self) -> usize {
        self.separators.memory()
            + block_of_vec(&self.counts)
            + match &self.children {
                Children::Leaves(leaves) => {
                    block_of_vec(leaves) + leaves.iter().map(Run::memory).sum::<usize>()
                }
                Children::Inners(inners) => {
                    block_of_vec(inners) + inners.iter().map(Self::memory).sum::<usize>()
                }
            }
    }
    /// Frees up to `budget` blocks from the end; returns how many. Counts and separators are wrong from then on.
    pub fn free_some(&mut self, budget: usize) -> usize {
        match &mut self.children {
            Children::Leaves(leaves) => {
                let freed = budget.min(leaves.len());
                leaves.truncate(leaves.len() - freed);
                freed
            }
            Children::Inners(inners) => {
                let mut freed = 0;
                while freed < budget
                    && let Some(last) = inners.last_mut()
                {
                    freed += last.free_some(budget - freed);
                    if last.children.len() == 0 {
                        inners.pop();
                        freed += 3;
                    }
                }
                freed
            }
        }
    }

    /// Checks what the heads of this module promise, and that everything lies within the bounds. Returns the height.
    pub fn check_invariants(&self) -> usize {
        assert_eq!(self.counts.len(), self.children.len());
        assert_eq!(self.counts.len(), self.separators.len() + 1);
        assert!(self.counts.len() <= CHILDREN_MAX);
        self.separators.check_invariants();
        let mut height = 0;
        for (j, &count) in self.counts.iter().enumerate() {
            assert!(count > 0);
            let (first, last) = match &self.children {
                Children::Leaves(leaves) => {
                    let leaf = &leaves[j];
                    leaf.check_invariants();
                    assert_eq!(leaf.len(), count);
                    (leaf.first(), leaf.last())
                }
                Children::Inners(inners) => {
                    let below = inners[j].check_invariants();
                    assert!(j == 0 || below == height, "leaves of different depth");
                    height = below;
                    assert_eq!(inners[j].len(), count);
                    (inners[j].first(), inners[j].last())
                }
            };
            let (first, last) = (first.expect("not empty"), last.expect("not empty"));
            if j > 0 {
                assert!(self.separators.get(j - 1) <= first);
            }
            if j + 1 < self.counts.len() {
                assert!(last < self.separators.get(j));
            }
        }
        height + 1
    }
}

/// Gives a pair another score within its leaf. `whole`: the leaf is the whole tree. Results as of [`Inner::change_score`].
pub(super) fn change_score_in(
    leaf: &mut Run,
    old: f64,
    member: &[u8],
    new: f64,
    whole: bool,
) -> Option<bool> {
    let at = leaf.find(old, member)?;
    let to = leaf.below(new, member, false);
    if to == at || to == at + 1 {
        // Between the same neighbours; at an edge the separator might stand between.
        if whole || (at > 0 && at + 1 < leaf.len()) {
            leaf.set_score(at, new);
            return Some(true);
        }
        return Some(false);
    }
    if !whole && (to == 0 || to == leaf.len()) {
        return Some(false);
    }
    leaf.relocate(at, to, new);
    Some(true)
}

/// Room for one more node. Many trees are small and most nodes are not full, so it grows in small steps.
fn make_room<N>(nodes: &mut Vec<N>) {
    if nodes.len() == nodes.capacity() {
        nodes.reserve_exact((nodes.len() / 4).max(2));
    }
}
