//! The language of ACL SETUSER, of `user` lines and of the ACL file: each word changes a user.

use super::selector::{READ, Selector, WRITE};
use super::{PasswordHash, User, hash_password};
use crate::registry::{Entry, Registry};
use ringwood_protocol::command::acl;

/// Why a rule was refused, in Redis's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Unknown,
    Syntax,
    AllKeysAlready,
    AllChannelsAlready,
    NoHash,
    NoPassword,
    FirstArgOfSubcommand,
}

impl Refusal {
    pub fn text(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown command or category name in ACL",
            Self::Syntax => "Syntax error",
            Self::AllKeysAlready => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. \
                 Try 'resetkeys' to start with an empty list of patterns"
            }
            Self::AllChannelsAlready => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any \
                 effect. Try 'resetchannels' to start with an empty list of channels"
            }
            Self::NoHash => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            Self::NoPassword => {
                "The password you are trying to remove from the user does not exist"
            }
            Self::FirstArgOfSubcommand => "Allowing first-arg of a subcommand is not supported",
        }
    }
}

/// Joins the words of each selector, which is one rule however it was cut: `(~a +get)`. The error is where an open one begins.
pub fn join_selectors(words: &[&[u8]]) -> Result<Vec<Vec<u8>>, Vec<u8>> {
    let mut rules: Vec<Vec<u8>> = Vec::new();
    let mut open: Option<Vec<u8>> = None;
    let mut begin: &[u8] = b"";
    for word in words {
        match &mut open {
            Some(selector) => {
                selector.push(b' ');
                selector.extend_from_slice(word);
            }
            None if word.first() == Some(&b'(') => {
                begin = word;
                open = Some(word.to_vec());
            }
            None => {
                rules.push(word.to_vec());
                continue;
            }
        }
        if word.last() == Some(&b')') {
            rules.extend(open.take());
        }
    }
    match open {
        Some(_) => Err(begin.to_vec()),
        None => Ok(rules),
    }
}

impl User {
    /// Applies one rule. `all_channels`: what `acl-pubsub-default` says.
    pub fn apply(&mut self, rule: &[u8], all_channels: bool) -> Result<(), Refusal> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        if rule.is_empty() {
            // No rule, as in Redis.
        } else if is("on") {
            self.enabled = true;
        } else if is("off") {
            self.enabled = false;
        } else if is("nopass") {
            self.nopass = true;
            self.passwords.clear();
        } else if is("skip-sanitize-payload") {
            self.sanitize = false;
        } else if is("sanitize-payload") {
            self.sanitize = true;
        } else if is("resetpass") {
            self.nopass = false;
            self.passwords.clear();
        } else if is("clearselectors") {
            self.selectors.clear();
        } else if is("reset") {
            *self = Self::new(&self.name, all_channels);
        } else if let [mark @ (b'>' | b'#'), rest @ ..] = rule {
            let hash = match mark {
                b'>' => hash_password(rest),
                _ => parse_hash(rest)?,
            };
            if !self.passwords.contains(&hash) {
                self.passwords.push(hash);
            }
            self.nopass = false;
        } else if let [mark @ (b'<' | b'!'), rest @ ..] = rule {
            let hash = match mark {
                b'<' => hash_password(rest),
                _ => parse_hash(rest)?,
            };
            let at = self.passwords.iter().position(|p| *p == hash);
            self.passwords.remove(at.ok_or(Refusal::NoPassword)?);
        } else if rule.first() == Some(&b'(') {
            let inner = rule[1..].strip_suffix(b")").ok_or(Refusal::Syntax)?;
            let mut selector = Selector::new(all_channels);
            let words = inner.split(|b| b.is_ascii_whitespace());
            for word in words.filter(|word| !word.is_empty()) {
                selector.apply(word)?;
            }
            self.selectors.push(selector);
        } else {
            self.root.apply(rule)?;
        }
        Ok(())
    }
}

