//! `maxmemory-clients`: how much all connections together may hold; beyond it the largest are closed.
//!
//! - Each core counts what its own clients hold. A client is counted anew at the end of a turn in which it was heard or sent something, so no
//!   turn looks at all of them; ten times a second all are.
//! - Cores publish their sums, and the size class (power of two) of their largest client that may be closed. A core that finds all sums together
//!   above the limit closes its own clients, largest first, while its largest is of the highest class of all; otherwise it has the core with that
//!   class take a turn, which finds the same. Equal classes go by the cores' numbers, so two cores do not close clients for the same bytes.
//! - As in Redis, a client under CLIENT NO-EVICT is counted but not closed, a limit below 128 KB is 128 KB, and what an output buffer limit has closed
//!   already does not count.
//!
//! Invariants: `total` and `sizes` are the sums of [`Client::counted`] over the core's clients; without a limit nothing is counted.

use crate::client::{Client, Life};
use crate::commands::client_line;
use crate::config::Config;
use crate::core::{Control, Core};
use crate::io::ConnId;
use std::sync::atomic::Ordering::{Acquire, Release};

/// A lower limit would leave no client that could set it right.
const LEAST: u64 = 128 << 10;

/// What of a client is in the sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    bytes: usize,
    /// 0: it is not to be closed.
    class: u8,
}

/// A core's part.
#[derive(Debug)]
pub struct ClientLimit {
    /// Bytes; 0: no limit.
    limit: u64,
    total: usize,
    /// Clients that may be closed, by class.
    sizes: [u32; 65],
    /// Those that may have changed since they were counted.
    changed: Vec<ConnId>,
}

impl Default for ClientLimit {
    fn default() -> Self {
        Self {
            limit: 0,
            total: 0,
            sizes: [0; 65],
            changed: Vec::new(),
        }
    }
}

impl ClientLimit {
    #[inline]
    pub fn is_on(&self) -> bool {
        self.limit > 0
    }
    /// Something of this client may have changed. Only where [`ClientLimit::is_on`].
    pub fn note(&mut self, conn: ConnId) {
        self.changed.push(conn);
    }
    pub fn note_all(&mut self, conns: &[ConnId]) {
        self.changed.extend_from_slice(conns);
    }
    fn count(&mut self, client: &mut Client) {
        self.replace(client, measure(client));
    }
    /// It is gone, or counting ends.
    pub fn forget(&mut self, client: &mut Client) {
        self.replace(client, Counted::default());
    }
    fn replace(&mut self, client: &mut Client, now: Counted) {
        let before = std::mem::replace(&mut client.counted, now);
        self.total = self.total - before.bytes + now.bytes;
        self.sizes[usize::from(before.class)] -= u32::from(before.class > 0);
        self.sizes[usize::from(now.class)] += u32::from(now.class > 0);
    }
    /// The class of the largest client that may be closed; 0: there is none.
    fn largest(&self) -> u8 {
        self.sizes.iter().rposition(|n| *n > 0).unwrap_or(0) as u8
    }
}

fn measure(client: &Client) -> Counted {
    if client.life == Life::Closed || client.loads {
        return Counted::default();
    }
    let bytes = client.memory();
    let class = match client.no_evict {
        true => 0,
        false => 1 + bytes.max(1).ilog2() as u8,
    };
    Counted { bytes, class }
}

/// The limit in bytes; 0: none.
fn limit(config: &Config) -> u64 {
    let bytes = match config.maxmemory_clients {
        0 => return 0,
        // So many percent of what there is for everything.
        percent @ ..0 => match config.maxmemory {
            0 => return 0,
            all => (u128::from(all) * u128::from(percent.unsigned_abs()) / 100) as u64,
        },
        bytes => bytes.unsigned_abs(),
    };
    bytes.max(LEAST)
}

impl Core {
    /// The limit may have changed.
    pub(crate) fn set_client_limit(&mut self) {
        let limit = limit(&self.config);
        if limit == 0 && !self.client_limit.is_on() {
            return;
        }
        self.client_limit.limit = limit;
        if limit > 0 {
            return self.count_clients();
        }
        for client in self.clients.iter_mut() {
            self.client_limit.forget(client);
        }
        self.client_limit.changed = Vec::new();
        self.publish_clients();
    }

    /// Counts all clients.
    fn count_clients(&mut self) {
        for client in self.clients.iter_mut() {
            self.client_limit.count(client);
        }
        self.publish_clients();
    }
    /// Ten times a second: what nobody noticed, as buffers that shrank.
    pub(crate) fn client_limit_cron(&mut self) {
        if self.client_limit.is_on() {
            self.count_clients();
            self.enforce_client_limit();
        }
    }

