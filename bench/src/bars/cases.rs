//! What `bars` measures: commands by family, with the sizes of collections and the goals.
//!
//! In texts: `{K}` is the number of a collection, `{M}` that of a member of it, `{M+}` one of ten times as many numbers
//! (mostly no member), `{I}` an index within the collection, `{H}` half the collection's size, `{H9}` nine more. A world
//! has 10^`digits` members in all, in as many collections of a size as that makes: so a size changes the structure and
//! not how much memory is touched.

/// What is to be reached, beside being no slower than the best peer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bar {
    /// CPU above the echo floor, to the best peer's.
    Own(f64),
    /// CPU in all, to the best peer's.
    All(f64),
    NotSlower,
}

/// How many requests there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// As many as the time allows.
    Timed,
    /// A share of the members in thousandths: for what grows or shrinks the collections.
    Changes(u64),
    /// About as many as go through so many million members: for what reads whole collections.
    Whole(u64),
}

#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub command: &'static str,
    pub bar: Bar,
    pub run: Run,
    /// Digits of the sizes; empty: those of the family.
    pub sizes: &'static [u32],
    /// The world is made anew before it.
    pub fresh: bool,
}

#[derive(Debug)]
pub struct Family {
    pub name: &'static str,
    pub digits: u32,
    pub fill: &'static str,
    /// Digits of the sizes: 1 for 10.
    pub sizes: &'static [u32],
    pub cases: &'static [Case],
}

const fn case(name: &'static str, bar: Bar, run: Run, command: &'static str) -> Case {
    Case {
        name,
        command,
        bar,
        run,
        sizes: &[],
        fresh: false,
    }
}

impl Case {
    const fn fresh(self) -> Case {
        Case {
            fresh: true,
            ..self
        }
    }
    const fn sizes(self, sizes: &'static [u32]) -> Case {
        Case { sizes, ..self }
    }
}

use Bar::{All, NotSlower, Own};
use Run::{Changes, Timed, Whole};

const OWN: Bar = Own(0.5);
const ALL: Bar = All(0.65);
const SIZES: &[u32] = &[1, 3, 5, 6];

