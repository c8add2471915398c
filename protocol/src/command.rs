//! What a command declares about itself, once, beside its code.
//!
//! Everything else is derived from a declaration: lookup, arity, COMMAND INFO/DOCS/GETKEYS, ACL categories, routing
//! to the owning core, refusals (out of memory, read-only replica, loading), the generated docs and test streams.
//!
//! ```
//! use ringwood_protocol::command::*;
//! type Handler = fn();
//! fn get() {}
//! const GET: Command<Handler> = command("GET", exactly(2), get as Handler)
//!     .flags(READONLY | FAST).acl(acl::STRING)
//!     .keys(&[at(1).flags(RO | ACCESS)])
//!     .doc("Returns the string value of a key.", "O(1)", "1.0.0", "string")
//!     .args(&[key("key", 0)]);
//! assert_eq!(GET.arity, 2);
//! ```

/// One command or subcommand. `H` is the handler's type: the crates that run commands choose it.
#[derive(Clone, Copy)]
pub struct Command<H: Copy + 'static> {
    /// Upper case; of a subcommand only its own part ("GET" of "CONFIG GET").
    pub name: &'static str,
    /// As in Redis: the exact number of words with the name, or, negative, the least number.
    pub arity: i16,
    pub flags: u64,
    pub acl: u32,
    pub keys: &'static [KeySpec],
    pub doc: Doc,
    pub args: &'static [Arg],
    pub tips: &'static [&'static str],
    pub subcommands: &'static [Command<H>],
    pub route: Route,
    /// Which word is first looked up within the collection at the first key (a member, a field): its memory is asked for ahead. 0: none.
    pub element: u8,
    pub run: H,
}

/// Where a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// On the core that has the connection: it touches no keys.
    Connection,
    /// On the core that owns its keys. With keys on several cores one core borrows the others' entries.
    Owner,
    /// Each owner does its own keys' part in one step; the parts' replies are merged.
    Scatter(Merge),
    /// On the owner of the slot in the low 14 bits of the cursor, the second word (SCAN).
    Cursor,
    /// Every core does it, at one point in the transaction order; the replies are merged.
    AllShards(Merge),
}

/// How the replies of the parts make one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Integers are added.
    Sum,
    /// Every part answered OK; any error wins.
    Ok,
    /// Arrays with an element per key, put in the keys' order.
    ByKey,
    /// Arrays are joined in the cores' order.
    Concat,
    /// Each part answers an array of a count and a value; one value is picked with the counts as weights.
    WeightedPick,
}

/// The number of words is exactly `n`, the name counted.
pub const fn exactly(n: i16) -> i16 {
    n
}

/// The number of words is `n` or more, the name counted.
pub const fn at_least(n: i16) -> i16 {
    -n
}

// Command flags, with Redis's meanings.
pub const WRITE: u64 = 1 << 0;
pub const READONLY: u64 = 1 << 1;
pub const DENYOOM: u64 = 1 << 2;
pub const ADMIN: u64 = 1 << 3;
pub const PUBSUB: u64 = 1 << 4;
pub const NOSCRIPT: u64 = 1 << 5;
pub const BLOCKING: u64 = 1 << 6;
pub const LOADING: u64 = 1 << 7;
pub const STALE: u64 = 1 << 8;
pub const SKIP_MONITOR: u64 = 1 << 9;
pub const SKIP_SLOWLOG: u64 = 1 << 10;
pub const ASKING: u64 = 1 << 11;
pub const FAST: u64 = 1 << 12;
pub const NO_AUTH: u64 = 1 << 13;
/// Not shown by COMMAND INFO: reads by its other flags, but a replica may have to know of it (CLIENT PAUSE WRITE holds it).
pub const MAY_REPLICATE: u64 = 1 << 14;
pub const NO_MULTI: u64 = 1 << 15;
pub const MOVABLEKEYS: u64 = 1 << 16;
pub const ALLOW_BUSY: u64 = 1 << 17;
pub const NO_ASYNC_LOADING: u64 = 1 << 18;
pub const NO_MANDATORY_KEYS: u64 = 1 << 19;
pub const PROTECTED: u64 = 1 << 20;
pub const SENTINEL: u64 = 1 << 21;
pub const ONLY_SENTINEL: u64 = 1 << 22;
/// Ringwood's own: reads or changes more than the connection without naming keys, so it waits for the pipeline
/// before it and holds what comes after (design, section 5).
pub const BARRIER: u64 = 1 << 40;
/// Ringwood's own: not in Redis; left out of comparisons with Redis's command table.
pub const RINGWOOD_ONLY: u64 = 1 << 41;
/// Runs a Lua script.
pub const LUA: u64 = 1 << 42;
/// Is about several databases, of which a cluster's node has one.
pub const NOT_IN_CLUSTER: u64 = 1 << 43;

