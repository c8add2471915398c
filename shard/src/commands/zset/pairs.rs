//! Pairs that a command found, in memory of their own: what is stored or answered at its end.

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
