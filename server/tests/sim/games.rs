//! What the simulated clients do: random commands on few keys, or amounts moved between accounts.

use crate::commands::{self, Action};
use crate::history::{Model, accounts};
use crate::{KEYS, LISTS};
use ringwood::io::sim::Chance;

pub type Actions<G> = Vec<<<G as Game>::Model as Model>::Action>;

pub trait Game {
    type Model: Model;

    /// Sent and answered before anything else, and what it makes.
    fn setup(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
    fn initial(&self) -> Self::Model;
    /// Whether a client sends more while so many replies have not come.
    fn goes_on(&self, waiting: usize) -> bool;
    /// What a client sends next, at once.
    fn next(&mut self, client: usize, chance: &mut Chance) -> Actions<Self>
    where
        Self: Sized;
    fn request(&self, action: &<Self::Model as Model>::Action, chance: &mut Chance) -> Vec<u8>;
    /// Replies that come before the one that tells what happened: MULTI's and QUEUED.
    fn replies_before(action: &<Self::Model as Model>::Action) -> usize;
    /// Reads the reply. Panics at one that this command cannot get: then replies are out of order.
    fn seen(
        &self,
        action: &<Self::Model as Model>::Action,
        reply: &[u8],
    ) -> <Self::Model as Model>::Seen;
    /// The client has heard.
    fn told(
        &mut self,
        _client: usize,
        _action: &<Self::Model as Model>::Action,
        _seen: &<Self::Model as Model>::Seen,
    ) {
    }
}

/// Random commands, transactions and scripts.
#[derive(Default)]
pub struct Commands {
    next_value: u32,
    /// Half of the commands are about lists.
    lists: bool,
    /// Half of the commands are in transactions each of whose commands has one key: these need no other core's keys.
    execs: bool,
    /// What each client watches.
    watched: Vec<Vec<usize>>,
}

impl Commands {
    pub fn new(clients: usize, chance: &mut Chance) -> Self {
        Self {
            lists: chance.one_in(2),
            execs: chance.one_in(2),
            watched: vec![Vec::new(); clients],
            next_value: 0,
        }
    }

    fn action(&mut self, client: usize, chance: &mut Chance) -> Action {
        let some = |game: &mut Self, chance: &mut Chance| -> Vec<Action> {
            let count = chance.below(4);
            (0..count).map(|_| game.single(chance)).collect()
        };
        let watching = !self.watched[client].is_empty();
        match chance.below(24) {
            0..=2 => {
                let watched = std::mem::take(&mut self.watched[client]);
                Action::Exec(watched, some(self, chance))
            }
            // Who watches goes on to EXEC before long.
            3..=8 if watching => {
                let watched = std::mem::take(&mut self.watched[client]);
                Action::Exec(watched, some(self, chance))
            }
            3 => {
                let keys: Vec<usize> = (0..KEYS + LISTS).filter(|_| chance.one_in(4)).collect();
                let keys = if keys.is_empty() { vec![0] } else { keys };
                self.watched[client].extend(&keys);
                Action::Watch(keys)
            }
            4 if chance.one_in(3) => {
                self.watched[client].clear();
                Action::Unwatch
            }
            5 | 6 => {
                let actions = some(self, chance);
                let told = match chance.below(3) {
                    0 => 0,
                    1 => u32::MAX,
                    _ => chance.draw() as u32,
                };
                let keys = actions
                    .iter()
                    .fold(0, |all, a| all | commands::State::keys(a));
                Action::Script(keys as u32 & told, actions)
            }
            7 => {
                self.next_value += 1;
                Action::Chase(chance.below(KEYS), self.next_value)
            }
            12..=23 if self.execs => {
                let count = 1 + chance.below(4);
                Action::Exec(
                    std::mem::take(&mut self.watched[client]),
                    (0..count).map(|_| self.of_one_key(chance)).collect(),
                )
            }
            _ => self.single(chance),
        }
    }

    fn of_one_key(&mut self, chance: &mut Chance) -> Action {
        self.next_value += 1;
        let lists = if self.lists { 6 } else { 1 };
        match chance.below(6 + lists) {
            0..=2 => Action::Get(chance.below(KEYS)),
            3 | 4 => Action::Set(chance.below(KEYS), self.next_value),
            5 => Action::Del(vec![chance.below(KEYS)]),
            n if n % 2 == 0 => Action::Push(chance.below(LISTS), self.next_value),
            _ => Action::Pop(vec![chance.below(LISTS)], 1),
        }
    }

