//! What a Vm promises besides Redis's replies: memory, panics, nothing left behind.

use ringwood_protocol::reply::{Reply, Version};
use ringwood_scripting::{Budget, Host, LogLevel, Replication, Script, Versions, Vm};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

#[derive(Default)]
struct Echo {
    logged: Vec<(LogLevel, Vec<u8>)>,
    replication: Vec<Replication>,
    /// It was called with ENOUGH.
    had_enough: bool,
}

impl Host for Echo {
    fn call(&mut self, args: &[&[u8]], version: Version, reply: &mut Vec<u8>) {
        let mut reply = Reply::new(reply, version);
        match args {
            [b"PANIC"] => panic!("as the test wants"),
            [b"LARGE", size] => {
                let size = std::str::from_utf8(size).unwrap().parse().unwrap();
                reply.bulk(&vec![b'x'; size]);
            }
            [b"ENOUGH"] => {
                self.had_enough = true;
                reply.error("ERR enough");
            }
            [b"COUNT", rest @ ..] => reply.integer(rest.len() as i64),
            _ => reply.bulk(args[args.len() - 1]),
        }
    }
    fn log(&mut self, level: LogLevel, message: &[u8]) {
        self.logged.push((level, message.to_vec()));
    }
    fn set_repl(&mut self, replication: Replication) {
        self.replication.push(replication);
    }
    fn abandons(&self) -> bool {
        self.had_enough
    }
    fn acl_check(&mut self, args: &[&[u8]]) -> Option<bool> {
        match args[0] {
            b"yes" => Some(true),
            b"no" => Some(false),
            _ => None,
        }
    }
}

fn vm() -> Vm {
    let versions = Versions {
        major: 8,
        minor: 2,
        patch: 3,
    };
    Vm::new(&versions, 1).unwrap()
}

