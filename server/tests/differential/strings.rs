//! Strings.

use crate::compare::Check;
use crate::grammar::Arg::{
    Integer, Key, LaterMillis, LaterSeconds, Maybe, Member, Millis, OneOf, Raw, Seconds, SomeOf,
    Times, UnixMillis, UnixSeconds, Value, Within, Word,
};
use crate::grammar::Kind::String as S;
use crate::grammar::{Arg, From, Spec, spec};

const LIFE: Arg = OneOf(&[
    &[Word("EX"), Seconds],
    &[Word("PX"), Millis],
    &[Word("EXAT"), LaterSeconds],
    &[Word("PXAT"), LaterMillis],
    &[Word("KEEPTTL")],
]);
const GETEX_LIFE: Arg = OneOf(&[
    &[Word("EX"), Seconds],
    &[Word("PX"), Millis],
    &[Word("EXAT"), UnixSeconds],
    &[Word("PXAT"), UnixMillis],
    &[Word("PERSIST")],
]);
const CONDITION: Arg = OneOf(&[&[Word("NX")], &[Word("XX")]]);
const GET: &[Arg] = &[Word("GET")];

pub const SPECS: &[Spec] = &[
    spec("SET", &[Key(S), Value]).weight(14),
    spec(
        "SET",
        &[Key(S), Value, SomeOf(&[&[LIFE], &[CONDITION], GET])],
    )
    .weight(12),
    spec(
        "SET",
        &[
            Key(S),
            Value,
            Times(1, 4, &[OneOf(&[&[LIFE], &[CONDITION], GET])]),
        ],
    ),
    spec(
        "SET",
        &[
            Key(S),
            Value,
            OneOf(&[&[Word("EXAT"), UnixSeconds], &[Word("PXAT"), UnixMillis]]),
        ],
    )
    .weight(1)
    .pause(1)
    .never_spoilt(),
    // Over at once: nothing may be left of it a little later.
    spec("SET", &[Key(S), Value, Word("PX"), Raw("1")])
        .weight(1)
        .pause(6)
        .never_spoilt(),
    spec("GET", &[Key(S)]).weight(14),
    spec("GETSET", &[Key(S), Value]),
    spec("GETDEL", &[Key(S)]),
    spec("GETEX", &[Key(S), Maybe(&[GETEX_LIFE])]).weight(6),
    spec("GETEX", &[Key(S), GETEX_LIFE, GETEX_LIFE]).weight(1),
    spec("SETEX", &[Key(S), Seconds, Value]),
    spec("PSETEX", &[Key(S), Millis, Value]),
    spec("SETNX", &[Key(S), Value]),
    spec("MSET", &[Times(1, 6, &[Key(S), Value])]).weight(6),
    spec("MSETNX", &[Times(1, 4, &[Key(S), Value])]),
    spec("MGET", &[Times(1, 10, &[Key(S)])]).weight(8),
    spec("APPEND", &[Key(S), Value]).weight(6),
    spec("STRLEN", &[Key(S)]),
    spec("SUBSTR", &[Key(S), Arg::Index, Arg::Index]),
    spec("GETRANGE", &[Key(S), Arg::Index, Arg::Index]).weight(6),
    spec("SETRANGE", &[Key(S), Within(0, 100), Value]),
    spec(
        "SETRANGE",
        &[
            Key(S),
            OneOf(&[&[Integer], &[Raw("536870912")], &[Raw("536870911")]]),
            Raw(""),
        ],
    )
    .weight(1),
    spec(
        "SETRANGE",
        &[
            Key(S),
            OneOf(&[&[Raw("536870912")], &[Raw("-1")]]),
            Raw("x"),
        ],
    )
    .weight(1),
    spec("INCR", &[Key(S)]).weight(8),
    spec("DECR", &[Key(S)]),
    spec("INCRBY", &[Key(S), Integer]).weight(6),
    spec("DECRBY", &[Key(S), Integer]),
    spec("INCRBYFLOAT", &[Key(S), Arg::Float]).weight(8),
    spec("LCS", &[Key(S), Key(S)]),
    spec(
        "LCS",
        &[
            Key(S),
            Key(S),
            SomeOf(&[
                &[Word("LEN")],
                &[Word("IDX")],
                &[Word("MINMATCHLEN"), Within(0, 5)],
                &[Word("WITHMATCHLEN")],
            ]),
        ],
    ),
    // Newer than 7.0.
    spec(
        "SET",
        &[Key(S), Value, Word("IFEQ"), Value, SomeOf(&[&[LIFE], GET])],
    )
    .from(From::Valkey91)
    .weight(12),
    spec(
        "SET",
        &[
            Key(S),
            Member,
            Word("IFEQ"),
            Member,
            SomeOf(&[&[LIFE], &[CONDITION], GET]),
        ],
    )
    .from(From::Valkey91)
    .weight(12),
    spec("DELIFEQ", &[Key(S), Member])
        .from(From::Valkey91)
        .weight(12),
    spec(
        "MSETEX",
        &[
            Arg::Counted(&[Key(S), Value]),
            SomeOf(&[&[LIFE], &[CONDITION]]),
        ],
    )
    .from(From::Valkey91)
    .weight(12),
    spec("MSETEX", &[Arg::Counted(&[Key(S), Value])])
        .from(From::Valkey91)
        .weight(4)
        .check(Check::Exact),
];