fn parse_hash(text: &[u8]) -> Result<PasswordHash, Refusal> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut hash = [0; 32];
    if text.len() != 64 {
        return Err(Refusal::NoHash);
    }
    for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
        let high = digit(pair[0]).ok_or(Refusal::NoHash)?;
        *byte = high << 4 | digit(pair[1]).ok_or(Refusal::NoHash)?;
    }
    Ok(hash)
}

fn has_spaces(text: &[u8]) -> bool {
    text.iter().any(|b| b.is_ascii_whitespace() || *b == 0)
}

/// A command by its name, a subcommand as `config|get`.
pub fn find_command(name: &[u8]) -> Option<&'static Entry> {
    let lookup = |name: &[u8]| {
        let found = Registry::get().logged().lookup(name);
        // Its own name, whatever else clients call it by.
        found.filter(|e| e.spec.name.as_bytes().eq_ignore_ascii_case(name))
    };
    match name.iter().position(|b| *b == b'|') {
        None => lookup(name),
        Some(bar) => {
            let parent = lookup(&name[..bar])?;
            let sub = &name[bar + 1..];
            let named = |e: &&&'static Entry| e.spec.name.as_bytes().eq_ignore_ascii_case(sub);
            parent.subcommands.iter().find(named).copied()
        }
    }
}

/// A category's bit by its name.
pub fn find_category(name: &[u8]) -> Option<(u32, &'static str)> {
    let named = |(_, n): &&(u32, &str)| n.as_bytes().eq_ignore_ascii_case(name);
    acl::NAMES.iter().find(named).copied()
}

