//! The IDs of stream entries: milliseconds and a sequence number, `1526919030474-55` as text.

/// An entry's ID. Ordered as the entries are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    pub ms: u64,
    pub seq: u64,
}

/// The longest text: two numbers of 20 digits and the dash.
const TEXT_MAX: usize = 41;

/// An ID as text, on the stack.
#[derive(Clone, Copy)]
pub struct IdText {
    bytes: [u8; TEXT_MAX],
    len: u8,
}

impl std::ops::Deref for IdText {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

/// What an argument of XADD says about the new entry's ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    /// `*`
    Auto,
    /// `ms-*`
    AutoSeq(u64),
    Given(StreamId),
}

impl StreamId {
    pub const MIN: Self = Self { ms: 0, seq: 0 };
    pub const MAX: Self = Self {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    pub const fn new(ms: u64, seq: u64) -> Self {
        Self { ms, seq }
    }
    pub fn is_zero(self) -> bool {
        self == Self::MIN
    }
    /// The ID after this one, if there is one.
    #[inline]
    pub fn next(self) -> Option<Self> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Self { ms: self.ms, seq }),
            None => Some(Self {
                ms: self.ms.checked_add(1)?,
                seq: 0,
            }),
        }
    }
    /// The ID before this one, if there is one.
    pub fn prev(self) -> Option<Self> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Self { ms: self.ms, seq }),
            None => Some(Self {
                ms: self.ms.checked_sub(1)?,
                seq: u64::MAX,
            }),
        }
    }
    /// As it lies in files: both numbers big-endian, so that bytes sort as IDs do.
    pub fn to_bytes(self) -> [u8; 16] {
        ((self.ms as u128) << 64 | self.seq as u128).to_be_bytes()
    }
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let n = u128::from_be_bytes(bytes);
        Self {
            ms: (n >> 64) as u64,
            seq: n as u64,
        }
    }

    #[inline]
    pub fn text(self) -> IdText {
        let mut text = IdText {
            bytes: [0; TEXT_MAX],
            len: 0,
        };
        let (mut ms, mut seq) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (ms, seq) = (
            ms.format(self.ms).as_bytes(),
            seq.format(self.seq).as_bytes(),
        );
        text.bytes[..ms.len()].copy_from_slice(ms);
        text.bytes[ms.len()] = b'-';
        text.bytes[ms.len() + 1..ms.len() + 1 + seq.len()].copy_from_slice(seq);
        text.len = (ms.len() + 1 + seq.len()) as u8;
        text
    }

    /// `ms-seq`, or `ms` alone, which then stands for `ms-missing_seq`.
    #[inline]
    pub fn parse(text: &[u8], missing_seq: u64) -> Option<Self> {
        let (ms, seq) = match text.iter().position(|&b| b == b'-') {
            Some(dash) => (&text[..dash], Some(&text[dash + 1..])),
            None => (text, None),
        };
        Some(Self {
            ms: parse_part(ms)?,
            seq: match seq {
                Some(seq) => parse_part(seq)?,
                None => missing_seq,
            },
        })
    }
    /// As [`StreamId::parse`], and `-` and `+` for the ends of the range of IDs.
    pub fn parse_bound(text: &[u8], missing_seq: u64) -> Option<Self> {
        match text {
            b"-" => Some(Self::MIN),
            b"+" => Some(Self::MAX),
            _ => Self::parse(text, missing_seq),
        }
    }
}

impl NewId {
    #[inline]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text == b"*" {
            return Some(Self::Auto);
        }
        if let Some(ms) = text.strip_suffix(b"-*") {
            return parse_part(ms).map(Self::AutoSeq);
        }
        StreamId::parse(text, 0).map(Self::Given)
    }
    /// The ID for an entry that is added at `now_ms` after one of ID `last`. `None`: it would not be greater.
    #[inline]
    pub fn resolve(self, last: StreamId, now_ms: u64) -> Option<StreamId> {
        let id = match self {
            Self::Auto if now_ms > last.ms => StreamId::new(now_ms, 0),
            Self::Auto => return last.next(),
            Self::AutoSeq(ms) if ms == last.ms => StreamId::new(ms, last.seq.checked_add(1)?),
            Self::AutoSeq(ms) => StreamId::new(ms, 0),
            Self::Given(id) => id,
        };
        (id > last).then_some(id)
    }
}

