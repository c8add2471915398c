//! Parses requests: arrays of bulk strings, and inline commands.
//!
//! Two ways in. [`parse`] takes a whole command out of a buffer, borrowing its words: the way of nearly every request.
//! A command that is cut off goes on through [`Progress`], which remembers how far it got, so that a command of a
//! million words that arrives in small pieces is walked once and not once per piece.
//!
//! The limits and texts are Redis's: a bad length is refused as soon as it is read, not when the data is there.

use crate::error::ProtocolError;

/// The longest inline command, and the longest header line.
pub const INLINE_MAX: usize = 64 * 1024;

/// What a connection may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `proto-max-bulk-len`, in bytes.
    pub bulk_len_max: i64,
    /// An unauthenticated client may send 10 words of 16 KB each, no more.
    pub authenticated: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bulk_len_max: 512 * 1024 * 1024,
            authenticated: true,
        }
    }
}

/// What the front of the buffer holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole command of `consumed` bytes; its words were appended. It may have no words: an empty line, `*0`.
    Command {
        consumed: usize,
    },
    /// A whole inline command: `line` bytes without the line end, `consumed` with it. The caller splits it.
    Inline {
        line: usize,
        consumed: usize,
    },
    /// Cut off. At least this many bytes are needed in all.
    Incomplete {
        need: usize,
    },
    Error(ProtocolError),
}

/// A header line's number, read strictly: digits with an optional minus, nothing else.
enum Line {
    Number { value: i64, next: usize },
    Bad,
    Incomplete,
    TooLong,
}

/// Reads a header line of one to four digits at its mark (`*` or `$`) out of eight bytes at once: the way of nearly every header. The number, and
/// where the line ends.
#[inline]
fn short_header(buf: &[u8], at: usize, mark: u8) -> Option<(usize, usize)> {
    let word = u64::from_le_bytes(*buf.get(at..)?.first_chunk()?);
    let byte = |n: u32| (word >> (8 * n)) as u8;
    let digit = |n: u32| byte(n).wrapping_sub(b'0') as usize;
    let first = digit(1);
    if byte(0) != mark || first > 9 {
        return None;
    }
    if byte(2) == b'\r' {
        return Some((first, at + 4));
    }
    let second = digit(2);
    if first == 0 || second > 9 {
        return None;
    }
    let two = first * 10 + second;
    if byte(3) == b'\r' {
        return Some((two, at + 5));
    }
    let third = digit(3);
    if third > 9 {
        return None;
    }
    let three = two * 10 + third;
    if byte(4) == b'\r' {
        return Some((three, at + 6));
    }
    let fourth = digit(4);
    (fourth <= 9 && byte(5) == b'\r').then_some((three * 10 + fourth, at + 7))
}

fn header(buf: &[u8], at: usize) -> Line {
    let mut i = at;
    let mut value: i64 = 0;
    while let Some(&b) = buf.get(i) {
        if b.is_ascii_digit() && i - at < 9 {
            value = value * 10 + (b - b'0') as i64;
            i += 1;
        } else {
            if b == b'\r' && i > at && (buf[at] != b'0' || i == at + 1) && i + 1 < buf.len() {
                return Line::Number { value, next: i + 2 };
            }
            break;
        }
    }
    header_slow(buf, at)
}

#[cold]
fn header_slow(buf: &[u8], at: usize) -> Line {
    let Some(end) = buf[at..].iter().position(|&b| b == b'\r') else {
        return if buf.len() - at > INLINE_MAX {
            Line::TooLong
        } else {
            Line::Incomplete
        };
    };
    if at + end + 1 >= buf.len() {
        return Line::Incomplete;
    }
    let text = &buf[at..at + end];
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = matches!(digits, [b'1'..=b'9', ..] | [b'0']) && text != b"-0";
    match std::str::from_utf8(text)
        .ok()
        .filter(|_| canonical)
        .and_then(|t| t.parse().ok())
    {
        Some(value) => Line::Number {
            value,
            next: at + end + 2,
        },
        None => Line::Bad,
    }
}

