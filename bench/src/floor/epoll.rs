//! The floor on epoll: level-triggered, one read and one write per ready connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use anyhow::Result;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use super::Echo;

const LISTENER: u64 = u64::MAX;

struct Conn {
    stream: TcpStream,
    partial: usize,
    /// Bytes owed because the socket was full: written when it is writable.
    owed: usize,
    /// Registered for writability instead of readability.
    waiting: bool,
}

pub fn serve(listener: TcpListener, echo: &Echo) -> Result<()> {
    listener.set_nonblocking(true)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &poll,
        &listener,
        epoll::EventData::new_u64(LISTENER),
        epoll::EventFlags::IN,
    )?;
    let mut conns: Vec<Option<Conn>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut events = Vec::with_capacity(1024);
    let mut buf = vec![0; 16 * 1024];
    loop {
        events.clear();
        match epoll::wait(&poll, spare_capacity(&mut events), None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        }
        for event in &events {
            let token = event.data.u64();
            if token == LISTENER {
                accept(&listener, &poll, &mut conns, &mut free)?;
                continue;
            }
            let index = token as usize;
            let Some(conn) = &mut conns[index] else {
                continue;
            };
            if !conn.serve(echo, &mut buf, &poll, token)? {
                conns[index] = None;
                free.push(index);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    poll: impl AsFd,
    conns: &mut Vec<Option<Conn>>,
    free: &mut Vec<usize>,
) -> Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let index = free.pop().unwrap_or(conns.len());
        if index == conns.len() {
            conns.push(None);
        }
        epoll::add(
            &poll,
            &stream,
            epoll::EventData::new_u64(index as u64),
            epoll::EventFlags::IN,
        )?;
        conns[index] = Some(Conn {
            stream,
            partial: 0,
            owed: 0,
            waiting: false,
        });
    }
}

impl Conn {
    /// False when the connection is over.
    fn serve(&mut self, echo: &Echo, buf: &mut [u8], poll: impl AsFd, token: u64) -> Result<bool> {
        if self.owed == 0 {
            match self.stream.read(buf) {
                Ok(0) => return Ok(false),
                Ok(n) => self.owed = echo.count(&buf[..n], &mut self.partial) * echo.reply_size,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Ok(false),
            }
        }
        while self.owed > 0 {
            // What is owed ends at a reply's end, so its first byte is found by counting back from there.
            let lead = self.owed % echo.reply_size;
            let skip = if lead == 0 { 0 } else { echo.reply_size - lead };
            let len = self.owed.min(echo.ready() * echo.reply_size - skip);
            match self.stream.write(&echo.replies[skip..skip + len]) {
                Ok(n) => self.owed -= n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    return self.wait_for(epoll::EventFlags::OUT, poll, token);
                }
                Err(_) => return Ok(false),
            }
        }
        if self.waiting {
            self.wait_for(epoll::EventFlags::IN, poll, token)
        } else {
            Ok(true)
        }
    }

    fn wait_for(&mut self, flags: epoll::EventFlags, poll: impl AsFd, token: u64) -> Result<bool> {
        epoll::modify(&poll, &self.stream, epoll::EventData::new_u64(token), flags)?;
        self.waiting = flags == epoll::EventFlags::OUT;
        Ok(true)
    }
}
