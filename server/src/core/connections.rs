//! Connections come and go.

use super::{Control, Core, Stream};
use crate::client::{Client, Life};
use crate::io::{CloseReason, ConnId, Io, ListenerId};
use crate::mailbox::Ticket;
use crate::request::Data;
use ringwood_protocol::error::CommandError;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What `protected-mode` tells a client from elsewhere.
const DENIED: &str = "-DENIED Protected mode is on and the default user has no password, so only connections from the \
    loopback interface are accepted. To connect from other hosts, do one of these: 1) set a password (requirepass); \
    2) 'CONFIG SET protected-mode no' from this host, with CONFIG REWRITE to keep it; 3) 'protected-mode no' in the \
    configuration file or '--protected-mode no' on the command line. Without a password, see to it that nobody else can \
    reach the port.\r\n";

/// The listener of a core's own port; all others have lower numbers.
pub const SHARD_LISTENER: ListenerId = ListenerId(u32::MAX);

impl Core {
    pub(super) fn accepted(
        &mut self,
        listener: ListenerId,
        stream: Stream,
        peer: String,
        local: String,
    ) {
        let shared = self.shared.clone();
        shared.total_connections.fetch_add(1, Ordering::Relaxed);
        let total: usize = shared
            .clients
            .iter()
            .map(|c| c.load(Ordering::Relaxed))
            .sum();
        let own_port = listener == SHARD_LISTENER;
        // Evenly, whatever few there are: to the core with the fewest.
        let core = if own_port {
            self.id
        } else {
            let load = |c: usize| shared.clients[c].load(Ordering::Relaxed);
            (0..self.cores())
                .min_by_key(|&c| load(c))
                .expect("there is a core")
        };
        let refusal = if total >= self.config.maxclients as usize {
            Some("-ERR max number of clients reached\r\n")
        } else if self.config.protected_mode
            && self.users.default_user().nopass
            && !crate::client::is_local(&peer)
        {
            Some(DENIED)
        } else {
            None
        };
        if let Some(text) = refusal {
            shared.rejected_connections.fetch_add(1, Ordering::Relaxed);
            let conn = self.io.adopt(stream);
            self.io.send(conn, text.as_bytes().to_vec());
            self.io.close(conn, true);
            return;
        }
        shared.clients[core].fetch_add(1, Ordering::Relaxed);
        if core == self.id {
            self.adopt(stream, peer, local, own_port);
        } else {
            self.mailbox.send_control(
                core,
                Control::Adopt {
                    stream,
                    peer,
                    local,
                },
            );
        }
    }

    pub(super) fn adopt(&mut self, stream: Stream, peer: String, local: String, cluster: bool) {
        let fd = stream.as_fd().as_raw_fd();
        let conn = self.io.adopt(stream);
        if self.config.tcp_keepalive > 0 {
            self.io.keepalive(conn, self.config.tcp_keepalive);
        }
        let id = self.shared.next_client.fetch_add(1, Ordering::Relaxed);
        let user = self.users.default_user().clone();
        let mut client = Client::new(id, conn, peer, local, user, self.now.mono_ns);
        client.fd = fd;
        client.cluster = cluster;
        tracing::debug!("Accepted {}", client.peer);
        self.clients.insert(client);
        if self.client_limit.is_on() {
            self.client_limit.note(conn);
        }
    }

    /// The connection that brings this core's part of the log.
    pub fn adopt_loader(&mut self, stream: Stream) {
        self.loading = true;
        let known: Vec<ConnId> = self.clients.iter().map(|c| c.conn).collect();
        self.adopt(stream, String::new(), String::new(), false);
        for client in self.clients.iter_mut().filter(|c| !known.contains(&c.conn)) {
            (client.loads, client.restricted, client.authenticated) = (true, false, true);
        }
        self.shared.clients[self.id].fetch_add(1, Ordering::Relaxed);
    }

    /// This core has read its part of the log. With the last, all begin to write.
    pub(super) fn loader_ended(&mut self) {
        if self.shared.aof.readers.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        if self.shared.aof.reloading.load(Ordering::Acquire) {
            return self.end_reload();
        }
        let ask = |core: &mut Core| {
            core.reset_stats();
            core.start_logging();
            Vec::new()
        };
        let conclude = |core: &mut Core, _: Ticket, _: Vec<Vec<u8>>| {
            let failed = crate::aof::replay::FAILED.load(Ordering::Relaxed);
            if failed > 0 {
                tracing::warn!("{failed} commands of the append only file answered with an error");
            }
            core.shared.aof.loading.store(false, Ordering::Release);
        };
        self.ask_all(Ticket::NOBODY, Arc::new(ask), Box::new(conclude));
    }

    /// No more requests from this client; it closes when its replies have been sent.
    pub(crate) fn end(&mut self, conn: ConnId) {
        self.abandon_wait(conn);
        self.drop_subscriptions(conn);
        self.end_monitor(conn);
        self.end_tracking(conn);
        if let Some(client) = self.clients.get_mut(conn)
            && client.life == Life::Open
        {
            // A session hears of it by this, and ends.
            client.debug.input = None;
            client.life = Life::Ending;
            self.mark_dirty(conn);
        }
    }

    /// Closes a connection at once.
    pub fn close(&mut self, conn: ConnId) {
        self.abandon_wait(conn);
        self.drop_subscriptions(conn);
        self.end_monitor(conn);
        self.end_tracking(conn);
        if let Some(client) = self.clients.get_mut(conn)
            && client.life != Life::Closed
        {
            client.debug.input = None;
            client.life = Life::Closed;
            self.io.close(conn, false);
        }
    }

    pub(super) fn closed(&mut self, conn: ConnId, reason: CloseReason) {
        self.abandon_wait(conn);
        self.unwatch(conn);
        self.drop_subscriptions(conn);
        self.end_monitor(conn);
        self.end_tracking(conn);
        if let Some(mut client) = self.clients.remove(conn) {
            self.client_limit.forget(&mut client);
            if client.loads {
                self.loader_ended();
            }
            self.within.ended(conn, client.serving);
            self.shared.clients[self.id].fetch_sub(1, Ordering::Relaxed);
            self.chunks.retain_mut(|chunk| {
                if chunk.conn != conn {
                    return true;
                }
                if let Data::Received(buf) =
                    std::mem::replace(&mut chunk.data, Data::Query(Vec::new()))
                {
                    self.io.release(buf);
                }
                false
            });
            tracing::debug!("Client closed connection {} ({reason:?})", client.peer);
        }
    }

    pub(crate) fn moved(&self, conn: ConnId, slot: u16, owner: u16) -> CommandError {
        let local = self.clients.get(conn).map_or("", |c| &c.local);
        let address = crate::cluster::address(&self.config, local, owner as usize);
        CommandError::Text(format!("MOVED {slot} {address}").into())
    }
}
