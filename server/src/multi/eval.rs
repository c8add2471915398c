//! EVAL and its like: a transaction of one command.

use super::{Exec, Queued};
use crate::cluster::CROSS_SLOT;
use crate::core::Core;
use crate::io::{ConnId, Io};
use crate::mailbox::{AgainScript, Mail, Ticket, Words};
use crate::registry::Entry;
use crate::request::Flow;
use crate::scripts::debug::Mode;
use crate::scripts::{Access, Lack};
use ringwood_shard::ctx::Args;
use ringwood_shard::keyspace::Key;

impl Core {
    /// EVAL and its like, as a transaction of one command.
    #[cold]
    pub(crate) fn eval(&mut self, conn: ConnId, entry: &'static Entry, args: Args<'_>) -> Flow {
        let debugs = self.clients.get(conn).map(|c| c.debug.mode);
        if debugs != Some(Mode::No)
            && let Some(flow) = self.eval_debugged(conn, entry, args)
        {
            return flow;
        }
        let wide = self.is_wide_script(entry, args);
        let waiting = self.clients.get(conn).is_some_and(|c| c.is_waiting());
        // It keeps its connection's order as any command does.
        let follows = waiting && !wide && !self.strict && self.is_narrow_script(entry, args);
        if !wide && (!waiting || follows) && self.may_run_at_once(conn, args) {
            self.eval_at_once(conn, entry, args);
            return Flow::Next;
        }
        let client = self.clients.get(conn).expect("looked up by the caller");
        // Who may not do everything is asked here.
        if !wide
            && !client.restricted
            && let Some((owner, slots)) = self.one_other_owner(args)
        {
            if client.cluster && slots.iter().any(|s| *s != slots[0]) {
                return self.refuse(conn, Some(entry), CROSS_SLOT);
            }
            if waiting && !follows {
                return Flow::Stall;
            }
            return self.eval_elsewhere(conn, entry, args, owner, &slots, follows);
        }
        let (id, db, version, cluster) = (client.id, client.db, client.version, client.cluster);
        let user = client.restricted.then(|| client.user.clone());
        let reads = client.reads();
        let words = Words::new(args.iter().copied());
        let commands = vec![Queued::script(entry, words)];
        let mut plan = self.plan(&commands, db, cluster, &[]);
        plan.everything |= wide;
        if cluster && plan.crosses_slots() {
            return self.refuse(conn, Some(entry), CROSS_SLOT);
        }
        // It may need anything: what came before it is done first.
        if waiting {
            return Flow::Stall;
        }
        if self.monitors.any() {
            self.monitor_command(conn, entry, args);
        }
        let caller = Ticket::of(self.id, conn, id, reads);
        let exec = Exec::bare(commands, caller, db, version, user);
        self.start_exec(exec, plan);
        Flow::Next
    }

    /// The core that has all declared keys, and their slots, if it is another.
    fn one_other_owner(&self, args: Args<'_>) -> Option<(u16, Vec<u16>)> {
        let parameters = crate::scripts::parameters(args).ok()?;
        let keys = parameters.keys.iter();
        let slots: Vec<u16> = keys
            .map(|key| ringwood_protocol::slot::key_slot(key))
            .collect();
        let owner = self.owner(*slots.first()?);
        let one = owner as usize != self.id && slots.iter().all(|&s| self.owner(s) == owner);
        one.then_some((owner, slots))
    }

    /// Sends a script to the core that has all its declared keys.
    fn eval_elsewhere(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        args: Args<'_>,
        owner: u16,
        slots: &[u16],
        follows: bool,
    ) -> Flow {
        // What comes behind it waits, for it may come back to start again wide, over keys that nobody knew of. But for those whose
        // text shows that they do not.
        let alone = !follows && !self.is_narrow_script(entry, args);
        let key = Key {
            bytes: b"",
            hash: 0,
            slot: slots[0],
        };
        let flow = self.forward_slots(conn, owner, entry, args, key, slots);
        if self.monitors.any() && flow != Flow::Stall {
            self.monitor_command(conn, entry, args);
        }
        if flow != Flow::Stall
            && let Some(client) = self.clients.get_mut(conn)
        {
            client.alone = alone;
        }
        flow
    }

