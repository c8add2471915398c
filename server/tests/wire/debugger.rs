//! SCRIPT DEBUG: the debugger's words, who sees what is written, who waits, and what ends a session. Beside a real Redis
//! where there is one.

use crate::harness::{Server, setups};
use crate::resp::{Client, Value, bulk, ok};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A session: the first stop, or what came instead of it.
fn debug(c: &mut Client, mode: &str, script: &str, words: &[&str]) -> Vec<String> {
    assert_eq!(c.call(&["SCRIPT", "DEBUG", mode]), ok());
    let mut all = vec!["EVAL", script];
    all.extend(words);
    lines(&c.call(&all))
}
fn lines(reply: &Value) -> Vec<String> {
    let Value::Array(items) = reply else {
        panic!("no lines: {reply:?}");
    };
    let line = |item: &Value| match item {
        Value::Simple(line) => line.clone(),
        other => panic!("no line: {other:?}"),
    };
    items.iter().map(line).collect()
}
fn ask(c: &mut Client, command: &str) -> Vec<String> {
    let words: Vec<&str> = command.split(' ').collect();
    lines(&c.call(&words))
}
/// The words of the last answer, and the script's reply.
fn end(c: &mut Client, command: &str) -> (Vec<String>, Value) {
    let last = ask(c, command);
    assert_eq!(last.last().map(String::as_str), Some("<endsession>"));
    let reply = c.read();
    c.expect_end();
    (last, reply)
}

#[test]
fn a_script_is_stepped_through() {
    let script = "local a = redis.call('SET', KEYS[1], ARGV[1])\n\
                  local function twice(x)\n  local y = x * 2\n  return y\nend\n\
                  local n = twice(21)\nredis.debug('n', n)\nredis.breakpoint()\nreturn {n, redis.call('GET', KEYS[1])}\n";
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        let first = debug(&mut c, "YES", script, &["1", "k", "v"]);
        let stop = |line: &str, text: &str| {
            vec![
                format!("* Stopped at {line}, stop reason = step over"),
                format!("-> {line}   {text}"),
            ]
        };
        let line = "local a = redis.call('SET', KEYS[1], ARGV[1])";
        assert_eq!(first, stop("1", line), "{setup:?}");
        let mut want = vec!["<redis> SET k v".to_string(), "<reply> \"+OK\"".to_string()];
        want.extend(stop("5", "end"));
        assert_eq!(ask(&mut c, "step"), want, "{setup:?}");
        assert_eq!(ask(&mut c, "p KEYS"), ["<value> {\"k\"}"]);
        assert_eq!(
            ask(&mut c, "b 4"),
            [
                "   3     local y = x * 2",
                "  #4     return y",
                "-> 5   end"
            ]
        );
        assert_eq!(
            ask(&mut c, "c"),
            [
                "* Stopped at 4, stop reason = break point",
                "->#4     return y"
            ]
        );
        assert_eq!(ask(&mut c, "p"), ["<value> x = 21", "<value> y = 42"]);
        assert_eq!(
            ask(&mut c, "t"),
            [
                "In twice:",
                "->#4     return y",
                "From top level:",
                "   6   local n = twice(21)"
            ]
        );
        assert_eq!(ask(&mut c, "e #ARGV + 1"), ["<retval> 2"]);
        assert_eq!(
            ask(&mut c, "r incr k"),
            [
                "<redis> incr k",
                "<error> -ERR value is not an integer or out of range",
                "<reply> \"-ERR value is not an integer or out of range\""
            ]
        );
        assert_eq!(
            ask(&mut c, "c"),
            [
                "<debug> line 7: \"n\", 42",
                "* Stopped at 9, stop reason = redis.breakpoint() called",
                "-> 9   return {n, redis.call('GET', KEYS[1])}"
            ]
        );
        let (_, reply) = end(&mut c, "c");
        assert_eq!(
            reply,
            Value::Array(vec![Value::Int(42), bulk("v")]),
            "{setup:?}"
        );
        // Nothing of it has stayed.
        let mut c = server.connect();
        assert_eq!(c.call(&["EXISTS", "k"]), Value::Int(0), "{setup:?}");
        // Outside of a debugger nothing stops.
        let plain = c.call(&[
            "EVAL",
            "redis.debug('x') return tostring(redis.breakpoint())",
            "0",
        ]);
        assert_eq!(plain, bulk("false"));
    }
}

