//! The tree against a sorted vector.

use super::*;
use proptest::prelude::*;

type Model = Vec<(f64, Vec<u8>)>;

fn place(model: &Model, score: f64, member: &[u8]) -> Result<usize, usize> {
    model.binary_search_by(|(s, m)| {
        s.partial_cmp(&score)
            .expect("no NaN")
            .then_with(|| m.as_slice().cmp(member))
    })
}

fn pairs(tree: &RankedTree, from: usize, to: usize) -> Model {
    let mut all = Vec::new();
    tree.visit(from, to, |s, m| all.push((s, m.to_vec())));
    all
}

#[derive(Clone, Debug)]
enum Step {
    Insert(f64, Vec<u8>),
    /// Of the pair of this rank, modulo the length.
    Remove(usize),
    Change(usize, f64),
    RemoveRange(usize, usize),
    /// Many pairs in order, so that trees get high.
    Ascending(f64, usize),
    Descending(f64, usize),
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (-20i32..20).prop_map(f64::from),
        3 => Just(0.0),
        1 => Just(-0.0),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
        2 => any::<f64>().prop_filter("a number", |s| !s.is_nan()),
    ]
}

fn member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::collection::vec(b'a'..b'e', 0..6),
        3 => (0u32..100_000).prop_map(|n| format!("member:{n}").into_bytes()),
        // Long ones that are equal for long.
        1 => (0usize..3, 0u8..4).prop_map(|(n, end)| {
            let mut long = vec![b'x'; [300, 3_000, 40_000][n]];
            long.push(end);
            long
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (score(), member()).prop_map(|(s, m)| Step::Insert(s, m)),
        8 => any::<usize>().prop_map(Step::Remove),
        8 => (any::<usize>(), score()).prop_map(|(n, s)| Step::Change(n, s)),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Step::RemoveRange(a, b)),
        1 => (score(), 0usize..3000).prop_map(|(s, n)| Step::Ascending(s, n)),
        1 => (score(), 0usize..3000).prop_map(|(s, n)| Step::Descending(s, n)),
    ]
}

fn put(tree: &mut RankedTree, model: &mut Model, score: f64, member: Vec<u8>) {
    if let Err(at) = place(model, score, &member) {
        tree.insert(score, &member);
        model.insert(at, (score, member));
    }
}

fn compare(tree: &RankedTree, model: &Model) {
    tree.check_invariants();
    assert_eq!(tree.len(), model.len());
    // Bit for bit, so that -0.0 stays what it is.
    let bits = |m: &Model| -> Vec<(u64, Vec<u8>)> {
        m.iter().map(|(s, m)| (s.to_bits(), m.clone())).collect()
    };
    let mut back = Vec::new();
    tree.visit_back(0, usize::MAX, |s, m| back.push((s, m.to_vec())));
    back.reverse();
    assert_eq!(bits(&back), bits(model));
    assert_eq!(bits(&pairs(tree, 0, model.len())), bits(model));
    assert_eq!(tree.first().map(|p| p.1), model.first().map(|p| &p.1[..]));
    assert_eq!(tree.last().map(|p| p.1), model.last().map(|p| &p.1[..]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..Default::default() })]
    #[test]
    fn behaves_like_a_sorted_vector(
        steps in prop::collection::vec(step(), 1..300),
        probes in prop::collection::vec((score(), member(), any::<usize>(), any::<usize>()), 20),
    ) {
        let mut tree = RankedTree::default();
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Insert(s, m) => put(&mut tree, &mut model, s, m),
                Step::Remove(n) if !model.is_empty() => {
                    let (s, m) = model.remove(n % model.len());
                    prop_assert!(tree.remove(s, &m));
                    prop_assert!(!tree.remove(s, &m));
                }
                Step::Change(n, new) if !model.is_empty() => {
                    let (old, m) = model.remove(n % model.len());
                    match place(&model, new, &m) {
                        Ok(_) => {
                            let at = place(&model, old, &m).expect_err("removed");
                            model.insert(at, (old, m));
                        }
                        Err(at) => {
                            prop_assert!(tree.change_score(old, &m, new));
                            model.insert(at, (new, m));
                        }
                    }
                }
                Step::RemoveRange(a, b) => {
                    let from = a % (model.len() + 1);
                    // Mostly short, seldom half of all.
                    let most = if b % 16 == 0 { model.len() } else if b % 4 == 0 { model.len() / 2 } else { 40 };
                    let to = (from + b / 4 % (most + 1)).min(model.len());
                    let mut gone = Vec::new();
                    tree.remove_range(from, to, |s, m| gone.push((s, m.to_vec())));
                    prop_assert_eq!(gone, model.drain(from..to).collect::<Vec<_>>());
                }
                Step::Ascending(s, n) if s.is_finite() => for i in 0..n {
                    put(&mut tree, &mut model, s, format!("up{i:06}").into_bytes());
                }
                Step::Descending(s, n) if s.is_finite() => for i in (0..n).rev() {
                    put(&mut tree, &mut model, s, format!("down{i:06}").into_bytes());
                }
                _ => {}
            }
            tree.check_invariants();
        }
        compare(&tree, &model);
        compare(&tree.clone(), &model);
        for (s, m, a, b) in probes {
            prop_assert_eq!(tree.rank(&Bound::Score { score: s, with: false }), model.iter().filter(|p| p.0 < s).count());
            prop_assert_eq!(tree.rank(&Bound::Score { score: s, with: true }), model.iter().filter(|p| p.0 <= s).count());
            let expected = place(&model, s, &m);
            let at = expected.unwrap_or_else(|at| at);
            prop_assert_eq!(tree.rank(&Bound::Pair { score: s, member: &m, with: false }), at);
            let behind = at + expected.is_ok() as usize;
            prop_assert_eq!(tree.rank(&Bound::Pair { score: s, member: &m, with: true }), behind);
            prop_assert!(expected.is_ok() || !tree.remove(s, &m));
            prop_assert!(expected.is_ok() || !tree.change_score(s, &m, 1.0));
            let from = a % (model.len() + 1);
            let to = (from + b % 300).min(model.len());
            prop_assert_eq!(pairs(&tree, from, to), model[from..to].to_vec());
            let mut back = Vec::new();
            tree.visit_back(from, to, |s, m| back.push((s, m.to_vec())));
            back.reverse();
            prop_assert_eq!(back, model[from..to].to_vec());
            prop_assert_eq!(tree.nth(from).map(|p| p.1), model.get(from).map(|p| &p.1[..]));
        }
    }

    /// Bounds by member, where all scores are equal.
    #[test]
    fn ranges_of_members(members in prop::collection::btree_set(member(), 0..2000), probes in prop::collection::vec(member(), 30)) {
        let mut tree = RankedTree::default();
        let all: Vec<&Vec<u8>> = members.iter().collect();
        for (i, m) in all.iter().enumerate() {
            if i % 2 == 0 { tree.insert(1.5, m); }
        }
        for (i, m) in all.iter().enumerate().rev() {
            if i % 2 == 1 { tree.insert(1.5, m); }
        }
        tree.check_invariants();
        for m in probes.iter().chain(all.iter().copied().take(20)) {
            prop_assert_eq!(tree.rank(&Bound::Member { member: m, with: false }), all.iter().filter(|a| **a < m).count());
            prop_assert_eq!(tree.rank(&Bound::Member { member: m, with: true }), all.iter().filter(|a| **a <= m).count());
        }
    }
}

