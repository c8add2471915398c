//! One element of a listpack, without the header around it: how it is written, read, and stepped over in both directions.
//! List nodes and streams are made of these as well.
//!
//! ```text
//! | kind and length | payload | back |
//!   0xxxxxxx                        integer 0..=127
//!   10llllll                        string of up to 63 bytes
//!   110xxxxx x                      integer of 13 bits, signed
//!   1110llll l                      string of up to 4095 bytes
//!   0xf0 llll                       string, length in 4 bytes, little-endian
//!   0xf1..0xf4 xx..                 integer of 16, 24, 32, 64 bits, little-endian
//! ```
//! `back` is the size of what stands before it, seven bits a byte, the lowest last, all but the first with the top bit set: so it is
//! read backwards. A value that is an integer's one text form is always kept as an integer, and each integer in its shortest form.
//!
//! The functions that read expect well-formed elements and panic on others; bytes from outside go through
//! [`super::validate`] first.

use ringwood_protocol::number::parse_i64;
use ringwood_protocol::reply::Reply;
use std::borrow::Cow;

/// An element's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Int(i64),
    Bytes(&'a [u8]),
}

impl<'a> Item<'a> {
    /// The length of its text.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            Self::Int(n) => int_text_len(n),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
    #[inline]
    pub fn append_to(self, out: &mut Vec<u8>) {
        match self {
            Self::Int(n) => out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes()),
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
        }
    }
    /// True if its text is `text`.
    #[inline]
    pub fn equals(self, text: &[u8]) -> bool {
        match self {
            Self::Int(n) => itoa::Buffer::new().format(n).as_bytes() == text,
            Self::Bytes(bytes) => bytes == text,
        }
    }
    pub fn to_cow(self) -> Cow<'a, [u8]> {
        match self {
            Self::Int(n) => Cow::Owned(itoa::Buffer::new().format(n).as_bytes().to_vec()),
            Self::Bytes(bytes) => Cow::Borrowed(bytes),
        }
    }
    pub fn to_vec(self) -> Vec<u8> {
        self.to_cow().into_owned()
    }
    /// Its value as an integer, if its text is one's canonical form.
    pub fn as_int(self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(n),
            Self::Bytes(bytes) => parse_i64(bytes),
        }
    }
    /// Calls `f` with its text.
    #[inline]
    pub fn with_text<R>(self, f: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Self::Int(n) => f(itoa::Buffer::new().format(n).as_bytes()),
            Self::Bytes(bytes) => f(bytes),
        }
    }
    /// Writes it as a bulk string.
    #[inline]
    pub fn reply(self, reply: &mut Reply<'_>) {
        match self {
            Self::Int(n) => reply.bulk_integer(n),
            Self::Bytes(bytes) => reply.bulk(bytes),
        }
    }
}

impl<'a> From<&'a [u8]> for Item<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}
impl<'a, const N: usize> From<&'a [u8; N]> for Item<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::Bytes(bytes)
    }
}
impl<'a> From<&'a Vec<u8>> for Item<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}
impl From<i64> for Item<'_> {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

fn int_text_len(n: i64) -> usize {
    let digits = n.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
    digits + usize::from(n < 0)
}

/// What a value is searched by: its text and, where it is an integer, that. Made once, compared with many elements.
#[derive(Clone, Copy, Debug)]
pub struct Needle<'a> {
    text: &'a [u8],
    int: Option<i64>,
}

impl<'a> Needle<'a> {
    pub fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            int: parse_i64(text),
        }
    }
    pub fn text(&self) -> &'a [u8] {
        self.text
    }
    #[inline]
    pub fn matches(&self, item: Item<'_>) -> bool {
        match item {
            Item::Int(n) => self.int == Some(n),
            Item::Bytes(bytes) => bytes == self.text,
        }
    }
}

/// The longest integer element and the longest kind-and-length have 9 bytes; `back` at most 5.
const HEAD_MAX: usize = 9;
const BACK_MAX: usize = 5;

/// An element ready to be written: three pieces, the middle one being the caller's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    head: [u8; HEAD_MAX],
    head_len: u8,
    body: &'a [u8],
    back: [u8; BACK_MAX],
    back_len: u8,
}

impl<'a> Encoded<'a> {
    #[inline]
    pub fn new(value: impl Into<Item<'a>>) -> Self {
        match value.into() {
            Item::Int(n) => Self::of_int(n),
            Item::Bytes(bytes) => match parse_if_int(bytes) {
                Some(n) => Self::of_int(n),
                None => Self::of_bytes(bytes),
            },
        }
    }