/// Reads `*<count>`: the number of words and where they begin.
#[inline]
fn multibulk_header(buf: &[u8], limits: &Limits) -> Result<Option<(i64, usize)>, ProtocolError> {
    if let Some((count, next)) = short_header(buf, 0, b'*')
        && (count <= 10 || limits.authenticated)
    {
        return Ok(Some((count as i64, next)));
    }
    long_multibulk_header(buf, limits)
}
fn long_multibulk_header(
    buf: &[u8],
    limits: &Limits,
) -> Result<Option<(i64, usize)>, ProtocolError> {
    match header(buf, 1) {
        Line::Number { value, next } => {
            if value > i32::MAX as i64 {
                Err(ProtocolError::InvalidMultibulkLength)
            } else if value > 10 && !limits.authenticated {
                Err(ProtocolError::UnauthenticatedMultibulkLength)
            } else {
                Ok(Some((value, next)))
            }
        }
        Line::Bad => Err(ProtocolError::InvalidMultibulkLength),
        Line::TooLong => Err(ProtocolError::TooBigMultibulkHeader),
        Line::Incomplete => Ok(None),
    }
}

/// Reads `$<length>` at `at`: the length and where the data begins.
#[inline]
fn bulk_header(
    buf: &[u8],
    at: usize,
    limits: &Limits,
) -> Result<Option<(usize, usize)>, ProtocolError> {
    // Four digits are within every limit: `proto-max-bulk-len` is at least a megabyte, and a stranger may send 16 KB.
    if let Some(found) = short_header(buf, at, b'$') {
        return Ok(Some(found));
    }
    long_bulk_header(buf, at, limits)
}
fn long_bulk_header(
    buf: &[u8],
    at: usize,
    limits: &Limits,
) -> Result<Option<(usize, usize)>, ProtocolError> {
    match buf.get(at) {
        None => return Ok(None),
        Some(b'$') => {}
        Some(&other) => return Err(ProtocolError::ExpectedDollar(other)),
    }
    match header(buf, at + 1) {
        Line::Number { value, next } => {
            if value < 0 || value > limits.bulk_len_max {
                Err(ProtocolError::InvalidBulkLength)
            } else if value > 16384 && !limits.authenticated {
                Err(ProtocolError::UnauthenticatedBulkLength)
            } else {
                Ok(Some((value as usize, next)))
            }
        }
        Line::Bad => Err(ProtocolError::InvalidBulkLength),
        Line::TooLong => Err(ProtocolError::TooBigBulkHeader),
        Line::Incomplete => Ok(None),
    }
}

/// Takes one command off the front of `buf`. On [`Parsed::Incomplete`] and errors `args` is as it was.
#[inline]
pub fn parse<'a>(buf: &'a [u8], limits: &Limits, args: &mut Vec<&'a [u8]>) -> Parsed {
    match buf.first() {
        None => return Parsed::Incomplete { need: 1 },
        Some(b'*') => {}
        Some(_) => return parse_inline(buf),
    }
    let before = args.len();
    let (count, at) = match multibulk_header(buf, limits) {
        Ok(Some(header)) => header,
        Ok(None) => {
            return Parsed::Incomplete {
                need: buf.len() + 1,
            };
        }
        Err(e) => return Parsed::Error(e),
    };
    words(buf, at, count.max(0) as usize, limits, args, before)
}

/// Takes `count` words from `at` on; those from `before` on are the command's.
#[inline(always)]
fn words<'a>(
    buf: &'a [u8],
    mut at: usize,
    count: usize,
    limits: &Limits,
    args: &mut Vec<&'a [u8]>,
    before: usize,
) -> Parsed {
    for _ in 0..count {
        let need = match bulk_header(buf, at, limits) {
            Ok(Some((len, data))) => {
                if buf.len() >= data + len + 2 {
                    args.push(&buf[data..data + len]);
                    at = data + len + 2;
                    continue;
                }
                data + len + 2
            }
            Ok(None) => buf.len() + 1,
            Err(e) => {
                args.truncate(before);
                return Parsed::Error(e);
            }
        };
        args.truncate(before);
        return Parsed::Incomplete { need };
    }
    Parsed::Command { consumed: at }
}

/// How a command begins: up to the end of its name, `*2\r\n$3\r\nGET\r\n`. Pipelines repeat a command, and one look at 16 bytes tells that the next one
/// begins as the last one did.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    bytes: u128,
    mask: u128,
    /// Of the bytes.
    len: usize,
    /// Of the name in them.
    name_len: usize,
    /// Words behind the name.
    count: usize,
}

