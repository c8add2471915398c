//! Where a command runs: here, on the core that has its keys, or over several.

use super::run::{DataCall, Mode, run};
use super::{Flow, OUTSTANDING_MAX};
use crate::client::Wait;
use crate::cluster::CROSS_SLOT;
use crate::core::Core;
use crate::io::ConnId;
use crate::mailbox::{Item, Reads, Ticket, Words};
use crate::registry::{Entry, Keys};
use crate::stats::Histogram;
use crate::transaction::Waiting;
use ringwood_protocol::command::{Merge, Route, WRITE};
use ringwood_protocol::reply::Version;
use ringwood_shard::commands::keys::LOCAL_CURSOR;
use ringwood_shard::ctx::{Args, Wants};
use ringwood_shard::keyspace::Key;
use ringwood_shard::locks::Slots;

impl Core {
    #[inline]
    pub(super) fn route(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        args: Args<'_>,
        key: Option<Key<'_>>,
    ) -> Flow {
        // RANDOMKEY's parts are no replies yet, so one core picks as well; what comes after it must not overtake it.
        if self.cores() == 1
            && self.locks.is_empty()
            && entry.spec.route != Route::AllShards(Merge::WeightedPick)
            // A cluster's client gets CROSSSLOT.
            && (!self.config.shard_ports || matches!(entry.keys, Keys::None | Keys::One(_)))
        {
            return self.execute_here(conn, entry, args, key.as_ref());
        }
        if let (Keys::One(_), Route::Owner, Some(key)) = (entry.keys, entry.spec.route, key) {
            let owner = self.owner(key.slot);
            if owner as usize != self.id {
                return self.forward(conn, owner, entry, args, key);
            }
            if self.strict && self.clients.get(conn).is_some_and(|c| c.is_waiting()) {
                return Flow::Stall;
            }
            if self.gathering.uses(key.slot) {
                self.send_gathered();
            }
            if self.locks.is_empty() || !self.locks.in_use(key.slot) {
                return self.execute_here(conn, entry, args, Some(&key));
            }
            return self.defer(conn, entry, args, vec![key.slot]);
        }
        self.route_many(conn, entry, args)
    }

    /// Routes a command that has not exactly one key.
    fn route_many(&mut self, conn: ConnId, entry: &'static Entry, args: Args<'_>) -> Flow {
        let client = self.clients.get(conn).expect("looked up by the caller");
        let (db, version, waiting, outstanding) = (
            client.db,
            client.version,
            client.is_waiting(),
            client.outstanding,
        );
        let cluster = client.cluster;
        if waiting && self.strict {
            return Flow::Stall;
        }
        let request = |ticket| crate::transaction::Request {
            ticket,
            entry,
            args,
            db,
            version,
        };
        match entry.spec.route {
            Route::AllShards(merge) => {
                if waiting {
                    return Flow::Stall;
                }
                let ticket = self.ticket(conn);
                self.gather_all(&request(ticket), merge);
                return Flow::Next;
            }
            Route::Cursor => {
                let cursor = cursor(args);
                if cluster {
                    return self.scan_own(conn, entry, args, cursor);
                }
                // The cursor stands for a key: the owner of its slot is asked, or this core for the error's text.
                let slot = cursor.map_or(0, |c| (c & 0x3fff) as u16);
                let owner = self.owner(slot);
                if owner as usize == self.id {
                    return if self.locks.in_use(slot) {
                        self.defer(conn, entry, args, vec![slot])
                    } else {
                        self.execute_here(conn, entry, args, None)
                    };
                }
                return self.forward(
                    conn,
                    owner,
                    entry,
                    args,
                    Key {
                        bytes: b"",
                        hash: 0,
                        slot,
                    },
                );
            }
            _ => {}
        }
        let mut keys = Vec::new();
        // Words that do not fit the key specs go to the command here, which says what is wrong with them.
        let fit = entry.key_indexes(args, &mut keys) && !keys.is_empty();
        let pairs = !matches!(entry.keys, Keys::Rest { first, step } if !(args.len() - first).is_multiple_of(step));
        if !fit || !pairs {
            return self.execute_here(conn, entry, args, None);
        }
        let slots: Vec<u16> = keys
            .iter()
            .map(|&k| ringwood_protocol::slot::key_slot(args[k]))
            .collect();
        if cluster && slots.iter().any(|s| *s != slots[0]) {
            return self.refuse(conn, Some(entry), CROSS_SLOT);
        }
        let owner = self.owner(slots[0]);
        if slots.iter().all(|&s| self.owner(s) == owner) {
            if owner as usize != self.id {
                let key = self.shard.key(args[keys[0]]);
                return self.forward_slots(conn, owner, entry, args, key, &slots);
            }
            if slots.iter().any(|&s| self.gathering.uses(s)) {
                self.send_gathered();
            }
            if slots.iter().any(|&s| self.locks.in_use(s)) {
                return self.defer(conn, entry, args, slots);
            }
            return self.execute_here(conn, entry, args, None);
        }
        // Parts overtake parcels on their way, so a command waits for those of its connection that share a slot with it.
        if slots.iter().any(|s| outstanding >> (s % 64) & 1 != 0) {
            return Flow::Stall;
        }
        let request = request(self.ticket(conn));
        match entry.spec.route {
            // Where notifications are sent, one core runs it all, so that they come in the keys' order; where changes are logged, so
            // that they are logged as one.
            Route::Scatter(merge)
                if !(self.shard.listening || self.log_is_near() && entry.has(WRITE)) =>
            {
                self.gather(&request, merge, &keys, &slots);
            }
            _ => self.borrow(&request, &keys, Vec::new(), None),
        }
        Flow::Next
    }

