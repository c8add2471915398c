//! SCAN.
//!
//! A cursor is a place in the order of all keys: the slot, and within the slot the first bits of the hash. Growing and
//! shrinking tables keep that order (see [`crate::keyspace::table`]), so what was there all the time of a scan is
//! returned, whatever happens meanwhile and however slots move between cores.
//!
//! ```text
//! bit 63    61                    13        0
//! |  | begin | 48 bits of the hash | slot, 14 |
//! ```
//! `begin` (bit 62) tells the first place of all, which the client knows as 0, from the end, which is 0 as well.
//!
//! The command runs on the owner of the cursor's slot. Where the owner changes, it answers with the place where the
//! next owner begins.

use super::{Matcher, number};
use crate::ctx::{Args, CommandResult, Ctx, Handler};
use crate::keyspace::EntryRef;
use crate::object::Type;
use crate::shard::Shard;
use ringwood_protocol::command::*;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::slot::SLOT_COUNT;

pub const SCAN: Command<Handler> = command("SCAN", at_least(2), scan as Handler)
    .flags(READONLY | BARRIER)
    .acl(acl::KEYSPACE)
    .doc(
        "Walks through the keys of a database in steps.",
        "O(1) for every call. O(N) for a complete iteration, including enough command calls for \
         the cursor to return back to 0. N is the number of elements inside the collection.",
        "2.8.0",
        "generic",
    )
    .history(&[("6.0.0", "Option `TYPE`.")])
    .args(&[
        integer("cursor"),
        pattern("pattern").token("MATCH").optional(),
        integer("count").token("COUNT").optional(),
        string("type").token("TYPE").since("6.0.0").optional(),
    ])
    .tips(&[
        "nondeterministic_output",
        "request_policy:special",
        "response_policy:special",
    ])
    .route(Route::Cursor);

const SLOT_BITS: u32 = 14;
const PREFIX_BITS: u32 = 47;
const BEGIN: u64 = 1 << (SLOT_BITS + PREFIX_BITS);
/// In a cursor: the scan ends where this shard's slots end.
pub const LOCAL_CURSOR: u64 = BEGIN << 1;
/// Bits of a hash that a cursor has no room for.
const HASH_REST: u64 = (1 << (64 - PREFIX_BITS)) - 1;

/// A place in the order of all keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    slot: u16,
    /// Everything with a hash below this was looked at. The last 17 bits are 0.
    hash: u64,
}

impl Place {
    /// Any number is some place.
    fn from_cursor(cursor: u64) -> Self {
        Self {
            slot: (cursor % SLOT_COUNT as u64) as u16,
            hash: (cursor >> SLOT_BITS) << (64 - PREFIX_BITS),
        }
    }
    fn cursor(self) -> u64 {
        match (self.hash >> (64 - PREFIX_BITS)) << SLOT_BITS | self.slot as u64 {
            0 => BEGIN,
            cursor => cursor,
        }
    }
    fn start_of(slot: u16) -> Self {
        Self { slot, hash: 0 }
    }
    fn next_slot(self) -> Option<Self> {
        (self.slot + 1 < SLOT_COUNT).then_some(Self::start_of(self.slot + 1))
    }
}

/// A cursor as Redis 7.0 reads it: with the C library's rules for signs, zero bytes and no digits at all.
pub fn parse_cursor(word: &[u8]) -> Option<u64> {
    let (negative, digits) = match word.split(|&b| b == 0).next()? {
        [] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = std::str::from_utf8(digits).ok()?.parse::<u64>().ok()?;
    Some(if negative { n.wrapping_neg() } else { n })
}

/// The option that only HSCAN takes, at a place where an option may stand in the others.
pub fn refuse_novalues(word: &[u8]) -> Result<(), CommandError> {
    match word.eq_ignore_ascii_case(b"NOVALUES") {
        true => Err(CommandError::fixed(
            "ERR NOVALUES option can only be used in HSCAN",
        )),
        false => Ok(()),
    }
}

/// What a scan returns of what it looks at.
struct Options<'a> {
    /// How many keys to look at.
    count: i64,
    matcher: Option<Matcher<'a>>,
    /// `Some(None)`: a type that does not exist, which no key has.
    kind: Option<Option<Type>>,
}