    #[inline]
    fn of_int(n: i64) -> Self {
        let le = n.to_le_bytes();
        let mut head = [0; HEAD_MAX];
        let len: u8 = match n {
            0..=127 => {
                head[0] = le[0];
                1
            }
            -4096..=4095 => {
                head[0] = 0xc0 | (le[1] & 0x1f);
                head[1] = le[0];
                2
            }
            _ => {
                let (kind, bytes) = match n {
                    -0x8000..=0x7fff => (0xf1, 2),
                    -0x80_0000..=0x7f_ffff => (0xf2, 3),
                    -0x8000_0000..=0x7fff_ffff => (0xf3, 4),
                    _ => (0xf4, 8),
                };
                head[0] = kind;
                head[1..9].copy_from_slice(&le);
                1 + bytes
            }
        };
        Self {
            head,
            head_len: len,
            body: &[],
            back: [len, 0, 0, 0, 0],
            back_len: 1,
        }
    }

    #[inline]
    fn of_bytes(bytes: &'a [u8]) -> Self {
        let mut head = [0; HEAD_MAX];
        let len = bytes.len();
        let head_len = match len {
            0..=63 => {
                head[0] = 0x80 | len as u8;
                1
            }
            64..=4095 => {
                head[0] = 0xe0 | (len >> 8) as u8;
                head[1] = len as u8;
                2
            }
            _ => {
                let len =
                    u32::try_from(len).expect("strings are kept below 4 GB by proto-max-bulk-len");
                head[0] = 0xf0;
                head[1..5].copy_from_slice(&len.to_le_bytes());
                5
            }
        };
        let mut back = [0; BACK_MAX];
        let back_len = write_back(&mut back, head_len + len);
        Self {
            head,
            head_len: head_len as u8,
            body: bytes,
            back,
            back_len: back_len as u8,
        }
    }

    /// Bytes that the element takes.
    #[inline]
    pub fn size(&self) -> usize {
        self.head_len as usize + self.body.len() + self.back_len as usize
    }
    #[inline]
    pub fn pieces(&self) -> [&[u8]; 3] {
        [
            &self.head[..self.head_len as usize],
            self.body,
            &self.back[..self.back_len as usize],
        ]
    }
    #[inline]
    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.size());
        for piece in self.pieces() {
            out.extend_from_slice(piece);
        }
    }
    /// Writes it to the start of `to`, which has room for it.
    #[inline]
    pub fn copy_to(&self, to: &mut [u8]) {
        let [head, body, back] = self.pieces();
        let (a, rest) = to.split_at_mut(head.len());
        a.copy_from_slice(head);
        let (b, rest) = rest.split_at_mut(body.len());
        b.copy_from_slice(body);
        rest[..back.len()].copy_from_slice(back);
    }
    /// Calls `f` with the element in one piece, which lies on the stack unless it is long.
    #[inline]
    pub fn with_bytes<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        const SHORT: usize = 128;
        let size = self.size();
        if size <= SHORT {
            let mut short = [0; SHORT];
            self.copy_to(&mut short);
            return f(&short[..size]);
        }
        let mut long = Vec::new();
        self.append_to(&mut long);
        f(&long)
    }
}

/// As [`parse_i64`], fast for the strings that cannot be integers.
#[inline]
fn parse_if_int(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [b'0'..=b'9' | b'-', ..] if bytes.len() <= 20 => parse_i64(bytes),
        _ => None,
    }
}

/// Writes `len` as a `back`; returns its size. Redis goes to the next size one byte before it has to, Valkey does not; ours is Redis's.
#[inline]
fn write_back(to: &mut [u8; BACK_MAX], len: usize) -> usize {
    let size = back_size(len);
    let mut rest = len;
    for i in (0..size).rev() {
        to[i] = rest as u8 & 0x7f | if i > 0 { 0x80 } else { 0 };
        rest >>= 7;
    }
    size
}
#[inline]
fn back_size(len: usize) -> usize {
    const TWO: usize = (1 << 14) - 1;
    const THREE: usize = (1 << 21) - 1;
    const FOUR: usize = (1 << 28) - 1;
    match len {
        0..=127 => 1,
        128..TWO => 2,
        TWO..THREE => 3,
        THREE..FOUR => 4,
        _ => 5,
    }
}