pub const FAMILIES: &[Family] = &[
    Family {
        name: "strings",
        digits: 6,
        fill: "SET k:{M} __data__",
        sizes: SIZES,
        cases: &[
            case("GET", OWN, Timed, "GET k:{M}"),
            case("SET", OWN, Timed, "SET k:{M} __data__"),
            case(
                "MGET of 10",
                ALL,
                Timed,
                "MGET k:{M} k:{M} k:{M} k:{M} k:{M} k:{M} k:{M} k:{M} k:{M} k:{M}",
            ),
            case(
                "MSET of 10",
                ALL,
                Timed,
                "MSET k:{M} __data__ k:{M} __data__ k:{M} __data__ k:{M} __data__ k:{M} __data__ \
                 k:{M} __data__ k:{M} __data__ k:{M} __data__ k:{M} __data__ k:{M} __data__",
            ),
        ],
    },
    Family {
        name: "lists",
        digits: 6,
        fill: "RPUSH l:{K} element-__d8__",
        sizes: SIZES,
        cases: &[
            case("LINDEX", NotSlower, Timed, "LINDEX l:{K} {I}"),
            case("LSET", NotSlower, Timed, "LSET l:{K} {I} element+__d8__"),
            case("LLEN", NotSlower, Timed, "LLEN l:{K}"),
            case("LMOVE", NotSlower, Timed, "LMOVE l:{K} l:{K} LEFT RIGHT"),
            case("LRANGE of 10", NotSlower, Timed, "LRANGE l:{K} 0 9"),
            case("LRANGE of 100", ALL, Timed, "LRANGE l:{K} 0 99").sizes(&[3, 5, 6]),
            case("LRANGE of 300", ALL, Timed, "LRANGE l:{K} 0 299").sizes(&[3, 5, 6]),
            case("LRANGE of 600", ALL, Timed, "LRANGE l:{K} 0 599").sizes(&[3, 5, 6]),
            case(
                "LPOS, nothing found",
                NotSlower,
                Whole(20),
                "LPOS l:{K} element+__d8__",
            ),
            case("LPUSH", OWN, Changes(300), "LPUSH l:{K} element-__d8__"),
            case("LPOP", OWN, Changes(300), "LPOP l:{K}"),
            case("RPUSH", OWN, Changes(300), "RPUSH l:{K} element-__d8__"),
            case("RPOP", OWN, Changes(300), "RPOP l:{K}"),
            case(
                "LINSERT near the end",
                NotSlower,
                Changes(50),
                "RPUSH l:{K} p:__d8__\nLPUSH l:{K} pivot\nLINSERT l:{K} AFTER pivot x:__d8__",
            ),
        ],
    },
    Family {
        name: "sets",
        digits: 6,
        fill: "SADD s:{K} m:{M}",
        sizes: SIZES,
        cases: &[
            case("SISMEMBER", OWN, Timed, "SISMEMBER s:{K} m:{M}"),
            case(
                "SISMEMBER, mostly none",
                OWN,
                Timed,
                "SISMEMBER s:{K} m:{M+}",
            ),
            case(
                "SMISMEMBER of 3",
                NotSlower,
                Timed,
                "SMISMEMBER s:{K} m:{M} m:{M} m:{M}",
            ),
            case("SADD, there already", OWN, Timed, "SADD s:{K} m:{M}"),
            case("SRANDMEMBER", NotSlower, Timed, "SRANDMEMBER s:{K}"),
            case(
                "SRANDMEMBER of 10",
                NotSlower,
                Timed,
                "SRANDMEMBER s:{K} 10",
            ),
            case("SSCAN", NotSlower, Timed, "SSCAN s:{K} 0"),
            case("SMEMBERS", ALL, Whole(20), "SMEMBERS s:{K}"),
            case("SADD, mostly new", OWN, Changes(400), "SADD s:{K} m:{M+}"),
            case("SPOP", OWN, Changes(400), "SPOP s:{K}"),
            case("SREM", NotSlower, Changes(400), "SREM s:{K} m:{M}").fresh(),
        ],
    },
    Family {
        name: "sets of numbers",
        digits: 6,
        fill: "SADD i:{K} 1{M}",
        sizes: SIZES,
        cases: &[
            case("SISMEMBER", OWN, Timed, "SISMEMBER i:{K} 1{M}"),
            case("SMEMBERS", ALL, Whole(20), "SMEMBERS i:{K}"),
            case("SADD, mostly new", OWN, Changes(400), "SADD i:{K} 1{M+}"),
            case("SPOP", OWN, Changes(400), "SPOP i:{K}"),
        ],
    },
    Family {
        name: "hashes",
        digits: 6,
        fill: "HSET h:{K} f:{M} value-__d8__",
        sizes: SIZES,
        cases: &[
            case("HGET", OWN, Timed, "HGET h:{K} f:{M}"),
            case(
                "HMGET of 3",
                NotSlower,
                Timed,
                "HMGET h:{K} f:{M} f:{M} f:{M}",
            ),
            case("HEXISTS", NotSlower, Timed, "HEXISTS h:{K} f:{M}"),
            case("HSTRLEN", NotSlower, Timed, "HSTRLEN h:{K} f:{M}"),
            case("HRANDFIELD", NotSlower, Timed, "HRANDFIELD h:{K}"),
            case("HSCAN", NotSlower, Timed, "HSCAN h:{K} 0"),
            case("HGETALL", ALL, Whole(20), "HGETALL h:{K}"),
            case("HKEYS", NotSlower, Whole(20), "HKEYS h:{K}"),
            case(
                "HSET, there already",
                OWN,
                Timed,
                "HSET h:{K} f:{M} value+__d8__",
            ),
            case(
                "HSET, mostly new",
                OWN,
                Changes(400),
                "HSET h:{K} f:{M+} value-__d8__",
            ),
            case("HDEL", NotSlower, Changes(400), "HDEL h:{K} f:{M+}"),
        ],
    },
    Family {
        name: "hashes of numbers",
        digits: 6,
        fill: "HSET h:{K} f:{M} 1__d4__",
        sizes: SIZES,
        cases: &[
            case("HINCRBY", OWN, Timed, "HINCRBY h:{K} f:{M} 1"),
            case(
                "HINCRBYFLOAT",
                NotSlower,
                Timed,
                "HINCRBYFLOAT h:{K} f:{M} 0.5",
            ),
        ],
    },
    Family {
        name: "sorted sets",
        digits: 6,
        fill: "ZADD z:{K} __d6__ m:{M}",
        sizes: SIZES,
        cases: &[
            case("ZSCORE", OWN, Timed, "ZSCORE z:{K} m:{M}"),
            case(
                "ZMSCORE of 3",
                NotSlower,
                Timed,
                "ZMSCORE z:{K} m:{M} m:{M} m:{M}",
            ),
            case("ZRANK", OWN, Timed, "ZRANK z:{K} m:{M}"),
            case("ZREVRANK", OWN, Timed, "ZREVRANK z:{K} m:{M}"),
            case("ZCOUNT", NotSlower, Timed, "ZCOUNT z:{K} 2__d5__ 7__d5__"),
            case("ZRANDMEMBER", NotSlower, Timed, "ZRANDMEMBER z:{K}"),
            case("ZRANGE of 10", ALL, Timed, "ZRANGE z:{K} {H} {H9}"),
            case(
                "ZRANGE of 10 WITHSCORES",
                NotSlower,
                Timed,
                "ZRANGE z:{K} {H} {H9} WITHSCORES",
            ),
            case("ZREVRANGE of 10", NotSlower, Timed, "ZREVRANGE z:{K} 0 9"),
            case(
                "ZRANGE BYSCORE of 10",
                ALL,
                Timed,
                "ZRANGE z:{K} 5__d5__ +inf BYSCORE LIMIT 0 10",
            ),
            case("ZRANGE of all", NotSlower, Whole(20), "ZRANGE z:{K} 0 -1"),
            case("ZINCRBY", OWN, Timed, "ZINCRBY z:{K} 1__d2__ m:{M}"),
            case("ZADD, new score", OWN, Timed, "ZADD z:{K} __d6__ m:{M}"),
            case(
                "ZADD, mostly new",
                OWN,
                Changes(400),
                "ZADD z:{K} __d6__ m:{M+}",
            ),
            case("ZPOPMIN", OWN, Changes(200), "ZPOPMIN z:{K}"),
            case("ZPOPMAX", NotSlower, Changes(200), "ZPOPMAX z:{K}"),
            case("ZREM", NotSlower, Changes(400), "ZREM z:{K} m:{M}").fresh(),
        ],
    },
    Family {
        name: "streams",
        digits: 6,
        fill: "XADD x:{K} * f1 v1 f2 __d8__ f3 v3",
        sizes: SIZES,
        cases: &[
            case("XLEN", NotSlower, Timed, "XLEN x:{K}"),
            case("XRANGE of 10", ALL, Timed, "XRANGE x:{K} - + COUNT 10"),
            case(
                "XREVRANGE of 10",
                ALL,
                Timed,
                "XREVRANGE x:{K} + - COUNT 10",
            ),
            case(
                "XREAD of 10",
                NotSlower,
                Timed,
                "XREAD COUNT 10 STREAMS x:{K} 0",
            ),
            case(
                "XADD",
                OWN,
                Changes(400),
                "XADD x:{K} * f1 v1 f2 __d8__ f3 v3",
            ),
            case(
                "XADD MAXLEN ~ 1000",
                NotSlower,
                Changes(400),
                "XADD x:{K} MAXLEN ~ 1000 * f1 v1 f2 __d8__ f3 v3",
            )
            .sizes(&[3]),
        ],
    },
    Family {
        name: "geo",
        digits: 6,
        fill: "GEOADD g:{K} 13.__d6__ 52.__d6__ m:{M}",
        sizes: SIZES,
        cases: &[
            case("GEOPOS", NotSlower, Timed, "GEOPOS g:{K} m:{M}"),
            case("GEODIST", NotSlower, Timed, "GEODIST g:{K} m:{M} m:{M}"),
            case("GEOHASH", NotSlower, Timed, "GEOHASH g:{K} m:{M}"),
            case(
                "GEOSEARCH, 1 km, nearest 10",
                ALL,
                Timed,
                "GEOSEARCH g:{K} FROMLONLAT 13.__d6__ 52.__d6__ BYRADIUS 1 km ASC COUNT 10",
            ),
            case(
                "GEOSEARCH, box of 10 km",
                ALL,
                Whole(20),
                "GEOSEARCH g:{K} FROMLONLAT 13.__d6__ 52.__d6__ BYBOX 10 10 km",
            )
            .sizes(&[1, 3, 5]),
            case(
                "GEOADD, new place",
                NotSlower,
                Timed,
                "GEOADD g:{K} 13.__d6__ 52.__d6__ m:{M}",
            ),
        ],
    },
    Family {
        name: "bits",
        digits: 6,
        fill: "SETBIT b:{K} 1{M} 1",
        sizes: SIZES,
        cases: &[
            case("SETBIT", OWN, Timed, "SETBIT b:{K} 1{M} 1"),
            case("GETBIT", NotSlower, Timed, "GETBIT b:{K} 1{M}"),
            case("BITCOUNT", NotSlower, Whole(400), "BITCOUNT b:{K}"),
            case("BITPOS", NotSlower, Whole(400), "BITPOS b:{K} 1"),
            case(
                "BITFIELD GET SET",
                NotSlower,
                Timed,
                "BITFIELD b:{K} GET u8 8 SET u4 4 7",
            ),
            case(
                "BITOP AND",
                NotSlower,
                Whole(400),
                "BITOP AND to:{K} b:{K} b:{K}",
            ),
        ],
    },
    Family {
        name: "HyperLogLog",
        digits: 6,
        fill: "PFADD p:{K} m:{M}",
        sizes: SIZES,
        cases: &[
            case("PFADD, there already", OWN, Timed, "PFADD p:{K} m:{M}"),
            case("PFCOUNT", NotSlower, Timed, "PFCOUNT p:{K}"),
            case("PFADD, mostly new", OWN, Changes(300), "PFADD p:{K} m:{M+}"),
            case(
                "PFADD and PFCOUNT",
                NotSlower,
                Changes(20),
                "PFADD p:{K} n:{M+}\nPFCOUNT p:{K}",
            ),
            case(
                "PFMERGE",
                NotSlower,
                Changes(20),
                "PFMERGE to:{K} p:{K} p:{K}",
            ),
        ],
    },
    Family {
        name: "two sets",
        digits: 5,
        fill: "SADD a:{K} m:{M}\nSADD b:{K} m:{M} x:{M}",
        sizes: &[1, 3, 5],
        cases: &[
            case("SINTER", NotSlower, Whole(8), "SINTER a:{K} b:{K}"),
            case(
                "SINTERCARD",
                NotSlower,
                Whole(8),
                "SINTERCARD 2 a:{K} b:{K}",
            ),
            case("SUNION", NotSlower, Whole(8), "SUNION a:{K} b:{K}"),
            case("SDIFF", NotSlower, Whole(8), "SDIFF b:{K} a:{K}"),
            case(
                "SINTERSTORE",
                NotSlower,
                Whole(8),
                "SINTERSTORE d:{K} a:{K} b:{K}",
            ),
            case(
                "SUNIONSTORE",
                NotSlower,
                Whole(8),
                "SUNIONSTORE d:{K} a:{K} b:{K}",
            ),
            case(
                "SDIFFSTORE",
                NotSlower,
                Whole(8),
                "SDIFFSTORE d:{K} b:{K} a:{K}",
            ),
        ],
    },
    Family {
        name: "two sorted sets",
        digits: 5,
        fill: "ZADD a:{K} __d6__ m:{M}\nZADD b:{K} __d6__ m:{M} __d6__ x:{M}",
        sizes: &[1, 3, 5],
        cases: &[
            case("ZINTER", NotSlower, Whole(8), "ZINTER 2 a:{K} b:{K}"),
            case(
                "ZINTERCARD",
                NotSlower,
                Whole(8),
                "ZINTERCARD 2 a:{K} b:{K}",
            ),
            case("ZUNION", NotSlower, Whole(8), "ZUNION 2 a:{K} b:{K}"),
            case("ZDIFF", NotSlower, Whole(8), "ZDIFF 2 b:{K} a:{K}"),
            case(
                "ZINTERSTORE",
                NotSlower,
                Whole(8),
                "ZINTERSTORE d:{K} 2 a:{K} b:{K}",
            ),
            case(
                "ZUNIONSTORE",
                NotSlower,
                Whole(8),
                "ZUNIONSTORE d:{K} 2 a:{K} b:{K}",
            ),
            case(
                "ZDIFFSTORE",
                NotSlower,
                Whole(8),
                "ZDIFFSTORE d:{K} 2 b:{K} a:{K}",
            ),
            case(
                "ZRANGESTORE",
                NotSlower,
                Whole(8),
                "ZRANGESTORE d:{K} a:{K} 0 -1",
            ),
        ],
    },
    Family {
        name: "sorting",
        digits: 5,
        fill: "RPUSH l:{K} 1__d6__",
        sizes: &[1, 3, 5],
        cases: &[
            case("SORT", NotSlower, Whole(8), "SORT l:{K}"),
            case(
                "SORT ALPHA DESC",
                NotSlower,
                Whole(8),
                "SORT l:{K} ALPHA DESC",
            ),
            case("SORT STORE", NotSlower, Whole(8), "SORT l:{K} STORE d:{K}"),
        ],
    },
];