impl Opening {
    /// How this command began, which was parsed into these words. `None` if that was long.
    #[inline]
    pub fn of(buf: &[u8], words: &[&[u8]]) -> Option<Self> {
        let name = words.first()?;
        let bytes = u128::from_le_bytes(*buf.first_chunk()?);
        let begin = name.as_ptr().addr().wrapping_sub(buf.as_ptr().addr());
        let len = begin.checked_add(name.len() + 2)?;
        let unused = 8 * 16usize.checked_sub(len)?;
        let mask = u128::MAX >> unused;
        Some(Self {
            bytes: bytes & mask,
            mask,
            len,
            name_len: name.len(),
            count: words.len() - 1,
        })
    }
    /// As [`parse`], for who is authenticated. `None` if this begins otherwise.
    #[inline(always)]
    pub fn parse<'a>(
        &self,
        buf: &'a [u8],
        limits: &Limits,
        args: &mut Vec<&'a [u8]>,
    ) -> Option<Parsed> {
        let bytes = u128::from_le_bytes(*buf.first_chunk()?);
        if bytes & self.mask != self.bytes {
            return None;
        }
        let before = args.len();
        args.push(&buf[self.len - 2 - self.name_len..self.len - 2]);
        Some(words(buf, self.len, self.count, limits, args, before))
    }
}

#[cold]
fn parse_inline(buf: &[u8]) -> Parsed {
    match buf.iter().position(|&b| b == b'\n') {
        Some(end) if end <= INLINE_MAX => {
            let line = if end > 0 && buf[end - 1] == b'\r' {
                end - 1
            } else {
                end
            };
            Parsed::Inline {
                line,
                consumed: end + 1,
            }
        }
        None if buf.len() <= INLINE_MAX => Parsed::Incomplete {
            need: buf.len() + 1,
        },
        _ => Parsed::Error(ProtocolError::TooBigInline),
    }
}

/// How far a cut-off multibulk command has been read.
///
/// All positions count from the command's first byte, which stays the first byte of the connection's query buffer
/// until the command is whole.
#[derive(Debug, Default)]
pub struct Progress {
    /// Words still to come; `None` before the header was read.
    left: Option<usize>,
    at: usize,
    /// Where each word begins and ends.
    words: Vec<(usize, usize)>,
}

impl Progress {
    /// Goes on with all the bytes that there are of the command now. [`Parsed::Command`]: the words are at
    /// [`Progress::words`].
    pub fn resume(&mut self, buf: &[u8], limits: &Limits) -> Parsed {
        let left = match self.left {
            Some(left) => left,
            None => match multibulk_header(buf, limits) {
                Ok(Some((count, at))) => {
                    self.at = at;
                    count.max(0) as usize
                }
                Ok(None) => {
                    return Parsed::Incomplete {
                        need: buf.len() + 1,
                    };
                }
                Err(e) => return Parsed::Error(e),
            },
        };
        for done in 0..left {
            self.left = Some(left - done);
            match bulk_header(buf, self.at, limits) {
                Ok(Some((len, data))) => {
                    if buf.len() < data + len + 2 {
                        return Parsed::Incomplete {
                            need: data + len + 2,
                        };
                    }
                    self.words.push((data, data + len));
                    self.at = data + len + 2;
                }
                Ok(None) => {
                    return Parsed::Incomplete {
                        need: buf.len() + 1,
                    };
                }
                Err(e) => return Parsed::Error(e),
            }
        }
        self.left = Some(0);
        Parsed::Command { consumed: self.at }
    }

