//! The production cores over a simulated world, driven by a seed.
//!
//! Each seed makes a server of 1 to 5 cores and up to 6 clients on one thread, in [`ringwood::io::sim`]'s network. Clients
//! send pipelines of commands on a few keys, cut anywhere; some wait for lists, some die in the middle, some stop reading. Cores take their turns
//! in any order. What the clients saw is then checked: `history` says how.
//!
//! `RINGWOOD_SIM_SEED=n` runs one seed and shows its history; `RINGWOOD_SIM_SECONDS=n` runs as many as fit (default 5).

mod disk;
mod history;

use history::{Action, Op};
use ringwood::config::{Config, Loaded};
use ringwood::core::{Core, Shared, settings};
use ringwood::io::sim::{Chance, Net, SharedNet, SimIo};
use ringwood::io::{Io, ListenerId, World};
use ringwood::mailbox::mailboxes;
use ringwood_protocol::reply::value_len;
use ringwood_shard::keyspace::KeyHasher;
use ringwood_shard::shard::{Settings, Shard};
use ringwood_shard::slot_set::SlotSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// As in the server: what a snapshot hands to another thread is counted by it.
#[global_allocator]
static ALLOCATOR: ringwood_shard::memory::CountingAllocator =
    ringwood_shard::memory::CountingAllocator;

/// The keys that clients fight over. On two or more cores they have different owners.
const KEYS: usize = 6;
/// Lists, from which clients pop and wait.
const LISTS: usize = 3;
/// Commands of one seed's history: as many as the checker takes.
const OPS: usize = 60;

/// What simulated cores share.
fn simulated(config: Config, cores: usize) -> Shared {
    let loaded = Loaded {
        config,
        file: None,
        users: Vec::new(),
        renames: Default::default(),
        without_effect: Vec::new(),
    };
    Shared::new(loaded, cores)
}

fn cores(count: usize, strict: bool, net: &SharedNet, chance: &mut Chance) -> Vec<Core> {
    let mut config = Config {
        // FLUSHALL would write a file.
        save: Default::default(),
        ..Config::default()
    };
    if strict {
        config.pipeline_order = ringwood::config::enums::PipelineOrder::Strict;
    }
    let shared = Arc::new(simulated(config.clone(), count));
    let hasher = KeyHasher::new(chance.draw());
    let (_, boxes) = mailboxes(count);
    boxes
        .into_iter()
        .enumerate()
        .map(|(id, mailbox)| {
            let mut io = World::Sim(SimIo::new(net));
            if id == 0 {
                io.listen_simulated(ListenerId(0));
            }
            let settings = Arc::new(settings(&config, &Settings::default()));
            let mut shard = Shard::new(settings, hasher.clone(), io.now().unix_ms, chance.draw());
            let owned = shared
                .owners
                .iter()
                .enumerate()
                .filter(|(_, o)| **o as usize == id);
            shard.owned = SlotSet::from_slots(owned.map(|(slot, _)| slot as u16));
            Core::new(id, io, shard, mailbox, shared.clone())
        })
        .collect()
}

/// One simulated client.
struct Client {
    pipe: usize,
    /// Replies that have not come yet, oldest first: the index of the operation that each tells of, if it does.
    waiting: VecDeque<Option<usize>>,
    dead: bool,
    taken: usize,
}

