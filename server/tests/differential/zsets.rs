//! Sorted sets.

use crate::compare::Check;
use crate::grammar::Arg::{
    Counted, Float, Index, Key, LexBound, Maybe, Member, OneOf, Pattern, Raw, Score, ScoreBound,
    SomeOf, Times, Within, Word,
};
use crate::grammar::Kind::{Lex, Set, Zset as Z};
use crate::grammar::{Arg, Spec, spec};

const FLAGS: Arg = SomeOf(&[
    &[OneOf(&[&[Word("NX")], &[Word("XX")]])],
    &[OneOf(&[&[Word("GT")], &[Word("LT")]])],
    &[Word("CH")],
]);
const LIMIT: Arg = Maybe(&[Word("LIMIT"), Within(0, 4), Within(-1, 6)]);
const SCORES: Arg = Maybe(&[Word("WITHSCORES")]);
const AGGREGATE: Arg = Maybe(&[
    Word("AGGREGATE"),
    OneOf(&[
        &[Word("SUM")],
        &[Word("MIN")],
        &[Word("MAX")],
        &[Raw("AVG")],
    ]),
]);
const WEIGHTS: Arg = Maybe(&[Word("WEIGHTS"), Times(1, 4, &[Score])]);
const SOURCES: Arg = OneOf(&[
    &[Raw("1"), Key(Z)],
    &[Raw("2"), Key(Z), Key(Z)],
    &[Raw("2"), Key(Z), Key(Set)],
    &[Raw("2"), Key(Z), Key(Z), Word("WEIGHTS"), Score, Score],
    &[Raw("3"), Key(Z), Key(Set), Key(Z)],
    &[Counted(&[Key(Z)]), WEIGHTS],
]);
const END: Arg = OneOf(&[&[Word("MIN")], &[Word("MAX")]]);
const TIMEOUT: Arg = OneOf(&[&[Raw("0.001")], &[Raw("0.002")], &[Raw("-1")], &[Raw("x")]]);

