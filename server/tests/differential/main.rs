//! The differential test: seeded random commands go to Ringwood and to a real server beside it, and every reply and
//! the keyspace at the end have to be the same.
//!
//! Idea: the real server is the specification. The streams come from grammars (one file per family of commands), run
//! in pipelines of random length, in RESP2 and RESP3, against several shard counts, so that commands with several
//! keys cross cores. A difference is made small and shown as commands to type, with the seed that brings it back.
//! Commands that Ringwood or the reference does not know are left out, and named.
//!
//! Settings, from the environment (`./check diff --NAME VALUE` sets them):
//! - RINGWOOD_BIN: the server under test; default: the one cargo built. A real Redis works too, to try the harness.
//! - RINGWOOD_PEERS: where the real servers are; RINGWOOD_REQUIRE_PEERS or CI: their absence is a failure.
//! - RINGWOOD_DIFF_SECONDS: time in all (default 20). RINGWOOD_DIFF_SEED: first seed. RINGWOOD_DIFF_COMMANDS: per stream.
//! - RINGWOOD_DIFF_SHARDS: `1,2,4`. RINGWOOD_DIFF_RESP: `2,3`. RINGWOOD_DIFF_REFERENCE: `7.0,8.2,9.1`.
//! - RINGWOOD_DIFF_FAMILY: `strings,keys`. RINGWOOD_DIFF_FAILURES: stop after.

mod bits;
mod compare;
mod connection;
mod events;
mod geo;
mod grammar;
mod hashes;
mod hll;
mod keys;
mod keyspace;
mod lists;
mod log;
#[path = "../ports/mod.rs"]
mod ports;
mod random;
mod resp;
mod run;
mod scripts;
mod server;
mod sets;
mod sort;
mod streams;
mod strings;
mod tables;
mod zsets;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};
use std::{env, io};

use grammar::{From, Generator, Spec, Step};
use resp::{Client, Value};
use run::{Batching, Count, Pair};
use server::Server;

const FAMILIES: &[(&str, &[Spec])] = &[
    ("strings", strings::SPECS),
    ("keys", keys::SPECS),
    ("connection", connection::SPECS),
    ("lists", lists::SPECS),
    ("hashes", hashes::SPECS),
    ("sets", sets::SPECS),
    ("zsets", zsets::SPECS),
    ("streams", streams::SPECS),
    ("bits", bits::SPECS),
    ("hll", hll::SPECS),
    ("geo", geo::SPECS),
    ("sort", sort::SPECS),
    ("scripts", scripts::SPECS),
];

/// The commands of other families that random scripts call: those that are compared with 8.2 as they are.
fn called_by_scripts() -> &'static [&'static Spec] {
    static CALLED: OnceLock<Vec<&'static Spec>> = OnceLock::new();
    CALLED.get_or_init(|| {
        let families = specs_for(From::Redis82, &[]);
        let others = families
            .iter()
            .filter(|(name, _)| !matches!(*name, "scripts" | "connection"));
        let specs = others.flat_map(|(_, specs)| specs.iter().copied());
        specs.filter(|spec| scripts::is_called(spec)).collect()
    })
}

/// The real servers, and what of the grammar is for each besides what is for all.
const REFERENCES: &[(&str, &str, From)] = &[
    ("7.0", "redis-server-7.0", From::Redis70),
    ("8.2", "redis-server-8.2", From::Redis82),
    ("9.1", "valkey-server-9.1", From::Valkey91),
];

fn setting(name: &str) -> Option<String> {
    env::var(format!("RINGWOOD_DIFF_{name}"))
        .ok()
        .filter(|text| !text.is_empty())
}

fn number(name: &str, default: u64) -> u64 {
    setting(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("RINGWOOD_DIFF_{name}: {text}"))
    })
}

fn list(name: &str, default: &str) -> Vec<String> {
    let text = setting(name).unwrap_or_else(|| default.to_owned());
    text.split(',').map(|item| item.trim().to_owned()).collect()
}

