//! Streams against a plain model.

use super::*;
use crate::object::Body;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Default)]
struct Model {
    entries: BTreeMap<StreamId, Fields>,
}

fn read(entry: &Entry<'_>) -> (StreamId, Fields) {
    let mut fields = Vec::new();
    entry.each(|name, value| fields.push((name.to_vec(), value.to_vec())));
    assert_eq!(fields.len(), entry.len());
    (entry.id, fields)
}

fn check(stream: &Stream, model: &Model) {
    stream.check_invariants();
    assert_eq!(stream.len(), model.entries.len() as u64);
    let all: Vec<_> = stream
        .range(StreamId::MIN, StreamId::MAX, false)
        .map(|e| read(&e))
        .collect();
    let expected: Vec<_> = model.entries.iter().map(|(i, f)| (*i, f.clone())).collect();
    assert_eq!(all, expected);
    let mut reverse: Vec<_> = stream
        .range(StreamId::MIN, StreamId::MAX, true)
        .map(|e| read(&e))
        .collect();
    reverse.reverse();
    assert_eq!(reverse, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..Default::default() })]
    #[test]
    fn behaves_like_a_map(
        entries_max in prop_oneof![Just(0usize), 1..5usize, Just(100)],
        bytes_max in prop_oneof![Just(0usize), 30..300usize, Just(4096)],
        steps in prop::collection::vec((0u8..12, 0u64..40, 0u64..40, prop::collection::vec(
            (prop_oneof![Just(b"f".to_vec()), Just(b"g".to_vec()), prop::collection::vec(any::<u8>(), 0..80)],
             prop_oneof![Just(b"12".to_vec()), Just(b"-70000".to_vec()), prop::collection::vec(any::<u8>(), 0..200)]),
            1..4)), 1..250)
    ) {
        let limits = Limits { block_bytes_max: bytes_max, block_entries_max: entries_max };
        let mut stream = Stream::new();
        let mut model = Model::default();
        for (action, a, b, fields) in steps {
            let nth = |n: u64| {
                let count = model.entries.len().max(1);
                model.entries.keys().nth(n as usize % count).copied()
            };
            match action {
                0..=5 => {
                    let last = stream.last_id();
                    let id = if a < 10 { StreamId::new(last.ms + a + 1, b) } else { last.next().unwrap() };
                    let pairs: Vec<&[u8]> = fields.iter().flat_map(|(f, v)| [&f[..], &v[..]]).collect();
                    let bytes = pairs.iter().map(|p| p.len()).sum();
                    stream.add(id, &pairs, bytes, limits);
                    model.entries.insert(id, fields);
                }
                6 | 7 => {
                    let id = nth(a).unwrap_or(StreamId::new(a, b));
                    prop_assert_eq!(stream.delete(id), model.entries.remove(&id).is_some());
                    stream.settle();
                    prop_assert!(!stream.delete(id));
                }
                8 => {
                    let removed = stream.trim(&Trim {
                        threshold: Threshold::Length(a), approximate: false, limit: 0, references: References::Keep });
                    let expected = (model.entries.len() as u64).saturating_sub(a);
                    prop_assert_eq!(removed, expected);
                    for _ in 0..expected { model.entries.pop_first(); }
                }
                9 => if let Some(id) = nth(b) {
                    let removed = stream.trim(&Trim {
                        threshold: Threshold::Id(id), approximate: false, limit: 0, references: References::Keep });
                    let kept = model.entries.split_off(&id);
                    prop_assert_eq!(removed, model.entries.len() as u64);
                    model.entries = kept;
                }
                10 => {
                    // Any number of the oldest may go, but not below the length.
                    let removed = stream.trim(&Trim {
                        threshold: Threshold::Length(a), approximate: true, limit: b, references: References::Keep });
                    prop_assert!(removed == 0 || stream.len() >= a);
                    prop_assert!(b == 0 || removed <= b);
                    for _ in 0..removed { model.entries.pop_first(); }
                }
                _ => {
                    let (Some(x), Some(y)) = (nth(a), nth(b)) else { continue };
                    let some: Vec<_> = stream.range(x, y, false).map(|e| e.id).collect();
                    let expected: Vec<_> = model.entries.keys().filter(|i| (x..=y).contains(i)).copied().collect();
                    prop_assert_eq!(&some, &expected);
                    let mut back: Vec<_> = stream.range(x, y, true).map(|e| e.id).collect();
                    back.reverse();
                    prop_assert_eq!(&back, &expected);
                    prop_assert_eq!(stream.entry(x).map(|e| read(&e).1), model.entries.get(&x).cloned());
                }
            }
        }
        check(&stream, &model);
        check(&stream.duplicate(), &model);
    }

    #[test]
    fn a_group_and_its_consumers_agree(steps in prop::collection::vec((0u8..6, 0u64..30, 0u8..4), 1..300)) {
        let mut group = Group::default();
        let mut model: BTreeMap<u64, u8> = BTreeMap::new();
        for (action, n, who) in steps {
            let id = StreamId::new(n, 0);
            match action {
                0..=2 => {
                    let consumer = group.find_consumer(&[who]).unwrap_or_else(|| group.add_consumer(&[who], 1));
                    group.deliver(id, consumer, 1, 1);
                    model.insert(n, who);
                }
                3 | 4 => prop_assert_eq!(group.acknowledge(id).is_some(), model.remove(&n).is_some()),
                _ => {
                    let before = model.len();
                    model.retain(|_, owner| *owner != who);
                    prop_assert_eq!(group.remove_consumer(&[who]).unwrap_or(0), before - model.len());
                }
            }
            group.check_invariants();
        }
        let found: BTreeMap<u64, u8> = group.pending().iter()
            .map(|(id, p)| (id.ms, group.consumer(p.consumer).name[0])).collect();
        prop_assert_eq!(found, model);
    }
}

