//! HyperLogLogs against an array of registers; and strings that only look like one.

use super::registers::{Way, merge_packed};
use super::*;
use proptest::prelude::*;

/// Every way to read the value says the same as the model.
fn check(hll: &[u8], model: &[u8; REGISTERS]) {
    assert!(is_hll(hll));
    let dense = if is_dense(hll) {
        hll.to_vec()
    } else {
        let covered: usize = runs(hll).map(|run| run.len).sum();
        assert_eq!(covered, REGISTERS);
        to_dense(hll).expect("a sparse value that was made here")
    };
    assert_eq!(dense.len(), DENSE_LEN);
    for (index, rank) in model.iter().enumerate() {
        assert_eq!(dense_get(&dense, index), *rank, "register {index}");
    }
    let mut registers = Registers::default();
    registers.merge(hll).expect("a value that was made here");
    assert!(registers.iter().eq(model.iter().copied()));
    every_way(&dense, model);
    assert_eq!(count(hll), Ok(registers.count()));
    assert_eq!(count(&dense), Ok(registers.count()));
}

/// Every way of going over dense registers does the same.
fn every_way(dense: &[u8], model: &[u8; REGISTERS]) {
    let mut histogram = [0; 64];
    for rank in model {
        histogram[*rank as usize] += 1;
    }
    for way in [Way::OneByOne, Way::Words, Way::widest()] {
        let mut registers = Registers::default();
        registers.merge_dense(dense, way);
        assert!(registers.iter().eq(model.iter().copied()), "{way:?}");
        let raised: Vec<_> = (0..REGISTERS)
            .map(|i| (i, model[i]))
            .filter(|(_, rank)| *rank > 0)
            .collect();
        assert!(registers.raised().eq(raised), "{way:?}");
        assert_eq!(registers.histogram(way), histogram, "{way:?}");
        let mut written = dense.to_vec();
        written[HEADER..].fill(0xff);
        registers.write_dense_by(&mut written, way);
        assert_eq!(written, dense, "{way:?}");
    }
}

/// Raises a register whatever the encoding, and says whether that changed it.
fn raise(hll: &mut Vec<u8>, index: usize, rank: u8, limit: usize, from: &mut From) -> bool {
    if is_dense(hll) {
        return dense_set(hll, index, rank);
    }
    match sparse_set(hll, index, rank, limit, from).expect("a value that was made here") {
        Raised::Unchanged => false,
        Raised::Changed => true,
        Raised::Dense(dense) => {
            *hll = dense;
            true
        }
    }
}

/// Registers close together and far apart, with few ranks, so that runs meet, and sometimes a rank that no run can hold.
fn raised() -> impl Strategy<Value = (usize, u8)> {
    let index = prop_oneof![
        4 => 0usize..40,
        2 => 8150usize..8250,
        2 => REGISTERS - 40..REGISTERS,
        2 => 0usize..REGISTERS,
    ];
    let rank = prop_oneof![8 => 1u8..4, 2 => 1u8..33, 1 => 30u8..52];
    (index, prop_oneof![60 => rank, 1 => Just(33u8)])
}

