//! The client side of the protocol: one connection, and replies kept both as their exact bytes and as a tree.
//!
//! The tree is only for the checks that cannot compare bytes (random or unordered replies, times).

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long a reply may take. A blocking command's own time comes on top and is kept far below it.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub enum Value {
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Boolean(bool),
    Double(Vec<u8>),
    BigNumber(Vec<u8>),
    Verbatim(Vec<u8>),
    Array(Vec<Value>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub raw: Vec<u8>,
    pub value: Value,
}

impl Reply {
    pub fn is_error(&self) -> bool {
        matches!(self.value, Value::Error(_))
    }

    /// The bytes as a person reads them, cut where they are long.
    pub fn shown(&self) -> String {
        shown(&self.raw, 600)
    }
}

/// Bytes in redis-cli's notation (`\x00`, `\r\n`), cut at `limit` characters.
pub fn shown(bytes: &[u8], limit: usize) -> String {
    let mut out = String::new();
    for &byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'"' => out.push_str("\\\""),
            b'\r' => out.push_str("\\r"),
            b'\n' => out.push_str("\\n"),
            b' '..=b'~' => out.push(byte as char),
            _ => write!(out, "\\x{byte:02x}").expect("writing to a string"),
        }
        if out.len() >= limit {
            write!(out, "… ({} bytes)", bytes.len()).expect("writing to a string");
            break;
        }
    }
    out
}

/// A command as bytes on the wire.
pub fn encode(args: &[Vec<u8>], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// A command's arguments from words.
pub fn args(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// How much of the buffer has been given out.
    taken: usize,
}

impl Client {
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            taken: 0,
        })
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn command(&mut self, args: &[Vec<u8>]) -> io::Result<Reply> {
        let mut bytes = Vec::new();
        encode(args, &mut bytes);
        self.send(&bytes)?;
        self.reply()
    }

    /// Many commands in one write, then all their replies.
    pub fn pipeline(&mut self, commands: &[Vec<Vec<u8>>]) -> io::Result<Vec<Reply>> {
        let mut bytes = Vec::new();
        for command in commands {
            encode(command, &mut bytes);
        }
        self.send(&bytes)?;
        commands.iter().map(|_| self.reply()).collect()
    }

    /// A command given as words.
    pub fn call(&mut self, words: &[&str]) -> io::Result<Reply> {
        self.command(&args(words))
    }

    pub fn reply(&mut self) -> io::Result<Reply> {
        if self.taken > 1 << 20 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        let begin = self.taken;
        let value = self.value()?;
        Ok(Reply {
            raw: self.buffer[begin..self.taken].to_vec(),
            value,
        })
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "connection closed by the server",
            )),
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no reply for {PATIENCE:?}"),
            )),
            Err(error) => Err(error),
        }
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut searched = self.taken;
        loop {
            if let Some(end) = self.buffer[searched..]
                .iter()
                .position(|&byte| byte == b'\n')
            {
                let end = searched + end;
                let line = &self.buffer[self.taken..end];
                let Some(line) = line.strip_suffix(b"\r") else {
                    return Err(malformed(line));
                };
                let line = line.to_vec();
                self.taken = end + 1;
                return Ok(line);
            }
            searched = self.buffer.len();
            self.fill()?;
        }
    }

    fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < self.taken + count + 2 {
            self.fill()?;
        }
        let bytes = self.buffer[self.taken..self.taken + count].to_vec();
        if &self.buffer[self.taken + count..self.taken + count + 2] != b"\r\n" {
            return Err(malformed(&bytes));
        }
        self.taken += count + 2;
        Ok(bytes)
    }

    fn value(&mut self) -> io::Result<Value> {
        let line = self.line()?;
        let Some((&kind, rest)) = line.split_first() else {
            return Err(malformed(&line));
        };
        let number = || -> io::Result<i64> {
            std::str::from_utf8(rest)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| malformed(&line))
        };
        Ok(match kind {
            b'+' => Value::Simple(rest.to_vec()),
            b'-' => Value::Error(rest.to_vec()),
            b':' => Value::Integer(number()?),
            b',' => Value::Double(rest.to_vec()),
            b'(' => Value::BigNumber(rest.to_vec()),
            b'#' if rest == b"t" || rest == b"f" => Value::Boolean(rest == b"t"),
            b'_' if rest.is_empty() => Value::Null,
            b'$' | b'=' => match number()? {
                -1 => Value::Null,
                count if count >= 0 && kind == b'=' => Value::Verbatim(self.bytes(count as usize)?),
                count if count >= 0 => Value::Bulk(self.bytes(count as usize)?),
                _ => return Err(malformed(&line)),
            },
            b'*' | b'~' | b'>' => match number()? {
                -1 => Value::Null,
                count if count >= 0 => {
                    let items = (0..count)
                        .map(|_| self.value())
                        .collect::<io::Result<Vec<_>>>()?;
                    match kind {
                        b'*' => Value::Array(items),
                        b'~' => Value::Set(items),
                        _ => Value::Push(items),
                    }
                }
                _ => return Err(malformed(&line)),
            },
            b'%' => match number()? {
                count if count >= 0 => Value::Map(
                    (0..count)
                        .map(|_| Ok((self.value()?, self.value()?)))
                        .collect::<io::Result<Vec<_>>>()?,
                ),
                _ => return Err(malformed(&line)),
            },
            _ => return Err(malformed(&line)),
        })
    }
}

fn malformed(bytes: &[u8]) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("malformed reply: {}", shown(bytes, 200)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_a_person_reads_them() {
        assert_eq!(
            shown(b"a\r\n\"\\\x00\xff", 100),
            "a\\r\\n\\\"\\\\\\x00\\xff"
        );
        assert_eq!(shown(&[b'a'; 50], 10), "aaaaaaaaaa… (50 bytes)");
    }
}
