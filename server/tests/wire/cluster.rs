//! A node per core.

use crate::conn::Conn;
use crate::ports::free_ports;
use crate::server::Server;

/// A server of `shards` nodes, and the port of the first.
fn cluster(shards: u16) -> (Server, u16) {
    let port = free_ports(shards);
    let base = port.to_string();
    let options = ["--shard-ports", "yes", "--shard-port-base", &base];
    (Server::start(shards as usize, &options), port)
}

#[test]
fn a_node_serves_its_own_slots_and_speaks_for_itself() {
    let (server, port) = cluster(3);
    let mut nodes: Vec<Conn> = (0..3).map(|i| Conn::new(port + i)).collect();
    // The slots of these are 12182 and 5061, of the third and the first node.
    let moved = |slot: u16, node: u16| format!("-MOVED {slot} 127.0.0.1:{}\r\n", port + node);
    nodes[0].check("SET foo 1", &moved(12182, 2));
    nodes[1].check("GET foo", &moved(12182, 2));
    nodes[2].check("SET foo 1", "+OK\r\n");
    nodes[0].check("SET bar 2", "+OK\r\n");
    let cross = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";
    nodes[0].check("MGET foo bar", cross);
    nodes[0].check("MSET {bar}1 1 {bar}2 2", "+OK\r\n");
    nodes[2].check("MSET {bar}1 1 {bar}2 2", &moved(5061, 0));
    for (node, count) in nodes.iter_mut().zip([3, 0, 1]) {
        node.check("DBSIZE", &format!(":{count}\r\n"));
        node.check("SELECT 1", "-ERR SELECT is not allowed in cluster mode\r\n");
        // It would swap the databases of one core.
        for line in ["SWAPDB 0 1", "MOVE a 1"] {
            let name = line.split(' ').next().expect("a name");
            node.check(
                line,
                &format!("-ERR {name} is not allowed in cluster mode\r\n"),
            );
        }
    }
    nodes[2].check("SCAN 0 COUNT 100", "*2\r\n$1\r\n0\r\n*1\r\n$3\r\nfoo\r\n");
    nodes[1].check("SCAN 0", "*2\r\n$1\r\n0\r\n*0\r\n");
    nodes[1].check("CLUSTER COUNTKEYSINSLOT 5061", ":3\r\n");
    nodes[2].check("FLUSHALL", "+OK\r\n");
    let says = |conn: &mut Conn, line: &str| conn.text("INFO").lines().any(|l| l == line);
    assert!(says(&mut nodes[1], "cluster_enabled:1") && says(&mut nodes[1], "redis_mode:cluster"));
    // The common port knows no nodes.
    let mut common = Conn::new(server.port);
    assert!(says(&mut common, "cluster_enabled:0") && says(&mut common, "redis_mode:standalone"));
    common.check("DBSIZE", ":3\r\n");
    common.check("MGET foo bar", "*2\r\n$-1\r\n$1\r\n2\r\n");
}

#[test]
fn nodes_agree_on_who_they_are() {
    let (_server, port) = cluster(3);
    let views: Vec<String> = (0..3)
        .map(|i| {
            let mut node = Conn::new(port + i);
            let id = node.text("CLUSTER MYID");
            let text = node.text("CLUSTER NODES");
            let myself = format!("{id} 127.0.0.1:{}@0 myself,master", port + i);
            assert!(text.contains(&myself), "{text}");
            text.replace("myself,", "")
        })
        .collect();
    assert!(views.iter().all(|v| *v == views[0]), "{views:?}");
    let ranges: Vec<&str> = views[0]
        .lines()
        .filter_map(|l| l.rsplit(' ').next())
        .collect();
    assert_eq!(ranges, ["0-5461", "5462-10922", "10923-16383"]);
}

#[test]
fn one_core_is_a_cluster_too_and_without_ports_there_is_none() {
    let (_server, port) = cluster(1);
    let mut node = Conn::new(port);
    node.check("SET foo 1", "+OK\r\n");
    node.check(
        "MGET foo bar",
        "-CROSSSLOT Keys in request don't hash to the same slot\r\n",
    );
    node.check("CLUSTER KEYSLOT foo", ":12182\r\n");
    let server = Server::start(1, &[]);
    let disabled = "-ERR This instance has cluster support disabled\r\n";
    for command in ["CLUSTER SLOTS", "CLUSTER KEYSLOT foo", "READONLY"] {
        Conn::new(server.port).check(command, disabled);
    }
}
