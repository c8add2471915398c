//! Streams: entries of fields and values under ascending IDs, and the groups that read them.
//!
//! Entries lie in [`block`]s of consecutive ones, at most `stream-node-max-entries` or `stream-node-max-bytes` each, as in Redis, so that
//! approximate trimming removes the same entries and a file holds the same bytes; [`blocks`] finds them. A [`group`] knows what was delivered
//! to whom.
//!
//! Invariants: `len` is the number of live entries, `first_id` the first one's ID (0-0: none); no live entry is above `last_id`, which never falls
//! but by [`Stream::set_last_id`]. Live entries are in order; after that a deleted one may be above those behind it, in Redis too.

mod block;
mod blocks;
mod free;
mod group;
mod id;
mod lag;
mod range;
#[cfg(test)]
mod tests;
mod trim;

pub use block::{Block, Entry};
use blocks::Blocks;
pub use group::{Consumer, ConsumerId, Group, Pending};
pub use id::{IdText, NewId, StreamId};
pub use range::Range;
use std::collections::BTreeMap;
pub use trim::{Threshold, Trim};

/// Redis's limit for the fields and values of one entry in all, and for a block.
pub const ENTRY_BYTES_MAX: usize = 1 << 30;

/// When a block is full.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// 0: none but [`ENTRY_BYTES_MAX`].
    pub block_bytes_max: usize,
    /// 0: none.
    pub block_entries_max: usize,
}

/// What becomes of the groups' references to a deleted entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum References {
    /// They stay.
    #[default]
    Keep,
    /// They go.
    Delete,
    /// An entry with any is not deleted.
    Acked,
}

/// What [`Stream::delete_with`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    Missing,
    Done,
    /// It is not acknowledged by all groups.
    Referenced,
}

/// What a stream knows beside its blocks and groups.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    pub last_id: StreamId,
    pub max_deleted_id: StreamId,
    pub entries_added: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Stream {
    blocks: Blocks,
    len: u64,
    last_id: StreamId,
    first_id: StreamId,
    max_deleted_id: StreamId,
    entries_added: u64,
    groups: BTreeMap<Box<[u8]>, Group>,
}

