//! Users and what they may do, on every path of a command and over all cores.

use crate::blocking::{await_blocked, words};
use crate::harness::{Server, setups};
use crate::resp::{Client, Value, bulk, ok, request};

fn denied(reply: &Value, part: &str) {
    match reply {
        Value::Error(text) if text.starts_with("NOPERM") && text.contains(part) => {}
        other => panic!("{part}: {other:?}"),
    }
}

fn log_in(server: &Server, name: &str) -> Client {
    let mut c = server.connect();
    assert_eq!(c.call(&["AUTH", name, "secret"]), ok());
    c
}

#[test]
fn every_path_is_checked() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut admin = server.connect();
        let rules =
            "on >secret ~mine:* %R~read:* &news:* +@all -@dangerous -sort -config +config|get";
        let mut words = vec!["ACL", "SETUSER", "u"];
        words.extend(rules.split(' '));
        assert_eq!(admin.call(&words), ok());
        // Keys on many cores, one of which is refused.
        let mut c = log_in(&server, "u");
        for n in 0..20 {
            let (mine, read, other) = (format!("mine:{n}"), format!("read:{n}"), format!("x:{n}"));
            assert_eq!(c.call(&["SET", &mine, "1"]), ok());
            denied(
                &c.call(&["SET", &read, "1"]),
                "No permissions to access a key",
            );
            denied(&c.call(&["GET", &other]), "No permissions to access a key");
            denied(&c.call(&["MGET", &mine, &other]), "No permissions");
            assert_eq!(
                c.call(&["MGET", &mine, &read]),
                Value::Array(vec![bulk("1"), Value::Null])
            );
            denied(&c.call(&["RENAME", &mine, &read]), "No permissions");
            // In transactions, at queueing.
            assert_eq!(c.call(&["MULTI"]), ok());
            denied(&c.call(&["SET", &other, "1"]), "No permissions");
            assert!(
                matches!(c.call(&["EXEC"]), Value::Error(text) if text.starts_with("EXECABORT"))
            );
            // In scripts, whatever keys they declare, wherever these are.
            let script = format!("return redis.call('SET', '{other}', 1)");
            let reply = c.call(&["EVAL", &script, "1", &mine]);
            denied(
                &reply,
                "ACL failure in script: No permissions to access a key",
            );
            let script = format!("return redis.call('INCR', '{mine}')");
            assert_eq!(c.call(&["EVAL", &script, "0"]), Value::Int(2));
            let script = format!("return tostring(redis.acl_check_cmd('GET', '{other}'))");
            assert_eq!(c.call(&["EVAL", &script, "0"]), bulk("false"));
        }
        denied(
            &c.call(&["FLUSHALL"]),
            "no permissions to run the 'flushall' command",
        );
        denied(&c.call(&["CONFIG", "SET", "hz", "10"]), "'config|set'");
        denied(
            &c.call(&["SUBSCRIBE", "news:1", "other"]),
            "access a channel",
        );
        denied(&c.call(&["PUBLISH", "other", "x"]), "access a channel");
        assert_eq!(c.call(&["PUBLISH", "news:1", "x"]), Value::Int(0));
        let Value::Array(log) = admin.call(&["ACL", "LOG"]) else {
            panic!("a list")
        };
        assert_eq!(log.len(), 10, "{setup:?}");
    }
}

