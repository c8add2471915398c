//! Amounts between accounts, by every way that an application has to change several keys at once, while others sum all accounts
//! in every way: no sum is ever wrong, and nothing blocks for good.
//!
//! An account is a string, and lies in any slot. A moved account (RENAME) stands under its other name for a while; readers look
//! at both names. Beside the accounts coins go round through lists and a stranger's hand (BLMOVE, BLPOP): their number is right
//! whenever all lists are looked at in one step, but for those in somebody's hand.
//!
//! As many steps as RINGWOOD_ACCOUNTS_STEPS says (each client; 250 by default), not so many seconds: a slow machine does the same.

use crate::harness::{Random, Server, Setup};
use crate::resp::{Client, Value, ok};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const ACCOUNTS: usize = 24;
const AMOUNT: i64 = 1000;
const LISTS: usize = 6;
const COINS: usize = 16;
const MOVERS: usize = 12;
const READERS: usize = 6;

fn steps() -> usize {
    std::env::var("RINGWOOD_ACCOUNTS_STEPS")
        .ok()
        .map_or(250, |text| {
            text.parse().expect("RINGWOOD_ACCOUNTS_STEPS is a number")
        })
}

fn account(n: usize) -> String {
    format!("account:{n}")
}
/// Where it stands while it is renamed.
fn other_name(n: usize) -> String {
    format!("away:{n}")
}
fn list(n: usize) -> String {
    format!("purse:{n}")
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Bulk(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}
fn number(value: &Value) -> Option<i64> {
    text(value).map(|t| t.parse().unwrap_or_else(|_| panic!("no number: {t}")))
}
fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        other => panic!("no array: {other:?}"),
    }
}

/// Takes from one, gives to another, which may be away; says how much it moved.
const MOVE: &str = "
    local function where(n)
        if redis.call('EXISTS', 'account:' .. n) == 1 then return 'account:' .. n end
        return 'away:' .. n
    end
    local from, to = where(ARGV[1]), where(ARGV[2])
    redis.call('DECRBY', from, ARGV[3])
    redis.call('INCRBY', to, ARGV[3])
    return tonumber(ARGV[3])";
/// The same with its four keys declared.
const MOVE_DECLARED: &str = "
    local from, to = KEYS[1], KEYS[3]
    if redis.call('EXISTS', from) == 0 then from = KEYS[2] end
    if redis.call('EXISTS', to) == 0 then to = KEYS[4] end
    redis.call('SET', from, redis.call('GET', from) - ARGV[1])
    redis.call('SET', to, redis.call('GET', to) + ARGV[1])
    return tonumber(ARGV[1])";
const SUM: &str = "
    local sum, found = 0, 0
    for n = 0, ARGV[1] - 1 do
        for _, name in ipairs({'account:', 'away:'}) do
            local amount = redis.call('GET', name .. n)
            if amount then sum, found = sum + amount, found + 1 end
        end
    end
    return {sum, found}";

struct Mover<'a> {
    client: Client,
    random: Random,
    /// This mover's number, for what it calls its own.
    id: usize,
    /// Optimistic transactions that came to nothing.
    retries: &'a AtomicUsize,
}

