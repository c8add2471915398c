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
