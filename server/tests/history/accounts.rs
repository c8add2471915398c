//! Amounts between accounts and coins between purses, by every way that an application has to change several keys at once; and
//! what one thread would make of it.
//!
//! An account is a string, and lies in any slot. A moved account (RENAME) stands under its other name for a while; who
//! looks for it looks at both. Some accounts are fixed: they never move, so that there is something to do for those who do not look.
//! Coins go round through lists and hands (BLMOVE, BLPOP): no coin is ever in two places.
//!
//! A [`Person`] is a client that moves or sums; what it does next depends on what it was told. It says so without
//! knowing how: the simulation and real sockets carry it out.

use super::{Model, Watches};

/// How much there is of everything.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub accounts: usize,
    /// The first ones, which keep their names.
    pub fixed: usize,
    pub purses: usize,
    pub coins: usize,
    pub persons: usize,
}

/// What is in each account at first.
pub const AMOUNT: i64 = 1000;

/// A string's number: an account's two names are 2n and 2n + 1, behind them every person has one that nobody else uses.
pub type Name = usize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Get(Name),
    Set(Name, i64),
    IncrBy(Name, i64),
    Mget(Vec<Name>),
    Rename(Name, Name),
    /// A script that finds the two accounts under whatever name and moves an amount.
    Transfer(How, usize, usize, i64),
    /// A script that reads and sums these, which it is not told by KEYS.
    Sum(Vec<Name>),
    Range(usize),
    Push(usize, u32),
    /// BLPOP of these purses, with a timeout in milliseconds (0: none).
    Pop(Vec<usize>, u32),
    /// BLMOVE from the head of one purse to the tail of another.
    PassOn(usize, usize, u32),
}

/// How a script is told of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Declared,
    Undeclared,
    /// One account is declared, the other is not.
    Half,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    One(Command),
    Watch(Vec<Name>),
    /// What was watched.
    Unwatch(Vec<Name>),
    /// MULTI, these, EXEC, and what the client watches.
    Exec(Vec<Name>, Vec<Command>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Done,
    NoSuchKey,
    Number(i64),
    Values(Vec<Option<i64>>),
    Coins(Vec<u32>),
    Popped(Option<(usize, u32)>),
    Many(Vec<Seen>),
    /// EXEC came to nothing.
    Aborted,
}

