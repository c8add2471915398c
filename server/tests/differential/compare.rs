//! When two replies count as the same, and the kept list of differences that are meant.
//!
//! The rule is byte for byte. Only replies that a real server itself gives differently each time are compared more
//! loosely, and errors never are.

use crate::resp::{Reply, Value};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Check {
    /// Byte for byte.
    Exact,
    /// The same elements in any order.
    Sorted,
    /// The same pairs in any order (a map, or a flat array of pairs).
    SortedPairs,
    /// Integers this far apart at most, both negative or neither (times to live).
    Near(i64),
    /// The same types and lengths: what is in it is random.
    Shape,
    /// The same type: the reply is about the server itself.
    Type,
    /// A cursor and elements: both servers are asked until their cursor is 0, and what came is compared as a set.
    Scan,
    /// HELLO's map: the server's name, version and the connection's id may differ.
    Hello,
}

/// Says what differs, if anything. `encoding` is the reference's OBJECT ENCODING of the key, where it was asked.
pub fn differ(
    check: Check,
    encoding: Option<&Reply>,
    ours: &Reply,
    theirs: &Reply,
) -> Option<String> {
    if ours.raw == theirs.raw {
        return None;
    }
    let packed = encoding.is_some_and(|reply| {
        matches!(&reply.value, Value::Bulk(name) if matches!(&name[..], b"listpack" | b"listpackex" | b"ziplist" | b"intset"))
    });
    let check = if packed { Check::Exact } else { check };
    let same =
        !ours.is_error() && !theirs.is_error() && loosely_same(check, &ours.value, &theirs.value);
    if same {
        return None;
    }
    Some(format!(
        "ringwood:  {}\n    reference: {}",
        ours.shown(),
        theirs.shown()
    ))
}

fn loosely_same(check: Check, ours: &Value, theirs: &Value) -> bool {
    match check {
        Check::Exact => ours == theirs,
        // What it brings is compared when the scan is complete.
        Check::Scan => true,
        Check::Sorted => same_kind(ours, theirs) && sorted(ours) == sorted(theirs),
        Check::SortedPairs => same_kind(ours, theirs) && sorted_pairs(ours) == sorted_pairs(theirs),
        Check::Near(tolerance) => near(tolerance, ours, theirs),
        Check::Shape => same_shape(ours, theirs),
        Check::Type => same_kind(ours, theirs),
        Check::Hello => hello(ours) == hello(theirs),
    }
}

fn same_kind(ours: &Value, theirs: &Value) -> bool {
    std::mem::discriminant(ours) == std::mem::discriminant(theirs)
}

fn items(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) | Value::Set(items) | Value::Push(items) => Some(items),
        _ => None,
    }
}

/// The elements in an order of their own: by their text, since values of a reply have no other.
pub fn sorted(value: &Value) -> Vec<String> {
    let mut texts: Vec<String> = match (items(value), value) {
        (Some(items), _) => items.iter().map(|item| format!("{item:?}")).collect(),
        (None, Value::Map(pairs)) => pairs.iter().map(|pair| format!("{pair:?}")).collect(),
        (None, other) => vec![format!("{other:?}")],
    };
    texts.sort();
    texts
}

fn sorted_pairs(value: &Value) -> Vec<String> {
    match items(value) {
        // RESP3 nests what RESP2 lays flat; both servers speak the same one.
        Some(items)
            if items.len() % 2 == 0
                && !items.iter().any(|item| matches!(item, Value::Array(_))) =>
        {
            let mut texts: Vec<String> = items.chunks(2).map(|pair| format!("{pair:?}")).collect();
            texts.sort();
            texts
        }
        _ => sorted(value),
    }
}

fn near(tolerance: i64, ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Integer(ours), Value::Integer(theirs)) => {
            (*ours < 0) == (*theirs < 0) && ours.abs_diff(*theirs) <= tolerance.unsigned_abs()
        }
        (Value::Map(ours), Value::Map(theirs)) => {
            let same = |ours: &(Value, Value), theirs: &(Value, Value)| {
                ours.0 == theirs.0 && (ours.1 == theirs.1 || near(tolerance, &ours.1, &theirs.1))
            };
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .zip(theirs)
                    .all(|(ours, theirs)| same(ours, theirs))
        }
        _ => match (items(ours), items(theirs)) {
            (Some(ours), Some(theirs)) => {
                ours.len() == theirs.len()
                    && ours
                        .iter()
                        .zip(theirs)
                        .all(|(ours, theirs)| ours == theirs || near(tolerance, ours, theirs))
            }
            _ => false,
        },
    }
}

