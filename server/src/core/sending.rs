//! What goes out at the end of a turn: parcels, wake-ups, replies.

use super::Core;
use crate::client::Life;
use crate::io::{ConnId, Io};
use crate::mailbox::Mail;

/// How large a buffer is kept for reuse.
const SPARE_CAPACITY: usize = 64 << 10;

impl Core {
    #[inline]
    pub(crate) fn mark_dirty(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(conn)
            && !client.dirty
        {
            client.dirty = true;
            self.dirty.push(conn);
        }
    }

    pub(crate) fn spare_buffer(&mut self, buf: Vec<u8>) {
        if buf.capacity() <= SPARE_CAPACITY {
            self.buffers.push(buf);
        }
    }

    pub(crate) fn send_parcels(&mut self) {
        for core in 0..self.outbox.len() {
            if let Some(parcel) = self.outbox[core].take() {
                self.stats.forwarded += parcel.items.len() as u64;
                self.mailbox.send(core, Mail::Commands(parcel));
            }
        }
        self.wake_receivers();
    }

    /// Wakes the sleeping cores that got something.
    pub(crate) fn wake_receivers(&mut self) {
        let Core { mailbox, io, .. } = self;
        mailbox.to_wake(|core| io.wake(core));
    }

    /// The same for one that waits for them within this turn. Wakes of earlier in the turn may still be queued, too.
    pub(crate) fn wake_receivers_now(&mut self) {
        self.wake_receivers();
        self.io.push_wakes();
    }

    pub(crate) fn send_replies(&mut self) {
        let waiting = self.log.flights.take_landed();
        let waiting = waiting.into_iter().map(|waits| waits.conn);
        for conn in waiting.chain(std::mem::take(&mut self.log.answered.conns)) {
            self.mark_dirty(conn);
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        if self.client_limit.is_on() {
            self.client_limit.note_all(&dirty);
        }
        for conn in dirty.drain(..) {
            self.send_reply(conn, usize::MAX);
        }
        self.dirty = dirty;
    }

    /// Sends a client the first `max` bytes of what there is for it.
    pub(crate) fn send_reply(&mut self, conn: ConnId, max: usize) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        if max == usize::MAX {
            client.dirty = false;
            client.push_late();
        }
        if crate::output_limit::of(client, &self.config).is_some() && self.check_output(conn) {
            return;
        }
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        if client.sending || client.life == Life::Closed {
            return;
        }
        if !client.out.is_empty() {
            // Its next requests get a spare buffer for their replies.
            let mut buf = std::mem::take(&mut client.out);
            if max < buf.len() {
                client.out = buf.split_off(max);
            }
            client.sending = true;
            client.in_flight = buf.len();
            client.bytes_out += buf.len() as u64;
            self.stats.bytes_out += buf.len() as u64;
            self.stats.writes += 1;
            self.io.send(conn, buf);
        } else if client.life == Life::Ending && !client.is_waiting() {
            client.life = Life::Closed;
            self.io.close(conn, true);
        } else if client.out.capacity() > 0 {
            // An idle client keeps no buffer.
            let buf = std::mem::take(&mut client.out);
            self.spare_buffer(buf);
        }
    }
}
