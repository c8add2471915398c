//! Amounts between accounts, by every way that an application has to change several keys at once (`history::accounts`), while
//! others sum all accounts in every way: no sum is ever wrong, nothing blocks for good, and one order of everything explains
//! every reply.
//!
//! In rounds, at whose ends everybody is at rest and what is there is known, so the search for that order begins anew. As many steps
//! as RINGWOOD_ACCOUNTS_STEPS says (each client; 40 by default), not so many seconds: a slow machine does the same.

use crate::harness::{Random, Server, Setup};
use crate::history::accounts::{Action, Bank, Person, Seen, Size};
use crate::history::{self, Op, Verdict};
use crate::resp::{Client, Value};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const MOVERS: usize = 12;
const READERS: usize = 6;
const SIZE: Size = Size {
    accounts: 24,
    fixed: 6,
    purses: 6,
    coins: 16,
    persons: MOVERS + READERS,
};
/// Steps of a round.
const ROUND: usize = 100;
/// The search took a step for each operation, and a few hundred back, in all rounds that were looked at.
const BUDGET: usize = 2_000_000;

fn steps() -> usize {
    std::env::var("RINGWOOD_ACCOUNTS_STEPS")
        .ok()
        .map_or(40, |text| {
            text.parse().expect("RINGWOOD_ACCOUNTS_STEPS is a number")
        })
}

type Ops = Vec<Op<Action, Seen>>;

struct Teller<'a> {
    client: Client,
    random: Random,
    person: Person,
    id: usize,
    /// One for all: what has a higher number came later.
    clock: &'a AtomicU64,
    ops: Ops,
}

impl Teller<'_> {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Sends these at once, or one after the other, and hears what comes of them.
    fn carry_out(&mut self, actions: Vec<Action>) {
        let requests: Vec<Vec<u8>> = actions.iter().flat_map(|a| a.requests(&SIZE)).collect();
        let at_once = self.random.below(2) == 0;
        let mut called = self.now();
        if at_once {
            self.client.send(&requests.concat());
        }
        let mut requests = requests.into_iter();
        for action in actions {
            if !at_once {
                called = self.now();
            }
            let replies = action.replies();
            for n in 1..=replies {
                let request = requests.next().expect("one for each reply");
                if !at_once {
                    self.client.send(&request);
                }
                if n < replies {
                    let begun = self.client.read();
                    let queued = ["OK", "QUEUED"].map(|t| Value::Simple(t.into()));
                    assert!(queued.contains(&begun), "{action:?}: {begun:?}");
                }
            }
            let seen = action.seen(&self.client.read_bytes());
            self.person.told(&action, &seen);
            self.ops.push(Op {
                client: self.id,
                called,
                answered: Some((self.now(), seen)),
                action,
            });
        }
    }

    fn round(&mut self, steps: usize) {
        let mut done = 0;
        // Until nothing is in hand.
        while done < steps || !self.person.is_free() {
            done += 1;
            let random = &mut self.random;
            let reads = self.id >= MOVERS;
            let actions = self.person.next(reads, &mut |n| random.below(n));
            self.carry_out(actions);
        }
    }
}

fn transfers(setup: Setup) {
    let server = Server::start(setup);
    let (mut seeds, clock) = (Random::seeded(), AtomicU64::new(1));
    let mut tellers: Vec<Teller> = (0..=SIZE.persons)
        .map(|id| Teller {
            client: server.connect(),
            random: Random::with(seeds.next()),
            person: Person::new(SIZE, id, true),
            id,
            clock: &clock,
            ops: Ops::new(),
        })
        .collect();
    // One who only looks, when everything is at rest.
    let mut witness = tellers.pop().expect("more than one");
    let requests = SIZE.setup();
    witness.client.send(&requests.concat());
    for _ in requests {
        let reply = witness.client.read();
        assert!(!matches!(reply, Value::Error(_)), "{reply:?}");
    }
    let mut bank = SIZE.bank();
    let (mut left, mut looked_at) = (steps(), 0);
    while left > 0 {
        let steps = left.min(ROUND);
        left -= steps;
        thread::scope(|scope| {
            for teller in &mut tellers {
                scope.spawn(move || teller.round(steps));
            }
        });
        witness.carry_out(SIZE.look_at_all());
        let mut ops: Ops = std::mem::take(&mut witness.ops);
        let found = Bank::found(&SIZE, ops.iter().filter_map(|op| op.answered.as_ref()));
        for teller in &mut tellers {
            ops.append(&mut teller.ops);
        }
        ops.sort_by_key(|op| op.called);
        looked_at += ops.len();
        let verdict = history::check(&bank, &ops, BUDGET);
        assert_eq!(verdict, Verdict::Right, "no order explains these");
        bank = found;
    }
    let coins = bank.coins();
    assert_eq!(coins, SIZE.coins, "at rest no coin is in a hand");
    // Nobody waits, watches or holds anything.
    let info = witness.client.call(&["INFO", "clients"]);
    let Value::Bulk(info) = info else {
        panic!("INFO answered {info:?}");
    };
    let info = String::from_utf8_lossy(&info);
    for line in [
        "blocked_clients:0",
        "total_watched_keys:0",
        "total_blocking_keys:0",
    ] {
        assert!(info.lines().any(|l| l == line), "{line}: {info}");
    }
    let aborted: usize = tellers.iter().map(|t| t.person.aborted).sum();
    println!("{setup:?}: {looked_at} operations in order, {aborted} EXECs came to nothing");
}

#[test]
fn one_order_explains_what_all_saw_of_the_accounts() {
    transfers(Setup {
        engine: "uring",
        shards: 4,
    });
}

#[test]
fn also_with_epoll() {
    transfers(Setup {
        engine: "epoll",
        shards: 4,
    });
}
