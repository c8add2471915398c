use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn header() -> Header {
    Header {
        kind: Type::String,
        encoding: Encoding::Raw,
        access: 0,
        expire_at: None,
    }
}
fn keyspace() -> Keyspace {
    Keyspace::new(2, KeyHasher::new(7))
}
fn set(ks: &mut Keyspace, key: &[u8], value: &[u8]) {
    let k = ks.key(key);
    match ks.get_mut(0, k) {
        Some(mut e) => e.set_bytes(Type::String, Encoding::Raw, value),
        None => {
            ks.insert_bytes(0, k, &header(), &[value]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..Default::default() })]
    /// Any run of changes leaves what a plain map would hold.
    #[test]
    fn behaves_like_a_map(steps in prop::collection::vec(
        (0u16..300, 0u8..9, prop::collection::vec(any::<u8>(), 0..300)), 1..800)) {
        let mut ks = keyspace();
        let mut model: BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)> = BTreeMap::new();
        for (n, action, value) in steps {
            // One hash tag, so that one table gets all the keys; some keys are long.
            let mut key = format!("{{t}}{n}").into_bytes();
            if n % 7 == 0 {
                key.resize(300, b'x');
            }
            let k = ks.key(&key);
            match action {
                0 | 1 => {
                    set(&mut ks, &key, &value);
                    model.entry(key).or_default().0 = value;
                }
                2 => {
                    let there = ks.get_mut(0, k).map(EntryMut::remove).is_some();
                    prop_assert_eq!(there, model.remove(&key).is_some());
                }
                3 => if let Some(mut e) = ks.get_mut(0, k) {
                    let at = value.len() as i64;
                    let to = (at % 2 == 0).then_some(at);
                    e.set_expire_at(to);
                    model.get_mut(&key).unwrap().1 = to;
                }
                4 => if let Some(mut e) = ks.get_mut(0, k) {
                    let end = e.bytes().len();
                    let big = value.repeat(20);
                    e.splice(end, 0, &big);
                    model.get_mut(&key).unwrap().0.extend_from_slice(&big);
                }
                5 => if let Some(mut e) = ks.get_mut(0, k) {
                    let at = value.len() * 23;
                    e.write_at(at, &value);
                    let model = &mut model.get_mut(&key).unwrap().0;
                    let end = at + value.len();
                    if model.len() < end {
                        model.resize(end, 0);
                    }
                    model[at..end].copy_from_slice(&value);
                }
                6 | 7 => if let Some(mut e) = ks.get_mut(0, k) {
                    let value = value.repeat(1 + 30 * (action as usize - 6));
                    let to = (n % 2 == 0).then_some(n as i64);
                    let before = e.set_bytes_and_expiry(Type::String, Encoding::Raw, &value, to);
                    let model = model.get_mut(&key).unwrap();
                    prop_assert_eq!(before, model.1);
                    *model = (value, to);
                }
                _ => if let Some(mut e) = ks.get_mut(0, k) {
                    let len = e.bytes().len();
                    let (at, delete) = (len / 3, len / 2);
                    e.splice(at, delete, &value);
                    model.get_mut(&key).unwrap().0.splice(at..at + delete, value);
                }
            }
        }
        ks.check_invariants();
        prop_assert_eq!(ks.len(0), model.len());
        for (key, (value, expire_at)) in &model {
            let e = ks.get(0, ks.key(key)).unwrap();
            prop_assert_eq!(e.bytes(), &value[..]);
            prop_assert_eq!(e.expire_at(), *expire_at);
        }
    }
}

/// A key that is there from the first step of a scan to its last is returned, whatever grows or shrinks meanwhile.
#[test]
fn scan_keeps_its_promise_while_tables_grow_and_shrink() {
    for (stay, churn) in [(40, 5_000), (3_000, 20_000), (500, 100)] {
        let mut ks = keyspace();
        let stays: BTreeSet<Vec<u8>> = (0..stay)
            .map(|i| format!("{{t}}stay{i}").into_bytes())
            .collect();
        for key in &stays {
            set(&mut ks, key, b"v");
        }
        let slot = key_slot(b"{t}");
        let mut seen = BTreeSet::new();
        let mut from = Some(0);
        let mut step = 0;
        while let Some(at) = from {
            from = ks.scan_slot(0, slot, at, |e| {
                seen.insert(e.key().to_vec());
            });
            step += 1;
            for i in 0..50 {
                let n = (step * 50 + i) % churn;
                let key = format!("{{t}}churn{n}").into_bytes();
                let k = ks.key(&key);
                if step % 400 < 200 {
                    set(&mut ks, &key, b"w");
                } else if let Some(e) = ks.get_mut(0, k) {
                    e.remove();
                }
            }
        }
        ks.check_invariants();
        assert!(stays.is_subset(&seen));
    }
}

#[test]
fn flush_empties_at_once_and_frees_in_slices() {
    let mut ks = keyspace();
    for i in 0..20_000 {
        set(&mut ks, format!("k{i}").as_bytes(), &[b'v'; 100]);
    }
    ks.flush(0);
    assert_eq!(ks.len(0), 0);
    assert!(ks.heap_used() > 20_000 * 100);
    let mut slices = 0;
    while !ks.free_some(500) {
        slices += 1;
    }
    assert!(slices > 30);
    assert_eq!(ks.heap_used(), 0);
    ks.check_invariants();
}

/// A server that is flushed all the time, as by a test suite, keeps up with the freeing.
#[test]
fn a_small_flushed_database_is_freed_in_one_slice() {
    let mut ks = keyspace();
    for round in 0..200 {
        for i in 0..20 {
            set(&mut ks, format!("k{round}-{i}").as_bytes(), b"v");
        }
        ks.flush(0);
        assert_eq!(ks.free_pending(), 20);
        assert!(ks.free_some(20));
        assert_eq!((ks.free_pending(), ks.heap_used()), (0, 0));
    }
}

#[test]
fn every_key_is_some_nth() {
    let mut ks = keyspace();
    let keys: BTreeSet<Vec<u8>> = (0..1000).map(|i| format!("k{i}").into_bytes()).collect();
    for key in &keys {
        set(&mut ks, key, b"v");
    }
    let found: BTreeSet<Vec<u8>> = (0..1000)
        .map(|n| ks.nth(0, n).unwrap().key().to_vec())
        .collect();
    assert_eq!(found, keys);
    assert!(ks.nth(0, 1000).is_none());
}

#[test]
fn swapped_databases_keep_their_uid() {
    let mut ks = keyspace();
    set(&mut ks, b"a", b"1");
    ks.swap(0, 1);
    assert_eq!((ks.len(0), ks.len(1)), (0, 1));
    assert_eq!(ks.db_of_uid(0), 1);
    ks.check_invariants();
}
