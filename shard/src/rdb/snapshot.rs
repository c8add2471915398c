//! Writing an RDB file, each core its own keys.
//!
//! Either all at once ([`write`]), or as a cut of the keyspace ([`Stream`] is its [`Taker`]).
//!
//! A file's entries may come in any order, and the database may be said anew before any of them. So every core writes runs of whole entries that begin
//! with their database, and who gathers them puts them one behind the other as they come. Nothing but the frame around them ([`begin`], [`end`])
//! is of the file as a whole.
//!
//! The version stands first but is known last: most files are 7.0's, one with fields that expire is not. [`begin`] leaves it open;
//! [`Checksum`] is of what follows it and takes it in at the end.

use super::value;
use super::writer::Writer;
use super::{VERSION, crc64};
use crate::keyspace::EntryRef;
use crate::keyspace::cut::{Taken, Taker};
use crate::shard::{Settings, Shard, lfu_counter, lru_idle_seconds};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// A run is handed on from this size on, at the end of an entry.
const RUN: usize = 256 << 10;
/// A large value that nobody waits for is written in parts of about this size.
const PART: usize = 32 << 10;
/// An entry of which so much was written is handed on piece by piece.
const PIECE: usize = 1 << 20;

/// How a file is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// `rdbcompression`
    pub compress: bool,
    /// Write how long keys were not used, or how often they are: as `maxmemory-policy` needs it.
    pub idle: bool,
    pub frequency: bool,
}

/// Where entries go.
pub trait Output {
    /// Whole entries, with their database first.
    fn run(&mut self, bytes: Vec<u8>);
    /// Some of a large entry, which begins with its database and is whole with the `last` piece. Runs may come between.
    fn piece(&mut self, bytes: Vec<u8>, last: bool);
    /// That was all.
    fn finish(&mut self, written: Written);
}

/// Keeps what is written in memory. Clones share it.
#[derive(Clone, Default)]
pub struct Memory(Rc<RefCell<Content>>);

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    /// Of a large entry.
    open: Vec<u8>,
    pieces: usize,
    written: Option<Written>,
}

impl Output for Memory {
    fn run(&mut self, bytes: Vec<u8>) {
        self.0.borrow_mut().bytes.extend(bytes);
    }
    fn piece(&mut self, bytes: Vec<u8>, last: bool) {
        let mut content = self.0.borrow_mut();
        content.pieces += 1;
        content.open.extend(bytes);
        if last {
            let whole = std::mem::take(&mut content.open);
            content.bytes.extend(whole);
        }
    }
    fn finish(&mut self, written: Written) {
        self.0.borrow_mut().written = Some(written);
    }
}

impl Memory {
    /// All of it as a file. `None` while it is not finished.
    pub fn to_file(&self, aux: &[(&str, &str)]) -> Option<Vec<u8>> {
        let content = self.0.borrow();
        let version = content.written?.version;
        let mut file = begin(aux);
        let head = magic(version);
        file[..head.len()].copy_from_slice(&head);
        file.extend(&content.bytes);
        file.push(END);
        let mut checksum = Checksum::default();
        checksum.add(&file[head.len()..]);
        file.extend(checksum.of_file(version).to_le_bytes());
        Some(file)
    }
    /// In how many pieces large entries came.
    pub fn pieces(&self) -> usize {
        self.0.borrow().pieces
    }
}

/// A file without keys.
pub fn empty(aux: &[(&str, &str)]) -> Vec<u8> {
    let mut memory = Memory::default();
    memory.finish(Written {
        keys: 0,
        version: VERSION,
    });
    memory.to_file(aux).expect("it is finished")
}

/// The file's head: an open version, and remarks.
pub fn begin(aux: &[(&str, &str)]) -> Vec<u8> {
    let mut w = Writer::new(false);
    w.raw(&magic(VERSION));
    for (name, text) in aux {
        w.u8(250);
        w.string(name.as_bytes());
        w.string(text.as_bytes());
    }
    w.finish()
}
/// A function library.
pub fn function(code: &[u8], compress: bool) -> Vec<u8> {
    let mut w = Writer::new(compress);
    w.u8(245);
    w.string(code);
    w.finish()
}
/// The first bytes of a file of this version.
pub fn magic(version: u16) -> [u8; 9] {
    let mut magic = *b"REDIS0000";
    for (place, digit) in magic[5..].iter_mut().zip([1000, 100, 10, 1]) {
        *place = b'0' + (version / digit % 10) as u8;
    }
    magic
}
/// The end's mark, before the checksum.
pub const END: u8 = 255;

/// The checksum of what follows a file's version.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum {
    crc: u64,
    len: u64,
}

