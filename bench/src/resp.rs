//! Skipping over replies: counts complete RESP2 and RESP3 replies in a stream, and nothing more.
//!
//! Idea: a reply tree needs no stack to be skipped. One counter of elements still to come is enough: a plain
//! element takes one off, an aggregate of n elements takes one off and adds n. At zero a reply is complete.
//!
//! Invariants
//! - The result does not depend on how the stream is cut into reads.
//! - Push messages (RESP3 `>`) are skipped and are never counted as replies.

use std::fmt;

use memchr::memchr;

/// The stream is not RESP: the bytes where it was noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtocolError(pub String);

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a RESP reply: {}", self.0)
    }
}

impl std::error::Error for ProtocolError {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The next byte is an element's type.
    Type,
    /// In a line that is skipped to its end.
    Line,
    /// In an error's line, whose text is kept.
    ErrorLine,
    /// In the number of a bulk (`$`, `=`, `!`) or aggregate header.
    Header {
        kind: u8,
        value: i64,
        negative: bool,
        digits: bool,
    },
    /// This many bytes of a bulk are left, its CRLF included.
    Bulk(u64),
}

/// One connection's place in its stream of replies.
#[derive(Debug, Clone)]
pub struct Skipper {
    state: State,
    /// Elements still to come in the reply under way; zero between replies.
    pending: u64,
    in_push: bool,
    /// The reply under way is or holds an error.
    failed: bool,
    error_text: Vec<u8>,
    /// The last error reply, kept until asked for.
    last_error: Option<String>,
}

/// What one feed brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Complete replies.
    pub replies: usize,
    /// How many of them were errors or held one (EXEC's array).
    pub errors: usize,
}

impl Default for Skipper {
    fn default() -> Self {
        Skipper {
            state: State::Type,
            pending: 0,
            in_push: false,
            failed: false,
            error_text: Vec::new(),
            last_error: None,
        }
    }
}

const ERROR_TEXT_MAX: usize = 200;

impl Skipper {
    /// The text of the latest error reply since the last call.
    pub fn take_error(&mut self) -> Option<String> {
        self.last_error.take()
    }

    /// True between replies.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.pending == 0 && self.state == State::Type
    }

    /// Skips `data`, which may begin and end anywhere in the stream.
    pub fn feed(&mut self, data: &[u8]) -> Result<Skipped, ProtocolError> {
        let mut skipped = Skipped::default();
        let mut at = 0;
        while at < data.len() {
            match self.state {
                State::Type => {
                    at += 1;
                    self.begin(data[at - 1], &data[at - 1..])?;
                }
                State::Line => match memchr(b'\n', &data[at..]) {
                    Some(n) => {
                        at += n + 1;
                        self.element(&mut skipped);
                    }
                    None => at = data.len(),
                },
                State::ErrorLine => {
                    let end = memchr(b'\n', &data[at..]);
                    let text = &data[at..end.map_or(data.len(), |n| at + n)];
                    let room = ERROR_TEXT_MAX.saturating_sub(self.error_text.len());
                    self.error_text
                        .extend_from_slice(&text[..text.len().min(room)]);
                    at += text.len();
                    if end.is_some() {
                        at += 1;
                        let text = std::mem::take(&mut self.error_text);
                        self.last_error =
                            Some(String::from_utf8_lossy(&text).trim_end().to_string());
                        self.failed = true;
                        self.element(&mut skipped);
                    }
                }
                State::Header {
                    kind,
                    mut value,
                    mut negative,
                    mut digits,
                } => {
                    // Headers are a few bytes long: byte by byte is the quick way.
                    loop {
                        let Some(&byte) = data.get(at) else {
                            self.state = State::Header {
                                kind,
                                value,
                                negative,
                                digits,
                            };
                            break;
                        };
                        at += 1;
                        match byte {
                            b'0'..=b'9' if value < i64::MAX / 16 => {
                                value = value * 10 + i64::from(byte - b'0');
                                digits = true;
                            }
                            b'-' if !digits && !negative => negative = true,
                            b'\r' if digits => {}
                            b'\n' if digits => {
                                self.header(
                                    kind,
                                    if negative { -value } else { value },
                                    &mut skipped,
                                );
                                break;
                            }
                            _ => return Err(wrong(&data[at - 1..])),
                        }
                    }
                }
                State::Bulk(left) => {
                    let here = (data.len() - at) as u64;
                    if here < left {
                        self.state = State::Bulk(left - here);
                        at = data.len();
                    } else {
                        at += left as usize;
                        self.element(&mut skipped);
                    }
                }
            }
        }
        Ok(skipped)
    }

    /// The type byte of an element.
    #[inline]
    fn begin(&mut self, kind: u8, rest: &[u8]) -> Result<(), ProtocolError> {
        if self.pending == 0 {
            self.pending = 1;
            self.in_push = kind == b'>';
            self.failed = false;
        }
        self.state = match kind {
            b'$' | b'=' | b'!' | b'*' | b'~' | b'%' | b'>' | b'|' => State::Header {
                kind,
                value: 0,
                negative: false,
                digits: false,
            },
            b'+' | b':' | b'_' | b'#' | b',' | b'(' => State::Line,
            b'-' => State::ErrorLine,
            _ => return Err(wrong(rest)),
        };
        Ok(())
    }

    /// A header's number is complete.
    #[inline]
    fn header(&mut self, kind: u8, value: i64, skipped: &mut Skipped) {
        match kind {
            b'$' | b'=' | b'!' if value >= 0 => {
                self.failed |= kind == b'!';
                self.state = State::Bulk(value as u64 + 2);
            }
            b'*' | b'~' | b'>' | b'%' | b'|' if value > 0 => {
                self.pending += match kind {
                    b'%' => 2 * value as u64,
                    // An attribute is no element of its own: what it describes follows it.
                    b'|' => 2 * value as u64 + 1,
                    _ => value as u64,
                };
                self.element(skipped);
            }
            b'|' => self.state = State::Type,
            // A null (-1) or an empty aggregate.
            _ => self.element(skipped),
        }
    }

    /// An element has been read to its end.
    #[inline]
    fn element(&mut self, skipped: &mut Skipped) {
        self.state = State::Type;
        self.pending -= 1;
        if self.pending == 0 && !self.in_push {
            skipped.replies += 1;
            skipped.errors += usize::from(self.failed);
            self.failed = false;
        }
    }
}

