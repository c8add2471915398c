//! Streams and their consumer groups.
//!
//! Groups' commands changed in 7.2 (who makes a consumer, and when it was seen) and are compared with the newer servers only. KEEPREF and its like are
//! 8.2's.

use crate::compare::Check;
use crate::grammar::Arg::{
    Field, Integer, Key, Maybe, NewStreamId, OneOf, Raw, Seldom, SomeOf, StreamId, Times, Value,
    Within, Word,
};
use crate::grammar::Kind::Stream as S;
use crate::grammar::{Arg, From, Spec, spec};

const GROUP: Arg = OneOf(&[&[Raw("g1")], &[Raw("g1")], &[Raw("g2")], &[Raw("nogroup")]]);
const CONSUMER: Arg = OneOf(&[&[Raw("alice")], &[Raw("bob")]]);
const TRIM: Arg = OneOf(&[
    &[Word("MAXLEN"), Within(0, 30)],
    &[Word("MAXLEN"), Raw("="), Within(0, 30)],
    &[
        Word("MAXLEN"),
        Raw("~"),
        Within(0, 30),
        Maybe(&[Word("LIMIT"), Within(0, 10)]),
    ],
    &[Word("MINID"), Raw("="), StreamId],
    &[Word("MINID"), Raw("~"), StreamId],
]);
/// 8.2 trims nothing where `~` meets DELREF or ACKED (a fault, repaired later: redis PR 14623).
const TRIM_EXACTLY: Arg = OneOf(&[
    &[Word("MAXLEN"), Within(0, 10)],
    &[Word("MAXLEN"), Raw("="), Within(0, 10)],
    &[Word("MINID"), Raw("="), StreamId],
    &[Word("MINID"), StreamId],
]);
const FROM: Arg = OneOf(&[
    &[Raw("-")],
    &[StreamId],
    &[Raw("("), StreamId],
    &[Raw("(3-1")],
]);
const TO: Arg = OneOf(&[&[Raw("+")], &[StreamId], &[Raw("(9-1")]]);

const REFERENCES: Arg = OneOf(&[&[Word("KEEPREF")], &[Word("DELREF")], &[Word("ACKED")]]);
const IDS: Arg = OneOf(&[
    &[Word("IDS"), Raw("1"), StreamId],
    &[Word("IDS"), Raw("2"), StreamId, StreamId],
    &[Word("IDS"), Raw("3"), StreamId, StreamId, StreamId],
    &[Word("IDS"), Integer, StreamId],
]);
/// What a blocked client waits is short.
const BLOCK: Arg = OneOf(&[&[Raw("1")], &[Raw("2")], &[Raw("-1")], &[Raw("x")]]);
const PAIRS: Arg = OneOf(&[
    &[Times(1, 3, &[Field, Value])],
    &[Raw("f1"), Value, Raw("f2"), Value],
    &[Raw("f1"), Value],
]);

/// All or none have been idle for so long: a few milliseconds would be up to the machine.
const IDLE: Arg = OneOf(&[
    &[Raw("0")],
    &[Raw("0")],
    &[Raw("0")],
    &[Raw("99999999")],
    &[OneOf(&[
        &[Raw("-5")],
        &[Raw("abc")],
        &[Raw("9223372036854775808")],
    ])],
]);