impl Checksum {
    pub fn add(&mut self, bytes: &[u8]) {
        self.crc = crc64::update(self.crc, bytes);
        self.len += bytes.len() as u64;
    }
    /// That of the whole file.
    pub fn of_file(self, version: u16) -> u64 {
        let head = crc64::update(0, &magic(version));
        crc64::combine(head, self.crc, self.len)
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub keys: u64,
    /// The first version whose readers know all of it.
    pub version: u16,
}

/// Writes all entries of a core. The core does nothing else meanwhile.
pub fn write(shard: &Shard, options: Options, output: Box<dyn Output>) {
    let mut stream = Stream::new(shard, options, output);
    for db in 0..shard.keyspace.databases() {
        shard
            .keyspace
            .each(db, |entry| while !stream.take(db, entry, false).whole {});
    }
    stream.finish();
}

/// Writes entries as they come.
pub struct Stream {
    run: Writer,
    /// The database of the last entry in `run`.
    db: Option<usize>,
    open: Option<Open>,
    options: Options,
    settings: Arc<Settings>,
    now_ms: i64,
    written: Written,
    output: Box<dyn Output>,
}

/// A large entry that is written in parts.
struct Open {
    address: usize,
    writer: Writer,
    cursor: value::Cursor,
    /// Some of it was handed on already.
    handed_on: bool,
}

impl Stream {
    /// Begins with the numbers of keys, which help readers.
    pub fn new(shard: &Shard, options: Options, output: Box<dyn Output>) -> Self {
        let mut stream = Self {
            run: Writer::new(options.compress),
            db: None,
            open: None,
            options,
            settings: shard.settings.clone(),
            now_ms: shard.now_ms,
            written: Written {
                keys: 0,
                version: VERSION,
            },
            output,
        };
        for db in 0..shard.keyspace.databases() {
            let keys = shard.keyspace.len(db);
            if keys > 0 {
                stream.select(db);
                stream.run.u8(251);
                stream.run.count(keys);
                stream.run.count(shard.keyspace.expiring(db));
            }
        }
        stream
    }

    fn select(&mut self, db: usize) {
        if self.db != Some(db) {
            self.db = Some(db);
            select(&mut self.run, db);
        }
    }
    fn hand_on(&mut self) {
        self.output.run(self.run.take());
        self.db = None;
    }

    /// What comes before a value.
    fn head(&self, w: &mut Writer, entry: EntryRef<'_>, kind: u8) {
        if let Some(at) = entry.expire_at() {
            w.u8(252);
            w.ms(at);
        }
        if self.options.idle {
            w.u8(248);
            w.length(self.idle_seconds(entry.access()).into());
        }
        if self.options.frequency {
            w.u8(249);
            w.u8(lfu_counter(&self.settings, self.now_ms, entry.access()) as u8);
        }
        w.u8(kind);
        w.string(entry.key());
    }
    fn idle_seconds(&self, access: u32) -> u32 {
        // The clock has 24 bits. What was used since this began is not what was idle longest.
        const DAY: u32 = 86_400;
        match lru_idle_seconds(self.now_ms, access) {
            idle if idle > 0xff_ffff - DAY => 0,
            idle => idle,
        }
    }

    /// Goes on with the open entry. True when it is whole.
    fn go_on(&mut self, entry: EntryRef<'_>, at_once: bool) -> Taken {
        let mut effort = 0;
        loop {
            let open = self.open.as_mut().expect("the caller looked");
            let before = open.writer.work();
            let whole = value::write_part(&mut open.writer, entry, &mut open.cursor, PART);
            effort += open.writer.work() - before;
            if whole || open.writer.len() >= PIECE {
                let bytes = open.writer.take();
                match open.handed_on || !whole {
                    true => self.output.piece(bytes, whole),
                    // It was not that large.
                    false => self.output.run(bytes),
                }
                open.handed_on = true;
            }
            if whole {
                self.open = None;
            }
            if whole || !at_once {
                return Taken { effort, whole };
            }
        }
    }
}

fn select(w: &mut Writer, db: usize) {
    w.u8(254);
    w.count(db);
}

impl Taker for Stream {
    fn take(&mut self, db: usize, entry: EntryRef<'_>, at_once: bool) -> Taken {
        if let Some(open) = &self.open
            && open.address == entry.address()
        {
            return self.go_on(entry, at_once);
        }
        let kind = value::kind_of(entry);
        self.written.keys += 1;
        self.written.version = self.written.version.max(value::version_of(kind));
        if entry.is_object() && self.open.is_none() && value::is_large(entry) {
            let mut writer = Writer::new(self.options.compress);
            select(&mut writer, db);
            self.head(&mut writer, entry, kind);
            self.open = Some(Open {
                address: entry.address(),
                writer,
                cursor: value::Cursor::default(),
                handed_on: false,
            });
            return self.go_on(entry, at_once);
        }
        self.select(db);
        let mut run = std::mem::take(&mut self.run);
        let before = run.work();
        self.head(&mut run, entry, kind);
        value::write(&mut run, entry);
        let effort = run.work() - before;
        self.run = run;
        if self.run.len() >= RUN {
            self.hand_on();
        }
        Taken {
            effort,
            whole: true,
        }
    }

    fn finish(&mut self) {
        self.hand_on();
        self.output.finish(self.written);
    }
}