#[test]
fn what_a_session_writes_is_its_own_and_others_go_on() {
    let script = "local before = redis.call('GET', 'a')\nredis.call('SET', 'a', 'mine')\n\
                  redis.call('SET', 'new', 'mine')\nredis.call('RPUSH', 'blocks', 'x')\n\
                  local keys = redis.call('KEYS', '*')\ntable.sort(keys)\n\
                  local w = redis.call('SORT', 'l', 'BY', 'w*', 'GET', 'w*')\n\
                  redis.call('FLUSHALL')\nredis.call('SET', 'last', '1')\n\
                  return {before, redis.call('DBSIZE'), table.concat(keys, ' '), table.concat(w, ' ')}\n";
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let (mut c, mut other, mut waiter) = (server.connect(), server.connect(), server.connect());
        other.call(&[
            "MSET", "a", "old", "b", "1", "w1", "3", "w2", "2", "w3", "1",
        ]);
        other.call(&["RPUSH", "l", "1", "2", "3"]);
        debug(&mut c, "YES", script, &["0"]);
        waiter.send(&crate::resp::request(&["BLPOP", "blocks", "0"]));
        for _ in 0..4 {
            ask(&mut c, "s");
        }
        // Another's writes are not the session's either, once it knows the key.
        assert_eq!(
            other.call(&["GETSET", "a", "theirs"]),
            bulk("old"),
            "{setup:?}"
        );
        assert_eq!(other.call(&["EXISTS", "new"]), Value::Int(0), "{setup:?}");
        assert_eq!(ask(&mut c, "r get a")[1], "<reply> \"mine\"");
        let (_, reply) = end(&mut c, "c");
        let keys = bulk("a b blocks l new w1 w2 w3");
        let want = vec![bulk("old"), Value::Int(1), keys, bulk("1 2 3")];
        assert_eq!(reply, Value::Array(want), "{setup:?}");
        assert_eq!(other.call(&["GET", "a"]), bulk("theirs"), "{setup:?}");
        assert_eq!(other.call(&["DBSIZE"]), Value::Int(6), "{setup:?}");
        assert_eq!(
            other.call(&["RPUSH", "blocks", "y"]),
            Value::Int(1),
            "{setup:?}"
        );
        let got = Value::Array(vec![bulk("blocks"), bulk("y")]);
        assert_eq!(waiter.read(), got, "{setup:?}");
    }
}

#[test]
fn in_sync_mode_writes_stay_and_others_wait() {
    let script = "redis.call('SET', 'a', '1')\nredis.call('RPUSH', 'blocks', 'x', 'y')\n\
                  redis.call('SET', 'b', '1')\nreturn redis.call('DBSIZE')";
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let (mut c, mut other, mut waiter) = (server.connect(), server.connect(), server.connect());
        waiter.send(&crate::resp::request(&["BLPOP", "blocks", "0"]));
        // It waits when this is answered.
        let blocked = |c: &mut Client| match c.call(&["INFO", "clients"]) {
            Value::Bulk(text) => String::from_utf8_lossy(&text).contains("blocked_clients:1"),
            other => panic!("{other:?}"),
        };
        while !blocked(&mut other) {
            std::thread::yield_now();
        }
        debug(&mut c, "SYNC", script, &["0"]);
        other.send(&crate::resp::request(&["MGET", "a", "b"]));
        for _ in 0..3 {
            ask(&mut c, "s");
        }
        // Nobody was served amid the script: all of the list is there.
        assert_eq!(ask(&mut c, "r llen blocks")[1], "<reply> 2", "{setup:?}");
        let (_, reply) = end(&mut c, "c");
        assert_eq!(reply, Value::Int(3), "{setup:?}");
        let both = Value::Array(vec![bulk("1"), bulk("1")]);
        assert_eq!(other.read(), both, "{setup:?}");
        let got = Value::Array(vec![bulk("blocks"), bulk("x")]);
        assert_eq!(waiter.read(), got, "{setup:?}");
        // Aborted: what it has written by then stays.
        let mut c = server.connect();
        debug(
            &mut c,
            "SYNC",
            "redis.call('SET', 'c', '1')\nredis.call('SET', 'd', '1')",
            &["0"],
        );
        ask(&mut c, "s");
        let (_, reply) = end(&mut c, "abort");
        let Value::Error(text) = reply else {
            panic!("no error");
        };
        assert!(
            text.starts_with("ERR script aborted for user request script: "),
            "{text}"
        );
        assert_eq!(
            other.call(&["EXISTS", "c", "d"]),
            Value::Int(1),
            "{setup:?}"
        );
        // A client that goes leaves a script that runs to its end.
        let mut c = server.connect();
        debug(
            &mut c,
            "SYNC",
            "redis.call('SET', 'e', '1')\nredis.call('SET', 'f', '1')",
            &["0"],
        );
        drop(c);
        // Only when it has ended is there an answer.
        while other.call(&["EXISTS", "e", "f"]) != Value::Int(2) {
            std::thread::yield_now();
        }
    }
}

