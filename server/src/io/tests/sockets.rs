//! Listeners, addresses, unix sockets, signals, wake-ups.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

fn socket_path(name: &str) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!(
        "ringwood-{}-{count}-{name}.sock",
        std::process::id()
    ))
}

pub(super) fn unix_socket<I: Backend>(io: I) {
    let path = socket_path("suite");
    // A file that a server left behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut world = World::new(io);
    let listener = Listener::unix(&path, Some(0o640), None, 16).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o640
    );
    world.io.listen(listener, ListenerId(2));
    let mut client = UnixStream::connect(&path).unwrap();
    let conn = match world.next() {
        Event::Accepted {
            listener,
            stream,
            peer,
            local,
        } => {
            assert_eq!(listener, ListenerId(2));
            assert_eq!(
                (peer, local),
                (
                    format!("{}:0", path.display()),
                    format!("{}:0", path.display())
                )
            );
            world.io.adopt(stream)
        }
        event => panic!("unexpected {event:?}"),
    };
    let bytes = pattern(100_000);
    client.write_all(&bytes).unwrap();
    assert_eq!(world.receive(conn, bytes.len()), bytes);
    world.io.send(conn, bytes.clone());
    world.sent(conn);
    let mut back = vec![0; bytes.len()];
    client.read_exact(&mut back).unwrap();
    assert_eq!(back, bytes);
    world.io.keepalive(conn, 300);
    world.io.unlisten(ListenerId(2));
    for _ in 0..3 {
        world.turn(Duration::from_millis(5));
    }
    assert!(!path.exists(), "the socket's file stays behind");
    world.close_and_wait(conn, true);
}

pub(super) fn addresses_and_options<I: Backend>(io: I) {
    let mut world = World::new(io);
    let client = TcpStream::connect(world.addr).unwrap();
    match world.next() {
        Event::Accepted {
            listener,
            stream,
            peer,
            local,
        } => {
            assert_eq!(listener, ListenerId(1));
            assert_eq!(peer, client.local_addr().unwrap().to_string());
            assert_eq!(local, world.addr.to_string());
            let fd = std::os::fd::AsFd::as_fd(&stream)
                .try_clone_to_owned()
                .unwrap();
            let conn = world.io.adopt(stream);
            world.io.keepalive(conn, 90);
            let socket = socket2::Socket::from(fd);
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(
                socket.tcp_keepalive_time().unwrap(),
                Duration::from_secs(90)
            );
            assert_eq!(
                socket.tcp_keepalive_interval().unwrap(),
                Duration::from_secs(30)
            );
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
            world.io.keepalive(conn, 0);
            assert!(!socket.keepalive().unwrap());
        }
        event => panic!("unexpected {event:?}"),
    }
}

pub(super) fn unlisten<I: Backend>(io: I) {
    let mut world = World::new(io);
    let (mut client, conn) = world.client();
    let second = Listener::tcp("127.0.0.1:0".parse().unwrap(), 5).unwrap();
    let second_addr = second.tcp_addr().unwrap();
    world.io.listen(second, ListenerId(2));
    world.turn(Duration::from_millis(1));
    world.io.unlisten(ListenerId(1));
    world.io.unlisten(ListenerId(99));
    for _ in 0..3 {
        world.turn(Duration::from_millis(5));
    }
    let refused = TcpStream::connect(world.addr).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    // What was accepted goes on, and so does the other listener.
    client.write_all(b"hello").unwrap();
    assert_eq!(world.receive(conn, 5), b"hello");
    world.addr = second_addr;
    let (_client, _) = world.client();
}

/// A stream accepted by one core and served by another, on another thread.
pub(super) fn adopted_elsewhere<I: Backend>(io: I, other: fn() -> I) {
    let mut world = World::new(io);
    let mut client = TcpStream::connect(world.addr).unwrap();
    let Event::Accepted { stream, .. } = world.next() else {
        panic!("not accepted")
    };
    client.write_all(b"before it is served").unwrap();
    std::thread::spawn(move || {
        let mut there = World::new(other());
        let conn = there.io.adopt(stream);
        assert_eq!(there.receive(conn, 19), b"before it is served");
        there.io.send(conn, b"ok".to_vec());
        there.sent(conn);
        there.close_and_wait(conn, true);
    })
    .join()
    .unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"ok");
    world.silence();
}

