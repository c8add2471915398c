//! CONFIG SET of `port` and `bind` moves the server; who is connected stays.

use crate::ports::free_ports;
use crate::server::{Client, Server};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Whether the server answers there. A core accepts a moment after it was told to, and after sockets that stopped listen again.
fn answers(port: u16) -> bool {
    let mut c = Client::to(port);
    c.call("PING") == "+PONG\r\n"
}
#[track_caller]
fn refuses(port: u16) {
    let end = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {
        assert!(Instant::now() < end, "port {port} takes connections");
    }
}

#[test]
fn the_port_changes_while_clients_stay() {
    for engine in ["uring", "epoll"] {
        let server = Server::start(2, &["--io-engine", engine]);
        let mut c = server.client();
        let other = free_ports(1);
        assert_eq!(c.call(&format!("CONFIG SET port {other}")), "+OK\r\n");
        assert!(answers(other));
        refuses(server.port);
        assert_eq!(c.call("PING"), "+PONG\r\n");
        let port = format!("*2\r\n$4\r\nport\r\n$5\r\n{other}\r\n");
        assert_eq!(c.call("CONFIG GET port"), port);
        // And back, from the other core perhaps.
        let mut c = Client::to(other);
        assert_eq!(
            c.call(&format!("CONFIG SET port {}", server.port)),
            "+OK\r\n"
        );
        assert!(answers(server.port));
        refuses(other);
        // No port at all, and one again.
        assert_eq!(c.call("CONFIG SET port 0"), "+OK\r\n");
        refuses(server.port);
        assert_eq!(
            c.call(&format!("CONFIG SET port {}", server.port)),
            "+OK\r\n"
        );
        assert!(answers(server.port));
    }
}

#[test]
fn a_port_in_use_is_refused_and_nothing_changes() {
    for engine in ["uring", "epoll"] {
        let server = Server::start(1, &["--io-engine", engine]);
        let mut c = server.client();
        let other = free_ports(1);
        let _taken = TcpListener::bind(("127.0.0.1", other)).expect("a free port");
        let refused = c.call(&format!("CONFIG SET maxmemory 10000001 port {other} hz 7"));
        assert_eq!(
            refused,
            "-ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port. Check server logs.\r\n"
        );
        assert_eq!(
            c.call("CONFIG GET maxmemory"),
            "*2\r\n$9\r\nmaxmemory\r\n$1\r\n0\r\n"
        );
        let said = server.log();
        let expected = format!("Could not create server TCP listening socket 127.0.0.1:{other}");
        assert!(said.contains(&expected), "{said}");
        assert!(answers(server.port));
    }
}

#[test]
fn addresses_change_on_the_same_port() {
    for engine in ["uring", "epoll"] {
        let server = Server::start(1, &["--io-engine", engine]);
        let mut c = server.client();
        // The whole of 127.0.0.0/8 is this machine.
        c.ask(&["CONFIG", "SET", "bind", "127.0.0.2"]);
        assert_eq!(c.reply().as_deref(), Some("+OK\r\n"));
        refuses(server.port);
        TcpStream::connect(("127.0.0.2", server.port)).expect("it listens there");
        c.ask(&["CONFIG", "SET", "bind", "127.0.0.1 192.0.2.1"]);
        assert_eq!(
            c.reply().as_deref(),
            Some(
                "-ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind to specified addresses.\r\n"
            )
        );
        TcpStream::connect(("127.0.0.2", server.port)).expect("it listens there still");
        c.ask(&["CONFIG", "SET", "bind", "127.0.0.1 127.0.0.2"]);
        assert_eq!(c.reply().as_deref(), Some("+OK\r\n"));
        assert!(answers(server.port));
    }
}
