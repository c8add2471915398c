//! The raw floor: the ring alone. No byte of a reply is written: sends point into one block of ready replies.

use std::net::{TcpListener, TcpStream};

use anyhow::Result;

use super::Echo;
use crate::ring::{ConnId, Event, Ops, Ring};

const BUF_COUNT: u16 = 64;
const BUF_SIZE: u32 = 16 * 1024;

#[derive(Debug, Default, Clone)]
struct Conn {
    partial: usize,
    /// Replies asked for and not yet given to the ring.
    owed: usize,
    sending: bool,
}

pub fn serve(listener: TcpListener, echo: &Echo) -> Result<()> {
    let mut ring = Ring::new(BUF_COUNT, BUF_SIZE)?;
    ring.listen(listener)?;
    let mut conns: Vec<Conn> = Vec::new();
    let mut touched: Vec<ConnId> = Vec::new();
    loop {
        ring.turn(None, |ops, event| {
            match event {
                Event::Received(id, bytes) => {
                    let conn = &mut conns[id as usize];
                    let count = echo.count(bytes, &mut conn.partial);
                    if conn.owed == 0 && count > 0 && !conn.sending {
                        touched.push(id);
                    }
                    conn.owed += count;
                }
                Event::Sent(id, _) => {
                    let conn = &mut conns[id as usize];
                    conn.sending = false;
                    if conn.owed > 0 {
                        touched.push(id);
                    }
                }
                Event::Accepted(fd) => {
                    let stream = TcpStream::from(fd);
                    stream.set_nodelay(true)?;
                    let id = ops.adopt(stream.into())? as usize;
                    if conns.len() <= id {
                        conns.resize(id + 1, Conn::default());
                    }
                    conns[id] = Conn::default();
                }
                Event::Closed(id, _) => conns[id as usize] = Conn::default(),
            }
            Ok(())
        })?;
        // One send per connection and turn, however many reads the turn brought.
        ring.with_ops(|ops| {
            touched
                .drain(..)
                .try_for_each(|id| send(ops, &mut conns[id as usize], id, echo))
        })?;
    }
}

fn send(ops: &mut Ops<'_, '_>, conn: &mut Conn, id: ConnId, echo: &Echo) -> std::io::Result<()> {
    // A connection that closed later in the same turn owes nothing any more.
    if conn.owed == 0 || conn.sending {
        return Ok(());
    }
    let count = conn.owed.min(echo.ready());
    conn.owed -= count;
    conn.sending = true;
    ops.send_shared(id, &echo.replies, count * echo.reply_size)
}
