//! What a command may look like: small tables from which random commands are drawn.
//!
//! A family's file lists its commands as [`Spec`]s over [`Arg`]s. Most draws are valid, so that there is state to work
//! on; a few per cent go wrong on purpose (odd numbers, wrong types, missing or extra arguments). Names of keys say
//! their type, so that commands of one type mostly meet keys of that type, and half of them carry a hash tag, so that
//! commands with several keys meet keys of one slot, of one core and of several cores.

use crate::compare::Check;
use crate::random::Random;
use crate::scripts::{self, Form, Known};

/// Which pool a key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    List,
    Hash,
    Set,
    Zset,
    Stream,
    Bits,
    Geo,
    Hll,
    /// Sorted sets whose scores are all 0, and nothing else: ranges by member are only defined there.
    Lex,
    /// Any of the above.
    Any,
}

const KINDS: [(Kind, &str); 9] = [
    (Kind::String, "str"),
    (Kind::List, "list"),
    (Kind::Hash, "hash"),
    (Kind::Set, "set"),
    (Kind::Zset, "zset"),
    (Kind::Stream, "stream"),
    (Kind::Bits, "bits"),
    (Kind::Geo, "geo"),
    (Kind::Hll, "hll"),
];

/// One argument, or a pattern of several.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    Key(Kind),
    /// A keyword, in mixed case.
    Word(&'static str),
    /// Exactly these bytes.
    Raw(&'static str),
    /// A value to store: empty, short, numeric, binary, around the embstr limit, long.
    Value,
    /// A value of a small pool, so that the same ones meet again.
    Member,
    Field,
    /// Any integer, also too large and malformed ones.
    Integer,
    /// An integer of a range, seldom an odd one.
    Within(i64, i64),
    /// A position, mostly near the ends.
    Index,
    Float,
    /// A sorted set's score.
    Score,
    /// A bound of a range of scores, as `(1.5`.
    ScoreBound,
    /// A bound of a range of members, as `[b`.
    LexBound,
    Longitude,
    Latitude,
    /// Times to live that cannot run out during a stream, or that are over at once.
    Seconds,
    Millis,
    UnixSeconds,
    UnixMillis,
    /// The same, never in the past: SET keeps a key that is over until someone asks for it, and others count it.
    LaterSeconds,
    LaterMillis,
    Pattern,
    StreamId,
    /// A new entry's id, mostly above the ones before.
    NewStreamId,
    /// Half of the time.
    Maybe(&'static [Arg]),
    /// One time in ten.
    Seldom(&'static [Arg]),
    /// One of these.
    OneOf(&'static [&'static [Arg]]),
    /// Some of these, in any order, seldom one twice.
    SomeOf(&'static [&'static [Arg]]),
    /// From so many to so many times.
    Times(usize, usize, &'static [Arg]),
    /// A count, then that many; the count is seldom wrong.
    Counted(&'static [Arg]),
    /// A random script or function, and what it is called with.
    Program(Form),
    /// The digest of a script that was sent.
    Script,
}

/// Which real servers a command is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Every one that knows it.
    Redis70,
    /// Both newer ones: 7.0 answers otherwise.
    Newer,
    /// Only Redis 8.2: newer than 7.0, or not in Valkey.
    Redis82,
    /// Only Valkey 9.1.
    Valkey91,
}

#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// With its subcommand, if any: `OBJECT ENCODING`.
    pub name: &'static str,
    pub args: &'static [Arg],
    pub check: Check,
    pub weight: usize,
    pub from: From,
    /// Runs first, on the same first key: the check looks at its reply.
    pub ask_encoding: bool,
    /// The first key is deleted afterwards: the command changes it at random.
    pub discard: bool,
    /// Milliseconds to wait before what comes after, so that what was given a short life is gone everywhere.
    pub pause: u64,
    /// May be broken on purpose. Not where a changed argument could stop the server for ever.
    pub spoils: bool,
}

pub const fn spec(name: &'static str, args: &'static [Arg]) -> Spec {
    Spec {
        name,
        args,
        check: Check::Exact,
        weight: 4,
        from: From::Redis70,
        ask_encoding: false,
        discard: false,
        pause: 0,
        spoils: true,
    }
}

impl Spec {
    pub const fn check(mut self, check: Check) -> Self {
        self.check = check;
        self
    }

    pub const fn weight(mut self, weight: usize) -> Self {
        self.weight = weight;
        self
    }

    pub const fn from(mut self, from: From) -> Self {
        self.from = from;
        self
    }

    /// The order of the reply counts only where the value is packed.
    pub const fn unordered_unless_packed(mut self, check: Check) -> Self {
        self.ask_encoding = true;
        self.check = check;
        self
    }

    pub const fn discard(mut self) -> Self {
        self.discard = true;
        self
    }

    pub const fn pause(mut self, pause: u64) -> Self {
        self.pause = pause;
        self
    }

    pub const fn never_spoilt(mut self) -> Self {
        self.spoils = false;
        self
    }

    /// As COMMAND INFO names it: `object|encoding`.
    pub fn info_name(&self) -> String {
        self.name.to_ascii_lowercase().replace(' ', "|")
    }
}

/// What the harness sends for one draw, and how it compares the main reply.
#[derive(Clone, Debug)]
pub struct Step {
    pub before: Option<Vec<Vec<u8>>>,
    pub command: Vec<Vec<u8>>,
    pub after: Option<Vec<Vec<u8>>>,
    pub check: Check,
    pub pause: u64,
    pub name: &'static str,
}

/// Draws commands from specs.
pub struct Generator<'a> {
    pub random: Random,
    /// Scripts and functions that were sent.
    pub programs: Vec<Known>,
    pub functions: Vec<Known>,
    specs: Vec<&'a Spec>,
    total: usize,
    /// The last number of a stream id given out, so that ids mostly rise.
    stream_id: u64,
    now_ms: i64,
}

