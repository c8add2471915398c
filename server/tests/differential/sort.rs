//! SORT over lists, sets and sorted sets.

use crate::compare::Check;
use crate::grammar::Arg::{Key, Maybe, OneOf, Raw, SomeOf, Times, Within, Word};
use crate::grammar::Kind::{Any, List, Set, Zset};
use crate::grammar::{Arg, From, Spec, spec};

const SOURCE: Arg = OneOf(&[
    &[Key(List)],
    &[Key(List)],
    &[Key(Set)],
    &[Key(Zset)],
    &[Key(Any)],
]);
const LIMIT: &[Arg] = &[Word("LIMIT"), Within(0, 5), Within(-1, 8)];
const ORDER: &[Arg] = &[OneOf(&[&[Word("ASC")], &[Word("DESC")]])];
const ALPHA: &[Arg] = &[Word("ALPHA")];
const GET: &[Arg] = &[Times(
    1,
    2,
    &[
        Word("GET"),
        OneOf(&[
            &[Raw("#")],
            &[Raw("str:*")],
            &[Raw("hash:*->f1")],
            &[Raw("nosuch")],
        ]),
    ],
)];
const BY: Arg = OneOf(&[&[Raw("str:*")], &[Raw("hash:*->f1")]]);

/// Lists, sets and sorted sets that hold integers alone, whatever else a stream does. From any but a list of integers, 7.0 reads no
/// number at all after an earlier command, SCAN even, met one that is too large.
const NUMBERS: Arg = OneOf(&[&[Raw("num:0")], &[Raw("{a}num:1")], &[Raw("num:{b}:2")]]);
const NUMBERS_SET: Arg = OneOf(&[&[Raw("numset:0")], &[Raw("{a}numset:1")]]);
const NUMBERS_ZSET: Arg = OneOf(&[&[Raw("numzset:0")], &[Raw("{a}numzset:1")]]);
const NUMBER: Arg = OneOf(&[
    &[Raw("0")],
    &[Raw("1")],
    &[Raw("-1")],
    &[Raw("2")],
    &[Raw("7")],
    &[Raw("13")],
    &[Raw("100")],
    &[Raw("-250")],
    &[Raw("4096")],
    &[Raw("70000")],
    &[Raw("-3000000000")],
    &[Raw("9007199254740993")],
    &[Raw("9223372036854775807")],
    &[Raw("-9223372036854775808")],
]);
const SCORE: Arg = OneOf(&[&[Raw("0")], &[Raw("1")], &[Raw("-7")], &[Raw("2.5")]]);
/// Lists with fractions too.
const FRACTIONS: Arg = OneOf(&[&[Raw("frac:0")], &[Raw("frac:{b}:1")]]);
const FRACTION: Arg = OneOf(&[
    &[NUMBER],
    &[Raw("1.5")],
    &[Raw("-0.25")],
    &[Raw("1e3")],
    &[Raw("1.0")],
    &[Raw("+1")],
    &[Raw("inf")],
    &[Raw("-inf")],
    &[Raw("9223372036854775808")],
]);

pub const SPECS: &[Spec] = &[
    spec("SORT", &[SOURCE, SomeOf(&[LIMIT, ORDER, ALPHA, GET])]).weight(6),
    spec(
        "SORT",
        &[SOURCE, Word("ALPHA"), SomeOf(&[LIMIT, ORDER, GET])],
    )
    .weight(6),
    // Elements that weigh the same come in the order of the underlying table.
    spec("SORT", &[SOURCE, Word("BY"), BY, Word("ALPHA")]).check(Check::Sorted),
    // Sets among them have no order that could be compared.
    spec(
        "SORT",
        &[
            SOURCE,
            Word("BY"),
            Raw("nosort"),
            SomeOf(&[LIMIT, GET, ORDER]),
        ],
    )
    .check(Check::Shape),
    spec(
        "SORT",
        &[
            OneOf(&[&[NUMBERS], &[NUMBERS_ZSET]]),
            Word("BY"),
            Raw("nosort"),
            SomeOf(&[LIMIT, GET, ORDER]),
        ],
    ),
    // What is stored has to be the same everywhere, and what is a number is not (see the exceptions).
    spec("RPUSH", &[NUMBERS, Times(1, 8, &[NUMBER])]).never_spoilt(),
    spec("SADD", &[NUMBERS_SET, Times(1, 8, &[NUMBER])]).never_spoilt(),
    spec("ZADD", &[NUMBERS_ZSET, Times(1, 8, &[SCORE, NUMBER])]).never_spoilt(),
    spec("RPUSH", &[FRACTIONS, Times(1, 8, &[FRACTION])])
        .never_spoilt()
        .from(From::Redis82),
    spec(
        "SORT",
        &[
            FRACTIONS,
            SomeOf(&[LIMIT, ORDER]),
            Maybe(&[Word("STORE"), OneOf(&[&[FRACTIONS], &[Key(List)]])]),
        ],
    )
    .never_spoilt()
    .from(From::Redis82),
    spec(
        "SORT",
        &[
            NUMBERS,
            SomeOf(&[LIMIT, ORDER]),
            Word("STORE"),
            OneOf(&[&[NUMBERS], &[Key(List)]]),
        ],
    )
    .weight(3)
    .never_spoilt(),
    spec(
        "SORT",
        &[
            OneOf(&[&[NUMBERS_SET], &[NUMBERS_ZSET]]),
            SomeOf(&[LIMIT, ORDER]),
            Word("STORE"),
            OneOf(&[&[NUMBERS], &[Key(List)]]),
        ],
    )
    .weight(3)
    .never_spoilt()
    .from(From::Redis82),
    spec(
        "SORT",
        &[
            SOURCE,
            Word("ALPHA"),
            SomeOf(&[LIMIT, ORDER, GET]),
            Word("STORE"),
            Key(List),
        ],
    )
    .weight(4)
    .never_spoilt(),
    spec(
        "SORT",
        &[
            SOURCE,
            Word("BY"),
            Raw("nosort"),
            SomeOf(&[LIMIT, GET]),
            Word("STORE"),
            Key(List),
        ],
    )
    .weight(2)
    .never_spoilt(),
    spec("SORT_RO", &[SOURCE, SomeOf(&[LIMIT, ORDER, ALPHA, GET])]),
];
