//! SORT over lists, sets and sorted sets.

use crate::compare::Check;
use crate::grammar::Arg::{Key, OneOf, Raw, SomeOf, Times, Within, Word};
use crate::grammar::Kind::{Any, List, Set, Zset};
use crate::grammar::{Arg, Spec, spec};

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

pub const SPECS: &[Spec] = &[
    spec("SORT", &[SOURCE, SomeOf(&[LIMIT, ORDER, ALPHA, GET])]).weight(6),
    spec(
        "SORT",
        &[SOURCE, Word("ALPHA"), SomeOf(&[LIMIT, ORDER, GET])],
    )
    .weight(6),
    // Elements that weigh the same come in the order of the underlying table.
    spec("SORT", &[SOURCE, Word("BY"), BY, Word("ALPHA")]).check(Check::Sorted),
    spec(
        "SORT",
        &[Key(List), Word("BY"), Raw("nosort"), SomeOf(&[LIMIT, GET])],
    ),
    spec(
        "SORT",
        &[
            Key(Zset),
            Word("BY"),
            Raw("nosort"),
            SomeOf(&[LIMIT, GET, ORDER]),
        ],
    ),
    spec(
        "SORT",
        &[
            SOURCE,
            SomeOf(&[LIMIT, ORDER, ALPHA]),
            Word("STORE"),
            Key(List),
        ],
    )
    .weight(6),
    spec("SORT_RO", &[SOURCE, SomeOf(&[LIMIT, ORDER, ALPHA, GET])]),
];
