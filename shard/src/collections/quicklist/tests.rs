//! Quicklists against a plain deque.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;

fn check(list: &List, model: &VecDeque<Vec<u8>>) {
    list.check_invariants();
    assert_eq!(list.len(), model.len());
    let forward: Vec<Vec<u8>> = list.iter().map(Item::to_vec).collect();
    assert!(forward.iter().eq(model.iter()), "{forward:?} {model:?}");
    if !model.is_empty() {
        let back: Vec<Vec<u8>> = list
            .iter_back_from(model.len() - 1)
            .map(Item::to_vec)
            .collect();
        assert!(back.iter().rev().eq(model.iter()));
    }
    for end in [End::Front, End::Back] {
        let expected = match end {
            End::Front => model.front(),
            End::Back => model.back(),
        };
        assert_eq!(list.peek(end).map(Item::to_vec).as_ref(), expected);
    }
}

#[derive(Clone, Debug)]
enum Edit {
    Push(bool, Vec<u8>, usize),
    Pop(bool, usize),
    Insert(Index, Vec<u8>, bool),
    Replace(Index, Vec<u8>),
    RemoveRange(Index, usize),
    RemoveEqual(Index, usize, bool),
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (0u8..20).prop_map(|n| n.to_string().into_bytes()),
        4 => (0usize..60).prop_map(|n| vec![b'a'; n]),
        2 => (100usize..3000).prop_map(|n| vec![b'm'; n]),
        1 => (8000usize..9000).prop_map(|n| vec![b'L'; n]),
        1 => (60_000usize..70_000).prop_map(|n| vec![b'H'; n]),
    ]
}
fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        6 => (any::<bool>(), value(), 1usize..300).prop_map(|(e, v, n)| {
            let n = if v.len() > 60 { 1 + n % 4 } else { n };
            Edit::Push(e, v, n)
        }),
        3 => (any::<bool>(), 1usize..200).prop_map(|(e, n)| Edit::Pop(e, n)),
        4 => (any::<Index>(), value(), any::<bool>()).prop_map(|(i, v, a)| Edit::Insert(i, v, a)),
        3 => (any::<Index>(), value()).prop_map(|(i, v)| Edit::Replace(i, v)),
        2 => (any::<Index>(), 0usize..400).prop_map(|(i, n)| Edit::RemoveRange(i, n)),
        2 => (any::<Index>(), 1usize..50, any::<bool>()).prop_map(|(i, n, e)| Edit::RemoveEqual(i, n, e)),
    ]
}

fn end_of(front: bool) -> End {
    if front { End::Front } else { End::Back }
}

