//! The whole keyspace of two servers, key by key: type, encoding, time to live and value.

use std::collections::BTreeMap;
use std::io;

use crate::compare::{Case, Check, differ, excepted};
use crate::resp::{Client, Reply, Value, args, shown};
use crate::run::Pair;

/// Times to live may drift by how far apart the servers were asked.
const TTL_TOLERANCE_MS: i64 = 5000;

pub type Keys = BTreeMap<(usize, Vec<u8>), Vec<(Vec<Vec<u8>>, Check, Reply)>>;

/// The first differences, if any, as text.
pub fn compare(pair: &Pair) -> io::Result<Option<String>> {
    let ours = read(pair.ours.port)?;
    let theirs = read(pair.theirs.port)?;
    let mut found = Vec::new();
    for (key, expected) in &theirs {
        let name = format!("db {} key \"{}\"", key.0, shown(&key.1, 100));
        let Some(got) = ours.get(key) else {
            found.push(format!("{name} is missing ({})", expected[0].2.shown()));
            continue;
        };
        for ((command, check, expected), (_, _, got)) in expected.iter().zip(got) {
            if let Some(text) = differ(*check, None, got, expected) {
                let case = Case {
                    args: command,
                    ours: got,
                    theirs: expected,
                    version: &pair.version,
                    has: pair.has,
                };
                if excepted("keyspace", &case).is_none() {
                    let command = shown(&command.join(&b' '), 100);
                    found.push(format!("{name}, {command}:\n    {text}"));
                    break;
                }
            }
        }
    }
    for key in ours.keys().filter(|key| !theirs.contains_key(*key)) {
        found.push(format!(
            "db {} key \"{}\" is not in the reference",
            key.0,
            shown(&key.1, 100)
        ));
    }
    found.truncate(5);
    Ok((!found.is_empty()).then(|| found.join("\n    ")))
}

/// Where two states of one server differ; the first few.
pub fn differences(was: &Keys, is: &Keys) -> Vec<String> {
    let mut found = Vec::new();
    for (key, expected) in was {
        let name = format!("db {} key \"{}\"", key.0, shown(&key.1, 100));
        let Some(got) = is.get(key) else {
            let ttl = expected.iter().find(|(command, ..)| command[0] == b"PTTL");
            let soon = |reply: &Reply| matches!(reply.value, Value::Integer(ms) if (-2..20_000).contains(&ms) && ms != -1);
            // Its time may be over by now.
            if !ttl.is_some_and(|(_, _, reply)| soon(reply)) {
                found.push(format!("{name} is missing ({})", expected[0].2.shown()));
            }
            continue;
        };
        for ((command, check, expected), (_, _, got)) in expected.iter().zip(got) {
            // What was changed in place is read as it would be made anew, and by the settings of now.
            let is_hll = |reply: &Reply| reply.raw.windows(5).take(9).any(|w| w == b"\nHYLL");
            let how = command[0] == b"OBJECT" || is_hll(expected) && is_hll(got);
            // A packed sorted set knows one zero.
            let one_zero = |reply: &Reply| {
                shown(&reply.raw, usize::MAX).replace("$2\\r\\n-0\\r", "$1\\r\\n0\\r")
            };
            // Fields may have expired meanwhile.
            let pairs = |reply: &Reply| match &reply.value {
                Value::Array(items) => {
                    let pairs = items.chunks(2).map(|pair| format!("{pair:?}"));
                    pairs.collect::<std::collections::BTreeSet<String>>()
                }
                _ => Default::default(),
            };
            let how = how || command[0] == b"HGETALL" && pairs(got).is_subset(&pairs(expected));
            let how = how || command[0] == b"ZRANGE" && one_zero(expected) == one_zero(got);
            if let Some(text) = differ(*check, None, got, expected).filter(|_| !how) {
                found.push(format!(
                    "{name}, {}:\n    {text}",
                    shown(&command.join(&b' '), 100)
                ));
                break;
            }
        }
    }
    for key in is.keys().filter(|key| !was.contains_key(*key)) {
        let name = shown(&key.1, 100);
        found.push(format!("db {} key \"{name}\" was not there", key.0));
    }
    found.truncate(8);
    found
}