    fn single(&mut self, chance: &mut Chance) -> Action {
        let key = |chance: &mut Chance| chance.below(KEYS);
        let some_keys = |chance: &mut Chance| {
            let mut keys: Vec<usize> = (0..KEYS).filter(|_| chance.one_in(2)).collect();
            if keys.is_empty() {
                keys.push(chance.below(KEYS));
            }
            keys
        };
        self.next_value += 1;
        let value = self.next_value;
        // Mostly strings, or mostly lists: the more of them meet on one key, the more can go wrong.
        let lists = if self.lists { 22 } else { 3 };
        match chance.below(22 + lists) {
            0..=3 => Action::Get(key(chance)),
            4..=6 => Action::Set(key(chance), value),
            7..=8 => Action::Del(some_keys(chance)),
            9..=11 => Action::Mset(some_keys(chance), value),
            12..=15 => Action::Mget(some_keys(chance)),
            16 => Action::Msetnx(some_keys(chance), value),
            17..=18 => Action::Rename(key(chance), key(chance)),
            19 => Action::Copy(key(chance), key(chance)),
            20 => Action::Exists(some_keys(chance)),
            21 => Action::Echo(value),
            n => {
                let (a, b) = (chance.below(LISTS), chance.below(LISTS));
                let ms = 1 + chance.below(60) as u32;
                match n % 5 {
                    0 | 1 => Action::Push(a, value),
                    2 => Action::Pop(vec![a], ms),
                    3 => {
                        let all = (0..LISTS).map(|l| (l + a) % LISTS);
                        Action::Pop(all.take(1 + b).collect(), ms)
                    }
                    _ => Action::Move(a, b, ms),
                }
            }
        }
    }
}

impl Game for Commands {
    type Model = commands::State;

    fn initial(&self) -> commands::State {
        commands::State::default()
    }
    fn goes_on(&self, waiting: usize) -> bool {
        waiting < 4
    }
    fn next(&mut self, client: usize, chance: &mut Chance) -> Vec<Action> {
        let count = 1 + chance.below(4);
        (0..count).map(|_| self.action(client, chance)).collect()
    }
    fn request(&self, action: &Action, chance: &mut Chance) -> Vec<u8> {
        // Now and then a value that is received straight into place.
        let padding = if chance.one_in(40) {
            70_000 + chance.below(200_000)
        } else {
            chance.below(20)
        };
        action.request(padding)
    }
    fn replies_before(action: &Action) -> usize {
        action.replies_before()
    }
    fn seen(&self, action: &Action, reply: &[u8]) -> commands::Seen {
        action.seen(reply)
    }
}

/// Amounts and coins that must not be lost.
pub struct Accounts {
    size: accounts::Size,
    persons: Vec<accounts::Person>,
}

impl Accounts {
    pub fn new(clients: usize, chance: &mut Chance) -> Self {
        let size = accounts::Size {
            accounts: 4 + chance.below(3),
            fixed: 2,
            purses: 2 + chance.below(2),
            coins: 1 + chance.below(4),
            persons: clients,
        };
        // Nobody waits for good: the coins may be in the hands of the dead.
        let persons = (0..clients).map(|id| accounts::Person::new(size, id, false));
        Self {
            size,
            persons: persons.collect(),
        }
    }
}

impl Game for Accounts {
    type Model = accounts::Bank;

    fn setup(&self) -> Vec<Vec<u8>> {
        self.size.setup()
    }
    fn initial(&self) -> accounts::Bank {
        self.size.bank()
    }
    fn goes_on(&self, waiting: usize) -> bool {
        waiting == 0
    }
    fn next(&mut self, client: usize, chance: &mut Chance) -> Vec<accounts::Action> {
        let reads = chance.one_in(4);
        self.persons[client].next(reads, &mut |n| chance.below(n))
    }
    fn request(&self, action: &accounts::Action, _: &mut Chance) -> Vec<u8> {
        action.requests(&self.size).concat()
    }
    fn replies_before(action: &accounts::Action) -> usize {
        action.replies() - 1
    }
    fn seen(&self, action: &accounts::Action, reply: &[u8]) -> accounts::Seen {
        action.seen(reply)
    }
    fn told(&mut self, client: usize, action: &accounts::Action, seen: &accounts::Seen) {
        self.persons[client].told(action, seen);
    }
}
