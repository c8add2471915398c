//! Listpacks against a plain vector of strings, and against bytes that Redis 8.2.3 wrote.

use super::*;
use crate::keyspace::entry::Header;
use crate::keyspace::{KeyHasher, Keyspace};
use crate::object::{Encoding, Type};
use proptest::prelude::*;

fn pack(values: &[&[u8]]) -> Vec<u8> {
    let mut lp = EMPTY.to_vec();
    for &value in values {
        push_back(&mut lp, value);
    }
    lp
}
fn texts(lp: &[u8]) -> Vec<Vec<u8>> {
    iter(lp).map(|(_, item)| item.to_vec()).collect()
}

/// Walks both ways and compares everything that can be asked with the model.
fn check_invariants(lp: &[u8], model: &[Vec<u8>]) {
    assert!(validate(lp), "{lp:?}");
    assert_eq!(texts(lp), model);
    assert_eq!(len(lp), model.len());
    assert_eq!(is_empty(lp), model.is_empty());
    let positions: Vec<usize> = iter(lp).map(|(at, _)| at).collect();
    let mut backwards = Vec::new();
    let mut at = last(lp);
    while let Some(position) = at {
        backwards.push(position);
        at = prev(lp, position);
    }
    backwards.reverse();
    assert_eq!(backwards, positions);
    for (i, (&at, text)) in positions.iter().zip(model).enumerate() {
        assert_eq!(next(lp, at), positions.get(i + 1).copied());
        assert_eq!(nth(lp, i as i64), Some(at));
        assert_eq!(nth(lp, i as i64 - model.len() as i64), Some(at));
        let item = get(lp, at);
        assert_eq!(item.len(), text.len());
        assert!(item.equals(text));
        let first = model.iter().position(|t| t == text).unwrap();
        assert_eq!(find(lp, HEADER, text, 0), Some(positions[first]));
    }
    assert_eq!(nth(lp, model.len() as i64), None);
    assert_eq!(nth(lp, -(model.len() as i64) - 1), None);
}

/// The element's bytes as Redis 8.2.3 writes them (`HSET h f VALUE`, `DUMP h`).
#[test]
fn elements_are_as_redis_writes_them() {
    for (text, bytes) in [
        ("0", "0001"),
        ("127", "7f01"),
        ("128", "c08002"),
        ("-1", "dfff02"),
        ("4095", "cfff02"),
        ("-4096", "d00002"),
        ("4096", "f1001003"),
        ("-4097", "f1ffef03"),
        ("32767", "f1ff7f03"),
        ("-32768", "f1008003"),
        ("32768", "f200800004"),
        ("-8388608", "f200008004"),
        ("8388608", "f30000800005"),
        ("-2147483648", "f30000008005"),
        ("2147483648", "f4000000800000000009"),
        ("9223372036854775807", "f4ffffffffffffff7f09"),
        ("-9223372036854775808", "f4000000000000008009"),
        ("", "8001"),
        ("a", "816102"),
        ("-0", "822d3003"),
        ("01", "82303103"),
    ] {
        let lp = pack(&[text.as_bytes()]);
        let hex: String = lp[HEADER..end(&lp)]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(hex, bytes, "{text}");
        assert_eq!(texts(&lp), [text.as_bytes()]);
    }
    assert_eq!(
        pack(&[b"ab", b"7"]),
        [13, 0, 0, 0, 2, 0, 0x82, b'a', b'b', 3, 7, 1, 0xff]
    );
}

/// `back` at the sizes where its length changes; read off DUMP of 8.2.3 and Valkey 9.1.2, which differ where the bits just suffice.
#[test]
fn long_elements_step_back() {
    for (front, back) in [
        (127, vec![0x7f]),
        (128, vec![0x01, 0x80]),
        (16382, vec![0x7f, 0xfe]),
        (16383, vec![0x00, 0xff, 0xff]),
        (16384, vec![0x01, 0x80, 0x80]),
        (2_097_150, vec![0x7f, 0xff, 0xfe]),
        (2_097_151, vec![0x00, 0xff, 0xff, 0xff]),
        (2_097_152, vec![0x01, 0x80, 0x80, 0x80]),
    ] {
        let head = match front {
            0..=64 => 1,
            65..=4097 => 2,
            _ => 5,
        };
        let value = vec![b'x'; front - head];
        let mut lp = pack(&[b"before", &value]);
        let at = nth(&lp, 1).unwrap();
        assert_eq!(&lp[at + front..end(&lp)], back);
        push_back(&mut lp, b"after");
        let model = [b"before".to_vec(), value, b"after".to_vec()];
        check_invariants(&lp, &model);
        if back[0] == 0 {
            // Valkey's form has no leading zero.
            let mut other = lp.clone();
            Splice::splice(
                &mut other,
                at + front,
                back.len(),
                &[&[0x7f], &back[2..]].concat(),
            );
            set_header(&mut other, None);
            check_invariants(&other, &model);
        }
    }
}

#[test]
fn find_skips() {
    let lp = pack(&[b"a", b"b", b"b", b"1", b"c"]);
    assert_eq!(find(&lp, HEADER, b"b", 1), nth(&lp, 2));
    assert_eq!(find(&lp, HEADER, b"b", 0), nth(&lp, 1));
    assert_eq!(find(&lp, HEADER, b"1", 0), nth(&lp, 3));
    assert_eq!(find(&lp, HEADER, b"1", 1), None);
    assert_eq!(find(&lp, HEADER, b"01", 0), None);
    assert_eq!(find(&lp, nth(&lp, 3).unwrap(), b"b", 0), None);
    assert_eq!(find(EMPTY, HEADER, b"b", 0), None);
}

