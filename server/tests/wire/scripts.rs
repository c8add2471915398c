//! EVAL over one core and several: whatever keys a script uses, declared or not.

use crate::blocking::await_blocked;
use crate::harness::{Server, setups};
use crate::resp::{Client, Value, bulk, ok, request};
use std::thread;

fn error(text: &str) -> Value {
    Value::Error(text.to_string())
}
fn eval(c: &mut Client, script: &str, words: &[&str]) -> Value {
    let mut all = vec!["EVAL", script];
    all.extend(words);
    c.call(&all)
}

#[test]
fn scripts_run_wherever_their_keys_are() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        for key in ["a", "b", "c", "d", "e"] {
            let set = "return redis.call('SET', KEYS[1], ARGV[1])";
            assert_eq!(eval(&mut c, set, &["1", key, "v"]), ok(), "{setup:?}");
            assert_eq!(c.call(&["GET", key]), bulk("v"));
        }
        // Declared keys on several cores.
        let move_all =
            "for i, k in ipairs(KEYS) do redis.call('RENAME', k, k .. 'x') end return #KEYS";
        let got = eval(&mut c, move_all, &["3", "a", "b", "c"]);
        assert_eq!(got, Value::Int(3), "{setup:?}");
        assert_eq!(
            c.call(&["EXISTS", "ax", "bx", "cx", "d", "e"]),
            Value::Int(5)
        );
        // Keys that nobody declared, also after writes.
        let count = "redis.call('SET', KEYS[1], 'w') local n = 0 \
                     for i = 1, 50 do n = n + redis.call('INCR', 'undeclared' .. i) end return n";
        for round in 1..4 {
            let got = eval(&mut c, count, &["1", "d"]);
            assert_eq!(got, Value::Int(50 * round), "{setup:?}");
        }
        assert_eq!(c.call(&["GET", "d"]), bulk("w"));
        let all = eval(
            &mut c,
            "return {redis.call('DBSIZE'), #redis.call('KEYS', 'undeclared*')}",
            &["0"],
        );
        assert_eq!(all, Value::Array(vec![Value::Int(55), Value::Int(50)]));
        // Patterns of SORT.
        let sort = "redis.call('RPUSH', KEYS[1], 1, 2, 3) \
                    for i = 1, 3 do redis.call('SET', 'w' .. i, 10 - i) end \
                    return redis.call('SORT', KEYS[1], 'BY', 'w*')";
        let want = ["3", "2", "1"].iter().map(bulk).collect();
        assert_eq!(
            eval(&mut c, sort, &["1", "l"]),
            Value::Array(want),
            "{setup:?}"
        );
    }
}

#[test]
fn the_cache_is_that_of_all_cores() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
        let sha = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        let missing = "NOSCRIPT No matching script. Please use EVAL.";
        assert_eq!(clients[0].call(&["EVALSHA", sha, "0"]), error(missing));
        assert_eq!(clients[1].call(&["SCRIPT", "LOAD", "return 1"]), bulk(sha));
        for c in &mut clients {
            for key in ["a", "b", "c", "d"] {
                assert_eq!(c.call(&["EVALSHA", sha, "1", key]), Value::Int(1));
            }
        }
        assert_eq!(clients[2].call(&["SCRIPT", "FLUSH"]), ok());
        for c in &mut clients {
            for key in ["a", "b", "c", "d"] {
                assert_eq!(c.call(&["EVALSHA", sha, "1", key]), error(missing));
            }
            assert_eq!(
                c.call(&["SCRIPT", "EXISTS", sha]),
                Value::Array(vec![Value::Int(0)])
            );
        }
    }
}

