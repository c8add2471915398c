//! Writing an RDB file, each core its own keys.
//!
//! A file's entries may come in any order, and the database may be said anew before any of them. So every core writes runs of whole entries that begin
//! with their database, and who gathers them puts them one behind the other as they come. Nothing but the frame around them ([`begin`], [`end`])
//! is of the file as a whole.
//!
//! The version stands first but is known last: most files are 7.0's, one with fields that expire is not. [`begin`] leaves it open;
//! [`Checksum`] is of what follows it and takes it in at the end.

use super::value;
use super::writer::{Sink, Writer};
use super::{VERSION, crc64};
use crate::keyspace::{EntryRef, Keyspace};
use crate::shard::Shard;

/// A run is handed on from this size on, at the end of an entry.
const RUN: usize = 1 << 20;
/// An entry of this size is handed on piece by piece.
const LARGE: usize = 4 << 20;

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
    /// Whole entries.
    fn run(&mut self, bytes: &[u8]);
    /// A large entry, which `write` writes piece by piece; no other core's come between.
    fn large(&mut self, write: &mut dyn FnMut(Sink<'_>));
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
pub fn write(shard: &Shard, options: Options, output: &mut dyn Output) -> Written {
    let mut written = Written {
        keys: 0,
        version: VERSION,
    };
    for db in 0..shard.keyspace.databases() {
        if shard.keyspace.len(db) > 0 {
            write_database(shard, db, options, output, &mut written);
        }
    }
    written
}

fn write_database(
    shard: &Shard,
    db: usize,
    options: Options,
    output: &mut dyn Output,
    written: &mut Written,
) {
    let mut w = Writer::new(options.compress);
    begin_run(&mut w, db);
    write_sizes(&mut w, &shard.keyspace, db);
    shard.keyspace.each(db, |entry| {
        written.keys += 1;
        let kind = value::kind_of(entry);
        written.version = written.version.max(value::version_of(kind));
        if entry.is_object() && entry.memory() > LARGE {
            output.run(w.bytes());
            w.clear();
            output.large(&mut |sink| {
                let mut w = Writer::with_sink(options.compress, sink);
                begin_run(&mut w, db);
                write_entry(&mut w, shard, entry, kind, options);
                w.finish();
            });
            begin_run(&mut w, db);
            return;
        }
        write_entry(&mut w, shard, entry, kind, options);
        if w.bytes().len() >= RUN {
            output.run(w.bytes());
            w.clear();
            begin_run(&mut w, db);
        }
    });
    output.run(w.bytes());
}

fn begin_run(w: &mut Writer<'_>, db: usize) {
    w.u8(254);
    w.count(db);
}
fn write_sizes(w: &mut Writer<'_>, keyspace: &Keyspace, db: usize) {
    w.u8(251);
    w.count(keyspace.len(db));
    w.count(keyspace.expiring(db));
}

fn write_entry(w: &mut Writer<'_>, shard: &Shard, entry: EntryRef<'_>, kind: u8, options: Options) {
    if let Some(at) = entry.expire_at() {
        w.u8(252);
        w.ms(at);
    }
    if options.idle {
        w.u8(248);
        w.length(shard.idle_seconds(entry.access()).into());
    }
    if options.frequency {
        w.u8(249);
        w.u8(shard.lfu_counter(entry.access()) as u8);
    }
    w.u8(kind);
    w.string(entry.key());
    value::write(w, entry);
}
