//! All geo commands, over both encodings. Expected values are Redis 8.2.3's.

use crate::commands::zset::tests::each_encoding;
use ringwood_protocol::reply::Version;

const SICILY: &str = "GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania";

#[test]
fn adding() {
    each_encoding(|t| {
        t.listen();
        t.check(SICILY, ":2").check_new_events("new g, zadd g");
        t.check("GEOADD g NX 1 1 Palermo", ":0")
            .check("GEOADD g XX CH 13.361389 38.2 Palermo", ":1")
            .check("GEOADD g XX 1 1 nope", ":0");
        t.check("ZSCORE g Palermo", "$16 3479101030759983");
        for line in [
            "GEOADD g NX XX 13.3 38 a",
            "GEOADD g 13.3 38 a 14",
            "GEOADD g NX CH CH",
            "GEOADD g GT 1 1 a",
        ] {
            t.check(line, "-ERR syntax error");
        }
        t.check(
            "GEOADD g 1 1 a 181 1 b",
            "-ERR invalid longitude,latitude pair 181.000000,1.000000",
        )
        .check("GEOADD g 1 x a", "-ERR value is not a valid float")
        .check("ZCARD g", ":2");
        t.check("SET s v", "+OK").check(
            "GEOADD s 1 1 a",
            "-WRONGTYPE Operation against a key holding the wrong kind of value",
        );
    });
}

#[test]
fn single_places() {
    each_encoding(|t| {
        t.check(SICILY, ":2");
        t.check(
            "GEOPOS g Catania nope",
            "*2 *2 $18 15.087267458438873 $17 37.50266842333162 *-1",
        )
        .check("GEOPOS nope a", "*1 *-1");
        t.check(
            "GEOHASH g Palermo nope Catania",
            "*3 $11 sqc8b49rny0 $-1 $11 sqdtr74hyu0",
        );
        t.check("GEODIST g Palermo Catania", "$11 166274.1516")
            .check("GEODIST g Palermo Catania KM", "$8 166.2742")
            .check("GEODIST g Palermo Palermo", "$6 0.0000")
            .check("GEODIST g Palermo nope", "$-1");
        t.check(
            "GEODIST nope a b x",
            "-ERR unsupported unit provided. please use M, KM, FT, MI",
        )
        .check("GEODIST g a b m m", "-ERR syntax error");
        t.version = Version::Resp3;
        t.check(
            "GEOPOS g Catania nope",
            "*2 *2 ,15.087267458438873 ,37.50266842333162 _",
        );
    });
}

#[test]
fn searching() {
    each_encoding(|t| {
        t.check(SICILY, ":2").check(
            "GEOADD g 12.758489 38.788135 edge1 17.241510 38.788135 edge2",
            ":2",
        );
        t.check(
            "GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ASC",
            "*2 $7 Catania $7 Palermo",
        );
        t.check(
            "GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km DESC WITHDIST",
            "*4 *2 $5 edge1 $8 279.7405 *2 $5 edge2 $8 279.7403 *2 $7 Palermo $8 190.4424 *2 $7 Catania $7 56.4413",
        );
        t.check(
            "GEORADIUS g 15 37 200 km COUNT 1 WITHHASH WITHCOORD",
            "*1 *3 $7 Catania :3479447370796909 *2 $18 15.087267458438873 $17 37.50266842333162",
        );
        t.check(
            "GEOSEARCH g FROMMEMBER Palermo BYRADIUS 0 m",
            "*1 $7 Palermo",
        )
        .check(
            "GEORADIUSBYMEMBER_RO g Catania 100 mi COUNT 1 ANY",
            "*1 $7 Catania",
        )
        .check("GEOSEARCH nope FROMMEMBER a BYRADIUS 1 km", "*0");
    });
}

#[test]
fn storing() {
    each_encoding(|t| {
        t.check(SICILY, ":2");
        t.listen();
        t.check("GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 200 km", ":2")
            .check_new_events("new d, geosearchstore d")
            .check("ZSCORE d Catania", "$16 3479447370796909");
        t.check("GEORADIUS g 15 37 200 km STOREDIST d COUNT 1", ":1")
            .check(
                "ZRANGE d 0 -1 WITHSCORES",
                "*2 $7 Catania $16 56.4412578701582",
            );
        t.check("GEORADIUSBYMEMBER nope x 1 km STORE d", ":0")
            .check("EXISTS d", ":0");
        t.check(
            "GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 200 km WITHDIST",
            "-ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
        )
        .check("GEORADIUS_RO g 15 37 200 km STORE d", "-ERR syntax error");
    });
}

