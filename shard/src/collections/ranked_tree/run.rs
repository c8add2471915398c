//! A sorted run of (score, member) pairs in one buffer: a leaf of the tree, or the separators of an inner node.
//!
//! ```text
//! | scores, 8 bytes each | ends, 2 (or 4) bytes each | members, one after the other |
//! ```
//! Scores lie together, so that a search touches few cache lines; members are looked at only where scores are equal. The buffer is
//! as long as its content: adding a pair moves about half of it, which at these sizes costs less than a cache miss. Its capacity
//! follows the allocator's size classes, so that the memory lost does not depend on how full a node is.
//!
//! Invariants: pairs ascend strictly by (score, member); no score is NaN; `ends` ascend and the last is the members' total
//! length; ends have 4 bytes (`wide`) if that length once did not fit 2.

use crate::memory::block_of_vec;
use std::cmp::Ordering;

/// Where members end, with few of them or with long ones.
const NARROW: usize = 2;
const WIDE: usize = 4;

#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    buf: Vec<u8>,
    len: u32,
    wide: bool,
}

/// The capacity for `n` bytes: the allocator's next size class, four to a doubling.
fn size_class(n: usize) -> usize {
    if n <= 64 {
        return n.next_multiple_of(16);
    }
    let step = (n.next_power_of_two() / 2).max(64) / 4;
    n.next_multiple_of(step)
}

