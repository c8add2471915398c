//! Ten thousand connections, and what else needs a process of its own: limits and signals belong to the process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use super::*;

/// Runs one of the ignored tests below in a process of its own.
fn isolated(test: &str, argument: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            &format!("io::tests::many::{test}"),
            "--ignored",
            "--nocapture",
        ])
        .env("RINGWOOD_TEST_ARGUMENT", argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn argument() -> String {
    std::env::var("RINGWOOD_TEST_ARGUMENT").expect("run by another test, with an argument")
}

/// The limit on descriptors, raised as far as allowed.
fn descriptors() -> usize {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for the limits, and then holds them.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
    limit.rlim_cur as usize
}

/// The clients of `ten_thousand_connections`, which need descriptors of their own: connects, then for each line on
/// stdin sends 10 bytes over each connection, all at once, and reads them back.
#[test]
#[ignore = "a part of another test"]
fn clients() {
    descriptors();
    let (addr, count) = argument()
        .split_once(' ')
        .map(|(a, b)| (a.to_string(), b.parse::<usize>().unwrap()))
        .unwrap();
    let mut clients: Vec<TcpStream> = (0..count)
        .map(|_| TcpStream::connect(&addr).unwrap())
        .collect();
    println!("\nconnected");
    for line in std::io::stdin().lock().lines() {
        let round: u8 = line.unwrap().trim().parse().unwrap();
        for (index, client) in clients.iter_mut().enumerate() {
            client.write_all(&[round ^ index as u8; 10]).unwrap();
        }
        for (index, client) in clients.iter_mut().enumerate() {
            let mut back = [0; 10];
            client.read_exact(&mut back).unwrap();
            assert_eq!(back, [round ^ index as u8; 10]);
        }
        println!("\nround {round}");
    }
}

pub(super) fn ten_thousand_connections<I: Backend>(io: I) {
    const WANTED: usize = 10_000;
    /// Two backends' at once would need more descriptors than a process may have.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = crate::commands::lock(&ALONE);
    // Other tests of this process need some, too.
    let count = WANTED.min(descriptors().saturating_sub(2000) / 2 * 2);
    assert!(
        count >= 100,
        "the limit on descriptors leaves no room for this test"
    );
    let mut world = World::new(io);
    let mut child = isolated("clients", &format!("{} {count}", world.addr));
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (say, said) = std::sync::mpsc::channel();
    let listener = std::thread::spawn(move || {
        for line in lines {
            let line = line.unwrap();
            if line == "connected" || line.starts_with("round ") {
                say.send(line).unwrap();
            }
        }
    });
    let mut stdin = child.stdin.take().unwrap();
    let mut served = 0;
    let mut rounds = 0;
    let mut events = Vec::new();
    // What each connection brought, in one piece or two.
    let mut got: Vec<Vec<u8>> = vec![Vec::new(); count];
    let start = Instant::now();
    while rounds < 4 {
        assert!(
            start.elapsed() < PATIENCE * 4,
            "stuck with {served} connections in round {rounds}"
        );
        world
            .io
            .turn(Wait::AtMost(Duration::from_millis(20)), &mut events)
            .unwrap();
        for event in events.drain(..) {
            match event {
                Event::Accepted { stream, .. } => {
                    assert!(
                        (world.io.adopt(stream).0 as usize) < count,
                        "numbers are not dense"
                    );
                    served += 1;
                }
                Event::Received { conn, buf } => {
                    let got = &mut got[conn.0 as usize];
                    got.extend_from_slice(&buf);
                    world.io.release(buf);
                    if got.len() == 10 {
                        world.io.send(conn, std::mem::take(got));
                    }
                }
                Event::Sent { .. } => {}
                event => panic!("unexpected {event:?}"),
            }
        }
        // The last of the clients may be connected, and not accepted yet.
        if served == count
            && let Ok(line) = said.try_recv()
        {
            rounds += usize::from(line != "connected");
            if rounds < 4 {
                writeln!(stdin, "{rounds}").unwrap();
            }
        }
    }
    drop(stdin);
    let mut ended = 0;
    while ended < count {
        world
            .io
            .turn(Wait::AtMost(Duration::from_millis(20)), &mut events)
            .unwrap();
        assert!(
            start.elapsed() < PATIENCE * 4,
            "stuck with {ended} ended connections"
        );
        for event in events.drain(..) {
            match event {
                Event::Eof { conn } => world.io.close(conn, false),
                Event::Closed { .. } => ended += 1,
                event => panic!("unexpected {event:?}"),
            }
        }
    }
    assert!(child.wait().unwrap().success());
    listener.join().unwrap();
    world.silence();
}

/// Tells the backends apart on the way into another process.
fn each(run: impl Fn(&str)) {
    for name in ["epoll", "uring", "plain"] {
        run(name);
    }
}

fn succeeds(test: &str, name: &str) {
    let output = isolated(test, name).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{name}: {text}"
    );
}

