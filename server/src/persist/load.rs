//! Reading a snapshot. Every core reads the whole file and unpacks the entries that are its own: finding where entries begin and end takes a
//! small part of the time that unpacking takes. One core checks the checksum.

use crate::disk::Disk;
use ringwood_protocol::slot::key_slot;
use ringwood_shard::rdb::scan::{Found, Record, Scanner};
use ringwood_shard::rdb::{Error, Rules};
use ringwood_shard::shard::Shard;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A file is read in pieces of this size, or of a multiple where an entry is larger.
const PIECE: usize = 8 << 20;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub keys: u64,
    /// Whose time was over.
    pub expired: u64,
    /// Collections without elements, and modules' values.
    pub passed_over: u64,
    /// The former of them.
    pub empty: u64,
    /// Texts of function libraries; only the speaking core notes them.
    pub libraries: Vec<Box<[u8]>>,
}

/// What all cores found.
#[derive(Debug, Default)]
pub struct Totals([AtomicU64; 4]);

impl Totals {
    pub fn add(&self, part: &Loaded) {
        let counts = [part.keys, part.expired, part.passed_over, part.empty];
        for (sum, count) in self.0.iter().zip(counts) {
            sum.fetch_add(count, Relaxed);
        }
    }
    pub fn tell(&self, state: &super::State, took: Duration) {
        let [keys, expired, passed_over, empty] = self.0.each_ref().map(|sum| sum.load(Relaxed));
        state.loaded.store(keys, Relaxed);
        state.loaded_expired.store(expired, Relaxed);
        let skipped = match empty {
            0 => String::new(),
            empty => format!(", empty keys skipped: {empty}"),
        };
        tracing::info!("Done loading RDB, keys loaded: {keys}, keys expired: {expired}{skipped}.");
        if passed_over > 0 {
            tracing::warn!("{passed_over} keys of the snapshot were passed over");
        }
        tracing::info!("DB loaded from disk: {:.3} seconds", took.as_secs_f64());
    }
}

/// Loads a core's part of a file. `speaking`: it is the one that checks the whole and tells the log about it.
pub fn load(disk: &Disk, path: &Path, shard: &mut Shard, speaking: bool) -> Result<Loaded, String> {
    let shown = path.display();
    let mut file = disk
        .open(path)
        .map_err(|e| format!("cannot open {shown}: {e}"))?;
    read(&mut file, shard, speaking).map_err(|e| format!("{shown}: {e}"))
}

/// As [`load`], from anything that gives bytes.
pub fn read(file: &mut impl Read, shard: &mut Shard, speaking: bool) -> Result<Loaded, String> {
    let mut scanner = Scanner::new(shard.keyspace.databases());
    if !speaking {
        scanner.skip_checksum();
    }
    let mut loaded = Loaded::default();
    let mut bytes = Vec::new();
    let mut wanted = PIECE;
    loop {
        let before = bytes.len();
        file.by_ref()
            .take(wanted as u64)
            .read_to_end(&mut bytes)
            .map_err(|e| format!("cannot read: {e}"))?;
        let ended = bytes.len() - before < wanted;
        let base = scanner.offset();
        let mut records = Vec::new();
        let progress = scanner
            .scan(&bytes, |found| match found {
                Found::Entry(record, key) if shard.owned.contains(key_slot(&key)) => {
                    records.push(record);
                }
                Found::Entry(..) => {}
                other if speaking => tell(&other, &mut loaded),
                _ => {}
            })
            .map_err(|broken| broken.to_string())?;
        for record in records {
            insert(&record, &bytes, &scanner, shard, &mut loaded).map_err(|error| {
                let key = record.key(&bytes).unwrap_or_default();
                format!(
                    "{error} at offset {}, key '{}'",
                    base + record.at as u64,
                    key.escape_ascii()
                )
            })?;
        }
        if progress.done {
            return Ok(loaded);
        }
        if ended {
            return Err(format!(
                "the file ends too early: it is cut off after offset {}",
                scanner.offset()
            ));
        }
        bytes.drain(..progress.consumed);
        // An entry larger than what is there: twice as much, so that it is not looked through often.
        wanted = if progress.consumed == 0 {
            bytes.len().max(PIECE)
        } else {
            PIECE
        };
    }
}

fn insert(
    record: &Record,
    bytes: &[u8],
    scanner: &Scanner,
    shard: &mut Shard,
    loaded: &mut Loaded,
) -> Result<(), String> {
    let settings = shard.settings.clone();
    let hasher = shard.keyspace.hasher().clone();
    let rules = Rules {
        settings: &settings,
        hasher: &hasher,
        dialect: scanner.dialect,
    };
    if record.expire_at.is_some_and(|at| at <= shard.due_ms()) {
        loaded.expired += 1;
        return Ok(());
    }
    let (key, decoded) = match record.read(bytes, &rules) {
        Ok(read) => read,
        Err(Error::Empty) => {
            loaded.passed_over += 1;
            loaded.empty += 1;
            let key = record.key(bytes).unwrap_or_default();
            // As Redis, a few of them by name.
            if loaded.empty <= 10 {
                tracing::warn!("Loading RDB, skipping empty key: {}", key.escape_ascii());
            }
            return Ok(());
        }
        Err(error) => return Err(error.to_string()),
    };
    let key = shard.key(&key);
    if shard.keyspace.get(record.db, key).is_some() {
        return Err(format!(
            "a key that is there twice in database {}",
            record.db
        ));
    }
    let access = shard.access_of(record.idle_seconds, record.frequency);
    shard.insert(record.db, key, decoded.into_parts(access, record.expire_at));
    loaded.keys += 1;
    Ok(())
}

fn tell(found: &Found<'_>, loaded: &mut Loaded) {
    match found {
        Found::Aux(name, text) => match &**name {
            b"redis-ver" | b"valkey-ver" => {
                tracing::info!("Loading RDB produced by version {}", text.escape_ascii());
            }
            name if name.starts_with(b"%") => {
                tracing::info!("RDB '{}': {}", name.escape_ascii(), text.escape_ascii());
            }
            _ => {}
        },
        Found::Module(key, module) => {
            loaded.passed_over += 1;
            match key {
                Some(key) => tracing::warn!(
                    "Passing over the key '{}': its value is of the module type '{module}', which Ringwood does not have",
                    key.escape_ascii()
                ),
                None => tracing::warn!("Passing over data of the module type '{module}'"),
            }
        }
        Found::Function(code) => loaded.libraries.push(code.as_ref().into()),
        Found::Sizes { .. } | Found::Entry(..) => {}
    }
}
