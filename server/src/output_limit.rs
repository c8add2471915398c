//! `client-output-buffer-limit`: a client that does not take what it is sent is cut off.

use crate::client::{Client, Life};
use crate::config::Config;
use crate::config::compound::OutputBufferLimit;
use crate::core::Core;
use crate::io::ConnId;

/// Redis writes so many bytes into a buffer that every client has, and which does not count.
const UNCOUNTED: usize = 16 << 10;

const SECOND_NS: u64 = 1_000_000_000;

/// The limit that holds for a client, if there is one.
#[inline]
pub(crate) fn of(client: &Client, config: &Config) -> Option<OutputBufferLimit> {
    let limits = &config.client_output_buffer_limit;
    let limit = if client.subscriptions.is_some() {
        limits.pubsub
    } else {
        limits.normal
    };
    (limit.hard_bytes > 0 || limit.soft_bytes > 0).then_some(limit)
}

impl OutputBufferLimit {
    /// Notes when the soft limit is passed, and says whether the client must go: at once beyond the hard limit, after its
    /// seconds beyond the soft one.
    pub(crate) fn is_exceeded(&self, client: &mut Client, now_ns: u64) -> bool {
        let bytes = match client.output_len() {
            ..=UNCOUNTED => 0,
            bytes => bytes as u64,
        };
        if self.soft_bytes == 0 || bytes < self.soft_bytes {
            client.over_soft_limit_since = 0;
        } else if client.over_soft_limit_since == 0 {
            client.over_soft_limit_since = now_ns;
        }
        let since = client.over_soft_limit_since;
        // In whole seconds, as in Redis: nobody is cut off before the time is over by any other clock.
        let seconds = (now_ns / SECOND_NS).saturating_sub(since / SECOND_NS);
        let too_long = since > 0 && seconds > self.soft_seconds;
        too_long || self.hard_bytes > 0 && bytes >= self.hard_bytes
    }
}

impl Core {
    /// Closes a client that is over its limit.
    #[cold]
    pub(crate) fn output_too_long(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get(conn).filter(|c| c.life != Life::Closed) {
            self.stats.output_limit_closes += 1;
            tracing::warn!(
                "Client {} scheduled to be closed ASAP for overcoming of output buffer limits.",
                client.peer
            );
        }
        self.close(conn);
    }

    /// Closes clients that are beyond their soft limit for long enough and are sent nothing new meanwhile.
    pub(crate) fn check_soft_limits(&mut self) {
        for conn in std::mem::take(&mut self.over_soft_limit) {
            self.check_output(conn);
        }
    }

    /// Closes the client if it is over its limit. True when it did.
    pub(crate) fn check_output(&mut self, conn: ConnId) -> bool {
        let Some(client) = self.clients.get_mut(conn) else {
            return false;
        };
        let Some(limit) = of(client, &self.config) else {
            client.over_soft_limit_since = 0;
            return false;
        };
        if limit.is_exceeded(client, self.now.mono_ns) {
            self.output_too_long(conn);
            return true;
        }
        if client.over_soft_limit_since > 0 && !self.over_soft_limit.contains(&conn) {
            self.over_soft_limit.push(conn);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(bytes: usize) -> Client {
        let mut client = Client::new(
            1,
            ConnId(0),
            String::new(),
            String::new(),
            crate::acl::User::default_user().into(),
            0,
        );
        client.out = vec![b'x'; bytes];
        client
    }

    #[test]
    fn the_hard_limit_acts_at_once() {
        let limit = OutputBufferLimit {
            hard_bytes: 20_000,
            soft_bytes: 0,
            soft_seconds: 0,
        };
        assert!(!limit.is_exceeded(&mut client(19_999), 1));
        assert!(limit.is_exceeded(&mut client(20_000), 1));
    }

    #[test]
    fn what_every_client_has_room_for_does_not_count() {
        let limit = OutputBufferLimit {
            hard_bytes: 1,
            soft_bytes: 1,
            soft_seconds: 0,
        };
        let mut c = client(UNCOUNTED);
        assert!(!limit.is_exceeded(&mut c, 1) && !limit.is_exceeded(&mut c, SECOND_NS));
        assert!(limit.is_exceeded(&mut client(UNCOUNTED + 1), 1));
    }

    #[test]
    fn the_soft_limit_acts_after_its_time_without_a_pause() {
        let limit = OutputBufferLimit {
            hard_bytes: 0,
            soft_bytes: 20_000,
            soft_seconds: 2,
        };
        let mut c = client(20_000);
        assert!(!limit.is_exceeded(&mut c, 10 * SECOND_NS));
        assert!(!limit.is_exceeded(&mut c, 12 * SECOND_NS));
        assert!(!limit.is_exceeded(&mut c, 13 * SECOND_NS - 1));
        assert!(limit.is_exceeded(&mut c, 13 * SECOND_NS));
        c.out.truncate(50);
        assert!(!limit.is_exceeded(&mut c, 14 * SECOND_NS));
        c.out.resize(20_200, b'x');
        assert!(!limit.is_exceeded(&mut c, 15 * SECOND_NS));
        assert!(limit.is_exceeded(&mut c, 18 * SECOND_NS));
    }
}