fn run(vm: &mut Vm, host: &mut Echo, body: &str) -> String {
    let script = Script::parse(body.as_bytes()).unwrap();
    let (mut out, none): (Vec<u8>, [&[u8]; 0]) = (Vec::new(), []);
    // The outcome is in the reply, which the tests compare.
    let _ = vm.run(&script, &none, &none, Version::Resp2, host, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn memory_is_limited_and_given_back() {
    let (mut vm, mut host) = (vm(), Echo::default());
    let budget = Arc::new(Budget::new(8 << 20));
    vm.share_budget(&budget);
    for body in [
        "local t = {} for i = 1, 1e7 do t[i] = i end",
        "local t = {} for i = 1, 1e7 do t[i] = ('x'):rep(100) .. i end",
        "return #('x'):rep(1e8)",
        "local s = 'x' while true do s = s .. s end",
        "return redis.call('LARGE', 20000000)",
        "local t = {} while true do t[#t + 1] = redis.call('LARGE', 10000) .. #t end",
        "return cjson.encode(('x'):rep(7e6))",
        "return cmsgpack.pack(('x'):rep(7e6))",
        "return struct.pack('s', ('x'):rep(7e6))",
        "return cjson.decode('[' .. ('1,'):rep(2e6) .. '1]')",
        "local t = {} local function f() t[#t + 1] = coroutine.create(f) f() end pcall(f) while true do t[#t + 1] = {t} end",
        "while true do local t = {} pcall(function() while true do t[#t + 1] = {} end end) local s = ('x'):rep(1e7) end",
    ] {
        let reply = run(&mut vm, &mut host, body);
        assert!(
            reply.starts_with("-ERR Error running script ")
                && reply.ends_with(", not enough memory\r\n"),
            "{body}: {reply}"
        );
        assert!(vm.used_memory() < 4 << 20, "{body}: {}", vm.used_memory());
        assert_eq!(run(&mut vm, &mut host, "return 1"), ":1\r\n", "{body}");
    }
    // Text that is not Lua's own until it is done.
    let twice = "local t = {} for i = 1, 14 do t = {t, t, t, t} end ";
    for what in [
        "return cjson.encode(t)",
        "return cmsgpack.pack(t)",
        "cjson.encode_sparse_array(true, 0) return cjson.encode({[2147483647] = 1})",
        "return t",
        "local _, e = pcall(cjson.encode, t) return redis.error_reply(e)",
    ] {
        let reply = run(&mut vm, &mut host, &format!("{twice}{what}"));
        assert!(
            reply.starts_with("-ERR not enough memory") || reply.ends_with("not enough memory\r\n"),
            "{what}: {}",
            &reply[..reply.len().min(200)]
        );
        assert_eq!(reply.matches('\n').count(), 1, "{what}");
        assert!(vm.used_memory() < 4 << 20, "{what}: {}", vm.used_memory());
    }
    assert!(budget.taken() >= vm.used_memory() && budget.taken() < 4 << 20);
    // What one Vm holds another cannot have.
    let mut other = crate::vm();
    other.share_budget(&budget);
    let rest = budget.limit() - budget.taken();
    budget.set_limit(budget.taken() + (1 << 20));
    let body = "return #('x'):rep(1500000)";
    let reply = run(&mut other, &mut host, body);
    assert!(reply.ends_with("not enough memory\r\n"), "{reply}");
    budget.set_limit(budget.taken() + rest);
    assert_eq!(run(&mut other, &mut host, body), ":1500000\r\n");
    drop(other);
    assert!(budget.taken() < 4 << 20);
    // Garbage does not count against the limit for ever.
    let body = "for i = 1, 200000 do local t = {i, {}} end return 'ok'";
    for _ in 0..20 {
        assert_eq!(run(&mut vm, &mut host, body), "$2\r\nok\r\n");
    }
}

#[test]
fn a_panic_of_the_host_passes_through() {
    let (mut vm, mut host) = (vm(), Echo::default());
    for body in [
        "return redis.call('PANIC')",
        "return redis.pcall('PANIC')",
        "pcall(redis.call, 'PANIC') return redis.call('PANIC')",
        "coroutine.wrap(function() redis.call('PANIC') end)()",
    ] {
        let result = catch_unwind(AssertUnwindSafe(|| run(&mut vm, &mut host, body)));
        let panic = result.expect_err(body);
        assert_eq!(panic.downcast_ref(), Some(&"as the test wants"));
        assert_eq!(run(&mut vm, &mut host, "return 1"), ":1\r\n");
    }
}

/// No watchdog is there to end them.
#[test]
fn a_script_that_the_host_abandons_catches_nothing() {
    let mut vm = vm();
    for body in [
        "while true do redis.pcall('ENOUGH') end",
        "while true do pcall(redis.call, 'ENOUGH') end",
        "while true do pcall(function() redis.call('ENOUGH') end) end",
        "for i = 1, 500 do redis.call('COUNT') end while not tonumber(redis.pcall('ENOUGH')) do end",
        "local f = coroutine.wrap(function() while true do redis.pcall('ENOUGH') end end) while true do pcall(f) end",
        "xpcall(function() redis.call('ENOUGH') end, function() while true do end end) while true do end",
    ] {
        let mut host = Echo::default();
        let reply = run(&mut vm, &mut host, body);
        assert!(host.had_enough && reply.starts_with('-'), "{body}: {reply}");
        // The next script is not harmed.
        let reply = run(&mut vm, &mut Echo::default(), "return pcall(error, 'x')");
        assert_eq!(reply, "$-1\r\n", "{body}");
    }
}

#[test]
fn nothing_is_left_for_the_next_script() {
    let (mut vm, mut host) = (vm(), Echo::default());
    let before = [
        "cjson.encode_number_precision(3) cjson.encode_max_depth(1) cjson.encode_sparse_array(true)",
        "redis.setresp(3)",
        "pcall(table.insert, string, 1) pcall(rawset, string, 'upper', 1) pcall(table.sort, {2, 1}, table.insert)",
        "for k in pairs(string) do pcall(function() string[k] = nil end) end",
        "local t = {} for k, v in pairs(_G) do t[k] = v end t.redis = nil",
        "local f = next(string) pcall(function() getmetatable('').__index = {} end)",
        "for _, m in ipairs({string, table, math, redis, _G, cjson, bit, struct, cmsgpack, coroutine, os}) do \
            pcall(setmetatable, m, {}) pcall(table.remove, m) pcall(table.foreach, m, function(k) m[k] = nil end) \
            pcall(function() for k, v in next, m do m[k] = nil end end) end",
        "collectgarbage('stop')",
        "pcall(xpcall, redis.setresp, print)",
    ];
    let body = "return {cjson.encode({1/3, {}}), true, ('x'):upper(), redis.sha1hex('')}";
    let expected = run(&mut vm, &mut host, body);
    assert!(expected.contains("0.33333333333333"), "{expected}");
    for script in before {
        run(&mut vm, &mut host, script);
        assert_eq!(run(&mut vm, &mut host, body), expected, "{script}");
    }
    // A seed ends with its script, and the sequence goes on.
    let seeded = "math.randomseed(3) return math.random(1000000)";
    let free = "return math.random(1000000)";
    let first = run(&mut vm, &mut host, seeded);
    assert_eq!(run(&mut vm, &mut host, seeded), first);
    let numbers: Vec<String> = (0..3).map(|_| run(&mut vm, &mut host, free)).collect();
    assert!(numbers[0] != numbers[1] && numbers[1] != numbers[2]);
}

#[test]
fn no_way_out_of_the_sandbox() {
    let (mut vm, mut host) = (vm(), Echo::default());
    // Each looks for something that must not be reachable, and returns what it found.
    for body in [
        "local f = loadstring('return x') return pcall(f) and 1 or 0",
        "local d = string.dump(function() return 1 end) return loadstring(d) and 1 or 0",
        "local d = string.dump(function() return 1 end) local n = 0 \
            return load(function() n = n + 1 if n == 1 then return d end end) and 1 or 0",
        "for k, v in pairs(_G) do if type(v) == 'table' and rawget(v, 'dofile') then return 1 end end return 0",
        "local seen = {} local function walk(t) if seen[t] then return false end seen[t] = true \
            for k, v in pairs(t) do if k == 'ffi' or k == 'jit' or k == 'io' or k == 'require' or k == 'package' \
            or k == 'execute' or k == 'getinfo' or k == 'setfenv' or k == 'getfenv' or k == 'newproxy' then return true end \
            if type(v) == 'table' and walk(v) then return true end end \
            local mt = getmetatable(t) return type(mt) == 'table' and walk(mt) end return walk(_G) and 1 or 0",
        "return loadstring('return 1LL') and 1 or 0",
        "return loadstring('return 1i') and 1 or 0",
    ] {
        assert_eq!(run(&mut vm, &mut host, body), ":0\r\n", "{body}");
    }
}

#[test]
fn the_host_hears_of_everything() {
    let (mut vm, mut host) = (vm(), Echo::default());
    run(
        &mut vm,
        &mut host,
        "redis.log(redis.LOG_WARNING, 'a', 1, 'b') redis.set_repl(redis.REPL_AOF)",
    );
    assert_eq!(host.logged, [(LogLevel::Warning, b"a 1 b".to_vec())]);
    let log_only = Replication {
        log: true,
        replicas: false,
    };
    assert_eq!(host.replication, [log_only]);
    let body =
        "return {redis.acl_check_cmd('yes') and 1 or 0, redis.acl_check_cmd('no') and 1 or 0}";
    assert_eq!(run(&mut vm, &mut host, body), "*2\r\n:1\r\n:0\r\n");
    // More arguments than fit without allocation, numbers among them.
    let body =
        "local t = {} for i = 1, 300 do t[i] = i + 0.5 end return redis.call('COUNT', unpack(t))";
    assert_eq!(run(&mut vm, &mut host, body), ":300\r\n");
    // As many as Lua's stack takes.
    let body = "local t = {} for i = 1, 7950 do t[i] = 1 end return redis.call('COUNT', unpack(t))";
    assert_eq!(run(&mut vm, &mut host, body), ":7950\r\n");
    let body = "return redis.call('LAST', unpack({'a', 'b', 1.5}))";
    assert_eq!(run(&mut vm, &mut host, body), "$3\r\n1.5\r\n");
    // The argument's own variable stays a number.
    let body = "local n = 1.5 redis.call('LAST', n) return n * 2";
    assert_eq!(run(&mut vm, &mut host, body), ":3\r\n");
}

#[test]
fn flushed_scripts_are_compiled_again() {
    let (mut vm, mut host) = (vm(), Echo::default());
    for _ in 0..3 {
        assert_eq!(run(&mut vm, &mut host, "return 7"), ":7\r\n");
        assert_eq!(run(&mut vm, &mut host, "return 8"), ":8\r\n");
        assert_eq!(vm.compiled(), 2);
        let sha = Script::parse(b"return 7").unwrap().sha;
        vm.forget(&sha);
        assert_eq!(vm.compiled(), 1);
        vm.flush();
        assert_eq!(vm.compiled(), 0);
    }
}
