//! Hashes.

use crate::compare::Check;
use crate::grammar::Arg::{
    Field, Float, Integer, Key, Maybe, Millis, OneOf, Pattern, Raw, Seconds, Seldom, SomeOf, Times,
    UnixMillis, UnixSeconds, Value, Within, Word,
};
use crate::grammar::Kind::Hash as H;
use crate::grammar::{Arg, From, Spec, spec};

/// Hash fields with a life of their own take their fields as `FIELDS count field…`.
const FIELDS: Arg = OneOf(&[
    &[Word("FIELDS"), Raw("1"), Field],
    &[Word("FIELDS"), Raw("2"), Field, Field],
    &[Word("FIELDS"), Raw("3"), Field, Field, Field],
    &[Word("FIELDS"), Integer, Field],
]);
const GIVEN: Arg = OneOf(&[
    &[Word("FIELDS"), Raw("1"), Field],
    &[Word("FIELDS"), Raw("2"), Field, Field],
]);
const WHEN: Arg = Maybe(&[OneOf(&[
    &[Word("NX")],
    &[Word("XX")],
    &[Word("GT")],
    &[Word("LT")],
])]);
const LIFE: Arg = OneOf(&[
    &[Word("EX"), Seconds],
    &[Word("PX"), Millis],
    &[Word("EXAT"), UnixSeconds],
    &[Word("PXAT"), UnixMillis],
]);

pub const SPECS: &[Spec] = &[
    spec("HSET", &[Key(H), Times(1, 5, &[Field, Value])]).weight(14),
    spec("HSET", &[Key(H), Times(30, 70, &[Arg::Member, Value])]).weight(1),
    spec("HMSET", &[Key(H), Times(1, 4, &[Field, Value])]),
    spec("HSETNX", &[Key(H), Field, Value]),
    spec("HGET", &[Key(H), Field]).weight(8),
    spec("HMGET", &[Key(H), Times(1, 5, &[Field])]),
    spec("HDEL", &[Key(H), Times(1, 4, &[Field])]).weight(5),
    spec("HLEN", &[Key(H)]),
    spec("HSTRLEN", &[Key(H), Field]),
    spec("HEXISTS", &[Key(H), Field]),
    spec("HGETALL", &[Key(H)])
        .weight(6)
        .unordered_unless_packed(Check::SortedPairs),
    spec("HKEYS", &[Key(H)]).unordered_unless_packed(Check::Sorted),
    spec("HVALS", &[Key(H)]).unordered_unless_packed(Check::Sorted),
    spec("HINCRBY", &[Key(H), Field, Integer]).weight(6),
    spec("HINCRBYFLOAT", &[Key(H), Field, Float]).weight(6),
    spec("HRANDFIELD", &[Key(H)]).check(Check::Type).weight(2),
    spec(
        "HRANDFIELD",
        &[Key(H), Within(-8, 8), Seldom(&[Word("WITHVALUES")])],
    )
    .check(Check::Shape)
    .weight(2),
    spec(
        "HSCAN",
        &[
            Key(H),
            Raw("0"),
            SomeOf(&[&[Word("MATCH"), Pattern], &[Word("COUNT"), Within(1, 20)]]),
        ],
    )
    .check(Check::Scan)
    .weight(3),
    spec("HEXPIRE", &[Key(H), Seconds, WHEN, FIELDS])
        .from(From::Newer)
        .weight(6),
    spec("HPEXPIRE", &[Key(H), Millis, WHEN, FIELDS])
        .from(From::Newer)
        .weight(6),
    // Short lives, until they are over everywhere.
    spec("HPEXPIRE", &[Key(H), Within(1, 40), WHEN, FIELDS])
        .from(From::Newer)
        .pause(600)
        .weight(1),
    spec("HEXPIREAT", &[Key(H), UnixSeconds, WHEN, FIELDS]).from(From::Newer),
    spec("HPEXPIREAT", &[Key(H), UnixMillis, WHEN, FIELDS]).from(From::Newer),
    spec("HPERSIST", &[Key(H), FIELDS]).from(From::Newer),
    spec("HTTL", &[Key(H), FIELDS])
        .check(Check::Near(5))
        .from(From::Newer)
        .weight(6),
    spec("HPTTL", &[Key(H), FIELDS])
        .check(Check::Near(5000))
        .from(From::Newer),
    spec("HEXPIRETIME", &[Key(H), FIELDS])
        .check(Check::Near(5))
        .from(From::Newer),
    spec("HPEXPIRETIME", &[Key(H), FIELDS])
        .check(Check::Near(5000))
        .from(From::Newer),
    spec("HGETDEL", &[Key(H), FIELDS])
        .from(From::Newer)
        .weight(6),
    spec(
        "HGETEX",
        &[
            Key(H),
            Maybe(&[OneOf(&[&[LIFE], &[Word("PERSIST")]])]),
            FIELDS,
        ],
    )
    .from(From::Redis82)
    .weight(6),
    spec(
        "HSETEX",
        &[
            Key(H),
            SomeOf(&[
                &[LIFE],
                &[OneOf(&[&[Word("FNX")], &[Word("FXX")]])],
                &[Word("KEEPTTL")],
            ]),
            OneOf(&[
                &[Word("FIELDS"), Raw("1"), Field, Value],
                &[Word("FIELDS"), Raw("2"), Field, Value, Field, Value],
                &[Word("FIELDS"), Integer, Field, Value],
            ]),
        ],
    )
    .from(From::Redis82)
    .weight(6),
    // Valkey takes an option twice, and says otherwise what is wrong.
    spec(
        "HGETEX",
        &[
            Key(H),
            Maybe(&[OneOf(&[&[LIFE], &[Word("PERSIST")]])]),
            GIVEN,
        ],
    )
    .from(From::Valkey91)
    .never_spoilt()
    .weight(6),
    spec(
        "HSETEX",
        &[
            Key(H),
            Maybe(&[OneOf(&[&[Word("NX")], &[Word("XX")]])]),
            Maybe(&[OneOf(&[&[Word("FNX")], &[Word("FXX")]])]),
            Maybe(&[OneOf(&[&[LIFE], &[Word("KEEPTTL")]])]),
            OneOf(&[
                &[Word("FIELDS"), Raw("1"), Field, Value],
                &[Word("FIELDS"), Raw("2"), Field, Value, Field, Value],
            ]),
        ],
    )
    .from(From::Valkey91)
    .never_spoilt()
    .weight(6),
];
