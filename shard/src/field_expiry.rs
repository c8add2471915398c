//! Fields of hashes whose time is over, removed without anybody asking for them.
//!
//! The expiry wheel has one record per key, at the sooner of the key's expiry and its first field's. When that fires, a few fields
//! go; if more are due, the record comes again after all others that are due, so a hash of a million expired fields stalls nobody.
//! Until then they are there and count in HLEN, as in Redis, but no command shows them.

use crate::collections::listpack::Item;
use crate::collections::timed_listpack;
use crate::keyspace::EntryMut;
use crate::object::{Encoding, Object, Type};
use crate::shard::{Shard, notify};

/// How many fields go at once.
const FIELDS_A_VISIT: usize = 16;

/// What was done to a hash.
#[derive(Debug)]
pub(crate) struct Visit {
    pub count: usize,
    /// Their names, if those were asked for.
    fields: Vec<Box<[u8]>>,
    /// The hash was empty then, and is gone.
    emptied: bool,
    /// When time changes something about the key next. The entry counts on a record then.
    pub next_time: Option<i64>,
}

/// Removes some fields whose time is over, and the key with the last one.
pub(crate) fn visit(mut entry: EntryMut<'_>, now_ms: i64, named: bool) -> Visit {
    let mut fields: Vec<Box<[u8]>> = Vec::new();
    let mut gone = |field: &[u8]| {
        if named {
            fields.push(field.into());
        }
    };
    debug_assert_eq!(entry.kind(), Type::Hash);
    let (count, left) = if entry.is_object() {
        match entry.object_mut() {
            Object::Hash(table) => {
                let count = table.expire(now_ms, FIELDS_A_VISIT, gone);
                (count, table.len())
            }
            other => unreachable!("a hash holds {other:?}"),
        }
    } else {
        debug_assert_eq!(entry.encoding(), Encoding::ListpackEx);
        let gone = |field: Item<'_>| field.with_text(&mut gone);
        let count = timed_listpack::expire(&mut entry, now_ms, FIELDS_A_VISIT, gone);
        (count, timed_listpack::len(entry.bytes()))
    };
    let emptied = left == 0;
    let mut next_time = None;
    if emptied {
        entry.remove();
    } else {
        next_time = entry.get().next_time();
        entry.set_in_wheel(next_time.is_some());
    }
    Visit {
        count,
        fields,
        emptied,
        next_time,
    }
}

impl Shard {
    /// Tells of a visit whoever listens.
    pub(crate) fn fields_expired(&mut self, db: usize, key: &[u8], visit: Visit) {
        if self.logging {
            let mut words: Vec<&[u8]> = vec![b"HDEL", key];
            words.extend(visit.fields.iter().map(|field| &**field));
            self.log.lapsed(db, &words);
        }
        self.notify(db, key, notify::HASH, "hexpired", true);
        if visit.emptied {
            self.notify(db, key, notify::GENERIC, "del", true);
        }
    }
}
