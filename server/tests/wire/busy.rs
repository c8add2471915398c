//! Scripts that run too long: who hears BUSY, and what still works.

use crate::harness::{Server, setups};
use crate::resp::{Client, Value, bulk, ok, request};

const BUSY: &str =
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
const FUNCTION_BUSY: &str =
    "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.";
/// With four shards, keys of all cores in turn: b, c, d, a.
const KEYS: [&str; 4] = ["b", "c", "d", "a"];

fn error(text: &str) -> Value {
    Value::Error(text.to_string())
}
fn is_error(value: &Value, start: &str) -> bool {
    matches!(value, Value::Error(text) if text.starts_with(start))
}
fn start(setup: crate::harness::Setup) -> Server {
    Server::start_with(setup, &["--busy-reply-threshold", "50"])
}
/// Asks until the script is slow: what comes before it answers.
fn until_busy(c: &mut Client, key: &str) -> Value {
    loop {
        let got = c.call(&["GET", key]);
        if is_error(&got, "BUSY") {
            return got;
        }
    }
}

#[test]
fn a_slow_script_is_told_of_and_killed() {
    for setup in setups(&[1, 4]) {
        let server = start(setup);
        let (mut a, mut b) = (server.connect(), server.connect());
        assert_eq!(
            b.call(&["SCRIPT", "KILL"]),
            error("NOTBUSY No scripts in execution right now.")
        );
        for key in KEYS {
            // What its client sends behind it is answered when it has ended.
            let mut sent = request(&["EVAL", "while true do end", "1", key]);
            sent.extend(request(&["SET", key, "1"]));
            a.send(&sent);
            assert_eq!(until_busy(&mut b, key), error(BUSY), "{setup:?}");
            a.send(&request(&["INCR", key]));
            assert_eq!(b.call(&["DBSIZE"]), error(BUSY));
            assert_eq!(b.call(&["INFO"]), error(BUSY));
            assert_eq!(b.call(&["MGET", "a", "b", "c", "d"]), error(BUSY));
            assert_eq!(b.call(&["MULTI"]), ok());
            assert_eq!(b.call(&["GET", key]), error(BUSY));
            let abort = "EXECABORT Transaction discarded because of";
            assert!(is_error(&b.call(&["EXEC"]), abort), "{setup:?}");
            assert_eq!(b.call(&["SHUTDOWN"]), error(BUSY));
            assert_eq!(b.call(&["FUNCTION", "STATS"]), error(BUSY));
            assert_eq!(b.call(&["FUNCTION", "KILL"]), error(BUSY));
            // New clients are served too.
            let mut late = server.connect();
            assert_eq!(late.call(&["EVAL", "return 1", "1", key]), error(BUSY));
            assert_eq!(late.call(&["WATCH", key]), ok());
            assert_eq!(late.call(&["SCRIPT", "KILL"]), ok());
            assert!(is_error(
                &a.read(),
                "ERR Script killed by user with SCRIPT KILL..."
            ));
            assert_eq!(a.read(), ok());
            assert_eq!(a.read(), Value::Int(2));
            assert_eq!(b.call(&["GET", key]), bulk("2"), "{setup:?}");
            assert_eq!(late.call(&["DEL", key]), Value::Int(1));
        }
    }
}

#[test]
fn what_a_slow_script_does_not_hold_goes_on() {
    for setup in setups(&[4]) {
        let server = start(setup);
        let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
        let mut runner = server.connect();
        for (held, key) in KEYS.iter().enumerate() {
            runner.send(&request(&["EVAL", "while true do end", "1", key]));
            until_busy(&mut clients[0], key);
            for (n, other) in KEYS.iter().enumerate() {
                let got: Vec<Value> = clients
                    .iter_mut()
                    .map(|c| c.call(&["INCRBY", other, "1"]))
                    .collect();
                let busy = got.iter().filter(|v| is_error(v, "BUSY")).count();
                // Its own core's clients hear it, whatever they want.
                let want = if n == held { 8 } else { 2 };
                assert_eq!(busy, want, "{setup:?} {key} {other} {got:?}");
            }
            for c in &mut clients {
                assert_eq!(c.call(&["FLUSHALL"]), error(BUSY));
                let wide = "return redis.call('DBSIZE')";
                assert!(is_error(&c.call(&["EVAL", wide, "0"]), "BUSY"));
            }
            assert_eq!(clients[held].call(&["SCRIPT", "KILL"]), ok());
            assert!(is_error(&runner.read(), "ERR Script killed"));
        }
        // One that holds every core.
        let wide = "redis.call('DBSIZE') while true do end";
        runner.send(&request(&["EVAL", wide, "0"]));
        for c in &mut clients {
            for key in KEYS {
                until_busy(c, key);
            }
            assert_eq!(c.call(&["PING"]), error(BUSY), "{setup:?}");
        }
        assert_eq!(clients[3].call(&["SCRIPT", "KILL"]), ok());
        assert!(is_error(&runner.read(), "ERR Script killed"));
        // And one over the keys of several.
        let both = "while true do end";
        runner.send(&request(&["EVAL", both, "2", "a", "b"]));
        for c in &mut clients {
            until_busy(c, "a");
            until_busy(c, "b");
        }
        assert_eq!(clients[3].call(&["SCRIPT", "KILL"]), ok());
        assert!(is_error(&runner.read(), "ERR Script killed"));
        for c in &mut clients {
            assert_eq!(c.call(&["PING"]), Value::Simple("PONG".into()));
            assert!(matches!(c.call(&["DBSIZE"]), Value::Int(_)));
        }
    }
}

