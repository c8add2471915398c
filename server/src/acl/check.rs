//! May this user run this command with these words?

use super::User;
use super::selector::{READ, Selector, WRITE};
use crate::registry::Entry;
use ringwood_protocol::command::{
    ACCESS, DELETE, INSERT, NO_AUTH, NOT_KEY, OW, RO, RW, UPDATE, VARIABLE_FLAGS,
};
use ringwood_protocol::lossless;

/// What stood in the way. The later in this order, the further the command came, and the better the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denied {
    Command,
    /// The word with this index.
    Key(usize),
    Channel(usize),
    /// SORT's BY or GET reaches keys that are not named.
    Pattern(&'static str),
}

impl Denied {
    /// The error without its code. `verbose` names the key or channel, which only who may see the rules is told.
    pub fn text(self, user: &User, entry: &Entry, args: &[&[u8]], verbose: bool) -> String {
        let name = lossless::text(&user.name);
        let word = |at: usize| lossless::text(args[at]);
        match self {
            Self::Command => format!(
                "User {name} has no permissions to run the '{}' command",
                entry.name
            ),
            Self::Key(at) if verbose => format!(
                "User {name} has no permissions to access the '{}' key",
                word(at)
            ),
            Self::Key(_) => "No permissions to access a key".into(),
            Self::Channel(at) if verbose => format!(
                "User {name} has no permissions to access the '{}' channel",
                word(at)
            ),
            Self::Channel(_) => "No permissions to access a channel".into(),
            Self::Pattern(option) => {
                format!("{option} option of SORT denied due to insufficient ACL permissions.")
            }
        }
    }
    /// The error as a client gets it.
    pub fn error(self, user: &User, entry: &Entry, args: &[&[u8]]) -> String {
        let code = if matches!(self, Self::Pattern(_)) {
            "ERR"
        } else {
            "NOPERM"
        };
        format!("{code} {}", self.text(user, entry, args, false))
    }
}

/// What these words do to the key: SET reads the old value only with GET, BITFIELD writes only with something to write.
pub fn flags_in_use(entry: &Entry, flags: u32, words: &[&[u8]]) -> u32 {
    let has_from = |at: usize, word: &str| {
        let mut options = words.iter().skip(at);
        options.any(|w| w.eq_ignore_ascii_case(word.as_bytes()))
    };
    let has = |word| has_from(2, word);
    if flags & VARIABLE_FLAGS == 0 || words.len() < 2 {
        flags
    } else if entry.spec.name == "SET" {
        // Behind the value, which may be any word.
        if has_from(3, "GET") {
            RW | ACCESS | UPDATE
        } else {
            OW | UPDATE
        }
    } else if entry.spec.name == "BITFIELD" && !has("SET") && !has("INCRBY") {
        RO | ACCESS
    } else {
        flags
    }
}

/// The channels among a command's words, and whether they are patterns.
fn channels(entry: &Entry, len: usize) -> (std::ops::Range<usize>, bool) {
    match entry.spec.name {
        "PUBLISH" | "SPUBLISH" => (1..2, false),
        "SUBSCRIBE" | "SSUBSCRIBE" => (1..len, false),
        "PSUBSCRIBE" => (1..len, true),
        _ => (0..0, false),
    }
}

impl Selector {
    fn check(&self, entry: &Entry, args: &[&[u8]]) -> Result<(), Denied> {
        if !entry.has(NO_AUTH) && !self.allows_command(entry, args) {
            return Err(Denied::Command);
        }
        if !self.all_keys {
            for spec in entry.spec.keys.iter().filter(|s| s.flags & NOT_KEY == 0) {
                let flags = flags_in_use(entry, spec.flags, args);
                let mut access = 0;
                if flags & ACCESS != 0 {
                    access |= READ;
                }
                if flags & (INSERT | DELETE | UPDATE) != 0 {
                    access |= WRITE;
                }
                let mut denied = None;
                spec.each_key(args, |at| {
                    if denied.is_none() && !self.allows_key(args[at], access) {
                        denied = Some(Denied::Key(at));
                    }
                });
                if let Some(denied) = denied {
                    return Err(denied);
                }
            }
            if matches!(entry.spec.name, "SORT" | "SORT_RO") && !self.allows_every_key(READ) {
                self.check_sort(args)?;
            }
        }
        if !self.all_channels && entry.parent.is_none() {
            let (range, are_patterns) = channels(entry, args.len());
            for at in range {
                if !self.allows_channel(args[at], are_patterns) {
                    return Err(Denied::Channel(at));
                }
            }
        }
        Ok(())
    }