impl<'a> Generator<'a> {
    pub fn new(seed: u64, specs: Vec<&'a Spec>) -> Self {
        let total = specs.iter().map(|spec| spec.weight).sum();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        // Absolute times lie years ahead, so a stream drawn again from its seed tomorrow differs only in them.
        Self {
            random: Random::new(seed),
            programs: Vec::new(),
            functions: Vec::new(),
            specs,
            total,
            stream_id: 0,
            now_ms: now.as_millis() as i64,
        }
    }

    pub fn step(&mut self) -> Step {
        let mut at = self.random.below(self.total);
        let mut chosen = self.specs[0];
        for spec in &self.specs {
            if at < spec.weight {
                chosen = spec;
                break;
            }
            at -= spec.weight;
        }
        self.draw(chosen)
    }

    fn draw(&mut self, spec: &Spec) -> Step {
        let mut command: Vec<Vec<u8>> = Vec::new();
        for word in spec.name.split(' ') {
            let word = self.cased(word);
            command.push(word);
        }
        let words = command.len();
        let mut key = None;
        self.expand(spec.args, &mut command, &mut key);
        let mut check = spec.check;
        let spoilt = spec.spoils && self.random.chance(3);
        if spoilt {
            self.spoil(&mut command, words);
            // Its cursor or its key may be another one now: only errors can be compared.
            if check == Check::Scan {
                check = Check::Type;
            }
        }
        let about = |name: &str, rest: &[&str]| {
            key.clone().map(|key| {
                let mut command = vec![name.as_bytes().to_vec()];
                command.extend(rest.iter().map(|word| word.as_bytes().to_vec()));
                command.push(key);
                command
            })
        };
        Step {
            before: if spec.ask_encoding && !spoilt {
                about("OBJECT", &["ENCODING"])
            } else {
                None
            },
            after: match (spec.discard, spec.pause) {
                (true, _) => about("DEL", &[]),
                // Being asked for it, a server forgets it: until then a key that is over may still be counted.
                (false, 1..) => about("EXISTS", &[]),
                _ => None,
            },
            command,
            check,
            pause: spec.pause,
            name: spec.name,
        }
    }

    /// A command that a script may call, and its name; nothing where the servers have none.
    pub fn inner_command(&mut self) -> Option<(&'static str, Vec<Vec<u8>>)> {
        let specs = crate::called_by_scripts();
        let total: usize = specs.iter().map(|spec| spec.weight).sum();
        let mut at = self.random.below(total.max(1));
        let spec = specs.iter().find(|spec| {
            let found = at < spec.weight;
            at = at.wrapping_sub(spec.weight);
            found
        })?;
        Some((spec.name, self.draw(spec).command))
    }

    /// Breaks a command: an argument lost, doubled, added or replaced.
    fn spoil(&mut self, command: &mut Vec<Vec<u8>>, words: usize) {
        let has_args = command.len() > words;
        let at = words
            + if has_args {
                self.random.below(command.len() - words)
            } else {
                0
            };
        match self.random.below(4) {
            0 if has_args => {
                command.remove(at);
            }
            1 if has_args => command.insert(at, command[at].clone()),
            2 if has_args => command[at] = self.odd(),
            _ => {
                let odd = self.odd();
                command.push(odd);
            }
        }
    }