#[test]
fn descriptors_run_out() {
    each(|name| succeeds("without_descriptors", name));
}

#[test]
#[ignore = "a part of another test"]
fn without_descriptors() {
    match argument().as_str() {
        "epoll" => accept_fails(Epoll::new().unwrap()),
        "uring" => accept_fails(Uring::new(&Options::default()).unwrap()),
        _ => accept_fails(
            Uring::new(&Options {
                plain: true,
                ..Options::default()
            })
            .unwrap(),
        ),
    }
}

fn accept_fails<I: Backend>(io: I) {
    // Before all else: io_uring notes the limit when it begins to accept.
    let limit = libc::rlimit {
        rlim_cur: 200,
        rlim_max: 200,
    };
    // SAFETY: `limit` is valid.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let mut world = World::new(io);
    let (mut client, conn) = world.client();
    // As many descriptors as there are: none is left to accept with.
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    // One for the client, whose server side is then one too many.
    hoard.pop();
    let mut waiting = TcpStream::connect(world.addr).unwrap();
    for _ in 0..2 {
        match world.next() {
            Event::AcceptFailed { listener, errno } => {
                assert_eq!((listener, errno), (ListenerId(1), libc::EMFILE))
            }
            event => panic!("unexpected {event:?}"),
        }
    }
    // It pauses rather than spins, and serves meanwhile.
    let start = Instant::now();
    let mut failures = 0;
    while start.elapsed() < Duration::from_millis(350) {
        world.turn(Duration::from_millis(50));
        failures += world.queue.len();
        world.queue.clear();
    }
    assert!((1..=5).contains(&failures), "{failures} tries in 350 ms");
    client.write_all(b"served").unwrap();
    while let Some(event) = world.queue.pop_front() {
        assert!(matches!(event, Event::AcceptFailed { .. }));
    }
    loop {
        match world.next() {
            Event::AcceptFailed { .. } => {}
            Event::Received { conn: from, buf } => {
                assert_eq!((from, &*buf), (conn, &b"served"[..]));
                world.io.release(buf);
                break;
            }
            event => panic!("unexpected {event:?}"),
        }
    }
    drop(hoard);
    let conn = loop {
        match world.next() {
            Event::AcceptFailed { .. } => {}
            Event::Accepted { stream, .. } => break world.io.adopt(stream),
            event => panic!("unexpected {event:?}"),
        }
    };
    waiting.write_all(b"at last").unwrap();
    assert_eq!(world.receive(conn, 7), b"at last");
}

#[test]
fn signals_are_events() {
    each(|name| succeeds("with_signals", name));
}

#[test]
#[ignore = "a part of another test"]
fn with_signals() {
    match argument().as_str() {
        "epoll" => signalled(Epoll::new().unwrap()),
        "uring" => signalled(Uring::new(&Options::default()).unwrap()),
        _ => signalled(
            Uring::new(&Options {
                plain: true,
                ..Options::default()
            })
            .unwrap(),
        ),
    }
}