    /// SCAN on a core's own port: the node's own keys only, since a cluster's client scans every node.
    #[cold]
    fn scan_own(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        args: Args<'_>,
        cursor: Option<u64>,
    ) -> Flow {
        let Some(cursor) = cursor else {
            return self.execute_here(conn, entry, args, None);
        };
        let slot = (cursor & 0x3fff) as u16;
        let cursor = (cursor | LOCAL_CURSOR).to_string();
        let mut words = args.to_vec();
        words[1] = cursor.as_bytes();
        if self.locks.in_use(slot) {
            return self.defer(conn, entry, &words, vec![slot]);
        }
        self.execute_here(conn, entry, &words, None)
    }

    /// Runs a data command on this core, its reply straight into the client's output.
    #[inline]
    fn execute_here(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        args: Args<'_>,
        key: Option<&Key<'_>>,
    ) -> Flow {
        let Core {
            id,
            shard,
            stats,
            clients,
            dirty,
            ..
        } = self;
        let client = clients.get_mut(conn).expect("looked up by the caller");
        let (db, version) = (client.db, client.version);
        let reads = client.reads();
        let caller = match shard.attention.tracking.on || reads.untouched {
            true => Ticket::of(*id, conn, client.id, reads),
            false => Ticket::NOBODY,
        };
        let out = client.reply_buffer();
        let from = out.len();
        let call = DataCall {
            entry,
            db,
            version,
            keys: key.map_or(&[], std::slice::from_ref),
            serving: false,
            aside: true,
            caller,
        };
        let wants = run(shard, stats, &call, args, out);
        stats.called(entry);
        if let Some(wants) = wants {
            return self.wanted(conn, entry, args, *wants);
        }
        let len = out.len() - from;
        client.replied(from);
        let large = (len >= self.thresholds.lap_reply).then_some(client.id);
        if !client.dirty {
            client.dirty = true;
            dirty.push(conn);
        }
        if let Some(client) = large {
            let caller = Ticket::of(self.id, conn, client, Reads::PLAIN);
            self.note_reply(caller, entry, args, len);
        }
        if !self.shard.events.is_empty() {
            self.publish_events();
        }
        if !self.shard.attention.touched.is_empty() {
            self.serve_blocked();
        }
        Flow::Next
    }

    /// A command that ran here wants something before it can do its work.
    #[cold]
    pub(super) fn wanted(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        args: Args<'_>,
        wants: Wants,
    ) -> Flow {
        let ticket = self.ticket(conn);
        let client = self
            .clients
            .get(conn)
            .expect("a client that just sent a command");
        let (db, version) = (client.db, client.version);
        match wants {
            Wants::Change(block) => {
                let words = Words::new(args.iter().copied());
                self.begin_wait(ticket, entry, words, db, version, block);
            }
            Wants::Keys(_) | Wants::Aside => {
                let request = crate::transaction::Request {
                    ticket,
                    entry,
                    args,
                    db,
                    version,
                };
                self.widen(&request, wants);
            }
        }
        Flow::Next
    }

    /// Routes a command that may have to wait. With all keys here it runs in place; else it runs over all of them as a
    /// transaction, at whose end the keys' owners learn who waits.
    #[cold]
    pub(super) fn route_blocking(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        args: Args<'_>,
    ) -> Flow {
        let client = self.clients.get(conn).expect("looked up by the caller");
        if client.is_waiting() {
            // The replies before it go out first.
            return Flow::Stall;
        }
        let (db, version, cluster) = (client.db, client.version, client.cluster);
        let mut keys = Vec::new();
        if !entry.key_indexes(args, &mut keys) || keys.is_empty() {
            // The command says what is wrong with its words.
            return self.execute_here(conn, entry, args, None);
        }
        let slots = keys
            .iter()
            .map(|&k| ringwood_protocol::slot::key_slot(args[k]));
        let slots: Vec<u16> = slots.collect();
        if cluster && slots.iter().any(|s| *s != slots[0]) {
            return self.refuse(conn, Some(entry), CROSS_SLOT);
        }
        let owner = self.owner(slots[0]);
        if cluster && owner as usize != self.id {
            let error = self.moved(conn, slots[0], owner);
            return self.refuse(conn, Some(entry), error);
        }
        let mut here = slots
            .iter()
            .map(|&s| self.owner(s) as usize == self.id && !self.locks.in_use(s));
        if here.all(|here| here) {
            return self.execute_here(conn, entry, args, None);
        }
        let ticket = self.ticket(conn);
        let request = crate::transaction::Request {
            ticket,
            entry,
            args,
            db,
            version,
        };
        self.borrow(&request, &keys, Vec::new(), None);
        // What follows waits until it is known whether the client blocks.
        if let Some(client) = self.clients.get_mut(conn) {
            client.wait = Wait::Unknown;
        }
        Flow::Next
    }

