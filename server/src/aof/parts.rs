//! Transactions over several cores in the log.
//!
//! Each core's file has that core's part of a transaction, as MULTI … EXEC. A crash may leave one file with its part and another
//! without, so every part is accompanied by copies of the others, in lines that Redis takes for annotations and passes over:
//!
//! ```text
//! #RW:tx <number>
//! #RW:part <core> <bytes, escaped>     one or more lines for each other core's part
//! #RW:own <length>
//! MULTI … EXEC                         that many bytes; none in the file of a core without a part
//! ```
//! Whoever finds a transaction whole in any file can complete it in all: a part that is missing belongs behind the end of its file,
//! for what comes behind a part in a file is written after it.

use std::borrow::Cow;

/// Redis passes over lines of up to 1,024 bytes.
const LINE: usize = 1000;

/// A transaction as one file tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    pub number: u64,
    /// By core.
    pub others: Vec<(u16, Vec<u8>)>,
}

/// Appends a core's own part of a transaction with copies of the others.
pub fn write(out: &mut Vec<u8>, number: u64, parts: &[(u16, Vec<u8>)], core: u16) {
    out.extend_from_slice(format!("#RW:tx {number}\r\n").as_bytes());
    let mut own: &[u8] = &[];
    for (of, bytes) in parts {
        if *of == core {
            own = bytes;
            continue;
        }
        let head = format!("#RW:part {of} ");
        let mut line = head.clone().into_bytes();
        for &byte in bytes {
            if line.len() >= LINE {
                out.append(&mut line);
                out.extend_from_slice(b"\r\n");
                line.extend_from_slice(head.as_bytes());
            }
            match byte {
                b'\\' => line.extend_from_slice(b"\\\\"),
                b'\n' => line.extend_from_slice(b"\\n"),
                b'\r' => line.extend_from_slice(b"\\r"),
                0 => line.extend_from_slice(b"\\0"),
                other => line.push(other),
            }
        }
        out.append(&mut line);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("#RW:own {}\r\n", own.len()).as_bytes());
    out.extend_from_slice(own);
}

/// What an annotation says.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Somebody else's: a time stamp of Redis's, say.
    Other,
    File(FileHead),
    /// The first commands of the file, of this length, concern all files of its generation.
    Global(u64),
    Tx(u64),
    Part(u16, Cow<'a, [u8]>),
    Own(u64),
}

/// What the first line of a file says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHead {
    /// Files of one generation are written at the same time, by a core each.
    pub generation: u64,
    pub core: u16,
    pub cores: u16,
}

impl FileHead {
    pub fn to_line(self) -> String {
        let Self {
            generation,
            core,
            cores,
        } = self;
        format!("#RW:file {generation} {core} {cores}\r\n")
    }
}
pub fn global_line(length: usize) -> String {
    format!("#RW:global {length}\r\n")
}

/// Reads an annotation, without its line end. `None`: one of ours that cannot be.
pub fn read(line: &[u8]) -> Option<Line<'_>> {
    let Some(rest) = line.strip_prefix(b"#RW:") else {
        return Some(Line::Other);
    };
    let mut words = rest.splitn(3, |&b| b == b' ');
    let name = words.next()?;
    let number =
        |word: Option<&[u8]>| -> Option<u64> { std::str::from_utf8(word?).ok()?.parse().ok() };
    Some(match name {
        b"file" => {
            let rest = std::str::from_utf8(rest).ok()?;
            let numbers = rest.split(' ').skip(1).map(str::parse::<u64>);
            let numbers: Vec<u64> = numbers.collect::<Result<_, _>>().ok()?;
            let &[generation, core, cores] = numbers.as_slice() else {
                return None;
            };
            Line::File(FileHead {
                generation,
                core: u16::try_from(core).ok()?,
                cores: u16::try_from(cores).ok()?,
            })
        }
        b"global" => Line::Global(number(words.next())?),
        b"tx" => Line::Tx(number(words.next())?),
        b"own" => Line::Own(number(words.next())?),
        b"part" => {
            let core = u16::try_from(number(words.next())?).ok()?;
            Line::Part(core, unescape(words.next().unwrap_or_default())?)
        }
        _ => Line::Other,
    })
}

fn unescape(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !text.contains(&b'\\') {
        return Some(text.into());
    }
    let (mut out, mut bytes) = (Vec::with_capacity(text.len()), text.iter());
    while let Some(&byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                b'0' => 0,
                _ => return None,
            },
            other => other,
        });
    }
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_whatever_is_in_them() {
        let mut odd: Vec<u8> = (0..=255).collect();
        odd = odd.repeat(20);
        let parts = [(0, b"own".to_vec()), (2, odd.clone()), (3, Vec::new())];
        let mut out = Vec::new();
        write(&mut out, 7, &parts, 0);
        let own = out.strip_suffix(b"own").unwrap();
        let mut found = Vec::new();
        let mut lines = own.split(|&b| b == b'\n');
        assert_eq!(
            read(lines.next().unwrap().trim_ascii_end()),
            Some(Line::Tx(7))
        );
        for line in lines {
            assert!(line.len() < 1023);
            assert!(line.is_empty() || line[0] == b'#');
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            match read(line) {
                Some(Line::Part(2, bytes)) => found.extend_from_slice(&bytes),
                Some(Line::Part(3, bytes)) => assert!(bytes.is_empty()),
                Some(Line::Own(3)) => {}
                other => assert!(line.is_empty(), "{other:?}"),
            }
        }
        assert_eq!(found, odd);
    }

    #[test]
    fn lines_of_others_are_passed_over_and_wrong_ones_refused() {
        assert_eq!(read(b"#TS:1628217470"), Some(Line::Other));
        assert_eq!(read(b"#RW:later 5"), Some(Line::Other));
        for wrong in [
            "#RW:tx",
            "#RW:tx x",
            "#RW:part 70000 a",
            "#RW:part 1 \\x",
            "#RW:file 1 2",
        ] {
            assert_eq!(read(wrong.as_bytes()), None, "{wrong}");
        }
        let head = FileHead {
            generation: 3,
            core: 1,
            cores: 4,
        };
        let line = head.to_line();
        assert_eq!(read(line.trim_end().as_bytes()), Some(Line::File(head)));
    }
}
