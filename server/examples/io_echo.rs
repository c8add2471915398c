//! What a backend of `Io` costs by itself: an echo server over each, beside one written by hand on a bare ring.
//!
//! `io_echo compare [seconds] [rounds] [connections] [pipelines]` starts each server in a process pinned to CPU 0, loads it from CPU 1 over 50
//! connections with pipelines of 1, 16 and 100, and prints the server's CPU time per request (from schedstat) and the
//! ratio to the bare ring. The servers answer every 36 bytes (redis-benchmark's GET) with 64.
//!
//! The environment variable KINDS chooses the servers; one like `uring:SIZE=16384:COUNT=64` or `uring:PLAIN=1` has
//! other buffers, or nothing newer than Linux 6.0.
//!
//! `io_echo serve KIND PORT` and `io_echo load PORT PIPELINE CONNECTIONS SECONDS` are the two halves, for profiling.

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ringwood::io::epoll::Epoll;
use ringwood::io::net::{Listener, Stream};
use ringwood::io::uring::{Options, Uring};
use ringwood::io::{ConnId, Event, Io, ListenerId, Wait};

const REQUEST: usize = 36;
const REPLY: usize = 64;
const KINDS: [&str; 3] = ["raw", "uring", "epoll"];

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["serve", "raw", port] => raw::serve(port.parse()?),
        ["serve", "uring", port] => serve(Uring::new(&options())?, port.parse()?),
        ["serve", "epoll", port] => serve(Epoll::new()?, port.parse()?),
        ["load", port, pipeline, connections, seconds] => {
            let count = load(
                port.parse()?,
                pipeline.parse()?,
                connections.parse()?,
                seconds.parse()?,
            )?;
            println!("{count}");
            Ok(())
        }
        ["compare", rest @ ..] => {
            let seconds = rest.first().map_or(Ok(2.0), |text| text.parse())?;
            let rounds = rest.get(1).map_or(Ok(3), |text| text.parse())?;
            compare(
                seconds,
                rounds,
                rest.get(2).unwrap_or(&"50"),
                rest.get(3).unwrap_or(&"1,16,100"),
            )
        }
        _ => Err(
            "usage: io_echo compare | serve KIND PORT | load PORT PIPELINE CONNECTIONS SECONDS"
                .into(),
        ),
    }
}

/// Options by environment variables, for trying them out.
fn options() -> Options {
    let mut options = Options::default();
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u32>().ok())
    };
    if let Some(size) = number("SIZE") {
        options.incremental_size = size;
        options.buffer_size = size;
    }
    if let Some(count) = number("COUNT") {
        options.incremental_count = count as u16;
        options.buffer_count = count as u16;
    }
    options.plain = number("PLAIN").is_some();
    options
}

#[derive(Default)]
struct Client {
    /// Bytes of an unfinished request.
    rest: usize,
    out: Vec<u8>,
    idle: Vec<u8>,
    sending: bool,
    dirty: bool,
}

fn serve<I: Io<Stream = Stream, Listener = Listener>>(mut io: I, port: u16) -> Outcome<()> {
    io.listen(
        Listener::tcp(SocketAddr::from(([127, 0, 0, 1], port)), 511)?,
        ListenerId(0),
    );
    let mut clients: Vec<Client> = Vec::new();
    let mut dirty: Vec<ConnId> = Vec::new();
    let mut events = Vec::new();
    let reply = [b'x'; REPLY];
    loop {
        io.turn(Wait::AtMost(Duration::from_millis(100)), &mut events)?;
        for event in events.drain(..) {
            match event {
                Event::Accepted { stream, .. } => {
                    let index = io.adopt(stream).0 as usize;
                    if clients.len() <= index {
                        clients.resize_with(index + 1, Client::default);
                    }
                    clients[index] = Client::default();
                }
                Event::Received { conn, buf } => {
                    let client = &mut clients[conn.0 as usize];
                    client.rest += buf.len();
                    while client.rest >= REQUEST {
                        client.rest -= REQUEST;
                        client.out.extend_from_slice(&reply);
                    }
                    io.release(buf);
                    if !client.dirty && !client.out.is_empty() {
                        client.dirty = true;
                        dirty.push(conn);
                    }
                }
                Event::Sent { conn, buf } => {
                    let client = &mut clients[conn.0 as usize];
                    client.sending = false;
                    client.idle = buf;
                    if !client.dirty && !client.out.is_empty() {
                        client.dirty = true;
                        dirty.push(conn);
                    }
                }
                Event::Eof { conn } => io.close(conn, false),
                _ => {}
            }
        }
        for conn in dirty.drain(..) {
            let client = &mut clients[conn.0 as usize];
            client.dirty = false;
            if !client.sending {
                client.sending = true;
                let next = std::mem::take(&mut client.idle);
                io.send(conn, std::mem::replace(&mut client.out, next));
            }
        }
    }
}