impl Mover<'_> {
    fn pair(&mut self) -> (usize, usize) {
        let from = self.random.below(ACCOUNTS);
        (
            from,
            (from + 1 + self.random.below(ACCOUNTS - 1)) % ACCOUNTS,
        )
    }

    fn step(&mut self) {
        let amount = (1 + self.random.below(50)).to_string();
        let (from, to) = self.pair();
        match self.random.below(8) {
            0 | 1 => self.watched(from, to, &amount),
            2 => {
                let words = [
                    "EVAL",
                    MOVE,
                    "0",
                    &from.to_string(),
                    &to.to_string(),
                    &amount,
                ];
                let reply = self.client.call(&words);
                assert_eq!(reply, Value::Int(amount.parse().unwrap()));
            }
            3 => {
                let names = [account(from), other_name(from), account(to), other_name(to)];
                let mut words = vec!["EVAL", MOVE_DECLARED, "4"];
                words.extend(names.iter().map(String::as_str));
                words.push(&amount);
                let reply = self.client.call(&words);
                assert_eq!(reply, Value::Int(amount.parse().unwrap()));
            }
            // Away and back. Somebody else may have been there first.
            4 => self.rename(&account(from), &other_name(from)),
            5 => self.rename(&other_name(from), &account(from)),
            6 => self.passed_on(),
            _ => self.exchanged(from, to),
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        let reply = self.client.call(&["RENAME", from, to]);
        let none = Value::Error("ERR no such key".into());
        assert!(reply == ok() || reply == none, "{reply:?}");
    }

    /// WATCH, look, MULTI, EXEC, until nobody came between.
    fn watched(&mut self, from: usize, to: usize, amount: &str) {
        let names = [account(from), other_name(from), account(to), other_name(to)];
        let amount: i64 = amount.parse().unwrap();
        loop {
            let mut words = vec!["WATCH"];
            words.extend(names.iter().map(String::as_str));
            assert_eq!(self.client.call(&words), ok());
            words[0] = "MGET";
            let seen = array(self.client.call(&words));
            let at = |first: usize| {
                let there = (first..first + 2).find(|&n| seen[n] != Value::Null);
                there.map(|n| (&names[n], number(&seen[n]).unwrap()))
            };
            let (Some((from, has)), Some((to, had))) = (at(0), at(2)) else {
                panic!("MGET found an account under neither name: {seen:?}");
            };
            assert_eq!(self.client.call(&["MULTI"]), ok());
            for (name, now) in [(from, has - amount), (to, had + amount)] {
                let queued = self.client.call(&["SET", name, &now.to_string()]);
                assert_eq!(queued, Value::Simple("QUEUED".into()));
            }
            match self.client.call(&["EXEC"]) {
                Value::Null => self.retries.fetch_add(1, Ordering::Relaxed),
                reply => {
                    assert_eq!(reply, Value::Array(vec![ok(), ok()]));
                    return;
                }
            };
        }
    }

    /// Two accounts change names in one transaction, over a third name that nobody else ever sees.
    fn exchanged(&mut self, from: usize, to: usize) {
        let third = format!("hand:{}", self.id);
        let (a, b) = (account(from), account(to));
        assert_eq!(self.client.call(&["WATCH", &a, &b]), ok());
        if self.client.call(&["EXISTS", &a, &b]) != Value::Int(2) {
            assert_eq!(self.client.call(&["UNWATCH"]), ok());
            return;
        }
        assert_eq!(self.client.call(&["MULTI"]), ok());
        for (from, to) in [(&a, &third), (&b, &a), (&third, &b)] {
            let queued = self.client.call(&["RENAME", from, to]);
            assert_eq!(queued, Value::Simple("QUEUED".into()));
        }
        let reply = self.client.call(&["EXEC"]);
        let done = Value::Array(vec![ok(), ok(), ok()]);
        assert!(reply == done || reply == Value::Null, "{reply:?}");
    }

    /// Waits for a coin in one list and has it moved to another; or takes it, and puts it elsewhere.
    fn passed_on(&mut self) {
        let from = self.random.below(LISTS);
        let to = (from + 1 + self.random.below(LISTS - 1)) % LISTS;
        if self.random.below(2) == 0 {
            // Coins come and go, but no list needs to get one: other lists hold them all. So the wait is short.
            let words = ["BLMOVE", &list(from), &list(to), "LEFT", "RIGHT", "0.05"];
            let reply = self.client.call(&words);
            assert!(reply == Value::Null || text(&reply).is_some(), "{reply:?}");
            return;
        }
        let lists: Vec<String> = (0..LISTS).map(list).collect();
        let mut words = vec!["BLPOP"];
        words.extend(lists.iter().map(String::as_str));
        // There are more coins than hands: one always comes.
        words.push("0");
        let popped = array(self.client.call(&words));
        let coin = text(&popped[1]).expect("a coin");
        let pushed = self.client.call(&["RPUSH", &list(to), &coin]);
        assert!(matches!(pushed, Value::Int(1..)), "{pushed:?}");
    }
}

