//! Expiries of a hash's fields: changing one where the field lies, and finding a field again by its hash and its time.

use super::bucket::{self, PIECE_MAX};
use super::piece::{self, Form};
use super::{
    BYTES_MAX, DEPTH_MAX, ENTRIES_FEW, Fields, HashBytes, Item, PackedTable, Place, tag_of,
};

impl<H: HashBytes> PackedTable<Fields, H> {
    /// Gives a field another expiry; its value is not copied where that can be helped. Returns the one that it had; `None` if
    /// there is no such field.
    pub fn set_expiry_hashed(
        &mut self,
        hash: u64,
        key: &[u8],
        expire_at: Option<i64>,
    ) -> Option<Option<i64>> {
        loop {
            let mut place = Place::find(&mut self.root, hash);
            let bucket = place.bucket;
            let spot = Self::spot(bucket, hash, key)?;
            let body = bucket.body();
            let raw = Self::raw(body, &spot);
            let before = raw.expire_at;
            if before == expire_at {
                return Some(before);
            }
            let Some(length) = piece::length_with_expiry(&raw, expire_at) else {
                let value = raw.value.to_vec();
                self.put_hashed(hash, key, &value, expire_at);
                return Some(before);
            };
            let used = bucket::used(body) + length as usize;
            let large = used > BYTES_MAX && bucket::count(body) > ENTRIES_FEW;
            if length > spot.length && large && bucket.depth() < DEPTH_MAX {
                self.split(hash);
                continue;
            }
            let mut buffer = [0; PIECE_MAX];
            let changed = &mut buffer[..length as usize];
            piece::write_expiry(spot.piece(body), expire_at, changed);
            let block_size = bucket.block_size();
            let (bucket, to) = bucket::replace(bucket, spot, length);
            to.copy_from_slice(changed);
            place.set(bucket);
            self.memory = self.memory + bucket.block_size() - block_size;
            return Some(before);
        }
    }

    /// A field with this hash that expires at this time.
    pub fn find_by_time(&self, hash: u64, time: i64) -> Option<Item<'_, &[u8]>> {
        let bucket = self.bucket(hash);
        if bucket.is_empty() {
            return None;
        }
        let body = bucket.body();
        let spot = bucket::find(body, tag_of(hash), |piece, outside| {
            let raw = piece::read(Form::Fields, piece, outside);
            raw.expire_at == Some(time) && self.hash(raw.key) == hash
        })?;
        Some(Self::item(body, &spot))
    }
}
