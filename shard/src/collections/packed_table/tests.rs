use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A hash that a test chooses: good, with few tags, or with long common prefixes.
#[derive(Clone, Copy, Debug)]
enum TestHash {
    Good,
    /// All tags are equal.
    OneTag,
    /// The first bits are equal: deep, lopsided directories.
    Lopsided,
    /// Some keys have equal hashes.
    Few,
}

impl HashBytes for TestHash {
    fn hash_bytes(&self, key: &[u8]) -> u64 {
        let good = KeyHasher::new(1).hash(key);
        match self {
            Self::Good => good,
            Self::OneTag => good & !0xff | 7,
            Self::Lopsided => good >> (good % 40),
            Self::Few => good % 50 * 0x0123_4567_89ab_cdef,
        }
    }
}

fn hashes() -> impl Strategy<Value = TestHash> {
    prop_oneof![
        Just(TestHash::Good),
        Just(TestHash::OneTag),
        Just(TestHash::Lopsided),
        Just(TestHash::Few)
    ]
}

fn key(n: u16) -> Vec<u8> {
    let mut key = format!("key:{n}").into_bytes();
    match n % 16 {
        0 => key.resize(300, b'x'),
        1 => key.resize(62 + n as usize % 3, b'y'),
        2 => key.resize(247 + n as usize % 10, b'z'),
        _ => {}
    }
    if n == 5 {
        key.clear();
    }
    key
}

fn random_source(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..Default::default() })]
    #[test]
    fn fields_behave_like_a_map(hasher in hashes(),
        steps in prop::collection::vec((0u16..600, 0u8..6, 0usize..400), 1..2500)) {
        let mut table = PackedTable::<Fields, _>::new(hasher);
        let mut model: HashMap<Vec<u8>, (Vec<u8>, Option<i64>)> = HashMap::new();
        for (n, action, len) in steps {
            let key = key(n);
            if action < 3 {
                let len = if action == 0 { len } else { len % 20 };
                let value = vec![n as u8; len];
                let expire_at = (len % 3 == 0).then_some(len as i64);
                let put = table.put(&key, &value, expire_at);
                let before = model.insert(key, (value, expire_at));
                prop_assert_eq!(put, before.map_or(Put::New, |b| Put::Replaced(b.1)));
            } else if action < 5 {
                prop_assert_eq!(table.remove(&key), model.remove(&key).is_some());
            } else {
                let found = table.find(&key).map(|i| (i.value.to_vec(), i.expire_at));
                prop_assert_eq!(found, model.get(&key).cloned());
            }
        }
        table.check_invariants();
        let copy = table.duplicate();
        copy.check_invariants();
        for table in [&table, &copy] {
            let all: HashMap<_, _> = table.iter().map(|i| (i.key.to_vec(), (i.value.to_vec(), i.expire_at))).collect();
            prop_assert_eq!(&all, &model);
            prop_assert_eq!(table.iter().count(), model.len());
        }
        let mut each = 0;
        table.each(|_| each += 1);
        prop_assert_eq!(each, model.len());
        let keys: Vec<_> = model.keys().cloned().collect();
        for key in keys {
            prop_assert!(table.remove(&key));
        }
        table.check_invariants();
        prop_assert_eq!((table.len(), table.memory(), copy.len()), (0, 0, model.len()));
    }

    /// What is there all the time is given exactly once, and nothing twice that was not added anew.
    #[test]
    fn scans_keep_their_promise(hasher in hashes(), stay in 0u32..800, churn in 1u32..3000, count in 1usize..40) {
        let mut table = PackedTable::<Members, _>::new(hasher);
        let name = |kind: &str, n: u32| format!("{kind}{n}").into_bytes();
        for n in 0..stay {
            table.add(&name("stay", n));
        }
        let mut seen: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        let (mut cursor, mut step) = (0, 0u32);
        loop {
            cursor = table.scan(cursor, count, |item| *seen.entry(item.key.to_vec()).or_default() += 1);
            if cursor == 0 {
                break;
            }
            for i in 0..100 {
                let n = (step * 100 + i) % churn;
                if step % 20 < 10 {
                    table.add(&name("churn", n));
                } else {
                    table.remove(&name("churn", n));
                }
            }
            step += 1;
        }
        table.check_invariants();
        for n in 0..stay {
            prop_assert_eq!(seen.get(&name("stay", n)), Some(&1));
        }
    }
}

