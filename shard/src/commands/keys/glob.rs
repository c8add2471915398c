//! Redis's glob patterns.
//!
//! `*` any text, `?` any byte, `[a-z]` one of these, `[^a-z]` none of these, `\c` the byte c itself. An open `[` runs
//! to the end of the pattern. The one `*` seen last is the only place to come back to, so the time is at most the
//! product of the lengths.

/// Whether `pattern` matches the whole of `text`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut rest, mut at) = (pattern, 0);
    // Where to go on when what follows the last star does not match: the star takes one byte more.
    let mut star: Option<(&[u8], usize)> = None;
    loop {
        let step = match (rest, text.get(at)) {
            ([b'*', tail @ ..], _) => {
                star = Some((tail, at));
                rest = tail;
                continue;
            }
            ([], None) => return true,
            (_, None) | ([], _) => None,
            (_, Some(byte)) => one(rest, *byte),
        };
        if let Some(tail) = step {
            rest = tail;
            at += 1;
        } else if let Some((tail, from)) = star
            && from < text.len()
        {
            star = Some((tail, from + 1));
            rest = tail;
            at = from + 1;
        } else {
            return false;
        }
    }
}

/// What follows the pattern's first element, if that matches `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', tail @ ..] => Some(tail),
        [b'[', tail @ ..] => class(tail, byte),
        [b'\\', literal, tail @ ..] | [literal, tail @ ..] => (*literal == byte).then_some(tail),
        [] => None,
    }
}

fn class(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (negated, mut rest) = match pattern {
        [b'^', tail @ ..] => (true, tail),
        _ => (false, pattern),
    };
    let mut found = false;
    let tail = loop {
        rest = match rest {
            [] => break rest,
            [b']', tail @ ..] => break tail,
            [b'\\', literal, tail @ ..] => {
                found |= *literal == byte;
                tail
            }
            [from, b'-', to, tail @ ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                tail
            }
            [literal, tail @ ..] => {
                found |= *literal == byte;
                tail
            }
        }
    };
    (found != negated).then_some(tail)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        let cases: [(&str, &str, bool); 18] = [
            ("*", "", true),
            ("*", "port", true),
            ("po?t", "port", true),
            ("po?", "port", false),
            ("*max-*-entries", "hash-max-listpack-entries", true),
            ("*max-*-entrie", "hash-max-listpack-entries", false),
            ("[m-o]*", "maxmemory", true),
            ("[o-m]*", "maxmemory", true),
            ("[^m]*", "maxmemory", false),
            ("[^x]*", "maxmemory", true),
            ("[pq", "p", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("a\\", "a\\", true),
            ("", "", true),
            ("", "a", false),
            ("**a", "bba", true),
            ("a*b*c", "aXbXbXc", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "a*".repeat(100) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(5000).as_bytes()));
    }
}
