//! What DUMP answers with and RESTORE takes: one value, with a version and a checksum behind it.

use super::reader::Reader;
use super::scan::opcode;
use super::value::{self, Decoded};
use super::writer::Writer;
use super::{Dialect, Rules, VERSION, crc64, snapshot};
use crate::keyspace::{EntryRef, KeyHasher};
use crate::shard::Settings;

/// Version and checksum.
const FOOTER: usize = 10;

/// Why a payload is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has no footer, a version that we do not know, or was changed on the way.
    Footer,
    Value(super::Error),
}

pub fn dump(entry: EntryRef<'_>, compress: bool) -> Vec<u8> {
    let mut writer = Writer::new(compress);
    let kind = value::kind_of(entry);
    writer.u8(kind);
    value::write(&mut writer, entry);
    sealed(writer.finish(), value::version_of(kind))
}

/// The bytes that a value takes in a file, its key and its kind aside.
pub fn value_len(entry: EntryRef<'_>, compress: bool) -> usize {
    let mut writer = Writer::new(compress);
    value::write(&mut writer, entry);
    writer.finish().len()
}

/// What DUMP answers with for a value of a file.
pub fn payload(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(1 + value.len() + FOOTER);
    payload.push(kind);
    payload.extend(value);
    sealed(payload, value::version_of(kind))
}

/// With the footer behind it.
fn sealed(mut payload: Vec<u8>, version: u16) -> Vec<u8> {
    payload.extend(version.to_le_bytes());
    let checksum = crc64::update(0, &payload);
    payload.extend(checksum.to_le_bytes());
    payload
}

pub fn restore(
    payload: &[u8],
    settings: &Settings,
    hasher: &KeyHasher,
) -> Result<Decoded, Refused> {
    let (body, dialect) = body(payload, !settings.skip_checksum).ok_or(Refused::Footer)?;
    let rules = Rules {
        settings,
        hasher,
        dialect,
    };
    let mut reader = Reader::new(body);
    let kind = reader.u8().map_err(Refused::Value)?;
    // As in Redis, nobody asks what may follow the value.
    value::read(kind, &mut reader, &rules).map_err(Refused::Value)
}

/// What is before the footer, if that is in order.
fn body(payload: &[u8], checking: bool) -> Option<(&[u8], Dialect)> {
    let (body, footer) = payload.split_at_checked(payload.len().checked_sub(FOOTER)?)?;
    let (version, checksum) = footer.split_first_chunk()?;
    let dialect = Dialect::of_version(u16::from_le_bytes(*version))?;
    let checked = || crc64::update(0, &payload[..body.len() + version.len()]);
    (!checking || *checksum == checked().to_le_bytes()).then_some((body, dialect))
}

/// What FUNCTION DUMP answers with: the libraries' texts, each as it stands in a file.
pub fn dump_functions<'c>(codes: impl Iterator<Item = &'c [u8]>, compress: bool) -> Vec<u8> {
    let payload = codes.flat_map(|code| snapshot::function(code, compress));
    sealed(payload.collect(), VERSION)
}

/// The libraries' texts of such a payload, or the text of the error reply.
pub fn restore_functions(payload: &[u8]) -> Result<Vec<Box<[u8]>>, &'static str> {
    let (body, _) = body(payload, true).ok_or("ERR DUMP payload version or checksum are wrong")?;
    let mut reader = Reader::new(body);
    let mut codes = Vec::new();
    while !reader.rest().is_empty() {
        match reader.u8() {
            Ok(opcode::FUNCTION) => {}
            Ok(opcode::FUNCTION_OLD) => return Err("ERR Pre-GA function format not supported"),
            _ => return Err("ERR given type is not a function"),
        }
        let code = reader.string();
        let code = code.map_err(|_| "ERR failed loading the given functions payload")?;
        codes.push(code.into());
    }
    Ok(codes)
}
