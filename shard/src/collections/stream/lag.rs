//! How far a group has read, as a count of entries: Redis's `entries-read` and `lag`.
//!
//! Entries have no numbers. That of an entry (how many the stream ever had up to it) is known for the last one, and for the first if nothing behind it was
//! deleted out of order; a group counts on from there while it reads, as long as no deleted entry lies ahead of it.

use super::{Group, Stream, StreamId};

impl Stream {
    /// Whether an entry from `start` on was deleted, other than by trimming.
    fn has_gaps_from(&self, start: StreamId) -> bool {
        self.len > 0 && !self.max_deleted_id.is_zero() && start <= self.max_deleted_id
    }
    /// How many entries there ever were up to this ID, where that can be told.
    pub fn number_of(&self, id: StreamId) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if self.len == 0 && id <= self.last_id {
            return Some(self.entries_added);
        }
        if !id.is_zero() && id < self.max_deleted_id {
            return None;
        }
        if id >= self.last_id {
            return (id == self.last_id).then_some(self.entries_added);
        }
        if !self.max_deleted_id.is_zero() && self.max_deleted_id >= self.first_id {
            return None;
        }
        let before_first = self.entries_added.wrapping_sub(self.len);
        match id.cmp(&self.first_id) {
            std::cmp::Ordering::Less => Some(before_first),
            std::cmp::Ordering::Equal => Some(before_first.wrapping_add(1)),
            std::cmp::Ordering::Greater => None,
        }
    }
    /// The `entries-read` of a group of which `id`, above its last, is delivered now.
    pub fn entries_read_after(&self, group: &Group, id: StreamId) -> Option<u64> {
        match group.entries_read {
            Some(read) if group.last_id >= self.first_id && !self.has_gaps_from(group.last_id) => {
                Some(read.wrapping_add(1))
            }
            _ if self.entries_added > 0 => self.number_of(id),
            read => read,
        }
    }
    /// Entries that the group has not read yet, if that can be told.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        if self.entries_added == 0 || self.len == 0 {
            return Some(0);
        }
        if group.last_id < self.first_id && self.max_deleted_id < self.first_id {
            return Some(self.len as i64);
        }
        let read = match group.entries_read {
            Some(read) if !self.has_gaps_from(group.last_id) => read,
            _ => self.number_of(group.last_id)?,
        };
        Some((self.entries_added as i64).wrapping_sub(read as i64))
    }
}