fn same_shape(ours: &Value, theirs: &Value) -> bool {
    if !same_kind(ours, theirs) {
        return false;
    }
    match (ours, theirs) {
        (Value::Map(ours), Value::Map(theirs)) => {
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .zip(theirs)
                    .all(|(ours, theirs)| ours.0 == theirs.0 && same_shape(&ours.1, &theirs.1))
        }
        _ => match (items(ours), items(theirs)) {
            (Some(ours), Some(theirs)) => {
                ours.len() == theirs.len()
                    && ours
                        .iter()
                        .zip(theirs)
                        .all(|(ours, theirs)| same_shape(ours, theirs))
            }
            _ => true,
        },
    }
}

fn hello(value: &Value) -> Option<Vec<String>> {
    let own = |key: &Value| matches!(key, Value::Bulk(name) if matches!(&name[..], b"server" | b"version" | b"id" | b"modules" | b"availability_zone"));
    match value {
        Value::Map(pairs) => Some(
            pairs
                .iter()
                .filter(|(key, _)| !own(key))
                .map(|pair| format!("{pair:?}"))
                .collect(),
        ),
        Value::Array(items) => Some(
            items
                .chunks(2)
                .filter(|pair| !own(&pair[0]))
                .map(|pair| format!("{pair:?}"))
                .collect(),
        ),
        _ => None,
    }
}

/// A difference that is meant.
pub struct Exception {
    /// The command with its subcommand, or `keyspace` for the comparison at the end of a stream.
    pub name: &'static str,
    pub reason: &'static str,
    pub applies: fn(&Case) -> bool,
}

pub struct Case<'a> {
    pub args: &'a [Vec<u8>],
    pub ours: &'a Reply,
    pub theirs: &'a Reply,
    /// The reference's version, as `7.0.15`.
    pub version: &'a str,
    /// What of the stream matters to some exceptions.
    pub has: Has,
}

/// What a stream has in it whose effects on encodings are meant to differ.
#[derive(Clone, Copy, Default)]
pub struct Has {
    /// A low set-max-intset-entries: see [`by_chance`] and [`hint_unknown_to_70`].
    pub low_intset: bool,
    /// With that, a SUNIONSTORE or SDIFFSTORE.
    pub stored_set: bool,
}

impl Has {
    pub fn of(steps: &[crate::grammar::Step]) -> Self {
        let any = |test: fn(&crate::grammar::Step) -> bool| steps.iter().any(test);
        let low_intset = any(|step| {
            let named = |arg: &Vec<u8>| arg == b"set-max-intset-entries";
            step.name == "CONFIG SET" && step.command.iter().any(named)
        });
        Self {
            low_intset,
            stored_set: low_intset && any(|step| matches!(step.name, "SUNIONSTORE" | "SDIFFSTORE")),
        }
    }
}