/// Keeps `pipeline` requests under way on each connection; gives the number answered.
fn load(port: u16, pipeline: usize, connections: usize, seconds: f64) -> Outcome<u64> {
    let mut io = Uring::new(&Options::default())?;
    let mut missing: HashMap<ConnId, usize> = HashMap::new();
    let mut events = Vec::new();
    let batch = vec![b'q'; REQUEST * pipeline];
    for _ in 0..connections {
        let conn = io.adopt(Stream::from(TcpStream::connect(("127.0.0.1", port))?));
        io.send(conn, batch.clone());
        missing.insert(conn, REPLY * pipeline);
    }
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed().as_secs_f64() < seconds {
        io.turn(Wait::AtMost(Duration::from_millis(100)), &mut events)?;
        for event in events.drain(..) {
            match event {
                Event::Received { conn, buf } => {
                    let left = missing.entry(conn).or_default();
                    *left = left
                        .checked_sub(buf.len())
                        .ok_or("more replies than requests")?;
                    io.release(buf);
                    if *left == 0 {
                        *left = REPLY * pipeline;
                        count += pipeline as u64;
                        io.send(conn, batch.clone());
                    }
                }
                Event::Eof { .. } | Event::Closed { .. } => {
                    return Err("the server closed a connection".into());
                }
                _ => {}
            }
        }
    }
    Ok(count)
}

struct Server(Child);

impl Server {
    fn start(kind: &str, port: u16) -> Outcome<Server> {
        let exe = std::env::current_exe()?;
        let mut command = Command::new("taskset");
        let mut parts = kind.split(':');
        let kind = parts.next().unwrap_or_default();
        command.envs(parts.filter_map(|setting| setting.split_once('=')));
        let child = command
            .args(["-c", "0"])
            .arg(exe)
            .args(["serve", kind, &port.to_string()])
            .spawn()?;
        let server = Server(child);
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("the server does not answer".into())
    }

