//! A connection whose replies are compared byte by byte, as they come.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Long enough for a busy machine; only a failure takes it.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Conn {
    stream: TcpStream,
    got: Vec<u8>,
}

impl Conn {
    pub fn new(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            got: Vec::new(),
        }
    }
    pub fn address(&self) -> String {
        self.stream.local_addr().unwrap().to_string()
    }
    /// Sends commands, words parted by spaces, in one piece.
    pub fn send(&mut self, commands: &[&str]) {
        let mut bytes = Vec::new();
        for command in commands {
            let words: Vec<&str> = command.split(' ').collect();
            bytes.extend(format!("*{}\r\n", words.len()).bytes());
            for word in words {
                bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
            }
        }
        self.stream.write_all(&bytes).unwrap();
    }
    /// The next bytes are these.
    #[track_caller]
    pub fn expect(&mut self, reply: &str) {
        while self.got.len() < reply.len() && self.read() {}
        let end = reply.len().min(self.got.len());
        let got: Vec<u8> = self.got.drain(..end).collect();
        assert_eq!(String::from_utf8_lossy(&got), reply);
    }
    /// The next bytes are these, after any number of one-digit messages of this channel, which are counted.
    #[track_caller]
    pub fn skip_messages(&mut self, channel: &str, count: &mut usize, reply: &str) {
        let head = format!(
            ">3\r\n$7\r\nmessage\r\n${}\r\n{channel}\r\n$1\r\n",
            channel.len()
        );
        loop {
            while self.got.is_empty() && self.read() {}
            if self.got.first() != Some(&b'>') {
                return self.expect(reply);
            }
            self.expect(&head);
            while self.got.len() < 3 && self.read() {}
            self.got.drain(..3);
            *count += 1;
        }
    }
    /// Sends a command; whatever came before its reply is passed over.
    #[track_caller]
    pub fn skip_past(&mut self, reply: &str, command: &str) {
        self.send(&[command]);
        loop {
            let found = self
                .got
                .windows(reply.len())
                .position(|w| w == reply.as_bytes());
            if let Some(at) = found {
                self.got.drain(..at + reply.len());
                return;
            }
            assert!(self.read(), "{command} was not answered with {reply:?}");
        }
    }
    #[track_caller]
    pub fn check(&mut self, command: &str, reply: &str) {
        self.send(&[command]);
        self.expect(reply);
    }
    /// The text of a bulk string reply.
    #[track_caller]
    pub fn text(&mut self, command: &str) -> String {
        self.send(&[command]);
        let head = loop {
            if let Some(at) = self.got.windows(2).position(|w| w == b"\r\n") {
                break String::from_utf8(self.got.drain(..at + 2).collect()).unwrap();
            }
            assert!(self.read(), "no reply to {command}");
        };
        let len: usize = head.trim_start_matches('$').trim_end().parse().unwrap();
        while self.got.len() < len + 2 && self.read() {}
        let mut text = String::from_utf8(self.got.drain(..len + 2).collect()).unwrap();
        text.truncate(len);
        text
    }
    /// Nothing comes for a while.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        let short = Some(Duration::from_millis(100));
        self.stream.set_read_timeout(short).unwrap();
        let mut byte = [0];
        let kind = self.stream.read(&mut byte).map_err(|e| e.kind());
        assert!(
            matches!(kind, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)) && self.got.is_empty(),
            "{kind:?} {:?} {:?}",
            byte,
            self.got
        );
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    /// The server has closed the connection.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(String::from_utf8_lossy(&rest), ""),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        assert_eq!(String::from_utf8_lossy(&self.got), "");
    }
    /// False when the connection has ended.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let n = self.stream.read(&mut buffer).expect("a reply in time");
        self.got.extend_from_slice(&buffer[..n]);
        n > 0
    }
}