/// Every exception has a reason that a user would accept. Keep it short.
pub const EXCEPTIONS: &[Exception] = &[
    help("OBJECT HELP"),
    help("CLIENT HELP"),
    help("MEMORY HELP"),
    help("XGROUP HELP"),
    help("XINFO HELP"),
    Exception {
        name: "CONFIG SET",
        reason: "Redis reads a number up to its first zero byte; here it is no number",
        applies: |case| case.args.iter().any(|arg| arg.contains(&0)) && case.ours.is_error(),
    },
    Exception {
        name: "COMMAND GETKEYS",
        reason: "asks for the keys of a command that is not there yet",
        applies: |case| case.ours.raw == b"-ERR Invalid command specified\r\n",
    },
    Exception {
        name: "COMMAND GETKEYSANDFLAGS",
        reason: "asks for the keys of a command that is not there yet",
        applies: |case| case.ours.raw == b"-ERR Invalid command specified\r\n",
    },
    Exception {
        name: "COMMAND GETKEYS",
        reason: "as in 8.2, which takes a command without arguments",
        applies: |case| case.args.len() == 3 && case.ours.is_error() && case.theirs.is_error(),
    },
    Exception {
        name: "COMMAND GETKEYSANDFLAGS",
        reason: "as in 8.2, which takes a command without arguments",
        applies: |case| case.args.len() == 3 && case.ours.is_error() && case.theirs.is_error(),
    },
    Exception {
        name: "COMMAND GETKEYS",
        reason: "Redis looks for SORT's STORE also in the word after STORE; here that is the key, as when it runs",
        applies: |case| {
            let is = |word: &Vec<u8>, name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            let stores = |pair: &[Vec<u8>]| is(&pair[0], "STORE") && is(&pair[1], "STORE");
            is(&case.args[2], "SORT") && case.args.windows(2).any(stores)
        },
    },
    Exception {
        name: "COMMAND LIST",
        reason: "all commands: each version has others, and some are not there yet",
        applies: |case| case.args.len() == 2 && !case.ours.is_error() && !case.theirs.is_error(),
    },
    Exception {
        name: "MSETEX",
        reason: "the errors are in Redis's words (8.4), not Valkey's",
        applies: |case| case.ours.is_error() && case.theirs.is_error(),
    },
    Exception {
        name: "keyspace",
        reason: "later versions decide by the key's length too which strings they embed",
        applies: |case| {
            let embeds =
                |reply: &Reply| reply.raw == b"$3\r\nraw\r\n" || reply.raw == b"$6\r\nembstr\r\n";
            !is_70(case) && embeds(case.ours) && embeds(case.theirs)
        },
    },
    Exception {
        name: "OBJECT ENCODING",
        reason: "7.0 packs neither a list on its own nor a set of strings",
        applies: packed_since_7_2,
    },
    Exception {
        name: "keyspace",
        reason: "7.0 packs neither a list on its own nor a set of strings",
        applies: packed_since_7_2,
    },
    Exception {
        name: "OBJECT",
        reason: "7.0 packs neither a list on its own nor a set of strings",
        applies: packed_since_7_2,
    },
    valkey_hash("OBJECT ENCODING"),
    valkey_hash("OBJECT"),
    valkey_hash("keyspace"),
    set_by_chance("OBJECT ENCODING"),
    set_by_chance("OBJECT"),
    set_by_chance("keyspace"),
    set_hint("OBJECT ENCODING"),
    set_hint("OBJECT"),
    set_hint("keyspace"),
    Exception {
        name: "LPOS",
        reason: "7.0 takes the smallest rank, whose opposite is no integer",
        applies: |case| {
            let rank_min = |arg: &Vec<u8>| arg == b"-9223372036854775808";
            is_70(case) && case.ours.is_error() && case.args.iter().any(rank_min)
        },
    },
    cursor("SSCAN"),
    numbers("SORT"),
    numbers("SORT_RO"),
    order_of_equals("SORT"),
    order_of_equals("SORT_RO"),
    Exception {
        name: "XREAD",
        reason: "as in 8.2, whose text names its new ID",
        applies: unbalanced,
    },
    Exception {
        name: "XREAD",
        reason: "as in 8.2, which has an ID for the last entry",
        applies: |case| !case.version.starts_with("8.2") && case.args.iter().any(|arg| arg == b"+"),
    },
    Exception {
        name: "XREADGROUP",
        reason: "as in 8.2, whose text names the command",
        applies: unbalanced,
    },
    valkey_fields("HSETEX"),
    valkey_fields("HGETEX"),
    valkey_fields("HGETDEL"),
    valkey_fields("HPERSIST"),
    valkey_fields("HEXPIRE"),
    valkey_fields("HPEXPIRE"),
    valkey_fields("HEXPIREAT"),
    valkey_fields("HPEXPIREAT"),
    valkey_fields("HTTL"),
    valkey_fields("HPTTL"),
    valkey_fields("HEXPIRETIME"),
    valkey_fields("HPEXPIRETIME"),
    valkey_lag("XINFO GROUPS"),
    valkey_lag("XINFO STREAM"),
    Exception {
        name: "keyspace",
        reason: VALKEY_LAG,
        applies: |case| case.version.starts_with('9') && case.args[0] == b"XINFO",
    },
    Exception {
        name: "SCAN",
        reason: "Redis reads a cursor up to its first zero byte; here it is no number",
        applies: |case| case.args.iter().any(|arg| arg.contains(&0)) && case.ours.is_error(),
    },
];

