//! What comes from clients: set aside for the turn, stalled, gone on with.

use super::{Core, Stream};
use crate::client::Life;
use crate::io::{ConnId, Event, Io};
use crate::request::{Chunk, Data, UNREAD_MIN};
use crate::scripts::debug::take_input;

impl Core {
    pub(crate) fn take_events(&mut self, events: &mut Vec<Event<Stream>>) {
        for event in events.drain(..) {
            if self.waits_for_script(&event) {
                self.early_events.push(event);
                continue;
            }
            match event {
                Event::Received { conn, buf } => self.received(conn, buf),
                Event::Filled { conn, buf } => {
                    if let Some(client) = self.clients.get_mut(conn) {
                        client.receiving = false;
                        client.receiving_max = 0;
                        client.query = buf;
                        self.queue_query(conn);
                    }
                }
                Event::Sent { conn, buf } => {
                    self.spare_buffer(buf);
                    if let Some(client) = self.clients.get_mut(conn) {
                        client.sending = false;
                        client.in_flight = 0;
                        if self.client_limit.is_on() {
                            self.client_limit.note(conn);
                        }
                        if client.life == Life::Open && client.out.is_empty() {
                            continue;
                        }
                        self.mark_dirty(conn);
                    }
                }
                Event::Eof { conn } => {
                    if let Some(client) = self.clients.get_mut(conn) {
                        client.half_closed = true;
                        self.half_closed.push(conn);
                    }
                }
                Event::Closed { conn, reason } => self.closed(conn, reason),
                Event::Accepted {
                    listener,
                    stream,
                    peer,
                    local,
                } => self.accepted(listener, stream, peer, local),
                Event::AcceptFailed { errno, .. } => {
                    let reason = std::io::Error::from_raw_os_error(errno);
                    tracing::warn!("Accepting client connection: {reason}");
                }
                Event::Signal { number } => crate::signals::received(self, number),
            }
        }
    }

    pub(super) fn received(&mut self, conn: ConnId, buf: crate::io::RecvBuf) {
        self.stats.bytes_in += buf.len() as u64;
        self.stats.reads += 1;
        if self.client_limit.is_on() {
            self.client_limit.note(conn);
        }
        let held = match self.clients.get_mut(conn) {
            None => {
                self.io.release(buf);
                return;
            }
            Some(client) => {
                client.bytes_in += buf.len() as u64;
                if client.life != Life::Open {
                    self.io.release(buf);
                    return;
                }
                if take_input(&client.debug, &buf) {
                    self.io.release(buf);
                    return;
                }
                // Only who has had something in this turn can have a chunk, unless some have been left over. Else the chunks of all connections
                // would be looked through for each.
                let had = std::mem::replace(&mut client.heard_turn, self.turn) == self.turn;
                let count = self.chunks.len();
                let count = if had {
                    count
                } else {
                    count.min(self.chunks_left)
                };
                self.chunks[..count].iter().any(|c| c.conn == conn)
                    || client.stalled
                    || client.receiving
                    || client.serving
                    || !client.query.is_empty()
            }
        };
        if held {
            // A second piece of the same turn comes behind the first.
            self.query_behind(conn, buf);
            return;
        }
        self.chunks.push(Chunk {
            conn,
            data: Data::Received(buf),
        });
    }

    /// Appends to the query buffer, and puts the connection up for handling.
    pub(super) fn query_behind(&mut self, conn: ConnId, buf: crate::io::RecvBuf) {
        let chunk = self.chunks.iter_mut().find(|c| c.conn == conn);
        if let Some(chunk) = chunk {
            // One chunk a connection and turn: the pieces become one.
            let mut bytes = match std::mem::replace(&mut chunk.data, Data::Query(Vec::new())) {
                Data::Query(bytes) => bytes,
                Data::Received(first) => {
                    let bytes = first.to_vec();
                    self.io.release(first);
                    bytes
                }
            };
            bytes.extend_from_slice(&buf);
            chunk.data = Data::Query(bytes);
        } else if let Some(client) = self.clients.get_mut(conn) {
            client.query.extend_from_slice(&buf);
            if client.query.len() as u64 > self.config.client_query_buffer_limit {
                self.query_too_long(conn);
            } else {
                if client.stalled && !client.unread && client.query.len() >= UNREAD_MIN {
                    client.unread = true;
                    self.io.pause(conn);
                }
                self.queue_query(conn);
            }
        }
        self.io.release(buf);
    }

    /// Puts the connection's query buffer up for handling in this turn, unless it waits for something.
    pub(crate) fn queue_query(&mut self, conn: ConnId) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        if client.stalled || client.receiving || client.serving || client.query.is_empty() {
            return;
        }
        client.heard_turn = self.turn;
        let data = Data::Query(std::mem::take(&mut client.query));
        self.chunks.push(Chunk { conn, data });
    }

    /// A stalled client's outstanding replies are there: its requests go on.
    pub(crate) fn go_on(&mut self, conn: ConnId) {
        self.going_on.push(conn);
    }

    pub(super) fn continue_stalled(&mut self) {
        if self.going_on.is_empty() {
            return;
        }
        // One round; who stalls again goes on in the next turn.
        for conn in std::mem::take(&mut self.going_on) {
            if let Some(client) = self.clients.get_mut(conn)
                && client.stalled
                && !client.is_waiting()
            {
                if client.script_next {
                    self.script_conns.push_back(conn);
                    continue;
                }
                client.stalled = false;
                self.queue_query(conn);
            }
        }
        let mut chunks = std::mem::take(&mut self.chunks);
        self.serve(&mut chunks);
        while let Some(conn) = self.script_conns.pop_front() {
            self.begin_script_of(conn);
            chunks.append(&mut self.chunks);
            self.serve(&mut chunks);
        }
        self.chunks = chunks;
    }

    /// Puts up the requests of a connection whose next command is a script.
    pub(crate) fn begin_script_of(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(conn)
            && std::mem::take(&mut client.script_next)
            && client.stalled
        {
            client.stalled = false;
            self.queue_query(conn);
        }
    }

    /// Clients that send no more end as soon as the requests that they sent have been handled.
    pub(super) fn end_half_closed(&mut self) {
        if self.half_closed.is_empty() {
            return;
        }
        let mut conns = std::mem::take(&mut self.half_closed);
        conns.retain(|&conn| {
            // The number may be another client's by now.
            let client = self.clients.get(conn).filter(|c| c.half_closed);
            if client.is_some_and(|c| c.waiter().is_some()) {
                // As Redis: who is gone waits for nothing, and what it sent behind is dropped.
                self.close(conn);
                return false;
            }
            let stalled = client.is_some_and(|c| c.stalled && c.life == Life::Open);
            if client.is_some() && !stalled {
                self.end(conn);
            }
            stalled
        });
        self.half_closed = conns;
    }
}
