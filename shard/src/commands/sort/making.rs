//! A list that is being made from its first element to its last: packed as long as Redis would have it in one node, so that a short
//! one needs no nodes.

use crate::collections::listpack::{self, Item};
use crate::collections::quicklist::{End, Limit, List};
use crate::keyspace::entry::Value;
use crate::object::{Encoding, Object};

pub struct Making {
    packed: listpack::Builder,
    /// Once it is longer: everything.
    large: Option<List>,
    limit: Limit,
}

impl Making {
    pub fn new(limit: Limit) -> Self {
        Self {
            packed: listpack::Builder::default(),
            large: None,
            limit,
        }
    }
    pub fn push(&mut self, item: Item<'_>) {
        if self.large.is_none() {
            if self
                .limit
                .has_room(self.packed.size(), self.packed.len(), item.len())
            {
                self.packed.push(item);
                return;
            }
            let packed = std::mem::take(&mut self.packed).finish();
            self.large = Some(List::from_listpack(&packed, self.limit));
        }
        if let Some(list) = &mut self.large {
            item.with_text(|text| list.push(End::Back, text));
        }
    }
    pub fn len(&self) -> usize {
        match &self.large {
            Some(list) => list.len(),
            None => self.packed.len(),
        }
    }
    pub fn finish(self) -> (Encoding, Value) {
        let Some(list) = self.large else {
            return (Encoding::Listpack, Value::Bytes(self.packed.finish()));
        };
        match list.to_listpack(self.limit, false) {
            Some(lp) => (Encoding::Listpack, Value::Bytes(lp)),
            None => (
                Encoding::Quicklist,
                Value::Object(Box::new(Object::List(list))),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// What comes out is what a list that was large from its first element on would be.
        #[test]
        fn is_as_if_it_had_been_a_list(
            lens in prop::collection::vec(0usize..300, 0..60),
            limit in prop_oneof![Just(-1i64), Just(-2), Just(3), Just(40), Just(128)],
            long in 0usize..10_000,
        ) {
            let limit = Limit::new(limit);
            let mut texts: Vec<Vec<u8>> = lens.iter().map(|len| vec![b'x'; *len]).collect();
            texts.push(vec![b'1'; long.min(15)]);
            texts.insert(texts.len() / 2, vec![b'y'; long]);
            let mut making = Making::new(limit);
            let mut list = List::new(limit);
            for text in &texts {
                making.push(Item::Bytes(text));
                list.push(End::Back, text);
                prop_assert_eq!(making.len(), list.len());
            }
            let nodes = |list: &List| list.nodes().count();
            match (making.finish().1, list.to_listpack(limit, false)) {
                (Value::Bytes(one), Some(other)) => prop_assert_eq!(one, other),
                (Value::Object(object), None) => {
                    let Object::List(one) = *object else { panic!("no list") };
                    one.check_invariants();
                    prop_assert_eq!(nodes(&one), nodes(&list));
                    prop_assert!(one.iter().map(|i| i.to_cow().into_owned()).eq(texts));
                }
                _ => prop_assert!(false, "packed or not"),
            }
        }
    }
}
