//! Scripts that can use no keys but those that they are told of, as their text shows.
//!
//! Such a script never has to start again wide, so it keeps the order of its connection as any command does: what was sent
//! before it and what comes behind need not wait for it when another core runs it.
//!
//! This looks at words, not at meaning; what is not plainly of this form may do anything:
//! - commands are called as `redis.call('NAME', …)` or `redis.pcall`, with commands of one key, which is `KEYS[n]` or a local
//!   variable that is that and nothing else anywhere;
//! - `redis` and `KEYS` stand nowhere else but before helpers without keys, and in `#KEYS`;
//! - nothing is named that gives access to these by another name, or that makes code of text.
//!
//! A mistake here would cost the order of a pipeline, no more: what the script may reach is looked at when it runs.

use crate::registry::{Entry, Keys};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a [u8]),
    /// A text without escapes, or one that is not looked into.
    Text(Option<&'a [u8]>),
    Number(&'a [u8]),
    /// `..` and `...` are this too.
    Dots(usize),
    /// `==`, `~=`, `<=`, `>=`.
    Compare,
    Mark(u8),
}

/// What could reach `redis` or KEYS by other ways.
const FORBIDDEN: &[&[u8]] = &[
    b"_G",
    b"coroutine",
    b"debug",
    b"dofile",
    b"getfenv",
    b"getmetatable",
    b"load",
    b"loadfile",
    b"loadstring",
    b"module",
    b"newproxy",
    b"rawget",
    b"rawset",
    b"require",
    b"server",
    b"setfenv",
    b"setmetatable",
];
/// What a script may have from `redis` besides the calls.
const HELPERS: &[&[u8]] = &[
    b"LOG_DEBUG",
    b"LOG_NOTICE",
    b"LOG_VERBOSE",
    b"LOG_WARNING",
    b"error_reply",
    b"log",
    b"sha1hex",
    b"status_reply",
];

/// True if a script of this text can use no keys but KEYS. `lookup` finds commands by their names.
pub(super) fn is_narrow(text: &[u8], lookup: impl Fn(&[u8]) -> Option<&'static Entry>) -> bool {
    let Some(tokens) = tokens(text) else {
        return false;
    };
    let Some(aliases) = aliases(&tokens) else {
        return false;
    };
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark(b'(' | b'[' | b'{') => depth += 1,
            Token::Mark(b')' | b']' | b'}') => depth = depth.saturating_sub(1),
            Token::Name(name) if FORBIDDEN.contains(name) => return false,
            Token::Name(b"KEYS") => {
                let counted = at > 0 && tokens[at - 1] == Token::Mark(b'#');
                let read = is_key(&tokens[at..]) && !is_assigned(&tokens[at + 4..], depth);
                if !read && !counted {
                    return false;
                }
            }
            Token::Name(b"redis") => {
                let (Some(Token::Mark(b'.')), Some(Token::Name(of))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                else {
                    return false;
                };
                let fits = match *of {
                    b"call" | b"pcall" => is_call(&tokens[at + 3..], &aliases, &lookup),
                    helper => HELPERS.contains(&helper) && !is_assigned(&tokens[at + 3..], depth),
                };
                if !fits {
                    return false;
                }
            }
            _ => {}
        }
    }
    true
}

/// `KEYS[n]` stands here.
fn is_key(tokens: &[Token<'_>]) -> bool {
    matches!(
        tokens,
        [
            Token::Name(b"KEYS"),
            Token::Mark(b'['),
            Token::Number(n),
            Token::Mark(b']'),
            ..
        ] if n.iter().all(u8::is_ascii_digit)
    )
}
/// What stands before this may be given a value.
fn is_assigned(behind: &[Token<'_>], depth: usize) -> bool {
    match behind.first() {
        Some(Token::Mark(b'=')) => true,
        Some(Token::Mark(b',')) => depth == 0,
        _ => false,
    }
}

/// Local variables that are a `KEYS[n]` wherever they are anything. `None`: too much could be meant.
fn aliases<'a>(tokens: &[Token<'a>]) -> Option<Vec<&'a [u8]>> {
    let mut found: Vec<&[u8]> = Vec::new();
    let mut defined = Vec::new();
    for at in 0..tokens.len() {
        let [
            Token::Name(b"local"),
            Token::Name(name),
            Token::Mark(b'='),
            ..,
        ] = tokens[at..]
        else {
            continue;
        };
        // The statement ends behind it.
        let ends = match tokens.get(at + 7) {
            None | Some(Token::Mark(b';')) => true,
            Some(Token::Name(next)) => !matches!(*next, b"and" | b"or"),
            _ => false,
        };
        // What Lua itself names begins with an underscore.
        if is_key(&tokens[at + 3..]) && ends && !name.starts_with(b"_") {
            defined.push(at + 1);
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    if found.is_empty() {
        return Some(found);
    }
    // Functions have parameters, and upvalues.
    if tokens.contains(&Token::Name(b"function")) {
        return None;
    }
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark(b'(' | b'[' | b'{') => depth += 1,
            Token::Mark(b')' | b']' | b'}') => depth = depth.saturating_sub(1),
            Token::Name(name) if found.contains(name) && !defined.contains(&at) => {
                let declared = matches!(
                    tokens[at - 1],
                    Token::Name(b"local" | b"for" | b"goto") | Token::Mark(b':')
                );
                let looped = tokens.get(at + 1) == Some(&Token::Name(b"in"));
                if declared || looped || is_assigned(&tokens[at + 1..], depth) {
                    return None;
                }
            }
            _ => {}
        }
    }
    Some(found)
}

