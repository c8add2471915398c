//! Clients whose operations are numbered, and what must be found of them after a crash. A number says what the operation is ([`Kind`]), so that
//! what is found tells which were carried out. Used by the kills of a real server and by the simulation.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

pub const ACCOUNTS: usize = 24;

/// What a client's operation of a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// MULTI over keys of several cores.
    Multi,
    Set,
    /// EVAL over keys of several cores.
    Eval,
    Push,
    Mset,
    Incr,
}
const KINDS: [Kind; 6] = [
    Kind::Multi,
    Kind::Set,
    Kind::Eval,
    Kind::Push,
    Kind::Mset,
    Kind::Incr,
];

pub fn kind(n: u64) -> Kind {
    KINDS[(n % KINDS.len() as u64) as usize]
}
/// The numbers of a kind's operations in a range.
fn of_kind(kind: Kind, range: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = u64> {
    range.filter(move |n| self::kind(*n) == kind)
}

/// Appends a request; words are separated by spaces.
pub fn request(out: &mut String, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let _ = write!(out, "*{}\r\n", words.len());
    for word in words {
        let _ = write!(out, "${}\r\n{word}\r\n", word.len());
    }
}
const SCRIPT: &str = "for_i,key_in_ipairs(KEYS)_do_if_i==1_then_redis.call('RPUSH',key,ARGV[1])_elseif_i==2_then_redis.call('INCR',key)\
    _elseif_i==3_then_redis.call('SET',key,ARGV[1])_elseif_i==4_then_redis.call('DECRBY',key,ARGV[2])_else_redis.call('INCRBY',key,ARGV[2])_end_end";

/// Appends operation `n` of client `w`. Returns how many replies it has.
pub fn operation(
    out: &mut String,
    w: usize,
    n: u64,
    below: &mut dyn FnMut(usize) -> usize,
) -> usize {
    let (from, to, amount) = (below(ACCOUNTS), below(ACCOUNTS), below(50));
    match kind(n) {
        Kind::Multi => {
            let lines = [
                "MULTI".to_owned(),
                format!("RPUSH m:{w} {n}"),
                format!("INCR mc:{w}"),
                format!("DECRBY account:{from} {amount}"),
                format!("SET mt:{w} {n}"),
                format!("INCRBY account:{to} {amount}"),
                "EXEC".to_owned(),
            ];
            lines.iter().for_each(|line| request(out, line));
            lines.len()
        }
        Kind::Eval => {
            // The script's spaces would end a word.
            let keys = format!("e:{w} ec:{w} et:{w} account:{from} account:{to}");
            let mut line = String::new();
            request(&mut line, &format!("EVAL {SCRIPT} 5 {keys} {n} {amount}"));
            out.push_str(&line.replace(SCRIPT, &SCRIPT.replace('_', " ")));
            1
        }
        Kind::Mset => {
            request(
                out,
                &format!("MSET a:{w} {n} b:{w} {n} c:{w} {n} d:{w} {n}"),
            );
            1
        }
        Kind::Set => {
            request(out, &format!("SET s:{w} {n}"));
            1
        }
        Kind::Push => {
            request(out, &format!("LPUSH l:{w} {n}"));
            1
        }
        Kind::Incr => {
            request(out, &format!("INCR i:{w}"));
            1
        }
    }
}

/// A client's progress in one life of the server, and what is known from the lives before.
#[derive(Default)]
pub struct Worker {
    /// The first operation of this life.
    pub first: u64,
    pub sent: AtomicU64,
    pub acked: AtomicU64,
    /// Of earlier lives: elements of the lists, by kind; the last SET and MSET; the count.
    lists: [BTreeSet<u64>; 3],
    last: [u64; 2],
    count: u64,
}

impl Worker {
    pub fn new() -> Self {
        Self {
            first: 1,
            ..Self::default()
        }
    }
    /// A life begins.
    pub fn begin(&self) {
        self.sent.store(self.first - 1, SeqCst);
        self.acked.store(self.first - 1, SeqCst);
    }
}

/// A FLUSHALL: what had been acknowledged by every client before it was sent, and what had been sent by them when it was acknowledged.
#[derive(Clone, Debug)]
pub struct Flush {
    pub before: Vec<u64>,
    pub after: Option<Vec<u64>>,
}

/// Sends a request and gives its reply.
pub type Ask<'a> = &'a mut dyn FnMut(&str) -> String;

/// All of a key's value, as numbers.
fn numbers(reply: &str) -> Vec<u64> {
    let mut lines = reply.split("\r\n");
    let head = lines.next().unwrap_or_default();
    assert!(head.starts_with(['*', '$']), "{reply}");
    let values: Vec<&str> = match head.as_bytes()[0] {
        b'*' => lines.skip(1).step_by(2).collect(),
        _ if head == "$-1" => Vec::new(),
        _ => lines.take(1).collect(),
    };
    let number = |value: &str| value.parse().unwrap_or_else(|_| panic!("{reply:?}"));
    values.into_iter().map(number).collect()
}
fn read(c: Ask<'_>, line: &str) -> Vec<u64> {
    numbers(&c(line))
}
fn one(c: Ask<'_>, key: &str) -> u64 {
    read(&mut *c, &format!("GET {key}"))
        .first()
        .copied()
        .unwrap_or(0)
}

/// What is there of a client.
#[derive(Default)]
pub struct Found {
    /// Of [`Kind::Multi`], [`Kind::Eval`] and [`Kind::Push`].
    pub lists: [Vec<u64>; 3],
    /// SET and MSET.
    pub last: [u64; 2],
    count: u64,
}
impl Found {
    pub fn of(workers: usize) -> Vec<Self> {
        let mut found = Vec::new();
        found.resize_with(workers, Self::default);
        found
    }
}
const LISTS: [Kind; 3] = [Kind::Multi, Kind::Eval, Kind::Push];

/// What `side` is in both databases.
pub fn sides(c: Ask<'_>) -> [String; 2] {
    [0, 1].map(|db| {
        assert_eq!(c(&format!("SELECT {db}")), "+OK\r\n");
        let reply = c("GET side");
        reply.split("\r\n").nth(1).unwrap_or_default().to_owned()
    })
}

/// Reads what is there in both databases, and checks that every transaction in it is whole.
pub fn find(c: Ask<'_>, found: &mut [Found]) {
    for db in 0..2 {
        assert_eq!(c(&format!("SELECT {db}")), "+OK\r\n");
        let mut sum = 0;
        for n in 0..ACCOUNTS {
            let reply = c(&format!("GET account:{n}"));
            if reply != "$-1\r\n" {
                let text = reply.split("\r\n").nth(1).expect("a value");
                sum += text.parse::<i64>().expect("a number");
            }
        }
        assert_eq!(sum, 0, "database {db}: amounts moved by half");
        for (w, found) in found.iter_mut().enumerate() {
            for (at, name) in ["m", "e"].into_iter().enumerate() {
                let list = read(&mut *c, &format!("LRANGE {name}:{w} 0 -1"));
                let count = one(&mut *c, &format!("{name}c:{w}"));
                let last = one(&mut *c, &format!("{name}t:{w}"));
                let whole = list.len() as u64 == count && list.last().unwrap_or(&0) == &last;
                assert!(whole, "{name}:{w} by half: {list:?}, {count}, {last}");
                assert!(list.is_sorted(), "{name}:{w}: {list:?}");
                found.lists[at].extend(list);
            }
            let list = read(&mut *c, &format!("LRANGE l:{w} 0 -1"));
            assert!(list.is_sorted_by(|a, b| a >= b), "l:{w}: {list:?}");
            found.lists[2].extend(list);
            let four = ["a", "b", "c", "d"].map(|key| one(&mut *c, &format!("{key}:{w}")));
            assert!(four.iter().all(|n| *n == four[0]), "MSET by half: {four:?}");
            found.last[0] = found.last[0].max(one(&mut *c, &format!("s:{w}")));
            found.last[1] = found.last[1].max(four[0]);
            found.count += one(&mut *c, &format!("i:{w}"));
        }
    }
    found
        .iter_mut()
        .flat_map(|found| &mut found.lists)
        .for_each(|list| list.sort_unstable());
}

/// What must be there of a client, and what must not.
#[derive(Clone, Copy, Debug)]
struct Limits {
    first: u64,
    sent: u64,
    /// Operations from `must_from` to `must_to` are there; none is if `must_to` is the smaller.
    must_from: u64,
    must_to: u64,
    /// What was acknowledged up to here was flushed.
    gone: u64,
    flushed: bool,
    /// A FLUSHALL may have been carried out or not.
    open: bool,
    exact: bool,
}

impl Limits {
    fn must(&self, kind: Kind) -> Vec<u64> {
        of_kind(kind, self.must_from..=self.must_to).collect()
    }
    fn check_list(&self, kind: Kind, known: &BTreeSet<u64>, list: &[u64]) {
        let all: BTreeSet<u64> = list.iter().copied().collect();
        assert_eq!(all.len(), list.len(), "{kind:?}: twice: {list:?}");
        let old: BTreeSet<u64> = all.range(..self.first).copied().collect();
        let fits = match (self.flushed, self.open) {
            (true, _) => old.is_empty(),
            (false, true) => old.is_empty() || old == *known,
            (false, false) => old == *known,
        };
        assert!(
            fits,
            "{kind:?}: {self:?}: of earlier lives {old:?}, not {known:?}"
        );
        let new: Vec<u64> = all.range(self.first..).copied().collect();
        if let (Some(&first), Some(&last)) = (new.first(), new.last()) {
            let run: Vec<u64> = of_kind(kind, first..=last).collect();
            assert!(
                !self.exact || new == run,
                "{kind:?}: {self:?}: holes in {new:?}"
            );
            assert!(
                last <= self.sent && first > self.gone,
                "{kind:?}: {self:?}: {new:?}"
            );
            if self.exact && !self.flushed && !self.open {
                let whole = of_kind(kind, self.first..=last).next();
                assert_eq!(
                    Some(first),
                    whole,
                    "{kind:?}: {self:?}: the first is missing"
                );
            }
        }
        for n in self.must(kind) {
            assert!(
                all.contains(&n),
                "{kind:?} {n} is missing: {self:?}, there are {new:?}"
            );
        }
    }
    fn check_last(&self, kind: Kind, known: u64, there: u64) {
        if there != 0 && there != known {
            let new = there >= self.first && there <= self.sent && there > self.gone;
            assert!(
                new && self::kind(there) == kind,
                "{kind:?}: {self:?}: {there}"
            );
        }
        assert!(
            there != 0 || known == 0 || self.flushed || self.open,
            "{kind:?}: {self:?}: gone"
        );
        let must = self.must(kind).pop().unwrap_or(0);
        assert!(
            there >= must,
            "{kind:?} {must} is missing: {self:?}, there is {there}"
        );
    }
    fn check_count(&self, known: u64, there: u64) {
        let known = if self.flushed { 0 } else { known };
        let sent = of_kind(Kind::Incr, self.first.max(self.gone + 1)..=self.sent).count() as u64;
        let must = self.must(Kind::Incr).len() as u64 + if self.open { 0 } else { known };
        assert!(
            (must..=known + sent).contains(&there),
            "count: {self:?}: {there}, not {must}..={}",
            known + sent
        );
    }
}

/// What must be there after a crash.
pub struct Expected<'a> {
    /// By client: the last operation that must be there.
    pub must: Vec<u64>,
    /// The last FLUSHALL that has been carried out for certain.
    pub flushed: Option<&'a Flush>,
    /// A later one may have been.
    pub open: bool,
    /// Of the operations of a kind none is missing before one that is there.
    pub exact: bool,
}