impl Selector {
    /// Applies a rule about commands, keys or channels.
    pub fn apply(&mut self, rule: &[u8]) -> Result<(), Refusal> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        if is("allkeys") || rule == b"~*" {
            self.all_keys = true;
            self.keys.clear();
        } else if is("resetkeys") {
            self.all_keys = false;
            self.keys.clear();
        } else if is("allchannels") || rule == b"&*" {
            self.all_channels = true;
            self.channels.clear();
        } else if is("resetchannels") {
            self.all_channels = false;
            self.channels.clear();
        } else if is("allcommands") || is("+@all") {
            self.set_all_commands(true);
        } else if is("nocommands") || is("-@all") {
            self.set_all_commands(false);
        } else {
            match rule {
                [b'~' | b'%', ..] => self.apply_keys(rule)?,
                [b'&', pattern @ ..] => {
                    if self.all_channels {
                        return Err(Refusal::AllChannelsAlready);
                    }
                    if has_spaces(pattern) {
                        return Err(Refusal::Syntax);
                    }
                    self.add_channel(pattern);
                }
                [sign @ (b'+' | b'-'), b'@', name @ ..] => {
                    let (category, name) = find_category(name).ok_or(Refusal::Unknown)?;
                    self.set_category(name, category, *sign == b'+');
                }
                [b'-', name @ ..] => {
                    let entry = find_command(name).ok_or(Refusal::Unknown)?;
                    self.set_command(entry, false);
                }
                [b'+', name @ ..] => self.allow(name)?,
                _ => return Err(Refusal::Syntax),
            }
        }
        Ok(())
    }

    fn apply_keys(&mut self, rule: &[u8]) -> Result<(), Refusal> {
        if self.all_keys {
            return Err(Refusal::AllKeysAlready);
        }
        let (mut access, mut pattern) = (READ | WRITE, &rule[1..]);
        if rule[0] == b'%' {
            access = 0;
            // As Redis: without the `~` it is the empty pattern.
            while let [mark, rest @ ..] = pattern {
                pattern = rest;
                access |= match mark.to_ascii_uppercase() {
                    b'R' if access & READ == 0 => READ,
                    b'W' if access & WRITE == 0 => WRITE,
                    b'~' if access != 0 => break,
                    _ => return Err(Refusal::Syntax),
                };
            }
            if access == READ | WRITE && pattern == b"*" {
                self.all_keys = true;
                self.keys.clear();
                return Ok(());
            }
        }
        if has_spaces(pattern) {
            return Err(Refusal::Syntax);
        }
        self.add_key_pattern(access, pattern);
        Ok(())
    }

    /// `+get`, `+config|get`, `+select|0`.
    fn allow(&mut self, name: &[u8]) -> Result<(), Refusal> {
        let Some(bar) = name.iter().rposition(|b| *b == b'|') else {
            let entry = find_command(name).ok_or(Refusal::Unknown)?;
            self.set_command(entry, true);
            return Ok(());
        };
        let parent = find_command(&name[..bar]).ok_or(Refusal::Unknown)?;
        if parent.parent.is_some() {
            return Err(Refusal::FirstArgOfSubcommand);
        }
        let rest = &name[bar + 1..];
        if rest.is_empty() {
            return Err(Refusal::Syntax);
        }
        if parent.subcommands.is_empty() {
            tracing::warn!(
                "Deprecation warning: Allowing a first arg of an otherwise blocked command is a misuse of ACL and may \
                 get disabled in the future (offender: +{})",
                String::from_utf8_lossy(name)
            );
            self.allow_first_arg(parent, rest);
        } else {
            let entry = find_command(name).ok_or(Refusal::Unknown)?;
            self.set_command(entry, true);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(rules: &str) -> String {
        let words: Vec<&[u8]> = rules.split(' ').map(str::as_bytes).collect();
        let mut user = User::new(b"u", false);
        for rule in join_selectors(&words).unwrap() {
            if let Err(refusal) = user.apply(&rule, false) {
                return format!("{refusal:?}");
            }
        }
        String::from_utf8(user.describe()).unwrap()
    }

    /// All as redis-server 8.2.3 answers.
    #[test]
    fn rules_are_described_as_redis_does() {
        for (rules, expected) in [
            (
                "on nopass ~x* %R~r* %W~w* %RW~rw* &ch* +get +@read -mget +client|id +client|kill -client +config|get",
                "u on nopass sanitize-payload ~x* %R~r* %W~w* ~rw* resetchannels &ch* -@all +get +@read -mget -client \
                 +config|get",
            ),
            (
                "+@all -config|set (~k* +get) (+set %W~z*)",
                "u off sanitize-payload resetchannels +@all -config|set (~k* resetchannels -@all +get) (%W~z* resetchannels \
                 -@all +set)",
            ),
            (
                "+select|0 +get",
                "u off sanitize-payload resetchannels -@all +select|0 +get",
            ),
            (
                "+@all -@dangerous +@admin -acl +acl|whoami -@all +ping",
                "u off sanitize-payload resetchannels -@all +ping",
            ),
            ("  on", "u on sanitize-payload resetchannels -@all"),
            ("%RW %R~ ~", "u off sanitize-payload ~ resetchannels -@all"),
            (
                "on ~a +get reset",
                "u off sanitize-payload resetchannels -@all",
            ),
            ("+foo", "Unknown"),
            ("+@foo", "Unknown"),
            ("+get|a|b", "Unknown"),
            ("-get|a", "Unknown"),
            ("+client|foo", "Unknown"),
            ("+config|get|x", "FirstArgOfSubcommand"),
            ("allkeys ~a", "AllKeysAlready"),
            ("allchannels &a", "AllChannelsAlready"),
            ("#zz", "NoHash"),
            ("<nope", "NoPassword"),
            ("!nope", "NoHash"),
            ("%X~a", "Syntax"),
            ("%~a", "Syntax"),
            ("bogus", "Syntax"),
            ("(~x +foo)", "Unknown"),
            ("(>x)", "Syntax"),
            (")", "Syntax"),
        ] {
            assert_eq!(described(rules), expected, "{rules}");
        }
    }

    #[test]
    fn an_open_selector_is_refused() {
        let words: [&[u8]; 3] = [b"on", b"(+get", b"~a"];
        assert_eq!(join_selectors(&words), Err(b"(+get".to_vec()));
        let words: [&[u8]; 3] = [b"(+get", b"~a)", b"off"];
        let joined = vec![b"(+get ~a)".to_vec(), b"off".to_vec()];
        assert_eq!(join_selectors(&words), Ok(joined));
    }
}
