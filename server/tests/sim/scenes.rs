//! Situations that the game found, played on purpose: cores take their turns in the order that the test says.

use crate::cores;
use ringwood::core::Core;
use ringwood::io::sim::{Chance, Net, SharedNet};
use ringwood_protocol::reply::value_len;
use ringwood_protocol::slot::key_slot;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// More turns than a core needs to read a short pipeline and to answer it, however it is cut.
const ENOUGH: usize = 300;

struct Scene {
    net: SharedNet,
    cores: Rc<Vec<RefCell<Core>>>,
    /// A client of each core.
    clients: Vec<usize>,
}

impl Scene {
    fn new(count: usize) -> Self {
        let net = Net::shared(1);
        let cores = cores(count, false, &net, &mut Chance::new(1));
        let mut scene = Self {
            net,
            cores: Rc::new(cores.into_iter().map(RefCell::new).collect()),
            clients: vec![usize::MAX; count],
        };
        // While one waits within its turn, the others go on.
        let cores = Rc::downgrade(&scene.cores);
        scene.net.borrow_mut().others = Some(Rc::new(move || {
            for core in cores.upgrade().expect("one of them waits").iter() {
                if let Ok(mut core) = core.try_borrow_mut() {
                    core.turn().expect("the simulated world does not fail");
                }
            }
        }));
        // An accepted connection goes to the core with the fewest.
        for _ in 0..count {
            let pipe = scene.net.borrow_mut().connect();
            let is_new = |core: &usize| {
                let clients = scene.cores[*core].borrow().clients.len();
                clients == 1 && scene.clients[*core] == usize::MAX
            };
            let core = loop {
                (0..count).for_each(|core| scene.turn(core));
                if let Some(core) = (0..count).find(is_new) {
                    break core;
                }
            };
            scene.clients[core] = pipe;
        }
        scene
    }
    /// A key of this core.
    fn key(&self, core: usize) -> String {
        format!("key:{}", self.key_numbers(core, 1)[0])
    }
    /// Numbers n of keys `key:n` of this core.
    fn key_numbers(&self, core: usize, count: usize) -> Vec<usize> {
        let core = self.cores[core].borrow();
        let own = |n: &usize| {
            let slot = key_slot(format!("key:{n}").as_bytes());
            core.shard.owned.contains(slot)
        };
        (0..).filter(own).take(count).collect()
    }
    fn turn(&self, core: usize) {
        let mut core = self.cores[core].borrow_mut();
        core.turn().expect("the simulated world does not fail");
    }
    /// This core alone goes on until it has nothing left to do.
    fn turns(&self, core: usize) {
        (0..ENOUGH).for_each(|_| self.turn(core));
    }
    /// The client of this core sends these lines at once.
    fn send(&self, core: usize, lines: &[String]) {
        let mut bytes = String::new();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            bytes += &format!("*{}\r\n", words.len());
            for word in words {
                bytes += &format!("${}\r\n{word}\r\n", word.len());
            }
        }
        let pipe = &mut self.net.borrow_mut().pipes[self.clients[core]];
        pipe.to_server.extend(bytes.bytes());
    }
    /// What it has been answered since the last call.
    fn replies(&self, core: usize) -> Vec<String> {
        let pipe = &mut self.net.borrow_mut().pipes[self.clients[core]];
        let mut replies = Vec::new();
        while let Some(len) = value_len(&pipe.to_client) {
            let reply: Vec<u8> = pipe.to_client.drain(..len).collect();
            replies.push(String::from_utf8_lossy(&reply).trim_end().to_string());
        }
        replies
    }
    /// All go on until all is answered.
    fn settle(&self) {
        for _ in 0..ENOUGH {
            (0..self.cores.len()).for_each(|core| self.turn(core));
        }
    }
    /// The client of this core sends these, and what they are answered.
    fn call(&self, core: usize, lines: &[String]) -> Vec<String> {
        self.send(core, lines);
        self.settle();
        self.replies(core)
    }
}

/// What came before WATCH is no change behind it, though its news reach the key's owner later.
#[test]
fn watch_waits_for_a_lent_key() {
    let scene = Scene::new(3);
    let (from, to) = (scene.key(2), scene.key(1));
    assert_eq!(scene.call(2, &[format!("SET {from} 1")]), ["+OK"]);
    // Core 2 borrows core 1's key, and answers.
    scene.send(2, &[format!("RENAME {from} {to}")]);
    scene.turns(2);
    scene.turn(1);
    scene.turns(2);
    assert_eq!(scene.replies(2), ["+OK"]);
    // The key is on its way home. Mail of core 0 is read before that of core 2.
    scene.send(0, &[format!("WATCH {to}")]);
    scene.turns(0);
    scene.settle();
    assert_eq!(scene.replies(0), ["+OK"]);
    let exec = ["MULTI".to_string(), "EXEC".to_string()];
    assert_eq!(scene.call(0, &exec), ["+OK", "*0"]);
}