/// One of the two numbers, as C's `strtoull` reads it, which Redis falls back to: leading zeros, blanks and a plus sign are accepted.
#[inline]
fn parse_part(text: &[u8]) -> Option<u64> {
    let digits = match text.first()? {
        b'0'..=b'9' => text,
        _ => {
            let blanks = text
                .iter()
                .take_while(|b| matches!(b, b' ' | b'\t'..=b'\r'))
                .count();
            let text = &text[blanks..];
            text.strip_prefix(b"+").unwrap_or(text)
        }
    };
    // Redis looks at no ID that is longer than its buffer; no number with so many zeros before it is meant.
    if digits.is_empty() || digits.len() > 100 {
        return None;
    }
    digits.iter().try_fold(0u64, |n, &b| match b {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add((b - b'0') as u64),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let id = StreamId::new(1526919030474, 55);
        assert_eq!(&*id.text(), b"1526919030474-55");
        assert_eq!(&*StreamId::MIN.text(), b"0-0");
        assert_eq!(
            &*StreamId::MAX.text(),
            b"18446744073709551615-18446744073709551615"
        );
        for id in [id, StreamId::MIN, StreamId::MAX] {
            assert_eq!(StreamId::parse(&id.text(), 9), Some(id));
            assert_eq!(StreamId::from_bytes(id.to_bytes()), id);
        }
        assert_eq!(StreamId::parse(b"7", 9), Some(StreamId::new(7, 9)));
        assert_eq!(StreamId::parse(b"007-+1", 9), Some(StreamId::new(7, 1)));
        assert_eq!(StreamId::parse(b" 7- 1", 9), Some(StreamId::new(7, 1)));
        for bad in [
            &b""[..],
            b"-",
            b"+",
            b"-1",
            b"1-",
            b"1--1",
            b"1-1-1",
            b"a",
            b"0x1",
            b"1 ",
            b"*",
            b"1-*",
            b"18446744073709551616",
        ] {
            assert_eq!(StreamId::parse(bad, 0), None, "{bad:?}");
        }
        assert_eq!(StreamId::parse_bound(b"-", 1), Some(StreamId::MIN));
        assert_eq!(StreamId::parse_bound(b"+", 1), Some(StreamId::MAX));
    }

    #[test]
    fn neighbours() {
        let id = StreamId::new;
        assert_eq!(id(1, 5).next(), Some(id(1, 6)));
        assert_eq!(id(1, u64::MAX).next(), Some(id(2, 0)));
        assert_eq!(StreamId::MAX.next(), None);
        assert_eq!(id(1, 5).prev(), Some(id(1, 4)));
        assert_eq!(id(1, 0).prev(), Some(id(0, u64::MAX)));
        assert_eq!(StreamId::MIN.prev(), None);
    }

    #[test]
    fn new_ids() {
        let id = StreamId::new;
        let new = |text: &[u8], last, now| NewId::parse(text).unwrap().resolve(last, now);
        assert_eq!(new(b"*", id(5, 5), 7), Some(id(7, 0)));
        assert_eq!(new(b"*", id(5, 5), 5), Some(id(5, 6)));
        assert_eq!(new(b"*", id(5, 5), 3), Some(id(5, 6)));
        assert_eq!(new(b"*", id(5, u64::MAX), 3), Some(id(6, 0)));
        assert_eq!(new(b"5-*", id(5, 5), 9), Some(id(5, 6)));
        assert_eq!(new(b"5-*", id(5, u64::MAX), 9), None);
        assert_eq!(new(b"6-*", id(5, 5), 9), Some(id(6, 0)));
        assert_eq!(new(b"4-*", id(5, 5), 9), None);
        assert_eq!(new(b"0-*", StreamId::MIN, 9), Some(id(0, 1)));
        assert_eq!(new(b"5-5", id(5, 5), 9), None);
        assert_eq!(new(b"5", StreamId::MIN, 9), Some(id(5, 0)));
        assert_eq!(NewId::parse(b"*-1"), None);
    }
}
