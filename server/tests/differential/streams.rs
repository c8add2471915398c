//! Streams and their consumer groups.

use crate::compare::Check;
use crate::grammar::Arg::{
    Field, Key, Maybe, NewStreamId, OneOf, Raw, Seldom, SomeOf, StreamId, Times, Value, Within,
    Word,
};
use crate::grammar::Kind::Stream as S;
use crate::grammar::{Arg, Spec, spec};

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
const FROM: Arg = OneOf(&[
    &[Raw("-")],
    &[StreamId],
    &[Raw("("), StreamId],
    &[Raw("(3-1")],
]);
const TO: Arg = OneOf(&[&[Raw("+")], &[StreamId], &[Raw("(9-1")]]);

pub const SPECS: &[Spec] = &[
    spec("XADD", &[Key(S), NewStreamId, Times(1, 3, &[Field, Value])]).weight(20),
    spec(
        "XADD",
        &[
            Key(S),
            Maybe(&[Word("NOMKSTREAM")]),
            Maybe(&[TRIM]),
            NewStreamId,
            Times(1, 3, &[Field, Value]),
        ],
    )
    .weight(6),
    spec("XADD", &[Key(S), Raw("*"), Field, Value])
        .check(Check::Type)
        .discard()
        .weight(1),
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
    spec("XTRIM", &[Key(S), TRIM]),
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
    .weight(2),
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
        &[Word("BLOCK"), Raw("1"), Word("STREAMS"), Key(S), Raw("$")],
    )
    .weight(1)
    .never_spoilt(),
    spec(
        "XREAD",
        &[Word("BLOCK"), Raw("-1"), Word("STREAMS"), Key(S), Raw("$")],
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
            Maybe(&[Word("MKSTREAM")]),
            Seldom(&[Word("ENTRIESREAD"), Within(-1, 10)]),
        ],
    )
    .weight(8),
    spec(
        "XGROUP SETID",
        &[
            Key(S),
            GROUP,
            OneOf(&[&[Raw("0")], &[Raw("$")], &[StreamId]]),
        ],
    )
    .weight(2),
    spec("XGROUP DESTROY", &[Key(S), GROUP]).weight(1),
    spec("XGROUP CREATECONSUMER", &[Key(S), GROUP, CONSUMER]),
    spec("XGROUP DELCONSUMER", &[Key(S), GROUP, CONSUMER]).weight(2),
    spec("XGROUP HELP", &[]).weight(1),
    spec(
        "XREADGROUP",
        &[
            Word("GROUP"),
            GROUP,
            CONSUMER,
            Maybe(&[Word("COUNT"), Within(1, 4)]),
            Seldom(&[Word("NOACK")]),
            Word("STREAMS"),
            Key(S),
            OneOf(&[&[Raw(">")], &[Raw(">")], &[StreamId]]),
        ],
    )
    .weight(12),
    spec("XACK", &[Key(S), GROUP, Times(1, 3, &[StreamId])]).weight(5),
    spec("XPENDING", &[Key(S), GROUP]).weight(5),
    // Idle times differ.
    spec(
        "XPENDING",
        &[
            Key(S),
            GROUP,
            Maybe(&[Word("IDLE"), Raw("0")]),
            FROM,
            TO,
            Within(0, 10),
            Maybe(&[CONSUMER]),
        ],
    )
    .check(Check::Near(60_000)),
    spec(
        "XCLAIM",
        &[
            Key(S),
            GROUP,
            CONSUMER,
            Raw("0"),
            Times(1, 3, &[StreamId]),
            SomeOf(&[
                &[Word("JUSTID")],
                &[Word("FORCE")],
                &[Word("RETRYCOUNT"), Within(0, 9)],
                &[Word("IDLE"), Within(0, 9)],
                &[Word("LASTID"), StreamId],
            ]),
        ],
    )
    .weight(5),
    spec(
        "XAUTOCLAIM",
        &[
            Key(S),
            GROUP,
            CONSUMER,
            Raw("0"),
            OneOf(&[&[Raw("-")], &[StreamId]]),
            SomeOf(&[&[Word("COUNT"), Within(1, 5)], &[Word("JUSTID")]]),
        ],
    )
    .weight(5),
    spec("XINFO STREAM", &[Key(S)])
        .check(Check::Shape)
        .weight(2),
    spec(
        "XINFO STREAM",
        &[Key(S), Word("FULL"), Maybe(&[Word("COUNT"), Within(0, 5)])],
    )
    .check(Check::Shape)
    .weight(2),
    spec("XINFO GROUPS", &[Key(S)]).weight(3),
    spec("XINFO CONSUMERS", &[Key(S), GROUP])
        .check(Check::Near(60_000))
        .weight(3),
    spec("XINFO HELP", &[]).weight(1),
];