    /// Runs a data command of [`Core::caller`]'s that was kept or sent, or a part of one; who calls counts the call.
    pub(crate) fn run_owned(
        &mut self,
        entry: &'static Entry,
        words: &Words,
        db: usize,
        version: Version,
        mode: Mode,
        out: &mut Vec<u8>,
    ) -> Option<Box<Wants>> {
        crate::crash::note_command(entry, 0);
        let call = DataCall {
            entry,
            db,
            version,
            keys: &[],
            serving: mode.serving,
            aside: mode.aside,
            caller: self.caller,
        };
        let args = words.slices();
        let from = out.len();
        let wants = run(&mut self.shard, &mut self.stats, &call, &args, out);
        if !self.shard.events.is_empty() {
            self.publish_events();
        }
        let ns = self.share(1);
        if wants.is_some() {
            self.stats.spent(entry, 1, ns, None);
            return wants;
        }
        let bucket = self.config.latency_tracking.then(|| Histogram::bucket(ns));
        self.stats.spent(entry, 1, ns, bucket);
        self.note_done(self.caller, entry, &args, ns, out.len() - from);
        None
    }

    /// Puts a command of this core behind the work that uses its slots.
    pub(super) fn defer(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        args: Args<'_>,
        slots: Vec<u16>,
    ) -> Flow {
        if let Some(error) = self.locked_error() {
            return self.refuse(conn, Some(entry), error);
        }
        let ticket = self.ticket(conn);
        let client = self.clients.get(conn).expect("looked up by the caller");
        let words = Words::new(args.iter().copied());
        let work = Waiting::Single {
            ticket,
            entry,
            words,
            db: client.db,
            version: client.version,
        };
        self.locks.defer(Slots::of(slots), work);
        Flow::Next
    }

    /// Takes a place in the client's order for a reply that comes later.
    pub(crate) fn ticket(&mut self, conn: ConnId) -> Ticket {
        let client = self
            .clients
            .get_mut(conn)
            .expect("a client that just sent a command");
        Ticket {
            core: self.id as u16,
            conn,
            seq: client.await_reply(),
            client: client.id,
            reads: client.reads(),
        }
    }

    fn forward(
        &mut self,
        conn: ConnId,
        owner: u16,
        entry: &'static Entry,
        args: Args<'_>,
        key: Key<'_>,
    ) -> Flow {
        self.forward_slots(conn, owner, entry, args, key, &[key.slot])
    }

    /// Puts a command into the parcel for its owner.
    pub(crate) fn forward_slots(
        &mut self,
        conn: ConnId,
        owner: u16,
        entry: &'static Entry,
        args: Args<'_>,
        key: Key<'_>,
        slots: &[u16],
    ) -> Flow {
        let client = self.clients.get_mut(conn).expect("looked up by the caller");
        if client.cluster {
            let error = self.moved(conn, key.slot, owner);
            return self.refuse(conn, Some(entry), error);
        }
        let waiting = client.waiting_count();
        if waiting >= OUTSTANDING_MAX || (waiting > 0 && self.strict) {
            return Flow::Stall;
        }
        for slot in slots {
            client.outstanding |= 1 << (slot % 64);
        }
        let (db, version) = (client.db as u16, client.version);
        let ticket = self.ticket(conn);
        let parcel = &mut self.outbox[owner as usize];
        if parcel.is_none() {
            *parcel = Some(self.spare_parcels.pop().unwrap_or_default());
        }
        let parcel = parcel.as_mut().expect("put there just now");
        let argc = args.len() as u32;
        let Key { hash, slot, .. } = key;
        let item = Item {
            ticket,
            entry,
            hash,
            slot,
            db,
            version,
            argc,
            reply_end: 0,
            deferred: false,
            whole: true,
        };
        parcel.add(item, args);
        Flow::Next
    }
}

/// The cursor of a SCAN, if it is one.
pub(crate) fn cursor(args: Args<'_>) -> Option<u64> {
    std::str::from_utf8(args.get(1)?).ok()?.parse().ok()
}
