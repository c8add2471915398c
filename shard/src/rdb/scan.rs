//! Finding the entries of an RDB file, without unpacking any.
//!
//! [`Scanner::scan`] is given bytes as they come and tells where each whole entry lies in them; the cores then unpack those that are theirs
//! ([`Record::read`]), all at once. What is left over at the bytes' end is given again with more behind it. So nothing is held twice, and a
//! file larger than memory's spare needs only its largest value in one piece.
//!
//! The checksum is checked at the end: until then nothing that was found may be shown to anybody.

use super::reader::Reader;
pub use super::stored::Stored;
use super::value::{self, Decoded};
use super::{Dialect, Error, Result, Rules, crc64, module, stored};
use std::borrow::Cow;

const MAGIC_LEN: usize = 9;
/// Older files have no checksum.
const CHECKSUM_SINCE: u16 = 5;

pub(super) mod opcode {
    pub const SLOT_IMPORT: u8 = 243;
    pub const SLOT_INFO: u8 = 244;
    pub const FUNCTION: u8 = 245;
    pub const FUNCTION_OLD: u8 = 246;
    pub const MODULE_AUX: u8 = 247;
    pub const IDLE: u8 = 248;
    pub const FREQUENCY: u8 = 249;
    pub const AUX: u8 = 250;
    pub const SIZES: u8 = 251;
    pub const EXPIRY_MS: u8 = 252;
    pub const EXPIRY: u8 = 253;
    pub const DATABASE: u8 = 254;
    pub const END: u8 = 255;
}

/// An entry's place, and what is said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub db: usize,
    pub kind: u8,
    /// Where its key begins in the bytes that were scanned.
    pub at: usize,
    /// Where its value ends.
    pub end: usize,
    /// Wall-clock milliseconds.
    pub expire_at: Option<i64>,
    pub idle_seconds: Option<i64>,
    pub frequency: Option<i64>,
}

impl Record {
    pub fn key<'b>(&self, bytes: &'b [u8]) -> Result<Cow<'b, [u8]>> {
        self.reader(bytes)?.string()
    }
    /// Its key, and its value still packed up.
    #[inline]
    pub fn open<'b>(&self, bytes: &'b [u8]) -> Result<(Cow<'b, [u8]>, Packed<'b>)> {
        let mut reader = self.reader(bytes)?;
        let key = reader.string()?;
        let kind = self.kind;
        Ok((key, Packed { kind, reader }))
    }
    /// The same for who reads the value's parts itself.
    pub(super) fn key_and_value<'b>(&self, bytes: &'b [u8]) -> Result<(Cow<'b, [u8]>, Reader<'b>)> {
        let (key, packed) = self.open(bytes)?;
        Ok((key, packed.reader))
    }
    /// Its key and value.
    pub fn read<'b>(&self, bytes: &'b [u8], rules: &Rules<'_>) -> Result<(Cow<'b, [u8]>, Decoded)> {
        let (key, mut packed) = self.open(bytes)?;
        let decoded = value::read(self.kind, &mut packed.reader, rules)?;
        if !packed.reader.rest().is_empty() {
            return Err(Error::Corrupt("bytes behind a value"));
        }
        Ok((key, decoded))
    }
    fn reader<'b>(&self, bytes: &'b [u8]) -> Result<Reader<'b>> {
        Ok(Reader::new(
            bytes.get(self.at..self.end).ok_or(Error::Short)?,
        ))
    }
}

/// An entry's value, not read yet.
#[derive(Clone, Debug)]
pub struct Packed<'b> {
    kind: u8,
    reader: Reader<'b>,
}

/// What it is.
#[derive(Debug)]
pub enum Unpacked<'b> {
    Stored(Stored<'b>),
    Made(Decoded),
}

