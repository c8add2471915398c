//! The table of a core's connections: dense, indexed by [`ConnId`].
//!
//! Invariant: an id that was removed is given out again only after the loop has seen its `Closed`: a backend calls
//! [`Slots::reported`] when a turn has reported the ends so far, and [`Slots::cool`] at the start of the next one. A
//! call that names an id in between finds nothing, and does nothing.

use super::ConnId;

#[derive(Debug)]
pub(super) struct Slots<T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
    /// Removed; the end is not reported yet.
    removed: Vec<u32>,
    /// Reported by the last turn.
    reported: Vec<u32>,
    count: usize,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Slots {
            entries: Vec::new(),
            free: Vec::new(),
            removed: Vec::new(),
            reported: Vec::new(),
            count: 0,
        }
    }

    pub(super) fn insert(&mut self, value: T) -> ConnId {
        self.count += 1;
        if let Some(index) = self.free.pop() {
            self.entries[index as usize] = Some(value);
            return ConnId(index);
        }
        self.entries.push(Some(value));
        ConnId((self.entries.len() - 1) as u32)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        self.entries.get_mut(id.0 as usize)?.as_mut()
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&T> {
        self.entries.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn remove(&mut self, id: ConnId) -> Option<T> {
        let value = self.entries.get_mut(id.0 as usize)?.take()?;
        self.removed.push(id.0);
        self.count -= 1;
        Some(value)
    }

    /// The ends of all ids removed so far have been reported.
    #[inline]
    pub(super) fn reported(&mut self) {
        self.reported.append(&mut self.removed);
    }

    /// Makes the ids whose end was reported available again.
    #[inline]
    pub(super) fn cool(&mut self) {
        self.free.append(&mut self.reported);
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_only_after_cooling() {
        let mut slots = Slots::new();
        let first = slots.insert('a');
        assert_eq!(slots.remove(first), Some('a'));
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        let second = slots.insert('b');
        assert_ne!(first, second);
        slots.cool();
        slots.reported();
        assert_eq!(slots.insert('x'), ConnId(2));
        slots.cool();
        assert_eq!(slots.insert('c'), first);
        assert_eq!(slots.len(), 3);
        assert_eq!(slots.get(ConnId(9)), None);
    }
}
