//! Logging in, and CLIENT over several cores.

use crate::conn::Conn;
use crate::server::Server;

fn id(conn: &mut Conn) -> String {
    let info = conn.text("CLIENT INFO");
    info.split([' ', '=']).nth(1).unwrap().to_string()
}

#[test]
fn kill_reaches_the_clients_of_every_core() {
    let server = Server::start(3, &[]);
    let mut me = Conn::new(server.port);
    let mut others: Vec<Conn> = (0..9).map(|_| Conn::new(server.port)).collect();
    let ids: Vec<String> = others.iter_mut().map(id).collect();
    me.check(&format!("CLIENT KILL ID {}", ids[0]), ":1\r\n");
    me.check(&format!("CLIENT KILL ID {}", ids[0]), ":0\r\n");
    let address = others[1].address();
    me.check(&format!("CLIENT KILL {address}"), "+OK\r\n");
    me.check(&format!("CLIENT KILL {address}"), "-ERR No such client\r\n");
    let list = me.text("CLIENT LIST");
    for (n, id) in ids.iter().enumerate() {
        let listed = list.lines().any(|l| l.starts_with(&format!("id={id} ")));
        assert_eq!(listed, n >= 2, "{list}");
    }
    me.check("CLIENT KILL TYPE normal", ":7\r\n");
    others.iter_mut().for_each(Conn::expect_end);
    // Its own answer still comes; what was sent behind it is not run.
    me.send(&["CLIENT KILL TYPE normal SKIPME no", "SET killed yes"]);
    me.expect(":1\r\n");
    me.expect_end();
    Conn::new(server.port).check("EXISTS killed", ":0\r\n");
}

#[test]
fn reply_modes_hold_for_answers_of_other_cores_too() {
    let server = Server::start(3, &[]);
    let mut c = Conn::new(server.port);
    for n in 0..20 {
        c.check(&format!("SET k{n} {n}"), "+OK\r\n");
    }
    for n in 0..20 {
        let (skipped, shown) = (format!("GET k{n}"), format!("GET k{}", (n + 7) % 20));
        // DBSIZE waits for what is outstanding: the skip before it must not be used up by that.
        c.send(&[
            "CLIENT REPLY SKIP",
            &skipped,
            &shown,
            "CLIENT REPLY SKIP",
            "DBSIZE",
            &skipped,
        ]);
        let (a, b) = (((n + 7) % 20).to_string(), n.to_string());
        c.expect(&format!("${}\r\n{a}\r\n${}\r\n{b}\r\n", a.len(), b.len()));
    }
    c.send(&["CLIENT REPLY OFF", "GET k1", "MGET k1 k2 k3", "PING"]);
    c.expect_silence();
    c.send(&["CLIENT REPLY ON", "PING"]);
    c.expect("+OK\r\n+PONG\r\n");
}

#[test]
fn a_pause_holds_writes_on_every_core_and_keeps_their_order() {
    let server = Server::start(3, &[]);
    let (mut a, mut b) = (Conn::new(server.port), Conn::new(server.port));
    a.check("CLIENT PAUSE 100000 WRITE", "+OK\r\n");
    b.send(&["GET k", "SET k 1", "GET k", "MSET x 1 y 2 z 3", "DBSIZE"]);
    b.expect("$-1\r\n");
    b.expect_silence();
    a.check("GET k", "$-1\r\n");
    a.check("CLIENT UNPAUSE", "+OK\r\n");
    b.expect("+OK\r\n$1\r\n1\r\n+OK\r\n:4\r\n");
    // What only reads goes on, in a transaction too and in a script that says so; what may write waits.
    a.check("CLIENT PAUSE 100000 WRITE", "+OK\r\n");
    b.send(&["MULTI", "GET k", "EXEC", "EVAL_RO return\t1 0"]);
    b.expect("+OK\r\n+QUEUED\r\n*1\r\n$1\r\n1\r\n:1\r\n");
    b.send(&[
        "EVAL #!lua\tflags=no-writes\nreturn\t2 0",
        "EVAL return\t3 0",
    ]);
    b.expect(":2\r\n");
    let mut c = Conn::new(server.port);
    c.send(&["MULTI", "EVAL return\t4 0", "EXEC"]);
    c.expect("+OK\r\n");
    let mut d = Conn::new(server.port);
    d.send(&["PUBLISH channel message"]);
    for conn in [&mut b, &mut c, &mut d] {
        conn.expect_silence();
    }
    assert!(a.text("INFO clients").contains("blocked_clients:3\r\n"));
    a.check("CLIENT UNPAUSE", "+OK\r\n");
    b.expect(":3\r\n");
    c.expect("+QUEUED\r\n*1\r\n:4\r\n");
    d.expect(":0\r\n");
    // A pause ends by itself.
    a.check("CLIENT PAUSE 200", "+OK\r\n");
    b.send(&["PING"]);
    b.expect_silence();
    b.expect("+PONG\r\n");
}

#[test]
fn strangers_may_only_log_in() {
    let server = Server::start(2, &["--requirepass", "secret"]);
    let mut c = Conn::new(server.port);
    c.check("GET k", "-NOAUTH Authentication required.\r\n");
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    c.check("AUTH secre", wrong);
    c.check("HELLO 3 AUTH default secrets", wrong);
    c.check("AUTH nobody secret", wrong);
    c.check("PING", "-NOAUTH Authentication required.\r\n");
    // What comes behind AUTH in one piece is run as the new user.
    c.send(&["AUTH secret", "GET k", "RESET", "PING"]);
    c.expect("+OK\r\n$-1\r\n+RESET\r\n-NOAUTH Authentication required.\r\n");
    c.send(&["HELLO 3 AUTH default secret"]);
    c.expect("%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n");
}

#[test]
fn a_client_too_many_is_told_so() {
    let server = Server::start(2, &["--maxclients", "2"]);
    let mut a = Conn::new(server.port);
    // The connection that saw the server start must be gone.
    while a.text("CLIENT LIST").lines().count() > 1 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let mut b = Conn::new(server.port);
    b.check("PING", "+PONG\r\n");
    let mut c = Conn::new(server.port);
    c.expect("-ERR max number of clients reached\r\n");
    c.expect_end();
    a.check("PING", "+PONG\r\n");
}
