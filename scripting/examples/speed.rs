//! What scripts cost: nanoseconds of this thread's CPU time per run, for a few shapes, with a host that does next to nothing.
//! `cargo run --profile quick -p ringwood-scripting --example speed`

use ringwood_protocol::reply::{Reply, Version};
use ringwood_scripting::{Host, LogLevel, Replication, Script, Sha, Versions, Vm};
use std::hint::black_box;

struct Nothing;

impl Host for Nothing {
    fn call(&mut self, args: &[&[u8]], version: Version, reply: &mut Vec<u8>) {
        let mut reply = Reply::new(reply, version);
        match args[0] {
            b"GET" => reply.bulk(b"some value"),
            b"SET" => reply.ok(),
            _ => reply.integer(5),
        }
    }
    fn log(&mut self, _: LogLevel, _: &[u8]) {}
    fn set_repl(&mut self, _: Replication) {}
    fn acl_check(&mut self, _: &[&[u8]]) -> Option<bool> {
        Some(true)
    }
}

fn cpu_ns() -> u64 {
    // SAFETY: all zeros is a valid timespec, which the call fills in.
    let now = unsafe {
        let mut now: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now);
        now
    };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn main() {
    let versions = Versions {
        major: 8,
        minor: 2,
        patch: 3,
    };
    let mut vm = Vm::new(&versions, 1).expect("memory");
    let limiter = "local key = KEYS[1] local window_ms = tonumber(ARGV[1]) local limit = tonumber(ARGV[2]) \
        local now = tonumber(ARGV[3]) local window_start = now - window_ms \
        redis.call('ZREMRANGEBYSCORE', key, 0, window_start) local count = redis.call('ZCARD', key) \
        if count < limit then redis.call('ZADD', key, now, now .. '-' .. math.random(1000000)) \
        redis.call('PEXPIRE', key, window_ms) return {1, limit - count - 1} end return {0, 0}";
    for (name, body, runs) in [
        ("return 1", "return 1", 300_000),
        ("one GET", "return redis.call('GET', KEYS[1])", 300_000),
        (
            "one SET",
            "return redis.call('SET', KEYS[1], ARGV[1])",
            300_000,
        ),
        ("limiter", limiter, 100_000),
        (
            "1,000 GET",
            "for i = 1, 1000 do redis.call('GET', KEYS[1]) end",
            2_000,
        ),
        (
            "1,000 GET of own keys",
            "local n = 0 for i = 1, 1000 do if redis.call('GET', KEYS[1] .. i) then n = n + 1 end end return n",
            2_000,
        ),
        (
            "json",
            "return cjson.encode(cjson.decode('{\"a\":[1,2,3],\"b\":\"text\",\"c\":{\"d\":null}}'))",
            100_000,
        ),
        (
            "insert",
            "local t = {} for i = 1, 1000 do table.insert(t, i) end return #t",
            5_000,
        ),
    ] {
        let script = Script::parse(body.as_bytes()).expect("a script");
        let keys: [&[u8]; 1] = [b"key"];
        let args: [&[u8]; 3] = [b"1000", b"100", b"1700000000000"];
        let mut out = Vec::new();
        let mut best = u64::MAX;
        for _ in 0..5 {
            let start = cpu_ns();
            for _ in 0..runs {
                out.clear();
                vm.run(
                    &script,
                    &keys,
                    &args,
                    Version::Resp2,
                    &mut Nothing,
                    &mut out,
                )
                .expect("no error");
                black_box(&out);
            }
            best = best.min((cpu_ns() - start) / runs);
        }
        println!("{name:24} {best:8} ns");
    }
    let body = limiter.as_bytes();
    let start = cpu_ns();
    for _ in 0..100_000 {
        black_box(Sha::of(black_box(body)));
    }
    println!(
        "{:24} {:8} ns",
        "SHA1 of the limiter",
        (cpu_ns() - start) / 100_000
    );
}
