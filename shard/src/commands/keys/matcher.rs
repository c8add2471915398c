//! A glob pattern over keys, and what it says about where its keys lie.

use ringwood_protocol::glob::glob_match;
use ringwood_protocol::slot::key_slot;

/// The pattern of KEYS and of SCAN's MATCH.
pub struct Matcher<'a> {
    pattern: &'a [u8],
    slot: Option<u16>,
}

impl<'a> Matcher<'a> {
    pub fn new(pattern: &'a [u8]) -> Self {
        let slot = slot_of(pattern);
        Self { pattern, slot }
    }
    #[inline]
    pub fn matches(&self, key: &[u8]) -> bool {
        self.pattern == b"*" || glob_match(self.pattern, key)
    }
    /// The one slot in which all matching keys lie, where the pattern tells it.
    pub fn slot(&self) -> Option<u16> {
        self.slot
    }
}

/// A pattern without special bytes is a key; one that begins with a whole hash tag has that tag's slot.
fn slot_of(pattern: &[u8]) -> Option<u16> {
    let special = |b: &u8| matches!(b, b'*' | b'?' | b'[' | b'\\');
    let Some(len) = pattern.iter().position(special) else {
        return Some(key_slot(pattern));
    };
    let literal = &pattern[..len];
    let open = literal.iter().position(|&b| b == b'{')?;
    let tag = &literal[open + 1..];
    // An empty tag is none: such keys are hashed whole.
    let end = tag.iter().position(|&b| b == b'}')?;
    (end > 0).then(|| key_slot(literal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_tell_their_slot() {
        for (pattern, key) in [
            ("plain", Some("plain")),
            ("{tag}*", Some("{tag}")),
            ("a{tag}b?", Some("{tag}")),
            ("{a}{b}*", Some("{a}")),
            ("{tag}\\*", Some("{tag}")),
            ("*{tag}", None),
            ("{t*g}", None),
            ("{tag*", None),
            ("{}*", None),
            ("[ab]", None),
            ("a\\b", None),
            ("", Some("")),
        ] {
            let slot = key.map(|k| key_slot(k.as_bytes()));
            assert_eq!(Matcher::new(pattern.as_bytes()).slot(), slot, "{pattern}");
        }
    }
}