fn is_70(case: &Case) -> bool {
    case.version.starts_with("7.0.")
}

fn packed_since_7_2(case: &Case) -> bool {
    let old = matches!(&case.theirs.value, Value::Bulk(name) if matches!(&name[..], b"quicklist" | b"hashtable"));
    is_70(case) && old && case.ours.raw == b"$8\r\nlistpack\r\n"
}

/// Two processes of one real server differ here too: run one as RINGWOOD_BIN beside itself.
const fn set_by_chance(name: &'static str) -> Exception {
    Exception {
        name,
        reason: "a set that is stored begins as an intset: whether its first text comes before the integers are too many for one, which the order of a table decides, that is chance",
        applies: by_chance,
    }
}

fn by_chance(case: &Case) -> bool {
    let packed = |reply: &Reply| reply.raw == b"$8\r\nlistpack\r\n";
    let table = |reply: &Reply| reply.raw == b"$9\r\nhashtable\r\n";
    let either =
        (packed(case.ours) && table(case.theirs)) || (table(case.ours) && packed(case.theirs));
    case.has.stored_set && either
}

const fn valkey_hash(name: &'static str) -> Exception {
    let applies = |case: &Case| {
        let is = |reply: &Reply, names: &[&[u8]]| names.contains(&&reply.raw[..]);
        let ours: &[&[u8]] = &[b"$10\r\nlistpackex\r\n"];
        let theirs: &[&[u8]] = &[b"$8\r\nlistpack\r\n", b"$9\r\nhashtable\r\n"];
        case.version.starts_with('9') && is(case.ours, ours) && is(case.theirs, theirs)
    };
    Exception {
        name,
        reason: "small hashes with fields that expire are packed, as in Redis; Valkey packs none with such fields",
        applies,
    }
}

const fn set_hint(name: &'static str) -> Exception {
    Exception {
        name,
        reason: "since 7.2 a new set is made for as many members as SADD names, also where some are the same",
        applies: hint_unknown_to_70,
    }
}

fn hint_unknown_to_70(case: &Case) -> bool {
    let ours_packed = case.ours.raw == b"$8\r\nlistpack\r\n";
    is_70(case) && case.has.low_intset && ours_packed && case.theirs.raw == b"$6\r\nintset\r\n"
}

const fn cursor(name: &'static str) -> Exception {
    let applies = |case: &Case| {
        let refused = |reply: &Reply| reply.raw == b"-ERR invalid cursor\r\n";
        !is_70(case) && refused(case.ours) != refused(case.theirs)
    };
    Exception {
        name,
        reason: "cursors that no scan gives are taken or refused as by 7.0",
        applies,
    }
}

/// Only for what changes nothing: what else came of it would differ too.
const fn numbers(name: &'static str) -> Exception {
    let applies = |case: &Case| {
        let refused = |reply: &Reply| reply.raw.ends_with(b"can't be converted into double\r\n");
        !case.version.starts_with("8.2.") && refused(case.ours) != refused(case.theirs)
    };
    Exception {
        name,
        reason: "elements are read as numbers as in 8.2: 7.0 takes white space and hexadecimal, and refuses all after an earlier overflow; Valkey takes no empty text",
        applies,
    }
}

const fn order_of_equals(name: &'static str) -> Exception {
    let applies = |case: &Case| {
        let with_zero = |item: &Value| matches!(item, Value::Bulk(text) if text.contains(&0));
        let some = items(&case.theirs.value).is_some_and(|items| items.iter().any(with_zero));
        some && loosely_same(Check::Sorted, &case.ours.value, &case.theirs.value)
    };
    Exception {
        name,
        reason: "Redis compares texts up to their first zero byte; here they are compared whole",
        applies,
    }
}