#[test]
fn what_a_script_of_undeclared_keys_does_not_reach_goes_on() {
    for setup in setups(&[4]) {
        let server = start(setup);
        let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
        let mut runner = server.connect();
        // At first it does not have them, and its loop comes to nothing.
        let body = "redis.call('GET', 'b') redis.call('GET', 'c') while true do end";
        let alone = request(&["EVAL", body, "0"]);
        let words = [&["MULTI"][..], &["EVAL", body, "0"], &["EXEC"]];
        let in_transaction = words.iter().flat_map(|w| request(w)).collect();
        for (sent, replies) in [(alone, 0), (in_transaction, 2)] {
            runner.send(&sent);
            (0..replies).for_each(|_| drop(runner.read()));
            for key in ["b", "c"] {
                until_busy(&mut clients[0], key);
            }
            let busy: Vec<usize> = ["d", "a"]
                .iter()
                .map(|key| {
                    let got = clients.iter_mut().map(|c| c.call(&["INCR", key]));
                    got.filter(|v| is_error(v, "BUSY")).count()
                })
                .collect();
            // The core where it runs has one of the two at most; its own clients, two, hear it whatever they want.
            assert!(busy.contains(&2), "{setup:?} {busy:?}");
            assert_eq!(clients[5].call(&["SCRIPT", "KILL"]), ok());
            let killed = match runner.read() {
                Value::Array(replies) => replies[0].clone(),
                reply => reply,
            };
            assert!(is_error(&killed, "ERR Script killed"), "{killed:?}");
        }
        for key in KEYS {
            assert!(matches!(runner.call(&["INCR", key]), Value::Int(_)));
        }
    }
}

#[test]
fn who_has_written_is_not_killed_and_functions_have_their_own_command() {
    for setup in setups(&[1, 2]) {
        let mut server = start(setup);
        let (mut a, mut b) = (server.connect(), server.connect());
        let code =
            "#!lua name=l\nredis.register_function('loop', function() while true do end end)";
        assert_eq!(b.call(&["FUNCTION", "LOAD", code]), bulk("l"));
        a.send(&request(&["FCALL", "loop", "1", "k", "x"]));
        assert_eq!(until_busy(&mut b, "k"), error(FUNCTION_BUSY), "{setup:?}");
        let Value::Array(stats) = b.call(&["FUNCTION", "STATS"]) else {
            panic!("no statistics")
        };
        let Value::Array(running) = &stats[1] else {
            panic!("nothing runs: {stats:?}")
        };
        assert_eq!(running[1], bulk("loop"));
        let command = ["FCALL", "loop", "1", "k", "x"].map(bulk).to_vec();
        assert_eq!(running[3], Value::Array(command));
        assert_eq!(b.call(&["SCRIPT", "KILL"]), error(FUNCTION_BUSY));
        assert_eq!(b.call(&["FUNCTION", "KILL"]), ok());
        assert!(is_error(&a.read(), "ERR Script killed by user"));
        let write = "redis.call('SET', KEYS[1], 1) while true do end";
        a.send(&request(&["EVAL", write, "1", "k"]));
        until_busy(&mut b, "k");
        let unkillable = "UNKILLABLE Sorry the script already executed write commands";
        assert!(
            is_error(&b.call(&["SCRIPT", "KILL"]), unkillable),
            "{setup:?}"
        );
        assert!(is_error(&b.call(&["FUNCTION", "KILL"]), unkillable));
        b.send(&request(&["SHUTDOWN", "NOSAVE"]));
        b.expect_end();
        assert!(server.wait().success(), "{setup:?}");
    }
}

#[test]
fn clients_that_end_meanwhile_are_not_taken_for_others() {
    for setup in setups(&[1]) {
        let server = start(setup);
        for round in 0..5 {
            let mut a = server.connect();
            // The commands behind the script are this client's, whoever gets its connection's number.
            let mut sent = request(&["EVAL", "while true do end", "0"]);
            sent.extend(request(&["SELECT", "3"]));
            a.send(&sent);
            let mut b = server.connect();
            until_busy(&mut b, "k");
            drop(a);
            let mut others: Vec<Client> = (0..4).map(|_| server.connect()).collect();
            for c in &mut others {
                assert!(is_error(&c.call(&["GET", "k"]), "BUSY"), "{setup:?}");
            }
            assert_eq!(b.call(&["SCRIPT", "KILL"]), ok());
            for c in &mut others {
                assert_eq!(c.call(&["SET", "k", "v"]), ok());
                assert_eq!(c.call(&["DBSIZE"]), Value::Int(1), "{setup:?} {round}");
            }
        }
    }
}
