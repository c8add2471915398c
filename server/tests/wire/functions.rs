//! FUNCTION and FCALL: one set of libraries for all cores.

use crate::harness::{Server, setups};
use crate::resp::{Client, Value, bulk, ok, request};

const LIB: &str = "#!lua name=lib
redis.register_function('set', function(keys, args) return redis.call('SET', keys[1], args[1]) end)
redis.register_function{function_name='get', callback=function(keys, args) return redis.call('GET', keys[1]) end,
    flags={'no-writes'}, description='reads'}
redis.register_function('sum', function(keys, args)
    local n = 0 for i = 1, 20 do n = n + redis.call('INCR', 'undeclared' .. i) end return n end)";

fn error(text: &str) -> Value {
    Value::Error(text.to_string())
}
fn load(c: &mut Client, code: &str) {
    let got = c.call(&["FUNCTION", "LOAD", "REPLACE", code]);
    assert!(matches!(got, Value::Bulk(_)), "{got:?}");
}

#[test]
fn functions_are_those_of_all_cores_at_once() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut clients: Vec<Client> = (0..6).map(|_| server.connect()).collect();
        for round in 0..6 {
            let code = format!(
                "#!lua name=lib\nredis.register_function('f', function(keys) \
                 return redis.call('SET', keys[1], {round}) and {round} end)"
            );
            load(&mut clients[round], &code);
            for c in &mut clients {
                for key in ["a", "b", "c", "d"] {
                    let got = c.call(&["FCALL", "F", "1", key]);
                    assert_eq!(got, Value::Int(round as i64), "{setup:?}");
                    assert_eq!(c.call(&["GET", key]), bulk(round.to_string()));
                }
            }
        }
        assert_eq!(clients[3].call(&["FUNCTION", "DELETE", "lib"]), ok());
        let missing = error("ERR Function not found");
        for c in &mut clients {
            for key in ["a", "b", "c", "d"] {
                assert_eq!(c.call(&["FCALL", "f", "1", key]), missing, "{setup:?}");
            }
        }
        // A pipeline's order: the call that another core serves comes before the deletion.
        load(&mut clients[0], LIB);
        for key in ["a", "b", "c", "d"] {
            let c = &mut clients[0];
            c.send(&request(&["FCALL", "set", "1", key, "v"]));
            c.send(&request(&["FUNCTION", "DELETE", "lib"]));
            c.send(&request(&["FCALL", "set", "1", key, "w"]));
            c.send(&request(&["FUNCTION", "LOAD", LIB]));
            c.send(&request(&["FCALL_RO", "get", "1", key]));
            assert_eq!(c.read(), ok(), "{setup:?}");
            assert_eq!(c.read(), ok());
            assert_eq!(c.read(), missing);
            assert_eq!(c.read(), bulk("lib"));
            assert_eq!(c.read(), bulk("v"));
        }
    }
}

#[test]
fn functions_reach_keys_that_nobody_declared_and_run_in_transactions() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        load(&mut c, LIB);
        for round in 1..4 {
            assert_eq!(c.call(&["FCALL", "sum", "0"]), Value::Int(20 * round));
        }
        for round in 4..6 {
            let got = c.call(&["FCALL", "sum", "1", "k"]);
            assert_eq!(got, Value::Int(20 * round), "{setup:?}");
        }
        for words in [
            vec!["MULTI"],
            vec!["FCALL", "set", "1", "k", "x"],
            vec!["FUNCTION", "DELETE", "lib"],
            vec!["FCALL", "set", "1", "k", "y"],
            vec!["GET", "k"],
        ] {
            c.call(&words);
        }
        let want = vec![ok(), ok(), error("ERR Function not found"), bulk("x")];
        assert_eq!(c.call(&["EXEC"]), Value::Array(want), "{setup:?}");
    }
}

#[test]
fn what_is_asked_wrongly_is_answered_as_redis_does() {
    for setup in setups(&[1, 2]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        load(&mut c, LIB);
        for (words, text) in [
            (
                &["FUNCTION", "LOAD", "REPLACE"][..],
                "ERR Missing library metadata",
            ),
            (
                &["FUNCTION", "LOAD", "a", "b"],
                "ERR Unknown option given: a",
            ),
            (
                &["FUNCTION", "LOAD", LIB],
                "ERR Library 'lib' already exists",
            ),
            (&["FUNCTION", "LIST", "x"], "ERR Unknown argument x"),
            (
                &["FUNCTION", "LIST", "LIBRARYNAME"],
                "ERR library name argument was not given",
            ),
            (
                &["FUNCTION", "LIST", "WITHCODE", "WITHCODE"],
                "ERR Unknown argument WITHCODE",
            ),
            (&["FUNCTION", "DELETE", "nn"], "ERR Library not found"),
            (
                &["FUNCTION", "FLUSH", "x"],
                "ERR FUNCTION FLUSH only supports SYNC|ASYNC option",
            ),
            (
                &["FUNCTION", "FLUSH", "x", "y"],
                "ERR unknown subcommand or wrong number of arguments for 'FLUSH'. Try FUNCTION HELP.",
            ),
            (
                &["FUNCTION", "RESTORE", "x"],
                "ERR DUMP payload version or checksum are wrong",
            ),
            (
                &["FUNCTION", "RESTORE", "x", "y"],
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ),
            (
                &["FUNCTION", "KILL"],
                "NOTBUSY No scripts in execution right now.",
            ),
            (&["FCALL", "nn", "x"], "ERR Function not found"),
            (&["FCALL", "get", "x"], "ERR Bad number of keys provided"),
            (
                &["FCALL", "get", "2", "a"],
                "ERR Number of keys can't be greater than number of args",
            ),
            (
                &["FCALL", "get", "-1"],
                "ERR Number of keys can't be negative",
            ),
            (
                &["FCALL_RO", "set", "1", "k", "v"],
                "ERR Can not execute a script with write flag using *_ro command.",
            ),
        ] {
            assert_eq!(c.call(words), error(text), "{setup:?} {words:?}");
        }
        assert_eq!(c.call(&["EXISTS", "k"]), Value::Int(0));
    }
}

#[test]
fn a_dump_restores_what_was_there() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut c = server.connect();
        load(&mut c, LIB);
        let listed = c.call(&["FUNCTION", "LIST", "WITHCODE"]);
        let Value::Bulk(dump) = c.call(&["FUNCTION", "DUMP"]) else {
            panic!("no dump")
        };
        let restore = |c: &mut Client, policy: &str| {
            c.call(&[&b"FUNCTION"[..], b"RESTORE", &dump, policy.as_bytes()])
        };
        let exists = error("ERR Library lib already exists");
        assert_eq!(restore(&mut c, "APPEND"), exists, "{setup:?}");
        assert_eq!(restore(&mut c, "REPLACE"), ok());
        assert_eq!(c.call(&["FUNCTION", "FLUSH"]), ok());
        load(
            &mut c,
            "#!lua name=other\nredis.register_function('o', function() return 1 end)",
        );
        assert_eq!(restore(&mut c, "FLUSH"), ok());
        assert_eq!(c.call(&["FUNCTION", "LIST", "WITHCODE"]), listed);
        for key in ["a", "b", "c", "d"] {
            assert_eq!(c.call(&["FCALL", "set", "1", key, "v"]), ok(), "{setup:?}");
        }
        // A value's payload is none of functions.
        let Value::Bulk(value) = c.call(&["DUMP", "a"]) else {
            panic!("no dump")
        };
        let got = c.call(&[&b"FUNCTION"[..], b"RESTORE", &value]);
        assert_eq!(got, error("ERR given type is not a function"));
    }
}