#[test]
fn errors_are_those_of_redis() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        for (words, text) in [
            (
                vec!["EVAL", "return 1", "x"],
                "ERR value is not an integer or out of range",
            ),
            (
                vec!["EVAL", "return 1", "-1"],
                "ERR Number of keys can't be negative",
            ),
            (
                vec!["EVAL", "return 1", "2", "k"],
                "ERR Number of keys can't be greater than number of args",
            ),
            (
                vec!["EVAL_RO", "return redis.call('SET', KEYS[1], 1)", "1", "k"],
                "ERR Write commands are not allowed from read-only scripts. script: \
                 7f923f79fe76194c868d7e1d0820de36700eb649, on @user_script:1.",
            ),
        ] {
            let got = c.call(&words);
            if words[0] == "EVAL_RO" {
                let Value::Error(got) = got else {
                    panic!("{got:?}")
                };
                assert!(
                    got.starts_with("ERR Write commands are not allowed from read-only scripts."),
                    "{got}"
                );
                assert_eq!(got.len(), text.len());
                continue;
            }
            assert_eq!(got, error(text), "{setup:?} {words:?}");
        }
        assert_eq!(c.call(&["EXISTS", "k"]), Value::Int(0));
        // What a failing script did before stays done.
        let half = "redis.call('SET', KEYS[1], 1) redis.call('SET', KEYS[2], 2) error('oops')";
        assert!(matches!(
            eval(&mut c, half, &["2", "h1", "h2"]),
            Value::Error(_)
        ));
        assert_eq!(c.call(&["EXISTS", "h1", "h2"]), Value::Int(2));
        // In a transaction.
        c.call(&["MULTI"]);
        c.call(&["SET", "m", "1"]);
        eval(
            &mut c,
            "return redis.call('INCR', 'm') + redis.call('INCR', 'n')",
            &["0"],
        );
        c.call(&["GET", "m"]);
        let want = vec![ok(), Value::Int(3), bulk("2")];
        assert_eq!(c.call(&["EXEC"]), Value::Array(want), "{setup:?}");
    }
}

#[test]
fn scripts_are_atomic_with_each_other_and_with_commands() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        // Two halves of a script that reaches wider as it runs, after it has written.
        let transfer = "redis.call('DECRBY', KEYS[1], 5) redis.call('INCRBY', 'account' .. ARGV[1], 5) return 1";
        let sum = "local s = 0 for i = 0, 7 do s = s + (redis.call('GET', 'account' .. i) or 0) end return s";
        thread::scope(|scope| {
            for n in 0..3u32 {
                let mut c = server.connect();
                scope.spawn(move || {
                    for round in 0..40u32 {
                        let from = format!("account{}", (round * 3 + n) % 8);
                        let to = ((round * 5 + n * 3) % 8).to_string();
                        assert_eq!(eval(&mut c, transfer, &["1", &from, &to]), Value::Int(1));
                    }
                });
            }
            let mut c = server.connect();
            let keys: Vec<String> = (0..8).map(|n| format!("account{n}")).collect();
            let mut mget = vec!["MGET"];
            mget.extend(keys.iter().map(String::as_str));
            for round in 0..30 {
                if round % 2 == 0 {
                    assert_eq!(eval(&mut c, sum, &["0"]), Value::Int(0), "{setup:?}");
                    continue;
                }
                let Value::Array(values) = c.call(&mget) else {
                    panic!("an array")
                };
                let number = |v: &Value| match v {
                    Value::Bulk(text) => std::str::from_utf8(text).unwrap().parse().unwrap(),
                    _ => 0i64,
                };
                assert_eq!(values.iter().map(number).sum::<i64>(), 0, "{setup:?}");
            }
        });
    }
}

