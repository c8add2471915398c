//! A sorted set's order: a B+-tree of (score, member), in Redis's order (score, then the member's bytes), with counts for ranks.
//!
//! Idea: pairs lie packed in leaves of about 2 KB ([`run::Run`]), with no allocation of their own; inner nodes ([`inner::Inner`])
//! know how many pairs are below each child. A rank, or the pair of a rank, is one way down; a range is the way to its first pair
//! and then a walk over packed bytes. A tree of a million pairs has three levels of inner nodes, which stay in the cache; what is
//! left to load is one leaf.
//!
//! Scores compare as numbers: -0.0 and 0.0 are equal (but kept as they came); NaN is refused with a panic, so commands must not let
//! it come so far. Members may have any length; long ones lie in leaves of their own.
//!
//! Invariants: those of the nodes; the root has more than one child or is a leaf; `len` is the number of pairs.

mod inner;
mod run;
#[cfg(test)]
mod tests;

use inner::{Children, Edges, Inner};
use run::Run;

#[derive(Clone, Debug)]
enum Root {
    Leaf(Run),
    Inner(Inner),
}

#[derive(Clone, Debug)]
pub struct RankedTree {
    root: Root,
    len: usize,
}

/// A place between two pairs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound<'a> {
    /// Before the pairs of this score, or behind them (`with`).
    Score { score: f64, with: bool },
    /// Before this pair, or behind it.
    Pair {
        score: f64,
        member: &'a [u8],
        with: bool,
    },
    /// Before this member, or behind it, in a set whose scores are all equal. With other scores it is some place.
    Member { member: &'a [u8], with: bool },
}

impl Bound<'_> {
    #[inline]
    fn in_run(&self, run: &Run) -> usize {
        match *self {
            Self::Score { score, with: false } => run.below_score(score),
            Self::Score { score, with: true } => run.up_to_score(score),
            Self::Pair {
                score,
                member,
                with,
            } => run.below(score, member, with),
            Self::Member { member, with } => run.below_member(0, run.len(), member, with),
        }
    }
}

impl Default for RankedTree {
    fn default() -> Self {
        Self {
            root: Root::Leaf(Run::default()),
            len: 0,
        }
    }
}

impl RankedTree {
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many pairs come before a bound.
    #[inline]
    pub fn rank(&self, bound: &Bound<'_>) -> usize {
        match &self.root {
            Root::Leaf(leaf) => bound.in_run(leaf),
            Root::Inner(inner) => inner.rank(bound),
        }
    }
    /// The pair of a rank.
    #[inline]
    pub fn nth(&self, rank: usize) -> Option<(f64, &[u8])> {
        if rank >= self.len {
            return None;
        }
        let (leaf, at) = match &self.root {
            Root::Leaf(leaf) => (leaf, rank),
            Root::Inner(inner) => inner.nth(rank),
        };
        Some(leaf.get(at))
    }
    pub fn first(&self) -> Option<(f64, &[u8])> {
        match &self.root {
            Root::Leaf(leaf) => leaf.first(),
            Root::Inner(inner) => inner.first(),
        }
    }
    pub fn last(&self) -> Option<(f64, &[u8])> {
        match &self.root {
            Root::Leaf(leaf) => leaf.last(),
            Root::Inner(inner) => inner.last(),
        }
    }
    /// Calls `f` with the pairs of ranks `from` to before `to`, in order.
    #[inline]
    pub fn visit(&self, from: usize, to: usize, mut f: impl FnMut(f64, &[u8])) {
        let to = to.min(self.len);
        if from >= to {
            return;
        }
        match &self.root {
            Root::Leaf(leaf) => leaf.visit(from, to, &mut f),
            Root::Inner(inner) => inner.visit(from, to, &mut f),
        }
    }
    /// As [`RankedTree::visit`], from the last to the first.
    #[inline]
    pub fn visit_back(&self, from: usize, to: usize, mut f: impl FnMut(f64, &[u8])) {
        let to = to.min(self.len);
        if from >= to {
            return;
        }
        match &self.root {
            Root::Leaf(leaf) => leaf.visit_back(from, to, &mut f),
            Root::Inner(inner) => inner.visit_back(from, to, &mut f),
        }
    }