fn server_under_test() -> PathBuf {
    env::var_os("RINGWOOD_BIN").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_ringwood")),
        |path| {
            // Tests run in the package's folder; a relative path is meant from where the user stands: the checkout's top.
            let path = PathBuf::from(path);
            if path.is_absolute() {
                path
            } else {
                Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
            }
        },
    )
}

/// Whether the server under test is a real one, which has no shards to set.
fn is_real(binary: &Path) -> bool {
    let output = Command::new(binary).arg("--version").output();
    let text = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    text.starts_with("Redis server v=") || text.starts_with("Valkey server v=")
}

/// Until the server is there, its binary ends at once and says nothing.
fn is_stub(binary: &Path) -> bool {
    Command::new(binary)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.stdout.is_empty() && output.status.success())
}

fn version(server: &Server) -> io::Result<String> {
    let info = Client::connect(server.port)?.call(&["INFO", "server"])?;
    let text = match info.value {
        Value::Bulk(text) => String::from_utf8_lossy(&text).into_owned(),
        _ => return Err(io::Error::other(format!("INFO: {}", info.shown()))),
    };
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::to_owned)
    };
    field("valkey_version:")
        .or_else(|| field("redis_version:"))
        .ok_or_else(|| io::Error::other("INFO has no version"))
}

/// Which of these commands a server knows. Asks COMMAND INFO; a server without it is sent the bare command.
fn known(port: u16, specs: &[&Spec]) -> io::Result<BTreeSet<&'static str>> {
    let mut client = Client::connect(port)?;
    let names: BTreeMap<&'static str, String> = specs
        .iter()
        .map(|spec| (spec.name, spec.info_name()))
        .collect();
    let mut known = BTreeSet::new();
    for (name, info_name) in names {
        let reply = client.call(&["COMMAND", "INFO", &info_name])?;
        let is_known = match &reply.value {
            Value::Array(items) => items
                .first()
                .is_some_and(|item| !matches!(item, Value::Null)),
            _ => {
                let words: Vec<&str> = name.split(' ').collect();
                let bare = Client::connect(port)?.call(&words)?;
                !String::from_utf8_lossy(&bare.raw).contains("unknown")
            }
        };
        // No server knows it: that is its point.
        if is_known || name == "NOSUCHCOMMAND" {
            known.insert(name);
        }
    }
    Ok(known)
}

/// Old commands that a newer reference is asked too, so that its new ones have something to work on. The others
/// are compared with 7.0 only, whose behaviour Ringwood keeps where a later version changed it.
const AROUND_NEW: &[&str] = &[
    "SET", "GET", "MGET", "APPEND", "INCR", "DEL", "EXISTS", "PTTL", "TTL", "EXPIRE", "PERSIST",
    "RENAME", "HSET", "HGET", "HDEL", "HLEN", "HGETALL", "HINCRBY", "FLUSHALL", "SETBIT", "GETBIT",
    "BITFIELD", "SETRANGE",
];

/// Families that every reference is asked whole: where versions differ, Ringwood is as the newest.
const WHOLE: &[&str] = &["lists", "hashes", "sets", "sort", "bits", "hll", "streams"];

/// Families that are compared with 8.2 instead of 7.0: since 7.2 a score's text is the shortest that reads back as the same number, and
/// nearly every reply has one. (Valkey 9.1 differs from 8.2 in scores in hexadecimal and in negative offsets of LIMIT.)
const OF_THE_NEWEST: &[&str] = &["zsets", "geo"];

