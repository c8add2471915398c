//! A large list: nodes of packed elements, in chunks.
//!
//! ```text
//! List ─ chunks: [ Chunk │ Chunk │ … ]        up to 64 nodes each, with the sum of their elements
//!                    └ nodes: [ Node │ Node │ … ]   see `node`
//! ```
//! Finding an element by its index adds up counts of chunks, then of nodes, then steps over elements; nothing ever moves more than one
//! node's bytes, one chunk's nodes, or the short array of chunks.
//!
//! Where nodes begin and end follows Redis's rules for its own (which node takes a new element, what is split and what merged), since that
//! decides when OBJECT ENCODING goes back to listpack.
//!
//! Invariants: no node and no chunk is empty; counts are the sums of what is below.

mod iter;
mod node;
#[cfg(test)]
mod tests;

use super::listpack::{self, Encoded, Item, Needle};
use crate::object::Body;
pub use iter::{Iter, RevIter};
pub use node::{End, Limit, NodeRef, PackedNode};
use node::{LISTPACK_OVERHEAD, Node, PACKED_MAX};
use std::collections::VecDeque;

const CHUNK_NODES: usize = 64;

#[derive(Clone, Debug, Default)]
struct Chunk {
    nodes: VecDeque<Node>,
    count: usize,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct List {
    chunks: VecDeque<Chunk>,
    len: usize,
    limit: Limit,
}

/// An element's place. Void after any change.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    chunk: usize,
    node: usize,
    /// Offset in the node, and index there.
    at: usize,
    index: usize,
}

