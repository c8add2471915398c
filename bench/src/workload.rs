//! The named workloads: what is in the server before, and what is asked of it.
//!
//! One line each in [`WORKLOADS`]; templates are described in `template`.

use anyhow::{Result, bail};

/// How often a preload step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Once per key.
    Keys,
    /// This often.
    N(u64),
    /// Once per request of the run: what a popping command takes away.
    Requests,
}

/// A named workload.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    pub name: &'static str,
    pub preload: &'static [(Count, &'static str)],
    pub command: &'static str,
    /// Most requests of a run, for commands that use up what was loaded or let it grow.
    pub most: Option<u64>,
    /// Connections that listen to the channel `channel` meanwhile.
    pub subscribers: usize,
}

use Count::{Keys, N, Requests};

const fn plain(
    name: &'static str,
    preload: &'static [(Count, &'static str)],
    command: &'static str,
) -> Workload {
    Workload {
        name,
        preload,
        command,
        most: None,
        subscribers: 0,
    }
}

const fn bounded(
    name: &'static str,
    preload: &'static [(Count, &'static str)],
    command: &'static str,
) -> Workload {
    Workload {
        name,
        preload,
        command,
        most: Some(1_000_000),
        subscribers: 0,
    }
}

const STRINGS: &[(Count, &str)] = &[(Keys, "SET __key__ __data__")];
const SET_MEMBERS: &[(Count, &str)] = &[(Keys, "SADD set m:__n__")];
const HASHES: &[(Count, &str)] = &[(Keys, "HSET __key__ f1 __data__ f2 v2 f3 v3 f4 v4")];
const ZSET: &[(Count, &str)] = &[(Keys, "ZADD zset __d6__ m:__n__")];
const LIST: &[(Count, &str)] = &[(N(10_000), "RPUSH list __data__")];
const STREAM: &[(Count, &str)] = &[(N(10_000), "XADD stream * f1 v1 f2 __data__ f3 v3")];
const GEO: &[(Count, &str)] = &[(Keys, "GEOADD geo 13.__d6__ 52.__d6__ m:__n__")];

/// Each key may be used 100 times in 10 seconds.
const LIMITER: &str = "EVAL \"\
    local key = KEYS[1] local window_ms = tonumber(ARGV[1]) local limit = tonumber(ARGV[2]) local now = tonumber(ARGV[3]) \
    local window_start = now - window_ms \
    redis.call('ZREMRANGEBYSCORE', key, 0, window_start) \
    local count = redis.call('ZCARD', key) \
    if count < limit then \
    redis.call('ZADD', key, now, now .. '-' .. math.random(1000000)) \
    redis.call('PEXPIRE', key, window_ms) \
    return {1, limit - count - 1} end \
    return {0, 0}\" 1 __key__ 10000 100 __ms__";