impl<'b> Packed<'b> {
    pub fn read(mut self, rules: &Rules<'_>) -> Result<Unpacked<'b>> {
        let value = match stored::read(self.kind, &mut self.reader, rules)? {
            Some(stored) => Unpacked::Stored(stored),
            None => Unpacked::Made(value::read(self.kind, &mut self.reader, rules)?),
        };
        if !self.reader.rest().is_empty() {
            return Err(Error::Corrupt("bytes behind a value"));
        }
        Ok(value)
    }
}

/// What a file has in it.
#[derive(Debug)]
pub enum Found<'b> {
    Entry(Record, Cow<'b, [u8]>),
    /// A remark: which server wrote the file, and when.
    Aux(Cow<'b, [u8]>, Cow<'b, [u8]>),
    /// A function library's code.
    Function(Cow<'b, [u8]>),
    /// A key whose value, or data without a key that only a module knows, with the module type's name. Passed over.
    Module(Option<Cow<'b, [u8]>>, String),
    /// How many keys, and keys that expire, a database has.
    Sizes {
        keys: u64,
        expiring: u64,
    },
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub offset: u64,
    /// The key that it happened at.
    pub key: Option<Vec<u8>>,
    pub error: Error,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at offset {}", self.error, self.offset)?;
        match &self.key {
            Some(key) => write!(f, ", key '{}'", key.escape_ascii()),
            None => Ok(()),
        }
    }
}

/// How far a scan came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that need not be given again.
    pub consumed: usize,
    /// The file's end was found, and its checksum is right.
    pub done: bool,
}

/// See the module's head.
#[derive(Debug)]
pub struct Scanner {
    /// Of the file, of what was consumed.
    offset: u64,
    checksum: u64,
    checking: bool,
    version: u16,
    pub dialect: Dialect,
    db: usize,
    databases: usize,
    /// Said about the entry that comes next.
    expire_at: Option<i64>,
    idle_seconds: Option<i64>,
    frequency: Option<i64>,
}

impl Scanner {
    /// `databases`: how many there are; a file with more is refused.
    pub fn new(databases: usize) -> Self {
        Self {
            offset: 0,
            checksum: 0,
            checking: true,
            version: 0,
            dialect: Dialect::Redis,
            db: 0,
            databases,
            expire_at: None,
            idle_seconds: None,
            frequency: None,
        }
    }
    /// For entries alone, without a file's head and end, as they come from a server's own cores.
    pub(super) fn of_entries() -> Self {
        Self {
            version: super::VERSION,
            checking: false,
            ..Self::new(usize::MAX)
        }
    }
    /// Another reader of the same file checks the checksum.
    pub fn skip_checksum(&mut self) {
        self.checking = false;
    }
    /// How much of the file was consumed.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes on with bytes that begin where the last call's `consumed` ended. If nothing of them is consumed, more are needed.
    pub fn scan<'b>(
        &mut self,
        bytes: &'b [u8],
        mut found: impl FnMut(Found<'b>),
    ) -> std::result::Result<Progress, Broken> {
        let mut reader = Reader::new(bytes);
        let mut done = false;
        let mut consumed = 0;
        while !done {
            let before = (self.expire_at, self.idle_seconds, self.frequency);
            let mut key = None;
            match self.step(&mut reader, &mut key, &mut found) {
                Ok(end) => done = end,
                Err(Error::Short) => {
                    (self.expire_at, self.idle_seconds, self.frequency) = before;
                    break;
                }
                Err(error) => {
                    return Err(Broken {
                        offset: self.offset + reader.position() as u64,
                        key: key.map(Cow::into_owned),
                        error,
                    });
                }
            }
            consumed = reader.position();
        }
        if self.checking {
            self.checksum = crc64::update(self.checksum, &bytes[..consumed]);
        }
        self.offset += consumed as u64;
        if done && self.version >= CHECKSUM_SINCE {
            let checksum = reader.u64_le().map_err(|error| self.broken(error))?;
            if self.checking && checksum != 0 && checksum != self.checksum {
                return Err(self.broken(Error::Corrupt(
                    "RDB CRC error: the checksum is wrong, the file was damaged",
                )));
            }
            consumed += 8;
            self.offset += 8;
        }
        Ok(Progress { consumed, done })
    }
    fn broken(&self, error: Error) -> Broken {
        Broken {
            offset: self.offset,
            key: None,
            error,
        }
    }