#[test]
fn keys_are_found_that_only_other_keys_name() {
    for setup in setups(&[1, 2, 4]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        // A list of 40 keys all over the cores, each of which names the next: it takes many tries.
        for n in 0..40 {
            c.call(&["SET", &format!("link{n}"), &format!("link{}", n + 1)]);
        }
        let follow = "local key, steps = KEYS[1] or 'link0', 0 \
                      repeat local next = redis.call('GET', key) steps = steps + 1 \
                      redis.call('APPEND', 'seen:' .. key, steps) key = next until not key or steps > 1000 \
                      return steps";
        for (words, steps) in [
            (&["1", "link38"][..], 3),
            (&["1", "link30"], 11),
            (&["0"], 41),
            (&["1", "link38"], 3),
        ] {
            assert_eq!(eval(&mut c, follow, words), Value::Int(steps), "{setup:?}");
        }
        // What the tries wrote that came to nothing is not there.
        for (key, seen) in [("link40", "311413"), ("link31", "232"), ("link1", "2")] {
            let got = c.call(&["GET", &format!("seen:{key}")]);
            assert_eq!(got, bulk(seen), "{setup:?} {key}");
        }
        assert_eq!(c.call(&["DBSIZE"]), Value::Int(40 + 41), "{setup:?}");
        // One that waits for a key, which it thinks is not there, ends all the same.
        c.call(&["SET", "flag", "1"]);
        let wait = "local n = 0 while not redis.call('GET', 'flag') do n = n + 1 end return n";
        for key in ["b", "c", "d", "a"] {
            assert_eq!(eval(&mut c, wait, &["1", key]), Value::Int(0), "{setup:?}");
        }
        // And one whose calls depend on what is in it.
        let push = "for i = 1, redis.call('LLEN', 'queue') do redis.call('LMOVE', 'queue', 'done' .. i % 3, 'LEFT', 'RIGHT') end \
                    return redis.call('LLEN', 'done0') + redis.call('LLEN', 'done1') + redis.call('LLEN', 'done2')";
        for n in 0..10 {
            c.call(&["RPUSH", "queue", &n.to_string()]);
        }
        assert_eq!(eval(&mut c, push, &["0"]), Value::Int(10), "{setup:?}");
        assert_eq!(c.call(&["EXISTS", "queue"]), Value::Int(0));
    }
}

#[test]
fn a_transaction_with_scripts_starts_again_as_a_whole() {
    for setup in setups(&[1, 2, 4]) {
        let server = Server::start(setup);
        let (mut c, mut other) = (server.connect(), server.connect());
        for n in 0..12 {
            let (key, link, counter) = (format!("k{n}"), format!("link{n}"), format!("count{n}"));
            c.call(&["SET", &link, &counter]);
            assert_eq!(c.call(&["WATCH", &key]), ok());
            let changed = n % 4 == 3;
            if changed {
                other.call(&["SET", &key, "0"]);
            }
            assert_eq!(c.call(&["MULTI"]), ok());
            c.call(&["RPUSH", "list", &key]);
            c.call(&["INCR", &key]);
            // Its key is in the value of one that it does not declare either.
            let follow = "return redis.call('INCRBY', redis.call('GET', 'link' .. ARGV[1]), 5)";
            eval(&mut c, follow, &["0", &n.to_string()]);
            eval(&mut c, "return nosuch", &["0"]);
            c.call(&["EVALSHA", "ffffffffffffffffffffffffffffffffffffffff", "0"]);
            eval(&mut c, follow, &["0", &n.to_string()]);
            c.call(&["GET", &counter]);
            let got = c.call(&["EXEC"]);
            if changed {
                assert_eq!(got, Value::Null, "{setup:?}");
                continue;
            }
            let Value::Array(got) = got else {
                panic!("{setup:?} {got:?}")
            };
            assert!(matches!(got[0], Value::Int(_)));
            assert_eq!(got[1..3], [Value::Int(1), Value::Int(5)], "{setup:?} {n}");
            assert!(matches!(&got[3], Value::Error(text) if text.contains("nonexistent global")));
            assert!(matches!(&got[4], Value::Error(text) if text.starts_with("NOSCRIPT")));
            assert_eq!(got[5..], [Value::Int(10), bulk("10")], "{setup:?} {n}");
        }
        assert_eq!(c.call(&["LLEN", "list"]), Value::Int(9), "{setup:?}");
        // What is in no key.
        c.call(&["MULTI"]);
        c.call(&["SET", "one", "1"]);
        eval(&mut c, "return redis.call('DBSIZE')", &["0"]);
        let size = Value::Int(12 + 12 + 9 + 2);
        assert_eq!(
            c.call(&["EXEC"]),
            Value::Array(vec![ok(), size]),
            "{setup:?}"
        );
        // Its calls are counted once.
        let Value::Bulk(info) = c.call(&["INFO", "commandstats"]) else {
            panic!("text")
        };
        let info = String::from_utf8_lossy(&info).into_owned();
        for (name, calls) in [("incrby", 18), ("rpush", 9), ("incr", 9), ("evalsha", 9)] {
            let wanted = format!("cmdstat_{name}:calls={calls},");
            assert!(info.contains(&wanted), "{setup:?} {wanted} {info}");
        }
    }
}

