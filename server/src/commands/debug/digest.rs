//! DEBUG DIGEST: a hash of the data that does not depend on order, by Redis's rule, so that equal data sets of both have equal
//! digests. A key's digest is of its name, type, value and whether it expires; a database's is the exclusive or of its keys'
//! digests, each hashed once more; and that is mixed with the number of the database.

use crate::core::Core;
use ringwood_protocol::number::double_text;
use ringwood_shard::elements::{self, Element};
use ringwood_shard::keyspace::EntryRef;
use ringwood_shard::object::Type;
use sha1::{Digest as _, Sha1};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest([u8; 20]);

impl Digest {
    fn xor(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a ^= b);
    }
    /// Order does not matter.
    fn add(&mut self, data: &[u8]) {
        self.xor(&Self(Sha1::digest(data).into()));
    }
    /// Order matters.
    fn mix(&mut self, data: &[u8]) {
        self.add(data);
        self.0 = Sha1::digest(self.0).into();
    }
    pub fn hex(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// Redis's number of a type.
fn type_number(kind: Type) -> u32 {
    match kind {
        Type::String => 0,
        Type::List => 1,
        Type::Set => 2,
        Type::ZSet => 3,
        Type::Hash => 4,
        Type::Stream => 6,
    }
}

fn add_value(digest: &mut Digest, entry: EntryRef<'_>) {
    let kind = entry.kind();
    digest.mix(&type_number(kind).to_be_bytes());
    elements::each(entry, |element| match element {
        Element::One(data) if kind == Type::Set => digest.add(data),
        Element::One(data) => digest.mix(data),
        Element::Field { name, value, .. } if kind == Type::Stream => {
            digest.mix(name);
            digest.mix(value);
        }
        Element::Field {
            name,
            value,
            expires,
        } => {
            let mut field = Digest::default();
            field.mix(name);
            field.mix(value);
            if expires {
                field.add(b"!!hexpire!!");
            }
            digest.add(&field.0);
        }
        Element::Scored(member, score) => {
            let mut pair = Digest::default();
            pair.mix(member);
            pair.mix(double_text(score).as_bytes());
            digest.add(&pair.0);
        }
        Element::Id(id) => digest.mix(format!("{}.{}", id.ms, id.seq).as_bytes()),
    });
    if entry.expire_at().is_some() {
        digest.add(b"!!expire!!");
    }
}

pub fn of_value(entry: EntryRef<'_>) -> Digest {
    let mut digest = Digest::default();
    add_value(&mut digest, entry);
    digest
}

/// By database, where there are keys: the exclusive or of this core's keys.
pub type Databases = Vec<(u32, Digest)>;

pub fn of_databases(core: &mut Core) -> Databases {
    let keyspace = &core.shard.keyspace;
    let mut found = Vec::new();
    for db in (0..keyspace.databases()).filter(|db| keyspace.len(*db) > 0) {
        let mut sum = Digest::default();
        keyspace.each(db, |entry| {
            let mut digest = Digest::default();
            digest.mix(entry.key());
            add_value(&mut digest, entry);
            sum.add(&digest.0);
        });
        found.push((db as u32, sum));
    }
    found
}

pub fn of_all(parts: Vec<Databases>) -> Digest {
    let mut by_db = std::collections::BTreeMap::<u32, Digest>::new();
    for part in parts {
        for (db, digest) in part {
            by_db.entry(db).or_default().xor(&digest);
        }
    }
    let mut all = Digest::default();
    for (db, keys) in by_db {
        all.mix(&db.to_be_bytes());
        all.xor(&keys);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// redis-server 8.2.3 with only `SET a 1`.
    #[test]
    fn digests_are_those_of_redis() {
        let mut value = Digest::default();
        value.mix(&0u32.to_be_bytes());
        value.mix(b"1");
        assert_eq!(value.hex(), "b4fc66738120fba0b5aa500ab5c2bf89cea1c5da");
        let mut key = Digest::default();
        key.mix(b"a");
        key.mix(&0u32.to_be_bytes());
        key.mix(b"1");
        let mut keys = Digest::default();
        keys.add(&key.0);
        let all = of_all(vec![vec![(0, keys)], Vec::new()]);
        assert_eq!(all.hex(), "943d800368fb9c0e951138f1bc0e313ac769d91f");
    }
}