    /// Puts in a pair that is not there.
    pub fn insert(&mut self, score: f64, member: &[u8]) {
        assert!(!score.is_nan(), "a score is a number");
        const EDGES: Edges = Edges {
            first: true,
            last: true,
        };
        self.len += 1;
        match &mut self.root {
            Root::Leaf(leaf) => {
                let at = leaf.below(score, member, false);
                leaf.insert(at, score, member);
                if let Some(split) = inner::split_leaf(leaf, at, EDGES) {
                    let left = std::mem::take(leaf);
                    self.root = Root::Inner(Inner::above(left, split, Run::len, Children::Leaves));
                }
            }
            Root::Inner(inner) => {
                inner.insert(score, member, EDGES);
                if let Some(split) = inner.split(EDGES)
                    && let Root::Inner(left) =
                        std::mem::replace(&mut self.root, Root::Leaf(Run::default()))
                {
                    self.root =
                        Root::Inner(Inner::above(left, split, Inner::len, Children::Inners));
                }
            }
        }
    }
    /// Takes a pair out. False when it is not there.
    pub fn remove(&mut self, score: f64, member: &[u8]) -> bool {
        let found = match &mut self.root {
            Root::Leaf(leaf) => match leaf.find(score, member) {
                Some(at) => {
                    leaf.remove(at, at + 1, false);
                    true
                }
                None => false,
            },
            Root::Inner(inner) => {
                let found = inner.remove(score, member);
                self.lower();
                found
            }
        };
        self.len -= found as usize;
        found
    }
    /// Gives a pair another score. False when it is not there.
    pub fn change_score(&mut self, old: f64, member: &[u8], new: f64) -> bool {
        assert!(!new.is_nan(), "a score is a number");
        let done = match &mut self.root {
            Root::Leaf(leaf) => inner::change_score_in(leaf, old, member, new, true),
            Root::Inner(inner) => inner.change_score(old, member, new),
        };
        match done {
            None => false,
            Some(true) => true,
            Some(false) => {
                self.remove(old, member);
                self.insert(new, member);
                true
            }
        }
    }
    /// Takes out the pairs of ranks `from` to before `to`, each shown to `f`, in order.
    pub fn remove_range(&mut self, from: usize, to: usize, mut f: impl FnMut(f64, &[u8])) {
        let to = to.min(self.len);
        if from >= to {
            return;
        }
        match &mut self.root {
            Root::Leaf(leaf) => {
                leaf.visit(from, to, &mut f);
                leaf.remove(from, to, false);
            }
            // A node that loses all its children is dropped by the node above it, which the root does not have.
            Root::Inner(inner) if to - from == self.len => {
                inner.visit(from, to, &mut f);
                self.root = Root::Leaf(Run::default());
            }
            Root::Inner(inner) => {
                inner.remove_range(from, to, &mut f);
                self.lower();
            }
        }
        self.len -= to - from;
    }
    /// Drops roots with one child.
    fn lower(&mut self) {
        while let Root::Inner(inner) = &mut self.root
            && inner.only_child()
        {
            let child = match &mut inner.children {
                Children::Leaves(leaves) => leaves.pop().map(Root::Leaf),
                Children::Inners(inners) => inners.pop().map(Root::Inner),
            };
            self.root = child.unwrap_or_else(|| unreachable!("it has one"));
        }
    }

    /// Bytes outside this struct.
    pub fn memory(&self) -> usize {
        match &self.root {
            Root::Leaf(leaf) => leaf.memory(),
            Root::Inner(inner) => inner.memory(),
        }
    }
    /// Blocks of memory.
    pub fn blocks(&self) -> usize {
        match &self.root {
            Root::Leaf(_) => 1,
            Root::Inner(inner) => inner.blocks(),
        }
    }
    /// Frees about `budget` blocks; returns how many: less than `budget` when it is done. Nothing else may be done with the tree from
    /// then on.
    pub fn free_some(&mut self, budget: usize) -> usize {
        let freed = match &mut self.root {
            Root::Leaf(_) => 0,
            Root::Inner(inner) => inner.free_some(budget),
        };
        if freed < budget {
            *self = Self::default();
        }
        freed
    }

    /// Checks what the heads of the modules promise.
    pub fn check_invariants(&self) {
        match &self.root {
            Root::Leaf(leaf) => {
                leaf.check_invariants();
                assert_eq!(leaf.len(), self.len);
            }
            Root::Inner(inner) => {
                assert!(!inner.only_child());
                inner.check_invariants();
                assert_eq!(inner.len(), self.len);
            }
        }
    }
}
