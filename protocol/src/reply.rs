//! Writes replies. RESP2 and RESP3 differ only here.
//!
//! A reply goes straight to the end of a byte buffer: the connection's own output when the command runs where the
//! connection lives, a parcel's when it runs on another core. [`Reply::mark`] and [`Reply::rewind`] let an error replace
//! what a command had begun to write.

use crate::error::CommandError;
use crate::lossless;

/// The protocol version a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    #[default]
    Resp2,
    Resp3,
}

/// A place in the output to come back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark(usize);

/// An array or map that is being written.
#[derive(Debug)]
pub struct OpenArray {
    head: usize,
    body: usize,
    guess: usize,
}

/// The writer.
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    version: Version,
}

/// The lines of numbers below 1,000, without the byte before them. 8 KB, of which a server's replies use a few lines.
static HEADS: [[u8; 8]; 1000] = {
    let mut heads = [*b"\0\0\0\0\0\0\0\0"; 1000];
    let mut n = 0;
    while n < 1000 {
        let digits = [n / 100, n / 10, n];
        let skipped = 2 - (n >= 10) as usize - (n >= 100) as usize;
        let mut at = 1;
        while at + skipped <= 3 {
            heads[n][at] = b'0' + (digits[at + skipped - 1] % 10) as u8;
            at += 1;
        }
        heads[n][at] = b'\r';
        heads[n][at + 1] = b'\n';
        n += 1;
    }
    heads
};