/// A header and any bytes, or runs that do not add up.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let header = |kind: u8, rest: Vec<u8>| {
        let mut bytes = b"HYLL".to_vec();
        bytes.extend([kind, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0x80]);
        bytes.extend(rest);
        bytes
    };
    let cut = (0usize..3, any::<Vec<(usize, u8)>>()).prop_map(|(cut, raised)| {
        let mut hll = EMPTY.to_vec();
        for (index, rank) in raised {
            raise(
                &mut hll,
                index % REGISTERS,
                rank % 32 + 1,
                3000,
                &mut From::default(),
            );
        }
        hll.truncate(hll.len() - cut);
        hll
    });
    prop_oneof![
        any::<Vec<u8>>().prop_map(move |rest| header(SPARSE, rest)),
        prop::collection::vec(any::<u8>(), DENSE_LEN - HEADER)
            .prop_map(move |rest| header(DENSE, rest)),
        prop::collection::vec(0x40u8..0x80, 0..8).prop_map(move |rest| header(SPARSE, rest)),
        cut,
        any::<Vec<u8>>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 60 } else { 200 }))]

    #[test]
    fn a_value_keeps_the_highest_rank_of_each_register(
        all in prop::collection::vec(raised(), 1..300),
        limit in prop_oneof![Just(0usize), 20usize..200, Just(3000)],
    ) {
        let mut hll = EMPTY.to_vec();
        let mut model = [0u8; REGISTERS];
        for (index, rank) in all {
            let raised = raise(&mut hll, index, rank, limit, &mut From::default());
            prop_assert_eq!(raised, model[index] < rank);
            model[index] = model[index].max(rank);
            // The empty value may be longer than the limit.
            prop_assert!(is_dense(&hll) || hll.len() <= limit.max(EMPTY.len()));
        }
        check(&hll, &model);
    }

    /// Searching on from the last register, as PFMERGE does, gives the same bytes as searching from the start.
    #[test]
    fn a_search_that_goes_on_finds_the_same_runs(all in prop::collection::vec(raised(), 1..300)) {
        let mut all = all;
        all.sort_unstable();
        let (mut one, mut other) = (EMPTY.to_vec(), EMPTY.to_vec());
        let mut from = From::default();
        for (index, rank) in all {
            let a = raise(&mut one, index, rank, 3000, &mut From::default());
            let b = raise(&mut other, index, rank, 3000, &mut from);
            prop_assert_eq!(a, b);
            prop_assert_eq!(&one, &other);
        }
    }

    #[test]
    fn merging_takes_the_higher_rank(
        a in prop::collection::vec(raised(), 0..200),
        b in prop::collection::vec(raised(), 0..200),
        dense in any::<bool>(),
    ) {
        let mut model = [0u8; REGISTERS];
        let mut registers = Registers::default();
        for all in [a, b] {
            let mut hll = EMPTY.to_vec();
            for (index, rank) in all {
                raise(&mut hll, index, rank, if dense { 0 } else { 3000 }, &mut From::default());
                model[index] = model[index].max(rank);
            }
            registers.merge(&hll).expect("a value that was made here");
        }
        prop_assert!(registers.iter().eq(model.iter().copied()));
    }

    #[test]
    fn a_union_is_of_all_values_whatever_their_encodings(
        all in prop::collection::vec((prop::collection::vec(raised(), 0..100), any::<bool>()), 0..5),
    ) {
        let mut model = Registers::default();
        let mut union = Union::default();
        for (raised, dense) in &all {
            let mut hll = EMPTY.to_vec();
            for (index, rank) in raised {
                raise(&mut hll, *index, *rank, 3000, &mut From::default());
            }
            if *dense && !is_dense(&hll) {
                hll = to_dense(&hll).expect("a value that was made here");
            }
            model.merge(&hll).expect("a value that was made here");
            union.add(&hll).expect("a value that was made here");
        }
        let union = match union.into_parts() {
            Ok(registers) => *registers,
            Err(dense) => {
                let mut registers = Registers::default();
                if !all.is_empty() {
                    registers.merge(&dense).expect("a value that was made here");
                }
                registers
            }
        };
        prop_assert!(union.iter().eq(model.iter()));
    }

    /// Passing over many runs at once finds what a walk finds, with the two runs before it.
    #[test]
    fn a_search_over_blocks_finds_the_same_runs(
        indexes in prop::collection::vec((0..REGISTERS, 1u8..33), 100..1200),
        starts in prop::collection::vec(any::<prop::sample::Index>(), 8),
    ) {
        let mut hll = EMPTY.to_vec();
        for (index, rank) in indexes {
            raise(&mut hll, index, rank, DENSE_LEN, &mut From::default());
        }
        let mut all = Vec::new();
        let mut here = From::default();
        for run in runs(&hll) {
            all.push((here, run));
            here = From { at: here.at + run.size(), first: here.first + run.len };
        }
        let starts = starts.iter().map(|start| start.index(all.len()));
        for start in starts.chain([0]) {
            let from = all[start].0;
            let before = |n: usize, by: usize| all[n.saturating_sub(by).max(start)].0;
            let mut n = start;
            for index in from.first..REGISTERS {
                n += usize::from(index >= all[n].0.first + all[n].1.len);
                let found = find_run(&hll, index, from).expect("a value that was made here");
                let places = [found.previous, found.back].map(|p| (p.at, p.first));
                prop_assert_eq!((found.at, found.first, found.run), (all[n].0.at, all[n].0.first, all[n].1));
                prop_assert_eq!(places, [1, 2].map(|by| (before(n, by).at, before(n, by).first)));
            }
            prop_assert!(find_run(&hll, REGISTERS, from).is_none());
        }
    }

    /// Registers of any ranks, those of no element included: what clients write with SETRANGE.
    #[test]
    fn dense_values_merge_alike_in_every_way(
        a in prop::collection::vec(0u8..64, REGISTERS),
        b in prop::collection::vec(any::<u8>(), DENSE_LEN - HEADER),
    ) {
        let mut one = to_dense(&EMPTY).expect("the empty value");
        for (index, rank) in a.iter().enumerate() {
            dense_set(&mut one, index, *rank);
        }
        let mut other = one.clone();
        other[HEADER..].copy_from_slice(&b);
        let model = std::array::from_fn(|i| dense_get(&other, i));
        every_way(&other, &model);
        for way in [Way::OneByOne, Way::Words, Way::widest()] {
            let mut registers = Registers::default();
            registers.merge_dense(&one, way);
            registers.merge_dense(&other, way);
            prop_assert!((0..REGISTERS).all(|i| registers.get(i) == a[i].max(model[i])));
            let mut packed = one.clone();
            merge_packed(&mut packed, &other, way);
            prop_assert_eq!(&packed[..HEADER], &one[..HEADER]);
            prop_assert!((0..REGISTERS).all(|i| dense_get(&packed, i) == registers.get(i)));
        }
    }

    #[test]
    fn strings_that_are_none_are_errors_at_worst(bytes in hostile(), index in 0..REGISTERS, rank in 1u8..52) {
        if !is_hll(&bytes) {
            return Ok(());
        }
        let (counted, dense) = (count(&bytes), is_dense(&bytes));
        let merged = Registers::default().merge(&bytes);
        prop_assert_eq!(counted.is_ok(), merged.is_ok());
        prop_assert!(runs(&bytes).count() <= bytes.len());
        let _ = cached(&bytes);
        let mut edited = bytes.clone();
        if dense {
            let raised = dense_set(&mut edited, index, rank);
            prop_assert_eq!(raised, dense_get(&bytes, index) < rank);
            prop_assert_eq!(dense_get(&edited, index), dense_get(&bytes, index).max(rank));
        } else {
            prop_assert_eq!(counted.is_ok(), to_dense(&bytes).is_ok());
            for limit in [0, 3000] {
                let mut edited = bytes.clone();
                let raised = sparse_set(&mut edited, index, rank, limit, &mut From::default());
                // Where the runs add up before they do so afterwards.
                if counted.is_ok() {
                    prop_assert!(raised.is_ok());
                    prop_assert!(count(&edited).is_ok());
                }
            }
        }
    }
}