const DEFAULT: Limits = Limits {
    block_bytes_max: 4096,
    block_entries_max: 100,
};

fn filled(entries: u64) -> Stream {
    let mut stream = Stream::new();
    for i in 0..entries {
        stream.add(
            StreamId::new(1_700_000_000_000 + i / 7, i % 7),
            &[b"f", b"v"],
            2,
            DEFAULT,
        );
    }
    stream
}

#[test]
fn removal_everywhere_keeps_the_order() {
    let mut stream = filled(30_000);
    let ids: Vec<_> = stream
        .range(StreamId::MIN, StreamId::MAX, false)
        .map(|e| e.id)
        .collect();
    // Whole chunks of blocks in the middle, and every block's first entries.
    for (i, id) in ids.iter().enumerate() {
        if (8_000..16_000).contains(&i) || i % 100 < 3 {
            assert!(stream.delete(*id));
        }
    }
    stream.settle();
    stream.check_invariants();
    assert_eq!(stream.last_live_id(), ids.last().copied());
    let trim = Trim {
        threshold: Threshold::Length(50),
        approximate: false,
        limit: 0,
        references: References::Keep,
    };
    stream.trim(&trim);
    stream.check_invariants();
    assert_eq!(stream.len(), 50);
    assert_eq!(stream.first_id(), ids[29_950]);
}

#[test]
fn it_is_freed_in_slices() {
    let mut stream = filled(20_000);
    let mut group = Group::default();
    let consumer = group.add_consumer(b"c", 1);
    for i in 0..1000 {
        group.deliver(StreamId::new(i, 0), consumer, 1, 1);
    }
    stream.add_group(b"g", group);
    let effort = stream.free_effort();
    assert!(effort >= 2200, "{effort}");
    let mut slices = 0;
    while stream.free_some(100) == 100 {
        slices += 1;
    }
    assert!((20..=30).contains(&slices), "{slices}");
    assert_eq!(stream.block_count(), 0);
    assert_eq!(stream.groups().len(), 0);
}

#[test]
fn trimming_minds_references() {
    let mut stream = filled(250);
    let ids: Vec<_> = stream
        .range(StreamId::MIN, StreamId::MAX, false)
        .map(|e| e.id)
        .collect();
    let mut group = Group::new(ids[200], None);
    let consumer = group.add_consumer(b"c", 1);
    group.deliver(ids[10], consumer, 1, 1);
    group.deliver(ids[150], consumer, 1, 1);
    stream.add_group(b"g", group);
    let mut trim = Trim {
        threshold: Threshold::Length(0),
        approximate: false,
        limit: 0,
        references: References::Acked,
    };
    assert_eq!(stream.trim(&trim), 199);
    stream.check_invariants();
    assert_eq!(stream.first_id(), ids[10]);
    trim.references = References::Delete;
    assert_eq!(stream.trim(&trim), 51);
    stream.check_invariants();
    assert!(stream.group(b"g").unwrap().pending().is_empty());
}

/// XDEL of the newest entry and XSETID back make room for IDs below the deleted one's.
#[test]
fn ids_go_on_below_a_deleted_one() {
    let id = StreamId::new;
    for block_entries_max in [1, 2, 3, 100] {
        let limits = Limits {
            block_bytes_max: 0,
            block_entries_max,
        };
        let mut stream = Stream::new();
        let add = |stream: &mut Stream, id| stream.add(id, &[b"f", b"v"], 2, limits);
        for i in [5, 6] {
            add(&mut stream, id(i, 0));
        }
        stream.delete(id(6, 0));
        stream.settle();
        stream.set_last_id(id(5, 0), None, Some(id(5, 0)));
        for i in 1..4 {
            add(&mut stream, id(5, i));
        }
        let bytes = |block: &Block| Block::from_bytes(block.first(), block.bytes().to_vec());
        let blocks: Option<Vec<Block>> = stream.blocks().map(bytes).collect();
        let totals = Totals {
            last_id: stream.last_id(),
            max_deleted_id: stream.max_deleted_id(),
            entries_added: stream.entries_added(),
        };
        let again = Stream::from_blocks(blocks.expect("sound blocks"), totals);
        for mut stream in [stream, again.expect("in order")] {
            stream.check_invariants();
            let ids = |from, to, reverse| -> Vec<u64> {
                let all = stream.range(id(5, from), id(5, to), reverse);
                all.map(|entry| entry.id.seq).collect()
            };
            assert_eq!(ids(0, 9, false), [0, 1, 2, 3]);
            assert_eq!(ids(0, 9, true), [3, 2, 1, 0]);
            assert_eq!(ids(1, 2, false), [1, 2]);
            assert_eq!(ids(1, 2, true), [2, 1]);
            assert!(stream.contains(id(5, 3)) && !stream.contains(id(6, 0)));
            let trim = Trim {
                threshold: Threshold::Id(id(5, 2)),
                approximate: false,
                limit: 0,
                references: References::Keep,
            };
            assert_eq!(stream.trim(&trim), 2);
            stream.check_invariants();
            assert!(stream.delete(id(5, 3)));
            stream.settle();
            assert_eq!((stream.len(), stream.first_id()), (1, id(5, 2)));
        }
    }
}