impl<'a> Reply<'a> {
    #[inline]
    pub fn new(out: &'a mut Vec<u8>, version: Version) -> Self {
        Self { out, version }
    }
    #[inline]
    pub fn version(&self) -> Version {
        self.version
    }
    pub fn is_resp3(&self) -> bool {
        self.version == Version::Resp3
    }
    /// The same output for a nested use.
    pub fn reborrow(&mut self) -> Reply<'_> {
        Reply {
            out: self.out,
            version: self.version,
        }
    }
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark(self.out.len())
    }
    /// True when nothing comes before it in its buffer.
    pub fn is_first(&self) -> bool {
        self.out.is_empty()
    }
    /// True when nothing was written since `mark`.
    pub fn is_at(&self, mark: Mark) -> bool {
        self.out.len() == mark.0
    }
    #[inline]
    pub fn rewind(&mut self, mark: Mark) {
        self.out.truncate(mark.0);
    }
    pub fn written_since(&self, mark: Mark) -> &[u8] {
        &self.out[mark.0..]
    }

    #[inline]
    fn head(&mut self, kind: u8, n: i64) {
        // Most numbers have few digits: no formatting, and a copy of a fixed size, cut off behind the line.
        if let Some(&(mut line)) = HEADS.get(n as usize) {
            line[0] = kind;
            let end = self.out.len() + 4 + usize::from(n >= 10) + usize::from(n >= 100);
            self.out.extend_from_slice(&line);
            self.out.truncate(end);
            return;
        }
        let mut text = itoa::Buffer::new();
        let text = text.format(n).as_bytes();
        let mut line = [0u8; 24];
        line[0] = kind;
        line[1..1 + text.len()].copy_from_slice(text);
        line[1 + text.len()] = b'\r';
        line[2 + text.len()] = b'\n';
        self.out.extend_from_slice(&line[..3 + text.len()]);
    }

    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }
    /// A status: text without line ends.
    pub fn simple(&mut self, text: &str) {
        self.out.push(b'+');
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }
    /// An error, with the bytes that clients sent as they came (see [`lossless`]); line ends in the text become spaces, and
    /// those at its end nothing, as in Redis.
    pub fn error(&mut self, text: &str) {
        self.out.push(b'-');
        let from = self.out.len();
        lossless::extend(self.out, text.trim_end_matches(['\r', '\n']));
        for byte in &mut self.out[from..] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.out.extend_from_slice(b"\r\n");
    }
    pub fn command_error(&mut self, error: &CommandError) {
        self.error(&error.text());
    }
    #[inline]
    pub fn integer(&mut self, n: i64) {
        self.head(b':', n);
    }
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        // Header, data and line end with one check of the capacity: this is the hottest reply.
        self.out.reserve(bytes.len() + 32);
        self.head(b'$', bytes.len() as i64);
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }
    pub fn bulk_str(&mut self, text: &str) {
        self.bulk(text.as_bytes());
    }
    /// An integer as a bulk string.
    pub fn bulk_integer(&mut self, n: i64) {
        let mut text = itoa::Buffer::new();
        self.bulk(text.format(n).as_bytes());
    }
    /// The null for a missing value (`$-1` in RESP2).
    #[inline]
    pub fn null(&mut self) {
        self.out.extend_from_slice(match self.version {
            Version::Resp2 => b"$-1\r\n".as_slice(),
            Version::Resp3 => b"_\r\n",
        });
    }
    /// The null for a missing array (`*-1` in RESP2).
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(match self.version {
            Version::Resp2 => b"*-1\r\n".as_slice(),
            Version::Resp3 => b"_\r\n",
        });
    }
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.head(b'*', len as i64);
    }
    /// An array whose length is not known yet, only guessed. [`Reply::end_array`] follows when it is; a right guess costs nothing.
    #[inline]
    pub fn begin_array(&mut self, guess: usize) -> OpenArray {
        self.begin(b'*', guess)
    }
    /// As [`Reply::begin_array`]: in RESP3 a map of pairs, in RESP2 an array.
    pub fn begin_map_or_array(&mut self, guess: usize) -> OpenArray {
        match self.version {
            Version::Resp3 => self.begin(b'%', guess),
            Version::Resp2 => self.begin(b'*', guess),
        }
    }
    #[inline]
    fn begin(&mut self, kind: u8, guess: usize) -> OpenArray {
        let head = self.out.len();
        self.head(kind, guess as i64);
        OpenArray {
            head,
            body: self.out.len(),
            guess,
        }
    }
    /// Says how many elements, or pairs of a map, were written since [`Reply::begin_array`].
    #[inline]
    pub fn end_array(&mut self, open: OpenArray, len: usize) {
        if len != open.guess {
            let mut text = itoa::Buffer::new();
            let text = text.format(len).as_bytes().iter();
            let head = text.copied().chain(*b"\r\n");
            self.out.splice(open.head + 1..open.body, head);
        }
    }
    /// A map of `len` pairs (a flat array in RESP2).
    pub fn map(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => self.head(b'*', 2 * len as i64),
            Version::Resp3 => self.head(b'%', len as i64),
        }
    }
    pub fn set(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => self.head(b'*', len as i64),
            Version::Resp3 => self.head(b'~', len as i64),
        }
    }
    /// An out-of-band message (an array in RESP2).
    pub fn push(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => self.head(b'*', len as i64),
            Version::Resp3 => self.head(b'>', len as i64),
        }
    }
    pub fn boolean(&mut self, b: bool) {
        match self.version {
            Version::Resp2 => self.integer(b as i64),
            Version::Resp3 => self
                .out
                .extend_from_slice(if b { b"#t\r\n" } else { b"#f\r\n" }),
        }
    }
    /// A double already in Redis's text form (bulk string in RESP2).
    pub fn double_text(&mut self, text: &str) {
        match self.version {
            Version::Resp2 => self.bulk_str(text),
            Version::Resp3 => {
                self.out.push(b',');
                self.out.extend_from_slice(text.as_bytes());
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }
    /// Text for people, with a three-letter format (`txt`, `mkd`); a bulk string in RESP2.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        match self.version {
            Version::Resp2 => self.bulk(text),
            Version::Resp3 => {
                self.head(b'=', text.len() as i64 + 4);
                self.out.extend_from_slice(format.as_bytes());
                self.out.push(b':');
                self.out.extend_from_slice(text);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }
    /// An array of bulk strings.
    pub fn bulks<T: AsRef<[u8]>>(&mut self, items: &[T]) {
        self.array(items.len());
        for item in items {
            self.bulk(item.as_ref());
        }
    }
    /// A complete reply made elsewhere (another core's part, say).
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }
}

/// The length of the first whole RESP value in `bytes`, or `None` where it is cut off or malformed.
/// For taking apart replies that Ringwood itself wrote.
pub fn value_len(bytes: &[u8]) -> Option<usize> {
    // A bulk string, as nearly every value of MGET is.
    if let Some((head, text)) = bulk_head(bytes) {
        let len = head + text + 2;
        return (len <= bytes.len()).then_some(len);
    }
    const NULL: &[u8] = b"$-1\r\n";
    if bytes.starts_with(NULL) {
        return Some(NULL.len());
    }
    any_len(bytes)
}

/// The head of a bulk string: how long it is, and how long it says that the text behind it is. `None` for anything else, and for texts of
/// a gigabyte and more.
#[inline]
pub fn bulk_head(bytes: &[u8]) -> Option<(usize, usize)> {
    let digits = bytes.strip_prefix(b"$")?;
    let mut len = 0;
    for (i, &b) in digits.iter().enumerate().take(10) {
        match b {
            b'0'..=b'9' => len = len * 10 + usize::from(b - b'0'),
            b'\r' if i > 0 => return Some((1 + i + 2, len)),
            _ => break,
        }
    }
    None
}

