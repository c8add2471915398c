//! Reading a snapshot's file, in two steps.
//!
//! A [`Finder`] goes through the file and tells where its entries lie and whose they are, a [`Piece`] of about a megabyte at a time. [`unpack`] makes an
//! entry into a key. Finding is a small part of the work, so one thread does it for all cores ([`super::loading`]), and each core unpacks
//! its own keys. [`load`] does both for one core, where nobody is to be served meanwhile.

use crate::disk::Disk;
use ringwood_protocol::slot::key_slot;
use ringwood_shard::keyspace::Key;
use ringwood_shard::keyspace::entry::Header;
use ringwood_shard::rdb::scan::{Found, Packed, Record, Scanner, Unpacked};
use ringwood_shard::rdb::{Dialect, Error, Rules};
use ringwood_shard::shard::Shard;
use std::borrow::Cow;
use std::io::Read;
use std::path::Path;

/// A file is read in pieces of this size, or of a multiple where an entry is larger.
const PIECE: usize = 1 << 20;

/// What was found beside the entries. Only who speaks notes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// Modules' values.
    pub passed_over: u64,
    /// Texts of function libraries.
    pub libraries: Vec<Box<[u8]>>,
    /// What the server that wrote the file had in memory.
    pub used_memory: u64,
}

/// What became of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub keys: u64,
    /// Whose time was over.
    pub expired: u64,
    /// Collections without elements.
    pub empty: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.keys += other.keys;
        self.expired += other.expired;
        self.empty += other.empty;
    }
}

/// Some of a file: whole entries.
#[derive(Debug)]
pub struct Piece {
    bytes: Vec<u8>,
    /// Where in the file they begin.
    base: u64,
    dialect: Dialect,
    /// By owner.
    places: Vec<Vec<Place>>,
}

/// An entry of a piece, and its key's slot.
#[derive(Debug)]
pub struct Place {
    record: Record,
    slot: u16,
}

impl Piece {
    pub fn new(owners: usize) -> Self {
        Self {
            bytes: Vec::new(),
            base: 0,
            dialect: Dialect::Redis,
            places: (0..owners).map(|_| Vec::new()).collect(),
        }
    }
    pub fn places(&self, owner: usize) -> &[Place] {
        &self.places[owner]
    }
    /// How many bytes of the file it is.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn clear(&mut self) {
        self.bytes.clear();
        // One entry was large: the next is not.
        self.bytes.shrink_to(4 * PIECE);
        self.places.iter_mut().for_each(Vec::clear);
    }
    /// What is wrong with an entry, and where.
    fn wrong(&self, record: &Record, error: &dyn std::fmt::Display) -> String {
        let key = record.key(&self.bytes).unwrap_or_default();
        format!(
            "{error} at offset {}, key '{}'",
            self.base + record.at as u64,
            key.escape_ascii()
        )
    }
}

/// Finds entries, and whose they are.
pub struct Finder<R, O> {
    file: R,
    scanner: Scanner,
    /// The owner of a slot; `None`: nobody here.
    owner: O,
    speaking: bool,
    /// The beginning of an entry that the last piece did not have whole.
    rest: Vec<u8>,
    done: bool,
    pub remarks: Remarks,
}

impl<R: Read, O: Fn(u16) -> Option<usize>> Finder<R, O> {
    /// `speaking`: it checks the whole, and tells the log about it.
    pub fn new(file: R, databases: usize, speaking: bool, owner: O) -> Self {
        let mut scanner = Scanner::new(databases);
        if !speaking {
            scanner.skip_checksum();
        }
        Self {
            file,
            scanner,
            owner,
            speaking,
            rest: Vec::new(),
            done: false,
            remarks: Remarks::default(),
        }
    }

