//! SCAN over whole databases on several cores: what was there from the first call to the last is returned, and nothing that
//! was never there, whatever is added, deleted, expires or moves between cores meanwhile.

use proptest::prelude::*;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_protocol::slot::{SLOT_COUNT, key_slot};
use ringwood_shard::commands::FAMILIES;
use ringwood_shard::ctx::Ctx;
use ringwood_shard::keyspace::KeyHasher;
use ringwood_shard::shard::{Settings, Shard};
use ringwood_shard::slot_set::SlotSet;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Several shards with the slots divided among them, and commands sent to the owner as the server would.
struct Cores {
    shards: Vec<Shard>,
    owner: Vec<usize>,
}

impl Cores {
    /// Contiguous ranges, except that the slots in `odd` lie with the next core.
    fn new(count: usize, odd: &BTreeSet<u16>) -> Self {
        let owner: Vec<usize> = (0..SLOT_COUNT)
            .map(|slot| {
                let home = slot as usize * count / SLOT_COUNT as usize;
                (home + odd.contains(&slot) as usize) % count
            })
            .collect();
        let shards = (0..count)
            .map(|core| {
                let settings = Arc::new(Settings::default());
                let mut shard = Shard::new(settings, KeyHasher::new(11), 1_700_000_000_000, 3);
                shard.owned =
                    SlotSet::from_slots((0..SLOT_COUNT).filter(|&s| owner[s as usize] == core));
                shard
            })
            .collect();
        Self { shards, owner }
    }