    fn check_sort(&self, args: &[&[u8]]) -> Result<(), Denied> {
        for pair in args[2..].windows(2) {
            if pair[0].eq_ignore_ascii_case(b"GET") {
                return Err(Denied::Pattern("GET"));
            }
            if pair[0].eq_ignore_ascii_case(b"BY") && pair[1].contains(&b'*') {
                return Err(Denied::Pattern("BY"));
            }
        }
        Ok(())
    }
}

impl User {
    /// One selector has to allow all of it.
    pub fn check(&self, entry: &Entry, args: &[&[u8]]) -> Result<(), Denied> {
        let mut best = Denied::Command;
        for selector in self.all_selectors() {
            match selector.check(entry, args) {
                Ok(()) => return Ok(()),
                Err(denied) => best = best.max(denied),
            }
        }
        Err(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::rules::{find_command, join_selectors};

    fn check(rules: &str, command: &str) -> Result<(), Denied> {
        let words: Vec<&[u8]> = rules.split(' ').map(str::as_bytes).collect();
        let mut user = User::new(b"u", false);
        for rule in join_selectors(&words).unwrap() {
            user.apply(&rule, false).unwrap();
        }
        let args: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let entry = crate::registry::Registry::get().resolve(&args).unwrap();
        user.check(entry, &args)
    }

    #[test]
    fn commands_and_subcommands() {
        for (rules, command, expected) in [
            ("+get ~*", "get a", Ok(())),
            ("+get ~*", "set a 1", Err(Denied::Command)),
            ("+@read -get ~*", "get a", Err(Denied::Command)),
            ("+@read -get ~*", "mget a b", Ok(())),
            ("+config|get", "config get x", Ok(())),
            ("+config|get", "config set a b", Err(Denied::Command)),
            ("+@all -config", "config get x", Err(Denied::Command)),
            ("+select|0", "select 0", Ok(())),
            ("+select|0", "select 1", Err(Denied::Command)),
            // What a stranger may do everybody may.
            ("-@all", "auth x", Ok(())),
        ] {
            assert_eq!(check(rules, command), expected, "{rules}: {command}");
        }
        assert!(find_command(b"config|nothing").is_none());
    }

    #[test]
    fn keys_by_what_is_done_to_them() {
        for (rules, command, expected) in [
            ("+@all ~a*", "get a1", Ok(())),
            ("+@all ~a*", "mget a1 b1", Err(Denied::Key(2))),
            ("+@all %R~r* %W~w*", "get r1", Ok(())),
            ("+@all %R~r* %W~w*", "get w1", Err(Denied::Key(1))),
            ("+@all %R~r* %W~w*", "set w1 x", Ok(())),
            ("+@all %R~r* %W~w*", "set w1 get", Ok(())),
            ("+@all %R~r* %W~w*", "set w1 x GET", Err(Denied::Key(1))),
            ("+@all %R~r* %W~w*", "copy r1 w1", Ok(())),
            ("+@all %R~r* %W~w*", "copy w1 r1", Err(Denied::Key(1))),
            ("+@all %R~r* %W~w*", "bitfield r1 GET u8 0", Ok(())),
            (
                "+@all %R~r* %W~w*",
                "bitfield r1 SET u8 0 1",
                Err(Denied::Key(1)),
            ),
            // Only to know that a key is there needs any of the two; a pattern for neither is none.
            ("+@all %R~r* %W~w*", "exists w1", Ok(())),
            ("+@all %R~r* %W~w*", "exists x1", Err(Denied::Key(1))),
            ("+@all ~l*", "sort l1 BY w_*", Err(Denied::Pattern("BY"))),
            ("+@all ~l*", "sort l1 BY nosort", Ok(())),
            ("+@all ~l* %R~*", "sort l1 BY w_*", Ok(())),
        ] {
            assert_eq!(check(rules, command), expected, "{rules}: {command}");
        }
    }

    #[test]
    fn selectors_do_not_add_up() {
        let rules = "+get ~a* (+set ~b*)";
        assert_eq!(check(rules, "get a1"), Ok(()));
        assert_eq!(check(rules, "set b1 x"), Ok(()));
        assert_eq!(check(rules, "get b1"), Err(Denied::Key(1)));
        assert_eq!(check(rules, "del a1"), Err(Denied::Command));
    }

    #[test]
    fn channels_and_their_patterns() {
        for (command, expected) in [
            ("publish a1 x", Ok(())),
            ("publish b1 x", Err(Denied::Channel(1))),
            ("subscribe a1 b", Err(Denied::Channel(2))),
            ("psubscribe a*", Ok(())),
            ("psubscribe a1*", Err(Denied::Channel(1))),
            ("unsubscribe b", Ok(())),
        ] {
            assert_eq!(check("+@pubsub &a*", command), expected, "{command}");
        }
    }
}