/// All of them.
pub const WORKLOADS: &[Workload] = &[
    plain("ping", &[], "PING"),
    plain("get", STRINGS, "GET __key__"),
    plain("get_miss", &[], "GET __key__"),
    plain("set", STRINGS, "SET __key__ __data__"),
    plain("set_ex", STRINGS, "SET __key__ __data__ EX 1__d3__"),
    plain("setnx", STRINGS, "SETNX __key__ __data__"),
    plain("incr", &[], "INCR __key__"),
    plain(
        "append",
        &[],
        "SET __key__ __data__\nAPPEND __key__ __data__",
    ),
    plain("getrange", STRINGS, "GETRANGE __key__ 0 9"),
    plain("exists", STRINGS, "EXISTS __key__"),
    plain("expire", STRINGS, "EXPIRE __key__ 1__d4__"),
    plain("ttl", STRINGS, "TTL __key__"),
    plain("del_set", STRINGS, "DEL __key__\nSET __key__ __data__"),
    plain(
        "mget10",
        STRINGS,
        "MGET __key__ __key__ __key__ __key__ __key__ __key__ __key__ __key__ __key__ __key__",
    ),
    plain(
        "mset10",
        STRINGS,
        "MSET __key__ __data__ __key__ __data__ __key__ __data__ __key__ __data__ __key__ __data__ \
         __key__ __data__ __key__ __data__ __key__ __data__ __key__ __data__ __key__ __data__",
    ),
    bounded("lpush", &[], "LPUSH list __data__"),
    bounded("rpush", &[], "RPUSH list __data__"),
    bounded("lpop", &[(Requests, "RPUSH list __data__")], "LPOP list"),
    bounded("rpop", &[(Requests, "RPUSH list __data__")], "RPOP list"),
    plain("lpush_keys", &[], "LPUSH __key__ __data__\nRPOP __key__"),
    plain("lindex", LIST, "LINDEX list 5000"),
    plain("lrange_100", LIST, "LRANGE list 0 99"),
    plain("lrange_300", LIST, "LRANGE list 0 299"),
    plain("lrange_600", LIST, "LRANGE list 0 599"),
    plain("sadd", &[], "SADD set m:__n__"),
    bounded("spop", &[(Requests, "SADD set m:__n__")], "SPOP set"),
    plain("sismember", SET_MEMBERS, "SISMEMBER set m:__n__"),
    plain("srandmember", SET_MEMBERS, "SRANDMEMBER set"),
    plain("smembers", &[(N(100), "SADD set m:__n__")], "SMEMBERS set"),
    plain(
        "sinter",
        &[(N(100), "SADD a m:__n__"), (N(100), "SADD b m:__n__")],
        "SINTER a b",
    ),
    plain("hset", &[], "HSET __key__ f:__d1__ __data__"),
    plain("hset_one", &[], "HSET hash f:__n__ __data__"),
    plain("hget", HASHES, "HGET __key__ f1"),
    plain("hmget", HASHES, "HMGET __key__ f1 f2 f3"),
    plain("hincrby", &[], "HINCRBY __key__ f 1"),
    plain("hgetall", HASHES, "HGETALL __key__"),
    plain("zadd", &[], "ZADD zset __d6__ m:__n__"),
    plain("zincrby", ZSET, "ZINCRBY zset 1 m:__n__"),
    plain("zscore", ZSET, "ZSCORE zset m:__n__"),
    plain("zrank", ZSET, "ZRANK zset m:__n__"),
    bounded(
        "zpopmin",
        &[(Requests, "ZADD zset __d6__ m:__n__")],
        "ZPOPMIN zset",
    ),
    plain("zrange_10", ZSET, "ZRANGE zset 1000 1009"),
    plain("zrange_100", ZSET, "ZRANGE zset 1000 1099"),
    plain(
        "zrangebyscore_10",
        ZSET,
        "ZRANGE zset 1000 +inf BYSCORE LIMIT 0 10",
    ),
    bounded("xadd", &[], "XADD stream * f1 v1 f2 __data__ f3 v3"),
    plain(
        "xadd_trim",
        &[],
        "XADD stream MAXLEN ~ 1000 * f1 v1 f2 __data__ f3 v3",
    ),
    plain("xrange", STREAM, "XRANGE stream - + COUNT 10"),
    plain("setbit", &[], "SETBIT bits 1__d6__ 1"),
    plain(
        "getbit",
        &[(N(1), "SETBIT bits 2000000 1")],
        "GETBIT bits 1__d6__",
    ),
    plain(
        "bitcount",
        &[(N(1), "SETBIT bits 80000 1")],
        "BITCOUNT bits",
    ),
    plain("pfadd", &[], "PFADD hll m:__n__"),
    plain("pfcount", &[(Keys, "PFADD hll m:__n__")], "PFCOUNT hll"),
    plain("geoadd", &[], "GEOADD geo 13.__d6__ 52.__d6__ m:__n__"),
    plain(
        "geosearch",
        GEO,
        "GEOSEARCH geo FROMLONLAT 13.__d6__ 52.__d6__ BYRADIUS 1 km ASC COUNT 10",
    ),
    plain(
        "eval_get",
        STRINGS,
        "EVAL \"return redis.call('GET', KEYS[1])\" 1 __key__",
    ),
    plain(
        "eval_1000get",
        STRINGS,
        "EVAL \"local v for i = 1, 1000 do v = redis.call('GET', KEYS[1]) end return v\" 1 __key__",
    ),
    plain(
        "eval_loop",
        &[],
        "EVAL \"local s = 0 for i = 1, 10000 do s = s + i end return s\" 0",
    ),
    // Keys that nobody declares, on whatever cores.
    plain(
        "eval_undeclared",
        &[],
        "EVAL \"return redis.call('INCR', 'a:' .. ARGV[1]) + redis.call('INCR', 'b:' .. ARGV[1])\" 0 __n__",
    ),
    plain(
        "multi5",
        STRINGS,
        "MULTI\nGET __key__\nSET __key__ __data__\nGET __key__\nSET __key__ __data__\nGET __key__\nEXEC",
    ),
    // The sliding-window rate limiter of the reference documents, with their comments and indentation left out.
    plain("limiter", &[], LIMITER),
    plain("publish", &[], "PUBLISH channel __data__"),
    Workload {
        subscribers: 100,
        ..plain("publish_100", &[], "PUBLISH channel __data__")
    },
];

/// The workload of that name.
pub fn find(name: &str) -> Result<Workload> {
    match WORKLOADS.iter().find(|w| w.name == name) {
        Some(workload) => Ok(*workload),
        None => {
            let names: Vec<_> = WORKLOADS.iter().map(|w| w.name).collect();
            bail!(
                "there is no workload {name:?}; there are: {}",
                names.join(" ")
            )
        }
    }
}

/// A readable text of all names and commands.
pub fn list() -> String {
    WORKLOADS
        .iter()
        .map(|w| format!("{:17} {}\n", w.name, w.command.replace('\n', "; ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyShape;
    use crate::template::Template;

    #[test]
    fn every_template_is_valid_and_every_name_is_one() {
        let shape = KeyShape::new("key:", 11, 1000).unwrap();
        for (index, workload) in WORKLOADS.iter().enumerate() {
            Template::parse(workload.command, &shape, 64).unwrap();
            for (count, step) in workload.preload {
                Template::parse(step, &shape, 64).unwrap();
                assert!(
                    *count != Requests || workload.most.is_some(),
                    "{}",
                    workload.name
                );
            }
            assert!(WORKLOADS[..index].iter().all(|w| w.name != workload.name));
        }
        assert!(find("get").is_ok() && find("nothing").is_err());
    }
}