/// Seed 2394 of 2026-11-22: EXEC was refused for a change of a watched key that had been taken back.
#[test]
fn nobody_hears_of_what_a_try_has_written() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let (mut c, mut watches, mut waits) =
            (server.connect(), server.connect(), server.connect());
        let misled = "if not redis.call('GET', 'there') then \
                      redis.call('SET', KEYS[1], 'x') redis.call('RPUSH', KEYS[2], 'x') end return 1";
        c.call(&["SET", "there", "1"]);
        let Value::Int(id) = waits.call(&["CLIENT", "ID"]) else {
            panic!("a number")
        };
        let id = id.to_string();
        for n in 0..16 {
            let (key, list) = (format!("key{n}"), format!("list{n}"));
            assert_eq!(watches.call(&["WATCH", &key]), ok());
            waits.send(&request(&["BLPOP", &list, "0"]));
            await_blocked(&mut c, 1);
            let got = eval(&mut c, misled, &["2", &key, &list]);
            assert_eq!(got, Value::Int(1), "{setup:?}");
            watches.call(&["MULTI"]);
            watches.call(&["GET", &key]);
            assert_eq!(
                watches.call(&["EXEC"]),
                Value::Array(vec![Value::Null]),
                "{setup:?} {n}"
            );
            assert_eq!(c.call(&["CLIENT", "UNBLOCK", &id]), Value::Int(1));
            assert_eq!(waits.read(), Value::Null, "{setup:?} {n}");
            assert_eq!(c.call(&["EXISTS", &key, &list]), Value::Int(0));
        }
    }
}

#[test]
fn a_script_that_starts_again_tells_its_key_events_once() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let (mut c, mut listener) = (server.connect(), server.connect());
        c.call(&["CONFIG", "SET", "notify-keyspace-events", "KEA"]);
        listener.call(&["SUBSCRIBE", "__keyevent@0__:incrby", "end"]);
        listener.read();
        let count =
            "for i = 1, 20 do redis.call('INCR', KEYS[1]) redis.call('INCR', 'other' .. i) end";
        assert_eq!(eval(&mut c, count, &["1", "declared"]), Value::Null);
        c.call(&["PUBLISH", "end", ""]);
        let mut told = 0;
        loop {
            let Value::Array(message) = listener.read() else {
                panic!("a message is an array")
            };
            if message[1] == bulk("end") {
                break;
            }
            told += 1;
        }
        assert_eq!(told, 40, "{setup:?}");
    }
}