struct Simulation {
    net: SharedNet,
    chance: Chance,
    cores: Vec<Core>,
    clients: Vec<Client>,
    ops: Vec<Op>,
    step: u64,
    next_value: u32,
    /// Half of the commands are about lists.
    lists: bool,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let net = Net::shared(chance.draw());
        let (count, strict) = (1 + chance.below(5), chance.one_in(5));
        let cores = cores(count, strict, &net, &mut chance);
        let clients = (0..2 + chance.below(5))
            .map(|_| Client {
                pipe: net.borrow_mut().connect(),
                waiting: VecDeque::new(),
                dead: false,
                taken: 0,
            })
            .collect();
        let lists = chance.one_in(2);
        Self {
            lists,
            net,
            chance,
            cores,
            clients,
            ops: Vec::new(),
            step: 0,
            next_value: 1,
        }
    }

    fn action(&mut self) -> Action {
        if self.chance.one_in(8) {
            let count = self.chance.below(4);
            return Action::Exec((0..count).map(|_| self.single_action()).collect());
        }
        self.single_action()
    }

    fn single_action(&mut self) -> Action {
        let chance = &mut self.chance;
        let key = |chance: &mut Chance| chance.below(KEYS);
        let some_keys = |chance: &mut Chance| {
            let mut keys: Vec<usize> = (0..KEYS).filter(|_| chance.one_in(2)).collect();
            if keys.is_empty() {
                keys.push(chance.below(KEYS));
            }
            keys
        };
        let value = self.next_value;
        self.next_value += 1;
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

    /// A client sends some commands at once.
    fn send(&mut self, client: usize) {
        for _ in 0..1 + self.chance.below(4) {
            if self.ops.len() == OPS {
                return;
            }
            let action = self.action();
            // Now and then a value that is received straight into place.
            let padding = if self.chance.one_in(40) {
                70_000 + self.chance.below(200_000)
            } else {
                self.chance.below(20)
            };
            let bytes = action.request(padding);
            let waiting = &mut self.clients[client].waiting;
            waiting.extend(std::iter::repeat_n(None, action.replies_before()));
            waiting.push_back(Some(self.ops.len()));
            self.ops.push(Op {
                client,
                action,
                called: self.step,
                answered: None,
            });
            let pipe = self.clients[client].pipe;
            self.net.borrow_mut().pipes[pipe].to_server.extend(bytes);
        }
    }

    /// A client takes in what has come.
    fn receive(&mut self, client: usize) {
        let c = &mut self.clients[client];
        let mut net = self.net.borrow_mut();
        let pipe = &mut net.pipes[c.pipe];
        while let Some(len) = value_len(&pipe.to_client[c.taken..]) {
            let reply = &pipe.to_client[c.taken..c.taken + len];
            match c.waiting.pop_front().expect("no reply without a request") {
                Some(op) => {
                    self.ops[op].answered = Some((self.step, self.ops[op].action.seen(reply)));
                }
                None => assert!(reply == b"+OK\r\n" || reply == b"+QUEUED\r\n"),
            }
            c.taken += len;
        }
        assert!(
            !pipe.server_closed || c.dead,
            "the server closed a connection"
        );
    }

    fn turn(&mut self) {
        self.step += 1;
        let client = self.chance.below(self.clients.len());
        match self.chance.below(20) {
            0..=2 if !self.clients[client].dead && self.clients[client].waiting.len() < 4 => {
                self.send(client)
            }
            3 if self.chance.one_in(30) => {
                let pipe = self.clients[client].pipe;
                self.clients[client].dead = true;
                self.net.borrow_mut().pipes[pipe].client_gone = true;
            }
            4 => {
                let pipe = self.clients[client].pipe;
                let deaf = self.chance.one_in(3);
                self.net.borrow_mut().pipes[pipe].client_deaf = deaf;
            }
            5 => {
                let ms = self.chance.below(20) as u64;
                let mut net = self.net.borrow_mut();
                net.mono_ns += ms * 1_000_000;
                net.unix_ms += ms as i64;
            }
            _ => {
                let core = self.chance.below(self.cores.len());
                self.cores[core]
                    .turn()
                    .expect("the simulated world does not fail");
            }
        }
        if !self.clients[client].dead {
            self.receive(client);
        }
    }

    fn run(&mut self) {
        while self.ops.len() < OPS && self.clients.iter().any(|c| !c.dead) {
            self.turn();
        }
        for c in &self.clients {
            self.net.borrow_mut().pipes[c.pipe].client_deaf = false;
        }
        // All that is outstanding ends within a bounded number of turns.
        for _ in 0..3000 {
            for core in 0..self.cores.len() {
                self.cores[core]
                    .turn()
                    .expect("the simulated world does not fail");
            }
            self.step += 1;
            // Who waits for a key waits until its timeout.
            self.net.borrow_mut().mono_ns += 1_000_000;
            for client in 0..self.clients.len() {
                if !self.clients[client].dead {
                    self.receive(client);
                }
            }
            let answered = self.clients.iter().all(|c| c.dead || c.waiting.is_empty());
            if answered && self.cores.iter().all(Core::is_at_rest) {
                break;
            }
        }
        for (n, c) in self.clients.iter().enumerate() {
            assert!(
                c.dead || c.waiting.is_empty(),
                "client {n} waits for {} replies for ever",
                c.waiting.len()
            );
        }
        for core in &self.cores {
            assert!(core.is_at_rest(), "core {} never came to rest", core.id);
            core.shard.keyspace.check_invariants();
        }
    }
}

/// Runs one seed; panics with what is wrong.
fn simulate(seed: u64, show: bool) -> history::Verdict {
    let mut simulation = Simulation::new(seed);
    simulation.run();
    if show {
        for op in &simulation.ops {
            println!("{op:?}");
        }
    }
    history::check(&simulation.ops)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn seeds() {
    if let Some(seed) = number("RINGWOOD_SIM_SEED") {
        let verdict = simulate(seed, true);
        assert_ne!(
            verdict,
            history::Verdict::Wrong,
            "the history is not linearizable"
        );
        return;
    }
    let time = Duration::from_secs(number("RINGWOOD_SIM_SECONDS").unwrap_or(5));
    let (begin, mut seed, mut undecided) =
        (Instant::now(), number("RINGWOOD_SIM_FIRST").unwrap_or(1), 0);
    let first = seed;
    while begin.elapsed() < time {
        let result = std::panic::catch_unwind(|| simulate(seed, false));
        match result {
            Ok(history::Verdict::Right) => {}
            Ok(history::Verdict::Undecided) => undecided += 1,
            Ok(history::Verdict::Wrong) => {
                panic!("seed {seed}: the history is not linearizable (RINGWOOD_SIM_SEED={seed})")
            }
            Err(_) => panic!("seed {seed} failed (RINGWOOD_SIM_SEED={seed})"),
        }
        seed += 1;
    }
    println!(
        "sim: {} seeds, {undecided} histories too wide to decide",
        seed - first
    );
    assert!(
        undecided * 10 <= seed - first,
        "the checker gave up too often"
    );
}