    /// The words of the whole command, out of the buffer given to the last `resume`.
    pub fn words<'a>(&self, buf: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a, '_> {
        self.words.iter().map(|&(from, to)| &buf[from..to])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(input: &[u8]) -> (Parsed, Vec<Vec<u8>>) {
        let mut args = Vec::new();
        let parsed = parse(input, &Limits::default(), &mut args);
        (parsed, args.iter().map(|a| a.to_vec()).collect())
    }

    #[test]
    fn takes_one_command_of_a_pipeline() {
        let (parsed, args) = one(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n");
        assert_eq!(parsed, Parsed::Command { consumed: 20 });
        assert_eq!(args, [b"GET".to_vec(), b"k".to_vec()]);
        assert_eq!(one(b"*0\r\nPING\r\n").0, Parsed::Command { consumed: 4 });
        assert_eq!(one(b"*-1\r\nPING\r\n").0, Parsed::Command { consumed: 5 });
        assert_eq!(
            one(b"PING\r\n").0,
            Parsed::Inline {
                line: 4,
                consumed: 6
            }
        );
        assert_eq!(
            one(b"\n").0,
            Parsed::Inline {
                line: 0,
                consumed: 1
            }
        );
    }

    #[test]
    fn an_opening_stands_for_what_begins_like_it() {
        let begin = |command: &[u8]| {
            let mut words = Vec::new();
            parse(command, &Limits::default(), &mut words);
            Opening::of(command, &words)
        };
        let get = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        let opening = begin(get).expect("it is short");
        for (command, same) in [
            (&get[..], true),
            (b"*2\r\n$3\r\nGET\r\n$11\r\nanother-one\r\n", true),
            // Cut off, or wrong.
            (b"*2\r\n$3\r\nGET\r\n$9\r\nkey", true),
            (b"*2\r\n$3\r\nGET\r\n:9\r\nkey", true),
            (b"*2\r\n$3\r\nget\r\n$1\r\nk\r\n", false),
            (b"*2\r\n$3\r\nTTL\r\n$1\r\nk\r\n", false),
            (b"*3\r\n$3\r\nGET\r\n$1\r\nk\r\n", false),
            (b"*2\r\n$3\r\nGET\r\n", false),
        ] {
            let mut words = Vec::new();
            let parsed = opening.parse(command, &Limits::default(), &mut words);
            let mut expected = Vec::new();
            let plain = parse(command, &Limits::default(), &mut expected);
            assert_eq!(parsed, same.then_some(plain), "{}", command.escape_ascii());
            assert!(!same || words == expected, "{}", command.escape_ascii());
        }
        assert!(begin(b"*2\r\n$9\r\nPEXPIREAT\r\n$1\r\nk\r\n").is_none());
        assert!(begin(b"*1\r\n$4\r\nPING\r\n").is_none());
    }

    #[test]
    fn refuses_bad_lengths_with_redis_words() {
        use ProtocolError::*;
        let cases: &[(&[u8], ProtocolError)] = &[
            (b"*x\r\n", InvalidMultibulkLength),
            (b"*01\r\n", InvalidMultibulkLength),
            (b"*3000000000\r\n", InvalidMultibulkLength),
            (b"*1\r\n$x\r\n", InvalidBulkLength),
            (b"*1\r\n$-1\r\n", InvalidBulkLength),
            (b"*1\r\n$536870913\r\n", InvalidBulkLength),
            (b"*1\r\nfoo", ExpectedDollar(b'f')),
        ];
        for (input, error) in cases {
            assert_eq!(
                one(input).0,
                Parsed::Error(error.clone()),
                "{}",
                input.escape_ascii()
            );
        }
        let stranger = Limits {
            authenticated: false,
            ..Limits::default()
        };
        let mut args = Vec::new();
        assert_eq!(
            parse(b"*11\r\n", &stranger, &mut args),
            Parsed::Error(UnauthenticatedMultibulkLength)
        );
        assert_eq!(
            parse(b"*1\r\n$16385\r\n", &stranger, &mut args),
            Parsed::Error(UnauthenticatedBulkLength)
        );
        assert_eq!(one(&[b'a'; INLINE_MAX + 1]).0, Parsed::Error(TooBigInline));
    }

    proptest! {
        /// However a command is cut, `Progress` finds the same words as `parse` finds in one piece.
        #[test]
        fn progress_equals_parse(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..20),
                                 step in 1usize..17) {
            let mut input = format!("*{}\r\n", words.len()).into_bytes();
            for w in &words {
                input.extend_from_slice(format!("${}\r\n", w.len()).as_bytes());
                input.extend_from_slice(w);
                input.extend_from_slice(b"\r\n");
            }
            let (parsed, whole) = one(&input);
            prop_assert_eq!(parsed, Parsed::Command { consumed: input.len() });
            prop_assert_eq!(&whole, &words);
            let mut progress = Progress::default();
            let mut have = 0;
            loop {
                have = (have + step).min(input.len());
                match progress.resume(&input[..have], &Limits::default()) {
                    Parsed::Command { consumed } => {
                        prop_assert_eq!(consumed, input.len());
                        break;
                    }
                    Parsed::Incomplete { need } => {
                        prop_assert!(need > have && need <= input.len());
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            let pieces: Vec<Vec<u8>> = progress.words(&input).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(pieces, words);
        }

        #[test]
        fn no_bytes_panic(input in prop::collection::vec(any::<u8>(), 0..200)) {
            one(&input);
            let mut star = b"*2\r\n$".to_vec();
            star.extend_from_slice(&input);
            one(&star);
            Progress::default().resume(&star, &Limits::default());
        }
    }
}