impl Run {
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Bytes in use.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.buf.len()
    }
    pub fn memory(&self) -> usize {
        block_of_vec(&self.buf)
    }
    #[inline]
    fn width(&self) -> usize {
        if self.wide { WIDE } else { NARROW }
    }
    /// Where the members begin in the buffer.
    #[inline]
    fn members_at(&self) -> usize {
        (8 + self.width()) * self.len()
    }

    #[inline]
    fn scores(&self) -> &[[u8; 8]] {
        self.buf[..8 * self.len()].as_chunks().0
    }
    #[inline]
    pub fn score(&self, i: usize) -> f64 {
        f64::from_le_bytes(self.scores()[i])
    }
    #[inline]
    fn end(&self, i: usize) -> usize {
        let at = 8 * self.len();
        if self.wide {
            let ends = self.buf[at..at + WIDE * self.len()].as_chunks().0;
            u32::from_le_bytes(ends[i]) as usize
        } else {
            let ends = self.buf[at..at + NARROW * self.len()].as_chunks().0;
            u16::from_le_bytes(ends[i]) as usize
        }
    }
    /// Where member `i` begins, counted from the first; for `i` = `len` where the last ends.
    #[inline]
    fn start(&self, i: usize) -> usize {
        if i == 0 { 0 } else { self.end(i - 1) }
    }
    #[inline]
    pub fn member(&self, i: usize) -> &[u8] {
        let base = self.members_at();
        &self.buf[base + self.start(i)..base + self.end(i)]
    }
    #[inline]
    pub fn get(&self, i: usize) -> (f64, &[u8]) {
        (self.score(i), self.member(i))
    }
    pub fn first(&self) -> Option<(f64, &[u8])> {
        (self.len > 0).then(|| self.get(0))
    }
    pub fn last(&self) -> Option<(f64, &[u8])> {
        (self.len > 0).then(|| self.get(self.len() - 1))
    }
    /// Calls `f` with the pairs from `from` to before `to`.
    #[inline]
    pub fn visit(&self, from: usize, to: usize, f: &mut impl FnMut(f64, &[u8])) {
        if from >= to {
            return;
        }
        let base = self.members_at();
        let mut start = base + self.start(from);
        for i in from..to {
            let end = base + self.end(i);
            f(self.score(i), &self.buf[start..end]);
            start = end;
        }
    }
    /// As [`Run::visit`], from the last to the first.
    #[inline]
    pub fn visit_back(&self, from: usize, to: usize, f: &mut impl FnMut(f64, &[u8])) {
        for i in (from..to).rev() {
            f(self.score(i), self.member(i));
        }
    }

    // ---- searching: how many pairs come before something ----

    /// How many scores from the first on are `before` something. Not a binary search: the first score of each cache line is looked at,
    /// then the others of one. None of these loads and comparisons waits for another, so a run that is not in the cache costs about one
    /// miss, where a binary search waits for three or four of them, one after the other.
    #[inline]
    fn scores_before(&self, before: impl Fn(f64) -> bool) -> usize {
        const LINE: usize = 8;
        let scores = self.scores();
        let count = |scores: &[[u8; 8]], step: usize| {
            let scores = scores.iter().step_by(step);
            scores
                .map(|s| usize::from(before(f64::from_le_bytes(*s))))
                .sum::<usize>()
        };
        match count(scores, LINE) {
            0 => 0,
            lines => {
                let from = (lines - 1) * LINE + 1;
                let to = (lines * LINE).min(scores.len());
                from + count(&scores[from..to], 1)
            }
        }
    }
    #[inline]
    pub fn below_score(&self, score: f64) -> usize {
        self.scores_before(|s| s < score)
    }
    #[inline]
    pub fn up_to_score(&self, score: f64) -> usize {
        self.scores_before(|s| s <= score)
    }
    /// Pairs before (score, member), the pair itself counting if `with` is set.
    #[inline]
    pub fn below(&self, score: f64, member: &[u8], with: bool) -> usize {
        let low = self.below_score(score);
        // Mostly no other pair has this score.
        if low == self.len() || self.score(low) != score {
            return low;
        }
        let high = self.up_to_score(score);
        self.below_member(low, high, member, with)
    }
    /// Pairs before a member, where all scores from `low` to before `high` are taken for equal.
    #[inline]
    pub fn below_member(&self, low: usize, high: usize, member: &[u8], with: bool) -> usize {
        let (mut low, mut high) = (low, high);
        while low < high {
            let middle = (low + high) / 2;
            let before = match self.member(middle).cmp(member) {
                Ordering::Less => true,
                Ordering::Equal => with,
                Ordering::Greater => false,
            };
            if before {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
    /// The place of a pair that is there.
    #[inline]
    pub fn find(&self, score: f64, member: &[u8]) -> Option<usize> {
        let at = self.below(score, member, false);
        (at < self.len() && self.score(at) == score && self.member(at) == member).then_some(at)
    }

    // ---- changing ----

    fn set_end(&mut self, i: usize, end: usize) {
        let at = 8 * self.len() + self.width() * i;
        if self.wide {
            self.buf[at..at + WIDE].copy_from_slice(&(end as u32).to_le_bytes());
        } else {
            self.buf[at..at + NARROW].copy_from_slice(&(end as u16).to_le_bytes());
        }
    }
    /// Adds `delta` to the ends from `from` on.
    #[inline]
    fn shift_ends(&mut self, from: usize, delta: isize) {
        let (at, len) = (8 * self.len(), self.len());
        if self.wide {
            let ends = self.buf[at..at + WIDE * len].as_chunks_mut().0;
            for end in &mut ends[from..] {
                *end = u32::from_le_bytes(*end)
                    .wrapping_add(delta as u32)
                    .to_le_bytes();
            }
        } else {
            let ends = self.buf[at..at + NARROW * len].as_chunks_mut().0;
            for end in &mut ends[from..] {
                *end = u16::from_le_bytes(*end)
                    .wrapping_add(delta as u16)
                    .to_le_bytes();
            }
        }
    }
    fn reserve(&mut self, len: usize) {
        if len > self.buf.capacity() {
            self.buf.reserve_exact(size_class(len) - self.buf.len());
        }
    }
    /// Gives memory back once a whole size class and some more is unused.
    fn shrink(&mut self) {
        let len = self.buf.len();
        let fitting = size_class(len + len / 8);
        if fitting < self.buf.capacity() {
            self.buf.shrink_to(fitting);
        }
    }
    #[cold]
    fn widen(&mut self) {
        let ends: Vec<u8> = (0..self.len())
            .flat_map(|i| (self.end(i) as u32).to_le_bytes())
            .collect();
        let at = 8 * self.len();
        self.buf.splice(at..at + NARROW * self.len(), ends);
        self.wide = true;
    }

    /// Puts a pair in at its place `i`.
    pub fn insert(&mut self, i: usize, score: f64, member: &[u8]) {
        debug_assert!(i <= self.len());
        let (n, before) = (self.len(), self.buf.len());
        if !self.wide && before - self.members_at() + member.len() > u16::MAX as usize {
            self.widen();
            return self.insert(i, score, member);
        }
        let w = self.width();
        let more = 8 + w + member.len();
        self.reserve(before + more);
        let start = self.start(i);
        let (ends_at, members_at) = (8 * n + w * i, (8 + w) * n + start);
        // Three pieces move, the last one first: the members behind, the ends behind with the members before, the scores behind
        // with the ends before.
        self.buf.resize(before + more, 0);
        let buf = &mut self.buf[..];
        buf.copy_within(members_at..before, members_at + more);
        buf.copy_within(ends_at..members_at, ends_at + 8 + w);
        buf.copy_within(8 * i..ends_at, 8 * i + 8);
        buf[8 * i..8 * i + 8].copy_from_slice(&score.to_le_bytes());
        let at = members_at + 8 + w;
        buf[at..at + member.len()].copy_from_slice(member);
        self.len += 1;
        self.set_end(i, start);
        self.shift_ends(i, member.len() as isize);
    }
    pub fn push(&mut self, score: f64, member: &[u8]) {
        self.insert(self.len(), score, member);
    }
    /// Takes out the pairs from `from` to before `to`. `keep_room`: the buffer keeps its size.
    pub fn remove(&mut self, from: usize, to: usize, keep_room: bool) {
        debug_assert!(from <= to && to <= self.len());
        let (n, w, count) = (self.len(), self.width(), to - from);
        let (start, end) = (self.start(from), self.start(to));
        let total = self.buf.len();
        let (ends_at, members_at) = (8 * n, (8 + w) * n);
        self.shift_ends(to, -((end - start) as isize));
        let buf = &mut self.buf[..];
        buf.copy_within(8 * to..ends_at + w * from, 8 * from);
        let removed = 8 * count;
        buf.copy_within(
            ends_at + w * to..members_at + start,
            ends_at + w * from - removed,
        );
        let removed = (8 + w) * count;
        buf.copy_within(members_at + end..total, members_at + start - removed);
        self.buf.truncate(total - removed - (end - start));
        self.len -= count as u32;
        if !keep_room {
            self.shrink();
        }
    }
    #[inline]
    pub fn set_score(&mut self, i: usize, score: f64) {
        self.buf[8 * i..8 * i + 8].copy_from_slice(&score.to_le_bytes());
    }
    /// Gives a pair another score and the place before the pair that is now at `to`. Only what lies between moves.
    pub fn relocate(&mut self, at: usize, to: usize, score: f64) {
        let base = self.members_at();
        let (start, end) = (self.start(at), self.end(at));
        let len = end - start;
        if to > at {
            let last = to - 1;
            let behind = self.end(last);
            self.buf.copy_within(8 * (at + 1)..8 * to, 8 * at);
            for i in at..last {
                self.set_end(i, self.end(i + 1) - len);
            }
            self.buf[base + start..base + behind].rotate_left(len);
            self.set_score(last, score);
        } else {
            let before = self.start(to);
            self.buf.copy_within(8 * to..8 * at, 8 * (to + 1));
            for i in (to + 1..=at).rev() {
                self.set_end(i, self.end(i - 1) + len);
            }
            self.set_end(to, before + len);
            self.buf[base + before..base + end].rotate_right(len);
            self.set_score(to, score);
        }
    }
    /// The pairs from `at` on, which leave this run.
    pub fn split_off(&mut self, at: usize) -> Self {
        let mut right = Self::default();
        right.append(self, at);
        self.remove(at, self.len(), true);
        self.buf.shrink_to(size_class(self.buf.len()));
        right
    }
    /// Adds the pairs of `other` from `from` on at the end.
    pub fn append(&mut self, other: &Self, from: usize) {
        let members = other.buf.len() - other.members_at() - other.start(from);
        self.reserve(self.buf.len() + (8 + self.width()) * (other.len() - from) + members);
        if self.is_empty() && !other.wide {
            // In three pieces, as a split does it.
            let (n, base) = (other.len(), other.members_at());
            let start = other.start(from);
            self.buf.extend_from_slice(&other.buf[8 * from..8 * n]);
            self.buf
                .extend_from_slice(&other.buf[8 * n + NARROW * from..base]);
            self.buf.extend_from_slice(&other.buf[base + start..]);
            self.len = (n - from) as u32;
            self.wide = false;
            self.shift_ends(0, -(start as isize));
            return;
        }
        other.visit(from, other.len(), &mut |score, member| {
            self.push(score, member);
        });
    }
    /// The place that divides the bytes about evenly, with at least one pair on each side.
    pub fn middle(&self) -> usize {
        let half = self.buf.len() / 2;
        let w = self.width();
        let at = (1..self.len())
            .find(|&i| (8 + w) * i + self.start(i) >= half)
            .unwrap_or(1);
        at.clamp(1, self.len().saturating_sub(1).max(1))
    }

    pub fn check_invariants(&self) {
        assert!(self.wide || self.buf.len() - self.members_at() <= u16::MAX as usize);
        assert_eq!(self.members_at() + self.start(self.len()), self.buf.len());
        assert!(
            self.buf.capacity() <= size_class(self.buf.len() + self.buf.len() / 8).max(64),
            "{} bytes in {}",
            self.buf.len(),
            self.buf.capacity()
        );
        for i in 0..self.len() {
            assert!(!self.score(i).is_nan());
            assert!(self.start(i) <= self.end(i));
            if i > 0 {
                let (before, here) = (self.get(i - 1), self.get(i));
                assert!(before.0 < here.0 || (before.0 == here.0 && before.1 < here.1));
            }
        }
    }
}