/// Nor is a transaction whose part waits behind what has borrowed the key.
#[test]
fn watch_waits_behind_what_waits_for_a_lent_key() {
    let scene = Scene::new(4);
    let (from, watched, seen) = (scene.key(2), scene.key(1), scene.key(0));
    assert_eq!(scene.call(2, &[format!("SET {from} 1")]), ["+OK"]);
    scene.send(2, &[format!("RENAME {from} {watched}")]);
    scene.turns(2);
    scene.turn(1);
    // Its part on core 0 runs, the one on core 1 cannot yet.
    scene.send(3, &[format!("MSET {seen} 1 {watched} 1")]);
    scene.turns(3);
    scene.turn(1);
    scene.send(0, &[format!("GET {seen}")]);
    scene.turns(0);
    assert_eq!(scene.replies(0), ["$1\r\n1"]);
    scene.send(0, &[format!("WATCH {watched}")]);
    scene.turns(0);
    scene.turn(1);
    scene.settle();
    let replies = [2, 3, 0].map(|core| scene.replies(core));
    assert_eq!(replies, [ok(), ok(), ok()]);
    let exec = ["MULTI".to_string(), "EXEC".to_string()];
    assert_eq!(scene.call(0, &exec), ["+OK", "*0"]);
}

/// The same of a transaction one part of which has run, and been seen.
#[test]
fn watch_comes_behind_what_its_client_may_have_seen() {
    let scene = Scene::new(3);
    let (seen, watched) = (scene.key(0), scene.key(1));
    scene.send(2, &[format!("MSET {seen} 1 {watched} 1")]);
    scene.turns(2);
    scene.send(0, &[format!("GET {seen}")]);
    scene.turns(0);
    assert_eq!(scene.replies(0), ["$1\r\n1"]);
    scene.send(0, &[format!("WATCH {watched}")]);
    scene.turns(0);
    scene.settle();
    assert_eq!((scene.replies(0), scene.replies(2)), (ok(), ok()));
    let exec = ["MULTI".to_string(), "EXEC".to_string()];
    assert_eq!(scene.call(0, &exec), ["+OK", "*0"]);
}

fn ok() -> Vec<String> {
    vec!["+OK".to_string()]
}

/// What a client sends behind WATCH is a change, though parts of transactions overtake mail where a core waits in the midst
/// of its turn.
#[test]
fn watch_is_not_overtaken_by_what_its_client_sends_next() {
    let scene = Rc::new(Scene::new(3));
    let (watched, other) = (scene.key(1), scene.key(2));
    let set = [format!("SET {watched} 1"), format!("SET {other} 1")];
    assert_eq!(scene.call(0, &set), ["+OK", "+OK"]);
    // While core 1 runs a script over all cores, and waits for core 2, the others go on.
    let (below, once) = (Rc::downgrade(&scene), Cell::new(true));
    scene.net.borrow_mut().others = Some(Rc::new(move || {
        let scene = below.upgrade().expect("one of its cores waits");
        if once.take() {
            let pipeline = [
                format!("WATCH {watched}"),
                format!("DEL {watched} {other}"),
                "MULTI".to_string(),
                "EXEC".to_string(),
            ];
            scene.send(0, &pipeline);
            scene.turns(0);
        }
        scene.turn(2);
    }));
    let other = scene.key(2);
    let script = format!("EVAL redis.call('DBSIZE')redis.call('GET','{other}') 0");
    assert_eq!(scene.call(1, &[script]), ["$-1"]);
    assert_eq!(scene.replies(0), ["+OK", ":2", "+OK", "*-1"]);
}

