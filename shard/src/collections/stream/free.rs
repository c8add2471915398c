//! A stream as a value of the keyspace: its memory, and freeing it in slices.

use super::Stream;
use crate::object::Body;

impl Body for Stream {
    fn memory(&self) -> usize {
        let groups = self.groups.iter();
        let groups: usize = groups
            .map(|(name, group)| name.len() + size_of_val(group) + group.memory())
            .sum();
        self.blocks.memory() + groups
    }
    fn free_effort(&self) -> usize {
        let groups: usize = self.groups.values().map(|group| group.free_effort()).sum();
        self.blocks.len() + groups
    }
    fn free_some(&mut self, budget: usize) -> usize {
        let mut freed = self.blocks.free_some(budget);
        while freed < budget
            && let Some(mut group) = self.groups.first_entry()
        {
            freed += group.get_mut().free_some(budget - freed);
            if freed < budget {
                group.remove();
                freed += 1;
            }
        }
        freed
    }
    fn duplicate(&self) -> Self {
        Self {
            blocks: self.blocks.duplicate(),
            len: self.len,
            last_id: self.last_id,
            first_id: self.first_id,
            max_deleted_id: self.max_deleted_id,
            entries_added: self.entries_added,
            groups: self.groups.clone(),
        }
    }
}