#[test]
fn sessions_end_with_their_clients() {
    for setup in setups(&[1, 4]) {
        let server = Server::start_with(setup, &["--busy-reply-threshold", "100"]);
        let mut other = server.connect();
        // At a line, in a loop that nobody stops, and cut off by another.
        for command in ["p", "c"] {
            let mut c = server.connect();
            debug(&mut c, "YES", "while true do\n  local a = 1\nend", &["0"]);
            c.send(&crate::resp::request(&[command]));
            drop(c);
            assert_eq!(other.call(&["PING"]), Value::Simple("PONG".into()));
        }
        let mut c = server.connect();
        let Value::Int(id) = c.call(&["CLIENT", "ID"]) else {
            panic!("no id");
        };
        debug(
            &mut c,
            "SYNC",
            "local a = 1\nreturn redis.call('SET', 'k', 'v')",
            &["0"],
        );
        let killed = other.call(&["CLIENT", "KILL", "ID", &id.to_string()]);
        assert_eq!(killed, Value::Int(1), "{setup:?}");
        while other.call(&["GET", "k"]) != bulk("v") {
            std::thread::yield_now();
        }
        // An endless loop is stopped by the clock; without its client it ends, and lets the others go.
        let mut c = server.connect();
        debug(
            &mut c,
            "SYNC",
            "local i = 0\nwhile true do\n  i = i + 1\nend",
            &["0"],
        );
        assert_eq!(
            ask(&mut c, "c"),
            [
                "* Stopped at 3, stop reason = timeout reached, infinite loop?",
                "-> 3     i = i + 1"
            ]
        );
        drop(c);
        assert_eq!(other.call(&["GET", "k"]), bulk("v"), "{setup:?}");
    }
}