    /// `rdbchecksum no`: a file is read though its checksum is wrong.
    pub fn skip_checksum(&mut self) {
        self.scanner.skip_checksum();
    }
    /// Finds the next piece. False: the file has ended, and its checksum is right.
    pub fn next(&mut self, piece: &mut Piece) -> Result<bool, String> {
        piece.clear();
        if self.done {
            return Ok(false);
        }
        piece.bytes.append(&mut self.rest);
        piece.base = self.scanner.offset();
        loop {
            // An entry larger than what is there: twice as much, so that it is not looked through often.
            let wanted = piece.bytes.len().max(PIECE);
            let before = piece.bytes.len();
            piece.bytes.reserve(wanted);
            (&mut self.file)
                .take(wanted as u64)
                .read_to_end(&mut piece.bytes)
                .map_err(|e| format!("cannot read: {e}"))?;
            let ended = piece.bytes.len() - before < wanted;
            let consumed = self.scan(piece)?;
            piece.dialect = self.scanner.dialect;
            if consumed > 0 || self.done {
                self.rest.extend_from_slice(&piece.bytes[consumed..]);
                piece.bytes.truncate(consumed);
            }
            if self.done || (consumed > 0 && !ended) {
                return Ok(true);
            }
            if ended {
                return Err(format!(
                    "the file ends too early: it is cut off after offset {}",
                    self.scanner.offset()
                ));
            }
        }
    }

    /// How many bytes are whole entries.
    fn scan(&mut self, piece: &mut Piece) -> Result<usize, String> {
        let Self {
            scanner,
            owner,
            remarks,
            ..
        } = self;
        let Piece { bytes, places, .. } = piece;
        let progress = scanner.scan(bytes, |found| match found {
            Found::Entry(record, key) => {
                let slot = key_slot(&key);
                if let Some(owner) = owner(slot) {
                    places[owner].push(Place { record, slot });
                }
            }
            other if self.speaking => note(&other, remarks),
            _ => {}
        });
        let progress = progress.map_err(|broken| broken.to_string())?;
        self.done = progress.done;
        Ok(progress.consumed)
    }
}

fn note(found: &Found<'_>, remarks: &mut Remarks) {
    match found {
        Found::Aux(name, text) => match &**name {
            b"redis-ver" | b"valkey-ver" => {
                tracing::info!("Loading RDB produced by version {}", text.escape_ascii());
            }
            b"used-mem" => {
                let number = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok());
                remarks.used_memory = number.unwrap_or(0);
            }
            name if name.starts_with(b"%") => {
                tracing::info!("RDB '{}': {}", name.escape_ascii(), text.escape_ascii());
            }
            _ => {}
        },
        Found::Module(key, module) => {
            remarks.passed_over += 1;
            match key {
                Some(key) => tracing::warn!(
                    "Passing over the key '{}': its value is of the module type '{module}', which Ringwood does not have",
                    key.escape_ascii()
                ),
                None => tracing::warn!("Passing over data of the module type '{module}'"),
            }
        }
        Found::Function(code) => remarks.libraries.push(code.as_ref().into()),
        Found::Sizes { .. } | Found::Entry(..) => {}
    }
}

/// What becomes of a key that the shard has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twice {
    /// The file cannot be right.
    Refused,
    /// The file's value takes the place of the other.
    Replaced,
}

/// Entries that are best unpacked together.
pub const BATCH: usize = 16;

/// An entry whose key is known.
struct Opened<'b> {
    place: &'b Place,
    key: Cow<'b, [u8]>,
    hash: u64,
    value: Packed<'b>,
}

/// Makes entries of a piece into keys of this shard, but for those whose time was over at `due_ms`.
pub fn unpack(
    piece: &Piece,
    places: &[Place],
    shard: &mut Shard,
    due_ms: i64,
    twice: Twice,
    counts: &mut Counts,
) -> Result<(), String> {
    // Each step asks for the memory that the next one needs, for all: where keys go is all over the tables.
    for places in places.chunks(BATCH) {
        let mut batch = Vec::with_capacity(BATCH);
        for place in places {
            let record = &place.record;
            if record.expire_at.is_some_and(|at| at <= due_ms) {
                counts.expired += 1;
                continue;
            }
            let opened = record.open(&piece.bytes);
            let (key, value) = opened.map_err(|error| piece.wrong(record, &error))?;
            let hash = shard.keyspace.hasher().hash(&key);
            shard.keyspace.prefetch_table(record.db, place.slot);
            batch.push(Opened {
                place,
                key,
                hash,
                value,
            });
        }
        for Opened { place, hash, .. } in &batch {
            let db = place.record.db;
            shard.keyspace.prefetch_bucket(db, place.slot, *hash);
        }
        for opened in batch {
            let record = &opened.place.record;
            insert(piece.dialect, opened, shard, twice, counts)
                .map_err(|error| piece.wrong(record, &error))?;
        }
    }
    Ok(())
}