    /// Reads one thing. True at the file's end.
    fn step<'b>(
        &mut self,
        reader: &mut Reader<'b>,
        key: &mut Option<Cow<'b, [u8]>>,
        found: &mut impl FnMut(Found<'b>),
    ) -> Result<bool> {
        if self.version == 0 {
            self.magic(reader.take(MAGIC_LEN)?)?;
            return Ok(false);
        }
        match reader.u8()? {
            opcode::EXPIRY => {
                self.expire_at = Some(i64::from(reader.u32_le()?.cast_signed()) * 1000);
            }
            opcode::EXPIRY_MS => self.expire_at = Some(reader.ms()?),
            opcode::FREQUENCY => self.frequency = Some(reader.u8()?.into()),
            opcode::IDLE => {
                // Nothing was idle for longer than there are times.
                self.idle_seconds = Some(i64::try_from(reader.length()?).unwrap_or(i64::MAX));
            }
            opcode::DATABASE => {
                let db = usize::try_from(reader.length()?).unwrap_or(usize::MAX);
                if db >= self.databases {
                    return Err(Error::Corrupt(
                        "a database's number is too large: see the directive 'databases'",
                    ));
                }
                self.db = db;
            }
            opcode::SIZES => {
                let (keys, expiring) = (reader.length()?, reader.length()?);
                found(Found::Sizes { keys, expiring });
            }
            opcode::SLOT_INFO => {
                for _ in 0..3 {
                    reader.length()?;
                }
            }
            opcode::SLOT_IMPORT if self.dialect == Dialect::Valkey => {
                reader.skip_string()?;
                for _ in 0..reader.length()? {
                    reader.length()?;
                    reader.length()?;
                }
            }
            opcode::AUX => {
                let (name, text) = (reader.string()?, reader.string()?);
                found(Found::Aux(name, text));
            }
            opcode::FUNCTION => {
                let code = reader.string()?;
                found(Found::Function(code));
            }
            opcode::FUNCTION_OLD => {
                return Err(Error::Corrupt(
                    "a function library in the form of a version before its release",
                ));
            }
            opcode::MODULE_AUX => {
                let id = reader.length()?;
                for _ in 0..2 {
                    reader.length()?;
                }
                module::skip(reader)?;
                found(Found::Module(None, module::name(id)));
            }
            opcode::END => {
                // With the checksum or not at all, so that the end is found once.
                if self.version >= CHECKSUM_SINCE && reader.rest().len() < 8 {
                    return Err(Error::Short);
                }
                return Ok(true);
            }
            kind => self.entry(kind, reader, key, found)?,
        }
        Ok(false)
    }

    fn magic(&mut self, magic: &[u8]) -> Result<()> {
        let digits = magic
            .strip_prefix(b"REDIS")
            .map(|digits| (digits, Dialect::Redis))
            .or(magic
                .strip_prefix(b"VALKEY")
                .map(|digits| (digits, Dialect::Valkey)));
        let (digits, dialect) = digits.ok_or(Error::Corrupt("this is no RDB file"))?;
        let version = std::str::from_utf8(digits)
            .ok()
            .and_then(|text| text.parse().ok())
            .filter(|&version| Dialect::of_version(version) == Some(dialect));
        self.version = version.ok_or(Error::Corrupt("a version that cannot be read"))?;
        self.dialect = dialect;
        Ok(())
    }

