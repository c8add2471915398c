//! A plain blocking connection: preparing, asking INFO and CLUSTER SLOTS, checking that a server answers.
//!
//! Not for load: that is `load`, over the ring.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Target {
    pub fn resolve(host: &str, port: u16) -> Result<Target> {
        let mut found = (host, port)
            .to_socket_addrs()
            .with_context(|| format!("{host}:{port}"))?;
        found
            .next()
            .map(Target::Tcp)
            .ok_or_else(|| anyhow!("{host}: no address"))
    }

    pub fn local(port: u16) -> Target {
        Target::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(addr) => write!(f, "{addr}"),
            Target::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What every connection says before its first request.
#[derive(Debug, Clone, Default)]
pub struct Greeting {
    pub resp3: bool,
    pub user: Option<String>,
    pub password: Option<String>,
    pub database: u32,
}

/// A parsed reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Value>),
}

impl Value {
    pub fn text(&self) -> Option<String> {
        match self {
            Value::Simple(s) => Some(s.clone()),
            Value::Bulk(b) => Some(String::from_utf8_lossy(b).into_owned()),
            _ => None,
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Tcp(s) => s.read(buf),
            Stream::Unix(s) => s.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        match self {
            Stream::Tcp(s) => s.write(buf),
            Stream::Unix(s) => s.write(buf),
        }
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A blocking client.
pub struct Client {
    stream: BufReader<Stream>,
    target: Target,
}

impl Client {
    /// Connects and greets. Every call on it fails after `patience` without an answer.
    pub fn connect(target: &Target, greeting: &Greeting, patience: Duration) -> Result<Client> {
        let context = || format!("connecting to {target}");
        let stream = match target {
            Target::Tcp(addr) => {
                let stream = TcpStream::connect_timeout(addr, patience).with_context(context)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                Stream::Tcp(stream)
            }
            Target::Unix(path) => {
                let stream = UnixStream::connect(path).with_context(context)?;
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                Stream::Unix(stream)
            }
        };
        let mut client = Client {
            stream: BufReader::new(stream),
            target: target.clone(),
        };
        if let Some(password) = &greeting.password {
            let words: Vec<&str> = ["AUTH"]
                .into_iter()
                .chain(greeting.user.as_deref())
                .chain([password.as_str()])
                .collect();
            client.call(&words)?;
        }
        if greeting.resp3 {
            client.call(&["HELLO", "3"])?;
        }
        if greeting.database != 0 {
            client.call(&["SELECT", &greeting.database.to_string()])?;
        }
        Ok(client)
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The socket, for the ring. Nothing may be left unread.
    pub fn into_fd(self) -> Result<OwnedFd> {
        if !self.stream.buffer().is_empty() {
            bail!("{}: more replies than requests", self.target);
        }
        Ok(match self.stream.into_inner() {
            Stream::Tcp(s) => s.into(),
            Stream::Unix(s) => s.into(),
        })
    }

    /// One command, one reply; an error reply is an error.
    pub fn call(&mut self, words: &[&str]) -> Result<Value> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        let what = || format!("{} on {}", words.join(" "), self.target);
        self.stream
            .get_mut()
            .write_all(&request)
            .with_context(what)?;
        match self
            .read(0)
            .with_context(|| format!("{} on {}", words.join(" "), self.target))?
        {
            Value::Error(text) => bail!("{} on {}: {text}", words.join(" "), self.target),
            value => Ok(value),
        }
    }

    /// One field of INFO.
    pub fn info(&mut self, section: &str, field: &str) -> Result<Option<String>> {
        let text = self.call(&["INFO", section])?.text().unwrap_or_default();
        Ok(info_field(&text, field))
    }

    /// The longest turn of the server's loop since CONFIG RESETSTAT, without its wait, by its own clock; None of a server that does not say.
    pub fn longest_turn_us(&mut self) -> Option<f64> {
        self.info("debug", "eventloop_duration_max")
            .ok()??
            .parse()
            .ok()
    }

    /// INFO's `used_memory`; None of a server that does not count.
    pub fn used_memory(&mut self) -> Option<u64> {
        self.info("memory", "used_memory").ok()??.parse().ok()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\r\n") {
            bail!("the server closed the connection");
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn read(&mut self, depth: usize) -> Result<Value> {
        let line = self.line()?;
        let Some((kind, rest)) = line.split_at_checked(1) else {
            bail!("an empty line instead of a reply")
        };
        let number = || {
            rest.parse::<i64>()
                .map_err(|_| anyhow!("not a RESP reply: {line:?}"))
        };
        Ok(match kind {
            "+" | "," | "(" | "#" => Value::Simple(rest.to_string()),
            "-" => Value::Error(rest.to_string()),
            ":" => Value::Integer(number()?),
            "_" => Value::Null,
            "$" | "=" => match usize::try_from(number()?) {
                Err(_) => Value::Null,
                Ok(len) => {
                    let mut bulk = vec![0; len + 2];
                    self.stream.read_exact(&mut bulk)?;
                    bulk.truncate(len);
                    Value::Bulk(bulk)
                }
            },
            "*" | "~" | "%" => {
                if depth > 8 {
                    bail!("a reply nested too deep");
                }
                let pairs = if kind == "%" { 2 } else { 1 };
                match usize::try_from(number()?) {
                    Err(_) => Value::Null,
                    Ok(len) => Value::Array(
                        (0..len * pairs)
                            .map(|_| self.read(depth + 1))
                            .collect::<Result<_>>()?,
                    ),
                }
            }
            _ => bail!("not a RESP reply: {line:?}"),
        })
    }
}

/// A field's value in the text of INFO.
fn info_field(text: &str, field: &str) -> Option<String> {
    text.lines().find_map(|line| {
        Some(
            line.strip_prefix(field)?
                .strip_prefix(':')?
                .trim()
                .to_string(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A client that reads these bytes as the answer to its first command.
    fn answered(reply: &'static str) -> Result<Value> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 14];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(reply.as_bytes()).unwrap();
            request
        });
        let mut client = Client::connect(
            &Target::local(port),
            &Greeting::default(),
            Duration::from_secs(5),
        )?;
        let value = client.call(&["PING"]);
        assert_eq!(&server.join().unwrap(), b"*1\r\n$4\r\nPING\r\n");
        value
    }

    #[test]
    fn reads_replies() {
        assert_eq!(answered("+PONG\r\n").unwrap(), Value::Simple("PONG".into()));
        let nested = answered("*3\r\n:1\r\n$-1\r\n*1\r\n$2\r\nab\r\n").unwrap();
        let inner = Value::Array(vec![Value::Bulk(b"ab".to_vec())]);
        assert_eq!(
            nested,
            Value::Array(vec![Value::Integer(1), Value::Null, inner])
        );
    }

    #[test]
    fn errors_are_errors() {
        assert!(
            answered("-ERR no\r\n")
                .unwrap_err()
                .to_string()
                .contains("ERR no")
        );
        assert!(answered("").is_err());
        assert!(answered("what\r\n").is_err());
    }

    #[test]
    fn finds_info_fields() {
        let text = "# Memory\r\nused_memory:123\r\nused_memory_rss:456\r\n";
        assert_eq!(info_field(text, "used_memory").as_deref(), Some("123"));
        assert_eq!(info_field(text, "used"), None);
    }
}