/// Flags as COMMAND INFO names them, in Redis's order of output.
pub const FLAG_NAMES: &[(u64, &str)] = &[
    (WRITE, "write"),
    (READONLY, "readonly"),
    (DENYOOM, "denyoom"),
    (ADMIN, "admin"),
    (PUBSUB, "pubsub"),
    (NOSCRIPT, "noscript"),
    (BLOCKING, "blocking"),
    (LOADING, "loading"),
    (STALE, "stale"),
    (SKIP_MONITOR, "skip_monitor"),
    (SKIP_SLOWLOG, "skip_slowlog"),
    (ASKING, "asking"),
    (FAST, "fast"),
    (NO_AUTH, "no_auth"),
    (SENTINEL, "sentinel"),
    (ONLY_SENTINEL, "only_sentinel"),
    (NO_MANDATORY_KEYS, "no_mandatory_keys"),
    (PROTECTED, "protected"),
    (NO_ASYNC_LOADING, "no_async_loading"),
    (NO_MULTI, "no_multi"),
    (MOVABLEKEYS, "movablekeys"),
    (ALLOW_BUSY, "allow_busy"),
];

/// ACL categories.
pub mod acl {
    pub const KEYSPACE: u32 = 1 << 0;
    pub const READ: u32 = 1 << 1;
    pub const WRITE: u32 = 1 << 2;
    pub const SET: u32 = 1 << 3;
    pub const SORTEDSET: u32 = 1 << 4;
    pub const LIST: u32 = 1 << 5;
    pub const HASH: u32 = 1 << 6;
    pub const STRING: u32 = 1 << 7;
    pub const BITMAP: u32 = 1 << 8;
    pub const HYPERLOGLOG: u32 = 1 << 9;
    pub const GEO: u32 = 1 << 10;
    pub const STREAM: u32 = 1 << 11;
    pub const PUBSUB: u32 = 1 << 12;
    pub const ADMIN: u32 = 1 << 13;
    pub const FAST: u32 = 1 << 14;
    pub const SLOW: u32 = 1 << 15;
    pub const BLOCKING: u32 = 1 << 16;
    pub const DANGEROUS: u32 = 1 << 17;
    pub const CONNECTION: u32 = 1 << 18;
    pub const TRANSACTION: u32 = 1 << 19;
    pub const SCRIPTING: u32 = 1 << 20;

    /// Names in Redis's order.
    pub const NAMES: &[(u32, &str)] = &[
        (KEYSPACE, "keyspace"),
        (READ, "read"),
        (WRITE, "write"),
        (SET, "set"),
        (SORTEDSET, "sortedset"),
        (LIST, "list"),
        (HASH, "hash"),
        (STRING, "string"),
        (BITMAP, "bitmap"),
        (HYPERLOGLOG, "hyperloglog"),
        (GEO, "geo"),
        (STREAM, "stream"),
        (PUBSUB, "pubsub"),
        (ADMIN, "admin"),
        (FAST, "fast"),
        (SLOW, "slow"),
        (BLOCKING, "blocking"),
        (DANGEROUS, "dangerous"),
        (CONNECTION, "connection"),
        (TRANSACTION, "transaction"),
        (SCRIPTING, "scripting"),
    ];
}

