//! Ranges as commands take them: by rank, by score, by member.

use ringwood_protocol::error::CommandError;
use ringwood_protocol::number;

pub enum Range<'a> {
    /// First and last rank; negative ones count from the end.
    Rank(i64, i64),
    Score(ScoreRange),
    Lex(LexRange<'a>),
}

#[derive(Clone, Copy)]
pub struct ScoreRange {
    pub min: f64,
    pub max: f64,
    pub min_excluded: bool,
    pub max_excluded: bool,
}

impl ScoreRange {
    pub fn parse(min: &[u8], max: &[u8]) -> Result<Self, CommandError> {
        let end = |text: &[u8]| {
            let (excluded, number) = match text {
                [b'(', rest @ ..] => (true, rest),
                _ => (false, text),
            };
            number::parse_range_end(number)
                .map(|n| (n, excluded))
                .ok_or(CommandError::fixed("ERR min or max is not a float"))
        };
        let (min, min_excluded) = end(min)?;
        let (max, max_excluded) = end(max)?;
        Ok(Self {
            min,
            max,
            min_excluded,
            max_excluded,
        })
    }
    pub fn is_empty(&self) -> bool {
        self.min > self.max || (self.min == self.max && (self.min_excluded || self.max_excluded))
    }
    #[inline]
    pub fn over_min(&self, score: f64) -> bool {
        score > self.min || (score == self.min && !self.min_excluded)
    }
    #[inline]
    pub fn under_max(&self, score: f64) -> bool {
        score < self.max || (score == self.max && !self.max_excluded)
    }
}

/// One end of a range of members. `bool`: the member itself is left out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edge<'a> {
    Least,
    Member(&'a [u8], bool),
    Greatest,
}

#[derive(Clone, Copy)]
pub struct LexRange<'a> {
    pub min: Edge<'a>,
    pub max: Edge<'a>,
}

impl<'a> LexRange<'a> {
    pub fn parse(min: &'a [u8], max: &'a [u8]) -> Result<Self, CommandError> {
        let edge = |text: &'a [u8]| match text {
            [b'-'] | [b'-', 0, ..] => Ok(Edge::Least),
            [b'+'] | [b'+', 0, ..] => Ok(Edge::Greatest),
            [b'(', member @ ..] => Ok(Edge::Member(member, true)),
            [b'[', member @ ..] => Ok(Edge::Member(member, false)),
            _ => Err(CommandError::fixed(
                "ERR min or max not valid string range item",
            )),
        };
        Ok(Self {
            min: edge(min)?,
            max: edge(max)?,
        })
    }
    pub fn is_empty(&self) -> bool {
        match (self.min, self.max) {
            (Edge::Member(min, min_excluded), Edge::Member(max, max_excluded)) => {
                min > max || (min == max && (min_excluded || max_excluded))
            }
            (Edge::Greatest, _) | (_, Edge::Least) => true,
            _ => false,
        }
    }
    pub fn over_min(&self, member: &[u8]) -> bool {
        match self.min {
            Edge::Least => true,
            Edge::Greatest => false,
            Edge::Member(min, excluded) => member > min || (member == min && !excluded),
        }
    }
    pub fn under_max(&self, member: &[u8]) -> bool {
        match self.max {
            Edge::Least => false,
            Edge::Greatest => true,
            Edge::Member(max, excluded) => member < max || (member == max && !excluded),
        }
    }
}
