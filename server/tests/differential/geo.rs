//! Places.

use crate::grammar::Arg::{
    Key, Latitude, Longitude, Maybe, Member, OneOf, Seldom, SomeOf, Times, Within, Word,
};
use crate::grammar::Kind::Geo as G;
use crate::grammar::{Arg, Spec, spec};

const UNIT: Arg = OneOf(&[&[Word("m")], &[Word("km")], &[Word("ft")], &[Word("mi")]]);
const ORDER: Arg = OneOf(&[&[Word("ASC")], &[Word("DESC")]]);
const WITH: Arg = SomeOf(&[
    &[Word("WITHCOORD")],
    &[Word("WITHDIST")],
    &[Word("WITHHASH")],
]);
const COUNT: Arg = Maybe(&[Word("COUNT"), Within(1, 5)]);
const CENTRE: Arg = OneOf(&[
    &[Word("FROMMEMBER"), Member],
    &[Word("FROMLONLAT"), Longitude, Latitude],
]);
const AREA: Arg = OneOf(&[
    &[Word("BYRADIUS"), Within(1, 9000), Word("km")],
    &[Word("BYRADIUS"), Within(1, 90_000), UNIT],
    &[Word("BYBOX"), Within(1, 9000), Within(1, 9000), Word("km")],
]);

pub const SPECS: &[Spec] = &[
    spec(
        "GEOADD",
        &[Key(G), Times(1, 4, &[Longitude, Latitude, Member])],
    )
    .weight(16),
    spec(
        "GEOADD",
        &[
            Key(G),
            SomeOf(&[&[OneOf(&[&[Word("NX")], &[Word("XX")]])], &[Word("CH")]]),
            Longitude,
            Latitude,
            Member,
        ],
    ),
    spec("GEOPOS", &[Key(G), Times(1, 3, &[Member])]).weight(5),
    spec("GEODIST", &[Key(G), Member, Member, Maybe(&[UNIT])]).weight(8),
    spec("GEOHASH", &[Key(G), Times(1, 3, &[Member])]).weight(5),
    spec("GEOSEARCH", &[Key(G), CENTRE, AREA, ORDER, COUNT, WITH]).weight(10),
    spec(
        "GEOSEARCH",
        &[Key(G), CENTRE, AREA, WITH, Seldom(&[CENTRE])],
    )
    .weight(3),
    spec(
        "GEOSEARCHSTORE",
        &[
            Key(G),
            Key(G),
            CENTRE,
            AREA,
            ORDER,
            COUNT,
            Maybe(&[Word("STOREDIST")]),
        ],
    )
    .weight(5),
    spec(
        "GEORADIUS",
        &[
            Key(G),
            Longitude,
            Latitude,
            Within(1, 9000),
            Word("km"),
            WITH,
            COUNT,
            ORDER,
        ],
    ),
    spec(
        "GEORADIUSBYMEMBER",
        &[
            Key(G),
            Member,
            Within(1, 9000),
            Word("km"),
            WITH,
            COUNT,
            ORDER,
        ],
    ),
    spec(
        "GEORADIUS",
        &[
            Key(G),
            Longitude,
            Latitude,
            Within(1, 9000),
            Word("km"),
            OneOf(&[&[Word("STORE")], &[Word("STOREDIST")]]),
            Key(G),
        ],
    ),
    spec(
        "GEORADIUS_RO",
        &[Key(G), Longitude, Latitude, Within(1, 9000), UNIT, ORDER],
    ),
    spec(
        "GEORADIUSBYMEMBER_RO",
        &[Key(G), Member, Within(1, 9000), UNIT, ORDER],
    ),
];