/// Compares what is there with what must be. It is what is known from now on.
pub fn check(workers: &mut [Worker], found: &[Found], expected: &Expected<'_>) {
    for (w, (worker, found)) in workers.iter_mut().zip(found).enumerate() {
        let flush = expected.flushed;
        let after = flush.and_then(|flush| flush.after.as_ref());
        let limits = Limits {
            first: worker.first,
            sent: worker.sent.load(SeqCst),
            must_from: worker.first.max(after.map_or(0, |sent| sent[w] + 1)),
            must_to: if expected.open { 0 } else { expected.must[w] },
            gone: flush.map_or(0, |flush| flush.before[w]),
            flushed: flush.is_some(),
            open: expected.open,
            exact: expected.exact,
        };
        for ((kind, list), known) in LISTS.into_iter().zip(&found.lists).zip(&mut worker.lists) {
            limits.check_list(kind, known, list);
            *known = list.iter().copied().collect();
        }
        let kinds = [Kind::Set, Kind::Mset].into_iter().zip(&found.last);
        for ((kind, &there), known) in kinds.zip(&mut worker.last) {
            limits.check_last(kind, *known, there);
            *known = there;
        }
        limits.check_count(worker.count, found.count);
        worker.count = found.count;
        worker.first = limits.sent + 1;
    }
}