impl<'a> Options<'a> {
    fn parse(words: &[&'a [u8]]) -> Result<Self, CommandError> {
        let mut options = Self {
            count: 10,
            matcher: None,
            kind: None,
        };
        for pair in words.chunks(2) {
            refuse_novalues(pair[0])?;
            let &[name, value] = pair else {
                return Err(CommandError::Syntax);
            };
            match name.to_ascii_uppercase().as_slice() {
                b"COUNT" => {
                    options.count = number(value)?;
                    if options.count < 1 {
                        return Err(CommandError::Syntax);
                    }
                }
                b"MATCH" => options.matcher = (value != b"*").then(|| Matcher::new(value)),
                b"TYPE" => {
                    let of_name = |kind: &Type| value.eq_ignore_ascii_case(kind.name().as_bytes());
                    options.kind = Some(Type::ALL.into_iter().find(of_name));
                }
                _ => return Err(CommandError::Syntax),
            }
        }
        Ok(options)
    }

    fn wants(&self, entry: EntryRef<'_>) -> bool {
        self.matcher.as_ref().is_none_or(|m| m.matches(entry.key()))
            && self.kind.is_none_or(|kind| kind == Some(entry.kind()))
    }
}

fn scan(ctx: &mut Ctx<'_>, args: Args<'_>) -> CommandResult {
    let cursor = parse_cursor(args[1]).ok_or(CommandError::fixed("ERR invalid cursor"))?;
    let options = Options::parse(&args[2..])?;
    let (db, shard) = (ctx.db, &*ctx.shard);
    let mut found: Vec<&[u8]> = Vec::new();
    let mut expired: Vec<Vec<u8>> = Vec::new();
    let mut looked = 0;
    let local = cursor & LOCAL_CURSOR != 0;
    let start = Place::from_cursor(cursor);
    let mut place = Some(start);
    let next = loop {
        let here = match place.and_then(|place| settle(shard, db, place, &options, local)) {
            Some(here) if local && !shard.owned.contains(here.slot) => break None,
            // Keys there are with a command that is not done; the next call waits for it.
            Some(here)
                if here.slot != start.slot && shard.first_away(here.slot) == Some(here.slot) =>
            {
                break Some(here);
            }
            Some(here) if looked < options.count && shard.owned.contains(here.slot) => here,
            other => break other,
        };
        let mut from = Some(here.hash);
        while let Some(hash) = from {
            from = shard.keyspace.scan_slot(db, here.slot, hash, |entry| {
                looked += 1;
                if !options.wants(entry) {
                    return;
                }
                if entry.expire_at().is_some_and(|at| at <= shard.due_ms()) {
                    expired.push(entry.key().to_vec());
                } else {
                    found.push(entry.key());
                }
            });
            // On, where a cursor cannot say how far this went.
            if from.is_none_or(|hash| hash & HASH_REST == 0) {
                break;
            }
        }
        place = match from {
            Some(hash) => Some(Place { hash, ..here }),
            None => here.next_slot(),
        };
    };
    ctx.reply.array(2);
    let mark = if local { LOCAL_CURSOR } else { 0 };
    let cursor = next.map_or(0, |place| place.cursor() | mark);
    ctx.reply.bulk_str(&cursor.to_string());
    ctx.reply.bulks(&found);
    for name in expired {
        let key = ctx.shard.key(&name);
        ctx.shard.expire_if_due(db, key);
    }
    Ok(())
}

/// The first place from `place` on that may have keys to return, or that another core has to look at.
fn settle(
    shard: &Shard,
    db: usize,
    mut place: Place,
    options: &Options<'_>,
    local: bool,
) -> Option<Place> {
    let only = options.matcher.as_ref().and_then(Matcher::slot);
    if let Some(only) = only
        && place.slot < only
    {
        place = Place::start_of(only);
    }
    if place.hash == 0 {
        let filled = shard.keyspace.next_slot(db, place.slot);
        let foreign = if local {
            None
        } else {
            shard.owned.first_absent(place.slot)
        };
        let slots = [filled, foreign, shard.first_away(place.slot)];
        let slot = slots.into_iter().flatten().min()?;
        place = Place::start_of(slot);
    }
    (only.is_none_or(|only| place.slot == only)).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::Tester;
    use crate::slot_set::SlotSet;
    use std::collections::BTreeSet;

    /// One call: the next cursor and the keys.
    fn call(t: &mut Tester, line: &str) -> (u64, Vec<String>) {
        let reply = String::from_utf8(t.run(line)).unwrap();
        let mut lines = reply.split("\r\n").filter(|l| !l.starts_with(['*', '$']));
        let cursor = lines.next().unwrap().parse().unwrap();
        (
            cursor,
            lines.filter(|l| !l.is_empty()).map(String::from).collect(),
        )
    }
    /// Calls until the end: the keys of each call.
    fn whole(t: &mut Tester, options: &str) -> Vec<Vec<String>> {
        let mut cursor = 0;
        let mut calls = Vec::new();
        loop {
            let (next, keys) = call(t, &format!("SCAN {cursor} {options}"));
            calls.push(keys);
            cursor = next;
            if cursor == 0 {
                return calls;
            }
        }
    }
    fn filled(n: usize) -> Tester {
        let mut t = Tester::new();
        let pairs: String = (0..n).map(|i| format!(" key:{i} v")).collect();
        t.check(&format!("MSET{pairs}"), "+OK");
        t
    }

    #[test]
    fn an_empty_database_takes_one_call() {
        Tester::new().check("SCAN 0", "*2 $1 0 *0");
    }

    #[test]
    fn count_is_how_many_are_looked_at() {
        let mut t = filled(1000);
        for count in [1, 7, 10, 100] {
            let calls = whole(&mut t, &format!("COUNT {count}"));
            let (last, others) = calls.split_last().unwrap();
            // A slot's bucket is returned whole, so a call may return some more.
            assert!(others.iter().all(|c| (count..count + 8).contains(&c.len())));
            assert!(last.len() < count + 8);
            let seen: BTreeSet<_> = calls.concat().into_iter().collect();
            assert_eq!((seen.len(), calls.concat().len()), (1000, 1000));
        }
        assert_eq!(whole(&mut t, "COUNT 1000").len(), 1);
        assert_eq!(whole(&mut t, "COUNT 9223372036854775807").len(), 1);
        // What does not match is looked at as well.
        assert!(whole(&mut t, "MATCH nothing* COUNT 10").len() > 60);
    }

    #[test]
    fn match_and_type() {
        let mut t = filled(100);
        let matched = whole(&mut t, "MATCH key:1? COUNT 5").concat();
        assert_eq!(matched.len(), 10);
        assert_eq!(whole(&mut t, "TYPE STRING").concat().len(), 100);
        assert_eq!(whole(&mut t, "TYPE hash").concat().len(), 0);
        assert_eq!(whole(&mut t, "TYPE nonsense").concat().len(), 0);
        assert_eq!(
            whole(&mut t, "TYPE hash TYPE string MATCH *")
                .concat()
                .len(),
            100
        );
    }

    #[test]
    fn a_pattern_with_a_hash_tag_looks_into_one_slot() {
        let mut t = filled(500);
        for i in 0..20 {
            t.check(&format!("SET {{tag}}{i} v"), "+OK");
        }
        let calls = whole(&mut t, "MATCH {tag}* COUNT 100");
        assert_eq!((calls.len(), calls.concat().len()), (1, 20));
        assert_eq!(whole(&mut t, "MATCH key:77"), [["key:77"]]);
        assert_eq!(whole(&mut t, "MATCH nokey").concat().len(), 0);
    }

    #[test]
    fn expired_keys_are_deleted_when_they_would_be_returned() {
        let mut t = filled(50);
        for i in 0..25 {
            t.check(&format!("PEXPIRE key:{i} 1"), ":1");
        }
        t.advance(1);
        assert_eq!(whole(&mut t, "MATCH nothing*").concat().len(), 0);
        t.check("DBSIZE", ":50");
        assert_eq!(whole(&mut t, "COUNT 3").concat().len(), 25);
        t.check("DBSIZE", ":25");
    }

    #[test]
    fn where_the_owner_changes_the_call_ends() {
        let mut t = filled(1000);
        let lower = SlotSet::from_slots(0..8000);
        let all: BTreeSet<_> = whole(&mut t, "COUNT 1000").concat().into_iter().collect();
        t.shard.owned = lower.clone();
        let (cursor, first) = call(&mut t, "SCAN 0 COUNT 1000");
        assert_eq!(cursor, 8000);
        t.shard.owned = SlotSet::from_slots(8000..16384);
        // Asked for a slot of another core, a core names that place again and does nothing.
        assert_eq!(call(&mut t, "SCAN 0 COUNT 1000"), (BEGIN, vec![]));
        assert_eq!(
            call(&mut t, &format!("SCAN {}", 5 << 14 | 77)),
            (5 << 14 | 77, vec![])
        );
        let (end, second) = call(&mut t, "SCAN 8000 COUNT 1000");
        assert_eq!(end, 0);
        assert!(!first.is_empty() && !second.is_empty());
        assert_eq!(
            first.into_iter().chain(second).collect::<BTreeSet<_>>(),
            all
        );
        // The first core alone, without keys in its last slots.
        t.shard.owned = lower;
        assert_eq!(call(&mut t, "SCAN 7999"), (8000, vec![]));
    }

    #[test]
    fn any_number_is_a_cursor() {
        let mut t = filled(100);
        for cursor in [
            "1",
            "16383",
            "16384",
            "4611686018427387904",
            "18446744073709551615",
            "-1",
            "+7",
            "",
            "007",
            "5\0x",
        ] {
            let reply = t.run_words(&[b"SCAN", cursor.as_bytes()]);
            assert!(reply.starts_with(b"*2\r\n"), "{cursor}");
        }
        for cursor in [
            "x",
            "1x",
            " 1",
            "1 ",
            "-",
            "+",
            "1.0",
            "18446744073709551616",
            "-18446744073709551616",
        ] {
            let reply = t.run_words(&[b"SCAN", cursor.as_bytes(), b"COUNT", b"x"]);
            assert_eq!(reply, b"-ERR invalid cursor\r\n", "{cursor}");
        }
        let whole_from = call(&mut t, &format!("SCAN {BEGIN} COUNT 1000")).1;
        assert_eq!(whole_from.len(), 100);
    }

    #[test]
    fn errors() {
        let mut t = Tester::new();
        for options in [
            "COUNT 0",
            "COUNT -1",
            "COUNT",
            "MATCH",
            "TYPE",
            "foo",
            "foo bar",
            "COUNT 1 foo",
        ] {
            t.check(&format!("SCAN 0 {options}"), "-ERR syntax error");
        }
        t.check(
            "SCAN 0 COUNT x",
            "-ERR value is not an integer or out of range",
        );
    }

    #[test]
    fn a_local_scan_ends_with_the_shards_own_slots() {
        let mut t = filled(1000);
        let all = whole(&mut t, "COUNT 10").concat();
        let upper: Vec<_> = (all.iter())
            .filter(|k| ringwood_protocol::slot::key_slot(k.as_bytes()) >= 8000)
            .collect();
        t.shard.owned = SlotSet::from_slots(0..8000);
        for key in &upper {
            t.check(&format!("DEL {key}"), ":1");
        }
        let (mut cursor, mut seen, mut calls) = (LOCAL_CURSOR, Vec::new(), 0);
        while cursor != 0 {
            let (next, keys) = call(&mut t, &format!("SCAN {cursor} COUNT 50"));
            seen.extend(keys);
            assert!(next == 0 || next & LOCAL_CURSOR != 0);
            (cursor, calls) = (next, calls + 1);
        }
        assert_eq!(seen.len(), 1000 - upper.len());
        assert!(calls > 5);
        // A shard whose slots do not begin at 0, and one pattern's slot that is another's.
        t.shard.owned = SlotSet::from_slots(8000..16384);
        t.check(
            &format!("SCAN {LOCAL_CURSOR} MATCH {}", seen[0]),
            "*2 $1 0 *0",
        );
    }

    #[test]
    fn places_and_cursors_go_round() {
        for slot in [0, 1, 16383] {
            for prefix in [0, 1, (1 << PREFIX_BITS) - 1] {
                let place = Place {
                    slot,
                    hash: prefix << (64 - PREFIX_BITS),
                };
                assert_ne!(place.cursor(), 0);
                assert_eq!(Place::from_cursor(place.cursor()), place);
            }
        }
    }
}
