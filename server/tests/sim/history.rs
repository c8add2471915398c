//! What the clients did and saw, and whether one order of all operations explains it.
//!
//! The check is Wing and Gong's search with Lowe's memory of visited states: take, one after the other, any operation that no
//! other must precede, apply it to a model of the whole keyspace, compare what it should have
//! returned with what was seen, go back where nothing fits. The model holds all keys at once, so a multi-key command that is not
//! atomic has no place in any order.
//!
//! An operation precedes another if it was answered before the other was sent. Commands of one pipeline may be taken in
//! any order unless they share a key. A blocking command takes effect at one moment like any other, when it is served. An operation without an answer (its client died) may be taken or left out.

use ringwood_protocol::reply::value_len;
use std::collections::HashSet;

/// A command; keys by number, values by number (0: no such key).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Get(usize),
    Set(usize, u32),
    Del(Vec<usize>),
    Exists(Vec<usize>),
    Mset(Vec<usize>, u32),
    Mget(Vec<usize>),
    Msetnx(Vec<usize>, u32),
    Rename(usize, usize),
    Copy(usize, usize),
    Echo(u32),
    /// RPUSH of one value; lists have numbers of their own.
    Push(usize, u32),
    /// BLPOP of these lists, with a timeout in milliseconds.
    Pop(Vec<usize>, u32),
    /// BLMOVE from the head of one list to the tail of the other.
    Move(usize, usize, u32),
    /// MULTI, these, EXEC.
    Exec(Vec<Action>),
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Done,
    Number(i64),
    Values(Vec<u32>),
    /// Which list, and what was its head.
    Popped(usize, u32),
    NoSuchKey,
    /// EXEC's replies.
    Many(Vec<Seen>),
}

#[derive(Clone, Debug)]
pub struct Op {
    pub client: usize,
    pub action: Action,
    pub called: u64,
    pub answered: Option<(u64, Seen)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Right,
    Wrong,
    /// Too many orders to try them all.
    Undecided,
}

/// What all keys hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    strings: [u32; super::KEYS],
    lists: [Vec<u32>; super::LISTS],
}

fn key(n: usize) -> String {
    format!("key{n}")
}

fn list(n: usize) -> String {
    format!("list{n}")
}
fn seconds(ms: u32) -> String {
    format!("0.{ms:03}")
}