fn wrong(at: &[u8]) -> ProtocolError {
    ProtocolError(
        String::from_utf8_lossy(&at[..at.len().min(40)])
            .escape_debug()
            .to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(data: &[u8]) -> Skipped {
        let mut skipper = Skipper::default();
        let skipped = skipper.feed(data).unwrap();
        assert!(skipper.is_idle());
        skipped
    }

    #[test]
    fn counts_one_of_each() {
        for reply in [
            "+OK\r\n",
            ":12\r\n",
            "$3\r\na\nb\r\n",
            "$0\r\n\r\n",
            "$-1\r\n",
            "*-1\r\n",
            "*0\r\n",
            "*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
            "%1\r\n+a\r\n:1\r\n",
            "~2\r\n:1\r\n:2\r\n",
            "_\r\n",
            "#t\r\n",
            ",1.5\r\n",
            "(123\r\n",
            "=5\r\ntxt:x\r\n",
            "|1\r\n+k\r\n+v\r\n:1\r\n",
            ">2\r\n+a\r\n+b\r\n+OK\r\n",
            "*2\r\n|1\r\n+k\r\n+v\r\n:1\r\n:2\r\n",
        ] {
            assert_eq!(
                whole(reply.as_bytes()),
                Skipped {
                    replies: 1,
                    errors: 0
                },
                "{reply:?}"
            );
        }
    }

    #[test]
    fn push_messages_are_not_replies() {
        assert_eq!(whole(b">2\r\n+a\r\n*1\r\n+b\r\n").replies, 0);
    }

    #[test]
    fn a_reply_with_errors_is_one_error() {
        let mut skipper = Skipper::default();
        let skipped = skipper
            .feed(b"-ERR no\r\n:1\r\n!3\r\nERR\r\n*3\r\n-ERR a\r\n-ERR in\r\n:1\r\n+OK\r\n")
            .unwrap();
        assert_eq!(
            skipped,
            Skipped {
                replies: 5,
                errors: 3
            }
        );
        assert_eq!(skipper.take_error().as_deref(), Some("ERR in"));
        assert_eq!(skipper.take_error(), None);
    }

    #[test]
    fn nonsense_is_an_error() {
        for bad in [
            "x",
            "$a\r\n",
            "$\r\n",
            "*1-\r\n",
            "$99999999999999999999\r\n",
        ] {
            assert!(Skipper::default().feed(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    /// Any reply tree, written out, and whether there is an error in it.
    fn reply() -> impl Strategy<Value = (String, bool)> {
        let fine = |s: String| (s, false);
        let leaf = prop_oneof![
            "[a-z ]{0,8}".prop_map(move |s| fine(format!("+{s}\r\n"))),
            "[A-Z ]{1,8}".prop_map(|s| (format!("-{s}\r\n"), true)),
            any::<i64>().prop_map(move |n| fine(format!(":{n}\r\n"))),
            "[a-z\r\n$*-]{0,40}".prop_map(move |s| fine(format!("${}\r\n{s}\r\n", s.len()))),
            Just(fine("$-1\r\n".to_string())),
            Just(fine("_\r\n".to_string())),
        ];
        let join = |items: &[(String, bool)]| {
            let body: String = items.iter().map(|i| i.0.as_str()).collect();
            (body, items.iter().any(|i| i.1))
        };
        leaf.prop_recursive(3, 24, 5, move |inner| {
            prop_oneof![
                (
                    prop::sample::select(vec!['*', '~']),
                    prop::collection::vec(inner.clone(), 0..5)
                )
                    .prop_map(move |(kind, items)| {
                        let (body, failed) = join(&items);
                        (format!("{kind}{}\r\n{body}", items.len()), failed)
                    }),
                prop::collection::vec(inner, 0..6).prop_map(move |mut items| {
                    items.truncate(items.len() / 2 * 2);
                    let (body, failed) = join(&items);
                    (format!("%{}\r\n{body}", items.len() / 2), failed)
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn splits_do_not_matter(
            replies in prop::collection::vec(reply(), 0..12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let stream = replies.iter().map(|r| r.0.as_str()).collect::<String>().into_bytes();
            let errors = replies.iter().filter(|r| r.1).count();
            let mut at: Vec<usize> = cuts.iter().map(|c| c.index(stream.len() + 1)).collect();
            at.push(stream.len());
            at.sort_unstable();
            let mut skipper = Skipper::default();
            let (mut from, mut sum) = (0, Skipped::default());
            for to in at {
                let part = skipper.feed(&stream[from..to]).unwrap();
                sum.replies += part.replies;
                sum.errors += part.errors;
                from = to;
            }
            prop_assert_eq!(sum, Skipped { replies: replies.len(), errors });
            prop_assert!(skipper.is_idle());
        }

        #[test]
        fn any_bytes_are_handled(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Skipper::default().feed(&data);
        }
    }
}