// Key spec flags, with Redis's meanings.
pub const RW: u32 = 1 << 0;
pub const RO: u32 = 1 << 1;
pub const OW: u32 = 1 << 2;
pub const RM: u32 = 1 << 3;
pub const ACCESS: u32 = 1 << 4;
pub const UPDATE: u32 = 1 << 5;
pub const INSERT: u32 = 1 << 6;
pub const DELETE: u32 = 1 << 7;
pub const NOT_KEY: u32 = 1 << 8;
pub const INCOMPLETE: u32 = 1 << 9;
pub const VARIABLE_FLAGS: u32 = 1 << 10;

/// Key spec flags as COMMAND INFO names them.
pub const KEY_FLAG_NAMES: &[(u32, &str)] = &[
    (RO, "RO"),
    (RW, "RW"),
    (OW, "OW"),
    (RM, "RM"),
    (ACCESS, "access"),
    (UPDATE, "update"),
    (INSERT, "insert"),
    (DELETE, "delete"),
    (NOT_KEY, "not_key"),
    (INCOMPLETE, "incomplete"),
    (VARIABLE_FLAGS, "variable_flags"),
];

/// The index of a key among a command's words, its name first.
pub type KeyFinder = fn(&[&[u8]]) -> Option<usize>;

/// The indexes of all keys of a spec among a command's words. `None`: the words do not fit.
pub type RangeFinder = fn(&[&[u8]]) -> Option<std::ops::Range<usize>>;