const TRANSFER: &str = "
    local function where(key, other)
        if redis.call('EXISTS', key) == 1 then return key end
        return other
    end
    local names = {}
    for n = 1, 4 do names[n] = KEYS[n] or ARGV[n - #KEYS] end
    local amount = ARGV[#ARGV]
    local from, to = where(names[1], names[2]), where(names[3], names[4])
    local left = redis.call('DECRBY', from, amount)
    return {left, redis.call('INCRBY', to, amount)}";
const SUM: &str = "
    local sum, values = 0, {}
    for n, name in ipairs(ARGV) do
        values[n] = redis.call('GET', name)
        if values[n] then sum = sum + values[n] end
    end
    values[#ARGV + 1] = sum
    return values";

impl Size {
    fn names(&self) -> Vec<Name> {
        (0..2 * self.accounts).collect()
    }
    /// What fills everything.
    pub fn setup(&self) -> Vec<Vec<u8>> {
        let accounts = (0..self.accounts).map(|n| Command::Set(2 * n, AMOUNT));
        let coins = (0..self.coins).map(|c| Command::Push(c % self.purses, c as u32 + 1));
        accounts.chain(coins).map(|c| c.request(self)).collect()
    }
    pub fn bank(&self) -> Bank {
        let mut bank = Bank {
            strings: vec![None; 2 * self.accounts + self.persons],
            purses: vec![Vec::new(); self.purses],
            watches: Watches::default(),
        };
        for n in 0..self.accounts {
            bank.strings[2 * n] = Some(AMOUNT);
        }
        for coin in 0..self.coins {
            bank.purses[coin % self.purses].push(coin as u32 + 1);
        }
        bank
    }
    /// Reads everything there is.
    pub fn look_at_all(&self) -> Vec<Action> {
        let ranges = (0..self.purses).map(Command::Range).collect();
        vec![
            Action::One(Command::Mget(self.names())),
            Action::Exec(Vec::new(), ranges),
        ]
    }
    fn key(&self, name: Name) -> String {
        match (name / 2, name % 2) {
            _ if name >= 2 * self.accounts => format!("hand:{}", name - 2 * self.accounts),
            (n, 0) => format!("account:{n}"),
            (n, _) => format!("away:{n}"),
        }
    }
}

fn purse(n: usize) -> String {
    format!("purse:{n}")
}
fn seconds(ms: u32) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}
fn request(words: &[String]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len());
    for word in words {
        out.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    out.into_bytes()
}

impl Command {
    fn request(&self, size: &Size) -> Vec<u8> {
        let key = |n: &Name| size.key(*n);
        let words = |list: &[&dyn ToString]| list.iter().map(|w| w.to_string()).collect::<Vec<_>>();
        request(&match self {
            Self::Get(n) => words(&[&"GET", &key(n)]),
            Self::Set(n, v) => words(&[&"SET", &key(n), v]),
            Self::IncrBy(n, v) if *v < 0 => words(&[&"DECRBY", &key(n), &-v]),
            Self::IncrBy(n, v) => words(&[&"INCRBY", &key(n), v]),
            Self::Mget(names) => [words(&[&"MGET"]), names.iter().map(key).collect()].concat(),
            Self::Rename(a, b) => words(&[&"RENAME", &key(a), &key(b)]),
            Self::Transfer(how, from, to, amount) => {
                let names = [from * 2, from * 2 + 1, to * 2, to * 2 + 1];
                let declared = match how {
                    How::Declared => 4,
                    How::Half => 2,
                    How::Undeclared => 0,
                };
                let mut all = words(&[&"EVAL", &TRANSFER, &declared]);
                all.extend(names.iter().map(key));
                all.push(amount.to_string());
                all
            }
            Self::Sum(names) => {
                [words(&[&"EVAL", &SUM, &0]), names.iter().map(key).collect()].concat()
            }
            Self::Range(l) => words(&[&"LRANGE", &purse(*l), &0, &-1]),
            Self::Push(l, coin) => words(&[&"RPUSH", &purse(*l), coin]),
            Self::Pop(purses, ms) => {
                let purses = purses.iter().map(|l| purse(*l)).collect();
                [words(&[&"BLPOP"]), purses, vec![seconds(*ms)]].concat()
            }
            Self::PassOn(a, b, ms) => {
                let names = [purse(*a), purse(*b)];
                words(&[
                    &"BLMOVE",
                    &names[0],
                    &names[1],
                    &"LEFT",
                    &"RIGHT",
                    &seconds(*ms),
                ])
            }
        })
    }

    fn strings(&self) -> u128 {
        let bits = |names: &[Name]| names.iter().fold(0, |all, n| all | 1 << n);
        match self {
            Self::Get(n) | Self::Set(n, _) | Self::IncrBy(n, _) => 1 << n,
            Self::Mget(names) | Self::Sum(names) => bits(names),
            Self::Rename(a, b) => bits(&[*a, *b]),
            Self::Transfer(_, from, to, _) => bits(&[from * 2, from * 2 + 1, to * 2, to * 2 + 1]),
            _ => 0,
        }
    }
    fn purses(&self) -> u128 {
        match self {
            Self::Range(l) | Self::Push(l, _) => 1 << l,
            Self::Pop(purses, _) => purses.iter().fold(0, |all, l| all | 1 << l),
            Self::PassOn(a, b, _) => 1 << a | 1 << b,
            _ => 0,
        }
    }

    fn seen(&self, reply: &Reply) -> Seen {
        let values = |items: &[Reply]| -> Vec<Option<i64>> {
            let value = |item: &Reply| match item {
                Reply::Null => None,
                other => Some(other.number()),
            };
            items.iter().map(value).collect()
        };
        match (self, reply) {
            (Self::Get(_), one) => Seen::Values(values(std::slice::from_ref(one))),
            (Self::Set(..) | Self::Rename(..), Reply::Line(line)) if line == "+OK" => Seen::Done,
            (Self::Rename(..), Reply::Line(line)) if line == "-ERR no such key" => Seen::NoSuchKey,
            (Self::IncrBy(..) | Self::Push(..), Reply::Line(_)) => Seen::Number(reply.number()),
            (Self::Mget(names), Reply::Array(items)) if items.len() == names.len() => {
                Seen::Values(values(items))
            }
            (Self::Transfer(..), Reply::Array(items)) if items.len() == 2 => {
                Seen::Values(values(items))
            }
            (Self::Sum(names), Reply::Array(items)) if items.len() == names.len() + 1 => {
                let mut values = values(items);
                let sum = values.pop().flatten();
                assert_eq!(sum, Some(values.iter().flatten().sum()), "Lua's own sum");
                Seen::Values(values)
            }
            (Self::Range(_), Reply::Array(items)) => {
                Seen::Coins(items.iter().map(|coin| coin.number() as u32).collect())
            }
            (Self::Pop(..) | Self::PassOn(..), Reply::Null) => Seen::Popped(None),
            (Self::Pop(purses, _), Reply::Array(items)) => {
                let from = purses.iter().find(|l| items[0] == Reply::Bulk(purse(**l)));
                let from = *from.unwrap_or_else(|| panic!("{self:?} got {reply:?}"));
                Seen::Popped(Some((from, items[1].number() as u32)))
            }
            (Self::PassOn(a, ..), Reply::Bulk(_)) => {
                Seen::Popped(Some((*a, reply.number() as u32)))
            }
            _ => panic!("{self:?} got {reply:?}"),
        }
    }

    fn changed_nothing(&self, seen: &Seen) -> bool {
        match self {
            Self::Get(_) | Self::Mget(_) | Self::Sum(_) | Self::Range(_) => true,
            _ => matches!(seen, Seen::NoSuchKey | Seen::Popped(None)),
        }
    }
}

impl Action {
    /// What goes over the wire, a piece for each reply.
    pub fn requests(&self, size: &Size) -> Vec<Vec<u8>> {
        match self {
            Self::One(command) => vec![command.request(size)],
            Self::Watch(names) => {
                let words = std::iter::once("WATCH".to_string());
                let words: Vec<String> = words.chain(names.iter().map(|n| size.key(*n))).collect();
                vec![request(&words)]
            }
            Self::Unwatch(_) => vec![request(&["UNWATCH".to_string()])],
            Self::Exec(_, commands) => {
                let mut all = vec![request(&["MULTI".to_string()])];
                all.extend(commands.iter().map(|c| c.request(size)));
                all.push(request(&["EXEC".to_string()]));
                all
            }
        }
    }

    pub fn replies(&self) -> usize {
        match self {
            Self::Exec(_, commands) => commands.len() + 2,
            _ => 1,
        }
    }

    /// Reads the last reply. Panics at one that this cannot get.
    pub fn seen(&self, reply: &[u8]) -> Seen {
        let reply = Reply::parse(reply);
        match (self, &reply) {
            (Self::One(command), reply) => command.seen(reply),
            (Self::Watch(_) | Self::Unwatch(_), Reply::Line(line)) if line == "+OK" => Seen::Done,
            (Self::Exec(..), Reply::Null) => Seen::Aborted,
            (Self::Exec(_, commands), Reply::Array(items)) if items.len() == commands.len() => {
                let each = commands.iter().zip(items).map(|(c, reply)| c.seen(reply));
                Seen::Many(each.collect())
            }
            _ => panic!("{self:?} got {reply:?}"),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Reply {
    /// With its first character: +, - or :.
    Line(String),
    Bulk(String),
    Null,
    Array(Vec<Reply>),
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).expect("replies here are text");
        Self::of(&mut text.split("\r\n"))
    }
    fn of<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Self {
        let line = lines.next().expect("a whole reply");
        match line.as_bytes() {
            b"$-1" | b"*-1" => Self::Null,
            [b'$', ..] => Self::Bulk(lines.next().expect("a whole reply").to_string()),
            [b'*', ..] => {
                let len = line[1..].parse().expect("a length");
                Self::Array((0..len).map(|_| Self::of(lines)).collect())
            }
            _ => Self::Line(line.to_string()),
        }
    }
    fn number(&self) -> i64 {
        let text = match self {
            Self::Line(line) => line.strip_prefix(':'),
            Self::Bulk(text) => Some(text.as_str()),
            _ => None,
        };
        let number = text.and_then(|t| t.parse().ok());
        number.unwrap_or_else(|| panic!("no number: {self:?}"))
    }
}

/// What one thread would hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bank {
    strings: Vec<Option<i64>>,
    purses: Vec<Vec<u32>>,
    watches: Watches,
}

impl Bank {
    /// What [`Size::look_at_all`] has found.
    pub fn found<'a>(size: &Size, seen: impl Iterator<Item = &'a (u64, Seen)>) -> Self {
        let mut bank = size.bank();
        for (_, seen) in seen {
            match seen {
                Seen::Values(values) => bank.strings[..values.len()].copy_from_slice(values),
                Seen::Many(each) => {
                    for (purse, seen) in bank.purses.iter_mut().zip(each) {
                        let Seen::Coins(coins) = seen else {
                            panic!("no purse: {seen:?}");
                        };
                        purse.clone_from(coins);
                    }
                }
                other => panic!("not from a look at everything: {other:?}"),
            }
        }
        bank
    }
    pub fn coins(&self) -> usize {
        self.purses.iter().map(Vec::len).sum()
    }

    fn command(&mut self, command: &Command) -> Seen {
        let (mut strings, mut purses) = (0u128, 0u128);
        let seen = match command {
            Command::Get(n) => Seen::Values(vec![self.strings[*n]]),
            Command::Mget(names) | Command::Sum(names) => {
                Seen::Values(names.iter().map(|n| self.strings[*n]).collect())
            }
            Command::Set(n, v) => {
                self.strings[*n] = Some(*v);
                strings = command.strings();
                Seen::Done
            }
            Command::IncrBy(n, v) => {
                let value = self.strings[*n].unwrap_or(0) + v;
                self.strings[*n] = Some(value);
                strings = command.strings();
                Seen::Number(value)
            }
            Command::Rename(a, b) => match self.strings[*a].take() {
                Some(value) => {
                    self.strings[*b] = Some(value);
                    strings = command.strings();
                    Seen::Done
                }
                None => Seen::NoSuchKey,
            },
            Command::Transfer(_, from, to, amount) => {
                let change = |(account, change): (usize, i64)| {
                    let here = self.strings[2 * account].is_some();
                    let name = 2 * account + usize::from(!here);
                    let value = self.strings[name].unwrap_or(0) + change;
                    self.strings[name] = Some(value);
                    strings |= 1 << name;
                    Some(value)
                };
                Seen::Values([(*from, -amount), (*to, *amount)].map(change).to_vec())
            }
            Command::Range(l) => Seen::Coins(self.purses[*l].clone()),
            Command::Push(l, coin) => {
                self.purses[*l].push(*coin);
                purses = command.purses();
                Seen::Number(self.purses[*l].len() as i64)
            }
            // While something is there, a pop takes it at once; a timeout is for a moment when nothing is.
            Command::Pop(from, _) => {
                let from = from.iter().find(|l| !self.purses[**l].is_empty());
                Seen::Popped(from.map(|l| {
                    purses = 1 << l;
                    (*l, self.purses[*l].remove(0))
                }))
            }
            Command::PassOn(a, b, _) if !self.purses[*a].is_empty() => {
                let coin = self.purses[*a].remove(0);
                self.purses[*b].push(coin);
                purses = command.purses();
                Seen::Popped(Some((*a, coin)))
            }
            Command::PassOn(..) => Seen::Popped(None),
        };
        self.watches.changed(strings | purses << PURSES);
        seen
    }
}

/// Purses behind all strings that there may be.
const PURSES: u32 = 100;

impl Model for Bank {
    type Action = Action;
    type Seen = Seen;

    fn keys(action: &Action) -> u128 {
        let of = |c: &Command| c.strings() | c.purses() << PURSES;
        let names = |names: &[Name]| names.iter().fold(0, |all, n| all | 1 << n);
        match action {
            Action::One(command) => of(command),
            Action::Watch(watched) | Action::Unwatch(watched) => names(watched),
            Action::Exec(watched, commands) => {
                commands.iter().fold(names(watched), |all, c| all | of(c))
            }
        }
    }

    fn changed_nothing(action: &Action, seen: &Seen) -> bool {
        match (action, seen) {
            (Action::One(command), seen) => command.changed_nothing(seen),
            (Action::Exec(watched, commands), Seen::Many(each)) if watched.is_empty() => {
                let mut pairs = commands.iter().zip(each);
                pairs.all(|(command, seen)| command.changed_nothing(seen))
            }
            _ => false,
        }
    }

    fn apply(&mut self, client: usize, action: &Action) -> Seen {
        match action {
            Action::One(command) => self.command(command),
            Action::Watch(names) => {
                let keys = names.iter().fold(0, |all, n| all | 1 << n);
                self.watches.watch(client, keys);
                Seen::Done
            }
            Action::Unwatch(_) => {
                self.watches.unwatch(client);
                Seen::Done
            }
            Action::Exec(_, commands) => match self.watches.unwatch(client) {
                true => Seen::Many(commands.iter().map(|c| self.command(c)).collect()),
                false => Seen::Aborted,
            },
        }
    }
}

/// What a person is about to do.
#[derive(Debug)]
enum Plan {
    Anything,
    /// Has asked what two accounts hold, and watches them.
    Transfer([Name; 4], i64),
    /// The same, to have them change names.
    Swap(Vec<Name>),
    Decided(Action),
    /// Has a coin in hand.
    Holding(u32),
}

/// A client.
#[derive(Debug)]
pub struct Person {
    size: Size,
    id: usize,
    plan: Plan,
    /// Waits for coins for as long as it takes.
    patient: bool,
    /// How often an EXEC came to nothing.
    pub aborted: usize,
}

impl Person {
    pub fn new(size: Size, id: usize, patient: bool) -> Self {
        let plan = Plan::Anything;
        Self {
            size,
            id,
            plan,
            patient,
            aborted: 0,
        }
    }
    /// Has nothing in hand, and watches nothing.
    pub fn is_free(&self) -> bool {
        matches!(self.plan, Plan::Anything)
    }

    /// What to send now, in one pipeline: something that changes, or a look at everything. Not before all that was sent is answered.
    pub fn next(&mut self, reads: bool, below: &mut dyn FnMut(usize) -> usize) -> Vec<Action> {
        let size = self.size;
        let mut two = |first: usize, all: usize| {
            let from = below(all - first);
            let to = (from + 1 + below(all - first - 1)) % (all - first);
            (first + from, first + to)
        };
        let (from, to) = two(0, size.accounts);
        let (rich, poor) = two(0, size.fixed);
        let (left, right) = two(size.fixed, size.accounts);
        let (taken, given) = two(0, size.purses);
        let amount = 1 + below(50) as i64;
        let paid = || {
            let (from, to) = (2 * rich, 2 * poor);
            let pay = [Command::IncrBy(from, -amount), Command::IncrBy(to, amount)];
            (vec![from, to], pay.to_vec())
        };
        match std::mem::replace(&mut self.plan, Plan::Anything) {
            Plan::Decided(action) => return vec![action],
            Plan::Holding(coin) => return vec![Action::One(Command::Push(given, coin))],
            Plan::Anything => {}
            other => panic!("not answered yet: {other:?}"),
        }
        if reads {
            return vec![self.reading(below(4))];
        }
        let one = match below(14) {
            0..=2 => {
                let names = [2 * from, 2 * from + 1, 2 * to, 2 * to + 1];
                self.plan = Plan::Transfer(names, amount);
                let look = Action::One(Command::Mget(names.to_vec()));
                return vec![Action::Watch(names.to_vec()), look];
            }
            3 => {
                let names = vec![2 * left, 2 * right];
                self.plan = Plan::Swap(names.clone());
                let look = Action::One(Command::Mget(names.clone()));
                return vec![Action::Watch(names), look];
            }
            4 => Command::Transfer(How::Declared, from, to, amount),
            5 => Command::Transfer(How::Undeclared, from, to, amount),
            6 => Command::Transfer(How::Half, from, to, amount),
            // Away and back. Somebody else may have been there first.
            7 => Command::Rename(2 * left, 2 * left + 1),
            8 => Command::Rename(2 * left + 1, 2 * left),
            9 => return vec![Action::Exec(Vec::new(), paid().1)],
            10 => {
                let (names, pay) = paid();
                return vec![Action::Watch(names.clone()), Action::Exec(names, pay)];
            }
            11 => {
                let mut commands = paid().1;
                commands.push(Command::Transfer(How::Undeclared, from, to, amount));
                commands.push(Command::Rename(2 * left, 2 * left + 1));
                return vec![Action::Exec(Vec::new(), commands)];
            }
            // Coins come and go, but no purse needs to get one.
            12 => Command::PassOn(taken, given, 1 + amount as u32),
            _ => {
                let purses = (0..size.purses).map(|l| (l + taken) % size.purses);
                let ms = if self.patient { 0 } else { 1 + amount as u32 };
                Command::Pop(purses.collect(), ms)
            }
        };
        vec![Action::One(one)]
    }

    fn reading(&self, how: usize) -> Action {
        let names = self.size.names();
        match how {
            0 => Action::One(Command::Mget(names)),
            1 => Action::Exec(Vec::new(), names.into_iter().map(Command::Get).collect()),
            2 => Action::One(Command::Sum(names)),
            _ => {
                let ranges = (0..self.size.purses).map(Command::Range);
                Action::Exec(Vec::new(), ranges.collect())
            }
        }
    }

    /// What came of something that was sent. Panics where it is plainly wrong.
    pub fn told(&mut self, action: &Action, seen: &Seen) {
        match (&self.plan, action, seen) {
            (Plan::Transfer(names, amount), Action::One(Command::Mget(_)), Seen::Values(v)) => {
                let at = |first: usize| {
                    let there = (first..first + 2).find(|&n| v[n].is_some());
                    let n = there.unwrap_or_else(|| panic!("{action:?}: {v:?}"));
                    (names[n], v[n].expect("found above"))
                };
                let ((from, has), (to, had)) = (at(0), at(2));
                let set = [
                    Command::Set(from, has - amount),
                    Command::Set(to, had + amount),
                ];
                self.plan = Plan::Decided(Action::Exec(names.to_vec(), set.to_vec()));
            }
            (Plan::Swap(names), Action::One(Command::Mget(_)), Seen::Values(v)) => {
                let (a, b) = (names[0], names[1]);
                // A third name that nobody else ever sees.
                let hand = 2 * self.size.accounts + self.id;
                let steps = [(a, hand), (b, a), (hand, b)].map(|(a, b)| Command::Rename(a, b));
                self.plan = Plan::Decided(match v[..] {
                    [Some(_), Some(_)] => Action::Exec(names.clone(), steps.to_vec()),
                    _ => Action::Unwatch(names.clone()),
                });
            }
            (_, Action::One(Command::Pop(..)), Seen::Popped(Some((_, coin)))) => {
                self.plan = Plan::Holding(*coin);
            }
            (_, Action::Exec(..), Seen::Aborted) => self.aborted += 1,
            (_, Action::Exec(_, commands), Seen::Many(each)) => self.check_exec(commands, each),
            (_, Action::One(Command::Mget(_) | Command::Sum(_)), Seen::Values(values)) => {
                self.check_sum(values);
            }
            _ => {}
        }
    }

    fn check_exec(&self, commands: &[Command], each: &[Seen]) {
        let strings = each.iter().flat_map(|s| match s {
            Seen::Values(value) => value.as_slice(),
            _ => &[],
        });
        let mut coins: Vec<u32> = Vec::new();
        for seen in each {
            if let Seen::Coins(of) = seen {
                coins.extend(of);
            }
        }
        match commands[0] {
            Command::Get(_) => self.check_sum(&strings.copied().collect::<Vec<_>>()),
            Command::Range(_) => {
                let seen = coins.len();
                coins.sort();
                coins.dedup();
                assert_eq!(coins.len(), seen, "a coin is in two places: {each:?}");
                // The others are in somebody's hand, one each.
                let least = self.size.coins.saturating_sub(self.size.persons);
                assert!((least..=self.size.coins).contains(&seen), "{seen} coins");
            }
            _ => {}
        }
    }

    fn check_sum(&self, values: &[Option<i64>]) {
        let (count, sum) = (
            values.iter().flatten().count(),
            values.iter().flatten().sum(),
        );
        let right = (self.size.accounts, self.size.accounts as i64 * AMOUNT);
        assert_eq!((count, sum), right, "{values:?}");
    }
}
