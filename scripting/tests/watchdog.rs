//! Scripts that run for ever are interrupted and killed wherever they are.

use ringwood_protocol::reply::Version;
use ringwood_scripting::{
    Functions, Host, Interrupt, LogLevel, Replication, Script, Versions, Vm, Watchdog,
};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Killer {
    interrupts: u32,
    patience: u32,
}

impl Host for Killer {
    fn call(&mut self, _: &[&[u8]], _: Version, reply: &mut Vec<u8>) {
        reply.extend_from_slice(b"+OK\r\n");
    }
    fn log(&mut self, _: LogLevel, _: &[u8]) {}
    fn set_repl(&mut self, _: Replication) {}
    fn acl_check(&mut self, _: &[&[u8]]) -> Option<bool> {
        None
    }
    fn interrupt(&mut self, _: Duration) -> Interrupt {
        self.interrupts += 1;
        if self.interrupts > self.patience {
            Interrupt::Kill
        } else {
            Interrupt::Continue
        }
    }
}

fn vm(watchdog: &Watchdog) -> Vm {
    let versions = Versions {
        major: 8,
        minor: 2,
        patch: 3,
    };
    let mut vm = Vm::new(&versions, 1).unwrap();
    vm.watch(&watchdog.handle());
    vm
}

fn run(vm: &mut Vm, host: &mut Killer, body: &str) -> String {
    let script = Script::parse(body.as_bytes()).unwrap();
    let (mut out, none): (Vec<u8>, [&[u8]; 0]) = (Vec::new(), []);
    // The outcome is in the reply, which the tests compare.
    let _ = vm.run(&script, &none, &none, Version::Resp2, host, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn endless_scripts_end() {
    let watchdog = Watchdog::start(Duration::from_millis(10)).unwrap();
    let mut vm = vm(&watchdog);
    for body in [
        "while true do end",
        "local x = 0 while true do x = x + 1 end",
        "repeat until false",
        "for i = 1, 1e18 do end",
        "local function f() return f() end f()",
        "local t = {} while true do t[1] = t end",
        "while true do redis.call('PING') end",
        "while true do pcall(error, 'x') end",
        "while true do pcall(function() while true do end end) end",
        "local function f() pcall(f) while true do end end f()",
        "coroutine.wrap(function() while true do end end)()",
        "local s = '' while true do s = ('x'):rep(10) end",
        "while true do local t = {1, 2, 3} end",
        "table.sort({1, 2, 3}, function(a, b) while true do end end)",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
    ] {
        let mut host = Killer {
            patience: 2,
            ..Killer::default()
        };
        let start = Instant::now();
        let reply = run(&mut vm, &mut host, body);
        assert!(
            reply.starts_with("-ERR Script killed by user with SCRIPT KILL... script: "),
            "{body}: {reply}"
        );
        assert!(host.interrupts > 2, "{body}");
        assert!(start.elapsed() < Duration::from_secs(5), "{body}");
        // The next script is not harmed.
        assert_eq!(run(&mut vm, &mut host, "return 1"), ":1\r\n");
    }
}

#[test]
fn interrupted_scripts_go_on_as_if_nothing_were() {
    let watchdog = Watchdog::start(Duration::from_millis(1)).unwrap();
    let mut vm = vm(&watchdog);
    let mut host = Killer {
        patience: u32::MAX,
        ..Killer::default()
    };
    let body = "local s = 0 for i = 1, 3e7 do s = (s + i * 7) % 1000003 end return s";
    let sum = (1..=30_000_000u64).fold(0, |s, i| (s + i * 7) % 1_000_003);
    for _ in 0..3 {
        assert_eq!(run(&mut vm, &mut host, body), format!(":{sum}\r\n"));
    }
    assert!(host.interrupts > 1, "{}", host.interrupts);
}

#[test]
fn libraries_load_in_time_or_not_at_all() {
    let watchdog = Watchdog::start(Duration::from_millis(20)).unwrap();
    let mut vm = vm(&watchdog);
    let mut host = Killer::default();
    let mut functions = Functions::new();
    let code = b"#!lua name=slow\nwhile true do end";
    let error = functions.load(&mut vm, &mut host, code, false).unwrap_err();
    assert_eq!(
        error,
        "ERR Error registering functions: ERR FUNCTION LOAD timeout"
    );
    assert_eq!(host.interrupts, 0);
    let code = b"#!lua name=quick\nredis.register_function('f', function() while true do end end)";
    functions.load(&mut vm, &mut host, code, false).unwrap();
    let (mut out, none): (Vec<u8>, [&[u8]; 0]) = (Vec::new(), []);
    let f = functions.get(b"F").unwrap();
    let result = vm.call_function(f, &none, &none, Version::Resp2, &mut host, &mut out);
    assert_eq!(result.unwrap_err().code, "ERR");
    assert_eq!(
        String::from_utf8_lossy(&out),
        "-ERR Script killed by user with SCRIPT KILL... script: f, on @user_function:2.\r\n"
    );
}
