//! A stream's blocks in order, found by their first IDs.
//!
//! The last block, to which entries are added, stands by itself: most streams are read and written at their end. The others lie in chunks of up to
//! 64, the chunks in a ring: so no step moves more than a chunk or the list of chunks, which has one word in some 6,400 entries.
//!
//! Invariants: first IDs ascend; no chunk is empty; there is a last block if there is any; `count` is the number of blocks.

use super::block::Block;
use super::id::StreamId;
use crate::memory::block_of;
use std::collections::VecDeque;

const CHUNK: usize = 64;

#[derive(Debug)]
struct Chunk {
    /// The first ID of its first block.
    first: StreamId,
    blocks: Vec<Block>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Blocks {
    chunks: VecDeque<Chunk>,
    last: Option<Block>,
    count: usize,
}

/// Where a block is. Void after a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of chunks for the last block.
    chunk: usize,
    index: usize,
}

impl Blocks {
    pub fn len(&self) -> usize {
        self.count
    }

    #[inline]
    pub fn last_mut(&mut self) -> Option<&mut Block> {
        self.last.as_mut()
    }
    #[inline]
    pub fn first_place(&self) -> Option<Place> {
        self.last.as_ref().map(|_| Place { chunk: 0, index: 0 })
    }
    #[inline]
    pub fn last_place(&self) -> Option<Place> {
        self.last.as_ref().map(|_| self.end_place())
    }
    fn end_place(&self) -> Place {
        Place {
            chunk: self.chunks.len(),
            index: 0,
        }
    }
    #[inline]
    pub fn get(&self, place: Place) -> Option<&Block> {
        match self.chunks.get(place.chunk) {
            Some(chunk) => chunk.blocks.get(place.index),
            None => self.last.as_ref(),
        }
    }
    pub fn get_mut(&mut self, place: Place) -> Option<&mut Block> {
        match self.chunks.get_mut(place.chunk) {
            Some(chunk) => chunk.blocks.get_mut(place.index),
            None => self.last.as_mut(),
        }
    }
    pub fn next(&self, place: Place) -> Option<Place> {
        let chunk = self.chunks.get(place.chunk)?;
        Some(if place.index + 1 < chunk.blocks.len() {
            Place {
                chunk: place.chunk,
                index: place.index + 1,
            }
        } else {
            Place {
                chunk: place.chunk + 1,
                index: 0,
            }
        })
    }
    /// This place, or where none is, the first of the next chunk: what followed a block that was removed here.
    pub fn at_or_after(&self, place: Place) -> Option<Place> {
        let last = self.last.as_ref().map(|_| self.chunks.len())?;
        match self.chunks.get(place.chunk) {
            Some(chunk) if place.index < chunk.blocks.len() => Some(place),
            Some(_) => Some(Place {
                chunk: place.chunk + 1,
                index: 0,
            }),
            None => (place.chunk == last && place.index == 0).then_some(place),
        }
    }
    pub fn prev(&self, place: Place) -> Option<Place> {
        if place.index > 0 {
            return Some(Place {
                chunk: place.chunk,
                index: place.index - 1,
            });
        }
        let chunk = place.chunk.checked_sub(1)?;
        Some(Place {
            chunk,
            index: self.chunks[chunk].blocks.len() - 1,
        })
    }
    /// The last block that begins at or before `id`.
    #[inline]
    pub fn find(&self, id: StreamId) -> Option<Place> {
        if self.last.as_ref()?.first() <= id {
            return self.last_place();
        }
        let chunk = self
            .chunks
            .partition_point(|chunk| chunk.first <= id)
            .checked_sub(1)?;
        let index = self.chunks[chunk]
            .blocks
            .partition_point(|block| block.first() <= id)
            .checked_sub(1)?;
        Some(Place { chunk, index })
    }

    /// Adds a block behind all others.
    pub fn push(&mut self, block: Block) {
        self.count += 1;
        let Some(mut before) = self.last.replace(block) else {
            return;
        };
        before.close();
        match self.chunks.back_mut() {
            Some(chunk) if chunk.blocks.len() < CHUNK => chunk.blocks.push(before),
            _ => self.chunks.push_back(Chunk {
                first: before.first(),
                blocks: vec![before],
            }),
        }
    }
    pub fn remove(&mut self, place: Place) -> Option<Block> {
        if place.chunk == self.chunks.len() {
            let removed = self.last.take()?;
            self.count -= 1;
            if let Some(chunk) = self.chunks.back_mut() {
                self.last = chunk.blocks.pop();
                if chunk.blocks.is_empty() {
                    self.chunks.pop_back();
                }
            }
            return Some(removed);
        }
        let chunk = self.chunks.get_mut(place.chunk)?;
        if place.index >= chunk.blocks.len() {
            return None;
        }
        self.count -= 1;
        let removed = chunk.blocks.remove(place.index);
        match chunk.blocks.first() {
            Some(block) => chunk.first = block.first(),
            None => {
                self.chunks.remove(place.chunk);
            }
        }
        Some(removed)
    }
    /// Drops up to `budget` blocks, the newest first; returns how many.
    pub fn free_some(&mut self, budget: usize) -> usize {
        let mut freed = 0;
        while freed < budget
            && let Some(place) = self.last_place()
        {
            self.remove(place);
            freed += 1;
        }
        freed
    }

    pub fn iter(&self) -> impl Iterator<Item = &Block> {
        self.chunks
            .iter()
            .flat_map(|chunk| &chunk.blocks)
            .chain(&self.last)
    }
    /// Bytes of the blocks and of what finds them.
    pub fn memory(&self) -> usize {
        let chunks: usize = self
            .chunks
            .iter()
            .map(|chunk| block_of(chunk.blocks.capacity() * size_of::<Block>()))
            .sum();
        let bytes: usize = self.iter().map(|block| block_of(block.capacity())).sum();
        block_of(self.chunks.capacity() * size_of::<Chunk>()) + chunks + bytes
    }
    pub fn duplicate(&self) -> Self {
        let chunks = self.chunks.iter().map(|chunk| Chunk {
            first: chunk.first,
            blocks: chunk.blocks.iter().map(Block::duplicate).collect(),
        });
        Self {
            chunks: chunks.collect(),
            last: self.last.as_ref().map(Block::duplicate),
            count: self.count,
        }
    }

    /// Checks what the module's head promises.
    pub fn check_invariants(&self) {
        assert_eq!(self.count, self.iter().count());
        assert!(self.last.is_some() || self.chunks.is_empty());
        for chunk in &self.chunks {
            assert_eq!(Some(chunk.first), chunk.blocks.first().map(Block::first));
            assert!(chunk.blocks.len() <= CHUNK);
        }
        let mut before: Option<&Block> = None;
        for block in self.iter() {
            block.check_invariants();
            assert!(before.is_none_or(|before| before.last_live() < Some(block.first())));
            assert!(before.is_none_or(|before| before.first() < block.first()));
            before = Some(block);
        }
    }
}