#[test]
fn what_is_refused() {
    each_encoding(|t| {
        t.check(SICILY, ":2");
        for (rest, error) in [
            ("FROMLONLAT 15 37 BYRADIUS x km", "need numeric radius"),
            (
                "FROMLONLAT 15 37 BYRADIUS -1 km",
                "radius cannot be negative",
            ),
            ("FROMLONLAT 15 37 BYBOX x 1 km", "need numeric width"),
            ("FROMLONLAT 15 37 BYBOX 1 x km", "need numeric height"),
            (
                "FROMLONLAT 15 37 BYBOX 1 -1 km",
                "height or width cannot be negative",
            ),
            (
                "FROMLONLAT 15 37 BYRADIUS 1 km COUNT 0",
                "COUNT must be > 0",
            ),
            (
                "FROMLONLAT 15 37 BYRADIUS 1 km ANY",
                "the ANY argument requires COUNT argument",
            ),
            (
                "FROMLONLAT 15 37 FROMMEMBER Palermo BYRADIUS 1 km",
                "syntax error",
            ),
            (
                "FROMLONLAT 15 37 BYRADIUS 1 km BYBOX 1 1 km",
                "syntax error",
            ),
            (
                "FROMMEMBER nope BYRADIUS 1 km",
                "could not decode requested zset member",
            ),
            (
                "FROMLONLAT 15 37 ASC ASC",
                "exactly one of BYRADIUS and BYBOX can be specified for GEOSEARCH",
            ),
            (
                "BYRADIUS 1 km ASC ASC",
                "exactly one of FROMMEMBER or FROMLONLAT can be specified for GEOSEARCH",
            ),
        ] {
            t.check(&format!("GEOSEARCH g {rest}"), &format!("-ERR {error}"));
        }
    });
}

/// Expected values are Valkey 9.1.2's.
#[test]
fn polygons() {
    each_encoding(|t| {
        t.check(SICILY, ":2");
        t.check("GEOADD g 2.349014 48.864716 Paris 12.5 41.9 Rome", ":2");
        let sicily = "BYPOLYGON 3 12 38.5 16 38.5 15 36";
        t.check(
            &format!("GEOSEARCH g {sicily} ASC"),
            "*2 $7 Catania $7 Palermo",
        )
        .check(
            &format!("GEOSEARCH g {sicily} COUNT 1 WITHDIST"),
            "*1 *2 $7 Catania $10 68637.3630",
        )
        .check(&format!("GEOSEARCHSTORE d g {sicily}"), ":2")
        .check_log(&[
            "DEL d",
            "ZADD d 3479099956230698 Palermo 3479447370796909 Catania",
        ])
        .check(&format!("GEOSEARCH missing {sicily}"), "*0");
        for line in [
            format!("GEOSEARCH g FROMMEMBER Palermo {sicily}"),
            format!("GEOSEARCH g {sicily} FROMMEMBER Palermo"),
            format!("GEOSEARCH g FROMLONLAT 0 0 {sicily}"),
            format!("GEOSEARCH g {sicily} BYRADIUS 1 km"),
            format!("GEOSEARCH g FROMLONLAT 0 0 BYRADIUS 1 km {sicily}"),
        ] {
            t.check(&line, "-ERR syntax error");
        }
        let few = "-ERR GEOSEARCH BYPOLYGON must have at least 3 vertices";
        t.check("GEOSEARCH g BYPOLYGON 2 1 1 2 2 3 3", few)
            .check("GEOSEARCH g BYPOLYGON 4 1 1 2 2 3 3", few)
            .check(
                "GEOSEARCH g BYPOLYGON x 1 1 2 2 3 3",
                "-ERR invalid number of vertices",
            )
            .check(
                "GEOSEARCH g BYPOLYGON 3 1 1 2 200 3 3",
                "-ERR invalid longitude,latitude pair 2.000000,200.000000",
            );
    });
}