/// Two cores that wake each other in turn, and sleep long: one lost wake-up, and the test takes an hour.
pub(super) fn no_wake_up_is_lost<I: Backend>(io: I, other: fn() -> I) {
    const ROUNDS: u64 = 20_000;
    struct Side {
        sleeps: AtomicBool,
        /// The number of the last message to this side.
        mailbox: AtomicU64,
    }
    let side = || Side {
        sleeps: AtomicBool::new(false),
        mailbox: AtomicU64::new(0),
    };
    let sides = Arc::new([side(), side()]);
    let (to_there, from_here) = std::sync::mpsc::channel();
    let (to_here, from_there) = std::sync::mpsc::channel();
    fn run<I: Backend>(io: &mut I, me: usize, sides: &[Side; 2]) {
        let mut events = Vec::new();
        let mut seen = 0;
        let start = Instant::now();
        if me == 0 {
            sides[1].mailbox.store(1, Ordering::SeqCst);
            io.wake(1);
        }
        while seen < ROUNDS {
            // The protocol of the mailboxes: say that we sleep, look once more, sleep.
            sides[me].sleeps.store(true, Ordering::SeqCst);
            let message = sides[me].mailbox.load(Ordering::SeqCst);
            let wait = if message > seen {
                Wait::Poll
            } else {
                Wait::AtMost(Duration::from_secs(3600))
            };
            io.turn(wait, &mut events).unwrap();
            assert!(events.is_empty());
            sides[me].sleeps.store(false, Ordering::SeqCst);
            let message = sides[me].mailbox.load(Ordering::SeqCst);
            if message > seen {
                seen = message;
                sides[1 - me]
                    .mailbox
                    .store(message + u64::from(me == 1), Ordering::SeqCst);
                if sides[1 - me].sleeps.load(Ordering::SeqCst) {
                    io.wake(1 - me);
                }
            }
        }
        // The last wake-up goes out, too.
        io.turn(Wait::Poll, &mut events).unwrap();
        assert!(start.elapsed() < PATIENCE * 3);
    }
    let thread = {
        let sides = sides.clone();
        std::thread::spawn(move || {
            let mut io = other();
            to_here.send(io.waker()).unwrap();
            let wakers: Vec<I::Waker> = from_here.recv().unwrap();
            io.connect(wakers);
            run(&mut io, 1, &sides);
        })
    };
    let mut io = io;
    let wakers = vec![io.waker(), from_there.recv().unwrap()];
    to_there.send(wakers.clone()).unwrap();
    io.connect(wakers);
    run(&mut io, 0, &sides);
    thread.join().unwrap();
    // A core that has ended can still be woken, to no effect.
    io.wake(1);
    io.turn(Wait::Poll, &mut Vec::new()).unwrap();
}

/// A core that waits for another within its own turn wakes it without one.
pub(super) fn wakes_can_be_pushed<I: Backend>(mut io: I, other: fn() -> I) {
    let (to_there, from_here) = std::sync::mpsc::channel();
    let (to_here, from_there) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut io = other();
        to_here.send(io.waker()).unwrap();
        let wakers: Vec<I::Waker> = from_here.recv().unwrap();
        io.connect(wakers);
        let start = Instant::now();
        io.turn(Wait::AtMost(PATIENCE), &mut Vec::new()).unwrap();
        start.elapsed()
    });
    let wakers = vec![io.waker(), from_there.recv().unwrap()];
    to_there.send(wakers.clone()).unwrap();
    io.connect(wakers);
    io.wake(1);
    io.push_wakes();
    // This core takes no turn until the other has had its own.
    assert!(thread.join().unwrap() < PATIENCE);
}

/// A wait is neither longer nor much shorter than asked for, and `Poll` is no wait at all.
pub(super) fn waits_are_kept<I: Backend>(io: I) {
    let mut world = World::new(io);
    world.turn(Duration::ZERO);
    let start = Instant::now();
    world.turn(Duration::from_millis(50));
    let waited = start.elapsed();
    assert!(
        waited >= Duration::from_millis(49) && waited < PATIENCE,
        "{waited:?}"
    );
    let start = Instant::now();
    for _ in 0..100 {
        world.io.turn(Wait::Poll, &mut Vec::new()).unwrap();
    }
    assert!(start.elapsed() < PATIENCE);
    let before = world.io.now();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(
        world.io.now(),
        before,
        "the clock stands still within a turn"
    );
    assert!(world.io.mono_ns() > before.mono_ns + 19_000_000);
    world.turn(Duration::ZERO);
    assert!(world.io.now().mono_ns > before.mono_ns + 19_000_000);
    assert!(world.io.now().unix_ms >= before.unix_ms + 18);
}

/// `ready` says that a turn would find something, without a turn.
pub(super) fn ready_sees_arrivals<I: Backend>(io: I) {
    let mut world = World::new(io);
    let (mut client, conn) = world.client();
    world.silence();
    assert!(!world.io.ready());
    client.write_all(b"x").unwrap();
    let start = Instant::now();
    while !world.io.ready() {
        assert!(start.elapsed() < PATIENCE);
    }
    world.turn(Duration::ZERO);
    assert!(
        matches!(world.queue.front(), Some(Event::Received { conn: from, .. }) if *from == conn)
    );
    world.receive(conn, 1);
    world.io.send(conn, b"y".to_vec());
    assert!(world.io.ready());
}