/// Where the keys of a command are.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    pub begin: BeginSearch,
    pub find: FindKeys,
    pub flags: u32,
    pub notes: &'static str,
    /// The key's index among the words, for a key whose place the fields above cannot say.
    pub finder: Option<KeyFinder>,
    /// Finds what the fields above say only nearly.
    pub exactly: Option<RangeFinder>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeginSearch {
    Index(u16),
    /// After this word, looked for from `start` on (negative: backwards from the end).
    Keyword {
        word: &'static str,
        start: i16,
    },
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindKeys {
    /// `last`: relative to the first, negative counts from the end of the arguments (-1: the last argument);
    /// `limit`: with a negative `last`, stop at 1/limit of the remaining arguments (0: no limit).
    Range {
        last: i16,
        step: u16,
        limit: u16,
    },
    /// The word at `keynum` (relative to the begin) says how many keys follow from `first`.
    KeyNum {
        keynum: u16,
        first: u16,
        step: u16,
    },
    Unknown,
}

/// One key at this index.
pub const fn at(index: u16) -> KeySpec {
    KeySpec {
        begin: BeginSearch::Index(index),
        find: FindKeys::Range {
            last: 0,
            step: 1,
            limit: 0,
        },
        flags: 0,
        notes: "",
        finder: None,
        exactly: None,
    }
}

/// A key after a keyword.
pub const fn after(word: &'static str, start: i16) -> KeySpec {
    KeySpec {
        begin: BeginSearch::Keyword { word, start },
        ..at(0)
    }
}

/// Keys whose place cannot be declared, or that are no words of the command at all.
pub const fn unknown() -> KeySpec {
    KeySpec {
        begin: BeginSearch::Unknown,
        find: FindKeys::Unknown,
        ..at(0)
    }
}

impl KeySpec {
    pub const fn flags(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }
    pub const fn notes(mut self, notes: &'static str) -> Self {
        self.notes = notes;
        self
    }
    /// Finds a key whose place cannot be declared.
    pub const fn found_by(mut self, finder: KeyFinder) -> Self {
        self.finder = Some(finder);
        self
    }
    /// Finds keys whose place the declaration says only nearly.
    pub const fn exactly(mut self, finder: RangeFinder) -> Self {
        self.exactly = Some(finder);
        self
    }
    /// All arguments from the first key to `last` (see [`FindKeys::Range`]).
    pub const fn range(mut self, last: i16, step: u16, limit: u16) -> Self {
        self.find = FindKeys::Range { last, step, limit };
        self
    }
    /// A counted list of keys (see [`FindKeys::KeyNum`]).
    pub const fn keynum(mut self, keynum: u16, first: u16, step: u16) -> Self {
        self.find = FindKeys::KeyNum {
            keynum,
            first,
            step,
        };
        self
    }
    pub const fn find_unknown(mut self) -> Self {
        self.find = FindKeys::Unknown;
        self
    }

    /// Whether it is a range to the last word in which there are no words (PFMERGE without sources). [`KeySpec::each_key`] says that
    /// the words do not fit, as COMMAND GETKEYS does; the command runs all the same.
    pub fn is_empty(&self, args: &[&[u8]]) -> bool {
        let to_the_end = matches!(self.find, FindKeys::Range { last: -1, .. });
        to_the_end
            && matches!(self.begin, BeginSearch::Index(first) if first as usize == args.len())
    }
    /// Calls `found` with the index of every key of `args` (the command name is index 0), in order.
    /// False when the arguments do not fit the spec (a key count that is no number, say).
    pub fn each_key(&self, args: &[&[u8]], mut found: impl FnMut(usize)) -> bool {
        if let Some(exactly) = self.exactly {
            let range = exactly(args);
            let fits = range.is_some();
            range.into_iter().flatten().for_each(found);
            return fits;
        }
        if self.begin == BeginSearch::Unknown {
            // Without a finder they are no words of the command: it learns of them as it runs.
            self.finder.and_then(|find| find(args)).map(&mut found);
            return true;
        }
        let first = match self.begin {
            BeginSearch::Index(i) => i as usize,
            BeginSearch::Keyword { word, start } => {
                let is_word = |i: usize| args[i].eq_ignore_ascii_case(word.as_bytes());
                let at = if start > 0 {
                    (start as usize..args.len()).find(|&i| is_word(i))
                } else {
                    let from = args.len().saturating_sub(start.unsigned_abs() as usize);
                    (1..=from.min(args.len().saturating_sub(1)))
                        .rev()
                        .find(|&i| is_word(i))
                };
                match at {
                    Some(i) => i + 1,
                    None => return true,
                }
            }
            BeginSearch::Unknown => return true,
        };
        let (first, last, step) = match self.find {
            FindKeys::Range { last, step, limit } => {
                let last = if last >= 0 {
                    first + last as usize
                } else if limit <= 1 {
                    match (args.len() + 1).checked_sub(1 + last.unsigned_abs() as usize) {
                        Some(l) => l,
                        None => return false,
                    }
                } else {
                    match (args.len().saturating_sub(first)) / limit as usize {
                        0 => return false,
                        n => first + n - 1,
                    }
                };
                (first, last, step.max(1) as usize)
            }
            FindKeys::KeyNum {
                keynum,
                first: offset,
                step,
            } => {
                let Some(count) = args
                    .get(first + keynum as usize)
                    .and_then(|w| std::str::from_utf8(w).ok())
                    .and_then(|w| w.parse::<usize>().ok())
                else {
                    return false;
                };
                if count == 0 {
                    return true;
                }
                let begin = first + offset as usize;
                let step = step.max(1) as usize;
                let Some(last) = (count - 1)
                    .checked_mul(step)
                    .and_then(|n| n.checked_add(begin))
                else {
                    return false;
                };
                (begin, last, step)
            }
            FindKeys::Unknown => return false,
        };
        if last >= args.len() || first > last {
            return false;
        }
        (first..=last).step_by(step).for_each(&mut found);
        true
    }
}

/// What COMMAND DOCS says about a command.
#[derive(Clone, Copy, Debug)]
pub struct Doc {
    pub summary: &'static str,
    pub complexity: &'static str,
    pub since: &'static str,
    pub group: &'static str,
    pub deprecated_since: &'static str,
    pub replaced_by: &'static str,
    /// (version, change)
    pub history: &'static [(&'static str, &'static str)],
    /// A system command: "syscmd" in doc_flags.
    pub syscmd: bool,
}

/// An argument, or a group of arguments, of a command's syntax.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    pub name: &'static str,
    pub kind: ArgKind,
    /// The word before the argument, or the word that it is (pure tokens).
    pub token: &'static str,
    pub display: &'static str,
    pub summary: &'static str,
    pub since: &'static str,
    pub deprecated_since: &'static str,
    pub optional: bool,
    pub multiple: bool,
    pub multiple_token: bool,
    /// Which key spec a key argument belongs to.
    pub key_spec: Option<u8>,
    pub members: &'static [Arg],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgKind {
    String,
    Integer,
    Double,
    Key,
    Pattern,
    UnixTime,
    PureToken,
    OneOf,
    Block,
}

