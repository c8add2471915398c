//! The logs of commands that were slow, or whose request or reply was large: SLOWLOG and COMMANDLOG.
//!
//! One log of each kind for all cores: what is logged is rare, or somebody asked for it. Whoever has a command's reply
//! finds it in the log.

use crate::commands::lock;
use crate::registry::Entry;
use std::collections::VecDeque;
use std::sync::Mutex;

/// Words of a command that are kept, and bytes of a word.
const WORDS_MAX: usize = 32;
const WORD_MAX: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Slow,
    LargeRequest,
    LargeReply,
}

/// A logged command on its way to its client's core.
#[derive(Debug)]
pub struct Record {
    pub which: Which,
    /// Microseconds or bytes.
    pub value: u64,
    pub unix_s: i64,
    pub args: Vec<Box<[u8]>>,
}

/// An entry as it is shown.
#[derive(Clone, Debug)]
pub struct Logged {
    pub id: u64,
    pub unix_s: i64,
    pub value: u64,
    pub args: Vec<Box<[u8]>>,
    pub peer: String,
    pub name: Vec<u8>,
}

#[derive(Debug, Default)]
struct Log {
    next_id: u64,
    /// The newest first.
    entries: VecDeque<Logged>,
}

#[derive(Debug, Default)]
pub struct CommandLogs([Mutex<Log>; 3]);

impl CommandLogs {
    pub fn add(&self, record: Record, peer: String, name: Vec<u8>, most: u64) {
        let mut log = lock(&self.0[record.which as usize]);
        let entry = Logged {
            id: log.next_id,
            unix_s: record.unix_s,
            value: record.value,
            args: record.args,
            peer,
            name,
        };
        log.next_id += 1;
        log.entries.push_front(entry);
        log.entries
            .truncate(usize::try_from(most).unwrap_or(usize::MAX));
    }
    /// The newest `count`.
    pub fn newest(&self, which: Which, count: usize) -> Vec<Logged> {
        let log = lock(&self.0[which as usize]);
        log.entries.iter().take(count).cloned().collect()
    }
    pub fn len(&self, which: Which) -> usize {
        lock(&self.0[which as usize]).entries.len()
    }
    pub fn reset(&self, which: Which) {
        // Freed without the lock.
        let entries = std::mem::take(&mut lock(&self.0[which as usize]).entries);
        drop(entries);
    }
}

const REDACTED: &[u8] = b"(redacted)";

/// Whether the word at `at` is a secret, or tells of a user.
pub fn is_secret(entry: &Entry, args: &[&[u8]], at: usize) -> bool {
    let follows = |word: &str, most: usize| {
        (1..=most).any(|back| at > back && args[at - back].eq_ignore_ascii_case(word.as_bytes()))
    };
    match entry.name.as_str() {
        "auth" => at > 0,
        "hello" => at > 2 && follows("AUTH", 2),
        "migrate" => at > 5 && (follows("AUTH", 1) || follows("AUTH2", 2)),
        "acl|setuser" | "acl|getuser" | "acl|deluser" => at > 1,
        "config|set" => {
            at > 2
                && at % 2 == 1
                && crate::config::lookup(args[at - 1]).is_some_and(|d| d.is_sensitive())
        }
        _ => false,
    }
}

/// A command's words as the log keeps them: cut short, without secrets.
pub fn loggable_words(entry: &Entry, args: &[&[u8]]) -> Vec<Box<[u8]>> {
    let cut = |at: usize| -> Box<[u8]> {
        let word = args[at];
        if at > 0 && is_secret(entry, args, at) {
            return REDACTED.into();
        }
        if word.len() <= WORD_MAX {
            return word.into();
        }
        let mut cut = word[..WORD_MAX].to_vec();
        let more = word.len() - WORD_MAX;
        cut.extend_from_slice(format!("... ({more} more bytes)").as_bytes());
        cut.into()
    };
    if args.len() <= WORDS_MAX {
        return (0..args.len()).map(cut).collect();
    }
    let mut words: Vec<Box<[u8]>> = (0..WORDS_MAX - 1).map(cut).collect();
    let more = args.len() - WORDS_MAX + 1;
    words.push(format!("... ({more} more arguments)").into_bytes().into());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn shown(words: &[&str]) -> Vec<String> {
        let args: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
        let entry = Registry::get().resolve(&args).expect("a command");
        let words = loggable_words(entry, &args);
        let text = |w: Box<[u8]>| String::from_utf8_lossy(&w).into_owned();
        words.into_iter().map(text).collect()
    }

    #[test]
    fn secrets_are_not_kept() {
        let hidden = "(redacted)";
        assert_eq!(shown(&["AUTH", "u", "p"]), ["AUTH", hidden, hidden]);
        assert_eq!(
            shown(&["hello", "3", "Auth", "u", "p", "SETNAME", "n"]),
            ["hello", "3", "Auth", hidden, hidden, "SETNAME", "n"]
        );
        assert_eq!(
            shown(&["config", "set", "maxmemory", "0", "RequirePass", "x"]),
            ["config", "set", "maxmemory", "0", "RequirePass", hidden]
        );
        assert_eq!(shown(&["set", "auth", "v"]), ["set", "auth", "v"]);
    }

    #[test]
    fn long_commands_are_cut() {
        let long = "x".repeat(129);
        let cut = format!("{}... (1 more bytes)", "x".repeat(128));
        assert_eq!(shown(&["set", "k", &long])[2], cut);
        let mut words = vec!["sadd", "k"];
        words.resize(32, "m");
        assert_eq!(shown(&words), words);
        words.push("m");
        let kept = shown(&words);
        assert_eq!(
            (kept.len(), kept[31].as_str()),
            (32, "... (2 more arguments)")
        );
    }

    #[test]
    fn a_log_keeps_the_newest_and_counts_on() {
        let logs = CommandLogs::default();
        let add = |value| {
            let record = Record {
                which: Which::Slow,
                value,
                unix_s: 0,
                args: Vec::new(),
            };
            logs.add(record, String::new(), Vec::new(), 3);
        };
        (0..5).for_each(add);
        let ids = |count| -> Vec<u64> {
            let newest = logs.newest(Which::Slow, count);
            newest.iter().map(|e| e.id).collect()
        };
        assert_eq!(ids(10), [4, 3, 2]);
        logs.reset(Which::Slow);
        assert_eq!(logs.len(Which::Slow), 0);
        add(9);
        assert_eq!(ids(1), [5]);
    }
}
