//! Reading a file of the log: where its commands are, what its annotations say, and where it ends if it was cut off.

use super::parts::{self, FileHead, Line, Parts};
use std::io::{BufRead, ErrorKind, Read};
use std::ops::Range;

/// A command's words, and a word's bytes, as Redis limits them.
const WORDS_MAX: u64 = 1 << 31;
const BYTES_MAX: u64 = 4 << 30;
/// The longest line that is no annotation.
const NUMBER_MAX: u64 = 64;
const ANNOTATION_MAX: u64 = 1024;

/// Why reading ends early.
#[derive(Debug)]
pub enum Stop {
    /// In the middle of a command.
    CutOff,
    /// What is there is none.
    Format,
    Io(std::io::Error),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof => Self::CutOff,
            _ => Self::Io(error),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// [`Scanner::raw`] and [`Scanner::words`] have it.
    Command,
    /// Without its `\n`, in [`Scanner::raw`].
    Annotation,
    End,
}

/// Goes through a file command by command.
pub struct Scanner<R> {
    input: R,
    /// Behind what was found last.
    pub offset: u64,
    pub raw: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl<R: BufRead> Scanner<R> {
    pub fn new(input: R) -> Self {
        Self {
            input,
            offset: 0,
            raw: Vec::new(),
            ranges: Vec::new(),
        }
    }

    pub fn words(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.ranges.iter().map(|range| &self.raw[range.clone()])
    }
    fn is(&self, name: &[u8]) -> bool {
        self.ranges.len() == 1 && self.words().all(|word| word.eq_ignore_ascii_case(name))
    }

    /// Whether a MULTI is open behind the command that was found last.
    pub fn opens_multi(&self, before: bool) -> bool {
        match before {
            true => !self.is(b"EXEC"),
            false => self.is(b"MULTI"),
        }
    }

    pub fn advance(&mut self) -> Result<Found, Stop> {
        self.raw.clear();
        self.ranges.clear();
        let found = match self.input.fill_buf()?.first() {
            None => return Ok(Found::End),
            Some(b'#') => {
                self.line(ANNOTATION_MAX)?;
                self.raw.pop();
                self.offset += 1;
                Found::Annotation
            }
            Some(b'*') => {
                let count = self.number(b'*')?;
                if count == 0 || count > WORDS_MAX {
                    return Err(Stop::Format);
                }
                for _ in 0..count {
                    let len = self.number(b'$')?;
                    if len > BYTES_MAX {
                        return Err(Stop::Format);
                    }
                    let from = self.raw.len();
                    let wanted = len + 2;
                    let read = (&mut self.input).take(wanted).read_to_end(&mut self.raw)?;
                    if (read as u64) < wanted {
                        return Err(Stop::CutOff);
                    }
                    if !self.raw.ends_with(b"\r\n") {
                        return Err(Stop::Format);
                    }
                    self.ranges.push(from..self.raw.len() - 2);
                }
                Found::Command
            }
            Some(_) => return Err(Stop::Format),
        };
        self.offset += self.raw.len() as u64;
        Ok(found)
    }

    /// Appends a line to `raw`, with its end.
    fn line(&mut self, max: u64) -> Result<(), Stop> {
        let read = (&mut self.input)
            .take(max)
            .read_until(b'\n', &mut self.raw)?;
        match self.raw.last() {
            Some(b'\n') if read > 0 => Ok(()),
            _ if (read as u64) < max => Err(Stop::CutOff),
            _ => Err(Stop::Format),
        }
    }
    fn number(&mut self, sign: u8) -> Result<u64, Stop> {
        let from = self.raw.len();
        self.line(NUMBER_MAX)?;
        let line = self.raw[from..].strip_suffix(b"\r\n").ok_or(Stop::Format)?;
        let digits = line.strip_prefix(&[sign]).ok_or(Stop::Format)?;
        let text = std::str::from_utf8(digits).map_err(|_| Stop::Format)?;
        text.parse().map_err(|_| Stop::Format)
    }
}

/// What a file has.
#[derive(Debug, Default)]
pub struct Survey {
    pub head: Option<FileHead>,
    /// Where the commands that concern all files of its generation end.
    pub global_end: u64,
    /// Where what is whole ends.
    pub end: u64,
    pub commands: u64,
    /// Those among them that concern this file only.
    own: u64,
    /// Transactions over several cores that it tells of, whole.
    pub transactions: Vec<Parts>,
    /// Why it ends there.
    pub stop: Option<Stop>,
}

impl Survey {
    /// It tells of a change.
    pub fn has_something(&self) -> bool {
        self.commands > 0 || !self.transactions.is_empty()
    }
    /// It tells of a change of this file's keys.
    pub fn has_own(&self) -> bool {
        self.own > 0 || !self.transactions.is_empty()
    }
}

/// What is open where the file may end.
enum Open {
    Nothing,
    /// MULTI … EXEC.
    Multi,
    /// `#RW:tx` and copies.
    Copies(Parts),
    /// The own part, up to this offset; and whether a MULTI is open in it.
    Own(Parts, u64, bool),
}

/// True if a part of a transaction is whole commands, with an EXEC for each MULTI. What has none would leave who carries it
/// out in a transaction that never ends.
fn is_whole(part: &[u8]) -> bool {
    let mut scanner = Scanner::new(part);
    let mut in_multi = false;
    loop {
        match scanner.advance() {
            Ok(Found::Command) => in_multi = scanner.opens_multi(in_multi),
            Ok(Found::End) => return !in_multi,
            Ok(Found::Annotation) | Err(_) => return false,
        }
    }
}

/// Looks through a file.
pub fn survey<R: BufRead>(scanner: &mut Scanner<R>) -> Survey {
    let mut survey = Survey::default();
    if let Err(stop) = look_through(scanner, &mut survey) {
        survey.stop = Some(stop);
    }
    let is_torn = survey.end < survey.global_end;
    if is_torn && !matches!(survey.stop, Some(Stop::Io(_))) {
        // What concerns all files was on disk before this one was part of the log.
        survey.stop = Some(Stop::Format);
    }
    survey
}

fn look_through<R: BufRead>(scanner: &mut Scanner<R>, survey: &mut Survey) -> Result<(), Stop> {
    let mut open = Open::Nothing;
    loop {
        let before = scanner.offset;
        let found = scanner.advance()?;
        let offset = scanner.offset;
        survey.own += u64::from(found == Found::Command && offset > survey.global_end);
        match (found, &mut open) {
            (Found::End, Open::Nothing) => return Ok(()),
            (Found::End, _) => return Err(Stop::CutOff),
            (Found::Command, Open::Nothing) => {
                survey.commands += 1;
                if scanner.opens_multi(false) {
                    open = Open::Multi;
                }
            }
            (Found::Command, Open::Multi) => {
                survey.commands += 1;
                if !scanner.opens_multi(true) {
                    open = Open::Nothing;
                }
            }
            (Found::Command, Open::Own(parts, end, in_multi)) => {
                survey.commands += 1;
                *in_multi = scanner.opens_multi(*in_multi);
                match offset.cmp(end) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal if *in_multi => return Err(Stop::Format),
                    std::cmp::Ordering::Equal => {
                        survey.transactions.push(std::mem::take(parts));
                        open = Open::Nothing;
                    }
                    std::cmp::Ordering::Greater => return Err(Stop::Format),
                }
            }
            (Found::Command, Open::Copies(_)) => return Err(Stop::Format),
            (Found::Annotation, state) => {
                let line = scanner.raw.strip_suffix(b"\r").unwrap_or(&scanner.raw);
                match (parts::read(line).ok_or(Stop::Format)?, state) {
                    (Line::Other, _) => {}
                    (Line::File(head), Open::Nothing) if survey.commands == 0 => {
                        survey.head = Some(head);
                    }
                    (Line::Global(len), Open::Nothing) if survey.commands == 0 => {
                        survey.global_end = offset.checked_add(len).ok_or(Stop::Format)?;
                    }
                    (Line::Tx(number), Open::Nothing) => {
                        let others = Vec::new();
                        open = Open::Copies(Parts { number, others });
                    }
                    (Line::Part(core, bytes), Open::Copies(parts)) => {
                        match parts.others.iter_mut().find(|(of, _)| *of == core) {
                            Some((_, known)) => known.extend_from_slice(&bytes),
                            None => parts.others.push((core, bytes.into_owned())),
                        }
                    }
                    (Line::Own(_), Open::Copies(parts))
                        if !parts.others.iter().all(|(_, part)| is_whole(part)) =>
                    {
                        return Err(Stop::Format);
                    }
                    (Line::Own(0), Open::Copies(parts)) => {
                        survey.transactions.push(std::mem::take(parts));
                        open = Open::Nothing;
                    }
                    (Line::Own(len), Open::Copies(parts)) => {
                        let end = offset.checked_add(len).ok_or(Stop::Format)?;
                        open = Open::Own(std::mem::take(parts), end, false);
                    }
                    _ => return Err(Stop::Format),
                }
            }
        }
        let global_end = survey.global_end;
        match open {
            _ if before < global_end && global_end < offset => return Err(Stop::Format),
            _ if offset < global_end => {}
            Open::Nothing => survey.end = offset,
            _ if offset == global_end => return Err(Stop::Format),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringwood_shard::log::write_command;

    fn of(bytes: &[u8]) -> Survey {
        survey(&mut Scanner::new(bytes))
    }
    fn commands(lines: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in lines {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            write_command(&mut out, &words);
        }
        out
    }

    #[test]
    fn a_whole_file_is_found_whole() {
        let mut bytes = b"#RW:file 2 0 4\r\n".to_vec();
        bytes.extend(commands(&["SET a 1", "MULTI", "INCR a", "EXEC"]));
        bytes.extend(b"#TS:1\r\n");
        let found = of(&bytes);
        assert_eq!((found.end, found.commands), (bytes.len() as u64, 4));
        assert!(found.stop.is_none());
        assert_eq!(found.head.map(|h| h.cores), Some(4));
    }

    /// Cut anywhere, what is left is what was whole: never half a command, nor half a transaction.
    #[test]
    fn a_cut_file_ends_where_it_was_whole() {
        let mut bytes = commands(&["SET a 1"]);
        let mut wholes = vec![0, bytes.len()];
        bytes.extend(commands(&["MULTI", "SET b 2", "SET c 3", "EXEC"]));
        wholes.push(bytes.len());
        let own = commands(&["MULTI", "SET d 4", "EXEC"]);
        let parts = [(0, own), (1, commands(&["SET e 5"]))];
        parts::write(&mut bytes, 9, &parts, 0);
        wholes.push(bytes.len());
        for cut in 0..=bytes.len() {
            let found = of(&bytes[..cut]);
            let whole = wholes.iter().copied().rfind(|end| *end <= cut).unwrap();
            assert_eq!(found.end, whole as u64, "cut at {cut}");
            match wholes.contains(&cut) {
                true => assert!(found.stop.is_none(), "cut at {cut}"),
                false => assert!(matches!(found.stop, Some(Stop::CutOff)), "cut at {cut}"),
            }
            let known = found.transactions.len();
            assert_eq!(known, usize::from(cut == bytes.len()), "cut at {cut}");
        }
    }

    /// Simulated disk, seed 929: the copy of a part in which EXEC was no command any more. Whoever was sent it waited for its end for good.
    #[test]
    fn a_part_without_its_end_is_refused() {
        let whole = commands(&["MULTI", "SET d 4", "EXEC"]);
        let mut broken = whole.clone();
        let at = whole.len() - 10;
        assert_eq!(&broken[at..at + 4], b"$4\r\n");
        broken[at] = b'3';
        let open = commands(&["MULTI", "SET d 4"]);
        let nested = commands(&["MULTI", "MULTI", "EXEC"]);
        for (part, is_right) in [
            (&whole, true),
            (&nested, true),
            (&broken, false),
            (&open, false),
        ] {
            for own in [0, 1] {
                let mut bytes = Vec::new();
                parts::write(&mut bytes, 9, &[(0, part.clone())], own);
                let found = of(&bytes);
                let refused = matches!(found.stop, Some(Stop::Format));
                match is_right {
                    true => assert!(found.stop.is_none(), "{found:?}"),
                    false => assert!(refused, "{found:?}"),
                }
            }
        }
    }

    #[test]
    fn global_commands_end_where_a_command_ends() {
        let set = commands(&["SET a 1"]);
        let multi = commands(&["MULTI", "SET a 1", "EXEC"]);
        for (bytes, end, is_right) in [
            (&set, set.len(), true),
            (&set, set.len() - 1, false),
            (&set, set.len() + 1, false),
            (&multi, multi.len(), true),
            (&multi, multi.len() - 14, false),
        ] {
            let mut file = format!("#RW:global {end}\r\n").into_bytes();
            file.extend_from_slice(bytes);
            let found = of(&file);
            assert_eq!(found.stop.is_none(), is_right, "{end} of {}", bytes.len());
            let whole = if is_right { file.len() as u64 } else { 0 };
            assert_eq!(found.end, whole, "{end} of {}", bytes.len());
        }
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for wrong in [
            "GET a\r\n",
            "*0\r\n",
            "*1\r\n:5\r\n",
            "*1\r\n$3\r\nGETxx",
            "*x\r\n",
            "*1\n$4\r\nPING\r\n",
            "#RW:own 5\r\n",
            "#RW:tx 1\r\n*1\r\n$4\r\nPING\r\n",
            "#RW:tx 1\r\n#RW:own 3\r\n*1\r\n$4\r\nPING\r\n",
            "#RW:tx 1\r\n#RW:own 18446744073709551615\r\n",
            "#RW:global 18446744073709551615\r\n",
        ] {
            let found = of(wrong.as_bytes());
            assert!(
                matches!(found.stop, Some(Stop::Format)),
                "{wrong}: {found:?}"
            );
            assert_eq!(found.end, 0);
        }
    }
}
