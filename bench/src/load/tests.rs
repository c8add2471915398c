//! Runs of load on servers inside of the test: the raw floor, and small ones with scripted answers.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::floor::{self, Kind};
use crate::keys::{Distribution, KeyPicker};
use crate::template::Template;

/// A raw floor on a port of its own; its thread ends with the test's process.
fn floor_server(request_size: usize) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let args = floor::ServerArgs {
        kind: Kind::Raw,
        port,
        reply_size: 11,
        request_size,
    };
    std::thread::spawn(move || floor::serve_on(listener, &args).unwrap());
    Target::local(port)
}

/// A server that answers every read that ends a request with `answer` of the request's text.
fn scripted(answer: impl Fn(u16, &str) -> String + Send + Sync + 'static) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), Arc::clone(&answer));
            std::thread::spawn(move || {
                let mut buf = [0; 4096];
                // The client waits for each reply, so a read is a request.
                while let Ok(len @ 1..) = stream.read(&mut buf) {
                    let reply = answer(port, &String::from_utf8_lossy(&buf[..len]));
                    if stream.write_all(reply.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Target::local(port)
}

fn shape() -> KeyShape {
    KeyShape::new("key:", 11, 1000).unwrap()
}

fn plan(targets: Vec<Target>, pipeline: usize, bound: Bound) -> Plan {
    Plan {
        targets,
        owners: None,
        greeting: Greeting::default(),
        threads: 2,
        connections: 4,
        pipeline,
        mix: Mix::one(Template::parse("GET __key__", &shape(), 8).unwrap()),
        keys: Keys::Pick(KeyPicker::new(Distribution::Uniform, 1000).unwrap()),
        rate: None,
        warmup: Duration::from_millis(20),
        bound,
        cpus: Vec::new(),
        pid: Some(std::process::id()),
        progress: false,
    }
}

/// `*2 $3 GET $11 key:0000000` with line ends.
const GET_SIZE: usize = 31;

#[test]
fn every_request_of_a_bounded_run_is_answered_and_counted() {
    for request_size in [0, GET_SIZE] {
        let target = floor_server(request_size);
        // Batches that do not divide the number of requests, and are larger than a receive buffer.
        for pipeline in [1, 7, 3000] {
            let report = run(&plan(
                vec![target.clone()],
                pipeline,
                Bound::Requests(10_000),
            ))
            .unwrap();
            assert_eq!((report.requests, report.errors), (10_000, 0));
            assert_eq!(report.latency.len(), 10_000);
            assert_eq!(report.bytes_in, 110_000);
            assert_eq!(report.bytes_out, 10_000 * GET_SIZE as u64);
            assert!(report.usage.unwrap().cpu_ns > 0);
        }
    }
}

#[test]
fn a_timed_run_measures_its_window() {
    let target = floor_server(GET_SIZE);
    let report = run(&plan(
        vec![target],
        4,
        Bound::Time(Duration::from_millis(200)),
    ))
    .unwrap();
    assert!((0.15..5.0).contains(&report.seconds), "{}", report.seconds);
    assert!(report.requests > 0 && !report.latency.is_empty());
    // The same window for both but for the moment between reading the counters and letting latencies count.
    assert!(
        report.latency.len() < report.requests * 2 && report.requests < report.latency.len() * 2
    );
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let target = floor_server(GET_SIZE);
    let mut plan = plan(vec![target], 1, Bound::Requests(500));
    plan.rate = Some(1000.0);
    let report = run(&plan).unwrap();
    assert_eq!(report.requests, 500);
    // Half a second by the schedule; never sooner, later only on a busy machine.
    assert!(report.seconds > 0.45, "{}", report.seconds);
}

/// A server that stalls: in an open loop the requests that were due meanwhile show it too.
#[test]
fn an_open_loop_corrects_for_coordinated_omission() {
    let stalled = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let target = scripted(move |_, _| {
        if !stalled.swap(true, Relaxed) {
            std::thread::sleep(Duration::from_millis(300));
        }
        "+OK\r\n".into()
    });
    let mut plan = plan(vec![target], 1, Bound::Requests(400));
    (plan.threads, plan.connections, plan.rate) = (1, 1, Some(1000.0));
    let report = run(&plan).unwrap();
    let slow = report.latency.count_between(50_000_000, u64::MAX);
    assert!(
        slow >= 200,
        "{slow} of 400 requests saw the stall of 300 ms"
    );
}

#[test]
fn error_replies_are_counted_and_shown() {
    let target = scripted(|_, _| "-ERR not today\r\n".into());
    let report = run(&plan(vec![target], 1, Bound::Requests(40))).unwrap();
    assert_eq!((report.requests, report.errors), (40, 40));
    assert_eq!(report.last_error.as_deref(), Some("ERR not today"));
}

#[test]
fn a_closed_connection_and_a_wrong_reply_end_the_run() {
    for reply in ["", "what\r\n", "+OK\r\n+OK\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::local(listener.local_addr().unwrap().port());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let _ = stream.read(&mut [0; 100]);
                    let _ = stream.write_all(reply.as_bytes());
                });
            }
        });
        assert!(
            run(&plan(vec![target], 1, Bound::Requests(40))).is_err(),
            "{reply:?}"
        );
    }
}

