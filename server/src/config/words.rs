//! Words of a configuration line: splitting with Redis's quotes and escapes, and quoting.
//!
//! Quotes: in `"..."` the escapes `\n \r \t \b \a \xHH` and `\c` for any other byte c; in `'...'` only `\'`. A closing
//! quote must be followed by white space or the end. Outside of quotes a backslash is an ordinary byte.
//!
//! Invariant: `split(quoted(bytes))` is the one word `bytes`, for any bytes.

/// C's idea of white space, in which the vertical tab counts.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// The words of `line`, or nothing where its quotes do not balance.
pub fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        while let [first, tail @ ..] = rest
            && is_space(*first)
        {
            rest = tail;
        }
        // As for a C string, a zero byte ends the line.
        if matches!(rest, [] | [0, ..]) {
            return Some(words);
        }
        let mut word = Vec::new();
        rest = take_word(rest, &mut word)?;
        words.push(word);
    }
}

/// Moves one word from the start of `rest` to `word` and returns what follows.
fn take_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] | [0, ..] => return Some(rest),
            [b'"', tail @ ..] => return take_double_quoted(tail, word),
            [b'\'', tail @ ..] => return take_single_quoted(tail, word),
            [first, ..] if is_space(*first) => return Some(rest),
            [first, tail @ ..] => {
                word.push(*first);
                rest = tail;
            }
        }
    }
}

fn take_double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] | [0, ..] => return None,
            [b'"', tail @ ..] => return end_of_quotes(tail),
            [b'\\', b'x', high, low, tail @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex(*high) << 4 | hex(*low));
                tail
            }
            [b'\\', 0, ..] => return None,
            [b'\\', escaped, tail @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                tail
            }
            [first, tail @ ..] => {
                word.push(*first);
                tail
            }
        }
    }
}

fn take_single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] | [0, ..] => return None,
            [b'\'', tail @ ..] => return end_of_quotes(tail),
            [b'\\', b'\'', tail @ ..] => {
                word.push(b'\'');
                tail
            }
            [first, tail @ ..] => {
                word.push(*first);
                tail
            }
        }
    }
}

fn end_of_quotes(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [] | [0, ..] => Some(rest),
        [first, ..] if is_space(*first) => Some(rest),
        _ => None,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

/// `bytes` in double quotes, printable.
pub fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut text = vec![b'"'];
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => text.extend([b'\\', byte]),
            b'\n' => text.extend(b"\\n"),
            b'\r' => text.extend(b"\\r"),
            b'\t' => text.extend(b"\\t"),
            0x07 => text.extend(b"\\a"),
            0x08 => text.extend(b"\\b"),
            b' '..=b'~' => text.push(byte),
            _ => text.extend(format!("\\x{byte:02x}").bytes()),
        }
    }
    text.push(b'"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Option<Vec<String>> {
        Some(
            split(line.as_bytes())?
                .into_iter()
                .map(|word| String::from_utf8_lossy(&word).into_owned())
                .collect(),
        )
    }

    fn some(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|word| word.to_string()).collect())
    }

    #[test]
    fn plain_words_are_separated_by_white_space() {
        assert_eq!(
            words("  save 3600\t1 \x0b x\r"),
            some(&["save", "3600", "1", "x"])
        );
        assert_eq!(words("  "), some(&[]));
        assert_eq!(words("a\\n b"), some(&["a\\n", "b"]));
    }

    #[test]
    fn quotes_hold_spaces_and_escapes() {
        assert_eq!(
            words(r#"a "b c" '' "\x41\"\n\q""#),
            some(&["a", "b c", "", "A\"\nq"])
        );
        assert_eq!(words(r"'it\'s' '\n'"), some(&["it's", "\\n"]));
        assert_eq!(words("pre\"fix\""), some(&["prefix"]));
        assert_eq!(words(r#""\xg1""#), some(&["xg1"]));
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in ["\"", "'a", "\"a\"b", "'a'b", "\"a\\\"", "\"a\\"] {
            assert_eq!(words(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_word_survives_quoting(word: Vec<u8>) {
            prop_assert_eq!(split(&quoted(&word)), Some(vec![word]));
        }

        #[test]
        fn any_line_is_split_or_refused(line: Vec<u8>) {
            let _ = split(&line);
        }
    }
}
