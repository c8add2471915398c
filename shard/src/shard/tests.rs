use super::*;

fn shard() -> Shard {
    Shard::new(
        Arc::new(Settings::default()),
        KeyHasher::new(1),
        1_700_000_000_000,
        9,
    )
}

#[test]
fn expired_keys_go_without_being_asked_for() {
    let mut s = shard();
    for i in 0..10_000 {
        let name = format!("k{i}").into_bytes();
        let key = s.key(&name);
        let at = s.now_ms + 1000 + i % 5000;
        s.set_string(0, key, b"v", Expiry::At(at));
    }
    s.now_ms += 3000;
    while s.expire_some(100) {}
    assert!(
        (5900..=6400).contains(&s.keyspace.len(0)),
        "{}",
        s.keyspace.len(0)
    );
    s.now_ms += 3300;
    while s.expire_some(100) {}
    assert_eq!(s.keyspace.len(0), 0);
    assert_eq!(s.stats.expired, 10_000);
    assert!(s.next_expiry().is_none());
}

#[test]
fn renewed_ttls_add_no_records_and_hold() {
    let mut s = shard();
    let key = s.key(b"k");
    for i in 0..1000 {
        let at = s.now_ms + 10_000 + i;
        s.set_string(0, key, b"v", Expiry::At(at));
    }
    assert_eq!(s.wheel.len(), 1);
    s.now_ms += 10_500;
    while s.expire_some(10) {}
    assert!(s.exists(0, key));
    s.now_ms += 1000;
    while s.expire_some(10) {}
    assert!(!s.exists(0, key));
    assert_eq!(s.keyspace.len(0), 0);
}

#[test]
fn stale_records_are_swept() {
    let mut s = shard();
    for i in 0..200_000 {
        let name = format!("k{}", i % 10).into_bytes();
        let key = s.key(&name);
        let at = s.now_ms + 3_600_000;
        s.set_string(0, key, b"v", Expiry::At(at));
        s.remove(0, key);
        if i % 10 == 0 {
            s.expire_some(100);
        }
    }
    assert!(s.wheel.len() < 40_000, "{}", s.wheel.len());
}

/// A TTL that goes up and down adds records; they do not outlive the key's next look.
#[test]
fn a_ttl_that_goes_up_and_down_leaves_few_records() {
    let mut s = shard();
    let key = s.key(b"k");
    for round in 0..20_000 {
        for ms in [100_000, 10_000] {
            let at = s.now_ms + ms;
            s.set_string(0, key, b"v", Expiry::At(at));
        }
        if round % 100 == 0 {
            s.now_ms += 1000;
            while s.expire_some(100) {}
        }
    }
    assert!(s.wheel.len() < 3000, "{}", s.wheel.len());
    s.now_ms += 120_000;
    while s.expire_some(100) {}
    assert_eq!((s.keyspace.len(0), s.wheel.len()), (0, 0));
}

/// A lock that is taken and given back all the time, and held when the sweep comes by.
#[test]
fn a_key_made_again_and_again_leaves_few_records() {
    let mut s = shard();
    let key = s.key(b"lock");
    for i in 0..300_000 {
        let at = s.now_ms + 3_600_000;
        s.set_string(0, key, b"v", Expiry::At(at));
        if i % 50 == 0 {
            s.expire_some(100);
        }
        s.remove(0, key);
    }
    assert!(s.wheel.len() < 40_000, "{}", s.wheel.len());
}

#[test]
fn a_swapped_database_still_expires() {
    let mut s = shard();
    let key = s.key(b"k");
    let at = s.now_ms + 1000;
    s.set_string(0, key, b"v", Expiry::At(at));
    s.keyspace.swap(0, 3);
    s.now_ms += 2000;
    while s.expire_some(10) {}
    assert_eq!(s.keyspace.len(3), 0);
}

#[test]
fn a_read_that_finds_a_key_expired_tells_the_caches() {
    let mut s = shard();
    s.attention.tracking.set(true, false);
    s.attention.tracking.writer = 7;
    for (n, name) in [&b"read"[..], b"written"].into_iter().enumerate() {
        let key = s.key(name);
        let at = s.now_ms + 1000;
        s.set_string(0, key, b"v", Expiry::At(at));
        let reader = crate::tracking::Reader {
            core: 0,
            conn: 1,
            client: 7,
        };
        s.attention.tracking.remember(name, reader);
        s.now_ms += 2000;
        match n {
            0 => assert!(s.read(0, key).is_none()),
            _ => assert!(s.write(0, key).is_none()),
        }
        // Nobody's doing: the reader itself is told, also with NOLOOP.
        let told = crate::tracking::Stale::Read {
            key: name.into(),
            readers: vec![reader],
            writer: 0,
        };
        assert_eq!(s.attention.tracking.stale.pop(), Some(told));
    }
    assert_eq!(s.attention.tracking.writer, 7);
}

#[test]
fn a_pause_leaves_expired_keys_where_they_are() {
    let mut s = shard();
    let key = s.key(b"k");
    let at = s.now_ms + 1000;
    s.set_string(0, key, b"v", Expiry::At(at));
    s.keep_expired = true;
    assert!(s.read(0, key).is_some());
    s.now_ms += 2000;
    assert!(s.read(0, key).is_none());
    assert_eq!((s.keyspace.len(0), s.stats.expired), (1, 0));
    assert_eq!((s.stats.hits, s.stats.misses), (1, 1));
    s.keep_expired = false;
    assert!(s.read(0, key).is_none());
    assert_eq!((s.keyspace.len(0), s.stats.expired), (0, 1));
}

#[test]
fn who_watches_a_missing_key_sees_no_expiry_of_one() {
    let mut s = shard();
    let key = s.key(b"k");
    let at = s.now_ms + 1000;
    s.set_string(1, key, b"v", Expiry::At(at));
    s.now_ms += 2000;
    let changed = Arc::new(AtomicBool::new(false));
    s.watch(0, b"k", changed.clone(), false);
    // As SWAPDB does: the expired key is in the watched database now.
    s.keyspace.swap(0, 1);
    s.notify(0, b"", notify::ALL_KEYS, "swapdb", true);
    assert!(s.expire_if_due(0, key));
    assert!(!changed.load(std::sync::atomic::Ordering::Relaxed));
    s.set_string(0, key, b"v", Expiry::Clear);
    s.notify(0, b"k", notify::STRING, "set", true);
    assert!(changed.load(std::sync::atomic::Ordering::Relaxed));
}