/// The arguments of a call stand here: a command of one key, which is one of KEYS.
fn is_call(
    tokens: &[Token<'_>],
    aliases: &[&[u8]],
    lookup: impl Fn(&[u8]) -> Option<&'static Entry>,
) -> bool {
    let [
        Token::Mark(b'('),
        Token::Text(Some(name)),
        Token::Mark(b','),
        rest @ ..,
    ] = tokens
    else {
        return false;
    };
    let Some(entry) = lookup(name).filter(|e| e.plain && e.subcommands.is_empty()) else {
        return false;
    };
    let Keys::One(key) = entry.keys else {
        return false;
    };
    let (mut depth, mut index, mut begin) = (0usize, 1, 0);
    for (at, token) in rest.iter().enumerate() {
        match token {
            Token::Mark(b',' | b')') if depth == 0 => {
                if index == key {
                    return match &rest[begin..at] {
                        [Token::Name(name)] => aliases.contains(name),
                        one => one.len() == 4 && is_key(one),
                    };
                }
                if *token == Token::Mark(b')') {
                    return false;
                }
                (index, begin) = (index + 1, at + 1);
            }
            Token::Mark(b'(' | b'[' | b'{') => depth += 1,
            Token::Mark(b')' | b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The words of a Lua text; `None` where it is not plain.
fn tokens(text: &[u8]) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    if rest.starts_with(b"#") {
        let line = rest.iter().position(|b| *b == b'\n');
        rest = &rest[line.unwrap_or(rest.len())..];
    }
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80;
    while let Some(&first) = rest.first() {
        let second = rest.get(1).copied();
        let len = match first {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => 1,
            b'-' if second == Some(b'-') => {
                let line = rest.iter().position(|b| matches!(b, b'\n' | b'\r'));
                match long(&rest[2..]) {
                    Some(end) => 2 + end?,
                    None => line.unwrap_or(rest.len()),
                }
            }
            b'\'' | b'"' => {
                let end = rest[1..]
                    .iter()
                    .position(|b| *b == first || matches!(b, b'\\' | b'\n'))?;
                if rest[1 + end] == first {
                    tokens.push(Token::Text(Some(&rest[1..1 + end])));
                    end + 2
                } else {
                    tokens.push(Token::Text(None));
                    escaped(rest)?
                }
            }
            b'[' if long(rest).is_some() => {
                tokens.push(Token::Text(None));
                long(rest)??
            }
            b'.' if second.is_none_or(|b| !b.is_ascii_digit()) => {
                let dots = rest.iter().take_while(|b| **b == b'.').count();
                tokens.push(match dots {
                    1 => Token::Mark(b'.'),
                    2 | 3 => Token::Dots(dots),
                    _ => return None,
                });
                dots
            }
            b'0'..=b'9' | b'.' => {
                let len = rest
                    .iter()
                    .take_while(|b| is_name(b) || **b == b'.')
                    .count();
                tokens.push(Token::Number(&rest[..len]));
                len
            }
            b'=' | b'~' | b'<' | b'>' if second == Some(b'=') => {
                tokens.push(Token::Compare);
                2
            }
            _ if is_name(&first) => {
                let len = rest.iter().take_while(|b| is_name(b)).count();
                tokens.push(Token::Name(&rest[..len]));
                len
            }
            _ => {
                tokens.push(Token::Mark(first));
                1
            }
        };
        rest = &rest[len..];
    }
    Some(tokens)
}

/// Where a quoted text with escapes ends.
fn escaped(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match *text.get(at)? {
            b'\\' => at += 2,
            b if b == text[0] => return Some(at + 1),
            _ => at += 1,
        }
    }
}
/// Where a text or comment in long brackets ends that begins here, if one does: `Some(None)` for one without an end.
fn long(text: &[u8]) -> Option<Option<usize>> {
    let inner = text.strip_prefix(b"[")?;
    let level = inner.iter().take_while(|b| **b == b'=').count();
    inner.get(level).filter(|b| **b == b'[')?;
    let close = [b"]".as_slice(), &vec![b'='; level], b"]"].concat();
    let begin = level + 2;
    let end = text[begin..].windows(close.len()).position(|w| w == close);
    Some(end.map(|end| begin + end + close.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn narrow(text: &str) -> bool {
        is_narrow(text.as_bytes(), |name| Registry::get().lookup(name))
    }

    #[test]
    fn what_uses_declared_keys_only() {
        for text in [
            "return redis.call('GET', KEYS[1])",
            "#!lua flags=no-writes\nreturn redis.call(\"get\",KEYS[1])",
            "local v for i = 1, 1000 do v = redis.pcall('GET', KEYS[1]) end return v",
            "return {redis.call('GET', KEYS[1]), redis.call('HGET', KEYS[2], ARGV[1]), #KEYS}",
            "redis.call('RPUSH', KEYS[1], unpack(ARGV)) -- redis.call('GET', 'x')\nreturn 1",
            "--[==[ redis ]] ]==] return redis.error_reply('KEYS' .. [[_G]] .. 'it\\'s redis')",
            "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0",
            "local key = KEYS[1] local now = tonumber(ARGV[1]) redis.call('ZADD', key, now, now .. '-' .. key) \
             redis.call('PEXPIRE', key, 10) return key",
            "return 1",
        ] {
            assert!(narrow(text), "{text}");
        }
    }

    #[test]
    fn what_may_use_others() {
        for text in [
            "return redis.call('GET', 'x')",
            "return redis.call('GET', ARGV[1])",
            "return redis.call('GET', KEYS[1] .. ':x')",
            "return redis.call('GET', KEYS[i])",
            "return redis.call(ARGV[1], KEYS[1])",
            "return redis.call('GET' .. '', KEYS[1])",
            "return redis.call('MGET', KEYS[1], 'x')",
            "return redis.call('DBSIZE')",
            "return redis.call('PUBLISH', KEYS[1], 'x')",
            "return redis.call('SORT', KEYS[1], 'BY', 'w*')",
            "return redis.call 'PING'",
            "return redis.call(unpack(ARGV))",
            "local r = redis return r.call('GET', 'x')",
            "local call = redis.call return call('GET', 'x')",
            "return redis['call']('GET', 'x')",
            "return pcall(redis.call, 'GET', 'x')",
            "return _G.redis.call('GET', KEYS[1])",
            "return server.call('GET', 'x')",
            "return loadstring('return redis.call(\"GET\", \"x\")')()",
            "KEYS[1] = 'x' return redis.call('GET', KEYS[1])",
            "KEYS[1], a = 'x', 1 return redis.call('GET', KEYS[1])",
            "table.insert(KEYS, 1, 'x') return redis.call('GET', KEYS[1])",
            "local KEYS = {'x'} return redis.call('GET', KEYS[1])",
            "local k = KEYS[1] .. 'x' return redis.call('GET', k)",
            "local k = KEYS[1] and 'x' return redis.call('GET', k)",
            "local k = KEYS[1] k = 'x' return redis.call('GET', k)",
            "local k = KEYS[1] k, b = 'x', 1 return redis.call('GET', k)",
            "local k = KEYS[1] a, k = 1, 'x' return redis.call('GET', k)",
            "local k = KEYS[1] local k = 'x' return redis.call('GET', k)",
            "local k = KEYS[1] for k = 1, 2 do redis.call('GET', k) end",
            "local k = KEYS[1] for _, k in ipairs(ARGV) do redis.call('GET', k) end",
            "local k = KEYS[1] local function f(k) return redis.call('GET', k) end return f('x')",
            "do local _VERSION = KEYS[1] end return redis.call('GET', _VERSION)",
            "return redis.call('SET', KEYS[1], redis.call('GET', 'x'))",
            "return redis.call('GET', (KEYS[1]))",
            "return 'not closed",
            "--[[ not closed",
        ] {
            assert!(!narrow(text), "{text}");
        }
    }
}