    /// True for a script of an unrestricted client whose declared keys are all here and not in use: the usual case, for
    /// which nothing is copied or planned.
    pub(super) fn may_run_at_once(&self, conn: ConnId, args: Args<'_>) -> bool {
        let client = self.clients.get(conn);
        if client.is_none_or(|c| c.restricted || c.cluster) {
            return false;
        }
        if self.cores() == 1 && self.locks.is_empty() {
            return true;
        }
        let Ok(parameters) = crate::scripts::parameters(args) else {
            return false;
        };
        parameters.keys.iter().all(|key| {
            let slot = ringwood_protocol::slot::key_slot(key);
            self.owner(slot) as usize == self.id && !self.locks.in_use(slot)
        })
    }

    pub(super) fn eval_at_once(&mut self, conn: ConnId, entry: &'static Entry, args: Args<'_>) {
        if self.monitors.any() {
            self.monitor_command(conn, entry, args);
        }
        let client = self.clients.get(conn).expect("looked up by the caller");
        let (id, db, version, reads) = (client.id, client.db, client.version, client.reads());
        let caller = Ticket::of(self.id, conn, id, reads);
        self.caller = caller;
        self.acting = None;
        let begins = self.begin_log_group();
        let mut reply = std::mem::take(&mut self.scripts.reply);
        reply.clear();
        let result = self.run_script(entry, args, db, version, Access::Keys(&[]), &mut reply);
        match result {
            Ok(()) => {
                // It may have closed its own client.
                if self.clients.get(conn).is_some_and(|c| c.id == id) {
                    self.reply_now(conn, |r| r.raw(&reply));
                }
                if !self.shard.attention.touched.is_empty() {
                    self.serve_blocked();
                }
            }
            Err(lack) => {
                if self.clients.get(conn).is_some_and(|c| c.id == id) {
                    let words = Words::new(args.iter().copied());
                    let commands = vec![Queued::script(entry, words)];
                    let exec = Exec::bare(commands, caller, db, version, None);
                    let ticket = self.hold_client(conn);
                    self.start_again(ticket, exec, lack);
                }
            }
        }
        // One large reply must not be kept for ever.
        if reply.capacity() <= 1 << 16 {
            self.scripts.reply = reply;
        }
        if begins {
            self.end_log_group(0);
        }
    }

    /// Runs a script all of whose declared keys are here; it comes back if it has to start again.
    pub(super) fn run_bare(&mut self, exec: Exec, ticket: Option<Ticket>) -> Option<(Exec, Lack)> {
        let Queued { entry, words, .. } = &exec.commands[0];
        let args = words.slices();
        // One that runs at once is timed like any command.
        let began = ticket.map(|_| self.io.mono_ns());
        let mut reply = Vec::new();
        let access = Access::Keys(&exec.found);
        let result = self.run_script(entry, &args, exec.db, exec.version, access, &mut reply);
        if let (Some(began), Ok(())) = (began, &result) {
            self.note_nested(began, entry, &args, reply.len());
        }
        match result {
            Ok(()) => match ticket {
                Some(ticket) => self.answer(ticket, reply),
                None => self.write_reply(&exec, |r| r.raw(&reply)),
            },
            Err(lack) => return Some((exec, lack)),
        }
        if !self.shard.attention.touched.is_empty() {
            self.serve_blocked();
        }
        None
    }

    /// A script of another core's client lacks something: that core starts it again.
    pub(crate) fn send_again(&mut self, script: AgainScript) {
        let core = script.ticket.core as usize;
        self.mailbox.send(core, Mail::Again(Box::new(script)));
    }

    pub(crate) fn take_script_again(&mut self, script: AgainScript) {
        let AgainScript {
            ticket,
            lack,
            entry,
            words,
            db,
            version,
        } = script;
        let commands = vec![Queued::script(entry, words)];
        // Scripts of restricted users are not sent to other cores.
        let exec = Exec::bare(commands, ticket, db, version, None);
        self.start_again(ticket, exec, lack);
    }
}
