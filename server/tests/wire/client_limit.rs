//! `maxmemory-clients`: the largest connections go, of whatever core; those that are exempt and all smaller ones stay.

use crate::server::{Client, Server};

/// What one client sends of a command that never ends.
fn hoard(client: &mut Client, bytes: usize) {
    let mut part = format!("*2\r\n${}\r\n", bytes * 2).into_bytes();
    part.resize(part.len() + bytes, b'x');
    // It may be closed while it sends.
    client.try_send(&part);
}
fn named(server: &Server, name: &str) -> Client {
    let mut client = server.client();
    assert_eq!(client.call(&format!("CLIENT SETNAME {name}")), "+OK\r\n");
    client
}
fn names(control: &mut Client) -> Vec<String> {
    let list = control.call("CLIENT LIST");
    let names = list
        .split(' ')
        .filter_map(|word| word.strip_prefix("name="));
    let mut names: Vec<String> = names.filter(|n| !n.is_empty()).map(Into::into).collect();
    names.sort_unstable();
    names
}
fn field(client: &mut Client, section: &str, name: &str) -> u64 {
    let text = client.call(&format!("INFO {section}"));
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|v| v.parse().ok()).expect("a number")
}
/// Waits until the server has seen so much of everybody.
fn until_held(control: &mut Client, bytes: u64) {
    while field(control, "memory", "mem_clients_normal") < bytes {
        std::thread::yield_now();
    }
}

#[test]
fn the_largest_clients_go_whatever_core_they_are_on() {
    for shards in [1, 4] {
        let server = Server::start(shards, &["--save", ""]);
        let mut control = server.client();
        let mut clients: Vec<Client> = (0..8).map(|n| named(&server, &format!("c{n}"))).collect();
        // A buffer for twice as much is made at once.
        for (n, client) in clients.iter_mut().enumerate() {
            hoard(client, if n == 5 { 1 << 20 } else { 128 << 10 });
        }
        until_held(&mut control, (7 * 256 + 2048) << 10);
        assert_eq!(names(&mut control).len(), 8);
        assert_eq!(control.call("CONFIG SET maxmemory-clients 3mb"), "+OK\r\n");
        // Whoever goes reads its end; nobody else may.
        assert_eq!(clients[5].reply(), None, "{shards} shards");
        let left = ["c0", "c1", "c2", "c3", "c4", "c6", "c7"];
        assert_eq!(names(&mut control), left, "{shards} shards");
        assert_eq!(field(&mut control, "stats", "evicted_clients"), 1);
        // Then one that asks for too much while the limit holds.
        let mut late = named(&server, "late");
        hoard(&mut late, 2 << 20);
        assert_eq!(late.reply(), None);
        assert_eq!(names(&mut control), left);
        assert_eq!(control.call("CONFIG SET maxmemory-clients 0"), "+OK\r\n");
        let mut free = named(&server, "free");
        hoard(&mut free, 2 << 20);
        until_held(&mut control, (7 * 256 + 4096) << 10);
        assert!(names(&mut control).contains(&"free".to_string()));
    }
}

#[test]
fn who_is_exempt_counts_but_stays() {
    for shards in [1, 2] {
        let server = Server::start(shards, &["--save", "", "--maxmemory-clients", "1mb"]);
        let mut control = server.client();
        assert_eq!(control.call("CLIENT NO-EVICT on"), "+OK\r\n");
        let mut exempt = named(&server, "exempt");
        assert_eq!(exempt.call("CLIENT NO-EVICT on"), "+OK\r\n");
        hoard(&mut exempt, 1 << 20);
        until_held(&mut control, 2 << 20);
        assert_eq!(names(&mut control), ["exempt"]);
        // It takes all there is, so everybody else goes.
        let mut other = server.client();
        let _ = other.try_ask(&["PING"]);
        while other.reply().is_some() {}
        assert_eq!(names(&mut control), ["exempt"], "{shards} shards");
        assert!(field(&mut control, "stats", "evicted_clients") >= 1);
    }
}

/// What is queued, watched, subscribed to and not taken counts too.
#[test]
fn what_a_client_makes_the_server_keep_counts() {
    let server = Server::start(1, &["--save", "", "--maxmemory-clients", "400kb"]);
    let mut control = server.client();
    assert_eq!(control.call("CLIENT NO-EVICT on"), "+OK\r\n");
    assert_eq!(
        control.call(&format!("SET big {}", "x".repeat(100_000))),
        "+OK\r\n"
    );
    let big = "y".repeat(20_000);
    type Way<'a> = (&'a str, &'a dyn Fn(usize) -> Vec<String>);
    let ways: [Way<'_>; 5] = [
        ("MULTI", &|_| vec!["SET".into(), "k".into(), big.clone()]),
        ("PING", &|n| vec!["WATCH".into(), format!("{n}{big}")]),
        ("PING", &|n| vec!["SUBSCRIBE".into(), format!("{n}{big}")]),
        ("PING", &|n| vec!["PSUBSCRIBE".into(), format!("{n}{big}")]),
        ("HELLO 3", &|n| {
            let words = ["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX"];
            let mut words: Vec<String> = words.map(String::from).into();
            words.push(format!("{n}{big}"));
            words
        }),
    ];
    for (first, more) in ways {
        let mut client = server.client();
        assert!(client.call(first).len() > 2);
        // 100 times 20 KB are five times the limit.
        let mut kept = 0;
        for n in 0..100 {
            let words = more(n);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            if !client.try_ask(&words) || client.reply().is_none() {
                break;
            }
            kept += 1;
        }
        assert!((5..30).contains(&kept), "{first} {:?}: {kept}", more(0)[0]);
    }
}
