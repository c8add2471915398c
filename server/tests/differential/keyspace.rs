//! The whole keyspace of two servers, key by key: type, encoding, time to live and value.

use std::collections::BTreeMap;
use std::io;

use crate::compare::{Case, Check, differ, excepted};
use crate::resp::{Client, Reply, Value, encode, shown};

/// Times to live may drift by how far apart the servers were asked.
const TTL_TOLERANCE_MS: i64 = 5000;

type Keys = BTreeMap<(usize, Vec<u8>), Vec<(Vec<Vec<u8>>, Check, Reply)>>;

/// The first differences, if any, as text.
pub fn compare(ours: u16, theirs: u16, version: &str) -> io::Result<Option<String>> {
    let ours = read(ours)?;
    let theirs = read(theirs)?;
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
                    version,
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

fn read(port: u16) -> io::Result<Keys> {
    let mut client = Client::connect(port)?;
    let mut keys = Keys::new();
    for db in 0..16 {
        client.call(&["SELECT", &db.to_string()])?;
        let Value::Array(names) = client.call(&["KEYS", "*"])?.value else {
            continue;
        };
        let names: Vec<Vec<u8>> = names
            .into_iter()
            .filter_map(|name| {
                if let Value::Bulk(name) = name {
                    Some(name)
                } else {
                    None
                }
            })
            .collect();
        for name in names {
            let kind = client.command(&[b"TYPE".to_vec(), name.clone()])?;
            let mut commands = vec![
                (vec!["OBJECT", "ENCODING"], vec![], Check::Exact),
                (vec!["PTTL"], vec![], Check::Near(TTL_TOLERANCE_MS)),
            ];
            if let Value::Simple(kind) = &kind.value {
                commands.extend(match &kind[..] {
                    b"string" => vec![(vec!["GET"], vec![], Check::Exact)],
                    b"list" => vec![(vec!["LRANGE"], vec!["0", "-1"], Check::Exact)],
                    b"set" => vec![(vec!["SMEMBERS"], vec![], Check::Sorted)],
                    b"zset" => vec![(vec!["ZRANGE"], vec!["0", "-1", "WITHSCORES"], Check::Exact)],
                    b"hash" => vec![(vec!["HGETALL"], vec![], Check::SortedPairs)],
                    b"stream" => vec![
                        (vec!["XRANGE"], vec!["-", "+"], Check::Exact),
                        (vec!["XINFO", "STREAM"], vec![], Check::Shape),
                        (vec!["XINFO", "GROUPS"], vec![], Check::Exact),
                    ],
                    _ => vec![],
                });
            }
            let mut replies = vec![(vec![b"TYPE".to_vec(), name.clone()], Check::Exact, kind)];
            let mut bytes = Vec::new();
            let mut sent = Vec::new();
            for (words, rest, check) in commands {
                let mut command: Vec<Vec<u8>> =
                    words.iter().map(|word| word.as_bytes().to_vec()).collect();
                command.push(name.clone());
                command.extend(rest.iter().map(|word| word.as_bytes().to_vec()));
                encode(&command, &mut bytes);
                sent.push((command, check));
            }
            client.send(&bytes)?;
            for (command, check) in sent {
                let reply = client.reply()?;
                replies.push((command, check, reply));
            }
            keys.insert((db, name), replies);
        }
    }
    Ok(keys)
}