const fn valkey_fields(name: &'static str) -> Exception {
    Exception {
        name,
        reason: "errors of commands that both have are in Redis's words, and found in its order",
        applies: |case| {
            case.version.starts_with('9') && case.ours.is_error() && case.theirs.is_error()
        },
    }
}

const VALKEY_LAG: &str = "as in 8.2, which keeps entries-read within what there was, and knows the lag of an emptied stream";

/// Only these two facts differ, but a reply is compared as a whole.
const fn valkey_lag(name: &'static str) -> Exception {
    Exception {
        name,
        reason: VALKEY_LAG,
        applies: |case| {
            case.version.starts_with('9') && !case.ours.is_error() && !case.theirs.is_error()
        },
    }
}

fn unbalanced(case: &Case) -> bool {
    let says = |reply: &Reply| reply.raw.starts_with(b"-ERR Unbalanced ");
    !case.version.starts_with("8.2") && says(case.ours) && says(case.theirs)
}

const fn help(name: &'static str) -> Exception {
    let applies = |case: &Case| {
        let lines = |reply: &Reply| items(&reply.value).is_some_and(|lines| lines.len() > 2);
        case.args.len() == 2 && lines(case.ours) && lines(case.theirs)
    };
    Exception {
        name,
        reason: "help texts are our own words",
        applies,
    }
}

pub fn excepted(name: &str, case: &Case) -> Option<&'static str> {
    EXCEPTIONS
        .iter()
        .find(|one| one.name == name && (one.applies)(case))
        .map(|one| one.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(raw: &str, value: Value) -> Reply {
        Reply {
            raw: raw.as_bytes().to_vec(),
            value,
        }
    }

    fn array(words: &[&str]) -> Reply {
        let items = words
            .iter()
            .map(|word| Value::Bulk(word.as_bytes().to_vec()))
            .collect();
        reply(&words.join(" "), Value::Array(items))
    }

    #[test]
    fn order_counts_only_where_the_value_is_packed() {
        let (ours, theirs) = (array(&["a", "b"]), array(&["b", "a"]));
        let listpack = reply("listpack", Value::Bulk(b"listpack".to_vec()));
        let table = reply("hashtable", Value::Bulk(b"hashtable".to_vec()));
        assert!(differ(Check::Exact, None, &ours, &theirs).is_some());
        assert!(differ(Check::Sorted, Some(&table), &ours, &theirs).is_none());
        assert!(differ(Check::Sorted, Some(&listpack), &ours, &theirs).is_some());
        assert!(differ(Check::Sorted, None, &ours, &array(&["a", "c"])).is_some());
    }

    #[test]
    fn pairs_stay_together() {
        let (ours, theirs) = (array(&["a", "1", "b", "2"]), array(&["b", "2", "a", "1"]));
        assert!(differ(Check::SortedPairs, None, &ours, &theirs).is_none());
        assert!(
            differ(
                Check::SortedPairs,
                None,
                &ours,
                &array(&["a", "2", "b", "1"])
            )
            .is_some()
        );
    }

    #[test]
    fn errors_are_compared_exactly_whatever_the_check() {
        let ours = reply("-ERR one", Value::Error(b"ERR one".to_vec()));
        let theirs = reply("-ERR two", Value::Error(b"ERR two".to_vec()));
        for check in [
            Check::Sorted,
            Check::Shape,
            Check::Type,
            Check::Near(5),
            Check::Hello,
            Check::Scan,
        ] {
            assert!(differ(check, None, &ours, &theirs).is_some());
        }
    }

    #[test]
    fn a_missing_key_is_not_near_a_short_life() {
        let (ours, theirs) = (
            reply("-2", Value::Integer(-2)),
            reply("1", Value::Integer(1)),
        );
        assert!(differ(Check::Near(1000), None, &ours, &theirs).is_some());
        let (ours, theirs) = (
            reply("100", Value::Integer(100)),
            reply("101", Value::Integer(101)),
        );
        assert!(differ(Check::Near(1), None, &ours, &theirs).is_none());
        assert!(differ(Check::Near(0), None, &ours, &theirs).is_some());
    }
}
