//! The production cores over a simulated world, driven by a seed.
//!
//! Each seed makes a server of 1 to 5 cores and up to 6 clients on one thread, in [`ringwood::io::sim`]'s network. Clients
//! send pipelines of commands, transactions and scripts on a few keys, cut anywhere, or move amounts between accounts and sum them (`games`);
//! some wait for lists, some die in the middle, some stop reading. Cores take their turns
//! in any order. What the clients saw is then checked: `history` says how.
//!
//! What was found and mended is played again in `scenes`.
//!
//! `RINGWOOD_SIM_SEED=n` runs one seed and shows its history; `RINGWOOD_SIM_SECONDS=n` runs as many as fit (default 5).

mod commands;
mod disk;
mod games;
mod scenes;
// The wire tests use more of it.
#[allow(dead_code)]
#[path = "../history/mod.rs"]
mod history;

use games::Game;
use history::{Model, Op, Verdict};
use ringwood::config::{Config, Loaded};
use ringwood::core::{Core, Shared, settings};
use ringwood::io::sim::{Chance, Net, SharedNet, SimIo};
use ringwood::io::{Io, ListenerId, World};
use ringwood::mailbox::mailboxes;
use ringwood_protocol::reply::value_len;
use ringwood_shard::keyspace::KeyHasher;
use ringwood_shard::shard::{Settings, Shard};
use ringwood_shard::slot_set::SlotSet;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
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
/// Operations of one seed's history.
const OPS: usize = 60;
/// Seeds that found something that is not mended yet; see ARCHITECTURE.md.
const OPEN: &[u64] = &[];
/// Steps of the search before it gives up.
const BUDGET: usize = 60_000;

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
            shard.keyspace.set_own_slots(&shard.owned);
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

type Ops<M> = Vec<Op<<M as Model>::Action, <M as Model>::Seen>>;

struct Simulation<G: Game> {
    net: SharedNet,
    chance: Chance,
    cores: Rc<Vec<RefCell<Core>>>,
    clients: Vec<Client>,
    game: G,
    ops: Ops<G::Model>,
    step: u64,
}

impl<G: Game> Simulation<G> {
    fn new(seed: u64, game: impl FnOnce(usize, &mut Chance) -> G) -> Self {
        let mut chance = Chance::new(seed);
        let net = Net::shared(chance.draw());
        let (count, strict) = (1 + chance.below(5), chance.one_in(5));
        let cores = cores(count, strict, &net, &mut chance);
        let cores = Rc::new(cores.into_iter().map(RefCell::new).collect::<Vec<_>>());
        let below = Rc::downgrade(&cores);
        let from = RefCell::new(Chance::new(chance.draw()));
        // A core that waits for others within its turn lets any other have one.
        net.borrow_mut().others = Some(Rc::new(move || {
            let cores = below.upgrade().expect("one of them waits");
            let core = from.borrow_mut().below(cores.len());
            if let Ok(mut core) = cores[core].try_borrow_mut() {
                core.turn().expect("the simulated world does not fail");
            }
        }));
        let clients: Vec<_> = (0..2 + chance.below(5))
            .map(|_| Client {
                pipe: net.borrow_mut().connect(),
                waiting: VecDeque::new(),
                dead: false,
                taken: 0,
            })
            .collect();
        let game = game(clients.len(), &mut chance);
        Self {
            game,
            net,
            chance,
            cores,
            clients,
            ops: Vec::new(),
            step: 0,
        }
    }

    /// What is there before the clients begin.
    fn set_up(&mut self) {
        let requests = self.game.setup();
        if requests.is_empty() {
            return;
        }
        let pipe = self.net.borrow_mut().connect();
        let bytes = requests.concat();
        self.net.borrow_mut().pipes[pipe].to_server.extend(bytes);
        let answered = |net: &SharedNet| {
            let net = net.borrow();
            let (mut rest, mut replies) = (&net.pipes[pipe].to_client[..], 0);
            while let Some(len) = value_len(rest) {
                assert_ne!(rest[0], b'-', "{}", String::from_utf8_lossy(rest));
                (rest, replies) = (&rest[len..], replies + 1);
            }
            replies
        };
        while answered(&self.net) < requests.len() {
            for core in self.cores.iter() {
                let turn = core.borrow_mut().turn();
                turn.expect("the simulated world does not fail");
            }
        }
    }

    /// A client sends some commands at once.
    fn send(&mut self, client: usize) {
        if !self.game.goes_on(self.clients[client].waiting.len()) {
            return;
        }
        for action in self.game.next(client, &mut self.chance) {
            let bytes = self.game.request(&action, &mut self.chance);
            let waiting = &mut self.clients[client].waiting;
            waiting.extend(std::iter::repeat_n(None, G::replies_before(&action)));
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
                    let op = &mut self.ops[op];
                    let seen = self.game.seen(&op.action, reply);
                    self.game.told(client, &op.action, &seen);
                    op.answered = Some((self.step, seen));
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
            0..=2 if !self.clients[client].dead => self.send(client),
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
                let turn = self.cores[core].borrow_mut().turn();
                turn.expect("the simulated world does not fail");
            }
        }
        if !self.clients[client].dead {
            self.receive(client);
        }
    }

    fn run(&mut self) {
        self.set_up();
        while self.ops.len() < OPS && self.clients.iter().any(|c| !c.dead) {
            self.turn();
        }
        for c in &self.clients {
            self.net.borrow_mut().pipes[c.pipe].client_deaf = false;
        }
        // All that is outstanding ends within a bounded number of turns.
        for _ in 0..3000 {
            for core in self.cores.iter() {
                let turn = core.borrow_mut().turn();
                turn.expect("the simulated world does not fail");
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
            if answered && self.cores.iter().all(|c| c.borrow().is_at_rest()) {
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
        for core in self.cores.iter() {
            let core = core.borrow();
            assert!(core.is_at_rest(), "core {} never came to rest", core.id);
            core.shard.keyspace.check_invariants();
        }
    }
}

/// Runs one seed; panics with what is wrong.
fn simulate(seed: u64, show: bool) -> Verdict {
    // Every third seed is about accounts.
    match seed % 3 {
        0 => play(Simulation::new(seed, games::Accounts::new), show),
        _ => play(Simulation::new(seed, games::Commands::new), show),
    }
}

fn play<G: Game>(mut simulation: Simulation<G>, show: bool) -> Verdict {
    let initial = simulation.game.initial();
    let failed = std::panic::catch_unwind(AssertUnwindSafe(|| simulation.run())).err();
    if show {
        for op in &simulation.ops {
            println!("{op:?}");
        }
    }
    if let Some(failed) = failed {
        std::panic::resume_unwind(failed);
    }
    history::check(&initial, &simulation.ops, BUDGET)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn seeds() {
    if let Some(seed) = number("RINGWOOD_SIM_SEED") {
        let verdict = simulate(seed, true);
        assert_ne!(verdict, Verdict::Wrong, "the history is not linearizable");
        return;
    }
    let time = Duration::from_secs(number("RINGWOOD_SIM_SECONDS").unwrap_or(5));
    let (begin, mut seed, mut undecided) =
        (Instant::now(), number("RINGWOOD_SIM_FIRST").unwrap_or(1), 0);
    let first = seed;
    while begin.elapsed() < time {
        if OPEN.contains(&seed) {
            println!("seed {seed} is open, and left out");
            seed += 1;
            continue;
        }
        let result = std::panic::catch_unwind(|| simulate(seed, false));
        match result {
            Ok(Verdict::Right) => {}
            Ok(Verdict::Undecided) => undecided += 1,
            Ok(Verdict::Wrong) => {
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
