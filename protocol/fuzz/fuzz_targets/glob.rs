//! The matcher equals a table over all splits, where each part of the pattern is first made into a set of bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwood_protocol::glob::{glob_match, glob_match_ignore_case};

enum Part {
    Star,
    OneOf(Box<[bool; 256]>),
}

fn set(matches: impl Fn(u8) -> bool) -> Part {
    Part::OneOf(Box::new(std::array::from_fn(|byte| matches(byte as u8))))
}

fn parts(pattern: &[u8], fold: bool) -> Vec<Part> {
    let low = |byte: u8| {
        if fold {
            byte.to_ascii_lowercase()
        } else {
            byte
        }
    };
    let mut parts = Vec::new();
    let mut bytes = pattern.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        parts.push(match byte {
            b'*' => Part::Star,
            b'?' => set(|_| true),
            b'[' => {
                let negated = bytes.next_if_eq(&b'^').is_some();
                let mut members = [false; 256];
                loop {
                    let mut ahead = bytes.clone();
                    match (ahead.next(), ahead.next(), ahead.next()) {
                        (None, ..) => break,
                        (Some(b'\\'), Some(escaped), _) => {
                            members[usize::from(escaped)] = true;
                            bytes.nth(1);
                        }
                        (Some(b']'), ..) => {
                            bytes.next();
                            break;
                        }
                        (Some(a), Some(b'-'), Some(b)) => {
                            let (from, to) = ((a as i8).min(b as i8), (a as i8).max(b as i8));
                            for byte in 0..=255u8 {
                                let place = low(byte) as i8;
                                members[usize::from(byte)] |=
                                    place >= low(from as u8) as i8 && place <= low(to as u8) as i8;
                            }
                            bytes.nth(2);
                        }
                        (Some(a), ..) => {
                            for byte in 0..=255u8 {
                                members[usize::from(byte)] |= low(byte) == low(a);
                            }
                            bytes.next();
                        }
                    }
                }
                set(|byte| members[usize::from(byte)] != negated)
            }
            b'\\' if bytes.peek().is_some() => {
                let literal = bytes.next().unwrap_or_default();
                set(|byte| low(byte) == low(literal))
            }
            literal => set(|byte| low(byte) == low(literal)),
        });
    }
    parts
}

fn table(parts: &[Part], text: &[u8]) -> bool {
    if text.is_empty() {
        return parts.is_empty();
    }
    // reached[n]: the parts so far can have taken the first n bytes.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for part in parts {
        match part {
            Part::Star => (1..reached.len()).for_each(|n| reached[n] |= reached[n - 1]),
            Part::OneOf(set) => {
                for n in (1..reached.len()).rev() {
                    reached[n] = reached[n - 1] && set[usize::from(text[n - 1])];
                }
                reached[0] = false;
            }
        }
    }
    reached[text.len()]
}

fuzz_target!(|data: &[u8]| {
    let [length, rest @ ..] = data else { return };
    let Some((pattern, text)) = rest.split_at_checked(usize::from(*length)) else {
        return;
    };
    assert_eq!(
        glob_match(pattern, text),
        table(&parts(pattern, false), text)
    );
    assert_eq!(
        glob_match_ignore_case(pattern, text),
        table(&parts(pattern, true), text)
    );
});