/// A script with declared keys on two cores is as one transaction: what it uses beside them, it does not find changed by a
/// later one.
#[test]
fn a_script_over_two_cores_uses_no_key_that_it_has_not_locked() {
    let scene = Scene::new(4);
    let (free, declared, far) = (scene.key(0), scene.key(1), scene.key(2));
    // Core 0 has sent for the declared keys, and has one of them.
    let text = format!("redis.call('SET','{free}',1);redis.call('SET',KEYS[1],1)");
    scene.send(0, &[format!("EVAL {text} 2 {declared} {far}")]);
    scene.turns(0);
    scene.turn(1);
    // Who comes later reads one key before the script has run and the other one behind it.
    scene.send(3, &[format!("MGET {free} {declared}")]);
    scene.turns(3);
    scene.turn(0);
    scene.settle();
    assert_eq!(scene.replies(0), ["$-1"]);
    let both = |one: &str| format!("*2\r\n{one}\r\n{one}");
    let seen = scene.replies(3).remove(0);
    assert!(seen == both("$-1") || seen == both("$1\r\n1"), "{seen:?}");
}

/// SORT does not take a key for missing that another core has borrowed.
#[test]
fn sort_waits_for_a_lent_weight() {
    let scene = Scene::new(3);
    let numbers = scene.key_numbers(0, 3);
    let [heavy, light, list] = numbers[..] else {
        panic!("three were asked for");
    };
    let filled = [
        format!("MSET key:{heavy} 2 key:{light} 1"),
        format!("RPUSH key:{list} {heavy} {light}"),
    ];
    assert_eq!(scene.call(0, &filled), ["+OK", ":2"]);
    scene.send(2, &[format!("COPY key:{heavy} {}", scene.key(2))]);
    scene.turns(2);
    scene.turn(0);
    scene.send(0, &[format!("SORT key:{list} BY key:*")]);
    scene.turns(0);
    scene.settle();
    assert_eq!(scene.replies(0), sorted(light, heavy));
}

/// SORT over two cores sees a transaction behind it in no key.
#[test]
fn sort_uses_no_weight_that_it_has_not_locked() {
    let scene = Scene::new(3);
    let (far, near) = (scene.key_numbers(0, 1)[0], scene.key_numbers(1, 2));
    let (near, list) = (near[0], near[1]);
    let filled = [
        format!("MSET key:{far} 2 key:{near} 3"),
        format!("RPUSH key:{list} {near} {far}"),
    ];
    assert_eq!(scene.call(1, &filled), ["+OK", ":2"]);
    // Core 1 finds that it needs a key of core 0, and sends for it.
    scene.send(1, &[format!("SORT key:{list} BY key:*")]);
    scene.turns(1);
    scene.send(2, &[format!("MSET key:{far} 0 key:{near} 1")]);
    scene.turns(2);
    scene.turn(1);
    scene.settle();
    assert_eq!(scene.replies(1), sorted(far, near));
}

fn sorted(a: usize, b: usize) -> Vec<String> {
    let bulk = |n: usize| format!("${}\r\n{n}", n.to_string().len());
    vec![format!("*2\r\n{}\r\n{}", bulk(a), bulk(b))]
}

/// EXECs that went out together get their own commands' replies, also behind one whose client is gone by then.
#[test]
fn an_exec_of_a_dead_client_takes_its_replies_with_it() {
    let mut scene = Scene::new(2);
    let second = scene.net.borrow_mut().connect();
    let is_there = |core: &usize| scene.cores[*core].borrow().clients.len() == 2;
    let core = loop {
        (0..2).for_each(|core| scene.turn(core));
        if let Some(core) = (0..2).find(is_there) {
            break core;
        }
    };
    let (a, b) = (scene.key(0), scene.key(1));
    let exec = |commands: [String; 2]| ["MULTI".to_string()].into_iter().chain(commands);
    let set = exec([format!("SET {a} 1"), format!("SET {b} 1")]);
    let get = exec([format!("GET {a}"), format!("GET {b}")]);
    let twenty = |one: Vec<String>| -> Vec<String> {
        let one = one.into_iter().chain(["EXEC".to_string()]);
        std::iter::repeat_n(one.collect::<Vec<_>>(), 20)
            .flatten()
            .collect()
    };
    scene.send(core, &twenty(set.collect()));
    let first = std::mem::replace(&mut scene.clients[core], second);
    scene.send(core, &twenty(get.collect()));
    scene.turns(core);
    scene.net.borrow_mut().pipes[first].client_gone = true;
    scene.turns(core);
    scene.settle();
    let replies = scene.replies(core);
    let execs: Vec<&String> = replies.iter().filter(|r| r.starts_with('*')).collect();
    assert_eq!((replies.len(), execs.len()), (80, 20));
    for reply in execs {
        let values = ["$1\r\n1", "$-1"];
        let fits = values.map(|a| values.map(|b| format!("*2\r\n{a}\r\n{b}")));
        assert!(fits.concat().contains(reply), "{reply}");
    }
}