/// What runs against a reference: everything of 7.0, or what a newer one has that 7.0 has not.
fn specs_for(reference: From, families: &[String]) -> Vec<(&'static str, Vec<&'static Spec>)> {
    let wanted = |name: &str, spec: &Spec| {
        let newest = OF_THE_NEWEST.contains(&name);
        match reference {
            From::Redis70 => !newest && spec.from == From::Redis70,
            newer => {
                let around = match newest {
                    true => newer == From::Redis82,
                    false => WHOLE.contains(&name) || AROUND_NEW.contains(&spec.name),
                };
                spec.from == newer
                    || spec.from == From::Newer
                    || (spec.from == From::Redis70 && around)
            }
        }
    };
    FAMILIES
        .iter()
        .filter(|(name, _)| families.is_empty() || families.iter().any(|family| family == name))
        .map(|(name, specs)| {
            let specs = specs.iter().filter(|spec| wanted(name, spec));
            (*name, specs.collect::<Vec<_>>())
        })
        .filter(|(name, specs)| {
            let newest = reference == From::Redis82 && OF_THE_NEWEST.contains(name);
            let of_it = |spec: &Spec| spec.from == reference || spec.from == From::Newer;
            let new = newest || WHOLE.contains(name) || specs.iter().any(|spec| of_it(spec));
            !specs.is_empty() && (reference == From::Redis70 || new || *name == "keys")
        })
        .collect()
}

/// The commands of one stream: mostly one family with keys and a little of the connection, sometimes all together.
fn mix(families: &[(&'static str, Vec<&'static Spec>)], seed: u64) -> (String, Vec<&'static Spec>) {
    let all = families.len();
    let pick = (seed as usize) % (all + 2);
    if pick >= all {
        return (
            "all".to_owned(),
            families
                .iter()
                .flat_map(|(_, specs)| specs.iter().copied())
                .collect(),
        );
    }
    let (name, own) = &families[pick];
    let mut specs = own.clone();
    if *name != "keys" {
        specs.extend(
            families
                .iter()
                .filter(|(other, _)| *other == "keys")
                .flat_map(|(_, specs)| specs.iter().copied()),
        );
    }
    ((*name).to_owned(), specs)
}

/// What one pairing of Ringwood and a reference brought.
#[derive(Default)]
struct Outcome {
    streams: usize,
    count: Count,
    failures: Vec<String>,
    /// Streams that ended because the reference died.
    crashes: usize,
}

struct Plan {
    seed: u64,
    commands: usize,
    most_failures: usize,
    families: Vec<String>,
}

fn run_pair(
    pair: &mut Pair,
    from: From,
    plan: &Plan,
    end: Instant,
    skipped: &mut BTreeSet<&'static str>,
) -> io::Result<Outcome> {
    let mut families = specs_for(from, &plan.families);
    let every: Vec<&Spec> = families
        .iter()
        .flat_map(|(_, specs)| specs.iter().copied())
        .collect();
    let ours = known(pair.ours.port, &every)?;
    let theirs = known(pair.theirs.port, &every)?;
    for spec in &every {
        if !ours.contains(spec.name) && theirs.contains(spec.name) {
            skipped.insert(spec.name);
        }
    }
    for (_, specs) in &mut families {
        specs.retain(|spec| ours.contains(spec.name) && theirs.contains(spec.name));
    }
    families.retain(|(_, specs)| !specs.is_empty());
    assert!(
        !families.is_empty(),
        "no command of the grammar is known to both servers"
    );
    let mut outcome = Outcome::default();
    let mut seen = BTreeSet::new();
    for seed in plan.seed.. {
        if outcome.streams > 0
            && (Instant::now() > end || outcome.failures.len() >= plan.most_failures)
        {
            break;
        }
        let (family, specs) = mix(&families, seed);
        let mut generator = Generator::new(seed, specs);
        // A failure seen once is not shown again: the others would drown in it.
        let steps: Vec<Step> = (0..plan.commands).map(|_| generator.step()).collect();
        let batching = Batching::Random(seed);
        outcome.streams += 1;
        let Some(failure) = pair.run(&steps, batching, &mut outcome.count)? else {
            continue;
        };
        if pair.crashed {
            outcome.crashes += 1;
            println!(
                "  seed {seed}: the reference died, which is no difference: {}",
                failure.name
            );
            // Else nothing would be compared, and nobody would know.
            let share = outcome.crashes * 10 > outcome.streams.max(20);
            assert!(!share, "the reference dies all the time: {}", failure.text);
            continue;
        }
        let name = failure.name.clone();
        if !seen.insert(name.clone()) {
            continue;
        }
        let shrunk = pair.shrink(&steps, failure, batching, Duration::from_secs(20));
        outcome.failures.push(format!(
            "{name}: {} against Redis/Valkey {}, RESP{}, family {family}\n{}\n    again: ./check diff --seed {seed} --reference {} --resp {}",
            pair.ours.name,
            pair.version,
            pair.resp,
            shrunk.shown(),
            &pair.version[..3],
            pair.resp,
        ));
    }
    Ok(outcome)
}

