//! Runs of plain commands: nearly every request. What a command has to be looked at for before it runs, and what has to be done behind it, is
//! looked at once for all commands of a client that come one behind the other, as long as nothing else happens.

use super::batch::Request;
use super::pause::Paused;
use super::run::{DataCall, run};
use crate::client::Client;
use crate::core::Core;
use crate::io::ConnId;
use crate::mailbox::{Reads, Ticket};
use ringwood_shard::keyspace::Key;

impl Core {
    #[inline]
    pub(super) fn is_own(&self, key: &Key<'_>) -> bool {
        self.cores() == 1 || self.owner(key.slot) as usize == self.id
    }

    /// Nothing out of the ordinary concerns this client now: none of what [`Core::execute`] looks at before a command runs, and no work
    /// that it would have to wait for. While only plain commands run this stays so.
    fn is_plain(&self, conn: ConnId) -> bool {
        self.clients.get(conn).is_some_and(Client::is_plain)
            && self.locks.is_empty()
            && self.gathering.is_empty()
            && !self.loading
            && !self.room.is_out()
            && !self.refuses_writes
            && !self.shared.scripts.busy.any()
            && self.paused == Paused::No
            && !self.monitors.any()
    }

    /// Runs the plain commands with which these begin, as far as they are one client's, timed together, and nothing out of the ordinary comes of
    /// them. How many.
    pub(super) fn run_plain(&mut self, requests: &[Request<'_>], words: &[&[u8]]) -> usize {
        let conn = requests[0].conn;
        if !self.is_plain(conn) {
            return 0;
        }
        let Core {
            id,
            shard,
            stats,
            clients,
            dirty,
            thresholds,
            ..
        } = self;
        let client = clients.get_mut(conn).expect("looked at above");
        let reply_max = thresholds.lap_reply;
        let caller = match shard.attention.tracking.on {
            true => Ticket::of(*id, conn, client.id, Reads::PLAIN),
            false => Ticket::NOBODY,
        };
        let (mut count, mut len) = (0, 0);
        let mut wants = None;
        for r in requests {
            let goes_on = r.plain && r.conn == conn && (count == 0 || !r.alone);
            let Some(entry) = r.entry.filter(|_| goes_on) else {
                break;
            };
            crate::crash::note_command(entry, client.id);
            let call = DataCall {
                entry,
                db: client.db,
                version: client.version,
                keys: r.key.as_slice(),
                serving: false,
                aside: true,
                caller,
            };
            let from = client.out.len();
            wants = run(
                shard,
                stats,
                &call,
                &words[r.args.0..r.args.1],
                &mut client.out,
            );
            stats.called(entry);
            count += 1;
            len = client.out.len() - from;
            let unusual = r.alone
                || wants.is_some()
                || len >= reply_max
                || !shard.events.is_empty()
                || !shard.attention.touched.is_empty();
            if unusual {
                break;
            }
        }
        let Some(last) = requests[..count].last() else {
            return 0;
        };
        let (entry, client_id) = (last.entry.expect("it ran"), client.id);
        client.commands += count as u64;
        client.last_command = Some(entry);
        if !client.dirty {
            client.dirty = true;
            dirty.push(conn);
        }
        let args = &words[last.args.0..last.args.1];
        if let Some(wants) = wants {
            self.wanted(conn, entry, args, *wants);
            return count;
        }
        if len >= self.thresholds.lap_reply {
            let caller = Ticket::of(self.id, conn, client_id, Reads::PLAIN);
            self.note_reply(caller, entry, args, len);
        }
        if !self.shard.events.is_empty() {
            self.publish_events();
        }
        if !self.shard.attention.touched.is_empty() {
            self.serve_blocked();
        }
        count
    }
}
