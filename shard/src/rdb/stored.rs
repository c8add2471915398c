//! Values that a key holds byte for byte as they lie in a file: strings and small collections. Loading them needs no memory but the key's entry.

use super::reader::Reader;
use super::{Error, Result, Rules, kind, list, packed, zset};
use crate::collections::{intset, listpack};
use crate::object::{Encoding, Type};
use std::borrow::Cow;

/// A value that is stored as it lies.
#[derive(Debug)]
pub struct Stored<'b> {
    pub kind: Type,
    pub encoding: Encoding,
    pub bytes: Cow<'b, [u8]>,
}

/// Reads a value of type `of` if it is such a one. Otherwise it is for [`super::value::read`], and the reader stands where it stood.
pub fn read<'b>(of: u8, reader: &mut Reader<'b>, rules: &Rules<'_>) -> Result<Option<Stored<'b>>> {
    let mut ahead = reader.clone();
    let settings = rules.settings;
    let (kind, encoding, bytes, fits) = match of {
        kind::STRING => {
            let text = ahead.string()?;
            (Type::String, Encoding::of_string(&text), text, true)
        }
        kind::HASH_LISTPACK => {
            let lp = ahead.string()?;
            let fits = packed::check(&lp, 2, rules.hasher)? <= settings.hash_listpack_entries_max;
            (Type::Hash, Encoding::Listpack, lp, fits)
        }
        kind::SET_LISTPACK => {
            let lp = ahead.string()?;
            let fits = packed::check(&lp, 1, rules.hasher)? <= settings.set_listpack_entries_max;
            (Type::Set, Encoding::Listpack, lp, fits)
        }
        kind::SET_INTSET => {
            let set = ahead.string()?;
            if !intset::validate(&set) {
                return Err(Error::Corrupt("a broken intset"));
            }
            let count = intset::len(&set);
            if count == 0 {
                return Err(Error::Empty);
            }
            let fits = count <= settings.set_intset_entries_max.min(1 << 30);
            (Type::Set, Encoding::Intset, set, fits)
        }
        kind::ZSET_LISTPACK => {
            let lp = ahead.string()?;
            let count = packed::check(&lp, 2, rules.hasher)?;
            let fits = count <= settings.zset_listpack_entries_max && zset::is_ordered(&lp)?;
            (Type::ZSet, Encoding::Listpack, lp, fits)
        }
        kind::LIST_QUICKLIST_2 => {
            if (ahead.length()?, ahead.length()?) != (1, list::PACKED) {
                return Ok(None);
            }
            let lp = ahead.string()?;
            let fits = listpack::validate(&lp) && list::is_small(&lp, settings);
            (Type::List, Encoding::Listpack, lp, fits)
        }
        _ => return Ok(None),
    };
    if !fits {
        return Ok(None);
    }
    *reader = ahead;
    Ok(Some(Stored {
        kind,
        encoding,
        bytes,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::value::{self, Decoded};
    use super::super::{Dialect, dump};
    use super::*;
    use crate::commands::testing::Tester;
    use crate::keyspace::entry::Value;

    fn settings_of(max: usize) -> crate::shard::Settings {
        crate::shard::Settings {
            hash_listpack_entries_max: max,
            set_listpack_entries_max: max,
            set_intset_entries_max: max,
            zset_listpack_entries_max: max,
            list_listpack_size_max: max as i64,
            ..Default::default()
        }
    }

    /// The short way gives what the long way gives, where it gives anything.
    #[test]
    fn it_is_what_reading_gives() {
        let mut t = Tester::new();
        for line in [
            "SET text some-text",
            "SET number 12345",
            "RPUSH list a 2 c",
            "HSET hash f v g 2",
            "SADD words a b c",
            "SADD numbers 1 2 3",
            "ZADD zset 1 a 2 b 2.5 c",
            "XADD stream 1-1 f v",
        ] {
            t.run(line);
        }
        for (key, small) in [
            ("text", true),
            ("number", true),
            ("list", true),
            ("hash", true),
            // Written member by member.
            ("words", false),
            ("numbers", true),
            ("zset", true),
            ("stream", false),
        ] {
            let entry = t.shard.keyspace.get(0, t.shard.key(key.as_bytes()));
            let payload = dump::dump(entry.expect("it is there"), false);
            let (of, body) = (payload[0], &payload[1..payload.len() - 10]);
            for max in [2, 3, 100] {
                let settings = settings_of(max);
                let rules = Rules {
                    settings: &settings,
                    hasher: t.shard.keyspace.hasher(),
                    dialect: Dialect::Redis,
                };
                let mut reader = Reader::new(body);
                let stored = read(of, &mut reader, &rules).expect("it is sound");
                let Decoded {
                    kind,
                    encoding,
                    value,
                } = value::read(of, &mut Reader::new(body), &rules).expect("it is sound");
                let is_string = kind == Type::String;
                let fits = max > 2 || is_string || key == "hash";
                assert_eq!(stored.is_some(), small && fits, "{key} {max}");
                let Some(stored) = stored else {
                    assert_eq!(reader.position(), 0);
                    continue;
                };
                assert!(reader.rest().is_empty());
                assert_eq!((stored.kind, stored.encoding), (kind, encoding), "{key}");
                assert!(matches!(value, Value::Bytes(bytes) if bytes == *stored.bytes));
            }
        }
    }

    #[test]
    fn damage_is_refused_or_left_to_the_long_way() {
        let settings = settings_of(100);
        let hasher = crate::keyspace::KeyHasher::new(1);
        let rules = Rules {
            settings: &settings,
            hasher: &hasher,
            dialect: Dialect::Redis,
        };
        for (of, bytes) in [
            (kind::HASH_LISTPACK, &b"\x07\x07\0\0\0\0\0\xff"[..]),
            (kind::SET_LISTPACK, b"\x03abc"),
            (kind::SET_INTSET, b"\x03abc"),
            (kind::ZSET_LISTPACK, b"\x03abc"),
            (kind::STRING, b"\x05abc"),
        ] {
            let result = read(of, &mut Reader::new(bytes), &rules);
            assert!(result.is_err(), "{of}: {result:?}");
        }
        let list = read(
            kind::LIST_QUICKLIST_2,
            &mut Reader::new(b"\x01\x02\x03abc"),
            &rules,
        );
        assert!(matches!(list, Ok(None)));
    }
}
