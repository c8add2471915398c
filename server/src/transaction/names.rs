//! Which keys a command uses, and where they are.

use crate::core::Core;
use crate::registry::Entry;
use ringwood_shard::ctx::Args;
use ringwood_shard::watch::Name;

/// The database that COPY's DB option names; of several the last counts.
fn copy_db<'a>(args: Args<'a>) -> Option<&'a [u8]> {
    let options = args.get(3..)?;
    let at = options
        .iter()
        .rposition(|word| word.eq_ignore_ascii_case(b"DB"))?;
    options.get(at + 1).copied()
}

/// The database into which a command reaches besides the client's: COPY and MOVE do.
pub(super) fn other_database(
    entry: &Entry,
    args: Args<'_>,
    db: usize,
    databases: usize,
) -> Option<usize> {
    let word = match entry.spec.name {
        "COPY" => copy_db(args),
        "MOVE" => args.get(2).copied(),
        _ => None,
    };
    let other: usize = std::str::from_utf8(word?).ok()?.parse().ok()?;
    (other != db && other < databases).then_some(other)
}

/// The keys of a command, in each database in which it may look for them.
pub(crate) fn names_of(entry: &Entry, args: Args<'_>, db: usize, databases: usize) -> Vec<Name> {
    let mut found = Vec::new();
    entry.key_indexes(args, &mut found);
    let other = other_database(entry, args, db, databases);
    let keys = found.iter().filter_map(|&at| args.get(at).copied());
    let each = |key: &[u8]| {
        let dbs = std::iter::once(db).chain(other);
        dbs.map(|db| (db, Box::from(key))).collect::<Vec<Name>>()
    };
    keys.flat_map(each).collect()
}

impl Core {
    /// The keys of a command, in each database in which it may look for them.
    pub(crate) fn key_names(&self, entry: &Entry, args: Args<'_>, db: usize) -> Vec<Name> {
        names_of(entry, args, db, self.shard.keyspace.databases())
    }

    /// Those of the keys that other cores own, by owner; a key named twice is there once.
    pub(crate) fn elsewhere(&self, names: &[Name]) -> Vec<(usize, Vec<Name>)> {
        let mut by_core: Vec<Vec<Name>> = vec![Vec::new(); self.cores()];
        for name in names {
            let owner = self.owner(ringwood_protocol::slot::key_slot(&name.1)) as usize;
            if owner != self.id {
                by_core[owner].push(name.clone());
            }
        }
        for names in &mut by_core {
            names.sort_unstable();
            names.dedup();
        }
        let shares = by_core.into_iter().enumerate();
        shares.filter(|(_, names)| !names.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_database_of_a_copy_counts() {
        let db = |line: &str| {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            copy_db(&words).map(<[u8]>::to_vec)
        };
        assert_eq!(db("COPY a b DB 15 REPLACE dB 5"), Some(b"5".to_vec()));
        assert_eq!(db("COPY a DB DB 3"), Some(b"3".to_vec()));
        assert_eq!((db("COPY a b DB"), db("COPY a b")), (None, None));
    }
}
