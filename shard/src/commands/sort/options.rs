//! The words of SORT.

use super::pattern::Pattern;
use crate::ctx::Args;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::number;
use std::ops::Range;

/// What SORT shall do.
#[derive(Debug, Default)]
pub struct Options<'a> {
    pub descending: bool,
    pub alpha: bool,
    /// BY a pattern without a `*`: the elements' own order.
    pub unsorted: bool,
    pub by: Option<Pattern<'a>>,
    pub get: Vec<Pattern<'a>>,
    pub store: Option<&'a [u8]>,
    limit: Option<(i64, i64)>,
}

impl<'a> Options<'a> {
    pub fn parse(args: Args<'a>, may_store: bool) -> Result<Self, CommandError> {
        let integer = |word| number::parse_i64(word).ok_or(CommandError::NotInteger);
        let mut options = Self::default();
        let mut rest = args;
        while let [word, after @ ..] = rest {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            rest = match after {
                _ if is("ASC") => {
                    options.descending = false;
                    after
                }
                _ if is("DESC") => {
                    options.descending = true;
                    after
                }
                _ if is("ALPHA") => {
                    options.alpha = true;
                    after
                }
                [start, count, after @ ..] if is("LIMIT") => {
                    options.limit = Some((integer(start)?, integer(count)?));
                    after
                }
                [key, after @ ..] if is("STORE") && may_store => {
                    options.store = Some(key);
                    after
                }
                [pattern, after @ ..] if is("BY") => {
                    options.by = Some(Pattern::new(pattern));
                    // Once said it stays, whatever pattern follows.
                    options.unsorted |= !pattern.contains(&b'*');
                    after
                }
                [pattern, after @ ..] if is("GET") => {
                    options.get.push(Pattern::new(pattern));
                    after
                }
                _ => return Err(CommandError::Syntax),
            };
        }
        Ok(options)
    }

    /// The part of `len` elements that LIMIT leaves.
    pub fn range(&self, len: usize) -> Range<usize> {
        let Some((start, count)) = self.limit else {
            return 0..len;
        };
        let start = usize::try_from(start).unwrap_or(0).min(len);
        let count = usize::try_from(count).unwrap_or(len);
        start..start.saturating_add(count).min(len)
    }
}

/// The index among a SORT command's words of the key that it stores into, as far as the words make sense; the last one said counts.
pub fn destination(words: &[&[u8]]) -> Option<usize> {
    let mut at = 2;
    let mut found = None;
    while let Some(word) = words.get(at) {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        at += if is("LIMIT") {
            3
        } else if is("BY") || is("GET") {
            2
        } else if is("STORE") && at + 1 < words.len() {
            found = Some(at + 1);
            2
        } else {
            1
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_destination_is_found_among_the_words() {
        let found = |text: &str| {
            let words: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
            destination(&words)
        };
        assert_eq!(found("SORT k"), None);
        assert_eq!(found("SORT k store d"), Some(3));
        assert_eq!(found("SORT k STORE"), None);
        assert_eq!(found("SORT store store d"), Some(3));
        assert_eq!(found("SORT k BY store GET store LIMIT store 1"), None);
        assert_eq!(found("SORT k STORE a LIMIT 0 1 STORE b"), Some(8));
        assert_eq!(found("SORT k STORE store ALPHA"), Some(3));
    }
}