fn insert(
    dialect: Dialect,
    opened: Opened<'_>,
    shard: &mut Shard,
    twice: Twice,
    counts: &mut Counts,
) -> Result<(), String> {
    let record = &opened.place.record;
    let rules = Rules {
        settings: &shard.settings,
        hasher: shard.keyspace.hasher(),
        dialect,
    };
    let value = match opened.value.read(&rules) {
        Ok(value) => value,
        Err(Error::Empty) => {
            counts.empty += 1;
            // As Redis, a few of them by name.
            if counts.empty <= 10 {
                let key = opened.key.escape_ascii();
                tracing::warn!("Loading RDB, skipping empty key: {key}");
            }
            return Ok(());
        }
        Err(error) => return Err(error.to_string()),
    };
    let key = Key {
        bytes: &opened.key,
        hash: opened.hash,
        slot: opened.place.slot,
    };
    if let Some(old) = shard.keyspace.get_mut(record.db, key) {
        if twice == Twice::Refused {
            return Err(format!(
                "a key that is there twice in database {}",
                record.db
            ));
        }
        old.remove();
    }
    let access = shard.access_of(record.idle_seconds, record.frequency);
    match value {
        Unpacked::Made(decoded) => {
            let parts = decoded.into_parts(access, record.expire_at);
            shard.load(record.db, key, parts);
        }
        Unpacked::Stored(stored) => {
            let header = Header {
                kind: stored.kind,
                encoding: stored.encoding,
                access,
                expire_at: record.expire_at,
            };
            shard.load_bytes(record.db, key, &header, &stored.bytes);
        }
    }
    counts.keys += 1;
    Ok(())
}

/// Loads a core's part of a file at once. Returns the function libraries that the file has, if `speaking`: then this core is the one that checks
/// the whole and tells the log about it.
pub fn load(
    disk: &Disk,
    path: &Path,
    shard: &mut Shard,
    twice: Twice,
    speaking: bool,
) -> Result<Vec<Box<[u8]>>, String> {
    let mut file = open(disk, path)?;
    read(&mut file, shard, twice, speaking).map_err(|e| format!("{}: {e}", path.display()))
}

fn open(disk: &Disk, path: &Path) -> Result<impl Read, String> {
    disk.open(path)
        .map_err(|e| format!("cannot open {}: {e}", path.display()))
}

/// The function libraries of a file, the whole of which is looked through for damage.
pub fn libraries(disk: &Disk, path: &Path, databases: usize) -> Result<Vec<Box<[u8]>>, String> {
    let mut finder = Finder::new(open(disk, path)?, databases, true, |_| None);
    let mut piece = Piece::new(0);
    while finder
        .next(&mut piece)
        .map_err(|e| format!("{}: {e}", path.display()))?
    {}
    Ok(finder.remarks.libraries)
}

/// As [`load`], from anything that gives bytes.
pub fn read(
    file: &mut impl Read,
    shard: &mut Shard,
    twice: Twice,
    speaking: bool,
) -> Result<Vec<Box<[u8]>>, String> {
    let owned = shard.owned.clone();
    let owner = move |slot| owned.contains(slot).then_some(0);
    let mut finder = Finder::new(file, shard.keyspace.databases(), speaking, owner);
    let (mut piece, mut counts) = (Piece::new(1), Counts::default());
    let due_ms = shard.due_ms();
    while finder.next(&mut piece)? {
        unpack(&piece, piece.places(0), shard, due_ms, twice, &mut counts)?;
    }
    Ok(finder.remarks.libraries)
}