fn any_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut left: usize = 1;
    while left > 0 {
        let line = bytes.get(at..)?;
        let end = line.windows(2).position(|w| w == b"\r\n")?;
        let number = || std::str::from_utf8(&line[1..end]).ok()?.parse::<i64>().ok();
        let body = at + end + 2;
        left -= 1;
        at = match line.first()? {
            b'+' | b'-' | b':' | b',' | b'#' | b'_' | b'(' => body,
            b'$' | b'=' | b'!' => match number()? {
                -1 => body,
                n => body + usize::try_from(n).ok()? + 2,
            },
            b'*' | b'~' | b'>' => {
                left += usize::try_from(number()?.max(0)).ok()?;
                body
            }
            b'%' | b'|' => {
                left += 2 * usize::try_from(number()?.max(0)).ok()?;
                body
            }
            _ => return None,
        };
        if at > bytes.len() {
            return None;
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(version: Version, f: impl FnOnce(&mut Reply<'_>)) -> String {
        let mut out = Vec::new();
        f(&mut Reply::new(&mut out, version));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_as_they_are() {
        for n in (-3..1100).chain([i64::MIN, i64::MAX]) {
            let mut out = b"before".to_vec();
            Reply::new(&mut out, Version::Resp2).integer(n);
            assert_eq!(out, format!("before:{n}\r\n").as_bytes());
        }
    }

    #[test]
    fn errors_are_one_line_with_the_bytes_that_came() {
        let mut out = Vec::new();
        let text = format!("ERR '{}'\r\nwhat\n", lossless::text(b"\xff\xc3\xa4"));
        Reply::new(&mut out, Version::Resp2).error(&text);
        assert_eq!(out, b"-ERR '\xff\xc3\xa4'  what\r\n");
    }

    #[test]
    fn versions_differ_where_redis_differs() {
        use Version::*;
        assert_eq!(written(Resp2, |r| r.null()), "$-1\r\n");
        assert_eq!(written(Resp3, |r| r.null()), "_\r\n");
        assert_eq!(written(Resp2, |r| r.map(2)), "*4\r\n");
        assert_eq!(written(Resp3, |r| r.map(2)), "%2\r\n");
        assert_eq!(
            written(Resp3, |r| r.verbatim("txt", b"hi")),
            "=6\r\ntxt:hi\r\n"
        );
        assert_eq!(written(Resp2, |r| r.integer(-12)), ":-12\r\n");
        assert_eq!(
            written(Resp2, |r| r.integer(i64::MIN)),
            ":-9223372036854775808\r\n"
        );
        assert_eq!(written(Resp2, |r| r.bulk(b"abc")), "$3\r\nabc\r\n");
        assert_eq!(written(Resp2, |r| r.error("ERR a\r\nb")), "-ERR a  b\r\n");
        assert_eq!(written(Resp2, |r| r.error("ERR a\r\n\n")), "-ERR a\r\n");
    }

    #[test]
    fn arrays_of_unknown_length() {
        let array = |guess: usize, len: usize| {
            written(Version::Resp2, |r| {
                r.ok();
                let open = r.begin_array(guess);
                for n in 0..len {
                    r.integer(n as i64);
                }
                r.end_array(open, len);
            })
        };
        assert_eq!(array(2, 2), "+OK\r\n*2\r\n:0\r\n:1\r\n");
        assert_eq!(array(1000, 1), "+OK\r\n*1\r\n:0\r\n");
        assert_eq!(array(10, 0), "+OK\r\n*0\r\n");
        assert!(array(1, 11).starts_with("+OK\r\n*11\r\n:0\r\n"));
    }

    #[test]
    fn value_len_walks_nested_values() {
        let one = b"*2\r\n$3\r\nabc\r\n*1\r\n:5\r\n";
        let mut two = one.to_vec();
        two.extend_from_slice(b"+OK\r\n");
        assert_eq!(value_len(&two), Some(one.len()));
        assert_eq!(value_len(b"$-1\r\n"), Some(5));
        assert_eq!(value_len(b"$5\r\nab"), None);
        assert_eq!(value_len(b"$5\r\nab\r\n"), None);
        for len in [0, 1, 9, 10, 64, 999, 1000, 9999, 10_000, 123_456] {
            let value = written(Version::Resp2, |r| r.bulk(&vec![b'x'; len]));
            let both = [value.as_bytes(), b":1\r\n"].concat();
            assert_eq!(value_len(&both), Some(value.len()), "{len}");
            assert_eq!(value_len(&both[..value.len() - 1]), None, "{len}");
        }
    }
}