#[test]
fn counts_beyond_the_field() {
    let mut lp = EMPTY.to_vec();
    insert_all(&mut lp, HEADER, (0..65_534).map(|i| Item::Int(i % 7)));
    assert_eq!((len(&lp), count_field(&lp)), (65_534, 65_534));
    push_back(&mut lp, 1);
    assert_eq!((len(&lp), count_field(&lp)), (65_535, UNKNOWN));
    push_front(&mut lp, b"x");
    assert_eq!(len(&lp), 65_536);
    assert!(validate(&lp));
    assert_eq!(get(&lp, nth(&lp, -65_536).unwrap()), Item::Bytes(b"x"));
    assert_eq!(nth(&lp, 65_536), None);
    assert_eq!(nth(&lp, -65_537), None);
    delete(&mut lp, HEADER, 60_000);
    assert_eq!((len(&lp), count_field(&lp)), (5_536, UNKNOWN));
    assert!(validate(&lp));
}

#[test]
fn malformed_bytes_are_refused() {
    let good = pack(&[b"hello", b"12345", &[b'y'; 300]]);
    assert!(validate(&good) && validate(EMPTY));
    for cut in 0..good.len() {
        assert!(!validate(&good[..cut]));
        // Also with a total that fits.
        if cut >= 7 {
            let mut short = good[..cut].to_vec();
            short[..4].copy_from_slice(&(cut as u32).to_le_bytes());
            assert!(!validate(&short));
        }
    }
    let mut wrong = good.clone();
    wrong[4] = 4;
    assert!(!validate(&wrong), "a wrong count");
    let mut wrong = good.clone();
    wrong[HEADER] = 0xf5;
    assert!(!validate(&wrong), "an unknown kind");
    let mut wrong = good.clone();
    wrong[HEADER + 6] = 5;
    assert!(!validate(&wrong), "a wrong way back");
    let mut huge = vec![0; 6];
    huge.extend_from_slice(&[0xf0, 0xff, 0xff, 0xff, 0xff, 0xff]);
    huge[0] = huge.len() as u8;
    huge[4] = 1;
    assert!(!validate(&huge), "a length beyond the end");
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => proptest::collection::vec(b'a'..=b'd', 0..4),
        3 => any::<i64>().prop_flat_map(|n| (0..64u32).prop_map(move |s| (n >> s).to_string().into_bytes())),
        1 => proptest::collection::vec(any::<u8>(), 0..200),
        1 => (0usize..5000).prop_map(|n| vec![b'z'; n]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The same edits on a vector and on a value in its entry, which goes from inline to vector and back.
    #[test]
    fn edits_match_a_vector(edits in proptest::collection::vec((0u8..6, any::<proptest::sample::Index>(), value()), 0..60)) {
        let mut keyspace = Keyspace::new(1, KeyHasher::new(1));
        let key = keyspace.key(b"k");
        let header = Header { kind: Type::List, encoding: Encoding::Listpack, access: 0, expire_at: None };
        keyspace.insert_bytes(0, key, &header, &[EMPTY]);
        let mut lp = EMPTY.to_vec();
        let mut model: Vec<Vec<u8>> = Vec::new();
        for (kind, index, value) in edits {
            let mut entry = keyspace.get_mut(0, key).unwrap();
            let i = index.index(model.len() + 1);
            let at = nth(&lp, i as i64).unwrap_or(end(&lp));
            match kind {
                0 => {
                    model.push(value.clone());
                    push_back(&mut lp, &value);
                    push_back(&mut entry, &value);
                }
                1 => {
                    model.insert(0, value.clone());
                    push_front(&mut lp, &value);
                    push_front(&mut entry, &value);
                }
                2 => {
                    model.insert(i, value.clone());
                    insert(&mut lp, at, &value);
                    insert(&mut entry, at, &value);
                }
                3 if i < model.len() => {
                    model[i] = value.clone();
                    replace(&mut lp, at, &value);
                    replace(&mut entry, at, &value);
                }
                4 => {
                    let count = value.len().min(3);
                    model.drain(i..(i + count).min(model.len()));
                    delete(&mut lp, at, count);
                    delete(&mut entry, at, count);
                }
                _ => {
                    let more = [value, b"17".to_vec()];
                    model.splice(i..i, more.iter().cloned());
                    insert_all(&mut lp, at, more.iter().map(Item::from));
                    insert_all(&mut entry, at, more.iter().map(Item::from));
                }
            }
            prop_assert_eq!(entry.bytes(), &lp[..]);
            check_invariants(&lp, &model);
        }
    }

    /// No bytes make `validate` panic, and what it accepts can be read.
    #[test]
    fn any_bytes_can_be_judged(values in proptest::collection::vec(value(), 0..6), damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4)) {
        let mut lp = pack(&values.iter().map(Vec::as_slice).collect::<Vec<_>>());
        for (index, byte) in damage {
            let at = index.index(lp.len());
            lp[at] = byte;
        }
        if validate(&lp) {
            let found = texts(&lp);
            prop_assert_eq!(found.len(), len(&lp));
            let mut at = last(&lp);
            let mut back = 0;
            while let Some(position) = at {
                get(&lp, position);
                at = prev(&lp, position);
                back += 1;
            }
            prop_assert_eq!(back, found.len());
        }
    }
}