    /// At the end of a turn, when clients beyond their own limits are closed already.
    #[inline]
    pub(crate) fn limit_clients(&mut self) {
        if self.client_limit.is_on() {
            self.enforce_client_limit();
        }
    }
    /// Between the commands of a turn, when memory is short: replies that wait for its end count too.
    pub(crate) fn limit_clients_now(&mut self) {
        // Not within a script: frames below may be about to answer.
        if self.client_limit.is_on() && !self.within.is_now() {
            self.client_limit.note_all(&self.dirty);
            self.enforce_client_limit();
        }
    }
    /// Bytes above the limit that some core is about to free.
    pub(crate) fn clients_excess(&self) -> u64 {
        if !self.client_limit.is_on() || self.core_with_largest_client().is_none() {
            return 0;
        }
        self.clients_sum().saturating_sub(self.client_limit.limit)
    }
    fn enforce_client_limit(&mut self) {
        let mut changed = std::mem::take(&mut self.client_limit.changed);
        for conn in changed.drain(..) {
            if let Some(client) = self.clients.get_mut(conn) {
                self.client_limit.count(client);
            }
        }
        self.client_limit.changed = changed;
        self.publish_clients();
        if self.clients_exceed() {
            self.evict_clients();
        }
    }

    /// The sum before the class: who sees a class that fell sees the sum that fell with it.
    fn publish_clients(&self) {
        let mine = &self.shared.memory.cores[self.id];
        mine.clients.store(self.client_limit.total as u64, Release);
        let class = u64::from(self.client_limit.largest());
        mine.largest_client.store(class, Release);
    }
    fn clients_exceed(&self) -> bool {
        self.clients_sum() > self.client_limit.limit
    }
    fn clients_sum(&self) -> u64 {
        let cores = self.shared.memory.cores.iter();
        cores.map(|c| c.clients.load(Acquire)).sum()
    }
    /// The core that is to close clients, and the class of its largest.
    fn core_with_largest_client(&self) -> Option<usize> {
        let class = |core: usize| self.shared.memory.cores[core].largest_client.load(Acquire);
        let best = (0..self.cores()).map(|core| (class(core), core));
        let (class, core) = best.rev().max_by_key(|(class, _)| *class)?;
        (class > 0).then_some(core)
    }

    #[cold]
    fn evict_clients(&mut self) {
        if self.core_with_largest_client() == Some(self.id) {
            // As they are at this moment: nobody goes for what was sent meanwhile.
            self.count_clients();
            let evictable = self.clients.iter().filter(|c| c.counted.class > 0);
            let mut by_size: Vec<(usize, ConnId)> =
                evictable.map(|c| (c.counted.bytes, c.conn)).collect();
            by_size.sort_unstable();
            while let Some((_, conn)) = by_size.pop()
                && self.clients_exceed()
                && self.core_with_largest_client() == Some(self.id)
            {
                self.evict_client(conn);
                self.publish_clients();
            }
        }
        if self.clients_exceed()
            && let Some(core) = self.core_with_largest_client()
            && core != self.id
        {
            // Nothing but a reason to take a turn.
            self.mailbox.send_control(core, Control::MakeRoom);
        }
    }
    fn evict_client(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get(conn) {
            let mut line = String::new();
            client_line(self, client, None, &mut line);
            tracing::info!("Evicting client: {}", line.trim_end());
        }
        self.stats.evicted_clients += 1;
        self.close(conn);
        if let Some(client) = self.clients.get_mut(conn) {
            if !self.within.is_now() {
                // Nobody will send it.
                client.out = Vec::new();
            }
            self.client_limit.count(client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(conn: u32, bytes: usize) -> Client {
        let user = crate::acl::User::default_user().into();
        let mut client = Client::new(1, ConnId(conn), String::new(), String::new(), user, 0);
        client.query = Vec::with_capacity(bytes);
        client
    }

    #[test]
    fn percent_are_of_maxmemory_and_low_limits_are_raised() {
        let of = |clients: i64, all: u64| {
            limit(&Config {
                maxmemory_clients: clients,
                maxmemory: all,
                ..Config::default()
            })
        };
        assert_eq!(of(0, 1 << 30), 0);
        assert_eq!(of(5 << 20, 0), 5 << 20);
        assert_eq!(of(-7, 100 << 20), 7 << 20);
        assert_eq!(of(-7, 0), 0);
        assert_eq!((of(1, 0), of(-1, 1000)), (LEAST, LEAST));
    }

    #[test]
    fn sums_follow_their_clients() {
        let mut all = ClientLimit::default();
        let (mut small, mut large) = (client(0, 1000), client(1, 1 << 20));
        all.count(&mut small);
        assert_eq!(
            (all.total, all.largest()),
            (small.memory(), small.counted.class)
        );
        all.count(&mut large);
        assert_eq!(all.total, small.memory() + large.memory());
        assert_eq!(all.largest(), 21);
        large.no_evict = true;
        all.count(&mut large);
        assert_eq!(all.total, small.memory() + large.memory());
        assert_eq!(all.largest(), small.counted.class);
        // An output buffer limit has closed it.
        large.life = Life::Closed;
        all.count(&mut large);
        assert_eq!(all.total, small.memory());
        all.forget(&mut small);
        all.forget(&mut large);
        assert_eq!((all.total, all.largest()), (0, 0));
        assert!(all.sizes.iter().all(|n| *n == 0));
    }

    #[test]
    fn a_transaction_a_watch_and_what_is_being_received_count() {
        let mut c = client(0, 0);
        let before = c.memory();
        c.receiving_max = 5000;
        c.in_flight = 7;
        assert_eq!(c.memory(), before + 5007);
        c.watch_memory = 300;
        assert_eq!(c.memory(), before + 5007, "without watchers");
    }
}
