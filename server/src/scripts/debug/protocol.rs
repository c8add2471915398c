//! The little of Redis's protocol that a session reads itself: its client's commands, and replies of commands that it ran for itself.

/// Words of a command, and bytes of a word.
const MAX: usize = 1024;
/// Bytes of a command.
const COMMAND_MAX: usize = 1 << 20;

/// What has arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// With how many bytes it took.
    Words(Vec<Vec<u8>>, usize),
    Malformed,
    More,
}

/// Reads a command: stricter than the server does, as Redis's debugger is.
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut rest = bytes;
    match command(&mut rest) {
        Ok(words) => Parsed::Words(words, bytes.len() - rest.len()),
        Err(Stop::More) if bytes.len() <= COMMAND_MAX => Parsed::More,
        Err(_) => Parsed::Malformed,
    }
}

enum Stop {
    More,
    Malformed,
}

fn command(rest: &mut &[u8]) -> Result<Vec<Vec<u8>>, Stop> {
    let count = head(rest, b'*')?;
    let mut words = Vec::new();
    for _ in 0..count {
        let len = head(rest, b'$')?;
        let (word, after) = rest.split_at_checked(len).ok_or(Stop::More)?;
        match after {
            [b'\r', b'\n', after @ ..] => *rest = after,
            [] | [b'\r'] => return Err(Stop::More),
            _ => return Err(Stop::Malformed),
        }
        words.push(word.to_vec());
    }
    Ok(words)
}

/// A line with a kind and a number from 1 to [`MAX`].
fn head(rest: &mut &[u8], kind: u8) -> Result<usize, Stop> {
    let first = rest.first().ok_or(Stop::More)?;
    if *first != kind {
        return Err(Stop::Malformed);
    }
    let number = line(rest)?;
    let number = std::str::from_utf8(&number[1..]).map_err(|_| Stop::Malformed)?;
    match number.parse() {
        Ok(n @ 1..=MAX) => Ok(n),
        _ => Err(Stop::Malformed),
    }
}

fn line<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Stop> {
    let end = rest.windows(2).position(|w| w == b"\r\n");
    let end = end.ok_or(Stop::More)?;
    let (line, after) = (&rest[..end], &rest[end + 2..]);
    *rest = after;
    Ok(line)
}

/// The number of a reply that is one.
pub fn integer(reply: &[u8]) -> Option<i64> {
    let text = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The strings of a reply that is an array of strings.
pub fn bulks(reply: &[u8]) -> Option<Vec<Box<[u8]>>> {
    let mut rest = reply;
    let count = |kind: u8, rest: &mut &[u8]| -> Option<usize> {
        let line = line(rest).ok()?;
        std::str::from_utf8(line.strip_prefix(&[kind])?)
            .ok()?
            .parse()
            .ok()
    };
    let items = count(b'*', &mut rest)?;
    let mut all = Vec::new();
    for _ in 0..items {
        let len = count(b'$', &mut rest)?;
        all.push(rest.get(..len)?.into());
        rest = rest.get(len + 2..)?;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let words = |words: &[&str], len| {
            let words = words.iter().map(|w| w.as_bytes().to_vec()).collect();
            Parsed::Words(words, len)
        };
        let whole = b"*2\r\n$1\r\nb\r\n$2\r\n10\r\n*1\r\n";
        for len in 0..19 {
            assert_eq!(parse(&whole[..len]), Parsed::More, "{len}");
        }
        assert_eq!(parse(whole), words(&["b", "10"], 19));
        for malformed in [
            "s\r\n",
            "*0\r\n",
            "*-1\r\n",
            "*x\r\n",
            "*1025\r\n",
            "*1\r\n:1\r\n",
            "*1\r\n$0\r\n\r\n",
            "*1\r\n$1025\r\n",
            "*1\r\n$1\r\nsXX",
        ] {
            assert_eq!(
                parse(malformed.as_bytes()),
                Parsed::Malformed,
                "{malformed}"
            );
        }
        let long = format!(
            "*1024\r\n{}",
            "$1000\r\n".to_string() + &"x".repeat(1000) + "\r\n"
        );
        assert_eq!(parse(long.as_bytes()), Parsed::More);
        let mut endless = b"*1024\r\n".to_vec();
        while endless.len() <= COMMAND_MAX {
            endless.extend_from_slice(b"$1024\r\n");
            endless.extend_from_slice(&[b'x'; 1024]);
            endless.extend_from_slice(b"\r\n");
        }
        assert_eq!(parse(&endless), Parsed::Malformed);
    }

    #[test]
    fn replies() {
        assert_eq!(integer(b":12\r\n"), Some(12));
        assert_eq!(integer(b"-ERR\r\n"), None);
        let all = bulks(b"*2\r\n$1\r\na\r\n$0\r\n\r\n").unwrap();
        assert_eq!(all, [Box::from(b"a".as_slice()), Box::from(b"".as_slice())]);
        assert_eq!(bulks(b"*2\r\n$1\r\na\r\n"), None);
        assert_eq!(bulks(b"-ERR\r\n"), None);
    }
}
