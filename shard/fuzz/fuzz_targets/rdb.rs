//! RESTORE of any bytes, with the right checksum: what is taken works with the commands, dumps, and is restored from that.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_shard::commands::FAMILIES;
use ringwood_shard::ctx::Ctx;
use ringwood_shard::keyspace::KeyHasher;
use ringwood_shard::rdb::crc64;
use ringwood_shard::shard::{Settings, Shard};
use std::sync::Arc;

const LINES: &[(&str, &str)] = &[
    ("+string", "GET k|STRLEN k|APPEND k x|SETRANGE k 2 abc|GETRANGE k 0 -1"),
    (
        "+list",
        "LRANGE k 0 -1|LINDEX k -1|LINSERT k BEFORE one x|LSET k 0 longer_than_it_was|LREM k 1 two|LPUSH k l|RPUSH k r|\
         LTRIM k 1 -2|LPOP k|RPOP k|LRANGE k 0 -1",
    ),
    (
        "+set",
        "SMEMBERS k|SRANDMEMBER k -5|SISMEMBER k one|SADD k new 17 -9999999999|SREM k one 1 a|SSCAN k 0|SPOP k|SMEMBERS k",
    ),
    (
        "+zset",
        "ZRANGE k 0 -1 WITHSCORES|ZRANGE k -inf +inf BYSCORE|ZRANGE k - + BYLEX|ZRANK k a|ZADD k 1 new 2 a|ZREM k two|\
         ZPOPMIN k|ZRANGE k 0 -1",
    ),
    (
        "+hash",
        "HGETALL k|HSET k one changed new v|HINCRBY k counter 3|HDEL k two f|HRANDFIELD k -3|HSCAN k 0|HPTTL k FIELDS 1 a|\
         HEXPIRE k 100 FIELDS 1 a|HPERSIST k FIELDS 1 b|HGETALL k",
    ),
    (
        "+stream",
        "XRANGE k - +|XREVRANGE k + -|XINFO STREAM k FULL|XPENDING k g - + 10|XADD k * f v|XREADGROUP GROUP g c STREAMS k >|\
         XACK k g 1-1|XCLAIM k g new 0 1-1|XAUTOCLAIM k g c 0 -|XDEL k 1-1|XGROUP DELCONSUMER k g c|XTRIM k MAXLEN 1|XRANGE k - +",
    ),
];

fn run(shard: &mut Shard, words: &[&[u8]]) -> Vec<u8> {
    let name = words[0];
    let mut command = FAMILIES
        .iter()
        .flat_map(|family| family.iter())
        .find(|command| command.name.as_bytes() == name)
        .expect("a command that there is");
    if !command.subcommands.is_empty() {
        let subcommands = command.subcommands.iter();
        let found = subcommands.into_iter().find(|c| c.name.as_bytes() == words[1]);
        command = found.expect("a subcommand that there is");
    }
    let mut out = Vec::new();
    let reply = Reply::new(&mut out, Version::Resp2);
    let mut ctx = Ctx::new(shard, 0, reply, &[]);
    match (command.run)(&mut ctx, words) {
        Ok(()) => out,
        Err(error) => format!("-{}\r\n", error.text()).into_bytes(),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&how, body)) = data.split_first() else {
        return;
    };
    let mut payload = body.to_vec();
    payload.extend([10u16, 12, 80, 9][how as usize % 4].to_le_bytes());
    let checksum = crc64::update(0, &payload);
    payload.extend(checksum.to_le_bytes());
    let settings = if how & 4 == 0 {
        Settings::default()
    } else {
        Settings {
            hash_listpack_entries_max: 4,
            set_intset_entries_max: 4,
            set_listpack_entries_max: 4,
            zset_listpack_entries_max: 4,
            list_listpack_size_max: 4,
            stream_node_entries_max: 2,
            ..Settings::default()
        }
    };
    let mut shard = Shard::new(Arc::new(settings), KeyHasher::new(3), 1_700_000_000_000, 5);
    if run(&mut shard, &[b"RESTORE", b"k", b"0", &payload]).starts_with(b"-") {
        assert!(shard.keyspace.is_empty());
        return;
    }
    let dumped = run(&mut shard, &[b"DUMP", b"k"]);
    let start = dumped.iter().position(|&b| b == b'\n').expect("a bulk reply") + 1;
    let again = &dumped[start..dumped.len() - 2];
    assert_eq!(run(&mut shard, &[b"RESTORE", b"again", b"0", again]), b"+OK\r\n");
    let kind = run(&mut shard, &[b"TYPE", b"k"]);
    let lines = LINES.iter().find(|(name, _)| kind.starts_with(name.as_bytes()));
    for line in lines.expect("a type that there is").1.split('|') {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        run(&mut shard, &words);
    }
    shard.keyspace.check_invariants();
});