impl List {
    pub fn new(limit: Limit) -> Self {
        Self {
            chunks: VecDeque::new(),
            len: 0,
            limit,
        }
    }
    /// A list of a listpack's elements: one node, as in Redis.
    pub fn from_listpack(lp: &[u8], limit: Limit) -> Self {
        let mut list = Self::new(limit);
        list.append_listpack(lp);
        list
    }
    /// Appends a listpack's elements, as one node if they fit in one.
    pub fn append_listpack(&mut self, lp: &[u8]) {
        let data = &lp[listpack::HEADER..listpack::end(lp)];
        if data.is_empty() {
            return;
        }
        if data.len() <= PACKED_MAX {
            self.insert_node(self.node_count(), Node::packed(data, listpack::len(lp)));
        } else {
            for (_, item) in listpack::iter(lp) {
                item.with_text(|text| self.push(End::Back, text));
            }
        }
    }
    /// Appends a node with one element.
    pub fn append_plain(&mut self, value: &[u8]) {
        self.insert_node(self.node_count(), Node::plain(value));
    }
    /// The nodes in order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeRef<'_>> {
        self.nodes_from(0)
    }
    /// The nodes in order from one on, by its number.
    pub fn nodes_from(&self, number: usize) -> impl Iterator<Item = NodeRef<'_>> {
        let (chunk, at) = self.locate(number).unwrap_or((self.chunks.len(), 0));
        let nodes = self.chunks.range(chunk..).flat_map(|chunk| &chunk.nodes);
        nodes.skip(at).map(Node::to_ref)
    }
    /// The elements as a listpack, if they lie in one packed node that is within the limit. `shrinking`: within half of it.
    pub fn to_listpack(&self, limit: Limit, shrinking: bool) -> Option<Vec<u8>> {
        let [chunk] = self.chunks.as_slices().0 else {
            return None;
        };
        if self.chunks.len() != 1 || chunk.nodes.len() != 1 || chunk.nodes[0].is_plain() {
            return None;
        }
        let node = &chunk.nodes[0];
        let divisor = if shrinking { 2 } else { 1 };
        let fits = match limit {
            Limit::Bytes(max) => node.counted_bytes() <= max / divisor,
            Limit::Count(max) => self.len <= max / divisor,
        };
        if !fits {
            return None;
        }
        let mut lp = Vec::with_capacity(node.data().len() + LISTPACK_OVERHEAD);
        node.append_listpack(&mut lp);
        Some(lp)
    }
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    // ---- nodes by their number ----

    pub fn node_count(&self) -> usize {
        self.chunks.iter().map(|c| c.nodes.len()).sum()
    }
    /// Chunk and index in it of a node by its number.
    fn locate(&self, mut number: usize) -> Option<(usize, usize)> {
        for (i, chunk) in self.chunks.iter().enumerate() {
            if number < chunk.nodes.len() {
                return Some((i, number));
            }
            number -= chunk.nodes.len();
        }
        None
    }
    fn number(&self, place: Place) -> usize {
        let before = self.chunks.iter().take(place.chunk);
        before.map(|c| c.nodes.len()).sum::<usize>() + place.node
    }
    fn node(&self, number: usize) -> Option<&Node> {
        let (chunk, node) = self.locate(number)?;
        Some(&self.chunks[chunk].nodes[node])
    }
    /// Changes a node, and the counts by what its count changed.
    fn with_node<R>(&mut self, number: usize, change: impl FnOnce(&mut Node) -> R) -> R {
        let (chunk, node) = self.locate(number).expect("a node's number");
        let chunk = &mut self.chunks[chunk];
        let node = &mut chunk.nodes[node];
        let before = node.count();
        let result = change(node);
        let after = node.count();
        chunk.count = chunk.count + after - before;
        self.len = self.len + after - before;
        result
    }
    /// Inserts a node before the one with this number, or at the end.
    fn insert_node(&mut self, number: usize, node: Node) {
        let (mut chunk, mut at) = match self.locate(number) {
            // At a chunk's start: rather at the end of the one before.
            Some((chunk, 0)) if chunk > 0 => (chunk - 1, self.chunks[chunk - 1].nodes.len()),
            Some(found) => found,
            None if self.chunks.is_empty() => {
                self.chunks.push_back(Chunk::default());
                (0, 0)
            }
            None => {
                let last = self.chunks.len() - 1;
                (last, self.chunks[last].nodes.len())
            }
        };
        let full = &mut self.chunks[chunk];
        if full.nodes.len() == CHUNK_NODES {
            let mut nodes = VecDeque::with_capacity(CHUNK_NODES);
            if at == CHUNK_NODES {
                chunk += 1;
                at = 0;
                self.chunks.insert(chunk, Chunk { nodes, count: 0 });
            } else if at == 0 {
                self.chunks.insert(chunk, Chunk { nodes, count: 0 });
            } else {
                nodes.extend(full.nodes.drain(CHUNK_NODES / 2..));
                let count = nodes.iter().map(Node::count).sum();
                full.count -= count;
                self.chunks.insert(chunk + 1, Chunk { nodes, count });
                if at > CHUNK_NODES / 2 {
                    chunk += 1;
                    at -= CHUNK_NODES / 2;
                }
            }
        }
        let chunk = &mut self.chunks[chunk];
        chunk.count += node.count();
        self.len += node.count();
        chunk.nodes.insert(at, node);
    }
    fn remove_node(&mut self, number: usize) -> Node {
        let (at, node) = self.locate(number).expect("a node's number");
        let chunk = &mut self.chunks[at];
        let node = chunk.nodes.remove(node).expect("located just now");
        chunk.count -= node.count();
        self.len -= node.count();
        if chunk.nodes.is_empty() {
            self.chunks.remove(at);
        } else if at + 1 < self.chunks.len()
            && self.chunks[at].nodes.len() + self.chunks[at + 1].nodes.len() <= CHUNK_NODES / 2
        {
            // Chunks that removals made small are joined.
            let next = self.chunks.remove(at + 1).expect("checked just now");
            let chunk = &mut self.chunks[at];
            chunk.nodes.extend(next.nodes);
            chunk.count += next.count;
        }
        node
    }

    // ---- ends ----

    #[inline]
    fn end_node_mut(&mut self, end: End) -> Option<(&mut Chunk, usize)> {
        let (chunk, at) = match end {
            End::Front => (self.chunks.front_mut()?, 0),
            End::Back => {
                let chunk = self.chunks.back_mut()?;
                let last = chunk.nodes.len() - 1;
                (chunk, last)
            }
        };
        Some((chunk, at))
    }

    pub fn push(&mut self, end: End, value: &[u8]) {
        let limit = self.limit;
        if let Some((chunk, at)) = self.end_node_mut(end) {
            let node = &mut chunk.nodes[at];
            if node.has_room(limit, value.len()) {
                node.push(end, &Encoded::new(value));
                chunk.count += 1;
                self.len += 1;
                return;
            }
        }
        self.push_node(end, value);
    }
    #[cold]
    fn push_node(&mut self, end: End, value: &[u8]) {
        if let Some((chunk, at)) = self.end_node_mut(end) {
            chunk.nodes[at].shrink();
        }
        let number = match end {
            End::Front => 0,
            End::Back => self.node_count(),
        };
        let filled_from = match end {
            End::Front => End::Back,
            End::Back => End::Front,
        };
        let node = self.node_of(value, filled_from);
        self.insert_node(number, node);
    }
    /// A node with one element.
    fn node_of(&self, value: &[u8], filled_from: End) -> Node {
        if self.limit.is_large(value.len()) {
            return Node::plain(value);
        }
        let mut node = Node::new(self.limit, filled_from);
        let end = match filled_from {
            End::Front => End::Back,
            End::Back => End::Front,
        };
        node.push(end, &Encoded::new(value));
        node
    }

    /// The first or last element.
    pub fn peek(&self, end: End) -> Option<Item<'_>> {
        match end {
            End::Front => {
                let node = self.chunks.front()?.nodes.front()?;
                Some(node.read(0).0)
            }
            End::Back => {
                let node = self.chunks.back()?.nodes.back()?;
                Some(node.read(node.before(node.end())).0)
            }
        }
    }
    /// Removes the first or last element, which `f` sees. False when there is none.
    #[inline]
    pub fn pop(&mut self, end: End, f: impl FnOnce(Item<'_>)) -> bool {
        let Some((chunk, at)) = self.end_node_mut(end) else {
            return false;
        };
        let node = &mut chunk.nodes[at];
        let from = match end {
            End::Front => 0,
            End::Back => node.before(node.end()),
        };
        let (item, next) = node.read(from);
        f(item);
        if node.count() > 1 {
            match end {
                End::Front => node.drop_front(next, 1),
                End::Back => node.drop_back(from, 1),
            }
            chunk.count -= 1;
            self.len -= 1;
        } else {
            let last = self.node_count() - 1;
            self.remove_node(if end == End::Front { 0 } else { last });
        }
        true
    }

    // ---- elements by index or place ----

    /// The place of an element by its index.
    pub fn place(&self, index: usize) -> Option<Place> {
        if index >= self.len {
            return None;
        }
        let mut before = 0;
        let mut number = 0;
        if index < self.len / 2 {
            while before + self.chunks[number].count <= index {
                before += self.chunks[number].count;
                number += 1;
            }
        } else {
            number = self.chunks.len() - 1;
            before = self.len - self.chunks[number].count;
            while before > index {
                number -= 1;
                before -= self.chunks[number].count;
            }
        }
        let chunk = &self.chunks[number];
        let (mut left, mut at) = (index - before, 0);
        while left >= chunk.nodes[at].count() {
            left -= chunk.nodes[at].count();
            at += 1;
        }
        Some(Place {
            chunk: number,
            node: at,
            at: chunk.nodes[at].offset(left),
            index: left,
        })
    }
    pub fn get(&self, index: usize) -> Option<Item<'_>> {
        let place = self.place(index)?;
        let node = &self.chunks[place.chunk].nodes[place.node];
        Some(node.read(place.at).0)
    }

    /// Inserts a value before or after an element.
    pub fn insert(&mut self, place: Place, value: &[u8], after: bool) {
        let limit = self.limit;
        let number = self.number(place);
        let node = &self.chunks[place.chunk].nodes[place.node];
        let full = !node.has_room(limit, value.len());
        let at_edge = place.index == if after { node.count() - 1 } else { 0 };
        let plain = node.is_plain();
        let (cut, index) = if after {
            (node.read(place.at).1, place.index + 1)
        } else {
            (place.at, place.index)
        };
        if limit.is_large(value.len()) {
            let mut to = number + usize::from(after);
            if !plain && !at_edge {
                self.split(number, cut, index);
                to = number + 1;
            }
            self.insert_node(to, Node::plain(value));
            return;
        }
        let element = Encoded::new(value);
        if !full {
            self.with_node(number, |node| node.splice(cut, 0, 0, Some(&element)));
            return;
        }
        if at_edge {
            let neighbour = if after {
                Some(number + 1)
            } else {
                number.checked_sub(1)
            };
            let end = if after { End::Front } else { End::Back };
            if let Some(neighbour) = neighbour
                && let Some(node) = self.node(neighbour)
                && node.has_room(limit, value.len())
            {
                self.with_node(neighbour, |node| node.push(end, &element));
                return;
            }
            let node = self.node_of(value, if after { End::Front } else { End::Back });
            self.insert_node(number + usize::from(after), node);
            return;
        }
        // Which half gets the value, and around which one nodes are merged afterwards, is as in Redis.
        self.split(number, cut, index);
        let (half, end) = if after {
            (number + 1, End::Front)
        } else {
            (number, End::Back)
        };
        // Redis lets a half grow past the limit here, and again at the next insert; ours ends at what a node can hold.
        let room = PACKED_MAX - self.node(half).expect("split just now").data().len();
        if element.size() > room {
            let node = self.node_of(value, End::Front);
            self.insert_node(number + 1, node);
            return;
        }
        self.with_node(half, |node| node.push(end, &element));
        self.merge_around(if after { number } else { number + 1 });
    }
    fn split(&mut self, number: usize, at: usize, index: usize) {
        let right = self.with_node(number, |node| node.split_off(at, index));
        self.insert_node(number + 1, right);
    }
    /// Merges a node's neighbours with theirs, and then it with its neighbours, where that is allowed.
    fn merge_around(&mut self, mut centre: usize) {
        if centre >= 2 && self.merge(centre - 2) {
            centre -= 1;
        }
        self.merge(centre + 1);
        if centre >= 1 && self.merge(centre - 1) {
            centre -= 1;
        }
        self.merge(centre);
    }
    /// Merges a node with the next one, if that is allowed.
    fn merge(&mut self, number: usize) -> bool {
        let allowed = match (self.node(number), self.node(number + 1)) {
            (Some(a), Some(b)) => a.may_merge(b, self.limit),
            _ => false,
        };
        if allowed {
            let next = self.remove_node(number + 1);
            self.with_node(number, |node| node.append(&next));
        }
        allowed
    }

    /// Replaces an element.
    pub fn replace(&mut self, place: Place, value: &[u8]) {
        let limit = self.limit;
        let number = self.number(place);
        let node = &self.chunks[place.chunk].nodes[place.node];
        let (large, plain) = (limit.is_large(value.len()), node.is_plain());
        let (_, next) = node.read(place.at);
        if plain && large {
            self.with_node(number, |node| *node = Node::plain(value));
            return;
        }
        if plain {
            self.insert(place, value, true);
            self.remove_node(number);
            return;
        }
        let element = Encoded::new(value);
        let size = next - place.at;
        if !large && node.end() - size + element.size() <= PACKED_MAX {
            self.with_node(number, |node| {
                node.splice(place.at, size, 1, Some(&element));
            });
            return;
        }
        // It gets a node of its own, between what was before and after it.
        let count = node.count();
        if place.index + 1 < count {
            self.split(number, next, place.index + 1);
        }
        let new = self.node_of(value, End::Front);
        self.insert_node(number + 1, new);
        if place.index == 0 {
            self.remove_node(number);
        } else {
            self.with_node(number, |node| node.splice(place.at, size, 1, None));
            self.merge_around(number + 1);
        }
    }

    /// Removes `count` elements from the one with this index on. Whole nodes come back as a list of their own if there are many, for
    /// the caller to free in slices.
    pub fn remove_range(&mut self, index: usize, count: usize) -> Option<Box<Self>> {
        let mut left = count.min(self.len.saturating_sub(index));
        let mut removed = Self::new(self.limit);
        let mut place = if left > 0 {
            self.place(index)?
        } else {
            return None;
        };
        let mut number = self.number(place);
        while left > 0 {
            let node = self.node(number).expect("elements are left");
            let here = (node.count() - place.index).min(left);
            left -= here;
            if here == node.count() {
                let node = self.remove_node(number);
                removed.append_node(node);
            } else {
                let (from, index) = (place.at, place.index);
                self.with_node(number, |node| {
                    let to = if index + here == node.count() {
                        node.end()
                    } else {
                        node.offset(index + here)
                    };
                    node.splice(from, to - from, here, None);
                });
                number += 1;
            }
            (place.at, place.index) = (0, 0);
        }
        (removed.node_count() > CHUNK_NODES).then(|| Box::new(removed))
    }
    fn append_node(&mut self, node: Node) {
        if self
            .chunks
            .back()
            .is_none_or(|c| c.nodes.len() == CHUNK_NODES)
        {
            self.chunks.push_back(Chunk::default());
        }
        let chunk = self.chunks.back_mut().expect("made just now");
        chunk.count += node.count();
        self.len += node.count();
        chunk.nodes.push_back(node);
    }

    /// Removes up to `count` elements equal to `value`, the first or the last ones. Returns how many.
    pub fn remove_equal(&mut self, value: &[u8], count: usize, from: End) -> usize {
        let needle = Needle::new(value);
        let mut removed = 0;
        let mut number = match from {
            End::Front => 0,
            End::Back => self.node_count(),
        };
        while removed < count {
            if from == End::Back {
                if number == 0 {
                    break;
                }
                number -= 1;
            }
            let Some(node) = self.node(number) else { break };
            // The matches' offsets and sizes, back to front: removing one does not move the others before it.
            let mut found: Vec<(usize, usize)> = Vec::new();
            let mut at = 0;
            while at < node.end() {
                let (item, next) = node.read(at);
                if needle.matches(item) {
                    found.push((at, next - at));
                    if from == End::Front && removed + found.len() == count {
                        break;
                    }
                }
                at = next;
            }
            found.reverse();
            found.truncate(count - removed);
            removed += found.len();
            if found.len() == node.count() {
                self.remove_node(number);
                continue;
            }
            if !found.is_empty() {
                self.with_node(number, |node| {
                    for (at, size) in found {
                        node.splice(at, size, 1, None);
                    }
                });
            }
            if from == End::Front {
                number += 1;
            }
        }
        removed
    }

    pub fn check_invariants(&self) {
        let mut len = 0;
        for chunk in &self.chunks {
            assert!((1..=CHUNK_NODES).contains(&chunk.nodes.len()));
            for node in &chunk.nodes {
                node.check_invariants();
                assert!(node.count() > 0, "an empty node");
            }
            assert_eq!(
                chunk.nodes.iter().map(Node::count).sum::<usize>(),
                chunk.count
            );
            len += chunk.count;
        }
        assert_eq!(len, self.len);
    }
}

impl Body for List {
    fn memory(&self) -> usize {
        let chunks = self.chunks.iter();
        self.chunks.capacity() * size_of::<Chunk>()
            + chunks
                .map(|c| {
                    let nodes: usize = c.nodes.iter().map(Node::memory).sum();
                    c.nodes.capacity() * size_of::<Node>() + nodes
                })
                .sum::<usize>()
    }
    fn free_effort(&self) -> usize {
        self.node_count()
    }
    fn free_some(&mut self, budget: usize) -> usize {
        let mut freed = 0;
        while freed < budget {
            let Some(chunk) = self.chunks.back_mut() else {
                break;
            };
            let few = chunk.nodes.len().min(budget - freed);
            chunk.nodes.truncate(chunk.nodes.len() - few);
            freed += few;
            if chunk.nodes.is_empty() {
                self.chunks.pop_back();
            }
        }
        freed
    }
    fn duplicate(&self) -> Self {
        self.clone()
    }
}