fn check_sum(amounts: &[Value], how: &str) {
    let found: Vec<i64> = amounts.iter().filter_map(number).collect();
    let (count, sum) = (found.len(), found.iter().sum::<i64>());
    let right = (ACCOUNTS, ACCOUNTS as i64 * AMOUNT);
    assert_eq!((count, sum), right, "{how}: {amounts:?}");
}

fn read(client: &mut Client, random: &mut Random) {
    let names: Vec<String> = (0..ACCOUNTS)
        .flat_map(|n| [account(n), other_name(n)])
        .collect();
    match random.below(4) {
        0 => {
            let mut words = vec!["MGET"];
            words.extend(names.iter().map(String::as_str));
            check_sum(&array(client.call(&words)), "MGET");
        }
        1 => {
            assert_eq!(client.call(&["MULTI"]), ok());
            for name in &names {
                let queued = client.call(&["GET", name]);
                assert_eq!(queued, Value::Simple("QUEUED".into()));
            }
            check_sum(&array(client.call(&["EXEC"])), "EXEC");
        }
        2 => {
            let sum = client.call(&["EVAL", SUM, "0", &ACCOUNTS.to_string()]);
            let right = [ACCOUNTS as i64 * AMOUNT, ACCOUNTS as i64].map(Value::Int);
            assert_eq!(sum, Value::Array(right.to_vec()), "EVAL");
        }
        _ => {
            assert_eq!(client.call(&["MULTI"]), ok());
            for n in 0..LISTS {
                client.call(&["LRANGE", &list(n), "0", "-1"]);
            }
            let lists = array(client.call(&["EXEC"]));
            let mut coins: Vec<String> = lists
                .into_iter()
                .flat_map(array)
                .map(|coin| text(&coin).unwrap())
                .collect();
            let seen = coins.len();
            coins.sort();
            coins.dedup();
            assert_eq!(coins.len(), seen, "a coin is in two places");
            // The others are in somebody's hand, one each.
            assert!((COINS - MOVERS..=COINS).contains(&seen), "{seen} coins");
        }
    }
}

fn transfers(setup: Setup) {
    let server = Server::start(setup);
    let mut seeds = Random::seeded();
    let mut client = server.connect();
    for n in 0..ACCOUNTS {
        assert_eq!(
            client.call(&["SET", &account(n), &AMOUNT.to_string()]),
            ok()
        );
    }
    for coin in 0..COINS {
        client.call(&["RPUSH", &list(coin % LISTS), &format!("coin:{coin}")]);
    }
    let (steps, retries) = (steps(), AtomicUsize::new(0));
    thread::scope(|scope| {
        for id in 0..MOVERS {
            let mut mover = Mover {
                client: server.connect(),
                random: Random::with(seeds.next()),
                id,
                retries: &retries,
            };
            scope.spawn(move || (0..steps).for_each(|_| mover.step()));
        }
        for _ in 0..READERS {
            let (mut client, mut random) = (server.connect(), Random::with(seeds.next()));
            scope.spawn(move || (0..steps).for_each(|_| read(&mut client, &mut random)));
        }
    });
    // At rest: everything is where it may be, and nobody waits, watches or holds anything.
    for _ in 0..20 {
        read(&mut client, &mut seeds);
    }
    let coins: i64 = (0..LISTS)
        .map(|n| match client.call(&["LLEN", &list(n)]) {
            Value::Int(len) => len,
            other => panic!("LLEN answered {other:?}"),
        })
        .sum();
    assert_eq!(coins, COINS as i64);
    let info = text(&client.call(&["INFO", "clients"])).unwrap();
    for line in [
        "blocked_clients:0",
        "total_watched_keys:0",
        "total_blocking_keys:0",
    ] {
        assert!(info.lines().any(|l| l == line), "{line}: {info}");
    }
    println!("{setup:?}: {} retries", retries.load(Ordering::Relaxed));
}

#[test]
fn no_sum_of_all_accounts_is_ever_wrong() {
    transfers(Setup {
        engine: "uring",
        shards: 4,
    });
}

#[test]
fn nor_with_epoll() {
    transfers(Setup {
        engine: "epoll",
        shards: 4,
    });
}