/// Whether the absence of a peer is a failure.
fn peers_required() -> bool {
    env::var_os("RINGWOOD_REQUIRE_PEERS").is_some() || env::var_os("CI").is_some()
}

/// The server under test with one shard count and a reference, or nothing where one of them is not there.
fn one_pair(file: &str, shards: usize) -> Option<(Server, Server)> {
    let path = server::peers().join("bin").join(file);
    if !path.exists() {
        assert!(
            !peers_required(),
            "{} is missing: bench/peers.sh installs it",
            path.display()
        );
        println!(
            "skipped: {} is missing (bench/peers.sh installs it)",
            path.display()
        );
        return None;
    }
    let binary = server_under_test();
    if is_stub(&binary) {
        println!("skipped: {} is not a server yet", binary.display());
        return None;
    }
    let shards = (!is_real(&binary)).then_some(shards);
    let ours = Server::start(&binary, shards).expect("the server under test starts");
    let theirs = Server::start(&path, None).expect("the reference starts");
    Some((ours, theirs))
}

#[test]
fn commands_are_described_as_a_real_server_describes_them() {
    // A command that later versions extended may be described as any of them does.
    let mut compared: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    for file in ["redis-server-7.0", "redis-server-8.2", "valkey-server-9.1"] {
        let Some((ours, theirs)) = one_pair(file, 2) else {
            return;
        };
        let mut ours = Client::connect(ours.port).expect("the server under test answers");
        let mut theirs = Client::connect(theirs.port).expect("the reference answers");
        let count = ours
            .call(&["COMMAND", "COUNT"])
            .expect("the server under test answers");
        if count.is_error() && !peers_required() {
            println!("skipped: the server does not know COMMAND yet");
            return;
        }
        for (name, difference) in
            compare_tables(&mut ours, &mut theirs).expect("both describe their commands")
        {
            let difference = difference.map(|text| format!("{name}, to {file}: {text}"));
            compared.entry(name).or_default().push(difference);
        }
    }
    println!("{} commands compared", compared.len());
    assert!(!compared.is_empty(), "no command was compared");
    let differences: Vec<&str> = compared
        .values()
        .filter(|all| all.iter().all(Option::is_some))
        .filter_map(|all| all.first().and_then(Option::as_deref))
        .collect();
    assert!(
        differences.is_empty(),
        "{} descriptions differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// Each command that both know, and how its description differs.
fn compare_tables(
    ours: &mut Client,
    theirs: &mut Client,
) -> io::Result<Vec<(String, Option<String>)>> {
    let mut compared = Vec::new();
    for name in tables::names(ours)? {
        let Some(expected) = tables::info(theirs, &name)? else {
            continue;
        };
        let expected_docs = tables::docs(theirs, &name)?.unwrap_or_default();
        let got = tables::info(ours, &name)?.unwrap_or_default();
        let got_docs = tables::docs(ours, &name)?.unwrap_or_default();
        let mut differences = Vec::new();
        for (what, got, expected) in [("INFO", got, expected), ("DOCS", got_docs, expected_docs)] {
            let meant = |fact: &String| {
                tables::TABLE_EXCEPTIONS
                    .iter()
                    .any(|(command, start, _)| *command == name && fact.starts_with(start))
            };
            let got = got.into_iter().filter(|fact| !meant(fact)).collect();
            let expected = expected.into_iter().filter(|fact| !meant(fact)).collect();
            differences
                .extend(tables::difference(&got, &expected).map(|text| format!("{what} {text}")));
        }
        let difference = (!differences.is_empty()).then(|| differences.join(", "));
        compared.push((name, difference));
    }
    Ok(compared)
}

#[test]
fn notifications_are_those_of_a_real_server() {
    let seconds = number("SECONDS", 20) / 4;
    let end = Instant::now() + Duration::from_secs(seconds);
    let families = list(
        "FAMILY",
        "strings,keys,lists,hashes,sets,zsets,geo,streams,bits,sort",
    );
    let first = number(
        "SEED",
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(1, |d| d.as_secs()),
    );
    let pairs: Vec<_> = [1, 4]
        .iter()
        .map_while(|&shards| one_pair("redis-server-8.2", shards))
        .collect();
    let (mut compared, mut failures) = (0, Vec::new());
    for seed in first.. {
        for (ours, theirs) in &pairs {
            for (family, specs) in specs_for(From::Redis82, &families) {
                let ours_known = known(ours.port, &specs).expect("the server under test answers");
                // What it removes over mixed scores depends on how a skiplist's levels fell.
                let by_chance = |s: &Spec| s.name == "ZREMRANGEBYLEX" && s.discard;
                let specs = specs
                    .into_iter()
                    .filter(|s| ours_known.contains(s.name) && !by_chance(s))
                    .collect::<Vec<_>>();
                if specs.is_empty() {
                    continue;
                }
                // How often Redis looks a missing stream up, and tells of it, differs from command to command.
                let classes = match family {
                    "streams" | "scripts" => "KEAnoc",
                    _ => "KEAmnoc",
                };
                let mut generator = Generator::new(seed, specs);
                let steps: Vec<Step> = (0..150).map(|_| generator.step()).collect();
                let (count, difference) =
                    events::compare(ours, theirs, classes, &steps).expect("both answer");
                compared += count;
                failures.extend(
                    difference.map(|text| format!("{}, {family}, seed {seed}: {text}", ours.name)),
                );
            }
        }
        if Instant::now() > end || failures.len() >= 5 || pairs.is_empty() {
            break;
        }
    }
    println!("{compared} notifications compared");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let nothing_to_do = pairs.is_empty() || families.is_empty();
    assert!(compared > 0 || nothing_to_do, "nothing was compared");
}

#[test]
fn info_has_the_fields_of_a_real_server() {
    let Some((ours, theirs)) = one_pair("redis-server-7.0", 2) else {
        return;
    };
    let fields = |server: &Server| -> io::Result<_> {
        let mut client = Client::connect(server.port)?;
        // Some fields are there only with keys.
        client.call(&["SET", "key", "value", "EX", "1000"])?;
        tables::info_fields(&mut client)
    };
    let info = Client::connect(ours.port).and_then(|mut client| client.call(&["INFO"]));
    if info.expect("the server under test answers").is_error() && !peers_required() {
        println!("skipped: the server does not know INFO yet");
        return;
    }
    let expected = fields(&theirs).expect("the reference answers INFO");
    let got = fields(&ours).expect("the server under test answers INFO");
    let mut missing = Vec::new();
    for (section, fields) in expected {
        let have = got.get(&section);
        for field in fields {
            let meant =
                tables::INFO_EXCEPTIONS
                    .iter()
                    .any(|(name, _)| match name.strip_suffix('*') {
                        Some(start) => field.starts_with(start),
                        None => field == *name,
                    });
            if !meant && !have.is_some_and(|have| have.contains(&field)) {
                missing.push(format!("{section}: {field}"));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "INFO lacks {} fields: {}",
        missing.len(),
        missing.join(", ")
    );
}

#[test]
fn commands_answer_as_a_real_server_does() {
    let required = peers_required();
    let wanted = list("REFERENCE", "7.0,8.2,9.1");
    let mut references = Vec::new();
    for (name, file, from) in REFERENCES
        .iter()
        .filter(|(name, _, _)| wanted.iter().any(|wanted| wanted == name))
    {
        let path = server::peers().join("bin").join(file);
        if path.exists() {
            references.push((*name, path, *from));
        } else {
            assert!(
                !required,
                "{} is missing: bench/peers.sh installs it",
                path.display()
            );
            println!(
                "skipped: {} is missing (bench/peers.sh installs it)",
                path.display()
            );
        }
    }
    if references.is_empty() {
        return;
    }
    let binary = server_under_test();
    if is_stub(&binary) {
        println!("skipped: {} is not a server yet", binary.display());
        return;
    }
    let shards: Vec<Option<usize>> = if is_real(&binary) {
        vec![None]
    } else {
        list("SHARDS", "1,2,4")
            .iter()
            .map(|text| Some(text.parse().expect("RINGWOOD_DIFF_SHARDS")))
            .collect()
    };
    let resps: Vec<u8> = list("RESP", "2,3")
        .iter()
        .map(|text| text.parse().expect("RINGWOOD_DIFF_RESP"))
        .collect();
    // CI sees the same streams for the same commit; elsewhere every run brings new ones.
    let default_seed = if env::var_os("CI").is_some() {
        1
    } else {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(1, |now| now.as_secs() % 1_000_000 * 1000)
    };
    let plan = Plan {
        seed: number("SEED", default_seed),
        commands: number("COMMANDS", 400) as usize,
        most_failures: number("FAILURES", 5) as usize,
        families: setting("FAMILY").map_or_else(Vec::new, |_| list("FAMILY", "")),
    };
    let pairings = references.len() * shards.len() * resps.len();
    let share = Duration::from_secs(number("SECONDS", 20)) / pairings as u32;
    println!(
        "seed {}, {} ms for each of {pairings} pairings",
        plan.seed,
        share.as_millis()
    );
    let mut failures = Vec::new();
    let mut skipped = BTreeSet::new();
    for (name, path, from) in &references {
        if specs_for(*from, &plan.families).is_empty() {
            println!("nothing of these families is compared with {name}");
            continue;
        }
        for &shards in &shards {
            for &resp in &resps {
                let ours = Server::start(&binary, shards).expect("the server under test starts");
                let theirs = Server::start(path, None).expect("the reference starts");
                let version = version(&theirs).expect("the reference tells its version");
                let mut pair = Pair {
                    ours,
                    theirs,
                    version,
                    resp,
                    has: compare::Has::default(),
                    crashed: false,
                };
                let end = Instant::now() + share;
                let outcome = match run_pair(&mut pair, *from, &plan, end, &mut skipped) {
                    Ok(outcome) => outcome,
                    Err(error) => {
                        let text = format!("{} against {name} RESP{resp}: {error}", pair.ours.name);
                        println!("{text}");
                        failures.push(text);
                        continue;
                    }
                };
                println!(
                    "{} against {name} RESP{resp}: {} streams, {} replies, {} excepted, {} failures",
                    pair.ours.name,
                    outcome.streams,
                    outcome.count.replies,
                    outcome.count.excepted,
                    outcome.failures.len()
                );
                for failure in &outcome.failures {
                    println!("  {failure}");
                }
                failures.extend(outcome.failures);
            }
        }
    }
    if !skipped.is_empty() {
        println!(
            "not known to the server under test: {}",
            skipped.into_iter().collect::<Vec<_>>().join(", ")
        );
    }
    assert!(
        failures.is_empty(),
        "{} differences, shown above",
        failures.len()
    );
}
