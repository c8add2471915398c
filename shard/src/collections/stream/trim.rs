//! Removing the oldest entries.

use super::{References, Stream, StreamId};

/// What stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// So many entries, the newest.
    Length(u64),
    /// Entries with at least this ID.
    Id(StreamId),
}

/// What to remove, and how.
#[derive(Clone, Copy, Debug)]
pub struct Trim {
    pub threshold: Threshold,
    /// Only whole blocks go.
    pub approximate: bool,
    /// Most entries to remove; 0: any number.
    pub limit: u64,
    pub references: References,
}

impl Stream {
    /// True if [`Stream::trim`] would remove more entries than that, roughly.
    pub fn trims_more_than(&self, trim: &Trim, most: u64) -> bool {
        if trim.limit > 0 && trim.limit <= most {
            return false;
        }
        let before = match trim.threshold {
            Threshold::Length(length) => return self.len.saturating_sub(length) > most,
            Threshold::Id(id) => id,
        };
        let (mut count, mut place) = (0, self.blocks.first_place());
        while let Some(here) = place
            && let Some(block) = self.blocks.get(here)
            && block.last() < before
            && count <= most
        {
            count += block.counts().0;
            place = self.blocks.next(here);
        }
        count > most
    }

    /// Removes the oldest entries; returns how many.
    pub fn trim(&mut self, trim: &Trim) -> u64 {
        let mut removed = 0;
        let mut place = self.blocks.first_place();
        while let Some(here) = place {
            let Some(block) = self.blocks.get(here) else {
                break;
            };
            if let Threshold::Length(length) = trim.threshold
                && self.len <= length
            {
                break;
            }
            let (live, _) = block.counts();
            if trim.limit > 0 && removed + live > trim.limit {
                break;
            }
            let whole = match trim.threshold {
                Threshold::Length(length) => self.len - live >= length,
                // Redis looks at the last entry, deleted or not, when it chooses whole blocks.
                Threshold::Id(id) if trim.approximate => block.last() < id,
                Threshold::Id(id) => block.last_live() < Some(id),
            };
            if whole && trim.references == References::Keep {
                self.blocks.remove(here);
                self.len -= live;
                removed += live;
                // What followed is at the same place, or first in the next chunk, which is there now.
                place = self.blocks.first_place();
                continue;
            }
            if !whole && trim.approximate {
                break;
            }
            let gone = self.trim_inside(here, trim);
            removed += gone;
            if !whole {
                break;
            }
            place = if gone == live {
                // All blocks before this one hold entries that stay: the place is now the next one's, if it did not end a chunk.
                self.blocks.at_or_after(here)
            } else {
                self.blocks.next(here)
            };
        }
        if removed > 0 {
            self.settle();
        }
        removed
    }

    /// Removes entries of one block, one after the other; the block too if none is left.
    fn trim_inside(&mut self, place: super::blocks::Place, trim: &Trim) -> u64 {
        let Some(block) = self.blocks.get(place) else {
            return 0;
        };
        let head = block.head();
        let mut gone = Vec::new();
        let mut at = head.entries_at;
        while at < block.end() {
            let found = block.at(&head, at);
            let enough = match trim.threshold {
                Threshold::Length(length) => self.len - gone.len() as u64 <= length,
                Threshold::Id(id) => found.id >= id && !found.deleted,
            };
            if enough {
                break;
            }
            if !found.deleted
                && (trim.references != References::Acked || !self.is_referenced(found.id))
            {
                gone.push(found);
            }
            at = block.after(&found);
        }
        if trim.references == References::Delete {
            for found in &gone {
                self.drop_references(found.id);
            }
        }
        let count = gone.len() as u64;
        self.len -= count;
        if count == head.live {
            self.blocks.remove(place);
        } else if let Some(block) = self.blocks.get_mut(place) {
            for found in &gone {
                block.mark_deleted(found);
            }
            if count > 0 {
                block.count_deleted(count);
            }
        }
        count
    }
}