#[test]
fn scores_are_kept_and_changed() {
    let mut table = PackedTable::<Scores>::new(KeyHasher::new(4));
    for i in 0..10_000 {
        assert_eq!(
            table.put(format!("m{i}").as_bytes(), i as f64, None),
            Put::New
        );
    }
    for i in 0..10_000 {
        table.put(format!("m{i}").as_bytes(), -(i as f64), None);
    }
    table.check_invariants();
    for i in 0..10_000 {
        assert_eq!(table.get(format!("m{i}").as_bytes()), Some(-(i as f64)));
    }
    assert_eq!(table.get(b"m10000"), None);
}

/// The goal is 24 bytes a member, everything counted.
#[test]
fn a_large_set_is_small() {
    let mut table = PackedTable::<Members>::new(KeyHasher::new(5));
    let total = 1_000_000;
    for i in 0..total {
        table.add(format!("member:{i}").as_bytes());
    }
    table.check_invariants();
    let each = table.memory() as f64 / total as f64;
    println!("{each:.2} bytes a member of 13");
    assert!(each < 20.0, "{each}");
    for i in (0..total).filter(|i| i % 50 != 0) {
        assert!(table.remove(format!("member:{i}").as_bytes()));
    }
    table.check_invariants();
    let each = table.memory() as f64 / table.len() as f64;
    println!("{each:.2} bytes after all but a fiftieth were removed");
    assert!(each < 40.0, "{each}");
}

#[test]
fn random_entries_come_up_evenly() {
    for len in [1, 40, 100, 5000] {
        let mut table = PackedTable::<Members>::new(KeyHasher::new(6));
        for i in 0..len {
            table.add(format!("{i}").as_bytes());
        }
        let mut random = random_source(9);
        let mut counts: HashMap<Vec<u8>, usize> = HashMap::new();
        for _ in 0..len * 200 {
            let key = table.random(&mut random).expect("there are entries").key;
            *counts.entry(key.to_vec()).or_default() += 1;
        }
        assert_eq!(counts.len(), len);
        // Seven standard deviations around 200.
        assert!(
            counts.values().all(|c| len == 1 || (100..300).contains(c)),
            "{len}: {counts:?}"
        );
    }
    assert!(
        PackedTable::<Members>::new(KeyHasher::new(6))
            .random(|| 1)
            .is_none()
    );
}

#[test]
fn random_ends_where_hashes_are_bad() {
    let mut table = PackedTable::<Members, _>::new(TestHash::Few);
    for i in 0..500 {
        table.add(format!("{i}").as_bytes());
    }
    let mut random = random_source(3);
    let found: BTreeSet<_> = (0..1000)
        .filter_map(|_| table.random(&mut random))
        .map(|i| i.key.to_vec())
        .collect();
    assert!(found.len() > 10);
}

#[test]
fn a_table_is_freed_in_slices() {
    let mut table = PackedTable::<Fields>::new(KeyHasher::new(7));
    for i in 0..20_000 {
        table.put(format!("f{i}").as_bytes(), &vec![b'v'; i % 200], None);
    }
    let mut slices = 0;
    while table.free_some(100) >= 100 {
        slices += 1;
    }
    assert!(slices > 100, "{slices}");
    assert_eq!((table.len(), table.memory()), (0, 0));
}

#[test]
fn cursors_from_anywhere_are_fine() {
    let mut table = PackedTable::<Members>::new(KeyHasher::new(8));
    assert_eq!(table.scan(0, 10, |_| ()), 0);
    for i in 0..1000 {
        table.add(format!("{i}").as_bytes());
    }
    for cursor in [1, 12345, (1 << 48) - 1, 1 << 48, u64::MAX] {
        let mut next = cursor;
        for _ in 0..2000 {
            next = table.scan(next, 1, |_| ());
            if next == 0 {
                break;
            }
        }
        assert_eq!(next, 0);
    }
}