/// A text with the numbers of collections of 10^`size` members in a world of 10^`digits`.
pub fn expand(text: &str, digits: u32, size: u32) -> String {
    let keys = digits - size;
    let collection = match keys {
        0 => String::new(),
        _ => format!("__q{keys}.0__"),
    };
    // Without a leading zero, which would make it no number.
    let index = match size {
        1 => "5".to_string(),
        _ => format!("1__d{}__", size - 1),
    };
    let half = match size {
        1 => 0,
        _ => 10u64.pow(size) / 2,
    };
    text.replace("{K}", &collection)
        .replace("{M}", &format!("__q{size}.{keys}__"))
        .replace("{M+}", &format!("__d{}__", size + 1))
        .replace("{I}", &index)
        .replace("{H}", &half.to_string())
        .replace("{H9}", &(half + 9).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyShape;
    use crate::template::Template;

    #[test]
    fn every_text_is_valid_at_every_size() {
        let shape = KeyShape::new("key:", 11, 1000).unwrap();
        for family in FAMILIES {
            for &size in family.sizes {
                assert!(size <= family.digits);
                for text in [family.fill]
                    .into_iter()
                    .chain(family.cases.iter().map(|c| c.command))
                {
                    let text = expand(text, family.digits, size);
                    assert!(!text.contains('{'), "{text}");
                    Template::parse(&text, &shape, 64).unwrap();
                }
            }
            for case in family.cases {
                assert!(case.sizes.iter().all(|s| family.sizes.contains(s)));
            }
        }
    }
}
