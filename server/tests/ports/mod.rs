//! Ports for the servers that tests start.
//!
//! A port that the kernel gives for 0 is free only until somebody else is given it: another test's server, or a connection from
//! this machine; whoever polls it until its server listens may even be connected to itself. So ports come from below the
//! range that the kernel gives from, and a process has a block of them for itself: it holds the UDP port of the block's first number, which nobody
//! else can have meanwhile, and which is free again when the process is gone, however it ended.

use std::net::{TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::{Mutex, OnceLock};

/// Linux gives from 32768 on, where nobody changed that.
const ALL: Range<u16> = 10_000..23_000;
const BLOCK: u16 = 100;

struct Block {
    first: u16,
    _claim: UdpSocket,
    next: Mutex<u16>,
}

impl Block {
    fn claim() -> Self {
        let count = (ALL.end - ALL.start) / BLOCK;
        // Each process begins elsewhere.
        let start = (std::process::id() % u32::from(count)) as u16;
        (0..count)
            .map(|n| ALL.start + (start + n) % count * BLOCK)
            .find_map(|first| {
                let claim = UdpSocket::bind(("127.0.0.1", first)).ok()?;
                let next = Mutex::new(0);
                Some(Self {
                    first,
                    _claim: claim,
                    next,
                })
            })
            .expect("fewer than 130 processes test at the same time")
    }
    /// `n` ports in a row. They come round again after the block's others.
    fn take(&self, n: u16) -> u16 {
        let mut next = self.next.lock().unwrap_or_else(|e| e.into_inner());
        for _ in 0..BLOCK {
            if *next + n > BLOCK {
                *next = 0;
            }
            let port = self.first + *next;
            *next += n;
            // Somebody may listen there who knows nothing of blocks.
            let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
            if (port..port + n).all(free) {
                return port;
            }
        }
        panic!("no {n} free ports from {} on", self.first);
    }
}

/// The first of `n` ports in a row that nobody listens on.
pub fn free_ports(n: u16) -> u16 {
    static OWN: OnceLock<Block> = OnceLock::new();
    OWN.get_or_init(Block::claim).take(n)
}