/// The bytes that an element would take.
#[inline]
pub fn size_of<'a>(value: impl Into<Item<'a>>) -> usize {
    Encoded::new(value).size()
}

/// Size of kind, length and payload of the element at `at`.
#[inline]
fn front_size(bytes: &[u8], at: usize) -> usize {
    let b = bytes[at];
    match b {
        0..=0x7f => 1,
        0x80..=0xbf => 1 + (b & 0x3f) as usize,
        0xc0..=0xdf => 2,
        0xe0..=0xef => 2 + (((b & 0x0f) as usize) << 8 | bytes[at + 1] as usize),
        0xf0 => 5 + long_len(bytes, at),
        0xf1 => 3,
        0xf2 => 4,
        0xf3 => 5,
        0xf4 => 9,
        _ => malformed(b),
    }
}
#[inline]
fn long_len(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes([bytes[at + 1], bytes[at + 2], bytes[at + 3], bytes[at + 4]]) as usize
}
#[cold]
fn malformed(b: u8) -> ! {
    panic!("a listpack element of kind {b:#x}: bytes from outside must be validated")
}

/// The offset after the `back` that follows at `at` an element's front of `front` bytes.
#[inline]
fn after_back(bytes: &[u8], at: usize, front: usize) -> usize {
    if front <= 127 {
        return at + 1;
    }
    let size = back_size(front);
    // Valkey's form of the lengths at which the two differ has no leading zero.
    let shorter = (front + 1).is_power_of_two() && size > 2 && bytes[at] != 0;
    at + size - usize::from(shorter)
}

/// The offset of what follows the element at `at`.
#[inline]
pub fn skip(bytes: &[u8], at: usize) -> usize {
    let front = front_size(bytes, at);
    after_back(bytes, at + front, front)
}

/// The value of the element at `at`.
#[inline]
pub fn get(bytes: &[u8], at: usize) -> Item<'_> {
    read(bytes, at).0
}

/// The value of the element at `at`, and the offset of what follows.
#[inline]
pub fn read(bytes: &[u8], at: usize) -> (Item<'_>, usize) {
    let b = bytes[at];
    let string = |head: usize, len: usize| {
        let from = at + head;
        let item = Item::Bytes(&bytes[from..from + len]);
        (item, after_back(bytes, from + len, head + len))
    };
    let int = |len: usize| {
        let mut le = [0; 8];
        le[8 - len..].copy_from_slice(&bytes[at + 1..at + 1 + len]);
        let n = i64::from_le_bytes(le) >> (64 - 8 * len);
        (Item::Int(n), at + len + 2)
    };
    match b {
        0..=0x7f => (Item::Int(b as i64), at + 2),
        0x80..=0xbf => string(1, (b & 0x3f) as usize),
        0xc0..=0xdf => {
            let n = ((b & 0x1f) as i64) << 8 | bytes[at + 1] as i64;
            (Item::Int(n << 51 >> 51), at + 3)
        }
        0xe0..=0xef => string(2, ((b & 0x0f) as usize) << 8 | bytes[at + 1] as usize),
        0xf0 => string(5, long_len(bytes, at)),
        0xf1 => int(2),
        0xf2 => int(3),
        0xf3 => int(4),
        0xf4 => int(8),
        _ => malformed(b),
    }
}

/// The offset of the element that ends at `at`.
#[inline]
pub fn back(bytes: &[u8], at: usize) -> usize {
    let mut i = at - 1;
    let mut len = (bytes[i] & 0x7f) as usize;
    let mut shift = 7;
    while bytes[i] & 0x80 != 0 {
        i -= 1;
        len |= ((bytes[i] & 0x7f) as usize) << shift;
        shift += 7;
    }
    i - len
}

/// The offset after the element at `at`, checked against the end of `bytes`; `None` for anything malformed.
pub fn checked_skip(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let front = match *rest.first()? {
        0xe0..=0xef if rest.len() < 2 => return None,
        0xf0 if rest.len() < 5 => return None,
        0xf5..=0xff => return None,
        _ => front_size(bytes, at),
    };
    let after_front = at.checked_add(front)?;
    // One byte of `back` is looked at to tell its two forms apart.
    bytes.get(after_front)?;
    let next = after_back(bytes, after_front, front);
    let mut len: usize = 0;
    for (i, &b) in bytes.get(after_front..next)?.iter().enumerate() {
        if (b & 0x80 != 0) != (i > 0) {
            return None;
        }
        len = len << 7 | (b & 0x7f) as usize;
    }
    (len == front).then_some(next)
}