#[test]
fn what_cannot_be_debugged_is_said() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        let error = |text: &str| Value::Error(text.to_string());
        let got = c.call(&["SCRIPT", "DEBUG", "MAYBE"]);
        assert_eq!(got, error("ERR Use SCRIPT DEBUG YES/SYNC/NO"));
        c.send(b"PING\r\nSCRIPT DEBUG YES\r\n");
        assert_eq!(c.read(), Value::Simple("PONG".into()));
        assert_eq!(
            c.read(),
            error("ERR SCRIPT DEBUG must be called outside a pipeline")
        );
        assert_eq!(c.call(&["SCRIPT", "DEBUG", "YES"]), ok());
        let by_sha = c.call(&["EVALSHA", &"0".repeat(40), "0"]);
        assert_eq!(
            by_sha,
            error("ERR Please use EVAL instead of EVALSHA for debugging")
        );
        assert_eq!(c.call(&["SCRIPT", "DEBUG", "NO"]), ok());
        assert_eq!(c.call(&["EVAL", "return 1", "0"]), Value::Int(1));
        for (script, numkeys, text) in [
            (
                "return x y",
                "0",
                "ERR Error compiling script (new function): user_script:1:",
            ),
            (
                "#!lux\nreturn 1",
                "0",
                "ERR Unexpected engine in script shebang: #!lux",
            ),
            (
                "return 1",
                "x",
                "ERR value is not an integer or out of range",
            ),
            (
                "return 1",
                "5",
                "ERR Number of keys can't be greater than number of args",
            ),
        ] {
            for mode in ["YES", "SYNC"] {
                let mut c = server.connect();
                let told = debug(&mut c, mode, script, &[numkeys]);
                assert_eq!(told, ["<endsession>"], "{setup:?} {script}");
                let Value::Error(found) = c.read() else {
                    panic!("no error");
                };
                assert!(found.starts_with(text), "{setup:?} {script}: {found}");
                c.expect_end();
            }
        }
        // What is no command ends the session.
        for bytes in ["PING\r\n", "*0\r\n", "*1\r\n$0\r\n\r\n", "*1\r\n:1\r\n"] {
            let mut c = server.connect();
            debug(&mut c, "YES", "local a = 1\nreturn a", &["0"]);
            c.send(bytes.as_bytes());
            assert_eq!(lines(&c.read()), ["<endsession>"]);
            let Value::Error(found) = c.read() else {
                panic!("no error");
            };
            assert!(found.starts_with("ERR protocol error script: "), "{found}");
            c.expect_end();
        }
        // All at once is as good as one by one.
        let mut c = server.connect();
        assert_eq!(c.call(&["SCRIPT", "DEBUG", "YES"]), ok());
        let mut all = crate::resp::request(&["EVAL", "local a = 1\nreturn a", "0"]);
        all.extend(crate::resp::request(&["s"]));
        all.extend(crate::resp::request(&["c"]));
        c.send(&all);
        for _ in 0..2 {
            assert_eq!(lines(&c.read()).len(), 2, "{setup:?}");
        }
        assert_eq!(lines(&c.read()), ["<endsession>"], "{setup:?}");
        assert_eq!(c.read(), Value::Int(1), "{setup:?}");
        c.expect_end();
    }
}

// ---- beside a real Redis ----

struct Peer {
    child: Child,
    port: u16,
}