#[test]
fn the_servers_own_commands_work_in_scripts() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        for key in ["a", "b", "c", "d"] {
            assert_eq!(c.call(&["SET", key, "1"]), ok());
        }
        for round in 0..3 {
            // The first one has to start again, with every core held; its write counts once.
            let body = "redis.call('INCR', KEYS[1]) local info = redis.call('INFO', 'keyspace') \
                        return {redis.call('GET', KEYS[1]), info:match('keys=(%d+)')}";
            let got = eval(&mut c, body, &["1", "a"]);
            let want = vec![bulk((round + 2).to_string()), bulk("4")];
            assert_eq!(got, Value::Array(want), "{setup:?}");
        }
        for (body, want) in [
            (
                "return redis.call('COMMAND', 'COUNT') > 100 and 1 or 0",
                Value::Int(1),
            ),
            (
                "return redis.call('COMMAND', 'INFO', 'get')[1][2]",
                Value::Int(2),
            ),
            (
                "return redis.call('LASTSAVE') > 1000000 and 1 or 0",
                Value::Int(1),
            ),
            (
                "return redis.call('MEMORY', 'USAGE', 'a') > 10 and 1 or 0",
                Value::Int(1),
            ),
            ("return redis.call('PUBSUB', 'NUMPAT')", Value::Int(0)),
            ("return redis.call('WAIT', 0, 0)", Value::Int(0)),
            (
                "redis.call('SWAPDB', 0, 1) return redis.call('DBSIZE')",
                Value::Int(0),
            ),
            (
                "redis.call('SWAPDB', 0, 1) return redis.call('DBSIZE')",
                Value::Int(4),
            ),
            (
                "redis.call('FLUSHALL') return redis.call('DBSIZE')",
                Value::Int(0),
            ),
        ] {
            assert_eq!(eval(&mut c, body, &["0"]), want, "{setup:?} {body}");
        }
        for body in [
            "return redis.call('CONFIG', 'GET', 'port')",
            "return redis.call('SUBSCRIBE', 'x')",
            "return redis.call('FUNCTION', 'LIST')",
            "return redis.call('EVAL', 'return 1', 0)",
        ] {
            let Value::Error(text) = eval(&mut c, body, &["0"]) else {
                panic!("{body}")
            };
            let start = "ERR This Redis command is not allowed from script";
            assert!(text.starts_with(start), "{setup:?} {body}: {text}");
        }
        assert_eq!(c.call(&["PING"]), Value::Simple("PONG".into()));
    }
}

#[test]
fn messages_of_scripts_are_sent_once() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut listeners: Vec<Client> = (0..4).map(|_| server.connect()).collect();
        for c in &mut listeners {
            c.call(&["SUBSCRIBE", "news"]);
        }
        let mut c = server.connect();
        let mut sent = Vec::new();
        for key in ["a", "b", "c", "d"] {
            let body = "local n = redis.call('PUBLISH', 'news', KEYS[1] .. 1) \
                        return n + redis.call('PUBLISH', 'news', KEYS[1] .. 2)";
            assert_eq!(eval(&mut c, body, &["1", key]), Value::Int(8), "{setup:?}");
            // Other cores' keys after the message: it starts again, and the message is sent once.
            let body = "redis.call('PUBLISH', 'news', KEYS[1] .. 3) \
                        for i = 1, 9 do redis.call('SET', 'k' .. i, 1) end return ARGV[1]";
            assert_eq!(eval(&mut c, body, &["1", key, "x"]), bulk("x"));
            sent.extend((1..4).map(|n| format!("{key}{n}")));
        }
        for listener in &mut listeners {
            for text in &sent {
                let want = vec![bulk("message"), bulk("news"), bulk(text)];
                assert_eq!(listener.read(), Value::Array(want), "{setup:?}");
            }
        }
    }
}

#[test]
fn sets_are_sorted_for_scripts() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        c.call(&["SADD", "s", "c", "10", "a", "9", "zz", "b"]);
        let want = ["10", "9", "a", "b", "c", "zz"].iter().map(bulk).collect();
        let want = Value::Array(want);
        let script = "return redis.call('SORT', 's', 'BY', 'constant')";
        // Declared, found on the way, and at once with every core held.
        assert_eq!(eval(&mut c, script, &["1", "s"]), want, "{setup:?}");
        for _ in 0..2 {
            assert_eq!(eval(&mut c, script, &["0"]), want, "{setup:?}");
        }
        // Clients get what lies there.
        let plain = c.call(&["SORT", "s", "BY", "constant"]);
        assert_eq!(plain, c.call(&["SMEMBERS", "s"]), "{setup:?}");
    }
}

