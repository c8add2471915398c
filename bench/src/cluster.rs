//! Which node owns a key, by the answer to CLUSTER SLOTS.

use anyhow::{Context, Result, bail};
use ringwood_protocol::slot::{SLOT_COUNT, key_slot};

use crate::conn::{Client, Target, Value};
use crate::keys::{KeyShape, write_digits};

/// Nodes of a cluster and which slots are whose.
#[derive(Debug, Clone)]
pub struct SlotMap {
    pub nodes: Vec<Target>,
    /// The index of the owning node per slot.
    owner: Vec<u8>,
}

impl SlotMap {
    /// Asks a node.
    pub fn fetch(client: &mut Client) -> Result<SlotMap> {
        let reply = client.call(&["CLUSTER", "SLOTS"])?;
        SlotMap::parse(&reply, client.target()).context("CLUSTER SLOTS")
    }

    fn parse(reply: &Value, asked: &Target) -> Result<SlotMap> {
        let mut map = SlotMap {
            nodes: Vec::new(),
            owner: vec![u8::MAX; usize::from(SLOT_COUNT)],
        };
        let Value::Array(ranges) = reply else {
            bail!("the reply is no array: {reply:?}")
        };
        for range in ranges {
            let Value::Array(fields) = range else {
                bail!("a range is no array: {range:?}")
            };
            let [
                Value::Integer(from),
                Value::Integer(to),
                Value::Array(node),
                ..,
            ] = &fields[..]
            else {
                bail!("a range without a node: {range:?}")
            };
            let [host, Value::Integer(port), ..] = &node[..] else {
                bail!("a node without a port: {node:?}")
            };
            // An empty or null host means: the one that was asked.
            let host = match (host.text(), asked) {
                (Some(host), _) if !host.is_empty() && host != "?" => host,
                (_, Target::Tcp(addr)) => addr.ip().to_string(),
                _ => bail!("a node without an address: {node:?}"),
            };
            let target = Target::resolve(&host, u16::try_from(*port)?)?;
            let index = match map.nodes.iter().position(|n| *n == target) {
                Some(index) => index,
                None => {
                    map.nodes.push(target);
                    map.nodes.len() - 1
                }
            };
            let index = u8::try_from(index).context("more than 255 nodes")?;
            let (from, to) = (usize::try_from(*from)?, usize::try_from(*to)?);
            let Some(slots) = map.owner.get_mut(from..=to) else {
                bail!("slots {from}-{to} do not exist")
            };
            slots.fill(index);
        }
        if let Some(slot) = map.owner.iter().position(|&o| o == u8::MAX) {
            bail!("slot {slot} has no owner");
        }
        Ok(map)
    }

    /// The same map with the nodes numbered as in `targets`, to which connections exist.
    pub fn in_order_of(&self, targets: &[Target]) -> Result<SlotMap> {
        let index: Vec<u8> = self
            .nodes
            .iter()
            .map(|node| match targets.iter().position(|t| t == node) {
                Some(index) => Ok(u8::try_from(index)?),
                None => {
                    bail!("slots moved to {node}, to which there is no connection: start again")
                }
            })
            .collect::<Result<_>>()?;
        let owner = self.owner.iter().map(|&o| index[usize::from(o)]).collect();
        Ok(SlotMap {
            nodes: targets.to_vec(),
            owner,
        })
    }
}

/// The owner of every key number, worked out once so that drawing a key of a node stays cheap.
#[derive(Debug)]
pub struct OwnerMap {
    owners: Vec<u8>,
}

impl OwnerMap {
    pub fn new(slots: &SlotMap, shape: &KeyShape, count: u64) -> Result<OwnerMap> {
        let mut key = shape.prefix.clone().into_bytes();
        let at = key.len();
        key.resize(shape.len(), b'0');
        let owners: Vec<u8> = (0..count)
            .map(|n| {
                write_digits(&mut key[at..], n);
                slots.owner[usize::from(key_slot(&key))]
            })
            .collect();
        for (node, target) in slots.nodes.iter().enumerate() {
            if !owners.iter().any(|&o| usize::from(o) == node) {
                bail!("none of the {count} keys belongs to {target}: use more keys");
            }
        }
        Ok(OwnerMap { owners })
    }

    #[inline]
    pub fn owner(&self, key: u64) -> u8 {
        // Only a sequence that another thread has just used up reaches past the end; any owner will do then.
        self.owners.get(key as usize).copied().unwrap_or(0)
    }

    /// How many of the keys are a node's.
    pub fn count(&self, node: u8) -> u64 {
        self.owners.iter().filter(|&&o| o == node).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(from: i64, to: i64, port: i64) -> Value {
        let host = Value::Bulk(b"127.0.0.1".to_vec());
        let node = Value::Array(vec![
            host,
            Value::Integer(port),
            Value::Bulk(b"id".to_vec()),
        ]);
        Value::Array(vec![Value::Integer(from), Value::Integer(to), node])
    }

    #[test]
    fn reads_cluster_slots() {
        let asked = Target::resolve("127.0.0.1", 1).unwrap();
        let reply = Value::Array(vec![node(0, 8191, 7001), node(8192, 16383, 7002)]);
        let map = SlotMap::parse(&reply, &asked).unwrap();
        assert_eq!(map.nodes.len(), 2);
        let shape = KeyShape::new("key:", 11, 1000).unwrap();
        let owners = OwnerMap::new(&map, &shape, 1000).unwrap();
        for n in 0..1000 {
            assert_eq!(owners.owner(n), u8::from(key_slot(&shape.key(n)) > 8191));
        }
        let turned: Vec<Target> = map.nodes.iter().rev().cloned().collect();
        let other = OwnerMap::new(&map.in_order_of(&turned).unwrap(), &shape, 1000).unwrap();
        assert!((0..1000).all(|n| other.owner(n) == 1 - owners.owner(n)));
        assert!(map.in_order_of(&turned[..1]).is_err());
        let hole = Value::Array(vec![node(0, 8191, 7001)]);
        assert!(SlotMap::parse(&hole, &asked).is_err());
        let wrong = Value::Array(vec![node(0, 16384, 7001)]);
        assert!(SlotMap::parse(&wrong, &asked).is_err());
    }
}
