//! Walking a quicklist, forward and backward.

use super::node::Node;
use super::{Item, List, Place};

impl List {
    /// The elements from an index on.
    pub fn iter_from(&self, index: usize) -> Iter<'_> {
        let mut iter = Iter {
            list: self,
            node: None,
            place: Place {
                chunk: 0,
                node: 0,
                at: 0,
                index: 0,
            },
        };
        if let Some(place) = self.place(index) {
            iter.node = Some(&self.chunks[place.chunk].nodes[place.node]);
            iter.place = place;
        }
        iter
    }
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(0)
    }
    /// The elements from an index backward.
    pub fn iter_back_from(&self, index: usize) -> RevIter<'_> {
        RevIter {
            list: self,
            next: self.place(index),
        }
    }
}

/// See [`List::iter_from`].
pub struct Iter<'a> {
    list: &'a List,
    node: Option<&'a Node>,
    place: Place,
}

impl<'a> Iter<'a> {
    /// The next element with its place.
    #[inline]
    pub fn next_placed(&mut self) -> Option<(Place, Item<'a>)> {
        let node = self.node?;
        let place = self.place;
        let (item, next) = node.read(place.at);
        self.place.at = next;
        self.place.index += 1;
        if next >= node.end() {
            self.next_node();
        }
        Some((place, item))
    }
    #[cold]
    fn next_node(&mut self) {
        let place = &mut self.place;
        (place.at, place.index) = (0, 0);
        place.node += 1;
        let chunks = &self.list.chunks;
        if place.node >= chunks[place.chunk].nodes.len() {
            place.chunk += 1;
            place.node = 0;
        }
        self.node = chunks.get(place.chunk).map(|c| &c.nodes[place.node]);
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;
    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        self.next_placed().map(|(_, item)| item)
    }
}

/// See [`List::iter_back_from`].
pub struct RevIter<'a> {
    list: &'a List,
    next: Option<Place>,
}

impl<'a> Iterator for RevIter<'a> {
    type Item = Item<'a>;
    fn next(&mut self) -> Option<Item<'a>> {
        let place = self.next?;
        let chunks = &self.list.chunks;
        let node = &chunks[place.chunk].nodes[place.node];
        let (item, _) = node.read(place.at);
        self.next = if place.index > 0 {
            Some(Place {
                at: node.before(place.at),
                index: place.index - 1,
                ..place
            })
        } else {
            let before = if place.node > 0 {
                Some((place.chunk, place.node - 1))
            } else {
                let chunk = place.chunk.checked_sub(1);
                chunk.map(|chunk| (chunk, chunks[chunk].nodes.len() - 1))
            };
            before.map(|(chunk, at)| {
                let node = &chunks[chunk].nodes[at];
                Place {
                    chunk,
                    node: at,
                    at: node.before(node.end()),
                    index: node.count() - 1,
                }
            })
        };
        Some(item)
    }
}