#[test]
fn scripts_that_want_all_memory_fail() {
    // Which backend carries the bytes makes no difference.
    for setup in setups(&[1, 4]).into_iter().take(2) {
        let server = Server::start(setup);
        let mut c = server.connect();
        assert_eq!(c.call(&["CONFIG", "SET", "maxmemory", "70mb"]), ok());
        let twice = "local t = {('x'):rep(100000)} for i = 1, 14 do t = {t, t, t, t} end return ";
        for script in [
            "local t = {} while true do t[#t + 1] = ('x'):rep(100000) .. #t end",
            "local s = 'x' while true do s = s .. s end",
            &format!("{twice} cmsgpack.pack(t)"),
            &format!("{twice} t"),
            "return #cmsgpack.unpack((string.char(0xdd, 0xff, 0xff, 0xff, 0xff)):rep(1000000))",
        ] {
            let reply = eval(&mut c, script, &["0"]);
            let Value::Error(text) = &reply else {
                panic!("{setup:?} {script}: no error");
            };
            assert!(text.contains("not enough memory"), "{script}: {text}");
            assert_eq!(eval(&mut c, "return 'ok'", &["0"]), bulk("ok"), "{setup:?}");
        }
        // Nothing of it is kept.
        assert_eq!(c.call(&["SET", "k", "v"]), ok(), "{setup:?}");
    }
}

/// How often a command was called and refused, and failed, as INFO has it.
fn counted(c: &mut Client, name: &str) -> String {
    let Value::Bulk(text) = c.call(&["INFO", "commandstats"]) else {
        panic!("not a bulk");
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = format!("cmdstat_{name}:");
    let found = text.lines().find_map(|l| l.strip_prefix(&line));
    let fields = found.unwrap_or_default().split(',');
    let fields: Vec<&str> = fields.filter(|f| !f.contains("usec")).collect();
    fields.join(",")
}
fn errors(c: &mut Client) -> String {
    let Value::Bulk(text) = c.call(&["INFO", "errorstats"]) else {
        panic!("not a bulk");
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().filter_map(|l| l.strip_prefix("errorstat_"));
    lines.collect::<Vec<_>>().join(" ")
}

/// It reaches for another core with an error in hand that would tell it so.
#[test]
fn a_script_that_starts_again_cannot_stay() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        c.call(&["MSET", "a", "1", "b", "2", "c", "3", "d", "4"]);
        for (n, body) in [
            "local n repeat n = redis.pcall('DBSIZE') until type(n) == 'number' return n",
            "local ok, n repeat ok, n = pcall(redis.call, 'DBSIZE') until ok return n",
            "local n = 0 for _, k in ipairs({'a', 'b', 'c', 'd'}) do
                repeat local v = redis.pcall('GET', k) until type(v) == 'string' n = n + 1
            end return n",
        ]
        .iter()
        .enumerate()
        {
            assert_eq!(eval(&mut c, body, &["0"]), Value::Int(4), "{setup:?} {n}");
        }
    }
}

#[test]
fn a_script_that_starts_again_is_counted_once() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        let body = "redis.call('SET', KEYS[1], 'x') redis.pcall('LPUSH', KEYS[1], 'x')
            redis.pcall('SUBSCRIBE', 'x') redis.pcall('PING') redis.pcall('SELECT', '99')
            return redis.call('DBSIZE')";
        // The second one knows that it will need all cores.
        for times in 1..=2 {
            assert_eq!(eval(&mut c, body, &["1", "k"]), Value::Int(1), "{setup:?}");
            for (name, refused, failed) in [
                ("eval", false, false),
                ("set", false, false),
                ("lpush", false, true),
                ("subscribe", true, false),
                ("ping", false, false),
                ("select", false, true),
                ("dbsize", false, false),
            ] {
                let n = |yes: bool| if yes { times } else { 0 };
                let want = format!(
                    "calls={},rejected_calls={},failed_calls={}",
                    n(!refused),
                    n(refused),
                    n(failed)
                );
                assert_eq!(counted(&mut c, name), want, "{setup:?} {name}");
            }
            let want = format!("ERR:count={} WRONGTYPE:count={times}", 2 * times);
            assert_eq!(errors(&mut c), want, "{setup:?}");
        }
    }
}

