//! HyperLogLogs: their strings have to be the same byte for byte.

use crate::grammar::Arg::{Key, Member, OneOf, Raw, Times, Value, Within, Word};
use crate::grammar::Kind::{Any, Hll as H};
use crate::grammar::{Arg, From, Spec, spec};

/// Strings that begin like HyperLogLogs: of an unknown kind, too short, with runs that cover too few or too many registers, with an
/// estimate in front of wrong runs.
const BAD: Arg = OneOf(&[
    &[Raw("HYLL")],
    &[Raw("HYLL\u{2}\0\0\0\0\0\0\0\0\0\0\0\u{7f}\u{7f}")],
    &[Raw("HYLL\0\0\0\0\0\0\0\0\0\0\0\0\u{1}\u{2}")],
    &[Raw("HYLL\u{1}\0\0\0\u{5}\0\0\0\0\0\0\0\u{1}\u{2}\u{3}")],
    &[Raw("HYLL\u{1}\0\0\0\u{5}\0\0\0\0\0\0\0")],
    &[Raw(
        "HYLL\u{1}\0\0\0\u{5}\0\0\0\0\0\0\0\u{7f}\u{7f}\u{7f}\u{7f}",
    )],
    &[Raw("hyll\u{1}\0\0\0\0\0\0\0\0\0\0\0\u{7f}\u{7f}")],
]);
const SHOWN: Arg = OneOf(&[
    &[Word("DECODE")],
    &[Word("ENCODING")],
    &[Word("TODENSE")],
    &[Raw("foo")],
]);

pub const SPECS: &[Spec] = &[
    spec("PFADD", &[Key(H), Times(0, 8, &[Member])]).weight(10),
    spec("PFADD", &[Key(H), Times(20, 100, &[Within(0, 100_000)])]).weight(6),
    spec("PFADD", &[Key(H), Times(1, 3, &[Value])]).weight(4),
    // Enough to come to the usual limit within a stream.
    spec(
        "PFADD",
        &[Raw("hll:0"), Times(300, 500, &[Within(0, 10_000_000)])],
    )
    .weight(1),
    spec("PFCOUNT", &[Times(1, 3, &[Key(H)])]).weight(8),
    spec("PFMERGE", &[Key(H), Times(0, 3, &[Key(H)])]).weight(6),
    spec("GET", &[Key(H)]).weight(6),
    spec("STRLEN", &[Key(H)]).weight(1),
    spec("OBJECT ENCODING", &[Key(H)]).weight(2),
    spec("PFDEBUG", &[SHOWN, Key(H)]).weight(4),
    spec("PFDEBUG", &[Word("GETREG"), Key(H)]).weight(1),
    spec(
        "PFDEBUG",
        &[Word("SIMD"), OneOf(&[&[Word("ON")], &[Word("OFF")]])],
    )
    .weight(1)
    .never_spoilt()
    .from(From::Redis82),
    spec(
        "CONFIG SET",
        &[
            Raw("hll-sparse-max-bytes"),
            OneOf(&[
                &[Raw("0")],
                &[Raw("40")],
                &[Raw("300")],
                &[Raw("3000")],
                &[Raw("16000")],
            ]),
        ],
    )
    .weight(2)
    .never_spoilt(),
    spec("COPY", &[Key(H), Key(H), Word("REPLACE")]).weight(2),
    spec("SET", &[Raw("badhll:0"), BAD])
        .weight(2)
        .never_spoilt(),
    // "a" has a register behind what the wrong runs cover.
    spec("PFADD", &[Raw("badhll:0"), Raw("a")])
        .weight(2)
        .never_spoilt(),
    spec("PFCOUNT", &[Raw("badhll:0")]).weight(2).never_spoilt(),
    spec("PFCOUNT", &[Key(H), Raw("badhll:0")])
        .weight(2)
        .never_spoilt(),
    spec("PFMERGE", &[Key(H), Raw("badhll:0")])
        .weight(2)
        .never_spoilt(),
    spec(
        "PFDEBUG",
        &[
            OneOf(&[&[Word("ENCODING")], &[Word("TODENSE")], &[Word("GETREG")]]),
            Raw("badhll:0"),
        ],
    )
    .weight(2)
    .never_spoilt(),
    spec("PFCOUNT", &[Key(Any)]).weight(1),
    spec("DEL", &[Key(H)]).weight(1),
];
