//! Starts the server under test, and ends it.

use crate::ports::free_ports;
use crate::resp::Client;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// How a server is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    pub engine: &'static str,
    pub shards: usize,
}

pub const ENGINES: [&str; 2] = ["uring", "epoll"];

/// Both engines, with these numbers of shards.
pub fn setups(shards: &[usize]) -> Vec<Setup> {
    ENGINES
        .iter()
        .flat_map(|&engine| shards.iter().map(move |&shards| Setup { engine, shards }))
        .collect()
}

/// A running server, killed by its process id when dropped.
pub struct Server {
    pub setup: Setup,
    port: u16,
    dir: PathBuf,
    child: Child,
    ended: bool,
}

impl Server {
    pub fn start(setup: Setup) -> Self {
        Self::start_with(setup, &[])
    }

    /// With more directives, as on the command line.
    pub fn start_with(setup: Setup, directives: &[&str]) -> Self {
        // The port may be taken between the choice and the server's bind; then another one is tried.
        for _ in 0..10 {
            let mut server = Self::spawn(setup, directives);
            if server.answers() {
                return server;
            }
            server.ended = true;
            let log = server.log();
            assert!(
                log.contains("Address already in use"),
                "the server did not start:\n{log}"
            );
        }
        panic!("no free port in ten tries");
    }

    fn spawn(setup: Setup, directives: &[&str]) -> Self {
        let port = free_ports(1);
        let dir = env::temp_dir().join(format!("ringwood-wire-{}-{port}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder for the server");
        let log = fs::File::create(dir.join("log")).expect("the server's log file");
        let child = Command::new(env!("CARGO_BIN_EXE_ringwood"))
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--io-engine", setup.engine, "--save", ""])
            .args(["--shards", &setup.shards.to_string()])
            .args(directives)
            .arg("--dir")
            .arg(&dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn()
            .expect("the built server starts");
        Self {
            setup,
            port,
            dir,
            child,
            ended: false,
        }
    }

    /// Waits until the server answers; false when it has ended.
    fn answers(&mut self) -> bool {
        let end = Instant::now() + Duration::from_secs(30);
        while self.child.try_wait().expect("our own child").is_none() {
            if self.log().contains("Ready to accept connections") {
                return true;
            }
            assert!(Instant::now() < end, "no answer:\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
        false
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.port)
    }
    pub fn port(&self) -> u16 {
        self.port
    }
    pub fn stream(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).expect("the server accepts")
    }

    fn log(&self) -> String {
        let log = fs::read(self.dir.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// CPU time of all threads so far.
    pub fn cpu(&self) -> Duration {
        let tasks = format!("/proc/{}/task", self.child.id());
        let ns = fs::read_dir(tasks)
            .expect("a running process's threads")
            .map(|task| {
                let path = task.expect("a thread").path().join("schedstat");
                // A thread that has just ended has used what it has.
                let text = fs::read_to_string(path).unwrap_or_default();
                text.split(' ')
                    .next()
                    .and_then(|n| n.parse::<u64>().ok())
                    .unwrap_or(0)
            })
            .sum();
        Duration::from_nanos(ns)
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        self.ended = true;
        self.child.wait().expect("our own child")
    }

    /// Sends a signal and waits for the end.
    pub fn signal(&mut self, name: &str) -> ExitStatus {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.expect("kill(1) runs").success());
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                self.ended = true;
                return status;
            }
            assert!(Instant::now() < end, "no end after SIG{name}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let died = self.child.try_wait().ok().flatten().filter(|_| !self.ended);
        // Already gone is fine: there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        let _ = fs::remove_dir_all(&self.dir);
        if thread::panicking() {
            eprintln!("{:?}, the server's log:\n{log}", self.setup);
        } else if let Some(status) = died {
            panic!("the server ended by itself with {status}:\n{log}");
        }
    }
}

/// Random numbers that a seed repeats (splitmix64).
pub struct Random(u64);

impl Random {
    /// From RINGWOOD_WIRE_SEED, or from the clock; the seed is printed, which shows when the test fails.
    pub fn seeded() -> Self {
        let seed = env::var("RINGWOOD_WIRE_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| {
                std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .map_or(1, |d| d.as_nanos() as u64)
            });
        println!("RINGWOOD_WIRE_SEED={seed}");
        Self(seed)
    }
    pub fn with(seed: u64) -> Self {
        Self(seed)
    }
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: usize) -> usize {
        ((self.next() as u128 * n as u128) >> 64) as usize
    }
}
