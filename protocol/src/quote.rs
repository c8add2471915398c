//! Quoting: splits a line into words (inline commands), and shows any bytes as readable text (MONITOR, SLOWLOG, logs).
//!
//! A word ends at white space. Within it, `"…"` and `'…'` may begin anywhere but must end the word. In double quotes `\n \r \t \b \a` and
//! `\x41` have their meaning in C and a backslash before anything else takes it literally; in single quotes only `\'` is special. What
//! [`append_repr`] writes, [`split_words`] reads back. A NUL is an ordinary byte (Redis never finds the end of an inline command that has one).

/// The words of `line`; None if a quote is not closed or something follows a closing quote directly.
pub fn split_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let start = match rest.iter().position(|&byte| !is_space(byte)) {
            Some(start) => start,
            None => return Some(words),
        };
        let mut word = Vec::new();
        rest = take_word(&rest[start..], &mut word)?;
        words.push(word);
    }
}

/// C's `isspace`, which also knows vertical tab (0x0b) and form feed.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Reads one word and returns what follows it.
fn take_word<'a>(mut line: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match line {
            // Redis skips vertical tab and form feed before a word but takes them as part of one.
            [] | [b' ' | b'\t' | b'\n' | b'\r', ..] => return Some(line),
            [b'"', rest @ ..] => return after_quote(double_quoted(rest, word)?),
            [b'\'', rest @ ..] => return after_quote(single_quoted(rest, word)?),
            [byte, rest @ ..] => {
                word.push(*byte);
                line = rest;
            }
        }
    }
}

fn after_quote(rest: &[u8]) -> Option<&[u8]> {
    rest.first()
        .is_none_or(|&byte| is_space(byte))
        .then_some(rest)
}

fn double_quoted<'a>(mut line: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        line = match line {
            [] | [b'\\'] => return None,
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'x', high, low, rest @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
                word.push(digit(*high) << 4 | digit(*low));
                rest
            }
            [b'\\', escaped, rest @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                rest
            }
            [byte, rest @ ..] => {
                word.push(*byte);
                rest
            }
        };
    }
}

fn single_quoted<'a>(mut line: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        line = match line {
            [] => return None,
            [b'\\', b'\'', rest @ ..] => {
                word.push(b'\'');
                rest
            }
            [b'\'', rest @ ..] => return Some(rest),
            [byte, rest @ ..] => {
                word.push(*byte);
                rest
            }
        };
    }
}

/// Appends `bytes` in double quotes, with everything escaped that is not printable ASCII.
pub fn append_repr(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x07 => out.extend_from_slice(b"\\a"),
            0x08 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => out.extend_from_slice(&[
                b'\\',
                b'x',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Inline ECHO of Redis 7.0.15 and 8.2.3. (Valkey 9.1.2 lets a word go on after a closing quote.)
    #[test]
    fn words_as_redis_splits() {
        let line = |line: &[u8], words: &[&[u8]]| {
            let expected: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
            assert_eq!(split_words(line), Some(expected), "{}", line.escape_ascii());
        };
        line(b"", &[]);
        line(b"   ", &[]);
        line(b"  GET   a  ", &[b"GET", b"a"]);
        line(b"\tGET\ta\t", &[b"GET", b"a"]);
        line(b"a\rb", &[b"a", b"b"]);
        line(b"a\x0bb \x0c c", &[b"a\x0bb", b"c"]);
        line(b"\"a b\" \"\" ''", &[b"a b", b"", b""]);
        line(
            b"\"a\\x41\\n\\r\\t\\b\\a\\q\\\"\"",
            &[b"aA\n\r\t\x08\x07q\""],
        );
        line(b"\"\\xZZ\" \"\\x4\" \"\\x4g\"", &[b"xZZ", b"x4", b"x4g"]);
        line(b"'a\"b' 'a\\'b\\n'", &[b"a\"b", b"a'b\\n"]);
        line(b"a\"b\" a'b c'", &[b"ab", b"ab c"]);
        line(b"\\n \xff\x80", &[b"\\n", b"\xff\x80"]);
        for bad in [
            &b"\"a"[..],
            b"'a",
            b"\"a\"b",
            b"'a'b",
            b"a\"b\"c",
            b"\"\\",
            b"\"a\\\"",
            b"'\\'",
            b"'a\\\\'",
        ] {
            assert_eq!(split_words(bad), None, "{}", bad.escape_ascii());
        }
    }

    /// MONITOR of all three servers.
    #[test]
    fn repr_as_redis_shows_it() {
        let mut out = Vec::new();
        append_repr(
            &mut out,
            b"\x00\x06\x07\x08\t\n\x0b\r\x1f !\"'\\~\x7f\x80\xff",
        );
        assert_eq!(
            out.escape_ascii().to_string(),
            br#""\x00\x06\a\b\t\n\x0b\r\x1f !\"'\\~\x7f\x80\xff""#
                .escape_ascii()
                .to_string()
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..5)) {
            let mut line = Vec::new();
            for word in &words {
                append_repr(&mut line, word);
                line.push(b' ');
            }
            prop_assert_eq!(split_words(&line), Some(words));
        }
    }
}
