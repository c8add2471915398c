//! Sets.

use crate::compare::Check;
use crate::grammar::Arg::{
    Counted, Key, Maybe, Member, OneOf, Pattern, Raw, SomeOf, Times, Within, Word,
};
use crate::grammar::Kind::Set as S;
use crate::grammar::{Arg, From, Spec, spec};

const NUMBERS: Arg = Times(1, 8, &[Within(-100, 100)]);

/// Sets that stay small, so that every server packs them and their order is known. Redis 7.0 packs only numbers.
const FEW: Arg = OneOf(&[&[Raw("few:0")], &[Raw("{a}few:1")]]);
const SHORT: Arg = OneOf(&[
    &[Raw("a")],
    &[Raw("b")],
    &[Raw("longer member")],
    &[Within(-20, 40)],
]);

pub const SPECS: &[Spec] = &[
    spec(
        "SADD",
        &[Key(S), OneOf(&[&[Times(1, 6, &[Member])], &[NUMBERS]])],
    )
    .weight(16),
    spec(
        "SADD",
        &[
            Key(S),
            Times(1, 5, &[Within(-3_000_000_000, 3_000_000_000)]),
        ],
    )
    .weight(3),
    spec("SADD", &[Key(S), Times(50, 200, &[Within(0, 5000)])]).weight(1),
    spec("SREM", &[Key(S), Times(1, 5, &[Member])]).weight(6),
    spec("SCARD", &[Key(S)]),
    spec("SISMEMBER", &[Key(S), Member]).weight(5),
    spec("SMISMEMBER", &[Key(S), Times(1, 5, &[Member])]),
    // Not in order where it is packed: it may have been stored by a command that read a table.
    spec("SMEMBERS", &[Key(S)]).weight(6).check(Check::Sorted),
    spec("SADD", &[FEW, Times(1, 4, &[SHORT])])
        .weight(4)
        .from(From::Redis82)
        .never_spoilt(),
    spec("SREM", &[FEW, Times(1, 2, &[SHORT])])
        .from(From::Redis82)
        .never_spoilt(),
    spec("SMEMBERS", &[FEW])
        .unordered_unless_packed(Check::Sorted)
        .from(From::Redis82)
        .never_spoilt(),
    spec("SMOVE", &[Key(S), Key(S), Member]).weight(6),
    spec("SPOP", &[Key(S)])
        .check(Check::Type)
        .discard()
        .weight(2),
    spec("SPOP", &[Key(S), Within(0, 20)])
        .check(Check::Shape)
        .discard()
        .weight(2),
    spec("SRANDMEMBER", &[Key(S)]).check(Check::Type).weight(2),
    spec("SRANDMEMBER", &[Key(S), Within(-8, 8)])
        .check(Check::Shape)
        .weight(2),
    spec("SINTER", &[Times(1, 4, &[Key(S)])])
        .check(Check::Sorted)
        .weight(5),
    spec("SUNION", &[Times(1, 4, &[Key(S)])])
        .check(Check::Sorted)
        .weight(5),
    spec("SDIFF", &[Times(1, 4, &[Key(S)])])
        .check(Check::Sorted)
        .weight(5),
    spec("SINTERSTORE", &[Key(S), Times(1, 4, &[Key(S)])]).weight(5),
    spec("SUNIONSTORE", &[Key(S), Times(1, 4, &[Key(S)])]).weight(5),
    spec("SDIFFSTORE", &[Key(S), Times(1, 4, &[Key(S)])]).weight(5),
    spec(
        "SINTERCARD",
        &[Counted(&[Key(S)]), Maybe(&[Word("LIMIT"), Within(0, 5)])],
    )
    .weight(5),
    spec(
        "SSCAN",
        &[
            Key(S),
            Raw("0"),
            SomeOf(&[&[Word("MATCH"), Pattern], &[Word("COUNT"), Within(1, 20)]]),
        ],
    )
    .check(Check::Scan)
    .weight(3),
    spec(
        "CONFIG SET",
        &[
            Raw("set-max-intset-entries"),
            OneOf(&[&[Raw("4")], &[Raw("512")]]),
        ],
    )
    .weight(1)
    .never_spoilt(),
    spec(
        "CONFIG SET",
        &[
            Raw("set-max-listpack-entries"),
            OneOf(&[&[Raw("6")], &[Raw("128")]]),
        ],
    )
    .weight(1)
    .never_spoilt()
    .from(From::Redis82),
];