pub const fn arg(name: &'static str, kind: ArgKind) -> Arg {
    Arg {
        name,
        kind,
        token: "",
        display: "",
        summary: "",
        since: "",
        deprecated_since: "",
        optional: false,
        multiple: false,
        multiple_token: false,
        key_spec: None,
        members: &[],
    }
}
pub const fn key(name: &'static str, key_spec: u8) -> Arg {
    Arg {
        key_spec: Some(key_spec),
        ..arg(name, ArgKind::Key)
    }
}
pub const fn string(name: &'static str) -> Arg {
    arg(name, ArgKind::String)
}
pub const fn integer(name: &'static str) -> Arg {
    arg(name, ArgKind::Integer)
}
pub const fn double(name: &'static str) -> Arg {
    arg(name, ArgKind::Double)
}
pub const fn pattern(name: &'static str) -> Arg {
    arg(name, ArgKind::Pattern)
}
pub const fn unix_time(name: &'static str) -> Arg {
    arg(name, ArgKind::UnixTime)
}
/// A word by itself, such as NX.
pub const fn word(name: &'static str, token: &'static str) -> Arg {
    Arg {
        token,
        ..arg(name, ArgKind::PureToken)
    }
}
pub const fn one_of(name: &'static str, members: &'static [Arg]) -> Arg {
    Arg {
        members,
        ..arg(name, ArgKind::OneOf)
    }
}
pub const fn block(name: &'static str, members: &'static [Arg]) -> Arg {
    Arg {
        members,
        ..arg(name, ArgKind::Block)
    }
}

impl Arg {
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
    pub const fn multiple(mut self) -> Self {
        self.multiple = true;
        self
    }
    pub const fn multiple_token(mut self) -> Self {
        self.multiple_token = true;
        self
    }
    pub const fn token(mut self, token: &'static str) -> Self {
        self.token = token;
        self
    }
    pub const fn display(mut self, display: &'static str) -> Self {
        self.display = display;
        self
    }
    pub const fn summary(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }
    pub const fn since(mut self, since: &'static str) -> Self {
        self.since = since;
        self
    }
    pub const fn deprecated_since(mut self, version: &'static str) -> Self {
        self.deprecated_since = version;
        self
    }
}

/// Starts a declaration.
pub const fn command<H: Copy>(name: &'static str, arity: i16, run: H) -> Command<H> {
    Command {
        name,
        arity,
        flags: 0,
        acl: 0,
        keys: &[],
        doc: Doc {
            summary: "",
            complexity: "",
            since: "",
            group: "",
            deprecated_since: "",
            replaced_by: "",
            history: &[],
            syscmd: false,
        },
        args: &[],
        tips: &[],
        subcommands: &[],
        route: Route::Owner,
        element: 0,
        run,
    }
}