#[test]
fn an_element_has_the_register_and_rank_that_redis_gives_it() {
    // From PFDEBUG DECODE and GETREG of Redis 8.2.3, one element each.
    for (element, index, rank) in PLACES {
        assert_eq!(place(element.as_bytes()), (*index, *rank), "{element:?}");
    }
}

const PLACES: &[(&str, usize, u8)] = &[
    ("", 5938, 2),
    ("a", 12711, 2),
    ("ab", 719, 1),
    ("abcdefg", 5634, 2),
    ("abcdefgh", 1383, 1),
    ("abcdefghi", 6903, 1),
    ("0123456789abcdef", 5949, 1),
    ("a longer element of several words", 1194, 2),
    ("Ringwood", 2005, 3),
    ("42", 9616, 1),
    ("-1", 11014, 2),
    ("elem:1000000", 15374, 2),
];

#[test]
fn estimates_are_close() {
    let mut hll = EMPTY.to_vec();
    let mut next = 1u32;
    for n in 1..=200_000u32 {
        let (index, rank) = place(n.to_string().as_bytes());
        raise(&mut hll, index, rank, 3000, &mut From::default());
        if n == next {
            let estimate = count(&hll).expect("a value that was made here") as f64;
            let off = (estimate - f64::from(n)).abs();
            assert!(
                off <= (f64::from(n) * 0.008_125 * 4.0).ceil(),
                "{n} are estimated as {estimate}"
            );
            next = next * 3 / 2 + 1;
        }
    }
    assert!(is_dense(&hll));
}

#[test]
fn the_estimate_is_kept_until_it_is_out_of_date() {
    let mut hll = EMPTY.to_vec();
    assert_eq!(cached(&hll), Some(0));
    outdate(&mut hll);
    assert_eq!(cached(&hll), None);
    hll[CACHE_AT..CACHE_AT + 8].copy_from_slice(&cache_bytes(123_456));
    assert_eq!(cached(&hll), Some(123_456));
    assert_eq!(hll[CACHE_AT..CACHE_AT + 4], [0x40, 0xe2, 1, 0]);
}
