//! Lists.

use crate::grammar::Arg::{
    Counted, Index, Key, Maybe, Member, OneOf, Raw, SomeOf, Times, Value, Within, Word,
};
use crate::grammar::Kind::List as L;
use crate::grammar::{Arg, From, Spec, spec};

const SMALL: Arg = OneOf(&[
    &[Raw("0")],
    &[Raw("1")],
    &[Raw("3")],
    &[Raw("-1")],
    &[Raw("-4")],
    &[Raw("60")],
    &[Raw("-1000")],
    &[Raw("x")],
    &[Raw("1.5")],
    &[Raw(" 1")],
    &[Raw("9223372036854775808")],
]);
const END: Arg = OneOf(&[&[Word("LEFT")], &[Word("RIGHT")]]);
/// Short: a blocking command with nothing to take waits this long for its nil.
const TIMEOUT: Arg = OneOf(&[&[Raw("0.001")], &[Raw("0.002")], &[Raw("-1")], &[Raw("x")]]);

pub const SPECS: &[Spec] = &[
    spec("LPUSH", &[Key(L), Times(1, 6, &[Member])]).weight(10),
    spec("RPUSH", &[Key(L), Times(1, 6, &[Value])]).weight(10),
    spec("RPUSH", &[Key(L), Times(50, 150, &[Member])]).weight(1),
    spec("LPUSHX", &[Key(L), Times(1, 3, &[Value])]),
    spec("RPUSHX", &[Key(L), Times(1, 3, &[Value])]),
    spec("LPOP", &[Key(L), Maybe(&[Within(0, 5)])]).weight(5),
    spec("RPOP", &[Key(L), Maybe(&[Within(0, 5)])]).weight(5),
    spec("LLEN", &[Key(L)]).weight(5),
    spec("LRANGE", &[Key(L), Index, Index]).weight(8),
    spec("LRANGE", &[Key(L), Raw("0"), Raw("-1")]).weight(4),
    spec("LINDEX", &[Key(L), Index]),
    // From 7.2 on Redis cuts the index down to 32 bits; here a large one is out of range.
    spec("LSET", &[Key(L), SMALL, Value]).never_spoilt(),
    spec("LSET", &[Key(L), SMALL, Value, Value]).weight(1),
    spec(
        "LINSERT",
        &[
            Key(L),
            OneOf(&[&[Word("BEFORE")], &[Word("AFTER")], &[Raw("WRONG")]]),
            Member,
            Value,
        ],
    ),
    // Redis 7.0 takes the smallest integer, whose opposite is none, and removes what it should not.
    spec("LREM", &[Key(L), SMALL, Member]).never_spoilt(),
    spec("LREM", &[Key(L), Index, Member]).from(From::Redis82),
    spec("LTRIM", &[Key(L), Index, Index]),
    spec(
        "LPOS",
        &[
            Key(L),
            Member,
            SomeOf(&[
                &[Word("RANK"), Index],
                &[Word("COUNT"), Within(0, 5)],
                &[Word("MAXLEN"), Within(0, 10)],
            ]),
        ],
    )
    .weight(6),
    spec("RPOPLPUSH", &[Key(L), Key(L)]),
    spec("LMOVE", &[Key(L), Key(L), END, END]).weight(6),
    spec(
        "LMPOP",
        &[
            Counted(&[Key(L)]),
            END,
            Maybe(&[Word("COUNT"), Within(1, 5)]),
        ],
    )
    .weight(6),
    spec("BLPOP", &[Times(1, 3, &[Key(L)]), TIMEOUT])
        .weight(2)
        .never_spoilt(),
    spec("BRPOP", &[Times(1, 3, &[Key(L)]), TIMEOUT])
        .weight(2)
        .never_spoilt(),
    spec("BRPOPLPUSH", &[Key(L), Key(L), TIMEOUT])
        .weight(1)
        .never_spoilt(),
    spec("BLMOVE", &[Key(L), Key(L), END, END, TIMEOUT])
        .weight(2)
        .never_spoilt(),
    spec(
        "BLMPOP",
        &[
            TIMEOUT,
            Counted(&[Key(L)]),
            END,
            Maybe(&[Word("COUNT"), Within(1, 5)]),
        ],
    )
    .weight(2)
    .never_spoilt(),
    spec(
        "CONFIG SET",
        &[
            Raw("list-max-listpack-size"),
            OneOf(&[
                &[Raw("-2")],
                &[Raw("-1")],
                &[Raw("5")],
                &[Raw("40")],
                &[Raw("-5")],
            ]),
        ],
    )
    .weight(1)
    .never_spoilt(),
];