/// Pairs that come in order leave full leaves behind; pairs that come at random leave no slack either.
#[test]
fn memory_of_a_million() {
    let member = |i: u64| format!("m:{i:06}");
    let mut ordered = RankedTree::default();
    for i in 0..1_000_000 {
        ordered.insert(i as f64, member(i).as_bytes());
    }
    ordered.check_invariants();
    let mut random = RankedTree::default();
    let mut seed = 1u64;
    for i in 0..1_000_000 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
        random.insert((seed >> 44) as f64, member(i).as_bytes());
    }
    random.check_invariants();
    // 18 bytes are the pair itself with its end.
    let bytes = |tree: &RankedTree| tree.memory() as f64 / 1e6;
    assert!(bytes(&ordered) < 19.5, "{}", bytes(&ordered));
    assert!(bytes(&random) < 21.0, "{}", bytes(&random));
}

#[test]
fn freed_in_slices() {
    let mut tree = RankedTree::default();
    for i in 0..200_000 {
        tree.insert((i * 7919 % 200_000) as f64, format!("m:{i}").as_bytes());
    }
    let blocks = tree.blocks();
    assert!(blocks > 1_000);
    let (mut total, mut steps) = (0, 0);
    loop {
        let freed = tree.free_some(100);
        assert!(freed <= 110);
        total += freed;
        steps += 1;
        if freed < 100 {
            break;
        }
    }
    assert!(
        steps >= blocks / 110 && total + 10 >= blocks,
        "{total} of {blocks}"
    );
    assert_eq!(tree.memory(), 0);
}

#[test]
fn popping_everything_from_both_ends() {
    let mut tree = RankedTree::default();
    for i in 0..20_000u32 {
        tree.insert(f64::from(i.wrapping_mul(2654435761) >> 8), &i.to_be_bytes());
    }
    let mut last = f64::NEG_INFINITY;
    for round in 0..10_000 {
        tree.remove_range(0, 1, |s, _| {
            assert!(s >= last);
            last = s;
        });
        tree.remove_range(tree.len() - 1, tree.len(), |_, _| {});
        if round % 500 == 0 {
            tree.check_invariants();
        }
    }
    assert!(tree.is_empty());
    tree.check_invariants();
}

/// Found by the property test: a root of inner nodes kept no child at all, and the next insertion had nowhere to go.
#[test]
fn removing_all_pairs_at_once_leaves_a_tree_to_insert_into() {
    for count in [1, 200, 20_000u32] {
        let mut tree = RankedTree::default();
        for i in 0..count {
            tree.insert(f64::from(i), &[b'x'; 30]);
        }
        let mut seen = 0;
        tree.remove_range(0, usize::MAX, |_, _| seen += 1);
        assert_eq!((seen, tree.len()), (count, 0));
        tree.check_invariants();
        tree.insert(1.0, b"a");
        tree.check_invariants();
        assert_eq!(tree.first(), Some((1.0, b"a".as_slice())));
    }
}

#[test]
#[should_panic(expected = "a score is a number")]
fn nan_is_refused() {
    RankedTree::default().insert(f64::NAN, b"m");
}