    fn odd(&mut self) -> Vec<u8> {
        const ODD: [&[u8]; 15] = [
            b"",
            b"-1",
            b"0",
            b"abc",
            b"1.5",
            b"9223372036854775807",
            b"-9223372036854775808",
            b"9223372036854775808",
            b"nan",
            b"-inf",
            b" 1",
            b"1 ",
            b"\x00\xff\r\n",
            b"NX",
            b"18446744073709551616",
        ];
        self.random.pick(&ODD).to_vec()
    }

    fn cased(&mut self, word: &str) -> Vec<u8> {
        match self.random.below(4) {
            0 | 1 => word.as_bytes().to_vec(),
            2 => word.to_ascii_lowercase().into_bytes(),
            _ => {
                let random = &mut self.random;
                word.bytes()
                    .map(|byte| {
                        if random.chance(50) {
                            byte.to_ascii_lowercase()
                        } else {
                            byte.to_ascii_uppercase()
                        }
                    })
                    .collect()
            }
        }
    }

    fn key(&mut self, kind: Kind) -> Vec<u8> {
        const STRANGE: [&[u8]; 8] = [
            b"",
            b"with space",
            b"\x00\x01\r\n",
            b"{}x",
            b"{",
            b"{a}{b}",
            b"a{b}c",
            b"}{",
        ];
        if kind == Kind::Lex {
            let number = self.random.below(3);
            return format!("{}lex:{number}", self.random.pick(&["", "{a}"])).into_bytes();
        }
        if self.random.chance(2) {
            return if self.random.chance(15) {
                vec![b'k'; 300]
            } else {
                self.random.pick(&STRANGE).to_vec()
            };
        }
        let wrong = kind == Kind::Any || self.random.chance(7);
        let name = if wrong {
            self.random.pick(&KINDS).1
        } else {
            KINDS
                .iter()
                .find(|(known, _)| *known == kind)
                .map_or("str", |(_, name)| name)
        };
        let number = self.random.below(4);
        match self.random.below(4) {
            0 | 1 => format!("{name}:{number}"),
            2 => format!("{{a}}{name}:{number}"),
            _ => format!("{name}:{{b}}:{number}"),
        }
        .into_bytes()
    }

    fn value(&mut self) -> Vec<u8> {
        const VALUES: [&[u8]; 22] = [
            b"",
            b"a",
            b"hello",
            b"0",
            b"1",
            b"-1",
            b"10",
            b"12345678901",
            b"9223372036854775807",
            b"-9223372036854775808",
            b"9223372036854775808",
            b"3.14",
            b"1e10",
            b" 12",
            b"+5",
            b"007",
            b"-0",
            b"\x00\xff\r\n",
            b"\xc3\xa9t\xc3\xa9",
            b"foobar",
            b"*2\r\n$3\r\nGET\r\n",
            b"inf",
        ];
        match self.random.below(40) {
            0 => self.bytes_of(44),
            1 => self.bytes_of(45),
            2 => self.bytes_of(64),
            3 => self.bytes_of(65),
            4 => {
                let length = self.random.below(2000);
                self.bytes_of(length)
            }
            5 if self.random.chance(20) => {
                let length = self.random.below(80_000);
                self.bytes_of(length)
            }
            6..=12 => self.random.range(-100, 1000).to_string().into_bytes(),
            _ => self.random.pick(&VALUES).to_vec(),
        }
    }

    fn bytes_of(&mut self, length: usize) -> Vec<u8> {
        let letter = b'a' + self.random.below(26) as u8;
        (0..length)
            .map(|at| if at % 7 == 0 { b'-' } else { letter })
            .collect()
    }

    fn integer(&mut self) -> Vec<u8> {
        const LARGE: [i64; 10] = [
            i64::MAX,
            i64::MIN,
            i64::MAX - 1,
            i64::MIN + 1,
            1 << 32,
            1 << 31,
            -(1 << 31) - 1,
            4_294_967_295,
            1 << 40,
            0,
        ];
        match self.random.below(20) {
            0 => self.odd(),
            1 | 2 => self.random.pick(&LARGE).to_string().into_bytes(),
            _ => self.random.range(-20, 200).to_string().into_bytes(),
        }
    }

    fn within(&mut self, low: i64, high: i64) -> Vec<u8> {
        match self.random.below(30) {
            0 => self.odd(),
            1 => (low - 1).to_string().into_bytes(),
            _ => self.random.range(low, high).to_string().into_bytes(),
        }
    }

