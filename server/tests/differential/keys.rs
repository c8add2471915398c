//! Keys of any type, and databases.

use crate::compare::Check;
use crate::grammar::Arg::{
    Key, Maybe, Millis, OneOf, Pattern, Raw, Seconds, Seldom, SomeOf, Times, UnixMillis,
    UnixSeconds, Within, Word,
};
use crate::grammar::Kind::{Any, String as S};
use crate::grammar::{Arg, Spec, spec};

const WHEN: Arg = Maybe(&[OneOf(&[
    &[Word("NX")],
    &[Word("XX")],
    &[Word("GT")],
    &[Word("LT")],
])]);
const TWO_WHEN: Arg = Times(
    1,
    3,
    &[OneOf(&[
        &[Word("NX")],
        &[Word("XX")],
        &[Word("GT")],
        &[Word("LT")],
        &[Raw("ZZ")],
    ])],
);

pub const SPECS: &[Spec] = &[
    spec("DEL", &[Times(1, 5, &[Key(Any)])]).weight(5),
    spec("UNLINK", &[Times(1, 5, &[Key(Any)])]).weight(3),
    spec("EXISTS", &[Times(1, 8, &[Key(Any)])]).weight(6),
    spec("TOUCH", &[Times(1, 5, &[Key(Any)])]),
    spec("TYPE", &[Key(Any)]).weight(6),
    spec("EXPIRE", &[Key(Any), Seconds, WHEN]).weight(5),
    spec("PEXPIRE", &[Key(Any), Millis, WHEN]).weight(5),
    spec("EXPIREAT", &[Key(Any), UnixSeconds, WHEN]).weight(5),
    spec("PEXPIREAT", &[Key(Any), UnixMillis, WHEN]).weight(5),
    spec("EXPIRE", &[Key(Any), Seconds, TWO_WHEN]).weight(1),
    spec("PEXPIREAT", &[Key(Any), UnixMillis, TWO_WHEN]).weight(1),
    spec("PEXPIRE", &[Key(Any), Raw("1")])
        .weight(1)
        .pause(6)
        .never_spoilt(),
    spec("TTL", &[Key(Any)]).check(Check::Near(5)).weight(5),
    spec("PTTL", &[Key(Any)]).check(Check::Near(5000)).weight(5),
    spec("EXPIRETIME", &[Key(Any)]).check(Check::Near(5)),
    spec("PEXPIRETIME", &[Key(Any)]).check(Check::Near(5000)),
    spec("PERSIST", &[Key(Any)]).weight(5),
    spec("RENAME", &[Key(Any), Key(Any)]).weight(5),
    spec("RENAME", &[Key(S), Key(S)]).weight(3),
    spec("RENAMENX", &[Key(Any), Key(Any)]),
    spec(
        "COPY",
        &[
            Key(Any),
            Key(Any),
            SomeOf(&[&[Word("REPLACE")], &[Word("DB"), Within(0, 15)]]),
        ],
    )
    .weight(6),
    spec("MOVE", &[Key(Any), Within(0, 15)]),
    spec("KEYS", &[Pattern]).check(Check::Sorted).weight(2),
    spec("SCAN", &[Raw("0")]).check(Check::Scan).weight(1),
    spec(
        "SCAN",
        &[
            Raw("0"),
            SomeOf(&[
                &[Word("MATCH"), Pattern],
                &[Word("COUNT"), Within(1, 50)],
                &[
                    Word("TYPE"),
                    OneOf(&[
                        &[Word("string")],
                        &[Word("list")],
                        &[Word("hash")],
                        &[Word("zset")],
                        &[Raw("nosuch")],
                    ]),
                ],
            ]),
        ],
    )
    .check(Check::Scan)
    .weight(3),
    spec(
        "SCAN",
        &[OneOf(&[
            &[Raw("abc")],
            &[Raw("18446744073709551616")],
            &[Raw("1x")],
        ])],
    )
    .check(Check::Type)
    .weight(1),
    spec(
        "SCAN",
        &[
            Raw("0"),
            OneOf(&[
                &[Word("COUNT"), Raw("0")],
                &[Word("MATCH")],
                &[Raw("WRONG"), Raw("x")],
            ]),
        ],
    )
    .check(Check::Type)
    .weight(1),
    spec("RANDOMKEY", &[]).check(Check::Type).weight(1),
    spec("OBJECT ENCODING", &[Key(Any)]).weight(8),
    spec("OBJECT REFCOUNT", &[Key(Any)])
        .check(Check::Type)
        .weight(1),
    // Small integers are shared objects in Redis, with one idle time for all of them.
    spec("OBJECT IDLETIME", &[Key(Any)])
        .check(Check::Type)
        .weight(1),
    spec("OBJECT FREQ", &[Key(Any)]).weight(1),
    // The help is in our own words.
    spec("OBJECT HELP", &[]).check(Check::Type).weight(1),
    spec(
        "OBJECT",
        &[
            Seldom(&[Raw("ENCODING")]),
            Seldom(&[Raw("NOSUCH")]),
            Maybe(&[Key(Any)]),
        ],
    )
    .weight(1),
    spec("DBSIZE", &[]).weight(3),
    spec(
        "FLUSHDB",
        &[Seldom(&[OneOf(&[
            &[Word("ASYNC")],
            &[Word("SYNC")],
            &[Raw("WRONG")],
        ])])],
    )
    .weight(1),
    spec(
        "FLUSHALL",
        &[Seldom(&[OneOf(&[
            &[Word("ASYNC")],
            &[Word("SYNC")],
            &[Raw("WRONG")],
        ])])],
    )
    .weight(1),
    spec("SWAPDB", &[Within(0, 15), Within(0, 15)]).weight(1),
    spec("SWAPDB", &[Within(0, 1), Within(0, 1)]).weight(1),
    spec("SELECT", &[Within(0, 15)]).weight(1),
    spec("SELECT", &[Raw("0")]).weight(6),
];
