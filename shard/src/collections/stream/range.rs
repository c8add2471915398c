//! Walking a stream's entries in either direction.

use super::block::{Block, Entry, Head};
use super::blocks::{Blocks, Place};
use super::id::StreamId;

/// The live entries of a range of IDs, both ends included, in order or in reverse.
#[derive(Clone, Debug)]
pub struct Range<'a> {
    blocks: &'a Blocks,
    start: StreamId,
    end: StreamId,
    reverse: bool,
    /// The block that is being walked.
    here: Option<Here<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Here<'a> {
    place: Place,
    block: &'a Block,
    head: Head,
    /// Where the next entry begins, or in reverse, ends.
    at: usize,
}

impl<'a> Range<'a> {
    pub(super) fn new(blocks: &'a Blocks, start: StreamId, end: StreamId, reverse: bool) -> Self {
        let place = if start > end {
            None
        } else if reverse {
            blocks.find(end)
        } else {
            blocks.find(start).or_else(|| blocks.first_place())
        };
        let mut range = Self {
            blocks,
            start,
            end,
            reverse,
            here: None,
        };
        range.enter(place);
        range
    }
    fn enter(&mut self, place: Option<Place>) {
        self.here = place.and_then(|place| {
            let block = self.blocks.get(place)?;
            let head = block.head();
            let at = if self.reverse {
                block.end()
            } else {
                head.entries_at
            };
            Some(Here {
                place,
                block,
                head,
                at,
            })
        });
    }
    #[inline]
    fn forward(&mut self) -> Option<Entry<'a>> {
        loop {
            let here = self.here.as_mut()?;
            let Here { block, head, .. } = *here;
            let end = block.end();
            while here.at < end {
                let found = block.at(&head, here.at);
                here.at = block.after(&found);
                if found.deleted {
                    continue;
                }
                if found.id > self.end {
                    self.here = None;
                    return None;
                }
                if found.id >= self.start {
                    return Some(block.entry(&head, &found));
                }
            }
            let next = self.blocks.next(here.place);
            self.enter(next);
        }
    }
    fn backward(&mut self) -> Option<Entry<'a>> {
        loop {
            let here = self.here.as_mut()?;
            let Here { block, head, .. } = *here;
            while let Some(at) = block.before(&head, here.at) {
                let found = block.at(&head, at);
                here.at = at;
                if found.deleted {
                    continue;
                }
                if found.id < self.start {
                    self.here = None;
                    return None;
                }
                if found.id <= self.end {
                    return Some(block.entry(&head, &found));
                }
            }
            let prev = self.blocks.prev(here.place);
            self.enter(prev);
        }
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = Entry<'a>;
    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        if self.reverse {
            self.backward()
        } else {
            self.forward()
        }
    }
}