    fn float(&mut self) -> Vec<u8> {
        const FLOATS: [&str; 24] = [
            "0",
            "1",
            "-1",
            "0.1",
            "-0.1",
            "1.5",
            "3.14159265358979",
            "1e3",
            "1e-7",
            "-1.5e5",
            "1e17",
            "1e21",
            "1e308",
            "-1e308",
            "0.00001",
            "123456789.123456789",
            "17179869184",
            "4503599627370496.5",
            "9007199254740993",
            "5.0",
            "+2",
            ".5",
            "1.",
            "2e",
        ];
        const SPECIAL: [&str; 8] = [
            "inf", "-inf", "+inf", "nan", "Infinity", "0x10", "1e400", "-0",
        ];
        match self.random.below(24) {
            0 => self.odd(),
            1 => self.random.pick(&SPECIAL).as_bytes().to_vec(),
            2..=9 => {
                format!("{}.{}", self.random.range(-50, 50), self.random.below(1000)).into_bytes()
            }
            10..=14 => self.random.range(-50, 50).to_string().into_bytes(),
            _ => self.random.pick(&FLOATS).as_bytes().to_vec(),
        }
    }

    fn pattern(&mut self) -> Vec<u8> {
        const PATTERNS: [&[u8]; 20] = [
            b"*",
            b"str*",
            b"*:1",
            b"?tr:*",
            b"[sl]*",
            b"[^s]*",
            b"{a}*",
            b"*{b}*",
            b"\\*",
            b"list:[0-2]",
            b"nomatch",
            b"",
            b"**:*",
            b"str:[",
            b"hash:[3-0]",
            b"*\\",
            b"m?",
            b"m*",
            b"f[0-9]*",
            b"*[",
        ];
        self.random.pick(&PATTERNS).to_vec()
    }

    fn stream_id(&mut self) -> Vec<u8> {
        match self.random.below(14) {
            0 => b"0".to_vec(),
            1 => b"0-0".to_vec(),
            2 => b"18446744073709551615-18446744073709551615".to_vec(),
            3 => self.odd(),
            4 => {
                const ODD: [&[u8]; 12] = [
                    b"1-",
                    b"-1",
                    b"-",
                    b"+",
                    b"1-1-1",
                    b"01-02",
                    b" 1-1",
                    b"1- 1",
                    b"+1-+1",
                    b"1-18446744073709551615",
                    b"18446744073709551615",
                    b"1-18446744073709551616",
                ];
                self.random.pick(&ODD).to_vec()
            }
            5 => self.random.below(12).to_string().into_bytes(),
            _ => format!("{}-{}", self.random.below(30), self.random.below(3)).into_bytes(),
        }
    }

    fn expand(&mut self, args: &[Arg], out: &mut Vec<Vec<u8>>, key: &mut Option<Vec<u8>>) {
        for arg in args {
            self.expand_one(arg, out, key);
        }
    }

