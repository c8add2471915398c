//! A server at rest, and its end.

use crate::harness::{Server, setups};
use crate::resp::{Value, ok};
use std::thread::sleep;
use std::time::Duration;

#[test]
fn an_idle_server_uses_no_cpu() {
    for setup in setups(&[1, 4]) {
        let server = Server::start(setup);
        let mut clients: Vec<_> = (0..50).map(|_| server.connect()).collect();
        for client in &mut clients {
            assert_eq!(client.call(&["PING"]), Value::Simple("PONG".into()));
        }
        // A guard against a loop that does not sleep, which would take all of a CPU; what timers take is for measurements.
        let before = server.cpu();
        sleep(Duration::from_secs(2));
        let used = server.cpu() - before;
        assert!(used < Duration::from_millis(600), "{setup:?}: {used:?}");
    }
}

#[test]
fn sigterm_and_sigint_end_with_status_0() {
    for setup in setups(&[1, 4]) {
        for signal in ["TERM", "INT"] {
            let mut server = Server::start(setup);
            let mut clients: Vec<_> = (0..10).map(|_| server.connect()).collect();
            for (n, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.call(&["SET", &format!("k{n}"), "v"]), ok());
            }
            let status = server.signal(signal);
            assert_eq!(status.code(), Some(0), "{setup:?} SIG{signal}: {status}");
            clients.iter_mut().for_each(|client| client.expect_end());
        }
    }
}

/// What cannot be is said before anything is served.
#[test]
fn numbers_of_cores_cpus_and_ports_that_there_are_not() {
    for (options, text) in [
        (&["--shards", "129"][..], "between 0 and 128 inclusive"),
        (&["--databases", "1025"], "between 1 and 1024 inclusive"),
        (&["--cpus", "0,8000"], "may not use CPU 8000"),
        (
            &[
                "--shards",
                "4",
                "--shard-ports",
                "yes",
                "--shard-port-base",
                "65533",
            ],
            "4 ports from 65533 on do not fit",
        ),
    ] {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_ringwood"))
            .args(["--port", "0", "--save", ""])
            .args(options)
            .output()
            .expect("the built server runs");
        let said = [done.stdout, done.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(done.status.code(), Some(1), "{options:?}: {said}");
        assert!(said.contains(text), "{options:?}: {said}");
    }
}