impl Peer {
    /// None where there is no such server; under ./check that is a failure.
    fn start() -> Option<Self> {
        let peers = std::env::var_os("RINGWOOD_PEERS").map(PathBuf::from);
        let program = peers.as_ref().map(|p| p.join("bin/redis-server-8.2"));
        let Some(program) = program.filter(|program| Path::new(program).exists()) else {
            let required = std::env::var_os("RINGWOOD_REQUIRE_PEERS").is_some();
            assert!(!required, "no redis-server-8.2: run bench/peers.sh");
            eprintln!("skipped: no redis-server-8.2 (bench/peers.sh installs it)");
            return None;
        };
        let port = crate::ports::free_ports(1);
        let child = Command::new(program)
            .args([
                "--port",
                &port.to_string(),
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .current_dir(std::env::temp_dir())
            .env("LD_LIBRARY_PATH", peers.expect("looked at").join("lib"))
            .stdout(Stdio::null())
            .spawn()
            .expect("the peer starts");
        let peer = Self { child, port };
        let patience = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < patience, "the peer does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Scripts that touch what differs between the two Luas: lines, names, variables.
const SCRIPTS: &[&str] = &[
    "local a = 1\nlocal b = a + 1\n\nif a == 2 then\n  b = 3\nelseif b == 2 then\n  b = 4\nelse\n  b = 5\nend\nreturn b",
    "local s = 0\nfor i = 1, 3 do\n  s = s + i\nend\nwhile s < 8 do\n  s = s + 1\nend\nfor k, v in ipairs({7, 8}) do\n  s = s + v\nend\n\
     repeat\n  s = s - 10\nuntil s < 0\nwhile true do\n  s = s + 1\n  if s > 0 then\n    break\n  end\nend\nreturn s",
    "local function f(n)\n  if n < 2 then\n    return 1\n  end\n  local m = f(n - 1)\n  return n * m\nend\nlocal x = f(3)\n\
     local t = {f = function(self) return self end}\nlocal y = t:f()\nlocal z = f(1) + f(2)\nreturn x",
    "redis.call('SET', KEYS[1], ARGV[1])\nlocal v = redis.call('GET', KEYS[1])\nlocal l = redis.call('RPUSH', 'l', 1, 2, 3)\n\
     redis.setresp(3)\nlocal h = redis.call('HSET', 'h', 'f', 'v')\nlocal m = redis.call('HGETALL', 'h')\nlocal e = redis.pcall('INCR', KEYS[1]).err\n\
     local n = redis.call('GET', 'missing')\nlocal big = redis.call('ECHO', string.rep('x', 1000))\nreturn redis.call('LRANGE', 'l', 0, -1)",
    "local ok, err = pcall(function()\n  local inner = 1\n  error('boom')\nend)\nlocal r = redis.error_reply('Mine')\n\
     local s = redis.status_reply('fine')\nlocal p = pcall(redis.call)\nredis.debug(ok, err, {1, {2}})\nredis.breakpoint()\nlocal q = redis.call('NOPE')\nreturn s",
    "",
    "#!lua flags=no-writes\nlocal a = redis.call('GET', 'k')\nreturn redis.call('SET', 'k', 'v')",
];

const COMMANDS: &[&str] = &[
    "s",
    "s",
    "n",
    "p",
    "p",
    "t",
    "c",
    "l",
    "w",
    "b",
    "b 3",
    "b 2 5",
    "b 0",
    "b -3",
    "b x",
    "list 3",
    "list 4 1",
    "p a",
    "p KEYS",
    "p ARGV",
    "p nosuch",
    "m",
    "m 0",
    "m 70",
    "e 1 + 1",
    "e KEYS[1]",
    "e nosuch",
    "e return 'x' .. 1",
    "r get k",
    "r set k 2",
    "r incr k",
    "r nope",
    "r get",
    "h",
    "x",
    "print",
    "step",
    "whole",
    "trace",
    "eval",
    "redis",
];

/// Every answer, to the end of the session; addresses left out.
fn play(port: u16, mode: &str, script: &str, commands: &[&str]) -> Vec<Value> {
    let mut c = Client::connect(port);
    let mut told = vec![c.call(&["FLUSHALL"]), c.call(&["SCRIPT", "DEBUG", mode])];
    let is_end = |reply: &Value| match reply {
        Value::Array(items) => items.last() == Some(&Value::Simple("<endsession>".into())),
        other => panic!("no lines: {other:?}"),
    };
    told.push(c.call(&["EVAL", script, "1", "k", "some value"]));
    // Whatever was drawn, it ends.
    let last = std::iter::once(&"abort");
    for command in commands.iter().chain(last) {
        if is_end(told.last().expect("the first stop")) {
            break;
        }
        let words: Vec<&str> = command.split(' ').collect();
        told.push(c.call(&words));
    }
    assert!(is_end(told.last().expect("the first stop")), "{told:?}");
    told.push(c.read());
    c.expect_end();
    let mut c = Client::connect(port);
    told.push(c.call(&["DBSIZE"]));
    told
}

#[test]
fn sessions_are_those_of_redis() {
    let Some(peer) = Peer::start() else {
        return;
    };
    let servers: Vec<Server> = setups(&[1, 4]).into_iter().map(Server::start).collect();
    let mut chance = crate::harness::Random::with(1);
    for round in 0..6 * SCRIPTS.len() {
        let script = SCRIPTS[round % SCRIPTS.len()];
        let mode = ["YES", "SYNC"][round % 2];
        // The first rounds step all the way, and look at the variables.
        let commands: Vec<&str> = match round / SCRIPTS.len() {
            0 => ["s", "p"].repeat(40),
            1 => ["n", "t"].repeat(40),
            _ => (0..40)
                .map(|_| COMMANDS[chance.below(COMMANDS.len())])
                .collect(),
        };
        let want = play(peer.port, mode, script, &commands);
        for server in &servers {
            let got = play(server.port(), mode, script, &commands);
            for (at, (got, want)) in got.iter().zip(&want).enumerate() {
                let said = at.checked_sub(3).and_then(|at| commands.get(at));
                let (got, want) = (plain(got), plain(want));
                assert_eq!(
                    got, want,
                    "{:?} {mode} {script}\nafter {said:?} of {commands:?}",
                    server.setup
                );
            }
            assert_eq!(got.len(), want.len(), "{mode} {script}");
        }
    }
}

/// A reply's text without addresses.
fn plain(reply: &Value) -> String {
    let text = format!("{reply:?}");
    let mut pieces = text.split("@0x");
    let mut out = pieces.next().unwrap_or_default().to_string();
    for piece in pieces {
        out += "@";
        out += piece.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    out
}