    fn expand_one(&mut self, arg: &Arg, out: &mut Vec<Vec<u8>>, key: &mut Option<Vec<u8>>) {
        let one = match *arg {
            Arg::Key(kind) => {
                let name = self.key(kind);
                if key.is_none() {
                    *key = Some(name.clone());
                }
                name
            }
            Arg::Word(word) => self.cased(word),
            Arg::Raw(text) => text.as_bytes().to_vec(),
            Arg::Value => self.value(),
            Arg::Member => match self.random.below(12) {
                0 => self.value(),
                1..=4 => self.random.range(-3, 30).to_string().into_bytes(),
                _ => format!("m{}", self.random.below(12)).into_bytes(),
            },
            Arg::Field => match self.random.below(15) {
                0 => self.value(),
                _ => format!("f{}", self.random.below(10)).into_bytes(),
            },
            Arg::Integer => self.integer(),
            Arg::Within(low, high) => self.within(low, high),
            Arg::Index => match self.random.below(12) {
                0 => self.integer(),
                _ => self.random.range(-8, 8).to_string().into_bytes(),
            },
            Arg::Float => self.float(),
            Arg::Score => match self.random.below(3) {
                0 => self.float(),
                _ => self.random.range(-5, 15).to_string().into_bytes(),
            },
            Arg::ScoreBound => match self.random.below(8) {
                0 => b"-inf".to_vec(),
                1 => b"+inf".to_vec(),
                2 => self.float(),
                3 | 4 => format!("({}", self.random.range(-6, 16)).into_bytes(),
                _ => self.random.range(-6, 16).to_string().into_bytes(),
            },
            Arg::LexBound => match self.random.below(8) {
                0 | 1 => b"-".to_vec(),
                2 | 3 => b"+".to_vec(),
                4 => format!("(m{}", self.random.below(12)).into_bytes(),
                5 if self.random.chance(20) => self.odd(),
                _ => format!("[m{}", self.random.below(12)).into_bytes(),
            },
            Arg::Longitude => match self.random.below(25) {
                0 => b"181".to_vec(),
                1 => self.odd(),
                _ => format!(
                    "{}.{}",
                    self.random.range(-179, 179),
                    self.random.below(1000)
                )
                .into_bytes(),
            },
            Arg::Latitude => match self.random.below(25) {
                0 => b"86".to_vec(),
                1 => self.odd(),
                _ => format!("{}.{}", self.random.range(-84, 84), self.random.below(1000))
                    .into_bytes(),
            },
            Arg::Seconds => match self.random.below(15) {
                0 => self.odd(),
                1 => b"0".to_vec(),
                2 => self.random.range(-100, -1).to_string().into_bytes(),
                _ => self.random.range(1000, 100_000).to_string().into_bytes(),
            },
            Arg::Millis => match self.random.below(15) {
                0 => self.odd(),
                1 => b"0".to_vec(),
                2 => self.random.range(-100_000, -1).to_string().into_bytes(),
                _ => self
                    .random
                    .range(1_000_000, 100_000_000)
                    .to_string()
                    .into_bytes(),
            },
            Arg::LaterSeconds => (self.now_ms / 1000 + self.random.range(10_000, 1_000_000))
                .to_string()
                .into_bytes(),
            Arg::LaterMillis => (self.now_ms + self.random.range(10_000_000, 1_000_000_000))
                .to_string()
                .into_bytes(),
            Arg::UnixSeconds => match self.random.below(12) {
                0 => self.odd(),
                1 => self.random.range(1, 1000).to_string().into_bytes(),
                _ => (self.now_ms / 1000 + self.random.range(10_000, 1_000_000))
                    .to_string()
                    .into_bytes(),
            },
            Arg::UnixMillis => match self.random.below(12) {
                0 => self.odd(),
                1 => self.random.range(1, 1000).to_string().into_bytes(),
                _ => (self.now_ms + self.random.range(10_000_000, 1_000_000_000))
                    .to_string()
                    .into_bytes(),
            },
            Arg::Pattern => self.pattern(),
            Arg::StreamId => self.stream_id(),
            Arg::NewStreamId => match self.random.below(10) {
                0 => self.stream_id(),
                1 => format!("{}-*", self.stream_id).into_bytes(),
                _ => {
                    self.stream_id += self.random.below(2) as u64;
                    format!("{}-{}", self.stream_id, self.random.range(1, 9)).into_bytes()
                }
            },
            Arg::Maybe(args) => {
                return if self.random.chance(50) {
                    self.expand(args, out, key)
                };
            }
            Arg::Seldom(args) => {
                return if self.random.chance(10) {
                    self.expand(args, out, key)
                };
            }
            Arg::OneOf(choices) => {
                let choice = *self.random.pick(choices);
                return self.expand(choice, out, key);
            }
            Arg::SomeOf(choices) => {
                let mut order: Vec<usize> = (0..choices.len()).collect();
                for at in (1..order.len()).rev() {
                    order.swap(at, self.random.below(at + 1));
                }
                // Mostly few: with many options most draws would be refused as contradictions.
                let count = self
                    .random
                    .below(choices.len() + 1)
                    .min(self.random.below(choices.len() + 1));
                order.truncate(count);
                if self.random.chance(3) && !order.is_empty() {
                    order.push(order[0]);
                }
                for at in order {
                    self.expand(choices[at], out, key);
                }
                return;
            }
            Arg::Times(low, high, args) => {
                for _ in 0..self.random.range(low as i64, high as i64) {
                    self.expand(args, out, key);
                }
                return;
            }
            Arg::Program(form) => {
                out.extend(scripts::words(self, form));
                return;
            }
            Arg::Script => scripts::a_digest(self),
            Arg::Counted(args) => {
                let count = self.random.range(1, 4);
                let said = if self.random.chance(4) {
                    self.integer()
                } else {
                    count.to_string().into_bytes()
                };
                out.push(said);
                for _ in 0..count {
                    self.expand(args, out, key);
                }
                return;
            }
        };
        out.push(one);
    }
}
