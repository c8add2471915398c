//! What a script that holds every core asks of the others: their answers are waited for, since they have nothing else to do.

use super::{ENDING, ScriptHost};
use crate::core::{Control, Core};
use crate::io::Io;
use crate::mailbox::Words;
use crate::multi::exclusive::{Under, UnderDone};
use crate::registry::Entry;
use crate::request::Mode;
use crate::transaction::Loan;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_shard::ctx::Args;
use std::sync::atomic::Ordering;

/// A command of the server's own in a script: whether it may ask all cores, and what they answer.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    /// Nobody else has any core.
    pub(super) allowed: bool,
    reply: Option<Vec<u8>>,
}

impl Core {
    /// True if the script that runs here may ask all cores.
    pub(crate) fn may_ask_for_script(&self) -> bool {
        self.scripts.asking.allowed
    }
    /// What all cores answered to the script that runs here.
    pub(crate) fn answer_script(&mut self, reply: Vec<u8>) {
        self.scripts.asking.reply = Some(reply);
    }
    /// Waits for that. `None`: the server ends.
    pub(super) fn await_answers(&mut self) -> Option<Vec<u8>> {
        self.commit_log();
        loop {
            self.mailbox.retry();
            self.wake_receivers_now();
            while let Some(message) = self.mailbox.next_control() {
                match message {
                    Control::Answer { .. } => self.control(message),
                    other => self.early_control.push(other),
                }
            }
            let reply = self.scripts.asking.reply.take();
            if reply.is_some() || self.shared.stopping.load(Ordering::Acquire) {
                return reply;
            }
            self.io.yield_now();
        }
    }
}

impl ScriptHost<'_> {
    /// A command over all keys, or a SCAN, with every core held.
    pub(super) fn everywhere(
        &mut self,
        transaction: u32,
        entry: &'static Entry,
        args: Args<'_>,
        version: Version,
        out: &mut Vec<u8>,
    ) {
        let core = &mut *self.core;
        let (cores, merge) = core.cores_of(entry, args);
        let words = Words::new(args.iter().copied());
        let mut replies: Vec<Option<Vec<u8>>> = (0..core.cores()).map(|_| None).collect();
        core.stats.called(entry);
        for at in cores {
            let mut reply = Vec::new();
            if at == core.id {
                core.run_owned(entry, &words, self.db, version, Mode::AT_ONCE, &mut reply);
            } else {
                let under = Under::Run {
                    caller: core.caller,
                    entry,
                    words: words.clone(),
                    db: self.db,
                    version,
                };
                match core.under_now(at, transaction, under) {
                    Some(UnderDone::Reply(theirs)) => reply = theirs,
                    Some(UnderDone::Loan(_)) => panic!("a loan for a command"),
                    None => return Reply::new(out, version).error(ENDING),
                }
            }
            replies[at] = Some(reply);
        }
        let reply = core.one_reply(merge, replies, version);
        out.extend_from_slice(&reply);
    }

    /// A command with keys, with every core held: what is elsewhere is fetched, and goes home again at once.
    pub(super) fn borrowing(
        &mut self,
        transaction: u32,
        entry: &'static Entry,
        args: Args<'_>,
        version: Version,
        out: &mut Vec<u8>,
    ) {
        let core = &mut *self.core;
        let mut names = core.key_names(entry, args, self.db);
        loop {
            let mut loans: Vec<(usize, Loan)> = Vec::new();
            for (owner, keys) in core.elsewhere(&names) {
                match core.under_now(owner, transaction, Under::Lend(keys)) {
                    Some(UnderDone::Loan(loan)) => loans.push((owner, loan)),
                    Some(UnderDone::Reply(_)) => panic!("a reply for a loan"),
                    None => return Reply::new(out, version).error(ENDING),
                }
            }
            match core.run_lent(entry, args, self.db, version, loans) {
                Ok(reply) => return out.extend_from_slice(&reply),
                Err(keys) => names.extend(keys.into_iter().map(|key| (self.db, key))),
            }
        }
    }
}
