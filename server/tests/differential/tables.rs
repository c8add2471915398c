//! What a server says about itself as a table: COMMAND INFO, COMMAND DOCS, INFO's fields.
//!
//! Each command that Ringwood knows has to be described as the reference describes it, since clients route and
//! validate by that. Sets of words (flags, categories, hints) have no order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::resp::{Client, Value};

/// A description as text, one line per fact, so that a difference is readable.
type Facts = BTreeSet<String>;

fn text(value: &Value) -> String {
    match value {
        Value::Simple(bytes)
        | Value::Bulk(bytes)
        | Value::Error(bytes)
        | Value::Verbatim(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Null => "nil".to_owned(),
        other => format!("{other:?}"),
    }
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) | Value::Set(items) => items,
        _ => &[],
    }
}

/// The names of all commands, with subcommands as `config|get`.
pub fn names(client: &mut Client) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let reply = client.call(&["COMMAND"])?;
    for command in items(&reply.value) {
        let fields = items(command);
        if let Some(name) = fields.first() {
            names.insert(text(name));
        }
        for sub in fields.get(9).map(items).unwrap_or_default() {
            if let Some(name) = items(sub).first() {
                names.insert(text(name));
            }
        }
    }
    Ok(names)
}

/// COMMAND INFO of one command; `None` if it is not known.
pub fn info(client: &mut Client, name: &str) -> io::Result<Option<Facts>> {
    let reply = client.call(&["COMMAND", "INFO", name])?;
    let Some(fields) = items(&reply.value)
        .first()
        .filter(|value| !matches!(value, Value::Null))
        .map(items)
    else {
        return Ok(None);
    };
    let mut facts = Facts::new();
    for (at, label) in [
        "name",
        "arity",
        "flag",
        "first key",
        "last key",
        "step",
        "category",
        "hint",
    ]
    .iter()
    .enumerate()
    {
        match fields.get(at) {
            Some(Value::Array(words) | Value::Set(words)) => {
                facts.extend(words.iter().map(|word| format!("{label} {}", text(word))));
            }
            Some(value) => {
                facts.insert(format!("{label} {}", text(value)));
            }
            None => {
                facts.insert(format!("no {label}"));
            }
        }
    }
    for (at, spec) in fields
        .get(8)
        .map(items)
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        flatten(&format!("key spec {at}"), spec, &mut facts);
    }
    Ok(Some(facts))
}

/// Of COMMAND DOCS: since when, in which group, and the keywords among the arguments. Summaries are every server's own
/// words, and how arguments nest and are named changed between versions.
pub fn docs(client: &mut Client, name: &str) -> io::Result<Option<Facts>> {
    let reply = client.call(&["COMMAND", "DOCS", name])?;
    let pairs = items(&reply.value);
    let [_, fields] = pairs else { return Ok(None) };
    let mut all = Facts::new();
    let mut facts = Facts::new();
    for pair in items(fields).chunks(2) {
        let [key, value] = pair else { continue };
        match text(key).as_str() {
            key @ ("since" | "group") => flatten(key, value, &mut facts),
            "arguments" => flatten("arguments", value, &mut all),
            _ => {}
        }
    }
    facts.extend(
        all.iter()
            .filter_map(|fact| fact.split_once(".token "))
            .map(|(_, token)| format!("keyword {token}")),
    );
    Ok(Some(facts))
}

/// Nested maps (flat arrays in RESP2) as lines `path value`; arrays of words as one line per word.
fn flatten(path: &str, value: &Value, facts: &mut Facts) {
    let parts = items(value);
    let is_map = parts.len().is_multiple_of(2)
        && !parts.is_empty()
        && parts.chunks(2).all(|pair| matches!(&pair[0], Value::Bulk(key) if key.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'_')))
        && parts.iter().any(|part| matches!(part, Value::Bulk(key) if matches!(&key[..], b"name" | b"type" | b"flags" | b"index" | b"lastkey" | b"keyword" | b"keynumidx" | b"begin_search")));
    if is_map {
        for pair in parts.chunks(2) {
            flatten(&format!("{path}.{}", text(&pair[0])), &pair[1], facts);
        }
    } else if parts.is_empty() {
        if !matches!(value, Value::Array(_)) {
            facts.insert(format!("{path} {}", text(value)));
        }
    } else {
        for (at, part) in parts.iter().enumerate() {
            match part {
                Value::Array(_) => flatten(&format!("{path}[{at}]"), part, facts),
                word => {
                    facts.insert(format!("{path} {}", text(word)));
                }
            }
        }
    }
}

/// INFO everything: section to field names.
pub fn info_fields(client: &mut Client) -> io::Result<BTreeMap<String, BTreeSet<String>>> {
    let reply = client.call(&["INFO", "everything"])?;
    let text = text(&reply.value);
    let mut sections: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# ") {
            section = name.to_owned();
        } else if let Some((field, _)) = line.split_once(':') {
            sections
                .entry(section.clone())
                .or_default()
                .insert(field.to_owned());
        }
    }
    Ok(sections)
}

/// What one has and the other lacks, as text. A keyword more is a newer option, not a difference.
pub fn difference(ours: &Facts, theirs: &Facts) -> Option<String> {
    let missing: Vec<&str> = theirs.difference(ours).map(String::as_str).collect();
    let extra: Vec<&str> = ours
        .difference(theirs)
        .map(String::as_str)
        .filter(|fact| !fact.starts_with("keyword "))
        .collect();
    if missing.is_empty() && extra.is_empty() {
        return None;
    }
    Some(format!(
        "lacks [{}], has [{}]",
        missing.join("; "),
        extra.join("; ")
    ))
}

/// Descriptions that differ on purpose: the command, the start of the facts that may differ, and why.
pub const TABLE_EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "msetex",
    "since",
    "Redis has it since 8.4.0, Valkey since 9.1.0",
)];

/// INFO's fields that have no meaning here: the field (a `*` at its end for any that begins so) and why.
pub const INFO_EXCEPTIONS: &[(&str, &str)] = &[
    ("gcc_version", "the compiler is rustc"),
    ("atomicvar_api", "a choice of Redis's C code"),
    (
        "lazyfreed_objects",
        "not counted: what waits to be freed is",
    ),
    (
        "dump_payload_sanitizations",
        "every payload is looked through",
    ),
    ("slave_expires_tracked_keys", "no replicas"),
    ("current_eviction_exceeded_time", "not counted"),
    ("total_eviction_exceeded_time", "not counted"),
    ("current_cow*", "no fork"),
    ("current_fork_perc", "no fork"),
    ("aof_last_cow_size", "no fork"),
    ("rdb_last_cow_size", "no fork"),
    ("latest_fork_usec", "no fork"),
    ("total_forks", "no fork"),
    ("module_fork*", "no fork, no modules"),
    ("active_defrag*", "no such defragmentation"),
    ("current_active_defrag_time", "no such defragmentation"),
    ("total_active_defrag_time", "no such defragmentation"),
    (
        "expire_cycle_cpu_milliseconds",
        "expiry looks only at what is due",
    ),
    ("expired_stale_perc", "expiry looks only at what is due"),
    (
        "expired_time_cap_reached_count",
        "expiry looks only at what is due",
    ),
    ("io_threaded*", "no such threads"),
    (
        "reply_buffer*",
        "reply buffers do not shrink and grow in steps",
    ),
];
