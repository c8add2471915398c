//! The manifest of the append-only files: which there are, and in which order they are read. Redis's format:
//!
//! ```text
//! file appendonly.aof.1.base.rdb seq 1 type b
//! file appendonly.aof.1.incr.aof seq 1 type i
//! ```
//! Types: `b` the base, `i` incremental, `h` history (no longer needed, to be deleted).

use ringwood_protocol::quote;
use std::fmt::Write as _;

/// What Redis reads of a line.
const LINE_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Base,
    Incremental,
    History,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub seq: u64,
    pub kind: Kind,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub base: Option<Entry>,
    pub history: Vec<Entry>,
    /// In the order in which they are read.
    pub incremental: Vec<Entry>,
}

/// Why a manifest cannot be read, as Redis says it.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken {
    pub line: usize,
    pub text: String,
    pub reason: &'static str,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "*** FATAL AOF MANIFEST FILE ERROR ***\nReading the manifest file, at line {}\n>>> '{}'\n{}",
            self.line, self.text, self.reason
        )
    }
}

const FORMAT: &str = "Invalid AOF manifest file format";

impl Manifest {
    pub fn parse(text: &[u8]) -> Result<Self, Broken> {
        let mut manifest = Self::default();
        let broken = |line: usize, text: &[u8], reason| Broken {
            line,
            text: String::from_utf8_lossy(text).into_owned(),
            reason,
        };
        if text.is_empty() {
            return Err(broken(0, b"", "Found an empty AOF manifest"));
        }
        let lines = text.strip_suffix(b"\n");
        let lines = lines.ok_or_else(|| broken(0, b"", "The AOF manifest file is cut off"))?;
        for (number, line) in lines.split(|&b| b == b'\n').enumerate() {
            let fail = |reason| broken(number + 1, line, reason);
            if line.len() + 1 > LINE_MAX {
                return Err(fail("The AOF manifest file contains too long line"));
            }
            if line.starts_with(b"#") {
                continue;
            }
            let entry = entry(line).map_err(fail)?;
            match entry.kind {
                Kind::Base if manifest.base.is_some() => {
                    return Err(fail("Found duplicate base file information"));
                }
                Kind::Base => manifest.base = Some(entry),
                Kind::History => manifest.history.push(entry),
                Kind::Incremental => {
                    if manifest.last_seq() >= entry.seq {
                        return Err(fail("Found a non-monotonic sequence number"));
                    }
                    manifest.incremental.push(entry);
                }
            }
        }
        Ok(manifest)
    }

    /// The number of the last incremental file.
    pub fn last_seq(&self) -> u64 {
        self.incremental.last().map_or(0, |entry| entry.seq)
    }

    /// The number of the next incremental file. Not that of one that is given up and may still be there: it would be deleted with it.
    pub fn next_seq(&self) -> u64 {
        // Bases have numbers of their own.
        let is_base = |name: &str| name.ends_with(".base.rdb") || name.ends_with(".base.aof");
        let given_up = self.history.iter().filter(|entry| !is_base(&entry.name));
        let given_up = given_up.map(|entry| entry.seq).max();
        1 + self.last_seq().max(given_up.unwrap_or(0))
    }

    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let entries = self
            .base
            .iter()
            .chain(&self.history)
            .chain(&self.incremental);
        for entry in entries {
            let kind = match entry.kind {
                Kind::Base => 'b',
                Kind::History => 'h',
                Kind::Incremental => 'i',
            };
            let name = match needs_quotes(&entry.name) {
                true => {
                    let mut quoted = Vec::new();
                    quote::append_repr(&mut quoted, entry.name.as_bytes());
                    String::from_utf8_lossy(&quoted).into_owned()
                }
                false => entry.name.clone(),
            };
            let _ = writeln!(text, "file {name} seq {} type {kind}", entry.seq);
        }
        text
    }
}

fn needs_quotes(name: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '\\');
    name.is_empty() || !name.is_ascii() || name.contains(odd)
}

fn entry(line: &[u8]) -> Result<Entry, &'static str> {
    let words = quote::split_words(line).ok_or(FORMAT)?;
    if words.len() < 6 || !words.len().is_multiple_of(2) {
        return Err(FORMAT);
    }
    let (mut name, mut seq, mut kind) = (None, None, None);
    for pair in words.chunks(2) {
        let value = std::str::from_utf8(&pair[1]).map_err(|_| FORMAT)?;
        match pair[0].to_ascii_lowercase().as_slice() {
            b"file" if value.contains('/') => return Err("File can't be a path, just a filename"),
            b"file" => name = Some(value.to_owned()),
            b"seq" => seq = value.parse().ok(),
            b"type" => {
                kind = match value {
                    "b" => Some(Kind::Base),
                    "i" => Some(Kind::Incremental),
                    "h" => Some(Kind::History),
                    _ => return Err("Unknown AOF file type"),
                }
            }
            // For later versions.
            _ => {}
        }
    }
    match (name, seq, kind) {
        (Some(name), Some(seq), Some(kind)) if seq > 0 && !name.is_empty() => {
            Ok(Entry { name, seq, kind })
        }
        _ => Err(FORMAT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let text = "file a.1.base.rdb seq 1 type b\nfile \"with space.1.incr.aof\" seq 1 type i\nfile a.2.incr.aof seq 2 type i\n";
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        assert_eq!(manifest.incremental[0].name, "with space.1.incr.aof");
        assert_eq!(manifest.last_seq(), 2);
        assert_eq!(manifest.to_text(), text);
        let noted = format!("#comment\n{text}");
        assert_eq!(Manifest::parse(noted.as_bytes()), Ok(manifest));
    }

    #[test]
    fn numbers_of_bases_that_are_given_up_are_no_files_numbers() {
        let text = "file a.9.base.rdb seq 9 type b\nfile a.8.base.rdb seq 8 type h\nfile a.2.incr.aof seq 2 type h\nfile a.1.incr.aof seq 1 type i\n";
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        assert_eq!(manifest.next_seq(), 3);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let good = "file a seq 1 type i\n";
        for (line, reason) in [
            ("file a seq 1 type i", "non-monotonic"),
            ("file a seq x type i", "Invalid"),
            ("file a/b seq 2 type i", "path"),
            ("file a seq 2 type x", "Unknown AOF file type"),
            ("file a seq 2", "Invalid"),
            ("", "Invalid"),
            ("file \"a seq 2 type i", "Invalid"),
        ] {
            let broken = Manifest::parse(format!("{good}{line}\n").as_bytes()).unwrap_err();
            assert_eq!(broken.line, 2, "{line}");
            assert!(broken.reason.contains(reason), "{line}: {broken}");
        }
        assert!(Manifest::parse(b"").unwrap_err().reason.contains("empty"));
        assert!(Manifest::parse(b"file a seq 1 type i").is_err());
        let twice = b"file a seq 1 type b\nfile b seq 2 type b\n";
        assert!(
            Manifest::parse(twice)
                .unwrap_err()
                .reason
                .contains("duplicate")
        );
    }
}
