//! A transaction as one command, for the one other core that has all its keys.

use super::{Plan, Queued};
use crate::core::Core;
use crate::io::ConnId;
use crate::mailbox::Ticket;
use crate::registry::Entry;
use crate::request::Flow;
use crate::scripts::{Access, Lack};
use ringwood_protocol::command::LUA;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_shard::ctx::Args;
use ringwood_shard::keyspace::Key;

impl Core {
    /// Sends a transaction to the one core that has all its keys, as one command: EXEC, with each command's place
    /// in the registry and the number of its words before them.
    pub(super) fn forward_unit(&mut self, conn: ConnId, owner: u16, plan: &Plan) -> Flow {
        let client = self.clients.get_mut(conn).expect("looked up by the caller");
        let multi = client.multi.take().expect("the caller's");
        let head = |c: &Queued| {
            let numbers = (c.entry.index as u64) << 32 | c.words.len() as u64;
            numbers.to_ne_bytes()
        };
        let heads: Vec<[u8; 8]> = multi.commands.iter().map(head).collect();
        let mut args: Vec<&[u8]> = Vec::new();
        for (c, head) in multi.commands.iter().zip(&heads) {
            args.push(head);
            args.extend(c.words.iter());
        }
        let slots = plan.slots(owner as usize);
        let key = Key {
            bytes: b"",
            hash: 0,
            slot: slots[0],
        };
        let entry = self.registry.logged().lookup(b"EXEC").expect("declared");
        let flow = self.forward_slots(conn, owner, entry, &args, key, slots);
        if flow == Flow::Stall
            && let Some(client) = self.clients.get_mut(conn)
        {
            client.multi = Some(multi);
            return flow;
        }
        self.monitor_exec(conn, &multi.commands);
        flow
    }

    /// The commands of a transaction that came from another core.
    pub(super) fn unit<'a>(&self, args: Args<'a>) -> Vec<(&'static Entry, &'a [&'a [u8]])> {
        let mut commands = Vec::new();
        let mut rest = args;
        while let Some((head, words)) = rest.split_first() {
            let head = u64::from_ne_bytes((*head).try_into().expect("written by `forward_unit`"));
            let (words, after) = words.split_at(head as u32 as usize);
            let entry = self.registry.entries[(head >> 32) as usize];
            commands.push((entry, words));
            rest = after;
        }
        commands
    }

    /// The slots of the keys of a transaction that came from another core.
    pub(crate) fn unit_slots(&self, entry: &'static Entry, args: Args<'_>) -> Vec<u16> {
        let mut slots = Vec::new();
        let mut keys = Vec::new();
        let commands = match entry.has(LUA) {
            true => vec![(entry, args)],
            false => self.unit(args),
        };
        for (entry, words) in commands {
            keys.clear();
            entry.key_indexes(words, &mut keys);
            slots.extend(
                keys.iter()
                    .map(|&k| ringwood_protocol::slot::key_slot(words[k])),
            );
        }
        slots
    }

    /// Runs a transaction or a script that came from another core. `Err`: the script must start again, with what it lacks.
    pub(crate) fn run_unit(
        &mut self,
        caller: Ticket,
        entry: &'static Entry,
        args: Args<'_>,
        db: usize,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Result<(), Lack> {
        self.caller = caller;
        // Only who may do everything has transactions run elsewhere.
        self.acting = None;
        self.begin_log_group();
        let done = if entry.has(LUA) {
            self.run_script(entry, args, db, version, Access::Keys(&[]), out)
        } else {
            let commands = self.unit(args);
            Reply::new(out, version).array(commands.len());
            for (entry, words) in commands {
                self.run_data(entry, words, db, version, out);
            }
            Ok(())
        };
        self.end_log_group(0);
        if !self.shard.attention.touched.is_empty() {
            self.serve_blocked();
        }
        done
    }
}
