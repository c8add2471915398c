//! Bits of strings.

use crate::grammar::Arg::{Index, Integer, Key, Maybe, OneOf, Raw, Times, Value, Within, Word};
use crate::grammar::Kind::Bits as B;
use crate::grammar::{Arg, From, Spec, spec};

const TYPE: Arg = OneOf(&[
    &[Raw("u8")],
    &[Raw("i8")],
    &[Raw("u1")],
    &[Raw("i5")],
    &[Raw("u63")],
    &[Raw("i64")],
    &[Raw("u64")],
    &[Raw("x8")],
    &[Raw("i65")],
]);
const OFFSET: Arg = OneOf(&[
    &[Within(0, 200)],
    &[Raw("#0")],
    &[Raw("#3")],
    &[Raw("-1")],
    &[Raw("x")],
]);
const BITFIELD_OP: Arg = OneOf(&[
    &[Word("GET"), TYPE, OFFSET],
    &[Word("SET"), TYPE, OFFSET, Integer],
    &[Word("INCRBY"), TYPE, OFFSET, Integer],
    &[
        Word("OVERFLOW"),
        OneOf(&[
            &[Word("WRAP")],
            &[Word("SAT")],
            &[Word("FAIL")],
            &[Raw("NO")],
        ]),
    ],
]);
const UNIT: Arg = Maybe(&[OneOf(&[&[Word("BYTE")], &[Word("BIT")], &[Raw("NIBBLE")]])]);

pub const SPECS: &[Spec] = &[
    spec(
        "SETBIT",
        &[Key(B), Within(0, 300), OneOf(&[&[Raw("1")], &[Raw("0")]])],
    )
    .weight(14),
    spec(
        "SETBIT",
        &[
            Key(B),
            OneOf(&[&[Raw("4294967296")], &[Raw("-1")], &[Raw("x")]]),
            OneOf(&[&[Raw("1")], &[Raw("2")]]),
        ],
    )
    .weight(1),
    spec("GETBIT", &[Key(B), Within(0, 300)]).weight(6),
    // Not SET: 8.2 has other limits of its encodings.
    spec("GETSET", &[Key(B), Value]),
    spec("SETRANGE", &[Key(B), Raw("0"), Value]),
    // Redis 7.0 looks at the key before it looks at the words.
    spec("BITCOUNT", &[Key(B), Maybe(&[Index, Index, UNIT])])
        .weight(8)
        .from(From::Redis82),
    spec(
        "BITCOUNT",
        &[Key(B), Maybe(&[Within(-40, 40), Within(-40, 40)])],
    )
    .weight(4)
    .from(From::Redis82),
    spec(
        "BITCOUNT",
        &[Key(B), Within(-300, 300), Within(-300, 300), Word("BIT")],
    )
    .weight(4)
    .from(From::Redis82),
    spec(
        "BITPOS",
        &[
            Key(B),
            OneOf(&[&[Raw("1")], &[Raw("0")], &[Raw("2")]]),
            Maybe(&[Index, Maybe(&[Index, UNIT])]),
        ],
    )
    .weight(8)
    .from(From::Redis82),
    spec(
        "BITPOS",
        &[
            Key(B),
            OneOf(&[&[Raw("1")], &[Raw("0")]]),
            Within(-300, 300),
            Within(-300, 300),
            Word("BIT"),
        ],
    )
    .weight(4)
    .from(From::Redis82),
    spec(
        "BITOP",
        &[
            OneOf(&[
                &[Word("DIFF")],
                &[Word("DIFF1")],
                &[Word("ANDOR")],
                &[Word("ONE")],
            ]),
            Key(B),
            Times(1, 4, &[Key(B)]),
        ],
    )
    .weight(8)
    .from(From::Redis82),
    spec(
        "BITOP",
        &[
            OneOf(&[&[Word("AND")], &[Word("OR")], &[Word("XOR")]]),
            Key(B),
            Times(1, 3, &[Key(B)]),
        ],
    )
    .weight(8),
    spec("BITOP", &[Word("NOT"), Key(B), Key(B)]).weight(3),
    spec("BITFIELD", &[Key(B), Times(0, 4, &[BITFIELD_OP])]).weight(10),
    spec(
        "BITFIELD_RO",
        &[Key(B), Times(1, 3, &[Word("GET"), TYPE, OFFSET])],
    ),
];