pub const SPECS: &[Spec] = &[
    spec(
        "CONFIG SET",
        &[OneOf(&[
            &[
                Raw("stream-node-max-entries"),
                OneOf(&[&[Raw("1")], &[Raw("3")], &[Raw("100")], &[Raw("0")]]),
            ],
            &[
                Raw("stream-node-max-bytes"),
                OneOf(&[&[Raw("1")], &[Raw("60")], &[Raw("4096")], &[Raw("0")]]),
            ],
        ])],
    )
    .from(From::Newer)
    .weight(2)
    .never_spoilt(),
    spec("XADD", &[Key(S), NewStreamId, PAIRS]).weight(26),
    spec(
        "XADD",
        &[
            Key(S),
            SomeOf(&[&[Word("NOMKSTREAM")], &[TRIM], &[TRIM]]),
            NewStreamId,
            PAIRS,
        ],
    )
    .weight(6),
    spec(
        "XADD",
        &[
            Key(S),
            SomeOf(&[&[Word("NOMKSTREAM")], &[TRIM_EXACTLY], &[REFERENCES]]),
            NewStreamId,
            PAIRS,
        ],
    )
    .from(From::Redis82)
    .weight(8),
    spec("XADD", &[Key(S), Raw("*"), Field, Value])
        .check(Check::Type)
        .discard()
        .weight(1)
        .never_spoilt(),
    spec("XLEN", &[Key(S)]),
    spec(
        "XRANGE",
        &[Key(S), FROM, TO, Maybe(&[Word("COUNT"), Within(0, 5)])],
    )
    .weight(8),
    spec(
        "XREVRANGE",
        &[Key(S), TO, FROM, Maybe(&[Word("COUNT"), Within(0, 5)])],
    )
    .weight(5),
    spec("XDEL", &[Key(S), Times(1, 3, &[StreamId])]).weight(5),
    spec("XDELEX", &[Key(S), SomeOf(&[&[REFERENCES], &[IDS]])])
        .from(From::Redis82)
        .weight(2),
    spec("XDELEX", &[Key(S), REFERENCES, IDS])
        .from(From::Redis82)
        .weight(6),
    spec(
        "XACKDEL",
        &[Key(S), GROUP, SomeOf(&[&[REFERENCES], &[IDS]])],
    )
    .from(From::Redis82)
    .weight(2),
    spec("XACKDEL", &[Key(S), GROUP, REFERENCES, IDS])
        .from(From::Redis82)
        .weight(6),
    spec("XTRIM", &[Key(S), TRIM]),
    spec(
        "XTRIM",
        &[
            Key(S),
            SomeOf(&[&[TRIM_EXACTLY], &[TRIM_EXACTLY], &[REFERENCES]]),
        ],
    )
    .from(From::Redis82)
    .weight(2),
    spec(
        "XTRIM",
        &[
            Key(S),
            OneOf(&[&[TRIM_EXACTLY, REFERENCES], &[REFERENCES, TRIM_EXACTLY]]),
        ],
    )
    .from(From::Redis82),
    spec(
        "XSETID",
        &[
            Key(S),
            StreamId,
            Seldom(&[
                Word("ENTRIESADDED"),
                Within(0, 100),
                Word("MAXDELETEDID"),
                StreamId,
            ]),
        ],
    )
    .from(From::Newer)
    .weight(2),
    spec(
        "XSETID",
        &[
            Key(S),
            StreamId,
            SomeOf(&[
                &[Word("ENTRIESADDED"), Within(0, 100)],
                &[Word("MAXDELETEDID"), StreamId],
            ]),
        ],
    )
    .from(From::Newer)
    .weight(1),
    spec(
        "XREAD",
        &[
            Maybe(&[Word("COUNT"), Within(0, 4)]),
            Word("STREAMS"),
            Key(S),
            StreamId,
        ],
    )
    .weight(5),
    spec(
        "XREAD",
        &[
            Word("COUNT"),
            Within(1, 4),
            Word("STREAMS"),
            Key(S),
            Key(S),
            StreamId,
            StreamId,
        ],
    )
    .weight(5),
    spec(
        "XREAD",
        &[
            Maybe(&[Word("COUNT"), Within(1, 4)]),
            Word("STREAMS"),
            Key(S),
            Key(S),
            OneOf(&[&[Raw("+")], &[Raw("$")], &[Raw(">")]]),
            OneOf(&[&[Raw("+")], &[StreamId]]),
        ],
    )
    .from(From::Redis82),
    spec(
        "XREAD",
        &[Word("BLOCK"), BLOCK, Word("STREAMS"), Key(S), Raw("$")],
    )
    .weight(1)
    .never_spoilt(),
    spec(
        "XREAD",
        &[
            Word("BLOCK"),
            BLOCK,
            Word("STREAMS"),
            Key(S),
            Key(S),
            OneOf(&[&[Raw("$")], &[Raw("99")]]),
            Raw("$"),
        ],
    )
    .weight(1)
    .never_spoilt(),
    spec("XREAD", &[Word("STREAMS"), Key(S), Key(S), StreamId]).weight(1),
    spec(
        "XGROUP CREATE",
        &[
            Key(S),
            GROUP,
            OneOf(&[&[Raw("0")], &[Raw("$")], &[StreamId]]),
            SomeOf(&[&[Word("MKSTREAM")], &[Word("ENTRIESREAD"), Within(-1, 10)]]),
        ],
    )
    .from(From::Newer)
    .weight(9),
    spec(
        "XGROUP SETID",
        &[
            Key(S),
            GROUP,
            OneOf(&[&[Raw("0")], &[Raw("$")], &[StreamId]]),
            Seldom(&[Word("ENTRIESREAD"), Within(-1, 10)]),
        ],
    )
    .from(From::Newer)
    .weight(2),
    spec("XGROUP DESTROY", &[Key(S), GROUP])
        .from(From::Newer)
        .weight(1),
    spec("XGROUP CREATECONSUMER", &[Key(S), GROUP, CONSUMER]).from(From::Newer),
    spec("XGROUP DELCONSUMER", &[Key(S), GROUP, CONSUMER])
        .from(From::Newer)
        .weight(2),
    spec("XGROUP HELP", &[]).from(From::Newer).weight(1),
    spec(
        "XREADGROUP",
        &[
            Word("GROUP"),
            GROUP,
            CONSUMER,
            SomeOf(&[&[Word("COUNT"), Within(0, 4)], &[Word("NOACK")]]),
            Word("STREAMS"),
            Key(S),
            OneOf(&[&[Raw(">")], &[Raw(">")], &[StreamId], &[Raw("0")]]),
        ],
    )
    .from(From::Newer)
    .weight(14),
    spec(
        "XREADGROUP",
        &[
            Word("GROUP"),
            GROUP,
            CONSUMER,
            Maybe(&[Word("COUNT"), Within(0, 4)]),
            Maybe(&[Word("BLOCK"), Raw("1")]),
            Seldom(&[Word("NOACK")]),
            Word("STREAMS"),
            Key(S),
            Key(S),
            OneOf(&[&[Raw(">")], &[Raw(">")], &[Raw("0")], &[Raw("$")]]),
            OneOf(&[&[Raw(">")], &[Raw(">")], &[StreamId], &[Raw("+")]]),
        ],
    )
    .from(From::Newer)
    .weight(4)
    .never_spoilt(),
    spec(
        "XREADGROUP",
        &[
            Word("GROUP"),
            GROUP,
            CONSUMER,
            Word("STREAMS"),
            Key(S),
            Key(S),
            Raw(">"),
        ],
    )
    .from(From::Newer)
    .weight(1),
    spec("XACK", &[Key(S), GROUP, Times(1, 3, &[StreamId])])
        .from(From::Newer)
        .weight(5),
    spec("XPENDING", &[Key(S), GROUP])
        .from(From::Newer)
        .weight(5),
    // Idle times differ.
    spec(
        "XPENDING",
        &[
            Key(S),
            GROUP,
            Maybe(&[
                Word("IDLE"),
                OneOf(&[&[Raw("0")], &[Raw("99999999")], &[Raw("-1")]]),
            ]),
            FROM,
            TO,
            Within(0, 10),
            Maybe(&[CONSUMER]),
        ],
    )
    .check(Check::Near(60_000))
    .from(From::Newer),
    spec(
        "XCLAIM",
        &[
            Key(S),
            GROUP,
            CONSUMER,
            IDLE,
            Times(1, 3, &[StreamId]),
            SomeOf(&[
                &[Word("JUSTID")],
                &[Word("FORCE")],
                &[Word("RETRYCOUNT"), Within(0, 9)],
                &[Word("IDLE"), Within(0, 9)],
                &[Word("TIME"), Within(0, 9)],
                &[Word("LASTID"), StreamId],
            ]),
        ],
    )
    .from(From::Newer)
    .weight(6),
    spec(
        "XAUTOCLAIM",
        &[
            Key(S),
            GROUP,
            CONSUMER,
            IDLE,
            OneOf(&[
                &[Raw("-")],
                &[StreamId],
                &[Raw("("), StreamId],
                &[Raw("(3-1")],
            ]),
            SomeOf(&[&[Word("COUNT"), Within(1, 5)], &[Word("JUSTID")]]),
        ],
    )
    .from(From::Newer)
    .weight(6),
    spec("XINFO STREAM", &[Key(S)])
        .check(Check::Shape)
        .from(From::Newer)
        .weight(2),
    spec(
        "XINFO STREAM",
        &[Key(S), Word("FULL"), Maybe(&[Word("COUNT"), Within(0, 5)])],
    )
    .check(Check::Shape)
    .from(From::Newer)
    .weight(2),
    spec("XINFO GROUPS", &[Key(S)]).from(From::Newer).weight(3),
    spec("XINFO CONSUMERS", &[Key(S), GROUP])
        .check(Check::Near(60_000))
        .from(From::Newer)
        .weight(3),
    spec("XINFO HELP", &[]).from(From::Newer).weight(1),
];
