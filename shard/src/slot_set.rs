//! A set of hash slots: a bit each.

use ringwood_protocol::slot::SLOT_COUNT;

/// A set of hash slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotSet(Box<[u64; SLOT_COUNT as usize / 64]>);

impl SlotSet {
    pub fn empty() -> Self {
        Self(Box::new([0; SLOT_COUNT as usize / 64]))
    }
    pub fn from_slots(slots: impl IntoIterator<Item = u16>) -> Self {
        let mut set = Self::empty();
        for slot in slots {
            set.insert(slot);
        }
        set
    }
    #[inline]
    pub fn contains(&self, slot: u16) -> bool {
        self.0[slot as usize / 64] >> (slot % 64) & 1 != 0
    }
    pub fn insert(&mut self, slot: u16) {
        self.0[slot as usize / 64] |= 1 << (slot % 64);
    }
    pub fn remove(&mut self, slot: u16) {
        self.0[slot as usize / 64] &= !(1 << (slot % 64));
    }
    pub fn len(&self) -> usize {
        self.0.iter().map(|w| w.count_ones() as usize).sum()
    }
    /// The first slot from `from` on that is not in the set.
    pub fn first_absent(&self, from: u16) -> Option<u16> {
        let first = from as usize / 64;
        for (at, word) in self.0.iter().enumerate().skip(first) {
            let below = if at == first {
                (1 << (from % 64)) - 1
            } else {
                0
            };
            let absent = !(word | below);
            if absent != 0 {
                return Some((at * 64) as u16 + absent.trailing_zeros() as u16);
            }
        }
        None
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn shares(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0.iter()).any(|(a, b)| a & b != 0)
    }
    /// A bit for each slot's remainder by 64: sets whose filters share no bit share no slot.
    pub fn bloom(&self) -> u64 {
        self.0.iter().fold(0, |b, word| b | word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_sets_find_what_is_not_in_them() {
        let mut set = SlotSet::from_slots(0..16384);
        assert_eq!(set.first_absent(0), None);
        for slot in [16383, 7000, 64, 63] {
            set.remove(slot);
            assert_eq!(set.first_absent(0), Some(slot));
            assert_eq!(set.first_absent(slot), Some(slot));
        }
        assert_eq!(set.first_absent(65), Some(7000));
        assert_eq!(set.first_absent(7001), Some(16383));
        assert_eq!(SlotSet::empty().first_absent(16383), Some(16383));
    }
}
