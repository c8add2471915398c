//! A blocking client: writes requests, reads replies.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// No reply for so long is a failure, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Value>),
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Simple(text) => write!(f, "+{text}"),
            Self::Error(text) => write!(f, "-{text}"),
            Self::Int(n) => write!(f, ":{n}"),
            // A megabyte in a failure's message helps nobody.
            Self::Bulk(bytes) if bytes.len() > 100 => write!(
                f,
                "${} {}...",
                bytes.len(),
                String::from_utf8_lossy(&bytes[..50])
            ),
            Self::Bulk(bytes) => write!(f, "${:?}", String::from_utf8_lossy(bytes)),
            Self::Null => write!(f, "null"),
            Self::Array(items) => f.debug_list().entries(items).finish(),
        }
    }
}

pub fn ok() -> Value {
    Value::Simple("OK".into())
}
pub fn bulk(bytes: impl AsRef<[u8]>) -> Value {
    Value::Bulk(bytes.as_ref().to_vec())
}
pub fn bulk_or_null(bytes: Option<impl AsRef<[u8]>>) -> Value {
    bytes.map_or(Value::Null, bulk)
}

/// A command as the wire has it.
pub fn request<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut out = Vec::new();
    push_request(&mut out, words);
    out
}
pub fn push_request<W: AsRef<[u8]>>(out: &mut Vec<u8>, words: &[W]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        let word = word.as_ref();
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

pub struct Client {
    stream: TcpStream,
    buf: Vec<u8>,
    at: usize,
}

impl Client {
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Self {
            stream,
            buf: Vec::new(),
            at: 0,
        }
    }
    /// A second handle for a thread that writes while this one reads.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().expect("a second handle")
    }
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }
    /// Ends our direction of the connection.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("shutdown");
    }
    pub fn call<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Value {
        self.send(&request(words));
        self.read()
    }

    /// More bytes; false at the end of the connection.
    fn fill(&mut self) -> bool {
        if self.at > 0 && self.at * 2 >= self.buf.len() {
            self.buf.drain(..self.at);
            self.at = 0;
        }
        let len = self.buf.len();
        // A large reply is read in large pieces.
        self.buf.resize(len + (64 << 10).max(len / 2), 0);
        let got = match self.stream.read(&mut self.buf[len..]) {
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::ConnectionReset => 0,
            Err(e) => panic!("no reply: {e}"),
        };
        self.buf.truncate(len + got);
        got > 0
    }
    fn line(&mut self) -> String {
        let mut from = self.at;
        loop {
            if let Some(end) = self.buf[from..].windows(2).position(|w| w == b"\r\n") {
                let line = self.buf[self.at..from + end].to_vec();
                self.at = from + end + 2;
                return String::from_utf8(line).expect("a header line");
            }
            let seen = self.buf.len() - self.at;
            assert!(self.fill(), "the connection ended where a reply was due");
            from = self.at + seen.saturating_sub(1);
        }
    }
    pub fn read(&mut self) -> Value {
        let line = self.line();
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().expect("a number in a reply's header");
        match kind {
            "+" => Value::Simple(rest.into()),
            "-" => Value::Error(rest.into()),
            ":" => Value::Int(number()),
            "$" if number() < 0 => Value::Null,
            "$" => {
                let len = number() as usize;
                while self.buf.len() - self.at < len + 2 {
                    assert!(self.fill(), "the connection ended within a reply");
                }
                let bytes = self.buf[self.at..self.at + len].to_vec();
                assert_eq!(&self.buf[self.at + len..][..2], b"\r\n");
                self.at += len + 2;
                Value::Bulk(bytes)
            }
            "*" if number() < 0 => Value::Null,
            "_" => Value::Null,
            "*" | ">" | "~" => Value::Array((0..number()).map(|_| self.read()).collect()),
            "%" => Value::Array((0..2 * number()).map(|_| self.read()).collect()),
            _ => panic!("no reply begins like {line:?}"),
        }
    }
    /// The next reply as it came.
    pub fn read_bytes(&mut self) -> Vec<u8> {
        loop {
            if let Some(len) = ringwood_protocol::reply::value_len(&self.buf[self.at..]) {
                return self.read_raw(len);
            }
            assert!(self.fill(), "the connection ended where a reply was due");
        }
    }
    /// The next bytes as they come, for what [`Value`] does not tell apart.
    pub fn read_raw(&mut self, len: usize) -> Vec<u8> {
        while self.buf.len() - self.at < len {
            assert!(self.fill(), "the connection ended where a reply was due");
        }
        self.at += len;
        self.buf[self.at - len..self.at].to_vec()
    }
    /// Reads the expected replies, and says which was wrong.
    pub fn expect(&mut self, expected: &[Value]) {
        for (n, value) in expected.iter().enumerate() {
            let got = self.read();
            assert_eq!(&got, value, "reply {n} of {}", expected.len());
        }
    }
    /// Nothing more comes: the server has closed.
    pub fn expect_end(&mut self) {
        while self.at == self.buf.len() {
            if !self.fill() {
                return;
            }
        }
        panic!(
            "more came where the end was due: {:?}",
            String::from_utf8_lossy(&self.buf[self.at..])
        );
    }
}