pub const SPECS: &[Spec] = &[
    spec("ZADD", &[Key(Z), Times(1, 5, &[Score, Member])]).weight(16),
    spec("ZADD", &[Key(Z), FLAGS, Times(1, 4, &[Score, Member])]).weight(8),
    spec("ZADD", &[Key(Z), FLAGS, Word("INCR"), Score, Member]),
    spec("ZADD", &[Key(Z), Times(60, 150, &[Score, Member])]).weight(1),
    spec("ZADD", &[Key(Z), Times(3, 6, &[Raw("0"), Member])]).weight(6),
    spec("ZINCRBY", &[Key(Z), Float, Member]).weight(6),
    spec("ZREM", &[Key(Z), Times(1, 4, &[Member])]).weight(5),
    spec("ZCARD", &[Key(Z)]),
    spec("ZSCORE", &[Key(Z), Member]).weight(6),
    spec("ZMSCORE", &[Key(Z), Times(1, 4, &[Member])]),
    spec("ZRANK", &[Key(Z), Member]),
    spec("ZREVRANK", &[Key(Z), Member]),
    spec("ZCOUNT", &[Key(Z), ScoreBound, ScoreBound]),
    spec("ZLEXCOUNT", &[Key(Lex), LexBound, LexBound]),
    spec("ZRANGE", &[Key(Z), Index, Index, SCORES]).weight(6),
    spec(
        "ZRANGE",
        &[
            Key(Z),
            ScoreBound,
            ScoreBound,
            Word("BYSCORE"),
            Maybe(&[Word("REV")]),
            LIMIT,
            SCORES,
        ],
    )
    .weight(6),
    spec(
        "ZRANGE",
        &[
            Key(Lex),
            LexBound,
            LexBound,
            Word("BYLEX"),
            Maybe(&[Word("REV")]),
            LIMIT,
        ],
    )
    .weight(6),
    spec(
        "ZRANGE",
        &[
            Key(Z),
            Index,
            Index,
            SomeOf(&[&[Word("REV")], &[LIMIT], &[SCORES]]),
        ],
    ),
    spec("ZREVRANGE", &[Key(Z), Index, Index, SCORES]),
    spec(
        "ZRANGEBYSCORE",
        &[Key(Z), ScoreBound, ScoreBound, SCORES, LIMIT],
    ),
    spec(
        "ZREVRANGEBYSCORE",
        &[Key(Z), ScoreBound, ScoreBound, SCORES, LIMIT],
    ),
    spec("ZADD", &[Key(Lex), Times(1, 5, &[Raw("0"), Member])])
        .weight(6)
        .never_spoilt(),
    spec("ZADD", &[Key(Lex), Times(60, 150, &[Raw("0"), Member])])
        .weight(1)
        .never_spoilt(),
    spec("ZREM", &[Key(Lex), Times(1, 4, &[Member])]).weight(2),
    // Over mixed scores the answer depends on how a skiplist's levels fell.
    spec("ZLEXCOUNT", &[Key(Z), LexBound, LexBound])
        .unordered_unless_packed(Check::Type)
        .weight(2),
    spec("ZRANGEBYLEX", &[Key(Z), LexBound, LexBound])
        .unordered_unless_packed(Check::Type)
        .weight(2),
    spec("ZREMRANGEBYLEX", &[Key(Z), LexBound, LexBound])
        .check(Check::Type)
        .discard()
        .weight(1),
    spec("ZRANGEBYLEX", &[Key(Lex), LexBound, LexBound, LIMIT]),
    spec("ZREVRANGEBYLEX", &[Key(Lex), LexBound, LexBound, LIMIT]),
    spec(
        "ZRANGESTORE",
        &[Key(Z), Key(Z), Index, Index, Maybe(&[Word("REV")])],
    ),
    spec(
        "ZRANGESTORE",
        &[
            Key(Z),
            Key(Z),
            ScoreBound,
            ScoreBound,
            Word("BYSCORE"),
            Maybe(&[Word("REV")]),
            LIMIT,
        ],
    ),
    spec(
        "ZRANGESTORE",
        &[Key(Z), Key(Lex), LexBound, LexBound, Word("BYLEX"), LIMIT],
    ),
    spec("ZREMRANGEBYRANK", &[Key(Z), Index, Index]).weight(2),
    spec("ZREMRANGEBYSCORE", &[Key(Z), ScoreBound, ScoreBound]).weight(2),
    spec("ZREMRANGEBYLEX", &[Key(Lex), LexBound, LexBound]).weight(2),
    spec("ZPOPMIN", &[Key(Z), Maybe(&[Within(0, 4)])]),
    spec("ZPOPMAX", &[Key(Z), Maybe(&[Within(0, 4)])]),
    spec(
        "ZMPOP",
        &[
            Counted(&[Key(Z)]),
            END,
            Maybe(&[Word("COUNT"), Within(1, 4)]),
        ],
    ),
    spec("BZPOPMIN", &[Times(1, 3, &[Key(Z)]), TIMEOUT])
        .weight(2)
        .never_spoilt(),
    spec("BZPOPMAX", &[Times(1, 3, &[Key(Z)]), TIMEOUT])
        .weight(2)
        .never_spoilt(),
    spec(
        "BZMPOP",
        &[
            TIMEOUT,
            Counted(&[Key(Z)]),
            END,
            Maybe(&[Word("COUNT"), Within(1, 4)]),
        ],
    )
    .weight(2)
    .never_spoilt(),
    spec("ZUNION", &[SOURCES, AGGREGATE, SCORES]).weight(5),
    spec("ZINTER", &[SOURCES, AGGREGATE, SCORES]).weight(5),
    spec("ZDIFF", &[Counted(&[Key(Z)]), SCORES]),
    spec("ZUNIONSTORE", &[Key(Z), SOURCES, AGGREGATE]).weight(5),
    spec("ZINTERSTORE", &[Key(Z), SOURCES, AGGREGATE]).weight(5),
    spec("ZDIFFSTORE", &[Key(Z), Counted(&[Key(Z)])]),
    spec(
        "ZINTERCARD",
        &[Counted(&[Key(Z)]), Maybe(&[Word("LIMIT"), Within(0, 5)])],
    ),
    // Thresholds, so that every size meets both encodings.
    spec(
        "CONFIG SET",
        &[
            Raw("zset-max-listpack-entries"),
            OneOf(&[
                &[Raw("0")],
                &[Raw("4")],
                &[Raw("20")],
                &[Raw("128")],
                &[Raw("1000")],
            ]),
        ],
    )
    .weight(2)
    .never_spoilt(),
    spec(
        "CONFIG SET",
        &[
            Raw("zset-max-listpack-value"),
            OneOf(&[&[Raw("2")], &[Raw("64")], &[Raw("5000")]]),
        ],
    )
    .weight(1)
    .never_spoilt(),
    spec("ZRANDMEMBER", &[Key(Z)]).check(Check::Type).weight(2),
    spec("ZRANDMEMBER", &[Key(Z), Within(-8, 8), SCORES])
        .check(Check::Shape)
        .weight(2),
    spec(
        "ZSCAN",
        &[
            Key(Z),
            Raw("0"),
            SomeOf(&[&[Word("MATCH"), Pattern], &[Word("COUNT"), Within(1, 20)]]),
        ],
    )
    .check(Check::Scan)
    .weight(3),
];
