//! The echo floor: what a server costs that does nothing but receive and answer.
//!
//! Every request gets the same fixed reply. What a real server costs above the raw floor is its own work; the other
//! floors show what the same costs on epoll and on ready-made runtimes. A floor runs as a process of its own
//! (`ringwood-bench floor-server`), so that its CPU time is read as any server's.

mod epoll;
#[cfg(feature = "runtimes")]
mod glommio;
#[cfg(feature = "runtimes")]
mod monoio;
mod raw;

use std::net::TcpListener;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

/// What the floor stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// io_uring: multishot accept and receive, a buffer ring, sends batched per turn
    Raw,
    /// epoll with read and write
    Epoll,
    /// The monoio runtime (needs `--features runtimes`)
    Monoio,
    /// The glommio runtime (needs `--features runtimes`)
    Glommio,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Raw => "raw ring",
            Kind::Epoll => "epoll",
            Kind::Monoio => "monoio",
            Kind::Glommio => "glommio",
        }
    }

    pub fn arg(self) -> &'static str {
        match self {
            Kind::Raw => "raw",
            Kind::Epoll => "epoll",
            Kind::Monoio => "monoio",
            Kind::Glommio => "glommio",
        }
    }

    /// Floors that this build has.
    pub fn available() -> Vec<Kind> {
        let runtimes = cfg!(feature = "runtimes");
        [Kind::Raw, Kind::Epoll, Kind::Monoio, Kind::Glommio]
            .into_iter()
            .filter(|k| runtimes || matches!(k, Kind::Raw | Kind::Epoll))
            .collect()
    }
}

/// How requests are counted in the received bytes.
#[derive(Debug, Clone, Copy)]
pub enum Counting {
    /// All requests have this many bytes.
    Fixed(usize),
    /// Requests begin with `*`, which does not occur in them otherwise.
    Scan,
}

/// A floor server's orders.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerArgs {
    #[arg(long, value_enum)]
    pub kind: Kind,
    #[arg(long)]
    pub port: u16,
    /// Bytes of every reply
    #[arg(long)]
    pub reply_size: usize,
    /// Bytes of every request; 0: look for `*`
    #[arg(long, default_value_t = 0)]
    pub request_size: usize,
}

/// Replies kept ready in one piece: as many as a receive buffer can ask for in ordinary pipelines.
const READY_REPLIES_BYTES: usize = 64 * 1024;

/// The fixed reply, many times over, and how to count what is to be answered.
#[derive(Debug, Clone)]
pub struct Echo {
    replies: Rc<[u8]>,
    reply_size: usize,
    counting: Counting,
}

impl Echo {
    fn new(args: &ServerArgs) -> Result<Echo> {
        let reply = reply(args.reply_size)?;
        let times = (READY_REPLIES_BYTES / reply.len()).max(1);
        let counting = match args.request_size {
            0 => Counting::Scan,
            size => Counting::Fixed(size),
        };
        Ok(Echo {
            replies: reply.repeat(times).into(),
            reply_size: reply.len(),
            counting,
        })
    }

    /// Replies that `bytes` ask for; `partial` keeps the bytes of a request that is not complete.
    #[inline]
    fn count(&self, bytes: &[u8], partial: &mut usize) -> usize {
        match self.counting {
            Counting::Fixed(size) => {
                let have = *partial + bytes.len();
                *partial = have % size;
                have / size
            }
            Counting::Scan => memchr::memchr_iter(b'*', bytes).count(),
        }
    }

    /// The most replies that can be sent in one piece.
    fn ready(&self) -> usize {
        self.replies.len() / self.reply_size
    }
}

/// A RESP reply of exactly `size` bytes: a bulk string where one has that size, else a simple string.
pub fn reply(size: usize) -> Result<Vec<u8>> {
    if size < 4 {
        bail!("the smallest reply has 4 bytes, not {size}");
    }
    for digits in 1..=9 {
        if let Some(len) = size.checked_sub(digits + 5)
            && len.to_string().len() == digits
        {
            return Ok(format!("${len}\r\n{}\r\n", "x".repeat(len)).into_bytes());
        }
    }
    Ok(format!("+{}\r\n", "x".repeat(size - 3)).into_bytes())
}

/// Serves until the process is killed.
pub fn serve(args: &ServerArgs) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", args.port))
        .with_context(|| format!("port {}", args.port))?;
    serve_on(listener, args)
}

/// Serves on a socket that is bound already.
pub fn serve_on(listener: TcpListener, args: &ServerArgs) -> Result<()> {
    let echo = Echo::new(args)?;
    match args.kind {
        Kind::Raw => raw::serve(listener, &echo),
        Kind::Epoll => epoll::serve(listener, &echo),
        #[cfg(feature = "runtimes")]
        Kind::Monoio => monoio::serve(listener, echo),
        #[cfg(feature = "runtimes")]
        Kind::Glommio => glommio::serve(listener, echo),
        #[cfg(not(feature = "runtimes"))]
        kind => bail!("{}: build with `--features runtimes`", kind.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Skipper;

    #[test]
    fn replies_have_their_size() {
        for size in 4..3000 {
            let reply = reply(size).unwrap();
            assert_eq!(reply.len(), size);
            assert_eq!(Skipper::default().feed(&reply).unwrap().replies, 1);
        }
        assert_eq!(
            reply(71).unwrap(),
            format!("$64\r\n{}\r\n", "x".repeat(64)).into_bytes()
        );
        assert!(reply(3).is_err());
    }

    #[test]
    fn counts_requests_across_reads() {
        let args = ServerArgs {
            kind: Kind::Raw,
            port: 0,
            reply_size: 5,
            request_size: 10,
        };
        let echo = Echo::new(&args).unwrap();
        let mut partial = 0;
        let counts: Vec<usize> = [4, 5, 1, 25, 15]
            .iter()
            .map(|&n| echo.count(&vec![0; n], &mut partial))
            .collect();
        assert_eq!(counts, [0, 0, 1, 2, 2]);
        let echo = Echo::new(&ServerArgs {
            request_size: 0,
            ..args
        })
        .unwrap();
        assert_eq!(echo.count(b"*1\r\n$4\r\nPING\r\n*1\r\n", &mut partial), 2);
    }
}