fn apply(list: &mut List, model: &mut VecDeque<Vec<u8>>, edit: Edit) {
    let len = model.len();
    match edit {
        Edit::Push(front, value, times) => {
            for _ in 0..times {
                list.push(end_of(front), &value);
                if front {
                    model.push_front(value.clone());
                } else {
                    model.push_back(value.clone());
                }
            }
        }
        Edit::Pop(front, times) => {
            for _ in 0..times {
                let mut popped = None;
                assert_eq!(
                    list.pop(end_of(front), |item| popped = Some(item.to_vec())),
                    !model.is_empty()
                );
                let expected = if front {
                    model.pop_front()
                } else {
                    model.pop_back()
                };
                assert_eq!(popped, expected);
            }
        }
        _ if len == 0 => assert!(list.place(0).is_none()),
        Edit::Insert(index, value, after) => {
            let i = index.index(len);
            list.insert(list.place(i).unwrap(), &value, after);
            model.insert(i + usize::from(after), value);
        }
        Edit::Replace(index, value) => {
            let i = index.index(len);
            assert_eq!(list.get(i).unwrap().to_vec(), model[i]);
            list.replace(list.place(i).unwrap(), &value);
            model[i] = value;
        }
        Edit::RemoveRange(index, count) => {
            let i = index.index(len);
            list.remove_range(i, count);
            model.drain(i..(i + count).min(len));
        }
        Edit::RemoveEqual(index, count, front) => {
            let value = model[index.index(len)].clone();
            let mut matches: Vec<usize> = (0..len).filter(|&i| model[i] == value).collect();
            if !front {
                matches.reverse();
            }
            matches.truncate(count);
            assert_eq!(
                list.remove_equal(&value, count, end_of(front)),
                matches.len()
            );
            matches.sort_unstable();
            for i in matches.into_iter().rev() {
                model.remove(i);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn edits_match_a_deque(setting in prop_oneof![Just(-2), Just(-1), Just(-5), Just(0), Just(1), Just(4), Just(128)],
                           edits in proptest::collection::vec(edit(), 1..40)) {
        let mut list = List::new(Limit::new(setting));
        let mut model = VecDeque::new();
        for edit in edits {
            apply(&mut list, &mut model, edit);
            check(&list, &model);
        }
        if let Some(lp) = list.to_listpack(Limit::new(setting), false) {
            prop_assert!(listpack::validate(&lp));
            check(&List::from_listpack(&lp, Limit::new(1)), &model);
        }
        let mut copy = list.duplicate();
        check(&copy, &model);
        let mut freed = 0;
        while copy.free_some(3) == 3 { freed += 3; }
        prop_assert!(freed <= list.free_effort());
    }
}

/// The half of a split node may have no room for the value either: it gets a node of its own instead of growing past what one can hold.
#[test]
fn a_half_without_room() {
    for after in [false, true] {
        let mut list = List::new(Limit::new(-5));
        let long = vec![b'x'; 40_000];
        for value in [&long[..], b"a", b"b", &long[..20_000]] {
            list.push(End::Back, value);
        }
        list.insert(list.place(1).unwrap(), &long, after);
        list.check_invariants();
        assert_eq!(list.get(1 + usize::from(after)).unwrap().to_vec(), long);
        assert_eq!(list.len(), 5);
    }
}

/// Many nodes: chunks are split, joined, and given away as wholes.
#[test]
fn many_nodes() {
    let mut list = List::new(Limit::new(2));
    let mut model = VecDeque::new();
    for i in 0..3000u32 {
        let text = i.to_string().into_bytes();
        if i % 3 == 0 {
            list.push(End::Front, &text);
            model.push_front(text);
        } else {
            list.push(End::Back, &text);
            model.push_back(text);
        }
    }
    check(&list, &model);
    for i in 0..400 {
        let at = (i * 7919) % model.len();
        list.insert(list.place(at).unwrap(), b"x", i % 2 == 0);
        model.insert(at + usize::from(i % 2 == 0), b"x".to_vec());
    }
    check(&list, &model);
    for at in (0..model.len()).step_by(97) {
        assert_eq!(list.get(at).unwrap().to_vec(), model[at]);
    }
    let removed = list.remove_range(500, 2000).expect("many nodes");
    removed.check_invariants();
    model.drain(500..2500);
    check(&list, &model);
    assert_eq!(
        list.remove_equal(b"x", usize::MAX, End::Back),
        model.iter().filter(|t| *t == b"x").count()
    );
    model.retain(|t| t != b"x");
    check(&list, &model);
}

/// The bytes that a million elements take, by the structure's own count and by what Redis needs for a node.
#[test]
fn a_million_short_elements_are_packed() {
    let mut list = List::new(Limit::new(-2));
    for i in 0..1_000_000 {
        list.push(End::Back, format!("element-{i:08}").as_bytes());
    }
    let each = Body::memory(&list) as f64 / 1e6;
    assert!(each <= 18.11, "{each} bytes an element");
}

/// A queue that is pushed at one end and popped at the other neither grows nor leaves its node half empty.
#[test]
fn a_steady_queue_stays_small() {
    let mut list = List::new(Limit::new(-2));
    for i in 0..200_000 {
        list.push(End::Front, format!("element-{i:08}").as_bytes());
        if i >= 300 {
            assert!(list.pop(End::Back, |item| assert!(
                item.equals(format!("element-{:08}", i - 300).as_bytes())
            )));
        }
    }
    list.check_invariants();
    assert!(Body::memory(&list) < 24 << 10);
}