    fn run(&mut self, db: usize, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let name = std::str::from_utf8(words[0]).unwrap();
        let slot = if name == "SCAN" {
            let cursor: u64 = std::str::from_utf8(words[1]).unwrap().parse().unwrap();
            (cursor % SLOT_COUNT as u64) as u16
        } else {
            key_slot(words[1])
        };
        let mut commands = FAMILIES.iter().flat_map(|f| f.iter());
        let command = commands.find(|c| c.name == name).unwrap();
        let mut out = Vec::new();
        let shard = &mut self.shards[self.owner[slot as usize]];
        let mut ctx = Ctx::new(shard, db, Reply::new(&mut out, Version::Resp2), &[]);
        (command.run)(&mut ctx, &words).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The next cursor and the keys.
    fn scan(&mut self, db: usize, cursor: u64, options: &str) -> (u64, Vec<String>) {
        let reply = self.run(db, &format!("SCAN {cursor}{options}"));
        let mut lines = reply.split("\r\n").filter(|l| !l.starts_with(['*', '$']));
        let next = lines.next().unwrap().parse().unwrap();
        let keys = lines.filter(|l| !l.is_empty()).map(String::from);
        (next, keys.collect())
    }

    /// Hands a slot with its keys to another core.
    fn give(&mut self, slot: u16, to: usize) {
        let from = std::mem::replace(&mut self.owner[slot as usize], to);
        self.shards[from].owned.remove(slot);
        self.shards[to].owned.insert(slot);
        if from == to {
            return;
        }
        for db in 0..self.shards[from].keyspace.databases() {
            let mut keys = Vec::new();
            let keyspace = &self.shards[from].keyspace;
            keyspace.each_in_slot(db, slot, |e| keys.push(e.key().to_vec()));
            for name in keys {
                let key = self.shards[from].key(&name);
                if let Some(parts) = self.shards[from].take(db, key) {
                    self.shards[to].insert(db, key, parts);
                }
            }
        }
    }
}

/// What happens between two calls.
#[derive(Clone, Debug)]
enum Step {
    Add { first: usize, count: usize },
    Remove { first: usize, count: usize },
    Expire { first: usize, count: usize },
    OtherDatabase { key: usize },
    Give { slot: u16, slots: u16, to: usize },
    Nothing,
}

const CHURN: usize = 3000;

/// Keys that come and go. Most share a slot, so that its table splits and merges.
fn churn(i: usize) -> String {
    let i = i % CHURN;
    if i.is_multiple_of(5) {
        format!("churn:{i}")
    } else {
        format!("{{t}}churn:{i}")
    }
}
fn stay(i: usize) -> String {
    match i % 3 {
        0 => format!("{{t}}stay:{i}"),
        1 => format!("stay:{i}"),
        _ => format!("{{{}}}stay:{i}", i % 50),
    }
}

fn step() -> impl Strategy<Value = Step> {
    let range = (0..CHURN, 1usize..400);
    prop_oneof![
        4 => range.clone().prop_map(|(first, count)| Step::Add { first, count }),
        3 => range.clone().prop_map(|(first, count)| Step::Remove { first, count }),
        1 => range.prop_map(|(first, count)| Step::Expire { first, count }),
        1 => (0..CHURN).prop_map(|key| Step::OtherDatabase { key }),
        2 => (0..SLOT_COUNT, 1u16..3000, 0usize..4).prop_map(|(slot, slots, to)| Step::Give { slot, slots, to }),
        6 => Just(Step::Nothing),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..Default::default() })]

    #[test]
    fn what_stays_is_returned_and_nothing_invented(
        cores in 1usize..5,
        odd in prop::collection::btree_set(0..SLOT_COUNT, 0..200),
        stays in 0usize..600,
        count in 1usize..80,
        filtered in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut c = Cores::new(cores, &odd);
        let stays: BTreeSet<String> = (0..stays).map(stay).collect();
        for key in &stays {
            c.run(0, &format!("SET {key} v"));
        }
        let options = format!(" COUNT {count}{}", if filtered { " MATCH *stay* TYPE string" } else { "" });
        // Everything that was in the database at some time of the scan.
        let mut ever = stays.clone();
        let mut seen = BTreeSet::new();
        let (mut cursor, mut calls) = (0, 0);
        let mut steps = steps.iter().cycle();
        loop {
            let (next, keys) = c.scan(0, cursor, &options);
            seen.extend(keys);
            calls += 1;
            prop_assert!(calls < 20_000, "the scan does not end");
            if next == 0 {
                break;
            }
            cursor = next;
            match *steps.next().unwrap() {
                Step::Add { first, count } => for i in first..first + count {
                    let key = churn(i);
                    c.run(0, &format!("SET {key} v"));
                    ever.insert(key);
                }
                Step::Remove { first, count } => for i in first..first + count {
                    c.run(0, &format!("DEL {}", churn(i)));
                }
                Step::Expire { first, count } => {
                    for i in first..first + count {
                        c.run(0, &format!("PEXPIRE {} 50", churn(i)));
                    }
                    for shard in &mut c.shards {
                        shard.now_ms += 40;
                        shard.expire_some(100);
                    }
                }
                Step::OtherDatabase { key } => {
                    c.run(1, &format!("SET other:{key} v"));
                }
                Step::Give { slot, slots, to } => for s in slot..slot.saturating_add(slots).min(SLOT_COUNT) {
                    c.give(s, to % cores);
                }
                Step::Nothing => {}
            }
        }
        for shard in &c.shards {
            shard.keyspace.check_invariants();
        }
        let missed: Vec<_> = stays.difference(&seen).collect();
        prop_assert!(missed.is_empty(), "missed {:?}", missed);
        let invented: Vec<_> = seen.difference(&ever).collect();
        prop_assert!(invented.is_empty(), "invented {:?}", invented);
        prop_assert!(!filtered || seen == stays);
    }

    /// A cursor that a client made up is answered, by any core, and leads to an end.
    #[test]
    fn any_cursor_leads_to_an_end(cursor in any::<u64>(), cores in 1usize..4, keys in 0usize..200) {
        let mut c = Cores::new(cores, &BTreeSet::new());
        for i in 0..keys {
            c.run(0, &format!("SET {} v", stay(i)));
        }
        let mut cursor = cursor;
        let mut calls = 0;
        loop {
            cursor = c.scan(0, cursor, " COUNT 5").0;
            calls += 1;
            prop_assert!(calls < 1000);
            if cursor == 0 {
                break;
            }
        }
    }
}

/// Nothing is returned twice as long as nothing changes, and a call looks at little more than COUNT keys.
#[test]
fn a_quiet_database_is_returned_once() {
    let mut c = Cores::new(3, &BTreeSet::from([7, 100, 101, 9000]));
    let mut all = BTreeSet::new();
    for i in 0..6000 {
        let key = if i % 2 == 0 { stay(i) } else { churn(i) };
        c.run(0, &format!("SET {key} v"));
        all.insert(key);
    }
    let mut seen = Vec::new();
    let mut cursor = 0;
    loop {
        let (next, keys) = c.scan(0, cursor, " COUNT 25");
        assert!(keys.len() < 25 + 32, "{} keys in one call", keys.len());
        seen.extend(keys);
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen.len(), all.len());
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), all);
}