fn signalled<I: Backend>(io: I) {
    let mut world = World::new(io);
    world.io.watch_signals().unwrap();
    for number in [libc::SIGTERM, libc::SIGINT, libc::SIGTERM] {
        // To any thread of the process, as `kill` does.
        // SAFETY: sends a signal that is handled.
        assert_eq!(unsafe { libc::kill(libc::getpid(), number) }, 0);
        match world.next() {
            Event::Signal { number: seen } => assert_eq!(seen, number),
            event => panic!("unexpected {event:?}"),
        }
    }
    // A signal during a wait ends neither the process nor the loop.
    let start = Instant::now();
    let thread = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(30));
        // SAFETY: as above.
        unsafe { libc::kill(libc::getpid(), libc::SIGINT) };
    });
    assert!(matches!(
        world.next(),
        Event::Signal {
            number: libc::SIGINT
        }
    ));
    assert!(start.elapsed() >= Duration::from_millis(25));
    thread.join().unwrap();
    world.silence();
}

/// Without io_uring, as under a container's filter, the error is one to fall back on, and says why.
#[test]
fn io_uring_is_forbidden() {
    for (errno, reason) in [(libc::EPERM, "forbidden"), (libc::ENOSYS, "no io_uring")] {
        // A filter holds for the thread that installs it.
        let refused = std::thread::spawn(move || {
            forbid(libc::SYS_io_uring_setup, errno);
            Epoll::new().unwrap();
            Uring::new(&Options::default()).err().unwrap()
        });
        let error = refused.join().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
        assert!(error.to_string().contains(reason), "{error}");
    }
}

/// The epoll backend without the newest way to wait.
#[test]
fn coarse_waits() {
    let thread = std::thread::spawn(|| {
        forbid(libc::SYS_epoll_pwait2, libc::ENOSYS);
        let mut world = World::new(Epoll::new().unwrap());
        let start = Instant::now();
        world.turn(Duration::from_micros(300));
        assert!(start.elapsed() >= Duration::from_micros(300));
        super::receive::echo(Epoll::new().unwrap());
    });
    thread.join().unwrap();
}

/// Makes a system call fail in this thread from now on.
fn forbid(call: libc::c_long, errno: i32) {
    let rule = |code: u32, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    let filter = [
        // The number of the call, at the start of the data.
        rule(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        rule(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, call as u32),
        rule(
            libc::BPF_RET | libc::BPF_K,
            0,
            libc::SECCOMP_RET_ERRNO | errno as u32,
        ),
        rule(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the program is copied during the call, and only lets calls of this thread fail.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program
            ),
            0
        );
    }
}

/// A burst of many connections makes the receive buffers grow; a quiet time gives them back.
#[test]
fn buffers_grow_and_shrink() {
    for plain in [false, true] {
        let options = Options {
            plain,
            ..Options::default()
        };
        let mut world = World::new(Uring::new(&options).unwrap());
        let mut clients: Vec<TcpStream> = (0..400)
            .map(|_| TcpStream::connect(world.addr).unwrap())
            .collect();
        for _ in &clients {
            world.adopt_next();
        }
        let at_first = world.io.buffer_memory();
        for _ in 0..10 {
            clients
                .iter_mut()
                .for_each(|client| client.write_all(&[7; 3000]).unwrap());
            let mut got = 0;
            while got < 3000 * clients.len() {
                match world.next() {
                    Event::Received { buf, .. } => {
                        got += buf.len();
                        world.io.release(buf);
                    }
                    event => panic!("unexpected {event:?}"),
                }
            }
        }
        let grown = world.io.buffer_memory();
        assert!(
            grown >= at_first * 2 && grown <= options.memory_max + (1 << 20),
            "{at_first} to {grown}"
        );
        // Those in the kernel's hands come back as they are used.
        let start = Instant::now();
        while world.io.buffer_memory() > grown / 2 {
            assert!(start.elapsed() < PATIENCE, "memory is kept");
            clients[0].write_all(&[7; 60_000]).unwrap();
            std::thread::sleep(Duration::from_millis(10));
            world.turn(Duration::from_millis(50));
            for event in world.queue.drain(..) {
                match event {
                    Event::Received { buf, .. } => world.io.release(buf),
                    event => panic!("unexpected {event:?}"),
                }
            }
        }
    }
}
