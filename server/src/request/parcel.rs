//! Other cores' commands, and their replies to this one's.

use super::ahead::Ahead;
use super::batch::GROUP;
use super::run::{DataCall, run};
use crate::core::Core;
use crate::mailbox::{AgainScript, Item, Parcel, Ticket, Words};
use crate::registry::{Entry, Keys, Run};
use crate::stats::Histogram;
use crate::transaction::Waiting;
use ringwood_protocol::command::Route;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_shard::ctx::Args;
use ringwood_shard::keyspace::Key;
use ringwood_shard::locks::Slots;

/// A parcel some of whose commands have run.
pub(crate) struct OpenParcel {
    pub from: usize,
    pub parcel: Box<Parcel>,
    /// The first command that has not.
    pub next: usize,
    /// Where its words begin.
    pub words_at: usize,
}

impl Core {
    /// Runs the commands of a parcel from another core, and sends it back with the replies.
    pub(crate) fn serve_parcel(&mut self, from: usize, parcel: Box<Parcel>) {
        let mut open = OpenParcel {
            from,
            parcel,
            next: 0,
            words_at: 0,
        };
        while let Some(words) = self.serve_items(&mut open) {
            let at = open.next - 1;
            let mut item = Item {
                ..open.parcel.items[at]
            };
            let (ticket, entry, version) = (item.ticket, item.entry, item.version);
            // A slow script finds it there, and sends it back.
            self.open_parcel = Some(open);
            let mut reply = Vec::new();
            let done = self.serve_unit(ticket, entry, &words, item.db.into(), version, &mut reply);
            item.deferred = !done;
            if reply.len() >= self.thresholds.lap_reply {
                self.note_reply(ticket, entry, &words.slices(), reply.len());
            }
            self.lap = false;
            self.account_items(std::slice::from_ref(&item), &words.slices());
            let Some(back) = self.open_parcel.take() else {
                if done {
                    self.answer(ticket, reply);
                }
                return;
            };
            open = back;
            let Parcel { items, replies, .. } = &mut *open.parcel;
            replies.extend_from_slice(&reply);
            item.reply_end = replies.len() as u32;
            items[at] = item;
        }
        self.publish_memory();
        self.mailbox
            .send(from, crate::mailbox::Mail::Replies(open.parcel));
    }

    /// Runs a parcel's commands up to the first script or transaction, whose words come back.
    fn serve_items(&mut self, open: &mut OpenParcel) -> Option<Words> {
        let OpenParcel {
            parcel,
            next,
            words_at,
            ..
        } = open;
        let Parcel {
            items,
            words,
            replies,
            ..
        } = &mut **parcel;
        let mut args: Vec<&[u8]> = Vec::new();
        let mut unit = None;
        while *next < items.len() && unit.is_none() {
            let end = items.len().min(*next + GROUP);
            let group = &mut items[*next..end];
            self.make_room();
            if group.len() > 1 {
                for i in group.iter() {
                    self.shard
                        .keyspace
                        .prefetch_bucket(i.db as usize, i.slot, i.hash);
                }
                let mut ahead = Ahead::default();
                let mut at = *words_at;
                for i in group.iter() {
                    let entry = self
                        .shard
                        .keyspace
                        .prefetch_entry(i.db as usize, i.slot, i.hash);
                    args.clear();
                    at = Parcel::read(words, at, i.argc, &mut args);
                    let element = i.entry.spec.element as usize;
                    if element != 0
                        && let (Some(entry), Some(element)) = (entry, args.get(element))
                    {
                        ahead.add(entry, element);
                    }
                }
                ahead.ask();
            }
            let mut lap = 0;
            let mut count = group.len();
            for i in 0..group.len() {
                let item = &mut group[i];
                args.clear();
                let (begin, from) = (*words_at, replies.len());
                *words_at = Parcel::read(words, *words_at, item.argc, &mut args);
                let is_unit = matches!(item.entry.spec.run, Run::Server(_));
                let alone = item.entry.heavy || *words_at - begin >= self.thresholds.alone;
                if (alone || is_unit) && i > lap {
                    // Small ones: put down to the last of them if they took long, without its words.
                    self.account_items(&group[lap..i], &[group[i - 1].entry.name.as_bytes()]);
                    lap = i;
                }
                if is_unit {
                    unit = Some(Words::new(args.iter().copied()));
                    count = i + 1;
                    lap = count;
                    break;
                }
                let item = &mut group[i];
                self.serve_item(item, &args, replies);
                item.reply_end = replies.len() as u32;
                let len = replies.len() - from;
                if len >= self.thresholds.lap_reply {
                    self.note_reply(item.ticket, item.entry, &args, len);
                }
                if alone || self.lap {
                    self.lap = false;
                    self.account_items(&group[lap..=i], &args);
                    lap = i + 1;
                }
            }
            self.account_items(&group[lap..count], &args);
            *next += count;
        }
        unit
    }