impl<H: Copy> Command<H> {
    pub const fn flags(mut self, flags: u64) -> Self {
        self.flags = flags;
        self
    }
    /// The categories of the command's group. READ, WRITE, FAST, SLOW, ADMIN… follow from the flags
    /// (see [`Command::acl_categories`]).
    pub const fn acl(mut self, categories: u32) -> Self {
        self.acl = categories;
        self
    }
    pub const fn keys(mut self, keys: &'static [KeySpec]) -> Self {
        self.keys = keys;
        self
    }
    /// See [`Command::element`].
    pub const fn element(mut self, word: u8) -> Self {
        self.element = word;
        self
    }
    pub const fn doc(
        mut self,
        summary: &'static str,
        complexity: &'static str,
        since: &'static str,
        group: &'static str,
    ) -> Self {
        self.doc.summary = summary;
        self.doc.complexity = complexity;
        self.doc.since = since;
        self.doc.group = group;
        self
    }
    pub const fn deprecated(mut self, since: &'static str, replaced_by: &'static str) -> Self {
        self.doc.deprecated_since = since;
        self.doc.replaced_by = replaced_by;
        self
    }
    pub const fn history(mut self, history: &'static [(&'static str, &'static str)]) -> Self {
        self.doc.history = history;
        self
    }
    pub const fn syscmd(mut self) -> Self {
        self.doc.syscmd = true;
        self
    }
    pub const fn args(mut self, args: &'static [Arg]) -> Self {
        self.args = args;
        self
    }
    pub const fn tips(mut self, tips: &'static [&'static str]) -> Self {
        self.tips = tips;
        self
    }
    pub const fn subcommands(mut self, subcommands: &'static [Command<H>]) -> Self {
        self.subcommands = subcommands;
        self
    }
    pub const fn route(mut self, route: Route) -> Self {
        self.route = route;
        self
    }

    /// All ACL categories: the declared ones and those that Redis derives from the flags.
    pub const fn acl_categories(&self) -> u32 {
        let mut c = self.acl;
        if self.flags & WRITE != 0 {
            c |= acl::WRITE;
        }
        if self.flags & READONLY != 0 && self.acl & acl::SCRIPTING == 0 {
            c |= acl::READ;
        }
        if self.flags & ADMIN != 0 {
            c |= acl::ADMIN | acl::DANGEROUS;
        }
        if self.flags & PUBSUB != 0 {
            c |= acl::PUBSUB;
        }
        if self.flags & FAST != 0 {
            c |= acl::FAST;
        }
        if self.flags & BLOCKING != 0 {
            c |= acl::BLOCKING;
        }
        if c & acl::FAST == 0 {
            c |= acl::SLOW;
        }
        c
    }

    /// True when `count` words (the name included) are enough and not too many.
    #[inline]
    pub const fn arity_fits(&self, count: usize) -> bool {
        if self.arity >= 0 {
            count == self.arity as usize
        } else {
            count >= self.arity.unsigned_abs() as usize
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(spec: KeySpec, line: &str) -> Option<Vec<usize>> {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut found = Vec::new();
        spec.each_key(&args, |i| found.push(i)).then_some(found)
    }

    #[test]
    fn key_specs_find_keys() {
        assert_eq!(keys(at(1), "GET k"), Some(vec![1]));
        assert_eq!(
            keys(at(1).range(-1, 1, 0), "DEL a b c"),
            Some(vec![1, 2, 3])
        );
        assert_eq!(
            keys(at(1).range(-1, 2, 0), "MSET a 1 b 2"),
            Some(vec![1, 3])
        );
        assert_eq!(
            keys(at(2).keynum(0, 1, 1), "EVAL x 2 a b c"),
            Some(vec![3, 4])
        );
        assert_eq!(keys(at(2).keynum(0, 1, 1), "EVAL x 9 a b c"), None);
        assert_eq!(keys(at(2).keynum(0, 1, 1), "EVAL x y a"), None);
        assert_eq!(
            keys(
                after("STREAMS", 1).range(-1, 1, 2),
                "XREAD COUNT 1 STREAMS a b 0 0"
            ),
            Some(vec![4, 5])
        );
        assert_eq!(keys(at(1).range(-2, 1, 0), "BLPOP a b 0"), Some(vec![1, 2]));
    }
}
