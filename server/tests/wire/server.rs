//! A server process, and a client that writes raw requests and reads raw replies.

use crate::ports::free_ports;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Killed by its process id when dropped.
pub struct Server {
    pub port: u16,
    child: Child,
    dir: PathBuf,
}

impl Server {
    /// Starts the binary under test; `options` are directives as on the command line.
    pub fn start(shards: usize, options: &[&str]) -> Self {
        Self::start_through(&[], shards, options)
    }
    /// The same, by a command that runs the words behind it.
    pub fn start_through(through: &[&str], shards: usize, options: &[&str]) -> Self {
        let mut server = Self::start_loading(through, shards, options);
        let gone = server.child.try_wait().expect("it can be asked");
        assert!(gone.is_none(), "{}", server.log());
        if options.contains(&"--dir") {
            // What lies there is loaded.
            let mut c = server.client();
            let end = Instant::now() + Duration::from_secs(20);
            while c.call("PING").starts_with("-LOADING") {
                assert!(Instant::now() < end, "{}", server.log());
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        server
    }
    /// The same; it may still be loading its data, or have ended over them.
    pub fn start_loading(through: &[&str], shards: usize, options: &[&str]) -> Self {
        let port = free_ports(1);
        let dir = std::env::temp_dir().join(format!("ringwood-wire-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let log = File::create(dir.join("log")).expect("a log file");
        let mut words = through.to_vec();
        words.push(env!("CARGO_BIN_EXE_ringwood"));
        let child = Command::new(words[0])
            .args(&words[1..])
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--shards", &shards.to_string()])
            .args(options)
            .current_dir(&dir)
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let mut server = Self { port, child, dir };
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let gone = server.child.try_wait().expect("it can be asked");
            if gone.is_some() {
                break;
            }
            assert!(Instant::now() < end, "{}", server.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }
    pub fn client(&self) -> Client {
        self.try_client().expect("it listens")
    }
    pub fn try_client(&self) -> Option<Client> {
        Client::try_to(self.port)
    }
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
    /// SIGKILL, while others may still use it.
    pub fn kill(&self) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", "KILL", &pid]).status();
        assert!(sent.expect("kill(1) runs").success());
    }
    /// Waits for the process to end by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be asked") {
                return status;
            }
            assert!(Instant::now() < end, "it goes on: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// How long a reply may take. RINGWOOD_WIRE_PATIENCE makes it longer where the machine may stop a server for a while (SIGSTOP, while others measure).
fn patience() -> Duration {
    let seconds = std::env::var("RINGWOOD_WIRE_PATIENCE").ok();
    let seconds = seconds.map(|text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds.unwrap_or(20))
}

pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn to(port: u16) -> Self {
        Self::try_to(port).expect("it listens")
    }
    pub fn try_to(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        let patience = Some(patience());
        stream.set_read_timeout(patience).expect("a timeout");
        Some(Self(BufReader::new(stream)))
    }
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("it takes bytes");
    }
    /// The same; false if the server has closed the connection.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.0.get_mut().write_all(bytes).is_ok()
    }
    /// Sends a request of these words.
    pub fn ask(&mut self, words: &[&str]) {
        assert!(self.try_ask(words), "it takes bytes");
    }
    /// The same; false if the server is gone.
    pub fn try_ask(&mut self, words: &[&str]) -> bool {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.get_mut().write_all(request.as_bytes()).is_ok()
    }
    /// The next whole reply, as it came. Nothing when the connection has ended.
    pub fn reply(&mut self) -> Option<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let number = || line[1..].trim_end().parse::<i64>().ok();
        match line.as_bytes()[0] {
            b'$' | b'=' => {
                let len = usize::try_from(number()?).ok();
                if let Some(len) = len {
                    let mut body = vec![0; len + 2];
                    self.0.read_exact(&mut body).ok()?;
                    line.push_str(&String::from_utf8_lossy(&body));
                }
            }
            kind @ (b'*' | b'%' | b'~' | b'>') => {
                let parts = number()?.max(0) * if kind == b'%' { 2 } else { 1 };
                for _ in 0..parts {
                    line.push_str(&self.reply()?);
                }
            }
            _ => {}
        }
        Some(line)
    }
    /// A request on one line, and its reply.
    pub fn call(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        self.ask(&words);
        self.reply().expect("a reply")
    }
}
