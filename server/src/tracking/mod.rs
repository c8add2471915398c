//! CLIENT TRACKING: clients that cache what they read hear when it changes.
//!
//! Who has read what is kept by the keys' owners ([`ringwood_shard::tracking`]). What became stale in a turn is sent out at the turn's end, behind
//! all its replies: mail between two cores stays in order, so the reply of what was read always comes to the client's core first, and
//! there the message waits behind replies that are outstanding ([`crate::client::Client::push`]). So no client keeps a value for good
//! that it read before the change: the reply comes, then the message.
//!
//! Who wants to hear of all keys with a prefix (BCAST) is kept by the clients' cores; every core knows which have any.

use crate::client::Life;
use crate::core::Core;
use crate::io::ConnId;
use crate::mailbox::{Mail, Ticket};
use crate::registry::Entry;
use crate::request::DataCall;
use ringwood_protocol::command::READONLY;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_protocol::slot::key_slot;
use ringwood_shard::ctx::Args;
use ringwood_shard::shard::Shard;
use ringwood_shard::tracking::{Reader, Stale};
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

/// How a client caches.
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    pub redirect: Option<Reader>,
    /// The redirection's target is gone, and the client was told.
    pub broken: bool,
    pub broadcast: bool,
    pub prefixes: Vec<Box<[u8]>>,
    pub opt_in: bool,
    pub opt_out: bool,
    pub no_loop: bool,
    /// CLIENT CACHING: for the next command.
    pub caching: bool,
}

impl Tracker {
    pub fn memory(&self) -> usize {
        let prefixes = self.prefixes.iter().map(|p| p.len());
        size_of::<Self>()
            + self.prefixes.capacity() * size_of::<Box<[u8]>>()
            + prefixes.sum::<usize>()
    }
    /// Whether the keys that it reads now are remembered.
    pub fn remembers(&self) -> bool {
        let left_out = match self.caching {
            true => self.opt_out,
            false => self.opt_in,
        };
        !(self.broadcast || left_out)
    }
}

/// What a core knows of caching clients.
#[derive(Debug, Default)]
pub struct Trackers {
    /// This core's.
    pub clients: usize,
    /// Those of them that want to hear of all keys.
    broadcast: Vec<(ConnId, u64)>,
    /// The cores that have any of either.
    cores: u128,
    broadcast_cores: u128,
    /// How many keys this core has told in [`crate::core::Shared::tracked_keys`].
    told: u64,
}

/// Keys that a client of the receiver has read, and no longer has right. `None`: all keys.
#[derive(Debug)]
pub struct Invalidation {
    to: Reader,
    /// It made the change itself.
    own: bool,
    keys: Option<Vec<Box<[u8]>>>,
}

/// A message for a client of the receiver that listens for another.
#[derive(Debug)]
pub struct Redirected {
    to: Reader,
    /// The client that caches: it hears if `to` is gone.
    of: Reader,
    keys: Option<Vec<Box<[u8]>>>,
}

/// Mail about caches.
#[derive(Debug)]
pub enum Message {
    Stale(Vec<Invalidation>),
    /// Keys that changed, sorted, each with its writer.
    Changed(Arc<Vec<(Box<[u8]>, u64)>>),
    Redirected(Redirected),
    /// The target of this client's redirection is gone.
    Broken(Reader),
}

/// Keys that are forgotten at once, beyond `tracking-table-max-keys`.
const EFFORT: u64 = 2000;

fn append(out: &mut Vec<u8>, version: Version, keys: Option<&[Box<[u8]>]>) {
    let mut reply = Reply::new(out, version);
    match version {
        Version::Resp3 => {
            reply.push(2);
            reply.bulk_str("invalidate");
        }
        Version::Resp2 => {
            reply.array(3);
            reply.bulk_str("message");
            reply.bulk_str("__redis__:invalidate");
        }
    }
    match keys {
        Some(keys) => reply.bulks(keys),
        None => reply.null(),
    }
}

/// A data command has run: the keys that it read are remembered at their owner. `waits`: it has not done its work.
#[cold]
pub(crate) fn remember(shard: &mut Shard, call: &DataCall<'_>, args: Args<'_>, waits: bool) {
    shard.attention.tracking.writer = 0;
    let (entry, caller) = (call.entry, call.caller);
    if !caller.reads.tracked || waits || !entry.has(READONLY) {
        return;
    }
    let mut keys = Vec::new();
    if !entry.key_indexes(args, &mut keys) {
        return;
    }
    let reader = Reader {
        core: caller.core,
        conn: caller.conn.0,
        client: caller.client,
    };
    for key in keys.into_iter().filter_map(|at| args.get(at)) {
        let tracking = &mut shard.attention.tracking;
        match shard.owned.contains(key_slot(key)) {
            true => tracking.remember(key, reader),
            false => tracking.away.push((Box::from(*key), reader)),
        }
    }
}