    fn cpu_ns(&self) -> Outcome<u64> {
        let mut total = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            total += text.split(' ').next().unwrap_or("0").parse::<u64>()?;
        }
        Ok(total)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn compare(seconds: f64, rounds: usize, connections: &str, pipelines: &str) -> Outcome<()> {
    let kinds: Vec<String> = match std::env::var("KINDS") {
        Ok(text) => text.split(',').map(str::to_string).collect(),
        Err(_) => KINDS.map(str::to_string).to_vec(),
    };
    let mut port = 21_000;
    for pipeline in pipelines.split(',') {
        let pipeline: usize = pipeline.parse()?;
        let mut costs = vec![Vec::new(); kinds.len()];
        let mut rates = vec![Vec::new(); kinds.len()];
        for _ in 0..rounds {
            for (index, kind) in kinds.iter().enumerate() {
                port = if port >= 21_090 { 21_000 } else { port + 1 };
                let server = Server::start(kind, port)?;
                let before = server.cpu_ns()?;
                let exe = std::env::current_exe()?;
                let args = [
                    "load",
                    &port.to_string(),
                    &pipeline.to_string(),
                    connections,
                    &seconds.to_string(),
                ];
                let mut load = Command::new("taskset")
                    .args(["-c", "1"])
                    .arg(exe)
                    .args(args)
                    .stdout(Stdio::piped())
                    .spawn()?;
                let mut line = String::new();
                BufReader::new(load.stdout.take().ok_or("no output")?).read_line(&mut line)?;
                load.wait()?;
                let count: u64 = line.trim().parse()?;
                costs[index].push((server.cpu_ns()? - before) as f64 / count as f64 / 1000.0);
                rates[index].push(count as f64 / seconds / 1000.0);
            }
        }
        let first = median(&mut costs[0].clone());
        for (index, kind) in kinds.iter().enumerate() {
            let cost = median(&mut costs[index]);
            let all: Vec<String> = costs[index]
                .iter()
                .map(|cost| format!("{cost:.3}"))
                .collect();
            println!(
                "pipeline {pipeline:3}  {kind:8}  {cost:.4} us/request  {:.3} x {}  {:.0}K/s  ({})",
                cost / first,
                kinds[0],
                median(&mut rates[index]),
                all.join(" ")
            );
        }
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The same server with nothing between it and the ring, and no care for anything that could go wrong.
mod raw {
    use super::{Outcome, REPLY, REQUEST};
    use io_uring::{IoUring, cqueue, opcode, types};
    use std::os::fd::AsRawFd;
    use std::sync::atomic::{AtomicU16, Ordering};

    const BUFFERS: u16 = 256;
    const SIZE: usize = 16 << 10;

    pub fn serve(port: u16) -> Outcome<()> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
        let mut ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(4096)
            .build(1024)?;
        let memory = vec![0_u8; SIZE * usize::from(BUFFERS)].leak().as_mut_ptr();
        let layout = std::alloc::Layout::from_size_align(16 * usize::from(BUFFERS), 4096)?;
        // SAFETY: the layout is not empty.
        let entries = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<types::BufRingEntry>();
        let mut tail = 0_u16;
        let mut give = |id: u16| {
            // SAFETY: the entry is in the ring and not in the kernel's hands; the memory is never freed.
            unsafe {
                let entry = &mut *entries.add(usize::from(tail % BUFFERS));
                entry.set_addr(memory.add(SIZE * usize::from(id)) as u64);
                entry.set_len(SIZE as u32);
                entry.set_bid(id);
                tail = tail.wrapping_add(1);
                let shared = AtomicU16::from_ptr(types::BufRingEntry::tail(entries).cast_mut());
                shared.store(tail, Ordering::Release);
            }
        };
        (0..BUFFERS).for_each(&mut give);
        let (mut submitter, mut sq, mut cq) = ring.split();
        submitter.register_ring_fd()?;
        // SAFETY: the ring is never freed.
        unsafe { submitter.register_buf_ring_with_flags(entries as u64, BUFFERS, 0, 0)? };
        let accept = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd()))
            .build()
            .user_data(1 << 32);
        // SAFETY: names no memory.
        unsafe { sq.push(&accept)? };
        struct Client {
            rest: usize,
            out: Vec<u8>,
            sent: Vec<u8>,
            busy: bool,
        }
        let mut clients: Vec<Client> = Vec::new();
        let mut dirty = Vec::new();
        let reply = [b'x'; REPLY];
        loop {
            sq.sync();
            submitter.submit_and_wait(1)?;
            cq.sync();
            for entry in &mut cq {
                let fd = entry.user_data() as u32 as usize;
                match entry.user_data() >> 32 {
                    1 => {
                        let fd = entry.result();
                        let one = 1_i32;
                        // SAFETY: a valid socket and option.
                        unsafe {
                            libc::setsockopt(
                                fd,
                                libc::IPPROTO_TCP,
                                libc::TCP_NODELAY,
                                (&raw const one).cast(),
                                4,
                            )
                        };
                        while clients.len() <= fd as usize {
                            clients.push(Client {
                                rest: 0,
                                out: Vec::new(),
                                sent: Vec::new(),
                                busy: false,
                            });
                        }
                        let recv = opcode::RecvMulti::new(types::Fd(fd), 0)
                            .build()
                            .user_data(2 << 32 | fd as u64);
                        // SAFETY: the memory is that of the buffer ring.
                        unsafe { sq.push(&recv)? };
                    }
                    2 => {
                        if entry.result() <= 0 {
                            // SAFETY: closes a descriptor that nobody else owns.
                            unsafe { libc::close(fd as i32) };
                            continue;
                        }
                        let client = &mut clients[fd];
                        client.rest += entry.result() as usize;
                        if client.out.is_empty() {
                            dirty.push(fd);
                        }
                        while client.rest >= REQUEST {
                            client.rest -= REQUEST;
                            client.out.extend_from_slice(&reply);
                        }
                        give(cqueue::buffer_select(entry.flags()).ok_or("no buffer")?);
                    }
                    _ => {
                        clients[fd].busy = false;
                        if !clients[fd].out.is_empty() {
                            dirty.push(fd);
                        }
                    }
                }
            }
            cq.sync();
            for fd in dirty.drain(..) {
                let client = &mut clients[fd];
                if client.busy || client.out.is_empty() {
                    continue;
                }
                client.busy = true;
                client.sent.clear();
                std::mem::swap(&mut client.out, &mut client.sent);
                let send = opcode::Send::new(
                    types::Fd(fd as i32),
                    client.sent.as_ptr(),
                    client.sent.len() as u32,
                )
                .flags(libc::MSG_NOSIGNAL)
                .build()
                .user_data(3 << 32 | fd as u64);
                // SAFETY: `sent` is left alone until the completion.
                unsafe { sq.push(&send)? };
            }
        }
    }
}
