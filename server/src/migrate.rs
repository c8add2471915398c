//! Connections to other servers, for MIGRATE.
//!
//! They are blocking ones, used on threads that may wait ([`crate::aside`]), or by a core in a transaction or script, which waits as
//! everything does in Redis. A connection is kept for the next command to the same target, and closed when it was not used for a
//! while. The target may have closed it meanwhile: so a transfer that fails before the first answer, and not for time, is tried once more
//! over a new one.

use ringwood_protocol::lossless;
use ringwood_protocol::number::parse_i64;
use ringwood_shard::commands::keys::migrate::{Failed, Migration, Outcome, Transfer};
use ringwood_shard::log::write_command;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// As many are kept, as in Redis.
const KEPT: usize = 64;
/// A connection that was not used for so long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// What is sent at a time.
const CHUNK: usize = 64 << 10;
/// Longer answers are none to the commands that are sent.
const LINE_MAX: u64 = 64 << 10;

/// Host and port as the client wrote them.
type Name = (Box<[u8]>, Box<[u8]>);

/// A connection to a target.
struct Link {
    stream: BufReader<TcpStream>,
    /// The database that is selected there, if that is known. A client that asks for -1 is believed, as in Redis.
    db: i64,
    used: Instant,
}

/// The connections that are kept.
#[derive(Default)]
pub struct Links {
    kept: Mutex<HashMap<Name, Link>>,
    count: AtomicUsize,
}

/// What went wrong, and whether for time.
struct Broken {
    failed: Failed,
    late: bool,
}

impl Broken {
    fn new(failed: Failed, error: &std::io::Error) -> Self {
        let late = matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock);
        Self { failed, late }
    }
}

impl Link {
    fn connect(migration: &Migration<'_>) -> Result<Self, Broken> {
        let nowhere = Broken {
            failed: Failed::Connecting,
            late: false,
        };
        let Ok(host) = std::str::from_utf8(migration.host) else {
            return Err(nowhere);
        };
        // What is no number is port 0, and what is too large one wraps, as in Redis.
        let port = parse_i64(migration.port).unwrap_or(0) as u16;
        let addresses = (host, port).to_socket_addrs().map_err(|_| nowhere)?;
        let mut last = Broken {
            failed: Failed::Connecting,
            late: false,
        };
        let timeout = Duration::from_millis(migration.timeout_ms);
        for address in addresses {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => {
                    // It only makes answers late where it fails.
                    let _ = stream.set_nodelay(true);
                    return Ok(Self {
                        stream: BufReader::new(stream),
                        db: -1,
                        used: Instant::now(),
                    });
                }
                // Redis learns that nobody listens when it writes.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused || port == 0 => {
                    last = Broken::new(Failed::Writing, &error);
                }
                Err(error) => last = Broken::new(Failed::Connecting, &error),
            }
        }
        Err(last)
    }

    /// Sends what is there, in `timeout`.
    fn write(&mut self, bytes: &[u8], timeout: Duration) -> std::io::Result<()> {
        let begun = Instant::now();
        let mut rest = bytes;
        while !rest.is_empty() {
            let left = left(timeout, begun)?;
            let stream = self.stream.get_mut();
            stream.set_write_timeout(Some(left))?;
            match stream.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next line, without its end, in `timeout`.
    fn read_line(&mut self, timeout: Duration) -> std::io::Result<Vec<u8>> {
        let begun = Instant::now();
        let mut line = Vec::new();
        loop {
            let left = left(timeout, begun)?;
            self.stream.get_ref().set_read_timeout(Some(left))?;
            let most = LINE_MAX - line.len() as u64;
            match (&mut self.stream).take(most).read_until(b'\n', &mut line) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) if line.ends_with(b"\n") => {
                    line.pop();
                    if line.ends_with(b"\r") {
                        line.pop();
                    }
                    return Ok(line);
                }
                Ok(_) => return Err(ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

/// What is left of a timeout.
fn left(timeout: Duration, begun: Instant) -> std::io::Result<Duration> {
    let left = timeout.saturating_sub(begun.elapsed());
    match left.is_zero() {
        true => Err(ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}

fn error_of(line: &[u8]) -> Option<String> {
    let text = line.strip_prefix(b"-")?;
    Some(lossless::text(text).into_owned())
}

impl Links {
    /// How many connections are kept.
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }
    /// Closes those that were not used for a while.
    pub fn close_idle(&self) {
        if self.count() > 0 {
            let mut kept = crate::commands::lock(&self.kept);
            kept.retain(|_, link| link.used.elapsed() < IDLE);
            self.count.store(kept.len(), Relaxed);
        }
    }
    fn take(&self, name: &Name) -> Option<Link> {
        let mut kept = crate::commands::lock(&self.kept);
        let link = kept.remove(name);
        self.count.store(kept.len(), Relaxed);
        link
    }
    fn keep(&self, name: Name, mut link: Link) {
        link.used = Instant::now();
        let mut kept = crate::commands::lock(&self.kept);
        if kept.len() >= KEPT {
            // One of them, whichever comes first.
            let one = kept.keys().next().cloned();
            one.and_then(|one| kept.remove(&one));
        }
        kept.insert(name, link);
        self.count.store(kept.len(), Relaxed);
    }

    /// One attempt. What was answered is in `outcome` also when it fails.
    fn attempt(
        &self,
        name: &Name,
        migration: &Migration<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), Broken> {
        let mut link = match self.take(name) {
            Some(link) => link,
            None => Link::connect(migration)?,
        };
        let timeout = Duration::from_millis(migration.timeout_ms);
        let mut out = Vec::new();
        if let Some((user, password)) = migration.login {
            let words = [Some(&b"AUTH"[..]), user, Some(password)];
            let words: Vec<&[u8]> = words.into_iter().flatten().collect();
            write_command(&mut out, &words);
        }
        let selects = link.db != migration.db;
        if selects {
            let db = migration.db.to_string();
            write_command(&mut out, &[b"SELECT", db.as_bytes()]);
        }
        for at in 0..migration.count {
            (migration.write)(at, &mut out);
            if out.len() >= CHUNK || at + 1 == migration.count {
                for chunk in out.chunks(CHUNK) {
                    let sent = link.write(chunk, timeout);
                    sent.map_err(|error| Broken::new(Failed::Writing, &error))?;
                }
                out.clear();
            }
        }
        let broken = |error| Broken::new(Failed::Reading, &error);
        // An error before the first key is one of all keys.
        let mut refused = None;
        for _ in 0..usize::from(migration.login.is_some()) + usize::from(selects) {
            let line = link.read_line(timeout).map_err(broken)?;
            refused = refused.or(error_of(&line));
        }
        for _ in 0..migration.count {
            let line = link.read_line(timeout).map_err(broken)?;
            let error = refused.clone().or_else(|| error_of(&line));
            outcome.done.push(error.is_none());
            outcome.refused = outcome.refused.take().or(error);
        }
        link.db = match outcome.refused {
            None => migration.db,
            Some(_) => -1,
        };
        if link.stream.buffer().is_empty() {
            self.keep(name.clone(), link);
        }
        Ok(())
    }
}

impl Transfer for Links {
    fn send(&self, migration: &Migration<'_>) -> Outcome {
        let name = (migration.host.into(), migration.port.into());
        let mut outcome = Outcome::default();
        let mut ended = self.attempt(&name, migration, &mut outcome);
        if let Err(broken) = &ended
            && !broken.late
            && outcome.done.is_empty()
        {
            ended = self.attempt(&name, migration, &mut outcome);
        }
        outcome.failed = ended.err().map(|broken| broken.failed);
        outcome
    }
}
