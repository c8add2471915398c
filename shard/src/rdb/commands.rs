//! A file's entries as the commands that make them: for a log whose base is commands (`aof-use-rdb-preamble no`).
//!
//! Strings, lists, sets, sorted sets and hashes become SET, RPUSH, SADD, ZADD and HSET of up to [`ELEMENTS`] elements each, as in Redis. A stream, and
//! a hash with fields that expire, is one RESTORE: it brings back all that the value had, and is shorter than the commands that Redis writes.

use super::reader::Reader;
use super::scan::{Found, Record, Scanner};
use super::{Error, Result, dump, kind, list};
use crate::collections::intset;
use crate::collections::listpack;
use crate::log::write_command;
use ringwood_protocol::number::double_text;
use std::borrow::Cow;
use std::io;

/// As many as Redis writes in one command.
const ELEMENTS: usize = 64;

/// What a snapshot's cores write ([`super::snapshot`]), as commands.
#[derive(Debug)]
pub struct Commands {
    scanner: Scanner,
    /// That of the last SELECT.
    db: Option<usize>,
}

impl Default for Commands {
    fn default() -> Self {
        Self {
            scanner: Scanner::of_entries(),
            db: None,
        }
    }
}

impl Commands {
    /// Writes the commands for whole entries.
    pub fn write(&mut self, bytes: &[u8], out: &mut impl io::Write) -> io::Result<()> {
        let Self { scanner, db } = self;
        let mut result = Ok(());
        let progress = scanner.scan(bytes, |found| {
            if result.is_ok() {
                result = write_found(found, bytes, db, out);
            }
        });
        result?;
        match progress {
            Ok(progress) if progress.consumed == bytes.len() => Ok(()),
            Ok(_) => Err(io::Error::other("an entry is cut off")),
            Err(broken) => Err(io::Error::other(broken.to_string())),
        }
    }
}

fn write_found(
    found: Found<'_>,
    bytes: &[u8],
    db: &mut Option<usize>,
    out: &mut impl io::Write,
) -> io::Result<()> {
    match found {
        Found::Entry(record, _) => {
            let mut to = To { out, words: vec![] };
            if *db != Some(record.db) {
                *db = Some(record.db);
                to.command(&[b"SELECT", record.db.to_string().as_bytes()])?;
            }
            to.entry(&record, bytes)
        }
        Found::Function(code) => {
            let mut to = To { out, words: vec![] };
            to.command(&[b"FUNCTION", b"LOAD", &code])
        }
        // Said for readers of snapshots.
        Found::Aux(..) | Found::Sizes { .. } => Ok(()),
        Found::Module(..) => Err(io::Error::other(
            "a module's value, which nobody here wrote",
        )),
    }
}

fn broken(error: Error) -> io::Error {
    io::Error::other(error.to_string())
}

/// Where commands go.
struct To<'o, W> {
    out: &'o mut W,
    /// The bytes of one.
    words: Vec<u8>,
}

impl<W: io::Write> To<'_, W> {
    fn command(&mut self, words: &[&[u8]]) -> io::Result<()> {
        self.words.clear();
        write_command(&mut self.words, words);
        self.out.write_all(&self.words)
    }
    fn entry(&mut self, record: &Record, bytes: &[u8]) -> io::Result<()> {
        let (key, mut value) = record.key_and_value(bytes).map_err(broken)?;
        self.value(record.kind, &key, &mut value)?;
        match record.expire_at {
            Some(at) => self.command(&[b"PEXPIREAT", &key, at.to_string().as_bytes()]),
            None => Ok(()),
        }
    }
    fn value(&mut self, of: u8, key: &[u8], value: &mut Reader<'_>) -> io::Result<()> {
        let (name, width) = match of {
            kind::STRING => {
                let text = value.string().map_err(broken)?;
                return self.command(&[b"SET", key, &text]);
            }
            kind::LIST_QUICKLIST_2 => (&b"RPUSH"[..], 1),
            kind::SET | kind::SET_INTSET => (&b"SADD"[..], 1),
            kind::ZSET_2 | kind::ZSET_LISTPACK => (&b"ZADD"[..], 2),
            kind::HASH | kind::HASH_LISTPACK => (&b"HSET"[..], 2),
            of => {
                let payload = dump::payload(of, value.rest());
                return self.command(&[b"RESTORE", key, b"0", &payload]);
            }
        };
        // A group's words are written when they are complete.
        let mut words: Vec<Cow<'_, [u8]>> = Vec::new();
        let mut each = |word: Option<Cow<'_, [u8]>>| {
            let full = word.is_none() || words.len() == ELEMENTS * width;
            if full && !words.is_empty() {
                let mut command = vec![name, key];
                command.extend(words.iter().map(|word| &**word));
                self.command(&command)?;
                words.clear();
            }
            words.extend(word.map(|word| Cow::Owned(word.into_owned())));
            Ok(())
        };
        each_word(of, value, &mut each)?;
        each(None)
    }
}

/// Takes a collection's words one by one; `None` behind the last.
type Each<'e> = dyn FnMut(Option<Cow<'_, [u8]>>) -> io::Result<()> + 'e;

/// The words that make a collection, in the order of its command.
fn each_word(of: u8, value: &mut Reader<'_>, each: &mut Each<'_>) -> io::Result<()> {
    let length = |value: &mut Reader<'_>| value.length().map_err(broken);
    match of {
        kind::LIST_QUICKLIST_2 => {
            for _ in 0..length(value)? {
                let form = length(value)?;
                let node = value.string().map_err(broken)?;
                match form {
                    list::PACKED => each_item(&node, each)?,
                    _ => each(Some(node))?,
                }
            }
        }
        kind::SET => {
            for _ in 0..length(value)? {
                each(Some(value.string().map_err(broken)?))?;
            }
        }
        kind::SET_INTSET => {
            let set = value.string().map_err(broken)?;
            if !intset::validate(&set) {
                return Err(broken(Error::Corrupt("a broken intset")));
            }
            for number in intset::iter(&set) {
                each(Some(number.to_string().into_bytes().into()))?;
            }
        }
        kind::ZSET_2 => {
            for _ in 0..length(value)? {
                let member = value.string().map_err(broken)?;
                let score = double_text(value.f64_le().map_err(broken)?);
                each(Some(score.as_bytes().into()))?;
                each(Some(member))?;
            }
        }
        kind::ZSET_LISTPACK => {
            let lp = value.string().map_err(broken)?;
            let mut items = sound(&lp).map_err(broken)?;
            while let (Some((_, member)), Some((_, score))) = (items.next(), items.next()) {
                each(Some(score.to_cow()))?;
                each(Some(member.to_cow()))?;
            }
        }
        kind::HASH => {
            for _ in 0..length(value)? {
                each(Some(value.string().map_err(broken)?))?;
                each(Some(value.string().map_err(broken)?))?;
            }
        }
        _ => each_item(&value.string().map_err(broken)?, each)?,
    }
    Ok(())
}

fn each_item(lp: &[u8], each: &mut Each<'_>) -> io::Result<()> {
    for (_, item) in sound(lp).map_err(broken)? {
        each(Some(item.to_cow()))?;
    }
    Ok(())
}

fn sound(lp: &[u8]) -> Result<listpack::Iter<'_>> {
    match listpack::validate(lp) {
        true => Ok(listpack::iter(lp)),
        false => Err(Error::Corrupt("a broken listpack")),
    }
}