pub fn read(port: u16) -> io::Result<Keys> {
    let mut client = Client::connect(port)?;
    let mut keys = Keys::new();
    let ask: Vec<_> = (0..16)
        .flat_map(|db| [args(&["SELECT", &db.to_string()]), args(&["KEYS", "*"])])
        .collect();
    for (db, reply) in client
        .pipeline(&ask)?
        .into_iter()
        .skip(1)
        .step_by(2)
        .enumerate()
    {
        let Value::Array(names) = reply.value else {
            return Err(io::Error::other(format!("KEYS *: {}", reply.shown())));
        };
        let bytes = |name| {
            if let Value::Bulk(name) = name {
                Some(name)
            } else {
                None
            }
        };
        let names: Vec<Vec<u8>> = names.into_iter().filter_map(bytes).collect();
        if names.is_empty() {
            continue;
        }
        client.call(&["SELECT", &db.to_string()])?;
        let ask: Vec<_> = names
            .iter()
            .map(|name| about(&["TYPE"], name, &[]))
            .collect();
        let kinds = client.pipeline(&ask)?;
        let asked: Vec<Vec<(Vec<Vec<u8>>, Check)>> = names
            .iter()
            .zip(&kinds)
            .map(|(name, kind)| questions(name, &kind.value))
            .collect();
        let ask: Vec<_> = asked
            .iter()
            .flatten()
            .map(|(command, _)| command.clone())
            .collect();
        let mut replies = client.pipeline(&ask)?.into_iter();
        for ((name, kind), asked) in names.into_iter().zip(kinds).zip(asked) {
            let expired = matches!(&kind.value, Value::Simple(kind) if kind[..] == *b"none");
            let mut known = vec![(about(&["TYPE"], &name, &[]), Check::Exact, kind)];
            known.extend(
                asked
                    .into_iter()
                    .zip(&mut replies)
                    .map(|((command, check), reply)| (command, check, reply)),
            );
            if !expired {
                keys.insert((db, name), known);
            }
        }
    }
    Ok(keys)
}

fn about(words: &[&str], name: &[u8], rest: &[&str]) -> Vec<Vec<u8>> {
    [args(words), vec![name.to_vec()], args(rest)].concat()
}

/// What to ask about a key of this type.
fn questions(name: &[u8], kind: &Value) -> Vec<(Vec<Vec<u8>>, Check)> {
    let mut questions = vec![
        (about(&["OBJECT", "ENCODING"], name, &[]), Check::Exact),
        (about(&["PTTL"], name, &[]), Check::Near(TTL_TOLERANCE_MS)),
    ];
    let Value::Simple(kind) = kind else {
        return questions;
    };
    match &kind[..] {
        b"string" => questions.push((about(&["GET"], name, &[]), Check::Exact)),
        b"list" => questions.push((about(&["LRANGE"], name, &["0", "-1"]), Check::Exact)),
        b"set" => questions.push((about(&["SMEMBERS"], name, &[]), Check::Sorted)),
        b"zset" => questions.push((
            about(&["ZRANGE"], name, &["0", "-1", "WITHSCORES"]),
            Check::Exact,
        )),
        b"hash" => questions.push((about(&["HGETALL"], name, &[]), Check::SortedPairs)),
        b"stream" => {
            questions.push((about(&["XRANGE"], name, &["-", "+"]), Check::Exact));
            questions.push((about(&["XINFO", "STREAM"], name, &[]), Check::Shape));
            questions.push((about(&["XINFO", "GROUPS"], name, &[]), Check::Exact));
        }
        _ => {}
    }
    questions
}