#[test]
fn changes_reach_the_clients_of_every_core_at_once() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut admin = server.connect();
        let all = [
            "ACL",
            "SETUSER",
            "u",
            "on",
            ">secret",
            "allkeys",
            "allchannels",
            "+@all",
        ];
        assert_eq!(admin.call(&all), ok());
        let mut clients: Vec<Client> = (0..12).map(|_| log_in(&server, "u")).collect();
        let mut listener = log_in(&server, "u");
        listener.call(&["SUBSCRIBE", "a"]);
        // A transaction that was accumulated before it was forbidden.
        clients[0].call(&["MULTI"]);
        clients[0].call(&["SET", "k", "1"]);
        clients[0].call(&["GET", "k"]);
        assert_eq!(
            admin.call(&["ACL", "SETUSER", "u", "-set", "resetchannels"]),
            ok()
        );
        let Value::Array(replies) = clients[0].call(&["EXEC"]) else {
            panic!("an array")
        };
        denied(&replies[0], "ACLs rules changed between");
        assert_eq!(replies[1], Value::Null, "{setup:?}");
        for c in &mut clients {
            denied(&c.call(&["SET", "k", "1"]), "'set' command");
            assert_eq!(c.call(&["ACL", "WHOAMI"]), bulk("u"));
        }
        // Who may not hear a channel any more, and who is no user any more, is gone.
        listener.expect_end();
        assert_eq!(
            admin.call(&["ACL", "DELUSER", "u", "nobody"]),
            Value::Int(1)
        );
        clients.iter_mut().for_each(Client::expect_end);
        assert!(matches!(
            admin.call(&["ACL", "GETUSER", "u"]),
            Value::Null | Value::Array(_)
        ));
    }
}

#[test]
fn a_password_for_the_default_user() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let (mut admin, mut old) = (server.connect(), server.connect());
        // Only now the server knows of it.
        assert_eq!(old.call(&["PING"]), Value::Simple("PONG".into()));
        assert_eq!(admin.call(&["CONFIG", "SET", "requirepass", "p"]), ok());
        // Who was in stays in.
        assert_eq!(old.call(&["PING"]), Value::Simple("PONG".into()));
        let mut new = server.connect();
        assert!(matches!(new.call(&["PING"]), Value::Error(text) if text.starts_with("NOAUTH")));
        assert!(
            matches!(new.call(&["AUTH", "q"]), Value::Error(text) if text.starts_with("WRONGPASS"))
        );
        assert_eq!(new.call(&["AUTH", "p"]), ok());
        let mut other = server.connect();
        assert_eq!(admin.call(&["ACL", "SETUSER", "default", "nopass"]), ok());
        assert_eq!(
            other.call(&["PING"]),
            Value::Simple("PONG".into()),
            "{setup:?}"
        );
        assert_eq!(admin.call(&["ACL", "SETUSER", "default", "off"]), ok());
        let mut late = server.connect();
        assert!(matches!(late.call(&["PING"]), Value::Error(text) if text.starts_with("NOAUTH")));
    }
}

/// Redis says so when there is something for the client; here at once. What it waited for is for others in both.
#[test]
fn who_may_no_longer_pop_no_longer_waits_to_pop() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut admin = server.connect();
        let all = ["ACL", "SETUSER", "u", "on", ">secret", "~a*", "~b", "+@all"];
        assert_eq!(admin.call(&all), ok());
        let lines = ["BLPOP a1 b 0", "BZPOPMIN a2 0", "BLPOP a3 a4 0"];
        let mut waiting: Vec<Client> = (0..3).map(|_| log_in(&server, "u")).collect();
        for (n, (client, line)) in waiting.iter_mut().zip(lines).enumerate() {
            client.send(&request(&words(line)));
            await_blocked(&mut admin, n + 1);
        }
        let fewer = ["ACL", "SETUSER", "u", "resetkeys", "~a*", "-bzpopmin"];
        assert_eq!(admin.call(&fewer), ok());
        denied(&waiting[0].read(), "access a key");
        denied(&waiting[1].read(), "'bzpopmin' command");
        await_blocked(&mut admin, 1);
        assert_eq!(admin.call(&["RPUSH", "a1", "x"]), Value::Int(1));
        assert_eq!(admin.call(&["LLEN", "a1"]), Value::Int(1));
        assert_eq!(admin.call(&["RPUSH", "a4", "x"]), Value::Int(1));
        assert_eq!(waiting[2].read(), Value::Array(vec![bulk("a4"), bulk("x")]));
        assert_eq!(waiting[0].call(&["PING"]), Value::Simple("PONG".into()));
    }
}
