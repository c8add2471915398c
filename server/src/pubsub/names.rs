//! A map by name that grows in small steps: channels and patterns of a core, of all cores, of one client.
//!
//! A hash table that doubles moves all that it holds; with a million channels that is a pause of tens of milliseconds. From
//! [`SPLIT`] names on the map is that many tables, each of which grows by itself.
//!
//! The caller brings the hash, from the keyspace's seeded hasher: nobody can choose names that collide, and one message
//! hashes its channel once, whatever is looked up.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::sync::Arc;

/// A channel's or a pattern's name, shared by all that mention it.
pub type Name = Arc<[u8]>;

/// Names from which on a map is split, and tables into which it is.
const SPLIT: usize = 1024;

struct Slot<V> {
    hash: u64,
    name: Name,
    value: V,
}

/// Values by name.
pub struct NameMap<V> {
    /// One table, or [`SPLIT`].
    tables: Vec<HashTable<Slot<V>>>,
    len: usize,
}

impl<V> Default for NameMap<V> {
    fn default() -> Self {
        Self {
            tables: Vec::new(),
            len: 0,
        }
    }
}

/// The table of a hash. The tables look at a hash's lowest and highest bits.
fn table_of(hash: u64, tables: usize) -> usize {
    (hash >> 32) as usize & (tables - 1)
}

impl<V> NameMap<V> {
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, hash: u64, name: &[u8]) -> Option<&V> {
        if self.len == 0 {
            return None;
        }
        let slot = self.tables[table_of(hash, self.tables.len())]
            .find(hash, |s| s.hash == hash && *s.name == *name)?;
        Some(&slot.value)
    }
    pub fn get_mut(&mut self, hash: u64, name: &[u8]) -> Option<&mut V> {
        if self.len == 0 {
            return None;
        }
        let table = table_of(hash, self.tables.len());
        let slot = self.tables[table].find_mut(hash, |s| s.hash == hash && *s.name == *name)?;
        Some(&mut slot.value)
    }

    /// The value of a name, made where there is none.
    pub fn get_or_insert(&mut self, hash: u64, name: &Name) -> &mut V
    where
        V: Default,
    {
        if self.tables.is_empty() {
            self.tables.push(HashTable::new());
        } else if self.tables.len() == 1 && self.len == SPLIT {
            self.split();
        }
        let table = table_of(hash, self.tables.len());
        let entry =
            self.tables[table].entry(hash, |s| s.hash == hash && *s.name == **name, |s| s.hash);
        let slot = match entry {
            Entry::Occupied(found) => found,
            Entry::Vacant(free) => {
                self.len += 1;
                let (name, value) = (name.clone(), V::default());
                free.insert(Slot { hash, name, value })
            }
        };
        &mut slot.into_mut().value
    }

    pub fn remove(&mut self, hash: u64, name: &[u8]) -> Option<(Name, V)> {
        if self.len == 0 {
            return None;
        }
        let at = table_of(hash, self.tables.len());
        let table = &mut self.tables[at];
        let found = table.find_entry(hash, |s| s.hash == hash && *s.name == *name);
        let (slot, _) = found.ok()?.remove();
        self.len -= 1;
        if table.is_empty() {
            // What a large crowd needed is not kept after it has gone.
            *table = HashTable::new();
        }
        Some((slot.name, slot.value))
    }

    fn split(&mut self) {
        let Some(all) = self.tables.pop() else {
            return;
        };
        self.tables.resize_with(SPLIT, HashTable::new);
        for slot in all {
            self.tables[table_of(slot.hash, SPLIT)].insert_unique(slot.hash, slot, |s| s.hash);
        }
    }

    /// Takes some names out, all of one table. Nothing is left when nothing comes.
    pub fn take_some(&mut self) -> impl Iterator<Item = (u64, Name)> + use<V> {
        let table = self.tables.iter_mut().find(|t| !t.is_empty());
        let taken = table.map(std::mem::take).unwrap_or_default();
        self.len -= taken.len();
        taken.into_iter().map(|s| (s.hash, s.name))
    }

    /// All names with their hashes and values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Name, &V)> {
        let tables = if self.len == 0 { &[] } else { &self.tables[..] };
        let slots = tables.iter().flat_map(|t| t.iter());
        slots.map(|s| (s.hash, &s.name, &s.value))
    }

    /// Bytes that the map holds, names not counted: they are shared.
    pub fn memory(&self) -> usize {
        let slots: usize = self.tables.iter().map(HashTable::capacity).sum();
        slots * size_of::<Slot<V>>() + self.tables.capacity() * size_of::<HashTable<Slot<V>>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringwood_shard::keyspace::KeyHasher;
    use std::collections::HashMap;

    #[test]
    fn it_is_a_map_at_every_size() {
        let hasher = KeyHasher::new(3);
        let mut map: NameMap<u32> = NameMap::default();
        let mut model: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut random = 1u64;
        for step in 0..60_000u32 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(7);
            // Grows past the split, then shrinks to nothing.
            let bound = if step < 40_000 { 9_000 } else { 12_000 };
            let name = format!("c{}", (random >> 33) % bound).into_bytes();
            let hash = hasher.hash(&name);
            if step < 40_000 && random >> 60 > 3 {
                *map.get_or_insert(hash, &name.clone().into()) += 1;
                *model.entry(name).or_default() += 1;
            } else {
                let removed = map.remove(hash, &name).map(|(_, v)| v);
                assert_eq!(removed, model.remove(&name));
            }
            assert_eq!(map.len(), model.len());
        }
        for (name, value) in &model {
            assert_eq!(map.get(hasher.hash(name), name), Some(value));
        }
        let listed: HashMap<Vec<u8>, u32> = map.iter().map(|(_, n, v)| (n.to_vec(), *v)).collect();
        assert_eq!(listed, model);
        for name in model.into_keys() {
            assert!(map.remove(hasher.hash(&name), &name).is_some());
        }
        assert!(map.is_empty() && map.iter().next().is_none());
        assert!(map.memory() < 100_000);
    }

    #[test]
    fn a_name_that_is_not_there() {
        let mut map: NameMap<()> = NameMap::default();
        assert!(map.get(1, b"x").is_none() && map.remove(1, b"x").is_none());
        map.get_or_insert(1, &Name::from(&b"x"[..]));
        // The same hash, another name.
        assert!(map.get(1, b"y").is_none() && map.get_mut(1, b"y").is_none());
        assert_eq!(map.len(), 1);
    }
}
