//! What a group's look-ups within collections will read, asked for ahead: a member or a field lies behind the entry, the table's head, a slot of its
//! directory and a bucket, and each of these is mostly a cache miss. In stages over the whole group these overlap.

use super::GROUP;
use ringwood_shard::keyspace::EntryRef;
use ringwood_shard::object::Object;

/// Entries in which an element will be looked up.
#[derive(Default)]
pub(super) struct Ahead<'a> {
    entries: [Option<(EntryRef<'a>, &'a [u8])>; GROUP],
    count: usize,
}

impl<'a> Ahead<'a> {
    /// Of an entry that the CPU has been asked for.
    #[inline]
    pub(super) fn add(&mut self, entry: EntryRef<'a>, element: &'a [u8]) {
        if self.count < GROUP {
            self.entries[self.count] = Some((entry, element));
            self.count += 1;
        }
    }

    #[inline]
    pub(super) fn ask(&self) {
        if self.count > 0 {
            self.ask_in_stages();
        }
    }
    fn ask_in_stages(&self) {
        let mut objects: [Option<(&Object, &[u8])>; GROUP] = [None; GROUP];
        let mut count = 0;
        for (entry, element) in self.entries[..self.count].iter().flatten() {
            if let Some(object) = entry.prefetch_object() {
                objects[count] = Some((object, element));
                count += 1;
            }
        }
        let mut hashes: [Option<(&Object, u64)>; GROUP] = [None; GROUP];
        for (to, (object, element)) in hashes.iter_mut().zip(objects[..count].iter().flatten()) {
            *to = object.prefetch(element).map(|hash| (*object, hash));
        }
        for (object, hash) in hashes[..count].iter().flatten() {
            object.prefetch_piece(*hash);
        }
    }
}
