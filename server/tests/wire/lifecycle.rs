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