    /// As [`Core::account`], for commands of another core; `args` are the words of the last.
    pub(crate) fn account_items(&mut self, items: &[Item], args: Args<'_>) {
        let Some(last) = items.last() else {
            return;
        };
        let ns = self.share(items.len());
        let whole = ns * items.len() as u64;
        if whole >= self.thresholds.slow_ns && !last.deferred {
            self.note_slow(last.ticket, last.entry, args, whole);
        }
        let bucket = self.config.latency_tracking.then(|| Histogram::bucket(ns));
        for item in items {
            self.stats.spent(item.entry, 1, ns, bucket);
        }
    }

    fn serve_item(&mut self, item: &mut Item, args: Args<'_>, replies: &mut Vec<u8>) {
        let &mut Item {
            ticket,
            entry,
            hash,
            slot,
            db,
            version,
            ..
        } = item;
        let db = db as usize;
        if !self.locks.is_empty() {
            let mut keys = Vec::new();
            let slots = if entry.spec.route == Route::Cursor || !entry.key_indexes(args, &mut keys)
            {
                vec![slot]
            } else {
                keys.iter()
                    .map(|&k| ringwood_protocol::slot::key_slot(args[k]))
                    .collect()
            };
            if slots.iter().any(|&s| self.locks.in_use(s)) {
                if let Some(error) = self.locked_error() {
                    Reply::new(replies, version).command_error(&error);
                    self.stats.rejected(Some(entry), &error);
                    return;
                }
                let words = Words::new(args.iter().copied());
                let work = Waiting::Single {
                    ticket,
                    entry,
                    words,
                    db,
                    version,
                };
                self.locks.defer(Slots::of(slots), work);
                item.deferred = true;
                return;
            }
            self.shard.guests_only = entry.widens();
        }
        crate::crash::note_command(entry, ticket.client);
        let key = match entry.keys {
            Keys::One(at) | Keys::Rest { first: at, .. } => {
                args.get(at).map(|bytes| Key { bytes, hash, slot })
            }
            _ => None,
        };
        let call = DataCall {
            entry,
            db,
            version,
            keys: key.as_slice(),
            serving: false,
            aside: true,
            caller: ticket,
        };
        let wants = run(&mut self.shard, &mut self.stats, &call, args, replies);
        if self.shard.guests_only {
            self.shard.guests_only = false;
        }
        self.stats.called(entry);
        if let Some(wants) = wants {
            let request = crate::transaction::Request {
                ticket,
                entry,
                args,
                db,
                version,
            };
            self.widen(&request, *wants);
            item.deferred = true;
        }
        if !self.shard.events.is_empty() {
            self.publish_events();
        }
        if !self.shard.attention.touched.is_empty() {
            self.serve_blocked();
        }
    }

    /// A transaction or script all of whose keys are this core's, from another core. False when its answer comes later.
    #[cold]
    fn serve_unit(
        &mut self,
        ticket: Ticket,
        entry: &'static Entry,
        words: &Words,
        db: usize,
        version: Version,
        reply: &mut Vec<u8>,
    ) -> bool {
        let args = words.slices();
        let slots = match self.locks.is_empty() {
            true => Vec::new(),
            false => self.unit_slots(entry, &args),
        };
        if slots.iter().any(|&s| self.locks.in_use(s)) {
            if let Some(error) = self.locked_error() {
                Reply::new(reply, version).command_error(&error);
                self.stats.rejected(Some(entry), &error);
                return true;
            }
            let words = words.clone();
            let work = Waiting::Unit {
                ticket,
                entry,
                words,
                db,
                version,
            };
            self.locks.defer(Slots::of(slots), work);
            return false;
        }
        self.within.runs_for(ticket);
        let done = self.run_unit(ticket, entry, &args, db, version, reply);
        self.within.runs_for(Ticket::NOBODY);
        let Err(lack) = done else {
            return true;
        };
        self.send_again(AgainScript {
            ticket,
            lack,
            entry,
            words: words.clone(),
            db,
            version,
        });
        false
    }

    /// A parcel has come back: its replies go to their clients.
    pub(crate) fn take_replies(&mut self, parcel: Box<Parcel>) {
        let mut from = 0;
        for item in &parcel.items {
            let to = item.reply_end as usize;
            if !item.deferred {
                self.answer_with(item.ticket, &parcel.replies[from..to]);
            }
            from = to;
        }
        self.spare_parcel(parcel);
    }

    /// Keeps a parcel's buffers for the next.
    pub(crate) fn spare_parcel(&mut self, parcel: Box<Parcel>) {
        self.spare_parcels.push(parcel);
    }
}
