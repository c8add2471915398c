//! A million keys that expire in the same second are gone within two, and no slice of the work is long.
//!
//! What is counted is records and slices, not time: a slice's time follows from its records.

use ringwood_shard::keyspace::KeyHasher;
use ringwood_shard::shard::{Expiry, Settings, Shard};
use std::sync::Arc;

#[test]
fn a_million_keys_of_one_second_go_in_slices() {
    const KEYS: usize = 1_000_000;
    const BUDGET: usize = 256;
    let mut s = Shard::new(
        Arc::new(Settings::default()),
        KeyHasher::new(5),
        1_700_000_000_000,
        3,
    );
    let begin = s.now_ms;
    for i in 0..KEYS {
        let name = format!("key:{i}");
        let key = s.key(name.as_bytes());
        let at = begin + 60_000 + (i % 1000) as i64;
        s.set_string(0, key, b"value", Expiry::At(at));
    }
    let stay = s.key(b"stays");
    s.set_string(0, stay, b"value", Expiry::At(begin + 70_000));
    // The loop asks when there is something to do, sleeps until then, and works in slices.
    let (mut slices, mut longest) = (0, 0);
    while s.keyspace.len(0) > 1 {
        let next = s.next_expiry().expect("keys are left that expire");
        assert!(
            next <= begin + 62_000,
            "keys are left two seconds after their time"
        );
        s.now_ms = s.now_ms.max(next);
        let before = s.keyspace.len(0);
        s.expire_some(BUDGET);
        longest = longest.max(before - s.keyspace.len(0));
        slices += 1;
    }
    assert!(longest <= BUDGET, "a slice deleted {longest} keys");
    assert!(
        slices <= 2 * (KEYS / BUDGET) + 100,
        "{slices} slices: records are looked at more than once for each level of the wheel"
    );
    assert_eq!(s.stats.expired, KEYS as u64);
    // What is left is one key, its table, and nothing to do before its time.
    assert!(s.heap_used() < 200, "{} bytes are left", s.heap_used());
    assert!(s.next_expiry().is_some_and(|next| next > begin + 62_000));
    s.keyspace.check_invariants();
}
