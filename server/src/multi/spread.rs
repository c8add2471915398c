//! EXEC without a word between its commands' cores: where every command has all its keys on one core, each owner runs its
//! commands, in their order, and the replies are put together. To all others that is one step, as with MGET's shares: parts
//! of one number, which no owner runs before what has a smaller one. Nothing is borrowed and no client waits for an EXEC before it sends
//! the next, and the EXECs of a turn go out together ([`crate::gather`]).
//!
//! Commands that may end somebody's wait (LPUSH) go alone: who waits is served behind each of them, before the next can
//! take what came.

use super::{Multi, Queued};
use crate::client::Client;
use crate::core::Core;
use crate::io::ConnId;
use crate::registry::{Keys, Run};
use crate::request::{Flow, OUTSTANDING_MAX};
use ringwood_protocol::command::{Route, WRITE};
use ringwood_protocol::slot::key_slot;
use ringwood_shard::locks::bit;

/// Where the commands of a transaction run.
pub(super) struct Spread {
    /// The commands' owners. Empty: all keys are this core's, and not in use.
    owners: Vec<u16>,
    /// Of the keys' slots.
    bits: u64,
    /// A command may end somebody's wait.
    wakes: bool,
}

impl Core {
    /// Where the commands of an EXEC run, if each has all its keys on one core and nothing else asks that one core sees all.
    pub(super) fn spread(&self, client: &Client) -> Option<Spread> {
        let Multi { commands, .. } = client.multi.as_deref()?;
        // Who reads the log has each of its EXECs done before the next. Of notifications and log see `route_many`. Where each command is logged as slow, one core runs them for the order's sake.
        let apart = self.cores() > 1
            && !client.cluster
            && !client.restricted
            && !client.loads
            && client.watchers.is_empty()
            && !self.shard.listening
            && !self.thresholds.times_all()
            && !self.shared.scripts.busy.any();
        if !apart {
            return None;
        }
        let mut spread = Spread {
            owners: Vec::with_capacity(commands.len()),
            bits: 0,
            wakes: false,
        };
        let mut free = true;
        let mut see = |slot| {
            spread.bits |= bit(slot);
            let owner = self.owner(slot);
            free &=
                owner as usize == self.id && !self.gathering.uses(slot) && !self.locks.in_use(slot);
            owner
        };
        for Queued { entry, words, key } in commands {
            let data = matches!(entry.spec.run, Run::Shard(_))
                && matches!(entry.spec.route, Route::Owner | Route::Scatter(_))
                && !entry.widens();
            if !data || self.log_is_near() && entry.has(WRITE) {
                return None;
            }
            spread.wakes |= entry.wakes;
            let owner = match (entry.keys, key) {
                (Keys::One(_), &Some((slot, _))) => see(slot),
                _ => {
                    let args = words.slices();
                    let mut keys = Vec::new();
                    if !entry.key_indexes(&args, &mut keys) {
                        return None;
                    }
                    let mut owners = keys.iter().map(|&at| see(key_slot(args[at])));
                    let owner = owners.next()?;
                    if !owners.all(|other| other == owner) {
                        return None;
                    }
                    owner
                }
            };
            spread.owners.push(owner);
        }
        let (&first, rest) = spread.owners.split_first()?;
        if free {
            spread.owners.clear();
        } else if first as usize != self.id
            && rest.iter().all(|o| *o == first)
            && !client.is_waiting()
        {
            // As one command of the other core it needs no number; but what follows on several cores would wait for it.
            return None;
        }
        Some(spread)
    }

    pub(super) fn exec_spread(&mut self, conn: ConnId, spread: &Spread) -> Flow {
        let client = self.clients.get_mut(conn).expect("looked up by the caller");
        let waiting = client.waiting_count();
        // Parts overtake parcels on their way.
        let behind = client.outstanding & spread.bits != 0 && !spread.owners.is_empty();
        if waiting > 0 && self.strict || waiting >= OUTSTANDING_MAX || behind {
            return Flow::Stall;
        }
        let entry = self.registry.logged().lookup(b"EXEC").expect("declared");
        self.stats.called(entry);
        if spread.owners.is_empty() {
            let exec = self.take_exec(conn);
            self.run_exec(exec, None);
            return Flow::Next;
        }
        let multi = client.multi.take().expect("the caller's");
        let (db, version) = (client.db, client.version);
        let ticket = self.ticket(conn);
        if spread.wakes {
            self.send_gathered();
        }
        self.gather_exec(ticket, db, version, &multi.commands, &spread.owners);
        if spread.wakes {
            self.send_gathered();
        }
        self.monitor_exec(conn, &multi.commands);
        Flow::Next
    }
}
