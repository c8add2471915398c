//! `notify-keyspace-events`: a set of event classes, written as Redis's letters.

use super::value::{Args, Field, Limits, Line, Source, single};

/// Which keyspace events are published: a set of Redis's class letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceEvents(u32);

impl KeyspaceEvents {
    pub const KEYSPACE: u32 = 1 << 0;
    pub const KEYEVENT: u32 = 1 << 1;
    pub const GENERIC: u32 = 1 << 2;
    pub const STRING: u32 = 1 << 3;
    pub const LIST: u32 = 1 << 4;
    pub const SET: u32 = 1 << 5;
    pub const HASH: u32 = 1 << 6;
    pub const ZSET: u32 = 1 << 7;
    pub const EXPIRED: u32 = 1 << 8;
    pub const EVICTED: u32 = 1 << 9;
    pub const STREAM: u32 = 1 << 10;
    pub const MODULE: u32 = 1 << 11;
    pub const NEW: u32 = 1 << 12;
    pub const OVERWRITTEN: u32 = 1 << 13;
    pub const TYPE_CHANGED: u32 = 1 << 14;
    pub const KEY_MISS: u32 = 1 << 15;

    /// What the letter A stands for.
    const ALL: u32 = Self::GENERIC
        | Self::STRING
        | Self::LIST
        | Self::SET
        | Self::HASH
        | Self::ZSET
        | Self::EXPIRED
        | Self::EVICTED
        | Self::STREAM
        | Self::MODULE;

    /// The letters in the order in which CONFIG GET shows them; the flag says which of them A hides.
    const LETTERS: [(u8, u32, bool); 16] = [
        (b'g', Self::GENERIC, true),
        (b'$', Self::STRING, true),
        (b'l', Self::LIST, true),
        (b's', Self::SET, true),
        (b'h', Self::HASH, true),
        (b'z', Self::ZSET, true),
        (b'x', Self::EXPIRED, true),
        (b'e', Self::EVICTED, true),
        (b't', Self::STREAM, true),
        (b'd', Self::MODULE, true),
        (b'n', Self::NEW, true),
        (b'o', Self::OVERWRITTEN, true),
        (b'c', Self::TYPE_CHANGED, true),
        (b'K', Self::KEYSPACE, false),
        (b'E', Self::KEYEVENT, false),
        (b'm', Self::KEY_MISS, false),
    ];

    /// Classes that Redis does not show behind an A, though A does not stand for them.
    const BESIDE_ALL: u32 = Self::NEW | Self::OVERWRITTEN | Self::TYPE_CHANGED;

    /// The classes as letters, with A for those that it stands for; `hides` says whether A hides such a letter.
    fn letters(self, hides: impl Fn(bool) -> bool) -> Vec<u8> {
        let all = self.0 & Self::ALL == Self::ALL;
        let mut text = if all { b"A".to_vec() } else { Vec::new() };
        let shown = Self::LETTERS
            .iter()
            .filter(|(_, class, hidden)| self.any(*class) && !(all && hides(*hidden)));
        text.extend(shown.map(|(letter, _, _)| *letter));
        text
    }

    /// Whether any of these classes is on.
    pub fn any(self, classes: u32) -> bool {
        self.0 & classes != 0
    }

    pub fn bits(self) -> u32 {
        self.0
    }
}

impl Field for KeyspaceEvents {
    fn assign(&mut self, args: &Args, _: &Limits, _: Source) -> Result<(), String> {
        let mut bits = 0;
        for letter in single(args)? {
            bits |= match Self::LETTERS.iter().find(|(known, _, _)| known == letter) {
                Some((_, class, _)) => *class,
                None if *letter == b'A' => Self::ALL,
                None => return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into()),
            };
        }
        self.0 = bits;
        Ok(())
    }

    fn show(&self, _: &Limits) -> Vec<u8> {
        self.letters(|hidden| hidden)
    }

    fn lines(&self, default: &Self, _: &Limits) -> Vec<Line> {
        vec![Line {
            // A file keeps the classes that Redis leaves out behind an A, though A does not stand for them.
            value: super::value::quoted(
                &self.letters(|hidden| hidden && self.0 & Self::BESIDE_ALL == 0),
            ),
            force: self != default,
        }]
    }
}
