//! Random commands on a few keys, and what one thread would make of them: what clients send, how replies read, and the model.

use crate::history::{Model, Watches};
use ringwood_protocol::reply::value_len;

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
    Watch(Vec<usize>),
    Unwatch,
    /// MULTI, these, EXEC; and the keys that the client watches.
    Exec(Vec<usize>, Vec<Action>),
    /// EVAL of a script that does these. Of the keys that it names it is told those in the bits.
    Script(u32, Vec<Action>),
    /// EVAL of a script that finds the key that it sets in the value of another.
    Chase(usize, u32),
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
    /// EXEC's replies, or a script's.
    Many(Vec<Seen>),
    /// EXEC came to nothing.
    Aborted,
}

pub type Op = crate::history::Op<Action, Seen>;

/// What all keys hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    strings: [u32; super::KEYS],
    lists: [Vec<u32>; super::LISTS],
    watches: Watches,
}

/// Behind the bits of keys: what the client watches.
const WATCHES: u128 = 1 << 100;

fn key(n: usize) -> String {
    format!("key{n}")
}

fn list(n: usize) -> String {
    format!("list{n}")
}
/// Strings and behind them lists, as the bits of [`Model::keys`] have them.
fn any_key(n: usize) -> String {
    match n.checked_sub(super::KEYS) {
        None => key(n),
        Some(n) => list(n),
    }
}
/// EVAL of a script that does these and returns their replies. Keys that it is not told of are in its text.
fn script(told: u32, actions: &[Action], padding: usize) -> Vec<String> {
    let told: Vec<usize> = (0..super::KEYS + super::LISTS)
        .filter(|k| told >> k & 1 != 0)
        .collect();
    let keys: Vec<String> = told.into_iter().map(any_key).collect();
    let (mut text, mut args) = (String::from("local r = {}\n"), Vec::new());
    for (n, action) in actions.iter().enumerate() {
        let mut call = Vec::new();
        for (at, word) in action.words(padding).into_iter().enumerate() {
            if at == 0 {
                call.push(format!("'{word}'"));
            } else if let Some(n) = keys.iter().position(|k| *k == word) {
                call.push(format!("KEYS[{}]", n + 1));
            } else if word.starts_with("key") || word.starts_with("list") {
                call.push(format!("'{word}'"));
            } else {
                args.push(word);
                call.push(format!("ARGV[{}]", args.len()));
            }
        }
        text.push_str(&format!(
            "r[{}] = redis.pcall({})\n",
            n + 1,
            call.join(", ")
        ));
    }
    text.push_str("return r");
    let head = ["EVAL".to_string(), text, keys.len().to_string()];
    [head.to_vec(), keys, args].concat()
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
        match self {
            Self::Exec(_, actions) => {
                let mut out = words(&["MULTI".into()]);
                for action in actions {
                    out.extend(action.request(padding));
                }
                out.extend(words(&["EXEC".into()]));
                out
            }
            _ => words(&self.words(padding)),
        }
    }

    fn words(&self, padding: usize) -> Vec<String> {
        let value = |v: &u32| format!("{v}:{}", "x".repeat(padding));
        let named = |name: &str, keys: &[usize]| {
            std::iter::once(name.to_string())
                .chain(keys.iter().map(|k| any_key(*k)))
                .collect::<Vec<_>>()
        };
        let paired = |name: &str, keys: &[usize], v: &u32| {
            let pairs = keys.iter().flat_map(|k| [key(*k), value(v)]);
            std::iter::once(name.to_string())
                .chain(pairs)
                .collect::<Vec<_>>()
        };
        match self {
            Self::Exec(..) => panic!("more than one request"),
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
            Self::Watch(keys) => named("WATCH", keys),
            Self::Unwatch => vec!["UNWATCH".into()],
            Self::Script(told, actions) => script(*told, actions, padding),
            Self::Chase(k, v) => {
                let keys = super::KEYS;
                let text = format!(
                    "local value = redis.call('GET', KEYS[1]) or '0'
                    local found = tonumber(string.match(value, '^%d+')) % {keys}
                    redis.call('SET', 'key' .. found, ARGV[1])
                    return found"
                );
                vec!["EVAL".into(), text, "1".into(), key(*k), value(v)]
            }
        }
    }

    /// Replies that come before the one that tells what happened: MULTI's and QUEUED.
    pub fn replies_before(&self) -> usize {
        match self {
            Self::Exec(_, actions) => 1 + actions.len(),
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
            (Self::Exec(watched, _), Some(b'*')) if line == "*-1" && !watched.is_empty() => {
                Seen::Aborted
            }
            (Self::Watch(_) | Self::Unwatch, Some(b'+')) if line == "+OK" => Seen::Done,
            (Self::Exec(_, actions) | Self::Script(_, actions), Some(b'*'))
                if line[1..] == actions.len().to_string() =>
            {
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
            // Their form of nothing where they may not wait.
            (Self::Move(..) | Self::Pop(..), Some(b'$')) if line == "$-1" => {
                Seen::Values(Vec::new())
            }
            (Self::Chase(..), Some(b':')) => {
                Seen::Number(line[1..].parse().unwrap_or_else(|_| wrong()))
            }
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

    fn keys(&self) -> u128 {
        let bits = |keys: &[usize]| keys.iter().fold(0, |b, k| b | 1 << k);
        match self {
            Self::Get(k) | Self::Set(k, _) => 1 << k,
            Self::Del(keys) | Self::Exists(keys) | Self::Mget(keys) => bits(keys),
            Self::Mset(keys, _) | Self::Msetnx(keys, _) => bits(keys),
            Self::Rename(a, b) | Self::Copy(a, b) => 1 << a | 1 << b,
            Self::Echo(_) => 0,
            Self::Watch(keys) => bits(keys) | WATCHES,
            // It waits for no key.
            Self::Unwatch => WATCHES,
            Self::Push(l, _) => 1 << (super::KEYS + l),
            Self::Pop(lists, _) => bits(lists) << super::KEYS,
            Self::Move(a, b, _) => (1 << a | 1 << b) << super::KEYS,
            Self::Exec(watched, actions) => {
                let watches = if watched.is_empty() { 0 } else { WATCHES };
                actions
                    .iter()
                    .fold(bits(watched) | watches, |b, a| b | a.keys())
            }
            Self::Script(_, actions) => actions.iter().fold(0, |b, a| b | a.keys()),
            Self::Chase(..) => (1 << super::KEYS) - 1,
        }
    }

    /// Whether this reply tells that the command changed nothing, whenever it took effect.
    fn changed_nothing(&self, seen: &Seen) -> bool {
        match (self, seen) {
            (Self::Watch(_) | Self::Unwatch, _) | (Self::Exec(..), Seen::Aborted) => false,
            (Self::Get(_) | Self::Mget(_) | Self::Exists(_) | Self::Echo(_), _) => true,
            (Self::Del(_) | Self::Msetnx(..) | Self::Copy(..), Seen::Number(0)) => true,
            (Self::Pop(..) | Self::Move(..), Seen::Values(none)) => none.is_empty(),
            (Self::Exec(watched, _), _) if !watched.is_empty() => false,
            (Self::Exec(_, actions) | Self::Script(_, actions), Seen::Many(each)) => {
                let mut pairs = actions.iter().zip(each);
                pairs.all(|(action, seen)| action.changed_nothing(seen))
            }
            (_, seen) => *seen == Seen::NoSuchKey,
        }
    }

    /// What the command does on one thread, but for what it does to clients that watch.
    fn change(&self, state: &mut State, changed: &mut u128) -> Seen {
        let bits = |keys: &[usize]| keys.iter().fold(0, |b, k| b | 1u128 << k);
        match self {
            Self::Get(k) => Seen::Values(vec![state.strings[*k]]),
            Self::Set(k, v) => {
                state.strings[*k] = *v;
                *changed |= self.keys();
                Seen::Done
            }
            Self::Del(keys) => {
                let mut found = keys.clone();
                found.retain(|k| std::mem::take(&mut state.strings[*k]) != 0);
                *changed |= bits(&found);
                Seen::Number(found.len() as i64)
            }
            Self::Exists(keys) => {
                Seen::Number(keys.iter().filter(|k| state.strings[**k] != 0).count() as i64)
            }
            Self::Mset(keys, v) => {
                keys.iter().for_each(|k| state.strings[*k] = *v);
                *changed |= self.keys();
                Seen::Done
            }
            Self::Mget(keys) => Seen::Values(keys.iter().map(|k| state.strings[*k]).collect()),
            Self::Msetnx(keys, v) => {
                let free = keys.iter().all(|k| state.strings[*k] == 0);
                if free {
                    keys.iter().for_each(|k| state.strings[*k] = *v);
                    *changed |= self.keys();
                }
                Seen::Number(free as i64)
            }
            Self::Rename(a, b) => {
                if state.strings[*a] == 0 {
                    return Seen::NoSuchKey;
                }
                if a != b {
                    state.strings[*b] = std::mem::take(&mut state.strings[*a]);
                    *changed |= self.keys();
                }
                Seen::Done
            }
            Self::Copy(a, b) if a == b => Seen::NoSuchKey,
            Self::Copy(a, b) => {
                let found = state.strings[*a] != 0;
                if found {
                    state.strings[*b] = state.strings[*a];
                    *changed |= 1 << b;
                }
                Seen::Number(found as i64)
            }
            Self::Echo(_) => Seen::Done,
            Self::Watch(_) | Self::Unwatch | Self::Exec(..) => panic!("not within another"),
            Self::Script(_, actions) => {
                Seen::Many(actions.iter().map(|a| a.change(state, changed)).collect())
            }
            Self::Chase(k, v) => {
                let found = state.strings[*k] as usize % super::KEYS;
                state.strings[found] = *v;
                *changed |= 1 << found;
                Seen::Number(found as i64)
            }
            Self::Push(l, v) => {
                state.lists[*l].push(*v);
                *changed |= self.keys();
                Seen::Number(state.lists[*l].len() as i64)
            }
            // While something is there, a pop takes it at once; a timeout is for a moment when nothing is.
            Self::Pop(lists, _) => match lists.iter().find(|l| !state.lists[**l].is_empty()) {
                Some(l) => {
                    *changed |= 1 << (super::KEYS + l);
                    Seen::Popped(*l, state.lists[*l].remove(0))
                }
                None => Seen::Values(Vec::new()),
            },
            Self::Move(a, b, _) => {
                if state.lists[*a].is_empty() {
                    return Seen::Values(Vec::new());
                }
                let v = state.lists[*a].remove(0);
                state.lists[*b].push(v);
                *changed |= self.keys();
                Seen::Values(vec![v])
            }
        }
    }
}

impl Model for State {
    type Action = Action;
    type Seen = Seen;

    fn keys(action: &Action) -> u128 {
        action.keys()
    }
    fn changed_nothing(action: &Action, seen: &Seen) -> bool {
        action.changed_nothing(seen)
    }
    fn apply(&mut self, client: usize, action: &Action) -> Seen {
        let mut changed = 0;
        let seen = match action {
            Action::Watch(_) => {
                self.watches.watch(client, action.keys() & !WATCHES);
                Seen::Done
            }
            Action::Unwatch => {
                self.watches.unwatch(client);
                Seen::Done
            }
            Action::Exec(_, actions) => match self.watches.unwatch(client) {
                true => {
                    let each = actions.iter().map(|a| a.change(self, &mut changed));
                    Seen::Many(each.collect())
                }
                false => Seen::Aborted,
            },
            _ => action.change(self, &mut changed),
        };
        self.watches.changed(changed);
        seen
    }
}

#[test]
fn the_checker_tells_right_from_wrong() {
    let op = |client, action, called, answered, seen| Op {
        client,
        action,
        called,
        answered: Some((answered, seen)),
    };
    use crate::history::Verdict;
    use Action::*;
    let check = |ops: &[Op]| crate::history::check(&State::default(), ops, 1000);
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
    // What somebody changed while it was watched, or did not.
    let watched = |came: Seen, meanwhile: usize| {
        let set =
            |client, key, at, seen| op(client, Exec(vec![0], vec![Set(key, 8)]), at, at + 1, seen);
        let ops = [
            op(0, Watch(vec![0]), 1, 2, Seen::Done),
            op(1, Set(meanwhile, 7), 3, 4, Seen::Done),
            set(0, 1, 5, came),
            set(0, 1, 7, Seen::Many(vec![Seen::Done])),
        ];
        check(&ops)
    };
    let done = || Seen::Many(vec![Seen::Done]);
    assert_eq!(watched(Seen::Aborted, 0), Verdict::Right);
    assert_eq!(watched(done(), 0), Verdict::Wrong);
    assert_eq!(watched(Seen::Aborted, 1), Verdict::Wrong);
    assert_eq!(watched(done(), 1), Verdict::Right);
}