impl Stream {
    pub fn new() -> Self {
        Self::default()
    }
    /// A stream of blocks from outside. `None` if they are not in order, or above `last_id`.
    pub fn from_blocks(blocks: Vec<Block>, totals: Totals) -> Option<Self> {
        let mut stream = Self {
            last_id: totals.last_id,
            max_deleted_id: totals.max_deleted_id,
            entries_added: totals.entries_added,
            ..Self::default()
        };
        let (mut first, mut last) = (None, None);
        for block in blocks {
            // Each begins above the one before; a deleted entry there may be above it, by XSETID.
            let below = |before: Option<StreamId>| before.is_some_and(|id| block.first() <= id);
            if below(first) || below(last) {
                return None;
            }
            (first, last) = (Some(block.first()), block.last_live());
            stream.len += block.counts().0;
            stream.blocks.push(block);
        }
        stream.settle();
        let in_order = stream.last_live_id() <= Some(totals.last_id);
        in_order.then_some(stream)
    }
    #[inline]
    pub fn len(&self) -> u64 {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// The ID given out last.
    #[inline]
    pub fn last_id(&self) -> StreamId {
        self.last_id
    }
    /// The first entry's ID; 0-0 if there is none.
    pub fn first_id(&self) -> StreamId {
        self.first_id
    }
    /// The greatest ID that was deleted, other than by trimming.
    pub fn max_deleted_id(&self) -> StreamId {
        self.max_deleted_id
    }
    /// Entries that it ever had.
    pub fn entries_added(&self) -> u64 {
        self.entries_added
    }
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }
    /// The blocks in order, to be written to a file as they are.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter()
    }

    // ---- entries ----

    /// Adds an entry of fields and values in turn, `bytes` long in all, whose ID is above the last.
    #[inline]
    pub fn add(&mut self, id: StreamId, pairs: &[&[u8]], bytes: usize, limits: Limits) {
        debug_assert!(id > self.last_id && pairs.len() >= 2 && pairs.len().is_multiple_of(2));
        // An element has at most 10 bytes around its own, of which most have 2; an entry up to 6 elements more.
        let room = bytes + 10 * (pairs.len() + 6);
        let block = match self.blocks.last_mut() {
            Some(block) if !is_full(block, bytes, limits) => block,
            // Blocks of one stream are mostly alike: with the last one's size in advance this one need not be moved while it grows.
            before => {
                let capacity = before.map_or(0, |before| before.bytes().len());
                self.blocks.push(Block::new(id, pairs, capacity.max(room)));
                let block = self.blocks.last_mut();
                block.expect("added just now")
            }
        };
        block.append(id, pairs, room);
        self.len += 1;
        self.entries_added += 1;
        self.last_id = id;
        if self.len == 1 {
            self.first_id = id;
        }
    }

    /// The entries between two IDs, both included.
    #[inline]
    pub fn range(&self, start: StreamId, end: StreamId, reverse: bool) -> Range<'_> {
        Range::new(&self.blocks, start, end, reverse)
    }
    /// True if there are more entries than that in a range, give or take those of its first and last block.
    pub fn range_exceeds(&self, start: StreamId, end: StreamId, most: u64) -> bool {
        self.len > most && self.range_len_within(start, end, most).is_none()
    }
    /// About how many entries a range has, none forgotten; `None` if that is more than `most`.
    pub fn range_len_within(&self, start: StreamId, end: StreamId, most: u64) -> Option<u64> {
        if start > end {
            return Some(0);
        }
        let first = self.blocks.find(start);
        let (mut count, mut place) = (0, first.or_else(|| self.blocks.first_place()));
        while let Some(here) = place
            && let Some(block) = self.blocks.get(here)
            && block.first() <= end
            && count <= most
        {
            count += block.counts().0;
            place = self.blocks.next(here);
        }
        (count <= most).then_some(count)
    }
    pub fn entry(&self, id: StreamId) -> Option<Entry<'_>> {
        let block = self.blocks.get(self.blocks.find(id)?)?;
        let head = block.head();
        let found = block.find(&head, id)?;
        Some(block.entry(&head, &found))
    }
    pub fn contains(&self, id: StreamId) -> bool {
        self.entry(id).is_some()
    }
    /// The ID of the last entry that is there.
    #[inline]
    pub fn last_live_id(&self) -> Option<StreamId> {
        let mut all = self.range(StreamId::MIN, StreamId::MAX, true);
        all.next().map(|entry| entry.id)
    }

    /// Deletes an entry, and treats the groups' references as said. [`Stream::settle`] must follow.
    pub fn delete_with(&mut self, id: StreamId, references: References) -> Deletion {
        match references {
            References::Acked if self.is_referenced(id) => return Deletion::Referenced,
            References::Delete => self.drop_references(id),
            _ => {}
        }
        if self.delete(id) {
            Deletion::Done
        } else {
            Deletion::Missing
        }
    }
    /// Deletes an entry. [`Stream::settle`] must follow.
    pub fn delete(&mut self, id: StreamId) -> bool {
        let Some(place) = self.blocks.find(id) else {
            return false;
        };
        let Some(block) = self.blocks.get_mut(place) else {
            return false;
        };
        let head = block.head();
        let Some(found) = block.find(&head, id) else {
            return false;
        };
        if head.live == 1 {
            self.blocks.remove(place);
        } else {
            block.mark_deleted(&found);
            block.count_deleted(1);
        }
        self.len -= 1;
        self.max_deleted_id = self.max_deleted_id.max(id);
        true
    }
    /// Finds out what the first entry is after deletions.
    pub fn settle(&mut self) {
        let first = self.range(self.first_id, StreamId::MAX, false).next();
        self.first_id = first.map_or(StreamId::MIN, |entry| entry.id);
    }

    /// Sets what XSETID sets.
    pub fn set_last_id(
        &mut self,
        last_id: StreamId,
        entries_added: Option<u64>,
        max_deleted_id: Option<StreamId>,
    ) {
        self.last_id = last_id;
        if let Some(added) = entries_added {
            self.entries_added = added;
        }
        if let Some(id) = max_deleted_id {
            self.max_deleted_id = id;
        }
    }

    // ---- groups ----

    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(name, group)| (&**name, group))
    }
    #[inline]
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name)
    }
    #[inline]
    pub fn group_mut(&mut self, name: &[u8]) -> Option<&mut Group> {
        self.groups.get_mut(name)
    }
    /// Adds a group. False: there is one of this name.
    pub fn add_group(&mut self, name: &[u8], group: Group) -> bool {
        if self.groups.contains_key(name) {
            return false;
        }
        self.groups.insert(name.into(), group);
        true
    }
    pub fn remove_group(&mut self, name: &[u8]) -> Option<Group> {
        self.groups.remove(name)
    }
    /// True if a group has not read the entry yet, or has not acknowledged it.
    pub fn is_referenced(&self, id: StreamId) -> bool {
        self.groups
            .values()
            .any(|group| group.last_id < id || group.pending().contains_key(&id))
    }
    /// Takes an entry off all groups' pending ones.
    pub fn drop_references(&mut self, id: StreamId) {
        for group in self.groups.values_mut() {
            group.acknowledge(id);
        }
    }

    /// Checks what the module's head promises.
    pub fn check_invariants(&self) {
        self.blocks.check_invariants();
        let live: u64 = self.blocks.iter().map(|block| block.counts().0).sum();
        assert_eq!(self.len, live);
        let mut all = self.range(StreamId::MIN, StreamId::MAX, false);
        let first = all.next().map_or(StreamId::MIN, |entry| entry.id);
        assert_eq!(self.first_id, first);
        assert!(self.last_live_id().is_none_or(|last| last <= self.last_id));
        for group in self.groups.values() {
            group.check_invariants();
        }
    }
}

/// Whether an entry of so many bytes belongs into a new block.
#[inline]
fn is_full(block: &Block, more: usize, limits: Limits) -> bool {
    let bytes_max = match limits.block_bytes_max {
        0 => ENTRY_BYTES_MAX,
        limit => limit.min(ENTRY_BYTES_MAX),
    };
    if block.bytes().len() + more >= bytes_max {
        return true;
    }
    if limits.block_entries_max == 0 {
        return false;
    }
    let (live, deleted) = block.counts();
    live + deleted >= limits.block_entries_max as u64
}