/// Two nodes with half of the slots each: the load goes to the owners, and follows slots that move.
#[test]
fn cluster_load_follows_the_owners() {
    let ports: Arc<Mutex<Vec<u16>>> = Arc::default();
    let moved = Arc::new(AtomicU64::new(0));
    let node = |first: bool| {
        let (ports, moved) = (Arc::clone(&ports), Arc::clone(&moved));
        move |port: u16, request: &str| {
            let ports = ports.lock().unwrap().clone();
            // After a while the slots from 4096 on are the second node's.
            let border = if moved.load(Relaxed) < 500 {
                8192
            } else {
                4096
            };
            if request.contains("CLUSTER") {
                let range = |from: u16, to: u16, port: u16| {
                    format!(
                        "*3\r\n:{from}\r\n:{to}\r\n*3\r\n$9\r\n127.0.0.1\r\n:{port}\r\n$2\r\nid\r\n"
                    )
                };
                return format!(
                    "*2\r\n{}{}",
                    range(0, border - 1, ports[0]),
                    range(border, 16383, ports[1])
                );
            }
            moved.fetch_add(1, Relaxed);
            let key = request.split("\r\n").nth(4).unwrap();
            let slot = ringwood_protocol::slot::key_slot(key.as_bytes());
            if (slot < border) == first {
                "+OK\r\n".into()
            } else {
                format!("-MOVED {slot} 127.0.0.1:{port}\r\n")
            }
        }
    };
    let targets = vec![scripted(node(true)), scripted(node(false))];
    for target in &targets {
        let Target::Tcp(addr) = target else {
            panic!("a TCP address")
        };
        ports.lock().unwrap().push(addr.port());
    }
    let mut client =
        Client::connect(&targets[0], &Greeting::default(), Duration::from_secs(5)).unwrap();
    let slots = SlotMap::fetch(&mut client).unwrap();
    let map = OwnerMap::new(&slots, &shape(), 1000).unwrap();
    let owners = Owners {
        map: Arc::new(map),
        shape: shape(),
        key_count: 1000,
        fixed: None,
    };
    let run_some = |requests| {
        let mut plan = plan(targets.clone(), 1, Bound::Requests(requests));
        plan.owners = Some(owners.clone());
        run(&plan).unwrap()
    };
    let report = run_some(400);
    assert_eq!((report.requests, report.errors, report.moved), (400, 0, 0));
    // The map changes under way: some requests are redirected, then none any more.
    let report = run_some(20_000);
    assert_eq!(report.errors, 0);
    assert!((1..10_000).contains(&report.moved), "{}", report.moved);
}
