//! Pairs that a command found, in memory of their own: what is stored or answered at its end.

use crate::keyspace::KeyHasher;
use std::cmp::Ordering;

/// (score, member) pairs, the members one after the other in one block.
#[derive(Default)]
pub struct Pairs {
    text: Vec<u8>,
    places: Vec<Place>,
    longest: usize,
}

#[derive(Clone, Copy)]
struct Place {
    score: f64,
    at: usize,
    len: usize,
}

/// The order of a sorted set.
pub fn compare(a: (f64, &[u8]), b: (f64, &[u8])) -> Ordering {
    // No score is NaN.
    let by_score = a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal);
    by_score.then_with(|| a.1.cmp(b.1))
}

impl Pairs {
    pub fn reserve(&mut self, count: usize) {
        self.places.reserve_exact(count);
    }
    #[inline]
    pub fn push(&mut self, score: f64, member: &[u8]) {
        let (at, len) = (self.text.len(), member.len());
        self.text.extend_from_slice(member);
        self.places.push(Place { score, at, len });
        self.longest = self.longest.max(len);
    }
    pub fn len(&self) -> usize {
        self.places.len()
    }
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
    /// The length of all members.
    pub fn text_len(&self) -> usize {
        self.text.len()
    }
    /// The longest member's length.
    pub fn longest(&self) -> usize {
        self.longest
    }
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (f64, &[u8])> {
        let text = &self.text;
        self.places
            .iter()
            .map(move |place| (place.score, &text[place.at..place.at + place.len]))
    }
    pub fn sort(&mut self) {
        let text = &self.text;
        let pair = |place: &Place| (place.score, &text[place.at..place.at + place.len]);
        self.places
            .sort_unstable_by(|a, b| compare(pair(a), pair(b)));
    }
}

/// Pairs of different members, found by them: what a union is collected in.
pub struct Joined<'h> {
    pairs: Pairs,
    /// Open addressing: places in `pairs` plus one, 0 where there is none. At least twice as many as pairs.
    slots: Vec<u32>,
    hasher: &'h KeyHasher,
}

impl<'h> Joined<'h> {
    /// For up to `most` members. `hasher` has a secret seed.
    pub fn new(most: usize, hasher: &'h KeyHasher) -> Self {
        Self {
            pairs: Pairs::default(),
            slots: vec![0; (most * 2).next_power_of_two()],
            hasher,
        }
    }
    /// Adds a pair, or gives the member that is there the score that `join` makes of its old one and this.
    #[inline]
    pub fn add(&mut self, score: f64, member: &[u8], join: impl FnOnce(f64, f64) -> f64) {
        let mask = self.slots.len() - 1;
        let mut at = self.hasher.hash(member) as usize & mask;
        loop {
            let slot = self.slots[at] as usize;
            if slot == 0 {
                self.pairs.push(score, member);
                self.slots[at] = self.pairs.len() as u32;
                return;
            }
            let place = &mut self.pairs.places[slot - 1];
            if &self.pairs.text[place.at..place.at + place.len] == member {
                place.score = join(place.score, score);
                return;
            }
            at = (at + 1) & mask;
        }
    }
    pub fn into_pairs(self) -> Pairs {
        self.pairs
    }
}