fn words(list: &[String]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", list.len()).into_bytes();
    for word in list {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    out
}

impl Action {
    /// The command on the wire. Values are their number and some padding.
    pub fn request(&self, padding: usize) -> Vec<u8> {
        let value = |v: &u32| format!("{v}:{}", "x".repeat(padding));
        let named = |name: &str, keys: &[usize]| {
            std::iter::once(name.to_string())
                .chain(keys.iter().map(|k| key(*k)))
                .collect::<Vec<_>>()
        };
        let paired = |name: &str, keys: &[usize], v: &u32| {
            let pairs = keys.iter().flat_map(|k| [key(*k), value(v)]);
            std::iter::once(name.to_string())
                .chain(pairs)
                .collect::<Vec<_>>()
        };
        words(&match self {
            Self::Exec(actions) => {
                let mut out = words(&["MULTI".into()]);
                for action in actions {
                    out.extend(action.request(padding));
                }
                out.extend(words(&["EXEC".into()]));
                return out;
            }
            Self::Get(k) => vec!["GET".into(), key(*k)],
            Self::Set(k, v) => vec!["SET".into(), key(*k), value(v)],
            Self::Del(keys) => named("DEL", keys),
            Self::Exists(keys) => named("EXISTS", keys),
            Self::Mset(keys, v) => paired("MSET", keys, v),
            Self::Mget(keys) => named("MGET", keys),
            Self::Msetnx(keys, v) => paired("MSETNX", keys, v),
            Self::Rename(a, b) => vec!["RENAME".into(), key(*a), key(*b)],
            Self::Copy(a, b) => vec!["COPY".into(), key(*a), key(*b), "REPLACE".into()],
            Self::Echo(v) => vec!["ECHO".into(), format!("{v}:")],
            Self::Push(l, v) => vec!["RPUSH".into(), list(*l), value(v)],
            Self::Pop(lists, ms) => std::iter::once("BLPOP".into())
                .chain(lists.iter().map(|l| list(*l)))
                .chain([seconds(*ms)])
                .collect(),
            Self::Move(a, b, ms) => ["BLMOVE".into(), list(*a), list(*b), "LEFT".into()]
                .into_iter()
                .chain(["RIGHT".into(), seconds(*ms)])
                .collect(),
        })
    }

    /// Replies that come before the one that tells what happened: MULTI's and QUEUED.
    pub fn replies_before(&self) -> usize {
        match self {
            Self::Exec(actions) => 1 + actions.len(),
            _ => 0,
        }
    }

    /// Reads the reply. Panics at one that this command cannot get: then replies are out of order.
    pub fn seen(&self, reply: &[u8]) -> Seen {
        let text = String::from_utf8_lossy(reply);
        let line = text.split("\r\n").next().unwrap_or_default();
        let wrong = || -> ! { panic!("{self:?} got {:.200}", text) };
        let values = |text: &str| -> Vec<u32> {
            text.split("\r\n")
                .filter_map(|l| {
                    if l == "$-1" {
                        Some(0)
                    } else {
                        l.split_once(':')?.0.parse().ok()
                    }
                })
                .collect()
        };
        match (self, line.as_bytes().first()) {
            (Self::Exec(actions), Some(b'*')) if line[1..] == actions.len().to_string() => {
                let mut rest = &reply[line.len() + 2..];
                let each = actions.iter().map(|action| {
                    let len = value_len(rest).unwrap_or_else(|| wrong());
                    let (one, after) = rest.split_at(len);
                    rest = after;
                    action.seen(one)
                });
                Seen::Many(each.collect())
            }
            (Self::Set(..) | Self::Mset(..) | Self::Rename(..), Some(b'+')) if line == "+OK" => {
                Seen::Done
            }
            (Self::Rename(..), Some(b'-')) if line == "-ERR no such key" => Seen::NoSuchKey,
            (Self::Copy(a, b), Some(b'-')) if a == b && line.contains("same") => Seen::NoSuchKey,
            (Self::Pop(..) | Self::Move(..), Some(b'*')) if line == "*-1" => {
                Seen::Values(Vec::new())
            }
            // Its form of nothing where it may not wait.
            (Self::Move(..), Some(b'$')) if line == "$-1" => Seen::Values(Vec::new()),
            (Self::Pop(lists, _), Some(b'*')) => {
                let from = text.split("\r\n").nth(2).unwrap_or_default();
                match (lists.iter().find(|l| list(**l) == from), &values(&text)[..]) {
                    (Some(l), [v]) => Seen::Popped(*l, *v),
                    _ => wrong(),
                }
            }
            (Self::Move(..), Some(b'$')) => match values(&text).as_slice() {
                [v] => Seen::Values(vec![*v]),
                _ => wrong(),
            },
            (Self::Push(..), Some(b':'))
            | (Self::Del(_) | Self::Exists(_) | Self::Msetnx(..) | Self::Copy(..), Some(b':')) => {
                Seen::Number(line[1..].parse().unwrap_or_else(|_| wrong()))
            }
            (Self::Get(_), Some(b'$')) => match values(&text).as_slice() {
                [v] => Seen::Values(vec![*v]),
                _ => wrong(),
            },
            (Self::Echo(v), Some(b'$')) if values(&text) == [*v] => Seen::Done,
            (Self::Mget(keys), Some(b'*')) => match values(&text) {
                found if found.len() == keys.len() => Seen::Values(found),
                _ => wrong(),
            },
            _ => wrong(),
        }
    }

    fn keys(&self) -> u32 {
        let bits = |keys: &[usize]| keys.iter().fold(0, |b, k| b | 1 << k);
        match self {
            Self::Get(k) | Self::Set(k, _) => 1 << k,
            Self::Del(keys) | Self::Exists(keys) | Self::Mget(keys) => bits(keys),
            Self::Mset(keys, _) | Self::Msetnx(keys, _) => bits(keys),
            Self::Rename(a, b) | Self::Copy(a, b) => 1 << a | 1 << b,
            Self::Echo(_) => 0,
            Self::Push(l, _) => 1 << (super::KEYS + l),
            Self::Pop(lists, _) => bits(lists) << super::KEYS,
            Self::Move(a, b, _) => (1 << a | 1 << b) << super::KEYS,
            Self::Exec(actions) => actions.iter().fold(0, |b, a| b | a.keys()),
        }
    }

    /// Whether this reply tells that the command changed nothing, whenever it took effect.
    fn changed_nothing(&self, seen: &Seen) -> bool {
        match (self, seen) {
            (Self::Get(_) | Self::Mget(_) | Self::Exists(_) | Self::Echo(_), _) => true,
            (Self::Del(_) | Self::Msetnx(..) | Self::Copy(..), Seen::Number(0)) => true,
            (Self::Pop(..) | Self::Move(..), Seen::Values(none)) => none.is_empty(),
            (Self::Exec(actions), Seen::Many(each)) => {
                let mut pairs = actions.iter().zip(each);
                pairs.all(|(action, seen)| action.changed_nothing(seen))
            }
            (_, seen) => *seen == Seen::NoSuchKey,
        }
    }

    /// What the command does on one thread.
    fn apply(&self, state: &mut State) -> Seen {
        match self {
            Self::Get(k) => Seen::Values(vec![state.strings[*k]]),
            Self::Set(k, v) => {
                state.strings[*k] = *v;
                Seen::Done
            }
            Self::Del(keys) => Seen::Number(
                keys.iter()
                    .filter(|k| std::mem::take(&mut state.strings[**k]) != 0)
                    .count() as i64,
            ),
            Self::Exists(keys) => {
                Seen::Number(keys.iter().filter(|k| state.strings[**k] != 0).count() as i64)
            }
            Self::Mset(keys, v) => {
                keys.iter().for_each(|k| state.strings[*k] = *v);
                Seen::Done
            }
            Self::Mget(keys) => Seen::Values(keys.iter().map(|k| state.strings[*k]).collect()),
            Self::Msetnx(keys, v) => {
                let free = keys.iter().all(|k| state.strings[*k] == 0);
                if free {
                    keys.iter().for_each(|k| state.strings[*k] = *v);
                }
                Seen::Number(free as i64)
            }
            Self::Rename(a, b) => {
                if state.strings[*a] == 0 {
                    return Seen::NoSuchKey;
                }
                if a != b {
                    state.strings[*b] = std::mem::take(&mut state.strings[*a]);
                }
                Seen::Done
            }
            Self::Copy(a, b) if a == b => Seen::NoSuchKey,
            Self::Copy(a, b) => {
                let found = state.strings[*a] != 0;
                if found {
                    state.strings[*b] = state.strings[*a];
                }
                Seen::Number(found as i64)
            }
            Self::Echo(_) => Seen::Done,
            Self::Exec(actions) => Seen::Many(actions.iter().map(|a| a.apply(state)).collect()),
            Self::Push(l, v) => {
                state.lists[*l].push(*v);
                Seen::Number(state.lists[*l].len() as i64)
            }
            // While something is there, a pop takes it at once; a timeout is for a moment when nothing is.
            Self::Pop(lists, _) => match lists.iter().find(|l| !state.lists[**l].is_empty()) {
                Some(l) => Seen::Popped(*l, state.lists[*l].remove(0)),
                None => Seen::Values(Vec::new()),
            },
            Self::Move(a, b, _) => {
                if state.lists[*a].is_empty() {
                    return Seen::Values(Vec::new());
                }
                let v = state.lists[*a].remove(0);
                state.lists[*b].push(v);
                Seen::Values(vec![v])
            }
        }
    }
}

/// Searches for an order that explains everything that was seen.
pub fn check(ops: &[Op]) -> Verdict {
    let mut verdict = Verdict::Right;
    for part in independent(ops) {
        match check_part(&part) {
            Verdict::Right => {}
            Verdict::Undecided => verdict = Verdict::Undecided,
            Verdict::Wrong => return Verdict::Wrong,
        }
    }
    verdict
}

/// The operations by sets of keys that no operation connects. Linearizability is local: a history is linearizable if what
/// happened on each of them is, and the search of several small parts is much shorter than that of the whole.
fn independent(ops: &[Op]) -> Vec<Vec<Op>> {
    let mut sets: Vec<u32> = Vec::new();
    for keys in ops.iter().map(|op| op.action.keys()) {
        let (joined, apart): (Vec<u32>, Vec<u32>) = sets.iter().partition(|s| **s & keys != 0);
        sets = apart;
        sets.push(joined.iter().fold(keys, |all, s| all | s));
    }
    let part = |set: u32| ops.iter().filter(move |op| op.action.keys() & set != 0);
    sets.into_iter()
        .map(|s| part(s).cloned().collect())
        .collect()
}

fn check_part(ops: &[Op]) -> Verdict {
    assert!(ops.len() <= 128);
    let mut visited: HashSet<(u128, State)> = HashSet::new();
    let mut budget = 60_000usize;
    match search(ops, 0, &State::default(), &mut visited, &mut budget) {
        true => Verdict::Right,
        false if budget == 0 => Verdict::Undecided,
        false => Verdict::Wrong,
    }
}

fn search(
    ops: &[Op],
    mut done: u128,
    state: &State,
    visited: &mut HashSet<(u128, State)>,
    budget: &mut usize,
) -> bool {
    let answered = |op: &Op| op.answered.as_ref().map(|a| a.0);
    // What fits now and, as its reply tells, changes nothing is taken at once, without trying anything else in its place: in any order that
    // explains the rest, it can be moved to the front.
    let mut changing = Vec::new();
    loop {
        let open = |i: usize| done >> i & 1 == 0;
        let Some(first_answer) = (0..ops.len())
            .filter(|&i| open(i))
            .filter_map(|i| answered(&ops[i]))
            .min()
        else {
            return true;
        };
        changing.clear();
        let mut without_change = 0u128;
        for i in (0..ops.len()).filter(|&i| open(i)) {
            let op = &ops[i];
            // Sent after something was answered that is not taken yet: too early. Operations are in the order of sending.
            if op.called > first_answer {
                break;
            }
            let keys = op.action.keys();
            let behind = (0..i)
                .any(|j| open(j) && ops[j].client == op.client && ops[j].action.keys() & keys != 0);
            if behind {
                continue;
            }
            let mut next = state.clone();
            let seen = op.action.apply(&mut next);
            if op.answered.as_ref().is_some_and(|(_, s)| *s != seen) {
                continue;
            }
            match op
                .answered
                .as_ref()
                .is_some_and(|(_, s)| op.action.changed_nothing(s))
            {
                true => without_change |= 1 << i,
                false => changing.push((i, next)),
            }
        }
        if without_change == 0 {
            break;
        }
        done |= without_change;
    }
    if *budget == 0 || !visited.insert((done, state.clone())) {
        return false;
    }
    *budget -= 1;
    // Who was answered first most likely took effect first.
    changing.sort_by_key(|(i, _)| answered(&ops[*i]).unwrap_or(u64::MAX));
    changing
        .iter()
        .any(|(i, next)| search(ops, done | 1 << i, next, visited, budget))
}

#[test]
fn the_checker_tells_right_from_wrong() {
    let op = |client, action, called, answered, seen| Op {
        client,
        action,
        called,
        answered: Some((answered, seen)),
    };
    use Action::*;
    let set = |called, answered| op(0, Mset(vec![0, 1], 7), called, answered, Seen::Done);
    let torn = [
        set(1, 9),
        op(1, Mget(vec![0, 1]), 2, 5, Seen::Values(vec![7, 0])),
    ];
    assert_eq!(check(&torn), Verdict::Wrong);
    let whole = [
        set(1, 9),
        op(1, Mget(vec![0, 1]), 2, 5, Seen::Values(vec![7, 7])),
    ];
    assert_eq!(check(&whole), Verdict::Right);
    let stale = [set(1, 3), op(1, Get(0), 4, 5, Seen::Values(vec![0]))];
    assert_eq!(check(&stale), Verdict::Wrong);
    // Seen on one key, then the old value of the other.
    let partly = [
        set(1, 9),
        op(1, Get(0), 2, 3, Seen::Values(vec![7])),
        op(1, Get(1), 4, 5, Seen::Values(vec![0])),
    ];
    assert_eq!(check(&partly), Verdict::Wrong);
    let unanswered = [
        Op {
            client: 0,
            action: Set(0, 7),
            called: 1,
            answered: None,
        },
        op(1, Get(0), 2, 3, Seen::Values(vec![0])),
        op(1, Get(0), 4, 5, Seen::Values(vec![7])),
    ];
    assert_eq!(check(&unanswered), Verdict::Right);
    let popped = |twice| {
        [
            op(0, Push(1, 7), 1, 2, Seen::Number(1)),
            op(1, Pop(vec![0, 1], 10), 1, 5, Seen::Popped(1, 7)),
            op(2, Pop(vec![1], 10), 3, 6, twice),
        ]
    };
    assert_eq!(check(&popped(Seen::Values(vec![]))), Verdict::Right);
    assert_eq!(check(&popped(Seen::Popped(1, 7))), Verdict::Wrong);
}