impl Core {
    /// CLIENT CACHING is for one command, or one transaction.
    #[cold]
    pub(crate) fn end_caching(&mut self, conn: ConnId, entry: Option<&Entry>) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        let about_clients = entry.is_some_and(|e| e.parent == Some("CLIENT"));
        if let Some(tracker) = &mut client.tracker
            && client.multi.is_none()
            && !about_clients
        {
            tracker.caching = false;
        }
    }

    /// Another core, or this one, tells what its clients want.
    pub(crate) fn note_trackers(&mut self, core: usize, any: bool, broadcast: bool) {
        let set = |mask: &mut u128, on: bool| match on {
            true => *mask |= 1 << core,
            false => *mask &= !(1 << core),
        };
        set(&mut self.trackers.cores, any);
        set(&mut self.trackers.broadcast_cores, broadcast);
        let (on, all) = (self.trackers.cores != 0, self.trackers.broadcast_cores != 0);
        self.shard.attention.tracking.set(on, all);
    }
    /// What this core tells others, `with` one more client that wants this.
    pub(crate) fn tracker_needs(&self, broadcast: bool) -> (bool, bool) {
        (true, broadcast || !self.trackers.broadcast.is_empty())
    }

    /// Turns a client's tracking on, or changes it.
    pub(crate) fn set_tracker(&mut self, conn: ConnId, tracker: Tracker) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        let entry = (conn, client.id);
        self.trackers.clients += client.tracker.is_none() as usize;
        let broadcast = tracker.broadcast;
        client.tracker = Some(Box::new(tracker));
        if broadcast && !self.trackers.broadcast.contains(&entry) {
            self.trackers.broadcast.push(entry);
        }
    }
    /// Turns it off: by command, or because the client is gone.
    pub(crate) fn end_tracking(&mut self, conn: ConnId) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        let Some(tracker) = client.tracker.take() else {
            return;
        };
        let id = client.id;
        self.trackers.clients -= 1;
        if tracker.broadcast {
            self.trackers.broadcast.retain(|(_, c)| *c != id);
        }
        self.tell_trackers();
    }
    /// Tells all cores if this one's clients want less than the cores were told.
    pub(crate) fn tell_trackers(&mut self) {
        let told = |mask: u128| mask >> self.id & 1 != 0;
        let (any, all) = (
            self.trackers.clients > 0,
            !self.trackers.broadcast.is_empty(),
        );
        if told(self.trackers.cores) == any && told(self.trackers.broadcast_cores) == all {
            return;
        }
        let core = self.id;
        let tell = move |other: &mut Core| {
            other.note_trackers(core, any, all);
            Vec::new()
        };
        self.ask_all(Ticket::NOBODY, Arc::new(tell), Box::new(|_, _, _| ()));
    }

    /// Sends out what has become stale in this turn.
    #[cold]
    pub(crate) fn send_stale(&mut self) {
        let mut by_core: Vec<Vec<Invalidation>> = Vec::new();
        by_core.resize_with(self.cores(), Vec::new);
        let mut changed = Vec::new();
        for stale in std::mem::take(&mut self.shard.attention.tracking.stale) {
            match stale {
                Stale::Read {
                    key,
                    readers,
                    writer,
                } => {
                    for to in readers {
                        let (own, keys) = (to.client == writer, Some(vec![key.clone()]));
                        by_core[to.core as usize].push(Invalidation { to, own, keys });
                    }
                }
                Stale::Changed { key, writer } => changed.push((key, writer)),
                // Every core has flushed, and tells its own.
                Stale::All => {
                    let own = self.clients.iter().filter(|c| c.tracker.is_some());
                    let all = own.map(|c| Invalidation {
                        to: Reader {
                            core: self.id as u16,
                            conn: c.conn.0,
                            client: c.id,
                        },
                        own: false,
                        keys: None,
                    });
                    by_core[self.id].extend(all);
                }
            }
        }
        for (core, stale) in by_core.into_iter().enumerate() {
            if stale.is_empty() {
            } else if core == self.id {
                self.take_tracking(Message::Stale(stale));
            } else {
                self.mailbox
                    .send(core, Mail::Tracking(Message::Stale(stale)));
            }
        }
        if !changed.is_empty() {
            changed.sort_unstable();
            let changed = Arc::new(changed);
            let mut cores = self.trackers.broadcast_cores;
            while cores != 0 {
                let core = cores.trailing_zeros() as usize;
                cores &= cores - 1;
                let message = Message::Changed(changed.clone());
                if core == self.id {
                    self.take_tracking(message);
                } else {
                    self.mailbox.send(core, Mail::Tracking(message));
                }
            }
        }
    }

    pub(crate) fn take_tracking(&mut self, message: Message) {
        match message {
            Message::Stale(stale) => {
                for Invalidation { to, own, keys } in stale {
                    let client = self.clients.get(ConnId(to.conn));
                    let tracker = client
                        .filter(|c| c.id == to.client)
                        .and_then(|c| c.tracker.as_ref());
                    // Those that hear of all keys hear of these by the other way.
                    let hears = |t: &Tracker| keys.is_none() || !(t.broadcast || own && t.no_loop);
                    if tracker.is_some_and(|t| hears(t)) {
                        self.invalidate(to, keys);
                    }
                }
            }
            Message::Changed(changed) => {
                for (conn, id) in self.trackers.broadcast.clone() {
                    self.broadcast(conn, id, &changed);
                }
            }
            Message::Redirected(redirected) => self.redirected(redirected),
            Message::Broken(of) => self.redirection_broken(of),
        }
    }

    /// Tells a client that wants to hear of all keys, one message for each of its prefixes.
    fn broadcast(&mut self, conn: ConnId, id: u64, changed: &[(Box<[u8]>, u64)]) {
        let Some(tracker) = self.clients.get(conn).and_then(|c| c.tracker.as_ref()) else {
            return;
        };
        let no_loop = tracker.no_loop;
        let prefixes = tracker.prefixes.clone();
        let to = Reader {
            core: self.id as u16,
            conn: conn.0,
            client: id,
        };
        for prefix in prefixes {
            let ours = changed
                .iter()
                .filter(|(key, writer)| key.starts_with(&prefix) && !(no_loop && *writer == id));
            let mut keys: Vec<Box<[u8]>> = ours.map(|(key, _)| key.clone()).collect();
            keys.dedup();
            if !keys.is_empty() {
                self.invalidate(to, Some(keys));
            }
        }
    }

    /// Tells a client of this core that caches, or who listens for it.
    fn invalidate(&mut self, of: Reader, keys: Option<Vec<Box<[u8]>>>) {
        let Some(client) = self.clients.get(ConnId(of.conn)) else {
            return;
        };
        let Some(tracker) = client.tracker.as_ref() else {
            return;
        };
        match tracker.redirect {
            Some(to) => {
                let core = to.core as usize;
                let redirected = Redirected { to, of, keys };
                if core == self.id {
                    self.redirected(redirected);
                } else {
                    let message = Message::Redirected(redirected);
                    self.mailbox.send(core, Mail::Tracking(message));
                }
            }
            // RESP2 has no way to tell it.
            None if client.version == Version::Resp2 => {}
            None => {
                let mut out = Vec::new();
                append(&mut out, Version::Resp3, keys.as_deref());
                self.push_to(ConnId(of.conn), of.client, &out);
            }
        }
    }

    fn redirected(&mut self, redirected: Redirected) {
        let Redirected { to, of, keys } = redirected;
        let client = self.clients.get(ConnId(to.conn));
        let client = client.filter(|c| c.id == to.client && c.life == Life::Open);
        let Some(client) = client else {
            if of.core as usize == self.id {
                self.redirection_broken(of);
            } else {
                let message = Message::Broken(of);
                self.mailbox.send(of.core as usize, Mail::Tracking(message));
            }
            return;
        };
        let version = client.version;
        if version == Version::Resp3 || client.subscriptions.is_some() {
            let mut out = Vec::new();
            append(&mut out, version, keys.as_deref());
            self.push_to(ConnId(to.conn), to.client, &out);
        }
    }

    fn redirection_broken(&mut self, of: Reader) {
        let client = self.clients.get_mut(ConnId(of.conn));
        let Some(client) = client.filter(|c| c.id == of.client) else {
            return;
        };
        let version = client.version;
        let Some(tracker) = client.tracker.as_mut() else {
            return;
        };
        tracker.broken = true;
        let target = tracker.redirect.map_or(0, |r| r.client);
        if version == Version::Resp3 {
            let mut out = Vec::new();
            let mut reply = Reply::new(&mut out, version);
            reply.push(2);
            reply.bulk_str("tracking-redir-broken");
            reply.integer(target as i64);
            self.push_to(ConnId(of.conn), of.client, &out);
        }
    }

    /// Keeps all cores together to `tracking-table-max-keys`: each forgets its share of what is too much. It is taken off the
    /// common count first, so that two cores do not forget for the same excess.
    pub(crate) fn limit_tracking(&mut self) {
        let own = self.shard.attention.tracking.counts().0 as u64;
        let common = &self.shared.tracked_keys;
        if own != self.trackers.told {
            common.fetch_add(own.wrapping_sub(self.trackers.told), AcqRel);
            self.trackers.told = own;
        }
        let most = self.config.tracking_table_max_keys;
        if most == 0 || own == 0 {
            return;
        }
        let less = |all: u64| {
            let over = all.checked_sub(most).filter(|over| *over > 0)?;
            let share = (u128::from(over) * u128::from(own)).div_ceil(u128::from(all.max(own)));
            Some(all - (share as u64).min(own).min(EFFORT))
        };
        if let Ok(before) = common.fetch_update(AcqRel, Acquire, less) {
            let count = less(before).map_or(0, |after| before - after);
            self.trackers.told -= count;
            self.shard.attention.tracking.forget(count as usize);
        }
    }
    /// The prefixes that this core's clients want to hear of.
    pub(crate) fn tracking_prefixes(&self) -> Vec<Box<[u8]>> {
        let trackers = self.trackers.broadcast.iter();
        let trackers = trackers.filter_map(|(conn, _)| self.clients.get(*conn)?.tracker.as_ref());
        let mut all: Vec<Box<[u8]>> = trackers.flat_map(|t| t.prefixes.clone()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}
