//! Runs a command as a client would see it, for the unit tests beside the commands.
//!
//! ```text
//! let mut t = Tester::new();
//! t.check("SET k v", "+OK");
//! t.check("GET k", "$1 v");
//! ```
//! The expected reply is the wire text with line ends as blanks.

use super::FAMILIES;
use crate::ctx::{Block, Ctx, Log, Wants};
use crate::keyspace::KeyHasher;
use crate::shard::{KeyEvent, Settings, Shard, notify};
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::{Reply, Version};
use std::sync::Arc;

pub struct Tester {
    pub shard: Shard,
    pub db: usize,
    pub version: Version,
    /// How the last command is logged.
    pub log: Log,
    /// What the last command waits for; its reply is empty then.
    pub block: Option<Block>,
    /// Commands run again for a client that they blocked.
    pub serving: bool,
}

impl Default for Tester {
    fn default() -> Self {
        Self::new()
    }
}

/// That a value was replaced goes without saying in most tests; the differential test compares it with Redis.
fn is_told(event: &KeyEvent) -> bool {
    event.class & (notify::OVERWRITTEN | notify::TYPE_CHANGED) == 0
}

impl Tester {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self::with(Settings::default())
    }
    /// With other settings, so that a test can be repeated for each encoding.
    pub fn with(settings: Settings) -> Self {
        let mut shard = Shard::new(Arc::new(settings), KeyHasher::new(3), 1_700_000_000_000, 5);
        shard.logging = true;
        Self {
            shard,
            db: 0,
            version: Version::Resp2,
            log: Log::Verbatim,
            block: None,
            serving: false,
        }
    }

    /// The raw reply to a line of words (`""` is the empty word; others go through [`Tester::run_words`]).
    pub fn run(&mut self, line: &str) -> Vec<u8> {
        let words: Vec<&[u8]> = line
            .split(' ')
            .map(|w| {
                if w == "\"\"" {
                    b"".as_slice()
                } else {
                    w.as_bytes()
                }
            })
            .collect();
        self.run_words(&words)
    }
    pub fn run_words(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let name = String::from_utf8(words[0].to_ascii_uppercase()).expect("a command's name");
        let mut full_name = name.to_lowercase();
        let mut command = FAMILIES
            .iter()
            .flat_map(|f| f.iter())
            .find(|c| c.name == name)
            .unwrap_or_else(|| panic!("no command {name}"));
        if !command.subcommands.is_empty() && words.len() > 1 {
            let sub = words[1].to_ascii_uppercase();
            if let Some(found) = command
                .subcommands
                .iter()
                .find(|c| c.name.as_bytes() == sub)
            {
                command = found;
                full_name = format!("{full_name}|{}", found.name.to_lowercase());
            }
        }
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, self.version);
        if !command.arity_fits(words.len()) {
            reply.command_error(&CommandError::WrongArity(full_name));
            return out;
        }
        let mark = reply.mark();
        let mut ctx = Ctx::new(&mut self.shard, self.db, reply, &[]);
        ctx.serving = self.serving;
        let result = (command.run)(&mut ctx, words);
        self.log = std::mem::take(&mut ctx.log);
        self.block = match ctx.wants.take().map(|wants| *wants) {
            Some(Wants::Change(block)) => Some(block),
            Some(Wants::Keys(keys)) => panic!("one shard reaches every key, {keys:?} too"),
            Some(Wants::Aside) => panic!("it must not ask for that"),
            None => None,
        };
        if let Err(e) = result {
            ctx.reply.rewind(mark);
            ctx.reply.command_error(&e);
        }
        self.shard.keyspace.check_invariants();
        out
    }

    /// Runs `line` and compares the reply, line ends shown as blanks.
    #[track_caller]
    pub fn check(&mut self, line: &str, expected: &str) -> &mut Self {
        let reply = self.run(line);
        let shown = String::from_utf8_lossy(&reply).replace("\r\n", " ");
        assert_eq!(shown.trim_end(), expected, "reply to {line}");
        self
    }
    /// Runs `line` and compares the key events: `event key`, with `db:` before it if it is another database than the current.
    #[track_caller]
    pub fn check_events(&mut self, line: &str, expected: &[&str]) -> &mut Self {
        self.shard.listening = true;
        self.run(line);
        self.shard.listening = false;
        let events: Vec<String> = std::mem::take(&mut self.shard.events)
            .into_iter()
            .filter(is_told)
            .map(|e| {
                let db = if e.db == self.db {
                    String::new()
                } else {
                    format!("{}:", e.db)
                };
                format!("{db}{} {}", e.event, String::from_utf8_lossy(&e.key))
            })
            .collect();
        assert_eq!(events, expected, "events of {line}");
        self
    }
    /// Compares how the last command is logged, if not in its own words.
    #[track_caller]
    pub fn check_log(&mut self, expected: &[&str]) -> &mut Self {
        let Log::As(commands) = &self.log else {
            panic!("logged {:?}, not as {expected:?}", self.log);
        };
        let lines: Vec<String> = commands
            .iter()
            .map(|words| String::from_utf8_lossy(&words.join(b" ".as_slice())).into_owned())
            .collect();
        assert_eq!(lines, expected);
        self
    }
    /// Lets time pass.
    pub fn advance(&mut self, ms: i64) -> &mut Self {
        self.shard.now_ms += ms;
        self
    }

    /// Collects events from now on, for [`Tester::check_new_events`].
    pub fn listen(&mut self) -> &mut Self {
        self.shard.listening = true;
        self
    }
    /// The events since the last call of this: `new k, set k`.
    #[track_caller]
    pub fn check_new_events(&mut self, expected: &str) -> &mut Self {
        let events: Vec<String> = std::mem::take(&mut self.shard.events)
            .into_iter()
            .filter(is_told)
            .map(|e| format!("{} {}", e.event, String::from_utf8_lossy(&e.key)))
            .collect();
        assert_eq!(events.join(", "), expected, "events");
        self
    }
    #[track_caller]
    pub fn check_log_verbatim(&mut self) -> &mut Self {
        assert!(matches!(self.log, Log::Verbatim), "logged {:?}", self.log);
        self
    }
    /// The encoding as OBJECT ENCODING names it.
    #[track_caller]
    pub fn check_encoding(&mut self, key: &str, expected: &str) -> &mut Self {
        let found = self.shard.key(key.as_bytes());
        let encoding = self
            .shard
            .keyspace
            .get(self.db, found)
            .map(|e| e.encoding());
        assert_eq!(
            encoding.map(|e| e.name()),
            Some(expected),
            "encoding of {key}"
        );
        self
    }
    /// When a key expires, in wall-clock milliseconds.
    pub fn expire_at(&self, key: &str) -> Option<i64> {
        let key = self.shard.key(key.as_bytes());
        self.shard.keyspace.get(self.db, key)?.expire_at()
    }
}