/// Whatever core has the key: a script sees one moment.
#[test]
fn time_stands_still_for_a_script() {
    for setup in setups(&[1, 4]) {
        let server = Server::start_with(setup, &["--enable-debug-command", "yes"]);
        let mut c = server.connect();
        c.call(&["DEBUG", "SET-DISABLE-DENY-SCRIPTS", "1"]);
        let body = "local n = 0 for _, k in ipairs({'a', 'b', 'c', 'd'}) do
                redis.call('SET', k, 'v', 'PX', '1') redis.call('DEBUG', 'SLEEP', '0.02')
                n = n + redis.call('EXISTS', k) end return n";
        for declared in [&["0"][..], &["4", "a", "b", "c", "d"]] {
            let got = eval(&mut c, body, declared);
            assert_eq!(got, Value::Int(4), "{setup:?} {declared:?}");
            assert_eq!(c.call(&["EXISTS", "a", "b", "c", "d"]), Value::Int(0));
        }
        c.call(&["DEBUG", "SET-DISABLE-DENY-SCRIPTS", "0"]);
        let refused = eval(&mut c, "return redis.pcall('DEBUG', 'SLEEP', '0')", &["0"]);
        let text = "ERR This Redis command is not allowed from script";
        assert_eq!(refused, error(text), "{setup:?}");
    }
}

/// Everything that writes is refused while fewer replicas are there than shall be.
#[test]
fn writes_want_as_many_replicas_as_are_asked_for() {
    const MISSING: &str = "NOREPLICAS Not enough good replicas to write.";
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let (mut c, mut other) = (server.connect(), server.connect());
        assert_eq!(c.call(&["SET", "k", "1"]), ok());
        assert_eq!(c.call(&["MULTI"]), ok());
        c.call(&["INCR", "k"]);
        let on = ["CONFIG", "SET", "min-replicas-to-write", "1"];
        assert_eq!(other.call(&on), ok());
        let aborted = format!("EXECABORT Transaction discarded because of: {MISSING}");
        assert_eq!(c.call(&["EXEC"]), error(&aborted), "{setup:?}");
        for words in [&["SET", "k", "2"][..], &["MSET", "a", "1", "b", "2"]] {
            assert_eq!(c.call(words), error(MISSING), "{setup:?}");
        }
        let write = "return redis.pcall('SET', KEYS[1], '2')";
        assert_eq!(eval(&mut c, write, &["1", "k"]), error(MISSING));
        let unsaid = "#!lua\nreturn redis.call('GET', KEYS[1])";
        assert_eq!(eval(&mut c, unsaid, &["1", "k"]), error(MISSING));
        let reads = "#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1])";
        assert_eq!(eval(&mut c, reads, &["1", "k"]), bulk("1"), "{setup:?}");
        assert_eq!(c.call(&["PING"]), Value::Simple("PONG".into()));
        let off = ["CONFIG", "SET", "min-replicas-to-write", "0"];
        assert_eq!(other.call(&off), ok());
        assert_eq!(c.call(&["INCR", "k"]), Value::Int(2));
    }
}

/// Behind a command of another core, a script with wrong words was read all the same, and EVALSHA found it.
#[test]
fn a_script_with_wrong_words_is_not_remembered() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        let missing = error("NOSCRIPT No matching script. Please use EVAL.");
        // A digest has 40 letters, which is looked at before the number of keys.
        assert_eq!(c.call(&["EVALSHA", "2", "x"]), missing);
        assert_eq!(c.call(&["EVALSHA", "2", "-1"]), missing);
        let digest = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        let number = error("ERR value is not an integer or out of range");
        assert_eq!(c.call(&["EVALSHA", digest, "x"]), number);
        for n in 0..16 {
            let key = format!("k{n}");
            let requests = [
                request(&["GET", &key]),
                request(&["EVAL", "return 1", "x"]),
                request(&["EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0"]),
            ];
            c.send(&requests.concat());
            assert_eq!(c.read(), Value::Null);
            assert_eq!(c.read(), number);
            assert_eq!(c.read(), missing, "{setup:?}");
        }
    }
}