    fn entry<'b>(
        &mut self,
        kind: u8,
        reader: &mut Reader<'b>,
        key: &mut Option<Cow<'b, [u8]>>,
        found: &mut impl FnMut(Found<'b>),
    ) -> Result<()> {
        let at = reader.position();
        let name = reader.string()?;
        *key = Some(name.clone());
        let mut module_id = reader.clone();
        value::skip(kind, reader, self.dialect)?;
        let record = Record {
            db: self.db,
            kind,
            at,
            end: reader.position(),
            expire_at: self.expire_at.take(),
            idle_seconds: self.idle_seconds.take(),
            frequency: self.frequency.take(),
        };
        if kind == super::kind::MODULE {
            let module = module::name(module_id.length()?);
            found(Found::Module(Some(name), module));
        } else {
            found(Found::Entry(record, name));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::{self, Memory, Options};
    use super::*;
    use crate::commands::testing::Tester;
    use crate::keyspace::KeyHasher;
    use crate::shard::Settings;
    use std::collections::BTreeMap;

    fn filled() -> Tester {
        let mut t = Tester::new();
        for line in [
            "SET a 1",
            "SET b text PX 5000",
            "RPUSH l a b c",
            "SADD s a b c",
            "ZADD z 1 a 2 b",
            "HSET h f v",
            "HSET timed f v g w",
            "HEXPIRE timed 100 FIELDS 1 f",
            "XADD x 1-1 f v",
        ] {
            t.run(line);
        }
        t.db = 9;
        t.run("SET nine 9");
        t
    }

    fn saved(t: &Tester, options: Options) -> Memory {
        let memory = Memory::default();
        snapshot::write(&t.shard, options, Box::new(memory.clone()));
        memory
    }
    fn file_of(t: &Tester, options: Options) -> Vec<u8> {
        let aux = [("redis-ver", "7.0.15"), ("redis-bits", "64")];
        let file = saved(t, options).to_file(&aux).unwrap();
        let (all, crc) = file.split_last_chunk().unwrap();
        assert_eq!(u64::from_le_bytes(*crc), crc64::update(0, all));
        file
    }

    /// Scans a file given in pieces of a size, and unpacks it. The keys with database and value.
    fn load(file: &[u8], piece: usize) -> std::result::Result<Vec<String>, Broken> {
        let settings = Settings::default();
        let hasher = KeyHasher::new(3);
        let mut scanner = Scanner::new(16);
        let (mut begin, mut end) = (0, 0);
        let mut keys = Vec::new();
        loop {
            end = (end + piece).min(file.len());
            let bytes = &file[begin..end];
            let mut entries = Vec::new();
            let progress = scanner.scan(bytes, |found| match found {
                Found::Entry(record, key) => {
                    assert_eq!(record.key(bytes), Ok(key));
                    entries.push(record);
                }
                Found::Aux(name, text) => {
                    keys.push(format!("{}={}", name.escape_ascii(), text.escape_ascii()))
                }
                Found::Sizes {
                    keys: count,
                    expiring,
                } => {
                    keys.push(format!("sizes {count} {expiring}"));
                }
                other => keys.push(format!("{other:?}")),
            })?;
            let rules = Rules {
                settings: &settings,
                hasher: &hasher,
                dialect: scanner.dialect,
            };
            for record in entries {
                let (key, decoded) = record.read(bytes, &rules).map_err(|error| Broken {
                    offset: 0,
                    key: None,
                    error,
                })?;
                keys.push(format!(
                    "{} {} {} {:?} {:?} {:?}",
                    record.db,
                    key.escape_ascii(),
                    decoded.encoding.name(),
                    record.expire_at,
                    record.idle_seconds,
                    record.frequency
                ));
            }
            begin += progress.consumed;
            if progress.done {
                assert_eq!((begin, scanner.offset()), (file.len(), file.len() as u64));
                keys.sort();
                return Ok(keys);
            }
            if end == file.len() {
                return Err(scanner.broken(Error::Short));
            }
        }
    }

    #[test]
    fn what_is_written_is_found_however_it_comes() {
        let t = filled();
        let options = Options {
            idle: true,
            frequency: true,
            compress: true,
        };
        let file = file_of(&t, options);
        assert_eq!(file[..9], *b"REDIS0012");
        let whole = load(&file, file.len()).unwrap();
        assert_eq!(whole.len(), 2 + 2 + 9);
        for line in [
            "redis-ver=7.0.15",
            "sizes 8 1",
            "sizes 1 0",
            "0 b embstr Some(1700000005000) Some(0) Some(5)",
            "0 timed listpackex None Some(0) Some(5)",
            "9 nine int None Some(0) Some(5)",
        ] {
            // Without an LFU policy the counter is whatever the clock left there.
            let begin = line.trim_end_matches("Some(5)");
            assert!(
                whole.iter().any(|l| l.starts_with(begin)),
                "{line}: {whole:?}"
            );
        }
        for piece in [1, 2, 7, 100] {
            assert_eq!(load(&file, piece).unwrap(), whole);
        }
    }

    #[test]
    fn the_version_is_old_where_nothing_new_is_used() {
        let mut t = Tester::new();
        t.run("SADD s a b c");
        t.run("HSET h f v");
        t.run("HEXPIRE h 100 FIELDS 1 f");
        t.run("HPERSIST h FIELDS 1 f");
        let file = file_of(&t, Options::default());
        assert_eq!(file[..9], *b"REDIS0010");
        assert_eq!(load(&file, 50).unwrap().len(), 2 + 1 + 2);
    }

    #[test]
    fn large_values_go_piece_by_piece() {
        let mut t = Tester::new();
        let value = "v".repeat(60_000);
        for n in 0..200 {
            t.shard
                .set_string(0, t.shard.key(b"small"), b"1", crate::shard::Expiry::Clear);
            let words: [&[u8]; 3] = [b"RPUSH", b"large", value.as_bytes()];
            t.run_words(&words);
            if n == 0 {
                t.run("SET other 1");
            }
        }
        assert!(saved(&t, Options::default()).pieces() > 5);
        let file = file_of(&t, Options::default());
        let found = load(&file, 1 << 20).unwrap();
        assert_eq!(found.len(), 2 + 1 + 3);
        assert!(found.iter().any(|l| l.starts_with("0 large quicklist")));
    }

    /// By database and key: type, expiry, and key and value as they are written.
    type Entries = BTreeMap<(usize, Vec<u8>), (u8, Option<i64>, Vec<u8>)>;

    fn entries(file: &[u8]) -> Entries {
        let mut found = BTreeMap::new();
        let progress = Scanner::new(16).scan(file, |what| {
            if let Found::Entry(r, key) = what {
                let bytes = file[r.at..r.end].to_vec();
                let before = found.insert((r.db, key.to_vec()), (r.kind, r.expire_at, bytes));
                assert_eq!(before, None, "a key that is there twice");
            }
        });
        assert!(progress.unwrap().done);
        found
    }

    /// Large values of all types are written in parts. Some are changed when half of it was done, or before, or go; what comes out is what was there.
    #[test]
    fn a_cut_is_what_was_there_also_of_large_values() {
        let filler = "filler".repeat(20);
        let all = |count: usize, head: &str, each: &dyn Fn(usize) -> String| {
            let words: Vec<String> = (0..count).map(each).collect();
            format!("{head} {}", words.join(" "))
        };
        for round in 0..12 {
            let mut t = Tester::new();
            for line in [
                all(600, "RPUSH list", &|n| format!("{n}{filler}")),
                all(600, "HSET hash", &|n| format!("f{n} {n}{filler}")),
                all(600, "SADD set", &|n| format!("{n}{filler}")),
                all(600, "ZADD zset", &|n| format!("{n} {n}{filler}")),
                all(50, "MSET", &|n| format!("string{n} {n}{filler}")),
            ] {
                t.run(&line);
            }
            for n in 0..90 {
                t.run(&format!("XADD stream 1-{} f {}", n + 1, filler.repeat(9)));
            }
            t.run("HPEXPIREAT hash 1800000000000 FIELDS 2 f1 f2");
            t.run("XGROUP CREATE stream group 0");
            t.run("XREADGROUP GROUP group me COUNT 20 STREAMS stream >");
            let options = Options {
                compress: round % 2 == 0,
                ..Options::default()
            };
            let before = file_of(&t, options);
            let memory = Memory::default();
            let stream = snapshot::Stream::new(&t.shard, options, Box::new(memory.clone()));
            t.shard.keyspace.begin_cut(Box::new(stream));
            let mut changes = [
                "LPUSH list new",
                "HDEL hash f7",
                "SADD set new",
                "ZADD zset 5 new",
                "XACK stream group 1-3",
                "SET string7 new",
                "DEL string8",
                "RENAME zset other",
                "DEL list",
                "XADD stream 2-1 f v",
                "HPERSIST hash FIELDS 1 f1",
                "COPY set another",
            ];
            changes.rotate_left(round % 12);
            let mut changes = changes.iter();
            let mut step = 0;
            while !t.shard.keyspace.cut_some(4000) {
                step += 1;
                if step % (1 + round / 4) == 0
                    && let Some(change) = changes.next()
                {
                    t.run(change);
                }
            }
            t.shard.keyspace.check_invariants();
            let cut = memory.to_file(&[]).expect("it is finished");
            assert_eq!(entries(&before).len(), 55);
            // Without the bytes: they are many.
            assert!(entries(&cut) == entries(&before), "round {round}");
        }
    }

    #[test]
    fn damage_is_found() {
        let file = file_of(&filled(), Options::default());
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x15;
            let loaded = load(&damaged, file.len());
            assert!(loaded.is_err(), "byte {at}: {loaded:?}");
            assert!(load(&file[..at], 64).is_err(), "cut at {at}");
        }
        let text = load(b"REDIS0010\xfe\x10", 99).unwrap_err().to_string();
        assert_eq!(
            text,
            "a database's number is too large: see the directive 'databases' at offset 11"
        );
        let text = load(b"REDIS0010\x63\x03key\x00", 99).unwrap_err();
        assert_eq!(
            text.to_string(),
            "unknown value type 99 at offset 14, key 'key'"
        );
        for magic in [
            "REDIS0013",
            "VALKEY079",
            "VALKEY012",
            "REDIS0080",
            "RADIS0010",
            "REDIS00x0",
        ] {
            assert!(load(magic.as_bytes(), 99).is_err_and(|e| e.error != Error::Short));
        }
        assert!(load(b"VALKEY080\xff\0\0\0\0\0\0\0\0", 99).is_ok());
    }

    #[test]
    fn what_modules_left_is_passed_over() {
        let mut file = b"REDIS0010".to_vec();
        // Data of a module; then a key of a module's type, with an expiry that is not the next key's.
        file.extend(b"\xf7\x81\x12\x34\x56\x78\x9a\xbc\xde\xf0\x02\x01\x02\x05\x00");
        file.extend(
            b"\xfc\x01\0\0\0\0\0\0\0\x07\x01m\x81\x12\x34\x56\x78\x9a\xbc\xde\xf0\x05\x01x\x00",
        );
        file.extend(b"\xf5\x04code\xf4\x01\x02\x03\x00\x01k\x01v\xff");
        let crc = crc64::update(0, &file);
        file.extend(crc.to_le_bytes());
        for piece in [1, 1000] {
            let found = load(&file, piece).unwrap();
            assert_eq!(found.len(), 4, "{found:?}");
            assert_eq!(found[0], "0 k embstr None None None");
            assert!(found[1].starts_with("Function"));
            assert!(found[2].starts_with("Module(None") && found[3].starts_with("Module(Some"));
        }
    }
}
